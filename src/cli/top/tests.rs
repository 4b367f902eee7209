use std::collections::BTreeMap;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyModifiers},
};

use super::{
    model::{Model, News},
    view,
};
use crate::{
    config::{OffloadMode, VtepSpec},
    control::api::{
        Event, PeerInfo, PeerKind, PeerState, PortInfo, PortState, StatsInfo, TrafficInfo,
        VtepInfo, VtepState, WhyEntry, WhyFate, WhyReport, WorkerInfo,
    },
    names::Name,
    wire::Vni,
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn traffic(frames: u64) -> TrafficInfo {
    let bytes = frames * 1000;
    TrafficInfo { frames, bytes }
}

fn port(text: &str, rx: u64, tx: u64) -> PortInfo {
    PortInfo {
        name: name(text),
        bridge: name("br0"),
        netns: Some("nsA".to_owned()),
        netns_inode: None,
        ifname: "eth0".to_owned(),
        ifindex: Some(2),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: 1500,
        addresses: Vec::new(),
        state: PortState::Up,
        reason: None,
        flags: BTreeMap::new(),
        offload: OffloadMode::On,
        offloads: String::new(),
        rx: traffic(rx),
        tx: traffic(tx),
        drops: BTreeMap::new(),
        drops_in: BTreeMap::new(),
    }
}

fn peer(remote: &str, bridge: &str, state: PeerState) -> PeerInfo {
    PeerInfo {
        bridge: name(bridge),
        vni: Vni::new(42).unwrap(),
        remote: remote.to_owned(),
        port: 4789,
        kind: PeerKind::Listed,
        mtu: 1450,
        path_mtu: 1500,
        state,
        reason: None,
        rx: TrafficInfo::default(),
        tx: TrafficInfo::default(),
        drops: BTreeMap::new(),
        drops_in: BTreeMap::new(),
        reserved_bits_ignored: 9,
        fdb_entries: 0,
    }
}

fn vtep() -> VtepInfo {
    VtepInfo {
        spec: VtepSpec::new("192.168.50.10".parse().unwrap()),
        source_ports: Vec::new(),
        offloads: String::new(),
        state: VtepState::Up,
        reason: None,
        rx: TrafficInfo::default(),
        drops: BTreeMap::from([("unknown_vni".to_owned(), 5)]),
        drops_in: BTreeMap::from([("unknown_vni".to_owned(), 5)]),
        socket_overflow: 0,
    }
}

/// The counters after `second` seconds of the same traffic.
fn stats(second: u32) -> StatsInfo {
    let times = u64::from(second);
    let mut busy = port("podA", 12_345 * times, 11_000 * times);
    busy.drops = BTreeMap::from([
        ("no_egress".to_owned(), 12 * times),
        ("locked".to_owned(), 1),
    ]);
    busy.drops_in = busy.drops.clone();
    let mut gone = port("podC", 7, 0);
    gone.state = PortState::Gone;
    gone.drops = BTreeMap::from([("egress_gone".to_owned(), 3)]);
    let mut far = peer("192.168.50.20", "br0", PeerState::Up);
    (far.rx, far.tx) = (traffic(times * times), traffic(100 * times));
    StatsInfo {
        name: "nodeA".to_owned(),
        version: "0.1.0".to_owned(),
        started: 1_700_000_000.0,
        uptime_s: 3720.0 + f64::from(second),
        ports: vec![gone, port("podB", 11_000 * times, 12_345 * times), busy],
        peers: vec![far, peer("192.168.50.30", "br0", PeerState::NoRoute)],
        vtep: Some(vtep()),
        workers: vec![WorkerInfo {
            cpu_s: 0.37 * f64::from(second),
            ..WorkerInfo::default()
        }],
        ..StatsInfo::default()
    }
}

/// After three looks, with events.
fn model() -> Model {
    let now = 1_700_003_720.0;
    let mut model = Model::new(stats(1), now);
    for second in 2..=3 {
        let counters = News::Counters(Box::new(stats(second)));
        assert!(model.take(counters, now).is_continue());
    }
    let events = [
        Event::Drops {
            time: now - 1.5,
            bridge: Some(name("br0")),
            port: Some(name("podA")),
            remote: None,
            direction: "receive".to_owned(),
            reason: "no_egress".to_owned(),
            count: 12,
        },
        Event::Port {
            time: now - 2.0,
            port: name("podC"),
            bridge: name("br0"),
            change: "gone".to_owned(),
            state: Some(PortState::Gone),
            reason: Some("netns nsC is gone".to_owned()),
        },
        Event::Lost { count: 7 },
    ];
    for event in events {
        assert!(model.take(News::Event(event), now).is_continue());
    }
    model
}

/// Presses keys; `true` if the program goes on.
fn press(model: &mut Model, keys: &str) -> bool {
    keys.chars().all(|key| {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            'v' => KeyCode::Down,
            other => KeyCode::Char(other),
        };
        let news = News::Key(code, KeyModifiers::NONE);
        let goes_on = model.take(news, 1_700_003_725.0).is_continue();
        // How far the cursor may go is known when the rows are drawn.
        screen(model, 80, 24);
        goes_on
    })
}

fn screen(model: &mut Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = (0..height).map(|y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned() + "\n"
    });
    lines.collect()
}

/// Compares with a file beside this one. `TAPSWITCH_SCREENS=overwrite` writes it anew.
#[track_caller]
fn assert_screen(file: &str, screen: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/cli/top/screens")
        .join(file);
    if std::env::var_os("TAPSWITCH_SCREENS").is_some() {
        std::fs::write(&path, screen).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(screen == expected, "{file} is now:\n{screen}");
}

#[test]
fn the_screen_shows_ports_peers_drops_and_events() {
    let mut model = model();
    assert_screen("places-80x24.txt", &screen(&mut model, 80, 24));
    assert_screen("places-120x30.txt", &screen(&mut model, 120, 30));
}

#[test]
fn the_screen_of_drops_says_what_each_reason_means() {
    let mut model = model();
    press(&mut model, "dv");
    assert_screen("drops-80x24.txt", &screen(&mut model, 80, 24));
    assert_screen("drops-120x30.txt", &screen(&mut model, 120, 30));
    press(&mut model, "d");
    assert!(screen(&mut model, 80, 24).contains("recent drops"));
}

/// A look at two flows and a loss, `second` seconds after the first look.
fn flows(second: u32) -> News {
    let entry = |fate, frame: &str, to: &str, count: u64, len: u64| WhyEntry {
        time: 1.0,
        age_s: 0.1,
        first: 0.5,
        count,
        bytes: count * len,
        frame: frame.to_owned(),
        is_first: false,
        len: u32::try_from(len).unwrap(),
        src: None,
        dst: None,
        vlan: 0,
        bridge: Some(name("br0")),
        vni: None,
        from_port: Some(name("podA")),
        from_remote: None,
        fate,
        to: vec![to.to_owned()],
        copies: 2,
        reason: (fate == WhyFate::Dropped).then(|| "no_egress".to_owned()),
        why: String::new(),
        learned: None,
        remedy: None,
        has_bytes: None,
        fits_bytes: None,
    };
    let more = u64::from(second);
    let tcp = "tcp 10.244.0.1:40000 > 10.244.0.2:80, 1448 bytes";
    let entries = vec![
        entry(WhyFate::Flooded, "arp who-has 10.244.0.9", "podB", 7, 42),
        entry(
            WhyFate::Dropped,
            "udp 10.244.0.1:5 > 10.9.9.9:7",
            "",
            3 * more,
            60,
        ),
        entry(WhyFate::Forwarded, tcp, "podB", 1000 * more, 1500),
    ];
    News::Flows(Box::new(WhyReport {
        entries,
        left_out: 0,
        crowded_out: 4,
        hint: None,
    }))
}

#[test]
fn the_screen_of_flows_says_where_they_go_and_how_fast() {
    let mut model = model();
    press(&mut model, "f");
    assert!(model.wants_flows());
    for second in 1..=2 {
        let now = 1_700_003_720.0 + f64::from(second);
        assert!(model.take(flows(second), now).is_continue());
    }
    assert_screen("flows-80x24.txt", &screen(&mut model, 80, 24));
    press(&mut model, "/9.9.9\n");
    let only = screen(&mut model, 80, 24);
    assert!(
        only.contains("no_egress") && !only.contains("tcp"),
        "{only}"
    );
    press(&mut model, "\x1b");
    assert!(!model.wants_flows(), "nobody looks at them any more");
}

#[test]
fn help_has_room_on_a_small_screen() {
    let mut model = model();
    press(&mut model, "?");
    assert_screen("help-80x24.txt", &screen(&mut model, 80, 24));
    press(&mut model, "\x1b");
    assert!(screen(&mut model, 80, 24).contains("recent drops"));
}

#[test]
fn no_size_is_too_small() {
    for (width, height) in [
        (1, 1),
        (3, 2),
        (10, 5),
        (40, 10),
        (80, 3),
        (500, 4),
        (20, 100),
    ] {
        for keys in ["", "d", "f", "?", "/x"] {
            let mut model = model();
            press(&mut model, keys);
            screen(&mut model, width, height);
        }
    }
}

#[test]
fn a_first_look_has_no_rates_and_a_switch_without_ports_says_how_to_add_one() {
    let mut first = Model::new(stats(1), 0.0);
    let shown = screen(&mut first, 80, 24);
    assert!(
        shown.contains(" podA            up            0"),
        "{shown}"
    );
    let mut empty = Model::new(StatsInfo::default(), 0.0);
    let shown = screen(&mut empty, 80, 24);
    assert!(
        shown.contains("no ports yet; add one: tapswitch port add"),
        "{shown}"
    );
}

/// The names in the first column, down to the list of drops.
fn names(model: &mut Model) -> Vec<String> {
    let screen = screen(model, 80, 24);
    let lines = screen
        .lines()
        .skip(3)
        .take_while(|line| !line.contains("recent"));
    lines
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn s_sorts_and_the_filter_filters() {
    let mut model = model();
    let far = ["PEER", "192.168.50.20", "192.168.50.30"];
    assert_eq!(
        names(&mut model),
        [&["podA", "podB", "podC"], &far[..]].concat()
    );
    let mut next = stats(4);
    // podB loses more than podA, and podC is back and moves more bits than both.
    next.ports[1].drops = BTreeMap::from([("egress_full".to_owned(), 500)]);
    next.ports[0].rx = traffic(100_000);
    assert!(
        model
            .take(News::Counters(Box::new(next)), 0.0)
            .is_continue()
    );
    assert_eq!(names(&mut model)[..3], ["podC", "podA", "podB"]);
    press(&mut model, "ss");
    assert_eq!(names(&mut model)[..3], ["podB", "podA", "podC"]);
    press(&mut model, "s");
    assert_eq!(names(&mut model)[..3], ["podA", "podB", "podC"]);
    press(&mut model, "/50.3q\x1b");
    assert_eq!(names(&mut model).len(), 6, "Esc drops the filter");
    press(&mut model, "/PODb\n");
    assert_eq!(names(&mut model), ["podB"]);
    assert!(screen(&mut model, 80, 24).contains("filter: PODb"));
    press(&mut model, "\x1b/nobody\n");
    let shown = screen(&mut model, 80, 24);
    assert!(
        shown.contains("nothing is called like \"nobody\""),
        "{shown}"
    );
}

#[test]
fn a_paused_screen_stays_as_it_is_and_catches_up() {
    let mut model = model();
    press(&mut model, "p");
    let paused = screen(&mut model, 80, 24);
    let lost = Event::Lost { count: 99 };
    assert!(
        model
            .take(News::Counters(Box::new(stats(9))), 0.0)
            .is_continue()
    );
    assert!(model.take(News::Event(lost), 0.0).is_continue());
    assert_eq!(screen(&mut model, 80, 24), paused);
    assert!(
        paused.contains("PAUSED") && paused.contains("p go on"),
        "{paused}"
    );
    press(&mut model, "p");
    let on = screen(&mut model, 80, 24);
    assert!(
        on.contains("99 events are missing here") && !on.contains("PAUSED"),
        "{on}"
    );
}

#[test]
fn a_daemon_that_is_away_is_said_and_one_that_is_back_counts_from_zero() {
    let mut model = model();
    let away = News::Silence("connect to /run/x: no such file".to_owned());
    assert!(model.take(away, 0.0).is_continue());
    let shown = screen(&mut model, 80, 24);
    assert!(
        shown.contains("connect to /run/x: no such file; trying again"),
        "{shown}"
    );
    let mut young = stats(1);
    (young.started, young.uptime_s) = (1_700_009_999.0, 1.0);
    assert!(
        model
            .take(News::Counters(Box::new(young)), 0.0)
            .is_continue()
    );
    let shown = screen(&mut model, 80, 24);
    assert!(
        !shown.contains("trying again") && shown.contains("up 1s"),
        "{shown}"
    );
    assert!(
        shown.contains(" podA            up            0"),
        "{shown}"
    );
}

#[test]
fn names_and_reasons_cannot_move_the_cursor() {
    let mut model = model();
    let mut evil = stats(4);
    evil.name = "a\x1b[2Jb".to_owned();
    evil.peers[0].remote = "\x1b]0;x\x07".to_owned();
    assert!(
        model
            .take(News::Counters(Box::new(evil)), 0.0)
            .is_continue()
    );
    assert!(
        model
            .take(News::Silence("\x1b[5n".to_owned()), 0.0)
            .is_continue()
    );
    let shown = screen(&mut model, 120, 24);
    assert!(
        !shown.contains('\x1b') && !shown.contains('\x07'),
        "{shown:?}"
    );
}

#[test]
fn q_and_signals_end_it_and_other_keys_do_not() {
    assert!(!press(&mut model(), "q"));
    assert!(press(&mut model(), "xyz/q\nv"));
    let ctrl_c = News::Key(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(model().take(ctrl_c, 0.0).is_break());
    assert!(model().take(News::End, 0.0).is_break());
}
