//! What is measured: switches between namespaces, each with everything it needs, built privately and
//! gone with the value.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

mod browser;
mod daemon;
mod kernel;
mod losses;
mod netns;
mod open_vswitch;
mod program;
mod site;
mod tapswitch;
mod vde;

pub use self::site::introduce;
use self::{
    daemon::{Daemon, Directory, cpu_ns},
    losses::losses,
    site::Site,
};
use crate::sys::netns::NetnsFile;

/// Builds a switch with its pods, which can reach each other then.
///
/// The process is to be in a network and a mount namespace of its own, with an empty tmpfs on
/// `/run`. Nothing is made outside: all namespaces are new ones, without a name. Everything is gone
/// with the value, and its processes are gone when the calling thread ends, if that is earlier.
///
/// # Errors
/// [`Unavailable`]; nothing is left behind then.
pub fn build(system: &System, shape: Shape) -> Result<Box<dyn Topology>, Unavailable> {
    match system {
        System::Kernel => Ok(Box::new(kernel::build(shape)?)),
        System::Tapswitch { options } => tapswitch::build(shape, options),
        System::OpenVswitch { tso } => Ok(Box::new(open_vswitch::build(shape, *tso)?)),
        System::Vde => Ok(Box::new(vde::build(shape)?)),
        System::Program { line } => Ok(Box::new(program::build(shape, line)?)),
    }
}

/// Why a switch cannot be measured here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A program is missing: which, and what to install.
    #[error("{0}")]
    NotInstalled(String),
    /// What was tried, why it failed, and what to do about it.
    #[error("{0}")]
    Failed(String),
}

impl Unavailable {
    pub(super) fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A switch to measure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// The kernel's own: veth and bridge, and its vxlan device on the overlay. All others are
    /// compared with it.
    Kernel,
    /// This program, with more options for `tapswitch run`.
    Tapswitch {
        /// Words of the command line; none: the defaults.
        options: Vec<String>,
    },
    /// Open vSwitch with its userspace datapath.
    OpenVswitch {
        /// Whether its `userspace-tso-enable` is on.
        tso: bool,
    },
    /// VDE's `vde_switch`.
    Vde,
    /// Any other program that joins interfaces `eth0` of two namespaces, which it makes.
    ///
    /// On one node it is called as it is, and the namespaces are `nsA` and `nsB`. On an overlay it is
    /// called once for each node, with the names of the pod's and of the node's namespace, and the
    /// local and the remote underlay address as further arguments. It says `ready` in a line; until
    /// then the names are below `/run/netns`. So several programs can run at the same time.
    Program {
        /// Its command line.
        line: String,
    },
}

/// What is built around a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// On one node, or on two with an overlay (VXLAN, VNI 42) over an underlay with an MTU of 1500
    /// between them.
    pub overlay: bool,
    /// How many pods; on an overlay those with an even number are on the first node, the others on
    /// the second.
    pub pods: usize,
    /// The MTU of the pods; `None`: 1500 on one node and 1450 on an overlay.
    pub mtu: Option<u32>,
    /// Addresses that the switch is to have room for in its FDB.
    pub addresses: u32,
}

/// A namespace that is plugged in, with its interface `eth0`.
#[derive(Debug)]
pub struct Pod {
    /// The namespace.
    pub netns: NetnsFile,
    /// The address of `eth0`, in one /16 with the others.
    pub address: Ipv4Addr,
}

/// A switch with its pods, ready to be measured.
pub trait Topology: fmt::Debug {
    /// The pods, as many as the shape asked for. Neighbours know each other: static ARP entries.
    fn pods(&self) -> &[Pod];

    /// What has been counted since it was built.
    fn counts(&self) -> Counts;
}

/// Counters of one topology, all since it was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames lost, by place; only what is not 0.
    ///
    /// * `tap_queue`: from a pod whose `eth0` is a TAP, because the switch was too slow.
    /// * `veth`: between a pod and its node, because the backlog of the receiving CPU was full.
    /// * `switch.REASON`: in this switch.
    /// * `underlay`, `underlay_socket`: between the nodes, and in the sockets of the switch.
    /// * `pod_rx`, `pod_socket`: in the pod, before and in its UDP sockets.
    /// * `port`, and devices of a node by their name: in the node's kernel.
    pub lost: BTreeMap<String, u64>,
    /// System calls of the switch, where it tells.
    pub syscalls: Option<u64>,
    /// CPU time of the switch's processes in nanoseconds, where it has any.
    pub cpu_ns: Option<u64>,
    /// Frames that the switch received from anywhere, where it tells.
    pub frames: Option<u64>,
}

/// A switch that tells nothing itself: what is known of it comes from the kernel.
#[derive(Debug)]
struct Plain {
    // In this order they end: first what runs, then where it ran.
    daemons: Vec<Daemon>,
    site: Site,
    directories: Vec<Directory>,
}

impl Plain {
    fn new(site: Site) -> Self {
        Self {
            daemons: Vec::new(),
            site,
            directories: Vec::new(),
        }
    }
}

impl Topology for Plain {
    fn pods(&self) -> &[Pod] {
        &self.site.pods
    }

    fn counts(&self) -> Counts {
        Counts {
            lost: losses(&self.site),
            cpu_ns: cpu_ns(&self.daemons),
            ..Counts::default()
        }
    }
}
