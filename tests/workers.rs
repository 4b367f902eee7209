//! Several workers share one switch: each flow keeps its order, and the sums are right.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tapswitch::{
    bridge::{Egress, FdbKey, PortId},
    datapath::Datapath,
    sim::{Lab, MemPort, frames},
};

use frames::{EXPERIMENT, ethernet, mac};

const WORKERS: usize = 3;
const FRAMES: u32 = 20_000;

/// A lab with `N` ports, and one thread for each worker that serves its ports until `expected`
/// frames were read by all together.
fn run_workers(lab: &Lab, ports: &[PortId], expected: usize, feed: impl Fn() + Sync) {
    let read = AtomicUsize::new(0);
    let (topology, now) = (lab.topology(), lab.now());
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (topology, read) = (&topology, &read);
            scope.spawn(move || {
                let mut datapath = Datapath::new(worker);
                while read.load(Ordering::Relaxed) < expected {
                    // The ingress side of a port belongs to one worker.
                    for port in ports.iter().filter(|p| p.index() % WORKERS == worker) {
                        let serviced = datapath.service(now, topology, *port);
                        read.fetch_add(serviced.frames, Ordering::Relaxed);
                    }
                    thread::yield_now();
                }
            });
        }
        feed();
    });
}

fn lab(ports: usize) -> (Lab, Vec<PortId>) {
    let mut lab = Lab::with_workers(WORKERS);
    let bridge = lab.add_bridge(Lab::spec("br0"));
    let capacity = 2_000_000;
    let ports = (0..ports)
        .map(|n| lab.add_port_with(bridge, &format!("p{n}"), MemPort::with_capacity(capacity)))
        .collect();
    (lab, ports)
}

// B19, B20, B24
#[test]
fn workers_keep_the_order_of_every_flow() {
    let (mut lab, ports) = lab(6);
    for (n, &port) in (0..).zip(&ports) {
        lab.relay(port, &frames::broadcast(mac(n)));
    }
    // Every host to the next one, and a broadcast now and then.
    let ios: Vec<_> = ports.iter().map(|&port| lab.io(port)).collect();
    let feed = || {
        for number in 0..FRAMES {
            for (n, io) in (0_u16..).zip(&ios) {
                let dst = match number % 10 {
                    0 => tapswitch::wire::MacAddr::BROADCAST,
                    _ => mac((n + 1) % 6),
                };
                assert!(io.inject(&ethernet(mac(n), dst, EXPERIMENT, &number.to_be_bytes())));
            }
        }
    };

    run_workers(&lab, &ports, ports.len() * FRAMES as usize, feed);

    for (n, &port) in (0_u16..).zip(&ports) {
        let mut next = HashMap::new();
        for frame in lab.received(port) {
            let source = frame[11];
            let number = u32::from_be_bytes(frame[14..18].try_into().unwrap());
            let neighbour = (u16::from(source) + 1) % 6 == n;
            let next = next.entry(source).or_insert(0);
            assert_eq!(number, *next, "from host {source} to host {n}");
            *next += if neighbour { 1 } else { 10 };
        }
        assert_eq!(next.len(), 5);
        assert!(next.values().all(|&next| next == FRAMES));
    }
    assert_eq!(lab.fdb().counters().moved, 0);
    assert_eq!(lab.unaccounted(), 0);
    lab.assert_accounted();
}

// A3, A4: a host that answers is known to whichever worker gets the answer
#[test]
fn what_one_worker_learned_the_others_know() {
    let (lab, ports) = lab(3);
    let mut workers: Vec<_> = (0..WORKERS).map(Datapath::new).collect();
    let topology = lab.topology();
    let ios: Vec<_> = ports.iter().map(|&port| lab.io(port)).collect();
    let mut serve = |port: usize| workers[port].service(lab.now(), &topology, ports[port]);
    for n in 0..10_000 {
        // The host moves from port 0 to port 1; port 2 talks to it after each move.
        let host = mac(n % 100);
        for at in [0, 1] {
            ios[at].inject(&frames::broadcast(host));
            serve(at);
            ios.iter().for_each(|io| io.drain(|_| {}));
            // Held after five moves, by the default limit: then it stays where it is.
            let known = lab.fdb().get(FdbKey::new(host, 0)).unwrap().egress;

            ios[2].inject(&frames::unicast(mac(0xfff), host));
            serve(2);
            for (index, io) in ios.iter().enumerate() {
                let expected = usize::from(known == Egress::Port(ports[index]));
                assert_eq!(io.waiting(), expected, "round {n}, port {index}");
                io.drain(|_| {});
            }
        }
    }
    lab.assert_accounted();
}

// A4, A15: learning and moving from all workers at once
#[test]
fn workers_that_learn_the_same_addresses_agree_in_the_end() {
    let (mut lab, ports) = lab(6);
    lab.configure(0, |spec| (spec.fdb_limit, spec.flap_limit) = (64, 0));
    let ios: Vec<_> = ports.iter().map(|&port| lab.io(port)).collect();
    let feed = || {
        for number in 0..5_000_u16 {
            for io in &ios {
                io.inject(&frames::unicast(mac(number % 100), mac(number % 97)));
            }
        }
    };

    run_workers(&lab, &ports, ports.len() * 5_000, feed);

    let entries = lab.entries();
    assert!(entries.len() <= 64, "{} entries", entries.len());
    assert_eq!(usize::try_from(lab.fdb().learned()), Ok(entries.len()));
    assert_eq!(lab.unaccounted(), 0);
    lab.assert_accounted();
    // No worker's memory is stale: the lab's own finds each host where the table has it.
    for (key, entry) in entries {
        let from = ports
            .iter()
            .find(|&&port| Egress::Port(port) != entry.egress);
        for port in &ports {
            lab.received(*port);
        }
        let reached = lab.relay(*from.unwrap(), &frames::unicast(mac(0xfff), key.mac()));
        assert_eq!(reached, [entry.egress.port().unwrap()]);
    }
}
