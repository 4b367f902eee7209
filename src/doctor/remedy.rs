//! Commands that repair something, as they are typed.

use crate::config::{BridgeSpec, PortSpec};

/// Gives a port an MTU that is not larger than `to`. Everything that tells how to mend an MTU asks
/// here, so that all of it says the same.
///
/// `auto` is what `--mtu auto` makes of the bridge's MTU, if that is good enough.
pub fn lower_mtu(bridge: &BridgeSpec, port: &PortSpec, to: u32, auto: Option<u32>) -> String {
    match auto {
        // A port that has an MTU of its own does not follow the bridge's.
        Some(_) if port.mtu.is_none() && bridge.mtu.is_some() => {
            format!("tapswitch bridge set {} --mtu auto", bridge.name)
        }
        _ => format!("tapswitch port set {} mtu {to}", port.name),
    }
}

/// Makes lines for a shell of a sentence like `do this: COMMAND, so; or that: COMMAND`: the command
/// first, and the words as a comment behind it. A sentence without a command makes no line.
pub(super) fn for_a_shell(sentence: &str) -> Vec<String> {
    let mut lines: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut before = Vec::new();
    let clauses = sentence.split("; ").flat_map(|part| part.split(", or "));
    for clause in clauses {
        let clause = clause.strip_prefix("or ").unwrap_or(clause);
        let start = PROGRAMS.iter().find_map(|program| {
            let at = clause.find(&format!(": {program} "))?;
            Some((clause.get(..at)?, clause.get(at + 2..)?))
        });
        match (start, lines.last_mut()) {
            (Some((words, rest)), _) => {
                let end = [", ", " ("].iter().filter_map(|end| rest.find(end)).min();
                let (command, more) = rest.split_at(end.unwrap_or(rest.len()));
                let more = more.trim_start_matches(", ").trim();
                before.push(words);
                before.extend(Some(more).filter(|more| !more.is_empty()));
                lines.push((command, std::mem::take(&mut before)));
            }
            (None, Some((_, words))) => words.push(clause),
            (None, None) => before.push(clause),
        }
    }
    let line = |(command, words): (&str, Vec<&str>)| format!("{command}    # {}", words.join("; "));
    lines.into_iter().map(line).collect()
}

/// What commands begin with.
const PROGRAMS: [&str; 4] = ["tapswitch", "ip", "ethtool", "nft"];
