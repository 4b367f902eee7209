//! Pausing at each frame.

use std::io::{self, BufRead, Read, Write};

use crate::{
    cli::explain,
    lesson::{Lang, narrate::Style, watch::Seen},
};

/// What comes after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next frame, and another pause.
    Frame,
    /// All others without a pause.
    All,
    /// The end of the lesson.
    Quit,
}

/// Waits for a key and Enter after a frame was told: Enter or `n` for the next, `c` to go on
/// without pauses, `b` for its bytes, field by field, `q` to quit. The end of `input` means `c`.
pub(super) fn pause(
    input: &mut impl BufRead,
    out: &mut impl Write,
    seen: &Seen,
    style: Style,
) -> io::Result<Next> {
    let prompt = match style.lang {
        Lang::En => "Enter: next, b: its bytes, c: go on without pauses, q: quit > ",
        Lang::Zh => "回车：下一个，b：逐字节解释，c：不再暂停，q：退出 > ",
    };
    loop {
        write!(out, "{:17}{prompt}", "")?;
        out.flush()?;
        let mut line = String::new();
        if input.by_ref().take(LONGEST).read_line(&mut line)? == 0 {
            writeln!(out)?;
            return Ok(Next::All);
        }
        match line.trim() {
            "" | "n" => return Ok(Next::Frame),
            "c" => return Ok(Next::All),
            "q" => return Ok(Next::Quit),
            "b" => bytes(out, seen, style)?,
            // The prompt again says what there is.
            _ => {}
        }
    }
}

/// The frame field by field, in its datagram if it came or left in one.
fn bytes(out: &mut impl Write, seen: &Seen, style: Style) -> io::Result<()> {
    let left = seen.copies.iter().find_map(|copy| copy.datagram.as_ref());
    let datagram = seen.datagram.as_ref().or(left);
    let (bytes, len) = datagram.map_or((&seen.bytes, seen.len), |datagram| {
        (&datagram.bytes, datagram.len)
    });
    writeln!(out)?;
    explain::frame(out, bytes, len, style.width, style.has_color)?;
    writeln!(out)
}

/// Nobody types more.
const LONGEST: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lesson::watch::Fate, sim::frames, time::Timestamp, wire::describe};

    fn ask(input: &str) -> (Next, String) {
        let bytes = frames::arp_request(1, 2);
        let seen = Seen {
            at: Timestamp::ZERO,
            node: "host".to_owned(),
            place: "podA".to_owned(),
            fate: Fate::Flooded,
            class: None,
            reason: None,
            copies: Vec::new(),
            row: None,
            learned: None,
            len: bytes.len(),
            text: describe(&bytes),
            bytes,
            offload: None,
            datagram: None,
        };
        let style = Style {
            lang: Lang::En,
            width: 80,
            has_color: false,
        };
        let mut out = Vec::new();
        let next = pause(&mut input.as_bytes(), &mut out, &seen, style).unwrap();
        (next, String::from_utf8(out).unwrap())
    }

    #[test]
    fn enter_is_the_next_frame_and_letters_are_what_the_prompt_says() {
        for (input, next) in [
            ("\n", Next::Frame),
            ("n\n", Next::Frame),
            ("c\n", Next::All),
            ("q\n", Next::Quit),
            ("what?\n q \n", Next::Quit),
            ("", Next::All),
        ] {
            assert_eq!(ask(input).0, next, "{input:?}");
        }
    }

    #[test]
    fn the_bytes_are_explained_field_by_field_and_it_asks_again() {
        let (next, text) = ask("b\nn\n");

        assert_eq!(next, Next::Frame);
        assert!(text.contains("ff:ff:ff:ff:ff:ff  broadcast"), "{text}");
        assert!(text.contains("request: who has"), "{text}");
        assert_eq!(text.matches("Enter: next").count(), 2);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }
}
