//! Whose interface is this: looking into a port's namespace, and naming namespaces without names.

use std::fs;

use serde_json::json;

use crate::{
    Test,
    lab::{Lab, squeeze},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &[],
        "a_pod_behind_cni0_looks_as_on_a_node_with_an_mtu_of_1450",
        pod_of_a_node,
    ),
    (&[], "one_table_tells_which_port_is_whose", whose_port_is_it),
    (
        &["nsenter", "ss"],
        "nsenter_shows_addresses_routes_and_sockets_behind_a_port",
        nsenter,
    ),
    (
        &["nsenter", "curl", "ss"],
        "a_web_server_in_one_container_answers_curl_in_another",
        golden_routine,
    ),
    (
        &[],
        "the_eth0_of_a_pod_is_not_the_eth0_of_the_host",
        two_eth0,
    ),
    (
        &[],
        "a_deleted_interface_takes_its_port_along_and_the_monitor_tells",
        deleted_end,
    ),
    (
        &[],
        "a_namespace_without_a_name_is_plugged_in_by_process_id_or_path",
        without_a_name,
    ),
    (
        &["nsenter"],
        "a_symbolic_link_to_a_namespace_works_and_its_removal_harms_nothing",
        symbolic_link,
    ),
];

/// Needs a root that may become somebody else, as tcpdump does.
pub(crate) const NEEDS_GROUPS: &[Test] = &[(
    &["nsenter", "tcpdump"],
    "tcpdump_inside_a_namespace_sees_question_and_answer",
    tcpdump,
)];

/// Why those cannot run, if so.
pub(crate) fn lacks_groups() -> Option<String> {
    let setgroups = fs::read_to_string("/proc/self/setgroups").unwrap_or_default();
    let denied = setgroups.trim() == "deny";
    denied.then(|| "tcpdump cannot drop its rights inside a user namespace".to_owned())
}

fn pod_of_a_node() {
    let lab = Lab::new();
    lab.sh("
        ip netns add my-pod
        tapswitch bridge add cni --mtu 1450
        tapswitch port add cni0 --bridge cni --address 10.244.0.1/24
        tapswitch port add my-pod --bridge cni --netns my-pod --address 10.244.0.5/24 \
            --gateway 10.244.0.1");
    let host = lab.sh("ip link show cni0");
    assert!(host.contains("mtu 1450"), "{host}");
    let pod = lab.sh("ip netns exec my-pod ip addr show eth0");
    for word in [
        "eth0: ",
        "mtu 1450",
        "inet 10.244.0.5/24 brd 10.244.0.255 scope global eth0",
    ] {
        assert!(pod.contains(word), "{word} is not in {pod}");
    }
    assert!(lab.works("ip netns exec my-pod ping -c 1 -M do -s 1422 10.244.0.1"));
    assert!(!lab.works("ip netns exec my-pod ping -c 1 -W 1 -M do -s 1423 10.244.0.1"));
    lab.sh("tapswitch bridge set cni --mtu 1400");
    assert!(lab.sh("ip -n my-pod link show eth0").contains("mtu 1400"));
    assert!(lab.sh("ip link show cni0").contains("mtu 1400"));
}

fn whose_port_is_it() {
    let lab = Lab::new();
    let container = lab.container();
    let pid = container.id();
    lab.sh(&format!(
        "ip netns add nsA
        tapswitch bridge add br0
        tapswitch port add podA --bridge br0 --netns nsA --address 10.1.1.10/24
        tapswitch port add web --bridge br0 --netns pid:{pid} --ifname web0 --address 10.1.1.20/24"
    ));
    let screen = squeeze(&lab.sh("tapswitch show"));
    for (port, netns, ifname, address) in [
        ("podA", "nsA", "eth0", "10.1.1.10/24"),
        ("web", &*format!("pid:{pid}"), "web0", "10.1.1.20/24"),
    ] {
        let info = lab.port(port);
        let mac = info["mac"].as_str().unwrap();
        let row = format!("{port} up {netns} {ifname} {mac} 1500 {address}");
        assert!(screen.contains(&row), "{row} is not in {screen}");
    }
    // The puzzle of the tutorial: which end belongs to the container with this process?
    let info = lab.port("web");
    let inode = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(
        inode.to_str().unwrap(),
        format!("net:[{}]", info["netns_inode"])
    );
    let link = lab.sh(&format!("nsenter -t {pid} -n ip -o link show web0"));
    assert!(
        link.starts_with(&format!("{}: web0:", info["ifindex"])),
        "{link}"
    );
    let text = lab.sh("tapswitch port show web");
    let told = format!("web0 (index {}) in netns pid:{pid}", info["ifindex"]);
    assert!(text.contains(&told), "{text}");
}

fn nsenter() {
    let lab = Lab::new();
    let container = lab.container();
    let pid = container.id();
    lab.sh(&format!(
        "tapswitch bridge add br0
        tapswitch port add br0 --bridge br0 --address 10.1.1.1/24
        tapswitch port add c1 --bridge br0 --netns pid:{pid} --address 10.1.1.10/24 --gw 10.1.1.1"
    ));
    lab.serve(&format!("pid:{pid}"), "10.1.1.10:8080", "hello");
    let addresses = lab.sh(&format!("nsenter -t {pid} -n ip addr"));
    assert!(addresses.contains("inet 10.1.1.10/24"), "{addresses}");
    let routes = squeeze(&lab.sh(&format!("nsenter -t {pid} -n ip route")));
    assert!(routes.contains("default via 10.1.1.1 dev eth0"), "{routes}");
    let sockets = lab.sh(&format!("nsenter -t {pid} -n ss -lntp"));
    assert!(sockets.contains("10.1.1.10:8080"), "{sockets}");
    assert!(!lab.sh("ss -lntp").contains("10.1.1.10:8080"));
}

fn tcpdump() {
    let lab = Lab::new();
    let container = lab.container();
    let pid = container.id();
    lab.sh(&format!(
        "tapswitch bridge add br0
        tapswitch port add br0 --bridge br0 --address 10.1.1.1/24
        tapswitch port add c1 --bridge br0 --netns pid:{pid} --address 10.1.1.10/24"
    ));
    let packets = lab.sh(&format!(
        "nsenter -t {pid} -n timeout 10 tcpdump -i any -nn -l -c 2 icmp \
            >/run/packets 2>/run/listening &
        for try in $(seq 100); do
            grep -q 'listening on' /run/listening && break
            sleep 0.05
        done
        ping -c 1 -W 2 10.1.1.10 >/run/ping
        wait $!
        cat /run/packets"
    ));
    assert!(
        packets.contains("10.1.1.1 > 10.1.1.10: ICMP echo request"),
        "{packets}"
    );
    assert!(
        packets.contains("10.1.1.10 > 10.1.1.1: ICMP echo reply"),
        "{packets}"
    );
}

fn golden_routine() {
    let lab = Lab::new();
    let (client, server) = (lab.container(), lab.container());
    let (client, server) = (client.id(), server.id());
    lab.sh(&format!(
        "tapswitch bridge add br0
        tapswitch port add client --bridge br0 --netns pid:{client} --address 10.1.1.10/24
        tapswitch port add server --bridge br0 --netns pid:{server} --address 10.1.1.20/24"
    ));
    let page = "welcome ".repeat(100_000);
    lab.serve(&format!("pid:{server}"), "0.0.0.0:80", &page);
    let sent = || lab.port("server")["rx"]["bytes"].as_u64().unwrap();
    let through = lab.sh(&format!(
        "nsenter -t {client} -n curl -sS -m 5 http://10.1.1.20"
    ));
    assert_eq!(through, page);
    let taken = sent();
    assert!(taken > 800_000, "it went over the switch: {taken}");
    let own = lab.sh(&format!(
        "nsenter -t {server} -n curl -sS -m 5 http://127.0.0.1"
    ));
    assert_eq!(own, page);
    assert!(
        sent() < taken + 100_000,
        "what stays in a pod does not reach the switch"
    );
    let sockets = lab.sh(&format!("nsenter -t {server} -n ss -tnpa"));
    assert!(sockets.contains("LISTEN"), "{sockets}");
}

fn two_eth0() {
    let lab = Lab::new();
    lab.sh("
        ip netns add outside
        ip link add eth0 type veth peer name eth0 netns outside
        ip addr add 192.0.2.1/24 dev eth0
        ip netns add nsA
        tapswitch bridge add br0
        tapswitch port add podA --bridge br0 --netns nsA --address 10.1.1.10/24");
    assert!(lab.sh("ip -br addr show eth0").contains("192.0.2.1"));
    let inside = lab.sh("ip -n nsA -br addr show eth0");
    assert!(
        inside.contains("10.1.1.10") && !inside.contains("192.0.2.1"),
        "{inside}"
    );

    let taken = lab.refused("tapswitch port add host --bridge br0 --ifname eth0");
    assert_eq!(taken.code, 1);
    assert!(taken.stderr.contains("eth0"), "{taken:?}");
    assert!(
        lab.sh("ip -br addr show eth0").contains("192.0.2.1"),
        "it is untouched"
    );
}

fn deleted_end() {
    let lab = Lab::new();
    lab.sh("
        tapswitch bridge add br0
        for n in 1 2; do
            ip netns add ns$n
            tapswitch port add p$n --bridge br0 --netns ns$n --address 10.1.1.$n/24
        done");
    lab.ping("ns1", "10.1.1.2");
    let mac = lab.macs("p1").remove(0);
    let monitor = lab.monitor();

    lab.sh("ip netns exec ns1 ip link del eth0");

    let flushed = monitor.wait_for("its address is flushed", |event| {
        event["event"] == "fdb" && event["mac"] == json!(mac)
    });
    assert_eq!(flushed["change"], "flushed");
    let gone = monitor.wait_for("the port is gone", |event| event["event"] == "port");
    assert_eq!(
        (&gone["port"], &gone["state"]),
        (&json!("p1"), &json!("gone"))
    );
    assert!(
        gone["reason"]
            .as_str()
            .unwrap()
            .contains("was deleted in netns ns1")
    );
    assert!(lab.macs("p1").is_empty());
    let screen = lab.sh("tapswitch show");
    assert!(
        screen.contains("gone (its interface was deleted in netns ns1)"),
        "{screen}"
    );

    // One word brings it back, with the same address.
    lab.sh("tapswitch port set p1 up");
    lab.ping("ns2", "10.1.1.1");
    assert_eq!(lab.macs("p1"), [mac]);
}

fn without_a_name() {
    let lab = Lab::new();
    let containers = [lab.container(), lab.container()];
    let [first, second] = [&containers[0], &containers[1]].map(super::lab::Process::id);
    assert_eq!(lab.sh("ip netns list"), "");
    lab.sh(&format!(
        "tapswitch bridge add br0
        tapswitch port add c1 --bridge br0 --netns pid:{first} --address 10.1.1.10/24
        tapswitch port add c2 --bridge br0 --netns /proc/{second}/ns/net --address 10.1.1.20/24
        nsenter -t {first} -n ping -c 2 -i 0.05 -W 2 10.1.1.20"
    ));
    assert_eq!(
        lab.port("c2")["netns"],
        json!(format!("/proc/{second}/ns/net"))
    );

    // It goes with the last process in it.
    let monitor = lab.monitor();
    drop(containers);
    let gone = |event: &serde_json::Value| event["port"] == "c1" && event["change"] == "gone";
    monitor.wait_for("the container's port is gone", gone);
    let dead = lab.refused(&format!(
        "tapswitch port add c3 --bridge br0 --netns pid:{first} --ifname eth1"
    ));
    assert!(dead.stderr.contains("no such process"), "{dead:?}");
}

fn symbolic_link() {
    let lab = Lab::new();
    let container = lab.container();
    let pid = container.id();
    lab.sh(&format!(
        "mkdir -p /var/run/netns
        ln -s /proc/{pid}/ns/net /var/run/netns/mypod-ns
        tapswitch bridge add br0
        tapswitch port add br0 --bridge br0 --address 10.1.1.1/24
        tapswitch port add mypod --bridge br0 --netns mypod-ns --address 10.1.1.10/24
        ip netns exec mypod-ns ping -c 2 -i 0.05 10.1.1.1
        rm /var/run/netns/mypod-ns
        ping -c 2 -i 0.05 10.1.1.10"
    ));
    assert_eq!(lab.port("mypod")["state"], "up");
}
