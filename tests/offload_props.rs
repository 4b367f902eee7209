//! What segmentation must be true to, whatever the superframe; smoltcp and etherparse judge it.

mod superframe;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use smoltcp::wire::checksum;
use superframe::{Superframe, pseudo, whole};
use tapswitch::{
    offload::{self, BadOffload, MAX_SEGMENTS, MAX_UDP_SEGMENTS, Segments},
    wire::VirtioNetHdr,
};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

prop_compose! {
    fn superframes()(
        tags in proptest::collection::vec(prop_oneof![Just(0x8100), Just(0x88a8)], 0..3),
        (v6, udp, ecn, gso, needs_csum) in any::<(bool, bool, bool, bool, bool)>(),
        ip_options in 0_u8..11,
        extensions in proptest::collection::vec(
            (prop_oneof![Just(0_u8), Just(43), Just(60)], 0_u8..4), 0..3),
        tcp_options in 0_u8..11,
        (tcp_flags, urgent, seq, ip_id, traffic_class, salt)
            in any::<(u8, u16, u32, u16, u8, u64)>(),
        payload in prop_oneof![0_usize..300, 0_usize..10_000, 0_usize..64_000],
        gso_size in prop_oneof![1_u16..100, 1_u16..9000, 1200_u16..1460],
        hdr_len in prop_oneof![Just(0), Just(u16::MAX), any::<u16>()],
    ) -> Superframe {
        Superframe {
            tags, v6, udp, ip_options, extensions, tcp_options, tcp_flags, urgent, seq, ip_id,
            traffic_class, payload, salt, gso, gso_size, hdr_len,
            ecn: ecn && !udp,
            needs_csum: needs_csum || udp,
            padding: 0,
        }
    }
}

/// Whether all of the checksums in a finished frame are right, to smoltcp.
fn verified(spec: &Superframe, frame: &[u8]) -> bool {
    let l4 = &frame[spec.l4()..];
    let pseudo = pseudo(frame, spec.l3(), spec.udp, l4.len());
    let ip = &frame[spec.l3()..spec.l4()];
    checksum::combine(&[pseudo, checksum::data(l4)]) == 0xffff
        && (spec.v6 || checksum::data(ip) == 0xffff)
        && !(spec.udp && l4[6..8] == [0, 0])
}

/// Whether etherparse finds the frame whole, and would give it the same checksum.
fn parses(frame: &[u8]) -> bool {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let (Some(ip), Some(transport)) = (packet.net, packet.transport) else {
        return false;
    };
    match (transport, ip) {
        (TransportSlice::Tcp(tcp), NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            tcp.to_header().calc_checksum_ipv4(&ip, tcp.payload()) == Ok(tcp.checksum())
        }
        (TransportSlice::Tcp(tcp), NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            tcp.to_header().calc_checksum_ipv6(&ip, tcp.payload()) == Ok(tcp.checksum())
        }
        (TransportSlice::Udp(udp), NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            udp.to_header().calc_checksum_ipv4(&ip, udp.payload()) == Ok(udp.checksum())
        }
        (TransportSlice::Udp(udp), NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            udp.to_header().calc_checksum_ipv6(&ip, udp.payload()) == Ok(udp.checksum())
        }
        _ => false,
    }
}

#[test]
fn two_hundred_bytes_at_one_hundred_make_two_frames() {
    for (v6, udp, expected) in [
        (false, false, 140),
        (true, false, 160),
        (false, true, 128),
        (true, true, 148),
    ] {
        for tags in [vec![], vec![0x8100], vec![0x88a8, 0x8100]] {
            let spec = Superframe {
                v6,
                udp,
                tags,
                ..Superframe::default()
            };
            let mut out = Segments::new();
            let frame = spec.frame();
            offload::segment(&spec.header(), &frame, None, &mut out).unwrap();
            let segments = whole(&out, &frame);
            let lengths: Vec<usize> = segments.iter().map(Vec::len).collect();
            assert_eq!(
                lengths,
                [spec.l3() + expected; 2],
                "v6 {v6} udp {udp} {:?}",
                spec.tags
            );
            assert!(segments.iter().all(|segment| verified(&spec, segment)));
        }
    }
}

/// What is found here becomes a named test, and no file of seeds.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn segments_are_what_the_superframe_was(
        spec in superframes(),
        // Now and then an egress that takes less than the sender asked for.
        room in prop_oneof![2 => Just(None), 1 => (1_usize..3000).prop_map(Some)],
    ) {
        let (header, frame) = (spec.header(), spec.frame());
        let before = frame.clone();
        let mut out = Segments::new();

        let headers = spec.headers();
        let limit = room.map(|room| headers + room);
        let asked = usize::from(spec.gso_size);
        let size = if spec.udp { asked } else { asked.min(room.unwrap_or(asked)) };
        let count_at = |size| if spec.gso && spec.payload > size {
            spec.payload.div_ceil(size)
        } else {
            1
        };
        let most = if spec.udp { MAX_UDP_SEGMENTS } else { MAX_SEGMENTS };
        let result = offload::segment(&header, &frame, limit, &mut out);
        if count_at(asked) > most {
            let expected = Err(BadOffload::TooManySegments(count_at(asked)));
            prop_assert_eq!(offload::check(&header, &frame), expected);
            prop_assert_eq!(result, expected);
            return Ok(());
        }
        prop_assert_eq!(offload::check(&header, &frame), Ok(()));
        let count = count_at(size);
        if count > most {
            prop_assert_eq!(result, Err(BadOffload::TooManySegments(count)));
            prop_assert!(out.is_empty());
            return Ok(());
        }
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(&frame, &before);
        prop_assert_eq!(out.len(), count);
        prop_assert_eq!(out.iter().len(), count);

        let mut payload = Vec::new();
        for (index, segment) in whole(&out, &frame).iter().enumerate() {
            prop_assert!(verified(&spec, segment), "checksums of segment {}", index);
            // Extension headers are full of noise, which etherparse would look into.
            prop_assert!(!spec.extensions.is_empty() || parses(segment), "segment {}", index);
            prop_assert_eq!(&segment[..spec.l3()], &frame[..spec.l3()]);
            prop_assert!(count == 1 || segment.len() <= headers + size);
            prop_assert!(index + 1 == count || segment.len() == headers + size);
            let (ip, old_ip) = (&segment[spec.l3()..], &frame[spec.l3()..]);
            if spec.v6 {
                prop_assert_eq!(usize::from(u16::from_be_bytes([ip[4], ip[5]])), ip.len() - 40);
                prop_assert_eq!(&ip[40..spec.l4() - spec.l3()], &old_ip[40..spec.l4() - spec.l3()]);
            } else {
                prop_assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
                let id = u16::from_be_bytes([ip[4], ip[5]]);
                prop_assert_eq!(usize::from(id.wrapping_sub(spec.ip_id)), index);
                prop_assert_eq!(&ip[12..spec.l4() - spec.l3()], &old_ip[12..spec.l4() - spec.l3()]);
            }
            let l4 = &segment[spec.l4()..];
            if spec.udp {
                prop_assert_eq!(usize::from(u16::from_be_bytes([l4[4], l4[5]])), l4.len());
            } else {
                let seq = u32::from_be_bytes(l4[4..8].try_into().unwrap());
                prop_assert_eq!(usize::try_from(seq.wrapping_sub(spec.seq)).unwrap(), payload.len());
                let lost = spec.tcp_flags & !l4[13];
                prop_assert_eq!(l4[13] & !spec.tcp_flags, 0);
                let expected = if index + 1 < count { FIN | PSH } else { 0 }
                    | if index > 0 { CWR } else { 0 };
                prop_assert_eq!(lost, spec.tcp_flags & expected);
            }
            payload.extend_from_slice(&segment[headers..]);
        }
        prop_assert_eq!(&payload[..], &frame[headers..]);
    }

    #[test]
    fn a_corrupt_superframe_yields_only_corrupt_segments(
        spec in superframes(), flip in 1_u16..=0xffff,
    ) {
        prop_assume!(spec.needs_csum && flip != 0xffff);
        let header = spec.header();
        let mut frame = spec.frame();
        let at = spec.l4() + spec.checksum_offset();
        // Adding neither 0 nor -0 to the pseudo-header sum makes it wrong.
        let told = u16::from_be_bytes([frame[at], frame[at + 1]]);
        let wrong = checksum::combine(&[told, flip]);
        frame[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
        let mut out = Segments::new();
        if offload::segment(&header, &frame, None, &mut out).is_ok() {
            let segments = whole(&out, &frame);
            prop_assert!(!segments.iter().any(|segment| verified(&spec, segment)));
        }
    }

    #[test]
    fn the_exact_header_length_is_that_of_the_headers(spec in superframes()) {
        let (header, frame) = (spec.header(), spec.frame());
        if offload::check(&header, &frame).is_ok() {
            let expected = spec.gso.then(|| u16::try_from(spec.headers()).unwrap());
            prop_assert_eq!(offload::exact_hdr_len(&header, &frame), expected);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        header in any::<[u8; VirtioNetHdr::LEN]>(),
        mut frame in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        hostile(VirtioNetHdr::read(&header).unwrap(), &mut frame)?;
    }

    #[test]
    fn damaged_superframes_never_panic(
        spec in superframes(),
        damage in proptest::collection::vec((0_usize..200, any::<u8>()), 0..4),
        header_damage in proptest::option::of((0_usize..VirtioNetHdr::LEN, any::<u8>())),
        cut in proptest::option::of(0_usize..300),
    ) {
        let mut header: [u8; VirtioNetHdr::LEN] = zerocopy::IntoBytes::as_bytes(&spec.header())
            .try_into()
            .unwrap();
        let mut frame = spec.frame();
        frame.truncate(cut.unwrap_or(usize::MAX));
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if let Some((at, value)) = header_damage {
            header[at] = value;
        }
        hostile(VirtioNetHdr::read(&header).unwrap(), &mut frame)?;
    }
}

/// Runs everything on input that may be anything, and checks what still has to hold.
fn hostile(header: VirtioNetHdr, frame: &mut Vec<u8>) -> Result<(), TestCaseError> {
    let before = frame.clone();
    let mut out = Segments::new();
    let checked = offload::check(&header, frame);
    prop_assert_eq!(offload::segment(&header, frame, None, &mut out), checked);
    prop_assert_eq!(&*frame, &before);
    prop_assert_eq!(out.is_empty(), checked.is_err());
    prop_assert!(out.len() <= MAX_SEGMENTS);
    let bytes: usize = out.iter().map(|segment| segment.len()).sum();
    prop_assert!(bytes <= frame.len() + out.len() * offload::MAX_HEADERS);
    for limit in [0, 60, 200] {
        let limited = offload::segment(&header, frame, Some(limit), &mut out);
        prop_assert!(checked.is_ok() || limited == checked);
        prop_assert!(out.iter().all(|segment| segment.payload.end <= frame.len()));
    }
    if let Some(len) = offload::exact_hdr_len(&header, frame) {
        prop_assert!(usize::from(len) <= frame.len());
    }
    if offload::complete_checksum(&header, frame).is_err() {
        prop_assert_eq!(&*frame, &before);
    }
    Ok(())
}
