//! What goes on between the pods while somebody looks: a little of everything, slow enough to follow.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{HEADERS, PODS, SHORT, namespaces::Netns};
use crate::netlink::forget_neighbours;

/// One thing that happens. Pods are counted from 0.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A pod pings another one.
    Ping(usize, usize),
    /// A pod forgets the MAC addresses of the others, so that it asks everybody again.
    Forget(usize),
    /// A pod sends another one some 8 KB over TCP.
    Transfer(usize, usize),
    /// A pod asks for an address that nobody has.
    AskForNobody(usize),
    /// A pod sends a packet that the way between the nodes has no room for.
    SendTooMuch(usize, usize),
    /// Nothing, so that the eye can rest.
    Rest,
}

/// All of it, over and over: half a minute.
const ACTS: &[Act] = &[
    Act::Forget(0),
    Act::Ping(0, 2),
    Act::Ping(0, 2),
    Act::Rest,
    Act::Ping(0, 1),
    Act::Ping(3, 2),
    Act::Rest,
    Act::Transfer(0, 2),
    Act::Rest,
    Act::Forget(3),
    Act::Ping(3, 1),
    Act::Ping(1, 3),
    Act::Rest,
    Act::AskForNobody(1),
    Act::Rest,
    Act::Ping(2, 0),
    Act::Ping(2, 3),
    Act::Rest,
    Act::Transfer(1, 0),
    Act::Rest,
    Act::SendTooMuch(3, 0),
    Act::Rest,
    Act::Forget(2),
    Act::Ping(2, 1),
    Act::Rest,
];

/// Lets the pods talk until the other end of `stopped` is gone.
pub(super) fn keep_going(pods: &[Netns], stopped: &Receiver<()>) {
    for (act, sequence) in ACTS.iter().cycle().zip((1..=u16::MAX).cycle()) {
        // Whoever looks may have pulled a cable: then nothing comes of it, and that can be seen.
        if let Err(error) = perform(pods, *act, sequence) {
            tracing::debug!("{act:?}: {error}");
        }
        if stopped.recv_timeout(BEAT) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn perform(pods: &[Netns], act: Act, sequence: u16) -> io::Result<()> {
    let pod = |index: usize| {
        let missing = || io::Error::other("there is no such pod");
        let netns = pods.get(index).ok_or_else(missing)?;
        let ip = PODS.get(index).ok_or_else(missing)?.ip;
        Ok::<_, io::Error>((netns, ip))
    };
    match act {
        Act::Ping(from, to) => {
            let ((from, _), (_, to)) = (pod(from)?, pod(to)?);
            from.ping(to, SHORT, sequence, PATIENCE).map(drop)
        }
        Act::Forget(who) => {
            let netns = pod(who)?.0.open()?;
            forget_neighbours(&netns).map_err(io::Error::other)
        }
        Act::Transfer(from, to) => transfer(pod(from)?.0, pod(to)?),
        Act::AskForNobody(who) => {
            let asked = pod(who)?.0.ping(NOBODY, SHORT, sequence, PATIENCE);
            asked.map(drop)
        }
        Act::SendTooMuch(from, to) => {
            let ((netns, from), (_, to)) = (pod(from)?, pod(to)?);
            netns.run(move || send_whole(from, to, sequence, TOO_MUCH))?
        }
        Act::Rest => Ok(()),
    }
}

/// Everything by one thread: the kernel answers for the server, and holds what comes until it is
/// read.
fn transfer(from: &Netns, (to, ip): (&Netns, Ipv4Addr)) -> io::Result<()> {
    let address = SocketAddr::from((ip, 80));
    let server = to.run(move || TcpListener::bind(address))??;
    // The cable may be pulled before the server has the last of the three segments.
    SockRef::from(&server).set_read_timeout(Some(PATIENCE))?;
    let mut client = from.run(move || TcpStream::connect_timeout(&address, PATIENCE))??;
    let (mut taken, _) = server.accept()?;
    client.set_write_timeout(Some(PATIENCE))?;
    taken.set_read_timeout(Some(PATIENCE))?;
    client.write_all(&vec![b'x'; TRANSFER])?;
    client.shutdown(Shutdown::Write)?;
    let mut all = Vec::with_capacity(TRANSFER);
    taken.read_to_end(&mut all).map(drop)
}

/// Sends an echo request in a packet of `len` bytes that nobody may fragment, whatever is known about
/// the way.
fn send_whole(from: Ipv4Addr, to: Ipv4Addr, sequence: u16, len: usize) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_header_included_v4(true)?;
    let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 64);
    let builder = builder.icmpv4_echo_request(TOO_MUCH_ID, sequence);
    let payload = vec![0x5a; len.saturating_sub(HEADERS)];
    let mut packet = Vec::with_capacity(len);
    builder
        .write(&mut packet, &payload)
        .map_err(io::Error::other)?;
    let address = SocketAddr::from((to, 0));
    socket.send_to(&packet, &address.into()).map(drop)
}

/// Between two acts.
const BEAT: Duration = Duration::from_millis(700);
/// How long a pod waits for another one.
const PATIENCE: Duration = Duration::from_millis(400);
/// What a transfer has: more than one frame, and less than a socket holds.
const TRANSFER: usize = 8_000;
/// Nobody has it.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// The MTU of podD, which is larger than what the way to the other node takes.
pub(super) const TOO_MUCH: usize = 1500;
const TOO_MUCH_ID: u16 = 0x7a70;
