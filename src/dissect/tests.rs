use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::{
    sim::frames,
    vxlan,
    wire::{EtherType, MacAddr, Vni},
};

/// `inner` in VXLAN, with right checksums.
pub(super) fn tunnelled(inner: &[u8], vni: u32, is_v6: bool) -> Vec<u8> {
    let header = vxlan::header(Vni::new(vni).unwrap());
    let payload = [&header[..], inner].concat();
    let builder = PacketBuilder::ethernet2(frames::mac(10).octets(), frames::mac(20).octets());
    let mut frame = Vec::new();
    let builder = match is_v6 {
        true => builder.ipv6(frames::ip6(10).octets(), frames::ip6(20).octets(), 64),
        false => builder.ipv4([192, 168, 50, 10], [192, 168, 50, 20], 64),
    };
    builder
        .udp(55209, vxlan::PORT)
        .write(&mut frame, &payload)
        .unwrap();
    frame
}

fn neighbour_solicitation() -> Vec<u8> {
    let message = etherparse::Icmpv6Type::NeighborSolicitation;
    let mut body = frames::ip6(2).octets().to_vec();
    body.extend([1, 1, 2, 0, 0, 0, 0, 1]);
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2];
    let builder = PacketBuilder::ethernet2(frames::mac(1).octets(), [0x33, 0x33, 0xff, 0, 0, 2])
        .ipv6(frames::ip6(1).octets(), group, 255)
        .icmpv6(message);
    let mut frame = Vec::new();
    builder.write(&mut frame, &body).unwrap();
    frame
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        frames::arp_request(1, 2),
        frames::echo_request(1, 2, 3),
        frames::udp4(1, 2, b"payload"),
        frames::udp6(1, 2, b"payload"),
        frames::tcp4(1, 2, 3, b"payload"),
        frames::tcp6(1, 2, 3, b"payload"),
        frames::tagged(&frames::tagged(&frames::tcp4(1, 2, 3, b"x"), 5), 6),
        neighbour_solicitation(),
    ];
    let tunnels: Vec<_> = seeds
        .iter()
        .flat_map(|frame| [tunnelled(frame, 42, false), tunnelled(frame, 43, true)])
        .collect();
    seeds.extend(tunnels);
    seeds
}

fn read(frame: &[u8]) -> Dissection {
    dissect(frame, &Options::default())
}

fn kinds(frame: &[u8]) -> Vec<ProblemKind> {
    read(frame).problems().map(|problem| problem.kind).collect()
}

/// The first field with this name in the last layer of this protocol.
fn field(frame: &[u8], protocol: &str, name: &str) -> Field {
    let layers = read(frame).layers;
    let layer = layers.iter().rfind(|layer| layer.protocol == protocol);
    let layer = layer.unwrap_or_else(|| panic!("no {protocol} in {layers:#?}"));
    let field = layer.fields.iter().find(|field| field.name == name);
    field
        .unwrap_or_else(|| panic!("no {name} in {layer:#?}"))
        .clone()
}

/// Every byte belongs to one layer, and to one field or a few that share it.
fn check_cover(dissection: &Dissection, len: usize) {
    let mut at = 0;
    for layer in &dissection.layers {
        assert_eq!(layer.offset, at, "{dissection:#?}");
        at += layer.len;
        let mut field_at = layer.offset;
        for field in &layer.fields {
            assert!(field.offset <= field_at, "a gap before {field:#?}");
            assert!(field.offset + 1 >= field_at, "{field:#?} overlaps");
            field_at = field.offset + field.len;
            if let Some(bits) = field.bits {
                assert!(
                    usize::from(bits.first + bits.len) <= 8 * field.len,
                    "{field:#?}"
                );
            }
        }
        assert_eq!(field_at, layer.offset + layer.len, "{layer:#?}");
    }
    assert_eq!(at, len, "{dissection:#?}");
    assert!(!dissection.summary.is_empty());
}

const STARTS: [Start; 10] = [
    Start::Auto,
    Start::Ethernet,
    Start::Ip,
    Start::Arp,
    Start::Udp,
    Start::Tcp,
    Start::Vxlan,
    Start::Cooked,
    Start::Cooked2,
    Start::Loopback,
];

fn check_any(bytes: &[u8], start: Start, missing: usize) {
    let options = Options {
        start,
        missing,
        vxlan_port: Some(2000),
    };
    let dissection = dissect(bytes, &options);
    check_cover(&dissection, bytes.len());
}

proptest! {
    #[test]
    fn any_bytes_are_told_to_the_last_one(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        start in proptest::sample::select(&STARTS[..]),
        missing in 0_usize..100,
    ) {
        check_any(&bytes, start, missing);
    }

    #[test]
    fn a_damaged_frame_is_told_to_its_last_byte(
        seed in proptest::sample::select(seeds()),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        len in any::<prop::sample::Index>(),
        more in proptest::collection::vec(any::<u8>(), 0..50),
        start in proptest::sample::select(&STARTS[..]),
        missing in 0_usize..2,
    ) {
        let mut frame = seed;
        for (at, value) in damage {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        check_any(&frame, start, missing * 7);
        frame.truncate(len.index(frame.len() + 1));
        frame.extend(more);
        check_any(&frame, start, missing * 7);
    }
}

#[test]
fn whatever_was_found_before_is_told_to_its_last_byte() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files = 0;
    for directory in ["decap", "coalesce", "segment"] {
        for entry in std::fs::read_dir(corpus.join(directory)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for start in STARTS {
                // Some are a frame behind a few bytes of the fuzz target's own.
                for skipped in 0..bytes.len().min(40) {
                    check_any(&bytes[skipped..], start, 0);
                }
            }
            files += 1;
        }
    }
    assert!(files > 50, "{files}");
}

#[test]
fn whole_frames_have_no_problems() {
    for frame in seeds() {
        let dissection = read(&frame);
        check_cover(&dissection, frame.len());
        let problems: Vec<_> = dissection.problems().collect();
        assert!(problems.is_empty(), "{}: {problems:?}", dissection.summary);
    }
}

#[test]
fn the_summary_goes_from_the_outside_in() {
    let frame = tunnelled(&frames::arp_request(1, 2), 42, false);
    assert_eq!(
        read(&frame).summary,
        "vxlan 42, 192.168.50.10 > 192.168.50.20: arp who-has 192.0.2.2 tell 192.0.2.1"
    );
    let twice = tunnelled(&frame, 7, true);
    assert_eq!(
        read(&twice).summary,
        "vxlan 7, 2001:db8::a > 2001:db8::14: vxlan 42, 192.168.50.10 > 192.168.50.20: \
         arp who-has 192.0.2.2 tell 192.0.2.1"
    );
    assert_eq!(
        read(&frames::udp4(1, 2, b"x")[14..]).summary,
        "udp 192.0.2.1:1000 > 192.0.2.2:2000, 1 byte"
    );
}

#[test]
fn what_is_in_a_tunnel_is_counted_from_its_header_on() {
    let frame = tunnelled(&frames::tcp4(1, 2, 3, b"x"), 0xab_cdef, true);
    let layers = read(&frame).layers;
    let told: Vec<_> = layers
        .iter()
        .map(|layer| (layer.protocol, layer.offset, layer.tunnel))
        .collect();
    assert_eq!(
        told,
        [
            ("ethernet", 0, 0),
            ("ipv6", 14, 0),
            ("udp", 54, 0),
            ("vxlan", 62, 0),
            ("ethernet", 70, 1),
            ("ipv4", 84, 1),
            ("tcp", 104, 1),
            ("payload", 124, 1),
        ]
    );
    assert_eq!(
        field(&frame, "vxlan", "VNI").value,
        Value::Number(0xab_cdef)
    );
}

#[test]
fn tunnels_in_tunnels_end_somewhere() {
    let mut frame = frames::arp_request(1, 2);
    for _ in 0..20 {
        frame = tunnelled(&frame, 1, false);
    }
    let dissection = read(&frame);
    check_cover(&dissection, frame.len());
    let deepest = dissection.layers.iter().map(|layer| layer.tunnel).max();
    assert_eq!(deepest, Some(MAX_TUNNELS));
    assert_eq!(kinds(&frame), [ProblemKind::TooDeep]);

    let mut tagged = frames::arp_request(1, 2);
    for _ in 0..100 {
        tagged = frames::tagged(&tagged, 1);
    }
    assert_eq!(read(&tagged).layers.len(), MAX_LAYERS + 1);
    assert_eq!(kinds(&tagged), [ProblemKind::TooDeep]);
}

#[test]
fn a_wrong_checksum_is_told_with_the_right_one() {
    for (mut frame, protocol, at) in [
        (frames::udp4(1, 2, b"x"), "ipv4", 24),
        (frames::udp4(1, 2, b"x"), "udp", 40),
        (frames::udp6(1, 2, b"x"), "udp", 60),
        (frames::tcp4(1, 2, 3, b"x"), "tcp", 50),
        (frames::tcp6(1, 2, 3, b"xyz"), "tcp", 70),
        (frames::echo_request(1, 2, 3), "icmp", 36),
        (neighbour_solicitation(), "icmpv6", 56),
    ] {
        let right = u16::from_be_bytes([frame[at], frame[at + 1]]);
        frame[at] ^= 0x55;
        let field = field(&frame, protocol, "checksum");
        assert_eq!(field.problems.len(), 1, "{protocol}");
        assert_eq!(
            field.problems[0].kind,
            ProblemKind::WrongChecksum,
            "{protocol}"
        );
        let text = format!("wrong: it should be 0x{right:04x}");
        assert_eq!(field.problems[0].text, text, "{protocol}");
        assert_eq!(kinds(&frame).len(), 1, "{protocol}");
    }
}

#[test]
fn the_sum_of_the_pseudo_header_is_unfinished_and_not_wrong() {
    for (mut frame, protocol, at, len) in [
        (frames::udp4(1, 2, b"abc"), "udp", 40, 11_u32),
        (frames::tcp6(1, 2, 3, b"abc"), "tcp", 70, 23),
    ] {
        let right = u16::from_be_bytes([frame[at], frame[at + 1]]);
        let pseudo = match protocol {
            "udp" => crate::wire::checksum::pseudo_v4([192, 0, 2, 1], [192, 0, 2, 2], 17, len),
            _ => crate::wire::checksum::pseudo_v6(
                frames::ip6(1).octets(),
                frames::ip6(2).octets(),
                6,
                len,
            ),
        };
        frame[at..at + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
        let field = field(&frame, protocol, "checksum");
        let problem = &field.problems[0];
        assert_eq!(problem.kind, ProblemKind::UnfinishedChecksum, "{protocol}");
        assert!(
            problem.text.ends_with(&format!("0x{right:04x}")),
            "{problem:?}"
        );
        assert!(!problem.kind.is_wrong());
    }
}

#[test]
fn a_udp_checksum_of_zero_is_none_and_over_ipv6_an_error() {
    let mut frame = frames::udp4(1, 2, b"x");
    frame[40..42].fill(0);
    assert_eq!(kinds(&frame), [ProblemKind::NoChecksum]);
    let mut frame = frames::udp6(1, 2, b"x");
    frame[60..62].fill(0);
    assert_eq!(kinds(&frame), [ProblemKind::WrongChecksum]);
    // Except for tunnels (RFC 6935).
    let mut frame = tunnelled(&frames::arp_request(1, 2), 1, true);
    frame[60..62].fill(0);
    assert_eq!(kinds(&frame), [ProblemKind::NoChecksum]);
}

#[test]
fn lengths_that_lie_are_told() {
    use ProblemKind::{BadValue, Trailer, WrongChecksum, WrongLength};
    let with = |mut frame: Vec<u8>, at: usize, value: u8| {
        frame[at] = value;
        kinds(&frame)
    };
    let udp4 = || frames::udp4(1, 2, &[7; 40]);
    // The total length is too long, too short, and shorter than its header.
    assert_eq!(with(udp4(), 17, 200), [WrongLength, WrongChecksum]);
    assert_eq!(with(udp4(), 17, 60), [WrongChecksum, WrongLength, Trailer]);
    assert_eq!(with(udp4(), 17, 19), [WrongLength, WrongChecksum]);
    // The header length.
    assert_eq!(with(udp4(), 14, 0x44), [WrongLength]);
    assert_eq!(with(udp4(), 14, 0x55), [BadValue]);
    // UDP's.
    assert_eq!(with(udp4(), 39, 100), [WrongLength]);
    assert_eq!(with(udp4(), 39, 7), [WrongLength]);
    assert_eq!(with(udp4(), 39, 20), [WrongLength, WrongChecksum, Trailer]);
    // IPv6's.
    let udp6 = || frames::udp6(1, 2, &[7; 40]);
    assert_eq!(with(udp6(), 19, 200), [WrongLength]);
    // TCP's data offset.
    let tcp4 = || frames::tcp4(1, 2, 3, b"x");
    assert_eq!(with(tcp4(), 46, 0x40), [WrongLength]);
    assert_eq!(with(tcp4(), 46, 0xf0), [ProblemKind::Truncated]);
    // 802.3's.
    let mut frame = frames::of_len(frames::mac(1), frames::mac(2), 64);
    frame[12..14].copy_from_slice(&[0, 51]);
    assert_eq!(kinds(&frame), [WrongLength]);
}

#[test]
fn padding_is_as_it_should_be_and_other_bytes_behind_a_packet_are_told() {
    let mut frame = frames::arp_request(1, 2);
    frame.resize(60, 0);
    assert_eq!(kinds(&frame), []);
    assert_eq!(read(&frame).layers.last().unwrap().protocol, "padding");
    frame[59] = 1;
    assert_eq!(kinds(&frame), [ProblemKind::Trailer]);

    let mut frame = frames::udp4(1, 2, &[7; 40]);
    frame.extend([1, 2, 3, 4]);
    assert_eq!(kinds(&frame), [ProblemKind::Trailer]);
    let text = field(&frame, "trailer", "trailer").problems[0].text.clone();
    assert_eq!(
        text,
        "4 bytes behind the end of the packet, perhaps the FCS"
    );
}

#[test]
fn a_cut_capture_is_not_a_wrong_length() {
    let frame = frames::tcp4(1, 2, 3, &[7; 100]);
    for len in [20, 40, 60] {
        let options = Options {
            missing: frame.len() - len,
            ..Options::default()
        };
        let dissection = dissect(&frame[..len], &options);
        let wrong = dissection.problems().any(|problem| problem.kind.is_wrong());
        assert!(!wrong, "{len}: {dissection:#?}");
        let cut = dissection
            .problems()
            .any(|problem| problem.kind == ProblemKind::Cut);
        assert!(cut, "{len}: {dissection:#?}");
        assert!(
            read(&frame[..len])
                .problems()
                .any(|problem| problem.kind.is_wrong())
        );
    }
}

#[test]
fn addresses_that_cannot_be_are_told() {
    use ProblemKind::{AddressMismatch, BadAddress};
    let mut frame = frames::echo_request(1, 2, 3);
    frame[6] |= 1;
    assert_eq!(kinds(&frame), [BadAddress]);
    frame[6..12].fill(0);
    assert_eq!(kinds(&frame), [BadAddress]);

    let mut arp = frames::arp_request(1, 2);
    arp[27] = 9;
    assert_eq!(kinds(&arp), [AddressMismatch]);
}

#[test]
fn the_flags_of_a_vxlan_header_are_held_against_the_standard() {
    let mut frame = tunnelled(&frames::arp_request(1, 2), 42, false);
    frame[40..42].fill(0);
    frame[42] = 0;
    let expected = [ProblemKind::NoChecksum, ProblemKind::BadFlags];
    assert_eq!(kinds(&frame), expected);
    frame[42] = 0x88;
    let expected = [ProblemKind::NoChecksum, ProblemKind::ReservedBits];
    assert_eq!(kinds(&frame), expected);
}

#[test]
fn another_port_carries_vxlan_if_somebody_says_so() {
    let mut frame = tunnelled(&frames::arp_request(1, 2), 42, false);
    frame[36..38].copy_from_slice(&4242_u16.to_be_bytes());
    frame[40..42].fill(0);
    let has_tunnel = |vxlan_port| {
        let options = Options {
            vxlan_port,
            ..Options::default()
        };
        let layers = dissect(&frame, &options).layers;
        layers.iter().any(|layer| layer.protocol == "vxlan")
    };
    assert!(!has_tunnel(None));
    assert!(has_tunnel(Some(4242)));
}

#[test]
fn a_quoted_packet_may_be_cut_and_its_checksums_are_nobodys_business() {
    let quoted = frames::udp4(1, 2, &[7; 100]);
    let mut icmp = vec![3, 4, 0, 0, 0, 0, 0x05, 0xaa];
    icmp.extend(&quoted[14..14 + 28]);
    let sum = crate::wire::checksum::sum(&icmp).checksum();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = frames::echo_request(2, 1, 0)[14..34].to_vec();
    ip[3] = 20 + 36;
    ip[10..12].fill(0);
    let sum = crate::wire::checksum::sum(&ip).checksum();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let packet = [&ip[..], &icmp].concat();
    let frame = frames::ethernet(frames::mac(1), frames::mac(2), EtherType::IPV4, &packet);

    assert_eq!(kinds(&frame), []);
    assert_eq!(
        field(&frame, "icmp", "next-hop MTU").value,
        Value::Number(1450)
    );
    let layers = read(&frame).layers;
    let quoted: Vec<_> = layers.iter().filter(|layer| layer.quoted).collect();
    assert_eq!(quoted.len(), 2, "{quoted:#?}");
    assert!(read(&frame).summary.contains("destination unreachable"));
}

#[test]
fn neighbour_messages_must_come_from_the_link() {
    let mut frame = neighbour_solicitation();
    frame[21] = 64;
    assert_eq!(kinds(&frame), [ProblemKind::BadValue]);
    let target = field(&frame, "icmpv6", "target").value;
    assert_eq!(target, Value::Text("2001:db8::2".to_owned()));
    let option = field(&frame, "icmpv6", "option").meaning;
    assert_eq!(option, "source link-layer address 02:00:00:00:00:01");
}

#[test]
fn options_of_tcp_are_read_to_their_end() {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .tcp(40000, 80, 1, 64240)
        .syn()
        .options_raw(&[
            2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7, 34, 2, 0, 0,
        ])
        .unwrap()
        .write(&mut frame, &[])
        .unwrap();
    assert_eq!(kinds(&frame), []);
    let layers = read(&frame).layers;
    let tcp = layers.iter().find(|layer| layer.protocol == "tcp").unwrap();
    let options = tcp.fields.iter().filter(|field| field.name == "option");
    let options: Vec<_> = options.map(|field| field.meaning.as_str()).collect();
    assert_eq!(
        options,
        [
            "MSS 1460 bytes",
            "SACK permitted",
            "timestamp 9, echo 0",
            "no operation",
            "window scale 7: windows times 128",
            "fast open cookie",
            "end of options",
        ]
    );
    // A length that leads nowhere.
    frame[34 + 21] = 0;
    assert!(kinds(&frame).contains(&ProblemKind::BadOption));
}

#[test]
fn the_headers_of_the_overlay_are_added_up() {
    let fit = |path_mtu, frame: &[u8]| arithmetic(path_mtu, false, &read(frame).layers, 0);
    let frame = frames::of_len(frames::mac(1), frames::mac(2), 1464);
    assert_eq!(fit(1500, &frame).fits(), Some(true));
    assert_eq!(fit(1499, &frame).fits(), Some(false));
    assert_eq!(fit(1500, &frame).needs, Some(1500));
    // The same in its tunnel already.
    let outer = tunnelled(&frame, 1, false);
    assert_eq!(outer.len(), 1514);
    assert_eq!(fit(1500, &outer), fit(1500, &frame));
    // Over IPv6, with a tag.
    let tagged = frames::tagged(&frame, 5);
    let outer = tunnelled(&tagged, 1, true);
    let fit = fit(1600, &outer);
    assert_eq!((fit.mtu, fit.needs), (1600 - 74, Some(1524)));
    assert_eq!(outer.len(), 1524 + 14);
    let nothing = arithmetic(1500, true, &[], 0);
    assert_eq!((nothing.mtu, nothing.fits()), (1430, None));
}

#[test]
fn a_cut_frame_needs_of_the_path_what_it_had_on_the_wire() {
    let frame = frames::of_len(frames::mac(1), frames::mac(2), 1464);
    let outer = tunnelled(&frames::tagged(&frame, 5), 1, false);
    for whole in [&frame, &outer] {
        let fit = |bytes: &[u8]| {
            let missing = whole.len() - bytes.len();
            let options = Options {
                missing,
                ..Options::default()
            };
            arithmetic(1500, false, &dissect(bytes, &options).layers, missing)
        };
        // From within the inner Ethernet header on.
        for captured in [60, 64, 67, 68, 100, whole.len()] {
            let cut = fit(&whole[..captured]);
            assert_eq!(cut.needs, fit(whole).needs, "{captured} of {}", whole.len());
        }
    }
}

#[test]
fn a_packet_without_ethernet_is_told_by_its_lengths() {
    let frame = frames::tcp6(1, 2, 3, b"x");
    assert_eq!(read(&frame[14..]).layers[0].protocol, "ipv6");
    assert_eq!(read(&frame).layers[0].protocol, "ethernet");
    // The address 45:00:... of a station.
    let mut frame = frames::arp_request(1, 2);
    frame[0..6].copy_from_slice(&MacAddr::from_u48(0x4400_0000_0001).octets());
    assert_eq!(read(&frame).layers[0].protocol, "ethernet");
}
