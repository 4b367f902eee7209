//! Lessons: networks that are built, watched and asserted, step by step.
//!
//! A lesson is a file: machines, commands as one would type them, what they must print, and what
//! must become of single frames. The same lesson runs on this switch and on the kernel's bridge.
//! `tapswitch lab` runs the ones in [`library`], or a teacher's own.
//!
//! ```
//! let lesson = tapswitch::lesson::parse(
//!     r#"
//!     id = "two-pods"
//!     title = "Two pods on a bridge"
//!
//!     [[step]]
//!     say = "A port for a namespace is one command."
//!     run = "ip netns add podA"
//!     tapswitch = """
//!     tapswitch bridge add br0
//!     tapswitch port add podA --bridge br0 --netns podA --address 10.1.1.10/24
//!     """
//!     "#,
//! )
//! .unwrap();
//! assert_eq!(lesson.steps.len(), 1);
//! ```
//!
//! # Where it runs
//! [`World`] is where the commands are typed: namespaces that nobody else sees. The program enters
//! them with [`enter`](enter::enter) before anything else. [`run`](run::run) then goes through the
//! steps, tells its [`Audience`] what happens, and returns a [`Report`]. [`fault`] breaks what was
//! built, for a student to repair.
//!
//! Network, processes and `/run` are the lesson's own. Files are not: its commands have the rights of
//! whoever runs it.

use crate::config::Diagnostic;

pub mod enter;
pub mod fault;
mod format;
mod here;
mod job;
mod keys;
pub mod lang;
pub mod library;
pub mod mermaid;
pub mod narrate;
mod needs;
mod read;
pub mod report;
pub mod run;
mod script;
mod shell;
mod undeclared;
pub mod watch;
mod words;
pub mod world;

pub use self::{
    format::{
        Fails, Fault, Feature, FrameSpec, Lesson, NodeSpec, Place, PlaceError, Scripts, Step,
        System, Text,
    },
    keys::schema,
    lang::Lang,
    report::{Assert, Asserts, CommandReport, Report, State, StepReport},
    run::Audience,
    undeclared::{Undeclared, undeclared},
    world::{Node, World},
};

/// Reads a lesson.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text, but for what only a shell knows.
pub fn parse(text: &str) -> Result<Lesson, Vec<Diagnostic>> {
    read::read(text, &|_| None)
}

/// Reads a lesson, and asks a shell about each script.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn check(text: &str) -> Result<Lesson, Vec<Diagnostic>> {
    read::read(text, &script::inspect)
}

/// The commands of a script, in order; each may have several lines. If the shell has a complaint, the
/// script as a whole.
pub fn commands_of(script: &str) -> Vec<String> {
    match script::commands(script) {
        Ok(commands) => commands
            .into_iter()
            .map(|script::Typed(text)| text)
            .collect(),
        Err(_) => vec![script.trim().to_owned()],
    }
}

/// A regular expression of a lesson: `^` and `$` are the ends of lines.
fn pattern(text: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(text).multi_line(true).build()
}
