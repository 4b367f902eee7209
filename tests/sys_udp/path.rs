//! What a path takes, and what comes back over it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tapswitch::sys::{
    clock,
    udp::{Answer, Knock, PathProbe, Refusals},
};

use super::{
    Cable, FAMILIES, SECOND, Test, bind, fails, has_nothing, ip, options, pattern, receive, send,
};
use crate::common::{Netns, open_fds, wait_until};

pub(crate) const TESTS: &[Test] = &[
    (&[], "the_path_mtu_follows_the_link", follows_link),
    (&[], "the_path_mtu_follows_the_route", follows_route),
    (
        &[],
        "the_path_mtu_follows_icmp_and_a_better_route",
        follows_icmp,
    ),
    (&[], "a_probe_heals_when_its_route_comes_back", heals),
    (&[], "a_probe_needs_an_address_of_its_own", needs_address),
    (
        &[],
        "a_bound_socket_survives_its_address_and_its_link",
        survives,
    ),
    (&[], "a_knock_tells_refused_answered_and_silent", knocks),
    (
        &[],
        "a_refusal_is_heard_through_a_flood_of_echoes",
        refusals,
    ),
    (&[], "a_knock_tells_what_cannot_be_reached", unreachable),
];

fn to(ip: &str) -> SocketAddr {
    SocketAddr::new(super::ip(ip), 4789)
}

#[track_caller]
fn probe(netns: &Netns, (ours, theirs): (&str, &str)) -> PathProbe {
    netns.run(|| PathProbe::new(ip(ours), to(theirs))).unwrap()
}

fn follows_link() {
    let cable = Cable::new();
    for family in FAMILIES {
        let probe = probe(&cable.left, family);
        let socket = bind(&cable.left, options(family.0, 0));
        for mtu in [1500, 1400, 9000, 1280, 1500] {
            cable.left.ip(&format!("link set u0 mtu {mtu}"));
            assert_eq!(probe.mtu().unwrap(), mtu);
            let asked = cable.left.run(|| socket.path_mtu(to(family.1)));
            assert_eq!(asked.unwrap(), mtu);
        }
    }
}

fn follows_route() {
    let cable = Cable::new();
    for (family, route) in FAMILIES
        .into_iter()
        .zip(["192.0.2.2/32", "2001:db8::2/128"])
    {
        let probe = probe(&cable.left, family);
        assert_eq!(probe.mtu().unwrap(), 1500);
        cable
            .left
            .ip(&format!("route add {route} dev u0 mtu lock 1333"));
        assert_eq!(probe.mtu().unwrap(), 1333);
        cable
            .left
            .ip(&format!("route change {route} dev u0 mtu 1444"));
        assert_eq!(probe.mtu().unwrap(), 1444);
        cable.left.ip(&format!("route del {route} dev u0"));
        assert_eq!(probe.mtu().unwrap(), 1500);
    }
}

/// The third namespace is behind a router whose second cable is narrower.
fn follows_icmp() {
    let (router, far) = (Cable::new(), Netns::new("far"));
    let Cable { left, right } = &router;
    right.ip(&format!(
        "link add u1 mtu 1300 type veth peer name u1 netns {}",
        far.name()
    ));
    far.ip("link set u1 mtu 1300");
    for (side, n) in [(right, 1), (&far, 2)] {
        side.ip(&format!("address add 198.51.100.{n}/24 dev u1"));
        side.ip(&format!("address add 2001:db8:1::{n}/64 dev u1 nodad"));
        side.ip("link set u1 up");
    }
    right.exec(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    right.exec(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]);
    for (ours, gateway, theirs, net) in [
        ("192.0.2.1", "192.0.2.2", "198.51.100.2", "198.51.100.0/24"),
        (
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:1::2",
            "2001:db8:1::/64",
        ),
    ] {
        left.ip(&format!("route add {net} via {gateway}"));
        let probe = probe(left, (ours, theirs));
        let from = bind(left, options(ours, 0));
        assert_eq!(probe.mtu().unwrap(), 1500);

        let bytes = pattern(1400);
        let sent = from.send(to(theirs), &[std::io::IoSlice::new(&bytes)], None, 0);
        assert_eq!(sent.unwrap(), 1400);

        wait_until("the router's answer", SECOND, || {
            probe.mtu().unwrap() == 1300
        });
        let again = from.send(to(theirs), &[std::io::IoSlice::new(&bytes)], None, 0);
        fails(again, libc::EMSGSIZE);

        left.ip(&format!("route add {theirs} via {gateway} mtu lock 1290"));
        assert_eq!(probe.mtu().unwrap(), 1290);
    }
}

fn heals() {
    let cable = Cable::new();
    for (family, route) in FAMILIES.into_iter().zip(["192.0.2.0/24", "2001:db8::/64"]) {
        let probe = probe(&cable.left, family);
        let fds = open_fds();
        assert_eq!(probe.mtu().unwrap(), 1500);

        cable.left.ip(&format!("route del {route} dev u0"));
        fails(probe.mtu(), libc::ENETUNREACH);
        fails(probe.mtu(), libc::ENETUNREACH);
        cable.left.ip(&format!("route add {route} dev u0 mtu 1400"));
        assert_eq!(probe.mtu().unwrap(), 1400);

        let host = family.1;
        cable.left.ip(&format!("route add prohibit {host}"));
        fails(probe.mtu(), libc::EACCES);
        cable.left.ip(&format!("route del prohibit {host}"));
        assert_eq!(probe.mtu().unwrap(), 1400);
        assert_eq!(open_fds(), fds);
    }
}

fn needs_address() {
    let cable = Cable::shared();
    for (ours, theirs) in [("192.0.2.9", "192.0.2.2"), ("2001:db8::9", "2001:db8::2")] {
        let made = cable.left.run(|| PathProbe::new(ip(ours), to(theirs)));
        fails(made, libc::EADDRNOTAVAIL);
        let made = cable.left.run(|| Knock::new(ip(ours), to(theirs)));
        fails(made, libc::EADDRNOTAVAIL);
    }
}

fn survives() {
    for ((ours, theirs), (other, len)) in FAMILIES
        .into_iter()
        .zip([("192.0.2.7", "24"), ("2001:db8::7", "64 nodad")])
    {
        let cable = Cable::new();
        let left = &cable.left;
        let here = bind(left, options(ours, 4789));
        let there = bind(&cable.right, options(theirs, 4789));
        let probe = probe(left, (ours, theirs));
        let add = |device: &str| left.ip(&format!("address replace {ours}/{len} dev {device}"));
        let fails = |why: &str| {
            assert!(send(&here, &there, b"hello").is_err(), "{why}");
            assert!(probe.mtu().is_err(), "{why}");
        };
        let works = || {
            cable.await_way((ours, theirs));
            for (from, to) in [(&here, &there), (&there, &here)] {
                send(from, to, b"hello").unwrap();
                assert_eq!(receive(to).0.from, from.local());
            }
            assert_eq!(probe.mtu().unwrap(), 1500);
        };
        works();

        left.ip("link set u0 down");
        fails("the link is down");
        left.ip("link set u0 up");
        // The kernel forgets IPv6 addresses with the link.
        add("u0");
        works();

        left.ip("address flush dev u0");
        fails("the address is gone");
        left.ip(&format!("address replace {other}/{len} dev u0"));
        if ours.contains(':') {
            // Nothing in the kernel asks whether a source address is still there.
            cable.await_way((other, theirs));
            send(&here, &there, b"hello").unwrap();
            assert_eq!(receive(&there).0.from, here.local());
        } else {
            super::fails(send(&here, &there, b"hello"), libc::ENETUNREACH);
            super::fails(probe.mtu(), libc::ENETUNREACH);
        }
        add("u0");
        works();

        // To a new bridge, as people do.
        left.ip("link add b0 type bridge");
        left.ip("link set b0 up");
        left.ip("address flush dev u0");
        left.ip("link set u0 master b0");
        add("b0");
        works();
    }
}

/// Sends, and waits for what comes back.
fn ask(knock: &Knock, wait: Duration) -> Answer {
    let sent = knock.send();
    sent.map_or_else(|known| known, |()| knock.wait_until(clock::now() + wait))
}

fn knocks() {
    let cable = Cable::shared();
    let ask = |(ours, theirs): (&str, &str), wait| {
        let knock = cable.left.run(|| Knock::new(ip(ours), to(theirs))).unwrap();
        ask(&knock, wait)
    };
    let short = Duration::from_millis(50);
    for family in FAMILIES {
        assert!(matches!(ask(family, 3 * SECOND), Answer::Refused));

        let silent = bind(&cable.right, options(family.1, 4789));
        assert!(matches!(ask(family, short), Answer::Silent));
        let (message, _) = receive(&silent);
        assert_eq!((message.len, message.from.ip()), (1, ip(family.0)));

        let answer = std::thread::scope(|scope| {
            let asks = scope.spawn(|| ask(family, 3 * SECOND));
            let (message, _) = receive(&silent);
            // What others send is no answer.
            let stranger = bind(&cable.right, options(family.1, 0));
            let hello = [std::io::IoSlice::new(b"hello")];
            stranger.send(message.from, &hello, None, 0).unwrap();
            assert!(!asks.is_finished());
            silent.send(message.from, &hello, None, 0).unwrap();
            asks.join().unwrap()
        });
        assert!(matches!(answer, Answer::Answered));
        has_nothing(&silent);
    }
}

fn refusals() {
    let cable = Cable::new();
    for (ours, theirs) in FAMILIES {
        let ear = cable.left.run(|| Refusals::new(ip(theirs))).unwrap();
        let (domain, protocol, reply) = match ip(ours) {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 0),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 129),
        };
        let raw = || Socket::new(domain, Type::RAW, Some(protocol));
        let flood = cable.right.run(raw).unwrap();
        let mut echo = [0; 1000];
        echo[0] = reply;
        // Many times as much as the ear has room for.
        for _ in 0..3000 {
            let to = SocketAddr::new(ip(ours), 0);
            flood.send_to(&echo, &to.into()).unwrap();
        }

        let knock = cable.left.run(|| Knock::new(ip(ours), to(theirs)));
        assert!(matches!(ask(&knock.unwrap(), SECOND), Answer::Refused));
        let heard: Vec<u16> = ear.ports().into_iter().collect();
        assert_eq!(heard, [4789], "{theirs}");
    }
}

fn unreachable() {
    let cable = Cable::new();
    let refuses = |(ours, theirs): (&str, &str), why: &str| {
        let knock = cable.left.run(|| Knock::new(ip(ours), to(theirs))).unwrap();
        let Answer::Unreachable(error) = ask(&knock, SECOND) else {
            panic!("{why}: it can be reached");
        };
        let errno = error.raw_os_error().unwrap();
        let wanted = [libc::EHOSTUNREACH, libc::ENETUNREACH];
        assert!(wanted.contains(&errno), "{why}: {error}");
    };
    for family in FAMILIES {
        cable
            .left
            .ip(&format!("route add unreachable {}", family.1));
        refuses(family, "our route forbids it");
        cable
            .left
            .ip(&format!("route del unreachable {}", family.1));
    }
    for (ours, nobody) in [("192.0.2.1", "192.0.2.77"), ("2001:db8::1", "2001:db8::77")] {
        refuses((ours, nobody), "no such neighbour");
    }
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        cable.right.exec(&["sysctl", "-qw", &format!("{key}=1")]);
    }
    let far = ["198.51.100.1", "2001:db8:1::1"];
    for ((ours, router), far) in FAMILIES.into_iter().zip(far) {
        cable.left.ip(&format!("route add {far} via {router}"));
        refuses((ours, far), "the router has no route");
    }
}
