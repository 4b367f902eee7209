//! Random frames that filters are held against.

use etherparse::PacketBuilder;
use tapswitch::{
    sim::frames,
    wire::{EtherType, MacAddr},
};

use super::random::Random;

/// So many frames of all kinds, some with tags, some cut or damaged.
pub(crate) fn frames(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|_| {
            let mut frame = whole(random);
            for _ in 0..random.below(8).saturating_sub(5) {
                let tag = *random.pick(&[EtherType::VLAN, EtherType::QINQ, EtherType(0x9100)]);
                let id = *random.pick(&[10, 20, 0x200a]);
                frame = frames::tagged_as(&frame, tag, id);
            }
            match random.below(8) {
                0 => frame.truncate(14 + random.below(frame.len() - 13)),
                1 => {
                    let at = random.below(frame.len());
                    frame[at] = random.byte();
                }
                _ => {}
            }
            frame
        })
        .collect()
}

fn whole(random: &mut Random) -> Vec<u8> {
    let mut host = || u8::try_from(1 + random.below(4)).unwrap();
    let (from, to) = (host(), host());
    let payload: Vec<u8> = (0..60).take(random.below(60)).collect();
    let ports = |random: &mut Random| {
        let any = [1000, 2000, 53, 80, 4789, 51];
        (*random.pick(&any), *random.pick(&any))
    };
    let ethernet = PacketBuilder::ethernet2(
        frames::mac(from.into()).octets(),
        frames::mac(to.into()).octets(),
    );
    let v4 = |ethernet: etherparse::PacketBuilderStep<etherparse::Ethernet2Header>| {
        ethernet.ipv4(frames::ip(from).octets(), frames::ip(to).octets(), 64)
    };
    let (src6, dst6) = (frames::ip6(from.into()), frames::ip6(to.into()));
    let mut frame = Vec::new();
    match random.below(14) {
        0 => frames::arp_request(from, to),
        1 => frames::arp_reply(from, to),
        2 => frames::echo_request(from, to, 1),
        3 => frames::echo_reply(from, to, 1),
        4 => frames::udp6(from, to, &payload),
        5 => frames::tcp6(from, to, 1, &payload),
        6 | 7 => {
            let (a, b) = ports(random);
            v4(ethernet).udp(a, b).write(&mut frame, &payload).unwrap();
            frame
        }
        8 | 9 => {
            let (a, b) = ports(random);
            let step = v4(ethernet).tcp(a, b, 7, 1000);
            let step = match random.below(3) {
                0 => step.syn(),
                1 => step.ack(1),
                _ => step.fin().ack(9),
            };
            step.write(&mut frame, &payload).unwrap();
            frame
        }
        10 => {
            let kind = u8::try_from(*random.pick(&[128, 129, 133, 135, 136])).unwrap();
            let step = ethernet.ipv6(src6.octets(), dst6.octets(), 255);
            step.icmpv6_raw(kind, 0, [0; 4])
                .write(&mut frame, &payload)
                .unwrap();
            frame
        }
        11 => fragment(random, frames::udp4(from, to, &payload)),
        12 => {
            // Any protocol, and a group or broadcast address.
            let mut frame = frames::udp4(from, to, &payload);
            frame[23] = *random.pick(&[2, 50, 51, 132, 89]);
            frame[30] = *random.pick(&[192, 224, 239]);
            frame[0..6].copy_from_slice(
                &random
                    .pick(&[MacAddr::BROADCAST, MacAddr::new([1, 0, 0x5e, 0, 0, 1])])
                    .octets(),
            );
            frame
        }
        _ => {
            let payload: Vec<u8> = (0..46).map(|_| random.byte()).collect();
            let kind = *random.pick(&[0x88b5, 0x88cc, 0x8035, 0x0806, 0x0800, 0x86dd]);
            frames::ethernet(
                frames::mac(from.into()),
                MacAddr::new([0x33, 0x33, 0, 0, 0, to]),
                EtherType(kind),
                &payload,
            )
        }
    }
}

/// `frame` as a first or a later fragment, with or without options.
fn fragment(random: &mut Random, mut frame: Vec<u8>) -> Vec<u8> {
    frame[20] = *random.pick(&[0x20, 0x00, 0x20]);
    frame[21] = *random.pick(&[0, 0, 100]);
    if random.below(2) == 0 {
        frame[14] = 0x46;
        frame.splice(34..34, [1, 1, 1, 0]);
    }
    frame
}

/// `inner` in a datagram of this VNI to this port.
pub(crate) fn vxlan(vni: u32, port: u16, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend_from_slice(&(vni << 8).to_be_bytes());
    payload.extend_from_slice(inner);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2])
        .ipv4([198, 51, 100, 1], [198, 51, 100, 2], 64)
        .udp(50_000, port)
        .write(&mut frame, &payload)
        .unwrap();
    frame
}
