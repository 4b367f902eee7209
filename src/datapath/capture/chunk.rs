//! Memory that goes back and forth between a worker and whoever reads a capture.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use super::{
    Form, Place, Record,
    lanes::{Lane, Slots},
};
use crate::datapath::{Batch, Counter};

/// Captured frames of one worker, in order.
#[derive(Debug)]
pub struct Chunk {
    lane: usize,
    records: Vec<Record>,
    bytes: Vec<u8>,
}

impl Chunk {
    /// Bytes of frames in a chunk: several of the longest.
    const BYTES: usize = 4 * Batch::CAPACITY;
    /// Frames in a chunk.
    const RECORDS: usize = 1024;
    /// Chunks for each worker: 4 MiB of frames.
    pub(super) const COUNT: usize = 16;

    fn new(lane: usize) -> Self {
        Self {
            lane,
            records: Vec::with_capacity(Self::RECORDS),
            bytes: Vec::with_capacity(Self::BYTES),
        }
    }

    /// The frames, and what is known of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Record, &[u8])> {
        self.records.iter().map(|record| {
            let bytes = self.bytes.get(record.bytes.clone());
            (record, bytes.unwrap_or_default())
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Copies the first bytes of a frame in; false if there is no room.
    pub(super) fn push(&mut self, record: Record, frame: &[u8], snaplen: usize) -> bool {
        let kept = frame.get(..snaplen).unwrap_or(frame);
        let start = self.bytes.len();
        if self.records.len() >= Self::RECORDS || start + kept.len() > Self::BYTES {
            return false;
        }
        self.bytes.extend_from_slice(kept);
        self.records.push(Record {
            len: frame.len(),
            bytes: start..self.bytes.len(),
            ..record
        });
        true
    }

    fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
    }
}

/// What a worker tells beside its chunks. One writer.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Frames wait in a chunk that the worker could not give away.
    pub(super) waits: AtomicBool,
    /// Frames that were lost, by place.
    slots: Slots,
    /// Frames for which the rate left no room.
    skipped: Counter,
}

impl Signals {
    pub(super) fn lose(&self, place: Place, form: Form) {
        self.slots.add(place, form);
    }

    pub(super) fn skip(&self) {
        self.skipped.add(1);
    }
}

/// The reader's end of a capture.
#[derive(Debug)]
pub struct CaptureReader {
    chunks: Receiver<Chunk>,
    empty: Vec<SyncSender<Chunk>>,
    signals: Vec<Arc<Signals>>,
}

/// What [`CaptureReader::next`] found.
#[derive(Debug)]
pub enum Next {
    /// Frames; to be given back with [`CaptureReader::give_back`].
    Chunk(Chunk),
    /// None yet. `waits`: a worker has some and sleeps; wake it.
    Nothing {
        /// See above.
        waits: bool,
    },
    /// No worker has this capture any more, and all has been read.
    End,
}

impl CaptureReader {
    /// Waits for frames.
    pub fn next(&self, timeout: Duration) -> Next {
        match self.chunks.recv_timeout(timeout) {
            Ok(chunk) => Next::Chunk(chunk),
            Err(RecvTimeoutError::Timeout) => {
                let waits = |signals: &Arc<Signals>| signals.waits.load(Ordering::Relaxed);
                Next::Nothing {
                    waits: self.signals.iter().any(waits),
                }
            }
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// Gives the memory back.
    pub fn give_back(&self, mut chunk: Chunk) {
        chunk.clear();
        if let Some(lane) = self.empty.get(chunk.lane) {
            // Its worker may be done with this capture.
            drop(lane.try_send(chunk));
        }
    }

    /// Frames that came in and for which [`CaptureRules::rate`](super::CaptureRules::rate) left no room,
    /// so far, and pieces of those that were chosen.
    pub fn skipped(&self) -> u64 {
        let each = self.signals.iter();
        each.map(|signals| signals.skipped.get()).sum()
    }

    /// Frames that matched and were not captured though there was room, so far.
    pub fn lost(&self) -> Lost {
        let mut lost = Lost::default();
        for signals in &self.signals {
            for (place, count) in signals.slots.iter() {
                *lost.places.entry(place).or_insert(0) += count;
            }
            lost.elsewhere += signals.slots.elsewhere();
        }
        lost
    }
}

/// Frames that matched and were not captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Where they were lost.
    pub places: BTreeMap<(Place, Form), u64>,
    /// At other places: no worker keeps count of very many.
    pub elsewhere: u64,
}

impl Lost {
    /// All together.
    pub fn total(&self) -> u64 {
        self.places.values().sum::<u64>() + self.elsewhere
    }
}

/// A lane for each worker, and the reader of all.
pub(super) fn lanes(workers: usize) -> (Vec<Lane>, CaptureReader) {
    let (full, chunks) = sync_channel(workers * Chunk::COUNT);
    let mut reader = CaptureReader {
        chunks,
        empty: Vec::new(),
        signals: Vec::new(),
    };
    let lanes = (0..workers)
        .map(|lane| {
            let (empty, room) = sync_channel(Chunk::COUNT);
            for _ in 0..Chunk::COUNT {
                // There is room for all of them.
                drop(empty.try_send(Chunk::new(lane)));
            }
            let signals = Arc::new(Signals::default());
            reader.empty.push(empty);
            reader.signals.push(Arc::clone(&signals));
            Lane::new(room, full.clone(), signals)
        })
        .collect();
    (lanes, reader)
}
