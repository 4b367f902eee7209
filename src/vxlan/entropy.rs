//! A hash of the inner flow, for the outer source port (RFC 7348 §5).
//!
//! What lies between two VTEPs (links in a bundle, receive queues, cores) is shared out by the outer
//! ports, so two inner flows should differ there, and the frames of one must not: they would
//! overtake each other.

use super::inner::{Fragment, Packet, SCTP, TCP, UDP, array, network};

/// A hash of the flow that `frame` belongs to, the same for all its frames. Every bit of it is as
/// good as any other.
///
/// IP addresses and protocol, and the ports of TCP, UDP and SCTP. Of a fragment, be it the first,
/// no ports: the others do not have them. For what is not IP, the MAC addresses and the type
/// behind the VLAN tags.
#[inline]
pub fn entropy(frame: &[u8]) -> u32 {
    let hash = match Packet::parse(frame) {
        Some(packet) => flow(frame, &packet),
        None => None,
    };
    let [_, _, _, _, hash @ ..] = hash.unwrap_or_else(|| stations(frame)).to_le_bytes();
    u32::from_le_bytes(hash)
}

#[inline]
fn flow(frame: &[u8], packet: &Packet) -> Option<u64> {
    let word = |at| array(frame, packet.l3 + at).map(u64::from_be_bytes);
    let addresses = if packet.is_v6 {
        mix(word(8)? ^ KEYS[0], word(16)? ^ KEYS[1]) ^ mix(word(24)? ^ KEYS[2], word(32)? ^ KEYS[3])
    } else {
        word(12)?
    };
    let ends = ports(frame, packet) << 8 | u64::from(packet.protocol);
    // One product of numbers that count up still counts up in some bits; a second does not.
    Some(mix(mix(addresses ^ KEYS[4], ends ^ KEYS[5]), KEYS[0]))
}

/// Both ports, or 0 where the protocol or the fragment has none.
#[inline]
fn ports(frame: &[u8], packet: &Packet) -> u64 {
    let has_ports = matches!(packet.protocol, TCP | UDP | SCTP);
    match packet.l4 {
        Some(l4) if has_ports && packet.fragment == Fragment::Whole => {
            array(frame, l4).map_or(0, u32::from_be_bytes).into()
        }
        _ => 0,
    }
}

/// The hash of what is not IP; of a frame without a header, that of zeros.
#[inline(never)]
fn stations(frame: &[u8]) -> u64 {
    let macs = array(frame, 0).map_or(0, u64::from_be_bytes);
    let rest = array(frame, 8).map_or(0, u32::from_be_bytes);
    let ether_type = network(frame).map_or(0, |(ether_type, _)| ether_type.0);
    let rest = u64::from(rest) << 16 | u64::from(ether_type);
    mix(mix(macs ^ KEYS[0], rest ^ KEYS[1]), KEYS[2])
}

/// Both halves of the product: every bit of the result depends on many of either number.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let [low, high] = [product, product >> 64].map(|half| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low 64 bits are wanted"
        )]
        let half = half as u64;
        half
    });
    low ^ high
}

/// Numbers without a pattern (digits of pi), so that neither factor is small.
const KEYS: [u64; 6] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6c,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{sim::frames, wire::EtherType};

    /// Sets the ports of a frame from `frames::{udp4, tcp4, udp6, tcp6}`.
    fn with_ports(mut frame: Vec<u8>, src: u16, dst: u16) -> Vec<u8> {
        let l4 = if frame[12] == 0x08 { 34 } else { 54 };
        frame[l4..l4 + 2].copy_from_slice(&src.to_be_bytes());
        frame[l4 + 2..l4 + 4].copy_from_slice(&dst.to_be_bytes());
        frame
    }

    /// A fragment header (RFC 8200 §4.5) put before the payload of an IPv6 frame.
    fn fragment6(frame: &[u8], offset: u16, more: bool) -> Vec<u8> {
        let place = (offset << 3 | u16::from(more)).to_be_bytes();
        let extension = [frame[20], 0, place[0], place[1], 0, 0, 0, 9];
        extended6(frame, 44, &extension)
    }

    fn extended6(frame: &[u8], number: u8, extension: &[u8]) -> Vec<u8> {
        let mut out = frame[..54].to_vec();
        out[20] = number;
        out.extend(extension);
        out.extend(&frame[54..]);
        let payload = u16::try_from(out.len() - 54).unwrap();
        out[18..20].copy_from_slice(&payload.to_be_bytes());
        out
    }

    #[test]
    fn flows_that_differ_in_one_field_differ_in_hash() {
        let base = with_ports(frames::udp4(1, 2, b"x"), 1000, 2000);
        let all = [
            base.clone(),
            with_ports(base.clone(), 1001, 2000),
            with_ports(base.clone(), 1000, 2001),
            with_ports(base, 2000, 1000),
            frames::udp4(3, 2, b"x"),
            frames::udp4(1, 3, b"x"),
            frames::udp4(2, 1, b"x"),
            frames::tcp4(1, 2, 7, b"x"),
            frames::udp6(1, 2, b"x"),
            frames::udp6(2, 1, b"x"),
            frames::udp6(1, 3, b"x"),
            frames::tcp6(1, 2, 7, b"x"),
            frames::arp_request(1, 2),
            frames::arp_request(2, 1),
            frames::arp_reply(1, 2),
            frames::unicast(frames::mac(1), frames::mac(2)),
            frames::unicast(frames::mac(2), frames::mac(1)),
            frames::echo_request(1, 2, 1),
        ];
        let hashes: HashSet<u32> = all.iter().map(|frame| entropy(frame)).collect();
        assert_eq!(hashes.len(), all.len());
    }

    #[test]
    fn frames_of_one_flow_agree_whatever_else_differs() {
        for [one, other] in [
            [
                frames::tcp4(1, 2, 1, b""),
                frames::tcp4(1, 2, 99_999, &[7; 1400]),
            ],
            [
                frames::tcp6(1, 2, 1, b""),
                frames::tcp6(1, 2, 99_999, &[7; 1400]),
            ],
            [frames::udp4(1, 2, b""), frames::udp4(1, 2, &[9; 9_000])],
            [frames::udp6(1, 2, b""), frames::udp6(1, 2, &[9; 9_000])],
        ] {
            let expected = entropy(&one);
            assert_eq!(entropy(&other), expected);
            let mut other = other;
            // TOS or traffic class and flow label, hop limit, and the MACs of another first hop.
            other[..12].fill(0x42);
            if other[12] == 0x08 {
                other[15] = 3;
                other[22] = 1;
                other[18..20].fill(0x77);
            } else {
                other[14..18].copy_from_slice(&[0x6f, 0xff, 0xff, 0xff]);
                other[21] = 1;
            }
            assert_eq!(entropy(&other), expected);
        }
    }

    #[test]
    fn all_fragments_of_a_datagram_agree_and_have_no_ports() {
        let whole = frames::udp4(1, 2, &[0; 100]);
        let fragment = |place: u16, ports: [u8; 4]| {
            let mut frame = whole.clone();
            frame[20..22].copy_from_slice(&place.to_be_bytes());
            frame[34..38].copy_from_slice(&ports);
            entropy(&frame)
        };
        let first = fragment(0x2000, [1, 2, 3, 4]);
        assert_eq!(fragment(0x2000, [4, 3, 2, 1]), first);
        assert_eq!(fragment(0x2005, [9, 9, 9, 9]), first);
        assert_eq!(fragment(0x0010, [0; 4]), first);
        assert_ne!(entropy(&whole), first);
        assert_eq!(
            fragment(0x4000, whole[34..38].try_into().unwrap()),
            entropy(&whole)
        );

        let whole = frames::udp6(1, 2, &[0; 100]);
        let first = entropy(&fragment6(&whole, 0, true));
        for (offset, more) in [(0, false), (1, true), (99, false)] {
            let mut frame = fragment6(&whole, offset, more);
            frame[62..66].fill(u8::try_from(offset).unwrap());
            assert_eq!(entropy(&frame), first, "offset {offset}");
        }
        assert_ne!(entropy(&whole), first);
    }

    #[test]
    fn ports_are_found_behind_options_and_extension_headers() {
        let whole = frames::udp6(1, 2, b"x");
        let mut long = whole.clone();
        for _ in 0..7 {
            long = extended6(&long, 60, &[long[20], 0, 1, 4, 0, 0, 0, 0]);
        }
        assert_eq!(entropy(&long), entropy(&whole));
        let fragment = fragment6(&whole, 3, false);
        let hidden = extended6(
            &fragment,
            0,
            &[44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        assert_eq!(entropy(&hidden), entropy(&fragment));

        let whole = frames::udp4(1, 2, b"x");
        let mut options = whole[..34].to_vec();
        options[14] = 0x46;
        options.extend([1; 4]);
        options.extend(&whole[34..]);
        assert_eq!(entropy(&options), entropy(&whole));
    }

    #[test]
    fn more_extension_headers_than_anybody_needs_hide_the_ports() {
        let hashes = [1000, 2000].map(|port| {
            let mut frame = with_ports(frames::udp6(1, 2, b"x"), port, 53);
            for _ in 0..9 {
                frame = extended6(&frame, 60, &[frame[20], 0, 1, 4, 0, 0, 0, 0]);
            }
            entropy(&frame)
        });
        assert_eq!(hashes[0], hashes[1]);
    }

    #[test]
    fn tags_do_not_hide_the_flow() {
        for frame in [
            frames::udp4(1, 2, b"x"),
            frames::tcp6(1, 2, 3, b"x"),
            frames::arp_request(1, 2),
        ] {
            let once = frames::tagged(&frame, 10);
            let twice = frames::tagged_as(&once, EtherType::QINQ, 0x2014);
            assert_eq!(entropy(&once), entropy(&frame));
            assert_eq!(entropy(&twice), entropy(&frame));
        }
    }

    /// Whether 1000 numbers fall evenly into 16 buckets: chi square with 15 degrees of freedom is
    /// above 37.7 once in a thousand times.
    fn is_even(buckets: impl Iterator<Item = usize>) -> bool {
        let mut counts = [0_i32; 16];
        buckets.for_each(|bucket| counts[bucket] += 1);
        let total: i32 = counts.iter().sum();
        let square: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - f64::from(total) / 16.0).powi(2))
            .sum();
        total == 1000 && square / (f64::from(total) / 16.0) < 37.7
    }

    #[test]
    fn a_thousand_flows_fall_evenly_into_sixteen_buckets() {
        type Make = fn(u16) -> Vec<u8>;
        let kinds: [(&str, Make); 6] = [
            ("source ports of udp4", |n| {
                with_ports(frames::udp4(1, 2, b""), 32_768 + n, 53)
            }),
            ("even source ports of tcp4", |n| {
                with_ports(frames::tcp4(1, 2, 1, b""), 2 * n, 443)
            }),
            ("source ports of udp6", |n| {
                with_ports(frames::udp6(1, 2, b""), 32_768 + n, 53)
            }),
            ("destination ports of tcp6", |n| {
                with_ports(frames::tcp6(1, 2, 1, b""), 1, n)
            }),
            ("addresses of hosts that ping", |n| {
                let mut frame = frames::echo_request(1, 2, 1);
                frame[28..30].copy_from_slice(&n.to_be_bytes());
                frame
            }),
            ("MAC addresses", |n| {
                frames::unicast(frames::mac(n), frames::mac(2))
            }),
        ];
        for (name, make) in kinds {
            let hashes: Vec<u32> = (1..=1000).map(|n| entropy(&make(n))).collect();
            let bucket = |shift: u32| {
                hashes
                    .iter()
                    .map(move |hash| usize::try_from(hash >> shift & 15).unwrap())
            };
            for shift in [0, 4, 13, 28] {
                assert!(is_even(bucket(shift)), "{name}, bits from {shift}");
            }
        }
    }

    #[test]
    fn no_prefix_of_a_frame_is_a_problem() {
        let long = extended6(&frames::udp6(1, 2, b"x"), 0, &[17, 0, 1, 4, 0, 0, 0, 0]);
        for frame in [
            frames::tcp4(1, 2, 3, b"x"),
            long,
            frames::tagged(&frames::arp_request(1, 2), 3),
        ] {
            for len in 0..=frame.len() {
                let hash = entropy(&frame[..len]);
                assert_eq!(hash, entropy(&frame[..len]));
            }
        }
    }
}
