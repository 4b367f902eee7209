//! `tapswitch lab` with lessons of a teacher's own: run, failed, broken, interrupted.

mod common;

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Command, ExitCode, Output, Stdio},
    time::Duration,
};

use common::{Env, command, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, geteuid},
};
use serde_json::Value;

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let is_root = geteuid().is_root() && has_nobody();
        let no_other_user = (!is_root).then(|| "only root can be somebody else".to_owned());
        let as_nobody = Env {
            reason_not_to_run: env.reason_not_to_run.clone().or(no_other_user),
        };
        vec![
            env.trial_with(
                &["ping"],
                "a_lesson_runs_on_both_systems_and_all_holds",
                both,
            ),
            env.trial(
                "what_does_not_hold_is_told_with_what_is_so_instead",
                broken_assert,
            ),
            env.trial("a_command_that_fails_ends_the_lesson", failing_command),
            env.trial("a_command_that_must_fail_may_not_succeed", must_fail),
            env.trial("variables_live_on_and_each_node_has_its_own", variables),
            env.trial("no_command_reads_the_lines_that_follow_it", input),
            env.trial_with(
                &["ping"],
                "nodes_are_joined_by_a_cable_and_have_names",
                nodes,
            ),
            env.trial(
                "a_command_in_the_background_is_waited_for_until_it_is_ready",
                background,
            ),
            env.trial("what_is_missing_is_why_a_lesson_is_not_run", not_run),
            env.trial("a_lesson_is_told_in_chinese_to_whom_speaks_it", chinese),
            env.trial("nothing_is_left_whatever_ends_it", interrupted),
            env.trial_with(
                &["ping"],
                "a_fault_is_told_found_and_repaired",
                break_and_solve,
            ),
            env.trial_with(
                &["ping"],
                "a_student_asks_for_a_hint_and_for_the_check",
                student,
            ),
            env.trial("the_students_shell_has_a_history_of_its_own", history),
            env.trial("a_check_that_holds_once_only_is_refused", once_only),
            env.trial("a_fault_that_breaks_nothing_is_refused", no_fault),
            env.trial("a_command_that_prints_without_end_is_ended", flood),
            env.trial(
                "a_command_in_the_background_that_prints_without_end_is_ended",
                background_flood,
            ),
            env.trial("a_comment_behind_a_command_in_the_background", comment),
            env.trial(
                "a_file_is_what_it_was_until_there_is_something_to_write",
                files,
            ),
            env.trial("a_file_that_nobody_named_is_never_replaced", kept),
            env.trial("a_lesson_that_is_not_run_leaves_no_file", nothing_to_write),
            env.trial("a_file_that_is_named_is_replaced_as_a_whole", replaced),
            env.trial("a_lesson_in_a_pipe_is_refused_as_it_is_read_twice", piped),
            env.trial("what_a_terminal_would_obey_is_refused", obeyed),
            as_nobody.trial_with(
                &["ping"],
                "an_ordinary_user_runs_lessons_too",
                ordinary_user,
            ),
        ]
    })
}

const NOBODY: Uid = Uid::from_raw(65_534);

/// Whether a user namespace, if this is one, has more users than its root.
fn has_nobody() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace()
        .last()
        .is_some_and(|count| count != "1")
}

const TWO_PODS: &str = include_str!("cmd/lesson.in/two-pods.toml");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A lesson with these steps.
fn lesson(id: &str, rest: &str) -> String {
    format!("id = \"{id}\"\ntitle = \"A lesson\"\n{rest}")
}

/// A directory with a lesson in it.
struct Desk(PathBuf);

impl Desk {
    fn new(name: &str, lesson: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tapswitch-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("lesson.toml"), lesson).unwrap();
        Self(path)
    }

    fn lab(&self, arguments: &str) -> Command {
        let mut words = arguments.split(' ');
        let mut lab = command(env!("CARGO_BIN_EXE_tapswitch"));
        lab.args(["lab", words.next().unwrap(), "lesson.toml"])
            .args(words)
            .current_dir(&self.0)
            .env_remove("LANG")
            .env_remove("LC_MESSAGES")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        lab
    }

    /// What is in it.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn output(&self, arguments: &str) -> Output {
        self.lab(arguments).output().unwrap()
    }

    /// What it told, which must end with `code`.
    #[track_caller]
    fn told(&self, arguments: &str, code: i32) -> String {
        let output = self.output(arguments);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {told}");
        told
    }

    #[track_caller]
    fn json(&self, arguments: &str, code: i32) -> Value {
        let told = self.told(&format!("{arguments} --json"), code);
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn both() {
    let desk = Desk::new("both", TWO_PODS);
    for on in ["tapswitch", "kernel"] {
        let report = desk.json(&format!("run --on {on}"), 0);
        assert_eq!(report["state"], "passed", "{report}");
        assert_eq!(
            report["asserts"]["total"], report["asserts"]["hold"],
            "{report}"
        );
        let frames = report["steps"][1]["frames"].as_array().unwrap();
        assert!(frames.len() >= 4, "{report}");
        assert!(desk.0.join("two-pods.pcapng").exists());
        assert!(
            report["mermaid"]
                .as_str()
                .unwrap()
                .starts_with("sequenceDiagram")
        );
    }
    let told = desk.told("run --mermaid diagram --pcap frames", 0);
    for line in [
        "Two pods on one bridge",
        "1/2 ───",
        "  # ip netns add podA\n  # ip netns add podB\n",
        "1 received",
        "Everybody is asked.",
        "asserts hold, in ",
        "The frames, for Wireshark: frames",
        "The sequence diagram: diagram",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains('\x1b') && !told.contains("```"), "{told}");
    assert!(
        fs::read_to_string(desk.0.join("diagram"))
            .unwrap()
            .contains("podA")
    );
    assert!(fs::metadata(desk.0.join("frames")).unwrap().len() > 100);
}

fn broken_assert() {
    let steps = "[[step]]\nrun = \"echo seven\"\nprints = ['^eight$', 'seven']\nprints_not = ['sev']\n\
                 [[step]]\nrun = \"echo later\"\n";
    let desk = Desk::new("broken", &lesson("broken", steps));
    let told = desk.told("run", 1);
    for line in [
        "! step 1: must print \"^eight$\"\n    printed was:\n    seven",
        "! step 1: must not print \"sev\"",
        "# echo later\n  later",
        "3 of 5 asserts hold",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let report = desk.json("run", 1);
    let assert = &report["steps"][0]["asserts"][1];
    assert_eq!(report["state"], "failed");
    assert_eq!(assert["about"], "prints");
    assert_eq!(assert["expected"], "^eight$");
    assert_eq!(assert["got"], "printed was:\nseven");
}

fn failing_command() {
    let steps = "[[step]]\nrun = \"echo a\\nls /nowhere\\necho b\"\n[[step]]\nrun = \"echo c\"\n";
    let desk = Desk::new("failing", &lesson("failing", steps));
    let report = desk.json("run", 1);
    assert_eq!(report["steps"].as_array().unwrap().len(), 1, "{report}");
    let commands = report["steps"][0]["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 2, "{report}");
    assert_eq!(commands[1]["exit"], 2);
    assert!(commands[1]["output"].as_str().unwrap().contains("/nowhere"));
    let assert = &report["steps"][0]["asserts"][0];
    assert_eq!(assert["expected"], "ls /nowhere succeeds");
    assert_eq!(assert["got"], "it ended with exit code 2");
}

fn must_fail() {
    let steps = "[[step]]\nrun = \"x=7\\nls /nowhere\"\nfails = \"both\"\n\
                 [[step]]\nrun = \"echo $x\"\nprints = ['^7$']\nfails = \"kernel\"\n";
    let desk = Desk::new("must-fail", &lesson("must-fail", steps));
    assert_eq!(desk.json("run", 0)["state"], "passed");
    let report = desk.json("run --on kernel", 1);
    let assert = &report["steps"][1]["asserts"][0];
    assert_eq!(assert["expected"], "echo $x fails");
    assert_eq!(assert["got"], "it succeeded");
}

fn variables() {
    let steps = "[[node]]\nname = \"node1\"\n[[node]]\nname = \"node2\"\n\
                 [[step]]\nrun = \"\"\"\nx=1\ndouble() {\n  echo $(($1 * 2))\n}\n\"\"\"\n\
                 [[step]]\nnode = \"node2\"\nrun = \"echo x=$x in $LAB; pwd\"\n\
                 prints = ['^x= in /run/lab$', '^/run/lab$']\n\
                 [[step]]\nrun = \"double 21; echo $x\"\nprints = ['^42\\n1$']\n";
    let desk = Desk::new("variables", &lesson("variables", steps));
    let told = desk.told("run", 0);
    assert!(
        told.contains("node1# x=1\n  node1# double() {\n       >   echo"),
        "{told}"
    );
}

fn input() {
    let steps = "[[step]]\nrun = \"cat\\necho next\"\nprints = ['^next$']\n";
    let desk = Desk::new("input", &lesson("input", steps));
    desk.told("run", 0);
}

fn nodes() {
    let steps = "[[node]]\nname = \"node1\"\nunderlay = \"192.168.50.10/24\"\nmtu = 1400\n\
                 [[node]]\nname = \"node2\"\nunderlay = \"192.168.50.20/24\"\n\
                 [[step]]\nrun = \"\"\"\nping -c 1 -W 2 192.168.50.20\nip -br link show eth0\n\
                 ip link show eth0\n! ping -c 1 -W 0.2 -s 1400 -M do 192.168.50.20\n\"\"\"\n\
                 prints = ['1 received', 'mtu 1400']\n\
                 [[step]]\nrun = \"node2 ip -br addr\"\nprints = ['192.168.50.20/24']\n";
    let desk = Desk::new("nodes", &lesson("nodes", steps));
    for on in ["tapswitch", "kernel"] {
        desk.told(&format!("run --on {on}"), 0);
    }
}

fn background() {
    let steps = "[[step]]\nrun = \"sh -c 'sleep 0.2; echo ready; sleep 0.1; echo later; sleep 60'\"\n\
                 background = true\nprints = ['^ready$']\n\
                 [[step]]\nrun = \"kill -0 $!\\nsleep 0.5\\nkill $!\"\n";
    let desk = Desk::new("background", &lesson("background", steps));
    let told = desk.told("run", 0);
    assert!(told.contains("  # sh -c 'sleep 0.2"), "{told}");
    assert!(told.contains("echo later; sleep 60':\n  later\n"), "{told}");
    assert!(told.contains("2 of 2 asserts hold"), "{told}");
}

fn not_run() {
    let text = "needs = [\"no-such-program\"]\n[[step]]\nrun = \"no-such-program\"\n";
    let desk = Desk::new("missing", &lesson("missing", text));
    let told = desk.told("run", 77);
    assert!(
        told.ends_with("not run, because no-such-program is not installed; install it\n"),
        "{told}"
    );
    let report = desk.json("run", 77);
    assert_eq!(report["state"], "not-run");
    assert_eq!(
        report["because"],
        "no-such-program is not installed; install it"
    );
    let text = "on = [\"kernel\"]\n[[step]]\nrun = \"true\"\n";
    let desk = Desk::new("elsewhere", &lesson("elsewhere", text));
    let because = &desk.json("run", 77)["because"];
    assert_eq!(
        because,
        "it is a lesson for kernel only; run it --on kernel"
    );
    // There are several programs of that name.
    let text = "needs = [\"nc\"]\n[[step]]\nrun = \"true\"\n";
    let desk = Desk::new("nc", &lesson("nc", text));
    let nc = desk.0.join("nc");
    fs::write(&nc, "#!/bin/sh\necho '-k set keepalive option on socket'\n").unwrap();
    fs::set_permissions(&nc, fs::Permissions::from_mode(0o755)).unwrap();
    let mut lab = desk.lab("run --json");
    lab.env(
        "PATH",
        format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", desk.0.display()),
    );
    let report: Value = serde_json::from_slice(&lab.output().unwrap().stdout).unwrap();
    assert_eq!(
        report["because"],
        "nc is not OpenBSD's, which has -N; install netcat-openbsd"
    );
}

fn chinese() {
    let desk = Desk::new("chinese", TWO_PODS);
    let of = |name: &str, value: &str| {
        let output = desk.lab("show").env("LC_ALL", "").env(name, value).output();
        text(&output.unwrap().stdout)
    };
    assert!(of("LANG", "zh_CN.UTF-8").contains("接入两个命名空间"));
    assert!(of("LC_ALL", "C.UTF-8").contains("Plug two namespaces in."));
    assert!(desk.told("show --lang zh", 0).contains("接入两个命名空间"));
    let steps = "[[step]]\nsay.en = \"In English.\"\nsay.zh = \"用中文。\"\nrun = \"echo a\"\n";
    let desk = Desk::new("zh-run", &lesson("zh-run", steps));
    let told = desk.told("run --lang zh", 0);
    assert!(
        told.contains("用中文。") && told.contains("1 条断言中有 1 条成立"),
        "{told}"
    );
    // What does not hold, and why something is not run.
    let steps = "[[step]]\nrun = \"echo a\"\nprints = ['^b$']\n\
                 [[step]]\nrun = \"true\"\nprints = ['c']\n\
                 [[step]]\nrun = \"true\"\n[[step.frame]]\nat = \"podA\"\nwhat = \"arp\"\n\
                 [[step]]\nrun = \"ls /nowhere\"\n";
    let desk = Desk::new("zh-broken", &lesson("zh-broken", steps));
    let told = desk.told("run --lang zh", 1);
    for line in [
        "! 应当输出 \"^b$\"\n    实际输出：\n    a\n",
        "什么都没有输出",
        "! 应当看到 1 个帧，顺序不变\n    1 个帧中没有看到第 1 个\n      应有  host:podA: arp\n",
        "一个帧也没有看到",
        "! 应当成立：ls /nowhere 成功\n    它以退出码 2 结束",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let text = "needs = [\"no-such-program\"]\n[[step]]\nrun = \"true\"\n";
    let desk = Desk::new("zh-needs", &lesson("zh-needs", text));
    let told = desk.told("run --lang zh", 77);
    assert!(
        told.ends_with("没有运行：没有安装 no-such-program；请先安装\n"),
        "{told}"
    );
}

fn interrupted() {
    // Nobody else sleeps as long as that.
    let nap = format!("{}", 100_000 + std::process::id());
    let steps = format!(
        "[[step]]\nrun = \"\"\"\nip netns add podA\nip netns exec podA sleep {nap} &\n\
         setsid sleep {nap} &\nsleep 60\n\"\"\"\n"
    );
    let desk = Desk::new("interrupted", &lesson("interrupted", &steps));
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut lab = desk.lab("run");
        let mut lab = lab.stdout(Stdio::null()).spawn().unwrap();
        wait_until("it sleeps", Duration::from_secs(10), || sleepers(&nap) == 2);
        kill(Pid::from_raw(i32::try_from(lab.id()).unwrap()), signal).unwrap();
        assert!(!lab.wait().unwrap().success());
        let what = format!("all has gone after {signal}");
        wait_until(&what, Duration::from_secs(5), || sleepers(&nap) == 0);
    }
    let netns = text(
        &command("ip")
            .args(["netns", "list"])
            .output()
            .unwrap()
            .stdout,
    );
    assert!(!netns.contains("podA"), "{netns}");
}

/// How many processes sleep for that long.
fn sleepers(nap: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let wanted = format!("sleep\0{nap}\0");
    lines.filter(|line| line == wanted.as_bytes()).count()
}

fn break_and_solve() {
    let desk = Desk::new("break", TWO_PODS);
    let told = desk.told("break --seed 5 --solve --hint", 0);
    for line in [
        "(--seed 5)",
        "podB does not answer",
        "What does podB call",
        "It was: wrong-address",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let report = desk.json("break --solve --on kernel --fault wrong-address", 0);
    assert_eq!(report["state"], "passed");
    assert_eq!(report["fault"], "wrong-address");
    assert_eq!(report["seed"], Value::Null);
}

fn student() {
    let desk = Desk::new("student", TWO_PODS);
    let sit = |typed: &str| {
        let mut lab = desk.lab("break --seed 5");
        let lab = lab
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut lab = lab.spawn().unwrap();
        lab.stdin
            .take()
            .unwrap()
            .write_all(typed.as_bytes())
            .unwrap();
        let output = lab.wait_with_output().unwrap();
        (text(&output.stdout), output.status.code())
    };
    let (told, code) = sit("hint\ncheck || echo not so\nexit\n");
    assert_eq!(code, Some(1), "{told}");
    for line in [
        "What does podB call itself?",
        "Not repaired yet.\nnot so",
        "# ip -n podB addr add",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let (told, code) =
        sit("ip -n podB addr add 10.1.1.20/24 dev eth0\ncheck && check && echo so\n");
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("\nso\n") && told.contains("Repaired. It was"),
        "{told}"
    );
}

fn history() {
    let desk = Desk::new("history", TWO_PODS);
    let shell = desk.0.join("shell");
    fs::write(
        &shell,
        "#!/bin/sh\necho \"history in $HISTFILE, env in $ENV\"\n",
    )
    .unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
    let mut lab = desk.lab("break");
    lab.env("SHELL", &shell)
        .env("HISTFILE", "/nowhere/history")
        .env("ENV", "/nowhere/env");
    let told = text(&lab.output().unwrap().stdout);
    assert!(
        told.contains("history in /run/lab-history, env in \n"),
        "{told}"
    );
}

fn once_only() {
    let rest = "[[step]]\nrun = \"touch a\"\n[[fault]]\nname = \"once\"\nsymptom = \"s\"\n\
                run = \"true\"\ncheck = \"rm a\"\nsolve = \"touch a\"\n";
    let desk = Desk::new("once-only", &lesson("once-only", rest));
    let told = desk.told("break --solve", 1);
    assert!(
        told.contains("check fault once: it holds once only; correct the lesson"),
        "{told}"
    );
}

fn flood() {
    for command in ["yes", "yes & sleep 0.2; true"] {
        let steps = format!("[[step]]\nrun = \"{command}\"\n");
        let desk = Desk::new("flood", &lesson("flood", &steps));
        let mut lab = desk.lab("run --json");
        let output = lab.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let assert = &report["steps"][0]["asserts"][0];
        assert_eq!(assert["got"], "it has printed more than 1 MiB", "{command}");
        assert_eq!(output.status.code(), Some(1));
    }
}

fn background_flood() {
    let prints_not = "prints = ['^z$']\n";
    for (first, prints, stuck_at) in [
        ("yes", "", 1),
        ("yes | head -c 300000000", "", 1),
        ("yes", prints_not, 0),
    ] {
        let steps = format!(
            "[[step]]\nrun = \"{first}\"\nbackground = true\n{prints}\
             [[step]]\nrun = \"wait $! || true\"\n[[step]]\nrun = \"echo never\"\n"
        );
        let desk = Desk::new("background-flood", &lesson("background-flood", &steps));
        let report = desk.json("run", 1);
        let steps = report["steps"].as_array().unwrap();
        let last = steps.last().unwrap();
        // The first step may end before it is too much.
        assert!(steps.len() <= stuck_at + 1, "{first}: {report}");
        let assert = last["asserts"].as_array().unwrap().last().unwrap();
        let expected = format!("{first} & prints up to 1 MiB");
        assert_eq!(assert["expected"], expected.as_str());
        assert_eq!(assert["got"], "it has printed more than 1 MiB");
        let told = desk.told("run", 1);
        assert!(told.len() < 5 << 20, "{first}: {}", told.len());
        assert!(told.contains("it has printed more than 1 MiB"), "{first}");
    }
}

fn comment() {
    let steps = "[[step]]\nrun = \"sh -c 'echo ready; sleep 60' # runs on\"\n\
                 background = true\nprints = ['^ready$']\n[[step]]\nrun = \"kill $!\"\n";
    let desk = Desk::new("comment", &lesson("comment", steps));
    desk.told("run", 0);
}

fn files() {
    let text = lesson(
        "files",
        "needs = [\"no-such-program\"]\n[[step]]\nrun = \"true\"\n",
    );
    let desk = Desk::new("files", &text);
    fs::write(desk.0.join("old.pcapng"), "yesterday").unwrap();
    let read = |name: &str| fs::read_to_string(desk.0.join(name)).unwrap();
    desk.told("run --pcap old.pcapng", 77);
    assert_eq!(read("old.pcapng"), "yesterday");
    let told = desk.told("run --pcap ./lesson.toml", 2);
    assert!(
        told.contains("it is the same file as lesson.toml"),
        "{told}"
    );
    assert_eq!(read("lesson.toml"), text);
    desk.told("run --mermaid old.pcapng --pcap old.pcapng", 2);
    // What is written then is all that is there.
    fs::write(desk.0.join("lesson.toml"), TWO_PODS).unwrap();
    fs::write(desk.0.join("old.pcapng"), vec![b'x'; 1 << 20]).unwrap();
    let told = desk.told("run --pcap old.pcapng", 0);
    assert!(told.contains("old.pcapng"), "{told}");
    assert!(fs::metadata(desk.0.join("old.pcapng")).unwrap().len() < 1 << 18);
}

fn kept() {
    let desk = Desk::new("kept", TWO_PODS);
    let read = |name: &str| fs::read(desk.0.join(name)).unwrap();
    let told = desk.told("run", 0);
    assert!(!told.contains("as it was"), "{told}");
    let first = read("two-pods.pcapng");
    let told = desk.told("run", 0);
    for line in [
        "for Wireshark: two-pods-2.pcapng\n",
        "(two-pods.pcapng was there, and is as it was.)",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert_eq!(read("two-pods.pcapng"), first);
    let second = read("two-pods-2.pcapng");
    let report = desk.json("run", 0);
    assert_eq!(report["pcapng"], "two-pods-3.pcapng");
    assert_eq!(read("two-pods-2.pcapng"), second);
    assert_eq!(desk.names().len(), 4, "{:?}", desk.names());
}

fn nothing_to_write() {
    let text = "needs = [\"no-such-program\"]\n[[step]]\nrun = \"no-such-program\"\n";
    let desk = Desk::new("nothing", &lesson("nothing", text));
    desk.told("run --pcap new.pcapng --mermaid new.mmd", 77);
    desk.told("run", 77);
    assert_eq!(desk.names(), ["lesson.toml"]);
    desk.told("run --pcap new --mermaid ./new", 2);
    let told = desk.told("run --pcap nowhere/new", 1);
    assert!(told.contains("write nowhere/new: "), "{told}");
}

fn replaced() {
    let desk = Desk::new("replaced", TWO_PODS);
    let old = desk.0.join("old.pcapng");
    fs::write(&old, "yesterday").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("old.pcapng", desk.0.join("link")).unwrap();
    // Whoever has it open keeps what it was.
    let mut reader = fs::File::open(&old).unwrap();
    // The lesson's own /run is another one.
    let elsewhere = format!("/run/replaced-{}", std::process::id());
    let told = desk.told(&format!("run --pcap link --mermaid {elsewhere}"), 0);
    assert!(told.contains("for Wireshark: link\n"), "{told}");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "yesterday");
    let metadata = fs::metadata(&old).unwrap();
    assert!(metadata.len() > 100);
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    assert!(fs::read_to_string(&elsewhere).unwrap().contains("podA"));
    assert_eq!(desk.names(), ["lesson.toml", "link", "old.pcapng"]);
}

fn piped() {
    let desk = Desk::new("piped", TWO_PODS);
    for verb in ["run", "break"] {
        let mut lab = command(env!("CARGO_BIN_EXE_tapswitch"));
        lab.args(["lab", verb, "/dev/stdin"]).stdin(Stdio::piped());
        let mut lab = lab.stderr(Stdio::piped()).spawn().unwrap();
        drop(lab.stdin.take().unwrap().write_all(TWO_PODS.as_bytes()));
        let output = lab.wait_with_output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.contains("it is no file that can be read twice"),
            "{told}"
        );
    }
    drop(desk);
}

fn obeyed() {
    for (code, name) in [
        ("\\u001b[2K", "U+001B"),
        ("\\u202e", "U+202E"),
        ("\\r", "U+000D"),
    ] {
        for place in [
            "title = \"TEXT\"",
            "run = \"echo TEXT\"",
            "prints = [\"TEXT\"]",
        ] {
            let text = "id = \"a\"\ntitle = \"t\"\n[[step]]\nrun = \"true\"\nprints = []\n";
            let key = place.split(' ').next().unwrap();
            let lines: Vec<_> = text
                .lines()
                .map(|line| match line.starts_with(key) {
                    true => place.replace("TEXT", code),
                    false => line.to_owned(),
                })
                .collect();
            let desk = Desk::new("obeyed", &lines.join("\n"));
            for verb in ["check", "show", "run"] {
                let told = desk.told(verb, 2);
                assert!(told.contains(name), "{place}: {told}");
                assert!(!told.contains(['\x1b', '\u{202e}', '\r']), "{told:?}");
            }
        }
    }
}

fn no_fault() {
    let rest = "[[step]]\nrun = \"touch whole\"\n[[fault]]\nname = \"none\"\nsymptom = \"s\"\n\
                run = \"true\"\ncheck = \"ls whole\"\nsolve = \"touch whole\"\n";
    let desk = Desk::new("no-fault", &lesson("no-fault", rest));
    let told = desk.told("break --solve", 1);
    let expected = "check fault none: it succeeds although something is broken; correct the lesson";
    assert!(told.contains(expected), "{told}");
    let desk = Desk::new(
        "no-fault",
        &lesson("no-fault", &rest.replace("touch whole\"\n[[", "true\"\n[[")),
    );
    let told = desk.told("break --solve", 1);
    assert!(
        told.contains("it fails before anything is broken"),
        "{told}"
    );
}

fn ordinary_user() {
    // Where it is built, and in /run of root, others may not look.
    let desk = Desk::new("nobody", TWO_PODS);
    let copy = desk.0.join("program");
    fs::copy(env!("CARGO_BIN_EXE_tapswitch"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&desk.0, fs::Permissions::from_mode(0o777)).unwrap();
    for on in ["tapswitch", "kernel"] {
        let mut program = command(copy.to_str().unwrap());
        program
            .args(["lab", "run", "lesson.toml", "--json", "--on", on])
            .current_dir(&desk.0)
            .uid(NOBODY.as_raw())
            .gid(NOBODY.as_raw());
        let output = program.output().unwrap();
        let told = text(&output.stdout);
        let report: Value = serde_json::from_str(&told).unwrap_or_else(|error| {
            panic!("{error}: {told}{}", text(&output.stderr));
        });
        // Not every machine lets ordinary users have namespaces or TAPs: then it says so.
        let expected = match report["because"].is_null() {
            true => ("passed", Some(0)),
            false => ("not-run", Some(77)),
        };
        assert_eq!(report["state"], expected.0, "{report}");
        assert_eq!(output.status.code(), expected.1);
    }
}
