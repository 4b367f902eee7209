//! Outer packets: built byte by byte, and looked into, without a line of the switch's own code.

use std::{fmt, net::IpAddr};

use tapswitch::wire::VirtioNetHdr;

/// The hardware address of both hosts' underlay device.
pub(crate) const UNDERLAY_MAC: [u8; 6] = [2, 0xaa, 0, 0, 0, 1];
/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
const UDP: u8 = 17;
const PORT: u16 = 4789;

/// An address of the underlay: its last byte. The host under test has 1.
pub(crate) fn address(v6: bool, host: u8) -> IpAddr {
    if v6 {
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)].into()
    } else {
        [192, 0, 2, host].into()
    }
}

/// What is written to a device at once: the virtio-net header, and a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) header: VirtioNetHdr,
    pub(crate) bytes: Vec<u8>,
}

impl Packet {
    /// A frame that asks for nothing.
    pub(crate) fn plain(bytes: Vec<u8>) -> Self {
        let header = VirtioNetHdr::none();
        Self { header, bytes }
    }
}

/// Whom a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The address of the endpoint.
    Endpoint,
    /// Another address of its host.
    OtherAddress,
    /// Everybody: the broadcast address, or all nodes.
    Everybody,
}

/// The UDP checksum of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    Right,
    Zero,
    Wrong,
}

/// How a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    /// Behind IPv4 options, or IPv6 hop-by-hop options: this many words of 4 or 8 bytes, 1 to 10.
    Options(u8),
    /// In pieces.
    Fragments(Fragments),
}

/// What happens to the pieces of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragments {
    InOrder,
    Reversed,
    /// The first piece comes twice.
    Twice,
    /// Two pieces overlap.
    Overlapping,
    /// The last piece does not come.
    Missing,
}

/// The headers of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) v6: bool,
    /// The sender: the last byte of its address.
    pub(crate) from: u8,
    pub(crate) to: Target,
    /// The UDP source port.
    pub(crate) port: u16,
    pub(crate) tos: u8,
    pub(crate) checksum: Checksum,
    pub(crate) shape: Shape,
    /// Identifies its fragments.
    pub(crate) id: u16,
}

impl Outer {
    /// An ordinary one.
    pub(crate) fn new(v6: bool, from: u8) -> Self {
        Self {
            v6,
            from,
            to: Target::Endpoint,
            port: 50_000,
            tos: 0,
            checksum: Checksum::Right,
            shape: Shape::Plain,
            id: 1,
        }
    }

    /// The packets that carry `payload`, in the order of their arrival.
    pub(crate) fn packets(&self, payload: &[u8]) -> Vec<Packet> {
        let datagram = self.datagram(payload);
        let packets = match self.shape {
            Shape::Plain => vec![self.packet(&[], None, &datagram)],
            Shape::Options(words) => {
                let options = if self.v6 {
                    // An option that whoever does not know it skips (RFC 8200 section 4.2, RFC 4727).
                    let len = 8 * usize::from(words);
                    let mut options = vec![UDP, words - 1, 0x1e, low(len - 4).to_be_bytes()[1]];
                    options.resize(len, 0);
                    options
                } else {
                    // Record route with a full list, the rest filled up with no-operations.
                    let mut options = vec![7, 3 + 4 * (words.max(2) - 1), 4 * words.max(2), 1];
                    options.resize(4 * usize::from(words.max(2)), 1);
                    options
                };
                vec![self.packet(&options, None, &datagram)]
            }
            Shape::Fragments(fate) => self.fragments(fate, &datagram),
        };
        packets.into_iter().map(Packet::plain).collect()
    }

    /// All `payloads`, each as long as the first but the last, which may be shorter, as one packet
    /// that a device has joined.
    pub(crate) fn joined(&self, payloads: &[Vec<u8>]) -> Packet {
        let mut datagram = self.datagram(&payloads.concat());
        let sum = fold(self.pseudo(datagram.len()));
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        let bytes = self.packet(&[], None, &datagram);
        let l4 = bytes.len() - datagram.len();
        let mut header = VirtioNetHdr::none();
        header.set_gso(tapswitch::wire::GsoType::UdpL4);
        header.set_gso_size(low(payloads[0].len()));
        header.set_csum(low(l4), 6);
        header.set_hdr_len(low(l4 + 8));
        Packet { header, bytes }
    }

    fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(8 + payload.len());
        datagram.extend(self.port.to_be_bytes());
        datagram.extend(PORT.to_be_bytes());
        datagram.extend(low(8 + payload.len()).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        let right = match !fold(self.pseudo(datagram.len()) + sum(&datagram)) {
            0 => 0xffff,
            sum => sum,
        };
        let field = match self.checksum {
            Checksum::Right => right,
            Checksum::Zero => 0,
            // Neither right nor absent.
            Checksum::Wrong if right == 0x1234 => 0x4321,
            Checksum::Wrong => 0x1234,
        };
        datagram[6..8].copy_from_slice(&field.to_be_bytes());
        datagram
    }

    fn fragments(&self, fate: Fragments, datagram: &[u8]) -> Vec<Vec<u8>> {
        // Three pieces; all but the last have a multiple of 8 bytes.
        let third = (datagram.len() / 3).next_multiple_of(8).max(8);
        let (a, b) = (third.min(datagram.len()), (2 * third).min(datagram.len()));
        let mut ranges = vec![0..a, a..b, b..datagram.len()];
        ranges.retain(|range| !range.is_empty());
        match fate {
            Fragments::InOrder => {}
            Fragments::Reversed => ranges.reverse(),
            Fragments::Twice => ranges.insert(1, ranges[0].clone()),
            Fragments::Overlapping => ranges.insert(1, 0..(a + 8).min(datagram.len() / 8 * 8)),
            Fragments::Missing => drop(ranges.pop()),
        }
        let piece = |range: std::ops::Range<usize>| {
            let more = u16::from(range.end < datagram.len());
            let place = (low(range.start / 8), more);
            self.packet(&[], Some(place), &datagram[range])
        };
        ranges.into_iter().map(piece).collect()
    }

    fn packet(&self, options: &[u8], fragment: Option<(u16, u16)>, payload: &[u8]) -> Vec<u8> {
        let mut packet = UNDERLAY_MAC.to_vec();
        packet.extend([2, 0xaa, 0, 0, 0, 2]);
        if self.v6 {
            packet.extend([0x86, 0xdd, 0x60 | self.tos >> 4, self.tos << 4, 0, 0]);
            let extension = if fragment.is_some() { 8 } else { options.len() };
            packet.extend(low(extension + payload.len()).to_be_bytes());
            let next = match (options, fragment) {
                (_, Some(_)) => 44,
                ([], None) => UDP,
                _ => 0,
            };
            packet.extend([next, 64]);
            packet.extend(self.addresses());
            if let Some((offset, more)) = fragment {
                packet.extend([UDP, 0]);
                packet.extend((offset << 3 | more).to_be_bytes());
                packet.extend([0, 0]);
                packet.extend(self.id.to_be_bytes());
            }
            packet.extend(options);
        } else {
            let words = low(5 + options.len() / 4).to_be_bytes()[1];
            packet.extend([0x08, 0x00, 0x40 | words, self.tos]);
            packet.extend(low(20 + options.len() + payload.len()).to_be_bytes());
            packet.extend(self.id.to_be_bytes());
            let (offset, more) = fragment.unwrap_or((0, 0));
            packet.extend((offset | more << 13).to_be_bytes());
            packet.extend([64, UDP, 0, 0]);
            packet.extend(self.addresses());
            packet.extend(options);
            let check = !fold(sum(&packet[ETHERNET..]));
            packet[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&check.to_be_bytes());
        }
        packet.extend(payload);
        packet
    }

    fn pseudo(&self, len: usize) -> u64 {
        sum(&self.addresses()) + u64::from(UDP) + u64::from(low(len))
    }

    fn addresses(&self) -> Vec<u8> {
        let from = address(self.v6, self.from);
        let to: IpAddr = match self.to {
            Target::Endpoint => address(self.v6, 1),
            Target::OtherAddress => address(self.v6, OTHER_ADDRESS),
            Target::Everybody if self.v6 => [0xff02, 0, 0, 0, 0, 0, 0, 1].into(),
            Target::Everybody => [255; 4].into(),
        };
        [octets(from), octets(to)].concat()
    }
}

/// The last byte of the other address of the host under test.
pub(crate) const OTHER_ADDRESS: u8 = 9;

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// A packet that a host sent to a remote VTEP, taken apart.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) v6: bool,
    /// To whom: the last byte of the address.
    pub(crate) to: u8,
    pub(crate) tos: u8,
    pub(crate) source_port: u16,
    /// The VXLAN header and what is behind it.
    pub(crate) payload: &'a [u8],
}

impl<'a> Sent<'a> {
    /// What is wrong with it as a VXLAN datagram, or its parts. Checks lengths, both checksums,
    /// DF, and that it is no fragment.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let whole = |holds: bool, what: &str| {
            if holds { Ok(()) } else { Err(what.to_owned()) }
        };
        let v6 = match bytes.get(12..14) {
            Some([0x08, 0x00]) => false,
            Some([0x86, 0xdd]) => true,
            other => return Err(format!("type {other:02x?}")),
        };
        let l4 = ETHERNET + if v6 { 40 } else { 20 };
        whole(bytes.len() >= l4 + 16, "too short")?;
        let ip = &bytes[ETHERNET..l4];
        let rest = &bytes[l4..];
        let (tos, to, len) = if v6 {
            whole(ip[0] >> 4 == 6 && ip[6] == UDP, "version or protocol")?;
            (ip[0] << 4 | ip[1] >> 4, ip[39], 40 + be16(ip, 4))
        } else {
            whole(
                ip[0] == 0x45 && ip[9] == UDP,
                "version, options or protocol",
            )?;
            whole(ip[6..8] == [0x40, 0], "DF is not set, or it is a fragment")?;
            whole(fold(sum(ip)) == 0xffff, "IP checksum")?;
            (ip[1], ip[19], be16(ip, 2))
        };
        whole(usize::from(len) == bytes.len() - ETHERNET, "IP length")?;
        whole(usize::from(be16(rest, 4)) == rest.len(), "UDP length")?;
        whole(be16(rest, 2) == PORT, "destination port")?;
        whole(rest[6..8] != [0, 0], "no UDP checksum")?;
        let addresses = if v6 { &ip[8..] } else { &ip[12..] };
        let pseudo = sum(addresses) + u64::from(UDP) + u64::from(low(rest.len()));
        whole(fold(pseudo + sum(rest)) == 0xffff, "UDP checksum")?;
        Ok(Self {
            bytes,
            v6,
            to,
            tos,
            source_port: be16(rest, 0),
            payload: &rest[8..],
        })
    }

    /// The inner frame.
    pub(crate) fn inner(&self) -> &'a [u8] {
        &self.payload[8..]
    }

    /// With 0 in place of what may differ: the source port, IPv4 identification and both
    /// checksums, the IPv6 flow label.
    pub(crate) fn masked(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        let l4 = if self.v6 {
            bytes[15] &= 0xf0;
            bytes[16..18].fill(0);
            ETHERNET + 40
        } else {
            bytes[18..20].fill(0);
            bytes[24..26].fill(0);
            ETHERNET + 20
        };
        bytes[l4..l4 + 2].fill(0);
        bytes[l4 + 6..l4 + 8].fill(0);
        bytes
    }

    /// With other ECN bits in the outer header.
    pub(crate) fn masked_with_ecn(&self, ecn: u8) -> Vec<u8> {
        self.masked_with_tos(self.tos & !3 | ecn)
    }

    /// With another TOS or traffic class in the outer header.
    pub(crate) fn masked_with_tos(&self, tos: u8) -> Vec<u8> {
        let mut bytes = self.masked();
        if self.v6 {
            bytes[ETHERNET] = 0x60 | tos >> 4;
            bytes[ETHERNET + 1] = bytes[ETHERNET + 1] & 0x0f | tos << 4;
        } else {
            bytes[ETHERNET + 1] = tos;
        }
        bytes
    }
}

/// The one's complement sum of 16-bit words (RFC 1071), not folded.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2);
    words
        .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |&b| b.into()))
        .sum()
}

pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap_or(0)
}

/// The 16 bits at `at`, or 0.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// A length as a field of 16 bits holds it.
pub(crate) fn low(len: usize) -> u16 {
    u16::try_from(len & 0xffff).unwrap_or(0)
}

/// Bytes in hexadecimal, 16 to a group.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes: ", self.0.len())?;
        for (index, byte) in self.0.iter().take(160).enumerate() {
            let gap = if index > 0 && index % 16 == 0 {
                " "
            } else {
                ""
            };
            write!(f, "{gap}{byte:02x}")?;
        }
        if self.0.len() > 160 {
            write!(f, "...")?;
        }
        Ok(())
    }
}
