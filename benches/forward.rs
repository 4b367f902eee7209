//! Parse, decide, count and plan: `Datapath::forward`, against look-ups in a plain `HashMap`.
//!
//! `cargo bench --bench forward`. A batch is filled beforehand and stays: `forward` reads it, and
//! only `transmit` would empty it. So nothing but `forward` is timed.
//!
//! The requirement is that a known unicast frame costs at most four bare look-ups with as many
//! hosts: divide the times for one element of `spread/N` and `bare_hashmap_spread/N`, where every
//! batch has other hosts, and of `unicast/batch_64/N` and `bare_hashmap_lookup/N`, where the same
//! batch comes again and again and all memory is warm.

mod support;

use std::{cell::RefCell, hint::black_box, time::Duration};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, WallTime},
};
use support::{bare_lookup, bare_map, host, label, shuffled, sizes};
use tapswitch::{
    bridge::{Egress, PortId},
    datapath::Datapath,
    sim::{Lab, frames},
    wire::{MacAddr, VirtioNetHdr},
};

const BATCHES: [usize; 3] = [1, 8, 64];

/// A lab where hosts with an even number are behind port 0 and the others behind port 1; port 2
/// has none.
fn lab(hosts: u32) -> (Lab, [PortId; 3]) {
    let mut spec = Lab::spec("br0");
    spec.fdb_limit = hosts;
    let (mut lab, ports) = Lab::with_bridge(spec, ["a", "b", "c"]);
    for n in 0..hosts {
        lab.relay(ports[n as usize % 2], &frames::broadcast(host(n)));
    }
    assert_eq!(lab.fdb().learned(), hosts);
    (lab, ports)
}

/// Times `forward` over a batch of `frames` from port 0, all of which go to `targets`.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    lab: &Lab,
    frames: &[Vec<u8>],
    targets: &[PortId],
) {
    let topology = lab.topology();
    let ingress = lab.ports().next().and_then(|port| topology.port(port));
    let ingress = ingress.expect("the lab has ports");
    let mut datapath = Datapath::new(0);
    for frame in frames {
        assert!(
            datapath
                .batch_mut()
                .push_frame(&VirtioNetHdr::none(), frame)
        );
    }
    datapath.forward(lab.now(), &topology, ingress);
    let expected = (0..frames.len())
        .flat_map(|frame| targets.iter().map(move |&to| (frame, Egress::Port(to))));
    assert!(datapath.planned().eq(expected), "{name} goes elsewhere");

    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function(name, |b| {
        b.iter(|| datapath.forward(lab.now(), &topology, ingress));
    });
    assert_eq!(datapath.batch_mut().len(), frames.len());
}

/// Times `forward` over batches of 64 that go through all hosts in no order, and as many bare
/// look-ups of the destinations.
fn spread(group: &mut BenchmarkGroup<'_, WallTime>, hosts: u32) {
    const ROUNDS: usize = 1024;
    let (lab, [a, b, _]) = lab(hosts);
    let topology = lab.topology();
    let ingress = topology.port(a).expect("the lab has a port");
    let pairs: Vec<(MacAddr, MacAddr)> = shuffled(hosts, 2 * 64 * ROUNDS)
        .chunks(2)
        .map(|pair| (host(pair[0] & !1), host(pair[1] | 1)))
        .collect();
    let keys: Vec<u64> = pairs.iter().map(|(_, dst)| dst.to_u48()).collect();
    let map = bare_map(hosts);
    let mut rounds = keys.chunks(64).cycle();
    group.throughput(Throughput::Elements(64));
    group.bench_function(format!("bare_hashmap_spread/{}", label(hosts)), |b| {
        b.iter_custom(|iterations| {
            timed(iterations, &mut rounds, |round| {
                for key in round {
                    black_box(map.get(black_box(key)));
                }
            })
        });
    });

    let datapath = RefCell::new(Datapath::new(0));
    let mut rounds = pairs.chunks(64).cycle().inspect(|round| {
        let mut datapath = datapath.borrow_mut();
        datapath.batch_mut().clear();
        for &(src, dst) in *round {
            let frame = frames::unicast(src, dst);
            datapath
                .batch_mut()
                .push_frame(&VirtioNetHdr::none(), &frame);
        }
    });
    rounds.next();
    datapath.borrow_mut().forward(lab.now(), &topology, ingress);
    let there = (0..64).map(|frame| (frame, Egress::Port(b)));
    assert!(
        datapath.borrow().planned().eq(there),
        "a frame goes elsewhere"
    );
    group.bench_function(format!("spread/{}", label(hosts)), |b| {
        b.iter_custom(|iterations| {
            timed(iterations, &mut rounds, |_| {
                datapath.borrow_mut().forward(lab.now(), &topology, ingress);
            })
        });
    });
}

/// The time of `work` on the next `iterations` rounds; what making a round costs is left out.
fn timed<T>(
    iterations: u64,
    rounds: &mut impl Iterator<Item = T>,
    mut work: impl FnMut(T),
) -> Duration {
    let clock = WallTime;
    let mut total = clock.zero();
    for _ in 0..iterations {
        let round = rounds.next().expect("the rounds never end");
        let start = clock.start();
        work(round);
        total = clock.add(&total, &clock.end(start));
    }
    total
}

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    for &hosts in sizes() {
        let (lab, [_, b, c]) = lab(hosts);
        let (from, to) = (shuffled(hosts, 128), shuffled(hosts, 64));
        // Even numbers are at the ingress, odd ones are not.
        let pairs = || {
            from[64..]
                .iter()
                .map(|n| n & !1)
                .zip(to.iter().map(|n| n | 1))
        };
        let destinations: Vec<u32> = pairs().map(|(_, dst)| dst).collect();
        bare_lookup(&mut group, hosts, &destinations);
        let known: Vec<_> = pairs()
            .map(|(src, dst)| frames::unicast(host(src), host(dst)))
            .collect();
        spread(&mut group, hosts);
        for batch in BATCHES {
            let name = format!("unicast/batch_{batch}/{}", label(hosts));
            bench(&mut group, &name, &lab, &known[..batch], &[b]);
        }
        let floods = [
            ("unknown", host(1 << 24)),
            ("broadcast", MacAddr::BROADCAST),
        ];
        for (kind, dst) in floods {
            let flooded: Vec<_> = pairs()
                .map(|(src, _)| frames::unicast(host(src), dst))
                .collect();
            let name = format!("{kind}/batch_64/{}", label(hosts));
            bench(&mut group, &name, &lab, &flooded, &[b, c]);
        }
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
