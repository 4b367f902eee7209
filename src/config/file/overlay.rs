//! The overlay's part of the file.

use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use toml::de::DeValue;

use super::{OFFLOADS, Reader};
use crate::{
    config::{
        Accept, Place, Tos, VtepSpec,
        check::Section,
        reader::{Fields, Report, Value, integer, wrong_type},
    },
    wire::Vni,
};

impl Reader {
    pub(super) fn vtep(&mut self, value: Value<'_, '_>) {
        let report = &mut self.report;
        let errors_before = report.errors.len();
        let read = Fields::of_value("the vtep", value, &VTEP_KEYS, report).and_then(|fields| {
            // All settings are read before the address is looked at, so that all errors are found.
            let local = fields
                .required::<Local>("local", report)
                .map(|local| local.0);
            let default = VtepSpec::new(local.unwrap_or_else(|| Ipv4Addr::LOCALHOST.into()));
            let mut switch = |key, default| fields.boolean(key, report).unwrap_or(default);
            let read = VtepSpec {
                strict: switch("strict", default.strict),
                udpcsum: switch("udpcsum", default.udpcsum),
                udp6zerocsumrx: switch("udp6zerocsumrx", default.udp6zerocsumrx),
                too_big_answers: switch("too_big_answers", default.too_big_answers),
                port: fields.integer("port", report).unwrap_or(default.port),
                netns: fields.parsed("netns", report),
                accept: fields.word("accept", &ACCEPTS, report).unwrap_or_default(),
                ttl: fields.integer("ttl", report).unwrap_or(default.ttl),
                tos: tos(&fields, report).unwrap_or_default(),
                offload: fields
                    .word("offload", &OFFLOADS, report)
                    .unwrap_or_default(),
                ..default
            };
            self.places.add(Section::Vtep, 0, &fields, &VTEP_KEYS);
            local.map(|_| read)
        });
        if read.is_none() || self.report.errors.len() > errors_before {
            self.damaged.insert((Section::Vtep, 0));
        }
        self.spec.vtep = read;
    }
}

/// An IP address, and an error that says what was found.
struct Local(IpAddr);

impl FromStr for Local {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            let shown: String = text.chars().take(60).collect();
            format!("{shown:?} is not an IP address; write one such as 192.168.50.10 or fd00::1")
        })
    }
}

/// A number of 24 bits.
pub(super) fn vni(fields: &Fields<'_, '_>, report: &mut Report) -> Option<Vni> {
    let number = fields.integer("vni", report)?;
    let vni = Vni::new(number);
    if let (None, Some(value)) = (vni, fields.value("vni")) {
        let message = format!("vni: {number} is out of range 0..={}", Vni::MAX);
        report.error(value.span(), message);
    }
    vni
}

/// `"inherit"` or a number.
fn tos(fields: &Fields<'_, '_>, report: &mut Report) -> Option<Tos> {
    let value = fields.value("tos")?;
    match value.get_ref() {
        DeValue::Integer(_) => integer("tos", value, report).map(Tos::Fixed),
        DeValue::String(word) if word == "inherit" => Some(Tos::Inherit),
        _ => {
            wrong_type("tos", value, "a number or \"inherit\"", report);
            None
        }
    }
}

/// A port or a remote VTEP: one of the two.
pub(super) fn place(fields: &Fields<'_, '_>, report: &mut Report) -> Option<Place> {
    match (fields.value("port"), fields.value("remote")) {
        (Some(_), Some(remote)) => {
            let message = "remote: the entry has a port already; keep one of them";
            report.error(remote.span(), message);
            None
        }
        (None, None) => {
            let message = "a static FDB entry has no port and no remote; add one of them";
            report.missing.push((fields.span(), message.to_owned()));
            None
        }
        (Some(_), None) => fields.parsed("port", report).map(Place::Port),
        (None, Some(_)) => fields.parsed("remote", report).map(Place::Peer),
    }
}

const VTEP_KEYS: [&str; 11] = [
    "local",
    "port",
    "netns",
    "accept",
    "strict",
    "ttl",
    "tos",
    "udpcsum",
    "udp6zerocsumrx",
    "offload",
    "too_big_answers",
];

const ACCEPTS: [(&str, Accept); 2] = [("peers", Accept::Peers), ("any", Accept::Any)];
