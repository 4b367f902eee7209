//! Arguments of the questions about what has happened.

use std::time::Duration;

use clap::Args;

use crate::{
    config::units::parse_duration,
    control::api::{Request, WhyRequest},
    names::Name,
    wire::MacAddr,
};

/// What became of frames.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// An IP or MAC address, a peer, or the name of a port [default: all frames]
    #[arg(value_name = "ADDRESS|PORT")]
    pub about: Option<String>,
    /// Only of the last time, such as 60s [default: all that is remembered]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub last: Option<Duration>,
    /// Only what was lost
    #[arg(long)]
    pub drops: bool,
}

impl From<WhyArgs> for WhyRequest {
    fn from(args: WhyArgs) -> Self {
        Self {
            about: args.about,
            last_s: args.last.map(|last| last.as_secs_f64()),
            drops: args.drops,
        }
    }
}

/// Where an FDB entry comes from.
#[derive(Debug, Args)]
pub struct FdbWhyArgs {
    /// The address
    pub mac: MacAddr,
    /// Only on this bridge
    #[arg(long, visible_alias = "br", value_name = "BR")]
    pub bridge: Option<Name>,
    /// Only this VLAN id; 0 for untagged frames
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=4094))]
    pub vlan: Option<u16>,
}

impl From<FdbWhyArgs> for Request {
    fn from(args: FdbWhyArgs) -> Self {
        Self::FdbWhy {
            bridge: args.bridge,
            mac: args.mac,
            vlan: args.vlan,
        }
    }
}
