//! As many gigabytes as somebody has time for, byte for byte, while offloads are switched on and off.

use std::{
    env,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use libtest_mimic::{Completion, Trial};
use tapswitch::{config::VtepSpec, sys::clock};

use crate::{
    common::Env,
    matrix::{Cell, Other, with_pair},
    vtep::OVS_PROGRAMS,
    world::{Family, Pod},
};

/// The variable that switches it on: gigabytes over all tests.
const SWITCH: &str = "TAPSWITCH_SOAK_GB";

pub(crate) fn trials(env: &Env) -> Vec<Trial> {
    let port = VtepSpec::DEFAULT_PORT;
    let over_v6 = |cell| Cell {
        family: Family::V6,
        ..cell
    };
    let between_nics = |cell| Cell {
        underlay_offload: false,
        ..cell
    };
    let kernel = Cell::against_kernel(0, port);
    let ours = Cell::against_ours(0, port);
    let plain = Cell {
        vtep_offload: false,
        port_offload: false,
        ..ours
    };
    let cells = [
        ("soak_with_the_kernel", kernel),
        ("soak_with_the_kernel_over_ipv6", over_v6(kernel)),
        ("soak_with_the_kernel_between_nics", between_nics(kernel)),
        ("soak_with_another_tapswitch", ours),
        ("soak_with_another_tapswitch_over_ipv6", over_v6(ours)),
        (
            "soak_with_another_tapswitch_between_nics",
            between_nics(ours),
        ),
        ("soak_without_offloads_here", plain),
        ("soak_with_open_vswitch", Cell::against_ovs(0, port)),
    ];
    let share = env::var(SWITCH)
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    let count = cells.len() as u64;
    cells
        .into_iter()
        .map(|(name, cell)| {
            let Some(gigabytes) = share else {
                return Trial::ignorable_test(name, || {
                    Ok(Completion::ignored_with(format!(
                        "set {SWITCH}=10 to run it"
                    )))
                });
            };
            let programs: &[&str] = match cell.other {
                Other::OpenVSwitch { .. } => OVS_PROGRAMS,
                _ => &["ethtool"],
            };
            let bytes = gigabytes * 1_000_000_000 / count;
            env.trial_with(programs, name, move || soak(name, cell, bytes))
        })
        .collect()
}

fn soak(name: &str, cell: Cell, bytes: u64) {
    with_pair(cell, |pair| {
        pair.resolve();
        let start = clock::now();
        let (stop, stopped) = mpsc::channel::<()>();
        thread::scope(|scope| {
            if !matches!(cell.other, Other::OpenVSwitch { .. }) {
                scope.spawn(move || switch_offloads(pair.pods, &stopped));
            }
            // Dropped however this ends.
            let _stop = stop;
            for address in [0, 1] {
                // Per mille: half of it over IPv4, half over IPv6.
                for (part, mss) in [
                    (420, None),
                    (40, Some(536)),
                    (30, Some(1000)),
                    (10, Some(88)),
                ] {
                    let len = bytes / 1000 * part / 2;
                    pair.stream_both_ways(address, len, mss);
                }
            }
        });
        let seconds = clock::now().since(start).as_secs_f64();
        pair.assert_clean();
        eprintln!("{name}: {bytes} bytes in {seconds:.1} s");
    });
}

/// Every now and then the pods finish their frames themselves, or leave it to others again, where
/// their device can do that.
fn switch_offloads(pods: &[Pod; 2], stopped: &mpsc::Receiver<()>) {
    const FEATURES: [&str; 5] = [
        "tso off gso off",
        "tx off",
        "tx on tso on gso on",
        "tso off",
        "tso on",
    ];
    for (features, pod) in FEATURES
        .iter()
        .flat_map(|it| [it; 2])
        .cycle()
        .zip(pods.iter().cycle())
    {
        let words = ["ethtool", "-K", "eth0"].into_iter();
        let words: Vec<&str> = words.chain(features.split_whitespace()).collect();
        pod.netns.exec(&words);
        if stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

const PAUSE: Duration = Duration::from_millis(100);
