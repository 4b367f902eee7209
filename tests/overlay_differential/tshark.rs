//! Wireshark as a judge of its own: what it reads in the packets of both hosts.

use std::{fs, io, path::Path};

use serde_json::Value;

use crate::{common, packets::low};

/// Whether there is a judge.
pub(crate) fn is_installed() -> bool {
    let version = common::command("tshark").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// Holds what Wireshark reads in each pair of packets against each other: the kernel's and ours.
pub(crate) fn compare(seed: u64, packets: Vec<(Vec<u8>, Vec<u8>)>) {
    let count = packets.len();
    // In the private /run of the test.
    let directory = Path::new("/run");
    let (kernel, ours): (Vec<_>, Vec<_>) = packets.into_iter().unzip();
    let kernel = decode(directory, "kernel.pcap", &kernel).unwrap();
    let ours = decode(directory, "ours.pcap", &ours).unwrap();
    assert_eq!((kernel.len(), ours.len()), (count, count));
    for (number, (kernel, ours)) in kernel.into_iter().zip(ours).enumerate() {
        let number = number + 1;
        let is_v6 = kernel["frame"]["frame.protocols"]
            .as_str()
            .is_some_and(|protocols| protocols.starts_with("eth:ethertype:ipv6:udp:vxlan:eth"));
        for key in ["ip.checksum.status", "udp.checksum.status"] {
            // The outermost comes first.
            let status = values(&ours, key).into_iter().next();
            if !(is_v6 && key.starts_with("ip.")) {
                assert_eq!(
                    status,
                    Some(Value::from("1")),
                    "{key} of packet {number}, seed {seed}"
                );
            }
        }
        let (kernel, ours) = (without_masked(kernel), without_masked(ours));
        assert_eq!(
            kernel["vxlan"], ours["vxlan"],
            "packet {number}, seed {seed}"
        );
        assert!(
            !ours["vxlan"].is_null(),
            "packet {number}, seed {seed}: {ours:#}"
        );
        assert!(
            kernel == ours,
            "packet {number}, seed {seed}: {} differs\nkernel {kernel:#}\nours {ours:#}",
            differing(&kernel, &ours)
        );
    }
}

fn differing(kernel: &Value, ours: &Value) -> String {
    let layers = kernel.as_object().into_iter().flatten();
    let differ = layers.filter(|(layer, value)| ours.get(layer) != Some(value));
    let names: Vec<_> = differ.map(|(layer, _)| layer.as_str()).collect();
    names.join(", ")
}

/// Takes `packets` for a capture and returns all layers of each, decoded; checksums are verified.
fn decode(directory: &Path, name: &str, packets: &[Vec<u8>]) -> io::Result<Vec<Value>> {
    let path = directory.join(name);
    fs::write(&path, capture(packets))?;
    let mut command = common::command("tshark");
    command
        .arg("-r")
        .arg(&path)
        .args(["-T", "json", "--no-duplicate-keys", "-n"]);
    for option in [
        "ip.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        // Each packet by itself.
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tcp.analyze_sequence_numbers:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
        "udp.calculate_timestamps:FALSE",
        "tcp.calculate_timestamps:FALSE",
    ] {
        command.args(["-o", option]);
    }
    let output = command.output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(complaint));
    }
    let packets: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let layers = packets
        .into_iter()
        .map(|mut packet| packet["_source"]["layers"].take());
    Ok(layers.collect())
}

/// pcap (draft-ietf-opsawg-pcap), Ethernet.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0x0004_0000, 1] {
        file.extend(word.to_le_bytes());
    }
    for packet in packets {
        let len = u32::from(low(packet.len())).to_le_bytes();
        file.extend([[0; 4], [0; 4], len, len].concat());
        file.extend(packet);
    }
    file
}

/// Without what belongs to the file and not to the packet, and without what may differ in the outer
/// headers.
fn without_masked(mut layers: Value) -> Value {
    if let Some(layers) = layers.as_object_mut() {
        layers.remove("frame");
    }
    forget(&mut layers, &NUMBERS);
    for (layer, keys) in MASKED {
        if let Some(outer) = outermost(&mut layers[layer]) {
            forget(outer, keys);
        }
    }
    layers
}

/// All values of this key, in any layer, in order.
fn values(layers: &Value, key: &str) -> Vec<Value> {
    let mut found = Vec::new();
    walk(layers, &mut |name, value| {
        if name == key {
            match value {
                Value::Array(values) => found.extend(values.iter().cloned()),
                other => found.push(other.clone()),
            }
        }
    });
    found
}

fn outermost(layer: &mut Value) -> Option<&mut Value> {
    match layer {
        Value::Array(layers) => layers.first_mut(),
        Value::Null => None,
        other => Some(other),
    }
}

fn forget(value: &mut Value, keys: &[&str]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !keys.contains(&&**key));
            fields.values_mut().for_each(|value| forget(value, keys));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| forget(value, keys)),
        _ => {}
    }
}

fn walk(value: &Value, each: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                each(key, value);
                walk(value, each);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, each)),
        _ => {}
    }
}

/// Numbers that Wireshark gives to flows, which it tells apart by the outer ports too.
const NUMBERS: [&str; 4] = ["udp.stream", "tcp.stream", "ip.stream", "ipv6.stream"];

/// Of the outermost layer of each kind.
const MASKED: [(&str, &[&str]); 3] = [
    ("ip", &["ip.id", "ip.checksum", "ip.checksum_calculated"]),
    ("ipv6", &["ipv6.flow"]),
    (
        "udp",
        &[
            "udp.srcport",
            "udp.port",
            "udp.checksum",
            "udp.checksum_calculated",
        ],
    ),
];
