//! The only clock of the frame path.

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

#[cfg(test)]
mod tests {
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
}
