//! The path from a port to another, or to an address.

use std::net::IpAddr;

use super::{
    facts::{Facts, Heard, PathFacts, PortFacts, Scope, Whereabouts},
    finding::{Check, Notes, Severity, Step},
    place::sysctl_key,
    port::{self, is_usual},
    remedy::for_a_shell,
};
use crate::netlink::{Neighbour, Reachability, Way};

/// Judges the path.
pub(super) fn judge(notes: &mut Notes, facts: &Facts) {
    let Some(from) = facts.scope.from().and_then(|name| facts.port(name)) else {
        return;
    };
    let named = facts.scope.to().and_then(|name| facts.port(name));
    let mut owners = facts.paths.iter().filter_map(|path| facts.owner(path.to));
    let mut to = named.or_else(|| owners.next());
    if let Some(to) = to {
        ends(notes, facts, from, to);
    }
    let is_unseen = |port: &&PortFacts| port.seen().is_none();
    if is_unseen(&from) || named.is_some_and(|to| is_unseen(&to)) {
        return;
    }
    if let Some(unseen) = to.take_if(|to| is_unseen(to)) {
        // It was given the address: why it cannot be looked at is perhaps what was asked.
        port::judge(notes, facts, unseen);
    }
    for path in &facts.paths {
        one(notes, facts, &Ends { from, to, path });
    }
}

/// What holds whatever the addresses are.
fn ends(notes: &mut Notes, facts: &Facts, from: &PortFacts, to: &PortFacts) {
    let about = format!("ports {}, {}", from.spec.name, to.spec.name);
    let goes_over_gateway = |path: &PathFacts| matches!(path.way, Way::Over { via: Some(_), .. });
    let routed = !facts.paths.is_empty() && facts.paths.iter().all(goes_over_gateway);
    if from.spec.bridge != to.spec.bridge && !routed {
        let (bridge, name) = (&from.spec.bridge, &to.spec.name);
        let fact = format!(
            "{} is on bridge {bridge}, {name} on bridge {}",
            from.spec.name, to.spec.bridge
        );
        let fix = [
            format!("tapswitch port del {name}"),
            format!("tapswitch port add {name} --bridge {bridge} ..."),
        ];
        let severity = Severity::Broken;
        notes.bad(Check::DifferentBridges, severity, &about, fact, fix);
    }
    if from.spec.flags.isolated && to.spec.flags.isolated && from.spec.bridge == to.spec.bridge {
        let fix = [format!("tapswitch port set {} isolated off", to.spec.name)];
        let fact = "both are isolated";
        notes.bad(Check::Isolated, Severity::Broken, &about, fact, fix);
    }
    let both_seen = from.seen().is_some() && to.seen().is_some();
    if facts.paths.is_empty() && both_seen {
        let lacking = if to.usable().next().is_none() {
            to
        } else {
            from
        };
        // That it lost one may have been told.
        if notes.is_sound(Step::Address, &lacking.about()) {
            no_address(notes, lacking, "an IPv4 or a global IPv6");
        }
    }
}

fn no_address(notes: &mut Notes, port: &PortFacts, family: &str) {
    let fix = [port
        .place()
        .ip(format_args!("address add CIDR dev {}", port.device()))];
    let fact = format!("{} does not have {family} address", port.ifname());
    notes.bad(Check::NoAddress, Severity::Broken, &port.about(), fact, fix);
}

#[derive(Clone, Copy)]
struct Ends<'a> {
    from: &'a PortFacts,
    /// None if the address is no port's.
    to: Option<&'a PortFacts>,
    path: &'a PathFacts,
}

fn one(notes: &mut Notes, facts: &Facts, ends: &Ends<'_>) {
    let Ends { from, path, .. } = ends;
    let about = format!("{} to {}", from.spec.name, path.to);
    if path.from.is_none() {
        let family = match path.to {
            IpAddr::V4(_) => "an IPv4",
            // It usually has a link-local one, with which nobody is reached by address alone.
            IpAddr::V6(_) => "a global IPv6",
        };
        no_address(notes, from, family);
        return;
    }
    if !way_there(notes, facts, &about, ends) {
        return;
    }
    way_back(notes, &about, ends);
    if notes.is_sound(Step::Route, &about) {
        let hop = path.next_hop();
        let fact = if hop == path.to {
            format!("over {}, directly", from.ifname())
        } else {
            format!("over {}, by way of {hop}", from.ifname())
        };
        notes.ok(Check::Route, &about, fact);
    }
    next_hop(notes, facts, &about, ends);
    arp_seen(notes, &about, ends);
    lost(notes, facts, ends);
}

/// Whether the first end sends it to the switch.
fn way_there(notes: &mut Notes, facts: &Facts, about: &str, ends: &Ends<'_>) -> bool {
    let Ends { from, to, path } = *ends;
    let (place, ifname, dev) = (from.place(), from.ifname(), from.device());
    let target = path.to;
    match &path.way {
        Way::Local => {
            let fact = format!("{target} is an address of its own namespace");
            notes.bad(Check::Route, Severity::Note, about, fact, []);
            return false;
        }
        Way::Nowhere if to.is_some_and(|to| to.spec.bridge == from.spec.bridge) => {
            let nets = |port: &PortFacts| {
                let held = port.held().map(|held| held.net);
                let held = held.filter(|net| net.addr().is_ipv4() == target.is_ipv4());
                let held: Vec<String> = held.map(|net| net.to_string()).collect();
                held.join(", ")
            };
            let theirs = to.map(nets).unwrap_or_default();
            let fact = format!(
                "{} has {}, {} has {theirs}: neither a common subnet nor a route",
                from.spec.name,
                nets(from),
                to.map(|to| to.spec.name.as_str()).unwrap_or_default(),
            );
            // Both, or the answers would not come back.
            let there = place.ip(format_args!("route add {target} dev {dev}"));
            let back = to.zip(path.from).filter(|(to, _)| match &path.back {
                Some(Way::Over { link, .. }) => *link != to.ifname(),
                _ => true,
            });
            let back = back.map(|(to, source)| {
                let add = format!("route replace {source} dev {}", to.device());
                to.place().ip(add)
            });
            let fix = [there].into_iter().chain(back);
            notes.bad(Check::SubnetsDiffer, Severity::Broken, about, fact, fix);
            return false;
        }
        Way::Nowhere => {
            let fact = format!("no route to {target}, and no default gateway");
            let host = facts
                .ports
                .iter()
                .find(|port| port.spec.netns.is_none() && port.spec.bridge == from.spec.bridge);
            let gateway =
                host.and_then(|port| port.usable().find(|ip| ip.is_ipv4() == target.is_ipv4()));
            let gateway = gateway.map_or_else(|| "GATEWAY".to_owned(), |ip| ip.to_string());
            let name = &from.spec.name;
            let fix = [format!("tapswitch port set {name} --gateway {gateway}")];
            notes.bad(Check::NoGateway, Severity::Broken, about, fact, fix);
            return false;
        }
        Way::Refused(why) => {
            let fact = format!("a route forbids {target}: {why}");
            let fix = [place.ip("route show table all")];
            notes.bad(Check::NoRoute, Severity::Broken, about, fact, fix);
            return false;
        }
        Way::Over { link, .. } if *link != ifname => {
            let fact = format!("packets for {target} leave over {link}, not {ifname}");
            let fix = [
                place.ip(format_args!("route get {target}")),
                place.ip(format_args!("route replace {target} dev {dev}")),
            ];
            notes.bad(Check::RouteElsewhere, Severity::Broken, about, fact, fix);
            return false;
        }
        Way::Over { via: Some(via), .. } => gateway(notes, facts, *via, target),
        Way::Over { via: None, .. } => {}
    }
    true
}

/// Whether the gateway, if it is a port of ours, passes on what is for others.
fn gateway(notes: &mut Notes, facts: &Facts, via: IpAddr, target: IpAddr) {
    let owner = facts.owner(via);
    let Some((owner, seen)) = owner.and_then(|port| Some((port, port.seen()?))) else {
        return;
    };
    let held = &seen.view.addresses;
    if held.iter().any(|held| held.net.addr() == target) {
        return;
    }
    let sysctls = seen.view.sysctls;
    let (forwards, key) = match via {
        IpAddr::V4(_) => (sysctls.forwards_v4, "net.ipv4.ip_forward"),
        IpAddr::V6(_) => (sysctls.forwards_v6, "net.ipv6.conf.all.forwarding"),
    };
    if !forwards {
        let fact = format!("the gateway {via} does not forward");
        let fix = [owner.place().sysctl(key, 1)];
        let about = owner.about();
        notes.bad(Check::ForwardingOff, Severity::Broken, &about, fact, fix);
    }
}

/// Whether the other end's answers come back over the switch.
fn way_back(notes: &mut Notes, about: &str, ends: &Ends<'_>) {
    let (Some(to), Some(back), Some(source)) = (ends.to, &ends.path.back, ends.path.from) else {
        return;
    };
    if !notes.is_sound(Step::Port, &to.about()) {
        // An interface that is down has no routes.
        return;
    }
    let (place, ifname, name) = (to.place(), to.ifname(), &to.spec.name);
    let fact = match back {
        Way::Over { link, .. } if *link == ifname => return,
        Way::Over { link, .. } => {
            if to
                .seen()
                .is_some_and(|seen| seen.view.sysctls.rp_filter == 1)
            {
                let key = sysctl_key("ipv4", &ifname, "rp_filter");
                let fact = format!(
                    "rp_filter is 1 on {ifname} of {name}, whose answers to {source} leave over {link}"
                );
                let fix = [place.sysctl(&key, 2)];
                notes.bad(Check::RpFilter, Severity::Broken, about, fact, fix);
            }
            format!("answers of {name} to {source} leave over {link}, not {ifname}")
        }
        // A twin: two ends with one address are found elsewhere.
        Way::Local => return,
        Way::Nowhere => format!("{name} has no route back to {source}"),
        Way::Refused(why) => format!("a route of {name} forbids {source}: {why}"),
    };
    let fix = [
        place.ip(format_args!("route get {source}")),
        place.ip(format_args!("route replace {source} dev {}", to.device())),
    ];
    notes.bad(Check::NoWayBack, Severity::Broken, about, fact, fix);
}

/// Whether the first end knows where the next hop is, rightly.
fn next_hop(notes: &mut Notes, facts: &Facts, about: &str, ends: &Ends<'_>) {
    let Ends { from, path, .. } = *ends;
    let hop = path.next_hop();
    let owner = facts.owner(hop);
    let owner = owner.filter(|owner| owner.spec.bridge == from.spec.bridge);
    let known = from.neighbour(hop);
    let (place, dev) = (from.place(), from.device());
    let forget = place.ip(format_args!("neighbour del {hop} dev {dev}"));
    let ask = place.run(format_args!("ping -c 1 {hop}"));
    match (known, owner) {
        (
            Some(Neighbour {
                mac: Some(mac),
                state,
                ..
            }),
            Some(owner),
        ) if state.is_usable() && *mac != owner.real_mac() => {
            let severity = match state {
                Reachability::Permanent => Severity::Broken,
                // The kernel finds out by itself within seconds.
                _ => Severity::Warning,
            };
            let fact = format!(
                "{} thinks that {hop} is at {mac} ({state}), but {} has {}",
                from.spec.name,
                owner.spec.name,
                owner.real_mac()
            );
            notes.bad(Check::NeighbourWrong, severity, about, fact, [forget]);
        }
        (Some(known), _) if known.state.is_usable() => {
            let mac = known.mac.map(|mac| mac.to_string()).unwrap_or_default();
            let fact = format!("{hop} is at {mac} ({})", known.state);
            notes.ok(Check::Neighbour, about, fact);
        }
        (Some(known), Some(_)) => {
            let fact = format!("{hop} has not answered ARP ({})", known.state);
            notes.bad(
                Check::NeighbourFailed,
                Severity::Warning,
                about,
                fact,
                [ask],
            );
        }
        (known, None) => nobody(notes, facts, about, ends, known, ask),
        (None, Some(owner)) => {
            let fact = format!("{} has not asked for {hop} yet", from.spec.name);
            let mac = owner.real_mac();
            notes.ok(Check::Neighbour, about, format!("{fact}; it is at {mac}"));
        }
    }
    if let Some((mac, entry)) = &path.next
        && owner.is_none_or(|owner| ends.to.is_none_or(|to| to.spec.name != owner.spec.name))
    {
        behind(notes, about, from, &mac.to_string(), entry.as_ref(), owner);
    }
}

/// No port has the address of the next hop.
fn nobody(
    notes: &mut Notes,
    facts: &Facts,
    about: &str,
    ends: &Ends<'_>,
    known: Option<&Neighbour>,
    ask: String,
) {
    let (hop, bridge) = (ends.path.next_hop(), &ends.from.spec.bridge);
    let of_bridge = || facts.peers.iter().filter(|peer| peer.bridge == *bridge);
    let ports = facts
        .ports
        .iter()
        .filter(|port| port.spec.bridge == *bridge);
    // What is gone has no address.
    let unseen = ports.filter(|port| port.seen().is_none() && port.gone.is_none());
    let unseen = unseen.count();
    let all_answer = of_bridge().all(|peer| {
        let probe = peer.probe.as_ref();
        probe.is_some_and(|probe| probe.rtt.is_some())
    });
    let is_sure = unseen == 0 && all_answer;
    let peers = match of_bridge().count() {
        0 => "and there are no peers".to_owned(),
        1 => "and nobody behind its peer has answered".to_owned(),
        count => format!("and nobody behind its {count} peers has answered"),
    };
    let has_failed = known.is_some_and(|known| !known.state.is_usable());
    let severity = match (is_sure, has_failed) {
        (true, true) => Severity::Broken,
        (false, true) => Severity::Warning,
        // Perhaps somebody behind a port has it: nobody has asked.
        (true, false) if of_bridge().count() == 0 => Severity::Warning,
        _ => Severity::Note,
    };
    let unseen = match unseen {
        0 => String::new(),
        1 => ", 1 port was not looked at".to_owned(),
        count => format!(", {count} ports were not looked at"),
    };
    let asked = match known {
        Some(known) => format!("ARP: {}", known.state),
        None => "not asked lately".to_owned(),
    };
    let fact = format!("no port of bridge {bridge} has {hop}{unseen}, {peers} ({asked})");
    notes.bad(Check::NobodyThere, severity, about, fact, [ask]);
}

/// Whether the switch has seen the next hop asked for, and its answer.
fn arp_seen(notes: &mut Notes, about: &str, ends: &Ends<'_>) {
    let hop = ends.path.next_hop();
    let last = |start: &str| {
        let heard = ends.path.heard.iter();
        let heard = heard.filter(|it| it.lost.is_none() && it.frame.starts_with(start));
        heard.min_by_key(|it| it.age)
    };
    let Some(asked) = last(&format!("arp who-has {hop} ")) else {
        return;
    };
    let ago = |heard: &Heard| format!("{:.1} s ago", heard.age.as_secs_f64());
    let to = match asked.to.as_slice() {
        [] => "others".to_owned(),
        to => to.join(", "),
    };
    let request = format!("{} asked for {hop} {}, to {to}", asked.from, ago(asked));
    let known = ends.from.neighbour(hop);
    let is_known = known.is_some_and(|known| known.state.is_usable());
    match last(&format!("arp {hop} is-at ")) {
        Some(answer) => {
            let fact = format!("{request}; {} answered {}", answer.from, ago(answer));
            notes.ok(Check::Neighbour, about, fact);
        }
        None if !is_known => {
            let times = match asked.count {
                1 => String::new(),
                count => format!(", {count} times"),
            };
            let fact = format!("{request}{times}, and no answer came");
            let fix = [format!("tapswitch why {hop}")];
            notes.bad(Check::ArpUnanswered, Severity::Warning, about, fact, fix);
        }
        None => {}
    }
}

/// Frames between the ends that were lost a moment ago.
fn lost(notes: &mut Notes, facts: &Facts, ends: &Ends<'_>) {
    let Ends { from, to, path } = *ends;
    let name = from.spec.name.as_str();
    let (there, back) = (
        format!("{name} to {}", path.to),
        format!("{} to {name}", path.to),
    );
    let is_new = |it: &&Heard| it.age < NEW && !it.lost.as_deref().is_none_or(is_usual);
    let is_for_us = |it: &Heard| {
        it.dst
            .is_none_or(|dst| dst.is_group() || dst == from.real_mac())
    };
    // What others have to do with the second end is not about this path.
    let heard = path.heard.iter().filter(is_new).filter_map(|it| {
        let is = |port: &PortFacts| it.from == port.spec.name.as_str();
        let is_theirs = to.map_or_else(|| !facts.ports.iter().any(is), is);
        match it.from == name {
            true => Some((&there, it)),
            false => (is_theirs && is_for_us(it)).then_some((&back, it)),
        }
    });
    for (about, heard) in heard.take(MOST_LOST) {
        let times = match heard.count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let fact = format!(
            "{times} {} from {}, the last {:.1} s ago: {}",
            heard.frame,
            heard.from,
            heard.age.as_secs_f64(),
            heard.why
        );
        let remedy = heard.remedy.as_deref();
        let mut fix = remedy.map_or_else(Vec::new, for_a_shell);
        if fix.is_empty() {
            fix.push("tapswitch why --drops".to_owned());
        }
        notes.bad(Check::LostLately, Severity::Warning, about, fact, fix);
    }
}

/// Where the FDB has a MAC address that the first end sends to.
fn behind(
    notes: &mut Notes,
    about: &str,
    from: &PortFacts,
    mac: &str,
    entry: Option<&super::Entry>,
    owner: Option<&PortFacts>,
) {
    let home = &from.spec.bridge;
    let Some(entry) = entry else {
        let fact = format!("the FDB does not have {mac}: frames for it are flooded");
        notes.bad(Check::NeverHeard, Severity::Note, about, fact, []);
        return;
    };
    let del = format!("tapswitch fdb del {mac} --bridge {home}");
    let wrong = match (&entry.place, owner) {
        (place, Some(owner)) => *place != Whereabouts::Port(owner.spec.name.clone()),
        (Whereabouts::Port(port), None) => *port == from.spec.name,
        (_, None) => false,
    };
    let place = &entry.place;
    if wrong && entry.is_static {
        let fact = format!("a static entry has {mac} at {place}");
        notes.bad(Check::FdbStatic, Severity::Broken, about, fact, [del]);
    } else if wrong {
        let fact = format!("{mac} was last heard at {place}");
        notes.bad(Check::FdbElsewhere, Severity::Broken, about, fact, [del]);
    } else {
        notes.ok(Check::Fdb, about, format!("{mac} is behind {place}"));
    }
}

/// Whether an examination needs the overlay at all: between two ports of one bridge nothing leaves
/// the machine.
pub(super) fn stays_here(facts: &Facts) -> bool {
    match &facts.scope {
        Scope::Ports(..) => true,
        Scope::Address(..) => facts
            .paths
            .iter()
            .any(|path| facts.owner(path.next_hop()).is_some()),
        _ => false,
    }
}

/// Losses that are older may have another cause by now.
const NEW: std::time::Duration = std::time::Duration::from_secs(5);
/// More say the same.
const MOST_LOST: usize = 3;
