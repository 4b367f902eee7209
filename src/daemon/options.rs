//! What the daemon is told when it is started.

use std::path::PathBuf;

use crate::config::OffloadMode;

/// How to run the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonOptions {
    /// Where to listen for clients.
    pub socket: PathBuf,
    /// A group, by name or number, that may be a client too.
    pub group: Option<String>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Worker threads; by default as many as there are processors to run on.
    pub workers: Option<usize>,
    /// The switch's name, from which MAC addresses are derived; by default the host's.
    pub name: Option<String>,
    /// Off: no port has the fast engine, whatever it asks for.
    pub offload: OffloadMode,
}
