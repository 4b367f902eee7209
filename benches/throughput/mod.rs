//! What both throughput benches share: two namespaces that are joined somehow, measured in turn.

use std::{
    any::Any,
    io::{IoSlice, IoSliceMut},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use tapswitch::sys::clock;

use crate::common::{self, Env, Netns};

/// Two namespaces that are joined somehow.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) from: Netns,
    pub(crate) to: Netns,
    /// The address of `to`.
    pub(crate) target: String,
    #[expect(dead_code, reason = "held, so that it runs")]
    pub(crate) keep: Box<dyn Any>,
}

/// Measures one side for so many seconds.
type Case = fn(&Side, u64) -> f64;

/// Rounds and seconds, as the command line asks; `None`: not now.
pub(crate) fn plan(name: &str) -> Option<(Env, (usize, u64))> {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` runs every bench once: this one only says what it is.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("{name}: measures for minutes; run it with cargo bench --bench {name}");
        return None;
    }
    let env = Env::enter();
    if let Some(reason) = &env.reason_not_to_run {
        println!("{name}: cannot run here: {reason}");
        return None;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    Some((env, if quick { (3, 2) } else { (7, 4) }))
}

/// Measures `sides` in turn, round by round; the first is what the others are compared with.
pub(crate) fn measure(sides: &[Side], (rounds, seconds): (usize, u64)) {
    for side in sides {
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
        let first = median(&results[0]);
        for (side, results) in sides.iter().zip(&results) {
            let (low, high) = results.iter().fold((f64::MAX, 0.0_f64), |(low, high), &x| {
                (low.min(x), high.max(x))
            });
            let middle = median(results);
            println!(
                "  {:<24} {middle:8.2} {unit} [{low:.2} .. {high:.2}]  {:.2} x",
                side.name,
                middle / first
            );
        }
    }
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

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Datagrams in one system call.
const BURST: usize = 64;
