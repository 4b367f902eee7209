//! What a lossy cable does to TCP. One thing is measured, in virtual time: the same figures on every
//! machine and on every run.
//!
//! The cable itself is infinitely fast here, so all that costs time is the round trip of 20 us, and
//! waiting: for a window to open, and for a timer where a segment got lost. These hosts (smoltcp's)
//! do no congestion control.
//!
//! Run: `cargo run --example 10_tcp_and_loss` (no root)
//!
//! ```text
//! 2000000 bytes of TCP from podA to podB, whose cable loses frames:
//!
//! loses                    took    lost    Mbit/s
//! nothing               0.99 ms       0   16161.6
//! 1 in 200             11.09 ms       9    1442.7
//! 1 in 100              1.21 ms      21   13223.1
//! 1 in 50            3001.45 ms      52       5.3
//! 1 in 20           10002.04 ms     174       1.6
//! 1 in 10           26012.55 ms     384       0.6
//! ```

use std::time::Duration;

use tapswitch::sim::{Network, frames};

const BYTES: usize = 2_000_000;

fn main() {
    println!("{BYTES} bytes of TCP from podA to podB, whose cable loses frames:\n");
    println!("{:<16}{:>13}{:>8}{:>10}", "loses", "took", "lost", "Mbit/s");
    for one_in in [0, 200, 100, 50, 20, 10] {
        let mut network = Network::new(["podA", "podB"]);
        let cable = network.lab.io(network.ports[1]);
        cable.lose(one_in, 42);

        let took = transfer(&mut network, Duration::from_secs(600));

        let loses = match one_in {
            0 => "nothing".to_owned(),
            _ => format!("1 in {one_in}"),
        };
        let Some(took) = took else {
            println!("{loses:<16}{:>13}{:>8}", "-", cable.lost());
            continue;
        };
        let rate = BYTES as f64 * 8.0 / took.as_secs_f64() / 1e6;
        println!(
            "{loses:<16}{:>10.2} ms{:>8}{rate:>10.1}",
            took.as_secs_f64() * 1e3,
            cable.lost()
        );
        // What is lost on a cable, the switch has sent: its own books are in order.
        network.lab.assert_accounted();
    }
}

/// Sends all bytes from the first host to the second; how long it took, if it came to an end.
fn transfer(network: &mut Network, patience: Duration) -> Option<Duration> {
    let data: Vec<u8> = (0..BYTES).map(|n| n.to_le_bytes()[0]).collect();
    let server = network.hosts[1].tcp_listen(80);
    let client = network.hosts[0].tcp_connect(frames::ip(2).into(), 80);
    let (start, mut sent, mut received) = (network.lab.now(), 0, Vec::new());
    let done = network.run_until(patience, |network| {
        sent += network.hosts[0].tcp_send(client, &data[sent..]);
        received.extend(network.hosts[1].tcp_receive(server));
        received.len() == BYTES
    });
    assert!(
        !done || received == data,
        "TCP lets nothing through that was not sent"
    );
    done.then(|| network.lab.now().since(start))
}
