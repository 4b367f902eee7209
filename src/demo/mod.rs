//! `tapswitch demo`: the whole thing in one command, with nothing set up and nothing left behind.
//!
//! Three hosts on one bridge, real pings, and the story of the first one told frame by frame. As
//! root in real namespaces; as an ordinary user in a user namespace; where neither is possible, in
//! memory. Everything hangs on descriptors of this process, so the kernel cleans up however it ends.

mod memory;
mod namespaces;
mod ping;

use std::{env, io, io::Write, os::unix::process::CommandExt, process::Command};

use nix::unistd::{Uid, geteuid};

use crate::{
    control::api::FdbInfo,
    sim::Sentence,
    sys::userns::{Mounts, enter_user_namespace},
};

/// Runs the demo and tells it on `out`. Must be called before the process has started threads, so
/// that an ordinary user's can move into a user namespace.
///
/// # Errors
/// If `out` cannot be written, or the demo itself fails, which is a bug.
pub fn run(out: &mut impl Write) -> io::Result<()> {
    match prepare() {
        Ok(place) => match namespaces::Scene::build() {
            Ok(scene) => {
                writeln!(out, "{place}\n")?;
                namespaces::play(scene, out)
            }
            Err(reason) => in_memory(out, &reason),
        },
        Err(reason) => in_memory(out, &reason),
    }
}

fn in_memory(out: &mut impl Write, reason: &str) -> io::Result<()> {
    writeln!(
        out,
        "In memory, with simulated hosts: real namespaces are not possible here.\n  ({reason})\n"
    )?;
    memory::play(out)
}

/// Moves to where namespaces can be made, and says where that is; or why there is no such place.
fn prepare() -> Result<&'static str, String> {
    const MARK: &str = "TAPSWITCH_DEMO_IN_USER_NAMESPACE";
    if env::var_os(MARK).is_some() {
        return Ok(
            "In real network namespaces, inside a user namespace: you are not root, and need not be.",
        );
    }
    if geteuid() == Uid::from_raw(0) {
        return Ok("In real network namespaces, as root.");
    }
    enter_user_namespace(Mounts::Shared).map_err(|error| error.to_string())?;
    // From the start again, as the root of that namespace.
    let error = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(format!("run myself again in a user namespace: {error}"))
}

/// The hosts of the demo.
const HOSTS: [(&str, &str); 3] = [
    ("red", "192.0.2.1"),
    ("green", "192.0.2.2"),
    ("blue", "192.0.2.3"),
];

fn tell_setting(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "    red 192.0.2.1      green 192.0.2.2     blue 192.0.2.3"
    )?;
    writeln!(out, "        |                  |                  |")?;
    writeln!(out, "   +----+------------------+------------------+----+")?;
    writeln!(out, "   |          br0, a learning bridge               |")?;
    writeln!(
        out,
        "   +-----------------------------------------------+\n"
    )
}

fn tell_story(out: &mut impl Write, title: &str, story: &[Sentence]) -> io::Result<()> {
    writeln!(out, "\n{title}\n")?;
    let Some(first) = story.first() else {
        return writeln!(out, "  (no frame was seen)");
    };
    for (number, sentence) in story.iter().enumerate() {
        let micros = sentence.at.nanos_since(first.at) / 1_000;
        writeln!(
            out,
            "  {}. +{micros} us  from {}: {}",
            number + 1,
            sentence.ingress,
            sentence.frame
        )?;
        write!(out, "       {}", sentence.fate)?;
        match &sentence.lesson {
            Some(lesson) => writeln!(out, "; {lesson}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

fn tell_fdb(
    out: &mut impl Write,
    rows: impl Iterator<Item = (String, String, f64)>,
) -> io::Result<()> {
    writeln!(out, "\nWhat the bridge has learned (its FDB):\n")?;
    writeln!(out, "  {:<19} {:<8} age", "address", "port")?;
    for (mac, port, age) in rows {
        writeln!(out, "  {mac:<19} {port:<8} {age:.1} s")?;
    }
    Ok(())
}

fn fdb_row(entry: &FdbInfo) -> (String, String, f64) {
    let port = entry
        .port
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    (entry.mac.to_string(), port, entry.age_s)
}
