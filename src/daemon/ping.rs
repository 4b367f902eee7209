//! `peer ping`: does a remote VTEP answer, how fast, and how large a frame gets there.
//!
//! Probes are real VXLAN datagrams on the data path, in the VNI of the bridge. Another tapswitch
//! answers them; for other VTEPs they are frames to a reserved address, which no bridge relays.
//! Where nothing comes back, plain datagrams tell whether the host, or only the port, is silent.

use std::{
    cell::Cell,
    collections::HashMap,
    io::IoSlice,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use super::{
    knock::Probed,
    overlay::PeerState,
    state::State,
    switch::Inner,
    underlay::{UdpAnswer, Underlay},
};
use crate::{
    control::api::{ApiError, PingReply, PingReport, PingRequest},
    datapath::{Departed, Departure, PathMtu, Pinged, UnderlayIo},
    doctor::PeerFacts,
    names::Name,
    time::Timestamp,
    vxlan::{
        self,
        ping::{self, Kind, Probe},
    },
    wire::{MacAddr, Vni},
};

/// Who waits for which answers.
#[derive(Debug, Default)]
pub(super) struct PingBoard(Mutex<HashMap<u64, Sender<Pinged>>>);

impl PingBoard {
    /// Gives an answer to who waits for it.
    pub(super) fn hand_over(&self, pinged: Pinged) {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = board.get(&pinged.probe.token) {
            // It may have stopped waiting.
            let _ = waiting.send(pinged);
        }
    }

    fn wait_for(&self, token: u64) -> Receiver<Pinged> {
        let (sender, receiver) = channel();
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.insert(token, sender);
        receiver
    }

    /// How many wait.
    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn forget(&self, token: u64) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.remove(&token);
    }
}

/// A ping that is about to run, without the switch's lock.
#[derive(Debug)]
pub(super) struct Ping {
    request: PingRequest,
    bridge: Name,
    vni: Vni,
    to: SocketAddr,
    path: Arc<PathMtu>,
    src: MacAddr,
}

impl Inner {
    pub(super) fn prepare_ping(
        &self,
        state: &State,
        request: PingRequest,
    ) -> Result<Ping, ApiError> {
        request.check()?;
        let remote = request.remote;
        let operation = format!("ping peer {remote}");
        let bridge = state.overlay_bridge(&operation, request.bridge.as_ref())?;
        let name = bridge.spec.name.clone();
        let is_it = |peer: &&PeerState| {
            peer.bridge == name
                && peer.to.ip() == remote.ip
                && remote.port.is_none_or(|port| port == peer.to.port())
        };
        let Some(peer) = state.peers.iter().find(is_it) else {
            return Err(ApiError::not_found(format!(
                "{operation}: bridge {name} has no such peer; add it: tapswitch peer add {remote} --bridge {name}"
            )));
        };
        if state.underlay().is_none() {
            return Err(ApiError::failed(format!(
                "{operation}: the VXLAN endpoint is down; see why: tapswitch vtep show"
            )));
        }
        Ok(Ping {
            request,
            bridge: name,
            vni: peer.vni,
            to: peer.to,
            path: Arc::clone(&peer.path),
            src: MacAddr::derived(&[&self.name, "peer ping"]),
        })
    }
}

impl Ping {
    pub(super) fn run(self, inner: &Inner) -> Result<PingReport, ApiError> {
        // Whoever asked may have gone, and each has a thread and a socket.
        if inner.pings.count() >= MOST_AT_ONCE {
            let to = self.to.ip();
            return Err(ApiError::failed(format!(
                "ping peer {to}: {MOST_AT_ONCE} others run; wait until they have ended"
            )));
        }
        self.with(inner, |run| run.run())
    }

    /// The round trip of a short probe, and whether one that just fits the path, of so many bytes,
    /// comes back too. Waits for each of both twice at most.
    pub(super) fn short_and_long(
        &self,
        inner: &Inner,
        timeout: Duration,
    ) -> (Option<Duration>, Option<(u32, bool)>) {
        let least = u32::try_from(ping::MIN_LEN).unwrap_or(u32::MAX);
        let long = self.max_frame().clamp(least, MOST_SIZE);
        self.with(inner, |run| {
            let ask = |first: u32, size| {
                (first..first + SWEEP_TRIES).find_map(|sequence| {
                    let sent_at = inner.clock.now();
                    let sent = run.send(sequence, size);
                    let answer = sent.then(|| run.await_answer(sequence, sent_at, timeout));
                    answer.flatten()
                })
            };
            let short = ask(1, least);
            let fate = short.map(|_| (long, ask(1 + SWEEP_TRIES, long).is_some()));
            (short, fate)
        })
    }

    fn with<T>(&self, inner: &Inner, f: impl FnOnce(&Run<'_>) -> T) -> T {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Answers to an earlier process at this address are not for this one.
        let started = inner.clock.now().as_nanos() << 20;
        let token = started ^ NEXT.fetch_add(1, Ordering::Relaxed);
        let answers = inner.pings.wait_for(token);
        let run = Run {
            ping: self,
            inner,
            token,
            answers,
            longest: Cell::new(0),
        };
        let result = f(&run);
        inner.pings.forget(token);
        result
    }

    /// The longest inner frame that the path takes.
    fn max_frame(&self) -> u32 {
        let outer = vxlan::encap_len(self.to.is_ipv6());
        self.path.get().saturating_sub(outer)
    }
}

struct Run<'a> {
    ping: &'a Ping,
    inner: &'a Inner,
    token: u64,
    answers: Receiver<Pinged>,
    /// Bytes of the longest frame that has come back, in time or late.
    longest: Cell<u32>,
}

impl Run<'_> {
    fn run(&self) -> Result<PingReport, ApiError> {
        let request = &self.ping.request;
        let size = self.size()?;
        let timeout = seconds(request.timeout_s);
        let mut probed = None;
        let mut replies: Vec<PingReply> = Vec::new();
        for sequence in 1..=request.count {
            // What was refused long ago says nothing of now.
            if sequence == request.count && replies.iter().all(|reply| reply.rtt_s.is_none()) {
                probed = Some(self.inner.before_probes(self.ping.to));
            }
            let sent_at = self.inner.clock.now();
            let sent = self.send(sequence, size);
            let rtt = sent
                .then(|| self.await_answer(sequence, sent_at, timeout))
                .flatten();
            replies.push(PingReply {
                sequence,
                size,
                rtt_s: rtt.map(|rtt| rtt.as_secs_f64()),
            });
            let rest =
                seconds(request.interval_s).saturating_sub(self.inner.clock.now().since(sent_at));
            if sequence < request.count && !rest.is_zero() {
                std::thread::sleep(rest);
            }
        }
        let rtts: Vec<f64> = replies.iter().filter_map(|reply| reply.rtt_s).collect();
        let received = u32::try_from(rtts.len()).unwrap_or(u32::MAX);
        let probed = probed.filter(|_| received == 0);
        let (largest, smallest_lost) = if request.sweep && received > 0 {
            self.sweep(size, timeout)
        } else {
            (None, None)
        };
        let udp = match probed {
            None => format!("answers on {}", self.ping.to.port()),
            Some(probed) => self.plain_udp(probed, timeout),
        };
        let sum: f64 = rtts.iter().sum();
        Ok(PingReport {
            bridge: self.ping.bridge.clone(),
            vni: self.ping.vni,
            remote: self.ping.to.ip().to_string(),
            port: self.ping.to.port(),
            sent: request.count,
            received,
            size,
            rtt_min_s: rtts.iter().copied().reduce(f64::min),
            rtt_avg_s: (received > 0).then(|| sum / f64::from(received)),
            rtt_max_s: rtts.iter().copied().reduce(f64::max),
            verdict: self.verdict(received, size, largest, &udp),
            replies,
            largest,
            smallest_lost,
            udp,
        })
    }

    /// Bytes of the inner frame of each probe.
    fn size(&self) -> Result<u32, ApiError> {
        let least = u32::try_from(ping::MIN_LEN).unwrap_or(u32::MAX);
        let size = self.ping.request.size.unwrap_or(least);
        if !(least..=MOST_SIZE).contains(&size) {
            return Err(ApiError::invalid(format!(
                "ping peer {}: size {size} is out of range {least}..={MOST_SIZE}",
                self.ping.request.remote
            )));
        }
        Ok(size)
    }

    /// The endpoint as it is now. It is not held: it may be closed, and its port wanted again, at any
    /// moment.
    fn underlay(&self) -> Option<Arc<Underlay>> {
        self.inner.state().underlay().cloned()
    }

    /// False if the probe did not even leave.
    fn send(&self, sequence: u32, size: u32) -> bool {
        let probe = Probe {
            src: self.ping.src,
            kind: Kind::Request,
            token: self.token,
            sequence,
        };
        let header = vxlan::header(self.ping.vni);
        let mut frame = Vec::new();
        ping::encode(&probe, usize::try_from(size).unwrap_or(0), &mut frame);
        let departure = Departure {
            to: self.ping.to,
            flow: sequence,
            tos: 0,
            segment: None,
        };
        let parts = [IoSlice::new(&header), IoSlice::new(&frame)];
        let underlay = self.underlay();
        underlay.is_some_and(|underlay| underlay.transmit(&departure, &parts) == Departed::Sent)
    }

    fn await_answer(&self, sequence: u32, sent: Timestamp, timeout: Duration) -> Option<Duration> {
        loop {
            // Also with no time left: an answer that came in time may have waited for this thread.
            let rest = timeout.saturating_sub(self.inner.clock.now().since(sent));
            let pinged = self.answers.recv_timeout(rest).ok()?;
            let len = u32::try_from(pinged.len).unwrap_or(u32::MAX);
            self.longest.set(self.longest.get().max(len));
            if pinged.probe.sequence == sequence {
                let rtt = pinged.at.since(sent);
                return (rtt <= timeout).then_some(rtt);
            }
        }
    }

    /// The largest size that comes back and the smallest that does not, by halving.
    fn sweep(&self, least: u32, timeout: Duration) -> (Option<u32>, Option<u32>) {
        let (mut passes, mut lost) = (least, None);
        let mut sequence = self.ping.request.count;
        let mut comes_back = |size: u32| {
            // One loss may be an accident.
            let tries = if size > MOST_SIZE { 0 } else { SWEEP_TRIES };
            (0..tries).any(|_| {
                sequence += 1;
                let sent_at = self.inner.clock.now();
                self.send(sequence, size) && self.await_answer(sequence, sent_at, timeout).is_some()
            })
        };
        // What the kernel believes of the path is mostly the answer.
        let believed = self.ping.max_frame().clamp(least, MOST_SIZE);
        if comes_back(believed) {
            passes = believed;
            if comes_back(believed + 1) {
                passes = believed + 1;
            } else {
                return (Some(passes), Some(believed + 1));
            }
        } else {
            lost = Some(believed);
        }
        let mut high = lost.unwrap_or(MOST_SIZE + 1);
        loop {
            // An answer that is late is one all the same.
            passes = passes.max(self.longest.get());
            if passes >= high {
                (high, lost) = (MOST_SIZE + 1, None);
            }
            if high - passes <= 1 {
                return (Some(passes), lost);
            }
            let middle = passes + (high - passes) / 2;
            if comes_back(middle) {
                passes = middle;
            } else {
                (high, lost) = (middle, Some(middle));
            }
        }
    }

    /// What plain datagrams tell about a VTEP that answers no probe.
    fn plain_udp(&self, probed: Probed, timeout: Duration) -> String {
        let port = self.ping.to.port();
        let patience = timeout.max(PingRequest::SHORTEST_KNOCK);
        let knocked = self.inner.knock(probed, patience, timeout);
        match &knocked.port {
            UdpAnswer::Refused => format!("port {port} closed (ICMP port unreachable)"),
            UdpAnswer::Answered => format!("answers on {port}"),
            UdpAnswer::Unreachable(why) => format!("unreachable: {why}"),
            UdpAnswer::Silent if knocked.is_answering() => {
                format!("host answers UDP, {port} silent")
            }
            UdpAnswer::Silent => match knocked.closed {
                Some(UdpAnswer::Unreachable(why)) => format!("unreachable: {why}"),
                _ => "unknown".to_owned(),
            },
        }
    }

    /// How long ago the last frame came from it, if that was just now.
    fn heard(&self) -> Option<Duration> {
        let state = self.inner.state();
        let is_it = |peer: &&PeerState| peer.bridge == self.ping.bridge && peer.to == self.ping.to;
        let last = state.peers.iter().find(is_it)?.last_heard()?;
        let age = self.inner.clock.now().since(last);
        (age <= PeerFacts::LATELY).then_some(age)
    }

    fn verdict(&self, received: u32, size: u32, largest: Option<u32>, udp: &str) -> String {
        let Ping { to, vni, .. } = self.ping;
        let (ip, port) = (to.ip(), to.port());
        if received > 0 {
            let largest = largest.map(|largest| {
                format!(
                    "; frames of up to {largest} bytes get there and back, an MTU of {}",
                    largest.saturating_sub(14)
                )
            });
            return format!(
                "{ip} is a tapswitch that has VNI {vni} and lists this host{}",
                largest.unwrap_or_default()
            );
        }
        if size > self.ping.max_frame() {
            return format!(
                "frames of {size} bytes do not fit the path to {ip}, which takes {}",
                self.ping.max_frame()
            );
        }
        if udp.starts_with("port") {
            return format!(
                "UDP gets to {ip}, but nothing listens on port {port}: no VTEP runs there, or on another port"
            );
        }
        let is_silent = udp.starts_with("host") || udp == "unknown";
        if is_silent && let Some(age) = self.heard() {
            return format!(
                "VXLAN comes from {ip}, the last frame {:.1} s ago; it answers no probes: a VTEP that is \
                 no tapswitch, or a filter on the way there",
                age.as_secs_f64()
            );
        }
        if udp.starts_with("host") {
            return format!(
                "UDP gets to {ip}, VXLAN does not come back: a filter on port {port}, a VTEP that is no \
                 tapswitch, one without VNI {vni}, or one that does not list this host"
            );
        }
        if let Some(why) = udp.strip_prefix("unreachable: ") {
            return format!("there is no way to {ip}: {why}");
        }
        format!(
            "{ip} is silent: it is down, drops all UDP of this host, or is a VTEP that is no tapswitch \
             behind a filter"
        )
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The longest probe.
#[expect(clippy::cast_possible_truncation, reason = "it is less than 65536")]
const MOST_SIZE: u32 = ping::MAX_LEN as u32;
/// Probes of one size before it counts as lost.
const SWEEP_TRIES: u32 = PingRequest::SWEEP_TRIES;
/// Pings that may run at once.
const MOST_AT_ONCE: usize = 16;
