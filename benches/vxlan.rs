//! What the overlay costs besides the kernel's work: header, flow hash, congestion mark, split.
//!
//! `cargo bench --bench vxlan`. Every figure is for one frame, or for one message of 44.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tapswitch::{
    sim::frames,
    vxlan::{
        HEADER_LEN, ecn, entropy, header, parse, split,
        too_big::{Answer, answer},
    },
    wire::Vni,
};

fn vni() -> Vni {
    Vni::new(42).expect("42 is a VNI")
}

fn datagram(frame: &[u8]) -> Vec<u8> {
    [&header(vni())[..], frame].concat()
}

fn headers(criterion: &mut Criterion) {
    let datagram = datagram(&frames::udp4(1, 2, &[0; 18]));
    let (parsed, frame) = parse(&datagram).expect("it was just made");
    assert_eq!((parsed.vni, frame.len()), (vni(), 60));

    let mut group = criterion.benchmark_group("vxlan");
    group.bench_function("parse", |b| b.iter(|| parse(black_box(&datagram))));
    group.bench_function("header", |b| b.iter(|| header(black_box(vni()))));
    group.finish();
}

fn hashes(criterion: &mut Criterion) {
    let mut fragment = frames::udp4(1, 2, &[0; 1000]);
    fragment[20] = 0x20;
    let mut extended = frames::udp6(1, 2, &[0; 100]);
    extended[20] = 60;
    extended[54..62].copy_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    let kinds = [
        ("udp4", frames::udp4(1, 2, &[0; 18])),
        ("tcp6", frames::tcp6(1, 2, 1, &[0; 1000])),
        (
            "udp4_tagged",
            frames::tagged(&frames::udp4(1, 2, &[0; 18]), 10),
        ),
        ("udp4_fragment", fragment),
        ("udp6_extended", extended),
        ("arp", frames::arp_request(1, 2)),
    ];
    let mut group = criterion.benchmark_group("entropy");
    for (name, frame) in kinds {
        assert_ne!(entropy(&frame), 0);
        group.bench_function(name, |b| b.iter(|| entropy(black_box(&frame))));
    }
    group.finish();
}

fn marks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ecn");
    for (name, outer) in [("unmarked", 0), ("congested", ecn::CE)] {
        let mut frame = frames::tcp4(1, 2, 1, &[0; 1000]);
        frame[15] = ecn::ECT_0;
        let before = frame.clone();
        assert_eq!(ecn::decapsulate(outer, &mut frame), Ok(()));
        assert_eq!(frame != before, outer == ecn::CE);
        group.bench_function(name, |b| {
            b.iter(|| {
                // The mark is there from the first time on, so it is taken away again.
                frame[15] = black_box(ecn::ECT_0);
                ecn::decapsulate(black_box(outer), &mut frame)
            });
        });
    }
    group.finish();
}

fn messages(criterion: &mut Criterion) {
    // As many full frames as one message of the kernel takes.
    let one = datagram(&frames::tcp4(1, 2, 1, &[0; 1410]));
    let joined = one.repeat(44);
    assert_eq!((one.len(), joined.len()), (1472, 64_768));
    let count = |message: &[u8], segment| {
        split(message, segment)
            .filter(|range| {
                let datagram = message.get(range.clone()).unwrap_or_default();
                parse(datagram).is_ok_and(|(header, _)| header.vni == vni())
            })
            .count()
    };
    assert_eq!(count(&joined, 1472), 44);

    let mut group = criterion.benchmark_group("message");
    group.throughput(Throughput::Elements(44));
    group.bench_function("split_and_parse/44", |b| {
        b.iter(|| count(black_box(&joined), black_box(1472)));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("split_and_parse/1", |b| {
        b.iter(|| count(black_box(&one), black_box(0)));
    });
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("too_big");
    let v4 = frames::tcp4(1, 2, 1, &[0; 1460]);
    let v6 = frames::tcp6(1, 2, 1, &[0; 1440]);
    let mut out = Answer::new();
    for (name, frame) in [("ipv4", v4), ("ipv6", v6)] {
        assert!(answer(&frame, 1430, &mut out));
        assert!(out.as_bytes().len() > HEADER_LEN);
        group.bench_function(name, |b| {
            b.iter(|| answer(black_box(&frame), black_box(1430), &mut out));
        });
    }
    group.finish();
}

criterion_group!(benches, headers, hashes, marks, messages, answers);
criterion_main!(benches);
