//! Ports, peers and drops as rows, sorted and filtered. Pure.

use std::{cmp::Ordering, collections::BTreeMap};

use super::model::{Known, Model, Sort};
use crate::{
    cli::{
        output::{explain, plain},
        rates::{Flow, scaled},
    },
    control::api::{PeerState, PortState, StatsInfo},
};

/// A port or a peer.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) name: String,
    pub(super) is_peer: bool,
    pub(super) state: &'static str,
    pub(super) is_up: bool,
    pub(super) flow: &'a Flow,
    /// Bits a second, the newest last.
    pub(super) history: Vec<u64>,
}

/// What was lost at one place, in one direction, for one reason.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) place: String,
    pub(super) way: &'static str,
    pub(super) reason: String,
    pub(super) total: u64,
    pub(super) rate: f64,
    pub(super) meaning: &'static str,
}

/// A name for each port and then each peer that no other has.
pub(super) fn keys(stats: &StatsInfo) -> impl Iterator<Item = String> {
    let ports = stats.ports.iter().map(|port| format!("port {}", port.name));
    let peers = stats.peers.iter();
    ports.chain(peers.map(|peer| format!("peer {} {}", peer.bridge, peer.remote)))
}

/// The ports that are wanted, in the order that is wanted, and then the peers.
pub(super) fn places(model: &Model) -> Vec<Place<'_>> {
    let known = model.shown();
    let ports = ports(known).chain(peers(known));
    let wanted = ports.filter(|place| is_wanted(&place.name, &model.filter));
    let mut places: Vec<_> = wanted.collect();
    places.sort_by(|a, b| {
        let by_value = |value: fn(&Flow) -> f64| descending(value(a.flow), value(b.flow));
        let order = match model.sort {
            Sort::Bits => by_value(Flow::bits),
            Sort::Frames => by_value(Flow::frames),
            Sort::Drops => by_value(|flow| flow.drop_rate),
            Sort::Name => Ordering::Equal,
        };
        let by_name = || a.name.cmp(&b.name);
        a.is_peer.cmp(&b.is_peer).then(order).then_with(by_name)
    });
    places
}

fn ports(known: &Known) -> impl Iterator<Item = Place<'_>> {
    let ports = known.stats.ports.iter().zip(&known.rates.ports);
    ports
        .zip(keys(&known.stats))
        .map(|((port, flow), key)| Place {
            name: port.name.to_string(),
            is_peer: false,
            state: match port.state {
                PortState::Up => "up",
                PortState::Down => "down",
                PortState::Gone => "gone",
            },
            is_up: port.state == PortState::Up,
            flow,
            history: history(known, &key),
        })
}

fn peers(known: &Known) -> impl Iterator<Item = Place<'_>> {
    let peers = known.stats.peers.iter().zip(&known.rates.peers);
    let keys = keys(&known.stats).skip(known.stats.ports.len());
    peers.zip(keys).map(|((peer, flow), key)| {
        let others = known.stats.peers.iter();
        let of_this_host = others.filter(|other| other.remote == peer.remote).count();
        let remote = plain(&peer.remote);
        Place {
            name: match of_this_host {
                1 => remote,
                _ => format!("{remote} {}", peer.bridge),
            },
            is_peer: true,
            state: match peer.state {
                PeerState::Up => "up",
                PeerState::NoRoute => "no route",
                PeerState::Down => "down",
            },
            is_up: peer.state == PeerState::Up,
            flow,
            history: history(known, &key),
        }
    })
}

fn history(known: &Known, key: &str) -> Vec<u64> {
    let past = known.history.get(key);
    past.into_iter().flatten().copied().collect()
}

/// All losses at the wanted places, those that go on first.
pub(super) fn losses(model: &Model) -> Vec<Loss> {
    let known = model.shown();
    let stats = &known.stats;
    let mut losses = Vec::new();
    let seconds = known.rates.seconds;
    let ports = stats.ports.iter().zip(&known.rates.ports);
    for (port, flow) in ports {
        let drops = (&port.drops, &port.drops_in);
        add(&mut losses, port.name.as_str(), drops, flow, seconds);
    }
    for (peer, flow) in stats.peers.iter().zip(&known.rates.peers) {
        let place = format!("{} {}", plain(&peer.remote), peer.bridge);
        add(
            &mut losses,
            &place,
            (&peer.drops, &peer.drops_in),
            flow,
            seconds,
        );
    }
    if let Some(vtep) = &stats.vtep {
        let flow = &known.rates.strays;
        add(
            &mut losses,
            "no peer",
            (&vtep.drops, &vtep.drops_in),
            flow,
            seconds,
        );
    }
    losses.retain(|loss| is_wanted(&loss.place, &model.filter));
    losses.sort_by(|a, b| {
        let by_total = || b.total.cmp(&a.total);
        descending(a.rate, b.rate).then_with(by_total)
    });
    losses
}

fn add(
    losses: &mut Vec<Loss>,
    place: &str,
    (all, incoming): (&BTreeMap<String, u64>, &BTreeMap<String, u64>),
    flow: &Flow,
    seconds: Option<f64>,
) {
    for (reason, &count) in all {
        if count == 0 {
            continue;
        }
        let way = match incoming.get(reason).copied().unwrap_or(0) {
            0 => "out",
            came_in if came_in == count => "in",
            _ => "both",
        };
        let new = flow.drops.get(reason).copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
        let rate = seconds.map_or(0.0, |seconds| new as f64 / seconds);
        losses.push(Loss {
            place: place.to_owned(),
            way,
            reason: plain(reason),
            total: count,
            rate,
            meaning: explain(reason).unwrap_or_default(),
        });
    }
}

/// `12/s no_egress`, the reason being the one that cost most.
pub(super) fn drops_of(flow: &Flow) -> String {
    match flow.top_reason() {
        Some(reason) => format!("{}/s {}", scaled(flow.drop_rate), plain(reason)),
        None => String::new(),
    }
}

pub(super) fn is_wanted(name: &str, filter: &str) -> bool {
    name.to_lowercase().contains(&filter.to_lowercase())
}

pub(super) fn descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}
