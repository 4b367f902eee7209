//! Throughput across two nodes, against the kernel's vxlan and Open vSwitch's, all set up in one
//! run and measured in turn.
//!
//! ```text
//! cargo bench --bench overlay              # 7 rounds; as root, or in a user namespace
//! cargo bench --bench overlay -- --quick   # 3 short rounds
//! TAPSWITCH_VXLAN_PUMP='CMD' cargo bench --bench overlay   # and CMD, once for each node
//! ```
//!
//! Each side: two node namespaces, a veth pair with an MTU of 1500 between them, and a pod on a
//! bridge on each. `CMD` is called with the pod's namespace, the node's, the local and the remote
//! address; it makes `eth0` in the pod and says `ready`. Quiet the machine first.

#[path = "../tests/common/mod.rs"]
mod common;
mod throughput;

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use common::{Netns, command, ip};
use tapswitch::{
    config::{BridgeSpec, PeerAddr, PortSpec, VtepSpec},
    control::api::Request,
    daemon::{Switch, SwitchOptions},
    names::Name,
    wire::Vni,
};
use throughput::{Side, measure, plan};

fn main() {
    let Some((_env, plan)) = plan("overlay") else {
        return;
    };
    let mut sides = vec![kernel(), tapswitch()];
    sides.extend(pump());
    match open_vswitch() {
        Ok(side) => sides.push(side),
        Err(reason) => println!("overlay: without Open vSwitch: {reason}"),
    }
    measure(&sides, plan);
}

/// The nodes of one side, on a veth pair.
struct Nodes([Netns; 2]);

impl Nodes {
    fn new(label: &str) -> Self {
        let nodes = ["a", "b"].map(|end| Netns::new(&format!("{label}{end}")));
        let [a, b] = [&nodes[0], &nodes[1]].map(Netns::name);
        ip(&format!(
            "link add u0 netns {a} type veth peer name u0 netns {b}"
        ));
        for node in &nodes {
            node.ip("link set u0 up");
            // The kernel at its best: no netfilter in the way.
            for table in ["iptables", "ip6tables", "arptables"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
                node.run(|| drop(std::fs::write(path, "0")));
            }
        }
        Self(nodes)
    }

    fn address(&self, device: &str) {
        for (number, node) in self.0.iter().enumerate() {
            node.ip(&format!("addr add {}/24 dev {device}", underlay(number)));
            node.ip(&format!("link set {device} up"));
        }
    }
}

fn underlay(node: usize) -> String {
    format!("192.168.50.{}0", node + 1)
}

fn pods(label: &str) -> [Netns; 2] {
    ["a", "b"].map(|end| Netns::new(&format!("{label}p{end}")))
}

/// A veth pair from the pod to `p0` of the node.
fn plug_veth(node: &Netns, pod: &Netns, address: &str) {
    ip(&format!(
        "link add p0 netns {} mtu 1450 type veth peer name eth0 netns {}",
        node.name(),
        pod.name()
    ));
    pod.ip("link set eth0 mtu 1450");
    pod.ip(&format!("addr add {address}/24 dev eth0"));
    pod.ip("link set eth0 up");
    node.ip("link set p0 up");
}

fn kernel() -> Side {
    let (nodes, [from, to]) = (Nodes::new("k"), pods("k"));
    nodes.address("u0");
    for (number, (node, pod)) in nodes.0.iter().zip([&from, &to]).enumerate() {
        node.ip("link add br0 type bridge mcast_snooping 0");
        node.ip("link set br0 up");
        let (local, remote) = (underlay(number), underlay(1 - number));
        node.ip(&format!(
            "link add vx0 type vxlan id 42 local {local} dstport 4789 dev u0"
        ));
        node.ip("link set vx0 master br0 up");
        let all = "00:00:00:00:00:00";
        let done = node.exec(&["bridge", "fdb", "append", all, "dev", "vx0", "dst", &remote]);
        assert!(done.status.success(), "bridge fdb append");
        plug_veth(node, pod, &format!("10.1.0.{}", number + 1));
        node.ip("link set p0 master br0");
    }
    Side {
        name: "kernel vxlan",
        from,
        to,
        target: "10.1.0.2".to_owned(),
        keep: Box::new(nodes),
    }
}

fn tapswitch() -> Side {
    let (nodes, [from, to]) = (Nodes::new("t"), pods("t"));
    nodes.address("u0");
    let mut switches = Vec::new();
    for (number, (node, pod)) in nodes.0.iter().zip([&from, &to]).enumerate() {
        let switch = Switch::start(SwitchOptions {
            name: format!("node{number}"),
            ..SwitchOptions::default()
        })
        .unwrap();
        let mut vtep = VtepSpec::new(underlay(number).parse().unwrap());
        vtep.netns = Some(node.reference());
        switch.execute(Request::VtepSet(vtep)).unwrap();
        let mut bridge = BridgeSpec::new(Name::new("br0").unwrap());
        bridge.vni = Vni::new(42);
        bridge.peers = vec![PeerAddr::new(underlay(1 - number).parse().unwrap())];
        switch.execute(Request::BridgeAdd(bridge.clone())).unwrap();
        let mut port = PortSpec::new(Name::new("pod").unwrap(), bridge.name);
        port.netns = Some(pod.reference());
        port.addresses = vec![format!("10.2.0.{}/24", number + 1).parse().unwrap()];
        switch.execute(Request::PortAdd(port)).unwrap();
        switches.push(switch);
    }
    Side {
        name: "tapswitch",
        from,
        to,
        target: "10.2.0.2".to_owned(),
        keep: Box::new((switches, nodes)),
    }
}

/// Processes that do not outlive their side.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn pump() -> Option<Side> {
    let line = std::env::var("TAPSWITCH_VXLAN_PUMP").ok()?;
    let (nodes, [from, to]) = (Nodes::new("p"), pods("p"));
    nodes.address("u0");
    let mut children = Children(Vec::new());
    for (number, (node, pod)) in nodes.0.iter().zip([&from, &to]).enumerate() {
        let mut words = line.split_whitespace();
        let mut child = command(words.next()?)
            .args(words)
            .args([pod.name(), node.name()])
            .args([underlay(number), underlay(1 - number)])
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut first = [0; 5];
        io::Read::read_exact(child.stdout.as_mut()?, &mut first).ok()?;
        children.0.push(child);
        pod.ip("link set eth0 mtu 1450");
        pod.ip(&format!("addr add 10.3.0.{}/24 dev eth0", number + 1));
        pod.ip("link set eth0 up");
    }
    Some(Side {
        name: "pump",
        from,
        to,
        target: "10.3.0.2".to_owned(),
        keep: Box::new((children, nodes)),
    })
}

/// Open vSwitch with its userspace datapath, a database and a daemon for each node.
struct OpenVswitch {
    directory: PathBuf,
    children: Children,
}

impl Drop for OpenVswitch {
    fn drop(&mut self) {
        self.children.0.clear();
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

fn open_vswitch() -> Result<Side, String> {
    const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
    if !Path::new(SCHEMA).exists() {
        return Err(format!("{SCHEMA} is not there; install openvswitch-switch"));
    }
    let (nodes, [from, to]) = (Nodes::new("o"), pods("o"));
    let mut running = Vec::new();
    for (number, (node, pod)) in nodes.0.iter().zip([&from, &to]).enumerate() {
        let directory = std::env::temp_dir().join(node.name());
        std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let mut ovs = OpenVswitch {
            directory: directory.clone(),
            children: Children(Vec::new()),
        };
        let file = |name: &str| directory.join(name).display().to_string();
        let (db, socket, control) = (file("conf.db"), file("db.sock"), file("ctl"));
        let run = |words: &[&str]| {
            let output = node.exec(words);
            let failed = || format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            output.status.success().then_some(()).ok_or_else(failed)
        };
        run(&["ovsdb-tool", "create", &db, SCHEMA])?;
        let mut start = |words: &[&str]| -> Result<(), String> {
            let child = node.run(|| {
                command(words[0])
                    .args(&words[1..])
                    .env("OVS_RUNDIR", &directory)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
            });
            ovs.children
                .0
                .push(child.map_err(|error| error.to_string())?);
            Ok(())
        };
        let remote_db = format!("--remote=punix:{socket}");
        let no_log = "-vconsole:off";
        let pid = |name: &str| format!("--pidfile={}", file(name));
        let db_control = format!("--unixctl={control}.db");
        start(&[
            "ovsdb-server",
            &db,
            &remote_db,
            &db_control,
            &pid("db.pid"),
            no_log,
        ])?;
        let is_open = || Path::new(&socket).exists();
        common::wait_until("ovsdb-server listens", Duration::from_secs(5), is_open);
        let db = format!("unix:{socket}");
        let control = format!("--unixctl={control}");
        start(&["ovs-vswitchd", &db, &control, &pid("vs.pid"), no_log])?;
        plug_veth(node, pod, &format!("10.4.0.{}", number + 1));
        // Without TSO it forwards what it gets, unfinished checksums too.
        run_in(
            pod,
            &[
                "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off",
            ],
        )?;
        let vsctl = format!(
            "ovs-vsctl --db={db} --timeout=10 init \
             -- add-br phy -- set bridge phy datapath_type=netdev -- add-port phy u0 \
             -- add-br int -- set bridge int datapath_type=netdev -- add-port int p0 \
             -- add-port int vx -- set interface vx type=vxlan options:remote_ip={} options:key=42",
            underlay(1 - number)
        );
        run(&vsctl.split_whitespace().collect::<Vec<_>>())?;
        running.push(ovs);
    }
    nodes.address("phy");
    Ok(Side {
        name: "Open vSwitch userspace",
        from,
        to,
        target: "10.4.0.2".to_owned(),
        keep: Box::new((running, nodes)),
    })
}

fn run_in(netns: &Netns, words: &[&str]) -> Result<(), String> {
    let output = netns.exec(words);
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}
