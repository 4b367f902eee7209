//! Throughput against the kernel's veth and bridge, both set up in one run and measured in turn.
//!
//! ```text
//! cargo bench --bench speed              # 7 rounds; as root, or in a user namespace
//! cargo bench --bench speed -- --quick   # 3 short rounds
//! TAPSWITCH_PUMP='CMD' cargo bench --bench speed   # and a program that joins eth0 of nsA and nsB
//! ```
//!
//! TCP by iperf3, one stream; UDP with 18 bytes of payload by a sender and a receiver of its own
//! (64 datagrams a system call), of which only what is delivered counts. Quiet the machine first.

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use common::{Env, Netns, command, ip};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use tapswitch::{
    config::{BridgeSpec, PortSpec},
    control::api::Request,
    daemon::{Switch, SwitchOptions},
    names::Name,
    sys::clock,
};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs every bench once: this one only says what it is.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("speed: measures for minutes; run it with cargo bench --bench speed");
        return;
    }
    let env = Env::enter();
    if let Some(reason) = env.reason_not_to_run {
        println!("speed: cannot run here: {reason}");
        return;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let plan = if quick { (3, 2) } else { (7, 4) };
    measure(plan);
}

fn measure((rounds, seconds): (usize, u64)) {
    let mut sides = vec![kernel(), tapswitch()];
    sides.extend(pump());
    for side in &sides {
        let ping = side
            .from
            .exec(&["ping", "-c", "3", "-i", "0.1", "-W", "2", &side.target]);
        assert!(ping.status.success(), "{} does not forward", side.name);
    }
    let cases: [(&str, &str, Case); 2] = [
        ("TCP, 1 stream", "Gb/s", tcp),
        ("UDP, 18 bytes, delivered", "kpps", udp),
    ];
    for (case, unit, run) in cases {
        let mut results = vec![Vec::new(); sides.len()];
        for _ in 0..rounds {
            for (side, results) in sides.iter().zip(&mut results) {
                results.push(run(side, seconds));
            }
        }
        println!("\n{case}");
        let kernel = median(&results[0]);
        for (side, results) in sides.iter().zip(&results) {
            let (low, high) = results.iter().fold((f64::MAX, 0.0_f64), |(low, high), &x| {
                (low.min(x), high.max(x))
            });
            let middle = median(results);
            println!(
                "  {:<24} {middle:8.2} {unit} [{low:.2} .. {high:.2}]  {:.2} x",
                side.name,
                middle / kernel
            );
        }
    }
}

/// Measures one side for so many seconds.
type Case = fn(&Side, u64) -> f64;

/// Two namespaces that are joined somehow.
struct Side {
    name: &'static str,
    from: Netns,
    to: Netns,
    target: String,
    _keep: Keep,
}

/// What joins them.
enum Keep {
    Kernel,
    #[expect(dead_code, reason = "held, so that it runs")]
    Switch(Switch),
    Pump(Child),
}

impl Drop for Keep {
    fn drop(&mut self) {
        if let Self::Pump(child) = self {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn kernel() -> Side {
    let (from, to) = (Netns::new("ka"), Netns::new("kb"));
    ip("link add kbr type bridge mcast_snooping 0");
    // The kernel at its best: no netfilter in the way.
    for table in ["iptables", "ip6tables", "arptables"] {
        drop(std::fs::write(
            format!("/proc/sys/net/bridge/bridge-nf-call-{table}"),
            "0",
        ));
    }
    ip("link set kbr up");
    for (number, netns) in [(1, &from), (2, &to)] {
        ip(&format!(
            "link add kv{number} type veth peer name eth0 netns {}",
            name_of(netns)
        ));
        ip(&format!("link set kv{number} master kbr up"));
        netns.ip(&format!("addr add 10.1.0.{number}/24 dev eth0"));
        netns.ip("link set eth0 up");
    }
    Side {
        name: "kernel veth + bridge",
        from,
        to,
        target: "10.1.0.2".to_owned(),
        _keep: Keep::Kernel,
    }
}

fn tapswitch() -> Side {
    let (from, to) = (Netns::new("ta"), Netns::new("tb"));
    let switch = Switch::start(SwitchOptions::default()).unwrap();
    let bridge = Name::new("br0").unwrap();
    switch
        .execute(Request::BridgeAdd(BridgeSpec::new(bridge.clone())))
        .unwrap();
    for (number, netns) in [(1, &from), (2, &to)] {
        let mut port = PortSpec::new(Name::new(&format!("pod{number}")).unwrap(), bridge.clone());
        port.netns = Some(netns.reference());
        port.addresses = vec![format!("10.2.0.{number}/24").parse().unwrap()];
        switch.execute(Request::PortAdd(port)).unwrap();
    }
    Side {
        name: "tapswitch",
        from,
        to,
        target: "10.2.0.2".to_owned(),
        _keep: Keep::Switch(switch),
    }
}

/// A program that joins the `eth0` that it makes in the namespaces nsA and nsB, and says `ready`.
fn pump() -> Option<Side> {
    let line = std::env::var("TAPSWITCH_PUMP").ok()?;
    let (from, to) = (Netns::named("nsA"), Netns::named("nsB"));
    let mut words = line.split_whitespace();
    let mut child = command(words.next()?)
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut first = [0; 5];
    io::Read::read_exact(child.stdout.as_mut()?, &mut first).ok()?;
    for (number, netns) in [(1, &from), (2, &to)] {
        netns.ip(&format!("addr add 10.3.0.{number}/24 dev eth0"));
        netns.ip("link set eth0 up");
    }
    Some(Side {
        name: "pump",
        from,
        to,
        target: "10.3.0.2".to_owned(),
        _keep: Keep::Pump(child),
    })
}

fn tcp(side: &Side, seconds: u64) -> f64 {
    let server = side.to.spawn(&["iperf3", "-s", "-1"]);
    let listening = || {
        side.to
            .run(|| std::fs::read_to_string("/proc/thread-self/net/tcp6"))
            .unwrap()
            .contains(":1451 ")
    };
    common::wait_until("iperf3 listens", Duration::from_secs(5), listening);
    let time = seconds.to_string();
    let output = side
        .from
        .exec(&["iperf3", "-c", &side.target, "-t", &time, "-O", "1", "-J"]);
    server.stop();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .unwrap_or(0.0)
        / 1e9
}

fn udp(side: &Side, seconds: u64) -> f64 {
    let target: Ipv4Addr = side.target.parse().unwrap();
    let receiver = side.to.run(|| UdpSocket::bind((target, 9000))).unwrap();
    drop(socket2::SockRef::from(&receiver).set_recv_buffer_size(4 << 20));
    receiver
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let sender = side.from.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    sender.connect((target, 9000)).unwrap();
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut rate = 0.0;
    thread::scope(|scope| {
        scope.spawn(|| receive(&receiver, &stop, &received));
        scope.spawn(|| send(&sender, &stop));
        thread::sleep(Duration::from_millis(300));
        let (start, before) = (clock::now(), received.load(Ordering::Relaxed));
        thread::sleep(Duration::from_secs(seconds));
        let count = received.load(Ordering::Relaxed) - before;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let count = count as f64;
        rate = count / clock::now().since(start).as_secs_f64() / 1e3;
        stop.store(true, Ordering::Relaxed);
    });
    rate
}

fn send(socket: &UdpSocket, stop: &AtomicBool) {
    let payload = [0x5a; 18];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BURST, None);
    let slices = [[IoSlice::new(&payload)]; BURST];
    let nobody = [None; BURST];
    while !stop.load(Ordering::Relaxed) {
        // A full queue, or a moment of ENOBUFS: the rest of the burst is not sent.
        let _: nix::Result<usize> = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            nobody,
            [],
            MsgFlags::empty(),
        )
        .map(Iterator::count);
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, received: &AtomicU64) {
    let mut bufs = vec![[0; 64]; BURST];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BURST, None);
    while !stop.load(Ordering::Relaxed) {
        let mut slices: Vec<_> = bufs.iter_mut().map(|buf| [IoSliceMut::new(buf)]).collect();
        let result = recvmmsg(
            socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        );
        let count = result.map_or(0, Iterator::count);
        received.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn name_of(netns: &Netns) -> String {
    netns.reference().to_string()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Datagrams in one system call.
const BURST: usize = 64;
