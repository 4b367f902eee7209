//! The VXLAN endpoint and its peers, for people.

use std::{
    fmt::Display,
    io::{self, Write},
};

use comfy_table::CellAlignment;

use super::{count, counters, plain, table, write_table};
use crate::{
    config::{Accept, OffloadMode},
    control::api::{
        MtuChain, PeerInfo, PeerKind, PeerState, PingReply, PingReport, TrafficInfo, VtepInfo,
        VtepState,
    },
};

/// The answer to `vtep show`.
pub(super) fn vtep(out: &mut impl Write, vtep: Option<&VtepInfo>) -> io::Result<()> {
    let Some(info) = vtep else {
        return writeln!(out, "no vtep; open one: tapswitch vtep set --local IP");
    };
    vtep_line(out, info)?;
    let spec = &info.spec;
    let on_off = |on| if on { "on" } else { "off" };
    writeln!(
        out,
        "  strict {}, ttl {}, tos {}, udpcsum {}, udp6zerocsumrx {}, offload {}, too_big_answers {}",
        on_off(spec.strict),
        spec.ttl,
        spec.tos,
        on_off(spec.udpcsum),
        on_off(spec.udp6zerocsumrx),
        on_off(spec.offload == OffloadMode::On),
        on_off(spec.too_big_answers),
    )?;
    let ports: Vec<String> = info.source_ports.iter().map(ToString::to_string).collect();
    let ports = match ports.as_slice() {
        [] => "-".to_owned(),
        some => some.join(" "),
    };
    writeln!(out, "  source ports: {ports}")?;
    writeln!(out, "  offloads: {}", plain(&info.offloads))?;
    unclaimed(out, info)
}

/// What an endpoint is, in one line.
pub(super) fn vtep_line(out: &mut impl Write, info: &VtepInfo) -> io::Result<()> {
    let address = info.spec.address();
    let place = match &info.spec.netns {
        Some(netns) => format!(" in netns {}", plain(&netns.to_string())),
        None => String::new(),
    };
    let state = match info.state {
        VtepState::Up => "up",
        VtepState::Down => "down",
    };
    let accept = match info.spec.accept {
        Accept::Peers => "peers",
        Accept::Any => "any",
    };
    let state = because(state, info.reason.as_deref());
    writeln!(out, "vtep {address}{place}: {state}, accept {accept}")
}

/// The datagrams of an endpoint that belong to no peer.
pub(super) fn unclaimed(out: &mut impl Write, info: &VtepInfo) -> io::Result<()> {
    writeln!(
        out,
        "  from no peer: {} frames, {} bytes; drops: {}; socket overflow: {}",
        info.rx.frames,
        info.rx.bytes,
        counters(&info.drops),
        info.socket_overflow
    )
}

/// The answer to `peer show`.
pub(super) fn peers(out: &mut impl Write, peers: &[PeerInfo]) -> io::Result<()> {
    let headers = [
        "bridge",
        "vni",
        "remote",
        "port",
        "kind",
        "mtu",
        "path mtu",
        "state",
        "rx frames",
        "tx frames",
        "drops",
    ];
    let mut table = table(&headers);
    for column in table.column_iter_mut().skip(8).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for peer in peers {
        table.add_row(vec![
            peer.bridge.to_string(),
            peer.vni.to_string(),
            plain(&peer.remote),
            peer.port.to_string(),
            kind(peer).to_owned(),
            peer.mtu.to_string(),
            peer.path_mtu.to_string(),
            state(peer),
            peer.rx.frames.to_string(),
            peer.tx.frames.to_string(),
            counters(&peer.drops),
        ]);
    }
    write_table(out, &table)?;
    for peer in peers.iter().filter(|peer| peer.reserved_bits_ignored > 0) {
        let (count, of) = match peer.reserved_bits_ignored {
            1 => (1, "frame with reserved bits set in its"),
            count => (count, "frames with reserved bits set in their"),
        };
        let remote = plain(&peer.remote);
        writeln!(
            out,
            "{remote}: {count} {of} VXLAN header, which are ignored"
        )?;
    }
    Ok(())
}

/// The peers of one bridge, below its ports.
pub(super) fn peers_of_bridge(out: &mut impl Write, peers: &[&PeerInfo]) -> io::Result<()> {
    let mut table = table(&["peer", "port", "kind", "state", "mtu", "path mtu", "fdb"]);
    for peer in peers {
        table.add_row(vec![
            plain(&peer.remote),
            peer.port.to_string(),
            kind(peer).to_owned(),
            state(peer),
            peer.mtu.to_string(),
            peer.path_mtu.to_string(),
            peer.fdb_entries.to_string(),
        ]);
    }
    if table.is_empty() {
        return writeln!(out, "  no peers");
    }
    write_table(out, &table)
}

/// The counters of peers, and of the endpoint where a datagram is no peer's.
pub(super) fn stats(
    out: &mut impl Write,
    peers: &[PeerInfo],
    vtep: Option<&VtepInfo>,
) -> io::Result<()> {
    if !peers.is_empty() {
        let headers = [
            "peer",
            "bridge",
            "rx frames",
            "rx bytes",
            "tx frames",
            "tx bytes",
            "drops",
        ];
        let mut table = table(&headers);
        for column in table.column_iter_mut().skip(2).take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for peer in peers {
            let TrafficInfo { frames, bytes } = peer.rx;
            table.add_row(vec![
                endpoint(&peer.remote, peer.port),
                peer.bridge.to_string(),
                frames.to_string(),
                bytes.to_string(),
                peer.tx.frames.to_string(),
                peer.tx.bytes.to_string(),
                counters(&peer.drops),
            ]);
        }
        write_table(out, &table)?;
    }
    if let Some(info) = vtep {
        vtep_line(out, info)?;
        unclaimed(out, info)?;
    }
    Ok(())
}

/// `mtu 1450 = 1500 (path to 192.168.50.20) - 20 (outer IPv4) - ...`; the daemon keeps the MTU above
/// what would take IPv6 away from pods.
pub(in crate::cli) fn chain(chain: &MtuChain) -> String {
    let MtuChain {
        from,
        path_mtu,
        less,
        mtu,
    } = chain;
    let left = less
        .iter()
        .fold(*path_mtu, |left, (_, bytes)| left.saturating_sub(*bytes));
    let less: String = less
        .iter()
        .map(|(layer, bytes)| format!(" - {bytes} ({})", plain(layer)))
        .collect();
    let floor = match left {
        left if left == *mtu => String::new(),
        _ => format!(", but at least {mtu}"),
    };
    format!("mtu {mtu} = {path_mtu} ({}){less}{floor}", plain(from))
}

/// The answer to `peer ping`, in the manner of ping(8).
pub(super) fn ping(out: &mut impl Write, report: &PingReport) -> io::Result<()> {
    let PingReport {
        bridge,
        vni,
        port,
        sent,
        received,
        size,
        ..
    } = report;
    let remote = plain(&report.remote);
    writeln!(
        out,
        "PING {remote} port {port} on {bridge} (vni {vni}): frames of {size} bytes"
    )?;
    for reply in &report.replies {
        let PingReply { sequence, size, .. } = reply;
        match reply.rtt_s {
            Some(rtt) => writeln!(
                out,
                "{size} bytes from {remote}: seq={sequence} time={} ms",
                milliseconds(rtt)
            )?,
            None => writeln!(
                out,
                "no answer from {remote}: seq={sequence} ({size} bytes)"
            )?,
        }
    }
    let lost = u64::from(sent.saturating_sub(*received)) * 100;
    let percent = lost.checked_div(u64::from(*sent)).unwrap_or_default();
    writeln!(out, "\n--- {remote} ping statistics ---")?;
    writeln!(
        out,
        "{} sent, {received} answered, {percent}% lost",
        count(*sent, "frame")
    )?;
    if let (Some(min), Some(avg), Some(max)) =
        (report.rtt_min_s, report.rtt_avg_s, report.rtt_max_s)
    {
        let (min, avg, max) = (milliseconds(min), milliseconds(avg), milliseconds(max));
        writeln!(out, "rtt min/avg/max = {min}/{avg}/{max} ms")?;
    }
    if let Some(largest) = report.largest {
        let lost = report
            .smallest_lost
            .map_or_else(String::new, |bytes| format!("; {bytes} bytes are lost"));
        let mtu = largest.saturating_sub(ETHERNET_HEADER);
        writeln!(
            out,
            "largest frame: {largest} bytes, so an mtu of {mtu}{lost}"
        )?;
    }
    writeln!(out, "udp: {}", plain(&report.udp))?;
    writeln!(out, "{}", plain(&report.verdict))
}

fn milliseconds(seconds: f64) -> impl Display {
    format!("{:.3}", seconds * 1000.0)
}

fn kind(peer: &PeerInfo) -> &'static str {
    match peer.kind {
        PeerKind::Listed => "listed",
        PeerKind::Static => "static",
        PeerKind::Learned => "learned",
        PeerKind::Control => "control",
    }
}

fn state(peer: &PeerInfo) -> String {
    let state = match peer.state {
        PeerState::Up => "up",
        PeerState::NoRoute => "no route",
        PeerState::Down => "down",
    };
    because(state, peer.reason.as_deref())
}

fn because(state: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{state} ({})", plain(reason)),
        None => state.to_owned(),
    }
}

/// `192.168.50.20:4789`, `[fd00::1]:4789`.
fn endpoint(remote: &str, port: u16) -> String {
    let remote = plain(remote);
    match remote.contains(':') {
        true => format!("[{remote}]:{port}"),
        false => format!("{remote}:{port}"),
    }
}

const ETHERNET_HEADER: u32 = 14;
