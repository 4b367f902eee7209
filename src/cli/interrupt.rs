//! Ctrl-C, and its relatives, as something to wait for.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};

/// The wish that the program end. The first such signal is a wish, the second an order: then it
/// ends at once, as if nobody had waited.
pub(super) struct Interrupt(Receiver<()>);

impl Interrupt {
    /// From now on. To be called before other threads start, which would take the signals.
    pub(super) fn wait_for() -> io::Result<Self> {
        let (wish, wishes) = channel();
        Self::tell(move || {
            let _: Result<(), _> = wish.send(());
        })?;
        Ok(Self(wishes))
    }

    /// Calls `told` at the first signal, on a thread of its own.
    pub(super) fn tell(told: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        let wait = move || {
            if signals.wait().is_ok() {
                told();
            }
            // Where the signals go from now on, and do what they always do.
            let _: nix::Result<()> = signals.thread_unblock();
            loop {
                thread::park();
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .map(drop)
    }

    /// Waits for it; false if it has not come within `time`.
    pub(super) fn within(&self, time: Duration) -> bool {
        !matches!(self.0.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}
