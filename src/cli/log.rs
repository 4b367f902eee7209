//! The log of a command that goes on for long, on stderr.
//!
//! Whoever logs must not wait and must not fail: stderr may be a pipe that nobody reads, or one
//! whose reader has gone, or a file on a full disk. So a thread of its own writes the lines, those
//! for which there is no room are counted, and those that cannot be written are lost.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc, OnceLock,
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
    let lines = Lines::to(io::stderr);
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
struct Lines(Arc<Shared>);

struct Shared {
    out: Box<dyn Fn() -> Box<dyn Write + Send> + Send + Sync>,
    /// To the thread, which starts with the first line: some commands must have only one thread until
    /// they are in a namespace of their own. Nobody, if there is none to be had.
    to: OnceLock<Option<SyncSender<Message>>>,
    lost: AtomicU64,
}

enum Message {
    Line(Vec<u8>),
    /// All that came before is written.
    Flush(SyncSender<()>),
}

impl Lines {
    fn to<W: Write + Send + 'static>(out: impl Fn() -> W + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            out: Box::new(move || Box::new(out())),
            to: OnceLock::new(),
            lost: AtomicU64::new(0),
        }))
    }

    fn start(&self) -> Option<SyncSender<Message>> {
        let (to, lines) = sync_channel(ROOM);
        let shared = Arc::clone(&self.0);
        let write = move || {
            // Who waits for a signal does so on a thread of its own; here it would end the program.
            let _: nix::Result<()> = SigSet::all().thread_block();
            write_lines(&lines, &shared.lost, (shared.out)());
        };
        let started = thread::Builder::new().name("log".to_owned()).spawn(write);
        started.is_ok().then_some(to)
    }

    /// Waits until all lines are written, but not for ever.
    fn flush_for(&self, patience: Duration) {
        let Some(Some(to)) = self.0.to.get() else {
            return;
        };
        let (done, is_done) = sync_channel(1);
        let mut flush = Message::Flush(done);
        let mut left = patience;
        while let Err(TrySendError::Full(again)) = to.try_send(flush) {
            if left.is_zero() {
                return;
            }
            flush = again;
            thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
        // Either way it is time to go on.
        let _: Result<(), RecvTimeoutError> = is_done.recv_timeout(left);
    }
}

impl Write for Lines {
    /// Takes one line, or loses it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.to.get_or_init(|| self.start()) {
            None => drop((self.0.out)().write_all(line)),
            Some(to) => {
                if to.try_send(Message::Line(line.to_owned())).is_err() {
                    self.0.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(lines: &Receiver<Message>, lost: &AtomicU64, mut out: impl Write) {
    for message in lines {
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            drop(writeln!(out, "{missing} lines of the log are missing here"));
        }
        match message {
            Message::Line(line) => drop(out.write_all(&line)),
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Lines that may wait.
const ROOM: usize = 1024;
/// How long the end of the program waits for the last ones.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks whether there is room.
const STEP: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        mpsc::{RecvError, Sender, channel},
    };

    use super::*;

    /// Says what it is given, and takes it when it is let go.
    struct Slow {
        go_on: Receiver<()>,
        given: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            drop(self.given.send(String::from_utf8_lossy(text).into_owned()));
            let _: Result<(), RecvError> = self.go_on.recv();
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_to(out: impl Write + Send + 'static) -> Lines {
        let out = Mutex::new(Some(out));
        Lines::to(move || out.lock().unwrap().take().unwrap())
    }

    #[test]
    fn who_logs_does_not_wait_and_what_is_missing_is_said() {
        let (free, go_on) = channel();
        let (given, texts) = channel();
        let mut lines = lines_to(Slow { go_on, given });
        lines.write_all(b"first\n").unwrap();
        assert_eq!(texts.recv().unwrap(), "first\n");
        // Now nobody reads.
        for _ in 0..ROOM + 7 {
            lines.write_all(b"line\n").unwrap();
        }
        drop(free);
        lines.flush_for(10 * PATIENCE);
        let all: String = texts.try_iter().collect();
        assert_eq!(all.matches("line\n").count(), ROOM);
        assert!(
            all.contains("7 lines of the log are missing here\n"),
            "{all}"
        );
    }

    #[test]
    fn what_cannot_be_written_keeps_no_later_line() {
        struct FullOnce(Option<Sender<String>>, bool);
        impl Write for FullOnce {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                if !std::mem::replace(&mut self.1, true) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let text = String::from_utf8_lossy(text).into_owned();
                drop(self.0.as_ref().map(|given| given.send(text)));
                Ok(5)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (given, texts) = channel();
        let mut lines = lines_to(FullOnce(Some(given), false));
        lines.write_all(b"lost\n").unwrap();
        lines.write_all(b"kept\n").unwrap();
        lines.flush_for(10 * PATIENCE);
        assert_eq!(texts.try_iter().collect::<String>(), "kept\n");
    }
}
