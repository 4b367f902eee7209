//! Clients that send garbage, half of a request or too much, or never read.

mod fake;

use std::{
    io::{ErrorKind, Read, Write},
    ops::ControlFlow,
    os::unix::net::UnixStream,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use fake::FakeDaemon;
use tapswitch::control::{
    api::{Event, Request, Response},
    client::Client,
};

/// The tests count this process's descriptors, so only one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until the server has closed what it had opened.
fn assert_descriptors_return_to(before: usize) {
    for _ in 0..100 {
        if open_descriptors() <= before {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} descriptors, {before} before", open_descriptors());
}

#[expect(clippy::disallowed_methods, reason = "the test measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn assert_responsive(socket: &Path) {
    let client = Client::new(socket);
    for _ in 0..10 {
        let start = now();
        let answer = client.request(&Request::Show).unwrap();
        assert!(matches!(answer, Response::Show(_)));
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_millis(100), "took {elapsed:?}");
    }
}

/// What the server answers to `request`, sent as it is.
fn raw(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The server may hang up before it has taken everything.
    drop(stream.write_all(request));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn garbage_on_two_hundred_connections_is_survived() {
    let _alone = alone();
    let daemon = FakeDaemon::start("garbage");
    let before = open_descriptors();
    let mut seed = 0x2545_f491_u32;
    for _ in 0..200 {
        let mut garbage = vec![0; 300];
        for byte in &mut garbage {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = seed.to_be_bytes()[0];
        }
        garbage.extend_from_slice(b"\r\n\r\n");
        let answer = raw(&daemon.socket(), &garbage);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{answer}"
        );
    }
    assert_responsive(&daemon.socket());
    assert_descriptors_return_to(before);
}

#[test]
fn idle_and_half_sent_requests_make_room_for_complete_ones() {
    let _alone = alone();
    let daemon = FakeDaemon::start("half");
    let before = open_descriptors();
    let parts: [&[u8]; 4] = [
        b"",
        b"GET /v1/sh",
        b"POST /v1/request HTTP/1.1\r\nhost: x\r\n",
        b"POST /v1/request HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"op\":",
    ];
    let mut held = Vec::new();
    for part in parts.iter().cycle().take(200) {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        drop(stream.write_all(part));
        held.push(stream);
    }

    assert_responsive(&daemon.socket());

    drop(held);
    assert_descriptors_return_to(before);
}

#[test]
fn a_request_that_never_ends_is_ended() {
    let _alone = alone();
    let daemon = FakeDaemon::start("slow");
    let before = open_descriptors();
    let start = now();

    let head = raw(&daemon.socket(), b"GET /v1/show HTTP/1.1\r\n");
    let body = raw(
        &daemon.socket(),
        b"POST /v1/request HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
    );

    assert!(
        head.is_empty() || head.starts_with("HTTP/1.1 408"),
        "{head}"
    );
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    assert!(start.elapsed() < Duration::from_secs(15));
    assert_descriptors_return_to(before);
}

#[test]
fn huge_heads_bodies_and_depths_are_refused() {
    let _alone = alone();
    let daemon = FakeDaemon::start("huge");
    let before = open_descriptors();
    let post = |body: &str| {
        let length = body.len();
        let head =
            format!("POST /v1/request HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        raw(&daemon.socket(), (head + body).as_bytes())
    };

    let body = post(&"x".repeat((1 << 20) + 1));
    let depth = post(&"[".repeat(100_000));
    let head = raw(
        &daemon.socket(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).as_bytes(),
    );

    // A client that is still sending may see the connection go instead of the answer.
    assert!(
        body.is_empty() || body.starts_with("HTTP/1.1 413"),
        "{body}"
    );
    assert!(depth.starts_with("HTTP/1.1 400"), "{depth}");
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 4"), "{head}");
    assert!(daemon.requests().is_empty());
    assert_responsive(&daemon.socket());
    assert_descriptors_return_to(before);
}

#[test]
fn a_subscriber_that_never_reads_is_dropped_and_one_that_reads_is_told_of_losses() {
    let _alone = alone();
    let daemon = FakeDaemon::start("deaf");
    let before = open_descriptors();
    let mut deaf = UnixStream::connect(daemon.socket()).unwrap();
    deaf.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    while daemon.fake.events.receiver_count() < 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let event = || Event::Bridge {
        time: 0.0,
        bridge: fake::name("br0"),
        change: "x".repeat(400),
    };

    // More than the socket's buffer and the queue hold.
    for _ in 0..20_000 {
        drop(daemon.fake.events.send(event()));
    }
    assert_responsive(&daemon.socket());
    let start = now();
    while daemon.fake.events.receiver_count() > 0 {
        drop(daemon.fake.events.send(event()));
        std::thread::sleep(Duration::from_millis(50));
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "still subscribed"
        );
    }
    drop(deaf);

    let socket = daemon.socket();
    let reader = std::thread::spawn(move || {
        let mut lost = 0;
        let ended = Client::new(socket).events(std::future::pending(), |event| match event {
            Event::Lost { count } => {
                lost = count;
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        ended.unwrap();
        lost
    });
    while !reader.is_finished() {
        for _ in 0..1000 {
            drop(daemon.fake.events.send(event()));
        }
        assert!(
            start.elapsed() < Duration::from_secs(40),
            "no loss was told"
        );
    }
    assert!(reader.join().unwrap() > 0);
    assert_descriptors_return_to(before);
}

#[test]
fn the_sixty_fifth_busy_connection_is_closed_at_once() {
    let _alone = alone();
    let daemon = FakeDaemon::start("many");
    let before = open_descriptors();
    let mut subscribers = Vec::new();
    for _ in 0..64 {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream
            .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        let mut head = [0; 16];
        stream.read_exact(&mut head).unwrap();
        subscribers.push(stream);
    }

    let start = now();
    let refused = raw(
        &daemon.socket(),
        b"GET /v1/show HTTP/1.1\r\nhost: x\r\n\r\n",
    );

    assert_eq!(refused, "");
    assert!(start.elapsed() < Duration::from_secs(1));
    drop(subscribers);
    assert_descriptors_return_to(before);
    assert_responsive(&daemon.socket());
}

#[test]
fn a_subscriber_that_leaves_is_noticed_without_an_event() {
    let _alone = alone();
    let daemon = FakeDaemon::start("left");
    let before = open_descriptors();
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream
        .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(daemon.fake.events.receiver_count(), 1);

    drop(stream);

    assert_descriptors_return_to(before);
    let start = now();
    while daemon.fake.events.receiver_count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(2), "still subscribed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn people_with_curl_get_bare_values_and_json_errors() {
    let _alone = alone();
    let daemon = FakeDaemon::start("curl");
    let get = |route: &str| {
        let request = format!("GET {route} HTTP/1.1\r\nhost: x\r\n\r\n");
        raw(&daemon.socket(), request.as_bytes())
    };

    assert!(get("/v1/ports/podA").contains("[{\"name\":\"podA\""));
    assert!(get("/v1/fdb?port=podA&state=learned").contains("\"age_s\":1.5"));
    assert!(get("/v1/fdb?remote=192.168.50.20:8472").contains("\"remote\":\"192.168.50.20\""));
    assert!(get("/v1/fdb?remote=nodeB").starts_with("HTTP/1.1 400"));
    assert!(get("/v1/vtep").contains("{\"local\":\"192.168.50.10\""));
    assert!(get("/v1/peers").contains("\"path_mtu\":1500"));
    assert!(get("/v1/fdb?port=a%2Fb").starts_with("HTTP/1.1 400"));
    assert!(get("/v1/ports/nobody").starts_with("HTTP/1.1 404"));
    assert!(get("/v1/ports/nobody").contains("there is no such port"));
    assert!(get("/v1/ports/a%00b").starts_with("HTTP/1.1 400"));
    assert!(get("/nowhere").starts_with("HTTP/1.1 404"));
    assert!(get("/v1/request").contains("find route"));
}

/// Refused as invalid, with these words.
fn is_refused(answer: &str, words: &[&str]) {
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    for word in words.iter().chain(&["\"kind\":\"invalid\""]) {
        assert!(answer.contains(word), "{word}: {answer}");
    }
}

#[test]
fn a_question_with_an_unknown_word_is_refused_and_the_known_ones_are_told() {
    let _alone = alone();
    let daemon = FakeDaemon::start("unknown");
    let get = |route: &str| {
        let request = format!("GET {route} HTTP/1.1\r\nhost: x\r\n\r\n");
        raw(&daemon.socket(), request.as_bytes())
    };
    is_refused(
        &get("/v1/fdb?brdge=nope"),
        &["unknown field `brdge`", "`bridge`", "`vlan`"],
    );
    is_refused(
        &get("/v1/why?last=60s"),
        &["unknown field `last`", "`last_s`"],
    );
    is_refused(
        &get("/v1/doctor?fromm=podA"),
        &["unknown field `fromm`", "`from`"],
    );
    is_refused(&get("/v1/doctor?to=podA"), &["to needs from"]);
    is_refused(&get("/v1/doctor?from=podA&to=a%2Fb"), &["to: "]);
    for route in [
        "show",
        "vtep",
        "peers",
        "bridges",
        "bridges/br0",
        "ports",
        "ports/podA",
    ] {
        is_refused(
            &get(&format!("/v1/{route}?name=x")),
            &["name=x", "takes none"],
        );
    }
    for route in ["stats", "stats/podA", "events"] {
        is_refused(
            &get(&format!("/v1/{route}?port=x")),
            &["port=x", "takes none"],
        );
    }
    assert!(get("/v1/show?").starts_with("HTTP/1.1 200"));

    get("/v1/doctor?from=podA&to=10.1.1.2");
    let asked = daemon.fake.requests.lock().unwrap().pop();
    let Some(Request::Doctor(asked)) = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(asked.scope().to_string(), "from port podA to 10.1.1.2");
}

#[test]
fn a_request_with_an_unknown_word_never_reaches_the_switch() {
    let _alone = alone();
    let daemon = FakeDaemon::start("unknown-request");
    let before = daemon.fake.requests.lock().unwrap().len();
    let post = |body: &str| {
        let length = body.len();
        let head =
            format!("POST /v1/request HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        raw(&daemon.socket(), (head + body).as_bytes())
    };
    for (body, words) in [
        (r#"{"op":"why","last":-1}"#, &["`last`", "`last_s`"]),
        (r#"{"op":"doctor","fromm":"podA"}"#, &["`fromm`", "`from`"]),
        (r#"{"op":"fdb-show","brdge":"a"}"#, &["`brdge`", "`bridge`"]),
        (r#"{"op":"fdb-flush","prot":"a"}"#, &["`prot`", "`port`"]),
        (r#"{"op":"port-show","nme":"a"}"#, &["`nme`", "`name`"]),
        (
            r#"{"op":"port-set","name":"a","mttu":1}"#,
            &["`mttu`", "`mtu`"],
        ),
        (
            r#"{"op":"bridge-set","name":"a","mttu":1}"#,
            &["`mttu`", "`mtu`"],
        ),
        (r#"{"op":"show","name":"a"}"#, &["`name`", "no fields"]),
        (r#"{"op":"counters","port":"a"}"#, &["`port`", "no fields"]),
        (
            r#"{"op":"vtep-show","bridge":"a"}"#,
            &["`bridge`", "no fields"],
        ),
        (
            r#"{"op":"vtep-del","bridge":"a"}"#,
            &["`bridge`", "no fields"],
        ),
    ] {
        is_refused(&post(body), words);
    }
    assert_eq!(daemon.fake.requests.lock().unwrap().len(), before, "asked");
}

#[test]
fn settings_of_an_overlay_that_make_no_sense_never_reach_the_switch() {
    let _alone = alone();
    let daemon = FakeDaemon::start("overlay");
    let post = |body: &str| {
        let length = body.len();
        let head =
            format!("POST /v1/request HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        raw(&daemon.socket(), (head + body).as_bytes())
    };
    let entry = r#"{"op":"fdb-add","bridge":"br0","mac":"02:00:00:00:00:01""#;

    for body in [
        &format!(r#"{entry},"port":"a","remote":"192.0.2.1"}}"#),
        &format!("{entry}}}"),
        &format!(r#"{entry},"remote":"192.0.2.1","ports":"a"}}"#),
        r#"{"op":"vtep-set"}"#,
        r#"{"op":"vtep-set","local":"192.0.2.1","tos":3}"#,
        r#"{"op":"vtep-set","local":"192.0.2.1","accept":"all"}"#,
        r#"{"op":"bridge-set","name":"br0","vni":16777216}"#,
        r#"{"op":"peer-add","remote":"nodeB"}"#,
    ] {
        let answer = post(body);
        assert!(answer.starts_with("HTTP/1.1 400"), "{body}: {answer}");
    }
    assert!(daemon.requests().is_empty());
    for body in [
        &format!(r#"{entry},"remote":"192.0.2.1"}}"#),
        r#"{"op":"vtep-set","local":"192.0.2.1","tos":"inherit"}"#,
        r#"{"op":"bridge-set","name":"br0","vni":null}"#,
        r#"{"op":"peer-add","remote":"192.0.2.1"}"#,
    ] {
        let answer = post(body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{body}: {answer}");
    }
    assert_eq!(daemon.requests().len(), 4);
}

#[test]
fn the_server_ends_while_a_subscriber_is_connected() {
    let _alone = alone();
    let daemon = FakeDaemon::start("end");
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream
        .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    let start = now();
    let socket = daemon.socket();

    drop(daemon);

    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(!socket.exists());
    let gone = UnixStream::connect(socket).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}
