//! epoll with typed tokens, and the eventfd that wakes a worker.
//!
//! Everything is edge-triggered: after an event the owner must read (or write) until `EAGAIN`, or
//! remember that the port still has work, else the port stalls.

use std::{io, os::fd::AsFd, time::Duration};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll as RawEpoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd as RawEventFd},
    },
};

/// What an owner wants to hear about a descriptor. Errors and hang-ups are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something can be read.
    Read,
    /// Something can be read, or written again after `EAGAIN` or after the link came back up.
    ReadWrite,
}

/// What happened to one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number that was given when the descriptor was added.
    pub token: u64,
    /// Reading may succeed.
    pub readable: bool,
    /// Writing may succeed.
    pub writable: bool,
    /// `EPOLLERR` or `EPOLLHUP`: of a TAP, the device is going (`tun_chr_poll` looks at
    /// `reg_state`). It never comes back, but for some milliseconds more, until `tun_detach_all`,
    /// a read may still yield a frame or `EAGAIN` instead of `EBADFD`.
    pub failed: bool,
}

/// A set of watched descriptors.
#[derive(Debug)]
pub struct Epoll(RawEpoll);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(RawEpoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches `fd`, edge-triggered, and reports it as `token`.
    ///
    /// # Errors
    /// `EEXIST` if it is watched already; `ENOSPC` above `fs.epoll.max_user_watches`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(flags(interest), token))?)
    }

    /// Changes the interest in a watched `fd`. Re-arms the edge: what is ready now is reported.
    ///
    /// # Errors
    /// `ENOENT` if it is not watched.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self
            .0
            .modify(fd, &mut EpollEvent::new(flags(interest), token))?)
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// `ENOENT` if it is not watched.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.0.delete(fd)?)
    }

    /// Waits until something happens, for at most `timeout` (`None`: for ever; rounded up to a
    /// millisecond), and returns the events. A signal ends the wait with no event.
    ///
    /// # Errors
    /// None that a working set can cause.
    pub fn wait<'a>(
        &self,
        events: &'a mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Event> + use<'a>> {
        let timeout = timeout.map_or(EpollTimeout::NONE, |time| {
            let millis = time.as_nanos().div_ceil(1_000_000);
            let millis = i32::try_from(millis).unwrap_or(i32::MAX);
            EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
        });
        let count = match self.0.wait(&mut events.0, timeout) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        Ok(events.0.iter().take(count).map(|event| {
            let flags = event.events();
            Event {
                token: event.data(),
                readable: flags.contains(EpollFlags::EPOLLIN),
                writable: flags.contains(EpollFlags::EPOLLOUT),
                failed: flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
            }
        }))
    }
}

fn flags(interest: Interest) -> EpollFlags {
    let read = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
    match interest {
        Interest::Read => read,
        Interest::ReadWrite => read | EpollFlags::EPOLLOUT,
    }
}

/// Room for the events of one wait, allocated once.
#[derive(Debug)]
pub struct Events(Vec<EpollEvent>);

impl Events {
    /// Room for `capacity` events; what does not fit is reported by the next wait.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(vec![EpollEvent::empty(); capacity.max(1)])
    }
}

/// A wake-up from another thread.
#[derive(Debug)]
pub struct EventFd(RawEventFd);

impl EventFd {
    /// A wake-up that was not asked for yet.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(RawEventFd::from_flags(flags)?))
    }

    /// Wakes the owner. Several calls before [`Self::drain`] are one wake-up.
    pub fn notify(&self) {
        // EAGAIN means that 2^64 - 2 wake-ups are pending: the owner is awake.
        let _: nix::Result<usize> = self.0.write(1);
    }

    /// Forgets the pending wake-ups; whether there were any.
    pub fn drain(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notified_eventfd_wakes_once_until_it_is_drained() {
        let epoll = Epoll::new().unwrap();
        let wake = EventFd::new().unwrap();
        let mut events = Events::with_capacity(4);
        epoll.add(&wake, 7, Interest::Read).unwrap();
        let now = Some(Duration::ZERO);
        assert_eq!(epoll.wait(&mut events, now).unwrap().count(), 0);
        assert!(!wake.drain());

        wake.notify();
        wake.notify();

        let seen: Vec<Event> = epoll.wait(&mut events, None).unwrap().collect();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].token == 7 && seen[0].readable && !seen[0].failed);
        assert_eq!(epoll.wait(&mut events, now).unwrap().count(), 0);
        assert!(wake.drain());
        assert!(!wake.drain());
        epoll.remove(&wake).unwrap();
        wake.notify();
        assert_eq!(epoll.wait(&mut events, now).unwrap().count(), 0);
    }
}
