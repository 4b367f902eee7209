//! The switches that `tapswitch bench` measures: each is built, forwards everything as it is, tells
//! its counters, and leaves nothing behind.

mod common;

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    thread,
    time::Duration,
};

use common::{Env, links, open_fds};
use libtest_mimic::Trial;
use tapswitch::{
    bench::topology::{Pod, Shape, System, Topology, build},
    control::{api::Request, client::Client},
};

fn main() -> ExitCode {
    // A switch of our own is a child of this program: then it is `tapswitch` itself.
    if env::args().nth(1).is_some_and(|word| word == "run") {
        return tapswitch::cli::run(env::args_os());
    }
    common::main(|env: &Env| {
        // tokio opens two descriptors once and for all.
        drop(Client::new("/run/nobody").request(&Request::Show));
        let mut trials = Vec::new();
        for side in sides() {
            trials.extend(side.trials(env));
        }
        trials
    })
}

/// A system, and what its tests need.
#[derive(Clone)]
struct Side {
    name: &'static str,
    programs: &'static [&'static str],
    system: System,
    overlay: bool,
}

fn sides() -> Vec<Side> {
    vec![
        Side {
            name: "kernel",
            programs: &["ip", "bridge"],
            system: System::Kernel,
            overlay: true,
        },
        Side {
            name: "tapswitch",
            programs: &["ip"],
            system: System::Tapswitch {
                options: Vec::new(),
            },
            overlay: true,
        },
    ]
}

impl Side {
    fn trials(self, env: &Env) -> Vec<Trial> {
        let trial = |what: &str, body: fn(&Side)| {
            let side = self.clone();
            let name = format!("{}_{what}", self.name);
            env.trial_with(self.programs, &name, move || body(&side))
        };
        let mut trials = vec![
            trial("on_one_node", |side| {
                side.check(shape(false, 2));
                side.check(shape(false, 3));
            }),
            trial("next_to_another_of_its_kind", Side::check_two),
        ];
        if self.overlay {
            trials.push(trial("on_an_overlay", |side| {
                side.check(shape(true, 2));
                side.check(shape(true, 3));
            }));
        }
        trials
    }

    fn build(&self, shape: Shape) -> Box<dyn Topology> {
        build(&self.system, shape).unwrap_or_else(|error| panic!("{shape:?}: {error}"))
    }

    /// Builds it, uses it, and looks whether anything stays.
    fn check(&self, shape: Shape) {
        let before = Before::look();
        let topology = self.build(shape);
        assert_eq!(topology.pods().len(), shape.pods);
        check_forwarding(topology.pods());
        check_counts(self, &*topology);
        drop(topology);
        before.check();
    }

    fn check_two(&self) {
        let before = Before::look();
        let first = self.build(shape(false, 2));
        let second = self.build(shape(false, 2));
        check_forwarding(first.pods());
        check_forwarding(second.pods());
        drop(first);
        check_forwarding(second.pods());
        drop(second);
        before.check();
    }
}

fn shape(overlay: bool, pods: usize) -> Shape {
    Shape {
        overlay,
        pods,
        mtu: None,
        addresses: 10_000,
    }
}

/// What could stay behind.
#[derive(Debug, PartialEq)]
struct Before {
    links: Vec<String>,
    files: Vec<String>,
    children: String,
    descriptors: usize,
}

impl Before {
    fn look() -> Self {
        let files = ["/run", "/run/netns"].map(|directory| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string())
        });
        let children = fs::read_dir("/proc/self/task").unwrap().flatten();
        let children = children
            .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        Self {
            links: links(),
            files: files.into_iter().flatten().collect(),
            children: children.collect(),
            descriptors: open_fds(),
        }
    }

    #[track_caller]
    fn check(self) {
        let after = Self::look();
        assert_eq!(after, self);
    }
}

fn check_forwarding(pods: &[Pod]) {
    for (from, sender) in pods.iter().enumerate() {
        for (to, receiver) in pods.iter().enumerate() {
            if from != to {
                check_datagrams(sender, receiver);
                check_stream(sender, receiver);
            }
        }
    }
}

/// Packets of up to 1400 bytes that may not be fragmented (Linux's default), there and back.
#[track_caller]
fn check_datagrams(sender: &Pod, receiver: &Pod) {
    let [sender, receiver] = [sender, receiver].map(|pod| {
        let open = || UdpSocket::bind((pod.address, 0)).unwrap();
        let socket = pod.netns.run_in(open).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    for len in [1, 18, 1372] {
        let sent = bytes(len);
        let mut got = vec![0; 2000];
        sender
            .send_to(&sent, receiver.local_addr().unwrap())
            .unwrap();
        let (there, from) = receiver.recv_from(&mut got).unwrap();
        assert_eq!(
            (&got[..there], from),
            (&sent[..], sender.local_addr().unwrap())
        );
        receiver.send_to(&sent, from).unwrap();
        let (back, _) = sender.recv_from(&mut got).unwrap();
        assert_eq!(got[..back], sent);
    }
}

/// A few megabytes of TCP: unfinished checksums or lost superframes would stop it.
#[track_caller]
fn check_stream(sender: &Pod, receiver: &Pod) {
    let sent = bytes(4 << 20);
    let listen = || TcpListener::bind((receiver.address, 0)).unwrap();
    let listener = receiver.netns.run_in(listen).unwrap();
    let to = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    let mut stream = sender.netns.run_in(connect).unwrap();
    let (mut taken, _) = listener.accept().unwrap();
    taken.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let got = thread::scope(|scope| {
        scope.spawn(|| {
            stream.write_all(&sent).unwrap();
            drop(stream);
        });
        let mut got = Vec::new();
        taken.read_to_end(&mut got).unwrap();
        got
    });
    assert!(
        got == sent,
        "{} of {} bytes, or wrong ones",
        got.len(),
        sent.len()
    );
}

fn check_counts(side: &Side, topology: &dyn Topology) {
    let counts = topology.counts();
    assert_eq!(counts.lost.values().sum::<u64>(), 0, "{counts:?}");
    assert_eq!(counts.cpu_ns.is_some(), side.system != System::Kernel);
    if let System::Tapswitch { .. } = side.system {
        assert!(counts.syscalls.unwrap() > 100, "{counts:?}");
        assert!(counts.frames.unwrap() > 100, "{counts:?}");
    }
    check_datagrams(&topology.pods()[0], &topology.pods()[1]);
    let later = topology.counts();
    assert!(later.cpu_ns >= counts.cpu_ns && later.frames >= counts.frames);
}

/// Bytes without a pattern, always the same.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

const PATIENCE: Duration = Duration::from_secs(5);
