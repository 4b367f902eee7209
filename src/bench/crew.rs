//! The processes that make and take the load of one measurement.

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;

use super::{
    load::{Job, Order, Window},
    topology::Pod,
};
use crate::{
    sys::{child::spawn_in, clock},
    time::Timestamp,
};

/// All processes of one measurement. They are killed when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Crew {
    members: Vec<Member>,
}

/// Which process of a crew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemberId(usize);

/// How long a process may take to get ready, and to tell its result after the end.
const PATIENCE: Duration = Duration::from_secs(5);

impl Crew {
    /// Starts a process in the namespace of `pod`, and waits until it is ready.
    pub(super) fn add(
        &mut self,
        pod: &Pod,
        job: Job,
        cpu: Option<usize>,
    ) -> Result<MemberId, String> {
        let mut member = Member::start(pod, &Order { job, cpu })?;
        let line = member.line(clock::now() + PATIENCE)?;
        if line != "ready" {
            return Err(member.failed(&format!("it said {line:?} instead of ready")));
        }
        self.members.push(member);
        Ok(MemberId(self.members.len() - 1))
    }

    /// Tells all when to start and to count.
    pub(super) fn start(&mut self, window: Window) -> Result<(), String> {
        let line = window.to_line();
        self.members.iter_mut().try_for_each(|member| {
            let told = member.stdin.write_all(line.as_bytes());
            told.map_err(|error| member.failed(&format!("tell it when to start: {error}")))
        })
    }

    /// Waits for the end of all until shortly after `end`, and collects what they counted.
    pub(super) fn finish(mut self, end: Timestamp) -> Result<Results, String> {
        let deadline = end + PATIENCE;
        let lines = self.members.iter_mut().map(|member| member.line(deadline));
        Ok(Results(lines.collect::<Result<_, _>>()?))
    }
}

/// What the processes of a crew counted.
#[derive(Debug)]
pub(super) struct Results(Vec<String>);

impl Results {
    pub(super) fn of<T: DeserializeOwned>(&self, member: MemberId) -> Result<T, String> {
        let line = self.0.get(member.0).map_or("", String::as_str);
        serde_json::from_str(line).map_err(|error| format!("read result {line:?}: {error}"))
    }
}

#[derive(Debug)]
struct Member {
    name: String,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    /// What has been read and is not a whole line yet.
    rest: Vec<u8>,
}

impl Member {
    fn start(pod: &Pod, order: &Order) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("start load process for {}: {error}", pod.address)
        };
        let order = serde_json::to_string(order).map_err(|error| failed(&error))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["load", &order])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn_in(&pod.netns, &mut command).map_err(|error| failed(&error))?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok(Self {
                name: format!("load process of {}, {order}", pod.address),
                child,
                stdin,
                stdout,
                stderr,
                rest: Vec::new(),
            }),
            _ => Err(failed(&"it has no pipes")),
        }
    }

    /// The next line that it prints.
    fn line(&mut self, deadline: Timestamp) -> Result<String, String> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match self.read(deadline) {
                Ok(0) => return Err(self.failed("it ended without a result")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(self.failed("it did not answer in time and was killed"));
                }
                Err(error) => return Err(self.failed(&format!("read its answer: {error}"))),
            }
        }
    }

    fn read(&mut self, deadline: Timestamp) -> io::Result<usize> {
        let left = deadline.since(clock::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut watched = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
        if poll(&mut watched, timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut buf = [0; 4096];
        let len = self.stdout.read(&mut buf)?;
        self.rest
            .extend_from_slice(buf.get(..len).unwrap_or_default());
        Ok(len)
    }

    /// Ends it, and adds what it complained about to `what`.
    fn failed(&mut self, what: &str) -> String {
        self.kill();
        let mut complaint = String::new();
        // Nobody else has the other end any more, so this ends.
        drop(self.stderr.read_to_string(&mut complaint));
        let name = &self.name;
        match complaint.trim() {
            "" => format!("{name}: {what}"),
            complaint => format!("{name}: {what}: {complaint}"),
        }
    }

    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
