//! So many frames a second and no more, for readers who want to see a switch at work and not all of
//! its frames.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Form, Place};
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

    /// Takes so many for one frame, if one is left.
    fn take(&self, now: Timestamp, is_rare: bool, cost: u64) -> bool {
        let latest = self.latest(now, is_rare);
        self.advance(now, cost, |due| due <= latest)
    }

    /// Takes so many more for a frame that was chosen, left or not.
    pub(super) fn pay(&self, now: Timestamp, more: u64) {
        let _: bool = self.advance(now, more, |_| true);
    }

    fn advance(&self, now: Timestamp, cost: u64, may: impl Fn(u64) -> bool) -> bool {
        let add = |due: u64| {
            let spent = cost.saturating_mul(self.interval);
            may(due).then(|| due.max(now.as_nanos()).saturating_add(spent))
        };
        // Relaxed: it orders nothing.
        let order = Ordering::Relaxed;
        self.due.fetch_update(order, order, add).is_ok()
    }

    fn has_room(&self, now: Timestamp, is_rare: bool) -> bool {
        self.due.load(Ordering::Relaxed) <= self.latest(now, is_rare)
    }

    /// How far ahead of a steady stream a frame may be. Those of a flow that was captured a moment ago
    /// may only have half of what may come at once, so that a flood of it leaves room for what is
    /// rare.
    fn latest(&self, now: Timestamp, is_rare: bool) -> u64 {
        let burst = if is_rare { self.burst } else { self.burst / 2 };
        // So that the copies of the last one fit too, unless they are many.
        let ahead = burst.saturating_sub(1 + self.burst / 4);
        now.as_nanos().saturating_add(ahead * self.interval)
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

    /// Takes so many from `limit` for a frame of flow number `flow`, if one is left.
    pub(super) fn take(&mut self, limit: &Limit, now: Timestamp, flow: usize, cost: u64) -> bool {
        let is_taken = limit.take(now, self.is_rare(now, flow), cost);
        if is_taken && let Some(last) = self.0.get_mut(flow % Self::COUNT) {
            *last = Some(now);
        }
        is_taken
    }

    /// Whether one is left. In a flood this is all that is done, so nothing is written.
    #[inline]
    pub(super) fn have_room(&self, limit: &Limit, now: Timestamp, flow: usize) -> bool {
        limit.has_room(now, self.is_rare(now, flow))
    }

    fn is_rare(&self, now: Timestamp, flow: usize) -> bool {
        let last = self.0.get(flow % Self::COUNT).copied().flatten();
        last.is_none_or(|last| now.nanos_since(last) >= RARE)
    }
}

/// A number for the frames between two stations that come in at one place and have the same protocol:
/// a hash, so that others may have it too.
#[inline]
pub(super) fn flow(place: Place, frame: &[u8]) -> usize {
    let Some((ethernet, rest)) = frame.split_first_chunk::<14>() else {
        return 0;
    };
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = *ethernet;
    let is_v6 = m == 0x86;
    let protocol = rest.get(if is_v6 { 6 } else { 9 }).copied().unwrap_or(0);
    let dst_and_more = u64::from_le_bytes([a, b, c, d, e, f, m, n]);
    let src_and_more = u64::from_le_bytes([g, h, i, j, k, l, protocol, 0]);
    // Multiplied by something odd: a few cycles, and nothing to gain for whoever finds two that meet.
    let mixed = dst_and_more ^ src_and_more.rotate_left(23) ^ super::lanes::key(place, Form::Inner);
    usize::from(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0])
}

const SECOND: u64 = 1_000_000_000;
/// A flow of which nothing was captured for so long, in nanoseconds, is rare.
const RARE: u64 = SECOND / 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// When records are made of frames that are offered `every` so many nanoseconds for three seconds,
    /// where each makes `cost`.
    fn taken(rate: u32, every: u64, cost: u64) -> Vec<u64> {
        let limit = Limit::new(rate);
        let mut flows = Flows::new();
        let times = (0..3 * SECOND / every).map(|n| n * every);
        let is_taken = |at: &u64| flows.take(&limit, Timestamp::from_nanos(*at), 7, cost);
        let frames: Vec<u64> = times.filter(is_taken).collect();
        let records = frames.iter().flat_map(|at| (0..cost).map(|_| *at));
        records.collect()
    }

    #[test]
    fn no_second_of_a_flood_has_more_frames_than_were_asked_for() {
        for (rate, cost) in [
            (1, 1),
            (2, 1),
            (3, 1),
            (7, 1),
            (100, 1),
            (100, 2),
            (100, 5),
            (100, 13),
            (5000, 3),
        ] {
            let taken = taken(rate, 20_000, cost);
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
    fn a_frame_with_more_copies_than_may_come_at_once_is_paid_for_afterwards() {
        let (rate, cost) = (100, 60);
        let frames = taken(rate, 20_000, cost).len() as u64 / cost;
        assert!(
            (2..=3 * u64::from(rate) / cost).contains(&frames),
            "{frames}"
        );
    }

    #[test]
    fn a_stream_that_is_slow_enough_is_captured_in_full() {
        assert_eq!(taken(100, SECOND / 50, 1).len(), 150);
        assert_eq!(taken(100, SECOND / 20, 2).len(), 120);
        assert_eq!(taken(2, SECOND, 1).len(), 3);
    }

    #[test]
    fn a_flood_leaves_room_for_what_is_rare() {
        let limit = Limit::new(100);
        let mut flows = Flows::new();
        let mut pings = 0;
        for micros in 0..3_000_000 {
            let now = Timestamp::from_nanos(micros * 1000);
            let _: bool = flows.take(&limit, now, 7, 2);
            if micros % 250_000 == 0 {
                pings += usize::from(flows.take(&limit, now, 8, 2));
            }
        }
        assert_eq!(pings, 12);
    }
}
