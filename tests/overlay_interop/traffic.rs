//! What pods say to each other, compared at the other end.

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use tapswitch::wire::MacAddr;

use crate::{common::Netns, vtep::PATIENCE, world::Pod};

/// Bytes that anybody can make again from a seed (splitmix64).
pub(crate) struct Noise {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Noise {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            state: seed,
            word: [0; 8],
            used: 8,
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// From 1 to 65536, all orders of magnitude alike.
    fn size(&mut self) -> usize {
        let magnitude = self.below(17);
        1 + self.below(1 << magnitude)
    }

    /// The next bytes, whatever pieces they are asked for in.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) {
        let (left, rest) = buf.split_at_mut(buf.len().min(8 - self.used));
        left.copy_from_slice(&self.word[self.used..self.used + left.len()]);
        self.used += left.len();
        let (words, tail) = rest.as_chunks_mut::<8>();
        for word in words {
            *word = self.next().to_le_bytes();
        }
        if !tail.is_empty() {
            self.word = self.next().to_le_bytes();
            self.used = tail.len();
            tail.copy_from_slice(&self.word[..tail.len()]);
        }
    }

    fn bytes(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Self::new(seed).fill(&mut bytes);
        bytes
    }
}

/// A TCP stream of mixed writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) len: u64,
    pub(crate) seed: u64,
    /// The longest segment, if the path shall not decide.
    pub(crate) mss: Option<u32>,
}

/// Sends bytes from one pod to an address of the other in writes of 1 byte to 64 KiB, and compares
/// every one.
pub(crate) fn tcp(from: &Pod, to: &Pod, address: IpAddr, stream: Stream) {
    let listener = to.netns.run(|| TcpListener::bind((address, 0))).unwrap();
    let target = listener.local_addr().unwrap();
    let sender = from.netns.run(|| connect(target, stream.mss));
    let sender = sender.unwrap_or_else(|error| panic!("connect to {target} ({stream:?}): {error}"));
    let (receiver, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || send(sender, stream));
        receive(receiver, address, stream);
    });
}

fn connect(target: SocketAddr, mss: Option<u32>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    if let Some(mss) = mss {
        socket.set_tcp_mss(mss)?;
    }
    socket.connect_timeout(&target.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn send(mut socket: TcpStream, stream: Stream) {
    let Stream { len, seed, .. } = stream;
    let (mut bytes, mut dice) = (Noise::new(seed), Noise::new(!seed));
    let mut buf = vec![0; 1 << 16];
    let mut left = len;
    while left > 0 {
        if dice.below(50) == 0 {
            socket.set_nodelay(dice.below(2) == 0).unwrap();
        }
        let size = dice.size().min(usize::try_from(left).unwrap_or(usize::MAX));
        bytes.fill(&mut buf[..size]);
        if let Err(error) = socket.write_all(&buf[..size]) {
            // With a reset the other end need not wait for the rest.
            let reset = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            panic!("{left} bytes before the end of {stream:?}: {error} ({reset:?})");
        }
        left -= size as u64;
    }
}

fn receive(mut socket: TcpStream, address: IpAddr, stream: Stream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut expected, mut dice) = (Noise::new(stream.seed), Noise::new(stream.seed ^ 1));
    let (mut got, mut want) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut received: u64 = 0;
    loop {
        let room = 500 + dice.below((1 << 16) - 500);
        let len = uninterrupted(|| socket.read(&mut got[..room]))
            .unwrap_or_else(|error| panic!("after {received} bytes to {address}: {error}"));
        if len == 0 {
            break;
        }
        expected.fill(&mut want[..len]);
        assert!(
            got[..len] == want[..len],
            "bytes {received}..{} to {address} differ ({stream:?})",
            received + len as u64
        );
        received += len as u64;
    }
    assert_eq!(received, stream.len, "to {address} ({stream:?})");
}

/// Calls again what a process that was stopped for a while has not finished.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Sends datagrams of many sizes up to `mtu` and beyond; each must arrive as it was, in order.
pub(crate) fn datagrams(from: &Pod, to: &Pod, address: IpAddr, mtu: u32, seed: u64) {
    let (sender, receiver) = sockets(from, to, address);
    let most = longest_datagram(address, mtu);
    let mut sizes: Vec<usize> = (0..most).step_by(23).collect();
    sizes.extend([1, 17, 18, 19, most - 1, most, most + 1, 3000, 9000, 20_000]);
    let mut buf = vec![0; 1 << 16];
    // Few at a time: no queue on the way is longer than this.
    for (round, sizes) in sizes.chunks(20).enumerate() {
        let seed = seed + 1000 * round as u64;
        for (&size, seed) in sizes.iter().zip(seed..) {
            sender.send(&Noise::bytes(seed, size)).unwrap();
        }
        for (&size, seed) in sizes.iter().zip(seed..) {
            let len = uninterrupted(|| receiver.recv(&mut buf))
                .unwrap_or_else(|error| panic!("datagram of {size} bytes to {address}: {error}"));
            assert!(
                buf[..len] == Noise::bytes(seed, size),
                "datagram of {size} bytes to {address} (seed {seed}): {len} others came"
            );
        }
    }
}

/// Sends messages that the kernel cuts into datagrams (`UDP_SEGMENT`) to one that takes them joined
/// (`UDP_GRO`), if it `joins`; the datagrams must arrive as they were, in order.
pub(crate) fn segmented(from: &Pod, to: &Pod, address: IpAddr, mtu: u32, joins: bool, seed: u64) {
    let (sender, receiver) = sockets(from, to, address);
    if joins {
        setsockopt(&receiver, sockopt::UdpGroSegment, &true).unwrap();
    }
    let longest = longest_datagram(address, mtu).min(1400);
    for (size, count, tail) in [
        (100, 2, 0),
        (100, 128, 0),
        (333, 17, 332),
        (536, 64, 1),
        (1000, 44, 7),
        (1200, 50, 0),
        (longest, 44, longest - 1),
        (longest, 1, 1),
    ] {
        let seed = seed + size as u64;
        let message = Noise::bytes(seed, size * count + tail);
        let segment = u16::try_from(size).unwrap();
        let sent = sendmsg::<()>(
            sender.as_raw_fd(),
            &[IoSlice::new(&message)],
            &[ControlMessage::UdpGsoSegments(&segment)],
            MsgFlags::empty(),
            None,
        );
        assert_eq!(sent, Ok(message.len()), "{count} x {size} to {address}");
        let mut wanted = message.chunks(size).peekable();
        while wanted.peek().is_some() {
            for datagram in joined(&receiver, size, address) {
                assert!(
                    wanted.next() == Some(&datagram[..]),
                    "datagrams of {size} bytes to {address} (seed {seed}): another came"
                );
            }
        }
    }
}

/// The datagrams of one message.
fn joined(receiver: &UdpSocket, size: usize, address: IpAddr) -> Vec<Vec<u8>> {
    let mut buf = vec![0; 1 << 16];
    let mut control = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(&mut buf)];
    let message = recvmsg::<SockaddrStorage>(
        receiver.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )
    .unwrap_or_else(|error| panic!("datagram of {size} bytes to {address}: {error}"));
    let segment = message.cmsgs().unwrap().find_map(|part| match part {
        ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
        _ => None,
    });
    let len = message.bytes;
    let segment = segment.unwrap_or(len).max(1);
    buf[..len].chunks(segment).map(<[u8]>::to_vec).collect()
}

/// A socket of `from` connected to one of `to` that has room for all that is sent at once.
fn sockets(from: &Pod, to: &Pod, address: IpAddr) -> (UdpSocket, UdpSocket) {
    let receiver = to.netns.run(|| UdpSocket::bind((address, 0))).unwrap();
    setsockopt(&receiver, sockopt::RcvBufForce, &(8 << 20)).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = receiver.local_addr().unwrap();
    let any: IpAddr = match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let sender = from.netns.run(|| UdpSocket::bind((any, 0))).unwrap();
    sender.connect(target).unwrap();
    (sender, receiver)
}

/// Payload bytes of the longest datagram that is not fragmented.
fn longest_datagram(address: IpAddr, mtu: u32) -> usize {
    let headers = if address.is_ipv4() { 28 } else { 48 };
    usize::try_from(mtu).unwrap() - headers
}

/// Sends echo requests and compares the replies.
pub(crate) struct Pinger {
    socket: Socket,
    to: IpAddr,
    sequence: u16,
}

impl Pinger {
    pub(crate) fn new(from: &Pod, to: IpAddr) -> Self {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let open = || Socket::new(domain, Type::DGRAM, Some(protocol));
        let socket = from.netns.run(open).unwrap();
        socket.connect(&SocketAddr::new(to, 0).into()).unwrap();
        Self {
            socket,
            to,
            sequence: 0,
        }
    }

    /// Whether a request with `len` bytes behind the ICMP header is answered by the same bytes.
    pub(crate) fn ping(&mut self, len: usize, patience: Duration) -> Result<(), String> {
        let failed = |error: io::Error| format!("ping {} with {len} bytes: {error}", self.to);
        self.sequence += 1;
        let sequence = self.sequence.to_be_bytes();
        let (request, reply) = if self.to.is_ipv4() {
            (8, 0)
        } else {
            (128, 129)
        };
        let payload = Noise::bytes(len as u64, len);
        let header = [request, 0, 0, 0, 0, 0, sequence[0], sequence[1]];
        self.socket
            .set_read_timeout(Some(patience))
            .map_err(failed)?;
        let message = [&header[..], &payload].concat();
        (&self.socket).write_all(&message).map_err(failed)?;
        let mut buf = vec![0; 1 << 16];
        loop {
            let received = uninterrupted(|| (&self.socket).read(&mut buf)).map_err(failed)?;
            let answer = &buf[..received];
            // One to an earlier request may be late.
            if answer.get(6..8) != Some(&sequence) {
                continue;
            }
            return match answer {
                [kind, 0, ..] if *kind == reply && answer[8..] == payload => Ok(()),
                _ => Err(format!(
                    "ping {} with {len} bytes: {received} other bytes came back",
                    self.to
                )),
            };
        }
    }
}

/// Pings once, with patience for address resolution.
#[track_caller]
pub(crate) fn ping(from: &Pod, to: IpAddr) {
    reaches(from, to, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
}

/// Whether a ping comes back within that time.
pub(crate) fn reaches(from: &Pod, to: IpAddr, patience: Duration) -> Result<(), String> {
    Pinger::new(from, to).ping(56, patience)
}

/// What a pod hears on one UDP port, whoever says it to whom.
pub(crate) struct Ear {
    v4: UdpSocket,
    v6: UdpSocket,
}

/// Where all ears listen.
const EAR: u16 = 7;

impl Ear {
    pub(crate) fn new(pod: &Pod) -> Self {
        let listen = |any: IpAddr| {
            let socket = pod.netns.run(|| {
                let socket =
                    Socket::new(Domain::for_address((any, EAR).into()), Type::DGRAM, None)?;
                if any.is_ipv6() {
                    socket.set_only_v6(true)?;
                }
                socket.bind(&SocketAddr::new(any, EAR).into())?;
                Ok::<_, io::Error>(UdpSocket::from(socket))
            });
            socket.unwrap()
        };
        Self {
            v4: listen(std::net::Ipv4Addr::UNSPECIFIED.into()),
            v6: listen(Ipv6Addr::UNSPECIFIED.into()),
        }
    }

    /// All it has heard until `last`, without it.
    pub(crate) fn until(&self, last: &str, over_v6: bool) -> Vec<String> {
        let socket = if over_v6 { &self.v6 } else { &self.v4 };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        loop {
            let word = hear(socket)
                .unwrap_or_else(|error| panic!("waiting for {last:?}, after {heard:?}: {error}"));
            if word == last {
                return heard;
            }
            heard.push(word);
        }
    }

    /// What waits to be heard.
    pub(crate) fn rest(&self) -> Vec<String> {
        [&self.v4, &self.v6]
            .into_iter()
            .flat_map(|socket| {
                socket.set_nonblocking(true).unwrap();
                let words: Vec<String> = std::iter::from_fn(|| match hear(socket) {
                    Ok(word) => Some(word),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                    Err(error) => panic!("{error}"),
                })
                .collect();
                socket.set_nonblocking(false).unwrap();
                words
            })
            .collect()
    }
}

fn hear(socket: &UdpSocket) -> io::Result<String> {
    let mut buf = [0; 100];
    let len = uninterrupted(|| socket.recv(&mut buf))?;
    Ok(String::from_utf8_lossy(&buf[..len]).into_owned())
}

/// All frames that the devices of a namespace send and get, also those for others.
pub(crate) struct Capture(Socket);

impl Capture {
    pub(crate) fn on(netns: &Netns) -> Self {
        // ETH_P_ALL in network byte order, as packet(7) wants it.
        let all = Protocol::from(i32::from(0x0003_u16.to_be()));
        let open = || Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(all));
        let socket = netns.run(open).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).unwrap();
        Self(socket)
    }

    /// Those that wait; they are gone then.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        let mut buf = vec![0; 1 << 17];
        let next = || {
            let len = (&self.0).read(&mut buf).ok()?;
            Some(buf[..len].to_vec())
        };
        std::iter::from_fn(next).collect()
    }

    /// How many of those that wait are for `mac`.
    pub(crate) fn frames_to(&self, mac: MacAddr) -> usize {
        let frames = self.frames();
        frames
            .iter()
            .filter(|frame| frame[..6] == mac.octets())
            .count()
    }
}

/// Says `word` to one.
pub(crate) fn tell(from: &Pod, to: IpAddr, word: &str) {
    let any: IpAddr = match to {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = from.netns.run(|| UdpSocket::bind((any, 0))).unwrap();
    socket.send_to(word.as_bytes(), (to, EAR)).unwrap();
}

/// Says `word` to everybody on the segment: by broadcast, or to all nodes of IPv6.
pub(crate) fn call(from: &Pod, word: &str, over_v6: bool) {
    from.netns.run(|| {
        if over_v6 {
            let scope = nix::net::if_::if_nametoindex("eth0").unwrap();
            let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
            let to = SocketAddrV6::new(all_nodes, EAR, 0, scope);
            socket.send_to(word.as_bytes(), to).unwrap();
        } else {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket
                .send_to(word.as_bytes(), ("10.1.1.255", EAR))
                .unwrap();
        }
    });
}
