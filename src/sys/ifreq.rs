//! `struct ifreq`, the argument of the interface ioctls (netdevice(7)).

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use libc::{c_int, c_short};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::checked;
use crate::{names::IfName, wire::MacAddr};

// The kernel copies sizeof(struct ifreq) in and out: 40 on 64-bit machines, 32 on 32-bit ones.
const _: () = assert!(size_of::<libc::ifreq>() == 24 + 2 * size_of::<usize>());

/// `include/uapi/linux/sockios.h`; not in `libc`.
const SIOCGIFNAME: libc::Ioctl = 0x8910;

/// The ioctls that take a `struct ifreq` and nothing behind it.
#[derive(Clone, Copy, Debug)]
pub(super) enum IfreqCall {
    /// Create or attach to a TUN/TAP device: `name` and `flags`.
    TunSetIff,
    /// Read `name` and `flags` of the device of a tun file.
    TunGetIff,
    /// Set the hardware address; also answered by a tun file, without a name.
    SetHwAddr,
    /// Read the interface index of `name`.
    GetIndex,
    /// Read the name of the interface with an index.
    GetName,
}

impl IfreqCall {
    fn number(self) -> libc::Ioctl {
        // The SIOC constants are c_ulong everywhere, libc::Ioctl is c_int on musl.
        match self {
            Self::TunSetIff => libc::TUNSETIFF,
            Self::TunGetIff => libc::TUNGETIFF,
            Self::SetHwAddr => libc::SIOCSIFHWADDR as libc::Ioctl,
            Self::GetIndex => libc::SIOCGIFINDEX as libc::Ioctl,
            Self::GetName => SIOCGIFNAME,
        }
    }
}

/// A `struct ifreq` with nothing left over from an earlier use.
pub(super) struct Ifreq(libc::ifreq);

impl Ifreq {
    /// All zero, without a name.
    pub(super) fn unnamed() -> Self {
        // SAFETY: ifreq consists of integers, arrays of them and a raw pointer; zero bytes are a
        // valid value of each.
        Self(unsafe { mem::zeroed() })
    }

    /// About the interface `name`.
    pub(super) fn named(name: &IfName) -> Self {
        let mut request = Self::unnamed();
        // IfName is at most 15 ASCII bytes, so the last of the 16 stays NUL.
        for (to, from) in request.0.ifr_name.iter_mut().zip(name.as_str().bytes()) {
            *to = from.cast_signed();
        }
        request
    }

    pub(super) fn set_flags(&mut self, flags: c_short) {
        self.0.ifr_ifru.ifru_flags = flags;
    }

    pub(super) fn set_mac(&mut self, mac: MacAddr) {
        // SAFETY: as in `unnamed`; sockaddr is plain integers.
        let mut address: libc::sockaddr = unsafe { mem::zeroed() };
        address.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in address.sa_data.iter_mut().zip(mac.octets()) {
            *to = from.cast_signed();
        }
        self.0.ifr_ifru.ifru_hwaddr = address;
    }

    pub(super) fn set_index(&mut self, index: c_int) {
        self.0.ifr_ifru.ifru_ifindex = index;
    }

    /// Lets the request point at `data`.
    pub(super) fn set_data(&mut self, data: *mut libc::c_char) {
        self.0.ifr_ifru.ifru_data = data;
    }

    /// Performs the ioctl `number` on `fd`, which reads and writes what [`Self::set_data`] set.
    ///
    /// # Safety
    /// `number` must take a struct ifreq, and its data must be valid for what it reads and writes.
    pub(super) unsafe fn call_with_data(
        &mut self,
        fd: BorrowedFd<'_>,
        number: libc::c_ulong,
    ) -> c_int {
        // SAFETY: the struct ifreq is ours; the caller vouches for its data.
        unsafe { libc::ioctl(fd.as_raw_fd(), number as libc::Ioctl, &raw mut self.0) }
    }

    /// Performs `call` on `fd`; the kernel may overwrite the request with its answer.
    pub(super) fn call(&mut self, fd: BorrowedFd<'_>, call: IfreqCall) -> io::Result<()> {
        // SAFETY: every `IfreqCall` takes a pointer to one struct ifreq, which `self.0` is and which
        // nobody else can see during the call; none of them follows a pointer inside it.
        let returned = unsafe { libc::ioctl(fd.as_raw_fd(), call.number(), &raw mut self.0) };
        checked(returned).map(drop)
    }

    /// The name that the kernel wrote.
    pub(super) fn name(&self) -> String {
        let bytes = self.0.ifr_name.iter().map(|&c| c.cast_unsigned());
        let name: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&name).into_owned()
    }

    /// The index that the kernel wrote for [`IfreqCall::GetIndex`].
    pub(super) fn index(&self) -> u32 {
        // SAFETY: all bytes of the union are initialised (zeroed, or written by the kernel), and
        // every bit pattern is a c_int.
        let index = unsafe { self.0.ifr_ifru.ifru_ifindex };
        u32::try_from(index).unwrap_or(0)
    }
}

/// A socket to address the interfaces of the calling thread's namespace by name.
pub(super) fn control_socket() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}
