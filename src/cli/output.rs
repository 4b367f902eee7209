//! Answers as people and as scripts read them.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{self, Write},
};

mod doctor;
mod event;
mod overlay;
mod trace;
mod watch;
mod why;
mod wrap;

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde::Serialize;

pub(crate) use self::wrap::{columns, wrapped};
pub(super) use self::{
    doctor::report as doctor_report,
    event::{clock, event, explain, line, time_of_day},
    overlay::chain,
    trace::trace,
    watch::{screen, watch},
    wrap::hanging,
};
pub(super) use crate::names::printable as plain;
use crate::{
    config::{BridgeSpec, Diagnostic, Mode, units::format_duration},
    control::api::{
        BridgeInfo, FdbInfo, FdbState, PortInfo, PortState, Response, ShowInfo, StatsInfo,
    },
};

/// Writes `answer` as one JSON value.
pub(super) fn json(out: &mut impl Write, answer: &Response) -> io::Result<()> {
    #[derive(Serialize)]
    struct Done {
        done: bool,
    }
    #[derive(Serialize)]
    struct Flushed {
        flushed: usize,
    }
    match answer {
        Response::Done => json_value(out, &Done { done: true }),
        Response::Show(value) => json_value(out, value),
        Response::Vtep(value) => json_value(out, value),
        Response::Peers(value) => json_value(out, value),
        Response::Ping(value) => json_value(out, value),
        Response::Bridges(value) => json_value(out, value),
        Response::Ports(value) => json_value(out, value),
        Response::Doctor(value) => json_value(out, value),
        Response::Fdb(value) => json_value(out, value),
        Response::Flushed(flushed) => json_value(out, &Flushed { flushed: *flushed }),
        Response::Why(value) => json_value(out, value),
        Response::FdbWhy(value) => json_value(out, value),
        Response::Stats(value) => json_value(out, value),
        Response::Trace(value) => json_value(out, value),
        Response::Plan(value) => json_value(out, value),
    }
}

/// Writes `value` and a newline.
pub(in crate::cli) fn json_value(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value).map_err(io::Error::other)?;
    writeln!(out, "{text}")
}

/// Writes `answer` for people.
pub(super) fn human(out: &mut impl Write, answer: &Response) -> io::Result<()> {
    match answer {
        Response::Done => Ok(()),
        Response::Show(value) => show(out, value),
        Response::Vtep(vtep) => overlay::vtep(out, vtep.as_ref()),
        Response::Peers(peers) => overlay::peers(out, peers),
        Response::Ping(report) => overlay::ping(out, report),
        Response::Bridges(bridges) => bridges_in_detail(out, bridges),
        Response::Ports(ports) => ports_in_detail(out, ports),
        Response::Doctor(report) => doctor::report(out, report),
        Response::Fdb(entries) => fdb(out, entries),
        Response::Flushed(1) => writeln!(out, "1 entry deleted"),
        Response::Flushed(count) => writeln!(out, "{count} entries deleted"),
        Response::Why(report) => why::report(out, report),
        Response::FdbWhy(stories) => why::stories(out, stories),
        Response::Stats(value) => stats(out, value),
        Response::Trace(value) => trace(out, value),
        Response::Plan(steps) if steps.is_empty() => writeln!(out, "nothing to do"),
        Response::Plan(steps) => steps.iter().try_for_each(|step| writeln!(out, "{step}")),
    }
}

fn show(out: &mut impl Write, info: &ShowInfo) -> io::Result<()> {
    let ShowInfo {
        name,
        version,
        pid,
        workers,
        ..
    } = info;
    let name = plain(name);
    writeln!(
        out,
        "switch {name}: tapswitch {version}, pid {pid}, {}",
        count(*workers, "worker")
    )?;
    if let Some(vtep) = &info.vtep {
        overlay::vtep_line(out, vtep)?;
        overlay::unclaimed(out, vtep)?;
    }
    for bridge in &info.bridges {
        writeln!(out)?;
        bridge_line(out, bridge)?;
        let name = &bridge.spec.name;
        let ports = info.ports.iter().filter(|port| port.bridge == *name);
        port_table(out, ports)?;
        let peers = info.peers.iter().filter(|peer| peer.bridge == *name);
        let peers: Vec<_> = peers.collect();
        if bridge.spec.vni.is_some() {
            overlay::peers_of_bridge(out, &peers)?;
        }
    }
    writeln!(out)?;
    let of_ports = info.ports.iter().map(|port| &port.drops);
    let of_peers = info.peers.iter().map(|peer| &peer.drops);
    let of_vtep = info.vtep.iter().map(|vtep| &vtep.drops);
    let drops = of_ports.chain(of_peers).chain(of_vtep);
    let drops: u64 = drops.flat_map(BTreeMap::values).sum();
    let peers = match info.vtep {
        Some(_) => format!(", {}", count(info.peers.len(), "peer")),
        None => String::new(),
    };
    writeln!(
        out,
        "{}, {}{peers}, {} dropped, {} unaccounted for",
        count(info.bridges.len(), "bridge"),
        count(info.ports.len(), "port"),
        count(drops, "frame"),
        info.unaccounted
    )
}

fn count<T: Display + From<u8> + PartialEq>(number: T, noun: &str) -> String {
    let plural = if number == T::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn bridge_line(out: &mut impl Write, bridge: &BridgeInfo) -> io::Result<()> {
    let BridgeSpec {
        name,
        mode,
        vni,
        ageing,
        fdb_limit,
        ..
    } = &bridge.spec;
    let mode = match mode {
        Mode::Switch => "switch",
        Mode::Hub => "hub",
        Mode::Wire => "wire",
    };
    let vni = vni.map_or_else(String::new, |vni| format!(" vni {vni},"));
    writeln!(
        out,
        "bridge {name}: {mode},{vni} mtu {}, ageing {}, fdb {}/{fdb_limit}",
        bridge.effective_mtu,
        format_duration(*ageing),
        bridge.fdb_learned,
    )?;
    match &bridge.mtu_chain {
        Some(chain) => writeln!(out, "  {}", overlay::chain(chain)),
        None => Ok(()),
    }
}

fn bridges_in_detail(out: &mut impl Write, bridges: &[BridgeInfo]) -> io::Result<()> {
    for bridge in bridges {
        bridge_line(out, bridge)?;
        let ports: Vec<String> = bridge.ports.iter().map(ToString::to_string).collect();
        if ports.is_empty() {
            writeln!(out, "  no ports")?;
        } else {
            writeln!(out, "  ports: {}", ports.join(" "))?;
        }
        if bridge.spec.vni.is_some() {
            let peers = &bridge.spec.peers;
            let listed: String = peers.iter().map(|peer| format!(" {peer}")).collect();
            let others = bridge.peer_count.saturating_sub(peers.len());
            let learning = if bridge.spec.peer_learning {
                "on"
            } else {
                "off"
            };
            let listed = if listed.is_empty() { " none" } else { &listed };
            writeln!(
                out,
                "  peers:{listed}, {} not listed; learning from peers: {learning}",
                count(others, "other")
            )?;
        }
        let reserved = bridge.spec.forward_reserved;
        writeln!(
            out,
            "  forwards reserved: {reserved}, held after {} moves",
            bridge.spec.flap_limit
        )?;
        if !bridge.fdb_counters.is_empty() {
            writeln!(out, "  fdb: {}", counters(&bridge.fdb_counters))?;
        }
    }
    Ok(())
}

fn port_table<'a>(
    out: &mut impl Write,
    ports: impl Iterator<Item = &'a PortInfo>,
) -> io::Result<()> {
    let mut table = table(&[
        "port",
        "state",
        "netns",
        "ifname",
        "mac",
        "mtu",
        "addresses",
    ]);
    for port in ports {
        table.add_row(vec![
            port.name.to_string(),
            state(port),
            netns(port),
            plain(&port.ifname),
            port.mac.to_string(),
            port.mtu.to_string(),
            addresses(port),
        ]);
    }
    if table.is_empty() {
        return writeln!(out, "  no ports");
    }
    write_table(out, &table)
}

fn ports_in_detail(out: &mut impl Write, ports: &[PortInfo]) -> io::Result<()> {
    for port in ports {
        let PortInfo {
            name,
            bridge,
            mac,
            mtu,
            ..
        } = port;
        let ifname = plain(&port.ifname);
        let index = port.ifindex.map(|index| format!(" (index {index})"));
        writeln!(
            out,
            "{name}: {} on {bridge}, {ifname}{} in {}",
            state(port),
            index.unwrap_or_default(),
            place(port)
        )?;
        writeln!(out, "  mac {mac}, mtu {mtu}, addresses {}", addresses(port))?;
        let flags: Vec<String> = port
            .flags
            .iter()
            .map(|(flag, &on)| format!("{flag} {}", if on { "on" } else { "off" }))
            .collect();
        writeln!(out, "  {}", flags.join(", "))?;
        writeln!(out, "  offloads: {}", plain(&port.offloads))?;
        writeln!(
            out,
            "  rx {} frames, {} bytes; tx {} frames, {} bytes",
            port.rx.frames, port.rx.bytes, port.tx.frames, port.tx.bytes
        )?;
        writeln!(out, "  drops: {}", counters(&port.drops))?;
    }
    Ok(())
}

fn fdb(out: &mut impl Write, entries: &[FdbInfo]) -> io::Result<()> {
    let has_remotes = entries.iter().any(|entry| entry.remote.is_some());
    let mut headers = vec!["bridge", "mac", "vlan", "port", "state", "age"];
    if has_remotes {
        headers.insert(4, "remote");
    }
    let mut table = table(&headers);
    for entry in entries {
        let port = entry.port.as_ref().map(ToString::to_string);
        let remote = entry.remote.as_deref().map(plain);
        let state = match entry.state {
            FdbState::Learned if entry.frozen => "learned, held",
            FdbState::Learned => "learned",
            FdbState::Static => "static",
            FdbState::Local => "local",
            FdbState::Control => "control",
        };
        let age = match entry.state {
            FdbState::Learned => format!("{:.1}s", entry.age_s),
            FdbState::Static | FdbState::Local | FdbState::Control => "-".to_owned(),
        };
        let vlan = match entry.vlan {
            0 => "-".to_owned(),
            vlan => vlan.to_string(),
        };
        let nothing = || "-".to_owned();
        let mut row = vec![
            entry.bridge.to_string(),
            entry.mac.to_string(),
            vlan,
            port.unwrap_or_else(nothing),
            state.to_owned(),
            age,
        ];
        if has_remotes {
            row.insert(4, remote.unwrap_or_else(nothing));
        }
        table.add_row(row);
    }
    write_table(out, &table)
}

fn stats(out: &mut impl Write, stats: &StatsInfo) -> io::Result<()> {
    let headers = [
        "port",
        "rx frames",
        "rx bytes",
        "tx frames",
        "tx bytes",
        "drops",
    ];
    let mut table = table(&headers);
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for port in &stats.ports {
        table.add_row(vec![
            port.name.to_string(),
            port.rx.frames.to_string(),
            port.rx.bytes.to_string(),
            port.tx.frames.to_string(),
            port.tx.bytes.to_string(),
            counters(&port.drops),
        ]);
    }
    write_table(out, &table)?;
    overlay::stats(out, &stats.peers, stats.vtep.as_ref())?;
    writeln!(out, "unaccounted: {}", stats.unaccounted)
}

/// Writes what is wrong with a file, as compilers do.
pub(super) fn diagnostics(
    out: &mut impl Write,
    file: &std::path::Path,
    diagnostics: &[Diagnostic],
) -> io::Result<()> {
    diagnostics
        .iter()
        .try_for_each(|diagnostic| writeln!(out, "{}", diagnostic.in_file(file)))
}

fn state(port: &PortInfo) -> String {
    let state = match port.state {
        PortState::Up => "up",
        PortState::Down => "down",
        PortState::Gone => "gone",
    };
    match &port.reason {
        Some(reason) => format!("{state} ({})", plain(reason)),
        None => state.to_owned(),
    }
}

fn netns(port: &PortInfo) -> String {
    port.netns
        .as_deref()
        .map_or_else(|| "(host)".to_owned(), plain)
}

fn place(port: &PortInfo) -> String {
    let name = match &port.netns {
        Some(netns) => format!("netns {}", plain(netns)),
        None => "the daemon's netns".to_owned(),
    };
    match port.netns_inode {
        Some(inode) => format!("{name} (net:[{inode}])"),
        None => name,
    }
}

fn addresses(port: &PortInfo) -> String {
    if port.addresses.is_empty() {
        return "-".to_owned();
    }
    plain(&port.addresses.join(" "))
}

fn counters(counters: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> = counters
        .iter()
        .filter(|&(_, &count)| count > 0)
        .map(|(name, count)| format!("{} {count}", plain(name)))
        .collect();
    if words.is_empty() {
        return "-".to_owned();
    }
    words.join(", ")
}

pub(super) fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let headers: Vec<String> = headers.iter().map(|header| header.to_uppercase()).collect();
    table.set_header(headers);
    table
}

pub(super) fn write_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    table
        .lines()
        .try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}

#[cfg(test)]
mod tests;
