//! Asking for an examination.

use std::{net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    doctor::Scope,
    names::{Name, NameError},
};

/// What to examine; nothing: the whole switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoctorRequest {
    /// A port.
    pub from: Option<Name>,
    /// Where it wants to get to.
    pub to: Option<DoctorTarget>,
}

impl DoctorRequest {
    /// The same as the examination knows it. Without `from`, `to` means nothing.
    pub fn scope(&self) -> Scope {
        match (&self.from, &self.to) {
            (None, _) => Scope::Switch,
            (Some(from), None) => Scope::Port(from.clone()),
            (Some(from), Some(DoctorTarget::Port(to))) => Scope::Ports(from.clone(), to.clone()),
            (Some(from), Some(DoctorTarget::Address(to))) => Scope::Address(from.clone(), *to),
        }
    }
}

/// Where a path ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoctorTarget {
    /// At a port of this switch.
    Port(Name),
    /// At an address, wherever that is.
    Address(IpAddr),
}

impl FromStr for DoctorTarget {
    type Err = NameError;

    /// What reads as an address is one.
    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map_or_else(
            |_| Name::new(text).map(Self::Port),
            |ip| Ok(Self::Address(ip)),
        )
    }
}
