//! Joins equal UDP datagrams of one flow into one superframe, which the receiving stack then
//! handles once. The inverse of [`segment()`](super::segment()), byte by byte.
//!
//! Heads up: what is joined here leaves with a checksum that the kernel completes, so a datagram
//! that arrived broken must not be joined, or the damage would be laundered. Everything that
//! segmentation would not restore keeps a datagram apart: another header, another length (unless
//! it is shorter and the last), a gap in the IPv4 identification, bytes behind the datagram.

use super::check::MAX_UDP_SEGMENTS;
use crate::wire::{
    EtherType, Frame, VirtioNetHdr,
    checksum::{pseudo_v4, pseudo_v6, sum},
};

/// Datagrams that have been joined so far. Untagged, without IP options or extension headers.
#[derive(Clone, Debug)]
pub struct UdpRun {
    /// The headers of the first datagram, from Ethernet to UDP.
    head: [u8; MAX_HEAD],
    /// Where the UDP header is.
    l4: usize,
    /// Payload of every datagram but the last.
    size: usize,
    /// Payload of all.
    total: usize,
    count: usize,
    /// A shorter one was the last.
    is_closed: bool,
}

/// What matters of one datagram.
#[derive(Clone, Copy)]
struct Datagram<'a> {
    frame: &'a [u8],
    l4: usize,
}

impl UdpRun {
    /// Datagrams in a run: what kernels since 4.18 take (`UDP_MAX_SEGMENTS`, 128 since 6.9).
    pub const LIMIT: usize = 64;

    /// Begins a run with `frame`, if that can be joined with anything.
    pub fn start(header: Option<&VirtioNetHdr>, frame: &[u8]) -> Option<Self> {
        let first = Datagram::parse(header, frame)?;
        let mut head = [0; MAX_HEAD];
        let len = first.l4 + UDP_HEADER;
        head.get_mut(..len)?.copy_from_slice(frame.get(..len)?);
        let size = first.payload().len();
        Some(Self {
            head,
            l4: first.l4,
            size,
            total: size,
            count: 1,
            is_closed: false,
        })
    }

    /// Joins `frame` to the run; false if it does not belong there.
    pub fn join(&mut self, header: Option<&VirtioNetHdr>, frame: &[u8]) -> bool {
        if self.is_closed || self.count >= Self::LIMIT.min(MAX_UDP_SEGMENTS) {
            return false;
        }
        // The cheap questions first.
        let len = frame.len().saturating_sub(self.l4 + UDP_HEADER);
        if len > self.size || !self.has_same_headers(frame) {
            return false;
        }
        let fits = self.l4 - Frame::HEADER_LEN + UDP_HEADER + self.total + len <= MAX_IP_LEN;
        if !fits || Datagram::parse(header, frame).is_none_or(|next| next.l4 != self.l4) {
            return false;
        }
        self.is_closed = len < self.size;
        self.total += len;
        self.count += 1;
        true
    }

    /// Number of datagrams.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether there is only the first, which is better sent as it is.
    pub fn is_single(&self) -> bool {
        self.count == 1
    }

    /// Length of the headers; the payload of each datagram follows them in its frame.
    pub fn headers_len(&self) -> usize {
        self.l4 + UDP_HEADER
    }

    /// The header and the headers of the superframe. Its payload is that of all datagrams in order.
    pub fn finish(&mut self) -> (VirtioNetHdr, &[u8]) {
        let len = self.l4 + UDP_HEADER;
        let datagram = UDP_HEADER + self.total;
        let [high, low] = be16(datagram);
        let l4 = self.l4;
        let pseudo = if l4 == V6_L4 {
            self.head[18..20].copy_from_slice(&[high, low]);
            pseudo_v6(
                array(&self.head, 22),
                array(&self.head, 38),
                UDP,
                wide(datagram),
            )
        } else {
            self.head[16..18].copy_from_slice(&be16(V4_HEADER + datagram));
            self.head[24..26].fill(0);
            let checksum = sum(&self.head[14..34]).checksum();
            self.head[24..26].copy_from_slice(&checksum.to_be_bytes());
            pseudo_v4(
                array(&self.head, 26),
                array(&self.head, 30),
                UDP,
                wide(datagram),
            )
        };
        self.head[l4 + 4..l4 + 6].copy_from_slice(&[high, low]);
        self.head[l4 + 6..l4 + 8].copy_from_slice(&pseudo.fold().to_be_bytes());
        let mut header = VirtioNetHdr::none();
        header.set_gso(crate::wire::GsoType::UdpL4);
        header.set_gso_size(u16::try_from(self.size).unwrap_or(u16::MAX));
        header.set_csum(narrow(l4), CHECKSUM_OFFSET);
        header.set_hdr_len(narrow(len));
        (header, &self.head[..len])
    }

    /// All that segmentation copies from the first datagram to the others; what it computes anew
    /// (lengths and checksums) may differ, and the identification must count up.
    fn has_same_headers(&self, frame: &[u8]) -> bool {
        let same = |range: std::ops::Range<usize>| frame.get(range.clone()) == self.head.get(range);
        if self.l4 == V6_L4 {
            return same(0..18) && same(20..self.l4 + 4);
        }
        let id = |bytes: &[u8]| bytes.get(18..20).map(|id| u16::from_be_bytes(array(id, 0)));
        let next = id(&self.head).map(|first| first.wrapping_add(narrow(self.count)));
        same(0..16) && same(20..24) && same(26..self.l4 + 4) && id(frame) == next
    }
}

impl<'a> Datagram<'a> {
    /// `None` if joining could change it.
    fn parse(header: Option<&VirtioNetHdr>, frame: &'a [u8]) -> Option<Self> {
        let type_field = frame.get(12..14)?;
        let l4 = if type_field == EtherType::IPV4.0.to_be_bytes() {
            parse_v4(frame)?
        } else if type_field == EtherType::IPV6.0.to_be_bytes() {
            parse_v6(frame)?
        } else {
            return None;
        };
        let datagram = Self { frame, l4 };
        let udp = frame.get(l4..)?;
        // Nothing may follow the datagram, and an empty one cannot be a segment.
        if udp.len() <= UDP_HEADER || udp.get(4..6)? != be16(udp.len()) {
            return None;
        }
        datagram.is_sound(header).then_some(datagram)
    }

    fn payload(&self) -> &'a [u8] {
        self.frame.get(self.l4 + UDP_HEADER..).unwrap_or_default()
    }

    /// Whether the checksum is right, or is left to be completed from the right start.
    fn is_sound(&self, header: Option<&VirtioNetHdr>) -> bool {
        let (frame, l4) = (self.frame, self.l4);
        let udp = frame.get(l4..).unwrap_or_default();
        let pseudo = if l4 == V6_L4 {
            pseudo_v6(array(frame, 22), array(frame, 38), UDP, wide(udp.len()))
        } else {
            pseudo_v4(array(frame, 26), array(frame, 30), UDP, wide(udp.len()))
        };
        let field = u16::from_be_bytes(array(udp, 6));
        match header {
            None => field != 0 && (pseudo + sum(udp)).fold() == 0xffff,
            Some(header) => {
                header.gso_type == 0
                    && header.needs_csum()
                    && header.csum_start() == narrow(l4)
                    && header.csum_offset() == CHECKSUM_OFFSET
                    && field == pseudo.fold()
            }
        }
    }
}

fn parse_v4(frame: &[u8]) -> Option<usize> {
    let ip: &[u8; V4_HEADER] = frame.get(Frame::HEADER_LEN..)?.first_chunk()?;
    let total = frame.len() - Frame::HEADER_LEN;
    // No options, no fragment, none of the bits that should be zero; DF may be set.
    let is_plain = ip[0] == 0x45 && ip[6] & 0xbf == 0 && ip[7] == 0 && ip[9] == UDP;
    // Of the two zeros of one's complement, segmentation writes 0000 (RFC 1624 §3).
    let is_sound = sum(ip).fold() == 0xffff && ip[10..12] != [0xff; 2];
    (is_plain && ip[2..4] == be16(total) && is_sound).then_some(Frame::HEADER_LEN + V4_HEADER)
}

fn parse_v6(frame: &[u8]) -> Option<usize> {
    let ip: &[u8; V6_HEADER] = frame.get(Frame::HEADER_LEN..)?.first_chunk()?;
    let payload = frame.len() - V6_L4;
    (ip[0] >> 4 == 6 && ip[6] == UDP && ip[4..6] == be16(payload)).then_some(V6_L4)
}

/// `N` bytes from `at`; zeros where there are none, which the callers have excluded.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk());
    chunk.copied().unwrap_or([0; N])
}

fn be16(number: usize) -> [u8; 2] {
    narrow(number).to_be_bytes()
}

/// Numbers here are lengths within one IP packet.
fn narrow(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn wide(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const CHECKSUM_OFFSET: u16 = 6;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
/// Where UDP starts behind Ethernet and IPv6; behind IPv4 it is nearer.
const V6_L4: usize = Frame::HEADER_LEN + V6_HEADER;
const MAX_HEAD: usize = V6_L4 + UDP_HEADER;
const MAX_IP_LEN: usize = 65_535;
