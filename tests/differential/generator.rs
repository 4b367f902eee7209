//! Random operations and frames: step `n` of a seed is the same on every machine, and does not
//! depend on the steps before it, so any part of a run can be replayed.

use std::fmt;

use tapswitch::wire::{Frame, MacAddr};

/// Ports of the bridge.
pub(crate) const PORTS: usize = 5;
/// The one VLAN whose frames have addresses of their own: the kernel's FDB here knows no VLANs.
pub(crate) const VLAN: u16 = 10;

/// Something that happens to both switches.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// A frame comes in; `worker` is the one that gets it.
    Send {
        port: usize,
        worker: usize,
        frame: Vec<u8>,
    },
    /// A flag of a port changes.
    Set { port: usize, flag: Flag, on: bool },
    /// A port goes up or down: its device, or only its state in the bridge.
    Up { port: usize, on: bool, device: bool },
    /// A port joins or leaves the bridge.
    Plug { port: usize, on: bool },
    /// A static entry is added, or replaces another.
    Pin { mac: MacAddr, port: usize },
    /// An entry of any kind is deleted.
    Delete { mac: MacAddr },
    /// The learned entries of a port are deleted.
    FlushPort { port: usize },
    /// All learned entries are deleted.
    Flush,
    /// All learned entries die of age.
    Expire,
    /// The ageing time becomes 300 s, or 0.
    Ageing { on: bool },
    /// Most learned entries; `None`: no limit.
    Limit(Option<u32>),
    /// Reserved addresses that are relayed, one bit each.
    Reserved(u16),
}

/// What can be switched on and off at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    Learning,
    Flood,
    McastFlood,
    BcastFlood,
    Isolated,
    Hairpin,
    Locked,
}

impl Flag {
    pub(crate) const ALL: [Self; 7] = [
        Self::Learning,
        Self::Flood,
        Self::McastFlood,
        Self::BcastFlood,
        Self::Isolated,
        Self::Hairpin,
        Self::Locked,
    ];

    /// Its value at a new port.
    pub(crate) fn default_value(self) -> bool {
        !matches!(self, Self::Isolated | Self::Hairpin | Self::Locked)
    }
}

/// What step number `step` of `seed` is.
pub(crate) fn op(seed: u64, step: u64) -> Op {
    let mut rng = Rng(seed ^ (step + 1).wrapping_mul(0xd134_2543_de82_ef95));
    let port = rng.below(PORTS);
    match rng.below(1000) {
        0..900 => Op::Send {
            port,
            worker: rng.below(2),
            frame: frame(&mut rng),
        },
        900..940 => {
            let flag = rng.pick(&Flag::ALL);
            Op::Set {
                port,
                flag,
                on: flag.default_value() == rng.chance(65),
            }
        }
        940..952 => Op::Pin {
            mac: station(&mut rng),
            port,
        },
        952..968 => Op::Delete {
            mac: station(&mut rng),
        },
        968..974 => Op::FlushPort { port },
        974..977 => Op::Flush,
        977..980 => Op::Expire,
        980..982 => Op::Ageing { on: rng.chance(80) },
        982..986 => {
            let limit = u32::try_from(rng.below(7)).unwrap_or(1).max(1);
            Op::Limit(rng.chance(50).then_some(limit))
        }
        986..990 => {
            // The kernel lets nobody choose the first three; -00 it relays while STP is off.
            let chosen = u16::try_from(rng.next() & 0xfff8).unwrap_or(0);
            Op::Reserved(chosen | u16::from(rng.chance(50)))
        }
        990..998 => Op::Up {
            port,
            on: rng.chance(75),
            device: rng.chance(10),
        },
        _ => Op::Plug {
            port,
            on: rng.chance(70),
        },
    }
}

/// The VLAN in which `mac` is used.
pub(crate) fn vlan_of(mac: MacAddr) -> u16 {
    if mac.octets()[4] == 0x0a { VLAN } else { 0 }
}

fn station(rng: &mut Rng) -> MacAddr {
    let tagged = rng.chance(25);
    member(rng, tagged)
}

fn member(rng: &mut Rng, tagged: bool) -> MacAddr {
    let (group, count) = if tagged { (0x0a, 3) } else { (0x01, 6) };
    MacAddr::new([2, 0, 0, 0, group, rng.byte(count) + 1])
}

fn frame(rng: &mut Rng) -> Vec<u8> {
    let len = rng.pick(&[
        14, 15, 17, 18, 19, 20, 59, 60, 60, 60, 64, 64, 64, 200, 1513, 1514, 1515, 1518, 1519,
        1522, 1523,
    ]);
    // A tag of VLAN 10, a priority tag, or none.
    let (tagged, tag) = match rng.below(10) {
        0..2 => (true, Some(VLAN)),
        2 => (false, Some(0)),
        _ => (false, None),
    };
    let src = source(rng, tagged);
    let dst = destination(rng, tagged, src);
    let mut frame = Vec::with_capacity(len + 20);
    frame.extend(dst.octets());
    frame.extend(src.octets());
    if let Some(vid) = tag {
        let tpid: u16 = rng.pick(&[0x8100, 0x88a8]);
        let priority = u16::from(rng.byte(16)) << 12;
        frame.extend(tpid.to_be_bytes());
        frame.extend((priority | vid).to_be_bytes());
    }
    // Behind a tag there may be another one, to which no bridge pays attention.
    let inner = tag.map_or(&TYPES[2..], |_| &TYPES[..]);
    frame.extend(rng.pick(inner).to_be_bytes());
    while frame.len() < len {
        frame.extend(rng.next().to_be_bytes());
    }
    frame.truncate(len);
    frame
}

const TYPES: [u16; 10] = [
    0x8100, 0x88a8, 0x0800, 0x0806, 0x86dd, 0x88b5, 0x8847, 0x8808, 0x0026, 0x05dc,
];

fn source(rng: &mut Rng, tagged: bool) -> MacAddr {
    if rng.chance(96) {
        return member(rng, tagged);
    }
    rng.pick(&[
        MacAddr::ZERO,
        MacAddr::BROADCAST,
        MacAddr::new([0x01, 0x00, 0x5e, 0, 0, 1]),
        MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 0x0e]),
    ])
}

fn destination(rng: &mut Rng, tagged: bool, src: MacAddr) -> MacAddr {
    match rng.below(100) {
        0..55 => member(rng, tagged),
        55..58 => src,
        58..69 => MacAddr::BROADCAST,
        69..79 => rng.pick(&[
            MacAddr::new([0x01, 0x00, 0x5e, 0, 0, 0xfb]),
            MacAddr::new([0x33, 0x33, 0, 0, 0, 0x16]),
            MacAddr::new([0x01, 2, 3, 4, 5, 6]),
        ]),
        79..89 => MacAddr::new([0x01, 0x80, 0xc2, 0, 0, rng.byte(16)]),
        89..93 => MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 0x10 + rng.byte(16)]),
        93..95 => MacAddr::ZERO,
        _ => MacAddr::new([0x02, 0xee, 0, 0, 0, rng.byte(4)]),
    }
}

/// A small generator (splitmix64): numbers that are the same everywhere and forever.
#[derive(Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from((self.next() >> 32) % limit as u64).unwrap_or(0)
    }

    fn byte(&mut self, limit: u8) -> u8 {
        u8::try_from(self.below(limit.into())).unwrap_or(0)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send {
                port,
                worker,
                frame,
            } => {
                write!(f, "port {port} sends {} (worker {worker})", Shown(frame))
            }
            Self::Set { port, flag, on } => write!(f, "port {port} {flag:?} = {on}"),
            Self::Up { port, on, device } => {
                let way = if *device { "device" } else { "state" };
                write!(f, "port {port} up = {on} ({way})")
            }
            Self::Plug { port, on } => write!(f, "port {port} plugged in = {on}"),
            Self::Pin { mac, port } => write!(f, "static {mac} at port {port}"),
            Self::Delete { mac } => write!(f, "delete {mac}"),
            Self::FlushPort { port } => write!(f, "flush port {port}"),
            Self::Flush => write!(f, "flush"),
            Self::Expire => write!(f, "all learned entries expire"),
            Self::Ageing { on } => write!(f, "ageing time {}", if *on { 300 } else { 0 }),
            Self::Limit(limit) => write!(f, "limit {limit:?}"),
            Self::Reserved(mask) => write!(f, "relay reserved {mask:016b}"),
        }
    }
}

/// A frame in one line.
pub(crate) struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.0.len();
        let tail = self.0.get(12..24.min(len)).unwrap_or_default();
        match Frame::new_checked(self.0) {
            Ok(frame) => write!(
                f,
                "{} > {} {tail:02x?}, {len} bytes",
                frame.src(),
                frame.dst(),
            ),
            Err(error) => write!(f, "{:02x?}, {error}", self.0),
        }
    }
}
