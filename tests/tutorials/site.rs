//! Two machines with an ordinary network between them.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use tapswitch::{
    config::{BridgeSpec, Mode, OffloadMode, PortSpec},
    control::api::Request,
    daemon::{Switch, SwitchOptions},
    datapath::{Decided, Observer},
    names::Name,
};

use crate::{
    common::ip,
    lab::{Cleanup, Lab, fresh_host},
};

/// Machines `m1` and `m2`, each a namespace, joined by a cable from `eth0` to `eth0`. The cable is a
/// switch in wire mode, which sees every frame.
pub(crate) struct Site {
    // These end first.
    pub(crate) m1: Lab,
    pub(crate) m2: Lab,
    seen: Frames,
    _cable: Switch,
    _cleanup: Cleanup,
}

/// Frames on the cable, oldest first; at most [`Frames::MOST`].
#[derive(Clone, Debug, Default)]
struct Frames(Arc<Mutex<Vec<Vec<u8>>>>);

impl Frames {
    const MOST: usize = 1000;
}

impl Observer for Frames {
    fn decided(&mut self, decided: &Decided<'_>) {
        let mut frames = self.0.lock().unwrap();
        if frames.len() < Self::MOST {
            frames.push(decided.frame.to_vec());
        }
    }
}

impl Site {
    /// Both machines, with these addresses at `eth0`, and a daemon on each.
    pub(crate) fn new(addresses: [&str; 2]) -> Self {
        let mut site = Self::with_kernel_peer(addresses);
        site.m2.start("");
        site
    }

    /// The same, but `m2` has only what the kernel has.
    pub(crate) fn with_kernel_peer(addresses: [&str; 2]) -> Self {
        let cleanup = fresh_host();
        let seen = Frames::default();
        let cable = Switch::start(SwitchOptions {
            workers: Some(1),
            observer: Some(Box::new(seen.clone())),
            ..SwitchOptions::default()
        });
        let cable = cable.unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        let mut spec = BridgeSpec::new(name("cable"));
        spec.mode = Mode::Wire;
        cable.execute(Request::BridgeAdd(spec)).unwrap();
        let [mut m1, m2] = ["m1", "m2"].map(Lab::node);
        for ((machine, node), address) in [("m1", &m1), ("m2", &m2)].into_iter().zip(addresses) {
            let address: IpNet = address.parse().unwrap();
            add_netns(machine, address.addr().is_ipv4());
            node.sh("ip link set lo up");
            let mut port = PortSpec::new(name(machine), name("cable"));
            port.netns = Some(machine.parse().unwrap());
            port.addresses = vec![address];
            // What is seen is what would be on a wire: no superframes.
            port.offload = OffloadMode::Off;
            cable.execute(Request::PortAdd(port)).unwrap();
        }
        m1.start("");
        let site = Self {
            m1,
            m2,
            seen,
            _cable: cable,
            _cleanup: cleanup,
        };
        // The machines know each other's MAC address from here on.
        let [_, other] = addresses.map(|address| address.parse::<IpNet>().unwrap().addr());
        site.m1.sh(&format!("ping -c 1 -W 5 {other}"));
        site.seen();
        site
    }

    /// A namespace for a pod of either machine, where nobody speaks IPv6 unasked.
    pub(crate) fn pods<const N: usize>(&self, names: [&str; N]) {
        for name in names {
            add_netns(name, true);
        }
    }

    /// Takes the frames that were on the cable, but for the machines' own ARP: they look after
    /// each other from time to time.
    pub(crate) fn seen(&self) -> Vec<Vec<u8>> {
        let mut frames = std::mem::take(&mut *self.seen.0.lock().unwrap());
        frames.retain(|frame| frame[12..14] != [0x08, 0x06]);
        frames
    }
}

fn add_netns(name: &str, is_quiet: bool) {
    ip(&format!("netns add {name}"));
    let set = |what: &str| ip(&format!("netns exec {name} sysctl -qw {what}"));
    if is_quiet {
        set("net.ipv6.conf.all.disable_ipv6=1");
        set("net.ipv6.conf.default.disable_ipv6=1");
    }
}

/// A VXLAN datagram in a frame from the cable, taken apart at the offsets of RFC 7348 section 5.
pub(crate) struct Datagram<'a> {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) port: u16,
    pub(crate) vni: u32,
    /// The inner frame.
    pub(crate) inner: &'a [u8],
}

/// `frame` as one, if it is UDP to `port`.
pub(crate) fn datagram(frame: &[u8], port: u16) -> Option<Datagram<'_>> {
    let (from, to, udp): (IpAddr, IpAddr, usize) = match (&frame[12..14], frame[14] >> 4) {
        ([0x08, 0x00], 4) => {
            let address = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into();
            assert_eq!(frame[14] & 0xf, 5, "no IPv4 options");
            (frame[23] == 17).then(|| (address(26), address(30), 34))?
        }
        ([0x86, 0xdd], 6) => {
            let address = |at: usize| <[u8; 16]>::try_from(&frame[at..at + 16]).unwrap().into();
            (frame[20] == 17).then(|| (address(22), address(38), 54))?
        }
        _ => return None,
    };
    let vxlan = udp + 8;
    if frame[udp + 2..udp + 4] != port.to_be_bytes() {
        return None;
    }
    assert_eq!(frame[vxlan], 0x08, "only the I flag");
    let [high, middle, low] = [4, 5, 6].map(|at| frame[vxlan + at]);
    Some(Datagram {
        from,
        to,
        port,
        vni: u32::from_be_bytes([0, high, middle, low]),
        inner: &frame[vxlan + 8..],
    })
}
