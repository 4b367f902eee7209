//! The VXLAN endpoint as the datapath sees it: VNIs, remote VTEPs, and who may send.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use foldhash::fast::RandomState;

use super::{Counters, Detail, Port, UnderlayIo};
use crate::{bridge::PeerId, vxlan, wire::Vni};

/// This process's VXLAN endpoint: one set of sockets for all VNIs.
#[derive(Debug)]
pub struct Vtep {
    /// How datagrams come and go.
    pub io: Arc<dyn UnderlayIo>,
    /// Settings.
    pub policy: VtepPolicy,
    /// Counts datagrams that belong to no peer.
    pub counters: Arc<Counters>,
    bridges: HashMap<Vni, usize, RandomState>,
    /// By bridge and outer source.
    sources: HashMap<(usize, IpAddr), PeerId, RandomState>,
    peers: Vec<Option<Peer>>,
    /// By the place of their bridge.
    least_mtus: Vec<u32>,
}

/// Settings of a [`Vtep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VtepPolicy {
    /// Its own address: what comes from there is its own.
    pub local: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// The TTL of what it sends.
    pub ttl: u8,
    /// Whether VTEPs that are no peers may send too.
    pub accepts_any: bool,
    /// Whether set reserved bits lose a datagram.
    pub is_strict: bool,
    /// The DSCP of outer headers.
    pub dscp: Dscp,
    /// Whether senders of inner packets that are too big for the path are told.
    pub answers_too_big: bool,
}

impl VtepPolicy {
    /// The defaults, for an endpoint at `local`.
    pub const fn new(local: IpAddr) -> Self {
        Self {
            local,
            port: vxlan::PORT,
            ttl: 64,
            accepts_any: false,
            is_strict: false,
            dscp: Dscp::Fixed(0),
            answers_too_big: true,
        }
    }
}

/// Where the upper six bits of the outer TOS come from; the lower two are ECN (RFC 6040).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// From the inner packet; 0 if it is not IP.
    Inherit,
    /// These, as a TOS byte.
    Fixed(u8),
}

/// One remote VTEP of one VNI.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its number.
    pub id: PeerId,
    /// The index of its bridge in the topology.
    pub bridge: usize,
    /// The bridge's VNI.
    pub vni: Vni,
    /// Where its datagrams go.
    pub to: SocketAddr,
    /// What the path to it takes.
    pub path: Arc<PathMtu>,
    /// Its counters.
    pub counters: Arc<Counters>,
}

/// The MTU of the path to a remote VTEP, in bytes of outer IP packets. Shared by all VNIs.
#[derive(Debug)]
pub struct PathMtu(AtomicU32);

impl PathMtu {
    /// A path that takes packets of `mtu` bytes.
    pub const fn new(mtu: u32) -> Self {
        Self(AtomicU32::new(mtu))
    }

    /// The MTU.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes note of a new MTU.
    pub fn set(&self, mtu: u32) {
        self.0.store(mtu, Ordering::Relaxed);
    }
}

impl Peer {
    /// The longest inner frame that the path takes, Ethernet header and tags included.
    #[inline]
    pub fn max_frame(&self) -> usize {
        let outer = vxlan::encap_len(self.to.is_ipv6());
        usize::try_from(self.path.get().saturating_sub(outer)).unwrap_or(usize::MAX)
    }

    /// How long the outer packet around a frame of `len` bytes is, and what the path takes.
    pub(super) fn outer_size(&self, len: usize) -> Option<Detail> {
        let outer = vxlan::encap_len(self.to.is_ipv6());
        let has = u32::try_from(len).ok()?.saturating_add(outer);
        let fits = self.path.get();
        Some(Detail::Size { has, fits })
    }
}

impl Vtep {
    /// An endpoint without VNIs.
    pub fn new(io: Arc<dyn UnderlayIo>, policy: VtepPolicy, counters: Arc<Counters>) -> Self {
        Self {
            io,
            policy,
            counters,
            bridges: HashMap::default(),
            sources: HashMap::default(),
            peers: Vec::new(),
            least_mtus: Vec::new(),
        }
    }

    /// Bridge number `bridge` is on the overlay as `vni`.
    #[must_use]
    pub fn with_vni(mut self, vni: Vni, bridge: usize) -> Self {
        self.bridges.insert(vni, bridge);
        self
    }

    /// With one more remote VTEP.
    #[must_use]
    pub fn with_peer(mut self, peer: Peer) -> Self {
        let index = peer.id.index();
        if self.peers.len() <= index {
            self.peers.resize(index + 1, None);
        }
        self.sources.insert((peer.bridge, peer.to.ip()), peer.id);
        self.peers[index] = Some(peer);
        self
    }

    /// With the MTUs of these ports.
    pub(super) fn with_ports<'a>(mut self, ports: impl Iterator<Item = &'a Port>) -> Self {
        self.least_mtus.clear();
        for port in ports {
            if self.least_mtus.len() <= port.bridge {
                self.least_mtus.resize(port.bridge + 1, u32::MAX);
            }
            let least = &mut self.least_mtus[port.bridge];
            *least = port.mtu().min(*least);
        }
        self
    }

    /// The MTU of the narrowest port of bridge number `bridge`. No segment of TCP that goes there is
    /// longer; what is longer has several.
    #[inline]
    pub(super) fn least_mtu(&self, bridge: usize) -> u32 {
        self.least_mtus.get(bridge).copied().unwrap_or(u32::MAX)
    }

    /// All VNIs, each with the place of its bridge.
    pub fn vnis(&self) -> impl Iterator<Item = (Vni, usize)> {
        self.bridges.iter().map(|(&vni, &bridge)| (vni, bridge))
    }

    /// The bridge with this VNI.
    #[inline]
    pub fn bridge(&self, vni: Vni) -> Option<usize> {
        self.bridges.get(&vni).copied()
    }

    /// The remote VTEP with this number.
    #[inline]
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.index())?.as_ref()
    }

    /// The remote VTEP of bridge number `bridge` that sends from `source`.
    #[inline]
    pub fn peer_at(&self, bridge: usize, source: IpAddr) -> Option<&Peer> {
        self.peer(*self.sources.get(&(bridge, source))?)
    }

    /// All remote VTEPs.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().flatten()
    }
}
