//! What is in a namespace: who has which address, and whose port it is.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::{
    Handle,
    packet_route::{
        address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
        link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    },
};

use super::{LinkError, link::local_address, with_socket};
use crate::sys::netns::NetnsFile;

/// An address of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAddress {
    /// The address.
    pub ip: IpAddr,
    /// The name of the link that has it.
    pub link: String,
    /// The MTU of that link, in bytes.
    pub mtu: u32,
    /// Whether it can be used.
    pub state: AddressState,
}

/// Whether an address can be used: IPv6 first looks for others that have it (RFC 4862 section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressState {
    /// It can.
    Usable,
    /// Not yet; it will take a second or two.
    Tentative,
    /// Another host has it too.
    Duplicate,
}

/// All addresses of a namespace, in the kernel's order.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn held_addresses(netns: Option<&NetnsFile>) -> Result<Vec<HeldAddress>, LinkError> {
    with_socket(netns, async |handle| {
        let links = links(&handle).await?;
        let failed = |error| LinkError::step("read addresses", error);
        let request = handle.address().get().execute();
        let addresses: Vec<AddressMessage> = request.try_collect().await.map_err(failed)?;
        let held = |message: &AddressMessage| {
            let index = message.header.index;
            let link = links.iter().find(|link| link.header.index == index)?;
            Some(HeldAddress {
                ip: local_address(message)?,
                link: name(link),
                mtu: mtu(link),
                state: state(message),
            })
        };
        Ok(addresses.iter().filter_map(held).collect())
    })
}

/// The names of the kernel's VXLAN devices that listen on the UDP port `port`.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn vxlan_devices(netns: Option<&NetnsFile>, port: u16) -> Result<Vec<String>, LinkError> {
    with_socket(netns, async move |handle| {
        let links = links(&handle).await?;
        let listens = |link: &&LinkMessage| {
            link.header.flags.contains(LinkFlags::Up) && vxlan_port(link) == Some(port)
        };
        Ok(links.iter().filter(listens).map(name).collect())
    })
}

pub(super) async fn links(handle: &Handle) -> Result<Vec<LinkMessage>, LinkError> {
    let failed = |error| LinkError::step("read links", error);
    let request = handle.link().get().execute();
    request.try_collect().await.map_err(failed)
}

pub(super) fn name(link: &LinkMessage) -> String {
    let name = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
    name.unwrap_or_default()
}

pub(super) fn mtu(link: &LinkMessage) -> u32 {
    let mtu = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
    mtu.unwrap_or(0)
}

pub(super) fn vxlan_port(link: &LinkMessage) -> Option<u16> {
    let infos = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        })?;
    let settings = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(settings)) => Some(settings),
        _ => None,
    })?;
    settings.iter().find_map(|setting| match setting {
        InfoVxlan::Port(port) => Some(*port),
        _ => None,
    })
}

pub(super) fn state(message: &AddressMessage) -> AddressState {
    let more = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
    let (flags, more) = (message.header.flags, more.unwrap_or(AddressFlags::empty()));
    let has = |short, long| flags.contains(short) || more.contains(long);
    if has(AddressHeaderFlags::Dadfailed, AddressFlags::Dadfailed) {
        AddressState::Duplicate
    } else if has(AddressHeaderFlags::Tentative, AddressFlags::Tentative)
        && !has(AddressHeaderFlags::Optimistic, AddressFlags::Optimistic)
    {
        AddressState::Tentative
    } else {
        AddressState::Usable
    }
}
