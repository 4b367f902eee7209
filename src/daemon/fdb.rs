//! Requests about the FDB.

use super::{
    directory::Whereabouts,
    state::{BridgeState, PortState, State},
    switch::Inner,
};
use crate::{
    bridge::{Egress, EntryKind, FdbEntry, FdbKey},
    config::{PeerAddr, Place, StaticSpec},
    control::api::{ApiError, EntrySelector, FdbInfo, FdbSelector, FdbState},
    names::Name,
};

impl Inner {
    pub(super) fn show_fdb(
        &self,
        state: &State,
        selector: &FdbSelector,
    ) -> Result<Vec<FdbInfo>, ApiError> {
        check_selector("show fdb", state, selector)?;
        let mut rows = Vec::new();
        for bridge in state
            .bridges
            .iter()
            .filter(|bridge| selector.wants_bridge(bridge))
        {
            let mut entries = bridge.fdb.entries();
            entries.retain(|(key, entry)| {
                self.is_alive(bridge, entry) && selector.wants(state, *key, entry)
            });
            entries.sort_by_key(|(key, _)| (key.vlan(), key.mac()));
            rows.extend(
                entries
                    .iter()
                    .map(|(key, entry)| self.fdb_info(state, bridge, *key, entry)),
            );
        }
        Ok(rows)
    }

    pub(super) fn get_fdb(
        &self,
        state: &State,
        wanted: &EntrySelector,
    ) -> Result<Vec<FdbInfo>, ApiError> {
        let bridge = home_of("get fdb", state, wanted)?;
        let key = FdbKey::new(wanted.mac, wanted.vlan);
        let entry = bridge
            .fdb
            .get(key)
            .filter(|entry| self.is_alive(bridge, entry));
        let entry = entry.ok_or_else(|| unknown("get fdb", bridge, wanted))?;
        check_place("get fdb", state, wanted, &entry)?;
        Ok(vec![self.fdb_info(state, bridge, key, &entry)])
    }

    pub(super) fn add_static(&self, state: &mut State, entry: StaticSpec) -> Result<(), ApiError> {
        let StaticSpec {
            bridge,
            mac,
            vlan,
            place,
        } = &entry;
        let operation = format!("add fdb entry {mac}");
        if mac.is_group() || mac.is_zero() {
            return Err(ApiError::invalid(format!(
                "{operation}: not a unicast address; the FDB holds no others"
            )));
        }
        if *vlan > MAX_VLAN {
            return Err(ApiError::invalid(format!(
                "{operation}: vlan {vlan} is out of range 0..={MAX_VLAN}"
            )));
        }
        let home = state.known_bridge(&operation, bridge)?;
        let key = FdbKey::new(*mac, *vlan);
        match place {
            Place::Port(port) => {
                let owner = state.known_port(&operation, port)?;
                if owner.spec.bridge != *bridge {
                    return Err(ApiError::invalid(format!(
                        "{operation}: port {port} is on bridge {}, not on {bridge}",
                        owner.spec.bridge
                    )));
                }
                let egress = Egress::Port(owner.id);
                home.fdb
                    .pin(key, egress, EntryKind::Static, self.clock.now());
                self.events.pinned(home.spec.vni, key);
            }
            Place::Peer(_) => {
                let home = state.overlay_bridge(&operation, Some(bridge))?;
                if home
                    .fdb
                    .get(key)
                    .is_some_and(|old| old.kind == EntryKind::Local)
                {
                    return Err(ApiError::invalid(format!(
                        "{operation}: it is the address of a port of this host; see: tapswitch fdb get {mac}"
                    )));
                }
                if !state.is_applying {
                    let mut whole = state.spec();
                    whole.fdb.retain(|other| {
                        (&other.bridge, other.mac, other.vlan) != (bridge, *mac, *vlan)
                    });
                    whole.fdb.push(entry.clone());
                    super::rules::check_whole(&whole)?;
                }
            }
        }
        let place = Whereabouts {
            port: place.port().cloned(),
            remote: place.peer().map(|peer| peer.to_string()),
        };
        let cause = by(state, "tapswitch fdb add");
        self.events.fdb("added", bridge, key, place, cause);
        state
            .statics
            .retain(|other| (&other.bridge, other.mac, other.vlan) != (bridge, *mac, *vlan));
        if matches!(entry.place, Place::Peer(_)) {
            // It may have been behind a port until now.
            let _old = state
                .bridge(&entry.bridge)
                .and_then(|home| home.fdb.remove(key));
        }
        state.statics.push(entry);
        self.reconcile_statics(state);
        Ok(())
    }

    /// After a change of static entries, which may be what makes a VTEP a peer.
    fn reconcile_statics(&self, state: &mut State) {
        // A file may have thousands of them; then it is done once, at the end.
        if state.vtep.is_some() && !state.is_applying {
            self.reconcile(state);
        }
    }

    pub(super) fn delete_fdb(
        &self,
        state: &mut State,
        wanted: &EntrySelector,
    ) -> Result<(), ApiError> {
        let operation = "delete fdb entry";
        let home = home_of(operation, state, wanted)?;
        let (mac, vlan) = (wanted.mac, wanted.vlan);
        let key = FdbKey::new(mac, vlan);
        let name = home.spec.name.clone();
        let is_it =
            |other: &StaticSpec| (&other.bridge, other.mac, other.vlan) == (&name, mac, vlan);
        if let Some(entry) = home.fdb.get(key) {
            check_place(operation, state, wanted, &entry)?;
        }
        let entry = home.fdb.remove(key);
        // A person's entry may not be in force, for want of its VTEP.
        let is_wanted = |place: &Place| {
            wanted
                .port
                .as_ref()
                .is_none_or(|port| place.port() == Some(port))
                && (wanted.remote).is_none_or(|to| place.peer().is_some_and(|at| at.ip == to.ip))
        };
        let is_there = |other: &StaticSpec| is_it(other) && is_wanted(&other.place);
        if entry.is_none() && !state.statics.iter().any(is_there) {
            return Err(unknown(operation, home, wanted));
        }
        if let Some(entry) = entry {
            let cause = by(state, "tapswitch fdb del");
            self.events
                .fdb_gone(state, &name, "deleted", cause, &[(key, entry)]);
        }
        state.statics.retain(|other| !is_it(other));
        self.reconcile_statics(state);
        Ok(())
    }

    pub(super) fn flush_fdb(
        &self,
        state: &mut State,
        selector: &FdbSelector,
    ) -> Result<usize, ApiError> {
        check_selector("flush fdb", state, selector)?;
        // Entries that a person made go only when they are meant.
        let explicit = FdbSelector {
            state: selector.state.or(Some(FdbState::Learned)),
            ..selector.clone()
        };
        let mut count = 0;
        let mut statics = Vec::new();
        for bridge in state
            .bridges
            .iter()
            .filter(|bridge| explicit.wants_bridge(bridge))
        {
            let gone = bridge
                .fdb
                .flush(|key, entry| explicit.wants(state, key, entry));
            let (name, cause) = (&bridge.spec.name, by(state, "tapswitch fdb flush"));
            self.events.fdb_gone(state, name, "flushed", cause, &gone);
            count += gone.len();
            let deleted = gone
                .iter()
                .filter(|(_, entry)| entry.kind == EntryKind::Static);
            statics.extend(deleted.map(|(key, _)| (bridge.spec.name.clone(), *key)));
        }
        state.statics.retain(|entry| {
            !statics.contains(&(entry.bridge.clone(), FdbKey::new(entry.mac, entry.vlan)))
        });
        if !statics.is_empty() {
            self.reconcile_statics(state);
        }
        Ok(count)
    }

    pub(super) fn is_alive(&self, bridge: &BridgeState, entry: &FdbEntry) -> bool {
        !entry.is_aged(self.clock.now(), &bridge.policy())
    }

    pub(super) fn fdb_info(
        &self,
        state: &State,
        bridge: &BridgeState,
        key: FdbKey,
        entry: &FdbEntry,
    ) -> FdbInfo {
        let now = self.clock.now();
        let place = state.whereabouts(entry.egress);
        FdbInfo {
            bridge: bridge.spec.name.clone(),
            mac: key.mac(),
            vlan: key.vlan(),
            port: place.port,
            remote: place.remote,
            state: kind(entry),
            age_s: if entry.kind == EntryKind::Learned {
                now.since(entry.updated).as_secs_f64()
            } else {
                0.0
            },
            moves: u32::from(entry.moves),
            frozen: entry.frozen_until > now,
        }
    }
}

/// Who made a change: a command, or the file that is being put in force.
fn by(state: &State, command: &'static str) -> &'static str {
    if state.is_applying {
        "a configuration file"
    } else {
        command
    }
}

impl FdbSelector {
    fn wants_bridge(&self, bridge: &BridgeState) -> bool {
        self.bridge
            .as_ref()
            .is_none_or(|name| *name == bridge.spec.name)
    }

    fn wants(&self, state: &State, key: FdbKey, entry: &FdbEntry) -> bool {
        let on_port =
            |name: &Name| state.port(name).map(|port: &PortState| port.id) == entry.egress.port();
        let at_remote = |remote: PeerAddr| {
            let peer = entry.egress.peer();
            let peer = peer.and_then(|id| state.peers.iter().find(|peer| peer.id == id));
            peer.is_some_and(|peer| {
                peer.to.ip() == remote.ip && remote.port.is_none_or(|port| port == peer.to.port())
            })
        };
        self.port.as_ref().is_none_or(on_port)
            && self.remote.is_none_or(at_remote)
            && self.mac.is_none_or(|mac| mac == key.mac())
            && self.vlan.is_none_or(|vlan| vlan == key.vlan())
            && self.state.is_none_or(|state| state == kind(entry))
    }
}

pub(super) fn kind(entry: &FdbEntry) -> FdbState {
    match entry.kind {
        EntryKind::Learned => FdbState::Learned,
        EntryKind::Static => FdbState::Static,
        EntryKind::Local => FdbState::Local,
        EntryKind::Control => FdbState::Control,
    }
}

fn check_selector(operation: &str, state: &State, selector: &FdbSelector) -> Result<(), ApiError> {
    if let Some(bridge) = &selector.bridge {
        state.known_bridge(operation, bridge)?;
    }
    if let Some(port) = &selector.port {
        state.known_port(operation, port)?;
    }
    Ok(())
}

/// The bridge of an entry.
fn home_of<'a>(
    operation: &str,
    state: &'a State,
    wanted: &EntrySelector,
) -> Result<&'a BridgeState, ApiError> {
    let port = wanted.port.as_ref();
    let port = port
        .map(|port| state.known_port(operation, port))
        .transpose()?;
    let of_port = port.map(|port| &port.spec.bridge);
    state.bridge_or_only(operation, wanted.bridge.as_ref().or(of_port))
}

/// Refuses an entry that is elsewhere.
fn check_place(
    operation: &str,
    state: &State,
    wanted: &EntrySelector,
    entry: &FdbEntry,
) -> Result<(), ApiError> {
    let selector = FdbSelector {
        port: wanted.port.clone(),
        remote: wanted.remote,
        ..FdbSelector::default()
    };
    let mac = wanted.mac;
    if selector.wants(state, FdbKey::new(mac, wanted.vlan), entry) {
        return Ok(());
    }
    let is_at = state.whereabouts(entry.egress);
    let is_at = is_at.port.map(|port| port.to_string()).or(is_at.remote);
    Err(ApiError::not_found(format!(
        "{operation}: {mac} is at {}, not there; see: tapswitch fdb show --mac {mac}",
        is_at.unwrap_or_default()
    )))
}

fn unknown(operation: &str, bridge: &BridgeState, wanted: &EntrySelector) -> ApiError {
    let name = &bridge.spec.name;
    let mac = wanted.mac;
    let vlan = match wanted.vlan {
        0 => String::new(),
        vlan => format!(" in vlan {vlan}"),
    };
    ApiError::not_found(format!(
        "{operation}: {mac}{vlan} is not in the fdb of bridge {name}; see: tapswitch fdb show --bridge {name}"
    ))
}

/// 4095 is reserved (IEEE 802.1Q table 9-2).
const MAX_VLAN: u16 = 4094;
