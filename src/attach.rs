//! A port plugged into a namespace: the whole sequence, or nothing.
//!
//! The TAP is created in the switch's own namespace and moved, because a tun file that was opened
//! inside a namespace would keep that namespace alive for ever (see [`crate::sys::Tap`]). It is
//! down and under a temporary name until the move, so nobody sees it half made. Whatever fails,
//! dropping the TAP destroys the device with all its addresses and routes.

use std::{
    fmt, io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use ipnet::IpNet;

use crate::{
    doctor,
    names::{IfName, NetnsRef},
    netlink::{self, LinkError, LinkRef, LinkSetup, LinkState, Route, Visitor},
    sys::{
        AcceptedOffloads, SimpleTap, Tap, TapError, TapOptions,
        netns::{NetnsError, NetnsFile, NetnsId},
    },
    wire::MacAddr,
};

/// What a port should look like from inside its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlugRequest {
    /// The namespace; `None`: the switch's own, for a host port.
    pub netns: Option<NetnsRef>,
    /// The name of the interface there.
    pub ifname: IfName,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The gateways of its default routes.
    pub gateways: Vec<IpAddr>,
    /// Its other routes.
    pub routes: Vec<Route>,
    /// How frames are exchanged with it.
    pub engine: Engine,
    /// How many frames the kernel keeps for the switch before it drops (`tun_net_xmit`).
    pub tx_queue_len: u32,
    /// Whether frames skip the queueing discipline, as on a veth.
    pub no_qdisc: bool,
    /// The link speed that it reports.
    pub speed_mbps: u32,
    /// Whether it is up at the end; routes need that.
    pub up: bool,
}

impl PlugRequest {
    /// An interface that is up, with the usual MTU and nothing else.
    pub fn new(netns: Option<NetnsRef>, ifname: IfName, mac: MacAddr) -> Self {
        let defaults = TapOptions::default();
        Self {
            netns,
            ifname,
            mac,
            mtu: 1500,
            addresses: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            engine: Engine::Fast,
            tx_queue_len: 1000,
            no_qdisc: true,
            speed_mbps: defaults.speed_mbps,
            up: true,
        }
    }
}

/// How frames are exchanged with a TAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// With a virtio-net header and inner offload: [`Tap`].
    #[default]
    Fast,
    /// Finished frames only: [`SimpleTap`].
    Simple,
}

/// The device of a port.
#[derive(Debug)]
pub enum PortDevice {
    /// Frames with a virtio-net header.
    Fast(Tap),
    /// Finished frames.
    Simple(SimpleTap),
}

impl PortDevice {
    /// Lets the namespace see a plugged (`true`) or pulled cable.
    ///
    /// # Errors
    /// [`crate::sys::is_gone`].
    pub fn set_carrier(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Fast(tap) => tap.set_carrier(on),
            Self::Simple(tap) => tap.set_carrier(on),
        }
    }

    /// Sets the hardware address of the namespace's end.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` for a group address, and [`crate::sys::is_gone`].
    pub fn set_mac(&self, mac: MacAddr) -> io::Result<()> {
        match self {
            Self::Fast(tap) => tap.set_mac(mac),
            Self::Simple(tap) => tap.set_mac(mac),
        }
    }

    /// The name that the device has now, in whichever namespace it is now.
    ///
    /// # Errors
    /// [`crate::sys::is_gone`].
    pub fn device_name(&self) -> io::Result<String> {
        match self {
            Self::Fast(tap) => tap.device_name(),
            Self::Simple(tap) => tap.device_name(),
        }
    }

    /// The namespace where the device is now. Drop it soon: it keeps the namespace alive.
    ///
    /// # Errors
    /// [`NetnsError::OfDevice`], also if the device is gone.
    pub fn netns(&self) -> Result<NetnsFile, NetnsError> {
        match self {
            Self::Fast(tap) => tap.netns(),
            Self::Simple(tap) => tap.netns(),
        }
    }

    /// What the kernel may leave unfinished in frames from this device.
    pub fn offloads(&self) -> AcceptedOffloads {
        match self {
            Self::Fast(tap) => tap.offloads(),
            Self::Simple(_) => AcceptedOffloads::NONE,
        }
    }

    fn create(engine: Engine, options: &TapOptions) -> Result<Self, TapError> {
        match engine {
            Engine::Fast => Tap::create(options).map(Self::Fast),
            Engine::Simple => SimpleTap::create(options).map(Self::Simple),
        }
    }

    fn created_index(&self) -> u32 {
        match self {
            Self::Fast(tap) => tap.created_as().1,
            Self::Simple(tap) => tap.created_as().1,
        }
    }
}

impl AsFd for PortDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Fast(tap) => tap.as_fd(),
            Self::Simple(tap) => tap.as_fd(),
        }
    }
}

/// A port that is in its place.
#[derive(Debug)]
pub struct Plugged {
    /// Where its frames are read and written. Dropping it destroys the interface.
    pub device: PortDevice,
    /// The index of the interface in its namespace.
    pub ifindex_in_netns: u32,
    /// Which namespace it is in; a number, which keeps nothing alive.
    pub netns_id: NetnsId,
    /// What the kernel may leave unfinished in frames from it.
    pub offloads: AcceptedOffloads,
}

/// Why a port was not plugged. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[error("{told}")]
pub struct PlugError {
    told: String,
    cause: PlugCause,
}

impl PlugError {
    /// The step that failed.
    pub fn cause(&self) -> &PlugCause {
        &self.cause
    }
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlugCause {
    /// The namespace cannot be used.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The TAP was not made.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The interface could not be moved or set up.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Makes a TAP, moves it into its namespace and sets it up there.
///
/// Blocks for some 20 ms, nearly all of them in the kernel: a move waits for several RCU grace
/// periods (`__dev_change_net_namespace`).
///
/// # Errors
/// A [`PlugError`] that names the step; the device is destroyed, and its namespace as it was.
pub fn plug(request: &PlugRequest) -> Result<Plugged, PlugError> {
    try_plug(request).map_err(|cause| {
        let (ifname, place) = (request.ifname.as_str(), Place(request.netns.as_ref()));
        let problem = match &cause {
            PlugCause::Link(LinkError::NameTaken { .. }) => name_taken(request),
            cause => cause.to_string(),
        };
        PlugError {
            told: format!("plug {ifname:?} into {place}: {problem}"),
            cause,
        }
    })
}

/// What to do about an interface that has the name: never to delete one of the host, nor `lo`.
fn name_taken(request: &PlugRequest) -> String {
    let (netns, ifname) = (request.netns.as_ref(), &request.ifname);
    let id = |netns| Some(NetnsFile::open(netns).ok()?.id());
    let own = NetnsFile::current().map(|own| own.id()).ok();
    let foreign = netns.filter(|netns| own.is_some() && id(netns) != own);
    match foreign {
        Some(_) if ifname.as_str() != "lo" => {
            let delete = doctor::Place(netns).ip(format_args!("link del {ifname}"));
            format!("interface name taken; choose another (--ifname), or delete that one: {delete}")
        }
        Some(_) => {
            "interface name taken: every namespace has lo; choose another (--ifname)".to_owned()
        }
        None => {
            "interface name taken: an interface that is there cannot be plugged in, for a port \
                 is a new TAP; choose another name"
                .to_owned()
        }
    }
}

fn try_plug(request: &PlugRequest) -> Result<Plugged, PlugCause> {
    // First, so that a wrong name costs nothing.
    let netns = request.netns.as_ref().map(NetnsFile::open).transpose()?;
    let netns_id = match &netns {
        Some(netns) => netns.id(),
        None => NetnsFile::current()?.id(),
    };
    let options = TapOptions {
        mac: Some(request.mac),
        speed_mbps: request.speed_mbps,
    };
    let device = PortDevice::create(request.engine, &options)?;
    let index = device.created_index();
    netlink::move_and_rename(index, netns.as_ref(), &request.ifname)?;
    let setup = LinkSetup {
        // Once more, if it differs: udev may have seen the new device with its random address and
        // given it one of its own (MACAddressPolicy=persistent).
        mac: Some(request.mac),
        mtu: Some(request.mtu),
        tx_queue_len: Some(request.tx_queue_len),
        no_qdisc: request.no_qdisc,
        addresses: request.addresses.clone(),
        gateways: request.gateways.clone(),
        routes: request.routes.clone(),
        up: request.up,
        lo_up: netns.is_some(),
        // By name: the index changes if it is in use there.
        ..LinkSetup::new(LinkRef::from(&request.ifname))
    };
    let ifindex_in_netns = netlink::configure(netns.as_ref(), &setup)?;
    let offloads = device.offloads();
    Ok(Plugged {
        device,
        ifindex_in_netns,
        netns_id,
        offloads,
    })
}

/// Reads what the namespace says about a port's interface now, wherever it was moved and however
/// it was renamed.
///
/// # Errors
/// A [`LinkError`]; [`NetnsError::OfDevice`] in it if the device is gone.
pub fn link_of(device: &PortDevice) -> Result<LinkState, LinkError> {
    Visitor::run(|visitor| link_by(visitor, device))?
}

/// The same of many, for a fraction of what each costs alone.
///
/// # Errors
/// As of one, and [`LinkError::Socket`] if none could be asked.
pub fn links_of(devices: &[&PortDevice]) -> Result<Vec<Result<LinkState, LinkError>>, LinkError> {
    Visitor::run(|visitor| {
        let links = devices.iter().map(|device| link_by(visitor, device));
        links.collect()
    })
}

fn link_by(visitor: &Visitor, device: &PortDevice) -> Result<LinkState, LinkError> {
    let gone = |cause| LinkError::Netns(NetnsError::OfDevice { cause });
    // Between the two questions and the answer, somebody may rename the device: ask again.
    let mut attempts = 3;
    loop {
        attempts -= 1;
        let netns = device.netns()?;
        let name = device.device_name().map_err(gone)?;
        match visitor.link_state(&netns, &LinkRef::Name(name)) {
            Err(error) if error.errno() == Some(libc::ENODEV) && attempts > 0 => {}
            result => return result,
        }
    }
}

/// A namespace in a message.
struct Place<'a>(Option<&'a NetnsRef>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(netns) => write!(f, "netns {:?}", netns.to_string()),
            None => f.write_str("the switch's own netns"),
        }
    }
}
