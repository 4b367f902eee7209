//! What of the kernel the commands of a lesson plainly need, although it does not say so.

use std::fmt;

use super::format::{Feature, Lesson, Scripts, System};

/// Words that stand together in a command, and what they need.
const NEEDS: [(&str, Feature); 8] = [
    ("type bridge", Feature::Bridge),
    ("type veth", Feature::Veth),
    ("type vxlan", Feature::Vxlan),
    ("type ifb", Feature::Ifb),
    ("root tbf", Feature::SchTbf),
    ("action mirred", Feature::ActMirred),
    ("net.bridge.bridge-nf-call-iptables", Feature::BrNetfilter),
    ("brctl addbr", Feature::Bridge),
];

/// A feature that a lesson should declare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    /// Where it is needed: `step 3`, `fault mtu`.
    pub place: String,
    /// The words that need it.
    pub words: &'static str,
    /// What it is.
    pub feature: Feature,
    /// The key that should have it.
    pub key: &'static str,
}

impl fmt::Display for Undeclared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, words, name, key) = (&self.place, self.words, self.feature.name(), self.key);
        write!(
            f,
            "{place} types {words:?}, which not every kernel can; add {name:?} to {key}"
        )
    }
}

/// What `lesson` should declare, each feature where it is needed first.
pub fn undeclared(lesson: &Lesson) -> Vec<Undeclared> {
    let mut found: Vec<Undeclared> = Vec::new();
    let mut look = |place: &dyn Fn() -> String, scripts: &Scripts, also: &[Feature]| {
        for (script, is_kernels) in by_system(scripts, &lesson.on) {
            let needed = needed(script).filter(|(_, feature)| {
                let is_declared = lesson.features.contains(feature) || also.contains(feature);
                !(is_declared || is_kernels && lesson.kernel_needs.contains(feature))
            });
            let key = match is_kernels {
                true => "kernel_needs",
                false => "features",
            };
            for (words, feature) in needed {
                let is_known = |known: &Undeclared| known.feature == feature && known.key == key;
                if !found.iter().any(is_known) {
                    found.push(Undeclared {
                        place: place(),
                        words,
                        feature,
                        key,
                    });
                }
            }
        }
    };
    for (number, step) in (1..).zip(&lesson.steps) {
        look(&|| format!("step {number}"), &step.scripts, &[]);
    }
    for fault in &lesson.faults {
        let place = || format!("fault {}", fault.name);
        look(&place, &fault.scripts, &fault.features);
        look(&place, &fault.solve, &fault.features);
        let check = Scripts {
            both: Some(fault.check.clone()),
            ..Scripts::default()
        };
        look(&place, &check, &fault.features);
    }
    found
}

/// The scripts, each with whether it is typed on the kernel only.
fn by_system<'s>(scripts: &'s Scripts, on: &[System]) -> impl Iterator<Item = (&'s str, bool)> {
    let is_only = on == [System::Kernel];
    let all = [
        (&scripts.both, is_only),
        (&scripts.tapswitch, false),
        (&scripts.kernel, true),
    ];
    all.into_iter()
        .filter_map(|(script, is_kernels)| Some((script.as_deref()?, is_kernels)))
}

/// What a script needs, comments left out.
fn needed(script: &str) -> impl Iterator<Item = (&'static str, Feature)> {
    let lines = script
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<&str> = lines
        .flat_map(|line| line.split([' ', '\t', ';', '|', '&', '(', ')', '"', '\'', '=']))
        .filter(|word| !word.is_empty())
        .collect();
    let text = format!(" {} ", words.join(" "));
    NEEDS
        .into_iter()
        .filter(move |(words, _)| text.contains(&format!(" {words} ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lesson::{library, parse};

    fn found(declared: &str, rest: &str) -> Vec<String> {
        let text = format!("id = \"a\"\ntitle = \"t\"\n{declared}\n[[step]]\n{rest}");
        let lesson = parse(&text).unwrap_or_else(|errors| panic!("{errors:?}: {text}"));
        undeclared(&lesson)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_a_command_needs_of_the_kernel_has_to_be_declared() {
        let both =
            "run = \"ip link add  ifb0 type ifb; tc qdisc add dev ifb0 root tbf rate 1mbit\"";
        assert_eq!(
            found("", both),
            [
                "step 1 types \"type ifb\", which not every kernel can; add \"ifb\" to features",
                "step 1 types \"root tbf\", which not every kernel can; add \"sch_tbf\" to features",
            ]
        );
        assert!(found("features = [\"ifb\", \"sch_tbf\"]", both).is_empty());
        assert_eq!(
            found("kernel_needs = [\"ifb\", \"sch_tbf\"]", both).len(),
            2
        );
        let there = "run = \"true\"\nkernel = \"(ip link add br0 type bridge)\"";
        assert_eq!(
            found("", there),
            [
                "step 1 types \"type bridge\", which not every kernel can; add \"bridge\" to kernel_needs"
            ]
        );
        assert!(found("kernel_needs = [\"bridge\"]", there).is_empty());
        assert!(found("", "run = \"# ip link add br0 type bridge\\necho\"").is_empty());
    }

    #[test]
    fn a_fault_may_need_more_than_its_lesson() {
        let fault = |features: &str| {
            format!(
                "run = \"true\"\n[[fault]]\nname = \"f\"\nsymptom = \"s\"\n{features}\n\
                 run = \"ip link add x type veth\"\ncheck = \"true\"\nsolve = \"true\""
            )
        };
        assert_eq!(found("", &fault("")).len(), 1);
        assert!(found("", &fault("features = [\"veth\"]")).is_empty());
    }

    #[test]
    fn every_lesson_of_the_library_declares_what_it_needs() {
        for lesson in library::lessons() {
            assert_eq!(undeclared(&lesson), [], "{}", lesson.id);
        }
    }
}
