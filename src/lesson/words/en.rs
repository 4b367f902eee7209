//! In English.

use super::{Way, outer_packet, ports, reached, short, sum, ways};
use crate::{
    bridge::DropReason,
    control::api::RowChange,
    lesson::{
        Lang, narrate,
        watch::{BY_HUB, BY_WIRE, Fate, REWRITTEN, SWITCH, Seen},
    },
    wire::Frame,
};

/// What became of a frame and why.
pub(in crate::lesson) fn lines(seen: &Seen) -> Vec<String> {
    let mut lines = vec![fate(seen)];
    if let Some(datagram) = &seen.datagram {
        let (from, to) = ports(datagram);
        lines.push(format!(
            "out of {} bytes on the wire: VNI {}, UDP {from} > {to}",
            datagram.len, datagram.vni
        ));
    }
    for way in ways(seen) {
        lines.extend(departure(seen, &way));
    }
    if seen.is_superframe() {
        let offload = seen.offload.as_deref().unwrap_or_default();
        let kind = match offload {
            "segments" => String::new(),
            offload => format!(" ({offload})"),
        };
        lines.push(format!(
            "a superframe{kind}: its sender leaves the cutting into packets to whom it concerns"
        ));
    }
    lines.extend(learned(seen));
    lines
}

fn fate(seen: &Seen) -> String {
    let to = names(seen);
    match seen.fate {
        Fate::Flooded => match seen.class.as_deref() {
            Some("broadcast") => format!("flooded to {to}: a broadcast is for everybody else"),
            Some("multicast") => {
                format!("flooded to {to}: to a group, and who is in it the switch does not know")
            }
            Some(BY_HUB) => format!("repeated to {to}: a hub looks at no address"),
            Some(BY_WIRE) => {
                format!("out at {to}: a wire has one other end, and looks at no address")
            }
            _ => match Frame::new_checked(&seen.bytes) {
                Ok(frame) => format!(
                    "flooded to {to}: where {} is, the FDB does not know",
                    frame.dst()
                ),
                Err(_) => format!("flooded to {to}"),
            },
        },
        Fate::Forwarded if seen.place == SWITCH => match seen.class.as_deref() {
            Some(REWRITTEN) => format!("sent to {to}: a frame from before, with other addresses"),
            _ => format!("sent to {to}"),
        },
        Fate::Forwarded => match &seen.row {
            Some(row) => {
                let mac = row.mac;
                let at = narrate::place(&row.at, Lang::En);
                let how = match (row.is_learned, row.age_s) {
                    (true, Some(age)) => {
                        format!("FDB row {mac} at {at}, noted {} ago", short(age))
                    }
                    _ => format!("FDB row {mac} at {at}"),
                };
                format!("to {to} only: {how}")
            }
            None => format!("to {to} only"),
        },
        Fate::Consumed if seen.class.as_deref() == Some(REWRITTEN) => {
            "taken by the kernel's IP layer above the bridge, and sent on with other addresses"
                .to_owned()
        }
        Fate::Consumed => "taken by the switch itself: a probe of another one".to_owned(),
        Fate::Dropped => dropped(seen),
    }
}

fn dropped(seen: &Seen) -> String {
    let lost = ways(seen);
    let place = match lost.first() {
        Some(way) => format!(" on the way to {}", narrate::place(way.to, Lang::En)),
        None => String::new(),
    };
    match &seen.reason {
        Some(reason) => format!("dropped{place}, {reason}: {}", explain(reason)),
        None if seen.row.as_ref().is_some_and(|row| row.at == seen.place) => {
            format!("dropped: {}", DropReason::SamePort.explain())
        }
        None if place.is_empty() => {
            "not seen leaving: the bridge dropped it, or the IP layer above it took it".to_owned()
        }
        None => format!("dropped{place}: it was not seen leaving anywhere"),
    }
}

/// The way to a remote VTEP, and what is lost on a way.
fn departure(seen: &Seen, way: &Way<'_>) -> Vec<String> {
    let to = narrate::place(way.to, Lang::En);
    let mut lines = Vec::new();
    if way.has_arrived() {
        let datagrams: Vec<_> = way.datagrams().collect();
        if let [first, rest @ ..] = &datagrams[..] {
            let (from, port) = ports(first);
            let count = match rest.len() {
                0 => "a datagram".to_owned(),
                more => format!("{} datagrams", more + 1),
            };
            lines.push(format!(
                "in {count} to {to}: VNI {}, UDP {from} > {port}",
                first.vni
            ));
            let (len, sum) = (first.len, sum(first));
            lines.push(match rest {
                [] => format!("on the wire {len} bytes: {sum}"),
                _ => format!("the first has {len} bytes on the wire: {sum}"),
            });
        }
    }
    let Some(reason) = way.lost() else {
        return lines;
    };
    if seen.fate != Fate::Dropped {
        lines.push(format!("not to {to}, {reason}: {}", explain(reason)));
    }
    if reason == DropReason::TooBig.name() {
        lines.push(match outer_packet(way.to, seen.len) {
            Some((total, sum)) => {
                format!("the packet around it would have {total} bytes: {sum}")
            }
            None => format!(
                "its packet has {} bytes: {} less 14 of Ethernet",
                seen.len.saturating_sub(14),
                seen.len
            ),
        });
    }
    lines
}

fn learned(seen: &Seen) -> Option<String> {
    let learned = seen.learned.as_ref()?;
    let mac = learned.mac;
    let here = narrate::place(&seen.place, Lang::En);
    let from = learned.from.as_deref();
    let from = narrate::place(from.unwrap_or("elsewhere"), Lang::En);
    Some(match learned.change {
        RowChange::New => format!("learned: {mac} is at {here}"),
        RowChange::Moved => format!("learned: {mac} has moved from {from} to {here}"),
        RowChange::Flapping => {
            format!("{mac} has moved from {from} to {here}, and is held there: it moves too often")
        }
        RowChange::Frozen => format!("not learned: {mac} is held elsewhere, it moved too often"),
        RowChange::Pinned => format!("not learned: {mac} is static elsewhere, and stays there"),
        RowChange::Full => format!("not learned: {mac} finds the FDB full"),
    })
}

fn names(seen: &Seen) -> String {
    let reached = reached(seen).into_iter();
    let names: Vec<String> = reached.map(|to| narrate::place(to, Lang::En)).collect();
    names.join(", ")
}

fn explain(reason: &str) -> &str {
    let known = DropReason::ALL.iter().find(|known| known.name() == reason);
    known.map_or(reason, |known| known.explain())
}
