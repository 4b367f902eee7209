//! The daemon as a service: its file, its signals, its socket.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    Test,
    common::wait_until,
    lab::{Lab, squeeze},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "a_file_is_applied_once_and_then_there_is_nothing_to_do",
        apply_twice,
    ),
    (&[], "a_dry_run_tells_the_steps_and_takes_none", dry_run),
    (
        &[],
        "a_broken_file_is_refused_with_line_and_column_and_changes_nothing",
        broken_files,
    ),
    (
        &[],
        "a_daemon_starts_from_its_file_and_reads_it_again_on_sighup",
        reload,
    ),
    (
        &[],
        "a_daemon_that_is_ended_while_it_starts_leaves_nothing",
        ended_early,
    ),
    (
        &[],
        "a_sighup_while_it_starts_is_obeyed_when_it_has_started",
        reloaded_early,
    ),
    (
        &[],
        "a_sighup_for_what_cannot_be_read_again_deletes_nothing",
        not_again,
    ),
    (
        &[],
        "a_log_that_cannot_be_written_keeps_nothing_from_happening",
        log_on_a_full_disk,
    ),
    (
        &[],
        "a_second_daemon_refuses_and_the_first_one_does_not_notice",
        second_daemon,
    ),
    (
        &[],
        "the_control_socket_is_for_its_owner_only",
        private_socket,
    ),
    (
        &[],
        "a_namespace_that_does_not_exist_is_refused_and_nothing_is_left",
        no_such_namespace,
    ),
    (
        &[],
        "a_daemon_without_offloads_connects_all_the_same",
        without_offloads,
    ),
];

const FILE: &str = r#"
[[bridge]]
name = "br-demo"
ageing = "60s"

[[bridge.port]]
name = "br-demo"
addresses = ["10.99.0.1/24"]

[[bridge.port]]
name = "podA"
netns = "nsA"
addresses = ["10.99.0.10/24"]
gateway = "10.99.0.1"

[[bridge.port]]
name = "podB"
netns = "nsB"
addresses = ["10.99.0.20/24"]
gateway = "10.99.0.1"
"#;

/// Saves the file of the demo, with `from` replaced by `to`, and makes its namespaces.
fn save(from: &str, to: &str) {
    fs::write("/run/demo.toml", FILE.replace(from, to)).unwrap();
}

fn namespaces(lab: &Lab) {
    lab.sh("ip netns add nsA; ip netns add nsB");
}

fn apply_twice() {
    let lab = Lab::new();
    namespaces(&lab);
    save("", "");
    assert_eq!(
        lab.sh("tapswitch check /run/demo.toml"),
        "/run/demo.toml: ok (bridges: 1, ports: 3)\n"
    );
    let steps = lab.sh("tapswitch apply /run/demo.toml");
    assert_eq!(steps.lines().count(), 4, "{steps}");
    assert!(steps.lines().all(|step| step.starts_with("+ ")), "{steps}");
    lab.ping("nsA", "10.99.0.20");
    lab.ping("nsA", "10.99.0.1");
    let entries = lab.json("fdb show");

    assert_eq!(lab.sh("tapswitch apply /run/demo.toml"), "nothing to do\n");
    assert_eq!(
        lab.sh("cat /run/demo.toml | tapswitch apply -"),
        "nothing to do\n"
    );
    let count = |value: &serde_json::Value| value.as_array().unwrap().len();
    assert_eq!(
        count(&lab.json("fdb show")),
        count(&entries),
        "nothing was flushed"
    );

    save("10.99.0.20/24", "10.99.0.21/24");
    let steps = lab.sh("tapswitch apply /run/demo.toml");
    assert!(
        steps.starts_with("~ port podB") && steps.lines().count() == 1,
        "{steps}"
    );
    lab.ping("nsA", "10.99.0.21");
}

fn dry_run() {
    let lab = Lab::new();
    namespaces(&lab);
    save("", "");
    let told = lab.sh("tapswitch apply --dry-run /run/demo.toml");
    assert_eq!(told.lines().count(), 4, "{told}");
    assert_eq!(lab.json("port show"), json!([]));
    assert_eq!(lab.sh("ip -n nsA -o link").lines().count(), 1);
    assert_eq!(lab.sh("tapswitch apply /run/demo.toml"), told);
    assert_eq!(
        lab.sh("tapswitch apply --dry-run /run/demo.toml"),
        "nothing to do\n"
    );
}

fn broken_files() {
    let lab = Lab::new();
    namespaces(&lab);
    save("", "");
    lab.sh("tapswitch apply /run/demo.toml");
    let before = lab.port("podB");

    for (from, to, place, words) in [
        ("netns = \"nsA\"", "netnz = \"nsA\"", "12:1", "netnz"),
        ("10.99.0.20/24", "10.99.0.20", "19:", "10.99.0.20"),
        ("ageing = \"60s\"", "ageing = 60s", "4:", ""),
        ("name = \"podB\"", "name = \"podA\"", "17:", "podA"),
        (
            "gateway = \"10.99.0.1\"",
            "gateway = \"fd00::1\"",
            "14:",
            "fd00::1",
        ),
    ] {
        save(from, to);
        for command in [
            "check",
            "apply",
            "apply --dry-run",
            "--socket /run/x run --config",
        ] {
            let refused = lab.refused(&format!("tapswitch {command} /run/demo.toml"));
            assert_eq!(refused.code, 2, "{command} {to}: {refused:?}");
            let line = format!("/run/demo.toml:{place}");
            assert!(
                refused.stderr.contains(&line) && refused.stderr.contains(words),
                "{command} {to}: {refused:?}"
            );
        }
    }
    let absent = lab.refused("tapswitch apply /run/absent.toml");
    assert_eq!(absent.code, 1);
    assert!(
        absent.stderr.contains("read /run/absent.toml"),
        "{absent:?}"
    );

    // Well written, but it cannot be done: all or nothing.
    save("nsB", "nsX");
    let half = lab.refused("tapswitch apply /run/demo.toml");
    assert_eq!(half.code, 1);
    assert!(half.stderr.contains("ip netns add nsX"), "{half:?}");
    let after = lab.port("podB");
    for key in ["netns", "ifindex", "mac", "addresses", "state"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    lab.ping("nsA", "10.99.0.20");
}

fn reload() {
    let mut lab = Lab::new();
    lab.stop();
    namespaces(&lab);
    save("", "");
    lab.start("--config /run/demo.toml");
    lab.ping("nsA", "10.99.0.20");

    save("ageing = \"60s\"", "ageing = \"90s\"");
    lab.signal(Signal::SIGHUP);
    wait_until("the new file is in force", Duration::from_secs(2), || {
        lab.sh("tapswitch bridge show").contains("ageing 90s")
    });
    lab.ping("nsA", "10.99.0.20");

    save("ageing", "agening");
    lab.signal(Signal::SIGHUP);
    wait_until("the daemon complains", Duration::from_secs(2), || {
        lab.log().contains("/run/demo.toml:4:1")
    });
    assert!(lab.sh("tapswitch bridge show").contains("ageing 90s"));
    lab.ping("nsA", "10.99.0.20");
}

/// Starts a daemon with so many ports that it takes a while, and sends it a signal when the first
/// is there; what it exits with if it is told to, or nothing.
fn signalled_early(lab: &Lab, signal: &str, and_then: &str) -> String {
    lab.sh("ip netns add nsA");
    let ports: String = (0..60)
        .map(|port| {
            format!("[[bridge.port]]\nname = \"p{port}\"\nnetns = \"nsA\"\nifname = \"p{port}\"\n")
        })
        .collect();
    fs::write(
        "/run/demo.toml",
        format!("[[bridge]]\nname = \"br0\"\n{ports}"),
    )
    .unwrap();
    lab.sh(&format!(
        "tapswitch run --config /run/demo.toml >/run/out 2>/run/log & daemon=$!
        until ip -n nsA link show p0 2>/dev/null >/run/first; do kill -0 $daemon; sleep 0.01; done
        kill -{signal} $daemon
        {and_then}"
    ))
}

fn ended_early() {
    let mut lab = Lab::new();
    lab.stop();
    for signal in ["TERM", "INT"] {
        // A shell lets what it starts with & ignore SIGINT.
        let code = signalled_early(&lab, signal, "wait $daemon; echo $?");
        assert_eq!(code, "0\n", "{signal}");
        assert_eq!(lab.sh("cat /run/out"), "", "it was not ready yet");
        assert_eq!(lab.sh("ip -n nsA -o link").lines().count(), 1, "only lo");
        assert!(!fs::exists("/run/tapswitch/control.sock").unwrap());
        lab.sh("ip netns del nsA");
    }
}

fn reloaded_early() {
    let mut lab = Lab::new();
    lab.stop();
    let waits = "until grep -q '^ready' /run/out; do kill -0 $daemon; sleep 0.01; done
        until grep -q 'SIGHUP' /run/log; do kill -0 $daemon; sleep 0.01; done
        tapswitch bridge show; kill $daemon; wait $daemon";
    let told = signalled_early(&lab, "HUP", waits);
    assert!(told.contains("br0"), "{told}");
}

fn not_again() {
    let mut lab = Lab::new();
    lab.stop();
    namespaces(&lab);
    save("", "");
    // As with `--config <(...)`.
    lab.sh("mkfifo /run/pipe; (cat /run/demo.toml >/run/pipe) >/dev/null 2>&1 &");
    lab.start("--config /run/pipe");
    let says = |words: &str| {
        lab.signal(Signal::SIGHUP);
        wait_until(words, Duration::from_secs(20), || lab.log().contains(words));
        assert_eq!(lab.json("port show").as_array().unwrap().len(), 3);
    };
    says("read /run/pipe again: it is no file that can be read twice");
    lab.sh("rm /run/pipe; : >/run/pipe");
    says("read /run/pipe again: nothing is in it");
    lab.ping("nsA", "10.99.0.20");
    lab.sh("sed s/60s/90s/ /run/demo.toml >/run/pipe");
    says("ageing 60s -> 90s");
}

fn log_on_a_full_disk() {
    let mut lab = Lab::new();
    lab.stop();
    namespaces(&lab);
    save("", "");
    // The reader of the second log leaves after its first line.
    for log in ["2>/dev/full", "2>/run/log.pipe"] {
        let told = lab.sh(&format!(
            "rm -f /run/out /run/log.pipe; mkfifo /run/log.pipe; (head -n 1 /run/log.pipe) >/dev/null 2>&1 &
            tapswitch run --config /run/demo.toml >/run/out {log} & daemon=$!
            until grep -q '^ready' /run/out; do kill -0 $daemon; sleep 0.01; done
            tapswitch bridge add more
            ip netns del nsB
            soon=$(($(date +%s) + 30))
            until tapswitch port show podB | grep -q gone; do test $(date +%s) -lt $soon; done
            ip netns add nsB
            until tapswitch port show podB | grep -q up; do test $(date +%s) -lt $soon; done
            ip netns exec nsA ping -q -c 1 -W 2 10.99.0.20 >/dev/null
            tapswitch apply /run/demo.toml
            kill $daemon; wait $daemon; echo ended"
        ));
        assert_eq!(told, "- bridge more\nended\n", "{log}");
    }
}

fn second_daemon() {
    let lab = Lab::new();
    namespaces(&lab);
    save("", "");
    lab.sh("tapswitch apply /run/demo.toml");
    let second = lab.refused("tapswitch run --config /run/demo.toml");
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains("another tapswitch (pid "),
        "{second:?}"
    );
    assert!(second.stderr.contains("--socket"), "{second:?}");
    lab.ping("nsA", "10.99.0.20");
    assert_eq!(lab.json("port show").as_array().unwrap().len(), 3);
}

fn private_socket() {
    let lab = Lab::new();
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("/run/tapswitch/control.sock"), 0o600);
    assert_eq!(
        mode("/run/tapswitch") & 0o022,
        0,
        "nobody else may replace it"
    );
    // Nobody answers elsewhere, and the error says how to change that.
    let nowhere = lab.refused("tapswitch --socket /run/nowhere.sock show");
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.stderr.contains("tapswitch run"), "{nowhere:?}");
}

fn no_such_namespace() {
    let lab = Lab::new();
    lab.sh("tapswitch bridge add br0");
    for (netns, words) in [
        ("ns9", "create it: ip netns add ns9"),
        ("pid:2147483647", "no such process"),
        ("/run/netns/ns9", "/run/netns/ns9"),
        ("/etc/hostname", "/etc/hostname"),
    ] {
        let refused = lab.refused(&format!(
            "tapswitch port add podA --bridge br0 --netns {netns} --address 10.1.1.1/24"
        ));
        assert_eq!(refused.code, 1);
        assert!(
            refused.stderr.starts_with("tapswitch: add port podA: ")
                && refused.stderr.contains(words),
            "{refused:?}"
        );
    }
    assert_eq!(lab.json("port show"), json!([]));
    assert_eq!(lab.sh("ip -o link").lines().count(), 1, "only lo");
    for wrong in [
        "--netns ../ns9",
        "--netns ''",
        "--netns pid:x",
        "--address 10.1.1.1",
    ] {
        let refused = lab.refused(&format!("tapswitch port add podA --bridge br0 {wrong}"));
        assert_eq!(refused.code, 2, "{wrong}: {refused:?}");
    }
}

fn without_offloads() {
    let mut lab = Lab::with("--offload off");
    namespaces(&lab);
    lab.sh("
        tapswitch bridge add br0
        tapswitch port add podA --bridge br0 --netns nsA --address 10.99.0.10/24
        tapswitch port add podB --bridge br0 --netns nsB --address 10.99.0.20/24");
    let text = squeeze(&lab.sh("tapswitch port show podA"));
    assert!(text.contains("offloads: none"), "{text}");
    lab.ping("nsA", "10.99.0.20");
    let page = "0123456789".repeat(50_000);
    lab.serve("nsB", "10.99.0.20:80", &page);
    assert_eq!(lab.fetch("nsA", "10.99.0.20:80"), page);

    lab.stop();
    save("", "");
    lab.start("--offload off --config /run/demo.toml");
    let text = squeeze(&lab.sh("tapswitch port show podA"));
    assert!(text.contains("offloads: none"), "{text}");
    lab.ping("nsA", "10.99.0.20");
}
