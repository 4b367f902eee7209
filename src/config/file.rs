//! The configuration file: TOML to [`SwitchSpec`], with every error and its place in one go.
//!
//! The tree is walked by hand instead of deserialized, because a derive stops at the first error.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::Range,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

mod overlay;

use self::overlay::{place, vni};
use super::{
    AtLimit, BridgeSpec, Mode, OffloadMode, PortFlagsSpec, PortSpec, StaticSpec, SwitchSpec,
    check::{Section, Setting, check},
    diagnostic::{Diagnostic, Locator, abridge},
    reader::{Fields, Report, Spans, Value, integer, wrong_type},
    units::{ParseDurationError, parse_duration},
};
use crate::names::Name;

/// Reads a configuration file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn parse(text: &str) -> Result<SwitchSpec, Vec<Diagnostic>> {
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::default();
    reader.file(root.span(), root.get_ref());
    let Reader {
        spec,
        places,
        mut report,
        incomplete,
        damaged,
    } = reader;

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
        report.errors.extend(
            check(&spec)
                .into_iter()
                .filter(|problem| {
                    let Setting {
                        section,
                        key,
                        index,
                        ..
                    } = problem.place;
                    match (section, key) {
                        // The port that seems to be missing may be the one that could not be read.
                        (Section::Fdb, "port") => !incomplete,
                        // The network of a next hop may be the address that could not be read.
                        (Section::Port, "gateway" | "routes" | "addresses") => {
                            !damaged.contains(&(Section::Port, index))
                        }
                        (Section::Bridge, "vni") => !damaged.contains(&(Section::Vtep, 0)),
                        (Section::Bridge, "peers") => {
                            !damaged.contains(&(Section::Bridge, index))
                                && !damaged.contains(&(Section::Vtep, 0))
                        }
                        (Section::Fdb, "remote") => {
                            !damaged.iter().any(|part| part.0 != Section::Port)
                        }
                        _ => true,
                    }
                })
                .map(|problem| (places.span(problem.place), problem.message)),
        );
    }
    diagnostics.extend(
        report
            .errors
            .into_iter()
            .map(|(span, message)| locator.diagnostic(&span, message)),
    );
    if diagnostics.is_empty() {
        return Ok(spec);
    }
    diagnostics.sort();
    diagnostics.dedup();
    Err(abridge(diagnostics))
}

/// Where in the text each setting came from.
#[derive(Debug, Default)]
struct Places {
    tables: HashMap<(Section, usize), Range<usize>>,
    values: HashMap<(Section, usize), Spans>,
}

impl Places {
    fn add(
        &mut self,
        section: Section,
        index: usize,
        fields: &Fields<'_, '_>,
        keys: &[&'static str],
    ) {
        self.tables.insert((section, index), fields.span());
        self.values.insert((section, index), fields.spans(keys));
    }

    fn span(&self, place: Setting) -> Range<usize> {
        let element = (place.section, place.index);
        let value = self.values.get(&element).and_then(|values| {
            values
                .get(&(place.key, place.item))
                .or_else(|| values.get(&("name", 0)))
        });
        let table = self.tables.get(&element);
        value.or(table).cloned().unwrap_or_default()
    }
}

#[derive(Default)]
struct Reader {
    spec: SwitchSpec,
    places: Places,
    report: Report,
    /// Whether a port was left out because it could not be read.
    incomplete: bool,
    /// What has settings that could not be read.
    damaged: HashSet<(Section, usize)>,
}

impl Reader {
    fn file(&mut self, span: Range<usize>, root: &DeTable<'_>) {
        let fields = Fields::new(
            "the file",
            span,
            root,
            &["vtep", "bridge"],
            &mut self.report,
        );
        if let Some(value) = fields.value("vtep") {
            self.vtep(value);
        }
        for table in fields.tables("bridge", &mut self.report) {
            self.bridge(table);
        }
    }

    fn bridge(&mut self, value: Value<'_, '_>) {
        let report = &mut self.report;
        let Some(fields) = Fields::of_value("a bridge", value, &BRIDGE_KEYS, report) else {
            self.incomplete = true;
            return;
        };
        let Some(name) = fields.required::<Name>("name", report) else {
            // Its ports are read all the same, so that their errors are found.
            self.incomplete = true;
            let kept = (self.spec.ports.len(), self.spec.fdb.len());
            if let Ok(stand_in) = Name::new("-") {
                self.members(&fields, &stand_in);
            }
            self.spec.ports.truncate(kept.0);
            self.spec.fdb.truncate(kept.1);
            return;
        };
        let errors_before = report.errors.len();
        let bridge = BridgeSpec {
            vni: vni(&fields, report),
            peers: fields.list("peers", report),
            peer_learning: fields.boolean("peer_learning", report).unwrap_or(true),
            mode: fields.word("mode", &MODES, report).unwrap_or_default(),
            mtu: mtu(&fields, true, report),
            ageing: ageing(&fields, report).unwrap_or(BridgeSpec::DEFAULT_AGEING),
            fdb_limit: fields
                .integer("fdb_limit", report)
                .unwrap_or(BridgeSpec::DEFAULT_FDB_LIMIT),
            at_limit: fields
                .word("at_limit", &AT_LIMITS, report)
                .unwrap_or_default(),
            forward_reserved: fields
                .parsed("forward_reserved", report)
                .unwrap_or_default(),
            flap_limit: fields
                .integer("flap_limit", report)
                .unwrap_or(BridgeSpec::DEFAULT_FLAP_LIMIT),
            ..BridgeSpec::new(name.clone())
        };
        let index = self.spec.bridges.len();
        if report.errors.len() > errors_before {
            self.damaged.insert((Section::Bridge, index));
        }
        self.places
            .add(Section::Bridge, index, &fields, &BRIDGE_KEYS);
        self.spec.bridges.push(bridge);
        self.members(&fields, &name);
    }

    fn members(&mut self, bridge: &Fields<'_, '_>, name: &Name) {
        for table in bridge.tables("port", &mut self.report) {
            match Fields::of_value("a port", table, &PORT_KEYS, &mut self.report) {
                Some(fields) => self.port(&fields, name),
                None => self.incomplete = true,
            }
        }
        for table in bridge.tables("fdb", &mut self.report) {
            if let Some(fields) =
                Fields::of_value("a static FDB entry", table, &FDB_KEYS, &mut self.report)
            {
                self.fdb(&fields, name);
            }
        }
    }

    fn port(&mut self, fields: &Fields<'_, '_>, bridge: &Name) {
        let report = &mut self.report;
        // All settings are read before the name is looked at, so that all errors are found.
        let errors_before = report.errors.len();
        let name = fields.required::<Name>("name", report);
        let addresses: Vec<Cidr> = fields.list("addresses", report);
        let read = PortSpec {
            netns: fields.parsed("netns", report),
            ifname: fields.parsed("ifname", report),
            addresses: addresses.into_iter().map(|cidr| cidr.0).collect(),
            gateways: fields.one_or_more("gateway", report),
            routes: fields.list("routes", report),
            mac: fields.parsed("mac", report),
            mtu: mtu(fields, false, report),
            flags: flags(fields, report),
            offload: fields
                .word("offload", &OFFLOADS, report)
                .unwrap_or_default(),
            txqueuelen: fields
                .integer("txqueuelen", report)
                .unwrap_or(PortSpec::DEFAULT_TXQUEUELEN),
            ..PortSpec::new(bridge.clone(), bridge.clone())
        };
        let Some(name) = name else {
            self.incomplete = true;
            return;
        };
        let index = self.spec.ports.len();
        if self.report.errors.len() > errors_before {
            self.damaged.insert((Section::Port, index));
        }
        self.places.add(Section::Port, index, fields, &PORT_KEYS);
        self.spec.ports.push(PortSpec { name, ..read });
    }

    fn fdb(&mut self, fields: &Fields<'_, '_>, bridge: &Name) {
        let report = &mut self.report;
        let mac = fields.required("mac", report);
        let place = place(fields, report);
        let vlan = fields.integer("vlan", report).unwrap_or_default();
        let (Some(mac), Some(place)) = (mac, place) else {
            return;
        };
        let index = self.spec.fdb.len();
        self.places.add(Section::Fdb, index, fields, &FDB_KEYS);
        self.spec.fdb.push(StaticSpec {
            bridge: bridge.clone(),
            mac,
            vlan,
            place,
        });
    }
}

/// `"auto"` where that means something, or a number.
fn mtu(fields: &Fields<'_, '_>, may_be_auto: bool, report: &mut Report) -> Option<u32> {
    let value = fields.value("mtu")?;
    match value.get_ref() {
        DeValue::Integer(_) => integer("mtu", value, report),
        DeValue::String(word) if word == "auto" && may_be_auto => None,
        _ => {
            let wanted = if may_be_auto {
                "a number of bytes or \"auto\""
            } else {
                "a number of bytes"
            };
            wrong_type("mtu", value, wanted, report);
            None
        }
    }
}

fn ageing(fields: &Fields<'_, '_>, report: &mut Report) -> Option<Duration> {
    let value = fields.value("ageing")?;
    match value.get_ref() {
        DeValue::Integer(_) => integer::<u32>("ageing", value, report)
            .map(|seconds| Duration::from_secs(u64::from(seconds))),
        DeValue::String(_) => fields
            .parsed::<Period>("ageing", report)
            .map(|period| period.0),
        _ => {
            wrong_type("ageing", value, "a duration such as \"300s\"", report);
            None
        }
    }
}

fn flags(fields: &Fields<'_, '_>, report: &mut Report) -> PortFlagsSpec {
    let default = PortFlagsSpec::default();
    let mut flag = |key, default| fields.boolean(key, report).unwrap_or(default);
    PortFlagsSpec {
        learning: flag("learning", default.learning),
        flood: flag("flood", default.flood),
        mcast_flood: flag("mcast_flood", default.mcast_flood),
        bcast_flood: flag("bcast_flood", default.bcast_flood),
        isolated: flag("isolated", default.isolated),
        hairpin: flag("hairpin", default.hairpin),
        locked: flag("locked", default.locked),
        up: flag("up", default.up),
    }
}

struct Period(Duration);

impl FromStr for Period {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        parse_duration(text).map(Self)
    }
}

/// An address with its prefix length, and an error that says which of the two is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Cidr(
    /// The address and the length.
    pub IpNet,
);

/// The text is no address with a prefix length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseCidrError {
    text: String,
    is_bare: bool,
}

impl std::error::Error for ParseCidrError {}

impl fmt::Display for ParseCidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        if self.is_bare {
            write!(
                f,
                "{text:?} has no prefix length; write {text}/24, for example"
            )
        } else {
            write!(
                f,
                "{text:?} is not an address with a prefix length; write 192.0.2.1/24 or 2001:db8::1/64"
            )
        }
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        text.parse().map(Self).map_err(|_| ParseCidrError {
            text: text.chars().take(60).collect(),
            is_bare: text.parse::<std::net::IpAddr>().is_ok(),
        })
    }
}

const BRIDGE_KEYS: [&str; 13] = [
    "name",
    "vni",
    "peers",
    "peer_learning",
    "mode",
    "mtu",
    "ageing",
    "fdb_limit",
    "at_limit",
    "forward_reserved",
    "flap_limit",
    "port",
    "fdb",
];

const PORT_KEYS: [&str; 18] = [
    "name",
    "netns",
    "ifname",
    "addresses",
    "gateway",
    "routes",
    "mac",
    "mtu",
    "offload",
    "txqueuelen",
    "learning",
    "flood",
    "mcast_flood",
    "bcast_flood",
    "isolated",
    "hairpin",
    "locked",
    "up",
];

const FDB_KEYS: [&str; 4] = ["mac", "vlan", "port", "remote"];

const MODES: [(&str, Mode); 3] = [
    ("switch", Mode::Switch),
    ("hub", Mode::Hub),
    ("wire", Mode::Wire),
];

const AT_LIMITS: [(&str, AtLimit); 2] = [("fair", AtLimit::Fair), ("refuse", AtLimit::Refuse)];

const OFFLOADS: [(&str, OffloadMode); 2] = [("on", OffloadMode::On), ("off", OffloadMode::Off)];

#[cfg(test)]
mod tests;
