//! What may be asked over HTTP.
//!
//! `POST /v1/request` takes any [`Request`] and is what the command line uses. The GET routes are
//! for people with curl and answer with the bare value.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{FromRequestParts, Path, Query, Request as HttpRequest, rejection::QueryRejection},
    http::{HeaderName, StatusCode, header, request::Parts, uri::Authority},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response as HttpResponse},
    routing::{get, post},
};
use futures_util::stream;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::{
        Mutex,
        broadcast::{self, error::RecvError},
        watch,
    },
    time::{Instant, timeout},
};

use super::{
    CAPTURE_HEADER, Controller,
    api::{
        ApiError, CaptureFormat, CaptureRequest, DoctorRequest, ErrorKind, Event, FdbSelector,
        Request, Response, WhyRequest,
    },
    connection::Ticket,
    metrics::{self, Audience},
    threads::Threads,
};
use crate::names::Name;

/// What all handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) controller: Arc<dyn Controller>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) scrapes: Scrapes,
    pub(super) threads: Threads,
}

/// The metrics as they were written last, for those who ask again soon: each reading holds the
/// workers still for a moment, and over TCP anybody on the host may ask as often as he likes.
#[derive(Clone, Default)]
pub(super) struct Scrapes {
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
    lifetime: Duration,
}

impl Scrapes {
    pub(super) fn kept_for(lifetime: Duration) -> Self {
        Self {
            lifetime,
            ..Self::default()
        }
    }
}

/// What a handler works with: what all share, and the ticket of its connection, which is an
/// extension of the request.
struct Context {
    controller: Arc<dyn Controller>,
    stop: watch::Receiver<bool>,
    scrapes: Scrapes,
    threads: Threads,
    ticket: Arc<Ticket>,
}

impl FromRequestParts<Shared> for Context {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let ticket = parts.extensions.get::<Arc<Ticket>>().cloned();
        let Shared {
            controller,
            stop,
            scrapes,
            threads,
        } = shared.clone();
        Ok(Self {
            controller,
            stop,
            scrapes,
            threads,
            ticket: ticket.ok_or_else(|| ApiError::failed("read request: it has no connection"))?,
        })
    }
}

/// All routes.
pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/show", get(show))
        .route("/v1/vtep", get(vtep))
        .route("/v1/peers", get(peers))
        .route("/v1/bridges", get(bridges))
        .route("/v1/bridges/{name}", get(bridge))
        .route("/v1/ports", get(ports))
        .route("/v1/ports/{name}", get(port))
        .route("/v1/stats", get(stats))
        .route("/v1/stats/{name}", get(port_stats))
        .route("/v1/events", get(events))
        .route_layer(from_fn(without_query))
        .route("/v1/request", post(request))
        .route("/v1/fdb", get(fdb))
        .route("/v1/why", get(why))
        .route("/v1/doctor", get(doctor))
        .route("/metrics", get(metrics))
        .route("/v1/capture", post(capture))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .with_state(shared)
}

/// Refuses a query, where none selects anything: whoever asks so would take the answer for another.
async fn without_query(request: HttpRequest, next: Next) -> HttpResponse {
    let uri = request.uri();
    match uri.query().filter(|query| !query.is_empty()) {
        None => next.run(request).await,
        Some(query) => {
            let query: String = query.chars().take(40).collect();
            let text = format!(
                "read query {query:?}: {} takes none; leave it out",
                uri.path()
            );
            Refusal::from(ApiError::invalid(text)).into_response()
        }
    }
}

/// The one route that may be reached over TCP.
pub(super) fn metrics_router(shared: Shared, audience: Audience) -> Router {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .fallback(only_metrics)
        .method_not_allowed_fallback(only_metrics)
        .with_state(shared);
    match audience {
        Audience::Local => router.layer(from_fn(only_by_address)),
        Audience::Anybody => router,
    }
}

/// Refuses a request for a name that is not this host's own. A page in a browser of this host can
/// let its own name stand for 127.0.0.1 (DNS rebinding), and would read what is for this host only.
async fn only_by_address(request: HttpRequest, next: Next) -> HttpResponse {
    let Some(host) = request.headers().get(header::HOST) else {
        // No browser.
        return next.run(request).await;
    };
    let is_own = host.to_str().is_ok_and(is_own_host);
    if is_own {
        return next.run(request).await;
    }
    Refusal {
        status: StatusCode::MISDIRECTED_REQUEST,
        error: ApiError::invalid(
            "read metrics: they are for this host; ask for 127.0.0.1, [::1] or localhost, or allow \
             others with --metrics-remote",
        ),
    }
    .into_response()
}

/// Whether a Host header (RFC 9110 section 7.2) has an address, or the name that every host has.
fn is_own_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    bare.unwrap_or(name).parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

async fn request(context: Context, body: Body) -> Result<Json<Response>, Refusal> {
    let request = read_body(body).await?;
    context.execute(request).await.map(Json)
}

async fn read_body<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let collected = timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await;
    let body = collected
        .map_err(|_| Refusal {
            status: StatusCode::REQUEST_TIMEOUT,
            error: ApiError::invalid("read request: its body did not arrive within 5 s"),
        })?
        .map_err(|error| Refusal {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            error: ApiError::invalid(format!(
                "read request: {error}; at most {MAX_BODY} bytes are accepted"
            )),
        })?;
    let read = serde_json::from_slice(&body);
    Ok(read.map_err(|error| ApiError::invalid(format!("read request: {error}")))?)
}

async fn show(context: Context) -> Answer {
    context.tell(Request::Show).await
}

async fn vtep(context: Context) -> Answer {
    context.tell(Request::VtepShow).await
}

async fn peers(context: Context) -> Answer {
    context.tell(Request::PeerShow { bridge: None }).await
}

async fn bridges(context: Context) -> Answer {
    context.tell(Request::BridgeShow { name: None }).await
}

async fn bridge(context: Context, Path(name): Path<String>) -> Answer {
    let name = Some(read_name(&name)?);
    context.tell(Request::BridgeShow { name }).await
}

async fn ports(context: Context) -> Answer {
    context.tell(Request::PortShow { name: None }).await
}

async fn port(context: Context, Path(name): Path<String>) -> Answer {
    let name = Some(read_name(&name)?);
    context.tell(Request::PortShow { name }).await
}

async fn fdb(context: Context, selector: Result<Query<FdbSelector>, QueryRejection>) -> Answer {
    let Query(selector) = selector
        .map_err(|error| ApiError::invalid(format!("read selector: {}", error.body_text())))?;
    context.tell(Request::FdbShow(selector)).await
}

async fn why(context: Context, request: Result<Query<WhyRequest>, QueryRejection>) -> Answer {
    let Query(request) = request
        .map_err(|error| ApiError::invalid(format!("read question: {}", error.body_text())))?;
    context.tell(Request::Why(request)).await
}

async fn stats(context: Context) -> Answer {
    context.tell(Request::Stats { port: None }).await
}

async fn port_stats(context: Context, Path(name): Path<String>) -> Answer {
    let port = Some(read_name(&name)?);
    context.tell(Request::Stats { port }).await
}

async fn metrics(context: Context) -> Answer {
    // Whoever asks at the same time waits, and gets the same.
    let mut last = context.scrapes.last.lock().await;
    let text = match &*last {
        Some((at, text)) if at.elapsed() < context.scrapes.lifetime => text.clone(),
        _ => {
            let text = Bytes::from(context.scrape().await?);
            *last = Some((Instant::now(), text.clone()));
            text
        }
    };
    drop(last);
    let headers = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    Ok((headers, text).into_response())
}

async fn doctor(context: Context, asked: Result<Query<DoctorQuery>, QueryRejection>) -> Answer {
    let Query(DoctorQuery { from, to }) = asked
        .map_err(|error| ApiError::invalid(format!("read question: {}", error.body_text())))?;
    if from.is_none() && to.is_some() {
        let text = "read question: to needs from, the port where the path begins; give from=PORT";
        return Err(ApiError::invalid(text).into());
    }
    let to = to.map(|to| to.parse()).transpose();
    let to = to.map_err(|error| ApiError::invalid(format!("read question: to: {error}")))?;
    context
        .tell(Request::Doctor(DoctorRequest { from, to }))
        .await
}

/// A [`DoctorRequest`] as a query has it: `from=PORT&to=PORT|IP`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DoctorQuery {
    from: Option<Name>,
    to: Option<String>,
}

/// All events from now on, one JSON object in a line.
async fn events(context: Context) -> HttpResponse {
    context.ticket.request_is_complete();
    // Subscribed before the head of the answer is sent: what happens after it is in the stream.
    let subscription = (context.controller.subscribe(), context.stop);
    let lines = stream::unfold(subscription, |(mut receiver, mut stop)| async move {
        let event = tokio::select! {
            event = next_event(&mut receiver) => event?,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        let mut line = serde_json::to_string(&event).unwrap_or_default();
        line.push('\n');
        Some((Ok::<_, Infallible>(line), (receiver, stop)))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (headers, Body::from_stream(lines)).into_response()
}

/// Frames from now on, until the client has enough.
async fn capture(context: Context, body: Body) -> Result<HttpResponse, Refusal> {
    let request: CaptureRequest = read_body(body).await?;
    context.ticket.request_is_complete();
    // A disk may take its time, and somebody may stop to read: that only loses captured frames.
    context.ticket.may_be_slow();
    let kind = match request.format {
        CaptureFormat::Pcapng => "application/x-pcapng",
        CaptureFormat::Json => "application/x-ndjson",
    };
    let controller = Arc::clone(&context.controller);
    let started = context
        .threads
        .run("capture", move || controller.capture(request))
        .await;
    let capturing = started.map_err(|error| failed("capture", &error))??;
    let id = capturing.id.to_string();
    let stream = (capturing.pieces, context.stop);
    let pieces = stream::unfold(stream, |(mut pieces, mut stop)| async move {
        let piece = tokio::select! {
            piece = pieces.recv() => piece?,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        Some((Ok::<_, Infallible>(piece), (pieces, stop)))
    });
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (HeaderName::from_static(CAPTURE_HEADER), id),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

async fn next_event(receiver: &mut broadcast::Receiver<Event>) -> Option<Event> {
    match receiver.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(count)) => Some(Event::Lost { count }),
        Err(RecvError::Closed) => None,
    }
}

async fn no_route() -> Refusal {
    let message = "find route: there is none; see POST /v1/request, GET /v1/show, /v1/vtep, /v1/peers, \
                   /v1/bridges, /v1/ports, /v1/fdb, /v1/why, /v1/stats, /v1/doctor, \
                   /v1/events and /metrics, and POST /v1/capture";
    ApiError::not_found(message).into()
}

async fn only_metrics() -> Refusal {
    ApiError::not_found("find route: there is only GET /metrics; ask the control socket").into()
}

/// The daemon has no thread for it, or it panicked.
fn failed(operation: &str, error: &io::Error) -> ApiError {
    tracing::error!("{operation}: {error}");
    let cause = "check the limits of threads (ulimit -u, pids.max) and the daemon's log";
    ApiError::failed(format!("{operation}: the daemon: {error}; {cause}"))
}

impl Context {
    async fn execute(&self, request: Request) -> Result<Response, Refusal> {
        self.ticket.request_is_complete();
        let controller = Arc::clone(&self.controller);
        let answer = self
            .threads
            .run("request", move || controller.execute(request))
            .await;
        let answer = answer.map_err(|error| failed("carry out request", &error))?;
        Ok(answer?)
    }

    async fn scrape(&self) -> Result<String, Refusal> {
        let Response::Stats(stats) = self.execute(Request::Counters).await? else {
            return Err(ApiError::failed("read counters: the daemon has none").into());
        };
        let written = metrics::encode(stats);
        Ok(written.map_err(|error| ApiError::failed(format!("write metrics: {error}")))?)
    }

    async fn tell(&self, request: Request) -> Answer {
        let answer = match self.execute(request).await? {
            Response::Done => Json(()).into_response(),
            Response::Show(value) => Json(value).into_response(),
            Response::Vtep(value) => Json(value).into_response(),
            Response::Peers(value) => Json(value).into_response(),
            Response::Ping(value) => Json(value).into_response(),
            Response::Bridges(value) => Json(value).into_response(),
            Response::Ports(value) => Json(value).into_response(),
            Response::Doctor(value) => Json(value).into_response(),
            Response::Fdb(value) => Json(value).into_response(),
            Response::Flushed(value) => Json(value).into_response(),
            Response::Why(value) => Json(value).into_response(),
            Response::FdbWhy(value) => Json(value).into_response(),
            Response::Stats(value) => Json(value).into_response(),
            Response::Trace(value) => Json(value).into_response(),
            Response::Plan(value) => Json(value).into_response(),
        };
        Ok(answer)
    }
}

fn read_name(text: &str) -> Result<Name, ApiError> {
    Name::new(text).map_err(|error| ApiError::invalid(error.to_string()))
}

type Answer = Result<HttpResponse, Refusal>;

/// An [`ApiError`] with its HTTP status.
struct Refusal {
    status: StatusCode,
    error: ApiError,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let status = match error.kind {
            ErrorKind::Failed => StatusCode::CONFLICT,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        };
        Self { status, error }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> HttpResponse {
        (self.status, Json(self.error)).into_response()
    }
}

/// Enough for a file with thousands of ports.
const MAX_BODY: usize = 1 << 20;

const BODY_TIMEOUT: Duration = Duration::from_secs(5);
