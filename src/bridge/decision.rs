//! What a bridge says about a frame: values, not actions.

use std::fmt;

use super::{PeerId, PortId};

/// Where a frame came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ingress {
    /// A port of the switch.
    Port(PortId),
    /// A remote VTEP.
    Peer(PeerId),
}

/// Where a frame may go out, and what an FDB entry points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Egress {
    /// A port of the switch.
    Port(PortId),
    /// A remote VTEP.
    Peer(PeerId),
}

impl Ingress {
    /// The way back to where it came in.
    #[inline]
    pub const fn back(self) -> Egress {
        match self {
            Self::Port(port) => Egress::Port(port),
            Self::Peer(peer) => Egress::Peer(peer),
        }
    }
}

/// What the number of a remote VTEP has and that of a port has not.
const PEER: u64 = PeerId::LIMIT as u64;
const _: () = assert!(PortId::LIMIT <= PeerId::LIMIT && PeerId::LIMIT.is_power_of_two());

impl Egress {
    /// The port, if that is what it is.
    #[inline]
    pub const fn port(self) -> Option<PortId> {
        match self {
            Self::Port(port) => Some(port),
            Self::Peer(_) => None,
        }
    }

    /// As a number of 16 bits.
    #[inline(always)]
    pub(super) const fn pack(self) -> u64 {
        match self {
            Self::Port(port) => port.index() as u64,
            Self::Peer(peer) => peer.index() as u64 | PEER,
        }
    }

    /// The inverse of [`Self::pack`].
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it was packed into 16 bits"
    )]
    pub(super) const fn unpack(packed: u64) -> Self {
        if packed & PEER == 0 {
            Self::Port(PortId::of_number(packed as u16))
        } else if packed as u16 == PeerId::STRANGER.number() {
            Self::Peer(PeerId::STRANGER)
        } else {
            Self::Peer(PeerId::of_number((packed ^ PEER) as u16))
        }
    }

    /// The remote VTEP, if that is what it is.
    #[inline]
    pub const fn peer(self) -> Option<PeerId> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Port(_) => None,
        }
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

impl Verdict {
    /// Both stations are known, and nothing speaks against it.
    #[inline(always)]
    pub(super) const fn known(egress: Egress) -> Self {
        Self {
            learn: Learn::Known,
            decision: Decision::Forward(egress),
        }
    }
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
    /// From one remote VTEP to another: every VTEP has its own copy already (RFC 8365 §8.3.1).
    SplitHorizon = "split_horizon", "it came from a remote VTEP and is for another one, which gets its own copy";
    /// A remote VTEP sent it with a source that a static or local entry has elsewhere.
    PinnedSource = "pinned_source", "a remote VTEP sent it with the source of a static or local entry";
    /// A datagram with fewer bytes than a VXLAN header.
    VxlanRunt = "vxlan_runt", "the datagram is shorter than a VXLAN header";
    /// The I flag of the VXLAN header is not set (RFC 7348 §5).
    NoVni = "no_vni", "the VXLAN header has no valid VNI";
    /// Reserved bits of the VXLAN header are set, and the endpoint is strict.
    ReservedBits = "reserved_bits", "reserved bits of the VXLAN header are set";
    /// No bridge carries the VNI.
    UnknownVni = "unknown_vni", "no bridge has its VNI";
    /// The outer source is not among the peers of the VNI.
    UnknownPeer = "unknown_peer", "its outer source is no peer of the VNI";
    /// The outer source is this endpoint.
    OwnPacket = "own_packet", "its outer source is this endpoint itself";
    /// Congestion was experienced outside, and the inner packet cannot say so (RFC 6040 §4.2).
    Ecn = "ecn", "the outer header reports congestion to an inner packet without ECN";
    /// The egress port is down, here or inside its namespace.
    EgressDown = "egress_down", "its egress port is down";
    /// Larger than the egress port's MTU, or than what the path to the remote VTEP takes.
    TooBig = "too_big", "it is larger than its egress takes";
    /// The egress takes no more right now.
    EgressFull = "egress_full", "the queue of its egress is full";
    /// The egress device or its namespace went away.
    EgressGone = "egress_gone", "the device of its egress is gone";
    /// The underlay has no way to the remote VTEP.
    NoRoute = "no_route", "the underlay has no way to the remote VTEP";
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
