//! What a frame needs of the path, header by header.

use super::Layer;
use crate::{vxlan, wire::Frame};

/// What the headers of the overlay leave of the MTU of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The path's MTU.
    pub path_mtu: u32,
    /// What each layer takes of it, outermost first.
    pub less: Vec<(&'static str, u32)>,
    /// What is left for packets inside: the MTU of the pods.
    pub mtu: u32,
    /// The packet of the frame that was asked for, without its Ethernet header.
    pub packet: Option<u32>,
    /// What that frame has of it as a packet of the path, all headers included.
    pub needs: Option<u32>,
}

impl Fit {
    /// Whether the frame gets through; `None` if none was given.
    pub fn fits(&self) -> Option<bool> {
        self.needs.map(|needs| needs <= self.path_mtu)
    }
}

/// What `path_mtu` leaves, over IPv6 if `is_v6`, and whether a frame with these layers fits.
///
/// A frame that is in a tunnel already is measured as it is, any other as if it were to go into one.
/// `missing` are the bytes at its end that were not captured: the path carries them, too.
pub fn arithmetic(path_mtu: u32, is_v6: bool, layers: &[Layer], missing: usize) -> Fit {
    let tunnel = layers.iter().position(|layer| layer.protocol == "vxlan");
    let outer = layers.get(..tunnel.unwrap_or(0)).unwrap_or_default();
    let inner = match tunnel {
        Some(at) => layers.get(at + 1..).unwrap_or_default(),
        None => layers,
    };
    let is_v6 = match outer
        .iter()
        .rfind(|layer| layer.protocol.starts_with("ipv"))
    {
        Some(layer) => layer.protocol.starts_with("ipv6"),
        None => is_v6,
    };
    let mut less = vxlan::headers(is_v6).to_vec();
    let inner_tunnel = tunnel.map_or(0, |_| 1);
    let tags = inner
        .iter()
        .take_while(|layer| matches!(layer.protocol, "ethernet" | "vlan"))
        .filter(|layer| layer.protocol == "vlan" && layer.tunnel == inner_tunnel);
    less.extend(tags.map(|_| ("VLAN tag", 4)));
    let sum: u32 = less.iter().map(|(_, len)| len).sum();
    // Without a tunnel there may be no Ethernet header, either: then the packet is all.
    let link = inner
        .iter()
        .take_while(|layer| matches!(layer.protocol, "ethernet" | "vlan"))
        .map(|layer| match layer.protocol {
            "vlan" => Frame::TAG_LEN,
            _ => Frame::HEADER_LEN,
        })
        .sum();
    let captured: usize = inner.iter().map(|layer| layer.len).sum();
    let packet = captured.saturating_add(missing).saturating_sub(link);
    let packet = u32::try_from(packet).ok().filter(|_| !inner.is_empty());
    Fit {
        path_mtu,
        mtu: path_mtu.saturating_sub(sum),
        needs: packet.map(|packet| packet.saturating_add(sum)),
        packet,
        less,
    }
}
