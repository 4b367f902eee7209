//! Cutting superframes, byte for byte as the kernel does.
//!
//! A segment is a head and a place: headers made anew, and where in the superframe its payload is.
//! Nobody copies payload here; whoever writes the segment gathers both parts. The payload is read
//! once, for the checksum.

use std::ops::Range;

use super::{
    check::{BadOffload, MAX_SEGMENTS, checksum_range},
    layout::{Layer4, Layout, superframe},
    packet::{IPV6_HEADER, put, take},
};
use crate::wire::{
    VirtioNetHdr,
    checksum::{self, Sum},
};

/// A reusable arena of segments, which lie in pieces.
#[derive(Clone, Debug, Default)]
pub struct Segments {
    prefix: Vec<u8>,
    heads: Vec<u8>,
    cuts: Vec<Cut>,
}

/// Where one segment's pieces are.
#[derive(Clone, Debug)]
struct Cut {
    /// One past its head in the arena.
    head_end: usize,
    payload: Range<usize>,
}

/// One finished frame, in two pieces to be sent one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The prefix, if one is set, and the headers as far as they are not those of the frame.
    pub head: &'a [u8],
    /// Where the rest is in the frame that was segmented. Not beyond its end.
    pub payload: Range<usize>,
}

impl Segments {
    /// An empty arena. It grows to the most segments it meets, and keeps that.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the segments, keeps the memory and the prefix.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.cuts.clear();
    }

    /// Puts `bytes`, such as a tunnel header, before each segment that is made from now on.
    pub fn prefix(&mut self, bytes: &[u8]) {
        self.prefix.clear();
        self.prefix.extend_from_slice(bytes);
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.cuts.len()
    }

    /// Whether there are no segments.
    pub fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }

    /// The segments, in the order in which they go out.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Segment<'_>> {
        let mut start = 0;
        self.cuts.iter().map(move |cut| {
            let head = self.heads.get(start..cut.head_end).unwrap_or_default();
            start = cut.head_end;
            let payload = cut.payload.clone();
            Segment { head, payload }
        })
    }

    /// Segment number `index`.
    pub fn get(&self, index: usize) -> Option<Segment<'_>> {
        let cut = self.cuts.get(index)?;
        let before = index
            .checked_sub(1)
            .and_then(|before| self.cuts.get(before));
        let start = before.map_or(0, |before| before.head_end);
        Some(Segment {
            head: self.heads.get(start..cut.head_end)?,
            payload: cut.payload.clone(),
        })
    }

    /// Adds a segment that starts with `headers`, and returns these to be finished.
    fn push(&mut self, headers: &[u8], payload: Range<usize>) -> &mut [u8] {
        let start = self.heads.len() + self.prefix.len();
        self.heads.extend_from_slice(&self.prefix);
        self.heads.extend_from_slice(headers);
        let head_end = self.heads.len();
        self.cuts.push(Cut { head_end, payload });
        self.heads.get_mut(start..).unwrap_or_default()
    }

    /// Adds the whole frame, its checksum completed if `header` asks for that.
    fn push_whole(&mut self, header: &VirtioNetHdr, frame: &[u8]) -> Result<(), BadOffload> {
        let Some((at, check)) = missing_checksum(header, frame)? else {
            self.push(&[], 0..frame.len());
            return Ok(());
        };
        let end = at + check.len();
        let head = self.push(frame.get(..end).unwrap_or_default(), end..frame.len());
        put(head, at, check);
        Ok(())
    }
}

impl Segment<'_> {
    /// Length of both pieces.
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Both pieces in one, for who has to look at it and not to send it.
    pub fn to_frame(&self, frame: &[u8]) -> Vec<u8> {
        [self.head, self.payload_of(frame)].concat()
    }

    /// The second piece, of the `frame` that was segmented.
    pub fn payload_of<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(self.payload.clone()).unwrap_or_default()
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
    if let Some((at, check)) = missing_checksum(header, frame)? {
        put(frame, at, check);
    }
    Ok(())
}

/// Replaces the segments in `out` by what goes on the wire for `frame`; see [`append`].
///
/// # Errors
/// Those of [`append`]; `out` is empty then.
pub fn segment(
    header: &VirtioNetHdr,
    frame: &[u8],
    limit: Option<usize>,
    out: &mut Segments,
) -> Result<(), BadOffload> {
    out.clear();
    append(header, frame, limit, out)
}

/// Adds to `out` what goes on the wire for `frame`: the segments of a
/// superframe, or the frame itself with its checksum completed.
///
/// `limit` is the most bytes that a frame may have on its way out, Ethernet header included and the
/// prefix not. TCP is cut smaller than its sender asked for if that takes it below the limit: to
/// the receiver it is the same stream. Datagrams and single frames are what they are; if one is
/// beyond the limit, its receiver must not get it.
///
/// Lengths are computed from the packet, never from `hdr_len`. The superframe ends where `frame`
/// ends, whatever its IP header says, as it does for the kernel.
///
/// # Errors
/// What [`check()`](super::check()) would have said, and [`BadOffload::NoRoom`] or
/// [`BadOffload::TooManySegments`] if `limit` is too small; `out` is as it was then.
pub fn append(
    header: &VirtioNetHdr,
    frame: &[u8],
    limit: Option<usize>,
    out: &mut Segments,
) -> Result<(), BadOffload> {
    if header.gso_type == 0 {
        return out.push_whole(header, frame);
    }
    let layout = superframe(header, frame)?;
    let (headers, payload) = frame.split_at(layout.headers);
    let size = segment_size(&layout, limit);
    if payload.len() <= size {
        // "Too small packets are not really GSO ones", __virtio_net_hdr_to_skb.
        return out.push_whole(header, frame);
    }
    if size == 0 {
        return Err(BadOffload::NoRoom {
            headers: layout.headers,
            limit: limit.unwrap_or_default(),
        });
    }
    let count = payload.len().div_ceil(size);
    if count > MAX_SEGMENTS {
        return Err(BadOffload::TooManySegments(count));
    }

    out.heads
        .reserve(count * (out.prefix.len() + layout.headers));
    out.cuts.reserve(count);
    let template = Template::new(header, &layout, headers, payload.len());
    let mut sent = 0;
    for part in payload.chunks(size) {
        let start = layout.headers + sent;
        let head = out.push(headers, start..start + part.len());
        let place = Place {
            index: sent / size,
            sent,
            is_last: sent + part.len() == payload.len(),
        };
        template.finish(head, part, place);
        sent += part.len();
    }
    Ok(())
}

/// Payload bytes of each segment: what the sender asked for, or for TCP what `limit` leaves.
fn segment_size(layout: &Layout, limit: Option<usize>) -> usize {
    match (layout.protocol, limit) {
        (Layer4::Tcp, Some(limit)) => {
            let room = limit.saturating_sub(layout.headers);
            layout.gso_size.min(room)
        }
        (Layer4::Tcp, None) | (Layer4::Udp, _) => layout.gso_size,
    }
}

/// The checksum that `header` asks for, and where in the frame it belongs.
fn missing_checksum(
    header: &VirtioNetHdr,
    frame: &[u8],
) -> Result<Option<(usize, [u8; 2])>, BadOffload> {
    if !header.needs_csum() {
        return Ok(None);
    }
    let (start, offset) = checksum_range(header, frame)?;
    let check = checksum::sum(frame.get(start..).unwrap_or_default()).checksum();
    // In UDP, 0 means that there is no checksum (RFC 768); elsewhere it is one like any other.
    let check = if offset == Layer4::Udp.checksum_offset() {
        never_zero(check)
    } else {
        check
    };
    Ok(Some((start + offset, check.to_be_bytes())))
}

/// Which of the segments one is.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    /// Payload bytes in the segments before it.
    sent: usize,
    is_last: bool,
}

/// What all segments of a superframe have in common.
struct Template<'a> {
    layout: &'a Layout,
    /// Sum of the IPv4 header without length, identification and checksum.
    ip: Sum,
    /// Sum of the pseudo header without its length, and of the layer-4 header without what
    /// [`Self::finish`] fills in.
    l4: Sum,
    /// The IPv4 identification; something else, not used, over IPv6.
    ip_id: u16,
    /// Of TCP; over UDP something else, not used.
    seq: u32,
    flags: u8,
}

impl<'a> Template<'a> {
    fn new(header: &VirtioNetHdr, layout: &'a Layout, headers: &[u8], payload: usize) -> Self {
        let ip = headers.get(layout.l3..layout.l4).unwrap_or_default();
        let l4 = headers.get(layout.l4..).unwrap_or_default();
        let told = u16::from_be_bytes(take(l4, layout.protocol.checksum_offset()));
        let pseudo = match layout.protocol {
            // The field covers the length of the superframe: take it out (tcp_gso_segment). A wrong
            // field yields wrong segments, so nothing corrupt gets a valid checksum here.
            Layer4::Tcp if header.needs_csum() => {
                let len = low_u32(l4.len() + payload);
                Sum::word(told.into()) + Sum::word(!len)
            }
            // For UDP, the length that the header states (__udp_gso_segment).
            Layer4::Udp => {
                let len = u16::from_be_bytes(take(l4, 4));
                Sum::word(told.into()) + Sum::word(!u32::from(len))
            }
            Layer4::Tcp => pseudo_header(layout, headers),
        };
        let rest = match layout.protocol {
            // Ports, acknowledgement, window, urgent pointer and options.
            Layer4::Tcp => {
                Sum::word(u32::from_be_bytes(take(l4, 0)))
                    + Sum::word(u32::from_be_bytes(take(l4, 8)))
                    + Sum::word(u16::from_be_bytes(take(l4, 14)).into())
                    + checksum::sum(l4.get(18..).unwrap_or_default())
            }
            Layer4::Udp => Sum::word(u32::from_be_bytes(take(l4, 0))),
        };
        Self {
            layout,
            ip: Sum::word(u16::from_be_bytes(take(ip, 0)).into())
                + Sum::word(u32::from_be_bytes(take(ip, 6)))
                + checksum::sum(ip.get(12..).unwrap_or_default()),
            l4: pseudo + rest,
            ip_id: u16::from_be_bytes(take(ip, 4)),
            seq: u32::from_be_bytes(take(l4, 4)),
            flags: l4.get(TCP_FLAGS).copied().unwrap_or_default(),
        }
    }

    /// Fills in what differs from the superframe in the headers of the segment with `payload`.
    fn finish(&self, headers: &mut [u8], payload: &[u8], place: Place) {
        let len = headers.len() + payload.len();
        self.finish_ip(headers, len - self.layout.l3, place);
        let len = len - self.layout.l4;
        let l4 = headers.get_mut(self.layout.l4..).unwrap_or_default();
        let sum = self.l4 + Sum::word(low_u32(len)) + checksum::sum(payload);
        let check = match self.layout.protocol {
            Layer4::Tcp => {
                let seq = self.seq.wrapping_add(low_u32(place.sent));
                put(l4, 4, seq.to_be_bytes());
                put(l4, TCP_FLAGS, [self.flags_at(place)]);
                let offset_and_flags = u16::from_be_bytes(take(l4, TCP_FLAGS - 1));
                (sum + Sum::word(seq) + Sum::word(offset_and_flags.into())).checksum()
            }
            Layer4::Udp => {
                put(l4, 4, low_u16(len).to_be_bytes());
                never_zero((sum + Sum::word(low_u32(len))).checksum())
            }
        };
        let at = self.layout.protocol.checksum_offset();
        put(l4, at, check.to_be_bytes());
    }

    /// Lengths, the IPv4 identification and the header checksum (inet_gso_segment,
    /// ipv6_gso_segment). Options and extension headers stay as they are.
    fn finish_ip(&self, headers: &mut [u8], len: usize, place: Place) {
        let ip = headers.get_mut(self.layout.l3..).unwrap_or_default();
        if self.layout.is_v6 {
            let payload = low_u16(len.saturating_sub(IPV6_HEADER));
            put(ip, 4, payload.to_be_bytes());
            return;
        }
        let id = self.ip_id.wrapping_add(low_u16(place.index));
        put(ip, 2, low_u16(len).to_be_bytes());
        put(ip, 4, id.to_be_bytes());
        let sum = self.ip + Sum::word(u32::from(low_u16(len))) + Sum::word(id.into());
        put(ip, 10, sum.checksum().to_be_bytes());
    }

    /// FIN and PSH belong to the last segment, CWR to the first.
    fn flags_at(&self, place: Place) -> u8 {
        let not_last = if place.is_last { 0 } else { TCP_FIN | TCP_PSH };
        let not_first = if place.index == 0 { 0 } else { TCP_CWR };
        self.flags & !(not_last | not_first)
    }
}

/// The pseudo header without its length, for a superframe whose sender summed nothing.
fn pseudo_header(layout: &Layout, headers: &[u8]) -> Sum {
    let ip = headers.get(layout.l3..).unwrap_or_default();
    let protocol = layout.protocol.number();
    if layout.is_v6 {
        checksum::pseudo_v6(take(ip, 8), take(ip, 24), protocol, 0)
    } else {
        checksum::pseudo_v4(take(ip, 12), take(ip, 16), protocol, 0)
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

/// Where the flags are in the TCP header.
const TCP_FLAGS: usize = 13;
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

        segment(&header(2), &SUPERFRAME, None, &mut out).unwrap();

        let segments = frames(&out, &SUPERFRAME);
        let [first, last] = &segments[..] else {
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

        segment(&header(4), &SUPERFRAME, None, &mut out).unwrap();

        assert_eq!(frames(&out, &SUPERFRAME), [expected]);
        let pseudo = checksum::pseudo_v4([192, 0, 2, 1], [192, 0, 2, 2], 6, 24);
        assert_eq!((pseudo + checksum::sum(&expected[34..])).fold(), 0xffff);
    }

    #[test]
    fn a_finished_frame_is_passed_on_as_it_is() {
        let mut out = Segments::new();
        segment(&VirtioNetHdr::none(), &SUPERFRAME, None, &mut out).unwrap();
        let whole = Segment {
            head: &[],
            payload: 0..SUPERFRAME.len(),
        };
        assert!(out.iter().eq([whole]));
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
        segment(&header(2), &SUPERFRAME, None, &mut out).unwrap();
        assert_eq!(out.len(), 2);

        assert!(segment(&header(2), &SUPERFRAME[..50], None, &mut out).is_err());

        assert!(out.is_empty());
    }

    #[test]
    fn a_used_arena_does_not_allocate_again() {
        let mut out = Segments::new();
        segment(&header(1), &SUPERFRAME, None, &mut out).unwrap();
        let before = (out.heads.as_ptr(), out.cuts.as_ptr());
        for gso_size in [1, 2, 3, 4] {
            segment(&header(gso_size), &SUPERFRAME, None, &mut out).unwrap();
        }
        assert_eq!(before, (out.heads.as_ptr(), out.cuts.as_ptr()));
    }

    #[test]
    fn tcp_is_cut_below_a_limit_smaller_than_its_gso_size() {
        let (mut small, mut asked) = (Segments::new(), Segments::new());
        segment(&header(1), &SUPERFRAME, None, &mut asked).unwrap();
        for gso_size in [2, 4, 5000] {
            segment(&header(gso_size), &SUPERFRAME, Some(55), &mut small).unwrap();
            assert_eq!(frames(&small, &SUPERFRAME), frames(&asked, &SUPERFRAME));
        }

        let no_room = segment(&header(2), &SUPERFRAME, Some(54), &mut small);
        let (headers, limit) = (54, 54);
        assert_eq!(no_room, Err(BadOffload::NoRoom { headers, limit }));
        assert!(small.is_empty());
    }

    #[test]
    fn a_limit_leaves_datagrams_and_single_frames_alone() {
        let mut frame = SUPERFRAME;
        frame[23] = 17;
        frame[38..40].copy_from_slice(&[0, 24]);
        let mut datagrams = header(8);
        datagrams.set_gso(GsoType::UdpL4);
        datagrams.set_csum(34, 6);
        let (mut out, mut all) = (Segments::new(), Segments::new());
        let mut single = datagrams;
        single.set_gso(GsoType::None);
        for header in [VirtioNetHdr::none(), single, datagrams] {
            segment(&header, &frame, None, &mut all).unwrap();
            segment(&header, &frame, Some(20), &mut out).unwrap();
            assert_eq!(frames(&out, &frame), frames(&all, &frame));
        }
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn a_limit_does_not_get_around_the_bound_on_segments() {
        let mut frame = SUPERFRAME.to_vec();
        frame.resize(54 + MAX_SEGMENTS + 1, 0);
        let mut out = Segments::new();
        let refused = segment(&header(5000), &frame, Some(55), &mut out);
        assert_eq!(refused, Err(BadOffload::TooManySegments(MAX_SEGMENTS + 1)));
        assert!(out.is_empty());
    }

    #[test]
    fn every_segment_has_the_prefix_before_its_head() {
        let (mut bare, mut tunnelled) = (Segments::new(), Segments::new());
        tunnelled.prefix(b"vxlan");
        for header in [header(1), header(4), VirtioNetHdr::none()] {
            segment(&header, &SUPERFRAME, None, &mut bare).unwrap();
            segment(&header, &SUPERFRAME, None, &mut tunnelled).unwrap();
            let with: Vec<_> = frames(&bare, &SUPERFRAME)
                .iter()
                .map(|frame| [b"vxlan", &frame[..]].concat())
                .collect();
            assert_eq!(frames(&tunnelled, &SUPERFRAME), with);
        }
    }

    #[test]
    fn payload_stays_where_it_is() {
        let mut out = Segments::new();
        segment(&header(3), &SUPERFRAME, None, &mut out).unwrap();
        let places: Vec<_> = out.iter().map(|segment| segment.payload).collect();
        assert_eq!(places, [54..57, 57..58]);
        // Of a single frame, only the head up to the checksum is made anew.
        segment(&header(4), &SUPERFRAME, None, &mut out).unwrap();
        let place = out.iter().next().map(|segment| segment.payload);
        assert_eq!(place, Some(52..58));
    }

    fn frames(out: &Segments, frame: &[u8]) -> Vec<Vec<u8>> {
        out.iter().map(|segment| segment.to_frame(frame)).collect()
    }
}
