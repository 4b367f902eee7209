//! A frame in one line of text, as `tcpdump` would put it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpOperation, ArpPacketSlice, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type,
    LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice,
};

use super::{EtherType, Frame, MacAddr};

/// What `frame` is, in a few words: `arp who-has 192.0.2.2 tell 192.0.2.1`.
///
/// For people, not for decisions: the text may change. Any bytes will do; what cannot be read is
/// told by its type and length.
pub fn describe(frame: &[u8]) -> String {
    let Ok(view) = Frame::new_checked(frame) else {
        return format!("truncated frame, {}", bytes(frame.len()));
    };
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return opaque(view.ether_type(), view.dst(), frame.len());
    };
    let mut text = String::new();
    let mut payload = view.ether_type();
    let mut skipped = Frame::HEADER_LEN;
    for tag in &packet.link_exts {
        if let LaxLinkExtSlice::Vlan(tag) = tag {
            text.push_str(&format!("vlan {}, ", tag.vlan_identifier().value()));
            payload = EtherType(tag.ether_type().0);
            skipped += Frame::TAG_LEN;
        }
    }
    let rest = match &packet.net {
        Some(LaxNetSlice::Arp(arp)) => arp_text(arp),
        Some(net) => ip_text(net, packet.transport.as_ref()),
        None => opaque(payload, view.dst(), frame.len().saturating_sub(skipped)),
    };
    text + &rest
}

/// What the bridge reads of `frame`: `02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, untagged, ARP`.
pub fn describe_header(frame: &Frame<'_>) -> String {
    let tag = match (frame.ether_type().is_tag(), frame.vlan()) {
        (false, _) => "untagged".to_owned(),
        (true, 0) => "priority-tagged".to_owned(),
        (true, vlan) => format!("VLAN {vlan}"),
    };
    let kind = match frame.ether_type() {
        EtherType::ARP => "ARP".to_owned(),
        EtherType::IPV4 => "IPv4".to_owned(),
        EtherType::IPV6 => "IPv6".to_owned(),
        EtherType(other) => format!("type 0x{other:04x}"),
    };
    format!("{} > {}, {tag}, {kind}", frame.src(), frame.dst())
}

fn arp_text(arp: &ArpPacketSlice<'_>) -> String {
    let sender = arp.sender_protocol_addr().first_chunk::<4>();
    let target = arp.target_protocol_addr().first_chunk::<4>();
    let hardware = arp.sender_hw_addr().first_chunk::<6>();
    let (Some(&sender), Some(&target), Some(&hardware)) = (sender, target, hardware) else {
        return format!("arp operation {}", arp.operation().0);
    };
    let (sender, target) = (Ipv4Addr::from(sender), Ipv4Addr::from(target));
    match arp.operation() {
        ArpOperation::REQUEST if sender.is_unspecified() => format!("arp probe for {target}"),
        ArpOperation::REQUEST if sender == target => format!("arp announcement of {sender}"),
        ArpOperation::REQUEST => format!("arp who-has {target} tell {sender}"),
        ArpOperation::REPLY => format!("arp {sender} is-at {}", MacAddr::new(hardware)),
        other => format!("arp operation {}", other.0),
    }
}

fn ip_text(net: &LaxNetSlice<'_>, transport: Option<&TransportSlice<'_>>) -> String {
    let (src, dst, protocol, fragment) = match net {
        LaxNetSlice::Ipv4(ip) => (
            IpAddr::from(ip.header().source()),
            IpAddr::from(ip.header().destination()),
            ip.payload_ip_number(),
            ip.is_payload_fragmented(),
        ),
        LaxNetSlice::Ipv6(ip) => (
            IpAddr::from(ip.header().source()),
            IpAddr::from(ip.header().destination()),
            ip.payload().ip_number,
            ip.is_payload_fragmented(),
        ),
        LaxNetSlice::Arp(arp) => return arp_text(arp),
    };
    let ports = |from: u16, to: u16| match src {
        IpAddr::V4(_) => format!("{src}:{from} > {dst}:{to}"),
        IpAddr::V6(_) => format!("[{src}]:{from} > [{dst}]:{to}"),
    };
    match transport {
        _ if fragment => format!("ip {src} > {dst} fragment, protocol {}", protocol.0),
        Some(TransportSlice::Udp(udp)) => format!(
            "udp {}, {}",
            ports(udp.source_port(), udp.destination_port()),
            bytes(udp.payload().len())
        ),
        Some(TransportSlice::Tcp(tcp)) => format!(
            "tcp {} {}, {}",
            ports(tcp.source_port(), tcp.destination_port()),
            tcp_flags(tcp),
            bytes(tcp.payload().len())
        ),
        Some(TransportSlice::Icmpv4(icmp)) => format!("icmp {src} > {dst} {}", icmp_text(icmp)),
        Some(TransportSlice::Icmpv6(icmp)) => format!("icmp6 {src} > {dst} {}", icmp6_text(icmp)),
        Some(TransportSlice::Igmp(_)) => format!("igmp {src} > {dst}"),
        None => format!("ip {src} > {dst} protocol {}", protocol.0),
    }
}

fn tcp_flags(tcp: &TcpSlice<'_>) -> String {
    let names = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
    ];
    let set: Vec<_> = names.iter().filter(|(set, _)| *set).collect();
    let words: Vec<_> = set.iter().map(|(_, name)| *name).collect();
    if words.is_empty() {
        "no flags".to_owned()
    } else {
        words.join("+")
    }
}

fn icmp_text(icmp: &Icmpv4Slice<'_>) -> String {
    match icmp.icmp_type() {
        Icmpv4Type::EchoRequest(echo) => format!("echo request {}", echo.seq),
        Icmpv4Type::EchoReply(echo) => format!("echo reply {}", echo.seq),
        Icmpv4Type::DestinationUnreachable(_) => "destination unreachable".to_owned(),
        Icmpv4Type::TimeExceeded(_) => "time exceeded".to_owned(),
        _ => format!("type {} code {}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn icmp6_text(icmp: &Icmpv6Slice<'_>) -> String {
    // Neighbour messages carry the address asked for behind 8 bytes of header (RFC 4861 §4.3).
    let target = || match icmp
        .slice()
        .get(8..)
        .and_then(|rest| rest.first_chunk::<16>())
    {
        Some(&octets) => Ipv6Addr::from(octets).to_string(),
        None => "?".to_owned(),
    };
    match icmp.icmp_type() {
        Icmpv6Type::EchoRequest(echo) => format!("echo request {}", echo.seq),
        Icmpv6Type::EchoReply(echo) => format!("echo reply {}", echo.seq),
        Icmpv6Type::NeighborSolicitation => format!("neighbour solicitation, who has {}", target()),
        Icmpv6Type::NeighborAdvertisement(_) => {
            format!("neighbour advertisement, {} is here", target())
        }
        Icmpv6Type::RouterSolicitation => "router solicitation".to_owned(),
        Icmpv6Type::RouterAdvertisement(_) => "router advertisement".to_owned(),
        Icmpv6Type::DestinationUnreachable(_) => "destination unreachable".to_owned(),
        Icmpv6Type::TimeExceeded(_) => "time exceeded".to_owned(),
        _ if icmp.type_u8() == MLD2_REPORT => "multicast listener report".to_owned(),
        _ => format!("type {} code {}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn opaque(ether_type: EtherType, dst: MacAddr, len: usize) -> String {
    // Below 1536 the field is a length (IEEE 802.3 clause 3.2.6).
    let name = match ether_type.0 {
        ..0x600 if dst.reserved() == Some(0) => "stp",
        ..0x600 => "802.3 llc",
        0x0800 => "malformed ip",
        0x0806 => "malformed arp",
        0x86dd => "malformed ipv6",
        0x8808 => "ethernet pause",
        0x8809 => "lacp",
        0x888e => "eapol",
        0x88cc => "lldp",
        0x88f7 => "ptp",
        0x8847 | 0x8848 => "mpls",
        other => return format!("ethertype 0x{other:04x}, {}", bytes(len)),
    };
    format!("{name}, {}", bytes(len))
}

/// `1 byte`, `2 bytes`.
pub(crate) fn bytes(len: usize) -> String {
    match len {
        1 => "1 byte".to_owned(),
        len => format!("{len} bytes"),
    }
}

/// ICMPv6 type of an MLDv2 report (RFC 3810 §5.2).
const MLD2_REPORT: u8 = 143;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::frames;

    #[test]
    fn common_frames_read_like_tcpdump() {
        for (frame, text) in [
            (
                frames::arp_request(1, 2),
                "arp who-has 192.0.2.2 tell 192.0.2.1",
            ),
            (
                frames::arp_reply(2, 1),
                "arp 192.0.2.2 is-at 02:00:00:00:00:02",
            ),
            (
                frames::echo_request(1, 2, 7),
                "icmp 192.0.2.1 > 192.0.2.2 echo request 7",
            ),
            (
                frames::udp4(1, 2, b"x"),
                "udp 192.0.2.1:1000 > 192.0.2.2:2000, 1 byte",
            ),
            (
                frames::udp6(1, 2, b"xy"),
                "udp [2001:db8::1]:1000 > [2001:db8::2]:2000, 2 bytes",
            ),
            (
                frames::tcp4(1, 2, 1, b""),
                "tcp 192.0.2.1:1000 > 192.0.2.2:2000 ACK, 0 bytes",
            ),
            (
                frames::tagged(&frames::arp_request(1, 2), 10),
                "vlan 10, arp who-has 192.0.2.2 tell 192.0.2.1",
            ),
            (
                frames::broadcast(frames::mac(1)),
                "ethertype 0x88b5, 46 bytes",
            ),
            (frames::runt(frames::mac(1), 9), "truncated frame, 9 bytes"),
        ] {
            assert_eq!(describe(&frame), text);
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // Every prefix of every frame, and every byte of it replaced.
        for frame in [
            frames::arp_request(1, 2),
            frames::tcp4(1, 2, 3, b"payload"),
            frames::udp6(1, 2, b"payload"),
            frames::tagged(&frames::tagged(&frames::echo_request(1, 2, 3), 5), 6),
        ] {
            for len in 0..=frame.len() {
                assert!(!describe(&frame[..len]).is_empty());
            }
            for position in 12..frame.len() {
                for value in 0..=u8::MAX {
                    let mut broken = frame.clone();
                    broken[position] = value;
                    assert!(!describe(&broken).is_empty());
                }
            }
        }
    }
}
