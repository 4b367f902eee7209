//! The demo without Linux: simulated hosts on the same switches.

use std::io;

use super::{PINGS, PODS, Place, Play, VTEPS};
use crate::{
    bridge::Egress,
    config::BridgeSpec,
    control::api::MtuChain,
    sim::{Lab, Nodes, Scene},
    vxlan,
    wire::MacAddr,
};

pub(super) fn play() -> io::Result<Play> {
    let names = [0, 1].map(|node| {
        let pods = PODS.iter().filter(|pod| pod.node == node);
        pods.map(|pod| pod.name).collect::<Vec<_>>()
    });
    let mut nodes = Nodes::new(&names.each_ref().map(Vec::as_slice));
    nodes.tell(64);
    let (mut trips, mut story, mut longest) = (Vec::new(), Vec::new(), 0);
    for (from, to, len) in PINGS {
        let pong = nodes.ping_with(from, PODS[to].ip.into(), len);
        let pong = pong.ok_or_else(|| io::Error::other("a simulated ping got no reply"))?;
        trips.push(pong.round_trip);
        let scenes = nodes.story();
        let crossings = scenes.iter().filter_map(Scene::crossing);
        longest = crossings
            .map(|crossing| crossing.len)
            .fold(longest, usize::max);
        if story.is_empty() {
            story = scenes;
        }
    }
    let labs = || nodes.networks.iter().map(|network| &network.lab);
    let mut macs: Vec<MacAddr> = labs()
        .flat_map(|lab| lab.entries().into_iter().map(|(key, _)| key.mac()))
        .collect();
    macs.sort();
    macs.dedup();
    let known = macs.into_iter().map(|mac| {
        let [first, second] = [0, 1].map(|node| place(&nodes.networks[node].lab, node, mac));
        (mac, [first, second])
    });
    Ok(Play {
        known: known.collect(),
        chain: chain(),
        frames: labs().map(Lab::frames).sum(),
        unaccounted: labs().map(|lab| lab.unaccounted().cast_signed()).sum(),
        trips,
        story,
        longest,
    })
}

fn place(lab: &Lab, node: usize, mac: MacAddr) -> Option<Place> {
    let entries = lab.entries().into_iter();
    let (_, entry) = entries.into_iter().find(|(key, _)| key.mac() == mac)?;
    Some(match entry.egress {
        Egress::Port(port) => Place::Port(lab.name(port).to_owned()),
        Egress::Peer(_) => Place::Vtep(VTEPS[1 - node].into()),
    })
}

fn chain() -> MtuChain {
    let path_mtu = BridgeSpec::DEFAULT_MTU;
    let less = [
        ("outer IPv4", 20),
        ("UDP", 8),
        ("VXLAN", 8),
        ("inner Ethernet", 14),
    ];
    MtuChain {
        from: format!("path to {}", VTEPS[1]),
        path_mtu,
        less: less.map(|(layer, bytes)| (layer.to_owned(), bytes)).into(),
        mtu: path_mtu - vxlan::overhead(false),
    }
}
