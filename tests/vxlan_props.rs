//! What the overlay's bytes must be true to, whatever the frame; smoltcp checks the checksums.

mod superframe;

use proptest::prelude::*;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet, checksum};
use superframe::{Superframe, low};
use tapswitch::{
    vxlan::{
        HEADER_LEN, Header, ecn, entropy, header, parse,
        ping::{self, Kind, Probe},
        split,
        too_big::{Answer, answer},
    },
    wire::{MacAddr, Vni},
};

prop_compose! {
    fn vnis()(number in 0..=0xff_ffff_u32) -> Vni {
        Vni::new(number).unwrap()
    }
}

prop_compose! {
    /// IP packets with up to two tags, as a tenant's kernel would send them.
    fn packets()(
        tags in prop::collection::vec(prop_oneof![Just(0x8100), Just(0x88a8)], 0..3),
        (v6, udp, needs_csum) in any::<(bool, bool, bool)>(),
        ip_options in 0_u8..11,
        extensions in prop::collection::vec(
            (prop_oneof![Just(0_u8), Just(43), Just(60)], 0_u8..4), 0..3),
        tcp_options in 0_u8..11,
        (tcp_flags, seq, ip_id, traffic_class, salt) in any::<(u8, u32, u16, u8, u64)>(),
        payload in prop_oneof![0_usize..300, 0_usize..3000],
        padding in prop_oneof![3 => Just(0_usize), 1 => 0_usize..50],
    ) -> Superframe {
        Superframe {
            tags, v6, udp, needs_csum, ip_options, extensions, tcp_options, tcp_flags, seq, ip_id,
            traffic_class, salt, payload, padding,
            gso: false,
            ..Superframe::default()
        }
    }
}

prop_compose! {
    /// UDP superframes, of at least two datagrams, as a kernel leaves them.
    fn udp_superframes()(
        packet in packets(),
        gso_size in 60_u16..1450,
        datagrams in 2_usize..40,
        short in 0_usize..50,
    ) -> Superframe {
        Superframe {
            udp: true,
            gso: true,
            needs_csum: true,
            gso_size,
            payload: usize::from(gso_size) * datagrams - short,
            padding: 0,
            ..packet
        }
    }
}

fn frame_of(len: usize, salt: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    superframe::Noise(salt).extend(&mut frame, len);
    frame
}

fn datagram(vni: Vni, frame: &[u8]) -> Vec<u8> {
    [&header(vni)[..], frame].concat()
}

/// What `split` makes of a message, byte by byte.
fn pieces(message: &[u8], segment: usize) -> Vec<&[u8]> {
    split(message, segment)
        .map(|range| &message[range])
        .collect()
}

/// A UDP superframe cut to `len` bytes that claims to be `claimed` long, with all that belongs to
/// it: the worst that a tenant can put in front of the frames of others.
fn liar(spec: &Superframe, len: usize, claimed: usize) -> Vec<u8> {
    let payload = claimed.saturating_sub(spec.headers());
    let spec = Superframe {
        payload,
        ..spec.clone()
    };
    let mut frame = spec.frame();
    frame.resize(len, 0);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encapsulated_comes_out_again(
        vni in vnis(),
        frame in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let datagram = datagram(vni, &frame);
        let expected = Header { vni, reserved: false };
        prop_assert_eq!(parse(&datagram), Ok((expected, &frame[..])));
    }

    #[test]
    fn reserved_bits_never_change_the_vni_or_the_frame(
        vni in vnis(),
        bits in any::<u64>(),
        frame in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let noise = bits & 0xf7ff_ffff_0000_00ff;
        let head = u64::from_be_bytes(header(vni)) | noise;
        let datagram = [&head.to_be_bytes()[..], &frame].concat();
        let expected = Header { vni, reserved: noise != 0 };
        prop_assert_eq!(parse(&datagram), Ok((expected, &frame[..])));
    }

    #[test]
    fn decapsulation_changes_ecn_bits_and_the_checksum_and_nothing_else(
        packet in packets(),
        outer in any::<u8>(),
    ) {
        let before = packet.frame();
        let mut after = before.clone();
        let inner = packet.traffic_class & 3;

        let result = ecn::decapsulate(outer, &mut after);

        let (expected, is_dropped) = match (inner, outer & 3) {
            (0, 3) => (0, true),
            (0 | 3, _) | (_, 0 | 2) => (inner, false),
            (_, 3) => (3, false),
            _ => (1, false),
        };
        prop_assert_eq!(result.is_err(), is_dropped);
        let class = packet.traffic_class & !3 | expected;
        let other = Superframe { traffic_class: class, ..packet };
        // The checksum of the whole is what it would have been from the start; the traffic class
        // is in no other sum.
        prop_assert_eq!(after, other.frame());
        prop_assert_eq!(ecn::tos_of(&before), Some(packet.traffic_class));
        prop_assert_eq!(ecn::encapsulate(packet.traffic_class), inner);
    }

    #[test]
    fn decapsulation_of_any_bytes_keeps_the_header_as_wrong_as_it_was(
        head in prop::sample::select(vec![[0x08, 0x00, 0x45], [0x86, 0xdd, 0x60], [0x81, 0x00, 0]]),
        mut frame in prop::collection::vec(any::<u8>(), 15..120),
        outer in any::<u8>(),
    ) {
        frame[12..15].copy_from_slice(&head);
        let before = frame.clone();
        let _ = ecn::decapsulate(outer, &mut frame);
        let changed: Vec<usize> = (0..frame.len()).filter(|&at| frame[at] != before[at]).collect();
        if let (Some(first), Some(last)) = (changed.first(), changed.last()) {
            prop_assert!(last - first <= 10, "changed {:?}", changed);
        }
        if head[0] == 0x08 && frame.len() >= 34 {
            let sum = |frame: &[u8]| checksum::data(&frame[14..34]) % 0xffff;
            prop_assert_eq!(sum(&frame), sum(&before));
        }
    }

    #[test]
    fn any_message_is_split_exactly_in_order_and_without_overlap(
        message in prop::collection::vec(any::<u8>(), 0..500),
        segment in prop_oneof![0_usize..600, any::<usize>()],
    ) {
        let datagrams = split(&message, segment);
        prop_assert_eq!(datagrams.len(), datagrams.clone().count());
        let pieces = pieces(&message, segment);
        prop_assert!(!pieces.is_empty());
        prop_assert_eq!(&pieces.concat(), &message);
        let (last, full) = pieces.split_last().unwrap();
        prop_assert!(full.iter().all(|piece| piece.len() == segment));
        prop_assert!(full.is_empty() || last.len() <= segment);
    }

    #[test]
    fn datagrams_that_a_vtep_sent_are_split_as_they_were_sent(
        vnis in prop::collection::vec(vnis(), 2..40),
        first in packets(),
        len in 60_usize..1450,
        last in 14_usize..1450,
        salt in any::<u64>(),
    ) {
        let frames = vnis.iter().enumerate().map(|(i, &vni)| {
            let len = if i + 1 == vnis.len() { last.min(len) } else { len };
            let mut frame = if i == 0 { first.frame() } else { frame_of(len, salt ^ i as u64) };
            frame.resize(len, 0xee);
            datagram(vni, &frame)
        });
        let sent: Vec<Vec<u8>> = frames.collect();
        let message = sent.concat();
        prop_assert_eq!(pieces(&message, HEADER_LEN + len), sent);
        prop_assert!(!split(&message, HEADER_LEN + len).is_suspect());
    }

    #[test]
    fn no_frame_swallows_those_that_were_joined_with_it(
        vnis in prop::collection::vec(vnis(), 2..40),
        spec in udp_superframes(),
        len in 400_usize..1450,
        last in 14_usize..1450,
        salt in any::<u64>(),
    ) {
        let count = vnis.len();
        let last = last.min(len);
        let total = (count - 1) * (HEADER_LEN + len) + HEADER_LEN + last;
        let sent: Vec<Vec<u8>> = vnis.iter().enumerate().map(|(i, &vni)| match i {
            0 => datagram(vni, &liar(&spec, len, total - HEADER_LEN)),
            _ if i + 1 == count => datagram(vni, &frame_of(last, salt)),
            _ => datagram(vni, &frame_of(len, salt ^ i as u64)),
        }).collect();
        let message = sent.concat();
        prop_assert_eq!(pieces(&message, HEADER_LEN + len), sent);
    }

    #[test]
    fn a_superframe_that_a_kernel_left_whole_stays_whole(vni in vnis(), spec in udp_superframes()) {
        let message = datagram(vni, &spec.frame());
        let datagrams = split(&message, spec.gso_size.into());
        prop_assert!(datagrams.is_superframe());
        prop_assert_eq!(datagrams.len(), 1);
    }

    #[test]
    fn nobody_forges_frames_of_another_segment_by_a_superframe(
        (vni, other) in (vnis(), vnis()),
        spec in udp_superframes(),
        at in any::<prop::sample::Index>(),
    ) {
        prop_assume!(vni != other);
        let mut message = datagram(vni, &spec.frame());
        let size = usize::from(spec.gso_size);
        // Behind the headers, where the tenant writes.
        let places: Vec<usize> = (size..message.len() - HEADER_LEN)
            .step_by(size)
            .filter(|&at| at >= HEADER_LEN + spec.headers())
            .collect();
        prop_assume!(!places.is_empty());
        let place = places[at.index(places.len())];
        message[place..place + HEADER_LEN].copy_from_slice(&header(other));
        prop_assert!(split(&message, size).is_suspect());
    }

    #[test]
    fn all_packets_of_a_flow_have_one_hash(
        one in packets(),
        (other, payload) in (packets(), 0_usize..3000),
    ) {
        // Only what makes the flow is the same.
        let other = Superframe { v6: one.v6, udp: one.udp, payload, ..other };
        prop_assert_eq!(entropy(&one.frame()), entropy(&other.frame()));
    }

    #[test]
    fn an_answer_is_a_whole_packet_with_right_checksums(packet in packets(), mtu in 0_u32..2000) {
        let frame = packet.frame();
        let mut out = Answer::new();
        let is_answered = answer(&frame, mtu, &mut out);
        let l3 = packet.l3();
        let len = frame.len() - packet.padding - l3;
        let (least, told) = if packet.v6 { (0, mtu.max(1280)) } else { (68, mtu) };
        let is_too_big = mtu >= least && len > usize::try_from(told).unwrap();
        prop_assert_eq!(is_answered, is_too_big);
        if is_answered {
            let bytes = out.as_bytes();
            prop_assert_eq!(&bytes[..6], &frame[6..12]);
            prop_assert_eq!(&bytes[6..12], &frame[..6]);
            prop_assert_eq!(&bytes[12..l3], &frame[12..l3]);
            let (quote, most, icmp) = if packet.v6 {
                let ip = Ipv6Packet::new_checked(&bytes[l3..]).unwrap();
                let pseudo = checksum::pseudo_header(
                    &ip.src_addr().into(), &ip.dst_addr().into(), ip.next_header(),
                    u32::from(ip.payload_len()));
                let sum = checksum::combine(&[pseudo, checksum::data(ip.payload())]);
                (&ip.payload()[8..], 1232, sum)
            } else {
                let ip = Ipv4Packet::new_checked(&bytes[l3..]).unwrap();
                prop_assert!(ip.verify_checksum());
                (&ip.payload()[8..], 548, checksum::data(ip.payload()))
            };
            prop_assert_eq!(icmp, 0xffff);
            prop_assert_eq!(quote, &frame[l3..l3 + len.min(most)]);
            let answered = bytes.to_vec();
            prop_assert!(!answer(&answered, 68, &mut out));
        }
    }

    #[test]
    fn a_probe_comes_back_and_no_other_frame_is_one(
        (src, token, sequence, is_reply) in any::<(u64, u64, u32, bool)>(),
        size in 0_usize..70_000,
        at in any::<prop::sample::Index>(),
    ) {
        let src = MacAddr::from_u48(src & 0xfeff_ffff_ffff | 2);
        let kind = if is_reply { Kind::Reply } else { Kind::Request };
        let probe = Probe { src, kind, token, sequence };
        let mut frame = Vec::new();
        ping::encode(&probe, size, &mut frame);
        prop_assert_eq!(frame.len(), size.clamp(ping::MIN_LEN, ping::MAX_LEN));
        prop_assert_eq!(ping::decode(&frame), Some(probe));
        prop_assert_eq!(ping::decode(&frame[..at.index(frame.len())]), None);
    }
}

#[test]
fn lengths_of_a_liar_are_those_of_the_message() {
    let spec = Superframe {
        udp: true,
        ..Superframe::default()
    };
    let frame = liar(&spec, 500, 2000);
    assert_eq!(frame.len(), 500);
    assert_eq!(frame[16..18], low(2000 - 14).to_be_bytes());
    assert_eq!(frame[38..40], low(2000 - 34).to_be_bytes());
}
