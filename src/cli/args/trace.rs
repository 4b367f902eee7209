//! Arguments of `trace`.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use clap::{ArgGroup, Args};

use crate::{names::Name, wire::Vni};

/// Which frame, and where it comes in.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("from").required(true).args(["port", "from_peer"]),
    group = ArgGroup::new("what").required(true).args(["packet", "hex", "pcap"]),
    after_help = EXAMPLES
)]
pub struct TraceArgs {
    /// The port where it comes in
    #[arg(long = "in", value_name = "PORT")]
    pub port: Option<Name>,
    /// The VTEP that sends it
    #[arg(long, value_name = "IP")]
    pub from_peer: Option<IpAddr>,
    /// Its VNI; may be left out where only one bridge has one
    #[arg(long, value_name = "N", requires = "from_peer")]
    pub vni: Option<Vni>,
    /// The frame in words
    #[arg(value_name = "PACKET")]
    pub packet: Vec<String>,
    /// The frame as hexadecimal digits, from its Ethernet header on; - for standard input
    #[arg(long, value_name = "DIGITS")]
    pub hex: Option<String>,
    /// A frame of a capture file, pcap or pcapng
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Which frame of the file, counted from 1
    #[arg(long, value_name = "N", default_value_t = 1, requires = "pcap")]
    pub frame: u64,
    /// Go on at the switch of a VTEP that gets a copy, by its control socket; may be repeated
    #[arg(long, value_name = "[IP=]SOCKET")]
    pub then: Vec<ThenArg>,
}

/// The switch of a VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThenArg {
    /// Its underlay address; if nobody says, the switch is asked.
    pub ip: Option<IpAddr>,
    /// Its control socket.
    pub socket: PathBuf,
}

impl FromStr for ThenArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.split_once('=');
        let known = split.and_then(|(ip, socket)| Some((ip.parse().ok()?, socket)));
        Ok(match known {
            Some((ip, socket)) => Self {
                ip: Some(ip),
                socket: socket.into(),
            },
            None => Self {
                ip: None,
                socket: text.into(),
            },
        })
    }
}

const EXAMPLES: &str = "\
Packets, whose sender is the port unless they say otherwise:
  arp who-has 10.1.1.20 [tell 10.1.1.10]     nd who-has fd00::20
  icmp [10.1.1.10 >] 10.1.1.20               icmp6 fd00::20
  udp [10.1.1.10:1234 >] 10.1.1.20:53        udp '[fd00::20]:53'
  tcp 10.1.1.20:80 syn                       tcp 10.1.1.20:80 len 60000 mss 1448
and behind them any of:
  src-mac MAC, dst-mac MAC, vlan N; of IP ttl N, tos N, csum right|wrong;
  of IPv4 df, no-df; of icmp len N, seq N; of udp and tcp len N, mss N,
  csum unfinished; of tcp syn, ack, fin, rst, psh

Quote a packet that has a > in it: the shell would take it for its own.";
