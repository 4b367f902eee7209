//! The IP addresses that a frame speaks of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv6Type, LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// The addresses of sender and receiver, and of whoever ARP or neighbour discovery asks for. Any
/// bytes will do.
pub fn hosts(frame: &[u8]) -> Vec<IpAddr> {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return Vec::new();
    };
    let mut hosts: Vec<IpAddr> = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            vec![
                header.source_addr().into(),
                header.destination_addr().into(),
            ]
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            vec![
                header.source_addr().into(),
                header.destination_addr().into(),
            ]
        }
        Some(LaxNetSlice::Arp(arp)) => [arp.sender_protocol_addr(), arp.target_protocol_addr()]
            .into_iter()
            .filter_map(|bytes| bytes.first_chunk::<4>())
            .map(|&bytes| Ipv4Addr::from(bytes).into())
            .collect(),
        None => Vec::new(),
    };
    if let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport
        && matches!(
            icmp.icmp_type(),
            Icmpv6Type::NeighborSolicitation | Icmpv6Type::NeighborAdvertisement(_)
        )
    {
        // RFC 4861 §4.3: behind 8 bytes of header.
        let target = icmp.slice().get(8..).and_then(<[u8]>::first_chunk::<16>);
        hosts.extend(target.map(|&bytes| IpAddr::from(Ipv6Addr::from(bytes))));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::frames;

    #[test]
    fn sender_receiver_and_who_is_asked_for_are_found() {
        let both: [IpAddr; 2] = [frames::ip(1).into(), frames::ip(2).into()];
        for frame in [
            frames::arp_request(1, 2),
            frames::udp4(1, 2, b"x"),
            frames::tagged(&frames::tcp4(1, 2, 3, b"x"), 9),
        ] {
            assert_eq!(hosts(&frame), both);
        }
        let both: [IpAddr; 2] = [frames::ip6(1).into(), frames::ip6(2).into()];
        assert_eq!(hosts(&frames::udp6(1, 2, b"x")), both);
        assert!(hosts(&frames::broadcast(frames::mac(1))).is_empty());
        for len in 0..50 {
            hosts(&frames::udp6(1, 2, b"x")[..len]);
        }
    }
}
