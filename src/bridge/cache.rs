//! A worker's private memory of the FDB, never wrong (see [`super::fdb`]).
//!
//! Two levels. [`Addresses`] remembers where an address is: two-way associative, and as large as the
//! table needs. In front of it, [`Pairs`] remembers what became of the last frame with the same
//! addresses, type and ingress, so that the next one of a flow costs one comparison.

use std::hint::black_box;

use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{
    Egress, Ingress,
    entry::{EntryKind, FdbEntry, FdbKey},
};
use crate::{
    time::Timestamp,
    wire::{Frame, MacAddr},
};

/// Recent answers of all FDBs, and recent decisions of all bridges, that one worker asks.
#[derive(Debug)]
pub struct FdbCache {
    addresses: Addresses,
    pairs: Pairs,
    /// As large as the memory of addresses may become.
    most_sets: usize,
    regimes: Regimes,
}

/// An answer from the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) egress: Egress,
    /// [`Timestamp`] of the last write, or a point that never ages for static and local entries.
    pub(super) updated: Timestamp,
}

const NEVER_AGES: Timestamp = Timestamp::from_nanos(u64::MAX);

impl Default for FdbCache {
    fn default() -> Self {
        Self::new()
    }
}

impl FdbCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            addresses: Addresses::new(LEAST_SETS),
            pairs: Pairs::new(1 << PAIRS_LOG2),
            most_sets: MOST_SETS,
            regimes: Regimes::default(),
        }
    }

    /// With the memory of pairs or without it, so that its effect can be shown.
    #[must_use]
    pub fn with_pairs(mut self, remembers: bool) -> Self {
        self.pairs = Pairs::new(if remembers { 1 << PAIRS_LOG2 } else { 0 });
        self
    }

    /// Whether the memory of addresses may grow; likewise.
    #[must_use]
    pub fn with_growth(mut self, grows: bool) -> Self {
        self.most_sets = if grows { MOST_SETS } else { LEAST_SETS };
        self
    }

    #[inline(always)]
    pub(super) fn find(&self, key: FdbKey, generation: u64) -> Option<Hit> {
        self.addresses.find(key, generation)
    }

    pub(super) fn insert(&mut self, key: FdbKey, generation: u64, entry: &FdbEntry) {
        self.addresses.insert(key, generation, entry);
    }

    /// Makes room for about so many addresses. What was remembered is forgotten, if it grows.
    #[inline]
    pub(super) fn fit(&mut self, addresses: u32) {
        let wanted = usize::try_from(addresses).unwrap_or(usize::MAX);
        let sets = self.addresses.sets();
        if wanted > sets && sets < self.most_sets {
            // By large steps: each costs a look-up in the shared table for every address.
            let sets = (4 * wanted).next_power_of_two().min(self.most_sets);
            self.addresses = Addresses::new(sets);
            self.addresses.is_new = true;
        }
    }

    /// The memory, once after it has grown beyond what a processor's own caches hold: for whoever
    /// can give it huge pages.
    pub fn grown(&mut self) -> Option<&[u8]> {
        std::mem::take(&mut self.addresses.is_new).then(|| self.addresses.words.as_bytes())
    }

    /// Fetches what the decisions about `frames` will need, all at once, if the memory is so large
    /// that each would else have to wait for it.
    #[inline]
    pub fn fetch<'f>(&self, frames: impl Iterator<Item = &'f [u8]>) {
        if self.addresses.sets() <= LEAST_SETS {
            return;
        }
        // Loads that do not depend on each other are in flight together.
        let touched = frames.fold(0, |sum, frame| {
            match frame.first_chunk().and_then(Frame::from_header) {
                Some(frame) => {
                    sum ^ self.addresses.touch(frame.dst()) ^ self.addresses.touch(frame.src())
                }
                None => sum,
            }
        });
        black_box(touched);
    }

    /// The number under which decisions of this bridge and this generation of its FDB are kept.
    #[inline(always)]
    pub(super) fn regime(&mut self, bridge: u64, generation: u64) -> u64 {
        let current = &self.regimes.current;
        if current.bridge == bridge && current.generation == generation {
            current.number
        } else {
            self.regimes.change(bridge, generation)
        }
    }

    /// What makes `frame` like another, unless it is not worth while to ask.
    #[inline(always)]
    pub(super) fn pair(&self, ingress: Ingress, frame: &[u8]) -> Option<Pair> {
        if self.pairs.pause > 0 {
            return None;
        }
        Pair::of(ingress, frame)
    }

    /// To be told of the end of a batch of `frames`: where hardly any was like another, the next
    /// batches are not compared.
    #[inline]
    pub fn batch_ended(&mut self, frames: usize) {
        let met = usize::try_from(std::mem::take(&mut self.pairs.met_in_batch)).unwrap_or(0);
        if self.pairs.pause > 0 {
            self.pairs.pause -= 1;
        } else if frames >= 16 && met > frames - frames / 8 {
            self.pairs.pause = 63;
        }
    }

    /// Where the last frame like this one went.
    #[inline(always)]
    pub(super) fn recall(&self, pair: &Pair, regime: u64, now: Timestamp) -> Option<Egress> {
        let slot = self.pairs.slots.get(pair.index())?;
        let differs = (slot.head ^ pair.head) | (slot.tail ^ pair.tail);
        let egress = slot.outcome ^ regime;
        ((differs == 0) & (egress >> 16 == 0) & (now.as_nanos() < slot.until))
            .then(|| Egress::unpack(egress))
    }

    /// Takes note of a decision that holds until then. Only now and then: where no frame is like
    /// another, writing would be in vain, and a flow is soon known all the same.
    #[inline]
    pub(super) fn remember(&mut self, pair: &Pair, regime: u64, until: u64, egress: Egress) {
        self.pairs.met = self.pairs.met.wrapping_add(1);
        self.pairs.met_in_batch += 1;
        if !self.pairs.met.is_multiple_of(5) {
            return;
        }
        if let Some(slot) = self.pairs.slots.get_mut(pair.index()) {
            *slot = PairSlot {
                head: pair.head,
                tail: pair.tail,
                until,
                outcome: regime | egress.pack(),
            };
        }
    }
}

/// Where addresses are.
#[derive(Debug)]
struct Addresses {
    /// The sets, from the first cache line on that begins in here. An allocator gives memory for
    /// words straight from the kernel, with zeroes that cost nothing before they are used, so that
    /// huge pages can be asked for; memory for whole lines it would write to first.
    words: Vec<Word>,
    first: usize,
    /// 64 less the bits of an index.
    shift: u32,
    is_new: bool,
}

#[derive(Clone, Copy, Debug, FromZeros, IntoBytes, Immutable)]
#[repr(C, align(16))]
struct Word([u64; 2]);

/// Answers whose keys share a hash, the latest first: one cache line.
type Set = [Word; 2 * WORDS_OF_SLOT];

/// One answer, in two words.
#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u64,
    /// Of the FDB when the answer was read; generations are unique, so this names the FDB too. 0 is
    /// none.
    generation: u64,
    updated: u64,
    egress: u64,
}

impl Slot {
    #[inline(always)]
    fn read([Word([key, generation]), Word([updated, egress])]: [Word; WORDS_OF_SLOT]) -> Self {
        Self {
            key,
            generation,
            updated,
            egress,
        }
    }

    fn words(self) -> [Word; WORDS_OF_SLOT] {
        [
            Word([self.key, self.generation]),
            Word([self.updated, self.egress]),
        ]
    }
}

impl Addresses {
    fn new(sets: usize) -> Self {
        let sets = sets.next_power_of_two().max(2);
        let words = (sets + 1) * size_of::<Set>() / size_of::<Word>();
        let words = Word::new_vec_zeroed(words).unwrap_or_default();
        Self {
            first: words
                .as_ptr()
                .align_offset(LINE)
                .min(LINE / size_of::<Word>()),
            words,
            shift: 64 - sets.trailing_zeros(),
            is_new: false,
        }
    }

    fn sets(&self) -> usize {
        1 << (64 - self.shift)
    }

    #[inline(always)]
    fn set(&self, key: FdbKey) -> Option<&Set> {
        self.words.get(self.index(key)..)?.first_chunk()
    }

    // Collisions cost a look-up in the shared table, so a cheap unkeyed hash is enough.
    #[inline(always)]
    fn index(&self, key: FdbKey) -> usize {
        let hash = key.number().wrapping_mul(GOLDEN);
        let set = usize::try_from(hash >> self.shift).unwrap_or(0);
        self.first + 2 * WORDS_OF_SLOT * set
    }

    #[inline(always)]
    fn find(&self, key: FdbKey, generation: u64) -> Option<Hit> {
        let [a, b, c, d] = *self.set(key)?;
        let Word([latest, _]) = a;
        let is_latest = latest == key.number();
        let slot = Slot::read(if is_latest { [a, b] } else { [c, d] });
        (slot.key == key.number() && slot.generation == generation).then(|| Hit {
            egress: Egress::unpack(slot.egress),
            updated: Timestamp::from_nanos(slot.updated),
        })
    }

    fn insert(&mut self, key: FdbKey, generation: u64, entry: &FdbEntry) {
        let updated = match entry.kind {
            EntryKind::Learned => entry.updated,
            EntryKind::Static | EntryKind::Local | EntryKind::Control => NEVER_AGES,
        };
        let index = self.index(key);
        let set = self.words.get_mut(index..);
        let Some([a, b, c, d]) = set.and_then(<[Word]>::first_chunk_mut::<{ 2 * WORDS_OF_SLOT }>)
        else {
            return;
        };
        if Slot::read([*a, *b]).key != key.number() {
            (*c, *d) = (*a, *b);
        }
        [*a, *b] = Slot {
            key: key.number(),
            generation,
            updated: updated.as_nanos(),
            egress: entry.egress.pack(),
        }
        .words();
    }

    #[inline(always)]
    fn touch(&self, address: MacAddr) -> u64 {
        self.set(FdbKey::new(address, 0))
            .map_or(0, |[Word([latest, _]), ..]| *latest)
    }
}

/// What makes two untagged frames the same to a bridge: both addresses, the type, and the ingress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    head: u64,
    tail: u64,
}

impl Pair {
    /// `None` for a frame that is too short to be read in two words.
    #[inline(always)]
    pub(super) fn of(ingress: Ingress, frame: &[u8]) -> Option<Self> {
        let (head, rest) = frame.split_first_chunk()?;
        let tail = u64::from_le_bytes(*rest.first_chunk()?);
        Some(Self {
            head: u64::from_le_bytes(*head),
            // The last two bytes of the second word are behind the header.
            tail: tail << 16 | ingress.back().pack(),
        })
    }

    #[inline(always)]
    fn index(&self) -> usize {
        let hash = (self.head ^ self.tail.rotate_left(29)).wrapping_mul(GOLDEN);
        usize::try_from(hash >> (64 - PAIRS_LOG2)).unwrap_or(0)
    }
}

/// What became of frames, by what they had in common. Direct-mapped.
#[derive(Debug)]
struct Pairs {
    slots: Vec<PairSlot>,
    /// Frames that were not found here.
    met: u32,
    met_in_batch: u32,
    /// Batches for which this is not asked.
    pause: u32,
}

#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C, align(32))]
struct PairSlot {
    head: u64,
    tail: u64,
    /// In nanoseconds: from then on the FDB wants to hear of the source again, or the destination
    /// has aged.
    until: u64,
    /// The regime's number, and in the last 16 bits where the frame went.
    outcome: u64,
}

impl Pairs {
    fn new(slots: usize) -> Self {
        Self {
            slots: vec![PairSlot::new_zeroed(); slots],
            met: 0,
            met_in_batch: 0,
            pause: 0,
        }
    }
}

/// A bridge between two control changes, with one generation of its FDB: while it lasts, equal
/// frames meet equal decisions.
#[derive(Clone, Copy, Debug, Default)]
struct Regime {
    bridge: u64,
    generation: u64,
    /// Above the 16 bits of an egress; unique in this cache, and never 0.
    number: u64,
}

/// Which regimes are in force, one for each of the bridges that this worker met last.
#[derive(Debug, Default)]
struct Regimes {
    current: Regime,
    recent: [Regime; 8],
    last: u64,
}

impl Regimes {
    #[cold]
    fn change(&mut self, bridge: u64, generation: u64) -> u64 {
        let place = usize::try_from(bridge).unwrap_or(0) % self.recent.len();
        let regime = &mut self.recent[place];
        if regime.bridge != bridge || regime.generation != generation {
            self.last += 1 << 16;
            *regime = Regime {
                bridge,
                generation,
                number: self.last,
            };
        }
        self.current = *regime;
        self.current.number
    }
}

/// 2^64 divided by the golden ratio: the high bits of a product depend on all bits of a key.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// 128 KiB of pairs.
const PAIRS_LOG2: u32 = 12;
/// 128 KiB of addresses, which stay in a processor's own cache.
const LEAST_SETS: usize = 1 << 11;
/// 64 MiB: room for two million addresses.
const MOST_SETS: usize = 1 << 20;
/// Bytes of a cache line.
const LINE: usize = 64;
const WORDS_OF_SLOT: usize = 2;
const _: () = assert!(size_of::<Set>() == LINE && size_of::<PairSlot>() == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{PeerId, PortId};

    fn frame(dst: u8, src: u8, behind: u8) -> [u8; 60] {
        let mut frame = [behind; 60];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 8, 0]);
        frame
    }

    #[test]
    fn a_pair_is_made_of_the_header_and_the_ingress_and_of_nothing_else() {
        let port = |n| Ingress::Port(PortId::new(n).unwrap());
        let peer = |n| Ingress::Peer(PeerId::new(n).unwrap());
        let key = |ingress, frame: &[u8]| {
            let Pair { head, tail } = Pair::of(ingress, frame).unwrap();
            (head, tail)
        };
        let here = key(port(1), &frame(1, 2, 0));
        assert_eq!(here, key(port(1), &frame(1, 2, 0xff)));
        let ingresses = [
            port(2),
            port(4095),
            peer(1),
            peer(16_383),
            Ingress::Peer(PeerId::STRANGER),
        ];
        let others = ingresses.map(|ingress| key(ingress, &frame(1, 2, 0)));
        for (n, other) in others.iter().enumerate() {
            assert_ne!(here, *other);
            assert!(!others[..n].contains(other));
        }
        assert_ne!(here, key(port(1), &frame(2, 1, 0)));
        assert!(Pair::of(port(1), &[0; 15]).is_none());
    }

    #[test]
    fn a_decision_is_recalled_until_its_time_is_up_or_its_regime_over() {
        let mut cache = FdbCache::new();
        let ingress = Ingress::Port(PortId::new(0).unwrap());
        let egress = Egress::Peer(PeerId::new(7).unwrap());
        let pair = Pair::of(ingress, &frame(1, 2, 0)).unwrap();
        let regime = cache.regime(5, 1);
        for _ in 0..5 {
            cache.remember(&pair, regime, 1000, egress);
        }

        let at =
            |cache: &FdbCache, regime, now| cache.recall(&pair, regime, Timestamp::from_nanos(now));
        assert_eq!(at(&cache, regime, 999), Some(egress));
        assert_eq!(at(&cache, regime, 1000), None);

        // Another bridge, this one again, and then another generation of its FDB.
        assert_eq!(at(&cache, regime, 0), Some(egress));
        let other = cache.regime(6, 1);
        assert_eq!(at(&cache, other, 0), None);
        assert_eq!(cache.regime(5, 1), regime);
        let renewed = cache.regime(5, 2);
        assert_eq!(at(&cache, renewed, 0), None);
    }

    #[test]
    fn it_grows_with_the_table_and_says_so_once() {
        let mut cache = FdbCache::new();
        cache.fit(2000);
        assert!(cache.grown().is_none());
        cache.fit(100_000);
        assert_eq!(cache.grown().map(<[u8]>::len), Some((64 << 19) + LINE));
        cache.fit(100_000);
        assert!(cache.grown().is_none());
    }
}
