//! The way of a frame: receive, forward, transmit, a batch at a time.
//!
//! [`Datapath::service`] is the whole story. It runs on a worker thread of the daemon, in the lab
//! and in the benches, over any [`PortIo`]. Steady state: no allocation, no lock, no log line.

mod buf;
mod counters;
mod io;
mod topology;

use std::{io::IoSlice, sync::mpsc::SyncSender};

use zerocopy::IntoBytes;

pub use self::{
    buf::Batch,
    counters::{Counter, PortCounters, Totals, WorkerCounters},
    io::{PortIo, Received, Transmitted},
    topology::{Port, Topology},
};
use crate::{
    bridge::{Decision, DropReason, Egress, FdbCache, FdbKey, Ingress, Learn, PortId, Verdict},
    offload::{self, Offloads, Run, Segments},
    time::Timestamp,
    wire::{Frame, GsoType, VirtioNetHdr},
};

/// One worker's share of the switch.
#[derive(Debug)]
pub struct Datapath {
    worker: usize,
    batch: Batch,
    plan: Vec<Copy>,
    cache: FdbCache,
    segments: Segments,
    coalesces: bool,
    learned: Option<SyncSender<Learned>>,
    observer: Option<Box<dyn Observer>>,
}

/// One copy of one frame of the batch, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copy {
    frame: u16,
    to: Egress,
}

/// What a call of [`Datapath::service`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serviced {
    /// Frames received.
    pub frames: usize,
    /// The port may have more.
    pub more: bool,
    /// The port's device is gone.
    pub gone: bool,
}

/// News from the FDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// When.
    pub now: Timestamp,
    /// The port whose frame it was.
    pub ingress: PortId,
    /// The source address.
    pub key: FdbKey,
    /// What the FDB made of it.
    pub learn: Learn,
}

/// Sees every frame and its verdict, before it is transmitted. For teaching and tests: it costs
/// what it does.
pub trait Observer: Send + std::fmt::Debug {
    /// `frame` came in at `ingress`; `targets` get a copy each.
    fn decided(
        &mut self,
        now: Timestamp,
        ingress: PortId,
        frame: &[u8],
        verdict: &Verdict,
        targets: &[Egress],
    );
}

impl Datapath {
    /// The datapath of worker number `worker`.
    pub fn new(worker: usize) -> Self {
        Self {
            worker,
            batch: Batch::new(),
            plan: Vec::with_capacity(Batch::FRAMES + PortId::LIMIT),
            cache: FdbCache::new(),
            segments: Segments::new(),
            coalesces: true,
            learned: None,
            observer: None,
        }
    }

    /// Reports news from the FDB to `sink`; when it is full they are lost, never waited for.
    #[must_use]
    pub fn with_learned(mut self, sink: SyncSender<Learned>) -> Self {
        self.learned = Some(sink);
        self
    }

    /// Whether frames of one flow are joined on their way out; they are if nobody says.
    #[must_use]
    pub fn with_coalescing(mut self, coalesces: bool) -> Self {
        self.coalesces = coalesces;
        self
    }

    /// Shows every frame to `observer`.
    #[must_use]
    pub fn with_observer(mut self, observer: Box<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Moves one batch of frames from `ingress` to wherever they go.
    pub fn service(&mut self, now: Timestamp, topology: &Topology, ingress: PortId) -> Serviced {
        let Some(port) = topology.port(ingress) else {
            return Serviced::default();
        };
        let serviced = self.receive(port);
        self.forward(now, topology, port);
        self.transmit(topology);
        serviced
    }

    /// Step 1: reads frames until there are none, the batch is full, or a superframe came. Those
    /// are moved on at once, while they are in the cache.
    pub fn receive(&mut self, port: &Port) -> Serviced {
        self.batch.clear();
        let mut serviced = Serviced {
            more: true,
            ..Serviced::default()
        };
        while let Some(slot) = self.batch.vacant() {
            match port.io.receive(slot) {
                Received::Frame(len) => {
                    self.batch.push(len);
                    if len > SUPERFRAME {
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
        serviced
    }

    /// Steps 2 to 4: parses, decides, counts and plans. Touches no file descriptor.
    pub fn forward(&mut self, now: Timestamp, topology: &Topology, port: &Port) {
        self.plan.clear();
        let Some(bridge) = topology.bridge(port) else {
            return;
        };
        let counters = port.counters.worker(self.worker);
        let (mut bytes, mut dropped) = (0, 0);
        for index in 0..self.batch.len() {
            let (header, frame) = self.batch.parts(index);
            bytes += frame.len() as u64;
            let verdict = if header.is_some_and(|header| offload::check(&header, frame).is_err()) {
                Verdict {
                    learn: Learn::Off,
                    decision: Decision::Drop(DropReason::BadOffload),
                }
            } else {
                bridge.process(now, Ingress::Port(port.id), frame, &mut self.cache)
            };
            let planned = self.plan.len();
            match verdict.decision {
                Decision::Forward(to) => self.plan.push(Copy::new(index, to)),
                Decision::Flood(class) => {
                    let targets = bridge.flood_targets(port.id, class);
                    self.plan
                        .extend(targets.map(|to| Copy::new(index, Egress::Port(to))));
                }
                Decision::Drop(reason) => {
                    dropped += 1;
                    counters.ingress_drops[reason.index()].add(1);
                }
            }
            if self.observer.is_some() {
                self.observe(now, port.id, index, &verdict, planned);
            }
            if !matches!(verdict.learn, Learn::Known | Learn::Off) {
                self.report(now, port.id, index, verdict.learn);
            }
        }
        let frames = self.batch.len() as u64;
        counters.rx_frames.add(frames);
        counters.rx_bytes.add(bytes);
        counters.forwarded.add(frames - dropped);
    }

    /// Step 5: writes every copy, in order.
    pub fn transmit(&mut self, topology: &Topology) {
        // The frame whose segments are in `self.segments`: a flood segments it once for all.
        let mut segmented = None;
        let mut position = 0;
        while let Some(&Copy { frame, to }) = self.plan.get(position) {
            let Egress::Port(to) = to;
            let Some(port) = topology.port(to) else {
                position += 1;
                continue;
            };
            let joined = self.transmit_joined(port, position);
            position += joined.max(1);
            if joined > 0 {
                continue;
            }
            let frame = usize::from(frame);
            let header = self.batch.header(frame);
            let whole = header.is_plain() || port.io.offloads().contains(offload::needed(&header));
            if !whole || !self.transmit_whole(port, frame, header) {
                self.transmit_segments(port, frame, header, &mut segmented);
            }
        }
        self.batch.clear();
        self.plan.clear();
    }

    /// Joins the copy at `position` of the plan and those behind it that belong to the same flow
    /// of TCP or UDP, and writes them as one superframe; returns how many that were. They are in the
    /// batch already, so nothing waits for this.
    fn transmit_joined(&self, port: &Port, position: usize) -> usize {
        let Some((first, rest)) = self.plan.get(position..).and_then(<[Copy]>::split_first) else {
            return 0;
        };
        // One copy is never worth a look.
        let is_run = self.coalesces && rest.first().is_some_and(|next| next.to == first.to);
        let offloads = port.io.offloads();
        if !is_run || !offloads.contains(Offloads::CSUM) {
            return 0;
        }
        let (header, frame) = self.batch.parts(usize::from(first.frame));
        let Some(mut run) = Run::start(header.as_ref(), frame) else {
            return 0;
        };
        if !offloads.contains(run.needed()) {
            return 0;
        }
        let skip = run.headers_len();
        let mut parts = [IoSlice::new(&[]); Run::LIMIT + 2];
        parts[2] = IoSlice::new(frame.get(skip..).unwrap_or_default());
        let mut bytes = frame.len();
        for next in rest.iter().take_while(|next| next.to == first.to) {
            let (header, frame) = self.batch.parts(usize::from(next.frame));
            if frame.len() > port.max_frame || !run.join(header.as_ref(), frame) {
                break;
            }
            parts[run.count() + 1] = IoSlice::new(frame.get(skip..).unwrap_or_default());
            bytes += frame.len();
        }
        if run.is_single() || frame.len() > port.max_frame {
            return 0;
        }
        let count = run.count();
        let (header, head) = run.finish();
        parts[0] = IoSlice::new(header.as_bytes());
        parts[1] = IoSlice::new(head);
        match port.io.transmit_parts(&parts[..count + 2]) {
            Transmitted::Unsupported => 0,
            sent => {
                port.counters.worker(self.worker).joined(sent, count, bytes);
                count
            }
        }
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

    /// False if the port turned out not to support what the header leaves undone.
    #[inline]
    fn transmit_whole(&mut self, port: &Port, frame: usize, mut header: VirtioNetHdr) -> bool {
        let counters = port.counters.worker(self.worker);
        let len = self.batch.frame(frame).len();
        if header.gso() != GsoType::None
            && let Some(exact) = offload::exact_hdr_len(&header, self.batch.frame(frame))
            && exact != header.hdr_len()
        {
            // The kernel then puts exactly the headers into the linear part of its buffer.
            header.set_hdr_len(exact);
            self.batch.set_header(frame, &header);
        }
        let sent = if header.gso() == GsoType::None && len > port.max_frame {
            Transmitted::Dropped(DropReason::TooBig)
        } else {
            port.io.transmit(self.batch.bytes(frame))
        };
        sent != Transmitted::Unsupported && {
            counters.copied(sent, len);
            true
        }
    }

    #[cold]
    fn transmit_segments(
        &mut self,
        port: &Port,
        frame: usize,
        header: VirtioNetHdr,
        segmented: &mut Option<usize>,
    ) {
        let counters = port.counters.worker(self.worker);
        if *segmented != Some(frame) {
            self.segments.clear();
            *segmented = Some(frame);
            let bytes = self.batch.frame(frame);
            if offload::segment(&header, bytes, None, &mut self.segments).is_err() {
                *segmented = None;
                return counters.copied(Transmitted::Dropped(DropReason::BadOffload), 0);
            }
        }
        if header.gso() != GsoType::None {
            counters.segmented.add(1);
        }
        let plain = VirtioNetHdr::none();
        let frame = self.batch.frame(frame);
        for segment in self.segments.iter() {
            let sent = if segment.len() > port.max_frame {
                Transmitted::Dropped(DropReason::TooBig)
            } else {
                port.io.transmit_parts(&[
                    IoSlice::new(plain.as_bytes()),
                    IoSlice::new(segment.head),
                    IoSlice::new(segment.payload_of(frame)),
                ])
            };
            counters.copied(sent, segment.len());
        }
    }

    #[cold]
    fn report(&self, now: Timestamp, ingress: PortId, index: usize, learn: Learn) {
        let Some(sink) = &self.learned else { return };
        if let Ok(frame) = Frame::new_checked(self.batch.frame(index)) {
            let key = FdbKey::new(frame.src(), frame.vlan());
            // A full queue means that nobody can follow anyway; the FDB's counters keep the truth.
            let _ = sink.try_send(Learned {
                now,
                ingress,
                key,
                learn,
            });
        }
    }

    #[cold]
    fn observe(
        &mut self,
        now: Timestamp,
        ingress: PortId,
        index: usize,
        verdict: &Verdict,
        planned: usize,
    ) {
        let targets: Vec<Egress> = self.plan[planned..].iter().map(|copy| copy.to).collect();
        let frame = self.batch.frame(index);
        if let Some(observer) = &mut self.observer {
            observer.decided(now, ingress, frame, verdict, &targets);
        }
    }
}

impl Copy {
    fn new(frame: usize, to: Egress) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a batch has 64 frames")]
        Self {
            frame: frame as u16,
            to,
        }
    }
}

/// Longer than any frame with an MTU of 1500 or 3 KiB; what is longer is worth a call of its own.
const SUPERFRAME: usize = 4096;
