//! What is known of a frame that a node has seen.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{control::api::RowChange, lesson::Lang, time::Timestamp, wire::MacAddr};

/// A frame that came into a node's switch, and all that became of it there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Seen {
    /// When it came in; since 1970.
    #[serde(serialize_with = "seconds")]
    pub at: Timestamp,
    /// The node.
    pub node: String,
    /// Where it came in: a port, the address of a remote VTEP, [`VTEP`], or [`SWITCH`].
    pub place: String,
    /// What became of it.
    pub fate: Fate,
    /// Flooded: `broadcast`, `multicast`, `unknown unicast`, or [`BY_HUB`] or [`BY_WIRE`]. Of what
    /// another frame was made of, and of that one: [`REWRITTEN`].
    pub class: Option<String>,
    /// Dropped: the reason's name. On the kernel, which tells none, `None`.
    pub reason: Option<String>,
    /// Where it left, or should have.
    pub copies: Vec<Copied>,
    /// The row of the FDB that decided, where the switch tells it.
    pub row: Option<Row>,
    /// What its source taught, where the switch tells it.
    pub learned: Option<Learned>,
    /// Its bytes; of one that could not be taken out of its datagram, the datagram's.
    #[serde(serialize_with = "hex")]
    pub bytes: Vec<u8>,
    /// How long it is.
    pub len: usize,
    /// The frame in a few words; see [`crate::wire::describe`].
    pub text: String,
    /// What was left undone in it: `tcp4, segments of 1448 bytes`, `checksum`.
    pub offload: Option<String>,
    /// The datagram in which it came.
    pub datagram: Option<Datagram>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It went to the one place where its destination is.
    Forwarded,
    /// It went to all other places.
    Flooded,
    /// It went nowhere.
    Dropped,
    /// The switch took it itself: a probe; or on the kernel the IP layer above the bridge did, and
    /// sent it on with other addresses.
    Consumed,
}

/// One frame on its way out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Copied {
    /// When.
    #[serde(serialize_with = "seconds")]
    pub at: Timestamp,
    /// A port or the address of a remote VTEP.
    pub to: String,
    /// Why it did not get there.
    pub lost: Option<String>,
    /// Its bytes, if they are not those that came in: a tag taken off, a superframe cut or joined.
    #[serde(serialize_with = "maybe_hex", skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Vec<u8>>,
    /// The datagram around it.
    pub datagram: Option<Datagram>,
}

/// A datagram of the underlay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Datagram {
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port that it came from, which is made from the inner flow.
    pub from_port: u16,
    /// From its Ethernet header on.
    pub len: usize,
    /// Its bytes.
    #[serde(serialize_with = "hex")]
    pub bytes: Vec<u8>,
}

/// A row of the FDB.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The address.
    pub mac: MacAddr,
    /// The VLAN id; 0 for untagged frames.
    pub vlan: u16,
    /// Where it is.
    pub at: String,
    /// Whether it was learned; else somebody said so.
    pub is_learned: bool,
    /// Seconds since it was last seen there, if that is known.
    pub age_s: Option<f64>,
}

/// What a source address taught.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// The address.
    pub mac: MacAddr,
    /// What happened to its row.
    pub change: RowChange,
    /// Where it was before.
    pub from: Option<String>,
}

/// The place of a datagram from no VTEP that is known.
pub const VTEP: &str = "vtep";
/// The place of what the switch made itself.
pub const SWITCH: &str = "switch";

/// The class of a frame that a hub sends to all other ports.
pub const BY_HUB: &str = "repeated by a hub";
/// The class of a frame that a wire hands to its other end.
pub const BY_WIRE: &str = "repeated by a wire";

/// The class of a frame that the IP layer above the bridge has made another one of, and of that one.
pub const REWRITTEN: &str = "rewritten by the IP layer";

impl Seen {
    /// The places that it reached, in order of names.
    pub fn reached(&self) -> Vec<&str> {
        let arrived = self.copies.iter().filter(|copy| copy.lost.is_none());
        let mut places: Vec<&str> = arrived.map(|copy| copy.to.as_str()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Whether it is only a host that introduces itself, as all do when their interfaces come up:
    /// to routers, to groups, or asking whether anybody has its IPv6 address (RFC 4862).
    pub fn is_noise(&self) -> bool {
        let text = &self.text;
        text.starts_with("igmp ")
            || text.starts_with("icmp6 ")
                && (text.contains(" router solicitation")
                    || text.contains(" multicast listener report")
                    || text.starts_with("icmp6 :: > "))
    }

    /// Whether it is several packets in one, which are cut where it leaves.
    pub fn is_superframe(&self) -> bool {
        let offload = self.offload.as_ref();
        offload.is_some_and(|offload| offload.contains("segments"))
    }
}

impl Fate {
    /// What it is called in `lang`.
    pub fn in_lang(self, lang: Lang) -> &'static str {
        match (lang, self) {
            (Lang::En, Self::Forwarded) => "forwarded",
            (Lang::En, Self::Flooded) => "flooded",
            (Lang::En, Self::Dropped) => "dropped",
            (Lang::En, Self::Consumed) => "consumed",
            (Lang::Zh, Self::Forwarded) => "转发",
            (Lang::Zh, Self::Flooded) => "泛洪",
            (Lang::Zh, Self::Dropped) => "丢弃",
            (Lang::Zh, Self::Consumed) => "自己收下",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.in_lang(Lang::En))
    }
}

fn seconds<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let time = std::time::Duration::from_nanos(at.as_nanos());
    serializer.serialize_f64(time.as_secs_f64())
}

fn hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&digits.concat())
}

fn maybe_hex<S: serde::Serializer>(
    bytes: &Option<Vec<u8>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    hex(bytes.as_deref().unwrap_or_default(), serializer)
}
