//! What a browser may ask for.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Extension, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, Uri},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response as HttpResponse},
    routing::{get, post},
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use super::{
    assets,
    change::is_allowed,
    guard::{Gate, guard},
    hub::{Hub, Watched, unexpected},
    json,
    live::live,
    refusal::Refusal,
};
use crate::{
    config::units::parse_duration,
    control::{
        Ticket,
        api::{ApiError, Hex, Request, Response, WhyEntry, WhyRequest},
    },
    dissect::{About, FrameJson, Options, Start, dissect},
    names::Name,
    wire::MacAddr,
};

/// What all handlers share.
#[derive(Clone)]
struct Shared {
    hub: Arc<Hub>,
    gate: Arc<Gate>,
    stop: watch::Receiver<bool>,
}

/// All routes.
pub(super) fn router(hub: Arc<Hub>, gate: Gate, stop: watch::Receiver<bool>) -> Router {
    let gate = Arc::new(gate);
    let shared = Shared {
        hub,
        gate: Arc::clone(&gate),
        stop,
    };
    Router::new()
        .route("/api/live", get(open_live))
        .route("/api/nodes/{node}/fdb/why", get(fdb_why))
        .route("/api/nodes/{node}/request", post(change))
        .route("/api/replay", get(replay))
        .route("/api/explain", get(explain))
        .fallback(asset)
        .method_not_allowed_fallback(no_route)
        .layer(from_fn_with_state(gate, guard))
        .with_state(shared)
}

type Answer = Result<HttpResponse, Refusal>;
type Asked<T> = Result<Query<T>, QueryRejection>;

impl Shared {
    fn node(&self, name: &str) -> Result<&Watched, ApiError> {
        let mut nodes = self.hub.nodes.iter();
        nodes
            .find(|watched| watched.node.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = self.hub.nodes.iter().map(|one| one.node.name()).collect();
                ApiError::not_found(format!("find node: there is only {}", names.join(", ")))
            })
    }
}

fn asked<T>(query: Asked<T>) -> Result<T, ApiError> {
    query
        .map(|Query(asked)| asked)
        .map_err(|error| ApiError::invalid(format!("read question: {}", error.body_text())))
}

/// A file of the page, or nothing.
async fn asset(uri: Uri) -> Answer {
    match assets::find(uri.path()) {
        Some(asset) => Ok(asset),
        None => no_route().await,
    }
}

async fn no_route() -> Answer {
    let message = "find page: there is none; see / and GET /api/live, /api/nodes/NODE/fdb/why, \
                   /api/replay and /api/explain, and POST /api/nodes/NODE/request";
    Err(ApiError::not_found(message).into())
}

async fn open_live(State(shared): State<Shared>) -> Answer {
    let has_token = shared.gate.has_token();
    live(shared.hub, has_token, shared.stop)
}

/// Which address is asked about.
#[derive(Deserialize)]
struct Address {
    bridge: Option<Name>,
    mac: MacAddr,
    vlan: Option<u16>,
}

async fn fdb_why(
    State(shared): State<Shared>,
    Path(node): Path<String>,
    address: Asked<Address>,
) -> Answer {
    let Address { bridge, mac, vlan } = asked(address)?;
    let watched = shared.node(&node)?;
    let request = Request::FdbWhy { bridge, mac, vlan };
    match &*watched.answers.ask(&watched.node, request).await? {
        Response::FdbWhy(why) => Ok(json::body(why)),
        _ => Err(unexpected(&watched.node).into()),
    }
}

async fn change(
    State(shared): State<Shared>,
    Extension(ticket): Extension<Arc<Ticket>>,
    Path(node): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    // Before anything of the body is read.
    shared.gate.check_change(&headers)?;
    let body = timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await;
    let body = body
        .map_err(|_| {
            let text = "read request: its body did not arrive within 5 s";
            Refusal::new(StatusCode::REQUEST_TIMEOUT, text)
        })?
        .map_err(|error| {
            let text = format!("read request: {error}; at most {MAX_BODY} bytes are accepted");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
        })?;
    ticket.request_is_complete();
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| ApiError::invalid(format!("read request: {error}")))?;
    if !is_allowed(&request) {
        let text = "change something: from here only port up, port isolated, bridge mode and \
                    flushing what was learned are possible; use the command line for the rest";
        return Err(Refusal::new(StatusCode::FORBIDDEN, text));
    }
    let answer = shared.node(&node)?.node.ask(request).await?;
    Ok(json::body(&answer))
}

/// How far back.
#[derive(Deserialize)]
struct Since {
    last: Option<String>,
}

#[derive(Serialize)]
struct Replay {
    nodes: Vec<NodeReplay>,
}

#[derive(Serialize)]
struct NodeReplay {
    node: String,
    frames: Vec<WhyEntry>,
    /// Older ones that are not among them.
    left_out: usize,
    /// Flows that the flight recorder had no more room for, since the daemon started.
    crowded_out: u64,
    /// Why there are none.
    error: Option<String>,
}

/// What the flight recorders of all nodes remember.
async fn replay(State(shared): State<Shared>, since: Asked<Since>) -> Answer {
    let last = asked(since)?.last;
    let last = last.map_or(Ok(Duration::from_secs(60)), |text| {
        let refuse = |error| ApiError::invalid(format!("replay last {text}: {error}"));
        parse_duration(&text).map_err(refuse)
    })?;
    let nodes = shared.hub.nodes.iter().map(|one| replay_of(one, last));
    let nodes = join_all(nodes).await;
    Ok(json::body(&Replay { nodes }))
}

async fn replay_of(watched: &Watched, last: Duration) -> NodeReplay {
    let node = &watched.node;
    let request = Request::Why(WhyRequest {
        last_s: Some(last.as_secs_f64()),
        ..WhyRequest::default()
    });
    let mut replay = NodeReplay {
        node: node.name().to_owned(),
        frames: Vec::new(),
        left_out: 0,
        crowded_out: 0,
        error: None,
    };
    let answer = watched.answers.ask_once(node, request).await;
    match answer.and_then(|answer| match answer {
        Response::Why(report) => Ok(report),
        _ => Err(unexpected(node)),
    }) {
        Ok(report) => {
            replay.frames = report.entries;
            replay.left_out = report.left_out;
            replay.crowded_out = report.crowded_out;
        }
        Err(error) => replay.error = Some(error.message),
    }
    replay
}

/// Which bytes.
#[derive(Deserialize)]
struct Bytes {
    hex: String,
    start: Option<String>,
    /// Bytes that the frame had beyond these.
    missing: Option<u32>,
}

#[derive(Serialize)]
struct Explained<'a> {
    frames: [FrameJson<'a>; 1],
}

async fn explain(bytes: Asked<Bytes>) -> Answer {
    let Bytes {
        hex,
        start,
        missing,
    } = asked(bytes)?;
    if hex.len() > MAX_HEX {
        let text = format!("explain: at most {MAX_HEX} hexadecimal digits are accepted");
        return Err(ApiError::invalid(text).into());
    }
    let Hex(bytes) = hex
        .parse()
        .map_err(|error| ApiError::invalid(format!("explain: {error}")))?;
    let start = match start.as_deref() {
        None | Some("ethernet") => Start::Ethernet,
        Some("auto") => Start::Auto,
        Some("ip") => Start::Ip,
        Some("arp") => Start::Arp,
        Some("udp") => Start::Udp,
        Some("tcp") => Start::Tcp,
        Some("vxlan") => Start::Vxlan,
        Some(_) => {
            let text = "explain: start is ethernet, auto, ip, arp, udp, tcp or vxlan";
            return Err(ApiError::invalid(text).into());
        }
    };
    let missing = missing.map_or(0, |missing| missing.min(MAX_MISSING));
    let missing = usize::try_from(missing).unwrap_or(0);
    let options = Options {
        start,
        missing,
        vxlan_port: None,
    };
    let dissection = dissect(&bytes, &options);
    let about = About {
        number: 1,
        missing,
        ..About::default()
    };
    let frame = FrameJson::new(&about, &bytes, &dissection, None);
    Ok(json::body(&Explained { frames: [frame] }).into_response())
}

const MAX_BODY: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Within what a head may have.
const MAX_HEX: usize = 8 * 1024;
/// More than any frame has.
const MAX_MISSING: u32 = 1 << 20;
