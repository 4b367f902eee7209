//! Losses, told once a second to those who watch: counters that go up are easily overlooked.

use std::{collections::HashMap, sync::Arc};

use super::{events::Losing, report::TAP_QUEUE, state::State, switch::Inner};
use crate::{
    bridge::{DropReason, PortId},
    datapath::{Counters, Totals},
};

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// By the address of the counters, which cannot be another's while they are held here.
    counted: HashMap<usize, (Arc<Counters>, Totals)>,
    /// Frames that were lost in the queue of a port's TAP.
    queued: HashMap<PortId, u64>,
    /// News that workers could not tell.
    untold: u64,
}

impl Losses {
    /// Tells of what was lost since the last time. Without holding the workers: what they count
    /// meanwhile is told the next time.
    pub(super) fn tell(&mut self, inner: &Inner, state: &State) {
        let before = std::mem::take(&mut self.counted);
        let queued = std::mem::take(&mut self.queued);
        for port in &state.ports {
            let place = Losing {
                bridge: Some(&port.spec.bridge),
                port: Some(&port.spec.name),
                remote: None,
            };
            self.tell_of(inner, place, &port.counters, &before);
            // A port that was plugged in anew counts from zero.
            let told = queued.get(&port.id).copied().unwrap_or(0);
            let told = if told > port.queue_drops { 0 } else { told };
            if port.queue_drops > told {
                let count = port.queue_drops - told;
                inner.events.drops(place, RECEIVE, TAP_QUEUE, count);
            }
            self.queued.insert(port.id, port.queue_drops);
        }
        for peer in &state.peers {
            let remote = state.remote_name(peer);
            let place = Losing {
                bridge: Some(&peer.bridge),
                port: None,
                remote: Some(&remote),
            };
            self.tell_of(inner, place, &peer.counters, &before);
        }
        if let Some(vtep) = &state.vtep {
            self.tell_of(inner, Losing::default(), &vtep.counters, &before);
        }
        let untold = inner.events.history.lost_news();
        let missing = untold - std::mem::replace(&mut self.untold, untold);
        if missing > 0 {
            inner.events.lost(missing);
        }
    }

    fn tell_of(
        &mut self,
        inner: &Inner,
        place: Losing<'_>,
        counters: &Arc<Counters>,
        before: &HashMap<usize, (Arc<Counters>, Totals)>,
    ) {
        let address = Arc::as_ptr(counters).addr();
        let now = counters.totals();
        let old = before.get(&address).map(|(_, totals)| *totals);
        let old = old.unwrap_or_default();
        for reason in DropReason::ALL {
            let index = reason.index();
            let directions = [
                (RECEIVE, now.ingress_drops[index] - old.ingress_drops[index]),
                (TRANSMIT, now.egress_drops[index] - old.egress_drops[index]),
            ];
            for (direction, count) in directions.into_iter().filter(|(_, count)| *count > 0) {
                inner.events.drops(place, direction, reason.name(), count);
            }
        }
        self.counted.insert(address, (Arc::clone(counters), now));
    }
}

const RECEIVE: &str = "receive";
const TRANSMIT: &str = "transmit";
