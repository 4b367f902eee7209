use proptest::prelude::*;

use super::*;
use crate::config::{Place, arbitrary::switch, parse};

/// Carries `step` out on a model of a switch and insists on what a real one insists on.
fn carry_out(switch: &mut SwitchSpec, step: Step) {
    let is_bridge =
        |switch: &SwitchSpec, name: &Name| switch.bridges.iter().any(|bridge| bridge.name == *name);
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
        Step::PeerAdd { bridge, peer } => {
            let bridge = bridge_mut(switch, &bridge);
            assert!(bridge.vni.is_some() && !bridge.peers.contains(&peer));
            bridge.peers.push(peer);
        }
        Step::PeerDel { bridge, peer } => {
            let bridge = bridge_mut(switch, &bridge);
            let index = bridge.peers.iter().position(|other| *other == peer);
            bridge.peers.remove(index.unwrap());
        }
        Step::BridgeAdd(bridge) => {
            assert!(!is_bridge(switch, &bridge.name));
            switch.bridges.push(bridge);
        }
        Step::BridgeSet { old, new } => {
            assert_eq!(old.peers, new.peers);
            let slot = bridge_mut(switch, &old.name);
            assert_eq!(*slot, old);
            *slot = new;
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
            let is_there = match &entry.place {
                Place::Port(name) => switch.ports.iter().any(|port| port.name == *name),
                Place::Peer(_) => bridge_mut(switch, &entry.bridge).vni.is_some(),
            };
            assert!(is_there);
            switch.fdb.push(entry);
        }
        Step::FdbDel(entry) => switch.fdb.retain(|other| *other != entry),
    }
}

fn bridge_mut<'a>(switch: &'a mut SwitchSpec, name: &Name) -> &'a mut BridgeSpec {
    let mut bridges = switch.bridges.iter_mut();
    bridges.find(|bridge| bridge.name == *name).unwrap()
}

/// What holds also between two steps.
fn assert_sound(switch: &SwitchSpec) {
    let vnis: Vec<Vni> = switch.bridges.iter().filter_map(|b| b.vni).collect();
    let distinct: std::collections::HashSet<_> = vnis.iter().collect();
    assert_eq!(distinct.len(), vnis.len(), "two bridges have one VNI");
    assert!(vnis.is_empty() || switch.vtep.is_some());
    for bridge in &switch.bridges {
        assert!(bridge.peers.is_empty() || bridge.vni.is_some());
    }
}

fn sorted(mut switch: SwitchSpec) -> SwitchSpec {
    for bridge in &mut switch.bridges {
        bridge.peers.sort_unstable();
    }
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
            assert_sound(&model);
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

#[test]
fn an_overlay_changes_peer_by_peer() {
    let current = parse(
        r#"
vtep = { local = "192.0.2.10" }
[[bridge]]
name = "br0"
vni = 42
peers = ["192.0.2.20", "192.0.2.30", "192.0.2.40"]
"#,
    )
    .unwrap();
    let only_peers = parse(
        r#"
vtep = { local = "192.0.2.10" }
[[bridge]]
name = "br0"
vni = 42
peers = ["192.0.2.50:8472", "192.0.2.40", "192.0.2.20"]
"#,
    )
    .unwrap();
    let all = parse(
        r#"
vtep = { local = "192.0.2.11", netns = "nodeA", tos = 184, udpcsum = false }
[[bridge]]
name = "br0"
vni = 43
peer_learning = false
peers = ["192.0.2.20"]
fdb = [{ mac = "02:00:00:00:00:01", remote = "192.0.2.30" }]
[[bridge]]
name = "br1"
vni = 42
peers = ["192.0.2.20"]
"#,
    )
    .unwrap();
    let nothing = SwitchSpec::default();

    assert_eq!(
        plan(&current, &only_peers).to_string(),
        "- peer 192.0.2.30 on br0\n+ peer 192.0.2.50:8472 on br0\n"
    );
    assert_eq!(
        plan(&current, &all).to_string(),
        "~ vtep: local 192.0.2.10 -> 192.0.2.11, netns the daemon's -> nodeA, tos 0 -> 184, udpcsum on -> off
- peer 192.0.2.20 on br0
- peer 192.0.2.30 on br0
- peer 192.0.2.40 on br0
~ bridge br0: vni 42 -> none
~ bridge br0: vni none -> 43, peer_learning on -> off
+ peer 192.0.2.20 on br0
+ bridge br1 (mtu auto, vni 42, peers 192.0.2.20)
+ fdb 02:00:00:00:00:01 remote 192.0.2.30 on br0
"
    );
    assert_eq!(
        plan(&nothing, &current).to_string(),
        "+ vtep 192.0.2.10:4789
+ bridge br0 (mtu auto, vni 42, peers 192.0.2.20 192.0.2.30 192.0.2.40)
"
    );
    assert_eq!(
        plan(&all, &nothing).to_string(),
        "- fdb 02:00:00:00:00:01 remote 192.0.2.30 on br0
- bridge br0
- bridge br1
- vtep 192.0.2.11:4789 in netns nodeA
"
    );
}
