//! A user namespace, in which an ordinary user may make TAPs and network namespaces.

use std::{fs, io};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{geteuid, getgid, getuid},
};

use super::cause_text;

/// Whether the mounts stay shared with the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// As they are.
    Shared,
    /// A copy, so that something can be mounted on `/run`.
    Private,
}

/// Why the process is not in a user namespace now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserNamespaceError {
    /// `unshare` needs a process of one thread.
    #[error(
        "enter user namespace: the process has {threads} threads and may have one; enter it before \
         any thread is started"
    )]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// The kernel refused.
    #[error("enter user namespace: {}; {}", cause_text(.cause), advice(.cause))]
    Unshare {
        /// What the kernel answered.
        cause: io::Error,
    },
    /// There is no `/run` of its own.
    #[error("mount tmpfs on /run: {}; run as root, outside of a container", cause_text(.cause))]
    Mount {
        /// What the kernel answered.
        cause: io::Error,
    },
    /// The identity could not be mapped.
    #[error("write {file}: {}; run as root instead", cause_text(.cause))]
    Map {
        /// The file below `/proc/self`.
        file: &'static str,
        /// What the kernel answered.
        cause: io::Error,
    },
}

/// Whether the process is root in a user namespace, and may be nobody outside of it.
pub fn is_root_of_a_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let numbers: Vec<&str> = map.split_whitespace().collect();
    // The first one of all has every number (user_namespaces(7)).
    geteuid().is_root() && !matches!(numbers[..], ["0", "0", "4294967295"] | [])
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EUSERS) => "raise user.max_user_namespaces (sysctl)",
        Some(libc::EPERM) => {
            "allow them: sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu \
             kernel.apparmor_restrict_unprivileged_userns=0; or run as root"
        }
        _ => "run as root instead",
    }
}

/// Moves the process into a new user namespace, as its root, and into a new network namespace.
///
/// # Errors
/// A [`UserNamespaceError`]; if it is [`UserNamespaceError::Map`], the process has already lost its
/// old identity and should end.
pub fn enter_user_namespace(mounts: Mounts) -> Result<(), UserNamespaceError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(UserNamespaceError::Threads { threads });
    }
    // Read before: afterwards both are 65534 until they are mapped.
    let (uid, gid) = (getuid(), getgid());
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET;
    if mounts == Mounts::Private {
        flags |= CloneFlags::CLONE_NEWNS;
    }
    unshare(flags).map_err(|errno| UserNamespaceError::Unshare {
        cause: errno.into(),
    })?;
    let write = |file, text: &str| {
        fs::write(file, text).map_err(|cause| UserNamespaceError::Map { file, cause })
    };
    // An ordinary user may map groups only after giving up setgroups (user_namespaces(7)).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))
}

/// Moves the process into a mount and a network namespace, inside a user namespace if it is not
/// root, with an empty `/run`: the machine sees nothing of what is made there, and all of it goes
/// with the last process.
///
/// # Errors
/// A [`UserNamespaceError`]; the process should end, since it may be half inside.
pub fn enter_private_namespaces() -> Result<(), UserNamespaceError> {
    let both = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    if unshare(both).is_err() {
        enter_user_namespace(Mounts::Private)?;
    }
    mount_private_run()
}

/// Moves the process into a mount and a network namespace, inside a user namespace if it is not
/// root, and its next child into a process namespace, as its first process: when that ends, the kernel
/// ends all others there.
///
/// # Errors
/// A [`UserNamespaceError`]; the process should end, since it may be half inside.
pub fn unshare_world() -> Result<(), UserNamespaceError> {
    let all = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    if unshare(all).is_ok() {
        return Ok(());
    }
    enter_user_namespace(Mounts::Private)?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| UserNamespaceError::Unshare {
        cause: errno.into(),
    })
}

/// What the first process of a world does: an empty `/run`, and a `/proc` that has only the world's
/// processes, if one may be mounted here.
///
/// # Errors
/// [`UserNamespaceError::Mount`].
pub fn furnish_world() -> Result<(), UserNamespaceError> {
    let none: Option<&str> = None;
    mount_private_run()?;
    // Inside of a container it may be covered in part, and then the kernel refuses another one. The
    // old one has other numbers for processes; all else is the same.
    let _old_one: Result<(), _> =
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none);
    Ok(())
}

fn mount_private_run() -> Result<(), UserNamespaceError> {
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none)
        .and_then(|()| mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none))
        .map_err(|errno| UserNamespaceError::Mount {
            cause: errno.into(),
        })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_process_with_threads_stays_where_it_is() {
        // The refusal comes before anything is done, and the second thread is certain here.
        let result = thread::spawn(|| enter_user_namespace(Mounts::Shared)).join();
        let error = result.unwrap().unwrap_err();
        assert!(matches!(error, UserNamespaceError::Threads { threads } if threads > 1));
        assert!(error.to_string().contains("before any thread is started"));
    }
}
