//! A daemon's capture, put together: of each frame, where it came in and where its copies left.

use super::{
    BY_HUB, BY_WIRE, Copied, Datagram, Fate, Learned, Row, SWITCH, Seen,
    shape::{Shape, open},
};
use crate::{
    config::Mode,
    control::api::{CapturedFrame, FdbState},
    names::Name,
    time::Timestamp,
};

/// All frames of the node called `node`, in the order in which they came in.
pub(super) fn join(node: &str, lines: &[CapturedFrame]) -> Vec<Seen> {
    let mut lines: Vec<&CapturedFrame> = lines.iter().collect();
    // Each worker tells in order; what it tells of one round has one time.
    lines.sort_by(|a, b| a.time.total_cmp(&b.time));
    let mut story = Story {
        node: node.to_owned(),
        frames: Vec::new(),
        datagrams: Vec::new(),
    };
    for line in lines {
        match (line.side.as_str(), line.form.as_str()) {
            ("in", "datagram") => story.datagram_in(line),
            ("in", _) => story.frame_in(line),
            (_, "datagram") => story.datagram_out(line),
            _ => story.frame_out(line),
        }
    }
    story.frames.into_iter().map(|frame| frame.seen).collect()
}

/// What repeats is a hub or a wire: each frame that one of `modes` repeated says which.
pub(super) fn name_repeaters(lines: &mut [CapturedFrame], modes: &[(Name, Mode)]) {
    for line in lines {
        if line.class.as_deref() != Some("repeated") {
            continue;
        }
        let mode = modes
            .iter()
            .find(|(name, _)| line.bridge.as_ref() == Some(name));
        match mode {
            Some((_, Mode::Hub)) => line.class = Some(BY_HUB.to_owned()),
            Some((_, Mode::Wire)) => line.class = Some(BY_WIRE.to_owned()),
            _ => {}
        }
    }
}

struct Story {
    node: String,
    frames: Vec<Frame>,
    /// Those that came in, whose frames have not been told yet.
    datagrams: Vec<(Timestamp, String, Shape, Datagram)>,
}

struct Frame {
    seen: Seen,
    shape: Shape,
    /// What the switch decided, before any copy left.
    decided: Fate,
}

impl Story {
    fn datagram_in(&mut self, line: &CapturedFrame) {
        let bytes = bytes(line);
        if line.verdict == "dropped" {
            // Nothing was taken out of it.
            return self.add(line, Fate::Dropped);
        }
        if let Some(opened) = open(&bytes, &ports(&bytes)) {
            let shape = Shape::of(opened.inner);
            let datagram = datagram(&bytes, line.len, &opened);
            let entry = (at(line), place(line), shape, datagram);
            self.datagrams.push(entry);
        }
    }

    fn frame_in(&mut self, line: &CapturedFrame) {
        let fate = match line.verdict.as_str() {
            "forwarded" => Fate::Forwarded,
            "flooded" => Fate::Flooded,
            "consumed" => Fate::Consumed,
            _ => Fate::Dropped,
        };
        self.add(line, fate);
        let Some(new) = self.frames.last_mut() else {
            return;
        };
        let is_its = |(at, place, shape, _): &(Timestamp, String, Shape, Datagram)| {
            *at == new.seen.at && *place == new.seen.place && shape.is(&new.shape)
        };
        if let Some(index) = self.datagrams.iter().position(is_its) {
            new.seen.datagram = Some(self.datagrams.remove(index).3);
        }
    }

    fn add(&mut self, line: &CapturedFrame, fate: Fate) {
        let bytes = bytes(line);
        let shape = Shape::of(&bytes);
        let seen = Seen {
            at: at(line),
            node: self.node.clone(),
            place: place(line),
            fate,
            class: line.class.clone(),
            reason: line.reason.clone(),
            copies: Vec::new(),
            row: line.fdb.as_ref().map(|row| Row {
                mac: row.mac,
                vlan: row.vlan,
                at: row.at.clone(),
                is_learned: row.state == FdbState::Learned,
                age_s: (row.state == FdbState::Learned).then_some(row.age_s),
            }),
            learned: line.lesson.as_ref().map(|lesson| Learned {
                mac: lesson.mac,
                change: lesson.change,
                from: lesson.from.clone(),
            }),
            bytes,
            len: line.len,
            text: line.text.clone(),
            offload: line.offload.clone(),
            datagram: None,
        };
        let decided = fate;
        self.frames.push(Frame {
            seen,
            shape,
            decided,
        });
    }

    fn frame_out(&mut self, line: &CapturedFrame) {
        let (bytes, to) = (bytes(line), place(line));
        let shape = Shape::of(&bytes);
        let copy = Copied {
            at: at(line),
            to,
            lost: line.reason.clone(),
            bytes: None,
            datagram: None,
        };
        let Some(from) = &line.from else {
            self.add(line, Fate::Forwarded);
            if let Some(new) = self.frames.last_mut() {
                SWITCH.clone_into(&mut new.seen.place);
                new.arrived(copy);
            }
            return;
        };
        for _ in 0..line.frames.max(1) {
            let Some(frame) = self.origin(at(line), from, &shape, &copy.to) else {
                return;
            };
            let is_same = frame.shape.is(&shape) && frame.seen.bytes.len() == bytes.len();
            let bytes = (!is_same).then(|| bytes.clone());
            frame.arrived(Copied {
                bytes,
                ..copy.clone()
            });
        }
    }

    /// The frame that came in at `from` of which `shape` is a copy for `to`: first those in the same
    /// round that have no copy there.
    fn origin(&mut self, at: Timestamp, from: &str, shape: &Shape, to: &str) -> Option<&mut Frame> {
        let is_of_round =
            |(_, frame): &(usize, &Frame)| frame.seen.place == from && frame.seen.at == at;
        let all = self.frames.iter().enumerate().filter(is_of_round);
        let all: Vec<(usize, &Frame)> = all.collect();
        let is_new = |frame: &Frame| frame.seen.copies.iter().all(|copy| copy.to != to);
        let ways: [&dyn Fn(&Frame) -> bool; 4] = [
            &|frame| frame.shape.is(shape) && is_new(frame),
            &|frame| frame.shape.shares_flow(shape) && is_new(frame),
            &|frame| frame.shape.shares_flow(shape),
            &|frame| frame.shape.is(shape),
        ];
        let found = ways.iter().find_map(|is_it| {
            let (index, _) = all.iter().find(|(_, frame)| is_it(frame))?;
            Some(*index)
        });
        // A round whose beginning was not seen.
        let last = || {
            self.frames
                .iter()
                .rposition(|frame| frame.seen.place == from && frame.shape.is(shape))
        };
        let index = found.or_else(last)?;
        self.frames.get_mut(index)
    }

    fn datagram_out(&mut self, line: &CapturedFrame) {
        let (bytes, to, at) = (bytes(line), place(line), at(line));
        let Some(opened) = open(&bytes, &ports(&bytes)) else {
            return;
        };
        let shape = Shape::of(opened.inner);
        // It is told right after the frame in it.
        let copies = self.frames.iter_mut().rev().flat_map(|frame| {
            let (whole, copies) = (&frame.shape, frame.seen.copies.iter_mut());
            copies.rev().map(move |copy| (whole, copy))
        });
        let waits = |(whole, copy): &(&Shape, &mut Copied)| {
            let its = copy.bytes.as_deref().map(Shape::of);
            copy.at == at
                && copy.to == to
                && copy.datagram.is_none()
                && its.as_ref().unwrap_or(whole).is(&shape)
        };
        if let Some((_, copy)) = { copies }.find(waits) {
            copy.datagram = Some(datagram(&bytes, line.len, &opened));
        }
    }
}

impl Frame {
    /// Takes a copy. A frame that reached nobody was dropped, wherever that was.
    fn arrived(&mut self, copy: Copied) {
        self.seen.copies.push(copy);
        let lost = self.seen.copies.iter().map(|copy| copy.lost.as_ref());
        let all: Option<Vec<&String>> = lost.collect();
        match all.and_then(|all| all.first().copied()) {
            Some(reason) => {
                self.seen.reason = Some(reason.clone());
                self.seen.fate = Fate::Dropped;
            }
            None => {
                self.seen.reason = None;
                self.seen.fate = self.decided;
            }
        }
    }
}

fn datagram(bytes: &[u8], len: usize, opened: &super::shape::Opened<'_>) -> Datagram {
    Datagram {
        vni: opened.vni,
        from_port: opened.from_port,
        len,
        bytes: bytes.to_vec(),
    }
}

/// The daemon says that it is VXLAN, whichever port it uses.
fn ports(datagram: &[u8]) -> [u16; 1] {
    let is_v6 = datagram.get(12) == Some(&0x86);
    let at = 14 + if is_v6 { 40 } else { 20 } + 2;
    let port = datagram.get(at..).and_then(<[u8]>::first_chunk);
    [port.map_or(0, |bytes| u16::from_be_bytes(*bytes))]
}

fn bytes(line: &CapturedFrame) -> Vec<u8> {
    line.hex
        .as_ref()
        .map(|hex| hex.0.clone())
        .unwrap_or_default()
}

fn at(line: &CapturedFrame) -> Timestamp {
    let time = std::time::Duration::try_from_secs_f64(line.time).unwrap_or_default();
    Timestamp::from_nanos(crate::time::nanos(time))
}

/// `192.0.2.1@br0/outer` is the VTEP 192.0.2.1.
fn place(line: &CapturedFrame) -> String {
    let name = line.interface.trim_end_matches("/outer");
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    name.to_owned()
}
