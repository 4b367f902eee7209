//! The arguments of `tapswitch explain`.

use std::{ops::RangeInclusive, str::FromStr};

use clap::{Args, ValueEnum};

use crate::dissect::Start;

/// Which bytes, and how to read them.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Hex digits, with or without separators; or a file: pcap, pcapng, or a hex dump of any
    /// program; or - for standard input
    #[arg(value_name = "HEX|FILE|-", required_unless_present = "mtu")]
    pub input: Vec<String>,
    /// Only this frame of several, or from one to another, counted from 1
    #[arg(long, value_name = "N[-M]")]
    pub frame: Option<FrameRange>,
    /// Where the bytes start, if not with Ethernet or a whole IP packet
    #[arg(long, value_name = "LAYER", default_value = "auto")]
    pub from: StartArg,
    /// One more UDP port that carries VXLAN, beside 4789 and 8472
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub vxlan_port: Option<u16>,
    /// Add up the headers of the overlay, for these frames or for none, over a path with this MTU
    /// [default: 1500]
    #[arg(
        long,
        value_name = "BYTES",
        num_args = 0..=1,
        default_missing_value = "1500"
    )]
    pub mtu: Option<String>,
    /// With --mtu: the outer packets are IPv6
    #[arg(long, requires = "mtu")]
    pub ipv6: bool,
    /// One line for each frame, and what is wrong with it
    #[arg(long, short, conflicts_with = "full")]
    pub brief: bool,
    /// All bytes of payloads, not only the first
    #[arg(long)]
    pub full: bool,
}

/// The numbers of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRange(pub RangeInclusive<u64>);

impl FromStr for FrameRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u64>().ok().filter(|&number| number > 0);
        match number(first).zip(number(last)) {
            Some((first, last)) if first <= last => Ok(Self(first..=last)),
            _ => Err("write a number from 1 on, or two such as 3-5".to_owned()),
        }
    }
}

/// See [`Start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartArg {
    /// Ethernet, or IP if the lengths say so
    Auto,
    /// An Ethernet header
    Ethernet,
    /// IPv4 or IPv6
    Ip,
    /// ARP
    Arp,
    /// A UDP header
    Udp,
    /// A TCP header
    Tcp,
    /// A VXLAN header
    Vxlan,
}

impl From<StartArg> for Start {
    fn from(start: StartArg) -> Self {
        match start {
            StartArg::Auto => Self::Auto,
            StartArg::Ethernet => Self::Ethernet,
            StartArg::Ip => Self::Ip,
            StartArg::Arp => Self::Arp,
            StartArg::Udp => Self::Udp,
            StartArg::Tcp => Self::Tcp,
            StartArg::Vxlan => Self::Vxlan,
        }
    }
}
