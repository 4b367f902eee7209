//! Our bridge and datapath over ports in memory, with a clock that the test turns.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tapswitch::{
    bridge::{Bridge, Egress, EntryKind, Fdb, FdbEntry, FdbKey, PortFlags, PortId},
    config::{AtLimit, BridgeSpec, ReservedMask},
    datapath::{Counters, Datapath, Port, PortIo, Received, Topology, Transmitted},
    names::Name,
    offload::Offloads,
    time::Timestamp,
    wire::{MacAddr, VirtioNetHdr},
};

use crate::{
    generator::{Flag, Op, PORTS, vlan_of},
    runner::{Copies, Entries, Entry, Model, Switch},
};

/// A switch in memory, with two workers that take turns.
#[derive(Debug)]
pub(crate) struct Memory {
    workers: Vec<Datapath>,
    spec: BridgeSpec,
    flags: [Option<PortFlags>; PORTS],
    fdb: Arc<Fdb>,
    ports: Vec<(Arc<Queues>, Arc<Counters>)>,
    topology: Topology,
    now: Timestamp,
}

impl Memory {
    /// With all that makes it fast.
    pub(crate) fn new() -> io::Result<Self> {
        Self::with(Datapath::new)
    }

    /// With nothing of that.
    pub(crate) fn plain() -> io::Result<Self> {
        Self::with(|worker| {
            Datapath::new(worker)
                .with_coalescing(false)
                .with_flow_cache(false)
                .with_cache_growth(false)
                .with_gathering(false)
        })
    }

    fn with(worker: impl Fn(usize) -> Datapath) -> io::Result<Self> {
        let name = Name::new("br0").map_err(io::Error::other)?;
        let spec = BridgeSpec {
            at_limit: AtLimit::Refuse,
            flap_limit: 0,
            forward_reserved: ReservedMask(Model::RESERVED),
            fdb_limit: UNLIMITED,
            ..BridgeSpec::new(name)
        };
        let port = || {
            (
                Arc::new(Queues::default()),
                Arc::new(Counters::new(WORKERS)),
            )
        };
        let mut memory = Self {
            workers: (0..WORKERS).map(worker).collect(),
            spec,
            flags: [Some(PortFlags::DEFAULT); PORTS],
            fdb: Arc::new(Fdb::new()),
            ports: (0..PORTS).map(|_| port()).collect(),
            topology: Topology::default(),
            now: Timestamp::from_secs(1),
        };
        memory.rebuild();
        Ok(memory)
    }

    fn rebuild(&mut self) {
        let members: Vec<(PortId, PortFlags)> = (0..PORTS)
            .filter_map(|port| Some((id(port), self.flags[port]?)))
            .collect();
        let ports: Vec<Port> = members
            .iter()
            .map(|&(id, _)| {
                let (io, counters) = &self.ports[id.index()];
                let mtu = self.spec.effective_mtu();
                Port::new(id, 0, Arc::<Queues>::clone(io), mtu, Arc::clone(counters))
            })
            .collect();
        let bridge = Bridge::new(&self.spec, &members, Arc::clone(&self.fdb));
        self.topology = Topology::new(vec![bridge], ports);
        self.fdb.renew();
    }

    fn set(&mut self, port: usize, flag: PortFlags, on: bool) {
        if let Some(flags) = &mut self.flags[port] {
            *flags = flags.with(flag, on);
        }
        self.rebuild();
    }

    fn flush(&self, condemned: impl Fn(&FdbEntry) -> bool) {
        self.fdb.flush(|_, entry| condemned(entry));
    }

    fn flush_learned(&self, port: usize) {
        let at = Egress::Port(id(port));
        self.flush(|entry| entry.kind == EntryKind::Learned && entry.egress == at);
    }

    /// Long enough for every entry to die, and found dead by the sweep or by whoever looks.
    fn expire(&mut self) {
        self.now = self.now + self.spec.ageing + self.spec.ageing / 10 + Duration::from_secs(1);
        if let Some(bridge) = self.topology.bridges().first()
            && (self.spec.fdb_limit != UNLIMITED || self.now.as_nanos().is_multiple_of(2))
        {
            bridge.age(self.now);
        }
    }
}

impl Switch for Memory {
    fn apply(&mut self, op: &Op) -> io::Result<()> {
        match *op {
            Op::Send { .. } => {}
            Op::Set { port, flag, on } => self.set(port, flag_of(flag), on),
            Op::Up { port, on, .. } => {
                self.set(port, PortFlags::UP, on);
                self.flush_learned(port);
            }
            Op::Plug { port, on } => {
                self.flags[port] = on.then_some(PortFlags::DEFAULT);
                self.rebuild();
                self.flush(|entry| entry.egress == Egress::Port(id(port)));
            }
            Op::Pin { mac, port } => {
                let at = Egress::Port(id(port));
                self.fdb.pin(key(mac), at, EntryKind::Static, self.now);
            }
            Op::Delete { mac } => drop(self.fdb.remove(key(mac))),
            Op::FlushPort { port } => self.flush_learned(port),
            Op::Flush => self.flush(|entry| entry.kind == EntryKind::Learned),
            Op::Expire => self.expire(),
            Op::Ageing { on } => {
                self.expire();
                self.spec.ageing = Duration::from_secs(if on { 300 } else { 0 });
                self.flush(|entry| entry.kind == EntryKind::Learned);
                self.rebuild();
            }
            Op::Limit(limit) => {
                self.sweep();
                self.spec.fdb_limit = limit.unwrap_or(UNLIMITED);
                self.rebuild();
            }
            Op::Reserved(mask) => {
                self.spec.forward_reserved = ReservedMask(mask);
                self.rebuild();
            }
        }
        Ok(())
    }

    fn send(&mut self, port: usize, worker: usize, frame: &[u8]) -> io::Result<Copies> {
        // An odd number of nanoseconds now and then, since `expire` asks for it.
        self.now = self.now + Duration::from_nanos(1001);
        self.ports[port].0.lock().incoming.push_back(frame.to_vec());
        self.workers[worker].service(self.now, &self.topology, id(port));
        let mut copies = Copies::new();
        for (port, (io, counters)) in self.ports.iter().enumerate() {
            let mut queues = io.lock();
            copies.extend(queues.outgoing.drain(..).map(|frame| (port, frame)));
            let lost = counters.totals().unaccounted();
            if lost != 0 {
                return Err(io::Error::other(format!("{lost} frames unaccounted for")));
            }
        }
        Ok(copies)
    }

    fn entries(&mut self) -> io::Result<Entries> {
        self.sweep();
        let mut entries = Entries::new();
        for (key, entry) in self.fdb.entries() {
            let port = entry.egress.port().map_or(usize::MAX, PortId::index);
            let pinned = entry.kind == EntryKind::Static;
            if key.vlan() != vlan_of(key.mac()) {
                return Err(io::Error::other(format!("{key:?} is in the wrong VLAN")));
            }
            entries.insert(key.mac(), Entry { port, pinned });
        }
        Ok(entries)
    }
}

impl Memory {
    fn sweep(&self) {
        for bridge in self.topology.bridges() {
            bridge.age(self.now);
        }
    }
}

/// A port in memory.
#[derive(Debug, Default)]
struct Queues(Mutex<Frames>);

#[derive(Debug, Default)]
struct Frames {
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

impl Queues {
    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortIo for Queues {
    fn receive(&self, buf: &mut [u8]) -> Received {
        let Some(frame) = self.lock().incoming.pop_front() else {
            return Received::Empty;
        };
        let len = VirtioNetHdr::LEN + frame.len();
        buf[..VirtioNetHdr::LEN].fill(0);
        buf[VirtioNetHdr::LEN..len].copy_from_slice(&frame);
        Received::Frame(len)
    }

    fn transmit(&self, buf: &[u8]) -> Transmitted {
        self.lock().outgoing.push(buf[VirtioNetHdr::LEN..].to_vec());
        Transmitted::Sent
    }

    fn transmit_parts(&self, parts: &[IoSlice<'_>]) -> Transmitted {
        self.transmit(
            &parts
                .iter()
                .flat_map(|part| part.iter().copied())
                .collect::<Vec<_>>(),
        )
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }
}

fn id(port: usize) -> PortId {
    PortId::new(port).expect("there are five ports")
}

fn key(mac: MacAddr) -> FdbKey {
    FdbKey::new(mac, vlan_of(mac))
}

fn flag_of(flag: Flag) -> PortFlags {
    match flag {
        Flag::Learning => PortFlags::LEARNING,
        Flag::Flood => PortFlags::FLOOD,
        Flag::McastFlood => PortFlags::MCAST_FLOOD,
        Flag::BcastFlood => PortFlags::BCAST_FLOOD,
        Flag::Isolated => PortFlags::ISOLATED,
        Flag::Hairpin => PortFlags::HAIRPIN,
        Flag::Locked => PortFlags::LOCKED,
    }
}

const WORKERS: usize = 2;
const UNLIMITED: u32 = 1_000_000;
