//! Frames as text: what people copy from a terminal, a document or another program.

/// The text is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// There is nothing in it.
    #[error("no hex digits; give bytes such as 'ff ff ff ff ff ff 02 00 ...'")]
    Nothing,
    /// A character that no byte is written with.
    #[error("line {line}: {text:?} is not made of hex digits")]
    NoDigit {
        /// Counted from 1.
        line: usize,
        /// The word that it is in.
        text: String,
    },
    /// Half a byte.
    #[error("line {line}: {text:?} has an odd number of hex digits; two make a byte")]
    Odd {
        /// Counted from 1.
        line: usize,
        /// The word.
        text: String,
    },
    /// The lines of a dump do not follow each other.
    #[error(
        "line {line}: it starts at byte {offset}, and {got} bytes came before; is a line missing?"
    )]
    Gap {
        /// Counted from 1.
        line: usize,
        /// What the line says.
        offset: usize,
        /// The bytes so far.
        got: usize,
    },
}

/// The frames in `text`.
///
/// These are understood, and told apart by themselves:
/// * hex digits, with or without spaces, colons, dashes, dots, commas, `0x` or `\x`, one frame in a
///   paragraph; `#` starts a comment;
/// * lines with an offset in front and perhaps characters behind, as `xxd`, `hexdump -C`,
///   `tcpdump -x` to `-XX`, `tshark -x` and Wireshark make them; offset 0 starts a frame, and lines
///   without an offset are left out.
///
/// # Errors
/// [`HexError`] says which line is not understood.
pub fn frames_from_text(text: &str) -> Result<Vec<Vec<u8>>, HexError> {
    let is_dump = text
        .lines()
        .filter_map(dump_line)
        .any(|(offset, _)| offset == 0);
    let frames = match is_dump {
        true => dump(text)?,
        false => plain(text)?,
    };
    match frames.is_empty() {
        true => Err(HexError::Nothing),
        false => Ok(frames),
    }
}

/// Paragraphs of hex digits.
fn plain(text: &str) -> Result<Vec<Vec<u8>>, HexError> {
    let mut frames = Vec::new();
    let mut frame = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split('#').next().unwrap_or("").trim();
        if content.is_empty() && !frame.is_empty() {
            frames.push(std::mem::take(&mut frame));
        }
        for word in content.split(is_separator).filter(|word| !word.is_empty()) {
            for part in word.split("\\x").filter(|part| !part.is_empty()) {
                let digits = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
                push(&mut frame, line, digits.unwrap_or(part))?;
            }
        }
    }
    if !frame.is_empty() {
        frames.push(frame);
    }
    Ok(frames)
}

const fn is_separator(character: char) -> bool {
    character.is_ascii_whitespace()
        || matches!(character, ':' | '-' | '.' | ',' | ';' | '"' | '\'' | '|')
}

fn push(frame: &mut Vec<u8>, line: usize, word: &str) -> Result<(), HexError> {
    let text = || word.chars().take(40).collect();
    if !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        // A backslash at the end of a line joins it to the next one.
        if word == "\\" {
            return Ok(());
        }
        return Err(HexError::NoDigit { line, text: text() });
    }
    if !word.len().is_multiple_of(2) {
        return Err(HexError::Odd { line, text: text() });
    }
    frame.extend(bytes_of(word));
    Ok(())
}

/// The bytes of an even number of hex digits.
fn bytes_of(digits: &str) -> impl Iterator<Item = u8> {
    let (pairs, _) = digits.as_bytes().as_chunks();
    let value = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    pairs.iter().map(move |&[high, low]| {
        let [high, low] = [high, low].map(|digit| value(digit).unwrap_or(0));
        high << 4 | low
    })
}

/// Lines with offsets.
fn dump(text: &str) -> Result<Vec<Vec<u8>>, HexError> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let Some((offset, rest)) = dump_line(content) else {
            continue;
        };
        let got = frames.last().map_or(0, Vec::len);
        if offset == 0 {
            frames.push(Vec::new());
        } else if offset != got {
            return Err(HexError::Gap { line, offset, got });
        }
        if let Some(frame) = frames.last_mut() {
            frame.extend(hex_column(rest));
        }
    }
    frames.retain(|frame| !frame.is_empty());
    Ok(frames)
}

/// The offset of a line, and what is behind it: `0000   45 00`, `00000000: 4500`, `0x0000:  4500`.
fn dump_line(line: &str) -> Option<(usize, &str)> {
    let line = line.trim_start();
    let digits = line.strip_prefix("0x").unwrap_or(line);
    let len = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
    let (offset, rest) = digits.split_at_checked(len)?;
    if !(3..=8).contains(&len) {
        return None;
    }
    let behind = rest.strip_prefix(':');
    let spaces = behind.unwrap_or(rest);
    let is_offset = match behind {
        Some(behind) => behind.starts_with([' ', '\t']),
        None => {
            let first = rest.split_ascii_whitespace().next().unwrap_or("");
            rest.starts_with("  ")
                || rest.starts_with('\t')
                || rest.starts_with(' ') && len > 3 && first.len() == 2
        }
    };
    let offset = usize::from_str_radix(offset, 16).ok()?;
    (is_offset && first_byte(spaces)).then_some((offset, spaces))
}

/// Whether bytes follow, and not the words of a sentence.
fn first_byte(text: &str) -> bool {
    let word = text.split_ascii_whitespace().next().unwrap_or("");
    is_bytes(word)
}

fn is_bytes(word: &str) -> bool {
    !word.is_empty()
        && word.len().is_multiple_of(2)
        && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The bytes up to the column with characters, which two spaces set apart. A gap after 8 single
/// bytes is only for the eye.
fn hex_column(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.trim_start();
    let mut is_single = true;
    while !rest.is_empty() {
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if !is_bytes(word) {
            break;
        }
        is_single &= word.len() == 2;
        bytes.extend(bytes_of(word));
        rest = behind.trim_start_matches([' ', '\t']);
        let gap = behind.len() - rest.len();
        let is_middle = gap == 2 && is_single && bytes.len() == 8;
        if behind.starts_with('\t') || gap > 1 && !is_middle {
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Vec<u8> {
        let mut frames = frames_from_text(text).unwrap();
        assert_eq!(frames.len(), 1, "{text}");
        frames.pop().unwrap()
    }

    const BYTES: [u8; 20] = [
        0x45, 0x00, 0x00, 0x54, 0x00, 0x00, 0x40, 0x00, 0x40, 0x01, 0x61, 0x62, 0xc0, 0x00, 0x02,
        0x01, 0xc0, 0x00, 0x02, 0x02,
    ];

    #[test]
    fn bytes_are_read_however_they_are_separated() {
        for text in [
            "450000540000400040016162c0000201c0000202",
            "4500 0054 0000 4000 4001 6162 c000 0201 c000 0202",
            "45:00:00:54:00:00:40:00:40:01:61:62:C0:00:02:01:C0:00:02:02",
            "45-00-00-54 00.00.40.00, 40 01 61 62 c0 00 02 01 c0 00 02 02 # a ping",
            "0x45, 0x00, 0x00, 0x54, 0x00, 0x00, 0x40, 0x00, 0x40, 0x01,\n\
             0x61, 0x62, 0xc0, 0x00, 0x02, 0x01, 0xc0, 0x00, 0x02, 0x02",
            "\"\\x45\\x00\\x00\\x54\\x00\\x00\\x40\\x00\\x40\\x01\" \\\n\
             \"\\x61\\x62\\xc0\\x00\\x02\\x01\\xc0\\x00\\x02\\x02\"",
            "0x450000540000400040016162c0000201c0000202",
        ] {
            assert_eq!(one(text), BYTES, "{text}");
        }
    }

    #[test]
    fn dumps_of_the_usual_programs_are_read_without_their_text() {
        for (program, text) in [
            (
                "xxd",
                "00000000: 4500 0054 0000 4000 4001 6162 c000 0201  E..T..@.@.ab....\n\
                 00000010: c000 0202                                ....\n",
            ),
            (
                "hexdump -C",
                "00000000  45 00 00 54 00 00 40 00  40 01 61 62 c0 00 02 01  |E..T..@.@.ab....|\n\
                 00000010  c0 00 02 02                                       |....|\n\
                 00000014\n",
            ),
            (
                "tcpdump -x",
                "12:00:00.000000 IP 192.0.2.1 > 192.0.2.2: ICMP echo request, id 1, seq 1, length 64\n\
                 \t0x0000:  4500 0054 0000 4000 4001 6162 c000 0201\n\
                 \t0x0010:  c000 0202\n",
            ),
            (
                "tcpdump -X",
                "\t0x0000:  4500 0054 0000 4000 4001 6162 c000 0201  E..T..@.@.ab....\n\
                 \t0x0010:  c000 0202                                ....\n",
            ),
            (
                "Wireshark",
                "0000   45 00 00 54 00 00 40 00 40 01 61 62 c0 00 02 01   E..T..@.@.ab....\n\
                 0010   c0 00 02 02                                       ....\n",
            ),
            (
                "tshark -x",
                "0000  45 00 00 54 00 00 40 00 40 01 61 62 c0 00 02 01   E..T..@.@.ab....\n\
                 0010  c0 00 02 02                                       ....\n",
            ),
            (
                "text2pcap",
                "000000 45 00 00 54 00 00 40 00 40 01 61 62 c0 00 02 01\n\
                 000010 c0 00 02 02\n",
            ),
            (
                "xxd, with characters that look like bytes",
                "00000000: 4500 0054 0000 4000 4001 6162 c000 0201  abcdef0123456789\n\
                 00000010: c000 0202                                abcd\n",
            ),
        ] {
            assert_eq!(one(text), BYTES, "{program}");
        }
    }

    #[test]
    fn an_offset_of_zero_or_an_empty_line_starts_the_next_frame() {
        let dump = "0000   ff ff\n0000   01 02 03\n\n0000  04\n";
        assert_eq!(
            frames_from_text(dump).unwrap(),
            [vec![0xff, 0xff], vec![1, 2, 3], vec![4]]
        );
        let plain = "\nffff\nff\n\n\n0102\n";
        assert_eq!(
            frames_from_text(plain).unwrap(),
            [vec![0xff, 0xff, 0xff], vec![1, 2]]
        );
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        let error = |text| frames_from_text(text).unwrap_err().to_string();
        assert!(error("").starts_with("no hex digits"));
        assert!(error("# nothing\n").starts_with("no hex digits"));
        assert_eq!(
            error("45 00\n0g 00"),
            "line 2: \"0g\" is not made of hex digits"
        );
        assert_eq!(
            error("450"),
            "line 1: \"450\" has an odd number of hex digits; two make a byte"
        );
        assert_eq!(
            error("0000   01 02\n0010   03"),
            "line 2: it starts at byte 16, and 2 bytes came before; is a line missing?"
        );
    }

    #[test]
    fn words_of_a_frame_are_not_taken_for_offsets() {
        assert_eq!(one("0000 5e00 0101"), [0, 0, 0x5e, 0, 1, 1]);
        assert_eq!(one("0000:5e00:0101"), [0, 0, 0x5e, 0, 1, 1]);
    }
}
