//! The control socket as a file: who may open it, and whose it is.

use std::{
    fs, io,
    os::{
        fd::AsFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::{AccessFlags, Gid, Group, access, chown, geteuid},
};

use crate::{names::shown, sys::cause_text};

/// Where the daemon listens and clients ask if nobody says otherwise: below `/run` for root, and below
/// `XDG_RUNTIME_DIR` for everybody else. Root of a user namespace, who may not write to `/run`, is
/// somebody else.
pub fn default_path() -> PathBuf {
    let user = geteuid();
    let may_write = || {
        let own = Path::new(RUN).join(DIRECTORY);
        let place = if own.is_dir() { &own } else { Path::new(RUN) };
        access(place, AccessFlags::W_OK).is_ok()
    };
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    let directory = match runtime.map(PathBuf::from) {
        _ if user.is_root() && may_write() => PathBuf::from(RUN),
        Some(runtime) => runtime,
        None if user.is_root() => PathBuf::from(RUN),
        None => PathBuf::from(format!("/run/user/{user}")),
    };
    directory.join(DIRECTORY).join("control.sock")
}

const RUN: &str = "/run";
const DIRECTORY: &str = "tapswitch";

/// A listening control socket. The file goes when this goes, unless it is another's by then.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Listens on `path` for the owner, and for `group` (a name or a number) if there is one.
    ///
    /// A missing directory is made. A socket on which nobody answers is replaced. At no time is
    /// the socket open to anybody else.
    ///
    /// # Errors
    /// [`SocketError`] says what stands in the way.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, SocketError> {
        let failed = |step: &'static str, source: io::Error| SocketError::Listen {
            path: path.to_owned(),
            step,
            source,
        };
        if path.as_os_str().len() > MAX_PATH {
            let cause = format!("the path has more than {MAX_PATH} bytes");
            return Err(failed("read its path", io::Error::other(cause)));
        }
        let group = group.map(find_group).transpose()?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        make_directory(parent).map_err(|source| failed("make its directory", source))?;
        let lock = Lock::acquire(path).map_err(|source| failed("lock its path", source))?;
        refuse_if_answered(path)?;

        // Born in a directory that only the owner can enter, the socket gets its mode before
        // anybody can reach it. The umask would do too, but belongs to all threads.
        let nursery = Nursery::new(parent).map_err(|source| failed("prepare it", source))?;
        let born = nursery.path.join("s");
        let listener = UnixListener::bind(&born).map_err(|source| failed("bind it", source))?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        if let Some(group) = group {
            chown(&born, None, Some(group))
                .map_err(|errno| failed("give it to the group", errno.into()))?;
        }
        fs::set_permissions(&born, fs::Permissions::from_mode(mode))
            .map_err(|source| failed("set its mode", source))?;
        let metadata =
            fs::symlink_metadata(&born).map_err(|source| failed("look at it", source))?;
        fs::rename(&born, path).map_err(|source| failed("put it in place", source))?;
        listener
            .set_nonblocking(true)
            .map_err(|source| failed("set it non-blocking", source))?;
        drop(lock);
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle of the listening socket.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("remove control socket {}: {error}", self.path.display());
        }
    }
}

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Somebody listens there already.
    #[error("listen on {path}: another tapswitch{} answers there; stop it, or choose another --socket", pid_text(*pid), path = shown(path))]
    Taken {
        /// The socket.
        path: PathBuf,
        /// The process that listens, where the kernel tells.
        pid: Option<i32>,
    },
    /// There is something else than a socket.
    #[error("listen on {path}: there is a file that is no socket; remove it, or choose another --socket", path = shown(path))]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// No such group.
    #[error("open the control socket to group {group:?}: no such group; see getent group")]
    Group {
        /// The group as it was given.
        group: String,
    },
    /// A system call failed.
    #[error("listen on {path}: {step}: {}", listen_advice(source), path = shown(path))]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the kernel said, and what to do about it.
fn listen_advice(source: &io::Error) -> String {
    let next = match source.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (ulimit -n)",
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            "choose another --socket (TAPSWITCH_SOCKET)"
        }
        Some(libc::ENOSPC | libc::EDQUOT) => "make room, or choose another --socket",
        _ => "check the path, or choose another --socket",
    };
    format!("{}; {next}", cause_text(source))
}

fn pid_text(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

fn find_group(group: &str) -> Result<Gid, SocketError> {
    let refuse = || SocketError::Group {
        group: group.chars().take(40).collect(),
    };
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(group).ok().flatten();
    found.map(|group| group.gid).ok_or_else(refuse)
}

fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    // A user's runtime directory is the user's alone; /run/tapswitch may be entered by a group.
    let mode = if geteuid().is_root() { 0o755 } else { 0o700 };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
}

fn refuse_if_answered(path: &Path) -> Result<(), SocketError> {
    let path = path.to_owned();
    let failed = |path, step, source| Err(SocketError::Listen { path, step, source });
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(SocketError::NoSocket { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return failed(path, "look at it", source),
    }
    let probe = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        // A daemon whose queue is full would let a blocking probe wait.
        socket.set_nonblocking(true)?;
        let answer = socket.connect(&socket2::SockAddr::unix(&path)?);
        Ok((socket, answer))
    };
    match probe() {
        Ok((socket, Ok(()))) => {
            let peer = getsockopt(&socket.as_fd(), PeerCredentials).ok();
            let pid = peer.map(|peer| peer.pid());
            Err(SocketError::Taken { path, pid })
        }
        Ok((_, Err(error))) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(SocketError::Taken { path, pid: None })
        }
        Ok((_, Err(error)))
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        Ok((_, Err(source))) | Err(source) => failed(path, "ask who is there", source),
    }
}

/// Keeps two daemons that start at once from replacing each other's socket.
struct Lock {
    path: PathBuf,
    _file: fs::File,
}

impl Lock {
    fn acquire(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)?;
            file.lock()?;
            let held = file.metadata()?;
            // Whoever held the lock before has removed the file; then it is worth nothing.
            let is_current = fs::symlink_metadata(&path)
                .is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino()));
            if is_current {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("remove {}: {error}", self.path.display());
        }
    }
}

/// A fresh directory that only the owner can enter.
struct Nursery {
    path: PathBuf,
}

impl Nursery {
    fn new(parent: &Path) -> io::Result<Self> {
        // Short, since the path of a socket may have 107 bytes only.
        let path = parent.join(format!(".t{}", std::process::id()));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!("remove {}: {error}", self.path.display());
        }
    }
}

/// `sun_path` less the NUL.
const MAX_PATH: usize = 107;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ts-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn entries(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn only_the_owner_may_open_the_socket_and_it_goes_with_its_daemon() {
        let directory = Directory::new("owner");
        let path = directory.0.join("made/control.sock");

        let socket = ControlSocket::bind(&path, None).unwrap();

        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_group_may_be_let_in() {
        let directory = Directory::new("group");
        let path = directory.0.join("s");
        let group = nix::unistd::getegid().to_string();

        let _socket = ControlSocket::bind(&path, Some(&group)).unwrap();

        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        let refused = ControlSocket::bind(&directory.0.join("t"), Some("no-such-group"));
        assert!(refused.unwrap_err().to_string().contains("no such group"));
    }

    #[test]
    fn a_second_daemon_is_told_who_is_there() {
        let directory = Directory::new("second");
        let path = directory.0.join("s");
        let _first = ControlSocket::bind(&path, None).unwrap();

        let refused = ControlSocket::bind(&path, None).unwrap_err().to_string();

        let pid = std::process::id();
        let expected = format!("another tapswitch (pid {pid}) answers there");
        assert!(refused.contains(&expected), "{refused}");
        assert!(path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let directory = Directory::new("stale");
        let path = directory.0.join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());

        let _socket = ControlSocket::bind(&path, None).unwrap();

        assert!(UnixStream::connect(&path).is_ok());
        let file = directory.0.join("file");
        fs::write(&file, "precious").unwrap();
        let refused = ControlSocket::bind(&file, None);
        assert!(matches!(refused, Err(SocketError::NoSocket { .. })));
        assert_eq!(directory.entries().len(), 2);
    }

    #[test]
    fn a_socket_that_is_anothers_by_now_stays() {
        let directory = Directory::new("others");
        let path = directory.0.join("s");
        let ours = ControlSocket::bind(&path, None).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = ControlSocket::bind(&path, None).unwrap();

        drop(ours);

        assert!(path.exists());
    }
}
