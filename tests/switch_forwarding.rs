//! Where frames go and where they do not, through the lab.

use tapswitch::{
    bridge::{DropReason, PortFlags, PortId},
    config::{Mode, ReservedMask},
    sim::{Lab, frames},
    wire::{EtherType, MacAddr},
};

use frames::{broadcast, ethernet, mac, of_len, tagged, tagged_as, unicast};

const MULTICAST: MacAddr = MacAddr::new([1, 0, 0x5e, 0, 0, 1]);

fn abc() -> (Lab, [PortId; 3]) {
    Lab::switch(["a", "b", "c"])
}

fn reserved(last: u8) -> MacAddr {
    MacAddr::new([0x01, 0x80, 0xc2, 0, 0, last])
}

// B1
#[test]
fn known_unicast_goes_to_its_port_only() {
    let (mut lab, [a, b, _]) = abc();
    lab.relay(a, &broadcast(mac(1)));

    for _ in 0..10 {
        assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a]);
    }
    lab.assert_accounted();
}

// B3
#[test]
fn a_hairpin_port_gets_its_own_frames_back() {
    let (mut lab, [a, b, c]) = abc();
    lab.relay(a, &broadcast(mac(1)));
    let own = unicast(mac(2), mac(1));
    assert_eq!(lab.relay(a, &own), []);

    lab.set_flag(a, PortFlags::HAIRPIN, true);
    assert_eq!(lab.relay(a, &own), [a]);
    assert_eq!(lab.relay(a, &broadcast(mac(1))), [a, b, c]);
    assert_eq!(lab.relay(b, &broadcast(mac(3))), [a, c], "b has none");

    lab.set_flag(a, PortFlags::HAIRPIN, false);
    assert_eq!(lab.relay(a, &own), []);
    lab.assert_accounted();
}

// B4, B5, B6, B25
#[test]
fn broadcast_unknown_and_multicast_reach_every_other_port_once() {
    let (mut lab, [a, b, c, d]) = Lab::switch(["a", "b", "c", "d"]);
    for dst in [
        mac(99),
        MacAddr::BROADCAST,
        MULTICAST,
        MacAddr::new([0x33, 0x33, 0, 0, 0, 1]),
        MacAddr::new([1, 2, 3, 4, 5, 6]),
        // IGMP and MLD reports
        MacAddr::new([1, 0, 0x5e, 0, 0, 22]),
        MacAddr::new([0x33, 0x33, 0, 0, 0, 0x16]),
    ] {
        for _ in 0..10 {
            assert_eq!(lab.relay(a, &unicast(mac(1), dst)), [b, c, d], "to {dst}");
        }
    }
    lab.assert_accounted();
}

// B7
#[test]
fn each_flood_flag_masks_its_own_class() {
    let flags = [
        PortFlags::FLOOD,
        PortFlags::MCAST_FLOOD,
        PortFlags::BCAST_FLOOD,
    ];
    let classes = [mac(99), MULTICAST, MacAddr::BROADCAST];
    for (off, flag) in flags.into_iter().enumerate() {
        let (mut lab, [a, b, c]) = abc();
        lab.set_flag(b, flag, false);
        for (class, dst) in classes.into_iter().enumerate() {
            let frame = unicast(mac(1), dst);
            let expected: &[_] = if class == off { &[c] } else { &[b, c] };
            assert_eq!(lab.relay(a, &frame), expected, "flag {off}, class {class}");

            // A flag says what its port gets, not what it sends.
            assert_eq!(lab.relay(b, &unicast(mac(2), dst)), [a, c]);
        }
        lab.set_flag(c, flag, false);
        assert_eq!(lab.relay(a, &unicast(mac(1), classes[off])), []);
        assert_eq!(lab.drops(DropReason::FloodDisabled), 1);
        // Known unicast is none of the classes.
        assert_eq!(lab.relay(a, &unicast(mac(1), mac(2))), [b]);
        lab.assert_accounted();
    }
}

// B8
#[test]
fn isolated_ports_reach_only_ports_that_are_not() {
    let (mut lab, [a, b, open]) = Lab::switch(["a", "b", "open"]);
    for port in [a, b] {
        lab.set_flag(port, PortFlags::ISOLATED, true);
    }
    lab.relay(b, &broadcast(mac(2)));

    for dst in [MacAddr::BROADCAST, MULTICAST, mac(99)] {
        assert_eq!(lab.relay(a, &unicast(mac(1), dst)), [open], "to {dst}");
        assert_eq!(lab.relay(open, &unicast(mac(3), dst)), [a, b], "to {dst}");
    }
    assert_eq!(lab.relay(a, &unicast(mac(1), mac(2))), []);
    assert_eq!(lab.drops(DropReason::Isolated), 1);
    assert_eq!(lab.relay(a, &unicast(mac(1), mac(3))), [open]);
    assert_eq!(lab.relay(open, &unicast(mac(3), mac(1))), [a]);

    // Where all others are isolated too, a flood finds nobody.
    lab.remove_port(open);
    assert_eq!(lab.relay(a, &broadcast(mac(1))), []);
    assert_eq!(lab.drops(DropReason::Isolated), 2);
    lab.assert_accounted();
}

// B11
#[test]
fn reserved_addresses_are_relayed_only_where_the_mask_says_so() {
    let masks = [
        ("none", 0),
        ("all", u16::MAX),
        ("lldp", 1 << 0xe),
        ("stp,lacp", 0b101),
        // As the kernel with STP off.
        ("stp", 1),
    ];
    for (text, bits) in masks {
        let mut spec = Lab::spec("br0");
        spec.forward_reserved = text.parse::<ReservedMask>().unwrap();
        let (mut lab, [a, b, c]) = Lab::with_bridge(spec, ["a", "b", "c"]);
        for last in 0..16 {
            let reached = lab.relay(a, &unicast(mac(1), reserved(last)));
            let relayed = bits >> last & 1 == 1;
            let expected: &[_] = if relayed { &[b, c] } else { &[] };
            assert_eq!(reached, expected, "mask {text}, address {last:x}");
        }
        let kept = u64::from(16 - bits.count_ones());
        assert_eq!(lab.drops(DropReason::ReservedAddress), kept, "mask {text}");
        lab.assert_accounted();
    }
}

// B12
#[test]
fn the_neighbours_of_the_reserved_block_are_ordinary_multicast() {
    let (mut lab, [a, b, c]) = abc();
    for last in 0x10..=0x2f {
        let reached = lab.relay(a, &unicast(mac(1), reserved(last)));
        assert_eq!(reached, [b, c], "address {last:x}");
    }
    lab.assert_accounted();
}

// B13
#[test]
fn a_reserved_frame_teaches_its_source_unless_it_is_a_pause() {
    for last in 0..16 {
        let (mut lab, [a, ..]) = abc();
        lab.relay(a, &unicast(mac(1), reserved(last)));
        let learned = if last == 1 { None } else { Some(a) };
        assert_eq!(lab.location(mac(1)), learned, "address {last:x}");
        lab.assert_accounted();
    }
}

// B14, B15, C1: Lab::relay compares each copy with what was sent.
#[test]
fn frames_leave_byte_by_byte_as_they_came() {
    let (mut lab, [a, b, c]) = abc();
    let mut state = 1_u64;
    for len in (14..200).chain([1_000, 1_513, 1_514]) {
        let mut frame = of_len(mac(1), MacAddr::BROADCAST, len);
        for byte in &mut frame[12..] {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        // Not by chance a tag that is cut short.
        frame[12] = 0x08;
        assert_eq!(lab.relay(a, &frame), [b, c], "{len} bytes");
    }
    for total in 60..=200 {
        // 28 bytes of IP and a trailer behind them.
        let mut frame = frames::udp4(1, 2, b"");
        frame.resize(total, 0xa5);
        assert_eq!(lab.relay(a, &frame), [b, c], "trailer up to {total} bytes");
    }
    for (tag, control) in [
        (EtherType::VLAN, 1),
        (EtherType::VLAN, 4094),
        (EtherType::VLAN, 0xe000),
        (EtherType::QINQ, 100),
        (EtherType(0x9100), 7),
    ] {
        let frame = tagged_as(&broadcast(mac(1)), tag, control);
        assert_eq!(lab.relay(a, &frame), [b, c], "tag {tag:?}");
    }
    lab.assert_accounted();
}

// B16, C11
#[test]
fn frames_that_end_in_their_header_or_tag_are_dropped() {
    let (mut lab, [a, b, c]) = abc();
    for tag in [EtherType::VLAN, EtherType::QINQ] {
        let whole = tagged_as(&broadcast(mac(1)), tag, 10);
        for len in 0..20 {
            let reached = lab.relay(a, &whole[..len]);
            let expected: &[_] = if len < 18 { &[] } else { &[b, c] };
            assert_eq!(reached, expected, "{len} bytes of {tag:?}");
        }
    }
    assert_eq!(lab.drops(DropReason::Truncated), 36);

    // Any number of tags: only the first is looked at.
    let mut deep = broadcast(mac(1));
    for vlan in 0..100 {
        deep = tagged(&deep, vlan);
        assert_eq!(lab.relay(a, &deep), [b, c]);
    }
    lab.assert_accounted();
}

// B17
#[test]
fn every_type_is_forwarded_unseen() {
    let (mut lab, [a, b, c]) = abc();
    lab.relay(b, &broadcast(mac(2)));
    // LLC lengths, MPLS, PTP, MACsec, experiments, the ends of the range
    for value in [
        0, 3, 46, 0x05dc, 0x05ff, 0x0600, 0x8847, 0x88f7, 0x88e5, 0x88b5, 0xffff,
    ] {
        let frame = ethernet(mac(1), mac(2), EtherType(value), &[0x42; 46]);
        assert_eq!(lab.relay(a, &frame), [b], "type {value:#06x}");
        let frame = ethernet(mac(1), MacAddr::BROADCAST, EtherType(value), &[0x42; 3]);
        assert_eq!(lab.relay(a, &frame), [b, c], "type {value:#06x}");
    }
    lab.assert_accounted();
}

// B18
#[test]
fn a_frame_larger_than_an_egress_takes_is_dropped_there_and_counted() {
    let (mut lab, [a, b, c]) = abc();
    lab.set_mtu(a, 9000);
    lab.set_mtu(c, 9000);
    for (len, fits) in [(1_514, true), (1_518, true), (1_519, false), (9_018, false)] {
        let reached = lab.relay(a, &of_len(mac(1), MacAddr::BROADCAST, len));
        let expected: &[_] = if fits { &[b, c] } else { &[c] };
        assert_eq!(reached, expected, "{len} bytes");
    }
    lab.relay(b, &broadcast(mac(2)));
    assert_eq!(lab.relay(a, &of_len(mac(1), mac(2), 1_519)), []);
    assert_eq!(lab.relay(a, &of_len(mac(1), MacAddr::BROADCAST, 9_019)), []);
    assert_eq!(lab.totals(b).drops(DropReason::TooBig), 4);
    assert_eq!(lab.totals(c).drops(DropReason::TooBig), 1);
    lab.assert_accounted();
}

// B19, B20
#[test]
fn order_is_kept_and_nothing_is_doubled() {
    const FRAMES: u32 = 100_000;
    let (mut lab, [a, b, c]) = abc();
    lab.relay(b, &broadcast(mac(2)));
    let (mut next_at_b, mut next_at_c) = (0, 0);
    let number_of = |frame: &[u8]| u32::from_be_bytes(frame[14..18].try_into().unwrap());
    for first in (0..FRAMES).step_by(500) {
        for number in first..first + 500 {
            // Now to one port, now to all, which must not overtake each other at b.
            let dst = if number % 7 == 0 { MULTICAST } else { mac(2) };
            let frame = ethernet(mac(1), dst, frames::EXPERIMENT, &number.to_be_bytes());
            lab.send(a, &frame);
        }
        lab.run();
        for frame in lab.received(b) {
            assert_eq!(number_of(&frame), next_at_b);
            next_at_b += 1;
        }
        for frame in lab.received(c) {
            assert_eq!(number_of(&frame), next_at_c);
            next_at_c += 7;
        }
    }
    assert_eq!((next_at_b, next_at_c), (FRAMES, FRAMES.next_multiple_of(7)));
    lab.assert_accounted();
}

// B21
#[test]
fn bridges_never_leak_into_each_other() {
    let mut lab = Lab::new();
    let [red, blue] = ["red", "blue"].map(|name| lab.add_bridge(Lab::spec(name)));
    let [a, b] = ["a", "b"].map(|name| lab.add_port(red, name));
    let [c, d] = ["c", "d"].map(|name| lab.add_port(blue, name));
    lab.relay(c, &broadcast(mac(2)));
    lab.pin(mac(3), d);

    let kinds = [
        broadcast(mac(1)),
        unicast(mac(1), mac(2)),
        unicast(mac(1), mac(3)),
        unicast(mac(1), mac(99)),
        unicast(mac(1), MULTICAST),
        unicast(mac(1), MacAddr::new([0x33, 0x33, 0, 0, 0, 1])),
        ethernet(mac(1), mac(2), EtherType(46), &[0; 46]),
    ];
    for frame in &kinds {
        assert_eq!(lab.relay(a, frame), [b]);
        for vlan in [
            0, 1, 2, 3, 10, 20, 99, 100, 101, 555, 1000, 2000, 4000, 4094, 4095,
        ] {
            assert_eq!(lab.relay(a, &tagged(frame, vlan)), [b], "VLAN {vlan}");
        }
    }
    assert_eq!(lab.received(c).len() + lab.received(d).len(), 0);
    lab.assert_accounted();
}

// B24
#[test]
fn a_frame_for_nobody_is_counted_too() {
    let (mut lab, [a]) = Lab::switch(["a"]);
    assert_eq!(lab.relay(a, &broadcast(mac(1))), []);
    assert_eq!(lab.drops(DropReason::NoEgress), 1);

    let b = lab.add_port(0, "b");
    lab.set_up(b, false);
    assert_eq!(lab.relay(a, &broadcast(mac(1))), []);
    assert_eq!(lab.drops(DropReason::NoEgress), 2);
    lab.assert_accounted();
}

#[test]
fn a_hub_repeats_everything_and_learns_nothing() {
    let mut spec = Lab::spec("br0");
    spec.mode = Mode::Hub;
    let (mut lab, [a, b, c]) = Lab::with_bridge(spec, ["a", "b", "c"]);
    // No policy of a switch applies.
    lab.set_flags(b, PortFlags::UP.with(PortFlags::ISOLATED, true));
    lab.set_flag(a, PortFlags::ISOLATED, true);

    lab.relay(b, &broadcast(mac(2)));
    for frame in [
        unicast(mac(1), mac(2)),
        unicast(mac(1), reserved(0)),
        broadcast(MULTICAST),
        broadcast(MacAddr::ZERO),
    ] {
        assert_eq!(lab.relay(a, &frame), [b, c]);
    }
    assert_eq!(lab.relay(a, &frames::runt(mac(1), 9)), []);
    lab.set_up(c, false);
    assert_eq!(lab.relay(a, &broadcast(mac(1))), [b]);
    assert!(lab.fdb().is_empty());
    lab.assert_accounted();
}

#[test]
fn a_wire_is_a_cable() {
    let mut spec = Lab::spec("br0");
    spec.mode = Mode::Wire;
    let (mut lab, [a, b]) = Lab::with_bridge(spec, ["a", "b"]);

    for last in 0..16 {
        let frame = unicast(mac(1), reserved(last));
        assert_eq!(lab.relay(a, &frame), [b]);
        assert_eq!(lab.relay(b, &frame), [a]);
    }
    assert!(lab.fdb().is_empty());
    lab.assert_accounted();
}

#[test]
fn the_mode_of_a_living_bridge_can_be_changed() {
    let (mut lab, [a, b, c]) = abc();
    lab.relay(a, &broadcast(mac(1)));
    let frame = unicast(mac(2), mac(1));
    assert_eq!(lab.relay(b, &frame), [a]);

    lab.set_mode(0, Mode::Hub);
    assert_eq!(lab.relay(b, &frame), [a, c]);

    lab.set_mode(0, Mode::Switch);
    assert_eq!(lab.relay(b, &frame), [a], "what was known is still known");
    lab.assert_accounted();
}
