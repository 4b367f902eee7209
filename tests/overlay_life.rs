//! The overlay from its first day to its last: MTUs, failures of the underlay, strangers, refusals,
//! and `peer ping`. Machines are network namespaces.

mod common;
#[path = "overlay_life/errors.rs"]
mod errors;
#[path = "overlay_life/mtu.rs"]
mod mtu;
#[path = "overlay_life/ping.rs"]
mod ping;
#[path = "overlay_life/strangers.rs"]
mod strangers;
mod stream;
#[path = "overlay_life/too_big.rs"]
mod too_big;
#[path = "overlay_life/underlay.rs"]
mod underlay;
#[path = "overlay_life/world.rs"]
mod world;

use std::process::ExitCode;

use common::Env;
use libtest_mimic::Trial;

/// Programs that it runs, its name, and itself.
type Test = (&'static [&'static str], &'static str, fn());

fn main() -> ExitCode {
    common::main(|env: &Env| -> Vec<Trial> {
        let tests = [
            mtu::TESTS,
            too_big::TESTS,
            underlay::TESTS,
            strangers::TESTS,
            ping::TESTS,
            errors::TESTS,
        ];
        let trial =
            |&(programs, name, body): &Test| -> Trial { env.trial_with(programs, name, body) };
        tests.into_iter().flatten().map(trial).collect()
    })
}
