//! Counters with their rates, again and again.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, Table};

use super::{event::clock, overlay, plain, table, write_table};
use crate::{
    cli::rates::{Flow, Rates, age, scaled},
    config::units::format_duration,
    control::api::{StatsInfo, TrafficInfo},
};

/// The screen for `new`, after `old` was shown. `now` is the time of the wall clock.
pub(in crate::cli) fn watch(
    old: Option<&StatsInfo>,
    new: &StatsInfo,
    now: f64,
    interval: Duration,
) -> io::Result<String> {
    let rates = Rates::between(old, new);
    let has_rates = rates.seconds.is_some();
    let mut out = Vec::new();
    writeln!(
        out,
        "switch {}: tapswitch {}, up {}, every {}, {} UTC",
        plain(&new.name),
        plain(&new.version),
        age(new.uptime_s),
        format_duration(interval),
        clock(now)
    )?;
    let mut ports = traffic_table("port");
    for (port, flow) in new.ports.iter().zip(&rates.ports) {
        let name = port.name.to_string();
        ports.add_row(row(name, (port.rx, port.tx, &port.drops), flow, has_rates));
    }
    write_table(&mut out, &ports)?;
    if !new.peers.is_empty() {
        let mut peers = traffic_table("peer");
        for (peer, flow) in new.peers.iter().zip(&rates.peers) {
            let name = format!("{} {}", plain(&peer.remote), peer.bridge);
            peers.add_row(row(name, (peer.rx, peer.tx, &peer.drops), flow, has_rates));
        }
        write_table(&mut out, &peers)?;
    }
    if let Some(vtep) = &new.vtep {
        overlay::vtep_line(&mut out, vtep)?;
        overlay::unclaimed(&mut out, vtep)?;
    }
    writeln!(out, "unaccounted: {}", new.unaccounted)?;
    String::from_utf8(out).map_err(io::Error::other)
}

/// Writes `text`, on a terminal in place of what was there: without a flicker, since nothing is
/// cleared that is then written again.
pub(in crate::cli) fn screen(out: &mut impl Write, text: &str, clears: bool) -> io::Result<()> {
    if !clears {
        return writeln!(out, "{text}");
    }
    let text = text.replace('\n', "\x1b[K\n");
    write!(out, "\x1b[H{text}\x1b[J")
}

fn traffic_table(place: &str) -> Table {
    let headers = [
        place,
        "in f/s",
        "in bit/s",
        "out f/s",
        "out bit/s",
        "in frames",
        "out frames",
        "drops",
    ];
    let mut table = table(&headers);
    for column in table.column_iter_mut().skip(1).take(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(
    place: String,
    (rx, tx, drops): (TrafficInfo, TrafficInfo, &BTreeMap<String, u64>),
    flow: &Flow,
    has_rates: bool,
) -> Vec<String> {
    let rate = |value: f64| match has_rates {
        true => scaled(value),
        false => "-".to_owned(),
    };
    vec![
        place,
        rate(flow.rx.frames),
        rate(flow.rx.bits),
        rate(flow.tx.frames),
        rate(flow.tx.bits),
        rx.frames.to_string(),
        tx.frames.to_string(),
        changes(drops, &flow.drops),
    ]
}

/// `too_big 12 (+3)`: all, and those since the last screen.
fn changes(all: &BTreeMap<String, u64>, new: &BTreeMap<String, u64>) -> String {
    let known = all.iter().filter(|&(_, &count)| count > 0);
    let words: Vec<String> = known
        .map(|(reason, count)| match new.get(reason) {
            Some(new) => format!("{} {count} (+{new})", plain(reason)),
            None => format!("{} {count}", plain(reason)),
        })
        .collect();
    if words.is_empty() {
        return "-".to_owned();
    }
    words.join(", ")
}
