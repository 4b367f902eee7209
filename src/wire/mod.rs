//! What bytes mean: addresses, headers and checksums.
//!
//! A view checks once, in `new_checked`, and its accessors cannot fail afterwards. A frame that
//! does not pass the check is a counted drop, never an error and never a panic. Frames come from
//! strangers: nothing here indexes by a number that the bytes themselves supplied without checking.
//!
//! ```
//! use tapswitch::{sim::frames, wire::{EtherType, Frame, MacAddr, checksum, describe}};
//!
//! let bytes = frames::arp_request(1, 2);
//! let frame = Frame::new_checked(&bytes).unwrap();
//! assert_eq!(frame.src(), "02:00:00:00:00:01".parse().unwrap());
//! assert_eq!(frame.dst(), MacAddr::BROADCAST);
//! assert_eq!(frame.ether_type(), EtherType::ARP);
//! assert_eq!(describe(&bytes), "arp who-has 192.0.2.2 tell 192.0.2.1");
//!
//! // The checksum of an IPv4 header is right if all of it, the checksum included, adds up to ones.
//! let udp = frames::udp4(1, 2, b"hello");
//! assert_eq!(checksum::sum(&udp[14..34]).fold(), 0xffff);
//! ```

mod describe;
mod ethernet;
mod hosts;
mod mac;
mod virtio;
mod vni;

pub mod checksum;

pub(crate) use self::describe::bytes;
pub use self::{
    describe::{describe, describe_header},
    ethernet::{EtherType, Frame, Truncated},
    hosts::hosts,
    mac::{MacAddr, ParseMacError, group_address},
    virtio::{GsoType, VirtioNetHdr},
    vni::{ParseVniError, Vni},
};
