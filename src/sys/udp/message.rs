//! One `recvmsg` or `sendmsg`, with all that goes with it on the stack.
//!
//! Addresses and control messages are read and written byte by byte, so that only the two calls
//! are unsafe. The layouts are the kernel's (`include/linux/socket.h`, `in.h`, `in6.h`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
};

use libc::c_int;

use super::Message;

pub(super) fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Message> {
    let (mut name, mut control) = (Name::ROOM, Control::ROOM);
    let mut parts = [IoSliceMut::new(buf)];
    let mut header = empty_header();
    header.msg_name = name.bytes.as_mut_ptr().cast();
    header.msg_namelen = Name::LEN;
    header.msg_control = control.bytes.as_mut_ptr().cast();
    header.msg_controllen = control.bytes.len() as _;
    // The standard library promises that an IoSliceMut has the layout of an iovec.
    header.msg_iov = parts.as_mut_ptr().cast();
    header.msg_iovlen = parts.len() as _;
    // SAFETY: name, control and the one buffer are exclusively ours, live until the call returns,
    // and are as long as the header says; the kernel writes only inside of them.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, 0) };
    let len = length(received)?;
    let mut message = Message {
        len,
        from: name.address(),
        segment: None,
        tos: 0,
        overflow: None,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    };
    #[allow(clippy::unnecessary_cast, reason = "musl has 32 bits here")]
    let written = header.msg_controllen as usize;
    for (level, kind, data) in control.messages(written) {
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = int(data).and_then(|size| usize::try_from(size).ok());
                message.segment = size.filter(|&size| size > 0);
            }
            // One byte over IPv4, an int over IPv6.
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                message.tos = data.first().copied().unwrap_or(0);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class = int(data).and_then(|class| u8::try_from(class).ok());
                message.tos = class.unwrap_or(0);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                message.overflow = int(data).map(c_int::cast_unsigned);
            }
            _ => {}
        }
    }
    Ok(message)
}

pub(super) fn send(
    fd: BorrowedFd<'_>,
    to: SocketAddr,
    parts: &[IoSlice<'_>],
    segment: Option<u16>,
    tos: u8,
) -> io::Result<usize> {
    let (name, name_len) = Name::of(to);
    let (mut control, mut written) = (Control::ROOM, 0);
    if let Some(segment) = segment {
        let data = segment.to_ne_bytes();
        written = control.put(written, libc::SOL_UDP, libc::UDP_SEGMENT, &data);
    }
    if tos != 0 {
        let (level, kind) = match to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        written = control.put(written, level, kind, &c_int::from(tos).to_ne_bytes());
    }
    let mut header = empty_header();
    header.msg_name = name.bytes.as_ptr().cast_mut().cast();
    header.msg_namelen = name_len;
    if written > 0 {
        header.msg_control = control.bytes.as_mut_ptr().cast();
        header.msg_controllen = written as _;
    }
    // The standard library promises that an IoSlice has the layout of an iovec.
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len() as _;
    // SAFETY: name, control and parts live until the call returns and are as long as the header
    // says; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, 0) };
    length(sent)
}

fn empty_header() -> libc::msghdr {
    // SAFETY: msghdr consists of integers and raw pointers; zero bytes are a valid value of each.
    unsafe { mem::zeroed() }
}

/// What a call returned, which is negative if it failed.
fn length(returned: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// A `struct sockaddr_in` or `sockaddr_in6`, whichever the family in its first two bytes says.
struct Name {
    bytes: [u8; size_of::<libc::sockaddr_in6>()],
}

const _: () = assert!(size_of::<libc::sockaddr_in>() == 16);
const _: () = assert!(size_of::<libc::sockaddr_in6>() == 28);

impl Name {
    const ROOM: Self = Self { bytes: [0; 28] };
    const LEN: libc::socklen_t = 28;
    const LEN_V4: libc::socklen_t = 16;

    /// The structure, and how long it is.
    fn of(address: SocketAddr) -> (Self, libc::socklen_t) {
        let mut name = Self::ROOM;
        let [f0, f1, p0, p1, rest @ ..] = &mut name.bytes;
        [*p0, *p1] = address.port().to_be_bytes();
        let (family, len) = match address {
            SocketAddr::V4(address) => {
                let [a, b, c, d, ..] = rest;
                [*a, *b, *c, *d] = address.ip().octets();
                (libc::AF_INET, Self::LEN_V4)
            }
            SocketAddr::V6(address) => {
                let (flow, rest) = rest.split_at_mut(4);
                let (ip, scope) = rest.split_at_mut(16);
                flow.copy_from_slice(&address.flowinfo().to_ne_bytes());
                ip.copy_from_slice(&address.ip().octets());
                scope.copy_from_slice(&address.scope_id().to_ne_bytes());
                (libc::AF_INET6, Self::LEN)
            }
        };
        [*f0, *f1] = family_bytes(family);
        (name, len)
    }

    /// The address; `0.0.0.0:0` if there is none.
    fn address(&self) -> SocketAddr {
        let [f0, f1, p0, p1, rest @ ..] = self.bytes;
        let port = u16::from_be_bytes([p0, p1]);
        if [f0, f1] == family_bytes(libc::AF_INET6) {
            let number = |at: usize| {
                let bytes = rest.get(at..).and_then(<[u8]>::first_chunk);
                u32::from_ne_bytes(bytes.copied().unwrap_or_default())
            };
            let ip = rest.get(4..).and_then(<[u8]>::first_chunk::<16>);
            let ip = Ipv6Addr::from(ip.copied().unwrap_or_default());
            SocketAddrV6::new(ip, port, number(0), number(20)).into()
        } else {
            let [a, b, c, d, ..] = rest;
            SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port).into()
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the families are 2 and 10"
)]
const fn family_bytes(family: c_int) -> [u8; 2] {
    (family as libc::sa_family_t).to_ne_bytes()
}

/// Control messages (`cmsg(3)`): each a length that includes itself, a level, a type and data, and
/// padding to the size of a long.
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 128],
}

/// Where the data of a control message starts.
const HEAD: usize = size_of::<libc::cmsghdr>();
const _: () = assert!(HEAD == size_of::<usize>() + 8);
// What one call can bring: UDP_GRO, IP_TOS or IPV6_TCLASS, SO_RXQ_OVFL, none longer than 8 bytes.
const _: () = assert!(size_of::<Control>() >= 3 * (HEAD + 8));

impl Control {
    const ROOM: Self = Self { bytes: [0; 128] };

    /// Writes a message at the offset `at` and returns the offset behind it.
    fn put(&mut self, at: usize, level: c_int, kind: c_int, data: &[u8]) -> usize {
        let len = HEAD + data.len();
        let end = at + len.next_multiple_of(size_of::<usize>());
        let pieces: [&[u8]; 4] = [
            &len.to_ne_bytes(),
            &level.to_ne_bytes(),
            &kind.to_ne_bytes(),
            data,
        ];
        let Some(room) = self.bytes.get_mut(at..end) else {
            return at;
        };
        let bytes = pieces.into_iter().flatten();
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        end
    }

    /// Level, type and data of each message in the first `len` bytes.
    fn messages(&self, len: usize) -> impl Iterator<Item = (c_int, c_int, &[u8])> {
        let mut bytes = self.bytes.get(..len).unwrap_or(&self.bytes);
        std::iter::from_fn(move || {
            let (len, rest) = bytes.split_first_chunk()?;
            let (level, rest) = rest.split_first_chunk()?;
            let (kind, rest) = rest.split_first_chunk()?;
            let len = usize::from_ne_bytes(*len).checked_sub(HEAD)?;
            let data = rest.get(..len)?;
            let next = len.checked_next_multiple_of(size_of::<usize>())?;
            bytes = rest.get(next..).unwrap_or_default();
            Some((
                c_int::from_ne_bytes(*level),
                c_int::from_ne_bytes(*kind),
                data,
            ))
        })
    }
}

fn int(data: &[u8]) -> Option<c_int> {
    data.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_way_through_the_kernels_structure() {
        for text in ["192.0.2.1:4789", "[2001:db8::1]:65535", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let (name, len) = Name::of(address);
            assert_eq!(name.address(), address);
            assert_eq!(len, if address.is_ipv4() { 16 } else { 28 });
        }
    }

    #[test]
    fn an_address_is_laid_out_as_libc_says() {
        let (name, _) = Name::of("192.0.2.1:4789".parse().unwrap());
        let family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
        assert_eq!(name.bytes[..2], family.to_ne_bytes());
        assert_eq!(name.bytes[2..8], [0x12, 0xb5, 192, 0, 2, 1]);
        assert_eq!(mem::offset_of!(libc::sockaddr_in, sin_addr), 4);
        let (name, _) = Name::of("[2001:db8::1%9]:4789".parse().unwrap());
        let at = mem::offset_of!(libc::sockaddr_in6, sin6_addr);
        assert_eq!(name.bytes[at..at + 4], [0x20, 0x01, 0x0d, 0xb8]);
        let at = mem::offset_of!(libc::sockaddr_in6, sin6_scope_id);
        assert_eq!(name.bytes[at..], 9_u32.to_ne_bytes());
    }

    #[test]
    fn control_messages_are_read_as_they_were_written() {
        let mut control = Control::ROOM;
        let first = control.put(0, 17, 103, &1450_u16.to_ne_bytes());
        assert_eq!(first, HEAD + 8);
        let second = control.put(first, 0, 1, &0xb8_i32.to_ne_bytes());
        let read: Vec<_> = control.messages(second).collect();
        assert_eq!(
            read,
            [
                (17, 103, &1450_u16.to_ne_bytes()[..]),
                (0, 1, &0xb8_i32.to_ne_bytes()[..])
            ]
        );
        assert_eq!(control.messages(0).count(), 0);
    }

    #[test]
    fn a_control_message_that_is_cut_or_lies_about_its_length_ends_the_list() {
        for (len, written, found) in [
            (HEAD + 4, HEAD + 4, 1),
            (HEAD + 4, HEAD + 3, 0),
            (HEAD - 1, HEAD + 8, 0),
            (0, 128, 0),
            (usize::MAX, 128, 0),
            (200, 128, 0),
        ] {
            let mut control = Control::ROOM;
            control.bytes[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
            let messages = control.messages(written).take(1).count();
            assert_eq!(messages, found, "length {len} in {written} bytes");
        }
    }

    #[test]
    fn a_message_without_room_is_left_out() {
        let mut control = Control::ROOM;
        assert_eq!(control.put(112, 1, 1, &[1, 2]), 112);
        assert_eq!(control.bytes, [0; 128]);
    }
}
