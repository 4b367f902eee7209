//! The frames of a step: where each came in, and all that became of it, on this switch and on the
//! kernel's bridge alike.
//!
//! A daemon tells all of that in its capture. The kernel tells nothing, but a packet socket in the
//! node's namespace sees each frame where it comes in and where it leaves. Either way the result is
//! a list of [`Seen`], and the same ping gives the same list.

mod capture;
mod expect;
mod file;
mod kernel;
mod seen;
mod shape;
mod sniffer;
mod tapswitch;

use std::{path::PathBuf, thread, time::Duration};

pub use self::{
    expect::{Expected, find},
    file::pcapng,
    seen::{BY_HUB, BY_WIRE, Copied, Datagram, Fate, Learned, REWRITTEN, Row, SWITCH, Seen, VTEP},
};
use crate::{names::NetnsRef, sys::clock, time::Timestamp};

/// A node to watch.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What switches there.
    pub switch: Switch,
}

/// What switches the frames of a node.
#[derive(Clone, Debug)]
pub enum Switch {
    /// A daemon, with its control socket.
    Tapswitch(PathBuf),
    /// The kernel, in this namespace.
    Kernel(NetnsRef),
}

/// Watches frames from [`Watch::begin`] to [`Watch::end`].
#[derive(Debug)]
pub struct Watch {
    start: Timestamp,
    eyes: Vec<Eye>,
}

#[derive(Debug)]
enum Eye {
    Capture(capture::Capture),
    Sniffer(sniffer::Sniffer),
}

impl Watch {
    /// Begins: every frame from now on will be seen.
    ///
    /// # Errors
    /// If a daemon or a namespace cannot be watched; the text says which, why and what to do.
    pub fn begin(nodes: &[Node]) -> Result<Self, WatchError> {
        let start = now();
        let eyes = nodes.iter().map(|node| {
            Ok(match &node.switch {
                Switch::Tapswitch(socket) => {
                    Eye::Capture(capture::Capture::begin(&node.name, socket)?)
                }
                Switch::Kernel(netns) => Eye::Sniffer(sniffer::Sniffer::begin(&node.name, netns)?),
            })
        });
        let eyes = eyes.collect::<Result<_, _>>()?;
        Ok(Self { start, eyes })
    }

    /// When it began; since 1970.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// Ends, after all frames that are under way have arrived: all of them, by time.
    ///
    /// # Errors
    /// If frames were lost since there were too many.
    pub fn end(self) -> Result<Vec<Seen>, WatchError> {
        self.settle();
        let parts: Result<Vec<_>, _> = self.eyes.into_iter().map(Eye::end).collect();
        let mut seen: Vec<Seen> = parts?.into_iter().flatten().collect();
        seen.sort_by_key(|frame| frame.at);
        Ok(seen)
    }

    /// Waits until nothing moves any more; or not much longer, if something always does.
    fn settle(&self) {
        let mut last = None;
        for _ in 0..MOST_LOOKS {
            let count: Vec<u64> = self.eyes.iter().map(Eye::count).collect();
            if last.as_ref() == Some(&count) {
                return;
            }
            last = Some(count);
            thread::sleep(BETWEEN_LOOKS);
        }
    }
}

impl Eye {
    fn count(&self) -> u64 {
        match self {
            Self::Capture(capture) => capture.count(),
            Self::Sniffer(sniffer) => u64::try_from(sniffer.count()).unwrap_or(u64::MAX),
        }
    }

    fn end(self) -> Result<Vec<Seen>, WatchError> {
        match self {
            Self::Capture(capture) => capture.end(),
            Self::Sniffer(sniffer) => sniffer.end(),
        }
    }
}

/// Why frames cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WatchError(String);

fn now() -> Timestamp {
    let now = Duration::try_from_secs_f64(clock::unix_time()).unwrap_or_default();
    Timestamp::from_nanos(crate::time::nanos(now))
}

/// Between two looks that must find the same for all to be in.
const BETWEEN_LOOKS: Duration = Duration::from_millis(4);
/// Looks at a network that never rests.
const MOST_LOOKS: usize = 50;
