//! What would become of a frame: what is asked, and the answer.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{names::Name, wire::Vni};

/// Asks what would become of a frame, without sending it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Where it comes in.
    pub from: TraceFrom,
    /// What comes in.
    pub what: TraceWhat,
}

/// Where a frame comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceFrom {
    /// At a port.
    Port(Name),
    /// At the VXLAN endpoint.
    Peer {
        /// Who sends it.
        remote: IpAddr,
        /// In which VNI; may be left out where only one bridge has one.
        #[serde(default)]
        vni: Option<Vni>,
    },
}

/// What comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceWhat {
    /// A frame in words; see [`crate::craft`].
    Packet(String),
    /// A whole Ethernet frame without FCS.
    Frame(Hex),
    /// Datagrams for the VXLAN endpoint, as [`TraceCopy::datagrams`] has them.
    Datagrams(Vec<TraceDatagrams>),
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceReport {
    /// The name of the switch.
    pub switch: String,
    /// The underlay address of its VXLAN endpoint.
    pub local: Option<IpAddr>,
    /// The port where it comes in.
    pub port: Option<Name>,
    /// Or the VTEP that sends it.
    pub peer: Option<IpAddr>,
    /// The bridge that decides; null if none does.
    pub bridge: Option<Name>,
    /// The frame, in words.
    pub frame: String,
    /// Its bytes; null where datagrams came in.
    pub data: Option<Hex>,
    /// The outcome in one word.
    pub verdict: TraceVerdict,
    /// Why it, or the first of its copies, is dropped; null if none is.
    pub reason: Option<String>,
    /// What to do about that.
    pub fix: Option<String>,
    /// What happens, in order.
    pub steps: Vec<TraceStep>,
    /// What becomes of the copies, by where they go.
    pub copies: Vec<TraceCopy>,
    /// What the switch sends by itself.
    pub answers: Vec<TraceAnswer>,
    /// How it goes on at the switches of the VTEPs that got a copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Self>,
}

/// The outcome in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceVerdict {
    /// Every copy gets where it is to go.
    Delivered,
    /// Some copies do.
    PartlyDelivered,
    /// Nobody gets anything.
    Dropped,
    /// A probe of another tapswitch, which the switch answers by itself.
    Answered,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// What kind: `packet`, `underlay`, `parse`, `source`, `learn`, `look-up`, `forward`, `flood`,
    /// `offload`, `encap`, `mtu`, `deliver`, `answer`, `probe` or `drop`.
    pub step: String,
    /// What happens.
    pub text: String,
}

/// The copies for one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceCopy {
    /// The port that gets them.
    pub port: Option<Name>,
    /// Or the VTEP.
    pub remote: Option<String>,
    /// Frames that get there; a superframe that the switch segments is several.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that do not, by reason.
    pub drops: BTreeMap<String, u64>,
    /// What is written to the port, each without virtio-net header.
    pub data: Vec<Hex>,
    /// What is sent to the VTEP.
    pub datagrams: Vec<TraceDatagrams>,
}

/// One datagram between VTEPs, or several that travel as one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceDatagrams {
    /// Who sends it.
    pub from: IpAddr,
    /// From which UDP port.
    pub source_port: Option<u16>,
    /// To whom.
    pub to: SocketAddr,
    /// TOS or traffic class.
    pub tos: u8,
    /// Bytes of each datagram but the last, if there are several.
    pub segment: Option<u16>,
    /// Everything behind the UDP header.
    pub data: Hex,
}

/// Something that the switch sends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceAnswer {
    /// The port that gets it.
    pub port: Option<Name>,
    /// Or the VTEP.
    pub remote: Option<SocketAddr>,
    /// What it is, in words.
    pub frame: String,
    /// Its bytes.
    pub data: Hex,
}

/// Bytes, as hexadecimal digits; blanks and colons between them do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Vec<u8>);

/// The text is no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseHexError {
    /// Something else than a digit.
    #[error("column {column}: {character:?} is no hexadecimal digit")]
    Digit {
        /// Where, counted in characters from 1.
        column: usize,
        /// What is there.
        character: char,
    },
    /// Half a byte.
    #[error("{0} hexadecimal digits are no whole number of bytes")]
    Odd(usize),
}

impl FromStr for Hex {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        let mut digits = Vec::with_capacity(text.len());
        for (column, character) in (1..).zip(text.chars()) {
            if character.is_whitespace() || character == ':' {
                continue;
            }
            let digit = character
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok());
            digits.push(digit.ok_or(ParseHexError::Digit { column, character })?);
        }
        if !digits.len().is_multiple_of(2) {
            return Err(ParseHexError::Odd(digits.len()));
        }
        let pairs = digits.chunks_exact(2);
        Ok(Self(pairs.map(|pair| pair[0] << 4 | pair[1]).collect()))
    }
}

impl TryFrom<String> for Hex {
    type Error = ParseHexError;

    fn try_from(text: String) -> Result<Self, ParseHexError> {
        text.parse()
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        hex.to_string()
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_and_without_blanks() {
        for text in ["0a1bff", "0A 1b ff", "0a:1b:FF", " 0a1b\nff "] {
            let hex: Hex = text.parse().unwrap();
            assert_eq!(hex.0, [0x0a, 0x1b, 0xff], "{text}");
            assert_eq!(hex.to_string(), "0a1bff");
        }
        let error = "0a1g".parse::<Hex>().unwrap_err().to_string();
        assert!(error.starts_with("column 4"), "{error}");
        assert!(matches!("0a1".parse::<Hex>(), Err(ParseHexError::Odd(3))));
    }
}
