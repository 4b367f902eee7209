//! The demo in real network namespaces: two switches, and a third one as the cable between them, so
//! that it can be seen what is on it.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::{PINGS, PODS, Place, Play, Pod, VTEPS, ping::ping, traffic::TOO_MUCH};
use crate::{
    config::{BridgeSpec, Mode, PeerAddr, PortSpec, VtepSpec},
    control::api::{BridgeInfo, FdbSelector, MtuChain, Request, Response, StatsInfo},
    daemon::{Switch, SwitchOptions},
    datapath::{Decided, Observer},
    names::{Name, NetnsRef},
    sim::{Crossing, Nodes, Scene, Story, StoryLog},
    sys::netns::{NetnsFile, create_anonymous},
    time::Timestamp,
    vxlan, web,
    wire::{MacAddr, Vni, describe},
};

/// Everything built and running.
pub(super) struct Stage {
    cable: Switch,
    nodes: Vec<Node>,
    pods: Vec<Netns>,
    scenes: Scenes,
}

struct Node {
    switch: Switch,
    netns: Netns,
}

/// A namespace without a name, which lives as long as this.
pub(super) struct Netns {
    reference: NetnsRef,
    _anchor: OwnedFd,
}

/// What all switches saw, in the order in which they decided: each tells a frame before it sends it.
#[derive(Clone, Debug, Default)]
struct Scenes(Arc<Mutex<Vec<Scene>>>);

impl Stage {
    /// Builds everything, with witnesses; the error says why it is not possible here.
    pub(super) fn build() -> Result<Self, String> {
        Self::build_with(true)
    }

    /// The same without witnesses, for any length of time, and with a pod that may send more than
    /// there is room for.
    pub(super) fn build_silent() -> Result<Self, String> {
        Self::build_with(false)
    }

    fn build_with(is_witnessed: bool) -> Result<Self, String> {
        let scenes = Scenes::default();
        let witness = CableWitness(scenes.clone());
        let witness = is_witnessed.then(|| Box::new(witness) as Box<dyn Observer>);
        let cable = start("cable", witness)?;
        let mut spec = BridgeSpec::new(name("cable")?);
        spec.mode = Mode::Wire;
        execute(&cable, Request::BridgeAdd(spec))?;
        let mut stage = Self {
            cable,
            nodes: Vec::new(),
            pods: Vec::new(),
            scenes,
        };
        let netns = [Netns::new()?, Netns::new()?];
        for (node, netns) in netns.iter().enumerate() {
            let mut port = PortSpec::new(name(&format!("node{}", node + 1))?, name("cable")?);
            port.netns = Some(netns.reference.clone());
            port.addresses = vec![ipnet::Ipv4Net::new_assert(VTEPS[node], 24).into()];
            execute(&stage.cable, Request::PortAdd(port))?;
        }
        for (node, netns) in netns.into_iter().enumerate() {
            let node = stage.build_node(node, netns, is_witnessed)?;
            stage.nodes.push(node);
        }
        Ok(stage)
    }

    fn build_node(
        &mut self,
        node: usize,
        netns: Netns,
        is_witnessed: bool,
    ) -> Result<Node, String> {
        let (story, log) = Story::new(1);
        let witness = NodeWitness {
            node,
            story,
            log: log.clone(),
            scenes: self.scenes.clone(),
        };
        let witness = is_witnessed.then(|| Box::new(witness) as Box<dyn Observer>);
        let switch = start(&node_name(node), witness)?;
        let mut vtep = VtepSpec::new(VTEPS[node].into());
        vtep.netns = Some(netns.reference.clone());
        execute(&switch, Request::VtepSet(vtep))?;
        let bridge = name("br0")?;
        let other = IpAddr::from(VTEPS[1 - node]);
        let mut spec = BridgeSpec::new(bridge.clone());
        spec.vni = Vni::new(Nodes::VNI);
        spec.peers = vec![PeerAddr::new(other)];
        execute(&switch, Request::BridgeAdd(spec))?;
        if let Some(peer) = switch.peer_id(&bridge, other) {
            log.name_peer(peer, &format!("node {}", 2 - node));
        }
        for pod in PODS.iter().filter(|pod| pod.node == node) {
            let netns = Netns::new()?;
            let is_last = pod.ip == PODS[PODS.len() - 1].ip;
            let mtu = (is_last && !is_witnessed).then_some(TOO_MUCH);
            plug(&switch, &bridge, pod, &netns, mtu)?;
            if let Some(port) = switch.port_id(&name(pod.name)?) {
                log.name_port(port, pod.name);
            }
            self.pods.push(netns);
        }
        Ok(Node { switch, netns })
    }

    /// The pods' namespaces, in the order of [`PODS`].
    pub(super) fn pods(&self) -> &[Netns] {
        &self.pods
    }

    /// The nodes for the live page.
    pub(super) fn web_nodes(&self) -> Vec<web::Node> {
        let named = |(index, node): (usize, &Node)| {
            web::Node::here(node_name(index), Arc::new(node.switch.clone()))
        };
        self.nodes.iter().enumerate().map(named).collect()
    }

    /// Pings, and collects what can be seen of it.
    pub(super) fn play(&self) -> io::Result<Play> {
        // The nodes find each other first: that is the cable's story, not the pods'.
        self.nodes[0].netns.ping(VTEPS[1], 0, 1, PATIENCE)?;
        self.scenes.take();
        let (mut trips, mut story, mut longest) = (Vec::new(), Vec::new(), 0);
        for (sequence, (from, to, len)) in (1..).zip(PINGS) {
            trips.push(self.pods[from].ping(PODS[to].ip, len, sequence, PATIENCE)?);
            let scenes = self.scenes.take();
            let crossings = scenes.iter().filter_map(Scene::crossing);
            longest = crossings
                .map(|crossing| crossing.len)
                .fold(longest, usize::max);
            if story.is_empty() {
                story = scenes;
            }
        }
        let counts = self
            .nodes
            .iter()
            .map(|node| stats(&node.switch))
            .collect::<io::Result<Vec<_>>>()?;
        let unaccounted: i64 = counts.iter().map(|stats| stats.unaccounted).sum();
        Ok(Play {
            trips,
            story,
            longest,
            known: self.known()?,
            chain: self.chain()?,
            frames: counts.iter().map(frames).sum(),
            unaccounted: unaccounted + stats(&self.cable)?.unaccounted,
        })
    }
}

impl Stage {
    fn known(&self) -> io::Result<Vec<(MacAddr, [Option<Place>; 2])>> {
        let mut known: BTreeMap<MacAddr, [Option<Place>; 2]> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let entries = node
                .switch
                .execute(Request::FdbShow(FdbSelector::default()))
                .map_err(io::Error::other)?;
            let Response::Fdb(entries) = entries else {
                continue;
            };
            for entry in entries {
                let remote = entry.remote.and_then(|remote| remote.parse().ok());
                let port = entry.port.map(|port| Place::Port(port.to_string()));
                let places = known.entry(entry.mac).or_default();
                places[index] = port.or_else(|| remote.map(Place::Vtep));
            }
        }
        Ok(known.into_iter().collect())
    }

    fn chain(&self) -> io::Result<MtuChain> {
        let bridges = self.nodes[0]
            .switch
            .execute(Request::BridgeShow { name: None })
            .map_err(io::Error::other)?;
        let chain = match bridges {
            Response::Bridges(bridges) => bridges.into_iter().find_map(|b: BridgeInfo| b.mtu_chain),
            _ => None,
        };
        chain.ok_or_else(|| io::Error::other("the bridge does not tell its MTU"))
    }
}

impl Netns {
    fn new() -> Result<Self, String> {
        let anchor = create_anonymous().map_err(|error| error.to_string())?;
        let path = format!("/proc/self/fd/{}", anchor.as_raw_fd());
        let netns = Self {
            reference: NetnsRef::Path(PathBuf::from(path)),
            _anchor: anchor,
        };
        let inside = NetnsFile::open(&netns.reference).map_err(|error| error.to_string())?;
        inside.run_in(quieten).map_err(|error| error.to_string())?;
        Ok(netns)
    }

    pub(super) fn open(&self) -> io::Result<NetnsFile> {
        NetnsFile::open(&self.reference).map_err(io::Error::other)
    }

    /// Calls `work` inside.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.open()?.run_in(work).map_err(io::Error::other)
    }

    pub(super) fn ping(
        &self,
        to: Ipv4Addr,
        len: usize,
        sequence: u16,
        patience: Duration,
    ) -> io::Result<Duration> {
        self.run(|| ping(to, len, sequence, patience))?
    }
}

/// Without IPv6 the namespace says nothing by itself, and the story is only about the ping.
fn quieten() {
    // Where /proc is read-only the story has a few more frames: no harm.
    for file in ["all", "default"] {
        drop(fs::write(
            format!("/proc/sys/net/ipv6/conf/{file}/disable_ipv6"),
            "1",
        ));
    }
}

impl Scenes {
    fn add(&self, scene: Scene) {
        // One push at a time: a panic elsewhere leaves it whole.
        let mut scenes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        scenes.push(scene);
    }

    fn take(&self) -> Vec<Scene> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells what a node's switch decides.
#[derive(Debug)]
struct NodeWitness {
    node: usize,
    story: Story,
    log: StoryLog,
    scenes: Scenes,
}

impl Observer for NodeWitness {
    fn decided(&mut self, decided: &Decided<'_>) {
        self.story.decided(decided);
        let node = self.node;
        for sentence in self.log.take() {
            self.scenes.add(Scene::Switched { node, sentence });
        }
    }
}

/// Tells which VXLAN datagrams are on the cable.
#[derive(Debug)]
struct CableWitness(Scenes);

impl Observer for CableWitness {
    fn decided(&mut self, decided: &Decided<'_>) {
        if let Some(crossing) = crossing(decided.now, decided.frame) {
            self.0.add(Scene::Crossed(crossing));
        }
    }
}

/// `frame` as a datagram between VTEPs, if that is what it is.
fn crossing(at: Timestamp, frame: &[u8]) -> Option<Crossing> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport)
    else {
        return None;
    };
    let (_, inner) = vxlan::parse(udp.payload()).ok()?;
    (udp.destination_port() == vxlan::PORT).then(|| Crossing {
        at,
        from: ip.header().source_addr().into(),
        to: (ip.header().destination_addr(), vxlan::PORT).into(),
        len: frame.len(),
        inner: describe(inner),
    })
}

fn node_name(node: usize) -> String {
    format!("node{}", node + 1)
}

fn start(switch: &str, observer: Option<Box<dyn Observer>>) -> Result<Switch, String> {
    let options = SwitchOptions {
        name: switch.to_owned(),
        workers: Some(1),
        observer,
        ..SwitchOptions::default()
    };
    Switch::start(options).map_err(|error| format!("start switch {switch}: {error}"))
}

fn plug(
    switch: &Switch,
    bridge: &Name,
    pod: &Pod,
    netns: &Netns,
    mtu: Option<usize>,
) -> Result<(), String> {
    let mut port = PortSpec::new(name(pod.name)?, bridge.clone());
    port.netns = Some(netns.reference.clone());
    // Easier to recognise in the story than a derived one.
    let [.., number] = pod.ip.octets();
    port.mac = Some(MacAddr::new([2, 0, 0, 0, 0, number]));
    port.addresses = vec![ipnet::Ipv4Net::new_assert(pod.ip, 24).into()];
    port.mtu = mtu.and_then(|mtu| u32::try_from(mtu).ok());
    execute(switch, Request::PortAdd(port))
}

fn execute(switch: &Switch, request: Request) -> Result<(), String> {
    let done = switch.execute(request).map(drop);
    done.map_err(|error| error.to_string())
}

fn stats(switch: &Switch) -> io::Result<StatsInfo> {
    match switch.execute(Request::Stats { port: None }) {
        Ok(Response::Stats(stats)) => Ok(stats),
        Ok(_) => Err(io::Error::other("the switch tells no counters")),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn frames(stats: &StatsInfo) -> u64 {
    let ports = stats.ports.iter().map(|port| port.rx.frames);
    let peers = stats.peers.iter().map(|peer| peer.rx.frames);
    ports.chain(peers).sum()
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

/// How long the demo waits for a reply.
const PATIENCE: Duration = Duration::from_secs(3);
