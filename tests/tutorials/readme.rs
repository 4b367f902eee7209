//! The overlay as the README shows it, with its own words.

use std::{fs, thread, time::Duration};

use crate::{
    Test,
    common::ip,
    lab::{Lab, squeeze},
    site::{Site, datagram},
};

pub(crate) const TESTS: &[Test] = &[
    (
        &["sysctl"],
        "the_file_of_the_readme_on_each_machine_makes_one_network_of_both",
        two_files,
    ),
    (
        &["sysctl"],
        "the_entry_of_the_readme_is_enough_where_nothing_is_flooded",
        static_entry,
    ),
    (
        &["sysctl"],
        "nothing_is_on_the_underlay_while_the_pods_are_silent",
        silence,
    ),
];

/// Needs a kernel with VXLAN.
pub(crate) const NEEDS_VXLAN: &[Test] = &[(
    &["sysctl"],
    "the_kernel_is_the_other_end_with_the_lines_of_the_readme",
    kernel_peer,
)];

const MACHINES: [&str; 2] = ["192.168.50.10/24", "192.168.50.20/24"];

/// The code block of the README with these words.
#[track_caller]
fn block(words: &str) -> &'static str {
    let blocks = include_str!("../../README.md")
        .split("\n```")
        .skip(1)
        .step_by(2);
    let mut found = blocks.filter(|block| block.contains(words));
    let block = found.next().unwrap();
    assert!(found.next().is_none(), "{words:?} is in two blocks");
    block.split_once('\n').unwrap().1
}

/// What the README has somebody type there.
fn commands(words: &str) -> Vec<&'static str> {
    let lines = block(words).lines();
    lines.filter_map(|line| line.strip_prefix("# ")).collect()
}

/// Both machines with the file of the README.
fn two_machines() -> Site {
    let site = Site::new(MACHINES);
    site.pods(["nsA", "nsB"]);
    let one = block("local = \"192.168.50.10\"").to_owned();
    let two = one
        .replace("192.168.50.10", "HERE")
        .replace("192.168.50.20", "192.168.50.10")
        .replace("HERE", "192.168.50.20")
        .replace("podA", "podB")
        .replace("nsA", "nsB")
        .replace("10.244.0.1/", "10.244.0.2/");
    for (lab, file, text) in [(&site.m1, "one", one), (&site.m2, "two", two)] {
        fs::write(format!("/run/{file}.toml"), text).unwrap();
        lab.sh(&format!("tapswitch apply /run/{file}.toml"));
    }
    site
}

fn two_files() {
    let site = two_machines();
    let typed: [&str; 5] = commands("tapswitch peer ping").try_into().unwrap();
    let [_, show, fdb, peers, probe] = typed.map(|command| site.m1.sh(command));
    // What the README prints of it.
    let shown = block("tapswitch peer ping");
    let bridge: Vec<_> = shown.lines().filter(|line| line.contains("mtu")).collect();
    assert_eq!(bridge.len(), 2);
    for line in bridge {
        assert!(show.contains(line), "{line} is not in {show}");
    }
    assert!(
        fdb.contains("192.168.50.20") && fdb.contains("podA"),
        "{fdb}"
    );
    let peer = squeeze(&peers);
    assert!(
        peer.contains("br0 42 192.168.50.20 4789 listed 1450 1500 up"),
        "{peers}"
    );
    assert!(
        probe.contains("largest frame: 1464 bytes, so an mtu of 1450"),
        "{probe}"
    );
}

fn static_entry() {
    let site = two_machines();
    for (lab, peer) in [(&site.m1, "192.168.50.20"), (&site.m2, "192.168.50.10")] {
        lab.sh("tapswitch bridge set br0 --peer-learning off");
        lab.sh(&format!("tapswitch peer del {peer}"));
    }
    assert!(!site.m1.reaches("nsA", "10.244.0.2"));
    assert_eq!(site.seen(), Vec::<Vec<u8>>::new());
    let port = site.m1.port("podA");
    assert!(port["drops"]["no_egress"].as_u64() > Some(0), "{port}");

    let [entry] = commands("tapswitch fdb add")[..] else {
        panic!("one command");
    };
    let mac = entry.split(' ').nth(3).unwrap();
    site.m2.sh(&format!("tapswitch port set podB --mac {mac}"));
    site.m1.sh(entry);
    knows(&site.m1, "nsA", "10.244.0.2", mac);
    let file = fs::read_to_string("/run/one.toml").unwrap();
    let file = file.replace("peers = [", "peer_learning = false\npeers = [] # ");
    let entry = format!("\n[[bridge.fdb]]\nmac = {mac:?}\nremote = \"192.168.50.20\"\n");
    fs::write("/run/static.toml", file + &entry).unwrap();
    let plan = site.m1.sh("tapswitch apply /run/static.toml");
    assert_eq!(plan, "nothing to do\n", "the file says the same");
    let own = site.m1.port("podA")["mac"].as_str().unwrap().to_owned();
    site.m2
        .sh(&format!("tapswitch fdb add {own} --remote 192.168.50.10"));
    knows(&site.m2, "nsB", "10.244.0.1", &own);
    site.m1.ping("nsA", "10.244.0.2");
    site.m2.ping("nsB", "10.244.0.1");
}

/// The line of the README that tells a pod an address.
fn knows(lab: &Lab, netns: &str, address: &str, mac: &str) {
    lab.sh(&format!(
        "ip netns exec {netns} ip neigh replace {address} lladdr {mac} dev eth0 nud permanent"
    ));
}

fn silence() {
    let site = two_machines();
    site.seen();
    // The switch does what it does by itself once a second.
    thread::sleep(Duration::from_millis(2500));
    let seen = site.seen();
    assert!(
        seen.iter().all(|frame| datagram(frame, 4789).is_none()),
        "{seen:?}"
    );
    site.m1.ping("nsA", "10.244.0.2");
    assert!(
        site.seen()
            .iter()
            .any(|frame| datagram(frame, 4789).is_some())
    );
}

fn kernel_peer() {
    let site = Site::with_kernel_peer(MACHINES);
    site.pods(["nsA", "nsB"]);
    fs::write("/run/one.toml", block("local = \"192.168.50.10\"")).unwrap();
    site.m1.sh("tapswitch apply /run/one.toml");
    for command in commands("type vxlan id 42") {
        site.m2.sh(command);
    }
    ip("-n nsB link add eth0 mtu 1450 type veth peer name vethB netns m2");
    ip("-n nsB addr add 10.244.0.2/24 dev eth0");
    ip("-n nsB link set eth0 up");
    site.m2.sh("ip link set vethB master br0 up");
    site.m1.ping("nsA", "10.244.0.2");
    site.m2.ping("nsB", "10.244.0.1");
    for mtu in ["ip link show vxlan42", "ip link show br0"] {
        let link = site.m2.sh(mtu);
        assert!(link.contains("mtu 1450"), "{link}");
    }
}
