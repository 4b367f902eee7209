//! Where the headers of a superframe are.

use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice,
    TcpHeaderSlice, UdpHeaderSlice, ip_number,
};

use super::check::{BadOffload, GSO_BY_FRAGS, MAX_HEADERS, bounded, checksum_range, place};
use crate::wire::{EtherType, Frame, GsoType, VirtioNetHdr};

/// Tags before the IP header: `VLAN_MAX_DEPTH`, include/linux/if_vlan.h.
const MAX_TAGS: usize = 8;

/// The layer-4 protocol of a superframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer4 {
    Tcp,
    Udp,
}

impl Layer4 {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Tcp => ip_number::TCP.0,
            Self::Udp => ip_number::UDP.0,
        }
    }

    pub(super) const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// Where the headers of a superframe are. Every offset is at most the length of the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) is_v6: bool,
    pub(super) l3: usize,
    pub(super) l4: usize,
    pub(super) protocol: Layer4,
    /// Length of all headers, where the payload starts.
    pub(super) headers: usize,
    pub(super) gso_size: usize,
}

/// Reads the headers of a superframe, as the kernel would on its way to segmenting it.
pub(super) fn superframe(header: &VirtioNetHdr, frame: &[u8]) -> Result<Layout, BadOffload> {
    let unknown = BadOffload::UnknownGso(header.gso_type);
    let (protocol, only_v6) = match header.gso() {
        GsoType::TcpV4 => (Layer4::Tcp, Some(false)),
        GsoType::TcpV6 => (Layer4::Tcp, Some(true)),
        // ECN is a matter of TCP.
        GsoType::UdpL4 if header.gso_type & VirtioNetHdr::GSO_ECN == 0 => (Layer4::Udp, None),
        GsoType::UdpL4 | GsoType::None | GsoType::Unknown(_) => return Err(unknown),
    };
    if matches!(header.gso_size(), 0 | GSO_BY_FRAGS) {
        return Err(BadOffload::GsoSize(header.gso_size()));
    }
    if header.needs_csum() {
        checksum_range(header, frame)?;
    } else if protocol == Layer4::Udp {
        return Err(BadOffload::UdpWithoutChecksum);
    }

    let (l3, ether_type) = network(frame)?;
    let (l4, is_v6) = transport(frame, l3, ether_type, protocol)?;
    if only_v6.is_some_and(|expected| expected != is_v6) {
        return Err(BadOffload::WrongProtocol);
    }
    // tcp_gso_segment and __udp_gso_segment insist on it, too.
    let told = (header.csum_start(), header.csum_offset());
    if header.needs_csum()
        && (usize::from(told.0) != l4 || usize::from(told.1) != protocol.checksum_offset())
    {
        return Err(place(header));
    }
    let rest = tail(frame, l4)?;
    let l4_len = match protocol {
        Layer4::Tcp => TcpHeaderSlice::from_slice(rest)
            .map(|tcp| tcp.slice().len())
            .ok(),
        Layer4::Udp => UdpHeaderSlice::from_slice(rest)
            .map(|udp| udp.slice().len())
            .ok(),
    };
    let headers = l4 + l4_len.ok_or(BadOffload::Headers)?;
    let layout = Layout {
        is_v6,
        l3,
        l4,
        protocol,
        headers,
        gso_size: header.gso_size().into(),
    };
    bounded(&layout, frame)?;
    Ok(layout)
}

/// The start of the network header behind all VLAN tags, and its type.
fn network(frame: &[u8]) -> Result<(usize, EtherType), BadOffload> {
    let ethernet = Frame::new_checked(frame).map_err(|_| BadOffload::Headers)?;
    let (mut at, mut ether_type) = (Frame::HEADER_LEN, ethernet.ether_type());
    for _ in 0..MAX_TAGS {
        if !ether_type.is_tag() {
            break;
        }
        let tag =
            SingleVlanHeaderSlice::from_slice(tail(frame, at)?).map_err(|_| BadOffload::Headers)?;
        at += Frame::TAG_LEN;
        ether_type = EtherType(tag.ether_type().0);
    }
    Ok((at, ether_type))
}

/// The start of the layer-4 header, and whether it is over IPv6.
fn transport(
    frame: &[u8],
    l3: usize,
    ether_type: EtherType,
    protocol: Layer4,
) -> Result<(usize, bool), BadOffload> {
    let packet = tail(frame, l3)?;
    let (l4, found, is_v6) = match ether_type {
        EtherType::IPV4 => {
            let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|_| BadOffload::Headers)?;
            (l3 + ip.slice().len(), ip.protocol(), false)
        }
        EtherType::IPV6 => {
            let ip = Ipv6HeaderSlice::from_slice(packet).map_err(|_| BadOffload::Headers)?;
            let (l4, found) = extensions(frame, l3 + ip.slice().len(), ip.next_header())?;
            (l4, found, true)
        }
        _ => return Err(BadOffload::WrongProtocol),
    };
    if found.0 == protocol.number() {
        Ok((l4, is_v6))
    } else {
        Err(BadOffload::WrongProtocol)
    }
}

/// Steps over the extension headers that the kernel segments behind, in any order
/// (ipv6_gso_pull_exthdrs). A fragment or AH header ends the walk, and is no layer 4.
fn extensions(
    frame: &[u8],
    mut at: usize,
    mut next: IpNumber,
) -> Result<(usize, IpNumber), BadOffload> {
    while matches!(
        next,
        ip_number::IPV6_HOP_BY_HOP | ip_number::IPV6_ROUTE | ip_number::IPV6_DEST_OPTIONS
    ) {
        let extension =
            Ipv6RawExtHeaderSlice::from_slice(tail(frame, at)?).map_err(|_| BadOffload::Headers)?;
        at += extension.slice().len();
        next = extension.next_header();
        if at > MAX_HEADERS {
            return Err(BadOffload::HeadersTooLong(at));
        }
    }
    Ok((at, next))
}

fn tail(frame: &[u8], at: usize) -> Result<&[u8], BadOffload> {
    frame.get(at..).ok_or(BadOffload::Headers)
}
