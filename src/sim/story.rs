//! What the switch did with each frame, told in sentences.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    bridge::{Decision, DropReason, Egress, FloodClass, Ingress, Learn, PeerId, PortId},
    datapath::{Decided, Observer},
    time::Timestamp,
    wire::{Frame, MacAddr, describe},
};

/// An [`Observer`] that writes one [`Sentence`] for each frame into a [`StoryLog`].
#[derive(Debug)]
pub struct Story {
    log: StoryLog,
}

/// The sentences written so far, for any thread to read. All clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct StoryLog(Arc<Mutex<Pages>>);

/// The fate of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Counts from 1.
    pub number: u64,
    /// When the frame was decided about.
    pub at: Timestamp,
    /// The port or remote VTEP where it came in.
    pub ingress: String,
    /// What it is; see [`describe`].
    pub frame: String,
    /// Its bytes.
    pub len: usize,
    /// Where it went and why, or why not.
    pub fate: String,
    /// What the switch learned from it, if that is worth a word.
    pub lesson: Option<String>,
}

#[derive(Debug, Default)]
struct Pages {
    /// By port number.
    names: Vec<String>,
    /// By number of the remote VTEP.
    peers: Vec<String>,
    sentences: VecDeque<Sentence>,
    capacity: usize,
    written: u64,
    lost: u64,
}

impl Story {
    /// A story and its log, which keeps the latest `capacity` sentences.
    pub fn new(capacity: usize) -> (Self, StoryLog) {
        let log = StoryLog::default();
        log.pages().capacity = capacity.max(1);
        (Self { log: log.clone() }, log)
    }
}

impl Observer for Story {
    fn decided(&mut self, decided: &Decided<'_>) {
        self.log.pages().write(decided);
    }
}

impl StoryLog {
    /// Calls port number `port` by its name from now on.
    pub fn name_port(&self, port: PortId, name: &str) {
        put(&mut self.pages().names, port.index(), name);
    }

    /// Calls remote VTEP number `peer` by its name from now on.
    pub fn name_peer(&self, peer: PeerId, name: &str) {
        put(&mut self.pages().peers, peer.index(), name);
    }

    /// Takes all sentences out, oldest first.
    pub fn take(&self) -> Vec<Sentence> {
        self.pages().sentences.drain(..).collect()
    }

    /// Number of sentences that were never taken because the log was full.
    pub fn lost(&self) -> u64 {
        self.pages().lost
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // A sentence is pushed whole or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(names: &mut Vec<String>, index: usize, name: &str) {
    if names.len() <= index {
        names.resize(index + 1, String::new());
    }
    name.clone_into(&mut names[index]);
}

impl Pages {
    fn write(&mut self, decided: &Decided<'_>) {
        let &Decided {
            now: at,
            ingress,
            frame,
            verdict,
            targets,
            ..
        } = decided;
        if self.sentences.len() >= self.capacity {
            self.sentences.pop_front();
            self.lost += 1;
        }
        self.written += 1;
        let (src, dst) = Frame::new_checked(frame).map_or((MacAddr::ZERO, MacAddr::ZERO), |view| {
            (view.src(), view.dst())
        });
        let sentence = Sentence {
            number: self.written,
            at,
            ingress: self.place(ingress.back()),
            frame: describe(frame),
            len: frame.len(),
            fate: self.fate(verdict.decision, dst, targets),
            lesson: self.lesson(verdict.learn, src, ingress),
        };
        self.sentences.push_back(sentence);
    }

    fn fate(&self, decision: Decision, dst: MacAddr, targets: &[Egress]) -> String {
        let all = || {
            let names: Vec<String> = targets.iter().map(|&to| self.place(to)).collect();
            names.join(", ")
        };
        match decision {
            Decision::Forward(to) => format!("known: forwarded to {}", self.place(to)),
            Decision::Flood(FloodClass::UnknownUnicast) => {
                format!("{dst} is unknown: flooded to {}", all())
            }
            Decision::Flood(FloodClass::Repeat) => format!("repeated to {}", all()),
            Decision::Flood(class) => format!("{class}: flooded to {}", all()),
            Decision::Drop(DropReason::SamePort) => {
                format!("dropped: {dst} is behind the port that it came from")
            }
            Decision::Drop(reason) => format!("dropped: {}", reason.explain()),
        }
    }

    fn lesson(&self, learn: Learn, src: MacAddr, ingress: Ingress) -> Option<String> {
        let here = self.place(ingress.back());
        match learn {
            Learn::Off | Learn::Known => None,
            Learn::New => Some(format!("learned {src} on {here}")),
            Learn::Moved { from } => {
                Some(format!("{src} moved from {} to {here}", self.place(from)))
            }
            Learn::Flapping { from } => Some(format!(
                "{src} moved from {} to {here}, where it is held now: it moves too often",
                self.place(from)
            )),
            Learn::Frozen => Some(format!("{src} is held elsewhere: it moved too often")),
            Learn::Pinned => Some(format!("{src} is static elsewhere and stays there")),
            Learn::Full => Some(format!("the FDB is full: {src} not learned")),
        }
    }

    fn place(&self, egress: Egress) -> String {
        match egress {
            Egress::Port(port) => self.name(port),
            Egress::Peer(PeerId::STRANGER) => "an unknown VTEP".to_owned(),
            Egress::Peer(peer) => match self.peers.get(peer.index()) {
                Some(name) if !name.is_empty() => name.clone(),
                _ => format!("peer {peer}"),
            },
        }
    }

    fn name(&self, port: PortId) -> String {
        match self.names.get(port.index()) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("port {port}"),
        }
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            at,
            ingress,
            frame,
            fate,
            ..
        } = self;
        write!(f, "{number:<3} {at}  {ingress} -> switch  {frame}   {fate}")?;
        match &self.lesson {
            Some(lesson) => write!(f, "; {lesson}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Lab, frames};

    fn told_lab() -> (Lab, [PortId; 3], StoryLog) {
        let (mut lab, ports) = Lab::switch(["podA", "podB", "podC"]);
        let log = lab.tell(4);
        (lab, ports, log)
    }

    #[test]
    fn each_frame_is_told_in_one_sentence() {
        let (mut lab, [a, b, _], log) = told_lab();

        lab.relay(a, &frames::arp_request(1, 2));
        lab.relay(b, &frames::arp_reply(2, 1));
        lab.relay(b, &frames::runt(frames::mac(2), 5));

        let told: Vec<_> = log.take().iter().map(Sentence::to_string).collect();
        assert_eq!(
            told,
            [
                "1   0.000000  podA -> switch  arp who-has 192.0.2.2 tell 192.0.2.1   broadcast: \
                 flooded to podB, podC; learned 02:00:00:00:00:01 on podA",
                "2   0.000000  podB -> switch  arp 192.0.2.2 is-at 02:00:00:00:00:02   known: \
                 forwarded to podA; learned 02:00:00:00:00:02 on podB",
                "3   0.000000  podB -> switch  truncated frame, 5 bytes   dropped: the frame ends \
                 inside its Ethernet header or VLAN tag",
            ]
        );
        lab.assert_accounted();
    }

    #[test]
    fn a_long_story_keeps_its_end() {
        let (mut lab, [a, ..], log) = told_lab();

        for _ in 0..10 {
            lab.relay(a, &frames::broadcast(frames::mac(1)));
        }

        let numbers: Vec<_> = log.take().iter().map(|s| s.number).collect();
        assert_eq!(numbers, [7, 8, 9, 10]);
        assert_eq!(log.lost(), 6);
    }
}
