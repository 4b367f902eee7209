//! Machines, the underlay that joins them, and pods.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use tapswitch::wire::MacAddr;

use crate::common::{Netns, ip, succeeded};

/// Which IP version the underlay speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The address of node `number` on the underlay.
    pub(crate) fn node(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 168, 50, number).into(),
            Self::V6 => Ipv6Addr::new(0xfd50, 0, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// What an underlay of 1500 leaves for the packets of pods.
    pub(crate) const fn overlay_mtu(self) -> u32 {
        match self {
            Self::V4 => 1450,
            Self::V6 => 1430,
        }
    }
}

/// A machine: a namespace whose `u0` is on the underlay.
pub(crate) struct Node {
    pub(crate) netns: Netns,
    /// Its address on the underlay.
    pub(crate) ip: IpAddr,
    pub(crate) family: Family,
    pub(crate) number: u8,
    /// The switch between more than two of them.
    _wire: Option<Arc<Netns>>,
}

/// Machines number 10, 20, ... on one underlay with an MTU of 1500.
pub(crate) fn nodes<const COUNT: usize>(family: Family) -> [Node; COUNT] {
    let wire = (COUNT > 2).then(|| Arc::new(Netns::new("wire")));
    let nodes = std::array::from_fn(|index| {
        let number = u8::try_from(10 * (index + 1)).unwrap();
        let netns = Netns::new(&format!("node{number}"));
        netns.ip("link set lo up");
        let ip = family.node(number);
        Node {
            netns,
            ip,
            family,
            number,
            _wire: wire.clone(),
        }
    });
    if let Some(wire) = &wire {
        join(&nodes, wire);
    } else if let [first, second] = &nodes[..] {
        ip(&format!(
            "link add u0 netns {} type veth peer name u0 netns {}",
            first.netns.name(),
            second.netns.name()
        ));
    }
    for node in &nodes {
        node.netns.ip("link set u0 up");
        node.own("u0", node.ip);
    }
    for node in &nodes {
        is_up(&node.netns, "u0");
    }
    nodes
}

/// Puts nodes on a kernel bridge in `wire`.
fn join(nodes: &[Node], wire: &Netns) {
    wire.ip("link add wire type bridge mcast_snooping 0");
    wire.ip("link set wire addrgenmode none up");
    for node in nodes {
        let end = format!("w{}", node.number);
        ip(&format!(
            "link add u0 netns {} type veth peer name {end} netns {}",
            node.netns.name(),
            wire.name()
        ));
        wire.ip(&format!("link set {end} addrgenmode none master wire up"));
    }
}

impl Node {
    /// Gives `device` an address of the underlay.
    pub(crate) fn own(&self, device: &str, ip: IpAddr) {
        add_address(&self.netns, device, ip);
    }
}

/// A namespace with `eth0` on the overlay, at 10.1.1.NUMBER and fd00::NUMBER.
pub(crate) struct Pod {
    pub(crate) netns: Netns,
    pub(crate) number: u8,
}

impl Pod {
    /// One without `eth0` yet.
    pub(crate) fn new(number: u8) -> Self {
        let netns = Netns::new(&format!("pod{number}"));
        netns.ip("link set lo up");
        // Echo requests without raw sockets: the kernel does checksums and identifiers.
        netns
            .run(|| fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0"))
            .unwrap();
        Self { netns, number }
    }

    pub(crate) fn mac(&self) -> MacAddr {
        MacAddr::new([2, 0, 0, 0, 0, self.number])
    }

    pub(crate) fn v4(&self) -> IpAddr {
        Ipv4Addr::new(10, 1, 1, self.number).into()
    }

    pub(crate) fn v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.v4(), self.v6()]
    }

    /// Makes `eth0`, whose other end is `peer` in `node`.
    pub(crate) fn cable(&self, node: &Netns, peer: &str, mtu: u32) {
        ip(&format!(
            "link add {peer} netns {} mtu {mtu} type veth peer name eth0 netns {} mtu {mtu} address {}",
            node.name(),
            self.netns.name(),
            self.mac()
        ));
        node.ip(&format!("link set {peer} addrgenmode none up"));
        self.netns.ip("link set eth0 up");
        for address in self.addresses() {
            add_address(&self.netns, "eth0", address);
        }
        is_up(&self.netns, "eth0");
    }

    /// The address that its kernel has resolved `ip` to.
    pub(crate) fn neighbour(&self, ip: IpAddr) -> Option<MacAddr> {
        let row = self.netns.ip(&format!("neigh show {ip} dev eth0"));
        let mut words = row.split_whitespace();
        words.find(|&word| word == "lladdr")?;
        words.next()?.parse().ok()
    }
}

/// `nodad`: it can be used at once.
fn add_address(netns: &Netns, device: &str, ip: IpAddr) {
    let (len, nodad) = match ip {
        IpAddr::V4(_) => (24, ""),
        IpAddr::V6(_) => (64, "nodad"),
    };
    netns.ip(&format!("addr add {ip}/{len} dev {device} {nodad}"));
}

/// Waits until the kernel has taken note that a cable is plugged in.
pub(crate) fn is_up(netns: &Netns, device: &str) {
    crate::common::wait_until("the link is up", crate::vtep::PATIENCE, || {
        let link = netns.ip(&format!("-o link show {device}"));
        link.contains("state UP") || link.contains("state UNKNOWN")
    });
}

/// Switches checksum and segmentation offload of a device off, so that its kernel finishes frames
/// before they get there.
pub(crate) fn without_offloads(netns: &Netns, device: &str) {
    ethtool(netns, device, "tx off tso off gso off");
}

/// Runs `ethtool -K`.
pub(crate) fn ethtool(netns: &Netns, device: &str, features: &str) {
    let words: Vec<&str> = ["ethtool", "-K", device]
        .into_iter()
        .chain(features.split_whitespace())
        .collect();
    let output = netns.exec(&words);
    succeeded(&format!("ethtool -K {device} {features}"), Ok(output));
}

/// The counters of a namespace's IP stacks, named as `nstat` names them.
pub(crate) fn nstat(netns: &Netns) -> BTreeMap<String, u64> {
    let read = |file: &str| {
        let path = format!("/proc/thread-self/net/{file}");
        netns.run(|| fs::read_to_string(path)).unwrap()
    };
    let snmp = read("snmp");
    let lines: Vec<Vec<&str>> = snmp
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let v4 = lines.chunks_exact(2).flat_map(|pair| {
        let prefix = pair[0][0].trim_end_matches(':');
        let named = pair[0].iter().zip(&pair[1]).skip(1);
        named.filter_map(move |(key, value)| Some((format!("{prefix}{key}"), value.parse().ok()?)))
    });
    let snmp6 = read("snmp6");
    let v6 = snmp6.lines().filter_map(|line| {
        let (key, value) = line.split_once(char::is_whitespace)?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    });
    v4.chain(v6).collect()
}
