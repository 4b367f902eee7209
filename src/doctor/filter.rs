//! What a namespace itself drops: firewall rules, and settings that keep it from answering.

use super::{
    facts::{PortFacts, Seen},
    finding::{Check, Notes, Severity, Step},
    place::{Place, is_nft_name, sysctl_key, word},
};
use crate::netlink::{Dropping, Hook, Netfilter};

/// Judges the namespace of a port.
pub(super) fn of_port(notes: &mut Notes, port: &PortFacts, seen: &Seen) {
    let (about, place) = (port.about(), port.place());
    let Seen { view, dropped, .. } = seen;
    let ifname = &view.link.name;
    rules(notes, &about, place, &view.netfilter, dropped);
    if view.sysctls.arp_ignore >= 8 {
        let fix = [
            place.sysctl(&sysctl_key("ipv4", ifname, "arp_ignore"), 0),
            place.sysctl("net.ipv4.conf.all.arp_ignore", 0),
        ];
        let fact = "arp_ignore is 8: it answers no ARP request";
        notes.bad(Check::ArpIgnored, Severity::Broken, &about, fact, fix);
    }
    if view.sysctls.ignores_ping {
        let fix = [place.sysctl("net.ipv4.icmp_echo_ignore_all", 0)];
        let fact = "icmp_echo_ignore_all is 1: it answers no ping";
        notes.bad(Check::PingIgnored, Severity::Warning, &about, fact, fix);
    }
    if view.netfilter.rules == 0 && notes.is_sound(Step::Filter, &about) {
        notes.ok(Check::Filter, &about, "no firewall rules inside");
    }
}

fn rules(notes: &mut Notes, about: &str, place: Place<'_>, all: &Netfilter, grown: &[u64]) {
    // What a namespace forwards is not about itself.
    let concerns = |drop: &Dropping| {
        !matches!(drop.hook, Some(Hook::Forward)) && !matches!(drop.family, "bridge" | "netdev")
    };
    let grown = grown.iter().copied().chain(std::iter::repeat(0));
    let drops = all.drops.iter().zip(grown);
    let worst = drops
        .filter(|(drop, _)| concerns(drop))
        .map(|(drop, grown)| (severity(drop, grown, all.rules), grown, drop))
        .max_by_key(|(severity, grown, _)| (*severity, *grown));
    if let Some((severity, grown, drop)) = worst {
        let fact = match grown {
            0 => describe(drop),
            grown => format!(
                "{}; {grown} packets while doctor was looking",
                describe(drop)
            ),
        };
        notes.bad(
            Check::FilterDrops,
            severity,
            about,
            fact,
            [undo(place, drop)],
        );
    } else if all.rules > 0 || !all.legacy.is_empty() {
        let legacy = match all.legacy.as_slice() {
            [] => String::new(),
            tables => format!(
                "; tables of the old iptables: {} (their rules were not read)",
                tables.join(", ")
            ),
        };
        let fact = format!("{} rules, of which none drops{legacy}", all.rules);
        let fix = [place.run("iptables -S")];
        notes.bad(Check::FilterRules, Severity::Note, about, fact, fix);
    }
}

/// What comes after other rules may never meet a packet that matters.
fn severity(drop: &Dropping, grown: u64, rules: usize) -> Severity {
    let is_first = match drop.number {
        Some(number) => number == 1,
        None => rules == 0,
    };
    let packets = grown + drop.packets.unwrap_or(0);
    if is_first && !drop.is_conditional && drop.hook.is_some() {
        Severity::Broken
    } else if packets > 0 {
        Severity::Warning
    } else {
        Severity::Note
    }
}

/// A rule in words: `rule 1 of chain INPUT (ip filter) drops udp ... ; 12 packets so far`.
pub(super) fn describe(drop: &Dropping) -> String {
    let Dropping {
        family,
        table,
        chain,
        ..
    } = drop;
    let what = match drop.number {
        Some(number) => format!("rule {number} of chain {chain} ({family} {table})"),
        None => format!("the policy of chain {chain} ({family} {table})"),
    };
    let which = if drop.is_conditional {
        "some packets"
    } else {
        "every packet"
    };
    let packets = match drop.packets {
        Some(packets) => format!(", {packets} so far"),
        None => String::new(),
    };
    format!("{what} drops {which}{packets}")
}

/// The command that takes a rule away.
pub(super) fn undo(place: Place<'_>, drop: &Dropping) -> String {
    let Dropping {
        family,
        table,
        chain,
        handle,
        ..
    } = drop;
    let program = match *family {
        "ip" => Some("iptables"),
        "ip6" => Some("ip6tables"),
        _ => None,
    };
    let is_iptables = matches!(
        table.as_str(),
        "filter" | "mangle" | "raw" | "nat" | "security"
    );
    let command = match (program.filter(|_| is_iptables), drop.number) {
        (Some(program), Some(number)) => {
            format!("{program} -t {table} -D {} {number}", word(chain))
        }
        (Some(program), None) => format!("{program} -t {table} -P {} ACCEPT", word(chain)),
        (None, _) if !is_nft_name(table) || !is_nft_name(chain) => "nft -a list ruleset".to_owned(),
        (None, Some(_)) => format!("nft delete rule {family} {table} {chain} handle {handle}"),
        (None, None) => format!("nft chain {family} {table} {chain} '{{ policy accept; }}'"),
    };
    place.run(command)
}
