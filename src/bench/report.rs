//! Everything that a run has found, as `--json` prints it. The keys are stable.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    case::Place,
    machine::Machine,
    stats::{Better, Ratio, Verdict},
};

/// One run of `tapswitch bench`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// How it measured.
    pub settings: Settings,
    /// Whether the machine had other things to do.
    pub noise: Noise,
    /// What was compared. All ratios are with the first.
    pub systems: Vec<SystemInfo>,
    /// What could not be built.
    pub unavailable: Vec<Missing>,
    /// The figures, in the order of [`super::CASES`], first of one node and then of the overlay.
    pub results: Vec<CaseResult>,
}

/// How a run measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// How often each system met each case.
    pub rounds: usize,
    /// How long each measurement counted.
    pub seconds: f64,
    /// How long the load ran before that.
    pub warm_up_seconds: f64,
}

/// What the machine did beside the measurements.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Noise {
    /// The part of all CPU time that others used before anything was built, in percent.
    pub busy_before_percent: f64,
    /// The same at worst with everything built and nothing measured.
    pub busy_idle_percent: f64,
    /// The part of all CPU time that the hypervisor gave to other machines, in the worst case.
    pub steal_percent: f64,
    /// Why the figures mean little; empty: they mean something.
    pub reasons: Vec<String>,
}

/// One system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemInfo {
    /// What the results call it.
    pub name: String,
    /// What its program says.
    pub version: Option<String>,
    /// Whether it is an error if it does not work: another's program may have its limits.
    pub is_required: bool,
}

/// A system that was not measured somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Which.
    pub system: String,
    /// Where.
    pub place: Place,
    /// In which cases.
    pub cases: Vec<&'static str>,
    /// It is there, and should have worked.
    pub is_installed: bool,
    /// Why.
    pub reason: String,
}

/// What came out of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// Where the pods were.
    pub place: Place,
    /// What the command line calls it.
    pub case: &'static str,
    /// What tables call it.
    pub title: &'static str,
    /// Its figures, over all rounds.
    pub figures: Vec<FigureResult>,
    /// What happened in each round, for each system in the order of [`Report::systems`].
    pub systems: Vec<Rounds>,
}

/// One figure of a case.
#[derive(Clone, Debug, Serialize)]
pub struct FigureResult {
    /// Its key.
    pub key: &'static str,
    /// What to add to the case's title.
    pub title: &'static str,
    /// Its unit; empty if it has none.
    pub unit: &'static str,
    /// Which values are good.
    pub better: Better,
    /// What each system reached, in the order of [`Report::systems`].
    pub systems: Vec<Compared>,
}

/// One figure of one system.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Which system.
    pub system: String,
    /// The figure of the middle round; null: it was never measured.
    pub median: Option<f64>,
    /// The smallest.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// In how many rounds both it and the first system were measured.
    pub rounds: usize,
    /// How many times as good as the first system; null for that one itself.
    pub ratio: Option<Ratio>,
    /// What the ratio shows.
    pub verdict: Option<Verdict>,
}

/// The rounds of one system in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Rounds {
    /// Which system.
    pub system: String,
    /// In order; empty: it was not measured here.
    pub rounds: Vec<Round>,
}

/// One measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Round {
    /// Why it failed; then all figures are null.
    pub error: Option<String>,
    /// The figures by their keys.
    pub figures: BTreeMap<&'static str, f64>,
    /// How many CPUs were busy on average, the load's processes included.
    pub busy_cpus: Option<f64>,
    /// The part of all CPU time that the hypervisor gave to other machines.
    pub steal_percent: Option<f64>,
    /// CPU time of the whole machine for 10^9 bytes that were delivered.
    pub cpu_seconds_per_gb: Option<f64>,
    /// CPU time of the whole machine for 10^6 packets that were delivered.
    pub cpu_seconds_per_mpkt: Option<f64>,
    /// CPU time of the switch's own processes, warm-up included.
    pub switch_cpu_seconds: Option<f64>,
    /// System calls of the switch for each frame that it received, superframes counted once.
    pub syscalls_per_frame: Option<f64>,
    /// Frames that were lost, by place, warm-up included.
    pub lost: BTreeMap<String, u64>,
    /// What else the load's processes counted.
    pub detail: Map<String, Value>,
}

impl Report {
    /// What went wrong with systems that have to work.
    pub fn failures(&self) -> Vec<String> {
        let required = |name: &str| {
            let mut systems = self.systems.iter();
            systems.any(|system| system.name == name && system.is_required)
        };
        let missing = self.unavailable.iter();
        let missing = missing.filter(|missing| missing.is_installed && required(&missing.system));
        let rounds = self.results.iter().flat_map(|result| {
            let systems = result.systems.iter();
            let systems = systems.filter(|of| required(&of.system));
            systems.filter_map(|of| of.failure(result))
        });
        missing.map(Missing::sentence).chain(rounds).collect()
    }
}

impl Missing {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        let (place, cases) = (self.place.title(), self.cases.join(", "));
        format!("{}, {place} ({cases}): {}", self.system, self.reason)
    }
}

impl Rounds {
    /// How many rounds failed, and why the first one did.
    pub(super) fn failure(&self, result: &CaseResult) -> Option<String> {
        let errors = self.rounds.iter().filter_map(|round| round.error.as_ref());
        let errors: Vec<_> = errors.collect();
        let (first, place) = (errors.first()?, result.place.title());
        let (failed, all) = (errors.len(), self.rounds.len());
        let (system, case) = (&self.system, result.case);
        Some(format!(
            "{system}, {place}, {case}: {failed} of {all} rounds failed: {first}"
        ))
    }

    /// The median of what `of` finds in each round.
    pub(super) fn median(&self, of: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        super::stats::summary(&values).map(|summary| summary.median)
    }
}
