//! Frames told in words, a few lines for each.
//!
//! ```text
//!   1.   +0.00 ms  podA  arp who-has 10.1.1.20 tell 10.1.1.10  (42 bytes)
//!                  flooded to podB, podC: a broadcast is for everybody else
//!                  learned: 02:00:00:00:00:01 is at podA
//! ```

use std::{
    io::{self, Write},
    net::IpAddr,
    time::Duration,
};

use super::{
    Lang,
    watch::{Fate, Seen, VTEP},
    words,
};
use crate::{
    cli::output::{columns, wrapped},
    time::Timestamp,
};

/// How frames are told.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The language.
    pub lang: Lang,
    /// Columns of the terminal.
    pub width: usize,
    /// Whether it shows colours.
    pub has_color: bool,
}

/// Tells the frames of one step, one after the other.
#[derive(Debug)]
pub struct Narrator {
    style: Style,
    start: Timestamp,
    number: usize,
    noise: usize,
    /// The node of the last frame, so that it is said when it changes.
    node: Option<String>,
    /// Whether more than one has been seen, or is known of.
    has_nodes: bool,
}

impl Narrator {
    /// For a step that began at `start`, which counts from 1970.
    pub fn new(style: Style, start: Timestamp) -> Self {
        Self {
            style,
            start,
            number: 0,
            noise: 0,
            node: None,
            has_nodes: false,
        }
    }

    /// The same for a lesson with several nodes: each frame says where it is.
    #[must_use]
    pub fn with_nodes(mut self, has_nodes: bool) -> Self {
        self.has_nodes = has_nodes;
        self
    }

    /// Tells one frame, and `say` below it; `is_asserted`: the lesson is about it, so it is told
    /// whatever it is. Whether it was told: noise is only counted.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn frame(
        &mut self,
        out: &mut impl Write,
        seen: &Seen,
        say: Option<&str>,
        is_asserted: bool,
    ) -> io::Result<bool> {
        if seen.is_noise() && !is_asserted {
            self.noise += 1;
            return Ok(false);
        }
        self.number += 1;
        self.head(out, seen)?;
        for (index, line) in lines(seen, self.style.lang).iter().enumerate() {
            let color = match (index, seen.fate) {
                (0, Fate::Forwarded) => Some(GREEN),
                (0, Fate::Flooded) => Some(YELLOW),
                (0, Fate::Dropped) => Some(RED),
                (0, Fate::Consumed) => Some(CYAN),
                _ => None,
            };
            self.below(out, line, color)?;
        }
        if let Some(say) = say {
            for paragraph in say.lines() {
                self.below(out, &format!("\u{bb} {paragraph}"), Some(BOLD))?;
            }
        }
        Ok(true)
    }

    /// Tells how many were not told.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn end(&self, out: &mut impl Write) -> io::Result<()> {
        let text = match (self.style.lang, self.noise) {
            (_, 0) => return Ok(()),
            (Lang::En, 1) => "and one frame by which hosts introduce themselves (IPv6)".to_owned(),
            (Lang::En, noise) => {
                format!("and {noise} frames by which hosts introduce themselves (IPv6)")
            }
            (Lang::Zh, noise) => format!("另有 {noise} 个主机自我介绍的帧（IPv6），这里不细说"),
        };
        self.below(out, &text, Some(DIM))
    }

    /// Number, time, place, and what it is.
    fn head(&mut self, out: &mut impl Write, seen: &Seen) -> io::Result<()> {
        let number = format!("{:>3}.", self.number);
        let time = since(seen.at.since(self.start));
        let is_new = self.node.as_ref().is_some_and(|node| *node != seen.node);
        self.has_nodes |= is_new;
        self.node = Some(seen.node.clone());
        let place = match self.has_nodes {
            true => format!("{}, {}", seen.node, place(&seen.place, self.style.lang)),
            false => place(&seen.place, self.style.lang),
        };
        let len = match self.style.lang {
            Lang::En => format!("({} bytes)", seen.len),
            Lang::Zh => format!("（{} 字节）", seen.len),
        };
        let gap = match self.style.lang {
            Lang::En => "  ",
            Lang::Zh => "",
        };
        let what = format!("{}{gap}{len}", plain(&seen.text));
        let place = plain(&place);
        let lead = format!("{} {time:>10}  ", self.paint(DIM, &number));
        let room = self.style.width.saturating_sub(INDENT);
        if columns(&place) + 2 + columns(&what) <= room {
            return writeln!(out, "{lead}{}  {what}", self.paint(BOLD, &place));
        }
        // What is long has lines of its own.
        writeln!(out, "{lead}{}", self.paint(BOLD, &place))?;
        self.below(out, &what, None)
    }

    fn below(&self, out: &mut impl Write, text: &str, color: Option<&str>) -> io::Result<()> {
        let text = plain(text);
        let room = self.style.width.saturating_sub(INDENT);
        let mut lines = wrapped(&text, room);
        if lines.len() > 1 {
            // What goes on is set in, and so has less room.
            lines = wrapped(&text, room.saturating_sub(2));
        }
        let mut indent = INDENT;
        for line in lines {
            let line = match color {
                Some(color) => self.paint(color, &line),
                None => line,
            };
            writeln!(out, "{:indent$}{line}", "")?;
            indent = INDENT + 2;
        }
        Ok(())
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.style.has_color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// What became of a frame and why, in `lang`: a sentence a line, the first about its fate.
pub fn lines(seen: &Seen, lang: Lang) -> Vec<String> {
    match lang {
        Lang::En => words::en::lines(seen),
        Lang::Zh => words::zh::lines(seen),
    }
}

/// A place as people call it.
pub(super) fn place(place: &str, lang: Lang) -> String {
    match (place.parse::<IpAddr>(), lang) {
        (Ok(ip), _) => format!("VTEP {ip}"),
        (_, Lang::En) if place == VTEP => "an unknown VTEP".to_owned(),
        (_, Lang::Zh) if place == VTEP => "未知的 VTEP".to_owned(),
        (_, Lang::En) if place == super::watch::SWITCH => "the switch itself".to_owned(),
        (_, Lang::Zh) if place == super::watch::SWITCH => "交换机自己".to_owned(),
        _ => place.to_owned(),
    }
}

/// `+0.25 ms`, `+12.3 s`.
fn since(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..10_000_000 => format!("+{}.{:02} ms", micros / 1_000, micros % 1_000 / 10),
        _ => format!("+{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

/// Without what would move the cursor: texts come from frames.
fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).collect()
}

/// Number and time.
const INDENT: usize = 17;
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

#[cfg(test)]
mod tests;
