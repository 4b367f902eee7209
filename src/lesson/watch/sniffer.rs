//! A packet socket that is read by a thread of its own, so that nothing waits for long.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use super::{Seen, WatchError, kernel};
use crate::{
    names::NetnsRef,
    netlink::{BridgeRow, bridge_links, bridge_rows},
    sys::{
        cause_text,
        epoll::{Epoll, EventFd, Events, Interest},
        netns::NetnsFile,
        packet::{PacketTap, Sniffed},
    },
};

/// Sees all frames of a namespace.
#[derive(Debug)]
pub(super) struct Sniffer {
    node: String,
    rows: Vec<BridgeRow>,
    caught: Arc<Mutex<Caught>>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Caught {
    devices: kernel::Devices,
    frames: Vec<Sniffed>,
    lost: u64,
}

impl Sniffer {
    pub(super) fn begin(node: &str, netns: &NetnsRef) -> Result<Self, WatchError> {
        let failed = |cause: &dyn std::fmt::Display| {
            WatchError(format!("watch the frames of {node}: {cause}"))
        };
        let netns = NetnsFile::open(netns).map_err(|error| failed(&error))?;
        let tap = netns
            .run_in(PacketTap::open)
            .map_err(|error| failed(&error))?;
        let io = |error: io::Error| {
            let cause = cause_text(&error);
            failed(&format!(
                "open a packet socket: {cause}; it takes CAP_NET_RAW"
            ))
        };
        let tap = tap.map_err(io)?;
        let links = bridge_links(Some(&netns)).map_err(|error| failed(&error))?;
        let rows = bridge_rows(Some(&netns)).map_err(|error| failed(&error))?;
        let mut caught = Caught::default();
        caught.devices.update(&links);
        let caught = Arc::new(Mutex::new(caught));
        let stop = Arc::new(EventFd::new().map_err(io)?);
        let epoll = Epoll::new().map_err(io)?;
        epoll.add(&tap, FRAMES, Interest::Read).map_err(io)?;
        epoll.add(&*stop, STOP, Interest::Read).map_err(io)?;
        let reader = Reader {
            tap,
            netns,
            epoll,
            caught: Arc::clone(&caught),
        };
        let thread = thread::Builder::new()
            .name(format!("watch-{node}"))
            .spawn(move || reader.run())
            .map_err(io)?;
        Ok(Self {
            node: node.to_owned(),
            rows,
            caught,
            stop,
            thread: Some(thread),
        })
    }

    /// How many frames there are by now.
    pub(super) fn count(&self) -> usize {
        lock(&self.caught).frames.len()
    }

    /// Ends; what waits in the socket is taken.
    pub(super) fn end(mut self) -> Result<Vec<Seen>, WatchError> {
        self.stop();
        let caught = lock(&self.caught);
        if caught.lost > 0 {
            let lost = caught.lost;
            let node = &self.node;
            return Err(WatchError(format!(
                "watch the frames of {node}: {lost} were lost, since there were too many; watch a \
                 shorter step"
            )));
        }
        let Caught {
            devices, frames, ..
        } = &*caught;
        Ok(kernel::join(&self.node, devices, &self.rows, frames))
    }

    fn stop(&mut self) {
        self.stop.notify();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            drop(thread.join());
        }
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Reader {
    tap: PacketTap,
    netns: NetnsFile,
    epoll: Epoll,
    caught: Arc<Mutex<Caught>>,
}

impl Reader {
    fn run(mut self) {
        let mut events = Events::with_capacity(4);
        let mut is_ending = false;
        while !is_ending {
            match self.epoll.wait(&mut events, None) {
                Ok(news) => is_ending = { news }.any(|event| event.token == STOP),
                Err(_) => is_ending = true,
            }
            self.take();
        }
        // Which devices are ports of a bridge by now.
        self.survey();
        let lost = self.tap.lost();
        lock(&self.caught).lost += u64::from(lost);
    }

    /// Takes what waits.
    fn take(&mut self) {
        loop {
            match self.tap.take() {
                Ok(Some(frame)) => {
                    if !lock(&self.caught).devices.knows(frame.index) {
                        self.survey();
                    }
                    let mut caught = lock(&self.caught);
                    match caught.frames.len() < MOST {
                        true => caught.frames.push(frame),
                        false => caught.lost += 1,
                    }
                }
                Ok(None) => return,
                // An interface that went down: told once.
                Err(_) => {}
            }
        }
    }

    fn survey(&self) {
        // In a namespace that is going there is nothing new to be found.
        if let Ok(links) = bridge_links(Some(&self.netns)) {
            lock(&self.caught).devices.update(&links);
        }
    }
}

fn lock(caught: &Mutex<Caught>) -> MutexGuard<'_, Caught> {
    // Each change is one push.
    caught.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frames of a step and node that are kept.
const MOST: usize = 50_000;
const FRAMES: u64 = 0;
const STOP: u64 = 1;
