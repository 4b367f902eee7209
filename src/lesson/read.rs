//! From a file to a [`Lesson`], with everything that is wrong in one go.

use std::{collections::HashSet, ops::Range};

use ipnet::IpNet;
use toml::{Spanned, de::DeTable};

mod values;

use super::{
    format::{Fails, Fault, Feature, FrameSpec, Lesson, NodeSpec, Place, Step, System},
    keys::{self, Kind, LESSON, Section},
    watch::Fate,
};
use crate::{
    bridge::DropReason,
    config::{
        Diagnostic,
        diagnostic::{Locator, abridge},
        reader::{Fields, Report, Value, similar},
    },
};

/// What a shell says about a script: the line of its first error, from 1, and the error.
pub(super) type Complaint = (usize, String);

/// Reads a lesson; `inspect` looks at each script.
pub(super) fn read(
    text: &str,
    inspect: &dyn Fn(&str) -> Option<Complaint>,
) -> Result<Lesson, Vec<Diagnostic>> {
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        inspect,
        report: Report::default(),
        systems: Vec::new(),
        nodes: Vec::new(),
    };
    let lesson = reader.lesson(root.span(), root.get_ref());
    for (_, value) in root.get_ref() {
        reader.visible(value);
    }
    let mut report = reader.report;
    let locator = Locator::new(text);
    let mut diagnostics: Vec<Diagnostic> = syntax_errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or_default();
            locator.diagnostic(&span, error.message().replace('\n', "; "))
        })
        .collect();
    if diagnostics.is_empty() {
        report.errors.append(&mut report.missing);
    }
    let errors = report.errors.into_iter();
    diagnostics.extend(errors.map(|(span, message)| locator.diagnostic(&span, message)));
    diagnostics.sort();
    diagnostics.dedup();
    match diagnostics.is_empty() {
        true => Ok(lesson),
        false => Err(abridge(diagnostics)),
    }
}

struct Reader<'r> {
    text: &'r str,
    inspect: &'r dyn Fn(&str) -> Option<Complaint>,
    report: Report,
    /// Where the lesson runs.
    systems: Vec<System>,
    /// The names of its nodes; empty if one could not be read.
    nodes: Vec<String>,
}

impl Reader<'_> {
    fn lesson(&mut self, span: Range<usize>, root: &DeTable<'_>) -> Lesson {
        let names = LESSON.names();
        let fields = Fields::new(LESSON.what, span, root, &names, &mut self.report);
        self.missing(&fields, &LESSON);
        self.systems = self.several("on", &fields, &System::ALL, System::name);
        if self.systems.is_empty() {
            self.systems = System::ALL.to_vec();
        }
        let nodes = self.nodes(&fields);
        let steps: Vec<Step> = fields
            .tables("step", &mut self.report)
            .iter()
            .filter_map(|table| self.step(table))
            .collect();
        if let Some(value) = fields.value("step")
            && value
                .get_ref()
                .as_array()
                .is_some_and(|steps| steps.is_empty())
        {
            self.report
                .error(value.span(), "the lesson has no step; add a [[step]]");
        }
        let mut names = HashSet::new();
        let mut faults = Vec::new();
        for table in fields.tables("fault", &mut self.report) {
            let Some(fault) = self.fault(table) else {
                continue;
            };
            if !names.insert(fault.name.clone()) {
                let message = format!("there are two faults {:?}; rename one", fault.name);
                self.report.error(table.span(), message);
            }
            faults.push(fault);
        }
        Lesson {
            id: self.id("id", &fields),
            rows: self.words("rows", &fields),
            title: self.text("title", &fields),
            about: self.text("about", &fields),
            needs: self.words("needs", &fields),
            features: self.several("features", &fields, &Feature::ALL, Feature::name),
            kernel_needs: self.several("kernel_needs", &fields, &Feature::ALL, Feature::name),
            on: self.systems.clone(),
            nodes,
            steps,
            faults,
        }
    }

    fn nodes(&mut self, lesson: &Fields<'_, '_>) -> Vec<NodeSpec> {
        let mut nodes: Vec<NodeSpec> = Vec::new();
        let mut is_whole = true;
        for table in lesson.tables("node", &mut self.report) {
            let Some(fields) = self.section(section_of(&LESSON, "node"), table) else {
                is_whole = false;
                continue;
            };
            let name = self.word("name", &fields).unwrap_or_default();
            let value = fields.value("name");
            if let Some(value) = value
                && nodes.iter().any(|node| node.name == name)
            {
                let message = format!("there are two nodes {name:?}; rename one");
                self.report.error(value.span(), message);
            }
            // The name of its file, and of a command.
            if let Some(value) = value
                && !name.is_empty()
                && !name
                    .chars()
                    .all(|char| char.is_ascii_alphanumeric() || "-_".contains(char))
            {
                let message = format!("name: {name:?}; use letters, digits, - and _");
                self.report.error(value.span(), message);
            }
            let underlay = self.underlay(&fields, &nodes);
            let mtu = fields.integer("mtu", &mut self.report);
            if let (Some(mtu), Some(value)) = (mtu, fields.value("mtu"))
                && !(keys::MTU.0..=keys::MTU.1).contains(&mtu)
            {
                let (least, most) = keys::MTU;
                let message = format!("mtu: {mtu} is out of range; give {least} to {most}");
                self.report.error(value.span(), message);
            }
            nodes.push(NodeSpec {
                name,
                underlay,
                mtu: mtu.unwrap_or(NodeSpec::DEFAULT_MTU),
            });
        }
        if nodes.is_empty() {
            nodes.push(NodeSpec::host());
        }
        if is_whole {
            self.nodes = nodes.iter().map(|node| node.name.clone()).collect();
        }
        nodes
    }

    fn underlay(&mut self, fields: &Fields<'_, '_>, others: &[NodeSpec]) -> Option<IpNet> {
        let net = fields
            .parsed::<crate::config::Cidr>("underlay", &mut self.report)?
            .0;
        let span = fields.value("underlay")?.span();
        let others = others
            .iter()
            .filter_map(|node| Some((node, node.underlay?)));
        for (node, other) in others {
            let name = &node.name;
            if other.addr() == net.addr() {
                let message = format!("underlay: {} is {name}'s; choose another", net.addr());
                self.report.error(span.clone(), message);
            } else if other.trunc() != net.trunc() {
                let other = other.trunc();
                let message = format!(
                    "underlay: {net} is not in {other}, the network of {name}; there is one cable"
                );
                self.report.error(span.clone(), message);
                break;
            }
        }
        Some(net)
    }

    fn step(&mut self, table: Value<'_, '_>) -> Option<Step> {
        let fields = self.section(section_of(&LESSON, "step"), table)?;
        let frames: Vec<FrameSpec> = fields
            .tables("frame", &mut self.report)
            .iter()
            .filter_map(|table| self.frame(table))
            .collect();
        let watch = fields.boolean("watch", &mut self.report);
        let fails = [
            ("tapswitch", Fails::Tapswitch),
            ("kernel", Fails::Kernel),
            ("both", Fails::Both),
        ];
        let step = Step {
            say: self.text("say", &fields),
            node: self.node(&fields),
            scripts: self.scripts(["run", "tapswitch", "kernel"], &fields),
            is_background: fields
                .boolean("background", &mut self.report)
                .unwrap_or(false),
            fails: fields.word("fails", &fails, &mut self.report),
            prints: self.patterns("prints", &fields),
            prints_tapswitch: self.patterns("prints_tapswitch", &fields),
            prints_kernel: self.patterns("prints_kernel", &fields),
            prints_not: self.patterns("prints_not", &fields),
            is_watched: watch.unwrap_or(!frames.is_empty()),
            frames,
        };
        self.step_rules(&step, watch, &fields);
        Some(step)
    }

    /// What the keys of a step say about each other.
    fn step_rules(&mut self, step: &Step, watch: Option<bool>, fields: &Fields<'_, '_>) {
        let at = |key: &str| {
            fields
                .value(key)
                .map_or_else(|| fields.span(), Spanned::span)
        };
        if step.scripts.is_empty() {
            let of_commands = [
                "background",
                "fails",
                "prints",
                "prints_tapswitch",
                "prints_kernel",
                "prints_not",
                "watch",
                "frame",
            ];
            for key in of_commands {
                if fields.value(key).is_some() {
                    let message = format!("{key} is about commands; add run, tapswitch or kernel");
                    self.report.error(at(key), message);
                }
            }
            if step.say.is_empty() {
                let message = "the step says and does nothing; add say or run";
                self.report
                    .missing
                    .push((fields.span(), message.to_owned()));
            }
        }
        if step.is_background && step.fails.is_some() {
            let message = "fails: a command in the background has not ended; leave fails out";
            self.report.error(at("fails"), message);
        }
        if watch == Some(false) && !step.frames.is_empty() {
            let message = "watch: the step names frames; leave watch out";
            self.report.error(at("watch"), message);
        }
        for (key, system) in [
            ("prints_tapswitch", System::Tapswitch),
            ("prints_kernel", System::Kernel),
        ] {
            self.must_run_on(system, key, fields);
        }
        for system in System::ALL {
            if step.fails == Some(fails_of(system)) && !self.systems.contains(&system) {
                self.not_there(system, "fails", at("fails"));
            }
        }
    }

    fn frame(&mut self, table: Value<'_, '_>) -> Option<FrameSpec> {
        let fields = self.section(section_of(section_of(&LESSON, "step"), "frame"), table)?;
        let at = fields.parsed::<Place>("at", &mut self.report);
        if let (Some(value), Some(node)) = (
            fields.value("at"),
            at.as_ref().and_then(|at| at.node.clone()),
        ) {
            self.known_node("at", &node, value.span());
        }
        let fates = [
            ("forwarded", Fate::Forwarded),
            ("flooded", Fate::Flooded),
            ("dropped", Fate::Dropped),
            ("consumed", Fate::Consumed),
        ];
        let fate = fields.word("fate", &fates, &mut self.report);
        let to = fields.value("to").map(|_| self.words("to", &fields));
        let on = fields.word("on", &SYSTEMS, &mut self.report);
        let reason = self.word("reason", &fields);
        if let (Some(Fate::Dropped), Some(value)) = (fate, fields.value("to")) {
            let message = "to: a frame that is dropped leaves nowhere; leave it out";
            self.report.error(value.span(), message);
        }
        if let (Some(reason), Some(value)) = (&reason, fields.value("reason")) {
            self.reason(reason, fate, value.span());
        }
        if let (Some(on), Some(value)) = (on, fields.value("on"))
            && !self.systems.contains(&on)
        {
            self.not_there(on, "on", value.span());
        }
        let what = fields.parsed("what", &mut self.report);
        Some(FrameSpec {
            at: at?,
            what: what?,
            fate,
            to,
            reason,
            on,
            say: self.text("say", &fields),
        })
    }

    fn reason(&mut self, reason: &str, fate: Option<Fate>, span: Range<usize>) {
        if fate != Some(Fate::Dropped) {
            let message = "reason is of a frame that is dropped; add fate = \"dropped\"";
            self.report.error(span.clone(), message);
        }
        let known: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        if !known.contains(&reason) {
            let hint = match similar(reason, &known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", known.join(", ")),
            };
            self.report
                .error(span, format!("reason: {reason:?} is no reason; {hint}"));
        }
    }

    fn fault(&mut self, table: Value<'_, '_>) -> Option<Fault> {
        let fields = self.section(section_of(&LESSON, "fault"), table)?;
        let fault = Fault {
            name: self.id("name", &fields),
            node: self.node(&fields),
            needs: self.words("needs", &fields),
            features: self.several("features", &fields, &Feature::ALL, Feature::name),
            on: self.several("on", &fields, &System::ALL, System::name),
            scripts: self.scripts(["run", "tapswitch", "kernel"], &fields),
            symptom: self.text("symptom", &fields),
            hint: self.text("hint", &fields),
            cause: self.text("cause", &fields),
            check: self.script("check", &fields).unwrap_or_default(),
            solve: self.scripts(["solve", "solve_tapswitch", "solve_kernel"], &fields),
        };
        if fault.solve.is_empty() {
            let message = "the fault cannot be repaired; add solve";
            self.report
                .missing
                .push((fields.span(), message.to_owned()));
        }
        if fault.scripts.is_empty() {
            let message = "the fault breaks nothing; add run, tapswitch or kernel";
            self.report
                .missing
                .push((fields.span(), message.to_owned()));
        }
        Some(fault)
    }
}

const SYSTEMS: [(&str, System); 2] = [("tapswitch", System::Tapswitch), ("kernel", System::Kernel)];

fn fails_of(system: System) -> Fails {
    match system {
        System::Tapswitch => Fails::Tapswitch,
        System::Kernel => Fails::Kernel,
    }
}

/// The section of the tables below `key`.
fn section_of(section: &'static Section, key: &str) -> &'static Section {
    let found = section.keys.iter().find(|known| known.name == key);
    match found.map(|key| key.kind) {
        Some(Kind::Tables(inner)) => inner,
        _ => section,
    }
}
