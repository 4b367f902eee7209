//! From machine to machine: docker0 made one over two hosts, flannel, and the arithmetic of headers.

use serde_json::{Value, json};
use tapswitch::wire::describe;

use crate::{
    Test,
    common::{command, wait_until},
    lab::{Lab, SECOND, squeeze},
    site::{Site, datagram},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &["sysctl"],
        "from_pod_to_pod_on_another_node_it_is_the_ten_steps_of_the_tutorial",
        ten_steps,
    ),
    (
        &["sysctl"],
        "a_frame_on_the_wire_has_the_headers_and_sums_of_the_tutorial",
        header_sums,
    ),
    (
        &["sysctl"],
        "docker0_of_one_host_has_nothing_to_do_with_docker0_of_the_other",
        two_docker0,
    ),
    (
        &["sysctl"],
        "one_vni_makes_both_docker0_one_bridge",
        special_bridge,
    ),
    (
        &["sysctl"],
        "the_route_to_the_other_node_is_no_overlay_and_the_route_to_flannel_is",
        host_gateway_and_overlay,
    ),
    (
        &["sysctl"],
        "the_mtu_of_the_path_less_50_is_the_pods_and_longer_frames_are_told_so",
        mtu,
    ),
    (
        &["sysctl"],
        "peer_show_and_peer_ping_tell_whether_the_other_node_is_there",
        checklist,
    ),
];

/// Needs a kernel with VXLAN.
pub(crate) const NEEDS_VXLAN: &[Test] = &[
    (
        &["sysctl"],
        "flannel_at_port_8472_is_the_kernels_device_and_no_daemon_takes_packets",
        kernel_flannel,
    ),
    (
        &["sysctl"],
        "a_docker_overlay_has_an_entry_for_each_container_and_floods_nothing",
        docker_overlay,
    ),
];

/// Why those cannot run, if so.
pub(crate) fn lacks_vxlan() -> Option<String> {
    let probe = "ip link add probe type vxlan id 1 dstport 4789 && ip link del probe";
    let output = command("sh").args(["-c", probe]).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| format!("no kernel vxlan device: {}", said.trim()))
}

// ------------------------------------------------------------------------------------ A18, A19

/// A node of a flannel network, on which the switch is both cni0 and flannel.1.
struct FlannelNode<'a> {
    lab: &'a Lab,
    /// Its underlay address.
    ip: &'a str,
    /// The third octet of its pods.
    net: u8,
    pod: &'a str,
    /// The last octet of that one.
    host: u8,
}

impl FlannelNode<'_> {
    fn flannel_mac(&self) -> String {
        format!("5e:00:00:00:00:{:02x}", self.net)
    }

    /// What the CNI plugin and flanneld do when the node joins.
    fn join(&self, options: &str) {
        let Self {
            ip, net, pod, host, ..
        } = self;
        let mac = self.flannel_mac();
        self.lab.sh(&format!(
            "sysctl -qw net.ipv4.ip_forward=1
            tapswitch bridge add cni --mtu 1450
            tapswitch port add cni0 --bridge cni --address 10.244.{net}.1/24
            tapswitch port add {pod} --bridge cni --netns {pod} \
                --address 10.244.{net}.{host}/24 --gateway 10.244.{net}.1
            tapswitch vtep set --local {ip} {options}
            tapswitch bridge add flannel --vni 1
            tapswitch port add flannel.1 --bridge flannel --address 10.244.{net}.0/32 --mac {mac}"
        ));
    }

    /// What flanneld does when it hears of another node: one entry each in three tables.
    fn hear_of(&self, other: &FlannelNode<'_>) {
        let (ip, net, mac) = (other.ip, other.net, other.flannel_mac());
        self.lab.sh(&format!(
            "tapswitch fdb add {mac} --bridge flannel --remote {ip}
            ip neigh replace 10.244.{net}.0 lladdr {mac} dev flannel.1 nud permanent
            ip route replace 10.244.{net}.0/24 via 10.244.{net}.0 dev flannel.1 onlink"
        ));
    }
}

fn ten_steps() {
    let site = Site::new(["10.0.24.28/24", "10.0.24.29/24"]);
    site.pods(["podA", "podB"]);
    let node = |lab, ip, net, pod, host| FlannelNode {
        lab,
        ip,
        net,
        pod,
        host,
    };
    let one = node(&site.m1, "10.0.24.28", 0, "podA", 5);
    let two = node(&site.m2, "10.0.24.29", 1, "podB", 6);
    for node in [&one, &two] {
        node.join("");
    }
    one.hear_of(&two);
    two.hear_of(&one);
    site.m1.ping("podA", "10.244.1.6");
    site.seen();

    // Frames that the switches took from (rx) and gave to (tx) each place on the way.
    let counts = |direction: &str| {
        let peer = |lab: &Lab| -> u64 {
            let peers = lab.json("peer show");
            peers[0][direction]["frames"].as_u64().unwrap()
        };
        let port = |lab: &Lab, name: &str| lab.frames(name, direction);
        [
            port(&site.m1, "podA"),
            port(&site.m1, "cni0"),
            port(&site.m1, "flannel.1"),
            peer(&site.m1),
            peer(&site.m2),
            port(&site.m2, "flannel.1"),
            port(&site.m2, "cni0"),
            port(&site.m2, "podB"),
        ]
    };
    let before = [counts("rx"), counts("tx")];
    let text = site.m1.sh("ip netns exec podA ping -c 1 -W 2 10.244.1.6");
    // Two kernels have routed it, flannel.1 is no hop for a packet.
    assert!(text.contains("ttl=62"), "{text}");
    for (after, before) in [counts("rx"), counts("tx")].iter().zip(before) {
        let passed: Vec<_> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        assert_eq!(passed, [1; 8], "once through each place, there and back");
    }

    let seen = site.seen();
    assert_eq!(seen.len(), 2, "a question, an answer");
    let ends = [("10.0.24.28", "10.0.24.29"), ("10.0.24.29", "10.0.24.28")];
    let texts = [
        "icmp 10.244.0.5 > 10.244.1.6 echo request 1",
        "icmp 10.244.1.6 > 10.244.0.5 echo reply 1",
    ];
    for ((frame, (from, to)), text) in seen.iter().zip(ends).zip(texts) {
        let outer = datagram(frame, 4789).unwrap();
        assert_eq!(
            (outer.from.to_string(), outer.to.to_string()),
            (from.into(), to.into())
        );
        assert_eq!(outer.vni, 1);
        assert_eq!(describe(outer.inner), text);
        // The packet is the pod's, the frame around it flannel.1's.
        assert_eq!(outer.inner[14 + 8], 63, "TTL");
        assert_eq!(outer.inner[0], 0x5e);
    }

    // Nobody is flooded: a node that flanneld has not told of is not asked for.
    site.m1
        .sh("ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink");
    assert!(!site.m1.reaches("podA", "10.244.9.5"));
    assert_eq!(site.seen(), Vec::<Vec<u8>>::new());
    let drops = site.m1.port("flannel.1")["drops"].clone();
    assert!(drops["no_egress"].as_u64() > Some(0), "{drops}");
}

// ---------------------------------------------------------------------------------------- A22

fn header_sums() {
    for (addresses, ip) in [
        (["10.0.24.28/24", "10.0.24.29/24"], 20),
        (["fd00:24::28/64", "fd00:24::29/64"], 40),
    ] {
        let site = Site::new(addresses);
        overlay_of_pods(&site, addresses, "");
        // Without options a TCP header has the 20 bytes of the tutorial.
        site.m1.sh("
            ip netns exec podA sysctl -qw net.ipv4.tcp_timestamps=0
            ip netns exec podC sysctl -qw net.ipv4.tcp_timestamps=0");
        site.m2.serve("podC", "10.244.1.20:80", "Data");
        assert_eq!(site.m1.fetch("podA", "10.244.1.20:80"), "Data");

        let seen = site.seen();
        let frame = seen.iter().find(|frame| frame.ends_with(b"Data")).unwrap();
        let (udp, vxlan) = (14 + ip, 14 + ip + 8);
        let inner = vxlan + 8;
        let (inner_ip, tcp, http) = (inner + 14, inner + 14 + 20, inner + 14 + 20 + 20);
        let outer = datagram(frame, 4789).unwrap();
        assert_eq!(outer.port, 4789);
        assert_eq!(outer.inner.len(), frame.len() - inner);
        // No router on the way may fragment it: over IPv6 none ever does.
        assert!(ip == 40 || frame[20] & 0x40 != 0, "DF is set");
        let source = u16::from_be_bytes([frame[udp], frame[udp + 1]]);
        assert!(
            source >= 49152,
            "by inner flow, from the dynamic ports: {source}"
        );
        assert_eq!(
            frame[inner + 12..inner_ip],
            [0x08, 0x00],
            "an Ethernet header"
        );
        assert_eq!(frame[inner_ip], 0x45, "an IPv4 header without options");
        assert_eq!(
            frame[tcp..tcp + 2],
            80_u16.to_be_bytes(),
            "from the web server"
        );
        assert_eq!(frame[tcp + 12] >> 4, 5, "a TCP header without options");
        assert_eq!(frame[http..http + 8], *b"HTTP/1.1");

        // "64 in all, about 50 of them count": exactly 50, since the pods' MTU counts from their IP
        // header, and the path's from the outer one. Over IPv6 it is 84 and 70.
        assert_eq!(inner_ip, ip + 44);
        let inner_packet = frame.len() - inner_ip;
        let outer_packet = frame.len() - 14;
        assert_eq!(outer_packet - inner_packet, ip + 30);
        let bridges = site.m1.json("bridge show br0");
        let mtu = bridges[0]["effective_mtu"].as_u64().unwrap();
        assert_eq!(1500 - mtu, u64::try_from(ip + 30).unwrap());
    }
}

/// Bridge `br0` on both machines as VNI 42, with `podA` at 10.244.1.10 and `podC` at 10.244.1.20.
fn overlay_of_pods(site: &Site, addresses: [&str; 2], options: &str) {
    site.pods(["podA", "podC"]);
    let ips = addresses.map(|address| address.split('/').next().unwrap());
    for (lab, [own, other], pod, host) in [
        (&site.m1, ips, "podA", 10),
        (&site.m2, [ips[1], ips[0]], "podC", 20),
    ] {
        lab.sh(&format!(
            "tapswitch vtep set --local {own}
            tapswitch bridge add br0 --vni 42 --peer {other} {options}
            tapswitch port add {pod} --bridge br0 --netns {pod} --address 10.244.1.{host}/24"
        ));
    }
}

// ----------------------------------------------------------------------------------- B16, B17

/// Two hosts as Docker leaves them: each with a docker0 and a container.
fn docker_hosts() -> Site {
    let site = Site::new(["10.168.0.2/24", "10.168.0.3/24"]);
    site.pods(["nginx-1", "nginx-3"]);
    for (lab, host, container, number) in [(&site.m1, 2, "nginx-1", 2), (&site.m2, 3, "nginx-3", 3)]
    {
        lab.sh(&format!(
            "tapswitch bridge add docker0
            tapswitch port add docker0 --bridge docker0 --address 172.17.0.1/16 \
                --mac 02:42:11:22:33:0{host}
            tapswitch port add {container} --bridge docker0 --netns {container} \
                --address 172.17.0.{number}/16 --gateway 172.17.0.1 \
                --mac 02:42:ac:11:00:0{number}"
        ));
    }
    site
}

fn two_docker0() {
    let site = docker_hosts();
    // The hosts reach each other, each container reaches its own docker0: the same address.
    site.m1.sh("ping -c 1 -W 2 10.168.0.3");
    site.m1.ping("nginx-1", "172.17.0.1");
    site.m2.ping("nginx-3", "172.17.0.1");
    site.seen();

    assert!(!site.m1.reaches("nginx-1", "172.17.0.3"));
    let neighbours = site.m1.sh("ip -n nginx-1 neigh show 172.17.0.3");
    assert!(
        neighbours.contains("FAILED") || neighbours.contains("INCOMPLETE"),
        "{neighbours}"
    );
    assert_eq!(
        site.seen(),
        Vec::<Vec<u8>>::new(),
        "the question stays on its host"
    );
    assert_eq!(site.m1.json("peer show"), json!([]));
    assert_eq!(site.m1.json("vtep show"), json!(null));
    assert_eq!(
        table(&site.m2),
        [
            ("02:42:11:22:33:03", "docker0"),
            ("02:42:ac:11:00:03", "nginx-3"),
        ]
        .map(owned)
    );
}

fn special_bridge() {
    let site = docker_hosts();
    // One network has one 172.17.0.1.
    site.m2
        .sh("tapswitch port set docker0 --address 172.17.0.254/16
        tapswitch port set nginx-3 --gateway 172.17.0.254");
    for (lab, local, peer) in [
        (&site.m1, "10.168.0.2", "10.168.0.3"),
        (&site.m2, "10.168.0.3", "10.168.0.2"),
    ] {
        lab.sh(&format!("tapswitch vtep set --local {local}"));
        lab.sh(&format!(
            "tapswitch bridge set docker0 --vni 42 --peer {peer}"
        ));
    }
    site.m1.ping("nginx-1", "172.17.0.3");
    site.m2.ping("nginx-3", "172.17.0.2");
    site.m2.ping("nginx-3", "172.17.0.1");

    // What is on the own host is behind a port, the rest behind the other host.
    assert_eq!(
        table(&site.m1),
        [
            ("02:42:11:22:33:02", "docker0"),
            ("02:42:ac:11:00:02", "nginx-1"),
            ("02:42:ac:11:00:03", "10.168.0.3"),
        ]
        .map(owned)
    );
    assert_eq!(
        table(&site.m2),
        [
            ("02:42:11:22:33:02", "10.168.0.2"),
            ("02:42:11:22:33:03", "docker0"),
            ("02:42:ac:11:00:02", "10.168.0.2"),
            ("02:42:ac:11:00:03", "nginx-3"),
        ]
        .map(owned)
    );
    for (lab, container) in [(&site.m1, "nginx-1"), (&site.m2, "nginx-3")] {
        let link = lab.sh(&format!("ip -n {container} link show eth0"));
        assert!(
            link.contains("mtu 1450"),
            "the running container follows: {link}"
        );
    }

    site.m1.sh("tapswitch peer del 10.168.0.3");
    assert!(!site.m1.reaches("nginx-1", "172.17.0.3"));
    assert_eq!(
        table(&site.m1).len(),
        2,
        "what was behind the peer is forgotten"
    );
    site.m1.sh("tapswitch peer add 10.168.0.3");
    site.m1.ping("nginx-1", "172.17.0.3");
}

/// The FDB: addresses, and the port or VTEP behind which they are.
fn table(lab: &Lab) -> Vec<(String, String)> {
    let entries = lab.json("fdb show");
    let entries = entries.as_array().unwrap().iter();
    let place = |entry: &Value| {
        entry["port"]
            .as_str()
            .or_else(|| entry["remote"].as_str())
            .map(str::to_owned)
    };
    let mut rows: Vec<_> = entries
        .map(|entry| {
            (
                entry["mac"].as_str().unwrap().to_owned(),
                place(entry).unwrap(),
            )
        })
        .collect();
    rows.sort();
    rows
}

fn owned((mac, place): (&str, &str)) -> (String, String) {
    (mac.to_owned(), place.to_owned())
}

fn docker_overlay() {
    let site = Site::with_kernel_peer(["10.168.0.2/24", "10.168.0.3/24"]);
    site.pods(["web", "db", "sandbox"]);
    // The other host as Docker makes it: a namespace of the network with a bridge and a vxlan
    // device, which was made on the host so that its datagrams leave there.
    site.m2.sh("
        ip link add vxlan1 type vxlan id 4097 local 10.168.0.3 dstport 4789 nolearning proxy udpcsum
        ip link set vxlan1 netns sandbox
        ip -n sandbox link add br0 type bridge
        ip -n sandbox link set vxlan1 master br0 up
        ip -n sandbox link set br0 up
        ip -n db link add eth0 mtu 1450 address 02:42:0a:00:00:03 type veth peer name veth0 netns sandbox
        ip -n sandbox link set veth0 master br0 up
        ip -n db addr add 10.0.0.3/24 dev eth0
        ip -n db link set eth0 up");
    site.m1.sh("
        tapswitch vtep set --local 10.168.0.2
        tapswitch bridge add overlay --vni 4097 --peer-learning off
        tapswitch port add web --bridge overlay --netns web --address 10.0.0.2/24 \
            --mac 02:42:0a:00:00:02");
    assert!(!site.m1.reaches("web", "10.0.0.3"));
    assert_eq!(site.seen(), Vec::<Vec<u8>>::new());

    // Docker tells each host where each container of the other is.
    site.m1.sh("
        tapswitch fdb add 02:42:0a:00:00:03 --remote 10.168.0.3
        ip -n web neigh replace 10.0.0.3 lladdr 02:42:0a:00:00:03 dev eth0 nud permanent");
    site.m2.sh("
        bridge -n sandbox fdb add 02:42:0a:00:00:02 dev vxlan1 self dst 10.168.0.2 permanent
        ip -n sandbox neigh add 10.0.0.2 lladdr 02:42:0a:00:00:02 dev vxlan1 nud permanent");
    site.m1.ping("web", "10.0.0.3");
    site.m2.ping("db", "10.0.0.2");
    let page = "rows ".repeat(100_000);
    site.m1.serve("web", "10.0.0.2:80", &page);
    assert_eq!(site.m2.fetch("db", "10.0.0.2:80"), page);

    for frame in site.seen() {
        // The hosts' own ARP goes on beside it.
        if let Some(outer) = datagram(&frame, 4789) {
            assert_eq!(outer.vni, 4097);
            assert_eq!(
                outer.inner[..5],
                [0x02, 0x42, 0x0a, 0, 0],
                "{}",
                describe(outer.inner)
            );
        }
    }
    let entries = site.m1.json("fdb show --remote 10.168.0.3");
    assert_eq!(entries[0]["state"], "static");
    assert_eq!(entries.as_array().unwrap().len(), 1);
}

// ----------------------------------------------------------------------------------- D06, D07

fn host_gateway_and_overlay() {
    let site = Site::new(["192.168.50.10/24", "192.168.50.20/24"]);
    site.pods(["podA", "podC"]);
    let node = |lab, ip, net, pod| FlannelNode {
        lab,
        ip,
        net,
        pod,
        host: 10,
    };
    let one = node(&site.m1, "192.168.50.10", 1, "podA");
    let two = node(&site.m2, "192.168.50.20", 2, "podC");
    for node in [&one, &two] {
        node.join("");
    }

    // The routes as the tutorial prints them: the packet goes out as it is, to the other node.
    site.m1
        .sh("ip route add 10.244.2.0/24 via 192.168.50.20 dev eth0");
    site.m2
        .sh("ip route add 10.244.1.0/24 via 192.168.50.10 dev eth0");
    let routes = squeeze(&site.m1.sh("ip route"));
    assert!(
        routes.contains("10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1"),
        "{routes}"
    );
    site.m1.ping("podA", "10.244.2.10");
    let echo = "icmp 10.244.1.10 > 10.244.2.10 echo request 1";
    let seen = site.seen();
    assert!(seen.iter().any(|frame| describe(frame) == echo), "as it is");
    assert!(seen.iter().all(|frame| datagram(frame, 4789).is_none()));

    // The tunnel of the tutorial's four steps needs other routes: to the other node's flannel.1.
    one.hear_of(&two);
    two.hear_of(&one);
    site.m1.ping("podA", "10.244.2.10");
    let seen = site.seen();
    assert!(seen.iter().all(|frame| describe(frame) != echo));
    let tunnelled: Vec<_> = seen
        .iter()
        .filter_map(|frame| datagram(frame, 4789))
        .collect();
    let outer = &tunnelled[0];
    assert_eq!(describe(outer.inner), echo);
    assert_eq!(outer.from.to_string(), "192.168.50.10");
    assert_eq!(outer.to.to_string(), "192.168.50.20");
}

fn kernel_flannel() {
    let site = Site::with_kernel_peer(["192.168.50.10/24", "192.168.50.20/24"]);
    site.pods(["podA", "podC"]);
    let one = FlannelNode {
        lab: &site.m1,
        ip: "192.168.50.10",
        net: 1,
        pod: "podA",
        host: 10,
    };
    // Linux's default port, from before there was a number for VXLAN.
    one.join("--port 8472");
    let two = FlannelNode {
        lab: &site.m2,
        ip: "192.168.50.20",
        net: 2,
        pod: "podC",
        host: 10,
    };
    one.hear_of(&two);
    // Node 2 is all kernel. What flanneld would do is done by hand, and then nobody is there who
    // could take a packet: the device encapsulates.
    site.m2.sh("
        sysctl -qw net.ipv4.ip_forward=1
        ip link add cni0 type bridge
        ip link set cni0 up mtu 1450
        ip addr add 10.244.2.1/24 dev cni0
        ip link add veth0 mtu 1450 type veth peer name eth0 mtu 1450 netns podC
        ip link set veth0 master cni0 up
        ip -n podC addr add 10.244.2.10/24 dev eth0
        ip -n podC link set eth0 up
        ip -n podC route add default via 10.244.2.1
        ip link add flannel.1 address 5e:00:00:00:00:02 mtu 1450 type vxlan id 1 \
            local 192.168.50.20 dev eth0 dstport 8472 nolearning
        ip addr add 10.244.2.0/32 dev flannel.1
        ip link set flannel.1 up
        bridge fdb append 5e:00:00:00:00:01 dev flannel.1 dst 192.168.50.10
        ip neigh replace 10.244.1.0 lladdr 5e:00:00:00:00:01 dev flannel.1 nud permanent
        ip route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink");
    site.m1.ping("podA", "10.244.2.10");
    site.m2.ping("podC", "10.244.1.10");
    let page = "long ".repeat(200_000);
    site.m2.serve("podC", "10.244.2.10:80", &page);
    assert_eq!(site.m1.fetch("podA", "10.244.2.10:80"), page);
    site.m1.serve("podA", "10.244.1.10:80", &page);
    assert_eq!(site.m2.fetch("podC", "10.244.1.10:80"), page);

    let seen = site.seen();
    let both: Vec<_> = seen
        .iter()
        .filter_map(|frame| datagram(frame, 8472))
        .collect();
    for from in ["192.168.50.10", "192.168.50.20"] {
        assert!(
            both.iter()
                .any(|outer| outer.from.to_string() == from && outer.vni == 1)
        );
    }
    assert!(seen.iter().all(|frame| datagram(frame, 4789).is_none()));
    let peers = site.m1.json("peer show");
    assert_eq!(
        (&peers[0]["port"], &peers[0]["kind"]),
        (&json!(8472), &json!("static"))
    );
}

// --------------------------------------------------------------------------- A23, A24, A25, A26

fn mtu() {
    let addresses = ["10.0.24.28/24", "10.0.24.29/24"];
    let site = Site::new(addresses);
    overlay_of_pods(&site, addresses, "");
    let one = &site.m1;
    let chain = "mtu 1450 = 1500 (path to 10.0.24.29) - 20 (outer IPv4) - 8 (UDP) - 8 (VXLAN) - 14 (inner Ethernet)";
    let screen = one.sh("tapswitch show");
    assert!(screen.contains(chain), "{screen}");
    assert!(one.sh("ip -n podA link show eth0").contains("mtu 1450"));
    let fits = |size: u32| {
        one.works(&format!(
            "ip netns exec podA ping -c 1 -W 1 -M do -s {size} 10.244.1.20"
        ))
    };
    // 1422 and 28 bytes of headers, not the 1472 that test a path of 1500.
    assert!(fits(1422) && !fits(1423) && !fits(1472));

    // The mistake: an MTU of 1500 over a path of 1500.
    for lab in [&site.m1, &site.m2] {
        lab.sh("tapswitch bridge set br0 --mtu 1500");
        lab.sh("ip -all netns exec ip route flush cache");
    }
    let too_big = || {
        let peers = one.json("peer show");
        peers[0]["drops"]["too_big"].as_u64().unwrap_or(0)
    };
    assert_eq!(too_big(), 0);
    assert!(fits(1422), "small ones get through");
    let refused = one.failed("ip netns exec podA ping -c 1 -W 1 -M do -s 1472 10.244.1.20");
    assert_eq!(too_big(), 1);
    // The sender is told at once, and by whom it wanted to reach.
    assert!(refused.contains("From 10.244.1.20"), "{refused}");
    assert!(
        refused.contains("Frag needed and DF set (mtu = 1450)"),
        "{refused}"
    );
    let route = one.sh("ip -n podA route get 10.244.1.20");
    assert!(route.contains("mtu 1450"), "{route}");
    // From then on it does right by itself. So does the other side, when it has been told too.
    site.m2
        .failed("ip netns exec podC ping -c 1 -W 1 -M do -s 1472 10.244.1.10");
    one.sh("ip netns exec podA ping -c 1 -W 2 -M want -s 4000 10.244.1.20");
    assert_eq!(too_big(), 1);
    // TCP never noticed: superframes are cut to what the path takes.
    let page = "long ".repeat(200_000);
    site.m1.serve("podA", "10.244.1.10:80", &page);
    assert_eq!(site.m2.fetch("podC", "10.244.1.10:80"), page);

    // The repair.
    for lab in [&site.m1, &site.m2] {
        lab.sh("tapswitch bridge set br0 --mtu auto");
    }
    assert!(one.sh("ip -n podA link show eth0").contains("mtu 1450"));

    // The path may change at any time.
    for (path, pods) in [(1400, 1350), (1500, 1450)] {
        one.sh(&format!("ip link set eth0 mtu {path}"));
        wait_until("the pods follow", 5 * SECOND, || {
            let link = one.sh("ip -n podA link show eth0");
            link.contains(&format!("mtu {pods}"))
        });
    }
}

// ---------------------------------------------------------------------------------------- A43

fn checklist() {
    let addresses = ["10.0.24.28/24", "10.0.24.29/24"];
    let mut site = Site::new(addresses);
    overlay_of_pods(&site, addresses, "");
    site.m1.ping("podA", "10.244.1.20");
    let peer = squeeze(&site.m1.sh("tapswitch peer show"));
    assert!(
        peer.contains("br0 42 10.0.24.29 4789 listed 1450 1500 up"),
        "{peer}"
    );
    let answer = site.m1.sh("tapswitch peer ping 10.0.24.29 --count 1");
    assert!(
        answer.contains("bytes from 10.0.24.29: seq=1 time="),
        "{answer}"
    );
    let swept = site.m1.json("peer ping 10.0.24.29 --count 1 --sweep");
    assert_eq!(swept["largest"], 1464, "1450 and the inner Ethernet header");
    // The probes are frames of the overlay, but no bridge relays them or learns from them.
    assert_eq!(table(&site.m2).len(), 2);
    site.m2.stop();
    let silent = site
        .m1
        .failed("tapswitch peer ping 10.0.24.29 --count 1 --timeout 0.3s");
    assert!(silent.contains("1 frame sent, 0 answered"), "{silent}");
    assert!(silent.contains("port 4789 closed"), "{silent}");
}
