//! Parse, decide, count and plan: `Datapath::forward`, against look-ups in a plain `HashMap`.
//!
//! `cargo bench --bench forward`. A batch is filled once and stays: `forward` reads it, and only
//! `transmit` would empty it. So nothing but `forward` is timed. The requirement is that a known
//! unicast frame costs at most four bare look-ups with as many hosts; divide the times for one
//! element of `forward/unicast/batch_64/N` and `forward/bare_hashmap_lookup/N`.

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use support::{bare_lookup, host, label, shuffled, sizes};
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
