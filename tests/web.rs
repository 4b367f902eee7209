//! The live page's server: what it tells, whom it refuses, and what slow, many and hostile browsers
//! cost.

mod fake;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use fake::{Fake, FakeDaemon, name};
use serde_json::Value;
use tapswitch::{
    control::{
        Capturing, Controller,
        api::{
            ApiError, CaptureLine, CaptureRequest, CapturedFrame, Event, Hex, PortChange, Request,
            Response, WhyReport,
        },
        client::Client,
    },
    sim::frames,
    web::{FRAMES, Node, Token, WebError, WebListener, serve},
};
use tokio::sync::{broadcast, mpsc, oneshot};

const TOKEN: &str = "0123456789abcdef";

#[expect(clippy::disallowed_methods, reason = "the test measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// A switch that is played, with captures that the test feeds.
struct Player {
    fake: Fake,
    captures: Mutex<Vec<(CaptureRequest, mpsc::Sender<Vec<u8>>)>>,
    /// If not 0: how many rows the first bridge's FDB has.
    rows: AtomicUsize,
}

impl Player {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            fake: Fake {
                requests: Mutex::default(),
                events: broadcast::Sender::new(64),
            },
            captures: Mutex::default(),
            rows: AtomicUsize::new(0),
        })
    }

    fn requests(&self) -> Vec<Request> {
        self.fake.requests.lock().unwrap().clone()
    }

    /// Waits until a capture runs.
    fn capture(&self) -> (CaptureRequest, mpsc::Sender<Vec<u8>>) {
        until("a capture runs", || {
            let captures = self.captures.lock().unwrap();
            let open = captures.iter().rfind(|(_, sender)| !sender.is_closed());
            open.cloned()
        })
    }
}

impl Controller for Player {
    fn execute(&self, request: Request) -> Result<Response, ApiError> {
        let mut response = self.fake.execute(request.clone())?;
        match request {
            Request::FdbWhy { .. } => return Ok(Response::FdbWhy(Vec::new())),
            Request::Why(_) => {
                return Ok(Response::Why(WhyReport {
                    entries: Vec::new(),
                    left_out: 0,
                    crowded_out: 0,
                    hint: None,
                }));
            }
            _ => {}
        }
        let rows = self.rows.load(Ordering::Relaxed);
        if let Response::Show(show) = &mut response
            && rows > 0
        {
            show.bridges[0].fdb_entries = rows;
        }
        Ok(response)
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.fake.subscribe()
    }

    fn capture(&self, request: CaptureRequest) -> Result<Capturing, ApiError> {
        let (sender, pieces) = mpsc::channel(4);
        self.captures.lock().unwrap().push((request, sender));
        Ok(Capturing { id: 1, pieces })
    }
}

/// Waits for something that will come.
#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "not yet: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The server.
struct Page {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Page {
    fn start(nodes: Vec<Node>, token: Option<&str>) -> Self {
        let token = token.map(|word| Token::new(word).unwrap());
        let any_port = "127.0.0.1:0".parse().unwrap();
        let listener = WebListener::bind(any_port, token).unwrap();
        let address = listener.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let shutdown = async { drop(stopped.await) };
            runtime.block_on(serve(listener, nodes, shutdown)).unwrap();
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// One node, `one`, that is played.
    fn played(token: Option<&str>) -> (Self, Arc<Player>) {
        let player = Player::new();
        let page = Self::start(vec![Node::here("one", player.clone())], token);
        (page, player)
    }

    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // The server may hang up before it has taken everything.
        drop(stream.write_all(request));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get_with(&self, path: &str, headers: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\n{headers}\r\n").as_bytes())
    }

    fn get(&self, path: &str) -> String {
        self.get_with(path, &format!("host: {}\r\n", self.address))
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// Asks for a change as the page does, but for what `damage` makes of the head.
    fn change(&self, body: &str, damage: impl Fn(&str) -> String) -> String {
        let address = self.address;
        let head = format!(
            "host: {address}\r\norigin: http://{address}\r\nauthorization: Bearer {TOKEN}\r\n"
        );
        let head = damage(&head);
        let len = body.len();
        let request = format!(
            "POST /api/nodes/one/request HTTP/1.1\r\n{head}content-length: {len}\r\n\r\n{body}"
        );
        self.raw(request.as_bytes())
    }

    fn live(&self) -> Live {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let host = self.address;
        write!(stream, "GET /api/live HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
        Live(BufReader::new(stream))
    }

    fn assert_responsive(&self) {
        for _ in 0..10 {
            let start = now();
            assert!(self.get("/").starts_with("HTTP/1.1 200"));
            let elapsed = start.elapsed();
            assert!(elapsed < Duration::from_millis(500), "took {elapsed:?}");
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A browser that listens.
struct Live(BufReader<TcpStream>);

impl Live {
    /// The next event: its name, its text, and what that means.
    fn next(&mut self) -> Option<(String, String, Value)> {
        let mut event = String::new();
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
            if let Some(name) = line.strip_prefix("event: ") {
                name.trim().clone_into(&mut event);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                let value = serde_json::from_str(data).unwrap();
                return Some((event, data.trim_end().to_owned(), value));
            }
        }
    }

    /// The next event of this name.
    #[track_caller]
    fn wait_for(&mut self, name: &str) -> Value {
        loop {
            let (event, _, value) = self.next().unwrap_or_else(|| panic!("no {name} comes"));
            if event == name {
                return value;
            }
        }
    }
}

fn frame(bytes: &[u8]) -> CapturedFrame {
    CapturedFrame {
        time: 1_700_000_000.5,
        interface: "podA".to_owned(),
        bridge: Some(name("br0")),
        vni: None,
        side: "in".to_owned(),
        form: "frame".to_owned(),
        verdict: "flooded".to_owned(),
        reason: None,
        to: Some("2 (broadcast)".to_owned()),
        from: None,
        class: Some("broadcast".to_owned()),
        frames: 1,
        lesson: None,
        learned: Some("learned 02:00:00:00:00:01 here".to_owned()),
        fdb: None,
        len: bytes.len(),
        captured: bytes.len(),
        offload: None,
        text: "arp <script>alert(1)</script>".to_owned(),
        comment: "flooded & learned".to_owned(),
        hex: Some(Hex(bytes.to_vec())),
    }
}

fn line(line: &CaptureLine) -> Vec<u8> {
    let mut text = serde_json::to_vec(line).unwrap();
    text.push(b'\n');
    text
}

fn frame_line() -> Vec<u8> {
    let frame = frame(&frames::arp_request(1, 2));
    line(&CaptureLine::Frame(Box::new(frame)))
}

#[test]
fn the_page_has_all_that_it_needs_and_may_load_nothing_else() {
    let (page, _) = Page::played(None);
    let index = page.get("/");
    let mut files: Vec<&str> = Vec::new();
    for mark in ["src=\"", "href=\""] {
        files.extend(
            index
                .split(mark)
                .skip(1)
                .filter_map(|rest| rest.split('"').next()),
        );
    }
    assert!(!files.is_empty());
    for file in files.iter().chain(&["", "index.html"]) {
        let file = file.trim_start_matches(['.', '/']);
        let answer = page.get(&format!("/{file}"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{file}: {head}");
        assert!(!body.is_empty(), "{file}");
    }
    let (head, body) = index.split_once("\r\n\r\n").unwrap();
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "frame-ancestors 'none'",
    ] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
    for inline in [
        "<script>",
        "<style",
        " style=\"",
        " onclick",
        "javascript:",
        "http://",
        "https://",
    ] {
        assert!(!body.contains(inline), "{inline} is in the page");
    }
    assert!(page.get("/nothing").starts_with("HTTP/1.1 404"));
    assert!(page.get("/../Cargo.toml").starts_with("HTTP/1.1 404"));
}

#[test]
fn whoever_names_another_host_or_asks_from_another_sites_page_is_refused() {
    let (page, player) = Page::played(Some(TOKEN));
    let port = page.address.port();
    for host in [
        "host: example.com\r\n".to_owned(),
        format!("host: 127.0.0.1.example.com:{port}\r\n"),
        format!("host: 192.0.2.1:{port}\r\n"),
        "host: \r\n".to_owned(),
        String::new(),
    ] {
        for path in ["/", "/api/replay", "/api/live", "/app.js"] {
            let answer = page.get_with(path, &host);
            let is_refused =
                answer.starts_with("HTTP/1.1 421") || answer.starts_with("HTTP/1.1 400");
            assert!(is_refused, "{host:?} {path}: {answer}");
        }
    }
    for host in [
        format!("127.0.0.1:{port}"),
        format!("LocalHost:{port}"),
        "[::1]".to_owned(),
    ] {
        let answer = page.get_with("/", &format!("host: {host}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    let from = |site: &str, mode: &str, path: &str| {
        let host = page.address;
        let head = format!("host: {host}\r\nsec-fetch-site: {site}\r\nsec-fetch-mode: {mode}\r\n");
        page.get_with(path, &head)
    };
    player.fake.requests.lock().unwrap().clear();
    for site in ["cross-site", "same-site"] {
        for (mode, path) in [
            ("cors", "/api/replay"),
            ("no-cors", "/app.js"),
            ("navigate", "/api/replay"),
        ] {
            let answer = from(site, mode, path);
            assert!(
                answer.starts_with("HTTP/1.1 403"),
                "{site} {mode} {path}: {answer}"
            );
        }
        assert!(from(site, "navigate", "/").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(player.requests(), []);
    assert!(from("same-origin", "cors", "/api/replay").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_change_needs_the_token_and_the_pages_own_origin() {
    const DOWN: &str = r#"{"op":"port-set","name":"podA","up":false}"#;
    let (page, player) = Page::played(Some(TOKEN));
    let address = page.address.to_string();
    let same = |head: &str| head.to_owned();

    type Damage<'a> = Box<dyn Fn(&str) -> String + 'a>;
    let without = |what: &'static str| -> Damage<'_> {
        Box::new(move |head| {
            let lines = head.split_inclusive("\r\n");
            lines.filter(|line| !line.starts_with(what)).collect()
        })
    };
    let with = |from: &'static str, to: &'static str| -> Damage<'_> {
        Box::new(move |head| head.replace(from, to))
    };
    let origin = format!("http://{address}");
    let other_origin: Damage<'_> = Box::new(|head| head.replace(&origin, "http://127.0.0.1:1"));
    for (status, damage) in [
        ("401", without("authorization")),
        ("401", with(TOKEN, "0123456789abcdee")),
        ("401", with(TOKEN, "0123456789abcdef0")),
        ("401", with(TOKEN, "")),
        ("401", with("Bearer", "Basic")),
        ("403", without("origin")),
        ("403", with("origin: http://", "origin: https://")),
        ("403", with("origin: http://", "origin: null, http://")),
        ("403", other_origin),
        ("421", with("host: 127", "host: example.com, 127")),
    ] {
        let answer = page.change(DOWN, damage);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{status}: {answer}"
        );
    }
    for (status, body) in [
        ("403", r#"{"op":"port-del","name":"podA"}"#),
        (
            "403",
            r#"{"op":"port-set","name":"podA","up":false,"mac":"02:00:00:00:00:01"}"#,
        ),
        ("403", r#"{"op":"show"}"#),
        ("400", r#"{"op":"reboot"}"#),
        ("400", "<script>"),
        ("400", ""),
    ] {
        let answer = page.change(body, same);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{body}: {answer}"
        );
    }
    let long = format!("{{\"op\":\"{}\"}}", "x".repeat(20_000));
    assert!(page.change(&long, same).starts_with("HTTP/1.1 413"));
    assert_eq!(player.requests(), [], "nothing was asked of the switch");

    assert!(page.change(DOWN, same).starts_with("HTTP/1.1 200"));
    let change = PortChange {
        up: Some(false),
        ..PortChange::new(name("podA"))
    };
    assert_eq!(player.requests(), [Request::PortSet(change)]);

    // A page without a token changes nothing, whatever is said.
    let (page, player) = Page::played(None);
    assert!(page.change(DOWN, same).starts_with("HTTP/1.1 403"));
    assert_eq!(player.requests(), []);
}

#[test]
fn other_hosts_are_let_in_only_where_there_is_a_token() {
    let any = "0.0.0.0:0".parse().unwrap();
    let error = WebListener::bind(any, None).unwrap_err();
    assert!(matches!(error, WebError::Exposed { .. }) && error.is_usage());
    assert!(error.to_string().contains("take 127.0.0.1"), "{error}");
    let listener = WebListener::bind(any, Token::new(TOKEN)).unwrap();
    let url = listener.url().to_string();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
}

#[test]
fn a_browser_is_told_of_all_nodes_their_state_counters_frames_and_events() {
    let daemon = FakeDaemon::start("web");
    let player = Player::new();
    let nodes = vec![
        Node::here("one", player.clone()),
        Node::there("two <b>", Client::new(daemon.socket())),
    ];
    let page = Page::start(nodes, None);

    let mut live = page.live();
    let hello = live.wait_for("hello");
    assert_eq!(hello["token"], false);
    assert_eq!(hello["nodes"][0]["name"], "one");
    assert_eq!(hello["nodes"][1]["name"], "two <b>");
    assert_eq!(hello["nodes"][1]["local"], Value::Null, "nobody was asked");

    let mut told = Vec::new();
    while told.len() < 2 {
        let state = live.wait_for("state");
        assert_eq!(state["show"]["ports"][0]["name"], "podA");
        assert_eq!(state["fdb"][0]["mac"], "02:00:00:00:00:01");
        assert_eq!(state["fdb_total"], state["fdb"].as_array().unwrap().len());
        told.push(state["node"].clone());
    }
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, ["one", "two <b>"]);

    let stats = live.wait_for("stats");
    let port = &stats["ports"][0];
    assert_eq!(
        (&port["name"], &port["rx_frames"]),
        (&"podA".into(), &12.into())
    );
    assert_eq!(port["drops"]["queue_full"], 3);
    assert!(stats["at"].as_f64().unwrap() > 1.7e9);

    let (request, capture) = player.capture();
    assert_eq!(request.rate, Some(FRAMES));
    assert!(request.bytes && request.snaplen <= 256);
    capture.blocking_send(frame_line()).unwrap();
    let skipped = CaptureLine::Skipped { count: 7 };
    capture.blocking_send(line(&skipped)).unwrap();
    let frames = live.wait_for("frames");
    assert_eq!(
        (&frames["node"], &frames["skipped"]),
        (&"one".into(), &7.into())
    );
    let shown = &frames["frames"][0];
    assert_eq!(shown["interface"], "podA");
    assert!(shown["hex"].as_str().unwrap().starts_with("ffffffffffff02"));
    assert!(shown["id"].is_u64());
    let steps = shown["steps"].as_array().unwrap();
    let words: Vec<_> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(words, ["parse", "learn", "look-up", "flood"]);

    let gone = Event::Bridge {
        time: 1.0,
        bridge: name("br0"),
        change: "changed".to_owned(),
    };
    daemon.fake.events.send(gone).unwrap();
    let event = live.wait_for("event");
    assert_eq!(
        (&event["node"], &event["event"]),
        (&"two <b>".into(), &"bridge".into())
    );
    // And what it changed.
    assert_eq!(live.wait_for("state")["node"], "two <b>");
    // Whoever comes now is told at once what is known.
    let hello = page.live().wait_for("hello");
    assert_eq!(hello["nodes"][1]["local"], "192.168.50.10");
}

#[test]
fn no_name_from_a_frame_or_a_file_can_be_taken_for_a_tag() {
    let (page, player) = Page::played(None);
    let mut live = page.live();
    let (_, capture) = player.capture();
    capture.blocking_send(frame_line()).unwrap();
    loop {
        let (event, text, value) = live.next().unwrap();
        assert!(!text.contains(['<', '>', '&']), "{text}");
        if event == "frames" {
            assert_eq!(value["frames"][0]["text"], "arp <script>alert(1)</script>");
            break;
        }
    }
    let answer = page.get("/api/nodes/%3Cscript%3E/fdb/why?mac=02:00:00:00:00:01");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = page.get("/api/explain?hex=%3Cscript%3E");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(!answer.contains("<script>"), "{answer}");
}

#[test]
fn while_nobody_looks_nothing_is_asked_of_a_switch() {
    let (page, player) = Page::played(None);
    page.assert_responsive();
    assert_eq!(player.requests(), []);
    assert!(player.captures.lock().unwrap().is_empty());

    let mut live = page.live();
    live.wait_for("stats");
    let (_, capture) = player.capture();
    drop(live);

    until("the capture ends", || capture.is_closed().then_some(()));
    player.fake.requests.lock().unwrap().clear();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(player.requests(), []);
}

#[test]
fn a_browser_that_does_not_read_is_given_up_and_keeps_nobody_waiting() {
    let (page, player) = Page::played(None);
    let mut slow = page.live();
    slow.wait_for("hello");
    let mut quick = page.live();
    quick.wait_for("hello");
    let (_, capture) = player.capture();
    // Each line is long, so that what waits for the slow one is more than sockets hold.
    let mut long = frame(&frames::arp_request(1, 2));
    long.comment = "x".repeat(200_000);
    let long = line(&CaptureLine::Frame(Box::new(long)));

    let reader = std::thread::spawn(move || {
        let mut count = 0;
        loop {
            let (event, _, value) = quick.next().unwrap();
            assert_ne!(event, "missed", "the quick one misses nothing");
            for frame in value["frames"].as_array().into_iter().flatten() {
                count += 1;
                if frame["text"] == "the last" {
                    return count;
                }
            }
        }
    });
    let start = now();
    let mut sent = 0;
    // Longer than the server's patience.
    while start.elapsed() < Duration::from_secs(13) {
        capture.blocking_send(long.clone()).unwrap();
        sent += 1;
        std::thread::sleep(Duration::from_millis(70));
    }
    let mut last = frame(&frames::arp_request(1, 2));
    last.text = "the last".to_owned();
    let last = line(&CaptureLine::Frame(Box::new(last)));
    capture.blocking_send(last).unwrap();
    assert_eq!(reader.join().unwrap(), sent + 1);

    let mut rest = Vec::new();
    let end = slow.0.read_to_end(&mut rest);
    assert!(
        end.is_ok_and(|len| len < 200_000 * sent),
        "it has the whole of it"
    );
    page.assert_responsive();
}

#[test]
fn only_so_many_browsers_listen_and_the_next_one_is_told() {
    let (page, _) = Page::played(None);
    let mut all: Vec<Live> = (0..16).map(|_| page.live()).collect();
    for live in &mut all {
        live.wait_for("hello");
    }
    assert!(page.get("/api/live").starts_with("HTTP/1.1 503"));
    page.assert_responsive();
    drop(all.pop());
    // The place is free when the server has noticed.
    until("a place is free", || {
        let mut live = page.live();
        let mut line = String::new();
        live.0.read_line(&mut line).unwrap();
        line.starts_with("HTTP/1.1 200").then_some(())
    });
}

#[test]
fn garbage_half_requests_and_idle_connections_are_survived() {
    let (page, _) = Page::played(Some(TOKEN));
    let mut seed = 0x2545_f491_u32;
    for _ in 0..100 {
        let mut garbage = vec![0; 300];
        for byte in &mut garbage {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = seed.to_be_bytes()[0];
        }
        garbage.extend_from_slice(b"\r\n\r\n");
        let answer = page.raw(&garbage);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    let parts: [&[u8]; 4] = [
        b"",
        b"GET /api/li",
        b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n",
        b"POST /api/nodes/one/request HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n{",
    ];
    let mut held = Vec::new();
    for part in parts.iter().cycle().take(200) {
        let mut stream = TcpStream::connect(page.address).unwrap();
        drop(stream.write_all(part));
        held.push(stream);
    }
    page.assert_responsive();
    for path in [
        "/api/explain".to_owned(),
        format!("/api/explain?hex={}", "0".repeat(9000)),
        "/api/explain?hex=0".to_owned(),
        "/api/explain?hex=00&start=nowhere".to_owned(),
        "/api/explain?hex=00&missing=-1".to_owned(),
        "/api/replay?last=yesterday".to_owned(),
        "/api/nodes/one/fdb/why?mac=1".to_owned(),
    ] {
        let answer = page.get(&path);
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
}

#[test]
fn a_node_that_goes_away_and_comes_back_is_told_to_do_so() {
    let daemon = FakeDaemon::start("web-gone");
    let node = Node::there("two", Client::new(daemon.socket()));
    let page = Page::start(vec![node], None);
    let mut live = page.live();
    live.wait_for("state");
    drop(daemon);
    let gone = live.wait_for("gone");
    assert_eq!(gone["node"], "two");
    let message = gone["message"].as_str().unwrap();
    assert!(
        message.contains("two") || message.contains("daemon"),
        "{message}"
    );

    // Whoever comes now is told at once.
    let mut late = page.live();
    late.wait_for("gone");
    let _daemon = FakeDaemon::start("web-gone");
    live.wait_for("state");
    late.wait_for("state");
}

#[test]
fn bytes_are_explained_and_the_api_answers_as_the_control_socket_does() {
    let (page, player) = Page::played(None);
    let hex = Hex(frames::arp_request(1, 2)).to_string();
    let explained = page.json(&format!("/api/explain?hex={hex}"));
    let frame = &explained["frames"][0];
    assert_eq!(frame["len"], 42);
    assert_eq!(frame["layers"][1]["protocol"], "arp");
    let cut = page.json(&format!(
        "/api/explain?hex={}&missing=14&start=ethernet",
        &hex[..56]
    ));
    assert_eq!(
        (&cut["frames"][0]["len"], &cut["frames"][0]["captured"]),
        (&42.into(), &28.into())
    );

    const WHY: &str = "/api/nodes/one/fdb/why?mac=02:00:00:00:00:01";
    assert!(page.json(WHY).is_array());
    assert!(page.json("/api/replay?last=60s")["nodes"][0]["node"].is_string());
    assert_eq!(page.json(&WHY.replace("one", "two"))["kind"], "not-found");

    // The same question again and again is one question.
    player.fake.requests.lock().unwrap().clear();
    let start = now();
    (0..20).for_each(|_| drop(page.json(WHY)));
    let most = 2 + start.elapsed().as_millis() / 250;
    let asked = player.requests().len() as u128;
    assert!(asked <= most, "{asked} times, at most {most}");
}

#[test]
fn whoever_has_no_token_makes_no_switch_do_anything() {
    let (page, player) = Page::played(Some(TOKEN));
    for what in ["doctor", "show", "fdb", "stats", "why", "ping"] {
        let answer = page.get(&format!("/api/nodes/one/{what}"));
        assert!(answer.starts_with("HTTP/1.1 404"), "{what}: {answer}");
    }
    assert_eq!(player.requests(), []);
}

#[test]
fn a_node_that_hangs_is_told_to_be_gone_and_keeps_no_other_waiting() {
    let directory = std::env::temp_dir().join(format!("hung-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("socket");
    // It has a socket, and never answers.
    let _hung = UnixListener::bind(&socket).unwrap();
    let player = Player::new();
    let nodes = vec![
        Node::there("hung", Client::new(&socket)),
        Node::here("one", player),
    ];
    let page = Page::start(nodes, None);
    let start = now();
    let mut live = page.live();
    live.wait_for("hello");
    assert_eq!(live.wait_for("state")["node"], "one");
    assert!(start.elapsed() < Duration::from_secs(2));
    let gone = live.wait_for("gone");
    assert_eq!(gone["node"], "hung");
    let message = gone["message"].as_str().unwrap();
    assert!(message.contains("no answer within"), "{message}");

    // Of the last minute the others tell what they know.
    let replay = page.json("/api/replay");
    let error = replay["nodes"][0]["error"].as_str().unwrap();
    assert!(error.contains("no answer within"), "{error}");
    assert_eq!(replay["nodes"][1]["error"], Value::Null);

    // Many questions do not wait for one another.
    let start = now();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let answer = page.get("/api/nodes/hung/fdb/why?mac=02:00:00:00:00:01");
                assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
            });
        }
    });
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(9), "took {elapsed:?}");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_question_that_takes_its_time_is_not_given_up_for_idle_connections() {
    let directory = std::env::temp_dir().join(format!("busy-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("socket");
    let busy = UnixListener::bind(&socket).unwrap();
    let page = Page::start(vec![Node::there("busy", Client::new(&socket))], None);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| page.get("/api/replay"));
        // The question is on its way.
        let _asked = busy.accept().unwrap();
        let idle: Vec<_> = (0..100)
            .map(|_| TcpStream::connect(page.address).unwrap())
            .collect();
        page.assert_responsive();
        let answer = answer.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        drop(idle);
    });
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn of_a_large_fdb_the_number_of_rows_is_told_and_none_is_read() {
    let player = Player::new();
    player.rows.store(8192, Ordering::Relaxed);
    let page = Page::start(vec![Node::here("one", player.clone())], None);
    let mut live = page.live();
    let state = live.wait_for("state");
    assert_eq!(state["fdb_total"], 8192 + 1);
    assert_eq!(state["fdb"], Value::Array(Vec::new()));
    let requests = player.requests();
    let is_read = |request: &Request| matches!(request, Request::FdbShow(_));
    assert!(!requests.iter().any(is_read), "{requests:?}");

    // What changes all the time is not told all the time.
    let start = now();
    let changed = || Event::Bridge {
        time: 1.0,
        bridge: name("br0"),
        change: "changed".to_owned(),
    };
    let told = std::thread::scope(|scope| {
        scope.spawn(|| {
            while start.elapsed() < Duration::from_secs(4) {
                drop(player.fake.events.send(changed()));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let mut told = 0;
        while start.elapsed() < Duration::from_secs(4) {
            let (event, ..) = live.next().unwrap();
            told += usize::from(event == "state");
        }
        told
    });
    assert!((1..=2).contains(&told), "{told} times in 4 s");
}
