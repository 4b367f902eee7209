//! What has to be done to make one switch equal to another.

use std::{collections::HashMap, fmt};

use super::{
    BridgeSpec, PeerAddr, PortSpec, StaticSpec, SwitchSpec, VtepSpec,
    units::format_duration,
    write::{flag_values, vtep_switches},
};
use crate::{names::Name, wire::Vni};

/// The steps from one switch to another, in an order in which they can be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, first one first.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Open, change or close the VXLAN endpoint.
    VtepSet {
        /// As it is.
        old: Option<VtepSpec>,
        /// As it shall be.
        new: Option<VtepSpec>,
    },
    /// Add a bridge.
    BridgeAdd(BridgeSpec),
    /// Change settings of a bridge, but for its peers.
    BridgeSet {
        /// As it is.
        old: BridgeSpec,
        /// As it shall be.
        new: BridgeSpec,
    },
    /// Add a VTEP to those that a bridge floods to.
    PeerAdd {
        /// The bridge.
        bridge: Name,
        /// The VTEP.
        peer: PeerAddr,
    },
    /// Take a VTEP off that list.
    PeerDel {
        /// The bridge.
        bridge: Name,
        /// The VTEP.
        peer: PeerAddr,
    },
    /// Delete a bridge, which has no ports by now.
    BridgeDel(Name),
    /// Plug a port in.
    PortAdd(PortSpec),
    /// Unplug a port and plug it in anew, since it moves to another namespace, interface name or
    /// engine.
    PortReplace {
        /// As it is.
        old: PortSpec,
        /// As it shall be.
        new: PortSpec,
    },
    /// Change a port where it is.
    PortSet {
        /// As it is.
        old: PortSpec,
        /// As it shall be.
        new: PortSpec,
    },
    /// Unplug a port.
    PortDel(Name),
    /// Add a static FDB entry.
    FdbAdd(StaticSpec),
    /// Delete a static FDB entry.
    FdbDel(StaticSpec),
}

/// The steps that turn `current` into `desired`; none if they are equal but for the order.
///
/// Deletions come first, so that a name, an interface, an address or a VNI is free before it is
/// taken; bridges come before the ports that move to them, and old bridges go when they are empty.
/// Replaced ports may take each other's interface: unplug all of them before the first is plugged
/// in again. The VXLAN endpoint is opened or changed before anything else, since nothing else is as
/// likely to fail, and closed at the end; if its address changes to the other family, peers of the
/// old one are there for some steps more.
pub fn plan(current: &SwitchSpec, desired: &SwitchSpec) -> Plan {
    let mut steps = Vec::new();
    if desired.vtep.is_some() && current.vtep != desired.vtep {
        steps.push(vtep_set(current, desired));
    }
    let current_ports = by_name(&current.ports, |port| &port.name);
    let desired_ports = by_name(&desired.ports, |port| &port.name);
    let mut current_bridges = by_name(&current.bridges, |bridge| &bridge.name);
    let desired_bridges = by_name(&desired.bridges, |bridge| &bridge.name);

    let obsolete = current.fdb.iter().filter(|old| !desired.fdb.contains(old));
    steps.extend(obsolete.cloned().map(Step::FdbDel));

    let gone = current.ports.iter().map(|port| &port.name);
    let gone = gone.filter(|name| !desired_ports.contains_key(name));
    steps.extend(gone.cloned().map(Step::PortDel));

    let released = releases(current, desired);
    for bare in &released {
        if let Some(old) = current_bridges.insert(&bare.name, bare) {
            change_bridge(old, bare, &mut steps);
        }
    }
    for new in &desired.bridges {
        match current_bridges.get(&new.name) {
            None => steps.push(Step::BridgeAdd(new.clone())),
            Some(old) => change_bridge(old, new, &mut steps),
        }
    }

    // Ports that give up an interface go before those that may want it.
    let (mut replaced, mut set, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for new in &desired.ports {
        let Some(&old) = current_ports.get(&new.name) else {
            added.push(Step::PortAdd(new.clone()));
            continue;
        };
        if old == new {
            continue;
        }
        let (old, new) = (old.clone(), new.clone());
        if needs_new_plug(&old, &new) {
            replaced.push(Step::PortReplace { old, new });
        } else {
            set.push(Step::PortSet { old, new });
        }
    }
    steps.append(&mut replaced);
    steps.append(&mut set);
    steps.append(&mut added);

    let gone = current.bridges.iter().map(|bridge| &bridge.name);
    let gone = gone.filter(|name| !desired_bridges.contains_key(name));
    steps.extend(gone.cloned().map(Step::BridgeDel));

    let wanted = desired.fdb.iter().filter(|new| !current.fdb.contains(new));
    steps.extend(wanted.cloned().map(Step::FdbAdd));
    if desired.vtep.is_none() && current.vtep.is_some() {
        steps.push(vtep_set(current, desired));
    }
    Plan { steps }
}

fn vtep_set(current: &SwitchSpec, desired: &SwitchSpec) -> Step {
    Step::VtepSet {
        old: current.vtep.clone(),
        new: desired.vtep.clone(),
    }
}

/// The bridges whose VNI another bridge takes over, without it.
fn releases(current: &SwitchSpec, desired: &SwitchSpec) -> Vec<BridgeSpec> {
    let wanted = desired.bridges.iter();
    let wanted = wanted.filter_map(|bridge| Some((bridge.vni?, &bridge.name)));
    let owners: HashMap<Vni, &Name> = wanted.collect();
    let handed_over = |bridge: &&BridgeSpec| {
        let owner = bridge.vni.and_then(|vni| owners.get(&vni));
        owner.is_some_and(|owner| **owner != bridge.name)
    };
    let bare = |bridge: &BridgeSpec| BridgeSpec {
        vni: None,
        peers: Vec::new(),
        ..bridge.clone()
    };
    current
        .bridges
        .iter()
        .filter(handed_over)
        .map(bare)
        .collect()
}

/// Peers come and go one by one, so that frames to the others are not disturbed.
fn change_bridge(old: &BridgeSpec, new: &BridgeSpec, steps: &mut Vec<Step>) {
    let bridge = &new.name;
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    for &peer in &old.peers {
        let list = match new.peers.contains(&peer) {
            true => &mut kept,
            false => &mut gone,
        };
        list.push(peer);
    }
    let step = |peer| Step::PeerDel {
        bridge: bridge.clone(),
        peer,
    };
    steps.extend(gone.into_iter().map(step));
    let with_kept = |spec: &BridgeSpec| BridgeSpec {
        peers: kept.clone(),
        ..spec.clone()
    };
    let (before, after) = (with_kept(old), with_kept(new));
    if before != after {
        steps.push(Step::BridgeSet {
            old: before,
            new: after,
        });
    }
    let added = new.peers.iter().filter(|peer| !old.peers.contains(peer));
    steps.extend(added.map(|&peer| Step::PeerAdd {
        bridge: bridge.clone(),
        peer,
    }));
}

/// Whether `old` has to be unplugged to become `new`.
pub fn needs_new_plug(old: &PortSpec, new: &PortSpec) -> bool {
    let plug = |port: &PortSpec| {
        let netns = port.netns.as_ref().map(|netns| netns.path());
        (netns, port.effective_ifname(), port.offload)
    };
    plug(old) != plug(new)
}

fn by_name<T>(items: &[T], name: impl Fn(&T) -> &Name) -> HashMap<&Name, &T> {
    items.iter().map(|item| (name(item), item)).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VtepSet { old, new } => match (old, new) {
                (None, None) => write!(f, "- vtep"),
                (None, Some(new)) => write!(f, "+ vtep {}", endpoint(new)),
                (Some(old), None) => write!(f, "- vtep {}", endpoint(old)),
                (Some(old), Some(new)) => write!(f, "~ vtep: {}", vtep_changes(old, new)),
            },
            Self::PeerAdd { bridge, peer } => write!(f, "+ peer {peer} on {bridge}"),
            Self::PeerDel { bridge, peer } => write!(f, "- peer {peer} on {bridge}"),
            Self::BridgeAdd(bridge) => {
                let vni = bridge.vni.map_or_else(String::new, |vni| {
                    format!(", vni {vni}, peers {}", list(&bridge.peers))
                });
                write!(f, "+ bridge {} (mtu {}{vni})", bridge.name, mtu(bridge.mtu))
            }
            Self::BridgeSet { old, new } => {
                write!(f, "~ bridge {}: {}", new.name, bridge_changes(old, new))
            }
            Self::BridgeDel(name) => write!(f, "- bridge {name}"),
            Self::PortAdd(port) => write!(f, "+ port {}", plugged(port)),
            Self::PortReplace { old: _, new } => {
                write!(f, "! port {} (plugged in anew)", plugged(new))
            }
            Self::PortSet { old, new } => {
                write!(f, "~ port {}: {}", new.name, port_changes(old, new))
            }
            Self::PortDel(name) => write!(f, "- port {name}"),
            Self::FdbAdd(entry) => write!(f, "+ fdb {}", static_entry(entry)),
            Self::FdbDel(entry) => write!(f, "- fdb {}", static_entry(entry)),
        }
    }
}

fn mtu(mtu: Option<u32>) -> String {
    mtu.map_or_else(|| "auto".to_owned(), |mtu| mtu.to_string())
}

fn endpoint(vtep: &VtepSpec) -> String {
    match &vtep.netns {
        Some(netns) => format!("{} in netns {netns}", vtep.address()),
        None => vtep.address().to_string(),
    }
}

fn plugged(port: &PortSpec) -> String {
    let netns = match &port.netns {
        Some(netns) => format!("in netns {netns}"),
        None => "on the host".to_owned(),
    };
    let mut words = vec![port.effective_ifname().to_string()];
    words.extend(port.addresses.iter().map(ToString::to_string));
    let words = words.join(" ");
    format!("{} on {} {netns} ({words})", port.name, port.bridge)
}

fn static_entry(entry: &StaticSpec) -> String {
    let vlan = match entry.vlan {
        0 => String::new(),
        vlan => format!(" vlan {vlan}"),
    };
    format!("{}{vlan} {} on {}", entry.mac, entry.place, entry.bridge)
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() {
        return "none".to_owned();
    }
    items.join(" ")
}

fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

/// The name of a variant without fields, as it is written in the file.
fn word<T: fmt::Debug>(choice: T) -> String {
    format!("{choice:?}").to_lowercase()
}

/// Collects `setting old -> new` for what differs.
#[derive(Default)]
struct Changes(Vec<String>);

impl Changes {
    fn add<T: PartialEq>(&mut self, setting: &str, old: T, new: T, show: impl Fn(T) -> String) {
        if old != new {
            let change = format!("{setting} {} -> {}", show(old), show(new));
            self.0.push(change);
        }
    }
}

fn vtep_changes(old: &VtepSpec, new: &VtepSpec) -> String {
    let mut changes = Changes::default();
    changes.add("local", old.local, new.local, |ip| ip.to_string());
    changes.add("port", old.port, new.port, |port| port.to_string());
    changes.add("netns", &old.netns, &new.netns, |netns| match netns {
        Some(netns) => netns.to_string(),
        None => "the daemon's".to_owned(),
    });
    changes.add("accept", old.accept, new.accept, word);
    changes.add("ttl", old.ttl, new.ttl, |ttl| ttl.to_string());
    changes.add("tos", old.tos, new.tos, |tos| tos.to_string());
    changes.add("offload", old.offload, new.offload, word);
    let switches = vtep_switches(old).into_iter().zip(vtep_switches(new));
    for ((switch, old), (_, new)) in switches {
        changes.add(switch, old, new, on_off);
    }
    changes.0.join(", ")
}

fn bridge_changes(old: &BridgeSpec, new: &BridgeSpec) -> String {
    let mut changes = Changes::default();
    let number = |number: u32| number.to_string();
    changes.add("mode", old.mode, new.mode, word);
    changes.add("vni", old.vni, new.vni, |vni| {
        vni.map_or_else(|| "none".to_owned(), |vni| vni.to_string())
    });
    let learning = (old.peer_learning, new.peer_learning);
    changes.add("peer_learning", learning.0, learning.1, on_off);
    changes.add("mtu", old.mtu, new.mtu, mtu);
    changes.add("ageing", old.ageing, new.ageing, format_duration);
    changes.add("fdb_limit", old.fdb_limit, new.fdb_limit, number);
    changes.add("at_limit", old.at_limit, new.at_limit, word);
    let reserved = (old.forward_reserved, new.forward_reserved);
    changes.add("forward_reserved", reserved.0, reserved.1, |mask| {
        mask.to_string()
    });
    let flaps = (u32::from(old.flap_limit), u32::from(new.flap_limit));
    changes.add("flap_limit", flaps.0, flaps.1, number);
    changes.0.join(", ")
}

fn port_changes(old: &PortSpec, new: &PortSpec) -> String {
    let mut changes = Changes::default();
    changes.add("bridge", &old.bridge, &new.bridge, ToString::to_string);
    changes.add("addresses", &old.addresses, &new.addresses, |all| list(all));
    changes.add("gateway", &old.gateways, &new.gateways, |all| list(all));
    changes.add("routes", &old.routes, &new.routes, |all| list(all));
    changes.add("mac", old.mac, new.mac, |mac| {
        mac.map_or_else(|| "derived".to_owned(), |mac| mac.to_string())
    });
    let bridges =
        |mtu: Option<u32>| mtu.map_or_else(|| "the bridge's".to_owned(), |mtu| mtu.to_string());
    changes.add("mtu", old.mtu, new.mtu, bridges);
    changes.add("txqueuelen", old.txqueuelen, new.txqueuelen, |length| {
        length.to_string()
    });
    let flags = flag_values(&old.flags)
        .into_iter()
        .zip(flag_values(&new.flags));
    for ((flag, old), (_, new)) in flags {
        changes.add(flag, old, new, on_off);
    }
    if changes.0.is_empty() {
        // For example a default that is now written down.
        return "no change in effect".to_owned();
    }
    changes.0.join(", ")
}

#[cfg(test)]
mod tests;
