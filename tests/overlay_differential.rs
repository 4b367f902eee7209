//! The same datagrams go into the kernel's vxlan devices and into our endpoint, and the same inner
//! frames must come out at the pods; the same frames go into the pods, and the same datagrams must
//! leave. Both hosts have an underlay device and two segments with a pod each, and the test holds
//! the other ends, see `host.rs`.
//!
//! ```text
//! cargo test --test overlay_differential                           # 20,000 datagrams and frames
//! TAPSWITCH_DIFF_SEED=7 cargo test --test overlay_differential     # the run of that seed again
//! TAPSWITCH_DIFF_STEPS=1000000 cargo test --release --test overlay_differential
//! ```
//!
//! A failure prints its seed, its step, and whether the step alone shows it.
//!
//! # What is not compared
//! - Of outer headers the UDP source port, the IPv4 identification and header checksum, the UDP
//!   checksum and the IPv6 flow label. Ports have rules of their own, which are checked; both
//!   checksums must be right. The kernel labels the flows of our sockets (RFC 6438), not those of
//!   its vxlan devices.
//! - The frames of different flows with each other: their order.
//! - What the kernel of either host says about closed ports and lost fragments (ICMP).
//! - Frames to the hardware addresses of the kernel's own devices: none is sent.
//! - Hosts that speak with and without a VLAN tag, as in `differential.rs`.
//!
//! # Where we differ
//! Each divergence has to be one of these, and each is counted in the output. `deviations.rs` has the
//! exact conditions, and what exactly must come of them on either side.
//!
//! | id | what | the kernel | we | why |
//! | --- | --- | --- | --- | --- |
//! | V1 | reserved bits of the VXLAN header | drops | ignore them, unless `strict` | RFC 7348 §5: ignored on receipt |
//! | V2 | an inner source that is the vxlan device's address | takes it for a loop | have no such address | there is no device |
//! | V3 | a VTEP that is no peer of the segment | hears it | drop, unless `accept = "any"` | anybody can send a datagram |
//! | V3b | the same, with `accept = "any"` | learns at once | learn when it has become a peer | a worker makes no peers |
//! | V3c | from the host's own address | hears it over IPv6 | drop | it would be a loop |
//! | V4 | to another address of the host, or to everybody | hears it | do not | our socket has an address, the kernel's none |
//! | V5 | IP that ends inside its fixed header | drops | forward | a bridge does not judge packets |
//! | V6 | a congestion mark for a packet behind a VLAN tag | reads and marks the tag instead, or nothing | merge the marks | RFC 6040 §4.2 |
//! | V6b | a congestion mark for the type of IP with another version in it | marks | pass it on | it is no IP packet |
//! | V6c | an IPv4 checksum that a mark makes 0 | writes 0xffff (RFC 1141) | write 0 (RFC 1624) | only 0 is what summing yields |
//! | V7 | a checksum that holds the pseudo header's sum only | passes it on | complete it | an offloading sender left it so |
//! | V7b | a TCP segment of that kind, longer than the MTU | passes it on, if it may | cut it | likewise: a superframe |
//! | V8 | joined datagrams that might be one superframe, with other segments' headers in it | tells them apart, it joined them | drop all | or frames could be forged |
//! | V9 | an inner CE mark | sends ECT(0) (RFC 3168) | copy it | RFC 6040 §4.1, normal mode |
//! | V9b | the type of IP with another version in it | copies what it takes for TOS | send none | it is no IP packet |
//! | V10 | longer than the overlay's MTU + 18, and the path takes it | drops at its vxlan device | send | our limit is the path |
//! | V11 | dropped by both for its mark or reserved destination | its vxlan device has learned from it | have not | we have one FDB, it has two |
//! | V12 | a TCP checksum to be completed that comes out as 0 | sends 0xffff | send 0 | 0 means "none" in UDP only |
//! | K9a | ends in its VLAN tag or just behind | loses it before it learns | learn | see `differential.rs` |
//! | K9b | a tag, and MTU + 19 to MTU + 22 bytes | does not count the tag | count it | see `differential.rs` |

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "overlay_differential/deviations.rs"]
mod deviations;
#[path = "overlay_differential/generator.rs"]
mod generator;
#[path = "overlay_differential/host.rs"]
mod host;
#[path = "overlay_differential/inner.rs"]
mod inner;
#[path = "differential/namespace.rs"]
mod namespace;
#[path = "overlay_differential/packets.rs"]
mod packets;
#[path = "overlay_differential/ports.rs"]
mod ports;
#[path = "overlay_differential/runner.rs"]
mod runner;
#[path = "overlay_differential/tshark.rs"]
mod tshark;

mod common;
mod superframe;

use std::{
    env,
    hash::{BuildHasher, RandomState},
    io,
    process::ExitCode,
};

use libtest_mimic::{Completion, Trial};

use self::{
    common::Env,
    generator::Op,
    host::{Host, Settings},
    runner::{Pair, Stop},
    tshark::Twin,
};

fn main() -> ExitCode {
    let seed =
        number("TAPSWITCH_DIFF_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let count = number("TAPSWITCH_DIFF_STEPS").unwrap_or(20_000) / 4;
    let bold = Settings::default();
    let plain = Settings {
        strict: false,
        any: true,
        inherit: true,
        offload: false,
        ..bold
    };
    let over = |settings: Settings, v6| Settings { v6, ..settings };
    common::main(|env| {
        vec![
            trial(
                env,
                "over_ipv4_the_same_frames_come_out_of_the_same_datagrams",
                move || compare(seed, count, over(bold, false), 85),
            ),
            trial(
                env,
                "over_ipv6_the_same_frames_come_out_of_the_same_datagrams",
                move || compare(seed, count, over(plain, true), 85),
            ),
            trial(
                env,
                "over_ipv4_the_same_frames_leave_in_the_same_datagrams",
                move || compare(seed, count, over(plain, false), 15),
            ),
            trial(
                env,
                "over_ipv6_the_same_frames_leave_in_the_same_datagrams",
                move || compare(seed, count, over(bold, true), 15),
            ),
            trial(
                env,
                "what_does_not_fit_the_path_is_answered_with_the_same_words",
                move || {
                    [false, true]
                        .into_iter()
                        .for_each(|v6| outgrow(seed, over(bold, v6)));
                },
            ),
            trial(
                env,
                "flows_share_few_source_ports_and_fragments_of_a_datagram_one",
                move || {
                    [false, true]
                        .into_iter()
                        .for_each(|v6| ports::check(&over(bold, v6)));
                },
            ),
            trial(
                env,
                "wireshark_reads_the_same_in_both_and_finds_all_our_checksums_right",
                move || {
                    [false, true]
                        .into_iter()
                        .for_each(|v6| read(seed, over(bold, v6)));
                },
            ),
        ]
    })
}

/// A test that is ignored where there is no oracle or no judge, with the reason.
fn trial(env: &Env, name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    let reason = env.reason_not_to_run.clone();
    let needs_tshark = name.starts_with("wireshark");
    Trial::ignorable_test(name, move || {
        let missing = || {
            if needs_tshark && !tshark::is_installed() {
                return Some("tshark is not installed".to_owned());
            }
            let oracle = Host::kernel(&Settings::default()).map(drop);
            oracle.err().map(|error: io::Error| error.to_string())
        };
        if let Some(reason) = reason.or_else(missing) {
            return Ok(Completion::ignored_with(reason));
        }
        body();
        Ok(Completion::Completed)
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let number = text.replace('_', "").parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Random datagrams and frames, `count` in all; of 100 steps, `hearing` are datagrams from afar.
fn compare(seed: u64, count: u64, settings: Settings, hearing: u64) {
    eprintln!("TAPSWITCH_DIFF_SEED={seed}, {count} datagrams and frames, {settings:?}");
    let mut pair = Pair::new(settings).unwrap();
    let mut step = 0;
    while pair.tally.total() < count {
        let op = generator::op(seed, step, &settings, hearing);
        let result = pair.step(&op);
        succeed(seed, step, settings, &op, result);
        step += 1;
    }
    assert_eq!(pair.unaccounted().unwrap(), 0);
    let (ports, flows) = pair.ports();
    assert!(ports > 1, "{flows} flows, {ports} source ports");
    eprint!(
        "{:?}; {ports} source ports for {flows} flows; intended deviations:\n{}",
        pair.tally, pair.counts
    );
}

fn outgrow(seed: u64, settings: Settings) {
    let settings = Settings {
        underlay_mtu: 1500,
        ..settings
    };
    let mut pair = Pair::new(settings).unwrap();
    pair.introduce().unwrap();
    let mut answers = 0;
    for step in 0..500 {
        let op = generator::big(seed, step);
        let result = pair.outgrow(&op);
        answers += u64::from(succeed(seed, step, settings, &op, result));
    }
    assert!(answers > 20, "only {answers} answers with seed {seed}");
}

/// Lets Wireshark read the same datagrams of both.
fn read(seed: u64, settings: Settings) {
    let mut pair = Pair::new(settings).unwrap();
    let mut twins = Vec::new();
    let mut step = 0;
    while twins.len() < 1500 {
        let op = generator::op(seed, step, &settings, 10);
        let result = pair.step(&op);
        let seen = succeed(seed, step, settings, &op, result);
        let [kernel, ours] = seen.map(|seen| seen.masked());
        // Where they differ on purpose there is nothing to compare.
        if kernel.keys().eq(ours.keys()) {
            let pairs = kernel.into_values().zip(ours.into_values());
            twins.extend(pairs.map(|(kernel, ours)| Twin {
                kernel,
                ours,
                is_completed: op.is_unfinished(),
            }));
        }
        step += 1;
    }
    tshark::compare(seed, settings.v6, &twins);
}

fn succeed<T>(seed: u64, step: u64, settings: Settings, op: &Op, result: Result<T, Stop>) -> T {
    match result {
        Ok(result) => result,
        Err(Stop::Broken(error)) => {
            panic!("TAPSWITCH_DIFF_SEED={seed}, step {step}: {error}\n{op:?}")
        }
        Err(Stop::Mismatch(what)) => {
            let again = Pair::new(settings).unwrap().step(op);
            let alone = match again {
                Err(Stop::Mismatch(_)) => "this step alone shows it too",
                _ => "this step alone does not show it",
            };
            panic!("TAPSWITCH_DIFF_SEED={seed}, step {step}: {what}{op:?}\n{alone}")
        }
    }
}
