use super::*;
use crate::{
    bridge::DropReason,
    control::api::RowChange,
    lesson::watch::{Copied, Datagram, Learned, Row},
    sim::frames,
    wire::{MacAddr, describe},
};

const STYLE: Style = Style {
    lang: Lang::En,
    width: 88,
    has_color: false,
};

fn seen(at: u64, place: &str, bytes: Vec<u8>, fate: Fate, to: &[&str]) -> Seen {
    Seen {
        at: Timestamp::from_nanos(at * 1_000),
        node: "node1".to_owned(),
        place: place.to_owned(),
        fate,
        class: None,
        reason: None,
        copies: to.iter().map(|to| copy(to)).collect(),
        row: None,
        learned: None,
        len: bytes.len(),
        text: describe(&bytes),
        bytes,
        offload: None,
        datagram: None,
    }
}

fn copy(to: &str) -> Copied {
    Copied {
        at: Timestamp::ZERO,
        to: to.to_owned(),
        lost: None,
        bytes: None,
        datagram: None,
    }
}

fn mac(number: u64) -> MacAddr {
    MacAddr::from_u48(0x0200_0000_0000 + number)
}

fn datagram(inner: usize) -> Datagram {
    let mut bytes = vec![0; 14];
    bytes[12] = 8;
    bytes.extend([0; 20]);
    bytes.extend([0xc3, 0x50, 0x12, 0xb5]);
    Datagram {
        vni: 42,
        from_port: 50_000,
        len: inner + 50,
        bytes,
    }
}

/// A question, its answer over the tunnel, a packet that does not fit, and one of IPv6 starting up.
fn story() -> Vec<Seen> {
    let request = frames::arp_request(1, 2);
    let mut first = seen(
        0,
        "podA",
        request,
        Fate::Flooded,
        &["podB", "192.168.50.20"],
    );
    first.class = Some("broadcast".to_owned());
    first.copies[1].datagram = Some(datagram(42));
    first.learned = Some(Learned {
        mac: mac(1),
        change: RowChange::New,
        from: None,
    });
    let reply = frames::arp_reply(2, 1);
    let mut second = seen(345, "192.168.50.20", reply, Fate::Forwarded, &["podA"]);
    second.datagram = Some(datagram(42));
    second.row = Some(Row {
        mac: mac(1),
        vlan: 0,
        at: "podA".to_owned(),
        is_learned: true,
        age_s: Some(0.000_345),
    });
    let mut noise = seen(
        400,
        "podB",
        frames::arp_request(1, 2),
        Fate::Flooded,
        &["podA"],
    );
    noise.text = "icmp6 fe80::1 > ff02::2 router solicitation".to_owned();
    let mut third = seen(
        12_345_678,
        "podA",
        vec![2; 1514],
        Fate::Dropped,
        &["192.168.50.20"],
    );
    third.text = "icmp 192.0.2.1 > 192.0.2.2 echo request 1".to_owned();
    third.reason = Some("too_big".to_owned());
    third.copies[0].lost = Some("too_big".to_owned());
    vec![first, second, noise, third]
}

fn tell(style: Style, frames: &[Seen]) -> String {
    let mut narrator = Narrator::new(style, Timestamp::ZERO);
    let mut out = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let say = (index == 0).then_some("Everybody is asked.");
        narrator.frame(&mut out, frame, say, false).unwrap();
    }
    narrator.end(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_story_reads_well_in_english() {
    assert_eq!(tell(STYLE, &story()), include_str!("story-en.txt"));
}

#[test]
fn a_story_reads_well_in_chinese() {
    let style = Style {
        lang: Lang::Zh,
        ..STYLE
    };
    assert_eq!(tell(style, &story()), include_str!("story-zh.txt"));
}

#[test]
fn no_line_is_wider_than_the_terminal_whatever_is_told() {
    for lang in [Lang::En, Lang::Zh] {
        for width in [60, 80, 100] {
            let style = Style {
                lang,
                width,
                has_color: false,
            };
            for line in tell(style, &story()).lines() {
                assert!(columns(line) <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn noise_is_counted_unless_the_lesson_is_about_it() {
    let noise = &story()[2];
    let mut narrator = Narrator::new(STYLE, Timestamp::ZERO);
    let mut out = Vec::new();

    assert!(!narrator.frame(&mut out, noise, None, false).unwrap());
    assert!(out.is_empty());
    assert!(narrator.frame(&mut out, noise, None, true).unwrap());
    narrator.end(&mut out).unwrap();

    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("router solicitation"), "{text}");
    assert!(text.contains("and one frame by which hosts"), "{text}");
}

#[test]
fn the_switch_explains_every_reason_in_both_languages() {
    for reason in DropReason::ALL {
        let mut lost = seen(0, "podA", frames::arp_request(1, 2), Fate::Dropped, &[]);
        lost.reason = Some(reason.name().to_owned());
        let english = lines(&lost, Lang::En);
        assert_eq!(
            english[0],
            format!("dropped, {}: {}", reason.name(), reason.explain())
        );
        let chinese = lines(&lost, Lang::Zh);
        let is_chinese = |char: char| ('\u{4e00}'..='\u{9fff}').contains(&char);
        let told = chinese[0].split_once('：').unwrap().1;
        assert!(told.chars().any(is_chinese), "{}: {told}", reason.name());
    }
}

#[test]
fn texts_of_frames_cannot_move_the_cursor() {
    let mut frame = seen(
        0,
        "pod\x1b[2J",
        frames::arp_request(1, 2),
        Fate::Flooded,
        &["a\nb"],
    );
    frame.text = "udp \x1b]0;x\x07".to_owned();
    let text = tell(STYLE, &[frame]);
    let is_plain = |char: char| !char.is_control() || char == '\n';
    assert!(text.chars().all(is_plain), "{text:?}");
    assert!(text.contains("ab"));
}
