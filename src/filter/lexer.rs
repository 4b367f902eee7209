//! Text to words and signs.

/// Where a filter goes wrong, as an offset in bytes, and why.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: String,
}

/// One word or sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) at: usize,
    pub(super) text: &'a str,
}

/// Splits `text`. Inside of brackets a colon is a sign, elsewhere it is part of an address.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    if text.len() > LONGEST {
        return Err(Fault {
            at: LONGEST,
            message: format!("a filter has at most {LONGEST} bytes"),
        });
    }
    let mut tokens = Vec::new();
    let mut brackets = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let len = match word(rest, brackets == 0) {
            0 => SIGNS
                .iter()
                .find(|sign| rest.starts_with(**sign))
                .map(|sign| sign.len())
                .ok_or_else(|| Fault {
                    at,
                    message: format!("{first:?} has no meaning here"),
                })?,
            len => len,
        };
        let token = rest.get(..len).unwrap_or_default();
        match token {
            "[" => brackets += 1,
            "]" => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        // A backslash lets a shell pass on what is a word of the language: ip proto \tcp.
        let (skipped, text) = match token.strip_prefix('\\') {
            Some(bare) => (1, bare),
            None => (0, token),
        };
        tokens.push(Token {
            at: at + skipped,
            text,
        });
        at += len;
    }
    Ok(tokens)
}

/// Bytes of the word at the start of `rest`; 0 if there is none.
fn word(rest: &str, takes_colons: bool) -> usize {
    let bytes = rest.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    let colon = |byte: u8| takes_colons && byte == b':';
    let escaped = bytes.first() == Some(&b'\\') && bytes.get(1).is_some_and(|&b| is_word(b));
    let start = usize::from(escaped);
    // A name such as tcp-syn has a hyphen; behind a number it is a minus.
    let is_name = bytes.get(start).is_some_and(u8::is_ascii_alphabetic);
    let mut len = start;
    while let Some(&byte) = bytes.get(len) {
        let joins = byte == b'-'
            && is_name
            && len > start
            && bytes.get(len + 1).is_some_and(u8::is_ascii_alphabetic);
        if !(is_word(byte) || colon(byte) || joins) {
            break;
        }
        len += 1;
    }
    if len == start { 0 } else { len }
}

/// Longer ones before those that they start with.
const SIGNS: [&str; 23] = [
    "&&", "||", "!=", "==", ">=", "<=", ">>", "<<", "(", ")", "[", "]", "!", "=", ">", "<", "&",
    "|", "+", "-", "*", "/", ":",
];
/// Longer than anybody writes, and short enough that depth is no danger.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text)
            .unwrap()
            .iter()
            .map(|token| token.text)
            .collect()
    }

    #[test]
    fn colons_are_signs_in_brackets_only() {
        assert_eq!(
            words("ether host 02:00:00:00:00:01 and tcp[13:1]&tcp-syn!=0"),
            [
                "ether",
                "host",
                "02:00:00:00:00:01",
                "and",
                "tcp",
                "[",
                "13",
                ":",
                "1",
                "]",
                "&",
                "tcp-syn",
                "!=",
                "0"
            ]
        );
        assert_eq!(words("host ::1"), ["host", "::1"]);
        assert_eq!(words("portrange 1-2"), ["portrange", "1", "-", "2"]);
        assert_eq!(words("ip proto \\tcp"), ["ip", "proto", "tcp"]);
    }

    #[test]
    fn what_has_no_meaning_is_told_with_its_place() {
        let fault = tokens("tcp \u{e9}").unwrap_err();
        assert_eq!(fault.at, 4);
        assert!(tokens(&"a ".repeat(4000)).is_err());
    }
}
