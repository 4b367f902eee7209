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

    let got = all(&lab.io(fast));
    assert_eq!(got.len(), 1, "one superframe");
    let header = VirtioNetHdr::read(&got[0]).unwrap();
    assert_eq!(header.gso(), GsoType::UdpL4);
    let mut segments = Segments::new();
    let joined = &got[0][VirtioNetHdr::LEN..];
    segment(&header, joined, None, &mut segments).unwrap();
    assert_eq!(superframe::whole(&segments, joined), burst);
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

/// A datagram from host 1, the `number`th of its flow.
fn datagram(number: u8, to: u8) -> Vec<u8> {
    let mut frame = frames::udp4(1, to, &[number; 18]);
    frame[18..20].copy_from_slice(&u16::from(number).to_be_bytes());
    frame[24..26].fill(0);
    let checksum = tapswitch::wire::checksum::sum(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}
