//! The docker0 walk: two containers on one bridge, with the addresses that Docker gives out.

use serde_json::json;

use crate::{
    Test,
    common::wait_until,
    lab::{Lab, SECOND, squeeze},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "a_container_has_the_address_mac_routes_and_counters_of_the_tutorial",
        inside_nginx,
    ),
    (
        &[],
        "the_host_sees_docker0_and_no_device_for_each_container",
        host_view,
    ),
    (
        &[],
        "a_second_container_is_a_second_port_of_the_running_bridge",
        second_container,
    ),
    (
        &["curl"],
        "curl_fetches_the_page_of_the_other_container",
        curl,
    ),
    (
        &[],
        "a_direct_route_asks_for_the_target_and_not_for_the_gateway",
        direct_route,
    ),
    (
        &["sysctl"],
        "an_arp_request_goes_to_all_other_ports_and_its_answer_to_one",
        arp,
    ),
];

const DOCKER0: &str = "
    tapswitch bridge add docker0
    tapswitch port add docker0 --bridge docker0 --address 172.17.0.1/16 --mac 02:42:11:22:33:44";

/// Starts container number N with 172.17.0.N, as Docker would.
fn nginx(lab: &Lab, name: &str, number: u8) {
    lab.sh(&format!(
        "ip netns add {name}
        ip netns exec {name} sysctl -qw net.ipv6.conf.default.disable_ipv6=1
        tapswitch port add {name} --bridge docker0 --netns {name} --address 172.17.0.{number}/16 \
            --gateway 172.17.0.1 --mac 02:42:ac:11:00:{number:02x}"
    ));
}

fn inside_nginx() {
    let lab = Lab::new();
    lab.sh(DOCKER0);
    nginx(&lab, "nginx-1", 2);
    let device = squeeze(&lab.sh("ip -n nginx-1 addr show eth0"));
    for word in [
        "mtu 1500",
        "link/ether 02:42:ac:11:00:02",
        "inet 172.17.0.2/16 brd 172.17.255.255",
    ] {
        assert!(device.contains(word), "{word} is not in {device}");
    }
    let routes = squeeze(&lab.sh("ip -n nginx-1 route"));
    assert!(
        routes.contains("default via 172.17.0.1 dev eth0"),
        "{routes}"
    );
    assert!(
        routes.contains("172.17.0.0/16 dev eth0 proto kernel"),
        "{routes}"
    );

    // What the container sent is what the switch took.
    lab.ping("nginx-1", "172.17.0.1");
    let count = |name: &str| -> u64 {
        let file = format!("cat /sys/class/net/eth0/statistics/{name}");
        let text = lab.sh(&format!("ip netns exec nginx-1 {file}"));
        text.trim().parse().unwrap()
    };
    // Both kernels go on checking their neighbours between one look and the next.
    wait_until("both count the same", SECOND, || {
        lab.frames("nginx-1", "rx") == count("tx_packets")
            && lab.frames("nginx-1", "tx") == count("rx_packets")
    });

    // Nothing has to be installed in the image to find it.
    let info = lab.port("nginx-1");
    assert_eq!(info["addresses"], json!(["172.17.0.2/16"]));
    assert_eq!(info["mac"], "02:42:ac:11:00:02");
    lab.sh("ping -c 1 172.17.0.2");
}

fn host_view() {
    let lab = Lab::new();
    lab.sh(DOCKER0);
    nginx(&lab, "nginx-1", 2);
    nginx(&lab, "nginx-2", 3);
    let docker0 = lab.sh("ip addr show docker0");
    assert!(docker0.contains("172.17.0.1/16") && docker0.contains("02:42:11:22:33:44"));
    let links: Vec<_> = lab.sh("ip -o link").lines().map(str::to_owned).collect();
    assert_eq!(links.len(), 2, "lo and docker0: {links:?}");
    lab.ping("nginx-1", "172.17.0.3");
    lab.sh("ip netns exec nginx-1 ping -c 1 172.17.0.1");
}

fn second_container() {
    let lab = Lab::new();
    lab.sh(DOCKER0);
    nginx(&lab, "nginx-1", 2);
    assert!(
        lab.sh("tapswitch bridge show")
            .contains("ports: docker0 nginx-1\n")
    );
    let noise = lab.spawn("ip netns exec nginx-1 ping -q -c 50 -i 0.02 -W 1 172.17.0.1");
    nginx(&lab, "nginx-2", 3);
    assert!(
        lab.sh("tapswitch bridge show")
            .contains("ports: docker0 nginx-1 nginx-2\n")
    );
    lab.ping("nginx-2", "172.17.0.2");
    let summary = noise.output();
    assert!(
        summary.contains(" 0% packet loss"),
        "others do not notice: {summary}"
    );

    lab.sh("tapswitch port del nginx-2");
    assert!(
        lab.sh("tapswitch bridge show docker0")
            .contains("ports: docker0 nginx-1\n")
    );
    assert!(!lab.sh("ip -n nginx-2 -o link").contains("eth0"));
}

fn curl() {
    let lab = Lab::new();
    lab.sh(DOCKER0);
    nginx(&lab, "nginx-1", 2);
    nginx(&lab, "nginx-2", 3);
    let page = "Welcome to nginx! ".repeat(20_000);
    lab.serve("nginx-1", "172.17.0.2:80", &page);
    let got = lab.sh("ip netns exec nginx-2 curl -sS -m 10 http://172.17.0.2");
    assert_eq!(got, page);
    assert_eq!(lab.sh("curl -sS -m 10 http://172.17.0.2"), page);
    assert_eq!(lab.macs("nginx-1"), ["02:42:ac:11:00:02"]);
    assert_eq!(lab.macs("nginx-2"), ["02:42:ac:11:00:03"]);
}

fn direct_route() {
    let lab = Lab::new();
    lab.sh(DOCKER0);
    nginx(&lab, "nginx-1", 2);
    nginx(&lab, "nginx-2", 3);
    let route = lab.sh("ip -n nginx-1 route get 172.17.0.3");
    assert!(!route.contains("via"), "{route}");
    lab.ping("nginx-1", "172.17.0.3");
    let known = squeeze(&lab.sh("ip -n nginx-1 neigh"));
    assert!(
        known.contains("172.17.0.3 dev eth0 lladdr 02:42:ac:11:00:03"),
        "{known}"
    );
    assert!(!known.contains("172.17.0.1 "), "{known}");
}

fn arp() {
    let lab = Lab::new();
    lab.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    lab.sh(DOCKER0);
    for (name, number) in [("nginx-1", 2), ("nginx-2", 3), ("nginx-3", 4)] {
        nginx(&lab, name, number);
    }
    let ports = ["docker0", "nginx-1", "nginx-2", "nginx-3"];
    let counts = |direction: &str| ports.map(|port| lab.frames(port, direction));
    assert_eq!((counts("rx"), counts("tx")), ([0; 4], [0; 4]));

    lab.sh("ip netns exec nginx-1 ping -c 1 -W 2 172.17.0.3");

    // One question and one echo from nginx-1; the question has three copies, one for each other
    // port; both answers of nginx-2 go to nginx-1 alone.
    assert_eq!(counts("rx"), [0, 2, 2, 0]);
    assert_eq!(counts("tx"), [1, 2, 2, 1]);
    assert_eq!(lab.macs("nginx-1"), ["02:42:ac:11:00:02"]);
    assert_eq!(lab.macs("nginx-2"), ["02:42:ac:11:00:03"]);
    assert!(lab.macs("nginx-3").is_empty(), "it was silent");
}
