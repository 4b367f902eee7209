//! Changes that must change nothing, and changes that must change exactly one thing.

mod model;

use model::{
    generator::{Alphabet, Generator},
    steps::{PORTS, Step},
};
use tapswitch::{
    bridge::PortId,
    sim::{Lab, frames},
    wire::MacAddr,
};

const ROUNDS: usize = 200;

/// Random frames: for each round, the port and what it sends.
fn rounds(seed: u64) -> Vec<(usize, Vec<Vec<u8>>)> {
    let mut generator = Generator::new(seed, Alphabet::ALL);
    let frame = |generator: &mut Generator| loop {
        if let Step::Send(port, frame) = generator.step(|_| true) {
            return (port, frame);
        }
    };
    let round = |n: usize| {
        let (port, _) = frame(&mut generator);
        let burst = (0..=n % 150).map(|_| frame(&mut generator).1);
        (port, burst.collect())
    };
    (0..ROUNDS).map(round).collect()
}

fn lab() -> (Lab, [PortId; PORTS]) {
    let mut spec = Lab::spec("br0");
    spec.flap_limit = 0;
    Lab::with_bridge(spec, ["p0", "p1", "p2", "p3", "p4"])
}

/// All that each port got in the end.
fn received(lab: &mut Lab, ports: [PortId; PORTS]) -> Vec<Vec<Vec<u8>>> {
    lab.assert_accounted();
    ports.map(|port| lab.received(port)).into()
}

#[test]
fn a_batch_of_one_and_a_batch_of_many_are_the_same() {
    let ((mut single, ports), (mut batched, _)) = (lab(), lab());
    for (number, (port, burst)) in rounds(1).into_iter().enumerate() {
        for frame in &burst {
            single.send(ports[port], frame);
            single.run();
            batched.send(ports[port], frame);
        }
        batched.run();
        let (one, many) = (received(&mut single, ports), received(&mut batched, ports));
        assert!(one == many, "round {number}");
    }
    let places = |lab: &Lab| {
        let entries = lab.entries().into_iter();
        entries.map(|(key, e)| (key, e.egress)).collect::<Vec<_>>()
    };
    assert_eq!(places(&single), places(&batched));
}

#[test]
fn other_port_numbers_only_give_the_ports_other_numbers() {
    let ((mut straight, ports), (mut turned, _)) = (lab(), lab());
    let turn = |port: usize| (port + 2) % PORTS;
    for (number, (port, burst)) in rounds(2).into_iter().enumerate() {
        for frame in &burst {
            straight.send(ports[port], frame);
            turned.send(ports[turn(port)], frame);
        }
        straight.run();
        turned.run();
        let (here, there) = (received(&mut straight, ports), received(&mut turned, ports));
        for port in 0..PORTS {
            assert!(here[port] == there[turn(port)], "round {number}");
        }
    }
}

#[test]
fn noise_on_another_bridge_changes_nothing() {
    let ((mut quiet, ports), (mut noisy, _)) = (lab(), lab());
    let bridge = noisy.add_bridge(Lab::spec("noise"));
    let others = ["n0", "n1"].map(|name| noisy.add_port(bridge, name));
    for (number, (port, burst)) in rounds(3).into_iter().enumerate() {
        for frame in &burst {
            quiet.send(ports[port], frame);
            noisy.send(ports[port], frame);
            noisy.send(others[number % 2], frame);
        }
        quiet.run();
        noisy.run();
        let (here, there) = (received(&mut quiet, ports), received(&mut noisy, ports));
        assert!(here == there, "round {number}");
        for port in others {
            noisy.received(port);
        }
    }
}

#[test]
fn frames_that_are_dropped_leave_no_trace() {
    let ((mut clean, ports), (mut dirty, _)) = (lab(), lab());
    let pause = frames::unicast(frames::mac(1), MacAddr::new([1, 0x80, 0xc2, 0, 0, 1]));
    let junk = [
        frames::runt(frames::mac(1), 13),
        frames::broadcast(MacAddr::BROADCAST),
        frames::broadcast(MacAddr::ZERO),
        pause,
    ];
    for (number, (port, burst)) in rounds(4).into_iter().enumerate() {
        for frame in &burst {
            clean.send(ports[port], frame);
            dirty.send(ports[port], &junk[number % junk.len()]);
            dirty.send(ports[port], frame);
        }
        clean.run();
        dirty.run();
        let (here, there) = (received(&mut clean, ports), received(&mut dirty, ports));
        assert!(here == there, "round {number}");
    }
}
