//! The same frames and the same operations go into the kernel's bridge and into ours, and the
//! same bytes must leave the same ports; now and then the two FDBs must be equal too. The kernel's
//! bridge sits in a namespace of its own with TAPs as ports. Ours runs once in memory, where two
//! workers take turns and ageing costs no time, and once as a whole switch with its ports in
//! namespaces.
//!
//! ```text
//! cargo test --test differential                                   # 20,000 steps
//! TAPSWITCH_DIFF_SEED=7 cargo test --test differential             # the run of that seed again
//! TAPSWITCH_DIFF_STEPS=10000000 cargo test --release --test differential
//! ```
//!
//! A failure prints its seed, its step and what led to it, and then the shortest run found that
//! shows it as well. A quarter of the steps, up to 50,000, go through real devices.
//!
//! # What is not compared
//! - The kernel's own addresses, which its FDB holds as local entries: no frame carries them.
//! - A static entry is a `static sticky` one there: without `sticky` a frame from elsewhere would
//!   move it. At its limit our FDB refuses, and it holds no address that moves often.
//! - When an entry dies of age: the kernel finds out up to a tenth of the ageing time later. All
//!   learned entries die at once here, or none.
//! - Hosts that speak with and without a VLAN tag: the kernel's FDB knows no VLANs unless VLAN
//!   filtering is on, and ours always does. The addresses of tagged frames are used in one VLAN
//!   only, and a test of its own shows the difference.
//!
//! The differences that remain are in `deviations.rs`, and each is counted.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "differential/deviations.rs"]
mod deviations;
#[path = "differential/generator.rs"]
mod generator;
#[path = "differential/kernel.rs"]
mod kernel;
#[path = "differential/memory.rs"]
mod memory;
#[path = "differential/namespace.rs"]
mod namespace;
#[path = "differential/netlink.rs"]
mod netlink;
#[path = "differential/runner.rs"]
mod runner;
#[path = "differential/shrink.rs"]
mod shrink;
#[path = "differential/taps.rs"]
mod taps;

mod common;

use std::{
    env,
    hash::{BuildHasher, RandomState},
    io,
    process::ExitCode,
};

use libtest_mimic::{Completion, Trial};
use tapswitch::{daemon::Tuning, wire::MacAddr};

use self::{
    common::Env,
    kernel::Kernel,
    memory::Memory,
    runner::{Copies, Pair, Stop, Switch},
    taps::Taps,
};

fn main() -> ExitCode {
    let seed =
        number("TAPSWITCH_DIFF_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let steps = number("TAPSWITCH_DIFF_STEPS").unwrap_or(20_000);
    let slow = steps.div_ceil(4).min(50_000);
    let kernel = || Kernel::new().map(drop);
    let both = || Kernel::new().and_then(|_| taps::probe());
    common::main(|env| {
        vec![
            trial(
                env,
                "in_memory_the_same_bytes_leave_the_same_ports_as_in_the_kernel",
                kernel,
                move || compare(seed, steps - slow, 500, Memory::new),
            ),
            trial(
                env,
                "through_namespaces_the_same_bytes_leave_the_same_ports_as_in_the_kernel",
                both,
                move || compare(seed, slow, 60, Taps::new),
            ),
            trial(
                env,
                "in_memory_nothing_differs_with_all_that_makes_it_fast_turned_off",
                kernel,
                move || compare(seed, (steps - slow) / 4, 500, Memory::plain),
            ),
            trial(
                env,
                "through_namespaces_nothing_differs_with_all_that_makes_it_fast_turned_off",
                both,
                move || compare(seed, slow / 4, 60, || Taps::with(Tuning::off())),
            ),
            trial(
                env,
                "a_frame_that_ends_in_its_header_goes_nowhere_here_and_there",
                kernel,
                runts,
            ),
            trial(
                env,
                "a_host_with_and_without_a_tag_is_two_hosts_here_and_one_there",
                kernel,
                tagged_twin,
            ),
        ]
    })
}

/// A test that is ignored where `needs` fails, with its reason.
fn trial(
    env: &Env,
    name: &str,
    needs: fn() -> io::Result<()>,
    body: impl FnOnce() + Send + 'static,
) -> Trial {
    let reason = env.reason_not_to_run.clone();
    Trial::ignorable_test(name, move || {
        let missing = || needs().err().map(|error| error.to_string());
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

fn compare<S: Switch>(seed: u64, steps: u64, replays: usize, make: impl Fn() -> io::Result<S>) {
    eprintln!("TAPSWITCH_DIFF_SEED={seed}, {steps} steps");
    let mut pair = Pair::new(Kernel::new().unwrap(), make().unwrap(), 50);
    for step in 0..steps {
        match pair.step(step, generator::op(seed, step)) {
            Ok(()) => {}
            Err(Stop::Broken(error)) => panic!("TAPSWITCH_DIFF_SEED={seed}: {error}"),
            Err(Stop::Mismatch(report)) => {
                // First of all what is known: the search takes its time.
                eprintln!("\nTAPSWITCH_DIFF_SEED={seed}: {report}looking for a shorter run");
                match shrink::shrink(seed, step, replays, &make) {
                    Some((len, report)) => panic!("{len} of these steps suffice: {report}"),
                    None => panic!("step {step}, and no shorter run shows it: {report}"),
                }
            }
        }
    }
    eprint!("intended deviations in {steps} steps:\n{}", pair.counts);
}

fn runts() {
    let (mut kernel, mut memory) = (Kernel::new().unwrap(), Memory::new().unwrap());
    let whole = frame(host(2), host(1), &[0x08, 0x00]);
    for len in 0..whole.len() {
        let runt = &whole[..len];

        assert_eq!(kernel.send(0, 0, runt).unwrap(), [], "{len} bytes");
        assert_eq!(memory.send(0, 0, runt).unwrap(), [], "{len} bytes");
    }

    assert_eq!(kernel.entries().unwrap(), memory.entries().unwrap());
    assert_eq!(
        kernel.send(0, 0, &whole).unwrap().len(),
        generator::PORTS - 1
    );
    assert_eq!(
        memory.send(0, 0, &whole).unwrap().len(),
        generator::PORTS - 1
    );
}

fn tagged_twin() {
    fn ask(switch: &mut impl Switch) -> Vec<usize> {
        let everyone = MacAddr::BROADCAST;
        switch
            .send(0, 0, &frame(everyone, host(1), &[0x08, 0x00]))
            .unwrap();
        let tagged = [0x81, 0x00, 0x00, 0x14, 0x08, 0x00, 0, 0];
        switch
            .send(1, 0, &frame(everyone, host(1), &tagged))
            .unwrap();
        let copies: Copies = switch
            .send(2, 0, &frame(host(1), host(2), &[0x08, 0x00]))
            .unwrap();
        copies.into_iter().map(|(port, _)| port).collect()
    }

    assert_eq!(ask(&mut Kernel::new().unwrap()), [1], "the kernel moves it");
    assert_eq!(ask(&mut Memory::new().unwrap()), [0], "we keep both");
}

fn host(number: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 1, number])
}

fn frame(dst: MacAddr, src: MacAddr, rest: &[u8]) -> Vec<u8> {
    [&dst.octets()[..], &src.octets(), rest].concat()
}
