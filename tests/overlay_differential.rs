//! The same datagrams and frames go into the kernel's vxlan devices and into our endpoint.

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
#[path = "overlay_differential/runner.rs"]
mod runner;
#[path = "overlay_differential/tshark.rs"]
mod tshark;

mod common;
mod superframe;

use std::{
    env,
    hash::{BuildHasher, RandomState},
    process::ExitCode,
};

use self::{
    host::{Settings},
    runner::{Pair, Stop},
};

fn main() -> ExitCode {
    let seed =
        number("TAPSWITCH_DIFF_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let steps = number("TAPSWITCH_DIFF_STEPS").unwrap_or(20_000);
    let settings = |v6, strict| Settings { v6, strict, any: false, inherit: v6, offload: strict, underlay_mtu: 1600 };
    common::main(|env| {
        vec![
            env.trial_with(&["tshark"], "tshark", move || tshark_reads(seed, &settings(false, true))),
            env.trial("v4", move || compare(seed, steps / 4, settings(false, true), 80)),
            env.trial("big4", move || compare(seed, steps / 4, Settings { underlay_mtu: 1500, ..settings(false, true) }, 0)),
            env.trial("big6", move || compare(seed, steps / 4, Settings { underlay_mtu: 1500, ..settings(true, true) }, 0)),
            env.trial("v6", move || compare(seed, steps / 4, settings(true, false), 80)),
        ]
    })
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let number = text.replace('_', "").parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn compare(seed: u64, steps: u64, settings: Settings, hearing: u64) {
    eprintln!("TAPSWITCH_DIFF_SEED={seed}, {steps} steps, {settings:?}");
    let mut pair = Pair::new(settings).unwrap();
    for step in 0..steps {
        if hearing == 0 { let op = generator::big(seed, step);
            match pair.outgrow(&op) { Ok(true) => pair.tally.sent += 1, Ok(_) => {}, Err(e) => panic!("{step}: {e:?} {op:?}") };
            continue;
        }
        let op = generator::op(seed, step, &settings, hearing);
        match pair.step(&op) {
            Ok(_) => {}
            Err(Stop::Broken(error)) => panic!("TAPSWITCH_DIFF_SEED={seed} step {step}: {error}\n{op:?}"),
            Err(Stop::Mismatch(what)) => {
                panic!("TAPSWITCH_DIFF_SEED={seed} step {step}: {what}{op:?}")
            }
        }
    }
    eprint!("intended deviations in {steps} steps, {:?}:\n{}", pair.tally, pair.counts);
}

fn tshark_reads(seed: u64, settings: &Settings) {
    let mut pair = Pair::new(*settings).unwrap();
    let mut captures = [Vec::new(), Vec::new()];
    let mut step = 0;
    while captures[0].len() < 1000 {
        let op = generator::op(seed, step, settings, 5);
        let seen = pair.step(&op).unwrap();
        step += 1;
        let sort = |seen: &host::Seen| {
            let mut p: Vec<_> = seen.underlay.iter().map(|p| (runner::masked(p), p.clone())).collect();
            p.sort_unstable();
            p
        };
        let [k, o] = [sort(&seen[0]), sort(&seen[1])];
        if k.iter().map(|k| &k.0).eq(o.iter().map(|o| &o.0)) {
            captures[0].extend(k.into_iter().map(|p| p.1));
            captures[1].extend(o.into_iter().map(|p| p.1));
        }
    }
    let dir = std::path::Path::new("/tmp/tsh");
    std::fs::create_dir_all(dir).unwrap();
    let [k, o] = [("kernel.pcap", &captures[0]), ("ours.pcap", &captures[1])].map(|(n, c)| tshark::decode(dir, n, c).unwrap());
    assert_eq!(k.len(), captures[0].len());
    std::fs::write("/tmp/tsh/k.json", serde_json::to_string_pretty(&k[0]).unwrap()).unwrap();
    let mut bad = 0;
    for (k, o) in k.into_iter().zip(o) {
        let (k, o) = (tshark::without_masked(k), tshark::without_masked(o));
        if k != o {
            bad += 1;
            if bad < 3 {
            std::fs::write("/tmp/tsh/k.json", serde_json::to_string_pretty(&k).unwrap()).unwrap();
            std::fs::write("/tmp/tsh/o.json", serde_json::to_string_pretty(&o).unwrap()).unwrap();
            }
        }
    }
    panic!("{bad} bad");
}
