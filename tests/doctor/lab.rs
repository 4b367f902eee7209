//! One machine: the real program with three pods on a bridge, and a doctor who is asked.

use std::{collections::BTreeSet, process::Output};

use serde_json::Value;

use crate::{
    common::{Netns, command, wait_until},
    world::{Daemon, SOON, text},
};

/// The program, and pods that are its ports.
pub(crate) struct Lab {
    pub(crate) daemon: Daemon,
    pods: Vec<(&'static str, Netns)>,
}

impl Lab {
    /// podA 10.1.1.1, podB 10.1.1.2 and podC 10.1.1.3 on br0, each also fd00:1::N.
    pub(crate) fn new() -> Self {
        let pods = ["podA", "podB", "podC"].map(|name| (name, Netns::new(name)));
        let mut config = "[[bridge]]\nname = \"br0\"\n".to_owned();
        for (number, (name, netns)) in (1..).zip(&pods) {
            config += &format!(
                "[[bridge.port]]\nname = \"{name}\"\nnetns = \"{}\"\n\
                 addresses = [\"10.1.1.{number}/24\", \"fd00:1::{number}/64\"]\n",
                netns.name()
            );
        }
        Self {
            daemon: Daemon::start(&config),
            pods: pods.into(),
        }
    }

    #[track_caller]
    pub(crate) fn pod(&self, name: &str) -> &Netns {
        let mut pods = self.pods.iter();
        &pods.find(|(of, _)| *of == name).unwrap().1
    }

    /// Takes a pod's namespace away from the lab.
    #[track_caller]
    pub(crate) fn take(&mut self, name: &str) -> Netns {
        let at = self.pods.iter().position(|(of, _)| *of == name).unwrap();
        self.pods.remove(at).1
    }

    /// Runs `ip` in a pod.
    #[track_caller]
    pub(crate) fn ip(&self, pod: &str, arguments: &str) -> String {
        self.pod(pod).ip(arguments)
    }

    /// Runs any program in a pod; it may fail.
    #[track_caller]
    pub(crate) fn run(&self, pod: &str, arguments: &str) -> Output {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        self.pod(pod).exec(&words)
    }

    /// Writes a file of `/proc/sys/net` in a pod.
    #[track_caller]
    pub(crate) fn sysctl(&self, pod: &str, key: &str, value: &str) {
        let path = format!("/proc/sys/net/{key}");
        self.pod(pod).run(|| std::fs::write(path, value)).unwrap();
    }

    /// Runs `tapswitch ARGUMENTS`.
    #[track_caller]
    pub(crate) fn tapswitch(&self, arguments: &str) {
        self.daemon.screen(arguments);
    }

    /// Pings until it is answered.
    #[track_caller]
    pub(crate) fn ping(&self, pod: &str, to: &str) {
        wait_until(&format!("{pod} pings {to}"), SOON, || {
            let ping = format!("ping -c 1 -W 0.5 {to}");
            self.run(pod, &ping).status.success()
        });
    }

    /// Pings in vain.
    pub(crate) fn try_to_ping(&self, pod: &str, to: &str) {
        drop(self.run(pod, &format!("ping -c 1 -W 0.2 {to}")));
    }
}

/// What the doctor says.
pub(crate) struct Opinion(pub(crate) Value);

impl Opinion {
    /// Asks; whether something is broken must show in the exit code.
    #[track_caller]
    pub(crate) fn of(daemon: &Daemon, about: &str) -> Self {
        let output = daemon.run(&format!("doctor {about} --json"));
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(stderr, "", "doctor {about}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        let is_broken = report["verdict"] == "broken";
        assert_eq!(
            output.status.code(),
            Some(is_broken.into()),
            "doctor {about}: {stdout}"
        );
        let opinion = Self(report);
        for fix in opinion.fixes("") {
            let program = fix.split(' ').next().unwrap();
            assert!(PROGRAMS.contains(&program), "no command: {fix}");
        }
        opinion
    }

    /// The commands of all findings whose id begins like this, as somebody at a shell would type
    /// them.
    pub(crate) fn fixes(&self, id: &str) -> BTreeSet<String> {
        let findings = self.0["findings"].as_array().unwrap().iter();
        let findings = findings.filter(|it| it["id"].as_str().unwrap().starts_with(id));
        let fixes = findings.flat_map(|it| it["fix"].as_array().unwrap());
        let commands = fixes.map(|fix| fix.as_str().unwrap().split("    #").next().unwrap());
        commands.map(str::to_owned).collect()
    }

    /// The id of the most likely cause.
    pub(crate) fn cause(&self) -> &str {
        self.0["cause"]["id"].as_str().unwrap_or("none")
    }

    /// Whether a finding of this kind is worse than a note.
    pub(crate) fn complains_of(&self, id: &str) -> bool {
        let findings = self.0["findings"].as_array().unwrap();
        let is_bad = |it: &&Value| it["severity"] == "warning" || it["severity"] == "broken";
        findings.iter().filter(is_bad).any(|it| it["id"] == id)
    }

    /// All complaints, for messages of tests.
    pub(crate) fn text(&self) -> String {
        let findings = self.0["findings"].as_array().unwrap();
        let bad = findings.iter().filter(|it| it["severity"] != "ok");
        let lines = bad.map(|it| format!("\n  {it}"));
        lines.collect()
    }

    /// Does what the cause's fix says, as somebody at a shell would.
    #[track_caller]
    pub(crate) fn follow(&self, daemon: &Daemon) {
        for fix in self.0["cause"]["fix"].as_array().unwrap() {
            let fix = fix.as_str().unwrap();
            let output = daemon.shell(fix);
            assert!(
                output.status.success(),
                "{fix}: {}{}",
                text(&output.stdout),
                text(&output.stderr)
            );
        }
    }
}

/// What commands begin with.
const PROGRAMS: [&str; 11] = [
    "tapswitch",
    "ethtool",
    "ip",
    "ip6tables",
    "iptables",
    "nft",
    "nsenter",
    "ping",
    "ss",
    "sysctl",
    "lsns",
];

impl Daemon {
    /// Runs a line in a shell that knows `tapswitch`.
    fn shell(&self, line: &str) -> Output {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_tapswitch"));
        let directory = program.parent().unwrap().display().to_string();
        command("sh")
            .args(["-c", &format!("PATH={directory}:$PATH; {line}")])
            .env("TAPSWITCH_SOCKET", self.socket())
            .output()
            .unwrap()
    }
}
