//! The pod network: its routes, a second interface, and both IP versions.

use crate::{
    Test,
    lab::{Lab, squeeze},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "a_pod_has_the_three_routes_that_the_tutorial_prints",
        three_routes,
    ),
    (
        &[],
        "a_second_interface_joins_a_pod_to_another_bridge_and_nothing_leaks",
        second_interface,
    ),
    (
        &["sysctl"],
        "a_dual_stack_pod_is_reached_with_both_versions_of_ip",
        dual_stack,
    ),
    (
        &["sysctl"],
        "the_route_of_a_port_follows_what_port_set_says",
        addresses_change,
    ),
];

const CNI: &str = "
    ip netns add pod
    tapswitch bridge add cni --mtu 1450
    tapswitch port add cni0 --bridge cni --address 10.244.1.1/24 --address fd00:10:244:1::1/64
    tapswitch port add pod --bridge cni --netns pod --address 10.244.1.5/24 \
        --address fd00:10:244:1::5/64 --gateway 10.244.1.1 --gateway fd00:10:244:1::1 \
        --route '10.244.0.0/16,via 10.244.1.1'";

fn three_routes() {
    let lab = Lab::new();
    lab.sh(CNI);
    let pod = lab.sh("ip netns exec pod ip addr show eth0");
    assert!(
        pod.contains("inet 10.244.1.5/24 brd 10.244.1.255 scope global eth0"),
        "{pod}"
    );
    assert!(pod.contains("mtu 1450"), "{pod}");
    let routes = squeeze(&lab.sh("ip netns exec pod ip route"));
    for route in [
        "default via 10.244.1.1 dev eth0",
        "10.244.0.0/16 via 10.244.1.1 dev eth0",
        "10.244.1.0/24 dev eth0 proto kernel scope link src 10.244.1.5",
    ] {
        assert!(routes.contains(route), "{route} is not in {routes}");
    }
    // A pod elsewhere is reached by the gateway, one next door is not.
    assert!(
        lab.sh("ip -n pod route get 10.244.2.7")
            .contains("via 10.244.1.1")
    );
    assert!(!lab.sh("ip -n pod route get 10.244.1.7").contains("via"));
    lab.ping("pod", "10.244.1.1");
}

fn second_interface() {
    let lab = Lab::new();
    lab.sh(CNI);
    lab.sh("
        ip netns add outside
        tapswitch bridge add external
        tapswitch port add pod-net1 --bridge external --netns pod --ifname net1 \
            --address 192.168.1.200/24
        tapswitch port add outside --bridge external --netns outside --address 192.168.1.1/24");
    lab.ping("pod", "192.168.1.1");
    lab.ping("pod", "10.244.1.1");
    let links = lab.sh("ip -n pod -br addr");
    assert!(links.contains("eth0") && links.contains("net1"), "{links}");
    assert!(
        lab.sh("ip -n pod route get 192.168.1.1")
            .contains("dev net1")
    );

    // Two bridges are two networks, also for an address that both could carry.
    lab.sh("ip -n outside addr add 10.244.1.9/24 dev eth0");
    assert!(!lab.works("ping -c 1 -W 0.5 10.244.1.9"));
    let on = |bridge: &str| lab.json(&format!("fdb show --bridge {bridge}"));
    let (cni, external) = (on("cni"), on("external"));
    let macs = |entries: &serde_json::Value| -> Vec<String> {
        let entries = entries.as_array().unwrap();
        entries
            .iter()
            .map(|entry| entry["mac"].to_string())
            .collect()
    };
    assert!(macs(&cni).iter().all(|mac| !macs(&external).contains(mac)));

    let taken = lab.refused("tapswitch port add more --bridge cni --netns pod --ifname net1");
    assert!(
        taken.stderr.contains("belongs to port pod-net1"),
        "{taken:?}"
    );
}

fn dual_stack() {
    let lab = Lab::new();
    lab.sh(CNI);
    lab.sh("
        ip netns add pod2
        tapswitch port add pod2 --bridge cni --netns pod2 --address 10.244.1.6/24 \
            --address fd00:10:244:1::6/64");
    for address in [
        "10.244.1.6",
        "fd00:10:244:1::6",
        "10.244.1.1",
        "fd00:10:244:1::1",
    ] {
        lab.ping("pod", address);
    }
    let addresses = lab.port("pod")["addresses"].to_string();
    assert_eq!(addresses, r#"["10.244.1.5/24","fd00:10:244:1::5/64"]"#);
    let routes = lab.sh("ip -n pod -6 route");
    assert!(
        routes.contains("default via fd00:10:244:1::1 dev eth0"),
        "{routes}"
    );
}

fn addresses_change() {
    let lab = Lab::new();
    lab.sh(CNI);
    lab.sh("
        tapswitch port set pod --address 10.244.1.77/24 --gateway 10.244.1.1 \
            --route '10.96.0.0/12,via 10.244.1.1'");
    let addresses = lab.sh("ip -n pod addr show eth0");
    assert!(addresses.contains("10.244.1.77/24"), "{addresses}");
    assert!(!addresses.contains("10.244.1.5/24"), "{addresses}");
    let routes = squeeze(&lab.sh("ip -n pod route"));
    for route in ["default via 10.244.1.1", "10.96.0.0/12 via 10.244.1.1"] {
        assert!(routes.contains(route), "{route} is not in {routes}");
    }
    assert!(!routes.contains("10.244.0.0/16"), "{routes}");
    lab.ping("pod", "10.244.1.1");

    // What was not named stays; what makes no sense changes nothing.
    lab.sh("tapswitch port set pod --route 10.97.0.0/16");
    assert_eq!(
        lab.port("pod")["addresses"].to_string(),
        r#"["10.244.1.77/24"]"#
    );
    let lost = lab.refused("tapswitch port set pod --gateway fd00:10:244:1::1");
    assert!(lost.stderr.contains("gateway"), "{lost:?}");
    let routes = lab.sh("ip -n pod route");
    assert!(
        routes.contains("10.97.0.0/16") && routes.contains("default via"),
        "{routes}"
    );
}
