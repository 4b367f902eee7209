//! Filters against tcpdump: random expressions choose the same of random frames.
//!
//! A failure prints the seed; `TAPSWITCH_SEED=n cargo test --test filter` repeats it.

#[path = "filter/corpus.rs"]
mod corpus;
#[path = "filter/random.rs"]
mod random;

mod common;

use std::{fs, path::PathBuf, process::ExitCode};

use common::{Env, command, pcap};
use libtest_mimic::Arguments;
use random::{Random, expression};
use tapswitch::{filter::Filter, sim::frames};

fn main() -> ExitCode {
    let env = Env {
        reason_not_to_run: None,
    };
    let tests = vec![
        env.trial_with(
            &["tcpdump"],
            "random_filters_choose_the_frames_that_tcpdump_chooses",
            random_filters,
        ),
        env.trial_with(
            &["tcpdump"],
            "filters_that_people_write_choose_the_frames_that_tcpdump_chooses",
            everyday_filters,
        ),
        env.trial(
            "an_address_that_differs_early_is_another_even_if_the_frame_ends_in_it",
            cut_address,
        ),
        env.trial("vxlan_moves_the_view_to_the_inner_frame", tunnels),
        env.trial(
            "a_wrong_filter_is_refused_with_column_and_expectation",
            errors,
        ),
        env.trial("no_text_and_no_frame_makes_it_panic", junk),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn seed() -> u64 {
    let given = std::env::var("TAPSWITCH_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| tapswitch::sys::clock::now().as_nanos());
    println!("seed {seed}");
    seed
}

/// `TAPSWITCH_FILTER_ROUNDS=10000` for a long run.
fn rounds() -> usize {
    let given = std::env::var("TAPSWITCH_FILTER_ROUNDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(250)
}

fn random_filters() {
    let seed = seed();
    let mut random = Random(seed);
    let oracle = Oracle::new("random", corpus::frames(&mut random, 400));
    let mut meaningful = 0;
    for round in 0..rounds() {
        let text = expression(&mut random, 3);
        let chosen = oracle.compare(&text, &format!("seed {seed}, round {round}"));
        let all = oracle.frames.len();
        meaningful += usize::from(chosen > 0 && chosen < all);
    }
    // Otherwise both might say no to everything.
    assert!(meaningful > 100, "only {meaningful} filters chose anything");
}

fn everyday_filters() {
    let oracle = Oracle::new("everyday", corpus::frames(&mut Random(1), 400));
    for text in [
        "icmp",
        "arp or icmp",
        "not arp and not icmp6",
        "host 192.0.2.1 and 192.0.2.2",
        "src host 192.0.2.1 or 192.0.2.3",
        "src or dst net 192.0.2.0/30",
        "src and dst net 192.0.2",
        "net 192.0.2.0 mask 255.255.255.0",
        "ip6 and udp port 2000",
        "tcp port 1000 or 53",
        "tcp dst port (80 or 2000)",
        "udp portrange 900-1100",
        "host 2001:db8::1",
        "ip6 net 2001:db8::/32",
        "ether host 02:00:00:00:00:01",
        "ether src 02:00:00:00:00:01 and broadcast",
        "ether multicast and not broadcast",
        "ip multicast or ip6 multicast",
        "link broadcast",
        "link multicast and not broadcast",
        "link src 02:00:00:00:00:01 and link[0] & 1 = 1",
        "link proto 0x0806",
        "vlan",
        "vlan 10 and icmp",
        "vlan and vlan and ip",
        "not vlan",
        "vlan 10 or ip",
        "less 60",
        "greater 100",
        "len >= 100 and len != 1500",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "tcp[13] & 2 = 2",
        "icmp[icmptype] = icmp-echo",
        "icmp6[icmp6type] = icmp6-neighborsolicit",
        "ip[6:2] & 0x1fff != 0",
        "ip[2:2] > 50 and ip[8] = 64",
        "(ip[0] & 0xf) * 4 > 20",
        "ether[0] & 1 = 1",
        "ether proto 0x0806",
        "ether proto \\ip6",
        "ip proto \\udp",
        "ip6 proto 58",
        "proto 6",
        "arp host 192.0.2.1",
        "arp[6:2] = 1",
        "!(tcp && port 1000) || udp",
        "igmp or sctp or esp or ah or rarp",
    ] {
        oracle.compare(text, "");
    }
}

fn cut_address() {
    let mut frame = vec![0; 14 + 40];
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14 + 24..].fill(0xbe);
    frame.truncate(14 + 40 - 1);
    let filter = |text: &str| Filter::parse(text).unwrap();
    assert!(filter("not dst host 2001:db8::3").matches(&frame));
    // Where all that is there is equal, nobody can tell.
    let like = "dst host bebe:bebe:bebe:bebe:bebe:bebe:bebe:bebe";
    assert!(!filter(like).matches(&frame));
    assert!(!filter(&format!("not {like}")).matches(&frame));
}

fn tunnels() {
    let inner = frames::echo_request(1, 2, 7);
    let tagged = frames::tagged(&inner, 5);
    let outer = corpus::vxlan(42, 4789, &inner);
    let matches = |text: &str, frame: &[u8]| Filter::parse(text).unwrap().matches(frame);

    assert!(matches("vxlan", &outer) && matches("vxlan 42", &outer));
    assert!(!matches("vxlan 43", &outer) && !matches("vxlan", &inner));
    assert!(matches("vxlan 42 and icmp and host 192.0.2.1", &outer));
    assert!(!matches("icmp", &outer) && !matches("vxlan and udp", &outer));
    assert!(matches(
        "udp dst port 4789 and vxlan and ether src 02:00:00:00:00:01",
        &outer
    ));
    assert!(matches(
        "vxlan and vlan 5 and icmp",
        &corpus::vxlan(1, 4789, &tagged)
    ));
    let other = corpus::vxlan(42, 8472, &inner);
    let filter = Filter::parse("vxlan and icmp").unwrap();
    assert!(!filter.matches(&other));
    assert!(filter.with_vxlan_port(8472).matches(&other));
}

fn errors() {
    for (text, column, message) in [
        ("hots 10.0.0.1", 1, "expected a primitive such as host, net"),
        ("host", 5, "expected an IP address, found the end"),
        ("host example.org", 6, "names are not looked up"),
        ("host 10.1", 6, "10.1 is no whole address; write net 10.1"),
        (
            "host 10.0.0.0/8",
            14,
            "a prefix length makes it a network; write net",
        ),
        ("net 10.1.2.3/8", 14, "bits set that are not of the network"),
        (
            "net 10.0.0.0/33",
            14,
            "33 is no prefix length, which is at most 32",
        ),
        (
            "port http",
            6,
            "a port number; names of services are not looked up",
        ),
        ("port 70000", 6, "70000 is no port, which is at most 65535"),
        ("icmp port 7", 11, "icmp has no ports"),
        (
            "tcp port 80 443",
            13,
            "expected and, or, or the end, found \"443\"",
        ),
        ("(icmp", 6, "expected ), found the end"),
        ("icmp)", 5, "expected and, or, or the end, found \")\""),
        ("icmp and", 9, "expected a primitive"),
        (
            "host 02:00:00:00:00:01",
            6,
            "a MAC address needs ether host",
        ),
        ("ether host 10.0.0.1", 12, "expected a MAC address"),
        ("vlan 5000", 6, "5000 is no VLAN id, which is at most 4095"),
        ("vxlan 16777216", 7, "is no VNI, which is at most 16777215"),
        ("tcp[13", 7, "expected ], found the end"),
        ("tcp[13:3] = 1", 8, "expected 1, 2 or 4 bytes"),
        ("ip[0] & 1", 10, "expected a comparison"),
        ("len = 1 / 0", 11, "divided by 0"),
        ("geneve", 1, "\"geneve\" of libpcap is not known here"),
        ("ip broadcast", 4, "depends on netmasks"),
        ("icmp ; arp", 6, "';' has no meaning here"),
        ("host \u{e9}\u{e9} ;", 6, "has no meaning here"),
    ] {
        let error = Filter::parse(text).expect_err(text);
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.column, column, "{text}: {error}");
    }
    let error = Filter::parse("icmp and hots 10.0.0.1").unwrap_err();
    let shown = error.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("read filter, column 10: expected"),
        "{shown}"
    );
    assert_eq!(lines[1..], ["  icmp and hots 10.0.0.1", "           ^"]);
}

fn junk() {
    let seed = seed();
    let mut random = Random(seed);
    let frames = corpus::frames(&mut random, 100);
    for _ in 0..20_000 {
        let mut text = expression(&mut random, 4);
        for _ in 0..random.below(4) {
            let at = random.below(text.len() + 1);
            if text.is_char_boundary(at) {
                let piece = *random.pick(&["(", ")", "[", " not ", "\u{e9}", "1", "-", ":"]);
                text.insert_str(at, piece);
            }
        }
        if let Ok(filter) = Filter::parse(&text) {
            let frame = random.pick(&frames);
            let cut = random.below(frame.len() + 1);
            filter.matches(&frame[..cut]);
        }
    }
    for deep in ["(", "not ", "-", "tcp[", "((len) + "] {
        assert!(Filter::parse(&deep.repeat(500)).is_err(), "{deep:?}");
    }
}

/// Frames in a file that tcpdump reads.
struct Oracle {
    frames: Vec<Vec<u8>>,
    file: PathBuf,
}

impl Oracle {
    fn new(name: &str, frames: Vec<Vec<u8>>) -> Self {
        let file = std::env::temp_dir().join(format!("tsw-filter-{name}-{}", std::process::id()));
        fs::write(&file, pcap(&frames)).unwrap();
        Self { frames, file }
    }

    /// The numbers of the frames that tcpdump chooses.
    fn chosen(&self, text: &str) -> Vec<usize> {
        let file = self.file.display().to_string();
        let output = command("tcpdump")
            // Its optimiser leaves out loads whose result it can tell; where a frame ends before them,
            // what it makes of the filter is not what was written.
            .args(["-O", "-Z", "root", "-r", &file, "-w", "-", text])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("expression rejects all packets") {
            return Vec::new();
        }
        assert!(output.status.success(), "{text}: {error}");
        let word = |at: usize| {
            let bytes = output.stdout.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().unwrap()) as usize)
        };
        let mut chosen = Vec::new();
        let mut at = 24;
        while let (Some(number), Some(len)) = (word(at), word(at + 8)) {
            chosen.push(number);
            at += 16 + len;
        }
        chosen
    }

    /// Holds both against each other; returns how many frames were chosen.
    fn compare(&self, text: &str, context: &str) -> usize {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{context}: {error}"));
        let ours: Vec<usize> = (0..self.frames.len())
            .filter(|&number| filter.matches(&self.frames[number]))
            .collect();
        let theirs = self.chosen(text);
        let differs = |number: &&usize| ours.contains(number) != theirs.contains(number);
        if let Some(number) = ours.iter().chain(&theirs).find(differs) {
            panic!(
                "{context}: {text}: frame {number} is chosen by {} only: {:02x?}",
                if ours.contains(number) {
                    "us"
                } else {
                    "tcpdump"
                },
                self.frames[*number]
            );
        }
        ours.len()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.file));
    }
}
