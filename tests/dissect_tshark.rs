//! What `tapswitch explain` and Wireshark read in the same frames: addresses, numbers, lengths, and
//! what each checksum is worth.

mod common;
#[path = "dissect_tshark/corpus.rs"]
mod corpus;

use std::{
    collections::hash_map::RandomState, env, fs, hash::BuildHasher, net::IpAddr, path::Path,
    process::ExitCode, slice,
};

use common::{Env, command};
use libtest_mimic::Arguments;
use serde_json::Value as Json;
use tapswitch::dissect::{Dissection, Field, Layer, Options, ProblemKind, Value, dissect};

fn main() -> ExitCode {
    let env = Env {
        reason_not_to_run: None,
    };
    let trial = |name, body: fn()| env.trial_with(&["tshark"], name, body);
    let tests = vec![
        trial("whole_frames_read_the_same_in_wireshark", || {
            compare("whole", &corpus::frames(), true);
        }),
        trial("damaged_frames_read_the_same_in_wireshark", damaged),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// One bit of each frame is another.
fn damaged() {
    let seed = match env::var("TAPSWITCH_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => RandomState::new().hash_one(0) >> 32,
    };
    println!("TAPSWITCH_SEED={seed}");
    let mut state = seed;
    let mut random = move |below: usize| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below as u64).unwrap()
    };
    let frames = corpus::frames();
    let mut damaged = Vec::new();
    for _ in 0..30 {
        for frame in &frames {
            let mut frame = frame.clone();
            let at = random(frame.len());
            frame[at] ^= 1 << random(8);
            damaged.push(frame);
        }
    }
    compare("damaged", &damaged, false);
}

fn compare(name: &str, frames: &[Vec<u8>], are_whole: bool) {
    let judged = wireshark(name, frames);
    assert_eq!(judged.len(), frames.len());
    let mut compared = 0;
    for (number, (frame, theirs)) in frames.iter().zip(&judged).enumerate() {
        let ours = dissect(frame, &Options::default());
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let what = format!("frame {number}, {hex}: {}", ours.summary);
        compared += compare_frame(&what, &ours, theirs, are_whole);
    }
    println!("{compared} fields of {} frames", frames.len());
    assert!(
        compared > 8 * frames.len(),
        "only {compared} fields were compared"
    );
}

/// A layer here (for tags its title), one there, and how their fields are called.
type Names = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const LAYERS: &[Names] = &[
    (
        "ethernet",
        "eth",
        &[
            ("destination", "eth.dst"),
            ("source", "eth.src"),
            ("type", "eth.type"),
        ],
    ),
    (
        "VLAN tag, 802.1ad",
        "ieee8021ad",
        &[
            ("priority", "ieee8021ad.priority"),
            ("drop eligible", "ieee8021ad.dei"),
            ("VLAN", "ieee8021ad.id"),
        ],
    ),
    (
        "VLAN tag, 802.1Q",
        "vlan",
        &[
            ("priority", "vlan.priority"),
            ("drop eligible", "vlan.dei"),
            ("VLAN", "vlan.id"),
        ],
    ),
    (
        "arp",
        "arp",
        &[
            ("hardware type", "arp.hw.type"),
            ("protocol type", "arp.proto.type"),
            ("hardware length", "arp.hw.size"),
            ("protocol length", "arp.proto.size"),
            ("operation", "arp.opcode"),
            ("sender MAC", "arp.src.hw_mac"),
            ("sender IP", "arp.src.proto_ipv4"),
            ("target MAC", "arp.dst.hw_mac"),
            ("target IP", "arp.dst.proto_ipv4"),
        ],
    ),
    (
        "ipv4",
        "ip",
        &[
            ("version", "ip.version"),
            ("total length", "ip.len"),
            ("identification", "ip.id"),
            ("fragment offset", "ip.frag_offset"),
            ("TTL", "ip.ttl"),
            ("protocol", "ip.proto"),
            ("checksum", "ip.checksum"),
            ("source", "ip.src"),
            ("destination", "ip.dst"),
        ],
    ),
    (
        "ipv6",
        "ipv6",
        &[
            ("version", "ipv6.version"),
            ("flow label", "ipv6.flow"),
            ("payload length", "ipv6.plen"),
            ("next header", "ipv6.nxt"),
            ("hop limit", "ipv6.hlim"),
            ("source", "ipv6.src"),
            ("destination", "ipv6.dst"),
        ],
    ),
    (
        "udp",
        "udp",
        &[
            ("source port", "udp.srcport"),
            ("destination port", "udp.dstport"),
            ("length", "udp.length"),
            ("checksum", "udp.checksum"),
        ],
    ),
    (
        "tcp",
        "tcp",
        &[
            ("source port", "tcp.srcport"),
            ("destination port", "tcp.dstport"),
            ("sequence", "tcp.seq_raw"),
            ("acknowledgment", "tcp.ack_raw"),
            ("window", "tcp.window_size_value"),
            ("checksum", "tcp.checksum"),
            ("urgent pointer", "tcp.urgent_pointer"),
        ],
    ),
    (
        "icmp",
        "icmp",
        &[
            ("type", "icmp.type"),
            ("code", "icmp.code"),
            ("checksum", "icmp.checksum"),
        ],
    ),
    (
        "icmpv6",
        "icmpv6",
        &[
            ("type", "icmpv6.type"),
            ("code", "icmpv6.code"),
            ("checksum", "icmpv6.checksum"),
            ("target", "icmpv6.nd.ns.target_address"),
            ("target", "icmpv6.nd.na.target_address"),
            ("router lifetime", "icmpv6.nd.ra.router_lifetime"),
        ],
    ),
    (
        "igmp",
        "igmp",
        &[("type", "igmp.type"), ("group", "igmp.maddr")],
    ),
    ("vxlan", "vxlan", &[("VNI", "vxlan.vni")]),
];

/// Returns how many fields were compared. In a whole frame both must find the same layers.
fn compare_frame(what: &str, ours: &Dissection, theirs: &Json, is_whole: bool) -> usize {
    let mut compared = 0;
    for (protocol, name, fields) in LAYERS {
        let is_meant = |layer: &&Layer| match layer.protocol {
            "vlan" => layer.title == *protocol,
            other => other == *protocol && !layer.quoted,
        };
        let ours: Vec<_> = ours.layers.iter().filter(is_meant).collect();
        let theirs = all(&theirs[*name]);
        if is_whole {
            let both = (ours.len(), theirs.len());
            assert_eq!(both.0, both.1, "{what}: {protocol} here, {name} there");
        }
        // A damaged tag is something else to one of both.
        if protocol.starts_with("VLAN") && ours.len() != theirs.len() {
            continue;
        }
        // Of what only one of both reads as such a layer there is nothing to compare.
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            for (field, key) in *fields {
                let Some(ours) = ours.fields.iter().find(|found| found.name == *field) else {
                    let is_missed = is_whole && theirs[*key].is_string();
                    assert!(!is_missed, "{what}: they have {key}");
                    continue;
                };
                let Some(theirs) = theirs[*key].as_str() else {
                    // One name may stand for several of theirs.
                    let is_there = |(name, key): &_| name == field && theirs[*key].is_string();
                    assert!(!is_whole || fields.iter().any(is_there), "{what}: no {key}");
                    continue;
                };
                // Wireshark puts the length of the packet there, as old captures of TSO want it.
                if *key == "ip.len" && ours.value == Value::Number(0) {
                    continue;
                }
                let is_same = same(&ours.value, theirs);
                assert!(is_same, "{what}: {key} is {theirs}, and not {}", ours.value);
                compared += 1;
            }
            compared += usize::from(compare_checksum(what, ours, theirs, name));
        }
    }
    compared
}

fn same(ours: &Value, theirs: &str) -> bool {
    let number = match theirs.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => theirs.parse().ok(),
    };
    match ours {
        Value::Number(ours) | Value::Hex(ours, _) => number == Some(*ours),
        Value::Text(ours) => match (ours.parse::<IpAddr>(), theirs.parse::<IpAddr>()) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            _ => ours == theirs,
        },
        Value::Bytes => false,
    }
}

/// Whether there was one to compare.
fn compare_checksum(what: &str, ours: &Layer, theirs: &Json, name: &str) -> bool {
    let Some(field) = ours.fields.iter().find(|field| field.name == "checksum") else {
        return false;
    };
    let Some(theirs) = theirs[format!("{name}.checksum.status")].as_str() else {
        return false;
    };
    // It verifies nothing inside of what the outermost header calls a fragment.
    if theirs == "2" {
        return false;
    }
    // And takes the bytes that there are where a length lies.
    if field.meaning.contains("not whole") || field.meaning.contains("the length is wrong") {
        return false;
    }
    assert_eq!(
        verdict(field),
        theirs,
        "{what}: the checksum of {name}: {field:?}"
    );
    true
}

/// As Wireshark numbers it.
fn verdict(field: &Field) -> &'static str {
    match field.problems.first().map(|problem| problem.kind) {
        Some(ProblemKind::NoChecksum) => "3",
        Some(_) => "0",
        None if field.meaning == "right" => "1",
        None => "2",
    }
}

/// A layer that there may be several of.
fn all(layer: &Json) -> &[Json] {
    match layer {
        Json::Array(layers) => layers,
        Json::Null => &[],
        one => slice::from_ref(one),
    }
}

/// The layers of each frame as Wireshark reads them.
fn wireshark(name: &str, frames: &[Vec<u8>]) -> Vec<Json> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dissect-{name}.pcap"));
    fs::write(&path, common::pcap(frames)).unwrap();
    let mut command = command("tshark");
    command.arg("-r").arg(&path);
    command.args(["-T", "json", "--no-duplicate-keys", "-n"]);
    for option in [
        "ip.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        // Each packet by itself.
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tcp.analyze_sequence_numbers:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
    ] {
        command.args(["-o", option]);
    }
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {complaint}");
    let packets: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
    let layers = packets.into_iter();
    layers
        .map(|mut packet| packet["_source"]["layers"].take())
        .collect()
}
