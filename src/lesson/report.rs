//! What came of a lesson.

use serde::Serialize;

use super::{format::System, watch::Seen};

/// How a lesson ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All asserts hold.
    Passed,
    /// One does not, or a command failed.
    Failed,
    /// It could not be run here.
    NotRun,
}

/// A lesson that was run, under names that stay.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The lesson.
    pub id: String,
    /// What it ran on.
    pub on: System,
    /// How it ended.
    pub state: State,
    /// Why it was not run.
    pub because: Option<String>,
    /// The asserts, counted.
    pub asserts: Asserts,
    /// What happened.
    pub steps: Vec<StepReport>,
    /// How long it took.
    pub seconds: f64,
    /// The file with its frames.
    pub pcapng: Option<String>,
    /// The frames of the steps that name some as a mermaid sequence diagram.
    pub mermaid: Option<String>,
}

/// Asserts, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asserts {
    /// All of them that were looked at.
    pub total: usize,
    /// Those that hold.
    pub hold: usize,
}

/// A step that was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: usize,
    /// The node on which it was typed.
    pub node: String,
    /// What was typed.
    pub commands: Vec<CommandReport>,
    /// What came in, if the step was watched.
    pub frames: Vec<Seen>,
    /// What must hold.
    pub asserts: Vec<Assert>,
}

/// A command that was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CommandReport {
    /// What was typed.
    pub command: String,
    /// What it printed, on stdout and stderr.
    pub output: String,
    /// Its exit code; none: it runs in the background.
    pub exit: Option<i32>,
}

/// Something that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assert {
    /// What it is about: `exit`, `prints`, `prints_not`, `frames`.
    pub about: &'static str,
    /// What must be so.
    pub expected: String,
    /// What is so instead; none: it holds.
    pub got: Option<String>,
}

impl Assert {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.got.is_none()
    }
}

impl Report {
    /// The asserts that do not hold, with the number of the step.
    pub fn broken(&self) -> impl Iterator<Item = (usize, &Assert)> {
        let steps = self.steps.iter();
        steps.flat_map(|step| {
            let broken = step.asserts.iter().filter(|assert| !assert.holds());
            broken.map(move |assert| (step.step, assert))
        })
    }

    /// Of a lesson that cannot be run here.
    pub fn not_run(id: &str, on: System, because: String) -> Self {
        Self {
            state: State::NotRun,
            because: Some(because),
            ..Self::new(id, on)
        }
    }

    pub(super) fn new(id: &str, on: System) -> Self {
        Self {
            id: id.to_owned(),
            on,
            state: State::Passed,
            because: None,
            asserts: Asserts::default(),
            steps: Vec::new(),
            seconds: 0.0,
            pcapng: None,
            mermaid: None,
        }
    }

    /// Counts the asserts, and judges.
    pub(super) fn judge(&mut self) {
        let all = || self.steps.iter().flat_map(|step| &step.asserts);
        self.asserts = Asserts {
            total: all().count(),
            hold: all().filter(|assert| assert.holds()).count(),
        };
        if self.asserts.hold < self.asserts.total {
            self.state = State::Failed;
        }
    }
}
