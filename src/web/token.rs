//! What somebody must know to change anything.

use std::{
    fmt, fs, hint, io,
    path::{Path, PathBuf},
};

/// A secret word. It is never written anywhere, not even into a log.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl Token {
    /// Characters of the shortest one.
    pub const SHORTEST: usize = 16;
    const LONGEST: usize = 256;

    /// The only word in a file.
    ///
    /// # Errors
    /// A [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = fs::read_to_string(path).map_err(|cause| TokenError::Read {
            path: path.to_owned(),
            cause,
        })?;
        Self::new(text.trim()).ok_or_else(|| TokenError::Unfit {
            path: path.to_owned(),
        })
    }

    /// This word, if it is long enough and can stand in a header.
    pub fn new(word: &str) -> Option<Self> {
        let is_printable = word.bytes().all(|byte| byte.is_ascii_graphic());
        let is_fit = is_printable && (Self::SHORTEST..=Self::LONGEST).contains(&word.len());
        is_fit.then(|| Self(word.as_bytes().to_vec()))
    }

    /// Whether `word` is it. The time that this takes does not depend on where they differ.
    pub(super) fn is(&self, word: &[u8]) -> bool {
        let differ = self.0.iter().zip(word).fold(0, |sum, (a, b)| {
            // So that nothing ends the loop early.
            hint::black_box(sum | (a ^ b))
        });
        self.0.len() == word.len() && differ == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("read token {}: {cause}; check the path", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// There is something else in it.
    #[error(
        "read token {}: it needs one word of {} to {} printable ASCII characters; make one: \
         head -c 24 /dev/urandom | base64", path.display(), Token::SHORTEST, Token::LONGEST
    )]
    Unfit {
        /// The file.
        path: PathBuf,
    },
}

impl TokenError {
    /// Whether what the caller wrote is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Unfit { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_itself_is_the_token() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in [
            "",
            "0123456789abcdee",
            "0123456789abcdef0",
            "0123456789abcde",
        ] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn short_words_and_several_are_no_token() {
        for text in ["", "secret", "0123456789 abcdef", "0123456789abcdef\u{e9}"] {
            assert!(Token::new(text).is_none(), "{text}");
        }
    }
}
