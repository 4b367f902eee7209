//! A network namespace with a unique name, deleted when the test ends, however it ends.

use std::{
    io,
    process::{self, Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tapswitch::{
    names::NetnsRef,
    sys::netns::{NetnsFile, NetnsId},
};

use super::{command, ip, succeeded};

/// A named network namespace, made with `ip netns add`.
#[must_use = "it is deleted when it is dropped"]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one whose name ends in `label`.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("tsw-{}-{count}-{label}", process::id()))
    }

    /// Makes one of exactly this name.
    #[track_caller]
    pub fn named(name: &str) -> Self {
        ip(&format!("netns add {name}"));
        Self {
            name: name.to_owned(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn reference(&self) -> NetnsRef {
        self.name.parse().unwrap()
    }

    /// The open namespace. It keeps the namespace alive.
    #[track_caller]
    pub fn open(&self) -> NetnsFile {
        NetnsFile::open(&self.reference()).unwrap()
    }

    #[track_caller]
    pub fn id(&self) -> NetnsId {
        self.open().id()
    }

    /// Runs `f` on a thread inside.
    #[track_caller]
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.open().run_in(f).unwrap()
    }

    /// Runs a program inside to its end.
    #[track_caller]
    pub fn exec(&self, arguments: &[&str]) -> Output {
        self.output(arguments).unwrap()
    }

    /// Starts a program inside, without input and output.
    #[track_caller]
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let child = self.run(|| {
            program(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        });
        Running(child.unwrap())
    }

    /// Runs `ip` inside and returns what it printed.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        let words: Vec<&str> = ["ip"]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        let what = format!("in {}: ip {arguments}", self.name);
        succeeded(&what, self.output(&words))
    }

    /// The names of the interfaces inside.
    #[track_caller]
    pub fn links(&self) -> Vec<String> {
        link_names(&self.ip("-o link show"))
    }

    /// Deletes the name, as a user does; the namespace dies if nothing else holds it.
    #[track_caller]
    pub fn delete(self) {
        ip(&format!("netns del {}", self.name));
    }

    #[track_caller]
    fn output(&self, arguments: &[&str]) -> io::Result<Output> {
        self.run(|| program(arguments).stdin(Stdio::null()).output())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Fails if the test has deleted it already.
        drop(command("ip").args(["netns", "del", &self.name]).output());
    }
}

/// A program that is killed when the test ends, however it ends.
#[must_use = "it is killed when it is dropped"]
pub struct Running(Child);

impl Running {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills it and waits for its end.
    pub fn stop(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn program(arguments: &[&str]) -> Command {
    let (first, rest) = arguments.split_first().unwrap();
    let mut command = command(first);
    command.args(rest);
    command
}

/// The names in the output of `ip -o link show`: `2: eth0@if3: <...>`.
pub(super) fn link_names(output: &str) -> Vec<String> {
    let name = |line: &str| {
        let name = line.split(": ").nth(1)?;
        Some(name.split('@').next()?.to_owned())
    };
    output.lines().filter_map(name).collect()
}
