//! A network for the overlay that is made of memory.

use std::{
    collections::{HashMap, VecDeque},
    io::IoSlice,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::{
    bridge::DropReason,
    datapath::{Arrival, Arrived, Departed, Departure, UnderlayIo},
    vxlan,
};

/// Connects VXLAN endpoints in memory: every datagram arrives, in order, and at once unless
/// [`MemNet::hold`] says otherwise. Clones are the same network.
#[derive(Clone, Debug, Default)]
pub struct MemNet(Arc<Mutex<Wires>>);

#[derive(Debug, Default)]
struct Wires {
    endpoints: HashMap<SocketAddr, Weak<MemUnderlay>>,
    holds: bool,
    /// Sent and not arrived yet.
    held: VecDeque<MemMessage>,
    /// Buffers for further messages, so that a network in steady state allocates nothing.
    spare: Vec<Vec<u8>>,
}

/// The sockets of one endpoint on a [`MemNet`].
#[derive(Debug)]
pub struct MemUnderlay {
    local: SocketAddr,
    net: MemNet,
    state: Mutex<State>,
}

/// One message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemMessage {
    /// The address that sent it.
    pub from: SocketAddr,
    /// How it was sent.
    pub departure: Departure,
    /// All its datagrams.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct State {
    mtu: u32,
    most_in_message: usize,
    loses: Option<DropReason>,
    inbox: VecDeque<MemMessage>,
    /// What was sent to nobody.
    stray: VecDeque<MemMessage>,
}

impl MemNet {
    /// An empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// An endpoint at `local`, with an MTU of 1500.
    pub fn attach(&self, local: SocketAddr) -> Arc<MemUnderlay> {
        let endpoint = Arc::new(MemUnderlay {
            local,
            net: self.clone(),
            state: Mutex::new(State {
                mtu: 1500,
                most_in_message: 128,
                loses: None,
                inbox: VecDeque::new(),
                stray: VecDeque::new(),
            }),
        });
        let weak = Arc::downgrade(&endpoint);
        self.wires().endpoints.insert(local, weak);
        endpoint
    }

    /// From now on messages wait on the way until [`Self::release`].
    pub fn hold(&self) {
        self.wires().holds = true;
    }

    /// Lets every message that waits arrive; returns copies of them, in the order of sending.
    pub fn release(&self) -> Vec<MemMessage> {
        let held: Vec<_> = self.wires().held.drain(..).collect();
        for message in held.iter().cloned() {
            // An endpoint that is gone by now hears nothing more.
            if let Some(target) = self.endpoint(message.departure.to) {
                target.inject(message);
            }
        }
        held
    }

    fn endpoint(&self, at: SocketAddr) -> Option<Arc<MemUnderlay>> {
        self.wires().endpoints.get(&at)?.upgrade()
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        // One insertion, push or pop at a time: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemUnderlay {
    /// Its address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sets the MTU of all paths from here; longer datagrams are refused.
    pub fn set_mtu(&self, mtu: u32) {
        self.state().mtu = mtu;
    }

    /// Sets how many datagrams a message may hold; 1 is a system without `UDP_SEGMENT`.
    pub fn set_most_in_message(&self, most: usize) {
        self.state().most_in_message = most;
    }

    /// Loses everything that is sent from here for this reason, from now on.
    pub fn set_loss(&self, reason: Option<DropReason>) {
        self.state().loses = reason;
    }

    /// Puts a message into the inbox, as if somebody had sent it.
    pub fn inject(&self, message: MemMessage) {
        self.state().inbox.push_back(message);
    }

    /// Takes the oldest message that was sent from here to where nobody is.
    pub fn take_stray(&self) -> Option<MemMessage> {
        self.state().stray.pop_front()
    }

    /// Messages that the switch has not read yet.
    pub fn backlog(&self) -> usize {
        self.state().inbox.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one push or pop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderlayIo for MemUnderlay {
    fn receive(&self, buf: &mut [u8]) -> Arrived {
        let Some(message) = self.state().inbox.pop_front() else {
            return Arrived::Empty;
        };
        let len = message.bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&message.bytes[..len]);
        let arrival = Arrival {
            len,
            from: message.from.ip(),
            port: message.from.port(),
            segment: message.departure.segment.map(usize::from),
            tos: message.departure.tos,
        };
        self.net.wires().spare.push(message.bytes);
        Arrived::Message(arrival)
    }

    fn transmit(&self, departure: &Departure, parts: &[IoSlice<'_>]) -> Departed {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let longest = departure.segment.map_or(len, usize::from);
        let overhead = vxlan::ip_udp_len(departure.to.is_ipv6());
        let target = self.net.endpoint(departure.to);
        let mut bytes = {
            let state = self.state();
            if let Some(reason) = state.loses {
                return Departed::Dropped(reason);
            }
            if longest + overhead as usize > state.mtu as usize {
                return Departed::TooLong;
            }
            if departure.segment.is_some() && state.most_in_message <= 1 {
                return Departed::Unsupported;
            }
            self.net.wires().spare.pop().unwrap_or_default()
        };
        bytes.clear();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let message = MemMessage {
            from: self.local,
            departure: *departure,
            bytes,
        };
        match target {
            Some(target) => {
                let mut wires = self.net.wires();
                if wires.holds {
                    wires.held.push_back(message);
                } else {
                    drop(wires);
                    target.inject(message);
                }
            }
            None => self.state().stray.push_back(message),
        }
        Departed::Sent
    }

    fn most_in_message(&self) -> usize {
        self.state().most_in_message
    }

    fn path_mtu(&self, _to: SocketAddr) -> Option<u32> {
        Some(self.state().mtu)
    }

    fn obstacle(&self, _to: SocketAddr) -> Option<DropReason> {
        self.state().loses
    }
}
