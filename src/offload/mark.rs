//! What is known about the checksum of a frame, so that nobody sums it twice.

use super::{
    check::{MAX_SEGMENTS, MAX_UDP_SEGMENTS},
    layout::Layer4,
    packet::{Packet, be16},
};
use crate::wire::{Frame, GsoType, VirtioNetHdr, checksum};

/// What is known about the layer-4 checksum of a frame: what `ip_summed` is to the kernel.
///
/// A frame from a port brings a virtio-net header that says it, and converts into a mark:
/// `Mark::from(header)`. A frame from a tunnel brings nothing, and [`Mark::of`] finds out.
#[derive(Clone, Copy, Debug)]
pub enum Mark {
    /// Nothing is known; it is summed if that matters (`CHECKSUM_NONE`).
    Unchecked,
    /// It is right (`CHECKSUM_UNNECESSARY`).
    Complete(Verified),
    /// Somebody has yet to complete it, and perhaps to cut the frame, as this header says
    /// (`CHECKSUM_PARTIAL`).
    Unfinished(VirtioNetHdr),
    /// It is wrong. The frame is passed on like this, so that its receiver sees it and counts it.
    Wrong,
    /// There is none to look at: no TCP and no UDP, a fragment, UDP without a checksum.
    Unknown,
}

/// Proof that somebody summed a frame, and that its checksum is right. It is worth nothing for any
/// other frame.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    frame_len: usize,
}

impl Mark {
    /// Looks at a frame that came out of a tunnel, and sums it if need be: once, the only time.
    ///
    /// A kernel's vxlan device at the other end of a veth never completes the checksums of what its
    /// own host sends, nor does it cut superframes: veth would do that on its way out, and there is
    /// no way out. The tunnel's payload then has the folded sum of the pseudo header in place of a
    /// checksum. Such a frame is [`Mark::Unfinished`]. If it is longer than `mtu`, the bytes of IP
    /// that the receivers take, it is a superframe: TCP is to be cut to fit the MTU, and UDP every
    /// `udp_segment` bytes, the value of the outer socket's `UDP_GRO`. Without that value nobody
    /// knows where one datagram ends, and the frame stays too long.
    ///
    /// If by accident a complete checksum is equal to the sum of the pseudo header, completing it
    /// yields the same number again.
    #[inline]
    pub fn of(frame: &[u8], udp_segment: Option<usize>, mtu: u32) -> Self {
        let Some(packet) = Packet::parse(frame) else {
            return Self::Unknown;
        };
        let field = packet.field(frame);
        if field == 0 && packet.protocol == Layer4::Udp {
            return Self::Unknown;
        }
        let covered = packet.covered(frame);
        let pseudo = packet.pseudo(frame) + checksum::Sum::word(wide(covered.len()));
        if field == pseudo.fold() {
            return packet.unfinished(frame, udp_segment, mtu);
        }
        if (pseudo + checksum::sum(covered)).fold() == 0xffff {
            let frame_len = frame.len();
            Self::Complete(Verified { frame_len })
        } else {
            Self::Wrong
        }
    }

    /// The header to send the frame with.
    #[inline]
    pub fn header(&self) -> VirtioNetHdr {
        match self {
            Self::Unfinished(header) => *header,
            Self::Unchecked | Self::Complete(_) | Self::Wrong | Self::Unknown => {
                VirtioNetHdr::none()
            }
        }
    }
}

impl From<Option<&VirtioNetHdr>> for Mark {
    #[inline]
    fn from(header: Option<&VirtioNetHdr>) -> Self {
        match header {
            Some(header) if !header.is_plain() => Self::Unfinished(*header),
            Some(_) | None => Self::Unchecked,
        }
    }
}

impl Verified {
    /// Whether this can be a proof for `frame`.
    #[inline]
    pub(super) fn is_of(self, frame: &[u8]) -> bool {
        self.frame_len == frame.len()
    }
}

/// The header that a frame out of a tunnel should have come with, see [`Mark::of`]; `None` if it is
/// to be taken as it is.
pub fn unfinished(frame: &[u8], udp_segment: Option<usize>, mtu: u32) -> Option<VirtioNetHdr> {
    match Mark::of(frame, udp_segment, mtu) {
        Mark::Unfinished(header) => Some(header),
        Mark::Unchecked | Mark::Complete(_) | Mark::Wrong | Mark::Unknown => None,
    }
}

impl Packet {
    #[cold]
    fn unfinished(&self, frame: &[u8], udp_segment: Option<usize>, mtu: u32) -> Mark {
        // Whoever completes the checksum sums to the end of the frame.
        let behind = frame.get(self.end..).unwrap_or_default();
        let (Ok(start), true) = (u16::try_from(self.l4), behind.iter().all(|&byte| byte == 0))
        else {
            return Mark::Wrong;
        };
        let mut header = VirtioNetHdr::none();
        header.set_csum(start, narrow(self.protocol.checksum_offset()));
        if let Some(size) = self.gso_size(frame, udp_segment, mtu) {
            header.set_gso(match (self.protocol, self.is_v6) {
                (Layer4::Tcp, false) => GsoType::TcpV4,
                (Layer4::Tcp, true) => GsoType::TcpV6,
                (Layer4::Udp, _) => GsoType::UdpL4,
            });
            if self.protocol == Layer4::Tcp && self.has_cwr(frame) {
                header.gso_type |= VirtioNetHdr::GSO_ECN;
            }
            header.set_gso_size(size);
            header.set_hdr_len(narrow(self.headers));
        }
        Mark::Unfinished(header)
    }

    /// Where a superframe is to be cut; `None` for any other frame.
    fn gso_size(&self, frame: &[u8], udp_segment: Option<usize>, mtu: u32) -> Option<u16> {
        let payload = self.end - self.headers;
        let (size, most) = match self.protocol {
            Layer4::Tcp => {
                let mtu = usize::try_from(mtu).ok()?;
                // A second tag has to fit in as well: ports allow for one (`Port::max_frame`).
                let tags = (self.l3 - Frame::HEADER_LEN).saturating_sub(Frame::TAG_LEN);
                (
                    mtu.checked_sub(self.headers - self.l3 + tags)?,
                    MAX_SEGMENTS,
                )
            }
            Layer4::Udp => (udp_segment?, MAX_UDP_SEGMENTS),
        };
        let is_superframe = size > 0
            && payload > size
            && payload.div_ceil(size) <= most
            // A superframe ends where the frame ends.
            && self.end == frame.len();
        u16::try_from(size).ok().filter(|_| is_superframe)
    }

    fn has_cwr(&self, frame: &[u8]) -> bool {
        be16(frame, self.l4 + 12).is_some_and(|flags| flags & 0x80 != 0)
    }
}

fn wide(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Numbers here are offsets within the headers.
fn narrow(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
