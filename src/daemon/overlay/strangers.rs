//! VTEPs that send without being peers, where any may.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use super::{PeerState, VtepState};
use crate::{
    config::{Accept, BridgeSpec},
    daemon::{
        state::{BridgeState, State},
        switch::Inner,
    },
    datapath::Stranger,
    names::Name,
    time::Timestamp,
};

impl Inner {
    /// VTEPs that are no peers have sent something to bridges that take it from anybody.
    pub(in crate::daemon) fn meet(&self, state: &mut State, strangers: &[Stranger]) {
        let accepts = |vtep: &VtepState| vtep.spec.accept == Accept::Any;
        if !state.vtep.as_ref().is_some_and(accepts) {
            return;
        }
        let now = self.clock.now();
        let before = state.strangers.len();
        for stranger in strangers {
            let of_vni = |bridge: &&BridgeState| bridge.spec.vni == Some(stranger.vni);
            let Some(bridge) = state.bridges.iter().find(of_vni) else {
                continue;
            };
            let name = &bridge.spec.name;
            let is_known = |peer: &PeerState| peer.bridge == *name && peer.to.ip() == stranger.from;
            let of_bridge = || state.strangers.iter().filter(|met| met.bridge == *name);
            if state.peers.iter().any(is_known)
                || of_bridge().any(|met| met.ip == stranger.from)
                || of_bridge().count() >= MOST_STRANGERS
            {
                continue;
            }
            let (bridge, ip) = (name.clone(), stranger.from);
            state.strangers.push(Met {
                bridge,
                ip,
                used_at: now,
            });
        }
        if state.strangers.len() > before {
            self.reconcile(state);
        }
    }

    /// Forgets VTEPs that nobody listed and that nothing has been behind for as long as a bridge
    /// remembers addresses: others decide how many there are.
    pub(in crate::daemon) fn forget_strangers(&self, state: &mut State, now: Timestamp) {
        let State {
            strangers,
            bridges,
            peers,
            ..
        } = state;
        if strangers.is_empty() {
            return;
        }
        let mut used = HashSet::new();
        for bridge in &*bridges {
            let entries = bridge.fdb.entries();
            used.extend(entries.iter().filter_map(|(_, entry)| entry.egress.peer()));
        }
        let used: HashSet<(&Name, IpAddr)> = peers
            .iter()
            .filter(|peer| used.contains(&peer.id))
            .map(|peer| (&peer.bridge, peer.to.ip()))
            .collect();
        let before = strangers.len();
        strangers.retain_mut(|met| {
            if used.contains(&(&met.bridge, met.ip)) {
                met.used_at = now;
            }
            let bridge = bridges.iter().find(|bridge| bridge.spec.name == met.bridge);
            bridge.is_some_and(|bridge| now.since(met.used_at) < patience(&bridge.spec))
        });
        if strangers.len() < before {
            self.reconcile(state);
        }
    }
}

/// A VTEP that has sent without being a peer.
#[derive(Debug)]
pub(in crate::daemon) struct Met {
    pub(in crate::daemon) bridge: Name,
    pub(in crate::daemon) ip: IpAddr,
    /// When there was last an FDB entry that pointed to it, or else when it was met.
    pub(in crate::daemon) used_at: Timestamp,
}

/// How long a stranger may be there for nothing: the ageing time, also where nothing is learned.
fn patience(spec: &BridgeSpec) -> Duration {
    match spec.ageing {
        Duration::ZERO => BridgeSpec::DEFAULT_AGEING,
        ageing => ageing,
    }
}

/// Learned peers of one bridge: a bound for what others can make the process remember.
const MOST_STRANGERS: usize = 1024;
