//! Work that may block, such as plugging a port.

use std::{io, thread};

use tokio::sync::oneshot;

/// Carries `work` out on a thread of its own. Unlike the runtime's pool for such work, which keeps
/// what it has no thread for and does it later, this says so: then nothing was done, and nothing
/// will be.
///
/// # Errors
/// As the kernel refuses a thread, or if `work` panicked.
pub(crate) async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || drop(tell.send(work())))?;
    told.await
        .map_err(|_| io::Error::other("it panicked; see the log"))
}
