//! The running switch in real namespaces: plugging, losing and regaining ports, all or nothing.

mod common;
mod stream;

use std::{net::IpAddr, process::ExitCode, sync::mpsc, thread, time::Duration};

use common::{Env, Netns, open_fds, wait_until};
use libtest_mimic::Trial;
use tapswitch::{
    config::{BridgeSpec, Mode, OffloadMode, Place, PortSpec, StaticSpec, SwitchSpec},
    control::api::{
        ApiError, EntrySelector, ErrorKind, Event, FdbInfo, FdbSelector, PortChange, PortInfo,
        PortState, Request, Response, StatsInfo,
    },
    daemon::{Switch, SwitchOptions},
    datapath::{Decided, Observer},
    names::{IfName, Name},
    sys::clock,
};
use tokio::sync::broadcast::{self, error::TryRecvError};

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let mut trials = plugging(env);
        trials.extend(changing(env));
        trials
    })
}

fn plugging(env: &Env) -> Vec<Trial> {
    vec![
        trial(
            env,
            "hosts_in_three_namespaces_reach_each_other",
            hosts_in_three_namespaces_reach_each_other,
        ),
        trial(
            env,
            "a_host_port_gives_the_daemons_namespace_an_address_on_the_bridge",
            host_port,
        ),
        trial(
            env,
            "streams_arrive_byte_for_byte_with_every_mix_of_offloads",
            streams,
        ),
        trial(
            env,
            "a_namespace_that_dies_takes_its_port_and_brings_it_back",
            dies_and_returns,
        ),
        trial(
            env,
            "a_deleted_interface_stays_gone_until_somebody_asks_for_it",
            deleted_interface,
        ),
        trial(
            env,
            "a_thousand_namespaces_come_and_go_and_leave_nothing",
            thousand_cycles,
        ),
        trial(
            env,
            "a_port_that_is_set_down_loses_its_carrier_and_its_addresses_in_the_fdb",
            port_down,
        ),
    ]
}

fn changing(env: &Env) -> Vec<Trial> {
    vec![
        trial(
            env,
            "apply_does_nothing_the_second_time",
            apply_is_idempotent,
        ),
        trial(
            env,
            "ports_without_traffic_cost_next_to_no_cpu_time",
            idle_ports,
        ),
        trial(env, "apply_changes_all_or_nothing", apply_is_atomic),
        trial(
            env,
            "a_failed_apply_has_not_touched_a_port_that_it_would_have_removed",
            apply_tries_first,
        ),
        trial(
            env,
            "a_failed_apply_names_the_ports_that_it_had_to_unplug",
            apply_names_what_it_unplugged,
        ),
        trial(env, "apply_lets_two_ports_swap_their_places", apply_swaps),
        trial(
            env,
            "what_cannot_be_done_is_refused_and_changes_nothing",
            refusals,
        ),
        trial(
            env,
            "frames_lost_in_the_taps_queue_are_counted_at_the_port",
            tap_queue,
        ),
        trial(
            env,
            "an_interface_set_down_inside_costs_only_itself",
            down_inside,
        ),
        trial(env, "an_mtu_changed_inside_is_noticed", mtu_inside),
        trial(
            env,
            "a_namespace_that_is_made_anew_at_once_gets_its_port_back",
            made_anew,
        ),
        trial(
            env,
            "a_change_that_fails_half_way_is_taken_back",
            failed_change,
        ),
        trial(
            env,
            "apply_lets_two_ports_swap_their_addresses",
            apply_swaps_addresses,
        ),
        trial(
            env,
            "apply_keeps_static_entries_of_ports_that_it_plugs_in_anew",
            apply_keeps_statics,
        ),
        trial(
            env,
            "an_entry_is_found_and_deleted_only_where_it_is_said_to_be",
            entry_of_a_place,
        ),
        trial(env, "a_wire_carries_what_a_switch_does_not", wire),
    ]
}

/// Most of them ping.
fn trial(env: &Env, name: &str, body: fn()) -> Trial {
    env.trial_with(&["ping"], name, body)
}

fn hosts_in_three_namespaces_reach_each_other() {
    let net = Net::new();
    let pods = net.pods(3);

    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        net.ping(&pods[from], &format!("10.1.1.{}", to + 1));
        net.ping(&pods[from], &format!("fd00:1::{}", to + 1));
    }

    let fdb = net.fdb();
    for port in net.stats().ports {
        let entry = fdb
            .iter()
            .find(|entry| entry.mac == port.mac)
            .expect("every pod has spoken");
        assert_eq!(entry.port.as_ref(), Some(&port.name));
    }
}

fn host_port() {
    let net = Net::new();
    let pod = net.pods(1).remove(0);
    let mut spec = net.port("br-demo");
    spec.addresses = vec!["10.1.1.254/24".parse().unwrap()];
    net.request(Request::PortAdd(spec));

    assert!(common::ip("-br addr show br-demo").contains("10.1.1.254/24"));
    net.ping(&pod, "10.1.1.254");

    let host = net.info("br-demo");
    assert_eq!(host.netns, None);
    let local = net
        .fdb()
        .into_iter()
        .find(|entry| entry.mac == host.mac)
        .unwrap();
    assert_eq!(serde_json::to_value(local.state).unwrap(), "local");
    common::ip("link del br-demo");
    wait_until("the port is gone", Duration::from_millis(100), || {
        net.info("br-demo").state == PortState::Gone
    });
    assert!(net.fdb().iter().all(|entry| entry.mac != host.mac));
}

fn streams() {
    for (sender, receiver) in [
        (OffloadMode::On, OffloadMode::On),
        (OffloadMode::On, OffloadMode::Off),
        (OffloadMode::Off, OffloadMode::On),
        (OffloadMode::Off, OffloadMode::Off),
    ] {
        let net = Net::new();
        let pods = [
            net.pod_with(1, |spec| spec.offload = sender),
            net.pod_with(2, |spec| spec.offload = receiver),
        ];
        for address in ["10.1.1.2", "fd00:1::2"] {
            let address: IpAddr = address.parse().unwrap();
            for chunk in [1, 7, 1447, 1449, 65_536] {
                stream::tcp(&pods[0], &pods[1], address, chunk, 0x5eed + chunk as u64);
            }
            stream::udp(&pods[0], &pods[1], address);
        }
        assert_eq!(
            stream::checksum_errors(&pods[1]),
            0,
            "{sender:?} to {receiver:?}"
        );
    }
}

fn dies_and_returns() {
    let net = Net::new();
    let keeper = net.pod(1);
    let name = keeper.name().to_owned();
    let other = net.pod(2);
    net.ping(&other, "10.1.1.1");
    let before = net.info("pod1");
    let mut events = net.switch.subscribe();

    keeper.delete();
    // The kernel takes its time to dismantle a namespace; the switch does not.
    wait_until("the port is gone", Duration::from_secs(2), || {
        went(&mut events, "pod1")
    });
    assert_eq!(net.info("pod1").state, PortState::Gone);
    assert!(
        net.fdb().iter().all(|entry| entry.mac != before.mac),
        "its addresses are flushed"
    );
    let up = PortChange {
        up: Some(true),
        ..change("pod1")
    };
    let error = net.switch.execute(Request::PortSet(up)).unwrap_err();
    assert!(error.message.starts_with("set port pod1: "), "{error}");

    let idle = cpu_time();
    thread::sleep(Duration::from_millis(300));
    assert!(
        cpu_time() - idle < Duration::from_millis(60),
        "nothing spins"
    );

    let again = Netns::named(&name);
    wait_until("the port is back", Duration::from_secs(1), || {
        net.info("pod1").state == PortState::Up
    });
    let after = net.info("pod1");
    assert_eq!(
        (after.mac, &after.addresses, &after.ifname),
        (before.mac, &before.addresses, &before.ifname)
    );
    net.ping(&other, "10.1.1.1");
    net.ping(&again, "fd00:1::2");
}

fn deleted_interface() {
    let net = Net::new();
    let pods = net.pods(2);

    pods[0].ip("link del eth0");
    wait_until("the port is gone", Duration::from_millis(100), || {
        net.info("pod1").state == PortState::Gone
    });
    thread::sleep(Duration::from_millis(1200));
    let info = net.info("pod1");
    assert_eq!(
        info.state,
        PortState::Gone,
        "its namespace lives: somebody meant it"
    );
    assert!(info.reason.unwrap().contains("interface was deleted"));

    net.request(Request::PortSet(PortChange {
        up: Some(true),
        ..change("pod1")
    }));
    net.ping(&pods[1], "10.1.1.1");
}

fn thousand_cycles() {
    let net = Net::new();
    let stay = net.pod(1);
    let mut events = net.switch.subscribe();
    let mut cycle = |number: usize| {
        let pod = Netns::new("cycle");
        let mut spec = net.port("cycle");
        spec.netns = Some(pod.reference());
        net.request(Request::PortAdd(spec));
        pod.delete();
        // Deleted while it is there, while it goes, and when it is gone.
        if number.is_multiple_of(3) {
            wait_until("the port is gone", Duration::from_secs(5), || {
                went(&mut events, "cycle")
            });
        }
        net.request(Request::PortDel {
            name: name("cycle"),
        });
    };
    cycle(0);
    let (fds, links) = (open_fds(), common::links());
    let cycles = std::env::var("TAPSWITCH_CYCLES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1000);
    for number in 1..=cycles {
        cycle(number);
    }
    assert_eq!(open_fds(), fds);
    assert_eq!(common::links(), links);
    drop(stay);
}

fn port_down() {
    let net = Net::new();
    let pods = net.pods(2);
    net.ping(&pods[0], "10.1.1.2");

    net.request(Request::PortSet(PortChange {
        up: Some(false),
        ..change("pod1")
    }));
    assert!(pods[0].ip("link show eth0").contains("NO-CARRIER"));
    assert!(
        net.fdb()
            .iter()
            .all(|entry| entry.port != Some(name("pod1")))
    );
    assert_eq!(net.info("pod1").state, PortState::Down);

    net.request(Request::PortSet(PortChange {
        up: Some(true),
        ..change("pod1")
    }));
    wait_until("the carrier is back", Duration::from_secs(1), || {
        !pods[0].ip("link show eth0").contains("NO-CARRIER")
    });
    net.ping(&pods[0], "10.1.1.2");
}

fn apply_is_idempotent() {
    let net = Net::new();
    let _pods = net.pods(2);
    let spec = net.switch.spec();
    let before = net.stats();

    let Response::Plan(steps) = net.request(Request::Apply {
        spec: spec.clone(),
        dry_run: false,
    }) else {
        panic!("no plan")
    };
    assert_eq!(steps, Vec::<String>::new());
    assert_eq!(net.switch.spec(), spec);
    let indexes = |stats: &StatsInfo| {
        stats
            .ports
            .iter()
            .map(|port| port.ifindex)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        indexes(&net.stats()),
        indexes(&before),
        "no port was plugged in anew"
    );
}

fn apply_is_atomic() {
    let net = Net::new();
    let pods = net.pods(2);
    let before = net.switch.spec();
    let links = pods[0].links();

    let mut spec = before.clone();
    spec.bridges.push(BridgeSpec {
        mtu: Some(1400),
        ..BridgeSpec::new(name("br1"))
    });
    spec.ports[0].mtu = Some(1300);
    spec.ports[0].addresses = vec!["10.9.9.9/24".parse().unwrap()];
    let mut extra = PortSpec::new(name("extra"), name("br1"));
    extra.netns = Some(pods[0].reference());
    extra.ifname = Some("eth1".parse().unwrap());
    let mut missing = PortSpec::new(name("missing"), name("br1"));
    pods[1].ip("link add taken type bridge");
    missing.netns = Some(pods[1].reference());
    missing.ifname = Some("taken".parse().unwrap());
    spec.ports.extend([extra, missing]);
    let error = net
        .switch
        .execute(Request::Apply {
            spec,
            dry_run: false,
        })
        .unwrap_err();

    assert!(
        error.message.contains("taken") && error.message.contains("nothing has changed"),
        "{error}"
    );
    assert_eq!(net.switch.spec(), before);
    assert_eq!(pods[0].links(), links);
    let link = pods[0].ip("addr show eth0");
    assert!(
        link.contains("mtu 1500") && link.contains("10.1.1.1/24") && !link.contains("10.9.9.9"),
        "{link}"
    );
    net.ping(&pods[0], "10.1.1.2");
}

fn apply_tries_first() {
    let net = Net::new();
    let pods = net.pods(3);
    net.ping(&pods[0], "10.1.1.2");
    pods[0].ip("address add 10.9.9.9/24 dev eth0");
    pods[2].ip("route add default via 10.1.1.2");
    let (before, stats) = (net.switch.spec(), net.stats());

    let mut spec = before.clone();
    spec.ports.remove(0);
    spec.bridges[0].mtu = Some(1400);
    let late = |ifname: &str, gateway: &str| {
        let mut port = net.port(ifname);
        port.netns = Some(pods[2].reference());
        port.ifname = Some(ifname.parse().unwrap());
        port.addresses = vec!["10.2.2.2/24".parse().unwrap()];
        port.gateways = vec![gateway.parse().unwrap()];
        port
    };
    spec.ports.push(late("eth8", "10.2.2.1"));
    let error = apply(&net, spec).unwrap_err();

    assert!(
        error.message.contains("add route default")
            && error.message.contains("nothing has changed"),
        "{error}"
    );
    assert_eq!(net.switch.spec(), before);
    let now = net.stats();
    for (was, is) in stats.ports.iter().zip(&now.ports) {
        assert_eq!((&was.name, was.ifindex), (&is.name, is.ifindex));
        assert!(is.rx.frames >= was.rx.frames, "{}", is.name);
    }
    assert!(pods[0].ip("address show eth0").contains("10.9.9.9/24"));
    assert!(!pods[2].ip("link").contains("eth8"));
    net.ping(&pods[0], "10.1.1.2");

    // Nor one that moves, until its new place is ready.
    let elsewhere = Netns::new("elsewhere");
    elsewhere.ip("link add eth0 type bridge");
    let mut spec = before.clone();
    spec.ports[0].netns = Some(elsewhere.reference());
    spec.ports[0].mtu = Some(1300);
    let error = apply(&net, spec.clone()).unwrap_err();
    assert!(error.message.contains("nothing has changed"), "{error}");
    assert_eq!(net.stats().ports[0].ifindex, stats.ports[0].ifindex);
    net.ping(&pods[0], "10.1.1.2");
    elsewhere.ip("link del eth0");
    apply(&net, spec).unwrap();
    assert!(elsewhere.ip("link show eth0").contains("mtu 1300"));
    net.ping(&elsewhere, "10.1.1.2");
}

fn apply_names_what_it_unplugged() {
    let net = Net::new();
    let pods = net.pods(2);
    let before = net.switch.spec();
    pods[0].ip("link add taken type bridge");
    let mut spec = before.clone();
    // In the namespace of a port that goes, so it cannot be tried before.
    spec.ports[0].name = name("other");
    spec.ports[0].ifname = Some("taken".parse().unwrap());
    let error = apply(&net, spec).unwrap_err();

    let named = format!(
        "plugged in anew, and counted from 0: {}",
        before.ports[0].name
    );
    assert!(error.message.contains(&named), "{error}");
    assert!(!error.message.contains("nothing has changed"), "{error}");
    assert_eq!(net.switch.spec(), before);
    net.ping(&pods[0], "10.1.1.2");
}

fn apply(net: &Net, spec: SwitchSpec) -> Result<Response, ApiError> {
    net.switch.execute(Request::Apply {
        spec,
        dry_run: false,
    })
}

fn apply_swaps() {
    let net = Net::new();
    let pods = net.pods(2);
    let mut spec = net.switch.spec();
    let first = spec.ports[0].netns.clone();
    spec.ports[0].netns = spec.ports[1].netns.clone();
    spec.ports[1].netns = first;
    net.request(Request::Apply {
        spec: spec.clone(),
        dry_run: false,
    });

    assert_eq!(net.switch.spec(), spec);
    assert!(pods[1].ip("addr show eth0").contains("10.1.1.1/24"));
    net.ping(&pods[0], "10.1.1.1");
}

fn refusals() {
    let net = Net::new();
    let pods = net.pods(2);
    pods[0].ip("link add taken type bridge");
    let before = net.switch.spec();
    let (fds, links) = (open_fds(), (common::links(), pods[0].links()));

    for (what, request, words) in wrong_requests(&net, &pods[0]) {
        let error = net.switch.execute(request).expect_err(what);
        let message = error.message.to_lowercase();
        assert!(message.contains(&words.to_lowercase()), "{what}: {error}");
        assert_eq!(net.switch.spec(), before, "{what}");
        assert_eq!((common::links(), pods[0].links()), links, "{what}");
        assert_eq!(open_fds(), fds, "{what}");
    }
    let nobody = Some(name("nobody"));
    let error = net
        .switch
        .execute(Request::PortShow { name: nobody })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

/// What is wrong, the request, and words that the refusal must contain.
fn wrong_requests(net: &Net, pod: &Netns) -> Vec<(&'static str, Request, &'static str)> {
    let port = |change: fn(&mut PortSpec)| {
        let mut spec = net.port("new");
        spec.netns = Some(pod.reference());
        spec.ifname = Some("eth1".parse().unwrap());
        change(&mut spec);
        Request::PortAdd(spec)
    };
    let into = |netns: &str| {
        let mut spec = net.port("new");
        spec.netns = Some(netns.parse().unwrap());
        Request::PortAdd(spec)
    };
    vec![
        (
            "a name in use",
            port(|port| port.name = name("pod2")),
            "has a port of this name",
        ),
        (
            "an unknown bridge",
            port(|port| port.bridge = name("br9")),
            "no bridge \"br9\"",
        ),
        (
            "a missing namespace",
            into("tsw-nowhere"),
            "ip netns add tsw-nowhere",
        ),
        ("a dead process", into("pid:2147483647"), "no such process"),
        (
            "a file that is no namespace",
            into("/etc/hostname"),
            "namespace",
        ),
        (
            "a taken interface name",
            port(|port| port.ifname = Some("taken".parse().unwrap())),
            "taken",
        ),
        (
            "another port's interface",
            port(|port| port.ifname = None),
            "belongs to port pod1",
        ),
        (
            "a gateway elsewhere",
            port(|port| port.gateways = vec!["192.0.2.1".parse().unwrap()]),
            "gateway",
        ),
        (
            "a group address",
            port(|port| port.mac = Some("01:00:5e:00:00:01".parse().unwrap())),
            "mac",
        ),
        (
            "an mtu out of range",
            port(|port| port.mtu = Some(67)),
            "mtu 67 is out of range",
        ),
        (
            "an unknown port",
            Request::PortDel {
                name: name("nobody"),
            },
            "no port \"nobody\"",
        ),
        (
            "a bridge with ports",
            Request::BridgeDel { name: name("br0") },
            "it has ports",
        ),
    ]
}

fn made_anew() {
    let net = Net::new();
    let other = net.pod(2);
    let mut pod = net.pod(1);
    let name = pod.name().to_owned();
    for _ in 0..10 {
        let mut events = net.switch.subscribe();
        pod.delete();
        // The kernel has hardly begun to dismantle the old one.
        pod = Netns::named(&name);
        wait_until("the port returns", Duration::from_secs(5), || {
            returned(&mut events, "pod1")
        });
        net.ping(&other, "10.1.1.1");
    }
}

fn failed_change() {
    let net = Net::new();
    let pods = [
        net.pod_with(1, |port| {
            port.addresses = vec!["10.1.1.1/24".parse().unwrap()];
        }),
        net.pod(2),
    ];
    pods[0]
        .run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1"))
        .unwrap();
    let before = net.switch.spec();

    let addresses = Some(vec![
        "10.2.2.2/24".parse().unwrap(),
        "fd00:1::7/64".parse().unwrap(),
    ]);
    let change = PortChange {
        addresses,
        ..change("pod1")
    };
    net.switch.execute(Request::PortSet(change)).unwrap_err();

    assert_eq!(net.switch.spec(), before);
    net.ping(&pods[1], "10.1.1.1");
}

fn apply_swaps_addresses() {
    let net = Net::new();
    let pods = net.pods(2);
    let mut spec = net.switch.spec();
    let first = spec.ports[0].addresses.clone();
    spec.ports[0].addresses = spec.ports[1].addresses.clone();
    spec.ports[1].addresses = first;
    spec.ports[0].txqueuelen = 77;
    net.request(Request::Apply {
        spec: spec.clone(),
        dry_run: false,
    });

    assert_eq!(net.switch.spec(), spec);
    assert!(pods[0].ip("link show eth0").contains("qlen 77"));
    net.ping(&pods[0], "10.1.1.1");
}

fn apply_keeps_statics() {
    let net = Net::new();
    let pods = net.pods(2);
    let entry = |last: u8, port: &str| StaticSpec {
        bridge: name("br0"),
        mac: tapswitch::wire::MacAddr::new([2, 0, 0, 0, 9, last]),
        vlan: 0,
        place: Place::Port(name(port)),
    };
    for (last, port) in [(1, "pod1"), (2, "pod1"), (3, "pod2")] {
        net.request(Request::FdbAdd(entry(last, port)));
    }
    let before = net.switch.spec();
    let mut spec = before.clone();
    for port in &mut spec.ports {
        port.ifname = Some("net1".parse().unwrap());
    }
    spec.fdb.remove(0);
    pods[1].ip("link add net1 type bridge");

    net.switch
        .execute(Request::Apply {
            spec: spec.clone(),
            dry_run: false,
        })
        .unwrap_err();
    assert_eq!(net.switch.spec(), before);
    let is_static = |entry: &FdbInfo| {
        entry.port.is_some() && serde_json::to_value(entry.state).unwrap() == "static"
    };
    assert_eq!(net.fdb().iter().filter(|entry| is_static(entry)).count(), 3);

    pods[1].ip("link del net1");
    net.request(Request::Apply {
        spec: spec.clone(),
        dry_run: false,
    });
    assert_eq!(net.switch.spec(), spec);
    assert_eq!(net.fdb().iter().filter(|entry| is_static(entry)).count(), 2);
    net.ping(&pods[0], "10.1.1.2");
}

fn entry_of_a_place() {
    let net = Net::new();
    let _pods = net.pods(2);
    let mac = tapswitch::wire::MacAddr::new([2, 0, 0, 0, 9, 1]);
    net.request(Request::FdbAdd(StaticSpec {
        bridge: name("br0"),
        mac,
        vlan: 0,
        place: Place::Port(name("pod1")),
    }));
    let at = |port: &str| EntrySelector {
        port: Some(name(port)),
        ..EntrySelector::new(None, mac)
    };
    let behind_a_vtep = EntrySelector {
        remote: Some("192.168.50.20".parse().unwrap()),
        ..EntrySelector::new(None, mac)
    };

    for elsewhere in [at("pod2"), behind_a_vtep] {
        for request in [
            Request::FdbGet(elsewhere.clone()),
            Request::FdbDel(elsewhere.clone()),
        ] {
            let refused = net.switch.execute(request).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::NotFound);
            assert!(
                refused.message.contains("is at pod1, not there"),
                "{refused}"
            );
        }
    }
    assert_eq!(net.switch.spec().fdb.len(), 1);
    net.request(Request::FdbGet(at("pod1")));
    net.request(Request::FdbDel(at("pod1")));
    assert!(net.switch.spec().fdb.is_empty());
}

/// Stops the worker at the first frame until it is told to go on.
#[derive(Debug)]
struct Stopper {
    stopped: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Observer for Stopper {
    fn decided(&mut self, _: &Decided<'_>) {
        // Once the other ends are dropped, nothing stops any more.
        if self.stopped.send(()).is_ok() {
            let _: Result<(), _> = self.go_on.recv();
        }
    }
}

fn tap_queue() {
    let (stopped, is_stopped) = mpsc::channel();
    let (go_on, waits) = mpsc::channel();
    let net = Net::with(SwitchOptions {
        observer: Some(Box::new(Stopper {
            stopped,
            go_on: waits,
        })),
        ..options()
    });
    let pod = net.pod_with(1, |spec| spec.txqueuelen = 4);
    let noise = pod.spawn(&["ping", "-q", "-c", "40", "-i", "0.002", "-b", "10.1.1.255"]);
    is_stopped
        .recv_timeout(Duration::from_secs(5))
        .expect("the first frame");
    wait_until("the queue overflows", Duration::from_secs(5), || {
        let stats = pod.ip("-s -s link show eth0");
        !stats.contains("dropped 0")
            && pod.ip("-j -s link show eth0").contains("\"dropped\":")
            && tx_dropped(&pod) > 10
    });
    noise.stop();
    drop(is_stopped);
    drop(go_on);
    wait_until("the port tells", Duration::from_secs(2), || {
        net.info("pod1")
            .drops
            .get("tap_queue")
            .is_some_and(|&lost| lost > 10)
    });
}

fn down_inside() {
    let net = Net::new();
    let pods = net.pods(3);
    net.ping(&pods[0], "10.1.1.2");
    pods[1].ip("link set eth0 down");
    pods[0].exec(&["ping", "-c", "1", "-W", "1", "10.1.1.2"]);
    net.ping(&pods[0], "10.1.1.3");
    let info = net.info("pod2");
    assert_eq!(info.state, PortState::Down);
    assert!(info.drops.contains_key("egress_down"), "{:?}", info.drops);
    pods[1].ip("link set eth0 up");
    net.ping(&pods[0], "10.1.1.2");
    assert_eq!(net.info("pod2").state, PortState::Up);
}

fn mtu_inside() {
    let net = Net::new();
    let pods = net.pods(2);
    pods[1].ip("link set eth0 mtu 1400");
    wait_until("the mtu is noticed", Duration::from_secs(3), || {
        net.info("pod2").mtu == 1400
    });
    let output = pods[0].exec(&[
        "ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1472", "10.1.1.2",
    ]);
    assert!(!output.status.success());
    wait_until("the drop is counted", Duration::from_secs(1), || {
        net.info("pod2").drops.contains_key("too_big")
    });
}

/// The switch is alone in this process while it is idle: what the process uses is what it uses.
/// `TAPSWITCH_IDLE_PORTS=1000` for a large one.
fn idle_ports() {
    let count = std::env::var("TAPSWITCH_IDLE_PORTS").map_or(100, |text| text.parse().unwrap());
    let net = Net::new();
    let pods: Vec<_> = (0..10)
        .map(|pod| Netns::new(&format!("idle{pod}")))
        .collect();
    for pod in &pods {
        pod.run(|| {
            for conf in ["all", "default"] {
                let path = format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6");
                std::fs::write(path, "1").unwrap();
            }
        });
    }
    for number in 0..count {
        let mut spec = net.port(&format!("port{number}"));
        spec.netns = Some(pods[number % pods.len()].reference());
        spec.ifname = Some(IfName::new(&format!("eth{number}")).unwrap());
        net.request(Request::PortAdd(spec));
    }

    // What the kernel and the switch have to say about so many new interfaces is said by then.
    thread::sleep(Duration::from_secs(2));
    let (began, before) = (clock::now(), cpu_time());
    thread::sleep(Duration::from_secs(5));
    let share = (cpu_time() - before).as_secs_f64() / clock::now().since(began).as_secs_f64();

    eprintln!("{count} ports: {:.2} % of a CPU", 100.0 * share);
    // A build without optimisation is several times as slow.
    let most = if cfg!(debug_assertions) { 0.03 } else { 0.01 };
    assert!(share < most, "{:.2} % of a CPU", 100.0 * share);
}

fn wire() {
    let net = Net::new();
    let pods = net.pods(2);
    net.request(Request::BridgeSet(bridge_change(|change| {
        change.mode = Some(Mode::Wire);
    })));
    net.ping(&pods[0], "10.1.1.2");
    assert!(net.fdb().is_empty());
    let third = Netns::new("third");
    let mut spec = net.port("third");
    spec.netns = Some(third.reference());
    let error = net.switch.execute(Request::PortAdd(spec)).unwrap_err();
    assert!(error.message.contains("two ports"), "{error}");
    net.request(Request::BridgeSet(bridge_change(|change| {
        change.mode = Some(Mode::Hub);
    })));
    net.ping(&pods[0], "10.1.1.2");
    assert!(net.fdb().is_empty());
}

/// A switch with one bridge; every frame must be accounted for when it ends.
struct Net {
    switch: Switch,
}

fn options() -> SwitchOptions {
    SwitchOptions {
        name: "test".to_owned(),
        ..SwitchOptions::default()
    }
}

impl Net {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: SwitchOptions) -> Self {
        let switch = Switch::start(options).unwrap();
        switch
            .execute(Request::BridgeAdd(BridgeSpec::new(name("br0"))))
            .unwrap();
        Self { switch }
    }

    #[track_caller]
    fn request(&self, request: Request) -> Response {
        self.switch
            .execute(request)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn port(&self, port: &str) -> PortSpec {
        PortSpec::new(name(port), name("br0"))
    }

    /// A namespace with `eth0` at 10.1.1.NUMBER and fd00:1::NUMBER, behind port podNUMBER.
    fn pod(&self, number: usize) -> Netns {
        self.pod_with(number, |_| {})
    }

    fn pod_with(&self, number: usize, change: impl FnOnce(&mut PortSpec)) -> Netns {
        let netns = Netns::new(&format!("pod{number}"));
        let mut spec = self.port(&format!("pod{number}"));
        spec.netns = Some(netns.reference());
        spec.addresses = vec![
            format!("10.1.1.{number}/24").parse().unwrap(),
            format!("fd00:1::{number}/64").parse().unwrap(),
        ];
        change(&mut spec);
        self.request(Request::PortAdd(spec));
        netns
    }

    fn pods(&self, count: usize) -> Vec<Netns> {
        (1..=count).map(|number| self.pod(number)).collect()
    }

    #[track_caller]
    fn ping(&self, from: &Netns, to: &str) {
        let output = from.exec(&["ping", "-c", "2", "-i", "0.05", "-W", "2", to]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    fn stats(&self) -> StatsInfo {
        match self.request(Request::Stats { port: None }) {
            Response::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    fn info(&self, port: &str) -> PortInfo {
        match self.request(Request::PortShow {
            name: Some(name(port)),
        }) {
            Response::Ports(mut ports) => ports.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn fdb(&self) -> Vec<FdbInfo> {
        match self.request(Request::FdbShow(FdbSelector::default())) {
            Response::Fdb(entries) => entries,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.stats().unaccounted, 0);
            let empty = SwitchSpec::default();
            self.request(Request::Apply {
                spec: empty,
                dry_run: false,
            });
        }
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn change(port: &str) -> PortChange {
    PortChange::new(name(port))
}

fn bridge_change(
    change: impl FnOnce(&mut tapswitch::control::api::BridgeChange),
) -> tapswitch::control::api::BridgeChange {
    let mut settings = serde_json::from_value(serde_json::json!({ "name": "br0" })).unwrap();
    change(&mut settings);
    settings
}

/// Whether an event says that `port` is gone. Asking the switch instead would look into the
/// namespace, and so keep it alive.
fn went(events: &mut broadcast::Receiver<Event>, port: &str) -> bool {
    told(events, port, "gone")
}

fn returned(events: &mut broadcast::Receiver<Event>, port: &str) -> bool {
    told(events, port, "returned")
}

fn told(events: &mut broadcast::Receiver<Event>, port: &str, what: &str) -> bool {
    std::iter::from_fn(|| match events.try_recv() {
        Err(TryRecvError::Lagged(_)) => Some(None),
        event => event.ok().map(Some),
    })
    .flatten()
    .any(|event| {
        matches!(event, Event::Port { port: name, change, .. } if change == what && name.as_str() == port)
    })
}

fn tx_dropped(netns: &Netns) -> u64 {
    netns
        .run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))
        .unwrap()
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix("eth0:")?
                .split_whitespace()
                .nth(11)?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let part = |time: nix::sys::time::TimeVal| {
        Duration::new(
            u64::try_from(time.tv_sec()).unwrap(),
            u32::try_from(time.tv_usec()).unwrap() * 1000,
        )
    };
    part(usage.user_time()) + part(usage.system_time())
}
