//! Congestion marks of the underlay: what the kernel makes of them, and what we do.

use std::collections::BTreeMap;

use tapswitch::vxlan::ecn;

use crate::{
    Test,
    superframe::{Noise, Superframe},
    world::{Setup, World, datagram},
};

pub(crate) const TESTS: &[Test] = &[("marks_are_merged_as_the_kernel_merges_them", merged)];

/// Where we knowingly do something else than the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// The kernel takes a packet behind a VLAN tag for something else than IP: it neither drops nor
    /// marks it.
    Tagged,
    /// Of the two zeros of one's complement, the kernel's `csum16_add` may yield 0xffff where the
    /// checksum, made anew, would be 0. To a receiver both are the same (RFC 1624 §3).
    Zero,
    /// The kernel drops a frame that ends inside its IP header (`skb_vlan_inet_prepare`), whatever
    /// the marks. We leave it to the receiver.
    CutShort,
}

fn merged() {
    let mut tally: BTreeMap<(Option<Difference>, &str), u64> = BTreeMap::new();
    let cases = cases();
    for v6 in [false, true] {
        let mut world = World::new(Setup {
            v6,
            ..Setup::default()
        });
        for (number, &(kind, outer, ref frame)) in cases.iter().enumerate() {
            world.send(outer, &datagram(frame));
            let theirs = world.out_of_tap();
            let mut merged = frame.clone();
            let result = ecn::decapsulate(outer, &mut merged);
            let ours: Vec<_> = result.is_ok().then_some(merged).into_iter().collect();
            let difference = compare(frame, &ours, &theirs).unwrap_or_else(|| {
                panic!("case {number}, {kind}, outer {outer:#x}:\n{frame:02x?}\nours {ours:02x?}\ntheirs {theirs:02x?}")
            });
            *tally.entry((difference, kind)).or_default() += 1;
        }
    }
    for ((difference, kind), count) in &tally {
        eprintln!("{count:5} {kind}: {difference:?}");
    }
    let seen = |difference| tally.keys().any(|&(found, _)| found == Some(difference));
    assert!(seen(Difference::Zero) && seen(Difference::Tagged));
}

/// `Some(None)` if both are the same, and `None` for a difference that has no name.
fn compare(frame: &[u8], ours: &[Vec<u8>], theirs: &[Vec<u8>]) -> Option<Option<Difference>> {
    if ours == theirs {
        return Some(None);
    }
    let is_tagged = matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]);
    if is_tagged && theirs == [frame] {
        return Some(Some(Difference::Tagged));
    }
    if ecn::tos_of(frame).is_none() && theirs.is_empty() {
        return Some(Some(Difference::CutShort));
    }
    let [ours, theirs] = [ours.first()?, theirs.first()?];
    let mut zero = theirs.clone();
    if zero.get(24..26) == Some(&[0xff; 2]) {
        zero[24..26].fill(0);
        return (*ours == zero).then_some(Some(Difference::Zero));
    }
    None
}

/// Kind, outer TOS and inner frame.
fn cases() -> Vec<(&'static str, u8, Vec<u8>)> {
    let mut noise = Noise(1);
    let mut cases = Vec::new();
    for pair in 0_u8..16 {
        let (outer, inner) = (0xb8 | pair & 3, pair >> 2);
        for v6 in [false, true] {
            for class in [0, 0xb8, 0xfc] {
                let mut packet = Superframe {
                    v6,
                    gso: false,
                    needs_csum: false,
                    traffic_class: class | inner,
                    ip_id: u16::try_from(noise.below(65_536)).unwrap(),
                    ip_options: if v6 { 0 } else { 2 },
                    salt: noise.next(),
                    payload: 40,
                    ..Superframe::default()
                };
                cases.push((if v6 { "ipv6" } else { "ipv4" }, outer, packet.frame()));
                let mut wrong = packet.frame();
                wrong[25] ^= 0x10;
                cases.push(("one byte wrong", outer, wrong));
                packet.tags = vec![0x8100];
                cases.push(("tagged", outer, packet.frame()));
                packet.tags = vec![0x88a8, 0x8100];
                cases.push(("tagged twice", outer, packet.frame()));
            }
        }
        cases.extend(near_zero(inner).map(|frame| ("near zero", outer, frame)));
        for len in [14, 20, 33, 34, 53, 54] {
            for v6 in [false, true] {
                let packet = Superframe {
                    v6,
                    gso: false,
                    traffic_class: inner,
                    payload: 0,
                    ..Superframe::default()
                };
                let mut frame = packet.frame();
                frame.truncate(len);
                cases.push(("cut", outer, frame));
            }
        }
        let arp = tapswitch::sim::frames::arp_request(1, 2);
        cases.push(("arp", outer, arp));
    }
    cases
}

/// Frames whose header checksum the mark takes to one of both zeros, and their neighbours.
fn near_zero(traffic_class: u8) -> impl Iterator<Item = Vec<u8>> {
    let frame = move |ip_id| {
        let packet = Superframe {
            gso: false,
            traffic_class,
            ip_id,
            payload: 0,
            ..Superframe::default()
        };
        packet.frame()
    };
    // What the identification gains, the checksum loses.
    let base = frame(0);
    let base = u16::from_be_bytes([base[24], base[25]]);
    (0..5).map(move |above| frame(base.wrapping_sub(above)))
}
