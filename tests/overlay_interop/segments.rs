//! More than two pods: many segments, many machines, and peers that come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    vxlan,
    wire::MacAddr,
};

use crate::{
    common::{Env, Netns, succeeded},
    matrix::{assert_none, longest_ping, refuses},
    traffic::{Capture, Ear, Stream, call, datagrams, ping, reaches, tcp, tell},
    vtep::{Kernel, Ours, Vtep, bridge_name},
    world::{Family, Node, Pod, nodes, nstat, without_offloads},
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
        (
            &["ethtool"],
            "outer_packets_are_what_routers_and_other_endpoints_expect",
            outer_packets,
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

    let pods =
        [(here, there), (there, here)].map(|(node, other)| flannel_pod(node, other, mac(other)));
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
    assert!(first.drops("no_egress") > no_egress);
    assert_eq!(first.peer(1, there.ip).unwrap().tx, peer.tx);
    assert_clean(&nodes, &pods);
}

/// A pod in the subnet of `node`, which knows the way to that of `other` and the interface there.
fn flannel_pod(node: &Node, other: &Node, mac: MacAddr) -> Pod {
    let (number, far) = (node.number, other.number);
    let netns = &node.netns;
    netns.ip(&format!("addr add 10.244.{number}.0/32 dev flannel.1"));
    netns.ip(&format!(
        "route add 10.244.{far}.0/24 via 10.244.{far}.0 dev flannel.1 onlink"
    ));
    netns.ip(&format!(
        "neigh add 10.244.{far}.0 lladdr {mac} dev flannel.1 nud permanent"
    ));
    let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    netns.run(forward).unwrap();
    let pod = Pod::new(number);
    pod.cable(netns, "cni0", node.family.overlay_mtu());
    netns.ip(&format!("addr add 10.244.{number}.1/24 dev cni0"));
    pod.netns
        .ip(&format!("addr add 10.244.{number}.2/24 dev eth0"));
    pod.netns
        .ip(&format!("route add 10.244.0.0/16 via 10.244.{number}.1"));
    pod
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
            assert!(first.fdb().iter().all(|entry| entry.mac != coming.mac()));
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
            .map(|pod| (Ear::new(pod), Capture::on(&pod.netns)))
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

/// We cut segments of TCP so that they fit; the kernel's end makes outer fragments of what it may
/// fragment.
fn mtu_of_the_underlay() {
    let nodes = nodes::<2>(Family::V4);
    let [here, there] = &nodes;
    let first = ours(here);
    let kernel = Kernel {
        mtu: Some(1500),
        ..Kernel::new(there)
    };
    first.bridge(VNI, |spec: &mut BridgeSpec| {
        spec.mtu = Some(1500);
        spec.peers = vec![PeerAddr::new(there.ip)];
    });
    kernel.segment(VNI, &[here.ip]);
    let pods = [first.pod(VNI, 1), kernel.pod(VNI, 2)];
    let [pod, far] = &pods;
    // It sets no DF.
    let forget = || fs::write("/proc/sys/net/ipv4/ip_no_pmtu_disc", "1");
    far.netns.run(forget).unwrap();
    datagrams(far, pod, pod.v4(), 1500, 0);
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
    assert!(nstat(&there.netns)["IpFragCreates"] > 0);
    assert_none(&here.netns, |key| key.ends_with("ReasmFails"));
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

fn outer_packets() {
    let nodes = nodes::<2>(Family::V4);
    let [here, there] = &nodes;
    // Each packet by itself.
    without_offloads(&here.netns, "u0");
    let first = ours(here);
    let kernel = Kernel::new(there);
    first.segment(VNI, &[there.ip]);
    kernel.segment(VNI, &[here.ip]);
    let pods = [first.pod(VNI, 1), kernel.pod(VNI, 2)];
    let [pod, far] = &pods;
    ping_all(pod, far);
    let capture = Capture::on(&there.netns);
    for round in 0..8 {
        tell(pod, far.v4(), "a flow");
        let stream = Stream {
            len: 50_000,
            seed: round,
            mss: None,
        };
        tcp(pod, far, far.v6(), stream);
    }
    let mut ports = BTreeMap::new();
    for frame in capture.frames() {
        // From us over UDP to the port of VXLAN; all else is ARP, answers, and the inner frames.
        if frame.get(12..14) != Some(&[8, 0]) || frame[26..30] != [192, 168, 50, here.number] {
            continue;
        }
        let frame = &frame[14..];
        assert_eq!(frame[0], 0x45, "no options");
        assert_eq!(frame[6..8], [0x40, 0], "DF, and no fragment");
        assert_eq!(frame[8..10], [64, 17], "TTL, UDP");
        assert!(frame.len() <= 1500);
        let udp = &frame[20..];
        let source = u16::from_be_bytes([udp[0], udp[1]]);
        assert!(
            vxlan::SOURCE_PORTS.contains(&source),
            "source port {source}"
        );
        assert_eq!(udp[2..4], VtepSpec::DEFAULT_PORT.to_be_bytes());
        assert_ne!(udp[6..8], [0, 0], "a checksum");
        assert_eq!(udp[8..16], [8, 0, 0, 0, 0, 0, 42, 0], "the VXLAN header");
        let flow = vxlan::entropy(&udp[16..]);
        assert_eq!(
            *ports.entry(flow).or_insert(source),
            source,
            "one port a flow"
        );
    }
    let different: BTreeSet<_> = ports.values().collect();
    assert!(ports.len() >= 16 && different.len() >= 4, "{ports:?}");
    assert_clean(&nodes, &pods);
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
    let port = format!(":{:04X}", VtepSpec::DEFAULT_PORT);
    let count = |file| {
        let table = netns.run(|| fs::read_to_string(file)).unwrap();
        let local = table
            .lines()
            .filter_map(|row| row.split_whitespace().nth(1));
        local.filter(|local| local.ends_with(&port)).count()
    };
    count("/proc/thread-self/net/udp") + count("/proc/thread-self/net/udp6")
}
