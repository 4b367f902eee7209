//! Valid switches for property tests.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use proptest::prelude::*;

use super::{check::check, *};
use crate::{names::Name, wire::MacAddr};

fn name(prefix: &str, index: usize) -> Name {
    Name::new(&format!("{prefix}{index}")).unwrap()
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

/// A switch that keeps all rules, in the order in which a file holds it.
pub(super) fn switch() -> impl Strategy<Value = SwitchSpec> {
    let bridges = (bridge(0), bridge(1), bridge(2)).prop_map(|(a, b, c)| vec![a, b, c]);
    let ports = (port(0), port(1), port(2), port(3)).prop_map(|(a, b, c, d)| vec![a, b, c, d]);
    let entries = prop::collection::vec((0..4_usize, 0..6_u64, 0_u16..=4094), 0..6);
    let bridges = (bridges, any::<u8>());
    let ports = (ports, any::<u8>());
    (bridges, ports, entries).prop_map(|((bridges, some), (ports, plugged), entries)| {
        let bit = |bits: u8, n: usize| bits >> n & 1 == 1;
        let mut spec = SwitchSpec::default();
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
                if spec.ports.iter().any(is_member)
                    && taken.insert((bridge.name.clone(), mac, vlan))
                {
                    spec.fdb.push(StaticSpec {
                        bridge: bridge.name.clone(),
                        mac: MacAddr::from_u48(0x0200_0000_0001 + mac),
                        vlan,
                        place: Place::Port(port),
                    });
                }
            }
        }
        assert_eq!(check(&spec), []);
        spec
    })
}
