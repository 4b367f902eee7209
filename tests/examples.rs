//! Every example prints what its first lines promise, and the crate's documentation lists all.

mod common;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use common::{Daemon, Env, Netns, no_vxlan, succeeded, wait_until};
use libtest_mimic::Trial;
use serde_json::Value;

fn main() -> ExitCode {
    // Before the private world is entered: in there, cargo may find less than it needs.
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--examples"])
        .args((!cfg!(debug_assertions)).then_some("--release"))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the examples are not built"
    );
    common::main(|env| {
        let mut trials: Vec<Trial> = examples().into_iter().map(|one| one.trial(env)).collect();
        trials.push(Trial::test(
            "the_crate_lists_every_example_in_its_order",
            || {
                listed();
                Ok(())
            },
        ));
        trials
    })
}

struct Example {
    name: String,
    text: String,
}

impl Example {
    fn trial(self, env: &Env) -> Trial {
        let title = format!("example_{}_prints_what_it_promises", self.name);
        if self.name == "19_cni_plugin" {
            return env.trial_with(&["ping"], &title, move || cni_plugin(&self));
        }
        if self.text.contains("(no root)") {
            return Trial::test(title, move || {
                self.keeps_its_promise();
                Ok(())
            });
        }
        let needs = self.text.split("needs ").nth(1).unwrap_or_default();
        let needs = needs.split(')').next().unwrap_or_default();
        // What is between backquotes is a program.
        let programs: Vec<&str> = needs.split('`').skip(1).step_by(2).collect();
        assert!(
            self.text.contains("(namespaces: "),
            "{}: root or not?",
            self.name
        );
        assert!(!programs.is_empty(), "{}: which programs?", self.name);
        let programs: Vec<String> = programs.into_iter().map(str::to_owned).collect();
        let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
        let kernel = |reason: &Env| Env {
            reason_not_to_run: reason.reason_not_to_run.clone().or_else(no_vxlan),
        };
        let with_vxlan = needs.contains("the kernel's vxlan").then(|| kernel(env));
        let env = with_vxlan.as_ref().unwrap_or(env);
        env.trial_with(&programs, &title, move || self.keeps_its_promise())
    }

    fn program(&self) -> Command {
        let built = Path::new(env!("CARGO_BIN_EXE_tapswitch")).parent().unwrap();
        common::command(built.join("examples").join(&self.name).to_str().unwrap())
    }

    #[track_caller]
    fn keeps_its_promise(&self) {
        let printed = succeeded(&self.name, self.program().output());
        let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
        assert_eq!(printed.join("\n"), promised(&self.text), "{}", self.name);
    }
}

/// All of them, in their order.
fn examples() -> Vec<Example> {
    let entries = fs::read_dir(root().join("examples")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let sources = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let example = |path: PathBuf| Example {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    };
    let mut examples: Vec<_> = sources.map(example).collect();
    examples.sort_by(|a, b| a.name.cmp(&b.name));
    examples
}

/// What stands between ```` ```text ```` and ```` ``` ```` in the module's documentation.
#[track_caller]
fn promised(text: &str) -> String {
    let docs = text.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<_> = docs
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let start = lines.iter().position(|&line| line == "```text").unwrap() + 1;
    let len = lines[start..]
        .iter()
        .position(|&line| line == "```")
        .unwrap();
    lines[start..start + len].join("\n")
}

fn listed() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let listed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .filter_map(|line| line.split('`').next())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    let names: Vec<String> = examples().into_iter().map(|one| one.name).collect();
    assert_eq!(listed, names);
    for (name, number) in names.iter().zip(1..) {
        assert!(
            name.starts_with(&format!("{number:02}_")),
            "{name} is number {number}"
        );
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The commands of the plugin's own documentation, and what a runtime does beyond them.
fn cni_plugin(example: &Example) {
    let runtime = Runtime {
        example,
        daemon: Daemon::start_with(&[]),
    };
    let [blue, green] = ["blue", "green"].map(Netns::named);
    let config = runtime.config("");

    let version = runtime.call("VERSION", "blue", "c0ffee", "{}");
    let version: Value = serde_json::from_str(&version.1).unwrap();
    assert_eq!(version["supportedVersions"], serde_json::json!(["1.0.0"]));

    let (is_done, added) = runtime.call("ADD", "blue", "c0ffee", &config);
    assert!(is_done, "{added}");
    // The MAC address depends on the name of the machine.
    let without_mac = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("\"mac\""));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        without_mac(added.trim_end()),
        without_mac(&promised(&example.text))
    );
    let (is_done, second) = runtime.call("ADD", "green", "decade", &config);
    assert!(is_done && second.contains("10.22.0.3/24"), "{second}");
    let ping = blue.exec(&["ping", "-c", "1", "-W", "2", "10.22.0.3"]);
    assert!(ping.status.success());

    let nothing = (true, String::new());
    let before = runtime.config(&format!(r#", "prevResult": {added}"#));
    assert_eq!(runtime.call("CHECK", "blue", "c0ffee", &before), nothing);
    blue.ip("link set eth0 down");
    let patience = Duration::from_secs(15);
    wait_until("the switch notices", patience, || {
        !runtime.call("CHECK", "blue", "c0ffee", &before).0
    });

    // Once more is no error, and the address is free again.
    for _ in 0..2 {
        assert_eq!(runtime.call("DEL", "blue", "c0ffee", &config), nothing);
    }
    assert!(!blue.links().contains(&"eth0".to_owned()));
    assert_eq!(runtime.code("CHECK", "blue", &before), 3);
    let again = runtime.call("ADD", "blue", "ace", &config);
    assert!(again.1.contains("10.22.0.2/24"), "{}", again.1);
    green.delete();
    assert_eq!(runtime.call("DEL", "green", "decade", &config), nothing);

    assert_eq!(runtime.code("ADD", "red", &config), 100);
    assert_eq!(runtime.code("GO", "blue", &config), 4);
    for (text, code) in [
        ("{".to_owned(), 6),
        (r#"{"cniVersion": "1.0.0"}"#.to_owned(), 7),
        (config.replace("\"1.0.0\"", "\"0.3.1\""), 1),
        (config.replace("control.sock", "nobody.sock"), 11),
    ] {
        assert_eq!(runtime.code("ADD", "blue", &text), code, "{text}");
    }
}

/// What calls the plugin.
struct Runtime<'a> {
    example: &'a Example,
    daemon: Daemon,
}

impl Runtime<'_> {
    /// The configuration of the plugin's documentation, and more.
    fn config(&self, more: &str) -> String {
        let socket = self.daemon.socket().display();
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "pods", "type": "tapswitch", "bridge": "br0",
                "subnet": "10.22.0.0/24", "socket": "{socket}"{more}}}"#
        )
    }

    /// Whether it succeeded, and what it printed.
    fn call(&self, command: &str, netns: &str, id: &str, config: &str) -> (bool, String) {
        let mut plugin = self.example.program();
        plugin
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", format!("/run/netns/{netns}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = plugin.spawn().unwrap();
        // It need not read what it needs not.
        drop(child.stdin.take().unwrap().write_all(config.as_bytes()));
        let output = child.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), printed)
    }

    /// The number of the error.
    #[track_caller]
    fn code(&self, command: &str, netns: &str, config: &str) -> Value {
        let (is_done, printed) = self.call(command, netns, "c0ffee", config);
        assert!(!is_done, "{printed}");
        serde_json::from_str::<Value>(&printed).unwrap()["code"].clone()
    }
}
