//! The overlay: the VXLAN endpoint, its peers, and what follows from the paths to them.

mod endpoint;
mod paths;
mod strangers;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use self::paths::Paths;
pub(super) use self::{
    paths::{ANY_SEGMENTS, fit_superframes},
    strangers::Met,
};
use super::{
    engine::Engines,
    state::{BridgeState, State},
    switch::Inner,
    underlay::{Underlay, UnderlayError, UnderlayOptions},
};
use crate::{
    bridge::{Egress, EntryKind, FdbEntry, FdbKey, PeerId},
    config::{Accept, OffloadMode, PeerAddr, VtepSpec},
    control::api::{ApiError, PeerKind},
    datapath::{Counters, PathMtu},
    names::Name,
    time::Timestamp,
    wire::Vni,
};

/// The VXLAN endpoint.
#[derive(Debug)]
pub(super) struct VtepState {
    pub(super) spec: VtepSpec,
    pub(super) counters: Arc<Counters>,
    pub(super) link: VtepLink,
}

/// Whether there are sockets.
#[derive(Debug)]
pub(super) enum VtepLink {
    Open(Arc<Underlay>),
    /// Why not.
    Closed(String),
}

/// A remote VTEP of one bridge.
#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) id: PeerId,
    pub(super) bridge: Name,
    pub(super) vni: Vni,
    pub(super) to: SocketAddr,
    pub(super) kind: PeerKind,
    /// It gets copies of what is flooded.
    pub(super) is_flooded: bool,
    pub(super) path: Arc<PathMtu>,
    pub(super) counters: Arc<Counters>,
    /// When it became one: what is older and has its number was another.
    pub(super) added: Timestamp,
    /// Why frames do not reach it, as far as the kernel knows.
    pub(super) no_route: Option<String>,
    /// Subscribers know of it.
    is_told: bool,
    /// The path's MTU that they know of: a worker may be the first to hear of another, or the
    /// peer of another bridge at the same address.
    told_mtu: Option<u32>,
}

impl VtepState {
    pub(super) fn underlay(&self) -> Option<&Arc<Underlay>> {
        match &self.link {
            VtepLink::Open(underlay) => Some(underlay),
            VtepLink::Closed(_) => None,
        }
    }
}

impl VtepLink {
    fn of(opened: Result<Underlay, UnderlayError>) -> Self {
        match opened {
            Ok(underlay) => Self::Open(Arc::new(underlay)),
            Err(error) => Self::Closed(error.to_string()),
        }
    }
}

impl Inner {
    /// Opens the endpoint, changes it, or closes it (`None`). All or nothing; returns the settings
    /// that it had.
    pub(super) fn set_vtep(
        &self,
        state: &mut State,
        new: Option<VtepSpec>,
    ) -> Result<Option<VtepSpec>, ApiError> {
        let old = state.vtep.as_ref().map(|vtep| vtep.spec.clone());
        if !state.is_applying {
            let mut whole = state.spec();
            if new.is_none() {
                super::rules::check_unused_vtep(&whole)?;
            }
            whole.vtep.clone_from(&new);
            super::rules::check_whole(&whole)?;
        }
        if old == new
            && state
                .vtep
                .as_ref()
                .is_none_or(|vtep| vtep.underlay().is_some())
        {
            return Ok(old);
        }
        let counters = state.vtep.as_ref().map(|vtep| Arc::clone(&vtep.counters));
        // The port cannot be had twice, so the old sockets go first.
        self.close_vtep(state, "closed");
        let Some(spec) = new else {
            state.vtep = None;
            self.reconcile(state);
            self.events.vtep("closed", None);
            return Ok(old);
        };
        let counters = counters.unwrap_or_else(|| Arc::new(Counters::new(self.workers.len())));
        match open(&spec) {
            Ok(underlay) => {
                state.vtep = Some(VtepState {
                    spec,
                    counters,
                    link: VtepLink::Open(Arc::new(underlay)),
                });
                self.opened(state);
                let change = if old.is_some() { "changed" } else { "opened" };
                self.events.vtep(change, None);
                Ok(old)
            }
            Err(error) => {
                // As it was; if even that fails now, housekeeping goes on trying.
                match old.clone() {
                    None => state.vtep = None,
                    Some(spec) => {
                        let link = VtepLink::of(open(&spec));
                        if let VtepLink::Closed(reason) = &link {
                            self.events.vtep("down", Some(reason));
                        }
                        state.vtep = Some(VtepState {
                            spec,
                            counters,
                            link,
                        });
                        self.opened(state);
                    }
                }
                Err(ApiError::failed(error.to_string()))
            }
        }
    }

    /// The sockets of the endpoint are new: the workers wait for them.
    fn opened(&self, state: &mut State) {
        self.reconcile(state);
        self.ask_all_paths(state);
        if let Some(underlay) = state.vtep.as_ref().and_then(VtepState::underlay)
            && let Err(error) = self.workers.watch_underlay(&**underlay)
        {
            tracing::error!("wait for datagrams: {error}; nothing arrives from peers");
        }
    }

    /// Closes the sockets and returns when no worker uses them any more.
    fn close_vtep(&self, state: &mut State, reason: &str) {
        let Some(vtep) = &mut state.vtep else { return };
        let link = std::mem::replace(&mut vtep.link, VtepLink::Closed(reason.to_owned()));
        let VtepLink::Open(underlay) = link else {
            return;
        };
        self.workers.unwatch_underlay(&*underlay);
        self.publish(state);
        // Every worker has the new topology; one may still be about to drop the old.
        let mut rounds = 0;
        while Arc::strong_count(&underlay) > 1 && rounds < 1000 {
            rounds += 1;
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    pub(super) fn add_peer(
        &self,
        state: &mut State,
        bridge: Option<&Name>,
        remote: PeerAddr,
    ) -> Result<(), ApiError> {
        let operation = format!("add peer {remote}");
        let mut spec = state.overlay_bridge(&operation, bridge)?.spec.clone();
        let default = state.vtep_port();
        let is_it = |peer: &PeerAddr| peer.address(default) == remote.address(default);
        if spec.peers.iter().any(is_it) {
            let name = &spec.name;
            return Err(ApiError::failed(format!(
                "{operation}: bridge {name} has this peer; see: tapswitch peer show --bridge {name}"
            )));
        }
        spec.peers.push(remote);
        self.set_bridge(state, spec)
            .map(drop)
            .map_err(|error| ApiError {
                message: format!("{operation}: {}", error.message),
                ..error
            })
    }

    pub(super) fn delete_peer(
        &self,
        state: &mut State,
        bridge: Option<&Name>,
        remote: PeerAddr,
    ) -> Result<(), ApiError> {
        let operation = format!("delete peer {remote}");
        let mut spec = state.overlay_bridge(&operation, bridge)?.spec.clone();
        let default = state.vtep_port();
        // A bridge has one VTEP at an address, so the port may be left out.
        let is_it = |peer: &PeerAddr| {
            peer.ip == remote.ip
                && (remote.port).is_none_or(|port| port == peer.address(default).port())
        };
        let before = spec.peers.len();
        spec.peers.retain(|peer| !is_it(peer));
        if spec.peers.len() == before {
            let name = &spec.name;
            return Err(ApiError::not_found(format!(
                "{operation}: bridge {name} has no such peer; list them: tapswitch peer show --bridge {name}"
            )));
        }
        self.set_bridge(state, spec).map(drop)
    }

    /// Makes peers, their FDB entries and MTUs what the settings say, and puts all in force.
    pub(super) fn reconcile(&self, state: &mut State) {
        let spec = state.spec();
        state.engines.set(&spec);
        state.poll_engines();
        let wanted = state.wanted_peers();
        let is_wanted = |peer: &PeerState| {
            wanted
                .get(&(peer.bridge.clone(), peer.to.ip()))
                .is_some_and(|want| want.to == peer.to && want.vni == peer.vni)
        };
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut state.peers)
            .into_iter()
            .partition(is_wanted);
        // No number of a peer that goes is given away before every entry behind it is gone: it
        // would be the number of somebody in another VNI.
        let mut ids = FreeIds::besides(kept.iter().chain(&gone));
        let mut known: HashMap<_, _> = kept
            .iter()
            .enumerate()
            .map(|(index, peer)| ((peer.bridge.clone(), peer.to.ip()), index))
            .collect();
        let mut paths: HashMap<IpAddr, Arc<PathMtu>> = kept
            .iter()
            .map(|peer| (peer.to.ip(), Arc::clone(&peer.path)))
            .collect();
        state.peers = kept;
        let first_new = state.peers.len();
        for (key, want) in wanted {
            let old = known
                .remove(&key)
                .and_then(|index| state.peers.get_mut(index));
            if let Some(peer) = old {
                (peer.kind, peer.is_flooded) = (want.kind, want.is_flooded);
                continue;
            }
            let (bridge, ip) = key;
            let Some(id) = ids.next() else {
                let limit = PeerId::LIMIT;
                tracing::error!(%bridge, "add peer {ip}: there are {limit} peers, the most there can be");
                continue;
            };
            let counters = match (&state.vtep, want.kind) {
                (Some(vtep), PeerKind::Learned) => {
                    Counters::of_stranger(self.workers.len(), Arc::clone(&vtep.counters))
                }
                _ => Counters::new(self.workers.len()),
            };
            let unknown = || Arc::new(PathMtu::new(DEFAULT_PATH_MTU));
            let path = Arc::clone(paths.entry(ip).or_insert_with(unknown));
            state.peers.push(PeerState {
                id,
                bridge,
                vni: want.vni,
                to: want.to,
                kind: want.kind,
                is_flooded: want.is_flooded,
                path,
                counters: Arc::new(counters),
                added: self.clock.now(),
                no_route: None,
                is_told: false,
                told_mtu: None,
            });
        }
        self.follow_paths(state, Paths::New);
        self.publish(state);
        // After that nobody learns behind those that are gone.
        self.forget_peers(state, &gone);
        for (bridge, change, key, egress) in state.pin_remote_entries(self.clock.now()) {
            let place = state.whereabouts(egress);
            let cause = "the control plane said so";
            self.events.fdb(change, &bridge, key, place, cause);
        }
        state.engines.in_force();
        for peer in state.peers.iter_mut().skip(first_new) {
            peer.is_told = true;
            self.events.peer(peer, "added", None);
            if let Some(reason) = &peer.no_route {
                self.events.peer(peer, "no route", Some(reason));
            }
        }
    }

    /// Deletes every entry behind these peers, which no worker knows any more.
    fn forget_peers(&self, state: &State, gone: &[PeerState]) {
        let ids: HashSet<PeerId> = gone.iter().map(|peer| peer.id).collect();
        if ids.is_empty() {
            return;
        }
        let is_behind = |entry: &FdbEntry| entry.egress.peer().is_some_and(|id| ids.contains(&id));
        for bridge in &state.bridges {
            let flushed = bridge.fdb.flush(|_, entry| is_behind(entry));
            let name = &bridge.spec.name;
            self.events
                .fdb_gone(state, name, "flushed", "its peer is gone", &flushed);
        }
        for peer in gone {
            self.events.peer(peer, "deleted", None);
        }
    }

    /// Once a second: what happened to the underlay while nobody asked, and what a control plane
    /// has to say.
    pub(super) fn keep_overlay(&self, state: &mut State) {
        if state.poll_engines() {
            self.reconcile(state);
        }
        let Some(vtep) = &state.vtep else { return };
        match &vtep.link {
            VtepLink::Open(underlay) => {
                underlay.retry_offload();
                if let Some(reason) = underlay.is_abandoned() {
                    tracing::warn!("vtep closed: {reason}");
                    self.close_vtep(state, &reason);
                    self.events.vtep("down", Some(&reason));
                } else {
                    self.ask_all_paths(state);
                }
            }
            VtepLink::Closed(_) => {
                let opened = open(&vtep.spec);
                let is_back = opened.is_ok();
                if let Some(vtep) = &mut state.vtep {
                    vtep.link = VtepLink::of(opened);
                }
                if is_back {
                    self.opened(state);
                    self.events.vtep("up", None);
                }
            }
        }
    }
}

/// Numbers that no peer has, in order.
struct FreeIds {
    taken: HashSet<PeerId>,
    next: usize,
}

impl FreeIds {
    fn besides<'a>(peers: impl Iterator<Item = &'a PeerState>) -> Self {
        Self {
            taken: peers.map(|peer| peer.id).collect(),
            next: 0,
        }
    }
}

impl Iterator for FreeIds {
    type Item = PeerId;

    fn next(&mut self) -> Option<PeerId> {
        loop {
            let id = PeerId::new(self.next)?;
            self.next += 1;
            if !self.taken.contains(&id) {
                return Some(id);
            }
        }
    }
}

/// What the settings want of one peer.
#[derive(Clone, Copy)]
struct Wanted {
    to: SocketAddr,
    vni: Vni,
    kind: PeerKind,
    is_flooded: bool,
}

impl State {
    /// By bridge and address.
    fn wanted_peers(&self) -> BTreeMap<(Name, IpAddr), Wanted> {
        let mut wanted = BTreeMap::new();
        let Some(vtep) = &self.vtep else {
            return wanted;
        };
        let port = vtep.spec.port;
        for bridge in &self.bridges {
            let Some(vni) = bridge.spec.vni else { continue };
            let name = &bridge.spec.name;
            let mut want = |to: SocketAddr, kind, is_flooded| {
                wanted.entry((name.clone(), to.ip())).or_insert(Wanted {
                    to,
                    vni,
                    kind,
                    is_flooded,
                });
            };
            let Engines {
                of_settings,
                of_control,
                ..
            } = &self.engines;
            let told = [
                (of_settings, PeerKind::Listed, PeerKind::Static),
                (of_control, PeerKind::Control, PeerKind::Control),
            ];
            for (told, flooded, _) in told {
                for (_, remote) in told.flood.iter().filter(|flood| flood.0 == vni) {
                    want(remote.address(port), flooded, true);
                }
            }
            for (told, _, behind) in told {
                for (_, claim) in told.macs.iter().filter(|((of, ..), _)| *of == vni) {
                    want(claim.remote.address(port), behind, false);
                }
            }
            if vtep.spec.accept == Accept::Any {
                for met in self.strangers.iter().filter(|met| met.bridge == *name) {
                    want(SocketAddr::new(met.ip, port), PeerKind::Learned, false);
                }
            }
        }
        wanted
    }

    /// Makes the entries behind peers that do not come from frames what the engines say. Returns
    /// what became of those of a control plane; a person knows what became of his own.
    fn pin_remote_entries(&self, now: Timestamp) -> Vec<(Name, &'static str, FdbKey, Egress)> {
        let port = self.vtep_port();
        let mut news = Vec::new();
        for bridge in &self.bridges {
            let Some(vni) = bridge.spec.vni else { continue };
            let peers = self
                .peers
                .iter()
                .filter(|peer| peer.bridge == bridge.spec.name);
            let peers: BTreeMap<SocketAddr, PeerId> =
                peers.map(|peer| (peer.to, peer.id)).collect();
            let mut wanted = BTreeMap::new();
            // The settings have the last word.
            for told in [&self.engines.of_control, &self.engines.of_settings] {
                let claims = told.macs.iter().filter(|((of, ..), _)| *of == vni);
                for (&(_, mac, vlan), claim) in claims {
                    if let Some(&peer) = peers.get(&claim.remote.address(port)) {
                        let place = (Egress::Peer(peer), claim.kind);
                        wanted.insert(FdbKey::new(mac, vlan), (place, claim.is_new));
                    }
                }
            }
            let name = &bridge.spec.name;
            let gone = bridge.fdb.flush(|key, entry| {
                entry.kind != EntryKind::Learned
                    && entry.egress.peer().is_some()
                    && wanted.get(&key).map(|&(place, _)| place) != Some((entry.egress, entry.kind))
            });
            let of_control = |kind: EntryKind| kind == EntryKind::Control;
            let gone = gone.iter().filter(|(_, entry)| of_control(entry.kind));
            news.extend(gone.map(|(key, entry)| (name.clone(), "deleted", *key, entry.egress)));
            for (key, ((egress, kind), is_new)) in wanted {
                let old = bridge.fdb.get(key);
                // What a person or a host port has here stays here.
                // Likewise what has come here since a control plane has spoken of it.
                let is_ours = old.is_some_and(|old| {
                    let has_come = kind == EntryKind::Control && !is_new;
                    old.egress.port().is_some() && (old.kind != EntryKind::Learned || has_come)
                });
                let is_there = old.is_some_and(|old| (old.egress, old.kind) == (egress, kind));
                if !is_there && !is_ours {
                    bridge.fdb.pin(key, egress, kind, now);
                    if of_control(kind) {
                        news.push((name.clone(), "added", key, egress));
                    }
                }
            }
        }
        news
    }

    /// The bridge of that name, which must be on the overlay, or the only one that is.
    pub(super) fn overlay_bridge(
        &self,
        operation: &str,
        name: Option<&Name>,
    ) -> Result<&BridgeState, ApiError> {
        if let Some(name) = name {
            let bridge = self.known_bridge(operation, name)?;
            if bridge.spec.vni.is_none() {
                return Err(ApiError::invalid(format!(
                    "{operation}: bridge {name} has no VNI; give it one: tapswitch bridge set {name} --vni N"
                )));
            }
            return Ok(bridge);
        }
        let on_overlay: Vec<_> = self
            .bridges
            .iter()
            .filter(|bridge| bridge.spec.vni.is_some())
            .collect();
        match on_overlay[..] {
            [only] => Ok(only),
            [] => Err(ApiError::invalid(format!(
                "{operation}: no bridge has a VNI; give one to a bridge: tapswitch bridge set NAME --vni N"
            ))),
            _ => Err(ApiError::invalid(format!(
                "{operation}: which bridge? {} have VNIs; give --bridge NAME",
                on_overlay
                    .iter()
                    .map(|bridge| bridge.spec.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }

    /// The sockets of the endpoint, if they are open.
    pub(super) fn underlay(&self) -> Option<&Arc<Underlay>> {
        self.vtep.as_ref().and_then(VtepState::underlay)
    }

    /// The UDP port of the endpoint, and of peers that name none.
    pub(super) fn vtep_port(&self) -> u16 {
        self.vtep
            .as_ref()
            .map_or(VtepSpec::DEFAULT_PORT, |vtep| vtep.spec.port)
    }
}

fn open(spec: &VtepSpec) -> Result<Underlay, UnderlayError> {
    Underlay::open(&UnderlayOptions {
        local: spec.local,
        port: spec.port,
        ttl: spec.ttl,
        udpcsum: spec.udpcsum,
        udp6zerocsumrx: spec.udp6zerocsumrx,
        offload: spec.offload == OffloadMode::On,
        netns: spec.netns.as_ref(),
    })
}

/// What a path is believed to take until the kernel has said more.
const DEFAULT_PATH_MTU: u32 = 1500;
