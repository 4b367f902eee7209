//! Requests that cannot be met: a clear reason, and nothing left behind.

use std::fs::{self, File};

use tapswitch::{
    attach::{PlugCause, PlugRequest, plug},
    names::{IfName, NetnsRef},
    netlink::LinkError,
    sys::netns::{NetnsError, NetnsFile},
    wire::MacAddr,
};

use super::{Test, full, has};
use crate::common::{Netns, links, open_fds};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "a_wrong_namespace_is_named_for_what_it_is",
        wrong_namespaces,
    ),
    (&[], "a_taken_name_leaves_nothing_behind", name_taken),
    (&[], "each_failing_step_undoes_all_others", failing_steps),
];

fn wrong_namespaces() {
    let open = |text: &str| {
        let reference: NetnsRef = text.parse().unwrap();
        NetnsFile::open(&reference).unwrap_err()
    };
    let fds = open_fds();
    fs::create_dir_all("/run/netns/directory").unwrap();
    File::create("/run/netns/file").unwrap();
    nix::unistd::mkfifo("/run/pipe", nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (text, wanted) in [
        (
            "absent",
            "no such namespace; create it: ip netns add absent",
        ),
        ("file", "no namespace is mounted on it"),
        ("directory", "it is a directory"),
        ("pid:2147483647", "no such process"),
        ("/run/absent", "no such file or directory"),
        ("/run/pipe", "it is a pipe"),
        ("/dev/null", "it is a device"),
        ("/etc/passwd", "it is an ordinary file"),
        ("/proc/self/ns/mnt", "it is a mount namespace"),
        ("/proc/self/ns/user", "it is a user namespace"),
        ("/proc/self/status", "it is an ordinary file"),
    ] {
        let message = open(text).to_string();
        has(&message, &[wanted, "open netns"]);
    }
    assert!(matches!(open("absent"), NetnsError::NoSuchName { .. }));
    assert_eq!(open_fds(), fds);
    let before = links();
    let error = plug(&PlugRequest {
        netns: Some("absent".parse().unwrap()),
        ..PlugRequest::new(None, IfName::new("eth0").unwrap(), MacAddr::ZERO)
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "plug \"eth0\" into netns \"absent\": open netns \"absent\": no such namespace; create \
         it: ip netns add absent"
    );
    assert_eq!((links(), open_fds()), (before, fds));
    fs::remove_dir("/run/netns/directory").unwrap();
    fs::remove_file("/run/netns/file").unwrap();
}

fn name_taken() {
    let netns = Netns::new("taken");
    let first = plug(&full(&netns)).unwrap();
    let (before, fds) = (links(), open_fds());

    let error = plug(&full(&netns)).unwrap_err();

    assert!(matches!(
        error.cause(),
        PlugCause::Link(LinkError::NameTaken { .. })
    ));
    let name = netns.name();
    assert_eq!(
        error.to_string(),
        format!(
            "plug \"eth0\" into netns {name:?}: interface name taken; choose another (--ifname), or \
             delete that one: ip -n {name} link del eth0"
        )
    );
    // Never is it the switch's own interface, nor lo, that should go.
    let id = std::process::id();
    for (place, ifname) in [
        (None, "lo"),
        (Some("pid:ID"), "lo"),
        (Some("/proc/ID/ns/net"), "lo"),
        (Some(name), "lo"),
    ] {
        let place = place.map(|place| place.replace("ID", &id.to_string()).parse().unwrap());
        let ifname = IfName::new(ifname).unwrap();
        let request = PlugRequest::new(place, ifname, MacAddr::new([2, 0, 0, 0, 0, 1]));
        let error = plug(&request).unwrap_err().to_string();
        has(&error, &["interface name taken", "choose another"]);
        assert!(!error.contains("del"), "{error}");
    }
    assert_eq!((links(), open_fds()), (before, fds));
    assert_eq!(netns.links(), ["lo", "eth0"]);
    drop(first);
}

fn failing_steps() {
    let netns = Netns::new("fails");
    let (before, fds) = (links(), open_fds());
    let good = full(&netns);
    let cases: [(&str, PlugRequest); 8] = [
        (
            "add route default via 192.0.3.1: network is unreachable",
            PlugRequest {
                gateways: vec!["192.0.3.1".parse().unwrap()],
                ..good.clone()
            },
        ),
        (
            "add route default via 2001:db9::1: ",
            PlugRequest {
                gateways: vec!["2001:db9::1".parse().unwrap()],
                ..good.clone()
            },
        ),
        (
            "add route 198.51.100.0/24 via 192.0.2.3: file exists",
            PlugRequest {
                routes: vec![
                    route("198.51.100.0/24", "192.0.2.2"),
                    route("198.51.100.0/24", "192.0.2.3"),
                ],
                ..good.clone()
            },
        ),
        (
            "add address 2001:db8::10/48: file exists",
            PlugRequest {
                addresses: vec![
                    "2001:db8::10/64".parse().unwrap(),
                    "2001:db8::10/48".parse().unwrap(),
                ],
                ..good.clone()
            },
        ),
        (
            "add address 2001:db8::10/64: ",
            PlugRequest {
                mtu: 1000,
                ..good.clone()
            },
        ),
        (
            "set mtu 70000: ",
            PlugRequest {
                mtu: 70_000,
                ..good.clone()
            },
        ),
        (
            "hardware address of tap",
            PlugRequest {
                mac: MacAddr::BROADCAST,
                ..good.clone()
            },
        ),
        (
            "add route 198.51.100.0/24 via 192.0.2.2: network is down; set the link up",
            PlugRequest {
                up: false,
                ..good.clone()
            },
        ),
    ];
    for (wanted, request) in cases {
        let error = plug(&request).unwrap_err().to_string();
        println!("{error}");
        has(&error, &[wanted, "plug \"eth0\" into netns", ";"]);
        assert_eq!((links(), open_fds()), (before.clone(), fds), "{wanted}");
        assert_eq!(netns.links(), ["lo"], "{wanted}");
        assert_eq!(netns.ip("route"), "", "{wanted}");
        assert!(netns.ip("link show lo").contains("<LOOPBACK>"), "{wanted}");
    }
    drop(plug(&good).unwrap());
}

fn route(to: &str, via: &str) -> tapswitch::netlink::Route {
    tapswitch::netlink::Route::new(to.parse().unwrap(), via.parse().ok())
}
