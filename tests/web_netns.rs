//! The live page of a switch that forwards: what it shows under load, and what that costs.

mod common;

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Write},
    net::{TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use common::{Daemon, Env, Netns, succeeded};
use serde_json::Value;
use tapswitch::{sys::clock, web::FRAMES};

fn main() -> ExitCode {
    common::main(|env: &Env| {
        vec![
            env.trial_with(
                &["ping"],
                "under_a_flood_a_page_has_a_few_frames_a_second_and_pings_are_among_them",
                flood,
            ),
            env.trial_with(
                &["ping"],
                "a_cable_that_is_pulled_from_the_page_is_pulled",
                change,
            ),
        ]
    })
}

fn config(pods: &[Netns]) -> String {
    let mut text = "[[bridge]]\nname = \"br0\"\n".to_owned();
    for (number, pod) in (1..).zip(pods) {
        text += &format!(
            "[[bridge.port]]\nname = \"pod{number}\"\nnetns = \"{}\"\n\
             addresses = [\"192.0.2.{number}/24\"]\n",
            pod.name()
        );
    }
    text
}

fn start(pods: &[Netns], options: &[&str]) -> Daemon {
    let file = format!("/run/web-{}.toml", pods[0].name());
    fs::write(&file, config(pods)).unwrap();
    let all = [&["--web", "127.0.0.1:0", "--config", &file], options].concat();
    Daemon::start_with(&all)
}

/// The events of a page, until `is_enough`.
fn events(page: &str, mut is_enough: impl FnMut(&str, &Value) -> bool) {
    let mut stream = TcpStream::connect(page).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    write!(stream, "GET /api/live HTTP/1.1\r\nhost: {page}\r\n\r\n").unwrap();
    let mut name = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        }
        if let Some(data) = line.strip_prefix("data: ")
            && is_enough(&name, &serde_json::from_str(data).unwrap())
        {
            return;
        }
    }
    panic!("the stream ended");
}

fn memory_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

fn flood() {
    let pods = ["a", "b", "c"].map(Netns::new);
    let daemon = start(&pods, &["--workers", "1"]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let socket = pods[0].run(|| UdpSocket::bind("192.0.2.1:0")).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                // Nobody listens there: sometimes that is told.
                drop(socket.send_to(&[7; 18], "192.0.2.2:9"));
            }
        });
        let (mut frames, mut skipped, mut pings) = (Vec::new(), 0, 0);
        let mut before = 0;
        let mut ping = None;
        let mut started = clock::now();
        events(daemon.page(), |event, value| {
            match event {
                // Everything runs from here on.
                "state" if ping.is_none() => {
                    before = memory_kib(daemon.id());
                    started = clock::now();
                    let work = || pods[2].exec(&["ping", "-c", "20", "-i", "0.15", "192.0.2.2"]);
                    ping = Some(scope.spawn(work));
                }
                "frames" => {
                    skipped += value["skipped"].as_u64().unwrap();
                    for frame in value["frames"].as_array().unwrap() {
                        frames.push(frame["time"].as_f64().unwrap());
                        let text = frame["text"].as_str().unwrap();
                        pings += usize::from(text.contains("echo request"));
                    }
                }
                _ => {}
            }
            clock::now().since(started) > Duration::from_secs(4) && ping.is_some()
        });
        is_over.store(true, Ordering::Relaxed);
        let told = succeeded("ping", Ok(ping.take().unwrap().join().unwrap()));
        assert!(told.contains(" 0% packet loss"), "{told}");
        for (index, start) in frames.iter().enumerate() {
            let within = frames[index..].iter().filter(|at| **at - start < 1.0);
            let most = usize::try_from(FRAMES).unwrap();
            assert!(within.count() <= most, "at {start}");
        }
        assert!(frames.len() > 100, "{} frames", frames.len());
        assert!(skipped > 10_000, "{skipped} skipped");
        // Each twice: where it comes in, and where it leaves.
        assert!(pings >= 20, "{pings} of 40");
        let grown = memory_kib(daemon.id()).saturating_sub(before);
        assert!(grown < 16 << 10, "{grown} KiB more");
    });
}

fn change() {
    const TOKEN: &str = "a-token-of-the-test";
    let pods = ["d", "e"].map(Netns::new);
    let file = "/run/web-token";
    fs::write(file, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    let daemon = start(&pods, &["--web-token", file]);
    let page = daemon.page();
    let post = |body: &str| {
        let mut stream = TcpStream::connect(page).unwrap();
        let len = body.len();
        write!(
            stream,
            "POST /api/nodes/{}/request HTTP/1.1\r\nhost: {page}\r\norigin: http://{page}\r\n\
             authorization: Bearer {TOKEN}\r\ncontent-length: {len}\r\n\r\n{body}",
            daemon.json("show")["name"].as_str().unwrap()
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    };
    let ping = || pods[0].exec(&["ping", "-c", "1", "-W", "1", "192.0.2.2"]);
    succeeded("ping", Ok(ping()));

    post(r#"{"op":"port-set","name":"pod2","up":false}"#);
    assert!(!ping().status.success());
    events(page, |event, value| {
        event == "state" && value["show"]["ports"][1]["state"] == "down"
    });
    post(r#"{"op":"port-set","name":"pod2","up":true}"#);
    succeeded("ping", Ok(ping()));
}
