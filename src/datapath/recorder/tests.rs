use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::{
    bridge::PortId,
    datapath::record::flow_of,
    sim::frames::{arp_request, mac, of_len, tagged, tcp4, udp4, udp6},
};

fn port(n: usize) -> Egress {
    Egress::Port(PortId::new(n).unwrap())
}

fn entry<'a>(now: u64, frame: &'a [u8], what: What) -> Entry<'a> {
    Entry {
        now: Timestamp::from_nanos(now),
        flow: flow_of(7, frame),
        len: u32::try_from(frame.len()).unwrap(),
        what,
        head: frame,
        detail: None,
    }
}

fn forwarded(to: usize) -> What {
    let verdict = Verdict {
        learn: Learn::Known,
        decision: Decision::Forward(port(to)),
    };
    What::decided(Ingress::Port(PortId::new(0).unwrap()), &verdict, 1)
}

#[test]
fn what_is_written_is_read() {
    let ingress = Ingress::Port(PortId::new(4095).unwrap());
    let from = port(17);
    let decisions = [
        Decision::Forward(port(3)),
        Decision::Flood(FloodClass::Repeat),
        Decision::Drop(DropReason::EgressRefused),
    ];
    let learns = [
        Learn::Off,
        Learn::Known,
        Learn::New,
        Learn::Moved { from },
        Learn::Flapping { from },
        Learn::Frozen,
        Learn::Pinned,
        Learn::Full,
    ];
    for decision in decisions {
        for learn in learns {
            let edge = Recorder::HEAD;
            for len in [0, 9, 14, edge - 1, edge, edge + 1, 1514, 65_550] {
                let recorder = Recorder::default();
                let bytes = vec![0xa5; 65_550];
                let what = What::decided(ingress, &Verdict { learn, decision }, 700);
                recorder.frame(&entry(5, &bytes[..len], what));

                let [record] = &recorder.frames()[..] else {
                    panic!("{:?}", recorder.frames());
                };
                let fate = match decision {
                    Decision::Forward(to) => Fate::Forwarded(to),
                    Decision::Flood(class) => Fate::Flooded(class, 700),
                    Decision::Drop(reason) => Fate::Dropped(reason),
                };
                assert_eq!((record.fate, record.learn), (fate, learn));
                assert_eq!(record.ingress, Some(ingress));
                assert_eq!(record.len as usize, len);
                assert_eq!(record.head, bytes[..len.min(Recorder::HEAD)]);
                assert_eq!((record.count, record.bytes), (1, len as u64));
            }
        }
    }
}

#[test]
fn a_loss_keeps_its_numbers_and_where_it_was_to_go() {
    let recorder = Recorder::default();
    let frame = udp4(1, 2, b"x");
    let details = [
        None,
        Some(Detail::Size {
            has: 1550,
            fits: u32::MAX,
        }),
        Some(Detail::Datagram {
            vni: Some(0xff_ffff),
            from: u128::MAX - 1,
        }),
        Some(Detail::Datagram {
            vni: Some(0),
            from: 1,
        }),
        Some(Detail::Datagram { vni: None, from: 1 }),
    ];
    for detail in details {
        let entry = Entry {
            detail,
            ..entry(1, &frame, What::lost(None, port(2), DropReason::TooBig))
        };
        recorder.loss(&entry, DropReason::TooBig, 3, 300);
    }
    let losses = recorder.losses();
    assert_eq!(
        losses.iter().map(|loss| loss.detail).collect::<Vec<_>>(),
        details
    );
    for loss in &losses {
        assert_eq!(loss.ingress, None);
        assert_eq!(loss.fate, Fate::Lost(port(2), DropReason::TooBig));
    }
    let (flows, reasons) = recorder.lost_flows();
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0].count, reasons[0].count), (15, 15));
    assert_eq!((flows[0].bytes, reasons[0].bytes), (1500, 1500));
}

#[test]
fn a_full_list_keeps_the_latest() {
    let recorder = Recorder::default();
    let count = 3 * Recorder::FRAMES as u64 + 5;
    let frame = udp4(1, 2, b"x");
    for now in 0..count {
        recorder.frame(&entry(now, &frame, forwarded(1)));
    }
    let mut times: Vec<_> = recorder
        .frames()
        .iter()
        .map(|r| r.last.as_nanos())
        .collect();
    times.sort_unstable();
    let latest: Vec<_> = (count - Recorder::FRAMES as u64..count).collect();
    assert_eq!(times, latest);
}

#[test]
fn a_flow_is_told_from_others_and_from_other_fates_of_its_own() {
    let recorder = Recorder::default();
    let (one, other) = (udp4(1, 2, b"x"), udp4(1, 3, b"x"));
    recorder.flow(&entry(1, &one, forwarded(1)), 2, 200);
    recorder.flow(&entry(5, &one, forwarded(1)), 3, 300);
    recorder.flow(&entry(6, &one, forwarded(2)), 1, 100);
    recorder.flow(&entry(7, &other, forwarded(1)), 1, 100);

    let flows = recorder.flows();
    assert_eq!(flows.len(), 3);
    let first = flows.iter().find(|flow| flow.count == 5).unwrap();
    assert_eq!((first.first.as_nanos(), first.last.as_nanos()), (1, 5));
    assert_eq!((first.bytes, first.fate), (500, Fate::Forwarded(port(1))));
}

#[test]
fn a_loss_outlives_any_number_of_frames_and_of_losses_for_other_reasons() {
    let recorder = Recorder::default();
    let lost = udp4(1, 2, b"lost");
    let what = What::lost(None, port(2), DropReason::TooBig);
    recorder.loss(&entry(1, &lost, what), DropReason::TooBig, 1, 60);
    for n in 0..20_000_u16 {
        let frame = of_len(mac(n), mac(1), 60);
        let entry_of = |what| entry(2 + u64::from(n), &frame, what);
        recorder.frame(&entry_of(forwarded(1)));
        recorder.flow(&entry_of(forwarded(1)), 1, 60);
        let what = What::lost(None, port(2), DropReason::EgressFull);
        recorder.loss(&entry_of(what), DropReason::EgressFull, 1, 60);
    }
    let (_, reasons) = recorder.lost_flows();
    let kept = reasons
        .iter()
        .find(|r| r.fate == Fate::Lost(port(2), DropReason::TooBig));
    assert_eq!(kept.map(|record| record.head.clone()), Some(lost));
    assert!(
        recorder.crowded_out() > 10_000,
        "{}",
        recorder.crowded_out()
    );
}

#[test]
fn frames_of_one_conversation_have_one_flow_and_others_another() {
    let seed = 0x1234_5678_9abc_def1;
    let flow = |frame: &[u8]| flow_of(seed, frame);
    assert_eq!(
        flow(&tcp4(1, 2, 1, b"a")),
        flow(&tcp4(1, 2, 900, &[7; 500]))
    );
    let different = [
        udp4(1, 2, b""),
        udp4(2, 1, b""),
        udp4(1, 3, b""),
        tcp4(1, 2, 1, b""),
        udp6(1, 2, b""),
        udp6(2, 1, b""),
        udp6(1, 3, b""),
        arp_request(1, 2),
        arp_request(1, 3),
        tagged(&udp4(1, 2, b""), 5),
        tagged(&udp4(1, 2, b""), 6),
        of_len(mac(1), mac(2), 60),
        of_len(mac(2), mac(1), 60),
        of_len(mac(2), mac(3), 60),
    ];
    for (index, one) in different.iter().enumerate() {
        for other in &different[..index] {
            assert_ne!(flow(one), flow(other), "{one:02x?} and {other:02x?}");
        }
    }
    for len in 0..80 {
        flow(&tagged(&udp6(1, 2, &[0; 80]), 5)[..len]);
    }
}

#[test]
fn a_reader_never_sees_half_a_record() {
    let recorder = Arc::new(Recorder::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (first, has_begun) = std::sync::mpsc::channel();
    let writer = std::thread::spawn({
        let (recorder, stop) = (Arc::clone(&recorder), Arc::clone(&stop));
        move || {
            let mut n = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                // Every word of it is the same number.
                let frame: Vec<u8> = n.to_ne_bytes().repeat(Recorder::HEAD / 8);
                let entry = Entry {
                    flow: n,
                    ..entry(n, &frame, forwarded(1))
                };
                recorder.frame(&entry);
                recorder.flow(&entry, 1, n);
                if n == 1 {
                    first.send(()).unwrap();
                }
            }
            n
        }
    });
    has_begun.recv().unwrap();
    let mut seen = 0;
    for _ in 0..400 {
        for record in recorder.frames().into_iter().chain(recorder.flows()) {
            let bytes = record.flow.to_ne_bytes().repeat(Recorder::HEAD / 8);
            assert_eq!(record.head, bytes, "{record:?}");
            assert_eq!(record.last.as_nanos(), record.flow);
            seen += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > 0 && seen > 0);
}

#[test]
fn enough_of_a_neighbour_solicitation_is_kept_to_tell_who_is_asked_for_in_a_vlan_too() {
    let asked = std::net::Ipv6Addr::from_bits(0xfe80 << 112 | 0x1234_5678_9abc);
    let mut frame = vec![
        0x33, 0x33, 0xff, 0x78, 0x9a, 0xbc, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
    ];
    // 32 bytes of ICMPv6, hop limit 255, from an address to a group.
    frame.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend((0xfe80_u128 << 112 | 1).to_be_bytes());
    frame.extend((0xff02_u128 << 112 | 0x01_ff78_9abc).to_be_bytes());
    frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(asked.octets());
    frame.extend([1, 1, 2, 0, 0, 0, 0, 1]);
    for frame in [tagged(&frame, 5), frame] {
        let recorder = Recorder::default();
        recorder.frame(&entry(1, &frame, forwarded(1)));
        let record = recorder.frames().remove(0);
        let mut whole = record.head.clone();
        whole.resize(record.len as usize, 0);
        assert!(crate::wire::hosts(&record.head).contains(&asked.into()));
        assert!(crate::wire::describe(&whole).ends_with(&format!("who has {asked}")));
    }
}
