//! The overlay's commands as types.

use std::{net::IpAddr, str::FromStr, time::Duration};

use clap::{Args, Subcommand};

use crate::{
    cli::values::{AcceptArg, OnOff, OrNone, or_none},
    config::{
        PeerAddr, Tos,
        units::{parse_bytes, parse_duration},
    },
    names::{Name, NetnsRef},
    vxlan::ping,
};

/// What to do with the VXLAN endpoint.
#[derive(Debug, Subcommand)]
pub enum VtepCommand {
    /// Open the endpoint, or change it; what is not given stays as it is
    Set(VtepSetArgs),
    /// Close the endpoint; no bridge may have a VNI by then
    #[command(aliases = ["delete", "rm"])]
    Del,
    /// Show the endpoint
    #[command(aliases = ["list", "ls"])]
    Show,
}

/// Settings of the VXLAN endpoint.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct VtepSetArgs {
    /// The underlay address that datagrams come from and are taken at
    #[arg(long, value_name = "IP")]
    pub local: Option<IpAddr>,
    /// The UDP port [default: 4789]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The namespace of the underlay: a name, pid:N or an absolute path; none: the daemon's own
    #[arg(long, value_name = "NS|none", value_parser = or_none(NetnsRef::from_str))]
    pub netns: Option<OrNone<NetnsRef>>,
    /// Whose datagrams it takes [default: peers]
    #[arg(long)]
    pub accept: Option<AcceptArg>,
    /// Drop datagrams with reserved bits set, which are only counted otherwise [default: off]
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub strict: Option<OnOff>,
    /// The outer TTL or hop limit [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub ttl: Option<u8>,
    /// The outer TOS: the inner packet's DSCP, or a number without ECN bits [default: 0]
    #[arg(long, value_name = "inherit|N")]
    pub tos: Option<Tos>,
    /// Send outer UDP checksums [default: on]
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub udpcsum: Option<OnOff>,
    /// Take IPv6 datagrams without an outer UDP checksum [default: off]
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub udp6zerocsumrx: Option<OnOff>,
    /// Let the kernel segment and join datagrams (UDP_SEGMENT, UDP_GRO) [default: on]
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub offload: Option<OnOff>,
    /// Tell senders of packets that are too big for the path [default: on]
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub too_big_answers: Option<OnOff>,
}

/// What to do with remote VTEPs.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Flood a bridge's frames to a VTEP too
    Add(PeerArgs),
    /// Take a VTEP off that list
    #[command(aliases = ["delete", "rm"])]
    Del(PeerArgs),
    /// Show the VTEPs of one bridge or all
    #[command(aliases = ["list", "ls"])]
    Show {
        /// Only of this bridge
        #[arg(long, visible_alias = "br", value_name = "BR")]
        bridge: Option<Name>,
    },
    /// Ask whether a VTEP answers, and how large a frame gets there
    Ping(PingArgs),
}

/// A remote VTEP of a bridge.
#[derive(Debug, Args)]
pub struct PeerArgs {
    /// Its underlay address, with a UDP port if it is not the endpoint's
    #[arg(value_name = "IP[:PORT]")]
    pub remote: PeerAddr,
    /// The bridge; may be left out where there is only one with a VNI
    #[arg(long, visible_alias = "br", value_name = "BR")]
    pub bridge: Option<Name>,
}

/// How to probe a remote VTEP.
#[derive(Debug, Args)]
pub struct PingArgs {
    /// Which.
    #[command(flatten)]
    pub peer: PeerArgs,
    /// How many probes
    #[arg(long, short, value_name = "N", default_value_t = 3)]
    pub count: u32,
    /// Bytes of the whole inner frame, with its 14 of Ethernet, 60 to 65499 [default: 60]
    #[arg(long, short, value_name = "BYTES", value_parser = parse_probe_size)]
    pub size: Option<u32>,
    /// From one probe to the next
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// How long an answer may take
    #[arg(long, short = 'W', value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Find the largest frame that gets there
    #[arg(long, conflicts_with = "size")]
    pub sweep: bool,
}

fn parse_probe_size(text: &str) -> Result<u32, String> {
    let least = u64::try_from(ping::MIN_LEN).unwrap_or_default();
    let most = u64::try_from(ping::MAX_LEN).unwrap_or(u64::MAX);
    let read = parse_bytes(text, 1).filter(|bytes| (least..=most).contains(bytes));
    read.and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(|| {
            format!("write a number of bytes from {least} to {most}, such as 1400 or 1k")
        })
}
