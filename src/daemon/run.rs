//! `tapswitch run`: a switch, its control socket, and the signals.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::FutureExt;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::{DaemonOptions, Switch, SwitchOptions, default_name};
use crate::{
    config::{self, SwitchSpec, TextError},
    control::{
        api::{ApiError, Request, Response},
        metrics::{MetricsError, MetricsListener},
        server::{serve, serve_metrics},
        socket::{ControlSocket, SocketError},
        threads::Threads,
    },
    names::shown,
    web::{self, Node, Token, WebError, WebListener},
};

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration file cannot be read.
    #[error("read {}: {cause}", shown(path))]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why it has no text.
        cause: TextError,
    },
    /// The configuration file has nothing to be read again.
    #[error("read {} again: {cause}", shown(path))]
    ReadAgain {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: &'static str,
    },
    /// The configuration file is wrong.
    #[error("{}", diagnostics.join("\n"))]
    Config {
        /// `FILE:LINE:COLUMN: what is wrong`, each.
        diagnostics: Vec<String>,
    },
    /// The configuration could not be put into force.
    #[error(transparent)]
    Apply(#[from] ApiError),
    /// The control socket could not be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The live page cannot be served.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The kernel refused something that every process may have.
    #[error("{step}: {cause}; check the limits of open files and threads (ulimit -a)")]
    System {
        /// What was to be done.
        step: &'static str,
        /// What the kernel answered.
        cause: io::Error,
    },
}

impl RunError {
    /// Whether what the caller wrote is wrong, so that trying again is no use.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Config { .. } => true,
            Self::ReadConfig { cause, .. } => !matches!(cause, TextError::Read(_)),
            Self::Metrics(error) => error.is_usage(),
            Self::Web(error) => error.is_usage(),
            _ => false,
        }
    }
}

/// Runs a switch until SIGTERM or SIGINT; SIGHUP reads the file again. Writes the line `ready` to
/// `out` when ports forward, and behind it where the live page is, if it is served.
///
/// # Errors
/// A [`RunError`] before anything is ready; nothing is left behind then.
pub fn run(options: &DaemonOptions, out: &mut impl Write) -> Result<(), RunError> {
    let system = |step| move |cause| RunError::System { step, cause };
    // Before anything is touched: a wrong file changes nothing.
    let spec = options.config.as_deref().map(load).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .enable_all()
        .build()
        .map_err(system("start the control threads"))?;
    // Caught from now on: whoever ends the daemon while it starts finds nothing left of it.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::catch().map_err(system("wait for signals"))?
    };
    // Bound first, so that a second daemon says so before it makes devices.
    let socket = ControlSocket::bind(&options.socket, options.group.as_deref())?;
    let metrics = options
        .metrics
        .map(|address| MetricsListener::bind(address, options.metrics_audience))
        .transpose()?;
    let page = page(options)?;
    let name = options.name.clone().unwrap_or_else(default_name);
    let switch = Switch::start(SwitchOptions {
        name: name.clone(),
        workers: options.workers,
        offload: options.offload,
        tuning: options.tuning,
        ..SwitchOptions::default()
    })
    .map_err(system("start the switch"))?;
    let result = runtime.block_on(async {
        if let Some(spec) = spec
            && !signals.apply(&switch, spec).await?
        {
            return Ok(());
        }
        let Signals { mut ends, hangup } = signals;
        let reload = tokio::spawn(reload_on(hangup, switch.clone(), options.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = stopped.map(drop).shared();
        let metrics = metrics.map(|listener| {
            let switch = Arc::new(switch.clone());
            tokio::spawn(serve_metrics(listener, switch, stopped.clone()))
        });
        let live = page
            .as_ref()
            .map(|page| format!("live page: {}\n", page.url()));
        let page = page.map(|listener| {
            let node = Node::here(name, Arc::new(switch.clone()));
            tokio::spawn(web::serve(listener, vec![node], stopped.clone()))
        });
        // Whoever started the daemon may have gone: then nobody waits for the line.
        let live = live.unwrap_or_default();
        drop(write!(out, "ready\n{live}").and_then(|()| out.flush()));
        drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
        tracing::info!(socket = %options.socket.display(), "ready");
        let ended = async {
            ends.recv().await;
            drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
        };
        let served = serve(socket, Arc::new(switch.clone()), ended).await;
        reload.abort();
        drop(stop);
        for (what, server) in [("metrics", metrics), ("the live page", page)] {
            if let Some(server) = server
                && let Ok(Err(error)) = server.await
            {
                tracing::warn!("serve {what}: {error}");
            }
        }
        served.map_err(system("wait for clients"))
    });
    // A request that takes its time, such as a long ping, does not keep the switch.
    runtime.shutdown_background();
    result
}

/// The signals that the daemon knows.
struct Signals {
    ends: Ends,
    hangup: Signal,
}

/// Those that end it.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            ends: Ends {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Puts the first settings into force; false if the daemon was ended meanwhile. What is half
    /// done then goes with the process.
    async fn apply(&mut self, switch: &Switch, spec: SwitchSpec) -> Result<bool, RunError> {
        let (switch, threads) = (switch.clone(), Threads::at_most(1));
        let apply = move || {
            switch.execute(Request::Apply {
                spec,
                dry_run: false,
            })
        };
        tokio::select! {
            done = threads.run("apply", apply) => {
                let step = "apply the settings";
                done.map_err(|cause| RunError::System { step, cause })??;
                Ok(true)
            }
            () = self.ends.recv() => Ok(false),
        }
    }
}

impl Ends {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where the live page is to be served.
fn page(options: &DaemonOptions) -> Result<Option<WebListener>, WebError> {
    let token = options.web_token.as_deref().map(Token::read).transpose()?;
    let bind = |address| WebListener::bind(address, token);
    options.web.map(bind).transpose()
}

/// Reads a configuration file.
///
/// # Errors
/// [`RunError::ReadConfig`] or [`RunError::Config`] with every error of the file.
pub fn load(path: &Path) -> Result<SwitchSpec, RunError> {
    let text = fs::File::open(path)
        .map_err(TextError::Read)
        .and_then(config::read_text)
        .map_err(|cause| RunError::ReadConfig {
            path: path.to_owned(),
            cause,
        })?;
    read(&text, path)
}

/// Reads it again. What was a pipe has no more to say, and what is empty is just being saved: either
/// would delete everything.
fn load_again(path: &Path) -> Result<SwitchSpec, RunError> {
    let refused = |cause| RunError::ReadAgain {
        path: path.to_owned(),
        cause,
    };
    // A pipe would keep whoever opens it waiting. If it cannot be asked, reading it says why.
    if fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        return Err(refused(
            "it is no file that can be read twice; change the switch with tapswitch apply FILE",
        ));
    }
    let spec = load(path)?;
    if spec == SwitchSpec::default() {
        return Err(refused(
            "nothing is in it; if nothing shall be left, use tapswitch apply FILE",
        ));
    }
    Ok(spec)
}

fn read(text: &str, path: &Path) -> Result<SwitchSpec, RunError> {
    config::parse(text).map_err(|diagnostics| RunError::Config {
        diagnostics: diagnostics
            .iter()
            .map(|diagnostic| diagnostic.in_file(path).to_string())
            .collect(),
    })
}

async fn reload_on(mut hangup: Signal, switch: Switch, options: DaemonOptions) {
    let threads = Threads::at_most(1);
    while hangup.recv().await.is_some() {
        let Some(path) = options.config.clone() else {
            tracing::warn!("SIGHUP: there is no file to read again; start with --config FILE");
            continue;
        };
        let switch = switch.clone();
        // Plugging blocks, and enters namespaces on threads of its own.
        let done = threads.run("reload", move || -> Result<Vec<String>, RunError> {
            let spec = load_again(&path)?;
            match switch.execute(Request::Apply {
                spec,
                dry_run: false,
            })? {
                Response::Plan(steps) => Ok(steps),
                _ => Ok(Vec::new()),
            }
        });
        match done.await {
            Ok(Ok(steps)) => tracing::info!(steps = steps.len(), "SIGHUP: {}", steps.join("; ")),
            Ok(Err(error)) => tracing::error!("SIGHUP: {error}"),
            Err(error) => tracing::error!("SIGHUP: {error}"),
        }
    }
}

/// Threads for clients; frames have their own.
const CONTROL_THREADS: usize = 2;
