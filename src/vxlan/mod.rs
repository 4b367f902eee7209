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
