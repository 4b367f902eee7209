//! Captures: from a request to a stream of bytes.
//!
//! Workers copy what matches into memory that is passed to and fro (`datapath::capture`); a thread
//! for each capture puts names to numbers, writes blocks or lines, and hands them to the server. The
//! daemon writes no file: whoever asked reads the stream, with the rights that they have. A stream
//! that is not read costs frames of the capture, and nothing else.

mod encode;

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use self::encode::Encoder;
use super::{
    state::State,
    switch::{Inner, Switch},
};
use crate::{
    bridge::{PeerId, PortId},
    control::{
        Capturing,
        api::{ApiError, CaptureForm, CaptureRequest, CaptureSide, Response},
    },
    datapath::capture::{
        Capture, CaptureReader, CaptureRules, Form, Installed, Next, Place, Selection,
    },
    sys::clock,
    vxlan,
};

/// A capture that runs.
#[derive(Debug)]
pub(super) struct CaptureState {
    request: CaptureRequest,
    capture: Arc<Capture>,
}

impl State {
    /// The captures, and where each looks now.
    pub(super) fn captures(&self) -> Vec<Installed> {
        let installed = self.captures.iter().map(|state| Installed {
            capture: Arc::clone(&state.capture),
            selection: Arc::new(self.selection(&state.request)),
        });
        installed.collect()
    }

    fn selection(&self, request: &CaptureRequest) -> Selection {
        let is_all = request.is_everywhere();
        let ports = self.ports.iter().filter(|port| {
            is_all
                || request.ports.contains(&port.spec.name)
                || request.bridges.contains(&port.spec.bridge)
        });
        let peers = self.peers.iter().filter(|peer| {
            is_all
                || request.peers.contains(&peer.to.ip())
                || request.bridges.contains(&peer.bridge)
        });
        let ports: Vec<PortId> = ports.map(|port| port.id).collect();
        let peers: Vec<PeerId> = peers.map(|peer| peer.id).collect();
        Selection::new(ports, peers, is_all && self.vtep.is_some())
    }

    fn check_capture(&self, request: &CaptureRequest) -> Result<(), ApiError> {
        for port in &request.ports {
            self.known_port("capture", port)?;
        }
        for bridge in &request.bridges {
            self.known_bridge("capture", bridge)?;
        }
        for ip in &request.peers {
            if !self.peers.iter().any(|peer| peer.to.ip() == *ip) {
                return Err(ApiError::not_found(format!(
                    "capture: no peer {ip}; see tapswitch peer show"
                )));
            }
        }
        if request.form == CaptureForm::Outer && !request.ports.is_empty() {
            return Err(ApiError::invalid(
                "capture: at a port there are no datagrams; leave --port out, or capture frames \
                 too: --inner --outer",
            ));
        }
        if self.captures.len() >= MOST {
            return Err(ApiError::failed(format!(
                "capture: {MOST} captures run already; see who reads them: pgrep -af 'tapswitch \
                 capture'; end one of them with Ctrl-C, or twice that if nobody takes its output"
            )));
        }
        Ok(())
    }
}

impl Switch {
    /// Starts a capture. It ends when its reader is dropped, when it has captured what was asked
    /// for, or on [`Request::CaptureStop`](crate::control::api::Request::CaptureStop).
    ///
    /// # Errors
    /// An [`ApiError`]; nothing is captured then.
    pub fn capture(&self, request: CaptureRequest) -> Result<Capturing, ApiError> {
        self.inner().start_capture(request)
    }
}

impl Inner {
    fn start_capture(self: &Arc<Self>, request: CaptureRequest) -> Result<Capturing, ApiError> {
        let filter = request.check()?;
        let mut state = self.state();
        state.check_capture(&request)?;
        let port = state.vtep.as_ref().map(|vtep| vtep.spec.port);
        let rules = CaptureRules {
            filter: filter.with_vxlan_port(port.unwrap_or(vxlan::PORT)),
            drops_only: request.drops,
            ingress: request.side != CaptureSide::Out,
            egress: request.side != CaptureSide::In,
            inner: request.form != CaptureForm::Outer,
            outer: request.form != CaptureForm::Inner,
            snaplen: usize::try_from(request.snaplen).unwrap_or(usize::MAX),
            rate: request.rate,
        };
        state.last_capture += 1;
        let id = state.last_capture;
        let (sender, pieces) = mpsc::channel(PIECES);
        let places = state.selection(&request).places(&rules);
        let encoder = Encoder::new(&request, Arc::clone(&self.events), self.wall_offset());
        let (capture, reader) = Capture::new(id, rules, self.workers.len());
        let job = Job {
            inner: Arc::downgrade(self),
            id,
            reader,
            sender,
            left: request.count.unwrap_or(u64::MAX),
            encoder,
            places,
            is_ending: false,
        };
        state.captures.push(CaptureState { request, capture });
        // In force before the first byte of the answer.
        self.publish(&state);
        if let Err(error) = job.start() {
            drop(self.stop_capture(&mut state, id));
            let text = format!("capture: start a thread: {error}; see ulimit -u");
            return Err(ApiError::failed(text));
        }
        Ok(Capturing { id, pieces })
    }

    /// Ends a capture, whether anybody reads it or not. Its stream still has all that was captured
    /// until now, and the end.
    pub(super) fn stop_capture(&self, state: &mut State, id: u64) -> Result<Response, ApiError> {
        let Some(at) = state.captures.iter().position(|one| one.capture.id() == id) else {
            return Err(ApiError::not_found(format!(
                "stop capture {id}: there is none of this number; it may have ended"
            )));
        };
        // What came before the request is part of it: the round that takes it in lies between two
        // versions, this one and the next.
        self.workers.hold(|| ());
        // Out of the frame path; then all of it is on its way.
        let ended = state.captures.remove(at);
        self.publish(state);
        ended.capture.close();
        Ok(Response::Done)
    }

    /// Nanoseconds from the switch's clock to the time since 1970.
    fn wall_offset(&self) -> u64 {
        let wall = Duration::try_from_secs_f64(clock::unix_time()).unwrap_or_default();
        crate::time::nanos(wall).wrapping_sub(self.clock.now().as_nanos())
    }
}

/// The thread between workers and server.
struct Job {
    inner: Weak<Inner>,
    id: u64,
    reader: CaptureReader,
    sender: mpsc::Sender<Vec<u8>>,
    /// How many frames are still wanted.
    left: u64,
    encoder: Encoder,
    /// Where it looks at first.
    places: Vec<(Place, Form)>,
    is_ending: bool,
}

impl Job {
    fn start(mut self) -> io::Result<()> {
        thread::Builder::new()
            .name(format!("capture-{}", self.id))
            .spawn(move || {
                self.run();
                self.end();
            })
            .map(drop)
    }

    /// Until nothing more can come, or nobody listens.
    fn run(&mut self) {
        let mut head = Vec::new();
        self.encoder.head(&mut head, &self.places);
        if !head.is_empty() && self.sender.blocking_send(head).is_err() {
            return;
        }
        loop {
            if self.sender.is_closed() {
                return;
            }
            if self.left == 0 {
                self.end();
            }
            let next = self.reader.next(PAUSE);
            let mut piece = Vec::new();
            self.encoder.skipped(&mut piece, self.reader.skipped());
            match next {
                Next::End => {
                    self.encoder.tail(&mut piece, &self.reader.lost());
                    // If nobody listens any more, nobody wants to know.
                    drop(self.sender.blocking_send(piece));
                    return;
                }
                Next::Nothing { waits } => {
                    if waits && let Some(inner) = self.inner.upgrade() {
                        inner.workers.nudge();
                    }
                }
                Next::Chunk(chunk) => {
                    for (record, bytes) in chunk.iter() {
                        if self.left == 0 {
                            break;
                        }
                        self.left -= 1;
                        self.encoder.frame(&mut piece, record, bytes);
                    }
                    self.reader.give_back(chunk);
                }
            }
            if !piece.is_empty() && self.sender.blocking_send(piece).is_err() {
                return;
            }
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.is_ending, true)
            && let Some(inner) = self.inner.upgrade()
        {
            // It may have been ended from outside.
            drop(inner.stop_capture(&mut inner.state(), self.id));
        }
    }
}

/// Captures at a time: each has memory of its own.
const MOST: usize = 16;
/// Pieces of a stream that wait for the client.
const PIECES: usize = 2;
/// How long a capture may take to see that it shall end.
const PAUSE: Duration = Duration::from_millis(20);
