//! Text in lines that fit a terminal.

use std::io::{self, Write};

/// `text` in lines of at most `width` characters, broken at blanks, if its words let it.
pub(in crate::cli) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Writes `text` behind `lead`, in lines of at most `width` characters that all start below its first.
pub(super) fn hanging(
    out: &mut impl Write,
    mut lead: String,
    text: &str,
    width: usize,
) -> io::Result<()> {
    let indent = lead.chars().count();
    for line in wrapped(text, width.saturating_sub(indent)) {
        lead.push_str(&line);
        writeln!(out, "{}", lead.trim_end())?;
        lead = " ".repeat(indent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_long_as_their_characters_let_them() {
        assert_eq!(wrapped("äö ü a", 4), ["äö ü", "a"]);
        assert_eq!(wrapped("toolong a b", 3), ["toolong", "a b"]);
        assert_eq!(wrapped("", 3), [""]);
        let mut out = Vec::new();
        hanging(&mut out, "1. ".to_owned(), "aa bb cc", 8).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "1. aa bb\n   cc\n");
    }
}
