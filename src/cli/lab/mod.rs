//! `tapswitch lab`: lessons are listed, shown, run, broken and checked.

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use comfy_table::{ContentArrangement, Table};

mod breaks;
mod files;
mod list;
mod pause;
mod show;
mod tell;

use self::files::Target;
use super::{
    CliError,
    args::{LabCommand, LabRunArgs, LangOption},
    output, read_text, refuse_file, tell_verdict,
};
use crate::{
    lesson::{
        self, Lang, Lesson, Report, State, System,
        enter::{Entered, enter},
        library,
        narrate::Style,
        run::{Nobody, RunError},
        watch,
    },
    names::shown,
};

/// Carries the command out.
pub(super) fn run(command: LabCommand, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    match command {
        LabCommand::List { rows, lang } => {
            let style = style(lang);
            Ok(match rows {
                true => list::rows(out, json, style),
                false => list::lessons(out, json, style),
            }?)
        }
        LabCommand::Show { lesson, lang } => {
            let lesson = find(&lesson)?;
            Ok(match json {
                true => output::json_value(out, &lesson),
                false => show::lesson(out, &lesson, style(lang)),
            }?)
        }
        LabCommand::Run(args) => run_lesson(&args, json, out),
        LabCommand::Break(args) => breaks::run(&args, json, out),
        LabCommand::Check { file } => check(&file, json, out),
        LabCommand::Schema => {
            let text = serde_json::to_string_pretty(&lesson::schema()).map_err(io::Error::other)?;
            Ok(writeln!(out, "{text}")?)
        }
    }
}

fn run_lesson(args: &LabRunArgs, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    let lesson = find_twice(&args.lesson)?;
    let system = args.on.into();
    let style = style(args.lang);
    // Before the lesson has a /run of its own, and before it takes its time.
    let mut taken = vec![PathBuf::from(&args.lesson)];
    let mut find = |path: &Option<PathBuf>| {
        let target = path.as_deref().map(|path| Target::find(path, &taken));
        taken.extend(path.clone());
        target.transpose()
    };
    let diagram = find(&args.mermaid)?;
    let pcap = find(&args.pcap)?;
    match enter(&[]) {
        Ok(Entered::Inside) => {}
        Ok(Entered::Outside(0)) => return Ok(()),
        Ok(Entered::Outside(code)) => return Err(CliError::Said(code)),
        Err(because) => return not_run(&lesson, system, because, json, style, out),
    }
    let report = if json {
        lesson::run::run(&lesson, system, style.lang, &mut Nobody)
    } else {
        let mut teller = tell::Teller::new(out, style, &lesson, args.step);
        teller
            .title(&lesson, system)
            .map_err(RunError::from)
            .and_then(|()| lesson::run::run(&lesson, system, style.lang, &mut teller))
    };
    let mut report = match report {
        Ok(report) => report,
        Err(RunError::Audience(error)) => return Err(error.into()),
        Err(error) => {
            return Err(CliError::Failed(format!("run {}: {error}", lesson.id)));
        }
    };
    report.pcapng = write_frames(&lesson, &report, pcap)?;
    if let (Some(target), Some(text)) = (diagram, &report.mermaid) {
        target.write(text.as_bytes())?;
    }
    if json {
        output::json_value(out, &report)?;
    } else {
        let named = [&args.pcap, &args.mermaid].map(Option::as_deref);
        tell::summary(out, &report, style, named)?;
    }
    out.flush()?;
    match report.state {
        State::Passed => Ok(()),
        State::Failed => Err(CliError::Said(1)),
        State::NotRun => Err(CliError::Said(NOT_RUN)),
    }
}

/// What automake's and meson's tests end with that cannot run.
const NOT_RUN: u8 = 77;

/// There is no world for a lesson here.
fn not_run(
    lesson: &Lesson,
    system: System,
    because: String,
    json: bool,
    style: Style,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let report = Report::not_run(&lesson.id, system, because);
    if json {
        output::json_value(out, &report)?;
    } else {
        tell::summary(out, &report, style, [None; 2])?;
    }
    out.flush()?;
    Err(CliError::Said(NOT_RUN))
}

fn write_frames(
    lesson: &Lesson,
    report: &Report,
    wanted: Option<Target>,
) -> Result<Option<String>, CliError> {
    if report.state == State::NotRun {
        return Ok(None);
    }
    let steps = report.steps.iter();
    let frames: Vec<_> = steps.flat_map(|step| step.frames.iter().cloned()).collect();
    let pcapng = watch::pcapng(&frames);
    let path = match wanted {
        Some(target) => {
            let path = target.path().to_owned();
            target.write(&pcapng)?;
            path
        }
        None if frames.is_empty() => return Ok(None),
        None => match files::write_new(&lesson.id, &pcapng) {
            Ok(path) => path,
            Err(error) => {
                // Nobody asked for it; the lesson is worth more.
                drop(writeln!(io::stderr(), "tapswitch: {error}, or give --pcap"));
                return Ok(None);
            }
        },
    };
    Ok(Some(path.display().to_string()))
}

/// The same for a program that runs again in a world of the lesson: a pipe is empty then.
fn find_twice(lesson: &str) -> Result<Lesson, CliError> {
    let is_stream = |metadata: fs::Metadata| !metadata.is_file() && !metadata.is_dir();
    if library::find(lesson).is_none() && fs::metadata(lesson).is_ok_and(is_stream) {
        return Err(CliError::Usage(format!(
            "read {}: it is no file that can be read twice; save the lesson in a file",
            output::plain(lesson)
        )));
    }
    find(lesson)
}

/// The lesson of this name, or in this file.
fn find(lesson: &str) -> Result<Lesson, CliError> {
    if let Some(entry) = library::find(lesson) {
        let path = format!("{lesson}.toml");
        return lesson::parse(entry.text).map_err(|errors| refuse_file(Path::new(&path), &errors));
    }
    let path = Path::new(lesson);
    let is_file = lesson.contains('/') || lesson.ends_with(".toml") || fs::metadata(path).is_ok();
    if !is_file {
        let ids: Vec<_> = library::ALL.iter().map(|entry| entry.id).collect();
        let hint = crate::config::reader::similar(lesson, &ids)
            .map(|near| format!("did you mean {near}? "))
            .unwrap_or_default();
        return Err(CliError::Usage(format!(
            "find lesson {}: there is none; {hint}see tapswitch lab list, or give a file",
            output::plain(lesson)
        )));
    }
    lesson::check(&read_text(path)?).map_err(|errors| refuse_file(path, &errors))
}

fn check(file: &Path, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    let outcome = lesson::check(&read_text(file)?);
    for missing in outcome.iter().flat_map(lesson::undeclared) {
        let file = shown(file);
        drop(writeln!(io::stderr(), "{file}: warning: {missing}"));
    }
    tell_verdict(file, json, outcome, out, |lesson| {
        let frames: usize = lesson.steps.iter().map(|step| step.frames.len()).sum();
        let (steps, faults) = (lesson.steps.len(), lesson.faults.len());
        format!("steps: {steps}, frames: {frames}, faults: {faults}")
    })
}

/// What the terminal can do, and in which language.
fn style(lang: LangOption) -> Style {
    let is_terminal = io::stdout().is_terminal();
    let width =
        terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].map(env::var);
    let mut locale = locale
        .into_iter()
        .flatten()
        .filter(|value| !value.is_empty());
    let from_locale = || locale.next().map(|locale| Lang::of_locale(&locale));
    let lang = lang.lang.map(Lang::from).or_else(from_locale);
    Style {
        lang: lang.unwrap_or_default(),
        // https://no-color.org
        has_color: is_terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        width: width.unwrap_or(88).clamp(60, 100),
    }
}

/// Lets a table fit the terminal.
fn fit(table: &mut Table, style: Style) {
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(style.width).unwrap_or(u16::MAX));
}

/// The English or the Chinese of two.
fn pick<'t>(style: Style, en: &'t str, zh: &'t str) -> &'t str {
    match style.lang {
        Lang::En => en,
        Lang::Zh => zh,
    }
}

/// `text` in a colour of the terminal, or in none.
fn paint(style: Style, code: &str, text: &str) -> String {
    match style.has_color {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

/// Writes paragraphs, which blank lines set apart, indented.
fn prose(out: &mut impl Write, text: &str, indent: usize, style: Style) -> io::Result<()> {
    let paragraphs = text.split("\n\n").map(str::trim);
    for (index, paragraph) in paragraphs.filter(|text| !text.is_empty()).enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let lead = " ".repeat(indent);
        output::hanging(out, lead, &joined(paragraph), style.width)?;
    }
    Ok(())
}

/// The lines of a paragraph as one. Between Chinese characters a line's end is no blank.
fn joined(paragraph: &str) -> String {
    let mut text = String::new();
    for line in paragraph
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let is_wide = |char: Option<char>| {
            char.is_some_and(|char| output::columns(char.encode_utf8(&mut [0; 4])) == 2)
        };
        let is_inside = is_wide(text.chars().next_back()) && is_wide(line.chars().next());
        if !text.is_empty() && !is_inside {
            text.push(' ');
        }
        text.push_str(line);
    }
    text
}

/// How a command looks that is typed on `node`: with a prompt, and further lines below it.
fn typed(command: &str, node: Option<&str>) -> Vec<String> {
    let node = node.unwrap_or_default();
    let prompts = [format!("{node}# "), format!("{}> ", " ".repeat(node.len()))];
    let lines = command.lines().enumerate();
    lines
        .map(|(index, line)| format!("{}{line}", prompts[usize::from(index > 0)]))
        .collect()
}
