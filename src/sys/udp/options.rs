//! Socket options that are an `int`, or several, and have no safe function elsewhere.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use libc::{c_int, socklen_t};

use super::super::checked;

/// Sets an option.
pub(super) fn set(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set_all(fd, level, name, &[value])
}

/// Sets an option that is several.
pub(super) fn set_all<const N: usize>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    values: &[c_int; N],
) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    let (place, len) = (values.as_ptr().cast(), const { len_of::<N>() });
    // SAFETY: the kernel reads at most `len` bytes of `values`, which has them and lives until the
    // call returns.
    let returned = unsafe { libc::setsockopt(fd, level, name, place, len) };
    checked(returned).map(drop)
}

/// Reads an option.
pub(super) fn get(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let (mut value, mut len) = (0, INT);
    let fd = fd.as_raw_fd();
    let place = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `len` bytes to `value`, which is that long, and the length
    // to `len`; both live until the call returns.
    let returned = unsafe { libc::getsockopt(fd, level, name, place, &raw mut len) };
    checked(returned)?;
    Ok(value)
}

/// Sets DF on everything, and refuses what is longer than the path takes.
pub(super) fn never_fragment(fd: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    if !is_v6 {
        let name = libc::IP_MTU_DISCOVER;
        return set(fd, libc::IPPROTO_IP, name, libc::IP_PMTUDISC_DO);
    }
    let name = libc::IPV6_MTU_DISCOVER;
    set(fd, libc::IPPROTO_IPV6, name, libc::IPV6_PMTUDISC_DO)?;
    set(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)
}

/// Sets the size of a buffer beyond the system's limit if we may, else as far as the limit goes.
pub(super) fn force_buffer(
    fd: BorrowedFd<'_>,
    forced: c_int,
    limited: c_int,
    bytes: usize,
) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    // The kernel doubles it.
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX).min(MOST);
    let level = libc::SOL_SOCKET;
    set(fd, level, forced, bytes).or_else(|_| set(fd, level, limited, bytes))
}

const MOST: c_int = c_int::MAX / 2;
const INT: socklen_t = len_of::<1>();

#[expect(clippy::cast_possible_truncation, reason = "a few times 4")]
const fn len_of<const N: usize>() -> socklen_t {
    size_of::<[c_int; N]>() as socklen_t
}
