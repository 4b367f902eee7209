//! A capture of a daemon, which is read by a thread of its own.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Seen, WatchError, tapswitch};
use crate::{
    config::Mode,
    control::{
        api::{
            CaptureForm, CaptureFormat, CaptureLine, CaptureRequest, CapturedFrame, Request,
            Response,
        },
        client::Client,
    },
    names::Name,
};

/// Sees all frames of a daemon.
#[derive(Debug)]
pub(super) struct Capture {
    node: String,
    client: Client,
    caught: Arc<Mutex<Caught>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Caught {
    frames: Vec<CapturedFrame>,
    /// The beginning of a line.
    rest: Vec<u8>,
    lost: u64,
}

impl Capture {
    pub(super) fn begin(node: &str, socket: &Path) -> Result<Self, WatchError> {
        let failed = |cause: &str| WatchError(format!("watch the frames of {node}: {cause}"));
        let client = Client::new(socket);
        let caught = Arc::new(Mutex::new(Caught::default()));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel::<Result<(), String>>();
        let reader = {
            let (client, caught) = (client.clone(), Arc::clone(&caught));
            move || {
                let request = CaptureRequest {
                    form: CaptureForm::Both,
                    bytes: true,
                    format: CaptureFormat::Json,
                    ..CaptureRequest::default()
                };
                let stop = async { drop(stopped.await) };
                let started = || drop(tell.send(Ok(())));
                let result = client.capture(&request, stop, started, |piece| {
                    lock(&caught).take(piece);
                    ControlFlow::Continue(())
                });
                // Later than the start nobody asks any more: the daemon ends with its lesson.
                drop(tell.send(result.map(drop).map_err(|error| error.to_string())));
            }
        };
        let thread = thread::Builder::new()
            .name(format!("watch-{node}"))
            .spawn(reader)
            .map_err(|error| failed(&format!("start a thread: {error}; see ulimit -u")))?;
        let capture = Self {
            node: node.to_owned(),
            client,
            caught,
            stop: Some(stop),
            thread: Some(thread),
        };
        match told.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Ok(capture),
            Ok(Err(cause)) => Err(failed(&cause)),
            Err(RecvTimeoutError::Disconnected) => Err(failed("its reader has ended")),
            Err(RecvTimeoutError::Timeout) => Err(failed("the daemon does not answer")),
        }
    }

    /// How many frames the switch has had to do with. When the answer is there, all that waited at
    /// its devices two questions ago has been counted.
    pub(super) fn count(&self) -> u64 {
        let Ok(Response::Stats(stats)) = self.client.request(&Request::Stats { port: None }) else {
            return 0;
        };
        let ports = stats
            .ports
            .iter()
            .map(|port| port.rx.frames + port.tx.frames);
        let peers = stats
            .peers
            .iter()
            .map(|peer| peer.rx.frames + peer.tx.frames);
        ports.chain(peers).sum()
    }

    /// Ends, after all that the daemon has captured is here.
    pub(super) fn end(mut self) -> Result<Vec<Seen>, WatchError> {
        let modes = self.modes();
        self.stop();
        let lost = lock(&self.caught).lost;
        if lost > 0 {
            let node = &self.node;
            return Err(WatchError(format!(
                "watch the frames of {node}: {lost} were lost, since there were too many; watch a \
                 shorter step"
            )));
        }
        let mut caught = lock(&self.caught);
        tapswitch::name_repeaters(&mut caught.frames, &modes);
        Ok(tapswitch::join(&self.node, &caught.frames))
    }

    /// The bridges that are no switches, and what they are.
    fn modes(&self) -> Vec<(Name, Mode)> {
        let Ok(Response::Bridges(bridges)) =
            self.client.request(&Request::BridgeShow { name: None })
        else {
            return Vec::new();
        };
        let modes = bridges
            .into_iter()
            .map(|bridge| (bridge.spec.name, bridge.spec.mode));
        modes.filter(|(_, mode)| *mode != Mode::Switch).collect()
    }

    fn stop(&mut self) {
        // Its end is the sign.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            drop(thread.join());
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Caught {
    fn take(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(CaptureLine::Frame(frame)) if self.frames.len() < MOST => {
                    self.frames.push(*frame);
                }
                Ok(CaptureLine::End { lost, .. }) => self.lost += lost,
                _ => self.lost += 1,
            }
        }
    }
}

fn lock(caught: &Mutex<Caught>) -> MutexGuard<'_, Caught> {
    // What is taken is whole lines, one after the other.
    caught.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Frames of a step and node that are kept.
const MOST: usize = 50_000;
