//! From a [`Packet`] to bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType as Type, IcmpEchoHeader, Icmpv4Header,
    Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader,
};

use super::{Checksum, Kind, Packet, TcpFlags};
use crate::wire::{EtherType, GsoType, MacAddr, VirtioNetHdr, checksum, group_address};

/// Who sends a packet: fills in what it leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its addresses, the preferred ones first.
    pub addresses: Vec<IpAddr>,
}

/// A frame as a kernel hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// What is left undone.
    pub header: VirtioNetHdr,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Why there is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Nobody said where it comes from.
    #[error("the sender has no IPv{family} address; say from where: {hint}")]
    NoSource {
        /// 4 or 6.
        family: u8,
        /// How to say it.
        hint: &'static str,
    },
    /// Nobody knows who shall get it.
    #[error("the MAC address of {of} is not known")]
    NoDestination {
        /// The host.
        of: IpAddr,
    },
    /// It does not fit an IP packet.
    #[error("{len} bytes of payload do not fit an IP packet; at most 65535 bytes with all headers")]
    TooLong {
        /// Bytes of payload.
        len: usize,
    },
}

impl Packet {
    /// Makes the frame. `dst_mac` is whom it is for, where [`Self::asks_for`] asks.
    ///
    /// # Errors
    /// A [`BuildError`].
    pub fn build(&self, sender: &Sender, dst_mac: Option<MacAddr>) -> Result<Built, BuildError> {
        let src_mac = self.src_mac.unwrap_or(sender.mac);
        let src = match (self.src, self.dst) {
            (Some(src), _) => src,
            // The address that asks may be missing: a probe (RFC 5227 §2.1.1).
            (None, dst) => sender
                .addresses
                .iter()
                .copied()
                .find(|ip| ip.is_ipv4() == dst.is_ipv4())
                .ok_or_else(|| self.no_source(dst))?,
        };
        let asked = match self.kind {
            Kind::ArpRequest => Some(MacAddr::BROADCAST),
            Kind::NeighborSolicitation => group_address(solicited_node(self.dst)),
            _ => group_address(self.dst).or(dst_mac),
        };
        let dst_mac = self.dst_mac.or(asked);
        let dst_mac = dst_mac.ok_or(BuildError::NoDestination { of: self.dst })?;
        let mut frame = [dst_mac.octets(), src_mac.octets()].concat();
        for vlan in &self.vlans {
            frame.extend(EtherType::VLAN.0.to_be_bytes());
            frame.extend(vlan.to_be_bytes());
        }
        let mut header = VirtioNetHdr::none();
        match (self.kind, src, self.dst) {
            (Kind::ArpRequest | Kind::ArpReply { .. }, IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend(EtherType::ARP.0.to_be_bytes());
                frame.extend(self.arp(src_mac, dst_mac, src, dst));
            }
            (_, IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend(EtherType::IPV4.0.to_be_bytes());
                let body = self.body(IpAddr::V4(src), IpAddr::V4(dst), src_mac);
                self.ipv4(&mut frame, &mut header, src, dst, &body)?;
            }
            (_, IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend(EtherType::IPV6.0.to_be_bytes());
                let dst = match (self.kind, solicited_node(IpAddr::V6(dst))) {
                    (Kind::NeighborSolicitation, IpAddr::V6(group)) => group,
                    _ => dst,
                };
                let body = self.body(IpAddr::V6(src), IpAddr::V6(dst), src_mac);
                self.ipv6(&mut frame, &mut header, src, dst, &body)?;
            }
            _ => return Err(self.no_source(self.dst)),
        }
        Ok(Built { header, frame })
    }

    fn no_source(&self, dst: IpAddr) -> BuildError {
        let hint = match self.kind {
            Kind::ArpRequest | Kind::ArpReply { .. } | Kind::NeighborSolicitation => "tell IP",
            _ => "SRC > DST",
        };
        let family = if dst.is_ipv4() { 4 } else { 6 };
        BuildError::NoSource { family, hint }
    }

    fn arp(&self, src_mac: MacAddr, dst_mac: MacAddr, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
        let (operation, hardware, target) = match self.kind {
            Kind::ArpReply { is_at } => (ArpOperation::REPLY, is_at, dst_mac),
            _ => (ArpOperation::REQUEST, src_mac, MacAddr::ZERO),
        };
        let arp = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            Type::IPV4,
            operation,
            &hardware.octets(),
            &src.octets(),
            &target.octets(),
            &dst.octets(),
        );
        arp.map(|arp| arp.to_bytes().to_vec()).unwrap_or_default()
    }

    /// Everything behind the IP header, with a checksum that is right.
    fn body(&self, src: IpAddr, dst: IpAddr, src_mac: MacAddr) -> Body {
        let payload = self.payload();
        match self.kind {
            Kind::NeighborSolicitation => neighbor_solicitation(self.dst, src, dst, src_mac),
            Kind::Udp { from, to } => udp(src, dst, from, to, &payload),
            Kind::Tcp { from, to, flags } => tcp(src, dst, from, to, flags, &payload),
            // ARP has no body; it does not come here.
            Kind::Echo { .. } | Kind::ArpRequest | Kind::ArpReply { .. } => {
                let sequence = match self.kind {
                    Kind::Echo { sequence } => sequence,
                    _ => 0,
                };
                echo(src, dst, sequence, &payload)
            }
        }
    }

    fn payload(&self) -> Vec<u8> {
        let len = self.len.unwrap_or(match self.kind {
            // As `ping` does.
            Kind::Echo { .. } => 56,
            Kind::Udp { .. } => 18,
            _ => 0,
        });
        (0..=u8::MAX).cycle().take(len).collect()
    }

    fn ipv4(
        &self,
        frame: &mut Vec<u8>,
        virtio: &mut VirtioNetHdr,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        body: &Body,
    ) -> Result<(), BuildError> {
        let too_long = || BuildError::TooLong {
            len: body.bytes.len() - body.header_len,
        };
        let len = u16::try_from(body.bytes.len()).map_err(|_| too_long())?;
        let mut ip = Ipv4Header::new(len, self.ttl, body.protocol, src.octets(), dst.octets())
            .map_err(|_| too_long())?;
        ip.dont_fragment = self.df;
        let mut bytes = ip.to_bytes().to_vec();
        // As one byte: the fields that it is made of are not this room's business.
        bytes[1] = self.tos;
        bytes[10..12].fill(0);
        let sum = checksum::sum(&bytes).checksum();
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(bytes);
        let pseudo = checksum::pseudo_v4(src.octets(), dst.octets(), body.protocol.0, len.into());
        self.finish(frame, virtio, body, pseudo.fold(), true);
        Ok(())
    }

    fn ipv6(
        &self,
        frame: &mut Vec<u8>,
        virtio: &mut VirtioNetHdr,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        body: &Body,
    ) -> Result<(), BuildError> {
        let len = u16::try_from(body.bytes.len()).map_err(|_| BuildError::TooLong {
            len: body.bytes.len() - body.header_len,
        })?;
        let ip = Ipv6Header {
            payload_length: len,
            next_header: body.protocol,
            hop_limit: self.ttl,
            source: src.octets(),
            destination: dst.octets(),
            ..Ipv6Header::default()
        };
        let mut bytes = ip.to_bytes();
        bytes[0] |= self.tos >> 4;
        bytes[1] |= self.tos << 4;
        frame.extend(bytes);
        let pseudo = checksum::pseudo_v6(src.octets(), dst.octets(), body.protocol.0, len.into());
        self.finish(frame, virtio, body, pseudo.fold(), false);
        Ok(())
    }

    /// Puts the body behind the IP header, its checksum as it shall be.
    fn finish(
        &self,
        frame: &mut Vec<u8>,
        virtio: &mut VirtioNetHdr,
        body: &Body,
        pseudo: u16,
        is_v4: bool,
    ) {
        let start = frame.len();
        frame.extend(&body.bytes);
        let payload = body.bytes.len() - body.header_len;
        let mss = self.mss.filter(|&mss| payload > usize::from(mss));
        let gso = match self.kind {
            Kind::Udp { .. } => Some(GsoType::UdpL4),
            Kind::Tcp { .. } if is_v4 => Some(GsoType::TcpV4),
            Kind::Tcp { .. } => Some(GsoType::TcpV6),
            _ => None,
        };
        let field = start + body.checksum_at..start + body.checksum_at + 2;
        let Some(field) = frame.get_mut(field) else {
            return;
        };
        let is_unfinished = mss.is_some() || self.checksum == Checksum::Unfinished;
        if let Some(gso) = gso.filter(|_| is_unfinished) {
            field.copy_from_slice(&pseudo.to_be_bytes());
            let place = |at: usize| u16::try_from(at).unwrap_or(0);
            virtio.set_csum(place(start), place(body.checksum_at));
            if let Some(mss) = mss {
                virtio.set_gso(gso);
                virtio.set_gso_size(mss);
                virtio.set_hdr_len(place(start + body.header_len));
            }
        } else if self.checksum == Checksum::Wrong {
            field.iter_mut().for_each(|byte| *byte ^= 0xa5);
        }
    }
}

/// What is behind an IP header.
struct Body {
    protocol: IpNumber,
    bytes: Vec<u8>,
    header_len: usize,
    checksum_at: usize,
}

/// The group that a host listens to for those who ask for its address (RFC 4291 §2.7.1).
fn solicited_node(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(host) = ip else {
        return ip;
    };
    let [.., a, b, c] = host.octets();
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    IpAddr::from(group)
}

fn neighbor_solicitation(asked: IpAddr, src: IpAddr, dst: IpAddr, src_mac: MacAddr) -> Body {
    let mut rest = match asked {
        IpAddr::V6(asked) => asked.octets().to_vec(),
        IpAddr::V4(_) => Vec::new(),
    };
    // Option 1, one unit of 8 bytes: the source's link-layer address (RFC 4861 §4.6.1).
    rest.extend([1, 1]);
    rest.extend(src_mac.octets());
    icmp6(Icmpv6Type::NeighborSolicitation, src, dst, &rest)
}

fn echo(src: IpAddr, dst: IpAddr, seq: u16, payload: &[u8]) -> Body {
    let echo = IcmpEchoHeader { id: ECHO_ID, seq };
    if src.is_ipv6() {
        return icmp6(Icmpv6Type::EchoRequest(echo), src, dst, payload);
    }
    let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), payload);
    Body {
        protocol: IpNumber::ICMP,
        bytes: [&header.to_bytes()[..], payload].concat(),
        header_len: 8,
        checksum_at: 2,
    }
}

fn icmp6(kind: Icmpv6Type, src: IpAddr, dst: IpAddr, payload: &[u8]) -> Body {
    let mut header = Icmpv6Header::new(kind);
    if let (IpAddr::V6(src), IpAddr::V6(dst)) = (src, dst) {
        let sum = header
            .icmp_type
            .calc_checksum(src.octets(), dst.octets(), payload);
        header.checksum = sum.unwrap_or(0);
    }
    let header = header.to_bytes();
    Body {
        protocol: IpNumber::IPV6_ICMP,
        bytes: [&header[..], payload].concat(),
        header_len: header.len(),
        checksum_at: 2,
    }
}

fn udp(src: IpAddr, dst: IpAddr, from: u16, to: u16, payload: &[u8]) -> Body {
    let mut header = UdpHeader {
        source_port: from,
        destination_port: to,
        // What is too long for it is refused with the IP header.
        length: u16::try_from(UdpHeader::LEN + payload.len()).unwrap_or(0),
        checksum: 0,
    };
    let sum = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), payload)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), payload)
        }
        _ => Ok(0),
    };
    header.checksum = sum.unwrap_or(0);
    Body {
        protocol: IpNumber::UDP,
        bytes: [&header.to_bytes()[..], payload].concat(),
        header_len: UdpHeader::LEN,
        checksum_at: 6,
    }
}

fn tcp(src: IpAddr, dst: IpAddr, from: u16, to: u16, flags: TcpFlags, payload: &[u8]) -> Body {
    let mut header = TcpHeader::new(from, to, 1, 64_240);
    let flags = match flags {
        given if given != TcpFlags::default() => given,
        none if payload.is_empty() => TcpFlags { syn: true, ..none },
        none => TcpFlags {
            ack: true,
            psh: true,
            ..none
        },
    };
    header.syn = flags.syn;
    header.ack = flags.ack;
    header.fin = flags.fin;
    header.rst = flags.rst;
    header.psh = flags.psh;
    header.acknowledgment_number = u32::from(flags.ack);
    let sum = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), payload)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), payload)
        }
        _ => Ok(0),
    };
    header.checksum = sum.unwrap_or(0);
    Body {
        protocol: IpNumber::TCP,
        bytes: [&header.to_bytes()[..], payload].concat(),
        header_len: header.header_len(),
        checksum_at: 16,
    }
}

/// The identifier of echo requests.
const ECHO_ID: u16 = 1;
