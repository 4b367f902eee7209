//! The FDB's limits, flushes and dumps, through the lab.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tapswitch::{
    bridge::{DropReason, Egress, EntryKind, FdbCache, FdbKey, PortFlags, PortId},
    config::{AtLimit, BridgeSpec},
    sim::{Lab, frames},
    time::Timestamp,
    wire::MacAddr,
};

use frames::{broadcast, mac, unicast};

fn limited(limit: u32, at_limit: AtLimit) -> BridgeSpec {
    let mut spec = Lab::spec("br0");
    (spec.fdb_limit, spec.at_limit) = (limit, at_limit);
    spec
}

/// Learned entries behind `port`.
fn behind(lab: &Lab, port: PortId) -> usize {
    let here = |entry: &tapswitch::bridge::FdbEntry| {
        entry.egress == Egress::Port(port) && entry.kind == EntryKind::Learned
    };
    lab.entries().iter().filter(|(_, e)| here(e)).count()
}

// A12
#[test]
fn a_flush_takes_what_it_names_and_nothing_else() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    for n in 0..99 {
        let port = [a, b, c][usize::from(n % 3)];
        lab.relay(port, &frames::tagged(&broadcast(mac(n)), n % 2));
    }
    lab.pin(mac(1000), a);

    assert_eq!(lab.flush(a), 33);
    assert_eq!([a, b, c].map(|port| behind(&lab, port)), [0, 33, 33]);

    let vlan_1 = lab.fdb().flush(|key, _| key.vlan() == 1).len();
    assert_eq!(vlan_1, 33);
    assert_eq!(lab.fdb().learned(), 33);

    let learned = lab.fdb().flush(|_, entry| entry.kind == EntryKind::Learned);
    assert_eq!((learned.len(), lab.fdb().len()), (33, 1));

    lab.fdb().flush(|_, _| true);
    assert!(lab.fdb().is_empty());
    assert_eq!(lab.fdb().learned(), 0);
    lab.assert_accounted();
}

// A12
#[test]
fn a_flushed_address_is_unknown_to_the_very_next_frame() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    for _ in 0..100 {
        lab.relay(a, &broadcast(mac(1)));
        assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a]);
        assert!(lab.fdb().remove(FdbKey::new(mac(1), 0)).is_some());
        assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a, c]);
    }
    lab.assert_accounted();
}

// A13, B22
#[test]
fn a_port_that_is_unplugged_takes_its_addresses_along() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    lab.relay(a, &broadcast(mac(1)));
    lab.relay(b, &broadcast(mac(2)));
    lab.pin(mac(3), a);
    // On its way when the port goes.
    lab.send(b, &unicast(mac(2), mac(1)));

    lab.remove_port(a);
    lab.run();

    assert_eq!(lab.received(c).len(), 1);
    assert_eq!(lab.entries().len(), 1);
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(3))), [c]);
    lab.assert_accounted();
}

// A14
#[test]
fn a_port_that_goes_down_loses_what_was_learned_behind_it() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    lab.relay(a, &broadcast(mac(1)));
    lab.pin(mac(3), a);

    lab.set_up(a, false);

    assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [c]);
    assert_eq!(lab.relay(a, &broadcast(mac(1))), []);
    assert_eq!(lab.drops(DropReason::PortDown), 1);
    // The static entry stays and says where its frames cannot go.
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(3))), []);
    assert_eq!(lab.drops(DropReason::EgressDown), 1);

    lab.set_up(a, true);
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(3))), [a]);
    lab.assert_accounted();
}

// B22
#[test]
fn ports_come_and_go_without_harm_to_the_others() {
    let (mut lab, [a, b]) = Lab::switch(["a", "b"]);
    lab.relay(a, &broadcast(mac(1)));
    lab.relay(b, &broadcast(mac(2)));
    for cycle in 0..1_000 {
        let guest = lab.add_port(0, "guest");
        lab.relay(guest, &broadcast(mac(3)));
        assert_eq!(lab.relay(a, &unicast(mac(1), mac(2))), [b], "cycle {cycle}");
        assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a], "cycle {cycle}");
        assert_eq!(lab.relay(a, &broadcast(mac(1))), [b, guest]);
        lab.remove_port(guest);
    }
    lab.assert_accounted();
}

// A15, A16
#[test]
fn only_learned_entries_count_towards_the_limit() {
    let (mut lab, [a, b, _]) = Lab::with_bridge(limited(4, AtLimit::Refuse), ["a", "b", "c"]);
    for n in 0..4 {
        lab.pin(mac(100 + n), a);
        lab.relay(a, &broadcast(mac(n)));
    }
    assert_eq!((lab.fdb().len(), lab.fdb().learned()), (8, 4));
    lab.relay(a, &broadcast(mac(5)));
    assert_eq!(lab.fdb().counters().refused_full, 1);

    // At the limit a static entry still finds room, and one over a learned one frees its slot.
    for (kind, n) in [(EntryKind::Static, 0), (EntryKind::Local, 1)] {
        let key = FdbKey::new(mac(n), 0);
        lab.fdb().pin(key, Egress::Port(b), kind, lab.now());
        assert_eq!(lab.fdb().learned(), 3, "{kind:?}");
        lab.relay(a, &broadcast(mac(10 + n)));
        assert_eq!(lab.fdb().learned(), 4, "{kind:?}");
    }
    // Deleting a static entry frees nothing, deleting a learned one does.
    lab.fdb().remove(FdbKey::new(mac(100), 0));
    assert_eq!(lab.fdb().learned(), 4);
    lab.fdb().remove(FdbKey::new(mac(2), 0));
    assert_eq!(lab.fdb().learned(), 3);
    lab.assert_accounted();
}

// A17
#[test]
fn a_greedy_port_gets_its_share_and_no_more() {
    let names = ["p1", "p2", "p3", "p4", "p5", "p6"];
    let (mut lab, ports) = Lab::with_bridge(limited(10, AtLimit::Fair), names);
    let [.., greedy] = ports;
    for n in 0..10_u16 {
        lab.advance(Duration::from_millis(1));
        lab.relay(ports[usize::from(n / 2)], &broadcast(mac(n)));
    }

    for n in 100..116 {
        lab.advance(Duration::from_millis(1));
        assert_eq!(lab.relay(greedy, &broadcast(mac(n))).len(), 5);
    }

    assert_eq!(behind(&lab, greedy), 3);
    for port in ports {
        assert!(behind(&lab, port) >= 1, "{} has none", lab.name(port));
    }
    assert_eq!(lab.fdb().learned(), 10);
    let counters = lab.fdb().counters();
    assert_eq!((counters.evicted, counters.refused_full), (3, 13));
    lab.assert_accounted();
}

// A17
#[test]
fn the_oldest_entry_of_the_greediest_port_makes_room() {
    let (mut lab, [a, b, c]) = Lab::with_bridge(limited(3, AtLimit::Fair), ["a", "b", "c"]);
    for n in [1, 2, 3] {
        lab.advance(Duration::from_secs(2));
        lab.relay(a, &broadcast(mac(n)));
    }
    lab.advance(Duration::from_secs(2));
    lab.relay(a, &broadcast(mac(1)));

    assert_eq!(lab.relay(b, &broadcast(mac(9))), [a, c]);

    let known: Vec<_> = lab.entries().iter().map(|(key, _)| key.mac()).collect();
    assert_eq!(known, [mac(1), mac(3), mac(9)]);
    lab.assert_accounted();
}

// A4, A17
#[test]
fn hosts_that_moved_count_for_the_port_where_they_are() {
    let (mut lab, [a, b, _]) = Lab::with_bridge(limited(4, AtLimit::Fair), ["a", "b", "c"]);
    for n in 0..4 {
        lab.relay(a, &broadcast(mac(n)));
    }
    for n in 0..4 {
        lab.relay(b, &broadcast(mac(n)));
    }

    // Now a has none and may claim its share of what b has.
    for n in 10..14 {
        lab.relay(a, &broadcast(mac(n)));
    }

    assert_eq!([a, b].map(|port| behind(&lab, port)), [3, 1]);
    lab.assert_accounted();
}

// A17, under attack
#[test]
fn a_flood_of_addresses_does_not_displace_a_quiet_port() {
    let (mut lab, [quiet, attacker, c]) =
        Lab::with_bridge(limited(64, AtLimit::Fair), ["quiet", "attacker", "c"]);
    lab.relay(quiet, &broadcast(mac(1)));

    for n in 0..20_000 {
        lab.relay(attacker, &broadcast(mac(1000 + n)));
        if n % 100 == 0 {
            lab.advance(Duration::from_millis(1));
        }
    }

    assert_eq!(lab.relay(c, &unicast(mac(2), mac(1))), [quiet]);
    assert_eq!(lab.location(mac(2)), Some(c));
    assert_eq!(lab.fdb().learned(), 64);
    lab.assert_accounted();
}

// A17: what an eviction costs grows with the table, so how many there are must shrink
#[test]
fn a_flood_of_addresses_buys_no_more_work_from_a_large_fdb() {
    for limit in [64_u32, 8 << 10, 64 << 10] {
        let (lab, [a, b]) = Lab::with_bridge(limited(limit, AtLimit::Fair), ["a", "b"]);
        let (fdb, policy, mut cache) = (lab.fdb(), lab.policy(0), FdbCache::new());
        let key = |n: u32| {
            let mac = MacAddr::from_u48(0x0200_0000_0000 + u64::from(n));
            FdbKey::new(mac, 0)
        };
        let mut now = Timestamp::from_secs(1);
        for n in 0..limit {
            fdb.learn(now, key(n), Egress::Port(a), &policy, &mut cache);
        }

        for n in 0..10_000 {
            now = now + Duration::from_micros(100);
            fdb.learn(now, key(limit + n), Egress::Port(b), &policy, &mut cache);
        }

        // Each eviction looks at the whole table: in this one second, about a million entries.
        let evicted = fdb.counters().evicted;
        let visited = evicted * u64::from(limit);
        assert!(
            visited < 1_200_000,
            "{evicted} evictions from {limit} entries"
        );
        assert!(evicted > 0, "no room was made among {limit}");
    }
}

// A20
#[test]
fn a_dump_during_learning_has_every_lasting_entry_once() {
    const LASTING: u16 = 1_000;
    let mut spec = Lab::spec("br0");
    spec.fdb_limit = 100_000;
    let (mut lab, [a, b, _]) = Lab::with_bridge(spec, ["a", "b", "c"]);
    for n in 0..LASTING {
        lab.relay(a, &broadcast(mac(n)));
    }
    let (fdb, policy) = (Arc::clone(lab.fdb()), lab.policy(0));
    let stop = AtomicBool::new(false);

    let dumps = thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let mut cache = FdbCache::new();
            let mut rounds = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                for n in 0..500 {
                    let key = FdbKey::new(mac(10_000 + n), 0);
                    fdb.learn(Timestamp::ZERO, key, Egress::Port(b), &policy, &mut cache);
                }
                fdb.flush(|_, entry| entry.egress == Egress::Port(b));
                rounds += 1;
            }
            rounds
        });
        let dumps: Vec<_> = (0..200).map(|_| fdb.entries()).collect();
        stop.store(true, Ordering::Relaxed);
        churn.join().unwrap();
        dumps
    });

    for dump in dumps {
        let keys: HashSet<_> = dump.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys.len(), dump.len(), "a row appears twice");
        let lasting = (0..LASTING).filter(|&n| keys.contains(&FdbKey::new(mac(n), 0)));
        assert_eq!(lasting.count(), usize::from(LASTING));
        for (key, entry) in dump {
            let port = if key.mac() < mac(10_000) { a } else { b };
            assert_eq!(entry.egress, Egress::Port(port), "a torn row: {key:?}");
        }
    }
    assert_eq!(usize::try_from(lab.fdb().learned()), Ok(lab.fdb().len()));
    lab.assert_accounted();
}

// B9, its seven cases
#[test]
fn a_locked_port_admits_only_sources_that_the_fdb_has_there() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    let frame = broadcast(mac(1));
    let tagged = frames::tagged(&frame, 10);
    lab.set_flag(a, PortFlags::LOCKED, true);

    assert_eq!(lab.relay(a, &frame), [], "unknown source");
    assert!(lab.fdb().is_empty(), "a locked port teaches nothing");
    assert_eq!(lab.relay(b, &unicast(mac(2), mac(1))), [a, c], "towards it");

    lab.pin(mac(1), a);
    assert_eq!(lab.relay(a, &frame), [b, c], "static entry");
    assert_eq!(lab.relay(a, &tagged), [], "static entry of another VLAN");
    let key = FdbKey::new(mac(1), 10);
    lab.fdb()
        .pin(key, Egress::Port(a), EntryKind::Static, lab.now());
    assert_eq!(lab.relay(a, &tagged), [b, c], "static entry of the VLAN");

    lab.pin(mac(1), b);
    assert_eq!(lab.relay(a, &frame), [], "static entry elsewhere");

    lab.fdb().flush(|_, _| true);
    lab.set_flag(a, PortFlags::LOCKED, false);
    assert_eq!(lab.relay(a, &frame), [b, c], "unlocked");
    lab.set_flag(a, PortFlags::LOCKED, true);
    assert_eq!(lab.relay(a, &frame), [b, c], "learned before it was locked");
    assert_eq!(lab.drops(DropReason::Locked), 3);
    lab.assert_accounted();
}

// B10
#[test]
fn addresses_move_away_from_a_locked_port_but_not_to_it() {
    let (mut lab, [a, b, c]) = Lab::switch(["a", "b", "c"]);
    lab.relay(b, &broadcast(mac(1)));
    lab.set_flag(a, PortFlags::LOCKED, true);

    assert_eq!(lab.relay(a, &broadcast(mac(1))), []);
    assert_eq!(lab.location(mac(1)), Some(b));

    lab.set_flag(a, PortFlags::LOCKED, false);
    lab.relay(a, &broadcast(mac(2)));
    lab.set_flag(a, PortFlags::LOCKED, true);
    assert_eq!(lab.relay(b, &broadcast(mac(2))), [a, c]);
    assert_eq!(lab.location(mac(2)), Some(b));
    lab.assert_accounted();
}
