//! Work that may block, such as plugging a port.

use std::{io, sync::Arc, thread};

use tokio::sync::{Semaphore, oneshot};

/// Threads for such work, only so many at a time: whoever asked may be gone while the work goes on.
#[derive(Clone, Debug)]
pub(crate) struct Threads(Arc<Semaphore>);

impl Threads {
    pub(crate) fn at_most(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Carries `work` out on a thread of its own, as soon as there may be one more. Unlike the
    /// runtime's pool for such work, which keeps what it has no thread for and does it later, this
    /// says so: then nothing was done, and nothing will be.
    ///
    /// # Errors
    /// As the kernel refuses a thread, or if `work` panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let (tell, told) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(move || {
            let done = work();
            drop(permit);
            drop(tell.send(done));
        })?;
        told.await
            .map_err(|_| io::Error::other("it panicked; see the log"))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, channel},
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// Polls once: whoever asked goes right afterwards.
    fn ask_and_go(threads: &Threads, work: impl FnOnce() + Send + 'static) -> bool {
        let mut asked = Box::pin(threads.run("test", work));
        let polled = asked.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(())))
    }

    #[test]
    fn those_who_go_leave_no_more_threads_than_there_may_be() {
        let threads = Threads::at_most(2);
        let (began, begun) = channel();
        let mut gates = Vec::new();
        for _ in 0..100 {
            let (gate, go_on): (_, Receiver<()>) = channel();
            gates.push(gate);
            let began = began.clone();
            ask_and_go(&threads, move || {
                began.send(()).unwrap();
                assert_eq!(go_on.iter().count(), 0);
            });
        }
        drop(began);
        gates.clear();
        // What never began never will.
        assert_eq!(begun.iter().count(), 2);
    }
}
