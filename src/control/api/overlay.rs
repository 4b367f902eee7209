//! The overlay's part of the API: the VXLAN endpoint, its peers, and probing them.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ApiError, TrafficInfo};
use crate::{
    config::{PeerAddr, VtepSpec},
    names::Name,
    wire::Vni,
};

/// The VXLAN endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VtepInfo {
    /// Its settings.
    #[serde(flatten)]
    pub spec: VtepSpec,
    /// The UDP ports that datagrams are sent from, by inner flow (RFC 7348 §5).
    pub source_ports: Vec<u16>,
    /// The offloads in force, in words.
    pub offloads: String,
    /// Whether its sockets are open.
    pub state: VtepState,
    /// Why it is not up, in words.
    pub reason: Option<String>,
    /// Datagrams that belong to no peer: those of peers are counted there.
    pub rx: TrafficInfo,
    /// Datagrams that belong to no peer and were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Those of `drops` that came in.
    #[serde(default)]
    pub drops_in: BTreeMap<String, u64>,
    /// Datagrams that the socket's receive buffer had no room for.
    pub socket_overflow: u64,
}

/// Whether the VXLAN endpoint moves datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VtepState {
    /// Its sockets are open.
    Up,
    /// They are not: its namespace or its address is gone.
    Down,
}

/// A remote VTEP of one VNI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The bridge.
    pub bridge: Name,
    /// The bridge's VNI.
    pub vni: Vni,
    /// Its underlay address, without the port.
    pub remote: String,
    /// Its UDP port.
    pub port: u16,
    /// How it came about.
    pub kind: PeerKind,
    /// The largest MTU inside the overlay whose packets fit the path to it.
    pub mtu: u32,
    /// The MTU of the path to it.
    pub path_mtu: u32,
    /// Whether frames reach it.
    pub state: PeerState,
    /// Why it is not up, in words.
    pub reason: Option<String>,
    /// From it into the switch.
    pub rx: TrafficInfo,
    /// From the switch to it.
    pub tx: TrafficInfo,
    /// Frames from it or to it that were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Those of `drops` that came from it; the others were on their way to it.
    #[serde(default)]
    pub drops_in: BTreeMap<String, u64>,
    /// Frames from it whose VXLAN header had reserved bits set, which lost them nothing.
    #[serde(default)]
    pub reserved_bits_ignored: u64,
    /// FDB entries that point to it.
    pub fdb_entries: usize,
}

/// How a peer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// It is in `peers`: it gets flooded frames.
    Listed,
    /// A static FDB entry names it; it gets no flooded frames.
    Static,
    /// A datagram came from it, under `accept = "any"`; it gets no flooded frames.
    Learned,
    /// A control plane told of it.
    Control,
}

/// Whether frames reach a peer, as far as this host can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// There is a route to it.
    Up,
    /// There is none.
    NoRoute,
    /// The VXLAN endpoint itself is down.
    Down,
}

/// Where the MTU of a bridge comes from: the path's, less what the overlay adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MtuChain {
    /// Whose MTU it starts with: `path to 192.168.50.20`, or `device u0`.
    pub from: String,
    /// That MTU.
    pub path_mtu: u32,
    /// What each layer takes, outermost first: `("outer IPv4", 20)`, `("UDP", 8)`, `("VXLAN", 8)`,
    /// `("inner Ethernet", 14)`.
    pub less: Vec<(String, u32)>,
    /// What is left.
    pub mtu: u32,
}

/// Asks whether a peer answers, and how large a frame gets there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// The bridge; may be left out where there is only one with a VNI.
    pub bridge: Option<Name>,
    /// The peer.
    pub remote: PeerAddr,
    /// How many probes.
    pub count: u32,
    /// Bytes of the whole inner frame, with its Ethernet header; `None`: as short as a probe can be.
    pub size: Option<u32>,
    /// Seconds from one probe to the next.
    pub interval_s: f64,
    /// How long the answer to a probe may take.
    pub timeout_s: f64,
    /// Find the largest size that gets there.
    pub sweep: bool,
}

impl PingRequest {
    /// Most probes of one request.
    pub const MAX_COUNT: u32 = 10_000;
    /// Shortest time between two probes, in seconds.
    pub const MIN_INTERVAL_S: f64 = 0.001;
    /// Longest time between two probes, and longest wait for an answer, in seconds.
    pub const MAX_WAIT_S: f64 = 60.0;

    /// The shortest time in which plain UDP is answered or is not.
    pub(crate) const SHORTEST_KNOCK: Duration = Duration::from_millis(350);
    /// Until so long after the last probe plain datagrams are sent, one after the other.
    pub(crate) const ICMP_LIMIT: Duration = Duration::from_millis(1020);
    /// Probes of one size of a sweep before it counts as lost.
    pub(crate) const SWEEP_TRIES: u32 = 2;
    /// Sizes that a sweep tries: what the path is believed to take, one more, and halves of what is
    /// left of 65,499.
    const SWEEP_SIZES: u32 = 2 + 16;

    /// Three probes, one second apart.
    pub fn new(remote: PeerAddr) -> Self {
        Self {
            bridge: None,
            remote,
            count: 3,
            size: None,
            interval_s: 1.0,
            timeout_s: 1.0,
            sweep: false,
        }
    }

    /// Holds the numbers against the bounds above.
    ///
    /// # Errors
    /// [`super::ErrorKind::Invalid`] for the first that is out of bounds.
    pub fn check(&self) -> Result<(), ApiError> {
        let Self {
            remote,
            count,
            interval_s,
            timeout_s,
            ..
        } = self;
        let problem = if !(1..=Self::MAX_COUNT).contains(count) {
            format!("count {count} is out of range 1..={}", Self::MAX_COUNT)
        } else if !(Self::MIN_INTERVAL_S..=Self::MAX_WAIT_S).contains(interval_s) {
            format!("interval {interval_s} s is out of range 1ms to 60s")
        } else if !(Self::MIN_INTERVAL_S..=Self::MAX_WAIT_S).contains(timeout_s) {
            format!("timeout {timeout_s} s is out of range 1ms to 60s")
        } else {
            return Ok(());
        };
        Err(ApiError::invalid(format!("ping peer {remote}: {problem}")))
    }

    /// The longest that it takes, if the numbers are within bounds: none of the probes is answered,
    /// nor any of the plain datagrams that then ask for the port; or the last one is, and a sweep
    /// loses all of its own. Only a sweep whose answers are late takes longer.
    pub fn longest(&self) -> Duration {
        let timeout = self.timeout_s;
        let before_last = f64::from(self.count.saturating_sub(1)) * self.interval_s.max(timeout);
        let patience = timeout.max(Self::SHORTEST_KNOCK.as_secs_f64());
        let waits = ((Self::ICMP_LIMIT.as_secs_f64() - timeout) / patience).ceil();
        let knocks = (1.0 + waits.max(0.0)) * patience;
        let after_last = match self.sweep {
            true => knocks.max(f64::from(Self::SWEEP_TRIES * Self::SWEEP_SIZES) * timeout),
            false => knocks,
        };
        let seconds = before_last + timeout + after_last;
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

/// What came of a [`PingRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingReport {
    /// The bridge.
    pub bridge: Name,
    /// Its VNI.
    pub vni: Vni,
    /// The peer's underlay address, without the port.
    pub remote: String,
    /// Its UDP port.
    pub port: u16,
    /// Probes sent.
    pub sent: u32,
    /// Probes answered in time.
    pub received: u32,
    /// Bytes of the whole inner frame of a probe.
    pub size: u32,
    /// Shortest round trip in seconds; null if nothing came back.
    pub rtt_min_s: Option<f64>,
    /// Mean round trip in seconds.
    pub rtt_avg_s: Option<f64>,
    /// Longest round trip in seconds.
    pub rtt_max_s: Option<f64>,
    /// One for each probe, in the order in which they were sent.
    pub replies: Vec<PingReply>,
    /// The largest inner frame that came back, in bytes; after a sweep only.
    pub largest: Option<u32>,
    /// The smallest inner frame that was lost, in bytes; after a sweep only.
    pub smallest_lost: Option<u32>,
    /// What it means, in one sentence for people.
    pub verdict: String,
    /// What is known of the peer's UDP port: `answers on 4789`, `port 4789 closed (ICMP port
    /// unreachable)`, `host answers UDP, 4789 silent`, `unreachable: ...` or `unknown`.
    pub udp: String,
}

/// What came of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingReply {
    /// Its number; the first is 1.
    pub sequence: u32,
    /// Bytes of its whole inner frame.
    pub size: u32,
    /// The round trip in seconds; null if it was not answered in time.
    pub rtt_s: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_that_a_ping_takes_is_that_of_one_that_nobody_answers() {
        let ping = |interval_s, timeout_s, sweep| PingRequest {
            interval_s,
            timeout_s,
            sweep,
            ..PingRequest::new("192.0.2.1".parse().unwrap())
        };
        for (interval, timeout, sweep, seconds) in [
            (1.0, 1.0, false, 3.0 + 2.0),
            // Each probe waits for its answer, whatever the interval is.
            (1.0, 6.0, false, 3.0 * 6.0 + 6.0),
            (6.0, 1.0, false, 2.0 * 6.0 + 1.0 + 2.0),
            // Plain UDP gets more time than a short timeout.
            (1.0, 0.02, false, 2.0 + 0.02 + 4.0 * 0.35),
            (1.0, 1.0, true, 3.0 + 36.0),
            (1.0, 0.001, true, 2.0 + 0.001 + 4.0 * 0.35),
        ] {
            let longest = ping(interval, timeout, sweep).longest().as_secs_f64();
            let what = format!("{interval} {timeout} {sweep}: {longest}");
            assert!((longest - seconds).abs() < 1e-6, "{what}");
        }
    }

    #[test]
    fn a_ping_is_bounded_whoever_asks() {
        let ping = PingRequest::new("192.0.2.1".parse().unwrap());
        assert!(ping.check().is_ok());
        type Damage = fn(&mut PingRequest);
        let damages: [(&str, Damage); 6] = [
            ("count 0", |ping| ping.count = 0),
            ("count 10001", |ping| ping.count = 10_001),
            ("interval 0 s", |ping| ping.interval_s = 0.0),
            ("interval NaN s", |ping| ping.interval_s = f64::NAN),
            ("timeout 61 s", |ping| ping.timeout_s = 61.0),
            ("timeout -1 s", |ping| ping.timeout_s = -1.0),
        ];
        for (cause, damage) in damages {
            let mut ping = ping.clone();
            damage(&mut ping);
            let error = ping.check().unwrap_err();
            let start = format!("ping peer 192.0.2.1: {cause} is out of range");
            assert!(error.message.starts_with(&start), "{error}");
        }
    }
}
