//! What the FDB is made of: keys, entries, and the rules by which they live.

use std::time::Duration;

use super::Egress;
use crate::{
    time::{Timestamp, nanos},
    wire::MacAddr,
};

/// An address within a VLAN, as one number: the VLAN id above the 48 bits of the address. Tagged
/// and untagged frames of one host thus never disturb each other's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbKey(u64);

impl FdbKey {
    /// The key of `mac` in `vlan`; 0 for untagged frames.
    #[inline]
    pub const fn new(mac: MacAddr, vlan: u16) -> Self {
        Self((vlan as u64 & 0xfff) << 48 | mac.to_u48())
    }

    /// The address.
    pub const fn mac(self) -> MacAddr {
        MacAddr::from_u48(self.0)
    }

    /// The VLAN id.
    pub const fn vlan(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The packed number.
    #[inline]
    pub(super) const fn number(self) -> u64 {
        self.0
    }
}

/// How an entry came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// From a frame; ages.
    Learned,
    /// From a person; never ages, never moves.
    Static,
    /// The address of a host port; never ages, never moves, and goes with its port.
    Local,
    /// From a control plane; never ages. Frames from elsewhere do not move it, but for those of a port
    /// if it is behind a remote VTEP.
    Control,
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// Where the address is.
    pub egress: Egress,
    /// How the entry came about.
    pub kind: EntryKind,
    /// Moves within the present window.
    pub moves: u16,
    /// When the source was last seen, to within a second.
    pub updated: Timestamp,
    /// Until when it is held where it is; in the past if it is not.
    pub frozen_until: Timestamp,
    /// When the window of `moves` began.
    pub(super) window: Timestamp,
}

/// The rules of one bridge's FDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbPolicy {
    pub(super) limit: u32,
    pub(super) fair: bool,
    pub(super) flap_limit: u16,
    pub(super) learns: bool,
    pub(super) refresh_ns: u64,
    pub(super) lifetime_ns: u64,
}

impl FdbPolicy {
    /// The window in which moves are counted, and for how long a flapping address is then held
    /// (RFC 7432 §15.1: N moves in M = 180 seconds).
    pub const FLAP_WINDOW: Duration = Duration::from_secs(180);

    /// An entry lives for `ageing` (zero: nothing is learned, as the kernel's `hold_time() == 0`);
    /// at most `limit` are learned, and when they are, `fair` makes room for ports that have less
    /// than others; an address that moves `flap_limit` times in a window is held (0: never).
    pub fn new(ageing: Duration, limit: u32, fair: bool, flap_limit: u16) -> Self {
        // A source that is seen again within this time is not written down again: at most one
        // write a second for each address. It is added to the lifetime, so no entry dies early.
        let refresh = (ageing / 20).min(Duration::from_secs(1));
        Self {
            limit,
            fair,
            flap_limit,
            learns: !ageing.is_zero(),
            refresh_ns: nanos(refresh),
            lifetime_ns: nanos(ageing.saturating_add(refresh)),
        }
    }
}

impl FdbPolicy {
    /// How many entries are learned at most.
    pub fn limit(&self) -> u32 {
        self.limit
    }
}

impl FdbEntry {
    pub(super) fn new(egress: Egress, now: Timestamp) -> Self {
        Self {
            egress,
            kind: EntryKind::Learned,
            moves: 0,
            updated: now,
            frozen_until: Timestamp::ZERO,
            window: now,
        }
    }

    /// Whether it is dead at `now`.
    pub fn is_aged(&self, now: Timestamp, policy: &FdbPolicy) -> bool {
        self.kind == EntryKind::Learned && now.nanos_since(self.updated) > policy.lifetime_ns
    }

    /// Whether its source was written down so recently that once more would be a waste.
    pub(super) fn is_fresh(&self, now: Timestamp, policy: &FdbPolicy) -> bool {
        self.kind != EntryKind::Learned || now.nanos_since(self.updated) < policy.refresh_ns
    }

    /// Counts a move; true if it was the one after which the address is held.
    pub(super) fn count_move(&mut self, now: Timestamp, policy: &FdbPolicy) -> bool {
        if now.since(self.window) > FdbPolicy::FLAP_WINDOW {
            self.window = now;
            self.moves = 0;
        }
        self.moves = self.moves.saturating_add(1);
        let flapping = policy.flap_limit > 0 && self.moves >= policy.flap_limit;
        if flapping {
            self.frozen_until = now + FdbPolicy::FLAP_WINDOW;
            // A new window begins when the hold is over.
            self.window = self.frozen_until;
            self.moves = 0;
        }
        flapping
    }
}
