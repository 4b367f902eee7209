//! Valid switches for property tests.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use proptest::prelude::*;

use super::{check::check, *};
use crate::{
    names::Name,
    wire::{MacAddr, Vni},
};

fn name(prefix: &str, index: usize) -> Name {
    Name::new(&format!("{prefix}{index}")).unwrap()
}

fn vtep() -> impl Strategy<Value = VtepSpec> {
    let local = prop_oneof![Just("192.0.2.10"), Just("192.0.2.11"), Just("2001:db8::10")];
    let netns = prop_oneof![Just(None), Just(Some("nodeA".to_owned()))];
    let tos = prop_oneof![
        Just(Tos::Inherit),
        (0_u8..64).prop_map(|dscp| Tos::Fixed(dscp << 2)),
    ];
    let numbers = (1_u16.., 1_u8.., tos);
    (local, netns, numbers, any::<u8>()).prop_map(|(local, netns, (port, ttl, tos), bits)| {
        let bit = |n: u8| bits >> n & 1 == 1;
        VtepSpec {
            local: local.parse().unwrap(),
            port,
            netns: netns.map(|netns| netns.parse().unwrap()),
            accept: if bit(0) { Accept::Any } else { Accept::Peers },
            strict: bit(1),
            ttl,
            tos,
            udpcsum: bit(2),
            udp6zerocsumrx: bit(3),
            offload: if bit(4) {
                OffloadMode::Off
            } else {
                OffloadMode::On
            },
            too_big_answers: bit(5),
        }
    })
}

/// A VTEP of the family of `local`, with and without a port of its own.
fn peer(local: IpAddr, number: u8) -> PeerAddr {
    let prefix = if local.is_ipv4() {
        "198.51.100."
    } else {
        "2001:db8:1::"
    };
    PeerAddr {
        ip: format!("{prefix}{number}").parse().unwrap(),
        port: number.is_multiple_of(3).then_some(8472),
    }
}

fn bridge(index: usize) -> impl Strategy<Value = BridgeSpec> {
    let mode = prop_oneof![Just(Mode::Switch), Just(Mode::Hub)];
    let mtu = prop::option::of(68_u32..=65521);
    let ageing = (0_u64..4_000_000_000).prop_map(|n| Duration::from_nanos(n * 250));
    let limits = (any::<u32>(), any::<bool>(), any::<u16>(), any::<u16>());
    (mode, mtu, ageing, limits).prop_map(move |(mode, mtu, ageing, limits)| BridgeSpec {
        name: name("br", index),
        mode,
        vni: None,
        peers: Vec::new(),
        peer_learning: true,
        mtu,
        ageing,
        fdb_limit: limits.0,
        at_limit: if limits.1 {
            AtLimit::Fair
        } else {
            AtLimit::Refuse
        },
        forward_reserved: ReservedMask(limits.2),
        flap_limit: limits.3,
    })
}

fn flags() -> impl Strategy<Value = PortFlagsSpec> {
    any::<u8>().prop_map(|bits| {
        let bit = |n: u8| bits >> n & 1 == 1;
        PortFlagsSpec {
            learning: bit(0),
            flood: bit(1),
            mcast_flood: bit(2),
            bcast_flood: bit(3),
            isolated: bit(4),
            hairpin: bit(5),
            locked: bit(6),
            up: bit(7),
        }
    })
}

fn port(index: usize) -> impl Strategy<Value = PortSpec> {
    let netns = prop_oneof![
        Just(None),
        Just(Some(format!("ns{index}"))),
        Just(Some(format!("pid:{}", index + 1))),
        Just(Some(format!("/run/\"odd\\ päth\"\n{index}"))),
    ];
    let ip = (any::<bool>(), any::<bool>(), any::<bool>());
    let link = (
        prop::option::of(any::<u32>()),
        prop::option::of(68_u32..=65521),
    );
    let rest = (any::<bool>(), any::<u32>(), any::<bool>());
    (0..3_usize, netns, ip, link, flags(), rest).prop_map(
        move |(bridge, netns, ip, (mac, mtu), flags, (simple, txqueuelen, named))| {
            let mut port = PortSpec::new(name("port", index), name("br", bridge));
            port.netns = netns.map(|netns| netns.parse().unwrap());
            port.ifname = named.then(|| name("if", index).into());
            let host = index + 2;
            if ip.0 {
                port.addresses
                    .push(format!("10.0.0.{host}/24").parse().unwrap());
                port.routes
                    .push("10.244.0.0/16,via 10.0.0.1".parse().unwrap());
            }
            if ip.0 && ip.2 {
                port.gateways.push(IpAddr::from([10, 0, 0, 1]));
            }
            if ip.1 {
                port.addresses
                    .push(format!("2001:db8::{host}/64").parse().unwrap());
                port.gateways.push("2001:db8::1".parse().unwrap());
                port.routes.push("2001:db8:1::/48".parse().unwrap());
            }
            port.mac = mac.map(|low| MacAddr::from_u48(0x0200_0000_0000 | u64::from(low)));
            port.mtu = mtu;
            port.flags = flags;
            port.offload = if simple {
                OffloadMode::Off
            } else {
                OffloadMode::On
            };
            port.txqueuelen = txqueuelen;
            port
        },
    )
}

/// Puts some of `bridges` on the overlay: which VNI is whose differs from switch to switch, so that
/// bridges have to hand them over.
fn carry(bridges: &mut [BridgeSpec], local: IpAddr, vnis: &[(u32, bool)], peers: &[u8]) {
    let taken = bridges.iter_mut().zip(vnis).filter(|(_, vni)| vni.1);
    for (n, (bridge, (vni, _))) in taken.enumerate() {
        bridge.vni = Vni::new(*vni);
        bridge.peer_learning = peers.len().is_multiple_of(2);
        let listed = peers.iter().skip(n).step_by(2);
        bridge.peers = listed.map(|&number| peer(local, number)).collect();
    }
}

/// A switch that keeps all rules, in the order in which a file holds it.
pub(super) fn switch() -> impl Strategy<Value = SwitchSpec> {
    let bridges = (bridge(0), bridge(1), bridge(2)).prop_map(|(a, b, c)| vec![a, b, c]);
    let ports = (port(0), port(1), port(2), port(3)).prop_map(|(a, b, c, d)| vec![a, b, c, d]);
    let entries = prop::collection::vec((0..4_usize, 0..6_u64, 0_u16..=4094), 0..6);
    let bridges = (bridges, any::<u8>());
    let ports = (ports, any::<u8>());
    let vnis = Just(vec![0, 42, Vni::MAX.get()]).prop_shuffle();
    let vnis = (vnis, prop::collection::vec(any::<bool>(), 3))
        .prop_map(|(vnis, some)| vnis.into_iter().zip(some).collect::<Vec<_>>());
    let peers = prop::sample::subsequence((1..8_u8).collect::<Vec<_>>(), 0..=7).prop_shuffle();
    let overlay = (prop::option::of(vtep()), vnis, peers);
    (bridges, ports, entries, overlay).prop_map(|(bridges, ports, entries, (vtep, vnis, peers))| {
        let ((mut bridges, some), (ports, plugged)) = (bridges, ports);
        let bit = |bits: u8, n: usize| bits >> n & 1 == 1;
        let local = vtep.as_ref().map(|vtep| vtep.local);
        if let Some(local) = local {
            carry(&mut bridges, local, &vnis, &peers);
        }
        let mut spec = SwitchSpec {
            vtep,
            ..SwitchSpec::default()
        };
        for (n, bridge) in bridges
            .into_iter()
            .enumerate()
            .filter(|(n, _)| bit(some, *n))
        {
            let members = ports.iter().enumerate();
            let members =
                members.filter(|(p, port)| bit(plugged, *p) && port.bridge == name("br", n));
            spec.ports.extend(members.map(|(_, port)| port.clone()));
            spec.bridges.push(bridge);
        }
        let mut taken = HashSet::new();
        for bridge in &spec.bridges {
            for &(p, mac, vlan) in &entries {
                let port = name("port", p);
                let is_member =
                    |known: &PortSpec| known.name == port && known.bridge == bridge.name;
                let number = u8::try_from(p + 5).unwrap();
                let remote = local.filter(|_| bridge.vni.is_some() && vlan.is_multiple_of(2));
                let place = match remote {
                    Some(local) => Some(Place::Peer(peer(local, number))),
                    None if spec.ports.iter().any(is_member) => Some(Place::Port(port)),
                    None => None,
                };
                if let Some(place) = place
                    && taken.insert((bridge.name.clone(), mac, vlan))
                {
                    spec.fdb.push(StaticSpec {
                        bridge: bridge.name.clone(),
                        mac: MacAddr::from_u48(0x0200_0000_0001 + mac),
                        vlan,
                        place,
                    });
                }
            }
        }
        assert_eq!(check(&spec), []);
        spec
    })
}
