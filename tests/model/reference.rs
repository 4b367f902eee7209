//! The rules, and nothing else.

use std::collections::HashMap;

use super::steps::{Fate, Flag, Key, Mac, PORTS, Step};

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: usize,
    fixed: bool,
    seen: u64,
    moves: u32,
    window: u64,
    held_until: u64,
}

#[derive(Clone, Debug)]
struct Port {
    plugged: bool,
    set: Vec<Flag>,
}

impl Port {
    fn has(&self, flag: Flag) -> bool {
        self.set.contains(&flag)
    }

    fn fresh() -> Self {
        use Flag::{BcastFlood, Flood, Learning, McastFlood, Up};
        Self {
            plugged: true,
            set: vec![Up, Learning, Flood, McastFlood, BcastFlood],
        }
    }
}

/// The bridge.
#[derive(Clone, Debug)]
pub struct Model {
    ports: Vec<Port>,
    fdb: HashMap<Key, Entry>,
    now: u64,
    ageing: u64,
    limit: usize,
    hub: bool,
    relayed: u16,
    largest: usize,
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// All ports plugged in, with default settings and an FDB that refuses above 8192.
    pub fn new() -> Self {
        Self {
            ports: vec![Port::fresh(); PORTS],
            fdb: HashMap::new(),
            now: 0,
            ageing: 300,
            limit: 8192,
            hub: false,
            relayed: 0,
            largest: 1518,
        }
    }

    /// Does one step; a frame has a fate.
    pub fn step(&mut self, step: &Step) -> Option<Fate> {
        match *step {
            Step::Send(port, ref frame) => return Some(self.send(port, frame)),
            Step::Set(port, flag, on) => {
                self.ports[port].set.retain(|&other| other != flag);
                if on {
                    self.ports[port].set.push(flag);
                }
                if flag == Flag::Up && !on {
                    self.fdb.retain(|_, e| e.fixed || e.port != port);
                }
            }
            Step::Unplug(port) => {
                self.ports[port].plugged = false;
                self.fdb.retain(|_, entry| entry.port != port);
            }
            Step::Plug(port) => self.ports[port] = Port::fresh(),
            Step::Pin(key, port) => {
                self.fdb.insert(key, Entry::new(port, true, self.now));
            }
            Step::Delete(key) => {
                self.fdb.remove(&key);
            }
            Step::FlushPort(port) => self.fdb.retain(|_, e| e.fixed || e.port != port),
            Step::FlushAll => self.fdb.retain(|_, entry| entry.fixed),
            Step::Ageing(seconds) => {
                self.ageing = seconds;
                self.forget_aged();
            }
            Step::Wait(seconds) => {
                self.now += seconds;
                self.forget_aged();
            }
            Step::Limit(limit) => self.limit = limit,
            Step::Hub(hub) => self.hub = hub,
            Step::Relay(mask) => self.relayed = mask,
        }
        None
    }

    /// Whether `port` is plugged in.
    pub fn is_plugged(&self, port: usize) -> bool {
        self.ports[port].plugged
    }

    /// Every entry: key, port, and whether it is static; sorted.
    pub fn dump(&self) -> Vec<(Key, usize, bool)> {
        let rows = self.fdb.iter().map(|(&key, e)| (key, e.port, e.fixed));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable();
        rows
    }

    fn forget_aged(&mut self) {
        let (now, ageing) = (self.now, self.ageing);
        self.fdb
            .retain(|_, e| e.fixed || (ageing > 0 && now - e.seen <= ageing));
    }

    fn send(&mut self, from: usize, frame: &[u8]) -> Fate {
        let tagged = frame.len() >= 14 && matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]);
        if frame.len() < 14 || (tagged && frame.len() < 18) {
            return Fate::Lost("truncated");
        }
        if !self.ports[from].has(Flag::Up) {
            return Fate::Lost("port_down");
        }
        if self.hub {
            let others = (0..PORTS).filter(|&to| to != from && self.is_open(to));
            return self.deliver(others.collect(), "no_egress", frame.len());
        }
        let dst: Mac = frame[..6].try_into().unwrap();
        let src: Mac = frame[6..12].try_into().unwrap();
        let vlan = if tagged {
            u16::from_be_bytes([frame[14], frame[15]]) % 4096
        } else {
            0
        };
        if src[0] % 2 == 1 {
            return Fate::Lost("src_group");
        }
        if src == [0; 6] {
            return Fate::Lost("src_zero");
        }
        let home = self.fdb.get(&(vlan, src)).map(|entry| entry.port);
        if self.ports[from].has(Flag::Locked) && home != Some(from) {
            return Fate::Lost("locked");
        }
        let reserved = dst[..5] == [0x01, 0x80, 0xc2, 0, 0] && dst[5] < 16;
        let kept = reserved && self.relayed & (1 << dst[5]) == 0;
        if self.ports[from].has(Flag::Learning) && !(kept && dst[5] == 1) {
            self.learn((vlan, src), from);
        }
        if kept {
            return Fate::Lost("reserved_address");
        }
        match self.fdb.get(&(vlan, dst)).map(|entry| entry.port) {
            Some(to) if dst[0] & 1 == 0 => self.forward(from, to, frame.len()),
            _ => self.flood(from, dst, frame.len()),
        }
    }

    fn learn(&mut self, key: Key, port: usize) {
        const HOLD: u64 = 180;
        if self.ageing == 0 {
            return;
        }
        let learned = self.fdb.values().filter(|entry| !entry.fixed).count();
        let now = self.now;
        let Some(entry) = self.fdb.get_mut(&key) else {
            if learned < self.limit {
                self.fdb.insert(key, Entry::new(port, false, now));
            }
            return;
        };
        if entry.fixed {
            return;
        }
        if entry.port == port {
            entry.seen = now;
        } else if entry.held_until <= now {
            if now.saturating_sub(entry.window) > HOLD {
                (entry.window, entry.moves) = (now, 0);
            }
            entry.moves += 1;
            if entry.moves == 5 {
                entry.held_until = now + HOLD;
                (entry.window, entry.moves) = (now + HOLD, 0);
            }
            (entry.port, entry.seen) = (port, now);
        }
    }

    fn forward(&self, from: usize, to: usize, len: usize) -> Fate {
        if from == to && !self.ports[from].has(Flag::Hairpin) {
            return Fate::Lost("same_port");
        }
        if self.are_isolated(from, to) {
            return Fate::Lost("isolated");
        }
        if !self.is_open(to) {
            return Fate::Lost("egress_down");
        }
        self.deliver(vec![to], "", len)
    }

    fn flood(&self, from: usize, dst: Mac, len: usize) -> Fate {
        let flag = match dst {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => Flag::BcastFlood,
            [first, ..] if first % 2 == 1 => Flag::McastFlood,
            _ => Flag::Flood,
        };
        let targets = (0..PORTS).filter(|&to| {
            self.is_open(to)
                && self.ports[to].has(flag)
                && !self.are_isolated(from, to)
                && (to != from || self.ports[to].has(Flag::Hairpin))
        });
        let others: Vec<_> = (0..PORTS)
            .filter(|&to| to != from && self.is_open(to))
            .collect();
        let reason = if others.is_empty() {
            "no_egress"
        } else if others.iter().all(|&to| self.are_isolated(from, to)) {
            "isolated"
        } else {
            "flood_disabled"
        };
        self.deliver(targets.collect(), reason, len)
    }

    fn deliver(&self, targets: Vec<usize>, if_none: &'static str, len: usize) -> Fate {
        if targets.is_empty() {
            Fate::Lost(if_none)
        } else if len > self.largest {
            Fate::Lost("too_big")
        } else {
            Fate::Reaches(targets)
        }
    }

    fn is_open(&self, port: usize) -> bool {
        self.ports[port].plugged && self.ports[port].has(Flag::Up)
    }

    fn are_isolated(&self, from: usize, to: usize) -> bool {
        self.ports[from].has(Flag::Isolated) && self.ports[to].has(Flag::Isolated)
    }
}

impl Entry {
    fn new(port: usize, fixed: bool, now: u64) -> Self {
        Self {
            port,
            fixed,
            seen: now,
            moves: 0,
            window: now,
            held_until: 0,
        }
    }
}
