//! The demo in real network namespaces.

use std::{
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use super::{HOSTS, fdb_row, ping::ping, tell_fdb, tell_setting, tell_story};
use crate::{
    config::{BridgeSpec, PortSpec},
    control::api::{FdbSelector, Request, Response},
    daemon::{Switch, SwitchOptions},
    names::{Name, NetnsRef},
    sim::{Story, StoryLog},
    sys::netns::{NetnsFile, create_anonymous},
    wire::MacAddr,
};

/// Three namespaces on a running switch.
pub(super) struct Scene {
    switch: Switch,
    log: StoryLog,
    hosts: Vec<Host>,
}

struct Host {
    name: &'static str,
    address: Ipv4Addr,
    netns: NetnsRef,
    /// Keeps the namespace, which has no name, alive until the demo ends.
    _anchor: OwnedFd,
}

impl Scene {
    /// Builds everything; the error says why it is not possible here.
    pub(super) fn build() -> Result<Self, String> {
        let (story, log) = Story::new(64);
        let options = SwitchOptions {
            name: "demo".to_owned(),
            workers: Some(1),
            observer: Some(Box::new(story)),
            ..SwitchOptions::default()
        };
        let switch =
            Switch::start(options).map_err(|error| format!("start the switch: {error}"))?;
        let bridge = name("br0")?;
        let execute = |request| switch.execute(request).map_err(|error| error.to_string());
        execute(Request::BridgeAdd(BridgeSpec::new(bridge.clone())))?;
        let mut hosts = Vec::new();
        for (host, address) in HOSTS {
            let anchor = create_anonymous().map_err(|error| error.to_string())?;
            let netns = NetnsRef::Path(PathBuf::from(format!(
                "/proc/self/fd/{}",
                anchor.as_raw_fd()
            )));
            quieten(&netns)?;
            let address: Ipv4Addr = address
                .parse()
                .map_err(|_| format!("{address} is no address"))?;
            let mut port = PortSpec::new(name(host)?, bridge.clone());
            port.netns = Some(netns.clone());
            // Easier to recognise in the story than a derived one.
            let [.., last] = address.octets();
            port.mac = Some(MacAddr::new([2, 0, 0, 0, 0, last]));
            port.addresses = vec![ipnet::Ipv4Net::new_assert(address, 24).into()];
            execute(Request::PortAdd(port))?;
            if let Some(id) = switch.port_id(&name(host)?) {
                log.name_port(id, host);
            }
            hosts.push(Host {
                name: host,
                address,
                netns,
                _anchor: anchor,
            });
        }
        Ok(Self { switch, log, hosts })
    }

    fn ping(&self, from: usize, to: usize, sequence: u16) -> io::Result<Duration> {
        let address = self.hosts[to].address;
        let netns = NetnsFile::open(&self.hosts[from].netns).map_err(io::Error::other)?;
        netns
            .run_in(|| ping(address, sequence, PATIENCE))
            .map_err(io::Error::other)?
    }
}

pub(super) fn play(scene: Scene, out: &mut impl Write) -> io::Result<()> {
    tell_setting(out)?;
    // Whatever the hosts said when their links came up is another story.
    scene.log.take();
    let mut first = Vec::new();
    for (from, to, sequence) in [(0, 1, 1), (0, 1, 2), (0, 1, 3), (2, 0, 4)] {
        let [source, target] = [from, to].map(|host| &scene.hosts[host]);
        let trip = scene.ping(from, to, sequence)?;
        writeln!(
            out,
            "{} pings {} ({}): reply after {} us",
            source.name,
            target.name,
            target.address,
            trip.as_micros()
        )?;
        if first.is_empty() {
            first = scene.log.take();
        }
    }
    tell_story(out, "The first ping, as the bridge saw it:", &first)?;
    if let Response::Fdb(entries) = scene
        .switch
        .execute(Request::FdbShow(FdbSelector::default()))
        .map_err(io::Error::other)?
    {
        tell_fdb(out, entries.iter().map(fdb_row))?;
    }
    let Response::Stats(stats) = scene
        .switch
        .execute(Request::Stats { port: None })
        .map_err(io::Error::other)?
    else {
        return Ok(());
    };
    let frames: u64 = stats.ports.iter().map(|port| port.rx.frames).sum();
    writeln!(
        out,
        "\n{frames} frames came into the switch; unaccounted for: {}.",
        stats.unaccounted
    )
}

/// Without IPv6 the namespace says nothing by itself, and the story is only about the ping.
fn quieten(netns: &NetnsRef) -> Result<(), String> {
    let netns = NetnsFile::open(netns).map_err(|error| error.to_string())?;
    let quiet = || {
        // Where /proc is read-only the story has a few more frames: no harm.
        for file in ["all", "default"] {
            drop(fs::write(
                format!("/proc/sys/net/ipv6/conf/{file}/disable_ipv6"),
                "1",
            ));
        }
    };
    netns.run_in(quiet).map_err(|error| error.to_string())
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

/// How long the demo waits for a reply.
const PATIENCE: Duration = Duration::from_secs(3);
