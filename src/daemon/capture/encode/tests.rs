use super::*;
use crate::{
    bridge::PortId,
    daemon::{clock::Clock, directory::Known, history::History},
    pcap::Reader,
    sim::{Lab, captured, frames},
    wire::Vni,
};

const SECOND: Timestamp = Timestamp::from_secs(1);

fn bus() -> Arc<EventBus> {
    Arc::new(EventBus::new(
        None,
        Clock::default(),
        History::new(Vec::new()),
    ))
}

fn port(name: &str, bridge: &str, added: Timestamp) -> Option<Known<Name>> {
    Some(Known {
        name: Name::new(name).unwrap(),
        bridge: Name::new(bridge).unwrap(),
        added,
    })
}

fn know(bus: &EventBus, ports: Vec<Option<Known<Name>>>) {
    bus.know(Directory {
        ports,
        ..Directory::default()
    });
}

/// A frame as it comes in at the first of two ports, at `at`.
fn incoming(at: Timestamp, snaplen: usize, frame: &[u8]) -> (Record, Vec<u8>) {
    let (mut lab, [a, _]) = Lab::switch(["a", "b"]);
    let rules = crate::datapath::capture::CaptureRules {
        snaplen,
        egress: false,
        ..Lab::rules("")
    };
    let (_, reader) = lab.capture(rules);
    lab.relay(a, frame);
    let (mut record, bytes) = captured(&reader).remove(0);
    record.at = at;
    (record, bytes)
}

fn encoder(bus: &Arc<EventBus>, format: CaptureFormat) -> Encoder {
    let request = CaptureRequest {
        format,
        ..CaptureRequest::default()
    };
    Encoder::new(&request, Arc::clone(bus), 0)
}

/// The interface of each packet.
fn interfaces(file: Vec<u8>) -> Vec<String> {
    let packets = Reader::new(std::io::Cursor::new(file)).unwrap();
    let name = |packet: Result<crate::pcap::Packet, _>| packet.unwrap().interface.unwrap();
    packets.map(name).collect()
}

fn last_line(out: &[u8]) -> CaptureLine {
    let text = String::from_utf8_lossy(out);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn a_port_that_gets_the_number_of_another_one_has_an_interface_of_its_own() {
    let bus = bus();
    let at = |second| Timestamp::from_secs(second);
    let frame = frames::arp_request(1, 2);
    let write = |encoder: &mut Encoder, out: &mut Vec<u8>, second| {
        let (record, bytes) = incoming(at(second), 1000, &frame);
        encoder.frame(out, &record, &bytes);
    };
    let mut encoder = encoder(&bus, CaptureFormat::Pcapng);
    let mut out = Vec::new();
    know(&bus, vec![port("podA", "br0", at(1))]);
    let number = PortId::new(0).unwrap();
    encoder.head(&mut out, &[(Place::Port(number), Form::Inner)]);
    write(&mut encoder, &mut out, 2);
    // It goes: what comes late is still its own.
    know(&bus, Vec::new());
    write(&mut encoder, &mut out, 3);
    know(&bus, vec![port("podC", "br0", at(5))]);
    write(&mut encoder, &mut out, 6);
    write(&mut encoder, &mut out, 4);
    // The same port in another bridge, and back.
    know(&bus, vec![port("podC", "br1", at(5))]);
    write(&mut encoder, &mut out, 7);
    know(&bus, vec![port("podC", "br0", at(5))]);
    write(&mut encoder, &mut out, 8);
    encoder.tail(&mut out, &Lost::default());

    let all = ["podA", "podA", "podC", "podA", "podC", "podC"];
    assert_eq!(interfaces(out), all);
    let known = &encoder.interfaces[&(Place::Port(number), Form::Inner)];
    let counts = known.iter().map(|one| (one.name.as_str(), one.captured));
    assert_eq!(
        counts.collect::<Vec<_>>(),
        [("podA", 3), ("podC", 2), ("podC", 1)]
    );
}

#[test]
fn a_frame_of_a_port_that_is_gone_for_long_is_not_said_to_be_another_ones() {
    let bus = bus();
    know(&bus, vec![port("podC", "br0", Timestamp::from_secs(5))]);
    let mut encoder = encoder(&bus, CaptureFormat::Pcapng);
    let mut out = Vec::new();
    encoder.head(&mut out, &[]);
    let (record, bytes) = incoming(SECOND, 1000, &frames::arp_request(1, 2));
    encoder.frame(&mut out, &record, &bytes);

    assert_eq!(interfaces(out), ["port 0"]);
}

#[test]
fn a_frame_of_which_only_the_beginning_is_kept_is_told_like_the_whole_of_it() {
    let inner = frames::udp4(1, 2, &[7; 900]);
    let header = vxlan::header(Vni::new(42).unwrap());
    let outer = frames::udp4(8, 9, &[&header[..], &inner].concat());
    for cut in [outer.len(), 96] {
        let words = text(Form::Inner, &inner[..cut.min(inner.len())], inner.len());
        assert!(words.ends_with("900 bytes"), "{words}");
        let words = text(Form::Outer, &outer[..cut], outer.len());
        assert!(words.contains("vxlan 42: udp"), "{words}");
        assert!(words.ends_with("900 bytes"), "{words}");
    }
}

#[test]
fn what_was_lost_at_very_many_places_is_in_the_sum() {
    let bus = bus();
    let lost = Lost {
        places: [((Place::Vtep, Form::Inner), 3)].into(),
        elsewhere: 4,
    };
    let mut out = Vec::new();
    encoder(&bus, CaptureFormat::Json).tail(&mut out, &lost);
    let end = CaptureLine::End {
        captured: 0,
        lost: 7,
    };
    assert_eq!(last_line(&out), end);

    let mut encoder = encoder(&bus, CaptureFormat::Pcapng);
    let mut out = Vec::new();
    encoder.head(&mut out, &[]);
    encoder.tail(&mut out, &lost);
    let mut blocks = crate::pcap::Blocks::default();
    blocks.push(&out);
    let mut counts = Vec::new();
    while let Some((kind, block)) = blocks.next_block() {
        counts.extend(crate::pcap::Blocks::statistics(kind, block).map(|drops| drops.lost));
    }
    assert_eq!(counts, [3, 4]);
}

#[test]
fn lines_have_the_bytes_if_they_were_asked_for() {
    let bus = bus();
    let frame = frames::arp_request(1, 2);
    let (record, bytes) = incoming(SECOND, 20, &frame);
    for wanted in [true, false] {
        let request = CaptureRequest {
            format: CaptureFormat::Json,
            bytes: wanted,
            ..CaptureRequest::default()
        };
        let mut out = Vec::new();
        Encoder::new(&request, Arc::clone(&bus), 0).frame(&mut out, &record, &bytes);
        let CaptureLine::Frame(line) = last_line(&out) else {
            panic!("no frame");
        };
        assert_eq!(line.hex, wanted.then(|| Hex(frame[..20].to_vec())));
        assert_eq!(String::from_utf8_lossy(&out).contains("hex"), wanted);
    }
}

#[test]
fn skipped_frames_are_told_once() {
    let mut encoder = encoder(&bus(), CaptureFormat::Json);
    let mut out = Vec::new();
    for total in [0, 7, 7, 9] {
        encoder.skipped(&mut out, total);
    }
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<CaptureLine> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let skipped = [7, 2].map(|count| CaptureLine::Skipped { count });
    assert_eq!(lines, skipped);
}
