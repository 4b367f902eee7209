//! Counters, read twice.

use std::{collections::HashMap, net::SocketAddr};

use super::super::{overlay::VtepState, state::State, switch::Inner};
use crate::{
    bridge::DropReason,
    datapath::Totals,
    doctor::{Count, Facts, Loss},
    names::Name,
};

/// All counters at one moment.
pub(super) struct Sample {
    ports: HashMap<Name, Totals>,
    peers: HashMap<(Name, SocketAddr), Totals>,
    vtep: Option<Totals>,
    overflow: u64,
    refused: HashMap<Name, u64>,
    pub(super) unaccounted: i64,
}

impl Sample {
    pub(super) fn take(inner: &Inner, state: &State) -> Self {
        let overflow = state.vtep.as_ref().and_then(VtepState::underlay);
        let mut sample = inner.workers.hold(|| Self {
            ports: state
                .ports
                .iter()
                .map(|port| (port.spec.name.clone(), port.counters.totals()))
                .collect(),
            peers: state
                .peers
                .iter()
                .map(|peer| ((peer.bridge.clone(), peer.to), peer.counters.totals()))
                .collect(),
            vtep: state.vtep.as_ref().map(|vtep| vtep.counters.totals()),
            overflow: overflow.map_or(0, |underlay| underlay.overflow()),
            refused: HashMap::new(),
            unaccounted: 0,
        });
        let ports = sample.ports.values().chain(sample.peers.values());
        let all = ports.chain(&sample.vtep);
        sample.unaccounted = all.map(Totals::unaccounted).sum();
        for bridge in &state.bridges {
            let counters = bridge.fdb.counters();
            let refused = counters.refused_full + counters.evicted;
            sample.refused.insert(bridge.spec.name.clone(), refused);
        }
        sample
    }

    /// Writes what has become of the counters since `first`.
    pub(super) fn since(&self, first: &Self, facts: &mut Facts) {
        for port in &mut facts.ports {
            let name = &port.spec.name;
            let (old, new) = (first.ports.get(name), self.ports.get(name));
            port.rx = received(old, new);
            port.losses = losses(old, new);
        }
        for peer in &mut facts.peers {
            let key = (peer.bridge.clone(), peer.to);
            let (old, new) = (first.peers.get(&key), self.peers.get(&key));
            peer.rx = received(old, new);
            peer.losses = losses(old, new);
        }
        if let Some(vtep) = &mut facts.vtep {
            vtep.losses = losses(first.vtep.as_ref(), self.vtep.as_ref());
            vtep.overflow = count(first.overflow, self.overflow);
        }
    }

    /// How many addresses `bridge` has refused, now that they are `total`.
    pub(super) fn refused(&self, bridge: &Name, total: u64) -> Count {
        count(self.refused.get(bridge).copied().unwrap_or(0), total)
    }
}

fn count(old: u64, new: u64) -> Count {
    Count {
        total: new,
        grown: new.saturating_sub(old),
    }
}

fn received(old: Option<&Totals>, new: Option<&Totals>) -> Count {
    let frames = |totals: Option<&Totals>| totals.map_or(0, |totals| totals.rx_frames);
    count(frames(old), frames(new))
}

fn losses(old: Option<&Totals>, new: Option<&Totals>) -> Vec<Loss> {
    let drops = |totals: Option<&Totals>, reason| totals.map_or(0, |totals| totals.drops(reason));
    let losses = DropReason::ALL.iter().map(|&reason| Loss {
        reason: reason.name(),
        text: reason.explain(),
        count: count(drops(old, reason), drops(new, reason)),
    });
    losses.filter(|loss| loss.count.total > 0).collect()
}
