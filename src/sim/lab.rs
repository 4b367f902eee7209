//! Bridges and memory ports on one table.

mod capture;
mod look;
mod overlay;
mod trace;

pub use self::capture::captured;

use std::{sync::Arc, time::Duration};

use super::{MemPort, Story, StoryLog};
use crate::{
    bridge::{Bridge, Egress, EntryKind, Fdb, FdbEntry, FdbKey, PortFlags, PortId},
    config::{BridgeSpec, Mode},
    datapath::{Counters, Datapath, Observer, Port, Topology, capture::Installed},
    names::Name,
    time::Timestamp,
    wire::MacAddr,
};

/// A whole switch in memory, driven by hand.
///
/// ```
/// use tapswitch::sim::{Lab, frames};
///
/// let (mut lab, [a, b, c]) = Lab::switch(["podA", "podB", "podC"]);
/// assert_eq!(lab.relay(a, &frames::broadcast(frames::mac(1))), [b, c]);
/// assert_eq!(lab.relay(b, &frames::unicast(frames::mac(2), frames::mac(1))), [a]);
/// lab.assert_accounted();
/// ```
#[derive(Debug)]
pub struct Lab {
    now: Timestamp,
    swept: Timestamp,
    workers: usize,
    bridges: Vec<(BridgeSpec, Arc<Fdb>)>,
    ports: Vec<LabPort>,
    vtep: Option<overlay::LabVtep>,
    topology: Arc<Topology>,
    datapath: Datapath,
    captures: Vec<Installed>,
    last_capture: u64,
}

#[derive(Debug)]
struct LabPort {
    id: PortId,
    name: String,
    bridge: usize,
    flags: PortFlags,
    mtu: u32,
    io: Arc<MemPort>,
    counters: Arc<Counters>,
    plugged: bool,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    /// An empty lab at second 0.
    pub fn new() -> Self {
        Self::with_workers(1)
    }

    /// An empty lab whose counters have room for further workers; the lab's own is number 0.
    pub fn with_workers(workers: usize) -> Self {
        Self {
            now: Timestamp::ZERO,
            swept: Timestamp::ZERO,
            workers,
            bridges: Vec::new(),
            ports: Vec::new(),
            vtep: None,
            topology: Arc::default(),
            datapath: Datapath::new(0),
            captures: Vec::new(),
            last_capture: 0,
        }
    }

    /// One bridge with default settings and a port for each name.
    pub fn switch<const N: usize>(names: [&str; N]) -> (Self, [PortId; N]) {
        Self::with_bridge(Self::spec("br0"), names)
    }

    /// One bridge with these settings and a port for each name.
    pub fn with_bridge<const N: usize>(spec: BridgeSpec, names: [&str; N]) -> (Self, [PortId; N]) {
        let mut lab = Self::new();
        let bridge = lab.add_bridge(spec);
        let ports = names.map(|name| lab.add_port(bridge, name));
        (lab, ports)
    }

    /// Default settings for a bridge of this name.
    ///
    /// # Panics
    /// If `name` is not a valid name.
    pub fn spec(name: &str) -> BridgeSpec {
        BridgeSpec::new(Name::new(name).expect("a lab's bridge has a valid name"))
    }

    /// Shows every frame from now on to `observer`.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.use_datapath(Datapath::new(0).with_observer(observer));
    }

    /// Moves every frame from now on with `datapath`, which is that of worker 0.
    pub fn use_datapath(&mut self, datapath: Datapath) {
        self.datapath = datapath;
        self.datapath.adopt(&self.topology);
    }

    /// Tells every frame from now on: the log has the latest `capacity` sentences.
    pub fn tell(&mut self, capacity: usize) -> StoryLog {
        let (story, log) = Story::new(capacity);
        for port in &self.ports {
            log.name_port(port.id, &port.name);
        }
        self.observe(Box::new(story));
        log
    }

    // ------------------------------------------------------------------------------- building

    /// Adds a bridge and returns its number.
    pub fn add_bridge(&mut self, spec: BridgeSpec) -> usize {
        self.bridges.push((spec, Arc::new(Fdb::new())));
        self.rebuild();
        self.bridges.len() - 1
    }

    /// Plugs a port in, with default flags and the bridge's MTU.
    pub fn add_port(&mut self, bridge: usize, name: &str) -> PortId {
        self.add_port_with(bridge, name, MemPort::new())
    }

    /// Plugs a port in that ends at `io`.
    ///
    /// # Panics
    /// If there is no such bridge, or too many ports.
    pub fn add_port_with(&mut self, bridge: usize, name: &str, io: MemPort) -> PortId {
        let id = PortId::new(self.ports.len()).expect("a lab has fewer ports than the limit");
        self.ports.push(LabPort {
            id,
            name: name.to_owned(),
            bridge,
            flags: PortFlags::DEFAULT,
            mtu: self.bridges[bridge].0.effective_mtu(),
            io: Arc::new(io),
            counters: Arc::new(Counters::new(self.workers)),
            plugged: true,
        });
        self.rebuild();
        id
    }

    /// Unplugs a port and forgets every address behind it.
    pub fn remove_port(&mut self, port: PortId) {
        self.ports[port.index()].plugged = false;
        self.rebuild();
        let bridge = self.ports[port.index()].bridge;
        self.bridges[bridge]
            .1
            .flush(|_, entry| entry.egress == Egress::Port(port));
    }

    /// Replaces a port's flags, as they stand.
    pub fn set_flags(&mut self, port: PortId, flags: PortFlags) {
        self.ports[port.index()].flags = flags;
        self.rebuild();
    }

    /// Sets or clears one flag of a port.
    pub fn set_flag(&mut self, port: PortId, flag: PortFlags, set: bool) {
        self.set_flags(port, self.flags(port).with(flag, set));
    }

    /// Takes a port up or down. Down forgets what was learned behind it.
    pub fn set_up(&mut self, port: PortId, up: bool) {
        self.set_flag(port, PortFlags::UP, up);
        if !up {
            self.flush(port);
        }
    }

    /// Sets a port's MTU.
    pub fn set_mtu(&mut self, port: PortId, mtu: u32) {
        self.ports[port.index()].mtu = mtu;
        self.rebuild();
    }

    /// Changes how a bridge relays; its FDB stays.
    pub fn set_mode(&mut self, bridge: usize, mode: Mode) {
        self.configure(bridge, |spec| spec.mode = mode);
    }

    /// Changes a bridge's settings; its FDB stays, but for what an ageing time of zero forgets.
    pub fn configure(&mut self, bridge: usize, change: impl FnOnce(&mut BridgeSpec)) {
        let (spec, fdb) = &mut self.bridges[bridge];
        change(spec);
        if spec.ageing.is_zero() {
            fdb.flush(|_, entry| entry.kind == EntryKind::Learned);
        }
        fdb.renew();
        self.rebuild();
    }

    /// Adds a static entry for `mac`, untagged, to the FDB of the port's bridge.
    pub fn pin(&mut self, mac: MacAddr, port: PortId) {
        let fdb = self.fdb_of(self.ports[port.index()].bridge);
        let key = FdbKey::new(mac, 0);
        fdb.pin(key, Egress::Port(port), EntryKind::Static, self.now);
    }

    /// Forgets what was learned behind a port; returns how much it was.
    pub fn flush(&mut self, port: PortId) -> usize {
        let fdb = self.fdb_of(self.ports[port.index()].bridge);
        let learned_here = |_, entry: &FdbEntry| {
            entry.kind == EntryKind::Learned && entry.egress == Egress::Port(port)
        };
        fdb.flush(learned_here).len()
    }

    // -------------------------------------------------------------------------------- traffic

    /// The host at `port` sends `frame`. Nothing moves until [`Self::run`].
    ///
    /// # Panics
    /// If the port's queue is full: a lab loses nothing by accident.
    pub fn send(&mut self, port: PortId, frame: &[u8]) {
        assert!(
            self.io(port).inject(frame),
            "the queue of {} towards the switch is full",
            self.name(port)
        );
    }

    /// Moves one batch of frames that came from `port`, and no more; returns how many the switch read.
    pub fn step(&mut self, port: PortId) -> usize {
        let serviced = self.datapath.service(self.now, &self.topology, port);
        serviced.frames
    }

    /// Moves frames until neither port nor underlay has any left; returns how many the switch read.
    pub fn run(&mut self) -> usize {
        let mut total = 0;
        loop {
            let mut frames = 0;
            for port in self.ports.iter().filter(|port| port.plugged) {
                let serviced = self.datapath.service(self.now, &self.topology, port.id);
                frames += serviced.frames;
            }
            frames += self
                .datapath
                .service_underlay(self.now, &self.topology)
                .frames;
            if frames == 0 {
                return total;
            }
            total += frames;
        }
    }

    /// Everything delivered to `port` since the last call, oldest first.
    pub fn received(&mut self, port: PortId) -> Vec<Vec<u8>> {
        let io = self.io(port);
        std::iter::from_fn(|| io.take()).collect()
    }

    /// Sends one frame, runs, and returns the ports that it reached, once for each copy; takes all
    /// copies away.
    ///
    /// # Panics
    /// If a copy differs from `frame`, or something else was on its way or waiting to be taken.
    pub fn relay(&mut self, port: PortId, frame: &[u8]) -> Vec<PortId> {
        self.send(port, frame);
        assert_eq!(self.run(), 1, "frames were on their way already");
        let mut reached = Vec::new();
        for port in &self.ports {
            while let Some(copy) = port.io.take() {
                assert!(copy == frame, "{} got other bytes", port.name);
                reached.push(port.id);
            }
        }
        reached
    }

    // ----------------------------------------------------------------------------------- time

    /// Lets time pass and, as the daemon does each second, deletes what has aged.
    pub fn advance(&mut self, duration: Duration) {
        self.skip(duration);
        if self.now.since(self.swept) >= Duration::from_secs(1) {
            self.sweep();
        }
    }

    /// Lets time pass without deleting anything: aged entries are still in the table.
    pub fn skip(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    /// Deletes what has aged, and returns it.
    pub fn sweep(&mut self) -> Vec<(FdbKey, FdbEntry)> {
        self.swept = self.now;
        let bridges = self.topology.bridges().iter();
        bridges.flat_map(|bridge| bridge.age(self.now)).collect()
    }

    fn rebuild(&mut self) {
        let bridges = self.bridges.iter().enumerate().map(|(index, (spec, fdb))| {
            let members: Vec<_> = self
                .ports
                .iter()
                .filter(|port| port.plugged && port.bridge == index)
                .map(|port| (port.id, port.flags))
                .collect();
            let bridge = Bridge::new(spec, &members, Arc::clone(fdb));
            let overlay = self.vtep.as_ref().and_then(|vtep| vtep.overlay_of(index));
            match overlay {
                Some((flood_list, learns)) => bridge.with_overlay(flood_list, learns),
                None => bridge,
            }
        });
        let ports = self.ports.iter().filter(|port| port.plugged).map(|port| {
            let counters = Arc::clone(&port.counters);
            let io = Arc::clone(&port.io);
            Port::new(port.id, port.bridge, io, port.mtu, counters)
        });
        let topology = Topology::new(bridges.collect(), ports);
        let topology = topology.with_captures(self.captures.clone());
        self.topology = Arc::new(match &self.vtep {
            Some(vtep) => topology.with_vtep(vtep.build()),
            None => topology,
        });
        self.datapath.adopt(&self.topology);
    }
}
