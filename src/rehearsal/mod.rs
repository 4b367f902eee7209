//! What would become of a frame: the data path, played on a copy of the switch.
//!
//! [`rehearse`] does not predict what [`Datapath::service`] would do; it calls it. Around it stand
//! a copy of the topology with the real settings, copies of the FDBs, fresh counters, and in place
//! of the devices recorders with their abilities. So it cannot differ from what a frame that really
//! comes would meet, and it changes nothing: nothing is learned, counted or sent, and a worker
//! waits for it only where an FDB's shard is being copied when it learns. [`story()`] tells the outcome step by step.
//!
//! ```
//! use tapswitch::{bridge::{Decision, Egress}, sim::{Lab, frames}};
//!
//! let (mut lab, [a, b, _c]) = Lab::switch(["podA", "podB", "podC"]);
//! lab.relay(b, &frames::broadcast(frames::mac(2)));
//!
//! // The lab calls `rehearse` with its own topology and clock.
//! let rehearsal = lab.rehearse(a, &frames::echo_request(1, 2, 1));
//! assert_eq!(rehearsal.frames[0].verdict.decision, Decision::Forward(Egress::Port(b)));
//! assert_eq!(rehearsal.copies.len(), 1);
//! assert_eq!(lab.frames(), 1);
//! ```
//!
//! What depends on other frames is not in it: the limits of how often the switch sends something by
//! itself, and joining with what waits in the same batch.

mod recorder;
mod story;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use zerocopy::IntoBytes;

use self::recorder::{PortRecorder, UnderlayRecorder};
pub use self::story::{Names, Step, Story, story};
use crate::{
    bridge::{
        Bridge, Decision, DropReason, Egress, Fdb, FdbEntry, FdbKey, Ingress, PortId, Verdict,
    },
    datapath::{
        Counters, Datapath, Decided, Departure, Observer, PathMtu, Peer, Port, Topology, Totals,
        Vtep,
    },
    time::Timestamp,
    vxlan,
    wire::{Frame, VirtioNetHdr, Vni},
};

/// What comes in, and where.
#[derive(Clone, Copy, Debug)]
pub enum Entrance<'a> {
    /// A frame at a port, and what its sender left undone.
    Port {
        /// Which.
        port: PortId,
        /// What was left undone.
        header: VirtioNetHdr,
        /// The frame.
        frame: &'a [u8],
    },
    /// Messages at the VXLAN endpoint, in order.
    Underlay(&'a [Message]),
}

/// A datagram from the underlay, or several of one sender that the kernel has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: IpAddr,
    /// TOS or traffic class of the outer header.
    pub tos: u8,
    /// Bytes of each datagram but the last, if there are several.
    pub segment: Option<usize>,
    /// Everything behind the UDP header.
    pub bytes: Vec<u8>,
}

/// What would have happened.
#[derive(Clone, Debug, Default)]
pub struct Rehearsal {
    /// The frames that a bridge decided about: one, or as many as the datagrams had.
    pub frames: Vec<Considered>,
    /// What became of the copies, by where they were to go.
    pub copies: Vec<Copied>,
    /// What the switch would send by itself.
    pub answers: Vec<Answer>,
    /// Answers that would get lost: to whom, why, and how many.
    pub lost_answers: Vec<(Egress, DropReason, u64)>,
    /// Datagrams that never became a frame for a bridge, by reason.
    pub refused: Vec<(DropReason, u64)>,
    /// Probes of other tapswitches among the datagrams: they are answered, and no bridge sees them.
    pub probes: u64,
    /// Datagrams with reserved bits of the VXLAN header set, which lose them nothing.
    pub reserved_bits: u64,
}

/// A frame, and what its bridge made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Where it came in.
    pub ingress: Ingress,
    /// The place of its bridge in the topology.
    pub bridge: usize,
    /// The frame.
    pub frame: Vec<u8>,
    /// The decision.
    pub verdict: Verdict,
    /// Who gets a copy.
    pub targets: Vec<Egress>,
    /// What the FDB had for its source before.
    pub source: Option<FdbEntry>,
    /// What the FDB has for its destination.
    pub destination: Option<FdbEntry>,
    /// That has aged, and is as good as nothing.
    pub has_aged: bool,
    /// To make room, the FDB gave up an entry of the port that has most.
    pub evicts: bool,
}

/// All copies for one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The place.
    pub to: Egress,
    /// Its counters, of nothing but this.
    pub totals: Totals,
    /// Copies that got lost, by reason.
    pub drops: Vec<(DropReason, u64)>,
    /// What was written there.
    pub written: Written,
}

/// What went out somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Frames for a port, each with its virtio-net header.
    Frames(Vec<Vec<u8>>),
    /// Messages for a remote VTEP.
    Messages(Vec<Datagrams>),
}

/// One message for a remote VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// How it goes out.
    pub departure: Departure,
    /// From which UDP port, if that is known.
    pub source_port: Option<u16>,
    /// All its datagrams.
    pub bytes: Vec<u8>,
}

/// Something that the switch would send by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a port: its sender is told what the path takes.
    TooBig {
        /// The port.
        port: PortId,
        /// The frame, without virtio-net header.
        frame: Vec<u8>,
    },
    /// To a remote VTEP that has sent a probe.
    Probe(Datagrams),
}

/// Plays what would become of what comes in at `entrance` now.
///
/// `coalesces` is what [`Datapath::with_coalescing`] is told.
pub fn rehearse(
    now: Timestamp,
    topology: &Topology,
    coalesces: bool,
    entrance: Entrance<'_>,
) -> Rehearsal {
    let replica = Replica::new(topology, entrance);
    let watch = Watch::new(&replica.topology, entrance);
    let seen = Arc::clone(&watch.seen);
    let mut datapath = Datapath::new(0)
        .with_coalescing(coalesces)
        .with_recorder(false)
        .with_observer(Box::new(watch));
    match entrance {
        Entrance::Port { port, .. } => {
            datapath.service(now, &replica.topology, port);
        }
        Entrance::Underlay(_) => {
            while datapath.service_underlay(now, &replica.topology).frames > 0 {}
        }
    }
    let frames = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    replica.outcome(entrance, frames)
}

/// A switch that is like another one, without touching anything of it.
struct Replica {
    topology: Topology,
    ports: Vec<(PortId, Arc<PortRecorder>)>,
    underlay: Option<Arc<UnderlayRecorder>>,
}

impl Replica {
    fn new(topology: &Topology, entrance: Entrance<'_>) -> Self {
        let reached: HashSet<usize> = reached(topology, entrance)
            .into_iter()
            .map(|(bridge, _)| bridge)
            .collect();
        let bridges = topology.bridges().iter();
        let bridges = bridges
            .enumerate()
            .map(|(index, bridge)| {
                // The others meet no frame.
                let fdb = match reached.contains(&index) {
                    true => bridge.fdb().snapshot(),
                    false => Fdb::new(),
                };
                bridge.clone().with_fdb(Arc::new(fdb))
            })
            .collect();
        let mut recorders = Vec::new();
        let mut ports = Vec::new();
        for port in topology.ports() {
            let arriving = match entrance {
                Entrance::Port {
                    port: ingress,
                    header,
                    frame,
                } if ingress == port.id => Some([header.as_bytes(), frame].concat()),
                _ => None,
            };
            let io = Arc::new(PortRecorder::new(Arc::clone(&port.io), arriving));
            recorders.push((port.id, Arc::clone(&io)));
            ports.push(Port {
                io,
                counters: Arc::new(Counters::new(1)),
                ..*port
            });
        }
        let copy = Topology::new(bridges, ports);
        let Some(vtep) = topology.vtep() else {
            return Self {
                topology: copy,
                ports: recorders,
                underlay: None,
            };
        };
        let messages = match entrance {
            Entrance::Underlay(messages) => messages,
            Entrance::Port { .. } => &[],
        };
        let underlay = Arc::new(UnderlayRecorder::new(Arc::clone(&vtep.io), messages));
        Self {
            topology: copy.with_vtep(replicate(vtep, &underlay)),
            ports: recorders,
            underlay: Some(underlay),
        }
    }

    fn outcome(&self, entrance: Entrance<'_>, frames: Vec<Considered>) -> Rehearsal {
        let mut places: Vec<Egress> = Vec::new();
        for &target in frames.iter().flat_map(|frame| &frame.targets) {
            if !places.contains(&target) {
                places.push(target);
            }
        }
        let mut messages = self
            .underlay
            .as_ref()
            .map(|io| io.take())
            .unwrap_or_default();
        let copies = places
            .iter()
            .map(|&to| self.copied(to, entrance, &mut messages))
            .collect();
        // What is left was not asked for by any frame.
        let mut answers: Vec<Answer> = messages.into_iter().map(Answer::Probe).collect();
        for (port, io) in &self.ports {
            let own = io.take().into_iter().map(|bytes| Answer::TooBig {
                port: *port,
                frame: bytes.get(VirtioNetHdr::LEN..).unwrap_or_default().to_vec(),
            });
            answers.extend(own);
        }
        let (refused, probes, reserved_bits) = match entrance {
            Entrance::Port { .. } => Default::default(),
            Entrance::Underlay(_) => self.arrivals(&frames),
        };
        Rehearsal {
            frames,
            copies,
            answers,
            lost_answers: self.lost_answers(&places),
            refused,
            probes,
            reserved_bits,
        }
    }

    /// What was lost where nobody was to get a copy.
    fn lost_answers(&self, places: &[Egress]) -> Vec<(Egress, DropReason, u64)> {
        let ports = self.topology.ports();
        let ports = ports.map(|port| (Egress::Port(port.id), &port.counters));
        let peers = self.topology.vtep().into_iter().flat_map(Vtep::peers);
        let peers = peers.map(|peer| (Egress::Peer(peer.id), &peer.counters));
        let others = ports.chain(peers).filter(|(to, _)| !places.contains(to));
        others
            .flat_map(|(to, counters)| {
                let lost = counted(&counters.totals().egress_drops);
                lost.into_iter()
                    .map(move |(reason, count)| (to, reason, count))
            })
            .collect()
    }

    fn copied(&self, to: Egress, entrance: Entrance<'_>, messages: &mut Vec<Datagrams>) -> Copied {
        let (counters, written) = match to {
            Egress::Port(id) => {
                let recorder = self.ports.iter().find(|(port, _)| *port == id);
                let frames = recorder.map(|(_, io)| io.take()).unwrap_or_default();
                let port = self.topology.port(id);
                (port.map(|port| &port.counters), Written::Frames(frames))
            }
            Egress::Peer(id) => {
                let peer = self.topology.vtep().and_then(|vtep| vtep.peer(id));
                let own = |message: &mut Datagrams| {
                    peer.is_some_and(|peer| {
                        peer.to == message.departure.to && Some(peer.vni) == vni(&message.bytes)
                    })
                };
                let messages = messages.extract_if(.., own).collect();
                (peer.map(|peer| &peer.counters), Written::Messages(messages))
            }
        };
        let mut totals = counters
            .map(|counters| counters.totals())
            .unwrap_or_default();
        if counters.is_none() {
            // It went away after the decision; that is counted where the frame came in.
            let ingress = match entrance {
                Entrance::Port { port, .. } => self.topology.port(port).map(|port| &port.counters),
                Entrance::Underlay(_) => self.topology.vtep().map(|vtep| &vtep.counters),
            };
            let lost = DropReason::EgressGone.index();
            let counted = ingress
                .map(|counters| counters.totals())
                .unwrap_or_default();
            totals.egress_drops[lost] = counted.egress_drops[lost];
        }
        let drops = counted(&totals.egress_drops);
        Copied {
            to,
            totals,
            drops,
            written,
        }
    }

    /// What became of datagrams before any bridge saw them: lost for which reasons, how many were
    /// probes, and how many had reserved bits set.
    fn arrivals(&self, frames: &[Considered]) -> (Vec<(DropReason, u64)>, u64, u64) {
        let Some(vtep) = self.topology.vtep() else {
            return Default::default();
        };
        let counters = vtep
            .peers()
            .map(|peer| &peer.counters)
            .chain([&vtep.counters]);
        let mut drops = [0; DropReason::COUNT];
        let (mut forwarded, mut reserved_bits) = (0, 0);
        for totals in counters.map(|counters| counters.totals()) {
            for reason in DropReason::ALL {
                drops[reason.index()] += totals.ingress_drops[reason.index()];
            }
            forwarded += totals.forwarded;
            reserved_bits += totals.reserved_bits;
        }
        for frame in frames {
            let decided = match frame.verdict.decision {
                Decision::Drop(reason) => &mut drops[reason.index()],
                Decision::Forward(_) | Decision::Flood(_) => &mut forwarded,
            };
            *decided = decided.saturating_sub(1);
        }
        (counted(&drops), forwarded, reserved_bits)
    }
}

fn counted(drops: &[u64; DropReason::COUNT]) -> Vec<(DropReason, u64)> {
    let all = DropReason::ALL.iter();
    all.map(|&reason| (reason, drops[reason.index()]))
        .filter(|&(_, count)| count > 0)
        .collect()
}

fn replicate(vtep: &Vtep, underlay: &Arc<UnderlayRecorder>) -> Vtep {
    let io = Arc::clone(underlay);
    let copy = Vtep::new(io, vtep.policy, Arc::new(Counters::new(1)));
    let copy = vtep
        .vnis()
        .fold(copy, |copy, (vni, bridge)| copy.with_vni(vni, bridge));
    vtep.peers().fold(copy, |copy, peer| {
        copy.with_peer(Peer {
            path: Arc::new(PathMtu::new(peer.path.get())),
            counters: Arc::new(Counters::new(1)),
            ..peer.clone()
        })
    })
}

fn vni(datagram: &[u8]) -> Option<Vni> {
    let (header, _) = vxlan::parse(datagram).ok()?;
    Some(header.vni)
}

impl Datagrams {
    /// How many there are.
    pub fn count(&self) -> usize {
        datagrams_in(self.bytes.len(), self.departure.segment)
    }
}

/// How many datagrams a message of `len` bytes holds, of which each but the last has `segment`.
pub fn datagrams_in(len: usize, segment: Option<u16>) -> usize {
    let each = segment.map_or(len, usize::from);
    len.div_ceil(each.max(1))
}

/// The frames that come in at `entrance`, each with the number of the bridge that meets it.
fn reached<'a>(topology: &Topology, entrance: Entrance<'a>) -> Vec<(usize, &'a [u8])> {
    let messages = match entrance {
        Entrance::Port { port, frame, .. } => {
            let port = topology.port(port);
            return port.map(|port| (port.bridge, frame)).into_iter().collect();
        }
        Entrance::Underlay(messages) => messages,
    };
    let Some(vtep) = topology.vtep() else {
        return Vec::new();
    };
    let mut reached = Vec::new();
    for Message { bytes, segment, .. } in messages {
        for range in vxlan::split(bytes, segment.unwrap_or_default()) {
            let datagram = bytes.get(range).unwrap_or_default();
            let parsed = vxlan::parse(datagram).ok();
            reached
                .extend(parsed.and_then(|(header, frame)| Some((vtep.bridge(header.vni)?, frame))));
        }
    }
    reached
}

/// Takes note of what the bridges decide, and of what their FDBs have.
#[derive(Debug)]
struct Watch {
    seen: Arc<Mutex<Vec<Considered>>>,
    fdbs: Vec<Arc<Fdb>>,
    /// What is known about the sources that come.
    known: HashMap<(usize, FdbKey), Option<FdbEntry>>,
    evicted: u64,
}

impl Watch {
    fn new(topology: &Topology, entrance: Entrance<'_>) -> Self {
        let fdbs: Vec<_> = topology
            .bridges()
            .iter()
            .map(Bridge::fdb)
            .cloned()
            .collect();
        let mut watch = Self {
            seen: Arc::default(),
            evicted: fdbs.iter().map(|fdb| fdb.counters().evicted).sum(),
            fdbs,
            known: HashMap::new(),
        };
        for (bridge, frame) in reached(topology, entrance) {
            watch.look(bridge, frame);
        }
        watch
    }

    /// Takes note of the entry of the source of `frame`, before it is learned from.
    fn look(&mut self, bridge: usize, frame: &[u8]) {
        if let Some((source, _)) = keys(frame) {
            let entry = self.entry(bridge, source);
            self.known.insert((bridge, source), entry);
        }
    }

    fn entry(&self, bridge: usize, key: FdbKey) -> Option<FdbEntry> {
        self.fdbs.get(bridge)?.get(key)
    }
}

impl Observer for Watch {
    fn decided(&mut self, decided: &Decided<'_>) {
        let &Decided {
            now,
            bridge: at,
            ingress,
            frame,
            verdict,
            targets,
        } = decided;
        let is_it = |fdb: &Arc<Fdb>| Arc::ptr_eq(fdb, at.fdb());
        let bridge = self.fdbs.iter().position(is_it).unwrap_or(usize::MAX);
        let keys = keys(frame);
        let source = keys.and_then(|(source, _)| *self.known.get(&(bridge, source))?);
        // Nothing was written between look-up and now, so it is the row that was used.
        let destination = keys.and_then(|(_, destination)| self.entry(bridge, destination));
        let evicted: u64 = self.fdbs.iter().map(|fdb| fdb.counters().evicted).sum();
        let evicts = std::mem::replace(&mut self.evicted, evicted) != evicted;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Considered {
            ingress,
            bridge,
            frame: frame.to_vec(),
            verdict: *verdict,
            targets: targets.to_vec(),
            source,
            has_aged: destination.is_some_and(|row| row.is_aged(now, at.policy())),
            destination,
            evicts,
        });
        drop(seen);
        self.look(bridge, frame);
    }
}

/// Source and destination of a frame as an FDB has them.
fn keys(frame: &[u8]) -> Option<(FdbKey, FdbKey)> {
    let frame = Frame::new_checked(frame).ok()?;
    let vlan = frame.vlan();
    Some((
        FdbKey::new(frame.src(), vlan),
        FdbKey::new(frame.dst(), vlan),
    ))
}
