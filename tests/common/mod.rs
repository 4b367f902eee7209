//! The private world of the tests that need a real kernel.
//!
//! Before any thread starts, the test binary enters a mount and network namespace of its own (and a
//! user namespace, if it is not root), with an empty `/run`. So `ip netns add` and every device of a
//! test stay invisible to the machine, and die with the binary. What cannot run here is reported
//! as ignored, with the reason, and never as passed.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test binary compiles this as its own and uses its part"
)]

mod daemon;
mod netns;
mod packet;

use std::{
    env, fs, io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Output},
    thread,
    time::Duration,
};

use libtest_mimic::{Arguments, Completion, Trial};
use nix::sys::signal::Signal;
use tapswitch::sys::{Tap, TapOptions, clock, userns::enter_private_namespaces};

pub use self::{
    daemon::Daemon,
    netns::{Netns, Running},
    packet::{PacketSocket, pcap},
};

/// What this process may do.
pub struct Env {
    /// Why tests that need a real kernel cannot run here; `None`: they can.
    pub reason_not_to_run: Option<String>,
}

impl Env {
    /// A test that panics on failure and is ignored where it cannot run.
    pub fn trial(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
        self.trial_with(&[], name, body)
    }

    /// The same, for a test that runs these programs.
    pub fn trial_with(
        &self,
        programs: &[&str],
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Trial {
        let missing = || {
            let program = programs.iter().find(|program| !is_installed(program))?;
            Some(format!("{program} is not installed"))
        };
        let reason = self.reason_not_to_run.clone().or_else(missing);
        Trial::ignorable_test(name, move || {
            if let Some(reason) = reason {
                return Ok(Completion::ignored_with(reason));
            }
            body();
            Ok(Completion::Completed)
        })
    }

    /// Enters the private namespaces; before any thread is started.
    pub fn enter() -> Self {
        let reason_not_to_run = enter_private_namespaces()
            .map_err(|error| error.to_string())
            .and_then(|()| check_tools())
            .err();
        Self { reason_not_to_run }
    }
}

/// Runs the trials one after the other: they count descriptors and measure delays.
pub fn main(tests: impl FnOnce(&Env) -> Vec<Trial>) -> ExitCode {
    main_at_once(1, tests)
}

/// Runs so many of the trials at once, for those that have nothing in common. They begin in their
/// order.
pub fn main_at_once(count: usize, tests: impl FnOnce(&Env) -> Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(count);
    if is_interrupt_ignored() {
        return start_again_with_interrupt();
    }
    let env = Env::enter();
    libtest_mimic::run(&arguments, tests(&env)).exit_code()
}

/// Whether whoever started this ignores SIGINT, as shell scripts do for what they start with `&`.
/// Programs inherit that, and do not end then when a test interrupts them.
fn is_interrupt_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (Signal::SIGINT as u32 - 1)) != 0)
}

fn start_again_with_interrupt() -> ExitCode {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT");
    command.arg(env::current_exe().unwrap());
    let error = command.args(env::args_os().skip(1)).exec();
    eprintln!("run env --default-signal=INT: {error}; install coreutils 8.31 or later");
    ExitCode::FAILURE
}

fn check_tools() -> Result<(), String> {
    let ran = command("ip").args(["link", "set", "lo", "up"]).output();
    match ran {
        Err(error) => return Err(format!("run ip: {error}; install iproute2")),
        Ok(output) if !output.status.success() => {
            return Err(format!("ip link set lo up: {}", text(&output.stderr)));
        }
        Ok(_) => {}
    }
    let tap = Tap::create(&TapOptions::default());
    tap.map(drop).map_err(|error| error.to_string())
}

/// Why the kernel makes no vxlan device; `None` if it does.
pub fn no_vxlan() -> Option<String> {
    let ip = |words: &str| command("ip").args(words.split(' ')).output();
    match ip("link add probe type vxlan id 1 dstport 4789") {
        Ok(output) if output.status.success() => {
            drop(ip("link del probe"));
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(format!("ip link add type vxlan: {}", said.trim()))
        }
        Err(error) => Some(format!("run ip: {error}")),
    }
}

/// A command that is found also where an ordinary user's `PATH` lacks the sbin directories.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path());
    command
}

fn search_path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin")
}

fn is_installed(program: &str) -> bool {
    env::split_paths(&search_path()).any(|directory| directory.join(program).is_file())
}

/// Runs `ip` in the namespace of the test binary and returns what it printed.
#[track_caller]
pub fn ip(arguments: &str) -> String {
    let output = command("ip").args(arguments.split_whitespace()).output();
    succeeded(&format!("ip {arguments}"), output)
}

/// What a program printed; panics with its complaint if it failed.
#[track_caller]
pub fn succeeded(what: &str, output: io::Result<Output>) -> String {
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        output.status.success(),
        "{what}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The names of the interfaces in the namespace of the test binary.
pub fn links() -> Vec<String> {
    netns::link_names(&ip("-o link show"))
}

/// How many descriptors this process has open.
pub fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// How long it took until `condition` held; panics after `deadline`.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let start = clock::now();
    loop {
        let holds = condition();
        let elapsed = clock::now().since(start);
        if holds {
            return elapsed;
        }
        assert!(elapsed < deadline, "{what}: not within {deadline:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
