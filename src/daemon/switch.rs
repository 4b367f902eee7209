//! The running switch: workers, state, and the one place where requests take effect.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::sync::broadcast;

use super::{
    clock::Clock,
    directory::Directory,
    engine::Engines,
    events::EventBus,
    history::History,
    housekeeping::Housekeeping,
    knock::Memory,
    options::Tuning,
    overlay::PeerState,
    ping::PingBoard,
    state::{BridgeState, State},
    worker::Workers,
};
use crate::{
    bridge::{EntryKind, PeerId, PortId},
    config::{BridgeSpec, OffloadMode, PortSpec, SwitchSpec},
    control::{
        Capturing, Controller,
        api::{ApiError, BridgeChange, CaptureRequest, Event, Request, Response},
    },
    datapath::{Datapath, Observer},
    names::Name,
    overlay::Engine,
    sys::clock,
    time::Timestamp,
};

/// Settings of a switch that hold as long as it runs.
#[derive(Debug)]
pub struct SwitchOptions {
    /// From which, with a port's name, the port's MAC address is derived.
    pub name: String,
    /// Worker threads; `None`: 1 on up to 2 CPUs, else one for each.
    pub workers: Option<usize>,
    /// Off: no port has the fast engine, whatever it asks for.
    pub offload: OffloadMode,
    /// What only changes how fast it is.
    pub tuning: Tuning,
    /// The clock.
    pub clock: Clock,
    /// A control plane beside the settings.
    pub engine: Option<Box<dyn Engine>>,
    /// Shown every frame of the first worker; for demos and tests.
    pub observer: Option<Box<dyn Observer>>,
}

impl Default for SwitchOptions {
    fn default() -> Self {
        Self {
            name: default_name(),
            workers: None,
            offload: OffloadMode::default(),
            tuning: Tuning::default(),
            clock: Clock::default(),
            engine: None,
            observer: None,
        }
    }
}

/// The host's name: so the same port names yield other MAC addresses on other machines.
pub fn default_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "tapswitch".to_owned())
}

/// A running switch. Clones are handles to the same one; it stops with the last.
#[derive(Clone, Debug)]
pub struct Switch {
    inner: Arc<Inner>,
    // Behind `inner`, so that housekeeping can hold that without keeping itself alive.
    _housekeeping: Arc<Housekeeping>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) name: String,
    pub(super) clock: Clock,
    /// On the monotonic clock, and in seconds since 1970.
    pub(super) started: (Timestamp, f64),
    pub(super) workers: Workers,
    offload: OffloadMode,
    pub(super) tuning: Tuning,
    pub(super) events: Arc<EventBus>,
    pub(super) pings: PingBoard,
    pub(super) knocks: Memory,
    state: Mutex<State>,
}

impl Switch {
    /// Starts a switch without bridges.
    ///
    /// # Errors
    /// If the kernel refuses threads or descriptors.
    pub fn start(options: SwitchOptions) -> io::Result<Self> {
        let count = options.workers.unwrap_or_else(default_workers).max(1);
        let (notices, inbox) = mpsc::channel();
        let (learned, news) = sync_channel(LEARNED_QUEUE);
        let (overlay, overlay_news) = sync_channel(OVERLAY_QUEUE);
        let mut observer = options.observer;
        let datapaths = (0..count).map(|index| {
            let datapath = Datapath::new(index)
                .with_coalescing(options.tuning.coalesce)
                .with_flow_cache(options.tuning.flow_cache)
                .with_recorder(options.tuning.recorder)
                .with_cache_growth(options.tuning.cache_growth)
                .with_gathering(options.tuning.gather)
                .with_aqm(options.tuning.aqm)
                .with_learned(learned.clone())
                .with_overlay_news(overlay.clone());
            match observer.take() {
                Some(observer) => datapath.with_observer(observer),
                None => datapath,
            }
        });
        let datapaths: Vec<_> = datapaths.collect();
        let lost_news = datapaths
            .iter()
            .map(|datapath| Arc::clone(datapath.lost_news()));
        let history = History::new(lost_news.collect());
        let workers = Workers::start(datapaths, options.clock.clone(), options.tuning, &notices)?;
        let engines = Engines::new(options.engine);
        let clock = options.clock.clone();
        let events = Arc::new(EventBus::new(engines.ear(), clock, history));
        events.follow(news)?;
        let inner = Arc::new(Inner {
            name: options.name,
            clock: options.clock,
            started: (clock::now(), clock::unix_time()),
            workers,
            offload: options.offload,
            tuning: options.tuning,
            events,
            pings: PingBoard::default(),
            knocks: Memory::default(),
            state: Mutex::new(State {
                engines,
                ..State::default()
            }),
        });
        super::news::follow(&inner, overlay_news)?;
        let housekeeping = Housekeeping::start(&inner, inbox, notices)?;
        Ok(Self {
            inner,
            _housekeeping: Arc::new(housekeeping),
        })
    }

    /// Carries `request` out; it has taken effect when this returns.
    ///
    /// # Errors
    /// An [`ApiError`]; the switch is then as it was before.
    pub fn execute(&self, request: Request) -> Result<Response, ApiError> {
        let inner = &self.inner;
        let mut state = inner.state();
        match request {
            Request::VtepSet(spec) => inner
                .set_vtep(&mut state, Some(spec))
                .map(|_| Response::Done),
            Request::VtepDel => inner.set_vtep(&mut state, None).map(|_| Response::Done),
            Request::VtepShow => Ok(Response::Vtep(inner.show_vtep(&state))),
            Request::PeerAdd { bridge, remote } => inner
                .add_peer(&mut state, bridge.as_ref(), remote)
                .map(|()| Response::Done),
            Request::PeerDel { bridge, remote } => inner
                .delete_peer(&mut state, bridge.as_ref(), remote)
                .map(|()| Response::Done),
            Request::PeerShow { bridge } => inner
                .show_peers(&state, bridge.as_ref())
                .map(Response::Peers),
            // It takes seconds, in which others may go on.
            Request::PeerPing(request) => {
                let ping = inner.prepare_ping(&state, request)?;
                drop(state);
                ping.run(inner).map(Response::Ping)
            }
            // Likewise: namespaces and peers take their time.
            Request::Doctor(request) => {
                drop(state);
                inner.doctor(&request).map(Response::Doctor)
            }
            Request::Why(request) => inner.why(state, &request).map(Response::Why),
            Request::Show => Ok(Response::Show(inner.show(&mut state))),
            Request::BridgeAdd(spec) => inner.add_bridge(&mut state, spec).map(|()| Response::Done),
            Request::BridgeSet(change) => inner
                .change_bridge(&mut state, &change)
                .map(|()| Response::Done),
            Request::BridgeDel { name } => inner
                .delete_bridge(&mut state, &name)
                .map(|_| Response::Done),
            Request::BridgeShow { name } => inner
                .show_bridges(&state, name.as_ref())
                .map(Response::Bridges),
            Request::PortAdd(mut spec) => {
                inner.choose_engine(&mut spec);
                let name = spec.name.clone();
                inner.add_port(&mut state, spec, None)?;
                inner
                    .show_ports(&mut state, Some(&name))
                    .map(Response::Ports)
            }
            Request::PortSet(change) => inner
                .change_port(&mut state, &change)
                .map(|()| Response::Done),
            Request::PortDel { name } => {
                inner.delete_port(&mut state, &name).map(|_| Response::Done)
            }
            Request::PortShow { name } => inner
                .show_ports(&mut state, name.as_ref())
                .map(Response::Ports),
            Request::FdbShow(selector) => inner.show_fdb(&state, &selector).map(Response::Fdb),
            Request::FdbGet(wanted) => inner.get_fdb(&state, &wanted).map(Response::Fdb),
            Request::FdbAdd(entry) => inner.add_static(&mut state, entry).map(|()| Response::Done),
            Request::FdbDel(wanted) => inner
                .delete_fdb(&mut state, &wanted)
                .map(|()| Response::Done),
            Request::FdbFlush(selector) => inner
                .flush_fdb(&mut state, &selector)
                .map(Response::Flushed),
            Request::FdbWhy { bridge, mac, vlan } => inner
                .fdb_story(&state, bridge.as_ref(), mac, vlan)
                .map(Response::FdbWhy),
            Request::CaptureStop { id } => inner.stop_capture(&mut state, id),
            Request::Stats { port } => inner.stats(&mut state, port.as_ref()).map(Response::Stats),
            Request::Counters => Ok(Response::Stats(inner.counters(&state))),
            Request::Trace(request) => inner.trace(&state, request),
            Request::Apply { mut spec, dry_run } => {
                let ports = spec.ports.iter_mut();
                ports.for_each(|port| inner.choose_engine(port));
                inner.apply(&mut state, &spec, dry_run).map(Response::Plan)
            }
        }
    }

    /// The running switch as settings.
    pub fn spec(&self) -> SwitchSpec {
        self.inner.state().spec()
    }

    /// The number of the port of that name, as an [`Observer`] is told it.
    pub fn port_id(&self, name: &Name) -> Option<PortId> {
        self.inner.state().port(name).map(|port| port.id)
    }

    /// The number of a bridge's remote VTEP at `ip`, likewise.
    pub fn peer_id(&self, bridge: &Name, ip: IpAddr) -> Option<PeerId> {
        let state = self.inner.state();
        let is_it = |peer: &&PeerState| peer.bridge == *bridge && peer.to.ip() == ip;
        state.peers.iter().find(is_it).map(|peer| peer.id)
    }

    /// Deletes what has aged. The switch does it by itself once a second; for tests that have
    /// pushed the clock.
    pub fn age(&self) {
        self.inner.age(&mut self.inner.state());
    }

    /// The switch's clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }
}

impl Controller for Switch {
    fn execute(&self, request: Request) -> Result<Response, ApiError> {
        Self::execute(self, request)
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        Self::subscribe(self)
    }

    fn capture(&self, request: CaptureRequest) -> Result<Capturing, ApiError> {
        Self::capture(self, request)
    }
}

impl Inner {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held has left whole values behind: each change is published
        // in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose_engine(&self, port: &mut PortSpec) {
        if self.offload == OffloadMode::Off {
            port.offload = OffloadMode::Off;
        }
    }

    /// Puts the state in force.
    pub(super) fn publish(&self, state: &State) {
        self.events.know(Directory::of(state));
        self.workers.publish(state.topology());
    }

    pub(super) fn add_bridge(&self, state: &mut State, spec: BridgeSpec) -> Result<(), ApiError> {
        let name = spec.name.clone();
        if state.bridge(&name).is_some() {
            return Err(ApiError::failed(format!(
                "add bridge {name}: a bridge of this name exists; change it with: tapswitch bridge set {name}"
            )));
        }
        check_bridge(state, &spec)?;
        state.bridges.push(BridgeState::new(spec));
        self.reconcile(state);
        self.events.bridge(&name, "added");
        Ok(())
    }

    pub(super) fn delete_bridge(
        &self,
        state: &mut State,
        name: &Name,
    ) -> Result<BridgeSpec, ApiError> {
        state.known_bridge("delete bridge", name)?;
        let ports: Vec<_> = state
            .ports
            .iter()
            .filter(|port| port.spec.bridge == *name)
            .map(|port| port.spec.name.as_str())
            .collect();
        if !ports.is_empty() {
            return Err(ApiError::failed(format!(
                "delete bridge {name}: it has ports ({}); delete them first: tapswitch port del NAME",
                ports.join(", ")
            )));
        }
        let index = state
            .bridges
            .iter()
            .position(|bridge| bridge.spec.name == *name)
            .unwrap_or_default();
        let gone = state.bridges.remove(index);
        state.statics.retain(|entry| entry.bridge != *name);
        state.strangers.retain(|met| met.bridge != *name);
        self.reconcile(state);
        self.events.history.forget(name);
        self.events.bridge(name, "deleted");
        Ok(gone.spec)
    }

    fn change_bridge(&self, state: &mut State, change: &BridgeChange) -> Result<(), ApiError> {
        let mut spec = state.known_bridge("set bridge", &change.name)?.spec.clone();
        if let Some(seconds) = change.ageing_s {
            spec.ageing = Duration::try_from_secs_f64(seconds).map_err(|_| {
                ApiError::invalid(format!(
                    "set bridge {}: ageing {seconds} s is no duration",
                    change.name
                ))
            })?;
        }
        spec.mode = change.mode.unwrap_or(spec.mode);
        spec.mtu = change.mtu.unwrap_or(spec.mtu);
        spec.vni = change.vni.unwrap_or(spec.vni);
        spec.peers = change.peers.clone().unwrap_or(spec.peers);
        spec.peer_learning = change.peer_learning.unwrap_or(spec.peer_learning);
        spec.fdb_limit = change.fdb_limit.unwrap_or(spec.fdb_limit);
        spec.at_limit = change.at_limit.unwrap_or(spec.at_limit);
        spec.forward_reserved = change.forward_reserved.unwrap_or(spec.forward_reserved);
        spec.flap_limit = change.flap_limit.unwrap_or(spec.flap_limit);
        self.set_bridge(state, spec).map(drop)
    }

    /// Gives the bridge of that name these settings; returns the ones that it had.
    pub(super) fn set_bridge(
        &self,
        state: &mut State,
        spec: BridgeSpec,
    ) -> Result<BridgeSpec, ApiError> {
        let name = spec.name.clone();
        let old = state.known_bridge("set bridge", &name)?.spec.clone();
        check_bridge(state, &spec)?;
        super::rules::check_wire(state, &spec, 0)?;
        let auto = state
            .bridge(&name)
            .and_then(|bridge| bridge.mtu_chain.clone());
        let mtu_with = |spec: &BridgeSpec| {
            let chain = auto.as_ref().filter(|_| spec.vni.is_some());
            let auto = chain.map_or(BridgeSpec::DEFAULT_MTU, |chain| chain.mtu);
            spec.mtu.unwrap_or(auto)
        };
        if mtu_with(&spec) != mtu_with(&old) {
            self.push_mtu(state, &name, mtu_with(&spec))?;
        }
        let changed_mode = spec.mode != old.mode;
        let left_overlay = old.vni != spec.vni;
        let learns = !spec.ageing.is_zero();
        if let Some(bridge) = state
            .bridges
            .iter_mut()
            .find(|bridge| bridge.spec.name == name)
        {
            bridge.spec = spec;
        }
        if left_overlay {
            state.strangers.retain(|met| met.bridge != name);
        }
        // First in force, then forgotten: a worker with the old settings could learn it again.
        self.reconcile(state);
        if let Some(bridge) = state.bridge(&name) {
            bridge.fdb.renew();
            if changed_mode || !learns {
                // What a switch has learned is stale after a while as a hub.
                let gone = bridge
                    .fdb
                    .flush(|_, entry| changed_mode || entry.kind == EntryKind::Learned);
                let cause = "the settings of the bridge were changed";
                self.events.fdb_gone(state, &name, "flushed", cause, &gone);
            }
        }
        if changed_mode {
            let members = state.ports.iter().filter(|port| port.spec.bridge == name);
            members.for_each(|port| state.pin_entries(port, self.clock.now()));
            self.reconcile(state);
        }
        self.events.bridge(&name, "changed");
        Ok(old)
    }

    pub(super) fn age(&self, state: &mut State) {
        let now = self.clock.now();
        for bridge in &state.bridges {
            let gone = bridge.fdb.age(now, &bridge.policy());
            self.events.fdb_gone(
                state,
                &bridge.spec.name,
                "aged",
                "its lifetime was over",
                &gone,
            );
        }
        self.forget_strangers(state, now);
    }
}

fn check_bridge(state: &State, spec: &BridgeSpec) -> Result<(), ApiError> {
    let name = &spec.name;
    if !state.is_applying {
        let mut whole = state.spec();
        whole.bridges.retain(|bridge| bridge.name != *name);
        whole.bridges.push(spec.clone());
        super::rules::check_whole(&whole)?;
    }
    if spec.fdb_limit > MAX_FDB_LIMIT {
        return Err(ApiError::invalid(format!(
            "bridge {name}: fdb limit {} is out of range 0..={MAX_FDB_LIMIT}",
            spec.fdb_limit
        )));
    }
    // IEEE 802.1D-2004 table 7-5 has 10 s to 1,000,000 s; less is useful in a classroom.
    let seconds = spec.ageing.as_secs_f64();
    if seconds > 1e6 || (seconds > 0.0 && seconds < 1.0) {
        return Err(ApiError::invalid(format!(
            "bridge {name}: ageing {seconds} s is out of range; 0 (learn nothing) or 1 s to 1000000 s"
        )));
    }
    Ok(())
}

fn default_workers() -> usize {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    if cpus <= 2 { 1 } else { cpus }
}

/// A hundred megabytes of entries.
const MAX_FDB_LIMIT: u32 = 2_000_000;
/// Unknown VTEPs and answers to probes that may wait; who is lost here will be heard again.
const OVERLAY_QUEUE: usize = 1024;
/// News from the FDB that may wait for being told; the rest is only counted.
const LEARNED_QUEUE: usize = 4096;
