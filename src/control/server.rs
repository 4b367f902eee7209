//! HTTP on a unix socket, and for metrics and the live page on TCP, for clients that may be slow, many or hostile.
//!
//! What bounds them: 64 connections, one request each, as many requests, also of those who have gone, 5 s for its head and 5 s for its body of at
//! most 1 MiB, and 10 s without taking any of the answer, unless that is a capture, of which there are
//! few.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Controller,
    connection::{Impatient, Ticket, Waiting},
    metrics::MetricsListener,
    routes::{Scrapes, Shared, metrics_router, router},
    socket::ControlSocket,
    threads::Threads,
};

/// Answers requests on `socket` until `shutdown` is ready, then lets running ones finish.
///
/// # Errors
/// The socket cannot be waited on. What clients do is never an error.
pub async fn serve(
    socket: ControlSocket,
    controller: Arc<dyn Controller>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener()?)?;
    let (stop, stopped) = watch::channel(false);
    let router = router(Shared {
        controller,
        stop: stopped.clone(),
        scrapes: Scrapes::default(),
        threads: Threads::at_most(MAX_CONNECTIONS),
    });
    let server = Server::new(router, stopped);
    server.run(listener, shutdown, stop, || drop(socket)).await;
    Ok(())
}

/// Answers `GET /metrics` and nothing else on `listener` until `shutdown` is ready, with the same
/// bounds.
///
/// # Errors
/// The socket cannot be waited on.
pub async fn serve_metrics(
    listener: MetricsListener,
    controller: Arc<dyn Controller>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let audience = listener.audience();
    let router = |stop| {
        let shared = Shared {
            controller,
            stop,
            scrapes: Scrapes::kept_for(SCRAPE_LIFETIME),
            // Also of those who have gone: one reading after the other.
            threads: Threads::at_most(1),
        };
        metrics_router(shared, audience)
    };
    serve_tcp(listener.into_std(), router, shutdown).await
}

/// Answers with what `router` makes on `listener` until `shutdown` is ready, with the same bounds.
/// Answers that do not end by themselves are to end when the value that `router` gets is true.
///
/// # Errors
/// The socket cannot be waited on.
pub(crate) async fn serve_tcp(
    listener: std::net::TcpListener,
    router: impl FnOnce(watch::Receiver<bool>) -> Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let (stop, stopped) = watch::channel(false);
    let server = Server::new(router(stopped.clone()), stopped);
    server.run(listener, shutdown, stop, || ()).await;
    Ok(())
}

/// A socket that connections come from.
trait Listen {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    async fn next(&self) -> io::Result<Self::Stream>;
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

struct Server {
    router: Router,
    stopped: watch::Receiver<bool>,
    waiting: Waiting,
    connections: JoinSet<()>,
    next_id: u64,
}

impl Server {
    fn new(router: Router, stopped: watch::Receiver<bool>) -> Self {
        Self {
            router,
            stopped,
            waiting: Waiting::default(),
            connections: JoinSet::new(),
            next_id: 0,
        }
    }

    /// Serves until `shutdown`, calls `closed` when nobody can connect any more, and lets running
    /// requests finish.
    async fn run(
        mut self,
        listener: impl Listen,
        shutdown: impl Future<Output = ()>,
        stop: watch::Sender<bool>,
        closed: impl FnOnce(),
    ) {
        let mut is_accepting = true;
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = self.connections.join_next() => {}
                accepted = listener.next() => match accepted {
                    Ok(stream) => {
                        is_accepting = true;
                        self.admit(stream).await;
                    }
                    Err(error) => {
                        if std::mem::take(&mut is_accepting) {
                            tracing::warn!("accept connection: {error}; trying again");
                        }
                        // With no descriptor left the listener stays readable: waiting beats
                        // spinning.
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        closed();
        stop.send_replace(true);
        let finished = async { while self.connections.join_next().await.is_some() {} };
        if timeout(FINISH_TIMEOUT, finished).await.is_err() {
            self.connections.shutdown().await;
        }
    }

    async fn admit(&mut self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        if self.connections.len() >= MAX_CONNECTIONS {
            if !self.waiting.evict_oldest() {
                drop(stream);
                return;
            }
            self.connections.join_next().await;
        }
        let id = self.next_id;
        self.next_id += 1;
        let Self {
            router,
            stopped,
            waiting,
            connections,
            ..
        } = self;
        waiting.add(id, |ticket| {
            connections.spawn(attend(stream, router.clone(), ticket, stopped.clone()))
        });
    }
}

async fn attend(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    ticket: Ticket,
    mut stop: watch::Receiver<bool>,
) {
    let ticket = Arc::new(ticket);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&ticket));
        router.call(request)
    });
    let stream = TokioIo::new(Impatient::new(stream, Arc::clone(&ticket), WRITE_PATIENCE));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(stream, service);
    tokio::pin!(connection);
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let early = tokio::select! {
        outcome = &mut connection => Some(outcome),
        () = stopped => None,
    };
    let outcome = match early {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("control connection: {error}");
    }
}

const MAX_CONNECTIONS: usize = 64;
const MAX_HEAD: usize = 16 * 1024;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Counters served over TCP are at most so old.
const SCRAPE_LIFETIME: Duration = Duration::from_millis(250);
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
