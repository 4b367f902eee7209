//! What packet sockets saw of the kernel's bridge, put together to what became of each frame.
//!
//! The kernel tells nothing of a frame but where it came in and where it left. That is enough: what
//! left nowhere was dropped, or the IP layer above the bridge has made another frame of it; and what
//! the bridge knows follows from who has spoken.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use super::{
    Copied, Datagram, Fate, Learned, REWRITTEN, Row, SWITCH, Seen,
    shape::{Opened, Shape, open},
};
use crate::{
    control::api::RowChange,
    netlink::{BridgeLink, BridgeLinkKind, BridgeRow},
    sys::packet::{PacketKind, Sniffed},
    time::Timestamp,
    wire::{Frame, MacAddr, describe},
};

/// A link's part in all this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    name: String,
    role: Role,
    /// The bridge that it belongs to, by its index, or its own index.
    bridge: u32,
    is_up: bool,
    /// The longest frame that is one packet.
    longest: usize,
    has_address: bool,
    vxlan_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A port of a bridge.
    Port,
    /// A bridge: the host's own way into it, if the host has an address there.
    Host,
    /// A VXLAN device that is a port.
    Tunnel,
    /// A VXLAN device without a bridge: the host's way in and the tunnel in one.
    Alone,
    /// Any other: only datagrams are looked for there.
    Underlay,
}

/// The links of a namespace, as they were found one time or another.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices(BTreeMap<u32, Device>);

impl Devices {
    /// Takes over what is so now. A link that is gone stays as it was, and one that has left its
    /// bridge was in it.
    pub(super) fn update(&mut self, links: &[BridgeLink]) {
        let is_bridge = |index: u32| {
            let is_it = |link: &&BridgeLink| link.index == index;
            links
                .iter()
                .find(is_it)
                .is_some_and(|link| link.kind == BridgeLinkKind::Bridge)
        };
        for link in links {
            let bridge = link.master.filter(|&master| is_bridge(master));
            let role = match (link.kind, bridge) {
                (BridgeLinkKind::Bridge, _) => Role::Host,
                (BridgeLinkKind::Vxlan, None) => Role::Alone,
                (BridgeLinkKind::Vxlan, Some(_)) => Role::Tunnel,
                (BridgeLinkKind::Other, Some(_)) => Role::Port,
                (BridgeLinkKind::Other, None) => Role::Underlay,
            };
            let known = self.0.get(&link.index);
            if role == Role::Underlay && known.is_some() {
                continue;
            }
            let had_address = known.is_some_and(|known| known.has_address);
            let device = Device {
                has_address: had_address || link.has_address,
                vxlan_port: link.vxlan_port,
                name: link.name.clone(),
                role,
                bridge: bridge.unwrap_or(link.index),
                is_up: link.is_up,
                longest: usize::try_from(link.mtu)
                    .unwrap_or(usize::MAX)
                    .saturating_add(HEADERS),
            };
            self.0.insert(link.index, device);
        }
    }

    pub(super) fn knows(&self, index: u32) -> bool {
        self.0.contains_key(&index)
    }

    fn name(&self, index: u32) -> Option<&str> {
        let device = self.0.get(&index)?;
        Some(&device.name)
    }

    /// How many places of a bridge could take a flooded frame from `from`, beside its host.
    fn others(&self, bridge: u32, from: u32) -> usize {
        let is_other = |(index, device): &(&u32, &Device)| {
            device.bridge == bridge
                && device.is_up
                && **index != from
                && matches!(device.role, Role::Port | Role::Tunnel)
        };
        self.0.iter().filter(is_other).count()
    }
}

/// All frames of the node called `node`, in the order in which they came in; `rows` is what the FDBs
/// had before.
pub(super) fn join(
    node: &str,
    devices: &Devices,
    rows: &[BridgeRow],
    frames: &[Sniffed],
) -> Vec<Seen> {
    let known = rows.iter().filter_map(|row| {
        let device = devices.0.get(&row.index)?;
        let station = Station {
            index: row.index,
            place: None,
            at: None,
        };
        Some(((device.bridge, row.mac), station))
    });
    let mut story = Story {
        node,
        devices,
        stations: known.collect(),
        frames: Vec::new(),
        ports: devices
            .0
            .values()
            .filter_map(|device| device.vxlan_port)
            .collect(),
        datagrams: Vec::new(),
    };
    for frame in frames {
        story.take(frame);
    }
    story.end()
}

/// Where the bridge has an address.
struct Station {
    /// The device.
    index: u32,
    /// The remote VTEP, if it is behind one and that is known.
    place: Option<String>,
    /// When it spoke last, if that was seen.
    at: Option<Timestamp>,
}

struct Story<'a> {
    node: &'a str,
    devices: &'a Devices,
    /// By bridge and address.
    stations: HashMap<(u32, MacAddr), Station>,
    frames: Vec<Arrived>,
    /// The UDP ports of VXLAN here.
    ports: Vec<u16>,
    /// Datagrams that came in, whose frames have not come out of the tunnel yet.
    datagrams: Vec<(IpAddr, Shape, Datagram)>,
}

/// A frame that came in.
struct Arrived {
    seen: Seen,
    shape: Shape,
    bridge: u32,
    /// The device.
    index: u32,
    /// The device behind which its destination is.
    station: Option<u32>,
    /// Through which devices its copies left, in their order.
    ways: Vec<u32>,
    /// The IP layer above the bridge has made another frame of it.
    is_rewritten: bool,
}

impl Story<'_> {
    fn take(&mut self, frame: &Sniffed) {
        let Some(device) = self.devices.0.get(&frame.index) else {
            return;
        };
        let is_out = frame.kind == PacketKind::Outgoing;
        match device.role {
            Role::Port if is_out => self.depart(frame, device),
            Role::Port => self.arrive(frame, device, device.name.clone()),
            Role::Host if is_out => self.arrive(frame, device, device.name.clone()),
            // A bridge without an address is handed up broadcasts, but nobody is there.
            Role::Host if !device.has_address => {}
            Role::Host => self.depart(frame, device),
            Role::Tunnel if is_out => self.depart(frame, device),
            Role::Tunnel => self.emerge(frame, device),
            Role::Alone if is_out => {
                self.arrive(frame, device, device.name.clone());
                self.depart(frame, device);
            }
            Role::Alone => {
                self.emerge(frame, device);
                self.depart(frame, device);
            }
            Role::Underlay => self.datagram(frame, is_out),
        }
    }

    fn arrive(&mut self, frame: &Sniffed, device: &Device, place: String) {
        let shape = Shape::of(&frame.bytes);
        // What the switch sends itself comes from nowhere.
        let learned = (place != SWITCH).then(|| self.learn(frame, device, &place));
        let (station, row) = self.row(frame, device.bridge).unzip();
        let seen = Seen {
            at: frame.at,
            node: self.node.to_owned(),
            place,
            fate: Fate::Dropped,
            class: None,
            reason: None,
            copies: Vec::new(),
            row,
            learned: learned.flatten(),
            len: frame.bytes.len(),
            text: describe(&frame.bytes),
            offload: offload(frame, device),
            bytes: frame.bytes.clone(),
            datagram: None,
        };
        self.frames.push(Arrived {
            seen,
            shape,
            bridge: device.bridge,
            index: frame.index,
            station,
            ways: Vec::new(),
            is_rewritten: false,
        });
    }

    /// What the bridge learns from a source.
    fn learn(&mut self, frame: &Sniffed, device: &Device, place: &str) -> Option<Learned> {
        let mac = Frame::new_checked(&frame.bytes).ok()?.src();
        let is_tunnel = matches!(device.role, Role::Tunnel | Role::Alone);
        // The host's own address is not learned.
        let is_host = match device.role {
            Role::Host => true,
            Role::Alone => device.name == place,
            _ => false,
        };
        if mac.is_group() || is_host {
            return None;
        }
        let new = Station {
            index: frame.index,
            place: is_tunnel.then(|| place.to_owned()),
            at: Some(frame.at),
        };
        let old = self.stations.insert((device.bridge, mac), new);
        let (change, from) = match old {
            None => (RowChange::New, None),
            Some(old) if old.index == frame.index => return None,
            Some(old) => (RowChange::Moved, self.devices.name(old.index)),
        };
        Some(Learned {
            mac,
            change,
            from: from.map(str::to_owned),
        })
    }

    /// The row that the bridge has for the destination, and the device that it names.
    fn row(&self, frame: &Sniffed, bridge: u32) -> Option<(u32, Row)> {
        let mac = Frame::new_checked(&frame.bytes).ok()?.dst();
        let station = self.stations.get(&(bridge, mac))?;
        let place = station.place.as_deref();
        let row = Row {
            mac,
            vlan: 0,
            at: place
                .or_else(|| self.devices.name(station.index))?
                .to_owned(),
            is_learned: station.at.is_some(),
            age_s: station.at.map(|at| frame.at.since(at).as_secs_f64()),
        };
        Some((station.index, row))
    }

    /// A frame comes out of the tunnel.
    fn emerge(&mut self, frame: &Sniffed, device: &Device) {
        let shape = Shape::of(&frame.bytes);
        let ways: [&dyn Fn(&Shape) -> bool; 2] = [
            &|datagram| datagram.is(&shape) || datagram.begins(&shape),
            &|datagram| datagram.shares_flow(&shape),
        ];
        let found = ways.iter().find_map(|is_it| {
            let datagrams = &self.datagrams;
            datagrams
                .iter()
                .position(|(_, datagram, _)| is_it(datagram))
        });
        let found = found.map(|index| self.datagrams.remove(index));
        match &found {
            Some((remote, ..)) => self.arrive(frame, device, remote.to_string()),
            // Nobody sent it: the device answers what is too big.
            None => self.make(frame, device),
        }
        if let (Some(new), Some((.., datagram))) = (self.frames.last_mut(), found) {
            new.seen.datagram = Some(datagram);
        }
    }

    /// The switch itself sends a frame.
    fn make(&mut self, frame: &Sniffed, device: &Device) {
        self.arrive(frame, device, SWITCH.to_owned());
    }

    /// Nobody sent what leaves: the bridge itself did, or the IP layer above it made it of another
    /// frame, as netfilter does for bridges (`br_nf_pre_routing_finish`).
    fn make_of_another(&mut self, frame: &Sniffed, device: &Device, shape: &Shape) {
        let is_it = |arrived: &Arrived| {
            arrived.bridge == device.bridge
                && arrived.ways.is_empty()
                && !arrived.is_rewritten
                && arrived.seen.place != SWITCH
                && frame.at.since(arrived.seen.at) <= MOST_LATE
                && arrived.shape.is_rewritten(shape)
        };
        let origin = self.frames.iter().rposition(is_it);
        if let Some(origin) = origin.and_then(|index| self.frames.get_mut(index)) {
            origin.is_rewritten = true;
        }
        self.make(frame, device);
        if let Some(new) = self.frames.last_mut() {
            new.index = 0;
            new.seen.class = origin.map(|_| REWRITTEN.to_owned());
        }
    }

    /// A copy leaves.
    fn depart(&mut self, frame: &Sniffed, device: &Device) {
        let shape = Shape::of(&frame.bytes);
        let index = frame.index;
        let is_new = |arrived: &Arrived| {
            let is_alone = device.role == Role::Alone;
            arrived.bridge == device.bridge
                && (arrived.index != index || is_alone)
                && !arrived.ways.contains(&index)
        };
        let ways: [&dyn Fn(&Arrived) -> bool; 2] = [
            &|arrived| arrived.shape.is(&shape) && is_new(arrived),
            &|arrived| {
                // A superframe that was cut, or the other way round.
                let lens = (arrived.seen.len, frame.bytes.len());
                arrived.bridge == device.bridge
                    && arrived.index != index
                    && lens.0 != lens.1
                    && lens.0.max(lens.1) > device.longest
                    && arrived.shape.shares_flow(&shape)
            },
        ];
        let found = ways
            .iter()
            .find_map(|is_it| self.frames.iter().rposition(is_it));
        let found = found.unwrap_or_else(|| {
            self.make_of_another(frame, device, &shape);
            self.frames.len() - 1
        });
        let is_tunnel = matches!(device.role, Role::Tunnel | Role::Alone);
        let is_out = frame.kind == PacketKind::Outgoing;
        if let Some(arrived) = self.frames.get_mut(found) {
            arrived.ways.push(index);
            let is_same = arrived.seen.bytes.len() == frame.bytes.len();
            arrived.seen.copies.push(Copied {
                at: frame.at,
                to: device.name.clone(),
                // Until its datagram is seen.
                lost: (is_tunnel && is_out).then(|| NOT_SEEN.to_owned()),
                bytes: (!is_same).then(|| frame.bytes.clone()),
                datagram: None,
            });
        }
    }

    fn datagram(&mut self, frame: &Sniffed, is_out: bool) {
        let Some(opened) = open(&frame.bytes, &self.ports) else {
            return;
        };
        let shape = Shape::of(opened.inner);
        let datagram = datagram(frame, &opened);
        if !is_out {
            self.datagrams.push((opened.from, shape, datagram));
            return;
        }
        let tunnels: Vec<u32> = self.devices.tunnels().collect();
        let went_in = |arrived: &Arrived| arrived.ways.iter().any(|way| tunnels.contains(way));
        let waits = |arrived: &Arrived| {
            let mut copies = arrived.seen.copies.iter();
            copies.any(|copy| copy.lost.as_deref() == Some(NOT_SEEN))
        };
        let is_it = |arrived: &Arrived| shape.is(&arrived.shape) || shape.begins(&arrived.shape);
        let is_piece = |arrived: &Arrived| shape.shares_flow(&arrived.shape);
        // The first that waits; else it is one more copy, or piece, of the last.
        let first = |is_it: &dyn Fn(&Arrived) -> bool| {
            let mut frames = self.frames.iter();
            frames.position(|arrived| went_in(arrived) && waits(arrived) && is_it(arrived))
        };
        let last = |is_it: &dyn Fn(&Arrived) -> bool| {
            let mut frames = self.frames.iter();
            frames.rposition(|arrived| went_in(arrived) && is_it(arrived))
        };
        let found = first(&is_it)
            .or_else(|| last(&is_it))
            .or_else(|| first(&is_piece))
            .or_else(|| last(&is_piece));
        let Some(arrived) = found.and_then(|index| self.frames.get_mut(index)) else {
            return;
        };
        let to = opened.to.to_string();
        let waits = |copy: &&mut Copied| copy.lost.as_deref() == Some(NOT_SEEN);
        if let Some(copy) = arrived.seen.copies.iter_mut().find(waits) {
            copy.to = to;
            copy.lost = None;
            copy.datagram = Some(datagram);
        } else {
            arrived.seen.copies.push(Copied {
                at: frame.at,
                to,
                lost: None,
                bytes: None,
                datagram: Some(datagram),
            });
        }
    }

    fn end(self) -> Vec<Seen> {
        let Self {
            devices, frames, ..
        } = self;
        let judged = frames.into_iter().map(|mut arrived| {
            judge(devices, &mut arrived);
            arrived.seen
        });
        judged.collect()
    }
}

/// What became of a frame, from where it left.
fn judge(devices: &Devices, arrived: &mut Arrived) {
    let seen = &mut arrived.seen;
    let dst = Frame::new_checked(&seen.bytes).map(|frame| frame.dst());
    let Ok(dst) = dst else { return };
    let reached: Vec<String> = seen.reached().into_iter().map(str::to_owned).collect();
    let class = if dst == MacAddr::BROADCAST {
        "broadcast"
    } else if dst.is_group() {
        "multicast"
    } else {
        "unknown unicast"
    };
    let is_flooded = match &reached[..] {
        [] if arrived.is_rewritten => {
            seen.fate = Fate::Consumed;
            seen.class = Some(REWRITTEN.to_owned());
            seen.row = None;
            return;
        }
        [] => {
            seen.fate = Fate::Dropped;
            return;
        }
        _ if seen.place == SWITCH => false,
        _ if dst.is_group() => true,
        [place] => {
            let is_known = arrived.station.is_some_and(|index| arrived.ways == [index]);
            let is_host = devices
                .host(arrived.bridge)
                .is_some_and(|host| host == place);
            !is_known && !is_host && devices.others(arrived.bridge, arrived.index) <= 1
        }
        _ => true,
    };
    if is_flooded {
        seen.fate = Fate::Flooded;
        seen.class = Some(class.to_owned());
    } else {
        seen.fate = Fate::Forwarded;
    }
    if seen.fate != Fate::Forwarded {
        seen.row = None;
    }
}

impl Devices {
    fn tunnels(&self) -> impl Iterator<Item = u32> {
        let is_tunnel = |device: &Device| matches!(device.role, Role::Tunnel | Role::Alone);
        let all = self.0.iter().filter(move |(_, device)| is_tunnel(device));
        all.map(|(&index, _)| index)
    }

    fn host(&self, bridge: u32) -> Option<&str> {
        let device = self.0.get(&bridge)?;
        matches!(device.role, Role::Host | Role::Alone).then_some(&*device.name)
    }
}

fn datagram(frame: &Sniffed, opened: &Opened<'_>) -> Datagram {
    Datagram {
        vni: opened.vni,
        from_port: opened.from_port,
        len: frame.bytes.len(),
        bytes: frame.bytes.clone(),
    }
}

fn offload(frame: &Sniffed, device: &Device) -> Option<String> {
    if frame.bytes.len() > device.longest {
        return Some("segments".to_owned());
    }
    frame.is_unfinished.then(|| "checksum".to_owned())
}

/// What an MTU does not count: the Ethernet header and a tag.
const HEADERS: usize = 14 + 4;
/// How long after a frame what was made of it may leave.
const MOST_LATE: Duration = Duration::from_secs(1);
/// Why a copy counts as lost.
const NOT_SEEN: &str = "not seen leaving";

#[cfg(test)]
mod tests;
