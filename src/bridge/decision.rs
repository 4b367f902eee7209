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
    pub(crate) const fn pack(self) -> u64 {
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
    pub(crate) const fn unpack(packed: u64) -> Self {
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

/// Why a place gets no copy of a flooded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftOut {
    /// The frame came from there.
    Ingress,
    /// It is down.
    Down,
    /// Flooding of the class is off there.
    FloodOff,
    /// The ingress is isolated, and so is this.
    Isolated,
    /// The frame came from a remote VTEP, and so this one has its own copy (split horizon).
    SplitHorizon,
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
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $text:literal, $remedy:literal;)*) => {
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

            /// What a human does about it, with the command. Capital letters stand for names.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

drop_reasons! {
    /// Fewer bytes than its Ethernet header, or its VLAN tag, needs.
    Truncated = "truncated",
        "the frame ends inside its Ethernet header or VLAN tag",
        "its sender made a broken frame; look at it: tapswitch capture drops";
    /// The virtio-net header contradicts the frame.
    BadOffload = "bad_offload",
        "the offload header contradicts the frame",
        "a broken driver or program made it; see whether it stays with: ethtool -K eth0 tso off tx off, in the namespace";
    /// It came in on a port that is administratively down.
    PortDown = "port_down",
        "its ingress port is administratively down",
        "set the port up: tapswitch port set PORT up";
    /// A group address as source (IEEE 802.3 clause 3.2.3 allows none).
    SrcGroup = "src_group",
        "its source is a group address",
        "its sender's own address is wrong; give the interface a unicast one: tapswitch port set PORT --mac MAC";
    /// An all-zero source.
    SrcZero = "src_zero",
        "its source is 00:00:00:00:00:00",
        "its sender has no address yet; give the interface one: tapswitch port set PORT --mac MAC";
    /// A reserved group address (IEEE 802.1D-2004 table 7-10).
    ReservedAddress = "reserved_address",
        "its destination 01:80:c2:00:00:0x is never relayed by a bridge",
        "nothing, if the protocol is not meant to cross; else relay it: tapswitch bridge set BRIDGE --forward-reserved lldp";
    /// The ingress port is locked and its source is not in the FDB there.
    Locked = "locked",
        "its ingress port is locked and the source is not in the FDB there",
        "allow this source: tapswitch fdb add MAC --port PORT, or unlock the port: tapswitch port set PORT locked off";
    /// The destination is where it came from.
    SamePort = "same_port",
        "its destination is behind the port that it came from",
        "nothing, if both are behind that port; else let frames turn around: tapswitch port set PORT hairpin on";
    /// Ingress and egress are both isolated.
    Isolated = "isolated",
        "its ingress and egress ports are both isolated",
        "take one of the two out of isolation: tapswitch port set PORT isolated off";
    /// The class is not flooded to any port.
    FloodDisabled = "flood_disabled",
        "flooding of its class is off on every other port",
        "turn it on where it is wanted: tapswitch port set PORT flood on (or mcast-flood, bcast-flood)";
    /// There is nobody else on the bridge.
    NoEgress = "no_egress",
        "no other port of the bridge is up",
        "plug somebody in, or set a port up: tapswitch port set PORT up; to reach another machine, with a VNI: tapswitch peer add IP";
    /// From one remote VTEP to another: every VTEP has its own copy already (RFC 8365 §8.3.1).
    SplitHorizon = "split_horizon",
        "it came from a remote VTEP and is for another one, which gets its own copy",
        "make the two machines peers of each other: tapswitch peer add IP, on both";
    /// A remote VTEP sent it with a source that a static or local entry has elsewhere.
    PinnedSource = "pinned_source",
        "a remote VTEP sent it with the source of a static or local entry",
        "delete the entry if the station has moved: tapswitch fdb del MAC; else somebody there uses its address";
    /// A datagram with fewer bytes than a VXLAN header.
    VxlanRunt = "vxlan_runt",
        "the datagram is shorter than a VXLAN header",
        "something else than VXLAN sends to this port; see who: tapswitch capture drops";
    /// The I flag of the VXLAN header is not set (RFC 7348 §5).
    NoVni = "no_vni",
        "the VXLAN header has no valid VNI",
        "the sender is no VXLAN endpoint, or sets no I flag; check its settings";
    /// Reserved bits of the VXLAN header are set, and the endpoint is strict.
    ReservedBits = "reserved_bits",
        "reserved bits of the VXLAN header are set",
        "its sender uses an extension of VXLAN; turn it off there, or take it as it is: tapswitch vtep set --strict off";
    /// No bridge carries the VNI.
    UnknownVni = "unknown_vni",
        "no bridge has its VNI",
        "give a bridge that VNI: tapswitch bridge set BRIDGE --vni N; or correct it at the sender";
    /// The outer source is not among the peers of the VNI.
    UnknownPeer = "unknown_peer",
        "its outer source is no peer of the VNI",
        "make it a peer: tapswitch peer add IP; or take datagrams from anybody: tapswitch vtep set --accept any";
    /// The outer source is this endpoint.
    OwnPacket = "own_packet",
        "its outer source is this endpoint itself",
        "take this host's own address off the list of peers: tapswitch peer del IP";
    /// Congestion was experienced outside, and the inner packet cannot say so (RFC 6040 §4.2).
    Ecn = "ecn",
        "the outer header reports congestion to an inner packet without ECN",
        "nothing here: the path is congested, and the inner packet cannot be told; the sender's TCP will notice";
    /// The egress port is down, here or inside its namespace.
    EgressDown = "egress_down",
        "its egress port is down",
        "set it up: tapswitch port set PORT up, and in its namespace: ip link set eth0 up";
    /// Larger than the egress port's MTU, or than what the path to the remote VTEP takes.
    TooBig = "too_big",
        "it is larger than its egress takes",
        "make packets small enough to fit: tapswitch bridge set BRIDGE --mtu auto";
    /// The egress takes no more right now.
    EgressFull = "egress_full",
        "the queue of its egress is full",
        "nothing, if it is rare: the receiver is slower than the sender; else see its CPU, and: tapswitch stats --watch";
    /// TCP keeps more waiting for the tunnel than helps it, and a loss tells it so (RFC 7567).
    StandingQueue = "standing_queue",
        "its TCP keeps a queue standing before the tunnel, and is told to slow down",
        "nothing: TCP sends it again, and is faster with a short queue; to see the difference: tapswitch run --aqm off";
    /// The egress device or its namespace went away.
    EgressGone = "egress_gone",
        "the device of its egress is gone",
        "wait until its namespace is back, or delete it: tapswitch port del PORT; see: tapswitch show";
    /// The underlay has no way to the remote VTEP.
    NoRoute = "no_route",
        "the underlay has no way to the remote VTEP",
        "give this host a way to it: ip route add; see which it takes: ip route get IP";
    /// The kernel refused the write for another reason.
    EgressRefused = "egress_refused",
        "the kernel refused to take it",
        "see the kernel's reason: dmesg; and try without offloads: tapswitch run --offload off";
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
