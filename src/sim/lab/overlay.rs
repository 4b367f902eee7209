//! The overlay of a lab.

use std::{net::SocketAddr, sync::Arc};

use super::Lab;
use crate::{
    bridge::{Egress, EntryKind, FdbKey, PeerId},
    datapath::{Counters, PathMtu, Peer, Totals, Vtep, VtepPolicy},
    sim::MemUnderlay,
    wire::{MacAddr, Vni},
};

/// The lab's VXLAN endpoint.
#[derive(Debug)]
pub(super) struct LabVtep {
    io: Arc<MemUnderlay>,
    policy: VtepPolicy,
    counters: Arc<Counters>,
    /// Bridges on the overlay, and whether they learn from peers.
    vnis: Vec<(usize, Vni, bool)>,
    peers: Vec<LabPeer>,
}

#[derive(Debug)]
struct LabPeer {
    peer: Peer,
    is_listed: bool,
    is_there: bool,
}

impl Lab {
    /// Gives the lab a VXLAN endpoint with default settings.
    pub fn add_vtep(&mut self, io: Arc<MemUnderlay>) {
        let policy = VtepPolicy::new(io.local().ip());
        self.vtep = Some(LabVtep {
            io,
            policy,
            counters: Arc::new(Counters::new(self.workers)),
            vnis: Vec::new(),
            peers: Vec::new(),
        });
        self.rebuild();
    }

    /// Changes the settings of the endpoint.
    ///
    /// # Panics
    /// If the lab has none; likewise all that follow.
    pub fn set_vtep(&mut self, change: impl FnOnce(&mut VtepPolicy)) {
        change(&mut self.vtep_mut().policy);
        self.rebuild();
    }

    /// Puts a bridge on the overlay.
    pub fn set_vni(&mut self, bridge: usize, vni: Vni) {
        self.vtep_mut().vnis.push((bridge, vni, true));
        self.rebuild();
    }

    /// Whether a bridge learns from frames of remote VTEPs.
    pub fn set_peer_learning(&mut self, bridge: usize, learns: bool) {
        let vnis = &mut self.vtep_mut().vnis;
        vnis.iter_mut()
            .filter(|vni| vni.0 == bridge)
            .for_each(|vni| vni.2 = learns);
        self.rebuild();
    }

    /// Adds a remote VTEP of a bridge, which gets copies of what is flooded.
    pub fn add_peer(&mut self, bridge: usize, to: SocketAddr) -> PeerId {
        self.add_peer_with(bridge, to, true)
    }

    /// Adds a remote VTEP of a bridge, which gets copies of what is flooded if `is_listed`.
    ///
    /// # Panics
    /// If the bridge is not on the overlay, or there are too many peers.
    pub fn add_peer_with(&mut self, bridge: usize, to: SocketAddr, is_listed: bool) -> PeerId {
        let workers = self.workers;
        let vtep = self.vtep_mut();
        let id = PeerId::new(vtep.peers.len()).expect("a lab has fewer peers than the limit");
        let vni = vtep.vnis.iter().find(|vni| vni.0 == bridge);
        let vni = vni.expect("the bridge has a VNI").1;
        vtep.peers.push(LabPeer {
            peer: Peer {
                id,
                bridge,
                vni,
                to,
                path: Arc::new(PathMtu::new(1500)),
                counters: Arc::new(Counters::new(workers)),
            },
            is_listed,
            is_there: true,
        });
        self.rebuild();
        id
    }

    /// Removes a remote VTEP and forgets every address behind it.
    pub fn remove_peer(&mut self, id: PeerId) {
        let peer = &mut self.vtep_mut().peers[id.index()];
        peer.is_there = false;
        let bridge = peer.peer.bridge;
        self.rebuild();
        self.fdb_of(bridge)
            .flush(|_, entry| entry.egress == Egress::Peer(id));
    }

    /// What the path to a remote VTEP takes.
    pub fn path(&self, peer: PeerId) -> Arc<PathMtu> {
        Arc::clone(&self.vtep().peers[peer.index()].peer.path)
    }

    /// Adds a static entry for `mac`, untagged, behind a remote VTEP.
    pub fn pin_remote(&mut self, mac: MacAddr, peer: PeerId) {
        let bridge = self.vtep().peers[peer.index()].peer.bridge;
        let key = FdbKey::new(mac, 0);
        self.fdb_of(bridge)
            .pin(key, Egress::Peer(peer), EntryKind::Static, self.now);
    }

    /// The counters of a remote VTEP, also of one that was removed.
    pub fn peer_totals(&self, peer: PeerId) -> Totals {
        self.vtep().peers[peer.index()].peer.counters.totals()
    }

    /// Counters and flight recorder of a remote VTEP, likewise.
    pub fn peer_counters(&self, peer: PeerId) -> &Arc<Counters> {
        &self.vtep().peers[peer.index()].peer.counters
    }

    /// Counters and flight recorder of datagrams that belong to no remote VTEP.
    pub fn vtep_counters(&self) -> &Arc<Counters> {
        &self.vtep().counters
    }

    /// The counters of datagrams that belong to no remote VTEP.
    pub fn vtep_totals(&self) -> Totals {
        self.vtep().counters.totals()
    }

    /// All counters of the overlay.
    pub(super) fn overlay_totals(&self) -> impl Iterator<Item = (String, Totals)> {
        let all = self.overlay_counters();
        all.map(|(name, counters)| (name, counters.totals()))
    }

    /// Likewise, not yet added up.
    pub(super) fn overlay_counters(&self) -> impl Iterator<Item = (String, &Counters)> {
        self.vtep.iter().flat_map(|vtep| {
            let peers = vtep.peers.iter().map(|peer| {
                let name = format!("peer {}", peer.peer.to);
                (name, &*peer.peer.counters)
            });
            peers.chain([("the endpoint".to_owned(), &*vtep.counters)])
        })
    }

    fn vtep(&self) -> &LabVtep {
        self.vtep.as_ref().expect("the lab has a VXLAN endpoint")
    }

    fn vtep_mut(&mut self) -> &mut LabVtep {
        self.vtep.as_mut().expect("the lab has a VXLAN endpoint")
    }
}

impl LabVtep {
    /// The flood list of a bridge, and whether it learns from peers; `None` without a VNI.
    pub(super) fn overlay_of(&self, bridge: usize) -> Option<(Vec<PeerId>, bool)> {
        let (_, _, learns) = self.vnis.iter().find(|vni| vni.0 == bridge)?;
        let listed = self
            .peers
            .iter()
            .filter(|peer| peer.is_listed && peer.is_there && peer.peer.bridge == bridge);
        Some((listed.map(|peer| peer.peer.id).collect(), *learns))
    }

    /// Where a remote VTEP is, also one that was removed.
    pub(super) fn address_of(&self, peer: PeerId) -> Option<SocketAddr> {
        self.peers.get(peer.index()).map(|peer| peer.peer.to)
    }

    /// As the datapath sees it.
    pub(super) fn build(&self) -> Vtep {
        let io = Arc::clone(&self.io);
        let vtep = Vtep::new(io, self.policy, Arc::clone(&self.counters));
        let vtep = self
            .vnis
            .iter()
            .fold(vtep, |vtep, &(bridge, vni, _)| vtep.with_vni(vni, bridge));
        let peers = self.peers.iter().filter(|peer| peer.is_there);
        peers.fold(vtep, |vtep, peer| vtep.with_peer(peer.peer.clone()))
    }
}
