//! What somebody must know to change anything.

use std::{
    fmt,
    fs::{self, File},
    hint,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::names::shown;

/// A secret word. It is never written anywhere, not even into a log.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl Token {
    /// Characters of the shortest one.
    pub const SHORTEST: usize = 16;
    const LONGEST: usize = 256;

    /// Bytes of a file that has one.
    const FILE: u64 = 1024;

    /// The only word in a file that nobody but its owner may read or write.
    ///
    /// # Errors
    /// A [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let failed = |cause| TokenError::Read {
            path: path.to_owned(),
            cause,
        };
        // Before it is opened: a pipe would wait for somebody who writes.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Vec::new();
        let read = file.take(Self::FILE).read_to_end(&mut text);
        read.map_err(failed)?;
        let word = std::str::from_utf8(&text).ok().map(str::trim);
        word.and_then(Self::new).ok_or_else(|| TokenError::Unfit {
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
    #[error("read token {}: {cause}; check the path", shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// It is no secret.
    #[error(
        "read token {0}: others may read or write it (mode {mode:03o}); take another word, and keep \
         it: chmod 600 {0}",
        shown(path)
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is something else in it.
    #[error(
        "read token {}: it needs one word of {} to {} printable ASCII characters; make one: \
         (umask 077; head -c 24 /dev/urandom | base64 > FILE)",
        shown(path),
        Token::SHORTEST,
        Token::LONGEST
    )]
    Unfit {
        /// The file.
        path: PathBuf,
    },
}

impl TokenError {
    /// Whether what the caller wrote is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Unfit { .. })
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
    fn a_token_is_read_from_a_file_that_is_its_owners_alone() {
        let directory = std::env::temp_dir().join(format!("token-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("token");
        fs::write(&path, "0123456789abcdef\n").unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o600, 0o400] {
            set(mode);
            assert!(Token::read(&path).unwrap().is(b"0123456789abcdef"));
        }
        for mode in [0o644, 0o640, 0o660, 0o602] {
            set(mode);
            let error = Token::read(&path).unwrap_err();
            assert!(matches!(error, TokenError::Open { .. }) && error.is_usage());
            assert!(error.to_string().contains(&format!("(mode {mode:o})")));
        }
        set(0o600);
        fs::write(&path, "x".repeat(1 << 20)).unwrap();
        let error = Token::read(&path).unwrap_err();
        assert!(matches!(error, TokenError::Unfit { .. }), "{error}");

        for path in [&directory, Path::new("/dev/zero")] {
            let error = Token::read(path).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{error}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn short_words_and_several_are_no_token() {
        for text in ["", "secret", "0123456789 abcdef", "0123456789abcdef\u{e9}"] {
            assert!(Token::new(text).is_none(), "{text}");
        }
    }
}
