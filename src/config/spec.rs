//! What a switch shall be: validated settings, without a trace of how they were written down.
//!
//! The configuration file, the command line and the control API all end in these types, and a
//! running switch can be read back as a [`SwitchSpec`]; `apply` is the difference between two of them.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{PeerAddr, VtepSpec};
use crate::{
    names::{IfName, Name, NetnsRef},
    wire::{MacAddr, Vni},
};

/// A whole switch: its VXLAN endpoint, bridges, ports and static FDB entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchSpec {
    /// The VXLAN endpoint; `None`: no bridge has an overlay.
    #[serde(default)]
    pub vtep: Option<VtepSpec>,
    /// The bridges, in the order of the file.
    pub bridges: Vec<BridgeSpec>,
    /// The ports of all bridges, in the order of the file.
    pub ports: Vec<PortSpec>,
    /// Static FDB entries.
    pub fdb: Vec<StaticSpec>,
}

/// One broadcast domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeSpec {
    /// Unique among the bridges.
    pub name: Name,
    /// How it relays frames.
    #[serde(default)]
    pub mode: Mode,
    /// The overlay segment that carries the bridge to other hosts.
    #[serde(default)]
    pub vni: Option<Vni>,
    /// The VTEPs that broadcast, unknown unicast and multicast frames are replicated to. Those of
    /// static entries need not be among them.
    #[serde(default)]
    pub peers: Vec<PeerAddr>,
    /// Whether addresses behind peers are learned. False is the kernel's `nolearning`.
    #[serde(default = "BridgeSpec::default_peer_learning")]
    pub peer_learning: bool,
    /// MTU for ports that name none. `None` is `auto`: 1500, or with a `vni` what the paths to the
    /// peers leave.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// How long a learned entry lives without its source being seen. Zero: nothing is learned.
    #[serde(with = "seconds", default = "BridgeSpec::default_ageing")]
    pub ageing: Duration,
    /// Most learned entries at one time; at the limit frames are forwarded but not learned.
    #[serde(default = "BridgeSpec::default_fdb_limit")]
    pub fdb_limit: u32,
    /// What happens to a new address at the limit.
    #[serde(default)]
    pub at_limit: AtLimit,
    /// Which reserved addresses 01-80-C2-00-00-0x are relayed, one bit each.
    #[serde(default)]
    pub forward_reserved: ReservedMask,
    /// Moves of one address within 180 s after which it is held where it is; 0 turns that off.
    #[serde(default = "BridgeSpec::default_flap_limit")]
    pub flap_limit: u16,
}

impl BridgeSpec {
    /// 300 s (IEEE 802.1D-2004 table 7-5).
    pub const DEFAULT_AGEING: Duration = Duration::from_secs(300);
    /// Open vSwitch's default too.
    pub const DEFAULT_FDB_LIMIT: u32 = 8192;
    /// Five moves (RFC 7432 §15.1).
    pub const DEFAULT_FLAP_LIMIT: u16 = 5;
    /// The MTU of a bridge that names none.
    pub const DEFAULT_MTU: u32 = 1500;

    /// A bridge with default settings.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            mode: Mode::Switch,
            vni: None,
            peers: Vec::new(),
            peer_learning: true,
            mtu: None,
            ageing: Self::DEFAULT_AGEING,
            fdb_limit: Self::DEFAULT_FDB_LIMIT,
            at_limit: AtLimit::Fair,
            forward_reserved: ReservedMask::NONE,
            flap_limit: Self::DEFAULT_FLAP_LIMIT,
        }
    }

    /// The MTU of ports that name none, of a bridge without a `vni`. With one, `auto` depends on the
    /// paths to its peers.
    pub fn effective_mtu(&self) -> u32 {
        self.mtu.unwrap_or(Self::DEFAULT_MTU)
    }

    const fn default_ageing() -> Duration {
        Self::DEFAULT_AGEING
    }

    const fn default_fdb_limit() -> u32 {
        Self::DEFAULT_FDB_LIMIT
    }

    const fn default_flap_limit() -> u16 {
        Self::DEFAULT_FLAP_LIMIT
    }

    const fn default_peer_learning() -> bool {
        true
    }
}

/// How a bridge relays frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Learns, and sends known unicast to its port only.
    #[default]
    Switch,
    /// Learns nothing and repeats every frame to every other port.
    Hub,
    /// Joins exactly two ports like a cable: everything passes, nothing is looked at.
    Wire,
}

/// What a full FDB does with an address from a port that has fewer entries than another port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtLimit {
    /// The port with the most entries gives up its oldest one, so no port can starve the others.
    #[default]
    Fair,
    /// The address is not learned, whoever sends it.
    Refuse,
}

/// A set of the sixteen reserved group addresses 01-80-C2-00-00-00 to -0F.
///
/// Text: `none`, `all`, or a comma-separated list of `stp` (00), `pause` (01), `lacp` (02),
/// `eapol` (03), `lldp` (0e) and hexadecimal last digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReservedMask(pub u16);

impl ReservedMask {
    /// None is relayed.
    pub const NONE: Self = Self(0);
    /// All are relayed, also those that the kernel's bridge never relays.
    pub const ALL: Self = Self(u16::MAX);

    const NAMES: [(&'static str, u16); 5] = [
        ("stp", 1),
        ("pause", 1 << 1),
        ("lacp", 1 << 2),
        ("eapol", 1 << 3),
        ("lldp", 1 << 0xe),
    ];

    /// Whether the reserved address that ends in `nibble` is in the set.
    #[inline]
    pub const fn contains(self, nibble: u8) -> bool {
        self.0 >> (nibble & 0xf) & 1 == 1
    }
}

/// The text names no reserved address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{word:?} names no reserved address; write none, all, or a list of stp, pause, lacp, eapol, lldp and 0 to f"
)]
pub struct ParseReservedError {
    word: String,
}

impl FromStr for ReservedMask {
    type Err = ParseReservedError;

    fn from_str(text: &str) -> Result<Self, ParseReservedError> {
        match text {
            "none" => return Ok(Self::NONE),
            "all" => return Ok(Self::ALL),
            _ => {}
        }
        let mut mask = 0;
        for word in text.split(',').map(str::trim) {
            let named = Self::NAMES
                .iter()
                .find(|(name, _)| *name == word)
                .map(|&(_, bit)| bit);
            let digit = || {
                let nibble = u8::from_str_radix(word, 16)
                    .ok()
                    .filter(|&n| n < 16 && word.len() == 1);
                nibble.map(|n| 1 << n)
            };
            let refuse = || ParseReservedError {
                word: word.chars().take(40).collect(),
            };
            mask |= named.or_else(digit).ok_or_else(refuse)?;
        }
        Ok(Self(mask))
    }
}

impl fmt::Display for ReservedMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => return f.write_str("none"),
            Self::ALL => return f.write_str("all"),
            _ => {}
        }
        let mut separator = "";
        for nibble in (0..16).filter(|&nibble| self.contains(nibble)) {
            let name = Self::NAMES.iter().find(|&&(_, bit)| bit == 1 << nibble);
            match name {
                Some((name, _)) => write!(f, "{separator}{name}")?,
                None => write!(f, "{separator}{nibble:x}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for ReservedMask {
    type Error = ParseReservedError;

    fn try_from(text: String) -> Result<Self, ParseReservedError> {
        text.parse()
    }
}

impl From<ReservedMask> for String {
    fn from(mask: ReservedMask) -> Self {
        mask.to_string()
    }
}

/// One port: a TAP device, where it is plugged in, and how the bridge treats it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// Unique in the switch.
    pub name: Name,
    /// The bridge it belongs to.
    pub bridge: Name,
    /// The namespace; `None` is the daemon's own: a host port.
    #[serde(default)]
    pub netns: Option<NetnsRef>,
    /// The interface's name there; by default `eth0`, for a host port the port's own name.
    #[serde(default)]
    pub ifname: Option<IfName>,
    /// Addresses with their prefix lengths.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Default gateways, at most one a family.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// `None`: derived from the switch's and the port's name, so the same on every run.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    /// `None`: the bridge's.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// How the bridge treats the port.
    #[serde(default)]
    pub flags: PortFlagsSpec,
    /// Which engine moves its frames.
    #[serde(default)]
    pub offload: OffloadMode,
    /// Frames that the TAP queues towards the switch before it drops.
    #[serde(default = "PortSpec::default_txqueuelen")]
    pub txqueuelen: u32,
}

impl PortSpec {
    /// Long enough for a burst at full speed, short enough not to add seconds of delay.
    pub const DEFAULT_TXQUEUELEN: u32 = 1000;

    /// A port with default settings.
    pub fn new(name: Name, bridge: Name) -> Self {
        Self {
            name,
            bridge,
            netns: None,
            ifname: None,
            addresses: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            mac: None,
            mtu: None,
            flags: PortFlagsSpec::default(),
            offload: OffloadMode::On,
            txqueuelen: Self::DEFAULT_TXQUEUELEN,
        }
    }

    /// The interface's name: as given, else `eth0`, for a host port the port's own name.
    pub fn effective_ifname(&self) -> IfName {
        let default = || match self.netns {
            Some(_) => IfName::eth0(),
            None => self.name.clone().into(),
        };
        self.ifname.clone().unwrap_or_else(default)
    }

    const fn default_txqueuelen() -> u32 {
        Self::DEFAULT_TXQUEUELEN
    }
}

/// A route of the namespace: `CIDR` on the link, or `CIDR,via IP`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteSpec {
    /// Where to; `0.0.0.0/0` or `::/0` is the default route.
    pub to: IpNet,
    /// The next hop; `None` is the link itself.
    pub via: Option<IpAddr>,
}

/// The text is no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a route: {problem}; write CIDR or CIDR,via IP such as 10.244.0.0/16,via 10.244.1.1"
)]
pub struct ParseRouteError {
    text: String,
    problem: &'static str,
}

impl FromStr for RouteSpec {
    type Err = ParseRouteError;

    fn from_str(text: &str) -> Result<Self, ParseRouteError> {
        let refuse = |problem| ParseRouteError {
            text: text.chars().take(80).collect(),
            problem,
        };
        let (to, via) = match text.split_once(',') {
            None => (text, None),
            Some((to, rest)) => (
                to,
                Some(
                    rest.trim()
                        .strip_prefix("via ")
                        .ok_or_else(|| refuse("no \"via\" after the comma"))?,
                ),
            ),
        };
        let to: IpNet = to
            .trim()
            .parse()
            .map_err(|_| refuse("the destination is not a CIDR"))?;
        let via = via
            .map(|via| via.trim().parse::<IpAddr>())
            .transpose()
            .map_err(|_| refuse("the next hop is not an IP address"))?;
        if via.is_some_and(|via| via.is_ipv4() != to.addr().is_ipv4()) {
            return Err(refuse("destination and next hop are of different families"));
        }
        Ok(Self { to, via })
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        self.via.map_or(Ok(()), |via| write!(f, ",via {via}"))
    }
}

impl TryFrom<String> for RouteSpec {
    type Error = ParseRouteError;

    fn try_from(text: String) -> Result<Self, ParseRouteError> {
        text.parse()
    }
}

impl From<RouteSpec> for String {
    fn from(route: RouteSpec) -> Self {
        route.to_string()
    }
}

/// How a bridge treats a port. The names are those of `bridge link set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortFlagsSpec {
    /// Learn the source addresses of its frames.
    pub learning: bool,
    /// Send it unicast frames for unknown destinations.
    pub flood: bool,
    /// Send it multicast frames.
    pub mcast_flood: bool,
    /// Send it broadcast frames.
    pub bcast_flood: bool,
    /// Keep it apart from other isolated ports.
    pub isolated: bool,
    /// Let frames go back out of the port they came in.
    pub hairpin: bool,
    /// Accept only sources that the FDB has on this port.
    pub locked: bool,
    /// Administratively up; down takes the carrier away.
    pub up: bool,
}

impl Default for PortFlagsSpec {
    fn default() -> Self {
        Self {
            learning: true,
            flood: true,
            mcast_flood: true,
            bcast_flood: true,
            isolated: false,
            hairpin: false,
            locked: false,
            up: true,
        }
    }
}

/// Which engine moves a port's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffloadMode {
    /// `IFF_VNET_HDR`: superframes and unfinished checksums pass through.
    #[default]
    On,
    /// The simple engine: one ordinary frame, one call.
    Off,
}

/// A static FDB entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "StaticForm", into = "StaticForm")]
pub struct StaticSpec {
    /// The bridge whose FDB it is in.
    pub bridge: Name,
    /// A unicast address.
    pub mac: MacAddr,
    /// The VLAN id; 0 for untagged frames.
    pub vlan: u16,
    /// Behind what the address is.
    pub place: Place,
}

/// Where a static FDB entry points: `port = "podA"` or `remote = "192.168.50.20"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A port of the same bridge.
    Port(Name),
    /// A VTEP that carries the bridge's VNI.
    Peer(PeerAddr),
}

impl Place {
    /// The port, if it is one.
    pub fn port(&self) -> Option<&Name> {
        match self {
            Self::Port(port) => Some(port),
            Self::Peer(_) => None,
        }
    }

    /// The VTEP, if it is one.
    pub fn peer(&self) -> Option<PeerAddr> {
        match self {
            Self::Port(_) => None,
            Self::Peer(peer) => Some(*peer),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Peer(peer) => write!(f, "remote {peer}"),
        }
    }
}

/// [`StaticSpec`] on the wire: exactly one of `port` and `remote`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticForm {
    bridge: Name,
    mac: MacAddr,
    #[serde(default)]
    vlan: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote: Option<PeerAddr>,
}

impl TryFrom<StaticForm> for StaticSpec {
    type Error = &'static str;

    fn try_from(form: StaticForm) -> Result<Self, Self::Error> {
        let place = match (form.port, form.remote) {
            (Some(port), None) => Place::Port(port),
            (None, Some(peer)) => Place::Peer(peer),
            _ => return Err("a static FDB entry has either a port or a remote"),
        };
        Ok(Self {
            bridge: form.bridge,
            mac: form.mac,
            vlan: form.vlan,
            place,
        })
    }
}

impl From<StaticSpec> for StaticForm {
    fn from(entry: StaticSpec) -> Self {
        Self {
            bridge: entry.bridge,
            mac: entry.mac,
            vlan: entry.vlan,
            port: entry.place.port().cloned(),
            remote: entry.place.peer(),
        }
    }
}

/// Durations on the wire: a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)
    }
}
