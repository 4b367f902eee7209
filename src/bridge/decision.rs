//! What a bridge says about a frame: values, not actions.

use std::fmt;

use super::PortId;

/// Where a frame came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ingress {
    /// A port of the switch.
    Port(PortId),
}

/// Where a frame may go out, and what an FDB entry points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Egress {
    /// A port of the switch.
    Port(PortId),
}

impl Egress {
    /// The port, if that is what it is.
    #[inline]
    pub const fn port(self) -> Option<PortId> {
        let Self::Port(port) = self;
        Some(port)
    }
}

/// What becomes of one frame, and what it taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the FDB made of the source address.
    pub learn: Learn,
    /// Where the frame goes.
    pub decision: Decision,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this one place.
    Forward(Egress),
    /// To every place in [`Bridge::flood_targets`](super::Bridge::flood_targets) of this class:
    /// at least one.
    Flood(FloodClass),
    /// Nowhere.
    Drop(DropReason),
}

/// Why a frame is flooded. Each class has its own switch on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloodClass {
    /// Unicast to an address that the FDB does not know.
    UnknownUnicast,
    /// A group address other than broadcast.
    Multicast,
    /// `ff:ff:ff:ff:ff:ff`.
    Broadcast,
    /// The bridge is a hub or a wire and floods everything.
    Repeat,
}

impl fmt::Display for FloodClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UnknownUnicast => "unknown unicast",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Repeat => "repeated",
        })
    }
}

/// What the FDB made of a source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learn {
    /// Nothing: the frame was dropped before, or neither bridge nor port learns.
    Off,
    /// It was known here already.
    Known,
    /// It is new.
    New,
    /// It was elsewhere before.
    Moved {
        /// Where.
        from: Egress,
    },
    /// Likewise, and this was the move after which it is held where it is.
    Flapping {
        /// Where it was before.
        from: Egress,
    },
    /// It moved too often and is held elsewhere for now.
    Frozen,
    /// It belongs to a static or local entry elsewhere, which stays.
    Pinned,
    /// The FDB is full.
    Full,
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $text:literal;)*) => {
        /// Why a frame, or one copy of it, was not delivered. A closed list: every loss has one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The key in `--json` and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What happened, in words.
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    /// Fewer bytes than its Ethernet header, or its VLAN tag, needs.
    Truncated = "truncated", "the frame ends inside its Ethernet header or VLAN tag";
    /// The virtio-net header contradicts the frame.
    BadOffload = "bad_offload", "the offload header contradicts the frame";
    /// It came in on a port that is administratively down.
    PortDown = "port_down", "its ingress port is administratively down";
    /// A group address as source (IEEE 802.3 clause 3.2.3 allows none).
    SrcGroup = "src_group", "its source is a group address";
    /// An all-zero source.
    SrcZero = "src_zero", "its source is 00:00:00:00:00:00";
    /// A reserved group address (IEEE 802.1D-2004 table 7-10).
    ReservedAddress = "reserved_address", "its destination 01:80:c2:00:00:0x is never relayed by a bridge";
    /// The ingress port is locked and its source is not in the FDB there.
    Locked = "locked", "its ingress port is locked and the source is not in the FDB there";
    /// The destination is where it came from.
    SamePort = "same_port", "its destination is behind the port that it came from";
    /// Ingress and egress are both isolated.
    Isolated = "isolated", "its ingress and egress ports are both isolated";
    /// The class is not flooded to any port.
    FloodDisabled = "flood_disabled", "flooding of its class is off on every other port";
    /// There is nobody else on the bridge.
    NoEgress = "no_egress", "no other port of the bridge is up";
    /// The egress port is down, here or inside its namespace.
    EgressDown = "egress_down", "its egress port is down";
    /// Larger than the egress port's MTU.
    TooBig = "too_big", "it is larger than the MTU of its egress port";
    /// The egress takes no more right now.
    EgressFull = "egress_full", "the queue of its egress port is full";
    /// The egress device or its namespace went away.
    EgressGone = "egress_gone", "the device of its egress port is gone";
    /// The kernel refused the write for another reason.
    EgressRefused = "egress_refused", "the kernel refused to take it";
}

impl DropReason {
    /// Its place in [`Self::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
