//! Runs a lesson, step by step.

use std::{io, ops::ControlFlow, thread, time::Duration};

use super::{
    format::{Lesson, Step, System},
    job::Output,
    lang::Lang,
    mermaid, needs, pattern,
    report::{Assert, CommandReport, Report, StepReport},
    script::{self, Typed},
    shell::{End, Failure},
    watch::{Expected, Seen, Watch, find},
    world::World,
};
use crate::{sys::clock, time::Timestamp};

/// Who is told what happens, while it happens.
///
/// An error of theirs ends the lesson.
pub trait Audience {
    /// A step begins, number `number` from 1.
    ///
    /// # Errors
    /// Whatever keeps it from listening on.
    fn step(&mut self, number: usize, step: &Step) -> io::Result<()>;
    /// A command is typed.
    ///
    /// # Errors
    /// Likewise.
    fn command(&mut self, step: &Step, command: &str) -> io::Result<()>;
    /// The command printed this.
    ///
    /// # Errors
    /// Likewise.
    fn output(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// A command in the background has printed this.
    ///
    /// # Errors
    /// Likewise.
    fn news(&mut self, command: &str, text: &str) -> io::Result<()>;
    /// The frames of the step, since `start`; each with what is asserted of it. Break: the lesson
    /// ends here.
    ///
    /// # Errors
    /// Likewise.
    fn frames(&mut self, start: Timestamp, frames: &[Told<'_>]) -> io::Result<ControlFlow<()>>;
    /// Something does not hold.
    ///
    /// # Errors
    /// Likewise.
    fn broken(&mut self, number: usize, assert: &Assert) -> io::Result<()>;
}

/// A frame to tell.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The frame.
    pub seen: &'a Seen,
    /// The frame of the lesson that it is.
    pub spec: Option<&'a super::format::FrameSpec>,
}

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Audience for Nobody {
    fn step(&mut self, _: usize, _: &Step) -> io::Result<()> {
        Ok(())
    }

    fn command(&mut self, _: &Step, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn output(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn news(&mut self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn frames(&mut self, _: Timestamp, _: &[Told<'_>]) -> io::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    fn broken(&mut self, _: usize, _: &Assert) -> io::Result<()> {
        Ok(())
    }
}

/// Why a lesson came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It cannot be run here.
    #[error("{0}")]
    NotRun(String),
    /// Its world could not be built, or broke.
    #[error("{0}")]
    World(String),
    /// The audience has gone.
    #[error(transparent)]
    Audience(#[from] io::Error),
}

/// Runs `lesson` on `system`, in a world of its own: see [`enter`](super::enter::enter).
///
/// # Errors
/// A [`RunError`]. That an assert does not hold is none: see [`Report::state`].
pub fn run(
    lesson: &Lesson,
    system: System,
    lang: Lang,
    audience: &mut dyn Audience,
) -> Result<Report, RunError> {
    play(lesson, system, lang, Frames::Seen, audience).map(|(report, _)| report)
}

/// Whether frames are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frames {
    /// Where the steps say so.
    Seen,
    /// Nowhere, and nothing is asserted of them.
    Unseen,
}

/// The same, and what was built is still there afterwards.
pub(super) fn play(
    lesson: &Lesson,
    system: System,
    lang: Lang,
    seen: Frames,
    audience: &mut dyn Audience,
) -> Result<(Report, Option<World>), RunError> {
    let start = clock::now();
    if let Some(because) = needs::missing(lesson, system, lang) {
        return Ok((Report::not_run(&lesson.id, system, because), None));
    }
    let report = Report::new(&lesson.id, system);
    let world = World::build(lesson, system).map_err(RunError::World)?;
    let mut runner = Runner {
        world,
        audience,
        report,
        seen,
        lang,
        diagram: Vec::new(),
    };
    for (number, step) in (1..).zip(&lesson.steps) {
        if runner.step(number, step)?.is_break() {
            break;
        }
    }
    let Runner {
        world,
        mut report,
        diagram,
        ..
    } = runner;
    if !diagram.is_empty() {
        let names: Vec<_> = lesson.nodes.iter().map(|node| node.name.clone()).collect();
        let frames: Vec<&Seen> = diagram.iter().collect();
        report.mermaid = Some(mermaid::sequence(&names, &frames, lang));
    }
    report.judge();
    report.seconds = clock::now().since(start).as_secs_f64();
    Ok((report, Some(world)))
}

struct Runner<'a> {
    world: World,
    audience: &'a mut dyn Audience,
    report: Report,
    seen: Frames,
    lang: Lang,
    /// The frames of the diagram.
    diagram: Vec<Seen>,
}

/// What the commands of a step left.
#[derive(Default)]
struct Outcome {
    commands: Vec<CommandReport>,
    asserts: Vec<Assert>,
    /// Whether a command failed that must not, or the other way round.
    is_stuck: bool,
}

impl Outcome {
    /// All that was printed.
    fn printed(&self) -> String {
        let outputs = self.commands.iter().map(|command| command.output.as_str());
        outputs.collect()
    }
}

impl Runner<'_> {
    fn step(&mut self, number: usize, step: &Step) -> Result<ControlFlow<()>, RunError> {
        self.audience.step(number, step)?;
        let system = self.world.system();
        let is_typed = step.scripts.on(system).next().is_some();
        let watch = match self.seen == Frames::Seen && step.is_watched && is_typed {
            true => {
                let watch = Watch::begin(&self.world.watched());
                Some(watch.map_err(|error| RunError::World(error.to_string()))?)
            }
            false => None,
        };
        let mut outcome = self.commands(step)?;
        let mut flow = ControlFlow::Continue(());
        let mut frames = Vec::new();
        if let Some(watch) = watch {
            let start = watch.start();
            let seen = watch.end();
            frames = seen.map_err(|error| RunError::World(error.to_string()))?;
            flow = self.frames(step, start, &frames, &mut outcome)?;
        }
        for (command, text) in self.world.news() {
            self.audience.news(&command, &text)?;
        }
        for command in self.world.floods() {
            outcome.is_stuck = true;
            outcome.asserts.push(flood_assert(&command, self.lang));
        }
        for assert in outcome.asserts.iter().filter(|assert| !assert.holds()) {
            self.audience.broken(number, assert)?;
        }
        let is_stuck = outcome.is_stuck;
        self.report.steps.push(StepReport {
            step: number,
            node: step.node.clone(),
            commands: outcome.commands,
            frames,
            asserts: outcome.asserts,
        });
        Ok(match is_stuck {
            true => ControlFlow::Break(()),
            false => flow,
        })
    }

    fn commands(&mut self, step: &Step) -> Result<Outcome, RunError> {
        let system = self.world.system();
        let mut typed: Vec<Typed> = Vec::new();
        for script in step.scripts.on(system) {
            let commands = script::commands(script);
            typed.extend(commands.map_err(|(_, said)| {
                RunError::World(format!("read a script: the shell says: {said}; correct it"))
            })?);
        }
        let mut outcome = Outcome::default();
        if typed.is_empty() {
            return Ok(outcome);
        }
        if step.is_background {
            self.background(step, &typed, &mut outcome)?;
            return Ok(outcome);
        }
        let last = typed.len() - 1;
        for (index, Typed(command)) in typed.iter().enumerate() {
            let must_fail = index == last && step.fails_on(system);
            let end = self.command(step, command, must_fail, &mut outcome)?;
            if let Some(assert) = exit_assert(command, end, must_fail, self.lang) {
                outcome.is_stuck = true;
                outcome.asserts.push(assert);
                break;
            }
        }
        if !outcome.is_stuck {
            let expected = match (self.lang, step.fails_on(system)) {
                (Lang::En, true) => "the last command fails",
                (Lang::En, false) => "every command succeeds",
                (Lang::Zh, true) => "最后一条命令失败",
                (Lang::Zh, false) => "每条命令都成功",
            };
            outcome.asserts.push(Assert {
                about: "exit",
                expected: expected.to_owned(),
                got: None,
            });
            outcome
                .asserts
                .extend(prints(step, system, &outcome.printed(), self.lang));
        }
        Ok(outcome)
    }

    fn command(
        &mut self,
        step: &Step,
        command: &str,
        may_fail: bool,
        outcome: &mut Outcome,
    ) -> Result<End, RunError> {
        self.audience.command(step, command)?;
        let failure = match may_fail {
            true => Failure::IsFine,
            false => Failure::IsTheEnd,
        };
        let mut printed = Vec::new();
        let audience = &mut *self.audience;
        let mut deaf = None;
        let end = self.world.run(&step.node, command, failure, &mut |bytes| {
            printed.extend_from_slice(bytes);
            if deaf.is_none() {
                deaf = audience.output(bytes).err();
            }
            Ok(())
        });
        let end = end.map_err(RunError::World)?;
        if let Some(error) = deaf {
            return Err(error.into());
        }
        outcome.commands.push(CommandReport {
            command: command.to_owned(),
            output: String::from_utf8_lossy(&printed).into_owned(),
            exit: Some(end.code()),
        });
        Ok(end)
    }

    /// Starts the commands, and waits until they have printed what they must.
    fn background(
        &mut self,
        step: &Step,
        typed: &[Typed],
        outcome: &mut Outcome,
    ) -> Result<(), RunError> {
        let mut outputs = Vec::new();
        for Typed(command) in typed {
            self.audience.command(step, &format!("{command} &"))?;
            let output = self.world.start(&step.node, command);
            outputs.push(output.map_err(RunError::World)?);
            outcome.commands.push(CommandReport {
                command: command.clone(),
                ..CommandReport::default()
            });
        }
        let start = clock::now();
        let mut judged = None;
        loop {
            let lens: usize = outputs.iter().map(Output::len).sum();
            // The same words are judged once.
            if judged.replace(lens) != Some(lens) {
                let printed: String = outputs.iter().map(Output::text).collect();
                outcome.asserts = prints(step, self.world.system(), &printed, self.lang);
            }
            let is_over = outcome.asserts.iter().all(Assert::holds);
            let is_flood = outputs.iter().any(Output::is_flood);
            if is_over || is_flood || clock::now().since(start) > READY {
                outcome.is_stuck = !is_over;
                if is_flood {
                    // That is what is wrong, and reason enough.
                    outcome.asserts.retain(Assert::holds);
                }
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn frames(
        &mut self,
        step: &Step,
        start: Timestamp,
        frames: &[Seen],
        outcome: &mut Outcome,
    ) -> Result<ControlFlow<()>, RunError> {
        let system = self.world.system();
        let specs: Vec<_> = step.frames_on(system).collect();
        let expected: Vec<Expected> = specs
            .iter()
            .map(|spec| Expected {
                node: spec.at.node.clone().unwrap_or_else(|| step.node.clone()),
                at: spec.at.name.clone(),
                what: spec.what.clone(),
                fate: spec.fate,
                to: spec.to.clone(),
                reason: spec.reason.clone().filter(|_| system == System::Tapswitch),
            })
            .collect();
        // What did not happen cannot be seen.
        let found = match outcome.is_stuck {
            true => Ok(Vec::new()),
            false => find(&expected, frames, self.lang),
        };
        let indices = found.as_ref().map_or(&[][..], Vec::as_slice);
        let told: Vec<_> = frames
            .iter()
            .enumerate()
            .map(|(index, seen)| {
                let which = indices.iter().position(|&found| found == index);
                let spec = which.and_then(|which| specs.get(which).copied());
                Told { seen, spec }
            })
            .collect();
        let flow = self.audience.frames(start, &told)?;
        match found {
            Ok(indices) => {
                // Those between two that are asserted are the way from one to the other.
                let all = frames.iter().enumerate();
                let drawn = all.filter(|(index, seen)| indices.contains(index) || !seen.is_noise());
                self.diagram.extend(drawn.map(|(_, seen)| seen.clone()));
                let holds = expected.iter().map(|frame| Assert {
                    about: "frames",
                    expected: match self.lang {
                        Lang::En => format!("at {} comes in {}", frame.at, frame.what),
                        Lang::Zh => format!("从 {} 进来 {}", frame.at, frame.what),
                    },
                    got: None,
                });
                outcome.asserts.extend(holds.take(indices.len()));
            }
            Err(got) => outcome.asserts.push(Assert {
                about: "frames",
                expected: match self.lang {
                    Lang::En => format!("{} frames, in their order", expected.len()),
                    Lang::Zh => format!("{} 个帧，顺序不变", expected.len()),
                },
                got: Some(got),
            }),
        }
        Ok(flow)
    }
}

/// What is wrong with how a command ended.
fn exit_assert(command: &str, end: End, must_fail: bool, lang: Lang) -> Option<Assert> {
    let code = end.code();
    let say = |en: &str, zh: &str| match lang {
        Lang::En => en.to_owned(),
        Lang::Zh => zh.to_owned(),
    };
    let (ends, succeeds, fails) = (
        say("ends", "会结束"),
        say("succeeds", "成功"),
        say("fails", "失败"),
    );
    let (expected, got) = match (must_fail, end) {
        (_, End::Late | End::Flood) => (
            ends,
            match (lang, end.because(lang).unwrap_or_default()) {
                (Lang::En, because) => format!("it {because}"),
                (Lang::Zh, because) => format!("它{because}"),
            },
        ),
        (false, _) if code != 0 => (
            succeeds,
            match lang {
                Lang::En => format!("it ended with exit code {code}"),
                Lang::Zh => format!("它以退出码 {code} 结束"),
            },
        ),
        (false, End::Over(_)) => (succeeds, say("it ended the shell", "它结束了整个 shell")),
        (true, _) if code == 0 => (fails, say("it succeeded", "它成功了")),
        _ => return None,
    };
    Some(Assert {
        about: "exit",
        expected: format!("{command} {expected}"),
        got: Some(got),
    })
}

/// What is wrong with a command in the background that printed too much.
fn flood_assert(command: &str, lang: Lang) -> Assert {
    let because = End::Flood.because(lang).unwrap_or_default();
    let (expected, got) = match lang {
        Lang::En => (
            format!("{command} & prints up to 1 MiB"),
            format!("it {because}"),
        ),
        Lang::Zh => (
            format!("{command} & 的输出不超过 1 MiB"),
            format!("它{because}"),
        ),
    };
    Assert {
        about: "exit",
        expected,
        got: Some(got),
    }
}

/// What must and what must not be printed.
fn prints(step: &Step, system: System, printed: &str, lang: Lang) -> Vec<Assert> {
    let matches = |text: &str| pattern(text).is_ok_and(|pattern| pattern.is_match(printed));
    let got = || match (printed.trim(), lang) {
        ("", Lang::En) => "nothing was printed".to_owned(),
        ("", Lang::Zh) => "什么都没有输出".to_owned(),
        (text, Lang::En) => format!("printed was:\n{text}"),
        (text, Lang::Zh) => format!("实际输出：\n{text}"),
    };
    let wanted = step.prints_on(system).map(|text| Assert {
        about: "prints",
        expected: text.to_owned(),
        got: (!matches(text)).then(got),
    });
    let unwanted = step.prints_not.iter().map(|text| Assert {
        about: "prints_not",
        expected: text.clone(),
        got: matches(text).then(got),
    });
    wanted.chain(unwanted).collect()
}

/// How long a command in the background may take to print what it must.
const READY: Duration = Duration::from_secs(10);
