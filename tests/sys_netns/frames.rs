//! Frames between two namespaces.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    thread,
    time::Duration,
};

use tapswitch::{
    attach::{Engine, PlugRequest, Plugged, PortDevice, plug},
    sys::epoll::{Epoll, Events, Interest},
    wire::{MacAddr, VirtioNetHdr},
};

use super::{SECOND, Test, has, request};
use crate::common::{Netns, wait_until};

pub(crate) const TESTS: &[Test] = &[
    (&[], "the_first_frame_has_the_ports_address", first_frame),
    (&["ping"], "the_simple_tap_passes_frames", simple_frames),
    (&[], "the_fast_tap_passes_superframes", fast_frames),
];

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

fn recv(device: &PortDevice, buf: &mut [u8]) -> io::Result<usize> {
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

/// The link goes up last, so nothing leaves with another address before.
fn first_frame() {
    let netns = Netns::new("first");
    let port = plug(&request(&netns)).unwrap();
    let mut buf = vec![0; 70_000];
    // IPv6 speaks first: a multicast listener report, then a router solicitation.
    wait_until("the first frame", 3 * SECOND, || {
        recv(&port.device, &mut buf).is_ok()
    });
    let frame = &buf[VirtioNetHdr::LEN..];
    assert_eq!(frame[..2], [0x33, 0x33], "to IPv6 multicast");
    assert_eq!(frame[6..12], [2, 0, 0, 0, 0, 1], "from the port's address");
}
