//! `tapswitch demo`: the whole thing in one command, with nothing set up and nothing left behind.
//!
//! Two nodes with two pods each, a switch on each node, and VXLAN between them over a cable: real
//! pings, and the story of the first one across told frame by frame. As root in real namespaces; as
//! an ordinary user in a user namespace; where neither is possible, in memory. Everything hangs on
//! descriptors of this process, so the kernel cleans up however it ends. [`live()`] shows the same in a
//! browser.

mod json;
mod live;
mod memory;
mod namespaces;
mod ping;
mod tell;
mod traffic;

use std::{
    env, io,
    io::Write,
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    process::Command,
    time::Duration,
};

use nix::unistd::{Uid, geteuid};

pub use self::live::{LiveError, LiveOptions, live};
use crate::{
    control::api::MtuChain,
    sim::Scene,
    sys::{
        inherit,
        userns::{Mounts, enter_user_namespace},
    },
    wire::MacAddr,
};

/// Runs the demo and tells it on `out`, as one JSON value if `json`. Must be called before the process has started threads, so
/// that an ordinary user's can move into a user namespace.
///
/// # Errors
/// If `out` cannot be written, or the demo itself fails, which is a bug.
pub fn run(json: bool, out: &mut impl Write) -> io::Result<()> {
    let stage = prepare(None).and_then(|place| Ok((place, namespaces::Stage::build()?)));
    match stage {
        Ok((place, stage)) if json => json::play(&stage.play()?, true, place, out),
        Ok((place, stage)) => {
            writeln!(out, "{place}\n")?;
            tell::play(&stage.play()?, out)
        }
        Err(reason) => in_memory(json, out, &reason),
    }
}

fn in_memory(json: bool, out: &mut impl Write, reason: &str) -> io::Result<()> {
    let place = "In memory, with simulated hosts: real namespaces are not possible here.";
    if json {
        return json::play(&memory::play()?, false, &format!("{place} ({reason})"), out);
    }
    writeln!(out, "{place}\n  ({reason})\n")?;
    tell::play(&memory::play()?, out)
}

/// Moves to where namespaces can be made, and says where that is; or why there is no such place. If
/// that takes to start this program again, the socket in `left` stays open, and its number is in the
/// environment.
fn prepare(left: Option<(&str, &TcpListener)>) -> Result<&'static str, String> {
    if env::var_os(MARK).is_some() {
        return Ok(
            "In real network namespaces, inside a user namespace: you are not root, and need not be.",
        );
    }
    if geteuid() == Uid::from_raw(0) {
        return Ok("In real network namespaces, as root.");
    }
    enter_user_namespace(Mounts::Shared).map_err(|error| error.to_string())?;
    let left = left.map(|(name, socket)| inherit::leave_open(socket).map(|number| (name, number)));
    let left = left
        .transpose()
        .map_err(|error| format!("keep the socket open: {error}"))?;
    // From the start again, as the root of that namespace.
    let error = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .env(MARK, "1")
        .envs(left.map(|(name, number)| (name, number.to_string())))
        .exec();
    Err(format!("run myself again in a user namespace: {error}"))
}

/// Set where this program has started itself again.
const MARK: &str = "TAPSWITCH_DEMO_IN_USER_NAMESPACE";

/// A pod: its name, its node counted from 0, and its address. The last octet is its number, which
/// is its MAC address too.
struct Pod {
    name: &'static str,
    node: usize,
    ip: Ipv4Addr,
}

const fn pod(name: &'static str, node: usize, number: u8) -> Pod {
    Pod {
        name,
        node,
        ip: Ipv4Addr::new(192, 0, 2, number),
    }
}

/// The pods, in the order of their numbers.
const PODS: [Pod; 4] = [
    pod("podA", 0, 1),
    pod("podB", 0, 2),
    pod("podC", 1, 3),
    pod("podD", 1, 4),
];
/// The nodes' addresses on the cable between them.
const VTEPS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(198, 51, 100, 2),
];

/// The pings, in order: from which pod to which, and bytes of data.
const PINGS: [(usize, usize, usize); 5] = [
    (0, 2, SHORT),
    (0, 2, SHORT),
    (0, 2, SHORT),
    // With headers as long as the pods' MTU.
    (0, 2, 1450 - HEADERS),
    (0, 1, SHORT),
];
/// What `ping` sends if nobody says.
const SHORT: usize = 56;
/// IPv4 and ICMP.
const HEADERS: usize = 28;

/// All that happened.
struct Play {
    /// How long each of [`PINGS`] took.
    trips: Vec<Duration>,
    /// The first of them.
    story: Vec<Scene>,
    /// The longest frame on the cable, in bytes from its Ethernet header on.
    longest: usize,
    /// What the switches know in the end: address, and where each has it.
    known: Vec<(MacAddr, [Option<Place>; 2])>,
    chain: MtuChain,
    frames: u64,
    unaccounted: i64,
}

/// Where a switch has an address.
enum Place {
    Port(String),
    Vtep(IpAddr),
}
