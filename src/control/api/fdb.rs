//! Which FDB entries, and what they say.

use serde::{Deserialize, Serialize};

use crate::{
    config::{PeerAddr, StaticSpec},
    names::Name,
    wire::MacAddr,
};

/// One entry, where it is behind the port or the VTEP that is named, if one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntrySelector {
    /// The bridge; may be left out where there is a port or only one bridge.
    pub bridge: Option<Name>,
    /// The address.
    pub mac: MacAddr,
    /// The VLAN id; 0 for untagged frames.
    pub vlan: u16,
    /// Only behind this port.
    #[serde(default)]
    pub port: Option<Name>,
    /// Only behind this VTEP.
    #[serde(default)]
    pub remote: Option<PeerAddr>,
}

impl EntrySelector {
    /// That address in untagged frames, wherever it is.
    pub fn new(bridge: Option<Name>, mac: MacAddr) -> Self {
        Self {
            bridge,
            mac,
            vlan: 0,
            port: None,
            remote: None,
        }
    }
}

impl From<&StaticSpec> for EntrySelector {
    /// That entry, wherever it is.
    fn from(entry: &StaticSpec) -> Self {
        Self {
            vlan: entry.vlan,
            ..Self::new(Some(entry.bridge.clone()), entry.mac)
        }
    }
}

/// Which FDB entries; empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FdbSelector {
    /// Only of this bridge.
    pub bridge: Option<Name>,
    /// Only behind this port.
    pub port: Option<Name>,
    /// Only behind this VTEP.
    pub remote: Option<PeerAddr>,
    /// Only this address.
    pub mac: Option<MacAddr>,
    /// Only this VLAN id.
    pub vlan: Option<u16>,
    /// Only entries of this kind. A flush without it deletes learned entries only.
    pub state: Option<FdbState>,
}

/// How an FDB entry came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdbState {
    /// From a frame; ages.
    Learned,
    /// From a person; stays.
    Static,
    /// The address of a host port; stays as long as the port.
    Local,
    /// From a control plane; stays until that takes it back.
    Control,
}

/// One FDB entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FdbInfo {
    /// The bridge.
    pub bridge: Name,
    /// The address.
    pub mac: MacAddr,
    /// The VLAN id; 0 for untagged frames.
    pub vlan: u16,
    /// The port behind which it is.
    pub port: Option<Name>,
    /// The VTEP behind which it is, with its port where that is not the endpoint's.
    pub remote: Option<String>,
    /// How it came about.
    pub state: FdbState,
    /// Seconds since its source was last seen; 0 for static and local entries.
    pub age_s: f64,
    /// How often the address has moved to another port.
    pub moves: u32,
    /// Held where it is because it moved too often.
    pub frozen: bool,
}
