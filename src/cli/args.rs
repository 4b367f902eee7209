//! The command line as types.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{ArgGroup, Args, Parser, Subcommand};
use ipnet::IpNet;

mod bench;
mod capture;
mod explain;
mod lab;
mod overlay;
mod trace;
mod watch;
mod web;
mod why;

pub use self::bench::BenchArgs;
pub use self::capture::CaptureArgs;
pub use self::explain::{ExplainArgs, FrameRange, StartArg};
pub use self::lab::{LabBreakArgs, LabCommand, LabRunArgs, LangOption};
pub use self::overlay::{PeerArgs, PeerCommand, PingArgs, VtepCommand, VtepSetArgs};
pub use self::trace::{ThenArg, TraceArgs};
pub use self::watch::{MonitorArgs, StatsArgs, TopArgs};
pub use self::web::{DemoArgs, NodeArg, WebArgs};
pub use self::why::{FdbWhyArgs, WhyArgs};
use super::values::{
    AtLimitArg, ModeArg, MtuArg, OnOff, OrNone, PinArg, StateArg, or_none, parse_cidr, parse_mtu,
    parse_poll, parse_workers,
};
use crate::{
    config::{
        PeerAddr, ReservedMask, RouteSpec,
        units::{parse_duration, parse_listen},
    },
    control::api::DoctorTarget,
    names::{IfName, Name, NetnsRef},
    wire::{MacAddr, Vni},
};

/// A userspace learning switch between network namespaces.
#[derive(Debug, Parser)]
#[command(
    name = "tapswitch",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What all commands have.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The daemon's control socket [env: TAPSWITCH_SOCKET] [default: /run/tapswitch/control.sock; of
    /// whoever is not root, or only in a user namespace: $XDG_RUNTIME_DIR/tapswitch/control.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON with stable keys
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more to stderr; twice: even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a small network, show how frames find their way, and clean up
    Demo(DemoArgs),
    /// Run the daemon in the foreground
    Run(RunArgs),
    /// Check a configuration file and print every error with line and column
    Check {
        /// The file, or - for standard input
        file: PathBuf,
    },
    /// Make the running switch equal to a file, touching only what differs
    Apply {
        /// The file, or - for standard input
        file: PathBuf,
        /// Only print the steps: + added, ~ changed in place, ! plugged in anew, - removed
        #[arg(long, short = 'n')]
        dry_run: bool,
    },
    /// Show the VXLAN endpoint, bridges, ports, peers and totals on one screen
    Show,
    /// Add, change, delete and show bridges
    #[command(subcommand)]
    Bridge(BridgeCommand),
    /// Open, change, close and show this switch's VXLAN endpoint
    #[command(subcommand)]
    Vtep(VtepCommand),
    /// Add, delete, show and probe remote VTEPs
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Plug namespaces in, and change, unplug and show ports
    #[command(subcommand)]
    Port(PortCommand),
    /// Show and change the forwarding database
    #[command(subcommand)]
    Fdb(FdbCommand),
    /// Tell what became of frames, why, and what to do about it
    Why(WhyArgs),
    /// Show counters and drops by reason
    Stats(StatsArgs),
    /// Show ports, rates, drops and events on a screen that stays
    Top(TopArgs),
    /// Find out what is wrong: with a port, on the path from it to another port or to an address,
    /// or with the whole switch
    Doctor {
        /// The port where the path starts
        from: Option<Name>,
        /// The port or address where it ends
        #[arg(value_name = "PORT|IP")]
        to: Option<DoctorTarget>,
    },
    /// Print what happens, line by line, with the time of day in UTC
    Monitor(MonitorArgs),
    /// Tell what would become of a frame, step by step, without sending it
    Trace(TraceArgs),
    /// Tell what every byte of a frame means, and what is wrong with it
    Explain(ExplainArgs),
    /// Capture frames and what became of them: as lines, or for Wireshark and tcpdump
    Capture(CaptureArgs),
    /// Show what daemons do in a browser
    Web(WebArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into DIRECTORY/man1, where man finds them with MANPATH=DIRECTORY
    Man {
        /// Where to
        directory: PathBuf,
    },
    /// Lessons: networks that are built, watched frame by frame, checked, and broken for you to repair
    #[command(subcommand)]
    Lab(LabCommand),
    /// Measure this switch against others, all built here and now and gone afterwards
    Bench(BenchArgs),
    /// Make or take traffic for a measurement
    #[command(hide = true)]
    Load {
        /// What, as JSON
        order: String,
    },
}

/// Settings of the daemon.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file; read again on SIGHUP
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worker threads [default: 1 on up to 2 processors, else one for each]
    #[arg(long, value_name = "N", value_parser = parse_workers)]
    pub workers: Option<usize>,
    /// The switch's name, from which MAC addresses are derived [default: the host's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Let this group (name or number) use the control socket
    #[arg(long)]
    pub group: Option<String>,
    /// Serve Prometheus metrics over TCP too, such as on 127.0.0.1:9472
    #[arg(long, value_name = "[IP:]PORT", value_parser = parse_listen)]
    pub metrics: Option<SocketAddr>,
    /// Let other hosts read the metrics: --metrics may be any address
    #[arg(long, requires = "metrics")]
    pub metrics_remote: bool,
    /// Show what it does in a browser, such as on 127.0.0.1:8080; port 0: any that is free. Every user
    /// of this host can read it, and with it what frames contain
    #[arg(long, value_name = "[IP:]PORT", value_parser = parse_listen)]
    pub web: Option<SocketAddr>,
    /// Let whoever knows the word in this file change something from there. --web may then be any
    /// address, and everybody who reaches it reads without the word, which is sent in clear
    #[arg(long, value_name = "FILE", requires = "web")]
    pub web_token: Option<PathBuf>,
    /// Whether ports take superframes and unfinished checksums; off: none does, whatever it asks for
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub offload: OnOff,
    /// Keep every worker on a CPU of its own; auto: while there is no VXLAN endpoint
    #[arg(
        long,
        value_name = "auto|on|off",
        hide_possible_values = true,
        default_value = "auto"
    )]
    pub pin: PinArg,
    /// For how long at most a worker that just had frames looks for more before it sleeps, in
    /// microseconds or with a unit; 0: it sleeps at once
    #[arg(long, value_name = "MICROSECONDS", default_value = "200", value_parser = parse_poll)]
    pub poll: Duration,
    /// Join frames of a flow that wait together into one superframe
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub coalesce: OnOff,
    /// Remember what became of the last frames, by their headers
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub flow_cache: OnOff,
    /// Write down what becomes of frames, so that tapswitch why can tell
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub recorder: OnOff,
    /// Let small frames come together for some 60 microseconds where they keep a worker busy, and
    /// acknowledgements while some superframes are moved in a row
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub moderate: OnOff,
    /// Put together what leaves together, and send it in one piece
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub gather: OnOff,
    /// Tell TCP to slow down that keeps a queue standing before the tunnel, by a mark or a loss
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub aqm: OnOff,
    /// Let a worker's memory of addresses grow with the FDB
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub cache_growth: OnOff,
    /// Give ports no queueing discipline (qdisc noqueue), as veths have none
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        default_value = "on"
    )]
    pub noqueue: OnOff,
}

/// What to do with bridges.
#[derive(Debug, Subcommand)]
pub enum BridgeCommand {
    /// Add a bridge
    Add(BridgeArgs),
    /// Change settings of a bridge
    Set(BridgeArgs),
    /// Delete a bridge that has no ports
    #[command(aliases = ["delete", "rm"])]
    Del {
        /// Its name
        name: Name,
    },
    /// Show one bridge or all
    #[command(aliases = ["list", "ls"])]
    Show {
        /// Its name
        name: Option<Name>,
    },
}

/// A bridge and its settings.
#[derive(Debug, Args)]
pub struct BridgeArgs {
    /// Its name
    pub name: Name,
    /// How it relays frames: a switch learns, a hub repeats, a wire joins two ports
    #[arg(long)]
    pub mode: Option<ModeArg>,
    /// The overlay segment that carries it to other hosts; none: it stays on this one
    #[arg(
        long,
        value_name = "N|none",
        allow_negative_numbers = true,
        value_parser = or_none(Vni::from_str)
    )]
    pub vni: Option<OrNone<Vni>>,
    /// A remote VTEP to flood to, in place of those it has; may be repeated; none: nobody
    #[arg(long = "peer", value_name = "IP[:PORT]|none", value_parser = or_none(PeerAddr::from_str))]
    pub peers: Vec<OrNone<PeerAddr>>,
    /// Learn which addresses are behind which peer
    #[arg(
        long,
        value_name = "on|off",
        hide_possible_values = true,
        num_args = 0..=1,
        default_missing_value = "on"
    )]
    pub peer_learning: Option<OnOff>,
    /// MTU for ports that name none: a number or auto
    #[arg(long, value_name = "BYTES|auto", allow_negative_numbers = true)]
    pub mtu: Option<MtuArg>,
    /// How long a learned entry lives without being seen, such as 300s or 5m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub ageing: Option<Duration>,
    /// Most learned entries at one time
    #[arg(long, value_name = "N")]
    pub fdb_limit: Option<u32>,
    /// What happens to a new address at the limit
    #[arg(long)]
    pub at_limit: Option<AtLimitArg>,
    /// Reserved addresses to relay: none, all, or a list of stp, pause, lacp, eapol, lldp, 0 to f
    #[arg(long, value_name = "LIST")]
    pub forward_reserved: Option<ReservedMask>,
    /// Moves of an address within 180 s after which it is held; 0: never
    #[arg(long, value_name = "N")]
    pub flap_limit: Option<u16>,
}

/// What to do with ports.
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Plug a namespace in; any error undoes all of it
    Add(Box<PortAddArgs>),
    /// Change a port: --learning off, or learning off; up and down alone set the carrier
    Set(PortSetArgs),
    /// Unplug a port
    #[command(aliases = ["delete", "rm"])]
    Del {
        /// Its name
        name: Name,
    },
    /// Show one port or all
    #[command(aliases = ["list", "ls"])]
    Show {
        /// Its name
        name: Option<Name>,
    },
}

/// A new port.
#[derive(Debug, Args)]
pub struct PortAddArgs {
    /// Its name, unique in the switch
    pub name: Name,
    /// The bridge it belongs to
    #[arg(long, value_name = "BR")]
    pub bridge: Name,
    /// The namespace: a name, pid:N or an absolute path [default: the daemon's own]
    #[arg(long, value_name = "NS")]
    pub netns: Option<NetnsRef>,
    /// The interface's name there [default: eth0; for a host port the port's name]
    #[arg(long)]
    pub ifname: Option<IfName>,
    /// An address with its prefix length; may be repeated
    #[arg(long = "address", alias = "ip", value_name = "CIDR", value_parser = parse_cidr)]
    pub addresses: Vec<IpNet>,
    /// The default gateway; may be repeated, once for each family
    #[arg(long = "gateway", alias = "gw", value_name = "IP")]
    pub gateways: Vec<IpAddr>,
    /// A further route, such as "10.244.0.0/16,via 10.244.1.1"; may be repeated
    #[arg(long = "route", value_name = "CIDR[,via IP]")]
    pub routes: Vec<RouteSpec>,
    /// The interface's MAC address [default: derived from the names, so always the same]
    #[arg(long)]
    pub mac: Option<MacAddr>,
    /// The MTU [default: the bridge's]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_mtu)]
    pub mtu: Option<u32>,
    /// Whether it takes superframes and unfinished checksums [default: on]
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub offload: Option<OnOff>,
    /// Frames that the TAP queues towards the switch
    #[arg(long, value_name = "N")]
    pub txqueuelen: Option<u32>,
    /// Leave it without carrier
    #[arg(long, conflicts_with = "up")]
    pub down: bool,
    /// Its flags.
    #[command(flatten)]
    pub flags: FlagArgs,
}

/// Changes of a port.
#[derive(Debug, Args)]
pub struct PortSetArgs {
    /// Its name
    pub name: Name,
    /// up, down, or pairs such as: learning off isolated on mtu 1400
    #[arg(value_name = "SETTING")]
    pub words: Vec<String>,
    /// The MTU
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = parse_mtu)]
    pub mtu: Option<u32>,
    /// The interface's MAC address
    #[arg(long)]
    pub mac: Option<MacAddr>,
    /// An address in place of those it has; may be repeated; none: no address
    #[arg(long = "address", alias = "ip", value_name = "CIDR|none", value_parser = or_none(parse_cidr))]
    pub addresses: Vec<OrNone<IpNet>>,
    /// A default gateway in place of those it has; may be repeated; none: no gateway
    #[arg(long = "gateway", alias = "gw", value_name = "IP|none", value_parser = or_none(IpAddr::from_str))]
    pub gateways: Vec<OrNone<IpAddr>>,
    /// A route in place of those it has; may be repeated; none: no further routes
    #[arg(long = "route", value_name = "CIDR[,via IP]|none", value_parser = or_none(RouteSpec::from_str))]
    pub routes: Vec<OrNone<RouteSpec>>,
    /// Its flags.
    #[command(flatten)]
    pub flags: FlagArgs,
}

macro_rules! flag_args {
    ($($(#[$doc:meta])* $flag:ident),* $(,)?) => {
        /// The flags of a port, as `bridge link set` names them.
        #[derive(Clone, Copy, Debug, Default, Args)]
        #[command(next_help_heading = "Flags")]
        pub struct FlagArgs {
            $($(#[$doc])*
            #[arg(
                long,
                value_name = "on|off",
                hide_possible_values = true,
                num_args = 0..=1,
                default_missing_value = "on"
            )]
            pub $flag: Option<OnOff>,)*
        }
    };
}

flag_args! {
    /// Learn the source addresses of its frames
    learning,
    /// Send it unicast frames for unknown destinations
    flood,
    /// Send it multicast frames
    mcast_flood,
    /// Send it broadcast frames
    bcast_flood,
    /// Keep it apart from other isolated ports
    isolated,
    /// Let frames go back out of the port they came in
    hairpin,
    /// Accept only sources that the FDB has on this port
    locked,
    /// Administratively up
    up,
}

/// What to do with FDB entries.
#[derive(Debug, Subcommand)]
pub enum FdbCommand {
    /// Show entries
    #[command(aliases = ["list", "ls"])]
    Show(SelectorArgs),
    /// Look one address up; with --port or --remote only there
    Get(EntryArgs),
    /// Tell which frame taught an entry, and what has happened to it since
    Why(FdbWhyArgs),
    /// Add or replace a static entry
    Add(FdbAddArgs),
    /// Delete one entry; with --port or --remote only if it is there
    #[command(aliases = ["delete", "rm"])]
    Del(EntryArgs),
    /// Delete the selected entries; static ones only with --static
    Flush(SelectorArgs),
}

/// A static FDB entry.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("place").required(true).args(["port", "remote"]))]
pub struct FdbAddArgs {
    /// The address
    pub mac: MacAddr,
    /// The port behind which it is
    #[arg(long, visible_alias = "dev")]
    pub port: Option<Name>,
    /// The VTEP behind which it is
    #[arg(long, visible_alias = "dst", value_name = "IP[:PORT]")]
    pub remote: Option<PeerAddr>,
    /// The bridge [default: the port's; with --remote the only one that has a VNI]
    #[arg(long, visible_alias = "br", value_name = "BR")]
    pub bridge: Option<Name>,
    /// The VLAN id; 0 for untagged frames
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=4094))]
    pub vlan: u16,
}

/// One FDB entry.
#[derive(Debug, Args)]
pub struct EntryArgs {
    /// The address
    pub mac: MacAddr,
    /// Only behind this port
    #[arg(long, visible_alias = "dev")]
    pub port: Option<Name>,
    /// Only behind this VTEP
    #[arg(
        long,
        visible_alias = "dst",
        value_name = "IP[:PORT]",
        conflicts_with = "port"
    )]
    pub remote: Option<PeerAddr>,
    /// The bridge [default: the port's, or the only one]
    #[arg(long, visible_alias = "br", value_name = "BR")]
    pub bridge: Option<Name>,
    /// The VLAN id; 0 for untagged frames
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=4094))]
    pub vlan: u16,
}

/// Which FDB entries.
#[derive(Debug, Args)]
pub struct SelectorArgs {
    /// Only of this bridge
    #[arg(long, visible_alias = "br", value_name = "BR")]
    pub bridge: Option<Name>,
    /// Only behind this port
    #[arg(long, visible_alias = "dev")]
    pub port: Option<Name>,
    /// Only behind this VTEP
    #[arg(
        long,
        visible_alias = "dst",
        value_name = "IP[:PORT]",
        conflicts_with = "port"
    )]
    pub remote: Option<PeerAddr>,
    /// Only this address
    #[arg(long)]
    pub mac: Option<MacAddr>,
    /// Only this VLAN id
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=4094))]
    pub vlan: Option<u16>,
    /// Only entries of this kind
    #[arg(long, conflicts_with_all = ["is_static", "is_learned"])]
    pub state: Option<StateArg>,
    /// Only static entries
    #[arg(long = "static", conflicts_with = "is_learned")]
    pub is_static: bool,
    /// Only learned entries
    #[arg(long = "learned", visible_alias = "dynamic")]
    pub is_learned: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
