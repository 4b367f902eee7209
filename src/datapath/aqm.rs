//! Active queue management (RFC 7567) for what leaves through the tunnel.
//!
//! TCP fills whatever queue it finds, and behind a TAP nothing tells it to stop: the kernel's limit
//! of bytes in its own queues (`tcp_small_queue_check`) ends where the TAP takes a packet over. So a
//! sender that is faster than the tunnel keeps its whole send buffer waiting here, megabytes, and
//! every byte has left all caches when its turn comes. A queue that has not been empty for
//! milliseconds is no burst but a standing queue (RFC 8289 §3): one superframe gets a congestion mark,
//! or is lost if its sender does not know of marks, and the sender halves what it keeps waiting.
//! Only superframes of TCP, which are bulk by definition, and repaired.

use crate::{bridge::PortId, time::Timestamp};

/// How long the queue of each port has been standing.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) is_on: bool,
    queues: Vec<Queue>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    /// Since when there was always more, if there was.
    since: Option<Timestamp>,
    /// When its senders were told last.
    told_at: Option<Timestamp>,
}

impl Standing {
    pub(super) fn new() -> Self {
        Self {
            is_on: true,
            queues: vec![Queue::default(); PortId::LIMIT],
        }
    }

    /// Frames of `port` were read, and there may be `more`.
    #[inline]
    pub(super) fn read(&mut self, now: Timestamp, port: PortId, more: bool) {
        if let Some(queue) = self.queues.get_mut(port.index()) {
            queue.since = more.then(|| queue.since.unwrap_or(now));
        }
    }

    /// Whether a sender behind `port` is to be told now that it sends too much.
    pub(super) fn is_due(&mut self, now: Timestamp, port: PortId) -> bool {
        let Some(queue) = self.queues.get_mut(port.index()).filter(|_| self.is_on) else {
            return false;
        };
        let longer_than = |at: Timestamp, nanos| now.nanos_since(at) > nanos;
        let stands = queue
            .since
            .is_some_and(|since| longer_than(since, PATIENCE));
        let is_due = stands && queue.told_at.is_none_or(|at| longer_than(at, INTERVAL));
        if is_due {
            queue.told_at = Some(now);
        }
        is_due
    }
}

/// Longer than the tunnel takes for any burst that a sender makes of itself (`tcp_tso_autosize`).
const PATIENCE: u64 = 2_000_000;
/// Between one loss and the next: a sender needs a round trip to notice.
const INTERVAL: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// At how many of `rounds` readings of 100 us each it is due, if every `gap`th finds the queue
    /// empty.
    fn told(is_on: bool, rounds: u64, gap: u64) -> usize {
        let mut standing = Standing::new();
        standing.is_on = is_on;
        let port = PortId::new(3).unwrap();
        let is_due = |round: &u64| {
            let now = Timestamp::from_nanos(1_000_000_000 + 100_000 * round);
            standing.read(now, port, !round.is_multiple_of(gap));
            standing.is_due(now, port)
        };
        (1..=rounds).filter(is_due).count()
    }

    #[test]
    fn a_queue_that_stands_is_told_of_once_in_a_while_and_one_that_empties_never() {
        for (is_on, rounds, gap, expected) in [
            (true, 1000, 20, 0),
            (true, 20, 1_000_000, 0),
            (true, 30, 1_000_000, 1),
            (true, 1000, 1_000_000, 10),
            (true, 1000, 500, 10),
            (false, 1000, 1_000_000, 0),
        ] {
            assert_eq!(told(is_on, rounds, gap), expected, "{is_on} {rounds} {gap}");
        }
    }

    #[test]
    fn the_first_frame_after_a_silence_is_no_standing_queue() {
        let mut standing = Standing::new();
        let port = PortId::new(0).unwrap();
        standing.read(Timestamp::from_secs(1), port, false);
        let now = Timestamp::from_secs(60);
        standing.read(now, port, true);
        assert!(!standing.is_due(now, port));
    }
}
