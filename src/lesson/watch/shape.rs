//! When two captures are of one frame, although a bridge or a tunnel has had to do with it.

use crate::{
    vxlan,
    wire::{EtherType, Frame},
};

/// A frame without what may change on its way: tags, congestion marks, and checksums that are
/// finished where it leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    bytes: Vec<u8>,
    /// What all pieces of a superframe have in common: addresses and ports.
    flow: Option<Vec<u8>>,
    /// Of TCP: the number of the first byte, and how many there are.
    sequence: Option<(u32, u32)>,
    /// Of a packet: what routing and address translation leave as it is.
    essence: Option<Vec<u8>>,
}

impl Shape {
    pub(super) fn of(frame: &[u8]) -> Self {
        let Ok(view) = Frame::new_checked(frame) else {
            return Self {
                bytes: frame.to_vec(),
                flow: None,
                sequence: None,
                essence: None,
            };
        };
        let mut bytes = frame.get(..ADDRESSES).unwrap_or_default().to_vec();
        let mut payload = frame.get(ADDRESSES..).unwrap_or_default();
        while let Some((&[a, b], _)) = payload.split_first_chunk()
            && EtherType(u16::from_be_bytes([a, b])).is_tag()
            && let Some(rest) = payload.get(Frame::TAG_LEN..)
        {
            payload = rest;
        }
        bytes.extend_from_slice(payload);
        let packet = ADDRESSES + 2;
        let transport = match view.ether_type() {
            EtherType::IPV4 => settle_v4(&mut bytes, packet),
            EtherType::IPV6 => settle_v6(&mut bytes, packet),
            _ => None,
        };
        let flow = transport.clone().and_then(|(protocol, at, addresses)| {
            let sum = match protocol {
                TCP => at + 16,
                UDP => at + 6,
                _ => return None,
            };
            clear(&mut bytes, sum..sum + 2);
            let parts = [0..ADDRESSES, addresses, at..at + 4];
            let parts = parts.map(|part| bytes.get(part).unwrap_or_default());
            Some([&parts.concat()[..], &[protocol]].concat())
        });
        let packet = transport.clone();
        let essence = packet.and_then(|(protocol, at, _)| essence(&bytes, protocol, at));
        let sequence = transport.filter(|(protocol, ..)| *protocol == TCP);
        let sequence = sequence.and_then(|(_, at, _)| sequence_at(&bytes, at));
        Self {
            bytes,
            flow,
            sequence,
            essence,
        }
    }

    /// Whether both are the same frame.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }

    /// Whether this is the beginning of the other: of a datagram that was cut, there is only that.
    pub(super) fn begins(&self, whole: &Self) -> bool {
        self.bytes.len() >= 2 * ADDRESSES && whole.bytes.starts_with(&self.bytes)
    }

    /// Whether both are the same packet, with other addresses or ports.
    pub(super) fn is_rewritten(&self, other: &Self) -> bool {
        self.essence.is_some() && self.essence == other.essence && !self.is(other)
    }

    /// Whether one may be a piece of the other: of one flow, and of TCP with bytes in common.
    pub(super) fn shares_flow(&self, other: &Self) -> bool {
        let overlap = match (self.sequence, other.sequence) {
            (Some((first, len)), Some((start, size))) => {
                start.wrapping_sub(first) < len.max(1) || first.wrapping_sub(start) < size.max(1)
            }
            _ => true,
        };
        overlap && self.flow.is_some() && self.flow == other.flow
    }
}

/// Protocol, start of the transport header, and where the IP addresses are.
type Transport = (u8, usize, std::ops::Range<usize>);

fn settle_v4(bytes: &mut [u8], at: usize) -> Option<Transport> {
    let head = bytes.get_mut(at..at + 20)?;
    // ECN (RFC 6040), then the header's checksum.
    head[1] &= !0b11;
    head[10] = 0;
    head[11] = 0;
    let is_first = head[6] & 0x1f == 0 && head[7] == 0;
    let len = usize::from(head[0] & 0xf) * 4;
    is_first.then_some((head[9], at + len, at + 12..at + 20))
}

fn settle_v6(bytes: &mut [u8], at: usize) -> Option<Transport> {
    let head = bytes.get_mut(at..at + 40)?;
    // The last two bits of the traffic class.
    head[1] &= !0b0011_0000;
    Some((head[6], at + 40, at + 8..at + 40))
}

/// What is left of TCP or UDP without ports and checksum, and of ICMP echo without its number.
fn essence(bytes: &[u8], protocol: u8, at: usize) -> Option<Vec<u8>> {
    let start = match protocol {
        TCP => 4..16,
        UDP => 4..6,
        ICMP => 0..1,
        _ => return None,
    };
    let rest = match protocol {
        TCP => 18,
        UDP => 8,
        _ => 6,
    };
    let header = bytes.get(at + start.start..at + start.end)?;
    Some([&[protocol], header, bytes.get(at + rest..)?].concat())
}

/// The TCP header at `at`: the number of its first byte, and how many follow.
fn sequence_at(bytes: &[u8], at: usize) -> Option<(u32, u32)> {
    let header = bytes.get(at..)?.first_chunk::<20>()?;
    let [_, _, _, _, a, b, c, d, ..] = *header;
    let len = bytes
        .len()
        .checked_sub(at + usize::from(header[12] >> 4) * 4)?;
    Some((u32::from_be_bytes([a, b, c, d]), u32::try_from(len).ok()?))
}

fn clear(bytes: &mut [u8], range: std::ops::Range<usize>) {
    if let Some(bytes) = bytes.get_mut(range) {
        bytes.fill(0);
    }
}

/// A VXLAN datagram, from its Ethernet header on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened<'a> {
    pub(super) from: std::net::IpAddr,
    pub(super) to: std::net::IpAddr,
    pub(super) from_port: u16,
    pub(super) vni: u32,
    pub(super) inner: &'a [u8],
}

/// Opens `frame` if it is UDP to one of `ports`, or its first fragment, and VXLAN.
pub(super) fn open<'a>(frame: &'a [u8], ports: &[u16]) -> Option<Opened<'a>> {
    let view = Frame::new_checked(frame).ok()?;
    let packet = frame.get(Frame::HEADER_LEN..)?;
    let (from, to, protocol, datagram) = match view.ether_type() {
        EtherType::IPV4 => {
            let head = packet.first_chunk::<20>()?;
            let [.., a, b, c, d, e, f, g, h] = *head;
            let is_first = head[6] & 0x1f == 0 && head[7] == 0;
            let len = usize::from(head[0] & 0xf) * 4;
            let addresses = ([a, b, c, d].into(), [e, f, g, h].into());
            let rest = packet.get(len..).filter(|_| is_first)?;
            (addresses.0, addresses.1, head[9], rest)
        }
        EtherType::IPV6 => {
            let from: [u8; 16] = *packet.get(8..)?.first_chunk()?;
            let to: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            (from.into(), to.into(), *packet.get(6)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let ([a, b, c, d, ..], _) = datagram.split_first_chunk::<8>()?;
    let port = u16::from_be_bytes([*c, *d]);
    if protocol != UDP || !ports.contains(&port) {
        return None;
    }
    let (header, inner) = vxlan::parse(datagram.get(8..)?).ok()?;
    Some(Opened {
        from,
        to,
        from_port: u16::from_be_bytes([*a, *b]),
        vni: header.vni.get(),
        inner,
    })
}

/// Both MAC addresses.
const ADDRESSES: usize = 12;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::frames;

    #[test]
    fn a_frame_is_itself_with_a_tag_another_mark_and_a_finished_checksum() {
        let mut plain = frames::arp_request(1, 2);
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x81, 0, 0, 42]);
        assert!(Shape::of(&plain).is(&Shape::of(&tagged)));
        plain[41] ^= 1;
        assert!(!Shape::of(&plain).is(&Shape::of(&tagged)));

        let udp = |tos: u8, sum: u8, last: u8| {
            let mut frame = vec![2; 12];
            frame.extend([8, 0, 0x45, tos, 0, 29, 0, 0, 0, 0, 64, 17, sum, sum]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            frame.extend([1, 1, 2, 2, 0, 9, sum, sum, last]);
            frame
        };
        let shape = Shape::of(&udp(0, 0, 7));
        assert!(shape.is(&Shape::of(&udp(3, 9, 7))));
        assert!(!shape.is(&Shape::of(&udp(0, 0, 8))));
        assert!(shape.shares_flow(&Shape::of(&udp(0, 0, 8))));
        assert!(!shape.is(&Shape::of(&udp(4, 0, 7))), "not all of the TOS");
    }

    #[test]
    fn a_packet_stays_what_it_is_when_its_addresses_are_translated() {
        let udp = |to: u8, port: u8, last: u8| {
            let mut frame = vec![to; 12];
            frame.extend([8, 0, 0x45, 0, 0, 29, 0, 0, 0, 0, 64 - to, 17, to, to]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, to]);
            frame.extend([1, 1, 2, port, 0, 9, to, to, last]);
            Shape::of(&frame)
        };
        assert!(udp(1, 1, 7).is_rewritten(&udp(2, 2, 7)));
        assert!(!udp(1, 1, 7).is_rewritten(&udp(2, 2, 8)));
        assert!(!udp(1, 1, 7).is_rewritten(&udp(1, 1, 7)));
    }

    #[test]
    fn any_bytes_have_a_shape() {
        for len in 0..80 {
            for fill in [0, 0x45, 0x81, 0x60, 0xff] {
                let mut frame = vec![fill; len];
                drop(Shape::of(&frame));
                for kind in [[8, 0], [0x86, 0xdd], [0x81, 0]] {
                    if let Some(place) = frame.get_mut(12..14) {
                        place.copy_from_slice(&kind);
                    }
                    drop(Shape::of(&frame));
                    assert!(open(&frame, &[0x4545]).is_none_or(|opened| opened.vni <= 0xff_ffff));
                }
            }
        }
    }
}
