//! The story of a frame that was not sent.

use std::io::{self, Write};

use super::{plain, wrap::hanging};
use crate::control::api::{TraceCopy, TraceReport, TraceVerdict};

/// Writes it step by step, all switches in one.
pub(in crate::cli) fn trace(out: &mut impl Write, report: &TraceReport) -> io::Result<()> {
    let place = match (&report.port, &report.peer) {
        (Some(port), _) => port.to_string(),
        (None, Some(peer)) => peer.to_string(),
        (None, None) => "?".to_owned(),
    };
    writeln!(out, "{place}: {}", plain(&report.frame))?;
    let mut number = 0;
    steps(out, report, &mut number)?;
    for next in &report.then {
        let at = next.switch.as_str();
        let from = next.peer.map(|peer| format!(", from {peer}"));
        writeln!(out, "then at {}{}", plain(at), from.unwrap_or_default())?;
        steps(out, next, &mut number)?;
    }
    writeln!(out, "=> {}", outcome(report))?;
    for report in std::iter::once(report).chain(&report.then) {
        if let Some(fix) = &report.fix {
            hanging(out, "   fix: ".to_owned(), &plain(fix), WIDTH)?;
        }
    }
    Ok(())
}

fn steps(out: &mut impl Write, report: &TraceReport, number: &mut usize) -> io::Result<()> {
    for step in &report.steps {
        *number += 1;
        let lead = format!("{number:>3}. {:<8} ", step.step);
        hanging(out, lead, &plain(&step.text), WIDTH)?;
    }
    Ok(())
}

/// Who gets it in the end, and who does not.
fn outcome(report: &TraceReport) -> String {
    if report.verdict == TraceVerdict::Answered {
        return "answered by the switch itself".to_owned();
    }
    let mut outcome = Outcome::default();
    outcome.add(report, "");
    for next in &report.then {
        outcome.add(next, &format!(" at {}", plain(&next.switch)));
    }
    let parts = [
        ("delivered to", outcome.delivered),
        ("sent to", outcome.sent),
        ("dropped", outcome.dropped),
    ];
    let parts = parts.into_iter().filter(|(_, places)| !places.is_empty());
    let parts: Vec<_> = parts
        .map(|(verb, places)| format!("{verb} {}", places.join(", ")))
        .collect();
    parts.join("; ")
}

#[derive(Default)]
struct Outcome {
    delivered: Vec<String>,
    /// To VTEPs; what they make of it is not told.
    sent: Vec<String>,
    dropped: Vec<String>,
}

impl Outcome {
    fn add(&mut self, report: &TraceReport, at: &str) {
        for copy in &report.copies {
            let place = format!("{}{at}", place(copy));
            let goes_on = |next: &TraceReport| {
                let mut to = copy.datagrams.iter().map(|datagrams| datagrams.to.ip());
                to.any(|ip| Some(ip) == next.local)
            };
            for reason in copy.drops.keys() {
                let reason = plain(reason);
                self.dropped
                    .push(format!("on the way to {place} ({reason})"));
            }
            if copy.frames == 0 || report.then.iter().any(goes_on) {
                continue;
            }
            match copy.port {
                Some(_) => self.delivered.push(place),
                None => self.sent.push(place),
            }
        }
        if report.copies.is_empty()
            && let Some(reason) = &report.reason
        {
            let at = at.strip_prefix(' ').unwrap_or("here");
            self.dropped.push(format!("{at} ({})", plain(reason)));
        }
    }
}

fn place(copy: &TraceCopy) -> String {
    match (&copy.port, &copy.remote) {
        (Some(port), _) => port.to_string(),
        (None, Some(remote)) => plain(remote),
        (None, None) => "?".to_owned(),
    }
}

const WIDTH: usize = 98;
