//! A host with a VXLAN endpoint and, on each of two segments, a bridge with one pod. There are two
//! kinds: the kernel's own bridges and vxlan devices, and the switch.
//!
//! ```text
//!   the test ---- u0 (TAP) 192.0.2.1, 2001:db8::1 ---- endpoint --+-- segment 42 ------- pod 0 ---- the test
//!                                                                 +-- segment 16777215 - pod 1 ---- the test
//! ```
//! The test holds the other ends of all three devices. None of them has offloads on the way to the
//! test: every frame and packet comes finished and alone.

use std::{fs, io, net::IpAddr, ops::RangeInclusive, thread, time::Duration};

use tapswitch::{
    config::{
        Accept, AtLimit, BridgeSpec, OffloadMode, PeerAddr, PortSpec, ReservedMask, Tos, VtepSpec,
    },
    control::api::{ApiError, Request, Response, StatsInfo},
    daemon::{Switch, SwitchOptions, Tuning},
    names::Name,
    sys::{AcceptedOffloads, Tap, TapOptions, clock},
    wire::{MacAddr, VirtioNetHdr, Vni},
};
use zerocopy::IntoBytes;

use crate::{
    common::{self, Netns},
    namespace::in_silence,
    packets::{OTHER_ADDRESS, Outer, Packet, Sent, UNDERLAY_MAC, address},
};

/// The segments.
pub(crate) const VNIS: [u32; 2] = [42, 0xff_ffff];
/// How many datagrams [`Host::hear`] adds: one for each segment.
#[allow(
    dead_code,
    reason = "not every test that shares this file counts datagrams"
)]
pub(crate) const BARRIERS: u64 = VNIS.len() as u64;
/// The remote VTEPs of each segment, by the last byte of their address.
pub(crate) const PEERS: [&[u8]; 2] = [&[2, 3, 4], &[2, 3]];
/// The MTU of the overlay.
pub(crate) const MTU: u32 = 1500;

/// What may differ between two runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) v6: bool,
    /// Reserved bits cost a datagram.
    pub(crate) strict: bool,
    /// Any VTEP may send.
    pub(crate) any: bool,
    /// The outer DSCP is the inner one.
    pub(crate) inherit: bool,
    /// All offloads of the switch: those of its sockets, and those of its ports.
    pub(crate) offload: bool,
    /// The MTU of the underlay.
    pub(crate) underlay_mtu: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            v6: false,
            strict: true,
            any: false,
            inherit: false,
            offload: true,
            // Whatever fits the overlay fits in here.
            underlay_mtu: 1600,
        }
    }
}

/// Everything that left a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Frames at pods: which one, and the frame.
    pub(crate) pods: Vec<(usize, Vec<u8>)>,
    /// Packets on the underlay.
    pub(crate) underlay: Vec<Vec<u8>>,
}

/// One of the two.
pub(crate) struct Host {
    underlay: Tap,
    pods: Vec<Tap>,
    daemon: Option<Switch>,
    v6: bool,
    buffer: Vec<u8>,
    barriers: u32,
    netns: Vec<Netns>,
}

impl Host {
    /// The kernel's.
    pub(crate) fn kernel(settings: &Settings) -> io::Result<Self> {
        let (netns, underlay) = underlay_of("oracle", settings)?;
        let mut pods = Vec::new();
        let local = address(settings.v6, 1);
        let tos = if settings.inherit { "tos inherit" } else { "" };
        for (number, vni) in VNIS.iter().enumerate() {
            let mac = kernel_mac(number);
            ip(
                &netns,
                &format!(
                    "link add br{number} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 ageing_time 100000000"
                ),
            )?;
            ip(
                &netns,
                &format!(
                    "link add vx{number} address {mac} type vxlan id {vni} local {local} dstport 4789 \
                 ttl 64 {tos} df set udpcsum ageing 1000000 srcport 49152 65535"
                ),
            )?;
            let pod =
                netns.run(|| made(&format!("pod{number}"), MacAddr::new([2, 0xfe, 0, 0, 2, 1])))?;
            pods.push(pod);
            ip(
                &netns,
                &format!(
                    "link set br{number} address 02:fe:00:00:03:0{number} mtu {MTU} arp off up"
                ),
            )?;
            ip(
                &netns,
                &format!("link set vx{number} mtu {MTU} master br{number} up"),
            )?;
            // What waits to be joined would be overtaken by frames of other flows.
            run(&netns, &format!("ethtool -K vx{number} gro off"))?;
            ip(
                &netns,
                &format!("link set pod{number} mtu {MTU} master br{number} up"),
            )?;
            for peer in PEERS[number] {
                let peer = address(settings.v6, *peer);
                let list = format!("bridge fdb append 00:00:00:00:00:00 dev vx{number} dst {peer}");
                run(&netns, &list)?;
            }
        }
        Self::ready(settings, underlay, pods, None, vec![netns])
    }

    /// Ours.
    pub(crate) fn ours(settings: &Settings) -> io::Result<Self> {
        let (netns, underlay) = underlay_of("node", settings)?;
        let options = SwitchOptions {
            name: "overlay".to_owned(),
            workers: Some(2),
            // What is done without offloads is done without all that makes it fast.
            tuning: if settings.offload {
                Tuning::default()
            } else {
                Tuning::off()
            },
            ..SwitchOptions::default()
        };
        let daemon = Switch::start(options)?;
        let offload = if settings.offload {
            OffloadMode::On
        } else {
            OffloadMode::Off
        };
        let vtep = VtepSpec {
            netns: Some(netns.reference()),
            strict: settings.strict,
            accept: if settings.any {
                Accept::Any
            } else {
                Accept::Peers
            },
            tos: if settings.inherit {
                Tos::Inherit
            } else {
                Tos::Fixed(0)
            },
            offload,
            ..VtepSpec::new(address(settings.v6, 1))
        };
        daemon.execute(Request::VtepSet(vtep)).map_err(failed)?;
        let (mut pods, mut all) = (Vec::new(), vec![netns]);
        for (number, vni) in VNIS.iter().enumerate() {
            let bridge = Name::new(&format!("br{number}")).map_err(io::Error::other)?;
            let peer = |peer: &u8| PeerAddr::new(address(settings.v6, *peer));
            let spec = BridgeSpec {
                vni: Vni::new(*vni),
                peers: PEERS[number].iter().map(peer).collect(),
                mtu: Some(MTU),
                at_limit: AtLimit::Refuse,
                flap_limit: 0,
                // As a kernel without STP.
                forward_reserved: ReservedMask(1),
                ageing: Duration::from_secs(1_000_000),
                ..BridgeSpec::new(bridge.clone())
            };
            daemon.execute(Request::BridgeAdd(spec)).map_err(failed)?;
            let (netns, tap) = in_silence(&format!("pod{number}"), || {
                made("x0", MacAddr::new([2, 0xfd, 0, 0, 1, 1]))
            })?;
            ip(&netns, "link set x0 mtu 9000 arp off up")?;
            let port = PortSpec {
                netns: Some(netns.reference()),
                offload,
                mac: Some(MacAddr::new([2, 0xfd, 0, 0, 2, 1])),
                ..PortSpec::new(
                    Name::new(&format!("p{number}")).map_err(io::Error::other)?,
                    bridge,
                )
            };
            daemon.execute(Request::PortAdd(port)).map_err(failed)?;
            redirect(&netns, "eth0", "x0")?;
            redirect(&netns, "x0", "eth0")?;
            pods.push(tap);
            all.push(netns);
        }
        Self::ready(settings, underlay, pods, Some(daemon), all)
    }

    fn ready(
        settings: &Settings,
        underlay: Tap,
        pods: Vec<Tap>,
        daemon: Option<Switch>,
        netns: Vec<Netns>,
    ) -> io::Result<Self> {
        let mut host = Self {
            underlay,
            pods,
            daemon,
            v6: settings.v6,
            buffer: vec![0; 1 << 17],
            barriers: 0,
            netns,
        };
        // Carriers and bridge ports come up a moment later, on a work queue.
        let deadline = clock::now() + PATIENCE;
        for pod in 0..VNIS.len() {
            loop {
                let spoken = host.speak_until(pod, &[], SHORT);
                let heard = host.hear_until(&[], pod..=pod, SHORT);
                if spoken.is_ok() && heard.is_ok() {
                    break;
                }
                if clock::now() > deadline {
                    let who = if host.daemon.is_some() {
                        "switch"
                    } else {
                        "kernel"
                    };
                    let way = if spoken.is_err() { "from" } else { "to" };
                    let error = spoken.and(heard).err();
                    return Err(io::Error::other(format!(
                        "{who}: no way {way} pod {pod}: {error:?}"
                    )));
                }
            }
        }
        Ok(host)
    }

    /// Lets packets arrive on the underlay and returns all that leaves until they are dealt with.
    pub(crate) fn hear(&mut self, packets: &[Packet]) -> io::Result<Seen> {
        self.hear_until(packets, 0..=VNIS.len() - 1, PATIENCE)
    }

    /// Lets a pod send frames and returns all that leaves until they are dealt with.
    pub(crate) fn speak(&mut self, pod: usize, frames: &[Packet]) -> io::Result<Seen> {
        self.speak_until(pod, frames, PATIENCE)
    }

    /// The switch; the kernel is none.
    pub(crate) fn daemon(&self) -> Option<&Switch> {
        self.daemon.as_ref()
    }

    /// The counters of the switch.
    pub(crate) fn stats(&self) -> io::Result<StatsInfo> {
        let daemon = self.daemon.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        match daemon
            .execute(Request::Stats { port: None })
            .map_err(failed)?
        {
            Response::Stats(stats) => Ok(stats),
            other => Err(io::Error::other(format!("to stats: {other:?}"))),
        }
    }

    /// The namespace with the underlay.
    #[allow(
        dead_code,
        reason = "not every test that shares this file looks into it"
    )]
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns[0]
    }

    /// Each of `pods` hears a barrier behind the packets: what is for one port keeps its order, what is
    /// for several does not.
    fn hear_until(
        &mut self,
        packets: &[Packet],
        pods: RangeInclusive<usize>,
        limit: Duration,
    ) -> io::Result<Seen> {
        for packet in packets {
            write(&self.underlay, packet)?;
        }
        let mut missing = Vec::new();
        for pod in pods {
            let barrier = self.barrier(REMOTE_BARRIER);
            let [_, a, b, c] = VNIS[pod].to_be_bytes();
            let payload = [&[8, 0, 0, 0, a, b, c, 0], &barrier[..]].concat();
            for packet in Outer::new(self.v6, 2).packets(&payload) {
                write(&self.underlay, &packet)?;
            }
            missing.push((pod, barrier));
        }
        let mut seen = Seen::default();
        self.collect(&mut seen, limit, |seen| {
            seen.pods.retain(|got| {
                let before = missing.len();
                missing.retain(|barrier| barrier != got);
                missing.len() == before
            });
            missing.is_empty()
        })?;
        Ok(seen)
    }

    fn speak_until(&mut self, pod: usize, frames: &[Packet], limit: Duration) -> io::Result<Seen> {
        for frame in frames {
            write(&self.pods[pod], frame)?;
        }
        let barrier = self.barrier(LOCAL_BARRIER);
        write(&self.pods[pod], &Packet::plain(barrier.clone()))?;
        let mut seen = Seen::default();
        let mut missing = PEERS[pod].len();
        self.collect(&mut seen, limit, |seen| {
            let is_it =
                |packet: &Vec<u8>| Sent::parse(packet).is_ok_and(|sent| sent.inner() == barrier);
            let before = seen.underlay.len();
            seen.underlay.retain(|packet| !is_it(packet));
            missing = missing.saturating_sub(before - seen.underlay.len());
            missing == 0
        })?;
        Ok(seen)
    }

    /// A frame for everybody, unlike any other.
    fn barrier(&mut self, from: [u8; 6]) -> Vec<u8> {
        self.barriers += 1;
        let mut frame = vec![0xff; 6];
        frame.extend(from);
        frame.extend([0x88, 0xb5]);
        frame.extend(self.barriers.to_be_bytes());
        frame.resize(60, 0);
        frame
    }

    /// Reads all devices until `is_done`, and what is there then.
    fn collect(
        &mut self,
        seen: &mut Seen,
        limit: Duration,
        mut is_done: impl FnMut(&mut Seen) -> bool,
    ) -> io::Result<()> {
        let deadline = clock::now() + limit;
        let mut rounds = 0;
        loop {
            if self.read_all(seen)? && is_done(seen) {
                // What came to one device while another was being read.
                self.read_all(seen)?;
                return Ok(());
            }
            if clock::now() > deadline {
                let what = format!("no barrier within {limit:?}, but {seen:02x?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            rounds += 1;
            if rounds > 1000 {
                thread::sleep(Duration::from_micros(50));
            } else {
                thread::yield_now();
            }
        }
    }

    /// Takes what the devices have; true if that is anything.
    fn read_all(&mut self, seen: &mut Seen) -> io::Result<bool> {
        let before = seen.pods.len() + seen.underlay.len();
        for (number, pod) in self.pods.iter().enumerate() {
            drain(pod, &mut self.buffer, |frame| {
                seen.pods.push((number, frame));
            })?;
        }
        drain(&self.underlay, &mut self.buffer, |packet| {
            seen.underlay.push(packet);
        })?;
        Ok(seen.pods.len() + seen.underlay.len() > before)
    }
}

/// The hardware address of the kernel's vxlan device of a segment.
pub(crate) fn kernel_mac(segment: usize) -> MacAddr {
    MacAddr::new([2, 0xfe, 0, 0, 1, u8::try_from(segment).unwrap_or(0)])
}

fn write(tap: &Tap, packet: &Packet) -> io::Result<()> {
    let bytes = [packet.header.as_bytes(), &packet.bytes].concat();
    match tap.send(&bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!(
                "write {} bytes with {:?}: {error}",
                packet.bytes.len(),
                packet.header
            ),
        )),
    }
}

fn drain(tap: &Tap, buffer: &mut [u8], mut each: impl FnMut(Vec<u8>)) -> io::Result<()> {
    loop {
        match tap.recv(buffer) {
            Ok(len) => {
                let header = VirtioNetHdr::read(buffer);
                if !header.is_some_and(|header| header.is_plain()) {
                    return Err(io::Error::other(format!("an unfinished frame: {header:?}")));
                }
                each(buffer[VirtioNetHdr::LEN..len].to_vec());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A namespace that reaches remote VTEPs through a device whose other end we hold.
fn underlay_of(label: &str, settings: &Settings) -> io::Result<(Netns, Tap)> {
    let (netns, tap) = in_silence(label, || made("u0", MacAddr::new(UNDERLAY_MAC)))?;
    ip(&netns, "link set lo up")?;
    netns.run(|| {
        for (path, value) in [
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/u0/rp_filter", "0"),
            (
                "ipv6/conf/u0/disable_ipv6",
                if settings.v6 { "0" } else { "1" },
            ),
            ("ipv6/conf/u0/accept_ra", "0"),
            ("ipv6/conf/u0/router_solicitations", "0"),
        ] {
            fs::write(format!("/proc/sys/net/{path}"), value)?;
        }
        Ok::<_, io::Error>(())
    })?;
    // Without ARP nobody has to be asked for hardware addresses, and nobody asks.
    let mtu = settings.underlay_mtu;
    ip(
        &netns,
        &format!("link set u0 mtu {mtu} arp off addrgenmode none"),
    )?;
    ip(&netns, "link set u0 up")?;
    let (len, nodad) = if settings.v6 { (64, "nodad") } else { (24, "") };
    for host in [1, OTHER_ADDRESS] {
        let at: IpAddr = address(settings.v6, host);
        ip(&netns, &format!("address add {at}/{len} dev u0 {nodad}"))?;
    }
    Ok((netns, tap))
}

/// A TAP of this name in the namespace of the calling thread, without offloads on the way out.
fn made(name: &str, mac: MacAddr) -> io::Result<Tap> {
    let tap = Tap::create(&TapOptions::default()).map_err(io::Error::other)?;
    tap.set_offloads(AcceptedOffloads::NONE)?;
    tap.set_mac(mac)?;
    let (old, _) = tap.created_as();
    // A long queue: what we have not read yet must not be lost.
    common::ip(&format!("link set {old} name {name} txqueuelen 10000"));
    Ok(tap)
}

/// Everything that arrives at `from` leaves through `to`.
fn redirect(netns: &Netns, from: &str, to: &str) -> io::Result<()> {
    run(netns, &format!("tc qdisc add dev {from} ingress"))?;
    // Any frame has a header at -14, and not every frame has anything behind it.
    run(
        netns,
        &format!(
            "tc filter add dev {from} parent ffff: protocol all u32 match u8 0 0 at -14 action mirred egress redirect dev {to}"
        ),
    )
}

fn ip(netns: &Netns, arguments: &str) -> io::Result<()> {
    run(netns, &format!("ip {arguments}"))
}

fn run(netns: &Netns, command: &str) -> io::Result<()> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = netns.exec(&words);
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command}: {complaint}")))
}

fn failed(error: ApiError) -> io::Error {
    io::Error::other(error)
}

const LOCAL_BARRIER: [u8; 6] = [2, 0xbb, 0, 0, 0, 1];
const REMOTE_BARRIER: [u8; 6] = [2, 0xbb, 0, 0, 0, 2];
const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);
