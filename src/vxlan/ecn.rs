//! Congestion marks across the tunnel (RFC 6040).
//!
//! A router on the underlay that is congested marks the outer header. The mark has to reach the
//! inner receiver, which is the one to slow its sender down, and must not appear where the inner
//! sender does not understand marks: there the packet is lost, which everybody understands.
//!
//! ```
//! use tapswitch::{sim::frames, vxlan::ecn};
//!
//! // Byte 15 is the TOS of the inner IPv4 header. The router on the way marked the outer one.
//! let mut frame = frames::udp4(1, 2, b"");
//! frame[15] = ecn::ECT_0;
//! assert_eq!(ecn::decapsulate(ecn::CE, &mut frame), Ok(()));
//! assert_eq!(frame[15], ecn::CE);
//!
//! let mut frame = frames::udp4(1, 2, b"");
//! assert_eq!(ecn::decapsulate(ecn::CE, &mut frame), Err(ecn::EcnDrop));
//! ```

use super::inner::{V4_HEADER, V6_HEADER, array, network};
use crate::wire::{EtherType, checksum::Sum};

/// Not ECN-capable transport.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, codepoint 1.
pub const ECT_1: u8 = 0b01;
/// ECN-capable transport, codepoint 0.
pub const ECT_0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// The ECN field in an IPv4 TOS or an IPv6 traffic class (RFC 3168 §5).
const MASK: u8 = 0b11;

/// Congestion was experienced by a packet whose sender does not know of ECN: it is dropped, as the
/// router would have done (RFC 6040 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the underlay marked congestion on a packet that is not ECN-capable")]
pub struct EcnDrop;

/// The ECN bits of the outer header for a packet with this TOS or traffic class: the same
/// (RFC 6040 §4.1, normal mode).
#[inline]
pub const fn encapsulate(inner_tos: u8) -> u8 {
    inner_tos & MASK
}

/// `tos` with congestion experienced; `None` if the sender does not know of marks, and only a loss
/// tells it (RFC 3168 §5).
#[inline]
pub const fn mark(tos: u8) -> Option<u8> {
    match tos & MASK {
        NOT_ECT => None,
        _ => Some(tos | CE),
    }
}

/// Merges the ECN bits of the outer TOS or traffic class into the inner packet (RFC 6040 §4.2,
/// figure 4; the kernel's `INET_ECN_decapsulate`). The IPv4 header checksum follows, so that it is
/// as right or wrong as it was. What is not IP stays as it is.
///
/// | inner \ outer | Not-ECT | ECT(0) | ECT(1) | CE |
/// | --- | --- | --- | --- | --- |
/// | Not-ECT | Not-ECT | Not-ECT | Not-ECT | dropped |
/// | ECT(0) | ECT(0) | ECT(0) | ECT(1) | CE |
/// | ECT(1) | ECT(1) | ECT(1) | ECT(1) | CE |
/// | CE | CE | CE | CE | CE |
///
/// # Errors
/// [`EcnDrop`] for the one pair that must not be forwarded; `frame` is unchanged.
#[inline]
pub fn decapsulate(outer_tos: u8, frame: &mut [u8]) -> Result<(), EcnDrop> {
    if outer_tos & 1 == 0 {
        // Neither Not-ECT nor ECT(0), the left half of the table, changes anything.
        return Ok(());
    }
    merge(outer_tos & MASK, frame)
}

#[inline(never)]
fn merge(outer: u8, frame: &mut [u8]) -> Result<(), EcnDrop> {
    let Some(field) = find(frame) else {
        return Ok(());
    };
    let merged = match (field.tos & MASK, outer) {
        (NOT_ECT, CE) => return Err(EcnDrop),
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        _ => return Ok(()),
    };
    field.write(frame, field.tos & !MASK | merged);
    Ok(())
}

/// The TOS (IPv4) or traffic class (IPv6) of the packet in `frame`; `None` if it is not IP.
#[inline]
pub fn tos_of(frame: &[u8]) -> Option<u8> {
    find(frame).map(|field| field.tos)
}

/// A TOS or traffic class and where its packet is, all of whose fixed header is inside the frame.
#[derive(Clone, Copy)]
struct Field {
    is_v6: bool,
    l3: usize,
    tos: u8,
}

#[inline]
fn find(frame: &[u8]) -> Option<Field> {
    let (ether_type, l3) = network(frame)?;
    let is_v6 = match ether_type {
        EtherType::IPV4 => false,
        EtherType::IPV6 => true,
        _ => return None,
    };
    let header = if is_v6 { V6_HEADER } else { V4_HEADER };
    let packet = frame.get(l3..).filter(|packet| packet.len() >= header)?;
    let [first, second] = array(packet, 0)?;
    let (version, tos) = if is_v6 {
        (6, first << 4 | second >> 4)
    } else {
        (4, second)
    };
    (first >> 4 == version).then_some(Field { is_v6, l3, tos })
}

impl Field {
    fn write(self, frame: &mut [u8], tos: u8) {
        let packet = frame.get_mut(self.l3..).unwrap_or_default();
        if self.is_v6 {
            if let Some([first, second, ..]) = packet.first_chunk_mut::<V6_HEADER>() {
                *first = *first & 0xf0 | tos >> 4;
                *second = *second & 0x0f | tos << 4;
            }
            return;
        }
        if let Some([_, field, _, _, _, _, _, _, _, _, high, low, ..]) =
            packet.first_chunk_mut::<V4_HEADER>()
        {
            // RFC 1624 §3, equation 3: HC' = ~(~HC + ~m + m').
            let old = u16::from_be_bytes([*high, *low]);
            let sum = [u32::from(!old), u32::from(!u16::from(*field)), tos.into()]
                .into_iter()
                .fold(Sum::ZERO, |sum, word| sum + Sum::word(word));
            [*high, *low] = sum.checksum().to_be_bytes();
            *field = tos;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sim::frames, wire::checksum::sum};

    /// RFC 6040, figure 4: rows are inner, columns outer, both in the order of the codepoints.
    const FIGURE_4: [[Option<u8>; 4]; 4] = [
        [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
        [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
        [Some(ECT_0), Some(ECT_1), Some(ECT_0), Some(CE)],
        [Some(CE), Some(CE), Some(CE), Some(CE)],
    ];

    /// An IPv4 frame with this TOS and a right header checksum.
    fn v4(tos: u8) -> Vec<u8> {
        let mut frame = frames::udp4(1, 2, b"payload");
        frame[15] = tos;
        frame[24..26].fill(0);
        let checksum = sum(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        frame
    }

    fn v6(class: u8) -> Vec<u8> {
        let mut frame = frames::udp6(1, 2, b"payload");
        frame[14] = 0x60 | class >> 4;
        frame[15] = class << 4 | 0xf;
        frame[16..18].fill(0xff);
        frame
    }

    fn tagged(frame: &[u8], tags: usize) -> Vec<u8> {
        (0..tags).fold(frame.to_vec(), |frame, _| frames::tagged(&frame, 10))
    }

    #[test]
    fn all_sixteen_pairs_are_merged_as_rfc_6040_says() {
        for (inner, row) in (0_u8..).zip(FIGURE_4) {
            for (outer, expected) in (0_u8..).zip(row) {
                for dscp in [0_u8, 0xb8, 0xfc] {
                    for tags in 0..=2 {
                        for make in [v4, v6] {
                            let before = tagged(&make(dscp | inner), tags);
                            let mut frame = before.clone();
                            let result = decapsulate(0xb8 | outer, &mut frame);
                            let what = format!("inner {inner} outer {outer} tags {tags}");
                            let Some(merged) = expected else {
                                assert_eq!(result, Err(EcnDrop), "{what}");
                                assert_eq!(frame, before, "{what}");
                                continue;
                            };
                            assert_eq!(result, Ok(()), "{what}");
                            assert_eq!(frame, tagged(&make(dscp | merged), tags), "{what}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_checksum_of_every_header_follows() {
        for id in 0..=u16::MAX {
            let mut frame = v4(ECT_0);
            frame[18..20].copy_from_slice(&id.to_be_bytes());
            frame[24..26].fill(0);
            let checksum = sum(&frame[14..34]).checksum();
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());

            decapsulate(CE, &mut frame).unwrap();

            let found = [frame[24], frame[25]];
            frame[24..26].fill(0);
            assert_eq!(
                found,
                sum(&frame[14..34]).checksum().to_be_bytes(),
                "id {id}"
            );
        }
    }

    #[test]
    fn a_wrong_checksum_stays_as_wrong_as_it_was() {
        let error = |frame: &[u8]| sum(&frame[14..34]).fold();
        for damage in 1..=u8::MAX {
            let mut frame = v4(ECT_1);
            frame[25] ^= damage;
            let before = error(&frame);
            decapsulate(CE, &mut frame).unwrap();
            assert_eq!(frame[15], CE);
            assert_eq!(error(&frame), before);
        }
    }

    #[test]
    fn the_outer_header_gets_the_inner_bits() {
        for tos in 0..=u8::MAX {
            assert_eq!(encapsulate(tos), tos & 3);
            assert_eq!(tos_of(&v4(tos)), Some(tos));
            assert_eq!(tos_of(&v6(tos)), Some(tos));
            assert_eq!(tos_of(&tagged(&v6(tos), 2)), Some(tos));
        }
    }

    #[test]
    fn what_is_not_ip_or_not_whole_is_left_alone() {
        let mut wrong_version = v4(ECT_0);
        wrong_version[14] = 0x65;
        let others = [
            frames::arp_request(1, 2),
            frames::broadcast(frames::mac(1)),
            tagged(&v4(ECT_0), 3),
            wrong_version,
        ];
        let short = (0..34).map(|len| v4(NOT_ECT)[..len].to_vec());
        let short6 = (0..54).map(|len| v6(NOT_ECT)[..len].to_vec());
        for before in others.into_iter().chain(short).chain(short6) {
            let mut frame = before.clone();
            assert_eq!(decapsulate(CE, &mut frame), Ok(()));
            assert_eq!(frame, before);
            assert_eq!(tos_of(&frame), None);
        }
    }
}
