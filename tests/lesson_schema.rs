//! The JSON Schema of lessons says what the reader does: both accept the same files.

use serde_json::{Value, json};
use tapswitch::lesson::{self, library};

/// Every key that there is.
const ALL_KEYS: &str = r#"
id = "all-keys"
rows = ["A14"]
needs = ["ping"]
features = ["ifb", "sch_tbf", "act_mirred"]
kernel_needs = ["br_netfilter", "vxlan", "bridge", "veth"]
on = ["tapswitch", "kernel"]
title = "For both languages"

[about]
en = "English"
zh = "中文"

[[node]]
name = "node1"
underlay = "192.0.2.1/24"
mtu = 1400

[[step]]
say.zh = "中文"
node = "node1"
run = "true"
tapswitch = "true"
kernel = "false"
fails = "kernel"
prints = ["^a.*b$"]
prints_tapswitch = ["c"]
prints_kernel = ["d"]
prints_not = ["e"]
watch = true

[[step.frame]]
at = "node1:podA"
what = "arp who-has"
fate = "forwarded"
to = ["podB", "192.0.2.2"]
on = "kernel"
say = "Both"

[[step.frame]]
at = "vtep"
what = "arp"
fate = "dropped"
reason = "port_down"

[[step]]
run = "sleep 9"
background = true

[[fault]]
name = "mtu"
needs = ["ping"]
features = ["veth"]
on = ["kernel"]
node = "node1"
run = "true"
tapswitch = "true"
kernel = "true"
symptom = "s"
hint = "h"
cause = "c"
check = "true"
solve = "true"
solve_tapswitch = "true"
solve_kernel = "true"
"#;

/// The smallest lesson.
const SMALL: &str = "id = \"a\"\ntitle = \"t\"\n[[step]]\nsay = \"s\"\n";

#[test]
fn of_many_mistakes_only_the_first_hundred_are_told() {
    let mistakes: String = (0..2_000).map(|key| format!("k{key} = 1\n")).collect();
    let told = lesson::parse(&(mistakes + SMALL)).unwrap_err();
    assert_eq!(told.len(), 101);
    assert!(told[99].message.contains("\"k99\""), "{}", told[99]);
    let last = "... and 1900 more from here on; correct those above first";
    assert_eq!(told[100].message, last);
}

#[test]
fn every_key_of_the_schema_is_read() {
    let schema = lesson::schema();
    let file = tree(ALL_KEYS);
    lesson::parse(ALL_KEYS).unwrap();
    assert_eq!(faults(&schema, &schema, &file, "file"), [""; 0]);
    let mut unused = Vec::new();
    unused_keys(&schema, &[&file], "", &mut unused);
    assert_eq!(unused, [""; 0], "ALL_KEYS leaves keys of the schema out");
}

#[test]
fn every_lesson_of_the_library_agrees_with_the_schema() {
    let schema = lesson::schema();
    for entry in library::ALL {
        let file = tree(entry.text);
        assert_eq!(faults(&schema, &schema, &file, entry.id), [""; 0]);
    }
}

#[test]
fn what_the_schema_refuses_the_reader_refuses_too() {
    let schema = lesson::schema();
    for (text, what) in [
        ("id = \"a\"\ntitle = \"t\"\n", "no step"),
        ("title = \"t\"\n[[step]]\nsay = \"s\"\n", "no id"),
        ("id = \"A b\"\ntitle = \"t\"\n[[step]]\nsay = \"s\"\n", "id"),
        ("id = \"a\"\ntitle = 7\n[[step]]\nsay = \"s\"\n", "title"),
        (
            "id = \"a\"\ntitle.fr = \"t\"\n[[step]]\nsay = \"s\"\n",
            "fr",
        ),
        (&format!("colour = 1\n{SMALL}"), "unknown key"),
        (&format!("on = [\"ovs\"]\n{SMALL}"), "system"),
        (&format!("on = [\"kernel\", \"kernel\"]\n{SMALL}"), "twice"),
        (&format!("kernel_needs = [\"ipvs\"]\n{SMALL}"), "feature"),
        (&format!("needs = \"ping\"\n{SMALL}"), "no list"),
        (&format!("{SMALL}run = \"\"\n"), "empty script"),
        (
            &format!("{SMALL}run = \"true\"\nbackground = 1\n"),
            "no bool",
        ),
        (
            &format!("{SMALL}run = \"true\"\nfails = \"never\"\n"),
            "fails",
        ),
        (
            &format!("{SMALL}run = \"true\"\n[[step.frame]]\nat = \"a\"\n"),
            "no what",
        ),
        (&format!("{SMALL}[[node]]\nname = \"n\"\nmtu = 12\n"), "mtu"),
        (
            &format!("{SMALL}[[node]]\nname = \"n\"\nunderlay = \"1.2.3.4\"\n"),
            "no prefix",
        ),
        (
            &format!("{SMALL}[[fault]]\nname = \"f\"\nrun = \"true\"\n"),
            "no check",
        ),
    ] {
        let found = faults(&schema, &schema, &tree(text), "file");
        assert!(!found.is_empty(), "{what}: the schema accepts it:\n{text}");
        assert!(lesson::parse(text).is_err(), "{what}: it is read:\n{text}");
    }
    assert_eq!(faults(&schema, &schema, &tree(SMALL), "file"), [""; 0]);
    lesson::parse(SMALL).unwrap();
}

fn tree(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap();
    serde_json::to_value(table).unwrap()
}

/// Keys that `schema` has, and none of `values`.
fn unused_keys(schema: &Value, values: &[&Value], place: &str, unused: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (key, inner) in properties {
        let found: Vec<&Value> = values.iter().filter_map(|value| value.get(key)).collect();
        if found.is_empty() {
            unused.push(format!("{place}.{key}"));
        }
        let items: Vec<&Value> = found
            .iter()
            .filter_map(|value| value.as_array())
            .flatten()
            .collect();
        unused_keys(&inner["items"], &items, &format!("{place}.{key}"), unused);
    }
}

/// What of `value` is not as `schema` has it: the part of JSON Schema that ours uses.
fn faults(root: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    let keys = schema.as_object().unwrap();
    for (key, rule) in keys {
        let is_right = match key.as_str() {
            "type" => is_type(rule.as_str().unwrap(), value),
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => matches(rule.as_str().unwrap(), value),
            "minLength" => value.as_str().is_none_or(|text| !text.is_empty()),
            "minimum" => value
                .as_i64()
                .is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value
                .as_i64()
                .is_none_or(|number| number <= rule.as_i64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| !items.is_empty()),
            "minProperties" => value.as_object().is_none_or(|keys| !keys.is_empty()),
            "uniqueItems" => value.as_array().is_none_or(|items| {
                let mut rest = items.iter().enumerate();
                rest.all(|(at, item)| !items[..at].contains(item))
            }),
            "required" => rule.as_array().unwrap().iter().all(|key| {
                value
                    .as_object()
                    .is_none_or(|keys| keys.contains_key(key.as_str().unwrap()))
            }),
            "additionalProperties" => {
                assert_eq!(rule, &json!(false));
                let known = schema["properties"].as_object().unwrap();
                value
                    .as_object()
                    .is_none_or(|keys| keys.keys().all(|key| known.contains_key(key)))
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = rule.get(key) {
                        found.extend(faults(root, schema, inner, &format!("{place}.{key}")));
                    }
                }
                true
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(faults(root, rule, item, &format!("{place}[{index}]")));
                }
                true
            }
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                found.extend(faults(root, &root["$defs"][name], value, place));
                true
            }
            "oneOf" => {
                let all = rule.as_array().unwrap().iter();
                all.filter(|rule| faults(root, rule, value, place).is_empty())
                    .count()
                    == 1
            }
            "$schema" | "$defs" | "title" | "description" | "format" => true,
            other => panic!("{other} is not known here"),
        };
        if !is_right {
            found.push(format!("{place}: {key} {rule}: {value}"));
        }
    }
    found
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        other => panic!("{other} is not known here"),
    }
}

fn matches(pattern: &str, value: &Value) -> bool {
    let pattern = regex::Regex::new(pattern).unwrap();
    value.as_str().is_none_or(|text| pattern.is_match(text))
}
