//! Frames of every kind that is read: whole, unfinished, with options, in tunnels.

use etherparse::{Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};
use tapswitch::{
    sim::frames::{self, ip, ip6, mac},
    vxlan,
    wire::{EtherType, Vni, checksum},
};

/// All of them, plain, tagged, and in tunnels of both families.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let plain = plain();
    let mut all = plain.clone();
    for frame in &plain {
        all.push(frames::tagged(frame, 0x6000 | 10));
        all.push(frames::tagged_as(
            &frames::tagged(frame, 10),
            EtherType::QINQ,
            20,
        ));
        all.push(tunnelled(frame, 42, false));
        all.push(tunnelled(frame, 0xff_ffff, true));
    }
    all
}

fn plain() -> Vec<Vec<u8>> {
    let mut all = vec![
        frames::arp_request(1, 2),
        frames::arp_reply(2, 1),
        frames::echo_request(1, 2, 3),
        frames::echo_reply(2, 1, 3),
        frames::udp4(1, 2, b"payload"),
        frames::udp6(1, 2, b"payload"),
        frames::tcp4(1, 2, 3, b"payload"),
        frames::tcp6(1, 2, 3, b"payload"),
        syn(),
        options(),
        first_fragment(),
    ];
    all.extend(neighbours());
    all.push(unreachable());
    all.push(too_big());
    all.push(membership());
    all.extend(unusual_checksums());
    all
}

/// Unfinished, missing and wrong ones.
fn unusual_checksums() -> Vec<Vec<u8>> {
    let mut unfinished = frames::tcp4(1, 2, 3, b"payload");
    let pseudo = checksum::pseudo_v4(ip(1).octets(), ip(2).octets(), 6, 27);
    unfinished[50..52].copy_from_slice(&pseudo.fold().to_be_bytes());
    let mut none = frames::udp4(1, 2, b"payload");
    none[40..42].fill(0);
    let mut wrong = frames::udp6(1, 2, b"payload");
    wrong[60] ^= 1;
    let mut header = frames::echo_request(1, 2, 3);
    header[24] ^= 1;
    vec![unfinished, none, wrong, header]
}

fn syn() -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac(1).octets(), mac(2).octets())
        .ipv4(ip(1).octets(), ip(2).octets(), 64)
        .tcp(40000, 80, 0xdead_beef, 64240)
        .syn()
        .options_raw(&[
            2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7,
        ])
        .unwrap()
        .write(&mut frame, &[])
        .unwrap();
    frame
}

/// Router alert.
fn options() -> Vec<u8> {
    let mut header = Ipv4Header::new(8, 5, IpNumber::UDP, ip(1).octets(), ip(2).octets()).unwrap();
    header.options = [148, 4, 0, 0].into();
    header.header_checksum = header.calc_header_checksum();
    let udp = &frames::udp4(1, 2, b"")[34..];
    let mut packet = Vec::new();
    header.set_payload_len(udp.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    header.write(&mut packet).unwrap();
    packet.extend(udp);
    frames::ethernet(mac(1), mac(2), EtherType::IPV4, &packet)
}

fn first_fragment() -> Vec<u8> {
    let mut header = Ipv4Header::new(24, 5, IpNumber::UDP, ip(1).octets(), ip(2).octets()).unwrap();
    header.dont_fragment = false;
    header.more_fragments = true;
    header.fragment_offset = IpFragOffset::ZERO;
    header.header_checksum = header.calc_header_checksum();
    let mut packet = Vec::new();
    header.write(&mut packet).unwrap();
    packet.extend([0x03, 0xe8, 0x07, 0xd0, 0x01, 0x00, 0x12, 0x34]);
    packet.extend([7; 16]);
    frames::ethernet(mac(1), mac(2), EtherType::IPV4, &packet)
}

fn icmpv6(kind: Icmpv6Type, dst: [u8; 16], body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(
        mac(1).octets(),
        [0x33, 0x33, dst[12], dst[13], dst[14], dst[15]],
    )
    .ipv6(ip6(1).octets(), dst, 255)
    .icmpv6(kind)
    .write(&mut frame, body)
    .unwrap();
    frame
}

fn neighbours() -> Vec<Vec<u8>> {
    let group = |last: [u8; 4]| {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&[0xff, 0x02]);
        address[12..].copy_from_slice(&last);
        address
    };
    let mut solicited = group([0xff, 0, 0, 2]);
    solicited[11] = 1;
    let target = ip6(2).octets();
    let option = [1, 1, 2, 0, 0, 0, 0, 1];
    let neighbour = [&target[..], &option].concat();
    let mut advertised = neighbour.clone();
    advertised[16] = 2;
    let advertisement = etherparse::icmpv6::NeighborAdvertisementHeader {
        router: false,
        solicited: true,
        r#override: true,
    };
    let router = etherparse::icmpv6::RouterAdvertisementHeader {
        cur_hop_limit: 64,
        managed_address_config: false,
        other_config: true,
        router_lifetime: 1800,
    };
    let prefix = [
        3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 8, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8,
    ];
    let mut advertising = vec![0; 8];
    advertising.extend([5, 1, 0, 0, 0, 0, 5, 0xdc]);
    advertising.extend(prefix);
    advertising.extend([0; 12]);
    vec![
        icmpv6(Icmpv6Type::NeighborSolicitation, solicited, &neighbour),
        icmpv6(
            Icmpv6Type::NeighborAdvertisement(advertisement),
            group([0, 0, 0, 1]),
            &advertised,
        ),
        icmpv6(Icmpv6Type::RouterSolicitation, group([0, 0, 0, 2]), &option),
        icmpv6(
            Icmpv6Type::RouterAdvertisement(router),
            group([0, 0, 0, 1]),
            &advertising,
        ),
    ]
}

fn unreachable() -> Vec<u8> {
    let quoted = frames::udp4(2, 1, &[7; 100]);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac(1).octets(), mac(2).octets())
        .ipv4(ip(1).octets(), ip(2).octets(), 64)
        .icmpv4_raw(3, 4, [0, 0, 0x05, 0xaa])
        .write(&mut frame, &quoted[14..42])
        .unwrap();
    frame
}

fn too_big() -> Vec<u8> {
    let quoted = frames::udp6(2, 1, &[7; 100]);
    icmpv6(
        Icmpv6Type::PacketTooBig { mtu: 1430 },
        ip6(2).octets(),
        &quoted[14..],
    )
}

fn membership() -> Vec<u8> {
    let mut report = vec![0x16, 0, 0, 0, 239, 1, 2, 3];
    let sum = checksum::sum(&report).checksum();
    report[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut header = Ipv4Header::new(8, 1, IpNumber::IGMP, ip(1).octets(), [239, 1, 2, 3]).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut packet = Vec::new();
    header.write(&mut packet).unwrap();
    packet.extend(report);
    let group = "01:00:5e:01:02:03".parse().unwrap();
    frames::ethernet(mac(1), group, EtherType::IPV4, &packet)
}

fn tunnelled(inner: &[u8], vni: u32, is_v6: bool) -> Vec<u8> {
    let header = vxlan::header(Vni::new(vni).unwrap());
    let payload = [&header[..], inner].concat();
    let builder = PacketBuilder::ethernet2(mac(10).octets(), mac(20).octets());
    let builder = match is_v6 {
        true => builder.ipv6(ip6(10).octets(), ip6(20).octets(), 64),
        false => builder.ipv4(ip(10).octets(), ip(20).octets(), 64),
    };
    let mut frame = Vec::new();
    let builder = builder.udp(55209, vxlan::PORT);
    builder.write(&mut frame, &payload).unwrap();
    frame
}
