//! What the daemon is told when it is started.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{config::OffloadMode, control::metrics::Audience};

/// How to run the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonOptions {
    /// Where to listen for clients.
    pub socket: PathBuf,
    /// A group, by name or number, that may be a client too.
    pub group: Option<String>,
    /// Where to serve metrics over TCP.
    pub metrics: Option<SocketAddr>,
    /// Who may read them there.
    pub metrics_audience: Audience,
    /// Where to serve the live page.
    pub web: Option<SocketAddr>,
    /// The file with the word that it takes to change something from there.
    pub web_token: Option<PathBuf>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Worker threads; by default one on up to two processors, and on more as many as there are.
    pub workers: Option<usize>,
    /// The switch's name, from which MAC addresses are derived; by default the host's.
    pub name: Option<String>,
    /// Off: no port has the fast engine, whatever it asks for.
    pub offload: OffloadMode,
    /// What only changes how fast it is.
    pub tuning: Tuning,
}

impl DaemonOptions {
    /// A daemon for its owner only, that starts empty, with default settings.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            group: None,
            metrics: None,
            metrics_audience: Audience::default(),
            web: None,
            web_token: None,
            config: None,
            workers: None,
            name: None,
            offload: OffloadMode::default(),
            tuning: Tuning::default(),
        }
    }
}

/// When every worker stays on a CPU of its own, if there are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// While the switch has no VXLAN endpoint.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What only changes how fast a switch is. Each can be turned off, so that its effect shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// When every worker stays on a CPU of its own.
    pub pin: Pin,
    /// For how long at most a worker that just had frames looks for more before it sleeps. The time
    /// follows the traffic, and it lets others run meanwhile.
    pub poll: Duration,
    /// Datagrams of one flow that are in one batch leave as one superframe.
    pub coalesce: bool,
    /// What became of the last frames is remembered by their headers.
    pub flow_cache: bool,
    /// What becomes of frames is written down, for `tapswitch why`.
    pub recorder: bool,
    /// A worker that small frames keep busy lets some come together before it looks again.
    pub moderate: bool,
    /// What leaves together is put together first, and sent in one piece.
    pub gather: bool,
    /// TCP that keeps a queue standing before the tunnel is told to slow down.
    pub aqm: bool,
    /// A worker's memory of addresses grows with the FDB.
    pub cache_growth: bool,
    /// Ports get no queueing discipline in their namespaces, as a veth has none.
    pub noqueue: bool,
}

impl Tuning {
    /// Nothing of it.
    pub fn off() -> Self {
        Self {
            pin: Pin::Never,
            poll: Duration::ZERO,
            coalesce: false,
            flow_cache: false,
            recorder: false,
            moderate: false,
            gather: false,
            aqm: false,
            cache_growth: false,
            noqueue: false,
        }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            pin: Pin::Auto,
            poll: Duration::from_micros(200),
            coalesce: true,
            flow_cache: true,
            recorder: true,
            moderate: true,
            gather: true,
            aqm: true,
            cache_growth: true,
            noqueue: true,
        }
    }
}
