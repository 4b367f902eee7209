//! Where the headers of an inner frame are, as far as anybody here needs to know.
//!
//! Behind up to [`MAX_TAGS`] VLAN tags and, with IPv6, up to [`MAX_EXTENSIONS`] extension headers.

use crate::wire::{EtherType, Frame};

/// VLAN tags that are looked behind: a customer's and a provider's.
const MAX_TAGS: usize = 2;

/// IPv6 extension headers that are looked behind. RFC 8200 §4.1 knows seven, in one order.
const MAX_EXTENSIONS: usize = 8;

/// Whether a packet is one of several that make a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// The whole datagram.
    Whole,
    /// The fragment that starts with the datagram's layer-4 header.
    First,
    /// Any other.
    Later,
}

/// An IP packet in a frame. Its fixed header is inside the frame, and so are IPv4 options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) is_v6: bool,
    /// Where the IP header starts.
    pub(super) l3: usize,
    /// Where that starts which `protocol` names; `None` if that is beyond the frame, or behind too
    /// many extension headers.
    pub(super) l4: Option<usize>,
    /// The last protocol number found. All fragments of a datagram agree on it.
    pub(super) protocol: u8,
    pub(super) fragment: Fragment,
    /// Bytes of the packet from its IP header on, as that claims: it may well lie.
    pub(super) len: usize,
}

/// What an IPv6 chain of extension headers leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub(super) at: Option<usize>,
    pub(super) protocol: u8,
    pub(super) fragment: Fragment,
}

impl Packet {
    /// The packet in `frame`; `None` if there is none, or less than its header.
    #[inline]
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let (ether_type, l3) = network(frame)?;
        match ether_type {
            EtherType::IPV4 => Self::parse_v4(frame, l3),
            EtherType::IPV6 => Self::parse_v6(frame, l3),
            _ => None,
        }
    }

    #[inline]
    fn parse_v4(frame: &[u8], l3: usize) -> Option<Self> {
        let ip: &[u8; V4_HEADER] = frame.get(l3..)?.first_chunk()?;
        let header = usize::from(ip[0] & 0xf) * 4;
        let l4 = l3 + header;
        if ip[0] >> 4 != 4 || header < V4_HEADER || l4 > frame.len() {
            return None;
        }
        let place = u16::from_be_bytes([ip[6], ip[7]]);
        let fragment = if place & 0x1fff != 0 {
            Fragment::Later
        } else if place & 0x2000 != 0 {
            Fragment::First
        } else {
            Fragment::Whole
        };
        Some(Self {
            is_v6: false,
            l3,
            l4: Some(l4),
            protocol: ip[9],
            fragment,
            len: u16::from_be_bytes([ip[2], ip[3]]).into(),
        })
    }

    #[inline]
    fn parse_v6(frame: &[u8], l3: usize) -> Option<Self> {
        let ip: &[u8; V6_HEADER] = frame.get(l3..)?.first_chunk()?;
        if ip[0] >> 4 != 6 {
            return None;
        }
        let chain = chain(frame, l3 + V6_HEADER, ip[6]);
        Some(Self {
            is_v6: true,
            l3,
            l4: chain.at,
            protocol: chain.protocol,
            fragment: chain.fragment,
            len: V6_HEADER + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
        })
    }
}

/// The type behind the VLAN tags, and where what it names starts; `None` if the frame ends before.
/// Behind more tags than [`MAX_TAGS`], the type is that of a tag.
#[inline]
pub(super) fn network(frame: &[u8]) -> Option<(EtherType, usize)> {
    let mut at = Frame::HEADER_LEN;
    let mut ether_type = type_before(frame, at)?;
    for _ in 0..MAX_TAGS {
        if !ether_type.is_tag() {
            break;
        }
        at += Frame::TAG_LEN;
        ether_type = type_before(frame, at)?;
    }
    Some((ether_type, at))
}

#[inline]
fn type_before(frame: &[u8], at: usize) -> Option<EtherType> {
    let &[high, low] = frame.get(at - 2..at)?.first_chunk()?;
    Some(EtherType(u16::from_be_bytes([high, low])))
}

/// Steps over extension headers in any order, up to and including the first fragment header.
#[inline]
pub(super) fn chain(frame: &[u8], at: usize, protocol: u8) -> Chain {
    if is_extension(protocol) {
        return long_chain(frame, at, protocol);
    }
    Chain {
        at: (at <= frame.len()).then_some(at),
        protocol,
        fragment: Fragment::Whole,
    }
}

#[inline(never)]
fn long_chain(frame: &[u8], mut at: usize, mut protocol: u8) -> Chain {
    let mut left = MAX_EXTENSIONS;
    let mut fragment = Fragment::Whole;
    let is_found = loop {
        if !is_extension(protocol) || fragment != Fragment::Whole {
            break at <= frame.len();
        }
        let extension = frame.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let (Some(&[next, len, high, low, ..]), 1..) = (extension, left) else {
            break false;
        };
        if protocol == FRAGMENT {
            // RFC 8200 §4.5: 13 bits of offset, two reserved, one that says that more follow.
            let offset = u16::from_be_bytes([high, low]) >> 3;
            fragment = if offset == 0 {
                Fragment::First
            } else {
                Fragment::Later
            };
            at += 8;
        } else {
            at += (usize::from(len) + 1) * 8;
        }
        protocol = next;
        left -= 1;
    };
    Chain {
        at: is_found.then_some(at),
        protocol,
        fragment,
    }
}

const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS
    )
}

/// `N` bytes from `at`; `None` if the frame ends before.
#[inline]
pub(super) fn array<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;

pub(super) const V4_HEADER: usize = 20;
pub(super) const V6_HEADER: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
