//! The seam to the outside: what a port must be able to do.

use std::{fmt, io::IoSlice};

use crate::{bridge::DropReason, offload::Offloads};

/// How frames get in and out of one port. Shared: its owner receives, any worker transmits.
///
/// On both ways the bytes are a [`VirtioNetHdr`](crate::wire::VirtioNetHdr) followed by the frame;
/// an engine without that header strips it, or puts an empty one in front.
pub trait PortIo: fmt::Debug + Send + Sync {
    /// Reads one frame into `buf`. Never blocks.
    fn receive(&self, buf: &mut [u8]) -> Received;

    /// Writes one frame. Never blocks.
    fn transmit(&self, buf: &[u8]) -> Transmitted;

    /// Writes one frame that lies in pieces, the header being the first.
    fn transmit_parts(&self, parts: &[IoSlice<'_>]) -> Transmitted;

    /// What may be left undone in a frame that is transmitted here.
    fn offloads(&self) -> Offloads;

    /// What a write would meet now, found out without writing anything; `None` if nothing is known
    /// to be in its way.
    fn obstacle(&self) -> Option<DropReason> {
        None
    }
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, header included.
    Frame(usize),
    /// Nothing more for now.
    Empty,
    /// The device is gone for good.
    Gone,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmitted {
    /// The frame is delivered.
    Sent,
    /// It is lost, for this reason.
    Dropped(DropReason),
    /// Not taken, because of what its header leaves undone. The port's offloads are fewer from now
    /// on; the frame is to be finished in software and transmitted again.
    Unsupported,
}
