//! Whether a virtio-net header tells the truth about its frame.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};

use super::layout::{Layer4, Layout, superframe};
use crate::wire::{GsoType, VirtioNetHdr};

/// Segments of one TCP superframe. 64 KiB at the smallest MSS that Linux offers (48, less 12 of
/// options) is 1820; a peer that asks for more wants to burn our time (CVE-2019-11479).
pub const MAX_SEGMENTS: usize = 2048;

/// Segments of one UDP superframe: `UDP_MAX_SEGMENTS`, include/linux/udp.h.
pub const MAX_UDP_SEGMENTS: usize = 128;

/// Bytes of all headers of a superframe. They are copied to every segment, so extension headers of
/// 60 KiB would turn one frame into 120 MiB.
pub const MAX_HEADERS: usize = 1024;

/// The kernel's `GSO_BY_FRAGS` (include/linux/skbuff.h), which is not a size.
pub(super) const GSO_BY_FRAGS: u16 = 0xffff;

/// The least `csum_start`: it wants an IP header, and counts from the Ethernet header.
const MIN_CHECKSUM_START: usize = 20;

/// A virtio-net header that does not fit its frame: the frame is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadOffload {
    /// A type that no kernel of this decade sends us, such as UFO, or a flag where it means nothing.
    #[error("gso type {0:#04x} is not supported")]
    UnknownGso(u8),
    /// A superframe to be cut every 0 bytes, or by the kernel's private marker 65535.
    #[error("gso size {0} is out of range 1..=65534")]
    GsoSize(u16),
    /// The checksum or what it covers is not in the frame.
    #[error("checksum ends at byte {end}, frame has {got}")]
    ChecksumOutside {
        /// One past the checksum field.
        end: usize,
        /// Bytes in the frame.
        got: usize,
    },
    /// The checksum is not where the protocol of the superframe has it.
    #[error("checksum at {start}+{offset} is not that of the layer 4 header")]
    ChecksumPlace {
        /// `csum_start`.
        start: u16,
        /// `csum_offset`.
        offset: u16,
    },
    /// A UDP superframe must leave its checksum to be completed.
    #[error("udp superframe without a checksum to complete")]
    UdpWithoutChecksum,
    /// The frame does not carry the protocols that its gso type claims.
    #[error("frame is not what its gso type says")]
    WrongProtocol,
    /// A header is malformed or ends beyond the frame.
    #[error("a header is malformed or cut short")]
    Headers,
    /// More headers than [`MAX_HEADERS`].
    #[error("{0} bytes of headers, at most {MAX_HEADERS} are copied to each segment")]
    HeadersTooLong(usize),
    /// More segments than [`MAX_SEGMENTS`] or [`MAX_UDP_SEGMENTS`].
    #[error("superframe has {0} segments")]
    TooManySegments(usize),
    /// A segment that IP cannot carry.
    #[error("a segment has {0} bytes of ip, more than 65535")]
    SegmentTooLong(usize),
    /// A TCP superframe for an egress whose limit its headers alone take up.
    #[error("headers of {headers} bytes leave no payload within a limit of {limit}")]
    NoRoom {
        /// Bytes of all headers.
        headers: usize,
        /// The most bytes that a segment may have.
        limit: usize,
    },
}

/// Checks that `header` can be obeyed for `frame`; a header that asks for nothing always can.
///
/// What passes here, the kernel accepts on a TAP, given the [`exact_hdr_len`], and
/// [`segment()`](super::segment()) can cut.
///
/// # Errors
/// What is wrong with the header or the frame.
#[inline]
pub fn check(header: &VirtioNetHdr, frame: &[u8]) -> Result<(), BadOffload> {
    if header.is_plain() {
        return Ok(());
    }
    check_unfinished(header, frame)
}

fn check_unfinished(header: &VirtioNetHdr, frame: &[u8]) -> Result<(), BadOffload> {
    if header.gso_type == 0 {
        checksum_range(header, frame).map(|_| ())
    } else {
        superframe(header, frame).map(|_| ())
    }
}

/// The length of all headers of a superframe, the best `hdr_len` to hand it on with: the kernel
/// puts that much into linear memory. `None` for ordinary frames and for bad headers.
pub fn exact_hdr_len(header: &VirtioNetHdr, frame: &[u8]) -> Option<u16> {
    if header.gso_type == 0 {
        return None;
    }
    if !header.needs_csum() {
        return u16::try_from(superframe(header, frame).ok()?.headers).ok();
    }
    // The sender told where layer 4 is, and `check` held it to that: no need to parse again.
    let l4 = frame.get(usize::from(header.csum_start())..)?;
    let len = match header.gso() {
        GsoType::TcpV4 | GsoType::TcpV6 => TcpHeaderSlice::from_slice(l4).ok()?.slice().len(),
        GsoType::UdpL4 => UdpHeaderSlice::from_slice(l4).ok()?.slice().len(),
        GsoType::None | GsoType::Unknown(_) => return None,
    };
    header.csum_start().checked_add(u16::try_from(len).ok()?)
}

/// Where the checksummed bytes start, and where in them the checksum is.
pub(super) fn checksum_range(
    header: &VirtioNetHdr,
    frame: &[u8],
) -> Result<(usize, usize), BadOffload> {
    let start = usize::from(header.csum_start());
    let offset = usize::from(header.csum_offset());
    let end = start + offset + 2;
    if end > frame.len() {
        return Err(BadOffload::ChecksumOutside {
            end,
            got: frame.len(),
        });
    }
    // The kernel wants room for an IP header in front of layer 4 (__virtio_net_hdr_to_skb).
    if start < MIN_CHECKSUM_START {
        return Err(place(header));
    }
    Ok((start, offset))
}

/// Refuses superframes that cost far more to cut than to send.
pub(super) fn bounded(layout: &Layout, frame: &[u8]) -> Result<(), BadOffload> {
    if layout.headers > MAX_HEADERS {
        return Err(BadOffload::HeadersTooLong(layout.headers));
    }
    let payload = frame.len() - layout.headers;
    let segments = payload.div_ceil(layout.gso_size);
    let most = match layout.protocol {
        Layer4::Tcp => MAX_SEGMENTS,
        Layer4::Udp => MAX_UDP_SEGMENTS,
    };
    if segments > most {
        return Err(BadOffload::TooManySegments(segments));
    }
    let ip_len = layout.headers - layout.l3 + payload.min(layout.gso_size);
    if ip_len > usize::from(u16::MAX) {
        return Err(BadOffload::SegmentTooLong(ip_len));
    }
    Ok(())
}

/// The error for a checksum in the wrong place.
pub(super) fn place(header: &VirtioNetHdr) -> BadOffload {
    BadOffload::ChecksumPlace {
        start: header.csum_start(),
        offset: header.csum_offset(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TCP over IPv4 with `payload` bytes of zeroes, left to be cut every 100 bytes.
    fn superframe(payload: usize) -> (VirtioNetHdr, Vec<u8>) {
        let mut frame = vec![0; 54 + payload];
        frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
        frame[23] = 6;
        frame[46] = 0x50;
        let mut header = VirtioNetHdr::none();
        header.set_gso(GsoType::TcpV4);
        header.set_gso_size(100);
        header.set_csum(34, 16);
        (header, frame)
    }

    #[test]
    fn hostile_headers_are_refused() {
        type Damage = fn(&mut VirtioNetHdr, &mut Vec<u8>);
        let place = |start, offset| BadOffload::ChecksumPlace { start, offset };
        let cases: [(&str, Damage, BadOffload); 15] = [
            ("ufo", |h, _| h.gso_type = 3, BadOffload::UnknownGso(3)),
            (
                "tunnel",
                |h, _| h.gso_type = 0x21,
                BadOffload::UnknownGso(0x21),
            ),
            (
                "ecn alone",
                |h, _| h.gso_type = 0x80,
                BadOffload::UnknownGso(0x80),
            ),
            (
                "ecn on udp",
                |h, _| h.gso_type = 0x85,
                BadOffload::UnknownGso(0x85),
            ),
            ("size 0", |h, _| h.set_gso_size(0), BadOffload::GsoSize(0)),
            (
                "by frags",
                |h, _| h.set_gso_size(0xffff),
                BadOffload::GsoSize(0xffff),
            ),
            (
                "checksum outside",
                |h, _| h.set_csum(65_535, 65_535),
                BadOffload::ChecksumOutside {
                    end: 131_072,
                    got: 254,
                },
            ),
            ("checksum in ip", |h, _| h.set_csum(30, 16), place(30, 16)),
            ("checksum of udp", |h, _| h.set_csum(34, 6), place(34, 6)),
            ("v6 type", |h, _| h.gso_type = 4, BadOffload::WrongProtocol),
            ("arp", |_, f| f[13] = 6, BadOffload::WrongProtocol),
            ("icmp", |_, f| f[23] = 1, BadOffload::WrongProtocol),
            ("short doff", |_, f| f[46] = 0x40, BadOffload::Headers),
            ("short ihl", |_, f| f[14] = 0x44, BadOffload::Headers),
            (
                "doff beyond the frame",
                |_, f| {
                    f[46] = 0xf0;
                    f.truncate(93);
                },
                BadOffload::Headers,
            ),
        ];
        for (name, damage, expected) in cases {
            let (mut header, mut frame) = superframe(200);
            assert_eq!(check(&header, &frame), Ok(()));
            damage(&mut header, &mut frame);
            assert_eq!(check(&header, &frame), Err(expected), "{name}");
        }
    }

    #[test]
    fn a_checksum_alone_must_be_inside_the_frame() {
        let (_, frame) = superframe(200);
        let mut header = VirtioNetHdr::none();
        for (start, offset, fits) in [(34, 218, true), (34, 219, false), (19, 0, false)] {
            header.set_csum(start, offset);
            assert_eq!(check(&header, &frame).is_ok(), fits, "{start}+{offset}");
        }
    }

    #[test]
    fn a_udp_superframe_must_leave_its_checksum() {
        let (mut header, mut frame) = superframe(200);
        frame[23] = 17;
        header.set_gso(GsoType::UdpL4);
        header.set_csum(34, 6);
        assert_eq!(check(&header, &frame), Ok(()));
        assert_eq!(exact_hdr_len(&header, &frame), Some(42));
        header.flags = 0;
        assert_eq!(check(&header, &frame), Err(BadOffload::UdpWithoutChecksum));
    }

    #[test]
    fn the_number_of_segments_is_bounded() {
        let (mut header, frame) = superframe(2049);
        header.set_gso_size(1);
        assert_eq!(
            check(&header, &frame),
            Err(BadOffload::TooManySegments(2049))
        );
        assert_eq!(check(&header, &frame[..frame.len() - 1]), Ok(()));
    }

    #[test]
    fn a_segment_must_fit_its_ip_header() {
        let (mut header, frame) = superframe(65_495);
        header.set_gso_size(65_534);
        assert_eq!(check(&header, &frame), Ok(()));
        let (_, frame) = superframe(65_496);
        let refused = check(&header, &frame);
        assert_eq!(refused, Err(BadOffload::SegmentTooLong(65_536)));
    }

    #[test]
    fn long_chains_of_extension_headers_are_not_copied_to_every_segment() {
        let (mut header, mut frame) = superframe(4000);
        frame[12..16].copy_from_slice(&[0x86, 0xdd, 0x60, 0x00]);
        frame[20] = 60;
        for at in (54..3000).step_by(8) {
            frame[at] = 60;
        }
        header.set_gso(GsoType::TcpV6);
        header.flags = 0;
        let refused = check(&header, &frame);
        assert!(
            matches!(refused, Err(BadOffload::HeadersTooLong(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn the_exact_header_length_ignores_the_hint() {
        let (mut header, mut frame) = superframe(200);
        frame[46] = 0x80;
        for hint in [0, 54, u16::MAX] {
            header.set_hdr_len(hint);
            assert_eq!(exact_hdr_len(&header, &frame), Some(66));
        }
        header.flags = 0;
        assert_eq!(exact_hdr_len(&header, &frame), Some(66));
        assert_eq!(exact_hdr_len(&VirtioNetHdr::none(), &frame), None);
    }
}
