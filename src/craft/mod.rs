//! Frames from words: `arp who-has 10.1.1.20`, `icmp 10.1.1.10 > 10.1.1.20 len 1472`.
//!
//! [`parse()`] reads the words, which are those that `tcpdump` prints where it has any; whoever sends
//! the frame fills in what was left out; [`Packet::build`] makes the bytes, as a host's kernel
//! would.
//!
//! ```
//! use tapswitch::{craft::{self, Sender}, wire::describe};
//!
//! let packet = craft::parse("arp who-has 192.0.2.2").unwrap();
//! let sender = Sender { mac: "02:00:00:00:00:01".parse().unwrap(), addresses: vec!["192.0.2.1".parse().unwrap()] };
//! let built = packet.build(&sender, None).unwrap();
//! assert_eq!(describe(&built.frame), "arp who-has 192.0.2.2 tell 192.0.2.1");
//! ```

mod build;
mod parse;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use self::{
    build::{BuildError, Built, Sender},
    parse::{ParseError, parse},
};
use crate::wire::{MacAddr, group_address};

/// A packet, described. What is `None` is for the sender to fill in.
///
/// ```
/// use tapswitch::craft::{Kind, Packet, parse};
///
/// let packet = parse("icmp 192.0.2.1 > 192.0.2.2 len 100 ttl 3").unwrap();
/// assert_eq!(packet.kind, Kind::Echo { sequence: 1 });
/// assert_eq!((packet.len, packet.ttl, packet.df), (Some(100), 3, true));
/// // Somebody has to say which station that is; of a group nobody has to.
/// assert_eq!(packet.asks_for(), Some("192.0.2.2".parse().unwrap()));
/// assert_eq!(Packet::new(packet.kind, "224.0.0.1".parse().unwrap()).asks_for(), None);
///
/// let error = parse("icmp 192.0.2.1 > 2001:db8::2").unwrap_err();
/// assert_eq!(error.column, 18);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub kind: Kind,
    /// Its IP source, or who asks.
    pub src: Option<IpAddr>,
    /// Its IP destination, or who is asked for.
    pub dst: IpAddr,
    /// Its Ethernet source.
    pub src_mac: Option<MacAddr>,
    /// Its Ethernet destination.
    pub dst_mac: Option<MacAddr>,
    /// VLAN ids, outermost first.
    pub vlans: Vec<u16>,
    /// Bytes behind the transport header.
    pub len: Option<usize>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Whether routers must not fragment it (IPv4). Hosts that look for the path MTU, as Linux
    /// does, say so.
    pub df: bool,
    /// The most that a segment may carry: what is longer is handed over as one superframe.
    pub mss: Option<u16>,
    /// The state of its transport checksum.
    pub checksum: Checksum,
}

/// What a [`Packet`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks for the MAC address of an IPv4 host.
    ArpRequest,
    /// Tells it.
    ArpReply {
        /// The address.
        is_at: MacAddr,
    },
    /// Asks for the MAC address of an IPv6 host (RFC 4861 §4.3).
    NeighborSolicitation,
    /// An echo request, as `ping` sends it; of ICMPv6 if the addresses are of IPv6.
    Echo {
        /// Its sequence number.
        sequence: u16,
    },
    /// A datagram.
    Udp {
        /// Source port.
        from: u16,
        /// Destination port.
        to: u16,
    },
    /// A segment.
    Tcp {
        /// Source port.
        from: u16,
        /// Destination port.
        to: u16,
        /// The flags; without any, SYN if it carries nothing, else PSH and ACK.
        flags: TcpFlags,
    },
}

/// The flags of a TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the flag of that name")]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub struct TcpFlags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    pub psh: bool,
}

/// The state of a transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It is right.
    #[default]
    Right,
    /// It is left to whoever sends the frame on, as kernels do where they may.
    Unfinished,
    /// It is wrong.
    Wrong,
}

impl Packet {
    /// A packet of this kind to `dst`, with nothing said about the rest.
    pub fn new(kind: Kind, dst: IpAddr) -> Self {
        Self {
            kind,
            src: None,
            dst,
            src_mac: None,
            dst_mac: None,
            vlans: Vec::new(),
            len: None,
            ttl: 64,
            tos: 0,
            df: true,
            mss: None,
            checksum: Checksum::Right,
        }
    }

    /// The host whose MAC address is needed to send it; `None` if that goes without asking anybody.
    pub fn asks_for(&self) -> Option<IpAddr> {
        let is_known = self.dst_mac.is_some()
            || matches!(self.kind, Kind::ArpRequest | Kind::NeighborSolicitation)
            || group_address(self.dst).is_some();
        (!is_known).then_some(self.dst)
    }
}
