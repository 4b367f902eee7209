//! What can be seen of a lab from outside, and whether its sums are right.

use std::sync::Arc;

use super::Lab;
use crate::{
    bridge::{DropReason, Fdb, FdbEntry, FdbKey, FdbPolicy, PortFlags, PortId},
    datapath::{Counters, Topology, Totals},
    sim::MemPort,
    time::Timestamp,
    wire::MacAddr,
};

impl Lab {
    /// The lab's clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The FDB of the first bridge.
    pub fn fdb(&self) -> &Arc<Fdb> {
        self.fdb_of(0)
    }

    /// The FDB of a bridge.
    pub fn fdb_of(&self, bridge: usize) -> &Arc<Fdb> {
        &self.bridges[bridge].1
    }

    /// The entries of the first bridge, sorted by VLAN and address.
    pub fn entries(&self) -> Vec<(FdbKey, FdbEntry)> {
        let mut entries = self.fdb().entries();
        entries.sort_by_key(|&(key, _)| key);
        entries
    }

    /// The port behind which the first bridge's FDB has `mac`, untagged; aged or not.
    pub fn location(&self, mac: MacAddr) -> Option<PortId> {
        self.fdb().get(FdbKey::new(mac, 0))?.egress.port()
    }

    /// The flags of a port.
    pub fn flags(&self, port: PortId) -> PortFlags {
        self.ports[port.index()].flags
    }

    /// The name of a port.
    pub fn name(&self, port: PortId) -> &str {
        &self.ports[port.index()].name
    }

    /// All ports that are plugged in.
    pub fn ports(&self) -> impl Iterator<Item = PortId> {
        self.ports.iter().filter(|p| p.plugged).map(|p| p.id)
    }

    /// The other end of a port, to send, take and break things.
    pub fn io(&self, port: PortId) -> Arc<MemPort> {
        Arc::clone(&self.ports[port.index()].io)
    }

    /// The switch as the workers see it now; for datapaths beside the lab's own.
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }

    /// The rules of a bridge's FDB.
    pub fn policy(&self, bridge: usize) -> FdbPolicy {
        *self.topology.bridges()[bridge].policy()
    }

    // ----------------------------------------------------------------------------- accounting

    /// The counters of a port, also of one that was unplugged.
    pub fn totals(&self, port: PortId) -> Totals {
        self.ports[port.index()].counters.totals()
    }

    /// Counters and flight recorder of a port, also of one that was unplugged.
    pub fn counters(&self, port: PortId) -> &Arc<Counters> {
        &self.ports[port.index()].counters
    }

    /// Frames that ever came in, at all ports and remote VTEPs.
    pub fn frames(&self) -> u64 {
        let ports = self.ports.iter().map(|port| port.counters.totals());
        let totals = ports.chain(self.overlay_totals().map(|(_, totals)| totals));
        totals.map(|totals| totals.rx_frames).sum()
    }

    /// Frames and copies lost for `reason` at all ports and remote VTEPs together.
    pub fn drops(&self, reason: DropReason) -> u64 {
        let ports = self.ports.iter().map(|port| port.counters.totals());
        let totals = ports.chain(self.overlay_totals().map(|(_, totals)| totals));
        totals.map(|totals| totals.drops(reason)).sum()
    }

    /// Frames and copies whose fate no counter tells, at all ports and remote VTEPs that ever were.
    pub fn unaccounted(&self) -> u64 {
        let ports = self.ports.iter().map(|port| port.counters.totals());
        let totals = ports.chain(self.overlay_totals().map(|(_, totals)| totals));
        totals.map(|t| t.unaccounted().unsigned_abs()).sum()
    }

    /// Checks that every frame has a counted fate, that the counters say what the ports saw, and
    /// that every loss was written down.
    ///
    /// # Panics
    /// If that is not so.
    pub fn assert_accounted(&self) {
        let (mut forwarded, mut planned) = (0, 0);
        for port in &self.ports {
            let totals = port.counters.totals();
            assert_recorded(&port.name, &port.counters);
            assert_eq!(totals.unaccounted(), 0, "at {}: {totals:?}", port.name);
            assert_eq!(
                (totals.rx_frames, totals.tx_frames - totals.coalesced),
                (port.io.received_by_switch(), port.io.accepted_from_switch()),
                "{} saw other numbers of frames than were counted",
                port.name
            );
            forwarded += totals.forwarded;
            planned += totals.planned;
        }
        for (name, counters) in self.overlay_counters() {
            assert_recorded(&name, counters);
        }
        for (name, totals) in self.overlay_totals() {
            assert_eq!(totals.unaccounted(), 0, "at {name}: {totals:?}");
            forwarded += totals.forwarded;
            planned += totals.planned;
        }
        assert!(
            forwarded <= planned,
            "{forwarded} frames were forwarded as {planned} copies"
        );
    }
}

fn assert_recorded(name: &str, counters: &Counters) {
    let totals = counters.totals();
    for &reason in DropReason::ALL {
        let recorded: u64 = counters
            .recorders()
            .map(|recorder| recorder.losses_for(reason))
            .sum();
        assert_eq!(
            recorded,
            totals.drops(reason),
            "{reason} at {name} in the flight recorder"
        );
    }
}
