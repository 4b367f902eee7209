//! What `doctor` found, as a checklist in the order in which people look.

use std::io::{self, Write};

use super::{plain, wrap::hanging};
use crate::doctor::{Check, Finding, Report, Severity, Step};

/// One line for what is well, more for what is not, and at the end the most likely cause.
pub(crate) fn report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "doctor: {}", plain(&report.scope))?;
    for of_step in report.findings.chunk_by(|one, two| one.step == two.step) {
        let mut heading = of_step
            .first()
            .map_or_else(String::new, |it| heading(it.step));
        let is_well = |finding: &&Finding| finding.severity == Severity::Ok;
        let well: Vec<&Finding> = of_step.iter().filter(is_well).collect();
        let is_short = well.len() <= MOST_WELL;
        for finding in of_step {
            if is_short || finding.severity != Severity::Ok {
                one(out, &std::mem::take(&mut heading), finding)?;
            }
        }
        if !is_short {
            let others = if heading.is_empty() { " others" } else { "" };
            writeln!(out, "{heading:<10}ok       {}{others} are well", well.len())?;
        }
    }
    writeln!(out)?;
    match &report.cause {
        Some(cause) => {
            let name = cause.id.name();
            let about = plain(&cause.about);
            let text = format!("{about}: {}", plain(&cause.fact));
            writeln!(out, "The most likely cause: {name}")?;
            hanging(out, "  ".to_owned(), &text, WIDTH)
        }
        None => writeln!(out, "No fault found."),
    }
}

fn heading(step: Step) -> String {
    match step {
        Step::Fdb | Step::Vtep | Step::Mtu => step.to_string().to_uppercase(),
        step => step.to_string(),
    }
}

fn one(out: &mut impl Write, heading: &str, finding: &Finding) -> io::Result<()> {
    let mark = match finding.severity {
        Severity::Ok => "ok",
        Severity::Note => "note",
        Severity::Warning => "WARNING",
        Severity::Broken => "BROKEN",
    };
    let first = format!("{heading:<10}{mark:<9}");
    let text = match finding.id {
        Check::Daemon => plain(&finding.fact),
        _ => format!("{}: {}", plain(&finding.about), plain(&finding.fact)),
    };
    hanging(out, first, &text, WIDTH)?;
    if finding.severity >= Severity::Warning {
        let why = format!("({}) {}", finding.id.name(), plain(&finding.why));
        hanging(out, INDENT.to_owned(), &why, WIDTH)?;
        for fix in &finding.fix {
            // Never broken: it is for copying.
            writeln!(out, "{INDENT}  # {}", plain(fix))?;
        }
    }
    Ok(())
}

const INDENT: &str = "                   ";
const WIDTH: usize = 96;
/// More than that in a row would hide what is not well.
const MOST_WELL: usize = 6;
