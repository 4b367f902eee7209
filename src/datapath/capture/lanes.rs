//! A worker's end of the captures that run.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc::{Receiver, SyncSender},
};

use super::{
    CaptureRules, Chunk, Form, Installed, Outer, Place, Record, Side,
    chunk::Signals,
    limit::{self, Flows},
};
use crate::{
    bridge::{Ingress, PeerId, PortId},
    datapath::{Batch, Counter},
    time::Timestamp,
};

/// A worker's end of one capture.
#[derive(Debug)]
pub(super) struct Lane {
    current: Option<Chunk>,
    /// Chunks that have come back.
    spare: Vec<Chunk>,
    empty: Receiver<Chunk>,
    full: SyncSender<Chunk>,
    signals: Arc<Signals>,
    flows: Flows,
    /// By number in the batch: what was chosen of it, if there is a limit.
    chosen: Vec<bool>,
    /// Whether the frame that is looked at now was.
    follows: bool,
}

impl Lane {
    pub(super) fn new(
        empty: Receiver<Chunk>,
        full: SyncSender<Chunk>,
        signals: Arc<Signals>,
    ) -> Self {
        Self {
            current: None,
            spare: Vec::with_capacity(Chunk::COUNT),
            empty,
            full,
            signals,
            flows: Flows::new(),
            chosen: vec![false; Batch::DATAGRAMS + 1],
            follows: false,
        }
    }

    fn push(&mut self, record: Record, frame: &[u8], snaplen: usize) {
        for _ in 0..2 {
            if self.current.is_none() {
                self.collect();
                self.current = self.spare.pop();
            }
            let Some(chunk) = &mut self.current else {
                break;
            };
            if chunk.push(record.clone(), frame, snaplen) {
                return;
            }
            self.give_away();
        }
        self.signals.lose(record.place, record.form);
    }

    /// Hands over what there is, unless the reader has several chunks already: so one that keeps
    /// up has everything at once, and one that does not gets full chunks.
    fn flush(&mut self) {
        if self.current.as_ref().is_none_or(Chunk::is_empty) {
            return;
        }
        self.collect();
        if self.spare.len() + Self::AHEAD >= Chunk::COUNT {
            self.give_away();
        } else {
            self.signals.waits.store(true, Ordering::Relaxed);
        }
    }

    /// Takes what has come back.
    fn collect(&mut self) {
        while let Ok(chunk) = self.empty.try_recv() {
            self.spare.push(chunk);
        }
    }

    /// Chunks, the current one included, that may be out before they are only given away full.
    const AHEAD: usize = 4;

    fn give_away(&mut self) {
        if let Some(chunk) = self.current.take().filter(|chunk| !chunk.is_empty()) {
            self.signals.waits.store(false, Ordering::Relaxed);
            // There is room for all chunks; if not, nobody reads any more.
            drop(self.full.try_send(chunk));
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.give_away();
    }
}

/// A worker's end of all captures.
#[derive(Debug)]
pub(in crate::datapath) struct Lanes {
    lanes: Vec<(Installed, Lane)>,
    /// Where a frame that lies in pieces is put together.
    room: Vec<u8>,
    /// By number in the batch: what any capture has.
    chosen: Vec<bool>,
    /// Which piece of its frame is looked at.
    piece: usize,
    /// Where a frame was cut last, which one, and the number of that piece.
    cut: Option<(Place, usize, usize)>,
    /// When the batch was read.
    now: Timestamp,
    /// Where it came from.
    pub(in crate::datapath) ingress: Ingress,
}

impl Lanes {
    /// None.
    pub(in crate::datapath) fn new() -> Self {
        Self {
            lanes: Vec::new(),
            room: Vec::new(),
            chosen: vec![false; Batch::DATAGRAMS + 1],
            piece: 0,
            cut: None,
            now: Timestamp::ZERO,
            ingress: Ingress::Peer(PeerId::STRANGER),
        }
    }

    /// Whether any runs.
    #[inline(always)]
    pub(in crate::datapath) fn are_on(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Takes part in these captures and no others.
    pub(in crate::datapath) fn adopt(&mut self, worker: usize, installed: &[Installed]) {
        let is_one = |capture: &super::Capture, all: &[Installed]| {
            all.iter().any(|other| other.capture.id() == capture.id())
        };
        self.lanes
            .retain(|(old, _)| is_one(&old.capture, installed));
        for new in installed {
            let known = self
                .lanes
                .iter_mut()
                .find(|(old, _)| old.capture.id() == new.capture.id());
            if let Some((old, _)) = known {
                old.selection = Arc::clone(&new.selection);
            } else if let Some(lane) = new.capture.take_lane(worker) {
                self.lanes.push((new.clone(), lane));
            }
        }
        if self.are_on() && self.room.capacity() == 0 {
            self.room.reserve(Batch::CAPACITY + Outer::LONGEST);
        }
    }

    /// A batch begins, which was read at `now`.
    #[inline]
    pub(in crate::datapath) fn begin(&mut self, now: Timestamp) {
        self.now = now;
        self.cut = None;
    }

    /// Chooses for each capture whether it has frame number `index`, with all that becomes of it:
    /// whether any has. It came in at `place`, and makes about `cost` records.
    pub(in crate::datapath) fn choose(
        &mut self,
        index: usize,
        place: Place,
        frame: &[u8],
        cost: impl Fn(&CaptureRules) -> u64,
    ) -> bool {
        let mut flow = None;
        let mut is_any = false;
        for (installed, lane) in &mut self.lanes {
            let capture = &installed.capture;
            lane.follows = capture.limit.as_ref().is_none_or(|limit| {
                let flow = *flow.get_or_insert_with(|| limit::flow(place, frame));
                let is_chosen = lane.flows.have_room(limit, self.now, flow)
                    && lane
                        .flows
                        .take(limit, self.now, flow, cost(capture.rules()));
                if let Some(chosen) = lane.chosen.get_mut(index) {
                    *chosen = is_chosen;
                }
                if !is_chosen {
                    lane.signals.skip();
                }
                is_chosen
            });
            is_any |= lane.follows;
        }
        self.piece = 0;
        if let Some(chosen) = self.chosen.get_mut(index) {
            *chosen = is_any;
        }
        is_any
    }

    /// Whether any capture has frame number `frame`, of which a copy is looked at from now on.
    #[inline]
    pub(in crate::datapath) fn follow(&mut self, frame: usize) -> bool {
        self.are_on() && self.follow_any(std::iter::once(frame))
    }

    /// The same for a copy of all `frames` together.
    #[inline]
    pub(in crate::datapath) fn follow_any(
        &mut self,
        frames: impl Iterator<Item = usize> + Clone,
    ) -> bool {
        let has = |chosen: &[bool], frame: usize| chosen.get(frame).copied().unwrap_or(false);
        let is_any = self.are_on() && frames.clone().any(|frame| has(&self.chosen, frame));
        if is_any {
            self.piece = 0;
            for (installed, lane) in &mut self.lanes {
                lane.follows = installed.capture.limit.is_none()
                    || frames.clone().any(|frame| has(&lane.chosen, frame));
            }
        }
        is_any
    }

    /// The copy that is looked at is one piece more of frame number `frame`, which is cut at `place`.
    pub(in crate::datapath) fn piece(&mut self, place: Place, frame: usize) {
        self.piece = match self.cut {
            Some((at, number, piece)) if (at, number) == (place, frame) => piece + 1,
            _ => 0,
        };
        self.cut = Some((place, frame, self.piece));
    }

    /// The frame that is looked at makes so many records more than was thought.
    pub(in crate::datapath) fn pay(&self, more: impl Fn(&CaptureRules) -> u64) {
        for (installed, _) in self.lanes.iter().filter(|(_, lane)| lane.follows) {
            let capture = &installed.capture;
            if let Some(limit) = &capture.limit {
                limit.pay(self.now, more(capture.rules()));
            }
        }
    }

    /// Captures the frame that lies in `parts`, with `outer` headers in front of it.
    #[cold]
    pub(in crate::datapath) fn capture(
        &mut self,
        record: Record,
        outer: Option<&Outer>,
        parts: &[&[u8]],
    ) {
        let (place, side, form) = (record.place, record.side, record.form);
        let (now, room) = (self.now, &mut self.room);
        let mut is_put_together = false;
        for (installed, lane) in &mut self.lanes {
            let capture = &installed.capture;
            let (rules, limit) = (capture.rules(), capture.limit.as_ref());
            let is_wanted = lane.follows && installed.wants(place, side, form);
            if !is_wanted || rules.drops_only && !record.fate.is_drop() {
                continue;
            }
            if let Some(limit) = limit.filter(|_| self.piece > 0) {
                if self.piece >= PIECES {
                    lane.signals.skip();
                    continue;
                }
                // The first was paid for with the frame.
                limit.pay(now, 1);
            }
            let frame = match (outer, parts) {
                (None, [whole]) => *whole,
                _ if is_put_together => &*room,
                _ => {
                    is_put_together = true;
                    put_together(room, outer, parts);
                    &*room
                }
            };
            if rules.filter.matches_all() || rules.filter.matches(frame) {
                let record = Record {
                    at: now,
                    ..record.clone()
                };
                lane.push(record, frame, rules.snaplen);
            }
        }
    }

    /// Hands over what has been captured.
    #[cold]
    pub(in crate::datapath) fn flush(&mut self) {
        self.lanes.iter_mut().for_each(|(_, lane)| lane.flush());
    }
}

/// The frame that lies in `parts`, with `outer` headers in front of it.
fn put_together(room: &mut Vec<u8>, outer: Option<&Outer>, parts: &[&[u8]]) {
    room.clear();
    if let Some(outer) = outer {
        outer.write(parts, room);
    }
    parts.iter().for_each(|part| room.extend_from_slice(part));
}

/// Of a frame that is cut, a capture that has only a choice has so many pieces at each place.
const PIECES: usize = 3;

impl Installed {
    fn wants(&self, place: Place, side: Side, form: Form) -> bool {
        let rules = self.capture.rules();
        let is_side = match side {
            Side::In => rules.ingress,
            Side::Out => rules.egress,
        };
        let is_form = match form {
            // What comes in without being a frame of anybody is shown as it is.
            Form::Outer => rules.outer || rules.drops_only && side == Side::In,
            Form::Inner => rules.inner,
        };
        is_side && is_form && self.selection.has(place)
    }
}

/// Lost frames by place: few places lose any, and the rest share one count.
#[derive(Debug)]
pub(super) struct Slots {
    slots: [Slot; Self::COUNT],
    elsewhere: Counter,
}

#[derive(Debug, Default)]
struct Slot {
    /// 0: free.
    key: AtomicU64,
    count: Counter,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            slots: std::array::from_fn(|_| Slot::default()),
            elsewhere: Counter::default(),
        }
    }
}

impl Slots {
    const COUNT: usize = 64;

    pub(super) fn add(&self, place: Place, form: Form) {
        let key = key(place, form);
        let is_its = |slot: &&Slot| {
            let held = slot.key.load(Ordering::Relaxed);
            held == key || held == 0
        };
        let Some(slot) = self.slots.iter().find(is_its) else {
            return self.elsewhere.add(1);
        };
        if slot.key.load(Ordering::Relaxed) == 0 {
            slot.key.store(key, Ordering::Relaxed);
        }
        slot.count.add(1);
    }

    /// What was lost where no slot was left for.
    pub(super) fn elsewhere(&self) -> u64 {
        self.elsewhere.get()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ((Place, Form), u64)> {
        self.slots.iter().filter_map(|slot| {
            let key = slot.key.load(Ordering::Relaxed);
            Some((place(key)?, slot.count.get()))
        })
    }
}

/// A place as a number that is not 0.
pub(super) fn key(place: Place, form: Form) -> u64 {
    let (kind, index) = match place {
        Place::Port(port) => (1, port.index() as u64),
        Place::Peer(peer) => (2, peer.index() as u64),
        Place::Vtep => (3, 0),
    };
    index << 3 | kind << 1 | u64::from(form == Form::Outer)
}

fn place(key: u64) -> Option<(Place, Form)> {
    let form = if key & 1 == 0 {
        Form::Inner
    } else {
        Form::Outer
    };
    let index = usize::try_from(key >> 3).ok()?;
    let place = match key >> 1 & 0b11 {
        1 => Place::Port(PortId::new(index)?),
        2 => Place::Peer(PeerId::new(index)?),
        3 => Place::Vtep,
        _ => return None,
    };
    Some((place, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_counted_where_they_are_and_none_is_forgotten() {
        let slots = Slots::default();
        for index in 0..100 {
            let port = Place::Port(PortId::new(index).unwrap());
            (0..3).for_each(|_| slots.add(port, Form::Inner));
        }
        slots.add(Place::Vtep, Form::Outer);
        let own = |place: &(Place, Form)| {
            let count = slots.iter().find(|(other, _)| other == place);
            count.map(|(_, count)| count)
        };
        let at = |index| (Place::Port(PortId::new(index).unwrap()), Form::Inner);
        for index in 0..Slots::COUNT {
            assert_eq!(own(&at(index)), Some(3), "{index}");
        }
        // Those for which there was no slot are nobody else's.
        assert_eq!(own(&at(Slots::COUNT)), None);
        let others = 100 - u64::try_from(Slots::COUNT).unwrap();
        assert_eq!(slots.elsewhere(), others * 3 + 1);
    }

    #[test]
    fn a_place_survives_being_a_number() {
        for given in [
            Place::Port(PortId::new(7).unwrap()),
            Place::Peer(PeerId::new(9).unwrap()),
            Place::Vtep,
        ] {
            for form in [Form::Inner, Form::Outer] {
                assert_eq!(place(key(given, form)), Some((given, form)));
            }
        }
        assert_eq!(place(0), None);
    }
}
