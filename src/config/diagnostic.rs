//! What is wrong in a file, and where.

use std::{fmt, ops::Range, path::Path};

use crate::names::shown;

/// One thing that is wrong in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct Diagnostic {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl Diagnostic {
    /// The diagnostic as compilers print it: `FILE:LINE:COL: message`.
    pub fn in_file<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        InFile {
            file,
            diagnostic: self,
        }
    }
}

struct InFile<'a> {
    file: &'a Path,
    diagnostic: &'a Diagnostic,
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", shown(self.file), self.diagnostic)
    }
}

/// Turns byte offsets of a text into lines and columns.
#[derive(Debug)]
pub(crate) struct Locator<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Locator<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    pub(crate) fn diagnostic(&self, span: &Range<usize>, message: String) -> Diagnostic {
        let offset = span.start.min(self.text.len());
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        // One enormous line must not make every one of its diagnostics walk all of it.
        let column = if before.len() > 4096 {
            before.len() + 1
        } else {
            before.chars().count() + 1
        };
        Diagnostic {
            line,
            column,
            message,
        }
    }
}

/// The first ones, and how many more there are.
pub(crate) fn abridge(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let more = diagnostics.len().saturating_sub(MOST_DIAGNOSTICS);
    if let Some(first) = diagnostics.get_mut(MOST_DIAGNOSTICS) {
        first.message = format!("... and {more} more from here on; correct those above first");
        diagnostics.truncate(MOST_DIAGNOSTICS + 1);
    }
    diagnostics
}

/// Nobody reads more than the first hundred.
const MOST_DIAGNOSTICS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_columns_count_characters() {
        let text = "a = 1\nü = \"ß\"\n";
        let locator = Locator::new(text);
        let place = |needle: &str| {
            let at = text.find(needle).unwrap();
            let found = locator.diagnostic(&(at..at), String::new());
            (found.line, found.column)
        };
        assert_eq!(place("a"), (1, 1));
        assert_eq!(place("ü"), (2, 1));
        assert_eq!(place("ß"), (2, 6));
        assert_eq!(locator.diagnostic(&(99..99), String::new()).line, 3);
    }

    #[test]
    fn a_diagnostic_prints_as_compilers_do() {
        let diagnostic = Diagnostic {
            line: 3,
            column: 7,
            message: "no such key".to_owned(),
        };
        let text = diagnostic.in_file(Path::new("lab.toml")).to_string();
        assert_eq!(text, "lab.toml:3:7: no such key");
        let text = diagnostic.in_file(Path::new("a\nb\u{1b}[31m")).to_string();
        assert_eq!(text, "a\\nb\\u{1b}[31m:3:7: no such key");
    }
}
