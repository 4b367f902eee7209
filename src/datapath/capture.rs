//! Captures: copies of chosen frames, with what became of them, on their way to somebody who reads.
//!
//! Nothing of this is there unless a capture runs: one test of one flag for each frame and copy.
//! While one runs, each worker holds the filter against what it moves and copies what matches into
//! a chunk of memory that was taken beforehand. Full chunks go to the reader, empty ones come back.
//! Nobody waits for the reader: with no empty chunk at hand a frame is not captured, and counted.
//!
//! Whoever wants no more than so many frames a second gets a choice of them. It is made once, where a
//! frame comes in, and holds for all that becomes of it: what was chosen is whole, and each copy of
//! what was not costs the test of a flag.

mod chunk;
mod lanes;
mod limit;
mod outer;
mod record;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::lanes::Lane;
pub(super) use self::lanes::Lanes;
use self::limit::Limit;
pub(super) use self::outer::Outer;
pub use self::{
    chunk::{CaptureReader, Chunk, Lost, Next},
    record::{Fate, Form, Place, Record, Row, Side},
};
use crate::{bridge::PeerId, bridge::PortId, filter::Filter};

/// What a capture is after.
#[derive(Clone, Debug)]
pub struct CaptureRules {
    /// Only frames that match this.
    pub filter: Filter,
    /// Only frames and copies that are dropped.
    pub drops_only: bool,
    /// Where they come into the switch.
    pub ingress: bool,
    /// Where they leave it.
    pub egress: bool,
    /// Frames as they are in the switch.
    pub inner: bool,
    /// Datagrams as they are on the underlay.
    pub outer: bool,
    /// Bytes that are kept of each.
    pub snaplen: usize,
    /// In any second at most so many, copies included; `None`: all of them. They are chosen before
    /// anything else here is looked at, each with all its copies, but no more than a few pieces where
    /// one is cut. One that has very many copies takes its share from the seconds that follow.
    pub rate: Option<u32>,
}

/// A running capture. It is part of a topology as long as it runs.
#[derive(Debug)]
pub struct Capture {
    id: u64,
    rules: CaptureRules,
    limit: Option<Limit>,
    /// By worker, until it takes its own.
    lanes: Mutex<Vec<Option<Lane>>>,
}

/// A capture, and where it looks by now.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The capture.
    pub capture: Arc<Capture>,
    /// Its places.
    pub selection: Arc<Selection>,
}

/// Which ports and remote VTEPs.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    ports: Vec<bool>,
    peers: Vec<bool>,
    /// Datagrams that belong to no remote VTEP.
    strangers: bool,
}

impl CaptureRules {
    /// How many records a frame makes at `place`.
    pub(super) fn records(&self, place: Place) -> u64 {
        let is_port = matches!(place, Place::Port(_));
        u64::from(self.inner) + u64::from(self.outer && !is_port)
    }
}

impl Capture {
    /// A capture by so many workers, and its reader. Takes all the memory that it will ever need.
    pub fn new(id: u64, rules: CaptureRules, workers: usize) -> (Arc<Self>, CaptureReader) {
        let (lanes, reader) = chunk::lanes(workers);
        let lanes = lanes.into_iter().map(Some).collect();
        let capture = Self {
            id,
            limit: rules.rate.map(Limit::new),
            rules,
            lanes: Mutex::new(lanes),
        };
        (Arc::new(capture), reader)
    }

    /// What it is after.
    pub fn rules(&self) -> &CaptureRules {
        &self.rules
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Lets the reader see the end when the workers are done: those that never began do not count.
    pub fn close(&self) {
        self.lanes().clear();
    }

    fn take_lane(&self, worker: usize) -> Option<Lane> {
        self.lanes().get_mut(worker)?.take()
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Option<Lane>>> {
        // Each change is one assignment.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Selection {
    /// Everything of these.
    pub fn new(
        ports: impl IntoIterator<Item = PortId>,
        peers: impl IntoIterator<Item = PeerId>,
        strangers: bool,
    ) -> Self {
        let set = |table: &mut Vec<bool>, index: usize| {
            if table.len() <= index {
                table.resize(index + 1, false);
            }
            table[index] = true;
        };
        let mut selection = Self {
            strangers,
            ..Self::default()
        };
        ports
            .into_iter()
            .for_each(|port| set(&mut selection.ports, port.index()));
        let known = |peer: &PeerId| *peer != PeerId::STRANGER;
        peers
            .into_iter()
            .filter(known)
            .for_each(|peer| set(&mut selection.peers, peer.index()));
        selection
    }

    /// Its places, in each form that is asked for.
    pub fn places(&self, rules: &CaptureRules) -> Vec<(Place, Form)> {
        let numbers = |table: &[bool]| {
            let set = table.iter().enumerate().filter(|(_, is_set)| **is_set);
            set.map(|(index, _)| index).collect::<Vec<_>>()
        };
        let ports = numbers(&self.ports);
        let ports = ports.into_iter().filter_map(PortId::new).map(Place::Port);
        let peers = numbers(&self.peers);
        let peers = peers.into_iter().filter_map(PeerId::new).map(Place::Peer);
        let peers: Vec<Place> = peers.chain(self.strangers.then_some(Place::Vtep)).collect();
        let inner = rules.inner.then_some(Form::Inner).into_iter();
        let inner = inner.flat_map(|form| {
            let places = ports.clone().chain(peers.iter().copied());
            places.map(move |place| (place, form))
        });
        let outer = rules.outer.then_some(Form::Outer).into_iter();
        let outer = outer.flat_map(|form| peers.iter().map(move |&place| (place, form)));
        inner.chain(outer).collect()
    }

    fn has(&self, place: Place) -> bool {
        let is_set = |table: &[bool], index: usize| table.get(index).copied().unwrap_or(false);
        match place {
            Place::Port(port) => is_set(&self.ports, port.index()),
            Place::Peer(peer) => is_set(&self.peers, peer.index()),
            Place::Vtep => self.strangers,
        }
    }
}
