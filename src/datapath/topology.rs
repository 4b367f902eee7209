//! Who is connected to whom: replaced as a whole by every control change.

use std::sync::Arc;

use super::{Counters, PortIo, Vtep, capture::Installed};
use crate::bridge::{Bridge, PortId};

/// All bridges and ports at one moment. Workers take the present one before each batch.
#[derive(Debug, Default)]
pub struct Topology {
    bridges: Vec<Bridge>,
    ports: Vec<Option<Port>>,
    vtep: Option<Vtep>,
    captures: Vec<Installed>,
}

/// One port as the datapath sees it.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its number.
    pub id: PortId,
    /// The index of its bridge in the topology.
    pub bridge: usize,
    /// How its frames get in and out.
    pub io: Arc<dyn PortIo>,
    /// The longest frame that is delivered, without FCS: MTU, Ethernet header and a VLAN tag, as
    /// the kernel's `is_skb_forwardable` has it.
    pub max_frame: usize,
    /// Its counters.
    pub counters: Arc<Counters>,
}

impl Port {
    /// Port number `id` on bridge number `bridge`.
    pub fn new(
        id: PortId,
        bridge: usize,
        io: Arc<dyn PortIo>,
        mtu: u32,
        counters: Arc<Counters>,
    ) -> Self {
        let max_frame = usize::try_from(mtu)
            .unwrap_or(usize::MAX)
            .saturating_add(Self::OVERHEAD);
        Self {
            id,
            bridge,
            io,
            max_frame,
            counters,
        }
    }

    /// The bytes of IP that fit behind an Ethernet header and a VLAN tag.
    pub(crate) fn mtu(&self) -> u32 {
        let mtu = self.max_frame.saturating_sub(Self::OVERHEAD);
        u32::try_from(mtu).unwrap_or(u32::MAX)
    }

    const OVERHEAD: usize = 14 + 4;
}

impl Topology {
    /// These bridges with these ports. A port of a bridge that is not there is left out: nothing is
    /// read from it, so nothing is lost.
    pub fn new(bridges: Vec<Bridge>, ports: impl IntoIterator<Item = Port>) -> Self {
        let mut table: Vec<Option<Port>> = Vec::new();
        for port in ports {
            if port.bridge >= bridges.len() {
                continue;
            }
            let index = port.id.index();
            if table.len() <= index {
                table.resize(index + 1, None);
            }
            table[index] = Some(port);
        }
        Self {
            bridges,
            ports: table,
            vtep: None,
            captures: Vec::new(),
        }
    }

    /// With a VXLAN endpoint, whose VNIs and peers name bridges by their place here.
    #[must_use]
    pub fn with_vtep(mut self, vtep: Vtep) -> Self {
        self.vtep = Some(vtep.with_ports(self.ports()));
        self
    }

    /// With these captures running.
    #[must_use]
    pub fn with_captures(mut self, captures: Vec<Installed>) -> Self {
        self.captures = captures;
        self
    }

    /// The captures that run.
    pub fn captures(&self) -> &[Installed] {
        &self.captures
    }

    /// The VXLAN endpoint.
    #[inline]
    pub fn vtep(&self) -> Option<&Vtep> {
        self.vtep.as_ref()
    }

    /// The port with this number.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.index())?.as_ref()
    }

    /// The bridge of `port`.
    #[inline]
    pub fn bridge(&self, port: &Port) -> Option<&Bridge> {
        self.bridges.get(port.bridge)
    }

    /// All bridges.
    pub fn bridges(&self) -> &[Bridge] {
        &self.bridges
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().flatten()
    }
}
