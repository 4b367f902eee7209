//! The demo for scripts.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
};

use serde::Serialize;

use super::{HEADERS, PINGS, PODS, Place, Play, VTEPS};
use crate::{
    control::api::MtuChain,
    sim::{Nodes, Scene},
    time::Timestamp,
    wire::MacAddr,
};

/// All that the demo tells, as one value.
#[derive(Serialize)]
struct Demo<'a> {
    /// Whether the namespaces were real.
    real: bool,
    /// Where it was played, and why if nothing was real.
    place: &'a str,
    vni: u32,
    nodes: Vec<Node>,
    pings: Vec<Ping>,
    /// The life of the first ping.
    frames: Vec<Frame<'a>>,
    fdb: Vec<Row<'a>>,
    mtu: &'a MtuChain,
    /// Bytes of the longest frame on the cable.
    longest: usize,
    /// Frames that both switches took in.
    received: u64,
    unaccounted: i64,
}

#[derive(Serialize)]
struct Node {
    node: usize,
    vtep: Ipv4Addr,
    pods: Vec<PodInfo>,
}

#[derive(Serialize)]
struct PodInfo {
    name: &'static str,
    ip: Ipv4Addr,
}

#[derive(Serialize)]
struct Ping {
    from: &'static str,
    to: &'static str,
    /// Bytes of the IP packet.
    bytes: usize,
    rtt_s: f64,
}

#[derive(Serialize)]
#[serde(tag = "at", rename_all = "lowercase")]
enum Frame<'a> {
    /// A switch took it in.
    Switch {
        time_s: f64,
        node: usize,
        from: &'a str,
        frame: &'a str,
        bytes: usize,
        fate: &'a str,
        learned: Option<&'a str>,
    },
    /// It went from node to node.
    Cable {
        time_s: f64,
        from: IpAddr,
        to: IpAddr,
        bytes: usize,
    },
}

#[derive(Serialize)]
struct Row<'a> {
    node: usize,
    mac: MacAddr,
    port: Option<&'a str>,
    remote: Option<IpAddr>,
}

pub(super) fn play(play: &Play, real: bool, place: &str, out: &mut impl Write) -> io::Result<()> {
    let pings = PINGS.iter().zip(&play.trips);
    let start = play.story.first().map_or(Timestamp::ZERO, Scene::at);
    let demo = Demo {
        real,
        place,
        vni: Nodes::VNI,
        nodes: (0..VTEPS.len()).map(node).collect(),
        pings: pings
            .map(|(&(from, to, len), trip)| Ping {
                from: PODS[from].name,
                to: PODS[to].name,
                bytes: len + HEADERS,
                rtt_s: trip.as_secs_f64(),
            })
            .collect(),
        frames: play.story.iter().map(|scene| frame(scene, start)).collect(),
        fdb: rows(play),
        mtu: &play.chain,
        longest: play.longest,
        received: play.frames,
        unaccounted: play.unaccounted,
    };
    serde_json::to_writer(&mut *out, &demo)?;
    writeln!(out)
}

fn node(index: usize) -> Node {
    let pods = PODS.iter().filter(|pod| pod.node == index);
    Node {
        node: index + 1,
        vtep: VTEPS[index],
        pods: pods
            .map(|pod| PodInfo {
                name: pod.name,
                ip: pod.ip,
            })
            .collect(),
    }
}

fn frame(scene: &Scene, start: Timestamp) -> Frame<'_> {
    let time_s = scene.at().since(start).as_secs_f64();
    match scene {
        Scene::Switched { node, sentence } => Frame::Switch {
            time_s,
            node: node + 1,
            from: &sentence.ingress,
            frame: &sentence.frame,
            bytes: sentence.len,
            fate: &sentence.fate,
            learned: sentence.lesson.as_deref(),
        },
        Scene::Crossed(crossing) => Frame::Cable {
            time_s,
            from: crossing.from,
            to: crossing.to.ip(),
            bytes: crossing.len,
        },
    }
}

/// What each node knows, node by node.
fn rows(play: &Play) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for node in 0..VTEPS.len() {
        for (mac, places) in &play.known {
            let (port, remote) = match &places[node] {
                None => continue,
                Some(Place::Port(port)) => (Some(port.as_str()), None),
                Some(Place::Vtep(ip)) => (None, Some(*ip)),
            };
            rows.push(Row {
                node: node + 1,
                mac: *mac,
                port,
                remote,
            });
        }
    }
    rows
}
