//! What a lesson is: data, and what must come out.

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use serde::Serialize;

use super::{lang::Lang, watch::Fate};

/// A text in one or both languages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Text {
    /// In English.
    pub en: Option<String>,
    /// In Chinese.
    pub zh: Option<String>,
}

impl Text {
    /// The text in `lang`, or in the other language if it has only that; without blank lines at its
    /// ends.
    pub fn in_lang(&self, lang: Lang) -> &str {
        let (first, second) = match lang {
            Lang::En => (&self.en, &self.zh),
            Lang::Zh => (&self.zh, &self.en),
        };
        first.as_deref().or(second.as_deref()).unwrap_or("").trim()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.in_lang(Lang::En).is_empty()
    }
}

/// Which switch a lesson runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// This program.
    #[default]
    Tapswitch,
    /// The kernel's bridge, veth and vxlan devices.
    Kernel,
}

impl System {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Tapswitch, Self::Kernel];

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tapswitch => "tapswitch",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something of the kernel that not every kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Bridged frames pass the packet filter.
    BrNetfilter,
    /// The vxlan device.
    Vxlan,
    /// The bridge device.
    Bridge,
    /// Cables between namespaces.
    Veth,
    /// The device to which what arrives can be redirected.
    Ifb,
    /// The queueing discipline that is a token bucket.
    SchTbf,
    /// The filter action that sends frames elsewhere.
    ActMirred,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::BrNetfilter,
        Self::Vxlan,
        Self::Bridge,
        Self::Veth,
        Self::Ifb,
        Self::SchTbf,
        Self::ActMirred,
    ];

    /// Its name, which is that of the kernel's module.
    pub fn name(self) -> &'static str {
        match self {
            Self::BrNetfilter => "br_netfilter",
            Self::Vxlan => "vxlan",
            Self::Bridge => "bridge",
            Self::Veth => "veth",
            Self::Ifb => "ifb",
            Self::SchTbf => "sch_tbf",
            Self::ActMirred => "act_mirred",
        }
    }
}

/// What a script is made of: what is typed on both systems, and then what is typed on one only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scripts {
    /// Typed on both.
    #[serde(rename = "run")]
    pub both: Option<String>,
    /// Typed on this program.
    pub tapswitch: Option<String>,
    /// Typed on the kernel.
    pub kernel: Option<String>,
}

impl Scripts {
    /// What is typed on `system`, in order.
    pub fn on(&self, system: System) -> impl Iterator<Item = &str> {
        let own = match system {
            System::Tapswitch => &self.tapswitch,
            System::Kernel => &self.kernel,
        };
        self.both.iter().chain(own).map(String::as_str)
    }

    /// Whether nothing is typed anywhere.
    pub fn is_empty(&self) -> bool {
        System::ALL
            .iter()
            .all(|&system| self.on(system).all(|script| script.trim().is_empty()))
    }
}

/// A lesson. Read one with [`parse`](super::parse), or [`check`](super::check) for all that may be
/// wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lesson {
    /// Its name, in lower case with hyphens.
    pub id: String,
    /// The rows of the tutorials that it covers.
    pub rows: Vec<String>,
    /// What it is called.
    pub title: Text,
    /// What it teaches.
    pub about: Text,
    /// Programs that it types.
    pub needs: Vec<String>,
    /// What it needs of the kernel wherever it runs.
    pub features: Vec<Feature>,
    /// What it needs further when it runs on the kernel.
    pub kernel_needs: Vec<Feature>,
    /// Where it can run.
    pub on: Vec<System>,
    /// The machines; never none.
    pub nodes: Vec<NodeSpec>,
    /// What is done, in order; never nothing.
    pub steps: Vec<Step>,
    /// What can be broken afterwards.
    pub faults: Vec<Fault>,
}

/// A machine: a network namespace with a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// The address of its `eth0` on the cable that joins the nodes; none: it has no `eth0`.
    pub underlay: Option<IpNet>,
    /// The MTU of that.
    pub mtu: u32,
}

impl NodeSpec {
    /// The only machine of a lesson that speaks of none.
    pub fn host() -> Self {
        Self {
            name: "host".to_owned(),
            underlay: None,
            mtu: Self::DEFAULT_MTU,
        }
    }

    /// The MTU if nobody says otherwise.
    pub const DEFAULT_MTU: u32 = 1500;
}

/// Where something must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fails {
    /// On this program only.
    Tapswitch,
    /// On the kernel only.
    Kernel,
    /// On both.
    Both,
}

impl Fails {
    /// Whether that is so on `system`.
    pub fn is_on(self, system: System) -> bool {
        matches!(
            (self, system),
            (Self::Both, _) | (Self::Tapswitch, System::Tapswitch) | (Self::Kernel, System::Kernel)
        )
    }
}

/// A step of a lesson: words, commands, and what must come of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What happens and why, said before.
    pub say: Text,
    /// The node on which the commands are typed.
    pub node: String,
    /// The commands.
    #[serde(flatten)]
    pub scripts: Scripts,
    /// Whether they run until the lesson ends.
    #[serde(rename = "background")]
    pub is_background: bool,
    /// Where the last command must fail.
    pub fails: Option<Fails>,
    /// Regular expressions that the output must match, on both.
    pub prints: Vec<String>,
    /// Further ones on this program.
    pub prints_tapswitch: Vec<String>,
    /// Further ones on the kernel.
    pub prints_kernel: Vec<String>,
    /// Regular expressions that the output must not match.
    pub prints_not: Vec<String>,
    /// Whether its frames are told.
    #[serde(rename = "watch")]
    pub is_watched: bool,
    /// Frames that must be seen, in this order; others may be between.
    #[serde(rename = "frame")]
    pub frames: Vec<FrameSpec>,
}

impl Step {
    /// All that the output must match on `system`.
    pub fn prints_on(&self, system: System) -> impl Iterator<Item = &str> {
        let own = match system {
            System::Tapswitch => &self.prints_tapswitch,
            System::Kernel => &self.prints_kernel,
        };
        self.prints.iter().chain(own).map(String::as_str)
    }

    /// Whether its last command must fail on `system`.
    pub fn fails_on(&self, system: System) -> bool {
        self.fails.is_some_and(|fails| fails.is_on(system))
    }

    /// The frames that must be seen on `system`.
    pub fn frames_on(&self, system: System) -> impl Iterator<Item = &FrameSpec> {
        let is_there = move |frame: &&FrameSpec| frame.on.is_none_or(|on| on == system);
        self.frames.iter().filter(is_there)
    }
}

/// A port, a peer's address or `vtep`; of another node than the step's with its name: `node2:podC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node; none: the step's.
    pub node: Option<String>,
    /// What it is called there.
    pub name: String,
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        // The colons of an IPv6 address are no node's.
        let split = text.split_once(':').filter(|(node, _)| {
            text.parse::<std::net::IpAddr>().is_err() && !node.starts_with('[')
        });
        let (node, name) = split.map_or((None, text), |(node, name)| (Some(node), name));
        let is_word = |word: &str| !word.is_empty() && !word.contains(char::is_whitespace);
        match is_word(name) && node.is_none_or(is_word) {
            true => Ok(Self {
                node: node.map(str::to_owned),
                name: name.to_owned(),
            }),
            false => Err(PlaceError),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{node}:{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text is no [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no place; write a port or a peer's address, of another node as node2:podC")]
pub struct PlaceError;

/// A frame that must be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrameSpec {
    /// Where it comes in.
    pub at: Place,
    /// A part of its text.
    pub what: String,
    /// What becomes of it.
    pub fate: Option<Fate>,
    /// Where exactly it leaves, in any order.
    pub to: Option<Vec<String>>,
    /// Why it is dropped, on this program.
    pub reason: Option<String>,
    /// The only system on which that must be so.
    pub on: Option<System>,
    /// What is said under it.
    pub say: Text,
}

/// Something that is broken for the student to find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What it is called; the student learns that in the end.
    pub name: String,
    /// The node where it is, and where the student sits.
    pub node: String,
    /// Further programs that its scripts type.
    pub needs: Vec<String>,
    /// What it needs further of the kernel.
    pub features: Vec<Feature>,
    /// Where it is one; empty: wherever something breaks it.
    pub on: Vec<System>,
    /// What breaks it, typed by nobody.
    #[serde(flatten)]
    pub scripts: Scripts,
    /// What the student is told.
    pub symptom: Text,
    /// What the student is told if that is not enough.
    pub hint: Text,
    /// What it was, told in the end.
    pub cause: Text,
    /// A script that succeeds if it is repaired.
    pub check: String,
    /// A script that repairs it.
    pub solve: Scripts,
}

impl Fault {
    /// Whether it is one on `system`.
    pub fn is_on(&self, system: System) -> bool {
        let is_said = self.on.is_empty() || self.on.contains(&system);
        let mut scripts = self.scripts.on(system);
        is_said && scripts.any(|script| !script.trim().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_may_name_its_node_and_may_be_an_address_with_colons() {
        let place = |text: &str| text.parse::<Place>();
        let there = place("node2:podC").unwrap();
        assert_eq!(
            (there.node.as_deref(), there.name.as_str()),
            (Some("node2"), "podC")
        );
        assert_eq!(place("podA").unwrap().node, None);
        assert_eq!(place("fd00::1").unwrap().name, "fd00::1");
        assert_eq!(place("node2:fd00::1").unwrap().name, "fd00::1");
        for wrong in ["", "node2:", ":podC", "pod A"] {
            assert_eq!(place(wrong), Err(PlaceError), "{wrong:?}");
        }
    }

    #[test]
    fn a_text_in_one_language_is_better_than_none() {
        let text = Text {
            en: None,
            zh: Some("\n你好\n".to_owned()),
        };
        assert_eq!(text.in_lang(Lang::En), "你好");
        assert_eq!(Text::default().in_lang(Lang::Zh), "");
    }
}
