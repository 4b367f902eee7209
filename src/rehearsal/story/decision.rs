//! What the bridge makes of a frame: steps from the first look to the decision.

use super::{Considered, Entrance, Teller, list, plural};
use crate::{
    bridge::{
        Bridge, Decision, DropReason, Egress, EntryKind, FdbEntry, FloodClass, Ingress, Learn,
        LeftOut, PeerId, PortFlags,
    },
    config::Mode,
    wire::{Frame, GsoType, VirtioNetHdr, describe_header},
};

impl Teller<'_> {
    /// Tells how one frame fared; `count` of them did.
    pub(super) fn decide(&mut self, considered: &Considered, count: usize) {
        let Some(bridge) = self.topology.bridges().get(considered.bridge) else {
            return;
        };
        let decision = considered.verdict.decision;
        let frame = Frame::new_checked(&considered.frame).ok();
        self.say("parse", self.parse(considered, frame.as_ref(), count));
        let Some(frame) = frame else {
            return self.drop_for(DropReason::Truncated);
        };
        if decision == Decision::Drop(DropReason::BadOffload) {
            return self.drop_for(DropReason::BadOffload);
        }
        if !self.check_source(considered, &frame, bridge) {
            return;
        }
        if bridge.mode() == Mode::Switch {
            self.say("learn", self.learn(considered, &frame, bridge));
            if decision == Decision::Drop(DropReason::PinnedSource) {
                return self.drop_for(DropReason::PinnedSource);
            }
            self.say("look-up", self.look_up(considered, &frame));
        }
        match decision {
            Decision::Forward(to) => {
                let text = format!("to {}, and nowhere else", self.place(to));
                self.say("forward", text);
            }
            Decision::Flood(class) => {
                let text = self.flood(considered, class, bridge);
                self.say("flood", text);
            }
            Decision::Drop(reason) => {
                if let Some(class) = class_of(&frame, considered, bridge)
                    && matches!(
                        reason,
                        DropReason::NoEgress | DropReason::FloodDisabled | DropReason::Isolated
                    )
                {
                    let text = self.flood(considered, class, bridge);
                    self.say("flood", text);
                }
                self.drop_for(reason);
            }
        }
    }

    fn drop_for(&mut self, reason: DropReason) {
        self.say("drop", format!("{reason}: {}", reason.explain()));
    }

    fn parse(&self, considered: &Considered, frame: Option<&Frame<'_>>, count: usize) -> String {
        let Some(frame) = frame else {
            return plural(considered.frame.len(), "byte");
        };
        let mut text = describe_header(frame);
        if let Entrance::Port { header, .. } = self.entrance {
            text += &undone(&header);
        }
        if count > 1 {
            text += &format!("; and {} that fare alike", plural(count - 1, "more frame"));
        }
        text
    }

    /// The checks before anything is learned. False if the frame ends here.
    fn check_source(
        &mut self,
        considered: &Considered,
        frame: &Frame<'_>,
        bridge: &Bridge,
    ) -> bool {
        let decision = considered.verdict.decision;
        if let Decision::Drop(
            reason @ (DropReason::PortDown
            | DropReason::SrcGroup
            | DropReason::SrcZero
            | DropReason::Locked),
        ) = decision
        {
            self.drop_for(reason);
            return false;
        }
        let ingress = self.ingress(considered.ingress);
        let is_up = match considered.ingress {
            Ingress::Port(id) => {
                let port = self.topology.port(id);
                match port.and_then(|port| port.io.obstacle()) {
                    Some(DropReason::EgressDown) => {
                        format!("{ingress} is up here, but down inside: its host cannot send")
                    }
                    _ => format!("{ingress} is up"),
                }
            }
            Ingress::Peer(_) => format!("it came from {ingress}"),
        };
        let name = self.names.bridge(considered.bridge);
        let text = match bridge.mode() {
            Mode::Hub => format!("{is_up}; {name} is a hub, which repeats and learns nothing"),
            Mode::Wire => format!("{is_up}; {name} is a wire, which joins its two ports"),
            Mode::Switch => {
                let is_locked = considered
                    .ingress
                    .back()
                    .port()
                    .is_some_and(|port| bridge.flags(port).contains(PortFlags::LOCKED));
                let locked = if is_locked {
                    ", which is locked, and the FDB has the source there"
                } else {
                    ""
                };
                format!(
                    "{} is the address of a station; {is_up}{locked}",
                    frame.src()
                )
            }
        };
        self.say("source", text);
        true
    }

    fn learn(&self, considered: &Considered, frame: &Frame<'_>, bridge: &Bridge) -> String {
        let here = self.ingress(considered.ingress);
        let src = frame.src();
        let row = considered.source;
        let at = |row: Option<FdbEntry>| {
            row.map_or_else(|| "elsewhere".to_owned(), |row| self.place(row.egress))
        };
        match considered.verdict.learn {
            Learn::Off => self.not_learned(considered, frame, bridge),
            Learn::Known => match row {
                Some(row) if row.kind != EntryKind::Learned => {
                    format!("{src} is on {here} already, by a {} entry", kind(row.kind))
                }
                Some(row) => format!("{src} is known on {here}, seen {} ago", self.age(&row)),
                None => format!("{src} is known on {here}"),
            },
            Learn::New if considered.evicts => format!(
                "{src} is new on {here}; the FDB is full, so whoever has most there gives up \
                 its oldest entry"
            ),
            Learn::New if row.is_some() => {
                format!("{src} is new on {here}: its row on {} has aged", at(row))
            }
            Learn::New => format!(
                "{src} is new on {here}; the FDB has {} of {}",
                bridge.fdb().learned(),
                bridge.policy().limit()
            ),
            Learn::Moved { from } => {
                let moves = row.map_or(0, |row| row.moves) + 1;
                format!(
                    "{src} moves from {} to {here} (move {moves} within 180 s)",
                    self.place(from)
                )
            }
            Learn::Flapping { from } => format!(
                "{src} moves from {} to {here} once too often, and is held there for 180 s",
                self.place(from)
            ),
            Learn::Frozen => {
                let rest = row.map_or(0, |row| row.frozen_until.nanos_since(self.now));
                format!(
                    "{src} moved too often: held on {} for another {:.0} s",
                    at(row),
                    std::time::Duration::from_nanos(rest).as_secs_f64()
                )
            }
            Learn::Pinned => {
                let kind = row.map_or("pinned", |row| kind(row.kind));
                format!(
                    "{src} is not learned on {here}: a {kind} entry has it on {}",
                    at(row)
                )
            }
            Learn::Full => format!(
                "{src} is not learned: the FDB is full ({} of {})",
                bridge.fdb().learned(),
                bridge.policy().limit()
            ),
        }
    }

    fn not_learned(&self, considered: &Considered, frame: &Frame<'_>, bridge: &Bridge) -> String {
        let here = self.ingress(considered.ingress);
        let why = match considered.ingress {
            _ if frame.dst().reserved() == Some(1) => "a pause frame teaches nothing".to_owned(),
            Ingress::Peer(PeerId::STRANGER) => format!("{here} teaches nothing"),
            Ingress::Port(port) if !bridge.flags(port).contains(PortFlags::LEARNING) => {
                format!("learning is off on {here}")
            }
            Ingress::Port(_) => "the ageing time is 0".to_owned(),
            Ingress::Peer(_) => "nothing is learned from peers here".to_owned(),
        };
        format!("nothing: {why}")
    }

    fn look_up(&self, considered: &Considered, frame: &Frame<'_>) -> String {
        let dst = frame.dst();
        if considered.verdict.decision == Decision::Drop(DropReason::ReservedAddress) {
            return format!("{dst} is reserved for neighbours and not asked for");
        }
        if dst.is_broadcast() {
            return "broadcast: for everybody, no FDB row".to_owned();
        }
        if dst.is_group() {
            return format!("{dst} is a group: multicast, no FDB row");
        }
        let vlan = match frame.vlan() {
            0 => "-".to_owned(),
            vlan => vlan.to_string(),
        };
        let name = self.names.bridge(considered.bridge);
        let Some(row) = considered.destination else {
            return format!("{name} has no FDB row for {dst}, vlan {vlan}: unknown unicast");
        };
        let place = self.place(row.egress);
        if considered.has_aged {
            return format!(
                "the row {name} {dst} vlan {vlan} on {place} has aged (seen {} ago): unknown \
                 unicast",
                self.age(&row)
            );
        }
        let age = match row.kind {
            EntryKind::Learned => format!(", seen {} ago", self.age(&row)),
            _ => String::new(),
        };
        format!(
            "FDB row {name} {dst} vlan {vlan} {place} {}{age}",
            kind(row.kind)
        )
    }

    fn flood(&self, considered: &Considered, class: FloodClass, bridge: &Bridge) -> String {
        let to: Vec<_> = considered
            .targets
            .iter()
            .map(|&to| self.place(to))
            .collect();
        let mut text = format!("{class}, to {}", list(&to));
        let mut not: Vec<String> = bridge
            .left_out(considered.ingress, class)
            .map(|(place, why)| format!("{} ({})", self.place(place), left_out(why)))
            .collect();
        let listed = |id: PeerId| {
            let place = Egress::Peer(id);
            considered.targets.contains(&place)
                || bridge
                    .left_out(considered.ingress, class)
                    .any(|(other, _)| other == place)
        };
        let peers = self
            .topology
            .vtep()
            .into_iter()
            .flat_map(|vtep| vtep.peers());
        let others = peers.filter(|peer| peer.bridge == considered.bridge && !listed(peer.id));
        not.extend(others.map(|peer| format!("{} (not in peers)", self.names.peer(peer.id))));
        if !not.is_empty() {
            text += &format!("; not to {}", not.join(", "));
        }
        text
    }

    fn age(&self, row: &FdbEntry) -> String {
        format!("{:.1} s", self.now.since(row.updated).as_secs_f64())
    }
}

/// The class in which the frame would be flooded, if it would be.
fn class_of(frame: &Frame<'_>, considered: &Considered, bridge: &Bridge) -> Option<FloodClass> {
    let row = considered.destination;
    if bridge.mode() != Mode::Switch {
        Some(FloodClass::Repeat)
    } else if frame.dst().is_broadcast() {
        Some(FloodClass::Broadcast)
    } else if frame.dst().is_group() {
        Some(FloodClass::Multicast)
    } else if row.is_none() || considered.has_aged {
        Some(FloodClass::UnknownUnicast)
    } else {
        None
    }
}

fn left_out(why: LeftOut) -> &'static str {
    match why {
        LeftOut::Ingress => "it came from there",
        LeftOut::Down => "down",
        LeftOut::FloodOff => "flooding off",
        LeftOut::Isolated => "isolated",
        LeftOut::SplitHorizon => "split horizon",
    }
}

fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Learned => "learned",
        EntryKind::Static => "static",
        EntryKind::Local => "local",
        EntryKind::Control => "control",
    }
}

/// What the sender left to whoever sends the frame on.
fn undone(header: &VirtioNetHdr) -> String {
    if header.gso() != GsoType::None {
        format!("; a superframe of segments of {} bytes", header.gso_size())
    } else if header.needs_csum() {
        "; its checksum is left to be finished".to_owned()
    } else {
        String::new()
    }
}
