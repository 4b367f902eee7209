//! The daemon: ports, workers and the control socket in one process.

mod options;

pub use self::options::DaemonOptions;

/// Runs the daemon until it is told to end.
///
/// # Errors
/// It could not be started; says what stood in the way.
pub fn run(options: &DaemonOptions) -> anyhow::Result<()> {
    let socket = options.socket.display();
    anyhow::bail!("run the daemon on {socket}: not built yet")
}
