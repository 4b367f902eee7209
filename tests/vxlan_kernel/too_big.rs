//! Answers to what is too big: the kernel's for a bridged frame, and ours.

use std::collections::BTreeMap;

use smoltcp::wire::checksum;
use tapswitch::{
    sim::frames,
    vxlan::{
        overhead,
        too_big::{Answer, answer},
    },
    wire::VirtioNetHdr,
};

use crate::{
    Test,
    superframe::{Noise, Superframe},
    world::{Setup, World},
};

pub(crate) const TESTS: &[Test] = &[
    ("what_is_too_big_is_answered_as_the_kernel_does", answered),
    (
        "who_is_not_answered_is_not_answered_by_the_kernel",
        unanswered,
    ),
    (
        "small_paths_are_told_where_the_kernel_tells_nothing",
        small_paths,
    ),
];

/// Where we knowingly do something else than the kernel (`skb_tunnel_check_pmtu`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// The kernel's answer has what is left of the packet's hop limit, ours has 64.
    HopLimit,
    /// The kernel takes a packet behind a VLAN tag for something else than IP.
    Tagged,
    /// The kernel counts what is behind the packet, and quotes it.
    Padding,
    /// The kernel answers only where the path takes 576 bytes of IPv4 or 1280 of IPv6.
    SmallPath,
    /// The kernel looks for DF and nothing else, so not even a first fragment gets an answer.
    FirstFragment,
    /// The kernel answers what should not be answered; see each case.
    Stricter,
}

/// What was compared, by kind.
#[derive(Default)]
struct Tally(BTreeMap<(String, Option<Difference>), u64>);

impl Tally {
    /// Sends `frame` both ways. The difference must be `expected` or, if that is none, hop limits.
    fn compare(
        &mut self,
        world: &mut World,
        mtu: u32,
        (name, frame): (&str, &[u8]),
        expected: Option<Difference>,
    ) {
        world.write(&VirtioNetHdr::none(), frame);
        let mut theirs = world.out_of_tap();
        // What the kernel does not answer, it sends in fragments.
        world.out_of_socket();
        let mut out = Answer::new();
        let mut ours = Vec::new();
        if answer(frame, mtu, &mut out) {
            ours.push(out.as_bytes().to_vec());
        }
        let mut difference = expected;
        if expected.is_none() && ours != theirs {
            difference = Some(Difference::HopLimit);
            theirs.iter_mut().for_each(|frame| set_hop_limit(frame, 64));
        }
        let is_as_expected = expected.is_some() == (ours != theirs);
        assert!(
            is_as_expected,
            "{name}: {expected:?}\n{}\nours {:?}\ntheirs {:?}",
            head(frame),
            ours.iter().map(|frame| head(frame)).collect::<Vec<_>>(),
            theirs.iter().map(|frame| head(frame)).collect::<Vec<_>>(),
        );
        *self.0.entry((name.to_owned(), difference)).or_default() += 1;
    }

    fn print(&self) {
        for ((name, difference), count) in &self.0 {
            eprintln!("{count:5} {name}: {difference:?}");
        }
    }
}

fn head(frame: &[u8]) -> String {
    format!(
        "{} bytes {:02x?}",
        frame.len(),
        &frame[..frame.len().min(90)]
    )
}

fn set_hop_limit(frame: &mut [u8], limit: u8) {
    if frame[12] == 0x86 {
        frame[21] = limit;
        return;
    }
    frame[22] = limit;
    seal(frame);
}

fn seal(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 0xf) * 4;
    frame[24..26].fill(0);
    let sum = !checksum::data(&frame[14..end]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

fn world(v6: bool, underlay_mtu: u32) -> World {
    World::new(Setup {
        v6,
        mtu: 9000,
        underlay_mtu,
        ..Setup::default()
    })
}

fn answered() {
    let mut noise = Noise(2);
    let mut tally = Tally::default();
    for outer6 in [false, true] {
        let mut world = world(outer6, 1500);
        let mtu = 1500 - overhead(outer6);
        for number in 0..200 {
            let packet = Superframe {
                tags: vec![0x8100; usize::from(number % 10 == 0)],
                ..random(&mut noise)
            };
            let is_tagged = !packet.tags.is_empty();
            let mut frame = packet.frame();
            if noise.one_in(3) && !is_tagged {
                set_hop_limit(&mut frame, 1 + u8::try_from(noise.below(255)).unwrap());
            }
            let is_too_big = frame.len() - packet.l3() > usize::try_from(mtu).unwrap();
            let name = match (is_too_big, packet.v6) {
                (false, _) => "fits",
                (true, false) => "ipv4",
                (true, true) => "ipv6",
            };
            let expected = (is_tagged && is_too_big).then_some(Difference::Tagged);
            tally.compare(&mut world, mtu, (name, &frame), expected);
        }
    }
    tally.print();
    let names: Vec<_> = tally
        .0
        .keys()
        .filter(|(_, difference)| difference.is_none())
        .collect();
    assert_eq!(
        names.len(),
        3,
        "not all were the same now and then: {names:?}"
    );
}

/// A packet of which most are too big, and some just so.
fn random(noise: &mut Noise) -> Superframe {
    let v6 = noise.one_in(2);
    let more = if noise.one_in(2) { 200 } else { 5000 };
    let mut options = || u8::try_from(noise.below(20).saturating_sub(10)).unwrap();
    let (ip_options, tcp_options) = (options(), options());
    Superframe {
        v6,
        udp: noise.one_in(2),
        ip_options: if v6 { 0 } else { ip_options },
        extensions: if v6 && noise.one_in(3) {
            vec![(60, 1)]
        } else {
            vec![]
        },
        tcp_options,
        gso: false,
        needs_csum: false,
        traffic_class: noise.next().to_le_bytes()[0],
        ip_id: u16::try_from(noise.below(65_536)).unwrap(),
        salt: noise.next(),
        payload: 1300 + usize::try_from(noise.below(more)).unwrap(),
        ..Superframe::default()
    }
}

/// A case's name, what is changed in an IPv4 or IPv6 frame, and how we differ.
type Case = (&'static str, fn(&mut Vec<u8>), Option<Difference>);

const V4: [Case; 19] = [
    ("may be fragmented", |f| f[20] = 0, None),
    ("later fragment", |f| f[21] = 1, None),
    (
        "first fragment",
        |f| f[20] = 0x60,
        Some(Difference::FirstFragment),
    ),
    ("from multicast", |f| f[26] = 224, None),
    ("from broadcast", |f| f[26..30].fill(255), None),
    ("from nobody", |f| f[26..30].fill(0), None),
    ("from network 0", |f| f[26] = 0, None),
    ("from loopback", |f| f[26] = 127, None),
    ("from network 240", |f| f[26] = 240, None),
    ("to multicast", |f| f[30] = 239, None),
    ("to broadcast", |f| f[30..34].fill(255), None),
    (
        "to nobody",
        |f| f[30..34].fill(0),
        Some(Difference::Stricter),
    ),
    ("to loopback", |f| f[30] = 127, Some(Difference::Stricter)),
    ("to a group of MACs", |f| f[0] = 3, None),
    ("icmp error", |f| f[34] = 3, None),
    ("echo", |f| f[34] = 8, None),
    ("icmp timestamp", |f| f[34] = 13, Some(Difference::Stricter)),
    (
        "longer than the frame",
        |f| f[17] = f[17].wrapping_add(1),
        Some(Difference::Stricter),
    ),
    ("padding", |f| f.extend([0; 10]), None),
];

const V6: [Case; 9] = [
    // The kernel compares the type of the address, with its scope, to the bare type.
    (
        "from multicast",
        |f| f[22] = 0xff,
        Some(Difference::Stricter),
    ),
    ("from nobody", |f| f[22..38].fill(0), None),
    ("to multicast", |f| f[38] = 0xff, Some(Difference::Stricter)),
    ("to a group of MACs", |f| f[0] = 3, None),
    ("icmp error", |f| f[54] = 1, None),
    ("redirect", |f| f[54] = 137, None),
    ("echo", |f| f[54] = 128, None),
    (
        "later fragment",
        |f| {
            f[20] = 44;
            f[54..62].copy_from_slice(&[6, 0, 0, 8, 0, 0, 0, 1]);
        },
        Some(Difference::Stricter),
    ),
    (
        "longer than the frame",
        |f| f[19] = f[19].wrapping_add(1),
        Some(Difference::Stricter),
    ),
];

fn unanswered() {
    let mut tally = Tally::default();
    let mut world = world(false, 1500);
    for (name, change, expected) in V4 {
        let mut frame = frames::tcp4(1, 2, 3, &[7; 1500]);
        if name.contains("icmp") || name == "echo" {
            frame[23] = 1;
        }
        change(&mut frame);
        seal(&mut frame);
        tally.compare(
            &mut world,
            1450,
            (&format!("ipv4 {name}"), &frame),
            expected,
        );
    }
    for (name, change, expected) in V6 {
        let mut frame = frames::tcp6(1, 2, 3, &[7; 1500]);
        if name.contains("icmp") || name == "echo" || name == "redirect" {
            frame[20] = 58;
        }
        change(&mut frame);
        tally.compare(
            &mut world,
            1450,
            (&format!("ipv6 {name}"), &frame),
            expected,
        );
    }

    let mut broken = frames::tcp4(1, 2, 3, &[7; 1500]);
    broken[24] ^= 1;
    tally.compare(
        &mut world,
        1450,
        ("ipv4 broken header", &broken),
        Some(Difference::Stricter),
    );
    // Too big only with its padding.
    let mut padded = frames::tcp4(1, 2, 3, &[7; 1400]);
    padded.extend([0; 20]);
    tally.compare(
        &mut world,
        1450,
        ("ipv4 padded to be too big", &padded),
        Some(Difference::Padding),
    );
    tally.print();
}

fn small_paths() {
    let mut tally = Tally::default();
    for (underlay, v4, v6) in [
        (1330, None, None),
        (1329, None, Some(Difference::SmallPath)),
        (626, None, Some(Difference::SmallPath)),
        (
            625,
            Some(Difference::SmallPath),
            Some(Difference::SmallPath),
        ),
    ] {
        let mut world = world(false, underlay);
        let mtu = underlay - 50;
        for (is_v6, expected) in [(false, v4), (true, v6)] {
            let packet = Superframe {
                v6: is_v6,
                gso: false,
                payload: 1400,
                ..Superframe::default()
            };
            let name = format!("ipv{} over {underlay}", if is_v6 { 6 } else { 4 });
            tally.compare(&mut world, mtu, (&name, &packet.frame()), expected);
        }
    }
    tally.print();
}
