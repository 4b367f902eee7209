//! The overlay's part of an examination: the namespace of the endpoint, and peers that are asked.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use super::{
    super::{
        knock::other_port,
        overlay::{PeerState, VtepLink},
        ping::Ping,
        underlay::UdpAnswer,
    },
    Exam, LONGEST,
};
use crate::{
    config::{PeerAddr, VtepSpec},
    control::api::{PeerKind, PingRequest},
    doctor::{Count, Facts, PeerFacts, Probe, Surroundings, Udp, VtepFacts},
    names::Name,
    netlink::{self, Netfilter, Way},
    sys::netns::NetnsFile,
    vxlan,
};

impl Exam<'_> {
    /// Looks at the endpoint and the peers of these bridges.
    pub(super) fn look_at_overlay(&self, facts: &mut Facts, bridges: &[Name]) {
        let is_open = {
            let state = self.inner.state();
            let is_on_overlay = |name: &Name| {
                let bridge = state.bridge(name);
                bridge.is_some_and(|bridge| bridge.spec.vni.is_some())
            };
            let Some(vtep) = state.vtep.as_ref() else {
                return;
            };
            if !bridges.iter().any(is_on_overlay) {
                return;
            }
            facts.vtep = Some(VtepFacts {
                spec: vtep.spec.clone(),
                closed: match &vtep.link {
                    VtepLink::Open(_) => None,
                    VtepLink::Closed(reason) => Some(reason.clone()),
                },
                overflow: Count::default(),
                losses: Vec::new(),
                around: None,
                heard: Vec::new(),
            });
            let peers = state.peers.iter();
            let ours = peers.filter(|peer| bridges.contains(&peer.bridge));
            facts.peers = ours
                .map(|peer| {
                    let path_mtu = peer.path.get();
                    PeerFacts {
                        bridge: peer.bridge.clone(),
                        vni: peer.vni,
                        to: peer.to,
                        is_met: peer.kind == PeerKind::Learned,
                        path_mtu,
                        mtu: path_mtu.saturating_sub(vxlan::overhead(peer.to.is_ipv6())),
                        no_route: peer.no_route.clone(),
                        way: None,
                        rx: Count::default(),
                        last_heard: None,
                        losses: Vec::new(),
                        probe: None,
                    }
                })
                .collect();
            vtep.underlay().is_some()
        };
        let netns = facts.vtep.as_ref().and_then(|vtep| Place::of(&vtep.spec));
        if let (Some(vtep), Some(netns)) = (&mut facts.vtep, &netns) {
            vtep.around = around(netns, vtep.spec.local);
        }
        if let Some(vtep) = &mut facts.vtep {
            vtep.heard = self.heard(None, true);
            let is_strange = |reason: &str| matches!(reason, "unknown_vni" | "unknown_peer");
            let heard = &mut vtep.heard;
            heard.retain(|heard| heard.lost.as_deref().is_some_and(is_strange));
        }
        if is_open {
            self.ask_peers(&mut facts.peers);
            for peer in &mut facts.peers {
                let is_silent = |probe: &Probe| probe.rtt.is_none();
                if peer.probe.as_ref().is_some_and(is_silent) {
                    peer.last_heard = self.last_heard(peer);
                }
            }
        }
        let (Some(vtep), Some(netns)) = (&mut facts.vtep, &netns) else {
            return;
        };
        // Asking has shown who answers on the underlay.
        if let (Some(before), Some(mut after)) =
            (vtep.around.take(), around(netns, vtep.spec.local))
        {
            after.dropped = grown(&before.netfilter, &after.netfilter);
            vtep.around = Some(after);
        }
        let to: Vec<IpAddr> = facts.peers.iter().map(|peer| peer.to.ip()).collect();
        let ways = netlink::ways(netns.0.as_ref(), &to).unwrap_or_default();
        for (peer, way) in facts.peers.iter_mut().zip(ways) {
            peer.way = Some(way).filter(|way| *way != Way::Nowhere);
        }
    }

    /// Asks peers that somebody has named, all at the same time.
    fn ask_peers(&self, peers: &mut [PeerFacts]) {
        let wanted = |peer: &&mut PeerFacts| !peer.is_met && peer.no_route.is_none();
        thread::scope(|scope| {
            for peer in peers.iter_mut().filter(wanted).take(MOST_ASKED) {
                let ask = move || peer.probe = self.ask(&peer.bridge, peer.to);
                // Without a thread it is not asked, which the report says.
                drop(
                    thread::Builder::new()
                        .name("doctor".to_owned())
                        .spawn_scoped(scope, ask),
                );
            }
        });
    }

    fn ask(&self, bridge: &Name, to: SocketAddr) -> Option<Probe> {
        let remote = PeerAddr {
            ip: to.ip(),
            port: Some(to.port()),
        };
        let request = PingRequest {
            bridge: Some(bridge.clone()),
            ..PingRequest::new(remote)
        };
        let ping: Ping = {
            let state = self.inner.state();
            self.inner.prepare_ping(&state, request).ok()?
        };
        let probed = self.inner.before_probes(to);
        let (rtt, large) = ping.short_and_long(self.inner, PATIENCE);
        let mut probe = Probe {
            rtt,
            large,
            port: Udp::NotAsked,
            closed: Udp::NotAsked,
            other: (other_port(to.port()), Udp::NotAsked),
        };
        if rtt.is_none() {
            let knocked = self.inner.knock(probed, PATIENCE, PATIENCE);
            probe.port = knocked.port.into();
            probe.closed = knocked.closed.map_or(Udp::NotAsked, Udp::from);
            probe.other.1 = knocked.other.map_or(Udp::NotAsked, Udp::from);
        }
        Some(probe)
    }

    /// How long ago a frame came from the peer.
    fn last_heard(&self, peer: &PeerFacts) -> Option<Duration> {
        let state = self.inner.state();
        let is_it = |it: &&PeerState| it.bridge == peer.bridge && it.to == peer.to;
        let last = state.peers.iter().find(is_it)?.last_heard()?;
        Some(self.inner.clock.now().since(last))
    }

    /// The counters of the firewall once more, if time is left.
    pub(super) fn look_at_overlay_again(&self, facts: &mut Facts) {
        let Some(vtep) = &mut facts.vtep else { return };
        let Some(around) = &mut vtep.around else {
            return;
        };
        if self.spent() > LONGEST || around.netfilter.drops.is_empty() {
            return;
        }
        let netns = Place::of(&vtep.spec);
        if let Some(now) = netns.and_then(|netns| netlink::netfilter(netns.0.as_ref()).ok()) {
            let more = grown(&around.netfilter, &now);
            for (sum, more) in around.dropped.iter_mut().zip(more) {
                *sum += more;
            }
        }
    }
}

/// The namespace of the endpoint; `None` in it: our own.
struct Place(Option<NetnsFile>);

impl Place {
    fn of(spec: &VtepSpec) -> Option<Self> {
        match &spec.netns {
            None => Some(Self(None)),
            Some(netns) => NetnsFile::open(netns).ok().map(|file| Self(Some(file))),
        }
    }
}

fn around(netns: &Place, local: IpAddr) -> Option<Surroundings> {
    let (addresses, neighbours, netfilter) = netlink::surroundings(netns.0.as_ref(), local).ok()?;
    Some(Surroundings {
        addresses,
        neighbours,
        dropped: vec![0; netfilter.drops.len()],
        netfilter,
    })
}

impl From<UdpAnswer> for Udp {
    fn from(answer: UdpAnswer) -> Self {
        match answer {
            UdpAnswer::Refused => Self::Refused,
            UdpAnswer::Answered => Self::Answered,
            UdpAnswer::Silent => Self::Silent,
            UdpAnswer::Unreachable(why) => Self::Unreachable(why),
        }
    }
}

/// By how many packets each rule of `before` that drops has grown.
pub(super) fn grown(before: &Netfilter, after: &Netfilter) -> Vec<u64> {
    let key = |drop: &netlink::Dropping| {
        (
            drop.family,
            drop.table.clone(),
            drop.chain.clone(),
            drop.handle,
        )
    };
    let now: HashMap<_, _> = after
        .drops
        .iter()
        .map(|drop| (key(drop), drop.packets.unwrap_or(0)))
        .collect();
    let rules = before.drops.iter();
    let grown = rules.map(|drop| {
        let now = now.get(&key(drop)).copied().unwrap_or(0);
        now.saturating_sub(drop.packets.unwrap_or(0))
    });
    grown.collect()
}

/// How long a peer may take for an answer.
const PATIENCE: Duration = Duration::from_millis(350);
/// Peers that are asked. The rest is as likely to be well.
const MOST_ASKED: usize = 32;
