//! Connections and what bounds them.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::AbortHandle,
    time::{Sleep, sleep},
};

/// The connections that have not sent their request yet, oldest first.
///
/// They are the ones to give up when all places are taken: whoever holds a connection without
/// asking for anything makes room for somebody who does.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<VecDeque<(u64, AbortHandle)>>>);

impl Waiting {
    /// Calls `spawn` for the task of a new connection.
    pub(super) fn add(&self, id: u64, spawn: impl FnOnce(Ticket) -> AbortHandle) {
        let ticket = Ticket {
            id,
            waiting: self.clone(),
            is_patient: AtomicBool::new(false),
        };
        // Locked before the task starts, so that it cannot leave before it has come.
        let mut queue = self.lock();
        let handle = spawn(ticket);
        queue.push_back((id, handle));
    }

    /// Ends the connection that has kept the others waiting longest, if there is one.
    pub(super) fn evict_oldest(&self) -> bool {
        let oldest = self.lock().pop_front();
        oldest.map(|(_, handle)| handle.abort()).is_some()
    }

    fn remove(&self, id: u64) {
        self.lock().retain(|(other, _)| *other != id);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, AbortHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the waiting ones.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: u64,
    waiting: Waiting,
    is_patient: AtomicBool,
}

impl Ticket {
    /// The request is here in full: from now on the connection is not given up for another one.
    pub(crate) fn request_is_complete(&self) {
        self.waiting.remove(self.id);
    }

    /// From now on the client may take its time with the answer.
    pub(super) fn may_be_slow(&self) {
        self.is_patient.store(true, Ordering::Relaxed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiting.remove(self.id);
    }
}

/// A stream that fails when its peer takes nothing for a while, unless it may be slow.
#[derive(Debug)]
pub(super) struct Impatient<S> {
    stream: S,
    ticket: Arc<Ticket>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) fn new(stream: S, ticket: Arc<Ticket>, patience: Duration) -> Self {
        Self {
            stream,
            ticket,
            patience,
            stalled: None,
        }
    }

    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() || self.ticket.is_patient.load(Ordering::Relaxed) {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.judge(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.judge(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
