//! A world of its own for everything that is built: the machine sees nothing of it, and the kernel
//! cleans up with the last process in it.

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::sys::{
    Tap, TapOptions,
    userns::{Mounts, enter_user_namespace},
};

/// Enters a mount and a network namespace, inside a user namespace for an ordinary user, with an
/// empty `/run`. Must be called before the process has started threads.
///
/// # Errors
/// What is not possible here, and what to do.
pub(super) fn enter() -> Result<(), String> {
    let both = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    if unshare(both).is_err() {
        enter_user_namespace(Mounts::Private).map_err(|error| error.to_string())?;
    }
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none)
        .and_then(|()| mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none))
        .map_err(|errno| {
            let cause = errno.desc().to_lowercase();
            format!("mount tmpfs on /run: {cause}; run as root, outside of a container")
        })?;
    // Here, and not after some systems have been built.
    let tap = Tap::create(&TapOptions::default());
    tap.map(drop).map_err(|error| error.to_string())
}
