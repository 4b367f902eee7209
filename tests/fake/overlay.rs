//! Samples of an overlay, and the fake's answers about it.

use std::collections::BTreeMap;

use tapswitch::{
    config::{BridgeSpec, VtepSpec},
    control::api::{
        ApiError, BridgeInfo, FdbInfo, FdbState, MtuChain, PeerInfo, PeerKind, PeerState,
        PingReply, PingReport, PingRequest, Request, Response, TrafficInfo, VtepInfo, VtepState,
    },
    wire::Vni,
};

use super::{name, sample_fdb};

pub(crate) fn sample_vtep() -> VtepInfo {
    let mut spec = VtepSpec::new("192.168.50.10".parse().unwrap());
    spec.netns = Some("nodeA".parse().unwrap());
    spec.ttl = 32;
    VtepInfo {
        spec,
        source_ports: vec![49_152, 50_123],
        offloads: "UDP_SEGMENT, UDP_GRO".to_owned(),
        state: VtepState::Up,
        reason: None,
        rx: TrafficInfo {
            frames: 5,
            bytes: 420,
        },
        drops: BTreeMap::from([("unknown_vni".to_owned(), 5)]),
        drops_in: BTreeMap::from([("unknown_vni".to_owned(), 5)]),
        socket_overflow: 1,
    }
}

pub(crate) fn sample_peer() -> PeerInfo {
    PeerInfo {
        bridge: name("ov0"),
        vni: Vni::new(42).unwrap(),
        remote: "192.168.50.20".to_owned(),
        port: 4789,
        kind: PeerKind::Listed,
        mtu: 1450,
        path_mtu: 1500,
        state: PeerState::Up,
        reason: None,
        rx: TrafficInfo {
            frames: 7,
            bytes: 700,
        },
        tx: TrafficInfo {
            frames: 8,
            bytes: 800,
        },
        drops: BTreeMap::from([("too_big".to_owned(), 2)]),
        drops_in: BTreeMap::new(),
        reserved_bits_ignored: 0,
        fdb_entries: 1,
    }
}

/// A peer that cannot be reached.
pub(crate) fn lost_peer() -> PeerInfo {
    PeerInfo {
        remote: "192.168.51.30".to_owned(),
        port: 8472,
        kind: PeerKind::Static,
        state: PeerState::NoRoute,
        reason: Some("network is unreachable".to_owned()),
        drops: BTreeMap::new(),
        drops_in: BTreeMap::new(),
        fdb_entries: 0,
        ..sample_peer()
    }
}

pub(crate) fn overlay_bridge() -> BridgeInfo {
    let mut spec = BridgeSpec::new(name("ov0"));
    spec.vni = Vni::new(42);
    spec.peers = vec!["192.168.50.20".parse().unwrap()];
    let less = [
        ("outer IPv4", 20),
        ("UDP", 8),
        ("VXLAN", 8),
        ("inner Ethernet", 14),
    ];
    BridgeInfo {
        spec,
        effective_mtu: 1450,
        mtu_chain: Some(MtuChain {
            from: "path to 192.168.50.20".to_owned(),
            path_mtu: 1500,
            less: less
                .map(|(layer, bytes)| (layer.to_owned(), bytes))
                .to_vec(),
            mtu: 1450,
        }),
        peer_count: 2,
        ports: Vec::new(),
        fdb_entries: 1,
        fdb_learned: 1,
        fdb_counters: BTreeMap::new(),
    }
}

pub(crate) fn remote_fdb() -> FdbInfo {
    FdbInfo {
        bridge: name("ov0"),
        mac: "02:00:00:00:00:02".parse().unwrap(),
        port: None,
        remote: Some("192.168.50.20".to_owned()),
        state: FdbState::Control,
        age_s: 0.0,
        ..sample_fdb()
    }
}

/// Every probe but the second comes back; from 192.168.50.99 none does.
fn ping(request: &PingRequest) -> PingReport {
    let is_dead = request.remote.to_string() == "192.168.50.99";
    let size = request.size.unwrap_or(58);
    let replies: Vec<PingReply> = (1..=request.count)
        .map(|sequence| PingReply {
            sequence,
            size,
            rtt_s: (!is_dead && sequence != 2).then_some(0.000_1 * f64::from(sequence)),
        })
        .collect();
    let rtts: Vec<f64> = replies.iter().filter_map(|reply| reply.rtt_s).collect();
    let received = u32::try_from(rtts.len()).unwrap();
    let (verdict, udp) = match is_dead {
        true => (
            "no probe came back",
            "port 4789 closed (ICMP port unreachable)",
        ),
        false => ("frames get there and back", "answers on 4789"),
    };
    PingReport {
        bridge: name("ov0"),
        vni: Vni::new(42).unwrap(),
        remote: request.remote.ip.to_string(),
        port: request.remote.port.unwrap_or(4789),
        sent: request.count,
        received,
        size,
        rtt_min_s: rtts.first().copied(),
        rtt_avg_s: (received > 0).then(|| rtts.iter().sum::<f64>() / f64::from(received)),
        rtt_max_s: rtts.last().copied(),
        replies,
        largest: request.sweep.then_some(1464),
        smallest_lost: request.sweep.then_some(1465),
        verdict: verdict.to_owned(),
        udp: udp.to_owned(),
    }
}

pub(crate) fn answer(request: &Request) -> Result<Response, ApiError> {
    Ok(match request {
        Request::VtepShow => Response::Vtep(Some(sample_vtep())),
        Request::PeerShow { .. } => Response::Peers(vec![sample_peer(), lost_peer()]),
        Request::PeerPing(request) => Response::Ping(ping(request)),
        Request::PeerDel { remote, .. } if remote.ip.is_ipv6() => {
            return Err(ApiError::not_found(format!(
                "delete peer {remote}: bridge ov0 has no such peer; see: tapswitch peer show"
            )));
        }
        Request::PeerAdd { remote, .. } if remote.ip.is_ipv6() => {
            return Err(ApiError::invalid(format!(
                "add peer {remote}: the VTEP's local 192.168.50.10 is of IPv4"
            )));
        }
        _ => Response::Done,
    })
}
