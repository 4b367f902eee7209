//! `trace` against reality, in namespaces: what the daemons say would happen, and what then does.

mod common;
#[path = "tutorials/lab.rs"]
#[allow(dead_code, reason = "this test uses its part")]
mod lab;

use std::{process::ExitCode, time::Duration};

use common::{Env, Netns, PacketSocket, wait_until};
use lab::Lab;
use libtest_mimic::Trial;
use serde_json::Value;
use tapswitch::{
    control::{
        api::{Hex, Request, TraceDatagrams, TraceFrom, TraceRequest, TraceWhat},
        client::Client,
    },
    sys::netns::NetnsFile,
};

fn main() -> ExitCode {
    common::main(|env: &Env| -> Vec<Trial> {
        vec![
            env.trial_with(
                &["ping"],
                "what_a_trace_says_over_two_daemons_then_happens",
                two_daemons,
            ),
            env.trial_with(&["ping"], "a_trace_tells_what_is_wrong", what_is_wrong),
            env.trial_with(
                &["ping"],
                "a_trace_reads_as_the_transcript_says",
                transcript,
            ),
        ]
    })
}

/// Waits for this frame.
fn expect(socket: &PacketSocket, frame: &[u8]) {
    wait_until("the frame arrives", Duration::from_secs(5), || {
        std::iter::from_fn(|| socket.take()).any(|taken| taken == frame)
    });
}

/// Two machines with a pod each, `podA` on n1 and `podB` on n2; nothing speaks by itself.
struct World {
    one: Lab,
    two: Lab,
    _spaces: Vec<Netns>,
}

impl World {
    fn new() -> Self {
        let spaces: Vec<_> = ["n1", "n2", "nsA", "nsB", "nsC"].map(Netns::named).into();
        for netns in &spaces {
            netns.run(|| {
                for conf in ["all", "default"] {
                    let path = format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6");
                    std::fs::write(path, "1").unwrap();
                }
            });
        }
        common::ip("link add u0 netns n1 type veth peer name u0 netns n2");
        for (netns, address) in [("n1", "192.168.50.10"), ("n2", "192.168.50.20")] {
            common::ip(&format!("-n {netns} address add {address}/24 dev u0"));
            common::ip(&format!("-n {netns} link set u0 up"));
        }
        let (mut one, mut two) = (Lab::node("n1"), Lab::node("n2"));
        one.start("--name node1");
        two.start("--name node2");
        let world = Self {
            one,
            two,
            _spaces: spaces,
        };
        world.one.sh("tapswitch vtep set --local 192.168.50.10
            tapswitch bridge add br0 --vni 42 --peer 192.168.50.20
            tapswitch port add podA --bridge br0 --netns nsA --address 10.1.1.10/24 \
                --mac 02:00:00:00:00:0a
            tapswitch port add podC --bridge br0 --netns nsC --address 10.1.1.30/24 \
                --mac 02:00:00:00:00:0c");
        world.two.sh("tapswitch vtep set --local 192.168.50.20
            tapswitch bridge add br0 --vni 42 --peer 192.168.50.10
            tapswitch port add podB --bridge br0 --netns nsB --address 10.1.1.20/24 \
                --mac 02:00:00:00:00:0b");
        world
    }

    /// Everything that a frame could change, but for the age of entries.
    fn state(&self) -> Vec<Value> {
        let mut state = Vec::new();
        for lab in [&self.one, &self.two] {
            let mut entries = lab.json("fdb show");
            for entry in entries.as_array_mut().unwrap() {
                entry["age_s"].take();
            }
            let mut stats = lab.json("stats");
            for changing in ["workers", "uptime_s", "started"] {
                stats[changing].take();
            }
            state.extend([entries, stats]);
        }
        state
    }

    /// Traces over both, and checks that this changed nothing.
    fn trace(&self, arguments: &str) -> Value {
        // A pod may still be answering the frame before.
        let mut before = self.state();
        wait_until("nothing moves any more", Duration::from_secs(5), || {
            let earlier = std::mem::replace(&mut before, self.state());
            earlier == before
        });
        let traced = self
            .one
            .json(&format!("trace {arguments} --then /run/n2.sock"));
        let after = self.state();
        for (before, after) in before.iter().zip(&after) {
            assert!(
                before == after,
                "trace {arguments} made {before} into {after}"
            );
        }
        traced
    }
}

fn bytes(hex: &Value) -> Vec<u8> {
    hex.as_str().unwrap().parse::<Hex>().unwrap().0
}

/// The frames for `port` in one report.
fn copies_for(report: &Value, port: &str) -> Vec<Vec<u8>> {
    let copies = report["copies"].as_array().unwrap().iter();
    copies
        .filter(|copy| copy["port"] == port)
        .flat_map(|copy| copy["data"].as_array().unwrap())
        .map(bytes)
        .collect()
}

fn two_daemons() {
    let world = World::new();
    let [a, b, c] = ["nsA", "nsB", "nsC"].map(|netns| {
        let netns = NetnsFile::open(&netns.parse().unwrap());
        PacketSocket::inside(&netns.unwrap())
    });
    // Unknown, flooded; then learned, forwarded; a broadcast; nobody is there.
    for packet in [
        "'udp 10.1.1.20:7 dst-mac 02:00:00:00:00:0b'",
        "'arp who-has 10.1.1.20'",
        "'icmp 10.1.1.20 dst-mac 02:00:00:00:00:0b len 1400'",
        "'udp 10.1.1.99:9 dst-mac 02:00:00:00:00:99'",
        "'tcp 10.1.1.30:80 dst-mac 02:00:00:00:00:0c'",
    ] {
        let traced = world.trace(&format!("--in podA {packet}"));
        let frame = bytes(&traced["data"]);
        let there = &traced["then"][0];
        let ours = copies_for(&traced, "podC");
        let theirs = match there {
            Value::Null => Vec::new(),
            there => copies_for(there, "podB"),
        };
        assert!(!ours.is_empty() || !theirs.is_empty(), "{packet}: {traced}");
        let before = [&world.one, &world.two].map(|lab| lab.json("stats")["ports"].clone());

        assert_eq!(a.send(&frame), Ok(frame.len()));
        for copy in &ours {
            expect(&c, copy);
        }
        for copy in &theirs {
            expect(&b, copy);
        }
        // Who should get nothing got nothing of it.
        for (socket, copies) in [(&c, &ours), (&b, &theirs)] {
            if copies.is_empty() {
                let stray = std::iter::from_fn(|| socket.take()).any(|taken| taken == frame);
                assert!(!stray, "{packet} got where the trace says that it does not");
            }
        }
        let after = [&world.one, &world.two].map(|lab| lab.json("stats")["ports"].clone());
        assert_ne!(before, after);
    }
    world.one.ping("nsA", "10.1.1.20");

    // With what the ping has taught, the kernel's own ping and its trace agree.
    let traced = world.trace("--in podA 'icmp 10.1.1.20'");
    let steps = traced["steps"].to_string();
    assert!(steps.contains("in the neighbour table of podA"), "{steps}");
    assert!(steps.contains("FDB row br0 02:00:00:00:00:0b"), "{steps}");
    assert_eq!(traced["then"][0]["copies"][0]["port"], "podB");
    assert_eq!(traced["then"][0]["verdict"], "delivered");

    // A superframe, as a kernel hands it over.
    let traced = world.trace("--in podA tcp 10.1.1.20:80 len 20000 mss 1398");
    assert_eq!(traced["copies"][0]["frames"], 15, "{traced}");
    let there = &traced["then"][0]["copies"][0];
    assert_eq!(
        (&there["frames"], &there["port"]),
        (&15.into(), &"podB".into())
    );
}

fn what_is_wrong() {
    let world = World::new();
    let reason = |traced: &Value| {
        let own = traced["reason"].as_str();
        own.or_else(|| traced["then"][0]["reason"].as_str())
            .map(str::to_owned)
    };
    // The kernel's message takes its time, and what it changes is no change by a trace.
    let podc_is = |state: &str| {
        wait_until("podC has its new state", Duration::from_secs(5), || {
            world.one.port("podC")["state"] == state
        });
    };
    let dst = "dst-mac 02:00:00:00:00:0c";
    let to_podc = format!("--in podA 'icmp 10.1.1.30 {dst}'");

    world
        .one
        .sh("tapswitch fdb add 02:00:00:00:00:0c --port podC");
    assert_eq!(reason(&world.trace(&to_podc)), None);
    common::ip("-n nsC link set eth0 down");
    podc_is("down");
    assert_eq!(
        reason(&world.trace(&to_podc)).as_deref(),
        Some("egress_down")
    );
    common::ip("-n nsC link set eth0 up");
    podc_is("up");
    world
        .one
        .sh("tapswitch port set podA isolated on; tapswitch port set podC isolated on");
    assert_eq!(reason(&world.trace(&to_podc)).as_deref(), Some("isolated"));
    world.one.sh("tapswitch port set podA isolated off");

    world
        .one
        .sh("tapswitch fdb add 02:00:00:00:00:0b --bridge br0 --remote 192.168.50.20");
    let far = "--in podA 'icmp 10.1.1.20 dst-mac 02:00:00:00:00:0b";
    let too_big = world.trace(&format!("{far} len 1472'"));
    assert_eq!(reason(&too_big).as_deref(), Some("too_big"));
    let answer = too_big["steps"].to_string();
    assert!(
        answer.contains("ICMP fragmentation needed, MTU 1450"),
        "{answer}"
    );
    world.two.sh("tapswitch peer del 192.168.50.10");
    assert_eq!(
        reason(&world.trace(&format!("{far}'"))).as_deref(),
        Some("unknown_peer")
    );
    common::ip("-n n1 link set u0 down");
    wait_until("the peer has no route", Duration::from_secs(5), || {
        world.one.json("stats")["peers"][0]["state"] == "no-route"
    });
    assert_eq!(
        reason(&world.trace(&format!("{far}'"))).as_deref(),
        Some("no_route")
    );
    what_cannot_be_traced(&world);
}

/// It is said, with the next step.
fn what_cannot_be_traced(world: &World) {
    let refused = world
        .one
        .refused("tapswitch trace --in podA 'icmp 10.1.1.77'");
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("arp who-has 10.1.1.77"),
        "{}",
        refused.stderr
    );
    let refused = world
        .one
        .refused("tapswitch trace --in podA 'icmp 10.1.1.7x'");
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("no IP address"),
        "{}",
        refused.stderr
    );
    let refused = world
        .one
        .refused("tapswitch trace --in podX 'icmp 10.1.1.7'");
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("no port \"podX\""),
        "{}",
        refused.stderr
    );
    too_many();
    world.one.sh("ip netns del nsC");
    wait_until("the port is gone", Duration::from_secs(5), || {
        world.one.port("podC")["state"] == "gone"
    });
    let refused = world
        .one
        .refused("tapswitch trace --in podC 'arp who-has 10.1.1.10'");
    assert!(refused.stderr.contains("gone"), "{}", refused.stderr);
}

/// Each of them may be a broadcast, of which every port gets a copy.
fn too_many() {
    let many = TraceDatagrams {
        from: "192.168.50.20".parse().unwrap(),
        source_port: None,
        to: "192.168.50.10:4789".parse().unwrap(),
        tos: 0,
        segment: Some(22),
        data: Hex(vec![0; 22 * 257]),
    };
    let request = Request::Trace(TraceRequest {
        from: TraceFrom::Peer {
            remote: many.from,
            vni: None,
        },
        what: TraceWhat::Datagrams(vec![many]),
    });
    let refused = Client::new("/run/n1.sock").request(&request).unwrap_err();
    assert!(
        refused.to_string().contains("257 datagrams; at most 256"),
        "{refused}"
    );
}

/// What is another one each time: ages, and the ports that the kernel chose.
fn settled(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for (before, after, mark) in [("seen ", " s ago", "T"), ("UDP ", " > 4789", "PORT")] {
            let Some(start) = line.find(before).map(|at| at + before.len()) else {
                continue;
            };
            if let Some(len) = line[start..].find(after) {
                line.replace_range(start..start + len, mark);
            }
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

fn transcript() {
    let world = World::new();
    world.one.sh("tapswitch port set podC isolated on");
    world.one.ping("nsA", "10.1.1.20");
    let mut session = String::new();
    for arguments in [
        "--in podA 'arp who-has 10.1.1.20' --then /run/n2.sock",
        "--in podA 'icmp 10.1.1.20' --then /run/n2.sock",
        "--in podA 'tcp 10.1.1.20:80 len 20000 mss 1398' --then /run/n2.sock",
        "--in podA 'icmp 10.1.1.20 len 1472'",
        "--from-peer 192.168.50.99 'arp who-has 10.1.1.10 tell 10.1.1.9 src-mac 02:00:00:00:00:99'",
        "--in podC 'udp 10.1.1.9:53 src-mac 01:00:5e:00:00:01 dst-mac 02:00:00:00:00:09'",
        "--in podA --hex 0200",
    ] {
        let printed = world.one.sh(&format!("tapswitch trace {arguments}"));
        session += &format!("# tapswitch trace {arguments}\n{}\n", settled(&printed));
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/trace_netns/transcript.txt"
    );
    if std::env::var_os("TAPSWITCH_OVERWRITE").is_some() {
        std::fs::write(path, &session).unwrap();
    }
    let promised = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        session, promised,
        "TAPSWITCH_OVERWRITE=1 writes {path} anew"
    );
    assert!(
        session
            .lines()
            .all(|line| line.len() <= 98 || line.starts_with('#'))
    );
}
