//! Settings of the overlay: this process's VXLAN endpoint, and the endpoints it talks to.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::OffloadMode;
use crate::names::NetnsRef;

/// The VXLAN endpoint of this process: one UDP socket's address, and how datagrams are made and
/// taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VtepSpec {
    /// The underlay address that datagrams come from and are taken at.
    pub local: IpAddr,
    /// The UDP port that it listens on, and that peers without a port of their own have.
    #[serde(default = "VtepSpec::default_port")]
    pub port: u16,
    /// Where the underlay socket lives; `None` is the daemon's own namespace.
    #[serde(default)]
    pub netns: Option<NetnsRef>,
    /// Whose datagrams it takes.
    #[serde(default)]
    pub accept: Accept,
    /// Drop datagrams with reserved bits of the VXLAN header set. RFC 7348 §5: they "MUST be ignored
    /// on receipt", so by default they are only counted.
    #[serde(default)]
    pub strict: bool,
    /// The outer TTL or hop limit, 1 to 255.
    #[serde(default = "VtepSpec::default_ttl")]
    pub ttl: u8,
    /// The outer TOS or traffic class, without its ECN bits.
    #[serde(default)]
    pub tos: Tos,
    /// Whether outer UDP checksums are sent. Without them there is no `UDP_SEGMENT`, and over IPv6
    /// the peer must be told to take such datagrams (RFC 6935, RFC 6936).
    #[serde(default = "VtepSpec::default_true")]
    pub udpcsum: bool,
    /// Whether IPv6 datagrams without an outer UDP checksum are taken (RFC 6935).
    #[serde(default)]
    pub udp6zerocsumrx: bool,
    /// Whether the kernel segments and joins datagrams: `UDP_SEGMENT` and `UDP_GRO`.
    #[serde(default)]
    pub offload: OffloadMode,
    /// Tell the sender of an inner packet that is too big for the path (ICMP fragmentation needed,
    /// ICMPv6 packet too big).
    #[serde(default = "VtepSpec::default_true")]
    pub too_big_answers: bool,
}

impl VtepSpec {
    /// The port of VXLAN (RFC 7348 §5).
    pub const DEFAULT_PORT: u16 = 4789;
    /// Linux's default for IPv4 (`net.ipv4.ip_default_ttl`) and IPv6.
    pub const DEFAULT_TTL: u8 = 64;

    /// An endpoint at `local` with default settings.
    pub fn new(local: IpAddr) -> Self {
        Self {
            local,
            port: Self::DEFAULT_PORT,
            netns: None,
            accept: Accept::Peers,
            strict: false,
            ttl: Self::DEFAULT_TTL,
            tos: Tos::default(),
            udpcsum: true,
            udp6zerocsumrx: false,
            offload: OffloadMode::On,
            too_big_answers: true,
        }
    }

    /// Its own address and port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.port)
    }

    const fn default_port() -> u16 {
        Self::DEFAULT_PORT
    }

    const fn default_ttl() -> u8 {
        Self::DEFAULT_TTL
    }

    const fn default_true() -> bool {
        true
    }
}

/// Whose datagrams an endpoint takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// Those of known peers of the VNI.
    #[default]
    Peers,
    /// Anybody's: addresses are learned from whoever sends, as the kernel's vxlan does.
    Any,
}

/// The outer TOS or traffic class. Its ECN bits always follow RFC 6040.
///
/// Text: `inherit`, or a number with the low two bits clear, as `ip link add type vxlan tos` takes
/// it. As JSON or TOML the word or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "TosForm", into = "TosForm")]
pub enum Tos {
    /// The byte: DSCP in the upper six bits.
    Fixed(u8),
    /// The DSCP of the inner packet; 0 for what is not IP.
    Inherit,
}

impl Default for Tos {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

/// The text is no TOS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a TOS; write inherit, or a number from 0 to 252 that four divides")]
pub struct ParseTosError {
    text: String,
}

impl Tos {
    /// `byte` as TOS; `None` if it has ECN bits.
    pub const fn fixed(byte: u8) -> Option<Self> {
        match byte & 0b11 {
            0 => Some(Self::Fixed(byte)),
            _ => None,
        }
    }
}

impl FromStr for Tos {
    type Err = ParseTosError;

    fn from_str(text: &str) -> Result<Self, ParseTosError> {
        if text == "inherit" {
            return Ok(Self::Inherit);
        }
        let byte = match text.strip_prefix("0x") {
            Some(digits) => u8::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        byte.and_then(Self::fixed).ok_or_else(|| ParseTosError {
            text: text.chars().take(40).collect(),
        })
    }
}

impl fmt::Display for Tos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(byte) => byte.fmt(f),
            Self::Inherit => f.pad("inherit"),
        }
    }
}

/// [`Tos`] on the wire.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TosForm {
    Number(u8),
    Word(String),
}

impl TryFrom<TosForm> for Tos {
    type Error = ParseTosError;

    fn try_from(form: TosForm) -> Result<Self, ParseTosError> {
        match form {
            TosForm::Number(byte) => byte.to_string().parse(),
            TosForm::Word(word) => word.parse(),
        }
    }
}

impl From<Tos> for TosForm {
    fn from(tos: Tos) -> Self {
        match tos {
            Tos::Fixed(byte) => Self::Number(byte),
            Tos::Inherit => Self::Word(tos.to_string()),
        }
    }
}

/// A remote VTEP: `192.168.50.20`, `192.168.50.30:8472`, `fd00::1` or `[fd00::1]:8472`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddr {
    /// Its underlay address.
    pub ip: IpAddr,
    /// Its UDP port; `None` is the port of our own endpoint.
    pub port: Option<u16>,
}

impl PeerAddr {
    /// A peer on the port of our own endpoint.
    pub const fn new(ip: IpAddr) -> Self {
        Self { ip, port: None }
    }

    /// Where its datagrams go, with `default_port` the port of our own endpoint.
    pub fn address(self, default_port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(default_port))
    }
}

/// The text is no remote VTEP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a VTEP's address; write IP or IP:PORT such as 192.168.50.20, \
     192.168.50.20:8472 or [fd00::1]:8472"
)]
pub struct ParsePeerError {
    text: String,
}

impl FromStr for PeerAddr {
    type Err = ParsePeerError;

    fn from_str(text: &str) -> Result<Self, ParsePeerError> {
        let refuse = || ParsePeerError {
            text: text.chars().take(60).collect(),
        };
        if let Ok(ip) = text.parse() {
            return Ok(Self::new(ip));
        }
        let address: SocketAddr = text.parse().map_err(|_| refuse())?;
        // A scope id would be lost; port 0 is nobody's.
        let has_scope = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
        if address.port() == 0 || has_scope {
            return Err(refuse());
        }
        Ok(Self {
            ip: address.ip(),
            port: Some(address.port()),
        })
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.port) {
            (ip, None) => ip.fmt(f),
            (IpAddr::V4(ip), Some(port)) => f.pad(&format!("{ip}:{port}")),
            (IpAddr::V6(ip), Some(port)) => SocketAddrV6::new(ip, port, 0, 0).fmt(f),
        }
    }
}

impl TryFrom<String> for PeerAddr {
    type Error = ParsePeerError;

    fn try_from(text: String) -> Result<Self, ParsePeerError> {
        text.parse()
    }
}

impl From<PeerAddr> for String {
    fn from(peer: PeerAddr) -> Self {
        peer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_with_or_without_a_port() {
        for text in [
            "192.168.50.20",
            "192.168.50.30:8472",
            "fd00::1",
            "[fd00::1]:8472",
        ] {
            let peer: PeerAddr = text.parse().unwrap();
            assert_eq!(peer.to_string(), text);
            let json = serde_json::to_string(&peer).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<PeerAddr>(&json).unwrap(), peer);
        }
        for text in [
            "",
            "nodeB",
            "192.168.50",
            "192.168.50.20:",
            "192.168.50.20:0",
            "192.168.50.20:65536",
            "192.168.50.20/24",
            "[fd00::1]",
            "fe80::1%eth0",
            "[fe80::1%2]:4789",
        ] {
            assert!(text.parse::<PeerAddr>().is_err(), "{text:?} was accepted");
        }
        let peer: PeerAddr = "192.168.50.20".parse().unwrap();
        assert_eq!(peer.address(4789).to_string(), "192.168.50.20:4789");
    }

    #[test]
    fn a_tos_is_inherited_or_a_byte_without_ecn_bits() {
        assert_eq!("inherit".parse(), Ok(Tos::Inherit));
        assert_eq!("0xb8".parse(), Ok(Tos::Fixed(184)));
        assert_eq!("0".parse(), Ok(Tos::default()));
        for text in ["1", "2", "3", "253", "256", "ef", "-4", ""] {
            assert!(text.parse::<Tos>().is_err(), "{text:?} was accepted");
        }
        for (tos, json) in [(Tos::Inherit, "\"inherit\""), (Tos::Fixed(184), "184")] {
            assert_eq!(serde_json::to_string(&tos).unwrap(), json);
            assert_eq!(serde_json::from_str::<Tos>(json).unwrap(), tos);
        }
        assert!(serde_json::from_str::<Tos>("3").is_err());
    }

    #[test]
    fn an_endpoint_needs_only_its_address() {
        let spec: VtepSpec = serde_json::from_str(r#"{"local":"192.168.50.10"}"#).unwrap();
        assert_eq!(spec, VtepSpec::new("192.168.50.10".parse().unwrap()));
        assert_eq!((spec.port, spec.ttl, spec.udpcsum), (4789, 64, true));
        assert!(serde_json::from_str::<VtepSpec>(r#"{"local":"::1","vni":1}"#).is_err());
    }
}
