//! `tapswitch top` on a terminal: it draws, obeys keys, and gives the terminal back however it ends.

mod fake;

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use fake::{FakeDaemon, name};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, Termios, tcgetattr},
    },
    unistd::Pid,
};
use tapswitch::control::api::Event;

/// A terminal with the program on it.
struct Terminal {
    master: File,
    slave: OwnedFd,
    before: Termios,
    child: Child,
    written: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(socket: &Path, arguments: &[&str]) -> Self {
        // With a session of its own the terminal is the program's, as in real life.
        let program = ["--ctty", env!("CARGO_BIN_EXE_tapswitch")];
        let terminal = Self::unread(socket, &[&program, arguments].concat());
        let mut from = terminal.master.try_clone().unwrap();
        let to = Arc::clone(&terminal.written);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It ends when nobody has the other end any more.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                to.lock().unwrap().push_str(&text);
            }
        });
        terminal
    }

    /// Nobody reads what this one gets.
    fn unread(socket: &Path, command: &[&str]) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // No other program may inherit its ends: this one would then never be without a terminal,
        // and outlive a test that is killed.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let one = ONE_AT_A_TIME.lock();
        let pty = openpty(Some(&size), None).unwrap();
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let before = tcgetattr(pty.slave.as_fd()).unwrap();
        let child = Command::new("setsid")
            .args(command)
            .env("TAPSWITCH_SOCKET", socket)
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("run setsid; install util-linux");
        drop(one);
        let (master, written) = (File::from(pty.master), Arc::default());
        Self {
            master,
            slave: pty.slave,
            before,
            child,
            written,
        }
    }

    /// How it ended.
    #[track_caller]
    fn status(&mut self) -> ExitStatus {
        let start = now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it goes on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn written(&self) -> String {
        self.written.lock().unwrap().clone()
    }

    /// Waits until `text` has been written since the last call. One word in
    /// place of nothing: what is there already, such as a space, is not written again.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let start = now();
        loop {
            let written = self.written();
            if let Some(at) = written.find(text) {
                self.written.lock().unwrap().drain(..=at);
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{text:?} is not in {written:?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Closes both ends of this side.
    fn hang_up(&mut self) {
        let nothing = File::open("/dev/null").unwrap();
        self.slave = nothing.try_clone().unwrap().into();
        self.master = nothing;
    }

    fn is_raw(&self) -> bool {
        let now = tcgetattr(self.slave.as_fd()).unwrap();
        !now.local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    /// The process id of the program: setsid has become it.
    fn program(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for the end of the program, and looks at what it left behind.
    #[track_caller]
    fn ended(mut self) -> (ExitStatus, String) {
        let status = self.status();
        let after = tcgetattr(self.slave.as_fd()).unwrap();
        assert_eq!(after.local_flags, self.before.local_flags, "still raw");
        assert_eq!(after.input_flags, self.before.input_flags, "still raw");
        assert_eq!(after.output_flags, self.before.output_flags, "still raw");
        // What comes after all that it has written.
        File::from(self.slave.try_clone().unwrap())
            .write_all(MARK.as_bytes())
            .unwrap();
        let start = now();
        loop {
            let written = self.written();
            if let Some(text) = written.strip_suffix(MARK) {
                return (status, text.to_owned());
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{written:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Written by nobody else.
const MARK: &str = "<<the end>>";
const OTHER_SCREEN: &str = "\x1b[?1049h";
const FIRST_SCREEN: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

#[track_caller]
fn assert_given_back(text: &str) {
    let (_, after) = text
        .rsplit_once(FIRST_SCREEN)
        .unwrap_or_else(|| panic!("the first screen is not back: {text:?}"));
    assert!(text.contains(SHOW_CURSOR), "the cursor is hidden: {text:?}");
    assert!(!after.contains("podA"), "it draws on: {after:?}");
}

#[test]
fn it_draws_obeys_keys_and_quits() {
    let daemon = FakeDaemon::start("top-keys");
    let mut terminal = Terminal::start(&daemon.socket(), &["top", "--interval", "50ms"]);
    terminal.wait_for(OTHER_SCREEN);
    terminal.wait_for("podA");
    assert!(terminal.is_raw());
    terminal.wait_for("recent");

    terminal.press("d");
    terminal.wait_for("unknown_vni:");
    terminal.press("d?");
    terminal.wait_for("arrows,");
    terminal.press("q");

    let (status, text) = terminal.ended();
    assert_eq!(status.code(), Some(0), "{text:?}");
    assert_given_back(&text);
}

#[test]
fn events_appear_on_it() {
    let daemon = FakeDaemon::start("top-events");
    let mut terminal = Terminal::start(&daemon.socket(), &["top", "--interval", "50ms"]);
    terminal.wait_for("podA");
    let subscribed = now();
    while daemon.fake.events.receiver_count() < 1 {
        assert!(subscribed.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
    let lost = Event::Drops {
        time: 0.0,
        bridge: Some(name("br0")),
        port: Some(name("podX")),
        remote: None,
        direction: "receive".to_owned(),
        reason: "no_egress".to_owned(),
        count: 12,
    };
    daemon.fake.events.send(lost).unwrap();

    terminal.wait_for("no_egress:");
    terminal.press("\x03");

    let (status, text) = terminal.ended();
    assert_eq!(status.code(), Some(0), "{text:?}");
    assert_given_back(&text);
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_as_before() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let daemon = FakeDaemon::start(&format!("top-{signal}"));
        let terminal = Terminal::start(&daemon.socket(), &["top"]);
        terminal.wait_for("podA");

        kill(terminal.program(), signal).unwrap();

        let (status, text) = terminal.ended();
        assert_eq!(status.code(), Some(0), "{signal}: {text:?}");
        assert_given_back(&text);
    }
}

#[test]
fn it_ends_with_its_terminal_even_if_no_signal_says_so() {
    let daemon = FakeDaemon::start("top-gone");
    // Nothing to draw would tell it.
    let program = env!("CARGO_BIN_EXE_tapswitch");
    let command = [program, "top", "--interval", "1h"];
    let mut terminal = Terminal::unread(&daemon.socket(), &command);
    let mut from = terminal.master.try_clone().unwrap();
    let mut screen = String::new();
    while !screen.contains("podA") {
        let mut buffer = [0; 4096];
        let count = from.read(&mut buffer).unwrap();
        screen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }

    drop(from);
    terminal.hang_up();

    terminal.status();
}

#[test]
fn a_signal_ends_it_although_nobody_reads_the_screen() {
    let daemon = FakeDaemon::start("top-full");
    let program = env!("CARGO_BIN_EXE_tapswitch");
    let mut terminal = Terminal::unread(&daemon.socket(), &["--ctty", program, "top"]);
    let start = now();
    while !terminal.is_raw() {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
    // Each draws another screen, until no more fits into the terminal.
    terminal.press(&"d?".repeat(200));
    let stuck = |pid: Pid| {
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall"));
        call.is_ok_and(|call| call.starts_with(&format!("{} 0x1 ", libc::SYS_write)))
    };
    while !stuck(terminal.program()) {
        assert!(start.elapsed() < Duration::from_secs(20), "it is not stuck");
        thread::sleep(Duration::from_millis(5));
    }

    kill(terminal.program(), Signal::SIGTERM).unwrap();

    assert_eq!(terminal.status().code(), Some(1));
    let after = tcgetattr(terminal.slave.as_fd()).unwrap();
    assert_eq!(after.local_flags, terminal.before.local_flags, "still raw");
}

#[test]
fn it_fills_a_window_that_grows() {
    let daemon = FakeDaemon::start("top-size");
    let mut terminal = Terminal::start(&daemon.socket(), &["top", "--interval", "10s"]);
    terminal.wait_for("podA");
    drop(terminal.written.lock().unwrap().drain(..));

    let slave = Stdio::from(terminal.slave.try_clone().unwrap());
    let resized = Command::new("stty")
        .args(["cols", "132", "rows", "40"])
        .stdin(slave)
        .status();
    assert!(resized.unwrap().success());

    // Row 40 of the terminal has the keys now.
    terminal.wait_for("\x1b[40;");
    terminal.press("q");
    assert_given_back(&terminal.ended().1);
}

#[test]
fn a_daemon_that_ends_is_said_and_one_that_returns_is_shown() {
    let daemon = FakeDaemon::start("top-return");
    let mut terminal = Terminal::start(&daemon.socket(), &["top", "--interval", "50ms"]);
    terminal.wait_for("podA");

    drop(daemon);
    terminal.wait_for("connect");
    let daemon = FakeDaemon::start("top-return");
    terminal.wait_for("unaccounted");
    terminal.press("q");

    assert_given_back(&terminal.ended().1);
    drop(daemon);
}

#[test]
fn without_a_terminal_or_a_daemon_it_says_so_and_touches_nothing() {
    let daemon = FakeDaemon::start("top-none");
    let output = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .env("TAPSWITCH_SOCKET", daemon.socket())
        .arg("top")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stdout, b"");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "tapswitch: show the screen of top: standard output is no terminal; read the counters with: \
         tapswitch stats --watch\n"
    );

    let terminal = Terminal::start(Path::new("/nonexistent/s"), &["top"]);
    let (status, text) = terminal.ended();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("start it with: tapswitch run"), "{text:?}");
    assert!(!text.contains(OTHER_SCREEN), "{text:?}");
}

#[test]
fn for_scripts_it_is_one_value() {
    let daemon = FakeDaemon::start("top-json");
    let output = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .env("TAPSWITCH_SOCKET", daemon.socket())
        .args(["top", "--json"])
        .output()
        .unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["ports"][0]["name"], "podA");
}

#[test]
fn stats_are_watched_until_ctrl_c() {
    let daemon = FakeDaemon::start("watch");
    let arguments = ["stats", "--watch", "--interval", "50ms"];
    let mut terminal = Terminal::start(&daemon.socket(), &arguments);
    let start = now();
    while terminal.written().matches("\x1b[H").count() < 3 {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
    let written = terminal.written();
    for text in ["BIT/S", "queue_full 3"] {
        assert!(written.contains(text), "{text:?} is not in {written:?}");
    }
    // Each screen in place of the one before, and none cleared before it is written.
    assert!(!written.contains("\x1b[2J"), "{written:?}");

    terminal.press("\x03");

    let (status, text) = terminal.ended();
    assert_eq!(status.code(), Some(0), "{text:?}");
}

#[test]
fn stats_are_watched_as_lines_of_json() {
    let daemon = FakeDaemon::start("watch-json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .env("TAPSWITCH_SOCKET", daemon.socket())
        .args(["stats", "--watch", "--interval", "50ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let start = now();
    while daemon.requests().len() < 3 {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();

    let mut text = String::new();
    let mut out = child.stdout.take().unwrap();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(text.lines().count() >= 2, "{text}");
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["ports"][0]["rx"]["frames"], 12);
    }
}

#[expect(clippy::disallowed_methods, reason = "the test measures real time")]
fn now() -> Instant {
    Instant::now()
}
