//! Labs with hosts, joined by an overlay: a whole small site on one clock.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Host, Lab, MemMessage, MemNet, Network, Pong, Sentence, StoryLog};
use crate::{
    bridge::PeerId,
    config::BridgeSpec,
    time::Timestamp,
    vxlan,
    wire::{Vni, describe},
};

/// Several nodes, each a [`Network`] of its own, whose bridges are one by VXLAN. Each node lists all
/// others as peers.
///
/// Hosts are counted through: if the first node has two, the first host of the second is number 3,
/// with the addresses of [`frames::mac`](super::frames::mac) and so on. Time goes in hops as in a
/// [`Network`]; a datagram takes one from node to node.
///
/// ```
/// use tapswitch::sim::{Nodes, frames};
///
/// let mut nodes = Nodes::new(&[&["podA", "podB"], &["podC"]]);
/// let pong = nodes.ping(0, frames::ip(3).into()).expect("podC answers");
/// assert_eq!(pong.from, frames::ip(3));
/// nodes.assert_accounted();
/// ```
#[derive(Debug)]
pub struct Nodes {
    /// The nodes. Their clocks go together only if [`Self::step`] moves them.
    pub networks: Vec<Network>,
    net: MemNet,
    /// For each node its number for each other one.
    peers: Vec<Vec<(usize, PeerId)>>,
    logs: Vec<StoryLog>,
    /// How many to keep, and those.
    crossings: (usize, VecDeque<Crossing>),
}

/// One thing that happened at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A switch decided about a frame.
    Switched {
        /// The node, counted from 0.
        node: usize,
        /// What it did.
        sentence: Sentence,
    },
    /// A datagram was on the underlay.
    Crossed(Crossing),
}

/// One datagram between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// When it left.
    pub at: Timestamp,
    /// The VTEP that sent it.
    pub from: IpAddr,
    /// The VTEP that it is for, and its UDP port.
    pub to: SocketAddr,
    /// Bytes of the whole outer frame, from its Ethernet header on.
    pub len: usize,
    /// What is inside; see [`describe`].
    pub inner: String,
}

impl Nodes {
    /// The VNI of all nodes.
    pub const VNI: u32 = 42;

    /// A node for each list of host names.
    ///
    /// # Panics
    /// For more than 254 nodes or hosts.
    pub fn new(names: &[&[&str]]) -> Self {
        // What the underlay's 1500 leave.
        Self::with_mtu(
            BridgeSpec::DEFAULT_MTU - vxlan::overhead(Self::vtep(0).is_ipv6()),
            names,
        )
    }

    /// The same, with hosts that have this MTU. The underlay's is 1500, so more than
    /// 1450 does not fit.
    ///
    /// # Panics
    /// For more than 254 nodes or hosts.
    pub fn with_mtu(mtu: u32, names: &[&[&str]]) -> Self {
        let net = MemNet::new();
        net.hold();
        let mut nodes = Self {
            networks: Vec::new(),
            net,
            peers: Vec::new(),
            logs: Vec::new(),
            crossings: (0, VecDeque::new()),
        };
        let mut hosts = 0;
        for names in names {
            nodes.add_node(mtu, hosts, names);
            hosts += names.len();
        }
        for node in 0..names.len() {
            let lab = &mut nodes.networks[node].lab;
            let others = (0..names.len()).filter(|&other| other != node);
            let peers = others.map(|other| (other, lab.add_peer(0, Self::vtep(other))));
            nodes.peers.push(peers.collect());
        }
        nodes
    }

    fn add_node(&mut self, mtu: u32, offset: usize, names: &[&str]) {
        let vtep = Self::vtep(self.networks.len());
        let underlay = self.net.attach(vtep);
        let mut spec = Lab::spec("br0");
        spec.mtu = Some(mtu);
        let mut network = Network::numbered_from(offset, spec, names);
        network.lab.add_vtep(underlay);
        let vni = Vni::new(Self::VNI).expect("it has 24 bits");
        network.lab.set_vni(0, vni);
        self.networks.push(network);
    }

    /// Where node number `node`, counted from 0, is on the underlay.
    ///
    /// # Panics
    /// For a node beyond the 254th.
    pub fn vtep(node: usize) -> SocketAddr {
        let last = u8::try_from(node + 1).expect("a site has at most 254 nodes");
        SocketAddr::from(([198, 51, 100, last], vxlan::PORT))
    }

    /// Tells every frame and datagram from now on: [`Self::story`] has the latest `capacity`
    /// sentences of each node, and as many datagrams.
    pub fn tell(&mut self, capacity: usize) {
        self.crossings = (capacity, VecDeque::new());
        let each = self.networks.iter_mut().zip(&self.peers);
        let logs = each.map(|(network, peers)| {
            let log = network.lab.tell(capacity);
            for &(other, peer) in peers {
                log.name_peer(peer, &format!("node {}", other + 1));
            }
            log
        });
        self.logs = logs.collect();
    }

    /// Takes out what was told, in the order in which it happened.
    pub fn story(&mut self) -> Vec<Scene> {
        let logs = self.logs.iter().enumerate();
        let switched = logs.flat_map(|(node, log)| {
            let sentences = log.take().into_iter();
            sentences.map(move |sentence| Scene::Switched { node, sentence })
        });
        let crossed = self.crossings.1.drain(..).map(Scene::Crossed);
        let mut story: Vec<_> = switched.chain(crossed).collect();
        // In one hop the switches come first: what they send is on its way behind that.
        story.sort_by_key(Scene::at);
        story
    }

    /// The present time of all nodes.
    pub fn now(&self) -> Timestamp {
        self.networks
            .first()
            .map_or(Timestamp::ZERO, |network| network.lab.now())
    }

    /// Host number `index`, counted from 0 through all nodes.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn host(&mut self, index: usize) -> &mut Host {
        let mut hosts = self.networks.iter_mut().flat_map(|n| &mut n.hosts);
        hosts.nth(index).expect("the host is at the site")
    }

    /// One hop for every node, and for what is between them. Returns how many frames and datagrams
    /// moved.
    pub fn step(&mut self) -> usize {
        let now = self.now();
        let frames: usize = self.networks.iter_mut().map(Network::step).sum();
        let messages = self.net.release();
        for message in &messages {
            self.note(now, message);
        }
        frames + messages.len()
    }

    /// Lets time pass until `done`, at most `duration`; true if it was done.
    pub fn run_until(
        &mut self,
        duration: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.now() + duration;
        while self.now() < end {
            let moved = self.step() > 0;
            if done(self) {
                return true;
            }
            if !moved && !self.networks.iter().any(Network::has_delivered) {
                let at_most = end.since(self.now());
                let idle = self.networks.iter_mut().filter_map(Network::idle).min();
                let idle = idle.map_or(at_most, |idle| idle.min(at_most));
                for network in &mut self.networks {
                    network.lab.advance(idle);
                }
            }
        }
        false
    }

    /// Host number `from`, counted from 0 through all nodes, pings `to` with 56 bytes and waits.
    pub fn ping(&mut self, from: usize, to: IpAddr) -> Option<Pong> {
        self.ping_with(from, to, 56)
    }

    /// The same with `len` bytes.
    pub fn ping_with(&mut self, from: usize, to: IpAddr, len: usize) -> Option<Pong> {
        let now = self.now();
        let sequence = self.host(from).ping(now, to, len);
        let mut answer = None;
        self.run_until(Network::PATIENCE, |nodes| {
            let pongs = nodes.host(from).pongs();
            answer = pongs.into_iter().find(|pong| pong.sequence == sequence);
            answer.is_some()
        });
        answer
    }

    /// [`Lab::assert_accounted`] at every node.
    ///
    /// # Panics
    /// If a frame has no counted fate.
    pub fn assert_accounted(&self) {
        for network in &self.networks {
            network.lab.assert_accounted();
        }
    }

    fn note(&mut self, at: Timestamp, message: &MemMessage) {
        let (capacity, crossings) = &mut self.crossings;
        let MemMessage {
            from, departure, ..
        } = message;
        let segment = departure.segment.map_or(usize::MAX, usize::from);
        for datagram in message.bytes.chunks(segment.max(1)) {
            let inner = datagram.get(vxlan::HEADER_LEN..).unwrap_or_default();
            if crossings.len() >= *capacity {
                crossings.pop_front();
            }
            if *capacity > 0 {
                crossings.push_back(Crossing {
                    at,
                    from: from.ip(),
                    to: departure.to,
                    // Its own Ethernet header instead of the inner one, which is counted already.
                    len: inner.len() + vxlan::overhead(from.is_ipv6()) as usize,
                    inner: describe(inner),
                });
            }
        }
    }
}

impl Scene {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Switched { sentence, .. } => sentence.at,
            Self::Crossed(crossing) => crossing.at,
        }
    }

    /// The datagram, if that is what it is about.
    pub fn crossing(&self) -> Option<&Crossing> {
        match self {
            Self::Switched { .. } => None,
            Self::Crossed(crossing) => Some(crossing),
        }
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switched { node, sentence } => {
                let Sentence {
                    at,
                    ingress,
                    frame,
                    len,
                    fate,
                    lesson,
                    ..
                } = sentence;
                let node = node + 1;
                write!(
                    f,
                    "{at}  node {node}, from {ingress}: {frame} ({len} bytes); {fate}"
                )?;
                match lesson {
                    Some(lesson) => write!(f, "; {lesson}"),
                    None => Ok(()),
                }
            }
            Self::Crossed(Crossing {
                at,
                from,
                to,
                len,
                inner,
            }) => write!(
                f,
                "{at}  underlay: udp {from} > {to}, {len} bytes; in it: {inner}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::frames;

    fn site() -> Nodes {
        Nodes::new(&[&["podA", "podB"], &["podC", "podD"]])
    }

    #[test]
    fn hosts_of_two_nodes_ping_each_other_over_both_families() {
        let mut nodes = site();
        for to in [IpAddr::from(frames::ip(3)), IpAddr::from(frames::ip6(4))] {
            let first = nodes.ping(0, to).unwrap();
            let second = nodes.ping(0, to).unwrap();
            assert_eq!((first.from, second.from), (to, to));
            assert!(first.round_trip > second.round_trip, "{first:?} {second:?}");
        }
        assert_eq!(nodes.ping(0, frames::ip(77).into()), None);
        nodes.assert_accounted();
    }

    #[test]
    fn the_way_to_another_node_is_longer_by_the_underlay_each_way() {
        let mut nodes = site();
        for to in [2, 3] {
            nodes.ping(0, frames::ip(to).into()).unwrap();
        }
        let [near, far] = [2, 3].map(|to| nodes.ping(0, frames::ip(to).into()).unwrap());
        assert_eq!(far.round_trip, near.round_trip + 2 * Network::HOP);
    }

    #[test]
    fn a_story_tells_what_is_on_the_underlay_between_its_sender_and_its_receiver() {
        let mut nodes = site();
        nodes.tell(100);

        nodes.ping(0, frames::ip(3).into()).unwrap();
        let story = nodes.story();

        let places: Vec<_> = story
            .iter()
            .map(|scene| match scene {
                Scene::Switched { node: 0, .. } => '1',
                Scene::Switched { .. } => '2',
                Scene::Crossed(_) => '-',
            })
            .collect();
        assert_eq!(String::from_iter(places), "1-22-11-22-1");
        for three in story.chunks(3) {
            let [
                Scene::Switched { sentence, .. },
                Scene::Crossed(crossing),
                _,
            ] = three
            else {
                panic!("{three:?}");
            };
            assert_eq!(crossing.inner, sentence.frame);
            assert_eq!(crossing.len, sentence.len + 50);
        }
        assert!(story[0].to_string().contains("flooded to podB, node 2"));
        assert!(story[2].to_string().contains("flooded to podC, podD"));
        assert_eq!(nodes.story(), []);
    }

    #[test]
    fn the_longest_packet_of_a_pod_is_a_full_packet_on_the_underlay() {
        let mut nodes = site();
        nodes.tell(100);
        // 20 of IPv4 and 8 of ICMP make it 1450.
        nodes.ping_with(0, frames::ip(3).into(), 1422).unwrap();
        let story = nodes.story();
        let lens = story.iter().filter_map(Scene::crossing).map(|c| c.len);
        assert_eq!(lens.max(), Some(1514));
        nodes.assert_accounted();
    }
}
