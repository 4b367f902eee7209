//! The sockets of the VXLAN endpoint.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use crate::{
    bridge::DropReason,
    datapath::{Arrival, Arrived, Departed, Departure, UnderlayIo},
    names::NetnsRef,
    sys::{
        netns::{NetnsError, NetnsFile, NetnsId},
        udp::{PathProbe, UdpOptions, UdpSocket},
    },
    vxlan,
};

pub(super) struct UnderlayOptions<'a> {
    pub(super) local: IpAddr,
    pub(super) port: u16,
    pub(super) ttl: u8,
    pub(super) udpcsum: bool,
    pub(super) udp6zerocsumrx: bool,
    pub(super) offload: bool,
    pub(super) netns: Option<&'a NetnsRef>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum UnderlayError {
    #[error("{0}")]
    Netns(#[from] NetnsError),
    #[error("open {0}: {1}")]
    Bind(SocketAddr, io::Error),
}

#[derive(Debug)]
pub(super) struct Underlay {
    receiver: UdpSocket,
    senders: Vec<UdpSocket>,
    netns: NetnsFile,
    name: Option<NetnsRef>,
    id: NetnsId,
    local: IpAddr,
    offload: bool,
    segments: AtomicBool,
    overflow: AtomicU32,
}

pub(super) enum UdpAnswer {
    Refused,
    Answered,
    Silent,
    Unreachable(String),
}

impl Underlay {
    pub(super) fn open(options: &UnderlayOptions<'_>) -> Result<Self, UnderlayError> {
        let netns = match options.netns {
            Some(netns) => NetnsFile::open(netns)?,
            None => NetnsFile::current()?,
        };
        let local = options.local;
        let bind = |port: u16, receives: bool| {
            let local = SocketAddr::new(local, port);
            UdpSocket::bind(&UdpOptions {
                local,
                gro: options.offload,
                ttl: options.ttl,
                receive_buffer: if receives { 32 << 20 } else { 0 },
                send_buffer: 32 << 20,
                no_checksum_tx: !options.udpcsum,
                no_checksum6_rx: options.udp6zerocsumrx,
                receives,
            })
            .map_err(|cause| UnderlayError::Bind(local, cause))
        };
        let (receiver, senders) = netns.run_in(|| -> Result<_, UnderlayError> {
            let receiver = bind(options.port, true)?;
            let mut senders = Vec::new();
            for port in vxlan::SOURCE_PORTS {
                if let Ok(sender) = bind(port, false) {
                    senders.push(sender);
                }
                if senders.len() == 16 {
                    break;
                }
            }
            Ok((receiver, senders))
        })??;
        Ok(Self {
            receiver,
            senders,
            id: netns.id(),
            netns,
            name: options.netns.cloned(),
            local,
            offload: options.offload && options.udpcsum,
            segments: AtomicBool::new(options.offload && options.udpcsum),
            overflow: AtomicU32::new(0),
        })
    }

    pub(super) fn source_ports(&self) -> Vec<u16> {
        let local = self.senders.iter().filter_map(|s| s.local().ok());
        local.map(|local| local.port()).collect()
    }

    pub(super) fn offloads(&self) -> String {
        format!("gso {}", self.segments.load(Ordering::Relaxed))
    }

    pub(super) fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed).into()
    }

    pub(super) fn path_probe(&self, to: SocketAddr) -> io::Result<PathProbe> {
        self.netns
            .run_in(|| PathProbe::new(self.local, to))
            .map_err(io::Error::other)?
    }

    pub(super) fn device(&self) -> Option<(String, u32)> {
        None
    }

    pub(super) fn retry_offload(&self) {
        self.segments.store(self.offload, Ordering::Relaxed);
    }

    pub(super) fn is_abandoned(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        match NetnsFile::open(name) {
            Ok(netns) if netns.id() == self.id => None,
            Ok(_) => Some(format!("netns {name} is another one now")),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(super) fn udp_answer(&self, _to: SocketAddr, _timeout: Duration) -> UdpAnswer {
        UdpAnswer::Silent
    }
}

impl UnderlayIo for Underlay {
    fn receive(&self, buf: &mut [u8]) -> Arrived {
        match self.receiver.recv(buf) {
            Ok(message) => {
                if let Some(overflow) = message.overflow {
                    self.overflow.store(overflow, Ordering::Relaxed);
                }
                Arrived::Message(Arrival {
                    len: message.len,
                    from: message.from.ip(),
                    segment: message.segment,
                    tos: message.tos,
                })
            }
            Err(_) => Arrived::Empty,
        }
    }

    fn transmit(&self, departure: &Departure, parts: &[IoSlice<'_>]) -> Departed {
        let Departure {
            to,
            flow,
            tos,
            segment,
        } = *departure;
        let index = flow as usize % self.senders.len().max(1);
        let sender = self.senders.get(index).unwrap_or(&self.receiver);
        let Err(error) = sender.send(to, parts, segment, tos) else {
            return Departed::Sent;
        };
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Departed::TooLong,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                Departed::Dropped(DropReason::EgressFull)
            }
            Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP) if segment.is_some() => {
                self.segments.store(false, Ordering::Relaxed);
                Departed::Unsupported
            }
            Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
                | libc::EINVAL,
            ) => Departed::Dropped(DropReason::NoRoute),
            _ => Departed::Dropped(DropReason::EgressRefused),
        }
    }

    fn most_in_message(&self) -> usize {
        if self.segments.load(Ordering::Relaxed) {
            128
        } else {
            1
        }
    }

    fn path_mtu(&self, to: SocketAddr) -> Option<u32> {
        self.path_probe(to).ok()?.mtu().ok()
    }
}

impl AsFd for Underlay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
