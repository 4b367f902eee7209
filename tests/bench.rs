//! `tapswitch bench` measures real switches between real namespaces, and leaves nothing behind. How
//! fast they are is no matter here.

mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Command, ExitCode, Output, Stdio},
    thread,
    time::Duration,
};

use common::{Env, links, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tapswitch");

fn main() -> ExitCode {
    common::main(|env: &Env| {
        vec![
            env.trial("figures_come_out_as_json_and_nothing_stays", figures),
            env.trial("an_overlay_is_measured_and_drawn", overlay),
            env.trial("frames_go_to_as_many_addresses_as_asked", addresses),
            env.trial(
                "one_more_tapswitch_is_compared_with_the_first",
                with_options,
            ),
            env.trial("a_bench_that_is_interrupted_leaves_nothing", interrupted),
            env.trial("a_load_that_dies_or_hangs_is_a_failed_round", load_ends),
            env.trial("a_load_that_fails_says_why", load_fails),
            env.trial("nonsense_is_refused_before_anything_is_built", nonsense),
        ]
    })
}

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("bench").args(arguments);
    command.output().unwrap()
}

#[track_caller]
fn report(arguments: &[&str]) -> Value {
    let output = bench(arguments);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "", "progress is for terminals");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn figures() {
    let before = (links(), processes());
    let report = report(&[
        "--cases=udp18,tcp1,latency",
        "--systems=kernel,tapswitch",
        "--rounds=1",
        "--seconds=0.1",
        "--one-node",
        "--json",
    ]);
    assert_eq!((links(), processes()), before);

    assert_eq!(report["systems"][0]["name"], "kernel");
    assert_eq!(report["settings"]["rounds"], 1);
    assert!(report["machine"]["cpus"].as_u64() > Some(0), "{report}");
    let results = report["results"].as_array().unwrap();
    let cases: Vec<_> = results.iter().map(|result| &result["case"]).collect();
    assert_eq!(cases, ["tcp1", "udp18", "latency"]);
    for result in results {
        assert_eq!(result["place"], "one_node");
        for figure in result["figures"].as_array().unwrap() {
            let [kernel, own] = [&figure["systems"][0], &figure["systems"][1]];
            assert!(is_positive(&kernel["median"]) && is_positive(&own["median"]));
            assert!(kernel["ratio"].is_null() && is_positive(&own["ratio"]["value"]));
            assert_eq!(own["verdict"], "too_few_rounds");
        }
        for of in result["systems"].as_array().unwrap() {
            let round = &of["rounds"][0];
            assert!(round["error"].is_null(), "{round}");
            assert!(round["busy_cpus"].is_number(), "{round}");
        }
    }
    let datagrams = &results[1]["systems"][1]["rounds"][0]["detail"];
    assert!(is_positive(&datagrams["received"]), "{datagrams}");
}

fn overlay() {
    let picture = "/run/picture.svg";
    let output = bench(&[
        "--cases=tcp1,broadcast8",
        "--systems=kernel,tapswitch",
        "--rounds=1",
        "--seconds=0.1",
        "--overlay",
        "--plot",
        picture,
    ]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    for words in [
        "overlay\n",
        "x KERNEL",
        "TCP, 1 stream",
        "kernel",
        "Gb/s",
        "s/GB",
    ] {
        assert!(stdout.contains(words), "{words} is not in {stdout}");
    }
    assert!(stdout.contains("raise --rounds"), "{stdout}");
    let picture = fs::read_to_string(picture).unwrap();
    assert!(
        picture.starts_with("<svg") && picture.contains("UDP broadcast"),
        "{picture}"
    );
}

fn addresses() {
    let report = report(&[
        "--cases=macs1k",
        "--systems=tapswitch",
        "--rounds=1",
        "--seconds=0.1",
        "--json",
    ]);
    let detail = &report["results"][0]["systems"][0]["rounds"][0]["detail"];
    assert!(is_positive(&detail["received"]), "{report}");
    // The switch knew every one of them.
    assert_eq!(detail["flooded"], 0, "{report}");
}

fn with_options() {
    let report = report(&[
        "--cases=udp1400",
        "--systems=tapswitch",
        "--with=--coalesce off --workers 1",
        "--rounds=1",
        "--seconds=0.1",
        "--one-node",
        "--json",
    ]);
    assert_eq!(
        report["systems"][1]["name"],
        "tapswitch --coalesce off --workers 1"
    );
    let figure = &report["results"][0]["figures"][0];
    assert!(
        is_positive(&figure["systems"][1]["ratio"]["value"]),
        "{report}"
    );
}

fn interrupted() {
    let before = (links(), processes());
    let arguments = [
        "bench",
        "--cases=tcp1",
        "--systems=kernel,tapswitch",
        "--seconds=60",
    ];
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the load runs", Duration::from_secs(20), || {
        let running = processes_of(&child);
        running.iter().any(|(_, line)| line.contains("stream_send"))
    });
    thread::sleep(Duration::from_millis(300));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    child.wait().unwrap();
    wait_until("all processes have ended", Duration::from_secs(5), || {
        processes() == before.1
    });
    assert_eq!(links(), before.0);
}

fn load_ends() {
    for (signal, expected) in [
        (Signal::SIGKILL, "it ended without a result"),
        (Signal::SIGSTOP, "it did not answer in time and was killed"),
    ] {
        let mut command = Command::new(PROGRAM);
        command.args(["bench", "--cases=udp18", "--systems=kernel"]);
        command.args(["--one-node", "--rounds=1", "--seconds=1", "--json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        let mut receiver = None;
        wait_until("the load runs", Duration::from_secs(20), || {
            let running = processes_of(&child);
            // The sender is started after it.
            let is_sending = running
                .iter()
                .any(|(_, line)| line.contains("datagram_send"));
            let found = running
                .into_iter()
                .find(|(_, line)| line.contains("receive"));
            receiver = found.filter(|_| is_sending);
            receiver.is_some()
        });
        thread::sleep(Duration::from_millis(300));
        kill(Pid::from_raw(receiver.unwrap().0), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("1 of 1 rounds failed"), "{stderr}");
        assert!(
            stderr.contains("datagram_receive") && stderr.contains(expected),
            "{stderr}"
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        // No figure at all, rather than one of 0.
        let figure = &report["results"][0]["figures"][0]["systems"][0];
        assert!(figure["median"].is_null(), "{figure}");
    }
}

fn load_fails() {
    let run = |order: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["load", order]).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{order}");
        text(&output.stderr)
    };
    let error = run(r#"{"role":"stream_receive","bind":"192.0.2.1:9"}"#);
    assert!(
        error.starts_with("tapswitch: listen at 192.0.2.1:9: "),
        "{error}"
    );
    let error = run(r#"{"role":"frame_send","interface":"nosuch0","hosts":1}"#);
    assert!(error.contains("find interface nosuch0"), "{error}");
    let error = run("dance");
    assert!(error.starts_with("tapswitch: read job: "), "{error}");
}

fn nonsense() {
    for (arguments, expected) in [
        (&["--cases=tcp"][..], "see tapswitch bench --list"),
        (&["--systems=cisco"], "choose from kernel"),
        (&["--with=--fly"], "see tapswitch run --help"),
        (&["--cases=macs1", "--overlay"], "not there"),
        (&["--seconds=never"], "a number of seconds"),
        (&["--rounds=0"], "--rounds"),
    ] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    let output = bench(&["--cases=tcp1", "--plot=/nonexistent/picture.svg"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("write /nonexistent/picture.svg: "));
    let listed = text(&bench(&["--list"]).stdout);
    assert!(
        listed.contains("macs1m") && listed.contains("ovs-tso"),
        "{listed}"
    );
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number > 0.0)
}

/// The command lines of all processes that run this program.
fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| own_line(&entry.path()));
    lines.collect()
}

/// The numbers and command lines of those that `child` has started.
fn processes_of(child: &Child) -> Vec<(i32, String)> {
    let id = child.id();
    let path = format!("/proc/{id}/task/{id}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let numbers = children.split_whitespace().flat_map(str::parse);
    let lines = numbers.filter_map(|id: i32| {
        let line = own_line(Path::new(&format!("/proc/{id}")))?;
        Some((id, line))
    });
    lines.collect()
}

/// The command line of a process of this program that has not ended.
fn own_line(process: &Path) -> Option<String> {
    let program = fs::read_link(process.join("exe")).ok()?;
    let line = fs::read(process.join("cmdline")).ok()?;
    let line = text(&line).replace('\0', " ");
    (program == Path::new(PROGRAM)).then_some(line)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
