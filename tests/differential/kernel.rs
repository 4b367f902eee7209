//! The oracle: the kernel's bridge in a namespace of its own, with TAPs as ports. What is written
//! to a TAP enters the bridge, and what can then be read from the others left it: all of it
//! happens inside the write.

use std::{io, thread, time::Duration};

use tapswitch::wire::MacAddr;
use tun_tap::{Iface, Mode};

use crate::{
    generator::{Flag, Op, PORTS},
    namespace::in_silence,
    netlink::{self, Message, NLA_F_NESTED, NLM_F_CREATE, NLM_F_REPLACE, Netlink, attribute},
    runner::{Copies, Entries, Entry, Switch},
};

/// A kernel bridge with [`PORTS`] ports.
#[derive(Debug)]
pub(crate) struct Kernel {
    netlink: Netlink,
    taps: Vec<Iface>,
    bridge: [u8; 4],
    ports: Vec<[u8; 4]>,
    /// Whose device is down, not only the port's state.
    device_down: [bool; PORTS],
    /// Linux 6.7.
    has_limit: bool,
    /// Linux 5.16.
    has_lock: bool,
    buffer: Vec<u8>,
}

impl Kernel {
    pub(crate) fn new() -> io::Result<Self> {
        in_silence("oracle", Self::build).map(|(_, kernel)| kernel)
    }

    fn build() -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let options = [
            attribute(IFLA_BR_STP_STATE, &0_u32.to_ne_bytes()),
            attribute(IFLA_BR_FORWARD_DELAY, &0_u32.to_ne_bytes()),
            attribute(IFLA_BR_MCAST_SNOOPING, &[0]),
        ];
        // No frame carries this address or those of the ports, which the bridge would keep.
        let message = Message::new(RTM_NEWLINK, NLM_F_CREATE, &link([0; 4], true))
            .with(IFLA_IFNAME, b"br0\0")
            .with(IFLA_ADDRESS, &[2, 0xfe, 0, 0, 0, 0xff])
            .with(
                IFLA_LINKINFO | NLA_F_NESTED,
                &bridge_info(&options.concat()),
            );
        netlink.execute(message)?;
        let bridge = index_of(&mut netlink, "br0")?;
        let (mut taps, mut ports) = (Vec::new(), Vec::new());
        for number in 0..PORTS {
            let name = format!("k{number}");
            let tap = Iface::without_packet_info(&name, Mode::Tap)?;
            tap.set_non_blocking()?;
            let index = index_of(&mut netlink, &name)?;
            let mac = [2, 0xfe, 0, 0, 0, u8::try_from(number).unwrap_or(0)];
            netlink.execute(
                Message::new(RTM_NEWLINK, 0, &link(index, false)).with(IFLA_ADDRESS, &mac),
            )?;
            netlink.execute(
                Message::new(RTM_NEWLINK, 0, &link(index, true)).with(IFLA_MASTER, &bridge),
            )?;
            taps.push(tap);
            ports.push(index);
        }
        let mut kernel = Self {
            netlink,
            taps,
            bridge,
            ports,
            device_down: [false; PORTS],
            has_limit: false,
            has_lock: false,
            buffer: vec![0; 1 << 16],
        };
        for port in 0..PORTS {
            kernel.wait_for_forwarding(port)?;
        }
        let limit = kernel.option(bridge, IFLA_INFO_DATA, IFLA_BR_FDB_MAX_LEARNED)?;
        let lock = attribute_of(Flag::Locked);
        let lock = kernel.option(kernel.ports[0], IFLA_INFO_SLAVE_DATA, lock)?;
        (kernel.has_limit, kernel.has_lock) = (limit.is_some(), lock.is_some());
        Ok(kernel)
    }

    /// Whether this kernel can do `op`.
    pub(crate) fn knows(&self, op: &Op) -> bool {
        match op {
            Op::Limit(_) => self.has_limit,
            Op::Set {
                flag: Flag::Locked, ..
            } => self.has_lock,
            _ => true,
        }
    }

    /// Carrier changes take effect a moment later, on a work queue.
    fn wait_for_forwarding(&mut self, port: usize) -> io::Result<()> {
        for _ in 0..2000 {
            let index = self.ports[port];
            let state = self.option(index, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_STATE)?;
            if state == Some(FORWARDING) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other(format!(
            "port {port} of br0 does not come up"
        )))
    }

    /// The first byte of an option of a device, in that part of its link information.
    fn option(&mut self, index: [u8; 4], part: u16, kind: u16) -> io::Result<Option<u8>> {
        let request = Message::new(RTM_GETLINK, 0, &ifinfo(index, 0, 0));
        let answer = self.netlink.get(request)?;
        let option = answer
            .get(IFINFO_LEN..)
            .and_then(|attributes| netlink::find(attributes, IFLA_LINKINFO))
            .and_then(|info| netlink::find(info, part))
            .and_then(|data| netlink::find(data, kind))
            .and_then(|option| option.first().copied());
        Ok(option)
    }

    fn set_port(&mut self, port: usize, kind: u16, value: &[u8]) -> io::Result<()> {
        let message = Message::new(RTM_SETLINK, 0, &bridge_port(self.ports[port]))
            .with(IFLA_PROTINFO | NLA_F_NESTED, &attribute(kind, value));
        self.netlink.execute(message)
    }

    fn set_bridge(&mut self, kind: u16, value: &[u8]) -> io::Result<()> {
        let message = Message::new(RTM_NEWLINK, 0, &ifinfo(self.bridge, 0, 0)).with(
            IFLA_LINKINFO | NLA_F_NESTED,
            &bridge_info(&attribute(kind, value)),
        );
        self.netlink.execute(message)
    }

    fn set_device(&mut self, port: usize, on: bool) -> io::Result<()> {
        self.device_down[port] = !on;
        self.netlink
            .execute(Message::new(RTM_NEWLINK, 0, &link(self.ports[port], on)))
    }

    fn set_up(&mut self, port: usize, on: bool, device: bool) -> io::Result<()> {
        if !on && device {
            return self.set_device(port, false);
        }
        if !on {
            self.set_port(port, IFLA_BRPORT_STATE, &[0])?;
            return self.set_port(port, IFLA_BRPORT_FLUSH, &[]);
        }
        if self.device_down[port] {
            self.set_device(port, true)?;
            return self.wait_for_forwarding(port);
        }
        self.set_port(port, IFLA_BRPORT_STATE, &[FORWARDING])
    }

    fn plug(&mut self, port: usize, on: bool) -> io::Result<()> {
        let master = if on { self.bridge } else { [0; 4] };
        let message = Message::new(RTM_NEWLINK, 0, &ifinfo(self.ports[port], 0, 0))
            .with(IFLA_MASTER, &master);
        self.netlink.execute(message)?;
        if on {
            if self.device_down[port] {
                self.set_device(port, true)?;
            }
            self.wait_for_forwarding(port)?;
        }
        Ok(())
    }

    fn delete(&mut self, mac: MacAddr) -> io::Result<()> {
        for port in 0..PORTS {
            let fixed = neighbour(self.ports[port], 0, NTF_MASTER);
            let message = Message::new(RTM_DELNEIGH, 0, &fixed).with(NDA_LLADDR, &mac.octets());
            match self.netlink.execute(message) {
                Ok(()) => return Ok(()),
                // Not at this port, or the port is in no bridge.
                Err(error) if matches!(error.raw_os_error(), Some(2 | 22 | 95)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Switch for Kernel {
    fn apply(&mut self, op: &Op) -> io::Result<()> {
        match *op {
            Op::Send { .. } => Ok(()),
            Op::Set { port, flag, on } => self.set_port(port, attribute_of(flag), &[u8::from(on)]),
            Op::Up { port, on, device } => self.set_up(port, on, device),
            Op::Plug { port, on } => self.plug(port, on),
            Op::Pin { mac, port } => {
                // Without "sticky" a frame from elsewhere would move the entry.
                let fixed = neighbour(self.ports[port], NUD_NOARP, NTF_MASTER | NTF_STICKY);
                let flags = NLM_F_CREATE | NLM_F_REPLACE;
                self.netlink.execute(
                    Message::new(RTM_NEWNEIGH, flags, &fixed).with(NDA_LLADDR, &mac.octets()),
                )
            }
            Op::Delete { mac } => self.delete(mac),
            Op::FlushPort { port } => self.set_port(port, IFLA_BRPORT_FLUSH, &[]),
            Op::Flush | Op::Expire => self.set_bridge(IFLA_BR_FDB_FLUSH, &[]),
            Op::Ageing { on } => {
                // In hundredths of a second. The sweep that this starts runs on a work queue and
                // must be over before anything is learned again.
                let time: u32 = if on { 30_000 } else { 0 };
                self.set_bridge(IFLA_BR_AGEING_TIME, &time.to_ne_bytes())?;
                thread::sleep(Duration::from_millis(if on { 0 } else { 10 }));
                self.set_bridge(IFLA_BR_FDB_FLUSH, &[])
            }
            Op::Limit(limit) => {
                self.set_bridge(IFLA_BR_FDB_MAX_LEARNED, &limit.unwrap_or(0).to_ne_bytes())
            }
            // The first three are not for us to choose.
            Op::Reserved(mask) => {
                self.set_bridge(IFLA_BR_GROUP_FWD_MASK, &(mask & !7).to_ne_bytes())
            }
        }
    }

    fn send(&mut self, port: usize, _worker: usize, frame: &[u8]) -> io::Result<Copies> {
        match self.taps[port].send(frame) {
            Ok(_) => {}
            // EIO: the device is down. EINVAL: no Ethernet header.
            Err(error) if matches!(error.raw_os_error(), Some(5 | 22)) => {}
            Err(error) => return Err(error),
        }
        let mut copies = Copies::new();
        for (port, tap) in self.taps.iter().enumerate() {
            drain(tap, &mut self.buffer, |frame| {
                copies.push((port, frame.to_vec()));
            })?;
        }
        Ok(copies)
    }

    fn entries(&mut self) -> io::Result<Entries> {
        let mut entries = Entries::new();
        let ports = &self.ports;
        let request = Message::new(RTM_GETNEIGH, 0, &neighbour([0; 4], 0, 0));
        self.netlink.dump(request, |_, payload| {
            let (Some(index), Some(state), Some(attributes)) =
                (payload.get(4..8), payload.get(8), payload.get(12..))
            else {
                return;
            };
            // Those of the bridge itself, and of the devices' own filters, are no business of ours.
            let port = ports.iter().position(|port| port == index);
            let permanent = *state == NUD_PERMANENT;
            let (Some(port), false, Some(_), Some(mac)) = (
                port,
                permanent,
                netlink::find(attributes, NDA_MASTER),
                netlink::find(attributes, NDA_LLADDR).and_then(|mac| mac.first_chunk()),
            ) else {
                return;
            };
            let entry = Entry {
                port,
                pinned: *state == NUD_NOARP,
            };
            entries.insert(MacAddr::new(*mac), entry);
        })?;
        Ok(entries)
    }
}

/// All frames that wait in `tap`.
pub(crate) fn drain(tap: &Iface, buffer: &mut [u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        match tap.recv(buffer) {
            Ok(len) => each(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn attribute_of(flag: Flag) -> u16 {
    match flag {
        Flag::Hairpin => 4,
        Flag::Learning => 8,
        Flag::Flood => 9,
        Flag::McastFlood => 27,
        Flag::BcastFlood => 30,
        Flag::Isolated => 33,
        Flag::Locked => 39,
    }
}

fn index_of(netlink: &mut Netlink, name: &str) -> io::Result<[u8; 4]> {
    let name = [name.as_bytes(), &[0]].concat();
    let message = Message::new(RTM_GETLINK, 0, &ifinfo([0; 4], 0, 0)).with(IFLA_IFNAME, &name);
    let answer = netlink.get(message)?;
    let index = answer.get(4..8).and_then(<[u8]>::first_chunk);
    index
        .copied()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `struct ifinfomsg`, with these flags where `mask` says so.
fn ifinfo(index: [u8; 4], flags: u32, mask: u32) -> [u8; IFINFO_LEN] {
    let mut fixed = [0; IFINFO_LEN];
    fixed[4..8].copy_from_slice(&index);
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&mask.to_ne_bytes());
    fixed
}

/// For a device that answers no ARP, up or down.
fn link(index: [u8; 4], up: bool) -> [u8; IFINFO_LEN] {
    const UP: u32 = 1;
    const NOARP: u32 = 1 << 7;
    ifinfo(index, NOARP | u32::from(up), NOARP | UP)
}

fn bridge_port(index: [u8; 4]) -> [u8; IFINFO_LEN] {
    let mut fixed = ifinfo(index, 0, 0);
    fixed[0] = AF_BRIDGE;
    fixed
}

/// `struct ndmsg`.
fn neighbour(index: [u8; 4], state: u8, flags: u8) -> [u8; 12] {
    let [a, b, c, d] = index;
    [AF_BRIDGE, 0, 0, 0, a, b, c, d, state, 0, flags, 0]
}

fn bridge_info(options: &[u8]) -> Vec<u8> {
    let mut info = attribute(IFLA_INFO_KIND, b"bridge\0");
    info.extend(attribute(IFLA_INFO_DATA | NLA_F_NESTED, options));
    info
}

// linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h, linux/if_bridge.h
const AF_BRIDGE: u8 = 7;
const IFINFO_LEN: usize = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_AGEING_TIME: u16 = 4;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_GROUP_FWD_MASK: u16 = 9;
const IFLA_BR_FDB_FLUSH: u16 = 21;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BR_FDB_MAX_LEARNED: u16 = 49;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_FLUSH: u16 = 24;
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;
const NUD_NOARP: u8 = 0x40;
const NUD_PERMANENT: u8 = 0x80;
const NTF_MASTER: u8 = 4;
const NTF_STICKY: u8 = 0x40;
const FORWARDING: u8 = 3;
