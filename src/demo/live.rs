//! `tapswitch demo --web`: the same two nodes with some traffic, in a browser, until somebody ends
//! it.

use std::{
    env,
    future::Future,
    io::{self, Write},
    net::SocketAddr,
    os::fd::RawFd,
    path::PathBuf,
    sync::mpsc,
    thread,
};

use tokio::runtime;

use super::{MARK, namespaces::Stage, prepare, tell, traffic};
use crate::{
    sys::inherit,
    web::{self, Token, WebError, WebListener},
};

/// Where the page of the demo is.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Where browsers find it.
    pub address: SocketAddr,
    /// The file with the word that it takes to change something from there.
    pub token: Option<PathBuf>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// It cannot be served.
    #[error(transparent)]
    Web(#[from] WebError),
    /// There are no real namespaces here, and hosts that are only simulated have no page.
    #[error("show the demo in a browser: {reason}")]
    Impossible {
        /// What is missing, and what to do about it.
        reason: String,
    },
    /// The output cannot be written, or the demo itself failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LiveError {
    /// Whether what the caller wrote is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Web(error) if error.is_usage())
    }
}

/// Runs the demo until what `until` returns is ready. Must be called before the process has started
/// threads, so that an ordinary user's can move into a user namespace; `until` may start some.
///
/// # Errors
/// A [`LiveError`]; nothing is left behind then.
pub fn live<F: Future<Output = ()>>(
    options: &LiveOptions,
    until: impl FnOnce() -> io::Result<F>,
    out: &mut impl Write,
) -> Result<(), LiveError> {
    let token = options.token.as_deref().map(Token::read).transpose();
    let token = token.map_err(WebError::from)?;
    // The browser is outside: so is the socket, which is opened before this process goes inside.
    let listener = match left_open()? {
        Some(socket) => WebListener::new(socket, token)?,
        None => WebListener::bind(options.address, token)?,
    };
    let impossible = |reason| LiveError::Impossible { reason };
    let place = prepare(Some((SOCKET, listener.socket()))).map_err(impossible)?;
    let ended = until()?;
    let stage = Stage::build_silent().map_err(impossible)?;
    writeln!(out, "{place}\n")?;
    out.write_all(tell::PICTURE.as_bytes())?;
    writeln!(out, "\nlive page: {}\nCtrl-C ends it.", listener.url())?;
    out.flush()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let (pods, nodes) = (stage.pods(), stage.web_nodes());
        thread::Builder::new()
            .name("traffic".to_owned())
            .spawn_scoped(scope, move || traffic::keep_going(pods, &stopped))?;
        let served = runtime.block_on(web::serve(listener, nodes, ended));
        drop(stop);
        served
    })?;
    runtime.shutdown_background();
    Ok(writeln!(out, "ended; nothing is left of it")?)
}

/// The socket that this program opened before it started itself again.
fn left_open() -> io::Result<Option<std::net::TcpListener>> {
    if env::var_os(MARK).is_none() {
        return Ok(None);
    }
    let number = env::var(SOCKET).ok();
    let number = number.and_then(|number| number.parse::<RawFd>().ok());
    number.map(inherit::left_open).transpose()
}

/// Where its number is.
const SOCKET: &str = "TAPSWITCH_DEMO_SOCKET";
