//! What is known of a VTEP that answers no probe: what plain UDP tells of its machine, and when it was
//! heard last.
//!
//! A host tells that a port is closed with an ICMP error, and sends few of them: Linux, after six,
//! one a second to each destination (`icmp_ratelimit`, `inet_peer_xrlim_allow`), whatever it is that
//! brings them about. The probes have had theirs, and frames of pods have, too. So errors that others
//! have brought about are heard, where a raw socket may be had; and silence of a port tells something
//! only if another one that is closed is asked right after it, and is not silent.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    overlay::PeerState,
    switch::Inner,
    underlay::{UdpAnswer, Underlay},
};
use crate::{
    bridge::Ingress,
    config::VtepSpec,
    control::api::PingRequest,
    sys::udp::{Knock, Refusals},
    time::Timestamp,
};

/// What plain UDP tells.
#[derive(Debug)]
pub(super) struct Knocked {
    /// The port of the VTEP.
    pub(super) port: UdpAnswer,
    /// The other port that VXLAN is known by, unless there is nothing to learn from it.
    pub(super) other: Option<UdpAnswer>,
    /// A port where nobody should listen, asked last: if it is refused, those before it that were
    /// silent are open, or filtered.
    pub(super) closed: Option<UdpAnswer>,
}

/// What is known before the knocking; to be made before the last probes.
#[derive(Debug)]
pub(super) struct Probed {
    to: SocketAddr,
    /// Frames that had gone to the machine.
    frames: u64,
    /// Hears of what the machine refuses, where we may listen.
    ear: Option<Refusals>,
    /// Ports that it has refused.
    refused: BTreeSet<u16>,
}

impl Probed {
    /// Whether the machine has told since then, whatever it was that it refused, that a port is closed.
    fn refuses(&mut self, port: u16) -> bool {
        if let Some(ear) = &self.ear {
            self.refused.extend(ear.ports());
        }
        self.refused.contains(&port)
    }
}

/// What ports were found to be of late, for when nothing can be told from their silence.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<SocketAddr, (bool, Timestamp)>>);

impl Memory {
    fn keep(&self, port: SocketAddr, is_closed: bool, now: Timestamp) {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ports.retain(|_, (_, at)| now.since(*at) <= REMEMBERED);
        ports.insert(port, (is_closed, now));
    }

    fn was_closed(&self, port: SocketAddr, now: Timestamp) -> Option<bool> {
        let ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_closed, at) = ports.get(&port)?;
        (now.since(*at) <= REMEMBERED).then_some(*is_closed)
    }
}

impl Inner {
    /// To be called before a VTEP is asked with probes, and not long before: a refusal from then on
    /// counts as one of now.
    pub(super) fn before_probes(&self, to: SocketAddr) -> Probed {
        let underlay = self.state().underlay().cloned();
        Probed {
            to,
            frames: self.sent_to(to.ip()),
            ear: underlay.and_then(|underlay| underlay.hear_refusals(to.ip())),
            refused: BTreeSet::new(),
        }
    }

    /// Asks the machine of a VTEP that has answered no probe, the last of which was sent `before`
    /// now. Waits `patience` for each answer, and asks again until the machine may send an ICMP
    /// error once more.
    pub(super) fn knock(
        &self,
        mut probed: Probed,
        patience: Duration,
        before: Duration,
    ) -> Knocked {
        let to = probed.to;
        let at = |port| SocketAddr::new(to.ip(), port);
        let other_at = at(other_port(to.port()));
        let (port, other, closed) = (
            self.prepare_knock(to),
            self.prepare_knock(other_at),
            self.prepare_knock(at(CLOSED_PORT)),
        );
        let mut waited = before;
        let first = loop {
            if probed.refuses(to.port()) {
                break UdpAnswer::Refused;
            }
            if waited >= LIMIT {
                break UdpAnswer::Silent;
            }
            let [answer] = UdpAnswer::to([&port], patience);
            if answer != UdpAnswer::Silent {
                break answer;
            }
            waited += patience;
        };
        let mut knocked = match first {
            UdpAnswer::Silent => {
                let [port, other, closed] = UdpAnswer::to([&port, &other, &closed], patience);
                Knocked {
                    port,
                    other: Some(other),
                    closed: Some(closed),
                }
            }
            UdpAnswer::Refused => {
                let [other, closed] = UdpAnswer::to([&other, &closed], patience);
                Knocked {
                    port: first,
                    other: Some(other),
                    closed: Some(closed),
                }
            }
            known => Knocked {
                port: known,
                other: None,
                closed: None,
            },
        };
        for (port, answer) in [
            (to.port(), Some(&mut knocked.port)),
            (other_at.port(), knocked.other.as_mut()),
        ] {
            if let Some(answer @ UdpAnswer::Silent) = answer
                && probed.refuses(port)
            {
                *answer = UdpAnswer::Refused;
            }
        }
        // Nobody but us has had an ICMP error of the last second: then silence is all there is.
        let is_certain = self.sent_to(to.ip()) == probed.frames;
        self.remember(&mut knocked, (to, other_at), is_certain);
        knocked
    }

    /// Writes down what is certain, and fills in what is not.
    fn remember(
        &self,
        knocked: &mut Knocked,
        (to, other_at): (SocketAddr, SocketAddr),
        is_certain: bool,
    ) {
        let (now, memory) = (self.clock.now(), &self.knocks);
        let is_limited = !knocked.is_answering();
        match knocked.port {
            UdpAnswer::Refused => memory.keep(to, true, now),
            UdpAnswer::Silent if !is_limited || is_certain => memory.keep(to, false, now),
            UdpAnswer::Silent if memory.was_closed(to, now) == Some(true) => {
                knocked.port = UdpAnswer::Refused;
            }
            _ => {}
        }
        match knocked.other {
            Some(UdpAnswer::Refused) => memory.keep(other_at, true, now),
            Some(UdpAnswer::Silent) if !is_limited => memory.keep(other_at, false, now),
            Some(UdpAnswer::Silent) if knocked.port == UdpAnswer::Refused => {
                match memory.was_closed(other_at, now) {
                    Some(true) => knocked.other = Some(UdpAnswer::Refused),
                    Some(false) => knocked.closed = Some(UdpAnswer::Refused),
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// How many frames have gone to a machine, of all bridges.
    fn sent_to(&self, ip: IpAddr) -> u64 {
        let state = self.state();
        let peers = state.peers.iter().filter(|peer| peer.to.ip() == ip);
        peers.map(|peer| peer.counters.totals().tx_frames).sum()
    }

    /// The endpoint is not held: it may be closed at any moment.
    fn prepare_knock(&self, to: SocketAddr) -> Result<Knock, String> {
        let underlay = self.state().underlay().cloned();
        let closed = || Err("the VXLAN endpoint is down".to_owned());
        underlay.map_or_else(closed, |underlay: std::sync::Arc<Underlay>| {
            underlay.knock(to)
        })
    }
}

impl Knocked {
    /// Whether the machine has just told that a port is closed: then silence of those that were
    /// asked before means something.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.closed, Some(UdpAnswer::Refused | UdpAnswer::Answered))
    }
}

impl PeerState {
    /// When the last frame came from it that the flight recorder remembers.
    pub(super) fn last_heard(&self) -> Option<Timestamp> {
        let recorders = self.counters.recorders();
        let records = recorders.flat_map(|recorder| {
            let (lost, _) = recorder.lost_flows();
            let all = recorder.flows().into_iter().chain(recorder.frames());
            all.chain(lost)
        });
        let from_it = records.filter(|record| record.ingress == Some(Ingress::Peer(self.id)));
        let times = from_it.map(|record| record.last);
        times.filter(|last| *last >= self.added).max()
    }
}

/// The other port that VXLAN is known by.
pub(super) fn other_port(port: u16) -> u16 {
    match port {
        VtepSpec::DEFAULT_PORT => LINUX_PORT,
        _ => VtepSpec::DEFAULT_PORT,
    }
}

/// After this time, Linux has an ICMP error to spare again.
const LIMIT: Duration = PingRequest::ICMP_LIMIT;
/// Where nothing listens: the port that traceroute starts with.
const CLOSED_PORT: u16 = 33_434;
/// Where Linux's vxlan devices listen unless somebody says otherwise.
const LINUX_PORT: u16 = 8472;
/// How long a port counts as what it was found to be, where nothing newer is known.
const REMEMBERED: Duration = Duration::from_secs(60);
