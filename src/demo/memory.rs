//! The demo without Linux: simulated hosts on the same bridge.

use std::{
    io::{self, Write},
    net::Ipv4Addr,
};

use super::{HOSTS, tell_fdb, tell_setting, tell_story};
use crate::{
    bridge::PortId,
    sim::{Network, Sentence},
};

pub(super) fn play(out: &mut impl Write) -> io::Result<()> {
    tell_setting(out)?;
    let mut network = Network::new(HOSTS.map(|(name, _)| name));
    let log = network.lab.tell(64);
    let mut first: Vec<Sentence> = Vec::new();
    for (from, to) in [(0, 1), (0, 1), (0, 1), (2, 0)] {
        let (name, address) = HOSTS[to];
        let target: Ipv4Addr = address.parse().map_err(io::Error::other)?;
        let pong = network
            .ping(from, target.into())
            .ok_or_else(|| io::Error::other("the simulated ping got no reply"))?;
        writeln!(
            out,
            "{} pings {name} ({address}): reply after {} us of virtual time",
            HOSTS[from].0,
            pong.round_trip.as_micros()
        )?;
        if first.is_empty() {
            first = log.take();
        }
    }
    tell_story(out, "The first ping, as the bridge saw it:", &first)?;
    let now = network.lab.now();
    let lab = &network.lab;
    let port = |port: Option<PortId>| {
        port.map(|port| lab.name(port).to_owned())
            .unwrap_or_default()
    };
    let rows = lab.entries().into_iter().map(|(key, entry)| {
        (
            key.mac().to_string(),
            port(entry.egress.port()),
            now.since(entry.updated).as_secs_f64(),
        )
    });
    tell_fdb(out, rows)?;
    let frames: u64 = lab.ports().map(|port| lab.totals(port).rx_frames).sum();
    writeln!(
        out,
        "\n{frames} frames came into the switch; unaccounted for: {}.",
        lab.unaccounted()
    )
}
