//! What the control side knows of the switch.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    bridge::{Bridge, Egress, EntryKind, Fdb, FdbKey, FdbPolicy, PortFlags, PortId, policy_of},
    config::{BridgeSpec, Mode, PortSpec, StaticSpec, SwitchSpec},
    control::api::{ApiError, MtuChain, PortState as Condition},
    daemon::tap_port::TapPort,
    datapath::{Counters, Port, Topology},
    names::Name,
    sys::netns::NetnsId,
    time::Timestamp,
    wire::MacAddr,
};

use super::{
    capture::CaptureState,
    directory::Whereabouts,
    engine::Engines,
    overlay::{Met, PeerState, VtepState},
};

/// Bridges, ports and static entries, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) bridges: Vec<BridgeState>,
    pub(super) ports: Vec<PortState>,
    /// Ports that were deleted, the latest last.
    pub(super) departed: VecDeque<Departed>,
    pub(super) statics: Vec<StaticSpec>,
    pub(super) vtep: Option<VtepState>,
    pub(super) peers: Vec<PeerState>,
    pub(super) engines: Engines,
    /// Who has sent without being a peer.
    pub(super) strangers: Vec<Met>,
    /// On the way between two switches that have been checked as a whole: what stands in between
    /// need not hold together.
    pub(super) is_applying: bool,
    /// Which port is looked at next; see [`super::report::refresh`].
    pub(super) refreshed: usize,
    pub(super) captures: Vec<CaptureState>,
    /// The number of the latest.
    pub(super) last_capture: u64,
}

#[derive(Debug)]
pub(super) struct BridgeState {
    pub(super) spec: BridgeSpec,
    pub(super) fdb: Arc<Fdb>,
    /// On the overlay: what the paths to the peers leave.
    pub(super) mtu_chain: Option<MtuChain>,
}

/// A port that was deleted, by whose name old frames are told.
#[derive(Debug)]
pub(super) struct Departed {
    id: PortId,
    name: Name,
    added: Timestamp,
}

#[derive(Debug)]
pub(super) struct PortState {
    pub(super) id: PortId,
    pub(super) spec: PortSpec,
    /// As given, or derived.
    pub(super) mac: MacAddr,
    /// As set, or as somebody changed it inside the namespace.
    pub(super) mtu: u32,
    pub(super) counters: Arc<Counters>,
    /// When it was added: what is older and has its number was another port.
    pub(super) added: Timestamp,
    /// Frames that the TAP's own queue lost, when it was last looked at.
    pub(super) queue_drops: u64,
    pub(super) link: Link,
}

/// Whether there is a device.
#[derive(Debug)]
pub(super) enum Link {
    Plugged(Plugged),
    Gone(Gone),
}

#[derive(Debug)]
pub(super) struct Plugged {
    pub(super) io: Arc<TapPort>,
    pub(super) netns: NetnsId,
    pub(super) ifindex: u32,
    /// Segments that a superframe from there may have.
    pub(super) gso_max_segs: u32,
    /// Set down by somebody inside the namespace, when last looked at.
    pub(super) down_inside: bool,
}

#[derive(Debug)]
pub(super) struct Gone {
    pub(super) reason: String,
    /// The namespace that the port is not plugged into again by itself: it is alive and somebody
    /// deleted the interface in it.
    pub(super) not_into: Option<NetnsId>,
}

impl State {
    /// Remembers the name of a port that is deleted.
    pub(super) fn part_with(&mut self, port: &PortState) {
        if self.departed.len() >= MOST_DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back(Departed {
            id: port.id,
            name: port.spec.name.clone(),
            added: port.added,
        });
    }

    /// The port that had this number at `time`, and was deleted since.
    pub(super) fn departed_at(&self, id: PortId, time: Timestamp) -> Option<&Name> {
        let mut latest_first = self.departed.iter().rev();
        let found = latest_first.find(|gone| gone.id == id && gone.added <= time);
        found.map(|gone| &gone.name)
    }

    pub(super) fn bridge(&self, name: &Name) -> Option<&BridgeState> {
        self.bridges.iter().find(|bridge| bridge.spec.name == *name)
    }

    pub(super) fn port(&self, name: &Name) -> Option<&PortState> {
        self.ports.iter().find(|port| port.spec.name == *name)
    }

    pub(super) fn port_mut(&mut self, name: &Name) -> Option<&mut PortState> {
        self.ports.iter_mut().find(|port| port.spec.name == *name)
    }

    pub(super) fn port_by_id(&self, id: PortId) -> Option<&PortState> {
        self.ports.iter().find(|port| port.id == id)
    }

    pub(super) fn known_bridge(
        &self,
        operation: &str,
        name: &Name,
    ) -> Result<&BridgeState, ApiError> {
        self.bridge(name).ok_or_else(|| {
            let known = list(self.bridges.iter().map(|bridge| &bridge.spec.name));
            ApiError::not_found(format!(
                "{operation}: no bridge {:?}; {known}; add it: tapswitch bridge add {name}",
                name.as_str()
            ))
        })
    }

    pub(super) fn known_port(&self, operation: &str, name: &Name) -> Result<&PortState, ApiError> {
        self.port(name).ok_or_else(|| {
            let known = list(self.ports.iter().map(|port| &port.spec.name));
            ApiError::not_found(format!(
                "{operation}: no port {name:?}; {known}",
                name = name.as_str()
            ))
        })
    }

    /// The bridge of that name, or the only one there is.
    pub(super) fn bridge_or_only(
        &self,
        operation: &str,
        name: Option<&Name>,
    ) -> Result<&BridgeState, ApiError> {
        match (name, &self.bridges[..]) {
            (Some(name), _) => self.known_bridge(operation, name),
            (None, [only]) => Ok(only),
            (None, bridges) => {
                let known = list(bridges.iter().map(|bridge| &bridge.spec.name));
                Err(ApiError::invalid(format!(
                    "{operation}: which bridge? {known}; give --bridge NAME"
                )))
            }
        }
    }

    /// A remote VTEP as FDB entries show it: with its port where that is not the endpoint's.
    pub(super) fn remote_name(&self, peer: &PeerState) -> String {
        if peer.to.port() == self.vtep_port() {
            peer.to.ip().to_string()
        } else {
            peer.to.to_string()
        }
    }

    /// What is at `egress`, by its name.
    pub(super) fn whereabouts(&self, egress: Egress) -> Whereabouts {
        let port = egress.port().and_then(|id| self.port_by_id(id));
        let peer = egress
            .peer()
            .and_then(|id| self.peers.iter().find(|peer| peer.id == id));
        Whereabouts {
            port: port.map(|port| port.spec.name.clone()),
            remote: peer.map(|peer| self.remote_name(peer)),
        }
    }

    pub(super) fn free_id(&self) -> Option<PortId> {
        (0..PortId::LIMIT)
            .filter_map(PortId::new)
            .find(|&id| self.port_by_id(id).is_none())
    }

    /// The MTU that a port with this spec shall have.
    pub(super) fn mtu_of(&self, spec: &PortSpec) -> u32 {
        let of_bridge = || {
            self.bridge(&spec.bridge)
                .map_or(BridgeSpec::DEFAULT_MTU, BridgeState::mtu)
        };
        spec.mtu.unwrap_or_else(of_bridge)
    }

    /// The running switch as settings; `apply` compares against this.
    pub(super) fn spec(&self) -> SwitchSpec {
        SwitchSpec {
            vtep: self.vtep.as_ref().map(|vtep| vtep.spec.clone()),
            bridges: self
                .bridges
                .iter()
                .map(|bridge| bridge.spec.clone())
                .collect(),
            ports: self.ports.iter().map(|port| port.spec.clone()).collect(),
            fdb: self.statics.clone(),
        }
    }

    /// What the workers need of all this.
    pub(super) fn topology(&self) -> Topology {
        let members = |name: &Name| -> Vec<_> {
            self.ports
                .iter()
                .filter(|port| port.spec.bridge == *name)
                .map(|port| (port.id, port.flags()))
                .collect()
        };
        let bridges = self.bridges.iter().map(|state| {
            let spec = &state.spec;
            let bridge = Bridge::new(spec, &members(&spec.name), Arc::clone(&state.fdb));
            if spec.vni.is_some() {
                let learns = spec.peer_learning && self.engines.learn_from_peers();
                bridge.with_overlay(self.flood_list(&spec.name), learns)
            } else {
                bridge
            }
        });
        let index_of = |name: &Name| {
            self.bridges
                .iter()
                .position(|bridge| bridge.spec.name == *name)
        };
        let ports = self.ports.iter().filter_map(|port| {
            let Link::Plugged(plugged) = &port.link else {
                return None;
            };
            let io = Arc::clone(&plugged.io);
            Some(Port::new(
                port.id,
                index_of(&port.spec.bridge)?,
                io,
                port.mtu,
                Arc::clone(&port.counters),
            ))
        });
        let topology = Topology::new(bridges.collect(), ports).with_captures(self.captures());
        match self.vtep_topology(index_of) {
            Some(vtep) => topology.with_vtep(vtep),
            None => topology,
        }
    }

    /// Writes the entries that a port's presence implies: its static ones, and its own address if
    /// it is the host's.
    pub(super) fn pin_entries(&self, port: &PortState, now: Timestamp) {
        let Some(bridge) = self.bridge(&port.spec.bridge) else {
            return;
        };
        let is_hosts = port.spec.netns.is_none() && port.plugged().is_some();
        if is_hosts && bridge.spec.mode == Mode::Switch {
            bridge.fdb.pin(
                FdbKey::new(port.mac, 0),
                Egress::Port(port.id),
                EntryKind::Local,
                now,
            );
        }
        for entry in self.statics.iter().filter(|entry| {
            entry.place.port() == Some(&port.spec.name) && entry.bridge == port.spec.bridge
        }) {
            bridge.fdb.pin(
                FdbKey::new(entry.mac, entry.vlan),
                Egress::Port(port.id),
                EntryKind::Static,
                now,
            );
        }
    }
}

impl BridgeState {
    pub(super) fn new(spec: BridgeSpec) -> Self {
        Self {
            spec,
            fdb: Arc::new(Fdb::new()),
            mtu_chain: None,
        }
    }

    /// The MTU of ports that name none.
    pub(super) fn mtu(&self) -> u32 {
        self.spec.mtu.unwrap_or_else(|| self.auto_mtu())
    }

    /// What that is with `mtu = "auto"`.
    pub(super) fn auto_mtu(&self) -> u32 {
        let auto = self.mtu_chain.as_ref().map(|chain| chain.mtu);
        auto.unwrap_or(BridgeSpec::DEFAULT_MTU)
    }

    pub(super) fn policy(&self) -> FdbPolicy {
        policy_of(&self.spec)
    }
}

impl PortState {
    pub(super) fn plugged(&self) -> Option<&Plugged> {
        match &self.link {
            Link::Plugged(plugged) => Some(plugged),
            Link::Gone(_) => None,
        }
    }

    pub(super) fn condition(&self) -> Condition {
        match &self.link {
            Link::Gone(_) => Condition::Gone,
            Link::Plugged(plugged) if plugged.down_inside || !self.spec.flags.up => Condition::Down,
            Link::Plugged(_) => Condition::Up,
        }
    }

    fn flags(&self) -> PortFlags {
        let spec = &self.spec.flags;
        PortFlags::MEMBER
            .with(PortFlags::UP, spec.up && self.plugged().is_some())
            .with(PortFlags::LEARNING, spec.learning)
            .with(PortFlags::FLOOD, spec.flood)
            .with(PortFlags::MCAST_FLOOD, spec.mcast_flood)
            .with(PortFlags::BCAST_FLOOD, spec.bcast_flood)
            .with(PortFlags::ISOLATED, spec.isolated)
            .with(PortFlags::HAIRPIN, spec.hairpin)
            .with(PortFlags::LOCKED, spec.locked)
    }
}

fn list<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    let names: Vec<_> = names.take(20).map(Name::as_str).collect();
    if names.is_empty() {
        "there is none yet".to_owned()
    } else {
        format!("there is {}", names.join(", "))
    }
}

/// Names of deleted ports that are remembered.
const MOST_DEPARTED: usize = 64;
