//! The last events, for all browsers together: so many, and so many bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::Bytes;
use tokio::sync::watch;

/// The events that a slow browser can still have. Nobody waits for it: what it does not take in time
/// is gone, and it is told how many events that were.
#[derive(Debug)]
pub(super) struct Ring {
    kept: Arc<Mutex<Kept>>,
    /// The number behind the last event.
    end: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Bytes>,
    /// The number of the first.
    start: u64,
    bytes: usize,
}

/// One browser's place in the ring.
#[derive(Debug)]
pub(super) struct Reader {
    kept: Arc<Mutex<Kept>>,
    end: watch::Receiver<u64>,
    next: u64,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Event(Bytes),
    /// So many events are gone.
    Missed(u64),
    /// No more will come.
    End,
}

impl Ring {
    /// Events that are kept.
    const EVENTS: usize = 256;
    /// Their bytes, but that the last event is always there. A whole state of 2,000 FDB rows has some
    /// 400 KiB.
    const BYTES: usize = 8 << 20;

    pub(super) fn new() -> Self {
        Self {
            kept: Arc::default(),
            end: watch::Sender::new(0),
        }
    }

    /// Everything from now on.
    pub(super) fn read(&self) -> Reader {
        let end = self.end.subscribe();
        let next = *end.borrow();
        Reader {
            kept: Arc::clone(&self.kept),
            end,
            next,
        }
    }

    /// One event more.
    pub(super) fn push(&self, event: Bytes) {
        let end = {
            let mut kept = lock(&self.kept);
            kept.bytes += event.len();
            kept.events.push_back(event);
            while kept.events.len() > Self::EVENTS
                || kept.bytes > Self::BYTES && kept.events.len() > 1
            {
                kept.forget();
            }
            kept.end()
        };
        let _ = self.end.send_replace(end);
    }

    /// Forgets all events: nobody reads.
    pub(super) fn clear(&self) {
        let mut kept = lock(&self.kept);
        while !kept.events.is_empty() {
            kept.forget();
        }
    }
}

impl Kept {
    fn forget(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.len();
            self.start += 1;
        }
    }

    fn end(&self) -> u64 {
        self.start + self.events.len() as u64
    }
}

impl Reader {
    /// The next event. To be dropped while it waits costs nothing.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            if let Some(next) = self.now() {
                return next;
            }
            if self.end.changed().await.is_err() {
                return Next::End;
            }
        }
    }

    fn now(&mut self) -> Option<Next> {
        let kept = lock(&self.kept);
        let missed = kept.start.saturating_sub(self.next);
        if missed > 0 {
            self.next = kept.start;
            return Some(Next::Missed(missed));
        }
        let index = usize::try_from(self.next - kept.start).ok()?;
        let event = kept.events.get(index)?.clone();
        self.next += 1;
        Some(Next::Event(event))
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // Nothing panics between two changes.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(len: usize) -> Bytes {
        vec![b'x'; len].into()
    }

    #[tokio::test]
    async fn large_events_are_kept_by_their_bytes_and_the_others_said_to_be_missed() {
        let ring = Ring::new();
        let mut reader = ring.read();
        let (large, count) = (1 << 20, 100);
        for _ in 0..count {
            ring.push(event(large));
            assert!(lock(&ring.kept).bytes <= Ring::BYTES);
        }
        let kept = Ring::BYTES / large;
        assert_eq!(reader.next().await, Next::Missed(count - kept as u64));
        for _ in 0..kept {
            assert_eq!(reader.next().await, Next::Event(event(large)));
        }
        assert_eq!(reader.now(), None);
    }

    #[tokio::test]
    async fn an_event_that_is_larger_than_all_room_is_told_all_the_same() {
        let ring = Ring::new();
        let mut reader = ring.read();
        ring.push(event(1));
        ring.push(event(Ring::BYTES + 1));
        assert_eq!(reader.next().await, Next::Missed(1));
        assert_eq!(reader.next().await, Next::Event(event(Ring::BYTES + 1)));
        ring.push(event(2));
        assert_eq!(reader.next().await, Next::Event(event(2)));
        assert_eq!(lock(&ring.kept).bytes, 2);
    }

    #[tokio::test]
    async fn who_comes_later_reads_from_there_and_what_nobody_reads_is_not_kept() {
        let ring = Ring::new();
        ring.push(event(1));
        let mut reader = ring.read();
        ring.push(event(2));
        assert_eq!(reader.next().await, Next::Event(event(2)));
        ring.clear();
        assert_eq!(lock(&ring.kept).bytes, 0);
        let mut later = ring.read();
        ring.push(event(3));
        for reader in [&mut reader, &mut later] {
            assert_eq!(reader.next().await, Next::Event(event(3)));
        }
        drop(ring);
        assert_eq!(reader.next().await, Next::End);
    }
}
