//! What a capture costs those whose frames it does not take: `Datapath::forward` without any, with
//! one at another port, and with one here whose filter matches nothing.
//!
//! `cargo bench --bench capture`. Divide by the times of `none`: what is on when nothing is captured
//! is in that already, and is one test of a flag for each frame.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tapswitch::{
    bridge::{Egress, PortId},
    datapath::{Datapath, capture::Selection},
    sim::{Lab, frames},
    wire::VirtioNetHdr,
};

/// A batch from port 0 to port 1, all frames of known hosts.
const BATCH: usize = 64;

/// The lab has worker 0, and this bench is worker 1.
fn lab() -> (Lab, [PortId; 3]) {
    let mut lab = Lab::with_workers(2);
    let bridge = lab.add_bridge(Lab::spec("br0"));
    let ports = ["a", "b", "c"].map(|name| lab.add_port(bridge, name));
    lab.relay(ports[0], &frames::broadcast(frames::mac(1)));
    lab.relay(ports[1], &frames::broadcast(frames::mac(2)));
    (lab, ports)
}

fn capture(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("capture");
    group.throughput(Throughput::Elements(BATCH as u64));
    for name in ["none", "elsewhere", "misses"] {
        let (mut lab, [a, b, c]) = lab();
        // Readers stay: a capture without one would end.
        let _reader = match name {
            "elsewhere" => {
                let there = Selection::new([c], [], false);
                Some(lab.capture_at(Lab::rules(""), there))
            }
            "misses" => Some(lab.capture(Lab::rules("tcp port 80 and host 192.0.2.1"))),
            _ => None,
        };
        let topology = lab.topology();
        let ingress = topology.port(a).expect("the lab has a port");
        let mut datapath = Datapath::new(1);
        datapath.adopt(&topology);
        let frame = frames::udp4(1, 2, &[7; 18]);
        for _ in 0..BATCH {
            assert!(
                datapath
                    .batch_mut()
                    .push_frame(&VirtioNetHdr::none(), &frame)
            );
        }
        datapath.forward(lab.now(), &topology, ingress);
        let there = (0..BATCH).map(|frame| (frame, Egress::Port(b)));
        assert!(datapath.planned().eq(there), "a frame goes elsewhere");
        group.bench_function(name, |b| {
            b.iter(|| datapath.forward(lab.now(), &topology, ingress));
        });
    }
    group.finish();
}

criterion_group!(benches, capture);
criterion_main!(benches);
