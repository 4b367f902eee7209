use crate::{
    config::OffloadMode,
    control::api::{Event, PeerInfo, PeerKind, PeerState, TrafficInfo},
    names::Name,
    wire::Vni,
};

use super::*;

fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn port(name: &str) -> PortInfo {
    PortInfo {
        name: Name::new(name).unwrap(),
        bridge: Name::new("br0").unwrap(),
        netns: Some("nsA".to_owned()),
        netns_inode: Some(4_026_532_001),
        ifname: "eth0".to_owned(),
        ifindex: Some(2),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: 1500,
        addresses: vec!["192.0.2.1/24".to_owned(), "2001:db8::1/64".to_owned()],
        state: PortState::Up,
        reason: None,
        flags: BTreeMap::from([("learning".to_owned(), true)]),
        offload: OffloadMode::On,
        offloads: "checksum".to_owned(),
        rx: TrafficInfo {
            frames: 12,
            bytes: 1176,
        },
        tx: TrafficInfo::default(),
        drops: BTreeMap::from([("queue_full".to_owned(), 3), ("too_big".to_owned(), 0)]),
        drops_in: BTreeMap::new(),
    }
}

fn bridge() -> BridgeInfo {
    BridgeInfo {
        spec: BridgeSpec::new(Name::new("br0").unwrap()),
        effective_mtu: 1500,
        mtu_chain: None,
        peer_count: 0,
        ports: vec![Name::new("podA").unwrap()],
        fdb_entries: 3,
        fdb_learned: 2,
        fdb_counters: BTreeMap::from([("learned".to_owned(), 2)]),
    }
}

#[test]
fn one_screen_shows_bridges_with_their_ports_in_columns() {
    let mut gone = port("b");
    gone.state = PortState::Gone;
    gone.reason = Some("namespace went away".to_owned());
    gone.netns = None;
    gone.addresses.clear();
    let info = ShowInfo {
        name: "host".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 7,
        workers: 2,
        bridges: vec![bridge()],
        ports: vec![port("podA"), gone],
        vtep: None,
        peers: Vec::new(),
        unaccounted: 0,
    };

    let screen = text(|out| human(out, &Response::Show(info)));

    assert_eq!(
        screen,
        "switch host: tapswitch 0.1.0, pid 7, 2 workers

bridge br0: switch, mtu 1500, ageing 300s, fdb 2/8192
 PORT  STATE                       NETNS   IFNAME  MAC                MTU   ADDRESSES
 podA  up                          nsA     eth0    02:00:00:00:00:01  1500  192.0.2.1/24 2001:db8::1/64
 b     gone (namespace went away)  (host)  eth0    02:00:00:00:00:01  1500  -

1 bridge, 2 ports, 6 frames dropped, 0 unaccounted for
"
    );
}

#[test]
fn entries_show_their_age_only_if_they_age() {
    let entry = |state, port: Option<&str>| FdbInfo {
        bridge: Name::new("br0").unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        vlan: 0,
        port: port.map(|port| Name::new(port).unwrap()),
        remote: None,
        state,
        age_s: 1.25,
        moves: 0,
        frozen: false,
    };
    let entries = vec![
        entry(FdbState::Learned, Some("podA")),
        entry(FdbState::Static, Some("podB")),
    ];

    let screen = text(|out| human(out, &Response::Fdb(entries)));

    assert_eq!(
        screen,
        " BRIDGE  MAC                VLAN  PORT  STATE    AGE
 br0     02:00:00:00:00:01  -     podA  learned  1.2s
 br0     02:00:00:00:00:01  -     podB  static   -
"
    );
}

#[test]
fn counters_show_drops_by_reason() {
    let stats = StatsInfo {
        ports: vec![port("podA")],
        ..StatsInfo::default()
    };

    let screen = text(|out| human(out, &Response::Stats(stats)));

    assert_eq!(
        screen,
        " PORT  RX FRAMES  RX BYTES  TX FRAMES  TX BYTES  DROPS
 podA         12      1176          0         0  queue_full 3
unaccounted: 0
"
    );
}

#[test]
fn a_port_and_a_bridge_are_shown_in_detail() {
    let mut strange = port("podA");
    strange.netns = Some("/run/a\x1b[2J\nb".to_owned());

    let ports = text(|out| human(out, &Response::Ports(vec![strange])));
    let bridges = text(|out| human(out, &Response::Bridges(vec![bridge()])));

    assert!(
        ports.contains("podA: up on br0, eth0 (index 2) in netns /run/a\\u{1b}[2J\\nb"),
        "{ports}"
    );
    assert!(ports.contains("  drops: queue_full 3\n"), "{ports}");
    assert!(bridges.contains("  ports: podA\n"), "{bridges}");
}

#[test]
fn events_are_lines_with_the_time_of_day() {
    let moved = Event::Fdb {
        time: 1_700_000_000.25,
        change: "moved".to_owned(),
        bridge: Name::new("br0").unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        vlan: 7,
        port: Name::new("b").ok(),
        remote: None,
        old_port: Name::new("a").ok(),
        old_remote: None,
    };

    let line = text(|out| event(out, &moved));

    assert_eq!(
        line,
        "22:13:20.250 fdb moved 02:00:00:00:00:01 vlan 7 on br0 port b from a\n"
    );
}

#[test]
fn done_is_silent_for_people_and_a_value_for_scripts() {
    assert_eq!(text(|out| human(out, &Response::Done)), "");
    assert_eq!(text(|out| json(out, &Response::Done)), "{\"done\":true}\n");
    assert_eq!(
        text(|out| json(out, &Response::Flushed(2))),
        "{\"flushed\":2}\n"
    );
    assert_eq!(
        text(|out| human(out, &Response::Plan(Vec::new()))),
        "nothing to do\n"
    );
}

#[test]
fn an_endpoint_of_ipv6_has_its_address_in_brackets() {
    let peer = PeerInfo {
        bridge: Name::new("br0").unwrap(),
        vni: Vni::new(42).unwrap(),
        remote: "fd00::2".to_owned(),
        port: 4789,
        kind: PeerKind::Learned,
        mtu: 1430,
        path_mtu: 1500,
        state: PeerState::Down,
        reason: Some("the vtep\x1b[2J is down".to_owned()),
        rx: TrafficInfo::default(),
        tx: TrafficInfo::default(),
        drops: BTreeMap::new(),
        drops_in: BTreeMap::new(),
        reserved_bits_ignored: 1,
        fdb_entries: 0,
    };
    let stats = StatsInfo {
        peers: vec![peer.clone()],
        ..StatsInfo::default()
    };

    let stats = text(|out| human(out, &Response::Stats(stats)));
    let peers = text(|out| human(out, &Response::Peers(vec![peer])));
    let none = text(|out| human(out, &Response::Vtep(None)));

    assert!(stats.contains("\n [fd00::2]:4789  br0 "), "{stats}");
    let down = "learned  1430  1500      down (the vtep\\u{1b}[2J is down)";
    assert!(peers.contains(down), "{peers}");
    let one = "\nfd00::2: 1 frame with reserved bits set in its VXLAN header, which are ignored\n";
    assert!(peers.ends_with(one), "{peers}");
    assert_eq!(none, "no vtep; open one: tapswitch vtep set --local IP\n");
    assert_eq!(text(|out| json(out, &Response::Vtep(None))), "null\n");
}
