//! HTTP on a unix socket, for clients that may be slow, many or hostile.
//!
//! What bounds them: 64 connections, one request each, 5 s for its head and 5 s for its body of at
//! most 1 MiB, and 10 s without taking any of the answer.

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
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Controller,
    connection::{Impatient, Ticket, Waiting},
    routes::{Shared, router},
    socket::ControlSocket,
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
    let stop_of_handlers = stopped.clone();
    let mut server = Server {
        router: router(Shared {
            controller,
            stop: stop_of_handlers,
        }),
        stopped,
        waiting: Waiting::default(),
        connections: JoinSet::new(),
        next_id: 0,
    };
    let mut is_accepting = true;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = server.connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    is_accepting = true;
                    server.admit(stream).await;
                }
                Err(error) => {
                    if std::mem::take(&mut is_accepting) {
                        tracing::warn!("accept control connection: {error}; trying again");
                    }
                    // With no descriptor left the listener stays readable: waiting beats spinning.
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(socket);
    stop.send_replace(true);
    let finished = async { while server.connections.join_next().await.is_some() {} };
    if timeout(FINISH_TIMEOUT, finished).await.is_err() {
        server.connections.shutdown().await;
    }
    Ok(())
}

struct Server {
    router: Router,
    stopped: watch::Receiver<bool>,
    waiting: Waiting,
    connections: JoinSet<()>,
    next_id: u64,
}

impl Server {
    async fn admit(&mut self, stream: UnixStream) {
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
    stream: UnixStream,
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
    let stream = TokioIo::new(Impatient::new(stream, WRITE_PATIENCE));
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
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
