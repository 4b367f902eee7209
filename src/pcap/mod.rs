//! Capture files: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng).
//!
//! ```
//! use std::{io::Cursor, time::Duration};
//! use tapswitch::{pcap::{Direction, Reader, Writer}, sim::frames, time::Timestamp};
//!
//! let frame = frames::arp_request(1, 2);
//! let mut file = Vec::new();
//! let mut writer = Writer::new(65_535);
//! writer.section(&mut file, "an exercise");
//! let pod = writer.interface(&mut file, "podA", "a port");
//! let at = Timestamp::from_millis(1_500);
//! writer.packet(&mut file, (pod, Direction::Inbound), at, (frame.len(), &frame), "the first one");
//!
//! let packets: Vec<_> = Reader::new(Cursor::new(file)).unwrap().collect::<Result<_, _>>().unwrap();
//! assert_eq!(packets.len(), 1);
//! assert_eq!(packets[0].bytes, frame);
//! assert_eq!(packets[0].interface.as_deref(), Some("podA"));
//! assert_eq!(packets[0].comments, ["the first one"]);
//! assert_eq!(packets[0].time, Some(Duration::from_millis(1_500)));
//! ```

mod read;
mod write;

pub use self::{
    read::{LinkType, Packet, ReadError, Reader, is_capture},
    write::{Blocks, Direction, Drops, InterfaceId, Writer},
};
