//! The keys of a lesson's file, once: the reader knows no others, and the schema is made of them.

use serde_json::{Map, Value, json};

/// What the value of a key is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Lower-case words with hyphens.
    Id,
    /// A string without blanks.
    Word,
    /// Strings without blanks.
    Words,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these.
    SomeOf(&'static [&'static str]),
    /// A text in one or both languages.
    Text,
    /// Lines of shell.
    Script,
    /// Any string.
    String,
    /// An address with the length of its prefix.
    Cidr,
    /// Bytes.
    Mtu,
    /// `true` or `false`.
    Bool,
    /// Regular expressions.
    Patterns,
    /// Tables, each of this section.
    Tables(&'static Section),
}

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
    /// What it means.
    doc: &'static str,
}

/// A table.
#[derive(Debug)]
pub(super) struct Section {
    /// What it describes, for messages.
    pub(super) what: &'static str,
    pub(super) keys: &'static [Key],
}

impl Section {
    /// The names of its keys.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }
}

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        is_required: false,
        doc,
    }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        is_required: true,
        doc,
    }
}

const SYSTEMS: &[&str] = &["tapswitch", "kernel"];
const FAILS: &[&str] = &["tapswitch", "kernel", "both"];
const FATES: &[&str] = &["forwarded", "flooded", "dropped", "consumed"];
const FEATURES: &[&str] = &[
    "br_netfilter",
    "vxlan",
    "bridge",
    "veth",
    "ifb",
    "sch_tbf",
    "act_mirred",
];
/// The languages of a text.
pub(super) const LANGS: &[&str] = &["en", "zh"];

/// The file.
pub(super) static LESSON: Section = Section {
    what: "a lesson",
    keys: &[
        required(
            "id",
            Kind::Id,
            "Its name, and that of its file: lower-case words with hyphens",
        ),
        required("title", Kind::Text, "What it is called"),
        key(
            "about",
            Kind::Text,
            "What it teaches; paragraphs are set apart by blank lines",
        ),
        key(
            "rows",
            Kind::Words,
            "The rows of a syllabus that it covers, such as A14",
        ),
        key(
            "needs",
            Kind::Words,
            "Programs that it types; if one is missing the lesson is not run, and says why",
        ),
        key(
            "features",
            Kind::SomeOf(FEATURES),
            "Features of the kernel that its commands need on both systems; without them it is not run",
        ),
        key(
            "kernel_needs",
            Kind::SomeOf(FEATURES),
            "Further features of the kernel that it needs with --on kernel",
        ),
        key(
            "on",
            Kind::SomeOf(SYSTEMS),
            "Where it can run; both if nothing is said",
        ),
        key(
            "node",
            Kind::Tables(&NODE),
            "The machines; without any there is one, host",
        ),
        required("step", Kind::Tables(&STEP), "What is done, in order"),
        key(
            "fault",
            Kind::Tables(&FAULT),
            "What tapswitch lab break can break",
        ),
    ],
};

static NODE: Section = Section {
    what: "a node",
    keys: &[
        required("name", Kind::Word, "What it is called"),
        key(
            "underlay",
            Kind::Cidr,
            "The address of its eth0 on the cable that joins the nodes; without one it has no eth0",
        ),
        key(
            "mtu",
            Kind::Mtu,
            "The MTU of its eth0, and of its end of the cable; 1500 if nothing is said",
        ),
    ],
};

static STEP: Section = Section {
    what: "a step",
    keys: &[
        key(
            "say",
            Kind::Text,
            "What happens and why, said before the commands",
        ),
        key(
            "node",
            Kind::Word,
            "The node on which the commands are typed; the first one if nothing is said",
        ),
        key("run", Kind::Script, "The commands, typed on both systems"),
        key(
            "tapswitch",
            Kind::Script,
            "Commands that are typed after them on tapswitch",
        ),
        key(
            "kernel",
            Kind::Script,
            "Commands that are typed after them on the kernel",
        ),
        key(
            "background",
            Kind::Bool,
            "Whether the command runs until the lesson ends",
        ),
        key(
            "fails",
            Kind::OneOf(FAILS),
            "Where the last command must fail; nowhere if nothing is said",
        ),
        key(
            "prints",
            Kind::Patterns,
            "Regular expressions that the output must match",
        ),
        key(
            "prints_tapswitch",
            Kind::Patterns,
            "Further ones on tapswitch",
        ),
        key(
            "prints_kernel",
            Kind::Patterns,
            "Further ones on the kernel",
        ),
        key(
            "prints_not",
            Kind::Patterns,
            "Regular expressions that the output must not match",
        ),
        key(
            "watch",
            Kind::Bool,
            "Whether the frames of this step are told; true if some are named below",
        ),
        key(
            "frame",
            Kind::Tables(&FRAME),
            "Frames that must be seen, in this order; others may be between",
        ),
    ],
};

static FRAME: Section = Section {
    what: "a frame",
    keys: &[
        required(
            "at",
            Kind::Word,
            "Where it comes in: a port, a peer's address or vtep; of another node as node2:podC",
        ),
        required(
            "what",
            Kind::String,
            "A part of its text, such as arp who-has 10.1.1.20",
        ),
        key("fate", Kind::OneOf(FATES), "What becomes of it"),
        key("to", Kind::Words, "Where exactly it leaves, in any order"),
        key(
            "reason",
            Kind::Word,
            "Why tapswitch drops it, as in tapswitch stats",
        ),
        key(
            "on",
            Kind::OneOf(SYSTEMS),
            "The only system on which that must be so; both if nothing is said",
        ),
        key("say", Kind::Text, "What is said under it"),
    ],
};

static FAULT: Section = Section {
    what: "a fault",
    keys: &[
        required(
            "name",
            Kind::Id,
            "What it is called, such as mtu or stale-fdb",
        ),
        key(
            "needs",
            Kind::Words,
            "Further programs that its scripts type",
        ),
        key(
            "features",
            Kind::SomeOf(FEATURES),
            "Further features of the kernel that its scripts need",
        ),
        key(
            "on",
            Kind::SomeOf(SYSTEMS),
            "Where it is one; wherever something breaks it if nothing is said",
        ),
        key(
            "node",
            Kind::Word,
            "The node where it is, and where the student sits; the first one if nothing is said",
        ),
        key("run", Kind::Script, "What breaks it, on both systems"),
        key(
            "tapswitch",
            Kind::Script,
            "What breaks it after that on tapswitch",
        ),
        key(
            "kernel",
            Kind::Script,
            "What breaks it after that on the kernel",
        ),
        required("symptom", Kind::Text, "What the student is told"),
        key(
            "hint",
            Kind::Text,
            "What the student is told who asks for a hint",
        ),
        key(
            "cause",
            Kind::Text,
            "What was broken, in a sentence: told in the end",
        ),
        required(
            "check",
            Kind::Script,
            "A script that succeeds if it is repaired, and fails before",
        ),
        key(
            "solve",
            Kind::Script,
            "A script that repairs it, on both systems",
        ),
        key(
            "solve_tapswitch",
            Kind::Script,
            "What repairs it after that on tapswitch",
        ),
        key(
            "solve_kernel",
            Kind::Script,
            "What repairs it after that on the kernel",
        ),
    ],
};

/// The JSON Schema (draft 2020-12) of a lesson's file, for editors that complete and check TOML.
pub fn schema() -> Value {
    let mut root = of_section(&LESSON);
    let head = [
        (
            "$schema",
            json!("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("title", json!("A lesson of tapswitch lab")),
        (
            "$defs",
            json!({
                "text": {
                    "description": "A text in one or both languages; a string is for both",
                    "oneOf": [
                        {"type": "string", "minLength": 1},
                        {
                            "type": "object",
                            "properties": {
                                "en": {"type": "string", "minLength": 1},
                                "zh": {"type": "string", "minLength": 1},
                            },
                            "minProperties": 1,
                            "additionalProperties": false,
                        },
                    ],
                },
            }),
        ),
    ];
    root.extend(head.map(|(key, value)| (key.to_owned(), value)));
    Value::Object(root)
}

fn of_section(section: &Section) -> Map<String, Value> {
    let properties: Map<_, _> = section
        .keys
        .iter()
        .map(|key| {
            let mut value = of_kind(key.kind);
            value.insert("description".to_owned(), json!(key.doc));
            (key.name.to_owned(), Value::Object(value))
        })
        .collect();
    let required = section.keys.iter().filter(|key| key.is_required);
    let required: Vec<_> = required.map(|key| key.name).collect();
    object(json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    }))
}

fn of_kind(kind: Kind) -> Map<String, Value> {
    object(match kind {
        Kind::Id => json!({"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}),
        Kind::Word => json!({"type": "string", "pattern": WORD}),
        Kind::Words => json!({"type": "array", "items": {"type": "string", "pattern": WORD}}),
        Kind::OneOf(words) => json!({"enum": words}),
        Kind::SomeOf(words) => {
            json!({"type": "array", "items": {"enum": words}, "uniqueItems": true})
        }
        Kind::Text => json!({"$ref": "#/$defs/text"}),
        Kind::Script | Kind::String => json!({"type": "string", "minLength": 1}),
        Kind::Cidr => json!({"type": "string", "pattern": "^[0-9A-Fa-f.:]+/[0-9]{1,3}$"}),
        Kind::Mtu => json!({"type": "integer", "minimum": MTU.0, "maximum": MTU.1}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Patterns => json!({"type": "array", "items": {"type": "string", "format": "regex"}}),
        Kind::Tables(section) => {
            json!({"type": "array", "minItems": 1, "items": of_section(section)})
        }
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// One or more characters, none of them blank.
const WORD: &str = r"^\S+$";
/// The least MTU of IPv4 (RFC 791), and the most that a veth takes.
pub(super) const MTU: (u32, u32) = (68, 65_535);
