//! ICMP (RFC 792, RFC 1191) and IGMP (RFC 2236, RFC 3376).

use std::net::{IpAddr, Ipv4Addr};

use super::{
    ProblemKind, Value,
    draft::{Draft, Part, Walk},
    ipv4::{hex8, quoted},
    link::Family,
    names,
    sum::{self, Net},
};

pub(super) fn icmp(walk: &mut Walk, part: Part<'_>, net: &Net) {
    if walk.is_too_deep(part) {
        return;
    }
    if part.len() < 8 {
        return walk.truncated("icmp", "ICMP", part, 8);
    }
    let (kind, code) = (part.byte(0), part.byte(1));
    let len = match kind {
        13 | 14 if part.len() >= 20 => 20,
        _ => 8,
    };
    let (head, rest) = part.split(len);
    let mut draft = Draft::new("icmp", "ICMP", head);
    draft.field("type", 0..1, kind, type_name(kind));
    draft.field("code", 1..2, code, code_name(kind, code));
    sum::alone(&mut draft, part, 2, net.unverifiable);
    let is_error = matches!(kind, 3 | 4 | 5 | 11 | 12);
    match (kind, code) {
        (0 | 8, _) => {
            draft.field("identifier", 4..6, part.word(4), "");
            draft.field("sequence", 6..8, part.word(6), "");
        }
        (3, 4) => {
            draft.opaque("unused", 4..6);
            let mtu = part.word(6);
            let meaning = match mtu {
                0 => "not told: the router is older than RFC 1191",
                _ => "packets of this size get through",
            };
            draft.field("next-hop MTU", 6..8, mtu, meaning);
        }
        (5, _) => {
            let gateway = Ipv4Addr::from(part.array::<4>(4));
            draft.field(
                "gateway",
                4..8,
                gateway.to_string(),
                names::ip(gateway.into()),
            );
        }
        (12, _) => {
            draft.field("pointer", 4..5, part.byte(4), "the byte that is wrong");
            draft.opaque("unused", 5..8);
        }
        (13 | 14, _) if len == 20 => {
            draft.field("identifier", 4..6, part.word(4), "");
            draft.field("sequence", 6..8, part.word(6), "");
            for (name, at) in [("originate", 8), ("receive", 12), ("transmit", 16)] {
                draft.field(name, at..at + 4, part.long(at), "ms since midnight UTC");
            }
        }
        _ => {
            draft.opaque("rest of header", 4..8);
        }
    }
    walk.push(draft);
    match is_error {
        true => quoted(walk, Family::V4, rest),
        false => walk.payload(
            rest,
            if matches!(kind, 0 | 8) {
                "echo data"
            } else {
                ""
            },
        ),
    }
}

const fn type_name(kind: u8) -> &'static str {
    match kind {
        0 => "echo reply",
        3 => "destination unreachable",
        4 => "source quench, deprecated",
        5 => "redirect",
        8 => "echo request",
        9 => "router advertisement",
        10 => "router solicitation",
        11 => "time exceeded",
        12 => "parameter problem",
        13 => "timestamp",
        14 => "timestamp reply",
        _ => "",
    }
}

const fn code_name(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed and DF set",
        (3, 5) => "source route failed",
        (3, 9) => "network administratively prohibited",
        (3, 10) => "host administratively prohibited",
        (3, 13) => "communication administratively prohibited",
        (5, 0) => "for the network",
        (5, 1) => "for the host",
        (11, 0) => "in transit",
        (11, 1) => "while fragments were put together",
        _ => "",
    }
}

pub(super) fn igmp(walk: &mut Walk, part: Part<'_>, net: &Net) {
    if walk.is_too_deep(part) {
        return;
    }
    if part.len() < 8 {
        return walk.truncated("igmp", "IGMP", part, 8);
    }
    let kind = part.byte(0);
    let mut draft = Draft::new("igmp", "IGMP", part);
    let meaning = match kind {
        0x11 if part.len() >= 12 => "membership query, v3",
        0x11 => "membership query",
        0x12 => "membership report, v1",
        0x16 => "membership report, v2",
        0x17 => "leave group",
        0x22 => "membership report, v3",
        _ => "",
    };
    draft.field("type", 0..1, hex8(kind), meaning);
    let code = part.byte(1);
    match kind {
        0x11 => draft.field("max response", 1..2, code, "tenths of a second"),
        _ => draft.field("reserved", 1..2, code, ""),
    };
    sum::alone(&mut draft, part, 2, net.unverifiable);
    if kind == 0x22 {
        draft.opaque("reserved", 4..6);
        draft.field("records", 6..8, part.word(6), "");
        records::<4>(&mut draft, part);
    } else if meaning.is_empty() {
        draft.opaque("data", 4..part.len());
    } else {
        let group = Ipv4Addr::from(part.array::<4>(4));
        let meaning = match kind {
            0x11 if group.is_unspecified() => "every group",
            _ => names::ip(group.into()),
        };
        draft.field("group", 4..8, group.to_string(), meaning);
        if part.len() > 8 {
            draft.opaque("rest", 8..part.len());
        }
    }
    if net.hop_limit != 1 && !walk.quoted {
        let text = format!("the TTL is {}, and not 1", net.hop_limit);
        draft.problem(ProblemKind::BadValue, text);
    }
    walk.push(draft);
}

/// Group records of a report with addresses of `N` bytes (RFC 3376 §4.2, RFC 3810 §5.2).
pub(super) fn records<const N: usize>(draft: &mut Draft, part: Part<'_>)
where
    IpAddr: From<[u8; N]>,
{
    let header_len = 4 + N;
    let mut at = 8;
    for _ in 0..part.word(6) {
        if part.len() < at + header_len {
            if at < part.len() {
                draft.opaque("record", at..part.len());
            }
            draft.problem(ProblemKind::Truncated, "fewer records than told");
            return;
        }
        let sources = usize::from(part.word(at + 2));
        let len = header_len + N * sources + 4 * usize::from(part.byte(at + 1));
        let end = (at + len).min(part.len());
        let group = IpAddr::from(part.array::<N>(at + 4));
        let meaning = format!("{}, sources: {sources}", record_type(part.byte(at)));
        draft.field("record", at..end, Value::Text(group.to_string()), meaning);
        at = end;
    }
    if at < part.len() {
        draft.opaque("rest", at..part.len());
    }
}

/// Types of group records, those of MLDv2 too (RFC 3810 §5.2.12).
const fn record_type(kind: u8) -> &'static str {
    match kind {
        1 => "wants only these sources",
        2 => "wants all but these sources",
        3 => "joins only these sources; none: leaves",
        4 => "joins all but these sources; none: joins",
        5 => "allows new sources",
        6 => "blocks old sources",
        _ => "unknown record",
    }
}
