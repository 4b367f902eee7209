//! TCP and its options (RFC 9293 §3.1, RFC 7323, RFC 2018).

use etherparse::{TcpHeaderSlice, TcpOptionElement, TcpOptionsIterator};

use super::{
    ProblemKind,
    draft::{Draft, Part, Walk},
    names,
    sum::{self, Net},
};

pub(super) fn tcp(walk: &mut Walk, part: Part<'_>, net: Option<&Net>) {
    if walk.is_too_deep(part) {
        return;
    }
    let words = part.byte(12) >> 4;
    let Ok(header) = TcpHeaderSlice::from_slice(part.bytes) else {
        return unreadable(walk, part, words);
    };
    let len = header.slice().len();
    let (head, rest) = part.split(len);
    let mut draft = Draft::new("tcp", "TCP", head);
    ports(&mut draft, header.source_port(), header.destination_port());
    draft.field("sequence", 4..8, header.sequence_number(), "");
    let meaning = if header.ack() {
        "the next byte expected"
    } else {
        "unused without ACK"
    };
    let acknowledged = header.acknowledgment_number();
    draft.field("acknowledgment", 8..12, acknowledged, meaning);
    draft.bits("data offset", 96, 4, words, format!("{len} bytes"));
    let reserved = head.byte(12) & 0xf;
    draft.bits("reserved", 100, 4, reserved, "");
    if reserved != 0 {
        draft.problem(ProblemKind::ReservedBits, "reserved bits are set");
    }
    flags(&mut draft, &header);
    let window = header.window_size();
    let meaning = match (header.syn(), window) {
        (_, 0) => "full: the other side must wait",
        (true, _) => "bytes",
        (false, _) => "times the scale told in the SYN",
    };
    draft.field("window", 14..16, window, meaning);
    sum::transport(&mut draft, part, 16, net);
    // The checksum covers the payload, and its field is in the header.
    let urgent = header.urgent_pointer();
    draft.field("urgent pointer", 18..20, urgent, "");
    options(&mut draft, header.options());
    walk.push(draft);
    let port = header.source_port().min(header.destination_port());
    walk.payload(rest, names::port(port));
}

pub(super) fn ports(draft: &mut Draft, src: u16, dst: u16) {
    for (name, at, port) in [("source port", 0, src), ("destination port", 2, dst)] {
        let meaning = match (names::port(port), port) {
            ("", 32768..) => "ephemeral",
            (name, _) => name,
        };
        draft.field(name, at..at + 2, port, meaning);
    }
}

fn unreadable(walk: &mut Walk, part: Part<'_>, words: u8) {
    if part.len() < 20 && walk.quoted && part.len() >= 8 {
        // ICMP has to quote 8 bytes (RFC 792).
        let mut draft = Draft::new("tcp", "TCP", part);
        ports(&mut draft, part.word(0), part.word(2));
        draft.field("sequence", 4..8, part.long(4), "");
        if part.len() > 8 {
            draft.opaque("bytes", 8..part.len());
        }
        return walk.push(draft);
    }
    if part.len() < 20 {
        return walk.truncated("tcp", "TCP", part, 20);
    }
    if words >= 5 {
        return walk.truncated("tcp", "TCP", part, 4 * usize::from(words));
    }
    let mut draft = Draft::new("tcp", "TCP", part);
    ports(&mut draft, part.word(0), part.word(2));
    draft.field("sequence", 4..8, part.long(4), "");
    draft.field("acknowledgment", 8..12, part.long(8), "");
    draft.bits("data offset", 96, 4, words, format!("{} bytes", words * 4));
    let text = "wrong: a header has 20 bytes or more";
    draft.problem(ProblemKind::WrongLength, text);
    draft.opaque("bytes", 13..part.len());
    walk.push(draft);
}

fn flags(draft: &mut Draft, header: &TcpHeaderSlice<'_>) {
    let names = [
        (header.cwr(), "CWR"),
        (header.ece(), "ECE"),
        (header.urg(), "URG"),
        (header.ack(), "ACK"),
        (header.psh(), "PSH"),
        (header.rst(), "RST"),
        (header.syn(), "SYN"),
        (header.fin(), "FIN"),
    ];
    let set = names.iter().filter(|(is_set, _)| *is_set);
    let set: Vec<_> = set.map(|(_, name)| *name).collect();
    let value = match set.as_slice() {
        [] => "none".to_owned(),
        set => set.join(" "),
    };
    let (syn, ack, fin, rst) = (header.syn(), header.ack(), header.fin(), header.rst());
    let meaning = match (syn, ack, fin, rst) {
        (_, _, _, true) => "the connection is over, at once",
        (true, false, ..) => "opens a connection",
        (true, true, ..) => "accepts the connection",
        (_, _, true, _) => "has nothing more to send",
        _ if header.psh() => "to be handed over without waiting for more",
        _ => "",
    };
    draft.field("flags", 13..14, value, meaning);
    if syn && (fin || rst) || !(syn || ack || rst) {
        let text = "no connection sends these flags";
        draft.problem(ProblemKind::BadFlags, text);
    }
}

fn options(draft: &mut Draft, options: &[u8]) {
    let place = |rest: &[u8]| 20 + options.len() - rest.len();
    let mut iterator = TcpOptionsIterator::from_slice(options);
    loop {
        let before = iterator.rest();
        let at = place(before);
        let Some(element) = iterator.next() else {
            // The list ends with a zero byte; the rest is padding.
            if !before.is_empty() {
                draft.field("option", at..20 + options.len(), 0_u8, "end of options");
            }
            return;
        };
        let kind = before.first().copied().unwrap_or(0);
        match element {
            Ok(element) => {
                let end = place(iterator.rest());
                draft.field("option", at..end, kind, option_text(&element));
            }
            Err(_) => {
                // One that etherparse does not know, if its length makes sense.
                let len = before.get(1).copied().map_or(0, usize::from);
                let known = matches!(kind, 2..=5 | 8);
                if known || len < 2 || len > before.len() {
                    draft.field("option", at..20 + options.len(), kind, "");
                    let text = format!("wrong length {len}: the rest cannot be read");
                    draft.problem(ProblemKind::BadOption, text);
                    return;
                }
                draft.field("option", at..at + len, kind, option_name(kind));
                let rest = before.get(len..).unwrap_or_default();
                iterator = TcpOptionsIterator::from_slice(rest);
            }
        }
    }
}

/// IANA TCP option kinds.
const fn option_name(kind: u8) -> &'static str {
    match kind {
        19 => "MD5 signature",
        29 => "authentication (TCP-AO)",
        30 => "multipath TCP",
        34 => "fast open cookie",
        253 | 254 => "experiment",
        _ => "",
    }
}

fn option_text(option: &TcpOptionElement) -> String {
    match option {
        TcpOptionElement::Noop => "no operation".to_owned(),
        TcpOptionElement::MaximumSegmentSize(size) => {
            format!("MSS {size} bytes")
        }
        TcpOptionElement::WindowScale(shift) => {
            format!("window scale {shift}: windows times {}", {
                1_u64 << (*shift).min(14)
            })
        }
        TcpOptionElement::SelectiveAcknowledgementPermitted => "SACK permitted".to_owned(),
        TcpOptionElement::SelectiveAcknowledgement(first, more) => {
            let blocks = std::iter::once(first).chain(more.iter().flatten());
            let blocks: Vec<_> = blocks.map(|(from, to)| format!("{from}-{to}")).collect();
            format!("SACK {}", blocks.join(" "))
        }
        TcpOptionElement::Timestamp(value, echo) => format!("timestamp {value}, echo {echo}"),
    }
}
