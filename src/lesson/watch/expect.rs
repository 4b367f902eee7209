//! Frames that a lesson expects, held against those that were seen.

use std::fmt::{self, Write};

use super::{Fate, Seen};
use crate::time::Timestamp;

/// A frame that a step must show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The node that sees it.
    pub node: String,
    /// Where it comes in.
    pub at: String,
    /// Part of its text.
    pub what: String,
    /// What becomes of it; `None`: anything.
    pub fate: Option<Fate>,
    /// Exactly the places that it reaches, in any order; `None`: any.
    pub to: Option<Vec<String>>,
    /// The name of the reason for which it is dropped; `None`: any.
    pub reason: Option<String>,
}

/// Finds the frames of `expected` among `seen`, in this order, with any others between: the index of
/// each in `seen`.
///
/// # Errors
/// What was expected first of what is not there, the frame that comes nearest, and all frames.
pub fn find(expected: &[Expected], seen: &[Seen]) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    let mut start = 0;
    for (index, wanted) in expected.iter().enumerate() {
        let rest = seen.iter().enumerate().skip(start);
        let Some((at, _)) = { rest }.find(|(_, frame)| wanted.is(frame)) else {
            return Err(missing((index, expected.len()), wanted, seen, start));
        };
        found.push(at);
        start = at + 1;
    }
    Ok(found)
}

impl Expected {
    /// Whether `frame` is what is expected.
    pub fn is(&self, frame: &Seen) -> bool {
        self.differences(frame).is_empty()
    }

    /// In what `frame` is something else, the most telling first.
    fn differences(&self, frame: &Seen) -> Vec<String> {
        let mut found = Vec::new();
        let mut differ = |is_same: bool, text: &dyn Fn() -> String| {
            if !is_same {
                found.push(text());
            }
        };
        differ(frame.text.contains(&self.what), &|| {
            format!("it is not {:?}", self.what)
        });
        let is_there = frame.node == self.node && frame.place == self.at;
        differ(is_there, &|| {
            format!("it came in at {}", at(&frame.node, &frame.place))
        });
        differ(self.fate.is_none_or(|fate| fate == frame.fate), &|| {
            format!("it was {}", frame.fate)
        });
        let reached = frame.reached();
        let is_all = self.to.as_ref().is_none_or(|to| {
            let mut to: Vec<&str> = to.iter().map(String::as_str).collect();
            to.sort_unstable();
            to.dedup();
            to == reached
        });
        differ(is_all, &|| match reached.is_empty() {
            true => "it reached nobody".to_owned(),
            false => format!("it reached {}", reached.join(", ")),
        });
        let is_reason = self.reason.is_none() || self.reason == frame.reason;
        differ(is_reason, &|| match &frame.reason {
            Some(reason) => format!("the reason was {reason}"),
            None => "it was dropped for no reason".to_owned(),
        });
        found
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", at(&self.node, &self.at), self.what)?;
        if let Some(fate) = self.fate {
            write!(f, " -> {fate}")?;
        }
        match self.to.as_deref() {
            Some([]) => f.write_str(" to nobody")?,
            Some(to) => write!(f, " to {}", to.join(", "))?,
            None => {}
        }
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// What to say of a frame that is not there.
fn missing(
    (index, count): (usize, usize),
    wanted: &Expected,
    seen: &[Seen],
    start: usize,
) -> String {
    let mut text = format!("frame {} of {count} was not seen\n", index + 1);
    let _ = writeln!(text, "  expected  {wanted}");
    let number = start;
    if let Some(early) = seen[..start.min(seen.len())]
        .iter()
        .position(|frame| wanted.is(frame))
    {
        let early = early + 1;
        let _ = writeln!(
            text,
            "  nearest   {early}. is just that, but comes before {number}., which the lesson \
             expects earlier"
        );
    } else {
        // The one with the fewest differences, and of those the first after what was found.
        let nearest = seen.iter().enumerate().min_by_key(|(at, frame)| {
            let differences = wanted.differences(frame);
            let is_other = !frame.text.contains(&wanted.what);
            (is_other, differences.len(), *at < start, *at)
        });
        if let Some((at, frame)) = nearest {
            let (line, differences) = (line(frame), wanted.differences(frame).join(", "));
            let _ = writeln!(text, "  nearest   {}. {line}", at + 1);
            let _ = writeln!(text, "            {differences}");
        }
    }
    if seen.is_empty() {
        text += "  no frame was seen at all";
        return text;
    }
    text += "  all frames of the step\n";
    let begin = seen.first().map_or(Timestamp::ZERO, |frame| frame.at);
    for (index, frame) in seen.iter().enumerate().take(MOST) {
        let micros = frame.at.nanos_since(begin) / 1_000;
        let time = format!("+{}.{:03}", micros / 1_000, micros % 1_000);
        let _ = writeln!(text, "  {:>4}. {time:>9} ms  {}", index + 1, line(frame));
    }
    if seen.len() > MOST {
        let _ = writeln!(text, "        and {} more", seen.len() - MOST);
    }
    text.trim_end().to_owned()
}

/// A frame in a line.
fn line(frame: &Seen) -> String {
    let place = at(&frame.node, &frame.place);
    let mut line = format!("{place}: {} -> {}", frame.text, frame.fate);
    let reached = frame.reached();
    if !reached.is_empty() {
        line += &format!(" to {}", reached.join(", "));
    }
    if let Some(reason) = &frame.reason {
        line += &format!(": {reason}");
    }
    line
}

fn at(node: &str, place: &str) -> String {
    format!("{node}:{place}")
}

/// Frames that are listed.
const MOST: usize = 60;

#[cfg(test)]
mod tests;
