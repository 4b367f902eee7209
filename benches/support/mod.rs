//! What the benches share: numbers of hosts, hosts in random order, and the yardstick.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each bench that includes this uses its part"
)]

use std::{collections::HashMap, hint::black_box};

use criterion::{BenchmarkGroup, BenchmarkId, Throughput, measurement::WallTime};
use foldhash::fast::RandomState;
use tapswitch::{
    bridge::{Egress, PortId},
    wire::MacAddr,
};

/// Numbers of hosts to measure with: few when the benches are only tested.
pub fn sizes() -> &'static [u32] {
    if std::env::args().any(|arg| arg == "--bench") {
        &[16, 1 << 10, 1 << 16, 1 << 20]
    } else {
        &[16, 1 << 10]
    }
}

/// `1k` rather than 1024.
pub fn label(hosts: u32) -> String {
    match hosts {
        0x10_0000.. => format!("{}M", hosts >> 20),
        0x400.. => format!("{}k", hosts >> 10),
        _ => hosts.to_string(),
    }
}

/// The address of host number `n`.
pub fn host(n: u32) -> MacAddr {
    MacAddr::from_u48(0x0200_0000_0000 + u64::from(n))
}

/// `count` of the host numbers below `hosts`, in an order that no prefetcher guesses.
pub fn shuffled(hosts: u32, count: usize) -> Vec<u32> {
    let mut state = 0x7a9_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        u32::try_from(state >> 33).unwrap_or(0) % hosts
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Port number `n`.
pub fn port(n: usize) -> PortId {
    PortId::new(n).expect("benches use few ports")
}

/// A plain `HashMap` of so many hosts.
pub fn bare_map(hosts: u32) -> HashMap<u64, Egress, RandomState> {
    let entry = |n| (host(n).to_u48(), Egress::Port(port(1)));
    (0..hosts).map(entry).collect()
}

/// One look-up of each destination of `batch` in a plain `HashMap` of so many hosts: the least that
/// any switch must do for a frame.
pub fn bare_lookup(group: &mut BenchmarkGroup<'_, WallTime>, hosts: u32, batch: &[u32]) {
    let map = bare_map(hosts);
    let keys: Vec<u64> = batch.iter().map(|&n| host(n).to_u48()).collect();
    group.throughput(Throughput::Elements(keys.len() as u64));
    group.bench_function(BenchmarkId::new("bare_hashmap_lookup", label(hosts)), |b| {
        b.iter(|| {
            for key in &keys {
                black_box(map.get(black_box(key)));
            }
        });
    });
}
