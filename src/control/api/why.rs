//! The flight recorder's part of the API: what became of frames, and where FDB entries come from.

use serde::{Deserialize, Serialize};

use super::FdbInfo;
use crate::{
    names::Name,
    wire::{MacAddr, Vni},
};

/// Asks what became of frames.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WhyRequest {
    /// A MAC address, an IP address, the name of a port, or the underlay address of a peer: only
    /// frames that have to do with it.
    pub about: Option<String>,
    /// Only of the last so many seconds.
    pub last_s: Option<f64>,
    /// Only frames that were lost.
    pub drops: bool,
}

/// What became of frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyReport {
    /// Frames that have everything but their number in common, oldest first.
    pub entries: Vec<WhyEntry>,
    /// Older ones that are left out here.
    pub left_out: usize,
    /// Flows that the recorders had no more room for, since the daemon started.
    pub crowded_out: u64,
    /// What it means if there is nothing, and what to do then.
    pub hint: Option<String>,
}

/// Frames of one flow that came in at one place, and had one fate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyEntry {
    /// When the last one came, in seconds since 1970.
    pub time: f64,
    /// How many seconds ago that was.
    pub age_s: f64,
    /// When the first one came.
    pub first: f64,
    /// How many there were.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// One of them in words: the last one, or the first one if [`Self::is_first`].
    pub frame: String,
    /// Of several, `frame` and `len` are those of the first: of the last one under load only the
    /// time is kept.
    pub is_first: bool,
    /// Its length.
    pub len: u32,
    /// Its source address.
    pub src: Option<MacAddr>,
    /// Its destination address.
    pub dst: Option<MacAddr>,
    /// Its VLAN id; 0 for untagged frames.
    pub vlan: u16,
    /// The bridge.
    pub bridge: Option<Name>,
    /// The VNI of the datagram or of the bridge.
    pub vni: Option<Vni>,
    /// The port that they came from.
    pub from_port: Option<Name>,
    /// The VTEP that they came from, or in words that the place is no longer there; neither this nor
    /// a port: the switch itself made them.
    pub from_remote: Option<String>,
    /// What became of them.
    pub fate: WhyFate,
    /// Where they went, or were to go; of a flood, as the bridge is now, and only if it has as many
    /// places as there were copies.
    pub to: Vec<String>,
    /// Copies of each of them.
    pub copies: u32,
    /// The key of the reason for a loss, as in counters.
    pub reason: Option<String>,
    /// Why, in words.
    pub why: String,
    /// What the FDB made of the source, in words.
    pub learned: Option<String>,
    /// What to do about a loss, in words.
    pub remedy: Option<String>,
    /// Bytes that it had, where it was too big: with all outer headers, if it was for a peer.
    pub has_bytes: Option<u32>,
    /// Bytes that fit.
    pub fits_bytes: Option<u32>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyFate {
    /// It went to one place.
    Forwarded,
    /// It went to several.
    Flooded,
    /// It went nowhere.
    Dropped,
    /// One copy was lost on its way out.
    Lost,
}

/// Where an FDB entry comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FdbStory {
    /// The bridge.
    pub bridge: Name,
    /// The address.
    pub mac: MacAddr,
    /// The VLAN id; 0 for untagged frames.
    pub vlan: u16,
    /// The entry as it is now; `None`: there is none.
    pub entry: Option<FdbInfo>,
    /// What happened to it, oldest first.
    pub changes: Vec<FdbChange>,
    /// Older changes that are forgotten.
    pub forgotten: u64,
    /// News from the workers that were lost because there were too many at a time, of all addresses.
    pub lost_news: u64,
    /// What is not in the list but must have happened, in words.
    pub hint: Option<String>,
}

/// Something that happened to an FDB entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FdbChange {
    /// When, in seconds since 1970; of several, the last time.
    pub time: f64,
    /// How many seconds ago that was.
    pub age_s: f64,
    /// How often, without anything else in between.
    pub count: u64,
    /// What: the word that events have.
    pub change: String,
    /// The port behind which the address then was, or where the frame came from.
    pub port: Option<Name>,
    /// Likewise the VTEP.
    pub remote: Option<String>,
    /// Where it was before.
    pub old_port: Option<Name>,
    /// Likewise the VTEP.
    pub old_remote: Option<String>,
    /// The frame that did it, in words.
    pub frame: Option<String>,
    /// Who or what did it, if it was no frame.
    pub cause: Option<String>,
}
