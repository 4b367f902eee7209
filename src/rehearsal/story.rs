//! The outcome of a rehearsal, told step by step.

mod copies;
mod decision;

use std::{fmt, net::IpAddr};

use super::{Considered, Entrance, Message, Rehearsal};
use crate::{
    bridge::{Decision, Egress, Ingress, PeerId, PortId},
    datapath::Topology,
    time::Timestamp,
    vxlan,
    wire::{Frame, describe},
};

/// What ports, peers and bridges are called.
pub trait Names {
    /// The name of a port.
    fn port(&self, port: PortId) -> String;
    /// The name of a remote VTEP.
    fn peer(&self, peer: PeerId) -> String;
    /// The name of the bridge at this place of the topology.
    fn bridge(&self, bridge: usize) -> String;
}

/// One thing that happens to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What kind of thing, in one word.
    pub step: &'static str,
    /// What happens.
    pub text: String,
}

/// All that happens to a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// What the frame is, in one line.
    pub frame: String,
    /// Step by step.
    pub steps: Vec<Step>,
}

impl fmt::Display for Story {
    /// The frame, and below it a line for each step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.frame)?;
        for (number, Step { step, text }) in (1..).zip(&self.steps) {
            write!(f, "\n{number:>3}. {step:<8} {text}")?;
        }
        Ok(())
    }
}

/// Tells what `rehearsal` is about, which played `entrance` at `now` on `topology`.
pub fn story(
    now: Timestamp,
    topology: &Topology,
    names: &dyn Names,
    entrance: Entrance<'_>,
    rehearsal: &Rehearsal,
) -> Story {
    let mut teller = Teller {
        now,
        topology,
        names,
        entrance,
        rehearsal,
        steps: Vec::new(),
    };
    let frame = match (entrance, rehearsal.frames.first()) {
        (Entrance::Port { frame, .. }, _) => title(frame),
        (Entrance::Underlay(_), Some(first)) => title(&first.frame),
        (Entrance::Underlay(messages), None) => {
            let bytes: usize = messages.iter().map(|message| message.bytes.len()).sum();
            format!("a datagram of {bytes} bytes")
        }
    };
    if let Entrance::Underlay(messages) = entrance {
        teller.underlay(messages);
    }
    teller.frames();
    teller.copies();
    Story {
        frame,
        steps: teller.steps,
    }
}

fn title(frame: &[u8]) -> String {
    match Frame::new_checked(frame) {
        Ok(_) => format!("{}, in {}", describe(frame), plural(frame.len(), "byte")),
        Err(_) => describe(frame),
    }
}

struct Teller<'a> {
    now: Timestamp,
    topology: &'a Topology,
    names: &'a dyn Names,
    entrance: Entrance<'a>,
    rehearsal: &'a Rehearsal,
    steps: Vec<Step>,
}

impl Teller<'_> {
    fn say(&mut self, step: &'static str, text: impl Into<String>) {
        let text = text.into();
        self.steps.push(Step { step, text });
    }

    fn place(&self, egress: Egress) -> String {
        match egress {
            Egress::Port(port) => self.names.port(port),
            Egress::Peer(PeerId::STRANGER) => "a VTEP that is no peer".to_owned(),
            Egress::Peer(peer) => self.names.peer(peer),
        }
    }

    fn ingress(&self, ingress: Ingress) -> String {
        self.place(ingress.back())
    }

    /// Datagrams, up to where they are frames.
    fn underlay(&mut self, messages: &[Message]) {
        let Some(first) = messages.first() else {
            return;
        };
        let count: usize = messages.iter().map(|message| parts(message).count()).sum();
        let what = match count {
            1 => format!("a datagram of {} bytes", first.bytes.len()),
            _ => format!("{count} datagrams"),
        };
        let datagram = parts(first).next().unwrap_or_default();
        let text = match vxlan::parse(datagram) {
            Ok((header, _)) => {
                let bridge = self
                    .topology
                    .vtep()
                    .and_then(|vtep| vtep.bridge(header.vni));
                let bridge =
                    bridge.map(|bridge| format!(", of bridge {}", self.names.bridge(bridge)));
                let known = self.sender(first.from, bridge.is_some());
                format!(
                    "{what} from {}, {known}; VNI {}{}",
                    first.from,
                    header.vni,
                    bridge.unwrap_or_else(|| ", which no bridge has".to_owned())
                )
            }
            Err(_) => format!("{what} from {}, without a VXLAN header", first.from),
        };
        self.say("underlay", text);
        for &(reason, count) in &self.rehearsal.refused {
            let times = if count == 1 {
                String::new()
            } else {
                format!("{count} of them ")
            };
            let text = format!("{times}dropped: {reason}: {}", reason.explain());
            self.say("drop", text);
        }
        if self.rehearsal.reserved_bits > 0 {
            self.say(
                "underlay",
                "reserved bits of the header are set; ignored, and counted",
            );
        }
        if self.rehearsal.probes > 0 {
            self.say(
                "probe",
                "a probe of another tapswitch: the switch answers, no bridge sees it",
            );
        }
    }

    fn sender(&self, from: IpAddr, has_bridge: bool) -> &'static str {
        let Some(vtep) = self.topology.vtep() else {
            return "but there is no VXLAN endpoint";
        };
        if vtep.peers().any(|peer| peer.to.ip() == from) {
            "a peer"
        } else if from == vtep.policy.local {
            "this endpoint itself"
        } else if vtep.policy.accepts_any && has_bridge {
            "no peer, but any may send"
        } else {
            "no peer"
        }
    }

    /// The bridges' part: one account for all frames that fare alike.
    fn frames(&mut self) {
        let rehearsal = self.rehearsal;
        let mut told: Vec<(Decision, &[Egress])> = Vec::new();
        for frame in &rehearsal.frames {
            let fate = (frame.verdict.decision, frame.targets.as_slice());
            if told.contains(&fate) {
                continue;
            }
            told.push(fate);
            let alike =
                |other: &&Considered| (other.verdict.decision, other.targets.as_slice()) == fate;
            let count = rehearsal.frames.iter().filter(alike).count();
            self.decide(frame, count);
        }
    }
}

/// The datagrams of a message.
fn parts(message: &Message) -> impl Iterator<Item = &[u8]> {
    let datagrams = vxlan::split(&message.bytes, message.segment.unwrap_or_default());
    datagrams.map(|range| message.bytes.get(range).unwrap_or_default())
}

/// `a`, `a and b`, or `a, b and c`.
fn list(words: &[String]) -> String {
    match words {
        [] => "nobody".to_owned(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn plural(count: impl TryInto<u64>, noun: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}
