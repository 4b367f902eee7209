//! The machine that measures: what it is, and how busy it is.

use std::{fs, path::Path, process::Command};

use serde::Serialize;

use super::topology::System;
use crate::sys::{affinity, clock};

/// What the figures depend on beside the systems.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// When it measured, in UTC.
    pub date: String,
    /// Of this program.
    pub tapswitch: &'static str,
    /// The kernel's version.
    pub kernel: String,
    /// What the processor calls itself.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Whether it runs under a hypervisor.
    pub is_virtual: bool,
    /// What the kernel does about processor bugs, in few words: it makes system calls dearer.
    pub mitigations: String,
    /// The congestion control of TCP.
    pub congestion: String,
}

impl Machine {
    /// This one, where TCP has this `congestion` control, or the system's.
    pub fn this(congestion: Option<&str>) -> Self {
        let system = read(CONGESTION);
        let info = read("/proc/cpuinfo");
        let model = info.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        Self {
            date: utc(clock::unix_time()),
            tapswitch: env!("CARGO_PKG_VERSION"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: model.unwrap_or_else(|| "unknown".to_owned()),
            cpus: affinity::allowed().map_or(1, |cpus| cpus.len()),
            is_virtual: info.contains(" hypervisor"),
            mitigations: mitigations(),
            congestion: congestion.unwrap_or_else(|| system.trim()).to_owned(),
        }
    }
}

/// Gives TCP in the namespace of the calling thread this `congestion` control.
pub(super) fn set_congestion(congestion: &str) -> Result<(), String> {
    fs::write(CONGESTION, congestion).map_err(|error| {
        let known = read("/proc/sys/net/ipv4/tcp_available_congestion_control");
        format!(
            "set TCP's congestion control to {congestion}: {error}; there is {}",
            known.trim()
        )
    })
}

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

fn mitigations() -> String {
    if read("/proc/cmdline")
        .split_whitespace()
        .any(|word| word == "mitigations=off")
    {
        return "off".to_owned();
    }
    let directory = Path::new("/sys/devices/system/cpu/vulnerabilities");
    let Ok(files) = fs::read_dir(directory) else {
        return "unknown".to_owned();
    };
    let (mut mitigated, mut open) = (0, 0);
    for file in files.flatten() {
        let state = fs::read_to_string(file.path()).unwrap_or_default();
        mitigated += usize::from(state.contains("Mitigation"));
        open += usize::from(state.starts_with("Vulnerable"));
    }
    format!("on ({mitigated} active, {open} vulnerable)")
}

/// What `system` says its version is, if it is a program beside this one.
pub(super) fn version(system: &System) -> Option<String> {
    let program = match system {
        System::OpenVswitch { .. } => "ovs-vswitchd",
        System::Vde => "vde_switch",
        _ => return None,
    };
    let output = Command::new(program)
        .arg("--version")
        .env("PATH", search_path())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next()?.trim().to_owned())
}

/// `PATH` with the directories of system programs, which an ordinary user's lacks.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

/// `seconds` since 1970 as a date and a time of day.
fn utc(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "after 1970, and for some time to come"
    )]
    let seconds = seconds as u64;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, in eras of 400 years (Hinnant, "chrono-compatible low-level date
    // algorithms").
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute) = (rest / 3600, rest / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// CPU time of the whole machine since it started, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTimes {
    busy: u64,
    idle: u64,
    steal: u64,
}

/// How the machine spent a while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Seconds of all CPUs together in which they worked.
    pub(super) busy_s: f64,
    /// The part of all time in which they worked, 0 to 1.
    pub(super) busy: f64,
    /// The part that the hypervisor gave to others.
    pub(super) steal: f64,
}

/// `USER_HZ`, the same on every machine that Linux runs on today.
const TICKS: f64 = 100.0;

impl CpuTimes {
    pub(super) fn now() -> Self {
        Self::parse(&read("/proc/stat"))
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let numbers: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .flat_map(str::parse)
            .collect();
        match numbers[..] {
            [user, nice, system, idle, iowait, irq, softirq, steal, ..] => Self {
                busy: user + nice + system + irq + softirq,
                idle: idle + iowait,
                steal,
            },
            _ => Self::default(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a few ticks")]
    pub(super) fn since(self, before: Self) -> Usage {
        let busy = self.busy.saturating_sub(before.busy) as f64;
        let idle = self.idle.saturating_sub(before.idle) as f64;
        let steal = self.steal.saturating_sub(before.steal) as f64;
        let all = (busy + idle + steal).max(1.0);
        Usage {
            busy_s: busy / TICKS,
            busy: busy / all,
            steal: steal / all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_since_1970_are_dates() {
        for (seconds, expected) in [
            (0.0, "1970-01-01 00:00 UTC"),
            (951_782_400.0, "2000-02-29 00:00 UTC"),
            (1_709_251_140.0, "2024-02-29 23:59 UTC"),
            (1_735_689_600.5, "2025-01-01 00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }

    #[test]
    fn busy_is_neither_idle_nor_stolen() {
        let before = CpuTimes::parse("cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 ...");
        let after = CpuTimes::parse("cpu  150 0 120 1100 10 10 20 10 0 0\n");
        let usage = after.since(before);
        assert_eq!(usage.busy_s, 1.0);
        assert_eq!((usage.busy, usage.steal), (100.0 / 220.0, 10.0 / 220.0));
        assert_eq!(CpuTimes::parse("nonsense"), CpuTimes::default());
    }

    #[test]
    fn this_machine_has_a_kernel_and_cpus() {
        let machine = Machine::this(None);
        assert!(
            !machine.kernel.is_empty() && machine.cpus > 0,
            "{machine:?}"
        );
    }
}
