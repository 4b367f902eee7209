//! Source ports: the hash of the inner flow picks one from a pool (RFC 7348 section 5).

use std::collections::BTreeSet;

use crate::{
    host::{Host, Settings},
    packets::{Packet, Sent, low},
};

/// The source ports of what a pod sends.
fn ports_of(host: &mut Host, frames: Vec<Vec<u8>>) -> BTreeSet<u16> {
    let count = frames.len();
    let packets: Vec<_> = frames.into_iter().map(Packet::plain).collect();
    let seen = host.speak(0, &packets).unwrap();
    let sent = seen
        .underlay
        .iter()
        .map(|packet| Sent::parse(packet).unwrap());
    let sent: Vec<_> = sent.filter(|sent| sent.to == 2).collect();
    assert_eq!(sent.len(), count);
    sent.iter().map(|sent| sent.source_port).collect()
}

pub(crate) fn check(settings: &Settings) {
    let mut host = Host::ours(settings).unwrap();

    let ten: Vec<_> = (0..10)
        .map(|number| udp4(1000 + number, 0x4000, &[0; 100]))
        .collect();
    let ports = ports_of(&mut host, ten);
    assert!((2..=10).contains(&ports.len()), "{ports:?}");
    assert!(
        ports.iter().all(|port| (49152..=65535).contains(port)),
        "{ports:?}"
    );

    for flow in 0..10 {
        let frames = (0..50)
            .map(|number| udp4(1000 + flow, 0x4000, &vec![number; usize::from(number) * 20]));
        assert_eq!(
            ports_of(&mut host, frames.collect()).len(),
            1,
            "flow {flow}"
        );
        // The ports of the datagram are in the first fragment only.
        let fragments = [(0x2000, 1000 + flow), (0x2000 | 10, 0xdead), (20, 0xbeef)];
        let v4 = fragments.map(|(place, port)| udp4(port, place, &[7; 72]));
        assert_eq!(
            ports_of(&mut host, v4.into()).len(),
            1,
            "IPv4 fragments of flow {flow}"
        );
        let v6 = fragments.map(|(place, port)| fragment6(port, place, &[7; 72]));
        assert_eq!(
            ports_of(&mut host, v6.into()).len(),
            1,
            "IPv6 fragments of flow {flow}"
        );
    }
}

/// `place`: the flags and the fragment offset. The checksums are nobody's business here.
fn udp4(port: u16, place: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = start([0x08, 0x00]);
    frame.extend([0x45, 0]);
    frame.extend(low(28 + payload.len()).to_be_bytes());
    frame.extend([0, 9]);
    frame.extend(place.to_be_bytes());
    frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    udp(&mut frame, port, payload);
    frame
}

/// The same in an IPv6 fragment header (RFC 8200 section 4.5).
fn fragment6(port: u16, place: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = start([0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(low(16 + payload.len()).to_be_bytes());
    frame.extend([44, 64]);
    for host in [1, 2] {
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    let (more, offset) = (place >> 13 & 1, place & 0x1fff);
    frame.extend([17, 0]);
    frame.extend((offset << 3 | more).to_be_bytes());
    frame.extend([0, 0, 0, 9]);
    udp(&mut frame, port, payload);
    frame
}

fn start(ether_type: [u8; 2]) -> Vec<u8> {
    [&[0xff; 6], &[2, 0, 0, 0, 0x30, 1][..], &ether_type].concat()
}

fn udp(frame: &mut Vec<u8>, port: u16, payload: &[u8]) {
    frame.extend(port.to_be_bytes());
    frame.extend([0, 53]);
    frame.extend(low(8 + payload.len()).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
}
