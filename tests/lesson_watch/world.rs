//! The same networks, made of this switch and of the kernel's devices.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    thread,
};

use tapswitch::lesson::watch::{Node, Switch, Watch};

use crate::common::{Daemon, Netns, PacketSocket, succeeded};

/// What switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Tapswitch,
    Kernel,
}

impl System {
    pub(crate) const BOTH: [Self; 2] = [Self::Tapswitch, Self::Kernel];
}

/// A bridge with three pods, in which the host has an address.
pub(crate) struct One {
    pods: Vec<Netns>,
    place: Place,
    /// Where the host is, if its switch is elsewhere.
    _host: Option<Netns>,
}

/// Where a switch runs.
enum Place {
    Daemon(Daemon),
    Netns(Netns),
}

impl Place {
    fn watched(&self, name: &str) -> Node {
        let switch = match self {
            Self::Daemon(daemon) => Switch::Tapswitch(PathBuf::from(daemon.socket())),
            Self::Netns(netns) => Switch::Kernel(netns.reference()),
        };
        let name = name.to_owned();
        Node { name, switch }
    }
}

/// A namespace that says nothing by itself.
fn silent(label: &str) -> Netns {
    let netns = Netns::new(label);
    netns.run(|| {
        for conf in ["all", "default"] {
            let file = format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6");
            std::fs::write(file, "1").unwrap();
        }
    });
    netns.ip("link set lo up");
    netns
}

const PODS: [&str; 3] = ["podA", "podB", "podC"];

impl One {
    pub(crate) fn build(system: System) -> Self {
        let pods: Vec<Netns> = PODS.iter().map(|name| silent(name)).collect();
        let place = match system {
            System::Tapswitch => {
                let host = silent("host");
                let mut config = String::from("[[bridge]]\nname = \"br0\"\n");
                config += &port("br0", host.name(), 9);
                for (number, (name, pod)) in (1..).zip(PODS.iter().zip(&pods)) {
                    config += &port(name, pod.name(), number);
                }
                (Place::Daemon(Daemon::start(&config)), Some(host))
            }
            System::Kernel => {
                let host = silent("host");
                host.ip("link add br0 type bridge");
                host.ip("link set br0 address 02:00:00:00:00:09 up");
                host.ip("address add 10.1.1.9/24 dev br0");
                for (number, (name, pod)) in (1..).zip(PODS.iter().zip(&pods)) {
                    veth(&host, name, pod, number);
                }
                (Place::Netns(host), None)
            }
        };
        let (place, _host) = place;
        Self { pods, place, _host }
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch::begin(&[self.place.watched("host")]).unwrap()
    }

    /// One ping from a pod to pod number `to`.
    pub(crate) fn ping(&self, from: &str, to: u8) {
        ping(self.pod(from), to);
    }

    /// A broken packet of a protocol that nobody knows.
    pub(crate) fn send(&self, from: &str, to: &str) {
        let mac = |text: &str| -> Vec<u8> {
            let bytes = text
                .split(':')
                .map(|byte| u8::from_str_radix(byte, 16).unwrap());
            bytes.collect()
        };
        let mut frame = mac(to);
        frame.extend(mac("02:00:00:00:00:01"));
        frame.extend([0x88, 0xb5]);
        frame.extend([7; 50]);
        PacketSocket::inside(&self.pod(from).open())
            .send(&frame)
            .unwrap();
    }

    fn pod(&self, name: &str) -> &Netns {
        let index = PODS.iter().position(|pod| *pod == name).unwrap();
        &self.pods[index]
    }
}

fn ping(from: &Netns, to: u8) {
    let to = format!("10.1.1.{to}");
    let output = from.exec(&["ping", "-c", "1", "-W", "5", &to]);
    succeeded("ping", Ok(output));
}

fn port(name: &str, netns: &str, number: u8) -> String {
    format!(
        "[[bridge.port]]\nname = \"{name}\"\nnetns = \"{netns}\"\nmac = \"02:00:00:00:00:0{number}\"\n\
         addresses = [\"10.1.1.{number}/24\"]\n"
    )
}

/// A pod's cable to a bridge.
fn veth(host: &Netns, name: &str, pod: &Netns, number: u8) {
    let mac = format!("02:00:00:00:00:0{number}");
    let netns = pod.name();
    host.ip(&format!(
        "link add {name} type veth peer name eth0 address {mac} netns {netns}"
    ));
    host.ip(&format!("link set {name} master br0 up"));
    pod.ip(&format!("address add 10.1.1.{number}/24 dev eth0"));
    pod.ip("link set eth0 up");
}

/// A node each for podA and podB, and VXLAN between them.
pub(crate) struct Two {
    pods: [Netns; 2],
    places: [Place; 2],
    _nodes: Vec<Netns>,
}

const NODES: [&str; 2] = ["node1", "node2"];
const VTEPS: [&str; 2] = ["192.168.50.10", "192.168.50.20"];

impl Two {
    pub(crate) fn build(system: System) -> Self {
        let pods = [0, 1].map(|index| silent(PODS[index]));
        let nodes = NODES.map(silent);
        let [first, second] = [nodes[0].name(), nodes[1].name()];
        nodes[0].ip(&format!(
            "link add eth0 netns {first} type veth peer name eth0 netns {second}"
        ));
        for (node, vtep) in nodes.iter().zip(VTEPS) {
            node.ip(&format!("address add {vtep}/24 dev eth0"));
            node.ip("link set eth0 up");
        }
        let mut kept = Vec::new();
        let mut index = 0;
        let places = nodes.map(|node| {
            let place = match system {
                System::Tapswitch => {
                    let place = Place::Daemon(overlay(&node, index, &pods[index]));
                    kept.push(node);
                    place
                }
                System::Kernel => {
                    kernel_overlay(&node, index, &pods[index]);
                    Place::Netns(node)
                }
            };
            index += 1;
            place
        });
        Self {
            pods,
            places,
            _nodes: kept,
        }
    }

    pub(crate) fn watch(&self) -> Watch {
        let nodes: Vec<Node> = self
            .places
            .iter()
            .zip(NODES)
            .map(|(place, name)| place.watched(name))
            .collect();
        Watch::begin(&nodes).unwrap()
    }

    pub(crate) fn ping(&self) {
        ping(&self.pods[0], 2);
    }

    /// So many bytes over TCP from podA to podB.
    pub(crate) fn send(&self, bytes: usize) {
        let [from, to] = &self.pods;
        let listener = to.run(|| TcpListener::bind("10.1.1.2:0").unwrap());
        let address = listener.local_addr().unwrap();
        let mut sender = from.run(|| TcpStream::connect(address).unwrap());
        let (mut receiver, _) = listener.accept().unwrap();
        let writer = thread::spawn(move || sender.write_all(&vec![7; bytes]).unwrap());
        let mut received = Vec::new();
        receiver.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        assert_eq!(received.len(), bytes);
    }
}

fn overlay(node: &Netns, index: usize, pod: &Netns) -> Daemon {
    let (local, remote) = (VTEPS[index], VTEPS[1 - index]);
    let number = u8::try_from(index + 1).unwrap();
    let mut config = format!(
        "[vtep]\nlocal = \"{local}\"\nnetns = \"{}\"\n[[bridge]]\nname = \"br0\"\nvni = 42\n\
         peers = [\"{remote}\"]\n",
        node.name()
    );
    config += &port(PODS[index], pod.name(), number);
    Daemon::start(&config)
}

fn kernel_overlay(node: &Netns, index: usize, pod: &Netns) {
    let (local, remote) = (VTEPS[index], VTEPS[1 - index]);
    let number = u8::try_from(index + 1).unwrap();
    node.ip("link add br0 type bridge");
    node.ip("link set br0 up");
    node.ip(&format!(
        "link add vxlan42 type vxlan id 42 local {local} remote {remote} dstport 4789"
    ));
    node.ip("link set vxlan42 master br0 up");
    veth(node, PODS[index], pod, number);
    // tapswitch sets it by itself.
    pod.ip("link set eth0 mtu 1450");
}
