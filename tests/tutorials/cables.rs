//! Namespaces, the cable between two of them, and the bridge that replaces the cables.

use crate::{
    Test,
    lab::{Lab, squeeze},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "a_new_namespace_has_nothing_but_a_sleeping_loopback_and_a_port_wakes_it",
        loopback,
    ),
    (&[], "a_wire_is_the_cable_between_two_namespaces", cable),
    (
        &[],
        "four_namespaces_need_four_ports_and_no_six_cables",
        one_port_each,
    ),
    (
        &[],
        "three_namespaces_on_a_bridge_with_a_gateway_reach_each_other",
        bridge_with_gateway,
    ),
    (
        &[],
        "the_first_ping_floods_once_and_the_rest_goes_to_its_port",
        first_ping,
    ),
    (
        &[],
        "a_bridge_becomes_a_hub_and_a_wire_while_it_runs",
        modes,
    ),
];

/// What the tutorial builds with `ip link add ... type veth` and `master br0`.
pub(crate) const BR0: &str = "
    tapswitch bridge add br0
    tapswitch port add br0 --bridge br0 --address 10.1.1.1/24
    for ns in nsA:10 nsB:20 nsC:30; do
        ip netns add ${ns%:*}
        tapswitch port add ${ns%:*} --bridge br0 --netns ${ns%:*} \
            --address 10.1.1.${ns#*:}/24 --gateway 10.1.1.1
    done";

fn loopback() {
    let lab = Lab::new();
    lab.sh("ip netns add ns1; ip netns add ns2");
    let list = lab.sh("ip netns list");
    assert!(list.contains("ns1") && list.contains("ns2"), "{list}");
    let inside = lab.sh("ip netns exec ns1 ip addr");
    assert!(inside.contains("state DOWN"), "{inside}");
    assert_eq!(lab.sh("ip -n ns1 -o link").lines().count(), 1, "{inside}");
    assert!(!lab.works("ip netns exec ns1 ping -c 1 -W 1 127.0.0.1"));

    lab.sh("tapswitch bridge add br0; tapswitch port add p1 --bridge br0 --netns ns1");
    lab.ping("ns1", "127.0.0.1");
    lab.sh("ip netns exec ns2 ip link set lo up");
    lab.ping("ns2", "127.0.0.1");
}

fn cable() {
    let lab = Lab::new();
    lab.sh("
        ip netns add ns1
        ip netns add ns2
        tapswitch bridge add cable --mode wire
        tapswitch port add veth-a --bridge cable --netns ns1 --ifname veth-a --address 10.1.1.1/24
        tapswitch port add veth-b --bridge cable --netns ns2 --ifname veth-b --address 10.1.1.2/24
        ip netns exec ns1 ping -c 2 -i 0.05 -W 2 10.1.1.2
        ip netns exec ns2 ping -c 2 -i 0.05 -W 2 10.1.1.1");

    // The ends are where they belong from the start; a veth pair appears here first.
    assert!(!lab.works("ip link show veth-a") && !lab.works("ip link show veth-b"));
    assert!(lab.sh("ip -n ns1 link show veth-a").contains("LOWER_UP"));
    assert_eq!(lab.json("fdb show").as_array().unwrap().len(), 0);
}

fn one_port_each() {
    let lab = Lab::new();
    lab.sh("
        tapswitch bridge add cable --mode wire
        tapswitch bridge add br0
        for n in 1 2 3 4; do
            ip netns add ns$n
            tapswitch port add p$n --bridge br0 --netns ns$n --address 10.1.1.$n/24
        done
        for n in 1 2; do tapswitch port add w$n --bridge cable --netns ns$n --ifname veth-a; done");
    let third = lab.refused("tapswitch port add w3 --bridge cable --netns ns3 --ifname veth-a");
    assert_eq!(third.code, 1);
    assert!(third.stderr.contains("exactly two ports"), "{third:?}");
    assert!(!lab.sh("ip -n ns3 -o link").contains("veth-a"));

    for from in 1..=4 {
        for to in (1..=4).filter(|&to| to != from) {
            assert!(lab.reaches(&format!("ns{from}"), &format!("10.1.1.{to}")));
        }
    }
}

fn bridge_with_gateway() {
    let lab = Lab::new();
    lab.sh(BR0);
    lab.sh("
        ip netns exec nsA ping -c 1 10.1.1.20
        ip netns exec nsB ping -c 1 10.1.1.30
        ip netns exec nsC ping -c 1 10.1.1.10
        ip netns exec nsA ping -c 1 10.1.1.1
        ping -c 1 10.1.1.10");
    let routes = squeeze(&lab.sh("ip -n nsB route"));
    assert!(routes.contains("default via 10.1.1.1 dev eth0"), "{routes}");
    assert!(lab.sh("ip -br addr show br0").contains("10.1.1.1/24"));

    // What `bridge link show` lists.
    let ports = lab.sh("tapswitch port show");
    for port in ["br0", "nsA", "nsB", "nsC"] {
        assert!(ports.contains(&format!("{port}: up on br0")), "{ports}");
    }
    // What `bridge fdb show br br0` lists, with the interfaces' own addresses.
    for (netns, port) in [("-n nsA", "nsA"), ("-n nsC", "nsC"), ("", "br0")] {
        let device = if netns.is_empty() { "br0" } else { "eth0" };
        let link = lab.sh(&format!("ip {netns} -o link show {device}"));
        let macs = lab.macs(port);
        assert_eq!(macs.len(), 1, "{macs:?}");
        assert!(link.contains(&macs[0]), "{link} has not {macs:?}");
        let state = if port == "br0" { "local" } else { "learned" };
        let line = squeeze(&lab.sh(&format!("tapswitch fdb show --br br0 --dev {port}")));
        assert!(
            line.contains(&format!("br0 {} - {port} {state}", macs[0])),
            "{line}"
        );
    }
}

fn first_ping() {
    let lab = Lab::new();
    lab.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    let quiet = BR0.replace(
        "tapswitch port add ${ns",
        "ip netns exec ${ns%:*} sysctl -qw net.ipv6.conf.default.disable_ipv6=1
        tapswitch port add ${ns",
    );
    lab.sh(&quiet);
    assert_eq!(lab.macs("nsA"), Vec::<String>::new(), "nobody has spoken");

    lab.sh("ip netns exec nsA ping -c 3 -i 0.05 10.1.1.20");

    // The question went to everybody else, all that followed to the one port.
    let copies: Vec<u64> = ["br0", "nsC"].map(|port| lab.frames(port, "tx")).into();
    assert_eq!(copies, [1, 1]);
    assert_eq!([lab.frames("nsA", "rx"), lab.frames("nsA", "tx")], [4, 4]);
    assert_eq!([lab.frames("nsB", "rx"), lab.frames("nsB", "tx")], [4, 4]);
    let mac = lab.macs("nsB").remove(0);
    let found = lab.sh(&format!("tapswitch fdb get {mac}"));
    assert!(found.contains("nsB"), "{found}");

    lab.sh("tapswitch fdb flush");
    assert!(lab.macs("nsB").is_empty() && lab.macs("br0").len() == 1);
    lab.ping("nsA", "10.1.1.20");
    assert_eq!(lab.macs("nsB"), [mac]);
}

fn modes() {
    let lab = Lab::new();
    lab.sh(BR0);
    lab.ping("nsA", "10.1.1.20");
    let wire = lab.refused("tapswitch bridge set br0 --mode wire");
    assert!(
        wire.stderr.contains("a wire joins two ports, found 4"),
        "{wire:?}"
    );

    lab.sh("tapswitch bridge set br0 --mode hub");
    let before = lab.frames("nsC", "tx");
    lab.sh("ip netns exec nsA ping -c 5 -i 0.05 -W 2 10.1.1.20");
    let repeated = lab.frames("nsC", "tx") - before;
    assert!(repeated >= 10, "a hub repeats: {repeated}");
    assert!(lab.macs("nsA").is_empty(), "a hub learns nothing");
    assert!(lab.sh("tapswitch show").contains("bridge br0: hub"));

    lab.sh("
        tapswitch port del nsC
        tapswitch port del br0
        tapswitch bridge set br0 --mode wire");
    lab.ping("nsA", "10.1.1.20");
    lab.sh("tapswitch bridge set br0 --mode switch");
    lab.ping("nsA", "10.1.1.20");
    assert_eq!(lab.macs("nsA").len(), 1);
}
