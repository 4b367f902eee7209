//! Asks a daemon.

use std::{
    fmt,
    future::Future,
    io,
    ops::ControlFlow,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
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
use crate::{names::shown, sys::userns::is_root_of_a_user_namespace};

/// A client of the daemon that listens on one socket. Each request is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    /// Who is told that an answer takes long.
    tell: Option<fn(&Waiting<'_>)>,
    /// Bytes of the longest answer.
    most: usize,
}

impl Client {
    /// A client of the daemon at `path`; nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            tell: None,
            most: MOST_ANSWER,
        }
    }

    /// Has `tell` called once for each request whose answer has not begun after some seconds, or
    /// those more than it says that it takes. The request goes on: only who asked knows whether to
    /// wait.
    #[must_use]
    pub fn tell_of_waiting(self, tell: fn(&Waiting<'_>)) -> Self {
        let tell = Some(tell);
        Self { tell, ..self }
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
        let patience = match request {
            Request::PeerPing(ping) => PATIENCE.saturating_add(ping.longest()),
            _ => PATIENCE,
        };
        let sent = self.send_patiently(Method::POST, "/v1/request", body, patience);
        let response = sent.await?;
        self.judge(response).await
    }

    /// Asks again and again, the first time at once and then `interval` after each answer, and calls
    /// `take` for every answer, until that breaks off or `stop` is ready.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn request_again(
        &self,
        request: &Request,
        interval: Duration,
        stop: impl Future<Output = ()>,
        mut take: impl FnMut(Response) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let asks = async {
            while take(self.ask(request).await?).is_continue() {
                tokio::time::sleep(interval).await;
            }
            Ok(())
        };
        self.block_on(async {
            tokio::select! {
                result = asks => result,
                () = stop => Ok(()),
            }
        })
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
        if response.status() == StatusCode::OK {
            let (client, body) = (self.clone(), response.into_body());
            return Ok(Pieces { client, body });
        }
        let refused = self.judge(response).await;
        Err(refused.err().unwrap_or_else(|| self.unexpected()))
    }

    /// Calls `take` for every event until it breaks off, `stop` is ready, or the daemon ends. Whether
    /// it was `stop`.
    ///
    /// # Errors
    /// The daemon cannot be reached, or says something that is no event.
    pub fn events(
        &self,
        stop: impl Future<Output = ()>,
        mut take: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<bool, ClientError> {
        let follows = async {
            let response = self.send(Method::GET, "/v1/events", Vec::new()).await?;
            if response.status() != StatusCode::OK {
                return self.judge(response).await.map(|_| false);
            }
            let mut body = response.into_body();
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
                        return Ok(false);
                    }
                }
                if rest.len() > self.most {
                    return Err(self.too_long());
                }
            }
            Ok(false)
        };
        self.block_on(async {
            tokio::select! {
                result = follows => result,
                () = stop => Ok(true),
            }
        })
    }

    /// Starts a capture, calls `started` when it is in force, and then `take` for every piece of its
    /// stream, until `take` breaks off or the capture ends. When `stop` is ready the daemon is asked
    /// to end it; what has been captured until then still comes. False if `stop` was ready before the
    /// capture was in force.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses.
    pub fn capture(
        &self,
        request: &CaptureRequest,
        stop: impl Future<Output = ()>,
        started: impl FnOnce(),
        mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<bool, ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.broken(&error))?;
        self.block_on(async {
            tokio::pin!(stop);
            let response = tokio::select! {
                response = self.send(Method::POST, "/v1/capture", body) => response?,
                () = &mut stop => return Ok(false),
            };
            if response.status() != StatusCode::OK {
                return self.judge(response).await.map(|_| false);
            }
            let id = response.headers().get(CAPTURE_HEADER);
            let id = id.and_then(|id| id.to_str().ok()?.parse().ok());
            let mut body = response.into_body();
            started();
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
                let Some(frame) = frame else { return Ok(true) };
                let frame = frame.map_err(|error| self.broken(&error))?;
                if let Ok(data) = frame.into_data()
                    && take(&data).is_break()
                {
                    return Ok(true);
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
        self.send_patiently(method, route, body, PATIENCE).await
    }

    async fn send_patiently(
        &self,
        method: Method,
        route: &str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.path))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| self.unreachable(source))?;
        let waiting = Waiting {
            path: &self.path,
            pid: stream.peer_cred().ok().and_then(|peer| peer.pid()),
            time: patience,
        };
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
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        let answer = match tokio::time::timeout(patience, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                if let Some(tell) = self.tell {
                    tell(&waiting);
                }
                answer.await
            }
        };
        answer.map_err(|error| self.broken(&error))
    }

    /// What a caller says about an answer that is none to its request.
    pub fn unexpected(&self) -> ClientError {
        ClientError::Unexpected {
            path: self.path.clone(),
        }
    }

    async fn judge(&self, response: hyper::Response<Incoming>) -> Result<Response, ClientError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), self.most);
        let body =
            body.collect()
                .await
                .map_err(|error| match error.downcast::<LengthLimitError>() {
                    Ok(_) => self.too_long(),
                    Err(error) => self.broken(&*error),
                })?;
        let body = body.aggregate().reader();
        if status == StatusCode::OK {
            return serde_json::from_reader(body).map_err(|error| self.broken(&error));
        }
        let error: ApiError = serde_json::from_reader(body).map_err(|error| self.broken(&error))?;
        Err(ClientError::Api(error))
    }

    fn too_long(&self) -> ClientError {
        ClientError::TooLong {
            path: self.path.clone(),
            most: self.most,
        }
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

/// Says that an answer takes long.
#[derive(Debug)]
pub struct Waiting<'c> {
    path: &'c Path,
    /// The process that listens there.
    pid: Option<i32>,
    time: Duration,
}

impl fmt::Display for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, seconds) = (shown(self.path), self.time.as_secs());
        write!(f, "wait for the daemon at {path}")?;
        if let Some(pid) = self.pid {
            write!(f, " (process {pid})")?;
        }
        write!(
            f,
            ": no answer within {seconds} s; it may be busy or stopped: look at its log, or end this \
             with Ctrl-C"
        )
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
    #[error("connect to {path}: {}", connect_advice(path, source), path = shown(path))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It answered another question.
    #[error("talk to the daemon at {path}: it answers something else than was asked for; it may be another version: restart it with this one", path = shown(path))]
    Unexpected {
        /// The socket.
        path: PathBuf,
    },
    /// Its answer has no end.
    #[error("talk to the daemon at {path}: its answer is longer than {} MiB; it may be another program: see ss -xlp", most >> 20, path = shown(path))]
    TooLong {
        /// The socket.
        path: PathBuf,
        /// Bytes that an answer may have.
        most: usize,
    },
    /// The connection broke off, or the answer makes no sense.
    #[error("talk to the daemon at {path}: {cause}; it may have ended or have too many clients", path = shown(path))]
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

fn connect_advice(path: &Path, source: &io::Error) -> String {
    let is_other = std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    let text = match source.kind() {
        _ if is_other => "it is no socket; give --socket or TAPSWITCH_SOCKET another path",
        io::ErrorKind::NotFound => {
            "no such file; is the daemon running? start it with: tapswitch run"
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody answers; the daemon has ended; start it with: tapswitch run"
        }
        io::ErrorKind::PermissionDenied if is_root_of_a_user_namespace() => {
            "permission denied: you are root of a user namespace only, and this daemon is another's; \
             start your own: tapswitch run, with --socket or TAPSWITCH_SOCKET where you may write"
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; run as root, or start the daemon with --group"
        }
        io::ErrorKind::TimedOut => "no answer within 5 s; the daemon may hang; look at its log",
        _ => return format!("{source}; is the daemon running? start it with: tapswitch run"),
    };
    text.to_owned()
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without an answer the user is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// Enough for everything about the largest switch many times over.
const MOST_ANSWER: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        future::ready,
        io::{Read, Write},
        os::unix::net::UnixListener,
        process,
        sync::mpsc,
        thread,
    };

    use super::*;

    #[test]
    fn an_answer_without_end_is_an_error() {
        let path = env::temp_dir().join(format!("tapswitch-endless-{}", process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            for head in ["200 OK", "400 Bad Request", "200 OK"] {
                let (mut stream, _) = listener.accept().unwrap();
                // An answer before the question is another error.
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                let head = format!("HTTP/1.1 {head}\r\ncontent-type: application/json\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
                while stream.write_all(&[b' '; 4096]).is_ok() {}
            }
        });
        let mut client = Client::new(&path);
        client.most = 3 << 20;
        let told = format!(
            "talk to the daemon at {}: its answer is longer than 3 MiB; it may be another program: \
             see ss -xlp",
            path.display()
        );
        for _ in 0..2 {
            let refused = client.request(&Request::Show).unwrap_err();
            assert_eq!(refused.to_string(), told);
        }
        let refused = client
            .events(std::future::pending(), |_| ControlFlow::Continue(()))
            .unwrap_err();
        assert_eq!(refused.to_string(), told);
        server.join().unwrap();
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_wish_to_stop_needs_no_answer_of_the_daemon() {
        let path = env::temp_dir().join(format!("tapswitch-deaf-{}", process::id()));
        let deaf = UnixListener::bind(&path).unwrap();
        let client = Client::new(&path);
        let (tell, told) = mpsc::channel();
        // A thread that waits for the daemon after all ends with this program.
        thread::spawn(move || {
            let goes_on = ControlFlow::Continue(());
            let events = client.events(ready(()), |_| goes_on);
            tell.send(events).unwrap();
            let capture = CaptureRequest::default();
            let captured = client.capture(&capture, ready(()), || {}, |_| goes_on);
            tell.send(captured.map(|has_begun| !has_begun)).unwrap();
            let asked = client.request_again(&Request::Show, PATIENCE, ready(()), |_| goes_on);
            tell.send(asked.map(|()| true)).unwrap();
        });
        for what in ["events", "capture", "request_again"] {
            let is_stopped = told.recv_timeout(CONNECT_TIMEOUT).expect(what);
            assert!(is_stopped.unwrap(), "{what}");
        }
        drop(deaf);
        fs::remove_file(path).unwrap();
    }
}
