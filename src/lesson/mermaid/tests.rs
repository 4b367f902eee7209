use proptest::prelude::*;

use super::*;
use crate::{lesson::watch::Copied, lesson::watch::Learned, time::Timestamp, wire::MacAddr};

fn seen(node: &str, place: &str, text: &str, fate: Fate, to: &[&str]) -> Seen {
    Seen {
        at: Timestamp::ZERO,
        node: node.to_owned(),
        place: place.to_owned(),
        fate,
        class: (fate == Fate::Flooded).then(|| "broadcast".to_owned()),
        reason: (fate == Fate::Dropped).then(|| "no_egress".to_owned()),
        copies: to.iter().map(|to| copy(to)).collect(),
        row: None,
        learned: None,
        bytes: Vec::new(),
        len: 0,
        text: text.to_owned(),
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

fn datagram(from: [u8; 4], to: [u8; 4]) -> Datagram {
    let mut bytes = vec![0; 14];
    bytes[12] = 8;
    bytes.extend([0x45; 12]);
    bytes.extend(from);
    bytes.extend(to);
    Datagram {
        vni: 42,
        from_port: 50_000,
        len: 92,
        bytes,
    }
}

fn draw(nodes: &[&str], frames: &[Seen]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
    let frames: Vec<&Seen> = frames.iter().collect();
    sequence(&nodes, &frames, Lang::En)
}

#[test]
fn a_flood_a_forwarded_frame_and_a_drop_are_told_apart() {
    let mut first = seen(
        "host",
        "podA",
        "arp who-has B",
        Fate::Flooded,
        &["podB", "podC"],
    );
    first.learned = Some(Learned {
        mac: MacAddr::from_u48(0x0200_0000_0001),
        change: RowChange::New,
        from: None,
    });
    let frames = [
        first,
        seen("host", "podB", "arp B is-at", Fate::Forwarded, &["podA"]),
        seen("host", "podC", "icmp C > D", Fate::Dropped, &[]),
    ];

    assert_eq!(
        draw(&["host"], &frames),
        "\
sequenceDiagram
    participant n0p0 as podA
    participant n0p1 as podB
    participant n0 as host
    participant n0p2 as podC
    n0p0->>n0: arp who-has B
    Note over n0: learned: 02:00:00:00:00:01 is at podA
    Note over n0: flooded: broadcast
    n0-->>n0p1: arp who-has B
    n0-->>n0p2: arp who-has B
    n0p1->>n0: arp B is-at
    n0->>n0p0: arp B is-at
    n0p2-xn0: icmp C > D
    Note over n0: dropped: no_egress
"
    );
}

#[test]
fn what_goes_from_node_to_node_is_one_arrow() {
    let (one, two) = ([192, 168, 50, 10], [192, 168, 50, 20]);
    let mut left = seen(
        "node1",
        "podA",
        "icmp A > B",
        Fate::Forwarded,
        &["192.168.50.20"],
    );
    left.copies[0].datagram = Some(datagram(one, two));
    let mut came = seen(
        "node2",
        "192.168.50.10",
        "icmp A > B",
        Fate::Forwarded,
        &["podB"],
    );
    came.datagram = Some(datagram(one, two));
    let stray = seen(
        "node2",
        "192.168.50.30",
        "icmp C > B",
        Fate::Forwarded,
        &["podB"],
    );

    assert_eq!(
        draw(&["node1", "node2"], &[left, came, stray]),
        "\
sequenceDiagram
    box transparent node1
    participant n0p0 as podA
    participant n0 as node1
    end
    box transparent node2
    participant n1p0 as podB
    participant n1 as node2
    end
    participant v0 as VTEP 192.168.50.30
    n0p0->>n0: icmp A > B
    n0->>n1: VXLAN 42, 92 bytes: icmp A > B
    n1->>n1p0: icmp A > B
    v0->>n1: icmp C > B
    n1->>n1p0: icmp C > B
"
    );
}

#[test]
fn a_long_story_is_cut_and_says_so() {
    let frame = seen("host", "podA", "icmp", Fate::Forwarded, &["podB"]);
    let text = draw(&["host"], &vec![frame; MOST + 7]);
    assert!(
        text.ends_with("    Note over n0: and 7 more frames\n"),
        "{text}"
    );
}

/// What of mermaid's grammar of sequence diagrams is used here, read as strictly as mermaid does:
/// where one of its special characters would end a text, that is an error.
fn check(diagram: &str) -> Result<(), String> {
    let mut lines = diagram.lines();
    if lines.next() != Some("sequenceDiagram") {
        return Err("no sequenceDiagram".to_owned());
    }
    let mut known: Vec<&str> = Vec::new();
    let (mut is_in_box, mut is_body) = (false, false);
    for line in lines {
        let wrong = |why: &str| Err(format!("{why}: {line:?}"));
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("participant ") {
            let Some((id, name)) = rest.split_once(" as ") else {
                return wrong("no name");
            };
            if is_body || known.contains(&id) || !is_id(id) || !is_text(name) {
                return wrong("participant");
            }
            known.push(id);
        } else if let Some(name) = line.strip_prefix("box transparent ") {
            if is_in_box || is_body || !is_text(name) {
                return wrong("box");
            }
            is_in_box = true;
        } else if line == "end" {
            if !is_in_box {
                return wrong("end of nothing");
            }
            is_in_box = false;
        } else {
            is_body = true;
            let Some((head, text)) = line.split_once(": ") else {
                return wrong("no text");
            };
            let ends: Vec<&str> = match head.strip_prefix("Note over ") {
                Some(over) => vec![over],
                None => ["-->>", "->>", "-x"]
                    .iter()
                    .find_map(|arrow| head.split_once(arrow))
                    .map(|(from, to)| vec![from, to])
                    .unwrap_or_default(),
            };
            if ends.is_empty() || !ends.iter().all(|end| known.contains(end)) {
                return wrong("nobody known");
            }
            if is_in_box || !is_text(text) {
                return wrong("text");
            }
        }
    }
    if is_in_box {
        return Err("a box without an end".to_owned());
    }
    Ok(())
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|char| char.is_ascii_alphanumeric())
}

/// Text without a sign that ends it, but for entities such as `#59;`.
fn is_text(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(['#', ';', '%', '<', '"', '`', '\\', '{', '}', '$']) {
        let Some(entity) = rest[at..].strip_prefix('#') else {
            return false;
        };
        let Some((number, behind)) = entity.split_once(';') else {
            return false;
        };
        if number.is_empty() || !number.chars().all(|char| char.is_ascii_digit()) {
            return false;
        }
        rest = behind;
    }
    let is_plain = !text.chars().any(char::is_control);
    is_plain && !text.trim().is_empty() && !text.eq_ignore_ascii_case("end")
}

#[test]
fn the_check_finds_what_it_looks_for() {
    for text in [
        "a; b", "a # b", "#;", "#x1;", "end", "", "a\tb", "%% a", "<b>",
    ] {
        assert!(!is_text(text), "{text:?}");
    }
    for text in ["a > b: c", "#59;", "ending", "学到 #35; 1"] {
        assert!(is_text(text), "{text:?}");
    }
    let arrow = |line: &str| format!("sequenceDiagram\n participant a as A\n {line}\n");
    assert!(check(&arrow("a->>a: x")).is_ok());
    for line in ["a->>b: x", "a->a: x", "a->>a", "box transparent x", "end"] {
        assert!(check(&arrow(line)).is_err(), "{line}");
    }
}

proptest! {
    #[test]
    fn whatever_names_and_texts_say_the_syntax_is_right(
        nodes in prop::collection::vec("\\PC{0,6}|end|END|[a-z;#:]{0,6}", 1..4),
        places in prop::collection::vec("\\PC{0,8}|end|[0-9.]{0,9}|vtep|switch", 1..5),
        frames in prop::collection::vec((any::<[u8; 4]>(), "\\PC{0,20}|.{0,10}|end|%%.*"), 0..8),
        is_chinese in any::<bool>(),
    ) {
        let fates = [Fate::Forwarded, Fate::Flooded, Fate::Dropped, Fate::Consumed];
        let frames: Vec<Seen> = frames.iter().map(|([node, from, to, fate], text)| {
            let pick = |list: &[String], at: u8| list[usize::from(at) % list.len()].clone();
            let (node, from) = (pick(&nodes, *node), pick(&places, *from));
            let to = pick(&places, *to);
            seen(&node, &from, text, fates[usize::from(*fate) % 4], &[&to])
        }).collect();
        let frames: Vec<&Seen> = frames.iter().collect();
        let lang = if is_chinese { Lang::Zh } else { Lang::En };
        let text = sequence(&nodes[..1], &frames, lang);
        prop_assert_eq!(check(&text), Ok(()), "{}", text);
    }
}

#[test]
fn a_hub_and_a_wire_are_told_apart() {
    let of = |class: &str, lang| {
        let mut frame = seen("host", "podA", "icmp A > B", Fate::Flooded, &["podB"]);
        frame.class = Some(class.to_owned());
        sequence(&["host".to_owned()], &[&frame], lang)
    };
    for (class, en, zh) in [
        (BY_HUB, ": repeated by a hub", "：发往其他所有端口"),
        (BY_WIRE, ": repeated by a wire", "直连线：从另一头出去"),
        ("broadcast", ": flooded: broadcast", "泛洪：广播"),
    ] {
        assert!(of(class, Lang::En).contains(en), "{}", of(class, Lang::En));
        assert!(of(class, Lang::Zh).contains(zh), "{}", of(class, Lang::Zh));
    }
}
