//! Seven mistakes that a switch makes when decision and I/O are one function. None of them here.

use std::time::Duration;

use tapswitch::{
    bridge::{DropReason, PortFlags},
    sim::{Lab, MemState, frames},
    wire::MacAddr,
};

// B6
#[test]
fn multicast_that_is_not_broadcast_is_flooded() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    let neighbour_discovery = MacAddr::new([0x33, 0x33, 0xff, 0, 0, 2]);

    let reached = lab.relay(a, &frames::unicast(frames::mac(1), neighbour_discovery));

    assert_eq!(reached, [b, c]);
    lab.assert_accounted();
}

// B4
#[test]
fn unknown_unicast_is_flooded_except_to_its_ingress() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);

    let reached = lab.relay(b, &frames::unicast(frames::mac(1), frames::mac(9)));

    assert_eq!(reached, [a, c]);
    lab.assert_accounted();
}

// A6
#[test]
fn learned_entries_age() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    lab.relay(a, &frames::broadcast(frames::mac(1)));
    lab.advance(Duration::from_secs(400));

    let reached = lab.relay(b, &frames::unicast(frames::mac(2), frames::mac(1)));

    assert_eq!(reached, [a, c]);
    lab.assert_accounted();
}

// A2
#[test]
fn group_and_zero_sources_are_dropped_and_teach_nothing() {
    let (mut lab, [a, ..]) = Lab::switch(["a", "b", "c"]);
    let multicast = MacAddr::new([1, 0, 0x5e, 0, 0, 1]);

    for source in [multicast, MacAddr::BROADCAST, MacAddr::ZERO] {
        for _ in 0..10 {
            let reached = lab.relay(a, &frames::broadcast(source));
            assert_eq!(reached, [], "source {source}");
        }
    }

    assert!(lab.fdb().is_empty());
    assert_eq!(lab.drops(DropReason::SrcGroup), 20);
    assert_eq!(lab.drops(DropReason::SrcZero), 10);
    lab.assert_accounted();
}

// B2
#[test]
fn a_destination_behind_the_ingress_is_filtered() {
    let (mut lab, [a, ..]) = Lab::switch(["a", "b", "c"]);
    lab.relay(a, &frames::broadcast(frames::mac(1)));

    let reached = lab.relay(a, &frames::unicast(frames::mac(2), frames::mac(1)));

    assert_eq!(reached, []);
    assert_eq!(lab.totals(a).drops(DropReason::SamePort), 1);
    lab.assert_accounted();
}

// B16
#[test]
fn a_frame_shorter_than_its_header_is_dropped_and_counted() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);

    for len in 0..=15 {
        let reached = lab.relay(a, &frames::runt(frames::mac(1), len));
        let expected: &[_] = if len < 14 { &[] } else { &[b, c] };
        assert_eq!(reached, expected, "{len} bytes");
    }

    assert_eq!(lab.totals(a).drops(DropReason::Truncated), 14);
    lab.assert_accounted();
}

// B5, B24
#[test]
fn a_port_that_fails_takes_no_other_port_with_it() {
    let (mut lab, [a, b, c, d]) = Lab::switch(["a", "b", "c", "d"]);

    for (state, reason) in [
        (MemState::Full, DropReason::EgressFull),
        (MemState::Down, DropReason::EgressDown),
        (MemState::Refusing, DropReason::EgressRefused),
        (MemState::Gone, DropReason::EgressGone),
    ] {
        lab.io(b).set_state(state);
        let reached = lab.relay(a, &frames::broadcast(frames::mac(1)));
        assert_eq!(reached, [c, d], "b is {state:?}");
        assert_eq!(lab.totals(b).drops(reason), 1, "b is {state:?}");
    }

    assert!(lab.flags(b).contains(PortFlags::UP));
    lab.assert_accounted();
}
