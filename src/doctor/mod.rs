//! `doctor`: looks at each link of the chain that a frame passes, and says which is broken.
//!
//! Two halves. The daemon collects [`Facts`], with no judgement: what the settings say, what the
//! namespaces say, what the counters say, and what peers answer. [`diagnose`] makes findings of
//! them: pure functions, so that every rule here can be tested with facts that are made up.
//!
//! A finding is a fact with its numbers, why it matters, and the command that repairs it. What is as
//! it should be is a finding too. Of those that are equally bad, the one that comes first in
//! [`Check`] is the most likely cause of the others.

mod bridge;
mod facts;
mod filter;
mod finding;
mod overlay;
mod path;
mod place;
mod port;
mod remedy;

use self::finding::Notes;
pub use self::{
    facts::{
        BridgeFacts, Count, Entry, Facts, Heard, Inside, Loss, PathFacts, PeerFacts, PortFacts,
        Probe, Scope, Seen, Surroundings, Udp, VtepFacts, Whereabouts, pairs,
    },
    finding::{Check, Finding, Report, Severity, Step},
    place::Place,
    remedy::lower_mtu,
};

/// Judges the facts.
pub fn diagnose(facts: &Facts) -> Report {
    let mut notes = Notes::default();
    notes.ok(Check::Daemon, "daemon", facts.daemon.clone());
    if facts.unaccounted != 0 {
        let fact = format!("{} frames are unaccounted for", facts.unaccounted);
        let fix = ["tapswitch stats --json".to_owned()];
        notes.bad(Check::Unaccounted, Severity::Warning, "daemon", fact, fix);
    }
    let (from, to) = (facts.scope.from(), facts.scope.to());
    let ends = from.into_iter().chain(to);
    let ends: Vec<&PortFacts> = match facts.scope {
        Scope::Switch => facts.ports.iter().collect(),
        _ => ends.filter_map(|name| facts.port(name)).collect(),
    };
    for port in ends {
        port::judge(&mut notes, facts, port);
    }
    bridge::judge(&mut notes, facts);
    if facts.scope.is_path() {
        path::judge(&mut notes, facts);
    }
    overlay::judge(&mut notes, facts);
    Report::new(facts.scope.to_string(), notes.0)
}

#[cfg(test)]
mod tests;
