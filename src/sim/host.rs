//! Hosts that live in memory: smoltcp behind a [`MemPort`], on the lab's clock.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::{icmp, tcp, udp},
    time::{Duration as Wait, Instant},
    wire::{
        EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr,
        IpAddress, IpCidr,
    },
};

use super::MemPort;
use crate::{time::Timestamp, wire::MacAddr};

/// A host with one interface, whose cable is a [`MemPort`].
///
/// It does nothing on its own: time passes for it in [`Self::poll`], which
/// [`Network`](super::Network) calls. Sockets are those of [`smoltcp`]; [`Self::tcp`] and
/// [`Self::udp`] have all of them, the methods beside these what exercises mostly need.
///
/// ```
/// use std::time::Duration;
/// use tapswitch::sim::{Network, frames};
///
/// let mut network = Network::new(["client", "server"]);
/// let server = network.hosts[1].udp_bind(53);
/// let client = network.hosts[0].udp_bind(5353);
/// network.hosts[0].udp_send(client, (frames::ip(2), 53).into(), b"who?");
///
/// network.run_for(Duration::from_millis(1));
///
/// let (from, question) = network.hosts[1].udp_receive(server).unwrap();
/// assert_eq!(from, (frames::ip(1), 5353).into());
/// assert_eq!(question, b"who?");
/// ```
pub struct Host {
    mac: MacAddr,
    cable: Cable,
    interface: Interface,
    sockets: SocketSet<'static>,
    ping: SocketHandle,
    /// Pings on their way: sequence number and when they were sent.
    asked: Vec<(u16, Timestamp)>,
    answered: Vec<Pong>,
    sequence: u16,
    next_port: u16,
}

/// The answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// Who answered.
    pub from: IpAddr,
    /// Which ping it was, counted from 1.
    pub sequence: u16,
    /// How long it took there and back.
    pub round_trip: Duration,
}

impl Host {
    const PING_IDENT: u16 = 1;

    /// A host at the other end of `port`, with these addresses.
    ///
    /// # Panics
    /// For more than four addresses.
    pub fn new(port: Arc<MemPort>, mtu: u32, mac: MacAddr, addresses: &[IpNet]) -> Self {
        let hardware = HardwareAddress::Ethernet(EthernetAddress(mac.octets()));
        let mut config = Config::new(hardware);
        // Differs between hosts, and is the same on every run.
        config.random_seed = mac.to_u48();
        let mtu = usize::try_from(mtu).unwrap_or(1500);
        let mut cable = Cable { port, mtu };
        let mut interface = Interface::new(config, &mut cable, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for net in addresses {
                let cidr = IpCidr::new(net.addr().into(), net.prefix_len());
                list.push(cidr).expect("a lab host has at most 4 addresses");
            }
        });
        let mut sockets = SocketSet::new(Vec::new());
        let queue = || {
            let slots = vec![icmp::PacketMetadata::EMPTY; 16];
            icmp::PacketBuffer::new(slots, vec![0; 64 * 1024])
        };
        let mut ping = icmp::Socket::new(queue(), queue());
        ping.bind(icmp::Endpoint::Ident(Self::PING_IDENT))
            .expect("a new socket can be bound");
        let ping = sockets.add(ping);
        Self {
            mac,
            cable,
            interface,
            sockets,
            ping,
            asked: Vec::new(),
            answered: Vec::new(),
            sequence: 0,
            next_port: 49152,
        }
    }

    /// Its MAC address.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Does all that is to be done at `now`: reads what came, answers, sends what it has to.
    pub fn poll(&mut self, now: Timestamp) {
        let instant = instant(now);
        self.interface
            .poll(instant, &mut self.cable, &mut self.sockets);
        self.read_pongs(now);
    }

    /// How long it can sleep at `now`, if nothing comes; `None` for ever.
    pub fn idle(&mut self, now: Timestamp) -> Option<Duration> {
        let wait: Wait = self.interface.poll_delay(instant(now), &self.sockets)?;
        Some(Duration::from_micros(wait.total_micros()))
    }

    // ----------------------------------------------------------------------------------- ping

    /// Sends one ping with `len` bytes of data; returns its number. The answer comes in
    /// [`Self::pongs`].
    pub fn ping(&mut self, now: Timestamp, to: IpAddr, len: usize) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        let (ident, seq_no) = (Self::PING_IDENT, self.sequence);
        let data = vec![0x61; len];
        let checksum = ChecksumCapabilities::default();
        let mut message = vec![0; 8 + len];
        match to {
            IpAddr::V4(_) => {
                let echo = Icmpv4Repr::EchoRequest {
                    ident,
                    seq_no,
                    data: &data,
                };
                echo.emit(&mut Icmpv4Packet::new_unchecked(&mut message), &checksum);
            }
            IpAddr::V6(to) => {
                let echo = Icmpv6Repr::EchoRequest {
                    ident,
                    seq_no,
                    data: &data,
                };
                let from = self.interface.get_source_address_ipv6(&to);
                let mut packet = Icmpv6Packet::new_unchecked(&mut message);
                echo.emit(&from, &to, &mut packet, &checksum);
            }
        }
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.ping);
        // A full queue is a ping that is never answered, as on any host.
        if socket.send_slice(&message, to.into()).is_ok() {
            self.asked.push((seq_no, now));
        }
        seq_no
    }

    /// Takes the answers that have come.
    pub fn pongs(&mut self) -> Vec<Pong> {
        std::mem::take(&mut self.answered)
    }

    fn read_pongs(&mut self, now: Timestamp) {
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(self.ping);
        while let Ok((message, from)) = socket.recv() {
            let &[kind, _, _, _, _, _, high, low, ..] = message else {
                continue;
            };
            // Echo reply, RFC 792 and RFC 4443 §4.2.
            let sequence = u16::from_be_bytes([high, low]);
            let asked = self.asked.iter().position(|&(asked, _)| asked == sequence);
            if let (0 | 129, Some(position)) = (kind, asked) {
                let (_, sent) = self.asked.swap_remove(position);
                self.answered.push(Pong {
                    from: from.into(),
                    sequence,
                    round_trip: now.since(sent),
                });
            }
        }
    }

    // ------------------------------------------------------------------------------------ tcp

    /// Waits for a TCP connection at `port`.
    ///
    /// # Panics
    /// If `port` is 0.
    pub fn tcp_listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = tcp_socket();
        socket.listen(port).expect("port is not 0");
        self.sockets.add(socket)
    }

    /// Opens a TCP connection.
    ///
    /// # Panics
    /// If the host has no address of that family.
    pub fn tcp_connect(&mut self, to: IpAddr, port: u16) -> SocketHandle {
        let local = self.next_port;
        self.next_port = self.next_port.wrapping_add(1).max(49152);
        let handle = self.sockets.add(tcp_socket());
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        let remote = (IpAddress::from(to), port);
        socket
            .connect(self.interface.context(), remote, local)
            .expect("the host has an address of the family");
        handle
    }

    /// The TCP connection itself.
    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Sends as much of `bytes` as there is room for; returns how much that was. 0 too while the
    /// connection is not open yet, or no more.
    pub fn tcp_send(&mut self, handle: SocketHandle, bytes: &[u8]) -> usize {
        self.tcp(handle).send_slice(bytes).unwrap_or(0)
    }

    /// Takes everything that has come on a connection.
    pub fn tcp_receive(&mut self, handle: SocketHandle) -> Vec<u8> {
        let socket = self.tcp(handle);
        let mut bytes = vec![0; socket.recv_queue()];
        let len = socket.recv_slice(&mut bytes).unwrap_or(0);
        bytes.truncate(len);
        bytes
    }

    // ------------------------------------------------------------------------------------ udp

    /// A UDP socket bound to `port`.
    ///
    /// # Panics
    /// If `port` is 0.
    pub fn udp_bind(&mut self, port: u16) -> SocketHandle {
        let queue = || {
            let slots = vec![udp::PacketMetadata::EMPTY; 64];
            udp::PacketBuffer::new(slots, vec![0; 128 * 1024])
        };
        let mut socket = udp::Socket::new(queue(), queue());
        socket.bind(port).expect("port is not 0");
        self.sockets.add(socket)
    }

    /// The UDP socket itself.
    pub fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Sends one datagram; false if there is no room for it.
    pub fn udp_send(&mut self, handle: SocketHandle, to: SocketAddr, bytes: &[u8]) -> bool {
        let to = (IpAddress::from(to.ip()), to.port());
        self.udp(handle).send_slice(bytes, to).is_ok()
    }

    /// Takes the oldest datagram that has come, and who sent it.
    pub fn udp_receive(&mut self, handle: SocketHandle) -> Option<(SocketAddr, Vec<u8>)> {
        let (bytes, from) = self.udp(handle).recv().ok()?;
        let from = SocketAddr::new(from.endpoint.addr.into(), from.endpoint.port);
        Some((from, bytes.to_vec()))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("mac", &self.mac)
            .finish_non_exhaustive()
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 64 * 1024]);
    tcp::Socket::new(buffer(), buffer())
}

fn instant(now: Timestamp) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1_000).unwrap_or(i64::MAX))
}

/// The host's end of a [`MemPort`], as smoltcp wants it.
#[derive(Debug)]
struct Cable {
    port: Arc<MemPort>,
    mtu: usize,
}

struct Arrived(Vec<u8>);

struct Leaving<'a>(&'a MemPort);

impl Device for Cable {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        Some((Arrived(self.port.take()?), Leaving(&self.port)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&self.port))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        // A full queue loses the frame, as a full device does.
        self.0.inject(&frame);
        result
    }
}
