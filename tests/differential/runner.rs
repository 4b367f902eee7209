//! Does the same to both switches and compares.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    io,
};

use tapswitch::wire::MacAddr;

use crate::{
    deviations::{Case, Counts},
    generator::{Flag, Op, PORTS, Shown, vlan_of},
    kernel::Kernel,
};

/// What left a switch after one frame: port and bytes, by port.
pub(crate) type Copies = Vec<(usize, Vec<u8>)>;

/// An FDB.
pub(crate) type Entries = BTreeMap<MacAddr, Entry>;

/// Where an address is, and whether it stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) port: usize,
    pub(crate) pinned: bool,
}

/// One of the two.
pub(crate) trait Switch {
    /// Carries out anything but [`Op::Send`].
    fn apply(&mut self, op: &Op) -> io::Result<()>;
    /// Lets a frame come in and returns what goes out.
    fn send(&mut self, port: usize, worker: usize, frame: &[u8]) -> io::Result<Copies>;
    /// The FDB, without what belongs to the switch itself.
    fn entries(&mut self) -> io::Result<Entries>;
}

/// The settings that both switches should have.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) ports: [PortModel; PORTS],
    reserved: u16,
    pinned: BTreeMap<MacAddr, usize>,
}

/// The settings of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortModel {
    pub(crate) plugged: bool,
    pub(crate) up: bool,
    pub(crate) locked: bool,
}

impl PortModel {
    const NEW: Self = Self {
        plugged: true,
        up: true,
        locked: false,
    };
}

impl Model {
    /// What a new bridge relays of the reserved addresses.
    pub(crate) const RESERVED: u16 = 1;

    fn new() -> Self {
        Self {
            ports: [PortModel::NEW; PORTS],
            reserved: Self::RESERVED,
            pinned: BTreeMap::new(),
        }
    }

    /// Whether we were told to relay 01-80-C2-00-00-0`nibble`.
    pub(crate) fn relays(&self, nibble: u8) -> bool {
        self.reserved >> nibble & 1 == 1
    }

    /// Whether `op` can be done now and changes anything.
    fn allows(&self, op: &Op) -> bool {
        match *op {
            Op::Send { port, .. }
            | Op::Set { port, .. }
            | Op::Pin { port, .. }
            | Op::FlushPort { port } => self.ports[port].plugged,
            Op::Up { port, on, .. } => self.ports[port].plugged && self.ports[port].up != on,
            Op::Plug { port, on } => self.ports[port].plugged != on,
            _ => true,
        }
    }

    fn note(&mut self, op: &Op) {
        match *op {
            Op::Set {
                port,
                flag: Flag::Locked,
                on,
            } => self.ports[port].locked = on,
            Op::Up { port, on, .. } => self.ports[port].up = on,
            Op::Plug { port, on } => {
                self.ports[port] = PortModel {
                    plugged: on,
                    ..PortModel::NEW
                };
                self.pinned.retain(|_, at| *at != port);
            }
            Op::Pin { mac, port } => drop(self.pinned.insert(mac, port)),
            Op::Delete { mac } => drop(self.pinned.remove(&mac)),
            Op::Reserved(mask) => self.reserved = mask,
            _ => {}
        }
    }
}

/// The kernel's bridge and ours, in the same state.
#[derive(Debug)]
pub(crate) struct Pair<S> {
    kernel: Kernel,
    ours: S,
    model: Model,
    pub(crate) counts: Counts,
    recent: VecDeque<(u64, Op)>,
    /// Steps after which the FDBs are compared.
    interval: u64,
}

/// Why a run ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// They differ.
    Mismatch(String),
    /// Something else is wrong.
    Broken(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl<S: Switch> Pair<S> {
    /// FDBs are compared every `interval` steps.
    pub(crate) fn new(kernel: Kernel, ours: S, interval: u64) -> Self {
        Self {
            kernel,
            ours,
            model: Model::new(),
            counts: Counts::default(),
            recent: VecDeque::new(),
            interval,
        }
    }

    /// Does `op`, which is step number `step`, to both.
    pub(crate) fn step(&mut self, step: u64, op: Op) -> Result<(), Stop> {
        if !self.model.allows(&op) || !self.kernel.knows(&op) {
            return Ok(());
        }
        let result = self.perform(step, &op);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((step, op));
        match result {
            Ok(()) => Ok(()),
            Err(Stop::Mismatch(what)) => Err(Stop::Mismatch(self.describe(step, &what))),
            Err(Stop::Broken(error)) => {
                let text = format!("{}{error}", self.describe(step, "an operation failed: "));
                Err(Stop::Broken(io::Error::new(error.kind(), text)))
            }
        }
    }

    fn perform(&mut self, step: u64, op: &Op) -> Result<(), Stop> {
        if let Op::Send {
            port,
            worker,
            frame,
        } = op
        {
            self.send(*port, *worker, frame)?;
        } else {
            self.both(op)?;
        }
        if step.is_multiple_of(self.interval) {
            self.compare_entries(None)?;
        }
        Ok(())
    }

    fn both(&mut self, op: &Op) -> Result<(), Stop> {
        self.kernel.apply(op)?;
        self.ours.apply(op)?;
        self.model.note(op);
        Ok(())
    }

    fn send(&mut self, port: usize, worker: usize, frame: &[u8]) -> Result<(), Stop> {
        let mut kernel = self.kernel.send(port, worker, frame)?;
        let mut ours = self.ours.send(port, worker, frame)?;
        kernel.sort_unstable();
        ours.sort_unstable();
        let case = Case {
            port,
            frame,
            model: &self.model,
        };
        let mut met = None;
        if kernel != ours {
            met = case.explain(&kernel, &ours);
            if met.is_none() {
                return Err(Stop::Mismatch(difference(frame, &kernel, &ours)));
            }
        }
        let teaches = case.met().find(|deviation| deviation.teaches);
        if let (Some(deviation), Some(src)) = (teaches, case.src()) {
            // What one knows and the other does not is forgotten, and both go on alike.
            if self.compare_entries(Some(src))? {
                met = met.or(Some(deviation));
            }
            if !self.model.pinned.contains_key(&src) && !src.is_group() && !src.is_zero() {
                self.both(&Op::Delete { mac: src })?;
            }
        }
        if let Some(deviation) = met {
            self.counts.add(deviation);
        }
        Ok(())
    }

    /// True if they differ in what they know of `doubtful`; about all else they must agree.
    fn compare_entries(&mut self, doubtful: Option<MacAddr>) -> Result<bool, Stop> {
        let mut kernel = self.kernel.entries()?;
        let mut ours = self.ours.entries()?;
        let differ = doubtful.is_some_and(|mac| kernel.remove(&mac) != ours.remove(&mac));
        if kernel == ours {
            return Ok(differ);
        }
        Err(Stop::Mismatch("the FDBs differ\n".to_owned()))
    }

    fn describe(&mut self, step: u64, what: &str) -> String {
        let mut text = format!("step {step}: {what}the last operations, oldest first:\n");
        for (step, op) in &self.recent {
            let _ = writeln!(text, "  {step:>8} {op:?}");
        }
        let (kernel, ours) = (self.kernel.entries(), self.ours.entries());
        let (Ok(kernel), Ok(ours)) = (kernel, ours) else {
            return text + "the FDBs cannot be read\n";
        };
        let _ = writeln!(text, "address           vlan | kernel        | tapswitch");
        let macs: BTreeSet<_> = kernel.keys().chain(ours.keys()).collect();
        for &mac in macs {
            let (there, here) = (kernel.get(&mac), ours.get(&mac));
            let mark = if there == here { "" } else { " <--" };
            let vlan = vlan_of(mac);
            let (there, here) = (place(there), place(here));
            let _ = writeln!(text, "{mac} {vlan:>4} | {there:<13} | {here}{mark}");
        }
        for (number, port) in self.model.ports.iter().enumerate() {
            let _ = writeln!(text, "port {number}: {port:?}");
        }
        let _ = writeln!(
            text,
            "reserved addresses relayed: {:016b}",
            self.model.reserved
        );
        text
    }
}

fn place(entry: Option<&Entry>) -> String {
    match entry {
        None => "-".to_owned(),
        Some(Entry { port, pinned: true }) => format!("port {port} static"),
        Some(Entry { port, .. }) => format!("port {port}"),
    }
}

fn difference(frame: &[u8], kernel: &Copies, ours: &Copies) -> String {
    let mut text = format!("different copies of {}\n", Shown(frame));
    for (name, copies) in [("kernel", kernel), ("tapswitch", ours)] {
        let ports: Vec<usize> = copies.iter().map(|&(port, _)| port).collect();
        let _ = writeln!(text, "  {name:<9} -> ports {ports:?}");
        for (port, bytes) in copies.iter().filter(|(_, bytes)| bytes != frame) {
            let at = bytes.iter().zip(frame).position(|(a, b)| a != b);
            let at = at.unwrap_or_else(|| bytes.len().min(frame.len()));
            let _ = writeln!(
                text,
                "    port {port}: {} bytes, changed from byte {at} on",
                bytes.len()
            );
        }
    }
    text
}

/// Operations in a report.
const RECENT: usize = 20;
