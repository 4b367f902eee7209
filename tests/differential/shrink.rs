//! From a run that failed to the few steps that suffice.

use std::io;

use crate::{
    generator,
    kernel::Kernel,
    runner::{Pair, Stop, Switch},
};

/// The report of the shortest run found that ends in a mismatch as well; `None` if the steps
/// shortly before `last` do not reproduce it. Tries at most `replays` runs.
pub(crate) fn shrink<S: Switch>(
    seed: u64,
    last: u64,
    mut replays: usize,
    make: impl Fn() -> io::Result<S>,
) -> Option<(usize, String)> {
    let mut replay = |steps: &[u64]| {
        replays = replays.checked_sub(1)?;
        fails(seed, steps, &make)
    };
    // Windows that grow from the end, since most failures need little history.
    let windows = (0..).map(|n| 20 * 5_u64.pow(n)).take(5);
    let (mut steps, mut report) = windows
        .map(|width| (last.saturating_sub(width)..=last).collect::<Vec<_>>())
        .find_map(|steps| Some((replay(&steps)?, steps)))
        .map(|(report, steps)| (steps, report))?;
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut start = 0;
        while start < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(start..(start + size).min(steps.len()));
            match replay(&fewer) {
                Some(text) => (steps, report) = (fewer, text),
                None => start += size,
            }
        }
        size /= 2;
    }
    Some((steps.len(), report))
}

fn fails<S: Switch>(seed: u64, steps: &[u64], make: &impl Fn() -> io::Result<S>) -> Option<String> {
    let mut pair = Pair::new(Kernel::new().ok()?, make().ok()?, 1);
    for &step in steps {
        match pair.step(step, generator::op(seed, step)) {
            Ok(()) => {}
            Err(Stop::Mismatch(report)) => return Some(report),
            Err(Stop::Broken(_)) => return None,
        }
    }
    None
}
