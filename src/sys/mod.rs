//! Linux: one file per kernel object, and the only room with `unsafe`.
//!
//! Nothing here knows of bridges. The rules: one unsafe operation per block, a `// SAFETY:` that
//! names the invariant, `libc`'s structures with their sizes asserted, and safe functions of `std`,
//! `nix` and `socket2` wherever they exist, which leaves `ioctl`, messages and rare options of
//! sockets, what a child does before it is another program, and a socket that one program leaves to
//! the next as the only reasons for `unsafe`.

#![allow(
    unsafe_code,
    reason = "ioctl, sendmsg and pre_exec have no safe form; every other room is denied unsafe"
)]

pub mod affinity;
pub mod child;
pub mod clock;
pub mod epoll;
pub mod ethtool;
mod ifreq;
pub mod inherit;
pub mod memory;
pub mod netns;
pub mod packet;
mod simple_tap;
mod tap;
mod tun;
pub mod udp;
pub mod userns;

use std::io;

pub use self::{
    simple_tap::SimpleTap,
    tap::Tap,
    tun::{AcceptedOffloads, TapError, TapOptions, is_down, is_gone},
};

/// The kernel's reason without the `(os error N)` that `std` appends, in lower case, so that it can
/// stand in the middle of a sentence.
pub(crate) fn cause_text(cause: &io::Error) -> String {
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// Checks the return value of a system call that answers -1 on failure.
fn checked(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}
