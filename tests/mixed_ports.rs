//! Superframes and bursts between ports of unequal abilities: each port gets what is right for it.

mod superframe;

use superframe::Superframe;
use tapswitch::{
    offload::{Offloads, Segments, segment},
    sim::{Lab, MemPort, frames},
    wire::{GsoType, VirtioNetHdr},
};

/// A lab with a sender, a port that takes everything and one that takes finished frames only.
fn lab() -> (Lab, [tapswitch::bridge::PortId; 3]) {
    let mut lab = Lab::new();
    let bridge = lab.add_bridge(Lab::spec("br0"));
    let able = || MemPort::new().with_offloads(Offloads::ALL);
    let sender = lab.add_port_with(bridge, "sender", able());
    let fast = lab.add_port_with(bridge, "fast", able());
    let simple = lab.add_port_with(bridge, "simple", MemPort::new());
    (lab, [sender, fast, simple])
}

fn all(port: &MemPort) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| port.take_with_header()).collect()
}

#[test]
fn a_flooded_superframe_is_right_for_each_port() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut lab, [sender, fast, simple]) = lab();
        let sent = Superframe {
            v6,
            udp,
            payload: 1000,
            gso_size: 100,
            ..Superframe::default()
        };
        let (header, mut frame) = (sent.header(), sent.frame());
        frame[..6].fill(0xff);

        assert!(lab.io(sender).inject_with(&header, &frame));
        lab.run();

        let whole = all(&lab.io(fast));
        assert_eq!(whole.len(), 1, "v6 {v6}, udp {udp}");
        assert_eq!(whole[0][VirtioNetHdr::LEN..], frame);
        assert_eq!(
            VirtioNetHdr::read(&whole[0]).map(|header| header.gso()),
            Some(header.gso())
        );
        let mut expected = Segments::new();
        segment(&header, &frame, None, &mut expected).unwrap();
        assert_eq!(expected.len(), 10);
        let expected = superframe::whole(&expected, &frame);
        assert_eq!(lab.received(simple), expected, "v6 {v6}, udp {udp}");
        lab.assert_accounted();
    }
}

#[test]
fn segments_larger_than_the_mtu_of_a_port_are_dropped_for_it_alone() {
    let (mut lab, [sender, fast, simple]) = lab();
    lab.set_mtu(simple, 576);
    let sent = Superframe {
        payload: 4000,
        gso_size: 1000,
        ..Superframe::default()
    };
    let mut frame = sent.frame();
    frame[..6].fill(0xff);

    assert!(lab.io(sender).inject_with(&sent.header(), &frame));
    lab.run();

    assert_eq!(all(&lab.io(fast)).len(), 1);
    assert!(lab.received(simple).is_empty());
    lab.assert_accounted();
}

#[test]
fn a_burst_of_datagrams_leaves_as_one_superframe_where_that_is_taken() {
    let (mut lab, [sender, fast, simple]) = lab();
    lab.send(fast, &frames::broadcast(frames::mac(2)));
    lab.run();
    all(&lab.io(simple));
    let burst: Vec<Vec<u8>> = (0..10_u8).map(|byte| datagram(byte, 2)).collect();

    for frame in &burst {
        assert!(lab.io(sender).inject(frame));
    }
    lab.run();

    assert_eq!(cut(&lab.io(fast)), [burst]);
    assert_eq!(lab.totals(fast).tx_frames, 10);
    lab.assert_accounted();
}

#[test]
fn a_burst_stays_as_it_is_for_a_port_that_takes_finished_frames_only() {
    let (mut lab, [sender, _, simple]) = lab();
    lab.send(simple, &frames::broadcast(frames::mac(3)));
    lab.run();
    let burst: Vec<Vec<u8>> = (0..10_u8).map(|byte| datagram(byte, 3)).collect();

    for frame in &burst {
        assert!(lab.io(sender).inject(frame));
    }
    lab.run();

    assert_eq!(lab.received(simple), burst);
    lab.assert_accounted();
}

#[test]
fn a_flooded_burst_leaves_as_one_superframe_for_each_port_that_takes_it() {
    let (mut lab, [sender, fast, simple]) = lab();
    let other = lab.add_port_with(0, "other", MemPort::new().with_offloads(Offloads::ALL));
    // Nobody knows where host 9 is.
    let burst: Vec<Vec<u8>> = (0..10_u8).map(|byte| datagram(byte, 9)).collect();

    for frame in &burst {
        assert!(lab.io(sender).inject(frame));
    }
    lab.run();

    assert_eq!(cut(&lab.io(fast)), std::slice::from_ref(&burst));
    assert_eq!(cut(&lab.io(other)), std::slice::from_ref(&burst));
    assert_eq!(lab.received(simple), burst);
    lab.assert_accounted();
}

#[test]
fn bursts_for_two_ports_that_alternate_leave_as_one_superframe_for_each() {
    let (mut lab, [sender, fast, simple]) = lab();
    let other = lab.add_port_with(0, "other", MemPort::new().with_offloads(Offloads::ALL));
    for (port, host) in [(fast, 2), (other, 4), (simple, 3)] {
        lab.send(port, &frames::broadcast(frames::mac(host)));
        lab.run();
    }
    for port in [fast, other, simple] {
        all(&lab.io(port));
    }
    let [to_fast, to_other, to_simple] = [2, 4, 3].map(|host| {
        (0..10_u8)
            .map(|byte| datagram(byte, host))
            .collect::<Vec<_>>()
    });

    for number in 0..10 {
        for burst in [&to_fast, &to_other, &to_simple] {
            assert!(lab.io(sender).inject(&burst[number]));
        }
        // Between them one that goes to all.
        if number == 4 {
            assert!(lab.io(sender).inject(&frames::broadcast(frames::mac(1))));
        }
    }
    lab.run();

    let flood = frames::broadcast(frames::mac(1));
    for (port, burst) in [(fast, to_fast), (other, to_other)] {
        let (before, behind) = burst.split_at(5);
        let expected = [before.to_vec(), vec![flood.clone()], behind.to_vec()];
        assert_eq!(
            cut(&lab.io(port)),
            expected,
            "in the order in which they came"
        );
    }
    let got = lab.received(simple);
    assert_eq!(got.len(), 11);
    assert_eq!(got[5], flood);
    assert_eq!(got[..5], to_simple[..5]);
    assert_eq!(got[6..], to_simple[5..]);
    lab.assert_accounted();
}

/// What a port has received: of each write the frames that it stands for.
fn cut(port: &MemPort) -> Vec<Vec<Vec<u8>>> {
    let cut_one = |written: Vec<u8>| {
        let header = VirtioNetHdr::read(&written).unwrap();
        let frame = &written[VirtioNetHdr::LEN..];
        if header.is_plain() {
            return vec![frame.to_vec()];
        }
        assert_eq!(header.gso(), GsoType::UdpL4);
        let mut segments = Segments::new();
        segment(&header, frame, None, &mut segments).unwrap();
        superframe::whole(&segments, frame)
    };
    all(port).into_iter().map(cut_one).collect()
}

/// A datagram from host 1, the `number`th of its flow.
fn datagram(number: u8, to: u8) -> Vec<u8> {
    let mut frame = frames::udp4(1, to, &[number; 18]);
    frame[18..20].copy_from_slice(&u16::from(number).to_be_bytes());
    frame[24..26].fill(0);
    let checksum = tapswitch::wire::checksum::sum(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}
