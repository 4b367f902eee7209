//! Collects the facts that [`crate::doctor`] judges: settings, counters, namespaces, and what peers
//! answer. Changes nothing, holds the switch's lock for moments only, and is done after
//! [`LONGEST`], with less to tell if there is too much to look at.

mod overlay;
mod sample;

use std::{net::IpAddr, time::Duration};

use self::sample::Sample;
use super::{
    state::{BridgeState, Link, State},
    switch::Inner,
};
use crate::{
    bridge::{EntryKind, FdbEntry, FdbKey},
    control::api::{ApiError, DoctorRequest, WhyEntry, WhyRequest},
    doctor::{
        self, BridgeFacts, Count, Entry, Facts, Heard, Inside, PathFacts, PortFacts, Report, Scope,
        Seen, Whereabouts,
    },
    names::Name,
    netlink::{self, LinkRef, Way},
    sys::{
        clock,
        netns::{NetnsFile, NetnsId},
    },
    time::Timestamp,
    wire::MacAddr,
};

impl Inner {
    /// Looks at what `request` is about, and judges it.
    pub(super) fn doctor(&self, request: &DoctorRequest) -> Result<Report, ApiError> {
        let exam = Exam {
            inner: self,
            scope: request.scope(),
            started: clock::now(),
        };
        let facts = exam.facts()?;
        Ok(doctor::diagnose(&facts))
    }
}

/// One examination.
struct Exam<'a> {
    inner: &'a Inner,
    scope: Scope,
    started: Timestamp,
}

impl Exam<'_> {
    fn facts(&self) -> Result<Facts, ApiError> {
        let (first, bridges) = {
            let state = self.inner.state();
            self.check(&state)?;
            (Sample::take(self.inner, &state), self.bridges(&state))
        };
        let mut facts = Facts {
            scope: self.scope.clone(),
            daemon: format!(
                "tapswitch {}, pid {}, {} worker{}",
                env!("CARGO_PKG_VERSION"),
                std::process::id(),
                self.inner.workers.len(),
                if self.inner.workers.len() == 1 {
                    ""
                } else {
                    "s"
                },
            ),
            unaccounted: 0,
            bridges: Vec::new(),
            ports: self.ports(&bridges),
            vtep: None,
            peers: Vec::new(),
            paths: Vec::new(),
        };
        facts.paths = self.paths(&facts);
        if self.wants_overlay(&facts) {
            self.look_at_overlay(&mut facts, &bridges);
        }
        // What goes on shows only after a while.
        let rest = WINDOW.saturating_sub(self.spent());
        std::thread::sleep(rest);
        self.look_again(&mut facts, &first, &bridges);
        Ok(facts)
    }

    fn spent(&self) -> Duration {
        clock::now().since(self.started)
    }

    /// Both ends must be there.
    fn check(&self, state: &State) -> Result<(), ApiError> {
        let ends = self.scope.from().into_iter().chain(self.scope.to());
        for name in ends {
            state.known_port("doctor", name)?;
        }
        if self.scope.from().is_some() && self.scope.from() == self.scope.to() {
            return Err(ApiError::invalid(
                "doctor: a path has two ends; for one port: tapswitch doctor PORT",
            ));
        }
        Ok(())
    }

    /// The bridges that matter.
    fn bridges(&self, state: &State) -> Vec<Name> {
        if self.scope == Scope::Switch {
            let all = state.bridges.iter();
            return all.map(|bridge| bridge.spec.name.clone()).collect();
        }
        let ends = self.scope.from().into_iter().chain(self.scope.to());
        let ends = ends.filter_map(|name| state.port(name));
        let mut bridges: Vec<Name> = ends.map(|port| port.spec.bridge.clone()).collect();
        bridges.dedup();
        bridges
    }

    /// The ports of these bridges. The ends of a path come first, should time run out.
    fn ports(&self, bridges: &[Name]) -> Vec<PortFacts> {
        let mut names: Vec<Name> = {
            let state = self.inner.state();
            let ports = state.ports.iter();
            let ours = ports.filter(|port| bridges.contains(&port.spec.bridge));
            ours.map(|port| port.spec.name.clone()).collect()
        };
        names.sort_by_key(|name| !self.scope.has(name));
        names.iter().filter_map(|name| self.port(name)).collect()
    }

    fn port(&self, name: &Name) -> Option<PortFacts> {
        let (mut facts, device) = {
            let state = self.inner.state();
            // It may have been deleted meanwhile.
            let port = state.port(name)?;
            let (gone, device, offloads) = match &port.link {
                Link::Gone(gone) => (Some(gone.reason.clone()), None, String::new()),
                Link::Plugged(plugged) => {
                    let offloads = crate::datapath::PortIo::offloads(&*plugged.io).to_string();
                    let device = Device::of(plugged.io.device(), plugged.netns);
                    (None, Some(device), offloads)
                }
            };
            let facts = PortFacts {
                spec: port.spec.clone(),
                mac: port.mac,
                gone,
                offloads,
                rx: Count::default(),
                losses: Vec::new(),
                queue: Count::default(),
                inside: Inside::Unseen("its device is gone".to_owned()),
                fdb: None,
            };
            (facts, device)
        };
        if let Some(device) = device {
            facts.inside = if self.spent() > ENOUGH {
                Inside::Unseen("there was no time to look into its namespace".to_owned())
            } else {
                device.and_then(|device| device.look()).into()
            };
        }
        if let Inside::Seen(seen) = &facts.inside {
            facts.queue.total = seen.view.link.stats.tx_dropped;
        }
        Some(facts)
    }

    /// The ways between the two ends.
    fn paths(&self, facts: &Facts) -> Vec<PathFacts> {
        let Some(from) = self.scope.from().and_then(|name| facts.port(name)) else {
            return Vec::new();
        };
        let pairs = match &self.scope {
            Scope::Ports(_, to) => facts
                .port(to)
                .map_or_else(Vec::new, |to| doctor::pairs(from, to)),
            Scope::Address(_, ip) => {
                let source = from.usable().find(|held| held.is_ipv4() == ip.is_ipv4());
                vec![(source, *ip)]
            }
            _ => Vec::new(),
        };
        let targets: Vec<IpAddr> = pairs.iter().map(|&(_, to)| to).collect();
        let ways = self.ways(&from.spec.name, &targets);
        let mut paths = Vec::new();
        for ((source, to), way) in pairs.into_iter().zip(ways) {
            // The kernel knows best which of its addresses it uses.
            let source = match &way {
                Way::Over {
                    source: Some(ip), ..
                } => Some(*ip),
                _ => source,
            };
            let other = match self.scope.to() {
                Some(name) => facts.port(name),
                None => facts.owner(to),
            };
            let back = other
                .zip(source)
                .and_then(|(other, source)| self.ways(&other.spec.name, &[source]).pop());
            let mut path = PathFacts {
                from: source,
                to,
                way,
                back,
                next: None,
                heard: Vec::new(),
            };
            let mac = from.neighbour(path.next_hop()).and_then(|known| known.mac);
            path.next = mac.map(|mac| (mac, self.entry(&from.spec.bridge, mac)));
            path.heard = self.heard(Some(path.next_hop()), false);
            paths.push(path);
        }
        paths
    }

    /// What the flight recorder remembers of the last minute; nothing if it is off.
    fn heard(&self, about: Option<IpAddr>, drops: bool) -> Vec<Heard> {
        let request = WhyRequest {
            about: about.map(|ip| ip.to_string()),
            last_s: Some(60.0),
            drops,
        };
        let report = self.inner.why(self.inner.state(), &request);
        let entries = report.map(|report| report.entries).unwrap_or_default();
        entries.into_iter().map(heard).collect()
    }

    /// The interface of a port, and its namespace.
    fn device(&self, port: &Name) -> Option<Device> {
        let state = self.inner.state();
        let plugged = state.port(port)?.plugged()?;
        Device::of(plugged.io.device(), plugged.netns).ok()
    }

    /// The ways from the namespace of a port.
    fn ways(&self, port: &Name, to: &[IpAddr]) -> Vec<Way> {
        let device = self.device(port);
        let ways = device.and_then(|device| netlink::ways(Some(&device.netns), to).ok());
        ways.unwrap_or_default()
    }

    /// What the FDB of `bridge` says of `mac`.
    fn entry(&self, bridge: &Name, mac: MacAddr) -> Option<Entry> {
        let state = self.inner.state();
        let bridge = state.bridge(bridge)?;
        let entry = bridge.fdb.get(FdbKey::new(mac, 0))?;
        let alive = self.inner.is_alive(bridge, &entry);
        alive.then(|| self.tell_entry(&state, bridge, &entry))
    }

    fn tell_entry(&self, state: &State, bridge: &BridgeState, entry: &FdbEntry) -> Entry {
        let now = self.inner.clock.now();
        let peer = entry
            .egress
            .peer()
            .and_then(|id| state.peers.iter().find(|peer| peer.id == id));
        let port = entry.egress.port().and_then(|id| state.port_by_id(id));
        Entry {
            place: match (port, peer) {
                (Some(port), _) => Whereabouts::Port(port.spec.name.clone()),
                (None, Some(peer)) => Whereabouts::Peer(peer.to.ip()),
                (None, None) => Whereabouts::Nowhere,
            },
            is_static: entry.kind != EntryKind::Learned,
            age: now.since(entry.updated),
            moves: entry.moves,
            is_held: bridge.spec.flap_limit > 0 && entry.frozen_until > now,
        }
    }

    /// Whether what was asked has to do with other machines.
    fn wants_overlay(&self, facts: &Facts) -> bool {
        match self.scope {
            Scope::Switch | Scope::Port(_) => true,
            Scope::Ports(..) => false,
            Scope::Address(..) => {
                let next = facts.paths.first().map(PathFacts::next_hop);
                next.is_none_or(|next| facts.owner(next).is_none())
            }
        }
    }

    /// The counters once more, and what lies in the FDB.
    fn look_again(&self, facts: &mut Facts, first: &Sample, bridges: &[Name]) {
        for port in &mut facts.ports {
            if self.spent() < LONGEST
                && self.scope.has(&port.spec.name)
                && let Inside::Seen(seen) = &mut port.inside
            {
                self.look_inside_again(&port.spec.name, seen, &mut port.queue);
            }
        }
        self.look_at_overlay_again(facts);
        for port in &mut facts.ports {
            let mac = port.real_mac();
            port.fdb = self.entry(&port.spec.bridge, mac);
        }
        let state = self.inner.state();
        let second = Sample::take(self.inner, &state);
        facts.unaccounted = second.unaccounted;
        second.since(first, facts);
        facts.bridges = bridges
            .iter()
            .filter_map(|name| state.bridge(name))
            .map(|bridge| {
                let name = &bridge.spec.name;
                let counters = bridge.fdb.counters();
                let refused = counters.refused_full + counters.evicted;
                BridgeFacts {
                    spec: bridge.spec.clone(),
                    mtu: bridge.mtu(),
                    auto_mtu: bridge.auto_mtu(),
                    learned: bridge.fdb.learned(),
                    refused: first.refused(name, refused),
                    held: self.held(&state, bridge),
                }
            })
            .collect();
    }

    fn look_inside_again(&self, port: &Name, seen: &mut Seen, queue: &mut Count) {
        let device = self.device(port);
        let Some(device) = device else { return };
        let netns = Some(&device.netns);
        if let Ok(link) = netlink::link_state(netns, &LinkRef::Name(device.name)) {
            let lost = link.stats.tx_dropped;
            queue.grown = lost.saturating_sub(queue.total);
            queue.total = lost;
        }
        if !seen.view.netfilter.drops.is_empty()
            && let Ok(now) = netlink::netfilter(netns)
        {
            seen.dropped = overlay::grown(&seen.view.netfilter, &now);
        }
    }

    /// Addresses that moved too often.
    fn held(&self, state: &State, bridge: &BridgeState) -> Vec<(MacAddr, String)> {
        if bridge.fdb.counters().frozen == 0 {
            return Vec::new();
        }
        let mut held = Vec::new();
        for (key, entry) in bridge.fdb.entries() {
            let told = self.tell_entry(state, bridge, &entry);
            if told.is_held && !told.is_static {
                held.push((key.mac(), told.place.to_string()));
            }
        }
        held.sort();
        held
    }
}

fn heard(entry: WhyEntry) -> Heard {
    let from = entry.from_port.map(|name| name.to_string());
    Heard {
        frame: entry.frame,
        count: entry.count,
        age: Duration::try_from_secs_f64(entry.age_s).unwrap_or_default(),
        from: from.or(entry.from_remote).unwrap_or_default(),
        to: entry.to,
        dst: entry.dst,
        lost: entry.reason,
        why: entry.why,
        remedy: entry.remedy,
        vni: entry.vni,
    }
}

/// The interface of a port, wherever it is now. Keeps its namespace alive, so drop it soon.
struct Device {
    netns: NetnsFile,
    name: String,
    plugged_into: NetnsId,
}

impl Device {
    fn of(device: &crate::attach::PortDevice, plugged_into: NetnsId) -> Result<Self, String> {
        Ok(Self {
            netns: device.netns().map_err(|error| error.to_string())?,
            name: device.device_name().map_err(|error| error.to_string())?,
            plugged_into,
        })
    }

    fn look(self) -> Result<Seen, String> {
        let view = netlink::view(Some(&self.netns), &LinkRef::Name(self.name))
            .map_err(|error| error.to_string())?;
        let now = self.netns.id();
        Ok(Seen {
            view,
            dropped: Vec::new(),
            moved_to: (now != self.plugged_into).then_some(now.ino),
        })
    }
}

impl From<Result<Seen, String>> for Inside {
    fn from(looked: Result<Seen, String>) -> Self {
        match looked {
            Ok(seen) => Self::Seen(Box::new(seen)),
            Err(why) => Self::Unseen(why),
        }
    }
}

/// The most that an examination may take.
const LONGEST: Duration = Duration::from_secs(2);
/// After this no further namespace is entered.
const ENOUGH: Duration = Duration::from_millis(700);
/// From the first look at the counters to the second.
const WINDOW: Duration = Duration::from_millis(400);
