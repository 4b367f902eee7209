//! `tapswitch capture` in real namespaces: tshark and tcpdump read what it writes.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::{Child, ExitCode, Stdio},
    time::Duration,
};

use common::{Daemon, Env, Netns, command, ip, succeeded, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tapswitch::control::{
    api::{CaptureFormat, CaptureRequest, Request},
    client::Client,
};

const SOON: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    common::main(|env: &Env| {
        vec![
            env.trial_with(
                &["tshark", "ping"],
                "tshark_reads_names_directions_and_verdicts_of_a_ping",
                ping_in_tshark,
            ),
            env.trial_with(
                &["tcpdump", "ping"],
                "tcpdump_reads_a_capture_from_a_pipe",
                pipe_to_tcpdump,
            ),
            env.trial_with(
                &["tshark", "ping"],
                "a_ring_keeps_the_last_files_and_each_can_be_read",
                ring,
            ),
            env.trial_with(
                &["ping"],
                "lines_tell_what_was_dropped_and_control_c_ends_with_a_summary",
                lines,
            ),
            env.trial_with(
                &["tshark", "ping"],
                "tshark_reads_frames_and_datagrams_of_an_overlay",
                overlay,
            ),
            env.trial_with(
                &["ping", "tcpdump"],
                "a_reader_that_stalls_loses_frames_of_the_capture_and_none_of_the_switch",
                stalled,
            ),
            env.trial_with(
                &["ping"],
                "captures_that_nobody_reads_can_be_ended_and_make_room",
                unread,
            ),
            env.trial_with(
                &["ping"],
                "a_second_control_c_ends_a_capture_whose_output_nobody_takes",
                ordered_to_end,
            ),
            env.trial_with(&["ping"], "what_cannot_be_captured_is_refused", refusals),
        ]
    })
}

impl Daemon {
    /// A capture of lines whose stream nobody reads yet.
    fn raw_capture(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let request = CaptureRequest {
            format: CaptureFormat::Json,
            ..CaptureRequest::default()
        };
        let body = serde_json::to_string(&request).unwrap();
        let len = body.len();
        let head = format!("POST /v1/capture HTTP/1.0\r\nContent-Length: {len}\r\n\r\n");
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(String::from_utf8_lossy(&start), "HTTP/1.0 200 OK");
        stream
    }

    /// Starts a capture, and returns when it captures.
    fn capture(&self, arguments: &str) -> Capture {
        let mut child = self
            .program()
            .arg("capture")
            .args(arguments.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with("capturing"), "{arguments}: {line}");
        Capture { child, stderr }
    }
}

struct Capture {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Capture {
    /// What it printed, and how it ended.
    fn end(mut self) -> (String, String) {
        let (mut out, mut error) = (String::new(), String::new());
        let stdout = self.child.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        self.stderr.read_to_string(&mut error).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {error}");
        (out, error)
    }

    fn interrupt(self) -> (String, String) {
        signal(&self.child, Signal::SIGINT);
        self.end()
    }
}

fn signal(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).unwrap();
    kill(Pid::from_raw(id), signal).unwrap();
}

/// Two pods, 10.1.1.1 and 10.1.1.2, on one bridge.
struct Pods {
    daemon: Daemon,
    pods: [Netns; 2],
}

impl Pods {
    fn new(name: &str) -> Self {
        let pods = [1, 2].map(|number| Netns::new(&format!("{name}{number}")));
        let ports: String = (1..)
            .zip(&pods)
            .map(|(number, pod)| port(number, pod))
            .collect();
        let daemon = Daemon::start(&format!("[[bridge]]\nname = \"br0\"\n{ports}"));
        let both = Self { daemon, pods };
        // ARP is done before anybody looks.
        both.ping("10.1.1.2", 1, 56);
        both
    }

    fn ping(&self, to: &str, count: u32, size: u32) -> bool {
        let (count, size) = (count.to_string(), size.to_string());
        let words = [
            "ping", "-q", "-i", "0.01", "-W", "1", "-c", &count, "-s", &size, to,
        ];
        self.pods[0].exec(&words).status.success()
    }
}

fn port(number: u8, pod: &Netns) -> String {
    format!(
        "[[bridge.port]]\nname = \"pod{number}\"\nnetns = \"{}\"\naddresses = [\"10.1.1.{number}/24\"]\n",
        pod.name()
    )
}

/// Fields of each packet of a file, as tshark reads them.
fn tshark(file: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = command("tshark");
    command.args(["-r", file, "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let text = succeeded("tshark", command.output());
    let split = |line: &str| line.split('|').map(str::to_owned).collect();
    text.lines().map(split).collect()
}

fn ping_in_tshark() {
    let net = Pods::new("shark");
    let capture = net.daemon.capture("-w /run/shark.pcapng -c 4 icmp");
    assert!(net.ping("10.1.1.2", 1, 56));
    let (out, error) = capture.end();

    assert_eq!(out, "");
    assert_eq!(error, "4 frames captured, 0 lost\n");
    let fields = [
        "frame.interface_name",
        "frame.packet_flags_direction",
        "icmp.type",
        "frame.comment",
    ];
    let packets = tshark("/run/shark.pcapng", &fields);
    let heads: Vec<_> = packets.iter().map(|packet| packet[..3].join(" ")).collect();
    let direction = |n: u8| format!("0x{n:08x}");
    let (inward, outward) = (direction(1), direction(2));
    assert_eq!(
        heads,
        [
            format!("pod1 {inward} 8"),
            format!("pod2 {outward} 8"),
            format!("pod2 {inward} 0"),
            format!("pod1 {outward} 0"),
        ]
    );
    assert!(
        packets[0][3].starts_with("forwarded to pod2; fdb "),
        "{packets:?}"
    );
    assert!(
        packets[0][3].contains(" -> pod2 (learned, seen "),
        "{packets:?}"
    );
    assert!(
        packets[1][3].starts_with("delivered; from pod1"),
        "{packets:?}"
    );
}

fn pipe_to_tcpdump() {
    let net = Pods::new("pipe");
    let mut capture = net
        .daemon
        .program()
        .args(["capture", "-w", "-", "-c", "2", "--port", "pod1", "icmp"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = capture.stdout.take().unwrap();
    let tcpdump = command("tcpdump")
        .args(["-Z", "root", "-n", "-r", "-"])
        .stdin(stdout)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(capture.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("capturing"), "{line}");
    assert!(net.ping("10.1.1.2", 1, 56));
    let text = succeeded("tcpdump", tcpdump.wait_with_output());
    assert!(capture.wait().unwrap().success());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("IP 10.1.1.1 > 10.1.1.2: ICMP echo request"),
        "{text}"
    );
    assert!(
        lines[1].contains("IP 10.1.1.2 > 10.1.1.1: ICMP echo reply"),
        "{text}"
    );
}

fn ring() {
    let net = Pods::new("ring");
    let capture = net
        .daemon
        .capture("-w /run/ring.pcapng -C 4kB -W 3 --port pod1 icmp");
    assert!(net.ping("10.1.1.2", 20, 500));
    let (_, error) = capture.interrupt();

    assert_eq!(error, "40 frames captured, 0 lost\n");
    let mut packets = Vec::new();
    for number in 0..3 {
        let file = format!("/run/ring{number}.pcapng");
        assert!(fs::metadata(&file).unwrap().len() <= 4_500);
        let read = tshark(&file, &["icmp.seq", "icmp.type"]);
        assert!(!read.is_empty(), "{file}");
        packets.extend(read);
    }
    assert!(packets.len() < 40);
    assert!(
        packets.contains(&vec!["20".to_owned(), "0".to_owned()]),
        "{packets:?}"
    );
    assert!(!fs::exists("/run/ring3.pcapng").unwrap());
}

fn lines() {
    let net = Pods::new("lines");
    net.pods[1].ip("link set eth0 down");
    let capture = net.daemon.capture("drops");
    let all = net.daemon.capture("-v --side in --port pod1 icmp");
    assert!(!net.ping("10.1.1.2", 1, 56));
    let (out, error) = capture.interrupt();
    assert!(
        out.contains("pod2 out icmp 10.1.1.1 > 10.1.1.2 echo request 1 [dropped egress_down]"),
        "{out}"
    );
    assert!(error.contains(" captured, 0 lost"), "{error}");
    let (out, _) = all.interrupt();
    assert!(
        out.contains(" pod1 in  icmp 10.1.1.1 > 10.1.1.2 echo request 1 -> "),
        "{out}"
    );
    assert!(out.contains("    98 bytes; "), "{out}");
}

fn overlay() {
    let nodes = [1, 2].map(|number| Netns::new(&format!("node{number}")));
    let pods = [1, 2].map(|number| Netns::new(&format!("far{number}")));
    let names = [nodes[0].name(), nodes[1].name()];
    ip(&format!(
        "link add u0 netns {} type veth peer name u0 netns {}",
        names[0], names[1]
    ));
    let daemons: Vec<Daemon> = [1_u8, 2]
        .into_iter()
        .map(|number| {
            let (index, other) = (usize::from(number - 1), 3 - number);
            nodes[index].ip(&format!("address add 192.168.50.{number}/24 dev u0"));
            nodes[index].ip("link set u0 up");
            let port = port(number, &pods[index]);
            Daemon::start(
                &format!(
                    "[vtep]\nlocal = \"192.168.50.{number}\"\nnetns = \"{}\"\n\
                     [[bridge]]\nname = \"br0\"\nvni = 42\npeers = [\"192.168.50.{other}\"]\n{port}",
                    names[index]
                ),
            )
        })
        .collect();
    let ping = || {
        let words = ["ping", "-q", "-c", "1", "-W", "1", "10.1.1.2"];
        pods[0].exec(&words).status.success()
    };
    wait_until("the pods reach each other", SOON, ping);
    let outer = daemons[0].capture("--outer -w /run/outer.pcapng -c 2 vxlan 42 and icmp");
    let inner = daemons[1].capture("--peer 192.168.50.1 -w /run/inner.pcapng -c 2 icmp");
    assert!(ping());
    outer.end();
    inner.end();

    let fields = [
        "frame.interface_name",
        "udp.dstport",
        "vxlan.vni",
        "icmp.type",
        "ip.checksum.status",
        "frame.comment",
    ];
    let packets = tshark("/run/outer.pcapng", &fields);
    assert_eq!(
        packets[0][..4].join(" "),
        "192.168.50.2@br0/outer 4789 42 8"
    );
    assert_eq!(
        packets[1][..4].join(" "),
        "192.168.50.2@br0/outer 4789 42 0"
    );
    assert!(
        packets[0][5].starts_with("delivered; from pod1; vni 42"),
        "{packets:?}"
    );
    assert!(
        packets[1][5].starts_with("decapsulated; vni 42"),
        "{packets:?}"
    );
    let packets = tshark("/run/inner.pcapng", &fields);
    assert_eq!(packets[0][..4].join(" "), "192.168.50.1@br0   8");
    assert!(
        packets[0][5].starts_with("forwarded to pod2; fdb "),
        "{packets:?}"
    );
}

fn stalled() {
    let net = Pods::new("stall");
    // Nobody reads its output until the end.
    let capture = net.daemon.capture("-w - icmp");
    for _ in 0..3 {
        let words = ["ping", "-q", "-f", "-c", "1000", "-s", "1400", "10.1.1.2"];
        let output = net.pods[0].exec(&words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("1000 received, 0% packet loss"), "{text}");
    }
    signal(&capture.child, Signal::SIGINT);
    let mut capture = capture;
    let mut bytes = Vec::new();
    let stdout = capture.child.stdout.as_mut().unwrap();
    stdout.read_to_end(&mut bytes).unwrap();
    let mut error = String::new();
    capture.stderr.read_to_string(&mut error).unwrap();
    assert!(capture.child.wait().unwrap().success());
    let mut numbers = error
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse::<u64>().ok());
    let (captured, lost) = (numbers.next().unwrap(), numbers.next().unwrap());
    // Each of 3000 questions and answers comes in and leaves.
    assert_eq!(captured + lost, 12_000, "{error}");
    assert!(captured > 1_000 && lost > 0, "{error}");
    fs::write("/run/stall.pcapng", bytes).unwrap();
    let words = ["-Z", "root", "-n", "-r", "/run/stall.pcapng"];
    let text = succeeded("tcpdump", command("tcpdump").args(words).output());
    assert_eq!(text.lines().count() as u64, captured);
}

fn unread() {
    let net = Pods::new("unread");
    let client = Client::new(net.daemon.socket());
    let mut streams: Vec<UnixStream> = (0..16).map(|_| net.daemon.raw_capture()).collect();
    let refused = || {
        let output = net
            .daemon
            .program()
            .args(["capture", "-c", "1", "-w", "/run/unread.pcapng"])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        error
    };
    // More than anything between the daemon and the readers has room for.
    let words = ["ping", "-q", "-f", "-c", "1000", "-s", "1400", "10.1.1.2"];
    net.pods[0].exec(&words);
    let error = refused();
    assert!(error.contains("16 captures run already"), "{error}");
    assert!(error.contains("pgrep -af 'tapswitch capture'"), "{error}");

    client.request(&Request::CaptureStop { id: 1 }).unwrap();
    let again = client.request(&Request::CaptureStop { id: 1 });
    assert!(again.is_err(), "{again:?}");
    // In place of the one that has ended.
    streams.push(net.daemon.raw_capture());
    refused();

    // What it had until then is there to be read, and the end.
    let mut text = Vec::new();
    streams[0].read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("echo request"), "{text}");
    assert!(text.contains("{\"event\":\"end\",\"captured\":"), "{text}");
}

fn ordered_to_end() {
    let net = Pods::new("order");
    let mut capture = net.daemon.capture("-w - icmp");
    let words = ["ping", "-q", "-f", "-c", "1000", "-s", "1400", "10.1.1.2"];
    net.pods[0].exec(&words);
    signal(&capture.child, Signal::SIGINT);
    // The first one is taken by somebody: a wish, which cannot be met yet.
    wait_until("the first is taken", SOON, || {
        let id = capture.child.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let pending = status.lines().find(|line| line.starts_with("ShdPnd:"));
        pending.unwrap().ends_with("0000000000000000")
    });
    assert!(capture.child.try_wait().unwrap().is_none());
    wait_until("it ends", SOON, || {
        signal(&capture.child, Signal::SIGINT);
        capture.child.try_wait().unwrap().is_some()
    });
}

fn refusals() {
    let net = Pods::new("refuse");
    for (arguments, code, says) in [
        (
            "--port nobody",
            1,
            "capture: no port \"nobody\"; there is pod1, pod2",
        ),
        ("--peer 192.0.2.1", 1, "capture: no peer 192.0.2.1"),
        ("--bridge nobody", 1, "capture: no bridge \"nobody\""),
        ("--port pod1 --outer", 2, "at a port there are no datagrams"),
        (
            "hots 10.1.1.1",
            2,
            "read filter, column 1: expected a primitive",
        ),
        ("-C 1M", 2, "--write"),
        (
            "-w - --json",
            2,
            "both --json and -w - want standard output",
        ),
        ("-w /nowhere/x.pcapng -c 1", 1, "write /nowhere/x.pcapng: "),
    ] {
        let output = net
            .daemon
            .program()
            .arg("capture")
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {error}");
        assert!(error.contains(says), "{arguments}: {error}");
    }
}
