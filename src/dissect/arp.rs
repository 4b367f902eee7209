//! ARP (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacketSlice};

use super::{
    ProblemKind, Value,
    draft::{Draft, Part, Walk, hex16},
    names,
};
use crate::wire::{EtherType, MacAddr};

/// `stations` are destination and source of the Ethernet header.
pub(super) fn arp(walk: &mut Walk, part: Part<'_>, stations: Option<(MacAddr, MacAddr)>) {
    if walk.is_too_deep(part) {
        return;
    }
    let Ok(packet) = ArpPacketSlice::from_slice(part.bytes) else {
        let addresses = usize::from(part.byte(4)) + usize::from(part.byte(5));
        return walk.truncated("arp", "ARP", part, 8 + 2 * addresses);
    };
    let (head, trailer) = part.split(packet.slice().len());
    let mut draft = Draft::new("arp", "ARP", head);
    let hardware = packet.hw_addr_type();
    let protocol = EtherType(packet.proto_addr_type().0);
    let meaning = if hardware == ArpHardwareId::ETHERNET {
        "Ethernet"
    } else {
        ""
    };
    draft.field("hardware type", 0..2, hardware.0, meaning);
    draft.field(
        "protocol type",
        2..4,
        hex16(protocol.0),
        names::ether_type(protocol),
    );
    let (long, short) = (packet.hw_addr_size(), packet.proto_addr_size());
    draft.field("hardware length", 4..5, long, "of a MAC address");
    if hardware == ArpHardwareId::ETHERNET && long != 6 {
        draft.problem(ProblemKind::WrongLength, "wrong: Ethernet's have 6 bytes");
    }
    draft.field("protocol length", 5..6, short, "of an IP address");
    if protocol == EtherType::IPV4 && short != 4 {
        draft.problem(ProblemKind::WrongLength, "wrong: IPv4's have 4 bytes");
    }
    if (long, short) == (6, 4) {
        let operation = packet.operation();
        addresses(&mut draft, part, operation, stations);
    } else {
        operation(&mut draft, packet.operation(), "");
        draft.opaque("addresses", 8..head.len());
    }
    walk.push(draft);
    walk.trailer(trailer);
}

fn operation(draft: &mut Draft, operation: ArpOperation, meaning: &str) {
    draft.field("operation", 6..8, operation.0, meaning);
    if !matches!(operation.0, 1..=4 | 8 | 9) {
        draft.problem(ProblemKind::BadValue, "neither request nor reply");
    }
}

fn addresses(
    draft: &mut Draft,
    part: Part<'_>,
    told: ArpOperation,
    stations: Option<(MacAddr, MacAddr)>,
) {
    let (sender, target) = (part.mac(8), part.mac(18));
    let [sender_ip, target_ip] = [14, 24].map(|at| Ipv4Addr::from(part.array::<4>(at)));
    let meaning = match told {
        ArpOperation::REQUEST if sender_ip.is_unspecified() => {
            "probe: is this address in use? (RFC 5227)"
        }
        ArpOperation::REQUEST if sender_ip == target_ip => "announcement: this address is mine",
        ArpOperation::REQUEST => "request: who has the target IP?",
        ArpOperation::REPLY if sender_ip == target_ip => "announcement: this address is mine",
        ArpOperation::REPLY => "reply: the sender has it",
        ArpOperation(3) => "RARP request",
        ArpOperation(4) => "RARP reply",
        _ => "",
    };
    operation(draft, told, meaning);
    draft.field("sender MAC", 8..14, sender.to_string(), names::mac(sender));
    if !sender.is_unicast() {
        let text = "not the address of a station: nobody can answer it";
        draft.problem(ProblemKind::BadAddress, text);
    }
    if let Some((_, src)) = stations.filter(|&(_, src)| src != sender) {
        let text = format!("not the frame's source, {src}: somebody speaks for somebody else");
        draft.problem(ProblemKind::AddressMismatch, text);
    }
    let ip = |draft: &mut Draft, name, at, address: Ipv4Addr| {
        let meaning = names::ip(address.into());
        draft.field(name, at..at + 4, Value::Text(address.to_string()), meaning);
    };
    ip(draft, "sender IP", 14, sender_ip);
    if sender_ip.is_multicast() || sender_ip.is_broadcast() {
        draft.problem(ProblemKind::BadAddress, "a group cannot have a MAC address");
    }
    let meaning = match target {
        MacAddr::ZERO if told == ArpOperation::REQUEST => "that is the question".to_owned(),
        target => names::mac(target),
    };
    draft.field("target MAC", 18..24, target.to_string(), meaning);
    ip(draft, "target IP", 24, target_ip);
}
