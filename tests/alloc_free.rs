//! In the steady state the frame path allocates nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::SocketAddr,
};

use tapswitch::{
    bridge::{Egress, PortId},
    config::Mode,
    datapath::Datapath,
    sim::{Lab, MemNet, captured, frames},
    wire::{MacAddr, VirtioNetHdr, Vni},
};

use frames::{broadcast, mac, unicast};

/// The system's allocator, counting what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(
    unsafe_code,
    reason = "an allocator can only be counted from inside, and GlobalAlloc is an unsafe trait"
)]
// SAFETY: every call is passed on to `System` with the arguments as they came, and counting
// touches no memory that is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // The thread's last breath may be after its variables are gone.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Frames of every kind from port `a`, where hosts 1 and 2 are; host 3 is at `b`.
fn traffic() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("hit", unicast(mac(1), mac(3))),
        ("miss", unicast(mac(1), mac(99))),
        ("broadcast", broadcast(mac(1))),
        (
            "multicast",
            unicast(mac(2), MacAddr::new([0x33, 0x33, 0, 0, 0, 1])),
        ),
        ("tagged", frames::tagged(&broadcast(mac(1)), 10)),
        ("same port", unicast(mac(1), mac(2))),
        (
            "reserved",
            unicast(mac(1), MacAddr::new([1, 0x80, 0xc2, 0, 0, 0xe])),
        ),
        ("group source", broadcast(MacAddr::BROADCAST)),
        ("truncated", frames::runt(mac(1), 9)),
        ("too big", frames::of_len(mac(1), mac(3), 1_519)),
    ]
}

fn known_hosts() -> (Lab, [PortId; 4]) {
    let (mut lab, ports) = Lab::switch(["a", "b", "c", "d"]);
    for (port, n) in [(0, 1), (0, 2), (1, 3)] {
        lab.relay(ports[port], &broadcast(mac(n)));
    }
    // A new address takes memory, so every source is known.
    lab.relay(ports[0], &frames::tagged(&broadcast(mac(1)), 10));
    (lab, ports)
}

#[test]
fn a_worker_in_steady_state_allocates_nothing() {
    for mode in [Mode::Switch, Mode::Hub] {
        let (mut lab, ports) = known_hosts();
        lab.set_mode(0, mode);
        let topology = lab.topology();
        let ios = ports.map(|port| lab.io(port));
        let mut datapath = Datapath::new(0);
        for (name, frame) in traffic() {
            let mut round = || {
                for _ in 0..80 {
                    ios[0].inject(&frame);
                }
                while datapath.service(lab.now(), &topology, ports[0]).frames > 0 {}
                ios.iter().for_each(|io| io.drain(|_| {}));
            };
            // The memory ports' own buffers grow in the first rounds.
            round();
            round();
            assert_eq!(allocations(round), 0, "{name} in mode {mode:?}");
        }
        lab.assert_accounted();
    }
}

#[test]
fn deciding_allocates_nothing_from_the_first_frame_on() {
    let (lab, ports) = known_hosts();
    let topology = lab.topology();
    let port = topology.port(ports[0]).unwrap();
    for (name, frame) in traffic() {
        let mut datapath = Datapath::new(0);
        while datapath
            .batch_mut()
            .push_frame(&VirtioNetHdr::none(), &frame)
        {}
        assert_eq!(datapath.batch_mut().len(), 64);

        let made = allocations(|| datapath.forward(lab.now(), &topology, port));

        assert_eq!(made, 0, "{name}");
        if name == "hit" {
            assert_eq!(
                datapath.planned().last(),
                Some((63, Egress::Port(ports[1])))
            );
        }
    }
}

/// Two switches on one underlay: everything that a frame meets on its way across.
#[test]
fn the_way_across_the_overlay_allocates_nothing() {
    let net = MemNet::new();
    let vni = Vni::new(42).unwrap();
    let address = |host: u8| SocketAddr::from(([192, 0, 2, host], 4789));
    let [mut one, mut two] = [1, 2].map(|host| {
        let (mut lab, [port]) = Lab::switch(["pod"]);
        lab.add_vtep(net.attach(address(host)));
        lab.set_vni(0, vni);
        lab.add_peer(0, address(3 - host));
        (lab, port)
    });
    let across = [
        ("broadcast", broadcast(mac(1))),
        ("unicast", unicast(mac(1), mac(3))),
        ("udp", frames::udp4(1, 3, &[7; 18])),
        ("tcp", frames::tcp4(1, 3, 0, &[7; 1000])),
        ("too big", frames::udp4(1, 3, &[7; 2000])),
    ];
    two.0.send(two.1, &broadcast(mac(3)));
    two.0.run();
    one.0.run();
    let topologies = [one.0.topology(), two.0.topology()];
    let (now, from, to) = (one.0.now(), one.0.io(one.1), two.0.io(two.1));
    let mut datapaths = [Datapath::new(0), Datapath::new(0)];
    for (name, frame) in across {
        let mut round = || {
            for _ in 0..80 {
                from.inject(&frame);
            }
            while datapaths[0].service(now, &topologies[0], one.1).frames > 0 {}
            while datapaths[1].service_underlay(now, &topologies[1]).frames > 0 {}
            to.drain(|_| {});
            from.drain(|_| {});
        };
        (0..4).for_each(|_| round());
        assert_eq!(allocations(round), 0, "{name}");
    }
    one.0.assert_accounted();
    two.0.assert_accounted();
    // All but what does not fit, in four rounds and the one that counts.
    assert_eq!(two.0.totals(two.1).tx_frames, 4 * 5 * 80);
}

/// Neither does copying frames for a reader that keeps up, or losing them for one that does not.
#[test]
fn a_running_capture_allocates_nothing() {
    let mut lab = Lab::with_workers(2);
    let bridge = lab.add_bridge(Lab::spec("br0"));
    let [a, b] = ["a", "b"].map(|name| lab.add_port(bridge, name));
    for (port, n) in [(a, 1), (a, 2), (b, 3)] {
        lab.relay(port, &broadcast(mac(n)));
    }
    lab.relay(a, &frames::tagged(&broadcast(mac(1)), 10));
    let (_, reader) = lab.capture(Lab::rules("greater 0"));
    let (_, idle) = lab.capture(Lab::rules("ip or ether[0] & 1 = 1"));
    let topology = lab.topology();
    let ios = [a, b].map(|port| lab.io(port));
    // The lab itself is worker 0.
    let mut datapath = Datapath::new(1);
    datapath.adopt(&topology);
    for (name, frame) in traffic() {
        let mut round = || {
            for _ in 0..80 {
                ios[0].inject(&frame);
            }
            while datapath.service(lab.now(), &topology, a).frames > 0 {}
            ios.iter().for_each(|io| io.drain(|_| {}));
        };
        for _ in 0..2 {
            round();
            assert!(!captured(&reader).is_empty(), "{name}");
        }
        assert_eq!(allocations(&mut round), 0, "{name}");
        captured(&reader);
        for _ in 0..30 {
            round();
            captured(&reader);
        }
        assert_eq!(
            allocations(&mut round),
            0,
            "{name}, and nobody reads the other"
        );
        captured(&reader);
    }
    assert_eq!(reader.lost().total(), 0);
    assert!(idle.lost().total() > 0);
    lab.assert_accounted();
}
