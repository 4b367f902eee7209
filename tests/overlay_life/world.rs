//! Machines, the network that joins them, switches and pods.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    process::{Child, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tapswitch::{
    config::{BridgeSpec, PeerAddr, PortSpec, SwitchSpec, VtepSpec},
    control::api::{
        ApiError, BridgeInfo, Event, FdbInfo, FdbSelector, PeerInfo, PortInfo, Request, Response,
        StatsInfo, VtepInfo,
    },
    daemon::{Switch, SwitchOptions},
    names::Name,
    wire::Vni,
};
use tokio::sync::broadcast::{self, error::TryRecvError};

pub(crate) use crate::common::Daemon;
use crate::common::{Netns, ip, wait_until};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The switch looks at its underlay once a second; the rest is for a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(3);

/// Runs a test over either IP version, at the same time: most of it is waiting.
pub(crate) fn over_both(test: fn(Family)) {
    thread::scope(|scope| {
        scope.spawn(|| test(Family::V6));
        test(Family::V4);
    });
}

/// Which IP version the underlay speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The address of host `number` on subnet `subnet` of the underlay.
    pub(crate) fn host(self, subnet: u8, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 168, subnet, number).into(),
            Self::V6 => Ipv6Addr::new(0xfd00, subnet.into(), 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// What the overlay takes off an MTU.
    pub(crate) const fn overhead(self) -> u32 {
        match self {
            Self::V4 => 50,
            Self::V6 => 70,
        }
    }

    pub(crate) const fn prefix(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }
}

/// A machine, whose `u0` is on the underlay.
pub(crate) struct Host {
    pub(crate) netns: Arc<Netns>,
    pub(crate) ip: IpAddr,
    pub(crate) family: Family,
    /// Its end of the cable in `middle`.
    pub(crate) port: String,
    /// The router, or the switch, that joins all machines.
    pub(crate) middle: Arc<Netns>,
}

/// Machines on one subnet, joined by a bridge of the kernel.
pub(crate) fn lan<const COUNT: usize>(family: Family) -> [Host; COUNT] {
    let middle = Arc::new(space("lan"));
    middle.ip("link add lan type bridge mcast_snooping 0");
    middle.ip("link set lan up");
    std::array::from_fn(|index| {
        let number = u8::try_from(10 * (index + 1)).unwrap();
        let host = Host::new(family, family.host(50, number), number, &middle);
        middle.ip(&format!("link set {} master lan", host.port));
        host
    })
}

/// Machines with a subnet each, joined by a router.
pub(crate) fn routed<const COUNT: usize>(family: Family) -> [Host; COUNT] {
    let middle = Arc::new(space("router"));
    middle.run(|| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    std::array::from_fn(|index| {
        let number = u8::try_from(10 * (index + 1)).unwrap();
        let subnet = 50 + number;
        let host = Host::new(family, family.host(subnet, number), number, &middle);
        let gateway = family.host(subnet, 1);
        add_address(&middle, &host.port, gateway, family);
        host.netns.ip(&format!("route add default via {gateway}"));
        host
    })
}

/// A namespace in which IPv6 addresses can be used at once.
fn space(label: &str) -> Netns {
    let netns = Netns::new(label);
    netns.run(|| {
        for conf in ["all", "default"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/accept_dad"), "0").unwrap();
        }
    });
    netns.ip("link set lo up");
    netns
}

pub(crate) fn add_address(netns: &Netns, device: &str, ip: IpAddr, family: Family) {
    let nodad = if ip.is_ipv6() { "nodad" } else { "" };
    let prefix = family.prefix();
    netns.ip(&format!("address add {ip}/{prefix} dev {device} {nodad}"));
}

impl Host {
    fn new(family: Family, ip: IpAddr, number: u8, middle: &Arc<Netns>) -> Self {
        let host = Self {
            netns: Arc::new(space(&format!("node{number}"))),
            ip,
            family,
            port: format!("r{number}"),
            middle: Arc::clone(middle),
        };
        host.plug_in();
        host
    }

    /// The same machine again, for another switch.
    pub(crate) fn another(&self) -> Self {
        Self {
            netns: Arc::clone(&self.netns),
            port: self.port.clone(),
            middle: Arc::clone(&self.middle),
            ..*self
        }
    }

    /// Makes the cable to the middle.
    pub(crate) fn plug_in(&self) {
        let (ours, theirs, port) = (self.netns.name(), self.middle.name(), &self.port);
        ip(&format!(
            "link add u0 netns {ours} type veth peer name {port} netns {theirs}"
        ));
        self.middle.ip(&format!("link set {port} up"));
        self.netns.ip("link set u0 up");
        add_address(&self.netns, "u0", self.ip, self.family);
    }

    /// The MTU of the cable, at both ends.
    pub(crate) fn set_mtu(&self, mtu: u32) {
        self.netns.ip(&format!("link set u0 mtu {mtu}"));
        let port = &self.port;
        self.middle.ip(&format!("link set {port} mtu {mtu}"));
    }
}

/// A number that the IP stacks of a namespace count, as `nstat` names it: `IpFragCreates`.
pub(crate) fn nstat(netns: &Netns, name: &str) -> u64 {
    let read = |file: &str| {
        let path = format!("/proc/thread-self/net/{file}");
        netns.run(|| fs::read_to_string(path)).unwrap()
    };
    let snmp = read("snmp");
    let lines: Vec<Vec<&str>> = snmp
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let v4 = lines.chunks_exact(2).find_map(|pair| {
        let prefix = pair[0][0].trim_end_matches(':');
        let key = name.strip_prefix(prefix)?;
        let at = pair[0].iter().position(|word| *word == key)?;
        pair[1].get(at)?.parse().ok()
    });
    let snmp6 = read("snmp6");
    let v6 = || {
        let line = snmp6.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    v4.or_else(v6)
        .unwrap_or_else(|| panic!("no counter {name}"))
}

/// A switch on a machine. When it ends, every frame must be accounted for.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) switch: Switch,
}

impl Node {
    /// With an endpoint and no bridges.
    pub(crate) fn new(host: Host) -> Self {
        Self::with(host, |_| {})
    }

    pub(crate) fn with(host: Host, change: impl FnOnce(&mut VtepSpec)) -> Self {
        let node = Self::bare(host);
        let mut spec = node.vtep_spec();
        change(&mut spec);
        node.request(Request::VtepSet(spec));
        node
    }

    /// Without an endpoint.
    pub(crate) fn bare(host: Host) -> Self {
        let switch = Switch::start(SwitchOptions {
            name: host.netns.name().to_owned(),
            ..SwitchOptions::default()
        });
        Self {
            host,
            switch: switch.unwrap(),
        }
    }

    pub(crate) fn vtep_spec(&self) -> VtepSpec {
        let mut spec = VtepSpec::new(self.host.ip);
        spec.netns = Some(self.host.netns.reference());
        spec
    }

    /// With bridge `ov0` as VNI 42, which has these peers.
    pub(crate) fn joined(host: Host, peers: &[IpAddr]) -> Self {
        let node = Self::new(host);
        node.bridge("ov0", 42, peers, |_| {});
        node
    }

    pub(crate) fn bridge(
        &self,
        bridge: &str,
        vni: u32,
        peers: &[IpAddr],
        change: impl FnOnce(&mut BridgeSpec),
    ) {
        let mut spec = BridgeSpec::new(name(bridge));
        spec.vni = Vni::new(vni);
        spec.peers = peers.iter().copied().map(PeerAddr::new).collect();
        change(&mut spec);
        self.request(Request::BridgeAdd(spec));
    }

    /// A pod on `bridge` as port podNUMBER.
    pub(crate) fn pod(&self, bridge: &str, number: u8) -> Pod {
        self.pod_with(bridge, number, |_| {})
    }

    pub(crate) fn pod_with(
        &self,
        bridge: &str,
        number: u8,
        change: impl FnOnce(&mut PortSpec),
    ) -> Pod {
        let port = format!("pod{number}");
        let netns = Netns::new(&port);
        let mut spec = PortSpec::new(name(&port), name(bridge));
        spec.netns = Some(netns.reference());
        let pod = Pod { netns, number };
        let (v4, v6) = (pod.v4(), pod.v6());
        spec.addresses = vec![
            format!("{v4}/24").parse().unwrap(),
            format!("{v6}/64").parse().unwrap(),
        ];
        change(&mut spec);
        self.request(Request::PortAdd(spec));
        pod
    }

    #[track_caller]
    pub(crate) fn request(&self, request: Request) -> Response {
        self.switch
            .execute(request)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A request that must fail and change nothing.
    #[track_caller]
    pub(crate) fn refused(&self, request: Request) -> ApiError {
        let before = self.switch.spec();
        let asked = format!("{request:?}");
        let error = self.switch.execute(request).expect_err(&asked);
        assert_eq!(self.switch.spec(), before, "{asked}");
        error
    }

    pub(crate) fn stats(&self) -> StatsInfo {
        match self.request(Request::Stats { port: None }) {
            Response::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn vtep(&self) -> VtepInfo {
        self.stats().vtep.expect("an endpoint")
    }

    /// The peer of `bridge` at `ip`.
    pub(crate) fn find_peer(&self, bridge: &str, ip: IpAddr) -> Option<PeerInfo> {
        let remote = ip.to_string();
        let is_it = |peer: &PeerInfo| peer.bridge.as_str() == bridge && peer.remote == remote;
        self.stats().peers.into_iter().find(is_it)
    }

    #[track_caller]
    pub(crate) fn peer(&self, bridge: &str, ip: IpAddr) -> PeerInfo {
        self.find_peer(bridge, ip).expect("a peer")
    }

    #[track_caller]
    pub(crate) fn bridge_info(&self, bridge: &str) -> BridgeInfo {
        let request = Request::BridgeShow {
            name: Some(name(bridge)),
        };
        match self.request(request) {
            Response::Bridges(mut bridges) => bridges.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn port(&self, pod: &Pod) -> PortInfo {
        let port = name(&format!("pod{}", pod.number));
        match self.request(Request::PortShow { name: Some(port) }) {
            Response::Ports(mut ports) => ports.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn fdb(&self) -> Vec<FdbInfo> {
        match self.request(Request::FdbShow(FdbSelector::default())) {
            Response::Fdb(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that happens from now on.
    pub(crate) fn events(&self) -> Events {
        Events(self.switch.subscribe())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        wait_until("every frame is accounted for", 2 * SECOND, || {
            self.stats().unaccounted == 0
        });
        self.request(Request::Apply {
            spec: SwitchSpec::default(),
            dry_run: false,
        });
    }
}

/// What a switch tells.
pub(crate) struct Events(broadcast::Receiver<Event>);

impl Events {
    /// The next event that `is_it`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) -> Event {
        let mut found = None;
        wait_until(what, SOON, || {
            found = self.told().into_iter().find(&is_it);
            found.is_some()
        });
        found.unwrap()
    }

    /// The next event of the peer of `bridge` at `ip` that is called `change`: MTU and reason.
    #[track_caller]
    pub(crate) fn wait_for_peer(
        &mut self,
        bridge: &str,
        ip: IpAddr,
        change: &str,
    ) -> (Option<u32>, Option<String>) {
        let what = format!("the event {change} of peer {ip} on {bridge}");
        let event = self.wait_for(&what, |event| is_of_peer(event, bridge, ip, change));
        match event {
            Event::Peer { mtu, reason, .. } => (mtu, reason),
            other => panic!("{other:?}"),
        }
    }

    /// What is to be read by now.
    pub(crate) fn told(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        loop {
            match self.0.try_recv() {
                Ok(event) => told.push(event),
                Err(TryRecvError::Lagged(_)) => {}
                Err(_) => return told,
            }
        }
    }
}

pub(crate) fn is_of_peer(event: &Event, bridge: &str, ip: IpAddr, wanted: &str) -> bool {
    matches!(
        event,
        Event::Peer { bridge: of, remote, change, .. }
            if of.as_str() == bridge && *remote == ip.to_string() && change == wanted
    )
}

/// A namespace with `eth0` at 10.1.1.NUMBER and fd00:1::NUMBER.
pub(crate) struct Pod {
    pub(crate) netns: Netns,
    pub(crate) number: u8,
}

impl Pod {
    pub(crate) fn v4(&self) -> IpAddr {
        Ipv4Addr::new(10, 1, 1, self.number).into()
    }

    pub(crate) fn v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    /// The MTU of its `eth0`.
    pub(crate) fn mtu(&self) -> u32 {
        let link = self.netns.ip("-o link show eth0");
        let mut words = link.split_whitespace();
        words.find(|word| *word == "mtu").unwrap();
        words.next().unwrap().parse().unwrap()
    }

    /// Pings until `to` answers, which it must do soon.
    #[track_caller]
    pub(crate) fn ping(&self, to: IpAddr) {
        let to = to.to_string();
        wait_until(&format!("a ping to {to}"), SOON, || {
            self.output(&["ping", "-c", "1", "-W", "0.5", &to]).0
        });
    }

    /// Pings once, with so many bytes of payload and DF set.
    pub(crate) fn ping_of(&self, to: IpAddr, payload: u32) -> (bool, String) {
        let (to, payload) = (to.to_string(), payload.to_string());
        self.output(&[
            "ping", "-c", "1", "-W", "1", "-M", "do", "-s", &payload, &to,
        ])
    }

    /// Whether a program succeeds in it, and what it prints.
    pub(crate) fn output(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.netns.exec(arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }
}

impl Daemon {
    /// Starts `tapswitch monitor peer mtu`; returns when it hears what happens.
    pub(crate) fn monitor(&self) -> Monitor {
        let child = self
            .program()
            .args(["monitor", "peer", "mtu"])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            let mut output = output.map_while(Result::ok);
            output.try_for_each(|line| sender.send(line))
        });
        let monitor = Monitor { child, lines };
        wait_until("the monitor hears a peer", SOON, || {
            self.screen("peer add 192.168.50.77");
            self.screen("peer del 192.168.50.77");
            monitor.lines.recv_timeout(SECOND / 10).is_ok()
        });
        monitor
    }
}

/// The program telling events as lines.
pub(crate) struct Monitor {
    child: Child,
    lines: Receiver<String>,
}

impl Monitor {
    /// The next line with `part` in it, without the time of day.
    #[track_caller]
    pub(crate) fn next(&self, part: &str) -> String {
        let mut found = None;
        wait_until(part, SOON, || {
            found = self.lines.try_iter().find(|line| line.contains(part));
            found.is_some()
        });
        found.unwrap().split_once(' ').unwrap().1.to_owned()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A UDP socket of a machine, which loses nothing that it may keep.
pub(crate) fn udp(netns: &Netns, at: SocketAddr) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(at)).unwrap();
    // An ordinary user gets as much as the system gives.
    let bytes = 32 << 20;
    setsockopt(&socket, sockopt::RcvBufForce, &bytes)
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &bytes))
        .unwrap();
    socket
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
