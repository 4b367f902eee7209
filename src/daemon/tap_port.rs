//! A TAP as a port of the datapath: errors of the kernel become reasons.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    attach::PortDevice,
    bridge::DropReason,
    datapath::{PortIo, Received, Transmitted},
    names::Name,
    offload::Offloads,
    sys::{self, AcceptedOffloads},
    wire::VirtioNetHdr,
};

/// A TAP of either engine.
#[derive(Debug)]
pub(super) struct TapPort {
    name: Name,
    device: PortDevice,
    offloads: Offloads,
    /// The kernel refused a superframe that it had promised to take; see [`Self::outcome`].
    refuses_superframes: AtomicBool,
}

impl TapPort {
    /// `device` as the port `name`, which is only used in the log.
    pub(super) fn new(name: Name, device: PortDevice) -> Self {
        let offloads = accepted(device.offloads());
        Self {
            name,
            device,
            offloads,
            refuses_superframes: AtomicBool::new(false),
        }
    }

    /// The device.
    pub(super) fn device(&self) -> &PortDevice {
        &self.device
    }

    /// Whether the device was deleted, with or without its namespace: only then does polling it
    /// yield an error (`tun_chr_poll`).
    pub(super) fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        let [fd] = fds;
        let failed = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        polled.is_err() || fd.revents().is_some_and(|events| events.intersects(failed))
    }

    fn outcome(&self, result: io::Result<usize>, header: Option<VirtioNetHdr>) -> Transmitted {
        let Err(error) = result else {
            return Transmitted::Sent;
        };
        if sys::is_gone(&error) {
            return Transmitted::Dropped(DropReason::EgressGone);
        }
        if sys::is_down(&error) {
            return Transmitted::Dropped(DropReason::EgressDown);
        }
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                Transmitted::Dropped(DropReason::EgressFull)
            }
            // Some kernels refuse superframes that TUNSETOFFLOAD accepted (6.6.44 did). Nothing
            // else of a checked header can be invalid: segment from now on, and say so once.
            Some(libc::EINVAL) if header.is_some_and(|header| !header.is_plain()) => {
                if !self.refuses_superframes.swap(true, Ordering::Relaxed) {
                    tracing::warn!(port = %self.name, "inner offload off: the kernel refused a superframe with EINVAL; segmenting in software");
                }
                Transmitted::Unsupported
            }
            _ => Transmitted::Dropped(DropReason::EgressRefused),
        }
    }
}

impl PortIo for TapPort {
    #[inline]
    fn receive(&self, buf: &mut [u8]) -> Received {
        let result = match &self.device {
            PortDevice::Fast(tap) => tap.recv(buf),
            PortDevice::Simple(tap) => {
                let (header, frame) = buf.split_at_mut(VirtioNetHdr::LEN.min(buf.len()));
                header.fill(0);
                tap.recv(frame).map(|len| len + VirtioNetHdr::LEN)
            }
        };
        match result {
            Ok(len) => Received::Frame(len),
            Err(error) if sys::is_gone(&error) => Received::Gone,
            Err(_) => Received::Empty,
        }
    }

    #[inline]
    fn transmit(&self, buf: &[u8]) -> Transmitted {
        let result = match &self.device {
            PortDevice::Fast(tap) => tap.send(buf),
            PortDevice::Simple(tap) => tap.send(buf.get(VirtioNetHdr::LEN..).unwrap_or_default()),
        };
        match result {
            Ok(_) => Transmitted::Sent,
            failed => self.outcome(failed, VirtioNetHdr::read(buf)),
        }
    }

    fn transmit_parts(&self, parts: &[IoSlice<'_>]) -> Transmitted {
        let header = parts.first().and_then(|header| VirtioNetHdr::read(header));
        let result = match (&self.device, parts) {
            (PortDevice::Fast(tap), _) => tap.send_vectored(parts),
            (PortDevice::Simple(tap), [_, frame]) => tap.send(frame),
            (PortDevice::Simple(tap), _) => {
                let pieces = parts.iter().skip(1).flat_map(|part| part.iter().copied());
                tap.send(&pieces.collect::<Vec<u8>>())
            }
        };
        self.outcome(result, header)
    }

    #[inline]
    fn offloads(&self) -> Offloads {
        if self.refuses_superframes.load(Ordering::Relaxed) {
            Offloads::NONE
        } else {
            self.offloads
        }
    }

    /// A TAP is writable while its interface is up (`tun_sock_writeable`), and takes as much as
    /// there is memory.
    fn obstacle(&self) -> Option<DropReason> {
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLOUT)];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        let [fd] = fds;
        let failed = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let events = fd.revents().unwrap_or(PollFlags::empty());
        if polled.is_err() || events.intersects(failed) {
            Some(DropReason::EgressGone)
        } else if events.contains(PollFlags::POLLOUT) {
            None
        } else {
            Some(DropReason::EgressDown)
        }
    }
}

impl AsFd for TapPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn accepted(kernel: AcceptedOffloads) -> Offloads {
    let flags = [
        (kernel.csum, Offloads::CSUM),
        (kernel.tso4, Offloads::TSO4),
        (kernel.tso6, Offloads::TSO6),
        (kernel.tso_ecn, Offloads::TSO_ECN),
        (kernel.uso, Offloads::USO),
    ];
    flags
        .iter()
        .filter(|(accepted, _)| *accepted)
        .fold(Offloads::NONE, |all, &(_, one)| all.union(one))
}
