//! ICMPv6 (RFC 4443), neighbour discovery (RFC 4861) and MLD (RFC 2710, RFC 3810).

use std::net::Ipv6Addr;

use super::{
    ProblemKind,
    draft::{Draft, Part, Walk},
    icmp::records,
    ipv4::quoted,
    link::Family,
    names,
    sum::{self, Net},
};

pub(super) fn icmpv6(walk: &mut Walk, part: Part<'_>, net: &Net) {
    if walk.is_too_deep(part) {
        return;
    }
    let kind = part.byte(0);
    let needed = header_len(kind);
    if part.len() < needed {
        return walk.truncated("icmpv6", "ICMPv6", part, needed);
    }
    // Options belong to the message, quoted packets and echo data do not.
    let has_options = matches!(
        kind,
        ROUTER_SOLICITATION..=REDIRECT | MLD2_REPORT | MLD_QUERY
    );
    let (head, rest) = match has_options {
        true => part.split(part.len()),
        false => part.split(needed),
    };
    let mut draft = Draft::new("icmpv6", "ICMPv6", head);
    draft.field("type", 0..1, kind, type_name(kind));
    if matches!(kind, ROUTER_SOLICITATION..=REDIRECT) && net.hop_limit != 255 && !walk.quoted {
        let text = format!(
            "the hop limit is {}, and not 255: whoever gets this ignores it (RFC 4861)",
            net.hop_limit
        );
        draft.problem(ProblemKind::BadValue, text);
    }
    let code = part.byte(1);
    draft.field("code", 1..2, code, code_name(kind, code));
    sum::transport(&mut draft, part, 2, Some(net));
    body(&mut draft, part, kind, needed);
    walk.push(draft);
    match kind {
        1..=4 => quoted(walk, Family::V6, rest),
        128 | 129 => walk.payload(rest, "echo data"),
        _ => walk.payload(rest, ""),
    }
}

const ROUTER_SOLICITATION: u8 = 133;
const REDIRECT: u8 = 137;
const MLD_QUERY: u8 = 130;
const MLD2_REPORT: u8 = 143;

/// Up to options, data, or the packet that is quoted.
const fn header_len(kind: u8) -> usize {
    match kind {
        130..=132 => 24,
        134 => 16,
        135 | 136 => 24,
        137 => 40,
        _ => 8,
    }
}

fn body(draft: &mut Draft, part: Part<'_>, kind: u8, options_at: usize) {
    match kind {
        2 => {
            let meaning = "packets of this size get through";
            draft.field("MTU", 4..8, part.long(4), meaning);
        }
        4 => {
            let meaning = "the byte that is wrong";
            draft.field("pointer", 4..8, part.long(4), meaning);
        }
        128 | 129 => {
            draft.field("identifier", 4..6, part.word(4), "");
            draft.field("sequence", 6..8, part.word(6), "");
        }
        130..=132 => listener(draft, part, kind),
        133 => {
            draft.opaque("reserved", 4..8);
            options(draft, part, options_at);
        }
        134 => {
            router(draft, part);
            options(draft, part, options_at);
        }
        135..=137 => {
            neighbour(draft, part, kind);
            options(draft, part, options_at);
        }
        MLD2_REPORT => {
            draft.opaque("reserved", 4..6);
            draft.field("records", 6..8, part.word(6), "");
            records::<16>(draft, part);
        }
        _ => {
            draft.opaque("rest of header", 4..8);
        }
    }
}

fn listener(draft: &mut Draft, part: Part<'_>, kind: u8) {
    draft.field("max response", 4..6, part.word(4), "milliseconds");
    draft.opaque("reserved", 6..8);
    let group = part.array::<16>(8);
    let group = Ipv6Addr::from(group);
    let meaning = match kind {
        MLD_QUERY if group.is_unspecified() => "every group",
        _ => names::ip(group.into()),
    };
    draft.field("group", 8..24, group.to_string(), meaning);
    if part.len() > 24 && kind == MLD_QUERY {
        draft.opaque("rest", 24..part.len());
    }
}

fn router(draft: &mut Draft, part: Part<'_>) {
    draft.field(
        "hop limit",
        4..5,
        part.byte(4),
        "for hosts to use; 0: not told",
    );
    let flags = part.byte(5);
    let names = [
        (0x80, "M: addresses by DHCPv6"),
        (0x40, "O: other settings by DHCPv6"),
    ];
    draft.field(
        "flags",
        5..6,
        super::ipv4::hex8(flags),
        listed(flags, &names),
    );
    let lifetime = part.word(6);
    let meaning = match lifetime {
        0 => "not a default router",
        _ => "seconds as default router",
    };
    draft.field("router lifetime", 6..8, lifetime, meaning);
    draft.field("reachable time", 8..12, part.long(8), "ms; 0: not told");
    draft.field("retransmit timer", 12..16, part.long(12), "ms; 0: not told");
}

fn neighbour(draft: &mut Draft, part: Part<'_>, kind: u8) {
    if kind == 136 {
        let flags = part.byte(4);
        let names = [
            (0x80, "R: a router"),
            (0x40, "S: was asked"),
            (0x20, "O: replaces what was known"),
        ];
        draft.field(
            "flags",
            4..5,
            super::ipv4::hex8(flags),
            listed(flags, &names),
        );
        draft.opaque("reserved", 5..8);
    } else {
        draft.opaque("reserved", 4..8);
    }
    let target = Ipv6Addr::from(part.array::<16>(8));
    draft.field(
        "target",
        8..24,
        target.to_string(),
        names::ip(target.into()),
    );
    if target.is_multicast() {
        draft.problem(ProblemKind::BadAddress, "a group is nobody's address");
    }
    if kind == REDIRECT {
        let destination = Ipv6Addr::from(part.array::<16>(24));
        draft.field(
            "destination",
            24..40,
            destination.to_string(),
            names::ip(destination.into()),
        );
    }
}

/// The names of the flags that are set.
fn listed(flags: u8, names: &[(u8, &str)]) -> String {
    let set = names.iter().filter(|(bit, _)| flags & bit != 0);
    let set: Vec<_> = set.map(|(_, name)| *name).collect();
    set.join(", ")
}

/// RFC 4861 §4.6; lengths are in units of 8 bytes.
fn options(draft: &mut Draft, part: Part<'_>, mut at: usize) {
    while at < part.len() {
        let kind = part.byte(at);
        let len = 8 * usize::from(part.byte(at + 1));
        if len == 0 || at + len > part.len() {
            draft.field("option", at..part.len(), kind, option_name(kind));
            let text = match len {
                0 => "its length is zero: whoever gets this ignores the message".to_owned(),
                _ => format!("{len} bytes long, and only {} follow", part.len() - at),
            };
            draft.problem(ProblemKind::BadOption, text);
            return;
        }
        let meaning = option_text(part, at, kind, len);
        draft.field("option", at..at + len, kind, meaning);
        at += len;
    }
}

fn option_text(part: Part<'_>, at: usize, kind: u8, len: usize) -> String {
    let name = option_name(kind);
    match (kind, len) {
        (1 | 2, 8) => format!("{name} {}", part.mac(at + 2)),
        (3, 32) => {
            let prefix = Ipv6Addr::from(part.array::<16>(at + 16));
            let flags = listed(
                part.byte(at + 3),
                &[(0x80, "on link"), (0x40, "autonomous")],
            );
            format!(
                "{name} {prefix}/{}, {flags}, valid {} s, preferred {} s",
                part.byte(at + 2),
                part.long(at + 4),
                part.long(at + 8)
            )
        }
        (5, 8) => format!("{name} {}", part.long(at + 4)),
        (25, 24..) => {
            let server = Ipv6Addr::from(part.array::<16>(at + 8));
            format!("{name} {server}, for {} s", part.long(at + 4))
        }
        _ => name.to_owned(),
    }
}

const fn option_name(kind: u8) -> &'static str {
    match kind {
        1 => "source link-layer address",
        2 => "target link-layer address",
        3 => "prefix",
        4 => "redirected packet",
        5 => "MTU",
        14 => "nonce (RFC 3971)",
        24 => "route",
        25 => "DNS server",
        31 => "DNS search list",
        _ => "",
    }
}

const fn type_name(kind: u8) -> &'static str {
    match kind {
        1 => "destination unreachable",
        2 => "packet too big",
        3 => "time exceeded",
        4 => "parameter problem",
        128 => "echo request",
        129 => "echo reply",
        130 => "multicast listener query",
        131 => "multicast listener report",
        132 => "multicast listener done",
        133 => "router solicitation",
        134 => "router advertisement",
        135 => "neighbour solicitation: who has the target?",
        136 => "neighbour advertisement: the target is here",
        137 => "redirect",
        143 => "multicast listener report, v2",
        _ => "",
    }
}

const fn code_name(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (1, 0) => "no route",
        (1, 1) => "administratively prohibited",
        (1, 2) => "beyond the scope of the source",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, 5) => "source address failed the policy",
        (1, 6) => "route rejected",
        (3, 0) => "in transit",
        (3, 1) => "while fragments were put together",
        (4, 0) => "a wrong header field",
        (4, 1) => "an unknown next header",
        (4, 2) => "an unknown option",
        _ => "",
    }
}
