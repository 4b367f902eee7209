//! The way into a world of its own for a lesson: namespaces that the machine sees nothing of, and
//! that the kernel clears away with the first process in them, however that ends.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{self, Command},
};

use crate::sys::{
    cause_text,
    child::spawn_bound,
    userns::{furnish_world, unshare_world},
};

/// Where the process is after [`enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Inside: go on.
    Inside,
    /// Outside, where all is over: the program has run again inside, and ended with this code.
    Outside(u8),
}

/// Runs the program again, with the same arguments, inside a world of its own; or says that this is
/// it. Must be called before the process has started threads.
///
/// The program that runs again has `variables` in its environment.
///
/// A signal that ends the outer process, also SIGKILL, ends everything inside.
///
/// # Errors
/// Why there can be no such world here, and what to do.
pub fn enter(variables: &[(&'static str, String)]) -> Result<Entered, String> {
    if env::var_os(MARK).is_some() && process::id() == 1 {
        return match furnish_world() {
            Ok(()) => Ok(Entered::Inside),
            Err(error) => Err(error.to_string()),
        };
    }
    unshare_world().map_err(|error| error.to_string())?;
    let mut command = Command::new("/proc/self/exe");
    command.args(env::args_os().skip(1)).env(MARK, "1");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let failed = |cause| {
        let cause = cause_text(&cause);
        format!("run myself again in namespaces of my own: {cause}; see ulimit -u")
    };
    let status = spawn_bound(&mut command)
        .and_then(|mut child| child.wait())
        .map_err(failed)?;
    let by_signal = || status.signal().map_or(1, |signal| 128 + signal);
    let code = status.code().unwrap_or_else(by_signal);
    Ok(Entered::Outside(u8::try_from(code).unwrap_or(1)))
}

const MARK: &str = "TAPSWITCH_LAB_INSIDE";
