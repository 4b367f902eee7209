//! The overlay's pure functions against the kernel's vxlan device: congestion marks, answers to
//! what is too big, and the messages that a plain UDP socket gets from it.
//!
//! Needs root or unprivileged user namespaces, /dev/net/tun, `ip` and the vxlan module; ignored
//! without them. Where we differ on purpose is in the `Difference` of each part; every other
//! difference fails.

mod common;
#[path = "vxlan_kernel/marks.rs"]
mod marks;
#[path = "vxlan_kernel/messages.rs"]
mod messages;
mod superframe;
#[path = "vxlan_kernel/too_big.rs"]
mod too_big;
#[path = "vxlan_kernel/world.rs"]
mod world;

use std::process::ExitCode;

use common::{Env, command};
use libtest_mimic::Trial;

/// Its name, and itself.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    common::main(|env: &Env| -> Vec<Trial> {
        let reason = env.reason_not_to_run.clone().or_else(no_vxlan);
        let env = Env {
            reason_not_to_run: reason,
        };
        let tests = [marks::TESTS, too_big::TESTS, messages::TESTS].concat();
        let trial = |&(name, body): &Test| env.trial(name, body);
        tests.iter().map(trial).collect()
    })
}

/// Why the kernel makes no vxlan device; `None` if it does.
fn no_vxlan() -> Option<String> {
    let ip = |words: &str| command("ip").args(words.split(' ')).output();
    match ip("link add probe type vxlan id 1 dstport 4789") {
        Ok(output) if output.status.success() => {
            drop(ip("link del probe"));
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(format!("ip link add type vxlan: {}", said.trim()))
        }
        Err(error) => Some(format!("run ip: {error}")),
    }
}
