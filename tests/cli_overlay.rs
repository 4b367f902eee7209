//! The overlay's commands as a shell sees them: output, errors and exit codes.

mod fake;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use fake::{FakeDaemon, name};
use tapswitch::{
    config::{Accept, OffloadMode, Place, Tos},
    control::api::{EntrySelector, Event, Request},
    names::NetnsRef,
    wire::Vni,
};

fn tapswitch(socket: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapswitch"))
        .env("TAPSWITCH_SOCKET", socket)
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What `line` prints, its words separated by blanks.
fn screen(daemon: &FakeDaemon, line: &str) -> String {
    let arguments: Vec<&str> = line.split(' ').collect();
    let output = tapswitch(&daemon.socket(), &arguments);
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    stdout(&output)
}

fn json(daemon: &FakeDaemon, line: &str) -> serde_json::Value {
    serde_json::from_str(&screen(daemon, &format!("{line} --json"))).unwrap()
}

/// What the daemon is asked by `line`.
fn asked(daemon: &FakeDaemon, line: &str) -> Request {
    screen(daemon, line);
    daemon.requests().pop().unwrap()
}

#[test]
fn what_is_typed_is_what_the_daemon_is_asked() {
    let daemon = FakeDaemon::start("ov-typed");
    let remote = |text: &str| text.parse().unwrap();

    let Request::BridgeAdd(bridge) = asked(
        &daemon,
        "bridge add b --vni 16777215 --peer 192.168.50.20 --peer 192.168.50.30:8472 --peer-learning off --mtu auto",
    ) else {
        panic!("no bridge was added");
    };
    assert_eq!((bridge.vni, bridge.mtu), (Some(Vni::MAX), None));
    assert_eq!(bridge.peers[1], remote("192.168.50.30:8472"));
    assert!(!bridge.peer_learning);
    let Request::BridgeSet(change) = asked(&daemon, "bridge set b --vni none --peer none") else {
        panic!("no bridge was set");
    };
    assert_eq!((change.vni, change.peers), (Some(None), Some(Vec::new())));
    assert_eq!((change.mtu, change.peer_learning), (None, None));

    assert_eq!(
        asked(&daemon, "peer add 192.168.50.30:8472 --bridge ov0"),
        Request::PeerAdd {
            bridge: Some(name("ov0")),
            remote: remote("192.168.50.30:8472"),
        }
    );
    assert_eq!(
        asked(&daemon, "peer rm 192.168.50.30"),
        Request::PeerDel {
            bridge: None,
            remote: remote("192.168.50.30"),
        }
    );
    assert_eq!(
        asked(&daemon, "peer show --bridge ov0"),
        Request::PeerShow {
            bridge: Some(name("ov0")),
        }
    );
    let Request::PeerPing(ping) = asked(
        &daemon,
        "peer ping 192.168.50.20 --count 5 --size 1k --interval 200ms --timeout 2s",
    ) else {
        panic!("nothing was pinged");
    };
    assert_eq!((ping.count, ping.size, ping.sweep), (5, Some(1000), false));
    assert_eq!((ping.interval_s, ping.timeout_s), (0.2, 2.0));
    assert_eq!(asked(&daemon, "vtep del"), Request::VtepDel);
}

#[test]
fn a_static_entry_may_be_behind_a_peer() {
    let daemon = FakeDaemon::start("ov-fdb");

    // The fake has one bridge with a VNI.
    let Request::FdbAdd(entry) = asked(
        &daemon,
        "fdb add 02:00:00:00:00:09 --remote 192.168.50.20:8472",
    ) else {
        panic!("no entry was added");
    };
    let remote = "192.168.50.20:8472".parse().unwrap();
    assert_eq!(
        (entry.bridge, entry.place),
        (name("ov0"), Place::Peer(remote))
    );
    let Request::FdbAdd(entry) = asked(&daemon, "fdb add 02:00:00:00:00:09 --port podA") else {
        panic!("no entry was added");
    };
    assert_eq!(entry.place, Place::Port(name("podA")));
    for verb in ["get", "del"] {
        let mac = "02:00:00:00:00:09";
        let selected = |words: &str| {
            let line = format!("fdb {verb} {mac} {words}");
            match asked(&daemon, &line) {
                Request::FdbGet(entry) | Request::FdbDel(entry) => entry,
                other => panic!("{line} asked for {other:?}"),
            }
        };
        let anywhere = EntrySelector::new(None, mac.parse().unwrap());
        let at_port = EntrySelector {
            port: Some(name("podA")),
            ..anywhere.clone()
        };
        assert_eq!(selected("--port podA"), at_port);
        let at_remote = EntrySelector {
            remote: Some(remote),
            ..anywhere
        };
        assert_eq!(selected("--remote 192.168.50.20:8472"), at_remote);
    }
    let Request::BridgeSet(change) = asked(&daemon, "bridge set b --mtu 9k") else {
        panic!("no bridge was set");
    };
    assert_eq!(change.mtu, Some(Some(9000)));
    for verb in ["show", "flush"] {
        let line = format!("fdb {verb} --remote 192.168.50.20");
        let (Request::FdbShow(selector) | Request::FdbFlush(selector)) = asked(&daemon, &line)
        else {
            panic!("{line} asked for something else");
        };
        assert_eq!(selector.remote.unwrap().to_string(), "192.168.50.20");
    }

    assert_eq!(
        screen(&daemon, "fdb show"),
        " BRIDGE  MAC                VLAN  PORT  REMOTE         STATE    AGE
 br0     02:00:00:00:00:01  -     podA  -              learned  1.5s
 ov0     02:00:00:00:00:02  -     -     192.168.50.20  control  -
"
    );
    let entries = json(&daemon, "fdb show");
    assert_eq!(entries[1]["remote"], "192.168.50.20");
    assert!(entries[1]["port"].is_null() && entries[0]["remote"].is_null());
}

#[test]
fn setting_the_endpoint_keeps_what_is_not_said() {
    let daemon = FakeDaemon::start("ov-vtep");
    let ask = |line| match asked(&daemon, line) {
        Request::VtepSet(vtep) => vtep,
        other => panic!("{other:?}"),
    };

    let all = ask(
        "vtep set --local fd00::1 --port 8472 --netns pid:7 --accept any --strict on --ttl 255 \
         --tos inherit --udpcsum off --udp6zerocsumrx on --offload off --too-big-answers off",
    );
    assert_eq!(all.address().to_string(), "[fd00::1]:8472");
    assert_eq!(all.netns, Some(NetnsRef::Pid(7)));
    assert_eq!(
        (all.accept, all.tos, all.ttl),
        (Accept::Any, Tos::Inherit, 255)
    );
    assert!(all.strict && !all.udpcsum && all.udp6zerocsumrx && !all.too_big_answers);
    assert_eq!(all.offload, OffloadMode::Off);

    let some = ask("vtep set --tos 0xb8 --netns none");
    assert_eq!(some.address().to_string(), "192.168.50.10:4789");
    assert_eq!(
        (some.ttl, some.tos, some.netns),
        (32, Tos::Fixed(184), None)
    );
}

#[test]
fn the_endpoint_is_shown() {
    let daemon = FakeDaemon::start("ov-show");

    assert_eq!(
        screen(&daemon, "vtep show"),
        "vtep 192.168.50.10:4789 in netns nodeA: up, accept peers
  strict off, ttl 32, tos 0, udpcsum on, udp6zerocsumrx off, offload on, too_big_answers on
  source ports: 49152 50123
  offloads: UDP_SEGMENT, UDP_GRO
  from no peer: 5 frames, 420 bytes; drops: unknown_vni 5; socket overflow: 1
"
    );
    let vtep = json(&daemon, "vtep show");
    for key in [
        "local",
        "port",
        "netns",
        "accept",
        "strict",
        "ttl",
        "tos",
        "udpcsum",
        "udp6zerocsumrx",
        "offload",
        "too_big_answers",
        "source_ports",
        "offloads",
        "state",
        "reason",
        "rx",
        "drops",
        "socket_overflow",
    ] {
        assert!(vtep.get(key).is_some(), "vtep show has no {key}: {vtep}");
    }
    assert_eq!((&vtep["state"], &vtep["tos"]), (&"up".into(), &0.into()));
}

#[test]
fn peers_are_shown_in_columns() {
    let daemon = FakeDaemon::start("ov-peers");

    assert_eq!(
        screen(&daemon, "peer show"),
        " BRIDGE  VNI  REMOTE         PORT  KIND    MTU   PATH MTU  STATE                              RX FRAMES  TX FRAMES  DROPS
 ov0     42   192.168.50.20  4789  listed  1450  1500      up                                         7          8  too_big 2
 ov0     42   192.168.51.30  8472  static  1450  1500      no route (network is unreachable)          7          8  -
"
    );
    let peers = json(&daemon, "peer show");
    for key in [
        "bridge",
        "vni",
        "remote",
        "port",
        "kind",
        "mtu",
        "path_mtu",
        "state",
        "reason",
        "rx",
        "tx",
        "drops",
        "fdb_entries",
    ] {
        assert!(peers[0].get(key).is_some(), "peer show has no {key}");
    }
    assert_eq!(peers[0]["vni"], 42);
    assert_eq!(peers[1]["state"], "no-route");
    assert_eq!(peers[0]["tx"]["bytes"], 800);
}

#[test]
fn one_screen_has_the_endpoint_the_peers_and_where_the_mtu_comes_from() {
    let daemon = FakeDaemon::start("ov-screen");

    let show = screen(&daemon, "show");
    for part in [
        "\nvtep 192.168.50.10:4789 in netns nodeA: up, accept peers\n  from no peer: 5 frames",
        "\nbridge ov0: switch, vni 42, mtu 1450, ageing 300s, fdb 1/8192
  mtu 1450 = 1500 (path to 192.168.50.20) - 20 (outer IPv4) - 8 (UDP) - 8 (VXLAN) - 14 (inner Ethernet)
  no ports
 PEER           PORT  KIND    STATE                              MTU   PATH MTU  FDB
 192.168.50.20  4789  listed  up                                 1450  1500      1\n",
        "\n2 bridges, 1 port, 2 peers, 10 frames dropped, 0 unaccounted for\n",
    ] {
        assert!(show.contains(part), "{part}\nis not in\n{show}");
    }
    let bridges = screen(&daemon, "bridge show ov0");
    let peers = "  peers: 192.168.50.20, 1 other not listed; learning from peers: on\n";
    assert!(bridges.contains(peers), "{bridges}");
    let stats = screen(&daemon, "stats");
    for part in [
        " PEER                BRIDGE  RX FRAMES  RX BYTES  TX FRAMES  TX BYTES  DROPS\n",
        " 192.168.50.20:4789  ov0             7       700          8       800  too_big 2\n",
        "  from no peer: 5 frames, 420 bytes; drops: unknown_vni 5; socket overflow: 1\n",
    ] {
        assert!(stats.contains(part), "{part}\nis not in\n{stats}");
    }

    let show = json(&daemon, "show");
    assert_eq!(show["vtep"]["local"], "192.168.50.10");
    assert_eq!(show["peers"][0]["remote"], "192.168.50.20");
    let bridge = &show["bridges"][1];
    assert_eq!(
        (&bridge["vni"], &bridge["peer_count"]),
        (&42.into(), &2.into())
    );
    assert_eq!(bridge["peers"][0], "192.168.50.20");
    assert_eq!(bridge["mtu_chain"]["less"][2][0], "VXLAN");
    let stats = json(&daemon, "stats");
    assert_eq!(stats["peers"][0]["rx"]["frames"], 7);
    assert_eq!(stats["vtep"]["drops"]["unknown_vni"], 5);
}

#[test]
fn a_ping_reads_like_ping_and_fails_if_nothing_comes_back() {
    let daemon = FakeDaemon::start("ov-ping");

    assert_eq!(
        screen(&daemon, "peer ping 192.168.50.20"),
        "PING 192.168.50.20 port 4789 on ov0 (vni 42): frames of 58 bytes
58 bytes from 192.168.50.20: seq=1 time=0.100 ms
no answer from 192.168.50.20: seq=2 (58 bytes)
58 bytes from 192.168.50.20: seq=3 time=0.300 ms

--- 192.168.50.20 ping statistics ---
3 frames sent, 2 answered, 33% lost
rtt min/avg/max = 0.100/0.200/0.300 ms
udp: answers on 4789
frames get there and back
"
    );
    let sweep = screen(&daemon, "peer ping 192.168.50.20 --sweep");
    let largest = "\nlargest frame: 1464 bytes, so an mtu of 1450; 1465 bytes are lost\n";
    assert!(sweep.contains(largest), "{sweep}");

    let dead = ["peer", "ping", "192.168.50.99", "--count", "1"];
    let silent = tapswitch(&daemon.socket(), &dead);
    assert_eq!(silent.status.code(), Some(1));
    assert_eq!(stderr(&silent), "");
    let text = stdout(&silent);
    assert!(
        text.contains("1 frame sent, 0 answered, 100% lost\nudp: port 4789 closed"),
        "{text}"
    );
    let arguments: Vec<&str> = dead.into_iter().chain(["--json"]).collect();
    let silent = tapswitch(&daemon.socket(), &arguments);
    assert_eq!(silent.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_str(&stdout(&silent)).unwrap();
    assert!(report["rtt_avg_s"].is_null());
    assert_eq!(
        (&report["sent"], &report["received"]),
        (&1.into(), &0.into())
    );
    for key in [
        "bridge",
        "vni",
        "remote",
        "port",
        "size",
        "rtt_min_s",
        "rtt_max_s",
        "replies",
        "largest",
        "smallest_lost",
        "verdict",
        "udp",
    ] {
        assert!(report.get(key).is_some(), "peer ping has no {key}");
    }
}

#[test]
fn wrong_usage_exits_with_two_and_refusals_with_the_code_of_their_kind() {
    let daemon = FakeDaemon::start("ov-usage");
    let code = |line: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = tapswitch(&daemon.socket(), &arguments);
        assert_eq!(stdout(&output), "", "{line}");
        (output.status.code().unwrap(), stderr(&output))
    };

    for line in [
        "vtep",
        "vtep set",
        "vtep set --local nodeA",
        "vtep set --local 0.0.0.0",
        "vtep set --local 10.0.0.1 --port 0",
        "vtep set --local 10.0.0.1 --ttl 0",
        "vtep set --local 10.0.0.1 --tos 3",
        "vtep set --local 10.0.0.1 --accept all",
        "peer add",
        "peer add nodeB --bridge ov0",
        "peer add 10.0.0.1:0 --bridge ov0",
        "peer ping 10.0.0.1 --count 0",
        "peer ping 10.0.0.1 --interval 2h",
        "peer ping 10.0.0.1 --timeout 0",
        "peer ping 10.0.0.1 --size 65536",
        "peer ping 10.0.0.1 --size 100 --sweep",
        "bridge add b --vni 16777216",
        "bridge add b --peer 10.0.0.1",
        "bridge add b --vni 1 --peer 239.0.0.1",
        "bridge add b --vni 1 --mode wire",
        "bridge set b",
        "fdb add 02:00:00:00:00:09",
        "fdb add 02:00:00:00:00:09 --port a --remote 10.0.0.1",
        "fdb show --port a --remote 10.0.0.1",
        "monitor nonsense",
        // What the daemon finds wrong about it.
        "peer add fd00::2 --bridge ov0",
    ] {
        let (code, message) = code(line);
        assert_eq!(code, 2, "{line}: {message}");
        assert!(!message.is_empty(), "{line}");
    }
    let (missing, message) = code("peer del fd00::2");
    assert_eq!(missing, 1);
    assert_eq!(
        message,
        "tapswitch: delete peer fd00::2: bridge ov0 has no such peer; see: tapswitch peer show\n"
    );
    let (_, message) = code("vtep set --local 224.0.0.1");
    assert_eq!(
        message,
        "tapswitch: vtep: local 224.0.0.1 is a multicast group, which no VTEP has for its own; \
         write one of this host's addresses (see: ip address)\n"
    );
}

#[test]
fn events_of_the_overlay_are_lines() {
    let daemon = FakeDaemon::start("ov-monitor");
    let monitor = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_tapswitch"))
            .env("TAPSWITCH_SOCKET", daemon.socket())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut people = monitor(&["monitor"]);
    let mut scripts = monitor(&["--json", "monitor", "peer"]);
    while daemon.fake.events.receiver_count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let peer = |change: &str, mtu, reason: Option<&str>| Event::Peer {
        time: 1.5,
        bridge: name("ov0"),
        remote: "192.168.50.20".to_owned(),
        change: change.to_owned(),
        mtu,
        reason: reason.map(str::to_owned),
    };
    for event in [
        Event::Vtep {
            time: 1.0,
            change: "down".to_owned(),
            reason: Some("netns nodeA is gone".to_owned()),
        },
        peer("mtu", Some(1350), None),
        peer("no route", None, Some("network is unreachable")),
        Event::Fdb {
            time: 2.0,
            change: "moved".to_owned(),
            bridge: name("ov0"),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            vlan: 0,
            port: None,
            remote: Some("192.168.50.20".to_owned()),
            old_port: Some(name("podA")),
            old_remote: None,
        },
    ] {
        daemon.fake.events.send(event).unwrap();
    }

    let lines = |child: &mut std::process::Child, count| {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines: Vec<String> = lines.take(count).map(Result::unwrap).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        lines
    };
    assert_eq!(
        lines(&mut people, 4),
        [
            "00:00:01.000 vtep down: netns nodeA is gone",
            "00:00:01.500 peer 192.168.50.20 mtu on ov0, mtu 1350",
            "00:00:01.500 peer 192.168.50.20 no route on ov0: network is unreachable",
            "00:00:02.000 fdb moved 02:00:00:00:00:01 on ov0 remote 192.168.50.20 from podA",
        ]
    );
    assert_eq!(
        lines(&mut scripts, 1),
        [concat!(
            "{\"event\":\"peer\",\"time\":1.5,\"bridge\":\"ov0\",\"remote\":\"192.168.50.20\",",
            "\"change\":\"mtu\",\"mtu\":1350,\"reason\":null}"
        )]
    );
}

#[test]
fn a_file_with_an_overlay_is_checked_and_planned() {
    let daemon = FakeDaemon::start("ov-file");
    let file = daemon.directory().join("overlay.toml");
    let write = |peer: &str| {
        let text = format!(
            "[vtep]\nlocal = \"192.168.50.10\"\n[[bridge]]\nname = \"ov0\"\nvni = 42\npeers = [\"{peer}\"]\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let path = file.to_str().unwrap();

    write("192.168.50.10");
    let refused = tapswitch(&daemon.socket(), &["check", path]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        stderr(&refused),
        format!("{path}:6:10: bridge ov0: peer 192.168.50.10 is this VTEP itself; remove it\n")
    );
    write("192.168.50.20");
    assert_eq!(
        screen(&daemon, &format!("apply {path} --dry-run")),
        "+ vtep 192.168.50.10:4789\n+ bridge ov0 (mtu auto, vni 42, peers 192.168.50.20)\n"
    );
}

#[test]
fn completions_and_manual_pages_know_the_overlay() {
    let daemon = FakeDaemon::start("ov-man");
    let pages = daemon.directory().join("man");

    let completions = screen(&daemon, "completions bash");
    screen(&daemon, &format!("man {}", pages.display()));

    for word in [
        "--too-big-answers",
        "--peer-learning",
        "--sweep",
        "--remote",
    ] {
        assert!(completions.contains(word), "{word} is not completed");
    }
    for page in ["vtep-set", "peer-add", "peer-del", "peer-show", "peer-ping"] {
        let file = pages.join("man1").join(format!("tapswitch-{page}.1"));
        assert!(file.exists(), "there is no page of {page}");
    }
}
