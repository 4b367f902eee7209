//! The one ethtool request that a TAP needs: its link speed.
//!
//! A TAP reports 10 Mb/s (`tun_default_link_ksettings`), and OSPF costs, bonding and monitors
//! believe it.

use std::{io, os::fd::BorrowedFd};

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
