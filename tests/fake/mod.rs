//! A daemon without a switch: the real server and a controller that plays one.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses its own part of this module"
)]

pub(crate) mod overlay;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tapswitch::{
    config::{BridgeSpec, OffloadMode, plan::plan},
    control::{
        Capturing, Controller,
        api::{
            ApiError, BridgeInfo, CaptureRequest, Event, FdbInfo, FdbState, PortInfo, PortState,
            Request, Response, ShowInfo, StatsInfo, TrafficInfo, WorkerInfo,
        },
        client::Client,
        server::serve,
        socket::ControlSocket,
    },
    names::Name,
};
use tokio::sync::{broadcast, oneshot};

/// Answers with samples and remembers what it was asked.
pub(crate) struct Fake {
    pub(crate) requests: Mutex<Vec<Request>>,
    pub(crate) events: broadcast::Sender<Event>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn sample_port() -> PortInfo {
    PortInfo {
        name: name("podA"),
        bridge: name("br0"),
        netns: Some("nsA".to_owned()),
        netns_inode: Some(4_026_532_001),
        ifname: "eth0".to_owned(),
        ifindex: Some(2),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: 1500,
        addresses: vec!["192.0.2.1/24".to_owned()],
        state: PortState::Up,
        reason: None,
        flags: BTreeMap::from([
            ("learning".to_owned(), true),
            ("isolated".to_owned(), false),
        ]),
        offload: OffloadMode::On,
        offloads: "checksum, tso".to_owned(),
        rx: TrafficInfo {
            frames: 12,
            bytes: 1176,
        },
        tx: TrafficInfo {
            frames: 10,
            bytes: 980,
        },
        drops: BTreeMap::from([("queue_full".to_owned(), 3)]),
        drops_in: BTreeMap::from([("queue_full".to_owned(), 1)]),
    }
}

pub(crate) fn sample_bridge() -> BridgeInfo {
    BridgeInfo {
        spec: BridgeSpec::new(name("br0")),
        effective_mtu: 1500,
        mtu_chain: None,
        peer_count: 0,
        ports: vec![name("podA")],
        fdb_entries: 1,
        fdb_learned: 1,
        fdb_counters: BTreeMap::from([("learned".to_owned(), 1)]),
    }
}

pub(crate) fn sample_fdb() -> FdbInfo {
    FdbInfo {
        bridge: name("br0"),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        vlan: 0,
        port: Some(name("podA")),
        remote: None,
        state: FdbState::Learned,
        age_s: 1.5,
        moves: 0,
        frozen: false,
    }
}

impl Controller for Fake {
    fn execute(&self, request: Request) -> Result<Response, ApiError> {
        self.requests.lock().unwrap().push(request.clone());
        Ok(match request {
            Request::Show => Response::Show(ShowInfo {
                name: "host".to_owned(),
                version: "0.1.0".to_owned(),
                pid: std::process::id(),
                workers: 2,
                bridges: vec![sample_bridge(), overlay::overlay_bridge()],
                ports: vec![sample_port()],
                vtep: Some(overlay::sample_vtep()),
                peers: vec![overlay::sample_peer(), overlay::lost_peer()],
                unaccounted: 0,
            }),
            Request::BridgeShow { .. } => {
                Response::Bridges(vec![sample_bridge(), overlay::overlay_bridge()])
            }
            Request::PortAdd(_) => Response::Ports(vec![sample_port()]),
            Request::PortShow { name: Some(name) } if name.as_str() != "podA" => {
                return Err(ApiError::not_found(format!(
                    "show port {name}: there is no such port; see tapswitch port show"
                )));
            }
            Request::PortShow { .. } => Response::Ports(vec![sample_port()]),
            Request::FdbShow(_) | Request::FdbGet(_) => {
                Response::Fdb(vec![sample_fdb(), overlay::remote_fdb()])
            }
            Request::FdbFlush(_) => Response::Flushed(3),
            Request::Stats { .. } | Request::Counters => Response::Stats(StatsInfo {
                name: "host".to_owned(),
                version: "0.1.0".to_owned(),
                started: 1_700_000_000.0,
                uptime_s: 100.0,
                bridges: vec![sample_bridge(), overlay::overlay_bridge()],
                ports: vec![sample_port()],
                peers: vec![overlay::sample_peer()],
                vtep: Some(overlay::sample_vtep()),
                workers: vec![WorkerInfo {
                    reads: 7,
                    syscalls: 7,
                    cpu_s: 0.5,
                    ..WorkerInfo::default()
                }],
                unaccounted: 0,
            }),
            Request::Apply { spec, .. } => {
                let steps = plan(&tapswitch::config::SwitchSpec::default(), &spec).steps;
                Response::Plan(steps.iter().map(ToString::to_string).collect())
            }
            Request::BridgeDel { name } if name.as_str() == "busy" => {
                return Err(ApiError::failed(
                    "delete bridge busy: it has ports; delete them first",
                ));
            }
            Request::PortSet(change) if change.mtu == Some(9000) => {
                return Err(ApiError::invalid("set port podA: mtu 9000 is out of range"));
            }
            other => return overlay::answer(&other),
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn capture(&self, _request: CaptureRequest) -> Result<Capturing, ApiError> {
        Err(ApiError::failed(
            "capture: a daemon that is played has no frames",
        ))
    }
}

/// A server with a [`Fake`] behind it, in a directory of its own.
pub(crate) struct FakeDaemon {
    pub(crate) fake: Arc<Fake>,
    directory: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeDaemon {
    pub(crate) fn start(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tsw-{test}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        let fake = Arc::new(Fake {
            requests: Mutex::default(),
            events: broadcast::Sender::new(64),
        });
        let socket = ControlSocket::bind(&directory.join("s"), None).unwrap();
        let (stop, stopped) = oneshot::channel();
        let controller: Arc<dyn Controller> = fake.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let shutdown = async { drop(stopped.await) };
            runtime
                .block_on(serve(socket, controller, shutdown))
                .unwrap();
        });
        let daemon = Self {
            fake,
            directory,
            stop: Some(stop),
            thread: Some(thread),
        };
        // From here on the server's own descriptors are open.
        Client::new(daemon.socket())
            .request(&Request::Show)
            .unwrap();
        daemon.fake.requests.lock().unwrap().clear();
        // Its end of that connection is closed a moment after the answer.
        std::thread::sleep(std::time::Duration::from_millis(50));
        daemon
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("s")
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.fake.requests.lock().unwrap().clone()
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        drop(std::fs::remove_dir_all(&self.directory));
    }
}
