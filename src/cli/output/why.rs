//! What became of frames, and where FDB entries come from, as people read it.

use std::io::{self, Write};

use super::{event::clock, plain};
use crate::control::api::{FdbChange, FdbInfo, FdbState, FdbStory, WhyEntry, WhyFate, WhyReport};

/// Writes a paragraph for each flow and fate, newest last.
pub(super) fn report(out: &mut impl Write, report: &WhyReport) -> io::Result<()> {
    if report.left_out > 0 {
        writeln!(
            out,
            "{} older ones are left out: ask for one address or port, or a time\n",
            report.left_out
        )?;
    }
    for (index, entry) in report.entries.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        paragraph(out, entry)?;
    }
    if let Some(hint) = &report.hint {
        if !report.entries.is_empty() {
            writeln!(out)?;
        }
        let mut lines = lines(&plain(hint), 88).into_iter();
        lines.try_for_each(|line| writeln!(out, "{line}"))?;
    }
    if report.crowded_out > 0 {
        let count = report.crowded_out;
        writeln!(
            out,
            "\n{count} flows had no room in the recorder and may be missing here"
        )?;
    }
    Ok(())
}

fn paragraph(out: &mut impl Write, entry: &WhyEntry) -> io::Result<()> {
    let ago = ago(entry.age_s);
    let count = match entry.count {
        1 => "1 frame".to_owned(),
        count => format!("{count} frames since {}", clock(entry.first)),
    };
    writeln!(out, "{}, {ago}: {count}", clock(entry.time))?;
    let mut line = |label: &str, text: &str| wrapped(out, label, &plain(text));
    line("frame", &entry.frame)?;
    line("from", &origin(entry))?;
    let why = &entry.why;
    match entry.fate {
        WhyFate::Forwarded => line("to", &format!("{}: {why}", entry.to.join(", ")))?,
        WhyFate::Flooded => {
            let to = match entry.to.is_empty() {
                true => format!("{} places", entry.copies),
                false => entry.to.join(", "),
            };
            line("flooded", &format!("to {to}: {why}"))?;
        }
        WhyFate::Dropped | WhyFate::Lost => {
            let reason = entry.reason.as_deref().unwrap_or_default();
            let to = match &entry.to[..] {
                [] => String::new(),
                to => format!(" on its way to {}", to.join(", ")),
            };
            line("dropped", &format!("{reason}{to}: {why}"))?;
        }
    }
    if let Some(learned) = &entry.learned {
        line("learned", learned)?;
    }
    if let Some(remedy) = &entry.remedy {
        line("fix", remedy)?;
    }
    Ok(())
}

fn origin(entry: &WhyEntry) -> String {
    let from = match (&entry.from_port, &entry.from_remote) {
        (Some(port), _) => port.to_string(),
        (None, Some(remote)) => remote.clone(),
        (None, None) => "this switch itself".to_owned(),
    };
    let mut text = from;
    if let Some(bridge) = &entry.bridge {
        text.push_str(&format!(" on {bridge}"));
    }
    if let Some(vni) = &entry.vni {
        text.push_str(&format!(", VNI {vni}"));
    }
    if let (Some(src), Some(dst)) = (entry.src, entry.dst) {
        text.push_str(&format!(", {src} > {dst}"));
    }
    text.push_str(&format!(", {} bytes", entry.len));
    text
}

/// Writes a line with a label, and goes on in further lines where it gets too long.
fn wrapped(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    let mut lines = labels.zip(lines(text, WIDTH));
    lines.try_for_each(|(label, line)| writeln!(out, "  {label:<8} {line}"))
}

/// `text` in lines of at most `width` characters, if its words are not longer.
fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Writes what happened to the entries of an address.
pub(super) fn stories(out: &mut impl Write, stories: &[FdbStory]) -> io::Result<()> {
    for (index, story) in stories.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let vlan = match story.vlan {
            0 => String::new(),
            vlan => format!(" vlan {vlan}"),
        };
        let now = story
            .entry
            .as_ref()
            .map_or_else(|| "not in the fdb now".to_owned(), present);
        writeln!(out, "{}{vlan} on {}: {now}", story.mac, story.bridge)?;
        if story.forgotten > 0 {
            writeln!(out, "  {} older changes are forgotten", story.forgotten)?;
        }
        for change in &story.changes {
            self::change(out, change)?;
        }
        if let Some(hint) = &story.hint {
            writeln!(out, "  {}", plain(hint))?;
        }
    }
    let lost = stories
        .iter()
        .map(|story| story.lost_news)
        .max()
        .unwrap_or(0);
    if lost > 0 {
        writeln!(
            out,
            "\n{lost} news of addresses were lost under load and may be missing here"
        )?;
    }
    Ok(())
}

fn present(entry: &FdbInfo) -> String {
    let place = place(
        entry.port.as_ref().map(|port| port.as_str()),
        entry.remote.as_deref(),
    );
    let state = match entry.state {
        FdbState::Learned if entry.frozen => "learned, held there",
        FdbState::Learned => "learned",
        FdbState::Static => "static",
        FdbState::Local => "local",
        FdbState::Control => "from a control plane",
    };
    let seen = match entry.state {
        FdbState::Learned => format!(", last seen {}", ago(entry.age_s)),
        _ => String::new(),
    };
    format!("at {place}, {state}{seen}")
}

fn change(out: &mut impl Write, change: &FdbChange) -> io::Result<()> {
    let place_of = |port: &Option<crate::names::Name>, remote: &Option<String>| {
        place(port.as_ref().map(|port| port.as_str()), remote.as_deref())
    };
    let here = place_of(&change.port, &change.remote);
    let old = place_of(&change.old_port, &change.old_remote);
    let what = match change.change.as_str() {
        "learned" => format!("learned at {here}"),
        "moved" => format!("moved from {old} to {here}"),
        "flapping" => format!("moved from {old} to {here}, too often: held there for 180 s"),
        "frozen" => format!("seen at {here}, but held where it is"),
        "static-violation" => format!("seen at {here}, but its entry is static"),
        "limit" => format!("seen at {here}, but not learned: the fdb is full"),
        "added" => format!("added at {here}"),
        other => format!("{} at {here}", plain(other)),
    };
    let times = match change.count {
        1 => String::new(),
        count => format!(", {count} times, the last"),
    };
    let by = match (&change.frame, &change.cause) {
        (Some(frame), _) => format!("{times} by {}", plain(frame)),
        (None, Some(cause)) => format!("{times}: {}", plain(cause)),
        (None, None) => times,
    };
    let time = clock(change.time);
    writeln!(out, "  {time}, {}: {what}{by}", ago(change.age_s))
}

fn place(port: Option<&str>, remote: Option<&str>) -> String {
    match (port, remote) {
        (Some(port), _) => port.to_owned(),
        (None, Some(remote)) => plain(remote),
        (None, None) => "a place that is no longer there".to_owned(),
    }
}

fn ago(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{seconds:.1} s ago"),
        ..3600.0 => format!("{:.0} min ago", seconds / 60.0),
        _ => format!("{:.1} h ago", seconds / 3600.0),
    }
}

/// Characters behind a label: 90 in all.
const WIDTH: usize = 79;
