//! Who refuses datagrams of this host, whichever socket sent them.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    net::IpAddr,
    os::fd::AsFd,
};

use libc::c_int;
use socket2::{Domain, Protocol, Socket, Type};

use super::options::{set, set_all};

/// A socket that hears what ICMP calls unreachable of this host, from when it was made on (`raw(7)`,
/// `icmp_deliver`). A UDP socket hears those of its own datagrams only, and of a tunnel, whose
/// sockets are not connected, none at all.
#[derive(Debug)]
pub struct Refusals {
    socket: Socket,
    from: IpAddr,
}

impl Refusals {
    /// Listens in the namespace of the calling thread for what `from` refuses.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW` there; `EMFILE`.
    pub fn new(from: IpAddr) -> io::Result<Self> {
        let (domain, protocol) = match from {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
        // Else a flood of echoes would leave it no room. What comes before is told apart when read.
        match from {
            IpAddr::V4(_) => set(socket.as_fd(), SOL_RAW, ICMP_FILTER, !(1 << UNREACHABLE_V4))?,
            IpAddr::V6(_) => {
                let mut blocked = [!0; 8];
                blocked[0] = !(1 << UNREACHABLE_V6);
                set_all(
                    socket.as_fd(),
                    libc::IPPROTO_ICMPV6,
                    ICMPV6_FILTER,
                    &blocked,
                )?;
            }
        }
        Ok(Self { socket, from })
    }

    /// The UDP ports of which it has told, since this was asked last, that nobody listens there.
    pub fn ports(&self) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        let mut bytes = [0; MOST_BYTES];
        for _ in 0..MOST_MESSAGES {
            let Ok(len) = (&self.socket).read(&mut bytes) else {
                break;
            };
            let message = bytes.get(..len).unwrap_or_default();
            ports.extend(refused(message, self.from));
        }
        ports
    }
}

/// The UDP port at `from` that an ICMP message says to be unreachable. Over IPv4 the IP header is in
/// front of it.
fn refused(message: &[u8], from: IpAddr) -> Option<u16> {
    let (protocol, dst, udp) = match from {
        IpAddr::V4(_) => {
            let icmp = behind_v4(message)?;
            // Destination unreachable, port (RFC 792).
            let packet = icmp.strip_prefix(&[UNREACHABLE_V4, 3])?.get(6..)?;
            let dst: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            (*packet.get(9)?, IpAddr::from(dst), behind_v4(packet)?)
        }
        IpAddr::V6(_) => {
            // Destination unreachable, port (RFC 4443 section 3.1).
            let packet = message.strip_prefix(&[UNREACHABLE_V6, 4])?.get(6..)?;
            let dst: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            (*packet.get(6)?, IpAddr::from(dst), packet.get(40..)?)
        }
    };
    let &[_, _, a, b, ..] = udp else { return None };
    (protocol == UDP && dst == from).then_some(u16::from_be_bytes([a, b]))
}

fn behind_v4(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0xf) * 4..)
}

const UDP: u8 = 17;
/// Destination unreachable (RFC 792).
const UNREACHABLE_V4: u8 = 3;
/// Destination unreachable (RFC 4443 section 3.1).
const UNREACHABLE_V6: u8 = 1;
/// The level of [`ICMP_FILTER`] (`linux/socket.h`).
const SOL_RAW: c_int = 255;
/// The types that a raw socket does not hear, a bit for each (`linux/icmp.h`, `raw(7)`).
const ICMP_FILTER: c_int = 1;
/// The same for ICMPv6, in eight words (`linux/icmpv6.h`, RFC 3542 section 3.2).
const ICMPV6_FILTER: c_int = 1;
/// Enough for an error with the headers of what it is about.
const MOST_BYTES: usize = 256;
/// More than the socket has room for.
const MOST_MESSAGES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_port_and_anything_else_none() {
        let from = IpAddr::from([10, 0, 0, 2]);
        let ip = |protocol: u8, dst: u8| {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
            header.extend([10, 0, 0, 1, 10, 0, 0, dst]);
            header
        };
        let message = |kind: [u8; 2], protocol: u8, dst: u8| {
            let udp = [0xc0, 0, 0x12, 0xb5, 0, 9, 0, 0];
            let icmp = [kind[0], kind[1], 0, 0, 0, 0, 0, 0];
            [&ip(1, 1)[..], &icmp, &ip(protocol, dst), &udp].concat()
        };
        let whole = message([3, 3], 17, 2);
        assert_eq!(refused(&whole, from), Some(4789));
        for other in [
            message([3, 1], 17, 2),
            message([8, 0], 17, 2),
            message([3, 3], 6, 2),
            message([3, 3], 17, 3),
        ] {
            assert_eq!(refused(&other, from), None);
        }
        for len in 0..whole.len() - 4 {
            assert_eq!(refused(&whole[..len], from), None, "{len} bytes");
        }

        let from = IpAddr::from([9; 16]);
        let mut whole = vec![1, 4, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 9, 17, 64];
        whole.extend([[1; 16], [9; 16]].concat());
        whole.extend([0xc0, 0, 0x12, 0xb5]);
        assert_eq!(refused(&whole, from), Some(4789));
        whole[0] = 3;
        assert_eq!(refused(&whole, from), None);
    }
}
