//! The flight recorder: what became of the last frames of a port, or of a remote VTEP, in constant
//! memory and at a few nanoseconds a frame.
//!
//! A busy port overwrites any list of last frames within a millisecond. So there is also a table of
//! flows, in which frames of one flow with one fate share a place with their number and their first
//! and last time; one of lost flows, which no traffic that gets through can push out; and the latest
//! loss for each reason, which nothing pushes out but the next one.
//!
//! Like a block of counters a recorder has one writer, its worker. Whoever reads holds nobody up: a
//! record that is being written is read again, and left out if that goes on (a seqlock after Boehm,
//! "Can seqlocks get along with programming language memory models?", in plain stores).

use std::sync::atomic::{AtomicU64, Ordering, fence};

use zerocopy::FromZeros;

use super::Counter;
use crate::{
    bridge::{Decision, DropReason, Egress, FloodClass, Ingress, Learn, Verdict},
    time::Timestamp,
};

/// What one worker has seen of one port, or of one remote VTEP.
#[derive(Debug)]
pub struct Recorder {
    /// The last frames from there.
    frames: Slots,
    next_frame: Counter,
    /// The last losses, on the way in or out.
    losses: Slots,
    next_loss: Counter,
    /// Frames from there by flow and verdict.
    flows: Slots,
    /// Losses by flow and reason.
    lost_flows: Slots,
    /// The latest loss for each reason.
    reasons: Slots,
    /// Flows that a table had no more room for, though they were seen within [`Recorder::RECENT`].
    crowded_out: Counter,
}

/// One record: a frame, or all frames of a flow with the same fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When; of several, the last time.
    pub last: Timestamp,
    /// The first time.
    pub first: Timestamp,
    /// How many frames.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The same number for all frames of a flow, as long as the process runs.
    pub flow: u64,
    /// Bytes of the frame, or of the segment of it that was lost; of several, of the first or the
    /// last.
    pub len: u32,
    /// Where it came in; `None`: the switch itself made it.
    pub ingress: Option<Ingress>,
    /// What became of it.
    pub fate: Fate,
    /// What the FDB made of its source; of several, of the first.
    pub learn: Learn,
    /// Numbers that say why.
    pub detail: Option<Detail>,
    /// The first bytes of the frame, or of the datagram if [`Detail::Datagram`] says so.
    pub head: Vec<u8>,
}

impl Record {
    /// The first bytes of the frame, if there is one: a datagram without a VNI has none inside.
    pub fn frame(&self) -> Option<&[u8]> {
        let is_raw = matches!(self.detail, Some(Detail::Datagram { vni: None, .. }));
        (!is_raw).then_some(&self.head)
    }
}

/// What became of a frame, or of one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// To one place.
    Forwarded(Egress),
    /// To so many places.
    Flooded(FloodClass, u16),
    /// Nowhere.
    Dropped(DropReason),
    /// The copy for this place was lost on its way out.
    Lost(Egress, DropReason),
}

/// Numbers that say why a frame was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// It has so many bytes, or its outer packet has, and so many fit.
    Size {
        /// Bytes that it has.
        has: u32,
        /// Bytes that fit.
        fits: u32,
    },
    /// A datagram from the underlay, with the number in the place of its VNI, and from where.
    Datagram {
        /// The VNI; `None`: it has no VXLAN header with one, and all of it is in [`Record::head`].
        vni: Option<u32>,
        /// The outer source; an IPv4 address is mapped into IPv6.
        from: u128,
    },
}

/// A frame that is written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) now: Timestamp,
    pub(super) flow: u64,
    pub(super) len: u32,
    pub(super) what: What,
    pub(super) head: &'a [u8],
    pub(super) detail: Option<Detail>,
}

/// Everything that is known beside the frame itself, in two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct What {
    /// What frames in one place of a table have in common: kind, class or reason, egress, ingress.
    verdict: u64,
    /// Number of copies, and what the FDB made of the source.
    extra: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            frames: Slots::new(Self::FRAMES),
            next_frame: Counter::default(),
            losses: Slots::new(Self::LOSSES),
            next_loss: Counter::default(),
            flows: Slots::new(Self::FLOWS),
            lost_flows: Slots::new(Self::LOST_FLOWS),
            reasons: Slots::new(DropReason::COUNT),
            crowded_out: Counter::default(),
        }
    }
}

impl Recorder {
    /// Frames that are remembered one by one.
    pub const FRAMES: usize = 128;
    /// Losses that are.
    pub const LOSSES: usize = 64;
    /// Flows that are remembered.
    pub const FLOWS: usize = 128;
    /// Lost flows.
    pub const LOST_FLOWS: usize = 64;
    /// Bytes that are kept of a frame: those of a neighbour solicitation, or of TCP over IPv6, with
    /// a VLAN tag or without.
    pub const HEAD: usize = 8 * HEAD_WORDS;
    /// A flow that was seen within so many nanoseconds should not lose its place.
    const RECENT: u64 = 60_000_000_000;

    /// Writes down a frame that came from here.
    #[inline]
    pub(super) fn frame(&self, entry: &Entry<'_>) {
        let number = self.next_frame.get();
        self.frames.write(place(number, Self::FRAMES), entry);
        self.next_frame.add(1);
    }

    /// Counts `count` frames of together `bytes` that came from here, of one flow and verdict.
    #[inline]
    pub(super) fn flow(&self, entry: &Entry<'_>, count: u64, bytes: u64) {
        self.tally(&self.flows, entry, count, bytes);
    }

    /// Writes down `count` losses, together `bytes`, of one flow and for one reason: of frames from
    /// here, or of copies for here.
    #[cold]
    pub(super) fn loss(&self, entry: &Entry<'_>, reason: DropReason, count: u64, bytes: u64) {
        let number = self.next_loss.get();
        self.losses.write(place(number, Self::LOSSES), entry);
        self.next_loss.add(1);
        self.tally(&self.lost_flows, entry, count, bytes);
        self.reasons.recount(reason.index(), entry, count, bytes);
    }

    fn tally(&self, table: &Slots, entry: &Entry<'_>, count: u64, bytes: u64) {
        let home = place(entry.flow ^ entry.what.verdict, table.count);
        // Two places for each: a flow that goes on keeps one, beside another that does.
        let places = [home, home ^ 1];
        for index in places {
            if table.is_of(index, entry) {
                return table.again(index, entry.now, count, bytes);
            }
        }
        let oldest = places.into_iter().min_by_key(|&index| table.last(index));
        let index = oldest.unwrap_or(home);
        let last = table.last(index);
        if last > 0 && entry.now.as_nanos().saturating_sub(last) < Self::RECENT {
            self.crowded_out.add(1);
        }
        table.begin(index, entry, count, bytes);
    }

    /// The last frames, in no order.
    pub fn frames(&self) -> Vec<Record> {
        self.frames.read()
    }

    /// The last losses, in no order.
    pub fn losses(&self) -> Vec<Record> {
        self.losses.read()
    }

    /// Flows, and how many frames of each.
    pub fn flows(&self) -> Vec<Record> {
        self.flows.read()
    }

    /// Lost flows, and for each reason the latest loss, which may be of one of them.
    pub fn lost_flows(&self) -> (Vec<Record>, Vec<Record>) {
        (self.lost_flows.read(), self.reasons.read())
    }

    /// How many losses for `reason` were ever written down.
    pub fn losses_for(&self, reason: DropReason) -> u64 {
        let slot = self.reasons.slot(reason.index());
        slot.map_or(0, |slot| load(slot, COUNT))
    }

    /// How many flows a table had no more room for.
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out.get()
    }
}

/// The place of number `number` among `count`, a power of two.
#[inline]
fn place(number: u64, count: usize) -> usize {
    // The remainder is below `count`.
    usize::try_from(number % count as u64).unwrap_or(0)
}

/// Records side by side, each [`STRIDE`] words. Never written: all zero.
#[derive(Debug)]
struct Slots {
    words: Box<[AtomicU64]>,
    count: usize,
}

impl Slots {
    fn new(count: usize) -> Self {
        // Zeroed by the kernel: memory that no frame needs is not even there.
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(count * STRIDE);
        Self {
            words: words.unwrap_or_default(),
            count,
        }
    }

    #[inline]
    fn slot(&self, index: usize) -> Option<&[AtomicU64; STRIDE]> {
        self.words.get(index * STRIDE..)?.first_chunk()
    }

    /// Changes a record such that no reader takes half of it for whole.
    #[inline]
    fn change(&self, index: usize, change: impl FnOnce(&[AtomicU64; STRIDE])) {
        let Some(slot) = self.slot(index) else { return };
        let version = slot[VERSION].load(Ordering::Relaxed);
        slot[VERSION].store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        change(slot);
        slot[VERSION].store(version.wrapping_add(2), Ordering::Release);
    }

    #[inline]
    fn write(&self, index: usize, entry: &Entry<'_>) {
        self.change(index, |slot| entry.store(slot));
    }

    #[inline]
    fn begin(&self, index: usize, entry: &Entry<'_>, count: u64, bytes: u64) {
        self.change(index, |slot| {
            entry.store(slot);
            store(slot, FIRST, entry.now.as_nanos());
            store(slot, COUNT, count);
            store(slot, BYTES, bytes);
        });
    }

    #[inline]
    fn again(&self, index: usize, now: Timestamp, count: u64, bytes: u64) {
        self.change(index, |slot| {
            store(slot, LAST, now.as_nanos());
            store(slot, COUNT, load(slot, COUNT).wrapping_add(count));
            store(slot, BYTES, load(slot, BYTES).wrapping_add(bytes));
        });
    }

    /// The latest of its kind, counted with all before it.
    fn recount(&self, index: usize, entry: &Entry<'_>, count: u64, bytes: u64) {
        self.change(index, |slot| {
            if load(slot, COUNT) == 0 {
                store(slot, FIRST, entry.now.as_nanos());
            }
            entry.store(slot);
            store(slot, COUNT, load(slot, COUNT).wrapping_add(count));
            store(slot, BYTES, load(slot, BYTES).wrapping_add(bytes));
        });
    }

    #[inline]
    fn is_of(&self, index: usize, entry: &Entry<'_>) -> bool {
        self.slot(index).is_some_and(|slot| {
            load(slot, FLOW) == entry.flow && load(slot, VERDICT) == entry.what.verdict
        })
    }

    #[inline]
    fn last(&self, index: usize) -> u64 {
        self.slot(index).map_or(0, |slot| load(slot, LAST))
    }

    fn read(&self) -> Vec<Record> {
        (0..self.count)
            .filter_map(|index| Record::of(&self.snapshot(index)?))
            .collect()
    }

    /// A record as it stood at one moment; `None` if there is none, or it never stands still.
    fn snapshot(&self, index: usize) -> Option<[u64; STRIDE]> {
        let slot = self.slot(index)?;
        for _ in 0..ATTEMPTS {
            let before = slot[VERSION].load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            let words = std::array::from_fn(|word| load(slot, word));
            fence(Ordering::Acquire);
            if before % 2 == 0 && slot[VERSION].load(Ordering::Relaxed) == before {
                return Some(words);
            }
            std::hint::spin_loop();
        }
        None
    }
}

#[inline]
fn load(slot: &[AtomicU64; STRIDE], word: usize) -> u64 {
    slot[word].load(Ordering::Relaxed)
}

#[inline]
fn store(slot: &[AtomicU64; STRIDE], word: usize, value: u64) {
    slot[word].store(value, Ordering::Relaxed);
}

impl Entry<'_> {
    #[inline]
    fn store(&self, slot: &[AtomicU64; STRIDE]) {
        store(slot, LAST, self.now.as_nanos());
        store(slot, FLOW, self.flow);
        store(slot, VERDICT, self.what.verdict);
        let kind = match self.detail {
            None => 0,
            Some(detail) => {
                let (kind, words) = detail.pack();
                for (index, word) in words.into_iter().enumerate() {
                    store(slot, DETAIL + index, word);
                }
                kind
            }
        };
        let len = u64::from(self.len);
        store(slot, EXTRA, self.what.extra | kind << DETAIL_SHIFT | len);
        let mut copy = [0; Recorder::HEAD];
        let head = match self.head.first_chunk() {
            Some(head) => head,
            None => {
                let len = self.head.len();
                copy[..len].copy_from_slice(self.head);
                &copy
            }
        };
        for (index, word) in head.chunks_exact(8).enumerate() {
            let word = word
                .first_chunk()
                .map_or(0, |word| u64::from_ne_bytes(*word));
            store(slot, HEAD + index, word);
        }
    }
}

impl Detail {
    /// Frames or packets of `fits` bytes fit, and this one has `has`.
    pub(super) fn size(has: usize, fits: usize) -> Self {
        let number = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self::Size {
            has: number(has),
            fits: number(fits),
        }
    }

    fn pack(self) -> (u64, [u64; 3]) {
        match self {
            Self::Size { has, fits } => (SIZE, [u64::from(has) << 32 | u64::from(fits), 0, 0]),
            Self::Datagram { vni, from } => {
                let (high, low) = halves(from);
                (DATAGRAM, [vni.map_or(NO_VNI, u64::from), high, low])
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits were packed")]
    fn unpack(kind: u64, words: [u64; 3]) -> Option<Self> {
        match kind {
            SIZE => Some(Self::Size {
                has: (words[0] >> 32) as u32,
                fits: words[0] as u32,
            }),
            DATAGRAM => Some(Self::Datagram {
                vni: (words[0] != NO_VNI).then_some(words[0] as u32),
                from: u128::from(words[1]) << 64 | u128::from(words[2]),
            }),
            _ => None,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each is one half")]
fn halves(number: u128) -> (u64, u64) {
    ((number >> 64) as u64, number as u64)
}

impl What {
    /// A frame from `ingress` and its verdict; a flood made so many copies.
    #[inline]
    pub(super) fn decided(ingress: Ingress, verdict: &Verdict, copies: u16) -> Self {
        let from = ingress.back().pack() << INGRESS_SHIFT;
        let what = match verdict.decision {
            Decision::Forward(to) => FORWARDED | to.pack() << EGRESS_SHIFT,
            Decision::Flood(class) => FLOODED | (class as u64) << REASON_SHIFT,
            Decision::Drop(reason) => DROPPED | (reason as u64) << REASON_SHIFT,
        };
        Self {
            verdict: what | from,
            extra: u64::from(copies) << COPIES_SHIFT | learn_number(verdict.learn),
        }
    }

    /// A copy for `to` that was lost; `None`: the switch itself made the frame.
    pub(super) fn lost(ingress: Option<Ingress>, to: Egress, reason: DropReason) -> Self {
        let from = ingress.map_or(ITSELF, |ingress| ingress.back().pack());
        let what = LOST | (reason as u64) << REASON_SHIFT | to.pack() << EGRESS_SHIFT;
        Self {
            verdict: what | from << INGRESS_SHIFT,
            extra: learn_number(Learn::Off),
        }
    }
}

impl Record {
    fn of(words: &[u64; STRIDE]) -> Option<Self> {
        let [verdict, extra] = [words[VERDICT], words[EXTRA]];
        let bits = |word: u64, shift: u32| u16::try_from(word >> shift & 0xffff).ok();
        let index = usize::try_from(verdict >> REASON_SHIFT & 0xff).ok()?;
        let egress = Egress::unpack(u64::from(bits(verdict, EGRESS_SHIFT)?));
        let from = u64::from(bits(verdict, INGRESS_SHIFT)?);
        let ingress = (from != ITSELF).then(|| match Egress::unpack(from) {
            Egress::Port(port) => Ingress::Port(port),
            Egress::Peer(peer) => Ingress::Peer(peer),
        });
        let fate = match verdict & 0xff {
            FORWARDED => Fate::Forwarded(egress),
            FLOODED => Fate::Flooded(*CLASSES.get(index)?, bits(extra, COPIES_SHIFT)?),
            DROPPED => Fate::Dropped(*DropReason::ALL.get(index)?),
            LOST => Fate::Lost(egress, *DropReason::ALL.get(index)?),
            _ => return None,
        };
        let len = u32::try_from(extra & LEN_MASK).ok()?;
        let detail = Detail::unpack(
            extra >> DETAIL_SHIFT & 0b11,
            [words[DETAIL], words[DETAIL + 1], words[DETAIL + 2]],
        );
        let mut head: Vec<u8> = words[HEAD..HEAD + HEAD_WORDS]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        head.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        let last = Timestamp::from_nanos(words[LAST]);
        let is_single = words[COUNT] == 0;
        Some(Self {
            last,
            first: if is_single {
                last
            } else {
                Timestamp::from_nanos(words[FIRST])
            },
            count: words[COUNT].max(1),
            bytes: if is_single {
                u64::from(len)
            } else {
                words[BYTES]
            },
            flow: words[FLOW],
            len,
            ingress,
            fate,
            learn: learn_of(extra >> LEARN_SHIFT),
            detail,
            head,
        })
    }
}

#[inline]
fn learn_number(learn: Learn) -> u64 {
    let (number, from) = match learn {
        Learn::Off => (0, None),
        Learn::Known => (1, None),
        Learn::New => (2, None),
        Learn::Moved { from } => (3, Some(from)),
        Learn::Flapping { from } => (4, Some(from)),
        Learn::Frozen => (5, None),
        Learn::Pinned => (6, None),
        Learn::Full => (7, None),
    };
    let from = from.map_or(0, Egress::pack);
    (number | from << 4) << LEARN_SHIFT
}

fn learn_of(number: u64) -> Learn {
    let from = Egress::unpack(number >> 4 & 0xffff);
    match number & 0xf {
        1 => Learn::Known,
        2 => Learn::New,
        3 => Learn::Moved { from },
        4 => Learn::Flapping { from },
        5 => Learn::Frozen,
        6 => Learn::Pinned,
        7 => Learn::Full,
        _ => Learn::Off,
    }
}

/// Words of a record: when it is whole its version is even.
const VERSION: usize = 0;
const LAST: usize = 1;
const FIRST: usize = 2;
const COUNT: usize = 3;
const BYTES: usize = 4;
const FLOW: usize = 5;
const VERDICT: usize = 6;
const EXTRA: usize = 7;
const DETAIL: usize = 8;
const HEAD: usize = 11;
const HEAD_WORDS: usize = 11;
const STRIDE: usize = HEAD + HEAD_WORDS;

// Within VERDICT: a kind of 8 bits, a reason or class of 8, egress and ingress of 16 each.
const REASON_SHIFT: u32 = 8;
const EGRESS_SHIFT: u32 = 16;
const INGRESS_SHIFT: u32 = 32;
const FORWARDED: u64 = 1;
const FLOODED: u64 = 2;
const DROPPED: u64 = 3;
const LOST: u64 = 4;
/// In the place of an ingress; no port and no remote VTEP has this number.
const ITSELF: u64 = 0xfffe;

// Within EXTRA: 24 bits of length, 2 for the kind of detail, 16 of copies, 20 for learning.
const LEN_MASK: u64 = 0xff_ffff;
const DETAIL_SHIFT: u32 = 24;
const COPIES_SHIFT: u32 = 26;
const LEARN_SHIFT: u32 = 42;
const SIZE: u64 = 1;
const DATAGRAM: u64 = 2;
/// In the place of a VNI, of which all 24 bits may be used.
const NO_VNI: u64 = u64::MAX;

/// By their numbers.
const CLASSES: [FloodClass; 4] = [
    FloodClass::UnknownUnicast,
    FloodClass::Multicast,
    FloodClass::Broadcast,
    FloodClass::Repeat,
];
const _: () = {
    let mut index = 0;
    while index < CLASSES.len() {
        assert!(CLASSES[index] as usize == index);
        index += 1;
    }
};
/// How often a reader looks at a record that is being written: a write takes some nanoseconds.
const ATTEMPTS: usize = 64;

#[cfg(test)]
mod tests;
