//! What the flight recorder costs: the pass behind `Datapath::forward`, which writes a batch down.
//!
//! `cargo bench --bench recorder`. Divide by the time of a whole frame, some two microseconds with
//! its system calls (`tapswitch bench --cases udp18`), and compare with `forward/unicast/batch_64`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tapswitch::{
    datapath::{Datapath, Fate, Record},
    sim::{Lab, frames},
    wire::VirtioNetHdr,
};

fn recorder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recorder");
    // Neighbours in the batch are of one flow, or of as many as there are places, or of more.
    for flows in [1_u16, 64, 1024] {
        let (mut lab, [a, b]) = Lab::switch(["a", "b"]);
        lab.relay(b, &frames::broadcast(frames::mac(2000)));
        for n in 0..flows {
            lab.relay(a, &frames::broadcast(frames::mac(n)));
        }
        let topology = lab.topology();
        let port = topology.port(a).expect("the lab has a port");
        let mut batches: Vec<Datapath> = (0..flows.div_ceil(64))
            .map(|batch| {
                let mut datapath = Datapath::new(0);
                for n in 0..64 {
                    let src = frames::mac((64 * batch + n) % flows);
                    let frame = frames::of_len(src, frames::mac(2000), 60);
                    assert!(
                        datapath
                            .batch_mut()
                            .push_frame(&VirtioNetHdr::none(), &frame)
                    );
                }
                datapath.forward(lab.now(), &topology, port);
                datapath
            })
            .collect();
        let mut turn = 0;
        group.throughput(Throughput::Elements(64));
        group.bench_function(BenchmarkId::new("flows", flows), |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % batches.len();
                batches[turn].record(port);
            });
        });
        // The hosts' own broadcasts were flooded.
        let forwarded = |record: &Record| matches!(record.fate, Fate::Forwarded(_));
        let mut recorders = lab.counters(a).recorders();
        assert!(
            recorders
                .any(|recorder| recorder.frames().iter().filter(|r| forwarded(r)).count() >= 64),
            "the recorder wrote nothing down"
        );
    }
    group.finish();
}

criterion_group!(benches, recorder);
criterion_main!(benches);
