//! `tapswitch doctor` in real namespaces: faults are injected, and each must be named as the most
//! likely cause; the command that is printed with it must repair it; and a network without fault
//! must get no warning.

mod common;
#[path = "doctor/faults.rs"]
mod faults;
#[path = "doctor/lab.rs"]
mod lab;
#[path = "doctor/overlay.rs"]
mod overlay;
#[path = "doctor/well.rs"]
mod well;
#[allow(dead_code, reason = "it is another test's, and this one uses its part")]
#[path = "overlay_life/world.rs"]
mod world;

use std::process::ExitCode;

use common::Env;

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let mut trials = well::trials(env);
        trials.extend(faults::trials(env));
        trials.extend(overlay::trials(env));
        trials
    })
}
