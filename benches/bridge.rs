//! One decision: `Bridge::process` for each kind of frame, with 1024 hosts known.
//!
//! `cargo bench --bench bridge`. Every figure is for one frame.

mod support;

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{bare_lookup, host, port, shuffled};
use tapswitch::{
    bridge::{
        Bridge, Decision, DropReason, Egress, Fdb, FdbCache, FloodClass, Ingress, Learn, PortFlags,
    },
    sim::{Lab, frames},
    time::Timestamp,
    wire::MacAddr,
};

const NOW: Timestamp = Timestamp::from_secs(1);
const HOSTS: u32 = 1 << 10;

/// Hosts with an even number are behind port 0, the others behind port 1; port 2 has none.
fn bridge(cache: &mut FdbCache) -> Bridge {
    let mut spec = Lab::spec("br0");
    spec.flap_limit = 0;
    let ports = [0, 1, 2].map(|n| (port(n), PortFlags::DEFAULT));
    let bridge = Bridge::new(&spec, &ports, Arc::new(Fdb::new()));
    for n in 0..HOSTS {
        let ingress = Ingress::Port(port(n as usize % 2));
        bridge.process(NOW, ingress, &frames::broadcast(host(n)), cache);
    }
    bridge
}

fn process(criterion: &mut Criterion) {
    let mut cache = FdbCache::new();
    let bridge = bridge(&mut cache);
    let mut group = criterion.benchmark_group("bridge");
    bare_lookup(&mut group, HOSTS, &shuffled(HOSTS, 64));
    group.throughput(Throughput::Elements(1));
    let multicast = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);
    let flood = Decision::Flood;
    for (name, frame, expected) in [
        (
            "hit",
            frames::unicast(host(0), host(1)),
            Decision::Forward(Egress::Port(port(1))),
        ),
        (
            "miss_tagged",
            frames::tagged(&frames::unicast(host(0), host(1)), 10),
            flood(FloodClass::UnknownUnicast),
        ),
        (
            "miss",
            frames::unicast(host(0), host(HOSTS + 1)),
            flood(FloodClass::UnknownUnicast),
        ),
        (
            "broadcast",
            frames::broadcast(host(0)),
            flood(FloodClass::Broadcast),
        ),
        (
            "multicast",
            frames::unicast(host(0), multicast),
            flood(FloodClass::Multicast),
        ),
        (
            "same_port",
            frames::unicast(host(0), host(2)),
            Decision::Drop(DropReason::SamePort),
        ),
        (
            "truncated",
            frames::runt(host(0), 13),
            Decision::Drop(DropReason::Truncated),
        ),
    ] {
        let ingress = Ingress::Port(port(0));
        let verdict = bridge.process(NOW, ingress, &frame, &mut cache);
        assert_eq!(verdict.decision, expected, "{name}");
        group.bench_function(name, |b| {
            b.iter(|| bridge.process(NOW, ingress, black_box(&frame), &mut cache));
        });
    }

    // The host changes its port with every frame.
    let frame = frames::unicast(host(0), host(1));
    let mut turn = 0;
    group.bench_function("move", |b| {
        b.iter(|| {
            turn = 2 - turn;
            let ingress = Ingress::Port(port(turn));
            bridge.process(NOW, ingress, black_box(&frame), &mut cache)
        });
    });
    let verdict = bridge.process(NOW, Ingress::Port(port(2 - turn)), &frame, &mut cache);
    assert!(matches!(verdict.learn, Learn::Moved { .. }));
    group.finish();
}

criterion_group!(benches, process);
criterion_main!(benches);
