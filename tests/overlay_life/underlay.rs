//! What happens to the underlay while frames want to go over it.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use tapswitch::{
    config::PeerAddr,
    control::api::{Event, PeerState, Request, VtepState},
    sys::clock,
};

use crate::{
    Test,
    common::{Netns, wait_until},
    world::{
        Family, Host, Node, Pod, SECOND, SOON, add_address, is_of_peer, lan, over_both, routed, udp,
    },
};

pub(crate) const TESTS: &[Test] = &[
    (
        &["ping"],
        "the_overlay_heals_when_its_link_comes_back",
        || over_both(link_down),
    ),
    (
        &["ping"],
        "the_overlay_heals_when_its_address_comes_back",
        || over_both(address_gone),
    ),
    (
        &["ping"],
        "a_route_that_is_gone_costs_its_peer_only",
        || over_both(route_gone),
    ),
    (
        &["ping"],
        "an_endpoint_whose_namespace_was_made_anew_opens_again",
        netns_anew,
    ),
    (
        &[],
        "a_dead_peer_neither_delays_nor_loses_what_the_others_get",
        dead_peer,
    ),
];

fn pair(family: Family) -> ([Node; 2], [Pod; 2]) {
    let [a, b] = lan(family);
    // Otherwise IPv6 loses its addresses with the link, which is another test.
    for host in [&a, &b] {
        let keep = "/proc/sys/net/ipv6/conf/u0/keep_addr_on_down";
        host.netns.run(|| std::fs::write(keep, "1")).unwrap();
    }
    let (ip_a, ip_b) = (a.ip, b.ip);
    let (a, b) = (Node::joined(a, &[ip_b]), Node::joined(b, &[ip_a]));
    let pods = [a.pod("ov0", 1), b.pod("ov0", 2)];
    pods[0].ping(pods[1].v4());
    ([a, b], pods)
}

/// Pings from one pod to the other, and waits until it is answered, for at most a second.
#[track_caller]
fn heals(pods: &[Pod; 2]) {
    let to = pods[1].v4().to_string();
    wait_until("the overlay heals", SECOND, || {
        pods[0].output(&["ping", "-c", "1", "-W", "0.1", &to]).0
    });
}

fn link_down(family: Family) {
    let ([a, b], pods) = pair(family);
    let peer = b.host.ip;
    let mut events = a.events();

    a.host.netns.ip("link set u0 down");
    let (_, reason) = events.wait_for_peer("ov0", peer, "no route");
    assert!(reason.unwrap().contains("unreachable"));
    let info = a.peer("ov0", peer);
    assert_eq!(info.state, PeerState::NoRoute);
    assert!(info.reason.unwrap().contains("unreachable"));
    let lost = || a.peer("ov0", peer).drops.get("no_route").copied();
    let before = lost();
    let to = pods[1].v4().to_string();
    assert!(!pods[0].output(&["ping", "-c", "1", "-W", "0.1", &to]).0);
    assert!(lost() > before, "{family:?}: {:?}", lost());
    assert_eq!(a.vtep().state, VtepState::Up);

    a.host.netns.ip("link set u0 up");
    heals(&pods);
    events.wait_for_peer("ov0", peer, "route back");
    let info = a.peer("ov0", peer);
    assert_eq!((info.state, info.reason), (PeerState::Up, None));
    assert_eq!(pods[0].mtu(), 1500 - family.overhead());
}

fn address_gone(family: Family) {
    let ([a, b], pods) = pair(family);
    let (netns, ip) = (&a.host.netns, a.host.ip);
    // Its MTU comes from the device that has the address.
    a.bridge("lone", 43, &[], |_| {});
    let lone = a.pod("lone", 3);
    let mtu = 1500 - family.overhead();
    assert_eq!(lone.mtu(), mtu);
    let mut events = a.events();

    if family == Family::V6 {
        // There is a way even without it, and the kernel would take it with the address that is gone.
        let net = family.host(50, 0);
        netns.ip(&format!("-6 route add {net}/64 dev u0 metric 4096"));
    }
    netns.ip(&format!("address del {ip}/{} dev u0", family.prefix()));
    let (_, reason) = events.wait_for_peer("ov0", b.host.ip, "no route");
    assert_eq!(reason, Some(format!("no interface has our address {ip}")));
    assert_eq!(a.peer("ov0", b.host.ip).state, PeerState::NoRoute);
    assert_eq!(lone.mtu(), mtu, "nothing better is known");
    add_address(netns, "u0", ip, family);
    heals(&pods);
    events.wait_for_peer("ov0", b.host.ip, "route back");
    assert_eq!(a.peer("ov0", b.host.ip).state, PeerState::Up);
}

fn route_gone(family: Family) {
    let hosts: [Host; 3] = routed(family);
    let ips = hosts.each_ref().map(|host| host.ip);
    let [a, b, c] = hosts.map(|host| {
        let peers: Vec<_> = ips.into_iter().filter(|ip| *ip != host.ip).collect();
        Node::joined(host, &peers)
    });
    let pods = [a.pod("ov0", 1), b.pod("ov0", 2)];
    let other = c.pod("ov0", 3);
    pods[0].ping(pods[1].v4());
    pods[0].ping(other.v4());
    let mut events = a.events();

    let route = |verb| {
        let netns = &a.host.netns;
        netns.ip(&format!("route {verb} unreachable {}", b.host.ip));
    };
    route("add");
    let (_, reason) = events.wait_for_peer("ov0", b.host.ip, "no route");
    let reason = reason.unwrap();
    assert!(reason.starts_with("no route to host"), "{reason}");
    assert_eq!(a.peer("ov0", b.host.ip).reason, Some(reason));
    assert_eq!(a.peer("ov0", b.host.ip).state, PeerState::NoRoute);
    assert_eq!(a.peer("ov0", c.host.ip).state, PeerState::Up);
    pods[0].ping(other.v4());
    // What is flooded still gets to whom it can.
    pods[0].netns.ip("neigh flush dev eth0");
    pods[0].ping(other.v4());
    // A peer that comes without a way is there before it is without a way.
    let fourth = family.host(99, 99);
    a.host.netns.ip(&format!("route add unreachable {fourth}"));
    a.request(Request::PeerAdd {
        bridge: None,
        remote: PeerAddr::new(fourth),
    });
    let told = events.told();
    let changes = told.iter().filter_map(|event| match event {
        Event::Peer { remote, change, .. } if *remote == fourth.to_string() => Some(change),
        _ => None,
    });
    assert!(changes.eq(["added", "no route"]), "{told:?}");
    let of_other = |change| told.iter().any(|e| is_of_peer(e, "ov0", c.host.ip, change));
    assert!(!of_other("no route") && !of_other("mtu"), "{told:?}");

    route("del");
    heals(&pods);
    events.wait_for_peer("ov0", b.host.ip, "route back");
    assert_eq!(a.peer("ov0", b.host.ip).state, PeerState::Up);
}

fn netns_anew() {
    let ([a, b], pods) = pair(Family::V4);
    let (name, ip) = (a.host.netns.name().to_owned(), a.host.ip);
    a.bridge("lone", 43, &[], |_| {});
    let lone = a.pod("lone", 3);
    let mut events = a.events();
    let is_vtep = |event: &Event, wanted: &str| matches!(event, Event::Vtep { change, .. } if change == wanted);

    crate::common::ip(&format!("netns del {name}"));
    let event = events.wait_for("the endpoint goes", |event| is_vtep(event, "down"));
    let Event::Vtep { reason, .. } = event else {
        panic!("{event:?}");
    };
    assert!(reason.unwrap().contains(&name));
    let info = a.vtep();
    assert_eq!(info.state, VtepState::Down);
    let reason = info.reason.unwrap();
    assert!(
        reason.contains(&name) && reason.contains("ip netns add"),
        "{reason}"
    );
    assert_eq!(a.peer("ov0", b.host.ip).state, PeerState::Down);
    assert_eq!(a.peer("ov0", b.host.ip).reason, Some(reason));
    assert_eq!((pods[0].mtu(), lone.mtu()), (1450, 1450));
    // Nothing keeps the old one alive, and nothing goes wrong with frames.
    wait_until("the old cable is gone", SOON, || {
        !a.host.middle.links().contains(&a.host.port)
    });
    assert!(
        !pods[0]
            .output(&["ping", "-c", "1", "-W", "0.1", "10.1.1.2"])
            .0
    );

    let again = Netns::named(&name);
    wait_until("the reason is the present one", SOON, || {
        a.vtep().reason.is_some_and(|reason| {
            reason.contains(&format!("open vtep {ip}:4789")) && reason.contains("no interface")
        })
    });
    a.host.plug_in();
    let port = &a.host.port;
    a.host.middle.ip(&format!("link set {port} master lan"));
    events.wait_for("the endpoint returns", |event| is_vtep(event, "up"));
    let info = a.vtep();
    assert_eq!((info.state, info.reason), (VtepState::Up, None));
    heals(&pods);
    assert_eq!(a.peer("ov0", b.host.ip).state, PeerState::Up);
    assert_eq!((pods[0].mtu(), lone.mtu()), (1450, 1450));
    drop(again);
}

/// Sends numbered broadcasts from a pod, ten a millisecond, and returns how long it took.
fn flood(pod: &Pod, count: u32) -> Duration {
    let socket = udp(&pod.netns, SocketAddr::new(pod.v4(), 0));
    socket.set_broadcast(true).unwrap();
    let start = clock::now();
    for number in 0..count {
        if number % 10 == 0 {
            let due = Duration::from_micros(u64::from(number) * 100);
            thread::sleep(due.saturating_sub(clock::now().since(start)));
        }
        let to = "10.1.1.255:9000";
        socket.send_to(&number.to_be_bytes(), to).unwrap();
    }
    clock::now().since(start)
}

fn dead_peer() {
    let [a, b] = lan(Family::V4);
    let (ip_a, ip_b) = (a.ip, b.ip);
    // Before the one that lives, and behind it.
    let dead = [9, 99].map(|number| Family::V4.host(50, number));
    let peers = [dead[0], ip_b, dead[1]];
    let (a, b) = (Node::joined(a, &peers), Node::joined(b, &[ip_a]));
    let long = |spec: &mut tapswitch::config::PortSpec| spec.txqueuelen = 10_000;
    let pods = [a.pod_with("ov0", 1, long), b.pod_with("ov0", 2, long)];
    pods[0].ping(pods[1].v4());
    let ear: UdpSocket = udp(&pods[1].netns, "0.0.0.0:9000".parse().unwrap());
    ear.set_read_timeout(Some(SECOND)).unwrap();

    let count = 10_000;
    let listening = thread::spawn(move || {
        let mut heard = Vec::new();
        while heard.len() < count as usize {
            let mut bytes = [0; 4];
            if ear.recv(&mut bytes).is_err() {
                break;
            }
            heard.push(u32::from_be_bytes(bytes));
        }
        (heard, clock::now())
    });
    let took = flood(&pods[0], count);
    let sent = clock::now();
    let (heard, done) = listening.join().unwrap();

    assert!(took < 3 * SECOND, "the machine is too busy: {took:?}");
    let expected: Vec<u32> = (0..count).collect();
    assert!(heard == expected, "{} of {count} in order", heard.len());
    let late = done.since(sent);
    assert!(late < SECOND / 2, "the last one came {late:?} late");
    let live = a.peer("ov0", ip_b);
    assert!(
        live.tx.frames >= count.into() && live.drops.is_empty(),
        "{live:?}"
    );
    for ip in dead {
        assert!(a.peer("ov0", ip).tx.frames >= count.into());
    }
}
