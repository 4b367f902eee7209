//! The MTU inside the overlay: where it comes from, and that it follows the underlay.

use std::net::IpAddr;

use tapswitch::{
    config::{PeerAddr, Place, StaticSpec},
    control::api::{EntrySelector, Event, MtuChain, Request},
    sys::clock,
    wire::MacAddr,
};

use crate::{
    Test,
    common::wait_until,
    stream,
    world::{
        Daemon, Events, Family, Host, Node, Pod, SOON, add_address, is_of_peer, lan, name,
        over_both, routed,
    },
};

pub(crate) const TESTS: &[Test] = &[
    (&["ping"], "pods_get_the_mtu_that_the_path_leaves", || {
        over_both(auto);
    }),
    (
        &[],
        "the_mtu_follows_the_underlay_down_and_up_unless_it_was_given",
        || over_both(follows),
    ),
    (
        &["ping"],
        "a_narrow_link_behind_a_router_narrows_the_path_to_its_peer_only",
        || over_both(narrow),
    ),
    (
        &[],
        "the_narrowest_peer_counts_and_without_peers_the_device",
        narrowest,
    ),
    (
        &[],
        "ipv6_in_pods_survives_a_path_that_is_narrower_than_ipv6_allows",
        keeps_ipv6,
    ),
    (
        &[],
        "an_endpoint_that_moves_brings_the_mtu_of_its_new_place",
        moves,
    ),
    (
        &[],
        "a_pod_that_is_just_dying_does_not_keep_others_from_a_new_mtu",
        dying,
    ),
    (&[], "the_program_tells_how_the_mtu_comes_about", tells),
];

/// What the layers of the overlay take, as `show` lists it.
fn chain(family: Family, from: String, path_mtu: u32) -> MtuChain {
    let ip = match family {
        Family::V4 => ("outer IPv4", 20),
        Family::V6 => ("outer IPv6", 40),
    };
    let less = [ip, ("UDP", 8), ("VXLAN", 8), ("inner Ethernet", 14)];
    MtuChain {
        from,
        path_mtu,
        less: less.map(|(layer, len)| (layer.to_owned(), len)).into(),
        mtu: path_mtu - family.overhead(),
    }
}

fn auto(family: Family) {
    let mtu = match family {
        Family::V4 => 1450,
        Family::V6 => 1430,
    };
    let [a, b] = lan(family);
    let (ip_a, ip_b) = (a.ip, b.ip);
    let (a, b) = (Node::joined(a, &[ip_b]), Node::joined(b, &[ip_a]));
    let pods = [a.pod("ov0", 1), a.pod("ov0", 2), b.pod("ov0", 3)];

    for pod in &pods {
        assert_eq!(pod.mtu(), mtu, "{family:?}");
    }
    let info = a.bridge_info("ov0");
    assert_eq!(info.effective_mtu, mtu);
    let expected = chain(family, format!("path to {ip_b}"), 1500);
    assert_eq!(info.mtu_chain, Some(expected));
    let peer = a.peer("ov0", ip_b);
    assert_eq!((peer.mtu, peer.path_mtu), (mtu, 1500));
    // The longest packet gets there, and the pod's own stack refuses a longer one.
    pods[0].ping(pods[2].v4());
    let (arrived, text) = pods[0].ping_of(pods[2].v4(), mtu - 28);
    assert!(arrived, "{text}");
    let (arrived, text) = pods[0].ping_of(pods[2].v4(), mtu - 27);
    assert!(
        !arrived && text.contains(&format!("mtu={mtu}")),
        "{family:?}: {text}"
    );
    stream::udp(&pods[0].netns, &pods[2].netns, pods[2].v6());
    assert_eq!(a.peer("ov0", ip_b).drops.get("too_big"), None);
}

fn follows(family: Family) {
    let [a, b] = lan(family);
    let ip_b = b.ip;
    let a = Node::joined(a, &[ip_b]);
    a.bridge("ov1", 43, &[ip_b], |_| {});
    a.bridge("given", 44, &[ip_b], |spec| spec.mtu = Some(1400));
    let pods = [a.pod("ov0", 1), a.pod("ov1", 2), a.pod("given", 3)];
    let wide = 1500 - family.overhead();
    assert_eq!(pods.each_ref().map(Pod::mtu), [wide, wide, 1400]);
    let mut events = a.events();

    for path in [1400, 1500] {
        a.host.netns.ip(&format!("link set u0 mtu {path}"));
        let mtu = path - family.overhead();
        wait_until("the pods follow", SOON, || {
            pods.each_ref().map(Pod::mtu) == [mtu, mtu, 1400]
        });
        let expected = chain(family, format!("path to {ip_b}"), path);
        assert_eq!(a.bridge_info("ov0").mtu_chain, Some(expected));
        assert_eq!(a.bridge_info("given").mtu_chain, None);
        // Each peer is told of, though all of them are at the same address.
        let told = events.told();
        for bridge in ["ov0", "ov1", "given"] {
            let mtu = told
                .iter()
                .filter(|event| is_of_peer(event, bridge, ip_b, "mtu"));
            let mtu: Vec<_> = mtu.filter_map(mtu_of).collect();
            assert_eq!(mtu, [path], "{bridge}");
        }
        for port in ["pod1", "pod2", "pod3"] {
            let expected: &[u32] = if port == "pod3" { &[] } else { &[mtu] };
            let told: Vec<u32> = told
                .iter()
                .filter(|event| matches!(event, Event::Mtu { port: of, .. } if of.as_str() == port))
                .filter_map(mtu_of)
                .collect();
            assert_eq!(told, expected, "{port}");
        }
    }
}

fn mtu_of(event: &Event) -> Option<u32> {
    match event {
        Event::Peer { mtu, .. } => *mtu,
        Event::Mtu { mtu, .. } => Some(*mtu),
        _ => None,
    }
}

fn narrow(family: Family) {
    let hosts: [Host; 3] = routed(family);
    let ips = hosts.each_ref().map(|host| host.ip);
    let nodes = hosts.map(|host| {
        let peers: Vec<IpAddr> = ips.into_iter().filter(|ip| *ip != host.ip).collect();
        let node = Node::joined(host, &peers);
        let given = 1500 - family.overhead();
        node.bridge("given", 43, &peers, |spec| spec.mtu = Some(given));
        node
    });
    let [a, b, c] = &nodes;
    let auto = a.pod("ov0", 1);
    let pods = [a.pod("given", 2), b.pod("given", 3), c.pod("given", 4)];
    let (wide, small) = (1500 - family.overhead(), 1400 - family.overhead());
    pods[0].ping(pods[1].v4());
    pods[0].ping(pods[2].v4());
    let mut events = a.events();

    b.host.set_mtu(1400);
    // What is lost at the router at first, TCP sends again, and in time.
    let start = clock::now();
    let (from, to) = (&pods[0].netns, &pods[1].netns);
    stream::tcp(from, to, pods[1].v6(), 65_536, 0xface);
    stream::udp(from, to, pods[1].v6());
    let took = clock::now().since(start);
    assert!(took < SOON, "{family:?}: {took:?}");
    // The first one is lost at the router, which says so.
    wait_until("the router is heard", SOON, || {
        pods[0].ping_of(pods[1].v4(), wide - 28);
        a.peer("given", b.host.ip).path_mtu == 1400
    });
    assert_path(&mut events, b.host.ip, 1400);
    wait_until("the bridge follows", SOON, || auto.mtu() == small);
    let (arrived, text) = pods[0].ping_of(pods[1].v4(), wide - 28);
    let told = format!("mtu = {small}");
    let remembered = format!("mtu={small}");
    assert!(
        !arrived && (text.contains(&told) || text.contains(&remembered)),
        "{text}"
    );
    let (arrived, text) = pods[0].ping_of(pods[1].v4(), small - 28);
    assert!(arrived, "{text}");
    // Nobody else is any narrower.
    assert_eq!(a.peer("given", c.host.ip).path_mtu, 1500);
    assert_eq!(pods[0].mtu(), wide);
    let (arrived, text) = pods[0].ping_of(pods[2].v4(), wide - 28);
    assert!(arrived, "{text}");

    b.host.set_mtu(1500);
    // As after ten minutes without news (`mtu_expires`).
    a.host.netns.ip("route flush cache");
    a.host.netns.ip("-6 route flush cache");
    wait_until("the bridge follows", SOON, || auto.mtu() == wide);
    assert_path(&mut events, b.host.ip, 1500);
    pods[0].netns.ip("route flush cache");
    wait_until("long frames arrive", SOON, || {
        pods[0].ping_of(pods[1].v4(), wide - 28).0
    });
}

/// That both bridges have been told of a path, and of no other on the way.
#[track_caller]
fn assert_path(events: &mut Events, ip: IpAddr, path: u32) {
    let mut told = Vec::new();
    for bridge in ["ov0", "given"] {
        wait_until("the event of the peer", SOON, || {
            told.extend(events.told());
            told.iter()
                .any(|event| is_of_peer(event, bridge, ip, "mtu"))
        });
    }
    let paths = told.iter().filter(|event| {
        let is_it = |bridge| is_of_peer(event, bridge, ip, "mtu");
        is_it("ov0") || is_it("given")
    });
    let paths: Vec<_> = paths.filter_map(mtu_of).collect();
    assert_eq!(paths, [path, path]);
}

fn narrowest() {
    let [a, b] = lan(Family::V4);
    let ip_b = b.ip;
    let third = Family::V4.host(50, 99);
    a.netns.ip(&format!("route add {third} dev u0 mtu 1400"));
    let a = Node::joined(a, &[]);
    let pod = a.pod("ov0", 1);

    // Nobody listed: the device that frames will leave by.
    let expected = chain(Family::V4, "device u0".to_owned(), 1500);
    assert_eq!(a.bridge_info("ov0").mtu_chain, Some(expected));
    assert_eq!(pod.mtu(), 1450);
    let peer = |ip| Request::PeerAdd {
        bridge: None,
        remote: PeerAddr::new(ip),
    };
    a.request(peer(ip_b));
    assert_eq!(pod.mtu(), 1450);
    a.request(Request::FdbAdd(StaticSpec {
        bridge: name("ov0"),
        mac: MacAddr::new([2, 0, 0, 0, 9, 9]),
        vlan: 0,
        place: Place::Peer(PeerAddr::new(third)),
    }));
    let expected = chain(Family::V4, format!("path to {third}"), 1400);
    assert_eq!(a.bridge_info("ov0").mtu_chain, Some(expected));
    assert_eq!(pod.mtu(), 1350);
    assert_eq!(a.peer("ov0", ip_b).mtu, 1450);
    assert_eq!(a.peer("ov0", third).mtu, 1350);
    // A port that comes later gets it too, and one with an MTU of its own keeps that.
    let later = a.pod("ov0", 2);
    assert_eq!(later.mtu(), 1350);
    let own = a.pod_with("ov0", 3, |spec| spec.mtu = Some(1300));
    let mac = MacAddr::new([2, 0, 0, 0, 9, 9]);
    a.request(Request::FdbDel(EntrySelector::new(None, mac)));
    assert_eq!((pod.mtu(), later.mtu(), own.mtu()), (1450, 1450, 1300));
    assert!(a.find_peer("ov0", third).is_none());
}

fn keeps_ipv6() {
    let [a, b] = lan(Family::V4);
    let ip_b = b.ip;
    let route = |verb, mtu| format!("route {verb} {ip_b} dev u0 mtu {mtu}");
    a.netns.ip(&route("add", 1300));
    let a = Node::joined(a, &[ip_b]);
    let pod = a.pod("ov0", 1);

    assert_eq!(pod.mtu(), 1280);
    assert_eq!(a.peer("ov0", ip_b).mtu, 1250);
    a.host.netns.ip(&route("replace", 1200));
    wait_until("the path is narrower", SOON, || {
        a.peer("ov0", ip_b).mtu == 1150
    });
    assert_eq!(pod.mtu(), 1280);
    a.host.netns.ip(&route("del", 1200));
    wait_until("the pod follows", SOON, || pod.mtu() == 1450);
    let addresses = pod.netns.ip("-6 addr show dev eth0");
    assert!(addresses.contains(&pod.v6().to_string()), "{addresses}");
}

fn moves() {
    let [a, b] = lan(Family::V4);
    let other = Family::V4.host(50, 11);
    a.netns.ip("link add v0 type veth peer name v1");
    a.netns.ip("link set v1 up");
    add_address(&a.netns, "v0", other, Family::V4);
    a.netns.ip("link set v0 mtu 1400 up");
    let a = Node::joined(a, &[b.ip]);
    let pod = a.pod("ov0", 1);
    assert_eq!(pod.mtu(), 1450);

    // From that address another way is the best.
    let netns = &a.host.netns;
    netns.ip(&format!("rule add from {other} lookup 100"));
    netns.ip("route add default dev v0 table 100");
    let mut spec = a.vtep_spec();
    spec.local = other;
    a.request(Request::VtepSet(spec));
    assert_eq!(pod.mtu(), 1350);
    a.request(Request::VtepSet(a.vtep_spec()));
    assert_eq!(pod.mtu(), 1450);
}

fn dying() {
    let [a, b] = lan(Family::V4);
    let third = Family::V4.host(50, 99);
    a.netns.ip(&format!("route add {third} dev u0 mtu 1400"));
    let a = Node::joined(a, &[b.ip]);
    let remote = PeerAddr::new(third);
    let first = a.pod("ov0", 1);
    for _ in 0..10 {
        let dies = a.pod("ov0", 2);
        let last = a.pod("ov0", 3);
        dies.netns.delete();
        a.request(Request::PeerAdd {
            bridge: None,
            remote,
        });
        assert_eq!((first.mtu(), last.mtu()), (1350, 1350));
        a.request(Request::PeerDel {
            bridge: None,
            remote,
        });
        assert_eq!((first.mtu(), last.mtu()), (1450, 1450));
        for port in ["pod2", "pod3"] {
            a.request(Request::PortDel { name: name(port) });
        }
    }
}

fn tells() {
    let [a, b] = lan(Family::V4);
    let (ip_a, ip_b) = (a.ip, b.ip);
    let netns = a.netns.name();
    let daemon = Daemon::start(&format!(
        "[vtep]\nlocal = \"{ip_a}\"\nnetns = \"{netns}\"\n\
         [[bridge]]\nname = \"ov0\"\nvni = 42\npeers = [\"{ip_b}\"]\n\
         [[bridge.port]]\nname = \"host\"\nifname = \"ov-life\"\n"
    ));

    let shown = |path: u32| {
        format!(
            "  mtu {} = {path} (path to {ip_b}) - 20 (outer IPv4) - 8 (UDP) - 8 (VXLAN) - 14 (inner Ethernet)\n",
            path - 50
        )
    };
    let show = daemon.screen("show");
    assert!(show.contains(&shown(1500)), "{show}");
    let monitor = daemon.monitor();
    a.netns.ip("link set u0 mtu 1400");
    // The bridge's ports follow the peer.
    assert_eq!(
        monitor.next(" mtu on "),
        format!("peer {ip_b} mtu on ov0, mtu 1400")
    );
    assert_eq!(monitor.next("of port"), "mtu of port host is 1350");
    let show = daemon.screen("show");
    assert!(show.contains(&shown(1400)), "{show}");
    // What would take IPv6 away from pods is not done, and the sum says so.
    a.netns.ip(&format!("route add {ip_b} dev u0 mtu 1300"));
    let floor = format!(
        "  mtu 1280 = 1300 (path to {ip_b}) - 20 (outer IPv4) - 8 (UDP) - 8 (VXLAN) - 14 (inner Ethernet), but at least 1280\n"
    );
    wait_until("the path is narrower", SOON, || {
        daemon.screen("show").contains(&floor)
    });
}
