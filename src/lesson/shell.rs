//! A shell that is typed into, command by command, and keeps its variables.

use std::{
    fs::File,
    io::{self, PipeReader, Read, Write, pipe},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::lang::Lang;
use crate::sys::{child::spawn_in, clock, netns::NetnsFile};

/// A running shell.
#[derive(Debug)]
pub(super) struct Shell {
    child: Child,
    /// What it reads its commands from.
    typed: OwnedFd,
    /// What its commands print.
    printed: PipeReader,
    /// Where it says how each of them ended.
    ends: PipeReader,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this code; the shell is there for more.
    Code(i32),
    /// With this code, and the shell with it.
    Over(i32),
    /// Not within [`PATIENCE`]; the shell is gone.
    Late,
    /// It printed more than [`MOST`]; the shell is gone.
    Flood,
}

impl End {
    /// The exit code.
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Code(code) | Self::Over(code) => code,
            // As timeout(1) has it.
            Self::Late => 124,
            // As if by SIGPIPE.
            Self::Flood => 141,
        }
    }

    /// Why it was ended, as the rest of a sentence.
    pub(super) fn because(self, lang: Lang) -> Option<&'static str> {
        Some(match (self, lang) {
            (Self::Code(_) | Self::Over(_), _) => return None,
            (Self::Late, Lang::En) => "is still running after 60 seconds",
            (Self::Late, Lang::Zh) => "60 秒后还在运行",
            (Self::Flood, Lang::En) => "has printed more than 1 MiB",
            (Self::Flood, Lang::Zh) => "输出超过了 1 MiB",
        })
    }
}

/// What a failure of a command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The end of the script, as with `sh -e`.
    IsTheEnd,
    /// Nothing special.
    IsFine,
}

impl Shell {
    /// Starts a shell in `netns`; `prepare` sets its environment.
    pub(super) fn start(netns: &NetnsFile, prepare: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let (script, typed) = pipe()?;
        let (printed, output) = pipe()?;
        let (ends, status) = pipe()?;
        let mut command = Command::new("sh");
        // The commands come through a descriptor of their own, so that none of them reads another.
        let inner = "exec 8<&0 9>&2 2>&1 </dev/null; exec sh /dev/fd/8";
        command
            .args(["-c", inner])
            .stdin(script)
            .stdout(output)
            .stderr(status);
        prepare(&mut command);
        let child = spawn_in(netns, &mut command)?;
        let mut shell = Self {
            child,
            typed: typed.into(),
            printed,
            ends,
        };
        shell.type_in("trap 'echo \"over $?\" >&9' EXIT\nset -e\n")?;
        Ok(shell)
    }

    /// Types a command and waits for its end, but not for ever. What is printed meanwhile goes to
    /// `print`, in pieces.
    pub(super) fn run(
        &mut self,
        command: &str,
        failure: Failure,
        print: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<End> {
        let (before, after) = match failure {
            Failure::IsTheEnd => ("", ""),
            Failure::IsFine => ("set +e\n", "set -e\n"),
        };
        self.type_in(&format!("{before}{command}\necho \"done $?\" >&9\n{after}"))?;
        let start = clock::now();
        let mut said = String::new();
        let mut printed = 0;
        loop {
            if clock::now().since(start) > PATIENCE {
                self.kill();
                return Ok(End::Late);
            }
            let [has_output, has_end] = self.wait()?;
            if has_output {
                printed += self.pass_on(print)?;
                if printed > MOST {
                    self.kill();
                    return Ok(End::Flood);
                }
            }
            if has_end {
                let mut bytes = [0; 64];
                let len = self.ends.read(&mut bytes)?;
                said += &String::from_utf8_lossy(&bytes[..len]);
                if let Some(end) = said
                    .lines()
                    .find_map(end_of)
                    .filter(|_| said.ends_with('\n'))
                {
                    // All that it printed was in the pipe before; others may print on.
                    let mut drained = 0;
                    while drained < PIPE && self.wait_for(PollTimeout::ZERO)?[0] {
                        drained += self.pass_on(print)?;
                    }
                    return Ok(end);
                }
            }
            if !has_output && let Some(status) = self.child.try_wait()? {
                return Ok(End::Over(status.code().unwrap_or(1)));
            }
        }
    }

    fn type_in(&mut self, text: &str) -> io::Result<()> {
        File::from(self.typed.try_clone()?).write_all(text.as_bytes())
    }

    fn pass_on(&mut self, print: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let len = self.printed.read(&mut bytes)?;
        print(&bytes[..len])?;
        Ok(len)
    }

    /// Waits a moment for output, and for an end.
    fn wait(&self) -> io::Result<[bool; 2]> {
        self.wait_for(PollTimeout::from(50_u8))
    }

    fn wait_for(&self, timeout: PollTimeout) -> io::Result<[bool; 2]> {
        let watched = |pipe| PollFd::new(pipe, PollFlags::POLLIN);
        let mut pipes = [watched(self.printed.as_fd()), watched(self.ends.as_fd())];
        poll(&mut pipes, timeout)?;
        // A pipe that nobody writes to any more is no news.
        Ok(pipes.map(|pipe| {
            pipe.revents()
                .is_some_and(|is| is.contains(PollFlags::POLLIN))
        }))
    }

    fn kill(&mut self) {
        // Not reaped yet, so the number is still its own.
        let group = i32::try_from(self.child.id()).unwrap_or(i32::MAX);
        let _ended_already = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.kill();
        drop(self.child.wait());
    }
}

fn end_of(line: &str) -> Option<End> {
    let (word, code) = line.split_once(' ')?;
    let code = code.parse().ok()?;
    match word {
        "done" => Some(End::Code(code)),
        "over" => Some(End::Over(code)),
        _ => None,
    }
}

/// How long a command may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How much a command may print.
pub(super) const MOST: usize = 1 << 20;
/// What a pipe holds: pipe(7).
const PIPE: usize = 64 << 10;
