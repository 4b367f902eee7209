//! Netlink: what `ip link`, `ip address` and `ip route` do, on the control side.
//!
//! Every function opens its own netlink socket on a throw-away thread, inside the namespace it is
//! about (`None`: the caller's), and waits for the kernel's answer. They block, so a tokio task
//! calls them on threads of their own (`control::threads`). All use of `rtnetlink`, whose interface
//! changes often, is in this module.

mod bridge;
mod configure;
mod link;
mod neighbour;
mod netfilter;
mod survey;
mod view;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use rtnetlink::Handle;
use tokio::runtime::Runtime;

pub use self::{
    bridge::{BridgeLink, BridgeLinkKind, BridgeRow, bridge_links, bridge_rows},
    configure::{LinkSetup, configure, remove_address, remove_route},
    link::{
        LinkState, LinkStats, OperState, addresses, link_state, move_and_rename, set_gso_max_segs,
        set_mac, set_mtu, set_up,
    },
    neighbour::forget_neighbours,
    netfilter::{Dropping, Hook, Netfilter},
    survey::{AddressState, HeldAddress, held_addresses, vxlan_devices},
    view::{
        Held, Neighbour, Reachability, Sysctls, View, Way, mac_of, netfilter, surroundings, view,
        ways,
    },
};
use crate::{
    names::IfName,
    sys::{
        cause_text,
        netns::{NetnsError, NetnsFile, on_new_thread},
    },
};

/// Which link of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkRef {
    /// By its index.
    Index(u32),
    /// By its name, which need not be one that we would give.
    Name(String),
}

impl From<&IfName> for LinkRef {
    fn from(name: &IfName) -> Self {
        Self::Name(name.to_string())
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "number {index}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// A route over one link: `10.1.0.0/16 via 10.0.0.1`, `default via 10.0.0.1` or `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    to: IpNet,
    via: Option<IpAddr>,
}

impl Route {
    /// A route to `to`, whose host bits are ignored, over the gateway `via` or directly.
    pub fn new(to: IpNet, via: Option<IpAddr>) -> Self {
        Self {
            to: to.trunc(),
            via,
        }
    }

    /// The default route of the family of `via`.
    pub fn default_via(via: IpAddr) -> Self {
        let to = match via {
            IpAddr::V4(_) => IpNet::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            IpAddr::V6(_) => IpNet::from(IpAddr::from(Ipv6Addr::UNSPECIFIED)),
        };
        Self {
            to: IpNet::new_assert(to.addr(), 0),
            via: Some(via),
        }
    }

    /// The destination network.
    pub fn to(&self) -> IpNet {
        self.to
    }

    /// The gateway.
    pub fn via(&self) -> Option<IpAddr> {
        self.via
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.to.prefix_len() == 0 {
            f.write_str("default")?;
        } else {
            write!(f, "{}", self.to)?;
        }
        self.via.map_or(Ok(()), |via| write!(f, " via {via}"))
    }
}

/// Why a link is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// No netlink socket.
    #[error("use netlink socket: {}; {}", cause_text(.cause), socket_advice(.cause))]
    Socket {
        /// What the kernel answered.
        cause: io::Error,
    },
    /// Another interface has the name.
    #[error("name link {name:?}: interface name taken; choose another")]
    NameTaken {
        /// The name that is taken.
        name: String,
    },
    /// The kernel refused a step.
    #[error("{step}: {}; {advice}", cause_text(.cause))]
    Step {
        /// What was tried, with its object.
        step: String,
        /// What the kernel answered.
        cause: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
}

impl LinkError {
    /// The kernel's answer as an errno, if it gave one; `EBADFD` if a TAP is gone.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { cause } | Self::Step { cause, .. } => cause.raw_os_error(),
            Self::NameTaken { .. } => Some(libc::EEXIST),
            Self::Netns(error) => error.errno(),
        }
    }

    fn step(step: impl fmt::Display, error: rtnetlink::Error) -> Self {
        let cause = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        Self::refused(step, cause)
    }

    fn refused(step: impl fmt::Display, cause: io::Error) -> Self {
        let advice = advice(&cause);
        let step = step.to_string();
        Self::Step {
            step,
            cause,
            advice,
        }
    }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM) => "run as root or grant CAP_NET_ADMIN",
        Some(libc::ENODEV) => "is the link deleted? see `ip link`",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
            "give the link an address in the gateway's network"
        }
        Some(libc::ENETDOWN) => "set the link up",
        Some(libc::EEXIST) => "another one is there already; remove it first",
        Some(libc::EADDRNOTAVAIL) => "it must be a unicast address",
        Some(libc::EACCES) => "IPv6 is switched off there (net.ipv6.conf.*.disable_ipv6)",
        Some(libc::ERANGE | libc::EINVAL) => {
            "check the value; an MTU is 68 to 65521, and at least 1280 for IPv6"
        }
        _ => "see `dmesg`",
    }
}

/// A socket is used on a thread of its own, and has an event loop there.
fn socket_advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EAGAIN) => "raise the limit of threads (ulimit -u, and pids.max of its cgroup)",
        Some(libc::ENOMEM | libc::ENOBUFS) => "free memory",
        _ => "raise the limit of open files (ulimit -n)",
    }
}

/// Runs `f` with a netlink socket in `netns`, on a thread of its own.
fn with_socket<T: Send>(
    netns: Option<&NetnsFile>,
    f: impl AsyncFnOnce(Handle) -> Result<T, LinkError> + Send,
) -> Result<T, LinkError> {
    let run = || with_socket_here(&runtime()?, f);
    match netns {
        Some(netns) => netns.run_in(run)?,
        None => on_new_thread(|| Ok(run())).map_err(|cause| LinkError::Socket { cause })?,
    }
}

fn runtime() -> Result<Runtime, LinkError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|cause| LinkError::Socket { cause })
}

/// Runs `f` with a netlink socket in the namespace of the calling thread.
fn with_socket_here<T>(
    runtime: &Runtime,
    f: impl AsyncFnOnce(Handle) -> Result<T, LinkError>,
) -> Result<T, LinkError> {
    let socket = |cause| LinkError::Socket { cause };
    let context = runtime.enter();
    let (connection, handle, _unsolicited) = rtnetlink::new_connection().map_err(socket)?;
    drop(context);
    let connection = runtime.spawn(connection);
    // As long as a handle lives, the connection ends only by failing. A request without an
    // answer then looks like success to rtnetlink, so ask.
    let _open = handle.clone();
    let result = runtime.block_on(f(handle));
    if result.is_ok() && connection.is_finished() {
        return Err(socket(io::ErrorKind::ConnectionAborted.into()));
    }
    result
}

/// Somebody who looks into many namespaces: on one thread, which is most of what a look costs. A
/// namespace is held, if it ends meanwhile, until the look into the next.
#[derive(Debug)]
pub struct Visitor(Runtime);

impl Visitor {
    /// Runs `f` with a visitor, on a thread that ends with it.
    ///
    /// # Errors
    /// [`LinkError::Socket`] if there can be none; `f` was not called.
    ///
    /// # Panics
    /// If `f` does.
    pub fn run<T: Send>(f: impl FnOnce(&Self) -> T + Send) -> Result<T, LinkError> {
        on_new_thread(|| Ok(runtime().map(|runtime| f(&Self(runtime)))))
            .map_err(|cause| LinkError::Socket { cause })?
    }

    /// As [`link_state`].
    ///
    /// # Errors
    /// A [`LinkError`]; `ENODEV` if there is no such link.
    pub fn link_state(&self, netns: &NetnsFile, link: &LinkRef) -> Result<LinkState, LinkError> {
        netns.enter()?;
        with_socket_here(&self.0, async |handle| link::find(&handle, link).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_reads_as_ip_route_prints_it() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        for (route, text) in [
            (Route::default_via(ip("192.0.2.1")), "default via 192.0.2.1"),
            (
                Route::default_via(ip("2001:db8::1")),
                "default via 2001:db8::1",
            ),
            (Route::new(net("198.51.100.9/24"), None), "198.51.100.0/24"),
            (
                Route::new(net("2001:db8:1::/48"), Some(ip("fe80::1"))),
                "2001:db8:1::/48 via fe80::1",
            ),
        ] {
            assert_eq!(route.to_string(), text);
        }
    }
}
