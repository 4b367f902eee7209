//! Whoever is root of a user namespace only has a daemon of his own, beside that of the machine.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    process::{Child, Command, ExitCode, Output, Stdio},
};

use common::Env;
use nix::unistd::geteuid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tapswitch");
const NOBODY: u32 = 65_534;
/// Where nobody may read the program, and have a socket.
const COPY: &str = "/run/tapswitch-own";
const RUNTIME: &str = "/run/of-nobody";

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let is_possible = || {
            let mut unshare = nobody(&["unshare", "-Urn", "true"], None);
            geteuid().is_root() && unshare.output().is_ok_and(|output| output.status.success())
        };
        let reason = "nobody may not have a user namespace here".to_owned();
        let env = Env {
            reason_not_to_run: env
                .reason_not_to_run
                .clone()
                .or_else(|| (!is_possible()).then_some(reason)),
        };
        vec![
            env.trial_with(
                &["unshare"],
                "root_of_a_user_namespace_is_below_its_runtime_directory",
                own_daemon,
            ),
            env.trial_with(
                &["unshare"],
                "a_log_does_not_keep_the_demo_out_of_a_user_namespace",
                demo_with_a_log,
            ),
        ]
    })
}

fn own_daemon() {
    fs::copy(PROGRAM, COPY).unwrap();
    fs::set_permissions(COPY, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(RUNTIME).unwrap();
    chown(RUNTIME, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut of_the_machine = Command::new(PROGRAM);
    of_the_machine.env_remove("TAPSWITCH_SOCKET").arg("run");
    let _of_the_machine = Daemon::ready(of_the_machine);

    // Its socket is another's.
    let refused = output(nobody(&["unshare", "-Ur", COPY, "show"], None));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("/run/tapswitch/control.sock"), "{told}");
    assert!(told.contains("root of a user namespace only"), "{told}");
    assert!(!told.contains("run as root"), "{told}");
    let refused = output(nobody(&["unshare", "-Urn", COPY, "run"], None));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("TAPSWITCH_SOCKET"), "{told}");

    // Daemon and clients find each other, inside and outside.
    let _own = Daemon::ready(nobody(&["unshare", "-Urn", COPY, "run"], Some(RUNTIME)));
    assert!(fs::exists(format!("{RUNTIME}/tapswitch/control.sock")).unwrap());
    let clients: [&[&str]; 2] = [&["unshare", "-Ur", COPY, "show"], &[COPY, "show"]];
    for client in clients {
        let shown = output(nobody(client, Some(RUNTIME)));
        let told = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success(), "{client:?}: {told}");
    }
}

fn demo_with_a_log() {
    fs::copy(PROGRAM, COPY).unwrap();
    fs::set_permissions(COPY, fs::Permissions::from_mode(0o755)).unwrap();
    let shown = output(nobody(&[COPY, "demo", "-v"], None));
    let told = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{told}");
    assert!(told.contains("inside a user namespace"), "{told}");
}

/// A command of an ordinary user.
fn nobody(words: &[&str], runtime: Option<&str>) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir("/");
    command.env_remove("TAPSWITCH_SOCKET");
    command.env_remove("XDG_RUNTIME_DIR");
    command.envs(runtime.map(|runtime| ("XDG_RUNTIME_DIR", runtime)));
    command.uid(NOBODY).gid(NOBODY);
    command
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

struct Daemon(Child);

impl Daemon {
    #[track_caller]
    fn ready(mut command: Command) -> Self {
        let mut child = command
            .env("TAPSWITCH_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let daemon = Self(child);
        assert_eq!(line, "ready\n");
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
