//! The plain port device (`--offload off`): one finished frame, one call, no header.
//!
//! The crate `tun-tap` opens and attaches it, reads and writes. It cuts long names and names with
//! a NUL without a word, so only an [`IfName`] may reach it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use tun_tap::{Iface, Mode};

use super::{
    netns::{NetnsError, NetnsFile},
    tun::{AcceptedOffloads, TapError, TapOptions, Tun, with_temporary_name},
};
use crate::{names::IfName, wire::MacAddr};

/// A TAP that reads and writes one Ethernet frame per call, without blocking.
///
/// Dropping it destroys the device, wherever it was moved, and waits for the kernel's network lock
/// and a grace period (`tun_chr_close`): not on the frame path.
#[derive(Debug)]
pub struct SimpleTap {
    iface: Iface,
    created_as: IfName,
    created_index: u32,
}

impl SimpleTap {
    /// Creates a TAP in the namespace of the calling thread, down, under a temporary name.
    ///
    /// # Errors
    /// A [`TapError`] that names the step; nothing is left behind.
    pub fn create(options: &TapOptions) -> Result<Self, TapError> {
        // The crate does not say which of its two calls failed; ours tells the frequent case.
        let open = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun");
        drop(open.map_err(|cause| TapError::Open { cause })?);
        let (iface, name) = with_temporary_name(|name| {
            let refused = |cause| TapError::Create {
                name: name.to_string(),
                cause,
            };
            let iface = Iface::without_packet_info(name.as_str(), Mode::Tap).map_err(refused)?;
            iface.set_non_blocking().map_err(refused)?;
            Ok(iface)
        })?;
        let tap = Self {
            iface,
            created_as: name,
            created_index: 0,
        };
        // A device that outlived an earlier owner keeps its offload mask, and without a header its
        // superframes would come out with unfinished checksums and no segment size.
        tap.tun()
            .set_offloads(AcceptedOffloads::NONE)
            .map_err(|cause| TapError::Setting {
                setting: "offloads",
                name: tap.created_as.to_string(),
                cause,
            })?;
        let created_index = tap.tun().prepare(&tap.created_as, options)?;
        Ok(Self {
            created_index,
            ..tap
        })
    }

    /// Reads the next frame into `buf`; a longer frame is cut without notice.
    ///
    /// # Errors
    /// `EAGAIN` if there is none, and [`super::is_gone`].
    #[inline]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.iface.recv(buf)
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// [`super::is_down`], [`super::is_gone`], and `EAGAIN` or `ENOMEM` if the kernel is short of
    /// memory.
    #[inline]
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.iface.send(buf)
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
        Tun::new(self.as_fd())
    }
}

impl AsFd for SimpleTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is owned by `self.iface`, which stays open as long as `self` lives,
        // and the borrow cannot outlive `self`.
        unsafe { BorrowedFd::borrow_raw(self.iface.as_raw_fd()) }
    }
}
