//! A batch's whole way through the overlay without the kernel: what `Datapath::service` costs from
//! a port to a remote VTEP (encap), and `Datapath::service_underlay` from there to a port (decap).
//!
//! `cargo bench --bench tunnel`. The port and the underlay copy a frame in, and throw away what they
//! are given: all the rest is timed. Superframes are 62 KB of TCP at an MSS of 1410, the most that
//! one message to a peer takes.

use std::{
    io::IoSlice,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tapswitch::{
    bridge::{Bridge, DropReason, Fdb, PeerId, PortFlags, PortId},
    config::BridgeSpec,
    datapath::{
        Arrival, Arrived, Counters, Datapath, Departed, Departure, PathMtu, Peer, Port, PortIo,
        Received, Topology, Transmitted, UnderlayIo, Vtep, VtepPolicy,
    },
    names::Name,
    offload::{self, Offloads, Segments},
    sim::frames,
    time::Timestamp,
    vxlan,
    wire::{GsoType, VirtioNetHdr, Vni},
};
use zerocopy::IntoBytes;

/// Gives the same batch again and again, and takes everything.
#[derive(Debug, Default)]
struct Endless {
    /// What one read returns.
    bytes: Vec<u8>,
    segment: Option<usize>,
    written: AtomicU64,
    is_silent: AtomicBool,
}

impl Endless {
    fn read(&self, buf: &mut [u8]) -> Option<usize> {
        if self.is_silent.load(Ordering::Relaxed) {
            return None;
        }
        buf[..self.bytes.len()].copy_from_slice(&self.bytes);
        Some(self.bytes.len())
    }

    fn write(&self, parts: &[IoSlice<'_>]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.written.fetch_add(len as u64, Ordering::Relaxed);
    }
}

impl PortIo for Endless {
    fn receive(&self, buf: &mut [u8]) -> Received {
        self.read(buf).map_or(Received::Empty, Received::Frame)
    }

    fn transmit(&self, buf: &[u8]) -> Transmitted {
        self.write(&[IoSlice::new(buf)]);
        Transmitted::Sent
    }

    fn transmit_parts(&self, parts: &[IoSlice<'_>]) -> Transmitted {
        self.write(parts);
        Transmitted::Sent
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }
}

impl UnderlayIo for Endless {
    fn receive(&self, buf: &mut [u8]) -> Arrived {
        let message = |len| {
            Arrived::Message(Arrival {
                len,
                from: remote().ip(),
                port: remote().port(),
                segment: self.segment,
                tos: 0,
            })
        };
        self.read(buf).map_or(Arrived::Empty, message)
    }

    fn transmit(&self, _: &Departure, parts: &[IoSlice<'_>]) -> Departed {
        self.write(parts);
        Departed::Sent
    }

    fn most_in_message(&self) -> usize {
        128
    }

    fn path_mtu(&self, _: SocketAddr) -> Option<u32> {
        None
    }
}

fn remote() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], vxlan::PORT))
}

fn vni() -> Vni {
    Vni::new(42).expect("42 is a VNI")
}

/// One port and one peer, on a bridge that knows host 1 at the port and host 2 behind the peer.
struct World {
    topology: Topology,
    port: PortId,
    pod: Arc<Endless>,
    underlay: Arc<Endless>,
    datapath: Datapath,
}

impl World {
    fn new(pod: Endless, underlay: Endless) -> Self {
        let (port, id) = (
            PortId::new(0).expect("below the limit"),
            PeerId::new(0).expect("below the limit"),
        );
        let (pod, underlay) = (Arc::new(pod), Arc::new(underlay));
        let spec = BridgeSpec::new(Name::new("br0").expect("a valid name"));
        let bridge = Bridge::new(&spec, &[(port, PortFlags::DEFAULT)], Arc::new(Fdb::new()))
            .with_overlay([id], true);
        let counters = || Arc::new(Counters::new(1));
        let local: IpAddr = [192, 0, 2, 1].into();
        let io = Arc::clone(&underlay) as Arc<dyn UnderlayIo>;
        let vtep = Vtep::new(io, VtepPolicy::new(local), counters())
            .with_vni(vni(), 0)
            .with_peer(Peer {
                id,
                bridge: 0,
                vni: vni(),
                to: remote(),
                path: Arc::new(PathMtu::new(1500)),
                counters: counters(),
            });
        let io = Arc::clone(&pod) as Arc<dyn PortIo>;
        let ports = [Port::new(port, 0, io, 1450, counters())];
        Self {
            topology: Topology::new(vec![bridge], ports).with_vtep(vtep),
            port,
            pod,
            underlay,
            datapath: Datapath::new(0),
        }
    }

    fn encap(&mut self) -> usize {
        let now = Timestamp::ZERO;
        self.datapath.service(now, &self.topology, self.port).frames
    }

    fn decap(&mut self) -> usize {
        let now = Timestamp::ZERO;
        self.datapath.service_underlay(now, &self.topology).frames
    }

    fn assert_nothing_lost(&self) {
        let peer = self.topology.vtep().and_then(|vtep| vtep.peers().next());
        let peer = peer.expect("there is one").counters.totals();
        let port = self.topology.port(self.port).expect("there is one");
        for totals in [peer, port.counters.totals()] {
            let lost: u64 = DropReason::ALL.iter().map(|&r| totals.drops(r)).sum();
            assert_eq!((lost, totals.unaccounted()), (0, 0));
        }
    }
}

/// 44 segments of one TCP superframe from host `from` to host `to`, as a TAP gives it.
fn superframe(from: u8, to: u8) -> (VirtioNetHdr, Vec<u8>) {
    let mut frame = frames::tcp4(from, to, 1, &vec![0x5a; 44 * MSS]);
    let len = u16::try_from(frame.len() - 14).expect("it fits an IP packet");
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    let mut header = VirtioNetHdr::none();
    header.set_gso(GsoType::TcpV4);
    header.set_gso_size(u16::try_from(MSS).expect("below 65536"));
    (header, frame)
}

/// The same as a message from the underlay.
fn message(from: u8, to: u8) -> (Vec<u8>, usize) {
    let (header, frame) = superframe(from, to);
    let mut segments = Segments::new();
    segments.prefix(&vxlan::header(vni()));
    offload::segment(&header, &frame, None, &mut segments).expect("it is well made");
    let sizes: Vec<usize> = segments.iter().map(|segment| segment.len()).collect();
    let pieces = segments.iter().flat_map(|segment| segment.to_frame(&frame));
    (pieces.collect(), sizes[0])
}

fn small(from: u8, to: u8) -> Vec<u8> {
    frames::udp4(from, to, &[0x5a; 18])
}

fn encap(criterion: &mut Criterion) {
    let (header, frame) = superframe(1, 2);
    let super_bytes = [header.as_bytes(), &frame].concat();
    let small_bytes = [VirtioNetHdr::none().as_bytes(), &small(1, 2)].concat();
    let mut group = criterion.benchmark_group("encap");
    for (name, bytes, frames) in [
        ("64k_tcp", super_bytes, 1),
        ("64_small_udp", small_bytes, 64),
    ] {
        let mut world = World::new(
            Endless {
                bytes,
                ..Endless::default()
            },
            Endless {
                bytes: [&vxlan::header(vni())[..], &small(2, 1)].concat(),
                ..Endless::default()
            },
        );
        // It learns where host 2 is.
        assert!(world.decap() > 0);
        world.underlay.is_silent.store(true, Ordering::Relaxed);
        group.throughput(Throughput::Elements(frames));
        group.bench_function(name, |b| {
            b.iter(|| assert_eq!(world.encap() as u64, frames));
        });
        assert!(world.underlay.written.load(Ordering::Relaxed) > 0);
        world.assert_nothing_lost();
    }
    group.finish();
}

fn decap(criterion: &mut Criterion) {
    let (bytes, segment) = message(2, 1);
    let one = [&vxlan::header(vni())[..], &small(2, 1)].concat();
    let size = one.len();
    let mut group = criterion.benchmark_group("decap");
    for (name, bytes, segment) in [
        ("64k_tcp", bytes, segment),
        ("64_small_udp", one.repeat(64), size),
    ] {
        let mut world = World::new(
            Endless {
                bytes: [VirtioNetHdr::none().as_bytes(), &small(1, 2)].concat(),
                ..Endless::default()
            },
            Endless {
                bytes,
                segment: Some(segment),
                ..Endless::default()
            },
        );
        // It learns where host 1 is.
        assert!(world.encap() > 0);
        world.pod.is_silent.store(true, Ordering::Relaxed);
        let frames = if name == "64k_tcp" { 44 } else { 64 };
        group.throughput(Throughput::Elements(frames));
        group.bench_function(name, |b| {
            b.iter(|| assert_eq!(world.decap() as u64, frames));
        });
        assert!(world.pod.written.load(Ordering::Relaxed) > 0);
        world.assert_nothing_lost();
    }
    group.finish();
}

const MSS: usize = 1410;

criterion_group!(benches, encap, decap);
criterion_main!(benches);
