//! The program as a shell sees it: output, errors and exit codes.

mod fake;

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Output, Stdio},
};

use fake::{FakeDaemon, name};
use tapswitch::control::api::{Event, FdbState, Request};

fn tapswitch(socket: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .env("TAPSWITCH_SOCKET", socket)
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(socket: &Path, arguments: &[&str]) -> serde_json::Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = tapswitch(socket, &arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn an_answer_to_another_question_is_told_alike_by_whoever_asked() {
    // The fake knows neither, and answers that it is done.
    let daemon = FakeDaemon::start("cli-another");
    for arguments in [
        &["doctor"][..],
        &["trace", "--in", "podA", "arp who-has 10.1.1.20"],
    ] {
        let output = tapswitch(&daemon.socket(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let socket = daemon.socket();
        let told = format!(
            "tapswitch: talk to the daemon at {}: it answers something else than was asked for; it \
             may be another version: restart it with this one\n",
            socket.display()
        );
        assert_eq!(stderr(&output), told, "{arguments:?}");
    }
}

#[test]
fn help_goes_to_stdout_and_wrong_usage_exits_with_two() {
    let nowhere = Path::new("/nonexistent/control.sock");

    let help = tapswitch(nowhere, &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in [
        "why", "run", "check", "apply", "show", "vtep", "peer", "bridge", "port", "fdb", "stats",
        "top", "monitor", "bench", "doctor",
    ] {
        assert!(stdout(&help).contains(command), "{command} is missing");
    }
    assert!(!stdout(&help).contains("  load"), "load is for bench only");
    for wrong in [
        &["fly"][..],
        &[],
        &["port", "add", "x"],
        &["port", "add", "tap%d", "--bridge", "br0"],
        &["port", "add", "x", "--bridge", "br0", "--netns", "../x"],
        &[
            "port",
            "add",
            "x",
            "--bridge",
            "br0",
            "--address",
            "10.0.0.1",
        ],
        &[
            "port",
            "add",
            "x",
            "--bridge",
            "br0",
            "--gateway",
            "10.0.0.1",
        ],
        &["port", "add", "x", "--bridge", "br0", "--mtu", "66000"],
        &["port", "set", "x"],
        &["port", "set", "x", "sideways"],
        &["bridge", "add", "b", "--ageing", "soon"],
        &["fdb", "get", "02:00"],
    ] {
        let output = tapswitch(nowhere, wrong);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{wrong:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{wrong:?}");
        assert!(!stderr(&output).is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_missing_daemon_is_an_error_that_says_how_to_start_it() {
    let output = tapswitch(Path::new("/nonexistent/control.sock"), &["show"]);

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "tapswitch: connect to /nonexistent/control.sock: no such file; is the daemon running? \
         start it with: tapswitch run\n"
    );
}

#[test]
fn a_daemon_that_does_not_answer_is_named_while_it_is_waited_for() {
    let path = std::env::temp_dir().join(format!("tapswitch-mute-{}", std::process::id()));
    // The kernel takes the connection; nobody else does, as with a daemon that is stopped.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut commands: Vec<_> = [&["show"][..], &["monitor"], &["capture"]]
        .iter()
        .map(|arguments| {
            Command::new(env!("CARGO_BIN_EXE_tapswitch"))
                .env("TAPSWITCH_SOCKET", &path)
                .args(*arguments)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let told = format!(
        "tapswitch: wait for the daemon at {} (process {}): no answer within 5 s; it may be busy or \
         stopped: look at its log, or end this with Ctrl-C\n",
        path.display(),
        std::process::id()
    );
    for command in &mut commands {
        let mut line = String::new();
        let mut said = BufReader::new(command.stderr.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, told);
        assert_eq!(command.try_wait().unwrap(), None, "it has ended");
    }
    for mut command in commands {
        command.kill().unwrap();
        command.wait().unwrap();
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_be_written_is_an_error_for_help_too() {
    for argument in ["--help", "--version", "help"] {
        let output = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
            .arg(argument)
            .stdout(std::fs::File::create("/dev/full").unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{argument}");
        let told = "tapswitch: write result: No space left on device (os error 28)\n";
        assert_eq!(stderr(&output), told, "{argument}");
    }
}

#[test]
fn the_name_of_a_file_moves_no_cursor() {
    let nowhere = Path::new("/nonexistent/a\nb\u{1b}[31m");
    let name = nowhere.to_str().unwrap();
    for arguments in [
        &["check", name][..],
        &["run", "--config", name],
        &["lab", "check", name],
        &["lab", "run", name],
        &["trace", "--in", "a", "--pcap", name],
        &["explain", name],
        &["show", "--socket", name],
    ] {
        let output = tapswitch(nowhere, arguments);
        let told = stderr(&output);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            told.contains("/nonexistent/a\\nb\\u{1b}[31m"),
            "{arguments:?}: {told}"
        );
        assert!(!told.contains('\u{1b}'), "{arguments:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
    }
}

#[test]
fn json_has_the_keys_that_scripts_use() {
    let daemon = FakeDaemon::start("json");
    let socket = daemon.socket();

    let fdb = json(&socket, &["fdb", "show"]);
    for key in ["bridge", "mac", "vlan", "port", "remote", "state", "age_s"] {
        assert!(fdb[0].get(key).is_some(), "fdb show has no {key}: {fdb}");
    }
    assert!(fdb[0]["remote"].is_null());
    let ports = json(&socket, &["port", "show"]);
    for key in [
        "name", "bridge", "netns", "ifname", "mac", "mtu", "state", "rx", "tx", "drops",
    ] {
        assert!(
            ports[0].get(key).is_some(),
            "port show has no {key}: {ports}"
        );
    }
    assert_eq!(ports[0]["rx"]["frames"], 12);
    assert_eq!(ports[0]["tx"]["bytes"], 980);
    assert_eq!(ports[0]["state"], "up");
    let stats = json(&socket, &["stats"]);
    assert!(stats["ports"].is_array() && stats["peers"].is_array());
    assert_eq!(stats["unaccounted"], 0);
    let bridges = json(&socket, &["bridge", "show"]);
    assert_eq!(bridges[0]["name"], "br0");
    assert_eq!(json(&socket, &["show"])["bridges"][0]["ports"][0], "podA");
    assert_eq!(
        json(&socket, &["port", "set", "podA", "down"])["done"],
        true
    );
}

#[test]
fn what_is_typed_is_what_the_daemon_is_asked() {
    let daemon = FakeDaemon::start("typed");
    let ask = |line: &str| {
        let arguments: Vec<&str> = line.split('|').collect();
        let output = tapswitch(&daemon.socket(), &arguments);
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        daemon.requests().pop().unwrap()
    };

    let Request::PortAdd(port) = ask(
        "port|add|podA|--bridge|br0|--netns|pid:7|--address|10.244.1.2/24|--address|2001:db8::2/64|\
         --gateway|10.244.1.1|--route|10.244.0.0/16,via 10.244.1.1|--isolated|--down|--offload|off",
    ) else {
        panic!("no port was added");
    };
    assert_eq!(port.netns.unwrap().to_string(), "pid:7");
    assert_eq!(port.addresses.len(), 2);
    assert_eq!(port.routes[0].to_string(), "10.244.0.0/16,via 10.244.1.1");
    assert!(port.flags.isolated && !port.flags.up && port.flags.learning);

    let Request::PortSet(change) = ask("port|set|podA|--learning|off|--isolated|on") else {
        panic!("no port was set");
    };
    assert_eq!(
        (change.learning, change.isolated, change.up),
        (Some(false), Some(true), None)
    );
    let Request::PortSet(change) = ask("port|set|podA|learning|off|up|off") else {
        panic!("no port was set");
    };
    assert_eq!((change.learning, change.up), (Some(false), Some(false)));

    let Request::BridgeSet(change) = ask("bridge|set|br0|--mtu|auto|--ageing|5m") else {
        panic!("no bridge was set");
    };
    assert_eq!((change.mtu, change.ageing_s), (Some(None), Some(300.0)));
    let Request::BridgeAdd(bridge) = ask("bridge|add|w|--mode|wire|--forward-reserved|lldp") else {
        panic!("no bridge was added");
    };
    assert!(bridge.forward_reserved.contains(0xe));

    let Request::FdbFlush(selector) = ask("fdb|flush|--port|podA|--static") else {
        panic!("nothing was flushed");
    };
    assert_eq!(selector.state, Some(FdbState::Static));
    let Request::FdbAdd(entry) = ask("fdb|add|02:00:00:00:00:09|--port|podA") else {
        panic!("no entry was added");
    };
    assert_eq!(entry.bridge, name("br0"));
    assert!(matches!(ask("port|rm|podA"), Request::PortDel { .. }));
}

#[test]
fn refusals_of_the_daemon_have_the_exit_code_of_their_kind() {
    let daemon = FakeDaemon::start("refusals");
    let socket = daemon.socket();

    let missing = tapswitch(&socket, &["port", "show", "nobody"]);
    let busy = tapswitch(&socket, &["bridge", "del", "busy"]);
    let wrong = tapswitch(&socket, &["port", "set", "podA", "--mtu", "9000"]);

    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).starts_with("tapswitch: show port nobody: there is no such port"));
    assert_eq!(busy.status.code(), Some(1));
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(stdout(&missing), "");
}

#[test]
fn a_file_is_checked_and_applied() {
    let daemon = FakeDaemon::start("file");
    let socket = daemon.socket();
    let good = daemon.directory().join("good.toml");
    let bad = daemon.directory().join("bad.toml");
    std::fs::write(
        &good,
        "[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"a\"\nnetns = \"nsA\"\n",
    )
    .unwrap();
    std::fs::write(&bad, "[[bridge]]\nnaem = \"br0\"\nmtu = 1\n").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());

    let checked = tapswitch(&socket, &["check", good]);
    assert_eq!(
        stdout(&checked),
        format!("{good}: ok (bridges: 1, ports: 1)\n")
    );
    let refused = tapswitch(&socket, &["check", bad]);
    assert_eq!(refused.status.code(), Some(2));
    let expected = format!("{bad}:2:1: unknown key \"naem\" in a bridge; did you mean \"name\"?");
    assert!(stderr(&refused).contains(&expected), "{}", stderr(&refused));
    assert_eq!(tapswitch(&socket, &["apply", bad]).status.code(), Some(2));
    assert_eq!(
        tapswitch(&socket, &["check", "/nonexistent"]).status.code(),
        Some(1)
    );
    assert!(daemon.requests().is_empty());

    let plan = tapswitch(&socket, &["apply", good, "--dry-run"]);
    assert_eq!(
        stdout(&plan),
        "+ bridge br0 (mtu auto)\n+ port a on br0 in netns nsA (eth0)\n"
    );
    assert!(matches!(
        daemon.requests().pop(),
        Some(Request::Apply { dry_run: true, .. })
    ));
}

#[test]
fn events_arrive_as_lines_of_the_wanted_kinds() {
    let daemon = FakeDaemon::start("monitor");
    let mut monitor = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .arg("--socket")
        .arg(daemon.socket())
        .args(["--json", "monitor", "mtu"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while daemon.fake.events.receiver_count() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let bridge = Event::Bridge {
        time: 1.0,
        bridge: name("br0"),
        change: "added".to_owned(),
    };
    let mtu = Event::Mtu {
        time: 2.0,
        port: name("podA"),
        mtu: 1400,
    };
    daemon.fake.events.send(bridge).unwrap();
    daemon.fake.events.send(mtu).unwrap();

    let mut line = String::new();
    BufReader::new(monitor.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    drop(daemon);
    let mut complaint = String::new();
    monitor
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complaint)
        .unwrap();

    assert_eq!(
        line,
        "{\"event\":\"mtu\",\"time\":2.0,\"port\":\"podA\",\"mtu\":1400}\n"
    );
    assert_eq!(monitor.wait().unwrap().code(), Some(1), "{complaint}");
    assert!(complaint.contains("has ended"), "{complaint}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let nowhere = Path::new("/nonexistent/control.sock");
    for arguments in [&["completions", "bash"][..], &["--help"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
            .env("TAPSWITCH_SOCKET", nowhere)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn completions_and_manual_pages_are_written() {
    let nowhere = Path::new("/nonexistent/control.sock");
    let directory = std::env::temp_dir().join(format!("tsw-man-{}", std::process::id()));

    let completions = tapswitch(nowhere, &["completions", "zsh"]);
    let manual = tapswitch(nowhere, &["man", directory.to_str().unwrap()]);

    assert!(stdout(&completions).contains("#compdef tapswitch"));
    assert!(manual.status.success(), "{}", stderr(&manual));
    // man looks below MANPATH for a directory of each section.
    let section = directory.join("man1");
    assert!(section.join("tapswitch-port-add.1").exists());
    assert!(!section.join("tapswitch-load.1").exists());
    let trace = std::fs::read_to_string(section.join("tapswitch-trace.1")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        trace.contains(&format!("\"tapswitch {version}\"")),
        "{trace}"
    );
    let notes = trace.split(".SH NOTES\n.nf\n").nth(1).unwrap();
    assert!(
        notes.contains("\n\\&  icmp [10.1.1.10 >] 10.1.1.20 "),
        "{notes}"
    );
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn explain_reads_a_capture_or_a_dump_from_standard_input() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd/explain.in");
    for (file, frames) in [("overlay.pcap", 3), ("pods.pcapng", 2), ("frame.xxd", 1)] {
        let output = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
            .args(["explain", "-", "--json"])
            .stdin(std::fs::File::open(directory.join(file)).unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{file}: {}", stderr(&output));
        let told: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        let told = told["frames"].as_array().unwrap();
        assert_eq!(told.len(), frames, "{file}");
        assert_eq!(told[0]["layers"][0]["protocol"], "ethernet", "{file}");
    }
}

#[test]
fn standard_input_without_end_is_no_frame() {
    let output = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .args(["trace", "--hex", "-", "--in", "podA"])
        .stdin(std::fs::File::open("/dev/zero").unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = "tapswitch: trace: read standard input: it is longer than 1 MiB; give the bytes of one \
                frame\n";
    assert_eq!(stderr(&output), told);
}

#[test]
fn an_empty_name_of_a_socket_is_none() {
    // Whether there is a daemon at the usual place is another question.
    let output = tapswitch(Path::new(""), &["show"]);
    assert_ne!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        !stderr(&output).contains("connect to : "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_a_socket_is_not_is_told() {
    let file = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
    let output = tapswitch(Path::new(&file), &["show"]);
    assert_eq!(output.status.code(), Some(1));
    let told = format!(
        "tapswitch: connect to {file}: it is no socket; give --socket or TAPSWITCH_SOCKET another \
         path\n"
    );
    assert_eq!(stderr(&output), told);
}

#[test]
fn who_ends_a_monitor_has_seen_enough() {
    let daemon = FakeDaemon::start("monitor-end");
    let monitor = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .arg("--socket")
        .arg(daemon.socket())
        .args(["--json", "monitor"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while daemon.fake.events.receiver_count() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let id = nix::unistd::Pid::from_raw(monitor.id().cast_signed());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();

    let output = monitor.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(0), "{:?}", output.status);
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_port_that_is_not_there_is_told_with_what_was_to_be_done() {
    let daemon = FakeDaemon::start("nobody");
    let arguments = ["fdb", "add", "02:00:00:00:00:09", "--port", "nobody"];
    let output = tapswitch(&daemon.socket(), &arguments);
    let told = "tapswitch: add fdb entry 02:00:00:00:00:09: ";
    assert!(stderr(&output).starts_with(told), "{}", stderr(&output));
}

#[test]
fn wrong_values_are_told_what_right_ones_are() {
    let nowhere = Path::new("/nonexistent/control.sock");
    for (line, told) in [
        (
            "run --metrics web:9472",
            "write IP:PORT such as 127.0.0.1:8080",
        ),
        ("run --web abc", "write IP:PORT such as 127.0.0.1:8080"),
        (
            "run --poll abc",
            "write a number of microseconds such as 200",
        ),
        ("capture -c 0", "write a number from 1 on"),
        ("capture -s 0", "write a number of bytes from 1 to 262144"),
        ("bridge set b --vni -1", "write a number from 0 to 16777215"),
        (
            "bridge set b --mtu 9q",
            "write a number of bytes such as 1450 or 9k",
        ),
        ("peer ping 10.0.0.1 -s 99999", "from 60 to 65499"),
        ("stats --interval 1s", "--watch"),
        ("demo --web --json", "a page is no JSON value"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = tapswitch(nowhere, &arguments);
        assert_eq!(output.status.code(), Some(2), "{line}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(told),
            "{line}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn cases_and_systems_of_the_bench_are_one_value_for_scripts() {
    let listed = json(Path::new("/nonexistent/control.sock"), &["bench", "--list"]);
    assert_eq!(listed["cases"][0]["id"], "tcp1");
    assert_eq!(listed["cases"][0]["places"][0], "one node");
    assert!(
        listed["systems"]
            .as_array()
            .unwrap()
            .contains(&"kernel".into())
    );
}

#[test]
fn a_page_without_its_node_says_so() {
    let mut web = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .args(["web", "--node", "two=/nonexistent/control.sock"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut told = BufReader::new(web.stderr.take().unwrap());
    told.read_line(&mut line).unwrap();
    let id = nix::unistd::Pid::from_raw(web.id().cast_signed());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = web.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let expected = "tapswitch: show node two: connect to /nonexistent/control.sock: no such file; is \
                    the daemon running? start it with: tapswitch run; it appears as soon as it \
                    answers\n";
    assert_eq!(line, expected);
}
