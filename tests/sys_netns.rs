//! Ports in real network namespaces: made, configured, undone, and gone with their namespace.

mod common;

use std::{
    fs::File,
    os::fd::AsFd,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use common::{Env, Netns, ip, links, open_fds, wait_until};
use libtest_mimic::Trial;
use tapswitch::{
    attach::{Engine, PlugCause, PlugRequest, Plugged, PortDevice, link_of, plug},
    names::{IfName, NetnsRef},
    netlink::{self, LinkError, LinkRef, LinkSetup, OperState, Route},
    sys::{
        AcceptedOffloads, clock,
        epoll::{Epoll, Events, Interest},
        is_down, is_gone,
        netns::{NetnsError, NetnsFile, create_anonymous},
    },
    wire::{MacAddr, VirtioNetHdr},
};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    common::main(|env: &Env| -> Vec<Trial> {
        let tests: &[(&str, fn())] = &[
            ("a_port_looks_as_it_was_asked_for", looks),
            ("a_namespace_is_found_by_name_pid_and_path", references),
            ("a_host_port_is_renamed_in_place", host_port),
            ("a_move_keeps_everything_but_the_name", move_resets_nothing),
            (
                "a_wrong_namespace_is_named_for_what_it_is",
                wrong_namespaces,
            ),
            ("a_taken_name_leaves_nothing_behind", name_taken),
            ("each_failing_step_undoes_all_others", failing_steps),
            ("configuring_twice_changes_nothing", idempotent),
            ("a_failed_change_of_a_living_port_is_taken_back", taken_back),
            ("a_pulled_cable_and_a_link_set_down_are_told_apart", carrier),
            ("statistics_follow_a_renamed_and_moved_port", follows),
            ("a_deleted_link_is_gone_at_once", link_deleted),
            ("a_deleted_namespace_dies_with_its_port", netns_deleted),
            ("plugging_and_deleting_leaves_nothing", cycles),
            ("the_simple_tap_passes_frames", simple_frames),
            ("the_fast_tap_passes_superframes", fast_frames),
            ("an_anonymous_namespace_takes_a_port", anonymous),
        ];
        let trials = tests.iter().map(|&(name, body)| env.trial(name, body));
        trials.collect()
    })
}

fn request(netns: &Netns) -> PlugRequest {
    let name = IfName::new("eth0").unwrap();
    let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
    PlugRequest::new(Some(netns.reference()), name, mac)
}

/// Everything that a port can be given.
fn full(netns: &Netns) -> PlugRequest {
    PlugRequest {
        mtu: 1400,
        addresses: vec![
            "192.0.2.10/24".parse().unwrap(),
            "2001:db8::10/64".parse().unwrap(),
        ],
        gateways: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        routes: vec![
            "198.51.100.0/24 via 192.0.2.2".parse().unwrap(),
            "203.0.113.0/24".parse().unwrap(),
            "2001:db8:1::/48 via 2001:db8::2".parse().unwrap(),
        ],
        tx_queue_len: 2345,
        ..request(netns)
    }
}

#[track_caller]
fn has(output: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(output.contains(wanted), "{wanted:?} is not in:\n{output}");
    }
}

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
        assert!(
            netns
                .exec(&["ping", "-c1", "-W1", "192.0.2.10"])
                .status
                .success()
        );
        let ethtool = netns.exec(&["ethtool", "eth0"]);
        has(
            &String::from_utf8_lossy(&ethtool.stdout),
            &["Speed: 10000Mb/s", "Duplex: Full"],
        );
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
    let mut process = netns.spawn(&["sleep", "60"]);
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
    process.kill().unwrap();
    process.wait().unwrap();
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
    println!("before {before:?}\nafter {after:?}");
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
    has(
        &String::from_utf8_lossy(&netns.exec(&["ethtool", "there"]).stdout),
        &["Speed: 10000Mb/s"],
    );
    netlink::set_up(Some(&netns.open()), after.index).unwrap();
    let state = link_of(&here.device).unwrap();
    assert!(state.admin_up && state.carrier);
}

fn wrong_namespaces() {
    let open = |text: &str| {
        let reference: NetnsRef = text.parse().unwrap();
        NetnsFile::open(&reference).unwrap_err()
    };
    let fds = open_fds();
    std::fs::create_dir_all("/run/netns/directory").unwrap();
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
    std::fs::remove_dir("/run/netns/directory").unwrap();
    std::fs::remove_file("/run/netns/file").unwrap();
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
    has(
        &error.to_string(),
        &["interface name taken", "plug \"eth0\""],
    );
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
                    "198.51.100.0/24 via 192.0.2.2".parse().unwrap(),
                    "198.51.100.0/24 via 192.0.2.3".parse().unwrap(),
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
    }
    drop(plug(&good).unwrap());
}

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
    let route: Route = "198.51.100.0/24 via 192.0.2.2".parse().unwrap();
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

/// How long after `action` a watched port is reported as failed, and what a read says then.
fn gone_after(plugged: &Plugged, action: impl FnOnce()) -> Duration {
    let epoll = Epoll::new().unwrap();
    let mut events = Events::with_capacity(4);
    epoll
        .add(plugged.device.as_fd(), 9, Interest::ReadWrite)
        .unwrap();
    // The first edge: writable, and perhaps readable.
    let first = epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(first.into_iter().all(|event| !event.failed));
    action();
    let start = clock::now();
    loop {
        let mut seen = epoll
            .wait(&mut events, Some(5 * SECOND))
            .unwrap()
            .peekable();
        assert!(seen.peek().is_some(), "the port is not gone after 5 s");
        if seen.any(|event| event.token == 9 && event.failed) {
            break;
        }
    }
    let took = clock::now().since(start);
    let mut buf = [0; 2048];
    let (read, written) = match &plugged.device {
        PortDevice::Fast(tap) => (tap.recv(&mut buf), tap.send(&buf)),
        PortDevice::Simple(tap) => (tap.recv(&mut buf), tap.send(&buf)),
    };
    assert!(is_gone(&read.unwrap_err()));
    assert!(is_gone(&written.unwrap_err()));
    assert!(is_gone(&plugged.device.device_name().unwrap_err()));
    let error = link_of(&plugged.device).unwrap_err();
    has(
        &error.to_string(),
        &["find the netns of a tap", "is its link deleted?"],
    );
    took
}

fn link_deleted() {
    for engine in [Engine::Fast, Engine::Simple] {
        let netns = Netns::new("linkdel");
        let plugged = plug(&PlugRequest {
            engine,
            ..full(&netns)
        })
        .unwrap();
        let took = gone_after(&plugged, || drop(netns.ip("link del eth0")));
        println!("{engine:?}: gone {took:?} after ip link del");
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}

fn netns_deleted() {
    for engine in [Engine::Fast, Engine::Simple] {
        let netns = Netns::new("nsdel");
        // Its peer vanishes when the namespace is really dead and not before.
        ip(&format!(
            "link add witness type veth peer name peer netns {}",
            netns.name()
        ));
        let plugged = plug(&PlugRequest {
            engine,
            ..full(&netns)
        })
        .unwrap();
        let took = gone_after(&plugged, || netns.delete());
        println!("{engine:?}: gone {took:?} after ip netns del");
        assert!(took < Duration::from_millis(100), "{took:?}");
        wait_until("the namespace is dead", SECOND, || {
            !links().contains(&"witness".to_owned())
        });
    }
}

fn cycles() {
    let (before, fds) = (links(), open_fds());
    let (mut plugging, mut dying) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let netns = Netns::new("cycle");
        let request = full(&netns);
        let start = clock::now();
        let plugged = plug(&request).unwrap();
        plugging.push(clock::now().since(start));
        dying.push(gone_after(&plugged, || netns.delete()));
    }
    assert_eq!((links(), open_fds()), (before, fds));
    assert_eq!(std::fs::read_dir("/run/netns").unwrap().count(), 0);
    for (what, times) in [("plug", &mut plugging), ("gone", &mut dying)] {
        times.sort_unstable();
        println!("{what}: median {:?}, longest {:?}", times[100], times[199]);
    }
}

/// Two ports in two namespaces, `.1` and `.2`.
fn pair(engine: Engine) -> ([Netns; 2], [Plugged; 2]) {
    let spaces = [Netns::new("left"), Netns::new("right")];
    let mut last = 0;
    let ports = spaces.each_ref().map(|netns| {
        last += 1;
        plug(&PlugRequest {
            engine,
            mac: MacAddr::new([2, 0, 0, 0, 0, last]),
            addresses: vec![format!("192.0.2.{last}/24").parse().unwrap()],
            ..request(netns)
        })
        .unwrap()
    });
    (spaces, ports)
}

/// Copies every frame to the other port, as it is, until both are quiet for `quiet`.
fn wire(ports: &[Plugged; 2], quiet: Duration) -> usize {
    let epoll = Epoll::new().unwrap();
    for (token, port) in (0..).zip(ports) {
        epoll
            .add(port.device.as_fd(), token, Interest::Read)
            .unwrap();
    }
    let mut events = Events::with_capacity(2);
    let mut buf = vec![0; 70_000];
    let mut longest = 0;
    while epoll.wait(&mut events, Some(quiet)).unwrap().count() > 0 {
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = (&ports[from].device, &ports[to].device);
            while let Ok(len) = recv(from, &mut buf) {
                longest = longest.max(len);
                send(to, &buf[..len]);
            }
        }
    }
    longest
}

fn recv(device: &PortDevice, buf: &mut [u8]) -> std::io::Result<usize> {
    match device {
        PortDevice::Fast(tap) => tap.recv(buf),
        PortDevice::Simple(tap) => tap.recv(buf),
    }
}

fn send(device: &PortDevice, frame: &[u8]) {
    let sent = match device {
        PortDevice::Fast(tap) => tap.send(frame),
        PortDevice::Simple(tap) => tap.send(frame),
    };
    assert_eq!(sent.unwrap(), frame.len());
}

fn simple_frames() {
    let ([left, _right], ports) = pair(Engine::Simple);
    thread::scope(|scope| {
        let wire = scope.spawn(|| wire(&ports, SECOND));
        let ping = left.exec(&["ping", "-c3", "-i0.05", "-W1", "-s1400", "192.0.2.2"]);
        has(&String::from_utf8_lossy(&ping.stdout), &[" 0% packet loss"]);
        assert_eq!(wire.join().unwrap(), 1442, "a frame without any header");
    });
}

fn fast_frames() {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };
    let ([left, right], ports) = pair(Engine::Fast);
    thread::scope(|scope| {
        let wire = scope.spawn(|| wire(&ports, SECOND));
        let listener = right.run(|| TcpListener::bind("192.0.2.2:7777").unwrap());
        let sink = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut stream = left.run(|| TcpStream::connect("192.0.2.2:7777").unwrap());
        stream.write_all(&vec![7; 10_000_000]).unwrap();
        drop(stream);
        assert_eq!(sink.join().unwrap(), 10_000_000);
        let longest = wire.join().unwrap();
        assert!(
            longest > 20_000,
            "no superframe came out, only {longest} bytes"
        );
    });
}

fn anonymous() {
    let fd = create_anonymous().unwrap();
    let netns = NetnsFile::from_file(File::from(fd), "demo".to_owned()).unwrap();
    assert_ne!(netns.id(), NetnsFile::current().unwrap().id());
    let path = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&netns.as_fd())
    );
    let plugged = plug(&PlugRequest {
        netns: Some(path.parse().unwrap()),
        ..PlugRequest::new(
            None,
            IfName::new("eth0").unwrap(),
            MacAddr::new([2, 0, 0, 0, 0, 3]),
        )
    })
    .unwrap();
    assert_eq!(plugged.netns_id, netns.id());
    let listed = netns
        .run_in(|| Command::new("ip").args(["-o", "link"]).output())
        .unwrap()
        .unwrap();
    has(&String::from_utf8_lossy(&listed.stdout), &["eth0"]);
    let took = gone_after(&plugged, || drop(netns));
    println!("gone {took:?} after its last descriptor was closed");
}
