//! The files that a lesson leaves: each is written as a whole, or not at all.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, fchown},
    },
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use crate::{cli::CliError, names::shown, sys::clock};

/// A file that the user has named. It is what it was, or is not there, until it is written.
pub(super) struct Target {
    path: PathBuf,
    place: Place,
}

enum Place {
    /// A device, a pipe, or a file in a directory that takes no other.
    Itself(File),
    /// A file that takes the place of what is there, in one step.
    Replaced {
        /// Open, as a lesson has a `/run` of its own.
        directory: File,
        name: OsString,
        before: Option<Metadata>,
    },
}

impl Target {
    /// Finds out whether `path` can be written; it must be none of `taken`.
    pub(super) fn find(path: &Path, taken: &[PathBuf]) -> Result<Self, CliError> {
        let own = identity(path);
        if let Some(other) = taken
            .iter()
            .find(|other| own.is_some() && identity(other) == own)
        {
            let (path, other) = (shown(path), shown(other));
            return Err(CliError::Usage(format!(
                "write {path}: it is the same file as {other}; choose another"
            )));
        }
        let place = place(path).map_err(|error| not_written(path, &error))?;
        let path = path.to_owned();
        Ok(Self { path, place })
    }

    /// What the user calls it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it. If that fails, it is what it was.
    pub(super) fn write(self, bytes: &[u8]) -> Result<(), CliError> {
        let written = match self.place {
            Place::Itself(file) => overwrite(file, bytes),
            Place::Replaced {
                directory,
                name,
                before,
            } => replace(&directory, &name, before.as_ref(), bytes),
        };
        written.map_err(|error| not_written(&self.path, &error))
    }
}

/// Writes a file of which nobody has said the name: `STEM.pcapng` here or, where that is there
/// already, `STEM-2.pcapng` and so on.
pub(super) fn write_new(stem: &str, bytes: &[u8]) -> Result<PathBuf, CliError> {
    for number in 1..=MOST {
        let path = match number {
            1 => PathBuf::from(format!("{stem}.pcapng")),
            _ => PathBuf::from(format!("{stem}-{number}.pcapng")),
        };
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(not_written(&path, &error)),
        };
        if let Err(error) = file.write_all(bytes) {
            // It is this one's own, and half of it is of no use.
            drop(fs::remove_file(&path));
            return Err(not_written(&path, &error));
        }
        return Ok(path);
    }
    Err(CliError::Failed(format!(
        "write {stem}.pcapng: there are {MOST} of them, up to {stem}-{MOST}.pcapng; remove some"
    )))
}

/// The file itself, or where it would be; none: a device or the like.
fn identity(path: &Path) -> Option<(u64, u64, Option<OsString>)> {
    match fs::metadata(path) {
        Ok(metadata) => metadata
            .is_file()
            .then(|| (metadata.dev(), metadata.ino(), None)),
        Err(_) => {
            let (directory, name) = parts(path)?;
            let metadata = fs::metadata(directory).ok()?;
            Some((metadata.dev(), metadata.ino(), Some(name.to_owned())))
        }
    }
}

fn place(path: &Path) -> io::Result<Place> {
    let (file, path) = match OpenOptions::new().write(true).open(path) {
        // What a symbolic link leads to is replaced, not the link.
        Ok(file) => (Some(file), fs::canonicalize(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => (None, path.to_owned()),
        Err(error) => return Err(error),
    };
    let before = file.as_ref().map(File::metadata).transpose()?;
    let (directory, name) = parts(&path).ok_or(ErrorKind::InvalidFilename)?;
    let may_replace = access(directory, AccessFlags::W_OK | AccessFlags::X_OK);
    match (file, &before) {
        (Some(file), Some(before)) if !before.is_file() || may_replace.is_err() => {
            Ok(Place::Itself(file))
        }
        _ => {
            may_replace?;
            Ok(Place::Replaced {
                directory: File::open(directory)?,
                name: name.to_owned(),
                before,
            })
        }
    }
}

/// The directory and the name in it.
fn parts(path: &Path) -> Option<(&Path, &OsStr)> {
    let directory = path.parent()?;
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    Some((directory, path.file_name()?))
}

fn overwrite(mut file: File, bytes: &[u8]) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(bytes)
}

/// Writes a file beside, and gives it the name when it is whole.
fn replace(
    directory: &File,
    name: &OsStr,
    before: Option<&Metadata>,
    bytes: &[u8],
) -> io::Result<()> {
    let directory = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", clock::now().as_nanos()));
    let new = directory.join(hidden);
    let mut file = File::create_new(&new)?;
    let written = (|| {
        if let Some(before) = before {
            // Who is not root gives nothing away, and owns it already.
            drop(fchown(&file, Some(before.uid()), Some(before.gid())));
            file.set_permissions(before.permissions())?;
        }
        file.write_all(bytes)?;
        fs::rename(&new, directory.join(name))
    })();
    if written.is_err() {
        drop(fs::remove_file(&new));
    }
    written
}

fn not_written(path: &Path, error: &io::Error) -> CliError {
    let path = shown(path);
    CliError::Failed(format!("write {path}: {error}; check the path"))
}

/// Files of one lesson in a directory.
const MOST: usize = 999;
