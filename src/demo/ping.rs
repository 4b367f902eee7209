//! A ping of our own, so that the demo needs no program beside itself.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Ipv4HeaderSlice};
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::clock;

/// Sends one echo request with `len` bytes of data from the calling thread's namespace and waits for the reply.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] if none comes within `patience`, or what the socket says.
pub(super) fn ping(
    to: Ipv4Addr,
    len: usize,
    sequence: u16,
    patience: Duration,
) -> io::Result<Duration> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    let id = u16::try_from(std::process::id() & 0xffff).unwrap_or(1);
    let payload = vec![0x5a; len];
    let echo = IcmpEchoHeader { id, seq: sequence };
    let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &payload);
    let request = [&header.to_bytes()[..], &payload].concat();
    let start = clock::now();
    socket.send_to(&request, &SocketAddrV4::new(to, 0).into())?;
    let deadline = start + patience;
    loop {
        let left = deadline.since(clock::now());
        if left.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no reply from {to} within {patience:?}"),
            ));
        }
        socket.set_read_timeout(Some(left))?;
        let mut packet = [0; 2048];
        match (&socket).read(&mut packet) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Ok(len) if is_reply(&packet[..len], to, echo) => return Ok(clock::now().since(start)),
            other => drop(other?),
        }
    }
}

/// A raw socket is handed every ICMP packet of the namespace, with its IP header.
fn is_reply(packet: &[u8], from: Ipv4Addr, echo: IcmpEchoHeader) -> bool {
    let Ok(ip) = Ipv4HeaderSlice::from_slice(packet) else {
        return false;
    };
    let icmp = Icmpv4Slice::from_slice(&packet[ip.slice().len()..]);
    ip.source_addr() == from
        && icmp.is_ok_and(|icmp| icmp.icmp_type() == Icmpv4Type::EchoReply(echo))
}
