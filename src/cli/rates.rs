//! What changed between two looks at the counters. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::control::api::{PeerInfo, PortInfo, StatsInfo, TrafficInfo, WorkerInfo};

/// Rates of everything, each list in the order of the later look.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    /// Between the two looks; `None`: there was no earlier one, and all rates are zero.
    pub(super) seconds: Option<f64>,
    pub(super) ports: Vec<Flow>,
    pub(super) peers: Vec<Flow>,
    /// Datagrams that are no peer's.
    pub(super) strays: Flow,
    /// The share of a CPU that each worker used.
    pub(super) loads: Vec<f64>,
}

/// What went in and out of one place, and what was lost there.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    /// Into the switch, a second.
    pub(super) rx: Rate,
    /// Out of the switch, a second.
    pub(super) tx: Rate,
    /// Since the earlier look, those that were lost at all.
    pub(super) drops: BTreeMap<String, u64>,
    /// All of `drops`, a second.
    pub(super) drop_rate: f64,
}

/// A second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) frames: f64,
    pub(super) bits: f64,
}

impl Rates {
    /// From `old` to `new`.
    pub(super) fn between(old: Option<&StatsInfo>, new: &StatsInfo) -> Self {
        // A daemon that was started again counts from zero: nothing to compare with.
        let old = old.filter(|old| old.started == new.started && old.uptime_s < new.uptime_s);
        let Some(old) = old else {
            return Self {
                ports: vec![Flow::default(); new.ports.len()],
                peers: vec![Flow::default(); new.peers.len()],
                loads: vec![0.0; new.workers.len()],
                ..Self::default()
            };
        };
        let seconds = new.uptime_s - old.uptime_s;
        let ports: HashMap<_, _> = old.ports.iter().map(|port| (&port.name, port)).collect();
        let key = |peer: &PeerInfo| (peer.bridge.clone(), peer.remote.clone());
        let peers: HashMap<_, _> = old.peers.iter().map(|peer| (key(peer), peer)).collect();
        let flow_of_port = |port: &PortInfo| {
            let old = ports
                .get(&port.name)
                .map(|old| (old.rx, old.tx, &old.drops));
            Flow::between(old, (port.rx, port.tx, &port.drops), seconds)
        };
        let flow_of_peer = |peer: &PeerInfo| {
            let old = peers
                .get(&key(peer))
                .map(|old| (old.rx, old.tx, &old.drops));
            Flow::between(old, (peer.rx, peer.tx, &peer.drops), seconds)
        };
        let strays = new.vtep.as_ref().map(|vtep| {
            let none = TrafficInfo::default();
            let old = old.vtep.as_ref().map(|old| (old.rx, none, &old.drops));
            Flow::between(old, (vtep.rx, none, &vtep.drops), seconds)
        });
        let load = |(index, worker): (usize, &WorkerInfo)| {
            let before = old.workers.get(index).map_or(0.0, |worker| worker.cpu_s);
            ((worker.cpu_s - before) / seconds).max(0.0)
        };
        Self {
            seconds: Some(seconds),
            ports: new.ports.iter().map(flow_of_port).collect(),
            peers: new.peers.iter().map(flow_of_peer).collect(),
            strays: strays.unwrap_or_default(),
            loads: new.workers.iter().enumerate().map(load).collect(),
        }
    }
}

type Counted<'a> = (TrafficInfo, TrafficInfo, &'a BTreeMap<String, u64>);

impl Flow {
    fn between(old: Option<Counted<'_>>, new: Counted<'_>, seconds: f64) -> Self {
        // A place of that name that was deleted and added again counts from zero.
        let old = old.filter(|old| old.0.frames <= new.0.frames && old.1.frames <= new.1.frames);
        let rate = |old: Option<TrafficInfo>, new: TrafficInfo| {
            let old = old.unwrap_or_default();
            Rate {
                frames: a_second(new.frames.saturating_sub(old.frames), seconds),
                bits: 8.0 * a_second(new.bytes.saturating_sub(old.bytes), seconds),
            }
        };
        let change = |(reason, count): (&String, &u64)| {
            let before = old.and_then(|old| old.2.get(reason)).copied().unwrap_or(0);
            let change = count.saturating_sub(before);
            (change > 0).then(|| (reason.clone(), change))
        };
        let drops: BTreeMap<String, u64> = new.2.iter().filter_map(change).collect();
        Self {
            rx: rate(old.map(|old| old.0), new.0),
            tx: rate(old.map(|old| old.1), new.1),
            drop_rate: a_second(drops.values().sum(), seconds),
            drops,
        }
    }

    /// The reason that cost most.
    pub(super) fn top_reason(&self) -> Option<&str> {
        let most = self.drops.iter().max_by_key(|&(_, count)| count)?;
        Some(most.0)
    }

    /// Bits a second, both ways.
    pub(super) fn bits(&self) -> f64 {
        self.rx.bits + self.tx.bits
    }

    /// Frames a second, both ways.
    pub(super) fn frames(&self) -> f64 {
        self.rx.frames + self.tx.frames
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is for people, and 53 bits are more than they read"
)]
fn a_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// A number with at most three digits before and after the point, and `k`, `M`, `G` or `T`.
pub(super) fn scaled(value: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let (mut value, mut unit) = (value, 0);
    // What would be written as 1000 is 1.00 of the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 && (value == 0.0 || value >= 9.95) => 0,
        value if value < 9.995 && unit > 0 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// `59s`, `12m30s`, `3h05m`, `4d07h`.
pub(super) fn age(seconds: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let seconds = seconds.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (9.96, "10"),
            (12.0, "12"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (9_996.0, "10.0k"),
            (12_345.0, "12.3k"),
            (99_960.0, "100k"),
            (999_499.0, "999k"),
            (999_600.0, "1.00M"),
            (17_600_000_000.0, "17.6G"),
        ] {
            assert_eq!(scaled(value), text, "{value}");
        }
    }

    #[test]
    fn ages_have_two_units() {
        let ages = [59.9, 60.0, 3599.0, 3661.0, 90_000.0].map(age);
        assert_eq!(ages, ["59s", "1m00s", "59m59s", "1h01m", "1d01h"]);
    }

    fn traffic(frames: u64, bytes: u64) -> TrafficInfo {
        TrafficInfo { frames, bytes }
    }

    #[test]
    fn a_flow_is_what_changed_in_a_second() {
        let before = BTreeMap::from([("too_big".to_owned(), 4)]);
        let after = BTreeMap::from([("too_big".to_owned(), 10), ("locked".to_owned(), 2)]);
        let old = (traffic(10, 1000), traffic(5, 500), &before);
        let new = (traffic(30, 3000), traffic(5, 500), &after);

        let flow = Flow::between(Some(old), new, 2.0);

        assert_eq!(
            flow.rx,
            Rate {
                frames: 10.0,
                bits: 8000.0
            }
        );
        assert_eq!(flow.tx, Rate::default());
        assert_eq!(flow.top_reason(), Some("too_big"));
        assert_eq!(flow.drop_rate, 4.0);
    }

    #[test]
    fn a_place_that_was_made_anew_counts_from_zero() {
        let none = BTreeMap::new();
        let old = (traffic(1000, 100_000), traffic(0, 0), &none);
        let new = (traffic(10, 1000), traffic(0, 0), &none);

        let flow = Flow::between(Some(old), new, 1.0);

        assert_eq!(
            flow.rx,
            Rate {
                frames: 10.0,
                bits: 8000.0
            }
        );
    }
}
