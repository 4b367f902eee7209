//! What happens when somebody floods a switch with made-up addresses.
//!
//! A switch that learns without limit runs out of memory; one with a plain limit stops learning
//! honest hosts, and everything for them is flooded, where the attacker can read it. Fairness takes
//! the room from the port that has most.
//!
//! Run: `cargo run --example 06_fdb_limits` (no root)
//!
//! ```text
//! at the limit: Refuse
//!   attacker   64 addresses
//!   podB        0 addresses
//!   podC        0 addresses
//!   podC's frame for podB reached attacker and podB
//!   refused 9939, evicted 0
//!
//! at the limit: Fair
//!   attacker   62 addresses
//!   podB        1 addresses
//!   podC        1 addresses
//!   podC's frame for podB reached podB
//!   refused 9936, evicted 2
//! ```

use std::time::Duration;

use tapswitch::{
    bridge::Egress,
    config::AtLimit,
    sim::{Lab, frames},
};

fn main() {
    for at_limit in [AtLimit::Refuse, AtLimit::Fair] {
        let mut spec = Lab::spec("br0");
        (spec.fdb_limit, spec.at_limit) = (64, at_limit);
        let (mut lab, [attacker, podb, podc]) =
            Lab::with_bridge(spec, ["attacker", "podB", "podC"]);
        let mac = frames::mac;

        for n in 0..10_000 {
            lab.relay(attacker, &frames::broadcast(mac(1000 + n)));
            lab.advance(Duration::from_millis(1));
        }
        // Two honest hosts come later and talk to each other.
        lab.relay(podb, &frames::broadcast(mac(2)));
        lab.relay(podc, &frames::broadcast(mac(3)));
        let reached = lab.relay(podc, &frames::unicast(mac(3), mac(2)));

        println!("at the limit: {at_limit:?}");
        for port in [attacker, podb, podc] {
            let entries = lab.entries();
            let here = entries
                .iter()
                .filter(|(_, entry)| entry.egress == Egress::Port(port));
            println!("  {:<10}{:>3} addresses", lab.name(port), here.count());
        }
        let names: Vec<_> = reached.iter().map(|&port| lab.name(port)).collect();
        println!("  podC's frame for podB reached {}", names.join(" and "));
        let counters = lab.fdb().counters();
        println!(
            "  refused {}, evicted {}\n",
            counters.refused_full, counters.evicted
        );
        lab.assert_accounted();
    }
}
