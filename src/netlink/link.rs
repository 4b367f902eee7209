//! One link: moved, renamed, read, and its settings changed one by one.

use std::{
    fmt,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec,
    packet_route::{
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage, State},
    },
};
use serde::{Deserialize, Serialize};

use super::{LinkError, LinkRef, with_socket};
use crate::{names::IfName, sys::netns::NetnsFile, wire::MacAddr};

/// What a namespace says about a link, and what the kernel counted on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name in its namespace.
    pub name: String,
    /// The longest payload of a frame, in bytes.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Whether it is administratively up.
    pub admin_up: bool,
    /// Whether a cable is plugged in.
    pub carrier: bool,
    /// RFC 2863.
    pub operstate: OperState,
    /// Frames that the kernel keeps for us before it drops.
    pub tx_queue_len: u32,
    /// Counters, from the view of the namespace: `tx` is towards the switch.
    pub stats: LinkStats,
}

/// The operational state of a link (RFC 2863), as `ip link` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperState {
    /// The driver does not say.
    Unknown,
    /// The hardware is missing.
    NotPresent,
    /// No carrier, or administratively down.
    Down,
    /// A lower layer is down.
    LowerLayerDown,
    /// In a test mode.
    Testing,
    /// Waiting for something else, such as 802.1X.
    Dormant,
    /// Passing frames.
    Up,
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::NotPresent => "notpresent",
            Self::Down => "down",
            Self::LowerLayerDown => "lowerlayerdown",
            Self::Testing => "testing",
            Self::Dormant => "dormant",
            Self::Up => "up",
        })
    }
}

/// The kernel's counters of a link (`struct rtnl_link_stats64`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStats {
    /// Frames that we wrote.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that we wrote and that were malformed.
    pub rx_errors: u64,
    /// Frames that we wrote and that the namespace dropped.
    pub rx_dropped: u64,
    /// Frames that the namespace sent and that were queued for us.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that the namespace could not send.
    pub tx_errors: u64,
    /// Frames that were lost because the queue was full or nobody listened (`tun_net_xmit`).
    pub tx_dropped: u64,
}

/// Moves the link `index` of the caller's namespace to `netns` (`None`: it stays) and calls it
/// `name`, in one request.
///
/// # Errors
/// [`LinkError::NameTaken`]; the link may then be in `netns` already, under its old name, since the
/// kernel moves first (`do_setlink`). Any other [`LinkError`] leaves it where it was.
pub fn move_and_rename(
    index: u32,
    netns: Option<&NetnsFile>,
    name: &IfName,
) -> Result<(), LinkError> {
    let mut message = LinkUnspec::new_with_index(index).name(name.to_string());
    if let Some(netns) = netns {
        let fd = netns.as_fd().as_raw_fd();
        message = message.append_extra_attribute(LinkAttribute::NetNsFd(fd));
    }
    let step = match netns {
        Some(netns) => format!(
            "move link to netns {:?} as {name:?}",
            netns.label(),
            name = name.as_str()
        ),
        None => format!("name link {:?}", name.as_str()),
    };
    with_socket(None, async move |handle| {
        change(&handle, message, step).await
    })
    .map_err(|error| match error.errno() {
        Some(libc::EEXIST) => LinkError::NameTaken {
            name: name.to_string(),
        },
        _ => error,
    })
}

/// Reads a link.
///
/// # Errors
/// A [`LinkError`]; `ENODEV` if there is no such link.
pub fn link_state(netns: Option<&NetnsFile>, link: &LinkRef) -> Result<LinkState, LinkError> {
    with_socket(netns, async |handle| find(&handle, link).await)
}

/// The addresses of the link `index`.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn addresses(netns: Option<&NetnsFile>, index: u32) -> Result<Vec<IpNet>, LinkError> {
    with_socket(netns, async |handle| addresses_of(&handle, index).await)
}

/// Sets the MTU of the link `index`.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn set_mtu(netns: Option<&NetnsFile>, index: u32, mtu: u32) -> Result<(), LinkError> {
    let message = LinkUnspec::new_with_index(index).mtu(mtu);
    with_socket(netns, async move |handle| {
        change(&handle, message, format_args!("set mtu {mtu}")).await
    })
}

/// Sets how many segments a superframe of the link `index` may have at most.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn set_gso_max_segs(
    netns: Option<&NetnsFile>,
    index: u32,
    segments: u32,
) -> Result<(), LinkError> {
    let limit = LinkAttribute::GsoMaxSegs(segments);
    let message = LinkUnspec::new_with_index(index).append_extra_attribute(limit);
    with_socket(netns, async move |handle| {
        change(
            &handle,
            message,
            format_args!("set gso_max_segs {segments}"),
        )
        .await
    })
}

/// Sets the hardware address of the link `index`.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn set_mac(netns: Option<&NetnsFile>, index: u32, mac: MacAddr) -> Result<(), LinkError> {
    let message = LinkUnspec::new_with_index(index).address(mac.octets().to_vec());
    with_socket(netns, async move |handle| {
        change(&handle, message, format_args!("set hardware address {mac}")).await
    })
}

/// Sets the link `index` up.
///
/// # Errors
/// A [`LinkError`] that names the step.
pub fn set_up(netns: Option<&NetnsFile>, index: u32) -> Result<(), LinkError> {
    let message = LinkUnspec::new_with_index(index).up();
    with_socket(netns, async move |handle| {
        change(&handle, message, "set link up").await
    })
}

/// Sends one `RTM_NEWLINK` for a link that exists.
pub(super) async fn change(
    handle: &Handle,
    message: LinkMessageBuilder<LinkUnspec>,
    step: impl fmt::Display,
) -> Result<(), LinkError> {
    let request = handle.link().change(message.build());
    let result = request.execute().await;
    result.map_err(|error| LinkError::step(step, error))
}

pub(super) async fn find(handle: &Handle, link: &LinkRef) -> Result<LinkState, LinkError> {
    let request = handle.link().get();
    let request = match link {
        LinkRef::Index(index) => request.match_index(*index),
        LinkRef::Name(name) => request.match_name(name),
    };
    let mut answers = request.execute();
    let failed = |error| LinkError::step(format_args!("read link {link}"), error);
    answers
        .try_next()
        .await
        .map_err(failed)?
        .map(|message| read(&message))
        .ok_or_else(|| failed(rtnetlink::Error::RequestFailed))
}

pub(super) async fn addresses_of(handle: &Handle, index: u32) -> Result<Vec<IpNet>, LinkError> {
    let request = handle.address().get().set_link_index_filter(index);
    let failed = |error| LinkError::step("read addresses", error);
    let messages: Vec<_> = request.execute().try_collect().await.map_err(failed)?;
    let net = |message: &AddressMessage| {
        IpNet::new(local_address(message)?, message.header.prefix_len).ok()
    };
    Ok(messages.iter().filter_map(net).collect())
}

/// The address itself: `IFA_LOCAL`. `IFA_ADDRESS` is the peer on a point-to-point link, and the
/// only one that IPv6 has.
pub(super) fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    found
}

fn read(message: &LinkMessage) -> LinkState {
    let mut state = LinkState {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        mac: MacAddr::ZERO,
        admin_up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        operstate: OperState::Unknown,
        tx_queue_len: 0,
        stats: LinkStats::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => state.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => state.mtu = *mtu,
            LinkAttribute::TxQueueLen(frames) => state.tx_queue_len = *frames,
            LinkAttribute::Carrier(carrier) => state.carrier = *carrier != 0,
            LinkAttribute::Address(bytes) => {
                if let Ok(octets) = <[u8; 6]>::try_from(bytes.as_slice()) {
                    state.mac = MacAddr::new(octets);
                }
            }
            LinkAttribute::OperState(oper) => {
                state.operstate = match oper {
                    State::NotPresent => OperState::NotPresent,
                    State::Down => OperState::Down,
                    State::LowerLayerDown => OperState::LowerLayerDown,
                    State::Testing => OperState::Testing,
                    State::Dormant => OperState::Dormant,
                    State::Up => OperState::Up,
                    _ => OperState::Unknown,
                }
            }
            LinkAttribute::Stats64(stats) => {
                state.stats = LinkStats {
                    rx_packets: stats.rx_packets,
                    rx_bytes: stats.rx_bytes,
                    rx_errors: stats.rx_errors,
                    rx_dropped: stats.rx_dropped,
                    tx_packets: stats.tx_packets,
                    tx_bytes: stats.tx_bytes,
                    tx_errors: stats.tx_errors,
                    tx_dropped: stats.tx_dropped,
                }
            }
            _ => {}
        }
    }
    state
}
