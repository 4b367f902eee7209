//! The virtio-net header in front of a frame on an `IFF_VNET_HDR` TAP
//! (`struct virtio_net_hdr`, include/uapi/linux/virtio_net.h).
//!
//! It says what the sender left undone: a checksum to complete, or a superframe to segment. This is
//! the *inner* offload. Fields are in host byte order, as the kernel's legacy layout has them.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What kind of superframe follows: the base type of `gso_type`, without its flag bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GsoType {
    /// One ordinary frame.
    None,
    /// TCP over IPv4, to be cut every `gso_size` payload bytes.
    TcpV4,
    /// TCP over IPv6, likewise.
    TcpV6,
    /// UDP over either family: one datagram every `gso_size` payload bytes (USO).
    UdpL4,
    /// Anything else, such as the retired UFO (3): refused.
    Unknown(u8),
}

/// A virtio-net header of 10 bytes, the size that every port of the switch uses: with a longer one
/// the kernel has more to fill with zeroes for each frame.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct VirtioNetHdr {
    /// [`Self::NEEDS_CSUM`] and [`Self::DATA_VALID`].
    pub flags: u8,
    /// A base type with the flag bit [`Self::GSO_ECN`]; see [`Self::gso`].
    pub gso_type: u8,
    hdr_len: [u8; 2],
    gso_size: [u8; 2],
    csum_start: [u8; 2],
    csum_offset: [u8; 2],
}

impl VirtioNetHdr {
    /// Size on the file descriptor, in bytes.
    pub const LEN: usize = 10;
    /// `flags`: the checksum at `csum_start + csum_offset` holds only the pseudo-header sum.
    pub const NEEDS_CSUM: u8 = 1;
    /// `flags`: the sender vouches for the checksum. Only ever read; the kernel ignores it on write.
    pub const DATA_VALID: u8 = 2;
    /// `gso_type`: the superframe carries CWR.
    pub const GSO_ECN: u8 = 0x80;

    const GSO_TCPV4: u8 = 1;
    const GSO_TCPV6: u8 = 4;
    const GSO_UDP_L4: u8 = 5;

    /// A header that asks for nothing: the frame behind it is complete.
    pub fn none() -> Self {
        Self::new_zeroed()
    }

    /// Reads the header at the start of `bytes`; `None` if fewer than 10 bytes are there.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// The kind of superframe.
    #[inline]
    pub fn gso(&self) -> GsoType {
        match self.gso_type & !Self::GSO_ECN {
            0 => GsoType::None,
            Self::GSO_TCPV4 => GsoType::TcpV4,
            Self::GSO_TCPV6 => GsoType::TcpV6,
            Self::GSO_UDP_L4 => GsoType::UdpL4,
            other => GsoType::Unknown(other),
        }
    }

    /// Sets the kind of superframe and keeps the flag bits.
    pub fn set_gso(&mut self, gso: GsoType) {
        let base = match gso {
            GsoType::None => 0,
            GsoType::TcpV4 => Self::GSO_TCPV4,
            GsoType::TcpV6 => Self::GSO_TCPV6,
            GsoType::UdpL4 => Self::GSO_UDP_L4,
            GsoType::Unknown(other) => other & !Self::GSO_ECN,
        };
        self.gso_type = self.gso_type & Self::GSO_ECN | base;
    }

    /// Whether the checksum is left for somebody else to complete.
    #[inline]
    pub fn needs_csum(&self) -> bool {
        self.flags & Self::NEEDS_CSUM != 0
    }

    /// Whether the frame behind is complete as it stands.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.gso_type == 0 && !self.needs_csum()
    }

    /// Whether the header at the start of `bytes` asks for nothing, without reading all of it.
    #[inline(always)]
    pub fn is_plain_at(bytes: &[u8]) -> bool {
        let asks = |&[flags, gso_type]: &[u8; 2]| flags & Self::NEEDS_CSUM != 0 || gso_type != 0;
        !bytes.first_chunk().is_some_and(asks)
    }

    /// Length of all headers as the sender told it. A hint: it may be 0, or the whole first buffer.
    pub fn hdr_len(&self) -> u16 {
        u16::from_ne_bytes(self.hdr_len)
    }

    /// Sets [`Self::hdr_len`].
    pub fn set_hdr_len(&mut self, bytes: u16) {
        self.hdr_len = bytes.to_ne_bytes();
    }

    /// Layer-4 payload bytes in each segment.
    pub fn gso_size(&self) -> u16 {
        u16::from_ne_bytes(self.gso_size)
    }

    /// Sets [`Self::gso_size`].
    pub fn set_gso_size(&mut self, bytes: u16) {
        self.gso_size = bytes.to_ne_bytes();
    }

    /// Where the checksummed bytes start, from the first byte of the Ethernet header.
    pub fn csum_start(&self) -> u16 {
        u16::from_ne_bytes(self.csum_start)
    }

    /// Where the checksum field is, from [`Self::csum_start`].
    pub fn csum_offset(&self) -> u16 {
        u16::from_ne_bytes(self.csum_offset)
    }

    /// Asks for the checksum of the bytes from `start` on, stored at `start + offset`.
    pub fn set_csum(&mut self, start: u16, offset: u16) {
        self.flags |= Self::NEEDS_CSUM;
        self.csum_start = start.to_ne_bytes();
        self.csum_offset = offset.to_ne_bytes();
    }
}

const _: () = assert!(size_of::<VirtioNetHdr>() == VirtioNetHdr::LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_kernel_puts_them() {
        let mut bytes = [0xa5; 14];
        bytes[..2].copy_from_slice(&[1, 0x81]);
        for (i, value) in [54_u16, 1448, 34, 16].into_iter().enumerate() {
            bytes[2 + 2 * i..4 + 2 * i].copy_from_slice(&value.to_ne_bytes());
        }
        let header = VirtioNetHdr::read(&bytes).unwrap();
        assert!(header.needs_csum());
        assert_eq!(header.gso(), GsoType::TcpV4);
        assert_eq!(
            [
                header.hdr_len(),
                header.gso_size(),
                header.csum_start(),
                header.csum_offset()
            ],
            [54, 1448, 34, 16]
        );
        assert_eq!(header.as_bytes(), &bytes[..10]);
        assert!(VirtioNetHdr::read(&bytes[..9]).is_none());
    }

    #[test]
    fn the_ecn_bit_is_not_part_of_the_type() {
        let mut header = VirtioNetHdr {
            gso_type: VirtioNetHdr::GSO_ECN,
            ..VirtioNetHdr::none()
        };
        header.set_gso(GsoType::TcpV6);
        assert_eq!((header.gso_type, header.gso()), (0x84, GsoType::TcpV6));
        header.gso_type = 3;
        assert_eq!(header.gso(), GsoType::Unknown(3));
    }
}
