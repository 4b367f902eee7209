//! One pod here, one there, and all they can say to each other, under every setting that changes
//! how frames travel.

use std::{collections::BTreeMap, net::IpAddr, thread};

use libtest_mimic::Trial;
use tapswitch::{
    bridge::DropReason,
    config::{OffloadMode, VtepSpec},
    control::api::StatsInfo,
};

use crate::{
    common::{Env, Netns},
    traffic::{self, Ear, Pinger, Stream, call, ping, tell},
    vtep::{Kernel, OVS_PROGRAMS, Ours, Ovs, PATIENCE, Vtep},
    world::{Family, Node, Pod, ethtool, nodes, nstat, without_offloads},
};

/// What travels between the two pods of a cell.
const VNI: u32 = 42;

/// The port that Linux used before there was a standard, and flannel still does.
const LINUX_PORT: u16 = 8472;

/// One combination of settings. What is false is switched off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) family: Family,
    pub(crate) port: u16,
    /// Whether we send outer UDP checksums.
    pub(crate) udpcsum: bool,
    /// `UDP_SEGMENT` and `UDP_GRO` of our endpoint.
    pub(crate) vtep_offload: bool,
    /// The engine of our ports.
    pub(crate) port_offload: bool,
    /// What the veth between the machines leaves to the other end. False: as between NICs, every
    /// packet is on the wire by itself, and the receiver joins them.
    pub(crate) underlay_offload: bool,
    pub(crate) other: Other,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Other {
    Ours {
        vtep_offload: bool,
        port_offload: bool,
    },
    Kernel {
        udpcsum: bool,
        pod_offload: bool,
        vxlan_offload: bool,
    },
    OpenVSwitch {
        udpcsum: bool,
    },
}

/// The cells, each a test.
pub(crate) fn trials(env: &Env) -> Vec<Trial> {
    let cells = cells();
    let trial = |&cell: &Cell| env.trial_with(cell.programs(), &cell.name(), move || run(cell));
    cells.iter().map(trial).collect()
}

fn cells() -> Vec<Cell> {
    let kernel = (0..16).map(|run| Cell::against_kernel(run, VtepSpec::DEFAULT_PORT));
    let ours = (0..8).map(|run| Cell::against_ours(run, VtepSpec::DEFAULT_PORT));
    let ovs = (0..4).map(|run| Cell::against_ovs(run, VtepSpec::DEFAULT_PORT));
    let over_v6 = |cell| Cell {
        family: Family::V6,
        ..cell
    };
    let more = [
        over_v6(Cell::against_kernel(0, VtepSpec::DEFAULT_PORT)),
        over_v6(Cell::against_ours(0, VtepSpec::DEFAULT_PORT)),
        Cell::against_kernel(0, LINUX_PORT),
        over_v6(Cell::against_ours(0, LINUX_PORT)),
        Cell::against_ovs(0, LINUX_PORT),
    ];
    kernel.chain(ours).chain(ovs).chain(more).collect()
}

/// Whether a setting is at its default in run `run` of a fractional factorial design. Settings with
/// different masks meet in all combinations: any two of them, and any three if all masks have an
/// odd number of bits.
fn is_default(run: u32, mask: u32) -> bool {
    (run & mask).count_ones().is_multiple_of(2)
}

impl Cell {
    /// Any three of the eight settings meet in all combinations within runs 0 to 15; run 0 has the
    /// defaults.
    pub(crate) fn against_kernel(run: u32, port: u16) -> Self {
        let is = |mask| is_default(run, mask);
        Self {
            family: if is(1) { Family::V4 } else { Family::V6 },
            port,
            udpcsum: is(7),
            vtep_offload: is(2),
            port_offload: is(4),
            underlay_offload: is(8),
            other: Other::Kernel {
                udpcsum: is(11),
                pod_offload: is(13),
                vxlan_offload: is(14),
            },
        }
    }

    /// Any two of the seven settings meet in all combinations within runs 0 to 7.
    pub(crate) fn against_ours(run: u32, port: u16) -> Self {
        let is = |mask| is_default(run, mask);
        Self {
            family: if is(1) { Family::V4 } else { Family::V6 },
            port,
            udpcsum: is(7),
            vtep_offload: is(2),
            port_offload: is(4),
            underlay_offload: is(3),
            other: Other::Ours {
                vtep_offload: is(5),
                port_offload: is(6),
            },
        }
    }

    /// Any two of the first three settings meet within runs 0 to 3.
    pub(crate) fn against_ovs(run: u32, port: u16) -> Self {
        let is = |mask| is_default(run, mask);
        Self {
            family: if is(1) { Family::V4 } else { Family::V6 },
            port,
            udpcsum: true,
            vtep_offload: is(2),
            port_offload: is(3),
            // Open vSwitch reads packets as they are; nobody would finish them.
            underlay_offload: false,
            other: Other::OpenVSwitch {
                udpcsum: run % 4 != 2,
            },
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self.other {
            Other::OpenVSwitch { .. } => OVS_PROGRAMS,
            _ => &["ethtool", "ping"],
        }
    }

    /// A sentence.
    fn name(self) -> String {
        let mut without = Vec::new();
        let mut note = |is_on: bool, what: &'static str| {
            if !is_on {
                without.push(what);
            }
        };
        note(self.udpcsum, "checksums");
        note(self.vtep_offload, "vtep_offload");
        note(self.port_offload, "port_offload");
        let other = match self.other {
            Other::Ours {
                vtep_offload,
                port_offload,
            } => {
                note(self.underlay_offload, "underlay_offload");
                note(vtep_offload, "its_vtep_offload");
                note(port_offload, "its_port_offload");
                "another_tapswitch"
            }
            Other::Kernel {
                udpcsum,
                pod_offload,
                vxlan_offload,
            } => {
                note(self.underlay_offload, "underlay_offload");
                note(udpcsum, "its_checksums");
                note(pod_offload, "its_pod_offload");
                note(vxlan_offload, "its_vxlan_offload");
                "the_kernel"
            }
            Other::OpenVSwitch { udpcsum } => {
                note(udpcsum, "its_checksums");
                "open_vswitch"
            }
        };
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        let port = match self.port {
            VtepSpec::DEFAULT_PORT => String::new(),
            port => format!("_port_{port}"),
        };
        let without = match without.split_last() {
            None => "_with_everything_on".to_owned(),
            Some((last, [])) => format!("_without_{last}"),
            Some((last, rest)) => format!("_without_{}_and_{last}", rest.join("_")),
        };
        format!("pods_reach_pods_of_{other}_over_{family}{port}{without}")
    }
}

/// The two machines of a cell, with a pod on each.
pub(crate) struct Pair<'a> {
    pub(crate) ours: &'a Ours,
    pub(crate) nodes: &'a [Node; 2],
    pub(crate) pods: &'a [Pod; 2],
    pub(crate) mtu: u32,
    /// What we had lost before there were two pods.
    lost: Drops,
}

/// Frames lost, by place and reason.
type Drops = Vec<BTreeMap<String, u64>>;

fn run(cell: Cell) {
    with_pair(cell, |pair| {
        pair.resolve();
        pair.ping();
        pair.stream();
        pair.send_datagrams();
        pair.broadcast();
        pair.assert_clean();
        pair.send_too_big();
    });
}

/// Sets a cell up and hands it over.
pub(crate) fn with_pair(cell: Cell, check: impl FnOnce(&Pair<'_>)) {
    let nodes = nodes::<2>(cell.family);
    let [here, there] = &nodes;
    if !cell.underlay_offload {
        for node in &nodes {
            without_offloads(&node.netns, "u0");
        }
        if !matches!(cell.other, Other::OpenVSwitch { .. }) {
            ethtool(&here.netns, "u0", "gro on");
        }
    }
    let sums_there = match cell.other {
        Other::Kernel { udpcsum, .. } | Other::OpenVSwitch { udpcsum } => udpcsum,
        Other::Ours { .. } => true,
    };
    let ours = Ours::start(here, mode(cell.port_offload), |spec| {
        spec.port = cell.port;
        spec.udpcsum = cell.udpcsum;
        spec.udp6zerocsumrx = !sums_there;
        spec.offload = mode(cell.vtep_offload);
    });
    let theirs = cell.start_other(&nodes);
    ours.segment(VNI, &[there.ip]);
    theirs.segment(VNI, &[here.ip]);
    let pods = [ours.pod(VNI, 1), theirs.pod(VNI, 2)];
    check(&Pair {
        ours: &ours,
        nodes: &nodes,
        pods: &pods,
        mtu: cell.family.overlay_mtu(),
        lost: drops(&ours.stats()),
    });
}

impl Cell {
    fn start_other<'a>(&self, [here, there]: &'a [Node; 2]) -> Box<dyn Vtep + 'a> {
        match self.other {
            Other::Ours {
                vtep_offload,
                port_offload,
            } => Box::new(Ours::start(there, mode(port_offload), |spec| {
                spec.port = self.port;
                spec.offload = mode(vtep_offload);
                spec.udp6zerocsumrx = !self.udpcsum;
            })),
            Other::Kernel {
                udpcsum,
                pod_offload,
                vxlan_offload,
            } => Box::new(Kernel {
                node: there,
                port: self.port,
                checksums: udpcsum,
                takes_none: !self.udpcsum,
                pod_offload,
                vxlan_offload,
                mtu: None,
            }),
            Other::OpenVSwitch { udpcsum } => Box::new(Ovs::start(there, here, self.port, udpcsum)),
        }
    }
}

impl<'a> Pair<'a> {
    /// Sender and receiver, both ways.
    fn ways(&self) -> [(&'a Pod, &'a Pod); 2] {
        let [here, there] = self.pods;
        [(here, there), (there, here)]
    }

    /// ARP and neighbour discovery work across.
    pub(crate) fn resolve(&self) {
        for (from, to) in self.ways() {
            for address in to.addresses() {
                ping(from, address);
                assert_eq!(from.neighbour(address), Some(to.mac()), "{address}");
            }
        }
    }

    /// Packets of every size that the MTU allows arrive, and no longer ones.
    fn ping(&self) {
        let port = self.ours.stats().ports.remove(0);
        assert_eq!(port.mtu, self.mtu, "what the underlay leaves");
        for (from, to) in self.ways() {
            for address in to.addresses() {
                let most = longest_ping(address, self.mtu);
                let mut pinger = Pinger::new(from, address);
                let sizes = (0..most).step_by(37).chain([1, 17, most - 1, most]);
                // The pod itself makes fragments of the last ones.
                for size in sizes.chain([most + 1, 3200, 9000, 30_000]) {
                    pinger
                        .ping(size, PATIENCE)
                        .unwrap_or_else(|error| panic!("{error}"));
                }
                refuses(from, address, most + 1, self.mtu);
            }
        }
    }

    /// Both ways at once, with segments as the path allows and with short ones.
    fn stream(&self) {
        for address in [0, 1] {
            for (len, mss) in [(4 << 20, None), (400_000, Some(200))] {
                self.stream_both_ways(address, len, mss);
            }
        }
    }

    /// `len` bytes each way, over IPv4 (0) or IPv6 (1).
    pub(crate) fn stream_both_ways(&self, address: usize, len: u64, mss: Option<u32>) {
        thread::scope(|scope| {
            for (seed, (from, to)) in (len..).zip(self.ways()) {
                let stream = Stream { len, seed, mss };
                scope.spawn(move || traffic::tcp(from, to, to.addresses()[address], stream));
            }
        });
    }

    fn send_datagrams(&self) {
        for (seed, (from, to)) in (0..).zip(self.ways()) {
            for address in to.addresses() {
                traffic::datagrams(from, to, address, self.mtu, seed);
                for joins in [false, true] {
                    traffic::segmented(from, to, address, self.mtu, joins, seed);
                }
            }
        }
    }

    /// Each copy arrives once.
    fn broadcast(&self) {
        for (from, to) in self.ways() {
            let ear = Ear::new(to);
            for (address, over_v6) in to.addresses().into_iter().zip([false, true]) {
                call(from, "everybody", over_v6);
                tell(from, address, "you");
                assert_eq!(ear.until("you", over_v6), ["everybody"]);
            }
            assert_eq!(ear.rest(), Vec::<String>::new());
        }
    }

    /// Nothing was damaged, lost or fragmented on the way, so far.
    pub(crate) fn assert_clean(&self) {
        for pod in self.pods {
            assert_none(&pod.netns, |key| key.ends_with("InCsumErrors"));
        }
        for node in self.nodes {
            assert_none(&node.netns, |key| {
                key.ends_with("InCsumErrors")
                    || key.ends_with("RcvbufErrors")
                    || key.ends_with("FragCreates")
                    || key.ends_with("ReasmReqds")
            });
        }
        let stats = self.ours.stats();
        assert_eq!(stats.unaccounted, 0);
        let overflow = stats.vtep.as_ref().map(|vtep| vtep.socket_overflow);
        assert_eq!(overflow, Some(0));
        assert_eq!(drops(&stats), self.lost);
    }

    /// A pod that believes in a longer MTU is told, and what it lost is counted.
    fn send_too_big(&self) {
        let [here, there] = self.pods;
        here.netns.ip("link set eth0 mtu 2000");
        for (count, address) in (1..).zip(there.addresses()) {
            refuses(here, address, longest_ping(address, self.mtu) + 1, self.mtu);
            assert_eq!(self.ours.drops("too_big"), count);
        }
        assert_eq!(self.ours.stats().unaccounted, 0);
    }
}

fn drops(stats: &StatsInfo) -> Drops {
    let ports = stats.ports.iter().map(|port| &port.drops);
    let peers = stats.peers.iter().map(|peer| &peer.drops);
    let vtep = stats.vtep.iter().map(|vtep| &vtep.drops);
    let mut drops: Drops = ports.chain(peers).chain(vtep).cloned().collect();
    // How often bulk TCP must be told to slow down depends on the machine; it sends that again.
    for place in &mut drops {
        place.remove(DropReason::StandingQueue.name());
    }
    drops
}

/// Payload bytes of the longest ping that is not fragmented.
pub(crate) fn longest_ping(address: IpAddr, mtu: u32) -> usize {
    let headers = if address.is_ipv4() { 28 } else { 48 };
    usize::try_from(mtu).unwrap() - headers
}

/// An echo request of `size` bytes that must not be fragmented is refused, by the pod's kernel or by
/// an ICMP message, because the MTU is `mtu`.
#[track_caller]
pub(crate) fn refuses(from: &Pod, address: IpAddr, size: usize, mtu: u32) {
    let (size, address) = (size.to_string(), address.to_string());
    let words = [
        "ping", "-M", "do", "-c", "1", "-i", "0.01", "-W", "5", "-s", &size, &address,
    ];
    let output = from.netns.exec(&words);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).replace(['(', ')', '=', ':'], " ");
    let mut words = said.split_whitespace();
    let is_told = words.any(|word| word == "mtu") && words.next() == Some(&mtu.to_string());
    assert!(!output.status.success() && is_told, "{said}");
}

/// No counter of the namespace that `is_bad` has counted.
#[track_caller]
pub(crate) fn assert_none(netns: &Netns, is_bad: impl Fn(&str) -> bool) {
    let mut counters = nstat(netns);
    counters.retain(|key, count| is_bad(key) && *count > 0);
    assert!(counters.is_empty(), "{}: {counters:?}", netns.name());
}

fn mode(is_on: bool) -> OffloadMode {
    if is_on {
        OffloadMode::On
    } else {
        OffloadMode::Off
    }
}
