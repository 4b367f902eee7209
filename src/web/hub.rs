//! What all browsers are told: one ring of events for all of them.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use axum::body::Bytes;
use serde::Serialize;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    Node,
    answers::Answers,
    json,
    node::{Events, Lines},
    ring::{Reader, Ring},
    steps::steps,
};
use crate::{
    bridge::DropReason,
    control::api::{
        ApiError, CaptureForm, CaptureFormat, CaptureLine, CaptureRequest, CapturedFrame, Event,
        FdbInfo, FdbSelector, PeerInfo, PortInfo, Request, Response, ShowInfo, StatsInfo,
        TraceStep, TrafficInfo,
    },
    names::Name,
    sys::clock,
};

/// Frames of a node that pages are shown in a second, at most.
pub const FRAMES: u32 = 100;

/// The nodes, and the ring that browsers read.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) nodes: Vec<Watched>,
    ring: Ring,
    /// How many browsers listen.
    listeners: watch::Sender<usize>,
    pub(super) places: Arc<Semaphore>,
}

/// A node, and what was told of it last.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) node: Node,
    pub(super) answers: Answers,
    last: Mutex<Last>,
    frames: AtomicU64,
}

#[derive(Debug, Default)]
struct Last {
    /// The event for whoever comes next: `state` or `gone`.
    event: Option<Bytes>,
    show: Option<Arc<ShowInfo>>,
}

/// Counted among the listeners for as long as it lives.
#[derive(Debug)]
pub(super) struct Listening(Arc<Hub>);

/// A node as lists have it.
#[derive(Debug, Serialize)]
pub(super) struct NodeInfo {
    name: String,
    /// The address of its VXLAN endpoint, if that is known already.
    local: Option<IpAddr>,
}

impl Hub {
    pub(super) fn new(nodes: Vec<Node>) -> Arc<Self> {
        let watched = |node| Watched {
            node,
            answers: Answers::default(),
            last: Mutex::default(),
            frames: AtomicU64::new(0),
        };
        Arc::new(Self {
            nodes: nodes.into_iter().map(watched).collect(),
            ring: Ring::new(),
            listeners: watch::Sender::new(0),
            places: Arc::new(Semaphore::new(MOST_LISTENERS)),
        })
    }

    /// Watches all nodes, as long as somebody listens and the value lives.
    pub(super) fn start(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for index in 0..self.nodes.len() {
            let hub = Arc::clone(self);
            tasks.spawn(async move { hub.attend(index).await });
        }
        tasks
    }

    /// Everything from now on.
    pub(super) fn listen(self: &Arc<Self>) -> (Reader, Listening) {
        // Counted first: what nobody reads is not kept.
        self.listeners.send_modify(|count| *count += 1);
        (self.ring.read(), Listening(Arc::clone(self)))
    }

    /// What has been told of the nodes and still holds.
    pub(super) fn last(&self) -> impl Iterator<Item = Bytes> {
        let told = |node: &Watched| node.last().event.clone();
        self.nodes.iter().filter_map(told)
    }

    /// Nobody is asked for it: the state of each node follows.
    pub(super) fn infos(&self) -> Vec<NodeInfo> {
        let info = |watched: &Watched| {
            let show = watched.last().show.clone();
            let vtep = show.as_ref().and_then(|show| show.vtep.as_ref());
            NodeInfo {
                name: watched.node.name().to_owned(),
                local: vtep.map(|vtep| vtep.spec.local),
            }
        };
        self.nodes.iter().map(info).collect()
    }

    async fn attend(&self, index: usize) {
        let Some(watched) = self.nodes.get(index) else {
            return;
        };
        let mut listeners = self.listeners.subscribe();
        loop {
            if listeners.wait_for(|count| *count > 0).await.is_err() {
                return;
            }
            let nobody = async {
                loop {
                    drop(listeners.wait_for(|count| *count == 0).await);
                    // A page that is loaded again is back in a moment.
                    sleep(GRACE).await;
                    if *listeners.borrow_and_update() == 0 {
                        return;
                    }
                }
            };
            tokio::select! {
                () = nobody => {}
                () = self.tell_state(watched) => {}
                () = self.tell_counters(watched) => {}
                () = self.tell_frames(watched) => {}
            }
            *watched.last() = Last::default();
        }
    }

    pub(super) fn send(&self, event: Bytes) {
        if *self.listeners.borrow() > 0 {
            self.ring.push(event);
        }
    }

    /// State, at the start and when it has changed, and what happens. Never ends.
    async fn tell_state(&self, watched: &Watched) {
        loop {
            let events = match watched.node.events().await {
                Ok(events) => events,
                Err(error) => {
                    self.tell_gone(watched, &error);
                    sleep(AGAIN).await;
                    continue;
                }
            };
            if let Err(error) = self.follow(watched, events).await {
                self.tell_gone(watched, &error);
            }
            sleep(AGAIN).await;
        }
    }

    /// Until the node is gone.
    async fn follow(&self, watched: &Watched, mut events: Events) -> Result<(), ApiError> {
        let name = watched.node.name();
        let mut next_state = Instant::now();
        let mut pause = PAUSE;
        let mut quota = Quota::default();
        loop {
            let happened = tokio::select! {
                () = sleep_until(next_state) => {
                    pause = match self.tell_state_now(watched).await? {
                        ..=ROWS => PAUSE,
                        _ => LONG_PAUSE,
                    };
                    next_state = Instant::now() + REFRESH;
                    quota.refill();
                    if let Some(count) = quota.take_lost() {
                        let event = Event::Lost { count };
                        self.send(event_text("event", &Told { node: name, value: event }));
                    }
                    continue;
                }
                event = events.next() => event,
            };
            let Some(event) = happened else {
                return Err(ApiError::failed(format!("watch node {name}: it has ended")));
            };
            if !matches!(event, Event::Drops { .. }) {
                next_state = next_state.min(Instant::now() + pause);
            }
            if quota.take() {
                self.send(event_text(
                    "event",
                    &Told {
                        node: name,
                        value: event,
                    },
                ));
            }
        }
    }

    /// Returns how many rows the FDBs have.
    async fn tell_state_now(&self, watched: &Watched) -> Result<usize, ApiError> {
        let node = &watched.node;
        let Response::Show(show) = node.ask(Request::Show).await? else {
            return Err(unexpected(node));
        };
        let mut fdb_total = show.bridges.iter().map(|bridge| bridge.fdb_entries).sum();
        let mut fdb = Vec::new();
        // Of a large one no row is read: that takes its locks and time of the switch.
        if fdb_total <= ROWS {
            let all = Request::FdbShow(FdbSelector::default());
            let Response::Fdb(rows) = node.ask(all).await? else {
                return Err(unexpected(node));
            };
            fdb = rows;
            fdb_total = fdb.len();
            fdb.truncate(ROWS);
        }
        let state = State {
            node: node.name(),
            show: &show,
            fdb,
            fdb_total,
        };
        let event = event_text("state", &state);
        *watched.last() = Last {
            event: Some(event.clone()),
            show: Some(Arc::new(show)),
        };
        self.send(event);
        Ok(fdb_total)
    }

    fn tell_gone(&self, watched: &Watched, error: &ApiError) {
        let gone = Gone {
            node: watched.node.name(),
            message: &error.message,
        };
        let event = event_text("gone", &gone);
        let last = Last {
            event: Some(event.clone()),
            show: None,
        };
        let before = std::mem::replace(&mut *watched.last(), last);
        if before.event != Some(event.clone()) {
            self.send(event);
        }
    }

    /// Counters, once a second. Never ends.
    async fn tell_counters(&self, watched: &Watched) {
        let mut ticks = interval(SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let _: Instant = ticks.tick().await;
            if let Ok(Response::Stats(stats)) = watched.node.ask(Request::Counters).await {
                let counters = Counters::new(watched.node.name(), &stats);
                self.send(event_text("stats", &counters));
            }
        }
    }

    /// Frames. Never ends.
    async fn tell_frames(&self, watched: &Watched) {
        let request = CaptureRequest {
            form: CaptureForm::Both,
            snaplen: SNAPLEN,
            rate: Some(FRAMES),
            bytes: true,
            format: CaptureFormat::Json,
            ..CaptureRequest::default()
        };
        loop {
            // What is wrong with the node is told with its state.
            if let Ok(lines) = watched.node.capture(request.clone()).await {
                self.pass_frames(watched, lines).await;
            }
            sleep(AGAIN).await;
        }
    }

    /// Until the capture ends.
    async fn pass_frames(&self, watched: &Watched, mut lines: Lines) {
        let mut batch = Batch::default();
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                () = sleep_until(batch.due.unwrap_or_else(Instant::now)), if batch.due.is_some() => {
                    self.send(event_text("frames", &batch.take(watched.node.name())));
                    continue;
                }
            };
            let Some(line) = line else { return };
            match serde_json::from_slice(&line) {
                Ok(CaptureLine::Frame(frame)) => {
                    let show = watched.last().show.clone();
                    let steps = steps(&frame, show.as_deref());
                    let id = watched.frames.fetch_add(1, Ordering::Relaxed);
                    batch.add(Frame { id, frame, steps });
                    if batch.frames.len() >= FULL {
                        self.send(event_text("frames", &batch.take(watched.node.name())));
                    }
                }
                Ok(CaptureLine::Skipped { count }) => batch.skip(count),
                Ok(CaptureLine::End { .. }) | Err(_) => {}
            }
        }
    }
}

impl Watched {
    fn last(&self) -> MutexGuard<'_, Last> {
        // Each change is one assignment.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listeners.send_modify(|count| {
            *count -= 1;
            if *count == 0 {
                self.0.ring.clear();
            }
        });
    }
}

/// `value` as an event of this name (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
pub(super) fn event_text(name: &str, value: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\ndata: ").into_bytes();
    text.append(&mut json::text(value));
    text.extend_from_slice(b"\n\n");
    text.into()
}

pub(super) fn unexpected(node: &Node) -> ApiError {
    let name = node.name();
    ApiError::failed(format!(
        "ask node {name}: it answers something else; it may be another version"
    ))
}

/// Frames that are told together.
#[derive(Debug, Default)]
struct Batch {
    frames: Vec<Frame>,
    skipped: u64,
    due: Option<Instant>,
}

impl Batch {
    fn add(&mut self, frame: Frame) {
        self.frames.push(frame);
        let soon = Instant::now() + BATCH;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    fn skip(&mut self, count: u64) {
        self.skipped += count;
        let later = Instant::now() + PAUSE;
        self.due = Some(self.due.unwrap_or(later));
    }

    fn take<'a>(&mut self, node: &'a str) -> Frames<'a> {
        let Self {
            frames, skipped, ..
        } = std::mem::take(self);
        Frames {
            node,
            skipped,
            frames,
        }
    }
}

/// How many events may still be told.
#[derive(Debug)]
struct Quota {
    left: u64,
    lost: u64,
    since: Instant,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            left: EVENTS,
            lost: 0,
            since: Instant::now(),
        }
    }
}

impl Quota {
    fn refill(&mut self) {
        if self.since.elapsed() >= SECOND {
            self.left = EVENTS;
            self.since = Instant::now();
        }
    }

    fn take(&mut self) -> bool {
        self.refill();
        let is_left = self.left > 0;
        if is_left {
            self.left -= 1;
        } else {
            self.lost += 1;
        }
        is_left
    }

    fn take_lost(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.lost)).filter(|&lost| lost > 0)
    }
}

#[derive(Serialize)]
struct Told<'a> {
    node: &'a str,
    #[serde(flatten)]
    value: Event,
}

#[derive(Serialize)]
struct Gone<'a> {
    node: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct State<'a> {
    node: &'a str,
    show: &'a ShowInfo,
    fdb: Vec<FdbInfo>,
    /// Rows of the FDBs. Those of more than [`ROWS`] are not told.
    fdb_total: usize,
}

#[derive(Serialize)]
struct Frames<'a> {
    node: &'a str,
    /// Frames that there were and that are not told.
    skipped: u64,
    frames: Vec<Frame>,
}

#[derive(Debug, Serialize)]
struct Frame {
    id: u64,
    #[serde(flatten)]
    frame: Box<CapturedFrame>,
    steps: Vec<TraceStep>,
}

/// The totals of a node.
#[derive(Serialize)]
struct Counters<'a> {
    node: &'a str,
    /// Seconds since 1970.
    at: f64,
    ports: Vec<PortCounters<'a>>,
    peers: Vec<PeerCounters<'a>>,
}

#[derive(Serialize)]
struct PortCounters<'a> {
    name: &'a Name,
    bridge: &'a Name,
    #[serde(flatten)]
    totals: Totals<'a>,
}

#[derive(Serialize)]
struct PeerCounters<'a> {
    bridge: &'a Name,
    remote: &'a str,
    #[serde(flatten)]
    totals: Totals<'a>,
}

#[derive(Serialize)]
struct Totals<'a> {
    rx_frames: u64,
    rx_bytes: u64,
    tx_frames: u64,
    tx_bytes: u64,
    drops: &'a std::collections::BTreeMap<String, u64>,
}

impl<'a> Counters<'a> {
    fn new(node: &'a str, stats: &'a StatsInfo) -> Self {
        let port = |port: &'a PortInfo| PortCounters {
            name: &port.name,
            bridge: &port.bridge,
            totals: totals(port.rx, port.tx, &port.drops),
        };
        let peer = |peer: &'a PeerInfo| PeerCounters {
            bridge: &peer.bridge,
            remote: &peer.remote,
            totals: totals(peer.rx, peer.tx, &peer.drops),
        };
        Self {
            node,
            at: clock::unix_time(),
            ports: stats.ports.iter().map(port).collect(),
            peers: stats.peers.iter().map(peer).collect(),
        }
    }
}

fn totals(
    rx: TrafficInfo,
    tx: TrafficInfo,
    drops: &std::collections::BTreeMap<String, u64>,
) -> Totals<'_> {
    Totals {
        rx_frames: rx.frames,
        rx_bytes: rx.bytes,
        tx_frames: tx.frames,
        tx_bytes: tx.bytes,
        drops,
    }
}

/// Why a frame is lost, by the key of the reason.
pub(super) fn explain(reason: &str) -> Option<&'static str> {
    let known = DropReason::ALL.iter();
    let known = known.copied().find(|known| known.name() == reason);
    known.map(DropReason::explain)
}

/// Browsers at a time.
const MOST_LISTENERS: usize = 16;
/// Bytes of a frame that are shown.
const SNAPLEN: u32 = 256;
/// Rows of FDBs that are told; of more, none is read.
const ROWS: usize = 2000;
/// Monitor events of a node in a second.
const EVENTS: u64 = 50;
/// Frames that are told together, at most: a flood to very many places takes several events.
const FULL: usize = 50;
/// For how long frames are collected.
const BATCH: Duration = Duration::from_millis(60);
/// Between two states.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two states of a node whose FDBs are large.
const LONG_PAUSE: Duration = Duration::from_secs(2);
/// A state is told again after so long, since not everything in it makes an event.
const REFRESH: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);
/// Before a node is asked again that did not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a node is watched after the last browser has gone.
const GRACE: Duration = Duration::from_secs(2);
