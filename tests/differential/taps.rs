//! The running switch with its ports in namespaces.
//!
//! In each namespace a second TAP, which the test holds, is joined to the port's interface by two
//! `tc` rules: what is written to it leaves through the interface, and what arrives at the
//! interface can be read from it, with its VLAN tag and at any length. Both happen inside the write.

use std::{io, thread, time::Duration};

use tapswitch::{
    config::{AtLimit, BridgeSpec, OffloadMode, Place, PortSpec, ReservedMask, StaticSpec},
    control::api::{
        ApiError, BridgeChange, EntrySelector, FdbSelector, FdbState, PortChange, Request, Response,
    },
    daemon::{Switch as Daemon, SwitchOptions, Tuning},
    names::Name,
    netlink::{LinkRef, OperState, link_state},
    wire::MacAddr,
};
use tun_tap::{Iface, Mode};

use crate::{
    common::Netns,
    generator::{Flag, Op, PORTS, vlan_of},
    kernel::drain,
    namespace::in_silence,
    runner::{Copies, Entries, Entry, Model, Switch},
};

/// A switch with [`PORTS`] ports in as many namespaces.
pub(crate) struct Taps {
    daemon: Daemon,
    bridge: Name,
    ports: Vec<Attached>,
    buffer: Vec<u8>,
}

struct Attached {
    name: Name,
    netns: Netns,
    tap: Iface,
    up: bool,
    /// Frames that the switch must have received from it.
    sent: u64,
}

impl Taps {
    /// With all that makes it fast.
    pub(crate) fn new() -> io::Result<Self> {
        Self::with(Tuning::default())
    }

    pub(crate) fn with(tuning: Tuning) -> io::Result<Self> {
        let options = SwitchOptions {
            name: "differential".to_owned(),
            workers: Some(2),
            tuning,
            ..SwitchOptions::default()
        };
        let daemon = Daemon::start(options)?;
        let bridge = Name::new("br0").map_err(io::Error::other)?;
        let spec = BridgeSpec {
            at_limit: AtLimit::Refuse,
            flap_limit: 0,
            forward_reserved: ReservedMask(Model::RESERVED),
            fdb_limit: UNLIMITED,
            ..BridgeSpec::new(bridge.clone())
        };
        daemon.execute(Request::BridgeAdd(spec)).map_err(failed)?;
        let ports = (0..PORTS).map(attached).collect::<io::Result<_>>()?;
        let mut taps = Self {
            daemon,
            bridge,
            ports,
            buffer: vec![0; 1 << 16],
        };
        for port in 0..PORTS {
            taps.plug(port, true)?;
        }
        Ok(taps)
    }

    fn execute(&self, request: Request) -> io::Result<Response> {
        self.daemon.execute(request).map_err(failed)
    }

    fn plug(&mut self, port: usize, on: bool) -> io::Result<()> {
        let name = self.ports[port].name.clone();
        (self.ports[port].up, self.ports[port].sent) = (on, 0);
        if !on {
            return self.execute(Request::PortDel { name }).map(drop);
        }
        // Both engines have to do the same.
        let offload = if port.is_multiple_of(2) {
            OffloadMode::On
        } else {
            OffloadMode::Off
        };
        let spec = PortSpec {
            offload,
            netns: Some(self.ports[port].netns.reference()),
            mac: Some(MacAddr::new([2, 0xfd, 0, 0, 0, id(port)])),
            ..PortSpec::new(name, self.bridge.clone())
        };
        self.execute(Request::PortAdd(spec))?;
        let netns = &self.ports[port].netns;
        redirect(netns, "eth0", "x0")?;
        redirect(netns, "x0", "eth0")?;
        self.wait_for_carrier(port)
    }

    /// A carrier comes a moment later, on a work queue.
    fn wait_for_carrier(&self, port: usize) -> io::Result<()> {
        let netns = self.ports[port].netns.open();
        let eth0 = LinkRef::Name("eth0".to_owned());
        for _ in 0..2000 {
            let link = link_state(Some(&netns), &eth0).map_err(io::Error::other)?;
            let settled = matches!(link.operstate, OperState::Up | OperState::Unknown);
            if settled && link.carrier && link.admin_up {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other(format!("port {port} does not come up")))
    }

    fn set_port(&self, port: usize, change: impl FnOnce(&mut PortChange)) -> io::Result<()> {
        let mut request = PortChange::new(self.ports[port].name.clone());
        change(&mut request);
        self.execute(Request::PortSet(request)).map(drop)
    }

    fn set_bridge(&self, change: impl FnOnce(&mut BridgeChange)) -> io::Result<()> {
        let mut request = BridgeChange::new(self.bridge.clone());
        change(&mut request);
        self.execute(Request::BridgeSet(request)).map(drop)
    }

    fn flush(&self, port: Option<usize>) -> io::Result<()> {
        let selector = FdbSelector {
            port: port.map(|port| self.ports[port].name.clone()),
            ..FdbSelector::default()
        };
        self.execute(Request::FdbFlush(selector)).map(drop)
    }

    /// Frames received from `port`, and frames whose fate is not known.
    fn received(&self, port: usize) -> io::Result<(u64, i64)> {
        let port = Some(self.ports[port].name.clone());
        match self.execute(Request::Stats { port })? {
            Response::Stats(stats) => {
                let frames = stats.ports.first().map_or(0, |port| port.rx.frames);
                Ok((frames, stats.unaccounted))
            }
            other => Err(io::Error::other(format!("to stats: {other:?}"))),
        }
    }

    /// Waits until the switch has moved on all frames from `port`, `frames` in number.
    fn wait_for(&self, port: usize, frames: u64) -> io::Result<()> {
        for round in 0..500 {
            let (received, unaccounted) = self.received(port)?;
            if unaccounted != 0 {
                return Err(io::Error::other(format!(
                    "{unaccounted} frames unaccounted for"
                )));
            }
            if received == frames {
                return Ok(());
            }
            if round > 10 {
                thread::sleep(Duration::from_micros(100));
            }
        }
        Err(io::Error::other(format!(
            "a frame from port {port} does not reach the switch"
        )))
    }
}

impl Switch for Taps {
    fn apply(&mut self, op: &Op) -> io::Result<()> {
        match *op {
            Op::Send { .. } => Ok(()),
            Op::Set { port, flag, on } => {
                self.set_port(port, |change| *flag_of(change, flag) = Some(on))
            }
            Op::Up { port, on, .. } => {
                self.ports[port].up = on;
                self.set_port(port, |change| change.up = Some(on))?;
                if on {
                    self.wait_for_carrier(port)?;
                }
                Ok(())
            }
            Op::Plug { port, on } => self.plug(port, on),
            Op::Pin { mac, port } => {
                let entry = StaticSpec {
                    bridge: self.bridge.clone(),
                    mac,
                    vlan: vlan_of(mac),
                    place: Place::Port(self.ports[port].name.clone()),
                };
                self.execute(Request::FdbAdd(entry)).map(drop)
            }
            Op::Delete { mac } => {
                let vlan = vlan_of(mac);
                // It is not an error here if there is none.
                drop(self.execute(Request::FdbDel(EntrySelector {
                    vlan,
                    ..EntrySelector::new(None, mac)
                })));
                Ok(())
            }
            Op::FlushPort { port } => self.flush(Some(port)),
            Op::Flush => self.flush(None),
            Op::Expire => {
                self.daemon.clock().warp(Duration::from_secs(400));
                self.daemon.age();
                Ok(())
            }
            Op::Ageing { on } => {
                self.set_bridge(|change| change.ageing_s = Some(if on { 300.0 } else { 0.0 }))?;
                self.flush(None)
            }
            Op::Limit(limit) => {
                self.set_bridge(|change| change.fdb_limit = Some(limit.unwrap_or(UNLIMITED)))
            }
            Op::Reserved(mask) => {
                self.set_bridge(|change| change.forward_reserved = Some(ReservedMask(mask)))
            }
        }
    }

    fn send(&mut self, port: usize, _worker: usize, frame: &[u8]) -> io::Result<Copies> {
        // The cable is pulled: the namespace's kernel keeps the frame, now or a moment later.
        if !self.ports[port].up {
            return Ok(Copies::new());
        }
        self.ports[port].tap.send(frame)?;
        // A frame that ends just behind its tag does not leave the namespace either.
        let tagged = matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8]));
        if !(tagged && frame.len() < 20) {
            self.ports[port].sent += 1;
        }
        self.wait_for(port, self.ports[port].sent)?;
        let mut copies = Copies::new();
        for (port, attached) in self.ports.iter().enumerate() {
            drain(&attached.tap, &mut self.buffer, |frame| {
                copies.push((port, frame.to_vec()));
            })?;
        }
        Ok(copies)
    }

    fn entries(&mut self) -> io::Result<Entries> {
        let Response::Fdb(rows) = self.execute(Request::FdbShow(FdbSelector::default()))? else {
            return Err(io::Error::other("no FDB was shown"));
        };
        let mut entries = Entries::new();
        for row in rows {
            let at = |attached: &Attached| Some(&attached.name) == row.port.as_ref();
            let port = self.ports.iter().position(at).unwrap_or(usize::MAX);
            if row.vlan != vlan_of(row.mac) {
                return Err(io::Error::other(format!("{row:?} is in the wrong VLAN")));
            }
            let pinned = row.state == FdbState::Static;
            entries.insert(row.mac, Entry { port, pinned });
        }
        Ok(entries)
    }
}

fn attached(number: usize) -> io::Result<Attached> {
    let name = Name::new(&format!("p{number}")).map_err(io::Error::other)?;
    let (netns, tap) = in_silence(&format!("h{number}"), || {
        let tap = Iface::without_packet_info("x0", Mode::Tap)?;
        tap.set_non_blocking()?;
        Ok(tap)
    })?;
    netns.ip("link set x0 arp off up");
    Ok(Attached {
        name,
        netns,
        tap,
        up: false,
        sent: 0,
    })
}

/// Whether this kernel and this `tc` can join two interfaces.
pub(crate) fn probe() -> io::Result<()> {
    let port = attached(0)?;
    redirect(&port.netns, "x0", "lo")
}

/// Everything that arrives at `from` leaves through `to`.
fn redirect(netns: &Netns, from: &str, to: &str) -> io::Result<()> {
    // Of a rule to a device that is gone nothing else would get rid.
    drop(netns.exec(&["tc", "qdisc", "del", "dev", from, "ingress"]));
    // Any frame has a header at -14, and not every frame has anything behind it.
    for rule in [
        format!("tc qdisc add dev {from} ingress"),
        format!(
            "tc filter add dev {from} parent ffff: protocol all u32 match u8 0 0 at -14 action mirred egress redirect dev {to}"
        ),
    ] {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let output = netns.exec(&words);
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("{rule}: {complaint}")));
        }
    }
    Ok(())
}

fn flag_of(change: &mut PortChange, flag: Flag) -> &mut Option<bool> {
    match flag {
        Flag::Learning => &mut change.learning,
        Flag::Flood => &mut change.flood,
        Flag::McastFlood => &mut change.mcast_flood,
        Flag::BcastFlood => &mut change.bcast_flood,
        Flag::Isolated => &mut change.isolated,
        Flag::Hairpin => &mut change.hairpin,
        Flag::Locked => &mut change.locked,
    }
}

fn failed(error: ApiError) -> io::Error {
    io::Error::other(error)
}

fn id(port: usize) -> u8 {
    u8::try_from(port).unwrap_or(0)
}

const UNLIMITED: u32 = 1_000_000;
