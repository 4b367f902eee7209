//! IPv6 and its extension headers (RFC 8200).

use std::net::IpAddr;

use etherparse::{Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};

use super::{
    ProblemKind, Value,
    draft::{Draft, Part, Walk},
    ipv4::{group_of, traffic_class, transport},
    link::length_problem,
    names,
    sum::Net,
};

pub(super) fn ipv6(walk: &mut Walk, part: Part<'_>) {
    if walk.is_too_deep(part) {
        return;
    }
    let Ok(header) = Ipv6HeaderSlice::from_slice(part.bytes) else {
        let version = part.byte(0) >> 4;
        if part.len() < 40 && (version == 6 || part.is_empty()) {
            return walk.truncated("ipv6", "IPv6", part, 40);
        }
        let mut draft = Draft::new("ipv6", "IPv6", part);
        draft.bits("version", 0, 4, version, "");
        draft.problem(ProblemKind::BadValue, "wrong: IPv6 has version 6");
        draft.opaque("bytes", 1..part.len().max(1));
        return walk.push(draft);
    };
    let (head, rest) = part.split(40);
    let mut draft = Draft::new("ipv6", "IPv6", head);
    draft.bits("version", 0, 4, header.version(), "");
    traffic_class(&mut draft, 4, header.dscp().value(), header.ecn().value());
    let label = header.flow_label().value();
    draft.bits("flow label", 12, 20, Value::Hex(label.into(), 5), "");
    let len = usize::from(header.payload_length());
    draft.field(
        "payload length",
        4..6,
        header.payload_length(),
        payload_meaning(len),
    );
    // Zero with a jumbo option (RFC 2675), or a superframe beyond 64 KiB.
    let is_jumbo =
        len == 0 && !rest.is_empty() && (header.next_header().0 == 0 || rest.len() > 0xffff);
    if !is_jumbo {
        length_problem(walk, &mut draft, len, rest);
    }
    let next = header.next_header().0;
    draft.field("next header", 6..7, next, names::protocol(next));
    draft.field("hop limit", 7..8, header.hop_limit(), "");
    if header.hop_limit() == 0 && !walk.quoted {
        draft.problem(ProblemKind::BadValue, "it should have been dropped before");
    }
    let (src, dst) = (header.source_addr(), header.destination_addr());
    draft.field("source", 8..24, src.to_string(), names::ip(src.into()));
    if src.is_multicast() {
        draft.problem(ProblemKind::BadAddress, "a group cannot send");
    }
    draft.field(
        "destination",
        24..40,
        dst.to_string(),
        names::ip(dst.into()),
    );
    if dst.is_unspecified() {
        draft.problem(ProblemKind::BadAddress, "nobody can be reached there");
    }
    group_of(walk, &mut draft, dst.into());
    walk.push(draft);

    let (packet, trailer) = match is_jumbo {
        true => (rest, rest.skip(rest.len())),
        false => rest.split(len),
    };
    let net = Net {
        src: IpAddr::V6(src),
        dst: IpAddr::V6(dst),
        protocol: next,
        hop_limit: header.hop_limit(),
        unverifiable: match () {
            () if walk.quoted => Some(""),
            () if len > rest.len() => Some("not checked: the packet is not whole"),
            () => None,
        },
    };
    extensions(walk, packet, net);
    walk.trailer(trailer);
}

fn payload_meaning(len: usize) -> String {
    format!("40 + {len}")
}

/// The chain of extension headers, then what is in the packet.
fn extensions(walk: &mut Walk, mut part: Part<'_>, mut net: Net) {
    loop {
        let kind = net.protocol;
        let (title, len) = match kind {
            0 => ("IPv6 hop-by-hop options", raw_len(part)),
            43 => ("IPv6 routing header", raw_len(part)),
            44 => ("IPv6 fragment header", 8),
            // In words of 4 bytes, less 2 (RFC 4302 §2.2).
            51 => (
                "IP authentication header",
                4 * (usize::from(part.byte(1)) + 2),
            ),
            60 => ("IPv6 destination options", raw_len(part)),
            135 => ("IPv6 mobility header", raw_len(part)),
            59 => return walk.payload(part, "no next header"),
            50 => return walk.payload(part, "ESP, which is encrypted"),
            _ => return transport(walk, part, &net),
        };
        if walk.is_too_deep(part) {
            return;
        }
        if part.len() < len.max(8) {
            return walk.truncated("ipv6_extension", title, part, len.max(8));
        }
        let (head, rest) = part.split(len);
        let mut draft = Draft::new("ipv6_extension", title, head);
        let next = head.byte(0);
        draft.field("next header", 0..1, next, names::protocol(next));
        if kind == 44 {
            let Some(is_later) = fragment(walk, draft, head, &mut net) else {
                return;
            };
            if is_later {
                return walk.payload(rest, "a packet's later fragment");
            }
        } else {
            let meaning = format!("{len} bytes");
            draft.field("length", 1..2, head.byte(1), meaning);
            match kind {
                0 | 60 => options(&mut draft, head),
                43 => routing(&mut draft, head, &mut net),
                _ => {
                    draft.opaque("data", 2..len);
                }
            }
            walk.push(draft);
        }
        net.protocol = next;
        part = rest;
    }
}

/// Length in units of 8 bytes, the first not counted (RFC 8200 §4.3).
fn raw_len(part: Part<'_>) -> usize {
    8 * (usize::from(part.byte(1)) + 1)
}

/// Writes the layer, and tells whether it is a later fragment.
fn fragment(walk: &mut Walk, mut draft: Draft, head: Part<'_>, net: &mut Net) -> Option<bool> {
    let header = Ipv6FragmentHeaderSlice::from_slice(head.bytes).ok()?;
    draft.field("reserved", 1..2, head.byte(1), "");
    let offset = header.fragment_offset().value();
    let meaning = match offset {
        0 => "the first fragment".to_owned(),
        _ => format!("from byte {} of the packet on", u32::from(offset) * 8),
    };
    draft.bits("fragment offset", 16, 13, offset, meaning);
    draft.bits("reserved", 29, 2, head.byte(3) >> 1 & 3, "");
    let more = header.more_fragments();
    let meaning = if more {
        "more fragments follow"
    } else {
        "the last fragment"
    };
    draft.bits("more", 31, 1, u8::from(more), meaning);
    let id = Value::Hex(header.identification().into(), 8);
    draft.field("identification", 4..8, id, "");
    walk.push(draft);
    if header.is_fragmenting_payload() && net.unverifiable.is_none() {
        net.unverifiable = Some("not checked: the packet is a fragment");
    }
    Some(offset != 0)
}

/// RFC 8200 §4.4; types in RFC 8754 (4), RFC 6275 (2), RFC 5095 (0, which nobody obeys any more).
fn routing(draft: &mut Draft, head: Part<'_>, net: &mut Net) {
    let (kind, left) = (head.byte(2), head.byte(3));
    let meaning = match kind {
        0 => "source route",
        2 => "mobile IPv6",
        4 => "segment routing",
        _ => "",
    };
    draft.field("routing type", 2..3, kind, meaning);
    if kind == 0 {
        draft.problem(ProblemKind::BadValue, "deprecated (RFC 5095)");
    }
    draft.field("segments left", 3..4, left, "");
    draft.opaque("data", 4..head.len());
    if left > 0 && net.unverifiable.is_none() {
        // The pseudo header has the last destination (RFC 8200 §8.1).
        net.unverifiable = Some("not checked: a routing header changes the destination");
    }
}

/// RFC 8200 §4.2.
fn options(draft: &mut Draft, head: Part<'_>) {
    let mut at = 2;
    while at < head.len() {
        let kind = head.byte(at);
        if kind == 0 {
            draft.field("option", at..at + 1, 0_u8, "padding, 1 byte");
            at += 1;
            continue;
        }
        let end = at + 2 + usize::from(head.byte(at + 1));
        if at + 2 > head.len() || end > head.len() {
            draft.field("option", at..head.len(), kind, "");
            let text = "it is longer than its header: the rest cannot be read";
            draft.problem(ProblemKind::BadOption, text);
            return;
        }
        let name = match kind {
            1 => "padding",
            4 => "tunnel encapsulation limit",
            5 => "router alert",
            0xc2 => "jumbo payload",
            0xc9 => "home address",
            _ => "",
        };
        draft.field("option", at..end, kind, name);
        at = end;
    }
}
