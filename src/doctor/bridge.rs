//! A bridge: what its ports have in common, or should not, and its FDB as a whole.

use super::{
    facts::{BridgeFacts, Facts, PortFacts, Scope, is_link_local},
    finding::{Check, Notes, Severity, Step},
};
use crate::{config::Mode, netlink::Held};

/// What the ports of a bridge have in common, or should not.
pub(super) fn judge(notes: &mut Notes, facts: &Facts) {
    for bridge in &facts.bridges {
        let of_bridge = |port: &&PortFacts| port.spec.bridge == bridge.spec.name;
        let ports: Vec<&PortFacts> = facts.ports.iter().filter(of_bridge).collect();
        twins(notes, facts, &ports);
        table(notes, facts, bridge);
        mtus(notes, facts, bridge, &ports);
        let (about, count) = (format!("bridge {}", bridge.spec.name), ports.len());
        if bridge.spec.mode == Mode::Wire && count != 2 {
            let fact = format!("it is a wire with {count} of 2 ports");
            let name = &bridge.spec.name;
            let fix = [format!("tapswitch bridge set {name} --mode switch")];
            let severity = Severity::Broken;
            notes.bad(Check::WireOneEnd, severity, &about, fact, fix);
        }
    }
}

/// Two ports with the same MAC or IP address.
fn twins(notes: &mut Notes, facts: &Facts, ports: &[&PortFacts]) {
    for (index, one) in ports.iter().enumerate() {
        for two in ports.iter().skip(index + 1) {
            let matters = facts.scope.has(&one.spec.name) || facts.scope.has(&two.spec.name);
            let (Some(_), Some(seen), true) = (one.seen(), two.seen(), matters) else {
                continue;
            };
            let (first, second) = (&one.spec.name, &two.spec.name);
            let ifname = &seen.view.link.name;
            let about = format!("ports {first}, {second}");
            if one.real_mac() == two.real_mac() {
                let mac = one.real_mac();
                let odd = if mac == two.mac { one } else { two };
                let back = format!("link set {} address {}", odd.ifname(), odd.mac);
                let fix = [odd.place().ip(back)];
                let fact = format!("both have the MAC address {mac}");
                notes.bad(Check::DuplicateMac, Severity::Broken, &about, fact, fix);
            }
            let both = |held: &&Held| {
                let ip = held.net.addr();
                !is_link_local(ip) && one.held().any(|other| other.net.addr() == ip)
            };
            for held in two.held().filter(both) {
                let is_given = two.spec.addresses.contains(&held.net);
                let odd = match one.spec.addresses.contains(&held.net) {
                    false if is_given => one,
                    _ => two,
                };
                let device = if odd.spec.name == *second {
                    ifname.clone()
                } else {
                    odd.ifname()
                };
                let del = format!("address del {} dev {device}", held.net);
                let fix = [odd.place().ip(del)];
                let fact = format!("both have the address {}", held.net.addr());
                notes.bad(Check::DuplicateAddress, Severity::Broken, &about, fact, fix);
            }
        }
    }
}

/// The FDB as a whole.
fn table(notes: &mut Notes, facts: &Facts, bridge: &BridgeFacts) {
    if bridge.spec.mode != Mode::Switch {
        return;
    }
    let (name, limit) = (&bridge.spec.name, bridge.spec.fdb_limit);
    let about = format!("bridge {name}");
    let learned = bridge.learned;
    if learned >= limit {
        let fact = format!(
            "the FDB is full: {learned} of {limit} addresses, {} not learned",
            bridge.refused.total
        );
        let larger = limit.saturating_mul(2).max(8192);
        let fix = [
            format!("tapswitch bridge set {name} --fdb-limit {larger}"),
            format!("tapswitch fdb flush --bridge {name}"),
        ];
        notes.bad(Check::FdbFull, Severity::Warning, &about, fact, fix);
    }
    let of_port = |mac| facts.ports.iter().find(|port| port.real_mac() == mac);
    for (mac, place) in bridge.held.iter().take(MOST_HELD) {
        if facts.scope != Scope::Switch || of_port(*mac).is_some() {
            // The port itself tells.
            continue;
        }
        let fact = format!("{mac} moves too often and is held at {place}");
        let fix = ["tapswitch monitor fdb".to_owned()];
        notes.bad(Check::MacHeld, Severity::Warning, &about, fact, fix);
    }
    if notes.is_sound(Step::Fdb, &about) {
        let fact = format!("{learned} of {limit} addresses learned");
        notes.ok(Check::Fdb, &about, fact);
    }
}

/// Whether one port lets pass what another drops.
fn mtus(notes: &mut Notes, facts: &Facts, bridge: &BridgeFacts, ports: &[&PortFacts]) {
    let about = format!("bridge {}", bridge.spec.name);
    let ends = |port: &&&PortFacts| !facts.scope.is_path() || facts.scope.has(&port.spec.name);
    let seen = ports.iter().filter(ends).filter_map(|port| {
        let mtu = port.seen()?.view.link.mtu;
        Some((mtu, *port))
    });
    let seen: Vec<(u32, &PortFacts)> = seen.collect();
    let least = seen.iter().min_by_key(|(mtu, _)| *mtu);
    let most = seen.iter().max_by_key(|(mtu, _)| *mtu);
    let (Some((least, low)), Some((most, high))) = (least, most) else {
        return;
    };
    if least == most {
        notes.ok(Check::Mtu, &about, format!("all ports have mtu {least}"));
        return;
    }
    let fact = format!(
        "{} has mtu {most}, {} has {least}",
        high.spec.name, low.spec.name
    );
    let is_explained = notes.0.iter().any(|it| it.id == Check::MtuChanged);
    let severity = match is_explained {
        true => Severity::Note,
        false => Severity::Warning,
    };
    let fix = [format!("tapswitch port set {} mtu {least}", high.spec.name)];
    notes.bad(Check::MtuDiffers, severity, &about, fact, fix);
}

/// Addresses of one bridge that are told as held: after some, more of them say nothing new.
const MOST_HELD: usize = 5;
