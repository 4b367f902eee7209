//! UDP (RFC 768) and VXLAN in it (RFC 7348).

use etherparse::UdpHeaderSlice;

use super::{
    MAX_TUNNELS, ProblemKind, Value,
    draft::{Draft, Part, Walk, hex16},
    link, names,
    sum::{self, Net},
    tcp::ports,
};
use crate::{vxlan, wire::bytes};

pub(super) fn udp(walk: &mut Walk, part: Part<'_>, net: Option<&Net>) {
    if walk.is_too_deep(part) {
        return;
    }
    let Ok(header) = UdpHeaderSlice::from_slice(part.bytes) else {
        return walk.truncated("udp", "UDP", part, 8);
    };
    let (src, dst) = (header.source_port(), header.destination_port());
    let (head, rest) = part.split(8);
    let mut draft = Draft::new("udp", "UDP", head);
    ports(&mut draft, src, dst);
    let len = usize::from(header.length());
    let meaning = match len.checked_sub(8) {
        Some(rest) => format!("8 + {rest}"),
        None => String::new(),
    };
    draft.field("length", 4..6, header.length(), meaning);
    // A jumbogram's, and a superframe's beyond 64 KiB (RFC 2675 §4).
    let is_endless = len == 0 && part.len() > 0xffff;
    if is_endless {
    } else if len < 8 {
        let text = "wrong: the header alone has 8";
        draft.problem(ProblemKind::WrongLength, text);
    } else {
        link::length_problem(walk, &mut draft, len - 8, rest);
        if len < part.len() && net.is_some_and(|net| net.unverifiable.is_none()) {
            let text = format!("the packet has {} more", bytes(part.len() - len));
            draft.problem(ProblemKind::WrongLength, text);
        }
    }
    let is_tunnel = is_vxlan(walk, dst);
    let is_broken = !is_endless && (len < 8 || len > part.len());
    let (datagram, trailer) = match is_broken || is_endless {
        true => (part, part.skip(part.len())),
        false => part.split(len),
    };
    checksum(&mut draft, datagram, net, is_tunnel, is_broken);
    walk.push(draft);
    let payload = datagram.skip(8);
    if is_tunnel {
        vxlan(walk, payload);
    } else {
        let name = [names::port(dst), names::port(src)];
        let name = name.into_iter().find(|name| !name.is_empty());
        walk.payload(payload, name.unwrap_or(""));
    }
    walk.trailer(trailer);
}

fn checksum(
    draft: &mut Draft,
    datagram: Part<'_>,
    net: Option<&Net>,
    is_tunnel: bool,
    is_broken: bool,
) {
    if datagram.word(6) != 0 {
        let broken = net
            .copied()
            .filter(|net| is_broken && net.unverifiable.is_none());
        let broken = broken.map(|net| Net {
            unverifiable: Some("not checked: the length is wrong"),
            ..net
        });
        return sum::transport(draft, datagram, 6, broken.as_ref().or(net));
    }
    draft.field("checksum", 6..8, hex16(0), "none");
    match net {
        Some(net) if net.src.is_ipv6() && !is_tunnel => {
            let text = "IPv6 needs one (RFC 8200 section 8.1): whoever gets this drops it";
            draft.problem(ProblemKind::WrongChecksum, text);
        }
        Some(net) if net.src.is_ipv6() => {
            let text = "tunnels over IPv6 may do without (RFC 6935), where both ends agree to";
            draft.problem(ProblemKind::NoChecksum, text);
        }
        _ => {
            let text = "the sender computed none, so nobody can tell whether it is damaged";
            draft.problem(ProblemKind::NoChecksum, text);
        }
    }
}

fn is_vxlan(walk: &Walk, port: u16) -> bool {
    port == vxlan::PORT || port == OLD_PORT || walk.vxlan_port == Some(port)
}

/// What Linux took before IANA had assigned one, and flannel still does.
const OLD_PORT: u16 = 8472;

pub(super) fn vxlan(walk: &mut Walk, part: Part<'_>) {
    if walk.is_too_deep(part) {
        return;
    }
    if part.len() < vxlan::HEADER_LEN {
        return walk.truncated("vxlan", "VXLAN", part, vxlan::HEADER_LEN);
    }
    let (head, frame) = part.split(vxlan::HEADER_LEN);
    let mut draft = Draft::new("vxlan", "VXLAN", head);
    let flags = head.byte(0);
    let meaning = match flags {
        0x08 => "I: the VNI is valid",
        0x88 => "I: the VNI is valid; G: group policy",
        _ => "",
    };
    draft.field("flags", 0..1, Value::Hex(flags.into(), 2), meaning);
    let parsed = vxlan::parse(head.bytes);
    if let Err(error) = parsed {
        let text = format!("{error}: dropped (RFC 7348 section 5)");
        draft.problem(ProblemKind::BadFlags, text);
    }
    let reserved = [
        (flags & !0x08).into(),
        head.long(0) & 0xff_ffff,
        head.byte(7).into(),
    ];
    reserved_bits(&mut draft, reserved[0]);
    draft.field("reserved", 1..4, Value::Hex(reserved[1].into(), 6), "");
    reserved_bits(&mut draft, reserved[1]);
    draft.field("VNI", 4..7, head.long(4) >> 8, "");
    draft.field("reserved", 7..8, Value::Hex(reserved[2].into(), 2), "");
    reserved_bits(&mut draft, reserved[2]);
    walk.push(draft);
    if frame.is_empty() {
        return;
    }
    if walk.tunnel >= MAX_TUNNELS {
        let mut draft = Draft::new("payload", "Payload", frame);
        draft.opaque("bytes", 0..frame.len());
        let text = format!("{} tunnels are shown and no more", MAX_TUNNELS);
        draft.problem(ProblemKind::TooDeep, text);
        return walk.push(draft);
    }
    // What the outer headers said of the frame's place is over with the tunnel.
    let outer = (walk.tunnel, walk.frame_at, walk.stations);
    walk.tunnel += 1;
    link::ethernet(walk, frame);
    (walk.tunnel, walk.frame_at, walk.stations) = outer;
}

fn reserved_bits(draft: &mut Draft, bits: u32) {
    if bits != 0 {
        let text = "reserved bits are set: RFC 7348 ignores them; the kernel and Open vSwitch drop \
                    the frame";
        draft.problem(ProblemKind::ReservedBits, text);
    }
}
