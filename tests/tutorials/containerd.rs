//! The containerd story: a pulled cable, containers by process id, and the ping that failed.

use std::path::Path;

use crate::{
    Test,
    lab::{Lab, Process, squeeze},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "a_port_that_is_set_down_shows_no_carrier_until_it_is_up_again",
        no_carrier,
    ),
    (
        &[],
        "a_second_port_of_the_same_name_is_refused_and_the_owner_named",
        file_exists,
    ),
    (
        &["nsenter"],
        "two_containers_known_by_process_id_are_on_the_network_with_one_command_each",
        two_containers,
    ),
    (
        &["nsenter"],
        "a_number_is_no_name_of_a_namespace_and_the_error_says_what_to_write",
        number_is_no_name,
    ),
    (
        &["nsenter"],
        "a_default_route_by_device_reaches_every_address_of_the_host",
        default_by_device,
    ),
    (
        &["nsenter", "iptables"],
        "the_second_container_reaches_the_first_although_the_host_forwards_nothing",
        forward_drop,
    ),
    (
        &["nsenter"],
        "two_containers_in_one_namespace_are_one_port_and_one_entry",
        shared_namespace,
    ),
];

/// Needs the kernel's bridge filter, whose absence makes the story pointless.
pub(crate) const NEEDS_BRIDGE_FILTER: &[Test] = &[(
    &["nsenter", "iptables", "sysctl"],
    "bridge_nf_call_iptables_stops_the_kernels_bridge_and_not_this_one",
    bridge_filter,
)];

/// Why those cannot run, if so.
pub(crate) fn lacks_bridge_filter() -> Option<String> {
    let file = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    (!Path::new(file).exists()).then(|| "br_netfilter is not loaded".to_owned())
}

/// The bridge br-0 with its address, and the containers busybox-1 and busybox-2.
fn busybox(lab: &Lab) -> [Process; 2] {
    lab.sh("
        tapswitch bridge add br-0
        tapswitch port add br-0 --bridge br-0 --address 172.16.100.1/24");
    [1, 2].map(|number| {
        let container = lab.container();
        lab.sh(&format!(
            "tapswitch port add busybox-{number} --bridge br-0 --netns pid:{} \
                --ifname veth-{} --address 172.16.100.10{number}/24 --route 0.0.0.0/0",
            container.id(),
            2 * number
        ));
        container
    })
}

fn no_carrier() {
    let lab = Lab::new();
    lab.sh("
        ip netns add n1
        tapswitch bridge add br-0
        tapswitch port add br-0 --bridge br-0 --address 172.16.100.1/24
        tapswitch port add veth-2 --bridge br-0 --netns n1 --ifname veth-2 \
            --address 172.16.100.101/24 --down");
    let inside = || lab.sh("ip netns exec n1 ip a show veth-2");
    assert!(
        inside().contains("NO-CARRIER") && inside().contains("state DOWN"),
        "{}",
        inside()
    );
    let row = squeeze(&lab.sh("tapswitch show"));
    assert!(row.contains("veth-2 down (set down) n1 veth-2"), "{row}");
    assert!(!lab.reaches("n1", "172.16.100.1"));

    lab.sh("tapswitch port set veth-2 up");
    lab.ping("n1", "172.16.100.1");
    assert!(!inside().contains("NO-CARRIER"), "{}", inside());
    lab.sh("tapswitch port set veth-2 down");
    assert!(inside().contains("NO-CARRIER"), "{}", inside());
    lab.sh("tapswitch port set veth-2 --up on");
    lab.ping("n1", "172.16.100.1");
}

fn file_exists() {
    let lab = Lab::new();
    lab.sh("
        ip netns add n1
        ip netns add n2
        tapswitch bridge add br-0
        tapswitch port add veth-1 --bridge br-0 --netns n1");
    let twice = lab.refused("tapswitch port add veth-1 --bridge br-0 --netns n2");
    assert_eq!(twice.code, 1);
    for word in [
        "add port veth-1",
        "br-0",
        "eth0 in netns n1",
        "tapswitch port del veth-1",
    ] {
        assert!(
            twice.stderr.contains(word),
            "{word} is not in {}",
            twice.stderr
        );
    }
    assert_eq!(
        lab.sh("ip -n n2 -o link").lines().count(),
        1,
        "nothing is left in n2"
    );
    let place = lab.refused("tapswitch port add veth-3 --bridge br-0 --netns n1");
    assert!(place.stderr.contains("belongs to port veth-1"), "{place:?}");
    let bridge = lab.refused("tapswitch bridge add br-0");
    assert!(bridge.stderr.contains("exists"), "{bridge:?}");
    let unknown = lab.refused("tapswitch port add x --bridge br-9 --netns n2");
    assert!(
        unknown.stderr.contains("tapswitch bridge add br-9"),
        "{unknown:?}"
    );
}

fn two_containers() {
    let lab = Lab::new();
    let [first, second] = busybox(&lab);
    lab.sh(&format!(
        "nsenter -t {0} -n ping -c 2 -i 0.05 172.16.100.1
        nsenter -t {0} -n ping -c 2 -i 0.05 172.16.100.102
        nsenter -t {1} -n ping -c 2 -i 0.05 172.16.100.101",
        first.id(),
        second.id()
    ));
    let inside = squeeze(&lab.sh(&format!("nsenter -t {} -n ip a", first.id())));
    assert!(inside.contains("inet 172.16.100.101/24"), "{inside}");
    // A cable has no address of its own, and the host sees no other end of it.
    let devices = lab.sh("ip -br addr");
    assert_eq!(devices.lines().count(), 2, "lo and br-0: {devices}");
    assert!(devices.contains("172.16.100.1/24") && !devices.contains("172.16.100.101"));
    let screen = squeeze(&lab.sh("tapswitch show"));
    assert!(
        screen.contains(&format!("busybox-2 up pid:{} veth-4", second.id())),
        "{screen}"
    );
}

fn number_is_no_name() {
    let lab = Lab::new();
    let container = lab.container();
    let pid = container.id();
    lab.sh("tapswitch bridge add br-0");
    assert!(!lab.works(&format!("ip netns exec {pid} ip addr")));
    let number = lab.refused(&format!(
        "tapswitch port add c1 --bridge br-0 --netns {pid}"
    ));
    assert_eq!(number.code, 1);
    assert!(
        number.stderr.contains(&format!("--netns pid:{pid}")),
        "{number:?}"
    );

    // What the tutorial does instead.
    lab.sh(&format!(
        "mkdir -p /var/run/netns
        ln -s /proc/{pid}/ns/net /var/run/netns/{pid}
        tapswitch port add c1 --bridge br-0 --netns {pid} --address 172.16.100.101/24
        ip netns exec {pid} ip addr show eth0
        rm /var/run/netns/{pid}"
    ));
    // It did not keep the namespace alive; nothing else did either.
    let monitor = lab.monitor();
    drop(container);
    monitor.wait_for("the port is gone", |event| {
        event["port"] == "c1" && event["change"] == "gone"
    });
}

fn default_by_device() {
    let lab = Lab::new();
    let [first, _second] = busybox(&lab);
    lab.sh("
        ip link add ens3 type veth peer name uplink
        ip addr add 192.168.64.6/24 dev ens3
        ip link set ens3 up
        ip link set uplink up");
    let pid = first.id();
    let routes = squeeze(&lab.sh(&format!("nsenter -t {pid} -n ip route")));
    assert!(routes.contains("default dev veth-2"), "{routes}");
    lab.sh(&format!(
        "nsenter -t {pid} -n ping -c 2 -i 0.05 -W 2 172.16.100.1
        nsenter -t {pid} -n ping -c 2 -i 0.05 -W 2 192.168.64.6"
    ));
}

fn forward_drop() {
    let lab = Lab::new();
    lab.sh("iptables -P FORWARD DROP");
    let [first, second] = busybox(&lab);
    ping_each_other(&lab, &first, &second);
}

fn bridge_filter() {
    let lab = Lab::new();
    lab.sh("
        iptables -P FORWARD DROP
        sysctl -w net.bridge.bridge-nf-call-iptables=1
        sysctl -w net.bridge.bridge-nf-call-arptables=1
        sysctl -w net.bridge.bridge-nf-call-ip6tables=1");
    // The tutorial's own way: the question for the address passes, the ping does not.
    lab.sh("
        ip link add kernel0 type bridge
        ip link set kernel0 up
        for n in 1 2; do
            ip netns add k$n
            ip link add v$n type veth peer name eth0 netns k$n
            ip link set v$n master kernel0 up
            ip -n k$n addr add 10.9.9.$n/24 dev eth0
            ip -n k$n link set eth0 up
        done");
    assert!(
        !lab.reaches("k1", "10.9.9.2"),
        "the kernel's bridge is filtered"
    );

    let [first, second] = busybox(&lab);
    ping_each_other(&lab, &first, &second);
    let dropped = lab.sh("iptables -vnxL FORWARD");
    lab.sh(&format!(
        "nsenter -t {} -n ping -c 5 -i 0.02 172.16.100.101",
        second.id()
    ));
    assert_eq!(
        lab.sh("iptables -vnxL FORWARD"),
        dropped,
        "netfilter saw nothing"
    );
}

fn ping_each_other(lab: &Lab, first: &Process, second: &Process) {
    // The first attempt, without a warning shot.
    lab.sh(&format!(
        "nsenter -t {} -n ping -c 1 -W 2 172.16.100.101
        nsenter -t {} -n ping -c 1 -W 2 172.16.100.102",
        second.id(),
        first.id()
    ));
}

fn shared_namespace() {
    let lab = Lab::new();
    let [first, second] = busybox(&lab);
    let third = lab.spawn(&format!("nsenter -t {} -n sleep 600", first.id()));
    lab.sh(&format!(
        "nsenter -t {} -n ping -c 2 -i 0.05 172.16.100.102
        nsenter -t {} -n ping -c 2 -i 0.05 172.16.100.102",
        first.id(),
        third.id()
    ));
    assert_eq!(lab.macs("busybox-1").len(), 1);
    assert_eq!(lab.json("port show").as_array().unwrap().len(), 3);

    // The first container goes; the namespace stays for the other one in it.
    drop(first);
    lab.sh(&format!(
        "nsenter -t {} -n ping -c 2 -i 0.05 172.16.100.101",
        second.id()
    ));
    assert_eq!(lab.port("busybox-1")["state"], "up");
}
