//! Network namespaces: opened with suspicion, entered only by throw-away threads.
//!
//! `setns` changes the calling thread for good. A thread that enters a namespace here ends with
//! the closure it was made for, so no worker can be left in a foreign namespace, whatever fails.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    panic, thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        stat::{SFlag, fstat},
        statfs::{NSFS_MAGIC, fstatfs},
    },
};

use super::{cause_text, checked};
use crate::names::NetnsRef;

/// Which network namespace, for as long as it lives: device and inode of its nsfs file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId {
    /// The device number of nsfs.
    pub dev: u64,
    /// The inode number, as in `net:[4026531833]`.
    pub ino: u64,
}

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetnsError {
    /// No file below `/run/netns`.
    #[error("open netns {name:?}: no such namespace; {}", where_to_find(name))]
    NoSuchName {
        /// The missing name.
        name: String,
    },
    /// A file below `/run/netns` that no namespace is mounted on.
    #[error(
        "open netns {name:?}: its file exists but no namespace is mounted on it; it is still being \
         made, so try again, or it is a leftover: ip netns del {name}"
    )]
    NotMounted {
        /// The name.
        name: String,
    },
    /// No process with this number.
    #[error("open netns pid:{pid}: no such process; is it still running?")]
    NoSuchProcess {
        /// The missing process.
        pid: u32,
    },
    /// The file is not a namespace at all.
    #[error("open netns {netns:?}: it is {found}; give the file of a network namespace")]
    WrongFile {
        /// What was given.
        netns: String,
        /// What it is.
        found: &'static str,
    },
    /// The file is a namespace, but not a network namespace.
    #[error("open netns {netns:?}: it is a {found} namespace; give its net file instead")]
    WrongNamespace {
        /// What was given.
        netns: String,
        /// Which kind it is.
        found: &'static str,
    },
    /// Anything else that keeps the file from being opened.
    #[error("open netns {netns:?}: {}; {}", cause_text(.cause), open_advice(.cause))]
    Open {
        /// What was given.
        netns: String,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// The namespace cannot be entered.
    #[error("enter netns {netns:?}: {}; run as root or grant CAP_SYS_ADMIN", cause_text(.cause))]
    Enter {
        /// What was given.
        netns: String,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// No new namespace could be made.
    #[error("create netns: {}; run as root or grant CAP_SYS_ADMIN", cause_text(.cause))]
    Create {
        /// What the kernel answered.
        cause: io::Error,
    },
    /// A TAP does not tell its namespace.
    #[error("find the netns of a tap: {}; is its link deleted?", cause_text(.cause))]
    OfDevice {
        /// What the kernel answered; `EBADFD` if the device is gone.
        cause: io::Error,
    },
}

impl NetnsError {
    /// The kernel's answer as an errno, if it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open { cause, .. }
            | Self::Enter { cause, .. }
            | Self::Create { cause }
            | Self::OfDevice { cause } => cause.raw_os_error(),
            _ => None,
        }
    }
}

fn open_advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "run as root or as the owner of the namespace",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (ulimit -n)",
        _ => "check the path",
    }
}

/// An open network namespace. It keeps the namespace alive, so drop it soon.
#[derive(Debug)]
pub struct NetnsFile {
    file: File,
    label: String,
    id: NetnsId,
}

impl NetnsFile {
    /// Opens the namespace that `netns` names.
    ///
    /// # Errors
    /// A [`NetnsError`] that says what is there instead.
    pub fn open(netns: &NetnsRef) -> Result<Self, NetnsError> {
        let label = netns.to_string();
        // O_PATH looks without opening: a pipe would block, and a device may act on being opened.
        let seen = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
            .open(netns.path())
            .map_err(|cause| missing(netns, cause))?;
        if !is_nsfs(&seen).map_err(|cause| missing(netns, cause))? {
            return Err(wrong_file(netns, &seen));
        }
        // Through the descriptor, so that it is the same file that was looked at.
        let file = File::open(format!("/proc/self/fd/{}", seen.as_raw_fd()))
            .map_err(|cause| missing(netns, cause))?;
        Self::from_file(file, label)
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetnsError::Open`] if `/proc` is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        const PATH: &str = "/proc/thread-self/ns/net";
        let label = || "own".to_owned();
        let file = File::open(PATH).map_err(|cause| NetnsError::Open {
            netns: label(),
            cause,
        })?;
        Self::from_file(file, label())
    }

    /// Checks that `file` is a network namespace; messages call it `label`.
    ///
    /// # Errors
    /// A [`NetnsError`] that says what it is instead.
    pub fn from_file(file: File, label: String) -> Result<Self, NetnsError> {
        let failed = |netns: &str, cause| NetnsError::Open {
            netns: netns.to_owned(),
            cause,
        };
        if !is_nsfs(&file).map_err(|cause| failed(&label, cause))? {
            return Err(NetnsError::WrongFile {
                netns: label,
                found: "not a namespace",
            });
        }
        // SAFETY: NS_GET_NSTYPE takes no argument; the file is of nsfs, whose ioctl this is.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
        let kind = checked(kind).map_err(|cause| failed(&label, cause))?;
        if kind != libc::CLONE_NEWNET {
            return Err(NetnsError::WrongNamespace {
                netns: label,
                found: namespace_kind(kind),
            });
        }
        let stat = fstat(&file).map_err(|errno| failed(&label, errno.into()))?;
        let id = NetnsId {
            dev: stat.st_dev,
            ino: stat.st_ino,
        };
        Ok(Self { file, label, id })
    }

    /// Which namespace this is.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// What messages call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Takes the calling thread there, which does not come back: for one that soon ends.
    pub(crate) fn enter(&self) -> Result<(), NetnsError> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::Enter {
            netns: self.label.clone(),
            cause: errno.into(),
        })
    }

    /// Runs `f` on a new thread inside the namespace and returns what it returned.
    ///
    /// # Errors
    /// [`NetnsError::Enter`]; `f` was not called.
    ///
    /// # Panics
    /// If `f` does.
    pub fn run_in<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let failed = |cause| NetnsError::Enter {
            netns: self.label.clone(),
            cause,
        };
        on_new_thread(|| Ok(self.enter().map(|()| f()))).map_err(failed)?
    }
}

impl AsFd for NetnsFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes a network namespace without a name. It lives until the descriptor is closed and its last
/// process has ended.
///
/// # Errors
/// [`NetnsError::Create`].
pub fn create_anonymous() -> Result<OwnedFd, NetnsError> {
    on_new_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
    })
    .map_err(|cause| NetnsError::Create { cause })
}

/// Runs `f` on a thread that ends with it. The thread starts in the caller's namespace.
pub(crate) fn on_new_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, f)?;
        thread
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

fn is_nsfs(file: &File) -> io::Result<bool> {
    Ok(fstatfs(file)?.filesystem_type() == NSFS_MAGIC)
}

fn missing(netns: &NetnsRef, cause: io::Error) -> NetnsError {
    match (netns, cause.raw_os_error()) {
        (NetnsRef::Name(name), Some(libc::ENOENT | libc::ENOTDIR)) => NetnsError::NoSuchName {
            name: name.to_string(),
        },
        (&NetnsRef::Pid(pid), Some(libc::ENOENT | libc::ESRCH)) => {
            NetnsError::NoSuchProcess { pid }
        }
        _ => NetnsError::Open {
            netns: netns.to_string(),
            cause,
        },
    }
}

fn where_to_find(name: &str) -> String {
    let create = format!("create it: ip netns add {name}");
    match name.parse::<u32>() {
        Ok(_) => format!("if {name} is a process, write --netns pid:{name}; else {create}"),
        Err(_) => create,
    }
}

fn wrong_file(netns: &NetnsRef, seen: &File) -> NetnsError {
    let kind = fstat(seen).map_or(SFlag::empty(), |stat| {
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
    });
    // `ip netns add` makes a regular file first and mounts the namespace on it afterwards.
    if let (NetnsRef::Name(name), SFlag::S_IFREG) = (netns, kind) {
        return NetnsError::NotMounted {
            name: name.to_string(),
        };
    }
    NetnsError::WrongFile {
        netns: netns.to_string(),
        found: match kind {
            SFlag::S_IFREG => "an ordinary file",
            SFlag::S_IFDIR => "a directory",
            SFlag::S_IFIFO => "a pipe",
            SFlag::S_IFCHR | SFlag::S_IFBLK => "a device",
            SFlag::S_IFSOCK => "a socket",
            _ => "not a namespace",
        },
    }
}

fn namespace_kind(kind: libc::c_int) -> &'static str {
    match kind {
        libc::CLONE_NEWUSER => "user",
        libc::CLONE_NEWNS => "mount",
        libc::CLONE_NEWPID => "pid",
        libc::CLONE_NEWUTS => "uts",
        libc::CLONE_NEWIPC => "ipc",
        libc::CLONE_NEWCGROUP => "cgroup",
        _ => "different",
    }
}
