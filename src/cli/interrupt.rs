//! Ctrl-C, and its relatives, as something to wait for.

use std::{io, thread};

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::oneshot;

/// The wish that the program end. The first such signal is a wish, the second an order: then it
/// ends at once, as if nobody had waited.
pub(super) struct Interrupt;

impl Interrupt {
    /// Is ready at the first signal from now on.
    pub(super) fn wish() -> io::Result<impl Future<Output = ()>> {
        let (wish, wished) = oneshot::channel();
        Self::tell(move || {
            let _: Result<(), ()> = wish.send(());
        })?;
        Ok(async { drop(wished.await) })
    }

    /// Calls `told` at the first signal, on a thread of its own. To be called before other threads
    /// start, which would take the signals.
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
}
