//! `tapswitch bench`: from arguments to a plan, and from a report to what is printed.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::Path,
    time::Duration,
};

use clap::Parser;
use serde::Serialize;

use super::{
    CliError,
    args::{BenchArgs, Cli},
    output,
};
use crate::{
    bench::{self, CASES, Case, Place, Plan, QUICK, SYSTEM_NAMES, System, find_case, plot, table},
    names::shown,
};

/// Does what `args` say.
pub(super) fn run(args: &BenchArgs, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    if args.list {
        return Ok(list(json, out)?);
    }
    let plan = plan(args).map_err(CliError::Usage)?;
    // Before minutes of measuring, and before the bench has a /run of its own.
    let picture = args.plot.as_deref().map(open).transpose()?;
    let is_terminal = io::stderr().is_terminal();
    let mut progress = |line: &str| {
        if is_terminal {
            // A line that wraps could not be overwritten.
            let line: String = line.chars().take(PROGRESS_WIDTH).collect();
            // Who cannot read it loses nothing.
            drop(write!(io::stderr(), "\r\x1b[K{line}"));
        }
    };
    let report = bench::run(&plan, &mut progress).map_err(CliError::Failed)?;
    progress("");
    if json {
        output::json_value(out, &report)?;
    } else {
        table::write(out, &report)?;
    }
    if let Some((path, mut file)) = picture {
        file.write_all(plot::svg(&report).as_bytes())
            .map_err(|error| not_written(path, &error))?;
    }
    out.flush()?;
    let failures = report.failures();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(CliError::Failed(format!(
            "measure: {}",
            failures.join("\n  ")
        ))),
    }
}

/// Most terminals have 80 columns or more.
const PROGRESS_WIDTH: usize = 79;

fn open(path: &Path) -> Result<(&Path, File), CliError> {
    let file = File::create(path).map_err(|error| not_written(path, &error))?;
    Ok((path, file))
}

fn not_written(path: &Path, error: &io::Error) -> CliError {
    let path = shown(path);
    CliError::Failed(format!("write {path}: {error}; check the path"))
}

fn list(json: bool, out: &mut impl Write) -> io::Result<()> {
    #[derive(Serialize)]
    struct CaseInfo {
        id: &'static str,
        title: &'static str,
        places: Vec<&'static str>,
        quick: bool,
    }
    #[derive(Serialize)]
    struct List {
        cases: Vec<CaseInfo>,
        systems: &'static [&'static str],
    }
    let cases = CASES.iter().map(|case| {
        let places = Place::ALL.into_iter();
        let places = places.filter(|&place| case.shape(place).is_some());
        CaseInfo {
            id: case.id,
            title: case.title,
            places: places.map(Place::title).collect(),
            quick: QUICK.contains(&case.id),
        }
    });
    let list = List {
        cases: cases.collect(),
        systems: &SYSTEM_NAMES,
    };
    if json {
        return output::json_value(out, &list);
    }
    writeln!(out, "cases")?;
    for case in list.cases {
        let quick = if case.quick { ", quick" } else { "" };
        let (id, title, places) = (case.id, case.title, case.places.join(", "));
        writeln!(out, "  {id:<14}{title} ({places}{quick})")?;
    }
    writeln!(out, "systems\n  {}", list.systems.join(", "))
}

fn plan(args: &BenchArgs) -> Result<Plan, String> {
    let (rounds, seconds, warm_up) = match args.quick {
        true => (3, 0.3, 0.2),
        false => (7, 2.0, 0.5),
    };
    Ok(Plan {
        systems: systems(args)?,
        cases: cases(args)?,
        congestion: args.congestion.clone(),
        rounds: args.rounds.unwrap_or(rounds).into(),
        window: Duration::from_secs_f64(args.seconds.unwrap_or(seconds)),
        warm_up: Duration::from_secs_f64(warm_up),
    })
}

fn systems(args: &BenchArgs) -> Result<Vec<System>, String> {
    let default: &[&str] = match args.quick {
        true => &["kernel", "tapswitch"],
        false => &SYSTEM_NAMES,
    };
    let mut names: Vec<&str> = args.systems.iter().map(String::as_str).collect();
    if names.is_empty() {
        names = default.to_vec();
    }
    let mut systems = Vec::new();
    for name in names {
        let system = bench::system(name).map_err(|error| format!("find system {name}: {error}"))?;
        if systems.contains(&system) {
            return Err(format!("measure {name}: it is listed twice; list it once"));
        }
        systems.push(system);
    }
    for text in &args.with {
        let options: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        // A daemon would refuse them too, but only after others have been built.
        let line = ["tapswitch", "run"].into_iter().map(str::to_owned);
        Cli::try_parse_from(line.chain(options.iter().cloned()))
            .map_err(|error| format!("run tapswitch with {text:?}: {}", first_line(&error)))?;
        systems.push(System::Tapswitch { options });
    }
    systems.extend(
        args.program
            .iter()
            .map(|line| System::Program { line: line.clone() }),
    );
    Ok(systems)
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    format!("{line}; see tapswitch run --help")
}

fn cases(args: &BenchArgs) -> Result<Vec<(&'static Case, Place)>, String> {
    let find = |id: &String| {
        find_case(id)
            .ok_or_else(|| format!("find case {id}: there is none; see tapswitch bench --list"))
    };
    let asked = args.cases.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let is_asked = |case: &Case| match (asked.is_empty(), args.quick) {
        (false, _) => asked.iter().any(|asked| asked.id == case.id),
        (true, true) => QUICK.contains(&case.id),
        (true, false) => true,
    };
    let places = Place::ALL.into_iter().filter(|place| match place {
        Place::OneNode => !args.overlay,
        Place::Overlay => !args.one_node,
    });
    let cases: Vec<_> = places
        .flat_map(|place| CASES.iter().map(move |case| (case, place)))
        .filter(|&(case, place)| is_asked(case) && case.shape(place).is_some())
        .collect();
    match cases.is_empty() {
        true => Err(format!(
            "measure {}: not there; see tapswitch bench --list",
            args.cases.join(", ")
        )),
        false => Ok(cases),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command;

    fn plan_of(line: &str) -> Result<Plan, String> {
        let words = ["tapswitch", "bench"].into_iter().chain(line.split('|'));
        let words = words.filter(|word| !word.is_empty());
        match Cli::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Bench(args) => plan(&args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn everything_is_measured_if_nobody_says_what() {
        let plan = plan_of("").unwrap();
        assert_eq!(plan.systems.len(), 5);
        assert_eq!(plan.systems[0], System::Kernel);
        assert_eq!((plan.rounds, plan.window), (7, Duration::from_secs(2)));
        let on = |place| plan.cases.iter().filter(|(_, of)| *of == place).count();
        assert_eq!((on(Place::OneNode), on(Place::Overlay)), (14, 11));
    }

    #[test]
    fn quick_is_short_and_still_obeys() {
        let plan = plan_of("--quick").unwrap();
        assert_eq!(
            (plan.systems.len(), plan.cases.len(), plan.rounds),
            (2, 6, 3)
        );
        let plan = plan_of("--quick|--cases|macs1|--systems|tapswitch|--rounds|4").unwrap();
        assert_eq!(
            (plan.systems.len(), plan.cases.len(), plan.rounds),
            (1, 1, 4)
        );
    }

    #[test]
    fn lists_are_read_in_the_order_of_the_table() {
        let plan = plan_of("--cases|udp18,tcp1|--one-node|--seconds|0.1").unwrap();
        let ids: Vec<_> = plan.cases.iter().map(|(case, _)| case.id).collect();
        assert_eq!(ids, ["tcp1", "udp18"]);
        assert_eq!(plan.window, Duration::from_millis(100));
        let plan = plan_of("--systems|kernel|--with|--coalesce off|--program|pump -x").unwrap();
        let options = vec!["--coalesce".to_owned(), "off".to_owned()];
        assert_eq!(plan.systems[1], System::Tapswitch { options });
        assert_eq!(plan.systems.len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_way_out() {
        for (line, expected) in [
            (
                "--cases|tcp",
                "find case tcp: there is none; see tapswitch bench --list",
            ),
            ("--cases|macs1|--overlay", "measure macs1: not there"),
            ("--systems|ovz", "choose from kernel, tapswitch"),
            ("--systems|vde,vde", "listed twice"),
            (
                "--with|--fly",
                "unexpected argument '--fly' found; see tapswitch run --help",
            ),
            ("--rounds|0", "--rounds"),
            ("--seconds|0", "0.05 to 3600"),
            ("--one-node|--overlay", "cannot be used with"),
        ] {
            let error = plan_of(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
