//! What an egress without offloads costs: checksums and segmentation of one TCP superframe.

#[path = "../tests/superframe/mod.rs"]
mod superframe;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use superframe::{Superframe, pseudo};
use tapswitch::{
    offload::{self, Segments},
    wire::checksum,
};

fn sum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [64_usize, 1460, 65_000] {
        let bytes: Vec<u8> = (0_u8..=255).cycle().take(len).collect();
        assert_eq!(
            checksum::sum(&bytes).fold(),
            smoltcp::wire::checksum::data(&bytes)
        );
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(len.to_string(), |b| {
            b.iter(|| checksum::sum(black_box(&bytes)).checksum());
        });
    }
    group.finish();
}

fn complete(c: &mut Criterion) {
    let spec = Superframe {
        gso: false,
        payload: 1448,
        tcp_options: 3,
        ..Superframe::default()
    };
    let (header, mut done) = (spec.header(), spec.frame());
    offload::complete_checksum(&header, &mut done).unwrap();
    assert!(is_verified(&spec, &done));
    c.bench_function("complete_checksum/1514", |b| {
        // Completing it again yields another checksum, at the same cost.
        b.iter(|| offload::complete_checksum(black_box(&header), black_box(&mut done)));
    });
}

fn segment(c: &mut Criterion) {
    let spec = Superframe {
        payload: 65_160,
        gso_size: 1448,
        tcp_options: 3,
        ..Superframe::default()
    };
    let (header, frame) = (spec.header(), spec.frame());
    let mut out = Segments::new();
    offload::segment(&header, &frame, None, &mut out).unwrap();
    assert_eq!(out.len(), 45);
    let segments = superframe::whole(&out, &frame);
    assert!(segments.iter().all(|segment| is_verified(&spec, segment)));

    let mut group = c.benchmark_group("superframe");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("segment/64k_at_1448", |b| {
        b.iter(|| offload::segment(black_box(&header), black_box(&frame), None, &mut out));
    });
    group.finish();
    c.bench_function("check/superframe", |b| {
        b.iter(|| offload::check(black_box(&header), black_box(&frame)));
    });
}

fn is_verified(spec: &Superframe, frame: &[u8]) -> bool {
    let l4 = &frame[spec.l4()..];
    let sum = pseudo(frame, spec.l3(), false, l4.len());
    let l4 = smoltcp::wire::checksum::data(l4);
    smoltcp::wire::checksum::combine(&[sum, l4]) == 0xffff
}

criterion_group!(benches, sum, complete, segment);
criterion_main!(benches);
