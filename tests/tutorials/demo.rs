//! The demo with a gateway on the host: the way out to the internet, and the teardown.

use crate::{
    Test,
    lab::{Lab, squeeze},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "the_complete_script_runs_with_two_pods_and_the_host_as_gateway",
        complete_script,
    ),
    (
        &["iptables", "sysctl"],
        "pods_reach_the_internet_with_the_two_unchanged_lines_of_the_tutorial",
        internet,
    ),
    (
        &[],
        "the_teardown_of_the_tutorial_works_and_is_told",
        teardown,
    ),
    (
        &[],
        "whoever_ends_the_daemon_needs_no_teardown_of_devices",
        end_of_daemon,
    ),
];

const DEMO: &str = "
    ip netns add nsA
    ip netns add nsB
    tapswitch bridge add demo
    tapswitch port add br-demo --bridge demo --address 10.99.0.1/24
    tapswitch port add podA --bridge demo --netns nsA --address 10.99.0.10/24 --gateway 10.99.0.1
    tapswitch port add podB --bridge demo --netns nsB --address 10.99.0.20/24 --gateway 10.99.0.1";

fn complete_script() {
    let lab = Lab::new();
    lab.sh(DEMO);
    lab.sh("
        ip netns exec nsA ping -c 2 -i 0.05 10.99.0.20
        ip netns exec nsB ping -c 2 -i 0.05 10.99.0.10
        ip netns exec nsA ping -c 2 -i 0.05 10.99.0.1
        ping -c 2 -i 0.05 10.99.0.20");
    let routes = squeeze(&lab.sh("ip -n nsA route"));
    assert!(
        routes.contains("default via 10.99.0.1 dev eth0"),
        "{routes}"
    );
}

fn internet() {
    let lab = Lab::new();
    lab.sh(DEMO);
    // The provider: it knows the host's outer address, and nothing about 10.99.0.0/24.
    lab.sh("
        ip netns add internet
        ip link add wan type veth peer name eth0 netns internet
        ip addr add 203.0.113.6/24 dev wan
        ip link set wan up
        ip -n internet addr add 203.0.113.1/24 dev eth0
        ip -n internet addr add 8.8.8.8/32 dev lo
        ip -n internet link set lo up
        ip -n internet link set eth0 up
        ip route add default via 203.0.113.1
        ping -c 1 -W 5 8.8.8.8");
    assert!(!lab.reaches("nsA", "8.8.8.8"), "not without the two lines");

    lab.sh("
        sysctl -w net.ipv4.ip_forward=1
        iptables -t nat -A POSTROUTING -s 10.99.0.0/24 ! -o br-demo -j MASQUERADE");
    lab.ping("nsA", "8.8.8.8");
    lab.ping("nsB", "8.8.8.8");
    lab.ping("nsA", "10.99.0.20");

    lab.serve("internet", "8.8.8.8:80", "from outside");
    assert_eq!(lab.fetch("nsA", "8.8.8.8:80"), "from outside");
}

fn teardown() {
    let lab = Lab::new();
    lab.sh(DEMO);
    lab.ping("nsA", "10.99.0.20");
    let monitor = lab.monitor();

    lab.sh("
        ip netns del nsA
        ip netns del nsB
        ip link del br-demo");
    // In whichever order: dismantling a namespace takes the kernel its time.
    let mut left = vec!["podA", "podB", "br-demo"];
    while !left.is_empty() {
        let event = monitor.wait_for("a port is gone", |event| event["change"] == "gone");
        assert_eq!(event["state"], "gone");
        left.retain(|port| event["port"] != *port);
    }
    for (port, words) in [
        ("podA", "netns nsA is gone"),
        ("podB", "netns nsB is gone"),
        ("br-demo", "its interface was deleted"),
    ] {
        let port = lab.port(port);
        assert_eq!(port["state"], "gone");
        assert_eq!(port["reason"], words);
    }
    assert_eq!(lab.json("fdb show"), serde_json::json!([]));
    let nowhere = lab.refused("tapswitch port set podA up --mtu 1300");
    assert!(nowhere.stderr.contains("ip netns add nsA"), "{nowhere:?}");
    assert_eq!(lab.port("podA")["mtu"], 1500, "what fails changes nothing");
    assert_eq!(lab.sh("ip -o link show").lines().count(), 1, "only lo");

    // Nothing is in the way of the next run.
    lab.sh(
        "for port in podA podB br-demo; do tapswitch port del $port; done
        tapswitch bridge del demo",
    );
    lab.sh(DEMO);
    lab.ping("nsA", "10.99.0.20");
}

fn end_of_daemon() {
    let mut lab = Lab::new();
    lab.sh(DEMO);
    lab.ping("nsA", "10.99.0.20");
    lab.stop();
    for netns in ["nsA", "nsB"] {
        assert_eq!(lab.sh(&format!("ip -n {netns} -o link")).lines().count(), 1);
    }
    lab.sh("ip netns del nsA; ip netns del nsB");
    let gone = lab.refused("tapswitch show");
    assert_eq!(gone.code, 1);
    assert!(gone.stderr.contains("tapswitch run"), "{gone:?}");
}
