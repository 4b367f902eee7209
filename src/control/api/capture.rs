//! Captures: what may be asked of one, and its frames as lines.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{ApiError, FdbState, Hex};
use crate::{filter::Filter, names::Name, wire::MacAddr};

/// What to capture. The answer is a stream that ends with the capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureRequest {
    /// At these ports.
    pub ports: Vec<Name>,
    /// From and to these VTEPs.
    pub peers: Vec<IpAddr>,
    /// At all ports and VTEPs of these bridges. With none of the three: everywhere.
    pub bridges: Vec<Name>,
    /// Only what is dropped.
    pub drops: bool,
    /// Which way.
    pub side: CaptureSide,
    /// In which form.
    pub form: CaptureForm,
    /// End after so many frames.
    pub count: Option<u64>,
    /// Bytes that are kept of each frame.
    pub snaplen: u32,
    /// In any second at most so many frames and copies. A frame is chosen where it comes in, and has
    /// all its copies then, of which more than fit count against the seconds that follow; what is
    /// rare is among the chosen, and the others are counted. Only of everything there is. None: all
    /// of them.
    pub rate: Option<u32>,
    /// Whether [`CapturedFrame::hex`] has the bytes that were kept.
    pub bytes: bool,
    /// Only frames that match this; see [`Filter`].
    pub filter: String,
    /// How they are written.
    pub format: CaptureFormat,
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureSide {
    /// Where they come into the switch.
    In,
    /// Where they leave it.
    Out,
    /// Both: what is forwarded appears twice or more.
    #[default]
    Both,
}

/// In which form they are captured on the way from and to VTEPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureForm {
    /// As frames: before encapsulation and after decapsulation.
    #[default]
    Inner,
    /// As datagrams: after encapsulation and before decapsulation.
    Outer,
    /// As both.
    Both,
}

/// How a capture is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureFormat {
    /// As a pcapng file.
    #[default]
    Pcapng,
    /// As a [`CaptureLine`] in each line.
    Json,
}

impl CaptureRequest {
    /// Whether no place is named.
    pub fn is_everywhere(&self) -> bool {
        self.ports.is_empty() && self.peers.is_empty() && self.bridges.is_empty()
    }

    /// More bytes than any frame has.
    pub const MAX_SNAPLEN: u32 = 262_144;

    /// Holds the numbers against their bounds and reads the filter.
    ///
    /// # Errors
    /// [`super::ErrorKind::Invalid`] for the first that makes no sense.
    pub fn check(&self) -> Result<Filter, ApiError> {
        let max = Self::MAX_SNAPLEN;
        if !(1..=max).contains(&self.snaplen) {
            let snaplen = self.snaplen;
            let text = format!("capture: snaplen {snaplen} is out of range 1..={max}");
            return Err(ApiError::invalid(text));
        }
        if self.rate == Some(0) {
            return Err(ApiError::invalid("capture: rate 0 captures nothing"));
        }
        let is_all = self.is_everywhere()
            && !self.drops
            && self.side == CaptureSide::Both
            && self.filter.is_empty();
        if self.rate.is_some() && !is_all {
            return Err(ApiError::invalid(
                "capture: a rate chooses among all frames; leave ports, peers, bridges, drops, side \
                 and filter out, or the rate",
            ));
        }
        if self.count == Some(0) {
            return Err(ApiError::invalid("capture: count 0 captures nothing"));
        }
        Filter::parse(&self.filter).map_err(|error| ApiError::invalid(error.to_string()))
    }
}

impl Default for CaptureRequest {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            peers: Vec::new(),
            bridges: Vec::new(),
            drops: false,
            side: CaptureSide::default(),
            form: CaptureForm::default(),
            count: None,
            snaplen: Self::MAX_SNAPLEN,
            rate: None,
            bytes: false,
            filter: String::new(),
            format: CaptureFormat::default(),
        }
    }
}

/// A line of a capture in [`CaptureFormat::Json`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum CaptureLine {
    /// A frame, or a copy of one.
    Frame(Box<CapturedFrame>),
    /// Frames that came in since the last such line, and for which [`CaptureRequest::rate`] left no
    /// room.
    Skipped {
        /// How many.
        count: u64,
    },
    /// The end: how many there were, and how many were lost since the reader was too slow.
    End {
        /// Frames that are in the capture.
        captured: u64,
        /// Frames that matched and are not.
        lost: u64,
    },
}

/// One frame, or one copy of a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapturedFrame {
    /// Seconds since 1970.
    pub time: f64,
    /// The port, the VTEP or `vtep`; with `/outer` behind it if it is the datagram.
    pub interface: String,
    /// Its bridge.
    pub bridge: Option<Name>,
    /// The bridge's VNI.
    pub vni: Option<u32>,
    /// Which way: `in` or `out`.
    pub side: String,
    /// `frame` or `datagram`.
    pub form: String,
    /// `forwarded`, `flooded`, `dropped`, `delivered`, `decapsulated` or `consumed`.
    pub verdict: String,
    /// Why it was dropped.
    pub reason: Option<String>,
    /// Where it goes, if it is forwarded.
    pub to: Option<String>,
    /// If it is flooded: `broadcast`, `multicast`, `unknown unicast` or `repeated`.
    #[serde(default)]
    pub class: Option<String>,
    /// If it is delivered: of how many frames it was made.
    #[serde(default = "one")]
    pub frames: u16,
    /// What its source taught, where it came in: [`Self::learned`] for programs.
    #[serde(default)]
    pub lesson: Option<CapturedLesson>,
    /// Where it came in, if it leaves.
    pub from: Option<String>,
    /// What its source taught, in words; null if nothing that was not known.
    #[serde(default)]
    pub learned: Option<String>,
    /// The row of the FDB that decided.
    pub fdb: Option<CapturedRow>,
    /// Bytes of the frame.
    pub len: usize,
    /// Bytes that were kept.
    pub captured: usize,
    /// What is left undone in it: `tcp4, segments of 1448 bytes`, `checksum`.
    pub offload: Option<String>,
    /// The frame in a few words.
    pub text: String,
    /// All of what became of it, in a sentence: the comment in pcapng.
    pub comment: String,
    /// The bytes that were kept, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<Hex>,
}

/// What a source address taught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedLesson {
    /// The address.
    pub mac: MacAddr,
    /// What happened to its row.
    pub change: RowChange,
    /// Where it was before.
    pub from: Option<String>,
}

/// What happened to the row of a source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowChange {
    /// It is new.
    New,
    /// It moved here.
    Moved,
    /// It moved here, as it does too often, and is held now.
    Flapping,
    /// It is held elsewhere.
    Frozen,
    /// It is static elsewhere.
    Pinned,
    /// There is no room for it.
    Full,
}

const fn one() -> u16 {
    1
}

/// A row of the FDB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapturedRow {
    /// The address.
    pub mac: MacAddr,
    /// The VLAN id; 0 for untagged frames.
    pub vlan: u16,
    /// The port or VTEP behind which it is.
    pub at: String,
    /// How it came about.
    pub state: FdbState,
    /// Seconds since it was last seen; 0 for static and local entries.
    pub age_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_for_a_capture_of_everything() {
        let given = |json: &str| {
            serde_json::from_str::<CaptureRequest>(json)
                .unwrap()
                .check()
        };
        for json in [
            r#"{"rate":100}"#,
            r#"{"rate":1,"form":"both","snaplen":64,"count":7}"#,
            r#"{"drops":true,"filter":"arp"}"#,
        ] {
            assert!(given(json).is_ok(), "{json}");
        }
        for more in [
            r#""ports":["podA"]"#,
            r#""bridges":["br0"]"#,
            r#""peers":["192.0.2.1"]"#,
            r#""drops":true"#,
            r#""side":"in""#,
            r#""filter":"arp""#,
        ] {
            let error = given(&format!(r#"{{"rate":100,{more}}}"#)).unwrap_err();
            assert!(error.message.contains("or the rate"), "{error:?}");
        }
    }
}
