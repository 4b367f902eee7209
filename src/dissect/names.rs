//! Names of numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::IpNumber;

use crate::wire::{EtherType, MacAddr};

/// What a frame of this type carries (IEEE 802 numbers).
pub(super) const fn ether_type(ether_type: EtherType) -> &'static str {
    match ether_type.0 {
        0x0800 => "IPv4",
        0x0806 => "ARP",
        0x0842 => "Wake-on-LAN",
        0x22f3 => "TRILL",
        0x6558 => "Ethernet, bridged",
        0x8035 => "RARP",
        0x8100 => "VLAN tag, 802.1Q",
        0x86dd => "IPv6",
        0x8808 => "Ethernet flow control",
        0x8809 => "slow protocols: LACP, OAM",
        0x8847 => "MPLS",
        0x8848 => "MPLS, multicast",
        0x8863 => "PPPoE, discovery",
        0x8864 => "PPPoE, session",
        0x888e => "EAPOL, 802.1X",
        0x88a8 => "service VLAN tag, 802.1ad",
        0x88b5 | 0x88b6 => "for local experiments",
        0x88cc => "LLDP",
        0x88e5 => "MACsec",
        0x88f7 => "PTP",
        0x8902 => "CFM",
        0x9000 => "loopback test",
        _ => "",
    }
}

/// What follows an IP header (IANA protocol numbers).
pub(super) fn protocol(number: u8) -> &'static str {
    match number {
        0 => "hop-by-hop options",
        43 => "routing header",
        44 => "fragment header",
        58 => "ICMPv6",
        59 => "nothing",
        60 => "destination options",
        _ => IpNumber(number).keyword_str().unwrap_or(""),
    }
}

/// Whose well-known port it is.
pub(super) const fn port(number: u16) -> &'static str {
    match number {
        20 => "FTP data",
        21 => "FTP",
        22 => "SSH",
        23 => "Telnet",
        25 => "SMTP",
        53 => "DNS",
        67 => "DHCP server",
        68 => "DHCP client",
        69 => "TFTP",
        80 => "HTTP",
        123 => "NTP",
        161 => "SNMP",
        179 => "BGP",
        443 => "HTTPS",
        500 => "IKE",
        514 => "syslog",
        546 => "DHCPv6 client",
        547 => "DHCPv6 server",
        853 => "DNS over TLS",
        1900 => "SSDP",
        3784 => "BFD",
        4500 => "IPsec NAT traversal",
        4789 => "VXLAN",
        4790 => "VXLAN-GPE",
        5201 => "iperf3",
        5353 => "mDNS",
        5355 => "LLMNR",
        6081 => "Geneve",
        6443 => "Kubernetes API",
        8080 => "HTTP",
        8472 => "VXLAN, as Linux had it first",
        _ => "",
    }
}

/// What kind of address it is.
pub(super) fn mac(address: MacAddr) -> String {
    let [a, b, c, d, e, f] = address.octets();
    if address.is_broadcast() {
        return "broadcast".to_owned();
    }
    if address.is_zero() {
        return "no address".to_owned();
    }
    if let Some(last) = address.reserved() {
        let name = match last {
            0x0 => "spanning tree",
            0x1 => "flow control",
            0x2 => "LACP",
            0x3 => "802.1X",
            0xe => "LLDP and others",
            _ => "reserved",
        };
        return format!("link-local group: {name}");
    }
    match [a, b, c] {
        [0x01, 0x00, 0x5e] if d < 0x80 => {
            format!("multicast, of IPv4 groups such as 224.{d}.{e}.{f}")
        }
        [0x33, 0x33, _] => format!("multicast, of IPv6 groups ...{c:02x}{d:02x}:{e:02x}{f:02x}"),
        [0x01, 0x80, 0xc2] => "multicast, of IEEE 802".to_owned(),
        [0x02, 0x42, _] => "unicast, local; as Docker makes them".to_owned(),
        [0x52, 0x54, 0x00] => "unicast, local; as QEMU makes them".to_owned(),
        _ if address.is_group() => "multicast".to_owned(),
        _ if a & 2 != 0 => "unicast, local".to_owned(),
        _ => format!("unicast, of vendor {a:02x}:{b:02x}:{c:02x}"),
    }
}

/// What kind of address it is; empty for ordinary ones.
pub(super) fn ip(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(address) => ipv4(address),
        IpAddr::V6(address) => ipv6(address),
    }
}

fn ipv4(address: Ipv4Addr) -> &'static str {
    match address.octets() {
        [255, 255, 255, 255] => "limited broadcast",
        [0, 0, 0, 0] => "no address",
        [224, 0, 0, 1] => "all hosts",
        [224, 0, 0, 2] => "all routers",
        [224, 0, 0, 22] => "all IGMPv3 routers",
        [224, 0, 0, 251] => "mDNS",
        [239, 255, 255, 250] => "SSDP",
        [224..=239, ..] => "multicast",
        [127, ..] => "loopback",
        [169, 254, ..] => "link-local",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private",
        [100, 64..=127, ..] => "shared, carrier-grade NAT",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "for documentation",
        [198, 18..=19, ..] => "for benchmarks",
        [240..=255, ..] => "reserved",
        _ => "",
    }
}

fn ipv6(address: Ipv6Addr) -> &'static str {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "no address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        [0, 0, 0, 0, 0, 0xffff, ..] => "mapped IPv4",
        [0xff02, 0, 0, 0, 0, 0, 0, 1] => "all nodes",
        [0xff02, 0, 0, 0, 0, 0, 0, 2] => "all routers",
        [0xff02, 0, 0, 0, 0, 0, 0, 0x16] => "all MLDv2 routers",
        [0xff02, 0, 0, 0, 0, 0, 0, 0xfb] => "mDNS",
        [0xff02, 0, 0, 0, 0, 1, 0xff00..=0xffff, _] => "solicited node",
        [0xff00..=0xffff, ..] => "multicast",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfc00..=0xfdff, ..] => "unique local",
        [0x2001, 0xdb8, ..] => "for documentation",
        _ => "",
    }
}

/// The names of the DSCP (RFC 2474, 2597, 3246, 8622).
pub(super) const fn dscp(value: u8) -> &'static str {
    match value {
        0 => "default",
        1 => "LE, lower effort",
        8 => "CS1",
        10 => "AF11",
        12 => "AF12",
        14 => "AF13",
        16 => "CS2",
        18 => "AF21",
        20 => "AF22",
        22 => "AF23",
        24 => "CS3",
        26 => "AF31",
        28 => "AF32",
        30 => "AF33",
        32 => "CS4",
        34 => "AF41",
        36 => "AF42",
        38 => "AF43",
        40 => "CS5",
        46 => "EF, expedited",
        48 => "CS6",
        56 => "CS7",
        _ => "",
    }
}

/// Congestion marks (RFC 3168 §5).
pub(super) const fn ecn(value: u8) -> &'static str {
    match value {
        0 => "Not-ECT: drops tell of congestion",
        1 => "ECT(1): marks may tell of congestion",
        2 => "ECT(0): marks may tell of congestion",
        _ => "CE: congestion on the way",
    }
}
