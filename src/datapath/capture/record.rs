//! What is known of a captured frame beside its bytes.

use std::ops::Range;

use crate::{
    bridge::{
        Decision, DropReason, Egress, FdbEntry, FdbKey, FloodClass, Ingress, Learn, PeerId, PortId,
    },
    datapath::Transmitted,
    time::Timestamp,
    wire::VirtioNetHdr,
};

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// At a port.
    Port(PortId),
    /// On the way from or to a remote VTEP.
    Peer(PeerId),
    /// At the VXLAN endpoint, from no VTEP that is known.
    Vtep,
}

/// On its way in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Into the switch.
    In,
    /// Out of it.
    Out,
}

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// The frame, as it is in the switch: after decapsulation, before encapsulation.
    Inner,
    /// The datagram around it, as it is on the underlay. The kernel writes its headers and does not
    /// show them, so they are made again from what is known of them.
    Outer,
}

/// What became of it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// In: it goes to one place.
    Forwarded(Egress),
    /// In: it goes to so many.
    Flooded(FloodClass, u16),
    /// In or out: it is lost.
    Dropped(DropReason),
    /// In: a datagram that a frame was taken out of.
    Decapsulated,
    /// In: a probe, which the endpoint takes itself.
    Consumed,
    /// Out: taken by the kernel, as the joined frame of so many.
    Delivered(u16),
}

/// A row of the FDB: the destination's, which decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Address and VLAN.
    pub key: FdbKey,
    /// Where it is, and since when.
    pub entry: FdbEntry,
}

/// One frame, or one copy of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When: the beginning of the worker's round.
    pub at: Timestamp,
    /// Where.
    pub place: Place,
    /// Which way.
    pub side: Side,
    /// In which form.
    pub form: Form,
    /// What became of it.
    pub fate: Fate,
    /// Out: where the frame came in; `None`: the switch made it itself.
    pub from: Option<Ingress>,
    /// In: what its source taught.
    pub learn: Learn,
    /// In: the row of the FDB that was used.
    pub row: Option<Row>,
    /// What was left undone in it.
    pub header: VirtioNetHdr,
    /// How long it is.
    pub len: usize,
    /// Where its bytes are in the chunk.
    pub(in crate::datapath) bytes: Range<usize>,
}

impl Record {
    /// About a frame of which nothing more is known.
    pub(in crate::datapath) fn new(place: Place, side: Side, form: Form, fate: Fate) -> Self {
        Self {
            at: Timestamp::ZERO,
            place,
            side,
            form,
            fate,
            from: None,
            learn: Learn::Off,
            row: None,
            header: VirtioNetHdr::none(),
            len: 0,
            bytes: 0..0,
        }
    }
}

impl Fate {
    /// Whether it is lost.
    pub fn is_drop(self) -> bool {
        matches!(self, Self::Dropped(_))
    }

    /// What the decision about a frame with so many copies makes of it.
    pub(in crate::datapath) fn of(decision: Decision, copies: usize) -> Self {
        match decision {
            Decision::Forward(to) => Self::Forwarded(to),
            Decision::Flood(class) => {
                Self::Flooded(class, u16::try_from(copies).unwrap_or(u16::MAX))
            }
            Decision::Drop(reason) => Self::Dropped(reason),
        }
    }

    /// What came of writing so many frames as one.
    pub(in crate::datapath) fn sent(sent: Transmitted, frames: usize) -> Self {
        match sent {
            Transmitted::Sent => Self::Delivered(u16::try_from(frames).unwrap_or(u16::MAX)),
            Transmitted::Dropped(reason) => Self::Dropped(reason),
            Transmitted::Unsupported => Self::Dropped(DropReason::EgressRefused),
        }
    }
}

impl From<Egress> for Place {
    fn from(egress: Egress) -> Self {
        match egress {
            Egress::Port(port) => Self::Port(port),
            Egress::Peer(peer) => Self::Peer(peer),
        }
    }
}

impl From<Ingress> for Place {
    fn from(ingress: Ingress) -> Self {
        match ingress {
            Ingress::Port(port) => Self::Port(port),
            Ingress::Peer(PeerId::STRANGER) => Self::Vtep,
            Ingress::Peer(peer) => Self::Peer(peer),
        }
    }
}
