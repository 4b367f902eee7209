//! Reads values out of a TOML tree and keeps going when one is wrong.

use std::{collections::BTreeMap, fmt, ops::Range, str::FromStr};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Everything found wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) errors: Vec<(Range<usize>, String)>,
    /// Keys that are not there. Left out when the text itself is broken, since the key may be in
    /// the broken part.
    pub(crate) missing: Vec<(Range<usize>, String)>,
}

impl Report {
    pub(crate) fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.errors.push((span, message.into()));
    }
}

/// Where the values of a table are, by key and by index in a list.
pub(crate) type Spans = BTreeMap<(&'static str, usize), Range<usize>>;

/// A value and where it is.
pub(crate) type Value<'a, 'i> = &'a Spanned<DeValue<'i>>;

/// One table of the tree.
pub(crate) struct Fields<'a, 'i> {
    /// What the table describes, for messages.
    what: &'static str,
    span: Range<usize>,
    table: &'a DeTable<'i>,
}

impl<'a, 'i> Fields<'a, 'i> {
    /// The table `value`, reported if it is something else or has keys that are not in `known`.
    pub(crate) fn of_value(
        what: &'static str,
        value: Value<'a, 'i>,
        known: &[&str],
        report: &mut Report,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(what, value.span(), table, known, report)),
            other => {
                let found = describe(other);
                report.error(value.span(), format!("{what} is a table, found {found}"));
                None
            }
        }
    }

    pub(crate) fn new(
        what: &'static str,
        span: Range<usize>,
        table: &'a DeTable<'i>,
        known: &[&str],
        report: &mut Report,
    ) -> Self {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let shown: String = name.chars().take(40).collect();
            let hint = match similar(name, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", known.join(", ")),
            };
            report.error(
                key.span(),
                format!("unknown key {shown:?} in {what}; {hint}"),
            );
        }
        Self { what, span, table }
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn value(&self, key: &str) -> Option<Value<'a, 'i>> {
        self.table.get(key)
    }

    /// The spans of all values of this table, by key and index in a list.
    pub(crate) fn spans(&self, keys: &[&'static str]) -> Spans {
        let mut spans = Spans::new();
        for &key in keys {
            let Some(value) = self.value(key) else {
                continue;
            };
            spans.insert((key, 0), value.span());
            if let DeValue::Array(items) = value.get_ref() {
                let items = items.iter().enumerate();
                spans.extend(items.map(|(index, item)| ((key, index), item.span())));
            }
        }
        spans
    }

    /// A string that means a `T`; reported if it is something else or not there.
    pub(crate) fn required<T>(&self, key: &str, report: &mut Report) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        if self.value(key).is_none() {
            let message = format!("{} has no {key}; add one", self.what);
            report.missing.push((self.span(), message));
        }
        self.parsed(key, report)
    }

    /// A string that means a `T`.
    pub(crate) fn parsed<T>(&self, key: &str, report: &mut Report) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        parsed(key, self.value(key)?, report)
    }

    /// A list of strings, each of which means a `T`.
    pub(crate) fn list<T>(&self, key: &str, report: &mut Report) -> Vec<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| parsed(key, item, report))
                .collect(),
            _ => {
                wrong_type(key, value, "a list of strings", report);
                Vec::new()
            }
        }
    }

    /// A string or a list of strings, each of which means a `T`.
    pub(crate) fn one_or_more<T>(&self, key: &str, report: &mut Report) -> Vec<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        match self.value(key).map(Spanned::get_ref) {
            Some(DeValue::String(_)) => self.parsed(key, report).into_iter().collect(),
            _ => self.list(key, report),
        }
    }

    /// A whole number that fits `T`.
    pub(crate) fn integer<T: TryFrom<i64>>(&self, key: &str, report: &mut Report) -> Option<T> {
        let value = self.value(key)?;
        let DeValue::Integer(_) = value.get_ref() else {
            wrong_type(key, value, "a whole number", report);
            return None;
        };
        integer(key, value, report)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str, report: &mut Report) -> Option<bool> {
        let value = self.value(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            wrong_type(key, value, "true or false", report);
        }
        found
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
        report: &mut Report,
    ) -> Option<T> {
        let value = self.value(key)?;
        let found = value.get_ref().as_str();
        let meaning = words.iter().find(|(word, _)| Some(*word) == found);
        if meaning.is_none() {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            let found = describe(value.get_ref());
            let known = known.join(" or ");
            report.error(value.span(), format!("{key} is {known}, found {found}"));
        }
        meaning.map(|&(_, meaning)| meaning)
    }

    /// The tables of `[[...]]`; reported if it is something else.
    pub(crate) fn tables(&self, key: &str, report: &mut Report) -> &'a [Spanned<DeValue<'i>>] {
        match self.value(key).map(|value| (value, value.get_ref())) {
            None => &[],
            Some((_, DeValue::Array(items))) => items,
            Some((value, _)) => {
                wrong_type(key, value, "a list of tables ([[...]])", report);
                &[]
            }
        }
    }
}

fn parsed<T>(key: &str, value: Value<'_, '_>, report: &mut Report) -> Option<T>
where
    T: FromStr<Err: fmt::Display>,
{
    let Some(text) = value.get_ref().as_str() else {
        wrong_type(key, value, "a string", report);
        return None;
    };
    match text.parse() {
        Ok(meaning) => Some(meaning),
        Err(cause) => {
            report.error(value.span(), format!("{key}: {cause}"));
            None
        }
    }
}

/// The whole number `value`, reported if it does not fit `T`.
pub(crate) fn integer<T: TryFrom<i64>>(
    key: &str,
    value: Value<'_, '_>,
    report: &mut Report,
) -> Option<T> {
    let number = value.get_ref().as_integer()?;
    let read = i64::from_str_radix(number.as_str(), number.radix()).ok();
    let read = read.and_then(|number| T::try_from(number).ok());
    if read.is_none() {
        let shown: String = number.to_string().chars().take(40).collect();
        report.error(value.span(), format!("{key}: {shown} is out of range"));
    }
    read
}

pub(crate) fn wrong_type(key: &str, value: Value<'_, '_>, wanted: &str, report: &mut Report) {
    let found = describe(value.get_ref());
    report.error(value.span(), format!("{key} is {wanted}, found {found}"));
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        DeValue::Integer(number) => {
            format!(
                "the number {}",
                number.to_string().chars().take(40).collect::<String>()
            )
        }
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
        DeValue::Float(_) => "a fraction".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
    }
}

/// The word of `known` that was probably meant by `word`.
pub(crate) fn similar<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 32 {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(word);
    let near = known
        .iter()
        .map(|known| (edits(&wanted, &plain(known)), *known))
        .min()?;
    // A third of a word may be mistyped; `mac` for `mtu` is another word.
    (near.0 <= wanted.chars().count().div_ceil(3).min(3)).then_some(near.1)
}

/// Levenshtein's distance with neighbours swapped as one edit.
fn edits(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, &a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in right.iter().enumerate() {
            let change = rows[i][j] + usize::from(a != b);
            let mut least = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            let swapped = i > 0 && j > 0 && a == right[j - 1] && b == left[i - 1];
            if swapped {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_finds_its_neighbour_and_another_word_does_not() {
        let known = ["name", "mtu", "ageing", "fdb_limit", "ifname"];
        assert_eq!(similar("aging", &known), Some("ageing"));
        assert_eq!(similar("nmae", &known), Some("name"));
        assert_eq!(similar("fdb-limit", &known), Some("fdb_limit"));
        assert_eq!(similar("FDBLimit", &known), Some("fdb_limit"));
        assert_eq!(similar("speed", &known), None);
        assert_eq!(similar(&"x".repeat(100_000), &known), None);
    }
}
