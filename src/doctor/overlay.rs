//! The overlay: the endpoint, its underlay, and each peer.

use super::{
    facts::{BridgeFacts, Facts, PathFacts, PeerFacts, Probe, Scope, Surroundings, Udp, VtepFacts},
    filter,
    finding::{Check, Notes, Severity, Step},
    path,
    place::word,
    port::of_losses,
    remedy::lower_mtu,
};
use crate::{
    config::VtepSpec,
    netlink::{Dropping, Held, Hook, Reachability, Way},
};

/// Judges everything between this machine and the others.
pub(super) fn judge(notes: &mut Notes, facts: &Facts) {
    let Some(vtep) = &facts.vtep else { return };
    if path::stays_here(facts) {
        return;
    }
    let about = format!("vtep {}", vtep.spec.address());
    let is_unanswered = |peer: &PeerFacts| peer.probe.as_ref().is_some_and(|p| p.rtt.is_none());
    let unanswered = facts.peers.iter().any(is_unanswered);
    sockets(notes, &about, vtep);
    underlay(notes, &about, vtep);
    firewall(notes, &about, facts, vtep, unanswered);
    strangers(notes, &about, vtep, unanswered);
    if notes.is_sound(Step::Vtep, &about) && vtep.closed.is_none() {
        let device = home(vtep).map(|held| format!(" on {}", held.link));
        let fact = format!("its sockets are open{}", device.unwrap_or_default());
        notes.ok(Check::Vtep, &about, fact);
    }
    for bridge in facts.bridges.iter().filter(|it| it.spec.vni.is_some()) {
        let name = &bridge.spec.name;
        let peers: Vec<_> = facts.peers.iter().filter(|it| it.bridge == *name).collect();
        if peers.is_empty() {
            let severity = match facts.scope {
                Scope::Address(..) => Severity::Broken,
                _ => Severity::Warning,
            };
            let about = format!("bridge {name}");
            let vni = bridge.spec.vni.map(|vni| vni.to_string());
            let fact = format!("VNI {}, and no peer", vni.unwrap_or_default());
            let fix = [format!("tapswitch peer add IP --bridge {name}")];
            notes.bad(Check::NoPeers, severity, &about, fact, fix);
        }
        // Without sockets nobody can be asked.
        for peer in peers.iter().filter(|_| vtep.closed.is_none()) {
            one_peer(notes, facts, vtep, peer);
        }
        mtu(notes, facts, bridge, &peers);
    }
}

/// The address of the endpoint, where it is held.
fn home(vtep: &VtepFacts) -> Option<&Held> {
    let around = vtep.around.as_ref()?;
    let ours = |held: &&Held| held.net.addr() == vtep.spec.local;
    around.addresses.iter().find(ours)
}

fn sockets(notes: &mut Notes, about: &str, vtep: &VtepFacts) {
    let (place, port) = (vtep.place(), vtep.spec.port);
    if let Some(reason) = &vtep.closed {
        let fix = [
            place.run(format_args!("ss -lunp sport = :{port}")),
            place.ip("-d link show type vxlan"),
        ];
        notes.bad(Check::VtepDown, Severity::Broken, about, reason, fix);
    }
    let overflow = vtep.overflow;
    if overflow.grown > 0 {
        let fact = format!(
            "the socket lost {} datagrams while doctor was looking, {} in all",
            overflow.grown, overflow.total
        );
        let fix = ["sysctl -w net.core.rmem_max=33554432    # then: tapswitch vtep set".to_owned()];
        notes.bad(Check::SocketLoss, Severity::Warning, about, fact, fix);
    } else if overflow.total > 0 {
        let fact = format!("the socket lost {} datagrams earlier", overflow.total);
        let fix = ["tapswitch vtep show".to_owned()];
        notes.bad(Check::DropsBefore, Severity::Note, about, fact, fix);
    }
}

fn underlay(notes: &mut Notes, about: &str, vtep: &VtepFacts) {
    if vtep.around.is_none() {
        return;
    }
    let (place, local) = (vtep.place(), vtep.spec.local);
    match home(vtep) {
        None => {
            let fact = format!("no interface has its address {local}");
            let fix = [place.ip(format_args!("address add {local}/LENGTH dev DEVICE"))];
            notes.bad(Check::UnderlayAddress, Severity::Broken, about, fact, fix);
        }
        Some(held) if !held.is_up => {
            let link = &held.link;
            let fact = format!("{link}, which has {local}, is down or has no carrier");
            let fix = [place.ip(format_args!("link set {} up", word(link)))];
            notes.bad(Check::UnderlayDown, Severity::Broken, about, fact, fix);
        }
        Some(_) => {}
    }
}

/// Rules in the namespace of the endpoint that concern its datagrams.
fn firewall(notes: &mut Notes, about: &str, facts: &Facts, vtep: &VtepFacts, unanswered: bool) {
    let Some(Surroundings {
        netfilter, dropped, ..
    }) = &vtep.around
    else {
        return;
    };
    let of_peers = facts.peers.iter().map(|peer| peer.to.port());
    let ports: Vec<u16> = of_peers.chain([vtep.spec.port]).collect();
    let concerns = |drop: &Dropping| {
        let names_it = drop.numbers.iter().any(|number| ports.contains(number));
        let is_ours = !matches!(drop.hook, Some(Hook::Forward)) && drop.family != "bridge";
        is_ours && (names_it || (!drop.is_conditional && drop.hook.is_some()))
    };
    let grown = dropped.iter().copied().chain(std::iter::repeat(0));
    let worst = netfilter
        .drops
        .iter()
        .zip(grown)
        .filter(|(drop, _)| concerns(drop))
        .max_by_key(|(drop, grown)| (*grown, drop.packets));
    let Some((drop, grown)) = worst else { return };
    let has_met = grown > 0 || drop.packets.is_some_and(|packets| packets > 0);
    // The end of an ordinary firewall drops all kinds of things all the time.
    let is_certain = drop.is_conditional || drop.number == Some(1);
    let severity = match (unanswered, has_met) {
        (true, true) if is_certain => Severity::Broken,
        (true, _) if grown > 0 => Severity::Warning,
        (true, false) | (false, true) if drop.is_conditional => Severity::Warning,
        _ => Severity::Note,
    };
    let fix = [filter::undo(vtep.place(), drop)];
    let fact = filter::describe(drop);
    notes.bad(Check::UnderlayFilter, severity, about, fact, fix);
}

/// Datagrams that belong to no peer.
fn strangers(notes: &mut Notes, about: &str, vtep: &VtepFacts, unanswered: bool) {
    let mut rest = Vec::new();
    for loss in &vtep.losses {
        let heard = vtep.heard.iter();
        let heard = heard.filter(|it| it.lost.as_deref() == Some(loss.reason));
        let last = heard.min_by_key(|it| it.age);
        let from = last.map_or_else(String::new, |it| format!(", the last from {}", it.from));
        let (check, what, fix) = match loss.reason {
            "unknown_vni" => {
                let vni = last.and_then(|it| it.vni).map(|vni| vni.to_string());
                let with = vni.as_ref().map(|vni| format!(" with VNI {vni}"));
                let n = vni.unwrap_or_else(|| "N".to_owned());
                (
                    Check::VniUnknown,
                    format!(
                        "datagrams came with a VNI that no bridge has{from}{}",
                        with.unwrap_or_default()
                    ),
                    format!("tapswitch bridge set BRIDGE --vni {n}    # the same at both ends"),
                )
            }
            "unknown_peer" => {
                let ip = last.map_or("IP", |it| it.from.as_str());
                (
                    Check::PeerUnlisted,
                    format!("datagrams came from VTEPs that are no peers{from}"),
                    format!("tapswitch peer add {ip}    # or: tapswitch vtep set --accept any"),
                )
            }
            _ => {
                rest.push(loss.clone());
                continue;
            }
        };
        let count = loss.count;
        let severity = match (unanswered, count.grown > 0) {
            (true, _) => Severity::Broken,
            (false, true) => Severity::Warning,
            (false, false) => Severity::Note,
        };
        let lately = match count.grown {
            0 => "none while doctor was looking".to_owned(),
            grown => format!("{grown} while doctor was looking"),
        };
        let fact = format!("{} {what}, {lately}", count.total);
        notes.bad(check, severity, about, fact, [fix]);
    }
    let old = of_losses(notes, about, &rest);
    if !old.is_empty() {
        let fact = format!("dropped earlier: {}", old.join(", "));
        let fix = ["tapswitch vtep show".to_owned()];
        notes.bad(Check::DropsBefore, Severity::Note, about, fact, fix);
    }
}

fn one_peer(notes: &mut Notes, facts: &Facts, vtep: &VtepFacts, peer: &PeerFacts) {
    let ip = peer.to.ip();
    let about = format!("peer {ip}");
    let place = vtep.place();
    if let Some(why) = &peer.no_route {
        let fact = format!("no way to {ip}: {why}");
        let fix = [
            place.ip(format_args!("route get {ip}")),
            place.ip(format_args!("route add {ip} via GATEWAY")),
        ];
        notes.bad(Check::PeerNoRoute, Severity::Broken, &about, fact, fix);
        return;
    }
    match &peer.probe {
        Some(probe) if probe.rtt.is_some() => answered(notes, &about, peer, probe),
        Some(probe) => {
            if !is_silent_hop(notes, &about, vtep, peer) {
                unanswered(notes, facts, &about, peer, probe);
            }
        }
        None => {
            let how = match peer.is_met {
                true => "nobody lists it; it has sent",
                false => "not asked; it has sent",
            };
            let fact = format!("{how} {} frames", peer.rx.total);
            notes.ok(Check::Peer, &about, fact);
        }
    }
    let old = of_losses(notes, &about, &peer.losses);
    if !old.is_empty() {
        let fact = format!("dropped earlier: {}", old.join(", "));
        let fix = [format!("tapswitch peer show --bridge {}", peer.bridge)];
        notes.bad(Check::DropsBefore, Severity::Note, &about, fact, fix);
    }
}

/// Whether the machine itself, or the gateway to it, does not answer on the underlay.
fn is_silent_hop(notes: &mut Notes, about: &str, vtep: &VtepFacts, peer: &PeerFacts) -> bool {
    let (Some(around), Some(Way::Over { via, link, .. })) = (&vtep.around, &peer.way) else {
        return false;
    };
    let hop = via.unwrap_or(peer.to.ip());
    let failed = around.neighbours.iter().find(|known| {
        known.ip == hop && matches!(known.state, Reachability::Failed | Reachability::Incomplete)
    });
    let Some(failed) = failed else { return false };
    let fact = format!("{hop} answers no ARP on {link} ({})", failed.state);
    let fix = [vtep.place().run(format_args!("ping -c 1 {hop}"))];
    notes.bad(Check::PeerUnreachable, Severity::Broken, about, fact, fix);
    true
}

fn answered(notes: &mut Notes, about: &str, peer: &PeerFacts, probe: &Probe) {
    let (ip, bridge) = (peer.to.ip(), &peer.bridge);
    let rtt = probe.rtt.unwrap_or_default().as_secs_f64() * 1000.0;
    match probe.large {
        Some((bytes, false)) => {
            let fact = format!(
                "short frames come back in {rtt:.1} ms, frames of {bytes} bytes do not, though the \
                 path's MTU is {} for all the kernel knows",
                peer.path_mtu
            );
            let fix = [
                format!("tapswitch peer ping {ip} --sweep    # tells the MTU that fits"),
                format!("tapswitch bridge set {bridge} --mtu N"),
            ];
            notes.bad(Check::PathTooNarrow, Severity::Broken, about, fact, fix);
        }
        Some((bytes, true)) => {
            let fact = format!(
                "answers in {rtt:.1} ms, frames of {bytes} bytes too: mtu {}",
                bytes.saturating_sub(14)
            );
            notes.ok(Check::Peer, about, fact);
        }
        None => notes.ok(Check::Peer, about, format!("answers in {rtt:.1} ms")),
    }
}

fn unanswered(notes: &mut Notes, facts: &Facts, about: &str, peer: &PeerFacts, probe: &Probe) {
    let (ip, port, bridge) = (peer.to.ip(), peer.to.port(), &peer.bridge);
    let (other, other_says) = &probe.other;
    let is_there = matches!(probe.closed, Udp::Refused | Udp::Answered);
    let heard = peer.rx;
    let lately = peer.last_heard.filter(|age| *age <= PeerFacts::LATELY);
    match &probe.port {
        Udp::Unreachable(why) => {
            let fact = format!("{ip} cannot be reached: {why}");
            let fix = [format!("ping {ip}")];
            notes.bad(Check::PeerUnreachable, Severity::Broken, about, fact, fix);
        }
        Udp::Refused if is_there && matches!(other_says, Udp::Silent | Udp::Answered) => {
            let fact = format!("port {port} is closed there, and port {other} is not");
            let remote = match *other {
                VtepSpec::DEFAULT_PORT => ip.to_string(),
                other => std::net::SocketAddr::new(ip, other).to_string(),
            };
            let fix = [
                format!("tapswitch peer del {ip} --bridge {bridge}"),
                format!("tapswitch peer add {remote} --bridge {bridge}"),
            ];
            notes.bad(Check::PeerOtherPort, Severity::Broken, about, fact, fix);
        }
        Udp::Refused => {
            let perhaps = match other_says {
                Udp::Silent => format!(
                    "; of port {other} nothing is known, since hosts send only so many ICMP errors"
                ),
                _ => String::new(),
            };
            let fact =
                format!("{ip} is there, and nothing listens on its UDP port {port}{perhaps}");
            let fix = [format!(
                "tapswitch vtep set --local {ip} --port {port}    # on {ip}"
            )];
            notes.bad(Check::PeerPortClosed, Severity::Broken, about, fact, fix);
        }
        _ if heard.grown > 0 && !is_looked_for(facts) => {
            let fact = format!(
                "{} frames came from it just now; it answers no probes",
                heard.grown
            );
            notes.ok(Check::Peer, about, fact);
        }
        _ if lately.is_some() && !is_looked_for(facts) => {
            let age = lately.unwrap_or_default().as_secs_f64();
            let fact = format!(
                "a frame came from it {age:.1} s ago; it answers no probes, like any VTEP that is no \
                 tapswitch"
            );
            notes.ok(Check::Peer, about, fact);
        }
        _ if is_there || heard.total > 0 => no_vxlan(notes, facts, about, peer, is_there),
        _ => {
            let fact = format!("nothing comes back from {ip}, neither VXLAN nor an ICMP error");
            let fix = [format!("ping {ip}")];
            notes.bad(Check::PeerSilent, Severity::Broken, about, fact, fix);
        }
    }
}

/// VXLAN does not come back, and nobody says why.
fn no_vxlan(notes: &mut Notes, facts: &Facts, about: &str, peer: &PeerFacts, is_there: bool) {
    let (ip, port) = (peer.to.ip(), peer.to.port());
    let heard = peer.rx;
    let severity = match heard.total > 0 && !is_looked_for(facts) {
        // Silent, as VTEPs are that nobody talks to.
        true => Severity::Note,
        false => Severity::Warning,
    };
    let (vni, total) = (peer.vni, heard.total);
    let what = match is_there {
        true => format!("UDP gets to {ip}, VXLAN does not come back"),
        false => format!(
            "nothing comes back from {ip}, neither VXLAN nor an ICMP error, of which hosts \
             send only so many"
        ),
    };
    let ever = match peer.last_heard {
        None => format!("{total} frames ever came from it"),
        Some(age) => {
            format!(
                "{total} frames came from it, the last {:.1} s ago",
                age.as_secs_f64()
            )
        }
    };
    let fact = format!(
        "{what}, and {ever}: a filter on port {port}, no VNI {vni} there, this host is not \
         listed there, or it is no tapswitch"
    );
    let fix = [
        format!("tapswitch peer show    # on {ip}"),
        format!("iptables -S | grep {port}    # on {ip} and between"),
    ];
    notes.bad(Check::VxlanUnanswered, severity, about, fact, fix);
}

/// Whether somebody wants to get to an address that nobody has answered for.
fn is_looked_for(facts: &Facts) -> bool {
    let from = facts.scope.from().and_then(|name| facts.port(name));
    let is_known = |path: &PathFacts| {
        let known = from.and_then(|from| from.neighbour(path.next_hop()));
        known.is_some_and(|known| known.state.is_usable())
    };
    !facts.paths.iter().all(is_known)
}

/// Whether the ports let pass what the paths do not take.
fn mtu(notes: &mut Notes, facts: &Facts, bridge: &BridgeFacts, peers: &[&PeerFacts]) {
    let reachable = peers.iter().filter(|peer| peer.no_route.is_none());
    let Some(narrowest) = reachable.min_by_key(|peer| peer.mtu) else {
        return;
    };
    let name = &bridge.spec.name;
    let about = format!("bridge {name}");
    let wide = facts.ports.iter().filter_map(|port| {
        let mtu = port.seen()?.view.link.mtu;
        (port.spec.bridge == *name && mtu > narrowest.mtu).then_some((mtu, port))
    });
    let Some((mtu, port)) = wide.max_by_key(|(mtu, _)| *mtu) else {
        return;
    };
    let fact = format!(
        "{} has mtu {mtu}, and the path to {} takes {} = {} - {}",
        port.spec.name,
        narrowest.to.ip(),
        narrowest.mtu,
        narrowest.path_mtu,
        narrowest.path_mtu.saturating_sub(narrowest.mtu),
    );
    let fits = narrowest.mtu;
    let auto = Some(bridge.auto_mtu).filter(|auto| *auto <= fits);
    // Somebody inside has changed it: that is to be undone, if it would do.
    let given = port.spec.mtu.unwrap_or(bridge.mtu);
    let undo = notes.fix_of(Check::MtuChanged, &port.about());
    let undo = undo.filter(|_| given <= fits);
    let fix = undo.unwrap_or_else(|| vec![lower_mtu(&bridge.spec, &port.spec, fits, auto)]);
    notes.bad(Check::MtuOverPath, Severity::Warning, &about, fact, fix);
}
