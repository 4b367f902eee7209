//! The sockets of the VXLAN endpoint.
//!
//! One socket has the endpoint's port and only receives. A pool of others only sends: RFC 7348
//! section 5 wants the source port to depend on the inner flow, so that routers and network cards
//! spread the flows, and a socket has one port. Each flow stays with one socket, and so in order.
//!
//! All of them belong to the endpoint's namespace and work from any thread. They outlive their
//! address and their link (`sys::udp`), so nothing has to be opened again unless the namespace dies.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    bridge::DropReason,
    datapath::{Arrival, Arrived, Departed, Departure, UnderlayIo},
    names::NetnsRef,
    netlink::{self, AddressState, HeldAddress},
    sys::{
        cause_text, clock,
        netns::{NetnsError, NetnsFile},
        udp::{Answer, Knock, PathProbe, PortOwner, Refusals, UdpOptions, UdpSocket, owner_of},
    },
    vxlan,
};

/// How to open an [`Underlay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderlayOptions<'a> {
    /// The address that datagrams come from and are taken at.
    pub local: IpAddr,
    /// The UDP port that is listened on.
    pub port: u16,
    /// TTL or hop limit, 1 to 255.
    pub ttl: u8,
    /// Whether UDP checksums are sent. Without them there is no `UDP_SEGMENT`.
    pub udpcsum: bool,
    /// Whether IPv6 datagrams without a checksum are taken.
    pub udp6zerocsumrx: bool,
    /// Whether the kernel may segment and join datagrams.
    pub offload: bool,
    /// The namespace; `None`: that of the calling thread.
    pub netns: Option<&'a NetnsRef>,
}

/// Why there are no sockets. `at` is the address and port that were wanted, with the namespace where
/// the rest does not tell it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnderlayError {
    /// The namespace cannot be used.
    #[error("open vtep {at}: {cause}")]
    Netns {
        /// What was wanted.
        at: String,
        /// Why.
        cause: NetnsError,
    },
    /// Somebody has the port.
    #[error("open vtep {at}: {owner} has the UDP port; {advice}, or choose another port")]
    PortTaken {
        /// What was wanted.
        at: String,
        /// Who has it.
        owner: String,
        /// What to do about that.
        advice: String,
    },
    /// No interface has the address.
    #[error(
        "open vtep {at}: no interface has the address; add it to one, or choose another: {}",
        list(.held)
    )]
    NoAddress {
        /// What was wanted.
        at: String,
        /// What interfaces have of the same family.
        held: Vec<HeldAddress>,
    },
    /// An interface has the address, but it cannot be used yet, or never.
    #[error("open vtep {at}: {}", unusable(.address))]
    UnusableAddress {
        /// What was wanted.
        at: String,
        /// Its state.
        address: HeldAddress,
    },
    /// There is no port to send from.
    #[error(
        "open vtep {at}: all UDP ports from 49152 to 65535 are taken, and it sends from those; see \
         who has them: ss -lunp"
    )]
    NoSourcePort {
        /// What was wanted.
        at: String,
    },
    /// Anything else that the kernel refuses.
    #[error("open vtep {at}: {}; {}", cause_text(.cause), advice(.cause))]
    Refused {
        /// What was wanted.
        at: String,
        /// What the kernel answered.
        cause: io::Error,
    },
}

/// The addresses that could be meant.
fn list(held: &[HeldAddress]) -> String {
    let mut names: Vec<String> = held
        .iter()
        .take(MOST_LISTED)
        .map(|address| format!("{} ({})", address.ip, address.link))
        .collect();
    match held.len().saturating_sub(MOST_LISTED) {
        0 if names.is_empty() => return "there is none of its family".to_owned(),
        0 => {}
        more => names.push(format!("and {more} more")),
    }
    names.join(", ")
}

fn unusable(address: &HeldAddress) -> String {
    let (ip, link) = (address.ip, &address.link);
    match address.state {
        AddressState::Tentative => format!(
            "the kernel still looks for duplicates of the address on {link}; try again in a \
             second, or add it without the search: ip address add {ip}/LEN dev {link} nodad"
        ),
        AddressState::Duplicate => format!(
            "another host on {link} has the address too (duplicate address detection); give one \
             of them another"
        ),
        AddressState::Usable => "the address cannot be used; try again".to_owned(),
    }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "for a port below 1024, run as root or grant CAP_NET_BIND_SERVICE"
        }
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (ulimit -n)",
        Some(libc::EAFNOSUPPORT) => "the kernel has no IPv6; choose an IPv4 address",
        _ => "see `dmesg`",
    }
}

/// The sockets of one VXLAN endpoint.
#[derive(Debug)]
pub struct Underlay {
    receiver: UdpSocket,
    /// Never empty.
    senders: Vec<UdpSocket>,
    /// Asks for one thread at a time.
    probe: Mutex<PathProbe>,
    name: Option<NetnsRef>,
    netns: Option<NetnsFile>,
    local: SocketAddr,
    /// Datagrams a message, as far as we want: 1 without `UDP_SEGMENT`.
    wanted: usize,
    /// Datagrams a message, as far as the kernel takes them.
    most: AtomicUsize,
    joins: bool,
    refusal_told: AtomicBool,
    /// What the kernel said last; it wraps.
    overflow_seen: AtomicU32,
    overflow: AtomicU64,
}

/// What plain UDP says of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpAnswer {
    /// It is there, and nobody listens on the port (ICMP port unreachable).
    Refused,
    /// A datagram came back.
    Answered,
    /// Nothing came back.
    Silent,
    /// There is no way, for this reason.
    Unreachable(String),
}

impl UdpAnswer {
    /// What comes back within `timeout` for each of these, which are sent in this order.
    pub fn to<const N: usize>(knocks: [&Result<Knock, String>; N], timeout: Duration) -> [Self; N] {
        let sent = knocks.map(|knock| {
            let knock = knock
                .as_ref()
                .map_err(|why| Self::Unreachable(why.clone()))?;
            knock.send().map(|()| knock).map_err(Self::from)
        });
        let deadline = clock::now() + timeout;
        sent.map(|sent| sent.map_or_else(|known| known, |knock| knock.wait_until(deadline).into()))
    }
}

impl From<Answer> for UdpAnswer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Answered => Self::Answered,
            Answer::Refused => Self::Refused,
            Answer::Silent => Self::Silent,
            Answer::Unreachable(error) => Self::Unreachable(cause_text(&error)),
        }
    }
}

impl Underlay {
    /// Opens the sockets in the namespace.
    ///
    /// # Errors
    /// An [`UnderlayError`]; nothing stays open.
    pub fn open(options: &UnderlayOptions<'_>) -> Result<Self, UnderlayError> {
        let local = SocketAddr::new(options.local, options.port);
        let at = || match options.netns {
            Some(netns) => format!("{local} in netns {:?}", netns.to_string()),
            None => local.to_string(),
        };
        let failed = |cause| UnderlayError::Netns {
            at: local.to_string(),
            cause,
        };
        let netns = options.netns.map(NetnsFile::open).transpose();
        let netns = netns.map_err(failed)?;
        let opened = inside(netns.as_ref(), || open_sockets(options)).map_err(failed)?;
        let (receiver, senders, probe) =
            opened.map_err(|refusal| explain(refusal, local, at(), netns.as_ref()))?;
        let wanted = if options.offload && options.udpcsum {
            MOST_SEGMENTS
        } else {
            1
        };
        Ok(Self {
            receiver,
            senders,
            probe: Mutex::new(probe),
            name: options.netns.cloned(),
            netns,
            local,
            wanted,
            most: AtomicUsize::new(wanted),
            joins: options.offload,
            refusal_told: AtomicBool::new(false),
            overflow_seen: AtomicU32::new(0),
            overflow: AtomicU64::new(0),
        })
    }

    /// The address that datagrams come from and are taken at.
    pub fn local(&self) -> IpAddr {
        self.local.ip()
    }

    /// The UDP ports that datagrams come from.
    pub fn source_ports(&self) -> Vec<u16> {
        let ports = self.senders.iter().map(|sender| sender.local().port());
        ports.collect()
    }

    /// The offloads in force, in words.
    pub fn offloads(&self) -> String {
        let segments = match (self.wanted, self.most.load(Ordering::Relaxed)) {
            (1, _) => None,
            (_, 1) => Some("no UDP_SEGMENT (the kernel refuses it)"),
            _ => Some("UDP_SEGMENT"),
        };
        let joins = self.joins.then_some("UDP_GRO");
        let words: Vec<&str> = segments.into_iter().chain(joins).collect();
        if words.is_empty() {
            return "none".to_owned();
        }
        words.join(", ")
    }

    /// How many datagrams the kernel had no room for, as far as is known.
    pub fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }

    /// The MTU of the path to `to`, in bytes of IP packets. Costs two calls on a socket that is
    /// there, however many peers are asked for.
    ///
    /// # Errors
    /// As [`PathProbe::mtu`].
    pub fn ask_path(&self, to: SocketAddr) -> io::Result<u32> {
        let probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        let mtu = probe.mtu_to(to)?;
        // The loopback device takes a byte more than there are in a packet.
        Ok(if to.is_ipv4() { mtu.min(MOST_V4) } else { mtu })
    }

    /// Whether our address is gone. Over IPv6 the kernel goes on sending from it while there is a
    /// route, and no answer comes back.
    pub fn is_homeless(&self) -> bool {
        let bound = inside(self.netns.as_ref(), || {
            std::net::UdpSocket::bind((self.local.ip(), 0))
        });
        let gone = |error: &io::Error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL);
        bound.is_ok_and(|bound| bound.as_ref().is_err_and(gone))
    }

    /// The name and MTU of the interface that has our address. Asks the kernel on a thread of its
    /// own.
    pub fn device(&self) -> Option<(String, u32)> {
        let held = netlink::held_addresses(self.netns.as_ref()).ok()?;
        let ours = |address: &HeldAddress| address.ip == self.local.ip();
        let address = held.into_iter().find(ours)?;
        Some((address.link, address.mtu))
    }

    /// Lets messages of several datagrams be tried again after a refusal: the route may go over
    /// another device by now.
    pub fn retry_offload(&self) {
        self.most.store(self.wanted, Ordering::Relaxed);
    }

    /// Why the sockets are of no use any more: the name stands for another namespace, or for none.
    pub fn is_abandoned(&self) -> Option<String> {
        let (name, ours) = (self.name.as_ref()?, self.netns.as_ref()?);
        match NetnsFile::open(name) {
            Ok(now) if now.id() == ours.id() => None,
            Ok(_) => Some(format!("netns {name} is another one now")),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Datagrams of one byte to `to`, which a VTEP drops without a word: [`UdpAnswer::to`] sends
    /// one. It has a socket of its own, so that waiting keeps nobody from closing these.
    ///
    /// # Errors
    /// Why there is no way, in words.
    pub fn knock(&self, to: SocketAddr) -> Result<Knock, String> {
        inside(self.netns.as_ref(), || Knock::new(self.local.ip(), to))
            .map_err(|error| error.to_string())?
            .map_err(|error| cause_text(&error))
    }

    /// Listens for what `from` refuses of anything that is sent; `None`: we may not.
    pub fn hear_refusals(&self, from: IpAddr) -> Option<Refusals> {
        inside(self.netns.as_ref(), || Refusals::new(from))
            .ok()?
            .ok()
    }

    /// The socket that this flow leaves from.
    #[inline]
    fn sender_of(&self, flow: u32) -> &UdpSocket {
        let index = flow as usize % self.senders.len().max(1);
        self.senders.get(index).unwrap_or(&self.receiver)
    }

    #[cold]
    fn refused(&self, departure: &Departure, error: &io::Error) -> Departed {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Departed::TooLong,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                Departed::Dropped(DropReason::EgressFull)
            }
            Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP) if departure.segment.is_some() => {
                self.expect_less(departure.to, error);
                Departed::Unsupported
            }
            // EINVAL: older kernels, if our address is gone.
            Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::ENODEV
                | libc::EADDRNOTAVAIL
                | libc::EACCES
                | libc::EINVAL,
            ) => Departed::Dropped(DropReason::NoRoute),
            _ => Departed::Dropped(DropReason::EgressRefused),
        }
    }

    /// The kernel refused a message of several datagrams: smaller ones from now on, then single ones.
    fn expect_less(&self, to: SocketAddr, error: &io::Error) {
        let less = match self.most.load(Ordering::Relaxed) {
            MOST_SEGMENTS => MOST_SEGMENTS_BEFORE_6_9,
            _ => 1,
        };
        self.most.store(less, Ordering::Relaxed);
        if less == 1 && !self.refusal_told.swap(true, Ordering::Relaxed) {
            let cause = cause_text(error);
            tracing::warn!(%to, "outer offload off: the kernel refuses UDP_SEGMENT: {cause}; one datagram a call, and the offload is tried again every second");
        }
    }
}

impl UnderlayIo for Underlay {
    #[inline]
    fn receive(&self, buf: &mut [u8]) -> Arrived {
        let Ok(message) = self.receiver.recv(buf) else {
            return Arrived::Empty;
        };
        if let Some(total) = message.overflow {
            // One worker receives at a time.
            let seen = self.overflow_seen.swap(total, Ordering::Relaxed);
            let more = total.wrapping_sub(seen).into();
            self.overflow.fetch_add(more, Ordering::Relaxed);
        }
        Arrived::Message(Arrival {
            len: message.len,
            from: message.from.ip(),
            port: message.from.port(),
            segment: message.segment,
            tos: message.tos,
        })
    }

    #[inline]
    fn transmit(&self, departure: &Departure, parts: &[io::IoSlice<'_>]) -> Departed {
        let &Departure {
            to,
            flow,
            tos,
            segment,
        } = departure;
        match self.sender_of(flow).send(to, parts, segment, tos) {
            Ok(_) => Departed::Sent,
            Err(error) => self.refused(departure, &error),
        }
    }

    #[inline]
    fn most_in_message(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn path_mtu(&self, to: SocketAddr) -> Option<u32> {
        self.ask_path(to).ok()
    }

    /// The route is asked for as `ip route get` does.
    fn obstacle(&self, to: SocketAddr) -> Option<DropReason> {
        self.ask_path(to).err().map(|_| DropReason::NoRoute)
    }

    fn source_port(&self, flow: u32) -> Option<u16> {
        Some(self.sender_of(flow).local().port())
    }
}

impl AsFd for Underlay {
    /// The socket that receives.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

/// Runs `f` in the namespace. Our own needs no privilege to enter.
fn inside<T: Send>(
    netns: Option<&NetnsFile>,
    f: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    match netns {
        Some(netns) => netns.run_in(f),
        None => Ok(f()),
    }
}

/// Why a socket was not opened.
enum Refusal {
    Kernel(io::Error),
    /// With who has it, since that can be seen from inside only.
    PortTaken(Option<PortOwner>),
    NoSourcePort,
}

impl From<io::Error> for Refusal {
    fn from(cause: io::Error) -> Self {
        Self::Kernel(cause)
    }
}

/// Opens all sockets in the namespace of the calling thread.
fn open_sockets(
    options: &UnderlayOptions<'_>,
) -> Result<(UdpSocket, Vec<UdpSocket>, PathProbe), Refusal> {
    let local = SocketAddr::new(options.local, options.port);
    let socket = UdpOptions {
        local,
        gro: options.offload,
        ttl: options.ttl,
        receive_buffer: BUFFER,
        send_buffer: BUFFER,
        no_checksum_tx: !options.udpcsum,
        no_checksum6_rx: options.udp6zerocsumrx,
        receives: true,
    };
    let receiver = UdpSocket::bind(&socket).map_err(|cause| match cause.raw_os_error() {
        Some(libc::EADDRINUSE) => Refusal::PortTaken(owner_of(options.port, options.local)),
        _ => Refusal::Kernel(cause),
    })?;
    let mut senders = Vec::with_capacity(SENDERS);
    for port in shuffled_ports() {
        let bound = UdpSocket::bind(&UdpOptions {
            local: SocketAddr::new(options.local, port),
            receives: false,
            ..socket
        });
        match bound {
            Ok(sender) => senders.push(sender),
            Err(cause) if cause.raw_os_error() == Some(libc::EADDRINUSE) => {}
            Err(cause) => return Err(cause.into()),
        }
        if senders.len() == SENDERS {
            break;
        }
    }
    if senders.is_empty() {
        return Err(Refusal::NoSourcePort);
    }
    let probe = PathProbe::new(options.local, local)?;
    if options.local.is_ipv4()
        && let Err(cause) = probe.mtu_to(local)
        && cause.raw_os_error() == Some(libc::ENETUNREACH)
    {
        // In a namespace that has never had an address any can be bound to (`__inet_dev_addr_type`
        // finds no table), and datagrams would later leave with whatever source the kernel likes.
        return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL).into());
    }
    Ok((receiver, senders, probe))
}

/// All source ports, from one on that is another each time: after a restart routers and firewalls
/// do not take our flows for those of the endpoint before.
fn shuffled_ports() -> impl Iterator<Item = u16> {
    let ports = vxlan::SOURCE_PORTS;
    let seed = clock::now().as_nanos() ^ u64::from(process::id()).rotate_left(32);
    // Fibonacci hashing; the high bits are the good ones.
    let hash = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let count = ports.clone().count();
    let skipped = usize::try_from(hash).unwrap_or(0) % count;
    ports.cycle().skip(skipped).take(count)
}

fn explain(
    refusal: Refusal,
    local: SocketAddr,
    at: String,
    netns: Option<&NetnsFile>,
) -> UnderlayError {
    let cause = match refusal {
        Refusal::NoSourcePort => return UnderlayError::NoSourcePort { at },
        Refusal::PortTaken(owner) => {
            let (owner, advice) = name_owner(owner, local.port(), netns);
            return UnderlayError::PortTaken { at, owner, advice };
        }
        Refusal::Kernel(cause) => cause,
    };
    if cause.raw_os_error() == Some(libc::EADDRNOTAVAIL)
        && let Ok(mut held) = netlink::held_addresses(netns)
    {
        if let Some(address) = held.iter().find(|address| address.ip == local.ip()) {
            let address = address.clone();
            return UnderlayError::UnusableAddress { at, address };
        }
        held.retain(|address| address.ip.is_ipv4() == local.is_ipv4());
        return UnderlayError::NoAddress { at, held };
    }
    UnderlayError::Refused { at, cause }
}

/// Who has the port, and what to do about it.
fn name_owner(owner: Option<PortOwner>, port: u16, netns: Option<&NetnsFile>) -> (String, String) {
    let (owner, advice) = match owner {
        None => ("a socket that is gone by now".to_owned(), "try again"),
        Some(owner @ PortOwner::Process { .. }) => (owner.to_string(), "stop it"),
        Some(owner) => match netlink::vxlan_devices(netns, port)
            .unwrap_or_default()
            .pop()
        {
            Some(device) => {
                let advice = format!("delete it (ip link del {device})");
                return (format!("the kernel's vxlan device {device:?}"), advice);
            }
            None => (owner.to_string(), "see which: ip -d link"),
        },
    };
    (owner, advice.to_owned())
}

/// The longest IPv4 packet (RFC 791 §3.1).
const MOST_V4: u32 = 65_535;
/// How many source ports there are. More spread flows no better over the links of a bundle.
const SENDERS: usize = 16;
/// Bytes of memory for each socket, if we may have that much: a message of 64 KiB takes some 72.
const BUFFER: usize = 16 << 20;
/// How many datagrams a message of `UDP_SEGMENT` may hold (`UDP_MAX_SEGMENTS`).
const MOST_SEGMENTS: usize = 128;
const MOST_SEGMENTS_BEFORE_6_9: usize = 64;
/// How many addresses a message names.
const MOST_LISTED: usize = 8;
