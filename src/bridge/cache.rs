//! A worker's private memory of the FDB: two-way associative, and never wrong (see [`super::fdb`]).

use super::{
    Egress, PortId,
    entry::{EntryKind, FdbEntry, FdbKey},
};
use crate::time::Timestamp;

/// Recent answers of all FDBs that one worker asks.
#[derive(Debug)]
pub struct FdbCache {
    sets: Box<[Set; SETS]>,
}

/// Answers whose keys share a hash, the latest first: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Set([Slot; 2]);

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u64,
    /// Of the FDB when the answer was read; generations are unique, so this names the FDB too.
    generation: u64,
    updated: Timestamp,
    egress: Egress,
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
        let nowhere =
            Egress::Port(PortId::new(0).unwrap_or_else(|| unreachable!("0 is below the limit")));
        let empty = Slot {
            key: u64::MAX,
            generation: 0,
            updated: Timestamp::ZERO,
            egress: nowhere,
        };
        // By way of a slice, since an array of this size does not belong on the stack.
        let sets = vec![Set([empty; 2]); SETS].into_boxed_slice().try_into();
        Self {
            sets: sets.unwrap_or_else(|_| unreachable!("it was made with this length")),
        }
    }

    #[inline(always)]
    pub(super) fn find(&self, key: FdbKey, generation: u64) -> Option<Hit> {
        let Set([latest, other]) = &self.sets[Self::index(key)];
        let slot = if latest.key == key.number() {
            latest
        } else {
            other
        };
        let hit = Hit {
            egress: slot.egress,
            updated: slot.updated,
        };
        (slot.key == key.number() && slot.generation == generation).then_some(hit)
    }

    pub(super) fn insert(&mut self, key: FdbKey, generation: u64, entry: &FdbEntry) {
        let updated = match entry.kind {
            EntryKind::Learned => entry.updated,
            EntryKind::Static | EntryKind::Local | EntryKind::Control => NEVER_AGES,
        };
        let Set([latest, other]) = &mut self.sets[Self::index(key)];
        if latest.key != key.number() {
            *other = *latest;
        }
        *latest = Slot {
            key: key.number(),
            generation,
            updated,
            egress: entry.egress,
        };
    }

    // Collisions cost a look-up in the shared table, so a cheap unkeyed hash is enough.
    #[inline(always)]
    fn index(key: FdbKey) -> usize {
        let hash = key.number().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(hash >> (64 - SETS_LOG2)).unwrap_or(0) % SETS
    }
}

const SETS_LOG2: u32 = 11;
const SETS: usize = 1 << SETS_LOG2;
const _: () = assert!(size_of::<Set>() == 64);
