//! Packets of pods that are too big for the path: their senders are told, and TCP never notices.

use std::{
    io::IoSlice,
    net::{IpAddr, SocketAddr},
};

use tapswitch::{
    control::api::Request,
    sys::{
        clock,
        udp::{UdpOptions, UdpSocket},
    },
};

use crate::{
    Test,
    common::wait_until,
    stream,
    world::{Family, Node, Pod, SECOND, SOON, lan, nstat, over_both},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &["ping"],
        "the_sender_of_a_packet_that_is_too_big_is_told_and_remembers",
        || over_both(told),
    ),
    (
        &[],
        "tcp_of_pods_that_believe_in_1500_flows_at_once_and_without_fragments",
        || over_both(tcp),
    ),
    (
        &[],
        "who_sends_datagrams_as_a_superframe_is_told_too",
        superframe,
    ),
    (&["ping"], "answers_can_be_switched_off", silenced),
];

/// Two nodes with a pod each, whose MTU was set to 1500 by somebody who does not count.
fn pair(family: Family) -> ([Node; 2], [Pod; 2]) {
    let [a, b] = lan(family);
    let (ip_a, ip_b) = (a.ip, b.ip);
    let (a, b) = (Node::new(a), Node::new(b));
    a.bridge("ov0", 42, &[ip_b], |spec| spec.mtu = Some(1500));
    b.bridge("ov0", 42, &[ip_a], |spec| spec.mtu = Some(1500));
    let pods = [a.pod("ov0", 1), b.pod("ov0", 2)];
    pods[0].ping(pods[1].v4());
    pods[0].ping(pods[1].v6());
    ([a, b], pods)
}

/// Packets to `node`'s peer that were too big.
fn too_big(node: &Node, peer: IpAddr) -> u64 {
    let drops = node.peer("ov0", peer).drops;
    drops.get("too_big").copied().unwrap_or(0)
}

fn told(family: Family) {
    let ([a, b], pods) = pair(family);
    let peer = b.host.ip;
    let mtu = 1500 - family.overhead();

    let (_, text) = pods[0].ping_of(pods[1].v4(), 1472);
    let expected = format!("Frag needed and DF set (mtu = {mtu})");
    assert!(text.contains(&expected), "{text}");
    assert_eq!(too_big(&a, peer), 1);
    let route = pods[0].netns.ip(&format!("route get {}", pods[1].v4()));
    assert!(route.contains(&format!("mtu {mtu}")), "{route}");
    // From now on its own stack knows, and nothing gets lost any more.
    let (_, text) = pods[0].ping_of(pods[1].v4(), 1472);
    assert!(text.contains(&format!("mtu={mtu}")), "{text}");
    let (arrived, text) = pods[0].ping_of(pods[1].v4(), mtu - 28);
    assert!(arrived, "{text}");
    assert_eq!(too_big(&a, peer), 1);

    let (_, text) = pods[0].ping_of(pods[1].v6(), 1452);
    let expected = format!("Packet too big: mtu={mtu}");
    assert!(text.contains(&expected), "{text}");
    assert_eq!(too_big(&a, peer), 2);
    let route = pods[0].netns.ip(&format!("-6 route get {}", pods[1].v6()));
    assert!(route.contains(&format!("mtu {mtu}")), "{route}");
    let (arrived, text) = pods[0].ping_of(pods[1].v6(), mtu - 48);
    assert!(arrived, "{text}");
    assert_eq!(too_big(&a, peer), 2);
    // In a pod nothing but its stack has been told: the path is what it was.
    assert_eq!(a.peer("ov0", peer).path_mtu, 1500);
    assert_eq!(pods[0].mtu(), 1500);
}

fn tcp(family: Family) {
    let ([a, b], pods) = pair(family);
    let fragments = || {
        let of = |node: &Node| {
            let netns = &node.host.netns;
            nstat(netns, "IpFragCreates") + nstat(netns, "Ip6FragCreates")
        };
        of(&a) + of(&b)
    };

    for address in [pods[1].v4(), pods[1].v6()] {
        let start = clock::now();
        stream::tcp(&pods[0].netns, &pods[1].netns, address, 65_536, 0x1ee7);
        let took = clock::now().since(start);
        // 8 MB. With each loss that waits for a timer it would be a matter of seconds.
        assert!(took < 2 * SECOND, "{family:?}, to {address}: {took:?}");
    }
    assert_eq!(fragments(), 0, "{family:?}");
    assert_eq!(stream::checksum_errors(&pods[1].netns), 0);
}

fn superframe() {
    let ([a, b], pods) = pair(Family::V4);
    // One that sets DF.
    let options = UdpOptions {
        local: SocketAddr::new(pods[0].v4(), 0),
        gro: false,
        ttl: 64,
        receive_buffer: 0,
        send_buffer: 0,
        no_checksum_tx: false,
        no_checksum6_rx: false,
        receives: true,
    };
    let socket = pods[0].netns.run(|| UdpSocket::bind(&options)).unwrap();
    let to = SocketAddr::new(pods[1].v4(), 9);
    let bytes = [0; 10 * 1472];
    socket
        .send(to, &[IoSlice::new(&bytes)], Some(1472), 0)
        .unwrap();

    wait_until("all of them are counted", SOON, || {
        too_big(&a, b.host.ip) == 10
    });
    wait_until("the sender knows", SOON, || {
        let route = pods[0].netns.ip(&format!("route get {}", pods[1].v4()));
        route.contains("mtu 1450")
    });
}

fn silenced() {
    let ([a, b], pods) = pair(Family::V4);
    let mut spec = a.vtep_spec();
    spec.too_big_answers = false;
    a.request(Request::VtepSet(spec));

    for (to, payload) in [(pods[1].v4(), 1472), (pods[1].v6(), 1452)] {
        let before = too_big(&a, b.host.ip);
        let (arrived, text) = pods[0].ping_of(to, payload);
        assert!(
            !arrived && !text.contains("mtu") && text.contains("100% packet loss"),
            "{text}"
        );
        assert_eq!(too_big(&a, b.host.ip), before + 1);
    }
    a.request(Request::VtepSet(a.vtep_spec()));
    wait_until("the sender is told again", SOON, || {
        pods[0].ping_of(pods[1].v4(), 1472).1.contains("mtu")
    });
}
