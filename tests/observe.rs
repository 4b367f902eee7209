//! Watching a switch in real namespaces: what happens is told, and all counters say the same.

mod common;
mod openmetrics;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ExitCode, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use common::{Env, Netns, wait_until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tapswitch::sys::clock;

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let trial = |name: &str, body: fn()| env.trial_with(&["ping"], name, body);
        let trials: Vec<Trial> = vec![
            trial(
                "a_scrape_says_what_stats_says_and_deleted_ports_vanish",
                scrape,
            ),
            trial("frames_that_are_lost_are_told_once_a_second", drops),
            trial(
                "what_happens_to_a_port_is_told_wherever_it_happens",
                port_events,
            ),
            trial("addresses_are_told_from_learning_to_ageing", fdb_events),
        ];
        trials
    })
}

fn scrape() {
    let daemon = Daemon::start();
    let (pod_a, _pod_b) = daemon.two_pods();
    ping(&pod_a, "192.0.2.2");

    // The hosts speak IPv6 a little by themselves, so it may take more than one look.
    wait_until("both say the same", LONG, || {
        let stats = daemon.json(&["stats"]);
        let over_tcp = daemon.scrape();
        assert_eq!(stats["unaccounted"], 0);
        agree(&stats, &over_tcp)
    });

    daemon.run(&["port", "del", "podB"]);
    wait_until("podB is gone", LONG, || {
        let series = daemon.scrape();
        let is_there = |port: &str| {
            let label = format!("port=\"{port}\"");
            series.keys().any(|series| series.contains(&label))
        };
        assert!(is_there("podA"));
        !is_there("podB")
    });
    assert_eq!(daemon.scrape()["tapswitch_unaccounted_frames{}"], 0.0);
}

/// Whether every counter of every port, and of the FDB, is the same in both.
fn agree(stats: &Value, series: &openmetrics::Series) -> bool {
    let same = |name: &str, labels: &str, value: &Value| {
        series.get(&format!("tapswitch_{name}{{{labels}}}")) == value.as_f64().as_ref()
    };
    let ports = stats["ports"].as_array().unwrap();
    assert_eq!(ports.len(), 2);
    let ports_agree = ports.iter().all(|port| {
        let labels = format!("bridge=\"br0\",port={}", port["name"]);
        let of_port = format!("port={}", port["name"]);
        let of_drops = series.iter().filter(|(series, _)| {
            series.starts_with("tapswitch_drops_total") && series.contains(&of_port)
        });
        let drops: f64 = of_drops.map(|(_, count)| count).sum();
        let told = port["drops"].as_object().unwrap().values();
        let told: f64 = told.filter_map(Value::as_f64).sum();
        same("port_receive_frames_total", &labels, &port["rx"]["frames"])
            && same("port_receive_bytes_total", &labels, &port["rx"]["bytes"])
            && same("port_transmit_frames_total", &labels, &port["tx"]["frames"])
            && same("port_transmit_bytes_total", &labels, &port["tx"]["bytes"])
            && same("port_mtu_bytes", &labels, &port["mtu"])
            && drops == told
    });
    let bridge = &stats["bridges"][0];
    let of_bridge = |name: &str, value: &Value| same(name, "bridge=\"br0\"", value);
    ports_agree
        && of_bridge("fdb_entries", &bridge["fdb_entries"])
        && of_bridge("fdb_learned_total", &bridge["fdb_counters"]["learned"])
}

fn drops() {
    let daemon = Daemon::start();
    let (pod_a, _pod_b) = daemon.two_pods();
    let monitor = daemon.monitor(&["--kind", "drops"]);
    // In this order: before, what podA says by itself would be learned once more.
    daemon.run(&["port", "set", "podA", "locked", "on"]);
    daemon.run(&["fdb", "flush"]);

    drop(pod_a.exec(&["ping", "-c", "3", "-i", "0.05", "-W", "1", "192.0.2.2"]));

    let event = monitor.wait_for(|event| event["reason"] == "locked");
    assert_eq!(event["event"], "drops");
    assert_eq!(event["port"], "podA");
    assert_eq!(event["bridge"], "br0");
    assert_eq!(event["direction"], "receive");
    // All events of it together are all drops.
    let mut told = event["count"].as_u64().unwrap();
    let all = || {
        let stats = daemon.json(&["stats", "podA"]);
        stats["ports"][0]["drops"]["locked"].as_u64().unwrap()
    };
    wait_until("all are told", LONG, || {
        for event in monitor.events.try_iter() {
            assert_eq!(event["event"], "drops", "another kind");
            if event["reason"] == "locked" {
                told += event["count"].as_u64().unwrap();
            }
        }
        told == all()
    });
}

fn port_events() {
    let daemon = Daemon::start();
    let (pod_a, pod_b) = daemon.two_pods();
    let monitor = daemon.monitor(&["port", "--kind", "mtu,bridge"]);
    let told = |change: &str| {
        let is_it = |event: &Value| event["event"] == "port" && event["change"] == change;
        let event = monitor.wait_for(is_it);
        let age = clock::unix_time() - event["time"].as_f64().unwrap();
        assert!((0.0..5.0).contains(&age), "{age} s ago: {event}");
        event
    };

    pod_a.ip("link set eth0 down");
    let down = told("down");
    assert_eq!(
        (&down["port"], &down["state"]),
        (&json!("podA"), &json!("down"))
    );
    assert_eq!(down["reason"], "its interface is down inside the namespace");
    pod_a.ip("link set eth0 up");
    assert_eq!(told("up")["state"], "up");
    daemon.run(&["port", "set", "podA", "down"]);
    assert_eq!(told("down")["reason"], "set down");
    daemon.run(&["port", "set", "podA", "up"]);
    assert_eq!(told("up")["port"], "podA");
    daemon.run(&["port", "set", "podA", "isolated", "on"]);
    told("changed");
    pod_a.ip("link set eth0 mtu 1400");
    let mtu = monitor.wait_for(|event| event["event"] == "mtu");
    assert_eq!((&mtu["port"], &mtu["mtu"]), (&json!("podA"), &json!(1400)));
    let name = pod_b.name().to_owned();
    pod_b.delete();
    assert_eq!(told("gone")["port"], "podB");
    let _again = Netns::named(&name);
    assert_eq!(told("returned")["state"], "up");
    daemon.run(&["port", "del", "podB"]);
    told("deleted");
    daemon.run(&["bridge", "add", "br1"]);
    let bridge = monitor.wait_for(|event| event["event"] == "bridge");
    assert_eq!(bridge["change"], "added");
}

fn fdb_events() {
    let daemon = Daemon::start();
    daemon.run(&["bridge", "add", "br0", "--ageing", "1s", "--fdb-limit", "1"]);
    let monitor = daemon.monitor(&["fdb"]);
    let pod = |number: u8| {
        let pod = Netns::new(&format!("p{number}"));
        daemon.run(&[
            "port",
            "add",
            &format!("p{number}"),
            "--bridge",
            "br0",
            "--netns",
            pod.name(),
            "--mac",
            &format!("02:00:00:00:00:0{number}"),
            "--address",
            &format!("192.0.2.{number}/24"),
        ]);
        pod
    };
    let told = |change: &str, mac: &str| {
        let is_it = |event: &Value| event["change"] == change && event["mac"] == mac;
        monitor.wait_for(is_it)
    };
    let (first, second) = (pod(1), pod(2));
    let speak = |pod: &Netns| drop(pod.exec(&["ping", "-c", "1", "-W", "1", "192.0.2.9"]));

    speak(&first);
    let learned = told("learned", "02:00:00:00:00:01");
    assert_eq!(
        (&learned["port"], &learned["bridge"]),
        (&json!("p1"), &json!("br0"))
    );
    told("aged", "02:00:00:00:00:01");
    speak(&second);
    told("learned", "02:00:00:00:00:02");
    speak(&first);
    // One of the two has no room.
    monitor.wait_for(|event| event["change"] == "limit");
}

/// The program, and what it tells over TCP.
struct Daemon(common::Daemon);

impl Daemon {
    fn start() -> Self {
        Self(common::Daemon::start_with(&[
            "--name",
            "observed",
            "--metrics",
            METRICS,
        ]))
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        self.0.screen(&arguments.join(" "))
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// podA with 192.0.2.1 and podB with 192.0.2.2, on br0.
    fn two_pods(&self) -> (Netns, Netns) {
        self.run(&["bridge", "add", "br0"]);
        let pods = [("podA", "192.0.2.1/24"), ("podB", "192.0.2.2/24")].map(|(port, address)| {
            let pod = Netns::new(port);
            let options = [
                "--bridge",
                "br0",
                "--netns",
                pod.name(),
                "--address",
                address,
            ];
            self.run(&[&["port", "add", port], &options[..]].concat());
            pod
        });
        let [a, b] = pods;
        (a, b)
    }

    fn scrape(&self) -> openmetrics::Series {
        let mut stream = TcpStream::connect(METRICS).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        openmetrics::read(body)
    }

    fn monitor(&self, arguments: &[&str]) -> Monitor {
        let mut child = self
            .0
            .program()
            .args(["monitor", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap();
                drop(sender.send(event));
            }
        });
        let monitor = Monitor { child, events };
        // It is there as soon as it has a connection of its own to the daemon.
        // The socket was bound in a directory below this one, and the kernel remembers that name.
        let directory = format!("{}/", self.0.socket().parent().unwrap().display());
        let connections = || {
            let path = format!("/proc/{}/net/unix", self.0.id());
            let sockets = fs::read_to_string(path).unwrap();
            // 03 is SS_CONNECTED: this end of a connection.
            let is_it = |line: &&str| {
                line.contains(&directory) && line.split_whitespace().nth(5) == Some("03")
            };
            sockets.lines().filter(is_it).count()
        };
        wait_until("the monitor listens", LONG, || connections() > 0);
        monitor
    }
}

struct Monitor {
    child: Child,
    events: Receiver<Value>,
}

impl Monitor {
    /// The next event that is wanted.
    #[track_caller]
    fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut others = Vec::new();
        let end = clock::now() + LONG;
        loop {
            let left = end.since(clock::now());
            match self.events.recv_timeout(left) {
                Ok(event) if wanted(&event) => return event,
                Ok(event) => others.push(event),
                Err(_) => panic!("not told, but {others:?}"),
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[track_caller]
fn ping(from: &Netns, to: &str) {
    let output = from.exec(&["ping", "-c", "3", "-i", "0.05", "-W", "2", to]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

const METRICS: &str = "127.0.0.1:9472";
const LONG: Duration = Duration::from_secs(15);
