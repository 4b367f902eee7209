//! Living ports, changed by us and by others.

use tapswitch::{
    attach::{PlugRequest, PortDevice, link_of, plug},
    netlink::{self, LinkRef, LinkSetup, OperState, Route},
    sys::{is_down, is_gone},
    wire::{MacAddr, VirtioNetHdr},
};

use super::{SECOND, Test, full, has, request};
use crate::common::{Netns, open_fds, wait_until};

pub(crate) const TESTS: &[Test] = &[
    (&[], "configuring_twice_changes_nothing", idempotent),
    (
        &[],
        "a_failed_change_of_a_living_port_is_taken_back",
        taken_back,
    ),
    (
        &[],
        "a_pulled_cable_and_a_link_set_down_are_told_apart",
        carrier,
    ),
    (
        &["ping"],
        "statistics_follow_a_renamed_and_moved_port",
        follows,
    ),
];

fn setup(request: &PlugRequest) -> LinkSetup {
    LinkSetup {
        mtu: Some(request.mtu),
        addresses: request.addresses.clone(),
        gateways: request.gateways.clone(),
        routes: request.routes.clone(),
        up: true,
        ..LinkSetup::new(LinkRef::from(&request.ifname))
    }
}

fn snapshot(netns: &Netns) -> String {
    ["addr show dev eth0", "route", "-6 route"]
        .map(|what| netns.ip(what))
        .concat()
}

fn idempotent() {
    let netns = Netns::new("twice");
    let request = full(&netns);
    let plugged = plug(&request).unwrap();
    let before = snapshot(&netns);
    let index = netlink::configure(Some(&netns.open()), &setup(&request)).unwrap();
    assert_eq!(index, plugged.ifindex_in_netns);
    assert_eq!(snapshot(&netns), before);

    let file = netns.open();
    let route = Route::new("198.51.100.0/24".parse().unwrap(), "192.0.2.2".parse().ok());
    netlink::remove_route(Some(&file), index, route).unwrap();
    netlink::remove_address(Some(&file), index, "2001:db8::10/64".parse().unwrap()).unwrap();
    netlink::set_mtu(Some(&file), index, 1350).unwrap();
    let mac = MacAddr::new([2, 0, 0, 0, 0, 9]);
    netlink::set_mac(Some(&file), index, mac).unwrap();
    let state = link_of(&plugged.device).unwrap();
    assert_eq!((state.mtu, state.mac), (1350, mac));
    let now = snapshot(&netns);
    assert!(!now.contains("198.51.100.0") && !now.contains("2001:db8::10/64"));
    let left = netlink::addresses(Some(&file), index).unwrap();
    assert!(left.contains(&"192.0.2.10/24".parse().unwrap()), "{left:?}");
}

fn taken_back() {
    let netns = Netns::new("back");
    let plugged = plug(&request(&netns)).unwrap();
    let mtu = link_of(&plugged.device).unwrap().mtu;
    let before = netns.ip("route");
    let error = netlink::configure(
        Some(&netns.open()),
        &LinkSetup {
            mac: Some(MacAddr::new([2, 0, 0, 0, 0, 7])),
            gateways: vec!["192.0.3.1".parse().unwrap()],
            ..setup(&full(&netns))
        },
    )
    .unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENETUNREACH));
    let state = link_of(&plugged.device).unwrap();
    assert_eq!(
        (state.mtu, state.mac),
        (mtu, MacAddr::new([2, 0, 0, 0, 0, 1]))
    );
    assert!(state.admin_up, "it was up before");
    assert_eq!(netns.ip("route"), before);
    assert_eq!(netns.ip("-4 addr show dev eth0"), "");
    assert_eq!(netns.ip("-6 addr show dev eth0 scope global"), "");
}

fn carrier() {
    let netns = Netns::new("carrier");
    let plugged = plug(&request(&netns)).unwrap();
    let state = || link_of(&plugged.device).unwrap();
    plugged.device.set_carrier(false).unwrap();
    let took = wait_until("carrier is off", SECOND * 3, || {
        !state().carrier && state().operstate == OperState::Down
    });
    println!("carrier off after {took:?}");
    assert!(state().admin_up);
    has(&netns.ip("link show dev eth0"), &["NO-CARRIER"]);
    plugged.device.set_carrier(true).unwrap();
    let took = wait_until("carrier is on", SECOND * 3, || {
        state().operstate == OperState::Up
    });
    println!("carrier on after {took:?}");

    netns.ip("link set eth0 down");
    assert!(!state().admin_up);
    let PortDevice::Fast(tap) = &plugged.device else {
        panic!("not the fast engine");
    };
    let frame = [0; VirtioNetHdr::LEN + 60];
    let error = tap.send(&frame).unwrap_err();
    assert!(is_down(&error) && !is_gone(&error), "{error}");
    netns.ip("link set eth0 up");
    assert_eq!(tap.send(&frame).unwrap(), frame.len());
}

fn follows() {
    let (a, b) = (Netns::new("from"), Netns::new("to"));
    let plugged = plug(&PlugRequest {
        tx_queue_len: 5,
        addresses: vec!["192.0.2.10/24".parse().unwrap()],
        ..request(&a)
    })
    .unwrap();
    // Nobody reads: the queue of 5 overflows. Broadcasts need no ARP answer.
    a.exec(&["ping", "-c20", "-i0.01", "-W1", "-b", "192.0.2.255"]);
    let dropped = link_of(&plugged.device).unwrap().stats.tx_dropped;
    assert!(dropped > 0, "the overflow was not counted");
    a.ip("link set eth0 down");
    a.ip("link set eth0 name odd+name");
    a.ip(&format!("link set odd+name netns {}", b.name()));
    let fds = open_fds();
    let state = link_of(&plugged.device).unwrap();
    assert_eq!(state.name, "odd+name");
    assert_eq!(plugged.device.netns().unwrap().id(), b.id());
    assert!(state.stats.tx_dropped >= dropped);
    assert_eq!(open_fds(), fds);
}
