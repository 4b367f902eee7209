//! Wireshark as a judge of its own: what it reads in the packets of both hosts.

use std::{fs, io, path::Path, slice};

use serde_json::Value;

use crate::common;

/// Whether there is a judge.
pub(crate) fn is_installed() -> bool {
    let version = common::command("tshark").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// The same packet twice, to be held against each other.
pub(crate) struct Twin {
    pub(crate) kernel: Vec<u8>,
    pub(crate) ours: Vec<u8>,
    /// Whether the pod had left the inner checksums to us: then they must be right.
    pub(crate) is_completed: bool,
}

/// Holds what Wireshark reads in each pair of packets against each other.
pub(crate) fn compare(seed: u64, is_v6: bool, twins: &[Twin]) {
    let kernel = decode("kernel.pcap", twins.iter().map(|twin| &twin.kernel)).unwrap();
    let ours = decode("ours.pcap", twins.iter().map(|twin| &twin.ours)).unwrap();
    assert_eq!((kernel.len(), ours.len()), (twins.len(), twins.len()));
    for (number, twin) in twins.iter().enumerate() {
        let (kernel, ours) = (&kernel[number], &ours[number]);
        let what = format!("packet {} with seed {seed}", number + 1);
        assert!(!ours["vxlan"].is_null(), "{what} is no VXLAN: {ours:#}");
        for (layer, key) in CHECKSUMS {
            let layers = all(&ours[layer]);
            let checked = if twin.is_completed { layers.len() } else { 1 };
            // There may be no such layer, or an inner one only.
            let is_inner = layer == "tcp" || layer == "ip" && is_v6;
            for layer in layers
                .iter()
                .take(checked)
                .filter(|_| twin.is_completed || !is_inner)
            {
                assert_eq!(layer[key], "1", "{key} of {what}");
            }
        }
        let [kernel, ours] = [kernel, ours].map(|layers| without_masked(layers.clone()));
        assert!(
            kernel == ours,
            "{what}: {} differs\nkernel {kernel:#}\nours {ours:#}",
            differing(&kernel, &ours)
        );
    }
}

/// A layer that there may be several of.
fn all(layer: &Value) -> &[Value] {
    match layer {
        Value::Array(layers) => layers,
        Value::Null => &[],
        one => slice::from_ref(one),
    }
}

fn differing(kernel: &Value, ours: &Value) -> String {
    let layers = kernel.as_object().into_iter().flatten();
    let differ = layers.filter(|(layer, value)| ours.get(layer) != Some(value));
    let names: Vec<_> = differ.map(|(layer, _)| layer.as_str()).collect();
    names.join(", ")
}

/// Takes `packets` for a capture and returns all layers of each, decoded; checksums are verified.
fn decode<'a>(name: &str, packets: impl Iterator<Item = &'a Vec<u8>>) -> io::Result<Vec<Value>> {
    // The test has a /run of its own.
    let path = Path::new("/run").join(name);
    fs::write(&path, common::pcap(packets))?;
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

/// What Wireshark thinks of a checksum: 1 if it is right.
const CHECKSUMS: [(&str, &str); 3] = [
    ("ip", "ip.checksum.status"),
    ("udp", "udp.checksum.status"),
    ("tcp", "tcp.checksum.status"),
];

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
