//! The counters for Prometheus, as OpenMetrics text (<https://prometheus.io/docs/specs/om/>).
//!
//! `GET /metrics` on the control socket, and on TCP if the daemon is told where. They are read when
//! somebody asks and cost a frame nothing.
//!
//! | metric | labels | what it is |
//! | --- | --- | --- |
//! | `tapswitch_build_info` | version, name | 1; `name` is the switch's |
//! | `tapswitch_start_time_seconds` | | when the switch was started, since 1970 |
//! | `tapswitch_unaccounted_frames` | | frames whose fate no counter tells; not 0 is a bug |
//! | `tapswitch_drops_total` | bridge, port or peer, direction, reason | frames lost, by [`DropReason`] and for `tap_queue`; neither port nor peer: datagrams of no peer |
//! | `tapswitch_port_receive_frames_total` | bridge, port | frames from the namespace; a superframe is one |
//! | `tapswitch_port_receive_bytes_total` | bridge, port | their bytes, without FCS |
//! | `tapswitch_port_transmit_frames_total` | bridge, port | frames into the namespace |
//! | `tapswitch_port_transmit_bytes_total` | bridge, port | their bytes |
//! | `tapswitch_port_mtu_bytes` | bridge, port | the MTU in force |
//! | `tapswitch_port_state` | bridge, port, state | 1 for the state that it is in: `up`, `down` or `gone` |
//! | `tapswitch_bridge_mtu_bytes` | bridge | the MTU of ports that name none |
//! | `tapswitch_bridge_ports` | bridge | ports |
//! | `tapswitch_fdb_entries` | bridge | entries of all kinds |
//! | `tapswitch_fdb_learned_entries` | bridge | learned ones among them |
//! | `tapswitch_fdb_limit_entries` | bridge | the most learned entries at one time |
//! | `tapswitch_fdb_learned_total` | bridge | addresses learned |
//! | `tapswitch_fdb_moved_total` | bridge | times that an address moved |
//! | `tapswitch_fdb_aged_total` | bridge | entries that aged out |
//! | `tapswitch_fdb_refused_full_total` | bridge | addresses not learned for want of room |
//! | `tapswitch_fdb_evicted_total` | bridge | entries that made room for another |
//! | `tapswitch_fdb_static_violation_total` | bridge | frames with the source of a static or local entry elsewhere |
//! | `tapswitch_fdb_frozen_total` | bridge | times that an address was held where it is |
//! | `tapswitch_peer_receive_frames_total` | bridge, vni, peer | frames from a remote VTEP |
//! | `tapswitch_peer_receive_bytes_total` | bridge, vni, peer | their bytes, without the overlay's headers |
//! | `tapswitch_peer_transmit_frames_total` | bridge, vni, peer | frames to it |
//! | `tapswitch_peer_transmit_bytes_total` | bridge, vni, peer | their bytes |
//! | `tapswitch_peer_reserved_bits_frames_total` | bridge, vni, peer | frames with reserved bits set, which lost them nothing |
//! | `tapswitch_peer_path_mtu_bytes` | bridge, vni, peer | the MTU of the path to it |
//! | `tapswitch_peer_state` | bridge, vni, peer, state | 1 for the state that it is in: `up`, `no-route` or `down` |
//! | `tapswitch_peer_fdb_entries` | bridge, vni, peer | entries that point to it |
//! | `tapswitch_vtep_up` | | whether the VXLAN endpoint has its sockets |
//! | `tapswitch_vtep_stray_frames_total` | | datagrams that belong to no peer |
//! | `tapswitch_vtep_stray_bytes_total` | | their bytes |
//! | `tapswitch_vtep_socket_overflow_total` | | datagrams that the socket's buffer had no room for |
//! | `tapswitch_worker_syscalls_total` | worker, call | system calls |
//! | `tapswitch_worker_cpu_seconds_total` | worker | CPU time |
//!
//! `direction` is `receive` or `transmit`, as seen from the switch. A port has a series for each
//! reason that it can have, so that `rate()` sees the first loss too, some 30 in all. What was
//! deleted is not there any more. `tap_queue` and the state of an interface inside its namespace are
//! at most ten seconds old, since each look inside costs a change of namespace.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    metrics::MetricType,
    registry::Registry,
};

mod listener;
mod writer;

pub use self::listener::{Audience, MetricsError, MetricsListener};
use self::writer::{Labels, Row, Writer, with};
use super::api::{BridgeInfo, PeerInfo, PeerState, PortInfo, PortState, StatsInfo, VtepState};
use crate::bridge::DropReason;

/// What [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes `stats` for Prometheus.
///
/// # Errors
/// None that could happen: writing into memory does not fail.
pub fn encode(stats: StatsInfo) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(stats)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The counters of one moment.
#[derive(Debug)]
struct Scrape(StatsInfo);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = &self.0;
        let mut out = Writer(encoder);
        switch(&mut out, stats)?;
        drops(&mut out, stats)?;
        ports(&mut out, &stats.ports)?;
        bridges(&mut out, &stats.bridges)?;
        peers(&mut out, &stats.peers)?;
        vtep(&mut out, stats)?;
        workers(&mut out, stats)
    }
}

fn switch(out: &mut Writer<'_>, stats: &StatsInfo) -> fmt::Result {
    let build = vec![
        ("version", Cow::from(&stats.version)),
        ("name", Cow::from(&stats.name)),
    ];
    out.gauge(
        "tapswitch_build_info",
        "Version and name of the switch.",
        [(build, 1)],
    )?;
    out.seconds(
        MetricType::Gauge,
        "tapswitch_start_time",
        "When the switch was started, since 1970.",
        [(Vec::new(), stats.started)],
    )?;
    let help = "Frames whose fate no counter tells; not 0 is a bug.";
    out.signed("tapswitch_unaccounted_frames", help, stats.unaccounted)
}

fn drops(out: &mut Writer<'_>, stats: &StatsInfo) -> fmt::Result {
    let of_ports = stats.ports.iter().flat_map(|port| {
        let place = port_labels(port);
        by_reason(&port.drops, &port.drops_in, &PORT_IN, &PORT_OUT, place)
    });
    let of_peers = stats.peers.iter().flat_map(|peer| {
        let mut place = peer_labels(peer);
        place.retain(|(label, _)| *label != "vni");
        by_reason(&peer.drops, &peer.drops_in, &PEER_IN, &PEER_OUT, place)
    });
    let of_vtep = stats
        .vtep
        .iter()
        .flat_map(|vtep| by_reason(&vtep.drops, &vtep.drops_in, &VTEP_IN, &[], Vec::new()));
    out.counter(
        "tapswitch_drops",
        "Frames lost, by reason and where.",
        of_ports.chain(of_peers).chain(of_vtep),
    )
}

/// Both directions; the reasons that are to be expected are there before they happen.
fn by_reason<'a>(
    all: &'a BTreeMap<String, u64>,
    incoming: &'a BTreeMap<String, u64>,
    expected_in: &'a [&'a str],
    expected_out: &'a [&'a str],
    place: Labels<'a>,
) -> Vec<Row<'a, u64>> {
    let mut rows = Vec::new();
    let mut add =
        |direction: &'static str, expected: &'a [&'a str], count: &dyn Fn(&str) -> u64| {
            let known = all
                .keys()
                .map(String::as_str)
                .filter(|&reason| count(reason) > 0);
            let reasons: BTreeSet<&str> = known.chain(expected.iter().copied()).collect();
            for reason in reasons {
                let mut labels = place.clone();
                labels.push(("direction", direction.into()));
                labels.push(("reason", reason.into()));
                rows.push((labels, count(reason)));
            }
        };
    let count_in = |reason: &str| incoming.get(reason).copied().unwrap_or(0);
    let count_out = |reason: &str| {
        let all = all.get(reason).copied().unwrap_or(0);
        all.saturating_sub(count_in(reason))
    };
    add("receive", expected_in, &count_in);
    add("transmit", expected_out, &count_out);
    rows
}

fn ports(out: &mut Writer<'_>, ports: &[PortInfo]) -> fmt::Result {
    let rows = |value: fn(&PortInfo) -> u64| {
        ports
            .iter()
            .map(move |port| (port_labels(port), value(port)))
    };
    out.traffic(
        "tapswitch_port",
        "from the namespace into the switch",
        "from the switch into the namespace",
        [
            &mut rows(|port| port.rx.frames),
            &mut rows(|port| port.rx.bytes),
            &mut rows(|port| port.tx.frames),
            &mut rows(|port| port.tx.bytes),
        ],
    )?;
    let mtu = rows(|port| port.mtu.into());
    out.bytes("tapswitch_port_mtu", "The MTU in force.", mtu)?;
    let states = [
        (PortState::Up, "up"),
        (PortState::Down, "down"),
        (PortState::Gone, "gone"),
    ];
    let rows = ports.iter().flat_map(|port| {
        let labels = port_labels(port);
        states.map(|(state, name)| (with(&labels, "state", name), u64::from(port.state == state)))
    });
    out.gauge(
        "tapswitch_port_state",
        "1 for the state that it is in.",
        rows,
    )
}

fn bridges(out: &mut Writer<'_>, bridges: &[BridgeInfo]) -> fmt::Result {
    fn rows<'a>(
        bridges: &'a [BridgeInfo],
        value: impl Fn(&BridgeInfo) -> u64 + 'a,
    ) -> impl Iterator<Item = Row<'a, u64>> {
        bridges.iter().map(move |bridge| {
            let labels = vec![("bridge", bridge.spec.name.as_str().into())];
            (labels, value(bridge))
        })
    }
    let help = "The MTU of ports that name none.";
    let mtu = rows(bridges, |bridge| bridge.effective_mtu.into());
    out.bytes("tapswitch_bridge_mtu", help, mtu)?;
    let count = rows(bridges, |bridge| bridge.ports.len() as u64);
    out.gauge("tapswitch_bridge_ports", "Ports.", count)?;
    let help = "Entries of all kinds in the forwarding database.";
    let entries = rows(bridges, |bridge| bridge.fdb_entries as u64);
    out.gauge("tapswitch_fdb_entries", help, entries)?;
    let help = "Learned entries in the forwarding database.";
    let learned = rows(bridges, |bridge| bridge.fdb_learned as u64);
    out.gauge("tapswitch_fdb_learned_entries", help, learned)?;
    let help = "The most learned entries at one time.";
    let limit = rows(bridges, |bridge| bridge.spec.fdb_limit.into());
    out.gauge("tapswitch_fdb_limit_entries", help, limit)?;
    for (name, help) in FDB_COUNTERS {
        let count = rows(bridges, |bridge| {
            bridge.fdb_counters.get(name).copied().unwrap_or(0)
        });
        out.counter(&format!("tapswitch_fdb_{name}"), help, count)?;
    }
    Ok(())
}

fn peers(out: &mut Writer<'_>, peers: &[PeerInfo]) -> fmt::Result {
    let rows = |value: fn(&PeerInfo) -> u64| {
        peers
            .iter()
            .map(move |peer| (peer_labels(peer), value(peer)))
    };
    out.traffic(
        "tapswitch_peer",
        "from the remote VTEP",
        "to the remote VTEP",
        [
            &mut rows(|peer| peer.rx.frames),
            &mut rows(|peer| peer.rx.bytes),
            &mut rows(|peer| peer.tx.frames),
            &mut rows(|peer| peer.tx.bytes),
        ],
    )?;
    let name = "tapswitch_peer_reserved_bits_frames";
    let help = "Frames with reserved bits of the VXLAN header set, which lost them nothing.";
    let reserved = rows(|peer| peer.reserved_bits_ignored);
    out.counter(name, help, reserved)?;
    let path = rows(|peer| peer.path_mtu.into());
    out.bytes(
        "tapswitch_peer_path_mtu",
        "The MTU of the path to it.",
        path,
    )?;
    let states = [
        (PeerState::Up, "up"),
        (PeerState::NoRoute, "no-route"),
        (PeerState::Down, "down"),
    ];
    let state = peers.iter().flat_map(|peer| {
        let labels = peer_labels(peer);
        states.map(|(state, name)| (with(&labels, "state", name), u64::from(peer.state == state)))
    });
    out.gauge(
        "tapswitch_peer_state",
        "1 for the state that it is in.",
        state,
    )?;
    let entries = rows(|peer| peer.fdb_entries as u64);
    let help = "Entries of the forwarding database that point to it.";
    out.gauge("tapswitch_peer_fdb_entries", help, entries)
}

fn vtep(out: &mut Writer<'_>, stats: &StatsInfo) -> fmt::Result {
    let Some(vtep) = &stats.vtep else {
        return Ok(());
    };
    let one = |value: u64| [(Vec::new(), value)];
    let up = u64::from(vtep.state == VtepState::Up);
    let help = "Whether the VXLAN endpoint has its sockets.";
    out.gauge("tapswitch_vtep_up", help, one(up))?;
    let help = "Datagrams that belong to no peer.";
    out.counter("tapswitch_vtep_stray_frames", help, one(vtep.rx.frames))?;
    let help = "Bytes of datagrams that belong to no peer.";
    out.counter("tapswitch_vtep_stray_bytes", help, one(vtep.rx.bytes))?;
    let help = "Datagrams that the socket's receive buffer had no room for.";
    let overflow = one(vtep.socket_overflow);
    out.counter("tapswitch_vtep_socket_overflow", help, overflow)
}

fn workers(out: &mut Writer<'_>, stats: &StatsInfo) -> fmt::Result {
    let workers = || stats.workers.iter().enumerate();
    let labels = |index: usize| vec![("worker", Cow::from(index.to_string()))];
    let calls = workers().flat_map(|(index, worker)| {
        let calls = [
            ("wait", worker.waits),
            ("yield", worker.yields),
            ("rest", worker.rests),
            ("read", worker.reads),
            ("write", worker.writes),
            ("receive", worker.receives),
            ("send", worker.sends),
        ];
        calls.map(|(call, count)| (with(&labels(index), "call", call), count))
    });
    out.counter(
        "tapswitch_worker_syscalls",
        "System calls, by what for.",
        calls,
    )?;
    let cpu = workers().map(|(index, worker)| (labels(index), worker.cpu_s));
    let help = "CPU time, looking for frames included.";
    out.seconds(MetricType::Counter, "tapswitch_worker_cpu", help, cpu)
}

fn port_labels(port: &PortInfo) -> Labels<'_> {
    vec![
        ("bridge", port.bridge.as_str().into()),
        ("port", port.name.as_str().into()),
    ]
}

fn peer_labels(peer: &PeerInfo) -> Labels<'_> {
    vec![
        ("bridge", peer.bridge.as_str().into()),
        ("vni", peer.vni.to_string().into()),
        ("peer", peer.remote.as_str().into()),
    ]
}

const FDB_COUNTERS: [(&str, &str); 7] = [
    ("learned", "Addresses learned."),
    ("moved", "Times that an address moved."),
    ("aged", "Entries that aged out."),
    ("refused_full", "Addresses not learned for want of room."),
    ("evicted", "Entries that made room for another."),
    (
        "static_violation",
        "Frames with the source of a static or local entry elsewhere.",
    ),
    ("frozen", "Times that an address was held where it is."),
];

/// What frames from a port can be lost for.
const PORT_IN: [&str; 12] = [
    DropReason::Truncated.name(),
    DropReason::BadOffload.name(),
    DropReason::PortDown.name(),
    DropReason::SrcGroup.name(),
    DropReason::SrcZero.name(),
    DropReason::ReservedAddress.name(),
    DropReason::Locked.name(),
    DropReason::SamePort.name(),
    DropReason::Isolated.name(),
    DropReason::FloodDisabled.name(),
    DropReason::NoEgress.name(),
    "tap_queue",
];

/// What frames for a port can be lost for.
const PORT_OUT: [&str; 5] = [
    DropReason::EgressDown.name(),
    DropReason::TooBig.name(),
    DropReason::EgressFull.name(),
    DropReason::EgressGone.name(),
    DropReason::EgressRefused.name(),
];

/// What frames from a listed peer are most often lost for.
const PEER_IN: [&str; 5] = [
    DropReason::SplitHorizon.name(),
    DropReason::PinnedSource.name(),
    DropReason::NoEgress.name(),
    DropReason::ReservedBits.name(),
    DropReason::Ecn.name(),
];

/// What frames for a peer can be lost for.
const PEER_OUT: [&str; 4] = [
    DropReason::TooBig.name(),
    DropReason::EgressFull.name(),
    DropReason::NoRoute.name(),
    DropReason::EgressRefused.name(),
];

/// What datagrams of nobody are dropped for.
const VTEP_IN: [&str; 5] = [
    DropReason::VxlanRunt.name(),
    DropReason::NoVni.name(),
    DropReason::UnknownVni.name(),
    DropReason::UnknownPeer.name(),
    DropReason::OwnPacket.name(),
];
