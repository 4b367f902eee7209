//! Worker threads: each waits for its own ports and moves their frames.
//!
//! A worker owns the ingress side of a set of ports and may write to any. Between two rounds it
//! looks at one number; if that has changed it takes the new topology, says so, and waits while
//! somebody holds the workers still. So a control change lies between two batches, and whoever
//! made it knows when every worker has seen it.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::Sender,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    clock::Clock,
    housekeeping::Notice,
    moderation::{self, Moderation, Work},
    options::Tuning,
    patience::Patience,
    place::Place,
};
use crate::{
    bridge::PortId,
    datapath::{Calls, Datapath, Topology},
    sys::{
        clock,
        epoll::{Epoll, EventFd, Events, Interest},
        memory,
    },
    time::Timestamp,
};

/// All workers of a switch.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Shared {
    topology: ArcSwap<Topology>,
    /// Goes up with every topology, and whenever the workers are to look up from their work.
    version: AtomicU64,
    /// The version at which the workers are held, while they are. It is in force from the moment
    /// that the version is: a worker that has not seen it must not wait for its release.
    held: Mutex<Option<u64>>,
    released: Condvar,
    stop: AtomicBool,
    clock: Clock,
    tuning: Tuning,
    /// How many workers there are.
    count: usize,
}

#[derive(Debug)]
struct Worker {
    wake: Arc<EventFd>,
    epoll: Arc<Epoll>,
    /// The last version that the worker has seen.
    seen: Arc<AtomicU64>,
    calls: Arc<Calls>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts one thread for each of `datapaths`. They tell `notices` of ports that are gone.
    ///
    /// # Errors
    /// If the kernel refuses an epoll set, an eventfd or a thread.
    pub(super) fn start(
        datapaths: Vec<Datapath>,
        clock: Clock,
        tuning: Tuning,
        notices: &Sender<Notice>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            topology: ArcSwap::from_pointee(Topology::default()),
            version: AtomicU64::new(0),
            held: Mutex::new(None),
            released: Condvar::new(),
            stop: AtomicBool::new(false),
            clock,
            tuning,
            count: datapaths.len(),
        });
        let mut workers = Self {
            shared,
            workers: Vec::new(),
        };
        for (index, datapath) in datapaths.into_iter().enumerate() {
            let worker = Worker::start(index, datapath, &workers.shared, notices.clone())?;
            workers.workers.push(worker);
        }
        Ok(workers)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// How often each has called the kernel.
    pub(super) fn calls(&self) -> impl Iterator<Item = &Calls> {
        self.workers.iter().map(|worker| &*worker.calls)
    }

    /// The CPU time that each has used; zero for one that has ended.
    pub(super) fn cpu_times(&self) -> impl Iterator<Item = Duration> {
        let threads = self.workers.iter().map(|worker| worker.thread.as_ref());
        threads.map(|thread| thread.and_then(clock::cpu_time_of).unwrap_or_default())
    }

    /// Puts `topology` in force and returns when every worker uses it.
    pub(super) fn publish(&self, topology: Topology) {
        self.shared.topology.store(Arc::new(topology));
        self.wait_until_seen(self.next_version());
    }

    /// Makes the worker that `port` belongs to wait for its frames. The port must be in the
    /// topology in force.
    ///
    /// # Errors
    /// If the kernel cannot poll the device.
    pub(super) fn watch(&self, port: PortId, fd: impl AsFd) -> io::Result<()> {
        self.of(port)
            .epoll
            .add(fd, port.index() as u64, Interest::Read)
    }

    /// The opposite of [`Self::watch`]. A device that is gone is no longer in the set: no error.
    pub(super) fn unwatch(&self, port: PortId, fd: impl AsFd) {
        drop(self.of(port).epoll.remove(fd));
    }

    /// Runs `f` while every worker stands between two rounds: what it reads belongs together.
    pub(super) fn hold<T>(&self, f: impl FnOnce() -> T) -> T {
        let version = {
            let mut held = self.shared.held();
            let version = self.next_version();
            *held = Some(version);
            version
        };
        self.wait_until_seen(version);
        let result = f();
        *self.shared.held() = None;
        self.shared.released.notify_all();
        result
    }

    /// Makes the first worker wait for datagrams. The endpoint must be in the topology in force.
    ///
    /// # Errors
    /// If the kernel cannot poll the socket.
    pub(super) fn watch_underlay(&self, fd: impl AsFd) -> io::Result<()> {
        self.workers.first().map_or(Ok(()), |worker| {
            worker.epoll.add(fd, UNDERLAY, Interest::Read)
        })
    }

    /// The opposite of [`Self::watch_underlay`].
    pub(super) fn unwatch_underlay(&self, fd: impl AsFd) {
        if let Some(worker) = self.workers.first() {
            drop(worker.epoll.remove(fd));
        }
    }

    /// Makes every worker hand over what it has captured.
    pub(super) fn nudge(&self) {
        for worker in &self.workers {
            worker.wake.notify();
        }
    }

    fn of(&self, port: PortId) -> &Worker {
        &self.workers[port.index() % self.workers.len()]
    }

    fn next_version(&self) -> u64 {
        self.shared.version.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Makes every worker look up, and waits until it has.
    fn wait_until_seen(&self, version: u64) {
        for worker in &self.workers {
            worker.wake.notify();
        }
        for worker in &self.workers {
            let mut rounds = 0;
            while worker.seen.load(Ordering::Acquire) < version && !worker.has_ended() {
                // A round takes microseconds; after that, do not take the worker's CPU.
                rounds += 1;
                if rounds < 16 {
                    thread::yield_now();
                } else {
                    thread::sleep(Duration::from_micros(20));
                }
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for worker in &mut self.workers {
            worker.wake.notify();
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has printed why.
                drop(thread.join());
            }
        }
    }
}

impl Worker {
    fn start(
        index: usize,
        datapath: Datapath,
        shared: &Arc<Shared>,
        notices: Sender<Notice>,
    ) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        let wake = Arc::new(EventFd::new()?);
        epoll.add(&*wake, WAKE, Interest::Read)?;
        let seen = Arc::new(AtomicU64::new(0));
        let calls = Arc::clone(datapath.calls());
        let rounds = Rounds {
            shared: Arc::clone(shared),
            epoll: Arc::clone(&epoll),
            wake: Arc::clone(&wake),
            seen: Arc::clone(&seen),
            topology: shared.topology.load_full(),
            version: 0,
            datapath,
            ready: Vec::with_capacity(PortId::LIMIT),
            is_underlay_ready: false,
            is_ready: vec![false; PortId::LIMIT],
            notices,
            place: Place::new(shared.tuning.pin, index, shared.count),
        };
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || rounds.run())?;
        Ok(Self {
            wake,
            epoll,
            seen,
            calls,
            thread: Some(thread),
        })
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// What a worker thread works with.
struct Rounds {
    shared: Arc<Shared>,
    epoll: Arc<Epoll>,
    wake: Arc<EventFd>,
    seen: Arc<AtomicU64>,
    topology: Arc<Topology>,
    version: u64,
    datapath: Datapath,
    /// Ports that may have frames, in the order in which they get their turn.
    ready: Vec<PortId>,
    is_ready: Vec<bool>,
    /// Datagrams may wait.
    is_underlay_ready: bool,
    notices: Sender<Notice>,
    place: Place,
}

impl Rounds {
    fn run(mut self) {
        self.place.settle(self.topology.vtep().is_some());
        let mut events = Events::with_capacity(EVENTS);
        let mut patience = Patience::new(self.shared.tuning.poll);
        let mut moderation = Moderation::new(self.shared.tuning.moderate);
        while !self.shared.stop.load(Ordering::Acquire) {
            self.look_up();
            let idle = self.is_idle();
            let polls = idle && !patience.is_none() && patience.lasts(self.shared.clock.now());
            // With work at hand, or soon at hand, the wait only collects what is new.
            let timeout = (!idle || polls).then_some(Duration::ZERO);
            self.datapath.calls().waits.add(1);
            match self.epoll.wait(&mut events, timeout) {
                Ok(news) => {
                    for event in news {
                        if event.token == UNDERLAY {
                            self.is_underlay_ready = true;
                            continue;
                        }
                        let port = usize::try_from(event.token).ok().and_then(PortId::new);
                        match port {
                            Some(port) if event.token != WAKE => {
                                self.mark_ready(port);
                                // Only a device that is being unregistered says so (tun_chr_poll),
                                // and a read may still return frames, or nothing, before EBADFD.
                                if event.failed {
                                    self.report_gone(port);
                                }
                            }
                            _ => {
                                self.wake.drain();
                                self.datapath.flush_captures();
                            }
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "epoll_wait failed"),
            }
            match self.round() {
                Some((now, work)) => {
                    patience.worked(now);
                    if let Some(rest) = moderation.rest(now, work) {
                        self.datapath.calls().rests.add(1);
                        thread::sleep(rest);
                    }
                }
                None if polls => {
                    self.datapath.calls().yields.add(1);
                    thread::yield_now();
                }
                None => {}
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.ready.is_empty() && !self.is_underlay_ready
    }

    /// One turn for the underlay and one for each port that is ready: none can starve the others.
    /// Returns the time and what was moved, if there was anything to do.
    fn round(&mut self) -> Option<(Timestamp, Work)> {
        if self.is_idle() {
            return None;
        }
        // Once a round: a clock reading costs as much as two look-ups.
        let now = self.shared.clock.now();
        let mut work = Work::default();
        let moderate = self.shared.tuning.moderate;
        if self.is_underlay_ready {
            let serviced = moderation::turn(moderate, &mut work, || {
                self.datapath.service_underlay(now, &self.topology)
            });
            self.is_underlay_ready = serviced.more;
        }
        let mut kept = 0;
        for turn in 0..self.ready.len() {
            let port = self.ready[turn];
            let serviced = moderation::turn(moderate, &mut work, || {
                self.datapath.service(now, &self.topology, port)
            });
            if serviced.gone {
                self.report_gone(port);
            }
            if serviced.more {
                self.ready[kept] = port;
                kept += 1;
            } else {
                self.is_ready[port.index()] = false;
            }
        }
        self.ready.truncate(kept);
        if let Some(memory) = self.datapath.grown_memory() {
            // Where there are none it works as well, only slower.
            drop(memory::prefer_huge_pages(memory));
        }
        Some((now, work))
    }

    fn report_gone(&self, port: PortId) {
        // Told more than once, it is true once. Nobody listens when the switch ends.
        let _: Result<(), _> = self.notices.send(Notice::Gone(port));
    }

    fn mark_ready(&mut self, port: PortId) {
        if !std::mem::replace(&mut self.is_ready[port.index()], true) {
            self.ready.push(port);
        }
    }

    #[inline]
    fn look_up(&mut self) {
        loop {
            let version = self.shared.version.load(Ordering::Acquire);
            if version == self.version {
                return;
            }
            self.topology = self.shared.topology.load_full();
            self.datapath.adopt(&self.topology);
            self.place.settle(self.topology.vtep().is_some());
            self.version = version;
            self.seen.store(version, Ordering::Release);
            let mut held = self.shared.held();
            // If the next hold has begun before this thread woke, that one waits for this thread
            // to see its version first.
            while held.is_some_and(|at| at <= self.version) {
                held = self
                    .shared
                    .released
                    .wait(held)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Option<u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token of the eventfd; no port has it.
const WAKE: u64 = u64::MAX;
/// The token of the underlay's socket; likewise.
const UNDERLAY: u64 = u64::MAX - 1;
/// Events taken at a time.
const EVENTS: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn holds_that_follow_each_other_at_once_never_wait_for_each_other() {
        let (done, end) = mpsc::channel();
        thread::spawn(move || {
            let (notices, _inbox) = mpsc::channel();
            let datapaths = (0..3).map(Datapath::new).collect();
            let workers =
                Workers::start(datapaths, Clock::default(), Tuning::default(), &notices).unwrap();

            for round in 0..20_000 {
                assert_eq!(workers.hold(|| round), round);
            }
            done.send(()).unwrap();
        });

        end.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
