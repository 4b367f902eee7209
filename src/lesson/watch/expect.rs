//! Frames that a lesson expects, held against those that were seen.

use std::fmt::Write;

use super::{Fate, Seen};
use crate::{lesson::Lang, time::Timestamp};

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
/// What was expected first of what is not there, the frame that comes nearest, and all frames; in
/// `lang`.
pub fn find(expected: &[Expected], seen: &[Seen], lang: Lang) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    let mut start = 0;
    for (index, wanted) in expected.iter().enumerate() {
        let rest = seen.iter().enumerate().skip(start);
        let Some((at, _)) = { rest }.find(|(_, frame)| wanted.is(frame)) else {
            return Err(missing((index, expected.len()), wanted, seen, start, lang));
        };
        found.push(at);
        start = at + 1;
    }
    Ok(found)
}

impl Expected {
    /// Whether `frame` is what is expected.
    pub fn is(&self, frame: &Seen) -> bool {
        self.differences(frame, Lang::En).is_empty()
    }

    /// In what `frame` is something else, the most telling first.
    fn differences(&self, frame: &Seen, lang: Lang) -> Vec<String> {
        let say = |en: String, zh: String| match lang {
            Lang::En => en,
            Lang::Zh => zh,
        };
        let mut found = Vec::new();
        let mut differ = |is_same: bool, text: &dyn Fn() -> String| {
            if !is_same {
                found.push(text());
            }
        };
        differ(frame.text.contains(&self.what), &|| {
            let what = &self.what;
            say(
                format!("it is not {what:?}"),
                format!("内容里没有 {what:?}"),
            )
        });
        let is_there = frame.node == self.node && frame.place == self.at;
        differ(is_there, &|| {
            let at = at(&frame.node, &frame.place);
            say(format!("it came in at {at}"), format!("它从 {at} 进来"))
        });
        differ(self.fate.is_none_or(|fate| fate == frame.fate), &|| {
            let fate = frame.fate.in_lang(lang);
            say(format!("it was {fate}"), format!("它的去向是{fate}"))
        });
        let reached = frame.reached();
        let is_all = self.to.as_ref().is_none_or(|to| {
            let mut to: Vec<&str> = to.iter().map(String::as_str).collect();
            to.sort_unstable();
            to.dedup();
            to == reached
        });
        differ(is_all, &|| match reached.is_empty() {
            true => say("it reached nobody".to_owned(), "谁也没有收到它".to_owned()),
            false => {
                let reached = reached.join(", ");
                say(format!("it reached {reached}"), format!("它到了 {reached}"))
            }
        });
        let is_reason = self.reason.is_none() || self.reason == frame.reason;
        differ(is_reason, &|| match &frame.reason {
            Some(reason) => say(
                format!("the reason was {reason}"),
                format!("丢弃的原因是 {reason}"),
            ),
            None => say(
                "it was dropped for no reason".to_owned(),
                "没有丢弃的原因".to_owned(),
            ),
        });
        found
    }
}

impl Expected {
    /// All of it, in a line.
    fn line(&self, lang: Lang) -> String {
        let mut line = format!("{}: {}", at(&self.node, &self.at), self.what);
        if let Some(fate) = self.fate {
            line += &format!(" -> {}", fate.in_lang(lang));
        }
        match (self.to.as_deref(), lang) {
            (Some([]), Lang::En) => line += " to nobody",
            (Some([]), Lang::Zh) => line += "，谁也收不到",
            (Some(to), _) => line += &reaching(&to.join(", "), lang),
            (None, _) => {}
        }
        if let Some(reason) = &self.reason {
            line += &format!(": {reason}");
        }
        line
    }
}

fn reaching(to: &str, lang: Lang) -> String {
    match lang {
        Lang::En => format!(" to {to}"),
        Lang::Zh => format!("到 {to}"),
    }
}

/// What to say of a frame that is not there.
fn missing(
    (index, count): (usize, usize),
    wanted: &Expected,
    seen: &[Seen],
    start: usize,
    lang: Lang,
) -> String {
    let say = |en: String, zh: String| match lang {
        Lang::En => en,
        Lang::Zh => zh,
    };
    let [expected, nearest_is] = match lang {
        Lang::En => ["expected", "nearest "],
        Lang::Zh => ["应有", "最近"],
    };
    let nth = index + 1;
    let mut text = say(
        format!("frame {nth} of {count} was not seen\n"),
        format!("{count} 个帧中没有看到第 {nth} 个\n"),
    );
    let _ = writeln!(text, "  {expected}  {}", wanted.line(lang));
    let number = start;
    if let Some(early) = seen[..start.min(seen.len())]
        .iter()
        .position(|frame| wanted.is(frame))
    {
        let early = early + 1;
        let why = say(
            format!(
                "{early}. is just that, but comes before {number}., which the lesson expects earlier"
            ),
            format!("{early}. 正是它，但来得比 {number}. 早，而课程认为 {number}. 在前"),
        );
        let _ = writeln!(text, "  {nearest_is}  {why}");
    } else {
        // The one with the fewest differences, and of those the first after what was found.
        let nearest = seen.iter().enumerate().min_by_key(|(at, frame)| {
            let differences = wanted.differences(frame, lang);
            let is_other = !frame.text.contains(&wanted.what);
            (is_other, differences.len(), *at < start, *at)
        });
        if let Some((at, frame)) = nearest {
            let differences = wanted.differences(frame, lang).join(", ");
            let line = line(frame, lang);
            let _ = writeln!(text, "  {nearest_is}  {}. {line}", at + 1);
            let _ = writeln!(text, "            {differences}");
        }
    }
    if seen.is_empty() {
        return text
            + &say(
                "  no frame was seen at all".to_owned(),
                "  一个帧也没有看到".to_owned(),
            );
    }
    text += &say(
        "  all frames of the step\n".to_owned(),
        "  这一步的所有帧\n".to_owned(),
    );
    let begin = seen.first().map_or(Timestamp::ZERO, |frame| frame.at);
    for (index, frame) in seen.iter().enumerate().take(MOST) {
        let micros = frame.at.nanos_since(begin) / 1_000;
        let time = format!("+{}.{:03}", micros / 1_000, micros % 1_000);
        let _ = writeln!(
            text,
            "  {:>4}. {time:>9} ms  {}",
            index + 1,
            line(frame, lang)
        );
    }
    if seen.len() > MOST {
        let more = seen.len() - MOST;
        let more = say(format!("and {more} more"), format!("还有 {more} 个"));
        let _ = writeln!(text, "        {more}");
    }
    text.trim_end().to_owned()
}

/// A frame in a line.
fn line(frame: &Seen, lang: Lang) -> String {
    let place = at(&frame.node, &frame.place);
    let fate = frame.fate.in_lang(lang);
    let mut line = format!("{place}: {} -> {fate}", frame.text);
    let reached = frame.reached();
    if !reached.is_empty() {
        line += &reaching(&reached.join(", "), lang);
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
