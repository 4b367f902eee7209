//! Where the two may differ, and how: a divergence that is not described here exactly is a failure.

use std::{collections::BTreeMap, fmt};

use tapswitch::wire::{Frame, MacAddr};

use crate::runner::{Copies, Model};

/// One intended difference.
#[derive(Debug)]
pub(crate) struct Deviation {
    /// Its name in the report.
    pub(crate) id: &'static str,
    /// What the kernel does and what we do.
    pub(crate) text: &'static str,
    /// Whether this frame meets it.
    meets: fn(&Case<'_>) -> bool,
    /// Whether these copies, the kernel's and ours, are what it leads to.
    explains: fn(&Copies, &Copies) -> bool,
    /// Whether the frame teaches one of them and not the other.
    pub(crate) teaches: bool,
}

/// A frame that comes in.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) port: usize,
    pub(crate) frame: &'a [u8],
    pub(crate) model: &'a Model,
}

/// The list.
pub(crate) const LIST: [Deviation; 4] = [
    Deviation {
        id: "K3",
        text: "01-80-C2-00-00-00 relayed by the kernel while STP is off, by us only if asked to",
        meets: |case| {
            case.parsed()
                .is_some_and(|frame| frame.dst().reserved() == Some(0))
                && !case.model.relays(0)
        },
        explains: |_, ours| ours.is_empty(),
        teaches: false,
    },
    Deviation {
        id: "K9a",
        text: "a frame that ends just behind its VLAN tag, or in a second one, lost by the kernel, forwarded by us",
        meets: |case| {
            let needed = if case.frame.get(16..18) == Some(&[0x81, 0]) {
                22
            } else {
                20
            };
            case.is_tagged() && case.frame.len() < needed
        },
        explains: |kernel, _| kernel.is_empty(),
        teaches: true,
    },
    Deviation {
        id: "K9b",
        text: "a tagged frame of MTU + 19 to MTU + 22 bytes forwarded by the kernel, which does not count the tag",
        meets: |case| case.is_tagged() && matches!(case.frame.len(), 1519..=1522),
        explains: |_, ours| ours.is_empty(),
        teaches: false,
    },
    Deviation {
        id: "K11",
        text: "a reserved frame teaches the kernel its source even at a locked port, never us",
        meets: |case| {
            let reserved = case.parsed().and_then(|frame| frame.dst().reserved());
            let port = &case.model.ports[case.port];
            // Pause frames teach nobody; what is relayed passes the lock first.
            reserved.is_some_and(|nibble| nibble > 1 && !case.model.relays(nibble)) && port.locked
        },
        explains: |kernel, ours| kernel.is_empty() && ours.is_empty(),
        teaches: true,
    },
];

impl<'a> Case<'a> {
    fn parsed(&self) -> Option<Frame<'a>> {
        Frame::new_checked(self.frame).ok()
    }

    fn is_tagged(&self) -> bool {
        self.parsed()
            .is_some_and(|frame| frame.ether_type().is_tag())
    }

    /// The deviations that this frame meets.
    pub(crate) fn met(&self) -> impl Iterator<Item = &'static Deviation> {
        LIST.iter().filter(|deviation| (deviation.meets)(self))
    }

    /// The one deviation that leads to these copies.
    pub(crate) fn explain(&self, kernel: &Copies, ours: &Copies) -> Option<&'static Deviation> {
        // Who forwards it at all forwards what came in.
        let whole = |(_, bytes): &(usize, Vec<u8>)| bytes == self.frame;
        self.met()
            .filter(|_| kernel.iter().chain(ours).all(whole))
            .find(|deviation| (deviation.explains)(kernel, ours))
    }

    /// Its source.
    pub(crate) fn src(&self) -> Option<MacAddr> {
        self.parsed().map(|frame| frame.src())
    }
}

/// How often each was met.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(crate) fn add(&mut self, deviation: &Deviation) {
        *self.0.entry(deviation.id).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for deviation in &LIST {
            let count = self.0.get(deviation.id).copied().unwrap_or(0);
            writeln!(f, "  {} {}: {count}", deviation.id, deviation.text)?;
        }
        Ok(())
    }
}
