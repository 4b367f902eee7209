//! Faults on one machine.

use libtest_mimic::Trial;

use crate::{
    common::{Env, wait_until},
    lab::{Lab, Opinion},
    world::SOON,
};

/// A fault: what is asked for, how it is made, what the cause must be called.
struct Fault {
    name: &'static str,
    programs: &'static [&'static str],
    about: &'static str,
    cause: &'static str,
    /// The printed commands repair it as they are.
    heals: bool,
    inject: fn(&mut Lab),
}

pub(crate) fn trials(env: &Env) -> Vec<Trial> {
    let all = DEVICES.iter().chain(ADDRESSES).chain(SWITCH);
    let faults = all.map(|fault| env.trial_with(fault.programs, fault.name, || fault.run()));
    let mut trials: Vec<Trial> = faults.collect();
    trials.push(env.trial_with(
        &["ping"],
        "one_mtu_has_one_repair_wherever_it_is_told",
        one_repair,
    ));
    trials
}

impl Fault {
    fn run(&self) {
        let mut lab = Lab::new();
        (self.inject)(&mut lab);

        let opinion = Opinion::of(&lab.daemon, self.about);

        assert_eq!(opinion.cause(), self.cause, "{}", opinion.text());
        if self.heals {
            opinion.follow(&lab.daemon);
            let after = Opinion::of(&lab.daemon, self.about);
            assert!(!after.complains_of(self.cause), "{}", after.text());
            // Half a repair of a path is none.
            assert!(!after.complains_of("no-way-back"), "{}", after.text());
        }
    }
}

/// A bridge of 9000, a port of 1500, and a packet that got lost between them.
fn one_repair() {
    let lab = Lab::new();
    lab.tapswitch("bridge set br0 --mtu 9000");
    lab.tapswitch("port set podA mtu 1500");
    lab.ping("podB", "10.1.1.1");
    drop(lab.run("podB", "ping -c 1 -W 0.2 -s 4000 -M do 10.1.1.1"));

    let opinion = Opinion::of(&lab.daemon, "podB podA");

    assert!(opinion.complains_of("mtu-differs"), "{}", opinion.text());
    assert!(opinion.complains_of("lost-lately"), "{}", opinion.text());
    for id in ["mtu-", "lost-lately"] {
        let one: Vec<String> = opinion.fixes(id).into_iter().collect();
        assert_eq!(one, ["tapswitch bridge set br0 --mtu auto"], "{id}");
    }
    opinion.follow(&lab.daemon);
    assert!(!Opinion::of(&lab.daemon, "podB podA").complains_of("mtu-differs"));
}

const fn fault(
    name: &'static str,
    about: &'static str,
    cause: &'static str,
    inject: fn(&mut Lab),
) -> Fault {
    Fault {
        name,
        programs: &["ping"],
        about,
        cause,
        heals: true,
        inject,
    }
}

impl Fault {
    /// It needs these, and not the `ping` of the others.
    const fn with(self, programs: &'static [&'static str]) -> Self {
        Self { programs, ..self }
    }

    /// The printed commands have gaps that a person fills in.
    const fn by_hand(self) -> Self {
        Self {
            heals: false,
            ..self
        }
    }
}

const DEVICES: &[Fault] = &[
    fault(
        "a_namespace_that_is_gone_is_named",
        "podA podB",
        "port-gone",
        |lab| {
            lab.take("podB").delete();
            wait_until("the port is gone", SOON, || {
                lab.daemon.json("port show podB")[0]["state"] == "gone"
            });
        },
    )
    .by_hand(),
    fault("a_deleted_interface_is_named", "podB", "port-gone", |lab| {
        lab.ip("podB", "link del eth0");
        wait_until("the port is gone", SOON, || {
            lab.daemon.json("port show podB")[0]["state"] == "gone"
        });
    }),
    fault(
        "a_port_that_is_set_down_is_named",
        "podA podB",
        "port-down",
        |lab| lab.tapswitch("port set podB down"),
    ),
    fault(
        "an_interface_that_is_down_inside_is_named",
        "podA podB",
        "link-down",
        |lab| {
            lab.ip("podB", "link set eth0 down");
        },
    ),
    fault(
        "an_interface_in_another_namespace_is_named",
        "podA podB",
        "port-moved",
        |lab| {
            let other = lab.pod("podC").name().to_owned();
            lab.ip("podB", "link set eth0 down");
            lab.ip("podB", &format!("link set eth0 name eth7 netns {other}"));
        },
    )
    .by_hand(),
    fault(
        "a_renamed_interface_is_named",
        "podB",
        "ifname-differs",
        |lab| {
            lab.ip("podB", "link set eth0 down");
            lab.ip("podB", "link set eth0 name net0");
            lab.ip("podB", "link set net0 up");
            lab.ip("podB", "address replace fd00:1::2/64 dev net0 nodad");
        },
    ),
    fault(
        "an_interface_with_arp_off_is_named",
        "podA podB",
        "no-arp",
        |lab| {
            lab.ip("podB", "link set eth0 arp off");
        },
    ),
    fault(
        "a_mac_address_changed_inside_is_named",
        "podB",
        "mac-differs",
        |lab| {
            lab.ip("podB", "link set eth0 address 02:00:00:00:77:77");
        },
    )
    .by_hand(),
    fault(
        "an_mtu_changed_inside_is_named",
        "podA podB",
        "mtu-changed",
        |lab| {
            lab.ip("podB", "link set eth0 mtu 1400");
        },
    ),
    fault(
        "ports_with_different_mtus_are_named",
        "podA podB",
        "mtu-differs",
        |lab| lab.tapswitch("port set podB mtu 1400"),
    ),
    fault(
        "checksum_offload_switched_off_inside_is_named",
        "podA",
        "checksum-off",
        |lab| {
            let output = lab.run("podA", "ethtool -K eth0 tx off");
            assert!(output.status.success());
        },
    )
    .with(&["ethtool"]),
];

const ADDRESSES: &[Fault] = &[
    fault(
        "one_mac_address_at_two_ports_is_named",
        "podA podB",
        "duplicate-mac",
        |lab| {
            let mac = lab.daemon.json("port show podA")[0]["mac"].clone();
            let mac = mac.as_str().unwrap();
            lab.ip("podB", &format!("link set eth0 address {mac}"));
        },
    ),
    fault(
        "one_ip_address_at_two_ports_is_named",
        "podA podB",
        "duplicate-address",
        |lab| {
            lab.ip("podC", "address add 10.1.1.2/24 dev eth0");
        },
    ),
    fault(
        "an_address_that_was_taken_away_is_named",
        "podA podB",
        "address-missing",
        |lab| {
            lab.ip("podB", "address del 10.1.1.2/24 dev eth0");
        },
    ),
    fault(
        "a_wrong_prefix_length_is_named",
        "podA podB",
        "prefix-differs",
        |lab| {
            lab.ip("podB", "address del 10.1.1.2/24 dev eth0");
            lab.ip("podB", "address add 10.1.1.2/32 dev eth0");
        },
    ),
    fault(
        "ipv6_that_is_switched_off_is_named",
        "podA podB",
        "ipv6-disabled",
        |lab| lab.sysctl("podB", "ipv6/conf/eth0/disable_ipv6", "1"),
    ),
    fault(
        "two_subnets_on_one_bridge_are_named",
        "podA podB",
        "subnets-differ",
        |lab| lab.tapswitch("port set podB --address 10.1.2.2/24"),
    ),
    fault(
        "a_missing_gateway_is_named",
        "podA 203.0.113.7",
        "no-gateway",
        |_| {},
    )
    .by_hand(),
    fault(
        "a_gateway_that_does_not_forward_is_named",
        "podA 203.0.113.7",
        "forwarding-off",
        |lab| {
            lab.sysctl("podC", "ipv4/ip_forward", "0");
            lab.tapswitch("port set podA --gateway 10.1.1.3");
            lab.ping("podA", "10.1.1.3");
        },
    ),
    fault(
        "a_route_over_another_interface_is_named",
        "podA podB",
        "route-elsewhere",
        |lab| {
            lab.ip("podA", "link add other type veth peer name another");
            lab.ip("podA", "link set other up");
            lab.ip("podA", "link set another up");
            lab.ip("podA", "route add 10.1.1.2/32 dev other");
        },
    ),
    fault(
        "a_route_that_forbids_is_named",
        "podA podB",
        "no-route",
        |lab| {
            lab.ip("podA", "route add blackhole 10.1.1.2/32");
        },
    )
    .by_hand(),
    fault(
        "an_answer_that_takes_another_way_is_named",
        "podA podB",
        "no-way-back",
        |lab| {
            lab.ip("podB", "link add other type veth peer name another");
            lab.ip("podB", "link set other up");
            lab.ip("podB", "link set another up");
            lab.ip("podB", "route add 10.1.1.1/32 dev other");
        },
    ),
    fault(
        "a_wrong_permanent_neighbour_is_named",
        "podA podB",
        "neighbour-wrong",
        |lab| {
            lab.ip(
                "podA",
                "neighbour replace 10.1.1.2 lladdr 02:00:00:00:99:99 dev eth0 nud permanent",
            );
        },
    ),
    fault(
        "an_address_that_nobody_has_is_named",
        "podA 10.1.1.77",
        "nobody-there",
        |lab| lab.try_to_ping("podA", "10.1.1.77"),
    )
    .by_hand(),
    fault(
        "a_firewall_inside_is_named",
        "podA podB",
        "filter-drops",
        |lab| {
            let output = lab.run("podB", "iptables -w -A INPUT -j DROP");
            assert!(output.status.success());
        },
    )
    .with(&["iptables"]),
    fault(
        "a_policy_that_drops_is_named",
        "podA podB",
        "filter-drops",
        |lab| {
            let output = lab.run("podA", "iptables -w -P OUTPUT DROP");
            assert!(output.status.success());
        },
    )
    .with(&["iptables"]),
    fault(
        "a_rule_that_drops_some_packets_is_named_once_it_has",
        "podA podB",
        "filter-drops",
        |lab| {
            let output = lab.run("podB", "iptables -w -A INPUT -p icmp -j DROP");
            assert!(output.status.success());
            lab.try_to_ping("podA", "10.1.1.2");
        },
    )
    .with(&["iptables", "ping"]),
    fault(
        "a_host_that_ignores_arp_is_named",
        "podA podB",
        "arp-ignored",
        |lab| lab.sysctl("podB", "ipv4/conf/eth0/arp_ignore", "8"),
    )
    .with(&["sysctl"]),
    fault(
        "a_host_that_ignores_pings_is_named",
        "podA podB",
        "ping-ignored",
        |lab| lab.sysctl("podB", "ipv4/icmp_echo_ignore_all", "1"),
    )
    .with(&["sysctl"]),
];

const SWITCH: &[Fault] = &[
    fault(
        "two_bridges_are_named",
        "podA podB",
        "different-bridges",
        |lab| {
            lab.tapswitch("bridge add br1");
            let netns = lab.pod("podB").name().to_owned();
            lab.tapswitch("port del podB");
            lab.tapswitch(&format!(
                "port add podB --bridge br1 --netns {netns} --address 10.1.1.2/24"
            ));
        },
    )
    .by_hand(),
    fault(
        "two_isolated_ports_are_named",
        "podA podB",
        "isolated",
        |lab| {
            lab.tapswitch("port set podA isolated on");
            lab.tapswitch("port set podB isolated on");
        },
    ),
    fault("a_locked_port_is_named", "podA podB", "locked", |lab| {
        lab.tapswitch("port set podB locked on");
        lab.tapswitch("fdb flush");
    }),
    fault(
        "a_port_without_broadcasts_is_named",
        "podA podB",
        "bcast-flood-off",
        |lab| lab.tapswitch("port set podB bcast-flood off"),
    ),
    fault(
        "a_port_without_multicast_is_named",
        "podA podB",
        "mcast-flood-off",
        |lab| lab.tapswitch("port set podB mcast-flood off"),
    ),
    fault(
        "a_port_that_is_neither_learned_nor_flooded_is_named",
        "podA podB",
        "flood-off",
        |lab| {
            lab.tapswitch("port set podB flood off learning off");
            lab.tapswitch("fdb flush");
        },
    ),
    fault(
        "a_port_that_is_not_learned_is_named",
        "podB",
        "learning-off",
        |lab| lab.tapswitch("port set podB learning off"),
    ),
    fault(
        "a_static_entry_at_the_wrong_port_is_named",
        "podA podB",
        "fdb-static",
        |lab| {
            let mac = lab.daemon.json("port show podB")[0]["mac"].clone();
            let mac = mac.as_str().unwrap();
            lab.tapswitch(&format!("fdb add {mac} --port podC"));
        },
    ),
    fault("a_full_fdb_is_named", "podA podB", "fdb-full", |lab| {
        lab.tapswitch("bridge set br0 --fdb-limit 1");
        lab.ping("podA", "10.1.1.2");
    }),
    fault(
        "an_address_that_moves_to_and_fro_is_named",
        "podA podB",
        "mac-held",
        flap,
    )
    .by_hand(),
    fault(
        "a_wire_with_one_end_is_named",
        "podA",
        "wire-one-end",
        |lab| {
            lab.tapswitch("port del podB");
            lab.tapswitch("port del podC");
            lab.tapswitch("bridge set br0 --mode wire");
        },
    ),
];

/// podC sends with the MAC address of podB, by turns with podB itself.
fn flap(lab: &mut Lab) {
    let mac = lab.daemon.json("port show podB")[0]["mac"].clone();
    let mac = mac.as_str().unwrap();
    lab.ip(
        "podC",
        "link add link eth0 name twin type macvlan mode bridge",
    );
    lab.ip("podC", &format!("link set twin address {mac}"));
    lab.ip("podC", "link set twin up");
    lab.ip("podC", "address add 10.1.1.4/24 dev twin");
    wait_until("the address is held", SOON, || {
        drop(lab.run("podC", "ping -c 1 -W 0.05 -I twin 10.1.1.1"));
        drop(lab.run("podB", "ping -c 1 -W 0.05 10.1.1.1"));
        lab.daemon
            .json("fdb show")
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["frozen"] == true)
    });
}
