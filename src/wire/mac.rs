//! 48-bit MAC addresses (IEEE 802-2014 clause 8.2).

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A 48-bit MAC address.
///
/// Kept as a number, first octet most significant: comparing, hashing and looking at its bits then
/// costs one instruction each, and ordering is that of the octets.
///
/// ```
/// use tapswitch::wire::MacAddr;
///
/// let mac: MacAddr = "01:80:c2:00:00:0e".parse().unwrap();
/// assert!(mac.is_group() && !mac.is_broadcast());
/// assert_eq!(mac.reserved(), Some(0xe)); // LLDP; a bridge does not relay it.
/// assert_eq!(MacAddr::new([2, 0, 0, 0, 0, 1]).to_string(), "02:00:00:00:00:01");
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(u64);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self(MASK);
    /// `00:00:00:00:00:00`, never a valid source.
    pub const ZERO: Self = Self(0);

    /// The address with these six octets, first on the wire first.
    #[inline]
    pub const fn new(octets: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = octets;
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The six octets, first on the wire first.
    #[inline]
    pub const fn octets(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// The address as a number below 2^48, first octet most significant.
    #[inline]
    pub const fn to_u48(self) -> u64 {
        self.0
    }

    /// The address with the low 48 bits of `number`; the inverse of [`Self::to_u48`].
    #[inline]
    pub const fn from_u48(number: u64) -> Self {
        Self(number & MASK)
    }

    /// Whether the I/G bit is set: multicast or broadcast.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0 >> 40 & 1 == 1
    }

    /// Whether it can be the address of one station: neither a group nor all zero.
    #[inline]
    pub const fn is_unicast(self) -> bool {
        !self.is_group() && !self.is_zero()
    }

    /// Whether this is `ff:ff:ff:ff:ff:ff`.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        self.0 == MASK
    }

    /// Whether all octets are zero.
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The last nibble if this is one of the reserved group addresses 01-80-C2-00-00-00 to -0F,
    /// which a bridge does not relay (IEEE 802.1D-2004 table 7-10).
    #[inline]
    pub const fn reserved(self) -> Option<u8> {
        let [.., last] = self.0.to_be_bytes();
        if self.0 & !0xf == 0x0180_c200_0000 {
            Some(last & 0xf)
        } else {
            None
        }
    }

    /// A stable, locally administered unicast address made from `parts`, for interfaces that
    /// were given none: the same parts yield the same address on every run and release.
    pub fn derived(parts: &[&str]) -> Self {
        // FNV-1a with a 0xff between the parts (never part of UTF-8), then a finalizer, since
        // FNV alone leaves the high bits of short inputs alike.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for part in parts {
            for &byte in part.as_bytes().iter().chain(&[0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let [_, a, b, c, d, e, ..] = hash.to_be_bytes();
        Self::new([0x02, a, b, c, d, e])
    }
}

/// The MAC address of a group or broadcast address (RFC 1112 §6.4, RFC 2464 §7).
pub fn group_address(ip: IpAddr) -> Option<MacAddr> {
    match ip {
        IpAddr::V4(ip) if ip.is_broadcast() => Some(MacAddr::BROADCAST),
        IpAddr::V4(ip) if ip.is_multicast() => {
            let [_, b, c, d] = ip.octets();
            Some(MacAddr::new([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        IpAddr::V6(ip) if ip.is_multicast() => {
            let [.., a, b, c, d] = ip.octets();
            Some(MacAddr::new([0x33, 0x33, a, b, c, d]))
        }
        _ => None,
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        f.pad(&format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"))
    }
}

/// All ones: 48 bits.
const MASK: u64 = (1 << 48) - 1;

/// The text is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a MAC address; write six hex octets such as 02:00:00:00:00:01")]
pub struct ParseMacError {
    text: String,
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Reads `02:00:00:00:00:01` or `02-00-00-00-00-01`.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let refuse = || ParseMacError {
            text: text.chars().take(40).collect(),
        };
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(refuse)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        Ok(Self::new(octets))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_round_trip() {
        let mac: MacAddr = "02:00:5e:10:00:ff".parse().unwrap();
        assert_eq!(mac.octets(), [0x02, 0, 0x5e, 0x10, 0, 0xff]);
        assert_eq!(MacAddr::from_u48(mac.to_u48()), mac);
        assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
        assert_eq!("2-0-5e-10-0-FF".parse::<MacAddr>().unwrap(), mac);
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:0g",
            "020000000001",
            "+2:0:0:0:0:1",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn only_the_sixteen_reserved_addresses_are_reserved() {
        let mac = |text: &str| text.parse::<MacAddr>().unwrap();
        assert_eq!(mac("01:80:c2:00:00:00").reserved(), Some(0));
        assert_eq!(mac("01:80:c2:00:00:0f").reserved(), Some(15));
        assert_eq!(mac("01:80:c2:00:00:10").reserved(), None);
        assert_eq!(mac("01:80:c2:00:01:00").reserved(), None);
    }

    #[test]
    fn derived_addresses_are_stable_local_unicast_and_distinct() {
        let mac = MacAddr::derived(&["host", "podA"]);
        assert_eq!(mac, MacAddr::derived(&["host", "podA"]));
        assert_ne!(mac, MacAddr::derived(&["host", "podB"]));
        assert_ne!(
            MacAddr::derived(&["ab", "c"]),
            MacAddr::derived(&["a", "bc"])
        );
        assert_eq!(mac.octets()[0], 0x02);
    }
}
