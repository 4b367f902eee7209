//! How a switch learns where everybody is, by looking at who sends.
//!
//! Run: `cargo run --example 02_learning_bridge` (no root)
//!
//! ```text
//! 1   0.000010  podA -> switch  ethertype 0x88b5, 46 bytes   02:00:00:00:00:02 is unknown: flooded to podB, podC; learned 02:00:00:00:00:01 on podA
//!         FDB: 02:00:00:00:00:01 is behind podA
//! 2   0.000020  podB -> switch  ethertype 0x88b5, 46 bytes   known: forwarded to podA; learned 02:00:00:00:00:02 on podB
//!         FDB: 02:00:00:00:00:01 is behind podA
//!         FDB: 02:00:00:00:00:02 is behind podB
//! 3   0.000030  podA -> switch  ethertype 0x88b5, 46 bytes   known: forwarded to podB
//!         FDB: 02:00:00:00:00:01 is behind podA
//!         FDB: 02:00:00:00:00:02 is behind podB
//! 4   0.000040  podC -> switch  ethertype 0x88b5, 46 bytes   broadcast: flooded to podA, podB; 02:00:00:00:00:01 moved from podA to podC
//!         FDB: 02:00:00:00:00:01 is behind podC
//!         FDB: 02:00:00:00:00:02 is behind podB
//! 5   0.000050  podB -> switch  ethertype 0x88b5, 46 bytes   known: forwarded to podC
//!         FDB: 02:00:00:00:00:01 is behind podC
//!         FDB: 02:00:00:00:00:02 is behind podB
//! 400 s later: 0 entries
//! ```

use std::time::Duration;

use tapswitch::sim::{Lab, frames};

fn main() {
    let (mut lab, [a, b, c]) = Lab::switch(["podA", "podB", "podC"]);
    let log = lab.tell(100);
    let mac = frames::mac;

    for (port, frame) in [
        // Nobody knows host 2 yet, so everybody gets the frame.
        (a, frames::unicast(mac(1), mac(2))),
        // The answer: host 1 is known, and now host 2 as well.
        (b, frames::unicast(mac(2), mac(1))),
        (a, frames::unicast(mac(1), mac(2))),
        // Host 1 is plugged in elsewhere. The switch follows with its first frame.
        (c, frames::broadcast(mac(1))),
        (b, frames::unicast(mac(2), mac(1))),
    ] {
        lab.advance(Duration::from_micros(10));
        lab.relay(port, &frame);
        for sentence in log.take() {
            println!("{sentence}");
        }
        for (key, entry) in lab.entries() {
            let port = entry.egress.port().map_or("?", |port| lab.name(port));
            println!("        FDB: {} is behind {port}", key.mac());
        }
    }

    lab.advance(Duration::from_secs(400));
    println!("400 s later: {} entries", lab.entries().len());
    lab.assert_accounted();
}
