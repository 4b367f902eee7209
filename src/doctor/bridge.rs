//! A bridge: what its ports have in common, or should not, and its FDB as a whole.

use std::{collections::HashSet, net::IpAddr};

use super::{
    facts::{BridgeFacts, Facts, PortFacts, Scope, is_link_local},
    finding::{Check, Notes, Severity, Step},
    remedy::lower_mtu,
};
use crate::config::Mode;

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
    let of_port = |port: &&PortFacts| {
        let ips = port.held().map(|held| held.net.addr());
        ips.filter(|ip| !is_link_local(*ip)).collect()
    };
    let ips: Vec<HashSet<IpAddr>> = ports.iter().map(of_port).collect();
    for (index, (one, ips)) in ports.iter().zip(&ips).enumerate() {
        for two in ports.iter().skip(index + 1) {
            let matters = facts.scope.has(&one.spec.name) || facts.scope.has(&two.spec.name);
            if !matters || one.seen().is_none() || two.seen().is_none() {
                continue;
            }
            if one.real_mac() == two.real_mac() {
                let about = format!("ports {}, {}", one.spec.name, two.spec.name);
                let mac = one.real_mac();
                let odd = if mac == two.mac { one } else { two };
                let back = format!("link set {} address {}", odd.device(), odd.mac);
                let fix = [odd.place().ip(back)];
                let fact = format!("both have the MAC address {mac}");
                notes.bad(Check::DuplicateMac, Severity::Broken, &about, fact, fix);
            }
            same_addresses(notes, one, ips, two);
        }
    }
}

/// Addresses of `two` that are among those of `one`.
fn same_addresses(notes: &mut Notes, one: &PortFacts, ips: &HashSet<IpAddr>, two: &PortFacts) {
    let mut same = two.held().filter(|held| ips.contains(&held.net.addr()));
    let about = || format!("ports {}, {}", one.spec.name, two.spec.name);
    for held in same.by_ref().take(MOST_SAME) {
        let is_given = two.spec.addresses.contains(&held.net);
        let odd = match one.spec.addresses.contains(&held.net) {
            false if is_given => one,
            _ => two,
        };
        let del = format!("address del {} dev {}", held.net, odd.device());
        let fix = [odd.place().ip(del)];
        let fact = format!("both have the address {}", held.net.addr());
        let severity = Severity::Broken;
        notes.bad(Check::DuplicateAddress, severity, &about(), fact, fix);
    }
    let more = same.count();
    if more > 0 {
        let fix = [two
            .place()
            .ip(format_args!("address show dev {}", two.device()))];
        let fact = format!("more addresses that both have: {more}");
        let severity = Severity::Broken;
        notes.bad(Check::DuplicateAddress, severity, &about(), fact, fix);
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
    let auto = Some(bridge.auto_mtu).filter(|auto| auto == least);
    let undo = [high, low].map(|port| notes.fix_of(Check::MtuChanged, &port.about()));
    let undo = undo.into_iter().flatten().next();
    let fix = undo.unwrap_or_else(|| vec![lower_mtu(&bridge.spec, &high.spec, *least, auto)]);
    notes.bad(Check::MtuDiffers, severity, &about, fact, fix);
}

/// Addresses of one bridge that are told as held: after some, more of them say nothing new.
const MOST_HELD: usize = 5;
/// Addresses that two ports share and that are told each.
const MOST_SAME: usize = 3;
