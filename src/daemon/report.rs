//! The state of the switch, told.

use std::collections::BTreeMap;

use super::{
    state::{BridgeState, Link, PortState, State},
    switch::Inner,
};
use crate::{
    attach,
    bridge::DropReason,
    control::api::{ApiError, BridgeInfo, PortInfo, ShowInfo, StatsInfo, TrafficInfo},
    datapath::{PortIo, Totals},
    names::{Name, NetnsRef},
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
                .zip(&totals)
                .map(|(port, totals)| port_info(port, totals))
                .collect(),
            vtep: None,
            peers: Vec::new(),
            unaccounted: unaccounted(&totals),
        }
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
        if let Some(name) = name {
            state.known_port(operation, name)?;
        }
        refresh(self, state, usize::MAX);
        let totals = self.totals(state);
        let wanted = state
            .ports
            .iter()
            .zip(&totals)
            .filter(|(port, _)| name.is_none_or(|name| *name == port.spec.name));
        Ok(StatsInfo {
            ports: wanted
                .map(|(port, totals)| port_info(port, totals))
                .collect(),
            peers: Vec::new(),
            vtep: None,
            unaccounted: unaccounted(&totals),
        })
    }

    /// The counters of all ports, read while no worker counts: they belong together.
    fn totals(&self, state: &State) -> Vec<Totals> {
        self.workers.hold(|| {
            state
                .ports
                .iter()
                .map(|port| port.counters.totals())
                .collect()
        })
    }
}

fn unaccounted(totals: &[Totals]) -> i64 {
    totals.iter().map(Totals::unaccounted).sum()
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
        effective_mtu: bridge.spec.effective_mtu(),
        mtu_chain: None,
        peer_count: 0,
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
        Link::Plugged(_) if !flags.last().is_some_and(|(_, up)| *up) => Some("set down".to_owned()),
        Link::Plugged(plugged) if plugged.down_inside => {
            Some("its interface is down inside the namespace".to_owned())
        }
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
        drops: drops(port, totals),
    }
}

fn drops(port: &PortState, totals: &Totals) -> BTreeMap<String, u64> {
    let by_reason = DropReason::ALL
        .iter()
        .map(|&reason| (reason.name(), totals.drops(reason)));
    // Lost before the switch could read them, so not among the frames received.
    let all = by_reason.chain([(TAP_QUEUE, port.queue_drops)]);
    all.filter(|&(_, count)| count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// Looks into the namespaces of at most `limit` ports, those looked at longest ago first: somebody
/// there may have changed the MTU or set the link down, and the kernel counts what its queue lost.
pub(super) fn refresh(inner: &Inner, state: &mut State, limit: usize) {
    let mut changed = false;
    let count = state.ports.len();
    for _ in 0..limit.min(count) {
        state.refreshed = (state.refreshed + 1) % count;
        let port = &mut state.ports[state.refreshed];
        let Link::Plugged(plugged) = &mut port.link else {
            continue;
        };
        // A namespace that is just going away is noticed elsewhere.
        let Ok(link) = attach::link_of(plugged.io.device()) else {
            continue;
        };
        port.queue_drops = link.stats.tx_dropped;
        plugged.down_inside = !link.admin_up;
        plugged.ifindex = link.index;
        if link.mtu != port.mtu {
            port.mtu = link.mtu;
            inner.events.mtu(&port.spec.name, link.mtu);
            changed = true;
        }
    }
    if changed {
        inner.publish(state);
    }
}

/// The key of frames that the TAP's own queue dropped (`tx_dropped` of the interface).
const TAP_QUEUE: &str = "tap_queue";
