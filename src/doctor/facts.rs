//! Facts: what there is, without a word about whether that is good.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Place, place::word};
use crate::{
    config::{BridgeSpec, PortSpec, VtepSpec},
    names::Name,
    netlink::{Held, Neighbour, Netfilter, View, Way},
    wire::{MacAddr, Vni},
};

/// What is examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Switch,
    /// One port, and the bridge it is on.
    Port(Name),
    /// The path between two ports.
    Ports(Name, Name),
    /// The path from a port to an address.
    Address(Name, IpAddr),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("the whole switch"),
            Self::Port(port) => write!(f, "port {port}"),
            Self::Ports(from, to) => write!(f, "from port {from} to port {to}"),
            Self::Address(from, to) => write!(f, "from port {from} to {to}"),
        }
    }
}

impl Scope {
    /// The port that it starts from.
    pub fn from(&self) -> Option<&Name> {
        match self {
            Self::Switch => None,
            Self::Port(port) | Self::Ports(port, _) | Self::Address(port, _) => Some(port),
        }
    }

    /// The port that it leads to.
    pub fn to(&self) -> Option<&Name> {
        match self {
            Self::Ports(_, to) => Some(to),
            _ => None,
        }
    }

    /// Whether it is about this port.
    pub fn has(&self, port: &Name) -> bool {
        *self == Self::Switch || self.from() == Some(port) || self.to() == Some(port)
    }

    /// Whether it leads from one place to another.
    pub fn is_path(&self) -> bool {
        matches!(self, Self::Ports(..) | Self::Address(..))
    }
}

/// All facts.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What was asked.
    pub scope: Scope,
    /// The daemon, in words.
    pub daemon: String,
    /// Frames whose fate no counter tells.
    pub unaccounted: i64,
    /// The bridges that matter.
    pub bridges: Vec<BridgeFacts>,
    /// All their ports; the ends of a path first.
    pub ports: Vec<PortFacts>,
    /// The VXLAN endpoint, where a bridge that matters is on the overlay.
    pub vtep: Option<VtepFacts>,
    /// Remote VTEPs of the bridges that matter.
    pub peers: Vec<PeerFacts>,
    /// The ways between the two ends, one for each address family.
    pub paths: Vec<PathFacts>,
}

impl Facts {
    /// The port of that name.
    pub fn port(&self, name: &Name) -> Option<&PortFacts> {
        self.ports.iter().find(|port| port.spec.name == *name)
    }

    /// The bridge of that name.
    pub fn bridge(&self, name: &Name) -> Option<&BridgeFacts> {
        self.bridges.iter().find(|bridge| bridge.spec.name == *name)
    }

    /// The port that has the address; or that was given it, if nobody looked there.
    pub fn owner(&self, ip: IpAddr) -> Option<&PortFacts> {
        let has = |port: &&PortFacts| port.held().any(|held| held.net.addr() == ip);
        let was_given = |port: &&PortFacts| {
            let mut given = port.spec.addresses.iter();
            port.seen().is_none() && given.any(|net| net.addr() == ip)
        };
        let found = self.ports.iter().find(has);
        found.or_else(|| self.ports.iter().find(was_given))
    }
}

/// A bridge.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeFacts {
    /// Its settings.
    pub spec: BridgeSpec,
    /// The MTU of ports that name none.
    pub mtu: u32,
    /// What that is with `mtu = "auto"`.
    pub auto_mtu: u32,
    /// Learned entries in the FDB.
    pub learned: u32,
    /// Addresses that were not learned because the FDB was full.
    pub refused: Count,
    /// Addresses that are held because they moved too often, and where.
    pub held: Vec<(MacAddr, String)>,
}

/// A counter, looked at twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// What it had come to.
    pub total: u64,
    /// By how much it grew while doctor was looking.
    pub grown: u64,
}

/// Frames that were dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The reason's name, as `stats` has it.
    pub reason: &'static str,
    /// The same in words.
    pub text: &'static str,
    /// How many.
    pub count: Count,
}

/// A port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortFacts {
    /// Its settings.
    pub spec: PortSpec,
    /// The MAC address that it shall have.
    pub mac: MacAddr,
    /// Why it has no device, if it has none.
    pub gone: Option<String>,
    /// The offloads in force, in words; empty: none.
    pub offloads: String,
    /// Frames that came from it.
    pub rx: Count,
    /// Frames lost at it.
    pub losses: Vec<Loss>,
    /// Frames that the TAP's own queue lost.
    pub queue: Count,
    /// What its namespace says.
    pub inside: Inside,
    /// What the FDB of its bridge says of its MAC address.
    pub fdb: Option<Entry>,
}

/// What was seen in a port's namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Inside {
    /// This.
    Seen(Box<Seen>),
    /// Nothing, for this reason.
    Unseen(String),
}

/// What was seen in a port's namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The interface and what is around it.
    pub view: View,
    /// By how many packets each of `view.netfilter.drops` grew, in the same order.
    pub dropped: Vec<u64>,
    /// The interface is in another namespace than it was plugged into: that one's inode.
    pub moved_to: Option<u64>,
}

impl PortFacts {
    /// What was seen inside.
    pub fn seen(&self) -> Option<&Seen> {
        match &self.inside {
            Inside::Seen(seen) => Some(seen),
            Inside::Unseen(_) => None,
        }
    }

    /// The MAC address that it really has.
    pub fn real_mac(&self) -> MacAddr {
        self.seen().map_or(self.mac, |seen| seen.view.link.mac)
    }

    /// The addresses of its interface.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        let seen = self.seen().into_iter();
        seen.flat_map(|seen| {
            let ours = |held: &&Held| held.index == seen.view.link.index;
            seen.view.addresses.iter().filter(ours)
        })
    }

    /// Likewise, without those that are for the link only.
    pub fn usable(&self) -> impl Iterator<Item = IpAddr> {
        let addresses = self.held().map(|held| held.net.addr());
        addresses.filter(|ip| !is_link_local(*ip))
    }

    /// What its interface knows of `ip`.
    pub fn neighbour(&self, ip: IpAddr) -> Option<&Neighbour> {
        let mut known = self.seen()?.view.neighbours.iter();
        known.find(|neighbour| neighbour.ip == ip)
    }

    /// Its namespace.
    pub fn place(&self) -> Place<'_> {
        Place(self.spec.netns.as_ref())
    }

    /// How findings call it.
    pub fn about(&self) -> String {
        format!("port {}", self.spec.name)
    }

    /// The name of its interface, as it is now.
    pub fn ifname(&self) -> String {
        let now = self.seen().map(|seen| seen.view.link.name.clone());
        now.unwrap_or_else(|| self.spec.effective_ifname().to_string())
    }

    /// Likewise, as a command wants it.
    pub fn device(&self) -> String {
        word(&self.ifname())
    }
}

/// An entry of the FDB.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it points: a port, or a remote VTEP in words.
    pub place: Whereabouts,
    /// Somebody has set it; it does not age.
    pub is_static: bool,
    /// Since when its source was not seen.
    pub age: Duration,
    /// How often the address has moved lately.
    pub moves: u16,
    /// It is held where it is.
    pub is_held: bool,
}

/// Where an FDB entry points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// To a port.
    Port(Name),
    /// To a remote VTEP.
    Peer(IpAddr),
    /// To something that has just gone.
    Nowhere,
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(name) => write!(f, "port {name}"),
            Self::Peer(ip) => write!(f, "VTEP {ip}"),
            Self::Nowhere => f.write_str("a place that is gone"),
        }
    }
}

/// The VXLAN endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct VtepFacts {
    /// Its settings.
    pub spec: VtepSpec,
    /// Why it has no sockets, if it has none.
    pub closed: Option<String>,
    /// Datagrams that its receive buffer had no room for.
    pub overflow: Count,
    /// Datagrams of no peer that were dropped.
    pub losses: Vec<Loss>,
    /// What its namespace says.
    pub around: Option<Surroundings>,
    /// Datagrams of no peer that the flight recorder remembers.
    pub heard: Vec<Heard>,
}

/// What was seen in the namespace of the endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    /// Its addresses.
    pub addresses: Vec<Held>,
    /// Who it knows on its links.
    pub neighbours: Vec<Neighbour>,
    /// Its rules.
    pub netfilter: Netfilter,
    /// By how many packets each of `netfilter.drops` grew.
    pub dropped: Vec<u64>,
}

impl VtepFacts {
    /// Its namespace.
    pub fn place(&self) -> Place<'_> {
        Place(self.spec.netns.as_ref())
    }
}

/// A remote VTEP of one bridge.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerFacts {
    /// The bridge.
    pub bridge: Name,
    /// Its VNI.
    pub vni: Vni,
    /// Where the peer is.
    pub to: SocketAddr,
    /// Nobody named it: it has sent something.
    pub is_met: bool,
    /// The MTU of the path.
    pub path_mtu: u32,
    /// Inner MTU that fits the path.
    pub mtu: u32,
    /// Why the kernel knows no way, if so.
    pub no_route: Option<String>,
    /// The way there, as the kernel has it.
    pub way: Option<Way>,
    /// Frames from it.
    pub rx: Count,
    /// How long ago the last one came, where nobody answers probes.
    pub last_heard: Option<Duration>,
    /// Frames lost on the way from it or to it.
    pub losses: Vec<Loss>,
    /// What came of asking it.
    pub probe: Option<Probe>,
}

impl PeerFacts {
    /// What has come from a peer in this time shows that it is well now.
    pub const LATELY: Duration = Duration::from_secs(10);
}

/// What came of asking a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The round trip of a short probe; `None`: no answer.
    pub rtt: Option<Duration>,
    /// The inner frame, in bytes, that just fits the path, and whether it came back.
    pub large: Option<(u32, bool)>,
    /// What its VXLAN port says to plain UDP, if probes were not answered.
    pub port: Udp,
    /// What a port says where nobody listens, which is asked last: whether the machine is there at
    /// all, and sends ICMP errors now.
    pub closed: Udp,
    /// The other port that VXLAN is known by, and what that says.
    pub other: (u16, Udp),
}

/// What a port says to plain UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Udp {
    /// It was not asked.
    #[default]
    NotAsked,
    /// Nobody listens (ICMP port unreachable).
    Refused,
    /// A datagram came back.
    Answered,
    /// Nothing came back.
    Silent,
    /// There is no way.
    Unreachable(String),
}

/// The way between the two ends in one address family.
#[derive(Clone, Debug, PartialEq)]
pub struct PathFacts {
    /// An address of the first end.
    pub from: Option<IpAddr>,
    /// The address that is to be reached.
    pub to: IpAddr,
    /// Where the first end's namespace sends it.
    pub way: Way,
    /// Where the second end's namespace sends the answers.
    pub back: Option<Way>,
    /// The MAC address that the first end has for the next hop, and what the FDB says of it.
    pub next: Option<(MacAddr, Option<Entry>)>,
    /// What the flight recorder remembers of the next hop, of the last minute.
    pub heard: Vec<Heard>,
}

/// Frames of one flow that the switch has seen lately, as its flight recorder has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// One in words.
    pub frame: String,
    /// How many there were.
    pub count: u64,
    /// When the last one was.
    pub age: Duration,
    /// Where they came from.
    pub from: String,
    /// Where they went.
    pub to: Vec<String>,
    /// Their destination, if there is a frame.
    pub dst: Option<MacAddr>,
    /// The reason for which they were lost, as counters name it.
    pub lost: Option<String>,
    /// What became of them, in words.
    pub why: String,
    /// What to do about a loss, in words.
    pub remedy: Option<String>,
    /// The VNI that they had.
    pub vni: Option<Vni>,
}

impl PathFacts {
    /// Whom the first end asks for a MAC address.
    pub fn next_hop(&self) -> IpAddr {
        match self.way {
            Way::Over { via: Some(via), .. } => via,
            _ => self.to,
        }
    }
}

/// The addresses between which packets would go, one pair for each family: both ends' own, of one
/// subnet if they have such.
pub fn pairs(from: &PortFacts, to: &PortFacts) -> Vec<(Option<IpAddr>, IpAddr)> {
    let mut pairs = Vec::new();
    for is_v4 in [true, false] {
        let of_family = |ip: &IpAddr| ip.is_ipv4() == is_v4;
        let near = |ip: &IpAddr| from.held().any(|held| held.net.contains(ip));
        let targets: Vec<IpAddr> = to.usable().filter(of_family).collect();
        let target = targets.iter().copied().find(near);
        let Some(target) = target.or_else(|| targets.first().copied()) else {
            continue;
        };
        let source = from.usable().find(of_family);
        pairs.push((source, target));
    }
    // Without a common family the first one tells why.
    let common = pairs.iter().any(|(source, _)| source.is_some());
    pairs.retain(|(source, _)| source.is_some() || !common);
    pairs.truncate(if common { 2 } else { 1 });
    pairs
}

/// `169.254.0.0/16` and `fe80::/10`.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
