//! A link set up in one go: either everything that was asked for, or as it was before.

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
        link::{LinkAttribute, State},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteVia},
        tc::{TcAttribute, TcHandle, TcMessage},
    },
};

use super::{
    LinkError, LinkRef, Route,
    link::{addresses_of, change, find},
    with_socket,
};
use crate::{sys::netns::NetnsFile, wire::MacAddr};

/// What a link and its namespace should be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSetup {
    /// Which link.
    pub link: LinkRef,
    /// Its hardware address; `None`: as it is.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes; `None`: as it is.
    pub mtu: Option<u32>,
    /// How many frames the kernel keeps in its transmit queue; `None`: as it is.
    pub tx_queue_len: Option<u32>,
    /// Whether frames skip the queueing discipline, as on a veth: what waits, waits in the device.
    pub no_qdisc: bool,
    /// Addresses to add.
    pub addresses: Vec<IpNet>,
    /// Gateways of default routes to add.
    pub gateways: Vec<IpAddr>,
    /// Other routes to add.
    pub routes: Vec<Route>,
    /// Whether to set it up; routes need that.
    pub up: bool,
    /// Whether to set the loopback up too, without which a namespace cannot ping itself.
    pub lo_up: bool,
}

impl LinkSetup {
    /// Nothing to change on `link`.
    pub fn new(link: LinkRef) -> Self {
        Self {
            link,
            mac: None,
            mtu: None,
            tx_queue_len: None,
            no_qdisc: false,
            addresses: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            up: false,
            lo_up: false,
        }
    }
}

/// How to take one step back.
enum Undo {
    Link(LinkMessageBuilder<LinkUnspec>),
    Address(AddressMessage),
    Route(RouteMessage),
}

impl Undo {
    async fn take_back(self, handle: &Handle) {
        let result = match self {
            Self::Link(message) => handle.link().change(message.build()).execute().await,
            Self::Address(message) => handle.address().del(message).execute().await,
            Self::Route(message) => handle.route().del(message).execute().await,
        };
        // The caller is told of the first failure. A link that has vanished meanwhile has nothing
        // left to take back, and setting it down has already removed its routes.
        drop(result);
    }
}

/// Sets a link up and returns its index. Addresses and routes that are there already are kept.
///
/// # Errors
/// A [`LinkError`] that names the step; the earlier steps are undone.
pub fn configure(netns: Option<&NetnsFile>, setup: &LinkSetup) -> Result<u32, LinkError> {
    with_socket(netns, async |handle| {
        let mut undo = Vec::new();
        let result = apply(&handle, setup, &mut undo).await;
        if result.is_err() {
            for step in undo.into_iter().rev() {
                step.take_back(&handle).await;
            }
        }
        result
    })
}

async fn apply(handle: &Handle, setup: &LinkSetup, undo: &mut Vec<Undo>) -> Result<u32, LinkError> {
    let before = find(handle, &setup.link).await?;
    let index = before.index;
    let link = || LinkUnspec::new_with_index(index);
    if setup.lo_up {
        let lo = find(handle, &LinkRef::Name("lo".to_owned())).await?;
        if !lo.admin_up {
            let link = || LinkUnspec::new_with_index(lo.index);
            change(handle, link().up(), "set link \"lo\" up").await?;
            undo.push(Undo::Link(link().down()));
        }
    }
    if let Some(mac) = setup.mac.filter(|&mac| mac != before.mac) {
        let message = link().address(mac.octets().to_vec());
        change(handle, message, format_args!("set hardware address {mac}")).await?;
        let octets = before.mac.octets().to_vec();
        undo.push(Undo::Link(link().address(octets)));
    }
    if let Some(mtu) = setup.mtu.filter(|&mtu| mtu != before.mtu) {
        change(handle, link().mtu(mtu), format_args!("set mtu {mtu}")).await?;
        undo.push(Undo::Link(link().mtu(before.mtu)));
    }
    if let Some(frames) = setup.tx_queue_len.filter(|&n| n != before.tx_queue_len) {
        let queue = |frames| link().append_extra_attribute(LinkAttribute::TxQueueLen(frames));
        let step = format_args!("set txqueuelen {frames}").to_string();
        change(handle, queue(frames), step).await?;
        undo.push(Undo::Link(queue(before.tx_queue_len)));
    }
    if setup.no_qdisc {
        // The link works as well with the kernel's default, only a little slower.
        drop(remove_qdisc(handle, index).await);
    }
    // Before the link goes up, so that its first frame already has the right source.
    for &net in &setup.addresses {
        add_address(handle, index, net, undo).await?;
    }
    if setup.up && !before.admin_up {
        // A TAP has its carrier from birth, so no event ever tells the kernel that it is up, and
        // `ip link` would show UNKNOWN. `set_operstate` allows UNKNOWN to UP and ignores the rest.
        let operstate = LinkAttribute::OperState(State::Up);
        let message = link().up().append_extra_attribute(operstate);
        change(handle, message, "set link up").await?;
        undo.push(Undo::Link(link().down()));
    }
    let up = setup.up || before.admin_up;
    let defaults = setup.gateways.iter().map(|&via| Route::default_via(via));
    for route in setup.routes.iter().copied().chain(defaults) {
        if !up {
            // The kernel would say that the gateway is unreachable (fib_check_nh).
            let down = io::Error::from_raw_os_error(libc::ENETDOWN);
            return Err(LinkError::refused(format_args!("add route {route}"), down));
        }
        add_route(handle, index, route, undo).await?;
    }
    Ok(index)
}

/// `tc qdisc replace root noqueue`.
async fn remove_qdisc(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or_default());
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind("noqueue".to_owned())];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(refusal) = answer.payload
            && refusal.code.is_some()
        {
            return Err(rtnetlink::Error::NetlinkError(refusal));
        }
    }
    Ok(())
}

async fn add_address(
    handle: &Handle,
    index: u32,
    net: IpNet,
    undo: &mut Vec<Undo>,
) -> Result<(), LinkError> {
    let message = address_message(index, net);
    let mut request = handle.address().add(index, net.addr(), net.prefix_len());
    *request.message_mut() = message.clone();
    let result = request.execute().await;
    let Err(error) = result else {
        undo.push(Undo::Address(message));
        return Ok(());
    };
    let error = LinkError::step(format_args!("add address {net}"), error);
    // The kernel says EEXIST also for the same address with another prefix (inet6_addr_add).
    if error.errno() == Some(libc::EEXIST) && addresses_of(handle, index).await?.contains(&net) {
        return Ok(());
    }
    Err(error)
}

async fn add_route(
    handle: &Handle,
    index: u32,
    route: Route,
    undo: &mut Vec<Undo>,
) -> Result<(), LinkError> {
    let step = format_args!("add route {route}").to_string();
    let message = route_message(index, route)?;
    let result = handle.route().add(message.clone()).execute().await;
    let Err(error) = result else {
        undo.push(Undo::Route(message));
        return Ok(());
    };
    let error = LinkError::step(step, error);
    // The kernel compares only the destination and the metric (fib_table_insert).
    if error.errno() == Some(libc::EEXIST) && has_route(handle, &message).await? {
        return Ok(());
    }
    Err(error)
}

/// Removes an address from the link `index`.
///
/// # Errors
/// A [`LinkError`]; `EADDRNOTAVAIL` if it is not there.
pub fn remove_address(netns: Option<&NetnsFile>, index: u32, net: IpNet) -> Result<(), LinkError> {
    with_socket(netns, async move |handle| {
        let request = handle.address().del(address_message(index, net));
        let result = request.execute().await;
        result.map_err(|error| LinkError::step(format_args!("remove address {net}"), error))
    })
}

/// Removes a route over the link `index`.
///
/// # Errors
/// A [`LinkError`]; `ESRCH` if it is not there.
pub fn remove_route(netns: Option<&NetnsFile>, index: u32, route: Route) -> Result<(), LinkError> {
    with_socket(netns, async move |handle| {
        let message = route_message(index, route)?;
        let result = handle.route().del(message).execute().await;
        result.map_err(|error| LinkError::step(format_args!("remove route {route}"), error))
    })
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    match net {
        IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => {
            let mut message = AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(net.addr(), net.prefix_len())
                .build();
            // Duplicate address detection would keep the address tentative for a second, and the
            // first connections would fail.
            message.header.flags |= AddressHeaderFlags::Nodad;
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            message.attributes.push(flags);
            message
        }
    }
}

fn route_message(index: u32, route: Route) -> Result<RouteMessage, LinkError> {
    let to = route.to();
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to.addr(), to.prefix_len())
        .map_err(|error| refused(route, error))?
        .output_interface(index);
    let builder = match route.via() {
        Some(via) => builder
            .gateway(via)
            .map_err(|error| refused(route, error))?,
        // Directly reachable; IPv6 has no scopes and ignores it.
        None => builder.scope(RouteScope::Link),
    };
    Ok(builder.build())
}

fn refused(route: Route, error: impl Error + Send + Sync + 'static) -> LinkError {
    LinkError::Step {
        step: format!("add route {route}"),
        cause: io::Error::new(io::ErrorKind::InvalidInput, error),
        advice: "the gateway must be of the family of the destination",
    }
}

/// Whether the kernel has a route with the destination, gateway and link of `wanted`.
async fn has_route(handle: &Handle, wanted: &RouteMessage) -> Result<bool, LinkError> {
    let mut query = RouteMessage::default();
    query.header.address_family = wanted.header.address_family;
    let answers = handle.route().get(query).execute();
    let routes: Vec<RouteMessage> = answers
        .try_collect()
        .await
        .map_err(|error| LinkError::step("read routes", error))?;
    let wanted = key(wanted);
    Ok(routes.iter().any(|route| key(route) == wanted))
}

/// What makes two routes the same for us.
type RouteKey = (u8, Option<RouteAddress>, Option<RouteAddress>, Option<u32>);

fn key(route: &RouteMessage) -> RouteKey {
    let (mut to, mut via, mut link) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = Some(address.clone()),
            RouteAttribute::Gateway(address) => via = Some(address.clone()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => via = Some((*address).into()),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let length = route.header.destination_prefix_length;
    // The kernel leaves the destination of a default route out.
    (length, to.filter(|_| length > 0), via, link)
}
