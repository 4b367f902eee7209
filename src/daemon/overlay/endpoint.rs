//! The endpoint as the workers see it.

use std::{io::IoSlice, net::SocketAddr, sync::Arc};

use super::VtepLink;
use crate::{
    bridge::{DropReason, PeerId},
    config::{Accept, Tos, VtepSpec},
    daemon::state::State,
    datapath::{Arrived, Departed, Departure, Dscp, Peer, UnderlayIo, Vtep, VtepPolicy},
    names::Name,
};

impl State {
    /// The endpoint as the workers see it; `index_of` finds bridges in their topology.
    pub(in crate::daemon) fn vtep_topology(
        &self,
        index_of: impl Fn(&Name) -> Option<usize>,
    ) -> Option<Vtep> {
        let vtep = self.vtep.as_ref()?;
        let VtepSpec {
            local,
            port,
            ttl,
            accept,
            strict,
            tos,
            too_big_answers,
            ..
        } = vtep.spec;
        let policy = VtepPolicy {
            local,
            port,
            ttl,
            accepts_any: accept == Accept::Any,
            is_strict: strict,
            dscp: match tos {
                Tos::Inherit => Dscp::Inherit,
                Tos::Fixed(tos) => Dscp::Fixed(tos),
            },
            answers_too_big: too_big_answers,
        };
        let io: Arc<dyn UnderlayIo> = match &vtep.link {
            VtepLink::Open(underlay) => Arc::clone(underlay) as Arc<dyn UnderlayIo>,
            VtepLink::Closed(_) => Arc::new(NoUnderlay),
        };
        let mut result = Vtep::new(io, policy, Arc::clone(&vtep.counters));
        for bridge in &self.bridges {
            if let (Some(vni), Some(index)) = (bridge.spec.vni, index_of(&bridge.spec.name)) {
                result = result.with_vni(vni, index);
            }
        }
        for peer in &self.peers {
            if let Some(bridge) = index_of(&peer.bridge) {
                result = result.with_peer(Peer {
                    id: peer.id,
                    bridge,
                    vni: peer.vni,
                    to: peer.to,
                    path: Arc::clone(&peer.path),
                    counters: Arc::clone(&peer.counters),
                });
            }
        }
        Some(result)
    }

    /// Who gets copies of what the bridge floods.
    pub(in crate::daemon) fn flood_list(&self, bridge: &Name) -> Vec<PeerId> {
        self.peers
            .iter()
            .filter(|peer| peer.bridge == *bridge && peer.is_flooded)
            .map(|peer| peer.id)
            .collect()
    }
}

/// An endpoint without sockets: what goes to its peers is lost, and counted there.
#[derive(Debug)]
struct NoUnderlay;

impl UnderlayIo for NoUnderlay {
    fn receive(&self, _buf: &mut [u8]) -> Arrived {
        Arrived::Empty
    }

    fn transmit(&self, _departure: &Departure, _parts: &[IoSlice<'_>]) -> Departed {
        Departed::Dropped(DropReason::NoRoute)
    }

    fn most_in_message(&self) -> usize {
        1
    }

    fn path_mtu(&self, _to: SocketAddr) -> Option<u32> {
        None
    }

    fn obstacle(&self, _to: SocketAddr) -> Option<DropReason> {
        Some(DropReason::NoRoute)
    }
}
