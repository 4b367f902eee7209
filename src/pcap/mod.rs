//! Capture files: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng).

mod read;

pub use self::read::{LinkType, Packet, ReadError, Reader, is_capture};
