//! What has to be done to make one switch equal to another.

use std::{collections::HashMap, fmt};

use super::{
    BridgeSpec, PeerAddr, PortSpec, StaticSpec, SwitchSpec, VtepSpec, units::format_duration,
    write::flag_values,
};
use crate::names::Name;

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
    /// Change settings of a bridge.
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
/// Deletions come first, so that a name, an interface or an address is free before it is taken;
/// bridges come before the ports that move to them, and old bridges go when they are empty.
/// Replaced ports may take each other's interface: unplug all of them before the first is plugged
/// in again.
pub fn plan(current: &SwitchSpec, desired: &SwitchSpec) -> Plan {
    let mut steps = Vec::new();
    let current_ports = by_name(&current.ports, |port| &port.name);
    let desired_ports = by_name(&desired.ports, |port| &port.name);
    let current_bridges = by_name(&current.bridges, |bridge| &bridge.name);
    let desired_bridges = by_name(&desired.bridges, |bridge| &bridge.name);

    let obsolete = current.fdb.iter().filter(|old| !desired.fdb.contains(old));
    steps.extend(obsolete.cloned().map(Step::FdbDel));

    let gone = current.ports.iter().map(|port| &port.name);
    let gone = gone.filter(|name| !desired_ports.contains_key(name));
    steps.extend(gone.cloned().map(Step::PortDel));

    for new in &desired.bridges {
        match current_bridges.get(&new.name) {
            None => steps.push(Step::BridgeAdd(new.clone())),
            Some(&old) if old != new => steps.push(Step::BridgeSet {
                old: old.clone(),
                new: new.clone(),
            }),
            Some(_) => {}
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
    Plan { steps }
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
            Self::VtepSet { .. } => write!(f, "~ vtep"),
            Self::PeerAdd { bridge, peer } => write!(f, "+ peer {peer} on {bridge}"),
            Self::PeerDel { bridge, peer } => write!(f, "- peer {peer} on {bridge}"),
            Self::BridgeAdd(bridge) => {
                write!(f, "+ bridge {} (mtu {})", bridge.name, mtu(bridge.mtu))
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

fn bridge_changes(old: &BridgeSpec, new: &BridgeSpec) -> String {
    let mut changes = Changes::default();
    let number = |number: u32| number.to_string();
    let lower = |word: String| word.to_lowercase();
    changes.add("mode", old.mode, new.mode, |mode| {
        lower(format!("{mode:?}"))
    });
    changes.add("mtu", old.mtu, new.mtu, mtu);
    changes.add("ageing", old.ageing, new.ageing, format_duration);
    changes.add("fdb_limit", old.fdb_limit, new.fdb_limit, number);
    changes.add("at_limit", old.at_limit, new.at_limit, |choice| {
        lower(format!("{choice:?}"))
    });
    let reserved = (old.forward_reserved, new.forward_reserved);
    changes.add("forward_reserved", reserved.0, reserved.1, |mask| {
        mask.to_string()
    });
    let flaps = (u32::from(old.flap_limit), u32::from(new.flap_limit));
    changes.add("flap_limit", flaps.0, flaps.1, number);
    changes.0.join(", ")
}

fn port_changes(old: &PortSpec, new: &PortSpec) -> String {
    fn list<T: ToString>(items: &[T]) -> String {
        let items: Vec<String> = items.iter().map(ToString::to_string).collect();
        if items.is_empty() {
            return "none".to_owned();
        }
        items.join(" ")
    }
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
        changes.add(flag, old, new, |on| {
            if on { "on" } else { "off" }.to_owned()
        });
    }
    if changes.0.is_empty() {
        // For example a default that is now written down.
        return "no change in effect".to_owned();
    }
    changes.0.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{arbitrary::switch, parse};

    /// Carries `step` out on a model of a switch and insists on what a real one insists on.
    fn carry_out(switch: &mut SwitchSpec, step: Step) {
        let is_bridge = |switch: &SwitchSpec, name: &Name| {
            switch.bridges.iter().any(|bridge| bridge.name == *name)
        };
        let replace_port = |switch: &mut SwitchSpec, old: PortSpec, new: PortSpec| {
            assert!(is_bridge(switch, &new.bridge));
            let slot = switch.ports.iter_mut().find(|port| **port == old).unwrap();
            *slot = new;
        };
        match step {
            Step::VtepSet { old, new } => {
                assert_eq!(switch.vtep, old);
                switch.vtep = new;
            }
            Step::PeerAdd { .. } | Step::PeerDel { .. } => unreachable!(),
            Step::BridgeAdd(bridge) => {
                assert!(!is_bridge(switch, &bridge.name));
                switch.bridges.push(bridge);
            }
            Step::BridgeSet { old, new } => {
                let slot = switch.bridges.iter_mut().find(|bridge| **bridge == old);
                *slot.unwrap() = new;
            }
            Step::BridgeDel(name) => {
                assert!(switch.ports.iter().all(|port| port.bridge != name));
                switch.bridges.retain(|bridge| bridge.name != name);
            }
            Step::PortAdd(port) => {
                assert!(is_bridge(switch, &port.bridge));
                assert!(switch.ports.iter().all(|other| other.name != port.name));
                switch.ports.push(port);
            }
            Step::PortReplace { old, new } => {
                assert!(needs_new_plug(&old, &new));
                replace_port(switch, old, new);
            }
            Step::PortSet { old, new } => {
                assert!(!needs_new_plug(&old, &new));
                replace_port(switch, old, new);
            }
            Step::PortDel(name) => switch.ports.retain(|port| port.name != name),
            Step::FdbAdd(entry) => {
                assert!(
                    switch
                        .ports
                        .iter()
                        .any(|port| Some(&port.name) == entry.place.port())
                );
                switch.fdb.push(entry);
            }
            Step::FdbDel(entry) => switch.fdb.retain(|other| *other != entry),
        }
    }

    fn sorted(mut switch: SwitchSpec) -> SwitchSpec {
        switch.bridges.sort_by(|a, b| a.name.cmp(&b.name));
        switch.ports.sort_by(|a, b| a.name.cmp(&b.name));
        switch.fdb.sort_by(|a, b| {
            (&a.bridge, a.mac, a.vlan, &a.place).cmp(&(&b.bridge, b.mac, b.vlan, &b.place))
        });
        switch
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_steps_turn_any_switch_into_any_other(current in switch(), desired in switch()) {
            let mut model = current.clone();
            for step in plan(&current, &desired).steps {
                prop_assert!(!step.to_string().is_empty());
                carry_out(&mut model, step);
            }
            prop_assert_eq!(sorted(model.clone()), sorted(desired.clone()));
            prop_assert!(plan(&model, &desired).is_empty());
        }
    }

    #[test]
    fn steps_read_like_a_difference() {
        let current = parse(
            r#"
[[bridge]]
name = "br0"
port = [{ name = "a", netns = "nsA", mtu = 1500 }, { name = "b", netns = "nsB" }]
[[bridge]]
name = "br1"
"#,
        )
        .unwrap();
        let desired = parse(
            r#"
[[bridge]]
name = "br0"
ageing = "1m"
fdb = [{ mac = "02:00:00:00:00:01", port = "c" }]
port = [
  { name = "a", netns = "nsA", mtu = 1400, learning = false },
  { name = "b", netns = "nsC" },
  { name = "c", addresses = ["192.0.2.1/24"] },
]
"#,
        )
        .unwrap();

        let text = plan(&current, &desired).to_string();

        assert_eq!(
            text,
            "~ bridge br0: ageing 300s -> 60s
! port b on br0 in netns nsC (eth0) (plugged in anew)
~ port a: mtu 1500 -> 1400, learning on -> off
+ port c on br0 on the host (c 192.0.2.1/24)
- bridge br1
+ fdb 02:00:00:00:00:01 port c on br0
"
        );
    }
}
