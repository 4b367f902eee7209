//! Learning, moving and ageing, through the lab. The rule that a test covers is in its comment.

use std::time::Duration;

use tapswitch::{
    bridge::{DropReason, FdbKey, PortFlags, PortId},
    config::AtLimit,
    sim::{Lab, frames},
    wire::MacAddr,
};

use frames::{broadcast, mac, unicast};

fn abc() -> (Lab, [PortId; 3]) {
    Lab::switch(["a", "b", "c"])
}

fn with_ageing(secs: u64) -> (Lab, [PortId; 3]) {
    let mut spec = Lab::spec("br0");
    spec.ageing = Duration::from_secs(secs);
    Lab::with_bridge(spec, ["a", "b", "c"])
}

// A1, B1
#[test]
fn a_source_is_learned_whatever_the_destination() {
    for dst in [
        MacAddr::BROADCAST,
        MacAddr::new([1, 0, 0x5e, 0, 0, 1]),
        mac(9),
    ] {
        let (mut lab, [a, b, _]) = abc();
        assert_eq!(lab.relay(a, &unicast(mac(1), dst)).len(), 2, "to {dst}");
        for _ in 0..10 {
            assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a], "after {dst}");
        }
        assert_eq!(lab.location(mac(1)), Some(a));
        lab.assert_accounted();
    }
}

// A3
#[test]
fn learning_takes_effect_before_the_next_frame() {
    let mut spec = Lab::spec("br0");
    spec.fdb_limit = 20_000;
    let (mut lab, [a, b, _]) = Lab::with_bridge(spec, ["a", "b", "c"]);

    for n in 0..10_000 {
        lab.relay(a, &broadcast(mac(n)));
        assert_eq!(lab.relay(b, &unicast(mac(0xffff), mac(n))), [a], "host {n}");
    }

    lab.assert_accounted();
}

// A3, within one batch
#[test]
fn learning_takes_effect_within_a_batch() {
    let (mut lab, [a, b, c]) = abc();

    lab.send(a, &broadcast(mac(1)));
    lab.send(a, &unicast(mac(2), mac(1)));
    lab.run();

    assert_eq!((lab.received(b).len(), lab.received(c).len()), (1, 1));
    assert_eq!(lab.drops(DropReason::SamePort), 1);
    lab.assert_accounted();
}

// A4
#[test]
fn a_host_that_moves_is_followed_at_once() {
    let (mut lab, [a, b, c]) = abc();
    lab.relay(a, &broadcast(mac(1)));
    lab.relay(b, &broadcast(mac(1)));

    assert_eq!(lab.relay(c, &unicast(mac(3), mac(1))), [b]);

    assert_eq!(lab.fdb().counters().moved, 1);
    lab.assert_accounted();
}

// A4
#[test]
fn a_move_resets_the_age() {
    let (mut lab, [a, b, c]) = with_ageing(300);
    lab.relay(a, &broadcast(mac(1)));
    lab.skip(Duration::from_secs(290));
    lab.relay(b, &broadcast(mac(1)));
    lab.advance(Duration::from_secs(290));

    assert_eq!(lab.relay(c, &unicast(mac(3), mac(1))), [b]);

    lab.assert_accounted();
}

// A5
#[test]
fn a_port_that_does_not_learn_forwards_all_the_same() {
    let (mut lab, [a, b, c]) = abc();
    lab.set_flag(a, PortFlags::LEARNING, false);

    assert_eq!(lab.relay(a, &broadcast(mac(1))), [b, c]);
    assert_eq!(lab.location(mac(1)), None);

    // Nor does it move what is known elsewhere.
    lab.relay(b, &broadcast(mac(2)));
    lab.relay(a, &broadcast(mac(2)));
    assert_eq!(lab.location(mac(2)), Some(b));

    lab.set_flag(a, PortFlags::LEARNING, true);
    lab.relay(a, &broadcast(mac(1)));
    assert_eq!(lab.location(mac(1)), Some(a));
    lab.assert_accounted();
}

// A6
#[test]
fn an_entry_lives_for_its_ageing_time_and_not_much_longer() {
    for secs in [10, 300, 1_000_000] {
        for swept in [true, false] {
            let (mut lab, [a, b, c]) = with_ageing(secs);
            let tenth = Duration::from_secs(secs) / 10;
            let pass = |lab: &mut Lab, time| {
                if swept {
                    lab.advance(time);
                } else {
                    lab.skip(time);
                }
            };
            lab.relay(a, &broadcast(mac(1)));

            pass(&mut lab, tenth * 9);
            let reached = lab.relay(b, &unicast(mac(2), mac(1)));
            assert_eq!(reached, [a], "0.9 of {secs} s, swept: {swept}");

            pass(&mut lab, tenth * 2);
            let reached = lab.relay(b, &unicast(mac(2), mac(1)));
            assert_eq!(reached, [a, c], "1.1 of {secs} s, swept: {swept}");

            lab.sweep();
            assert_eq!(lab.location(mac(1)), None);
            assert_eq!(lab.fdb().counters().aged, 1);
            lab.assert_accounted();
        }
    }
}

// A6
#[test]
fn the_age_counts_from_the_last_sighting() {
    let (mut lab, [a, b, c]) = with_ageing(300);

    // Sightings closer together than an entry is written down again.
    for _ in 0..2_000 {
        lab.relay(a, &broadcast(mac(1)));
        lab.advance(Duration::from_millis(300));
    }
    lab.advance(Duration::from_secs(269));
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a]);
    lab.advance(Duration::from_secs(61));
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a, c]);
    lab.assert_accounted();
}

// A7
#[test]
fn traffic_towards_a_host_does_not_keep_it_alive() {
    let (mut lab, [a, b, c]) = with_ageing(300);
    lab.relay(a, &broadcast(mac(1)));

    for _ in 0..60 {
        lab.advance(Duration::from_secs(10));
        lab.relay(b, &unicast(mac(2), mac(1)));
    }

    assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a, c]);
    assert_eq!(lab.location(mac(1)), None);
    lab.assert_accounted();
}

// A8
#[test]
fn an_ageing_time_of_zero_learns_nothing_and_always_floods() {
    let (mut lab, [a, b, c]) = with_ageing(0);

    lab.relay(a, &broadcast(mac(1)));
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a, c]);
    assert!(lab.fdb().is_empty());

    lab.configure(0, |spec| spec.ageing = Duration::from_secs(300));
    lab.relay(a, &broadcast(mac(1)));
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a]);

    lab.configure(0, |spec| spec.ageing = Duration::ZERO);
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a, c]);
    lab.assert_accounted();
}

// A9
#[test]
fn static_entries_never_age() {
    let (mut lab, [a, b, _]) = with_ageing(10);
    lab.pin(mac(1), a);
    lab.relay(a, &broadcast(mac(2)));

    lab.advance(Duration::from_secs(1_000_000));

    assert_eq!(lab.relay(b, &unicast(mac(3), mac(1))), [a]);
    assert_eq!(lab.fdb().counters().aged, 1);
    lab.assert_accounted();
}

// A10
#[test]
fn a_static_entry_is_not_moved_by_its_address_appearing_elsewhere() {
    let (mut lab, [a, b, c]) = abc();
    lab.pin(mac(1), a);

    assert_eq!(lab.relay(b, &broadcast(mac(1))), [a, c]);
    assert_eq!(lab.relay(c, &unicast(mac(3), mac(1))), [a]);
    assert_eq!(lab.fdb().counters().static_violation, 1);

    lab.set_flag(b, PortFlags::LOCKED, true);
    assert_eq!(lab.relay(b, &broadcast(mac(1))), []);
    assert_eq!(lab.drops(DropReason::Locked), 1);
    lab.assert_accounted();
}

// A4, A6: an entry that is dead but not swept yet
#[test]
fn an_aged_address_seen_elsewhere_is_new_and_not_moved() {
    let (mut lab, [a, b, c]) = with_ageing(10);
    lab.relay(a, &broadcast(mac(1)));
    lab.skip(Duration::from_secs(20));

    lab.relay(b, &broadcast(mac(1)));

    assert_eq!(lab.relay(c, &unicast(mac(3), mac(1))), [b]);
    let counters = lab.fdb().counters();
    assert_eq!((counters.moved, counters.aged), (0, 1));
    assert_eq!(lab.fdb().learned(), 2);
    lab.assert_accounted();
}

// A18
#[test]
fn the_same_address_in_two_bridges_is_two_addresses() {
    let mut lab = Lab::new();
    let [red, blue] = ["red", "blue"].map(|name| lab.add_bridge(Lab::spec(name)));
    let [a, b, c] = ["a", "b", "c"].map(|name| lab.add_port(red, name));
    let [d, e, f] = ["d", "e", "f"].map(|name| lab.add_port(blue, name));

    lab.relay(a, &broadcast(mac(1)));
    lab.relay(d, &broadcast(mac(1)));
    lab.relay(b, &broadcast(mac(2)));
    // The cache in front of both tables must not mix them up either.
    for _ in 0..3 {
        assert_eq!(lab.relay(c, &unicast(mac(3), mac(1))), [a]);
        assert_eq!(lab.relay(f, &unicast(mac(3), mac(1))), [d]);
        assert_eq!(lab.relay(e, &unicast(mac(4), mac(2))), [d, f]);
    }
    lab.fdb_of(red).flush(|_, _| true);
    assert_eq!(lab.relay(f, &unicast(mac(3), mac(1))), [d]);
    lab.assert_accounted();
}

// A19
#[test]
fn an_address_that_moves_too_often_is_held_for_a_while() {
    let (mut lab, [a, b, c]) = abc();
    lab.relay(a, &broadcast(mac(1)));
    for port in [b, a, b, a, b] {
        lab.advance(Duration::from_secs(1));
        lab.relay(port, &broadcast(mac(1)));
        assert_eq!(lab.location(mac(1)), Some(port));
    }

    // Five moves: the sixth is refused, its frame is not.
    lab.advance(Duration::from_secs(1));
    assert_eq!(lab.relay(a, &broadcast(mac(1))), [b, c]);
    assert_eq!(lab.location(mac(1)), Some(b));
    assert_eq!(lab.fdb().counters().frozen, 1);
    lab.advance(Duration::from_secs(178));
    lab.relay(a, &broadcast(mac(1)));
    assert_eq!(lab.location(mac(1)), Some(b));

    lab.advance(Duration::from_secs(2));
    lab.relay(a, &broadcast(mac(1)));
    assert_eq!(lab.location(mac(1)), Some(a));
    assert_eq!(lab.fdb().counters().moved, 6);
    lab.assert_accounted();
}

// A19
#[test]
fn slow_moves_and_a_limit_of_zero_hold_nothing() {
    let (mut lab, [a, b, _]) = abc();
    lab.relay(a, &broadcast(mac(1)));
    for n in 0..20 {
        lab.advance(Duration::from_secs(60));
        let port = if n % 2 == 0 { b } else { a };
        lab.relay(port, &broadcast(mac(1)));
        assert_eq!(lab.location(mac(1)), Some(port), "move {n}");
    }

    lab.configure(0, |spec| spec.flap_limit = 0);
    for n in 0..100 {
        let port = if n % 2 == 0 { b } else { a };
        lab.relay(port, &broadcast(mac(2)));
        assert_eq!(lab.location(mac(2)), Some(port), "move {n}");
    }
    lab.assert_accounted();
}

// A1, C6: tagged and untagged frames of one host have entries of their own
#[test]
fn learning_is_by_vlan_and_address() {
    let (mut lab, [a, b, c]) = abc();
    lab.relay(a, &frames::tagged(&broadcast(mac(1)), 10));
    lab.relay(b, &frames::tagged(&broadcast(mac(1)), 20));

    let to_host = unicast(mac(3), mac(1));
    assert_eq!(lab.relay(c, &frames::tagged(&to_host, 10)), [a]);
    assert_eq!(lab.relay(c, &frames::tagged(&to_host, 20)), [b]);
    assert_eq!(lab.relay(c, &to_host), [a, b]);
    // Priority is no part of it, and VLAN 0 is none.
    assert_eq!(lab.relay(c, &frames::tagged(&to_host, 0xe00a)), [a]);
    assert_eq!(lab.relay(c, &frames::tagged(&to_host, 0xe000)), [a, b]);
    assert_eq!(
        lab.fdb()
            .get(FdbKey::new(mac(1), 20))
            .unwrap()
            .egress
            .port(),
        Some(b)
    );
    assert_eq!(lab.fdb().counters().moved, 0);
    lab.assert_accounted();
}

// A15, with learning refused
#[test]
fn a_full_fdb_forwards_what_it_does_not_learn() {
    let mut spec = Lab::spec("br0");
    (spec.fdb_limit, spec.at_limit) = (8, AtLimit::Refuse);
    let (mut lab, [a, b, c]) = Lab::with_bridge(spec, ["a", "b", "c"]);

    for n in 0..16 {
        assert_eq!(lab.relay(a, &broadcast(mac(n))), [b, c]);
    }

    assert_eq!(lab.fdb().learned(), 8);
    assert_eq!(lab.fdb().counters().refused_full, 8);
    for n in 0..16 {
        let reached = lab.relay(b, &unicast(mac(0), mac(n)));
        let expected: &[_] = if n < 8 { &[a] } else { &[a, c] };
        // The source is known at a and moves; that needs no room.
        if n > 0 {
            assert_eq!(reached, expected, "host {n}");
        }
    }
    lab.assert_accounted();
}

/// A flow of `n` frames from host 1 to host 2, all at once, and how many of them came to each.
fn flow(lab: &mut Lab, from: PortId, to: &[PortId], n: usize) -> Vec<usize> {
    for _ in 0..n {
        lab.send(from, &unicast(mac(1), mac(2)));
    }
    lab.run();
    to.iter().map(|&port| lab.received(port).len()).collect()
}

// A3, A4, A5: what a worker remembers of a flow is void as soon as anything has changed.
#[test]
fn a_flow_that_is_remembered_follows_every_change() {
    let (mut lab, [a, b, c]) = with_ageing(300);
    let both = [b, c];
    lab.relay(a, &broadcast(mac(1)));
    lab.relay(b, &broadcast(mac(2)));
    assert_eq!(flow(&mut lab, a, &both, 50), [50, 0]);

    // The destination moves in the middle of the flow.
    lab.relay(c, &broadcast(mac(2)));
    assert_eq!(flow(&mut lab, a, &both, 50), [0, 50]);

    // Its port goes down, which flushes it, and comes back.
    lab.set_up(c, false);
    assert_eq!(flow(&mut lab, a, &both, 50), [50, 0], "flooded");
    lab.set_up(c, true);
    assert_eq!(
        flow(&mut lab, a, &both, 50).iter().sum::<usize>(),
        100,
        "flooded"
    );
    lab.relay(c, &broadcast(mac(2)));
    assert_eq!(flow(&mut lab, a, &both, 50), [0, 50]);

    // It is isolated from the sender, and no longer.
    for set in [true, false] {
        lab.set_flag(a, PortFlags::ISOLATED, set);
        lab.set_flag(c, PortFlags::ISOLATED, set);
        let expected = if set { [0, 0] } else { [0, 50] };
        assert_eq!(flow(&mut lab, a, &both, 50), expected, "isolated: {set}");
    }

    // It is pinned elsewhere, forgotten, and dies of age while the flow goes on.
    lab.pin(mac(2), b);
    assert_eq!(flow(&mut lab, a, &both, 50), [50, 0]);
    lab.fdb().remove(FdbKey::new(mac(2), 0));
    assert_eq!(flow(&mut lab, a, &both, 50), [50, 50]);
    lab.relay(c, &broadcast(mac(2)));
    for _ in 0..29 {
        lab.skip(Duration::from_secs(10));
        assert_eq!(flow(&mut lab, a, &both, 20), [0, 20]);
    }
    lab.skip(Duration::from_secs(12));
    assert_eq!(flow(&mut lab, a, &both, 20), [20, 20]);

    // The same frame from another port is another flow.
    assert_eq!(flow(&mut lab, b, &[a, c], 20), [20, 20]);
    assert_eq!(lab.location(mac(1)), Some(b));
    lab.assert_accounted();
}
