//! The text of a file that a person wrote.

use std::io::{self, Read};

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The kernel does not let it be read.
    #[error("{0}; check the path")]
    Read(#[from] io::Error),
    /// It is no text.
    #[error("byte {0} is not UTF-8; save the file as UTF-8")]
    NotUtf8(usize),
    /// Nobody wrote so much: it may be a device.
    #[error("it has more than {} MiB; check the path", MOST >> 20)]
    TooLong,
}

/// Reads a text, but not without end.
///
/// # Errors
/// A [`TextError`].
pub fn read_text(from: impl Read) -> Result<String, TextError> {
    let mut bytes = Vec::new();
    from.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(TextError::TooLong);
    }
    String::from_utf8(bytes).map_err(|error| TextError::NotUtf8(error.utf8_error().valid_up_to()))
}

/// A thousand ports take 200 KB.
const MOST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_not_read_to_its_end() {
        let error = read_text(io::repeat(b'a')).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 16 MiB; check the path");
    }

    #[test]
    fn what_is_no_text_is_told_with_its_place() {
        let error = read_text(&b"name = \xff"[..]).unwrap_err();
        assert!(
            error.to_string().starts_with("byte 7 is not UTF-8"),
            "{error}"
        );
    }
}
