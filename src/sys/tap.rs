//! The fast port device: a TAP whose frames carry a virtio-net header.
//!
//! The header lets a superframe of up to 64 KiB pass through the switch in one read and one write
//! (the inner offload). The file must be opened in the switch's own namespace and the device moved
//! afterwards: a tun file references the namespace of its *opener* for as long as it lives
//! (`tun_chr_open` calls `sk_alloc` with it), so a file opened inside a container would keep the
//! dead container's namespace alive.
//!
//! `TUNSETSNDBUF` is never called: a limited send buffer costs the kernel's `build_skb` path for
//! small frames (`tun_can_build_skb` asks for `INT_MAX`), and lets a write block on our own frames.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
};

use super::{
    ifreq::{Ifreq, IfreqCall},
    netns::{NetnsError, NetnsFile},
    tun::{AcceptedOffloads, TapError, TapOptions, Tun, with_temporary_name},
};
use crate::{
    names::IfName,
    wire::{MacAddr, VirtioNetHdr},
};

#[expect(
    clippy::cast_possible_truncation,
    reason = "the flags are a 16-bit field"
)]
const FLAGS: i16 =
    (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL) as i16;
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "it is 10"
)]
const HEADER_LEN: i32 = VirtioNetHdr::LEN as i32;

/// A TAP that reads and writes a [`VirtioNetHdr`] and a frame per call, without blocking.
///
/// Dropping it destroys the device, wherever it was moved, and waits for the kernel's network lock
/// and a grace period (`tun_chr_close`): not on the frame path.
#[derive(Debug)]
pub struct Tap {
    file: File,
    created_as: IfName,
    created_index: u32,
    offloads: AcceptedOffloads,
}

impl Tap {
    /// Creates a TAP in the namespace of the calling thread, down, under a temporary name.
    ///
    /// # Errors
    /// A [`TapError`] that names the step; nothing is left behind.
    pub fn create(options: &TapOptions) -> Result<Self, TapError> {
        let (file, name) = with_temporary_name(|name| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open("/dev/net/tun")
                .map_err(|cause| TapError::Open { cause })?;
            let mut request = Ifreq::named(name);
            request.set_flags(FLAGS);
            let name = name.to_string();
            request
                .call(file.as_fd(), IfreqCall::TunSetIff)
                .map_err(|cause| TapError::Create { name, cause })?;
            Ok(file)
        })?;
        let tun = Tun::new(file.as_fd());
        tun.set_header_len(HEADER_LEN)
            .map_err(|cause| TapError::Setting {
                setting: "virtio-net header length",
                name: name.to_string(),
                cause,
            })?;
        let offloads = negotiate(tun).map_err(|cause| TapError::Setting {
            setting: "offloads",
            name: name.to_string(),
            cause,
        })?;
        let created_index = tun.prepare(&name, options)?;
        Ok(Self {
            file,
            created_as: name,
            created_index,
            offloads,
        })
    }

    /// Reads the next header and frame into `buf`, which should hold 10 bytes and 64 KiB: a longer
    /// frame is cut without notice.
    ///
    /// # Errors
    /// `EAGAIN` if there is none, and [`super::is_gone`].
    #[inline]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buf)
    }

    /// Writes one header and frame.
    ///
    /// # Errors
    /// [`super::is_down`], [`super::is_gone`], `EINVAL` for a header that contradicts the frame,
    /// and `EAGAIN` or `ENOMEM` if the kernel is short of memory.
    #[inline]
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        (&self.file).write(buf)
    }

    /// Writes one header and frame that lie in pieces.
    ///
    /// # Errors
    /// As [`Self::send`].
    #[inline]
    pub fn send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.file).write_vectored(parts)
    }

    /// What the kernel accepted in `TUNSETOFFLOAD` at creation.
    pub fn offloads(&self) -> AcceptedOffloads {
        self.offloads
    }

    /// Changes which unfinished frames may be read; of the device, so it is felt at once.
    ///
    /// # Errors
    /// `EINVAL` for a mask that the kernel does not know, and [`super::is_gone`].
    pub fn set_offloads(&self, offloads: AcceptedOffloads) -> io::Result<()> {
        self.tun().set_offloads(offloads)
    }

    /// The name and index that the device had when it was created. Moving and renaming it, by us
    /// or by anybody, does not change them.
    pub fn created_as(&self) -> (&IfName, u32) {
        (&self.created_as, self.created_index)
    }

    /// Lets the namespace see a plugged (`true`) or pulled cable.
    ///
    /// # Errors
    /// [`super::is_gone`].
    pub fn set_carrier(&self, on: bool) -> io::Result<()> {
        self.tun().set_carrier(on)
    }

    /// Sets the hardware address of the namespace's end.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` for a group address, and [`super::is_gone`].
    pub fn set_mac(&self, mac: MacAddr) -> io::Result<()> {
        self.tun().set_mac(mac)
    }

    /// The name that the device has now, in whichever namespace it is now.
    ///
    /// # Errors
    /// [`super::is_gone`].
    pub fn device_name(&self) -> io::Result<String> {
        self.tun().device_name()
    }

    /// The namespace where the device is now. Drop it soon: it keeps the namespace alive.
    ///
    /// # Errors
    /// [`NetnsError::OfDevice`], also if the device is gone.
    pub fn netns(&self) -> Result<NetnsFile, NetnsError> {
        self.tun().netns()
    }

    fn tun(&self) -> Tun<'_> {
        Tun::new(self.file.as_fd())
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Asks for every offload, and for less each time the kernel does not know one of them.
fn negotiate(tun: Tun<'_>) -> io::Result<AcceptedOffloads> {
    for offloads in AcceptedOffloads::FALLING {
        match tun.set_offloads(offloads) {
            Ok(()) => return Ok(offloads),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(AcceptedOffloads::NONE)
}
