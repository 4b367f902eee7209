//! `tapswitch lab break`: the student's side of a fault.

use std::io::{self, Write};

use super::{
    BOLD, DIM, GREEN, NOT_RUN, RED, find_twice, paint, pick, prose, style,
    tell::{printable, title},
};
use crate::{
    cli::{CliError, args::LabBreakArgs, output},
    lesson::{
        Fault, Lang, Lesson, State, System,
        enter::{Entered, enter},
        fault::{self, BreakReport, Broken, Words},
        narrate::Style,
        run::RunError,
    },
    sys::clock,
};

/// Carries the command out.
pub(super) fn run(args: &LabBreakArgs, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    if json && !args.solve {
        return Err(CliError::Usage(
            "break with --json: nobody would see the shell; add --solve".to_owned(),
        ));
    }
    let lesson = find_twice(&args.lesson)?;
    let (system, style) = (args.on.into(), style(args.lang));
    let seed = args
        .fault
        .is_none()
        .then(|| args.seed.unwrap_or_else(any_seed));
    let fault = match (&args.fault, seed) {
        (Some(name), _) => fault::named(&lesson, system, name),
        (None, seed) => fault::choose(&lesson, system, seed.unwrap_or_default()),
    };
    let fault = fault.map_err(CliError::Usage)?;
    match enter(&seed_variable(seed)) {
        Ok(Entered::Inside) => {}
        Ok(Entered::Outside(0)) => return Ok(()),
        Ok(Entered::Outside(code)) => return Err(CliError::Said(code)),
        Err(because) => {
            let report = report(&lesson, system, fault, seed, Err(because));
            return finish(&report, json, style, out);
        }
    }
    if !json {
        introduce(&lesson, system, seed, style, out)?;
    }
    let mut broken = match Broken::build(&lesson, system, fault, style.lang) {
        Ok(broken) => broken,
        Err(RunError::NotRun(because)) => {
            let report = report(&lesson, system, fault, seed, Err(because));
            return finish(&report, json, style, out);
        }
        Err(error) => return Err(CliError::Failed(format!("break {}: {error}", lesson.id))),
    };
    let failed = |cause: String| CliError::Failed(format!("break {}: {cause}", lesson.id));
    if args.solve {
        if !json {
            symptom(fault, args.hint, style, out)?;
        }
        broken.solve().map_err(failed)?;
    } else {
        symptom(fault, args.hint, style, out)?;
        sit_down(&lesson, fault, style, out)?;
        out.flush()?;
        broken.open_shell(&words(fault, style)).map_err(failed)?;
    }
    let (is_repaired, said) = broken.is_repaired().map_err(failed)?;
    let report = report(&lesson, system, fault, seed, Ok(is_repaired));
    if !json {
        verdict(&report, fault, &said, style, out)?;
    }
    finish(&report, json, style, out)
}

/// Another one each time, and short enough to be typed.
fn any_seed() -> u64 {
    // The inner run must find what the outer one did.
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| clock::now().as_nanos() / 1_000 % 10_000)
}

fn seed_variable(seed: Option<u64>) -> Vec<(&'static str, String)> {
    seed.map(|seed| (SEED, seed.to_string()))
        .into_iter()
        .collect()
}

const SEED: &str = "TAPSWITCH_LAB_SEED";

fn report(
    lesson: &Lesson,
    system: System,
    fault: &Fault,
    seed: Option<u64>,
    outcome: Result<bool, String>,
) -> BreakReport {
    BreakReport {
        id: lesson.id.clone(),
        on: system,
        fault: fault.name.clone(),
        seed,
        state: match outcome {
            Ok(true) => State::Passed,
            Ok(false) => State::Failed,
            Err(_) => State::NotRun,
        },
        because: outcome.err(),
    }
}

fn finish(
    report: &BreakReport,
    json: bool,
    style: Style,
    out: &mut impl Write,
) -> Result<(), CliError> {
    if json {
        output::json_value(out, report)?;
    } else if let Some(because) = &report.because {
        let said = pick(style, "not run, because ", "没有运行：");
        output::hanging(out, said.to_owned(), because, style.width)?;
    }
    out.flush()?;
    match report.state {
        State::Passed => Ok(()),
        State::Failed => Err(CliError::Said(1)),
        State::NotRun => Err(CliError::Said(NOT_RUN)),
    }
}

fn introduce(
    lesson: &Lesson,
    system: System,
    seed: Option<u64>,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    title(out, lesson, style)?;
    let mut text = match style.lang {
        Lang::En => format!("on {system}, with something broken"),
        Lang::Zh => format!("运行在 {system} 上，其中有一处故障"),
    };
    if let Some(seed) = seed {
        text += &format!(" (--seed {seed})");
    }
    writeln!(out, "{}\n", paint(style, DIM, &text))?;
    out.flush()
}

fn symptom(fault: &Fault, with_hint: bool, style: Style, out: &mut impl Write) -> io::Result<()> {
    let head = pick(style, "What is seen", "现象");
    writeln!(out, "{}", paint(style, BOLD, head))?;
    prose(out, fault.symptom.in_lang(style.lang), 2, style)?;
    if with_hint {
        let head = pick(style, "A hint", "提示");
        writeln!(out, "\n{}", paint(style, BOLD, head))?;
        prose(out, &hint(fault, style), 2, style)?;
    }
    Ok(())
}

fn sit_down(lesson: &Lesson, fault: &Fault, style: Style, out: &mut impl Write) -> io::Result<()> {
    let node = &fault.node;
    let mut text = match style.lang {
        Lang::En => format!(
            "You have a shell on {node}. Find out what it is and repair it. `check` tells whether it \
             is repaired, `hint` helps, `exit` ends it."
        ),
        Lang::Zh => format!(
            "下面是 {node} 上的一个 shell。找出原因并修好它。check 检查是否修好，hint 给出提示，exit 结束。"
        ),
    };
    let others: Vec<_> = lesson
        .nodes
        .iter()
        .filter(|other| other.name != *node)
        .map(|other| match style.lang {
            Lang::En => format!("`{} COMMAND`", other.name),
            Lang::Zh => format!("{} 命令", other.name),
        })
        .collect();
    if !others.is_empty() {
        text += &match style.lang {
            Lang::En => format!(
                " Something is typed on the other machines with {}.",
                others.join(", ")
            ),
            Lang::Zh => format!("在其他机器上执行：{}。", others.join("，")),
        };
    }
    writeln!(out)?;
    prose(out, &text, 0, style)?;
    writeln!(out)
}

fn hint(fault: &Fault, style: Style) -> String {
    let hint = fault.hint.in_lang(style.lang);
    match hint.is_empty() {
        true => pick(style, "There is none.", "没有提示。").to_owned(),
        false => hint.to_owned(),
    }
}

fn words(fault: &Fault, style: Style) -> Words {
    Words {
        hint: {
            let mut text = Vec::new();
            // A Vec takes everything.
            drop(prose(&mut text, &hint(fault, style), 0, style));
            String::from_utf8_lossy(&text).trim_end().to_owned()
        },
        repaired: pick(style, "Repaired. `exit` ends it.", "修好了。用 exit 结束。").to_owned(),
        not_yet: pick(style, "Not repaired yet.", "还没有修好。").to_owned(),
    }
}

/// What it was, and whether it is repaired.
fn verdict(
    report: &BreakReport,
    fault: &Fault,
    said: &str,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    let is_repaired = report.state == State::Passed;
    let name = &fault.name;
    let text = match (style.lang, is_repaired) {
        (Lang::En, true) => format!("Repaired. It was: {name}."),
        (Lang::En, false) => format!("Not repaired. It was: {name}."),
        (Lang::Zh, true) => format!("修好了。故障是：{name}。"),
        (Lang::Zh, false) => format!("没有修好。故障是：{name}。"),
    };
    let color = if is_repaired { GREEN } else { RED };
    writeln!(out, "\n{}", paint(style, color, &text))?;
    prose(out, fault.cause.in_lang(style.lang), 2, style)?;
    if is_repaired {
        return Ok(());
    }
    let head = pick(style, "This repairs it:", "这样可以修好：");
    writeln!(out, "{}", paint(style, DIM, head))?;
    for script in fault.solve.on(report.on) {
        for line in script.trim().lines() {
            writeln!(out, "  # {line}")?;
        }
    }
    let head = pick(style, "What the check printed:", "检查的输出：");
    writeln!(out, "{}", paint(style, DIM, head))?;
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(out, "  {}", printable(line))?;
    }
    Ok(())
}
