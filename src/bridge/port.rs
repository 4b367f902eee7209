//! Ports and remote VTEPs as a bridge sees them: numbers, and for ports flags.

use std::fmt;

/// A port's number in the switch: small, and an index into every table of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u16);

impl PortId {
    /// How many ports a switch can have.
    pub const LIMIT: usize = 4096;

    /// Port number `index`; `None` beyond [`Self::LIMIT`].
    pub const fn new(index: usize) -> Option<Self> {
        if index < Self::LIMIT {
            #[expect(clippy::cast_possible_truncation, reason = "below 4096")]
            return Some(Self(index as u16));
        }
        None
    }

    /// The port whose number this is.
    #[inline(always)]
    pub(super) const fn of_number(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a remote VTEP of one VNI: small, and an index into every table of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u16);

impl PeerId {
    /// How many there can be, over all VNIs.
    pub const LIMIT: usize = 16_384;
    /// A VTEP that nobody has heard of yet: what it sends teaches nothing.
    pub const STRANGER: Self = Self(u16::MAX);

    /// Number `index`; `None` beyond [`Self::LIMIT`].
    pub const fn new(index: usize) -> Option<Self> {
        if index < Self::LIMIT {
            #[expect(clippy::cast_possible_truncation, reason = "below 16384")]
            return Some(Self(index as u16));
        }
        None
    }

    /// The remote VTEP whose number this is.
    #[inline(always)]
    pub(super) const fn of_number(number: u16) -> Self {
        Self(number)
    }

    #[inline(always)]
    pub(super) const fn number(self) -> u16 {
        self.0
    }

    /// The number.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a bridge may do with a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFlags(u16);

impl PortFlags {
    /// No flag: not a member of the bridge.
    pub const NONE: Self = Self(0);
    /// It belongs to the bridge.
    pub const MEMBER: Self = Self(1);
    /// It forwards.
    pub const UP: Self = Self(1 << 1);
    /// The bridge learns its sources.
    pub const LEARNING: Self = Self(1 << 2);
    /// It gets unicast to unknown destinations.
    pub const FLOOD: Self = Self(1 << 3);
    /// It gets multicast.
    pub const MCAST_FLOOD: Self = Self(1 << 4);
    /// It gets broadcast.
    pub const BCAST_FLOOD: Self = Self(1 << 5);
    /// It is kept apart from other isolated ports.
    pub const ISOLATED: Self = Self(1 << 6);
    /// Frames may go back out of it.
    pub const HAIRPIN: Self = Self(1 << 7);
    /// It accepts only sources that the FDB has on it.
    pub const LOCKED: Self = Self(1 << 8);
    /// Derived by the bridge: up, learning, not locked, and the bridge is a switch, so that a frame
    /// between known stations needs no more questions.
    pub(super) const PLAIN: Self = Self(1 << 9);
    /// A member with the kernel's defaults for a new bridge port.
    pub const DEFAULT: Self = Self(
        Self::MEMBER.0
            | Self::UP.0
            | Self::LEARNING.0
            | Self::FLOOD.0
            | Self::MCAST_FLOOD.0
            | Self::BCAST_FLOOD.0,
    );

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The flags that both have.
    #[inline]
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// With `flag` set or cleared.
    #[must_use]
    pub const fn with(self, flag: Self, set: bool) -> Self {
        if set {
            Self(self.0 | flag.0)
        } else {
            Self(self.0 & !flag.0)
        }
    }
}
