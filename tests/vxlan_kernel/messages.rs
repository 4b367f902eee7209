//! What a plain UDP socket gets from a kernel vxlan device behind a veth pair, and from a socket.
//!
//! Seen with Linux 6.18, whatever the underlay's family and `udpcsum`:
//!
//! | inner frame | messages | `UDP_GRO` |
//! | --- | --- | --- |
//! | TCP superframe | 1, whole, its checksum unfinished | none |
//! | UDP superframe | 1, whole, its checksum unfinished | payload of its datagrams |
//! | the same to a socket without `UDP_GRO` | each datagram, finished | none |
//! | any other | 1, its checksum as the sender left it | none |

use tapswitch::{
    sim::frames,
    vxlan::{HEADER_LEN, Header, header, parse, split},
    wire::Vni,
};

use crate::{
    Test,
    superframe::{Noise, Superframe},
    world::{Message, Setup, World, datagram, vni},
};

pub(crate) const TESTS: &[Test] = &[
    ("what_a_kernel_leaves_whole_is_one_datagram", whole),
    ("a_socket_without_gro_gets_finished_datagrams", cut),
    ("joined_datagrams_are_split_as_they_were_sent", joined),
];

/// What `split` and `parse` make of a message.
fn frames_in(message: &Message) -> Vec<(Header, Vec<u8>)> {
    let segment = message
        .segment
        .map_or(0, |size| usize::try_from(size).unwrap());
    split(&message.bytes, segment)
        .map(|range| {
            let (header, frame) = parse(&message.bytes[range]).unwrap();
            (header, frame.to_vec())
        })
        .collect()
}

const CLEAN: fn(Vni) -> Header = |vni| Header {
    vni,
    reserved: false,
};

fn whole() {
    let mut noise = Noise(3);
    for (v6, vxlan) in [
        (false, "noudpcsum"),
        (false, "udpcsum"),
        (true, "noudp6zerocsumtx"),
    ] {
        let mut world = World::new(Setup {
            v6,
            vxlan,
            offloads: true,
            ..Setup::default()
        });
        for number in 0..150 {
            let packet = random(&mut noise);
            let frame = packet.frame();
            world.write(&packet.header(), &frame);
            let messages = world.out_of_socket();

            let what = format!("{vxlan}, case {number}: {packet:?}");
            let [message] = &messages[..] else {
                panic!("{} messages, {what}", messages.len());
            };
            let segment = (packet.gso && packet.udp).then_some(i32::from(packet.gso_size));
            assert_eq!(message.segment, segment, "{what}");
            assert!(message.bytes == datagram(&frame), "other bytes, {what}");
            assert!(
                frames_in(message) == [(CLEAN(vni()), frame)],
                "split otherwise, {what}"
            );
        }
    }
}

/// A superframe of either protocol, or a frame of which the checksum is finished or not.
fn random(noise: &mut Noise) -> Superframe {
    let (v6, udp, gso) = (noise.one_in(2), noise.one_in(2), !noise.one_in(3));
    let gso_size = u16::try_from(48 + noise.below(1300)).unwrap();
    let segments = 2 + usize::try_from(noise.below(40)).unwrap();
    let short = usize::try_from(noise.below(48)).unwrap();
    let payload = if gso {
        usize::from(gso_size) * segments - short
    } else {
        usize::try_from(noise.below(1300)).unwrap()
    };
    Superframe {
        tags: if noise.one_in(4) {
            vec![0x8100]
        } else {
            vec![]
        },
        v6,
        udp,
        tcp_options: 3,
        traffic_class: noise.next().to_le_bytes()[0] & 0xfc,
        ip_id: u16::try_from(noise.below(65_536)).unwrap(),
        salt: noise.next(),
        needs_csum: gso || noise.one_in(2),
        gso,
        gso_size,
        payload,
        ..Superframe::default()
    }
}

fn cut() {
    let mut world = World::new(Setup {
        offloads: true,
        no_gro: true,
        ..Setup::default()
    });
    for v6 in [false, true] {
        let packet = Superframe {
            v6,
            udp: true,
            payload: 4500,
            gso_size: 1000,
            ..Superframe::default()
        };
        let frame = packet.frame();
        world.write(&packet.header(), &frame);
        let messages = world.out_of_socket();
        let lengths: Vec<_> = messages.iter().map(|message| message.bytes.len()).collect();
        let full = HEADER_LEN + packet.headers() + 1000;
        assert_eq!(lengths, [full, full, full, full, full - 500]);
        assert!(messages.iter().all(|message| message.segment.is_none()));
        let payload: Vec<u8> = messages
            .iter()
            .flat_map(|message| message.bytes[HEADER_LEN + packet.headers()..].to_vec())
            .collect();
        assert!(payload == frame[packet.headers()..]);
    }
}

fn joined() {
    for v6 in [false, true] {
        let mut world = World::new(Setup {
            v6,
            offloads: true,
            ..Setup::default()
        });
        // A superframe that claims to be the whole message, among frames of other tenants.
        let liar = Superframe {
            udp: true,
            payload: 10 * 1008 - HEADER_LEN - 42,
            ..Superframe::default()
        };
        let mut first = liar.frame();
        first.truncate(1000);
        let honest = frames::udp4(1, 2, &[7; 958]);
        for first in [first, honest.clone()] {
            let mut sent = vec![(CLEAN(vni()), first)];
            for number in 1..10 {
                sent.push((CLEAN(Vni::new(number).unwrap()), honest.clone()));
            }
            let message: Vec<u8> = sent
                .iter()
                .flat_map(|(head, frame)| [&header(head.vni)[..], frame].concat())
                .collect();
            assert_eq!(message.len(), 10 * 1008);
            world.send_joined(&message, 1008);

            let messages = world.out_of_socket();
            let segments: Vec<_> = messages.iter().map(|message| message.segment).collect();
            assert_eq!(segments, [Some(1008)]);
            assert!(frames_in(&messages[0]) == sent);
        }
    }
}
