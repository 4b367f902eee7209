//! What can happen to a bridge, and what becomes of a frame, in words that no code under test has.

/// Seconds of the smallest step in time.
pub const TICK: u64 = 2;
/// Ports of the model, plugged in or not.
pub const PORTS: usize = 5;

pub type Mac = [u8; 6];
/// VLAN id and address.
pub type Key = (u16, Mac);

/// What a port is told to do; the names are those of `bridge link set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    Up,
    Learning,
    Flood,
    McastFlood,
    BcastFlood,
    Isolated,
    Hairpin,
    Locked,
}

pub const FLAGS: [Flag; 8] = [
    Flag::Up,
    Flag::Learning,
    Flag::Flood,
    Flag::McastFlood,
    Flag::BcastFlood,
    Flag::Isolated,
    Flag::Hairpin,
    Flag::Locked,
];

/// One thing that happens to a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Send(usize, Vec<u8>),
    Set(usize, Flag, bool),
    Unplug(usize),
    Plug(usize),
    Pin(Key, usize),
    Delete(Key),
    FlushPort(usize),
    FlushAll,
    /// Seconds; 0 learns nothing.
    Ageing(u64),
    /// A multiple of [`TICK`].
    Wait(u64),
    Limit(usize),
    Hub(bool),
    Relay(u16),
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It reaches these ports, in ascending order.
    Reaches(Vec<usize>),
    /// It is lost, for the reason of this name.
    Lost(&'static str),
}
