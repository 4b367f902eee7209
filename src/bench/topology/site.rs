//! What every system is built into: nodes, pods, and an underlay between the nodes.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use super::{
    Pod, Shape, Unavailable,
    netns::{create, ip, path},
};
use crate::{
    netlink::{LinkRef, link_state},
    sys::{cause_text, netns::NetnsFile},
    wire::MacAddr,
};

/// Namespaces for one system.
#[derive(Debug)]
pub(super) struct Site {
    /// One, or two on an overlay.
    pub(super) nodes: Vec<NetnsFile>,
    pub(super) pods: Vec<Pod>,
    /// The MTU of the pods.
    pub(super) mtu: u32,
    pub(super) shape: Shape,
    /// Whether the switch reads devices through packet sockets.
    pub(super) packet_sockets: bool,
}

impl Site {
    /// The VNI of the overlay.
    pub(super) const VNI: u32 = 42;
    /// The MTU of the underlay.
    pub(super) const UNDERLAY_MTU: u32 = 1500;
    /// What is left of it by VXLAN over IPv4.
    pub(super) const DEFAULT_OVERLAY_MTU: u32 = Self::UNDERLAY_MTU - 50;
    /// More need more than the last byte of a MAC address.
    const MAX_PODS: usize = 250;

    /// Makes the namespaces. On an overlay each node has a device `u0`, which is joined to the
    /// other's and has neither an address nor is up.
    pub(super) fn new(shape: Shape) -> Result<Self, Unavailable> {
        if !(1..=Self::MAX_PODS).contains(&shape.pods) {
            return Err(Unavailable::Failed(format!(
                "build {} pods: out of range; give 1 to {}",
                shape.pods,
                Self::MAX_PODS
            )));
        }
        let node = |number| create(&format!("namespace of node {number}"));
        let nodes = match shape.overlay {
            true => vec![node(0)?, node(1)?],
            false => vec![node(0)?],
        };
        let pod = |number| {
            Ok(Pod {
                netns: create(&format!("namespace of pod {number}"))?,
                address: address(number),
            })
        };
        let pods = (0..shape.pods).map(pod).collect::<Result<_, _>>()?;
        if let [first, second] = &nodes[..] {
            let (mtu, second) = (Self::UNDERLAY_MTU, path(second));
            ip(
                first,
                &format!("link add u0 mtu {mtu} type veth peer name u0 mtu {mtu} netns {second}"),
            )?;
        }
        let default_mtu = match shape.overlay {
            true => Self::DEFAULT_OVERLAY_MTU,
            false => Self::UNDERLAY_MTU,
        };
        Ok(Self {
            nodes,
            pods,
            mtu: shape.mtu.unwrap_or(default_mtu),
            shape,
            packet_sockets: false,
        })
    }

    /// The nodes with their numbers, their own underlay address and the other's.
    pub(super) fn vteps(&self) -> impl Iterator<Item = (&NetnsFile, Ipv4Addr, Ipv4Addr)> {
        let vtep = |number: u8| Ipv4Addr::new(192, 168, 50, 10 * (number + 1));
        let numbers = [(0, 1), (1, 0)];
        let nodes = self.nodes.iter().zip(numbers);
        nodes.map(move |(node, (own, other))| (node, vtep(own), vtep(other)))
    }

    /// The numbers of the pods of a node, and the pods.
    pub(super) fn pods_of(&self, node: usize) -> impl Iterator<Item = (usize, &Pod)> {
        let here = move |&(pod, _): &(usize, &Pod)| pod % self.nodes.len() == node;
        self.pods.iter().enumerate().filter(here)
    }

    /// Gives the nodes their underlay addresses on `device`.
    pub(super) fn address_underlay(&self, device: &str) -> Result<(), Unavailable> {
        for (node, own, _) in self.vteps() {
            ip(
                node,
                &format!("link set u0 up\nlink set {device} up\naddr add {own}/24 dev {device}"),
            )?;
        }
        Ok(())
    }

    /// Joins `eth0` of a pod with `p` and its number on the node by a veth pair. Both are down.
    pub(super) fn plug_veth(&self, node: usize, pod: usize) -> Result<(), Unavailable> {
        let (mtu, netns) = (self.mtu, path(&self.pods[pod].netns));
        ip(
            &self.nodes[node],
            &format!("link add p{pod} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {netns}"),
        )
    }

    /// Whether a node has a device.
    pub(super) fn has_device(&self, node: usize, device: &str) -> bool {
        let link = LinkRef::Name(device.to_owned());
        link_state(Some(&self.nodes[node]), &link).is_ok()
    }

    /// Moves a device of a node into a pod, as its `eth0`.
    pub(super) fn plug_device(
        &self,
        node: usize,
        pod: usize,
        device: &str,
    ) -> Result<(), Unavailable> {
        let netns = path(&self.pods[pod].netns);
        ip(
            &self.nodes[node],
            &format!("link set {device} netns {netns} name eth0"),
        )
    }

    /// Gives every `eth0` its MTU and addresses, and sets it up.
    pub(super) fn address_pods(&self) -> Result<(), Unavailable> {
        for (number, pod) in self.pods.iter().enumerate() {
            let (mac, mtu, own) = (mac(number), self.mtu, pod.address);
            ip(
                &pod.netns,
                &format!(
                    "link set eth0 address {mac} mtu {mtu}\naddr add {own}/16 dev eth0\n\
                     link set eth0 up"
                ),
            )?;
        }
        Ok(())
    }

    /// Tells every pod the MAC addresses of the others, and waits until all reach each other.
    pub(super) fn introduce(&self) -> Result<(), Unavailable> {
        for (number, pod) in self.pods.iter().enumerate() {
            let others = self.pods.iter().enumerate();
            let lines = others
                .filter(|&(other, _)| other != number)
                .map(|(other, peer)| (peer.address, mac(other)))
                .map(|(address, mac)| {
                    format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent\n")
                });
            let lines: String = lines.collect();
            ip(&pod.netns, &lines)?;
        }
        introduce(&self.pods)
    }
}

/// Sends a datagram from every pod to every other one, so that all switches on the way know where
/// all are: one that never sends, such as a receiver of UDP, is forgotten after the ageing time
/// (300 s), and everything to it is flooded. For pods that have each other's MAC addresses.
///
/// # Errors
/// [`Unavailable::Failed`] if one does not reach another within 5 seconds.
pub fn introduce(pods: &[Pod]) -> Result<(), Unavailable> {
    let open = |pod: &Pod| {
        let socket = pod.netns.run_in(|| UdpSocket::bind((pod.address, 0)));
        let socket = socket.map_err(Unavailable::failed)?.map_err(|cause| {
            let address = pod.address;
            let cause = cause_text(&cause);
            Unavailable::Failed(format!("open socket at {address}: {cause}; see ulimit -n"))
        })?;
        let timeout = socket.set_read_timeout(Some(AGAIN));
        timeout.map_err(Unavailable::failed)?;
        Ok(socket)
    };
    let sockets = pods.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    for (from, sender) in sockets.iter().enumerate() {
        for (to, receiver) in sockets.iter().enumerate() {
            if from != to {
                reach(sender, receiver, u8::try_from(from).unwrap_or(0)).map_err(|cause| {
                    let cause = cause_text(&cause);
                    Unavailable::Failed(format!(
                        "send from pod {from} to pod {to} ({}): {cause}; the switch does not \
                         forward, see its messages",
                        pods[to].address
                    ))
                })?;
            }
        }
    }
    Ok(())
}

fn reach(sender: &UdpSocket, receiver: &UdpSocket, mark: u8) -> io::Result<()> {
    let mut nobody = None;
    for _ in 0..ATTEMPTS {
        // A switch that is not ready yet may refuse.
        nobody = sender
            .send_to(&[mark], receiver.local_addr()?)
            .err()
            .or(nobody);
        let mut bytes = [0; 8];
        // One that was late in an earlier attempt may come first.
        while let Ok((_, from)) = receiver.recv_from(&mut bytes) {
            if from == sender.local_addr()? {
                return Ok(());
            }
        }
    }
    Err(nobody.unwrap_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "nothing arrives")))
}

/// The address of a pod.
fn address(pod: usize) -> Ipv4Addr {
    let number = u32::try_from(pod + 1).unwrap_or(1);
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 99, 0, 0).to_bits() + number)
}

/// The MAC address of a pod's `eth0`.
pub(super) fn mac(pod: usize) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 1, u8::try_from(pod).unwrap_or(0)])
}

/// How long a datagram may take.
const AGAIN: Duration = Duration::from_millis(100);
/// How often it is sent.
const ATTEMPTS: u32 = 50;
