//! More than two pods: many segments, many machines, and peers that come and go.

use std::{
    fs,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use libtest_mimic::Trial;
use tapswitch::{
    config::{Accept, BridgeSpec, OffloadMode, PeerAddr, Place, PortSpec, StaticSpec, VtepSpec},
    control::api::{PeerKind, Request},
    names::{IfName, Name},
    wire::MacAddr,
};

use crate::{
    common::{Env, Netns, succeeded},
    matrix::{assert_none, longest_ping, refuses},
    traffic::{Capture, Ear, Stream, call, ping, reaches, tcp, tell},
    vtep::{Kernel, Ours, Vtep, bridge_name},
    world::{Family, Node, Pod, nodes, nstat},
};

/// Programs that it runs, its name, and itself.
type Test = (&'static [&'static str], &'static str, fn());

pub(crate) fn trials(env: &Env) -> Vec<Trial> {
    let tests: &[Test] = &[
        (
            &[],
            "segments_of_one_endpoint_do_not_meet_although_their_addresses_are_the_same",
            || segments_do_not_meet(Family::V4, |node| Box::new(Kernel::new(node))),
        ),
        (
            &[],
            "segments_between_two_tapswitches_do_not_meet_either",
            || segments_do_not_meet(Family::V6, |node| Box::new(ours(node))),
        ),
        (
            &[],
            "two_daemons_on_one_machine_are_peers_of_each_other_and_of_the_kernel",
            two_daemons,
        ),
        (
            &[],
            "static_entries_alone_carry_a_network_that_floods_nothing",
            statics_alone,
        ),
        (
            &[],
            "peers_come_and_go_and_the_others_do_not_notice",
            peers_come_and_go,
        ),
        (
            &[],
            "a_kernel_that_is_no_peer_is_heard_only_where_anybody_may_send",
            anybody_may_send,
        ),
        (
            &[],
            "what_three_machines_flood_arrives_once_on_each",
            || three_machines(Family::V4),
        ),
        (
            &[],
            "what_three_machines_flood_over_ipv6_arrives_once_on_each",
            || three_machines(Family::V6),
        ),
        (
            &["ping"],
            "pods_with_the_mtu_of_the_underlay_are_cut_here_and_in_fragments_there",
            mtu_of_the_underlay,
        ),
    ];
    tests
        .iter()
        .map(|&(programs, name, body)| env.trial_with(programs, name, body))
        .collect()
}

const VNI: u32 = 42;

fn ours(node: &Node) -> Ours {
    Ours::start(node, OffloadMode::On, |_| {})
}

fn segments_do_not_meet(family: Family, start: fn(&Node) -> Box<dyn Vtep + '_>) {
    const VNIS: [u32; 6] = [0, 1, 42, 43, 4096, 0xff_ffff];
    let nodes = nodes::<2>(family);
    let [here, there] = &nodes;
    let first = ours(here);
    let second = start(there);
    let pods = VNIS.map(|vni| {
        first.segment(vni, &[there.ip]);
        second.segment(vni, &[here.ip]);
        [first.pod(vni, 1), second.pod(vni, 2)]
    });
    assert_eq!(receivers(&here.netns), 1, "one socket for all");

    let ears = pods.each_ref().map(|[_, there]| Ear::new(there));
    for ([from, to], vni) in pods.iter().zip(VNIS) {
        ping_all(from, to);
        ping_all(to, from);
        for over_v6 in [false, true] {
            call(from, &format!("all of {vni}"), over_v6);
        }
    }
    for (([from, to], vni), ear) in pods.iter().zip(VNIS).zip(&ears) {
        for (address, over_v6) in to.addresses().into_iter().zip([false, true]) {
            tell(from, address, "you");
            assert_eq!(ear.until("you", over_v6), [format!("all of {vni}")]);
        }
    }
    thread::scope(|scope| {
        for ([from, to], vni) in pods.iter().zip(VNIS) {
            let stream = Stream {
                len: 1 << 19,
                seed: vni.into(),
                mss: None,
            };
            scope.spawn(move || tcp(from, to, to.v4(), stream));
            scope.spawn(move || tcp(to, from, from.v6(), stream));
        }
    });
    for ear in &ears {
        assert_eq!(ear.rest(), Vec::<String>::new());
    }
    for vni in VNIS {
        let entries = first.fdb();
        let of_vni = entries.iter().filter(|e| e.bridge == bridge_name(vni));
        let behind = of_vni.filter(|entry| entry.mac == pods[0][1].mac());
        let remotes: Vec<_> = behind.map(|entry| entry.remote.clone()).collect();
        assert_eq!(remotes, [Some(there.ip.to_string())], "VNI {vni}");
    }
    assert_clean(&nodes, pods.as_flattened());
}

fn two_daemons() {
    let nodes = nodes::<2>(Family::V4);
    let [here, there] = &nodes;
    let other_ip: IpAddr = here.family.node(11);
    here.own("u0", other_ip);
    let one = ours(here);
    let two = Ours::start(here, OffloadMode::On, |spec| spec.local = other_ip);
    let kernel = Kernel::new(there);
    one.segment(VNI, &[other_ip, there.ip]);
    two.segment(VNI, &[here.ip, there.ip]);
    kernel.segment(VNI, &[here.ip, other_ip]);
    let pods = [one.pod(VNI, 1), two.pod(VNI, 2), kernel.pod(VNI, 3)];

    each_hears_each_once(&pods);
    let inside = one.peer(VNI, other_ip).unwrap();
    assert!(inside.path_mtu > 1500, "{inside:?}");
    for (seed, (from, to)) in (0..).zip([(0, 1), (1, 0), (0, 2), (2, 1)]) {
        let stream = Stream {
            len: 4 << 20,
            seed,
            mss: None,
        };
        for address in pods[to].addresses() {
            tcp(&pods[from], &pods[to], address, stream);
        }
    }
    assert_clean(&nodes, &pods);
}

/// As flannel does it: an interface on each machine, behind which is a subnet of pods; addresses
/// are resolved and placed by hand.
fn statics_alone() {
    let nodes = nodes::<2>(Family::V4);
    let [here, there] = &nodes;
    let first = Ours::start(here, OffloadMode::On, |spec| spec.port = 8472);
    first.bridge(1, |spec| spec.peer_learning = false);
    let mac = |node: &Node| MacAddr::new([2, 0, 0, 0, 1, node.number]);
    let mut port = PortSpec::new(Name::new("flannel.1").unwrap(), bridge_name(1));
    port.netns = Some(here.netns.reference());
    port.ifname = Some(IfName::new("flannel.1").unwrap());
    port.mac = Some(mac(here));
    first.request(Request::PortAdd(port));
    first.request(Request::FdbAdd(StaticSpec {
        bridge: bridge_name(1),
        mac: mac(there),
        vlan: 0,
        place: Place::Peer(PeerAddr::new(there.ip)),
    }));
    let kernel = Kernel {
        port: 8472,
        ..Kernel::new(there)
    };
    kernel.vxlan(1, "nolearning");
    there.netns.ip(&format!(
        "link set vx1 name flannel.1 address {}",
        mac(there)
    ));
    there.netns.ip("link set flannel.1 addrgenmode none up");
    let append = format!(
        "bridge fdb append {} dev flannel.1 dst {}",
        mac(here),
        here.ip
    );
    let words: Vec<&str> = append.split_whitespace().collect();
    succeeded(&append, Ok(there.netns.exec(&words)));

    let pods = [(here, there), (there, here)].map(|(node, other)| {
        let (number, far) = (node.number, other.number);
        let netns = &node.netns;
        netns.ip(&format!("addr add 10.244.{number}.0/32 dev flannel.1"));
        netns.ip(&format!(
            "route add 10.244.{far}.0/24 via 10.244.{far}.0 dev flannel.1 onlink"
        ));
        netns.ip(&format!(
            "neigh add 10.244.{far}.0 lladdr {} dev flannel.1 nud permanent",
            mac(other)
        ));
        let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        netns.run(forward).unwrap();
        let pod = Pod::new(number);
        pod.cable(netns, "cni0", 1450);
        netns.ip(&format!("addr add 10.244.{number}.1/24 dev cni0"));
        pod.netns
            .ip(&format!("addr add 10.244.{number}.2/24 dev eth0"));
        pod.netns
            .ip(&format!("route add 10.244.0.0/16 via 10.244.{number}.1"));
        pod
    });
    let address = |pod: &Pod| IpAddr::from([10, 244, pod.number, 2]);
    for (from, to) in [(0, 1), (1, 0)] {
        let (from, to) = (&pods[from], &pods[to]);
        ping(from, address(to));
        let stream = Stream {
            len: 8 << 20,
            seed: to.number.into(),
            mss: None,
        };
        tcp(from, to, address(to), stream);
    }
    // Nobody gets what is for everybody.
    let peer = first.peer(1, there.ip).unwrap();
    assert_eq!(peer.kind, PeerKind::Static);
    let no_egress = first.drops("no_egress");
    here.netns.exec(&[
        "ping",
        "-c",
        "1",
        "-W",
        "0.1",
        "-I",
        "flannel.1",
        "10.9.9.9",
    ]);
    assert_eq!(first.drops("no_egress"), no_egress + 1);
    assert_eq!(first.peer(1, there.ip).unwrap().tx, peer.tx);
    assert_clean(&nodes, &pods);
}

fn peers_come_and_go() {
    let nodes = nodes::<3>(Family::V4);
    let [here, stays, comes] = &nodes;
    let first = ours(here);
    let second = Kernel::new(stays);
    let third = ours(comes);
    first.segment(VNI, &[stays.ip]);
    second.segment(VNI, &[here.ip]);
    third.segment(VNI, &[here.ip]);
    let pods = [first.pod(VNI, 1), second.pod(VNI, 2), third.pod(VNI, 3)];
    let [pod, staying, coming] = &pods;
    ping(pod, staying.v4());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 0;
            while !is_over.load(Ordering::Relaxed) {
                seed += 1;
                let stream = Stream {
                    len: 1 << 20,
                    seed,
                    mss: None,
                };
                tcp(pod, staying, staying.v4(), stream);
                tcp(staying, pod, pod.v6(), stream);
            }
        });
        let over = Over(&is_over);
        let remote = PeerAddr::new(comes.ip);
        for _ in 0..10 {
            let bridge = Some(bridge_name(VNI));
            // What it sends in between is nobody's, and that is counted.
            let strange = first.drops("unknown_peer");
            let soon = Duration::from_millis(50);
            reaches(coming, pod.v4(), soon).expect_err("no peer");
            assert!(first.drops("unknown_peer") > strange);

            first.request(Request::PeerAdd {
                bridge: bridge.clone(),
                remote,
            });
            ping(coming, pod.v4());
            ping(pod, coming.v6());
            let is_behind = |entry: &tapswitch::control::api::FdbInfo| {
                entry.remote.as_deref() == Some(&*comes.ip.to_string())
            };
            assert!(first.fdb().iter().any(is_behind));

            first.request(Request::PeerDel { bridge, remote });
            assert!(!first.fdb().iter().any(is_behind));
            assert!(first.peer(VNI, comes.ip).is_none());
        }
        drop(over);
    });
    assert_clean(&nodes, &pods);
}

/// Says so when it is dropped, however that happens.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn anybody_may_send() {
    let nodes = nodes::<2>(Family::V4);
    let [here, there] = &nodes;
    let first = ours(here);
    let kernel = Kernel::new(there);
    first.segment(VNI, &[]);
    kernel.segment(VNI, &[here.ip]);
    let pods = [first.pod(VNI, 1), kernel.pod(VNI, 2)];
    let [pod, stranger] = &pods;

    reaches(stranger, pod.v4(), Duration::from_millis(100)).expect_err("a stranger");
    assert!(first.drops("unknown_peer") > 0);
    assert!(first.peer(VNI, there.ip).is_none());

    let mut spec = first.switch.spec().vtep.unwrap();
    spec.accept = Accept::Any;
    first.request(Request::VtepSet(spec));
    for address in pod.addresses() {
        ping(stranger, address);
    }
    for address in stranger.addresses() {
        ping(pod, address);
    }
    let peer = first.peer(VNI, there.ip).unwrap();
    assert_eq!(peer.kind, PeerKind::Learned);
    for (seed, (from, to)) in (0..).zip([(pod, stranger), (stranger, pod)]) {
        let stream = Stream {
            len: 4 << 20,
            seed,
            mss: None,
        };
        tcp(from, to, to.v4(), stream);
    }
    // A stranger gets what is for it, and nothing that is for all.
    let ear = Ear::new(stranger);
    call(pod, "everybody", false);
    tell(pod, stranger.v4(), "you");
    assert_eq!(ear.until("you", false), Vec::<String>::new());
    assert_clean(&nodes, &pods);
}

fn three_machines(family: Family) {
    let nodes = nodes::<3>(family);
    let [a, b, c] = &nodes;
    let (first, second, third) = (ours(a), Kernel::new(b), ours(c));
    first.segment(VNI, &[b.ip, c.ip]);
    second.segment(VNI, &[a.ip, c.ip]);
    third.segment(VNI, &[a.ip, b.ip]);
    let pods = [
        first.pod(VNI, 1),
        second.pod(VNI, 2),
        third.pod(VNI, 3),
        first.pod(VNI, 4),
    ];
    each_hears_each_once(&pods);
    assert_clean(&nodes, &pods);
}

/// Broadcast, multicast and unknown unicast of each pod arrive once at each of the others.
fn each_hears_each_once(pods: &[Pod]) {
    let nobody = MacAddr::new([2, 0, 0, 0, 0, 99]);
    for from in pods {
        from.netns.ip(&format!(
            "neigh add 10.1.1.99 lladdr {nobody} dev eth0 nud permanent"
        ));
    }
    for from in pods {
        let others: Vec<&Pod> = pods
            .iter()
            .filter(|pod| pod.number != from.number)
            .collect();
        for to in &others {
            ping_all(from, to);
        }
        let ears: Vec<_> = others
            .iter()
            .map(|pod| (Ear::new(pod), Capture::new(pod)))
            .collect();
        call(from, "everybody", false);
        call(from, "everybody", true);
        tell(from, "10.1.1.99".parse().unwrap(), "nobody");
        for (to, (ear, capture)) in others.iter().zip(&ears) {
            for (address, over_v6) in to.addresses().into_iter().zip([false, true]) {
                tell(from, address, "you");
                let heard = ear.until("you", over_v6);
                assert_eq!(heard, ["everybody"], "{} to {}", from.number, to.number);
            }
            assert_eq!(
                capture.frames_to(nobody),
                1,
                "{} to {}",
                from.number,
                to.number
            );
        }
        for (ear, _) in &ears {
            assert_eq!(ear.rest(), Vec::<String>::new(), "from {}", from.number);
        }
    }
}

/// The sender's kernel cuts nothing: our end cuts segments of TCP to fit, and the kernel's end makes
/// outer fragments of them.
fn mtu_of_the_underlay() {
    let nodes = nodes::<2>(Family::V4);
    let [here, there] = &nodes;
    let first = ours(here);
    let kernel = Kernel::new(there);
    first.bridge(VNI, |spec: &mut BridgeSpec| {
        spec.mtu = Some(1500);
        spec.peers = vec![PeerAddr::new(there.ip)];
    });
    kernel.segment(VNI, &[here.ip]);
    there.netns.ip("link set vx42 mtu 1500");
    let pods = [first.pod(VNI, 1), kernel.pod(VNI, 2)];
    let [pod, far] = &pods;
    there.netns.ip("link set v42p2 mtu 1500");
    far.netns.ip("link set eth0 mtu 1500");
    for (seed, (from, to)) in (0..).zip([(pod, far), (far, pod)]) {
        for address in to.addresses() {
            ping(from, address);
            let stream = Stream {
                len: 4 << 20,
                seed,
                mss: None,
            };
            tcp(from, to, address, stream);
        }
    }
    assert_none(&here.netns, |key| key.ends_with("FragCreates"));
    assert!(
        nstat(&there.netns)["IpFragCreates"] > 0,
        "the kernel made none"
    );
    for (count, address) in (1..).zip(far.addresses()) {
        refuses(pod, address, longest_ping(address, 1500), 1450);
        assert_eq!(first.drops("too_big"), count);
    }
    assert_none(&pod.netns, |key| key.ends_with("InCsumErrors"));
    assert_none(&far.netns, |key| key.ends_with("InCsumErrors"));
}

/// Over IPv4 and IPv6.
#[track_caller]
fn ping_all(from: &Pod, to: &Pod) {
    for address in to.addresses() {
        ping(from, address);
    }
}

/// Nothing was damaged or fragmented.
#[track_caller]
fn assert_clean(nodes: &[Node], pods: &[Pod]) {
    for pod in pods {
        assert_none(&pod.netns, |key| key.ends_with("InCsumErrors"));
    }
    for node in nodes {
        assert_none(&node.netns, |key| {
            key.ends_with("InCsumErrors") || key.ends_with("FragCreates")
        });
    }
}

/// How many sockets have the VXLAN port.
fn receivers(netns: &Netns) -> usize {
    let count = |file| {
        let table = netns.run(|| fs::read_to_string(file)).unwrap();
        let port = format!(":{:04X} ", VtepSpec::DEFAULT_PORT);
        // The second column is the local address.
        let has_it = |line: &&str| {
            line.split(": ")
                .nth(1)
                .is_some_and(|row| row.contains(&port))
        };
        table.lines().filter(has_it).count()
    };
    count("/proc/thread-self/net/udp") + count("/proc/thread-self/net/udp6")
}
