//! A packet socket (packet(7)) that sees what all interfaces of a namespace take in and send.

use std::{
    io::{self, IoSliceMut},
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use libc::c_int;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

use super::{
    checked,
    ifreq::{Ifreq, IfreqCall},
};
use crate::time::Timestamp;

/// Sees every frame of the namespace in which it was opened.
#[derive(Debug)]
pub struct PacketTap {
    socket: OwnedFd,
    room: Vec<u8>,
}

/// A frame that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sniffed {
    /// When; since 1970. Zero if the kernel does not say.
    pub at: Timestamp,
    /// The index of the interface.
    pub index: u32,
    /// Which way, and for whom.
    pub kind: PacketKind,
    /// Its bytes, with the tag that the kernel keeps beside them put back.
    pub bytes: Vec<u8>,
    /// Its checksum is left to a device that there is not (`CHECKSUM_PARTIAL`).
    pub is_unfinished: bool,
}

/// `sll_pkttype`: which way a frame goes, and for whom it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// In, to the interface's own address.
    Host,
    /// In, to all.
    Broadcast,
    /// In, to a group.
    Multicast,
    /// In, to somebody else.
    Other,
    /// Out.
    Outgoing,
}

/// Has the kernel stamp frames when they arrive, as long as the result is open.
///
/// Without, it begins some milliseconds after a socket asked for it (`net_enable_timestamp`, from a
/// work queue); until then a frame gets the time at which it is read.
///
/// # Errors
/// `EMFILE`, `ENOMEM`.
pub fn keep_stamping() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket)
}

impl PacketTap {
    /// Opens one in the namespace of the calling thread. It does not make interfaces promiscuous.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`; `EMFILE`, `ENOMEM`.
    pub fn open() -> io::Result<Self> {
        // Without a protocol it takes nothing until all options are set.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // Beyond the system's limit if we may.
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BUFFER))?;
        switch_on(socket.as_fd(), libc::PACKET_AUXDATA)?;
        bind_to_all(socket.as_fd())?;
        let room = vec![0; LONGEST];
        Ok(Self { socket, room })
    }

    /// The next frame, if one waits.
    ///
    /// # Errors
    /// `ENETDOWN` when an interface went down, which harms no other; else none that a working socket
    /// can cause.
    pub fn take(&mut self) -> io::Result<Option<Sniffed>> {
        let mut name = [0; size_of::<libc::sockaddr_ll>()];
        let mut control = Control([0; 256]);
        let mut parts = [IoSliceMut::new(&mut self.room)];
        // SAFETY: msghdr consists of integers and raw pointers; zero bytes are a valid value of each.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = name.as_mut_ptr().cast();
        header.msg_namelen = NAME_LEN;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        // The standard library promises that an IoSliceMut has the layout of an iovec.
        header.msg_iov = parts.as_mut_ptr().cast();
        header.msg_iovlen = 1;
        let fd = self.socket.as_raw_fd();
        // SAFETY: name, control and the one buffer are exclusively ours, live until the call
        // returns, and are as long as the header says; the kernel writes only inside of them.
        let received = unsafe { libc::recvmsg(fd, &raw mut header, 0) };
        let Ok(len) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        #[allow(clippy::unnecessary_cast, reason = "musl has 32 bits here")]
        let written = (header.msg_controllen as usize).min(control.0.len());
        let bytes = self.room.get(..len).unwrap_or(&self.room).to_vec();
        Ok(Some(sniffed(&name, &control.0[..written], bytes)))
    }

    /// How many frames were lost since the last call, because nobody took them in time.
    pub fn lost(&self) -> u32 {
        let mut counts = [0_u32; 2];
        let mut len = STATISTICS_LEN;
        let fd = self.socket.as_raw_fd();
        let place = counts.as_mut_ptr().cast();
        let (level, name) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        // SAFETY: the kernel writes at most `len` bytes to `counts`, which is that long, and the
        // length to `len`; both live until the call returns.
        let returned = unsafe { libc::getsockopt(fd, level, name, place, &raw mut len) };
        // struct tpacket_stats: packets, drops.
        checked(returned).map_or(0, |_| counts[1])
    }

    /// The name of an interface of its namespace, if it is still there.
    pub fn name_of(&self, index: u32) -> Option<String> {
        let mut request = Ifreq::unnamed();
        request.set_index(c_int::try_from(index).ok()?);
        request.call(self.socket.as_fd(), IfreqCall::GetName).ok()?;
        Some(request.name())
    }
}

impl AsFd for PacketTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn switch_on(fd: BorrowedFd<'_>, name: c_int) -> io::Result<()> {
    let value: c_int = 1;
    let place = (&raw const value).cast();
    let level = libc::SOL_PACKET;
    // SAFETY: the kernel reads the INT bytes of `value`, which lives until the call returns.
    let returned = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, place, INT) };
    checked(returned).map(drop)
}

fn bind_to_all(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain integers; zero is a valid value of each.
    let mut name: libc::sockaddr_ll = unsafe { mem::zeroed() };
    name.sll_family = PACKET_FAMILY;
    name.sll_protocol = ALL.to_be();
    let place = (&raw const name).cast();
    // SAFETY: the kernel reads the NAME_LEN bytes of `name`, which lives until the call returns.
    let returned = unsafe { libc::bind(fd.as_raw_fd(), place, NAME_LEN) };
    checked(returned).map(drop)
}

/// What a `struct sockaddr_ll` and control messages say of a frame.
fn sniffed(name: &[u8; size_of::<libc::sockaddr_ll>()], control: &[u8], bytes: Vec<u8>) -> Sniffed {
    let index = mem::offset_of!(libc::sockaddr_ll, sll_ifindex);
    let index = name.get(index..).and_then(<[u8]>::first_chunk);
    let kind = mem::offset_of!(libc::sockaddr_ll, sll_pkttype);
    let mut sniffed = Sniffed {
        at: Timestamp::ZERO,
        index: index.map_or(0, |bytes| u32::from_ne_bytes(*bytes)),
        kind: match name.get(kind) {
            Some(&libc::PACKET_HOST) => PacketKind::Host,
            Some(&libc::PACKET_BROADCAST) => PacketKind::Broadcast,
            Some(&libc::PACKET_MULTICAST) => PacketKind::Multicast,
            Some(&libc::PACKET_OUTGOING) => PacketKind::Outgoing,
            _ => PacketKind::Other,
        },
        bytes,
        is_unfinished: false,
    };
    for (level, kind, data) in messages(control) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                let number = |at: usize| {
                    let bytes = data.get(at..).and_then(<[u8]>::first_chunk);
                    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
                };
                let nanos = number(0).saturating_mul(1_000_000_000) + number(8);
                sniffed.at = Timestamp::from_nanos(nanos);
            }
            (libc::SOL_PACKET, libc::PACKET_AUXDATA) => sniffed.beside(data),
            _ => {}
        }
    }
    sniffed
}

impl Sniffed {
    /// Takes over a `struct tpacket_auxdata`.
    fn beside(&mut self, data: &[u8]) {
        let word = |at: usize| data.get(at..).and_then(<[u8]>::first_chunk);
        let half = |at: usize| data.get(at..).and_then(<[u8]>::first_chunk);
        let status = word(mem::offset_of!(libc::tpacket_auxdata, tp_status));
        let status = status.map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        self.is_unfinished = status & libc::TP_STATUS_CSUMNOTREADY != 0;
        if status & libc::TP_STATUS_VLAN_VALID == 0 || self.bytes.len() < ADDRESSES {
            return;
        }
        let tci = half(mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tci));
        let tci = tci.map_or(0, |bytes| u16::from_ne_bytes(*bytes));
        let tpid = half(mem::offset_of!(libc::tpacket_auxdata, tp_vlan_tpid));
        let tpid = match tpid.map(|bytes| u16::from_ne_bytes(*bytes)) {
            Some(tpid) if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 => tpid,
            _ => 0x8100,
        };
        let [a, b] = tpid.to_be_bytes();
        let [c, d] = tci.to_be_bytes();
        self.bytes.splice(ADDRESSES..ADDRESSES, [a, b, c, d]);
    }
}

/// Level, type and data of each control message (`cmsg(3)`).
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (c_int, c_int, &[u8])> {
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk()?;
        let (level, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let len = usize::from_ne_bytes(*len).checked_sub(HEAD)?;
        let data = rest.get(..len)?;
        let next = len.checked_next_multiple_of(size_of::<usize>())?;
        bytes = rest.get(next..).unwrap_or_default();
        let number = |bytes: &[u8; 4]| c_int::from_ne_bytes(*bytes);
        Some((number(level), number(kind), data))
    })
}

/// Room for control messages.
#[repr(C, align(8))]
struct Control([u8; 256]);

const HEAD: usize = size_of::<libc::cmsghdr>();
const _: () = assert!(HEAD == size_of::<usize>() + 8);
const _: () = assert!(size_of::<libc::sockaddr_ll>() == 20);
const _: () = assert!(size_of::<libc::tpacket_auxdata>() == 20);
/// Both MAC addresses.
const ADDRESSES: usize = 12;
const NAME_LEN: libc::socklen_t = 20;
const INT: libc::socklen_t = 4;
const STATISTICS_LEN: libc::socklen_t = 8;
/// A superframe is as long as IP lets it, but for BIG TCP, which is cut.
const LONGEST: usize = 128 * 1024;
/// What waits while nobody looks.
const BUFFER: usize = 8 << 20;
#[expect(clippy::cast_possible_truncation, reason = "it is 17")]
const PACKET_FAMILY: libc::sa_family_t = libc::AF_PACKET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "it is 3")]
const ALL: u16 = libc::ETH_P_ALL as u16;

#[cfg(test)]
mod tests {
    use super::*;

    /// A `struct tpacket_auxdata`.
    fn beside(status: u32, tci: u16, tpid: u16) -> Vec<u8> {
        let mut data = status.to_ne_bytes().to_vec();
        data.extend([0; 12]);
        data.extend(tci.to_ne_bytes());
        data.extend(tpid.to_ne_bytes());
        data
    }

    fn frame() -> Sniffed {
        Sniffed {
            at: Timestamp::ZERO,
            index: 1,
            kind: PacketKind::Other,
            bytes: (0..20).collect(),
            is_unfinished: false,
        }
    }

    #[test]
    fn a_tag_that_the_kernel_keeps_beside_the_frame_is_put_back() {
        let (valid, tpid) = (libc::TP_STATUS_VLAN_VALID, libc::TP_STATUS_VLAN_TPID_VALID);
        for (status, kind) in [(valid, [0x81, 0]), (valid | tpid, [0x88, 0xa8])] {
            let mut sniffed = frame();
            sniffed.beside(&beside(status, 0x602a, 0x88a8));
            assert_eq!(sniffed.bytes.len(), 24);
            assert_eq!(
                sniffed.bytes[11..17],
                [11, kind[0], kind[1], 0x60, 0x2a, 12]
            );
        }
        let mut sniffed = frame();
        sniffed.beside(&beside(libc::TP_STATUS_CSUMNOTREADY, 0x602a, 0x88a8));
        assert_eq!(sniffed.bytes, frame().bytes);
        assert!(sniffed.is_unfinished);
    }

    #[test]
    fn control_messages_of_any_bytes_end() {
        for fill in 0..=u8::MAX {
            assert!(messages(&[fill; 64]).count() <= 4);
        }
        let mut name = [0; 20];
        name[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        name[10] = libc::PACKET_OUTGOING;
        let sniffed = sniffed(&name, &[], vec![1]);
        assert_eq!((sniffed.index, sniffed.kind), (7, PacketKind::Outgoing));
    }
}
