//! The metrics as Prometheus reads them, over both sockets.

mod fake;
mod openmetrics;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use fake::{Fake, FakeDaemon, overlay, sample_bridge, sample_port};
use tapswitch::{
    bridge::DropReason,
    control::{
        Controller,
        api::{Request, StatsInfo, WorkerInfo},
        metrics::{Audience, MetricsError, MetricsListener, encode},
        server::serve_metrics,
    },
};
use tokio::sync::{broadcast, oneshot};

/// One of everything.
fn stats() -> StatsInfo {
    StatsInfo {
        name: "host".to_owned(),
        version: "0.1.0".to_owned(),
        started: 1_700_000_000.0,
        uptime_s: 100.0,
        bridges: vec![sample_bridge(), overlay::overlay_bridge()],
        ports: vec![sample_port()],
        peers: vec![overlay::sample_peer(), overlay::lost_peer()],
        vtep: Some(overlay::sample_vtep()),
        workers: vec![WorkerInfo::default(); 2],
        unaccounted: 0,
    }
}

#[test]
fn the_text_obeys_the_rules_and_says_what_the_counters_say() {
    let series = openmetrics::read(&encode(stats()).unwrap());

    let port = |name: &str| series[&format!("{name}{{bridge=\"br0\",port=\"podA\"}}")];
    assert_eq!(port("tapswitch_port_receive_frames_total"), 12.0);
    assert_eq!(port("tapswitch_port_receive_bytes_total"), 1176.0);
    assert_eq!(port("tapswitch_port_transmit_frames_total"), 10.0);
    assert_eq!(port("tapswitch_port_transmit_bytes_total"), 980.0);
    assert_eq!(port("tapswitch_port_mtu_bytes"), 1500.0);
    let drops = |direction: &str, reason: &str| {
        let place = "bridge=\"br0\"";
        let labels = format!("{place},direction={direction:?},port=\"podA\",reason={reason:?}");
        series.get(&format!("tapswitch_drops_total{{{labels}}}"))
    };
    assert_eq!(drops("receive", "queue_full"), Some(&1.0));
    assert_eq!(drops("transmit", "queue_full"), Some(&2.0));
    // There before it happens, so that a rate sees the first one.
    assert_eq!(drops("receive", "no_egress"), Some(&0.0));
    assert_eq!(drops("transmit", "too_big"), Some(&0.0));
    let of_port = series
        .keys()
        .filter(|series| series.contains("port=\"podA\""));
    assert!(of_port.count() <= 40, "too many series for one port");
    assert_eq!(series["tapswitch_unaccounted_frames{}"], 0.0);
    assert_eq!(series["tapswitch_start_time_seconds{}"], 1_700_000_000.0);
    assert_eq!(
        series["tapswitch_port_state{bridge=\"br0\",port=\"podA\",state=\"up\"}"],
        1.0
    );
    assert_eq!(
        series["tapswitch_port_state{bridge=\"br0\",port=\"podA\",state=\"gone\"}"],
        0.0
    );
}

#[test]
fn every_reason_that_happens_has_its_series() {
    let mut stats = stats();
    let all = || {
        DropReason::ALL
            .iter()
            .map(|reason| (reason.name().to_owned(), 3))
    };
    stats.ports[0].drops = all().collect();
    stats.ports[0].drops_in = all().map(|(reason, _)| (reason, 1)).collect();

    let series = openmetrics::read(&encode(stats).unwrap());

    for reason in DropReason::ALL {
        for (direction, count) in [("receive", 1.0), ("transmit", 2.0)] {
            let labels =
                format!("bridge=\"br0\",direction={direction:?},port=\"podA\",reason=\"{reason}\"");
            assert_eq!(series[&format!("tapswitch_drops_total{{{labels}}}")], count);
        }
    }
}

#[test]
fn a_value_of_a_label_may_be_any_text() {
    let mut stats = stats();
    stats.name = "a\"b\\c\nd{}=,é".to_owned();

    let series = openmetrics::read(&encode(stats.clone()).unwrap());

    let expected = format!(
        "tapswitch_build_info{{name={:?},version=\"0.1.0\"}}",
        stats.name
    );
    assert_eq!(series[&expected], 1.0, "{series:?}");
}

#[test]
fn a_switch_with_nothing_in_it_has_metrics_too() {
    let series = openmetrics::read(&encode(StatsInfo::default()).unwrap());

    assert_eq!(series["tapswitch_unaccounted_frames{}"], 0.0);
    assert!(!series.keys().any(|series| series.contains("port=")));
}

#[test]
fn the_table_in_the_documentation_names_every_metric_with_its_labels() {
    let source = include_str!("../src/control/metrics.rs");
    let row = |line: &str| -> Option<(String, String)> {
        let (name, rest) = line.strip_prefix("//! | `")?.split_once("` | ")?;
        let labels = rest.split(" |").next()?;
        Some((
            name.to_owned(),
            labels.trim_end_matches('|').trim().to_owned(),
        ))
    };
    let documented: BTreeMap<_, _> = source.lines().filter_map(row).collect();
    let series = openmetrics::read(&encode(stats()).unwrap());

    assert_eq!(
        documented.keys().cloned().collect::<BTreeSet<_>>(),
        openmetrics::names(&series)
    );
    for series in series.keys() {
        let (name, labels) = series.split_once('{').unwrap();
        for label in labels
            .split("\",")
            .filter_map(|label| label.split_once('='))
        {
            let known = documented[name]
                .split([',', ' '])
                .any(|word| word == label.0);
            assert!(known, "{name} has the label {}, says its text", label.0);
        }
    }
}

#[test]
fn every_metric_that_the_dashboard_asks_for_exists_and_nearly_all_are_shown() {
    let dashboard = include_str!("../examples/grafana.json");
    let parsed: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let series = openmetrics::read(&encode(stats()).unwrap());
    let known = openmetrics::names(&series);
    let mut queries = Vec::new();
    collect(&parsed, &mut queries);

    let mut asked = BTreeSet::new();
    for query in &queries {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics: Vec<_> = words
            .filter(|word| word.starts_with("tapswitch_"))
            .collect();
        assert!(!metrics.is_empty(), "{query} asks for nothing of ours");
        for metric in metrics {
            assert!(known.contains(metric), "{query} asks for {metric}");
            asked.insert(metric.to_owned());
        }
        // A label that no metric has would select nothing.
        for matcher in query.split(['{', ',']).filter(|part| part.contains("=~\"")) {
            let label = matcher.split("=~").next().unwrap();
            assert!(["instance", "bridge"].contains(&label), "{query}: {label}");
        }
    }
    assert!(queries.len() > 30, "only {} queries", queries.len());
    let unused: Vec<_> = known.difference(&asked).collect();
    assert_eq!(unused, ["tapswitch_vtep_stray_bytes_total"]);
}

fn collect(value: &serde_json::Value, queries: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "definition"].contains(&key.as_str()) => {
                        queries.push(text.to_owned());
                    }
                    _ => collect(value, queries),
                }
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| collect(value, queries));
        }
        _ => {}
    }
}

#[test]
fn the_control_socket_serves_them_to_curl() {
    let daemon = FakeDaemon::start("metrics");
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();

    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    let series = openmetrics::read(body);
    assert_eq!(
        series["tapswitch_port_receive_frames_total{bridge=\"br0\",port=\"podA\"}"],
        12.0
    );
    assert_eq!(daemon.requests(), [Request::Counters]);
}

/// The metrics on TCP alone.
struct Served {
    fake: Arc<Fake>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        Self::for_audience(Audience::Local)
    }

    fn for_audience(audience: Audience) -> Self {
        let fake = Arc::new(Fake {
            requests: std::sync::Mutex::default(),
            events: broadcast::Sender::new(64),
        });
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = MetricsListener::bind(any_port, audience).unwrap();
        let address = listener.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let controller: Arc<dyn Controller> = fake.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let shutdown = async { drop(stopped.await) };
            let served = serve_metrics(listener, controller, shutdown);
            runtime.block_on(served).unwrap();
        });
        Self {
            fake,
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        drop(stream.write_all(request.as_bytes()));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, route: &str) -> String {
        self.ask(&format!("GET {route} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[test]
fn over_tcp_there_is_nothing_but_the_metrics() {
    let served = Served::start();

    assert!(served.get("/metrics").starts_with("HTTP/1.1 200"));
    let metrics = served.fake.requests.lock().unwrap().drain(..).count();
    assert_eq!(metrics, 1);
    for route in ["/", "/v1/show", "/v1/request", "/v1/events", "/metrics/x"] {
        assert!(served.get(route).starts_with("HTTP/1.1 404"), "{route}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let body = r#"{"op":"port-del","name":"podA"}"#;
        let head = format!("content-length: {}\r\nhost: localhost", body.len());
        for route in ["/metrics", "/v1/request"] {
            let answer = served.ask(&format!(
                "{method} {route} HTTP/1.1\r\n{head}\r\n\r\n{body}"
            ));
            assert!(
                answer.starts_with("HTTP/1.1 404"),
                "{method} {route}: {answer}"
            );
        }
    }
    assert_eq!(served.fake.requests.lock().unwrap().len(), 0);
}

#[test]
fn a_page_that_calls_this_host_by_its_own_name_reads_no_metrics() {
    let served = Served::start();
    let get = |served: &Served, host: &str| {
        let answer = served.ask(&format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        answer.lines().next().unwrap_or_default().to_owned()
    };
    for host in [
        "127.0.0.1",
        "127.0.0.1:9100",
        "[::1]:9100",
        "localhost:9100",
        "LocalHost",
    ] {
        assert_eq!(get(&served, host), "HTTP/1.1 200 OK", "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:9100",
        "localhost.evil.example",
        "127.0.0.1.evil",
    ] {
        assert_eq!(
            get(&served, host),
            "HTTP/1.1 421 Misdirected Request",
            "{host}"
        );
    }
    let asked = served.fake.requests.lock().unwrap().len();
    assert!(asked <= 5, "{asked}");

    // Who serves the whole network is called by whatever name that has.
    let served = Served::for_audience(Audience::Anybody);
    assert_eq!(get(&served, "switch.example:9100"), "HTTP/1.1 200 OK");
}

#[test]
fn who_asks_over_tcp_again_and_again_does_not_reach_the_workers_each_time() {
    let served = Served::start();
    let start = now();
    for _ in 0..50 {
        assert!(served.get("/metrics").ends_with("# EOF\n"));
    }

    let reads = served.fake.requests.lock().unwrap().len();
    let most = 1 + start.elapsed().as_millis() / 250;
    assert!((1..=most as usize).contains(&reads), "{reads} reads");
}

#[test]
fn idle_connections_over_tcp_make_room_for_requests() {
    let served = Served::start();
    let idle: Vec<TcpStream> = (0..200).map(|_| served.connect()).collect();

    assert!(served.get("/metrics").starts_with("HTTP/1.1 200"));
    drop(idle);
}

#[test]
fn addresses_that_others_reach_are_refused_unless_they_are_meant() {
    for address in [
        "0.0.0.0:0",
        "[::]:0",
        "192.0.2.1:9472",
        "[::ffff:127.0.0.1]:0",
    ] {
        let error = MetricsListener::bind(address.parse().unwrap(), Audience::Local).unwrap_err();
        assert!(matches!(error, MetricsError::Exposed { .. }), "{error}");
        assert!(error.is_usage());
    }
    let open = MetricsListener::bind("0.0.0.0:0".parse().unwrap(), Audience::Anybody).unwrap();
    assert_ne!(open.address().unwrap().port(), 0);
}

#[test]
fn the_daemon_says_what_is_wrong_with_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let directory = std::env::temp_dir().join(format!("tsw-bind-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("s");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tapswitch"))
            .env("TAPSWITCH_SOCKET", &socket)
            .arg("run")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };

    let (code, said) = run(&["--metrics", &taken.to_string()]);
    assert_eq!(code, Some(1), "{said}");
    let port = taken.port();
    assert!(
        said.contains(&format!(
            "serve metrics on 127.0.0.1:{port}: Address already in use"
        )),
        "{said}"
    );
    assert!(
        said.contains(&format!("ss -ltnp sport = :{port}")),
        "{said}"
    );
    let (code, said) = run(&["--metrics", "0.0.0.0:9472"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("allow it with --metrics-remote"), "{said}");
    assert_eq!(run(&["--metrics", "somewhere"]).0, Some(2));
    assert_eq!(run(&["--metrics-remote"]).0, Some(2));
    assert!(!socket.exists());
    drop(std::fs::remove_dir_all(&directory));
}

#[expect(clippy::disallowed_methods, reason = "the test measures real time")]
fn now() -> Instant {
    Instant::now()
}
