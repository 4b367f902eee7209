//! The frames of a step: where each came in, and all that became of it, on this switch and on the
//! kernel's bridge alike.

mod expect;
mod seen;

use std::path::PathBuf;

pub use self::{
    expect::{Expected, find},
    seen::{Copied, Datagram, Fate, Learned, Lesson, Row, SWITCH, Seen, VTEP},
};
use crate::{names::NetnsRef, time::Timestamp};

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
}

impl Watch {
    /// Begins: every frame from now on will be seen.
    ///
    /// # Errors
    /// If a daemon or a namespace cannot be watched; the text says which, why and what to do.
    pub fn begin(nodes: &[Node]) -> Result<Self, WatchError> {
        let _ = nodes;
        let start = Timestamp::ZERO;
        Ok(Self { start })
    }

    /// When it began; since 1970.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The frames that have come to an end since the last call, by time; for telling them while a
    /// command runs.
    ///
    /// # Errors
    /// If a daemon has gone.
    pub fn so_far(&mut self) -> Result<Vec<Seen>, WatchError> {
        Ok(Vec::new())
    }

    /// Ends, after all frames that are under way have arrived: those that [`Self::so_far`] has not
    /// returned, by time.
    ///
    /// # Errors
    /// If a daemon has gone, or frames were lost since there were too many.
    pub fn end(self) -> Result<Vec<Seen>, WatchError> {
        Ok(Vec::new())
    }
}

/// Why frames cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WatchError(String);

/// All frames as a pcapng file: an interface for each place of each node, and what became of each
/// frame as its comment.
pub fn pcapng(seen: &[Seen]) -> Vec<u8> {
    let _ = seen;
    Vec::new()
}
