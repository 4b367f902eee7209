//! Ports whose link or namespace is deleted.

use std::{
    fs::{self, File},
    os::fd::{AsFd, AsRawFd},
    path::Path,
    thread,
    time::Duration,
};

use tapswitch::{
    attach::{Engine, PlugRequest, Plugged, PortDevice, link_of, plug},
    names::IfName,
    sys::{
        Tap, TapOptions, clock,
        epoll::{Epoll, Events, Interest},
        is_gone,
        netns::{NetnsFile, create_anonymous},
    },
    wire::MacAddr,
};

use super::{SECOND, Test, full, has};
use crate::common::{Netns, command, ip, links, open_fds, wait_until};

pub(crate) const TESTS: &[Test] = &[
    (&[], "a_deleted_link_is_gone_at_once", link_deleted),
    (&[], "a_deleted_namespace_dies_with_its_port", netns_deleted),
    (&[], "plugging_and_deleting_leaves_nothing", cycles),
    (
        &[],
        "a_tap_opened_inside_would_keep_its_namespace_alive",
        pinned,
    ),
    (&[], "no_thread_is_left_in_a_foreign_namespace", threads),
    (&[], "an_anonymous_namespace_takes_a_port", anonymous),
];

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
    // The last frames, such as multicast listener reports, may come out after the event.
    wait_until("reading fails", SECOND, || {
        let read = match &plugged.device {
            PortDevice::Fast(tap) => tap.recv(&mut buf),
            PortDevice::Simple(tap) => tap.recv(&mut buf),
        };
        read.is_err_and(|error| is_gone(&error))
    });
    let written = match &plugged.device {
        PortDevice::Fast(tap) => tap.send(&buf),
        PortDevice::Simple(tap) => tap.send(&buf),
    };
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
        // The kernel cleans up in a queue of its own, so one case may be late on a busy machine;
        // the many cycles below ask for the usual delay.
        assert!(took < SECOND, "{took:?}");
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
    assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
    for (what, times) in [("plug", &mut plugging), ("gone", &mut dying)] {
        times.sort_unstable();
        println!("{what}: median {:?}, longest {:?}", times[100], times[199]);
        assert!(times[100] < Duration::from_millis(100), "{what}");
    }
}

fn anonymous() {
    let fd = create_anonymous().unwrap();
    let netns = NetnsFile::from_file(File::from(fd), "demo".to_owned()).unwrap();
    assert_ne!(netns.id(), NetnsFile::current().unwrap().id());
    let path = format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd());
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
        .run_in(|| command("ip").args(["-o", "link"]).output())
        .unwrap()
        .unwrap();
    has(&String::from_utf8_lossy(&listed.stdout), &["eth0"]);
    let took = gone_after(&plugged, || drop(netns));
    println!("gone {took:?} after its last descriptor was closed");
}

/// Why a TAP is created outside and moved: the file keeps the namespace of its opener.
fn pinned() {
    let netns = Netns::new("pinned");
    ip(&format!(
        "link add witness type veth peer name peer netns {}",
        netns.name()
    ));
    let tap = netns.run(|| Tap::create(&TapOptions::default()).unwrap());
    netns.delete();
    thread::sleep(SECOND / 5);
    assert!(links().contains(&"witness".to_owned()));
    drop(tap);
    wait_until("the namespace is dead", SECOND, || {
        !links().contains(&"witness".to_owned())
    });
}

fn threads() {
    let netns = Netns::new("threads");
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let file = netns.open();
    let seen = file.run_in(|| fs::read_link("/proc/thread-self/ns/net"));
    assert_ne!(seen.unwrap().unwrap(), own);
    let panicked = thread::scope(|scope| {
        let outer = scope.spawn(|| file.run_in(|| panic!("as expected")));
        outer.join().is_err()
    });
    assert!(panicked);
    drop(plug(&full(&netns)).unwrap());
    plug(&PlugRequest {
        mtu: 1,
        ..full(&netns)
    })
    .unwrap_err();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let link = task.unwrap().path().join(Path::new("ns/net"));
        // A thread that has just ended may still be listed.
        if let Ok(namespace) = fs::read_link(&link) {
            assert_eq!(namespace, own, "{link:?}");
        }
    }
}
