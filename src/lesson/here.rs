//! Here-documents in a script: POSIX, Shell Command Language, 2.7.4.

use std::{collections::VecDeque, iter::Peekable, str::Chars};

/// What the scanner is inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Double quotes.
    Quotes,
    /// `$(` or `(`.
    Parentheses,
    /// `$((`, with this many more that are open.
    Arithmetic(usize),
}

/// The word that ends a here-document.
#[derive(Debug)]
struct Delimiter {
    word: String,
    /// `<<-`: tabs before it do not count.
    has_tabs: bool,
}

/// Goes through a script once. It knows quotes, comments, arithmetic and here-documents, and nothing
/// else of the shell.
pub(super) struct Scanner<'t> {
    rest: Peekable<Chars<'t>>,
    stack: Vec<Inside>,
    delimiters: VecDeque<Delimiter>,
    /// Whether a word may begin here, and so a comment.
    is_at_word: bool,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            rest: text.chars().peekable(),
            stack: Vec::new(),
            delimiters: VecDeque::new(),
            is_at_word: true,
        }
    }

    /// Whether the text ends before one of its here-documents does.
    pub(super) fn ends_in_here_document(mut self) -> bool {
        while let Some(char) = self.rest.next() {
            match (self.stack.last().copied(), char) {
                (_, '\\') => drop(self.rest.next()),
                (_, '\n') => self.documents(),
                (_, '$') => self.expansion(),
                (Some(Inside::Arithmetic(open)), '(' | ')') => self.arithmetic(open, char),
                (Some(Inside::Arithmetic(_)), _) => {}
                (Some(Inside::Quotes), '"') => drop(self.stack.pop()),
                (Some(Inside::Quotes), _) => {}
                (_, _) => self.plain(char),
            }
            self.is_at_word = char.is_whitespace() || ";|&()".contains(char);
        }
        !self.delimiters.is_empty()
    }

    fn expansion(&mut self) {
        if !self.takes('(') {
            return;
        }
        let inside = match self.takes('(') {
            true => Inside::Arithmetic(0),
            false => Inside::Parentheses,
        };
        self.stack.push(inside);
    }

    fn arithmetic(&mut self, open: usize, char: char) {
        let now = match (char, open) {
            ('(', _) => Some(open + 1),
            (_, 0) => {
                self.takes(')');
                None
            }
            (_, _) => Some(open - 1),
        };
        self.stack.pop();
        self.stack.extend(now.map(Inside::Arithmetic));
    }

    fn plain(&mut self, char: char) {
        match char {
            '"' => self.stack.push(Inside::Quotes),
            '\'' => drop(self.rest.find(|&char| char == '\'')),
            '#' if self.is_at_word => while self.rest.next_if(|&char| char != '\n').is_some() {},
            '(' => self.stack.push(Inside::Parentheses),
            // The one of a pattern of case is alone.
            ')' if self.stack.last() == Some(&Inside::Parentheses) => drop(self.stack.pop()),
            // A here-string has none.
            '<' if self.takes('<') && !self.takes('<') => self.delimiter(),
            _ => {}
        }
    }

    /// The word behind `<<`.
    fn delimiter(&mut self) {
        let has_tabs = self.takes('-');
        while self.takes(' ') || self.takes('\t') {}
        let (mut word, mut is_there) = (String::new(), false);
        while let Some(char) = self
            .rest
            .next_if(|char| !char.is_whitespace() && !";|&<>()".contains(*char))
        {
            is_there = true;
            match char {
                '\\' => word.extend(self.rest.next()),
                '\'' | '"' => {
                    while let Some(inner) = self.rest.next_if(|&inner| inner != char) {
                        word.push(inner);
                    }
                    self.rest.next();
                }
                _ => word.push(char),
            }
        }
        if is_there {
            self.delimiters.push_back(Delimiter { word, has_tabs });
        }
    }

    /// Behind the end of a line: the here-documents that it began.
    fn documents(&mut self) {
        while let Some(delimiter) = self.delimiters.front() {
            if self.rest.peek().is_none() {
                return;
            }
            let mut line = String::new();
            while let Some(char) = self.rest.next_if(|&char| char != '\n') {
                line.push(char);
            }
            let ended = match delimiter.has_tabs {
                true => line.trim_start_matches('\t'),
                false => &line,
            };
            let is_end = ended == delimiter.word;
            if is_end {
                self.delimiters.pop_front();
            }
            // The end of the last one belongs to what follows.
            if !is_end || !self.delimiters.is_empty() {
                self.rest.next();
            }
        }
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }
}
