//! The state of the switch, told.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    overlay::{PeerState, VtepLink, VtepState},
    state::{BridgeState, Link, PortState, State},
    switch::Inner,
};
use crate::{
    attach,
    bridge::{DropReason, PeerId},
    control::api::{
        ApiError, BridgeInfo, PeerInfo, PeerState as PeerCondition, PortInfo, ShowInfo, StatsInfo,
        TrafficInfo, VtepInfo, VtepState as Reachable, WorkerInfo,
    },
    datapath::{Calls, PortIo, Totals},
    names::{Name, NetnsRef},
    netlink::LinkState,
    sys::clock,
    time::Timestamp,
    vxlan,
};

impl Inner {
    pub(super) fn show(&self, state: &mut State) -> ShowInfo {
        refresh(self, state, usize::MAX);
        let totals = self.totals(state);
        ShowInfo {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            workers: self.workers.len(),
            bridges: state
                .bridges
                .iter()
                .map(|bridge| bridge_info(state, bridge))
                .collect(),
            ports: state
                .ports
                .iter()
                .zip(&totals.ports)
                .map(|(port, totals)| port_info(port, totals))
                .collect(),
            vtep: self.show_vtep(state),
            peers: totals.peer_infos(state, |_| true),
            unaccounted: totals.unaccounted(),
        }
    }

    pub(super) fn show_vtep(&self, state: &State) -> Option<VtepInfo> {
        let vtep = state.vtep.as_ref()?;
        let totals = self.workers.hold(|| vtep.counters.totals());
        Some(vtep_info(vtep, &totals))
    }

    pub(super) fn show_peers(
        &self,
        state: &State,
        bridge: Option<&Name>,
    ) -> Result<Vec<PeerInfo>, ApiError> {
        if let Some(bridge) = bridge {
            state.known_bridge("show peer", bridge)?;
        }
        let totals = self.totals(state);
        Ok(totals.peer_infos(state, |peer| {
            bridge.is_none_or(|bridge| *bridge == peer.bridge)
        }))
    }

    pub(super) fn show_bridges(
        &self,
        state: &State,
        name: Option<&Name>,
    ) -> Result<Vec<BridgeInfo>, ApiError> {
        if let Some(name) = name {
            state.known_bridge("show bridge", name)?;
        }
        let wanted = state
            .bridges
            .iter()
            .filter(|bridge| name.is_none_or(|name| *name == bridge.spec.name));
        Ok(wanted.map(|bridge| bridge_info(state, bridge)).collect())
    }

    pub(super) fn show_ports(
        &self,
        state: &mut State,
        name: Option<&Name>,
    ) -> Result<Vec<PortInfo>, ApiError> {
        Ok(self.stats_of("show port", state, name)?.ports)
    }

    pub(super) fn stats(
        &self,
        state: &mut State,
        name: Option<&Name>,
    ) -> Result<StatsInfo, ApiError> {
        self.stats_of("stats", state, name)
    }

    fn stats_of(
        &self,
        operation: &str,
        state: &mut State,
        name: Option<&Name>,
    ) -> Result<StatsInfo, ApiError> {
        let Some(name) = name else {
            refresh(self, state, usize::MAX);
            return Ok(self.counters(state));
        };
        state.known_port(operation, name)?;
        // Of this one only: with a thousand ports the others take a thousand times as long.
        let is_it = |port: &PortState| port.spec.name == *name;
        let index = state.ports.iter().position(is_it);
        refresh_these(self, state, index.into_iter().collect());
        let totals = self.totals(state);
        let ports = state.ports.iter().zip(&totals.ports);
        let its = ports.filter(|(port, _)| is_it(port));
        Ok(StatsInfo {
            ports: its.map(|(port, totals)| port_info(port, totals)).collect(),
            ..self.stats_head(&totals)
        })
    }

    /// All counters, without a look into namespaces.
    pub(super) fn counters(&self, state: &State) -> StatsInfo {
        let totals = self.totals(state);
        let bridges = state.bridges.iter();
        let ports = state.ports.iter().zip(&totals.ports);
        let workers = self.workers.calls().zip(self.workers.cpu_times());
        let vtep = state.vtep.as_ref().zip(totals.vtep.as_ref());
        StatsInfo {
            bridges: bridges.map(|bridge| bridge_info(state, bridge)).collect(),
            ports: ports
                .map(|(port, totals)| port_info(port, totals))
                .collect(),
            peers: totals.peer_infos(state, |_| true),
            vtep: vtep.map(|(vtep, totals)| vtep_info(vtep, totals)),
            workers: workers
                .map(|(calls, cpu)| worker_info(calls, cpu))
                .collect(),
            ..self.stats_head(&totals)
        }
    }

    /// What is true of the whole switch.
    fn stats_head(&self, totals: &AllTotals) -> StatsInfo {
        StatsInfo {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.1,
            uptime_s: totals.at.since(self.started.0).as_secs_f64(),
            unaccounted: totals.unaccounted(),
            bridges: Vec::new(),
            ports: Vec::new(),
            peers: Vec::new(),
            vtep: None,
            workers: Vec::new(),
        }
    }

    /// All counters, read while no worker counts: they belong together.
    fn totals(&self, state: &State) -> AllTotals {
        let ports = || state.ports.iter().map(|port| port.counters.totals());
        let peers = || state.peers.iter().map(|peer| peer.counters.totals());
        let vtep = || state.vtep.as_ref().map(|vtep| vtep.counters.totals());
        self.workers.hold(|| AllTotals {
            at: clock::now(),
            ports: ports().collect(),
            peers: peers().collect(),
            vtep: vtep(),
        })
    }
}

/// The counters of the whole switch at one moment, in the order of its state.
struct AllTotals {
    at: Timestamp,
    ports: Vec<Totals>,
    peers: Vec<Totals>,
    vtep: Option<Totals>,
}

impl AllTotals {
    fn unaccounted(&self) -> i64 {
        let all = self.ports.iter().chain(&self.peers).chain(&self.vtep);
        all.map(Totals::unaccounted).sum()
    }

    fn peer_infos(&self, state: &State, wanted: impl Fn(&PeerState) -> bool) -> Vec<PeerInfo> {
        // Nobody to count the entries of, of which there may be a million.
        if state.peers.is_empty() {
            return Vec::new();
        }
        let mut entries: HashMap<PeerId, usize> = HashMap::new();
        for (_, entry) in state.bridges.iter().flat_map(|bridge| bridge.fdb.entries()) {
            if let Some(peer) = entry.egress.peer() {
                *entries.entry(peer).or_default() += 1;
            }
        }
        let mut rows: Vec<PeerInfo> = state
            .peers
            .iter()
            .zip(&self.peers)
            .filter(|(peer, _)| wanted(peer))
            .map(|(peer, totals)| {
                let entries = entries.get(&peer.id).copied().unwrap_or(0);
                peer_info(state, peer, totals, entries)
            })
            .collect();
        let order = |bridge: &Name| state.bridges.iter().position(|b| b.spec.name == *bridge);
        rows.sort_by_cached_key(|row| (order(&row.bridge), row.remote.clone()));
        rows
    }
}

fn vtep_info(vtep: &VtepState, totals: &Totals) -> VtepInfo {
    let underlay = vtep.underlay();
    let (state, reason) = match &vtep.link {
        VtepLink::Open(_) => (Reachable::Up, None),
        VtepLink::Closed(reason) => (Reachable::Down, Some(reason.clone())),
    };
    VtepInfo {
        spec: vtep.spec.clone(),
        source_ports: underlay.map(|u| u.source_ports()).unwrap_or_default(),
        offloads: underlay.map_or_else(|| "none".to_owned(), |u| u.offloads()),
        state,
        reason,
        rx: TrafficInfo {
            frames: totals.rx_frames,
            bytes: totals.rx_bytes,
        },
        drops: drops(totals),
        drops_in: drops_in(totals),
        socket_overflow: underlay.map_or(0, |u| u.overflow()),
    }
}

fn peer_info(state: &State, peer: &PeerState, totals: &Totals, fdb_entries: usize) -> PeerInfo {
    let path_mtu = peer.path.get();
    let (condition, reason) = match state.vtep.as_ref().map(|vtep| &vtep.link) {
        Some(VtepLink::Open(_)) if peer.no_route.is_none() => (PeerCondition::Up, None),
        Some(VtepLink::Open(_)) => (PeerCondition::NoRoute, peer.no_route.clone()),
        Some(VtepLink::Closed(reason)) => (PeerCondition::Down, Some(reason.clone())),
        None => (PeerCondition::Down, None),
    };
    PeerInfo {
        bridge: peer.bridge.clone(),
        vni: peer.vni,
        remote: peer.to.ip().to_string(),
        port: peer.to.port(),
        kind: peer.kind,
        mtu: path_mtu.saturating_sub(vxlan::overhead(peer.to.is_ipv6())),
        path_mtu,
        state: condition,
        reason,
        rx: TrafficInfo {
            frames: totals.rx_frames,
            bytes: totals.rx_bytes,
        },
        tx: TrafficInfo {
            frames: totals.tx_frames,
            bytes: totals.tx_bytes,
        },
        drops: drops(totals),
        drops_in: drops_in(totals),
        reserved_bits_ignored: totals.reserved_bits,
        fdb_entries,
    }
}

/// Those that have happened.
fn drops(totals: &Totals) -> BTreeMap<String, u64> {
    by_reason(|reason| totals.drops(reason))
}

/// Those of them that were on their way in.
fn drops_in(totals: &Totals) -> BTreeMap<String, u64> {
    by_reason(|reason| totals.ingress_drops[reason.index()])
}

fn by_reason(count: impl Fn(DropReason) -> u64) -> BTreeMap<String, u64> {
    DropReason::ALL
        .iter()
        .map(|&reason| (reason.name().to_owned(), count(reason)))
        .filter(|&(_, count)| count > 0)
        .collect()
}

fn bridge_info(state: &State, bridge: &BridgeState) -> BridgeInfo {
    let counters = bridge.fdb.counters();
    let named = [
        ("learned", counters.learned),
        ("moved", counters.moved),
        ("aged", counters.aged),
        ("refused_full", counters.refused_full),
        ("evicted", counters.evicted),
        ("static_violation", counters.static_violation),
        ("frozen", counters.frozen),
    ];
    let ports = state
        .ports
        .iter()
        .filter(|port| port.spec.bridge == bridge.spec.name);
    BridgeInfo {
        spec: bridge.spec.clone(),
        effective_mtu: bridge.mtu(),
        mtu_chain: bridge
            .mtu_chain
            .clone()
            .filter(|_| bridge.spec.mtu.is_none()),
        peer_count: state
            .peers
            .iter()
            .filter(|peer| peer.bridge == bridge.spec.name)
            .count(),
        ports: ports.map(|port| port.spec.name.clone()).collect(),
        fdb_entries: bridge.fdb.len(),
        fdb_learned: usize::try_from(bridge.fdb.learned()).unwrap_or(usize::MAX),
        fdb_counters: named.map(|(name, count)| (name.to_owned(), count)).into(),
    }
}

fn port_info(port: &PortState, totals: &Totals) -> PortInfo {
    let plugged = port.plugged();
    let flags = &port.spec.flags;
    let flags = [
        ("learning", flags.learning),
        ("flood", flags.flood),
        ("mcast_flood", flags.mcast_flood),
        ("bcast_flood", flags.bcast_flood),
        ("isolated", flags.isolated),
        ("hairpin", flags.hairpin),
        ("locked", flags.locked),
        ("up", flags.up),
    ];
    let reason = match &port.link {
        Link::Gone(gone) => Some(gone.reason.clone()),
        Link::Plugged(_) if !flags.last().is_some_and(|(_, up)| *up) => Some(SET_DOWN.to_owned()),
        Link::Plugged(plugged) if plugged.down_inside => Some(DOWN_INSIDE.to_owned()),
        Link::Plugged(_) => None,
    };
    PortInfo {
        name: port.spec.name.clone(),
        bridge: port.spec.bridge.clone(),
        netns: port.spec.netns.as_ref().map(NetnsRef::to_string),
        netns_inode: plugged.map(|plugged| plugged.netns.ino),
        ifname: port.spec.effective_ifname().to_string(),
        ifindex: plugged.map(|plugged| plugged.ifindex),
        mac: port.mac,
        mtu: port.mtu,
        addresses: port
            .spec
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect(),
        state: port.condition(),
        reason,
        flags: flags.map(|(name, value)| (name.to_owned(), value)).into(),
        offload: port.spec.offload,
        offloads: plugged
            .map(|plugged| plugged.io.offloads().to_string())
            .unwrap_or_default(),
        rx: TrafficInfo {
            frames: totals.rx_frames,
            bytes: totals.rx_bytes,
        },
        tx: TrafficInfo {
            frames: totals.tx_frames,
            bytes: totals.tx_bytes,
        },
        drops: with_queue(drops(totals), port),
        drops_in: with_queue(drops_in(totals), port),
    }
}

/// What was lost before the switch could read it is not among the frames received.
fn with_queue(mut drops: BTreeMap<String, u64>, port: &PortState) -> BTreeMap<String, u64> {
    if port.queue_drops > 0 {
        drops.insert(TAP_QUEUE.to_owned(), port.queue_drops);
    }
    drops
}

/// Looks into the namespaces of at most `limit` ports, those looked at longest ago first: somebody
/// there may have changed the MTU or set the link down, and the kernel counts what its queue lost.
pub(super) fn refresh(inner: &Inner, state: &mut State, limit: usize) {
    let count = state.ports.len();
    let turns = 1..=limit.min(count);
    let due: Vec<usize> = turns.map(|turn| (state.refreshed + turn) % count).collect();
    state.refreshed = due.last().copied().unwrap_or_default();
    refresh_these(inner, state, due);
}

fn refresh_these(inner: &Inner, state: &mut State, mut due: Vec<usize>) {
    due.retain(|&index| state.ports[index].plugged().is_some());
    let plugged = due.iter().filter_map(|&index| state.ports[index].plugged());
    let devices: Vec<_> = plugged.map(|plugged| plugged.io.device()).collect();
    if devices.is_empty() {
        return;
    }
    let links = match attach::links_of(&devices) {
        Ok(links) => links,
        Err(error) => return tracing::warn!("look into namespaces: {error}"),
    };
    let mut changed = false;
    for (index, link) in due.into_iter().zip(links) {
        // A namespace that is just going away is noticed elsewhere.
        if let Ok(link) = link {
            changed |= take_note(inner, &mut state.ports[index], &link);
        }
    }
    if changed {
        inner.publish(state);
    }
}

/// Whether the workers must know of what was found.
fn take_note(inner: &Inner, port: &mut PortState, link: &LinkState) -> bool {
    let Link::Plugged(plugged) = &mut port.link else {
        return false;
    };
    port.queue_drops = link.stats.tx_dropped;
    plugged.ifindex = link.index;
    if std::mem::replace(&mut plugged.down_inside, !link.admin_up) == link.admin_up
        && port.spec.flags.up
    {
        match link.admin_up {
            true => inner.events.port(port, "up", None),
            false => inner.events.port(port, "down", Some(DOWN_INSIDE)),
        }
    }
    if link.mtu == port.mtu {
        return false;
    }
    port.mtu = link.mtu;
    inner.events.mtu(&port.spec.name, link.mtu);
    true
}

/// Why a port is down.
pub(super) const SET_DOWN: &str = "set down";
const DOWN_INSIDE: &str = "its interface is down inside the namespace";

/// The key of frames that the TAP's own queue dropped (`tx_dropped` of the interface).
pub(super) const TAP_QUEUE: &str = "tap_queue";

fn worker_info(calls: &Calls, cpu: Duration) -> WorkerInfo {
    let mut info = WorkerInfo {
        waits: calls.waits.get(),
        yields: calls.yields.get(),
        rests: calls.rests.get(),
        reads: calls.reads.get(),
        writes: calls.writes.get(),
        receives: calls.receives.get(),
        sends: calls.sends.get(),
        syscalls: 0,
        cpu_s: cpu.as_secs_f64(),
    };
    info.syscalls = info.waits
        + info.yields
        + info.rests
        + info.reads
        + info.writes
        + info.receives
        + info.sends;
    info
}
