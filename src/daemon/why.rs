//! What the flight recorders have, gathered and put into words.

mod group;
pub(super) mod size;
pub(super) mod words;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, MutexGuard},
    time::Duration,
};

use self::group::{Group, Kind, gather, settle};
use super::{
    history::in_words,
    overlay::PeerState,
    state::{PortState, State},
    switch::Inner,
};
use crate::{
    bridge::{Egress, FdbKey, FloodClass, Ingress, PeerId, PortId},
    config::{BridgeSpec, units::format_duration},
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
    /// With its number, and since when it has that.
    Port(Name, PortId, Timestamp),
}

/// What records are looked at with.
struct Reading<'a> {
    state: &'a State,
    ports: HashMap<PortId, &'a PortState>,
    peers: HashMap<PeerId, &'a PeerState>,
    topology: Topology,
    crowded_out: u64,
    now: Timestamp,
    unix: f64,
}

impl Inner {
    /// Tells what became of frames. While it reads the recorders, others may have the switch.
    pub(super) fn why(
        &self,
        state: MutexGuard<'_, State>,
        request: &WhyRequest,
    ) -> Result<WhyReport, ApiError> {
        if !self.tuning.recorder {
            return Err(ApiError::failed(
                "why: the flight recorder is off; start the daemon without --recorder off",
            ));
        }
        let last = match request.last_s {
            None => None,
            Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
                ApiError::invalid(format!("why: {seconds} s is no time; write --last 60s"))
            })?),
        };
        let about = About::read(&state, request.about.as_deref())?;
        let all = all_counters(&state);
        drop(state);
        let now = self.clock.now();
        let is_new = |record: &Record| last.is_none_or(|last| now.since(record.last) <= last);
        // Lost copies are wanted however old: counts of what was to be sent have them in.
        let is_wanted = |record: &Record| match record.fate {
            Fate::Lost(..) => true,
            Fate::Dropped(_) => is_new(record),
            _ => !request.drops && is_new(record),
        };
        let mut crowded_out = 0;
        let mut groups: HashMap<Kind, Group> = HashMap::new();
        for recorder in all.iter().flat_map(|counters| counters.recorders()) {
            crowded_out += recorder.crowded_out();
            gather(&mut groups, recorder, is_wanted);
        }
        settle(&mut groups);
        drop(all);
        let state = self.state();
        let reading = Reading::new(&state, now, crowded_out);
        let mut groups: Vec<Group> = groups
            .into_values()
            .filter(|group| is_new(&group.record) && reading.concerns(&group.record, &about))
            .collect();
        groups.sort_by_key(|group| (group.record.last, group.first, group.record.flow));
        let left_out = groups.len().saturating_sub(MOST);
        let entries: Vec<_> = groups[left_out..]
            .iter()
            .map(|group| reading.entry(group))
            .collect();
        let hint = match &about {
            _ if entries.is_empty() => Some(reading.nothing(&about, last, request.drops)),
            About::Ip(ip) if !request.drops && !reading.is_heard(&groups, *ip) => {
                Some(reading.silent(*ip, last))
            }
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

fn all_counters(state: &State) -> Vec<Arc<Counters>> {
    let ports = state.ports.iter().map(|port| &port.counters);
    let peers = state.peers.iter().map(|peer| &peer.counters);
    let vtep = state.vtep.iter().map(|vtep| &vtep.counters);
    ports.chain(peers).chain(vtep).cloned().collect()
}

impl About {
    fn read(state: &State, text: Option<&str>) -> Result<Self, ApiError> {
        let Some(text) = text else {
            return Ok(Self::Everything);
        };
        let name = Name::new(text).ok();
        if let Some(port) = name.as_ref().and_then(|name| state.port(name)) {
            return Ok(Self::Port(port.spec.name.clone(), port.id, port.added));
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

impl<'a> Reading<'a> {
    fn new(state: &'a State, now: Timestamp, crowded_out: u64) -> Self {
        Self {
            state,
            ports: state.ports.iter().map(|port| (port.id, port)).collect(),
            peers: state.peers.iter().map(|peer| (peer.id, peer)).collect(),
            topology: state.topology(),
            crowded_out,
            now,
            unix: clock::unix_time(),
        }
    }

    /// The port that had this number at `time`, if it is still there: a number is given away again.
    fn port_at(&self, id: PortId, time: Timestamp) -> Option<&'a PortState> {
        let port = self.ports.get(&id)?;
        (port.added <= time).then_some(port)
    }

    /// Likewise a remote VTEP.
    fn peer_at(&self, id: PeerId, time: Timestamp) -> Option<&'a PeerState> {
        let peer = self.peers.get(&id)?;
        (peer.added <= time).then_some(peer)
    }

    fn concerns(&self, record: &Record, about: &About) -> bool {
        match about {
            About::Everything => true,
            About::Mac(mac) => {
                frame_of(record).is_some_and(|frame| frame.src() == *mac || frame.dst() == *mac)
            }
            About::Ip(ip) => {
                let is_peer = |place| self.is_peer_at(place, *ip, record.last);
                hosts_of(record).contains(ip)
                    || outer_source(record) == Some(*ip)
                    || self.was_at(record, is_peer)
            }
            About::Port(_, id, added) => {
                record.last >= *added && self.was_at(record, |place| place == Egress::Port(*id))
            }
        }
    }

    /// Whether it came from, or went to, a place like this.
    fn was_at(&self, record: &Record, is_it: impl Fn(Egress) -> bool) -> bool {
        let from = record.ingress.map(Ingress::back);
        from.is_some_and(&is_it)
            || match record.fate {
                Fate::Forwarded(to) | Fate::Lost(to, _) => is_it(to),
                Fate::Flooded(class, copies) => {
                    let (mut count, mut is_in) = (0, false);
                    for to in self.flood_targets(record, class).into_iter().flatten() {
                        count += 1;
                        is_in |= is_it(to);
                    }
                    is_in && count == usize::from(copies)
                }
                Fate::Dropped(_) => false,
            }
    }

    fn is_peer_at(&self, place: Egress, ip: IpAddr, time: Timestamp) -> bool {
        let peer = place.peer().and_then(|id| self.peer_at(id, time));
        peer.is_some_and(|peer| peer.to.ip() == ip)
    }

    /// Whether a frame came from this host, or VTEP.
    fn is_heard(&self, groups: &[Group], ip: IpAddr) -> bool {
        groups.iter().any(|group| {
            let record = &group.record;
            let from = record.ingress.map(Ingress::back);
            hosts_of(record).first() == Some(&ip)
                || outer_source(record) == Some(ip)
                || from.is_some_and(|from| self.is_peer_at(from, ip, record.last))
        })
    }

    /// Where it went, or was to go; of a flood, if that is now as many places as it was then.
    fn targets(&self, record: &Record) -> Vec<Egress> {
        match record.fate {
            Fate::Forwarded(to) | Fate::Lost(to, _) => vec![to],
            Fate::Flooded(class, copies) => {
                let targets = self.flood_targets(record, class).into_iter().flatten();
                let targets: Vec<_> = targets.collect();
                let is_same = targets.len() == usize::from(copies);
                if is_same { targets } else { Vec::new() }
            }
            Fate::Dropped(_) => Vec::new(),
        }
    }

    /// Where such a flood goes now.
    fn flood_targets(
        &self,
        record: &Record,
        class: FloodClass,
    ) -> Option<impl Iterator<Item = Egress>> {
        let ingress = record.ingress?;
        let index = match ingress {
            Ingress::Port(id) => {
                self.port_at(id, record.last)?;
                self.topology.port(id)?.bridge
            }
            Ingress::Peer(id) => {
                self.peer_at(id, record.last)?;
                self.topology.vtep()?.peer(id)?.bridge
            }
        };
        let bridge = self.topology.bridges().get(index)?;
        Some(bridge.flood_targets(ingress, class))
    }

    fn bridge_of(&self, place: Egress, time: Timestamp) -> Option<&'a Name> {
        match place {
            Egress::Port(id) => Some(&self.port_at(id, time)?.spec.bridge),
            Egress::Peer(id) => Some(&self.peer_at(id, time)?.bridge),
        }
    }

    /// The bridge with the VNI of a datagram that belongs to no peer.
    fn bridge_with(&self, record: &Record) -> Option<&'a Name> {
        let Some(Detail::Datagram { vni, .. }) = record.detail else {
            return None;
        };
        let mut bridges = self.state.bridges.iter().map(|bridge| &bridge.spec);
        let is_it = |spec: &&BridgeSpec| vni.is_some() && spec.vni.map(Vni::get) == vni;
        bridges.find(is_it).map(|spec| &spec.name)
    }

    /// The name of a place as it was at `time`.
    fn name_at(&self, place: Egress, time: Timestamp) -> String {
        match place {
            Egress::Port(id) => match self.port_at(id, time) {
                Some(port) => port.spec.name.to_string(),
                None => match self.state.departed_at(id, time) {
                    Some(name) => format!("{name}{}", words::DELETED),
                    None => "a port that is no longer there".to_owned(),
                },
            },
            Egress::Peer(PeerId::STRANGER) => "an unknown VTEP".to_owned(),
            Egress::Peer(id) => match self.peer_at(id, time) {
                Some(peer) => self.state.remote_name(peer),
                None => "a peer that is no longer there".to_owned(),
            },
        }
    }

    fn entry(&self, group: &Group) -> WhyEntry {
        let record = &group.record;
        let time_of = |time: Timestamp| self.unix - self.now.since(time).as_secs_f64();
        let frame = frame_of(record);
        let targets = self.targets(record);
        let places = record.ingress.map(Ingress::back).into_iter();
        let mut places = places.chain(targets.iter().copied());
        let bridge = places.find_map(|place| self.bridge_of(place, record.last));
        let bridge = bridge.or_else(|| self.bridge_with(record));
        let to = targets.iter().map(|&to| self.name_at(to, record.last));
        let to = to.collect();
        let vni = match record.detail {
            Some(Detail::Datagram { vni, .. }) => vni.and_then(Vni::new),
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
            frame: frame_in_words(record),
            is_first: group.is_first,
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
            Some(Ingress::Port(id)) if let Some(port) = self.port_at(id, record.last) => {
                (Some(port.spec.name.clone()), None)
            }
            Some(from) => (None, Some(self.name_at(from.back(), record.last))),
            None => (None, None),
        }
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
            |last| format!("was seen in the last {}", format_duration(last)),
        );
        let or = self.or_pushed_out();
        let never = format!(
            "no frame of it has come to this switch of late, so it was never sent, or lost \
             before{or}; look at its port: tapswitch doctor PORT"
        );
        match about {
            _ if drops => {
                let of = match about {
                    About::Everything => String::new(),
                    About::Mac(mac) => format!(" of {mac}"),
                    About::Ip(ip) => format!(" of {ip}"),
                    About::Port(name, ..) => format!(" at {name}"),
                };
                format!("no loss{of} {time}: what came in has gone out{or}; see: tapswitch why")
            }
            About::Everything if self.state.ports.is_empty() => {
                format!("nothing {time}: there is no port yet; see: tapswitch port add --help")
            }
            About::Everything => {
                format!("nothing {time}: no port has sent anything{or}; see: tapswitch show")
            }
            About::Port(name, ..) => format!(
                "nothing from or to {name} {time}: what its namespace sends does not get here{or}; \
                 see: tapswitch doctor {name}"
            ),
            About::Ip(ip) => format!("nothing from or to {ip} {time}: {never}"),
            About::Mac(mac) => format!("nothing from or to {mac} {time}: {never}"),
        }
    }

    /// Frames speak of a host, and none is from it.
    fn silent(&self, ip: IpAddr, last: Option<Duration>) -> String {
        let time = last.map_or_else(String::new, |last| {
            format!(" in the last {}", format_duration(last))
        });
        let or = self.or_pushed_out();
        format!(
            "{ip} has sent nothing itself{time}{or}: whoever looks for it gets no answer; is it \
             there, and its interface up? see: tapswitch doctor PORT"
        )
    }

    /// What else it may mean that there is no record.
    fn or_pushed_out(&self) -> String {
        match self.crowded_out {
            0 => String::new(),
            1 => ", or its record was pushed out, for 1 flow had no room".to_owned(),
            count => format!(", or its record was pushed out, for {count} flows had no room"),
        }
    }
}

/// The frame, as far as there is one in it.
fn frame_of(record: &Record) -> Option<Frame<'_>> {
    Frame::new_checked(record.frame()?).ok()
}

fn hosts_of(record: &Record) -> Vec<IpAddr> {
    record.frame().map(wire::hosts).unwrap_or_default()
}

fn frame_in_words(record: &Record) -> String {
    if let Some(head) = record.frame() {
        return in_words(head, record.len);
    }
    let bytes = record.head.iter().take(8);
    let bytes: Vec<_> = bytes.map(|byte| format!("{byte:02x}")).collect();
    format!("a datagram that begins {}", bytes.join(" "))
}

fn outer_source(record: &Record) -> Option<IpAddr> {
    match record.detail {
        Some(Detail::Datagram { from, .. }) => Some(Ipv6Addr::from_bits(from).to_canonical()),
        _ => None,
    }
}

/// Entries in an answer.
const MOST: usize = 200;
