//! When a worker lets frames come together before it looks again.
//!
//! A worker that keeps up with a flood of small frames reads few of them at a time, so there is
//! little to join, and each frame costs everyone more: the sender, which finds the queue's memory in
//! another CPU's cache, the kernel, and the receiver. Network cards know this and hold back their
//! interrupts (interrupt moderation, NAPI). A worker that is busy in this way rests between rounds.
//! It never does while frames are few, or while there are superframes, which are many frames already.
//! Of those it moves some in a row before it looks elsewhere, so that what the receiver answers comes
//! together.

use std::time::Duration;

use crate::{datapath::Serviced, time::Timestamp};

/// One worker's moderation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moderation {
    is_on: bool,
    /// Small frames in [`SPAN`] nanoseconds, smoothed over some rounds.
    rate: u64,
    worked_at: Timestamp,
}

/// What a round of a worker moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) frames: usize,
    pub(super) bytes: usize,
}

impl Moderation {
    pub(super) fn new(is_on: bool) -> Self {
        Self {
            is_on,
            rate: 0,
            worked_at: Timestamp::ZERO,
        }
    }

    /// For how long to rest after the round that began at `now`, if at all.
    pub(super) fn rest(&mut self, now: Timestamp, work: Work) -> Option<Duration> {
        let since = now.nanos_since(self.worked_at).max(1);
        self.worked_at = now;
        if work.bytes > work.frames.saturating_mul(SMALL) {
            self.rate = 0;
            return None;
        }
        let frames = u64::try_from(work.frames).unwrap_or(0);
        self.rate = (self.rate * (ROUNDS - 1) + frames * SPAN / since) / ROUNDS;
        let is_busy = self.rate > MANY && (1..FEW).contains(&work.frames);
        (self.is_on && is_busy).then_some(REST)
    }
}

/// One source's turn: a batch from `service`, added to `work`, or some superframes in a row.
pub(super) fn turn(
    is_on: bool,
    work: &mut Work,
    mut service: impl FnMut() -> Serviced,
) -> Serviced {
    let most = if is_on { IN_A_ROW } else { 1 };
    let mut taken = 0;
    loop {
        let serviced = service();
        work.frames += serviced.frames;
        work.bytes += serviced.bytes;
        taken += 1;
        if !(serviced.superframe && serviced.more && taken < most) {
            return serviced;
        }
    }
}

/// Superframes that one source may have moved before it is the next one's turn. One takes some 30 us
/// through the tunnel: a source that is busy keeps each other one waiting for a quarter of a
/// millisecond.
const IN_A_ROW: u32 = 8;
/// A millisecond.
const SPAN: u64 = 1_000_000;
/// Frames in that span from which on each rest gathers some.
const MANY: u64 = 150;
/// Rounds over which the rate is smoothed.
const ROUNDS: u64 = 16;
/// A round with fewer frames is not worth its system calls.
const FEW: usize = 16;
/// Frames that are longer on average are joined already.
const SMALL: usize = 2048;
/// About as long as a timer takes anyway: the kernel adds up to 50 us (`timerslack_ns`). At the rate
/// of [`MANY`] it gathers a dozen frames, and a TAP's queue holds many more.
const REST: Duration = Duration::from_micros(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of `rounds` equal rounds after which there was a rest, in percent.
    fn rests(is_on: bool, gap_micros: u64, work: Work) -> u64 {
        let mut moderation = Moderation::new(is_on);
        let rounds = 1000;
        let rested = (1..=rounds).filter(|round| {
            let now = Timestamp::from_nanos(1_000 * gap_micros * round);
            moderation.rest(now, work).is_some()
        });
        100 * rested.count() as u64 / rounds
    }

    const SMALL_FRAMES: Work = Work {
        frames: 3,
        bytes: 180,
    };

    #[test]
    fn a_flood_of_small_frames_in_small_batches_is_moderated_unless_it_is_off() {
        assert!(rests(true, 6, SMALL_FRAMES) > 90);
        assert_eq!(rests(false, 6, SMALL_FRAMES), 0);
    }

    #[test]
    fn a_question_and_its_answer_are_never_kept_waiting() {
        let one = Work {
            frames: 1,
            bytes: 60,
        };
        assert_eq!(rests(true, 15, one), 0);
    }

    #[test]
    fn full_batches_and_superframes_are_moved_at_once() {
        let full = Work {
            frames: 64,
            bytes: 64 * 60,
        };
        let long = Work {
            frames: 2,
            bytes: 60_000,
        };
        assert_eq!(rests(true, 60, full), 0);
        assert_eq!(rests(true, 5, long), 0);
    }

    /// How many batches of `kind` a source that never runs dry may have moved in a turn.
    fn batches(is_on: bool, kind: Serviced) -> usize {
        let mut batches = 0;
        let mut work = Work::default();
        let last = turn(is_on, &mut work, || {
            batches += 1;
            kind
        });
        assert_eq!(last, kind);
        assert_eq!(work.frames, batches * kind.frames);
        assert_eq!(work.bytes, batches * kind.bytes);
        batches
    }

    #[test]
    fn superframes_are_moved_in_a_row_but_not_for_ever() {
        let superframe = Serviced {
            frames: 1,
            bytes: 65_000,
            more: true,
            superframe: true,
            gone: false,
        };
        assert_eq!(batches(true, superframe), 8);
        assert_eq!(batches(false, superframe), 1);
        let last = Serviced {
            more: false,
            ..superframe
        };
        assert_eq!(batches(true, last), 1);
    }

    #[test]
    fn small_frames_are_moved_one_batch_at_a_time() {
        let small = Serviced {
            frames: 64,
            bytes: 64 * 60,
            more: true,
            superframe: false,
            gone: false,
        };
        assert_eq!(batches(true, small), 1);
    }
}
