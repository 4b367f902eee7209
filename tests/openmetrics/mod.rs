//! A strict reader of OpenMetrics text: what Prometheus may refuse, this refuses.
//! Rules: <https://prometheus.io/docs/specs/om/open_metrics_spec/>, "ABNF" and "Overall Structure".

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses its own part of this module"
)]

use std::collections::{BTreeMap, BTreeSet};

/// Values by series, a series being its name and its labels in the order of the alphabet:
/// `tapswitch_port_mtu_bytes{bridge="br0",port="podA"}`.
pub type Series = BTreeMap<String, f64>;

/// All series of `text`.
#[track_caller]
pub fn read(text: &str) -> Series {
    let mut series = Series::new();
    let mut families = BTreeSet::new();
    let mut family: Option<Family> = None;
    let body = text
        .strip_suffix("# EOF\n")
        .expect("the last line is # EOF");
    assert!(body.is_empty() || body.ends_with('\n'));
    for line in body.lines() {
        let fail = |cause: &str| -> ! { panic!("{cause}: {line:?}") };
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name) = (words.next().unwrap(), words.next().unwrap_or_default());
            let rest = words.next().unwrap_or_default();
            if !is_name(name) {
                fail("no name of a metric");
            }
            if family.as_ref().is_none_or(|family| family.name != name) {
                if !families.insert(name.to_owned()) {
                    fail("a family in two pieces");
                }
                family = Some(Family::new(name));
            }
            let family = family.as_mut().unwrap();
            if family.has_samples {
                fail("metadata after samples");
            }
            match keyword {
                "HELP" if !rest.is_empty() => {}
                "UNIT" if name.ends_with(&format!("_{rest}")) => {}
                "TYPE" if matches!(rest, "counter" | "gauge") => family.kind = rest.to_owned(),
                _ => fail("no HELP, UNIT or TYPE"),
            }
            continue;
        }
        let Some(family) = &mut family else {
            fail("a sample without a family");
        };
        family.has_samples = true;
        let (name, labels, value) = sample(line);
        let suffix = if family.kind == "counter" {
            "_total"
        } else {
            ""
        };
        if name != format!("{}{suffix}", family.name) {
            fail("a sample of another family, or without its suffix");
        }
        let value: f64 = value.parse().unwrap_or_else(|_| fail("no number"));
        if !value.is_finite() || (family.kind == "counter" && value < 0.0) {
            fail("no value that it can have");
        }
        let labels: Vec<_> = labels
            .iter()
            .map(|(label, value)| format!("{label}={value:?}"))
            .collect();
        if series
            .insert(format!("{name}{{{}}}", labels.join(",")), value)
            .is_some()
        {
            fail("a series twice");
        }
    }
    series
}

/// The names of the samples.
pub fn names(series: &Series) -> BTreeSet<String> {
    series
        .keys()
        .map(|series| series.split('{').next().unwrap().to_owned())
        .collect()
}

struct Family {
    name: String,
    kind: String,
    has_samples: bool,
}

impl Family {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: "unknown".to_owned(),
            has_samples: false,
        }
    }
}

/// `name{label="value",...} 1`
#[track_caller]
fn sample(line: &str) -> (&str, BTreeMap<String, String>, &str) {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line:?}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, more) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label) && !label.contains(':'), "{line:?}");
            let (value, more) = quoted(more);
            assert!(
                labels.insert(label.to_owned(), value).is_none(),
                "a label twice: {line:?}"
            );
            if let Some(more) = more.strip_prefix('}') {
                rest = more;
                break;
            }
            rest = more.strip_prefix(',').expect("a comma or a brace");
        }
    }
    let value = rest.strip_prefix(' ').expect("one space");
    assert!(!value.contains(' '), "{line:?}");
    (name, labels, value)
}

/// The text up to the closing quote, and what is behind that.
#[track_caller]
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next().map(|(_, character)| character) {
                Some('n') => value.push('\n'),
                Some(character @ ('"' | '\\')) => value.push(character),
                other => panic!("escaped {other:?}"),
            },
            other => value.push(other),
        }
    }
    panic!("no closing quote: {text:?}");
}

fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    characters.next().is_some_and(first) && characters.all(|c| first(c) || c.is_ascii_digit())
}
