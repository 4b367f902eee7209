//! Namespaces without a name, and programs that set them up.

use std::{
    env, fs,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
    process::{self, Command, Stdio},
};

use super::Unavailable;
use crate::{
    names::NetnsRef,
    sys::{
        cause_text,
        netns::{NetnsFile, create_anonymous},
    },
};

/// Makes a namespace that lives as long as the value and what runs in it. It is silent: no IPv6, so
/// no router solicitations and no multicast reports.
pub(super) fn create(label: &str) -> Result<NetnsFile, Unavailable> {
    let fd = create_anonymous().map_err(Unavailable::failed)?;
    let netns = NetnsFile::from_file(fd.into(), label.to_owned()).map_err(Unavailable::failed)?;
    // Where /proc is read-only there are a few frames more: no harm. Without br_netfilter there is
    // no such file; with it the kernel's bridge is at its best when it is off.
    let quieten = || {
        for file in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{file}/disable_ipv6");
            drop(fs::write(path, "1"));
        }
        for table in ["iptables", "ip6tables", "arptables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
            drop(fs::write(path, "0"));
        }
    };
    netns.run_in(quieten).map_err(Unavailable::failed)?;
    ip(&netns, "link set lo up")?;
    Ok(netns)
}

/// How `ip` and other processes name `netns`, as long as this process has it open.
pub(super) fn path(netns: &NetnsFile) -> String {
    format!("/proc/{}/fd/{}", process::id(), netns.as_fd().as_raw_fd())
}

/// The same for a switch.
pub(super) fn reference(netns: &NetnsFile) -> NetnsRef {
    NetnsRef::Path(path(netns).into())
}

/// Runs `ip` once inside `netns` with each of `lines` as arguments.
pub(super) fn ip(netns: &NetnsFile, lines: &str) -> Result<(), Unavailable> {
    run(netns, &["ip", "-batch", "-"], lines).map(drop)
}

/// Runs a program inside `netns` to its end, with `input` (short), and returns what it printed.
pub(super) fn run(netns: &NetnsFile, words: &[&str], input: &str) -> Result<String, Unavailable> {
    let program = words.first().copied().unwrap_or_default();
    let output = netns.run_in(|| {
        let mut child = command(program)
            .args(words.get(1..).unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may refuse the first line and end; its complaint says more than a broken pipe.
            drop(stdin.write_all(input.as_bytes()));
        }
        child.wait_with_output()
    });
    let what = || format!("run {:?} in the {}", words.join(" "), netns.label());
    let output = output
        .map_err(Unavailable::failed)?
        .map_err(|error| not_run(&what(), program, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', "; ");
    Err(Unavailable::Failed(format!(
        "{}: {said} (of: {}); see `dmesg`: a kernel module may be missing",
        what(),
        input.trim().replace('\n', "; ")
    )))
}

fn not_run(what: &str, program: &str, error: &io::Error) -> Unavailable {
    match error.kind() {
        io::ErrorKind::NotFound => missing(program),
        _ => Unavailable::Failed(format!("{what}: {}; see ulimit -a", cause_text(error))),
    }
}

/// A command that is found also where an ordinary user's `PATH` lacks the sbin directories.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path());
    command
}

/// Checks that a program is there.
pub(super) fn require(program: &str) -> Result<(), Unavailable> {
    let is_there = |directory: PathBuf| directory.join(program).is_file();
    match env::split_paths(&search_path()).any(is_there) {
        true => Ok(()),
        false => Err(missing(program)),
    }
}

fn missing(program: &str) -> Unavailable {
    let package = match program {
        "ip" | "bridge" => "iproute2",
        "ovs-vswitchd" | "ovsdb-server" => "openvswitch-switch",
        "ovs-vsctl" | "ovsdb-tool" => "openvswitch-common",
        "vde_switch" => "vde2",
        other => other,
    };
    Unavailable::NotInstalled(format!("{program} is not installed; install {package}"))
}

fn search_path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin")
}
