//! The most frequent mistake with overlays: pods whose MTU is that of the wire. Small packets pass,
//! large ones do not, and what happens then depends on who listens to ICMP.
//!
//! Run: `cargo run --example 13_too_big` (no root)
//!
//! ```text
//! What a path of 1500 bytes leaves: 1500 - 20 (outer IPv4) - 8 (UDP) - 8 (VXLAN) - 14 (inner Ethernet) = 1450
//!
//! podA pings podB on the other node. Both have an MTU of 1500:
//!   a packet of 1400 bytes: answered
//!   a packet of 1450 bytes: answered
//!   a packet of 1451 bytes: nothing comes back
//!   a packet of 1500 bytes: nothing comes back
//!
//! The switch tells the sender why (RFC 1191 §4), which has to listen:
//!   to podA: icmp 192.0.2.2 > 192.0.2.1 destination unreachable
//!     next-hop MTU: 1450
//!   to podA: icmp 192.0.2.2 > 192.0.2.1 destination unreachable
//!     next-hop MTU: 1450
//!
//! These hosts do not listen. So TCP connects, since that takes small packets only, and
//! then hangs for ever: a black hole.
//!   pods' MTU 1500: connected: true, 0 of 100000 bytes in 10 s
//!   pods' MTU 1450: connected: true, 100000 of 100000 bytes in 10 s
//! ```

use std::{error::Error, time::Duration};

use tapswitch::{
    datapath::capture::Side,
    dissect::{Options, arithmetic, dissect},
    sim::{Lab, Nodes, captured, frames},
    wire::describe,
};

fn main() -> Result<(), Box<dyn Error>> {
    let fit = arithmetic(1500, false, &[], 0);
    let less: Vec<_> = fit
        .less
        .iter()
        .map(|(what, len)| format!("{len} ({what})"))
        .collect();
    println!(
        "What a path of 1500 bytes leaves: 1500 - {} = {}\n",
        less.join(" - "),
        fit.mtu
    );
    println!("podA pings podB on the other node. Both have an MTU of 1500:");
    let mut nodes = Nodes::with_mtu(1500, &[&["podA"], &["podB"]]);
    let (id, reader) = nodes.networks[0].lab.capture(Lab::rules("icmp"));
    // The IPv4 header has 20 bytes and that of ICMP 8.
    for len in [1400, 1450, 1451, 1500] {
        let pong = nodes.ping_with(0, frames::ip(2).into(), len - 28);
        let outcome = if pong.is_some() {
            "answered"
        } else {
            "nothing comes back"
        };
        println!("  a packet of {len} bytes: {outcome}");
    }

    println!("\nThe switch tells the sender why (RFC 1191 §4), which has to listen:");
    nodes.networks[0].lab.end_capture(id);
    // What nobody sent came from the switch itself.
    let caught = captured(&reader);
    let own = caught
        .iter()
        .filter(|(record, _)| record.side == Side::Out && record.from.is_none());
    for (_, frame) in own {
        println!("  to podA: {}", describe(frame));
        let layers = dissect(frame, &Options::default()).layers;
        let fields = layers.iter().flat_map(|layer| &layer.fields);
        for field in fields.filter(|field| field.name.contains("MTU")) {
            println!("    {}: {}", field.name, field.value);
        }
    }

    println!(
        "\nThese hosts do not listen. So TCP connects, since that takes small packets only, and"
    );
    println!("then hangs for ever: a black hole.");
    for mtu in [1500, 1450] {
        let mut nodes = Nodes::with_mtu(mtu, &[&["podA"], &["podB"]]);
        let (opened, came) = transfer(&mut nodes);
        println!("  pods' MTU {mtu}: connected: {opened}, {came} of 100000 bytes in 10 s");
        nodes.assert_accounted();
    }
    Ok(())
}

/// Sends 100,000 bytes of TCP; whether the connection opened, and what came within ten seconds.
fn transfer(nodes: &mut Nodes) -> (bool, usize) {
    let data = vec![0x5a; 100_000];
    let server = nodes.host(1).tcp_listen(80);
    let client = nodes.host(0).tcp_connect(frames::ip(2).into(), 80);
    let (mut sent, mut received) = (0, 0);
    nodes.run_until(Duration::from_secs(10), |nodes| {
        sent += nodes.host(0).tcp_send(client, &data[sent..]);
        received += nodes.host(1).tcp_receive(server).len();
        received == data.len()
    });
    (sent > 0, received)
}
