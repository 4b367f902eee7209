//! The page in Chinese: no English sentence is left where the page has words of its own.

use serde_json::json;
use tapswitch::{bridge::DropReason, sim::frames, wire::describe};

use super::{Test, hard_cases::with_modules, world::World};

pub(crate) const TESTS: &[Test] = &[
    ("every_step_is_told_in_chinese", chinese),
    (
        "no_field_and_no_remedy_is_english_on_a_chinese_page",
        fields,
    ),
    ("no_panel_of_a_chinese_page_has_an_english_sentence", panels),
];

/// What the server may say, one of each kind.
const SENTENCES: &[&str] = &[
    "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, untagged, ARP",
    "02:00:00:00:00:01 > 02:00:00:00:00:02, VLAN 7, IPv4; its checksum is left to be finished",
    "02:00:00:00:00:01 > 02:00:00:00:00:02, priority-tagged, type 0x88b5; a superframe: tcp4, segments of 1448 bytes",
    "13 bytes: no whole Ethernet header",
    "br0 is a hub, which repeats and learns nothing",
    "br0 is a wire, which joins its two ports",
    "nothing new about 02:00:00:00:00:01 on podA",
    "learned 02:00:00:00:00:01 here",
    "02:00:00:00:00:01 moved here from podB",
    "02:00:00:00:00:01 flaps: moved here from podB, and is held now",
    "02:00:00:00:00:01 is held elsewhere, since it moved too often",
    "02:00:00:00:00:01 has a static entry elsewhere",
    "02:00:00:00:00:01 not learned: the fdb is full",
    "FDB row br0 02:00:00:00:00:02 vlan - podB learned, seen 0.5 s ago",
    "FDB row br0 02:00:00:00:00:02 vlan 7 podB static",
    "FDB row br0 02:00:00:00:00:02 vlan - podB local",
    "FDB row br0 02:00:00:00:00:02 vlan - 198.51.100.2 control",
    "broadcast: for everybody, no FDB row",
    "01:00:5e:00:00:01 is a group: multicast, no FDB row",
    "br0 has no FDB row for 02:00:00:00:00:02, vlan -: unknown unicast",
    "to podB, and nowhere else",
    "3 (broadcast): to podB, podC, 198.51.100.2",
    "3 (multicast): to podB, podC, 198.51.100.2",
    "3 (unknown unicast): to podB, podC, 198.51.100.2",
    "3 (repeated): to podB, podC, 198.51.100.2",
    "to 3 (broadcast) places",
    "locked: its ingress port is locked and the source is not in the FDB there",
    "a probe of another tapswitch: answered here",
    "VNI 42 for 198.51.100.2; 134 bytes = 98 inner + 8 VXLAN + 8 UDP + 20 IPv4",
    "VNI 42 for 198.51.100.2; cut to what the path takes, each piece with 36 bytes of headers",
    "VNI 42 for 198.51.100.2, UDP 50000 > 4789 by the inner flow; 134 bytes = 98 inner + 8 VXLAN + 8 UDP + 20 IPv4",
    "fits the path to 198.51.100.2 (MTU 1500)",
    "is too big for the path to 198.51.100.2 (MTU 1500)",
    "fits the device u0 (MTU 1500)",
    "is too big for the device u0 (MTU 1500)",
    "nothing to do: it leaves as it is",
    "passed on with the checksum unfinished",
    "passed on as a superframe: tcp4, segments of 1448 bytes",
    "podB: a copy of 98 bytes, from podA",
    "podB: 60 bytes, made by the switch",
    "198.51.100.2: sent, 134 bytes",
    "a datagram of 134 bytes from 198.51.100.2, a peer; VNI 42, of bridge br0",
    "a datagram of 134 bytes from 198.51.100.2, no peer; VNI 42",
    "a datagram of 134 bytes from 198.51.100.2, no peer; no VXLAN header",
    "a frame of 98 bytes: 134 bytes = 98 inner + 8 VXLAN + 8 UDP + 20 IPv4",
    // The flight recorder.
    "its source was new to the fdb and learned",
    "its source moved here from podB",
    "its source moved here from podB, too often: it is held here for 180 s",
    "its source is held elsewhere, since it moved too often",
    "its source has a static or local entry elsewhere, which stays",
    "its source was not learned: the fdb is full",
    "the fdb had 02:00:00:00:00:02 at podB",
    "the fdb had 02:00:00:00:00:02 at podB, by a static entry",
    "the fdb had 02:00:00:00:00:02 at podB, its own address",
    "the fdb had 02:00:00:00:00:02 at podB; now it has it at podC",
    "the fdb had 02:00:00:00:00:02 at podB; now it has no entry for it",
    "the fdb had no entry for 02:00:00:00:00:02",
    "the fdb had no entry for 02:00:00:00:00:02; now it is at podB",
    "it is a broadcast",
    "01:00:5e:00:00:01 is a group address",
    "the bridge is no switch and repeats every frame",
    "too_big: outer 1550 > path 1500: it is larger than its egress takes",
    "too_big: 2000 bytes > 1518 (MTU 1500 + 14 + 4): it is larger than its egress takes",
    "unknown_vni: VNI 9: no bridge has its VNI",
    "no_route: the underlay has no way to the remote VTEP",
];

fn chinese(world: &World) {
    let page = world.open_at("?lang=zh");
    let told = with_modules(
        page,
        &["phrases", "classes"],
        &format!(
            "return [...{}.map(phrases.phrase), ...[
               'arp who-has 192.0.2.2 tell 192.0.2.1', 'arp 192.0.2.2 is-at 02:00:00:00:00:02',
               'icmp6 fe80::1 > ff02::1 neighbour solicitation, who has fe80::2',
               'icmp6 fe80::2 > fe80::1 neighbour advertisement, fe80::2'].map(classes.labelOf)]",
            json!(SENTENCES)
        ),
    );
    for told in told.as_array().unwrap() {
        let told = told.as_str().unwrap();
        let is_word = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase());
        let mut words = told.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names = ["br0", "ff", "locked", "tapswitch"];
        let english = words.find(|word| is_word(word) && !names.contains(word));
        assert_eq!(english, None, "{told}");
        assert!(!told.is_ascii(), "{told}");
    }
    world.open();
}

/// Frames of many kinds, some of them broken.
fn frames_of_many_kinds() -> Vec<Vec<u8>> {
    let mut frames = vec![
        frames::arp_request(1, 2),
        frames::arp_reply(2, 1),
        frames::echo_request(1, 2, 7),
        frames::udp4(1, 2, b"1234"),
        frames::udp6(1, 2, b"1234"),
        frames::tcp4(1, 2, 1, b"1234"),
        frames::tagged(&frames::arp_request(1, 2), 10),
        frames::broadcast(frames::mac(1)),
        frames::runt(frames::mac(1), 9),
    ];
    let mut wrong = frames::udp4(1, 2, b"1234");
    wrong[40] ^= 0xff;
    frames.push(wrong);
    let mut cut = frames::tcp4(1, 2, 1, b"1234");
    cut.truncate(40);
    frames.push(cut);
    let mut syn = frames::tcp4(1, 2, 1, b"");
    syn[47] = 2;
    frames.push(syn);
    frames
}

/// Two words of English beside each other, which are no command that somebody has typed.
fn is_english(told: &str) -> bool {
    let told = told.split("由：tapswitch ").next().unwrap_or_default();
    let is_word = |word: &str| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase());
    let words: Vec<_> = told
        .split([' ', ',', '\n'])
        .map(|word| word.trim_end_matches(':'))
        .collect();
    words
        .windows(2)
        .any(|pair| pair.iter().all(|word| is_word(word)))
}

fn fields(world: &World) {
    let page = world.open_at("?lang=zh");
    let hex = |frame: &Vec<u8>| {
        frame
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let frames = frames_of_many_kinds();
    let hexes: Vec<String> = frames.iter().map(hex).collect();
    let summaries: Vec<String> = frames.iter().map(|frame| describe(frame)).collect();
    let told = with_modules(
        page,
        &["hexview", "told"],
        &format!(
            "const texts = async (hex) => {{
               const answer = await fetch(`/api/explain?hex=${{hex}}&start=ethernet`);
               const view = hexview.hexView(hex, await answer.json());
               const parts = view.querySelectorAll('.layer-name, .name, .meaning, .problem');
               return [...parts].map((part) => part.textContent);
             }};
             return Promise.all({}.map(texts)).then((all) =>
               [...all.flat(), ...{}.map(told.frameWords)].filter(Boolean))",
            json!(hexes),
            json!(summaries),
        ),
    );
    let told = told.as_array().unwrap();
    assert!(told.len() > 200, "{} texts", told.len());
    for told in told {
        let told = told.as_str().unwrap();
        let small = |c: char| c.is_ascii_lowercase();
        // A hash of an address is no word.
        let is_number = told
            .split_whitespace()
            .all(|word| word.chars().any(|c| c.is_ascii_digit()) || !word.contains(small));
        assert!(!told.is_ascii() || is_number, "{told}");
        assert!(!is_english(told), "{told}");
    }

    let remedies: Vec<_> = DropReason::ALL
        .iter()
        .map(|reason| (reason.name(), reason.remedy()))
        .collect();
    let told = with_modules(
        page,
        &["told"],
        &format!(
            "return {}.map(([reason, text]) => told.remedyWords(reason, text))",
            json!(remedies)
        ),
    );
    for (told, (reason, english)) in told.as_array().unwrap().iter().zip(remedies) {
        let told = told.as_str().unwrap();
        let commands = english.matches("tapswitch ").count();
        assert_eq!(told.matches("tapswitch ").count(), commands, "{told}");
        let mut parts = told.split('；');
        let first = parts.next().unwrap();
        assert!(!first.is_ascii() && !is_english(first), "{reason}: {told}");
        for part in parts.filter(|part| part.is_ascii()) {
            let is_command = ["tapswitch ", "ip ", "ethtool ", "dmesg"]
                .iter()
                .any(|name| part.starts_with(name));
            assert!(is_command, "{reason}: {told}");
        }
    }
    world.open();
}

fn panels(world: &World) {
    let page = world.open_at("?lang=zh");
    world.ping('A', 'C');
    page.wait("document.querySelectorAll('#log-list li').length >= 5");
    let mut texts = Vec::new();
    let mut read = |what: &str| {
        let text = page.text("document.querySelector('#panel-body').innerText + document.querySelector('#log').innerText");
        assert!(!text.is_ascii(), "{what}: {text}");
        texts.push((what.to_owned(), text));
    };
    read("overview");
    for line in ["arp", "icmp"] {
        page.click(&format!(".line.{line}"));
        page.wait("document.querySelectorAll('.field').length > 8");
        read(line);
    }
    for (key, is_there) in [
        ("[data-key^=port][data-key$=podA]", "includes('MTU')"),
        ("[data-key^=bridge]", "includes('VNI')"),
        ("[data-key^=vtep]", "includes('UDP 8')"),
        ("[data-key^=fdb]", "includes('ARP')"),
    ] {
        page.run(&format!(
            "document.querySelector('{key}').dispatchEvent(new MouseEvent('click', {{bubbles: true}}))"
        ));
        page.wait(&format!(
            "document.querySelector('#panel-body').innerText.{is_there}"
        ));
        read(key);
    }
    for (what, text) in texts {
        let english: Vec<_> = text.lines().filter(|line| is_english(line)).collect();
        assert!(english.is_empty(), "{what}: {english:?}");
    }
    world.open();
}
