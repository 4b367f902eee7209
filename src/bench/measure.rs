//! One measurement of one system.

use std::{collections::BTreeMap, time::Duration};

use super::{
    case::{Case, Outcome, Site, Work},
    load::{Window, sleep_until},
    machine::{CpuTimes, Usage},
    report::Round,
    run::Plan,
    topology::Counts,
};
use crate::sys::clock;

/// From the order to the start: all processes must have read it.
const LEAD: Duration = Duration::from_millis(40);

/// Measures `case` at `site` once. `tag` differs from that of all others.
pub(super) fn measure(
    case: &Case,
    site: &mut Site,
    plan: &Plan,
    tag: u32,
) -> Result<Round, String> {
    let mut ready = case.prepare(site, tag)?;
    let before = site.topology.counts();
    let start = clock::now() + LEAD;
    let from = start + plan.warm_up;
    let window = Window {
        start,
        from,
        until: from + plan.window,
    };
    ready.crew.start(window)?;
    sleep_until(window.from);
    let cpu_before = CpuTimes::now();
    sleep_until(window.until);
    let usage = CpuTimes::now().since(cpu_before);
    let outcome = ready.finish(window)?;
    let mut after = site.topology.counts();
    if case.has_strange_addresses() {
        // The stack of the receiving pod throws them away and counts that.
        after.lost.remove("pod_rx");
    }
    Ok(round(case, outcome, usage, plan.window, &before, &after))
}

fn round(
    case: &Case,
    outcome: Outcome,
    usage: Usage,
    window: Duration,
    before: &Counts,
    after: &Counts,
) -> Round {
    let keys = case.figures().iter().map(|figure| figure.key);
    let (mut per_gb, mut per_mpkt) = (None, None);
    match outcome.work {
        Work::Bytes(bytes) => per_gb = Some(usage.busy_s / (real(bytes) * 1e-9)),
        Work::Packets(packets) => per_mpkt = Some(usage.busy_s / (real(packets) * 1e-6)),
        Work::Nothing => {}
    }
    let grown = |of: fn(&Counts) -> Option<u64>| {
        let (before, after) = (of(before)?, of(after)?);
        Some(real(after.saturating_sub(before)))
    };
    let frames = grown(|counts| counts.frames).filter(|&frames| frames > 0.0);
    let syscalls = grown(|counts| counts.syscalls);
    Round {
        error: None,
        figures: keys.zip(outcome.figures).collect(),
        busy_cpus: Some(usage.busy_s / window.as_secs_f64()),
        steal_percent: Some(100.0 * usage.steal),
        cpu_seconds_per_gb: per_gb,
        cpu_seconds_per_mpkt: per_mpkt,
        switch_cpu_seconds: grown(|counts| counts.cpu_ns).map(|nanos| nanos * 1e-9),
        syscalls_per_frame: syscalls.zip(frames).map(|(calls, frames)| calls / frames),
        lost: lost(before, after),
        detail: outcome.detail,
    }
}

fn lost(before: &Counts, after: &Counts) -> BTreeMap<String, u64> {
    let grown = after.lost.iter().map(|(place, &count)| {
        let before = before.lost.get(place).copied().unwrap_or(0);
        (place.clone(), count.saturating_sub(before))
    });
    grown.filter(|&(_, count)| count > 0).collect()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn real(count: u64) -> f64 {
    count as f64
}
