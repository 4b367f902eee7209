//! What must hold between settings that are each fine by themselves.
//!
//! The rules are those of the kernel and of the switch, checked before either is asked: a next hop
//! must be on the link, an interface name is free or taken, a cable has two ends, a VNI needs an
//! endpoint.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::PathBuf,
};

use ipnet::IpNet;

mod overlay;

use crate::{
    config::{Mode, Place, PortSpec, StaticSpec, SwitchSpec},
    names::{IfName, Name},
    wire::MacAddr,
};

/// The smallest and the largest MTU of a port: an IPv4 host must take 68 bytes (RFC 791), and a
/// TAP device carries at most 65535 bytes with the Ethernet header.
pub const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65521;

/// A rule that a switch breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Where.
    pub place: Setting,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// A setting in a [`SwitchSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Setting {
    /// In which part.
    pub section: Section,
    /// Which element, where the part is a list.
    pub index: usize,
    /// Which of its settings.
    pub key: &'static str,
    /// Which element, where the setting is a list.
    pub item: usize,
}

/// The parts of a [`SwitchSpec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// [`SwitchSpec::vtep`].
    Vtep,
    /// [`SwitchSpec::bridges`].
    Bridge,
    /// [`SwitchSpec::ports`].
    Port,
    /// [`SwitchSpec::fdb`].
    Fdb,
}

/// Every rule that `spec` breaks; none if it can be carried out.
pub fn check(spec: &SwitchSpec) -> Vec<Problem> {
    let mut checker = Checker {
        section: Section::Bridge,
        index: 0,
        problems: Vec::new(),
    };
    if let Some(vtep) = &spec.vtep {
        checker.vtep(vtep);
    }
    checker.bridges(spec);
    checker.ports(spec);
    checker.addresses(&spec.ports);
    checker.fdb(spec);
    checker.problems
}

struct Checker {
    section: Section,
    index: usize,
    problems: Vec<Problem>,
}

impl Checker {
    fn report(&mut self, key: &'static str, item: usize, message: String) {
        let place = Setting {
            section: self.section,
            index: self.index,
            key,
            item,
        };
        self.problems.push(Problem { place, message });
    }

    fn at(&mut self, section: Section, index: usize) {
        self.section = section;
        self.index = index;
    }

    fn bridges(&mut self, spec: &SwitchSpec) {
        let mut names = HashSet::new();
        let mut vnis = HashMap::new();
        let mut members: HashMap<&Name, usize> = HashMap::new();
        for port in &spec.ports {
            *members.entry(&port.bridge).or_default() += 1;
        }
        for (index, bridge) in spec.bridges.iter().enumerate() {
            self.at(Section::Bridge, index);
            let name = &bridge.name;
            if !names.insert(name) {
                let message = format!("bridge {name}: name is already taken; choose another one");
                self.report("name", 0, message);
            }
            self.mtu(bridge.mtu, &format!("bridge {name}"));
            let count = members.get(name).copied().unwrap_or_default();
            if bridge.mode == Mode::Wire && count > 2 {
                let message = format!(
                    "bridge {name}: a wire joins two ports, found {count}; use mode \"switch\" or \"hub\""
                );
                self.report("mode", 0, message);
            }
            self.overlay(bridge, spec.vtep.as_ref(), &mut vnis);
        }
    }

    fn mtu(&mut self, mtu: Option<u32>, object: &str) {
        if let Some(mtu) = mtu.filter(|mtu| !MTU_RANGE.contains(mtu)) {
            let message = format!("{object}: mtu {mtu} is out of range 68..=65521");
            self.report("mtu", 0, message);
        }
    }

    fn ports(&mut self, spec: &SwitchSpec) {
        let bridges: HashSet<_> = spec.bridges.iter().map(|bridge| &bridge.name).collect();
        let mut names = HashSet::new();
        let mut plugs: HashMap<(Option<PathBuf>, IfName), &PortSpec> = HashMap::new();
        for (index, port) in spec.ports.iter().enumerate() {
            self.at(Section::Port, index);
            let name = &port.name;
            if !bridges.contains(&port.bridge) {
                let bridge = &port.bridge;
                let message = format!("port {name}: there is no bridge {bridge}; add it first");
                self.report("bridge", 0, message);
            }
            if !names.insert(name) {
                let message = format!("port {name}: name is already taken; choose another one");
                self.report("name", 0, message);
            } else if let Some(other) = plugs.insert(plug(port), port) {
                let ifname = port.effective_ifname();
                let place = match &port.netns {
                    Some(netns) => format!("netns {netns}"),
                    None => "the daemon's own netns".to_owned(),
                };
                let other = &other.name;
                let message = format!(
                    "port {name}: interface {ifname} in {place} is already port {other}; set another ifname"
                );
                self.report("ifname", 0, message);
            }
            self.mtu(port.mtu, &format!("port {name}"));
            if let Some(problem) = port.mac.and_then(no_station) {
                self.report("mac", 0, format!("port {name}: {problem}"));
            }
            let (addresses, routes) = (port.addresses.len(), port.routes.len());
            if addresses > MAX_ADDRESSES {
                let message = format!(
                    "port {name}: {addresses} addresses are too many; give at most {MAX_ADDRESSES}"
                );
                self.report("addresses", MAX_ADDRESSES, message);
            } else if routes > MAX_ROUTES {
                let message =
                    format!("port {name}: {routes} routes are too many; give at most {MAX_ROUTES}");
                self.report("routes", MAX_ROUTES, message);
            } else {
                self.gateways(port);
                self.routes(port);
            }
        }
    }

    fn gateways(&mut self, port: &PortSpec) {
        let name = &port.name;
        for (item, &gateway) in port.gateways.iter().enumerate() {
            let earlier = port.gateways.iter().take(item);
            if earlier
                .into_iter()
                .any(|other| other.is_ipv4() == gateway.is_ipv4())
            {
                let family = family(gateway);
                let message = format!(
                    "port {name}: gateway {gateway} is the second one for {family}; keep one, or write a route"
                );
                self.report("gateway", item, message);
            } else if port.addresses.iter().any(|own| own.addr() == gateway) {
                let message = format!("port {name}: gateway {gateway} is the port's own address");
                self.report("gateway", item, message);
            } else if !on_link(port, gateway) {
                let message = format!(
                    "port {name}: gateway {gateway} is {}",
                    off_link(port, gateway)
                );
                self.report("gateway", item, message);
            }
        }
    }

    fn routes(&mut self, port: &PortSpec) {
        let name = &port.name;
        let defaults = port.gateways.iter().map(|gateway| match gateway {
            IpAddr::V4(_) => IpNet::from(ipnet::Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::from(ipnet::Ipv6Net::default()),
        });
        let mut taken: HashSet<IpNet> = defaults.collect();
        for (item, route) in port.routes.iter().enumerate() {
            let to = route.to;
            let target = route.via.unwrap_or_else(|| to.addr());
            let has_family = port
                .addresses
                .iter()
                .any(|own| own.addr().is_ipv4() == target.is_ipv4());
            let problem = if !taken.insert(to.trunc()) {
                Some("is there twice; keep one of them".to_owned())
            } else if !has_family && !is_link_local(target) {
                let family = family(target);
                Some(format!(
                    "needs an {family} address on the port; add one to addresses"
                ))
            } else if route.via.is_some() && !on_link(port, target) {
                Some(format!(
                    "has the next hop {target}, which is {}",
                    off_link(port, target)
                ))
            } else {
                None
            };
            if let Some(problem) = problem {
                self.report("routes", item, format!("port {name}: route {to} {problem}"));
            }
        }
    }

    fn addresses(&mut self, ports: &[PortSpec]) {
        let mut owners = HashMap::new();
        for (index, port) in ports.iter().enumerate() {
            self.at(Section::Port, index);
            let name = &port.name;
            for (item, address) in port.addresses.iter().enumerate() {
                let ip = address.addr();
                if ip.is_multicast() || ip.is_unspecified() {
                    let message = format!("port {name}: address {ip} is not a host's address");
                    self.report("addresses", item, message);
                } else if let Some(owner) = owners.insert((&port.bridge, ip), name) {
                    let bridge = &port.bridge;
                    let message = format!(
                        "port {name}: address {ip} is already port {owner}'s on bridge {bridge}"
                    );
                    self.report("addresses", item, message);
                }
            }
        }
    }

    fn fdb(&mut self, spec: &SwitchSpec) {
        let bridge_of: HashMap<_, _> = spec
            .ports
            .iter()
            .map(|port| (&port.name, &port.bridge))
            .collect();
        let homes: HashMap<_, _> = spec
            .bridges
            .iter()
            .map(|bridge| (&bridge.name, bridge))
            .collect();
        let mut taken = HashSet::new();
        let mut remotes = HashMap::new();
        for (index, entry) in spec.fdb.iter().enumerate() {
            self.at(Section::Fdb, index);
            let StaticSpec {
                bridge,
                mac,
                vlan,
                place,
            } = entry;
            if let Some(problem) = no_station(*mac) {
                self.report("mac", 0, format!("static FDB entry: {problem}"));
            } else if !taken.insert((bridge, mac, vlan)) {
                let message = format!("static FDB entry {mac}: is there twice; keep one of them");
                self.report("mac", 0, message);
            }
            if *vlan > 4094 {
                let message =
                    format!("static FDB entry {mac}: vlan {vlan} is out of range 0..=4094");
                self.report("vlan", 0, message);
            }
            let port = match place {
                Place::Port(port) => port,
                Place::Peer(peer) => {
                    let home = homes.get(bridge).copied();
                    self.remote(entry, *peer, home, spec.vtep.as_ref(), &mut remotes);
                    continue;
                }
            };
            match bridge_of.get(port) {
                Some(found) if *found == bridge => {}
                Some(found) => {
                    let message = format!(
                        "static FDB entry {mac}: port {port} is on bridge {found}, not on {bridge}"
                    );
                    self.report("port", 0, message);
                }
                None => {
                    let message = format!(
                        "static FDB entry {mac}: there is no port {port} on bridge {bridge}"
                    );
                    self.report("port", 0, message);
                }
            }
        }
    }
}

fn plug(port: &PortSpec) -> (Option<PathBuf>, IfName) {
    let netns = port.netns.as_ref().map(|netns| netns.path());
    (netns, port.effective_ifname())
}

fn no_station(mac: MacAddr) -> Option<String> {
    if mac.is_group() {
        Some(format!(
            "mac {mac} is a group address; make the first octet even"
        ))
    } else if mac.is_zero() {
        Some(format!("mac {mac} is no address of a station"))
    } else {
        None
    }
}

fn on_link(port: &PortSpec, hop: IpAddr) -> bool {
    let direct = port
        .routes
        .iter()
        .filter(|route| route.via.is_none())
        .map(|route| route.to);
    is_link_local(hop)
        || port
            .addresses
            .iter()
            .copied()
            .chain(direct)
            .any(|network| network.contains(&hop))
}

fn off_link(port: &PortSpec, hop: IpAddr) -> String {
    let networks: Vec<String> = port
        .addresses
        .iter()
        .filter(|own| own.addr().is_ipv4() == hop.is_ipv4())
        .take(4)
        .map(|own| own.trunc().to_string())
        .collect();
    if networks.is_empty() {
        let family = family(hop);
        format!("of a family that the port has no address of; add an {family} address")
    } else {
        format!("not inside any of its networks ({})", networks.join(", "))
    }
}

fn is_link_local(address: IpAddr) -> bool {
    // Every IPv6 interface has an address in fe80::/64 without being given one.
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

// Next hops are looked up among all of them, so their number bounds what a hostile file costs.
const MAX_ADDRESSES: usize = 256;
const MAX_ROUTES: usize = 1024;
