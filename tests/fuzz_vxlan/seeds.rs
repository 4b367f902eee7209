//! The inputs that the corpus starts with.

use tapswitch::{
    sim::frames,
    vxlan::{
        header,
        ping::{self, Kind, Probe},
    },
    wire::{EtherType, MacAddr, Vni},
};

use crate::superframe::Superframe;

/// The inputs by name; see the crate's documentation for their form.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = singles();
    seeds.extend(joined());
    seeds.extend(broken());
    seeds
}

fn input(segment: usize, tos: u8, message: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(segment).unwrap().to_be_bytes();
    [&[high, low, tos, 0], message].concat()
}

fn datagram(vni: u32, frame: &[u8]) -> Vec<u8> {
    [&header(Vni::new(vni).unwrap())[..], frame].concat()
}

fn single(tos: u8, frame: &[u8]) -> Vec<u8> {
    input(0, tos, &datagram(42, frame))
}

/// One datagram each.
fn singles() -> Vec<(&'static str, Vec<u8>)> {
    let mut probe = Vec::new();
    let question = Probe {
        src: frames::mac(1),
        kind: Kind::Request,
        token: 7,
        sequence: 1,
    };
    ping::encode(&question, 60, &mut probe);
    let mut marked = frames::tcp4(1, 2, 3, b"payload");
    marked[15] = 2;
    let large = Superframe {
        gso: false,
        payload: 1460,
        needs_csum: false,
        ..Superframe::default()
    };
    let extended = Superframe {
        v6: true,
        udp: true,
        gso: false,
        extensions: vec![(0, 0), (43, 1), (60, 0)],
        ..Superframe::default()
    };
    let mut fragment = frames::udp6(1, 2, &[1; 100]);
    fragment[20] = 44;
    fragment[54..62].copy_from_slice(&[17, 0, 0, 1, 0, 0, 0, 9]);
    let double = frames::tagged_as(
        &frames::tagged(&frames::udp6(1, 2, b"x"), 10),
        EtherType::QINQ,
        20,
    );
    vec![
        ("seed-arp", single(0, &frames::arp_request(1, 2))),
        ("seed-udp4", single(0, &frames::udp4(1, 2, b"payload"))),
        ("seed-tcp4-marked", single(3, &marked)),
        ("seed-tcp4-too-big", single(0, &large.frame())),
        ("seed-udp6-extended", single(1, &extended.frame())),
        ("seed-udp6-fragment", single(3, &fragment)),
        (
            "seed-vlan",
            single(0, &frames::tagged(&frames::udp4(1, 2, b"x"), 10)),
        ),
        ("seed-qinq", single(2, &double)),
        ("seed-echo", single(0, &frames::echo_request(1, 2, 3))),
        ("seed-probe", single(0, &probe)),
    ]
}

/// Several datagrams, and what only looks so.
fn joined() -> Vec<(&'static str, Vec<u8>)> {
    let one = datagram(42, &frames::udp4(1, 2, &[7; 150]));
    let other = datagram(43, &frames::udp4(3, 4, &[8; 150]));
    let last = datagram(42, &frames::udp4(1, 2, &[9; 20]));
    let superframe = |v6, udp| Superframe {
        v6,
        udp,
        payload: 7000,
        gso_size: 1000,
        ..Superframe::default()
    };
    // One that lies about its length, and one whose payload has a header in the right place.
    let size = one.len();
    let liar = Superframe {
        udp: true,
        payload: 3 * size - 50,
        ..Superframe::default()
    };
    let mut lying = datagram(42, &liar.frame());
    lying.splice(size.., [&other[..], &one].concat());
    let mut forged = datagram(42, &superframe(false, true).frame());
    forged[3000..3008].copy_from_slice(&header(Vni::MAX));
    vec![
        (
            "seed-joined",
            input(size, 0, &[&one[..], &one, &one, &last].concat()),
        ),
        (
            "seed-joined-two-vnis",
            input(size, 2, &[&one[..], &other, &last].concat()),
        ),
        (
            "seed-superframe-udp4",
            input(1000, 0, &datagram(42, &superframe(false, true).frame())),
        ),
        (
            "seed-superframe-udp6",
            input(1000, 3, &datagram(42, &superframe(true, true).frame())),
        ),
        (
            "seed-superframe-tcp4",
            input(0, 0, &datagram(42, &superframe(false, false).frame())),
        ),
        (
            "seed-superframe-tcp6",
            input(0, 0, &datagram(42, &superframe(true, false).frame())),
        ),
        ("seed-lying-length", input(size, 0, &lying)),
        ("seed-forged-header", input(1000, 0, &forged)),
    ]
}

fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let frame = frames::udp4(1, 2, b"payload");
    let mut flags = datagram(42, &frame);
    flags[0] = 0xf7;
    let mut reserved = datagram(42, &frame);
    reserved[..4].fill(0xff);
    let mut lengths = frames::tcp4(1, 2, 3, b"payload");
    lengths[14] = 0x4f;
    lengths[16..18].fill(0xff);
    let mut endless = frames::udp6(1, 2, &[60; 400]);
    endless[20] = 60;
    let from_nobody = frames::ethernet(MacAddr::ZERO, MacAddr::BROADCAST, EtherType::IPV6, &[]);
    vec![
        ("seed-runt", input(0, 0, &header(Vni::MAX)[..7])),
        ("seed-no-vni", input(0, 0, &flags)),
        ("seed-reserved", input(0, 0, &reserved)),
        ("seed-headers-cut", single(3, &lengths)),
        ("seed-headers-endless", single(3, &endless)),
        ("seed-nothing-inside", single(3, &from_nobody)),
        ("seed-bytes-of-one", input(1, 0, &datagram(42, &frame))),
    ]
}
