//! The program, running as people run it, in a directory of its own below `/run`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{command, succeeded, wait_until};

/// A daemon; every frame must be accounted for when it ends.
#[must_use = "it ends when it is dropped"]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    page: Option<String>,
}

impl Daemon {
    /// With a configuration file.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        let directory = directory();
        let file = directory.join("config.toml");
        fs::write(&file, config).unwrap();
        Self::start_in(&directory, &["--config", file.to_str().unwrap()])
    }

    /// With options of `tapswitch run`.
    #[track_caller]
    pub fn start_with(options: &[&str]) -> Self {
        Self::start_in(&directory(), options)
    }

    #[track_caller]
    fn start_in(directory: &Path, options: &[&str]) -> Self {
        let socket = directory.join("control.sock");
        let mut child = program(&socket)
            .arg("run")
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("ready"));
        let page = options.contains(&"--web").then(|| {
            let line = lines.next().unwrap();
            let url = line.strip_prefix("live page: http://").unwrap();
            url.trim_end_matches('/').to_owned()
        });
        Self {
            child,
            socket,
            page,
        }
    }

    /// Address and port of its live page.
    #[track_caller]
    pub fn page(&self) -> &str {
        self.page.as_deref().expect("a page was asked for")
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `tapswitch`, as its client.
    pub fn program(&self) -> Command {
        program(&self.socket)
    }

    /// Runs `tapswitch ARGUMENTS`.
    pub fn run(&self, arguments: &str) -> Output {
        let words = arguments.split_whitespace();
        self.program().args(words).output().unwrap()
    }

    /// What `tapswitch ARGUMENTS` prints.
    #[track_caller]
    pub fn screen(&self, arguments: &str) -> String {
        succeeded(arguments, Ok(self.run(arguments)))
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &str) -> serde_json::Value {
        serde_json::from_str(&self.screen(&format!("{arguments} --json"))).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !thread::panicking() {
            wait_until(
                "every frame is accounted for",
                Duration::from_secs(5),
                || self.json("stats")["unaccounted"] == 0,
            );
        }
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), Signal::SIGTERM).ok();
        drop(self.child.wait());
    }
}

fn directory() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = PathBuf::from(format!("/run/daemon-{number}"));
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn program(socket: &Path) -> Command {
    let mut program = command(env!("CARGO_BIN_EXE_tapswitch"));
    program
        .env("TAPSWITCH_SOCKET", socket)
        .env("TAPSWITCH_LOG", "warn")
        .env("COLUMNS", "200")
        .stdin(Stdio::null());
    program
}
