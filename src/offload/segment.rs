//! Cutting superframes, byte for byte as the kernel does.

use super::{
    check::{BadOffload, checksum_range},
    layout::{Layer4, Layout, superframe},
};
use crate::wire::{VirtioNetHdr, checksum};

/// A reusable arena of finished frames.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Segments {
    /// An empty arena. It grows to the largest superframe it meets, and keeps that.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the frames, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no frames.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The frames, in the order in which they go out.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let frame = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            frame
        })
    }

    /// Adds a frame made of `headers` and `payload`, and returns it to be finished.
    fn push(&mut self, headers: &[u8], payload: &[u8]) -> &mut [u8] {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(headers);
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
        self.bytes.get_mut(start..).unwrap_or_default()
    }
}

/// Completes the checksum that `header` asks for, and does nothing if it asks for none.
///
/// The checksum field holds the folded sum of the pseudo header, so this works for every protocol
/// with an Internet checksum (skb_checksum_help). Afterwards the frame goes with
/// [`VirtioNetHdr::none`].
///
/// # Errors
/// [`BadOffload::ChecksumOutside`] or [`BadOffload::ChecksumPlace`], with the frame untouched.
pub fn complete_checksum(header: &VirtioNetHdr, frame: &mut [u8]) -> Result<(), BadOffload> {
    if !header.needs_csum() {
        return Ok(());
    }
    let (start, offset) = checksum_range(header, frame)?;
    let covered = frame.get_mut(start..).unwrap_or_default();
    let check = checksum::sum(covered).checksum();
    // In UDP, 0 means that there is no checksum (RFC 768); elsewhere it is one like any other.
    let check = if offset == Layer4::Udp.checksum_offset() {
        never_zero(check)
    } else {
        check
    };
    put(covered, offset, check.to_be_bytes());
    Ok(())
}

/// Replaces the frames in `out` by what goes on the wire for `frame`: its segments, or the frame
/// itself with its checksum completed.
///
/// Lengths are computed from the packet, never from `hdr_len`. The superframe ends where `frame`
/// ends, whatever its IP header says, as it does for the kernel.
///
/// # Errors
/// What [`check()`](super::check()) would have said; `out` is empty then.
pub fn segment(header: &VirtioNetHdr, frame: &[u8], out: &mut Segments) -> Result<(), BadOffload> {
    out.clear();
    if header.gso_type == 0 {
        let result = complete_checksum(header, out.push(frame, &[]));
        if result.is_err() {
            out.clear();
        }
        return result;
    }
    let layout = superframe(header, frame)?;
    let (headers, payload) = frame.split_at(layout.headers);
    if payload.len() <= layout.gso_size {
        // "Too small packets are not really GSO ones", __virtio_net_hdr_to_skb.
        return complete_checksum(header, out.push(frame, &[]));
    }

    let count = payload.len().div_ceil(layout.gso_size);
    out.bytes.reserve(payload.len() + count * layout.headers);
    out.ends.reserve(count);
    let template = Template::new(header, &layout, headers, payload.len());
    for (index, part) in payload.chunks(layout.gso_size).enumerate() {
        let place = Place {
            index,
            is_last: index + 1 == count,
        };
        template.finish(out.push(headers, part), place);
    }
    Ok(())
}

/// Which of the segments one is.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    is_last: bool,
}

/// What all segments of a superframe have in common.
struct Template<'a> {
    layout: &'a Layout,
    /// Sum of the pseudo header, less the length of layer 4.
    pseudo: checksum::Sum,
    /// The IPv4 identification; something else, not used, over IPv6.
    ip_id: u16,
    seq: u32,
}

impl<'a> Template<'a> {
    fn new(header: &VirtioNetHdr, layout: &'a Layout, headers: &[u8], payload: usize) -> Self {
        let l4 = headers.get(layout.l4..).unwrap_or_default();
        let told = u16::from_be_bytes(take(l4, layout.protocol.checksum_offset()));
        let pseudo = match layout.protocol {
            // The field covers the length of the superframe: take it out (tcp_gso_segment). A wrong
            // field yields wrong segments, so nothing corrupt gets a valid checksum here.
            Layer4::Tcp if header.needs_csum() => {
                let len = low_u32(l4.len() + payload);
                checksum::Sum::word(told.into()) + checksum::Sum::word(!len)
            }
            // For UDP, the length that the header states (__udp_gso_segment).
            Layer4::Udp => {
                let len = u16::from_be_bytes(take(l4, 4));
                checksum::Sum::word(told.into()) + checksum::Sum::word(!u32::from(len))
            }
            Layer4::Tcp => pseudo_header(layout, headers),
        };
        Self {
            layout,
            pseudo,
            ip_id: u16::from_be_bytes(take(headers, layout.l3 + 4)),
            seq: u32::from_be_bytes(take(l4, 4)),
        }
    }

    /// Fills in what differs from the superframe in one segment.
    fn finish(&self, frame: &mut [u8], place: Place) {
        self.finish_ip(frame, place);
        let l4 = frame.get_mut(self.layout.l4..).unwrap_or_default();
        let len = l4.len();
        let at = self.layout.protocol.checksum_offset();
        put(l4, at, [0, 0]);
        let check = match self.layout.protocol {
            Layer4::Tcp => {
                let sent = low_u32(place.index * self.layout.gso_size);
                put(l4, 4, self.seq.wrapping_add(sent).to_be_bytes());
                if let Some(flags) = l4.get_mut(13) {
                    if !place.is_last {
                        *flags &= !(TCP_FIN | TCP_PSH);
                    }
                    if place.index > 0 {
                        *flags &= !TCP_CWR;
                    }
                }
                self.checksum(l4, len)
            }
            Layer4::Udp => {
                put(l4, 4, low_u16(len).to_be_bytes());
                never_zero(self.checksum(l4, len))
            }
        };
        put(l4, at, check.to_be_bytes());
    }

    /// Lengths, the IPv4 identification and the header checksum (inet_gso_segment,
    /// ipv6_gso_segment). Options and extension headers stay as they are.
    fn finish_ip(&self, frame: &mut [u8], place: Place) {
        let ip = frame.get_mut(self.layout.l3..).unwrap_or_default();
        let len = ip.len();
        if self.layout.is_v6 {
            let payload = low_u16(len.saturating_sub(IPV6_HEADER));
            put(ip, 4, payload.to_be_bytes());
            return;
        }
        put(ip, 2, low_u16(len).to_be_bytes());
        let id = self.ip_id.wrapping_add(low_u16(place.index));
        put(ip, 4, id.to_be_bytes());
        put(ip, 10, [0, 0]);
        let header = ip
            .get(..self.layout.l4 - self.layout.l3)
            .unwrap_or_default();
        let check = checksum::sum(header).checksum();
        put(ip, 10, check.to_be_bytes());
    }

    fn checksum(&self, l4: &[u8], len: usize) -> u16 {
        (self.pseudo + checksum::Sum::word(low_u32(len)) + checksum::sum(l4)).checksum()
    }
}

/// The pseudo header without its length, for a superframe whose sender summed nothing.
fn pseudo_header(layout: &Layout, headers: &[u8]) -> checksum::Sum {
    let ip = headers.get(layout.l3..).unwrap_or_default();
    let protocol = layout.protocol.number();
    if layout.is_v6 {
        checksum::pseudo_v6(take(ip, 8), take(ip, 24), protocol, 0)
    } else {
        checksum::pseudo_v4(take(ip, 12), take(ip, 16), protocol, 0)
    }
}

/// The `N` bytes at `at`; zeroes beyond the end, which a checked [`Layout`] rules out.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    debug_assert!(found.is_some());
    found.copied().unwrap_or([0; N])
}

/// Writes `value` at `at`, which a checked [`Layout`] has room for.
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    let room = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
    debug_assert!(room.is_some());
    if let Some(room) = room {
        *room = value;
    }
}

const fn never_zero(check: u16) -> u16 {
    if check == 0 { 0xffff } else { check }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a segment is at most 65535 bytes of IP, and identification wraps"
)]
const fn low_u16(number: usize) -> u16 {
    number as u16
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a superframe is far below 4 GiB, and sequence numbers wrap"
)]
const fn low_u32(number: usize) -> u32 {
    number as u32
}

const IPV6_HEADER: usize = 40;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::GsoType;

    /// 4 bytes of TCP payload in an Ethernet frame from 192.0.2.1 to 192.0.2.2, with the checksum
    /// field left at the pseudo-header sum.
    #[rustfmt::skip]
    const SUPERFRAME: [u8; 58] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
        0x45, 0, 0, 44, 0xff, 0xff, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        0x30, 0x39, 0x01, 0xbb, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 9, 0x50, 0x99, 0x20, 0, 0x84, 0x22, 0, 0,
        b'a', b'b', b'c', b'd',
    ];

    fn header(gso_size: u16) -> VirtioNetHdr {
        let mut header = VirtioNetHdr::none();
        header.set_gso(GsoType::TcpV4);
        header.set_gso_size(gso_size);
        header.set_csum(34, 16);
        header
    }

    #[test]
    fn sequence_identification_and_flags_advance_and_wrap() {
        let mut out = Segments::new();

        segment(&header(2), &SUPERFRAME, &mut out).unwrap();

        let segments: Vec<&[u8]> = out.iter().collect();
        let [first, last] = segments[..] else {
            panic!("{} segments", segments.len());
        };
        // Length, identification: 0xffff and then 0.
        assert_eq!(first[16..20], [0, 42, 0xff, 0xff]);
        assert_eq!(last[16..20], [0, 42, 0, 0]);
        // Sequence numbers: 2^32 - 2 and then 0.
        assert_eq!(first[38..42], [0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(last[38..42], [0, 0, 0, 0]);
        // CWR|ACK|PSH|FIN: CWR stays in the first, PSH and FIN in the last.
        assert_eq!((first[47], last[47]), (0x90, 0x19));
        assert_eq!((&first[54..], &last[54..]), (&b"ab"[..], &b"cd"[..]));
        for frame in [first, last] {
            assert_eq!(checksum::sum(&frame[14..34]).fold(), 0xffff);
            let pseudo = checksum::pseudo_v4([192, 0, 2, 1], [192, 0, 2, 2], 6, 22);
            assert_eq!((pseudo + checksum::sum(&frame[34..])).fold(), 0xffff);
        }
    }

    #[test]
    fn a_superframe_that_fits_one_segment_is_only_checksummed() {
        let mut out = Segments::new();
        let mut expected = SUPERFRAME;
        complete_checksum(&header(4), &mut expected).unwrap();

        segment(&header(4), &SUPERFRAME, &mut out).unwrap();

        assert!(out.iter().eq([&expected[..]]));
        let pseudo = checksum::pseudo_v4([192, 0, 2, 1], [192, 0, 2, 2], 6, 24);
        assert_eq!((pseudo + checksum::sum(&expected[34..])).fold(), 0xffff);
    }

    #[test]
    fn a_finished_frame_is_passed_on_as_it_is() {
        let mut out = Segments::new();
        segment(&VirtioNetHdr::none(), &SUPERFRAME, &mut out).unwrap();
        assert!(out.iter().eq([&SUPERFRAME[..]]));
    }

    #[test]
    fn a_zero_checksum_is_sent_as_ffff_in_udp_only() {
        for (offset, expected) in [(6, [0xff, 0xff]), (16, [0, 0]), (2, [0, 0])] {
            let mut frame = [0; 60];
            // The covered bytes sum to 0xffff, so the checksum comes out as 0.
            frame[58..].copy_from_slice(&[0xff, 0xff]);
            let mut header = VirtioNetHdr::none();
            header.set_csum(34, offset);
            complete_checksum(&header, &mut frame).unwrap();
            let at = 34 + usize::from(offset);
            assert_eq!(frame[at..at + 2], expected, "offset {offset}");
        }
    }

    #[test]
    fn a_refused_frame_leaves_no_segments_behind() {
        let mut out = Segments::new();
        segment(&header(2), &SUPERFRAME, &mut out).unwrap();
        assert_eq!(out.len(), 2);

        assert!(segment(&header(2), &SUPERFRAME[..50], &mut out).is_err());

        assert!(out.is_empty());
    }

    #[test]
    fn a_used_arena_does_not_allocate_again() {
        let mut out = Segments::new();
        segment(&header(1), &SUPERFRAME, &mut out).unwrap();
        let before = (out.bytes.as_ptr(), out.ends.as_ptr());
        for gso_size in [1, 2, 3, 4] {
            segment(&header(gso_size), &SUPERFRAME, &mut out).unwrap();
        }
        assert_eq!(before, (out.bytes.as_ptr(), out.ends.as_ptr()));
    }
}
