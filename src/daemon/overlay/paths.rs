//! What the paths to peers take, and what follows for the MTU of bridges and their ports.

use std::cell::LazyCell;

use super::{PeerState, VtepState};
use crate::{
    control::api::{MtuChain, PeerKind},
    daemon::{
        state::{BridgeState, Link, State},
        switch::Inner,
    },
    names::Name,
    netlink,
    sys::cause_text,
    vxlan,
};

impl Inner {
    /// Asks the kernel what the path to each peer takes, and passes changes on to the bridges.
    pub(super) fn follow_paths(&self, state: &mut State, which: Paths) {
        let State { vtep, peers, .. } = state;
        if let Some(underlay) = vtep.as_ref().and_then(VtepState::underlay) {
            let is_homeless = LazyCell::new(|| underlay.is_homeless());
            for peer in peers {
                if which == Paths::New && peer.is_told {
                    continue;
                }
                let asked = if *is_homeless {
                    Err(format!("no interface has our address {}", underlay.local()))
                } else {
                    let asked = underlay.ask_path(peer.to);
                    asked.map_err(|error| cause_text(&error))
                };
                self.follow_path(peer, asked);
            }
        }
        let names: Vec<Name> = state
            .bridges
            .iter()
            .map(|bridge| bridge.spec.name.clone())
            .collect();
        // Asked for once, and only if somebody wants to know: it takes a thread and a socket.
        let underlay = state.underlay().cloned();
        let device = LazyCell::new(|| underlay.and_then(|underlay| underlay.device()));
        let device = || device.clone();
        for name in names {
            self.follow_mtu(state, &name, &device);
        }
        fit_superframes(state);
    }

    /// The path to `peer` takes so much, or there is none and this is why.
    pub(super) fn follow_path(&self, peer: &mut PeerState, asked: Result<u32, String>) {
        match asked {
            Ok(mtu) => {
                if peer.no_route.take().is_some() {
                    self.events.peer(peer, "route back", None);
                }
                peer.path.set(mtu);
                if peer.told_mtu.replace(mtu).is_some_and(|told| told != mtu) {
                    self.events.peer(peer, "mtu", None);
                }
            }
            Err(reason) => {
                if peer.is_told && peer.no_route.is_none() {
                    self.events.peer(peer, "no route", Some(&reason));
                }
                peer.no_route = Some(reason);
            }
        }
    }

    /// Asks for the paths to all peers, and puts in force what follows.
    pub(super) fn ask_all_paths(&self, state: &mut State) {
        let before: Vec<u32> = state.bridges.iter().map(BridgeState::mtu).collect();
        self.follow_paths(state, Paths::All);
        let after = state.bridges.iter().map(BridgeState::mtu);
        if !after.eq(before) {
            self.publish(state);
        }
    }

    /// Gives the ports of a bridge on the overlay the MTU that the paths to its peers leave, unless
    /// one was given.
    pub(super) fn follow_mtu(
        &self,
        state: &mut State,
        name: &Name,
        device: &dyn Fn() -> Option<(String, u32)>,
    ) {
        let chain = state.mtu_chain(name, device);
        let is_unknown = chain.is_none() && state.vtep.is_some();
        let Some(bridge) = state
            .bridges
            .iter_mut()
            .find(|bridge| bridge.spec.name == *name)
        else {
            return;
        };
        if is_unknown && bridge.spec.vni.is_some() {
            // The address or the endpoint is gone for now: what was known is the best guess.
            return;
        }
        let before = bridge.mtu();
        bridge.mtu_chain = chain;
        let mtu = bridge.mtu();
        if mtu != before {
            self.offer_mtu(state, name, mtu);
        }
    }
}

impl State {
    /// How the `auto` MTU of a bridge on the overlay comes about: the narrowest path, less what
    /// the overlay adds.
    fn mtu_chain(
        &self,
        name: &Name,
        device: &dyn Fn() -> Option<(String, u32)>,
    ) -> Option<MtuChain> {
        let bridge = self.bridge(name)?;
        let vtep = self.vtep.as_ref()?;
        bridge.spec.vni?;
        let is_v6 = vtep.spec.local.is_ipv6();
        let peers = self
            .peers
            .iter()
            .filter(|peer| peer.bridge == *name && peer.kind != PeerKind::Learned)
            // Of a path that nobody has ever seen nothing is known.
            .filter(|peer| peer.told_mtu.is_some());
        let narrowest = peers
            .map(|peer| (peer.path.get(), format!("path to {}", peer.to.ip())))
            .min_by_key(|&(mtu, _)| mtu);
        let (path_mtu, from) = narrowest.or_else(|| {
            let (device, mtu) = device()?;
            Some((mtu, format!("device {device}")))
        })?;
        let overhead = vxlan::overhead(is_v6);
        let mut mtu = path_mtu.saturating_sub(overhead);
        if mtu < LEAST_MTU {
            // Below this Linux takes IPv6 away from an interface, and whoever can forge an ICMP
            // message can narrow a path. So a path alone never does that: what does not fit it is
            // dropped, and its sender told.
            let of_device = device().map_or(mtu, |(_, mtu)| mtu.saturating_sub(overhead));
            mtu = mtu.max(of_device.min(LEAST_MTU));
        }
        let less = vxlan::headers(is_v6);
        Some(MtuChain {
            from,
            path_mtu,
            less: less.map(|(layer, len)| (layer.to_owned(), len)).into(),
            mtu: mtu.max(LEAST_V4_MTU),
        })
    }
}

/// Keeps superframes of ports on the overlay so short that one fits one message to a peer, headers
/// of all its segments included: two messages for one superframe cost a tenth of the throughput.
pub(in crate::daemon) fn fit_superframes(state: &mut State) {
    let State { bridges, ports, .. } = state;
    for port in ports {
        let Link::Plugged(plugged) = &mut port.link else {
            continue;
        };
        let is_on_overlay = bridges
            .iter()
            .any(|bridge| bridge.spec.name == port.spec.bridge && bridge.spec.vni.is_some());
        let segments = if is_on_overlay {
            // An inner Ethernet header and a VXLAN header go with each.
            (LONGEST_MESSAGE / (port.mtu + 14 + 8)).max(1)
        } else {
            ANY_SEGMENTS
        };
        if segments == plugged.gso_max_segs {
            continue;
        }
        let netns = plugged
            .io
            .device()
            .netns()
            .map_err(|error| error.to_string());
        let done = netns.and_then(|netns| {
            netlink::set_gso_max_segs(Some(&netns), plugged.ifindex, segments)
                .map_err(|error| error.to_string())
        });
        match done {
            Ok(()) => plugged.gso_max_segs = segments,
            // It only costs time.
            Err(error) => tracing::debug!(port = %port.spec.name, "{error}"),
        }
    }
}

/// Which paths the kernel is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Paths {
    /// Those that it has not been asked for yet.
    New,
    /// All of them.
    All,
}

/// Bytes of one UDP message over IPv4.
const LONGEST_MESSAGE: u32 = 65_507;
/// The kernel's default (`GSO_MAX_SEGS`, include/linux/netdevice.h).
pub(in crate::daemon) const ANY_SEGMENTS: u32 = 65_535;
/// The least MTU of IPv6 (RFC 8200 §5), below which Linux switches IPv6 off.
const LEAST_MTU: u32 = 1280;
/// The same of IPv4 (RFC 791).
const LEAST_V4_MTU: u32 = 68;
