//! The seam to the network under the overlay: how datagrams of one VXLAN endpoint come and go.

use std::{
    fmt,
    io::IoSlice,
    net::{IpAddr, SocketAddr},
};

use crate::bridge::DropReason;

/// The UDP sockets of a VXLAN endpoint. Shared: one worker receives, any worker transmits.
pub trait UnderlayIo: fmt::Debug + Send + Sync {
    /// Reads one message into `buf`. Never blocks.
    fn receive(&self, buf: &mut [u8]) -> Arrived;

    /// Writes one message, whose datagrams lie in `parts`. Never blocks.
    fn transmit(&self, departure: &Departure, parts: &[IoSlice<'_>]) -> Departed;

    /// How many datagrams one message may hold now; 1 without `UDP_SEGMENT`.
    fn most_in_message(&self) -> usize;

    /// The path MTU to `to`, asked of the kernel: after [`Departed::TooLong`].
    fn path_mtu(&self, to: SocketAddr) -> Option<u32>;

    /// What a datagram to `to` would meet now, found out without sending any; `None` if nothing is
    /// known to be in its way.
    fn obstacle(&self, _to: SocketAddr) -> Option<DropReason> {
        None
    }

    /// The UDP port that datagrams of this flow leave from, if that is known before they do.
    fn source_port(&self, _flow: u32) -> Option<u16> {
        None
    }
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A message.
    Message(Arrival),
    /// Nothing more for now.
    Empty,
}

/// One message: a datagram, or several of one sender that the kernel joined (`UDP_GRO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Bytes of all datagrams.
    pub len: usize,
    /// Who sent them.
    pub from: IpAddr,
    /// From which UDP port.
    pub port: u16,
    /// Bytes of each datagram but the last, if the kernel said so.
    pub segment: Option<usize>,
    /// The TOS or traffic class of the outer header.
    pub tos: u8,
}

/// How a message goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// To whom.
    pub to: SocketAddr,
    /// Chooses the source port: the same for all datagrams of an inner flow.
    pub flow: u32,
    /// TOS or traffic class of the outer header.
    pub tos: u8,
    /// Bytes of each datagram but the last, if there are several.
    pub segment: Option<u16>,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departed {
    /// It is on its way.
    Sent,
    /// It is lost, for this reason.
    Dropped(DropReason),
    /// Its datagrams are longer than the path takes; none went out.
    TooLong,
    /// So many datagrams in a message are not supported; [`UnderlayIo::most_in_message`] says less
    /// from now on, in the end 1.
    Unsupported,
}
