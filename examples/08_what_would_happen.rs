//! What would become of a frame, before it is sent; and that it then really becomes of it.
//!
//! A prediction that is computed elsewhere can be wrong. This one is the switch itself, played on a
//! copy: the same function decides.
//!
//! Run: `cargo run --example 08_what_would_happen` (no root)
//!
//! ```text
//! Nobody has spoken yet:
//! icmp 192.0.2.1 > 192.0.2.2 echo request 1, in 98 bytes
//!   1. parse    02:00:00:00:00:01 > 02:00:00:00:00:02, untagged, IPv4
//!   2. source   02:00:00:00:00:01 is the address of a station; podA is up
//!   3. learn    02:00:00:00:00:01 is new on podA; the FDB has 0 of 8192
//!   4. look-up  br0 has no FDB row for 02:00:00:00:00:02, vlan -: unknown unicast
//!   5. flood    unknown unicast, to podB and podC; not to podA (it came from there)
//!   6. offload  nothing to do: every copy leaves as it came
//!   7. mtu      fits podB (MTU 1500) and podC (MTU 1500)
//!   8. deliver  podB: delivered, 98 bytes
//!   9. deliver  podC: delivered, 98 bytes
//! => sent: it reaches podB and podC, as foreseen
//!
//! podB has answered:
//! icmp 192.0.2.1 > 192.0.2.2 echo request 1, in 98 bytes
//!   1. parse    02:00:00:00:00:01 > 02:00:00:00:00:02, untagged, IPv4
//!   2. source   02:00:00:00:00:01 is the address of a station; podA is up
//!   3. learn    02:00:00:00:00:01 is known on podA, seen 0.0 s ago
//!   4. look-up  FDB row br0 02:00:00:00:00:02 vlan - podB learned, seen 0.0 s ago
//!   5. forward  to podB, and nowhere else
//!   6. offload  nothing to do: every copy leaves as it came
//!   7. mtu      fits podB (MTU 1500)
//!   8. deliver  podB: delivered, 98 bytes
//! => sent: it reaches podB, as foreseen
//!
//! Both are isolated from each other:
//! icmp 192.0.2.1 > 192.0.2.2 echo request 1, in 98 bytes
//!   1. parse    02:00:00:00:00:01 > 02:00:00:00:00:02, untagged, IPv4
//!   2. source   02:00:00:00:00:01 is the address of a station; podA is up
//!   3. learn    02:00:00:00:00:01 is known on podA, seen 0.0 s ago
//!   4. look-up  FDB row br0 02:00:00:00:00:02 vlan - podB learned, seen 0.0 s ago
//!   5. drop     isolated: its ingress and egress ports are both isolated
//! => sent: it reaches nobody, as foreseen
//!
//! podC's port is locked, and somebody there claims to be podA:
//! icmp 192.0.2.1 > 192.0.2.2 echo request 1, in 98 bytes
//!   1. parse    02:00:00:00:00:01 > 02:00:00:00:00:02, untagged, IPv4
//!   2. drop     locked: its ingress port is locked and the source is not in the FDB there
//! => sent: it reaches nobody, as foreseen
//! ```

use tapswitch::{
    bridge::{PortFlags, PortId},
    sim::{Lab, frames},
};

fn main() {
    let (mut lab, [a, b, c]) = Lab::switch(["podA", "podB", "podC"]);
    let echo = frames::packet(1, "icmp 192.0.2.2").frame;

    println!("Nobody has spoken yet:");
    foresee(&mut lab, a, &echo);

    println!("podB has answered:");
    lab.relay(b, &frames::packet(2, "icmp 192.0.2.1").frame);
    foresee(&mut lab, a, &echo);

    println!("Both are isolated from each other:");
    lab.set_flag(a, PortFlags::ISOLATED, true);
    lab.set_flag(b, PortFlags::ISOLATED, true);
    foresee(&mut lab, a, &echo);

    println!("podC's port is locked, and somebody there claims to be podA:");
    lab.set_flag(c, PortFlags::LOCKED, true);
    foresee(&mut lab, c, &echo);
    lab.assert_accounted();
}

/// Tells what would become of a frame, then sends it, and compares.
fn foresee(lab: &mut Lab, port: PortId, frame: &[u8]) {
    let before = lab.frames();
    println!("{}", lab.trace(port, frame));
    let rehearsal = lab.rehearse(port, frame);
    assert_eq!(lab.frames(), before, "nothing was sent");

    let foreseen: Vec<_> = rehearsal
        .copies
        .iter()
        .filter_map(|copy| copy.to.port())
        .collect();
    let reached = lab.relay(port, frame);
    assert_eq!(reached, foreseen);
    let names: Vec<_> = reached.iter().map(|&port| lab.name(port)).collect();
    match names[..] {
        [] => println!("=> sent: it reaches nobody, as foreseen\n"),
        _ => println!("=> sent: it reaches {}, as foreseen\n", names.join(" and ")),
    }
}
