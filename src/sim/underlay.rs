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
///
/// An endpoint is for a lab ([`Lab::add_vtep`](super::Lab::add_vtep)), or to be played by hand:
///
/// ```
/// use tapswitch::{sim::{Lab, MemNet, frames}, vxlan, wire::Vni};
///
/// let net = MemNet::new();
/// let [here, there] = ["198.51.100.1:4789", "198.51.100.2:4789"].map(|at| at.parse().unwrap());
/// let (mut lab, [a]) = Lab::switch(["podA"]);
/// lab.add_vtep(net.attach(here));
/// lab.set_vni(0, Vni::new(42).unwrap());
/// lab.add_peer(0, there);
///
/// let me = net.attach(there);
/// let frame = frames::broadcast(frames::mac(1));
/// lab.send(a, &frame);
/// lab.run();
/// let (from, payload) = me.take().unwrap();
/// assert_eq!(from, here);
/// assert_eq!(payload, [&vxlan::header(Vni::new(42).unwrap())[..], &frame].concat());
/// ```
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

    /// Sends one datagram from here by hand, as an endpoint that is no switch; false if the path
    /// does not take it.
    pub fn send(&self, to: SocketAddr, payload: &[u8]) -> bool {
        let departure = Departure {
            to,
            flow: 0,
            tos: 0,
            segment: None,
        };
        self.transmit(&departure, &[IoSlice::new(payload)]) == Departed::Sent
    }

    /// Takes the oldest message that has come here, which a switch would have read: who sent it, and
    /// the payload of its datagram (of all of them, if it has several).
    pub fn take(&self) -> Option<(SocketAddr, Vec<u8>)> {
        let message = self.state().inbox.pop_front()?;
        Some((message.from, message.bytes))
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
