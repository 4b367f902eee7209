//! Builds, measures in turn, and puts together what was found.

use std::{thread, time::Duration};

use super::{
    case::{Case, Place, Site, Taught},
    machine::{CpuTimes, Machine, Usage, set_congestion, version},
    measure::measure,
    report::{
        CaseResult, Compared, FigureResult, Missing, Noise, Report, Round, Rounds, Settings,
        SystemInfo,
    },
    stats::{Better, ratio, summary, verdict},
    systems::names,
    topology::{self, Shape, System, Unavailable},
};
/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to compare; the first is what the others are compared with.
    pub systems: Vec<System>,
    /// The cases and where, in the order of the report.
    pub cases: Vec<(&'static Case, Place)>,
    /// The congestion control of TCP; `None`: the system's.
    pub congestion: Option<String>,
    /// How often each system meets each case.
    pub rounds: usize,
    /// How long each measurement counts.
    pub window: Duration,
    /// How long the load runs before that.
    pub warm_up: Duration,
}

/// Above this the hypervisor takes too much, in percent of all CPU time.
pub(super) const MAX_STEAL: f64 = 2.0;
/// Above this others do too much, in percent of all CPU time.
const MAX_BUSY: f64 = 5.0;
/// After so many failures in a row the other rounds would fail too.
const PATIENCE: usize = 2;

/// Measures everything, and tells `progress` in a line what it does.
pub(super) fn run(plan: &Plan, progress: &mut dyn FnMut(&str)) -> Report {
    let names = names(&plan.systems);
    progress("waiting for a quiet machine");
    let before = idle(plan.window);
    let infos = names
        .iter()
        .zip(&plan.systems)
        .map(|(name, system)| SystemInfo {
            name: name.clone(),
            version: version(system),
            is_required: !matches!(system, System::OpenVswitch { .. } | System::Vde),
        });
    let mut runner = Runner {
        plan,
        report: Report {
            machine: Machine::this(plan.congestion.as_deref()),
            settings: Settings {
                rounds: plan.rounds,
                seconds: plan.window.as_secs_f64(),
                warm_up_seconds: plan.warm_up.as_secs_f64(),
            },
            noise: Noise {
                busy_before_percent: 100.0 * before.busy,
                steal_percent: 100.0 * before.steal,
                ..Noise::default()
            },
            systems: infos.collect(),
            unavailable: Vec::new(),
            results: Vec::new(),
        },
        names,
        progress,
        tag: 0,
    };
    for (shape, members) in groups(plan) {
        runner.group(shape, &members);
    }
    runner.finish()
}

/// Cases that need the same, and can share what is built.
fn groups(plan: &Plan) -> Vec<(Shape, Vec<(&'static Case, Place)>)> {
    let mut groups: Vec<(Shape, Vec<_>)> = Vec::new();
    for &(case, place) in &plan.cases {
        let Some(shape) = case.shape(place) else {
            continue;
        };
        match groups.iter_mut().find(|(other, _)| *other == shape) {
            Some((_, members)) => members.push((case, place)),
            None => groups.push((shape, vec![(case, place)])),
        }
    }
    groups
}

/// What the machine does when it should do nothing.
fn idle(window: Duration) -> Usage {
    let before = CpuTimes::now();
    thread::sleep(window.clamp(Duration::from_millis(500), Duration::from_secs(1)));
    CpuTimes::now().since(before)
}

struct Runner<'a> {
    plan: &'a Plan,
    names: Vec<String>,
    report: Report,
    progress: &'a mut dyn FnMut(&str),
    /// Grows with each measurement, so that none counts the packets of another.
    tag: u32,
}

impl Runner<'_> {
    /// Builds every system once, and measures the cases that need that.
    fn group(&mut self, shape: Shape, members: &[(&'static Case, Place)]) {
        let mut sites: Vec<Option<Site>> = Vec::new();
        for (index, system) in self.plan.systems.iter().enumerate() {
            (self.progress)(&format!(
                "building {} with {} pods",
                self.names[index], shape.pods
            ));
            match build(system, shape, self.plan.congestion.as_deref()) {
                Ok(site) => sites.push(Some(site)),
                Err(reason) => {
                    sites.push(None);
                    self.missing(index, members, &reason);
                }
            }
        }
        let usage = idle(Duration::ZERO);
        let noise = &mut self.report.noise;
        noise.busy_idle_percent = noise.busy_idle_percent.max(100.0 * usage.busy);
        for &(case, place) in members {
            let result = self.case(case, place, &mut sites);
            self.report.results.push(result);
        }
    }

    fn missing(&mut self, index: usize, members: &[(&'static Case, Place)], reason: &Unavailable) {
        let place = members.first().map_or(Place::OneNode, |&(_, place)| place);
        let cases = members.iter().map(|(case, _)| case.id);
        let missing = Missing {
            system: self.names[index].clone(),
            place,
            cases: Vec::new(),
            is_installed: matches!(reason, Unavailable::Failed(_)),
            reason: reason.to_string(),
        };
        // The same for the same reason in other shapes is said once.
        let all = &mut self.report.unavailable;
        let is_same = |other: &&mut Missing| {
            (&other.system, other.place, &other.reason) == (&missing.system, place, &missing.reason)
        };
        match all.iter_mut().find(is_same) {
            Some(same) => same.cases.extend(cases),
            None => all.push(Missing {
                cases: cases.collect(),
                ..missing
            }),
        }
    }

    fn case(
        &mut self,
        case: &'static Case,
        place: Place,
        sites: &mut [Option<Site>],
    ) -> CaseResult {
        let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); sites.len()];
        for round in 0..self.plan.rounds {
            let mut order: Vec<usize> = (0..sites.len()).collect();
            // Back and forth, so that none is always the one after a hungry neighbour.
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let Some(site) = &mut sites[index] else {
                    continue;
                };
                if is_hopeless(&rounds[index]) {
                    continue;
                }
                let so_far = self.so_far(case, &rounds);
                (self.progress)(&format!(
                    "{}, {}, {}/{}: {}{so_far}",
                    place.title(),
                    case.title,
                    round + 1,
                    self.plan.rounds,
                    self.names[index],
                ));
                self.tag += 1;
                let measured = measure(case, site, self.plan, self.tag);
                rounds[index].push(measured.unwrap_or_else(|error| Round {
                    error: Some(error),
                    ..Round::default()
                }));
            }
        }
        let figures = case.figures().iter();
        let systems = self.names.iter().zip(rounds).map(|(name, rounds)| Rounds {
            system: name.clone(),
            rounds,
        });
        let systems: Vec<_> = systems.collect();
        CaseResult {
            place,
            case: case.id,
            title: case.title,
            figures: figures
                .map(|figure| FigureResult {
                    key: figure.key,
                    title: figure.title,
                    unit: figure.unit,
                    better: figure.better,
                    systems: compare(figure.key, figure.better, &systems),
                })
                .collect(),
            systems,
        }
    }

    /// The medians of the first figure until now.
    fn so_far(&self, case: &Case, rounds: &[Vec<Round>]) -> String {
        let Some(figure) = case.figures().first() else {
            return String::new();
        };
        let medians = self.names.iter().zip(rounds).filter_map(|(name, rounds)| {
            let values: Vec<f64> = rounds
                .iter()
                .filter_map(|round| round.figures.get(figure.key).copied())
                .collect();
            let median = summary(&values)?.median;
            Some(format!("{name} {}", super::table::number(median)))
        });
        let medians: Vec<_> = medians.collect();
        match medians.is_empty() {
            true => String::new(),
            false => format!(" ({} {})", medians.join(", "), figure.unit),
        }
    }

    /// Judges, now that all noise is known, and sorts the results.
    fn finish(mut self) -> Report {
        let order = |result: &CaseResult| {
            let mut cases = self.plan.cases.iter();
            cases.position(|(case, place)| case.id == result.case && *place == result.place)
        };
        self.report.results.sort_by_key(order);
        let report = &mut self.report;
        let stolen = report.results.iter().map(steal_of);
        report.noise.steal_percent = stolen.fold(report.noise.steal_percent, f64::max);
        report.noise.reasons = reasons(&report.noise);
        let is_busy = report.noise.busy_before_percent > MAX_BUSY;
        for result in &mut report.results {
            let is_noisy = is_busy || steal_of(result) > MAX_STEAL;
            for compared in result
                .figures
                .iter_mut()
                .flat_map(|figure| &mut figure.systems)
            {
                let judge = |ratio| verdict(ratio, compared.rounds, is_noisy);
                compared.verdict = compared.ratio.map(judge);
            }
        }
        self.report
    }
}

fn build(system: &System, shape: Shape, congestion: Option<&str>) -> Result<Site, Unavailable> {
    if let Some(reason) = impossible(system, shape) {
        // As little of a failure as a program that is not there.
        return Err(Unavailable::NotInstalled(reason.to_owned()));
    }
    let topology = topology::build(system, shape)?;
    if let Some(congestion) = congestion {
        for pod in topology.pods() {
            let set = pod.netns.run_in(|| set_congestion(congestion));
            set.map_err(Unavailable::failed)?
                .map_err(Unavailable::Failed)?;
        }
    }
    Ok(Site {
        topology,
        taught: Taught::default(),
    })
}

/// Why `system` can never be what `shape` asks for.
fn impossible(system: &System, shape: Shape) -> Option<&'static str> {
    match system {
        System::Vde if shape.overlay => Some("it has no overlay"),
        System::Program { .. } if shape.pods != 2 => Some("a program joins two pods only"),
        _ => None,
    }
}

fn is_hopeless(rounds: &[Round]) -> bool {
    let last = rounds.iter().rev().take(PATIENCE);
    last.filter(|round| round.error.is_some()).count() == PATIENCE
}

/// What each system reached, and how that compares with the first.
fn compare(key: &str, better: Better, systems: &[Rounds]) -> Vec<Compared> {
    let values = |of: &Rounds| -> Vec<Option<f64>> {
        let rounds = of.rounds.iter();
        rounds
            .map(|round| round.figures.get(key).copied())
            .collect()
    };
    let baseline = systems.first().map(values).unwrap_or_default();
    let compare = |(index, of): (usize, &Rounds)| {
        let own = values(of);
        let present: Vec<f64> = own.iter().copied().flatten().collect();
        let summary = summary(&present);
        let ratio = (index > 0)
            .then(|| ratio(better, &baseline, &own))
            .flatten();
        Compared {
            system: of.system.clone(),
            median: summary.map(|summary| summary.median),
            min: summary.map(|summary| summary.min),
            max: summary.map(|summary| summary.max),
            rounds: ratio.map_or(0, |(_, rounds)| rounds),
            ratio: ratio.map(|(ratio, _)| ratio),
            verdict: None,
        }
    };
    systems.iter().enumerate().map(compare).collect()
}

/// What the hypervisor took over all rounds of a case, in percent. In a single short round one tick
/// of its clock would already be too much.
fn steal_of(result: &CaseResult) -> f64 {
    let rounds = result.systems.iter().flat_map(|of| &of.rounds);
    let stolen: Vec<f64> = rounds.filter_map(|round| round.steal_percent).collect();
    mean(&stolen)
}

fn reasons(noise: &Noise) -> Vec<String> {
    let mut reasons = Vec::new();
    if noise.busy_before_percent > MAX_BUSY {
        reasons.push(format!(
            "others used {:.0} % of all CPU time before the start",
            noise.busy_before_percent
        ));
    }
    // What was there before is not said twice.
    if noise.busy_idle_percent > MAX_BUSY + noise.busy_before_percent {
        reasons.push(format!(
            "{:.0} % of all CPU time went to systems that had nothing to do",
            noise.busy_idle_percent
        ));
    }
    if noise.steal_percent > MAX_STEAL {
        reasons.push(format!(
            "the hypervisor gave up to {:.0} % of a case's CPU time to other machines",
            noise.steal_percent
        ));
    }
    reasons
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / (values.len() as f64).max(1.0)
}
