mod commands;

use std::{collections::HashSet, time::Duration};

use super::*;
use crate::{
    bridge::DropReason,
    config::{BridgeSpec, OffloadMode, PortSpec, VtepSpec},
    names::Name,
    netlink::{
        AddressState, Dropping, Held, Hook, LinkState, LinkStats, Neighbour, Netfilter, OperState,
        Reachability, Sysctls, View, Way,
    },
    wire::{MacAddr, Vni},
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn mac(number: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, number])
}

fn loss(reason: &'static str, total: u64, grown: u64) -> Loss {
    Loss {
        reason,
        text: "why",
        count: Count { total, grown },
    }
}

/// `pod{number}` with 10.1.1.{number}/24, up and well.
fn port(number: u8) -> PortFacts {
    let port = name(&format!("pod{number}"));
    let mut spec = PortSpec::new(port.clone(), name("br0"));
    let net = format!("10.1.1.{number}/24").parse().unwrap();
    spec.netns = Some(format!("ns{number}").parse().unwrap());
    spec.addresses = vec![net];
    let link = LinkState {
        index: 2,
        name: "eth0".to_owned(),
        mtu: 1500,
        mac: mac(number),
        admin_up: true,
        carrier: true,
        operstate: OperState::Up,
        tx_queue_len: 1000,
        stats: LinkStats::default(),
    };
    let view = View {
        link,
        no_arp: false,
        addresses: vec![Held {
            net,
            link: "eth0".to_owned(),
            index: 2,
            is_up: true,
            state: AddressState::Usable,
        }],
        neighbours: Vec::new(),
        sysctls: Sysctls::default(),
        netfilter: Netfilter::default(),
        tx_checksum: Some(true),
    };
    PortFacts {
        spec,
        mac: mac(number),
        gone: None,
        offloads: "csum tso4".to_owned(),
        rx: Count { total: 7, grown: 0 },
        losses: Vec::new(),
        queue: Count::default(),
        inside: Inside::Seen(Box::new(Seen {
            view,
            dropped: Vec::new(),
            moved_to: None,
        })),
        fdb: Some(Entry {
            place: Whereabouts::Port(port),
            is_static: false,
            age: Duration::from_secs(1),
            moves: 0,
            is_held: false,
        }),
    }
}

fn over_eth0() -> Way {
    Way::Over {
        index: 2,
        link: "eth0".to_owned(),
        via: None,
        source: None,
    }
}

/// From pod1 to pod2, all well.
fn local() -> Facts {
    Facts {
        scope: Scope::Ports(name("pod1"), name("pod2")),
        daemon: "tapswitch".to_owned(),
        unaccounted: 0,
        bridges: vec![BridgeFacts {
            spec: BridgeSpec::new(name("br0")),
            mtu: 1500,
            auto_mtu: 1500,
            learned: 2,
            refused: Count::default(),
            held: Vec::new(),
        }],
        ports: vec![port(1), port(2)],
        vtep: None,
        peers: Vec::new(),
        paths: vec![PathFacts {
            from: Some("10.1.1.1".parse().unwrap()),
            to: "10.1.1.2".parse().unwrap(),
            way: over_eth0(),
            back: Some(over_eth0()),
            next: None,
            heard: Vec::new(),
        }],
    }
}

/// The whole switch with a peer that answers.
fn overlay() -> Facts {
    let local = "192.168.50.10".parse().unwrap();
    let mut facts = self::local();
    facts.scope = Scope::Switch;
    facts.paths.clear();
    facts.bridges[0].spec.vni = Vni::new(42);
    facts.bridges[0].mtu = 1450;
    facts.bridges[0].auto_mtu = 1450;
    for port in &mut facts.ports {
        seen(port).view.link.mtu = 1450;
    }
    facts.vtep = Some(VtepFacts {
        spec: VtepSpec::new(local),
        closed: None,
        heard: Vec::new(),
        overflow: Count::default(),
        losses: Vec::new(),
        around: Some(Surroundings {
            addresses: vec![Held {
                net: "192.168.50.10/24".parse().unwrap(),
                link: "u0".to_owned(),
                index: 3,
                is_up: true,
                state: AddressState::Usable,
            }],
            neighbours: Vec::new(),
            netfilter: Netfilter::default(),
            dropped: Vec::new(),
        }),
    });
    facts.peers = vec![PeerFacts {
        bridge: name("br0"),
        vni: Vni::new(42).unwrap(),
        to: "192.168.50.20:4789".parse().unwrap(),
        is_met: false,
        path_mtu: 1500,
        mtu: 1450,
        no_route: None,
        way: None,
        rx: Count::default(),
        last_heard: None,
        losses: Vec::new(),
        probe: Some(Probe {
            rtt: Some(Duration::from_millis(1)),
            large: Some((1464, true)),
            port: Udp::NotAsked,
            closed: Udp::NotAsked,
            other: (8472, Udp::NotAsked),
        }),
    }];
    facts
}

fn seen(port: &mut PortFacts) -> &mut Seen {
    match &mut port.inside {
        Inside::Seen(seen) => seen,
        Inside::Unseen(why) => panic!("{why}"),
    }
}

fn silent(port: Udp, closed: Udp, other: Udp) -> Probe {
    Probe {
        rtt: None,
        large: None,
        port,
        closed,
        other: (8472, other),
    }
}

fn drop_rule() -> Dropping {
    Dropping {
        family: "ip",
        table: "filter".to_owned(),
        chain: "INPUT".to_owned(),
        hook: Some(Hook::Input),
        number: Some(3),
        handle: 9,
        is_conditional: true,
        numbers: vec![4789],
        packets: Some(5),
    }
}

#[test]
fn the_names_of_checks_stay_what_scripts_read() {
    let mut names = HashSet::new();
    for &check in Check::ALL {
        let name = check.name();
        assert!(names.insert(name), "{name} is there twice");
        let read: Check = serde_json::from_str(&format!("{name:?}")).unwrap();
        assert_eq!(read, check);
        let heading = serde_json::to_string(&check.step()).unwrap();
        let is_heading = heading == format!("{name:?}");
        assert_eq!(check.why().is_empty(), is_heading, "{name}");
    }
}

#[test]
fn what_is_well_gets_no_complaint() {
    for facts in [local(), overlay()] {
        let report = diagnose(&facts);
        assert_eq!(report.verdict, Severity::Ok, "{report:#?}");
        assert_eq!(report.cause, None);
        assert!(report.findings.is_sorted_by_key(|finding| finding.step));
    }
}

#[test]
fn each_fault_on_one_machine_has_its_name() {
    type Damage = fn(&mut Facts);
    let damages: [(Check, Severity, Damage); 14] = [
        (Check::Unaccounted, Severity::Warning, |facts| {
            facts.unaccounted = 3;
        }),
        (Check::NotLooked, Severity::Note, |facts| {
            facts.ports[1].inside = Inside::Unseen("no time".to_owned());
        }),
        (Check::NoCarrier, Severity::Broken, |facts| {
            seen(&mut facts.ports[1]).view.link.carrier = false;
        }),
        (Check::DuplicateAddress, Severity::Broken, |facts| {
            let view = &mut seen(&mut facts.ports[1]).view;
            view.addresses[0].state = AddressState::Duplicate;
        }),
        (Check::RpFilter, Severity::Broken, |facts| {
            seen(&mut facts.ports[1]).view.sysctls.rp_filter = 1;
            facts.paths[0].back = Some(Way::Over {
                index: 5,
                link: "eth1".to_owned(),
                via: None,
                source: None,
            });
        }),
        (Check::FdbElsewhere, Severity::Broken, |facts| {
            let entry = facts.ports[1].fdb.as_mut().unwrap();
            entry.place = Whereabouts::Port(name("pod1"));
        }),
        (Check::MacHeld, Severity::Broken, |facts| {
            let entry = facts.ports[1].fdb.as_mut().unwrap();
            entry.place = Whereabouts::Peer("192.0.2.1".parse().unwrap());
            entry.is_held = true;
        }),
        (Check::NeverHeard, Severity::Note, |facts| {
            facts.ports[1].fdb = None;
        }),
        (Check::NeighbourWrong, Severity::Warning, |facts| {
            seen(&mut facts.ports[0]).view.neighbours.push(Neighbour {
                ip: "10.1.1.2".parse().unwrap(),
                mac: Some(mac(9)),
                state: Reachability::Stale,
            });
        }),
        (Check::NeighbourFailed, Severity::Warning, |facts| {
            seen(&mut facts.ports[0]).view.neighbours.push(Neighbour {
                ip: "10.1.1.2".parse().unwrap(),
                mac: None,
                state: Reachability::Failed,
            });
        }),
        (Check::OffloadOff, Severity::Note, |facts| {
            facts.ports[1].spec.offload = OffloadMode::Off;
        }),
        (Check::QueueLoss, Severity::Warning, |facts| {
            facts.ports[0].queue = Count { total: 9, grown: 2 };
        }),
        (Check::DropsNow, Severity::Warning, |facts| {
            facts.ports[0].losses = vec![loss("egress_full", 9, 2)];
        }),
        (Check::DropsBefore, Severity::Note, |facts| {
            facts.ports[0].losses = vec![loss("egress_full", 9, 0)];
        }),
    ];
    for (check, severity, damage) in damages {
        let mut facts = local();
        damage(&mut facts);
        let report = diagnose(&facts);
        let found = report.findings.iter().find(|finding| finding.id == check);
        let found = found.unwrap_or_else(|| panic!("{check:?}: {report:#?}"));
        assert_eq!(found.severity, severity, "{check:?}");
        assert_eq!(report.verdict, severity, "{check:?}: {report:#?}");
    }
}

fn heard(frame: &str, from: &str) -> Heard {
    Heard {
        frame: frame.to_owned(),
        count: 3,
        age: Duration::from_secs(1),
        from: from.to_owned(),
        to: vec!["pod2".to_owned()],
        dst: None,
        lost: None,
        why: String::new(),
        remedy: None,
        vni: None,
    }
}

#[test]
fn the_recorder_tells_whether_arp_was_asked_and_answered() {
    let mut facts = local();
    let path = &mut facts.paths[0];
    path.heard = vec![heard("arp who-has 10.1.1.2 tell 10.1.1.1", "pod1")];
    let report = diagnose(&facts);
    let cause = report.cause.unwrap();
    assert_eq!(cause.id, Check::ArpUnanswered);
    let said = "pod1 asked for 10.1.1.2 1.0 s ago, to pod2, 3 times, and no answer came";
    assert_eq!(cause.fact, said);

    let path = &mut facts.paths[0];
    path.heard
        .push(heard("arp 10.1.1.2 is-at 02:00:00:00:00:02", "pod2"));
    assert_eq!(diagnose(&facts).verdict, Severity::Ok);

    let path = &mut facts.paths[0];
    let mut lost = heard("udp 10.1.1.1.1 > 10.1.1.2.2", "pod1");
    (lost.lost, lost.why) = (Some("isolated".to_owned()), "both are".to_owned());
    path.heard.push(lost);
    let cause = diagnose(&facts).cause.unwrap();
    assert_eq!(cause.id, Check::LostLately);
    assert_eq!(cause.fix, ["tapswitch why --drops"]);
}

#[test]
fn what_was_lost_is_told_with_its_direction_and_of_this_path_only() {
    let lost_from = |from: &str, dst: u8, count| Heard {
        lost: Some("too_big".to_owned()),
        dst: Some(mac(dst)),
        count,
        why: "it is large".to_owned(),
        remedy: Some("set MTU 9: tapswitch bridge set br0 --mtu auto".to_owned()),
        ..heard("udp", from)
    };
    let mut facts = local();
    facts.paths[0].heard = vec![
        lost_from("pod1", 2, 1),
        lost_from("pod2", 1, 4),
        lost_from("pod2", 3, 5),
        lost_from("pod3", 2, 6),
    ];
    let findings = diagnose(&facts).findings;
    let lost = findings.iter().filter(|it| it.id == Check::LostLately);
    let told: Vec<_> = lost
        .map(|it| (it.about.as_str(), it.fact.as_str()))
        .collect();
    let said = [
        (
            "pod1 to 10.1.1.2",
            "once udp from pod1, the last 1.0 s ago: it is large",
        ),
        (
            "10.1.1.2 to pod1",
            "4 times udp from pod2, the last 1.0 s ago: it is large",
        ),
    ];
    assert_eq!(told, said);
}

#[test]
fn a_stranger_is_called_by_his_address_and_his_vni() {
    let mut facts = overlay();
    let vtep = facts.vtep.as_mut().unwrap();
    vtep.losses = vec![loss("unknown_vni", 9, 2)];
    let mut stranger = heard("icmp", "192.168.50.20");
    (stranger.lost, stranger.vni) = (Some("unknown_vni".to_owned()), Vni::new(43));
    vtep.heard = vec![stranger];
    let cause = diagnose(&facts).cause.unwrap();
    assert!(
        cause
            .fact
            .contains("the last from 192.168.50.20 with VNI 43")
    );
    assert!(cause.fix[0].starts_with("tapswitch bridge set BRIDGE --vni 43"));
}

#[test]
fn drops_that_every_bridge_has_are_no_complaint() {
    let mut facts = local();
    facts.ports[0].losses = vec![loss("no_egress", 9, 2), loss("same_port", 9, 2)];
    assert_eq!(diagnose(&facts).verdict, Severity::Ok);
}

#[test]
fn each_fault_of_the_overlay_has_its_name() {
    type Damage = fn(&mut Facts);
    let damages: [(Check, Severity, Damage); 9] = [
        (Check::SocketLoss, Severity::Warning, |facts| {
            facts.vtep.as_mut().unwrap().overflow = Count { total: 9, grown: 2 };
        }),
        (Check::UnderlayFilter, Severity::Broken, |facts| {
            let around = facts.vtep.as_mut().unwrap().around.as_mut().unwrap();
            around.netfilter.drops.push(drop_rule());
            around.dropped.push(2);
            facts.peers[0].probe = Some(silent(Udp::Silent, Udp::Refused, Udp::Refused));
        }),
        (Check::PeerOtherPort, Severity::Broken, |facts| {
            facts.peers[0].probe = Some(silent(Udp::Refused, Udp::Refused, Udp::Silent));
        }),
        // The host may have sent all the ICMP errors that it may.
        (Check::PeerPortClosed, Severity::Broken, |facts| {
            facts.peers[0].probe = Some(silent(Udp::Refused, Udp::Silent, Udp::Silent));
        }),
        (Check::PeerSilent, Severity::Broken, |facts| {
            facts.peers[0].probe = Some(silent(Udp::Silent, Udp::Silent, Udp::Silent));
        }),
        (Check::VxlanUnanswered, Severity::Warning, |facts| {
            facts.peers[0].probe = Some(silent(Udp::Silent, Udp::Refused, Udp::Refused));
        }),
        (Check::VniUnknown, Severity::Warning, |facts| {
            facts.vtep.as_mut().unwrap().losses = vec![loss("unknown_vni", 9, 2)];
        }),
        (Check::PeerUnlisted, Severity::Note, |facts| {
            facts.vtep.as_mut().unwrap().losses = vec![loss("unknown_peer", 9, 0)];
        }),
        (Check::MtuOverPath, Severity::Warning, |facts| {
            facts.peers[0].path_mtu = 1400;
            facts.peers[0].mtu = 1350;
        }),
    ];
    for (check, severity, damage) in damages {
        let mut facts = overlay();
        damage(&mut facts);
        let report = diagnose(&facts);
        let found = report.findings.iter().find(|finding| finding.id == check);
        let found = found.unwrap_or_else(|| panic!("{check:?}: {report:#?}"));
        assert_eq!(found.severity, severity, "{check:?}");
        assert_eq!(report.verdict, severity, "{check:?}: {report:#?}");
        if severity >= Severity::Warning {
            assert_eq!(report.cause.map(|cause| cause.id), Some(check));
        }
    }
}

#[test]
fn a_vtep_of_another_make_that_sends_is_no_complaint() {
    let mut facts = overlay();
    facts.peers[0].probe = Some(silent(Udp::Silent, Udp::Refused, Udp::Refused));
    facts.peers[0].rx = Count { total: 9, grown: 0 };
    assert_eq!(diagnose(&facts).verdict, Severity::Note);
    facts.peers[0].last_heard = Some(2 * PeerFacts::LATELY);
    assert_eq!(diagnose(&facts).verdict, Severity::Note);
    facts.peers[0].last_heard = Some(PeerFacts::LATELY / 2);
    assert_eq!(diagnose(&facts).verdict, Severity::Ok);
    facts.peers[0].last_heard = None;
    facts.peers[0].rx.grown = 1;
    assert_eq!(diagnose(&facts).verdict, Severity::Ok);
}

#[test]
fn the_cause_is_the_earliest_of_the_worst() {
    let mut facts = local();
    seen(&mut facts.ports[0]).view.link.mtu = 1400;
    let view = &mut seen(&mut facts.ports[1]).view;
    view.link.admin_up = false;
    view.sysctls.arp_ignore = 8;
    let cause = diagnose(&facts).cause.unwrap();
    assert_eq!(cause.id, Check::LinkDown);
    assert_eq!(cause.about, "port pod2");
    assert_eq!(cause.fix, ["ip -n ns2 link set eth0 up"]);
}

/// What is said of 10.1.1.77, which pod1 has asked for in vain, unless `known` says otherwise.
fn nobody(known: Option<Reachability>, change: fn(&mut Facts)) -> (Severity, String) {
    let mut facts = local();
    let ip = "10.1.1.77".parse().unwrap();
    facts.scope = Scope::Address(name("pod1"), ip);
    facts.paths[0].to = ip;
    facts.paths[0].back = None;
    let neighbours = &mut seen(&mut facts.ports[0]).view.neighbours;
    neighbours.extend(known.map(|state| Neighbour {
        ip,
        mac: None,
        state,
    }));
    change(&mut facts);
    let report = diagnose(&facts);
    let found = report
        .findings
        .iter()
        .find(|it| it.id == Check::NobodyThere);
    found.map_or((Severity::Ok, String::new()), |found| {
        (found.severity, found.fact.clone())
    })
}

#[test]
fn that_nobody_has_an_address_is_certain_only_if_all_were_looked_at_and_asked() {
    let failed = Some(Reachability::Failed);
    assert_eq!(nobody(failed, |_| {}).0, Severity::Broken);
    assert_eq!(nobody(None, |_| {}).0, Severity::Warning);
    let (severity, fact) = nobody(failed, |facts| {
        facts.ports[1].inside = Inside::Unseen("no time".to_owned());
    });
    assert_eq!(severity, Severity::Warning);
    assert!(fact.contains("1 port was not looked at"), "{fact}");
    let (severity, _) = nobody(None, |facts| {
        facts.ports[1].inside = Inside::Unseen("no time".to_owned());
    });
    assert_eq!(severity, Severity::Note);
}

#[test]
fn a_port_that_was_given_the_address_and_not_looked_at_is_not_nobody() {
    let failed = Some(Reachability::Failed);
    let told = nobody(failed, |facts| {
        let port = &mut facts.ports[1];
        port.inside = Inside::Unseen("no time".to_owned());
        port.spec.addresses = vec!["10.1.1.77/24".parse().unwrap()];
    });
    assert_eq!(told, (Severity::Ok, String::new()));
}

#[test]
fn a_link_local_address_does_not_stand_for_a_global_one() {
    let mut facts = local();
    let ip = "2001:db8::1".parse().unwrap();
    facts.scope = Scope::Address(name("pod1"), ip);
    (facts.paths[0].to, facts.paths[0].from) = (ip, None);
    let cause = diagnose(&facts).cause.unwrap();
    let told = "eth0 does not have a global IPv6 address";
    assert_eq!((cause.id, &*cause.fact), (Check::NoAddress, told));
}

#[test]
fn the_port_that_was_given_the_address_and_is_gone_is_the_cause() {
    let mut facts = local();
    facts.scope = Scope::Address(name("pod1"), "10.1.1.2".parse().unwrap());
    facts.paths[0].back = None;
    facts.ports[1].gone = Some("its namespace ns2 is gone".to_owned());
    facts.ports[1].inside = Inside::Unseen("its device is gone".to_owned());
    let cause = diagnose(&facts).cause.unwrap();
    assert_eq!((cause.id, &*cause.about), (Check::PortGone, "port pod2"));
}

#[test]
fn many_addresses_that_two_ports_share_are_told_once_and_counted() {
    let mut facts = local();
    for port in &mut facts.ports {
        let held = &mut seen(port).view.addresses;
        let one = held[0].clone();
        held.extend((0..40_000_u32).map(|number| Held {
            net: std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a63_0000 + number)).into(),
            ..one.clone()
        }));
    }
    let report = diagnose(&facts);
    let twins = report.findings.iter();
    let twins = twins.filter(|it| it.id == Check::DuplicateAddress);
    let told: Vec<&str> = twins.map(|it| &*it.fact).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert_eq!(told[3], "more addresses that both have: 39997");
}
