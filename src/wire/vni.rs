//! The VXLAN network identifier (RFC 7348 §4): 24 bits that name one overlay segment.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A VXLAN network identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// The number or the text is no VNI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a VNI; write a number from 0 to 16777215")]
pub struct ParseVniError {
    text: String,
}

impl Vni {
    /// The largest.
    pub const MAX: Self = Self(0xff_ffff);

    /// VNI `number`; `None` beyond 24 bits.
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::MAX.0 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vni {
    type Err = ParseVniError;

    fn from_str(text: &str) -> Result<Self, ParseVniError> {
        let number = text.parse().ok().and_then(Self::new);
        number.ok_or_else(|| ParseVniError {
            text: text.chars().take(40).collect(),
        })
    }
}

impl TryFrom<u32> for Vni {
    type Error = ParseVniError;

    fn try_from(number: u32) -> Result<Self, ParseVniError> {
        Self::new(number).ok_or_else(|| ParseVniError {
            text: number.to_string(),
        })
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vni_has_24_bits() {
        assert_eq!("16777215".parse(), Ok(Vni::MAX));
        assert_eq!("0".parse(), Ok(Vni::new(0).unwrap()));
        for text in ["16777216", "-1", "", "0x10", "4294967296"] {
            assert!(text.parse::<Vni>().is_err(), "{text:?}");
        }
    }
}
