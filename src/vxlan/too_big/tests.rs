//! The answers, read by two other stacks, and everybody who must not get one.

use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4, icmpv6};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv6Packet, Icmpv6Repr, Ipv4Packet,
        Ipv6Packet,
    },
};

use super::*;
use crate::sim::frames;

fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    frame[24..26].fill(0);
    let checksum = sum(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// TCP over IPv4 with DF set and `len` bytes of packet.
fn v4(len: usize) -> Vec<u8> {
    let mut frame = frames::tcp4(1, 2, 7, &vec![0x5a; len - 40]);
    frame[20] = 0x40;
    frame[22] = 7;
    sealed(frame)
}

fn v6(len: usize) -> Vec<u8> {
    frames::tcp6(1, 2, 7, &vec![0x5a; len - 60])
}

fn answered(frame: &[u8], mtu: u32) -> Option<Vec<u8>> {
    let mut out = Answer::new();
    let is_answered = answer(frame, mtu, &mut out);
    assert_eq!(is_answered, !out.as_bytes().is_empty());
    is_answered.then(|| out.as_bytes().to_vec())
}

#[test]
fn an_ipv4_sender_is_told_the_mtu() {
    let frame = v4(1500);
    let answer = answered(&frame, 1450).unwrap();
    assert_eq!(answer.len(), 14 + 576);

    let packet = SlicedPacket::from_ethernet(&answer).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &packet.net else {
        panic!("{packet:?}");
    };
    let header = ip.header().to_header();
    assert_eq!(header.source, frames::ip(2).octets());
    assert_eq!(header.destination, frames::ip(1).octets());
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!((header.time_to_live, header.dont_fragment), (64, true));
    let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else {
        panic!("{packet:?}");
    };
    let expected = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1450 };
    assert_eq!(
        icmp.icmp_type(),
        Icmpv4Type::DestinationUnreachable(expected)
    );
    assert_eq!(icmp.payload(), &frame[14..14 + 548]);

    let ip = Ipv4Packet::new_checked(&answer[14..]).unwrap();
    assert!(ip.verify_checksum());
    // Its parser of the whole wants the quoted packet whole.
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum());
    assert_eq!(icmp.msg_type(), Icmpv4Message::DstUnreachable);
    assert_eq!(
        icmp.msg_code(),
        u8::from(Icmpv4DstUnreachable::FragRequired)
    );
}

#[test]
fn an_ipv6_sender_is_told_the_mtu() {
    let frame = v6(1500);
    let answer = answered(&frame, 1430).unwrap();
    assert_eq!(answer.len(), 14 + 1280);

    let packet = SlicedPacket::from_ethernet(&answer).unwrap();
    let Some(NetSlice::Ipv6(ip)) = &packet.net else {
        panic!("{packet:?}");
    };
    let header = ip.header().to_header();
    assert_eq!(header.source, frames::ip6(2).octets());
    assert_eq!(header.destination, frames::ip6(1).octets());
    assert_eq!(header.hop_limit, 64);
    let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else {
        panic!("{packet:?}");
    };
    assert!(icmp.is_checksum_valid(header.source, header.destination));
    assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: 1430 });
    assert_eq!(icmp.type_u8(), icmpv6::TYPE_PACKET_TOO_BIG);
    assert_eq!(icmp.payload(), &frame[14..14 + 1232]);

    let ip = Ipv6Packet::new_checked(&answer[14..]).unwrap();
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    let repr = Icmpv6Repr::parse(
        &ip.src_addr(),
        &ip.dst_addr(),
        &icmp,
        &ChecksumCapabilities::default(),
    );
    assert!(
        matches!(repr, Ok(Icmpv6Repr::PktTooBig { mtu: 1430, .. })),
        "{repr:?}"
    );
}

#[test]
fn the_answer_goes_back_the_way_the_packet_came() {
    for frame in [v4(1500), v6(1500)] {
        let answer = answered(&frame, 1400).unwrap();
        let view = Frame::new_checked(&answer).unwrap();
        assert_eq!((view.dst(), view.src()), (frames::mac(1), frames::mac(2)));
        assert_eq!(answer[12..14], frame[12..14]);

        let once = frames::tagged(&frame, 10);
        let twice = frames::tagged(&once, 0x2014);
        for (tagged, tags) in [(once, 1), (twice, 2)] {
            let behind = answered(&tagged, 1400).unwrap();
            let l3 = 14 + 4 * tags;
            assert_eq!(behind[..12], answer[..12]);
            assert_eq!(behind[12..l3], tagged[12..l3]);
            // The quoted packet is the same, and so is everything else.
            assert_eq!(behind[l3..], answer[14..]);
        }
        let thrice = (0..3).fold(frame, |frame, _| frames::tagged(&frame, 1));
        assert_eq!(answered(&thrice, 1400), None);
    }
}

#[test]
fn a_short_packet_is_quoted_whole_and_without_its_padding() {
    let mut frame = v4(200);
    frame.extend([0xee; 30]);
    let answer = answered(&frame, 100).unwrap();
    assert_eq!(answer.len(), 14 + 20 + 8 + 200);
    assert_eq!(answer[42..], frame[14..214]);
}

#[test]
fn every_sum_of_an_answer_is_right() {
    // Odd quotes, and sums that carry.
    for len in 100..700 {
        let frame = v4(len);
        let answer = answered(&frame, 99).unwrap();
        let ip = Ipv4Packet::new_checked(&answer[14..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(sum(ip.payload()).fold(), 0xffff, "length {len}");
    }
}

#[test]
fn what_fits_is_not_answered() {
    for mtu in [1500, 1501, 9000, u32::MAX] {
        assert_eq!(answered(&v4(1500), mtu), None);
        assert_eq!(answered(&v6(1500), mtu), None);
    }
    assert!(answered(&v4(1500), 1499).is_some());
    assert!(answered(&v6(1500), 1499).is_some());
}

#[test]
fn the_least_mtus_are_kept() {
    for (mtu, told) in [(67, false), (68, true), (0, false)] {
        assert_eq!(answered(&v4(1500), mtu).is_some(), told, "mtu {mtu}");
    }
    for mtu in [0, 68, 1279, 1280] {
        let answer = answered(&v6(1500), mtu).unwrap();
        assert_eq!(answer[58..62], 1280_u32.to_be_bytes(), "mtu {mtu}");
        // Nobody makes it smaller than that.
        assert_eq!(answered(&v6(1280), mtu), None, "mtu {mtu}");
    }
}

#[test]
fn a_superframe_is_answered_as_the_packet_that_it_is() {
    let frame = v4(60_000);
    assert_eq!(answered(&frame, 1450).unwrap().len(), 14 + 576);
}

/// A frame, what is changed in it, and why that gets no answer.
type Refusal = (&'static str, fn(&mut Vec<u8>));

#[test]
fn ipv4_senders_that_must_not_be_told_are_not() {
    let refusals: [Refusal; 23] = [
        ("may be fragmented", |f| f[20] = 0),
        ("later fragment", |f| f[21] = 1),
        ("broken header", |f| f[24] ^= 1),
        ("group destination", |f| f[0] = 3),
        ("broadcast", |f| f[..6].fill(0xff)),
        ("zero destination", |f| f[..6].fill(0)),
        ("group source", |f| f[6] = 3),
        ("zero source", |f| f[6..12].fill(0)),
        ("from multicast", |f| f[26] = 224),
        ("from broadcast", |f| f[26..30].fill(255)),
        ("from nobody", |f| f[26..30].fill(0)),
        ("from loopback", |f| f[26] = 127),
        ("to multicast", |f| f[30] = 239),
        ("to broadcast", |f| f[30..34].fill(255)),
        ("to nobody", |f| f[30..34].fill(0)),
        ("to loopback", |f| f[30] = 127),
        ("not ip", |f| f[13] = 6),
        ("another version", |f| f[14] = 0x55),
        ("header too short", |f| f[14] = 0x44),
        ("longer than the frame", |f| f[17] = f[17].wrapping_add(1)),
        ("shorter than its header", |f| {
            f[16..18].copy_from_slice(&[0, 19]);
        }),
        ("cut", |f| f.truncate(1000)),
        ("icmp error", |f| {
            f[23] = 1;
            f[34] = 3;
        }),
    ];
    for (name, damage) in refusals {
        let mut frame = v4(1500);
        damage(&mut frame);
        if name != "broken header" && frame.len() > 34 {
            frame = sealed(frame);
        }
        assert_eq!(answered(&frame, 1400), None, "{name}");
    }
}

#[test]
fn addresses_that_linux_gives_to_hosts_are_hosts() {
    for first in [0, 1, 10, 126, 128, 223, 240, 255] {
        for at in [26, 30] {
            let mut frame = v4(1500);
            frame[at] = first;
            assert!(
                answered(&sealed(frame), 1400).is_some(),
                "{first}.x at {at}"
            );
        }
    }
}

#[test]
fn of_icmpv4_only_echo_is_answered() {
    for kind in 0..=u8::MAX {
        let mut frame = v4(1500);
        frame[23] = 1;
        frame[34] = kind;
        let is_answered = answered(&sealed(frame), 1400).is_some();
        assert_eq!(is_answered, matches!(kind, 0 | 8), "type {kind}");
    }
}

#[test]
fn the_first_fragment_may_be_answered() {
    let mut frame = v4(1500);
    frame[20] = 0x60;
    assert!(answered(&sealed(frame), 1400).is_some());
}

#[test]
fn ipv6_senders_that_must_not_be_told_are_not() {
    let refusals: [Refusal; 13] = [
        ("group destination", |f| f[..2].fill(0x33)),
        ("group source", |f| f[6] = 1),
        ("from multicast", |f| f[22] = 0xff),
        ("from nobody", |f| f[22..38].fill(0)),
        ("from loopback", |f| {
            f[22..38].fill(0);
            f[37] = 1;
        }),
        ("to multicast", |f| f[38] = 0xff),
        ("to nobody", |f| f[38..54].fill(0)),
        ("another version", |f| f[14] = 0x40),
        ("longer than the frame", |f| f[19] = f[19].wrapping_add(1)),
        ("cut", |f| f.truncate(1400)),
        ("error without a type", |f| {
            f[20] = 58;
            f[18..20].fill(0);
            f.truncate(54);
        }),
        ("later fragment", |f| {
            f[20] = 44;
            f[54..62].copy_from_slice(&[6, 0, 0, 8, 0, 0, 0, 1]);
        }),
        ("two fragment headers", |f| {
            f[20] = 44;
            f[54..62].copy_from_slice(&[44, 0, 0, 1, 0, 0, 0, 1]);
            f[62..70].copy_from_slice(&[6, 0, 0, 1, 0, 0, 0, 1]);
        }),
    ];
    for (name, damage) in refusals {
        let mut frame = v6(1500);
        damage(&mut frame);
        assert_eq!(answered(&frame, 1400), None, "{name}");
    }
}

#[test]
fn of_icmpv6_no_error_and_no_redirect_is_answered_wherever_it_hides() {
    type Hide = fn(&mut Vec<u8>) -> usize;
    let hides: [(&str, Hide); 4] = [
        ("plain", |f| {
            f[20] = 58;
            54
        }),
        ("behind options", |f| {
            f[20] = 60;
            f[54..62].copy_from_slice(&[58, 0, 1, 4, 0, 0, 0, 0]);
            62
        }),
        ("in a first fragment", |f| {
            f[20] = 44;
            f[54..62].copy_from_slice(&[58, 0, 0, 1, 0, 0, 0, 1]);
            62
        }),
        ("behind options of a first fragment", |f| {
            f[20] = 44;
            f[54..62].copy_from_slice(&[60, 0, 0, 1, 0, 0, 0, 1]);
            f[62..70].copy_from_slice(&[58, 0, 1, 4, 0, 0, 0, 0]);
            70
        }),
    ];
    for (name, hide) in hides {
        for kind in 0..=u8::MAX {
            let mut frame = v6(1500);
            let at = hide(&mut frame);
            frame[at] = kind;
            let is_answered = answered(&frame, 1400).is_some();
            assert_eq!(
                is_answered,
                kind >= 128 && kind != 137,
                "type {kind} {name}"
            );
        }
    }
}

#[test]
fn headers_without_end_are_not_answered() {
    let mut frame = v6(1500);
    frame[20] = 60;
    for at in (54..54 + 8 * 9).step_by(8) {
        frame[at..at + 8].copy_from_slice(&[60, 0, 1, 4, 0, 0, 0, 0]);
    }
    frame[54 + 8 * 8] = 6;
    assert_eq!(answered(&frame, 1400), None);
    frame[54 + 8 * 7] = 6;
    assert!(answered(&frame, 1400).is_some());
}

#[test]
fn an_answer_is_never_answered_and_leaves_nothing_behind() {
    let mut out = Answer::default();
    assert!(answer(&v6(1500), 1400, &mut out));
    let first = out.as_bytes().to_vec();
    assert!(!answer(&first, 100, &mut out));
    assert!(out.as_bytes().is_empty());
    assert!(answer(&v4(300), 100, &mut out));
    assert_eq!(Some(out.as_bytes()), answered(&v4(300), 100).as_deref());
    let echoed = answered(&v4(300), 100).unwrap();
    assert_eq!(answered(&echoed, 68), None);
}

#[test]
fn no_prefix_of_a_frame_is_a_problem() {
    for frame in [v4(300), v6(1400), frames::tagged(&v4(300), 4)] {
        for len in 0..frame.len() {
            assert_eq!(answered(&frame[..len], 68), None, "length {len}");
        }
    }
}
