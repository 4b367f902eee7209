//! The overlay's own bytes: Ethernet frames in UDP datagrams (RFC 7348).
//!
//! ```text
//!   underlay                                 overlay
//!  | outer IP | UDP | VXLAN |               inner frame              |
//!  |   20/40  |  8  |   8   | Ethernet 14, tags, IP, TCP or UDP, ... |
//! ```
//! The kernel writes the outer IP and UDP headers. Here is the rest: [`parse()`] and [`header()`]
//! for the 8 bytes in between, [`entropy()`] to pick the source port, [`ecn`] for the two bits that
//! cross the border, [`split()`] for the messages that the kernel has joined, [`too_big`] for the
//! sender of what does not fit, and [`ping`] for the frames of our own.
//!
//! Heads up: a datagram comes from anybody who can reach the port, and what is in it from anybody
//! behind that. Nothing here fails on any bytes, and no loop is longer than the message.
//!
//! ```
//! use tapswitch::{sim::frames, vxlan, wire::Vni};
//!
//! let frame = frames::arp_request(1, 2);
//! let vni = Vni::new(42).unwrap();
//! assert_eq!(vxlan::header(vni), [0x08, 0, 0, 0, 0, 0, 42, 0]);
//!
//! let payload = [&vxlan::header(vni)[..], &frame].concat();
//! let (header, inner) = vxlan::parse(&payload).unwrap();
//! assert_eq!((header.vni, header.reserved, inner), (vni, false, &frame[..]));
//! assert_eq!(vxlan::parse(&[0; 8]).unwrap_err(), vxlan::BadDatagram::NoVni);
//!
//! // One flow keeps to one source port, whatever its segments carry.
//! let flow = |sequence| vxlan::entropy(&frames::tcp4(1, 2, sequence, b"x"));
//! assert_eq!(flow(1), flow(1000));
//!
//! // What pods may have of a path of 1500 bytes.
//! assert_eq!((1500 - vxlan::overhead(false), 1500 - vxlan::overhead(true)), (1450, 1430));
//! ```
//!
//! # Where trusted systems disagree
//! | question | here | others |
//! | --- | --- | --- |
//! | reserved bits in the header | ignored and told (RFC 7348 §5) | the kernel, Open vSwitch and VPP drop |
//! | the congestion mark of an inner CE | copied (RFC 6040 §4.1, normal mode) | the kernel sends ECT(0) |
//! | packets behind a VLAN tag | marked, hashed and answered behind up to two tags | the kernel neither marks nor answers them |
//! | a frame that ends inside its IP header | left to the receiver | the kernel drops |

pub mod ecn;
mod entropy;
mod header;
mod inner;
pub mod ping;
mod split;
pub mod too_big;

pub use self::{
    entropy::entropy,
    header::{
        BadDatagram, HEADER_LEN, Header, PORT, SOURCE_PORTS, encap_len, header, headers,
        ip_udp_len, overhead, parse,
    },
    split::{Datagrams, split},
};
