//! Where a worker runs: on a CPU of its own, or wherever there is room.
//!
//! A worker that moves about leaves its caches behind, and one that only bridges is best off where it
//! is. One that also sends and receives datagrams shares its CPU with half of the kernel's network
//! stack, and with the other nodes where several share a machine, each with a first worker.

use super::options::Pin;
use crate::sys::affinity;

/// The place of one worker.
#[derive(Debug)]
pub(super) struct Place {
    pin: Pin,
    /// The CPUs that the process may use.
    all: Vec<usize>,
    /// The one of them that is the worker's.
    own: Option<usize>,
    is_held: bool,
}

impl Place {
    /// Worker number `index` of `count` gets the CPU of that number among those that it may use.
    pub(super) fn new(pin: Pin, index: usize, count: usize) -> Self {
        let all = affinity::allowed().unwrap_or_else(|error| {
            tracing::warn!("find the CPUs for worker {index}: {error}; it may move about");
            Vec::new()
        });
        // With fewer CPUs than workers none is better off held.
        let own = all.get(index).filter(|_| all.len() >= count).copied();
        Self {
            pin,
            all,
            own,
            is_held: false,
        }
    }

    /// Holds the calling thread on its CPU, or lets it go, as the switch has an endpoint or not.
    pub(super) fn settle(&mut self, has_endpoint: bool) {
        let Some(own) = self.own else {
            return;
        };
        let holds = match self.pin {
            Pin::Auto => !has_endpoint,
            Pin::Always => true,
            Pin::Never => false,
        };
        if holds == self.is_held {
            return;
        }
        self.is_held = holds;
        let settled = match holds {
            true => affinity::hold_on(own),
            false => affinity::allow(&self.all),
        };
        if let Err(error) = settled {
            tracing::warn!(
                "keep a worker on CPU {own}, or let it go: {error}; it runs where it may"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// The CPUs that a thread may use with and without an endpoint, and then with one again.
    fn cpus(pin: Pin, index: usize, count: usize) -> [Vec<usize>; 3] {
        let thread = thread::spawn(move || {
            let mut place = Place::new(pin, index, count);
            [true, false, true].map(|has_endpoint| {
                place.settle(has_endpoint);
                affinity::allowed().unwrap()
            })
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_worker_has_a_cpu_of_its_own_while_there_is_no_endpoint() {
        let all = affinity::allowed().unwrap();
        let last = all.len() - 1;
        let own = vec![all[last]];

        let seen = cpus(Pin::Auto, last, all.len());

        assert_eq!(seen, [all.clone(), own.clone(), all.clone()]);
        assert_eq!(
            cpus(Pin::Always, last, all.len()),
            [(); 3].map(|()| own.clone())
        );
        assert_eq!(
            cpus(Pin::Never, last, all.len()),
            [(); 3].map(|()| all.clone())
        );
    }

    #[test]
    fn workers_that_are_more_than_the_cpus_move_about() {
        let all = affinity::allowed().unwrap();
        let seen = cpus(Pin::Always, 0, all.len() + 1);
        assert_eq!(seen, [(); 3].map(|()| all.clone()));
    }
}
