//! So many frames a second and no more, for readers who want to see a switch at work and not all of
//! its frames.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Form, Place, Side};
use crate::time::Timestamp;

/// How many frames all workers together may still capture: the generic cell rate algorithm (ITU-T
/// I.371, Annex A), which needs one number.
///
/// Half of the frames of a second may come at once, and the other half spread over it. So a short
/// exchange is captured in full, and no second has more than were asked for.
#[derive(Debug)]
pub(super) struct Limit {
    /// Between two frames of a steady stream, in nanoseconds.
    interval: u64,
    /// How many may come at once.
    burst: u64,
    /// When the next frame of a steady stream would be due, in nanoseconds.
    due: AtomicU64,
}

impl Limit {
    /// At most `rate` in any second.
    pub(super) fn new(rate: u32) -> Self {
        let rate = u64::from(rate.max(1));
        Self {
            interval: (2 * SECOND).div_ceil(rate),
            burst: (rate / 2).max(1),
            due: AtomicU64::new(0),
        }
    }

    /// Takes one, if one is left. The others of a flow that was captured a moment ago may only have
    /// every second one, so that a flood of it leaves room for what is rare.
    fn take(&self, now: Timestamp, is_rare: bool) -> bool {
        let burst = if is_rare {
            self.burst
        } else {
            (self.burst / 2).max(1)
        };
        let latest = now.as_nanos().saturating_add((burst - 1) * self.interval);
        let take = |due: u64| (due <= latest).then(|| due.max(now.as_nanos()) + self.interval);
        // Relaxed: it orders nothing. In a flood it is only read.
        let order = Ordering::Relaxed;
        self.due.fetch_update(order, order, take).is_ok()
    }
}

/// What one worker remembers of the flows of which it has captured something.
#[derive(Debug)]
pub(super) struct Flows([Option<Timestamp>; Self::COUNT]);

impl Flows {
    const COUNT: usize = 256;

    pub(super) fn new() -> Self {
        Self([None; Self::COUNT])
    }

    /// Takes one from `limit` for a frame of flow number `flow`, if one is left.
    pub(super) fn take(&mut self, limit: &Limit, now: Timestamp, flow: usize) -> bool {
        let Some(last) = self.0.get_mut(flow % Self::COUNT) else {
            return false;
        };
        let is_rare = last.is_none_or(|last| now.nanos_since(last) >= RARE);
        let taken = limit.take(now, is_rare);
        if taken {
            *last = Some(now);
        }
        taken
    }
}

/// A number for the frames between two stations at one place that have the same protocol: a hash, so
/// that others may have it too. `head` is the beginning of what is captured, without outer headers.
pub(super) fn flow((place, side, form): (Place, Side, Form), head: &[u8]) -> usize {
    let frame = match form {
        Form::Inner => head,
        Form::Outer => head.get(crate::vxlan::HEADER_LEN..).unwrap_or_default(),
    };
    let is_v6 = frame.get(12) == Some(&0x86);
    let protocol = frame.get(if is_v6 { 20 } else { 23 });
    let what = frame.get(..14).unwrap_or(frame).iter().chain(protocol);
    // FNV-1a: a few bytes, and nothing to gain for whoever finds two that meet.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = what.fold(0xcbf2_9ce4_8422_2325, mix);
    let hash = mix(hash, &u8::from(side == Side::Out));
    let folded = hash ^ hash >> 32 ^ super::lanes::key(place, form) << 4;
    usize::try_from(folded & 0xffff).unwrap_or(0)
}

const SECOND: u64 = 1_000_000_000;
/// A flow of which nothing was captured for so long, in nanoseconds, is rare.
const RARE: u64 = SECOND / 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// When frames are taken from one that offers `every` so many nanoseconds for three seconds.
    fn taken(rate: u32, every: u64) -> Vec<u64> {
        let limit = Limit::new(rate);
        let mut flows = Flows::new();
        let times = (0..3 * SECOND / every).map(|n| n * every);
        let is_taken = |at: &u64| flows.take(&limit, Timestamp::from_nanos(*at), 7);
        times.filter(is_taken).collect()
    }

    #[test]
    fn no_second_of_a_flood_has_more_frames_than_were_asked_for() {
        for rate in [1, 2, 3, 7, 100, 5000] {
            let taken = taken(rate, 20_000);
            for (index, start) in taken.iter().enumerate() {
                let within = taken[index..].iter().filter(|at| **at - start < SECOND);
                let count = within.count();
                assert!(count <= rate as usize, "rate {rate}, at {start}: {count}");
            }
            let least = rate as usize;
            assert!(taken.len() >= least, "rate {rate}: {} only", taken.len());
        }
    }

    #[test]
    fn a_stream_that_is_slow_enough_is_captured_in_full() {
        assert_eq!(taken(100, SECOND / 50).len(), 150);
        assert_eq!(taken(2, SECOND).len(), 3);
    }

    #[test]
    fn a_flood_leaves_room_for_what_is_rare() {
        let limit = Limit::new(100);
        let mut flows = Flows::new();
        let mut pings = 0;
        for micros in 0..3_000_000 {
            let now = Timestamp::from_nanos(micros * 1000);
            let _: bool = flows.take(&limit, now, 7);
            if micros % 250_000 == 0 {
                pings += usize::from(flows.take(&limit, now, 8));
            }
        }
        assert_eq!(pings, 12);
    }
}
