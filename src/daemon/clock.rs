//! The daemon's clock: the monotonic one, which tests may push forward.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{sys::clock, time::Timestamp};

/// Monotonic time, and how far it has been pushed. Clones share the push.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead_ns: Arc<AtomicU64>,
}

impl Clock {
    /// The present time.
    pub fn now(&self) -> Timestamp {
        clock::now() + Duration::from_nanos(self.ahead_ns.load(Ordering::Relaxed))
    }

    /// Pushes the clock forward, so that a test of ageing need not wait.
    pub fn warp(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let _before = self.ahead_ns.fetch_add(by, Ordering::Relaxed);
    }
}
