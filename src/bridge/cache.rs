//! A worker's private memory of the FDB: direct-mapped, and never wrong (see [`super::fdb`]).

use super::{
    Egress, PortId,
    fdb::{EntryKind, FdbEntry, FdbKey},
};
use crate::time::Timestamp;

/// Recent answers of all FDBs that one worker asks.
#[derive(Debug)]
pub struct FdbCache {
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
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
    const SLOTS_LOG2: u32 = 12;

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
        Self {
            slots: vec![empty; 1 << Self::SLOTS_LOG2].into_boxed_slice(),
        }
    }

    #[inline(always)]
    pub(super) fn find(&self, key: FdbKey, generation: u64) -> Option<Hit> {
        let slot = &self.slots[Self::index(key)];
        let hit = Hit {
            egress: slot.egress,
            updated: slot.updated,
        };
        (slot.key == key.number() && slot.generation == generation).then_some(hit)
    }

    #[inline]
    pub(super) fn insert(&mut self, key: FdbKey, generation: u64, entry: &FdbEntry) {
        let updated = if entry.kind == EntryKind::Learned {
            entry.updated
        } else {
            NEVER_AGES
        };
        self.slots[Self::index(key)] = Slot {
            key: key.number(),
            generation,
            updated,
            egress: entry.egress,
        };
    }

    // Collisions cost a look-up in the shared table, so a cheap unkeyed hash is enough.
    #[inline]
    fn index(key: FdbKey) -> usize {
        let hash = key.number().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(hash >> (64 - Self::SLOTS_LOG2)).unwrap_or(0)
    }
}
