//! What it costs to finish frames and to join them: checksums, segmentation of one TCP superframe,
//! and bursts that become one superframe.

#[path = "../tests/superframe/mod.rs"]
mod superframe;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use superframe::{Superframe, packet::Packet, pseudo};
use tapswitch::{
    offload::{self, Mark, Run, Segments},
    wire::checksum,
};

fn sum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [20_usize, 64, 1400, 65_000] {
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
    // As a tunnel sends it: its header in front, and the path narrower than the MSS.
    out.prefix(&[0; 8]);
    let limit = Some(14 + 1450);
    offload::segment(&header, &frame, limit, &mut out).unwrap();
    assert_eq!(out.len(), 47);
    group.bench_function("segment/64k_below_1464", |b| {
        b.iter(|| offload::segment(black_box(&header), black_box(&frame), limit, &mut out));
    });
    group.finish();
    c.bench_function("check/superframe", |b| {
        b.iter(|| offload::check(black_box(&header), black_box(&frame)));
    });
}

fn join(c: &mut Criterion) {
    let tcp = Packet {
        payload: vec![7; 1448],
        tcp_options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        ..Packet::tcp4()
    };
    let udp = Packet {
        payload: vec![7; 18],
        ..Packet::udp4()
    };
    let mut group = c.benchmark_group("join");
    for (name, packet, count) in [("44_tcp_1448", tcp, 44), ("64_udp_18", udp, 64)] {
        let frames: Vec<_> = packet.burst(count).iter().map(Packet::frame).collect();
        let marks: Vec<_> = frames
            .iter()
            .map(|frame| Mark::of(frame, None, 1500))
            .collect();
        assert_eq!(joined(&frames, |n, _| marks[n]), count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{name}/mark"), |b| {
            b.iter(|| {
                for frame in &frames {
                    black_box(Mark::of(black_box(frame), None, 1500));
                }
            });
        });
        group.bench_function(format!("{name}/marked"), |b| {
            b.iter(|| joined(black_box(&frames), |n, _| marks[n]));
        });
        group.bench_function(format!("{name}/mark_and_join"), |b| {
            b.iter(|| joined(black_box(&frames), |_, frame| Mark::of(frame, None, 1500)));
        });
        group.bench_function(format!("{name}/unchecked"), |b| {
            b.iter(|| joined(black_box(&frames), |_, _| Mark::Unchecked));
        });
    }
    group.finish();
}

/// Joins all of `frames`, and returns how many that were.
fn joined(frames: &[Vec<u8>], mark: impl Fn(usize, &[u8]) -> Mark) -> usize {
    let Some(mut run) = Run::start(mark(0, &frames[0]), &frames[0]) else {
        return 0;
    };
    for (n, frame) in frames.iter().enumerate().skip(1) {
        if !run.join(mark(n, frame), frame) {
            break;
        }
    }
    black_box(run.finish());
    run.count()
}

fn is_verified(spec: &Superframe, frame: &[u8]) -> bool {
    let l4 = &frame[spec.l4()..];
    let sum = pseudo(frame, spec.l3(), false, l4.len());
    let l4 = smoltcp::wire::checksum::data(l4);
    smoltcp::wire::checksum::combine(&[sum, l4]) == 0xffff
}

criterion_group!(benches, sum, complete, segment, join);
criterion_main!(benches);
