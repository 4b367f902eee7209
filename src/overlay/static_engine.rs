//! The engine that knows what the settings say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Change, Engine, Local};
use crate::{
    config::{PeerAddr, SwitchSpec},
    wire::{MacAddr, Vni},
};

/// Peers and static entries of the settings. There is no queue: what is told is the difference
/// between what shall be and what has been told.
#[derive(Debug, Default)]
pub struct StaticEngine {
    told: Settings,
    wanted: Settings,
}

#[derive(Clone, Debug, Default)]
struct Settings {
    flood: BTreeSet<(Vni, PeerAddr)>,
    macs: BTreeMap<(Vni, MacAddr, u16), PeerAddr>,
}

impl StaticEngine {
    /// An engine that knows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `spec` holds; what differs comes with the next [`Engine::poll`].
    pub fn set(&mut self, spec: &SwitchSpec) {
        let carried = spec.bridges.iter();
        let carried = carried.filter_map(|bridge| Some((&bridge.name, (bridge.vni?, bridge))));
        let carried: HashMap<_, _> = carried.collect();
        let flood = carried.values().flat_map(|&(vni, bridge)| {
            let peers = bridge.peers.iter();
            peers.map(move |&peer| (vni, peer))
        });
        let macs = spec.fdb.iter().filter_map(|entry| {
            let &(vni, _) = carried.get(&entry.bridge)?;
            Some(((vni, entry.mac, entry.vlan), entry.place.peer()?))
        });
        self.wanted = Settings {
            flood: flood.collect(),
            macs: macs.collect(),
        };
    }
}

impl Engine for StaticEngine {
    fn name(&self) -> &'static str {
        "static"
    }

    fn local(&mut self, event: &Local) {
        if let Local::VniUp { vni } = event {
            self.told.flood.retain(|(told, _)| told != vni);
            self.told.macs.retain(|(told, ..), _| told != vni);
        }
    }

    fn poll(&mut self) -> Vec<Change> {
        let told = std::mem::replace(&mut self.told, self.wanted.clone());
        let wanted = &self.wanted;
        let gone = told
            .macs
            .keys()
            .filter(|key| !wanted.macs.contains_key(key));
        let mut changes: Vec<Change> = gone
            .map(|&(vni, mac, vlan)| Change::MacDel { vni, mac, vlan })
            .collect();
        let gone = told.flood.difference(&wanted.flood);
        changes.extend(gone.map(|&(vni, remote)| Change::FloodDel { vni, remote }));
        let new = wanted.flood.difference(&told.flood);
        changes.extend(new.map(|&(vni, remote)| Change::FloodAdd { vni, remote }));
        let new = wanted.macs.iter();
        let new = new.filter(|(key, remote)| told.macs.get(key) != Some(remote));
        changes.extend(new.map(|(&(vni, mac, vlan), &remote)| Change::MacAdd {
            vni,
            mac,
            vlan,
            remote,
            sticky: true,
            sequence: 0,
        }));
        changes
    }

    fn learns_from_peers(&self) -> bool {
        true
    }
}
