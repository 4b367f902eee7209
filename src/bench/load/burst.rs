//! Many packets in one system call.

use std::{array, io, io::IoSlice, os::fd::AsRawFd, time::Duration};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg},
};

use super::sleep_until;
use crate::{
    sys::clock,
    time::{Timestamp, nanos},
};

/// Packets in one system call.
pub(super) const BURST: usize = 64;

/// Sends bursts of packets that all have the same length.
pub(super) struct Sender<S> {
    socket: S,
    headers: MultiHeaders<SockaddrIn>,
    size: usize,
    bytes: Vec<u8>,
}

impl<S: AsRawFd> Sender<S> {
    /// Out of `socket`, which is connected or bound; each packet starts out as `template`.
    pub(super) fn new(socket: S, template: &[u8]) -> Self {
        Self {
            socket,
            headers: MultiHeaders::preallocate(BURST, None),
            size: template.len(),
            bytes: template.repeat(BURST),
        }
    }

    /// The packets, to be changed before they are sent.
    pub(super) fn packets(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(self.size)
    }

    /// Sends the first `count` packets, and returns how many of them are out. That is fewer where a
    /// queue is full, and none where nobody listens at the moment.
    pub(super) fn send(&mut self, count: usize) -> io::Result<usize> {
        let slices: [_; BURST] = array::from_fn(|packet| {
            let at = packet * self.size;
            [IoSlice::new(
                self.bytes.get(at..at + self.size).unwrap_or_default(),
            )]
        });
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.headers,
            slices.iter().take(count),
            [None; BURST],
            [],
            MsgFlags::empty(),
        );
        match sent.map(Iterator::count) {
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => Ok(0),
            sent => Ok(sent?),
        }
    }
}

/// Holds a sender to a rate.
pub(super) struct Pace {
    rate: u64,
    start: Timestamp,
}

impl Pace {
    /// `rate` packets a second from `start` on.
    pub(super) fn new(rate: u64, start: Timestamp) -> Self {
        Self { rate, start }
    }

    /// Waits until `sent` packets may have been sent.
    pub(super) fn wait(&self, sent: u64) {
        let due = u128::from(sent) * 1_000_000_000 / u128::from(self.rate.max(1));
        let due = self.start + Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX));
        // What is shorter than a timer's slack would only make it late.
        if due.nanos_since(clock::now()) > nanos(Duration::from_micros(60)) {
            sleep_until(due);
        }
    }
}
