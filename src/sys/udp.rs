//! UDP sockets of a tunnel (`udp(7)`): many datagrams a call, and no host on the way cuts one.
//!
//! The two offloads here are the *outer* ones. `UDP_SEGMENT` cuts one message into datagrams of
//! equal length below the socket, or not at all where the next hop is a namespace of this machine.
//! `UDP_GRO` hands over datagrams of one sender that the kernel joined, with their length.
//!
//! * A port is had alone: neither `SO_REUSEADDR` nor `SO_REUSEPORT` is set, since two sockets that
//!   share one would each get some of the datagrams.
//! * DF is set on all that is sent (`IP_PMTUDISC_DO`), and what is longer than the path takes is
//!   refused here with `EMSGSIZE`: RFC 7348 section 4.3 says that VTEPs "MUST NOT fragment".
//! * A socket belongs to the namespace of the thread that made it, and works from any thread.
//! * A socket that is bound to an address outlives the removal of the address and of its link, and
//!   works again when the address is back. Until then IPv4 refuses to send, and IPv6 goes on with
//!   the address that nobody has any more, as long as there is a route.

mod message;
mod options;
mod owner;
mod path;
mod refusals;

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use self::options::{force_buffer, never_fragment, set};
pub use self::{
    owner::{PortOwner, owner_of},
    path::{Answer, Knock, PathProbe},
    refusals::Refusals,
};

/// How to open a [`UdpSocket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// The address and port to have alone; port 0: the kernel chooses one.
    pub local: SocketAddr,
    /// Whether joined datagrams are taken (`UDP_GRO`).
    pub gro: bool,
    /// TTL or hop limit of what is sent, 1 to 255.
    pub ttl: u8,
    /// Bytes of memory for what has arrived; 0: as much as the system gives. The kernel takes
    /// twice the number, since each datagram costs more than its length.
    pub receive_buffer: usize,
    /// Bytes of memory for what is on its way out, likewise.
    pub send_buffer: usize,
    /// Send without UDP checksums. The kernel then refuses `UDP_SEGMENT`.
    pub no_checksum_tx: bool,
    /// Take datagrams over IPv6 without checksums (RFC 6935).
    pub no_checksum6_rx: bool,
    /// False: whatever arrives is thrown away before it costs anything, and the sender is told
    /// nothing.
    pub receives: bool,
}

/// What [`UdpSocket::recv`] has read: a datagram, or several of one sender that were joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bytes of all its datagrams.
    pub len: usize,
    /// Who sent them.
    pub from: SocketAddr,
    /// Bytes of each datagram but the last, if the kernel said so (`UDP_GRO`).
    pub segment: Option<usize>,
    /// TOS or traffic class of the IP header.
    pub tos: u8,
    /// How many datagrams the socket has had no room for in its life (`SO_RXQ_OVFL`; it wraps). The
    /// kernel tells from the first loss on.
    pub overflow: Option<u32>,
    /// It was longer than the buffer, and the rest is lost.
    pub truncated: bool,
}

/// A UDP socket that never blocks.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    local: SocketAddr,
}

impl UdpSocket {
    /// Opens a socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// `EADDRINUSE` if another has the port ([`owner_of`] says who), `EADDRNOTAVAIL` if no interface
    /// has the address or an IPv6 address is still being checked for duplicates, `EACCES` for a
    /// port below 1024, `EINVAL` for a TTL of 0, `EAFNOSUPPORT` without IPv6.
    pub fn bind(options: &UdpOptions) -> io::Result<Self> {
        let is_v6 = options.local.is_ipv6();
        let socket = new_socket(is_v6)?;
        let fd = socket.as_fd();
        if is_v6 {
            socket.set_unicast_hops_v6(options.ttl.into())?;
        } else {
            socket.set_ttl_v4(options.ttl.into())?;
        }
        if options.no_checksum_tx && is_v6 {
            set(fd, libc::SOL_UDP, libc::UDP_NO_CHECK6_TX, 1)?;
        } else if options.no_checksum_tx {
            set(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)?;
        }
        if options.receives {
            let (level, name) = if is_v6 {
                (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS)
            } else {
                (libc::IPPROTO_IP, libc::IP_RECVTOS)
            };
            set(fd, level, name, 1)?;
            set(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
            if options.no_checksum6_rx && is_v6 {
                set(fd, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1)?;
            }
            if options.gro {
                joined_if_possible(fd)?;
            }
            force_buffer(
                fd,
                libc::SO_RCVBUFFORCE,
                libc::SO_RCVBUF,
                options.receive_buffer,
            )?;
        } else {
            hear_nothing(&socket)?;
        }
        force_buffer(
            fd,
            libc::SO_SNDBUFFORCE,
            libc::SO_SNDBUF,
            options.send_buffer,
        )?;
        socket.bind(&options.local.into())?;
        let local = socket.local_addr()?.as_socket().unwrap_or(options.local);
        Ok(Self { socket, local })
    }

    /// The address and port that it has.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Reads the next message into `buf`, which should hold 64 KiB: the rest of a longer one is lost.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    #[inline]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<Message> {
        message::recv(self.as_fd(), buf)
    }

    /// Sends the bytes of `parts` (at most 1024 of them) to `to`, which must be of its own family:
    /// as one datagram, or cut into datagrams of `segment` bytes each, of which the last may be
    /// shorter (`UDP_SEGMENT`). `tos` is the TOS or traffic class.
    ///
    /// All of it goes out, or nothing.
    ///
    /// # Errors
    /// * `EMSGSIZE`: a datagram is longer than the path takes, or all are longer than 65,507 bytes
    ///   (IPv4) or 65,527 bytes (IPv6).
    /// * `EAGAIN`, `ENOBUFS`, `ENOMEM`: there is no room now.
    /// * `ENETUNREACH`, `EHOSTUNREACH`, `EACCES` and others: there is no route, or it forbids this; or
    ///   no interface has our IPv4 address now.
    /// * `EINVAL`: with `segment`, there are more datagrams than the kernel takes at once (128; 64
    ///   before Linux 6.9), or the socket sends without checksums (`udp_send_skb`).
    /// * `EIO`: with `segment`, the route goes through IPsec, or (before Linux 6.11) over a device
    ///   that sums nothing up.
    /// * `EPERM`: a packet filter of its namespace forbids it.
    #[inline]
    pub fn send(
        &self,
        to: SocketAddr,
        parts: &[IoSlice<'_>],
        segment: Option<u16>,
        tos: u8,
    ) -> io::Result<usize> {
        message::send(self.as_fd(), to, parts, segment, tos)
    }

    /// The MTU of the path from its address to `to`, in bytes of IP packets. Opens a socket in the
    /// namespace of the calling thread; to ask again and again, keep a [`PathProbe`].
    ///
    /// # Errors
    /// As [`PathProbe::new`] and [`PathProbe::mtu`].
    pub fn path_mtu(&self, to: SocketAddr) -> io::Result<u32> {
        PathProbe::new(self.local.ip(), to)?.mtu()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket without address that never blocks and whose datagrams nobody fragments.
fn new_socket(is_v6: bool) -> io::Result<Socket> {
    let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if is_v6 {
        socket.set_only_v6(true)?;
    }
    never_fragment(socket.as_fd(), is_v6)?;
    Ok(socket)
}

/// Asks for joined datagrams. A kernel before 5.0 does not know how and hands over single ones,
/// which is as good.
fn joined_if_possible(fd: BorrowedFd<'_>) -> io::Result<()> {
    match set(fd, libc::SOL_UDP, libc::UDP_GRO, 1) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// Lets the kernel throw away whatever arrives. To be called before the socket has a port: what has
/// arrived until then would stay.
fn hear_nothing(socket: &Socket) -> io::Result<()> {
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
    // The kernel rounds it up to the least that it can do.
    socket.set_recv_buffer_size(1)
}

/// `BPF_RET | BPF_K` of classic BPF: keep as many bytes of the packet as the operand says.
const RETURN: u16 = 0x06;
