//! What the kernel knows of the way to an address.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::{
    hear_nothing, new_socket,
    options::{get, set},
};
use crate::{sys::clock, time::Timestamp};

/// A socket that sends nothing and knows what the path to an address takes.
#[derive(Debug)]
pub struct PathProbe {
    socket: Socket,
    to: SocketAddr,
}

impl PathProbe {
    /// A probe of the path from `local` to `to` in the namespace of the calling thread.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if no interface has `local`; `EMFILE`. That there is no route is no error yet.
    pub fn new(local: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(to.is_ipv6())?;
        hear_nothing(&socket)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        Ok(Self { socket, to })
    }

    /// The MTU of the path, in bytes of IP packets: that of the route, of its device, or what an
    /// ICMP error told the kernel, whichever is in force now.
    ///
    /// # Errors
    /// `ENETUNREACH`, `EHOSTUNREACH`, `EACCES` and others for a route that does not exist or forbids
    /// it, or if no interface has our IPv4 address now. A later call may succeed.
    pub fn mtu(&self) -> io::Result<u32> {
        self.mtu_to(self.to)
    }

    /// The MTU of the path to `to`, which must be of the same family, instead. Not for two threads
    /// at once: one would get the answer to the question of the other.
    ///
    /// # Errors
    /// As [`Self::mtu`].
    pub fn mtu_to(&self, to: SocketAddr) -> io::Result<u32> {
        // The kernel answers from the route that the socket holds, and does not ask whether that is
        // still the best, or still there, or what ICMP said since. Connecting finds the one in force.
        // Both calls together take 1.4 µs.
        self.socket.connect(&to.into())?;
        let (level, name) = if to.is_ipv6() {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU)
        } else {
            (libc::IPPROTO_IP, libc::IP_MTU)
        };
        let mtu = get(self.socket.as_fd(), level, name)?;
        Ok(u32::try_from(mtu).unwrap_or(0))
    }
}

/// What came back for a datagram.
#[derive(Debug)]
pub enum Answer {
    /// A datagram.
    Answered,
    /// The host is there, and no socket has the port (ICMP port unreachable: `ECONNREFUSED`).
    Refused,
    /// Nothing within the time.
    Silent,
    /// The kernel or a router knows no way: `ENETUNREACH`, `EHOSTUNREACH`, `EACCES` and others.
    Unreachable(io::Error),
}

impl From<io::Error> for Answer {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            _ => Self::Unreachable(error),
        }
    }
}

/// A socket that sends short datagrams to see what comes back.
#[derive(Debug)]
pub struct Knock {
    socket: Socket,
    to: SocketAddr,
}

impl Knock {
    /// Prepares to send from `local` to `to` in the namespace of the calling thread; sends nothing.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if no interface has `local`; `EMFILE`.
    pub fn new(local: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(to.is_ipv6())?;
        // Without it, an unconnected port is the only thing that ICMP can tell (`__udp4_lib_err`).
        let (level, name) = if to.is_ipv6() {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        } else {
            (libc::IPPROTO_IP, libc::IP_RECVERR)
        };
        set(socket.as_fd(), level, name, 1)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        Ok(Self { socket, to })
    }

    /// Sends one byte: less than the header of any tunnel, so that a VTEP drops it without a word.
    ///
    /// # Errors
    /// What is known already: that there is no way, or what came back for an earlier one.
    pub fn send(&self) -> Result<(), Answer> {
        // Connected, so that errors come to this socket, and datagrams of others do not.
        let sent = self.socket.connect(&self.to.into());
        sent.and_then(|()| (&self.socket).write_all(&[0]))
            .map_err(Answer::from)
    }

    /// Waits for what comes back; the time is rounded up to a millisecond.
    pub fn wait_until(&self, deadline: Timestamp) -> Answer {
        match self.hears_until(deadline) {
            Ok(true) => Answer::Answered,
            Ok(false) => Answer::Silent,
            Err(error) => error.into(),
        }
    }

    /// Whether anything came back.
    fn hears_until(&self, deadline: Timestamp) -> io::Result<bool> {
        loop {
            match (&self.socket).read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.map(|_| true),
            }
            let rest = deadline.since(clock::now());
            if rest.is_zero() {
                return Ok(false);
            }
            let millis = rest.as_nanos().div_ceil(1_000_000);
            let wait = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, wait) {
                Err(nix::Error::EINTR) => {}
                result => drop(result?),
            }
        }
    }
}
