//! One port: its device, addresses, flags, FDB entry, MTU and losses.

use std::net::IpAddr;

use super::{
    facts::{BridgeFacts, Facts, Loss, PortFacts, Seen, Whereabouts},
    filter,
    finding::{Check, Notes, Severity, Step},
    place::{sysctl_key, word},
};
use crate::{
    bridge::DropReason,
    config::{Mode, OffloadMode, units::format_duration},
    names::NetnsRef,
    netlink::{AddressState, Held},
};

/// Judges one port.
pub(super) fn judge(notes: &mut Notes, facts: &Facts, port: &PortFacts) {
    let about = port.about();
    let Some(seen) = device(notes, port) else {
        losses(notes, port);
        return;
    };
    addresses(notes, port, seen);
    if notes.is_sound(Step::Address, &about) {
        let held: Vec<String> = port.held().map(|held| held.net.to_string()).collect();
        let held = match held.as_slice() {
            [] => "no address; frames pass all the same".to_owned(),
            held => held.join(", "),
        };
        notes.ok(Check::Address, &about, held);
    }
    filter::of_port(notes, port, seen);
    if let Some(bridge) = facts.bridge(&port.spec.bridge) {
        flags(notes, facts, bridge, port);
        fdb(notes, bridge, port);
        mtu(notes, bridge, port, seen);
    }
    offload(notes, port, seen);
    losses(notes, port);
}

/// Whether there is an interface that is up.
fn device<'a>(notes: &mut Notes, port: &'a PortFacts) -> Option<&'a Seen> {
    let (about, place) = (port.about(), port.place());
    let (name, wanted) = (&port.spec.name, port.spec.effective_ifname());
    if let Some(reason) = &port.gone {
        let fix = match &port.spec.netns {
            Some(netns) if reason.ends_with("is gone") => {
                let netns = word(&netns.to_string());
                format!("ip netns add {netns}    # it is plugged in again by itself")
            }
            _ => format!("tapswitch port set {name} up    # plugs it in again"),
        };
        let severity = Severity::Broken;
        notes.bad(Check::PortGone, severity, &about, reason, [fix]);
        return None;
    }
    if !port.spec.flags.up {
        let fix = [format!("tapswitch port set {name} up")];
        let fact = "it is set down, so its cable is pulled";
        notes.bad(Check::PortDown, Severity::Broken, &about, fact, fix);
    }
    let Some(seen) = port.seen() else {
        if let super::Inside::Unseen(why) = &port.inside {
            notes.bad(Check::NotLooked, Severity::Note, &about, why, []);
        }
        return None;
    };
    let link = &seen.view.link;
    let (ifname, dev) = (&link.name, port.device());
    if let Some(inode) = seen.moved_to {
        let back = match &port.spec.netns {
            None => "1".to_owned(),
            Some(NetnsRef::Pid(pid)) => pid.to_string(),
            Some(netns) => word(&netns.to_string()),
        };
        let fix = [
            format!("lsns -t net | grep {inode}"),
            format!("nsenter -t PID -n ip link set {dev} netns {back}"),
        ];
        let fact = format!("{ifname} was moved to another namespace, net:[{inode}]");
        notes.bad(Check::PortMoved, Severity::Broken, &about, fact, fix);
        return None;
    }
    if !link.admin_up {
        let fix = [place.ip(format_args!("link set {dev} up"))];
        let fact = format!("{ifname} is down inside the namespace");
        notes.bad(Check::LinkDown, Severity::Broken, &about, fact, fix);
    } else if !link.carrier && port.spec.flags.up {
        let fix = [
            format!("tapswitch port set {name} down"),
            format!("tapswitch port set {name} up"),
        ];
        let fact = format!("{ifname} is up and has no carrier");
        notes.bad(Check::NoCarrier, Severity::Broken, &about, fact, fix);
    }
    if *ifname != wanted.as_str() {
        let fix = [
            place.ip(format_args!("link set {dev} down")),
            place.ip(format_args!("link set {dev} name {wanted}")),
            place.ip(format_args!("link set {wanted} up")),
        ];
        let fact = format!("its interface is called {ifname} now, not {wanted}");
        notes.bad(Check::IfnameDiffers, Severity::Warning, &about, fact, fix);
    }
    if notes.is_sound(Step::Port, &about) {
        let fact = format!("{ifname} is up, {}, mtu {}", link.mac, link.mtu);
        notes.ok(Check::Port, &about, fact);
    }
    Some(seen)
}

fn addresses(notes: &mut Notes, port: &PortFacts, seen: &Seen) {
    let (about, place, name) = (port.about(), port.place(), &port.spec.name);
    let (view, link) = (&seen.view, &seen.view.link);
    let (ifname, dev) = (&link.name, port.device());
    if view.no_arp {
        let fix = [place.ip(format_args!("link set {dev} arp on"))];
        let fact = format!("ARP is off on {ifname}");
        notes.bad(Check::NoArp, Severity::Broken, &about, fact, fix);
    }
    if link.mac != port.mac {
        let fix = [
            place.ip(format_args!("link set {dev} address {}", port.mac)),
            format!(
                "tapswitch port set {name} --mac {}    # or make it so",
                link.mac
            ),
        ];
        let fact = format!("its MAC address is {}, not {}", link.mac, port.mac);
        notes.bad(Check::MacDiffers, Severity::Warning, &about, fact, fix);
    }
    let mut no_v6 = false;
    for net in &port.spec.addresses {
        let same = |held: &&Held| held.net.addr() == net.addr();
        let here = port.held().find(same);
        let add = place.ip(format_args!("address add {net} dev {dev}"));
        match here {
            Some(held) if held.net != *net => {
                let del = place.ip(format_args!("address del {} dev {dev}", held.net));
                let fact = format!("it has {}, not {net}", held.net);
                let severity = Severity::Broken;
                notes.bad(Check::PrefixDiffers, severity, &about, fact, [del, add]);
            }
            Some(held) if held.state == AddressState::Duplicate => {
                let fact = format!("another host answered for {net} when it was added");
                let fix = [place.ip(format_args!("address show dev {dev}"))];
                notes.bad(Check::DuplicateAddress, Severity::Broken, &about, fact, fix);
            }
            Some(_) => {}
            None if net.addr().is_ipv6() && view.sysctls.no_ipv6 => {
                if !std::mem::replace(&mut no_v6, true) {
                    let key = sysctl_key("ipv6", ifname, "disable_ipv6");
                    let fact = format!("IPv6 is off on {ifname}, so it has no {net}");
                    let fix = [place.sysctl(&key, 0), add];
                    notes.bad(Check::Ipv6Disabled, Severity::Broken, &about, fact, fix);
                }
            }
            // The kernel takes the IPv6 addresses of a link that is set down, and keeps the others.
            None if net.addr().is_ipv6() && !link.admin_up => {}
            None => {
                let elsewhere = view.addresses.iter().find(same);
                let elsewhere = elsewhere.map(|held| format!("; {} has it", held.link));
                let fact = format!(
                    "it does not have {net}, which it was given{}",
                    elsewhere.unwrap_or_default()
                );
                notes.bad(Check::AddressMissing, Severity::Broken, &about, fact, [add]);
            }
        }
    }
}

fn flags(notes: &mut Notes, facts: &Facts, bridge: &BridgeFacts, port: &PortFacts) {
    let (about, name) = (port.about(), &port.spec.name);
    let flags = &port.spec.flags;
    let set = |flag: &str, value: &str| [format!("tapswitch port set {name} {flag} {value}")];
    let switches = bridge.spec.mode == Mode::Switch;
    let entry = port.fdb.as_ref();
    let here = entry.is_some_and(|entry| entry.place == Whereabouts::Port(name.clone()));
    let is_static = here && entry.is_some_and(|entry| entry.is_static);
    let mac = port.real_mac();
    if flags.locked {
        let fix = [
            format!("tapswitch fdb add {mac} --port {name}"),
            format!("tapswitch port set {name} locked off    # or let it be anybody"),
        ];
        let (severity, fact) = match (is_static, here) {
            (true, _) => (Severity::Note, format!("locked, and {mac} may use it")),
            (_, true) => (Severity::Warning, format!("locked, and {mac} will age")),
            _ => (
                Severity::Broken,
                format!("locked, and the FDB does not have {mac} there"),
            ),
        };
        notes.bad(Check::Locked, severity, &about, fact, fix);
    }
    floods(notes, facts, port, here);
    if !flags.learning && switches && !is_static {
        let fact = format!("learning off, and no static entry for {mac}");
        let fix = set("learning", "on");
        notes.bad(Check::LearningOff, Severity::Warning, &about, fact, fix);
    }
    if flags.isolated && !facts.scope.is_path() {
        let others = facts.ports.iter().filter(|other| {
            let spec = &other.spec;
            spec.flags.isolated && spec.bridge == bridge.spec.name && spec.name != *name
        });
        let others: Vec<&str> = others.map(|other| other.spec.name.as_str()).collect();
        let fact = match others.as_slice() {
            [] => "isolated, as the only port of its bridge".to_owned(),
            others => format!("isolated from {}", others.join(", ")),
        };
        let fix = set("isolated", "off");
        notes.bad(Check::Isolated, Severity::Note, &about, fact, fix);
    }
    if notes.is_sound(Step::Flags, &about) {
        let fact = match bridge.spec.mode {
            Mode::Switch => "nothing keeps frames from it or for it",
            Mode::Hub => "its bridge is a hub: every frame goes everywhere",
            Mode::Wire => "its bridge is a wire: everything passes",
        };
        notes.ok(Check::Flags, &about, fact);
    }
}

/// Whether frames that are flooded reach it; `here`: the FDB has it where it is.
fn floods(notes: &mut Notes, facts: &Facts, port: &PortFacts, here: bool) {
    let (about, name, mac) = (port.about(), &port.spec.name, port.real_mac());
    let flags = &port.spec.flags;
    let set = |flag: &str, value: &str| [format!("tapswitch port set {name} {flag} {value}")];
    // Whether the other end of the path finds this one without asking.
    let is_target = facts.scope.to() == Some(name);
    let other = facts.scope.from().and_then(|from| facts.port(from));
    let is_known = |is_v4: bool| {
        let known = |ip: IpAddr| other.and_then(|other| other.neighbour(ip));
        let mut ours = port.usable().filter(|ip| ip.is_ipv4() == is_v4);
        ours.any(|ip| known(ip).is_some_and(|neighbour| neighbour.state.is_usable()))
    };
    let severity = |is_v4: bool| match is_target && !is_known(is_v4) {
        true => Severity::Broken,
        false => Severity::Warning,
    };
    if !flags.bcast_flood {
        let fact = "it gets no broadcasts, and so no ARP requests";
        let fix = set("bcast-flood", "on");
        notes.bad(Check::BcastFloodOff, severity(true), &about, fact, fix);
    }
    if !flags.mcast_flood {
        let has_v6 = port.usable().any(|ip| ip.is_ipv6());
        let severity = match has_v6 {
            true => severity(false).min(Severity::Warning),
            false => Severity::Note,
        };
        let fact = "it gets no multicast, and so no IPv6 neighbour solicitations";
        let fix = set("mcast-flood", "on");
        notes.bad(Check::McastFloodOff, severity, &about, fact, fix);
    }
    if !flags.flood {
        let (severity, fact) = match here {
            true => (Severity::Note, format!("flood off, and the FDB has {mac}")),
            false if is_target => (
                Severity::Broken,
                format!("flood off, and the FDB does not have {mac}: nothing reaches it"),
            ),
            false => (
                Severity::Warning,
                format!("flood off, and the FDB does not have {mac}"),
            ),
        };
        let fix = set("flood", "on");
        notes.bad(Check::FloodOff, severity, &about, fact, fix);
    }
}

fn fdb(notes: &mut Notes, bridge: &BridgeFacts, port: &PortFacts) {
    if bridge.spec.mode != Mode::Switch {
        return;
    }
    let (about, name, mac) = (port.about(), &port.spec.name, port.real_mac());
    let home = &bridge.spec.name;
    let Some(entry) = &port.fdb else {
        let fact = match port.rx.total {
            0 => "it has never sent a frame, so nobody knows where it is".to_owned(),
            count => format!(
                "the FDB does not have {mac}: {count} frames came, none within {}",
                format_duration(bridge.spec.ageing)
            ),
        };
        notes.bad(Check::NeverHeard, Severity::Note, &about, fact, []);
        return;
    };
    let age = format!("{:.1} s ago", entry.age.as_secs_f64());
    let place = &entry.place;
    let del = format!("tapswitch fdb del {mac} --bridge {home}");
    if *place == Whereabouts::Port(name.clone()) {
        if entry.is_held {
            let fact = format!("{mac} moved {} times and is held here", entry.moves);
            let fix = ["tapswitch monitor fdb".to_owned()];
            notes.bad(Check::MacHeld, Severity::Warning, &about, fact, fix);
            return;
        }
        let fact = match entry.is_static {
            true => format!("{mac} is here, by a static entry"),
            false => format!("{mac} was heard here {age}"),
        };
        notes.ok(Check::Fdb, &about, fact);
    } else if entry.is_static {
        let fact = format!("a static entry has {mac} at {place}");
        notes.bad(Check::FdbStatic, Severity::Broken, &about, fact, [del]);
    } else if entry.is_held {
        let fact = format!(
            "{mac} moved {} times and is held at {place}, away from here",
            entry.moves
        );
        let fix = ["tapswitch monitor fdb".to_owned(), del];
        notes.bad(Check::MacHeld, Severity::Broken, &about, fact, fix);
    } else {
        let fact = format!("{mac} was last heard at {place}, {age}");
        let fix = ["tapswitch monitor fdb".to_owned(), del];
        notes.bad(Check::FdbElsewhere, Severity::Broken, &about, fact, fix);
    }
}

fn mtu(notes: &mut Notes, bridge: &BridgeFacts, port: &PortFacts, seen: &Seen) {
    let (about, link) = (port.about(), &seen.view.link);
    let wanted = port.spec.mtu.unwrap_or(bridge.mtu);
    if link.mtu != wanted {
        let set = format!("link set {} mtu {wanted}", port.device());
        let fix = [port.place().ip(set)];
        let fact = format!(
            "somebody inside has set {} to mtu {}; it was given {wanted}",
            link.name, link.mtu
        );
        notes.bad(Check::MtuChanged, Severity::Warning, &about, fact, fix);
    }
}

fn offload(notes: &mut Notes, port: &PortFacts, seen: &Seen) {
    let (about, name) = (port.about(), &port.spec.name);
    if port.spec.offload == OffloadMode::Off {
        let fact = "it has the simple engine: one frame, one call";
        let fix = [format!(
            "tapswitch port del {name}    # then add it without --offload off"
        )];
        notes.bad(Check::OffloadOff, Severity::Note, &about, fact, fix);
        return;
    }
    if port.offloads.is_empty() {
        let fact = "the kernel grants no offload, or has refused a superframe";
        notes.bad(Check::OffloadOff, Severity::Warning, &about, fact, []);
        return;
    }
    if seen.view.tx_checksum == Some(false) {
        let ifname = &seen.view.link.name;
        let dev = port.device();
        let fix = [port
            .place()
            .run(format_args!("ethtool -K {dev} tx on tso on"))];
        let fact = format!("transmit checksums are off on {ifname}, inside the namespace");
        notes.bad(Check::ChecksumOff, Severity::Warning, &about, fact, fix);
        return;
    }
    notes.ok(Check::Offload, &about, port.offloads.clone());
}

fn losses(notes: &mut Notes, port: &PortFacts) {
    let about = port.about();
    let queue = port.queue;
    if queue.grown > 0 {
        let name = &port.spec.name;
        let fact = format!(
            "the TAP's queue lost {} frames while doctor was looking, {} in all",
            queue.grown, queue.total
        );
        let fix = [format!(
            "tapswitch stats {name}    # add it with a larger --txqueuelen, or give the switch CPU"
        )];
        notes.bad(Check::QueueLoss, Severity::Warning, &about, fact, fix);
    }
    let mut old: Vec<String> = Vec::new();
    if queue.total > 0 && queue.grown == 0 {
        old.push(format!("tap_queue {}", queue.total));
    }
    old.extend(of_losses(notes, &about, &port.losses));
    if !old.is_empty() {
        let fact = format!("dropped earlier: {}", old.join(", "));
        let fix = [format!("tapswitch stats {}", port.spec.name)];
        notes.bad(Check::DropsBefore, Severity::Note, &about, fact, fix);
    } else if notes.is_sound(Step::Losses, &about) {
        let usual = port.losses.iter();
        let usual: Vec<String> = usual
            .map(|loss| format!("{} {}", loss.reason, loss.count.total))
            .collect();
        let fact = match usual.as_slice() {
            [] => "nothing was dropped".to_owned(),
            usual => format!("dropped as usual: {}", usual.join(", ")),
        };
        notes.ok(Check::Losses, &about, fact);
    }
}

/// Tells of drops that go on, and returns those of the past in words.
pub(super) fn of_losses(notes: &mut Notes, about: &str, losses: &[Loss]) -> Vec<String> {
    let mut old = Vec::new();
    for loss in losses {
        let Loss {
            reason,
            text,
            count,
        } = loss;
        if is_usual(reason) {
            continue;
        }
        if count.grown == 0 {
            old.push(format!("{reason} {}", count.total));
            continue;
        }
        let fact = format!(
            "{} frames dropped as {reason} while doctor was looking, {} in all: {text}",
            count.grown, count.total
        );
        let fix = ["tapswitch stats --watch".to_owned()];
        notes.bad(Check::DropsNow, Severity::Warning, about, fact, fix);
    }
    old
}

/// Whether a reason for drops is no sign of anything.
pub(super) fn is_usual(reason: &str) -> bool {
    USUAL.iter().any(|usual| usual.name() == reason)
}

/// Drops that are no sign of anything: nobody else there, no news, not for a bridge,
/// TCP that was told to slow down.
const USUAL: [DropReason; 5] = [
    DropReason::NoEgress,
    DropReason::SamePort,
    DropReason::ReservedAddress,
    DropReason::SplitHorizon,
    DropReason::StandingQueue,
];
