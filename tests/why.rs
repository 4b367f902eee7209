//! What became of frames, asked after the fact of a running switch in real namespaces: `why`, and
//! `fdb why`.

mod common;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use common::{Env, Netns, PacketSocket, ip, wait_until};
use nix::sys::socket::{setsockopt, sockopt};
use tapswitch::{
    bridge::DropReason,
    config::{BridgeSpec, PeerAddr, Place, PortSpec, StaticSpec, SwitchSpec, VtepSpec},
    control::api::{
        ApiError, FdbSelector, FdbStory, PortChange, Request, Response, StatsInfo, WhyEntry,
        WhyFate, WhyReport, WhyRequest,
    },
    daemon::{Clock, Switch, SwitchOptions, Tuning},
    datapath::Recorder,
    names::Name,
    sim::frames::{self, broadcast, mac, unicast},
    vxlan,
    wire::{MacAddr, Vni},
};

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let tests: [(&str, fn()); 13] = [
            (
                "every_loss_that_can_be_made_here_is_told_with_its_reason_and_its_remedy",
                every_loss,
            ),
            ("a_ping_is_told_from_its_question_to_its_answer", a_ping),
            (
                "a_loss_is_still_told_a_minute_and_many_frames_later",
                a_minute_later,
            ),
            (
                "a_port_with_the_number_of_another_has_none_of_its_frames",
                same_number,
            ),
            (
                "who_sent_and_is_gone_is_told_as_gone_even_if_another_has_its_number",
                lost_at_a_gone_port,
            ),
            (
                "a_peer_with_the_number_of_another_has_none_of_its_frames",
                a_number_of_a_remote,
            ),
            (
                "a_datagram_without_a_vni_is_no_frame_and_one_with_vni_0_is",
                raw_datagrams,
            ),
            ("nothing_found_may_mean_that_it_was_pushed_out", crowded_out),
            (
                "a_flow_whose_last_frame_is_not_at_hand_is_told_by_its_first",
                told_by_its_first,
            ),
            (
                "what_was_lost_on_its_way_out_is_not_told_as_sent",
                lost_is_not_sent,
            ),
            ("nothing_seen_is_told_with_what_it_means", nothing_seen),
            ("without_a_recorder_it_says_so", without_recorder),
            (
                "an_fdb_entry_tells_its_story_from_frame_to_flush",
                fdb_story,
            ),
        ];
        // Several of them ping.
        let trials = tests.map(|(name, body)| env.trial_with(&["ping"], name, body));
        trials.into_iter().collect()
    })
}

/// A way to lose a frame, and words that the remedy must have.
struct Case {
    reason: DropReason,
    remedy: &'static str,
    provoke: fn(&World),
}

const CASES: &[Case] = &[
    Case {
        reason: DropReason::Truncated,
        remedy: "capture",
        provoke: |world| world.hear(2, 42, &[2; 9]),
    },
    Case {
        reason: DropReason::SrcGroup,
        remedy: "port set podA --mac",
        provoke: |world| world.send(0, &broadcast(MacAddr::BROADCAST)),
    },
    Case {
        reason: DropReason::SrcZero,
        remedy: "port set podA --mac",
        provoke: |world| world.send(0, &broadcast(MacAddr::from_u48(0))),
    },
    Case {
        reason: DropReason::ReservedAddress,
        remedy: "bridge set br0 --forward-reserved",
        provoke: |world| {
            world.send(
                0,
                &unicast(mac(1), MacAddr::new([1, 0x80, 0xc2, 0, 0, 0xe])),
            );
        },
    },
    Case {
        reason: DropReason::Locked,
        remedy: "fdb add 02:00:00:00:00:01 --port podA",
        provoke: |world| {
            world.set("podA", |port| port.locked = Some(true));
            world.send(0, &broadcast(mac(1)));
        },
    },
    Case {
        reason: DropReason::SamePort,
        remedy: "port set podA hairpin on",
        provoke: |world| {
            world.pin(mac(7), Place::Port(name("podA")));
            world.send(0, &unicast(mac(1), mac(7)));
        },
    },
    Case {
        reason: DropReason::Isolated,
        remedy: "port set podB isolated off",
        provoke: |world| {
            world.pin(mac(2), Place::Port(name("podB")));
            world.set("podA", |port| port.isolated = Some(true));
            world.set("podB", |port| port.isolated = Some(true));
            world.send(0, &unicast(mac(1), mac(2)));
        },
    },
    Case {
        reason: DropReason::FloodDisabled,
        remedy: "flood on",
        provoke: |world| {
            world.set("podD", |port| port.flood = Some(false));
            world.send(2, &unicast(mac(1), mac(99)));
        },
    },
    Case {
        reason: DropReason::NoEgress,
        remedy: "or set a port up: tapswitch port set PORT up",
        provoke: |world| {
            world.set("podD", |port| port.up = Some(false));
            world.send(2, &broadcast(mac(1)));
        },
    },
    Case {
        reason: DropReason::SplitHorizon,
        remedy: "peer add IP, on both",
        provoke: |world| {
            world.pin(mac(9), world.remote(2));
            world.hear(3, 42, &unicast(mac(8), mac(9)));
        },
    },
    Case {
        reason: DropReason::PinnedSource,
        remedy: "fdb del 02:00:00:00:00:09",
        provoke: |world| {
            world.pin(mac(9), world.remote(2));
            world.hear(3, 42, &broadcast(mac(9)));
        },
    },
    Case {
        reason: DropReason::VxlanRunt,
        remedy: "capture",
        provoke: |world| world.hear_bytes(2, 0, &[8, 0, 0]),
    },
    Case {
        reason: DropReason::NoVni,
        remedy: "no VXLAN endpoint",
        provoke: |world| world.hear_bytes(2, 0, &[0; 20]),
    },
    Case {
        reason: DropReason::ReservedBits,
        remedy: "vtep set --strict off",
        provoke: |world| {
            world.vtep(|vtep| vtep.strict = true);
            let mut bytes = [&vxlan::header(vni(42))[..], &broadcast(mac(8))].concat();
            bytes[1] = 1;
            world.hear_bytes(2, 0, &bytes);
        },
    },
    Case {
        reason: DropReason::UnknownVni,
        remedy: "--vni 7",
        provoke: |world| world.hear(2, 7, &broadcast(mac(8))),
    },
    Case {
        reason: DropReason::UnknownPeer,
        remedy: "peer add 198.51.100.99",
        provoke: |world| world.hear(99, 42, &broadcast(mac(8))),
    },
    Case {
        reason: DropReason::Ecn,
        remedy: "congested",
        provoke: |world| {
            let frame = frames::udp4(8, 2, b"x");
            let bytes = [&vxlan::header(vni(42))[..], &frame].concat();
            world.hear_bytes(2, 0b11, &bytes);
        },
    },
    Case {
        reason: DropReason::EgressDown,
        remedy: "port set podB up",
        provoke: |world| {
            world.pin(mac(2), Place::Port(name("podB")));
            world.pods[1].ip("link set eth0 down");
            world.send(0, &unicast(mac(1), mac(2)));
        },
    },
    Case {
        reason: DropReason::TooBig,
        remedy: "set MTU 1450: tapswitch port set podA mtu 1450",
        provoke: |world| {
            world.pin(mac(9), world.remote(2));
            world.set("podA", |port| port.mtu = Some(1500));
            world.send(0, &frames::of_len(mac(1), mac(9), 1514));
        },
    },
    Case {
        reason: DropReason::NoRoute,
        remedy: "ip route get 203.0.113.9",
        provoke: |world| {
            world.pin(mac(9), Place::Peer(PeerAddr::new([203, 0, 113, 9].into())));
            world.send(0, &unicast(mac(1), mac(9)));
        },
    },
];

fn every_loss() {
    for Case {
        reason,
        remedy,
        provoke,
    } in CASES
    {
        let world = World::new();
        let before = world.lost(*reason);
        let is_it = |entry: &WhyEntry| entry.reason.as_deref() == Some(reason.name());

        provoke(&world);

        let mut entry = None;
        wait_until(reason.name(), SOON, || {
            let report = world.why(None, true);
            entry = report.entries.into_iter().find(is_it);
            entry.is_some()
        });
        let entry = entry.unwrap();
        assert!(world.lost(*reason) > before, "{reason} is not in stats");
        let told = entry.remedy.as_deref().unwrap_or_default();
        assert!(
            told.contains(remedy),
            "{reason}: {told:?} has no {remedy:?}"
        );
        assert!(entry.why.contains(reason.explain()), "{entry:?}");
        assert!(entry.age_s < 60.0 && entry.count >= 1, "{entry:?}");
        assert!(
            matches!(entry.fate, WhyFate::Dropped | WhyFate::Lost),
            "{entry:?}"
        );
    }
}

fn a_ping() {
    let world = World::new();
    world.ping(0, "10.1.1.2");

    let entries = world.why(Some("10.1.1.2"), false).entries;
    let find = |start: &str| {
        let entry = entries.iter().find(|entry| entry.frame.starts_with(start));
        entry.unwrap_or_else(|| panic!("no {start:?} in {entries:#?}"))
    };
    let question = find("icmp 10.1.1.1 > 10.1.1.2 echo request");
    assert_eq!(question.from_port, Some(name("podA")));
    assert_eq!(
        (question.fate, &question.to[..]),
        (WhyFate::Forwarded, &["podB".to_owned()][..])
    );
    assert_eq!(question.count, 2);
    assert_eq!(find("icmp 10.1.1.2 > 10.1.1.1 echo reply").to, ["podA"]);
    let arp = find("arp who-has 10.1.1.2");
    assert_eq!(arp.fate, WhyFate::Flooded);
    assert_eq!(arp.to, ["podB", "198.51.100.2", "198.51.100.3"]);
    assert_eq!(arp.vni, Some(vni(42)));
    // Oldest first.
    assert!(entries.windows(2).all(|pair| pair[0].time <= pair[1].time));

    let of_port = world.why(Some("podB"), false).entries;
    assert!(of_port.iter().any(|entry| entry.frame == question.frame));
    let of_peer = world.why(Some("198.51.100.2"), false).entries;
    assert!(of_peer.iter().any(|entry| entry.frame == arp.frame));
    let mac = question.src.unwrap().to_string();
    let of_mac = world.why(Some(&mac), false).entries;
    assert!(
        of_mac
            .iter()
            .all(|entry| entry.src == question.src || entry.dst == question.src)
    );
    // Whoever asks for a host that is not there hears that nothing came from it.
    world.pods[0].exec(&["ping", "-c", "1", "-W", "1", "10.1.1.77"]);
    let report = world.why(Some("10.1.1.77"), false);
    assert!(report.hint.unwrap().contains("has sent nothing itself"));
    assert!(!report.entries.is_empty());
}

fn a_minute_later() {
    let world = World::new();
    world.pin(mac(9), world.remote(2));
    world.set("podA", |port| port.mtu = Some(1500));
    world.send(0, &frames::of_len(mac(1), mac(9), 1514));
    let too_big = |report: &WhyReport| {
        let mut entries = report.entries.iter();
        entries.any(|entry| entry.reason.as_deref() == Some("too_big"))
    };
    wait_until("the loss", SOON, || too_big(&world.why(None, true)));

    world.switch.clock().warp(Duration::from_secs(60));
    let flood: Vec<_> = (0..400).map(|n| unicast(mac(1), mac(100 + n))).collect();
    for _ in 0..20 {
        world.send_all(0, &flood);
    }

    let ask = |last: f64| {
        world.report(WhyRequest {
            last_s: Some(last),
            drops: true,
            ..WhyRequest::default()
        })
    };
    assert!(too_big(&ask(90.0)));
    assert!(!too_big(&ask(50.0)));
    let entry = ask(90.0)
        .entries
        .into_iter()
        .find(|entry| entry.age_s > 59.0)
        .unwrap();
    assert_eq!(
        (entry.has_bytes, entry.fits_bytes),
        (Some(1550), Some(1500))
    );
    assert!(
        entry.why.starts_with("outer 1550 > path 1500"),
        "{}",
        entry.why
    );
}

fn lost_is_not_sent() {
    let world = World::new();
    world.pin(mac(9), world.remote(2));
    world.set("podA", |port| port.mtu = Some(1500));
    let of_len = |len| frames::of_len(mac(1), mac(9), len);
    let told = |fate: WhyFate, drops| {
        let entries = world.why(None, drops).entries.into_iter();
        let ours = entries.filter(|entry| entry.dst == Some(mac(9)) && entry.fate == fate);
        let told = ours.map(|entry| (entry.count, entry.len, entry.bytes));
        told.collect::<Vec<_>>()
    };
    // Nothing of the flow is sent at first.
    world.send(0, &of_len(1514));
    wait_until("one is lost", SOON, || {
        !told(WhyFate::Lost, false).is_empty()
    });
    assert_eq!(told(WhyFate::Forwarded, false), []);

    world.send_all(0, &[of_len(100), of_len(100), of_len(1514), of_len(1514)]);
    let lost = vec![(3, 1514, 3 * 1514)];
    wait_until("more are lost", SOON, || told(WhyFate::Lost, false) == lost);
    assert_eq!(told(WhyFate::Forwarded, false), [(2, 100, 200)]);
    assert_eq!(told(WhyFate::Lost, true), lost);
}

fn same_number() {
    let mut world = World::new();
    world.ping(0, "10.1.1.2");
    let old = world.switch.port_id(&name("podB"));
    world.request(Request::PortDel { name: name("podB") });
    drop(world.pods.remove(1));
    world.add_pod("podX", "br0", 5, |_| {});
    assert_eq!(world.switch.port_id(&name("podX")), old);

    let of_new = world.why(Some("podX"), false).entries;
    assert!(
        of_new
            .iter()
            .all(|entry| !entry.frame.starts_with("icmp 10.1.1.1")),
        "{of_new:#?}"
    );
    let of_host = world.why(Some("10.1.1.2"), false).entries;
    let question = of_host
        .iter()
        .find(|entry| entry.frame.starts_with("icmp 10.1.1.1 >"));
    assert_eq!(question.unwrap().to, ["podB (deleted since)"]);
    let why = &question.unwrap().why;
    assert!(why.contains(" at podB"), "{why}");
}

fn lost_at_a_gone_port() {
    let mut world = World::new();
    world.pin(mac(2), Place::Port(name("podB")));
    world.pods[1].ip("link set eth0 down");
    world.send(0, &unicast(mac(1), mac(2)));
    let lost = |world: &World| {
        let entries = world.why(None, true).entries;
        let mut lost = entries.into_iter();
        lost.find(|entry| entry.reason.as_deref() == Some("egress_down"))
    };
    wait_until("it is lost", SOON, || lost(&world).is_some());
    let before = lost(&world).unwrap();
    assert_eq!(
        (&before.from_port, &before.to[..]),
        (&Some(name("podA")), &["podB".to_owned()][..])
    );

    // The loss is in the recorder of podB, and its sender goes; another gets its number.
    let old = world.switch.port_id(&name("podA"));
    world.request(Request::PortDel { name: name("podA") });
    drop(world.pods.remove(0));
    let gone = lost(&world).unwrap();
    assert_eq!(gone.from_port, None);
    assert_eq!(gone.from_remote.as_deref(), Some("podA (deleted since)"));
    assert_eq!(gone.bridge, Some(name("br0")));
    world.add_pod("podX", "br1", 7, |_| {});
    assert_eq!(world.switch.port_id(&name("podX")), old);
    let other = lost(&world).unwrap();
    assert_eq!((other.from_port, other.bridge), (None, Some(name("br0"))));
    assert_eq!(other.from_remote, gone.from_remote);
}

fn a_number_of_a_remote() {
    let world = World::new();
    let (host, next) = ([198, 51, 100, 2].into(), [198, 51, 100, 77].into());
    let peer_id = |ip| world.switch.peer_id(&name("br0"), ip);
    world.ping(0, "10.1.1.2");
    let old = peer_id(host);
    let flooded = |about| {
        let entries = world.why(Some(about), false).entries;
        entries
            .iter()
            .any(|entry| entry.frame.starts_with("arp who-has 10.1.1.2"))
    };
    assert!(flooded("198.51.100.2"));
    world.request(Request::PeerDel {
        bridge: Some(name("br0")),
        remote: PeerAddr::new(host),
    });
    world.request(Request::PeerAdd {
        bridge: Some(name("br0")),
        remote: PeerAddr::new(next),
    });
    assert_eq!(peer_id(next), old);
    assert!(!flooded("198.51.100.77"));
}

fn raw_datagrams() {
    let world = World::new();
    // A datagram without a VNI, of which 14 bytes look like the addresses of a frame.
    let bytes = [[2; 12].as_slice(), &[8, 0], &[0x45; 20]].concat();
    let bytes = [&[0; 1][..], &bytes].concat();
    world.hear_bytes(2, 0, &bytes);
    world.hear(3, 0, &frames::udp4(8, 2, b"x"));
    let find = |reason: DropReason| {
        let entries = world.why(None, true).entries;
        let mut entries = entries.into_iter();
        entries.find(|entry| entry.reason.as_deref() == Some(reason.name()))
    };
    wait_until("both are lost", SOON, || {
        find(DropReason::NoVni).is_some() && find(DropReason::UnknownVni).is_some()
    });
    let raw = find(DropReason::NoVni).unwrap();
    assert!(
        raw.frame.starts_with("a datagram that begins 00 02"),
        "{raw:?}"
    );
    assert_eq!((raw.src, raw.dst, raw.vlan, raw.vni), (None, None, 0, None));
    assert!(
        world
            .why(Some("02:02:02:02:02:02"), true)
            .entries
            .is_empty()
    );
    let zero = find(DropReason::UnknownVni).unwrap();
    assert!(zero.frame.starts_with("udp 192.0.2.8"), "{zero:?}");
    assert_eq!((zero.src, zero.vni), (Some(mac(8)), Some(vni(0))));
}

fn crowded_out() {
    let world = World::new();
    let flood: Vec<_> = (0..400).map(|n| unicast(mac(1), mac(100 + n))).collect();
    let crowded = || world.why(None, false).crowded_out;
    wait_until("flows are pushed out", SOON, || {
        world.send_all(0, &flood);
        crowded() > 0
    });
    let hint = world.why(Some("10.9.9.9"), false).hint.unwrap();
    assert!(hint.contains("or its record was pushed out"), "{hint}");
    assert!(hint.contains("flows had no room"), "{hint}");
}

fn told_by_its_first() {
    let world = World::new();
    let told = |dst: MacAddr| {
        let entries = world.why(Some(&dst.to_string()), false).entries;
        let flow = entries.iter().find(|entry| entry.dst == Some(dst));
        flow.map_or((0, false), |flow| (flow.count, flow.is_first))
    };
    world.send_all(0, &vec![unicast(mac(1), mac(90)); 3]);
    wait_until("three are there", SOON, || told(mac(90)).0 == 3);
    assert!(!told(mac(90)).1);

    // Two flows have room, but so many frames push those three out.
    let others = vec![unicast(mac(1), mac(91)); 2 * Recorder::FRAMES];
    wait_until("many more are there", SOON, || {
        world.send_all(0, &others);
        told(mac(91)).0 >= Recorder::FRAMES as u64
    });
    assert_eq!(told(mac(90)), (3, true));
    assert!(!told(mac(91)).1);
}

fn nothing_seen() {
    let world = World::new();
    let hint = |about, drops| world.why(about, drops).hint.unwrap_or_default();
    assert!(hint(Some("10.9.9.9"), false).contains("no frame of it has come to this switch"));
    assert!(hint(Some("02:00:00:00:99:99"), false).contains("never sent, or lost before"));
    assert!(hint(Some("10.9.9.9"), true).contains("no loss of 10.9.9.9"));
    let error = world.try_why(Some("nonsense")).unwrap_err();
    assert!(
        error
            .message
            .contains("the ports are podA, podB, podC, podD"),
        "{error}"
    );
    let error = world
        .switch
        .execute(Request::Why(WhyRequest {
            last_s: Some(-1.0),
            ..WhyRequest::default()
        }))
        .unwrap_err();
    assert!(error.message.contains("--last"), "{error}");
}

fn without_recorder() {
    let world = World::with(SwitchOptions {
        tuning: Tuning {
            recorder: false,
            ..Tuning::default()
        },
        ..SwitchOptions::default()
    });
    world.ping(0, "10.1.1.2");
    let error = world.try_why(None).unwrap_err();
    assert!(error.message.contains("--recorder off"), "{error}");
    // The FDB's history is no part of it.
    assert!(!world.story(world.mac_of("podA"))[0].changes.is_empty());
}

fn fdb_story() {
    let world = World::new();
    let host = mac(0x77);
    let words = |world: &World| -> Vec<String> {
        let stories = world.story(host);
        stories[0]
            .changes
            .iter()
            .map(|change| change.change.clone())
            .collect()
    };
    world.send(0, &frames::arp_request(0x77, 2));
    wait_until("it is learned", SOON, || world.try_story(host).is_ok());
    let story = world.story(host).remove(0);
    assert_eq!(story.entry.unwrap().port, Some(name("podA")));
    let learned = &story.changes[0];
    assert_eq!(
        (learned.change.as_str(), &learned.port),
        ("learned", &Some(name("podA")))
    );
    assert_eq!(
        learned.frame.as_deref(),
        Some("arp who-has 192.0.2.2 tell 192.0.2.119")
    );

    world.hear(2, 42, &frames::udp4(0x77, 2, b"x"));
    wait_until("it has moved", SOON, || words(&world).len() == 2);
    let moved = world.story(host).remove(0).changes.remove(1);
    assert_eq!(moved.change, "moved");
    assert_eq!(
        (moved.old_port, moved.remote.as_deref()),
        (Some(name("podA")), Some("198.51.100.2"))
    );
    assert!(moved.frame.unwrap().starts_with("udp 192.0.2.119"));

    world.request(Request::FdbFlush(FdbSelector::default()));
    let flushed = world.story(host).remove(0);
    assert!(flushed.entry.is_none());
    let flushed = flushed.changes.last().unwrap();
    assert_eq!(flushed.change, "flushed");
    assert_eq!(flushed.cause.as_deref(), Some("tapswitch fdb flush"));

    world.send(0, &broadcast(host));
    wait_until("it is back", SOON, || words(&world).len() == 4);
    world.switch.clock().warp(Duration::from_secs(400));
    world.switch.age();
    assert_eq!(
        words(&world),
        ["learned", "moved", "flushed", "learned", "aged"]
    );

    world.pin(host, Place::Port(name("podB")));
    let added = world.story(host).remove(0).changes.pop().unwrap();
    assert_eq!(added.cause.as_deref(), Some("tapswitch fdb add"));
    world.send(0, &broadcast(host));
    wait_until("it is seen elsewhere", SOON, || {
        words(&world)
            .last()
            .is_some_and(|word| word == "static-violation")
    });
    world.request(Request::PortDel { name: name("podB") });
    let gone = world.story(host).remove(0).changes.pop().unwrap();
    assert_eq!(gone.cause.as_deref(), Some("its port was deleted"));

    let error = world.try_story(mac(0x78)).unwrap_err();
    assert!(
        error.message.contains("no frame with this source"),
        "{error}"
    );
    let error = world.try_story(MacAddr::BROADCAST).unwrap_err();
    assert!(error.message.contains("group address"), "{error}");
}

/// A switch with podA and podB on br0, which has VNI 42 and two peers, and podC and podD on br1; and
/// a machine that is all other machines.
struct World {
    switch: Switch,
    pods: Vec<Netns>,
    _underlay: Netns,
    others: Netns,
}

impl World {
    fn new() -> Self {
        Self::with(SwitchOptions::default())
    }

    fn with(options: SwitchOptions) -> Self {
        let (underlay, others) = (Netns::new("node"), Netns::new("others"));
        let (ours, theirs) = (underlay.name(), others.name());
        ip(&format!(
            "link add u0 netns {ours} type veth peer name u1 netns {theirs}"
        ));
        underlay.ip("link set u0 up");
        underlay.ip("address add 198.51.100.1/24 dev u0");
        others.ip("link set u1 up");
        for host in [2, 3, 99] {
            others.ip(&format!("address add 198.51.100.{host}/24 dev u1"));
        }
        let switch = Switch::start(SwitchOptions {
            name: "test".to_owned(),
            clock: Clock::default(),
            ..options
        })
        .unwrap();
        let mut vtep = VtepSpec::new(at(1));
        vtep.netns = Some(underlay.reference());
        let mut world = Self {
            switch,
            pods: Vec::new(),
            _underlay: underlay,
            others,
        };
        world.request(Request::VtepSet(vtep));
        let mut bridge = BridgeSpec::new(name("br0"));
        bridge.vni = Some(vni(42));
        bridge.peers = vec![PeerAddr::new(at(2)), PeerAddr::new(at(3))];
        world.request(Request::BridgeAdd(bridge));
        world.request(Request::BridgeAdd(BridgeSpec::new(name("br1"))));
        world.add_pod("podA", "br0", 1, |_| {});
        world.add_pod("podB", "br0", 2, |_| {});
        world.add_pod("podC", "br1", 3, |_| {});
        world.add_pod("podD", "br1", 4, |_| {});
        world
    }

    fn add_pod(&mut self, port: &str, bridge: &str, number: u8, change: fn(&mut PortSpec)) {
        let netns = Netns::new(port);
        // Nothing speaks by itself.
        netns.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap());
        let mut spec = PortSpec::new(name(port), name(bridge));
        spec.netns = Some(netns.reference());
        spec.addresses = vec![format!("10.1.1.{number}/24").parse().unwrap()];
        change(&mut spec);
        self.request(Request::PortAdd(spec));
        self.pods.push(netns);
    }

    #[track_caller]
    fn request(&self, request: Request) -> Response {
        let answer = self.switch.execute(request);
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Pod number `pod` sends `frame`.
    fn send(&self, pod: usize, frame: &[u8]) {
        self.send_all(pod, &[frame.to_vec()]);
    }

    fn send_all(&self, pod: usize, frames: &[Vec<u8>]) {
        let socket = PacketSocket::inside(&self.pods[pod].open());
        for frame in frames {
            // A full queue is what a real host would meet, too.
            let _sent = socket.send(frame);
        }
    }

    /// `host` sends `frame` in VNI `number`.
    fn hear(&self, host: u8, number: u32, frame: &[u8]) {
        let bytes = [&vxlan::header(vni(number))[..], frame].concat();
        self.hear_bytes(host, 0, &bytes);
    }

    fn hear_bytes(&self, host: u8, tos: i32, bytes: &[u8]) {
        let socket = self.others.run(|| UdpSocket::bind((at(host), 0)).unwrap());
        setsockopt(&socket, sockopt::Ipv4Tos, &tos).unwrap();
        socket.send_to(bytes, SocketAddr::new(at(1), 4789)).unwrap();
    }

    fn ping(&self, pod: usize, to: &str) {
        let output = self.pods[pod].exec(&["ping", "-c", "2", "-i", "0.05", "-W", "2", to]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    fn set(&self, port: &str, change: impl FnOnce(&mut PortChange)) {
        let mut all = PortChange::new(name(port));
        change(&mut all);
        self.request(Request::PortSet(all));
    }

    fn vtep(&self, change: impl FnOnce(&mut VtepSpec)) {
        let mut spec = self.switch.spec().vtep.unwrap();
        change(&mut spec);
        self.request(Request::VtepSet(spec));
    }

    fn pin(&self, mac: MacAddr, place: Place) {
        self.request(Request::FdbAdd(StaticSpec {
            bridge: name("br0"),
            mac,
            vlan: 0,
            place,
        }));
    }

    fn remote(&self, host: u8) -> Place {
        Place::Peer(PeerAddr::new(at(host)))
    }

    fn try_why(&self, about: Option<&str>) -> Result<Response, ApiError> {
        self.switch.execute(Request::Why(WhyRequest {
            about: about.map(str::to_owned),
            ..WhyRequest::default()
        }))
    }

    fn why(&self, about: Option<&str>, drops: bool) -> WhyReport {
        self.report(WhyRequest {
            about: about.map(str::to_owned),
            drops,
            ..WhyRequest::default()
        })
    }

    fn report(&self, request: WhyRequest) -> WhyReport {
        match self.request(Request::Why(request)) {
            Response::Why(report) => report,
            other => panic!("{other:?}"),
        }
    }

    fn try_story(&self, mac: MacAddr) -> Result<Vec<FdbStory>, ApiError> {
        let (bridge, vlan) = (None, None);
        match self.switch.execute(Request::FdbWhy { bridge, mac, vlan })? {
            Response::FdbWhy(stories) => Ok(stories),
            other => panic!("{other:?}"),
        }
    }

    fn story(&self, mac: MacAddr) -> Vec<FdbStory> {
        self.try_story(mac).unwrap()
    }

    fn stats(&self) -> StatsInfo {
        match self.request(Request::Stats { port: None }) {
            Response::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    /// Losses for `reason` at all ports, peers and the endpoint.
    fn lost(&self, reason: DropReason) -> u64 {
        let stats = self.stats();
        let ports = stats.ports.iter().map(|port| &port.drops);
        let peers = stats.peers.iter().map(|peer| &peer.drops);
        let vtep = stats.vtep.iter().map(|vtep| &vtep.drops);
        let all = ports.chain(peers).chain(vtep);
        all.filter_map(|drops| drops.get(reason.name())).sum()
    }

    fn mac_of(&self, port: &str) -> MacAddr {
        let ports = self.stats().ports;
        ports
            .iter()
            .find(|info| info.name == name(port))
            .unwrap()
            .mac
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.stats().unaccounted, 0);
            self.request(Request::Apply {
                spec: SwitchSpec::default(),
                dry_run: false,
            });
        }
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

fn at(host: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, 100, host).into()
}

const SOON: Duration = Duration::from_secs(3);
