//! A capture in a file, in a ring of files, or on standard output.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{cli::CliError, names::shown, pcap::Blocks};

/// What a capture ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) captured: u64,
    pub(super) lost: u64,
}

/// Where the blocks go.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    blocks: Blocks,
    /// What every file begins with: the section, and the interfaces so far.
    head: Vec<u8>,
    totals: Option<Totals>,
}

#[derive(Debug)]
enum Target {
    Stdout,
    Files(Files),
}

#[derive(Debug)]
struct Files {
    path: PathBuf,
    /// Bytes after which another begins.
    size: Option<u64>,
    /// How many there are at most.
    most: Option<u32>,
    current: Option<Current>,
    /// The number of the next one.
    next: u32,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
    has_packets: bool,
}

impl Sink {
    /// Standard output.
    pub(super) fn stdout() -> Self {
        Self::new(Target::Stdout)
    }

    /// A file at `path`; with a size, one after the other.
    pub(super) fn to(path: PathBuf, size: Option<u64>, most: Option<u32>) -> Self {
        Self::new(Target::Files(Files {
            path,
            size,
            most,
            current: None,
            next: 0,
        }))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            blocks: Blocks::default(),
            head: Vec::new(),
            totals: None,
        }
    }

    /// What the capture ended with, if it has.
    pub(super) fn totals(&self) -> Option<Totals> {
        self.totals
    }

    /// Writes the next piece of the stream, whole blocks at a time.
    pub(super) fn take(&mut self, piece: &[u8], out: &mut impl Write) -> Result<(), CliError> {
        self.blocks.push(piece);
        while let Some((kind, block)) = self.blocks.next_block() {
            if let Some(counts) = Blocks::statistics(kind, block) {
                let totals = self.totals.get_or_insert_default();
                totals.captured += counts.captured;
                totals.lost += counts.lost;
            }
            match &mut self.target {
                Target::Stdout => out.write_all(block)?,
                Target::Files(files) => files.write(kind, block, &self.head)?,
            }
            if Blocks::is_head(kind) {
                self.head.extend_from_slice(block);
            }
        }
        match &mut self.target {
            Target::Stdout => out.flush()?,
            Target::Files(files) => files.flush()?,
        }
        Ok(())
    }
}

impl Files {
    fn write(&mut self, kind: u32, block: &[u8], head: &[u8]) -> Result<(), CliError> {
        let len = u64::try_from(block.len()).unwrap_or(u64::MAX);
        let is_full = self.current.as_ref().is_some_and(|current| {
            let after = current.written.saturating_add(len);
            // A packet that is larger than a file still gets one.
            current.has_packets && self.size.is_some_and(|size| after > size)
        });
        if is_full && Blocks::is_packet(kind) {
            self.flush()?;
            self.current = None;
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let path = self.name();
                let file = File::create(&path).map_err(|error| failed(&path, &error))?;
                self.next = self.next.wrapping_add(1);
                let mut file = BufWriter::new(file);
                file.write_all(head)
                    .map_err(|error| failed(&path, &error))?;
                self.current.insert(Current {
                    path,
                    file,
                    written: u64::try_from(head.len()).unwrap_or(u64::MAX),
                    has_packets: false,
                })
            }
        };
        current.has_packets |= Blocks::is_packet(kind);
        current.written += len;
        let written = current.file.write_all(block);
        written.map_err(|error| failed(&current.path, &error))
    }

    fn flush(&mut self) -> Result<(), CliError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let flushed = current.file.flush();
        flushed.map_err(|error| failed(&current.path, &error))
    }

    /// The name of the next file: as given, or with a number before its extension.
    fn name(&self) -> PathBuf {
        let number = match self.most {
            // With as many digits as the last one, so that they sort.
            Some(most) => {
                let digits = (most - 1).to_string().len();
                format!("{:0digits$}", self.next % most)
            }
            None if self.size.is_none() || self.next == 0 => return self.path.clone(),
            None => self.next.to_string(),
        };
        numbered(&self.path, &number)
    }
}

fn numbered(path: &Path, number: &str) -> PathBuf {
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(number);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull => "; make room, or write a ring of files (-C 10M -W 5)",
        io::ErrorKind::NotFound => "; the directory is not there",
        _ => "",
    };
    CliError::Failed(format!("write {}: {error}{advice}", shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_before_the_extension_and_sort() {
        let mut files = Files {
            path: PathBuf::from("/tmp/a.b/ring.pcapng"),
            size: Some(1),
            most: Some(12),
            current: None,
            next: 13,
        };
        assert_eq!(files.name(), Path::new("/tmp/a.b/ring01.pcapng"));
        files.most = None;
        assert_eq!(files.name(), Path::new("/tmp/a.b/ring13.pcapng"));
        files.next = 0;
        assert_eq!(files.name(), Path::new("/tmp/a.b/ring.pcapng"));
        assert_eq!(numbered(Path::new("ring"), "7"), Path::new("ring7"));
    }
}
