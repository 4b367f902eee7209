//! The log of a command that goes on for long, on stderr.
//!
//! Whoever logs must not wait and must not fail: stderr may be a pipe that nobody reads, or one
//! whose reader has gone, or a file on a full disk. So a thread of its own writes the lines, those
//! for which there is no room are counted, and those that cannot be written are lost.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::SigSet;

/// Starts the log. What has been logged is written when the answer is dropped.
#[must_use = "the last lines are written when it is dropped"]
pub(super) fn start(verbosity: u8) -> Log {
    let level = match verbosity {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TAPSWITCH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("warn,tapswitch={level}")));
    let lines = Lines::to(io::stderr());
    let writer = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter);
    // Somebody who embeds this may have a log already.
    drop(log.try_init());
    Log(lines)
}

pub(super) struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush_for(PATIENCE);
    }
}

/// Lines on their way to where they are written.
#[derive(Clone)]
struct Lines {
    /// Nobody, if there is no thread to write them.
    to: Option<SyncSender<Message>>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    /// All that came before is written.
    Flush(SyncSender<()>),
}

impl Lines {
    fn to(out: impl Write + Send + 'static) -> Self {
        let (to, lines) = sync_channel(ROOM);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let write = move || {
            // Who waits for a signal does so on a thread of its own; here it would end the program.
            let _: nix::Result<()> = SigSet::all().thread_block();
            write_lines(&lines, &counter, out);
        };
        let started = thread::Builder::new().name("log".to_owned()).spawn(write);
        let to = started.is_ok().then_some(to);
        Self { to, lost }
    }

    /// Waits until all lines are written, but not for ever.
    fn flush_for(&self, patience: Duration) {
        let Some(to) = &self.to else {
            return;
        };
        let (done, is_done) = sync_channel(1);
        let mut flush = Message::Flush(done);
        for _ in 0..patience.as_millis() {
            match to.try_send(flush) {
                Err(TrySendError::Full(again)) => flush = again,
                _ => {
                    // Either way it is time to go on.
                    let _: Result<(), RecvTimeoutError> = is_done.recv_timeout(patience);
                    return;
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Write for Lines {
    /// Takes one line, or loses it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let message = Message::Line(line.to_owned());
        if self
            .to
            .as_ref()
            .is_none_or(|to| to.try_send(message).is_err())
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(lines: &Receiver<Message>, lost: &AtomicU64, mut out: impl Write) {
    for message in lines {
        match message {
            Message::Line(line) => {
                let missing = lost.swap(0, Ordering::Relaxed);
                if missing > 0 {
                    drop(writeln!(out, "{missing} lines of the log are missing here"));
                }
                drop(out.write_all(&line));
            }
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Lines that may wait.
const ROOM: usize = 1024;
/// How long the end of the program waits for the last ones.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvError, Sender, channel};

    use super::*;

    /// Takes what is written when it is told to.
    struct Slow {
        go_on: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let _: Result<(), RecvError> = self.go_on.recv();
            drop(
                self.written
                    .send(String::from_utf8_lossy(text).into_owned()),
            );
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_does_not_wait_and_what_is_missing_is_said() {
        let (free, go_on) = channel();
        let (written, texts) = channel();
        let mut lines = Lines::to(Slow { go_on, written });
        for _ in 0..2 * ROOM {
            lines.write_all(b"line\n").unwrap();
        }
        let lost = lines.lost.load(Ordering::Relaxed);
        assert!(lost >= ROOM as u64 - 1, "{lost}");
        // From now on it is written as it comes.
        drop(free);
        lines.flush_for(10 * PATIENCE);
        lines.write_all(b"last\n").unwrap();
        lines.flush_for(10 * PATIENCE);
        let all: String = texts.try_iter().collect();
        let kept = all.matches("line\n").count() as u64;
        assert_eq!(kept + lost, 2 * ROOM as u64);
        assert!(all.contains(&format!("{lost} lines of the log are missing here\n")));
        assert!(all.ends_with("last\n"));
    }

    #[test]
    fn what_cannot_be_written_is_no_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut lines = Lines::to(Full);
        lines.write_all(b"line\n").unwrap();
        lines.flush_for(10 * PATIENCE);
        lines.write_all(b"line\n").unwrap();
    }
}
