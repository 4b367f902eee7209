//! `tapswitch bench`: this switch against others, all built in one run and measured in turn.
//!
//! ```text
//!   Plan --> run: for each shape: build every system     topology
//!              for each case, for each round, for each system in turn:
//!                  case: who sends what to whom           crew --> load (a process for each end)
//!                  measure: the window, CPU time, counters
//!            stats: medians, ratios, verdicts --> Report --> table, plot, JSON
//! ```
//! All systems are built in one run and idle while another is measured, since only figures of the
//! same minute on the same machine can be compared.

mod case;
mod crew;
pub mod load;
mod machine;
mod measure;
pub mod plot;
pub mod report;
mod run;
pub mod stats;
mod systems;
pub mod table;
pub mod topology;
mod world;

pub use self::{
    case::{CASES, Case, Figure, Place, QUICK, find as find_case},
    machine::Machine,
    report::Report,
    run::Plan,
    systems::{NAMES as SYSTEM_NAMES, parse as system},
    topology::System,
};

/// Measures what `plan` says, in a world that is invisible to the machine, and tells `progress` in a
/// line what it does. Must be called before the process has started threads.
///
/// # Errors
/// Why there can be no such world here. What fails later is in the report.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(&str)) -> Result<Report, String> {
    world::enter()?;
    Ok(run::run(plan, progress))
}
