//! A machine of its own for each test, with the daemon running, and a shell to type into.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tapswitch::{names::NetnsRef, sys::netns::NetnsFile};

use crate::common::{command, ip, wait_until};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A fresh "host": an empty network namespace in which the daemon runs, with the default socket.
///
/// When it ends, every frame must be accounted for, and the daemon must end at once and take all
/// its devices along.
#[must_use = "it ends when it is dropped"]
pub(crate) struct Lab {
    daemon: Option<Child>,
    machine: Machine,
}

/// Where the daemon runs, and what is typed.
enum Machine {
    /// In the namespace of the test, which has no other.
    Own(Cleanup),
    /// In a namespace of this name, with a socket of its own: one node of several.
    Node(String),
}

/// Deletes all named namespaces when the test ends.
pub(crate) struct Cleanup;

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(command("ip").args(["-all", "netns", "delete"]).output());
    }
}

/// What a command line that failed left.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: i32,
    pub(crate) stderr: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With further arguments of `tapswitch run`.
    #[track_caller]
    pub(crate) fn with(arguments: &str) -> Self {
        let cleanup = fresh_host();
        let mut lab = Self {
            daemon: None,
            machine: Machine::Own(cleanup),
        };
        lab.start(arguments);
        lab
    }

    /// A machine in a namespace that is there already, without a daemon.
    pub(crate) fn node(netns: &str) -> Self {
        Self {
            daemon: None,
            machine: Machine::Node(netns.to_owned()),
        }
    }

    /// Starts the daemon and waits until its ports forward.
    #[track_caller]
    pub(crate) fn start(&mut self, arguments: &str) {
        let log = fs::File::create(self.log_file()).unwrap();
        let mut daemon = self.shell(&format!("exec tapswitch run {arguments}"));
        daemon.stdin(Stdio::null()).stdout(Stdio::piped());
        let daemon = self.inside(|| daemon.stderr(log).spawn());
        let mut daemon = daemon.unwrap();
        let mut line = String::new();
        let stdout = daemon.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        self.daemon = Some(daemon);
        assert_eq!(line, "ready\n", "{}", self.log());
    }

    /// What the daemon has written to stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> String {
        match &self.machine {
            Machine::Own(_) => "/run/tapswitch.log".to_owned(),
            Machine::Node(name) => format!("/run/{name}.log"),
        }
    }

    fn socket(&self) -> String {
        match &self.machine {
            Machine::Own(_) => "/run/tapswitch/control.sock".to_owned(),
            Machine::Node(name) => format!("/run/{name}.sock"),
        }
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.daemon.as_ref().unwrap().id();
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }

    /// Types `script` into a shell and returns what it printed; any failure in it is one here.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(
            output.status.success(),
            "{script}\n{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Types a command that must fail, and leave stdout empty.
    #[track_caller]
    pub(crate) fn refused(&self, script: &str) -> Refusal {
        let output = self.run(script);
        assert!(!output.status.success(), "{script}: it worked");
        assert_eq!(text(&output.stdout), "", "{script}");
        Refusal {
            code: output.status.code().unwrap_or(-1),
            stderr: text(&output.stderr),
        }
    }

    /// What a program that must fail printed.
    #[track_caller]
    pub(crate) fn failed(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(!output.status.success(), "{script}: it worked");
        text(&output.stdout)
    }

    /// Whether a command succeeds.
    pub(crate) fn works(&self, script: &str) -> bool {
        self.run(script).status.success()
    }

    fn run(&self, script: &str) -> Output {
        let mut shell = self.shell(script);
        self.inside(|| shell.stdin(Stdio::null()).output()).unwrap()
    }

    /// A shell that finds this build of the program, and stops at the first failure.
    fn shell(&self, script: &str) -> Command {
        let mut shell = command("sh");
        let path = shell
            .get_envs()
            .find_map(|(name, value)| (name == "PATH").then(|| value?.to_str()).flatten())
            .unwrap_or_default();
        let program = Path::new(env!("CARGO_BIN_EXE_tapswitch"));
        let path = format!("{}:{path}", program.parent().unwrap().display());
        shell
            .args(["-euc", script])
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env_remove("TAPSWITCH_SOCKET")
            .env_remove("TAPSWITCH_LOG");
        if let Machine::Node(_) = self.machine {
            shell.env("TAPSWITCH_SOCKET", self.socket());
        }
        shell
    }

    /// Runs `f` where the daemon runs.
    fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        match &self.machine {
            Machine::Own(_) => f(),
            Machine::Node(name) => {
                let netns = NetnsFile::open(&name.parse().unwrap()).unwrap();
                netns.run_in(f).unwrap()
            }
        }
    }

    /// What `tapswitch ARGUMENTS --json` prints.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.sh(&format!("tapswitch {arguments} --json"))).unwrap()
    }

    /// One port as `port show --json` tells it.
    #[track_caller]
    pub(crate) fn port(&self, name: &str) -> Value {
        self.json(&format!("port show {name}"))[0].take()
    }

    /// Frames that the switch took from (`rx`) or gave to (`tx`) a port.
    #[track_caller]
    pub(crate) fn frames(&self, port: &str, direction: &str) -> u64 {
        self.port(port)[direction]["frames"].as_u64().unwrap()
    }

    /// The MAC addresses that the FDB has behind `port`.
    #[track_caller]
    pub(crate) fn macs(&self, port: &str) -> Vec<String> {
        let entries = self.json(&format!("fdb show --port {port}"));
        let entries = entries.as_array().unwrap();
        let mac = |entry: &Value| entry["mac"].as_str().unwrap().to_owned();
        entries.iter().map(mac).collect()
    }

    #[track_caller]
    pub(crate) fn ping(&self, netns: &str, to: &str) {
        self.sh(&format!(
            "ip netns exec {netns} ping -c 2 -i 0.05 -W 2 {to}"
        ));
    }

    /// Whether one ping is answered within a moment.
    pub(crate) fn reaches(&self, netns: &str, to: &str) -> bool {
        self.works(&format!("ip netns exec {netns} ping -c 1 -W 0.5 {to}"))
    }

    /// Starts a program that lives until the test drops it.
    #[track_caller]
    pub(crate) fn spawn(&self, script: &str) -> Process {
        let mut shell = self.shell(&format!("exec {script}"));
        shell.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = self.inside(|| shell.stderr(Stdio::inherit()).spawn());
        Process(child.unwrap())
    }

    /// A container without a network: a process with a network namespace that has no name.
    #[track_caller]
    pub(crate) fn container(&self) -> Process {
        let process = self.spawn("unshare -n sleep 600");
        let netns = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let own = netns("thread-self");
        wait_until("the container runs", 5 * SECOND, || {
            let its = netns(&process.id().to_string());
            its.is_some() && its != own
        });
        process
    }

    /// Starts `tapswitch monitor --json`; returns when it sees what happens.
    #[track_caller]
    pub(crate) fn monitor(&self) -> Monitor {
        let mut process = self.spawn("tapswitch monitor --json");
        let (sender, events) = channel();
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap();
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let monitor = Monitor {
            _process: process,
            events,
        };
        wait_until("the monitor sees an event", 5 * SECOND, || {
            self.sh("tapswitch bridge add probe; tapswitch bridge del probe");
            monitor.events.recv_timeout(SECOND / 10).is_ok()
        });
        monitor
    }

    /// A web server in a namespace, as `tapswitch` names it, that answers every request with `body`.
    #[track_caller]
    pub(crate) fn serve(&self, netns: &str, address: &str, body: &str) {
        let netns: NetnsRef = netns.parse().unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let bound = NetnsFile::open(&netns)
            .unwrap()
            .run_in(|| TcpListener::bind(address));
        let listener = bound.unwrap().unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 4096];
                // A client that goes away early is no matter of this server.
                drop(stream.read(&mut request));
                drop(stream.write_all(answer.as_bytes()));
            }
        });
    }

    /// What a web server answers to a client in a namespace.
    #[track_caller]
    pub(crate) fn fetch(&self, netns: &str, address: &str) -> String {
        let netns: NetnsRef = netns.parse().unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let connected = NetnsFile::open(&netns)
            .unwrap()
            .run_in(|| TcpStream::connect_timeout(&address, 5 * SECOND));
        let mut stream = connected.unwrap().unwrap();
        stream.set_read_timeout(Some(5 * SECOND)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Ends the daemon as a service manager does.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let mut daemon = self.daemon.take().unwrap();
        let mut code = None;
        let took = wait_until("the daemon ends", 5 * SECOND, || {
            code = daemon.try_wait().unwrap();
            code.is_some()
        });
        assert!(took < SECOND, "the daemon took {took:?} to end");
        assert_eq!(code.and_then(|code| code.code()), Some(0), "{}", self.log());
        assert!(!Path::new(&self.socket()).exists());
        if let Machine::Own(_) = self.machine {
            let left = "ip -o link show type tun; for n in $(ip netns list | cut -d' ' -f1); do \
                        ip -n $n -o link show type tun; done";
            assert_eq!(self.sh(left), "", "devices are left");
        }
    }

    /// Whether each frame that came in is accounted for.
    #[track_caller]
    fn check_counters(&self) {
        // A frame may be on its way while the counters are read.
        wait_until("every frame is accounted for", 2 * SECOND, || {
            self.sh("tapswitch stats --json")
                .contains("\"unaccounted\":0")
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            if let Some(mut daemon) = self.daemon.take() {
                eprintln!("{}", self.log());
                drop(daemon.kill());
                drop(daemon.wait());
            }
        } else if self.daemon.is_some() {
            self.check_counters();
            self.stop();
        }
    }
}

/// An empty network namespace for this thread.
pub(crate) fn fresh_host() -> Cleanup {
    // Trials run one after the other on this thread; what it starts from here on comes along.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
    Cleanup
}

/// A program that is killed when the test ends, however it ends.
#[must_use = "it is killed when it is dropped"]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end and returns what it wrote to stdout.
    #[track_caller]
    pub(crate) fn output(mut self) -> String {
        let mut output = String::new();
        let mut stdout = self.0.stdout.take().unwrap();
        stdout.read_to_string(&mut output).unwrap();
        output
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The events of the daemon.
#[must_use = "it ends when it is dropped"]
pub(crate) struct Monitor {
    _process: Process,
    events: Receiver<Value>,
}

impl Monitor {
    /// The next event that `is_it`.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_until(what, 10 * SECOND, || {
            found = self.events.try_iter().find(&is_it);
            found.is_some()
        });
        found.unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `text` with each run of blanks as one.
pub(crate) fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
