//! Why the first ping is slow: the sender has to ask for an address first, and everybody hears it.
//!
//! Run: `cargo run --example 03_arp_and_flooding` (no root)
//!
//! ```text
//! podA pings 192.0.2.2
//!   1   0.000000  podA -> switch  arp who-has 192.0.2.2 tell 192.0.2.1   broadcast: flooded to podB, podC; learned 02:00:00:00:00:01 on podA
//!   2   0.000010  podB -> switch  arp 192.0.2.2 is-at 02:00:00:00:00:02   known: forwarded to podA; learned 02:00:00:00:00:02 on podB
//!   3   0.000020  podA -> switch  icmp 192.0.2.1 > 192.0.2.2 echo request 1   known: forwarded to podB
//!   4   0.000030  podB -> switch  icmp 192.0.2.2 > 192.0.2.1 echo reply 1   known: forwarded to podA
//!   answered after 40µs
//!
//! podA pings 192.0.2.2
//!   5   0.000050  podA -> switch  icmp 192.0.2.1 > 192.0.2.2 echo request 2   known: forwarded to podB
//!   6   0.000060  podB -> switch  icmp 192.0.2.2 > 192.0.2.1 echo reply 2   known: forwarded to podA
//!   answered after 20µs
//!
//! podA pings 2001:db8::2
//!   7   1.000080  podA -> switch  icmp6 2001:db8::1 > ff02::1:ff00:2 neighbour solicitation, who has 2001:db8::2   multicast: flooded to podB, podC
//!   8   1.000090  podB -> switch  icmp6 2001:db8::2 > 2001:db8::1 neighbour advertisement, 2001:db8::2 is here   known: forwarded to podA
//!   9   1.000100  podA -> switch  icmp6 2001:db8::1 > 2001:db8::2 echo request 3   known: forwarded to podB
//!   10  1.000110  podB -> switch  icmp6 2001:db8::2 > 2001:db8::1 echo reply 3   known: forwarded to podA
//!   answered after 40µs
//!
//! podA pings 2001:db8::2
//!   11  1.000130  podA -> switch  icmp6 2001:db8::1 > 2001:db8::2 echo request 4   known: forwarded to podB
//!   12  1.000140  podB -> switch  icmp6 2001:db8::2 > 2001:db8::1 echo reply 4   known: forwarded to podA
//!   answered after 20µs
//!
//! Copies that reached each host:
//!   podA: 6
//!   podB: 6
//!   podC: 2
//! ```

use std::{net::IpAddr, time::Duration};

use tapswitch::sim::{Network, frames};

fn main() {
    // Three hosts with real IP stacks on one switch, and a clock that only moves with the frames.
    let mut network = Network::new(["podA", "podB", "podC"]);
    let log = network.lab.tell(100);

    // First over IPv4, where ARP asks for addresses, then over IPv6, where neighbour discovery does.
    for to in [IpAddr::from(frames::ip(2)), IpAddr::from(frames::ip6(2))] {
        for _ in 0..2 {
            println!("podA pings {to}");
            let pong = network.ping(0, to);
            for sentence in log.take() {
                println!("  {sentence}");
            }
            match pong {
                Some(pong) => println!("  answered after {:?}\n", pong.round_trip),
                None => println!("  no answer\n"),
            }
        }
        network.run_for(Duration::from_secs(1));
    }

    println!("Copies that reached each host:");
    for &port in &network.ports {
        let totals = network.lab.totals(port);
        println!("  {}: {}", network.lab.name(port), totals.tx_frames);
    }
    network.lab.assert_accounted();
}
