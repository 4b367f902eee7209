//! All frames as a capture file.

use std::collections::BTreeMap;

use super::{Fate, Seen};
use crate::{
    bridge::DropReason,
    pcap::{Direction, InterfaceId, Writer},
    time::Timestamp,
};

/// All frames as a pcapng file: an interface for each place of each node, and what became of each
/// frame as its comment. What came or went in a datagram is there twice: as it was in the switch,
/// and as it was on the underlay.
pub fn pcapng(seen: &[Seen]) -> Vec<u8> {
    let mut file = File {
        out: Vec::new(),
        writer: Writer::new(SNAPLEN),
        interfaces: BTreeMap::new(),
    };
    let application = concat!("tapswitch ", env!("CARGO_PKG_VERSION"));
    file.writer.section(&mut file.out, application);
    let mut packets: Vec<Packet<'_>> = seen.iter().flat_map(packets).collect();
    // A file that goes back in time confuses readers.
    packets.sort_by_key(|packet| packet.at);
    for packet in packets {
        file.packet(&packet);
    }
    file.out
}

struct File {
    out: Vec<u8>,
    writer: Writer,
    interfaces: BTreeMap<String, InterfaceId>,
}

struct Packet<'a> {
    at: Timestamp,
    interface: String,
    direction: Direction,
    bytes: &'a [u8],
    len: usize,
    comment: String,
}

impl File {
    fn packet(&mut self, packet: &Packet<'_>) {
        let id = match self.interfaces.get(&packet.interface) {
            Some(id) => *id,
            None => {
                let name = packet.interface.clone();
                let id = self.writer.interface(&mut self.out, &name, "");
                self.interfaces.insert(name, id);
                id
            }
        };
        let data = (packet.len, packet.bytes);
        let way = (id, packet.direction);
        self.writer
            .packet(&mut self.out, way, packet.at, data, &packet.comment);
    }
}

/// A frame as it came in, and its copies as they left.
fn packets(seen: &Seen) -> Vec<Packet<'_>> {
    let (node, place) = (&seen.node, &seen.place);
    let mut packets = Vec::new();
    let fate = fate(seen);
    if let Some(datagram) = &seen.datagram {
        packets.push(Packet {
            at: seen.at,
            interface: format!("{node}/{place}/outer"),
            direction: Direction::Inbound,
            bytes: &datagram.bytes,
            len: datagram.len,
            comment: format!("VNI {}: {fate}", datagram.vni),
        });
    }
    packets.push(Packet {
        at: seen.at,
        interface: format!("{node}/{place}"),
        direction: Direction::Inbound,
        bytes: &seen.bytes,
        len: seen.len,
        comment: fate,
    });
    for copy in &seen.copies {
        let bytes = copy.bytes.as_deref().unwrap_or(&seen.bytes);
        let comment = match &copy.lost {
            Some(reason) => format!("from {place}; lost: {}", explained(reason)),
            None => format!("from {place}"),
        };
        if let Some(datagram) = &copy.datagram {
            packets.push(Packet {
                at: copy.at,
                interface: format!("{node}/{}/outer", copy.to),
                direction: Direction::Outbound,
                bytes: &datagram.bytes,
                len: datagram.len,
                comment: format!("VNI {}; {comment}", datagram.vni),
            });
        }
        packets.push(Packet {
            at: copy.at,
            interface: format!("{node}/{}", copy.to),
            direction: Direction::Outbound,
            len: copy.bytes.as_ref().map_or(seen.len, Vec::len),
            bytes,
            comment,
        });
    }
    packets
}

/// What became of a frame, in a sentence.
fn fate(seen: &Seen) -> String {
    let mut text = seen.fate.to_string();
    let reached = seen.reached().join(", ");
    if !reached.is_empty() {
        text += &format!(" to {reached}");
    }
    if let (Fate::Flooded, Some(class)) = (seen.fate, &seen.class) {
        text += &format!(" ({class})");
    }
    if let Some(reason) = &seen.reason {
        text += &format!(": {}", explained(reason));
    }
    if let Some(learned) = &seen.learned {
        text += &format!("; learned {}", learned.mac);
    }
    text
}

fn explained(reason: &str) -> String {
    match DropReason::ALL.iter().find(|known| known.name() == reason) {
        Some(known) => format!("{reason}, {}", known.explain()),
        None => reason.to_owned(),
    }
}

/// More bytes than any frame has.
const SNAPLEN: u32 = 262_144;
