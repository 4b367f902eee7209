//! Where a TCP segment or a UDP datagram is in an ordinary frame. Quicker than
//! [`layout`](super::layout), which has to say what is wrong with a superframe; here nothing is
//! wrong, some frames just carry neither.

use super::layout::Layer4;
use crate::wire::{
    EtherType, Frame,
    checksum::{Sum, pseudo_v4, pseudo_v6},
};

/// A segment or datagram with all of its headers, none of which ends beyond `end`, and that not
/// beyond the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) is_v6: bool,
    pub(super) protocol: Layer4,
    pub(super) l3: usize,
    pub(super) l4: usize,
    /// Length of all headers, where the payload starts.
    pub(super) headers: usize,
    /// One past the payload, by the lengths in the headers. What follows is padding.
    pub(super) end: usize,
    /// Whether layer 3 has neither options nor extension headers.
    pub(super) is_bare: bool,
}

/// What the IP header says about what is behind it.
struct Network {
    l4: usize,
    end: usize,
    protocol: u8,
    is_bare: bool,
}

impl Packet {
    /// `None` for what is no whole segment or datagram: other protocols, fragments, frames that end
    /// early, and more than two tags.
    #[inline]
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let mut l3 = Frame::HEADER_LEN;
        let mut ether_type = EtherType(be16(frame, 12)?);
        for _ in 0..MAX_TAGS {
            if !ether_type.is_tag() {
                break;
            }
            ether_type = EtherType(be16(frame, l3 + 2)?);
            l3 += Frame::TAG_LEN;
        }
        let (network, is_v6) = match ether_type {
            EtherType::IPV4 => (ipv4(frame, l3)?, false),
            EtherType::IPV6 => (ipv6(frame, l3)?, true),
            _ => return None,
        };
        let Network { l4, end, .. } = network;
        if end > frame.len() {
            return None;
        }
        let room = end.checked_sub(l4)?;
        let (protocol, len, header_len) = if network.protocol == Layer4::Tcp.number() {
            (Layer4::Tcp, room, tcp_header_len(frame, l4)?)
        } else if network.protocol == Layer4::Udp.number() {
            (Layer4::Udp, usize::from(be16(frame, l4 + 4)?), UDP_HEADER)
        } else {
            return None;
        };
        (header_len <= len && len <= room).then_some(Self {
            is_v6,
            protocol,
            l3,
            l4,
            headers: l4 + header_len,
            end: l4 + len,
            is_bare: network.is_bare,
        })
    }

    /// The sum of the pseudo header without its length.
    #[inline]
    pub(super) fn pseudo(&self, frame: &[u8]) -> Sum {
        let ip = frame.get(self.l3..).unwrap_or_default();
        let protocol = self.protocol.number();
        if self.is_v6 {
            pseudo_v6(take(ip, 8), take(ip, 24), protocol, 0)
        } else {
            pseudo_v4(take(ip, 12), take(ip, 16), protocol, 0)
        }
    }

    /// The segment or datagram with its header.
    #[inline]
    pub(super) fn covered<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.l4..self.end).unwrap_or_default()
    }

    /// What the checksum field holds.
    #[inline]
    pub(super) fn field(&self, frame: &[u8]) -> u16 {
        be16(frame, self.l4 + self.protocol.checksum_offset()).unwrap_or_default()
    }
}

#[inline]
fn ipv4(frame: &[u8], l3: usize) -> Option<Network> {
    let ip: &[u8; IPV4_HEADER] = frame.get(l3..)?.first_chunk()?;
    let len = usize::from(ip[0] & 0xf) * 4;
    // Of the fragment field, only DF may be set.
    let is_whole = ip[6] & 0xbf == 0 && ip[7] == 0;
    (ip[0] >> 4 == 4 && len >= IPV4_HEADER && is_whole).then_some(Network {
        l4: l3 + len,
        end: l3 + usize::from(u16::from_be_bytes([ip[2], ip[3]])),
        protocol: ip[9],
        is_bare: len == IPV4_HEADER,
    })
}

#[inline]
fn ipv6(frame: &[u8], l3: usize) -> Option<Network> {
    let ip: &[u8; IPV6_HEADER] = frame.get(l3..)?.first_chunk()?;
    let first = l3 + IPV6_HEADER;
    let (mut l4, mut protocol) = (first, ip[6]);
    // Hop-by-hop, routing and destination options, as long as they may be.
    while matches!(protocol, 0 | 43 | 60) {
        let &[next, units] = frame.get(l4..)?.first_chunk()?;
        protocol = next;
        l4 += 8 + 8 * usize::from(units);
    }
    (ip[0] >> 4 == 6).then_some(Network {
        l4,
        end: first + usize::from(u16::from_be_bytes([ip[4], ip[5]])),
        protocol,
        is_bare: l4 == first,
    })
}

#[inline]
fn tcp_header_len(frame: &[u8], l4: usize) -> Option<usize> {
    let len = usize::from(frame.get(l4 + 12)? >> 4) * 4;
    (len >= TCP_HEADER).then_some(len)
}

/// The number in the two bytes at `at`.
#[inline]
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*field))
}

/// The `N` bytes at `at`; zeroes beyond the end, which the callers have ruled out.
#[inline]
pub(super) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    debug_assert!(found.is_some());
    found.copied().unwrap_or([0; N])
}

/// Writes `value` at `at`, where the callers have seen to room.
#[inline]
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    let room = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
    debug_assert!(room.is_some());
    if let Some(room) = room {
        *room = value;
    }
}

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
pub(super) const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
/// A customer's tag in a provider's.
pub(super) const MAX_TAGS: usize = 2;
