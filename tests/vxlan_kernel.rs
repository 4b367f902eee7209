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

use common::{Env, no_vxlan};
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
