//! Faults between two machines.

use std::net::IpAddr;

use libtest_mimic::Trial;
use tapswitch::wire::Vni;

use crate::{
    common::{Env, Netns, Running, ip, succeeded, wait_until},
    lab::Opinion,
    world::{Daemon, Family, Host, Node, Pod, SOON, lan},
};

/// The real program with pod1 on the first machine; another tapswitch with pod 2 on the second; and
/// a third machine, on which nothing runs.
pub(crate) struct Pair {
    pub(crate) daemon: Daemon,
    pod: Netns,
    here: Host,
    _there: Option<Node>,
    /// Where `there` runs.
    far: Host,
    third: Host,
    pod2: Option<Pod>,
    others: Vec<(Node, Pod)>,
    running: Vec<Running>,
}

impl Pair {
    pub(crate) fn new(family: Family) -> Self {
        Self::with(family, |far, here| Some(Node::joined(far, &[here])))
    }

    pub(crate) fn with(family: Family, there: fn(Host, IpAddr) -> Option<Node>) -> Self {
        let [here, far, third] = lan(family);
        let pod = Netns::new("pod1");
        // It says nothing by itself: hosts send only so many ICMP errors, and the doctor wants one.
        pod.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))
            .unwrap();
        let daemon = Daemon::start(&format!(
            "[vtep]\nlocal = \"{}\"\nnetns = \"{}\"\n\
             [[bridge]]\nname = \"ov0\"\nvni = 42\npeers = [\"{}\"]\n\
             [[bridge.port]]\nname = \"pod1\"\nnetns = \"{}\"\naddresses = [\"10.1.1.1/24\"]\n",
            here.ip,
            here.netns.name(),
            far.ip,
            pod.name(),
        ));
        let there = there(far.another(), here.ip);
        let pod2 = there.as_ref().map(|node| node.pod("ov0", 2));
        Self {
            daemon,
            pod,
            here,
            _there: there,
            far,
            third,
            pod2,
            others: Vec::new(),
            running: Vec::new(),
        }
    }

    /// Gives the second machine the kernel's vxlan device, with the address of pod 2.
    pub(crate) fn face_the_kernel(&self) {
        let (far, here) = (self.far.ip, self.here.ip);
        for line in [
            format!("link add vx0 type vxlan id 42 local {far} remote {here} dstport 4789"),
            "link set vx0 up".to_owned(),
            "address add 10.1.1.2/24 dev vx0".to_owned(),
        ] {
            self.far.netns.ip(&line);
        }
    }

    /// Pings from pod to pod until it is answered.
    pub(crate) fn ping(&self) {
        wait_until("a ping to the other machine", SOON, || self.try_to_ping());
    }

    fn try_to_ping(&self) -> bool {
        let words = ["ping", "-c", "1", "-W", "0.2", "10.1.1.2"];
        self.pod.exec(&words).status.success()
    }
}

fn iptables(netns: &Netns, rule: &str) {
    let words: Vec<&str> = ["iptables", "-w"]
        .into_iter()
        .chain(rule.split(' '))
        .collect();
    succeeded(rule, Ok(netns.exec(&words)));
}

struct Fault {
    name: &'static str,
    programs: &'static [&'static str],
    about: &'static str,
    cause: &'static str,
    /// What the fact must contain.
    says: &'static str,
    heals: bool,
    there: fn(Host, IpAddr) -> Option<Node>,
    inject: fn(&mut Pair),
}

pub(crate) fn trials(env: &Env) -> Vec<Trial> {
    let faults = FAULTS.iter();
    let mut trials: Vec<Trial> = faults
        .map(|fault| env.trial_with(fault.programs, fault.name, || fault.run()))
        .collect();
    trials.push(env.trial_with(
        &["ping"],
        "what_is_closed_stays_closed_however_often_it_is_asked",
        stays_closed,
    ));
    trials.push(env.trial_with(
        &["ping"],
        "one_mtu_of_an_overlay_has_one_repair_wherever_it_is_told",
        one_repair,
    ));
    trials
}

/// Too large for the path, and not to be told: who sends it allows it to be fragmented.
fn one_repair() {
    let pair = Pair::new(Family::V4);
    pair.daemon.screen("bridge set ov0 --mtu 1500");
    pair.ping();
    let words = [
        "ping", "-c", "1", "-W", "0.2", "-s", "1472", "-M", "dont", "10.1.1.2",
    ];
    drop(pair.pod.exec(&words));

    let opinion = Opinion::of(&pair.daemon, "pod1 10.1.1.2");

    for id in ["mtu-", "lost-lately"] {
        let one: Vec<String> = opinion.fixes(id).into_iter().collect();
        assert_eq!(
            one,
            ["tapswitch bridge set ov0 --mtu auto"],
            "{id}: {}",
            opinion.text()
        );
    }
    let why = pair.daemon.json("why 10.1.1.2 --drops");
    let remedy = why["entries"][0]["remedy"].as_str().unwrap();
    assert!(
        remedy.ends_with(": tapswitch bridge set ov0 --mtu auto"),
        "{remedy}"
    );
    opinion.follow(&pair.daemon);
    let after = Opinion::of(&pair.daemon, "pod1 10.1.1.2");
    assert!(!after.complains_of("mtu-over-path"), "{}", after.text());
}

/// The machine of a peer sends only so many ICMP errors, and each examination provokes some.
fn stays_closed() {
    type There = fn(Host, IpAddr) -> Option<Node>;
    let on_linuxs_port: There = |far, here| {
        let node = Node::with(far, |spec| spec.port = 8472);
        node.bridge("ov0", 42, &[here], |_| {});
        Some(node)
    };
    let cases: [(There, &str); 2] = [
        (|_, _| None, "peer-port-closed"),
        (on_linuxs_port, "peer-other-port"),
    ];
    for (there, cause) in cases {
        let pair = Pair::with(Family::V4, there);
        let opinions: Vec<Opinion> = (0..4).map(|_| Opinion::of(&pair.daemon, "")).collect();
        for opinion in &opinions {
            assert_eq!(opinion.cause(), cause, "{}", opinion.text());
            assert_eq!(opinion.0["cause"], opinions[0].0["cause"]);
        }
        // Frames of a pod take their part of the errors.
        let ping = ["ping", "-q", "-i", "0.3", "10.1.1.2"];
        let _running = pair.pod.spawn(&ping);
        for _ in 0..2 {
            let opinion = Opinion::of(&pair.daemon, "");
            assert_eq!(opinion.cause(), cause, "{}", opinion.text());
            let ping = format!("peer ping {} -c 2 -i 100ms -W 100ms --json", pair.far.ip);
            let output = pair.daemon.run(&ping);
            assert_eq!(output.status.code(), Some(1));
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["udp"], "port 4789 closed (ICMP port unreachable)");
        }
    }
}

impl Fault {
    fn run(&self) {
        let mut pair = Pair::with(Family::V4, self.there);
        (self.inject)(&mut pair);

        let opinion = Opinion::of(&pair.daemon, self.about);

        assert_eq!(opinion.cause(), self.cause, "{}", opinion.text());
        let fact = opinion.0["cause"]["fact"].as_str().unwrap();
        assert!(fact.contains(self.says), "{fact}");
        if self.heals {
            opinion.follow(&pair.daemon);
            let after = Opinion::of(&pair.daemon, self.about);
            assert!(!after.complains_of(self.cause), "{}", after.text());
        }
    }

    const fn by_hand(self) -> Self {
        Self {
            heals: false,
            ..self
        }
    }

    const fn with(self, programs: &'static [&'static str]) -> Self {
        Self { programs, ..self }
    }

    const fn saying(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    const fn asked(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    const fn facing(self, there: fn(Host, IpAddr) -> Option<Node>) -> Self {
        Self { there, ..self }
    }
}

const fn fault(name: &'static str, cause: &'static str, inject: fn(&mut Pair)) -> Fault {
    Fault {
        name,
        programs: &["ping"],
        about: "pod1 10.1.1.2",
        cause,
        says: "",
        heals: true,
        there: |far, here| Some(Node::joined(far, &[here])),
        inject,
    }
}

const FAULTS: &[Fault] = &[
    fault(
        "an_underlay_link_that_is_down_is_named",
        "underlay-down",
        |pair| {
            pair.here.netns.ip("link set u0 down");
        },
    ),
    fault(
        "an_underlay_address_that_was_taken_away_is_named",
        "underlay-address",
        |pair| {
            let ip = pair.here.ip;
            pair.here.netns.ip(&format!("address del {ip}/24 dev u0"));
        },
    )
    .by_hand(),
    fault("a_peer_without_a_route_is_named", "peer-no-route", |pair| {
        let ip = pair.far.ip;
        pair.here.netns.ip(&format!("route add unreachable {ip}"));
        wait_until("it is noticed", SOON, || {
            pair.daemon.json("peer show")[0]["state"] == "no-route"
        });
    })
    .by_hand(),
    fault(
        "a_peer_whose_machine_is_gone_is_named",
        "peer-unreachable",
        |pair| {
            pair.far.netns.ip("link set u0 down");
            pair.here.netns.ip("neighbour flush dev u0");
        },
    )
    .by_hand(),
    fault(
        "a_peer_that_says_nothing_at_all_is_named",
        "peer-silent",
        |pair| iptables(&pair.far.netns, "-A INPUT -p udp -j DROP"),
    )
    .with(&["iptables"])
    .facing(|_, _| None)
    .by_hand(),
    fault(
        "a_peer_on_which_no_vtep_listens_is_named",
        "peer-port-closed",
        |_| {},
    )
    .facing(|_, _| None)
    .by_hand(),
    fault(
        "a_peer_that_listens_on_linuxs_old_port_is_named",
        "peer-other-port",
        |_| {},
    )
    .facing(|far, here| {
        let node = Node::with(far, |spec| spec.port = 8472);
        node.bridge("ov0", 42, &[here], |_| {});
        Some(node)
    }),
    fault(
        "two_ends_with_different_vnis_are_named",
        "vni-unknown",
        |pair| {
            let pod2 = pair.pod2.as_ref().unwrap();
            drop(pod2.output(&["ping", "-c", "1", "-W", "0.2", "10.1.1.1"]));
        },
    )
    .facing(|far, here| {
        let node = Node::new(far);
        node.bridge("ov0", 43, &[here], |bridge| {
            assert_ne!(bridge.vni, Vni::new(42));
        });
        Some(node)
    })
    .saying("the last from 192.168.50.20 with VNI 43")
    .by_hand(),
    fault(
        "a_vtep_that_is_not_listed_and_sends_is_named",
        "peer-unlisted",
        |pair| {
            let node = Node::joined(pair.third.another(), &[pair.here.ip]);
            let pod = node.pod("ov0", 3);
            pod.netns
                .ip("neighbour replace 10.1.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
            let ping = ["ping", "-i", "0.05", "10.1.1.1"];
            pair.running.push(pod.netns.spawn(&ping));
            pair.others.push((node, pod));
            pair.ping();
        },
    )
    .saying("the last from 192.168.50.30")
    .by_hand(),
    fault(
        "a_firewall_on_this_machine_is_named",
        "underlay-filter",
        |pair| iptables(&pair.here.netns, "-A INPUT -p udp --dport 4789 -j DROP"),
    )
    .with(&["iptables"]),
    fault(
        "a_firewall_that_drops_vxlan_on_its_way_is_named",
        "vxlan-unanswered",
        |pair| iptables(&pair.far.netns, "-A INPUT -p udp --dport 4789 -j DROP"),
    )
    .with(&["iptables"])
    .by_hand(),
    fault(
        "a_peer_that_does_not_list_this_machine_is_named",
        "vxlan-unanswered",
        |_| {},
    )
    .facing(|far, _| {
        let dead = Family::V4.host(50, 99);
        Some(Node::joined(far, &[dead]))
    })
    .by_hand(),
    fault(
        "a_path_that_is_narrower_than_it_says_is_named",
        "path-too-narrow",
        |pair| {
            let port = &pair.far.port;
            pair.far.middle.ip(&format!("link set {port} mtu 1400"));
        },
    )
    .by_hand(),
    fault("an_overlay_without_peers_is_named", "no-peers", |pair| {
        let ip = pair.far.ip;
        pair.daemon.screen(&format!("peer del {ip}"));
    })
    .by_hand(),
    fault(
        "an_mtu_that_does_not_fit_the_path_is_named",
        "mtu-over-path",
        |pair| {
            pair.daemon.screen("port set pod1 mtu 9000");
        },
    ),
    fault(
        "a_kernel_device_that_has_the_port_is_named",
        "vtep-down",
        |pair| {
            let (name, ip_of_vtep) = (pair.here.netns.name().to_owned(), pair.here.ip);
            ip(&format!("netns del {name}"));
            ip(&format!("netns add {name}"));
            for line in [
                "link set lo up".to_owned(),
                "link add u0 type bridge".to_owned(),
                "link set u0 up".to_owned(),
                "link add vx0 type vxlan id 9 dstport 4789 local 0.0.0.0".to_owned(),
                "link set vx0 up".to_owned(),
                format!("address add {ip_of_vtep}/24 dev u0"),
            ] {
                pair.here.netns.ip(&line);
            }
            wait_until("the port is found taken", SOON, || {
                let vtep = pair.daemon.json("vtep show");
                vtep["reason"]
                    .as_str()
                    .is_some_and(|why| why.contains("vx0"))
            });
        },
    )
    .saying("vx0")
    .by_hand(),
    fault(
        "an_address_that_nobody_has_on_any_machine_is_named",
        "nobody-there",
        |pair| {
            let words = ["ping", "-c", "4", "-i", "1", "-W", "1", "10.1.1.77"];
            drop(pair.pod.exec(&words));
        },
    )
    .asked("pod1 10.1.1.77")
    .by_hand(),
];
