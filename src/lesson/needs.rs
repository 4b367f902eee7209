//! What a lesson needs that may not be here.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    format::{Feature, Lesson, System},
    lang::Lang,
    world::batch,
};
use crate::sys::{Tap, TapOptions, netns::NetnsFile};

/// Why `lesson` cannot run on `system` here; `None`: it can. Must be called inside of a world.
pub(super) fn missing(lesson: &Lesson, system: System, lang: Lang) -> Option<String> {
    if !lesson.on.contains(&system) {
        let on: Vec<_> = lesson.on.iter().map(|system| system.name()).collect();
        let on = on.join(", ");
        return Some(match lang {
            Lang::En => format!("it is a lesson for {on} only; run it --on {on}"),
            Lang::Zh => format!("这一课只能运行在 {on} 上；请用 --on {on}"),
        });
    }
    let always = ["sh", "ip"].map(str::to_owned);
    if let Some(because) = programs(&always, lang).or_else(|| programs(&lesson.needs, lang)) {
        return Some(because);
    }
    // The cable between the machines.
    let has_cable = lesson.nodes.iter().any(|node| node.underlay.is_some());
    let of_cable: &[Feature] = match has_cable {
        true => &[Feature::Bridge, Feature::Veth],
        false => &[],
    };
    let of_kernel: &[Feature] = match system {
        System::Kernel => &lesson.kernel_needs,
        System::Tapswitch => &[],
    };
    if let Some(because) = [of_cable, &lesson.features, of_kernel]
        .iter()
        .find_map(|needed| features(needed, lang))
    {
        return Some(because);
    }
    if system == System::Tapswitch
        && let Err(error) = Tap::create(&TapOptions::default())
    {
        return Some(error.to_string());
    }
    None
}

/// Which of `features` the kernel lacks.
pub(super) fn features(features: &[Feature], lang: Lang) -> Option<String> {
    let missing = features.iter().find(|&&feature| !has(feature))?.name();
    Some(match lang {
        Lang::En => format!("the kernel has no {missing}; load it: modprobe {missing}"),
        Lang::Zh => format!("内核没有 {missing}；请先加载：modprobe {missing}"),
    })
}

/// Which of `programs` is not here.
pub(super) fn programs(programs: &[String], lang: Lang) -> Option<String> {
    if let Some(missing) = programs.iter().find(|program| !is_installed(program)) {
        return Some(match lang {
            Lang::En => format!("{missing} is not installed; install it"),
            Lang::Zh => format!("没有安装 {missing}；请先安装"),
        });
    }
    let is_other = programs.iter().any(|program| program == "nc") && !is_openbsds();
    let said = match lang {
        Lang::En => "nc is not OpenBSD's, which has -N; install netcat-openbsd",
        Lang::Zh => "这里的 nc 不是 OpenBSD 版，没有 -N；请安装 netcat-openbsd",
    };
    is_other.then(|| said.to_owned())
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
    let Ok(here) = NetnsFile::current() else {
        return false;
    };
    // Each is made and taken away again, on lo or as a device of its own.
    let tried = |program: &str, make: &str, take: &str| {
        let made = batch(program, &here, make);
        // It is there only if it could be made.
        drop(batch(program, &here, take));
        made.is_ok()
    };
    let can_make = |kind: &str| {
        let make = format!("link add lab-probe type {kind}");
        tried("ip", &make, "link del lab-probe")
    };
    match feature {
        Feature::BrNetfilter => Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists(),
        Feature::Vxlan => can_make("vxlan id 1 dstport 4789"),
        Feature::Bridge => can_make("bridge"),
        Feature::Veth => can_make("veth peer name lab-probe2"),
        Feature::Ifb => can_make("ifb"),
        Feature::SchTbf => tried(
            "tc",
            "qdisc add dev lo root tbf rate 1mbit burst 10k latency 50ms",
            "qdisc del dev lo root",
        ),
        Feature::ActMirred => tried(
            "tc",
            "qdisc add dev lo handle ffff: ingress\n\
             filter add dev lo parent ffff: protocol ip u32 match u32 0 0 action mirred egress \
             redirect dev lo",
            "qdisc del dev lo ingress",
        ),
    }
}
