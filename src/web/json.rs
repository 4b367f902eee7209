//! JSON that stays JSON wherever it ends up.

use std::io;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Writes `<`, `>` and `&` as escapes, so that no part of it could be taken for a tag.
struct Careful(CompactFormatter);

impl Formatter for Careful {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&']) {
            let (plain, special) = rest.split_at(at);
            self.0.write_string_fragment(writer, plain)?;
            let (first, behind) = special.split_at(1);
            for byte in first.bytes() {
                write!(writer, "\\u{byte:04x}")?;
            }
            rest = behind;
        }
        self.0.write_string_fragment(writer, rest)
    }
}

/// `value` in one line.
pub(super) fn text(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, Careful(CompactFormatter));
    // What is serialised has string keys only, and memory takes everything.
    drop(value.serialize(&mut serializer));
    out
}

/// `value` as an answer.
pub(super) fn body(value: &impl Serialize) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text(value)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tag_survives_and_every_text_does() {
        for given in [
            "<script>alert(1)</script>",
            "a & b",
            "\"\u{2028}\n\u{e9}<",
            "",
        ] {
            let json = String::from_utf8(text(&[given])).unwrap();
            assert!(!json.contains(['<', '>', '&', '\n']), "{json}");
            let back: Vec<String> = serde_json::from_str(&json).unwrap();
            assert_eq!(back, [given]);
        }
    }
}
