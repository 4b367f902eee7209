//! The overlay: the VXLAN endpoint, its peers, and what follows from the paths to them.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap, HashSet},
    io::IoSlice,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::{
    engine::Engines,
    state::{BridgeState, Link, State},
    switch::Inner,
    underlay::{Underlay, UnderlayError, UnderlayOptions},
};
use crate::{
    bridge::{DropReason, Egress, EntryKind, FdbEntry, FdbKey, PeerId},
    config::{Accept, BridgeSpec, OffloadMode, PeerAddr, Tos, VtepSpec},
    control::api::{ApiError, MtuChain, PeerKind},
    datapath::{
        Arrived, Counters, Departed, Departure, Dscp, PathMtu, Peer, Stranger, UnderlayIo, Vtep,
        VtepPolicy,
    },
    names::Name,
    netlink,
    sys::cause_text,
    time::Timestamp,
    vxlan,
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
            let user = state.bridges.iter().find(|b| b.spec.vni.is_some());
            if let (
                None,
                Some(BridgeSpec {
                    name,
                    vni: Some(vni),
                    ..
                }),
            ) = (&new, user.map(|b| &b.spec))
            {
                return Err(ApiError::failed(format!(
                    "delete vtep: bridge {name} has VNI {vni}; take it off the overlay first: tapswitch \
                     bridge set {name} --vni none"
                )));
            }
            let mut whole = state.spec();
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
        let is_it = |peer: &PeerAddr| peer.address(default) == remote.address(default);
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
                counters: Arc::new(Counters::new(self.workers.len())),
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

    /// Asks the kernel what the path to each peer takes, and passes changes on to the bridges.
    fn follow_paths(&self, state: &mut State, which: Paths) {
        let State { vtep, peers, .. } = state;
        if let Some(underlay) = vtep.as_ref().and_then(VtepState::underlay) {
            let is_homeless = LazyCell::new(|| underlay.is_homeless());
            for peer in peers {
                if which == Paths::New && peer.is_told {
                    continue;
                }
                let asked = if *is_homeless {
                    Err(format!("no interface has our address {}", underlay.local()))
                } else {
                    let asked = underlay.ask_path(peer.to);
                    asked.map_err(|error| cause_text(&error))
                };
                self.follow_path(peer, asked);
            }
        }
        let names: Vec<Name> = state
            .bridges
            .iter()
            .map(|bridge| bridge.spec.name.clone())
            .collect();
        // Asked for once, and only if somebody wants to know: it takes a thread and a socket.
        let underlay = state.underlay().cloned();
        let device = LazyCell::new(|| underlay.and_then(|underlay| underlay.device()));
        let device = || device.clone();
        for name in names {
            self.follow_mtu(state, &name, &device);
        }
        fit_superframes(state);
    }

    /// The path to `peer` takes so much, or there is none and this is why.
    fn follow_path(&self, peer: &mut PeerState, asked: Result<u32, String>) {
        match asked {
            Ok(mtu) => {
                if peer.no_route.take().is_some() {
                    self.events.peer(peer, "route back", None);
                }
                peer.path.set(mtu);
                if peer.told_mtu.replace(mtu).is_some_and(|told| told != mtu) {
                    self.events.peer(peer, "mtu", None);
                }
            }
            Err(reason) => {
                if peer.is_told && peer.no_route.is_none() {
                    self.events.peer(peer, "no route", Some(&reason));
                }
                peer.no_route = Some(reason);
            }
        }
    }

    /// Asks for the paths to all peers, and puts in force what follows.
    fn ask_all_paths(&self, state: &mut State) {
        let before: Vec<u32> = state.bridges.iter().map(BridgeState::mtu).collect();
        self.follow_paths(state, Paths::All);
        let after = state.bridges.iter().map(BridgeState::mtu);
        if !after.eq(before) {
            self.publish(state);
        }
    }

    /// Gives the ports of a bridge on the overlay the MTU that the paths to its peers leave, unless
    /// one was given.
    fn follow_mtu(
        &self,
        state: &mut State,
        name: &Name,
        device: &dyn Fn() -> Option<(String, u32)>,
    ) {
        let chain = state.mtu_chain(name, device);
        let is_unknown = chain.is_none() && state.vtep.is_some();
        let Some(bridge) = state
            .bridges
            .iter_mut()
            .find(|bridge| bridge.spec.name == *name)
        else {
            return;
        };
        if is_unknown && bridge.spec.vni.is_some() {
            // The address or the endpoint is gone for now: what was known is the best guess.
            return;
        }
        let before = bridge.mtu();
        bridge.mtu_chain = chain;
        let mtu = bridge.mtu();
        if mtu != before {
            self.offer_mtu(state, name, mtu);
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

    /// VTEPs that are no peers have sent something to bridges that take it from anybody.
    pub(super) fn meet(&self, state: &mut State, strangers: &[Stranger]) {
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
    pub(super) fn forget_strangers(&self, state: &mut State, now: Timestamp) {
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
pub(super) struct Met {
    pub(super) bridge: Name,
    pub(super) ip: IpAddr,
    /// When there was last an FDB entry that pointed to it, or else when it was met.
    pub(super) used_at: Timestamp,
}

/// How long a stranger may be there for nothing: the ageing time, also where nothing is learned.
fn patience(spec: &BridgeSpec) -> Duration {
    match spec.ageing {
        Duration::ZERO => BridgeSpec::DEFAULT_AGEING,
        ageing => ageing,
    }
}

/// Keeps superframes of ports on the overlay so short that one fits one message to a peer, headers
/// of all its segments included: two messages for one superframe cost a tenth of the throughput.
pub(super) fn fit_superframes(state: &mut State) {
    let State { bridges, ports, .. } = state;
    for port in ports {
        let Link::Plugged(plugged) = &mut port.link else {
            continue;
        };
        let is_on_overlay = bridges
            .iter()
            .any(|bridge| bridge.spec.name == port.spec.bridge && bridge.spec.vni.is_some());
        let segments = if is_on_overlay {
            // An inner Ethernet header and a VXLAN header go with each.
            (LONGEST_MESSAGE / (port.mtu + 14 + 8)).max(1)
        } else {
            ANY_SEGMENTS
        };
        if segments == plugged.gso_max_segs {
            continue;
        }
        let netns = plugged
            .io
            .device()
            .netns()
            .map_err(|error| error.to_string());
        let done = netns.and_then(|netns| {
            netlink::set_gso_max_segs(Some(&netns), plugged.ifindex, segments)
                .map_err(|error| error.to_string())
        });
        match done {
            Ok(()) => plugged.gso_max_segs = segments,
            // It only costs time.
            Err(error) => tracing::debug!(port = %port.spec.name, "{error}"),
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

/// Which paths the kernel is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paths {
    /// Those that it has not been asked for yet.
    New,
    /// All of them.
    All,
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

    /// How the `auto` MTU of a bridge on the overlay comes about: the narrowest path, less what
    /// the overlay adds.
    fn mtu_chain(
        &self,
        name: &Name,
        device: &dyn Fn() -> Option<(String, u32)>,
    ) -> Option<MtuChain> {
        let bridge = self.bridge(name)?;
        let vtep = self.vtep.as_ref()?;
        bridge.spec.vni?;
        let is_v6 = vtep.spec.local.is_ipv6();
        let peers = self
            .peers
            .iter()
            .filter(|peer| peer.bridge == *name && peer.kind != PeerKind::Learned)
            // Of a path that nobody has ever seen nothing is known.
            .filter(|peer| peer.told_mtu.is_some());
        let narrowest = peers
            .map(|peer| (peer.path.get(), format!("path to {}", peer.to.ip())))
            .min_by_key(|&(mtu, _)| mtu);
        let (path_mtu, from) = narrowest.or_else(|| {
            let (device, mtu) = device()?;
            Some((mtu, format!("device {device}")))
        })?;
        let overhead = vxlan::overhead(is_v6);
        let mut mtu = path_mtu.saturating_sub(overhead);
        if mtu < LEAST_MTU {
            // Below this Linux takes IPv6 away from an interface, and whoever can forge an ICMP
            // message can narrow a path. So a path alone never does that: what does not fit it is
            // dropped, and its sender told.
            let of_device = device().map_or(mtu, |(_, mtu)| mtu.saturating_sub(overhead));
            mtu = mtu.max(of_device.min(LEAST_MTU));
        }
        let less = vxlan::headers(is_v6);
        Some(MtuChain {
            from,
            path_mtu,
            less: less.map(|(layer, len)| (layer.to_owned(), len)).into(),
            mtu: mtu.max(LEAST_V4_MTU),
        })
    }

    /// The endpoint as the workers see it; `index_of` finds bridges in their topology.
    pub(super) fn vtep_topology(&self, index_of: impl Fn(&Name) -> Option<usize>) -> Option<Vtep> {
        let vtep = self.vtep.as_ref()?;
        let VtepSpec {
            local,
            port,
            ttl,
            accept,
            strict,
            tos,
            too_big_answers,
            ..
        } = vtep.spec;
        let policy = VtepPolicy {
            local,
            port,
            ttl,
            accepts_any: accept == Accept::Any,
            is_strict: strict,
            dscp: match tos {
                Tos::Inherit => Dscp::Inherit,
                Tos::Fixed(tos) => Dscp::Fixed(tos),
            },
            answers_too_big: too_big_answers,
        };
        let io: Arc<dyn UnderlayIo> = match &vtep.link {
            VtepLink::Open(underlay) => Arc::clone(underlay) as Arc<dyn UnderlayIo>,
            VtepLink::Closed(_) => Arc::new(NoUnderlay),
        };
        let mut result = Vtep::new(io, policy, Arc::clone(&vtep.counters));
        for bridge in &self.bridges {
            if let (Some(vni), Some(index)) = (bridge.spec.vni, index_of(&bridge.spec.name)) {
                result = result.with_vni(vni, index);
            }
        }
        for peer in &self.peers {
            if let Some(bridge) = index_of(&peer.bridge) {
                result = result.with_peer(Peer {
                    id: peer.id,
                    bridge,
                    vni: peer.vni,
                    to: peer.to,
                    path: Arc::clone(&peer.path),
                    counters: Arc::clone(&peer.counters),
                });
            }
        }
        Some(result)
    }

    /// Who gets copies of what the bridge floods.
    pub(super) fn flood_list(&self, bridge: &Name) -> Vec<PeerId> {
        self.peers
            .iter()
            .filter(|peer| peer.bridge == *bridge && peer.is_flooded)
            .map(|peer| peer.id)
            .collect()
    }
}

/// An endpoint without sockets: what goes to its peers is lost, and counted there.
#[derive(Debug)]
struct NoUnderlay;

impl UnderlayIo for NoUnderlay {
    fn receive(&self, _buf: &mut [u8]) -> Arrived {
        Arrived::Empty
    }

    fn transmit(&self, _departure: &Departure, _parts: &[IoSlice<'_>]) -> Departed {
        Departed::Dropped(DropReason::NoRoute)
    }

    fn most_in_message(&self) -> usize {
        1
    }

    fn path_mtu(&self, _to: SocketAddr) -> Option<u32> {
        None
    }

    fn obstacle(&self, _to: SocketAddr) -> Option<DropReason> {
        Some(DropReason::NoRoute)
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

/// Bytes of one UDP message over IPv4.
const LONGEST_MESSAGE: u32 = 65_507;
/// The kernel's default (`GSO_MAX_SEGS`, include/linux/netdevice.h).
pub(super) const ANY_SEGMENTS: u32 = 65_535;
/// What a path is believed to take until the kernel has said more.
const DEFAULT_PATH_MTU: u32 = 1500;
/// The least MTU of IPv6 (RFC 8200 §5), below which Linux switches IPv6 off.
const LEAST_MTU: u32 = 1280;
/// The same of IPv4 (RFC 791).
const LEAST_V4_MTU: u32 = 68;
/// Learned peers of one bridge: a bound for what others can make the process remember.
const MOST_STRANGERS: usize = 1024;
