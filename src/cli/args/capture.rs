//! The arguments of `tapswitch capture`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum};

use crate::{
    config::units::parse_bytes,
    control::api::{CaptureRequest, CaptureSide},
    names::Name,
};

/// What to capture, and where it goes.
#[derive(Debug, Args)]
#[command(after_help = "\
Filters are those of tcpdump: host, net, port, ether host, arp, icmp, tcp, vlan ID, vxlan VNI, \
less N, tcp[tcpflags] & tcp-syn != 0, with and, or, not and parentheses. The word drops in front \
stands for --drops. With -v each line is followed by all that is known of the frame.

Examples:
  tapswitch capture --port podA icmp or arp
  tapswitch capture drops
  tapswitch capture --outer -w - vxlan 42 | wireshark -k -i -
  tapswitch capture -w ring.pcapng -C 10M -W 5")]
pub struct CaptureArgs {
    /// At this port; may be repeated [default: everywhere]
    #[arg(long, short, value_name = "PORT")]
    pub port: Vec<Name>,
    /// From and to this VTEP; may be repeated
    #[arg(long, value_name = "IP")]
    pub peer: Vec<IpAddr>,
    /// At all ports and VTEPs of this bridge; may be repeated
    #[arg(long, visible_alias = "br", value_name = "BR")]
    pub bridge: Vec<Name>,
    /// Only what is dropped
    #[arg(long)]
    pub drops: bool,
    /// Where frames come in, or where they leave
    #[arg(long, default_value = "both")]
    pub side: SideArg,
    /// On the overlay: datagrams, after encapsulation and before decapsulation
    #[arg(long)]
    pub outer: bool,
    /// On the overlay: frames, before encapsulation and after decapsulation; so it is if nobody says
    #[arg(long)]
    pub inner: bool,
    /// End after so many frames
    #[arg(long, short, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,
    /// Keep so many bytes of each frame [default: all]
    #[arg(long, short, value_name = "BYTES", default_value_t = CaptureRequest::MAX_SNAPLEN,
        hide_default_value = true, value_parser = parse_snaplen)]
    pub snaplen: u32,
    /// Write a pcapng file; - for standard output
    #[arg(long, short, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Begin another file after so many bytes, such as 10M; a bare number counts millions
    #[arg(long, short = 'C', value_name = "SIZE", requires = "write", value_parser = parse_size)]
    pub file_size: Option<u64>,
    /// Keep only the last so many files
    #[arg(long, short = 'W', value_name = "N", requires = "file_size",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub files: Option<u32>,
    /// Only frames that match, in the language of tcpdump [default: all]
    #[arg(value_name = "FILTER", allow_hyphen_values = false)]
    pub filter: Vec<String>,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SideArg {
    /// Into the switch
    In,
    /// Out of it
    Out,
    /// Both, so that what is forwarded appears at each place
    Both,
}

impl From<SideArg> for CaptureSide {
    fn from(side: SideArg) -> Self {
        match side {
            SideArg::In => Self::In,
            SideArg::Out => Self::Out,
            SideArg::Both => Self::Both,
        }
    }
}

/// Bytes: a number of millions, as tcpdump has it, or one with a unit.
fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text, 1_000_000)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "write a number of bytes such as 100k, 10M or 1GiB".to_owned())
}

fn parse_count(text: &str) -> Result<u64, String> {
    let read = text.parse().ok().filter(|&count| count > 0);
    read.ok_or_else(|| "write a number from 1 on".to_owned())
}

fn parse_snaplen(text: &str) -> Result<u32, String> {
    let most = CaptureRequest::MAX_SNAPLEN;
    let read = parse_bytes(text, 1).and_then(|bytes| u32::try_from(bytes).ok());
    read.filter(|bytes| (1..=most).contains(bytes))
        .ok_or_else(|| format!("write a number of bytes from 1 to {most}, such as 96 or 1k"))
}
