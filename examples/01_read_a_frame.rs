//! What the bytes of an Ethernet frame mean, and why a switch reads so few of them.
//!
//! Run: `cargo run --example 01_read_a_frame` (no root)
//!
//! ```text
//! 46 bytes on the wire:
//!   02 00 00 00 00 02   destination: whom it is for
//!   02 00 00 00 00 01   source: who sent it; this is what a switch learns
//!   81 00 00 0a         a VLAN tag: VLAN 10
//!   08 00               type: 0x0800, IPv4
//!   28 more bytes       payload: the switch never looks at them
//!
//! A switch sees:  02:00:00:00:00:01 -> 02:00:00:00:00:02 in VLAN 10
//! A person sees:  vlan 10, udp 192.0.2.1:1000 > 192.0.2.2:2000, 0 bytes
//!
//! ff:ff:ff:ff:ff:ff   group: true   broadcast: true   reserved: None
//! 33:33:00:00:00:01   group: true   broadcast: false  reserved: None
//! 01:80:c2:00:00:0e   group: true   broadcast: false  reserved: Some(14)
//! 02:00:00:00:00:01   group: false  broadcast: false  reserved: None
//!
//! Cut after 17 bytes: frame has 17 bytes, its Ethernet header needs 18
//! ```

use tapswitch::{
    sim::frames,
    wire::{Frame, MacAddr, describe},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = frames::tagged(&frames::udp4(1, 2, b""), 10);
    let hex = |range: std::ops::Range<usize>| {
        let octets: Vec<_> = bytes[range].iter().map(|b| format!("{b:02x}")).collect();
        octets.join(" ")
    };
    println!("{} bytes on the wire:", bytes.len());
    println!("  {:<18}  destination: whom it is for", hex(0..6));
    println!(
        "  {:<18}  source: who sent it; this is what a switch learns",
        hex(6..12)
    );
    println!("  {:<18}  a VLAN tag: VLAN 10", hex(12..16));
    println!("  {:<18}  type: 0x0800, IPv4", hex(16..18));
    println!(
        "  {:<18}  payload: the switch never looks at them",
        format!("{} more bytes", bytes.len() - 18)
    );

    // Checked once; after that no accessor can fail.
    let frame = Frame::new_checked(&bytes)?;
    println!(
        "\nA switch sees:  {} -> {} in VLAN {}",
        frame.src(),
        frame.dst(),
        frame.vlan()
    );
    println!("A person sees:  {}\n", describe(&bytes));

    for text in [
        "ff:ff:ff:ff:ff:ff",
        "33:33:00:00:00:01",
        "01:80:c2:00:00:0e",
        "02:00:00:00:00:01",
    ] {
        let mac: MacAddr = text.parse()?;
        println!(
            "{mac}   group: {:<5}  broadcast: {:<5}  reserved: {:?}",
            mac.is_group(),
            mac.is_broadcast(),
            mac.reserved()
        );
    }

    if let Err(truncated) = Frame::new_checked(&bytes[..17]) {
        println!("\nCut after 17 bytes: {truncated}");
    }
    Ok(())
}
