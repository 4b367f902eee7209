//! Every reason for a loss, provoked, and found wherever losses are told: foretold by a rehearsal, in
//! the counters, in the flight recorder and in captures, with the frame and what to do about it.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use tapswitch::{
    bridge::{Decision, DropReason, PeerId, PortFlags, PortId},
    datapath::{
        Counters, Datapath, Departure, Detail, Fate, Record, Recorder,
        capture::{self, CaptureReader, CaptureRules},
    },
    offload::Offloads,
    rehearsal::{Entrance, Message, Names, Rehearsal, Story, rehearse, story},
    sim::{Lab, MemMessage, MemNet, MemPort, MemState, MemUnderlay, captured, frames},
    vxlan,
    wire::{MacAddr, VirtioNetHdr, Vni},
};

use frames::{broadcast, mac, unicast};

/// A switch with three ports and two peers, of which one is in the FDB: host 9 is behind it.
struct Scene {
    lab: Lab,
    capture: CaptureReader,
    ports: [PortId; 3],
    io: Arc<MemUnderlay>,
    peers: [PeerId; 2],
    /// What was foretold of the last frame.
    foretold: Option<(Rehearsal, Story)>,
}

/// Names as the lab has them.
struct Numbers;

impl Names for Numbers {
    fn port(&self, port: PortId) -> String {
        format!("port{port}")
    }
    fn peer(&self, peer: PeerId) -> String {
        format!("peer{peer}")
    }
    fn bridge(&self, bridge: usize) -> String {
        format!("br{bridge}")
    }
}

/// A way to lose a frame.
struct Case {
    reason: DropReason,
    /// Does it, and returns the frame that was lost, or as much as there is of one.
    provoke: fn(&mut Scene) -> Vec<u8>,
}

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, host], 4789))
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

impl Scene {
    fn new() -> Self {
        let (mut lab, ports) = Lab::switch(["podA", "podB", "podC"]);
        let io = MemNet::new().attach(at(1));
        lab.add_vtep(Arc::clone(&io));
        lab.set_vni(0, vni(42));
        let peers = [2, 3].map(|host| lab.add_peer_with(0, at(host), false));
        lab.pin_remote(mac(9), peers[0]);
        lab.pin(mac(2), ports[1]);
        let rules = CaptureRules {
            drops_only: true,
            ..Lab::rules("")
        };
        let (_, capture) = lab.capture(rules);
        Self {
            lab,
            capture,
            ports,
            io,
            peers,
            foretold: None,
        }
    }

    /// podA sends `frame`.
    fn send(&mut self, frame: Vec<u8>) -> Vec<u8> {
        self.send_with(VirtioNetHdr::none(), frame)
    }

    fn send_with(&mut self, header: VirtioNetHdr, frame: Vec<u8>) -> Vec<u8> {
        let port = self.ports[0];
        self.foretell(Entrance::Port {
            port,
            header,
            frame: &frame,
        });
        self.lab.io(port).inject_with(&header, &frame);
        self.lab.run();
        frame
    }

    fn foretell(&mut self, entrance: Entrance<'_>) {
        let (now, topology) = (self.lab.now(), self.lab.topology());
        let rehearsal = rehearse(now, &topology, true, entrance);
        let told = story(now, &topology, &Numbers, entrance, &rehearsal);
        self.foretold = Some((rehearsal, told));
    }

    /// `host` sends `frame` in VNI `number`.
    fn hear(&mut self, host: u8, number: u32, frame: Vec<u8>) -> Vec<u8> {
        let bytes = [&vxlan::header(vni(number))[..], &frame].concat();
        self.hear_bytes(host, 0, bytes);
        frame
    }

    fn hear_bytes(&mut self, host: u8, tos: u8, bytes: Vec<u8>) {
        let departure = Departure {
            to: at(1),
            flow: 0,
            tos,
            segment: None,
        };
        self.foretell(Entrance::Underlay(&[Message {
            from: at(host).ip(),
            tos,
            segment: None,
            bytes: bytes.clone(),
        }]));
        self.io.inject(MemMessage {
            from: at(host),
            departure,
            bytes,
        });
        self.lab.run();
    }

    /// podA sends this twice, and the second waits for 3 ms in a queue that is never empty.
    fn keep_waiting(&mut self, header: &VirtioNetHdr, frame: &[u8]) {
        let port = self.ports[0];
        for _ in 0..2 {
            assert!(self.lab.io(port).inject_with(header, frame));
        }
        self.lab.step(port);
        self.lab.skip(Duration::from_millis(3));
        self.lab.step(port);
    }

    fn counters(&self) -> impl Iterator<Item = &Counters> {
        let ports = self.ports.iter().map(|&port| &**self.lab.counters(port));
        let peers = self
            .peers
            .iter()
            .map(|&peer| &**self.lab.peer_counters(peer));
        let vtep = &**self.lab.vtep_counters();
        ports.chain(peers).chain([vtep])
    }

    /// What the recorders have of losses for `reason`: lists, flows, and the latest of its kind.
    fn records(&self, reason: DropReason) -> [Vec<Record>; 3] {
        let is_it = |record: &Record| matches!(record.fate, Fate::Dropped(why) | Fate::Lost(_, why) if why == reason);
        let mut found = [Vec::new(), Vec::new(), Vec::new()];
        for recorder in self.counters().flat_map(Counters::recorders) {
            let (flows, reasons) = recorder.lost_flows();
            for (kept, records) in found.iter_mut().zip([recorder.losses(), flows, reasons]) {
                kept.extend(records.into_iter().filter(is_it));
            }
        }
        found
    }
}

/// All losses that a rehearsal foretells.
fn losses(rehearsal: &Rehearsal) -> Vec<(DropReason, u64)> {
    let decided = rehearsal.frames.iter().filter_map(|frame| {
        let Decision::Drop(reason) = frame.verdict.decision else {
            return None;
        };
        Some((reason, 1))
    });
    let copies = rehearsal.copies.iter().flat_map(|copy| copy.drops.clone());
    let refused = rehearsal.refused.iter().copied();
    decided.chain(copies).chain(refused).collect()
}

/// A superframe of TCP from host 1 to host 9, with this TOS.
fn bulk(tos: u8) -> (VirtioNetHdr, Vec<u8>) {
    let payload = vec![7; 9000];
    let mut frame = frames::tcp4(1, 9, 1, &payload);
    frame[15] = tos;
    let mut header = VirtioNetHdr::none();
    (header.flags, header.gso_type) = (1, 1);
    header.set_csum(34, 16);
    header.set_gso_size(1400);
    header.set_hdr_len(u16::try_from(frame.len() - payload.len()).unwrap());
    (header, frame)
}

const CASES: &[Case] = &[
    Case {
        reason: DropReason::Truncated,
        provoke: |scene| scene.send(frames::runt(mac(1), 9)),
    },
    Case {
        reason: DropReason::BadOffload,
        provoke: |scene| {
            let frame = frames::udp4(1, 2, b"no tcp");
            let mut header = VirtioNetHdr::none();
            header.flags = 1;
            // A segment of TCP that is UDP.
            header.gso_type = 1;
            scene.send_with(header, frame)
        },
    },
    Case {
        reason: DropReason::PortDown,
        provoke: |scene| {
            scene.lab.set_up(scene.ports[0], false);
            scene.send(broadcast(mac(1)))
        },
    },
    Case {
        reason: DropReason::SrcGroup,
        provoke: |scene| scene.send(broadcast(MacAddr::BROADCAST)),
    },
    Case {
        reason: DropReason::SrcZero,
        provoke: |scene| scene.send(broadcast(MacAddr::from_u48(0))),
    },
    Case {
        reason: DropReason::ReservedAddress,
        provoke: |scene| scene.send(unicast(mac(1), MacAddr::new([1, 0x80, 0xc2, 0, 0, 0xe]))),
    },
    Case {
        reason: DropReason::Locked,
        provoke: |scene| {
            scene.lab.set_flag(scene.ports[0], PortFlags::LOCKED, true);
            scene.send(broadcast(mac(1)))
        },
    },
    Case {
        reason: DropReason::SamePort,
        provoke: |scene| {
            scene.lab.pin(mac(7), scene.ports[0]);
            scene.send(unicast(mac(1), mac(7)))
        },
    },
    Case {
        reason: DropReason::Isolated,
        provoke: |scene| {
            for port in [0, 1] {
                scene
                    .lab
                    .set_flag(scene.ports[port], PortFlags::ISOLATED, true);
            }
            scene.send(unicast(mac(1), mac(2)))
        },
    },
    Case {
        reason: DropReason::FloodDisabled,
        provoke: |scene| {
            for port in [1, 2] {
                scene
                    .lab
                    .set_flag(scene.ports[port], PortFlags::FLOOD, false);
            }
            scene.send(unicast(mac(1), mac(99)))
        },
    },
    Case {
        reason: DropReason::NoEgress,
        provoke: |scene| {
            for port in [1, 2] {
                scene.lab.set_up(scene.ports[port], false);
            }
            scene.send(broadcast(mac(1)))
        },
    },
    Case {
        reason: DropReason::SplitHorizon,
        provoke: |scene| scene.hear(3, 42, unicast(mac(8), mac(9))),
    },
    Case {
        reason: DropReason::PinnedSource,
        provoke: |scene| scene.hear(3, 42, broadcast(mac(9))),
    },
    Case {
        reason: DropReason::VxlanRunt,
        provoke: |scene| {
            scene.hear_bytes(2, 0, vec![8, 0, 0]);
            vec![8, 0, 0]
        },
    },
    Case {
        reason: DropReason::NoVni,
        provoke: |scene| {
            scene.hear_bytes(2, 0, vec![0; 20]);
            vec![0; 20]
        },
    },
    Case {
        reason: DropReason::ReservedBits,
        provoke: |scene| {
            scene.lab.set_vtep(|vtep| vtep.is_strict = true);
            let frame = broadcast(mac(8));
            let mut bytes = [&vxlan::header(vni(42))[..], &frame].concat();
            bytes[1] = 1;
            scene.hear_bytes(2, 0, bytes);
            frame
        },
    },
    Case {
        reason: DropReason::UnknownVni,
        provoke: |scene| scene.hear(2, 7, broadcast(mac(8))),
    },
    Case {
        reason: DropReason::UnknownPeer,
        provoke: |scene| scene.hear(99, 42, broadcast(mac(8))),
    },
    Case {
        reason: DropReason::OwnPacket,
        provoke: |scene| scene.hear(1, 42, broadcast(mac(8))),
    },
    Case {
        reason: DropReason::Ecn,
        provoke: |scene| {
            // Congestion experienced outside, and inside a sender that does not speak ECN.
            let frame = frames::udp4(8, 2, b"x");
            let bytes = [&vxlan::header(vni(42))[..], &frame].concat();
            scene.hear_bytes(2, 0b11, bytes);
            frame
        },
    },
    Case {
        reason: DropReason::EgressDown,
        provoke: |scene| {
            scene.lab.io(scene.ports[1]).set_state(MemState::Down);
            scene.send(unicast(mac(1), mac(2)))
        },
    },
    Case {
        reason: DropReason::TooBig,
        provoke: |scene| scene.send(frames::of_len(mac(1), mac(2), 1519)),
    },
    Case {
        reason: DropReason::EgressFull,
        provoke: |scene| {
            scene.lab.io(scene.ports[1]).set_state(MemState::Full);
            scene.send(unicast(mac(1), mac(2)))
        },
    },
    Case {
        reason: DropReason::StandingQueue,
        provoke: |scene| {
            let (header, frame) = bulk(0);
            scene.keep_waiting(&header, &frame);
            frame
        },
    },
    Case {
        reason: DropReason::EgressGone,
        provoke: |scene| {
            scene.lab.io(scene.ports[1]).set_state(MemState::Gone);
            scene.send(unicast(mac(1), mac(2)))
        },
    },
    Case {
        reason: DropReason::NoRoute,
        provoke: |scene| {
            scene.io.set_loss(Some(DropReason::NoRoute));
            scene.send(unicast(mac(1), mac(9)))
        },
    },
    Case {
        reason: DropReason::EgressRefused,
        provoke: |scene| {
            scene.lab.io(scene.ports[1]).set_state(MemState::Refusing);
            scene.send(unicast(mac(1), mac(2)))
        },
    },
];

#[test]
fn every_loss_is_foretold_counted_remembered_and_captured_with_its_frame_and_its_reason() {
    let mut provoked = HashSet::new();
    for &Case { reason, provoke } in CASES {
        let mut scene = Scene::new();

        let frame = provoke(&mut scene);

        // What waits, and for how long, is nothing that a rehearsal could know.
        assert_eq!(
            scene.foretold.is_none(),
            reason == DropReason::StandingQueue
        );
        if let Some((rehearsal, told)) = scene.foretold.take() {
            assert_eq!(losses(&rehearsal), [(reason, 1)], "{reason} in a rehearsal");
            let is_told =
                |text: &str| text.contains(reason.name()) || text.contains(reason.explain());
            assert!(
                told.steps.iter().any(|step| is_told(&step.text)),
                "{reason}: {told:?}"
            );
        }
        assert_eq!(scene.lab.drops(reason), 1, "{reason} in the counters");
        for (which, records) in scene.records(reason).iter().enumerate() {
            let [record] = &records[..] else {
                panic!("{reason} in list {which}: {records:?}");
            };
            assert_eq!(record.count, 1, "{reason} in list {which}");
            assert_eq!(record.len as usize, frame.len(), "{reason}");
            assert!(frame.starts_with(&record.head), "{reason}: {record:?}");
            assert!(
                record.head.len() >= frame.len().min(Recorder::HEAD),
                "{reason}: {record:?}"
            );
        }
        let [(captured, bytes)] = &captured(&scene.capture)[..] else {
            panic!("{reason} is not captured once");
        };
        assert_eq!(captured.fate, capture::Fate::Dropped(reason));
        // In the form in which it came: frame or datagram.
        assert!(bytes.ends_with(&frame), "{reason}: {bytes:02x?}");
        let others = DropReason::ALL.iter().filter(|other| **other != reason);
        let others: u64 = others.map(|&other| scene.lab.drops(other)).sum();
        assert_eq!(others, 0, "{reason} came with other losses");
        scene.lab.assert_accounted();
        provoked.insert(reason);
    }
    for reason in DropReason::ALL {
        assert!(provoked.contains(reason), "no case provokes {reason}");
    }
}

#[test]
fn a_sender_that_knows_of_marks_is_told_to_slow_down_by_one_and_loses_nothing() {
    for (tos, expected) in [(0b10, 0b11), (0b01, 0b11), (0b11, 0b11)] {
        let mut scene = Scene::new();
        let (header, frame) = bulk(tos);

        scene.keep_waiting(&header, &frame);

        assert_eq!(scene.lab.drops(DropReason::StandingQueue), 0);
        let marks: Vec<u8> = std::iter::from_fn(|| scene.io.take_stray())
            .map(|message| message.departure.tos & 0b11)
            .collect();
        let (first, second) = marks.split_at(marks.len() / 2);
        assert!(first.iter().all(|&mark| mark == tos), "{marks:?}");
        assert!(second.iter().all(|&mark| mark == expected), "{marks:?}");
        assert!(!second.is_empty());
        scene.lab.assert_accounted();
    }
}

#[test]
fn every_reason_has_a_remedy_of_one_plain_sentence() {
    let mut remedies = HashSet::new();
    for reason in DropReason::ALL {
        let remedy = reason.remedy();
        assert!(
            remedy.len() > 20 && remedy.len() < 130,
            "{reason}: {remedy}"
        );
        assert!(
            !remedy.ends_with('.') && !remedy.contains('\n'),
            "{reason}: {remedy}"
        );
        assert!(
            remedies.insert(remedy),
            "{reason} has the remedy of another: {remedy}"
        );
    }
}

#[test]
fn what_was_too_big_is_remembered_with_its_numbers() {
    let mut scene = Scene::new();
    scene.send(frames::of_len(mac(1), mac(2), 1519));
    scene.send(frames::of_len(mac(1), mac(9), 1514));
    let mut details: Vec<_> = scene.records(DropReason::TooBig)[0]
        .iter()
        .filter_map(|record| record.detail)
        .collect();
    details.sort_by_key(|detail| format!("{detail:?}"));
    let size = |has, fits| Detail::Size { has, fits };
    assert_eq!(details, [size(1519, 1518), size(1550, 1500)]);
}

#[test]
fn a_datagram_of_nobody_is_remembered_with_its_sender_and_its_number() {
    let mut scene = Scene::new();
    scene.hear(99, 7, broadcast(mac(8)));
    let records = &scene.records(DropReason::UnknownVni)[0];
    let from = std::net::Ipv4Addr::new(198, 51, 100, 99)
        .to_ipv6_mapped()
        .to_bits();
    assert_eq!(
        records[0].detail,
        Some(Detail::Datagram { vni: Some(7), from })
    );
}

#[test]
fn what_has_no_vni_is_no_frame_and_what_has_vni_0_is() {
    let mut scene = Scene::new();
    scene.hear_bytes(2, 0, vec![0; 20]);
    let record = scene.records(DropReason::NoVni)[0].remove(0);
    assert!(matches!(
        record.detail,
        Some(Detail::Datagram { vni: None, .. })
    ));
    assert_eq!(record.frame(), None);

    let frame = scene.hear(2, 0, broadcast(mac(8)));
    let record = scene.records(DropReason::UnknownVni)[0].remove(0);
    assert!(matches!(
        record.detail,
        Some(Detail::Datagram { vni: Some(0), .. })
    ));
    assert_eq!(record.frame(), Some(&frame[..]));
}

#[test]
fn a_lost_segment_is_remembered_with_its_own_length_and_not_with_that_of_its_superframe() {
    let payload = 3000;
    let frame = frames::tcp4(1, 2, 1, &vec![7; payload]);
    let headers = frame.len() - payload;
    let mut header = VirtioNetHdr::none();
    (header.flags, header.gso_type) = (1, 1);
    header.set_hdr_len(u16::try_from(headers).unwrap());
    header.set_gso_size(1000);
    header.set_csum(34, 16);
    let to_a_port = |scene: &mut Scene| {
        let io = MemPort::new().with_offloads(Offloads::NONE);
        scene.ports[1] = scene.lab.add_port_with(0, "podD", io);
        scene.lab.pin(mac(2), scene.ports[1]);
        scene.lab.set_mtu(scene.ports[1], 600);
        DropReason::TooBig
    };
    let to_a_peer = |scene: &mut Scene| {
        scene.lab.pin_remote(mac(2), scene.peers[0]);
        scene.io.set_loss(Some(DropReason::NoRoute));
        DropReason::NoRoute
    };
    let change: [&dyn Fn(&mut Scene) -> DropReason; 2] = [&to_a_port, &to_a_peer];
    for change in change {
        let mut scene = Scene::new();
        let reason = change(&mut scene);
        scene.send_with(header, frame.clone());

        let [losses, flows, reasons] = scene.records(reason);
        assert_eq!(losses.len(), 3);
        for record in losses {
            assert_eq!(record.len as usize, headers + 1000);
        }
        for record in flows.iter().chain(&reasons) {
            assert_eq!(
                (record.count, record.bytes),
                (3, 3 * (headers as u64 + 1000))
            );
        }
    }
}

#[test]
fn a_worker_without_a_recorder_writes_nothing_down() {
    let (lab, [a, b]) = Lab::switch(["a", "b"]);
    let topology = lab.topology();
    let mut datapath = Datapath::new(0).with_recorder(false);
    lab.io(b).set_state(MemState::Full);
    for frame in [broadcast(mac(1)), frames::runt(mac(1), 9)] {
        lab.io(a).inject(&frame);
        datapath.service(lab.now(), &topology, a);
    }
    for port in [a, b] {
        assert_eq!(lab.counters(port).recorders().count(), 0);
    }
    assert_eq!(
        (
            lab.drops(DropReason::Truncated),
            lab.drops(DropReason::EgressFull)
        ),
        (1, 1)
    );
}
