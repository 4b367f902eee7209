//! A namespace as somebody inside sees it: addresses, neighbours, settings, and where the way to an
//! address leads. Reads only.

use std::{
    collections::{HashMap, HashSet},
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        address::AddressMessage,
        link::{LinkFlags, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
    },
};

use super::{
    LinkError, LinkRef, LinkState,
    link::{find, local_address},
    netfilter::{self, Netfilter},
    survey::{AddressState, links, name, state},
    with_socket,
};
use crate::{
    names::IfName,
    sys::{
        cause_text,
        ethtool::{Offload, offload},
        netns::NetnsFile,
    },
    wire::MacAddr,
};

/// What a namespace says about itself, with one link in view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The link.
    pub link: LinkState,
    /// It resolves no addresses (`ip link set ... arp off`).
    pub no_arp: bool,
    /// Addresses of the link and of the rest of the namespace, but not of the loopback: the first
    /// 1024 of each.
    pub addresses: Vec<Held>,
    /// Who the link knows by MAC address, or does not: the first 4096.
    pub neighbours: Vec<Neighbour>,
    /// Settings in force for the link.
    pub sysctls: Sysctls,
    /// Rules that may drop packets.
    pub netfilter: Netfilter,
    /// Whether the device finishes checksums of what the namespace sends; `None`: it does not say.
    pub tx_checksum: Option<bool>,
}

/// An address and the link that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The address, with the length of its prefix.
    pub net: IpNet,
    /// The name of the link.
    pub link: String,
    /// The link's index.
    pub index: u32,
    /// The link is up and has a carrier.
    pub is_up: bool,
    /// Whether the address can be used.
    pub state: AddressState,
}

/// An entry of the neighbour table (`ip neigh`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Whose address was asked for.
    pub ip: IpAddr,
    /// The answer.
    pub mac: Option<MacAddr>,
    /// What it is worth.
    pub state: Reachability,
}

/// The state of a [`Neighbour`] (RFC 4861 section 7.3.2 and `include/uapi/linux/neighbour.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reachability {
    /// Asked, not answered yet.
    Incomplete,
    /// Answered lately.
    Reachable,
    /// Answered some time ago: stale, delay or probe.
    Stale,
    /// Asked in vain.
    Failed,
    /// Set by a person.
    Permanent,
    /// Needs no answer.
    NoArp,
}

impl Reachability {
    /// Packets leave for it.
    pub fn is_usable(self) -> bool {
        !matches!(self, Self::Incomplete | Self::Failed)
    }
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Failed => "failed",
            Self::Permanent => "permanent",
            Self::NoArp => "noarp",
        })
    }
}

/// Settings of a link that decide whether a host answers. Where `all` and the link differ, it is
/// what the kernel makes of both (`Documentation/networking/ip-sysctl.rst`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// `rp_filter`: 1 is strict. The larger of both counts.
    pub rp_filter: u8,
    /// `arp_ignore`: 8 answers nobody. The larger of both counts.
    pub arp_ignore: u8,
    /// `net.ipv4.icmp_echo_ignore_all`.
    pub ignores_ping: bool,
    /// `forwarding` of the link for IPv4.
    pub forwards_v4: bool,
    /// `forwarding` of the link for IPv6.
    pub forwards_v6: bool,
    /// `disable_ipv6` of the link.
    pub no_ipv6: bool,
}

/// Where the way to an address leads (`ip route get`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over a link.
    Over {
        /// The link's index.
        index: u32,
        /// The link's name.
        link: String,
        /// The next hop; `None`: the address itself.
        via: Option<IpAddr>,
        /// The source that packets get.
        source: Option<IpAddr>,
    },
    /// It is the namespace's own address.
    Local,
    /// No route has it (`ENETUNREACH`).
    Nowhere,
    /// A route forbids it, and this is what the kernel says.
    Refused(String),
}

/// Looks around in a namespace.
///
/// # Errors
/// A [`LinkError`]; `ENODEV` if there is no such link.
pub fn view(netns: Option<&NetnsFile>, link: &LinkRef) -> Result<View, LinkError> {
    with_socket(netns, async |handle| {
        let link = find(&handle, link).await?;
        let links = links(&handle).await?;
        let ours = |message: &&LinkMessage| message.header.index == link.index;
        let no_arp = links.iter().find(ours);
        let no_arp = no_arp.is_some_and(|message| message.header.flags.contains(LinkFlags::Noarp));
        let addresses = held(&handle, &links, |held| held.index == link.index).await?;
        let neighbours = neighbours(&handle, |index| index == link.index).await?;
        let device = link.name.parse::<IfName>().ok();
        let tx_checksum = device.and_then(|name| offload(&name, Offload::TxChecksum).ok());
        Ok(View {
            no_arp,
            addresses,
            neighbours,
            sysctls: sysctls(&link.name),
            netfilter: netfilter::read(),
            tx_checksum,
            link,
        })
    })
}

/// The addresses of a namespace, and the neighbours of all its links that have one. Of many there
/// are only the first 1024 and 4096; `local` is among them in any case.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn surroundings(
    netns: Option<&NetnsFile>,
    local: IpAddr,
) -> Result<(Vec<Held>, Vec<Neighbour>, Netfilter), LinkError> {
    with_socket(netns, async |handle| {
        let links = links(&handle).await?;
        let addresses = held(&handle, &links, |held| held.net.addr() == local).await?;
        let with_address: HashSet<u32> = addresses.iter().map(|held| held.index).collect();
        let known = neighbours(&handle, |index| with_address.contains(&index)).await?;
        Ok((addresses, known, netfilter::read()))
    })
}

/// Where the ways to these addresses lead, in their order.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn ways(netns: Option<&NetnsFile>, to: &[IpAddr]) -> Result<Vec<Way>, LinkError> {
    with_socket(netns, async |handle| {
        let links = links(&handle).await?;
        let mut ways = Vec::new();
        for &ip in to {
            ways.push(way(&handle, &links, ip).await);
        }
        Ok(ways)
    })
}

/// The MAC address that packets for `ip` go to over the link with this index, if the namespace
/// knows it.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn mac_of(
    netns: Option<&NetnsFile>,
    link: u32,
    ip: IpAddr,
) -> Result<Option<MacAddr>, LinkError> {
    with_socket(netns, async move |handle| {
        let known = neighbours(&handle, |index| index == link).await?;
        let usable = |entry: &&Neighbour| entry.ip == ip && entry.state.is_usable();
        Ok(known.iter().find(usable).and_then(|entry| entry.mac))
    })
}

/// Only the rules that may drop packets, for a second look at their counters.
///
/// # Errors
/// A [`LinkError`] if the namespace cannot be entered.
pub fn netfilter(netns: Option<&NetnsFile>) -> Result<Netfilter, LinkError> {
    match netns {
        Some(netns) => Ok(netns.run_in(netfilter::read)?),
        None => Ok(netfilter::read()),
    }
}

/// The addresses of a namespace; see [`few`].
async fn held(
    handle: &Handle,
    links: &[LinkMessage],
    matters: impl Fn(&Held) -> bool,
) -> Result<Vec<Held>, LinkError> {
    let failed = |error| LinkError::step("read addresses", error);
    let by_index: HashMap<u32, &LinkMessage> =
        links.iter().map(|link| (link.header.index, link)).collect();
    let parse = |message: &AddressMessage| {
        let index = message.header.index;
        let link = by_index.get(&index)?;
        let flags = link.header.flags;
        let held = Held {
            net: IpNet::new(local_address(message)?, message.header.prefix_len).ok()?,
            link: name(link),
            index,
            is_up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
            state: state(message),
        };
        (held.link != "lo").then_some(held)
    };
    let mut is_kept = few(matters);
    let mut kept = Vec::new();
    let mut messages = Box::pin(handle.address().get().execute());
    while let Some(message) = messages.try_next().await.map_err(failed)? {
        kept.extend(parse(&message).filter(&mut is_kept));
    }
    Ok(kept)
}

/// Lets pass the first [`MOST_ADDRESSES`] that matter and as many others: a namespace may have so
/// many that looking at all of them takes too long, and they must not hide those that matter.
fn few(matters: impl Fn(&Held) -> bool) -> impl FnMut(&Held) -> bool {
    let (mut ours, mut others) = (0, 0);
    move |held| {
        let count = match matters(held) {
            true => &mut ours,
            false => &mut others,
        };
        *count += 1;
        *count <= MOST_ADDRESSES
    }
}

async fn neighbours(
    handle: &Handle,
    is_wanted: impl Fn(u32) -> bool,
) -> Result<Vec<Neighbour>, LinkError> {
    let failed = |error| LinkError::step("read neighbours", error);
    let mut messages = Box::pin(handle.neighbours().get().execute());
    let mut known = Vec::new();
    while let Some(message) = messages.try_next().await.map_err(failed)? {
        if known.len() < MOST_NEIGHBOURS && is_wanted(message.header.ifindex) {
            known.extend(neighbour(&message));
        }
    }
    Ok(known)
}

fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr::new);
            }
            _ => {}
        }
    }
    let state = match message.header.state {
        NeighbourState::Incomplete => Reachability::Incomplete,
        NeighbourState::Reachable => Reachability::Reachable,
        NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => {
            Reachability::Stale
        }
        NeighbourState::Failed => Reachability::Failed,
        NeighbourState::Permanent => Reachability::Permanent,
        NeighbourState::Noarp => Reachability::NoArp,
        _ => return None,
    };
    // Groups and broadcast need no answer, and tell nothing.
    let ip: IpAddr = ip?;
    (state != Reachability::NoArp).then_some(Neighbour { ip, mac, state })
}

async fn way(handle: &Handle, links: &[LinkMessage], ip: IpAddr) -> Way {
    let mut query = RouteMessage::default();
    let (family, length, address) = match ip {
        IpAddr::V4(v4) => (AddressFamily::Inet, 32, RouteAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(v6)),
    };
    query.header.address_family = family;
    query.header.destination_prefix_length = length;
    query.attributes.push(RouteAttribute::Destination(address));
    let mut answers = Box::pin(handle.route().get(query).execute());
    let answer = match answers.next().await {
        Some(Ok(answer)) => answer,
        Some(Err(error)) => {
            return match LinkError::step("find route", error) {
                error if error.errno() == Some(libc::ENETUNREACH) => Way::Nowhere,
                LinkError::Step { cause, .. } => Way::Refused(cause_text(&cause)),
                other => Way::Refused(other.to_string()),
            };
        }
        None => return Way::Refused("the kernel says nothing".to_owned()),
    };
    if answer.header.kind == RouteType::Local {
        return Way::Local;
    }
    let (mut index, mut via, mut source) = (0, None, None);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = *oif,
            RouteAttribute::Gateway(address) => via = ip_of(address),
            RouteAttribute::Via(RouteVia::Inet6(address)) => via = Some((*address).into()),
            RouteAttribute::PrefSource(address) => source = ip_of(address),
            _ => {}
        }
    }
    if answer.header.kind != RouteType::Unicast {
        return Way::Refused(format!("a route of type {:?}", answer.header.kind).to_lowercase());
    }
    let link = links.iter().find(|link| link.header.index == index);
    Way::Over {
        index,
        link: link.map(name).unwrap_or_default(),
        via,
        source,
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(Ipv4Addr::into(*v4)),
        RouteAddress::Inet6(v6) => Some(Ipv6Addr::into(*v6)),
        _ => None,
    }
}

/// In the namespace of the calling thread, whose `/proc/sys/net` is its own.
fn sysctls(link: &str) -> Sysctls {
    let number = |path: String| -> u8 {
        let text = fs::read_to_string(format!("/proc/sys/net/{path}"));
        text.ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    let larger = |key: &str| {
        let of = |conf: &str| number(format!("ipv4/conf/{conf}/{key}"));
        of("all").max(of(link))
    };
    Sysctls {
        rp_filter: larger("rp_filter"),
        arp_ignore: larger("arp_ignore"),
        ignores_ping: number("ipv4/icmp_echo_ignore_all".to_owned()) != 0,
        forwards_v4: number(format!("ipv4/conf/{link}/forwarding")) != 0,
        forwards_v6: number(format!("ipv6/conf/{link}/forwarding")) != 0,
        no_ipv6: number(format!("ipv6/conf/{link}/disable_ipv6")) != 0,
    }
}

/// Addresses of each kind that are kept.
const MOST_ADDRESSES: usize = 1024;
/// Neighbours that are kept: people look for one that is wrong, not for all.
const MOST_NEIGHBOURS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_addresses_of_others_do_not_hide_the_one_that_matters() {
        let held = |number: u32, index| Held {
            net: IpAddr::from(Ipv4Addr::from(number)).into(),
            link: "eth0".to_owned(),
            index,
            is_up: true,
            state: AddressState::Usable,
        };
        let all = (1..10_000).map(|number| held(number, 3));
        let all = all.chain([held(10_000, 2)]);
        let kept: Vec<Held> = all.filter(few(|held| held.index == 2)).collect();
        assert_eq!(kept.len(), MOST_ADDRESSES + 1);
        assert_eq!(kept.last(), Some(&held(10_000, 2)));
    }
}
