//! Ethernet (IEEE 802.3 clause 3), VLAN tags (IEEE 802.1Q clause 9), and what stands in their place
//! in captures without them.

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};

use super::{
    ProblemKind, arp,
    draft::{Draft, Part, Walk, hex16},
    ipv4, ipv6, names,
};
use crate::{
    vxlan::ping,
    wire::{EtherType, MacAddr, bytes},
};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of_protocol(protocol: &str) -> Option<Self> {
        match protocol {
            "ipv4" => Some(Self::V4),
            "ipv6" => Some(Self::V6),
            _ => None,
        }
    }

    pub(super) const fn ether_type(self) -> EtherType {
        match self {
            Self::V4 => EtherType::IPV4,
            Self::V6 => EtherType::IPV6,
        }
    }
}

/// Whether `packet` starts with IP and not with Ethernet: its version and lengths agree, which the
/// bytes of a MAC address do by accident only.
pub(super) fn is_ip_packet(packet: &[u8], missing: usize) -> bool {
    let part = Part::of(packet);
    let len = packet.len().saturating_add(missing);
    match part.byte(0) {
        0x45..=0x4f if packet.len() >= 20 => usize::from(part.word(2)) == len,
        0x60..=0x6f if packet.len() >= 40 => usize::from(part.word(4)) + 40 == len,
        _ => false,
    }
}

pub(super) fn ethernet(walk: &mut Walk, part: Part<'_>) {
    if walk.is_too_deep(part) {
        return;
    }
    walk.frame_at = part.at;
    let Ok(header) = Ethernet2HeaderSlice::from_slice(part.bytes) else {
        return walk.truncated("ethernet", "Ethernet", part, 14);
    };
    let (dst, src) = (
        MacAddr::new(header.destination()),
        MacAddr::new(header.source()),
    );
    walk.stations = Some((dst, src));
    let kind = EtherType(header.ether_type().0);
    // Below 1536 it is a length (IEEE 802.3 clause 3.2.6).
    let is_length = kind.0 < 0x600;
    let (head, rest) = part.split(14);
    let mut draft = match is_length {
        true => Draft::new("802.3", "802.3", head),
        false => Draft::new("ethernet", "Ethernet", head),
    };
    draft.field("destination", 0..6, dst.to_string(), names::mac(dst));
    if dst.is_zero() {
        let text = "a frame for nobody: 00:00:00:00:00:00 is no station";
        draft.problem(ProblemKind::BadAddress, text);
    }
    draft.field("source", 6..12, src.to_string(), names::mac(src));
    if src.is_group() {
        let text = "a group cannot send; a switch drops it (source_is_group)";
        draft.problem(ProblemKind::BadAddress, text);
    } else if src.is_zero() {
        let text = "nobody sent it; a switch drops it (source_is_zero)";
        draft.problem(ProblemKind::BadAddress, text);
    }
    if is_length {
        let len = usize::from(kind.0);
        draft.field("length", 12..14, kind.0, "of what follows");
        length_problem(walk, &mut draft, len, rest);
        walk.push(draft);
        let (packet, trailer) = rest.split(len);
        llc(walk, packet);
        return walk.trailer(trailer);
    }
    draft.field("type", 12..14, hex16(kind.0), names::ether_type(kind));
    walk.push(draft);
    by_type(walk, kind, rest);
}

/// Says so if a length and the bytes that there are do not agree.
pub(super) fn length_problem(walk: &Walk, draft: &mut Draft, len: usize, rest: Part<'_>) {
    let there = rest.len();
    if len <= there || walk.quoted {
        return;
    }
    if len <= there.saturating_add(walk.missing) {
        let text = format!("the capture has {there} of them");
        draft.problem(ProblemKind::Cut, text);
    } else {
        let there = bytes(there.saturating_add(walk.missing));
        let text = format!("wrong: {there} follow");
        draft.problem(ProblemKind::WrongLength, text);
    }
}

/// What `kind` says that follows.
pub(super) fn by_type(walk: &mut Walk, kind: EtherType, part: Part<'_>) {
    match kind {
        EtherType::IPV4 => ipv4::ipv4(walk, part),
        EtherType::IPV6 => ipv6::ipv6(walk, part),
        EtherType::ARP => {
            let stations = walk.stations;
            arp::arp(walk, part, stations);
        }
        EtherType(0x8100 | 0x88a8 | 0x9100) => tag(walk, kind, part),
        ping::ETHER_TYPE if part.bytes.starts_with(b"tswp") => {
            walk.payload(part, "a probe of tapswitch peer ping");
        }
        other => walk.payload(part, names::ether_type(other)),
    }
}

fn tag(walk: &mut Walk, kind: EtherType, part: Part<'_>) {
    if walk.is_too_deep(part) {
        return;
    }
    let (name, title) = match kind {
        EtherType::VLAN => ("vlan", "VLAN tag, 802.1Q"),
        EtherType::QINQ => ("vlan", "VLAN tag, 802.1ad"),
        // What some switches put outside before 802.1ad.
        _ => ("vlan", "VLAN tag, 0x9100"),
    };
    let Ok(header) = SingleVlanHeaderSlice::from_slice(part.bytes) else {
        return walk.truncated(name, title, part, 4);
    };
    let (head, rest) = part.split(4);
    let mut draft = Draft::new(name, title, head);
    let priority = header.priority_code_point().value();
    let meaning = match priority {
        0 => "best effort",
        1 => "background",
        2 => "excellent effort",
        3 => "critical applications",
        4 => "video",
        5 => "voice",
        6 => "internetwork control",
        _ => "network control",
    };
    draft.bits("priority", 0, 3, priority, meaning);
    let may_drop = header.drop_eligible_indicator();
    let meaning = if may_drop { "to be dropped first" } else { "" };
    draft.bits("drop eligible", 3, 1, u8::from(may_drop), meaning);
    let id = header.vlan_identifier().value();
    let meaning = match id {
        0 => "priority only, no VLAN",
        1 => "the default VLAN",
        _ => "",
    };
    draft.bits("VLAN", 4, 12, id, meaning);
    if id == 0xfff {
        let text = "4095 is reserved (IEEE 802.1Q table 9-2)";
        draft.problem(ProblemKind::BadValue, text);
    }
    let kind = EtherType(header.ether_type().0);
    if kind.0 < 0x600 {
        draft.field("length", 2..4, kind.0, "of what follows");
        length_problem(walk, &mut draft, kind.0.into(), rest);
        walk.push(draft);
        let (packet, trailer) = rest.split(kind.0.into());
        llc(walk, packet);
        return walk.trailer(trailer);
    }
    draft.field("type", 2..4, hex16(kind.0), names::ether_type(kind));
    walk.push(draft);
    by_type(walk, kind, rest);
}

/// Logical link control (IEEE 802.2), and SNAP behind it (IEEE 802 clause 9).
fn llc(walk: &mut Walk, part: Part<'_>) {
    if walk.is_too_deep(part) || part.is_empty() {
        return;
    }
    if part.len() < 3 {
        return walk.truncated("llc", "LLC", part, 3);
    }
    let service = |number: u8| match number {
        0x06 => "IP",
        0x42 => "spanning tree",
        0xaa => "SNAP",
        0xe0 => "IPX",
        0xfe => "IS-IS",
        0xff => "global",
        _ => "",
    };
    let is_snap = part.byte(0) == 0xaa && part.byte(1) == 0xaa && part.len() >= 8;
    let (head, rest) = part.split(if is_snap { 8 } else { 3 });
    let mut draft = Draft::new("llc", "LLC", head);
    for (name, at) in [("destination SAP", 0), ("source SAP", 1)] {
        let number = part.byte(at);
        let value = super::Value::Hex(number.into(), 2);
        draft.field(name, at..at + 1, value, service(number));
    }
    let control = part.byte(2);
    let meaning = if control == 3 { "unnumbered" } else { "" };
    let value = super::Value::Hex(control.into(), 2);
    draft.field("control", 2..3, value, meaning);
    if !is_snap {
        walk.push(draft);
        return walk.payload(rest, service(part.byte(0)));
    }
    let [a, b, c] = part.array(3);
    draft.field("organization", 3..6, format!("{a:02x}:{b:02x}:{c:02x}"), "");
    let kind = EtherType(part.word(6));
    let is_ether_type = [a, b, c] == [0; 3];
    let meaning = match is_ether_type {
        true => names::ether_type(kind),
        false => "",
    };
    draft.field("type", 6..8, hex16(kind.0), meaning);
    walk.push(draft);
    match is_ether_type {
        true => by_type(walk, kind, rest),
        false => walk.payload(rest, ""),
    }
}

/// IPv4 or IPv6, as the version says.
pub(super) fn ip(walk: &mut Walk, part: Part<'_>) {
    match part.bytes.first().map(|first| first >> 4) {
        Some(4) => ipv4::ipv4(walk, part),
        Some(6) => ipv6::ipv6(walk, part),
        Some(_) => {
            let mut draft = Draft::new("payload", "Payload", part);
            draft.opaque("bytes", 0..part.len());
            let text = format!(
                "no IP packet: the version is {}; is there an Ethernet header? (--from ethernet)",
                part.byte(0) >> 4
            );
            draft.problem(ProblemKind::BadValue, text);
            walk.push(draft);
        }
        None => {}
    }
}

/// LINKTYPE_LINUX_SLL (pcap-linktype(7)).
pub(super) fn cooked(walk: &mut Walk, part: Part<'_>) {
    const LEN: usize = 16;
    if part.len() < LEN {
        return walk.truncated("sll", "Linux cooked capture", part, LEN);
    }
    let (head, rest) = part.split(LEN);
    let mut draft = Draft::new("sll", "Linux cooked capture", head);
    packet_type(&mut draft, 0..2, part.word(0));
    draft.field("ARPHRD", 2..4, part.word(2), arphrd(part.word(2)));
    address(&mut draft, part, 4..6, part.word(4), 6);
    let kind = EtherType(part.word(14));
    draft.field("type", 14..16, hex16(kind.0), names::ether_type(kind));
    walk.push(draft);
    by_type(walk, kind, rest);
}

/// LINKTYPE_LINUX_SLL2 (pcap-linktype(7)).
pub(super) fn cooked2(walk: &mut Walk, part: Part<'_>) {
    const LEN: usize = 20;
    if part.len() < LEN {
        return walk.truncated("sll2", "Linux cooked capture v2", part, LEN);
    }
    let (head, rest) = part.split(LEN);
    let mut draft = Draft::new("sll2", "Linux cooked capture v2", head);
    let kind = EtherType(part.word(0));
    draft.field("type", 0..2, hex16(kind.0), names::ether_type(kind));
    draft.field("reserved", 2..4, part.word(2), "");
    draft.field("interface", 4..8, part.long(4), "its index");
    draft.field("ARPHRD", 8..10, part.word(8), arphrd(part.word(8)));
    packet_type(&mut draft, 10..11, part.byte(10).into());
    address(&mut draft, part, 11..12, part.byte(11).into(), 12);
    walk.push(draft);
    by_type(walk, kind, rest);
}

fn packet_type(draft: &mut Draft, range: std::ops::Range<usize>, number: u16) {
    let meaning = match number {
        0 => "to us",
        1 => "broadcast",
        2 => "multicast",
        3 => "from others to others",
        4 => "sent by us",
        _ => "",
    };
    draft.field("packet type", range, number, meaning);
}

fn address(draft: &mut Draft, part: Part<'_>, len_at: std::ops::Range<usize>, len: u16, at: usize) {
    draft.field("address length", len_at, len, "");
    let (value, meaning) = match len {
        6 => (part.mac(at).to_string(), names::mac(part.mac(at))),
        _ => (String::new(), String::new()),
    };
    draft.field("source", at..at + 8, value, meaning);
}

const fn arphrd(number: u16) -> &'static str {
    match number {
        1 => "Ethernet",
        772 => "loopback",
        65534 => "none, such as a tunnel",
        _ => "",
    }
}

/// LINKTYPE_NULL and LINKTYPE_LOOP (pcap-linktype(7)): the address family, in the byte order of
/// either machine.
pub(super) fn loopback(walk: &mut Walk, part: Part<'_>) {
    if part.len() < 4 {
        return walk.truncated("null", "BSD loopback", part, 4);
    }
    let (head, rest) = part.split(4);
    let mut draft = Draft::new("null", "BSD loopback", head);
    let number = part.long(0);
    let family = number.min(number.swap_bytes());
    let meaning = match family {
        2 => "IPv4",
        24 | 28 | 30 => "IPv6",
        _ => "",
    };
    draft.field("family", 0..4, family, meaning);
    walk.push(draft);
    match meaning {
        "" => walk.payload(rest, ""),
        _ => ip(walk, rest),
    }
}
