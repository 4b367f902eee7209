use std::net::IpAddr;

use super::*;
use crate::{
    offload::{Segments, check, segment},
    wire::{EtherType, Frame, describe},
};

fn sender() -> Sender {
    Sender {
        mac: "02:00:00:00:00:01".parse().unwrap(),
        addresses: ["10.1.1.10", "fd00::10"]
            .map(|ip| ip.parse().unwrap())
            .into(),
    }
}

fn build(text: &str) -> Result<Built, BuildError> {
    let dst = "02:00:00:00:00:02".parse().unwrap();
    parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .build(&sender(), Some(dst))
}

#[test]
fn a_frame_is_what_its_words_say() {
    for (text, description) in [
        (
            "arp who-has 10.1.1.20",
            "arp who-has 10.1.1.20 tell 10.1.1.10",
        ),
        (
            "arp who-has 10.1.1.20 tell 10.1.1.9",
            "arp who-has 10.1.1.20 tell 10.1.1.9",
        ),
        (
            "arp 10.1.1.10 is-at 02:00:00:00:00:01 tell 10.1.1.20",
            "arp 10.1.1.10 is-at 02:00:00:00:00:01",
        ),
        (
            "icmp 10.1.1.10 > 10.1.1.20",
            "icmp 10.1.1.10 > 10.1.1.20 echo request 1",
        ),
        (
            "icmp 10.1.1.20 seq 7",
            "icmp 10.1.1.10 > 10.1.1.20 echo request 7",
        ),
        (
            "icmp6 fd00::10>fd00::20",
            "icmp6 fd00::10 > fd00::20 echo request 1",
        ),
        ("icmp fd00::20", "icmp6 fd00::10 > fd00::20 echo request 1"),
        (
            "nd who-has fd00::20",
            "icmp6 fd00::10 > ff02::1:ff00:20 neighbour solicitation, who has fd00::20",
        ),
        (
            "udp 10.1.1.10:1234 > 10.1.1.20:53 len 40",
            "udp 10.1.1.10:1234 > 10.1.1.20:53, 40 bytes",
        ),
        (
            "udp [fd00::20]:53",
            "udp [fd00::10]:50000 > [fd00::20]:53, 18 bytes",
        ),
        (
            "tcp 10.1.1.10:1 > 10.1.1.20:80",
            "tcp 10.1.1.10:1 > 10.1.1.20:80 SYN, 0 bytes",
        ),
        (
            "tcp 10.1.1.20:80 len 5",
            "tcp 10.1.1.10:50000 > 10.1.1.20:80 PSH+ACK, 5 bytes",
        ),
        (
            "tcp 10.1.1.20:80 fin ack",
            "tcp 10.1.1.10:50000 > 10.1.1.20:80 FIN+ACK, 0 bytes",
        ),
        (
            "icmp 10.1.1.20 vlan 5",
            "vlan 5, icmp 10.1.1.10 > 10.1.1.20 echo request 1",
        ),
    ] {
        let built = build(text).unwrap();
        assert_eq!(describe(&built.frame), description, "{text}");
        assert!(built.header.is_plain(), "{text}");
    }
}

#[test]
fn addresses_and_fields_are_those_given() {
    let text =
        "udp 10.1.1.20:53 src-mac 02:00:00:00:00:aa dst-mac 02:00:00:00:00:bb ttl 3 tos 0xb8 no-df";
    let frame = build(text).unwrap().frame;
    let view = Frame::new_checked(&frame).unwrap();
    assert_eq!(view.src(), "02:00:00:00:00:aa".parse().unwrap());
    assert_eq!(view.dst(), "02:00:00:00:00:bb".parse().unwrap());
    let ip = &frame[14..34];
    assert_eq!((ip[8], ip[1], ip[6]), (3, 0xb8, 0));
    assert_eq!(
        build("udp 10.1.1.20:53").unwrap().frame[20],
        0x40,
        "DF, as Linux does"
    );

    let frame = build("icmp 10.1.1.20 vlan 5 vlan 6").unwrap().frame;
    assert_eq!(&frame[12..20], &[0x81, 0, 0, 5, 0x81, 0, 0, 6]);
    assert_eq!(
        Frame::new_checked(&frame).unwrap().ether_type(),
        EtherType::VLAN
    );
}

#[test]
fn who_gets_it_follows_from_the_destination() {
    let dst = |text: &str| {
        let frame = build(text).unwrap().frame;
        Frame::new_checked(&frame).unwrap().dst().to_string()
    };
    assert_eq!(dst("arp who-has 10.1.1.20"), "ff:ff:ff:ff:ff:ff");
    assert_eq!(dst("udp 224.129.0.5:5"), "01:00:5e:01:00:05");
    assert_eq!(dst("udp 255.255.255.255:67"), "ff:ff:ff:ff:ff:ff");
    assert_eq!(dst("udp [ff02::1:2]:547"), "33:33:00:01:00:02");
    assert_eq!(dst("nd who-has fd00::1:2"), "33:33:ff:01:00:02");
    assert_eq!(dst("icmp 10.1.1.20"), "02:00:00:00:00:02");
    let asks = |text: &str| parse(text).unwrap().asks_for();
    assert_eq!(asks("icmp 10.1.1.20"), "10.1.1.20".parse::<IpAddr>().ok());
    for text in [
        "arp who-has 10.1.1.20",
        "udp 224.0.0.5:5",
        "icmp 10.1.1.20 dst-mac 02:00:00:00:00:01",
    ] {
        assert_eq!(asks(text), None, "{text}");
    }
}

#[test]
fn what_is_left_to_the_switch_passes_its_checks_and_can_be_finished() {
    for text in [
        "tcp 10.1.1.20:80 len 60000 mss 1448",
        "tcp [fd00::20]:80 len 60000 mss 1428",
        "udp 10.1.1.20:80 len 3000 mss 1000",
        "udp 10.1.1.20:80 csum unfinished",
        "tcp [fd00::20]:80 len 60000 mss 1428 vlan 5",
    ] {
        let built = build(text).unwrap();
        assert!(!built.header.is_plain());
        check(&built.header, &built.frame).unwrap_or_else(|bad| panic!("{text}: {bad}"));
        let mut out = Segments::new();
        segment(&built.header, &built.frame, None, &mut out).unwrap();
        assert_eq!(out.len() > 1, text.contains("mss"), "{text}");
    }
    // With room for all of it in one segment there is nothing to segment.
    assert!(
        build("tcp 10.1.1.20:80 len 100 mss 1448")
            .unwrap()
            .header
            .is_plain()
    );
    let right = build("udp 10.1.1.20:80").unwrap().frame;
    assert_ne!(right, build("udp 10.1.1.20:80 csum wrong").unwrap().frame);
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    for (text, column, word) in [
        ("", 1, "it ends here"),
        ("ping 10.1.1.20", 1, "no packet"),
        ("arp who-has", 12, "it ends here"),
        ("arp who-has fd00::1", 13, "IPv4"),
        ("icmp 10.1.1.300", 6, "no IP address"),
        ("icmp 10.1.1.1 > fd00::1", 17, "families"),
        ("icmp6 10.1.1.1", 7, "IPv6"),
        ("udp 10.1.1.1", 5, "port"),
        ("udp 10.1.1.1:70000", 5, "10.0.0.1:53"),
        ("udp fd00::1:53", 5, "port"),
        ("tcp 10.1.1.1:1 > 10.1.1.2:2 len", 32, "it ends here"),
        ("tcp 10.1.1.1:1 len 70000", 20, "65535"),
        ("icmp 10.1.1.1 vlan 4095", 20, "4094"),
        ("icmp 10.1.1.1 syn", 15, "does not belong"),
        ("udp 10.1.1.1:1 seq 5", 16, "does not belong"),
        ("icmp 10.1.1.1 dst-mac 1", 23, "MAC"),
        ("icmp 10.1.1.1 csum odd", 20, "checksum"),
        ("icmp 10.1.1.1 vlan 1 vlan 2 vlan 3", 29, "at most two tags"),
        ("arp who-has 10.1.1.1 len 5", 22, "does not belong"),
        ("arp who-has 10.1.1.1 mss 5", 22, "does not belong"),
        ("arp who-has 10.1.1.1 ttl 5", 22, "does not belong"),
        ("arp who-has 10.1.1.1 hlim 5", 22, "does not belong"),
        ("arp who-has 10.1.1.1 tos 5", 22, "does not belong"),
        ("arp who-has 10.1.1.1 df", 22, "does not belong"),
        ("arp who-has 10.1.1.1 no-df", 22, "does not belong"),
        ("arp who-has 10.1.1.1 csum wrong", 22, "does not belong"),
        ("nd who-has fd00::1 len 5", 20, "does not belong"),
        ("nd who-has fd00::1 mss 5", 20, "does not belong"),
        ("nd who-has fd00::1 no-df", 20, "does not belong"),
        ("icmp fd00::1 df", 14, "does not belong"),
        ("icmp 10.1.1.1 mss 5", 15, "does not belong"),
        ("icmp 10.1.1.1 csum unfinished", 20, "only udp and tcp"),
        ("icmp6 fd00::1 csum unfinished", 20, "only udp and tcp"),
        ("nd who-has fd00::1 csum unfinished", 25, "only udp and tcp"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(word), "{text}: {error}");
    }
    let lonely = Sender {
        addresses: Vec::new(),
        ..sender()
    };
    let built = |text: &str, mac| parse(text).unwrap().build(&lonely, mac);
    assert!(matches!(
        built("arp who-has 10.1.1.1", None),
        Err(BuildError::NoSource { family: 4, .. })
    ));
    assert!(matches!(
        built("icmp 10.1.1.1 > 10.1.1.2", None),
        Err(BuildError::NoDestination { .. })
    ));
    assert!(matches!(
        build("tcp 10.1.1.20:80 len 65530"),
        Err(BuildError::TooLong { .. })
    ));
}

#[test]
fn no_words_make_it_panic() {
    let words = [
        "arp",
        "who-has",
        "tell",
        "is-at",
        "icmp",
        "icmp6",
        "nd",
        "udp",
        "tcp",
        "10.1.1.1",
        ">",
        "fd00::1",
        "10.1.1.1:5",
        "[fd00::1]:5",
        "len",
        "65535",
        "0",
        "vlan",
        "mss",
        "csum",
        "unfinished",
        "ä",
        "\u{0}",
        "02:00:00:00:00:01",
        "dst-mac",
        "255.255.255.255",
    ];
    let mut seed = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..seed % 9 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let which = usize::try_from(seed >> 33).unwrap() % words.len();
            text.push_str(words[which]);
            text.push(' ');
        }
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if let Ok(packet) = parse(&text)
            && let Ok(built) = packet.build(&sender(), packet.dst_mac)
        {
            assert!(!describe(&built.frame).is_empty());
        }
    }
}
