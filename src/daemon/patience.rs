//! How long a worker looks for more before it sleeps.
//!
//! Waking a sleeper on another CPU is the dearest thing that a sender's packet can do: the sender
//! itself sends the interrupt, and in a virtual machine that takes microseconds. So a worker goes on
//! looking for a while. The while follows the traffic, as the kernel's guest halt polling does
//! (`drivers/cpuidle/governors/haltpoll.c`): it grows when frames come just after the worker has
//! fallen asleep, and shrinks to nothing when they come so seldom that looking would be in vain.

use std::time::Duration;

use crate::time::{Timestamp, nanos};

/// One worker's patience.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    most: u64,
    window: u64,
    /// When there was work last.
    worked_at: Timestamp,
}

impl Patience {
    /// It never looks for longer than `most`; zero: never.
    pub(super) fn new(most: Duration) -> Self {
        Self {
            most: nanos(most),
            window: 0,
            worked_at: Timestamp::ZERO,
        }
    }

    /// Whether it has none, so that nobody need look at the clock.
    pub(super) fn is_none(&self) -> bool {
        self.window == 0
    }

    /// Whether it is worth while to look on, instead of sleeping.
    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        now.nanos_since(self.worked_at) < self.window
    }

    /// There was work at `now`, after the worker had slept or not.
    pub(super) fn worked(&mut self, now: Timestamp) {
        let gap = now.nanos_since(self.worked_at);
        self.worked_at = now;
        if gap < self.window {
            return;
        }
        self.window = if gap <= self.most {
            // A longer look would have found it.
            (2 * self.window)
                .max(LEAST.max(gap + gap / 4))
                .min(self.most)
        } else if self.window > LEAST {
            self.window / 2
        } else {
            0
        };
    }
}

/// Shorter looks find nothing: another CPU's answer takes longer.
const LEAST: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_nanos(1_000_000_000 + 1000 * micros)
    }

    fn patience() -> Patience {
        Patience::new(Duration::from_micros(200))
    }

    #[test]
    fn who_is_often_woken_just_after_falling_asleep_looks_for_longer() {
        let mut patience = patience();
        patience.worked(at(0));
        assert!(!patience.lasts(at(0)), "nobody knows yet that more comes");

        patience.worked(at(90));

        assert!(patience.lasts(at(90 + 95)));
        assert!(!patience.lasts(at(90 + 201)), "never longer than the limit");
    }

    #[test]
    fn patience_ends_when_frames_are_rare() {
        let mut patience = patience();
        for burst in 0..4 {
            patience.worked(at(50 * burst));
        }
        assert!(!patience.is_none());

        for second in 1..8 {
            patience.worked(at(1_000_000 * second));
        }

        assert!(patience.is_none());
        assert!(!patience.lasts(at(7_000_000)));
    }

    #[test]
    fn a_limit_of_zero_means_sleeping_at_once() {
        let mut patience = Patience::new(Duration::ZERO);
        for frame in 0..100 {
            patience.worked(at(frame));
            assert!(!patience.lasts(at(frame)));
        }
    }
}
