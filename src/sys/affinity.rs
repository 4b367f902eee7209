//! On which CPUs a thread may run.

use std::io;

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The CPUs on which the calling thread may run, in order.
///
/// # Errors
/// None that a running kernel can cause.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(THIS_THREAD)?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// Keeps the calling thread on `cpu`.
///
/// # Errors
/// `EINVAL` if it may not run there.
pub fn hold_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(THIS_THREAD, &set)?)
}

const THIS_THREAD: Pid = Pid::from_raw(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_held_may_run_nowhere_else() {
        let held = std::thread::spawn(|| {
            let first = allowed().unwrap()[0];
            hold_on(first).unwrap();
            (allowed().unwrap(), first)
        });
        let (now, first) = held.join().unwrap();
        assert_eq!(now, [first]);
    }
}
