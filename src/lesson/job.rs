//! What a command in the background prints, kept up to a limit.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
    unistd::mkfifo,
};

use super::shell::MOST;

/// The output of one command. It goes through a FIFO, so that a command that prints without end
/// fills neither `/run` nor the memory: at the limit nobody reads any more, and SIGPIPE ends it.
#[derive(Clone, Debug)]
pub(super) struct Output(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// The end to read from; none: all has come, or too much.
    pipe: Option<File>,
    bytes: Vec<u8>,
    /// How much of it has been told.
    told: usize,
    is_flood: bool,
}

impl Output {
    /// Makes a FIFO at `path`, which a command may be given.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Like this it waits for no writer: fifo(7).
        let pipe = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let kept = Kept {
            pipe: Some(pipe),
            bytes: Vec::new(),
            told: 0,
            is_flood: false,
        };
        Ok(Self(Arc::new(Mutex::new(kept))))
    }

    /// Takes what is printed from now on, so that the command never waits for a reader. It must have
    /// the FIFO open: without a writer this is over at once.
    pub(super) fn keep(&self) -> io::Result<()> {
        let pipe = self.kept().pipe.as_ref().map(File::try_clone).transpose()?;
        let Some(pipe) = pipe else {
            return Ok(());
        };
        let output = self.clone();
        let keep = move || {
            loop {
                let mut watched = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
                let _interrupted = poll(&mut watched, PollTimeout::NONE);
                let mut kept = output.kept();
                kept.take();
                if kept.pipe.is_none() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("background".to_owned());
        thread.spawn(keep).map(drop)
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.fresh().bytes.len()
    }

    /// All of it.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.fresh().bytes).into_owned()
    }

    /// The lines since the last call. Half a line waits for its other half.
    pub(super) fn news(&self) -> Option<String> {
        let mut kept = self.fresh();
        let fresh = kept.bytes.get(kept.told..).unwrap_or_default();
        let whole = fresh.iter().rposition(|&byte| byte == b'\n')? + 1;
        let text = String::from_utf8_lossy(&fresh[..whole]).into_owned();
        kept.told += whole;
        Some(text)
    }

    /// Whether it was more than [`MOST`], which has ended the command.
    pub(super) fn is_flood(&self) -> bool {
        self.fresh().is_flood
    }

    /// With all that has been printed until now.
    fn fresh(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept();
        kept.take();
        kept
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self) {
        let mut piece = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => self.pipe = None,
                Ok(len) => {
                    self.bytes.extend_from_slice(&piece[..len]);
                    if self.bytes.len() > MOST {
                        self.is_flood = true;
                        self.pipe = None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, io::Write, process};

    use super::*;

    /// An output, and the end that a command has.
    fn printing(name: &str) -> (Output, File) {
        let path = env::temp_dir().join(format!("tapswitch-job-{name}-{}", process::id()));
        let output = Output::new(&path).unwrap();
        let command = OpenOptions::new().write(true).open(&path).unwrap();
        fs::remove_file(path).unwrap();
        output.keep().unwrap();
        (output, command)
    }

    #[test]
    fn what_was_printed_is_there_at_once_and_told_in_lines() {
        let (output, mut command) = printing("lines");
        assert_eq!((output.len(), output.news()), (0, None));
        command.write_all(b"one\ntw").unwrap();
        assert_eq!(output.news().as_deref(), Some("one\n"));
        assert_eq!((output.news(), output.text()), (None, "one\ntw".to_owned()));
        command.write_all(b"o\n").unwrap();
        drop(command);
        assert_eq!(output.news().as_deref(), Some("two\n"));
        assert_eq!(output.text(), "one\ntwo\n");
        assert!(!output.is_flood());
    }

    #[test]
    fn a_command_waits_for_no_reader_and_is_ended_at_the_limit() {
        let (output, mut command) = printing("flood");
        command.write_all(&vec![b'y'; MOST]).unwrap();
        assert_eq!((output.len(), output.is_flood()), (MOST, false));
        // This program ignores SIGPIPE.
        let more = vec![b'y'; 1 << 20];
        let refused = (0..9).find_map(|_| command.write_all(&more).err());
        assert_eq!(refused.unwrap().kind(), ErrorKind::BrokenPipe);
        assert!(output.is_flood());
        assert!(output.len() <= MOST + 4096, "{}", output.len());
    }
}
