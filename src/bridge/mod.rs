//! One broadcast domain: learning, forwarding, flooding.
//!
//! [`Bridge::process`] is the one function that decides. The daemon, the lab, the benches and the
//! tests all call it; it does no I/O, reads no clock and never panics, whatever the frame.
//!
//! ```
//! use std::sync::Arc;
//! use tapswitch::{
//!     bridge::{Bridge, Decision, DropReason, Egress, Fdb, FdbCache, FloodClass, Ingress, Learn, PortFlags, PortId},
//!     config::BridgeSpec,
//!     names::Name,
//!     sim::frames::{mac, unicast},
//!     time::Timestamp,
//! };
//!
//! let [a, b] = [0, 1].map(|number| PortId::new(number).unwrap());
//! let spec = BridgeSpec::new(Name::new("br0").unwrap());
//! let ports = [(a, PortFlags::DEFAULT), (b, PortFlags::DEFAULT)];
//! let bridge = Bridge::new(&spec, &ports, Arc::new(Fdb::new()));
//! // The memory of whoever calls, such as a worker.
//! let mut cache = FdbCache::new();
//! let mut decide = |secs, port, src, dst| {
//!     let frame = unicast(mac(src), mac(dst));
//!     bridge.process(Timestamp::from_secs(secs), Ingress::Port(port), &frame, &mut cache)
//! };
//!
//! let first = decide(0, a, 1, 2);
//! assert_eq!(first.learn, Learn::New);
//! assert_eq!(first.decision, Decision::Flood(FloodClass::UnknownUnicast));
//! assert_eq!(decide(1, b, 2, 1).decision, Decision::Forward(Egress::Port(a)));
//! assert_eq!(decide(2, a, 1, 1).decision, Decision::Drop(DropReason::SamePort));
//! assert_eq!(decide(400, b, 2, 1).decision, Decision::Flood(FloodClass::UnknownUnicast));
//! ```
//!
//! # Where trusted systems disagree
//! | question | here | others |
//! | --- | --- | --- |
//! | a static address seen at another port | the entry stays, the frame is forwarded (dropped on a locked port) and counted | the kernel moves the entry unless it is `sticky`; VPP drops |
//! | a full FDB | a port with less than the greediest port's share gets room, else not learned | the kernel never evicts, Open vSwitch always |
//! | 01-80-C2-00-00-00 to -0F | none relayed; each can be, by `forward_reserved` | the kernel relays -00 while STP is off, and never -01 and -02 |
//! | ageing time 0 | nothing is learned | as the kernel; elsewhere 0 means "never ages" |
//! | a frame up to MTU + 18 | delivered, tagged or not | as the kernel (`is_skb_forwardable`) |
//! | tagged frames | learned by VLAN id and address | a VLAN-unaware kernel bridge mixes them |
//! | a frame from a remote VTEP with the source of a static entry | dropped | as the kernel's vxlan device; Open vSwitch forwards it |
//! | an address that moves 5 times in 180 s | held where it is for 180 s (RFC 7432 §15.1) | the kernel and Open vSwitch let it move |

mod cache;
mod decision;
mod entry;
mod fdb;
mod port;

use std::sync::Arc;

use self::cache::Pair;
pub use self::{
    cache::FdbCache,
    decision::{Decision, DropReason, Egress, FloodClass, Ingress, Learn, LeftOut, Verdict},
    entry::{EntryKind, FdbEntry, FdbKey, FdbPolicy},
    fdb::{Fdb, FdbCounters},
    port::{PeerId, PortFlags, PortId},
};
use crate::{
    config::{AtLimit, BridgeSpec, Mode, ReservedMask},
    time::Timestamp,
    wire::Frame,
};

/// A bridge as it stands between two control changes: settings and ports are fixed, and only its
/// FDB changes. A control change makes a new `Bridge` around the same FDB.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Of this bridge between two control changes; see [`cache`].
    id: u64,
    mode: Mode,
    policy: FdbPolicy,
    forward_reserved: ReservedMask,
    /// By port number; [`PortFlags::NONE`] for ports of other bridges.
    flags: Box<[PortFlags]>,
    members: Box<[PortId]>,
    /// Remote VTEPs that get a copy of what is flooded: head-end replication.
    flood_list: Box<[PeerId]>,
    /// As if each remote VTEP were a port with these.
    peer_flags: PortFlags,
    fdb: Arc<Fdb>,
}

impl Bridge {
    /// A bridge with the settings of `spec` and these ports.
    pub fn new(spec: &BridgeSpec, ports: &[(PortId, PortFlags)], fdb: Arc<Fdb>) -> Self {
        let size = ports
            .iter()
            .map(|(port, _)| port.index() + 1)
            .max()
            .unwrap_or(0);
        let mut flags = vec![PortFlags::NONE; size].into_boxed_slice();
        for (port, port_flags) in ports {
            let is_plain = spec.mode == Mode::Switch
                && port_flags.contains(PortFlags::UP)
                && port_flags.contains(PortFlags::LEARNING)
                && !port_flags.contains(PortFlags::LOCKED);
            flags[port.index()] = port_flags
                .with(PortFlags::MEMBER, true)
                .with(PortFlags::PLAIN, is_plain);
        }
        Self {
            id: fdb::next_generation(),
            mode: spec.mode,
            policy: policy_of(spec),
            forward_reserved: spec.forward_reserved,
            flags,
            members: ports.iter().map(|&(port, _)| port).collect(),
            flood_list: Box::default(),
            peer_flags: PortFlags::NONE,
            fdb,
        }
    }

    /// With an overlay: `flood_list` are the remote VTEPs that get a copy of what is flooded (BUM
    /// frames), and `learns` says whether frames from remote VTEPs teach where their sources are.
    #[must_use]
    pub fn with_overlay(mut self, flood_list: impl Into<Box<[PeerId]>>, learns: bool) -> Self {
        self.id = fdb::next_generation();
        self.flood_list = flood_list.into();
        self.peer_flags = PortFlags::MEMBER
            .with(PortFlags::UP, true)
            .with(PortFlags::LEARNING, learns)
            .with(PortFlags::PLAIN, learns && self.mode == Mode::Switch);
        self
    }

    /// The same bridge with another FDB, such as a [`Fdb::snapshot`] of its own.
    #[must_use]
    pub fn with_fdb(mut self, fdb: Arc<Fdb>) -> Self {
        self.id = fdb::next_generation();
        self.fdb = fdb;
        self
    }

    /// Decides what becomes of one frame, and learns from it.
    ///
    /// `frame` is a whole Ethernet frame without FCS; a superframe is one frame. `cache` is the
    /// calling worker's own.
    #[inline(always)]
    pub fn process(
        &self,
        now: Timestamp,
        ingress: Ingress,
        frame: &[u8],
        cache: &mut FdbCache,
    ) -> Verdict {
        let regime = cache.regime(self.id, self.fdb.generation());
        let pair = cache.pair(ingress, frame);
        let recalled = pair.and_then(|pair| cache.recall(&pair, regime, now));
        match recalled {
            Some(egress) => Verdict::known(egress),
            None => self.recall(now, ingress, frame, cache, pair, regime),
        }
    }

    /// The same for a frame that is not like one of the last ones.
    #[inline(always)]
    fn recall(
        &self,
        now: Timestamp,
        ingress: Ingress,
        frame: &[u8],
        cache: &mut FdbCache,
        pair: Option<Pair>,
        regime: u64,
    ) -> Verdict {
        match self.between_known(now, ingress, frame, cache) {
            Some((egress, until)) => {
                if let Some(pair) = pair {
                    cache.remember(&pair, regime, until, egress);
                }
                Verdict::known(egress)
            }
            None => self.consider(now, ingress, frame, cache),
        }
    }

    /// What [`Self::consider`] would say of an untagged frame between two stations that the worker
    /// remembers, if nothing speaks against it; and until when. Most frames are such.
    #[inline(always)]
    fn between_known(
        &self,
        now: Timestamp,
        ingress: Ingress,
        frame: &[u8],
        cache: &FdbCache,
    ) -> Option<(Egress, u64)> {
        let head: &[u8; Frame::HEADER_LEN] = frame.first_chunk()?;
        let frame = Frame::from_header(head)?;
        let (src, dst, flags) = (frame.src(), frame.dst(), self.flags_of(ingress));
        if !flags.contains(PortFlags::PLAIN) || !src.is_unicast() || dst.is_group() {
            return None;
        }
        let (src, dst) = (FdbKey::new(src, 0), FdbKey::new(dst, 0));
        let here = ingress.back();
        let (egress, until) = self
            .fdb
            .recall(now, (src, here), dst, &self.policy, cache)?;
        let goes = match egress {
            Egress::Port(to) => {
                let apart = flags.and(self.flags(to));
                egress != here
                    && apart.contains(PortFlags::UP)
                    && !apart.contains(PortFlags::ISOLATED)
            }
            Egress::Peer(_) => matches!(ingress, Ingress::Port(_)),
        };
        goes.then_some((egress, until))
    }

    /// All rules, in their order.
    #[inline(never)]
    fn consider(
        &self,
        now: Timestamp,
        ingress: Ingress,
        frame: &[u8],
        cache: &mut FdbCache,
    ) -> Verdict {
        let drop = |reason| Verdict {
            learn: Learn::Off,
            decision: Decision::Drop(reason),
        };
        let Ok(frame) = Frame::new_checked(frame) else {
            return drop(DropReason::Truncated);
        };
        let flags = self.flags_of(ingress);
        if !flags.contains(PortFlags::UP) {
            return drop(DropReason::PortDown);
        }
        if self.mode != Mode::Switch {
            return Verdict {
                learn: Learn::Off,
                decision: self.flood(ingress, flags, FloodClass::Repeat),
            };
        }
        let (src, dst, vlan) = (frame.src(), frame.dst(), frame.vlan());
        if !src.is_unicast() {
            let is_group = src.is_group();
            return drop(if is_group {
                DropReason::SrcGroup
            } else {
                DropReason::SrcZero
            });
        }
        let src = FdbKey::new(src, vlan);
        let is_admitted = match ingress {
            Ingress::Port(_) => {
                !flags.contains(PortFlags::LOCKED) || self.is_here(now, src, ingress, cache)
            }
            Ingress::Peer(_) => true,
        };
        if !is_admitted {
            return drop(DropReason::Locked);
        }
        let reserved = dst
            .reserved()
            .filter(|&nibble| !self.forward_reserved.contains(nibble));
        // A pause frame is meant for the MAC below and teaches nothing (the kernel's
        // br_handle_frame); the other reserved ones come from a neighbour and do.
        let learn = match reserved {
            Some(PAUSE) => Learn::Off,
            _ => self.learn(now, ingress, flags, src, cache),
        };
        // Behind a tunnel anybody may claim to be the host with the static entry, so what a port is
        // forgiven is not forgiven there (as the kernel's vxlan_snoop).
        if matches!(ingress, Ingress::Peer(_))
            && self.is_pinned_elsewhere(now, learn, src, ingress, cache)
        {
            return Verdict {
                learn,
                decision: Decision::Drop(DropReason::PinnedSource),
            };
        }
        let decision = if reserved.is_some() {
            Decision::Drop(DropReason::ReservedAddress)
        } else if dst.is_broadcast() {
            self.flood(ingress, flags, FloodClass::Broadcast)
        } else if dst.is_group() {
            self.flood(ingress, flags, FloodClass::Multicast)
        } else {
            match self
                .fdb
                .lookup(now, FdbKey::new(dst, vlan), &self.policy, cache)
            {
                Some(egress) => self.forward(ingress, flags, egress),
                None => self.flood(ingress, flags, FloodClass::UnknownUnicast),
            }
        };
        Verdict { learn, decision }
    }

    /// Where a frame of `class` from `ingress` gets a copy, each place once: first ports, then
    /// remote VTEPs, of which none gets what came from another (split horizon).
    pub fn flood_targets(
        &self,
        ingress: Ingress,
        class: FloodClass,
    ) -> impl Iterator<Item = Egress> {
        let from = self.flags_of(ingress);
        let peers = match ingress {
            Ingress::Port(_) => &self.flood_list[..],
            Ingress::Peer(_) => &[],
        };
        self.members
            .iter()
            .copied()
            .filter(move |&to| self.bar(ingress, from, to, class).is_none())
            .map(Egress::Port)
            .chain(peers.iter().copied().map(Egress::Peer))
    }

    /// The others: where such a frame gets no copy, and why. With [`Self::flood_targets`], every
    /// member and every remote VTEP of the flood list.
    pub fn left_out(
        &self,
        ingress: Ingress,
        class: FloodClass,
    ) -> impl Iterator<Item = (Egress, LeftOut)> {
        let from = self.flags_of(ingress);
        let peers = match ingress {
            Ingress::Port(_) => &[],
            Ingress::Peer(_) => &self.flood_list[..],
        };
        let ports = self.members.iter().filter_map(move |&to| {
            let bar = self.bar(ingress, from, to, class)?;
            Some((Egress::Port(to), bar))
        });
        let peers = peers.iter().map(move |&to| {
            let bar = if Egress::Peer(to) == ingress.back() {
                LeftOut::Ingress
            } else {
                LeftOut::SplitHorizon
            };
            (Egress::Peer(to), bar)
        });
        ports.chain(peers)
    }

    /// Deletes what has aged; to be called about once a second.
    pub fn age(&self, now: Timestamp) -> Vec<(FdbKey, FdbEntry)> {
        self.fdb.age(now, &self.policy)
    }

    /// The FDB.
    pub fn fdb(&self) -> &Arc<Fdb> {
        &self.fdb
    }

    /// The rules of the FDB.
    pub fn policy(&self) -> &FdbPolicy {
        &self.policy
    }

    /// How it relays.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The flags of `port`; [`PortFlags::NONE`] if it is not a member.
    #[inline]
    pub fn flags(&self, port: PortId) -> PortFlags {
        self.flags
            .get(port.index())
            .copied()
            .unwrap_or(PortFlags::NONE)
    }

    #[inline]
    fn flags_of(&self, ingress: Ingress) -> PortFlags {
        match ingress {
            Ingress::Port(port) => self.flags(port),
            Ingress::Peer(PeerId::STRANGER) => self
                .peer_flags
                .with(PortFlags::LEARNING, false)
                .with(PortFlags::PLAIN, false),
            Ingress::Peer(_) => self.peer_flags,
        }
    }

    fn learn(
        &self,
        now: Timestamp,
        ingress: Ingress,
        flags: PortFlags,
        src: FdbKey,
        cache: &mut FdbCache,
    ) -> Learn {
        if flags.contains(PortFlags::LEARNING) {
            self.fdb
                .learn(now, src, ingress.back(), &self.policy, cache)
        } else {
            Learn::Off
        }
    }

    fn is_here(&self, now: Timestamp, src: FdbKey, ingress: Ingress, cache: &mut FdbCache) -> bool {
        self.fdb.lookup(now, src, &self.policy, cache) == Some(ingress.back())
    }

    /// Whether an entry that frames cannot move has `src` elsewhere. Where nothing is learned, the
    /// FDB has to be asked.
    fn is_pinned_elsewhere(
        &self,
        now: Timestamp,
        learn: Learn,
        src: FdbKey,
        ingress: Ingress,
        cache: &mut FdbCache,
    ) -> bool {
        match learn {
            Learn::Pinned => true,
            // Mostly it is here, and the worker remembers that.
            Learn::Off if self.is_here(now, src, ingress, cache) => false,
            Learn::Off => self.fdb.get(src).is_some_and(|entry| {
                entry.kind != EntryKind::Learned && entry.egress != ingress.back()
            }),
            _ => false,
        }
    }

    fn forward(&self, ingress: Ingress, flags: PortFlags, egress: Egress) -> Decision {
        let to = match egress {
            Egress::Port(to) => self.flags(to),
            Egress::Peer(_) if matches!(ingress, Ingress::Peer(_)) => {
                return Decision::Drop(DropReason::SplitHorizon);
            }
            Egress::Peer(_) => self.peer_flags,
        };
        if egress == ingress.back() && !flags.contains(PortFlags::HAIRPIN) {
            return Decision::Drop(DropReason::SamePort);
        }
        if flags.and(to).contains(PortFlags::ISOLATED) {
            return Decision::Drop(DropReason::Isolated);
        }
        if !to.contains(PortFlags::UP) {
            return Decision::Drop(DropReason::EgressDown);
        }
        Decision::Forward(egress)
    }

    #[inline(never)]
    fn flood(&self, ingress: Ingress, flags: PortFlags, class: FloodClass) -> Decision {
        if self.flood_targets(ingress, class).next().is_some() {
            return Decision::Flood(class);
        }
        let others = || {
            self.members
                .iter()
                .map(|&to| (to, self.flags(to)))
                .filter(|&(to, f)| Egress::Port(to) != ingress.back() && f.contains(PortFlags::UP))
        };
        let reason = if others().next().is_none() {
            DropReason::NoEgress
        } else if flags.contains(PortFlags::ISOLATED)
            && others().all(|(_, f)| f.contains(PortFlags::ISOLATED))
        {
            DropReason::Isolated
        } else {
            DropReason::FloodDisabled
        };
        Decision::Drop(reason)
    }

    /// What keeps a copy of a flooded frame from `to`.
    #[inline]
    fn bar(
        &self,
        ingress: Ingress,
        from: PortFlags,
        to: PortId,
        class: FloodClass,
    ) -> Option<LeftOut> {
        let flags = self.flags(to);
        let is_other = Egress::Port(to) != ingress.back();
        let repeats = class == FloodClass::Repeat;
        let wanted = match class {
            // A hub or a cable knows no policy.
            FloodClass::Repeat => PortFlags::UP,
            FloodClass::UnknownUnicast => PortFlags::FLOOD,
            FloodClass::Multicast => PortFlags::MCAST_FLOOD,
            FloodClass::Broadcast => PortFlags::BCAST_FLOOD,
        };
        if !is_other && (repeats || !flags.contains(PortFlags::HAIRPIN)) {
            Some(LeftOut::Ingress)
        } else if !flags.contains(PortFlags::UP) {
            Some(LeftOut::Down)
        } else if !flags.contains(wanted) {
            Some(LeftOut::FloodOff)
        } else if !repeats && from.and(flags).contains(PortFlags::ISOLATED) {
            Some(LeftOut::Isolated)
        } else {
            None
        }
    }
}

/// The FDB rules of a bridge with these settings.
pub fn policy_of(spec: &BridgeSpec) -> FdbPolicy {
    let fair = spec.at_limit == AtLimit::Fair;
    FdbPolicy::new(spec.ageing, spec.fdb_limit, fair, spec.flap_limit)
}

/// The last nibble of 01-80-C2-00-00-01, the address of pause frames (IEEE 802.3 annex 31B).
const PAUSE: u8 = 1;
