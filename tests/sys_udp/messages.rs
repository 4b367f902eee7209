//! Messages between two sockets.

use std::{io::IoSlice, net::UdpSocket as StdUdpSocket};

use tapswitch::sys::udp::{UdpOptions, UdpSocket};

use super::{
    Cable, FAMILIES, SECOND, Test, bind, fails, has_nothing, options, pattern, receive, send,
};
use crate::common::{open_fds, wait_until};

pub(crate) const TESTS: &[Test] = &[
    (&[], "ten_datagrams_arrive_as_one_message", joined),
    (&[], "without_gro_each_datagram_arrives_alone", not_joined),
    (&[], "a_message_of_many_parts_arrives_whole", many_parts),
    (&[], "tos_and_traffic_class_make_the_way", tos),
    (&[], "a_message_longer_than_the_buffer_is_marked", truncated),
    (&[], "datagrams_without_room_are_counted", overflow),
    (&[], "a_socket_that_hears_nothing_says_nothing", silent),
    (&[], "a_port_is_had_by_one_only", exclusive),
    (&[], "an_ipv6_socket_leaves_ipv4_alone", only_v6),
    (&[], "what_cannot_be_sent_is_refused_with_a_reason", refused),
    (&[], "a_closed_socket_leaves_nothing", closed),
];

fn joined() {
    let cable = Cable::shared();
    for (ours, theirs) in FAMILIES {
        let from = bind(&cable.left, options(ours, 0));
        let to = bind(&cable.right, options(theirs, 4789));
        let bytes = pattern(9_500);
        let (head, tail) = bytes.split_at(1234);

        let parts = [IoSlice::new(head), IoSlice::new(tail)];
        let sent = from.send(to.local(), &parts, Some(1000), 0).unwrap();

        let (message, received) = receive(&to);
        assert_eq!((sent, message.len), (9_500, 9_500));
        assert_eq!(message.segment, Some(1000));
        assert_eq!(message.from, from.local());
        assert!(!message.truncated && message.overflow.is_none());
        assert!(received == bytes);
        has_nothing(&to);
    }
}

fn not_joined() {
    let cable = Cable::shared();
    for (ours, theirs) in FAMILIES {
        let from = bind(&cable.left, options(ours, 0));
        let gro = false;
        let to = bind(
            &cable.right,
            UdpOptions {
                gro,
                ..options(theirs, 4789)
            },
        );
        let bytes = pattern(2_500);

        from.send(to.local(), &[IoSlice::new(&bytes)], Some(1000), 0)
            .unwrap();

        for datagram in bytes.chunks(1000) {
            let (message, received) = receive(&to);
            assert_eq!(message.segment, None);
            assert!(received == datagram);
        }
        has_nothing(&to);
    }
}

fn many_parts() {
    let cable = Cable::shared();
    let from = bind(&cable.left, options("192.0.2.1", 0));
    let to = bind(&cable.right, options("192.0.2.2", 4789));
    let bytes = pattern(51_200);
    let parts: Vec<IoSlice<'_>> = bytes.chunks(100).map(IoSlice::new).collect();
    assert_eq!(parts.len(), 512);

    from.send(to.local(), &parts, Some(1400), 0).unwrap();

    let (message, received) = receive(&to);
    assert_eq!(message.segment, Some(1400));
    assert!(received == bytes);
}

fn tos() {
    let cable = Cable::shared();
    for (ours, theirs) in FAMILIES {
        let from = bind(&cable.left, options(ours, 0));
        let to = bind(&cable.right, options(theirs, 4789));
        for tos in [0, 1, 2, 3, 0xb8, 0xff] {
            for segment in [None, Some(1)] {
                from.send(to.local(), &[IoSlice::new(b"two")], segment, tos)
                    .unwrap();
                let (message, _) = receive(&to);
                assert_eq!(message.tos, tos);
                assert_eq!(message.segment, segment.map(usize::from));
            }
        }
    }
}

fn truncated() {
    let cable = Cable::shared();
    let from = bind(&cable.left, options("192.0.2.1", 0));
    let to = bind(&cable.right, options("192.0.2.2", 4789));
    let mut buf = [0xa5; 12];

    send(&from, &to, b"0123456789abc").unwrap();
    send(&from, &to, b"0123456789ab").unwrap();

    let mut next = || {
        let mut message = None;
        wait_until("a message", SECOND, || {
            message = to.recv(&mut buf[..12]).ok();
            message.is_some()
        });
        (message.unwrap().len, message.unwrap().truncated)
    };
    assert_eq!(next(), (12, true));
    assert_eq!(next(), (12, false));
    assert_eq!(&buf, b"0123456789ab");
}

fn overflow() {
    let cable = Cable::shared();
    let from = bind(&cable.left, options("192.0.2.1", 0));
    let small = UdpOptions {
        receive_buffer: 1,
        ..options("192.0.2.2", 4789)
    };
    let to = bind(&cable.right, small);
    for _ in 0..100 {
        send(&from, &to, &pattern(1000)).unwrap();
    }

    let (first, _) = receive(&to);
    assert_eq!(first.overflow, None, "nothing was lost before the first");
    let (mut sent, mut arrived) = (100, 1);
    wait_until("all losses to be told", SECOND, || {
        while to.recv(&mut [0; 2000]).is_ok() {
            arrived += 1;
        }
        send(&from, &to, b"last").unwrap();
        sent += 1;
        let (last, _) = receive(&to);
        arrived += 1;
        last.overflow == Some(sent - arrived)
    });
    assert!(arrived < 100);
}

fn silent() {
    let cable = Cable::shared();
    for (ours, theirs) in FAMILIES {
        let deaf = UdpOptions {
            receives: false,
            ..options(theirs, 50_000)
        };
        let deaf = bind(&cable.right, deaf);
        let hears = bind(&cable.right, options(theirs, 4789));
        // Connected, so that an ICMP error becomes an error of the next call.
        let stranger = || cable.left.run(|| StdUdpSocket::bind((ours, 0))).unwrap();
        let (knocks, refused) = (stranger(), stranger());
        knocks.connect(deaf.local()).unwrap();
        refused.connect((theirs, 50_001)).unwrap();

        for _ in 0..10 {
            knocks.send(b"anybody?").unwrap();
        }
        // Sent later over the same cable: its answer comes after any to the others.
        refused.send(b"anybody?").unwrap();
        wait_until("port unreachable", SECOND, || {
            refused.take_error().unwrap().is_some()
        });

        assert!(knocks.take_error().unwrap().is_none());
        has_nothing(&deaf);
        // And it can be used to send.
        send(&deaf, &hears, b"hello").unwrap();
        assert_eq!(receive(&hears).0.from, deaf.local());
    }
}

fn exclusive() {
    let cable = Cable::shared();
    for (ours, _) in FAMILIES {
        let first = bind(&cable.left, options(ours, 4789));
        let again = |options: UdpOptions| cable.left.run(|| UdpSocket::bind(&options));
        fails(again(options(ours, 4789)), libc::EADDRINUSE);
        let any = if ours.contains(':') { "::" } else { "0.0.0.0" };
        fails(again(options(any, 4789)), libc::EADDRINUSE);
        // Nobody can have a share either, who would take one.
        let shares = cable.left.run(|| {
            let domain = socket2::Domain::for_address(first.local());
            let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&first.local().into())
        });
        fails(shares, libc::EADDRINUSE);
        assert!(again(options(ours, 4790)).is_ok());
        drop(first);
        assert!(again(options(ours, 4789)).is_ok());
    }
}

fn only_v6() {
    let cable = Cable::shared();
    let v6 = bind(&cable.right, options("::", 4789));
    let v4 = bind(&cable.right, options("0.0.0.0", 4789));
    let from = bind(&cable.left, options("192.0.2.1", 0));
    let to = "192.0.2.2:4789".parse().unwrap();
    from.send(to, &[IoSlice::new(b"hello")], None, 0).unwrap();
    assert_eq!(receive(&v4).0.from, from.local());
    has_nothing(&v6);
}

fn refused() {
    let cable = Cable::shared();
    let bind_left = |options: UdpOptions| cable.left.run(|| UdpSocket::bind(&options));
    fails(bind_left(options("192.0.2.9", 4789)), libc::EADDRNOTAVAIL);
    fails(bind_left(options("2001:db8::9", 4789)), libc::EADDRNOTAVAIL);
    let ttl = 0;
    fails(
        bind_left(UdpOptions {
            ttl,
            ..options("192.0.2.1", 4789)
        }),
        libc::EINVAL,
    );
    for (ours, theirs) in FAMILIES {
        let from = bind(&cable.left, options(ours, 0));
        let to = bind(&cable.right, options(theirs, 4789));
        let overhead = if ours.contains(':') { 48 } else { 28 };
        let bytes = pattern(70_000);
        let sends = |len: usize, segment: Option<u16>| {
            from.send(to.local(), &[IoSlice::new(&bytes[..len])], segment, 0)
        };
        let fits = 1500 - overhead;
        assert_eq!(sends(fits, None).unwrap(), fits);
        fails(sends(fits + 1, None), libc::EMSGSIZE);
        let segment = u16::try_from(fits).ok();
        assert_eq!(sends(10 * fits, segment).unwrap(), 10 * fits);
        fails(
            sends(10 * fits, segment.map(|fits| fits + 1)),
            libc::EMSGSIZE,
        );
        fails(sends(66_000, Some(1000)), libc::EMSGSIZE);
        fails(sends(1000, Some(1)), libc::EINVAL);
        for len in [fits, 10 * fits] {
            assert_eq!(receive(&to).0.len, len);
        }
        has_nothing(&to);

        let unsummed = UdpOptions {
            no_checksum_tx: true,
            ..options(ours, 0)
        };
        let unsummed = bind(&cable.left, unsummed);
        let parts = [IoSlice::new(&bytes[..2000])];
        fails(
            unsummed.send(to.local(), &parts, Some(1000), 0),
            libc::EINVAL,
        );
        let nowhere = if ours.contains(':') {
            "[2001:db8:9::9]:4789"
        } else {
            "198.51.100.9:4789"
        };
        let parts = [IoSlice::new(b"hello")];
        let sent = from.send(nowhere.parse().unwrap(), &parts, None, 0);
        fails(sent, libc::ENETUNREACH);
    }
}

fn closed() {
    let cable = Cable::shared();
    let before = open_fds();
    for (ours, _) in FAMILIES {
        drop(bind(&cable.left, options(ours, 4789)));
        let bound = cable
            .left
            .run(|| UdpSocket::bind(&options("192.0.2.9", 4789)));
        assert!(bound.is_err());
    }
    assert_eq!(open_fds(), before);
}
