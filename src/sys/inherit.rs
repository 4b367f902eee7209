//! A socket that is opened before the program starts itself again, and used after that.

use std::{
    io,
    net::TcpListener,
    os::fd::{AsFd, AsRawFd, FromRawFd, RawFd},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Lets `socket` stay open when this process starts another program in its place, and returns the
/// number under which that will have it.
///
/// # Errors
/// Those of `fcntl`.
pub fn leave_open(socket: &TcpListener) -> io::Result<RawFd> {
    fcntl(socket.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(socket.as_raw_fd())
}

/// The socket that the program before this one left open under `number`. To be called once, before
/// anything else is opened.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if there is none.
pub fn left_open(number: RawFd) -> io::Result<TcpListener> {
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, "no socket was left open");
    // The first three are everybody's.
    if number < 3 || !is_listener(number) {
        return Err(missing());
    }
    // SAFETY: the descriptor is open, and was opened by the program before this one: nothing here
    // can own it, since whoever opens something is given a number that is free.
    let socket = unsafe { TcpListener::from_raw_fd(number) };
    fcntl(socket.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(socket)
}

fn is_listener(number: RawFd) -> bool {
    let mut value: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ACCEPTCONN);
    let place = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `len` bytes to `value`, which is that long, and the length
    // to `len`; both live until the call returns. A number that is no socket is refused.
    let returned = unsafe { libc::getsockopt(number, level, name, place, &raw mut len) };
    returned == 0 && value == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listening_socket_can_have_been_left() {
        for number in [-1, 0, 2, 1_000_000] {
            assert!(left_open(number).is_err(), "{number}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let number = leave_open(&listener).unwrap();
        // As if this were the next program.
        std::mem::forget(listener);
        let again = left_open(number).unwrap();
        assert_eq!(again.local_addr().unwrap(), address);
    }
}
