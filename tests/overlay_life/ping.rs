//! `peer ping`: what it says of whom, and who is answered.

use std::{
    net::{IpAddr, SocketAddr},
    process::Output,
    thread,
    time::Duration,
};

use serde_json::Value;
use tapswitch::{
    config::PeerAddr,
    control::api::{ErrorKind, PingRequest, Request, Response},
    sys::clock,
    vxlan::{
        self,
        ping::{Kind, Probe, decode, encode},
    },
    wire::{MacAddr, Vni},
};

use crate::{
    Test,
    common::{succeeded, wait_until},
    world::{Daemon, Family, Host, Node, SECOND, SOON, lan, nstat, over_both, routed, text, udp},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "a_tapswitch_answers_and_a_sweep_finds_the_longest_frame",
        || over_both(answered),
    ),
    (
        &["iptables"],
        "a_sweep_finds_the_narrow_link_with_and_without_icmp",
        || over_both(sweeps),
    ),
    (
        &["iptables"],
        "silence_is_told_as_far_as_it_can_be_told",
        silence,
    ),
    (
        &[],
        "a_port_that_was_closed_when_the_ping_began_is_told_as_it_is_now",
        opened_since,
    ),
    (&["ping"], "frames_of_a_vtep_show_what_probes_do_not", heard),
    (&[], "only_peers_are_answered_and_only_so_often", only_peers),
    (
        &[],
        "what_cannot_be_pinged_is_refused_with_a_reason",
        refused,
    ),
    (&[], "a_long_ping_does_not_keep_the_endpoint_as_it_is", long),
];

/// The real program on a host, with bridge `ov0` as VNI 42.
fn daemon(host: &Host, peers: &[IpAddr]) -> Daemon {
    let peers: Vec<String> = peers.iter().map(|peer| format!("{peer:?}")).collect();
    Daemon::start(&format!(
        "[vtep]\nlocal = \"{}\"\nnetns = \"{}\"\n\
         [[bridge]]\nname = \"ov0\"\nvni = 42\npeers = [\"{}\"]\n",
        host.ip,
        host.netns.name(),
        peers.join("\", \"")
    ))
}

/// What a `peer ping` reports; its exit code must be this.
#[track_caller]
fn report(daemon: &Daemon, code: i32, arguments: &str) -> Value {
    let output: Output = daemon.run(&format!("peer ping {arguments} --json"));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        (output.status.code(), stderr.as_str()),
        (Some(code), ""),
        "{arguments}: {stdout}"
    );
    serde_json::from_str(&stdout).unwrap()
}

fn answered(family: Family) {
    let longest = match family {
        Family::V4 => 1464,
        Family::V6 => 1444,
    };
    let [a, b] = lan(family);
    let daemon = daemon(&a, &[b.ip]);
    let b = Node::joined(b, &[a.ip]);
    let ip = b.host.ip;

    let printed = daemon.screen(&format!("peer ping {ip} --count 2 --interval 10ms"));
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        lines[0],
        format!("PING {ip} port 4789 on ov0 (vni 42): frames of 60 bytes")
    );
    let answer = format!("60 bytes from {ip}: seq=2 time=");
    assert!(lines[2].starts_with(&answer), "{printed}");
    assert!(printed.contains("2 frames sent, 2 answered, 0% lost\n"));
    let verdict = format!("{ip} is a tapswitch that has VNI 42 and lists this host");
    assert!(printed.ends_with(&format!("udp: answers on 4789\n{verdict}\n")));

    let ping = report(&daemon, 0, &format!("{ip} -c 3 -i 1ms --size {longest}"));
    let [min, avg, max] =
        ["rtt_min_s", "rtt_avg_s", "rtt_max_s"].map(|key| ping[key].as_f64().unwrap());
    assert!(0.0 < min && min <= avg && avg <= max && max < 1.0, "{ping}");
    assert_eq!((&ping["sent"], &ping["received"]), (&3.into(), &3.into()));
    let ping = report(&daemon, 1, &format!("{ip} -c 1 --size {}", longest + 1));
    assert_eq!(
        ping["verdict"],
        format!(
            "frames of {} bytes do not fit the path to {ip}, which takes {longest}",
            longest + 1
        )
    );

    let sweep = |largest: u32| {
        let ping = report(&daemon, 0, &format!("{ip} -c 1 -W 50ms --sweep"));
        assert_eq!(ping["largest"], largest, "{ping}");
        assert_eq!(ping["smallest_lost"], largest + 1, "{ping}");
        let mtu = largest - 14;
        assert_eq!(
            ping["verdict"],
            format!(
                "{verdict}; frames of up to {largest} bytes get there and back, an MTU of {mtu}"
            )
        );
    };
    sweep(longest);
    // Narrower on our way there, as the kernel knows.
    let version = if ip.is_ipv6() { "-6 " } else { "" };
    a.netns
        .ip(&format!("{version}route add {ip} dev u0 mtu 1400"));
    sweep(longest - 100);
    // Narrower on the way back, which only the other one knows.
    let back = format!("{version}route add {} dev u0 mtu 1300", a.ip);
    b.host.netns.ip(&back);
    sweep(longest - 200);
    let info = b.peer("ov0", a.ip);
    assert!(info.drops.contains_key("too_big"), "{info:?}");
}

fn sweeps(family: Family) {
    let [a, b]: [Host; 2] = routed(family);
    let daemon = daemon(&a, &[b.ip]);
    let b = Node::joined(b, &[a.ip]);
    let ip = b.host.ip;
    b.host.set_mtu(1400);
    let largest = 1464 - 100 - (family.overhead() - 50);

    // A firewall that loses what would have told.
    let (program, kind) = match family {
        Family::V4 => ("iptables", "icmp"),
        Family::V6 => ("ip6tables", "icmpv6 --icmpv6-type packet-too-big"),
    };
    let firewall = |verb: &str| {
        let rule = format!("{program} -w {verb} INPUT -p {kind} -j DROP");
        let words: Vec<&str> = rule.split(' ').collect();
        succeeded(&rule, Ok(a.netns.exec(&words)));
    };
    firewall("-A");
    let ping = report(&daemon, 0, &format!("{ip} -c 1 -W 60ms --sweep"));
    assert_eq!(ping["largest"], largest, "{ping}");
    firewall("-D");
    let ping = report(&daemon, 0, &format!("{ip} -c 1 -W 200ms --sweep"));
    assert_eq!(ping["largest"], largest, "{ping}");
    assert_eq!(ping["smallest_lost"], largest + 1, "{ping}");
    wait_until("the path is known", SOON, || {
        daemon.json("peer show")[0]["path_mtu"] == 1400
    });
}

fn silence() {
    let [a, kernel, none, filtered, unlisted] = lan(Family::V4);
    let dead = Family::V4.host(50, 99);
    let refused = Family::V4.host(60, 1);
    a.netns.ip(&format!("route add unreachable {refused}"));
    // The kernel gives a host three chances, a second each if nobody says.
    a.netns
        .run(|| std::fs::write("/proc/sys/net/ipv4/neigh/u0/retrans_time_ms", "20"))
        .unwrap();
    let peers = [kernel.ip, none.ip, filtered.ip, unlisted.ip, dead, refused];
    let daemon = daemon(&a, &peers);
    be_quiet(&kernel);
    kernel.netns.ip(&format!(
        "link add vx0 type vxlan id 42 local {} remote {} dstport 4789",
        kernel.ip, a.ip
    ));
    kernel.netns.ip("link set vx0 up");
    let rule = "iptables -w -A INPUT -p udp --dport 4789 -j DROP";
    let words: Vec<&str> = rule.split(' ').collect();
    succeeded(rule, Ok(filtered.netns.exec(&words)));
    let filtered = Node::joined(filtered, &[a.ip]);
    let unlisted = Node::joined(unlisted, &[dead]);

    let ask = |ip: IpAddr| {
        let ping = report(&daemon, 1, &format!("{ip} -c 1 -W 300ms"));
        assert_eq!(
            (&ping["received"], &ping["largest"]),
            (&0.into(), &Value::Null)
        );
        let word = |key: &str| ping[key].as_str().unwrap().to_owned();
        (word("udp"), word("verdict"))
    };
    for ip in [kernel.ip, filtered.host.ip, unlisted.host.ip] {
        assert_eq!(
            ask(ip),
            (
                "host answers UDP, 4789 silent".to_owned(),
                format!(
                    "UDP gets to {ip}, VXLAN does not come back: a filter on port 4789, a VTEP \
                     that is no tapswitch, one without VNI 42, or one that does not list this host"
                )
            )
        );
    }
    assert_eq!(unlisted.vtep().drops["unknown_peer"], 1);
    let ip = none.ip;
    assert_eq!(
        ask(ip),
        (
            "port 4789 closed (ICMP port unreachable)".to_owned(),
            format!(
                "UDP gets to {ip}, but nothing listens on port 4789: no VTEP runs there, or on \
                 another port"
            )
        )
    );
    assert_eq!(
        ask(dead),
        (
            "unreachable: no route to host".to_owned(),
            format!("there is no way to {dead}: no route to host")
        )
    );
    assert_eq!(
        ask(refused),
        (
            "unreachable: no route to host".to_owned(),
            format!("there is no way to {refused}: no route to host")
        )
    );
    // A host that is there and says nothing at all.
    let rule = "iptables -w -A INPUT -p udp -j DROP";
    let words: Vec<&str> = rule.split(' ').collect();
    succeeded(rule, Ok(none.netns.exec(&words)));
    assert_eq!(
        ask(ip),
        (
            "unknown".to_owned(),
            format!(
                "{ip} is silent: it is down, drops all UDP of this host, or is a VTEP that is no \
                 tapswitch behind a filter"
            )
        )
    );
}

fn opened_since() {
    let [a, b] = lan(Family::V4);
    let daemon = daemon(&a, &[b.ip]);
    let ip = b.ip;
    let (ping, _open) = thread::scope(|scope| {
        let asks = scope.spawn(|| report(&daemon, 1, &format!("{ip} -c 4 -i 400ms -W 300ms")));
        wait_until("the first is refused", SOON, || {
            nstat(&b.netns, "UdpNoPorts") > 0
        });
        let open = udp(&b.netns, SocketAddr::new(ip, vxlan::PORT));
        (asks.join().unwrap(), open)
    });
    assert_eq!(ping["udp"], "host answers UDP, 4789 silent", "{ping}");
}

/// It says nothing by itself.
fn be_quiet(host: &Host) {
    let default = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    host.netns.run(|| std::fs::write(default, "1")).unwrap();
}

fn heard() {
    let [a, kernel] = lan(Family::V4);
    let daemon = daemon(&a, &[kernel.ip]);
    be_quiet(&kernel);
    let ip = kernel.ip;
    for line in [
        format!(
            "link add vx0 type vxlan id 42 local {ip} remote {} dstport 4789",
            a.ip
        ),
        "link set vx0 up".to_owned(),
        "address add 10.1.1.9/24 dev vx0".to_owned(),
    ] {
        kernel.netns.ip(&line);
    }
    drop(
        kernel
            .netns
            .exec(&["ping", "-c", "1", "-W", "0.2", "10.1.1.8"]),
    );

    let ping = report(&daemon, 1, &format!("{ip} -c 1 -W 300ms"));

    assert_eq!(ping["udp"], "host answers UDP, 4789 silent");
    let verdict = ping["verdict"].as_str().unwrap();
    let says = format!("VXLAN comes from {ip}, the last frame ");
    assert!(verdict.starts_with(&says), "{verdict}");
}

fn only_peers() {
    let [a, b, c] = lan(Family::V4);
    let to = SocketAddr::new(a.ip, vxlan::PORT);
    let socket = |host: &Host| {
        let socket = udp(&host.netns, SocketAddr::new(host.ip, vxlan::PORT));
        socket.set_read_timeout(Some(SECOND / 5)).unwrap();
        socket
    };
    let (listed, stranger) = (socket(&b), socket(&c));
    let a = Node::joined(a, &[b.ip]);
    let probe = |vni: u32, sequence: u32, kind| {
        let mut frame = Vec::new();
        let probe = Probe {
            src: MacAddr::new([2, 0, 0, 0, 0, 9]),
            kind,
            token: 7,
            sequence,
        };
        encode(&probe, 100, &mut frame);
        [&vxlan::header(Vni::new(vni).unwrap())[..], &frame].concat()
    };
    let answers = |socket: &std::net::UdpSocket| {
        let mut buf = [0; 2048];
        std::iter::from_fn(|| {
            let len = socket.recv(&mut buf).ok()?;
            let (_, frame) = vxlan::parse(&buf[..len]).unwrap();
            let probe = decode(frame)?;
            assert_eq!(
                (probe.kind, probe.token, frame.len()),
                (Kind::Reply, 7, 100)
            );
            Some(probe.sequence)
        })
        .collect::<Vec<u32>>()
    };

    for sequence in 1..=5 {
        let request = probe(42, sequence, Kind::Request);
        listed.send_to(&request, to).unwrap();
        stranger.send_to(&request, to).unwrap();
        // No answer to an answer, and none in a segment that is not ours.
        listed
            .send_to(&probe(42, sequence, Kind::Reply), to)
            .unwrap();
        listed
            .send_to(&probe(43, sequence, Kind::Request), to)
            .unwrap();
    }
    assert_eq!(answers(&listed), [1, 2, 3, 4, 5]);
    assert!(answers(&stranger).is_empty());
    let drops = a.vtep().drops;
    assert_eq!((drops["unknown_peer"], drops["unknown_vni"]), (5, 5));

    let start = clock::now();
    for sequence in 0..20_000 {
        listed
            .send_to(&probe(42, sequence, Kind::Request), to)
            .unwrap();
    }
    wait_until("all have been read", SOON, || {
        a.peer("ov0", b.ip).rx.frames + a.vtep().socket_overflow >= 20_010
    });
    let took = clock::now().since(start);
    let count = answers(&listed).len();
    // 10,000 a second and a few at once.
    let most = took.as_millis() * 10 + 20;
    assert!(
        count >= 20 && count as u128 <= most,
        "{count} answers in {took:?}"
    );
    let peer = a.peer("ov0", b.ip);
    assert_eq!(peer.tx.frames, 5 + count as u64);
}

fn refused() {
    let [a, b] = lan(Family::V4);
    let (netns, ip_b) = (a.netns.name().to_owned(), b.ip);
    let a = Node::joined(a, &[ip_b]);
    let ping = |ip| PingRequest {
        count: 1,
        timeout_s: 0.1,
        ..PingRequest::new(PeerAddr::new(ip))
    };
    let refused = |request| {
        let error = a.refused(Request::PeerPing(request));
        (error.kind, error.message)
    };

    let other = Family::V4.host(50, 99);
    assert_eq!(
        refused(ping(other)),
        (
            ErrorKind::NotFound,
            format!(
                "ping peer {other}: bridge ov0 has no such peer; add it: tapswitch peer add {other} --bridge ov0"
            )
        )
    );
    let mut small = ping(ip_b);
    small.size = Some(59);
    assert_eq!(
        refused(small),
        (
            ErrorKind::Invalid,
            format!("ping peer {ip_b}: size 59 is out of range 60..=65499")
        )
    );
    crate::common::ip(&format!("netns del {netns}"));
    wait_until("the endpoint is down", SOON, || a.vtep().reason.is_some());
    let (kind, message) = refused(ping(ip_b));
    assert_eq!(kind, ErrorKind::Failed);
    assert_eq!(
        message,
        format!("ping peer {ip_b}: the VXLAN endpoint is down; see why: tapswitch vtep show")
    );
    let _again = crate::common::Netns::named(&netns);
}

fn long() {
    let [a, b] = lan(Family::V4);
    let (ip_a, ip_b) = (a.ip, b.ip);
    let (a, b) = (Node::joined(a, &[ip_b]), Node::joined(b, &[ip_a]));
    let request = PingRequest {
        count: 20,
        interval_s: 0.05,
        timeout_s: 0.5,
        ..PingRequest::new(PeerAddr::new(ip_b))
    };
    let switch = a.switch.clone();
    let pinging = thread::spawn(move || switch.execute(Request::PeerPing(request)).unwrap());
    wait_until("the first answer", SOON, || {
        b.peer("ov0", ip_a).rx.frames > 0
    });

    let start = clock::now();
    let mut spec = a.vtep_spec();
    spec.ttl = 32;
    a.request(Request::VtepSet(spec));
    assert!(clock::now().since(start) < SECOND / 2);
    let Response::Ping(ping) = pinging.join().unwrap() else {
        panic!("no report");
    };
    assert!(ping.received >= 18, "{ping:?}");
    assert!(clock::now().since(start) > Duration::from_millis(100));
}
