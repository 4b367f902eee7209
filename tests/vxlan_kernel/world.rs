//! A kernel VTEP with a TAP on its bridge, and a socket of ours at the other end of a veth pair.
//!
//! ```text
//!   [ TAP -- br0 -- vxlan0 -- u1 ]  ------  [ u0 -- UDP socket, port 4789 ]
//!        namespace "kernel"          veth          namespace "ours"
//! ```

use std::{
    fs,
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
};
use tapswitch::{
    sim::frames,
    sys::{AcceptedOffloads, Tap, TapOptions, affinity},
    vxlan,
    wire::{MacAddr, VirtioNetHdr, Vni},
};
use zerocopy::IntoBytes;

use crate::common::{Netns, wait_until};

/// How to build one. The default is an ordinary IPv4 underlay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// Whether the underlay is IPv6.
    pub(crate) v6: bool,
    /// More words for `ip link add type vxlan`.
    pub(crate) vxlan: &'static str,
    /// MTU of everything but the underlay; 0 for what the kernel chooses.
    pub(crate) mtu: u32,
    /// MTU of the underlay; 0 for 1500.
    pub(crate) underlay_mtu: u32,
    /// Whether the TAP takes what is unfinished, and the socket what is joined (`UDP_GRO`).
    pub(crate) offloads: bool,
    /// Whether the socket does not, after all.
    pub(crate) no_gro: bool,
}

pub(crate) struct World {
    tap: Tap,
    socket: UdpSocket,
    /// A socket beside the kernel's VTEP.
    neighbour: UdpSocket,
    /// The VTEPs: ours, and the kernel's.
    ours: SocketAddr,
    kernel: SocketAddr,
    is_v6: bool,
    sentinels: u32,
    // The devices go with the namespaces, which go last.
    _spaces: [Netns; 2],
}

/// What one call of `recvmsg` returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// The value of `UDP_GRO`.
    pub(crate) segment: Option<i32>,
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The sender of the frames that only mark a place in the stream of others.
const SENTINEL: MacAddr = frames::mac(0xfe);

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        // What one CPU sends, it delivers in order.
        affinity::hold_on(affinity::allowed().unwrap()[0]).unwrap();
        let [ours, kernel] = ["ours", "kernel"].map(Netns::new);
        for netns in [&ours, &kernel] {
            netns.run(|| silence(setup.v6));
        }
        kernel.ip(&format!(
            "link add u1 address {KERNEL_MAC} type veth peer name u0 address {OUR_MAC} netns {}",
            ours.name()
        ));
        let (here, there, len) = if setup.v6 {
            ("fd00:50::10", "fd00:50::20", "64 nodad")
        } else {
            ("192.168.50.10", "192.168.50.20", "24")
        };
        ours.ip(&format!("address add {here}/{len} dev u0"));
        kernel.ip(&format!("address add {there}/{len} dev u1"));
        let underlay_mtu = if setup.underlay_mtu == 0 {
            1500
        } else {
            setup.underlay_mtu
        };
        ours.ip(&format!("link set u0 mtu {underlay_mtu} up"));
        kernel.ip(&format!("link set u1 mtu {underlay_mtu} up"));
        // Nobody has to ask for the other's address, and to wait for the answer.
        ours.ip(&format!(
            "neighbour add {there} lladdr {KERNEL_MAC} dev u0 nud permanent"
        ));
        kernel.ip(&format!(
            "neighbour add {here} lladdr {OUR_MAC} dev u1 nud permanent"
        ));

        kernel.ip(&format!(
            "link add vxlan0 type vxlan id {VNI} local {there} remote {here} dstport {} {}",
            vxlan::PORT,
            setup.vxlan
        ));
        let tap = kernel.run(|| Tap::create(&TapOptions::default())).unwrap();
        if !setup.offloads {
            tap.set_offloads(AcceptedOffloads::NONE).unwrap();
        }
        let name = kernel.run(|| tap.device_name()).unwrap();
        kernel.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
        for device in ["vxlan0", &name] {
            if setup.mtu > 0 {
                kernel.ip(&format!("link set {device} mtu {}", setup.mtu));
            }
            // Silent even where the underlay is IPv6.
            kernel.ip(&format!("link set {device} addrgenmode none"));
            kernel.ip(&format!("link set {device} master br0 up"));
        }
        kernel.ip("link set br0 addrgenmode none up");

        let [here, there] =
            [here, there].map(|ip| SocketAddr::new(ip.parse().unwrap(), vxlan::PORT));
        let gro = setup.offloads && !setup.no_gro;
        let socket = ours.run(|| socket(here, gro)).unwrap();
        let neighbour = kernel.run(|| UdpSocket::bind(SocketAddr::new(there.ip(), 0)));
        let mut world = Self {
            tap,
            socket,
            neighbour: neighbour.unwrap(),
            ours: here,
            kernel: there,
            is_v6: setup.v6,
            sentinels: 0,
            _spaces: [ours, kernel],
        };
        wait_until("the way into the bridge", 5 * SECOND, || {
            world.send(0, &datagram(&frames::broadcast(frames::mac(0xfd))));
            world.read().is_some()
        });
        world.out_of_tap();
        wait_until("the way out of the bridge", 5 * SECOND, || {
            world.write(&VirtioNetHdr::none(), &frames::broadcast(frames::mac(0xfd)));
            world.receive().is_some()
        });
        world.out_of_socket();
        world
    }

    /// Sends a UDP payload to the kernel's VTEP, with this outer TOS or traffic class.
    pub(crate) fn send(&self, tos: u8, payload: &[u8]) {
        let tos = i32::from(tos);
        if self.is_v6 {
            setsockopt(&self.socket, sockopt::Ipv6TClass, &tos).unwrap();
        } else {
            setsockopt(&self.socket, sockopt::Ipv4Tos, &tos).unwrap();
        }
        let sent = self.socket.send_to(payload, self.kernel).unwrap();
        assert_eq!(sent, payload.len());
    }

    /// Sends datagrams of `segment` bytes as one message to our VTEP, from beside the kernel's.
    pub(crate) fn send_joined(&self, message: &[u8], segment: i32) {
        setsockopt(&self.neighbour, sockopt::UdpGsoSegment, &segment).unwrap();
        let sent = self.neighbour.send_to(message, self.ours).unwrap();
        assert_eq!(sent, message.len());
    }

    /// Puts a frame on the bridge, as if a tenant had sent it.
    pub(crate) fn write(&self, header: &VirtioNetHdr, frame: &[u8]) {
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(frame)];
        let written = self.tap.send_vectored(&parts).unwrap();
        assert_eq!(written, VirtioNetHdr::LEN + frame.len());
    }

    /// What has come out of the TAP by now, sentinels left out.
    pub(crate) fn out_of_tap(&mut self) -> Vec<Vec<u8>> {
        let sentinel = self.sentinel();
        self.send(0, &datagram(&sentinel));
        let mut found = Vec::new();
        wait_until("the frame behind the others", 5 * SECOND, || {
            while let Some(frame) = self.read() {
                if frame == sentinel {
                    return true;
                }
                found.push(frame);
            }
            false
        });
        found.retain(|frame| frame[6..12] != SENTINEL.octets());
        found
    }

    /// What has come to the socket by now, sentinels left out.
    pub(crate) fn out_of_socket(&mut self) -> Vec<Message> {
        let sentinel = self.sentinel();
        self.write(&VirtioNetHdr::none(), &sentinel);
        let mut found = Vec::new();
        wait_until("the datagram behind the others", 5 * SECOND, || {
            while let Some(message) = self.receive() {
                if message.bytes.ends_with(&sentinel) {
                    return true;
                }
                found.push(message);
            }
            false
        });
        found
    }

    fn sentinel(&mut self) -> Vec<u8> {
        self.sentinels += 1;
        let number = self.sentinels.to_be_bytes();
        let mut frame = frames::broadcast(SENTINEL);
        frame.extend(number);
        frame
    }

    fn read(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 70_000];
        match self.tap.recv(&mut buffer) {
            Ok(len) => {
                let header = VirtioNetHdr::read(&buffer).unwrap();
                assert!(header.is_plain(), "unfinished: {header:?}");
                Some(buffer[VirtioNetHdr::LEN..len].to_vec())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("read the TAP: {error}"),
        }
    }

    fn receive(&self) -> Option<Message> {
        let mut buffer = vec![0; 70_000];
        let mut space = cmsg_space!(i32);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let fd = self.socket.as_raw_fd();
        let received =
            recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), MsgFlags::empty());
        let received = match received.map_err(io::Error::from) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("receive: {error}"),
        };
        assert!(!received.flags.contains(MsgFlags::MSG_TRUNC));
        let segment = received.cmsgs().unwrap().find_map(|cmsg| match cmsg {
            ControlMessageOwned::UdpGroSegments(size) => Some(size),
            _ => None,
        });
        let len = received.bytes;
        Some(Message {
            bytes: buffer[..len].to_vec(),
            segment,
        })
    }
}

pub(crate) fn vni() -> Vni {
    Vni::new(VNI).unwrap()
}

/// `frame` as a VTEP sends it.
pub(crate) fn datagram(frame: &[u8]) -> Vec<u8> {
    [&vxlan::header(vni())[..], frame].concat()
}

const VNI: u32 = 42;
const OUR_MAC: &str = "02:00:00:00:00:10";
const KERNEL_MAC: &str = "02:00:00:00:00:20";

/// No device says anything of its own accord, and no netfilter looks into bridged frames.
fn silence(v6: bool) {
    for name in ["all", "default"] {
        let disable = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        fs::write(disable, if v6 { "0" } else { "1" }).ok();
    }
    for name in ["iptables", "ip6tables", "arptables"] {
        fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{name}"), "0").ok();
    }
}

fn socket(address: SocketAddr, gro: bool) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::UdpGroSegment, &gro)?;
    Ok(socket)
}
