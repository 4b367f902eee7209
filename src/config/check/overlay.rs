//! The overlay's rules.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{Checker, Section, family};
use crate::{
    config::{BridgeSpec, Mode, PeerAddr, StaticSpec, Tos, VtepSpec},
    names::Name,
    wire::Vni,
};

impl Checker {
    pub(super) fn vtep(&mut self, vtep: &VtepSpec) {
        self.at(Section::Vtep, 0);
        if let Some(problem) = no_endpoint(vtep.local) {
            let message = format!(
                "vtep: local {} is {problem}; write one of this host's addresses (see: ip address)",
                vtep.local
            );
            self.report("local", 0, message);
        }
        if vtep.port == 0 {
            let message = "vtep: port 0 is no port; write 1 to 65535, or leave it out for 4789";
            self.report("port", 0, message.to_owned());
        }
        if vtep.ttl == 0 {
            let message = "vtep: ttl 0 lets no datagram leave the host; write 1 to 255";
            self.report("ttl", 0, message.to_owned());
        }
        if let Tos::Fixed(byte) = vtep.tos
            && Tos::fixed(byte).is_none()
        {
            let rounded = byte & !0b11;
            let message = format!(
                "vtep: tos {byte} has ECN bits, which follow the inner packet; write {rounded}"
            );
            self.report("tos", 0, message);
        }
    }

    /// What `bridge` may not be if it is carried over the overlay, or not if it is not.
    pub(super) fn overlay<'a>(
        &mut self,
        bridge: &'a BridgeSpec,
        vtep: Option<&VtepSpec>,
        owners: &mut HashMap<Vni, &'a Name>,
    ) {
        let name = &bridge.name;
        match bridge.vni {
            None if bridge.peers.is_empty() => {}
            None => {
                let message = format!(
                    "bridge {name}: peers need a vni on the bridge; add one, or remove the peers \
                     (--peer none)"
                );
                self.report("peers", 0, message);
            }
            Some(vni) => {
                if vtep.is_none() {
                    let message = format!(
                        "bridge {name}: vni {vni} needs a VTEP; add [vtep] with local = \"IP\", \
                         or ask for one: tapswitch vtep set --local IP"
                    );
                    self.report("vni", 0, message);
                }
                if let Some(owner) = owners.insert(vni, name) {
                    let message = format!(
                        "bridge {name}: vni {vni} is already bridge {owner}'s; choose another one"
                    );
                    self.report("vni", 0, message);
                }
                if bridge.mode == Mode::Wire {
                    let message = format!(
                        "bridge {name}: a wire joins two ports and has no vni; use mode \"switch\" \
                         or \"hub\", or remove the vni"
                    );
                    self.report("mode", 0, message);
                }
            }
        }
        let count = bridge.peers.len();
        if count > MAX_PEERS {
            let message =
                format!("bridge {name}: {count} peers are too many; give at most {MAX_PEERS}");
            self.report("peers", MAX_PEERS, message);
            return;
        }
        let port = vtep.map_or(VtepSpec::DEFAULT_PORT, |vtep| vtep.port);
        let mut taken = HashMap::new();
        for (item, &peer) in bridge.peers.iter().enumerate() {
            let problem = match taken.insert(peer.ip, peer.address(port)) {
                Some(other) if other == peer.address(port) => {
                    Some("is there twice; keep one of them".to_owned())
                }
                Some(other) => Some(same_address(other)),
                None => no_peer(peer, vtep),
            };
            if let Some(problem) = problem {
                let message = format!("bridge {name}: peer {peer} {problem}");
                self.report("peers", item, message);
            }
        }
    }

    /// What a static entry that points to `peer` may not be. `home` is its bridge, if there is that
    /// bridge, and `taken` has the addresses of remotes before this one.
    pub(super) fn remote<'a>(
        &mut self,
        entry: &'a StaticSpec,
        peer: PeerAddr,
        home: Option<&BridgeSpec>,
        vtep: Option<&VtepSpec>,
        taken: &mut HashMap<(&'a Name, IpAddr), SocketAddr>,
    ) {
        let StaticSpec {
            bridge, mac, vlan, ..
        } = entry;
        let port = vtep.map_or(VtepSpec::DEFAULT_PORT, |vtep| vtep.port);
        let address = peer.address(port);
        let before = *taken.entry((bridge, peer.ip)).or_insert_with(|| {
            let peers = home.iter().flat_map(|home| &home.peers);
            let listed = peers.map(|peer| peer.address(port));
            let mut same = listed.filter(|other| other.ip() == peer.ip);
            same.next().unwrap_or(address)
        });
        let problem = match home.map(|home| home.vni) {
            None => Some(format!("needs bridge {bridge}, which is not there")),
            Some(None) => Some(format!(
                "needs a vni on bridge {bridge}; add one, name a port, or delete the entry: \
                 tapswitch fdb del {mac} --bridge {bridge}{}",
                match vlan {
                    0 => String::new(),
                    vlan => format!(" --vlan {vlan}"),
                }
            )),
            Some(Some(_)) if before != address => Some(same_address(before)),
            Some(Some(_)) => no_peer(peer, vtep),
        };
        if let Some(problem) = problem {
            let message = format!("static FDB entry {mac}: remote {peer} {problem}");
            self.report("remote", 0, message);
        }
    }
}

/// Two VTEPs of a bridge at one address.
fn same_address(other: SocketAddr) -> String {
    format!(
        "has the address of {other}, and who sends is known by the address alone; keep one of them"
    )
}

/// Why nothing can be sent to `peer`, if that is so.
fn no_peer(peer: PeerAddr, vtep: Option<&VtepSpec>) -> Option<String> {
    if let Some(problem) = no_endpoint(peer.ip) {
        return Some(format!(
            "is {problem}; write the underlay address of the other host"
        ));
    }
    let vtep = vtep?;
    let local = vtep.local;
    if local.is_ipv4() != peer.ip.is_ipv4() {
        let (theirs, ours) = (family(peer.ip), family(local));
        return Some(format!(
            "is of {theirs}, and the VTEP's local {local} of {ours}; write its {ours} address"
        ));
    }
    let is_us = peer.address(vtep.port) == vtep.address();
    is_us.then(|| "is this VTEP itself; remove it".to_owned())
}

/// Why no VTEP can be at `ip`, if that is so.
fn no_endpoint(ip: IpAddr) -> Option<&'static str> {
    let (is_broadcast, is_link_local, is_mapped) = match ip {
        IpAddr::V4(ip) => (ip.is_broadcast(), ip.is_link_local(), false),
        IpAddr::V6(ip) => (
            false,
            ip.is_unicast_link_local(),
            ip.to_ipv4_mapped().is_some(),
        ),
    };
    if ip.is_unspecified() {
        Some("no host's address")
    } else if ip.is_multicast() {
        // Flooded frames go to each peer by itself: head-end replication.
        Some("a multicast group, which no VTEP has for its own")
    } else if is_broadcast {
        Some("the broadcast address")
    } else if is_link_local {
        Some("link-local, so it says nothing without an interface")
    } else if is_mapped {
        Some("an IPv4 address in IPv6's clothes")
    } else {
        None
    }
}

/// Every flooded frame is sent to each of them.
const MAX_PEERS: usize = 1024;

#[cfg(test)]
mod tests {
    use crate::config::{parse, write};

    /// The messages with their places, one on each line.
    fn errors(text: &str) -> String {
        let diagnostics = parse(text).unwrap_err();
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    #[test]
    fn a_vni_needs_an_endpoint_and_belongs_to_one_bridge() {
        let text = r#"bridge = [
  { name = "br0", vni = 42 },
  { name = "br1", vni = 42 },
]
"#;

        assert_eq!(
            errors(text),
            "2:25: bridge br0: vni 42 needs a VTEP; add [vtep] with local = \"IP\", or ask for one: tapswitch vtep set --local IP
3:25: bridge br1: vni 42 is already bridge br0's; choose another one
3:25: bridge br1: vni 42 needs a VTEP; add [vtep] with local = \"IP\", or ask for one: tapswitch vtep set --local IP"
        );
    }

    #[test]
    fn what_the_overlay_carries_needs_a_vni_and_is_no_wire() {
        let text = r#"
vtep = { local = "192.168.50.10" }
[[bridge]]
name = "br0"
peers = ["192.168.50.20"]
fdb = [{ mac = "02:00:00:00:00:01", remote = "192.168.50.20" }]
[[bridge]]
name = "w"
mode = "wire"
vni = 1
"#;

        assert_eq!(
            errors(text),
            "5:10: bridge br0: peers need a vni on the bridge; add one, or remove the peers (--peer none)
6:46: static FDB entry 02:00:00:00:00:01: remote 192.168.50.20 needs a vni on bridge br0; add one, name a port, or delete the entry: tapswitch fdb del 02:00:00:00:00:01 --bridge br0
9:8: bridge w: a wire joins two ports and has no vni; use mode \"switch\" or \"hub\", or remove the vni"
        );
    }

    #[test]
    fn a_peer_is_another_host_of_the_same_family_and_there_once() {
        let text = r#"
[vtep]
local = "192.168.50.10"
[[bridge]]
name = "br0"
vni = 42
peers = [
  "192.168.50.20",
  "192.168.50.20:4789",
  "192.168.50.20:8472",
  "192.168.50.10",
  "192.168.50.10:8472",
  "127.0.0.1",
  "fd00::1",
  "0.0.0.0",
  "239.1.1.1",
  "255.255.255.255",
  "169.254.1.1",
]
fdb = [
  { mac = "02:00:00:00:00:01", remote = "192.168.50.10:4789" },
  { mac = "02:00:00:00:00:02", remote = "ff02::1" },
  { mac = "02:00:00:00:00:03", remote = "192.168.50.30" },
]
"#;

        assert_eq!(
            errors(text),
            "9:3: bridge br0: peer 192.168.50.20:4789 is there twice; keep one of them
10:3: bridge br0: peer 192.168.50.20:8472 has the address of 192.168.50.20:4789, and who sends is known by the address alone; keep one of them
11:3: bridge br0: peer 192.168.50.10 is this VTEP itself; remove it
12:3: bridge br0: peer 192.168.50.10:8472 has the address of 192.168.50.10:4789, and who sends is known by the address alone; keep one of them
14:3: bridge br0: peer fd00::1 is of IPv6, and the VTEP's local 192.168.50.10 of IPv4; write its IPv4 address
15:3: bridge br0: peer 0.0.0.0 is no host's address; write the underlay address of the other host
16:3: bridge br0: peer 239.1.1.1 is a multicast group, which no VTEP has for its own; write the underlay address of the other host
17:3: bridge br0: peer 255.255.255.255 is the broadcast address; write the underlay address of the other host
18:3: bridge br0: peer 169.254.1.1 is link-local, so it says nothing without an interface; write the underlay address of the other host
21:41: static FDB entry 02:00:00:00:00:01: remote 192.168.50.10:4789 is this VTEP itself; remove it
22:41: static FDB entry 02:00:00:00:00:02: remote ff02::1 is a multicast group, which no VTEP has for its own; write the underlay address of the other host"
        );
    }

    #[test]
    fn an_endpoint_is_at_an_address_of_a_host() {
        for (local, cause) in [
            ("::", "no host's address"),
            ("ff05::1", "a multicast group"),
            ("fe80::1", "link-local"),
            ("::ffff:192.168.50.10", "an IPv4 address in IPv6's clothes"),
        ] {
            let found = errors(&format!("vtep = {{ local = \"{local}\" }}"));
            let start = format!("1:18: vtep: local {local} is {cause}");
            assert!(found.starts_with(&start), "{found}");
            assert!(found.contains("; write one of this host's addresses"));
        }
        for local in ["127.0.0.1", "fd00::1", "10.0.0.1"] {
            parse(&format!("vtep = {{ local = \"{local}\" }}")).unwrap();
        }
    }

    #[test]
    fn numbers_of_an_endpoint_have_their_ranges() {
        let text = r#"
[vtep]
local = "fd00::1"
port = 0
ttl = 0
tos = 186
"#;

        assert_eq!(
            errors(text),
            "4:8: vtep: port 0 is no port; write 1 to 65535, or leave it out for 4789
5:7: vtep: ttl 0 lets no datagram leave the host; write 1 to 255
6:7: vtep: tos 186 has ECN bits, which follow the inner packet; write 184"
        );
    }

    #[test]
    fn peers_have_a_limit() {
        let switch = |count: u32| {
            let mut spec =
                parse("vtep = { local = \"10.0.0.1\" }\n[[bridge]]\nname = \"b\"\nvni = 1\n")
                    .unwrap();
            let peers = (0..count).map(|n| std::net::Ipv4Addr::from(0x0a01_0000 + n));
            spec.bridges[0].peers = peers
                .map(|ip| crate::config::PeerAddr::new(ip.into()))
                .collect();
            write(&spec)
        };
        parse(&switch(1024)).unwrap();
        let found = errors(&switch(1025));
        assert!(
            found.contains("bridge b: 1025 peers are too many; give at most 1024"),
            "{found}"
        );
    }

    #[test]
    fn what_the_kernel_can_do_over_an_overlay_is_allowed() {
        parse(
            r#"
[vtep]
local = "fd00::1"
udpcsum = false
[[bridge]]
name = "full"
vni = 0
mtu = 1500
[[bridge]]
name = "hub"
mode = "hub"
vni = 16777215
peers = ["fd00::2"]
"#,
        )
        .unwrap();
    }
}
