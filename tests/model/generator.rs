//! Random steps: few addresses and few ports, so that everything meets everything soon.

use super::steps::{FLAGS, Flag, Key, Mac, PORTS, Step, TICK};

/// Which steps are made at all.
#[derive(Clone, Copy, Debug)]
pub struct Alphabet {
    /// Hub mode, too.
    pub hub: bool,
    /// Tagged frames, too.
    pub tags: bool,
    /// Frames up to 14 bytes, too.
    pub runts: bool,
    /// Time passes, and the ageing time changes.
    pub time: bool,
    /// The limit of the FDB changes.
    pub limit: bool,
}

impl Alphabet {
    /// Everything.
    pub const ALL: Self = Self {
        hub: true,
        tags: true,
        runts: true,
        time: true,
        limit: true,
    };
}

/// A reproducible source of steps.
#[derive(Clone, Debug)]
pub struct Generator {
    state: u64,
    alphabet: Alphabet,
}

impl Generator {
    /// The same seed yields the same steps.
    pub fn new(seed: u64, alphabet: Alphabet) -> Self {
        Self {
            state: seed,
            alphabet,
        }
    }

    /// The next step; `plugged` says which ports are there.
    pub fn step(&mut self, plugged: impl Fn(usize) -> bool) -> Step {
        loop {
            let port = self.below(PORTS);
            let there = plugged(port);
            let alphabet = self.alphabet;
            let step = match self.below(1000) {
                ..860 if there => Step::Send(port, self.frame()),
                860..900 if there => {
                    let flag = FLAGS[self.below(FLAGS.len())];
                    // Mostly as it should be, or soon nothing moves any more.
                    let usual = !matches!(flag, Flag::Isolated | Flag::Hairpin | Flag::Locked);
                    Step::Set(port, flag, usual == (self.below(3) > 0))
                }
                900..906 if there => Step::Unplug(port),
                906..920 if !there => Step::Plug(port),
                920..928 if there => Step::Pin(self.key(), port),
                928..942 => Step::Delete(self.key()),
                942..946 if there => Step::FlushPort(port),
                946..949 => Step::FlushAll,
                949..953 if alphabet.time => Step::Ageing([0, 20, 300, 300][self.below(4)]),
                953..980 if alphabet.time => {
                    Step::Wait(TICK * [1, 1, 2, 5, 10, 40, 100][self.below(7)])
                }
                980..985 if alphabet.limit => Step::Limit([3, 6, 8192][self.below(3)]),
                985..990 if alphabet.hub => Step::Hub(self.below(3) == 0),
                990..995 => Step::Relay([0, 1, 1 << 0xe, u16::MAX][self.below(4)]),
                _ => continue,
            };
            return step;
        }
    }

    fn frame(&mut self) -> Vec<u8> {
        const LENGTHS: [usize; 10] = [14, 15, 59, 60, 64, 1513, 1514, 1515, 1518, 1519];
        const TYPES: [u16; 6] = [0x0800, 0x0806, 0x86dd, 0x88b5, 46, 0x05ff];
        let mut frame = Vec::with_capacity(1519);
        frame.extend(self.destination());
        frame.extend(self.source());
        if self.alphabet.tags && self.below(6) == 0 {
            frame.extend([[0x81, 0x00], [0x88, 0xa8]][self.below(2)]);
            frame.extend([[0x00, 0x0a], [0xe0, 0x0a], [0x00, 0x14], [0x20, 0x00]][self.below(4)]);
        }
        frame.extend(TYPES[self.below(TYPES.len())].to_be_bytes());
        let mut len = LENGTHS[self.below(LENGTHS.len())];
        if self.alphabet.runts && self.below(40) == 0 {
            len = self.below(20);
        }
        while frame.len() < len {
            frame.extend(self.next().to_be_bytes());
        }
        frame.truncate(len);
        frame
    }

    fn key(&mut self) -> Key {
        let vlan = if self.alphabet.tags {
            [0, 0, 0, 10][self.below(4)]
        } else {
            0
        };
        (vlan, self.unicast())
    }

    fn unicast(&mut self) -> Mac {
        [2, 0, 0, 0, 0, 1 + self.byte(6)]
    }

    fn source(&mut self) -> Mac {
        match self.below(60) {
            0 => [0; 6],
            1 => [0xff; 6],
            2 => [1, 0, 0x5e, 0, 0, 1],
            3 => [0x33, 0x33, 0, 0, 0, 1],
            _ => self.unicast(),
        }
    }

    fn destination(&mut self) -> Mac {
        match self.below(20) {
            0..3 => [0xff; 6],
            3 => [1, 0, 0x5e, 0, 0, 1],
            4 => [0x33, 0x33, 0, 0, 0, 1],
            5 => [1, 2, 3, 4, 5, 6],
            6 => [0x01, 0x80, 0xc2, 0, 0, self.byte(16)],
            7 => [0x01, 0x80, 0xc2, 0, 0, 16 + self.byte(16)],
            _ => self.unicast(),
        }
    }

    fn byte(&mut self, below: u8) -> u8 {
        u8::try_from(self.below(below.into())).unwrap()
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
