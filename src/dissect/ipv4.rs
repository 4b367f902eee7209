//! IPv4 (RFC 791).

use std::net::IpAddr;

use etherparse::Ipv4HeaderSlice;

use super::{
    ProblemKind, Value,
    draft::{Draft, Part, Walk, hex16},
    icmp, icmpv6, ipv6,
    link::{Family, ethernet, length_problem},
    names,
    sum::{self, Net},
    tcp, udp,
};
use crate::wire::group_address;

pub(super) fn ipv4(walk: &mut Walk, part: Part<'_>) {
    if walk.is_too_deep(part) {
        return;
    }
    let Some(header) = header(walk, part) else {
        return;
    };
    let header_len = header.slice().len();
    let (head, rest) = part.split(header_len);
    let mut draft = Draft::new("ipv4", "IPv4", head);
    draft.bits("version", 0, 4, header.version(), "");
    let words = header.ihl();
    draft.bits("header length", 4, 4, words, format!("{header_len} bytes"));
    traffic_class(&mut draft, 8, header.dcp().value(), header.ecn().value());

    let total = usize::from(header.total_len());
    draft.field(
        "total length",
        2..4,
        header.total_len(),
        total_meaning(total, header_len),
    );
    // A superframe beyond 64 KiB has no length that fits (Linux's BIG TCP).
    let is_endless = total == 0 && part.len() > 0xffff;
    if is_endless {
    } else if total < header_len {
        let text = format!("wrong: the header alone has {header_len}");
        draft.problem(ProblemKind::WrongLength, text);
    } else {
        length_problem(walk, &mut draft, total - header_len, rest);
    }
    let id = hex16(header.identification());
    draft.field("identification", 4..6, id, "");
    let is_fragment = flags(&mut draft, part, &header);
    let ttl = header.ttl();
    draft.field("TTL", 8..9, ttl, "");
    if ttl == 0 && !walk.quoted {
        draft.problem(ProblemKind::BadValue, "it should have been dropped before");
    }
    let protocol = header.protocol().0;
    draft.field("protocol", 9..10, protocol, names::protocol(protocol));
    let unverifiable = walk.quoted.then_some("");
    sum::alone(&mut draft, head, 10, unverifiable);
    let (src, dst) = (header.source_addr(), header.destination_addr());
    draft.field("source", 12..16, src.to_string(), names::ip(src.into()));
    if src.is_multicast() || src.is_broadcast() {
        draft.problem(ProblemKind::BadAddress, "a group cannot send");
    }
    draft.field(
        "destination",
        16..20,
        dst.to_string(),
        names::ip(dst.into()),
    );
    group_of(walk, &mut draft, dst.into());
    options(&mut draft, head);
    walk.push(draft);

    let is_broken = total < header_len;
    let (packet, trailer) = match is_broken {
        true => (rest, rest.skip(rest.len())),
        false => rest.split(total - header_len),
    };
    let net = Net {
        src: IpAddr::V4(src),
        dst: IpAddr::V4(dst),
        protocol,
        hop_limit: ttl,
        unverifiable: match () {
            () if walk.quoted => Some(""),
            () if is_endless => None,
            () if is_broken || total - header_len > rest.len() => {
                Some("not checked: the packet is not whole")
            }
            () if is_fragment => Some("not checked: the packet is a fragment"),
            () => None,
        },
    };
    match header.fragments_offset().value() {
        0 => transport(walk, packet, &net),
        _ => walk.payload(packet, "a packet's later fragment"),
    }
    walk.trailer(trailer);
}

fn header<'a>(walk: &mut Walk, part: Part<'a>) -> Option<Ipv4HeaderSlice<'a>> {
    if let Ok(header) = Ipv4HeaderSlice::from_slice(part.bytes) {
        return Some(header);
    }
    let (version, words) = (part.byte(0) >> 4, part.byte(0) & 0xf);
    if !part.is_empty() && (version != 4 || words < 5) {
        let mut draft = Draft::new("ipv4", "IPv4", part);
        draft.bits("version", 0, 4, version, "");
        if version != 4 {
            draft.problem(ProblemKind::BadValue, "wrong: IPv4 has version 4");
        }
        draft.bits("header length", 4, 4, words, format!("{} bytes", words * 4));
        if words < 5 {
            let text = "wrong: a header has 20 bytes or more";
            draft.problem(ProblemKind::WrongLength, text);
        }
        if part.len() > 1 {
            draft.opaque("bytes", 1..part.len());
        }
        walk.push(draft);
        return None;
    }
    let needed = 4 * usize::from(words.max(5));
    walk.truncated("ipv4", "IPv4", part, needed);
    None
}

fn total_meaning(total: usize, header_len: usize) -> String {
    match total.checked_sub(header_len) {
        Some(rest) => format!("{header_len} + {rest}"),
        None => String::new(),
    }
}

/// DSCP and ECN, from bit `first` of the header on (RFC 2474 §3, RFC 3168 §5).
pub(super) fn traffic_class(draft: &mut Draft, first: usize, dscp: u8, ecn: u8) {
    draft.bits("DSCP", first, 6, dscp, names::dscp(dscp));
    draft.bits("ECN", first + 6, 2, ecn, names::ecn(ecn));
}

/// Whether the packet is a fragment.
fn flags(draft: &mut Draft, part: Part<'_>, header: &Ipv4HeaderSlice<'_>) -> bool {
    let (dont, more) = (header.dont_fragment(), header.more_fragments());
    let (value, meaning) = match (dont, more) {
        (false, false) => ("none", "may be fragmented on the way"),
        (true, false) => ("DF", "must not be fragmented"),
        (false, true) => ("MF", "more fragments follow"),
        (true, true) => ("DF, MF", ""),
    };
    draft.bits("flags", 48, 3, value, meaning);
    if part.byte(6) & 0x80 != 0 {
        draft.problem(ProblemKind::ReservedBits, "the reserved bit is set");
    }
    let offset = header.fragments_offset().value();
    let meaning = match offset {
        0 if more => "the first fragment".to_owned(),
        0 => "not a fragment".to_owned(),
        _ => format!("from byte {} of the packet on", u32::from(offset) * 8),
    };
    draft.bits("fragment offset", 51, 13, offset, meaning);
    header.is_fragmenting_payload()
}

/// A multicast packet goes to the group address made from its own (RFC 1112 §6.4, RFC 2464 §7).
pub(super) fn group_of(walk: &Walk, draft: &mut Draft, dst: IpAddr) {
    if let Some((station, _)) = walk.stations
        && let Some(group) = group_address(dst)
        && !walk.quoted
        && dst.is_multicast()
        && station.is_group()
        && !station.is_broadcast()
        && station != group
    {
        let text = format!("not what the frame goes to: the group's MAC address is {group}");
        draft.problem(ProblemKind::AddressMismatch, text);
    }
}

fn options(draft: &mut Draft, head: Part<'_>) {
    let mut at = 20;
    while at < head.len() {
        let kind = head.byte(at);
        if kind == 0 {
            draft.field("option", at..at + 1, 0_u8, "end of options");
            if at + 1 < head.len() {
                draft.opaque("padding", at + 1..head.len());
            }
            return;
        }
        if kind == 1 {
            draft.field("option", at..at + 1, 1_u8, "no operation");
            at += 1;
            continue;
        }
        let len = usize::from(head.byte(at + 1));
        if len < 2 || at + len > head.len() {
            draft.field("option", at..head.len(), kind, "");
            let text = format!("wrong length {len}: the rest cannot be read");
            draft.problem(ProblemKind::BadOption, text);
            return;
        }
        let name = match kind {
            7 => "record route",
            68 => "timestamps",
            130 => "security",
            131 => "loose source route",
            137 => "strict source route",
            148 => "router alert",
            _ => "",
        };
        draft.field("option", at..at + len, kind, name);
        at += len;
    }
}

/// What an IP header says that follows.
pub(super) fn transport(walk: &mut Walk, part: Part<'_>, net: &Net) {
    if part.is_empty() {
        return;
    }
    let is_v6 = net.src.is_ipv6();
    match net.protocol {
        1 if !is_v6 => icmp::icmp(walk, part, net),
        2 if !is_v6 => icmp::igmp(walk, part, net),
        4 => ipv4(walk, part),
        6 => tcp::tcp(walk, part, Some(net)),
        17 => udp::udp(walk, part, Some(net)),
        41 => ipv6::ipv6(walk, part),
        58 if is_v6 => icmpv6::icmpv6(walk, part, net),
        143 => ethernet(walk, part),
        other => {
            // Nobody verifies what a wrong family carries.
            let name = names::protocol(other);
            walk.payload(part, name);
        }
    }
}

/// A packet that an ICMP message quotes, as far as it does.
pub(super) fn quoted(walk: &mut Walk, family: Family, part: Part<'_>) {
    if part.is_empty() {
        return;
    }
    let before = walk.quoted;
    walk.quoted = true;
    match family {
        Family::V4 => ipv4(walk, part),
        Family::V6 => ipv6::ipv6(walk, part),
    }
    walk.quoted = before;
}

/// `0x..`, two digits.
pub(super) fn hex8(number: u8) -> Value {
    Value::Hex(number.into(), 2)
}
