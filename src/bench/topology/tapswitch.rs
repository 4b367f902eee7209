//! This program: a daemon on each node.

use std::collections::BTreeMap;

use super::{
    Counts, Pod, Shape, Topology, Unavailable,
    browser::Browser,
    daemon::{Daemon, Directory, cpu_ns},
    losses::losses,
    netns::{command, reference, require},
    site::{Site, mac},
};
use crate::{
    config::{BridgeSpec, PeerAddr, PortSpec, VtepSpec},
    control::{
        api::{Request, Response, StatsInfo},
        client::Client,
    },
    names::Name,
    wire::Vni,
};

/// Daemons of this program, and what they are plugged into.
#[derive(Debug)]
struct Tapswitch {
    /// Before the daemons, so that they go first.
    _browsers: Vec<Browser>,
    daemons: Vec<Daemon>,
    clients: Vec<Client>,
    site: Site,
    _directory: Directory,
}

pub(super) fn build(shape: Shape, options: &[String]) -> Result<Box<dyn Topology>, Unavailable> {
    require("ip")?;
    let directory = Directory::new("tapswitch")?;
    let site = Site::new(shape)?;
    if shape.overlay {
        site.address_underlay("u0")?;
    }
    let (mut daemons, mut clients) = (Vec::new(), Vec::new());
    for (number, node) in site.nodes.iter().enumerate() {
        let name = format!("node{number}");
        let socket = directory.file(&format!("{name}.sock"));
        let mut command = command(OWN_PROGRAM);
        command
            .args(["run", "--name", &name, "--socket"])
            .arg(&socket);
        command.args(options);
        let mut daemon = Daemon::start(node, &directory, &name, &mut command)?;
        daemon.wait_ready()?;
        daemons.push(daemon);
        clients.push(Client::new(socket));
    }
    for (number, client) in clients.iter().enumerate() {
        for request in requests(&site, number)? {
            client.request(&request).map_err(Unavailable::failed)?;
        }
    }
    site.introduce()?;
    let looking = site.nodes.iter();
    let looking = looking.map(|node| Browser::open(node, options));
    let browsers = looking.collect::<Result<Vec<_>, _>>()?;
    Ok(Box::new(Tapswitch {
        _browsers: browsers.into_iter().flatten().collect(),
        daemons,
        clients,
        site,
        _directory: directory,
    }))
}

/// What the daemon of one node is told.
fn requests(site: &Site, node: usize) -> Result<Vec<Request>, Unavailable> {
    let name = |text: &str| Name::new(text).map_err(Unavailable::failed);
    let mut bridge = BridgeSpec::new(name("br0")?);
    bridge.mtu = site.shape.mtu;
    // Room for the pods besides.
    bridge.fdb_limit = bridge
        .fdb_limit
        .max(site.shape.addresses.saturating_add(1024));
    let mut requests = Vec::new();
    if site.shape.overlay
        && let Some((_, own, other)) = site.vteps().nth(node)
    {
        requests.push(Request::VtepSet(VtepSpec::new(own.into())));
        bridge.vni = Vni::new(Site::VNI);
        bridge.peers = vec![PeerAddr::new(other.into())];
    }
    requests.push(Request::BridgeAdd(bridge.clone()));
    for (number, pod) in site.pods_of(node) {
        let mut port = PortSpec::new(name(&format!("pod{number}"))?, bridge.name.clone());
        port.netns = Some(reference(&pod.netns));
        port.addresses = vec![ipnet::Ipv4Net::new_assert(pod.address, 16).into()];
        port.mac = Some(mac(number));
        requests.push(Request::PortAdd(port));
    }
    Ok(requests)
}

impl Topology for Tapswitch {
    fn pods(&self) -> &[Pod] {
        &self.site.pods
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts {
            lost: losses(&self.site),
            cpu_ns: cpu_ns(&self.daemons),
            ..Counts::default()
        };
        let stats = self.clients.iter().map(|client| {
            match client.request(&Request::Stats { port: None }).ok()? {
                Response::Stats(stats) => Some(stats),
                _ => None,
            }
        });
        // All or none: a sum without a node would look like progress backwards.
        let Some(stats) = stats.collect::<Option<Vec<_>>>() else {
            return counts;
        };
        for node in &stats {
            add_losses(&mut counts.lost, node);
        }
        let workers = stats.iter().flat_map(|node| &node.workers);
        counts.syscalls = Some(workers.map(|worker| worker.syscalls).sum());
        counts.frames = Some(stats.iter().map(frames).sum());
        counts
    }
}

fn add_losses(lost: &mut BTreeMap<String, u64>, node: &StatsInfo) {
    let ports = node.ports.iter().map(|port| &port.drops);
    let peers = node.peers.iter().map(|peer| &peer.drops);
    let vtep = node.vtep.iter().map(|vtep| &vtep.drops);
    let drops = ports.chain(peers).chain(vtep).flatten();
    for (reason, &frames) in drops {
        // The queue of a TAP is read at its device.
        if frames > 0 && reason != "tap_queue" {
            *lost.entry(format!("switch.{reason}")).or_default() += frames;
        }
    }
}

fn frames(node: &StatsInfo) -> u64 {
    let ports = node.ports.iter().map(|port| port.rx.frames);
    let peers = node.peers.iter().map(|peer| peer.rx.frames);
    ports.chain(peers).sum()
}

/// The program that runs, also if its file has been replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";
