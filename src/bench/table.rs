//! A report as people read it.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::{
    case::Place,
    report::{CaseResult, Compared, FigureResult, Report, Rounds},
    run::MAX_STEAL,
    stats::Verdict,
};

/// Writes `report` for people.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    header(out, report)?;
    for place in Place::ALL {
        let results = report.results.iter().filter(|result| result.place == place);
        let results: Vec<_> = results.collect();
        if !results.is_empty() {
            writeln!(out, "\n{}", place.title())?;
            table(out, report, &results)?;
        }
    }
    for place in Place::ALL {
        let results = report.results.iter().filter(|result| result.place == place);
        let lines: Vec<_> = results.flat_map(losses).collect();
        if !lines.is_empty() {
            writeln!(
                out,
                "\nlost on the way, {}, warm-up included:",
                place.title()
            )?;
            lines
                .iter()
                .try_for_each(|line| writeln!(out, "  {line}"))?;
        }
    }
    notes(out, report)
}

fn header(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let machine = &report.machine;
    let settings = &report.settings;
    writeln!(
        out,
        "tapswitch {}, {}, Linux {}",
        machine.tapswitch, machine.date, machine.kernel
    )?;
    let kind = if machine.is_virtual { ", virtual" } else { "" };
    writeln!(
        out,
        "{} x {}{kind}; mitigations {}; TCP: {}",
        machine.cpus, machine.cpu, machine.mitigations, machine.congestion
    )?;
    writeln!(
        out,
        "{} rounds of {} s after {} s, in turn",
        settings.rounds, settings.seconds, settings.warm_up_seconds
    )?;
    let versions = report.systems.iter().filter_map(|system| {
        let version = system.version.as_ref()?;
        Some(format!("{}: {version}", system.name))
    });
    for version in versions {
        writeln!(out, "{version}")?;
    }
    Ok(())
}

fn table(out: &mut impl Write, report: &Report, results: &[&CaseResult]) -> io::Result<()> {
    let baseline = report.systems.first().map_or("", |system| &system.name);
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "CASE".to_owned(),
        "SYSTEM".to_owned(),
        "MEDIAN".to_owned(),
        String::new(),
        "RANGE".to_owned(),
        format!("x {}", baseline.to_uppercase()),
        "95 % CI".to_owned(),
        String::new(),
        "CPU".to_owned(),
        "CALLS".to_owned(),
    ]);
    for result in results {
        for (number, figure) in result.figures.iter().enumerate() {
            for (compared, rounds) in figure.systems.iter().zip(&result.systems) {
                // CPU time is that of the case, and stands beside its first figure.
                let costs = (number == 0).then_some(rounds);
                table.add_row(row(result, figure, compared, costs));
            }
        }
    }
    for column in [2, 5, 8, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
        .lines()
        .try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}

fn row(
    result: &CaseResult,
    figure: &FigureResult,
    compared: &Compared,
    costs: Option<&Rounds>,
) -> Vec<String> {
    let is_first = figure
        .systems
        .first()
        .is_some_and(|first| first.system == compared.system);
    let dash = || "-".to_owned();
    let title = match is_first {
        true => format!("{}{}", result.title, figure.title),
        false => String::new(),
    };
    let range = compared.min.zip(compared.max);
    let ratio = compared.ratio;
    let cpu = costs.and_then(|rounds| {
        let per_gb = rounds.median(|round| round.cpu_seconds_per_gb);
        let per_mpkt = rounds.median(|round| round.cpu_seconds_per_mpkt);
        per_gb
            .map(|value| format!("{} s/GB", number(value)))
            .or_else(|| per_mpkt.map(|value| format!("{} s/Mpkt", number(value))))
    });
    let calls = costs.and_then(|rounds| rounds.median(|round| round.syscalls_per_frame));
    vec![
        title,
        compared.system.clone(),
        compared.median.map_or_else(dash, number),
        compared
            .median
            .map_or_else(String::new, |_| figure.unit.to_owned()),
        range.map_or_else(dash, |(min, max)| {
            format!("{}..{}", number(min), number(max))
        }),
        match (is_first, ratio) {
            (true, _) => "1".to_owned(),
            (false, ratio) => ratio.map_or_else(dash, |ratio| format!("{:.2}", ratio.value)),
        },
        ratio.map_or_else(String::new, |ratio| {
            format!("{:.2}..{:.2}", ratio.low, ratio.high)
        }),
        compared.verdict.map_or("", word).to_owned(),
        cpu.unwrap_or_default(),
        calls.map_or_else(String::new, number),
    ]
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::NoDifferenceShown => "no difference shown",
        Verdict::TooNoisy => "! too noisy",
        Verdict::TooFewRounds => "! too few rounds",
    }
}

/// `value` with three or four digits.
pub(super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// A line for each system that lost something in a case.
fn losses(result: &CaseResult) -> Vec<String> {
    result
        .systems
        .iter()
        .filter_map(|of| {
            let parts: Vec<_> = [shortfall(of), places(of), flooded(of)]
                .into_iter()
                .flatten()
                .collect();
            let words = parts.join("; ");
            (!parts.is_empty()).then(|| format!("{}, {}: {words}", result.title, of.system))
        })
        .collect()
}

/// How much of what was sent did not arrive. A sender that is faster than the switch is the point of
/// a case, so this is no error.
fn shortfall(of: &Rounds) -> Option<String> {
    let (sent, received) = (sum(of, "sent")?, sum(of, "received")?);
    let percent = 100.0 * (1.0 - received / sent);
    (percent >= 0.1).then(|| format!("{percent:.1} % of what was sent"))
}

fn places(of: &Rounds) -> Option<String> {
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    for (place, count) in of.rounds.iter().flat_map(|round| &round.lost) {
        *places.entry(place).or_default() += count;
    }
    let words = places
        .iter()
        .map(|(place, count)| format!("{place} {count}"));
    let words: Vec<_> = words.collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Frames to known addresses must not go anywhere else.
fn flooded(of: &Rounds) -> Option<String> {
    let (sent, flooded) = (sum(of, "sent")?, sum(of, "flooded")?);
    let percent = 100.0 * flooded / sent;
    (percent >= 0.1).then(|| format!("{percent:.1} % were flooded: it forgot their addresses"))
}

fn sum(of: &Rounds, key: &str) -> Option<f64> {
    let counts = of
        .rounds
        .iter()
        .filter_map(|round| round.detail.get(key)?.as_f64());
    let counts: Vec<f64> = counts.collect();
    let sum: f64 = counts.iter().sum();
    (sum > 0.0 || key == "flooded" && !counts.is_empty()).then_some(sum)
}

/// With fewer the range itself holds the true median with less than 95 % confidence: 1 - 2/2^n.
const ENOUGH_ROUNDS: usize = 6;

fn notes(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let baseline = report.systems.first().map_or("", |system| &system.name);
    writeln!(
        out,
        "\nx {}: how many times as good; above 1 is better, also for times. CPU: of the whole \
         machine, for what was delivered.",
        baseline.to_uppercase()
    )?;
    writeln!(
        out,
        "CALLS: system calls of the switch for a frame it received."
    )?;
    if report.settings.rounds < ENOUGH_ROUNDS {
        writeln!(
            out,
            "With so few rounds the interval is hardly more than the range: {ENOUGH_ROUNDS} or more \
             to conclude."
        )?;
    }
    for missing in &report.unavailable {
        writeln!(out, "not measured: {}", missing.sentence())?;
    }
    for result in &report.results {
        for failure in result.systems.iter().filter_map(|of| of.failure(result)) {
            writeln!(out, "! {failure}")?;
        }
    }
    for reason in &report.noise.reasons {
        writeln!(out, "! {reason}")?;
    }
    let verdicts = report.results.iter().flat_map(|result| &result.figures);
    let verdicts: Vec<_> = verdicts
        .flat_map(|figure| &figure.systems)
        .filter_map(|compared| compared.verdict)
        .collect();
    if verdicts.contains(&Verdict::TooNoisy) {
        writeln!(
            out,
            "! too noisy: figures scatter, or others had the machine (above {MAX_STEAL} % stolen). \
             Stop what else runs,\n  pick a quiet hour of a virtual machine, or raise --rounds and \
             --seconds."
        )?;
    }
    if verdicts.contains(&Verdict::TooFewRounds) {
        writeln!(
            out,
            "! too few rounds to say anything about scatter: raise --rounds."
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        for (value, expected) in [
            (12_345.6, "12346"),
            (123.45, "123.5"),
            (12.345, "12.35"),
            (0.12345, "0.123"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
