//! `trace`: what would become of a frame.
//!
//! Control changes wait meanwhile, so that no device outlives its port because of it; workers do
//! not.

mod fix;

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    directory::{Directory, Whereabouts},
    state::{PortState, State},
    switch::Inner,
};
use crate::{
    bridge::{Decision, DropReason, Egress, PortId},
    config::PortSpec,
    control::api::{
        ApiError, Hex, Response, TraceAnswer, TraceCopy, TraceDatagrams, TraceFrom, TraceReport,
        TraceRequest, TraceStep, TraceVerdict, TraceWhat,
    },
    craft::{self, BuildError, Packet, Sender},
    datapath::Topology,
    names::Name,
    netlink,
    rehearsal::{self, Answer, Datagrams, Entrance, Message, Rehearsal, Written, datagrams_in},
    sys::netns::NetnsFile,
    vxlan,
    wire::{MacAddr, VirtioNetHdr, Vni, describe},
};

/// A trace that is about to run.
#[derive(Debug)]
struct Trace {
    request: TraceRequest,
    topology: Topology,
    names: Directory,
    ingress: Where,
    stations: Vec<Station>,
    local: Option<IpAddr>,
}

/// Where a frame comes in.
#[derive(Debug)]
enum Where {
    Port(Box<Entry>),
    Peer { remote: IpAddr, vni: Vni },
}

/// What is known about the port where it comes in.
#[derive(Debug)]
struct Entry {
    id: PortId,
    spec: PortSpec,
    mac: MacAddr,
    /// Its namespace and interface. Kept open for the moment only.
    link: Option<(NetnsFile, u32)>,
}

/// A host that the switch knows: a port's.
#[derive(Debug)]
struct Station {
    port: Name,
    mac: MacAddr,
    addresses: Vec<IpAddr>,
}

/// What comes in, as bytes.
enum Incoming {
    Frame(VirtioNetHdr, Vec<u8>),
    Messages(Vec<Message>),
}

impl Inner {
    /// Tells what would become of a frame now.
    pub(super) fn trace(&self, state: &State, request: TraceRequest) -> Result<Response, ApiError> {
        let report = prepare(state, request)?.run(self, state)?;
        Ok(Response::Trace(Box::new(report)))
    }
}

/// All that a trace needs to know.
fn prepare(state: &State, request: TraceRequest) -> Result<Trace, ApiError> {
    let (ingress, bridge) = match &request.from {
        TraceFrom::Port(name) => {
            let port = state.known_port(OPERATION, name)?;
            (
                Where::Port(Box::new(entry(port)?)),
                Some(port.spec.bridge.clone()),
            )
        }
        TraceFrom::Peer { remote, vni } => {
            let vni = state.vni_of_trace(*vni)?;
            let carried = state
                .bridges
                .iter()
                .find(|bridge| bridge.spec.vni == Some(vni));
            let bridge = carried.map(|bridge| bridge.spec.name.clone());
            let remote = *remote;
            (Where::Peer { remote, vni }, bridge)
        }
    };
    let stations = state
        .ports
        .iter()
        .filter(|port| Some(&port.spec.bridge) == bridge.as_ref())
        .map(|port| Station {
            port: port.spec.name.clone(),
            mac: port.mac,
            addresses: port.spec.addresses.iter().map(|net| net.addr()).collect(),
        });
    Ok(Trace {
        request,
        topology: state.topology(),
        names: Directory::of(state),
        ingress,
        stations: stations.collect(),
        local: state.vtep.as_ref().map(|vtep| vtep.spec.local),
    })
}

impl State {
    /// The VNI that was meant.
    fn vni_of_trace(&self, vni: Option<Vni>) -> Result<Vni, ApiError> {
        if self.vtep.is_none() {
            return Err(ApiError::failed(format!(
                "{OPERATION}: there is no VXLAN endpoint, so no peer can send; open one: tapswitch \
                 vtep set --local IP"
            )));
        }
        let all: Vec<Vni> = self
            .bridges
            .iter()
            .filter_map(|bridge| bridge.spec.vni)
            .collect();
        match (vni, all.as_slice()) {
            (Some(vni), _) | (None, &[vni]) => Ok(vni),
            (None, []) => Err(ApiError::failed(format!(
                "{OPERATION}: no bridge has a VNI; give one: tapswitch bridge set NAME --vni N"
            ))),
            (None, several) => {
                let list: Vec<_> = several.iter().map(ToString::to_string).collect();
                Err(ApiError::invalid(format!(
                    "{OPERATION}: in which VNI? there is {}; give --vni N",
                    list.join(", ")
                )))
            }
        }
    }
}

fn entry(port: &PortState) -> Result<Entry, ApiError> {
    let Some(plugged) = port.plugged() else {
        let name = &port.spec.name;
        return Err(ApiError::failed(format!(
            "{OPERATION}: port {name} is gone, so nothing can come in there; see why: tapswitch \
             port show {name}"
        )));
    };
    let link = plugged.io.device().netns().ok();
    Ok(Entry {
        id: port.id,
        spec: port.spec.clone(),
        mac: port.mac,
        link: link.map(|netns| (netns, plugged.ifindex)),
    })
}

impl Trace {
    fn run(self, inner: &Inner, state: &State) -> Result<TraceReport, ApiError> {
        let mut note = None;
        let incoming = self.incoming(&mut note)?;
        let entrance = match (&self.ingress, &incoming) {
            (Where::Port(entry), Incoming::Frame(header, frame)) => Entrance::Port {
                port: entry.id,
                header: *header,
                frame,
            },
            (_, Incoming::Messages(messages)) => Entrance::Underlay(messages),
            (Where::Peer { .. }, Incoming::Frame(..)) => {
                return Err(ApiError::failed(format!(
                    "{OPERATION}: no datagram was made"
                )));
            }
        };
        let now = inner.clock.now();
        let coalesces = inner.tuning.coalesce;
        let played = rehearsal::rehearse(now, &self.topology, coalesces, entrance);
        let told = rehearsal::story(now, &self.topology, &self.names, entrance, &played);
        let told_steps = told.steps.into_iter().map(|step| TraceStep {
            step: step.step.to_owned(),
            text: step.text,
        });
        let note = note.map(|text| TraceStep {
            step: "packet".to_owned(),
            text,
        });
        let (verdict, reason) = verdict(&played);
        let (port, peer) = match &self.ingress {
            Where::Port(entry) => (Some(entry.spec.name.clone()), None),
            Where::Peer { remote, .. } => (None, Some(*remote)),
        };
        let decided = played.frames.first();
        Ok(TraceReport {
            switch: inner.name.clone(),
            local: self.local,
            port,
            peer,
            bridge: decided.and_then(|frame| self.names.bridges.get(frame.bridge).cloned()),
            frame: told.frame,
            data: match &incoming {
                Incoming::Frame(_, frame) => Some(Hex(frame.clone())),
                Incoming::Messages(_) => None,
            },
            verdict,
            fix: reason.map(|(reason, place)| self.fix(state, reason, place, &played)),
            reason: reason.map(|(reason, _)| reason.name().to_owned()),
            steps: note.into_iter().chain(told_steps).collect(),
            copies: self.copies(&played),
            answers: self.answers(&played),
            then: Vec::new(),
        })
    }

    /// What comes in; `note` is what had to be looked up for it.
    fn incoming(&self, note: &mut Option<String>) -> Result<Incoming, ApiError> {
        let (header, frame) = match &self.request.what {
            TraceWhat::Packet(text) => {
                let packet = craft::parse(text).map_err(|error| {
                    ApiError::invalid(format!("{OPERATION}: read {text:?}: {error}"))
                })?;
                let built = self.build(&packet, note)?;
                (built.header, built.frame)
            }
            TraceWhat::Frame(Hex(frame)) if frame.len() > LONGEST => {
                return Err(ApiError::invalid(format!(
                    "{OPERATION}: a frame of {} bytes; at most {LONGEST} are possible",
                    frame.len()
                )));
            }
            TraceWhat::Frame(Hex(frame)) => (VirtioNetHdr::none(), frame.clone()),
            TraceWhat::Datagrams(datagrams) => return self.messages(datagrams),
        };
        match &self.ingress {
            Where::Port(_) => Ok(Incoming::Frame(header, frame)),
            Where::Peer { remote, vni } => Ok(Incoming::Messages(vec![Message {
                from: *remote,
                tos: 0,
                segment: None,
                bytes: [&vxlan::header(*vni)[..], &frame].concat(),
            }])),
        }
    }

    fn messages(&self, datagrams: &[TraceDatagrams]) -> Result<Incoming, ApiError> {
        let Where::Peer { .. } = self.ingress else {
            return Err(ApiError::invalid(format!(
                "{OPERATION}: datagrams come from a peer, not from a port"
            )));
        };
        let bytes: usize = datagrams.iter().map(|one| one.data.0.len()).sum();
        if datagrams.len() > MOST_MESSAGES || bytes > MOST_BYTES {
            return Err(ApiError::invalid(format!(
                "{OPERATION}: {} messages of together {bytes} bytes; at most {MOST_MESSAGES} and \
                 {MOST_BYTES} are taken",
                datagrams.len()
            )));
        }
        // Each may be a broadcast, of which every port gets a copy.
        let counts = datagrams
            .iter()
            .map(|one| datagrams_in(one.data.0.len(), one.segment));
        let count: usize = counts.sum();
        if count > MOST_DATAGRAMS {
            return Err(ApiError::invalid(format!(
                "{OPERATION}: {count} datagrams; at most {MOST_DATAGRAMS} are taken at a time: trace \
                 them in parts"
            )));
        }
        let messages = datagrams.iter().map(|datagrams| Message {
            from: datagrams.from,
            tos: datagrams.tos,
            segment: datagrams.segment.map(usize::from),
            bytes: datagrams.data.0.clone(),
        });
        Ok(Incoming::Messages(messages.collect()))
    }

    fn build(&self, packet: &Packet, note: &mut Option<String>) -> Result<craft::Built, ApiError> {
        let sender = match &self.ingress {
            Where::Port(entry) => Sender {
                mac: entry.mac,
                addresses: entry.spec.addresses.iter().map(|net| net.addr()).collect(),
            },
            // A probe of nobody's address is the least that a peer's host can say of itself.
            Where::Peer { remote, .. } if packet.src_mac.is_none() => {
                return Err(ApiError::invalid(format!(
                    "{OPERATION}: which host behind {remote} sends it? give src-mac MAC"
                )));
            }
            Where::Peer { .. } => Sender {
                mac: MacAddr::ZERO,
                addresses: Vec::new(),
            },
        };
        let found = packet.asks_for().map(|ip| self.find_station(ip));
        let (mac, how) = found.unwrap_or((None, None));
        *note = how;
        packet.build(&sender, mac).map_err(|error| match error {
            BuildError::NoDestination { of } => {
                let port = match &self.ingress {
                    Where::Port(entry) => format!(
                        " or trace the question first: tapswitch trace \
                         --in {} '{} who-has {of}'",
                        entry.spec.name,
                        if of.is_ipv4() { "arp" } else { "nd" }
                    ),
                    Where::Peer { .. } => String::new(),
                };
                ApiError::failed(format!(
                    "{OPERATION}: {error}: neither a port has the address, nor \
                     the neighbour table; give dst-mac MAC{port}"
                ))
            }
            _ => ApiError::invalid(format!("{OPERATION}: {error}")),
        })
    }

    /// The MAC address that a packet for `ip` is sent to, and how it was found.
    fn find_station(&self, ip: IpAddr) -> (Option<MacAddr>, Option<String>) {
        let next_hop = match &self.ingress {
            Where::Port(entry) => next_hop(&entry.spec, ip),
            Where::Peer { .. } => ip,
        };
        let via = if next_hop == ip {
            String::new()
        } else {
            format!(", the next hop to {ip}")
        };
        if let Where::Port(entry) = &self.ingress
            && let Some((netns, link)) = &entry.link
            && let Ok(Some(mac)) = netlink::mac_of(Some(netns), *link, next_hop)
        {
            let name = &entry.spec.name;
            let text = format!("{next_hop}{via} is {mac} in the neighbour table of {name}");
            return (Some(mac), Some(text));
        }
        let has = |station: &&Station| station.addresses.contains(&next_hop);
        let Some(station) = self.stations.iter().find(has) else {
            return (None, None);
        };
        let (mac, port) = (station.mac, &station.port);
        let text = format!("{next_hop}{via} is the address of port {port}, {mac}");
        (Some(mac), Some(text))
    }

    fn copies(&self, played: &Rehearsal) -> Vec<TraceCopy> {
        let copies = played.copies.iter().map(|copy| {
            let (data, datagrams) = match &copy.written {
                Written::Frames(frames) => {
                    let bare = frames.iter().map(|frame| {
                        let frame = frame.get(VirtioNetHdr::LEN..).unwrap_or_default();
                        Hex(frame.to_vec())
                    });
                    (bare.collect(), Vec::new())
                }
                Written::Messages(messages) => {
                    let messages = messages.iter().map(|message| self.datagrams(message));
                    (Vec::new(), messages.collect())
                }
            };
            let drops = copy.drops.iter();
            let Whereabouts { port, remote } = self.names.whereabouts(copy.to);
            TraceCopy {
                port,
                remote,
                frames: copy.totals.tx_frames,
                bytes: copy.totals.tx_bytes,
                drops: drops
                    .map(|&(reason, count)| (reason.name().to_owned(), count))
                    .collect::<BTreeMap<_, _>>(),
                data,
                datagrams,
            }
        });
        copies.collect()
    }

    fn datagrams(&self, message: &Datagrams) -> TraceDatagrams {
        let to = message.departure.to;
        TraceDatagrams {
            from: self.local.unwrap_or_else(|| to.ip()),
            source_port: message.source_port,
            to,
            tos: message.departure.tos,
            segment: message.departure.segment,
            data: Hex(message.bytes.clone()),
        }
    }

    fn answers(&self, played: &Rehearsal) -> Vec<TraceAnswer> {
        let answers = played.answers.iter().map(|answer| match answer {
            Answer::TooBig { port, frame } => TraceAnswer {
                port: self.names.whereabouts(Egress::Port(*port)).port,
                remote: None,
                frame: describe(frame),
                data: Hex(frame.clone()),
            },
            Answer::Probe(message) => TraceAnswer {
                port: None,
                remote: Some(message.departure.to),
                frame: "answer to a probe".to_owned(),
                data: Hex(message.bytes.clone()),
            },
        });
        answers.collect()
    }
}

/// The outcome in one word, and the first reason of a loss, with the place where that was to go.
fn verdict(played: &Rehearsal) -> (TraceVerdict, Option<(DropReason, Option<Egress>)>) {
    let refused = played.refused.iter().map(|&(reason, _)| (reason, None));
    let frames = played.frames.iter();
    let decided = frames.filter_map(|frame| match frame.verdict.decision {
        Decision::Drop(reason) => {
            let row = frame.destination.filter(|_| !frame.has_aged);
            Some((reason, row.map(|row| row.egress)))
        }
        Decision::Forward(_) | Decision::Flood(_) => None,
    });
    let lost = played.copies.iter().flat_map(|copy| {
        let drops = copy.drops.iter();
        drops.map(|&(reason, _)| (reason, Some(copy.to)))
    });
    let answers = played.lost_answers.iter();
    let unanswered = answers.map(|&(to, reason, _)| (reason, Some(to)));
    let mut reasons = refused.chain(decided).chain(lost).chain(unanswered);
    let reason = reasons.next();
    let is_sent = played.copies.iter().any(|copy| copy.totals.tx_frames > 0);
    let verdict = match (is_sent, reason) {
        (true, None) => TraceVerdict::Delivered,
        (true, Some(_)) => TraceVerdict::PartlyDelivered,
        (false, None) if played.probes > 0 => TraceVerdict::Answered,
        (false, _) => TraceVerdict::Dropped,
    };
    (verdict, reason)
}

/// Whom a port's host asks on the way to `ip`, going by its settings.
fn next_hop(spec: &PortSpec, ip: IpAddr) -> IpAddr {
    if spec.addresses.iter().any(|net| net.contains(&ip)) {
        return ip;
    }
    let routes = spec.routes.iter().filter(|route| route.to.contains(&ip));
    let best = routes.max_by_key(|route| route.to.prefix_len());
    if let Some(route) = best {
        return route.via.unwrap_or(ip);
    }
    let mut gateways = spec.gateways.iter();
    let gateway = gateways.find(|gateway| gateway.is_ipv4() == ip.is_ipv4());
    gateway.copied().unwrap_or(ip)
}

/// Datagrams of one trace: twice what the kernel hands over in one message.
const MOST_DATAGRAMS: usize = 256;
const OPERATION: &str = "trace";
/// What a superframe becomes on a path with an MTU of 576, and then some.
const MOST_MESSAGES: usize = 256;
const MOST_BYTES: usize = 128 * 1024;
/// The longest frame: what a TAP hands over in one piece.
const LONGEST: usize = 65_535 + 14 + 8;
