//! Asks a daemon.

use std::{
    future::Future,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, StatusCode,
    body::{Buf, Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{
    CAPTURE_HEADER,
    api::{ApiError, CaptureRequest, ErrorKind, Event, Request, Response},
};

/// A client of the daemon that listens on one socket. Each request is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the daemon at `path`; nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the daemon is expected.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks and waits for the answer. Not to be called from asynchronous code.
    ///
    /// # Errors
    /// [`ClientError::Api`] is the daemon's answer, everything else means there was none.
    pub fn request(&self, request: &Request) -> Result<Response, ClientError> {
        self.block_on(self.ask(request))
    }

    /// The same for asynchronous code.
    ///
    /// # Errors
    /// Likewise.
    pub async fn ask(&self, request: &Request) -> Result<Response, ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.broken(&error))?;
        let response = self.send(Method::POST, "/v1/request", body).await?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| self.broken(&error))?.aggregate();
        self.judge(status, body.reader())
    }

    /// Everything that happens from now on, one [`Event`] in each line. For asynchronous code.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses.
    pub async fn follow_events(&self) -> Result<Pieces, ClientError> {
        self.follow(Method::GET, "/v1/events", Vec::new()).await
    }

    /// The stream of a capture, which ends when this is dropped. For asynchronous code.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses.
    pub async fn follow_capture(&self, request: &CaptureRequest) -> Result<Pieces, ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.broken(&error))?;
        self.follow(Method::POST, "/v1/capture", body).await
    }

    async fn follow(
        &self,
        method: Method,
        route: &str,
        body: Vec<u8>,
    ) -> Result<Pieces, ClientError> {
        let response = self.send(method, route, body).await?;
        let status = response.status();
        let body = response.into_body();
        if status == StatusCode::OK {
            let client = self.clone();
            return Ok(Pieces { client, body });
        }
        let body = body.collect().await.map_err(|error| self.broken(&error))?;
        let refused = self.judge(status, body.aggregate().reader());
        Err(refused.err().unwrap_or_else(|| self.unexpected()))
    }

    /// Calls `take` for every event until it breaks off or the daemon ends.
    ///
    /// # Errors
    /// The daemon cannot be reached, or says something that is no event.
    pub fn events(
        &self,
        mut take: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        self.block_on(async {
            let response = self.send(Method::GET, "/v1/events", Vec::new()).await?;
            let status = response.status();
            let mut body = response.into_body();
            if status != StatusCode::OK {
                let body = body.collect().await.map_err(|error| self.broken(&error))?;
                return self.judge(status, body.aggregate().reader()).map(drop);
            }
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                rest.extend_from_slice(&data);
                while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let event =
                        serde_json::from_slice(&line).map_err(|error| self.broken(&error))?;
                    if take(event).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    /// Starts a capture, calls `started` when it is in force, and then `take` for every piece of its
    /// stream, until `take` breaks off or the capture ends. When `stop` is ready the daemon is asked to end it; what has been captured
    /// until then still comes.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses.
    pub fn capture(
        &self,
        request: &CaptureRequest,
        stop: impl Future<Output = ()>,
        started: impl FnOnce(),
        mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.broken(&error))?;
        self.block_on(async {
            let response = self.send(Method::POST, "/v1/capture", body).await?;
            let status = response.status();
            let id = response.headers().get(CAPTURE_HEADER);
            let id = id.and_then(|id| id.to_str().ok()?.parse().ok());
            let mut body = response.into_body();
            if status != StatusCode::OK {
                let body = body.collect().await.map_err(|error| self.broken(&error))?;
                return self.judge(status, body.aggregate().reader()).map(drop);
            }
            started();
            tokio::pin!(stop);
            let mut is_stopped = false;
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    () = &mut stop, if !is_stopped => {
                        is_stopped = true;
                        if let Some(id) = id {
                            let request = Request::CaptureStop { id };
                            let body = serde_json::to_vec(&request);
                            let body = body.map_err(|error| self.broken(&error))?;
                            // It may just have ended by itself.
                            drop(self.send(Method::POST, "/v1/request", body).await?);
                        }
                        continue;
                    }
                };
                let Some(frame) = frame else { return Ok(()) };
                let frame = frame.map_err(|error| self.broken(&error))?;
                if let Ok(data) = frame.into_data()
                    && take(&data).is_break()
                {
                    return Ok(());
                }
            }
        })
    }

    fn block_on<T>(
        &self,
        future: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .map_err(|source| self.unreachable(source))?
            .block_on(future)
    }

    async fn send(
        &self,
        method: Method,
        route: &str,
        body: Vec<u8>,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.path))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(route)
            .header("host", "tapswitch")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.broken(&error))?;
        sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(&error))
    }

    /// What a caller says about an answer that is none to its request.
    pub fn unexpected(&self) -> ClientError {
        ClientError::Unexpected {
            path: self.path.clone(),
        }
    }

    fn judge(&self, status: StatusCode, body: impl io::Read) -> Result<Response, ClientError> {
        if status == StatusCode::OK {
            return serde_json::from_reader(body).map_err(|error| self.broken(&error));
        }
        let error: ApiError = serde_json::from_reader(body).map_err(|error| self.broken(&error))?;
        Err(ClientError::Api(error))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        ClientError::Unreachable {
            path: self.path.clone(),
            source,
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> ClientError {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            cause = format!("{cause}: {error}");
            source = error.source();
        }
        ClientError::Broken {
            path: self.path.clone(),
            cause,
        }
    }
}

/// The answer of a daemon that goes on, piece by piece.
#[derive(Debug)]
pub struct Pieces {
    client: Client,
    body: Incoming,
}

impl Pieces {
    /// The next piece; `None`: it has ended.
    ///
    /// # Errors
    /// The connection broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| self.client.broken(&error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Why there is no answer, or which error it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The daemon refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no daemon, or this user may not talk to it.
    #[error("connect to {path}: {}", connect_advice(source), path = path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It answered another question.
    #[error("talk to the daemon at {path}: it answers something else than was asked for; it may be another version: restart it with this one", path = path.display())]
    Unexpected {
        /// The socket.
        path: PathBuf,
    },
    /// The connection broke off, or the answer makes no sense.
    #[error("talk to the daemon at {path}: {cause}; it may have ended or have too many clients", path = path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        cause: String,
    },
}

impl ClientError {
    /// Whether the request was wrong, so that the exit code is 2.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Api(error) if error.kind == ErrorKind::Invalid)
    }
}

fn connect_advice(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::NotFound => {
            "no such file; is the daemon running? start it with: tapswitch run".to_owned()
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody answers; the daemon has ended; start it with: tapswitch run".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; run as root, or start the daemon with --group".to_owned()
        }
        io::ErrorKind::TimedOut => {
            "no answer within 5 s; the daemon may hang; look at its log".to_owned()
        }
        _ => format!("{source}; is the daemon running? start it with: tapswitch run"),
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
