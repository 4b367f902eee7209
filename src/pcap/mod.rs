//! Capture files: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng).

mod read;
mod write;

pub use self::{
    read::{LinkType, Packet, ReadError, Reader, is_capture},
    write::{Blocks, Direction, Drops, InterfaceId, Writer},
};
