//! Counters that cost a frame next to nothing: one block for each port, or remote VTEP, and worker.
//!
//! A block has one writer, so counting is a plain load and store; who reads adds the blocks up.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::{Recorder, Transmitted};
use crate::bridge::DropReason;

/// A number that one thread counts up and any thread may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`. Only for the owner: two writers would lose counts.
    #[inline]
    pub fn add(&self, by: u64) {
        // Relaxed: a statistic orders nothing, and a plain store needs no bus lock.
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(by),
            Ordering::Relaxed,
        );
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker has seen of one port, or of one remote VTEP: what is said of ports here goes for
/// both.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// Frames received from the port.
    pub rx_frames: Counter,
    /// Their bytes.
    pub rx_bytes: Counter,
    /// Those of them that had at least one place to go.
    pub forwarded: Counter,
    /// Copies bound for the port, counted as the frames that leave: a superframe that the switch
    /// segments counts once for each segment.
    pub planned: Counter,
    /// Those that were delivered.
    pub tx_frames: Counter,
    /// Their bytes.
    pub tx_bytes: Counter,
    /// Superframes that the switch had to segment for the port.
    pub segmented: Counter,
    /// Frames that left inside the superframe that the switch began with another frame.
    pub coalesced: Counter,
    /// Frames that came with reserved bits of the VXLAN header set, which lose them nothing.
    pub reserved_bits: Counter,
    /// Frames from the port that went nowhere, by reason.
    pub ingress_drops: [Counter; DropReason::COUNT],
    /// Copies for the port that were lost, by reason.
    pub egress_drops: [Counter; DropReason::COUNT],
}

impl WorkerCounters {
    /// Counts one copy of `len` bytes for this port, and what became of it.
    #[inline]
    pub fn copied(&self, sent: Transmitted, len: usize) {
        self.planned.add(1);
        let reason = match sent {
            Transmitted::Sent => {
                self.tx_frames.add(1);
                return self.tx_bytes.add(len as u64);
            }
            Transmitted::Dropped(reason) => reason,
            // Finished frames ask for nothing that could be unsupported.
            Transmitted::Unsupported => DropReason::EgressRefused,
        };
        self.egress_drops[reason.index()].add(1);
    }
}

impl WorkerCounters {
    /// Counts `count` copies of together `bytes` that shared one superframe, and one fate.
    pub fn joined(&self, sent: Transmitted, count: usize, bytes: usize) {
        self.planned.add(count as u64);
        match sent {
            Transmitted::Sent => {
                self.coalesced.add(count as u64 - 1);
                self.tx_frames.add(count as u64);
                self.tx_bytes.add(bytes as u64);
            }
            Transmitted::Dropped(reason) => {
                self.egress_drops[reason.index()].add(count as u64);
            }
            Transmitted::Unsupported => {
                self.egress_drops[DropReason::EgressRefused.index()].add(count as u64);
            }
        }
    }
}

/// How often a worker has called the kernel, by what for: what a frame costs is mostly that.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Calls {
    /// Waits for something to do (`epoll_wait`), also those that only looked.
    pub waits: Counter,
    /// Times that it gave up its CPU (`sched_yield`) rather than sleep.
    pub yields: Counter,
    /// Times that it rested to let small frames come together (`clock_nanosleep`).
    pub rests: Counter,
    /// Reads from ports, of which the last of a batch mostly finds nothing.
    pub reads: Counter,
    /// Writes to ports.
    pub writes: Counter,
    /// Reads from the underlay.
    pub receives: Counter,
    /// Writes to the underlay.
    pub sends: Counter,
}

/// All counters of one port or remote VTEP, and its flight recorder. They live as long as it,
/// through every change of it.
#[derive(Debug)]
pub struct Counters {
    workers: Box<[WorkerCounters]>,
    recorders: Box<[OnceLock<Box<Recorder>>]>,
    /// Whose recorders are used instead.
    shared: Option<Arc<Self>>,
}

impl Counters {
    /// Zeroed counters for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers.max(1))
                .map(|_| WorkerCounters::default())
                .collect(),
            recorders: (0..workers.max(1)).map(|_| OnceLock::new()).collect(),
            shared: None,
        }
    }

    /// The same, for a VTEP that nobody listed: others decide how many there are, so what becomes of
    /// their frames is written down where `endpoint` has what is no peer's.
    #[must_use]
    pub fn of_stranger(workers: usize, endpoint: Arc<Self>) -> Self {
        Self {
            recorders: Box::default(),
            shared: Some(endpoint),
            ..Self::new(workers)
        }
    }

    /// The block of `worker`, which must be below the number given to [`Self::new`].
    #[inline]
    pub fn worker(&self, worker: usize) -> &WorkerCounters {
        &self.workers[worker]
    }

    /// The flight recorder of `worker`. Few workers have to do with a port, and most remote VTEPs
    /// lose nothing: so it takes its memory with its first record, once.
    #[inline]
    pub fn recorder(&self, worker: usize) -> &Recorder {
        let recorders = match &self.shared {
            Some(endpoint) => &endpoint.recorders,
            None => &self.recorders,
        };
        recorders[worker].get_or_init(Box::default)
    }

    /// Its own flight recorders that have anything.
    pub fn recorders(&self) -> impl Iterator<Item = &Recorder> {
        self.recorders
            .iter()
            .filter_map(|recorder| recorder.get().map(Box::as_ref))
    }

    /// The sums over all workers.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for block in &self.workers {
            totals.rx_frames += block.rx_frames.get();
            totals.rx_bytes += block.rx_bytes.get();
            totals.forwarded += block.forwarded.get();
            totals.planned += block.planned.get();
            totals.tx_frames += block.tx_frames.get();
            totals.tx_bytes += block.tx_bytes.get();
            totals.segmented += block.segmented.get();
            totals.coalesced += block.coalesced.get();
            totals.reserved_bits += block.reserved_bits.get();
            for reason in DropReason::ALL {
                totals.ingress_drops[reason.index()] += block.ingress_drops[reason.index()].get();
                totals.egress_drops[reason.index()] += block.egress_drops[reason.index()].get();
            }
        }
        totals
    }
}

/// The counters of a port at one moment; see [`WorkerCounters`] for the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of WorkerCounters")]
pub struct Totals {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub forwarded: u64,
    pub planned: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    pub segmented: u64,
    pub coalesced: u64,
    pub reserved_bits: u64,
    pub ingress_drops: [u64; DropReason::COUNT],
    pub egress_drops: [u64; DropReason::COUNT],
}

impl Totals {
    /// Frames lost at this port for `reason`, on their way in or out.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.ingress_drops[reason.index()] + self.egress_drops[reason.index()]
    }

    /// Frames and copies whose fate no counter tells. Zero between two batches, or it is a bug:
    /// every frame received is forwarded or dropped, every copy planned is sent or dropped.
    pub fn unaccounted(&self) -> i64 {
        let frames = self
            .rx_frames
            .wrapping_sub(self.forwarded + self.ingress_drops.iter().sum::<u64>());
        let copies = self
            .planned
            .wrapping_sub(self.tx_frames + self.egress_drops.iter().sum::<u64>());
        frames.wrapping_add(copies).cast_signed()
    }
}
