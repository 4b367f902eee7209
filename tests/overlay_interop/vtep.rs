//! Who speaks VXLAN on a machine: tapswitch, the kernel, or Open vSwitch.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use tapswitch::{
    config::{BridgeSpec, OffloadMode, PeerAddr, PortSpec, SwitchSpec, VtepSpec},
    control::api::{FdbInfo, FdbSelector, PeerInfo, Request, Response, StatsInfo},
    daemon::{Switch, SwitchOptions},
    names::Name,
    wire::Vni,
};

use crate::{
    common::{Running, succeeded, wait_until},
    world::{Family, Node, Pod, is_up, without_offloads},
};

/// An endpoint of the overlay.
pub(crate) trait Vtep {
    /// Joins segment `vni`, together with `peers`.
    fn segment(&self, vni: u32, peers: &[IpAddr]);

    /// A pod on that segment.
    fn pod(&self, vni: u32, number: u8) -> Pod;
}

/// The switch under test.
pub(crate) struct Ours {
    pub(crate) switch: Switch,
    /// The engine of its ports.
    pub(crate) ports: OffloadMode,
}

impl Ours {
    /// On `node`, with other settings than the default ones.
    pub(crate) fn start(
        node: &Node,
        ports: OffloadMode,
        change: impl FnOnce(&mut VtepSpec),
    ) -> Self {
        let switch = Switch::start(SwitchOptions {
            name: format!("node{}", node.number),
            ..SwitchOptions::default()
        })
        .unwrap();
        let mut spec = VtepSpec::new(node.ip);
        spec.netns = Some(node.netns.reference());
        change(&mut spec);
        let ours = Self { switch, ports };
        ours.request(Request::VtepSet(spec));
        ours
    }

    #[track_caller]
    pub(crate) fn request(&self, request: Request) -> Response {
        self.switch
            .execute(request)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A bridge on the overlay with other settings than the default ones.
    pub(crate) fn bridge(&self, vni: u32, change: impl FnOnce(&mut BridgeSpec)) {
        let mut spec = BridgeSpec::new(bridge_name(vni));
        spec.vni = Vni::new(vni);
        change(&mut spec);
        self.request(Request::BridgeAdd(spec));
    }

    pub(crate) fn pod_with(&self, vni: u32, number: u8, change: impl FnOnce(&mut PortSpec)) -> Pod {
        let pod = Pod::new(number);
        let name = Name::new(&format!("v{vni}p{number}")).unwrap();
        let mut spec = PortSpec::new(name, bridge_name(vni));
        spec.netns = Some(pod.netns.reference());
        spec.mac = Some(pod.mac());
        spec.offload = self.ports;
        // No window of TCP fills that, however busy the machine is.
        spec.txqueuelen = 10_000;
        spec.addresses = vec![
            format!("{}/24", pod.v4()).parse().unwrap(),
            format!("{}/64", pod.v6()).parse().unwrap(),
        ];
        change(&mut spec);
        self.request(Request::PortAdd(spec));
        pod
    }

    pub(crate) fn stats(&self) -> StatsInfo {
        match self.request(Request::Stats { port: None }) {
            Response::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    /// What it knows of the VTEP at `ip`, on the segment `vni`.
    pub(crate) fn peer(&self, vni: u32, ip: IpAddr) -> Option<PeerInfo> {
        let is_it =
            |peer: &PeerInfo| peer.vni.get() == vni && peer.remote.parse::<IpAddr>() == Ok(ip);
        self.stats().peers.into_iter().find(is_it)
    }

    pub(crate) fn fdb(&self) -> Vec<FdbInfo> {
        match self.request(Request::FdbShow(FdbSelector::default())) {
            Response::Fdb(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Frames lost for `reason`, at whichever port, peer or endpoint.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        let stats = self.stats();
        let ports = stats.ports.iter().map(|port| &port.drops);
        let peers = stats.peers.iter().map(|peer| &peer.drops);
        let vtep = stats.vtep.iter().map(|vtep| &vtep.drops);
        let all = ports.chain(peers).chain(vtep);
        all.filter_map(|drops| drops.get(reason)).sum()
    }
}

impl Vtep for Ours {
    fn segment(&self, vni: u32, peers: &[IpAddr]) {
        self.bridge(vni, |spec| {
            spec.peers = peers.iter().copied().map(PeerAddr::new).collect();
        });
    }

    fn pod(&self, vni: u32, number: u8) -> Pod {
        self.pod_with(vni, number, |_| {})
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.stats().unaccounted, 0, "every frame is accounted for");
            self.request(Request::Apply {
                spec: SwitchSpec::default(),
                dry_run: false,
            });
        }
    }
}

pub(crate) fn bridge_name(vni: u32) -> Name {
    Name::new(&format!("vni{vni}")).unwrap()
}

/// The kernel's bridge and vxlan device, and pods on veths.
pub(crate) struct Kernel<'a> {
    pub(crate) node: &'a Node,
    pub(crate) port: u16,
    /// `udpcsum`, or over IPv6 the opposite of `udp6zerocsumtx`.
    pub(crate) checksums: bool,
    /// `udp6zerocsumrx`: takes outer IPv6 without UDP checksums.
    pub(crate) takes_none: bool,
    /// Whether pods leave segmentation and checksums to others.
    pub(crate) pod_offload: bool,
    /// Whether the vxlan device does.
    pub(crate) vxlan_offload: bool,
    /// The MTU of its pods, if the underlay shall not limit it.
    pub(crate) mtu: Option<u32>,
}

impl<'a> Kernel<'a> {
    pub(crate) fn new(node: &'a Node) -> Self {
        Self {
            node,
            port: VtepSpec::DEFAULT_PORT,
            checksums: node.family == Family::V6,
            takes_none: false,
            pod_offload: true,
            vxlan_offload: true,
            mtu: None,
        }
    }

    /// The vxlan device alone, without a default destination.
    pub(crate) fn vxlan(&self, vni: u32, more: &str) {
        let Self { node, port, .. } = self;
        let ip = node.ip;
        let mut flags = match (node.family, self.checksums) {
            (Family::V4, true) => "udpcsum",
            (Family::V4, false) => "noudpcsum",
            (Family::V6, true) => "noudp6zerocsumtx",
            (Family::V6, false) => "udp6zerocsumtx",
        }
        .to_owned();
        if self.takes_none {
            flags += " udp6zerocsumrx";
        }
        let (mtu, device) = match self.mtu {
            Some(mtu) => (format!("mtu {mtu}"), ""),
            None => (String::new(), "dev u0"),
        };
        node.netns.ip(&format!(
            "link add vx{vni} {mtu} type vxlan id {vni} local {ip} {device} dstport {port} {flags} {more}"
        ));
        if !self.vxlan_offload {
            without_offloads(&node.netns, &format!("vx{vni}"));
        }
    }
}

impl Vtep for Kernel<'_> {
    fn segment(&self, vni: u32, peers: &[IpAddr]) {
        let netns = &self.node.netns;
        self.vxlan(vni, "");
        netns.ip(&format!("link add br{vni} type bridge mcast_snooping 0"));
        netns.ip(&format!("link set br{vni} addrgenmode none up"));
        netns.ip(&format!(
            "link set vx{vni} addrgenmode none master br{vni} up"
        ));
        for peer in peers {
            let words = format!("bridge fdb append 00:00:00:00:00:00 dev vx{vni} dst {peer}");
            let words: Vec<&str> = words.split_whitespace().collect();
            succeeded("bridge fdb append", Ok(netns.exec(&words)));
        }
        is_up(netns, &format!("vx{vni}"));
    }

    fn pod(&self, vni: u32, number: u8) -> Pod {
        let (pod, netns) = (Pod::new(number), &self.node.netns);
        let end = format!("v{vni}p{number}");
        let mtu = self.mtu.unwrap_or_else(|| self.node.family.overlay_mtu());
        pod.cable(netns, &end, mtu);
        netns.ip(&format!("link set {end} master br{vni}"));
        if !self.pod_offload {
            without_offloads(&pod.netns, "eth0");
        }
        pod
    }
}

/// Open vSwitch with its userspace datapath, all of it inside the node and a directory of its own.
pub(crate) struct Ovs<'a> {
    node: &'a Node,
    port: u16,
    checksums: bool,
    directory: PathBuf,
    programs: Vec<Running>,
}

/// What it takes to run it.
pub(crate) const OVS_PROGRAMS: &[&str] = &[
    "ovsdb-tool",
    "ovsdb-server",
    "ovs-vswitchd",
    "ovs-vsctl",
    "ovs-appctl",
    "ethtool",
];

impl<'a> Ovs<'a> {
    /// Takes over `u0` of the node, and its address. `neighbour` is the other machine: until Open
    /// vSwitch has resolved it, it loses what it should send there.
    pub(crate) fn start(node: &'a Node, neighbour: &Node, port: u16, checksums: bool) -> Self {
        // The test's own /run, which dies with it.
        let directory = PathBuf::from(format!("/run/{}-ovs", node.netns.name()));
        fs::create_dir(&directory).unwrap();
        let mut ovs = Self {
            node,
            port,
            checksums,
            directory,
            programs: Vec::new(),
        };
        let (database, socket) = (ovs.path("conf.db"), ovs.path("db.sock"));
        ovs.run("ovsdb-tool", &["create", &database, SCHEMA]);
        let control = format!("--unixctl={}", ovs.path("db.ctl"));
        ovs.spawn(
            "ovsdb-server",
            &[&database, &format!("--remote=punix:{socket}"), &control],
        );
        wait_until("ovsdb-server listens", PATIENCE, || {
            fs::exists(&socket).unwrap()
        });
        let control = format!("--unixctl={}", ovs.path("switch.ctl"));
        ovs.spawn("ovs-vswitchd", &[&format!("unix:{socket}"), &control]);
        ovs.configure("add-br phy -- set bridge phy datapath_type=netdev -- add-port phy u0");
        node.netns.ip("addr flush dev u0");
        node.netns.ip("link set phy addrgenmode none up");
        node.own("phy", node.ip);
        let mac = neighbour.netns.ip("-o link show u0");
        let mac = mac
            .split_whitespace()
            .skip_while(|&word| word != "link/ether")
            .nth(1);
        ovs.run(
            "ovs-appctl",
            &[
                "-t",
                &ovs.path("switch.ctl"),
                "tnl/neigh/set",
                "phy",
                &neighbour.ip.to_string(),
                mac.unwrap(),
            ],
        );
        ovs
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).to_str().unwrap().to_owned()
    }

    fn command<'b>(&'b self, environment: &'b [String], program: &'b str) -> Vec<&'b str> {
        let environment = environment.iter().map(String::as_str);
        ["env"]
            .into_iter()
            .chain(environment)
            .chain([program])
            .collect()
    }

    fn environment(&self) -> Vec<String> {
        let directory = self.directory.display();
        let names = ["RUNDIR", "DBDIR", "LOGDIR", "SYSCONFDIR"];
        names
            .map(|name| format!("OVS_{name}={directory}"))
            .into_iter()
            .collect()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let environment = self.environment();
        let words = [&self.command(&environment, program), arguments].concat();
        succeeded(&words.join(" "), Ok(self.node.netns.exec(&words)))
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) {
        let environment = self.environment();
        let words = [&self.command(&environment, program), arguments].concat();
        let running = self.node.netns.spawn(&words);
        self.programs.push(running);
    }

    /// Runs `ovs-vsctl`, which waits until the switch has done it.
    fn configure(&self, arguments: &str) {
        let database = format!("--db=unix:{}", self.path("db.sock"));
        let words: Vec<&str> = [database.as_str(), "--timeout=10"]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        self.run("ovs-vsctl", &words);
    }
}

impl Vtep for Ovs<'_> {
    fn segment(&self, vni: u32, peers: &[IpAddr]) {
        self.configure(&format!(
            "add-br br{vni} -- set bridge br{vni} datapath_type=netdev"
        ));
        for (index, peer) in peers.iter().enumerate() {
            let Self {
                port, checksums, ..
            } = self;
            self.configure(&format!(
                "add-port br{vni} vx{vni}i{index} -- set interface vx{vni}i{index} type=vxlan \
                 options:remote_ip={peer} options:local_ip={} options:key={vni} \
                 options:dst_port={port} options:csum={checksums}",
                self.node.ip
            ));
        }
    }

    fn pod(&self, vni: u32, number: u8) -> Pod {
        let pod = Pod::new(number);
        let end = format!("v{vni}p{number}");
        pod.cable(&self.node.netns, &end, self.node.family.overlay_mtu());
        // It reads frames as they are; nobody would finish them.
        without_offloads(&pod.netns, "eth0");
        self.configure(&format!("add-port br{vni} {end}"));
        pod
    }
}

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Long enough for whatever has been asked for to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
