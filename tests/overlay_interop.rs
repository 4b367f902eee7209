//! The overlay between real machines, each a network namespace: tapswitch at one end, and
//! tapswitch, the kernel's vxlan device or Open vSwitch at the other.
//!
//! Needs root or unprivileged user namespaces, `/dev/net/tun`, `ip`, `bridge`, `ethtool` and `ping`;
//! what needs Open vSwitch is ignored without it, and what cannot run here is ignored with the reason.
//!
//! `TAPSWITCH_SOAK_GB=10` sends that much through TCP and compares every byte:
//! `TAPSWITCH_SOAK_GB=10 cargo test --release --test overlay_interop -- soak`

mod common;
#[path = "overlay_interop/matrix.rs"]
mod matrix;
#[path = "overlay_interop/segments.rs"]
mod segments;
#[path = "overlay_interop/soak.rs"]
mod soak;
#[path = "overlay_interop/traffic.rs"]
mod traffic;
#[path = "overlay_interop/vtep.rs"]
mod vtep;
#[path = "overlay_interop/world.rs"]
mod world;

use std::process::ExitCode;

use common::Env;

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let mut trials = matrix::trials(env);
        trials.extend(segments::trials(env));
        trials.extend(soak::trials(env));
        trials
    })
}
