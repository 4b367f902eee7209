//! The exercises of `tapswitch::sim::exercises`, solved: what a course asks for can be done, and the
//! checks accept it.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use tapswitch::{
    filter::Filter,
    sim::{Lab, MemNet, Network, SocketHandle, frames},
    vxlan,
    wire::{Frame, MacAddr, Vni},
};

/// Exercises 1 and 2.
#[derive(Default)]
struct Bridge {
    heard: HashMap<MacAddr, (usize, Duration)>,
}

impl Bridge {
    const AGEING: Duration = Duration::from_secs(300);

    fn relay(&mut self, now: Duration, from: usize, frame: &[u8]) -> Vec<usize> {
        let frame = Frame::new_checked(frame).unwrap();
        self.heard.insert(frame.src(), (from, now));
        match self.heard.get(&frame.dst()) {
            Some(&(to, at)) if now - at <= Self::AGEING => {
                Some(to).filter(|&to| to != from).into_iter().collect()
            }
            _ => (0..4).filter(|&to| to != from).collect(),
        }
    }
}

#[track_caller]
fn is_like_the_switch(seed: u64, pause: impl Fn(u64) -> Duration) {
    let mut spec = Lab::spec("br0");
    spec.flap_limit = 0;
    let (mut lab, ports) = Lab::with_bridge(spec, ["p0", "p1", "p2", "p3"]);
    let (mut bridge, mut now) = (Bridge::default(), Duration::ZERO);
    for (n, (from, frame)) in (0..1000).zip(frames::talk(seed, 4)) {
        let pause = pause(n);
        lab.advance(pause);
        now += pause;
        let reached = lab.relay(ports[from], &frame);
        let reached: Vec<usize> = reached.iter().map(|port| port.index()).collect();
        assert_eq!(
            bridge.relay(now, from, &frame),
            reached,
            "seed {seed}, frame {n}"
        );
    }
    lab.assert_accounted();
}

#[test]
fn a_bridge_of_twenty_lines_does_what_the_switch_does() {
    is_like_the_switch(1, |_| Duration::ZERO);
}

#[test]
fn what_has_aged_there_has_aged_here() {
    is_like_the_switch(2, |n| Duration::from_secs(50 * (n * n % 9)));
}

/// Exercise 3.
fn encap(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[0x08, 0, 0, 0, a, b, c, 0], frame].concat()
}

fn decap(payload: &[u8]) -> Option<(u32, &[u8])> {
    let ([flags, _, _, _, a, b, c, _], frame) = payload.split_first_chunk()?;
    (flags & 0x08 != 0).then(|| (u32::from_be_bytes([0, *a, *b, *c]), frame))
}

#[test]
fn a_vtep_by_hand_talks_to_the_switch() {
    let net = MemNet::new();
    let [theirs, mine] = ["198.51.100.1:4789", "198.51.100.2:4789"].map(|at| at.parse().unwrap());
    let (mut lab, [pod]) = Lab::switch(["pod"]);
    lab.add_vtep(net.attach(theirs));
    lab.set_vni(0, Vni::new(42).unwrap());
    lab.add_peer(0, mine);
    let me = net.attach(mine);

    let question = frames::arp_request(1, 2);
    lab.send(pod, &question);
    lab.run();
    let (from, payload) = me.take().unwrap();
    assert_eq!(from, theirs);
    assert_eq!(decap(&payload), Some((42, &question[..])));

    let answer = frames::arp_reply(2, 1);
    assert!(me.send(theirs, &encap(42, &answer)));
    lab.run();
    assert_eq!(lab.received(pod), [answer]);

    for flags in 0..=255 {
        let payload = [flags, 0, 0, 0, 0, 1, 2, 0, 0xaa];
        let expected = vxlan::parse(&payload).ok();
        let expected = expected.map(|(header, frame)| (header.vni.get(), frame));
        assert_eq!(decap(&payload), expected, "flags {flags:#04x}");
        assert!((0..8).all(|len| decap(&payload[..len]).is_none()));
    }
    lab.assert_accounted();
}

/// Exercise 4: one piece at a time, with its number in front.
struct StopAndWait {
    /// Pieces that are acknowledged.
    done: usize,
    /// When the present one was sent.
    sent: Option<Duration>,
    /// Pieces that have come.
    heard: usize,
}

impl StopAndWait {
    const PIECE: usize = 1000;
    const PATIENCE: Duration = Duration::from_millis(1);

    fn sender(&mut self, network: &mut Network, socket: SocketHandle, to: SocketAddr, data: &[u8]) {
        let now = network.lab.now().since(Default::default());
        while let Some((_, acknowledged)) = network.hosts[0].udp_receive(socket) {
            if acknowledged == self.done.to_be_bytes() {
                self.done += 1;
                self.sent = None;
            }
        }
        let is_due = self.sent.is_none_or(|sent| now - sent >= Self::PATIENCE);
        if let Some(piece) = data.chunks(Self::PIECE).nth(self.done).filter(|_| is_due) {
            let datagram = [&self.done.to_be_bytes(), piece].concat();
            network.hosts[0].udp_send(socket, to, &datagram);
            self.sent = Some(now);
        }
    }

    fn receiver(&mut self, network: &mut Network, socket: SocketHandle, data: &mut Vec<u8>) {
        while let Some((from, datagram)) = network.hosts[1].udp_receive(socket) {
            let (number, piece) = datagram.split_first_chunk().unwrap();
            if usize::from_be_bytes(*number) == self.heard {
                data.extend(piece);
                self.heard += 1;
            }
            // Also of an old one: its acknowledgment was lost.
            network.hosts[1].udp_send(socket, from, number);
        }
    }
}

#[test]
fn stop_and_wait_over_udp_loses_nothing_on_a_cable_that_does() {
    let data: Vec<u8> = (0..100_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let mut network = Network::new(["podA", "podB"]);
    let cable = network.lab.io(network.ports[1]);
    cable.lose(10, 7);
    let [from, to] = [0, 1].map(|host| network.hosts[host].udp_bind(2000));
    let mut mine = StopAndWait {
        done: 0,
        sent: None,
        heard: 0,
    };
    let mut came = Vec::new();
    for _ in 0..20_000 {
        network.step();
        mine.sender(&mut network, from, (frames::ip(2), 2000).into(), &data);
        mine.receiver(&mut network, to, &mut came);
        if came.len() >= data.len() {
            break;
        }
    }
    assert!(came == data, "{} of {} bytes", came.len(), data.len());
    assert!(cable.lost() > 10, "{}", cable.lost());
    network.lab.assert_accounted();
}

/// Exercise 5.
fn matches(frame: &[u8]) -> bool {
    let port_at = |at: usize| frame.get(at + 2..at + 4) == Some(&[0x07, 0xd0]);
    match frame.get(12..14) {
        Some([0x08, 0x00]) => {
            let Some(&[first, _, _, _, _, _, high, low, _, protocol]) = frame.get(14..24) else {
                return false;
            };
            let is_first = u16::from_be_bytes([high, low]) & 0x1fff == 0;
            protocol == 17 && is_first && port_at(14 + usize::from(first & 15) * 4)
        }
        Some([0x86, 0xdd]) => frame.get(20) == Some(&17) && port_at(54),
        _ => false,
    }
}

#[test]
fn a_filter_by_hand_means_what_tcpdump_means() {
    let udp = frames::udp4(1, 2, &[0x07, 0xd0, 0x07, 0xd0]);
    let mut options = [&udp[..34], &[1, 1, 1, 0], &udp[34..]].concat();
    options[14] = 0x46;
    let (mut first, mut second) = (udp.clone(), udp.clone());
    first[20..22].copy_from_slice(&[0x20, 0]);
    second[20..22].copy_from_slice(&[0, 1]);
    let all = [
        frames::arp_request(1, 2),
        frames::tcp4(1, 2, 0, b""),
        frames::udp6(1, 2, b""),
        frames::tcp6(1, 2, 0, b""),
        frames::tagged(&udp, 10),
        udp,
        options,
        first,
        second,
        frames::packet(1, "udp 192.0.2.2:2001").frame,
        frames::packet(1, "udp 192.0.2.1:2000 > 192.0.2.2:53").frame,
    ];
    let filter = Filter::parse("udp and dst port 2000").unwrap();
    let mut meant = 0;
    for frame in &all {
        for len in 0..=frame.len() {
            let piece = &frame[..len];
            assert_eq!(matches(piece), filter.matches(piece), "{piece:02x?}");
            meant += usize::from(matches(piece));
        }
    }
    assert!(meant > 10, "{meant}");
}
