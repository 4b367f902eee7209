//! Frames told in words, a line or two for each.

use std::io::{self, Write};

use super::{Lang, watch::Seen};
use crate::time::Timestamp;

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
}

impl Narrator {
    /// For a step that began at `start`, which counts from 1970.
    pub fn new(style: Style, start: Timestamp) -> Self {
        Self {
            style,
            start,
            number: 0,
            noise: 0,
        }
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
        let _ = (self.style, self.start, is_asserted);
        self.number += 1;
        writeln!(out, "{:>3}. {} {}", self.number, seen.place, seen.text)?;
        say.map_or(Ok(()), |say| writeln!(out, "     {say}"))?;
        Ok(true)
    }

    /// Tells how many were not told.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn end(&self, out: &mut impl Write) -> io::Result<()> {
        let _ = (self.noise, out);
        Ok(())
    }
}
