//! The FDB: one look-up or one lesson, against a look-up in a plain `HashMap`.
//!
//! `cargo bench --bench fdb`. Each iteration goes through 4096 hosts of the table, more than a
//! worker's cache holds when there are as many; every figure is for one of them.

mod support;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{bare_lookup, host, label, port, shuffled, sizes};
use tapswitch::{
    bridge::{Egress, Fdb, FdbCache, FdbKey, FdbPolicy, Learn},
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_secs(1);
const ROUND: usize = 4096;

fn policy() -> FdbPolicy {
    FdbPolicy::new(Duration::from_secs(300), 1 << 21, true, 0)
}

fn key(n: u32) -> FdbKey {
    FdbKey::new(host(n), 0)
}

fn filled(hosts: u32) -> (Fdb, FdbCache) {
    let (fdb, mut cache) = (Fdb::new(), FdbCache::new());
    for n in 0..hosts {
        let learn = fdb.learn(NOW, key(n), Egress::Port(port(1)), &policy(), &mut cache);
        assert_eq!(learn, Learn::New);
    }
    (fdb, cache)
}

fn fdb(criterion: &mut Criterion) {
    let (policy, here, there) = (policy(), Egress::Port(port(1)), Egress::Port(port(2)));
    let mut group = criterion.benchmark_group("fdb");
    for &hosts in sizes() {
        let round = shuffled(hosts, ROUND);
        bare_lookup(&mut group, hosts, &round);
        let known: Vec<_> = round.iter().map(|&n| key(n)).collect();
        let unknown: Vec<_> = round.iter().map(|&n| key(n + hosts)).collect();
        let (fdb, mut cache) = filled(hosts);

        assert_eq!(fdb.lookup(NOW, known[0], &policy, &mut cache), Some(here));
        assert_eq!(fdb.lookup(NOW, unknown[0], &policy, &mut cache), None);
        group.throughput(Throughput::Elements(ROUND as u64));
        for (name, keys) in [("lookup_hit", &known), ("lookup_miss", &unknown)] {
            group.bench_function(BenchmarkId::new(name, label(hosts)), |b| {
                b.iter(|| {
                    for &key in keys {
                        black_box(fdb.lookup(NOW, key, &policy, &mut cache));
                    }
                });
            });
        }
        group.bench_function(BenchmarkId::new("learn_known", label(hosts)), |b| {
            b.iter(|| {
                for &key in &known {
                    black_box(fdb.learn(NOW, key, here, &policy, &mut cache));
                }
            });
        });
        // Removed again at once, so that the table stays as large as it says.
        group.bench_function(
            BenchmarkId::new("learn_new_then_remove", label(hosts)),
            |b| {
                b.iter(|| {
                    for &key in &unknown {
                        black_box(fdb.learn(NOW, key, here, &policy, &mut cache));
                        fdb.remove(key);
                    }
                });
            },
        );
        let mut turn = false;
        group.bench_function(BenchmarkId::new("learn_move", label(hosts)), |b| {
            b.iter(|| {
                turn = !turn;
                let egress = if turn { there } else { here };
                for &key in &known {
                    black_box(fdb.learn(NOW, key, egress, &policy, &mut cache));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fdb);
criterion_main!(benches);
