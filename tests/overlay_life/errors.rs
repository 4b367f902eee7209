//! What cannot be done is refused in words that help, and changes nothing.

use std::net::{IpAddr, SocketAddr};

use tapswitch::{
    config::{BridgeSpec, PeerAddr, Place, PortSpec, StaticSpec, SwitchSpec, VtepSpec},
    control::api::{ErrorKind, PingRequest, Request, Response},
    wire::{MacAddr, Vni},
};

use crate::{
    Test,
    common::{Netns, open_fds},
    stream,
    world::{Daemon, Family, Node, Pod, add_address, lan, name, udp},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &["ping"],
        "what_the_overlay_cannot_do_is_refused_and_changes_nothing",
        refusals,
    ),
    (
        &["ping"],
        "a_port_in_use_is_told_with_its_owner",
        port_in_use,
    ),
    (
        &["ping"],
        "a_file_that_fails_half_way_leaves_nothing_of_its_overlay",
        half_way,
    ),
    (
        &["ping"],
        "switches_of_one_host_share_it_by_address_or_port",
        one_host,
    ),
    (
        &["ping"],
        "an_overlay_within_a_machine_carries_what_udp_can",
        loopback,
    ),
    (
        &["ping"],
        "a_peer_at_another_port_is_deleted_by_its_address_alone",
        peer_by_address,
    ),
    (&[], "scripts_find_the_keys_that_they_rely_on", keys),
];

/// Two nodes that reach each other. The first one has a bridge without VNI, too.
fn pair() -> ([Node; 2], [Pod; 2]) {
    let [a, b] = lan(Family::V4);
    let (ip_a, ip_b) = (a.ip, b.ip);
    let (a, b) = (Node::joined(a, &[ip_b]), Node::joined(b, &[ip_a]));
    a.request(Request::BridgeAdd(BridgeSpec::new(name("plain"))));
    let pods = [a.pod("ov0", 1), b.pod("ov0", 2)];
    pods[0].ping(pods[1].v4());
    ([a, b], pods)
}

fn add(bridge: &str, peer: &str) -> Request {
    Request::PeerAdd {
        bridge: Some(name(bridge)),
        remote: peer.parse().unwrap(),
    }
}

fn refusals() {
    let ([a, b], pods) = pair();
    let fds = open_fds();
    let sources = a.vtep().source_ports;

    let wrong = [wrong_endpoints(&a), wrong_bridges(), wrong_peers()];
    for (request, kind, message) in wrong.into_iter().flatten() {
        let asked = format!("{request:?}");
        let error = a.refused(request);
        let said = error.message.replace(a.host.netns.name(), "NODE");
        assert_eq!((said.as_str(), error.kind), (message, kind), "{asked}");
        assert_eq!(open_fds(), fds, "{asked}");
        pods[0].ping(pods[1].v4());
    }
    assert_eq!(sources.len(), a.vtep().source_ports.len());
    let bare = Node::bare(b.host.another());
    let mut spec = BridgeSpec::new(name("ov0"));
    spec.vni = Vni::new(42);
    let error = bare.refused(Request::BridgeAdd(spec));
    assert_eq!(
        error.message,
        "bridge ov0: vni 42 needs a VTEP; add [vtep] with local = \"IP\", or ask for one: \
         tapswitch vtep set --local IP"
    );
}

/// A request, how it fails, and what is said; the node is called NODE.
type Wrong = (Request, ErrorKind, &'static str);

fn wrong_endpoints(a: &Node) -> Vec<Wrong> {
    let vtep = |change: &dyn Fn(&mut VtepSpec)| {
        let mut spec = a.vtep_spec();
        change(&mut spec);
        Request::VtepSet(spec)
    };
    vec![
        (
            vtep(&|spec| spec.local = Family::V4.host(50, 99)),
            ErrorKind::Failed,
            "open vtep 192.168.50.99:4789 in netns \"NODE\": no interface has the address; add it \
             to one, or choose another: 127.0.0.1 (lo), 192.168.50.10 (u0)",
        ),
        (
            vtep(&|spec| spec.netns = Some("nowhere".parse().unwrap())),
            ErrorKind::Failed,
            "open vtep 192.168.50.10:4789: open netns \"nowhere\": no such namespace; create it: ip \
             netns add nowhere",
        ),
        (
            vtep(&|spec| spec.local = "239.1.1.1".parse().unwrap()),
            ErrorKind::Invalid,
            "vtep: local 239.1.1.1 is a multicast group, which no VTEP has for its own; write one \
             of this host's addresses (see: ip address)",
        ),
        (
            vtep(&|spec| spec.local = Family::V6.host(50, 10)),
            ErrorKind::Invalid,
            "bridge ov0: peer 192.168.50.20 is of IPv4, and the VTEP's local fd00:32::a of IPv6; \
             write its IPv6 address",
        ),
        (
            Request::VtepDel,
            ErrorKind::Failed,
            "delete vtep: bridge ov0 has VNI 42; take it off the overlay first: tapswitch bridge \
             set ov0 --vni none --peer none",
        ),
    ]
}

fn wrong_bridges() -> Vec<Wrong> {
    let bridge = |bridge: &str, change: &dyn Fn(&mut BridgeSpec)| {
        let mut spec = BridgeSpec::new(name(bridge));
        change(&mut spec);
        Request::BridgeAdd(spec)
    };
    let fdb = |bridge: &str, remote: &str| {
        Request::FdbAdd(StaticSpec {
            bridge: name(bridge),
            mac: MacAddr::new([2, 0, 0, 0, 9, 9]),
            vlan: 0,
            place: Place::Peer(remote.parse().unwrap()),
        })
    };
    vec![
        (
            bridge("ov1", &|spec| spec.vni = Vni::new(42)),
            ErrorKind::Invalid,
            "bridge ov1: vni 42 is already bridge ov0's; choose another one",
        ),
        (
            bridge("ov1", &|spec| {
                spec.peers = vec!["192.168.50.20".parse().unwrap()];
            }),
            ErrorKind::Invalid,
            "bridge ov1: peers need a vni on the bridge; add one, or remove the peers (--peer none)",
        ),
        (
            fdb("plain", "192.168.50.20"),
            ErrorKind::Invalid,
            "add fdb entry 02:00:00:00:09:09: bridge plain has no VNI; give it one: tapswitch \
             bridge set plain --vni N",
        ),
        (
            fdb("ov0", "192.168.50.10"),
            ErrorKind::Invalid,
            "static FDB entry 02:00:00:00:09:09: remote 192.168.50.10 is this VTEP itself; remove it",
        ),
    ]
}

fn wrong_peers() -> Vec<Wrong> {
    vec![
        (
            add("ov0", "192.168.50.10"),
            ErrorKind::Invalid,
            "add peer 192.168.50.10: bridge ov0: peer 192.168.50.10 is this VTEP itself; remove it",
        ),
        (
            add("ov0", "239.1.1.1"),
            ErrorKind::Invalid,
            "add peer 239.1.1.1: bridge ov0: peer 239.1.1.1 is a multicast group, which no VTEP \
             has for its own; write the underlay address of the other host",
        ),
        (
            add("ov0", "0.0.0.0"),
            ErrorKind::Invalid,
            "add peer 0.0.0.0: bridge ov0: peer 0.0.0.0 is no host's address; write the underlay \
             address of the other host",
        ),
        (
            add("ov0", "255.255.255.255"),
            ErrorKind::Invalid,
            "add peer 255.255.255.255: bridge ov0: peer 255.255.255.255 is the broadcast address; \
             write the underlay address of the other host",
        ),
        (
            add("ov0", "fd00::2"),
            ErrorKind::Invalid,
            "add peer fd00::2: bridge ov0: peer fd00::2 is of IPv6, and the VTEP's local \
             192.168.50.10 of IPv4; write its IPv4 address",
        ),
        (
            add("ov0", "192.168.50.20:4789"),
            ErrorKind::Failed,
            "add peer 192.168.50.20:4789: bridge ov0 has this peer; see: tapswitch peer show \
             --bridge ov0",
        ),
        (
            add("plain", "192.168.50.20"),
            ErrorKind::Invalid,
            "add peer 192.168.50.20: bridge plain has no VNI; give it one: tapswitch bridge set \
             plain --vni N",
        ),
        (
            add("nobody", "192.168.50.20"),
            ErrorKind::NotFound,
            "add peer 192.168.50.20: no bridge \"nobody\"; there is ov0, plain; add it: tapswitch \
             bridge add nobody",
        ),
        (
            Request::PeerDel {
                bridge: None,
                remote: "192.168.50.99".parse().unwrap(),
            },
            ErrorKind::NotFound,
            "delete peer 192.168.50.99: bridge ov0 has no such peer; list them: tapswitch peer \
             show --bridge ov0",
        ),
    ]
}

fn peer_by_address() {
    let ([a, _b], _pods) = pair();
    a.request(add("ov0", "192.168.50.30:8472"));
    let delete = |remote: &str| Request::PeerDel {
        bridge: None,
        remote: remote.parse().unwrap(),
    };

    let error = a.refused(delete("192.168.50.30:4789"));
    assert_eq!(error.kind, ErrorKind::NotFound);
    a.request(delete("192.168.50.30"));

    let error = a.refused(delete("192.168.50.30"));
    assert_eq!(error.kind, ErrorKind::NotFound);
}

fn port_in_use() {
    let ([a, b], pods) = pair();
    let at = |host: &crate::world::Host| {
        format!(
            "open vtep {}:4789 in netns {:?}: ",
            host.ip,
            host.netns.name()
        )
    };

    // Another switch.
    let same = Node::bare(a.host.another());
    let error = same.refused(Request::VtepSet(same.vtep_spec()));
    let id = std::process::id();
    let command = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(
        error.message,
        format!(
            "{}process {id} ({}) has the UDP port; stop it, or choose another port",
            at(&a.host),
            command.trim_end()
        )
    );
    pods[0].ping(pods[1].v4());
    let mut spec = same.vtep_spec();
    spec.port = 8472;
    same.request(Request::VtepSet(spec));

    // A change that fails leaves the endpoint where it was.
    let socket = udp(
        &b.host.netns,
        SocketAddr::new("0.0.0.0".parse().unwrap(), 8472),
    );
    let mut spec = b.vtep_spec();
    spec.port = 8472;
    let error = b.refused(Request::VtepSet(spec));
    let there = at(&b.host).replace("4789", "8472");
    assert!(
        error.message.starts_with(&format!("{there}process {id}")),
        "{error}"
    );
    pods[0].ping(pods[1].v4());
    drop(socket);

    // The kernel's own.
    let [_, c] = lan(Family::V4);
    let link = "link add vx7 type vxlan id 7 dstport 4789";
    c.netns.ip(link);
    c.netns.ip("link set vx7 up");
    let kernel = Node::bare(c);
    let error = kernel.refused(Request::VtepSet(kernel.vtep_spec()));
    assert_eq!(
        error.message,
        format!(
            "{}the kernel's vxlan device \"vx7\" has the UDP port; delete it (ip link del vx7), or \
             choose another port",
            at(&kernel.host)
        )
    );
    kernel.host.netns.ip("link del vx7");
    kernel.request(Request::VtepSet(kernel.vtep_spec()));
}

/// A switch that cannot be: a port of it wants an interface name that is taken.
fn impossible(spec: &mut SwitchSpec, pod: &Netns) {
    pod.ip("link add taken type bridge");
    let mut port = PortSpec::new(name("last"), name("ov0"));
    port.netns = Some(pod.reference());
    port.ifname = Some("taken".parse().unwrap());
    spec.ports.push(port);
}

fn half_way() {
    let ([a, b], pods) = pair();
    let refused = |node: &Node, spec: SwitchSpec| {
        let error = node.refused(Request::Apply {
            spec,
            dry_run: false,
        });
        let message = error.message;
        assert!(
            message.contains("taken") && message.ends_with("(nothing has changed)"),
            "{message}"
        );
    };

    // Nothing at first, and nothing afterwards.
    let [_, c] = lan(Family::V4);
    let third = Node::bare(c);
    let netns = Netns::new("half");
    let fds = open_fds();
    let mut spec = SwitchSpec {
        vtep: Some(third.vtep_spec()),
        ..SwitchSpec::default()
    };
    let mut bridge = BridgeSpec::new(name("ov0"));
    bridge.vni = Vni::new(42);
    bridge.peers = vec![PeerAddr::new(a.host.ip)];
    spec.bridges.push(bridge);
    impossible(&mut spec, &netns);
    let mut events = third.events();
    refused(&third, spec);
    assert_eq!(third.switch.spec(), SwitchSpec::default());
    let stats = third.stats();
    assert!(stats.vtep.is_none() && stats.peers.is_empty());
    assert_eq!(open_fds(), fds);
    drop(udp(&third.host.netns, SocketAddr::new(third.host.ip, 4789)));
    drop(events.told());

    // An endpoint, peers and bridges that change and change back.
    let mut spec = a.switch.spec();
    let vtep = spec.vtep.as_mut().unwrap();
    (vtep.port, vtep.ttl) = (8472, 32);
    spec.bridges[0].peers = vec!["192.168.50.30".parse().unwrap()];
    spec.bridges[1].vni = Vni::new(43);
    spec.bridges[1].peers = vec!["192.168.50.31:4790".parse().unwrap()];
    impossible(&mut spec, &pods[0].netns);
    refused(&a, spec);
    let peers: Vec<IpAddr> = a
        .stats()
        .peers
        .iter()
        .map(|peer| peer.remote.parse().unwrap())
        .collect();
    assert_eq!(peers, [b.host.ip]);
    assert_eq!((a.vtep().spec.port, a.vtep().spec.ttl), (4789, 64));
    pods[0].ping(pods[1].v4());
    pods[1].ping(pods[0].v6());
}

fn one_host() {
    let [a, _] = lan(Family::V4);
    let (first, second) = (a.ip, Family::V4.host(50, 11));
    add_address(&a.netns, "u0", second, Family::V4);
    let others = [a.another(), a.another()];
    let one = Node::joined(a, &[second]);
    let [two, three] = others.map(Node::bare);
    let mut spec = two.vtep_spec();
    spec.local = second;
    two.request(Request::VtepSet(spec));
    two.bridge("ov0", 42, &[first], |_| {});
    let mut spec = three.vtep_spec();
    spec.port = 8472;
    three.request(Request::VtepSet(spec));
    let with_port = |bridge: &str, vni, peer: &str| {
        let mut spec = BridgeSpec::new(name(bridge));
        spec.vni = Vni::new(vni);
        spec.peers = vec![peer.parse().unwrap()];
        Request::BridgeAdd(spec)
    };
    one.request(with_port("ov1", 43, "192.168.50.10:8472"));
    three.request(with_port("ov0", 43, "192.168.50.10:4789"));

    let by_address = [one.pod("ov0", 1), two.pod("ov0", 2)];
    by_address[0].ping(by_address[1].v4());
    by_address[1].ping(by_address[0].v6());
    let by_port = [one.pod("ov1", 3), three.pod("ov0", 4)];
    by_port[0].ping(by_port[1].v4());
    by_port[1].ping(by_port[0].v6());
    let shared = |node: &Node| node.vtep().source_ports.len();
    assert!(
        [&one, &two, &three]
            .into_iter()
            .all(|node| shared(node) == 16)
    );
}

fn loopback() {
    let [host, _] = lan(Family::V4);
    let nodes = [host.another(), host].map(Node::bare);
    for (node, (port, other)) in nodes.iter().zip([(4789, 8472), (8472, 4789)]) {
        let mut spec = node.vtep_spec();
        (spec.local, spec.port) = ("127.0.0.1".parse().unwrap(), port);
        node.request(Request::VtepSet(spec));
        let mut spec = BridgeSpec::new(name("ov0"));
        spec.vni = Vni::new(42);
        spec.peers = vec![format!("127.0.0.1:{other}").parse().unwrap()];
        node.request(Request::BridgeAdd(spec));
    }
    let pods = [nodes[0].pod("ov0", 1), nodes[1].pod("ov0", 2)];
    pods[0].ping(pods[1].v4());

    // The device takes 65,536 bytes, and IPv4 one less.
    let mtu = 65_535 - 50;
    assert_eq!(pods[0].mtu(), mtu);
    let (arrived, text) = pods[0].ping_of(pods[1].v4(), mtu - 28);
    assert!(arrived, "{text}");
    let (from, to) = (&pods[0].netns, &pods[1].netns);
    stream::tcp(from, to, pods[1].v4(), 65_536, 0x100b);
    let ping = Request::PeerPing(PingRequest {
        count: 1,
        sweep: true,
        ..PingRequest::new("127.0.0.1:8472".parse().unwrap())
    });
    let Response::Ping(ping) = nodes[0].request(ping) else {
        panic!("no report");
    };
    assert_eq!(ping.largest, Some(mtu + 14), "{ping:?}");
    let drops = nodes[0].stats().peers.remove(0).drops;
    assert_eq!(drops.get("too_big"), None);
}

fn keys() {
    let [a, b] = lan(Family::V4);
    let (ip_b, netns) = (b.ip, a.netns.name());
    let daemon = Daemon::start(&format!(
        "[vtep]\nlocal = \"{}\"\nnetns = \"{netns}\"\n\
         [[bridge]]\nname = \"ov0\"\nvni = 42\npeers = [\"{ip_b}\"]\n\
         [[bridge.port]]\nname = \"host\"\nifname = \"ov-life\"\naddresses = [\"10.9.9.1/24\"]\n",
        a.ip
    ));
    let b = Node::joined(b, &[a.ip]);
    let pod = b.pod_with("ov0", 2, |spec| {
        spec.addresses = vec!["10.9.9.2/24".parse().unwrap()];
    });
    pod.ping("10.9.9.1".parse().unwrap());

    let stats = daemon.json("stats");
    assert_eq!(stats["unaccounted"], 0);
    assert!(stats["ports"].is_array() && stats["vtep"].is_object());
    let shown = daemon.json("peer show");
    for peers in [&stats["peers"], &shown] {
        let peer = &peers[0];
        assert_eq!(peers.as_array().unwrap().len(), 1);
        assert_eq!((&peer["bridge"], &peer["vni"]), (&"ov0".into(), &42.into()));
        let ip = ip_b.to_string();
        assert_eq!((&peer["remote"], &peer["port"]), (&ip.into(), &4789.into()));
        assert_eq!(peer["mtu"], 1450);
        for way in ["rx", "tx"] {
            let [frames, bytes] = ["frames", "bytes"].map(|key| peer[way][key].as_u64().unwrap());
            assert!(frames > 0 && bytes >= 42 * frames, "{peer}");
        }
        assert!(peer["drops"].is_object());
    }
    let fdb = daemon.json("fdb show --remote 192.168.50.20");
    let entry = &fdb[0];
    assert_eq!(entry["remote"], ip_b.to_string());
    assert!(entry["port"].is_null() && entry["age_s"].is_number());
    assert_eq!(
        (&entry["state"], &entry["vlan"]),
        (&"learned".into(), &0.into())
    );
}
