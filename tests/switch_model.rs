//! The switch against a model of it: 100,000 random steps, the same fate for every frame.
//!
//! A failure prints the seed and the last steps; `TAPSWITCH_SEED=n cargo test --test switch_model`
//! repeats it.

mod model;

use std::{collections::VecDeque, time::Duration};

use model::{
    generator::{Alphabet, Generator},
    reference::Model,
    steps::{Fate, Flag, Key, PORTS, Step},
};
use tapswitch::{
    bridge::{DropReason, EntryKind, FdbKey, PortFlags, PortId},
    config::{AtLimit, Mode, ReservedMask},
    datapath::Totals,
    sim::Lab,
    wire::MacAddr,
};

/// The lab, driven by the model's steps.
struct Subject {
    lab: Lab,
    /// The lab's port for each of the model's; the lab never uses a number twice.
    ports: [PortId; PORTS],
}

impl Subject {
    fn new() -> Self {
        let mut spec = Lab::spec("br0");
        spec.at_limit = AtLimit::Refuse;
        let (lab, ports) = Lab::with_bridge(spec, ["p0", "p1", "p2", "p3", "p4"]);
        Self { lab, ports }
    }

    fn step(&mut self, step: &Step) -> Option<Fate> {
        let lab = &mut self.lab;
        match *step {
            Step::Send(port, ref frame) => return Some(self.send(port, frame)),
            Step::Set(port, Flag::Up, up) => lab.set_up(self.ports[port], up),
            Step::Set(port, flag, on) => lab.set_flag(self.ports[port], port_flag(flag), on),
            Step::Unplug(port) => lab.remove_port(self.ports[port]),
            Step::Plug(port) => self.ports[port] = lab.add_port(0, "again"),
            Step::Pin(key, port) => {
                let egress = tapswitch::bridge::Egress::Port(self.ports[port]);
                let now = lab.now();
                lab.fdb().pin(fdb_key(key), egress, EntryKind::Static, now);
            }
            Step::Delete(key) => drop(lab.fdb().remove(fdb_key(key))),
            Step::FlushPort(port) => drop(lab.flush(self.ports[port])),
            Step::FlushAll => drop(lab.fdb().flush(|_, e| e.kind == EntryKind::Learned)),
            Step::Ageing(seconds) => {
                lab.configure(0, |spec| spec.ageing = Duration::from_secs(seconds));
                drop(lab.sweep());
            }
            Step::Wait(seconds) => lab.advance(Duration::from_secs(seconds)),
            Step::Limit(limit) => {
                lab.configure(0, |spec| spec.fdb_limit = u32::try_from(limit).unwrap());
            }
            Step::Hub(hub) => lab.set_mode(0, if hub { Mode::Hub } else { Mode::Switch }),
            Step::Relay(mask) => {
                lab.configure(0, |spec| spec.forward_reserved = ReservedMask(mask));
            }
        }
        None
    }

    fn send(&mut self, port: usize, frame: &[u8]) -> Fate {
        let before = self.drops();
        let mut reached: Vec<_> = self
            .lab
            .relay(self.ports[port], frame)
            .into_iter()
            .map(|id| self.ports.iter().position(|&other| other == id).unwrap())
            .collect();
        reached.sort_unstable();
        if !reached.is_empty() {
            return Fate::Reaches(reached);
        }
        let after = self.drops();
        let changed = |reason: &&DropReason| after[reason.index()] > before[reason.index()];
        let mut reasons = DropReason::ALL.iter().filter(changed);
        let reason = reasons.next().expect("a lost frame has a reason");
        assert_eq!(reasons.next(), None, "a lost frame has one reason");
        Fate::Lost(reason.name())
    }

    fn drops(&self) -> [u64; DropReason::COUNT] {
        let totals: Vec<Totals> = self.ports.iter().map(|&p| self.lab.totals(p)).collect();
        let sum = |reason: &DropReason| totals.iter().map(|t| t.drops(*reason)).sum();
        let sums: Vec<u64> = DropReason::ALL.iter().map(sum).collect();
        sums.try_into().unwrap()
    }

    fn dump(&self) -> Vec<(Key, usize, bool)> {
        let entries = self.lab.entries().into_iter().map(|(key, entry)| {
            let here = |&id: &PortId| Some(id) == entry.egress.port();
            let port = self.ports.iter().position(here).unwrap();
            let fixed = entry.kind != EntryKind::Learned;
            ((key.vlan(), key.mac().octets()), port, fixed)
        });
        entries.collect()
    }
}

fn fdb_key((vlan, mac): Key) -> FdbKey {
    FdbKey::new(MacAddr::new(mac), vlan)
}

fn port_flag(flag: Flag) -> PortFlags {
    match flag {
        Flag::Up => PortFlags::UP,
        Flag::Learning => PortFlags::LEARNING,
        Flag::Flood => PortFlags::FLOOD,
        Flag::McastFlood => PortFlags::MCAST_FLOOD,
        Flag::BcastFlood => PortFlags::BCAST_FLOOD,
        Flag::Isolated => PortFlags::ISOLATED,
        Flag::Hairpin => PortFlags::HAIRPIN,
        Flag::Locked => PortFlags::LOCKED,
    }
}

/// Runs both for `steps` steps; returns how often each fate came.
fn compare(seed: u64, alphabet: Alphabet, steps: usize) -> (usize, Vec<&'static str>) {
    const REMEMBERED: usize = 30;
    let mut generator = Generator::new(seed, alphabet);
    let (mut model, mut subject) = (Model::new(), Subject::new());
    let mut last = VecDeque::with_capacity(REMEMBERED);
    let (mut delivered, mut lost) = (0, Vec::new());
    for number in 0..steps {
        let step = generator.step(|port| model.is_plugged(port));
        if last.len() == REMEMBERED {
            last.pop_front();
        }
        last.push_back(step.clone());
        let (expected, got) = (model.step(&step), subject.step(&step));
        assert!(
            expected == got,
            "seed {seed}, step {number}: expected {expected:?}, got {got:?} after {last:#?}"
        );
        match expected {
            Some(Fate::Reaches(_)) => delivered += 1,
            Some(Fate::Lost(reason)) if !lost.contains(&reason) => lost.push(reason),
            _ => {}
        }
        if number % 50 == 0 {
            let (expected, got) = (model.dump(), subject.dump());
            assert!(
                expected == got,
                "seed {seed}, step {number}: FDB {got:?} is not {expected:?} after {last:#?}"
            );
        }
    }
    subject.lab.assert_accounted();
    (delivered, lost)
}

fn seed() -> u64 {
    let given = std::env::var("TAPSWITCH_SEED").ok();
    given.map_or(0x7a9, |text| {
        text.parse().expect("TAPSWITCH_SEED is a number")
    })
}

// All of A and B but A17, whose choice among equals is free
#[test]
fn the_switch_does_what_the_model_does() {
    let first = seed();
    let (mut delivered, mut lost) = (0, Vec::new());
    for seed in first..first + 20 {
        let (more, reasons) = compare(seed, Alphabet::ALL, 5_000);
        delivered += more;
        lost.extend(reasons);
    }

    // The steps were worth it: most frames went somewhere, and every reason came up.
    assert!(delivered > 30_000, "only {delivered} frames were delivered");
    for reason in [
        "truncated",
        "port_down",
        "src_group",
        "src_zero",
        "reserved_address",
        "locked",
        "same_port",
        "isolated",
        "flood_disabled",
        "no_egress",
        "egress_down",
        "too_big",
    ] {
        assert!(lost.contains(&reason), "no frame was lost for {reason}");
    }
}
