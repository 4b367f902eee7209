//! What to do about a loss that is foreseen.

use super::{Trace, Where};
use crate::{
    bridge::{DropReason, Egress, PortId},
    daemon::{
        state::State,
        why::{
            size::TooBig,
            words::{fill, port_for},
        },
    },
    datapath::Port,
    rehearsal::{Considered, Names, Rehearsal},
    vxlan,
    wire::Frame,
};

impl Trace {
    /// What to do about a loss, with the names that are known.
    pub(super) fn fix(
        &self,
        state: &State,
        reason: DropReason,
        place: Option<Egress>,
        played: &Rehearsal,
    ) -> String {
        let first = played.frames.first();
        let bridge = first.map(|first| self.names.bridge(first.bridge));
        let peer = place
            .and_then(Egress::peer)
            .and_then(|peer| self.topology.vtep()?.peer(peer));
        let frame = first.and_then(|first| Frame::new_checked(&first.frame).ok());
        let to_port = place.and_then(Egress::port);
        if reason == DropReason::TooBig {
            let fits = match (peer, to_port.and_then(|id| self.topology.port(id))) {
                (Some(peer), _) => {
                    let overhead = vxlan::overhead(peer.to.is_ipv6());
                    Some(peer.path.get().saturating_sub(overhead))
                }
                (None, port) => port.map(Port::mtu),
            };
            if let Some(fits) = fits {
                return self.fix_of_size(state, fits, to_port, first);
            }
        }
        let from_port = match &self.ingress {
            Where::Port(entry) => Some(entry.spec.name.to_string()),
            Where::Peer { .. } => None,
        };
        let port = port_for(
            reason,
            from_port,
            to_port.map(|port| Names::port(&self.names, port)),
        );
        let ip = match (reason, &self.ingress) {
            (DropReason::NoRoute, _) => peer.map(|peer| peer.to.ip()),
            (_, Where::Peer { remote, .. }) => Some(*remote),
            (_, Where::Port(_)) => None,
        };
        let vni = match &self.ingress {
            Where::Peer { vni, .. } => Some(vni.to_string()),
            Where::Port(_) => None,
        };
        let mac = frame
            .filter(|_| matches!(reason, DropReason::Locked | DropReason::PinnedSource))
            .map(|frame| frame.src().to_string());
        let names = [
            ("PORT", port),
            ("BRIDGE", bridge),
            ("MAC", mac),
            ("IP", ip.map(|ip| ip.to_string())),
            ("N", vni),
        ];
        fill(reason.remedy(), &names)
    }

    /// Likewise of what is larger than the MTU that fits.
    fn fix_of_size(
        &self,
        state: &State,
        fits: u32,
        to: Option<PortId>,
        first: Option<&Considered>,
    ) -> String {
        let from = match &self.ingress {
            Where::Port(entry) => state.port(&entry.spec.name),
            Where::Peer { .. } => None,
        };
        if let Some(from) = from.filter(|from| from.mtu <= fits) {
            let (name, mtu) = (&from.spec.name, from.mtu);
            return format!(
                "nothing: {name} has MTU {mtu}, so its own kernel cuts such a packet up, or refuses it"
            );
        }
        let len = first.map_or(0, |first| first.frame.len());
        let bridge = first.and_then(|first| self.names.bridges.get(first.bridge));
        TooBig {
            state,
            bridge,
            from,
            to: to.and_then(|id| state.port_by_id(id)),
            has: u32::try_from(len).unwrap_or(u32::MAX).saturating_sub(14),
            fits,
        }
        .remedy()
    }
}
