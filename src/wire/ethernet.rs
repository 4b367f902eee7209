//! Ethernet frames without FCS (IEEE 802.3 clause 3), with an optional 802.1Q or 802.1ad tag.

use super::MacAddr;

/// The type field of an Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// A customer VLAN tag follows (IEEE 802.1Q).
    pub const VLAN: Self = Self(0x8100);
    /// A service VLAN tag follows (IEEE 802.1ad).
    pub const QINQ: Self = Self(0x88a8);

    /// Whether a 4-byte VLAN tag starts at the type field.
    pub const fn is_tag(self) -> bool {
        self.0 == Self::VLAN.0 || self.0 == Self::QINQ.0
    }
}

/// The frame ends before its Ethernet header, or inside a VLAN tag that the header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame has {got} bytes, its Ethernet header needs {needed}")]
pub struct Truncated {
    /// Bytes needed.
    pub needed: usize,
    /// Bytes present.
    pub got: usize,
}

/// A view of one Ethernet frame. After [`Frame::new_checked`] no accessor can fail.
///
/// ```
/// use tapswitch::wire::{EtherType, Frame};
///
/// let mut bytes = [0; 18];
/// bytes[12..].copy_from_slice(&[0x81, 0x00, 0x20, 0x0a, 0x08, 0x00]);
/// let frame = Frame::new_checked(&bytes).unwrap();
/// assert_eq!((frame.ether_type(), frame.vlan()), (EtherType::VLAN, 10));
///
/// let error = Frame::new_checked(&bytes[..17]).unwrap_err();
/// assert_eq!(error.to_string(), "frame has 17 bytes, its Ethernet header needs 18");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    head: &'a [u8; 14],
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Destination, source and type: the shortest frame that can be forwarded.
    pub const HEADER_LEN: usize = 14;
    /// One VLAN tag.
    pub const TAG_LEN: usize = 4;

    /// Checks that the Ethernet header, with its outermost VLAN tag if it announces one, is there.
    ///
    /// # Errors
    /// [`Truncated`] for fewer than 14 bytes, or 14 to 17 with a VLAN tag announced.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let got = bytes.len();
        let Some(head) = bytes.first_chunk() else {
            return Err(Truncated {
                needed: Self::HEADER_LEN,
                got,
            });
        };
        let frame = Self { head, bytes };
        let needed = Self::HEADER_LEN + Self::TAG_LEN;
        if frame.ether_type().is_tag() && got < needed {
            return Err(Truncated { needed, got });
        }
        Ok(frame)
    }

    /// A frame of which only the header is at hand; `None` if a VLAN tag follows it.
    #[inline]
    pub fn from_header(head: &'a [u8; 14]) -> Option<Self> {
        let frame = Self { head, bytes: head };
        (!frame.ether_type().is_tag()).then_some(frame)
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> MacAddr {
        // One load of eight bytes, of which the last two are not wanted.
        let bytes = self
            .head
            .first_chunk()
            .map_or(0, |chunk| u64::from_be_bytes(*chunk));
        MacAddr::from_u48(bytes >> 16)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> MacAddr {
        // Likewise; the first two are the end of the destination, the last of the 14 the type.
        let bytes = self.head[4..]
            .first_chunk()
            .map_or(0, |chunk| u64::from_be_bytes(*chunk));
        MacAddr::from_u48(bytes)
    }

    /// The type field: of the payload, or of the outermost tag.
    #[inline]
    pub fn ether_type(&self) -> EtherType {
        EtherType(u16::from_be_bytes([self.head[12], self.head[13]]))
    }

    /// The VLAN id of the outermost tag; 0 for untagged and for priority-tagged frames
    /// (IEEE 802.1Q clause 9.6).
    #[inline]
    pub fn vlan(&self) -> u16 {
        if !self.ether_type().is_tag() {
            return 0;
        }
        match self.bytes.get(14..16) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]) & 0x0fff,
            _ => 0,
        }
    }

    /// The whole frame.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGGED: [u8; 18] = [
        0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x81, 0x00, 0x20, 0x0a, 0x08, 0x00,
    ];

    #[test]
    fn accessors_read_what_the_header_says() {
        let frame = Frame::new_checked(&TAGGED).unwrap();
        assert_eq!(frame.dst(), MacAddr::new([2, 0, 0, 0, 0, 2]));
        assert_eq!(frame.src(), MacAddr::new([2, 0, 0, 0, 0, 1]));
        assert_eq!(frame.ether_type(), EtherType::VLAN);
        assert_eq!(frame.vlan(), 10);
    }

    #[test]
    fn a_frame_that_ends_in_its_header_or_tag_is_truncated() {
        for len in 0..18 {
            assert!(
                Frame::new_checked(&TAGGED[..len]).is_err(),
                "length {len} was accepted"
            );
        }
        let mut untagged = TAGGED;
        untagged[12..14].copy_from_slice(&[0x08, 0x00]);
        assert!(Frame::new_checked(&untagged[..13]).is_err());
        assert_eq!(Frame::new_checked(&untagged[..14]).unwrap().vlan(), 0);
    }
}
