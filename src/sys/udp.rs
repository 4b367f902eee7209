//! UDP sockets with segmentation offload (`udp(7)`): many datagrams a call, and no copies but the
//! kernel's own.
//!
//! The two offloads here are the *outer* ones: `UDP_SEGMENT` cuts one long message into datagrams
//! of equal size, `UDP_GRO` hands over datagrams of one sender joined to a message.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use socket2::{
    Domain, MaybeUninitSlice, MsgHdr, MsgHdrMut, Protocol, SockAddr, SockFilter, Socket, Type,
};

use super::checked;

/// How to open a [`UdpSocket`].
#[derive(Clone, Copy, Debug)]
pub struct UdpOptions {
    /// The address and port to have alone.
    pub local: SocketAddr,
    /// Whether joined datagrams are taken (`UDP_GRO`).
    pub gro: bool,
    /// TTL or hop limit of what is sent.
    pub ttl: u8,
    /// Bytes of buffer for what has arrived.
    pub receive_buffer: usize,
    /// Bytes of buffer for what is to go out.
    pub send_buffer: usize,
    /// Send without UDP checksums. The kernel then refuses `UDP_SEGMENT`.
    pub no_checksum_tx: bool,
    /// Take datagrams over IPv6 without checksums (RFC 6935).
    pub no_checksum6_rx: bool,
    /// False: whatever arrives is thrown away before it costs anything.
    pub receives: bool,
}

/// A UDP socket whose datagrams no host fragments: DF is set, and what is longer than the path
/// takes is refused here.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    is_v6: bool,
}

/// What [`UdpSocket::recv`] has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bytes of all datagrams.
    pub len: usize,
    /// Who sent them.
    pub from: SocketAddr,
    /// Bytes of each datagram but the last, if the kernel said so (`UDP_GRO`).
    pub segment: Option<usize>,
    /// TOS or traffic class.
    pub tos: u8,
    /// Datagrams that the socket ever had no room for (`SO_RXQ_OVFL`), if it tells.
    pub overflow: Option<u32>,
    /// It was longer than the buffer; the rest is lost.
    pub truncated: bool,
}

impl UdpSocket {
    /// Opens a socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel says of the address, the port or an option.
    pub fn bind(options: &UdpOptions) -> io::Result<Self> {
        let is_v6 = options.local.is_ipv6();
        let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
        if is_v6 {
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(options.ttl.into())?;
            socket.set_recv_tclass_v6(true)?;
        } else {
            socket.set_ttl_v4(options.ttl.into())?;
            socket.set_recv_tos_v4(true)?;
        }
        never_fragment(&socket, is_v6)?;
        let fd = socket.as_fd();
        if options.no_checksum_tx && is_v6 {
            set(fd, libc::SOL_UDP, UDP_NO_CHECK6_TX, 1)?;
        } else if options.no_checksum_tx {
            set(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)?;
        }
        if options.no_checksum6_rx && is_v6 {
            set(fd, libc::SOL_UDP, UDP_NO_CHECK6_RX, 1)?;
        }
        if options.receives {
            set(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
            if options.gro {
                set(fd, libc::SOL_UDP, libc::UDP_GRO, 1)?;
            }
        } else {
            // Before it has a port: nothing ever gets in.
            socket.attach_filter(&[SockFilter::new(REJECT_ALL, 0, 0, 0)])?;
        }
        buffer(
            fd,
            libc::SO_RCVBUFFORCE,
            libc::SO_RCVBUF,
            options.receive_buffer,
        )?;
        buffer(
            fd,
            libc::SO_SNDBUFFORCE,
            libc::SO_SNDBUF,
            options.send_buffer,
        )?;
        socket.bind(&options.local.into())?;
        Ok(Self { socket, is_v6 })
    }

    /// Reads one message; `WouldBlock` if there is none.
    ///
    /// # Errors
    /// What the kernel says.
    #[inline]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<Message> {
        let mut from = SockAddr::from(self.nobody());
        let mut control = Control([MaybeUninit::new(0); CONTROL]);
        let buf = std::ptr::from_mut(buf) as *mut [MaybeUninit<u8>];
        // SAFETY: same memory, same length, borrowed for as long; the kernel only writes
        // initialised bytes into it.
        let buf = unsafe { &mut *buf };
        let mut buffers = [MaybeUninitSlice::new(buf)];
        let mut header = MsgHdrMut::new()
            .with_addr(&mut from)
            .with_buffers(&mut buffers)
            .with_control(&mut control.0);
        let len = self.socket.recvmsg(&mut header, 0)?;
        let (truncated, control_len) = (header.flags().is_truncated(), header.control_len());
        let mut message = Message {
            len,
            from: from.as_socket().unwrap_or_else(|| self.nobody()),
            segment: None,
            tos: 0,
            overflow: None,
            truncated,
        };
        let bytes = control.initialised();
        for (level, kind, data) in control_messages(bytes.get(..control_len).unwrap_or(&bytes)) {
            let number = |data: &[u8]| data.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    message.segment = number(data).and_then(|size| usize::try_from(size).ok());
                }
                // One byte over IPv4, an int over IPv6.
                (libc::IPPROTO_IP, libc::IP_TOS) => {
                    message.tos = data.first().copied().unwrap_or(0);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    let class = number(data).and_then(|class| u8::try_from(class).ok());
                    message.tos = class.unwrap_or(0);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    message.overflow = number(data).map(i32::cast_unsigned);
                }
                _ => {}
            }
        }
        Ok(message)
    }

    /// Sends the bytes in `parts` to `to`, cut into datagrams of `segment` bytes each if that is
    /// given (`UDP_SEGMENT`), with this TOS or traffic class unless it is 0.
    ///
    /// # Errors
    /// What the kernel says; `EMSGSIZE` if a datagram is longer than the path takes. Nothing was
    /// sent then.
    #[inline]
    pub fn send(
        &self,
        to: SocketAddr,
        parts: &[IoSlice<'_>],
        segment: Option<u16>,
        tos: u8,
    ) -> io::Result<usize> {
        let to = SockAddr::from(to);
        let mut control = ControlWriter::default();
        if let Some(segment) = segment {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        if tos != 0 {
            let (level, kind) = if self.is_v6 {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            } else {
                (libc::IPPROTO_IP, libc::IP_TOS)
            };
            control.push(level, kind, &i32::from(tos).to_ne_bytes());
        }
        let header = MsgHdr::new().with_addr(&to).with_buffers(parts);
        let control = control.bytes();
        if control.is_empty() {
            return self.socket.sendmsg(&header, 0);
        }
        self.socket.sendmsg(&header.with_control(control), 0)
    }

    /// Its address.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local(&self) -> io::Result<SocketAddr> {
        let local = self.socket.local_addr()?;
        local
            .as_socket()
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    fn nobody(&self) -> SocketAddr {
        if self.is_v6 {
            SocketAddr::from(([0_u16; 8], 0))
        } else {
            SocketAddr::from(([0_u8; 4], 0))
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that sends nothing and knows what the path to one address takes.
#[derive(Debug)]
pub struct PathProbe {
    socket: Socket,
    to: SocketAddr,
}

impl PathProbe {
    /// Asks for the path from `local` to `to`, in the namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel refuses a socket. That there is no route is no error yet.
    pub fn new(local: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let is_v6 = to.is_ipv6();
        let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
        never_fragment(&socket, is_v6)?;
        socket.attach_filter(&[SockFilter::new(REJECT_ALL, 0, 0, 0)])?;
        // Where the address is gone for now, the kernel chooses; the path is the same.
        drop(socket.bind(&SocketAddr::new(local, 0).into()));
        Ok(Self { socket, to })
    }

    /// The MTU of the path, in bytes of IP packets.
    ///
    /// # Errors
    /// What the kernel says if there is no way.
    pub fn mtu(&self) -> io::Result<u32> {
        // Connecting looks the route up anew, so that a way that is gone is noticed.
        self.socket.connect(&self.to.into())?;
        let (level, name) = if self.to.is_ipv6() {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU)
        } else {
            (libc::IPPROTO_IP, libc::IP_MTU)
        };
        let mtu = get(self.socket.as_fd(), level, name)?;
        Ok(u32::try_from(mtu).unwrap_or(0))
    }
}

fn never_fragment(socket: &Socket, is_v6: bool) -> io::Result<()> {
    let fd = socket.as_fd();
    if is_v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
        let (level, name) = (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER);
        set(fd, level, name, libc::IPV6_PMTUDISC_DO)
    } else {
        let (level, name) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
        set(fd, level, name, libc::IP_PMTUDISC_DO)
    }
}

/// Beyond the system's limit if we may, else as far as that allows.
fn buffer(fd: BorrowedFd<'_>, forced: i32, plain: i32, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    set(fd, libc::SOL_SOCKET, forced, bytes).or_else(|_| set(fd, libc::SOL_SOCKET, plain, bytes))
}

fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let value = std::ptr::from_ref(&value).cast();
    let fd = fd.as_raw_fd();
    // SAFETY: `value` points to an int that lives until the call returns, and its size is given.
    checked(unsafe { libc::setsockopt(fd, level, name, value, INT) }).map(drop)
}

fn get(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let (mut value, mut len) = (0_i32, INT);
    let (place, room) = (std::ptr::from_mut(&mut value).cast(), &raw mut len);
    let fd = fd.as_raw_fd();
    // SAFETY: `place` points to an int that lives until the call returns, `room` to its size.
    checked(unsafe { libc::getsockopt(fd, level, name, place, room) })?;
    Ok(value)
}

/// Room for the control messages of one call, aligned as `struct cmsghdr`.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL]);

impl Control {
    fn initialised(&self) -> [u8; CONTROL] {
        self.0.map(|byte| {
            // SAFETY: every byte was initialised when the room was made.
            unsafe { byte.assume_init() }
        })
    }
}

/// Control messages to be sent (`cmsg(3)`): length, level, type, data, each aligned to 8.
#[repr(C, align(8))]
#[derive(Default)]
struct ControlWriter {
    bytes: [[u8; 8]; 8],
    len: usize,
}

impl ControlWriter {
    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = CMSG_HEADER + data.len();
        let rows = self.bytes.iter_mut().skip(self.len / 8);
        let [mut levels, mut padded] = [[0; 8]; 2];
        levels[..4].copy_from_slice(&level.to_ne_bytes());
        levels[4..].copy_from_slice(&kind.to_ne_bytes());
        if let Some(room) = padded.get_mut(..data.len()) {
            room.copy_from_slice(data);
        }
        for (row, bytes) in rows.zip([len.to_ne_bytes(), levels, padded]) {
            *row = bytes;
            self.len += 8;
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes
            .as_flattened()
            .get(..self.len)
            .unwrap_or_default()
    }
}

/// Level, type and data of each control message.
fn control_messages(mut bytes: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::from_ne_bytes(*len).checked_sub(CMSG_HEADER)?;
        let data = rest.get(..len)?;
        bytes = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
        Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data))
    })
}

const CONTROL: usize = 128;
const CMSG_HEADER: usize = size_of::<libc::cmsghdr>();
const _: () = assert!(CMSG_HEADER == 16 && size_of::<usize>() == 8);
#[expect(clippy::cast_possible_truncation, reason = "it is 4")]
const INT: libc::socklen_t = size_of::<i32>() as libc::socklen_t;
/// include/uapi/linux/udp.h.
const UDP_NO_CHECK6_TX: i32 = 101;
const UDP_NO_CHECK6_RX: i32 = 102;
/// `BPF_RET | BPF_K`: with 0 as its operand, no byte of any packet is kept.
const REJECT_ALL: u16 = 0x06;
