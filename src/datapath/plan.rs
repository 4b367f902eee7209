//! The copies that the frames of a batch make, and which of them leave together.

use super::Datapath;
use crate::bridge::{Egress, PeerId, PortId};

/// One copy of one frame of the batch, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) frame: u16,
    /// It has gone out together with an earlier one.
    pub(super) is_done: bool,
    pub(super) to: Egress,
    /// Where in the plan the next copy for the same egress is; 0: this is the last, or they are not
    /// chained.
    pub(super) next: u32,
}

impl Copy {
    pub(super) fn new(frame: usize, to: Egress) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a batch has at most 1024 frames"
        )]
        Self {
            frame: frame as u16,
            is_done: false,
            to,
            next: 0,
        }
    }
}

/// The last copy in a plan for each egress.
#[derive(Debug)]
pub(super) struct Lasts {
    ports: Box<[u32]>,
    peers: Box<[u32]>,
    /// Those that there are.
    known: Vec<Egress>,
}

impl Lasts {
    pub(super) fn new() -> Self {
        Self {
            ports: vec![NONE; PortId::LIMIT].into_boxed_slice(),
            peers: vec![NONE; PeerId::LIMIT].into_boxed_slice(),
            known: Vec::with_capacity(PortId::LIMIT + PeerId::LIMIT),
        }
    }

    /// Takes note that the copy at `position` of the plan is for `to`, and returns where the one
    /// before it is.
    #[inline]
    fn replace(&mut self, to: Egress, position: usize) -> Option<usize> {
        let last = self.of(to)?;
        let before = std::mem::replace(last, u32::try_from(position).unwrap_or(NONE));
        if before == NONE {
            self.known.push(to);
            return None;
        }
        usize::try_from(before).ok()
    }

    /// For the next plan.
    #[inline]
    pub(super) fn forget(&mut self) {
        while let Some(to) = self.known.pop() {
            if let Some(last) = self.of(to) {
                *last = NONE;
            }
        }
    }

    #[inline]
    fn of(&mut self, to: Egress) -> Option<&mut u32> {
        match to {
            Egress::Port(port) => self.ports.get_mut(port.index()),
            Egress::Peer(peer) => self.peers.get_mut(peer.index()),
        }
    }
}

impl Datapath {
    /// Ties the copies for remote VTEPs from number `first` on to earlier ones for the same: whoever
    /// sends one finds the others without a walk through all copies of all floods.
    pub(super) fn chain_peers(&mut self, first: usize) {
        self.chain(first, |to| to.peer().is_some());
    }

    /// Ties the copies for each port together, if there are several ports. All that a batch has for
    /// one port goes there in one piece, or at least at a time: its reader is woken once.
    pub(super) fn chain_ports(&mut self) {
        let Some((first, rest)) = self.plan.split_first() else {
            return;
        };
        if rest.iter().any(|copy| copy.to != first.to) {
            self.chain(0, |to| to.port().is_some());
        }
    }

    fn chain(&mut self, first: usize, is_wanted: impl Fn(Egress) -> bool) {
        for position in first..self.plan.len() {
            let to = self.plan.get(position).map(|copy| copy.to);
            let before = to.filter(|&to| is_wanted(to));
            let before = before.and_then(|to| self.lasts.replace(to, position));
            if let Some(before) = before.and_then(|before| self.plan.get_mut(before)) {
                before.next = u32::try_from(position).unwrap_or(0);
            }
        }
    }
}

/// Where the next copy for the port of the one at `position` is. Copies that are not chained are all
/// for the same.
#[inline]
pub(super) fn after(plan: &[Copy], position: usize) -> Option<usize> {
    let copy = plan.get(position)?;
    if copy.next > 0 {
        return usize::try_from(copy.next).ok();
    }
    let next = plan.get(position + 1)?;
    (next.to == copy.to).then_some(position + 1)
}

/// No position.
const NONE: u32 = u32::MAX;
