//! How one network spans two machines: each switch puts what is for the other into UDP datagrams.
//!
//! Run: `cargo run --example 12_two_nodes` (no root)
//!
//! ```text
//! podA pings podC on the other node:
//!   0.000000  node 1, from podA: arp who-has 192.0.2.3 tell 192.0.2.1 (42 bytes); broadcast: flooded to podB, node 2; learned 02:00:00:00:00:01 on podA
//!   0.000000  underlay: udp 198.51.100.1 > 198.51.100.2:4789, 92 bytes; in it: arp who-has 192.0.2.3 tell 192.0.2.1
//!   0.000010  node 2, from node 1: arp who-has 192.0.2.3 tell 192.0.2.1 (42 bytes); broadcast: flooded to podC, podD; learned 02:00:00:00:00:01 on node 1
//!   0.000020  node 2, from podC: arp 192.0.2.3 is-at 02:00:00:00:00:03 (42 bytes); known: forwarded to node 1; learned 02:00:00:00:00:03 on podC
//!   0.000020  underlay: udp 198.51.100.2 > 198.51.100.1:4789, 92 bytes; in it: arp 192.0.2.3 is-at 02:00:00:00:00:03
//!   0.000030  node 1, from node 2: arp 192.0.2.3 is-at 02:00:00:00:00:03 (42 bytes); known: forwarded to podA; learned 02:00:00:00:00:03 on node 2
//!   0.000040  node 1, from podA: icmp 192.0.2.1 > 192.0.2.3 echo request 1 (98 bytes); known: forwarded to node 2
//!   0.000040  underlay: udp 198.51.100.1 > 198.51.100.2:4789, 148 bytes; in it: icmp 192.0.2.1 > 192.0.2.3 echo request 1
//!   0.000050  node 2, from node 1: icmp 192.0.2.1 > 192.0.2.3 echo request 1 (98 bytes); known: forwarded to podC
//!   0.000060  node 2, from podC: icmp 192.0.2.3 > 192.0.2.1 echo reply 1 (98 bytes); known: forwarded to node 1
//!   0.000060  underlay: udp 198.51.100.2 > 198.51.100.1:4789, 148 bytes; in it: icmp 192.0.2.3 > 192.0.2.1 echo reply 1
//!   0.000070  node 1, from node 2: icmp 192.0.2.3 > 192.0.2.1 echo reply 1 (98 bytes); known: forwarded to podA
//!   answered after 80µs
//!
//! and once more:
//!   0.000090  node 1, from podA: icmp 192.0.2.1 > 192.0.2.3 echo request 2 (98 bytes); known: forwarded to node 2
//!   0.000090  underlay: udp 198.51.100.1 > 198.51.100.2:4789, 148 bytes; in it: icmp 192.0.2.1 > 192.0.2.3 echo request 2
//!   0.000100  node 2, from node 1: icmp 192.0.2.1 > 192.0.2.3 echo request 2 (98 bytes); known: forwarded to podC
//!   0.000110  node 2, from podC: icmp 192.0.2.3 > 192.0.2.1 echo reply 2 (98 bytes); known: forwarded to node 1
//!   0.000110  underlay: udp 198.51.100.2 > 198.51.100.1:4789, 148 bytes; in it: icmp 192.0.2.3 > 192.0.2.1 echo reply 2
//!   0.000120  node 1, from node 2: icmp 192.0.2.3 > 192.0.2.1 echo reply 2 (98 bytes); known: forwarded to podA
//!   answered after 40µs
//!
//! node 1 knows
//!   02:00:00:00:00:01 behind podA
//!   02:00:00:00:00:03 behind the other node
//! node 2 knows
//!   02:00:00:00:00:01 behind the other node
//!   02:00:00:00:00:03 behind podC
//!
//! What fits:
//!   1450 bytes: 1514 on the underlay
//!   1451 bytes: too long for podA's MTU
//! ```

use tapswitch::{
    bridge::Egress,
    sim::{Nodes, Scene, frames},
};

fn main() {
    // Two switches, each with two hosts, and nothing between them but datagrams. For the hosts it
    // is one network: podA and podC have addresses of one subnet.
    let mut nodes = Nodes::new(&[&["podA", "podB"], &["podC", "podD"]]);
    nodes.tell(100);

    for what in ["podA pings podC on the other node", "and once more"] {
        println!("{what}:");
        let pong = nodes.ping(0, frames::ip(3).into());
        for scene in nodes.story() {
            println!("  {scene}");
        }
        match pong {
            Some(pong) => println!("  answered after {:?}\n", pong.round_trip),
            None => println!("  no answer\n"),
        }
    }

    for (node, network) in nodes.networks.iter().enumerate() {
        println!("node {} knows", node + 1);
        for (key, entry) in network.lab.entries() {
            match entry.egress {
                Egress::Port(port) => println!("  {} behind {}", key.mac(), network.lab.name(port)),
                Egress::Peer(_) => println!("  {} behind the other node", key.mac()),
            }
        }
    }

    // A packet has an IPv4 header of 20 bytes and an ICMP header of 8 around what ping is told.
    println!("\nWhat fits:");
    for len in [1450, 1451] {
        let pong = nodes.ping_with(0, frames::ip(3).into(), len - 28);
        let story = nodes.story();
        let crossings = story.iter().filter_map(Scene::crossing);
        match crossings.map(|crossing| crossing.len).max() {
            Some(outer) if pong.is_some() => println!("  {len} bytes: {outer} on the underlay"),
            _ => println!("  {len} bytes: too long for podA's MTU"),
        }
    }
    nodes.assert_accounted();
}
