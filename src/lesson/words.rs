//! The sentences about frames, in each language.

pub(super) mod en;
pub(super) mod zh;

use std::{net::IpAddr, time::Duration};

use super::watch::{Copied, Datagram, Seen};

/// The copies for one place.
struct Way<'a> {
    to: &'a str,
    copies: Vec<&'a Copied>,
}

/// The places that it reached: ports, then remote VTEPs, each in order of names.
fn reached(seen: &Seen) -> Vec<&str> {
    let mut places = seen.reached();
    places.sort_by_key(|place| place.parse::<IpAddr>().is_ok());
    places
}

/// The copies, place by place, in the order in which they left.
fn ways(seen: &Seen) -> Vec<Way<'_>> {
    let mut ways: Vec<Way<'_>> = Vec::new();
    for copy in &seen.copies {
        match ways.iter_mut().find(|way| way.to == copy.to) {
            Some(way) => way.copies.push(copy),
            None => ways.push(Way {
                to: &copy.to,
                copies: vec![copy],
            }),
        }
    }
    ways
}

impl<'a> Way<'a> {
    fn lost(&self) -> Option<&'a str> {
        self.copies.iter().find_map(|copy| copy.lost.as_deref())
    }

    fn has_arrived(&self) -> bool {
        self.copies.iter().any(|copy| copy.lost.is_none())
    }

    fn datagrams(&self) -> impl Iterator<Item = &'a Datagram> {
        self.copies.iter().filter_map(|copy| copy.datagram.as_ref())
    }
}

/// A frame and the headers around it: `42 + 8 VXLAN + 8 UDP + 20 IPv4 + 14 Ethernet`.
fn sum(datagram: &Datagram) -> String {
    let (ip, header) = match datagram.bytes.get(12) {
        Some(0x86) => ("IPv6", 40),
        _ => ("IPv4", 20),
    };
    let inner = datagram.len.saturating_sub(14 + header + 8 + 8);
    format!("{inner} + 8 VXLAN + 8 UDP + {header} {ip} + 14 Ethernet")
}

/// The size of the packet around a frame of `len` bytes for the remote VTEP `to`, and how it comes
/// about: `1514 + 8 VXLAN + 8 UDP + 20 IPv4`.
fn outer_packet(to: &str, len: usize) -> Option<(usize, String)> {
    let (ip, header) = match to.parse().ok()? {
        IpAddr::V4(_) => ("IPv4", 20),
        IpAddr::V6(_) => ("IPv6", 40),
    };
    let total = header + 8 + 8 + len;
    Some((total, format!("{len} + 8 VXLAN + 8 UDP + {header} {ip}")))
}

/// Ports of the datagram: from, to.
fn ports(datagram: &Datagram) -> (u16, u16) {
    let at = match datagram.bytes.get(12) {
        Some(0x86) => 14 + 40,
        _ => 14 + 20,
    };
    let to = datagram.bytes.get(at + 2..).and_then(<[u8]>::first_chunk);
    (
        datagram.from_port,
        to.map_or(0, |bytes| u16::from_be_bytes(*bytes)),
    )
}

/// Seconds as `250 us`, `1.25 ms`, `12 ms`, `3.1 s`.
fn short(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let micros = time.as_micros();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}
