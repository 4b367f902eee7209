//! The control API's types: what a client may ask, and what it gets back.
//!
//! Every request is answered when it has taken effect: the next frame sees it.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

mod capture;
mod doctor;
mod fdb;
mod overlay;
mod trace;
mod why;

pub use self::capture::{
    CaptureForm, CaptureFormat, CaptureLine, CaptureRequest, CaptureSide, CapturedFrame,
    CapturedLesson, CapturedRow, RowChange,
};
pub use self::doctor::{DoctorRequest, DoctorTarget};
pub use self::fdb::{EntrySelector, FdbInfo, FdbSelector, FdbState};
pub use self::overlay::{
    MtuChain, PeerInfo, PeerKind, PeerState, PingReply, PingReport, PingRequest, VtepInfo,
    VtepState,
};
pub use self::trace::{
    Hex, ParseHexError, TraceAnswer, TraceCopy, TraceDatagrams, TraceFrom, TraceReport,
    TraceRequest, TraceStep, TraceVerdict, TraceWhat,
};
pub use self::why::{FdbChange, FdbStory, WhyEntry, WhyFate, WhyReport, WhyRequest};
use crate::{
    config::{
        AtLimit, BridgeSpec, Mode, OffloadMode, PeerAddr, PortSpec, ReservedMask, RouteSpec,
        StaticSpec, SwitchSpec, VtepSpec,
    },
    doctor::Report,
    names::Name,
    wire::{MacAddr, Vni},
};

/// Something to do or to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Everything on one screen.
    #[serde(deserialize_with = "without_fields")]
    Show,
    /// Opens the VXLAN endpoint, or changes it where it is. All settings are replaced.
    VtepSet(VtepSpec),
    /// Closes the VXLAN endpoint, which no bridge uses any more.
    #[serde(deserialize_with = "without_fields")]
    VtepDel,
    /// Tells about the VXLAN endpoint.
    #[serde(deserialize_with = "without_fields")]
    VtepShow,
    /// Adds a bridge.
    BridgeAdd(BridgeSpec),
    /// Changes settings of a bridge; what is `None` stays.
    BridgeSet(BridgeChange),
    /// Deletes a bridge that has no ports.
    BridgeDel {
        /// Which.
        name: Name,
    },
    /// Lists bridges.
    BridgeShow {
        /// Only this one.
        name: Option<Name>,
    },
    /// Plugs a port in; any error undoes all of it.
    PortAdd(PortSpec),
    /// Changes a port; what is `None` stays.
    PortSet(PortChange),
    /// Unplugs a port.
    PortDel {
        /// Which.
        name: Name,
    },
    /// Lists ports.
    PortShow {
        /// Only this one.
        name: Option<Name>,
    },
    /// Adds a VTEP to those that a bridge floods to.
    PeerAdd {
        /// The bridge; may be left out where there is only one with a VNI.
        bridge: Option<Name>,
        /// The VTEP.
        remote: PeerAddr,
    },
    /// Takes a VTEP off that list; what was learned behind it goes too.
    PeerDel {
        /// The bridge; may be left out where there is only one with a VNI.
        bridge: Option<Name>,
        /// The VTEP.
        remote: PeerAddr,
    },
    /// Lists VTEPs, those of static and learned entries among them.
    PeerShow {
        /// Only of this bridge.
        bridge: Option<Name>,
    },
    /// Asks whether a VTEP answers. Takes as long as [`PingRequest::longest`] says.
    PeerPing(PingRequest),
    /// Examines a port, a path or everything. Takes up to two seconds, and changes nothing.
    Doctor(DoctorRequest),
    /// Lists FDB entries.
    FdbShow(FdbSelector),
    /// Looks one address up.
    FdbGet(EntrySelector),
    /// Adds or replaces a static entry.
    FdbAdd(StaticSpec),
    /// Deletes one entry, learned or static.
    FdbDel(EntrySelector),
    /// Deletes the selected entries; static ones only if the selector says so.
    FdbFlush(FdbSelector),
    /// What became of frames.
    Why(WhyRequest),
    /// Where the entries of an address come from.
    FdbWhy {
        /// Only on this bridge.
        bridge: Option<Name>,
        /// The address.
        mac: MacAddr,
        /// Only in this VLAN; 0 for untagged frames.
        vlan: Option<u16>,
    },
    /// Ends a capture: its stream then comes to its end.
    CaptureStop {
        /// Its number, from the head `x-capture` of the stream.
        id: u64,
    },
    /// Counters.
    Stats {
        /// Only this port.
        port: Option<Name>,
    },
    /// Counters of everything as they are, without a look into namespaces: what only those know
    /// (the state of an interface, losses in its queue) is as housekeeping last saw it, at most ten
    /// seconds ago. For those who ask again and again.
    #[serde(deserialize_with = "without_fields")]
    Counters,
    /// Tells what would become of a frame, without sending it.
    Trace(TraceRequest),
    /// Makes the switch equal to `spec`, touching only what differs; all or nothing.
    Apply {
        /// What it shall be.
        spec: SwitchSpec,
        /// Only tell the plan.
        dry_run: bool,
    },
}

/// Serde takes any fields where there are none to fill.
fn without_fields<'de, D: Deserializer<'de>>(fields: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(fields).map(|Nothing {}| ())
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case")]
pub enum Response {
    /// It is done.
    Done,
    /// To [`Request::Show`].
    Show(ShowInfo),
    /// To [`Request::VtepShow`]; `None`: there is none.
    Vtep(Option<VtepInfo>),
    /// To [`Request::BridgeShow`].
    Bridges(Vec<BridgeInfo>),
    /// To [`Request::PortShow`], and the new port to [`Request::PortAdd`].
    Ports(Vec<PortInfo>),
    /// To [`Request::PeerShow`].
    Peers(Vec<PeerInfo>),
    /// To [`Request::PeerPing`].
    Ping(PingReport),
    /// To [`Request::Doctor`].
    Doctor(Report),
    /// To [`Request::FdbShow`] and [`Request::FdbGet`].
    Fdb(Vec<FdbInfo>),
    /// How many entries [`Request::FdbFlush`] deleted.
    Flushed(usize),
    /// To [`Request::Why`].
    Why(WhyReport),
    /// To [`Request::FdbWhy`].
    FdbWhy(Vec<FdbStory>),
    /// To [`Request::Stats`] and [`Request::Counters`].
    Stats(StatsInfo),
    /// To [`Request::Trace`].
    Trace(Box<TraceReport>),
    /// The steps that [`Request::Apply`] took, or would take.
    Plan(Vec<String>),
}

/// Why a request was refused. The switch is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Whether the request itself was wrong (exit code 2) or it failed (exit code 1).
    pub kind: ErrorKind,
    /// Operation, object, cause and next step.
    pub message: String,
}

impl ApiError {
    /// The request was fine but could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Failed,
            message: message.into(),
        }
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Invalid,
            message: message.into(),
        }
    }

    /// The request names something that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::NotFound,
            message: message.into(),
        }
    }
}

/// The three ways to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Could not be done (HTTP 409, exit code 1).
    Failed,
    /// Names something that is not there (HTTP 404, exit code 1).
    NotFound,
    /// Makes no sense (HTTP 400, exit code 2).
    Invalid,
}

/// New settings of a bridge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeChange {
    /// Which bridge.
    pub name: Name,
    /// See [`BridgeSpec::mode`].
    pub mode: Option<Mode>,
    /// See [`BridgeSpec::mtu`]; `Some(None)` is `auto`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "double_option"
    )]
    pub mtu: Option<Option<u32>>,
    /// See [`BridgeSpec::vni`]; `Some(None)` takes it away.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "double_option"
    )]
    pub vni: Option<Option<Vni>>,
    /// See [`BridgeSpec::peers`]: all of them, in place of those that the bridge has.
    pub peers: Option<Vec<PeerAddr>>,
    /// See [`BridgeSpec::peer_learning`].
    pub peer_learning: Option<bool>,
    /// See [`BridgeSpec::ageing`], in seconds.
    pub ageing_s: Option<f64>,
    /// See [`BridgeSpec::fdb_limit`].
    pub fdb_limit: Option<u32>,
    /// See [`BridgeSpec::at_limit`].
    pub at_limit: Option<AtLimit>,
    /// See [`BridgeSpec::forward_reserved`].
    pub forward_reserved: Option<ReservedMask>,
    /// See [`BridgeSpec::flap_limit`].
    pub flap_limit: Option<u16>,
}

impl BridgeChange {
    /// Changes nothing of this bridge.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            mode: None,
            mtu: None,
            vni: None,
            peers: None,
            peer_learning: None,
            ageing_s: None,
            fdb_limit: None,
            at_limit: None,
            forward_reserved: None,
            flap_limit: None,
        }
    }
}

/// New settings of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is the one of PortFlagsSpec or PortSpec of the same name"
)]
pub struct PortChange {
    pub name: Name,
    pub learning: Option<bool>,
    pub flood: Option<bool>,
    pub mcast_flood: Option<bool>,
    pub bcast_flood: Option<bool>,
    pub isolated: Option<bool>,
    pub hairpin: Option<bool>,
    pub locked: Option<bool>,
    pub up: Option<bool>,
    pub mtu: Option<u32>,
    pub mac: Option<MacAddr>,
    /// All of them, in place of those that the port has.
    pub addresses: Option<Vec<IpNet>>,
    pub gateways: Option<Vec<IpAddr>>,
    pub routes: Option<Vec<RouteSpec>>,
}

impl PortChange {
    /// Changes nothing of this port.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            learning: None,
            flood: None,
            mcast_flood: None,
            bcast_flood: None,
            isolated: None,
            hairpin: None,
            locked: None,
            up: None,
            mtu: None,
            mac: None,
            addresses: None,
            gateways: None,
            routes: None,
        }
    }
}

/// Frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficInfo {
    /// Frames; a superframe is one.
    pub frames: u64,
    /// Bytes without FCS.
    pub bytes: u64,
}

/// One bridge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BridgeInfo {
    /// Its settings.
    #[serde(flatten)]
    pub spec: BridgeSpec,
    /// The MTU in force.
    pub effective_mtu: u32,
    /// How an `auto` MTU came about; null without a VNI, or if the MTU was given.
    pub mtu_chain: Option<MtuChain>,
    /// VTEPs of its VNI, those of static and learned entries among them.
    pub peer_count: usize,
    /// Its ports.
    pub ports: Vec<Name>,
    /// Entries in the FDB.
    pub fdb_entries: usize,
    /// Learned ones among them.
    pub fdb_learned: usize,
    /// Counters of the FDB, by name (`learned`, `moved`, `aged`, `refused_full`, `evicted`, `static_violation`, `frozen`).
    pub fdb_counters: BTreeMap<String, u64>,
}

/// Whether a port moves frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// Plugged in and up.
    Up,
    /// Plugged in, administratively down (here or inside the namespace).
    Down,
    /// Its TAP or its namespace went away.
    Gone,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortInfo {
    /// Its name.
    pub name: Name,
    /// Its bridge.
    pub bridge: Name,
    /// The namespace as it was given; null for a host port.
    pub netns: Option<String>,
    /// The namespace's inode, as `readlink /proc/PID/ns/net` shows it.
    pub netns_inode: Option<u64>,
    /// The interface's name there.
    pub ifname: String,
    /// The interface's index there.
    pub ifindex: Option<u32>,
    /// The interface's MAC address.
    pub mac: MacAddr,
    /// The MTU in force.
    pub mtu: u32,
    /// Configured addresses.
    pub addresses: Vec<String>,
    /// Whether it moves frames.
    pub state: PortState,
    /// Why it is not up, in words.
    pub reason: Option<String>,
    /// Flags and their values.
    pub flags: BTreeMap<String, bool>,
    /// Which engine moves its frames.
    pub offload: OffloadMode,
    /// The offloads in force, in words.
    pub offloads: String,
    /// From the namespace into the switch.
    pub rx: TrafficInfo,
    /// From the switch into the namespace.
    pub tx: TrafficInfo,
    /// Frames lost at this port, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Those of `drops` that came from the namespace; the others were on their way into it.
    #[serde(default)]
    pub drops_in: BTreeMap<String, u64>,
}

/// All counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatsInfo {
    /// See [`ShowInfo::name`].
    #[serde(default)]
    pub name: String,
    /// See [`ShowInfo::version`].
    #[serde(default)]
    pub version: String,
    /// When the switch was started, in seconds since 1970.
    #[serde(default)]
    pub started: f64,
    /// How long it had been running when this was read, in seconds of a clock that never jumps.
    #[serde(default)]
    pub uptime_s: f64,
    /// The bridges; empty if only one port was asked for.
    #[serde(default)]
    pub bridges: Vec<BridgeInfo>,
    /// One for each port.
    pub ports: Vec<PortInfo>,
    /// One for each VTEP and VNI; empty without an overlay.
    pub peers: Vec<PeerInfo>,
    /// The VXLAN endpoint.
    pub vtep: Option<VtepInfo>,
    /// One for each worker thread; empty if only one port was asked for.
    #[serde(default)]
    pub workers: Vec<WorkerInfo>,
    /// Frames received less those delivered, consumed or dropped for a reason. Not 0 is a bug.
    pub unaccounted: i64,
}

/// How often one worker has called the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Waits for something to do, also those that only looked.
    pub waits: u64,
    /// Times that it gave up its CPU rather than sleep.
    pub yields: u64,
    /// Times that it rested to let small frames come together.
    #[serde(default)]
    pub rests: u64,
    /// Reads from ports.
    pub reads: u64,
    /// Writes to ports.
    pub writes: u64,
    /// Reads from the underlay.
    pub receives: u64,
    /// Writes to the underlay.
    pub sends: u64,
    /// All of these.
    pub syscalls: u64,
    /// CPU time that it has used, in seconds. A worker that looks for frames uses it too.
    #[serde(default)]
    pub cpu_s: f64,
}

/// Everything on one screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShowInfo {
    /// The switch's name, from which MAC addresses are derived.
    pub name: String,
    /// The daemon's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// Worker threads.
    pub workers: usize,
    /// The bridges.
    pub bridges: Vec<BridgeInfo>,
    /// The ports.
    pub ports: Vec<PortInfo>,
    /// The VXLAN endpoint.
    pub vtep: Option<VtepInfo>,
    /// The VTEPs of all bridges.
    pub peers: Vec<PeerInfo>,
    /// See [`StatsInfo::unaccounted`].
    pub unaccounted: i64,
}

/// Something that happened, as `monitor` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the fields are those of FdbInfo, PortInfo and PeerInfo of the same name"
)]
pub enum Event {
    /// A port was added or deleted, its settings or its state changed. `change` is `added`,
    /// `deleted`, `changed`, `down`, `up`, `gone` or `returned`.
    Port {
        time: f64,
        port: Name,
        bridge: Name,
        change: String,
        state: Option<PortState>,
        reason: Option<String>,
    },
    /// Something happened to an address in the FDB. `change` is `learned`, `moved`, `aged`,
    /// `flushed`, `added`, `deleted`, `limit` (refused for want of room), `flapping` (from now on
    /// held where it is), `frozen` (seen elsewhere while held) or `static-violation`.
    Fdb {
        time: f64,
        change: String,
        bridge: Name,
        mac: MacAddr,
        vlan: u16,
        port: Option<Name>,
        remote: Option<String>,
        old_port: Option<Name>,
        old_remote: Option<String>,
    },
    /// A bridge was added, removed or changed.
    Bridge {
        time: f64,
        bridge: Name,
        change: String,
    },
    /// A peer was added or deleted, its path's MTU changed, or its route went away or came back.
    /// `change` is `added`, `deleted`, `mtu`, `no route` or `route back`.
    Peer {
        time: f64,
        bridge: Name,
        remote: String,
        change: String,
        mtu: Option<u32>,
        reason: Option<String>,
    },
    /// The VXLAN endpoint was opened, closed or changed, or its namespace went away or came back.
    /// `change` is `opened`, `closed`, `changed`, `down` or `up`.
    Vtep {
        time: f64,
        change: String,
        reason: Option<String>,
    },
    /// The MTU of a port changed.
    Mtu { time: f64, port: Name, mtu: u32 },
    /// Frames were lost since the last such event of this place and reason, a second ago or more.
    /// Neither port nor remote: datagrams of no peer. `direction` is `receive` or `transmit`.
    Drops {
        time: f64,
        bridge: Option<Name>,
        port: Option<Name>,
        remote: Option<String>,
        direction: String,
        reason: String,
        count: u64,
    },
    /// The subscriber was too slow, or more was learned at once than could be told; so many events
    /// are missing here.
    Lost { count: u64 },
}

mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(
        clippy::option_option,
        clippy::ref_option,
        reason = "serde's signature"
    )]
    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value
            .as_ref()
            .and_then(Option::as_ref)
            .serialize(serializer)
    }

    #[expect(clippy::option_option, reason = "serde's signature")]
    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::<T>::deserialize(deserializer).map(Some)
    }
}
