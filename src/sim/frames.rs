//! Frames to send: whole, correct, and as short as they can be, unless their name says otherwise.
//!
//! Host number `n` has the address `02:00:00:00:00:0n`, 192.0.2.`n` and 2001:db8::`n`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType as Type, PacketBuilder};

use crate::{
    craft::{self, Built, Sender},
    wire::{EtherType, MacAddr},
};

/// The address of host number `n`.
pub const fn mac(n: u16) -> MacAddr {
    MacAddr::from_u48(0x0200_0000_0000 + n as u64)
}

/// The IPv4 address of host number `n`.
pub const fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

/// The IPv6 address of host number `n`.
pub const fn ip6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n)
}

/// An EtherType that is free for experiments (IEEE 802, 88-B5), which no host understands.
pub const EXPERIMENT: EtherType = EtherType(0x88b5);

/// Any frame: addresses, type and payload, without padding.
pub fn ethernet(src: MacAddr, dst: MacAddr, ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.extend_from_slice(&dst.octets());
    frame.extend_from_slice(&src.octets());
    frame.extend_from_slice(&ether_type.0.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A small frame to one address, of a type that no host understands.
pub fn unicast(src: MacAddr, dst: MacAddr) -> Vec<u8> {
    ethernet(
        src,
        dst,
        EXPERIMENT,
        b"tapswitch lab, a frame to be switched as it is",
    )
}

/// A small frame to everybody.
pub fn broadcast(src: MacAddr) -> Vec<u8> {
    unicast(src, MacAddr::BROADCAST)
}

/// A frame of exactly `len` bytes, at least the header; the payload counts up.
pub fn of_len(src: MacAddr, dst: MacAddr, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(len.saturating_sub(14)).collect();
    ethernet(src, dst, EXPERIMENT, &payload)
}

/// The first `len` bytes of a broadcast: below 14, less than an Ethernet header.
pub fn runt(src: MacAddr, len: usize) -> Vec<u8> {
    let mut frame = broadcast(src);
    frame.truncate(len);
    frame
}

/// `frame` with an 802.1Q tag for `vlan`.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    tagged_as(frame, EtherType::VLAN, vlan)
}

/// `frame` with a tag of this type; `control` is priority and VLAN id.
pub fn tagged_as(frame: &[u8], tag: EtherType, control: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    let mut bytes = Vec::with_capacity(frame.len() + 4);
    bytes.extend_from_slice(addresses);
    bytes.extend_from_slice(&tag.0.to_be_bytes());
    bytes.extend_from_slice(&control.to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

/// Host `from` asks who has the address of host `to`.
pub fn arp_request(from: u8, to: u8) -> Vec<u8> {
    let arp = arp(ArpOperation::REQUEST, from, MacAddr::ZERO, to);
    let builder = PacketBuilder::ethernet2(mac(from.into()).octets(), MacAddr::BROADCAST.octets());
    build(|frame| builder.arp(arp).write_to_vec(frame))
}

/// Host `from` tells host `to` its address.
pub fn arp_reply(from: u8, to: u8) -> Vec<u8> {
    let arp = arp(ArpOperation::REPLY, from, mac(to.into()), to);
    let builder = PacketBuilder::ethernet2(mac(from.into()).octets(), mac(to.into()).octets());
    build(|frame| builder.arp(arp).write_to_vec(frame))
}

/// Host `from` pings host `to`.
pub fn echo_request(from: u8, to: u8, sequence: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(from.into()).octets(), mac(to.into()).octets())
        .ipv4(ip(from).octets(), ip(to).octets(), 64)
        .icmpv4_echo_request(1, sequence);
    build(|frame| builder.write_to_vec(frame, b"ping"))
}

/// Host `from` answers the ping of host `to`.
pub fn echo_reply(from: u8, to: u8, sequence: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(from.into()).octets(), mac(to.into()).octets())
        .ipv4(ip(from).octets(), ip(to).octets(), 64)
        .icmpv4_echo_reply(1, sequence);
    build(|frame| builder.write_to_vec(frame, b"ping"))
}

/// A UDP datagram over IPv4 from port 1000 to port 2000.
pub fn udp4(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(from.into()).octets(), mac(to.into()).octets())
        .ipv4(ip(from).octets(), ip(to).octets(), 64)
        .udp(1000, 2000);
    build(|frame| builder.write_to_vec(frame, payload))
}

/// A UDP datagram over IPv6 from port 1000 to port 2000.
pub fn udp6(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(from.into()).octets(), mac(to.into()).octets())
        .ipv6(ip6(from.into()).octets(), ip6(to.into()).octets(), 64)
        .udp(1000, 2000);
    build(|frame| builder.write_to_vec(frame, payload))
}

/// A TCP segment with ACK over IPv4 from port 1000 to port 2000.
pub fn tcp4(from: u8, to: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(from.into()).octets(), mac(to.into()).octets())
        .ipv4(ip(from).octets(), ip(to).octets(), 64)
        .tcp(1000, 2000, sequence, 0xffff)
        .ack(1);
    build(|frame| builder.write_to_vec(frame, payload))
}

/// A TCP segment with ACK over IPv6 from port 1000 to port 2000.
pub fn tcp6(from: u8, to: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(from.into()).octets(), mac(to.into()).octets())
        .ipv6(ip6(from.into()).octets(), ip6(to.into()).octets(), 64)
        .tcp(1000, 2000, sequence, 0xffff)
        .ack(1);
    build(|frame| builder.write_to_vec(frame, payload))
}

/// What host `from` sends in words, as its kernel would: `icmp 192.0.2.2`, `tcp 192.0.2.2:80 len 4000
/// mss 1000`; see [`craft`]. Whoever it is for is one of the hosts here, or everybody.
///
/// ```
/// use tapswitch::{sim::frames, wire::describe};
///
/// let echo = frames::packet(1, "icmp 192.0.2.2");
/// assert_eq!(describe(&echo.frame), "icmp 192.0.2.1 > 192.0.2.2 echo request 1");
/// assert!(echo.header.is_plain());
/// ```
///
/// # Panics
/// If that is no packet, or for a host that is none of these.
pub fn packet(from: u8, words: &str) -> Built {
    let packet = craft::parse(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let sender = Sender {
        mac: mac(from.into()),
        addresses: vec![ip(from).into(), ip6(from.into()).into()],
    };
    let to = packet.asks_for().and_then(mac_of);
    let built = packet.build(&sender, to);
    built.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// The address of the host that has this IP address.
fn mac_of(host: IpAddr) -> Option<MacAddr> {
    match host {
        IpAddr::V4(host) => {
            let [.., n] = host.octets();
            (host == ip(n)).then(|| mac(n.into()))
        }
        IpAddr::V6(host) => {
            let [.., n] = host.segments();
            (host == ip6(n)).then(|| mac(n))
        }
    }
}

/// Endless talk between so many hosts, at least two, one behind each port: who sends, counted from
/// 0, and what. Mostly to one host, seldom to everybody, and some of them move now and then to the
/// port of another, where they speak from then on. The same `seed` yields the same.
///
/// ```
/// use tapswitch::sim::frames;
///
/// let talk: Vec<_> = frames::talk(1, 4).take(1000).collect();
/// assert_eq!(talk, frames::talk(1, 4).take(1000).collect::<Vec<_>>());
/// assert!(talk.iter().all(|&(port, _)| port < 4));
/// ```
///
/// # Panics
/// For fewer than two hosts.
pub fn talk(seed: u64, hosts: u16) -> impl Iterator<Item = (usize, Vec<u8>)> {
    assert!(hosts >= 2, "nobody talks alone");
    let mut state = seed;
    let mut random = move |below: u16| {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = state;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [.., low, lower] = (number ^ (number >> 31)).to_be_bytes();
        u16::from_be_bytes([low, lower]) % below
    };
    let mut places: Vec<usize> = (0..usize::from(hosts)).collect();
    std::iter::repeat_with(move || {
        let from = random(hosts);
        if random(50) == 0 {
            places[usize::from(from)] = random(hosts).into();
        }
        let to = match random(10) {
            0 => MacAddr::BROADCAST,
            // One that never says anything.
            1 => mac(hosts + 1),
            _ => mac(random(hosts) + 1),
        };
        (places[usize::from(from)], unicast(mac(from + 1), to))
    })
}

fn arp(operation: ArpOperation, from: u8, target: MacAddr, to: u8) -> ArpPacket {
    ArpPacket::new(
        ArpHardwareId::ETHERNET,
        Type::IPV4,
        operation,
        &mac(from.into()).octets(),
        &ip(from).octets(),
        &target.octets(),
        &ip(to).octets(),
    )
    .expect("Ethernet and IPv4 addresses fit an ARP packet")
}

fn build<E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame).expect("the payload of a lab's frame is below 64 KiB");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    #[test]
    fn frames_are_what_their_names_say() {
        let frame = arp_request(1, 2);
        let view = Frame::new_checked(&frame).unwrap();
        assert_eq!((view.src(), view.ether_type()), (mac(1), EtherType::ARP));
        assert!(view.dst().is_broadcast());

        let frame = tagged(&udp4(1, 2, b"x"), 10);
        assert_eq!(Frame::new_checked(&frame).unwrap().vlan(), 10);

        assert_eq!(of_len(mac(1), mac(2), 1514).len(), 1514);
        assert!(Frame::new_checked(&runt(mac(1), 13)).is_err());
    }
}
