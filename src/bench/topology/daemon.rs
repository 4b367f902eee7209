//! Switches that are programs: started in a node, watched, and gone with the value.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    time::{clock_getcpuclockid, clock_gettime},
    unistd::{Pid, getpgid},
};

use super::Unavailable;
use crate::sys::{cause_text, child::spawn_in, clock, netns::NetnsFile};

/// A directory that is gone with the value.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes one; its name has `label` in it. Below `/run`, since paths of sockets must be short.
    pub(super) fn new(label: &str) -> Result<Self, Unavailable> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/run/bench-{}-{count}-{label}", process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(cause) => Err(Unavailable::Failed(format!(
                "make directory {}: {}; is /run a tmpfs of its own?",
                path.display(),
                cause_text(&cause)
            ))),
        }
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The same as text.
    pub(super) fn text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // It may hold what somebody else still writes to; on a private /run nothing stays anyway.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A running program, with those of its process group; all are killed with the value.
#[derive(Debug)]
pub(super) struct Daemon {
    name: String,
    child: Child,
    output: PathBuf,
    complaints: PathBuf,
}

impl Daemon {
    /// Starts `command` in `netns`. What it says goes to files in `directory`, under `name`, which
    /// is unique there. It dies with the calling thread.
    pub(super) fn start(
        netns: &NetnsFile,
        directory: &Directory,
        name: &str,
        command: &mut Command,
    ) -> Result<Self, Unavailable> {
        let failed = |cause: io::Error| {
            let (place, cause) = (netns.label(), cause_text(&cause));
            Unavailable::Failed(format!(
                "start {name} in the {place}: {cause}; check its command line"
            ))
        };
        let (output, complaints) = ["out", "err"]
            .map(|end| directory.file(&format!("{name}.{end}")))
            .into();
        command
            // Open as long as it runs: vde_switch ends at the end of its input.
            .stdin(Stdio::piped())
            .stdout(File::create(&output).map_err(failed)?)
            .stderr(File::create(&complaints).map_err(failed)?);
        Ok(Self {
            name: name.to_owned(),
            child: spawn_in(netns, command).map_err(failed)?,
            output,
            complaints,
        })
    }

    /// Waits until it says `ready`.
    pub(super) fn wait_ready(&mut self) -> Result<(), Unavailable> {
        let output = self.output.clone();
        let says = |path: &Path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().any(|line| line.trim() == "ready")
        };
        self.wait_for("say `ready`", || says(&output))
    }

    /// Waits until `condition` holds, which is what the program is waited for to do.
    pub(super) fn wait_for(
        &mut self,
        what: &str,
        condition: impl Fn() -> bool,
    ) -> Result<(), Unavailable> {
        let start = clock::now();
        while !condition() {
            let ended = match self.child.try_wait() {
                Ok(Some(status)) => Some(format!("it ended: {status}")),
                _ if clock::now().since(start) > PATIENCE => {
                    Some(format!("not within {} s", PATIENCE.as_secs()))
                }
                _ => None,
            };
            if let Some(ended) = ended {
                let (name, said) = (&self.name, self.last_words());
                return Err(Unavailable::Failed(format!(
                    "wait for {name} to {what}: {ended}; {said}"
                )));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The end of what it said.
    pub(super) fn last_words(&self) -> String {
        let said = [&self.complaints, &self.output].map(|path| {
            let text = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let text = said.into_iter().find(|text| !text.is_empty());
        let Some(text) = text else {
            return "it said nothing".to_owned();
        };
        let lines: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let end = &lines[lines.len().saturating_sub(LAST_LINES)..];
        format!("it said: {}", end.join("; "))
    }

    fn pid(&self) -> Pid {
        // The kernel's pids are positive `int`s.
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

/// CPU time of all of them and of what they have started that still runs, in nanoseconds; `None`
/// without any.
pub(super) fn cpu_ns(daemons: &[Daemon]) -> Option<u64> {
    if daemons.is_empty() {
        return None;
    }
    let is_ours = |group| daemons.iter().any(|daemon| daemon.pid() == group);
    let numbers = fs::read_dir("/proc").ok()?.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let processes = numbers.map(Pid::from_raw);
    let ours = processes.filter(|&process| getpgid(Some(process)).is_ok_and(is_ours));
    Some(ours.filter_map(process_cpu_ns).sum())
}

/// CPU time of all threads of a process, also of those that have ended.
fn process_cpu_ns(process: Pid) -> Option<u64> {
    let clock = clock_getcpuclockid(process).ok()?;
    let time = Duration::from(clock_gettime(clock).ok()?);
    u64::try_from(time.as_nanos()).ok()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Not reaped yet, so the number is still its own. It leads a group of its own; a shell's
        // children are in it too.
        let _ended_already = killpg(self.pid(), Signal::SIGKILL);
        drop(self.child.wait());
    }
}

/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of what it said is told.
const LAST_LINES: usize = 6;
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(2);
