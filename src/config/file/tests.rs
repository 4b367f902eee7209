use proptest::prelude::*;

use super::*;
use crate::{
    config::{Accept, Place, Tos, VtepSpec, arbitrary::switch, write},
    wire::Vni,
};

/// The messages with their places, one on each line.
fn errors(text: &str) -> String {
    let diagnostics = parse(text).unwrap_err();
    let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

const EXAMPLE: &str = r#"
[[bridge]]
name = "br0"
mtu = "auto"
ageing = "5m"
forward_reserved = "lldp,stp"

[[bridge.port]]
name = "podA"
netns = "nsA"
addresses = ["10.244.1.2/24", "2001:db8::2/64"]
gateway = ["10.244.1.1", "2001:db8::1"]
routes = ["10.244.0.0/16,via 10.244.1.1"]
mac = "02:00:00:00:00:01"
learning = false

[[bridge.fdb]]
mac = "02:00:00:00:00:09"
port = "podA"

[[bridge]]
name = "br1"
ageing = 60
"#;

#[test]
fn a_file_is_read_with_its_defaults() {
    let spec = parse(EXAMPLE).unwrap();

    assert_eq!(spec.bridges.len(), 2);
    assert_eq!(spec.bridges[0].ageing, Duration::from_secs(300));
    assert_eq!(spec.bridges[0].mtu, None);
    assert_eq!(spec.bridges[1].ageing, Duration::from_secs(60));
    let port = &spec.ports[0];
    assert_eq!(port.effective_ifname().as_str(), "eth0");
    assert_eq!(port.gateways.len(), 2);
    assert!(!port.flags.learning && port.flags.flood && port.flags.up);
    assert_eq!(spec.fdb[0].bridge.as_str(), "br0");
    assert_eq!(parse("").unwrap(), SwitchSpec::default());
}

#[test]
fn every_error_of_a_file_is_reported_at_once_with_its_place() {
    let text = r#"[[bridge]]
name = "br0"
aging = "5m"
mtu = 60
ageing = "5 minutes"
mode = "router"

[[bridge.port]]
name = "tap%d"
mac = "03:00"
[[bridge.port]]
name = "b"
netns = "../etc"
addresses = ["10.0.0.1", "10.0.0.2/33", 5]
learning = "no"
mtu = "auto"
txqueuelen = -1
"#;

    assert_eq!(
        errors(text),
        r#"3:1: unknown key "aging" in a bridge; did you mean "ageing"?
4:7: bridge br0: mtu 60 is out of range 68..=65521
5:10: ageing: "5 minutes" is not a duration; write a number with a unit such as 300s, 5m, 1h or 500ms
6:8: mode is "switch" or "hub" or "wire", found "router"
9:8: name: name "tap%d" contains '%'; use letters, digits, '.', '_' and '-'
10:7: mac: "03:00" is not a MAC address; write six hex octets such as 02:00:00:00:00:01
13:9: netns: network namespace "../etc": it is a relative path; give a name, pid:N or an absolute path
14:14: addresses: "10.0.0.1" has no prefix length; write 10.0.0.1/24, for example
14:26: addresses: "10.0.0.2/33" is not an address with a prefix length; write 192.0.2.1/24 or 2001:db8::1/64
14:41: addresses is a string, found the number 5
15:12: learning is true or false, found "no"
16:7: mtu is a number of bytes, found "auto"
17:14: txqueuelen: -1 is out of range"#
    );
}

#[test]
fn broken_syntax_is_reported_with_its_place_and_without_consequences() {
    let text = "[[bridge]]\nname = \"br0\nmtu = 1500\n\n[[bridge]]\nnmae = \"br1\"\n";

    let found = errors(text);

    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 2, "{found}");
    assert!(lines[0].starts_with("2:"), "{found}");
    assert!(lines[1].starts_with("6:1: unknown key \"nmae\""), "{found}");
}

#[test]
fn names_and_plugs_are_taken_once() {
    let text = r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "a"
netns = "ns"
[[bridge.port]]
name = "b"
netns = "/run/netns/ns"
ifname = "eth0"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "a"
netns = "other"
"#;

    assert_eq!(
        errors(text),
        "10:10: port b: interface eth0 in netns /run/netns/ns is already port a; set another ifname
12:8: bridge br0: name is already taken; choose another one
14:8: port a: name is already taken; choose another one"
    );
}

#[test]
fn next_hops_must_be_on_the_link() {
    let text = r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "a"
netns = "a"
addresses = ["192.0.2.1/24"]
gateway = "198.51.100.1"
routes = ["10.0.0.0/8,via 10.1.1.1", "2001:db8::/32", "10.0.0.0/8"]
[[bridge.port]]
name = "b"
netns = "b"
addresses = ["192.0.2.1/24"]
gateway = ["192.0.2.254", "192.0.2.253", "2001:db8::1"]
[[bridge.port]]
name = "c"
netns = "c"
addresses = ["2001:db8::1/64", "192.0.2.3/24"]
gateway = ["fe80::1", "192.0.2.3"]
"#;

    assert_eq!(
        errors(text),
        "8:11: port a: gateway 198.51.100.1 is not inside any of its networks (192.0.2.0/24)
9:38: port a: route 2001:db8::/32 needs an IPv6 address on the port; add one to addresses
9:55: port a: route 10.0.0.0/8 is there twice; keep one of them
13:14: port b: address 192.0.2.1 is already port a's on bridge br0
14:27: port b: gateway 192.0.2.253 is the second one for IPv4; keep one, or write a route
14:42: port b: gateway 2001:db8::1 is of a family that the port has no address of; add an IPv6 address
19:23: port c: gateway 192.0.2.3 is the port's own address"
    );
}

#[test]
fn a_wire_has_two_ends_and_static_entries_have_ports() {
    let text = r#"
[[bridge]]
name = "w"
mode = "wire"
port = [{ name = "a" }, { name = "b" }, { name = "c", mac = "01:00:5e:00:00:01" }]
fdb = [
  { mac = "02:00:00:00:00:01", port = "x" },
  { mac = "ff:ff:ff:ff:ff:ff", port = "a" },
  { mac = "02:00:00:00:00:01", port = "a", vlan = 4095 },
  { port = "a" },
]
"#;

    assert_eq!(
        errors(text),
        "4:8: bridge w: a wire joins two ports, found 3; use mode \"switch\" or \"hub\"
5:61: port c: mac 01:00:5e:00:00:01 is a group address; make the first octet even
7:39: static FDB entry 02:00:00:00:00:01: there is no port x on bridge w
8:11: static FDB entry: mac ff:ff:ff:ff:ff:ff is a group address; make the first octet even
9:51: static FDB entry 02:00:00:00:00:01: vlan 4095 is out of range 0..=4094
10:3: a static FDB entry has no mac; add one"
    );
}

#[test]
fn an_address_that_cannot_be_read_is_not_missed_by_its_gateway() {
    let text = r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "a"
addresses = ["192.0.2.1"]
gateway = "192.0.2.254"
"#;

    let found = errors(text);

    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(found.starts_with("6:14: addresses:"), "{found}");
}

#[test]
fn an_overlay_is_read_with_its_defaults() {
    let spec = parse(
        r#"
[vtep]
local = "192.168.50.10"
netns = "nodeA"
accept = "any"
tos = "inherit"
offload = "off"
strict = true

[[bridge]]
name = "br0"
vni = 42
peers = ["192.168.50.20", "192.168.50.30:8472"]
peer_learning = false

[[bridge.fdb]]
mac = "02:00:00:00:00:09"
remote = "192.168.50.20"
"#,
    )
    .unwrap();

    let vtep = spec.vtep.unwrap();
    assert_eq!((vtep.port, vtep.ttl, vtep.tos), (4789, 64, Tos::Inherit));
    assert_eq!((vtep.accept, vtep.offload), (Accept::Any, OffloadMode::Off));
    assert!(vtep.strict && vtep.udpcsum && !vtep.udp6zerocsumrx && vtep.too_big_answers);
    let bridge = &spec.bridges[0];
    assert_eq!(bridge.vni, Vni::new(42));
    assert_eq!(bridge.peers[1].address(vtep.port).port(), 8472);
    assert!(!bridge.peer_learning);
    let remote = "192.168.50.20".parse().unwrap();
    assert_eq!(spec.fdb[0].place, Place::Peer(remote));
    let spec = parse("[vtep]\nlocal = \"fd00::1\"").unwrap();
    assert_eq!(spec.vtep, Some(VtepSpec::new("fd00::1".parse().unwrap())));
}

#[test]
fn every_error_of_an_overlay_has_its_place_and_no_consequences() {
    let text = r#"[vtep]
local = "nodeA"
prot = 4789
port = 65536
accept = "all"
tos = "high"
ttl = 256
udpcsum = "off"
[[bridge]]
name = "br0"
vni = 16777216
peers = ["192.168.50.20", "nodeB", 5, "192.168.50.20"]
peer_learning = 1
fdb = [
  { mac = "02:00:00:00:00:01", port = "a", remote = "192.168.50.20" },
  { mac = "02:00:00:00:00:01" },
  { mac = "02:00:00:00:00:02", remote = "192.168.50.20:0" },
  { mac = "02:00:00:00:00:03", remote = "192.168.50.20" },
]
[[bridge]]
name = "br1"
vni = 7
peers = ["fd00::1"]
"#;

    assert_eq!(
        errors(text),
        r#"2:9: local: "nodeA" is not an IP address; write one such as 192.168.50.10 or fd00::1
3:1: unknown key "prot" in the vtep; did you mean "port"?
4:8: port: 65536 is out of range
5:10: accept is "peers" or "any", found "all"
6:7: tos is a number or "inherit", found "high"
7:7: ttl: 256 is out of range
8:11: udpcsum is true or false, found "off"
11:7: vni: 16777216 is out of range 0..=16777215
12:27: peers: "nodeB" is not a VTEP's address; write IP or IP:PORT such as 192.168.50.20, 192.168.50.20:8472 or [fd00::1]:8472
12:36: peers is a string, found the number 5
13:17: peer_learning is true or false, found the number 1
15:53: remote: the entry has a port already; keep one of them
16:3: a static FDB entry has no port and no remote; add one of them
17:41: remote: "192.168.50.20:0" is not a VTEP's address; write IP or IP:PORT such as 192.168.50.20, 192.168.50.20:8472 or [fd00::1]:8472"#
    );
    assert_eq!(errors("[vtep]"), "1:1: the vtep has no local; add one");
    assert_eq!(
        errors("vtep = 5"),
        "1:8: the vtep is a table, found the number 5"
    );
}

#[test]
fn a_table_of_the_wrong_shape_is_an_error() {
    for text in [
        "bridge = 5",
        "bridge = [5]",
        "[bridge]\nname = \"x\"",
        "[[bridge]]\nname = 5\nport = 7",
    ] {
        assert!(parse(text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn a_hopeless_file_gets_a_hundred_diagnostics_and_the_number_of_the_others() {
    let text = "[[bridge]]\nnonsense = 1\n".repeat(500);
    let diagnostics = parse(&text).unwrap_err();
    assert_eq!(diagnostics.len(), 101);
    let last = diagnostics.last().unwrap();
    assert!(last.message.starts_with("... and "), "{last:?}");
    assert!(last.message.contains("more"), "{last:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read_back(spec in switch()) {
        let text = write(&spec);
        prop_assert_eq!(parse(&text), Ok(spec), "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        drop(parse(&text));
    }

    #[test]
    fn a_damaged_file_is_a_switch_or_an_error(
        spec in switch(),
        at in any::<prop::sample::Index>(),
        len in 0_usize..12,
        patch in "[\\[\\]{}=\"'#,.\\n\\\\ a-z0-9:/-]{0,6}",
    ) {
        let mut chars: Vec<char> = write(&spec).chars().collect();
        let at = at.index(chars.len() + 1);
        let end = (at + len).min(chars.len());
        chars.splice(at..end, patch.chars());
        let text: String = chars.into_iter().collect();
        if let Err(diagnostics) = parse(&text) {
            prop_assert!(!diagnostics.is_empty());
        }
    }
}
