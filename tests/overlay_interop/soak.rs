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
    matrix::{Cell, Other, Pair, with_pair},
    vtep::OVS_PROGRAMS,
    world::{Family, ethtool},
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
        .and_then(|text| text.parse::<f64>().ok());
    let count = cells.len();
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
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whoever asks for more waits for ever anyway"
            )]
            let bytes = (gigabytes * 1e9 / count as f64) as u64;
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
                scope.spawn(move || switch_offloads(pair, &stopped));
            }
            // Dropped however this ends.
            let _stop = stop;
            for address in [0, 1] {
                for (part, mss) in [
                    (0.42, None),
                    (0.04, Some(536)),
                    (0.03, Some(1000)),
                    (0.01, Some(88)),
                ] {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        clippy::cast_precision_loss,
                        reason = "roughly that many"
                    )]
                    let len = (bytes as f64 * part / 2.0) as u64;
                    pair.stream_both_ways(address, len, mss);
                }
            }
        });
        let seconds = clock::now().since(start).as_secs_f64();
        pair.assert_clean();
        eprintln!("{name}: {bytes} bytes in {seconds:.1} s");
    });
}

/// Every now and then the pods and the underlay finish their frames themselves, or leave it to
/// others again.
fn switch_offloads(pair: &Pair<'_>, stopped: &mpsc::Receiver<()>) {
    let devices = [(&pair.pods[0].netns, "eth0"), (&pair.pods[1].netns, "eth0")];
    for count in 0_usize.. {
        let (netns, device) = devices[count % 2];
        let features = [
            "tso off gso off",
            "tx off",
            "tx on tso on gso on",
            "tso off",
            "tso on",
        ];
        ethtool(netns, device, features[count / 2 % 5]);
        if stopped.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}
