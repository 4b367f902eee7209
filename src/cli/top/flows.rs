//! Flows as rows: the flight recorder's answer, and how fast each flow grows. Pure.

use std::collections::{HashMap, HashSet};

use super::{
    model::{Model, Sort},
    rows::{descending, is_wanted},
};
use crate::{
    cli::{output::plain, rates::Rate},
    control::api::{WhyEntry, WhyFate, WhyReport},
};

/// What the recorders told, and what they had told before.
#[derive(Clone, Debug, Default)]
pub(super) struct Flows {
    /// The switch was asked, and answered.
    pub(super) is_known: bool,
    /// Flows that the recorders had no room for.
    pub(super) crowded_out: u64,
    flows: Vec<Flow>,
    /// When it was told, in seconds of the wall clock, and the counts then.
    told: f64,
    counts: HashMap<Key, (u64, u64)>,
}

/// Frames of one kind that came in at one place and had one fate.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) words: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) is_lost: bool,
    pub(super) frames: u64,
    pub(super) rate: Rate,
}

/// What stays the same of an entry while it counts.
type Key = (String, String, bool, String, u64);

impl Flows {
    /// Takes note of an answer that came at `now`.
    pub(super) fn look(&mut self, report: &WhyReport, now: f64) {
        let seconds = now - self.told;
        let mut counts = HashMap::new();
        let mut flows = Vec::new();
        let mut met = HashSet::new();
        // The newest last: what is told twice of one flow is told best there.
        for entry in report.entries.iter().rev() {
            let flow = Flow::of(entry);
            let first = entry.first.to_bits();
            let key: Key = (
                flow.from.clone(),
                flow.to.clone(),
                flow.is_lost,
                format!("{:?} {:?} {}", entry.src, entry.dst, entry.vlan),
                first,
            );
            if !met.insert(key.clone()) {
                continue;
            }
            // A flow that was not there before has all its frames from now on.
            let (frames, bytes) = self.counts.get(&key).copied().unwrap_or_default();
            let is_compared = self.is_known && seconds > 0.0;
            let rate = if is_compared {
                let a_second = |new: u64, old: u64| {
                    #[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
                    let grown = new.saturating_sub(old) as f64;
                    grown / seconds
                };
                Rate {
                    frames: a_second(entry.count, frames),
                    bits: 8.0 * a_second(entry.bytes, bytes),
                }
            } else {
                Rate::default()
            };
            counts.insert(key, (entry.count, entry.bytes));
            flows.push(Flow { rate, ..flow });
        }
        *self = Self {
            is_known: true,
            crowded_out: report.crowded_out,
            flows,
            told: now,
            counts,
        };
    }
}

impl Flow {
    fn of(entry: &WhyEntry) -> Self {
        let port = entry.from_port.as_ref().map(ToString::to_string);
        let from = port.or_else(|| entry.from_remote.as_deref().map(plain));
        let reason = || entry.reason.as_deref().map(plain).unwrap_or_default();
        let to = match entry.fate {
            WhyFate::Forwarded => plain(&entry.to.join(", ")),
            WhyFate::Flooded => format!("all ({})", entry.copies),
            WhyFate::Dropped | WhyFate::Lost => reason(),
        };
        Self {
            words: plain(&entry.frame),
            from: from.unwrap_or_default(),
            to,
            is_lost: matches!(entry.fate, WhyFate::Dropped | WhyFate::Lost),
            frames: entry.count,
            rate: Rate::default(),
        }
    }
}

/// The flows that are wanted, in the order that is wanted.
pub(super) fn flows(model: &Model) -> Vec<&Flow> {
    let known = model.shown();
    let wanted = |flow: &&Flow| {
        [&flow.words, &flow.from, &flow.to]
            .iter()
            .any(|text| is_wanted(text, &model.filter))
    };
    let mut flows: Vec<_> = known.flows.flows.iter().filter(wanted).collect();
    flows.sort_by(|a, b| {
        let by_frames = || descending(a.rate.frames, b.rate.frames);
        let by_bits = || descending(a.rate.bits, b.rate.bits);
        match model.sort {
            Sort::Bits => by_bits().then_with(by_frames),
            Sort::Frames => by_frames().then_with(by_bits),
            Sort::Drops => b.is_lost.cmp(&a.is_lost).then_with(by_frames),
            Sort::Name => a.words.cmp(&b.words),
        }
        .then_with(|| b.frames.cmp(&a.frames))
    });
    flows
}
