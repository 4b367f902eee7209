//! Remote VTEPs that nobody listed.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use tapswitch::{
    config::Accept,
    control::api::{FdbState, PeerKind},
    sim::frames,
    sys::clock,
    vxlan,
    wire::{MacAddr, Vni},
};

use crate::{
    Test,
    common::wait_until,
    world::{Family, Host, Node, SECOND, SOON, lan, udp},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &["ping"],
        "who_sends_becomes_a_peer_where_anybody_may_send",
        anybody,
    ),
    (
        &[],
        "who_is_not_listed_is_dropped_where_only_peers_may_send",
        only_peers,
    ),
    (&[], "there_is_a_bound_for_strangers", bounded),
    (
        &[],
        "a_stranger_that_nothing_is_behind_goes_after_the_ageing_time",
        goes,
    ),
];

/// A remote VTEP made by hand.
struct Vtep {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Vtep {
    fn new(host: &Host, to: IpAddr) -> Self {
        let socket = udp(&host.netns, SocketAddr::new(host.ip, vxlan::PORT));
        socket.set_read_timeout(Some(SECOND / 2)).unwrap();
        Self {
            socket,
            to: SocketAddr::new(to, vxlan::PORT),
        }
    }

    fn send(&self, frame: &[u8]) {
        self.socket.send_to(&datagram(frame), self.to).unwrap();
    }

    /// The next inner frame that comes from `src`.
    fn receive_from(&self, src: MacAddr) -> Option<Vec<u8>> {
        let mut buf = [0; 2048];
        loop {
            let len = self.socket.recv(&mut buf).ok()?;
            let (_, frame) = vxlan::parse(&buf[..len]).unwrap();
            if frame[6..12] == src.octets() {
                return Some(frame.to_vec());
            }
        }
    }
}

fn datagram(frame: &[u8]) -> Vec<u8> {
    [&vxlan::header(Vni::new(42).unwrap())[..], frame].concat()
}

/// A node that takes datagrams from anybody, and lists nobody.
fn open_node(host: Host) -> Node {
    let node = Node::with(host, |spec| spec.accept = Accept::Any);
    node.bridge("ov0", 42, &[], |_| {});
    node
}

fn anybody() {
    let [a, b] = lan(Family::V4);
    let stranger = Vtep::new(&b, a.ip);
    let a = open_node(a);
    let pod = a.pod("ov0", 1);
    let mut events = a.events();
    assert_eq!(pod.mtu(), 1450, "the MTU of the device counts");

    stranger.send(&frames::broadcast(frames::mac(9)));
    events.wait_for_peer("ov0", b.ip, "added");
    let peer = a.peer("ov0", b.ip);
    assert_eq!(
        (peer.kind, peer.port, peer.mtu),
        (PeerKind::Learned, 4789, 1450)
    );
    // Its first frame was forwarded all the same.
    assert!(a.port(&pod).tx.frames > 0);
    assert_eq!(peer.fdb_entries, 0);
    stranger.send(&frames::broadcast(frames::mac(9)));
    wait_until("its address is learned", SOON, || {
        a.peer("ov0", b.ip).fdb_entries == 1
    });
    let entry = a
        .fdb()
        .into_iter()
        .find(|entry| entry.mac == frames::mac(9));
    let entry = entry.unwrap();
    assert_eq!(entry.remote, Some(b.ip.to_string()));
    assert_eq!((entry.port, entry.state), (None, FdbState::Learned));

    // What is for that address goes there.
    let lladdr = frames::mac(9);
    pod.netns
        .ip(&format!("neigh add 10.1.1.9 lladdr {lladdr} dev eth0"));
    pod.output(&["ping", "-c", "1", "-W", "0.1", "10.1.1.9"]);
    let frame = stranger.receive_from(a.port(&pod).mac).expect("a frame");
    assert_eq!(frame[..6], lladdr.octets());
    // What is flooded does not.
    pod.output(&["ping", "-c", "1", "-W", "0.1", "10.1.1.77"]);
    assert_eq!(stranger.receive_from(a.port(&pod).mac), None);
    assert_eq!(a.peer("ov0", b.ip).rx.frames, 1);
}

fn only_peers() {
    let [a, b, c] = lan(Family::V4);
    let (listed, stranger) = (Vtep::new(&b, a.ip), Vtep::new(&c, a.ip));
    let a = Node::joined(a, &[b.ip]);
    let pod = a.pod("ov0", 1);
    let before = a.port(&pod).tx.frames;

    for _ in 0..5 {
        stranger.send(&frames::broadcast(frames::mac(9)));
    }
    listed.send(&frames::broadcast(frames::mac(8)));
    wait_until("they have arrived", SOON, || {
        a.vtep().drops.get("unknown_peer") == Some(&5) && a.peer("ov0", b.ip).rx.frames == 1
    });
    assert_eq!(a.vtep().rx.frames, 5);
    assert_eq!(a.port(&pod).tx.frames, before + 1);
    assert!(a.find_peer("ov0", c.ip).is_none());
    assert!(a.fdb().iter().all(|entry| entry.mac != frames::mac(9)));
}

fn bounded() {
    let [a, b] = lan(Family::V4);
    let to = SocketAddr::new(a.ip, vxlan::PORT);
    // A host that has as many addresses as it likes.
    b.netns.ip("route add local 10.99.0.0/16 dev lo");
    a.netns.ip(&format!("route add 10.99.0.0/16 via {}", b.ip));
    let fds = crate::common::open_fds();
    let a = open_node(a);
    let start = clock::now();
    let bytes = datagram(&frames::broadcast(frames::mac(9)));
    b.netns.run(|| {
        for number in 0..1200_u16 {
            let [high, low] = number.to_be_bytes();
            let source = SocketAddr::from(([10, 99, high, low], 0));
            let socket = UdpSocket::bind(source).unwrap();
            socket.send_to(&bytes, to).unwrap();
            if number % 64 == 0 {
                // Else most would be lost in the queue of news.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let count = || a.stats().peers.len();
    let mut resent = 0;
    wait_until("there are as many as there may be", 5 * SECOND, || {
        // Those that were lost are heard again.
        b.netns.run(|| {
            for number in 0..100_u16 {
                let [high, low] = (resent + number).to_be_bytes();
                let socket = UdpSocket::bind(SocketAddr::from(([10, 99, high, low], 0))).unwrap();
                socket.send_to(&bytes, to).unwrap();
            }
        });
        resent = (resent + 100) % 1200;
        count() >= 1024
    });
    let took = clock::now().since(start);
    assert!(took < 5 * SECOND, "{took:?}");
    assert_eq!(count(), 1024);
    // Strangers cost no descriptors, of which there may be no more than that.
    let more = crate::common::open_fds() - fds;
    assert!(more < 64, "{more} descriptors");
    // Whoever is one too many is heard all the same.
    let drops = a.vtep().drops;
    assert!(
        drops.keys().all(|reason| reason == "no_egress"),
        "{drops:?}"
    );
}

fn goes() {
    let [a, b, c] = lan(Family::V4);
    let (first, second) = (Vtep::new(&b, a.ip), Vtep::new(&c, a.ip));
    let a = open_node(a);
    let pod = a.pod("ov0", 1);
    let says = |vtep: &Vtep, ip, mac| {
        wait_until("a frame is learned", SOON, || {
            vtep.send(&frames::unicast(mac, a.port(&pod).mac));
            let peer = a.find_peer("ov0", ip);
            let age = a.fdb().into_iter().find(|entry| entry.mac == mac);
            peer.is_some() && age.is_some_and(|entry| entry.age_s < 10.0)
        });
    };
    says(&first, b.ip, frames::mac(8));
    says(&second, c.ip, frames::mac(9));
    let mut events = a.events();

    // Twice the ageing time, in which one of them goes on talking.
    for _ in 0..3 {
        a.switch.clock().warp(Duration::from_secs(200));
        says(&second, c.ip, frames::mac(9));
        a.switch.age();
    }
    events.wait_for_peer("ov0", b.ip, "deleted");
    assert!(a.find_peer("ov0", b.ip).is_none());
    assert_eq!(a.peer("ov0", c.ip).fdb_entries, 1);
    assert!(a.fdb().iter().all(|entry| entry.mac != frames::mac(8)));
    // It may come again.
    says(&first, b.ip, frames::mac(8));
    assert_eq!(a.peer("ov0", b.ip).kind, PeerKind::Learned);
}
