//! Joins segments or datagrams of one flow into one superframe, which the receiving stack then
//! handles once. The inverse of [`segment()`](super::segment()), byte by byte.
//!
//! Heads up: what is joined here leaves with a checksum that the kernel completes, so a frame that
//! arrived broken must not be joined, or the damage would be laundered. Everything that segmentation
//! would not restore keeps a frame apart; where the kernel's GRO joins more than that, we do not:
//!
//! | field | frames are joined if |
//! | --- | --- |
//! | MAC addresses, tags, type | equal; at most two tags |
//! | IPv4 options, IPv6 extension headers, fragments | there are none |
//! | TOS or traffic class with ECN, flow label, TTL or hop limit, DF, addresses | equal |
//! | IPv4 identification | it counts up by one for each segment, DF or not |
//! | IPv4 header checksum | it is right |
//! | bytes behind the packet | there are none |
//! | ports, TCP acknowledgement, window, urgent pointer, options | equal |
//! | TCP sequence number | it follows on |
//! | TCP flags | ACK alone, and PSH on the last |
//! | payload | equal and not empty; shorter in the last |
//! | checksum | it is right, or left to be completed |

use super::{
    Offloads,
    check::MAX_SEGMENTS,
    layout::Layer4,
    mark::Mark,
    packet::{IPV4_HEADER, IPV6_HEADER, MAX_TAGS, Packet, UDP_HEADER, be16, put, take},
};
use crate::wire::{
    Frame, GsoType, VirtioNetHdr,
    checksum::{Sum, sum},
};

/// Frames that have been joined so far.
///
/// It keeps only the headers; the payload of each frame stays where it is, [`Self::headers_len`]
/// bytes from the start, and follows the headers of [`Self::finish`] in the order of joining.
#[derive(Clone, Debug)]
pub struct Run {
    /// The headers of the first frame, and zeroes.
    head: [u8; MAX_HEAD],
    /// The bits of the headers that are the same in every frame.
    common: [u8; MAX_HEAD],
    packet: Packet,
    /// Sum of the pseudo header without its length.
    pseudo: Sum,
    /// Payload bytes of every segment but the last.
    size: usize,
    /// Payload bytes of all.
    total: usize,
    frames: usize,
    segments: usize,
    /// Nothing can follow: the last was shorter, or carried PSH.
    is_closed: bool,
}

impl Run {
    /// Frames in a run, and datagrams: what kernels since 4.18 take (`UDP_MAX_SEGMENTS`, 128 since
    /// 6.9).
    pub const LIMIT: usize = 64;

    /// Begins a run with `frame`, if that can be joined with anything.
    ///
    /// A superframe may begin or continue a run, too: it counts as one frame.
    pub fn start(mark: impl Into<Mark>, frame: &[u8]) -> Option<Self> {
        Self::start_marked(&mark.into(), frame)
    }

    /// Joins `frame` to the run; false if it does not belong there.
    pub fn join(&mut self, mark: impl Into<Mark>, frame: &[u8]) -> bool {
        self.join_marked(&mark.into(), frame)
    }

    /// Number of frames.
    pub fn count(&self) -> usize {
        self.frames
    }

    /// Number of segments or datagrams that the superframe stands for: more than frames only if
    /// some of these were superframes.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Whether there is only the first frame, which is better sent as it is.
    pub fn is_single(&self) -> bool {
        self.frames == 1
    }

    /// Length of the headers, the same in every frame of the run; the payload follows them.
    pub fn headers_len(&self) -> usize {
        self.packet.headers
    }

    /// Length of the longest segment that the superframe stands for, as a frame.
    pub fn segment_len(&self) -> usize {
        self.packet.headers + self.size.min(self.total)
    }

    /// The payload of a `frame` of the run.
    pub fn payload_of<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(self.packet.headers..).unwrap_or_default()
    }

    /// What an egress must be able to do to take the superframe.
    pub fn needed(&self) -> Offloads {
        Offloads::CSUM
            | match self.gso() {
                GsoType::TcpV4 => Offloads::TSO4,
                GsoType::TcpV6 => Offloads::TSO6,
                GsoType::UdpL4 | GsoType::None | GsoType::Unknown(_) => Offloads::USO,
            }
    }

    /// The header and the headers of the superframe. Its payload is that of all frames in order.
    pub fn finish(&mut self) -> (VirtioNetHdr, &[u8]) {
        let Packet {
            l3, l4, headers, ..
        } = self.packet;
        let len = headers - l4 + self.total;
        if self.packet.is_v6 {
            put(&mut self.head, l3 + 4, narrow(len).to_be_bytes());
        } else {
            let total = narrow(l4 - l3 + len);
            put(&mut self.head, l3 + 2, total.to_be_bytes());
            put(&mut self.head, l3 + 10, [0, 0]);
            let ip: [u8; IPV4_HEADER] = take(&self.head, l3);
            put(&mut self.head, l3 + 10, sum(&ip).checksum().to_be_bytes());
        }
        if self.packet.protocol == Layer4::Udp {
            put(&mut self.head, l4 + 4, narrow(len).to_be_bytes());
        }
        let offset = self.packet.protocol.checksum_offset();
        let pseudo = self.pseudo_of(len);
        put(&mut self.head, l4 + offset, pseudo.fold().to_be_bytes());

        let mut header = VirtioNetHdr::none();
        header.set_gso(self.gso());
        header.set_gso_size(narrow(self.size));
        header.set_csum(narrow(l4), narrow(offset));
        header.set_hdr_len(narrow(headers));
        (header, self.head.get(..headers).unwrap_or_default())
    }

    fn start_marked(mark: &Mark, frame: &[u8]) -> Option<Self> {
        let packet = Packet::parse(frame)?;
        if !packet.is_bare || packet.end != frame.len() {
            return None;
        }
        if packet.protocol == Layer4::Tcp && flags(&packet, frame) != Some(ACK) {
            return None;
        }
        let mut run = Self {
            head: [0; MAX_HEAD],
            common: common(&packet),
            packet,
            pseudo: packet.pseudo(frame),
            size: 0,
            total: 0,
            frames: 1,
            segments: 0,
            is_closed: false,
        };
        let headers = frame.get(..packet.headers)?;
        run.head.get_mut(..packet.headers)?.copy_from_slice(headers);
        let payload = frame.len() - packet.headers;
        if payload == 0 || !run.has_sound_ip(frame) {
            return None;
        }
        run.size = run.piece(mark, frame, payload)?;
        run.add(payload);
        (!run.is_closed).then_some(run)
    }

    fn join_marked(&mut self, mark: &Mark, frame: &[u8]) -> bool {
        let payload = frame.len().saturating_sub(self.packet.headers);
        let ip_len = self.packet.headers - self.packet.l3 + self.total + payload;
        // The cheap questions first.
        if self.is_closed
            || self.frames >= Self::LIMIT
            || payload == 0
            || ip_len > MAX_IP_LEN
            || !self.has_same_headers(frame)
            || !self.has_sound_ip(frame)
        {
            return false;
        }
        let is_pushed = match self.packet.protocol {
            Layer4::Tcp => match self.follows_on(frame) {
                Some(is_pushed) => is_pushed,
                None => return false,
            },
            Layer4::Udp if self.states_its_length(frame) => false,
            Layer4::Udp => return false,
        };
        let Some(piece) = self.piece(mark, frame, payload) else {
            return false;
        };
        // Either one segment that is not longer, or several of the same length.
        let fits = piece == self.size || (piece == payload && piece < self.size);
        if !fits || self.segments + payload.div_ceil(self.size) > self.most_segments() {
            return false;
        }
        self.frames += 1;
        self.add(payload);
        if is_pushed {
            self.is_closed = true;
            put(&mut self.head, self.packet.l4 + 13, [ACK | PSH]);
        }
        true
    }

    /// Counts a frame with `payload` bytes.
    fn add(&mut self, payload: usize) {
        self.segments += payload.div_ceil(self.size);
        self.total += payload;
        self.is_closed = !payload.is_multiple_of(self.size);
    }

    fn most_segments(&self) -> usize {
        match self.packet.protocol {
            Layer4::Tcp => MAX_SEGMENTS,
            Layer4::Udp => Self::LIMIT,
        }
    }

    fn gso(&self) -> GsoType {
        match (self.packet.protocol, self.packet.is_v6) {
            (Layer4::Tcp, false) => GsoType::TcpV4,
            (Layer4::Tcp, true) => GsoType::TcpV6,
            (Layer4::Udp, _) => GsoType::UdpL4,
        }
    }

    /// All that segmentation copies from the first frame to the others.
    #[inline]
    fn has_same_headers(&self, frame: &[u8]) -> bool {
        let len = self.packet.headers;
        let (Some(ours), Some(theirs), Some(common)) = (
            self.head.get(..len),
            frame.get(..len),
            self.common.get(..len),
        ) else {
            return false;
        };
        let (our_words, our_end) = words(ours);
        let (their_words, their_end) = words(theirs);
        let (common_words, common_end) = words(common);
        let mut differing = (our_end ^ their_end) & common_end;
        for ((ours, theirs), common) in our_words.iter().zip(their_words).zip(common_words) {
            let bits = u128::from_ne_bytes(*ours) ^ u128::from_ne_bytes(*theirs);
            differing |= bits & u128::from_ne_bytes(*common);
        }
        differing == 0
    }

    /// Whether the packet ends where the frame does, and an IPv4 header has the next identification
    /// and the checksum that segmentation would give it.
    #[inline]
    fn has_sound_ip(&self, frame: &[u8]) -> bool {
        let Packet { l3, is_v6, .. } = self.packet;
        let len = frame.len() - l3;
        if is_v6 {
            return be16(frame, l3 + 4).map(usize::from) == Some(len - IPV6_HEADER);
        }
        let ip: [u8; IPV4_HEADER] = take(frame, l3);
        let first: u16 = be16(&self.head, l3 + 4).unwrap_or_default();
        // Of the two zeroes of one's complement, segmentation writes 0000 (RFC 1624 §3).
        usize::from(u16::from_be_bytes([ip[2], ip[3]])) == len
            && u16::from_be_bytes([ip[4], ip[5]]) == first.wrapping_add(narrow(self.segments))
            && ip[10..12] != [0xff; 2]
            && sum(&ip).fold() == 0xffff
    }

    /// Whether a TCP segment is the next, and if so, whether it carries PSH.
    #[inline]
    fn follows_on(&self, frame: &[u8]) -> Option<bool> {
        let l4 = self.packet.l4;
        let first = u32::from_be_bytes(take(&self.head, l4 + 4));
        let next = first.wrapping_add(wide(self.total));
        if u32::from_be_bytes(take(frame, l4 + 4)) != next {
            return None;
        }
        match flags(&self.packet, frame)? {
            ACK => Some(false),
            flags if flags == ACK | PSH => Some(true),
            _ => None,
        }
    }

    fn states_its_length(&self, frame: &[u8]) -> bool {
        let l4 = self.packet.l4;
        be16(frame, l4 + 4).map(usize::from) == Some(frame.len() - l4)
    }

    /// Payload bytes of each segment that the frame stands for, if its checksum is right or is left
    /// to be completed in the right way; `None` otherwise.
    #[inline]
    fn piece(&self, mark: &Mark, frame: &[u8], payload: usize) -> Option<usize> {
        let l4 = self.packet.l4;
        let offset = self.packet.protocol.checksum_offset();
        let field = be16(frame, l4 + offset)?;
        // Two numbers stand for zero, and segmentation writes but one. In UDP, 0 is no checksum.
        let is_canonical = match self.packet.protocol {
            Layer4::Tcp => field != 0xffff,
            Layer4::Udp => field != 0,
        };
        match mark {
            Mark::Complete(proof) => (is_canonical && proof.is_of(frame)).then_some(payload),
            Mark::Unchecked => {
                let covered = frame.get(l4..)?;
                let whole = self.pseudo_of(covered.len()) + sum(covered);
                (is_canonical && whole.fold() == 0xffff).then_some(payload)
            }
            Mark::Unfinished(header) => {
                let is_left_to_us = header.needs_csum()
                    && usize::from(header.csum_start()) == l4
                    && usize::from(header.csum_offset()) == offset
                    && field == self.pseudo_of(frame.len() - l4).fold();
                let size = if header.gso_type == 0 {
                    payload
                } else {
                    // A superframe that fits one segment is none.
                    usize::from(header.gso_size()).min(payload)
                };
                let mut alike = VirtioNetHdr::none();
                alike.set_gso(self.gso());
                let is_alike = header.gso_type == 0 || header.gso_type == alike.gso_type;
                (is_left_to_us && is_alike && size > 0).then_some(size)
            }
            Mark::Wrong | Mark::Unknown => None,
        }
    }

    /// The pseudo header of `len` bytes of layer 4.
    #[inline]
    fn pseudo_of(&self, len: usize) -> Sum {
        self.pseudo + Sum::word(wide(len))
    }
}

/// All whole words of `headers`, and the last 16 bytes, which are longer than that.
#[inline]
fn words(headers: &[u8]) -> (&[[u8; 16]], u128) {
    let end = headers.last_chunk().copied().unwrap_or_default();
    (headers.as_chunks().0, u128::from_ne_bytes(end))
}

/// The bits of the headers that segmentation copies. What it computes anew may differ: lengths,
/// identification, sequence number, flags and checksums.
fn common(packet: &Packet) -> [u8; MAX_HEAD] {
    let mut bits = [0; MAX_HEAD];
    if let Some(headers) = bits.get_mut(..packet.headers) {
        headers.fill(0xff);
    }
    if packet.is_v6 {
        put(&mut bits, packet.l3 + 4, [0; 2]);
    } else {
        put(&mut bits, packet.l3 + 2, [0; 4]);
        put(&mut bits, packet.l3 + 10, [0; 2]);
    }
    put(&mut bits, packet.l4 + 4, [0; 4]);
    if packet.protocol == Layer4::Tcp {
        put(&mut bits, packet.l4 + 13, [0; 1]);
        put(&mut bits, packet.l4 + 16, [0; 2]);
    }
    bits
}

/// The flags of a TCP segment; `None` if one is set that has no name here, next to the offset.
fn flags(packet: &Packet, frame: &[u8]) -> Option<u8> {
    let [offset, flags] = take(frame, packet.l4 + 12);
    (offset & 0xf == 0).then_some(flags)
}

/// Numbers here are lengths within one IP packet, or wrap.
fn narrow(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn wide(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const TCP_LONGEST_HEADER: usize = 60;
const MAX_HEAD: usize = 128;
const MAX_IP_LEN: usize = 65_535;

const _: () = assert!(
    Frame::HEADER_LEN + MAX_TAGS * Frame::TAG_LEN + IPV6_HEADER + TCP_LONGEST_HEADER <= MAX_HEAD
);
const _: () = assert!(UDP_HEADER < TCP_LONGEST_HEADER);
