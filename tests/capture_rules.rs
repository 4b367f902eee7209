//! Captures in a lab: which frames they have, what is said of them, and what a slow reader costs.

mod superframe;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tapswitch::{
    bridge::{DropReason, Egress, FloodClass, Ingress, Learn, PortId},
    datapath::Datapath,
    datapath::capture::{CaptureRules, Fate, Form, Place, Record, Selection, Side},
    filter::Filter,
    offload::Offloads,
    sim::{Lab, MemNet, MemPort, captured, frames},
    wire::{MacAddr, VirtioNetHdr, Vni},
};

use superframe::packet::Packet;

use frames::{broadcast, mac, unicast};

fn fates(frames: &[(Record, Vec<u8>)]) -> Vec<(Place, Side, Fate)> {
    let fate = |(record, _): &(Record, Vec<u8>)| (record.place, record.side, record.fate);
    frames.iter().map(fate).collect()
}

#[test]
fn a_frame_is_captured_where_it_comes_in_and_wherever_it_leaves() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    let (_, reader) = lab.capture(Lab::rules(""));
    let [at_a, at_b, at_c] = [a, b, c].map(Place::Port);

    lab.relay(a, &broadcast(mac(1)));
    let seen = captured(&reader);
    assert_eq!(
        fates(&seen),
        [
            (at_a, Side::In, Fate::Flooded(FloodClass::Broadcast, 2)),
            (at_b, Side::Out, Fate::Delivered(1)),
            (at_c, Side::Out, Fate::Delivered(1)),
        ]
    );
    assert!(seen.iter().all(|(_, bytes)| *bytes == broadcast(mac(1))));
    assert_eq!(seen[0].0.learn, Learn::New);
    assert_eq!(seen[1].0.from, Some(Ingress::Port(a)));

    lab.relay(b, &unicast(mac(2), mac(1)));
    let seen = captured(&reader);
    assert_eq!(
        fates(&seen),
        [
            (at_b, Side::In, Fate::Forwarded(Egress::Port(a))),
            (at_a, Side::Out, Fate::Delivered(1)),
        ]
    );
    let row = seen[0].0.row.expect("the row that was used");
    assert_eq!((row.key.mac(), row.entry.egress), (mac(1), Egress::Port(a)));

    lab.relay(a, &broadcast(MacAddr::BROADCAST));
    assert_eq!(
        fates(&captured(&reader)),
        [(at_a, Side::In, Fate::Dropped(DropReason::SrcGroup))]
    );
}

#[test]
fn frames_that_leave_together_are_captured_as_they_leave() {
    for gathers in [true, false] {
        let mut lab = Lab::new();
        lab.use_datapath(Datapath::new(0).with_gathering(gathers));
        let bridge = lab.add_bridge(Lab::spec("br0"));
        let port = |name: &str, lab: &mut Lab| {
            lab.add_port_with(bridge, name, MemPort::new().with_offloads(Offloads::ALL))
        };
        let (a, b) = (port("a", &mut lab), port("b", &mut lab));
        lab.relay(b, &broadcast(mac(2)));
        let (_, reader) = lab.capture(Lab::rules(""));

        for packet in Packet::tcp4().burst(3) {
            lab.send(a, &packet.frame());
        }
        lab.run();

        let seen = captured(&reader);
        let out = seen.iter().filter(|(record, _)| record.side == Side::Out);
        let out: Vec<_> = out.collect();
        assert_eq!(out.len(), 1, "they are joined: {:?}", fates(&seen));
        let (record, bytes) = out[0];
        assert_eq!(record.fate, Fate::Delivered(3));
        let received = lab.received(b);
        assert_eq!(*bytes, received[received.len() - 1], "gathering: {gathers}");
    }
}

#[test]
fn each_capture_has_what_it_asked_for_and_no_other() {
    let (mut lab, [a, b]) = Lab::switch(["a", "b"]);
    let only_a = || Selection::new([a], [], false);
    let arp = lab.capture(Lab::rules("arp")).1;
    let inward = lab.capture(CaptureRules {
        egress: false,
        ..Lab::rules("")
    });
    let outward = lab.capture_at(
        CaptureRules {
            ingress: false,
            snaplen: 20,
            ..Lab::rules("")
        },
        only_a(),
    );
    let (none, at_a) = (lab.capture(Lab::rules("tcp")).1, Place::Port(a));

    lab.relay(a, &frames::arp_request(1, 2));
    lab.relay(b, &frames::echo_request(2, 1, 7));

    assert_eq!(captured(&arp).len(), 2);
    let seen = captured(&inward.1);
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|(record, _)| record.side == Side::In));
    let seen = captured(&outward.1);
    let [(record, bytes)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((record.place, record.side), (at_a, Side::Out));
    let whole = frames::echo_request(2, 1, 7);
    assert_eq!((record.len, &bytes[..]), (whole.len(), &whole[..20]));
    assert!(captured(&none).is_empty());

    // One ends, the others go on.
    lab.end_capture(inward.0);
    lab.relay(a, &frames::arp_request(1, 2));
    assert!(captured(&inward.1).is_empty());
    assert_eq!(captured(&arp).len(), 2);
}

#[test]
fn a_reader_that_does_not_read_costs_captured_frames_and_nothing_else() {
    let (mut lab, [a, b]) = Lab::switch(["a", "b"]);
    let (id, reader) = lab.capture(Lab::rules(""));
    let rounds: u64 = 30_000;

    for _ in 0..rounds {
        assert_eq!(lab.relay(a, &broadcast(mac(1))), [b]);
    }
    lab.end_capture(id);

    let kept = captured(&reader).len() as u64;
    let lost: u64 = reader.lost().total();
    assert!(kept > 10_000 && lost > 0, "kept {kept}, lost {lost}");
    assert_eq!(kept + lost, 2 * rounds);
    let at_b = reader.lost().places[&(Place::Port(b), Form::Inner)];
    assert!(at_b > 0 && at_b < lost, "{at_b} of {lost}");
    lab.assert_accounted();
}

#[test]
fn what_is_captured_at_the_end_is_not_lost() {
    let (mut lab, [a, _b]) = Lab::switch(["a", "b"]);
    let (id, reader) = lab.capture(Lab::rules(""));
    lab.relay(a, &broadcast(mac(1)));
    lab.end_capture(id);
    assert_eq!(captured(&reader).len(), 2);
    assert_eq!(reader.lost().total(), 0);
}

/// Two switches with a port each on one underlay.
fn overlay() -> [(Lab, PortId); 2] {
    let net = MemNet::new();
    let address = |host: u8| SocketAddr::from(([198, 51, 100, host], 4789));
    [1, 2].map(|host| {
        let (mut lab, [port]) = Lab::switch(["pod"]);
        lab.add_vtep(net.attach(address(host)));
        lab.set_vni(0, Vni::new(42).unwrap());
        lab.add_peer(0, address(3 - host));
        (lab, port)
    })
}

#[test]
fn a_datagram_can_be_captured_before_decapsulation_and_after_encapsulation() {
    let [mut one, mut two] = overlay();
    let outer = |filter: &str| CaptureRules {
        inner: false,
        outer: true,
        ..Lab::rules(filter)
    };
    let sent = one.0.capture(outer("vxlan 42 and icmp")).1;
    let came = two.0.capture(outer("udp dst port 4789")).1;
    let inside = two.0.capture(Lab::rules("icmp")).1;
    let ping = frames::echo_request(1, 2, 7);

    one.0.send(one.1, &frames::arp_request(1, 2));
    one.0.send(one.1, &ping);
    one.0.run();
    two.0.run();

    let sent = captured(&sent);
    let [(record, bytes)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!((record.side, record.form), (Side::Out, Form::Outer));
    assert_eq!(record.from, Some(Ingress::Port(one.1)));
    assert!(bytes.ends_with(&ping));
    for words in [
        "src host 198.51.100.1",
        "dst host 198.51.100.2",
        "udp dst port 4789",
    ] {
        assert!(Filter::parse(words).unwrap().matches(bytes), "{words}");
    }
    let came = captured(&came);
    assert_eq!(came.len(), 2);
    for (record, bytes) in &came {
        assert_eq!((record.side, record.fate), (Side::In, Fate::Decapsulated));
        let words = "src host 198.51.100.1 and dst host 198.51.100.2";
        assert!(Filter::parse(words).unwrap().matches(bytes));
    }
    let inside = captured(&inside);
    assert_eq!(
        inside
            .iter()
            .map(|(record, _)| record.side)
            .collect::<Vec<_>>(),
        [Side::In, Side::Out]
    );
    assert!(inside.iter().all(|(_, bytes)| *bytes == ping));
    one.0.assert_accounted();
    two.0.assert_accounted();
}

#[test]
fn under_a_flood_a_capture_with_a_rate_keeps_to_it_and_still_has_the_whole_of_a_ping() {
    let (mut lab, [a, b]) = Lab::switch(["a", "b"]);
    lab.relay(b, &broadcast(mac(2)));
    let (_, reader) = lab.capture(CaptureRules {
        rate: Some(100),
        ..Lab::rules("")
    });
    let ping = frames::echo_request(1, 2, 7);
    let (seconds, a_second) = (3, 5000);
    let mut seen = Vec::new();

    for second in 0..seconds {
        let before = seen.len();
        for n in 0..a_second {
            lab.skip(Duration::from_secs(1) / a_second);
            lab.relay(a, &frames::udp4(1, 2, &[7; 18]));
            if n % 1000 == 0 {
                lab.relay(a, &ping);
            }
            seen.extend(captured(&reader));
        }
        let count = seen.len() - before;
        assert!((50..=100).contains(&count), "second {second}: {count}");
    }

    let pings = seen.iter().filter(|(_, bytes)| *bytes == ping).count();
    // Each where it comes in and where it leaves.
    assert_eq!(pings, 2 * 5 * seconds);
    let came_in = seen.iter().filter(|(record, _)| record.side == Side::In);
    let all = u64::from(a_second) * seconds as u64 + pings as u64 / 2;
    assert_eq!(reader.skipped() + came_in.count() as u64, all);
    assert_eq!(reader.lost().total(), 0);
    lab.assert_accounted();
}

/// By the number in a frame: its records, but for the datagrams around it, and those.
fn by_number(seen: &[(Record, Vec<u8>)]) -> BTreeMap<u32, [Vec<&Record>; 2]> {
    let mut frames = BTreeMap::<_, [Vec<&Record>; 2]>::new();
    for (record, bytes) in seen {
        let number = bytes.last_chunk().copied().map(u32::from_be_bytes);
        let forms = frames.entry(number.unwrap()).or_default();
        forms[usize::from(record.form == Form::Outer)].push(record);
    }
    frames
}

fn places_of(records: &[&Record]) -> Vec<(Side, Place)> {
    let places = records.iter().map(|record| (record.side, record.place));
    places.collect()
}

fn numbered(dst: MacAddr, number: u32) -> Vec<u8> {
    let mut frame = unicast(mac(1), dst);
    frame.extend_from_slice(&number.to_be_bytes());
    frame
}

#[test]
fn a_frame_that_is_chosen_has_all_its_copies_and_one_that_is_not_leaves_nothing() {
    let [(mut one, pod), (mut two, far)] = overlay();
    let ports = ["b", "c", "d"].map(|name| one.add_port(0, name));
    let rules = || CaptureRules {
        rate: Some(100),
        outer: true,
        ..Lab::rules("")
    };
    let (_, reader) = one.capture(rules());
    let (_, other) = two.capture(rules());
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for number in 0..15_000 {
        one.skip(Duration::from_micros(200));
        two.skip(Duration::from_micros(200));
        // Many at a time, as floods are.
        one.send(pod, &numbered(MacAddr::BROADCAST, number));
        if number % 20 == 19 {
            one.run();
            two.run();
            here.extend(captured(&reader));
            there.extend(captured(&other));
        }
    }

    let frames = by_number(&here);
    assert!(frames.len() > 20, "{} frames", frames.len());
    for (number, [inner, outer]) in &frames {
        let places = places_of(inner);
        assert_eq!(places[0], (Side::In, Place::Port(pod)), "{number}");
        assert_eq!(inner[0].fate, Fate::Flooded(FloodClass::Broadcast, 4));
        for port in ports {
            assert!(
                places.contains(&(Side::Out, Place::Port(port))),
                "{number}: {places:?}"
            );
        }
        assert_eq!((inner.len(), outer.len()), (5, 1), "{number}");
    }
    assert_eq!(reader.skipped() + frames.len() as u64, 15_000);
    let frames = by_number(&there);
    assert!(frames.len() > 20, "{} frames", frames.len());
    for (number, [inner, outer]) in &frames {
        let places = places_of(inner);
        assert_eq!(outer.len(), 1, "{number}");
        assert_eq!(places.len(), 2, "{number}: {places:?}");
        assert_eq!(places[1], (Side::Out, Place::Port(far)), "{number}");
    }
    for seen in [here, there] {
        let times: Vec<_> = seen.iter().map(|(record, _)| record.at).collect();
        for (index, start) in times.iter().enumerate() {
            let within = times[index..]
                .iter()
                .filter(|at| at.nanos_since(*start) < 1_000_000_000);
            assert!(within.count() <= 100, "in the second from {start:?}");
        }
    }
    one.assert_accounted();
    two.assert_accounted();
}

#[test]
fn of_a_superframe_that_is_chosen_a_few_pieces_are_captured_and_the_others_counted() {
    let mut lab = Lab::new();
    let bridge = lab.add_bridge(Lab::spec("br0"));
    let a = lab.add_port_with(bridge, "a", MemPort::new().with_offloads(Offloads::ALL));
    let b = lab.add_port_with(bridge, "b", MemPort::new().with_offloads(Offloads::NONE));
    let (_, reader) = lab.capture(CaptureRules {
        rate: Some(100),
        ..Lab::rules("")
    });
    let payload = 14_000;
    let frame = frames::tcp4(1, 2, 1, &vec![7; payload]);
    let mut header = VirtioNetHdr::none();
    (header.flags, header.gso_type) = (1, 1);
    header.set_hdr_len(u16::try_from(frame.len() - payload).unwrap());
    header.set_gso_size(1000);
    header.set_csum(34, 16);

    lab.io(a).inject_with(&header, &frame);
    lab.run();

    let cut = lab.received(b).len();
    assert!(cut > 5, "{cut} pieces");
    let seen = captured(&reader);
    assert_eq!(seen.len(), 1 + 3, "{:?}", fates(&seen));
    assert_eq!(reader.skipped(), cut as u64 - 3);
}

#[test]
fn a_choice_is_made_before_the_filter_is_asked() {
    let (mut lab, [a, _b]) = Lab::switch(["a", "b"]);
    let (_, reader) = lab.capture(CaptureRules {
        rate: Some(1),
        ..Lab::rules("arp")
    });
    lab.relay(a, &frames::udp4(1, 2, &[7; 18]));
    lab.relay(a, &frames::arp_request(1, 2));
    assert!(captured(&reader).is_empty());
    assert_eq!(reader.skipped(), 1);
}
