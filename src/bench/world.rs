//! A world of its own for everything that is built: the machine sees nothing of it, and the kernel
//! cleans up with the last process in it.

use crate::sys::{Tap, TapOptions, userns::enter_private_namespaces};

/// Enters it. Must be called before the process has started threads.
///
/// # Errors
/// What is not possible here, and what to do.
pub(super) fn enter() -> Result<(), String> {
    enter_private_namespaces().map_err(|error| error.to_string())?;
    // Here, and not after some systems have been built.
    let tap = Tap::create(&TapOptions::default());
    tap.map(drop).map_err(|error| error.to_string())
}
