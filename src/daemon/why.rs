//! What the flight recorders have, gathered and put into words.

pub(super) mod words;

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{history::in_words, state::State, switch::Inner};
use crate::{
    bridge::{Egress, FdbKey, FloodClass, Ingress, PeerId},
    config::BridgeSpec,
    control::api::{ApiError, WhyEntry, WhyFate, WhyReport, WhyRequest},
    datapath::{Counters, Detail, Fate, Record, Topology},
    names::Name,
    sys::clock,
    time::Timestamp,
    wire::{self, Frame, MacAddr, Vni},
};

/// What the question is about.
#[derive(Clone, Debug, PartialEq)]
enum About {
    Everything,
    Mac(MacAddr),
    /// A host's, or a peer's.
    Ip(IpAddr),
    Port(Name),
}

/// Frames of one flow with one fate.
#[derive(Debug)]
struct Group {
    /// The latest.
    record: Record,
    first: Timestamp,
    /// As a table counted them.
    counted: u64,
    bytes: u64,
    /// As many are remembered one by one.
    single: u64,
}

/// Frames that are one group: flow, ingress and fate, but for the number of copies.
type Kind = (u64, Option<Ingress>, Fate);

/// What records are looked at with.
struct Reading<'a> {
    state: &'a State,
    topology: Topology,
    now: Timestamp,
    unix: f64,
}

impl Inner {
    /// Tells what became of frames.
    pub(super) fn why(&self, state: &State, request: &WhyRequest) -> Result<WhyReport, ApiError> {
        if !self.tuning.recorder {
            return Err(ApiError::failed(
                "why: the flight recorder is off; start the daemon without --recorder off",
            ));
        }
        let about = About::read(state, request.about.as_deref())?;
        let last = match request.last_s {
            None => None,
            Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
                ApiError::invalid(format!("why: {seconds} s is no time; write --last 60s"))
            })?),
        };
        let reading = Reading {
            state,
            topology: state.topology(),
            now: self.clock.now(),
            unix: clock::unix_time(),
        };
        let mut crowded_out = 0;
        let mut groups: HashMap<Kind, Group> = HashMap::new();
        for counters in all_counters(state) {
            for recorder in counters.recorders() {
                crowded_out += recorder.crowded_out();
                gather(&mut groups, recorder);
            }
        }
        let mut groups: Vec<Group> = groups
            .into_values()
            .filter(|group| reading.wants(group, &about, last, request.drops))
            .collect();
        groups.sort_by_key(|group| (group.record.last, group.first, group.record.flow));
        let left_out = groups.len().saturating_sub(MOST);
        let entries: Vec<_> = groups[left_out..]
            .iter()
            .map(|group| reading.entry(group))
            .collect();
        let hint = match &about {
            _ if entries.is_empty() => Some(reading.nothing(&about, last, request.drops)),
            About::Ip(ip) if !request.drops && !reading.is_heard(&groups, *ip) => Some(format!(
                "{ip} has sent nothing itself: whoever looks for it gets no answer; is it there, and \
                 its interface up? see: tapswitch doctor PORT"
            )),
            _ => None,
        };
        Ok(WhyReport {
            entries,
            left_out,
            crowded_out,
            hint,
        })
    }
}

fn all_counters(state: &State) -> impl Iterator<Item = &Counters> {
    let ports = state.ports.iter().map(|port| &*port.counters);
    let peers = state.peers.iter().map(|peer| &*peer.counters);
    let vtep = state.vtep.iter().map(|vtep| &*vtep.counters);
    ports.chain(peers).chain(vtep)
}

/// Adds the records of one recorder, of which one frame may have several.
fn gather(groups: &mut HashMap<Kind, Group>, recorder: &crate::datapath::Recorder) {
    let (lost, reasons) = recorder.lost_flows();
    for record in recorder.flows().into_iter().chain(lost) {
        let group = groups
            .entry(kind(&record))
            .or_insert_with(|| Group::new(&record));
        group.counted += record.count;
        group.bytes += record.bytes;
        group.first = group.first.min(record.first);
        group.is_now(record);
    }
    // What a frame was dropped for is in the list of frames, too.
    let frames = recorder.frames().into_iter();
    let frames = frames.filter(|record| !matches!(record.fate, Fate::Dropped(_)));
    for record in frames.chain(recorder.losses()) {
        let group = groups
            .entry(kind(&record))
            .or_insert_with(|| Group::new(&record));
        group.single += 1;
        group.first = group.first.min(record.first);
        group.is_now(record);
    }
    for record in reasons {
        // Counted with all others of its reason.
        let record = Record {
            first: record.last,
            ..record
        };
        let group = groups
            .entry(kind(&record))
            .or_insert_with(|| Group::new(&record));
        group.single = group.single.max(1);
        group.is_now(record);
    }
}

fn kind(record: &Record) -> Kind {
    let fate = match record.fate {
        Fate::Flooded(class, _) => Fate::Flooded(class, 0),
        fate => fate,
    };
    (record.flow, record.ingress, fate)
}

impl Group {
    fn new(record: &Record) -> Self {
        Self {
            record: record.clone(),
            first: record.first,
            counted: 0,
            bytes: 0,
            single: 0,
        }
    }

    fn is_now(&mut self, record: Record) {
        // What was learned from an earlier frame is worth more than that later ones taught nothing.
        let learn = match self.record.learn {
            crate::bridge::Learn::Known | crate::bridge::Learn::Off => record.learn,
            learn => learn,
        };
        if record.last >= self.record.last {
            self.record = record;
        }
        self.record.learn = learn;
    }

    fn count(&self) -> u64 {
        self.counted.max(self.single)
    }

    fn bytes(&self) -> u64 {
        let single = self.single * u64::from(self.record.len);
        if self.counted > 0 { self.bytes } else { single }
    }
}

impl About {
    fn read(state: &State, text: Option<&str>) -> Result<Self, ApiError> {
        let Some(text) = text else {
            return Ok(Self::Everything);
        };
        let name = Name::new(text).ok();
        if let Some(name) = name.filter(|name| state.port(name).is_some()) {
            return Ok(Self::Port(name));
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        if let Ok(mac) = text.parse() {
            return Ok(Self::Mac(mac));
        }
        let ports: Vec<_> = state
            .ports
            .iter()
            .map(|port| port.spec.name.as_str())
            .collect();
        let known = match &ports[..] {
            [] => "there is no port yet".to_owned(),
            ports => format!("the ports are {}", ports.join(", ")),
        };
        Err(ApiError::not_found(format!(
            "why {text:?}: it is no IP or MAC address, and no port has this name; {known}"
        )))
    }
}

impl Reading<'_> {
    fn wants(&self, group: &Group, about: &About, last: Option<Duration>, drops: bool) -> bool {
        let record = &group.record;
        let is_lost = matches!(record.fate, Fate::Dropped(_) | Fate::Lost(..));
        (is_lost || !drops)
            && last.is_none_or(|last| self.now.since(record.last) <= last)
            && self.concerns(record, about)
    }

    fn concerns(&self, record: &Record, about: &About) -> bool {
        match about {
            About::Everything => true,
            About::Mac(mac) => Frame::new_checked(&record.head)
                .is_ok_and(|frame| frame.src() == *mac || frame.dst() == *mac),
            About::Ip(ip) => {
                wire::hosts(&record.head).contains(ip)
                    || outer_source(record) == Some(*ip)
                    || self.places(record).any(|place| self.is_peer_at(place, *ip))
            }
            About::Port(name) => {
                let id = self.state.port(name).map(|port| port.id);
                id.is_some_and(|id| {
                    let born = self.state.port(name).map(|port| port.added);
                    born.is_some_and(|born| record.last >= born)
                        && self.places(record).any(|place| place == Egress::Port(id))
                })
            }
        }
    }

    /// Where it came from and where it went.
    fn places(&self, record: &Record) -> impl Iterator<Item = Egress> {
        let to = self.targets(record);
        record.ingress.map(Ingress::back).into_iter().chain(to)
    }

    fn is_peer_at(&self, place: Egress, ip: IpAddr) -> bool {
        let id = place.peer();
        let peer = id.and_then(|id| self.state.peers.iter().find(|peer| peer.id == id));
        peer.is_some_and(|peer| peer.to.ip() == ip)
    }

    /// Whether a frame came from this host, or VTEP.
    fn is_heard(&self, groups: &[Group], ip: IpAddr) -> bool {
        groups.iter().any(|group| {
            let record = &group.record;
            let from = record.ingress.map(Ingress::back);
            wire::hosts(&record.head).first() == Some(&ip)
                || outer_source(record) == Some(ip)
                || from.is_some_and(|from| self.is_peer_at(from, ip))
        })
    }

    /// Where it went, or was to go.
    fn targets(&self, record: &Record) -> Vec<Egress> {
        match record.fate {
            Fate::Forwarded(to) | Fate::Lost(to, _) => vec![to],
            Fate::Flooded(class, copies) => self.flood_targets(record, class, copies),
            Fate::Dropped(_) => Vec::new(),
        }
    }

    /// Where a flood goes now, if that is as many places as it went to then.
    fn flood_targets(&self, record: &Record, class: FloodClass, copies: u16) -> Vec<Egress> {
        let bridge = record
            .ingress
            .and_then(|ingress| self.bridge_of(ingress.back()));
        let index = bridge.and_then(|name| {
            let mut bridges = self.state.bridges.iter();
            bridges.position(|bridge| bridge.spec.name == *name)
        });
        let bridge = index.and_then(|index| self.topology.bridges().get(index));
        let Some((bridge, ingress)) = bridge.zip(record.ingress) else {
            return Vec::new();
        };
        let targets: Vec<_> = bridge.flood_targets(ingress, class).collect();
        if targets.len() == usize::from(copies) {
            targets
        } else {
            Vec::new()
        }
    }

    fn bridge_of(&self, place: Egress) -> Option<&Name> {
        match place {
            Egress::Port(id) => Some(&self.state.port_by_id(id)?.spec.bridge),
            Egress::Peer(id) => {
                let peer = self.state.peers.iter().find(|peer| peer.id == id)?;
                Some(&peer.bridge)
            }
        }
    }

    /// The bridge with the VNI of a datagram that belongs to no peer.
    fn bridge_with(&self, record: &Record) -> Option<&Name> {
        let Some(Detail::Datagram { vni, .. }) = record.detail else {
            return None;
        };
        let mut bridges = self.state.bridges.iter().map(|bridge| &bridge.spec);
        let is_it = |spec: &&BridgeSpec| spec.vni.is_some_and(|of| of.get() == vni);
        bridges.find(is_it).map(|spec| &spec.name)
    }

    /// The name of a place as it was at `time`: a number is given away again.
    fn name_at(&self, place: Egress, time: Timestamp) -> String {
        let added = match place {
            Egress::Port(id) => self.state.port_by_id(id).map(|port| port.added),
            Egress::Peer(id) => {
                let peer = self.state.peers.iter().find(|peer| peer.id == id);
                peer.map(|peer| peer.added)
            }
        };
        let whereabouts = self.state.whereabouts(place);
        match (added, whereabouts.port, whereabouts.remote) {
            (Some(added), port, remote) if added <= time => port
                .map(|name| name.to_string())
                .or(remote)
                .unwrap_or_default(),
            _ if place == Egress::Peer(PeerId::STRANGER) => "an unknown VTEP".to_owned(),
            _ if place.port().is_some() => "a port that is no longer there".to_owned(),
            _ => "a peer that is no longer there".to_owned(),
        }
    }

    fn entry(&self, group: &Group) -> WhyEntry {
        let record = &group.record;
        let time_of = |time: Timestamp| self.unix - self.now.since(time).as_secs_f64();
        let frame = Frame::new_checked(&record.head).ok();
        let from = record.ingress.map(Ingress::back);
        let to: Vec<String> = self
            .targets(record)
            .into_iter()
            .map(|to| self.name_at(to, record.last))
            .collect();
        let near = from.or_else(|| self.targets(record).first().copied());
        let bridge = near.and_then(|place| self.bridge_of(place));
        let bridge = bridge.or_else(|| self.bridge_with(record));
        let vni = match record.detail {
            Some(Detail::Datagram { vni, .. }) => Vni::new(vni).filter(|_| vni > 0),
            _ => bridge.and_then(|name| self.state.bridge(name)?.spec.vni),
        };
        let (from_port, from_remote) = self.origin(record);
        let (has_bytes, fits_bytes) = match record.detail {
            Some(Detail::Size { has, fits }) => (Some(has), Some(fits)),
            _ => (None, None),
        };
        let (fate, copies, reason) = match record.fate {
            Fate::Forwarded(_) => (WhyFate::Forwarded, 1, None),
            Fate::Flooded(_, copies) => (WhyFate::Flooded, copies.into(), None),
            Fate::Dropped(reason) => (WhyFate::Dropped, 0, Some(reason)),
            Fate::Lost(_, reason) => (WhyFate::Lost, 1, Some(reason)),
        };
        let mut entry = WhyEntry {
            time: time_of(record.last),
            age_s: self.now.since(record.last).as_secs_f64(),
            first: time_of(group.first),
            count: group.count(),
            bytes: group.bytes(),
            frame: self.frame_in_words(record),
            len: record.len,
            src: frame.map(|frame| frame.src()),
            dst: frame.map(|frame| frame.dst()),
            vlan: frame.map_or(0, |frame| frame.vlan()),
            bridge: bridge.cloned(),
            vni,
            from_port,
            from_remote,
            fate,
            to,
            copies,
            reason: reason.map(|reason| reason.name().to_owned()),
            why: String::new(),
            learned: self.learned(record),
            remedy: None,
            has_bytes,
            fits_bytes,
        };
        entry.why = self.why_in_words(record, &entry);
        entry.remedy = reason.map(|reason| self.remedy(record, reason, &entry));
        entry
    }

    /// Where it came from, by port or by address.
    fn origin(&self, record: &Record) -> (Option<Name>, Option<String>) {
        if let Some(ip) = outer_source(record) {
            return (None, Some(ip.to_string()));
        }
        match record.ingress {
            Some(Ingress::Port(id)) => {
                let port = self.state.port_by_id(id);
                let port = port.filter(|port| port.added <= record.last);
                (port.map(|port| port.spec.name.clone()), None)
            }
            Some(Ingress::Peer(id)) => {
                let name = self.name_at(Egress::Peer(id), record.last);
                (None, Some(name))
            }
            None => (None, None),
        }
    }

    fn frame_in_words(&self, record: &Record) -> String {
        let is_raw = matches!(record.detail, Some(Detail::Datagram { vni: 0, .. }));
        if !is_raw {
            return in_words(&record.head, record.len);
        }
        let bytes: Vec<_> = record
            .head
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("a datagram that begins {}", bytes.join(" "))
    }

    /// The entry that the FDB has now for the frame's destination.
    fn row(&self, entry: &WhyEntry) -> Option<(Egress, crate::bridge::FdbEntry)> {
        let bridge = self.state.bridge(entry.bridge.as_ref()?)?;
        let row = bridge.fdb.get(FdbKey::new(entry.dst?, entry.vlan))?;
        Some((row.egress, row))
    }

    fn nothing(&self, about: &About, last: Option<Duration>, drops: bool) -> String {
        let time = last.map_or_else(
            || "is remembered".to_owned(),
            |last| format!("was seen in the last {}", seconds(last)),
        );
        let names: BTreeSet<_> = self
            .state
            .ports
            .iter()
            .map(|port| &port.spec.name)
            .collect();
        match about {
            _ if drops => {
                let of = match about {
                    About::Everything => String::new(),
                    About::Mac(mac) => format!(" of {mac}"),
                    About::Ip(ip) => format!(" of {ip}"),
                    About::Port(name) => format!(" at {name}"),
                };
                format!("no loss{of} {time}: what came in has gone out; see: tapswitch why")
            }
            About::Everything if names.is_empty() => {
                format!("nothing {time}: there is no port yet; see: tapswitch port add --help")
            }
            About::Everything => {
                format!("nothing {time}: no port has sent anything; see: tapswitch show")
            }
            About::Port(name) => format!(
                "nothing from or to {name} {time}: what its namespace sends does not get here; \
                 see: tapswitch doctor {name}"
            ),
            About::Ip(ip) => format!(
                "nothing from or to {ip} {time}: no frame of it has come to this switch, so it was \
                 never sent, or lost before; look at its port: tapswitch doctor PORT"
            ),
            About::Mac(mac) => format!(
                "nothing from or to {mac} {time}: no frame of it has come to this switch, so it was \
                 never sent, or lost before; look at its port: tapswitch doctor PORT"
            ),
        }
    }
}

fn outer_source(record: &Record) -> Option<IpAddr> {
    match record.detail {
        Some(Detail::Datagram { from, .. }) => Some(Ipv6Addr::from_bits(from).to_canonical()),
        _ => None,
    }
}

fn seconds(time: Duration) -> String {
    crate::config::units::format_duration(time)
}

/// Entries in an answer.
const MOST: usize = 200;
