//! Text in lines that fit a terminal.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` in lines of at most `width` columns, if its words let it: broken at blanks, and between
/// Chinese characters, of which each has two columns.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let mut glue = " ";
        for piece in pieces(word) {
            match lines.last_mut() {
                Some(line) if columns(line) + glue.len() + columns(piece) <= width => {
                    line.push_str(glue);
                    line.push_str(piece);
                }
                _ => lines.push(piece.to_owned()),
            }
            glue = "";
        }
    }
    lines
}

/// How many columns of a terminal `text` takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// The parts of a word between which a line may end: at wide characters, but neither before what
/// closes nor after what opens.
fn pieces(word: &str) -> Vec<&str> {
    let is_wide = |char: char| char.width() == Some(2);
    let mut pieces = Vec::new();
    let (mut start, mut before) = (0, None);
    for (at, char) in word.char_indices() {
        if let Some(before) = before
            && (is_wide(before) || is_wide(char))
            && !CLOSING.contains(char)
            && !OPENING.contains(before)
        {
            pieces.push(&word[start..at]);
            start = at;
        }
        before = Some(char);
    }
    pieces.push(&word[start..]);
    pieces
}

/// What never begins a line.
const CLOSING: &str = "，。！？；：、）」』》〉】”’…—,.!?;:)]}%";
/// What never ends one.
const OPENING: &str = "（「『《〈【“‘([{";

/// Writes `text` behind `lead`, in lines of at most `width` columns that all start below its first.
pub(in crate::cli) fn hanging(
    out: &mut impl Write,
    mut lead: String,
    text: &str,
    width: usize,
) -> io::Result<()> {
    let indent = columns(&lead);
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

    #[test]
    fn chinese_is_broken_between_characters_and_keeps_its_marks() {
        assert_eq!(wrapped("交换机学习地址。", 6), ["交换机", "学习地", "址。"]);
        assert_eq!(wrapped("交换机学习。", 10), ["交换机学", "习。"]);
        assert_eq!(wrapped("一个 Pod 加上网", 9), ["一个 Pod", "加上网"]);
        assert_eq!(wrapped("网桥br0学习", 7), ["网桥br0", "学习"]);
    }
}
