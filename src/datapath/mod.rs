//! The way of a frame: receive, forward, transmit, a batch at a time.
//!
//! [`Datapath::service`] is the whole story. It runs on a worker thread of the daemon, in the lab
//! and in the benches, over any [`PortIo`]. Steady state: no allocation, no lock, no log line.

mod aqm;
mod buf;
pub mod capture;
mod counters;
mod egress;
mod io;
mod plan;
mod record;
mod recorder;
mod topology;
mod tunnel;
mod underlay;
mod vtep;
mod watch;

use std::{
    io::IoSlice,
    sync::{Arc, mpsc::SyncSender},
};

use self::plan::Copy;
pub use self::{
    buf::Batch,
    counters::{Calls, Counter, Counters, Totals, WorkerCounters},
    io::{PortIo, Received, Transmitted},
    recorder::{Detail, Fate, Record, Recorder},
    topology::{Port, Topology},
    tunnel::{OverlayNews, Pinged, Stranger},
    underlay::{Arrival, Arrived, Departed, Departure, UnderlayIo},
    vtep::{Dscp, PathMtu, Peer, Vtep, VtepPolicy},
};
use crate::{
    bridge::{
        Bridge, Decision, DropReason, Egress, FdbCache, FdbKey, Ingress, Learn, PeerId, PortId,
        Verdict,
    },
    offload::{self, Mark, Segments},
    time::Timestamp,
    wire::Frame,
};

/// One worker's share of the switch.
#[derive(Debug)]
pub struct Datapath {
    worker: usize,
    batch: Batch,
    /// Where the frames of a batch from the underlay came from.
    origins: Vec<tunnel::Origin>,
    /// And what is known about their checksums.
    marks: Vec<Mark>,
    plan: Vec<Copy>,
    lasts: plan::Lasts,
    cache: FdbCache,
    segments: Segments,
    /// Room for what is sent in one piece.
    gathered: Vec<u8>,
    tunnel: tunnel::Scratch,
    coalesces: bool,
    gathers: bool,
    standing: aqm::Standing,
    calls: Arc<Calls>,
    recording: record::Recording,
    learned: Option<SyncSender<Learned>>,
    lost_news: Arc<Counter>,
    overlay_news: Option<SyncSender<OverlayNews>>,
    observer: Option<Box<dyn Observer>>,
    captures: capture::Lanes,
    /// There is an observer, or a capture runs.
    is_watched: bool,
}

/// What a call of [`Datapath::service`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serviced {
    /// Frames received.
    pub frames: usize,
    /// Their bytes.
    pub bytes: usize,
    /// There may be more where they came from.
    pub more: bool,
    /// The last was a superframe, which is moved on at once.
    pub superframe: bool,
    /// The port's device is gone.
    pub gone: bool,
}

/// News from the FDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// When.
    pub now: Timestamp,
    /// Where the frame came in.
    pub ingress: Ingress,
    /// The source address.
    pub key: FdbKey,
    /// What the FDB made of it.
    pub learn: Learn,
    /// Bytes of the frame.
    pub len: u32,
    /// The first of them; see [`Self::head`].
    first: [u8; Recorder::HEAD],
}

impl Learned {
    /// The first bytes of the frame that taught it.
    pub fn head(&self) -> &[u8] {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        self.first.get(..len).unwrap_or(&self.first)
    }
}

/// Sees every frame and its verdict, before it is transmitted. For teaching and tests: it costs
/// what it does.
pub trait Observer: Send + std::fmt::Debug {
    /// What was decided about one frame.
    fn decided(&mut self, decided: &Decided<'_>);
}

/// A frame, and what its bridge made of it.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// When.
    pub now: Timestamp,
    /// The bridge.
    pub bridge: &'a Bridge,
    /// Where the frame came in.
    pub ingress: Ingress,
    /// The frame.
    pub frame: &'a [u8],
    /// The decision.
    pub verdict: &'a Verdict,
    /// Who gets a copy each.
    pub targets: &'a [Egress],
}

impl Datapath {
    /// The datapath of worker number `worker`.
    pub fn new(worker: usize) -> Self {
        Self {
            worker,
            batch: Batch::new(),
            origins: Vec::with_capacity(Batch::DATAGRAMS),
            marks: Vec::with_capacity(Batch::DATAGRAMS),
            plan: Vec::with_capacity(Batch::DATAGRAMS + PortId::LIMIT),
            lasts: plan::Lasts::new(),
            cache: FdbCache::new(),
            segments: Segments::new(),
            gathered: Vec::with_capacity(Batch::CAPACITY),
            tunnel: tunnel::Scratch::new(),
            coalesces: true,
            gathers: true,
            standing: aqm::Standing::new(),
            calls: Arc::default(),
            recording: record::Recording::new(Batch::DATAGRAMS),
            learned: None,
            lost_news: Arc::default(),
            overlay_news: None,
            observer: None,
            captures: capture::Lanes::new(),
            is_watched: false,
        }
    }

    /// Reports news from the FDB to `sink`; when it is full they are lost, never waited for.
    #[must_use]
    pub fn with_learned(mut self, sink: SyncSender<Learned>) -> Self {
        self.learned = Some(sink);
        self
    }

    /// Reports unknown VTEPs, and answers to probes, to `sink`; likewise.
    #[must_use]
    pub fn with_overlay_news(mut self, sink: SyncSender<OverlayNews>) -> Self {
        self.overlay_news = Some(sink);
        self
    }

    /// Whether frames of one flow are joined on their way out; they are if nobody says.
    #[must_use]
    pub fn with_coalescing(mut self, coalesces: bool) -> Self {
        self.coalesces = coalesces;
        self
    }

    /// Whether what became of the last frames is remembered by their headers; it is if nobody says.
    #[must_use]
    pub fn with_flow_cache(mut self, remembers: bool) -> Self {
        self.cache = self.cache.with_pairs(remembers);
        self
    }

    /// Whether the memory of addresses grows with the FDB; it does if nobody says.
    #[must_use]
    pub fn with_cache_growth(mut self, grows: bool) -> Self {
        self.cache = self.cache.with_growth(grows);
        self
    }

    /// Whether what leaves together is put together first; it is if nobody says.
    #[must_use]
    pub fn with_gathering(mut self, gathers: bool) -> Self {
        self.gathers = gathers;
        self
    }

    /// Whether TCP is told to slow down that keeps a queue standing before the tunnel; it is if nobody
    /// says.
    #[must_use]
    pub fn with_aqm(mut self, is_on: bool) -> Self {
        self.standing.is_on = is_on;
        self
    }

    /// Whether what becomes of frames is written down in the flight recorders; it is if nobody says.
    #[must_use]
    pub fn with_recorder(mut self, records: bool) -> Self {
        self.recording.is_on = records;
        self
    }

    /// Memory that should have huge pages, once after it was taken.
    pub fn grown_memory(&mut self) -> Option<&[u8]> {
        self.cache.grown()
    }

    /// Shows every frame to `observer`.
    #[must_use]
    pub fn with_observer(mut self, observer: Box<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self.is_watched = true;
        self
    }

    /// How much news from the FDB was lost.
    pub fn lost_news(&self) -> &Arc<Counter> {
        &self.lost_news
    }

    /// How often it has called the kernel.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Moves one batch of frames from `ingress` to wherever they go.
    pub fn service(&mut self, now: Timestamp, topology: &Topology, ingress: PortId) -> Serviced {
        let Some(port) = topology.port(ingress) else {
            return Serviced::default();
        };
        let serviced = self.receive(port);
        self.standing.read(now, ingress, serviced.more);
        self.forward(now, topology, port);
        self.record(port);
        self.transmit(now, topology, Ingress::Port(ingress));
        serviced
    }

    /// Moves one batch of frames from the underlay to wherever they go.
    pub fn service_underlay(&mut self, now: Timestamp, topology: &Topology) -> Serviced {
        let Some(vtep) = topology.vtep() else {
            return Serviced::default();
        };
        self.captures.begin(now);
        let serviced = self.receive_underlay(now, vtep);
        self.forward_tunnelled(now, topology, vtep);
        self.record_tunnelled(vtep);
        self.transmit(now, topology, Ingress::Peer(PeerId::STRANGER));
        serviced
    }

    /// Step 1: reads frames until there are none, the batch is full, or a superframe came. Those
    /// are moved on at once, while they are in the cache.
    pub fn receive(&mut self, port: &Port) -> Serviced {
        self.batch.clear();
        self.marks.clear();
        let mut segments = 0;
        let mut serviced = Serviced {
            more: true,
            ..Serviced::default()
        };
        while let Some(slot) = self.batch.vacant() {
            self.calls.reads.add(1);
            match port.io.receive(slot) {
                Received::Frame(len) => {
                    self.batch.push(len);
                    segments += self.batch.segments_of_last();
                    serviced.superframe = len > SUPERFRAME;
                    if serviced.superframe || segments > ENOUGH_SEGMENTS {
                        break;
                    }
                }
                Received::Empty => {
                    serviced.more = false;
                    break;
                }
                Received::Gone => {
                    serviced.more = false;
                    serviced.gone = true;
                    break;
                }
            }
        }
        serviced.frames = self.batch.len();
        serviced.bytes = self.batch.bytes();
        serviced
    }

    /// Steps 2 to 4: parses, decides, counts and plans. Touches no file descriptor.
    pub fn forward(&mut self, now: Timestamp, topology: &Topology, port: &Port) {
        self.clear_plan();
        self.captures.begin(now);
        let Some(bridge) = topology.bridge(port) else {
            return;
        };
        let counters = port.counters.worker(self.worker);
        let ingress = Ingress::Port(port.id);
        self.recording.begin(now, ingress);
        let mut dropped = 0;
        self.cache.fetch(self.batch.frames());
        for index in 0..self.batch.len() {
            if let Some(reason) = self.settle(now, bridge, ingress, index) {
                dropped += 1;
                counters.ingress_drops[reason.index()].add(1);
            }
        }
        self.cache.batch_ended(self.batch.len());
        let frames = self.batch.len() as u64;
        counters.rx_frames.add(frames);
        counters.rx_bytes.add(self.batch.bytes() as u64);
        counters.forwarded.add(frames - dropped);
    }

    /// Decides and plans for one frame of the batch; says why if it goes nowhere.
    #[inline(always)]
    fn settle(
        &mut self,
        now: Timestamp,
        bridge: &Bridge,
        ingress: Ingress,
        index: usize,
    ) -> Option<DropReason> {
        let (header, frame) = self.batch.parts(index);
        let verdict = if header.is_some_and(|header| offload::check(&header, frame).is_err()) {
            Verdict {
                learn: Learn::Off,
                decision: Decision::Drop(DropReason::BadOffload),
            }
        } else {
            bridge.process(now, ingress, frame, &mut self.cache)
        };
        let planned = self.plan.len();
        let dropped = match verdict.decision {
            Decision::Forward(to) => {
                self.plan.push(Copy::new(index, to));
                if to.peer().is_some() {
                    self.chain_peers(planned);
                }
                None
            }
            Decision::Flood(class) => {
                let targets = bridge.flood_targets(ingress, class);
                self.plan.extend(targets.map(|to| Copy::new(index, to)));
                self.chain_peers(planned);
                let copies = self.plan.len() - planned;
                self.recording.decided(index, verdict, copies);
                None
            }
            Decision::Drop(reason) => {
                self.recording.decided(index, verdict, 0);
                Some(reason)
            }
        };
        if self.is_watched {
            self.watch(now, bridge, ingress, index, &verdict, planned);
        }
        if !matches!(verdict.learn, Learn::Known | Learn::Off) {
            if matches!(verdict.decision, Decision::Forward(_)) {
                self.recording.decided(index, verdict, 1);
            }
            self.report(now, ingress, index, verdict.learn);
        }
        dropped
    }

    /// Step 5: writes every copy, those for one port in order; `ingress` is where the batch came in.
    pub fn transmit(&mut self, now: Timestamp, topology: &Topology, ingress: Ingress) {
        // The frame whose segments are in `self.segments`. A superframe is the last of its batch, so that
        // a flood segments it once for all.
        let mut segmented = None;
        self.captures.ingress = ingress;
        self.tunnel.answered.clear();
        self.chain_ports();
        let mut position = 0;
        while let Some(&Copy {
            frame, is_done, to, ..
        }) = self.plan.get(position)
        {
            match to {
                _ if is_done => {}
                Egress::Port(to) => match topology.port(to) {
                    Some(port) => self.transmit_to_port(port, position, &mut segmented),
                    None => self.lose(topology, ingress, Egress::Port(to), usize::from(frame)),
                },
                Egress::Peer(to) => {
                    segmented = None;
                    self.transmit_to_peer(now, topology, to, position, ingress);
                }
            }
            position += 1;
        }
        self.batch.clear();
        self.clear_plan();
        if self.captures.are_on() {
            self.captures.flush();
        }
    }

    fn clear_plan(&mut self) {
        self.plan.clear();
        self.lasts.forget();
    }

    /// The batch, for whoever fills it by other means than [`Self::receive`].
    pub fn batch_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Where the copies that [`Self::forward`] planned go: frame number and egress, in order.
    pub fn planned(&self) -> impl Iterator<Item = (usize, Egress)> {
        self.plan
            .iter()
            .map(|copy| (usize::from(copy.frame), copy.to))
    }

    #[cold]
    fn report(&self, now: Timestamp, ingress: Ingress, index: usize, learn: Learn) {
        let Some(sink) = &self.learned else { return };
        let bytes = self.batch.frame(index);
        if let Ok(frame) = Frame::new_checked(bytes) {
            let mut first = [0; Recorder::HEAD];
            first
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, byte)| *to = *byte);
            let key = FdbKey::new(frame.src(), frame.vlan());
            let news = Learned {
                now,
                ingress,
                key,
                learn,
                len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                first,
            };
            // A full queue means that nobody can follow anyway; the FDB's counters keep the truth.
            if sink.try_send(news).is_err() {
                self.lost_news.add(1);
            }
        }
    }

    fn watch(
        &mut self,
        now: Timestamp,
        bridge: &Bridge,
        ingress: Ingress,
        index: usize,
        verdict: &Verdict,
        planned: usize,
    ) {
        if let Some(observer) = &mut self.observer {
            let targets: Vec<Egress> = self.plan[planned..].iter().map(|copy| copy.to).collect();
            let frame = self.batch.frame(index);
            observer.decided(&Decided {
                now,
                bridge,
                ingress,
                frame,
                verdict,
                targets: &targets,
            });
        }
        if self.captures.are_on() && self.choose_decided(ingress, index, planned) {
            let copies = self.plan.len() - planned;
            self.capture_decision(bridge, ingress, index, verdict, copies);
        }
    }
}

/// Longer than any frame with an MTU of 1500 or 3 KiB; what is longer is worth a call of its own.
const SUPERFRAME: usize = 4096;
/// What superframes of tiny segments may add up to in a batch: whoever makes them pays for them.
const ENOUGH_SEGMENTS: usize = 2048;

/// Puts `parts` together. The kernel copies one long piece in much less time than many short ones:
/// more than copying them here takes, where they and `room` are in the cache.
#[inline]
fn gather(room: &mut Vec<u8>, parts: &[IoSlice<'_>]) {
    room.clear();
    for part in parts {
        room.extend_from_slice(part);
    }
}
