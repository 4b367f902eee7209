//! Ports as they were asked for, and what a move does to them.

use std::thread;

use tapswitch::{
    attach::{Engine, PlugRequest, link_of, plug},
    names::{IfName, NetnsRef},
    netlink,
    sys::{AcceptedOffloads, clock, netns::NetnsFile},
    wire::MacAddr,
};

use super::{Test, full, has, request};
use crate::common::{Netns, ip, links};

pub(crate) const TESTS: &[Test] = &[
    (&[], "a_port_looks_as_it_was_asked_for", looks),
    (&["ethtool"], "a_port_reports_its_speed", speed),
    (
        &["ping"],
        "a_namespace_reaches_its_own_addresses",
        own_address,
    ),
    (&[], "a_namespace_is_found_by_name_pid_and_path", references),
    (&[], "a_host_port_is_renamed_in_place", host_port),
    (
        &[],
        "a_move_keeps_everything_but_the_name",
        move_resets_nothing,
    ),
    (
        &[],
        "ports_are_plugged_from_several_threads_and_from_tokio",
        in_parallel,
    ),
];

fn looks() {
    for engine in [Engine::Fast, Engine::Simple] {
        let netns = Netns::new("looks");
        let before = links();

        let start = clock::now();
        let plugged = plug(&PlugRequest {
            engine,
            ..full(&netns)
        })
        .unwrap();
        println!("plug {engine:?}: {:?}", clock::now().since(start));

        has(
            &netns.ip("addr show dev eth0"),
            &[
                "mtu 1400",
                "qlen 2345",
                "link/ether 02:00:00:00:00:01",
                "<BROADCAST,MULTICAST,UP,LOWER_UP>",
                "state UP",
                "inet 192.0.2.10/24 brd 192.0.2.255",
                "inet6 2001:db8::10/64",
            ],
        );
        assert!(
            !netns
                .ip("-6 addr show dev eth0 scope global")
                .contains("tentative")
        );
        has(
            &netns.ip("route"),
            &[
                "default via 192.0.2.1 dev eth0 proto static",
                "198.51.100.0/24 via 192.0.2.2",
                "203.0.113.0/24 dev eth0 proto static scope link",
            ],
        );
        has(
            &netns.ip("-6 route"),
            &["default via 2001:db8::1", "2001:db8:1::/48 via 2001:db8::2"],
        );
        has(&netns.ip("link show dev lo"), &["LOOPBACK,UP"]);
        assert_eq!(
            links(),
            before,
            "something is left in the switch's namespace"
        );
        assert_eq!(plugged.netns_id, netns.id());
        let state = link_of(&plugged.device).unwrap();
        assert_eq!(state.index, plugged.ifindex_in_netns);
        assert_eq!((state.mtu, state.tx_queue_len), (1400, 2345));
        let wanted = match engine {
            Engine::Fast => AcceptedOffloads::ALL,
            Engine::Simple => AcceptedOffloads::NONE,
        };
        assert_eq!(plugged.offloads, wanted, "on Linux 6.2 and later");
    }
}

fn references() {
    let netns = Netns::new("refs");
    let process = netns.spawn(&["sleep", "60"]);
    let by_pid = format!("pid:{}", process.id());
    let by_path = format!("/run/netns/{}", netns.name());
    // The child enters its own image a moment after it is started, but is in the namespace at once.
    for (name, text) in [
        ("by-name", netns.name()),
        ("by-pid", &by_pid),
        ("by-path", &by_path),
    ] {
        let reference: NetnsRef = text.parse().unwrap();
        let plugged = plug(&PlugRequest {
            netns: Some(reference),
            ifname: IfName::new(name).unwrap(),
            ..request(&netns)
        })
        .unwrap();
        assert_eq!(netns.links(), ["lo", name]);
        assert_eq!(plugged.netns_id, netns.id());
        drop(plugged);
        assert_eq!(netns.links(), ["lo"]);
    }
    process.stop();
}

fn host_port() {
    let netns = Netns::new("host");
    let plugged = plug(&PlugRequest {
        netns: None,
        ifname: IfName::new("sw0").unwrap(),
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
        ..request(&netns)
    })
    .unwrap();
    has(&ip("addr show dev sw0"), &["inet 192.0.2.1/24", "UP"]);
    assert_eq!(plugged.netns_id, NetnsFile::current().unwrap().id());
    drop(plugged);
    assert!(!links().contains(&"sw0".to_owned()));
}

fn move_resets_nothing() {
    // The index is the one thing that the target may choose: it is taken there.
    let netns = Netns::new("move");
    let here = plug(&PlugRequest {
        netns: None,
        ifname: IfName::new("here").unwrap(),
        tx_queue_len: 77,
        mtu: 1300,
        up: true,
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
        ..request(&netns)
    })
    .unwrap();
    let before = link_of(&here.device).unwrap();
    let index = before.index;
    netns.ip(&format!(
        "link add name taken index {index} type veth peer name other"
    ));

    let name = IfName::new("there").unwrap();
    let start = clock::now();
    netlink::move_and_rename(index, Some(&netns.open()), &name).unwrap();
    println!("move: {:?}", clock::now().since(start));

    let after = link_of(&here.device).unwrap();
    assert_eq!(after.name, "there");
    assert_ne!(after.index, index);
    assert!(before.admin_up && !after.admin_up, "a moved link is down");
    assert_eq!(
        netlink::addresses(Some(&netns.open()), after.index).unwrap(),
        []
    );
    assert_eq!(
        (after.mtu, after.mac, after.tx_queue_len, after.carrier),
        (before.mtu, before.mac, before.tx_queue_len, true)
    );
    netlink::set_up(Some(&netns.open()), after.index).unwrap();
    let state = link_of(&here.device).unwrap();
    assert!(state.admin_up && state.carrier);
}

fn in_parallel() {
    let netns = Netns::new("many");
    let named = |index: u8| PlugRequest {
        ifname: IfName::new(&format!("eth{index}")).unwrap(),
        mac: MacAddr::new([2, 0, 0, 0, 1, index]),
        ..request(&netns)
    };
    let start = clock::now();
    let ports = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|index| scope.spawn(move || plug(&named(index)).unwrap()))
            .collect();
        let ports = threads.into_iter().map(|thread| thread.join().unwrap());
        ports.collect::<Vec<_>>()
    });
    println!("8 ports at once: {:?}", clock::now().since(start));
    assert_eq!(netns.links().len(), 9);
    drop(ports);

    // Starting a runtime inside a runtime would panic if it were not on a thread of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let port = runtime.block_on(async { plug(&named(0)) }).unwrap();
    assert_eq!(link_of(&port.device).unwrap().name, "eth0");
}

/// Set before the move, seen after it.
fn speed() {
    for engine in [Engine::Fast, Engine::Simple] {
        let netns = Netns::new("speed");
        let _port = plug(&PlugRequest {
            engine,
            speed_mbps: 25_000,
            ..request(&netns)
        })
        .unwrap();
        let ethtool = netns.exec(&["ethtool", "eth0"]);
        has(
            &String::from_utf8_lossy(&ethtool.stdout),
            &["Speed: 25000Mb/s", "Duplex: Full"],
        );
    }
}

/// The loopback is up, without which a namespace cannot reach its own addresses.
fn own_address() {
    let netns = Netns::new("own");
    let _port = plug(&full(&netns)).unwrap();
    for address in ["192.0.2.10", "2001:db8::10", "127.0.0.1", "::1"] {
        let ping = netns.exec(&["ping", "-c1", "-W1", address]);
        assert!(ping.status.success(), "{address}");
    }
}
