//! The few ethtool requests that are needed: the link speed of a TAP, and who cuts superframes.
//!
//! A TAP reports 10 Mb/s (`tun_default_link_ksettings`), and OSPF costs, bonding and monitors
//! believe it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use super::{checked, ifreq};
use crate::names::IfName;

const GET_LINK_SETTINGS: u32 = 0x4c;
const SET_LINK_SETTINGS: u32 = 0x4d;
const DUPLEX_FULL: u8 = 1;
/// `link_mode_masks_nwords` is a signed byte, and three masks of that many words follow.
const MASK_WORDS: usize = 3 * i8::MAX as usize;

/// `struct ethtool_link_settings` (include/uapi/linux/ethtool.h) with the longest possible masks.
#[repr(C)]
struct LinkSettings {
    cmd: u32,
    speed: u32,
    duplex: u8,
    unused: [u8; 4],
    tp_mdix: [u8; 2],
    mask_words: i8,
    more: [u8; 4],
    reserved: [u32; 7],
    masks: [u32; MASK_WORDS],
}

const _: () = assert!(size_of::<LinkSettings>() == 48 + 4 * MASK_WORDS);

/// Makes the interface `name` report `megabits` per second, full duplex.
pub(super) fn set_speed(socket: BorrowedFd<'_>, name: &IfName, megabits: u32) -> io::Result<()> {
    let mut settings = LinkSettings {
        cmd: GET_LINK_SETTINGS,
        speed: 0,
        duplex: 0,
        unused: [0; 4],
        tp_mdix: [0; 2],
        mask_words: 0,
        more: [0; 4],
        reserved: [0; 7],
        masks: [0; MASK_WORDS],
    };
    // The first question, with no words, is answered by how many words this kernel uses, negated.
    settings.call(socket, name)?;
    settings.mask_words = settings.mask_words.checked_neg().unwrap_or(0);
    settings.cmd = GET_LINK_SETTINGS;
    settings.call(socket, name)?;
    settings.cmd = SET_LINK_SETTINGS;
    settings.speed = megabits;
    settings.duplex = DUPLEX_FULL;
    settings.call(socket, name)
}

impl LinkSettings {
    fn call(&mut self, socket: BorrowedFd<'_>, name: &IfName) -> io::Result<()> {
        let mut request = ifreq::Ifreq::named(name);
        request.set_data((&raw mut *self).cast());
        // SAFETY: the request points at `self`, which is exclusively borrowed and has room for the
        // longest masks; the kernel reads and writes 48 bytes plus three masks of `mask_words`.
        let result = unsafe { request.call_with_data(socket, libc::SIOCETHTOOL) };
        checked(result).map(drop)
    }
}

/// What the device takes as it is, so that the stack need not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// TCP segmentation: nobody, the device takes them whole.
    Tso,
    /// Generic segmentation: the stack, at the last moment.
    Gso,
    /// Checksums of what is sent: the device takes them unfinished.
    TxChecksum,
}

impl Offload {
    /// `ETHTOOL_GTSO`, `ETHTOOL_GGSO` or `ETHTOOL_GTXCSUM`; the request that sets it is the next
    /// number.
    fn get_command(self) -> u32 {
        match self {
            Self::Tso => 0x1e,
            Self::Gso => 0x23,
            Self::TxChecksum => 0x16,
        }
    }
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

const _: () = assert!(size_of::<Value>() == 8);

impl Value {
    fn call(&mut self, name: &IfName) -> io::Result<()> {
        let socket = ifreq::control_socket()?;
        let mut request = ifreq::Ifreq::named(name);
        request.set_data((&raw mut *self).cast());
        // SAFETY: the request points at `self`, which is exclusively borrowed; the kernel reads and
        // writes the 8 bytes of struct ethtool_value for these commands.
        let result = unsafe { request.call_with_data(socket.as_fd(), libc::SIOCETHTOOL) };
        checked(result).map(drop)
    }
}

/// Turns `offload` of the interface `name` in the calling thread's namespace on or off, and returns
/// what it was.
///
/// # Errors
/// `ENODEV` if there is no such interface, `EOPNOTSUPP` if it cannot be changed.
pub fn set_offload(name: &IfName, offload: Offload, on: bool) -> io::Result<bool> {
    let was = self::offload(name, offload)?;
    if was != on {
        let mut value = Value {
            cmd: offload.get_command() + 1,
            data: on.into(),
        };
        value.call(name)?;
    }
    Ok(was)
}

/// Whether `offload` of the interface `name` in the calling thread's namespace is on.
///
/// # Errors
/// `ENODEV` if there is no such interface.
pub fn offload(name: &IfName, offload: Offload) -> io::Result<bool> {
    let mut value = Value {
        cmd: offload.get_command(),
        data: 0,
    };
    value.call(name)?;
    Ok(value.data != 0)
}
