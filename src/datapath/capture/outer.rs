//! The headers around a datagram, which the kernel writes and takes off.

use std::net::{IpAddr, SocketAddr};

use crate::wire::{
    EtherType,
    checksum::{self, Sum},
};

/// What is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Outer {
    pub(in crate::datapath) from: SocketAddr,
    pub(in crate::datapath) to: SocketAddr,
    pub(in crate::datapath) tos: u8,
    pub(in crate::datapath) ttl: u8,
}

impl Outer {
    /// Ethernet, IPv6 and UDP.
    pub(in crate::datapath) const LONGEST: usize = 14 + 40 + UDP_LEN;

    /// Writes Ethernet, IP and UDP headers for the payload in `parts`. The Ethernet addresses are
    /// zero, since nothing here knows them; the UDP checksum is right, whether or not it was sent.
    pub(super) fn write(&self, parts: &[&[u8]], out: &mut Vec<u8>) {
        let len = UDP_LEN + parts.iter().map(|part| part.len()).sum::<usize>();
        // A UDP datagram is no longer, whatever is claimed.
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        out.extend_from_slice(&[0; 12]);
        let pseudo = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.octets(), to.octets());
                out.extend_from_slice(&EtherType::IPV4.0.to_be_bytes());
                self.write_v4(from, to, len, out);
                checksum::pseudo_v4(from, to, UDP, len.into())
            }
            (from, to) => {
                let (from, to) = (v6(from), v6(to));
                out.extend_from_slice(&EtherType::IPV6.0.to_be_bytes());
                let [c1, c2] = (0x6000 | u16::from(self.tos) << 4).to_be_bytes();
                out.extend_from_slice(&[c1, c2, 0, 0]);
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(&[UDP, self.ttl]);
                out.extend_from_slice(&from);
                out.extend_from_slice(&to);
                checksum::pseudo_v6(from, to, UDP, len.into())
            }
        };
        let start = out.len();
        for number in [self.from.port(), self.to.port(), len, 0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let mut sum = pseudo + checksum::sum(out.get(start..).unwrap_or_default());
        let mut is_odd = false;
        for part in parts {
            let part_sum = checksum::sum(part);
            sum = sum
                + if is_odd {
                    part_sum.at_odd_offset()
                } else {
                    part_sum
                };
            is_odd ^= part.len() % 2 == 1;
        }
        put(out, start + 6, no_zero(sum));
    }

    fn write_v4(&self, from: [u8; 4], to: [u8; 4], len: u16, out: &mut Vec<u8>) {
        let start = out.len();
        let total = len.saturating_add(20);
        out.extend_from_slice(&[0x45, self.tos]);
        out.extend_from_slice(&total.to_be_bytes());
        // Outer packets are never fragmented: no identification, and DF (RFC 7348 §4.3).
        out.extend_from_slice(&[0, 0, 0x40, 0, self.ttl, UDP, 0, 0]);
        out.extend_from_slice(&from);
        out.extend_from_slice(&to);
        let sum = checksum::sum(out.get(start..).unwrap_or_default());
        put(out, start + 10, sum.checksum());
    }
}

/// A UDP checksum of zero would mean that there is none (RFC 768).
fn no_zero(sum: Sum) -> u16 {
    match sum.checksum() {
        0 => u16::MAX,
        checksum => checksum,
    }
}

fn put(out: &mut [u8], at: usize, number: u16) {
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&number.to_be_bytes());
    }
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

const UDP: u8 = 17;
const UDP_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    #[test]
    fn headers_are_those_that_etherparse_writes() {
        let payload = [7, 8, 9, 10, 11];
        let of = |from: &str, to: &str| Outer {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            tos: 0,
            ttl: 64,
        };
        let mut ours = Vec::new();
        let outer = of("192.0.2.1:50000", "192.0.2.2:4789");
        outer.write(&[&payload[..3], &payload[3..]], &mut ours);
        let mut theirs = Vec::new();
        PacketBuilder::ethernet2([0; 6], [0; 6])
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(50_000, 4789)
            .write(&mut theirs, &payload)
            .unwrap();
        assert_eq!(ours, theirs[..theirs.len() - 5]);

        let mut ours = Vec::new();
        let outer = of("[2001:db8::1]:50000", "[2001:db8::2]:4789");
        outer.write(&[&payload], &mut ours);
        let mut theirs = Vec::new();
        let (from, to) = ("2001:db8::1", "2001:db8::2");
        let octets = |ip: &str| ip.parse::<std::net::Ipv6Addr>().unwrap().octets();
        PacketBuilder::ethernet2([0; 6], [0; 6])
            .ipv6(octets(from), octets(to), 64)
            .udp(50_000, 4789)
            .write(&mut theirs, &payload)
            .unwrap();
        assert_eq!(ours, theirs[..theirs.len() - 5]);
    }
}
