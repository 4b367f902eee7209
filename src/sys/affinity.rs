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
    allow(&[cpu])
}

/// Lets the calling thread run on these CPUs, and no others.
///
/// # Errors
/// `EINVAL` if it may run on none of them.
pub fn allow(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(THIS_THREAD, &set)?)
}

const THIS_THREAD: Pid = Pid::from_raw(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_held_may_run_nowhere_else_until_it_is_let_go() {
        let held = std::thread::spawn(|| {
            let all = allowed().unwrap();
            hold_on(all[0]).unwrap();
            assert_eq!(allowed().unwrap(), [all[0]]);
            allow(&all).unwrap();
            assert_eq!(allowed().unwrap(), all);
        });
        held.join().unwrap();
    }
}
