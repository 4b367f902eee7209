//! A [`SwitchSpec`] as a configuration file.

use std::fmt::{Display, Write as _};

use super::{
    Accept, AtLimit, BridgeSpec, Mode, OffloadMode, Place, PortFlagsSpec, PortSpec, StaticSpec,
    SwitchSpec, Tos, VtepSpec, units::format_duration,
};

/// Writes the file that [`parse`](super::parse) reads as `spec`, without the settings that are
/// defaults. Ports and static entries are put below their bridge; those of a bridge that is not
/// in `spec` are left out.
pub fn write(spec: &SwitchSpec) -> String {
    let mut file = Writer::default();
    if let Some(vtep) = &spec.vtep {
        file.vtep(vtep);
    }
    for bridge in &spec.bridges {
        file.bridge(bridge);
        for port in spec.ports.iter().filter(|port| port.bridge == bridge.name) {
            file.port(port);
        }
        let entries = spec.fdb.iter().filter(|entry| entry.bridge == bridge.name);
        for entry in entries {
            file.fdb(entry);
        }
    }
    file.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn header(&mut self, header: &str) {
        let separator = if self.text.is_empty() { "" } else { "\n" };
        self.line(&format!("{separator}{header}"));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn bare(&mut self, key: &str, value: impl Display) {
        self.line(&format!("{key} = {value}"));
    }

    fn string(&mut self, key: &str, value: impl Display) {
        self.bare(key, quoted(value));
    }

    fn strings<T: Display>(&mut self, key: &str, values: &[T]) {
        let mut list = String::new();
        for value in values {
            let separator = if list.is_empty() { "" } else { ", " };
            // Writing to a string does not fail.
            let _: std::fmt::Result = write!(list, "{separator}{}", quoted(value));
        }
        if !values.is_empty() {
            self.bare(key, format_args!("[{list}]"));
        }
    }

    fn vtep(&mut self, vtep: &VtepSpec) {
        let default = VtepSpec::new(vtep.local);
        self.header("[vtep]");
        self.string("local", vtep.local);
        if vtep.port != default.port {
            self.bare("port", vtep.port);
        }
        if let Some(netns) = &vtep.netns {
            self.string("netns", netns);
        }
        if vtep.accept == Accept::Any {
            self.string("accept", "any");
        }
        if vtep.ttl != default.ttl {
            self.bare("ttl", vtep.ttl);
        }
        match vtep.tos {
            Tos::Inherit => self.string("tos", "inherit"),
            Tos::Fixed(0) => {}
            Tos::Fixed(byte) => self.bare("tos", byte),
        }
        if vtep.offload == OffloadMode::Off {
            self.string("offload", "off");
        }
        let defaults = vtep_switches(&default);
        for ((key, value), (_, default)) in vtep_switches(vtep).into_iter().zip(defaults) {
            if value != default {
                self.bare(key, value);
            }
        }
    }

    fn bridge(&mut self, bridge: &BridgeSpec) {
        let default = BridgeSpec::new(bridge.name.clone());
        self.header("[[bridge]]");
        self.string("name", &bridge.name);
        match bridge.mode {
            Mode::Switch => {}
            Mode::Hub => self.string("mode", "hub"),
            Mode::Wire => self.string("mode", "wire"),
        }
        if let Some(vni) = bridge.vni {
            self.bare("vni", vni);
        }
        self.strings("peers", &bridge.peers);
        if bridge.peer_learning != default.peer_learning {
            self.bare("peer_learning", bridge.peer_learning);
        }
        if let Some(mtu) = bridge.mtu {
            self.bare("mtu", mtu);
        }
        if bridge.ageing != default.ageing {
            self.string("ageing", format_duration(bridge.ageing));
        }
        if bridge.fdb_limit != default.fdb_limit {
            self.bare("fdb_limit", bridge.fdb_limit);
        }
        if bridge.at_limit == AtLimit::Refuse {
            self.string("at_limit", "refuse");
        }
        if bridge.forward_reserved != default.forward_reserved {
            self.string("forward_reserved", bridge.forward_reserved);
        }
        if bridge.flap_limit != default.flap_limit {
            self.bare("flap_limit", bridge.flap_limit);
        }
    }

    fn port(&mut self, port: &PortSpec) {
        self.header("[[bridge.port]]");
        self.string("name", &port.name);
        if let Some(netns) = &port.netns {
            self.string("netns", netns);
        }
        if let Some(ifname) = &port.ifname {
            self.string("ifname", ifname);
        }
        self.strings("addresses", &port.addresses);
        match port.gateways.as_slice() {
            [one] => self.string("gateway", one),
            several => self.strings("gateway", several),
        }
        self.strings("routes", &port.routes);
        if let Some(mac) = port.mac {
            self.string("mac", mac);
        }
        if let Some(mtu) = port.mtu {
            self.bare("mtu", mtu);
        }
        if port.offload == OffloadMode::Off {
            self.string("offload", "off");
        }
        if port.txqueuelen != PortSpec::DEFAULT_TXQUEUELEN {
            self.bare("txqueuelen", port.txqueuelen);
        }
        let defaults = flag_values(&PortFlagsSpec::default());
        for ((key, value), (_, default)) in flag_values(&port.flags).into_iter().zip(defaults) {
            if value != default {
                self.bare(key, value);
            }
        }
    }

    fn fdb(&mut self, entry: &StaticSpec) {
        self.header("[[bridge.fdb]]");
        self.string("mac", entry.mac);
        if entry.vlan != 0 {
            self.bare("vlan", entry.vlan);
        }
        match &entry.place {
            Place::Port(port) => self.string("port", port),
            Place::Peer(peer) => self.string("remote", peer),
        }
    }
}

/// The switches of an endpoint with the names they have in the file.
pub(super) fn vtep_switches(vtep: &VtepSpec) -> [(&'static str, bool); 4] {
    [
        ("strict", vtep.strict),
        ("udpcsum", vtep.udpcsum),
        ("udp6zerocsumrx", vtep.udp6zerocsumrx),
        ("too_big_answers", vtep.too_big_answers),
    ]
}

/// The flags with the names they have in the file.
pub(super) fn flag_values(flags: &PortFlagsSpec) -> [(&'static str, bool); 8] {
    [
        ("learning", flags.learning),
        ("flood", flags.flood),
        ("mcast_flood", flags.mcast_flood),
        ("bcast_flood", flags.bcast_flood),
        ("isolated", flags.isolated),
        ("hairpin", flags.hairpin),
        ("locked", flags.locked),
        ("up", flags.up),
    ]
}

fn quoted(value: impl Display) -> toml::Value {
    toml::Value::String(value.to_string())
}
