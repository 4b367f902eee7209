//! What a lesson needs that may not be here.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    format::{Feature, Lesson, System},
    world::ip,
};
use crate::sys::{Tap, TapOptions, netns::NetnsFile};

/// Why `lesson` cannot run on `system` here; `None`: it can. Must be called inside of a world.
pub(super) fn missing(lesson: &Lesson, system: System) -> Option<String> {
    if !lesson.on.contains(&system) {
        let on: Vec<_> = lesson.on.iter().map(|system| system.name()).collect();
        let on = on.join(", ");
        return Some(format!("it is a lesson for {on} only; run it --on {on}"));
    }
    let always = ["sh", "ip"].map(str::to_owned);
    if let Some(because) = programs(&always).or_else(|| programs(&lesson.needs)) {
        return Some(because);
    }
    if lesson.nodes.iter().any(|node| node.underlay.is_some()) && !has(Feature::Bridge) {
        return Some(
            "the kernel has no bridge, which is the cable between the machines; load it: modprobe \
             bridge"
                .to_owned(),
        );
    }
    if system == System::Tapswitch
        && let Err(error) = Tap::create(&TapOptions::default())
    {
        return Some(error.to_string());
    }
    let on_kernel = lesson.kernel_needs.iter();
    on_kernel
        .filter(|_| system == System::Kernel)
        .find(|&&feature| !has(feature))
        .map(|feature| {
            let name = feature.name();
            format!("the kernel has no {name}; load it: modprobe {name}")
        })
}

/// Which of `programs` is not here.
pub(super) fn programs(programs: &[String]) -> Option<String> {
    if let Some(missing) = programs.iter().find(|program| !is_installed(program)) {
        return Some(format!("{missing} is not installed; install it"));
    }
    let is_other = programs.iter().any(|program| program == "nc") && !is_openbsds();
    is_other.then(|| "nc is not OpenBSD's, which has -N; install netcat-openbsd".to_owned())
}

/// Whether `nc` is OpenBSD's: only that one ends a connection at the end of its input, with `-N`.
fn is_openbsds() -> bool {
    let output = Command::new("nc").arg("-h").stdin(Stdio::null()).output();
    output.is_ok_and(|output| {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        said.contains("OpenBSD") || said.lines().any(|line| line.trim_start().starts_with("-N"))
    })
}

/// Whether a program is on the path, or where only root has it.
fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(ROOTS_OWN.map(Into::into));
    directories
        .map(|directory| directory.join(program))
        .filter_map(|file| fs::metadata(file).ok())
        .any(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Where programs for root are; an ordinary user's path may not have them.
pub(super) const ROOTS_OWN: [&str; 2] = ["/usr/sbin", "/sbin"];

fn has(feature: Feature) -> bool {
    let can_make = |kind: &str| {
        let Ok(here) = NetnsFile::current() else {
            return false;
        };
        let made = ip(&here, &format!("link add lab-probe type {kind}"));
        // It is there only if it could be made.
        drop(ip(&here, "link del lab-probe"));
        made.is_ok()
    };
    match feature {
        Feature::BrNetfilter => Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists(),
        Feature::Vxlan => can_make("vxlan id 1 dstport 4789"),
        Feature::Bridge => can_make("bridge"),
    }
}
