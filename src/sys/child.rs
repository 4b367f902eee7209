//! Programs that run inside a network namespace and do not outlive whoever started them.

use std::{
    io,
    os::{
        fd::AsFd,
        unix::process::{CommandExt, parent_id},
    },
    process::{self, Child, Command},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl::set_pdeathsig, signal::Signal},
};

use super::netns::NetnsFile;

/// Starts `command` inside `netns`, as the leader of a process group of its own. The kernel kills it
/// when the calling *thread* ends, however that ends (`PR_SET_PDEATHSIG`).
///
/// # Errors
/// Those of [`Command::spawn`], and of entering the namespace.
pub fn spawn_in(netns: &NetnsFile, command: &mut Command) -> io::Result<Child> {
    let parent = process::id();
    // A copy, which the closure may keep: `netns` is borrowed until the child has started.
    let file = netns.as_fd().try_clone_to_owned()?;
    let enter = move || {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        set_pdeathsig(Signal::SIGKILL)?;
        // A parent that ended before the line above sends no signal any more.
        match parent_id() == parent {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: between fork and exec only system calls are made: no memory, no lock, no panic.
    unsafe { command.pre_exec(enter) };
    command.process_group(0).spawn()
}

/// Starts `command` so that the kernel kills it when the calling *thread* ends. It stays in the
/// process group, so that it may use the terminal, and may be the first of a process namespace.
///
/// # Errors
/// Those of [`Command::spawn`].
pub fn spawn_bound(command: &mut Command) -> io::Result<Child> {
    let bind = || Ok(set_pdeathsig(Signal::SIGKILL)?);
    // SAFETY: between fork and exec one system call is made: no memory, no lock, no panic.
    unsafe { command.pre_exec(bind) };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let started = thread::spawn(|| {
            let own = NetnsFile::current().unwrap();
            // Who may not enter even its own namespace cannot have such children.
            spawn_in(&own, Command::new("sleep").arg("60")).ok()
        });
        let Some(mut child) = started.join().unwrap() else {
            return;
        };
        assert!(!child.wait().unwrap().success());
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()));
        assert!(stat.is_err());
    }
}
