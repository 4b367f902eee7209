//! The sockets of a VXLAN endpoint together.

use std::{collections::BTreeSet, fs, io::IoSlice, net::SocketAddr, os::fd::AsFd, time::Duration};

use tapswitch::{
    bridge::DropReason,
    daemon::{UdpAnswer, Underlay, UnderlayError, UnderlayOptions},
    datapath::{Arrival, Arrived, Departed, Departure, UnderlayIo},
    names::NetnsRef,
    netlink::{AddressState, held_addresses},
    sys::{
        epoll::{Epoll, Events, Interest},
        udp::{UdpOptions, UdpSocket},
    },
    vxlan,
};

use super::{Cable, FAMILIES, SECOND, Test, bind, ip, options, pattern, receive};
use crate::common::{Netns, open_fds, wait_until};

pub(crate) const TESTS: &[Test] = &[
    (&[], "messages_pass_between_two_endpoints", passes),
    (
        &[],
        "a_flow_keeps_its_source_port_and_flows_have_many",
        spreads,
    ),
    (
        &[],
        "endpoints_of_one_host_take_different_source_ports",
        disjoint,
    ),
    (&[], "what_the_kernel_refuses_becomes_a_reason", reasons),
    (
        &[],
        "without_segmentation_it_goes_on_one_by_one",
        falls_back,
    ),
    (&[], "lost_datagrams_are_counted_once", counts_lost),
    (&[], "an_endpoint_survives_its_address", survives),
    (&[], "a_taken_port_names_who_has_it", taken),
    (&[], "a_missing_address_names_those_that_are_there", missing),
    (&[], "an_address_under_examination_is_told", tentative),
    (
        &[],
        "an_endpoint_notices_that_its_namespace_is_another",
        abandoned,
    ),
    (&[], "plain_udp_tells_what_is_there", answers),
    (&[], "a_closed_endpoint_leaves_nothing", closes),
];

fn open(netns: Option<&NetnsRef>, local: &str) -> Result<Underlay, UnderlayError> {
    Underlay::open(&UnderlayOptions {
        netns,
        ..spec(local)
    })
}

fn spec(local: &str) -> UnderlayOptions<'static> {
    UnderlayOptions {
        local: ip(local),
        port: 4789,
        ttl: 64,
        udpcsum: true,
        udp6zerocsumrx: false,
        offload: true,
        netns: None,
    }
}

#[track_caller]
fn opened(netns: &Netns, local: &str) -> Underlay {
    open(Some(&netns.reference()), local).unwrap()
}

#[track_caller]
fn refusal(netns: &Netns, local: &str) -> String {
    let error = open(Some(&netns.reference()), local).unwrap_err();
    error.to_string().replace(netns.name(), "NETNS")
}

fn departure(to: &str) -> Departure {
    Departure {
        to: SocketAddr::new(ip(to), 4789),
        flow: 0,
        tos: 0,
        segment: None,
    }
}

fn transmit(from: &Underlay, departure: Departure, len: usize) -> Departed {
    from.transmit(&departure, &[IoSlice::new(&pattern(len))])
}

#[track_caller]
fn arrival(at: &Underlay, buf: &mut [u8]) -> Arrival {
    let mut arrived = Arrived::Empty;
    wait_until("a message", SECOND, || {
        arrived = at.receive(buf);
        arrived != Arrived::Empty
    });
    match arrived {
        Arrived::Message(arrival) => arrival,
        Arrived::Empty => unreachable!(),
    }
}

fn passes() {
    let cable = Cable::shared();
    for (ours, theirs) in FAMILIES {
        let left = opened(&cable.left, ours);
        let right = opened(&cable.right, theirs);
        let epoll = Epoll::new().unwrap();
        let mut events = Events::with_capacity(1);
        epoll.add(right.as_fd(), 7, Interest::Read).unwrap();
        let mut buf = vec![0xa5; 70_000];
        assert_eq!(right.receive(&mut buf), Arrived::Empty);
        assert_eq!(left.most_in_message(), 128);
        assert_eq!(left.offloads(), "UDP_SEGMENT, UDP_GRO");

        let message = Departure {
            segment: Some(1000),
            tos: 0xb9,
            ..departure(theirs)
        };
        assert_eq!(transmit(&left, message, 9_500), Departed::Sent);

        let told = epoll.wait(&mut events, Some(SECOND)).unwrap();
        assert_eq!(told.map(|event| event.token).collect::<Vec<_>>(), [7]);
        let seen = arrival(&right, &mut buf);
        let wanted = Arrival {
            len: 9_500,
            from: ip(ours),
            port: left.source_port(message.flow).unwrap(),
            segment: Some(1000),
            tos: 0xb9,
        };
        assert_eq!(seen, wanted);
        assert!(buf[..9_500] == pattern(9_500));
        assert_eq!(right.receive(&mut buf), Arrived::Empty);
        assert_eq!(left.device(), Some(("u0".to_owned(), 1500)));
        assert_eq!(left.path_mtu(right_of(theirs)), Some(1500));
        assert_eq!(left.ask_path(right_of(theirs)).unwrap(), 1500);
        assert_eq!(left.overflow(), 0);
    }
}

fn right_of(theirs: &str) -> SocketAddr {
    SocketAddr::new(ip(theirs), 4789)
}

fn spreads() {
    let cable = Cable::shared();
    for (ours, theirs) in FAMILIES {
        let left = opened(&cable.left, ours);
        let right = bind(&cable.right, options(theirs, 4789));
        let port_of = |flow: u32| {
            let flow = Departure {
                flow,
                ..departure(theirs)
            };
            assert_eq!(transmit(&left, flow, 10), Departed::Sent);
            receive(&right).0.from.port()
        };
        let seen: BTreeSet<u16> = (0..1000_u32)
            .map(|n| port_of(n.wrapping_mul(2_654_435_761)))
            .collect();
        let own: BTreeSet<u16> = left.source_ports().into_iter().collect();
        assert_eq!(seen, own);
        assert_eq!(own.len(), 16);
        assert!(own.iter().all(|port| vxlan::SOURCE_PORTS.contains(port)));
        for flow in [0, 1, u32::MAX] {
            let first = port_of(flow);
            assert!((0..10).all(|_| port_of(flow) == first));
        }
    }
}

fn disjoint() {
    let cable = Cable::shared();
    let netns = cable.left.reference();
    let all: Vec<Underlay> = (4789..4797)
        .map(|port| {
            Underlay::open(&UnderlayOptions {
                port,
                netns: Some(&netns),
                ..spec("192.0.2.1")
            })
            .unwrap()
        })
        .collect();
    let ports: BTreeSet<u16> = all.iter().flat_map(Underlay::source_ports).collect();
    assert_eq!(ports.len(), 8 * 16);
    // And where they begin cannot be foretold.
    let first: BTreeSet<u16> = all
        .iter()
        .filter_map(|one| one.source_ports().first().copied())
        .collect();
    let steps = first.iter().zip(first.iter().skip(1));
    assert!(
        steps.filter(|(a, b)| **b - **a != 16).count() > 1,
        "{first:?}"
    );
}

fn reasons() {
    let cable = Cable::new();
    for (ours, theirs) in FAMILIES {
        let left = opened(&cable.left, ours);
        let overhead = if ours.contains(':') { 48 } else { 28 };
        let fits = 1500 - overhead;
        assert_eq!(transmit(&left, departure(theirs), fits), Departed::Sent);
        assert_eq!(
            transmit(&left, departure(theirs), fits + 1),
            Departed::TooLong
        );
        let segment = u16::try_from(fits + 1).ok();
        let message = Departure {
            segment,
            ..departure(theirs)
        };
        assert_eq!(transmit(&left, message, 4000), Departed::TooLong);
        assert_eq!(left.most_in_message(), 128, "that is no refusal");

        let nowhere = if ours.contains(':') {
            "2001:db8:9::9"
        } else {
            "198.51.100.9"
        };
        let no_route = Departed::Dropped(DropReason::NoRoute);
        assert_eq!(transmit(&left, departure(nowhere), 10), no_route);
        assert_eq!(left.path_mtu(right_of(nowhere)), None);
        for kind in ["unreachable", "prohibit", "blackhole"] {
            cable.left.ip(&format!("route add {kind} {theirs}"));
            let sent = transmit(&left, departure(theirs), 10);
            // The kernel says EINVAL for a black hole.
            assert_eq!(sent, no_route, "{kind}");
            cable.left.ip(&format!("route del {kind} {theirs}"));
        }
        assert_eq!(transmit(&left, departure(theirs), 10), Departed::Sent);
        assert_eq!(left.path_mtu(right_of(theirs)), Some(1500));
    }
}

fn falls_back() {
    let cable = Cable::shared();
    let left = opened(&cable.left, "192.0.2.1");
    let right = bind(&cable.right, options("192.0.2.2", 4789));
    // More than any kernel takes, which looks the same as one that takes none.
    let message = Departure {
        segment: Some(1),
        ..departure("192.0.2.2")
    };
    assert_eq!(transmit(&left, message, 129), Departed::Unsupported);
    assert_eq!(left.most_in_message(), 64);
    assert_eq!(transmit(&left, message, 64), Departed::Sent);
    assert_eq!(receive(&right).0.len, 64);
    assert_eq!(transmit(&left, message, 129), Departed::Unsupported);
    assert_eq!(left.most_in_message(), 1);
    assert_eq!(
        left.offloads(),
        "no UDP_SEGMENT (the kernel refuses it), UDP_GRO"
    );
    assert_eq!(transmit(&left, departure("192.0.2.2"), 1), Departed::Sent);
    assert_eq!(receive(&right).0.len, 1);
    left.retry_offload();
    assert_eq!(left.most_in_message(), 128);
    assert_eq!(transmit(&left, message, 128), Departed::Sent);
    assert_eq!(left.most_in_message(), 128);
    drop(left);

    let netns = cable.left.reference();
    for (udpcsum, offload, words) in [
        (false, true, "UDP_GRO"),
        (true, false, "none"),
        (false, false, "none"),
    ] {
        let left = Underlay::open(&UnderlayOptions {
            udpcsum,
            offload,
            netns: Some(&netns),
            ..spec("192.0.2.1")
        })
        .unwrap();
        assert_eq!((left.most_in_message(), &*left.offloads()), (1, words));
        left.retry_offload();
        assert_eq!(left.most_in_message(), 1);
        assert_eq!(transmit(&left, departure("192.0.2.2"), 10), Departed::Sent);
    }
}

fn counts_lost() {
    let cable = Cable::shared();
    let right = opened(&cable.right, "192.0.2.2");
    let left = opened(&cable.left, "192.0.2.1");
    let mut buf = vec![0; 70_000];
    let message = Departure {
        segment: Some(1400),
        ..departure("192.0.2.2")
    };
    let (mut sent, mut got, mut lost_before) = (0, 0, 0);
    for _ in 0..3 {
        for _ in 0..1000 {
            assert_eq!(transmit(&left, message, 60_000), Departed::Sent);
            sent += 1;
        }
        // The kernel tells how much was lost before a message arrived, and so only with the next.
        wait_until("the rest", SECOND, || {
            while let Arrived::Message(_) = right.receive(&mut buf) {
                got += 1;
            }
            assert_eq!(transmit(&left, departure("192.0.2.2"), 1), Departed::Sent);
            sent += 1;
            arrival(&right, &mut buf);
            got += 1;
            right.overflow() == sent - got
        });
        assert!(right.overflow() > lost_before);
        lost_before = right.overflow();
    }
}

fn survives() {
    let cable = Cable::new();
    for ((ours, theirs), len) in FAMILIES.into_iter().zip(["24", "64 nodad"]) {
        let left = opened(&cable.left, ours);
        let right = opened(&cable.right, theirs);
        let mut buf = [0; 100];
        let works = |buf: &mut [u8]| {
            for (from, to, at) in [(&left, theirs, &right), (&right, ours, &left)] {
                let passes = || {
                    let sent = transmit(from, departure(to), 10);
                    sent == Departed::Sent && at.receive(&mut [0; 100]) != Arrived::Empty
                };
                wait_until("a way", 5 * SECOND, passes);
                while at.receive(buf) != Arrived::Empty {}
            }
            assert_eq!(left.ask_path(right_of(theirs)).unwrap(), 1500);
            assert_eq!(left.device(), Some(("u0".to_owned(), 1500)));
        };
        works(&mut buf);
        let no_route = Departed::Dropped(DropReason::NoRoute);

        cable.left.ip("address flush dev u0");
        assert_eq!(transmit(&left, departure(theirs), 10), no_route);
        assert_eq!(left.device(), None);
        cable
            .left
            .ip(&format!("address replace {ours}/{len} dev u0"));
        works(&mut buf);

        cable.left.ip("link set u0 down");
        assert_eq!(transmit(&left, departure(theirs), 10), no_route);
        cable.left.ip("link set u0 up");
        cable
            .left
            .ip(&format!("address replace {ours}/{len} dev u0"));
        works(&mut buf);

        cable.left.ip("link set u0 mtu 1400");
        assert_eq!(left.device(), Some(("u0".to_owned(), 1400)));
        assert_eq!(left.ask_path(right_of(theirs)).unwrap(), 1400);
        cable.left.ip("link set u0 mtu 1500");
        for (ip, len) in [("192.0.2.1", "24"), ("2001:db8::1", "64 nodad")] {
            cable.left.ip(&format!("address replace {ip}/{len} dev u0"));
        }
    }
}

fn taken() {
    let netns = Netns::new("taken");
    netns.ip("link set lo up");
    netns.ip("address add 192.0.2.1/32 dev lo");
    let (pid, fds) = (std::process::id(), open_fds());
    let command = fs::read_to_string("/proc/self/comm").unwrap();
    let first = opened(&netns, "192.0.2.1");
    assert_eq!(
        refusal(&netns, "192.0.2.1"),
        format!(
            "open vtep 192.0.2.1:4789 in netns \"NETNS\": process {pid} ({}) has the UDP port; \
             stop it, or choose another port",
            command.trim_end()
        )
    );
    drop(first);

    netns.ip("link add vx7 type vxlan id 1 dstport 4789 dev lo");
    netns.ip("link add vx8 type vxlan id 1 dstport 8472 dev lo");
    netns.ip("link set vx8 up");
    drop(opened(&netns, "192.0.2.1"));
    netns.ip("link set vx7 up");
    assert_eq!(
        refusal(&netns, "192.0.2.1"),
        "open vtep 192.0.2.1:4789 in netns \"NETNS\": the kernel's vxlan device \"vx7\" has the \
         UDP port; delete it (ip link del vx7), or choose another port"
    );
    assert_eq!(open_fds(), fds);
}

fn missing() {
    let netns = Netns::new("missing");
    for (local, shown) in FAMILIES.map(|(ours, _)| (ours, right_of(ours))) {
        assert_eq!(
            refusal(&netns, local),
            format!(
                "open vtep {shown} in netns \"NETNS\": no interface has the address; add it to \
                 one, or choose another: there is none of its family"
            )
        );
    }
    netns.ip("link set lo up");
    assert_eq!(
        refusal(&netns, "2001:db8::1").split_once(": no").unwrap().1,
        " interface has the address; add it to one, or choose another: ::1 (lo)"
    );
    for n in 1..=12 {
        netns.ip(&format!("address add 192.0.2.{n}/32 dev lo"));
    }
    assert_eq!(
        refusal(&netns, "192.0.2.99"),
        "open vtep 192.0.2.99:4789 in netns \"NETNS\": no interface has the address; add it to \
         one, or choose another: 127.0.0.1 (lo), 192.0.2.1 (lo), 192.0.2.2 (lo), 192.0.2.3 (lo), \
         192.0.2.4 (lo), 192.0.2.5 (lo), 192.0.2.6 (lo), 192.0.2.7 (lo), and 5 more"
    );
    let absent: NetnsRef = "absent".parse().unwrap();
    assert_eq!(
        open(Some(&absent), "192.0.2.1").unwrap_err().to_string(),
        "open vtep 192.0.2.1:4789: open netns \"absent\": no such namespace; create it: ip netns \
         add absent"
    );
    // Without a namespace it is the caller's, and no message speaks of one.
    assert_eq!(
        open(None, "2001:db8::1").unwrap_err().to_string(),
        "open vtep [2001:db8::1]:4789: no interface has the address; add it to one, or choose \
         another: ::1 (lo)"
    );
    assert!(open(None, "127.0.0.1").is_ok());
}

fn tentative() {
    let cable = Cable::new();
    let held = |netns: &Netns, wanted: &str| {
        let all = netns.run(|| held_addresses(None)).unwrap();
        all.into_iter().find(|held| held.ip == ip(wanted))
    };
    let own = held(&cable.left, "2001:db8::1").unwrap();
    assert_eq!(
        (own.state, &*own.link, own.mtu),
        (AddressState::Usable, "u0", 1500)
    );
    // Its question comes back: the address of the other side is a duplicate.
    cable.left.ip("address add 2001:db8::2/64 dev u0");
    if held(&cable.left, "2001:db8::2").unwrap().state == AddressState::Tentative {
        let text = refusal(&cable.left, "2001:db8::2");
        assert!(
            text.contains("the kernel still looks for duplicates of the address on u0; try again")
                || text.contains("another host"),
            "{text}"
        );
    }
    wait_until("the search", 5 * SECOND, || {
        held(&cable.left, "2001:db8::2").unwrap().state == AddressState::Duplicate
    });
    assert_eq!(
        refusal(&cable.left, "2001:db8::2"),
        "open vtep [2001:db8::2]:4789 in netns \"NETNS\": another host on u0 has the address too \
         (duplicate address detection); give one of them another"
    );
}

fn abandoned() {
    let netns = Netns::new("abandoned");
    let reference = netns.reference();
    netns.ip("link set lo up");
    netns.ip("address add 192.0.2.1/32 dev lo");
    let here = opened(&netns, "192.0.2.1");
    assert_eq!(here.is_abandoned(), None);
    let name = netns.name().to_owned();
    netns.delete();
    let why = here.is_abandoned().unwrap();
    assert!(why.contains("no such namespace"), "{why}");
    let again = Netns::named(&name);
    assert_eq!(
        here.is_abandoned(),
        Some(format!("netns {reference} is another one now"))
    );
    drop(again);
    // In our own it cannot be.
    assert_eq!(open(None, "127.0.0.1").unwrap().is_abandoned(), None);
}

fn answers() {
    let cable = Cable::shared();
    for (ours, theirs) in FAMILIES {
        let left = opened(&cable.left, ours);
        let ask = |wait| {
            let [answer] = UdpAnswer::to([&left.knock(right_of(theirs))], wait);
            answer
        };
        assert_eq!(ask(3 * SECOND), UdpAnswer::Refused);
        let right = opened(&cable.right, theirs);
        assert_eq!(ask(Duration::from_millis(50)), UdpAnswer::Silent);
        // What it was asked with is no frame.
        let mut buf = [0; 100];
        assert_eq!(arrival(&right, &mut buf).len, 1);
        drop(right);

        let echo = bind(&cable.right, options(theirs, 4789));
        let answer = std::thread::scope(|scope| {
            let asks = scope.spawn(|| ask(3 * SECOND));
            let from = receive(&echo).0.from;
            echo.send(from, &[IoSlice::new(b"hello")], None, 0).unwrap();
            asks.join().unwrap()
        });
        assert_eq!(answer, UdpAnswer::Answered);
        let nowhere = if ours.contains(':') {
            "2001:db8:9::9"
        } else {
            "198.51.100.9"
        };
        assert_eq!(
            UdpAnswer::to([&left.knock(right_of(nowhere))], SECOND),
            [UdpAnswer::Unreachable("network is unreachable".to_owned())]
        );
    }
}

fn closes() {
    let cable = Cable::shared();
    let fds = open_fds();
    for (ours, _) in FAMILIES {
        let left = opened(&cable.left, ours);
        assert!(open(Some(&cable.left.reference()), ours).is_err());
        drop(left);
        let again = UdpOptions {
            ..options(ours, 4789)
        };
        assert!(cable.left.run(|| UdpSocket::bind(&again)).is_ok());
    }
    assert_eq!(open_fds(), fds);
}
