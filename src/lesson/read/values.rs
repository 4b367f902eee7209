//! The values of keys.

use std::{ops::Range, str::FromStr};

use toml::de::DeValue;

use super::Reader;
use crate::{
    config::reader::{Fields, Value, similar, wrong_type},
    lesson::{
        format::{Scripts, System, Text},
        keys::{Kind, LANGS, Section},
        pattern,
    },
};

impl Reader<'_> {
    /// The table `value`, with all the keys that it must have, or a report.
    pub(super) fn section<'a, 'i>(
        &mut self,
        section: &Section,
        value: Value<'a, 'i>,
    ) -> Option<Fields<'a, 'i>> {
        let names = section.names();
        let fields = Fields::of_value(section.what, value, &names, &mut self.report)?;
        self.missing(&fields, section);
        Some(fields)
    }

    pub(super) fn missing(&mut self, fields: &Fields<'_, '_>, section: &Section) {
        let keys = section.keys.iter().filter(|key| key.is_required);
        for key in keys.filter(|key| fields.value(key.name).is_none()) {
            let (what, name) = (section.what, key.name);
            let message = match key.kind {
                Kind::Tables(_) => format!("{what} has no {name}; add a [[{name}]]"),
                _ => format!("{what} has no {name}; add one"),
            };
            self.report.missing.push((fields.span(), message));
        }
    }

    pub(super) fn scripts(&mut self, keys: [&str; 3], fields: &Fields<'_, '_>) -> Scripts {
        let [both, tapswitch, kernel] = keys;
        self.must_run_on(System::Tapswitch, tapswitch, fields);
        self.must_run_on(System::Kernel, kernel, fields);
        Scripts {
            both: self.script(both, fields),
            tapswitch: self.script(tapswitch, fields),
            kernel: self.script(kernel, fields),
        }
    }

    pub(super) fn script(&mut self, key: &str, fields: &Fields<'_, '_>) -> Option<String> {
        let script: String = fields.parsed(key, &mut self.report)?;
        let value = fields.value(key)?;
        if script.trim().is_empty() {
            let message = format!("{key}: it is empty; write a command, or leave it out");
            self.report.error(value.span(), message);
        }
        if let Some((line, complaint)) = (self.inspect)(&script) {
            let span = line_of(self.text, value.span(), line);
            let message = format!("{key}: the shell says: {complaint}; correct the script");
            self.report.error(span, message);
        }
        Some(script)
    }

    pub(super) fn must_run_on(&mut self, system: System, key: &str, fields: &Fields<'_, '_>) {
        if let Some(value) = fields.value(key)
            && !self.systems.contains(&system)
        {
            self.not_there(system, key, value.span());
        }
    }

    pub(super) fn not_there(&mut self, system: System, key: &str, span: Range<usize>) {
        let message = format!(
            "{key}: the lesson does not run on {system}; add that to on, or leave this out"
        );
        self.report.error(span, message);
    }

    /// The node of a step or a fault: the first if it does not say.
    pub(super) fn node(&mut self, fields: &Fields<'_, '_>) -> String {
        if let (Some(node), Some(value)) = (self.word("node", fields), fields.value("node")) {
            self.known_node("node", &node, value.span());
            return node;
        }
        self.nodes.first().cloned().unwrap_or_default()
    }

    pub(super) fn known_node(&mut self, key: &str, node: &str, span: Range<usize>) {
        if self.nodes.is_empty() || self.nodes.iter().any(|known| known == node) {
            return;
        }
        let known: Vec<_> = self.nodes.iter().map(String::as_str).collect();
        let hint = match similar(node, &known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("there is {}", known.join(", ")),
        };
        self.report
            .error(span, format!("{key}: no node {node:?}; {hint}"));
    }

    pub(super) fn text(&mut self, key: &str, fields: &Fields<'_, '_>) -> Text {
        let Some(value) = fields.value(key) else {
            return Text::default();
        };
        let text = match value.get_ref() {
            DeValue::String(text) => Text {
                en: Some(text.to_string()),
                zh: None,
            },
            DeValue::Table(_) => {
                let Some(fields) = Fields::of_value("a text", value, LANGS, &mut self.report)
                else {
                    return Text::default();
                };
                Text {
                    en: fields.parsed("en", &mut self.report),
                    zh: fields.parsed("zh", &mut self.report),
                }
            }
            _ => {
                wrong_type(
                    key,
                    value,
                    "a string, or a table with en and zh",
                    &mut self.report,
                );
                return Text::default();
            }
        };
        let all = [&text.en, &text.zh];
        let is_blank =
            |text: &&Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        if all.iter().all(|text| text.is_none()) || all.iter().any(is_blank) {
            let message = format!("{key}: it says nothing; write it in en, zh or both");
            self.report.error(value.span(), message);
        }
        text
    }

    pub(super) fn patterns(&mut self, key: &str, fields: &Fields<'_, '_>) -> Vec<String> {
        let patterns: Vec<String> = fields.list(key, &mut self.report);
        let items = fields
            .value(key)
            .and_then(|value| value.get_ref().as_array());
        for item in items.into_iter().flatten() {
            let Some(text) = item.get_ref().as_str() else {
                continue;
            };
            if let Err(error) = pattern(text) {
                let error = error.to_string();
                let error = error.lines().last().unwrap_or_default();
                let error = error.strip_prefix("error: ").unwrap_or(error);
                let message =
                    format!("{key}: {text:?} is no regular expression: {error}; correct it");
                self.report.error(item.span(), message);
            }
        }
        patterns
    }

    pub(super) fn id(&mut self, key: &str, fields: &Fields<'_, '_>) -> String {
        let id = self.word(key, fields).unwrap_or_default();
        let is_word = |word: &str| {
            let mut chars = word.chars();
            !word.is_empty() && chars.all(|char| char.is_ascii_lowercase() || char.is_ascii_digit())
        };
        if let Some(value) = fields.value(key)
            && !id.is_empty()
            && !id.split('-').all(is_word)
        {
            let message = format!("{key}: {id:?}; use lower-case words with hyphens: my-lesson");
            self.report.error(value.span(), message);
        }
        id
    }

    pub(super) fn word(&mut self, key: &str, fields: &Fields<'_, '_>) -> Option<String> {
        fields
            .parsed::<Word>(key, &mut self.report)
            .map(|word| word.0)
    }

    pub(super) fn words(&mut self, key: &str, fields: &Fields<'_, '_>) -> Vec<String> {
        let words: Vec<Word> = fields.list(key, &mut self.report);
        words.into_iter().map(|word| word.0).collect()
    }

    /// Refuses what a terminal would not show but obey: who reads a lesson must see what would be
    /// typed.
    pub(super) fn visible(&mut self, value: Value<'_, '_>) {
        match value.get_ref() {
            DeValue::String(text) => {
                let text = text.replace("\r\n", "\n");
                if let Some(char) = text.chars().find(|&char| is_obeyed(char)) {
                    let code = u32::from(char);
                    let message = format!(
                        "the text has the control character U+{code:04X}; leave it out, or have \
                         printf make it"
                    );
                    self.report.error(value.span(), message);
                }
            }
            DeValue::Array(items) => items.iter().for_each(|item| self.visible(item)),
            DeValue::Table(table) => table.iter().for_each(|(_, value)| self.visible(value)),
            _ => {}
        }
    }

    /// A list of some of `all`, each once.
    pub(super) fn several<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        fields: &Fields<'_, '_>,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Vec<T> {
        let words: Vec<String> = fields.list(key, &mut self.report);
        let known: Vec<_> = all.iter().map(|&item| name(item)).collect();
        let Some(value) = fields.value(key) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for word in &words {
            match all.iter().find(|&&item| name(item) == word) {
                Some(item) if !found.contains(item) => found.push(*item),
                Some(_) => {
                    let message = format!("{key}: {word:?} is there twice; leave one out");
                    self.report.error(value.span(), message);
                }
                None => {
                    let known = known.join(", ");
                    let message = format!("{key}: {word:?} is unknown; choose from {known}");
                    self.report.error(value.span(), message);
                }
            }
        }
        found
    }
}

/// Control characters, and those that turn the direction of text: UAX #9, 2.
fn is_obeyed(char: char) -> bool {
    let turns = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || char.is_control() && !matches!(char, '\n' | '\t')
}

/// A string that is one word.
struct Word(String);

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match !text.is_empty() && !text.contains(char::is_whitespace) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} is not one word; leave the blanks out")),
        }
    }
}

/// Where line `line` of the string at `span` of `text` is.
fn line_of(text: &str, span: Range<usize>, line: usize) -> Range<usize> {
    let source = text.get(span.clone()).unwrap_or_default();
    // A line end right behind the quotes belongs to them.
    let is_long = source.starts_with("\"\"\"") || source.starts_with("'''");
    let skipped = usize::from(is_long && source[3..].trim_start_matches('\r').starts_with('\n'));
    let wanted = line + skipped - 1;
    let start = match wanted {
        0 => span.start,
        _ => source
            .match_indices('\n')
            .nth(wanted - 1)
            .map_or(span.start, |(at, _)| span.start + at + 1),
    };
    start..start
}
