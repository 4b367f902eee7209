//! UDP sockets in real network namespaces, and the VXLAN endpoint that is made of them: what arrives,
//! what is refused, and who is told.

mod common;
#[path = "sys_udp/messages.rs"]
mod messages;
#[path = "sys_udp/owner.rs"]
mod owner;
#[path = "sys_udp/path.rs"]
mod path;
#[path = "sys_udp/underlay.rs"]
mod underlay;
#[path = "sys_udp/wire.rs"]
mod wire;

use std::{
    fs,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::LazyLock,
    time::Duration,
};

use common::{Env, Netns, wait_until};
use libtest_mimic::Trial;
use tapswitch::sys::udp::{Message, UdpOptions, UdpSocket};

const SECOND: Duration = Duration::from_secs(1);

/// Programs that it runs, its name, and itself.
type Test = (&'static [&'static str], &'static str, fn());

fn main() -> ExitCode {
    common::main(|env: &Env| -> Vec<Trial> {
        let tests = [
            messages::TESTS,
            wire::TESTS,
            path::TESTS,
            owner::TESTS,
            underlay::TESTS,
        ]
        .concat();
        let trial = |&(programs, name, body): &_| env.trial_with(programs, name, body);
        tests.iter().map(trial).collect()
    })
}

/// Two namespaces with a cable between their `u0`.
struct Cable {
    left: Netns,
    right: Netns,
}

impl Cable {
    /// One for all tests that leave it as it was.
    fn shared() -> &'static Self {
        static CABLE: LazyLock<Cable> = LazyLock::new(Cable::new);
        &CABLE
    }

    fn new() -> Self {
        let (left, right) = (Netns::new("left"), Netns::new("right"));
        let peer = right.name();
        left.ip(&format!("link add u0 type veth peer name u0 netns {peer}"));
        for (side, n) in [(&left, 1), (&right, 2)] {
            side.ip("link set lo up");
            side.ip(&format!("address add 192.0.2.{n}/24 dev u0"));
            side.ip(&format!("address add 2001:db8::{n}/64 dev u0 nodad"));
            // A lost question for a neighbour is asked again soon, not after a second.
            for family in ["ipv4", "ipv6"] {
                let file = format!("/proc/sys/net/{family}/neigh/u0/retrans_time_ms");
                side.run(|| fs::write(file, "20")).unwrap();
            }
            side.ip("link set u0 up");
        }
        let cable = Self { left, right };
        for family in FAMILIES {
            cable.await_way(family);
        }
        cable
    }

    /// Waits until datagrams pass: the kernel takes its time to believe in a new link.
    #[track_caller]
    fn await_way(&self, (ours, theirs): (&str, &str)) {
        let [from, to] = [(&self.left, ours), (&self.right, theirs)]
            .map(|(netns, ip)| bind(netns, options(ip, 0)));
        // Each end learns by itself that the cable is plugged in, and loses what comes before.
        for (from, to) in [(&from, &to), (&to, &from)] {
            wait_until("a way", 5 * SECOND, || {
                drop(send(from, to, b"hello"));
                to.recv(&mut [0; 100]).is_ok()
            });
        }
    }
}

/// Our address and that of the other side, in both families.
const FAMILIES: [(&str, &str); 2] = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn options(local: &str, port: u16) -> UdpOptions {
    UdpOptions {
        local: SocketAddr::new(ip(local), port),
        gro: true,
        ttl: 64,
        receive_buffer: 1 << 20,
        send_buffer: 1 << 20,
        no_checksum_tx: false,
        no_checksum6_rx: false,
        receives: true,
    }
}

#[track_caller]
fn bind(netns: &Netns, options: UdpOptions) -> UdpSocket {
    netns.run(|| UdpSocket::bind(&options)).unwrap()
}

fn send(socket: &UdpSocket, to: &UdpSocket, bytes: &[u8]) -> io::Result<usize> {
    socket.send(to.local(), &[IoSlice::new(bytes)], None, 0)
}

/// The next message, and its bytes.
#[track_caller]
fn receive(socket: &UdpSocket) -> (Message, Vec<u8>) {
    let mut buf = vec![0xa5; 70_000];
    let mut message = None;
    wait_until("a message", SECOND, || {
        message = socket.recv(&mut buf).ok();
        message.is_some()
    });
    let message = message.unwrap();
    buf.truncate(message.len);
    (message, buf)
}

/// That nothing has arrived, though what was sent before to it would have.
#[track_caller]
fn has_nothing(socket: &UdpSocket) {
    let error = socket.recv(&mut [0; 100]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[track_caller]
fn fails<T: std::fmt::Debug>(result: io::Result<T>, errno: i32) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}
