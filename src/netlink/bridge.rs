//! The kernel's bridges: which links are part of one, and what their FDBs have.

use std::{collections::HashSet, net::IpAddr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::{
    AddressFamily,
    address::AddressMessage,
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAttribute, NeighbourMessage},
};

use super::{
    LinkError,
    link::local_address,
    survey::{links, mtu, name, vxlan_port},
    with_socket,
};
use crate::{sys::netns::NetnsFile, wire::MacAddr};

/// A link, as far as it matters to a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeLink {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its address.
    pub mac: Option<MacAddr>,
    /// What it is.
    pub kind: BridgeLinkKind,
    /// The index of the device that it belongs to, such as a bridge.
    pub master: Option<u32>,
    /// Whether frames can pass.
    pub is_up: bool,
    /// The longest payload of a frame, in bytes.
    pub mtu: u32,
    /// The UDP port of a VXLAN device.
    pub vxlan_port: Option<u16>,
    /// Whether it has an address that is more than its own doing (IPv6 link-local).
    pub has_address: bool,
}

/// What a link is to a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BridgeLinkKind {
    /// The bridge itself, through which the host takes part.
    Bridge,
    /// A VXLAN device.
    Vxlan,
    /// Any other.
    Other,
}

/// A row of the FDB of a bridge, or of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeRow {
    /// The address.
    pub mac: MacAddr,
    /// The index of the port behind which it is.
    pub index: u32,
}

/// All links of a namespace.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn bridge_links(netns: Option<&NetnsFile>) -> Result<Vec<BridgeLink>, LinkError> {
    with_socket(netns, async |handle| {
        let links = links(&handle).await?;
        let failed = |error| LinkError::step("read addresses", error);
        let request = handle.address().get().execute();
        let addresses: Vec<AddressMessage> = request.try_collect().await.map_err(failed)?;
        let given: HashSet<u32> = addresses.iter().filter_map(given_to).collect();
        let links = links.iter().map(|link| BridgeLink {
            has_address: given.contains(&link.header.index),
            ..bridge_link(link)
        });
        Ok(links.collect())
    })
}

/// What the FDBs of all bridges and VXLAN devices of a namespace know of single stations.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn bridge_rows(netns: Option<&NetnsFile>) -> Result<Vec<BridgeRow>, LinkError> {
    with_socket(netns, async |handle| {
        let failed = |error| LinkError::step("read forwarding databases", error);
        let mut request = handle.neighbours().get();
        request.message_mut().header.family = AddressFamily::Bridge;
        let rows: Vec<NeighbourMessage> = request.execute().try_collect().await.map_err(failed)?;
        Ok(rows.iter().filter_map(bridge_row).collect())
    })
}

fn bridge_link(link: &LinkMessage) -> BridgeLink {
    let flags = link.header.flags;
    let mut found = BridgeLink {
        index: link.header.index,
        name: name(link),
        mac: None,
        mtu: mtu(link),
        vxlan_port: vxlan_port(link),
        has_address: false,
        kind: BridgeLinkKind::Other,
        master: None,
        is_up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => found.mac = mac(bytes),
            LinkAttribute::Controller(index) => found.master = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Bridge) => found.kind = BridgeLinkKind::Bridge,
                        LinkInfo::Kind(InfoKind::Vxlan) => found.kind = BridgeLinkKind::Vxlan,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The index of the link that somebody has given an address.
fn given_to(message: &AddressMessage) -> Option<u32> {
    let is_own = match local_address(message)? {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    (!is_own).then_some(message.header.index)
}

fn bridge_row(message: &NeighbourMessage) -> Option<BridgeRow> {
    let mut attributes = message.attributes.iter();
    let address = attributes.find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
        _ => None,
    });
    let mac = address.filter(|mac| !mac.is_group() && *mac != MacAddr::ZERO)?;
    let index = message.header.ifindex;
    Some(BridgeRow { mac, index })
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    <[u8; 6]>::try_from(bytes).ok().map(MacAddr::new)
}
