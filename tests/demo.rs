//! `tapswitch demo` shows the same everywhere: as root, as an ordinary user, and in memory.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, ExitCode, Output, Stdio},
    time::Duration,
};

use common::{Env, command, links};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, geteuid},
};
use tapswitch::sys::clock;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tapswitch");

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let is_root = geteuid().is_root() && is_mapped(NOBODY.as_raw());
        let no_other_user = (!is_root).then(|| "only root can be somebody else".to_owned());
        let as_nobody = Env {
            reason_not_to_run: env.reason_not_to_run.clone().or(no_other_user),
        };
        vec![
            env.trial("in_real_namespaces_it_pings_tells_and_leaves_nothing", real),
            as_nobody.trial("an_ordinary_user_sees_the_same", ordinary_user),
            env.trial(
                "in_a_browser_both_nodes_are_seen_and_nothing_is_left_at_the_end",
                browser,
            ),
            as_nobody.trial(
                "an_ordinary_users_browser_sees_the_same",
                ordinary_users_browser,
            ),
            env.trial_with(
                &["unshare", "mount"],
                "without_tap_devices_it_plays_in_memory_and_says_why",
                in_memory,
            ),
        ]
    })
}

const NOBODY: Uid = Uid::from_raw(65_534);

/// Whether a user namespace, if this is one, knows that user.
fn is_mapped(uid: u32) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().flat_map(str::parse).collect();
        matches!(numbers[..], [first, _, count] if uid >= first && uid - first < count)
    })
}

fn real() {
    let before = links();
    let start = clock::now();
    let text = told(Command::new(PROGRAM).arg("demo").output().unwrap());
    assert!(clock::now().since(start) < Duration::from_secs(3));
    assert!(text.starts_with("In real network namespaces"), "{text}");
    check(&text);
    check_json(
        &told(
            Command::new(PROGRAM)
                .args(["demo", "--json"])
                .output()
                .unwrap(),
        ),
        true,
    );
    assert_eq!(links(), before);
}

/// One value, with the same in it.
fn check_json(text: &str, real: bool) {
    let told: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(told["real"], real);
    assert_eq!(told["unaccounted"], 0);
    assert_eq!(told["nodes"][1]["pods"][0]["name"], "podC");
    assert_eq!(told["pings"].as_array().unwrap().len(), 5);
    assert_eq!(told["mtu"]["mtu"], 1450);
    let frames = told["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 12);
    assert_eq!(frames[0]["at"], "switch");
    assert_eq!(frames[0]["from"], "podA");
    assert_eq!(frames[1]["at"], "cable");
    let fdb = told["fdb"].as_array().unwrap();
    assert!(
        fdb.iter()
            .any(|row| row["node"] == 2 && row["remote"] == "198.51.100.1")
    );
}

fn ordinary_user() {
    // Where it is built others may not look.
    let copy = "/run/tapswitch-demo";
    fs::copy(PROGRAM, copy).unwrap();
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut program = Command::new(copy);
    program.arg("demo").current_dir("/");
    program.uid(NOBODY.as_raw()).gid(NOBODY.as_raw());
    let text = told(program.output().unwrap());
    // Not every machine lets ordinary users have namespaces or TAPs: then it says so.
    let is_real = text.starts_with("In real network namespaces, inside a user namespace");
    assert!(is_real || text.starts_with("In memory"), "{text}");
    check(&text);
}

fn browser() {
    let before = links();
    let mut program = Command::new(PROGRAM);
    assert!(in_browser(&mut program, Signal::SIGINT).starts_with("In real network namespaces"));
    in_browser(
        Command::new(PROGRAM).env("TAPSWITCH_LOG", "warn"),
        Signal::SIGTERM,
    );
    assert_eq!(links(), before);
}

fn ordinary_users_browser() {
    let copy = "/run/tapswitch-demo-web";
    fs::copy(PROGRAM, copy).unwrap();
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut program = Command::new(copy);
    program.current_dir("/");
    program.uid(NOBODY.as_raw()).gid(NOBODY.as_raw());
    // Not every machine lets ordinary users have namespaces or TAPs: then it says so.
    let text = in_browser(&mut program, Signal::SIGINT);
    assert!(text.contains("you are not root"), "{text}");
}

/// Shows the demo in a browser until the first question has been flooded on both nodes, ends it, and
/// returns what it said.
fn in_browser(program: &mut Command, end: Signal) -> String {
    program.args(["demo", "--web"]);
    program.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    let page = loop {
        let Some(line) = lines.next() else {
            let said = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.contains("show the demo in a browser"), "{said}");
            return format!("you are not root, and it is not possible here: {said}");
        };
        let line = line.unwrap();
        text += &format!("{line}\n");
        if let Some(url) = line.strip_prefix("live page: http://") {
            break url.trim_end_matches('/').to_owned();
        }
    };
    let mut stream = TcpStream::connect(&page).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(stream, "GET /api/live HTTP/1.1\r\nhost: {page}\r\n\r\n").unwrap();
    let mut nodes = BTreeSet::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if !line.contains("who-has") {
            continue;
        }
        for node in ["node1", "node2"] {
            if line.contains(&format!("\"node\":\"{node}\"")) && line.contains("flooded") {
                nodes.insert(node);
            }
        }
        if nodes.len() == 2 {
            break;
        }
    }
    assert_eq!(nodes.len(), 2);
    kill(Pid::from_raw(child.id().cast_signed()), end).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {stderr}", output.status);
    assert_eq!(stderr, "");
    text
}

fn in_memory() {
    let script = format!("mount -t tmpfs tmpfs /dev/net && exec {PROGRAM} demo");
    let text = told(
        command("unshare")
            .args(["-m", "sh", "-c", &script])
            .output()
            .unwrap(),
    );
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("In memory"), "{text}");
    let reason = lines.next().unwrap();
    assert!(reason.contains("/dev/net/tun"), "{reason}");
    check(&text);
    let script = format!("{script} --json");
    let output = command("unshare")
        .args(["-m", "sh", "-c", &script])
        .output();
    check_json(&told(output.unwrap()), false);
}

fn told(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
    String::from_utf8(output.stdout).unwrap()
}

/// What it says is what a switch with an overlay does.
#[track_caller]
fn check(text: &str) {
    let count = |words: &str| text.lines().filter(|line| line.contains(words)).count();
    assert_eq!(
        count("podA pings podC on the other node: reply after"),
        3,
        "{text}"
    );
    assert_eq!(
        count("with a packet of 1450 bytes: reply after"),
        1,
        "{text}"
    );
    assert_eq!(
        count("podA pings podB on the same node: reply after"),
        1,
        "{text}"
    );

    let steps = steps(text);
    let [question, answer, echo, reply] = [
        "arp who-has 192.0.2.3 tell 192.0.2.1, 42 bytes",
        "arp 192.0.2.3 is-at 02:00:00:00:00:03, 42 bytes",
        "icmp 192.0.2.1 > 192.0.2.3 echo request 1, 98 bytes",
        "icmp 192.0.2.3 > 192.0.2.1 echo reply 1, 98 bytes",
    ];
    // The frame at the near node, 50 bytes more on the cable, and the same at the far node.
    let there = |frame: &str, len: u32| {
        [
            format!("node 1, from podA: {frame}"),
            format!("cable: from node 1 to node 2 in {len} bytes"),
            format!("node 2, from node 1: {frame}"),
        ]
    };
    let back = |frame: &str, len: u32| {
        [
            format!("node 2, from podC: {frame}"),
            format!("cable: from node 2 to node 1 in {len} bytes"),
            format!("node 1, from node 2: {frame}"),
        ]
    };
    let expected = [
        there(question, 92),
        back(answer, 92),
        there(echo, 148),
        back(reply, 148),
    ];
    assert_eq!(steps.len(), 12, "{text}");
    for (step, expected) in steps.iter().zip(expected.as_flattened()) {
        assert!(step.contains(expected), "{expected} is not in {step}");
    }
    assert!(
        steps[0].contains("broadcast: flooded to podB, node 2"),
        "{text}"
    );
    assert!(
        steps[2].contains("broadcast: flooded to podC, podD"),
        "{text}"
    );
    assert!(
        steps[2].contains("learned 02:00:00:00:00:01 on node 1"),
        "{text}"
    );
    assert!(text.contains("each frame is 50 bytes longer"), "{text}");

    let squeezed: Vec<_> = text.split_whitespace().collect();
    let squeezed = squeezed.join(" ");
    for words in [
        "02:00:00:00:00:01 (podA) port podA VTEP 198.51.100.1",
        "02:00:00:00:00:02 (podB) port podB (never heard)",
        "02:00:00:00:00:03 (podC) VTEP 198.51.100.2 port podC",
        "1500 - 20 (outer IPv4) - 8 (UDP) - 8 (VXLAN) - 14 (inner Ethernet)",
        "The pods' MTU is 1450,",
        "The longest frame there had 1514 bytes,",
        "unaccounted for: 0.",
    ] {
        assert!(squeezed.contains(words), "{words} is not in {text}");
    }
    // All but the kernel's reason, if there is one.
    let lines = text.lines().filter(|line| !line.starts_with("  ("));
    let widest = lines.map(str::len).max();
    assert!(widest <= Some(100), "{widest:?}: {text}");
    assert!(text.lines().count() < 70, "two screens: {text}");
}

/// The numbered steps of the story, each with its second line if it has one.
fn steps(text: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let story = text.lines().skip_while(|line| !line.starts_with("  1. "));
    for line in story.take_while(|line| !line.is_empty()) {
        if line.contains(" us  ") {
            steps.push(line.to_owned());
        } else if let Some(last) = steps.last_mut() {
            last.push_str(line);
        }
    }
    steps
}
