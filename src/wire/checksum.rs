//! The Internet checksum (RFC 1071) and its pseudo headers (RFC 9293 §3.1, RFC 8200 §8.1).
//!
//! One's complement addition does not care about byte order (RFC 1071 §2 (B)), so sums are kept as
//! the machine loads them and only [`Sum::fold`] turns them into a number.
//!
//! ```
//! use tapswitch::wire::checksum::{Sum, sum};
//!
//! // The example of RFC 1071 §3.
//! let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
//! assert_eq!(sum(&bytes).fold(), 0xddf2);
//! assert_eq!(sum(&bytes).checksum(), 0x220d);
//!
//! // Parts add up, and what changes can be exchanged (RFC 1624).
//! assert_eq!((sum(&bytes[..4]) + sum(&bytes[4..])).fold(), 0xddf2);
//! assert_eq!((sum(&bytes) + Sum::word(!0x0001_f203) + Sum::word(0x0001_f204)).fold(), 0xddf3);
//! ```

use std::ops::Add;

/// A one's complement sum that is not folded to 16 bits yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of no bytes.
    pub const ZERO: Self = Self(0);

    /// The sum of the two 16-bit halves of `number`.
    ///
    /// To subtract, add the complement: `Sum::word(!number)`.
    #[inline]
    pub fn word(number: u32) -> Self {
        Self(u64::from(u32::from_ne_bytes(number.to_be_bytes())))
    }

    /// The sum as a part that starts at an odd offset of the whole (RFC 1071 §2 (B)).
    #[inline]
    pub fn at_odd_offset(self) -> Self {
        Self(u64::from(self.fold().to_be().swap_bytes()))
    }

    /// The sum in 16 bits. Zero only if every byte was zero.
    #[inline]
    pub fn fold(self) -> u16 {
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        for _ in 0..3 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [a, b, ..] = sum.to_le_bytes();
        u16::from_le_bytes([a, b]).to_be()
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }
}

impl Add for Sum {
    type Output = Self;

    /// The sum of both parts, the second of which starts at an even offset of the whole.
    #[inline]
    fn add(self, other: Self) -> Self {
        // Both are far below 2^63: `sum` hands out less than 2^38.
        Self(self.0.wrapping_add(other.0))
    }
}

/// Adds up `bytes` as big-endian 16-bit words; a last odd byte counts as the high half of a word.
#[inline]
pub fn sum(bytes: &[u8]) -> Sum {
    let (blocks, rest) = bytes.as_chunks();
    let mut total = if blocks.is_empty() {
        0
    } else {
        sum_of_blocks(blocks)
    };
    let (words, mut tail) = rest.as_chunks();
    for word in words {
        total += halves(u64::from_ne_bytes(*word));
    }
    if let Some((word, rest)) = tail.split_first_chunk() {
        total += u64::from(u32::from_ne_bytes(*word));
        tail = rest;
    }
    if let Some((word, rest)) = tail.split_first_chunk() {
        total += u64::from(u16::from_ne_bytes(*word));
        tail = rest;
    }
    if let [last] = *tail {
        total += u64::from(u16::from_ne_bytes([last, 0]));
    }
    Sum(total)
}

/// The pseudo header of IPv4: addresses, protocol and layer-4 length (RFC 9293 §3.1).
#[inline]
pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u32) -> Sum {
    sum(&src) + sum(&dst) + Sum::word(protocol.into()) + Sum::word(len)
}

/// The pseudo header of IPv6: addresses, upper-layer length and protocol (RFC 8200 §8.1).
#[inline]
pub fn pseudo_v6(src: [u8; 16], dst: [u8; 16], protocol: u8, len: u32) -> Sum {
    sum(&src) + sum(&dst) + Sum::word(protocol.into()) + Sum::word(len)
}

/// What most bytes of a frame go through: 64 at once, which the compiler makes vectors of.
///
/// A word is `high` times 2^32 and `low`. Adding up all words modulo 2^64, and all high halves
/// apart, leaves the sum of the low halves as a difference; that is one step less for each word than
/// taking out both halves.
fn sum_of_blocks(blocks: &[[u8; 8 * LANES]]) -> u64 {
    let (mut all, mut high) = ([0_u64; LANES], [0_u64; LANES]);
    for block in blocks {
        let (words, _) = block.as_chunks();
        for ((all, high), word) in all.iter_mut().zip(&mut high).zip(words) {
            let word = u64::from_ne_bytes(*word);
            *all = all.wrapping_add(word);
            *high += word >> 32;
        }
    }
    // Neither sum of halves overflows before 2^32 words.
    let (mut words, mut highs) = (0_u64, 0_u64);
    for (all, high) in all.iter().zip(&high) {
        words = words.wrapping_add(*all);
        highs += high;
    }
    halves(words.wrapping_sub(highs << 32)) + halves(highs)
}

/// The sum of both halves of a word.
#[inline]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// 64-bit words in a block.
const LANES: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{
        IpAddress, IpProtocol, Ipv4Address, Ipv6Address, checksum as smoltcp_checksum,
    };

    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes).fold(), 0xddf2);
        assert_eq!(sum(&bytes).checksum(), 0x220d);
    }

    #[test]
    fn only_zeroes_sum_to_zero() {
        assert_eq!(sum(&[]).fold(), 0);
        assert_eq!(sum(&[0; 99]).fold(), 0);
        assert_eq!((sum(&[0xff; 2]) + sum(&[0xff; 70])).fold(), 0xffff);
    }

    #[test]
    fn an_odd_byte_is_the_high_half_of_a_word() {
        assert_eq!(sum(&[0x12]).fold(), 0x1200);
        assert_eq!(sum(&[0x12]).at_odd_offset().fold(), 0x0012);
        assert_eq!(sum(&[0, 0, 0x12]).fold(), 0x1200);
    }

    #[test]
    fn the_largest_frames_do_not_overflow() {
        let bytes = vec![0xff; 1 << 20];
        assert_eq!(sum(&bytes).fold(), 0xffff);
    }

    #[test]
    fn adding_the_complement_subtracts() {
        let whole = Sum::word(0x0001_2345) + Sum::word(!0x0000_2345);
        assert_eq!(whole.fold(), 1);
    }

    proptest! {
        #[test]
        fn agrees_with_smoltcp_and_etherparse_at_any_alignment(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            from in 0_usize..40,
        ) {
            let bytes = bytes.get(from..).unwrap_or_default();
            let ours = sum(bytes);
            prop_assert_eq!(ours.fold(), smoltcp_checksum::data(bytes));
            let theirs = etherparse::checksum::Sum16BitWords::new().add_slice(bytes);
            prop_assert_eq!(ours.checksum().to_be(), theirs.ones_complement());
        }

        #[test]
        fn the_parts_add_up_to_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 1..500),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(bytes.len());
            let (head, tail) = bytes.split_at(at);
            let second = if at % 2 == 1 { sum(tail).at_odd_offset() } else { sum(tail) };
            prop_assert_eq!((sum(head) + second).fold(), sum(&bytes).fold());
        }

        #[test]
        fn pseudo_headers_agree_with_smoltcp(
            src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), protocol: u8, len in 0_u32..65_536,
        ) {
            let next = IpProtocol::from(protocol);
            let (src6, dst6) = (Ipv6Address::from(src), Ipv6Address::from(dst));
            let theirs = smoltcp_checksum::pseudo_header(
                &IpAddress::Ipv6(src6), &IpAddress::Ipv6(dst6), next, len);
            prop_assert_eq!(pseudo_v6(src, dst, protocol, len).fold(), theirs);

            let [a, b, c, d, e, f, g, h, ..] = src;
            let (src4, dst4) = ([a, b, c, d], [e, f, g, h]);
            let theirs = smoltcp_checksum::pseudo_header(
                &IpAddress::Ipv4(Ipv4Address::from(src4)),
                &IpAddress::Ipv4(Ipv4Address::from(dst4)), next, len);
            prop_assert_eq!(pseudo_v4(src4, dst4, protocol, len).fold(), theirs);
        }
    }
}
