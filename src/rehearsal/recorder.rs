//! Ports and sockets that stand in for real ones: they have their abilities, and write nothing.

use std::{
    collections::VecDeque,
    io::IoSlice,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Datagrams, Message};
use crate::{
    bridge::DropReason,
    datapath::{Arrival, Arrived, Departed, Departure, PortIo, Received, Transmitted, UnderlayIo},
    offload::Offloads,
    vxlan,
};

/// Stands in for a port.
#[derive(Debug)]
pub(super) struct PortRecorder {
    real: Arc<dyn PortIo>,
    /// What comes in, header first.
    arriving: Mutex<Option<Vec<u8>>>,
    written: Mutex<Vec<Vec<u8>>>,
}

impl PortRecorder {
    pub(super) fn new(real: Arc<dyn PortIo>, arriving: Option<Vec<u8>>) -> Self {
        Self {
            real,
            arriving: Mutex::new(arriving),
            written: Mutex::default(),
        }
    }

    /// What was written, each with its virtio-net header.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.written))
    }
}

impl PortIo for PortRecorder {
    fn receive(&self, buf: &mut [u8]) -> Received {
        let Some(bytes) = lock(&self.arriving).take() else {
            return Received::Empty;
        };
        // A TAP truncates too.
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Received::Frame(len)
    }

    fn transmit(&self, buf: &[u8]) -> Transmitted {
        self.transmit_parts(&[IoSlice::new(buf)])
    }

    fn transmit_parts(&self, parts: &[IoSlice<'_>]) -> Transmitted {
        if let Some(reason) = self.real.obstacle() {
            return Transmitted::Dropped(reason);
        }
        lock(&self.written).push(joined(parts));
        Transmitted::Sent
    }

    fn offloads(&self) -> Offloads {
        self.real.offloads()
    }

    fn obstacle(&self) -> Option<DropReason> {
        self.real.obstacle()
    }
}

/// Stands in for the sockets of the VXLAN endpoint.
#[derive(Debug)]
pub(super) struct UnderlayRecorder {
    real: Arc<dyn UnderlayIo>,
    arriving: Mutex<VecDeque<Message>>,
    written: Mutex<Vec<Datagrams>>,
}

impl UnderlayRecorder {
    pub(super) fn new(real: Arc<dyn UnderlayIo>, arriving: &[Message]) -> Self {
        Self {
            real,
            arriving: Mutex::new(arriving.iter().cloned().collect()),
            written: Mutex::default(),
        }
    }

    pub(super) fn take(&self) -> Vec<Datagrams> {
        std::mem::take(&mut lock(&self.written))
    }
}

impl UnderlayIo for UnderlayRecorder {
    fn receive(&self, buf: &mut [u8]) -> Arrived {
        let Some(message) = lock(&self.arriving).pop_front() else {
            return Arrived::Empty;
        };
        let len = message.bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&message.bytes[..len]);
        Arrived::Message(Arrival {
            len,
            from: message.from,
            // Only captures tell it.
            port: 0,
            segment: message.segment,
            tos: message.tos,
        })
    }

    fn transmit(&self, departure: &Departure, parts: &[IoSlice<'_>]) -> Departed {
        if let Some(reason) = self.real.obstacle(departure.to) {
            return Departed::Dropped(reason);
        }
        let bytes = joined(parts);
        let longest = departure.segment.map_or(bytes.len(), usize::from);
        let outer = vxlan::ip_udp_len(departure.to.is_ipv6()) as usize;
        // The sockets never let a datagram be fragmented.
        let takes = self.real.path_mtu(departure.to);
        let takes = takes.map_or(usize::MAX, |mtu| usize::try_from(mtu).unwrap_or(usize::MAX));
        if longest + outer > takes {
            return Departed::TooLong;
        }
        lock(&self.written).push(Datagrams {
            departure: *departure,
            source_port: self.real.source_port(departure.flow),
            bytes,
        });
        Departed::Sent
    }

    fn most_in_message(&self) -> usize {
        self.real.most_in_message()
    }

    fn path_mtu(&self, to: SocketAddr) -> Option<u32> {
        self.real.path_mtu(to)
    }

    fn obstacle(&self, to: SocketAddr) -> Option<DropReason> {
        self.real.obstacle(to)
    }

    fn source_port(&self, flow: u32) -> Option<u16> {
        self.real.source_port(flow)
    }
}

fn joined(parts: &[IoSlice<'_>]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.iter().copied()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // One push or pop at a time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
