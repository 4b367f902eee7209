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
        let trial = |&(programs, name, body): &Test| -> Trial {
            let lacks = NEED_LONG_QUEUES.contains(&name).then(lacks_long_queues);
            let env = Env {
                reason_not_to_run: env.reason_not_to_run.clone().or_else(|| lacks.flatten()),
            };
            env.trial_with(programs, name, body)
        };
        tests.into_iter().flatten().map(trial).collect()
    })
}

/// They count 10,000 datagrams at a socket, which must not lose any.
const NEED_LONG_QUEUES: [&str; 2] = [
    "a_dead_peer_neither_delays_nor_loses_what_the_others_get",
    "only_peers_are_answered_and_only_so_often",
];

fn lacks_long_queues() -> Option<String> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
    let result =
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(32 << 20));
    let reason = |errno| format!("a receive buffer of 32 MiB, which only root may have: {errno}");
    result.err().map(reason)
}
