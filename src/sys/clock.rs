//! The only clock of the frame path.

use std::{os::unix::thread::JoinHandleExt, thread::JoinHandle, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::time::Timestamp;

/// The monotonic time since boot. It stands still while the machine is suspended, so that no
/// forwarding entry expires during a sleep.
///
/// # Panics
/// Never: `CLOCK_MONOTONIC` exists on every Linux and the address is ours.
#[inline]
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC always exists");
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Timestamp::from_nanos(part(time.tv_sec()) * 1_000_000_000 + part(time.tv_nsec()))
}

/// Seconds since 1970, for people and logs; never for the frame path, since it may jump.
pub fn unix_time() -> f64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one reading of the wall clock"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The CPU time that a thread has used, in user space and in the kernel; `None` if it has ended.
pub fn cpu_time_of<T>(thread: &JoinHandle<T>) -> Option<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the thread has been neither joined nor detached, since its handle is here, so its
    // pthread_t is valid even if it has ended; the kernel writes one clockid_t, which is ours.
    let error = unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) };
    if error != 0 {
        return None;
    }
    let time = clock_gettime(ClockId::from_raw(clock)).ok()?;
    Some(time.into())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, TryRecvError};

    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
        assert!(last > Timestamp::ZERO);
    }

    #[test]
    fn a_thread_that_works_uses_cpu_time_and_one_that_has_ended_tells_none() {
        let (go, wait) = mpsc::channel::<()>();
        let worker = std::thread::spawn(move || {
            // Works until it is let go, however little of a CPU it gets.
            while wait.try_recv() == Err(TryRecvError::Empty) {}
        });
        let start = now();
        while cpu_time_of(&worker).unwrap() < Duration::from_millis(5) {
            assert!(now().since(start) < Duration::from_secs(10));
            std::thread::yield_now();
        }

        drop(go);
        while !worker.is_finished() {
            std::thread::yield_now();
        }
        while cpu_time_of(&worker).is_some() {
            assert!(now().since(start) < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }
}
