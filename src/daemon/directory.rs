//! Numbers to names: for news that come from workers, and for all that is told about frames.

use std::collections::HashMap;

use super::{overlay::PeerState, state::State};
use crate::{
    bridge::{Egress, PeerId, PortId},
    names::Name,
    rehearsal::Names,
    time::Timestamp,
    wire::Vni,
};

/// The names of a switch's parts.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) ports: Vec<Option<Known<Name>>>,
    pub(super) bridges: Vec<Name>,
    /// Of bridges that have one.
    pub(super) vnis: HashMap<Name, Vni>,
    /// Remote VTEPs.
    pub(super) peers: HashMap<PeerId, Known<String>>,
}

/// A port or a remote VTEP.
#[derive(Clone, Debug)]
pub(super) struct Known<N> {
    pub(super) name: N,
    pub(super) bridge: Name,
    /// What is older and has its number was another one.
    pub(super) added: Timestamp,
}

/// A place as events name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Whereabouts {
    pub(super) port: Option<Name>,
    pub(super) remote: Option<String>,
}

impl Directory {
    pub(super) fn of(state: &State) -> Self {
        let mut ports = Vec::new();
        for port in &state.ports {
            let index = port.id.index();
            if ports.len() <= index {
                ports.resize(index + 1, None);
            }
            ports[index] = Some(Known {
                name: port.spec.name.clone(),
                bridge: port.spec.bridge.clone(),
                added: port.added,
            });
        }
        let known = |peer: &PeerState| Known {
            name: state.remote_name(peer),
            bridge: peer.bridge.clone(),
            added: peer.added,
        };
        let peers = state.peers.iter().map(|peer| (peer.id, known(peer)));
        let bridges = state.bridges.iter();
        let vnis = bridges.clone();
        let vnis = vnis.filter_map(|bridge| Some((bridge.spec.name.clone(), bridge.spec.vni?)));
        Self {
            ports,
            bridges: bridges.map(|bridge| bridge.spec.name.clone()).collect(),
            vnis: vnis.collect(),
            peers: peers.collect(),
        }
    }

    pub(super) fn port(&self, id: PortId) -> Option<&Known<Name>> {
        self.ports.get(id.index())?.as_ref()
    }

    pub(super) fn bridge_of(&self, egress: Egress) -> Option<&Name> {
        match egress {
            Egress::Port(port) => self.port(port).map(|port| &port.bridge),
            Egress::Peer(peer) => self.peer(peer).map(|peer| &peer.bridge),
        }
    }

    pub(super) fn peer(&self, id: PeerId) -> Option<&Known<String>> {
        self.peers.get(&id)
    }

    pub(super) fn vni(&self, bridge: &Name) -> Option<Vni> {
        self.vnis.get(bridge).copied()
    }

    pub(super) fn whereabouts(&self, egress: Egress) -> Whereabouts {
        self.whereabouts_at(egress, Timestamp::from_nanos(u64::MAX))
    }

    /// The same, as it was at `time`.
    pub(super) fn whereabouts_at(&self, egress: Egress, time: Timestamp) -> Whereabouts {
        let port = egress.port().and_then(|id| self.port(id));
        let port = port.filter(|port| port.added <= time);
        let peer = egress.peer().and_then(|id| self.peer(id));
        let peer = peer.filter(|peer| peer.added <= time);
        Whereabouts {
            port: port.map(|port| port.name.clone()),
            remote: peer.map(|peer| peer.name.clone()),
        }
    }
}

impl Names for Directory {
    fn port(&self, port: PortId) -> String {
        let known = self.port(port);
        known.map_or_else(|| format!("port {port}"), |port| port.name.to_string())
    }

    fn peer(&self, peer: PeerId) -> String {
        let known = self.peer(peer);
        known.map_or_else(|| format!("peer {peer}"), |peer| peer.name.clone())
    }

    fn bridge(&self, bridge: usize) -> String {
        let name = self.bridges.get(bridge);
        name.map_or_else(|| format!("bridge {bridge}"), Name::to_string)
    }
}
