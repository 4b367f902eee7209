//! What is measured: a table of cases, and how each is run.

mod cast;
mod outcome;
mod teach;
mod tso;

use serde::Serialize;

pub(super) use self::{
    cast::Site,
    outcome::{Outcome, Work},
    teach::Taught,
};
use super::{stats::Better, topology::Shape};

/// Where the pods are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// All on one node.
    OneNode,
    /// On two nodes, and all traffic goes from one to the other.
    Overlay,
}

impl Place {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OneNode, Self::Overlay];

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::OneNode => "one node",
            Self::Overlay => "overlay",
        }
    }
}

/// One thing to measure.
#[derive(Debug)]
pub struct Case {
    /// What the command line calls it.
    pub id: &'static str,
    /// What tables call it.
    pub title: &'static str,
    places: &'static [Place],
    pods: usize,
    mtu: Option<u32>,
    load: Load,
}

/// What goes over the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// TCP streams from the first pod to the second.
    Streams { count: u16, tso: bool },
    /// A TCP stream each way.
    BothWays,
    /// A TCP stream for each two pods.
    Pairs,
    /// Datagrams with so many bytes from the first pod to the second.
    Datagrams { size: usize },
    /// Small messages there and back, perhaps beside a TCP stream.
    Trips { loaded: bool },
    /// Datagrams from the first pod to all.
    Broadcast,
    /// Frames to so many addresses behind the second pod.
    Frames { hosts: u32 },
}

/// One number that comes out of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its key.
    pub key: &'static str,
    /// What to add to the case's title; empty for the only one.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which values are good.
    pub better: Better,
}

const fn figure(
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
) -> Figure {
    Figure {
        key,
        title,
        unit,
        better,
    }
}

const THROUGHPUT: Figure = figure("throughput", "", "Gb/s", Better::Higher);
const DELIVERED: Figure = figure("delivered", "", "kpps", Better::Higher);
const FAIRNESS: Figure = figure("fairness", ", fairness", "", Better::Higher);
const P50: Figure = figure("p50", ", p50", "us", Better::Lower);
const P99: Figure = figure("p99", ", p99", "us", Better::Lower);

impl Case {
    /// What comes out of it.
    pub fn figures(&self) -> &'static [Figure] {
        match self.load {
            Load::Streams { .. } | Load::BothWays => &[THROUGHPUT],
            Load::Pairs => &[THROUGHPUT, FAIRNESS],
            Load::Datagrams { .. } | Load::Broadcast | Load::Frames { .. } => &[DELIVERED],
            Load::Trips { .. } => &[P50, P99],
        }
    }

    /// Whether frames go to addresses that no pod has.
    pub(super) fn has_strange_addresses(&self) -> bool {
        matches!(self.load, Load::Frames { .. })
    }

    /// What it needs at `place`; `None`: it makes no sense there.
    pub fn shape(&self, place: Place) -> Option<Shape> {
        let hosts = match self.load {
            Load::Frames { hosts } => hosts,
            _ => 0,
        };
        self.places.contains(&place).then_some(Shape {
            overlay: place == Place::Overlay,
            pods: self.pods,
            mtu: self.mtu,
            // The pods' own, and some room.
            addresses: hosts + 64,
        })
    }
}

const BOTH: &[Place] = &Place::ALL;
const ONE_NODE: &[Place] = &[Place::OneNode];
const OVERLAY: &[Place] = &[Place::Overlay];

const fn case(
    id: &'static str,
    title: &'static str,
    places: &'static [Place],
    pods: usize,
    load: Load,
) -> Case {
    Case {
        id,
        title,
        places,
        pods,
        mtu: None,
        load,
    }
}

const fn streams(count: u16) -> Load {
    Load::Streams { count, tso: true }
}

/// Frames need a third pod: what arrives there was flooded, so the address was not known.
const fn frames(id: &'static str, title: &'static str, hosts: u32) -> Case {
    case(id, title, ONE_NODE, 3, Load::Frames { hosts })
}

/// All cases, in the order of the table.
pub const CASES: &[Case] = &[
    case("tcp1", "TCP, 1 stream", BOTH, 2, streams(1)),
    case("tcp4", "TCP, 4 streams", BOTH, 2, streams(4)),
    case(
        "tcp-both",
        "TCP, 1 stream each way",
        BOTH,
        2,
        Load::BothWays,
    ),
    case(
        "tcp-no-tso",
        "TCP, sender without TSO",
        BOTH,
        2,
        Load::Streams {
            count: 1,
            tso: false,
        },
    ),
    Case {
        mtu: Some(1500),
        ..case(
            "tcp1-1500",
            "TCP, 1 stream, MTU 1500",
            OVERLAY,
            2,
            streams(1),
        )
    },
    case("pairs8", "TCP, 8 pairs of pods", BOTH, 16, Load::Pairs),
    case(
        "udp18",
        "UDP, 18 bytes",
        BOTH,
        2,
        Load::Datagrams { size: 18 },
    ),
    case(
        "udp1400",
        "UDP, 1400 bytes",
        BOTH,
        2,
        Load::Datagrams { size: 1400 },
    ),
    case(
        "broadcast8",
        "UDP broadcast, 8 pods",
        BOTH,
        8,
        Load::Broadcast,
    ),
    case(
        "latency",
        "UDP round trip",
        BOTH,
        2,
        Load::Trips { loaded: false },
    ),
    case(
        "latency-load",
        "UDP round trip beside TCP",
        BOTH,
        2,
        Load::Trips { loaded: true },
    ),
    frames("macs1", "frames to 1 address", 1),
    frames("macs1k", "frames to 1000 addresses", 1000),
    frames("macs100k", "frames to 100 000 addresses", 100_000),
    frames("macs1m", "frames to 1 000 000 addresses", 1_000_000),
];

/// The cases of `--quick`.
pub const QUICK: &[&str] = &["tcp1", "udp18", "latency"];

/// The case that the command line calls `id`.
pub fn find(id: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_place() {
        for (index, case) in CASES.iter().enumerate() {
            assert!(CASES[..index].iter().all(|other| other.id != case.id));
            assert!(!case.places.is_empty() && !case.figures().is_empty());
            assert!(Place::ALL.iter().any(|&place| case.shape(place).is_some()));
        }
        assert!(QUICK.iter().all(|id| find(id).is_some()));
        assert!(find("tcp").is_none());
    }

    #[test]
    fn shapes_are_those_that_the_loads_need() {
        let shape = |id, place| find(id).and_then(|case| case.shape(place));
        assert_eq!(shape("macs1", Place::Overlay), None);
        assert_eq!(
            shape("macs1m", Place::OneNode).unwrap().addresses,
            1_000_064
        );
        let wide = shape("tcp1-1500", Place::Overlay).unwrap();
        assert_eq!((wide.overlay, wide.mtu), (true, Some(1500)));
        assert_eq!(shape("pairs8", Place::Overlay).unwrap().pods, 16);
    }
}
