//! From frames on the wire to a file for Wireshark, and from bytes to what they mean.
//!
//! Run: `cargo run --example 07_capture_and_explain` (no root); with a name behind it, as in
//! `... -- ping.pcapng`, it also leaves the file there.
//!
//! ```text
//! In the file, frame by frame:
//!     0 us  podA  in: flooded to 2                   arp who-has 192.0.2.2 tell 192.0.2.1
//!     0 us  podB  out: delivered                     arp who-has 192.0.2.2 tell 192.0.2.1
//!     0 us  podC  out: delivered                     arp who-has 192.0.2.2 tell 192.0.2.1
//!    10 us  podB  in: forwarded to podA              arp 192.0.2.2 is-at 02:00:00:00:00:02
//!    10 us  podA  out: delivered                     arp 192.0.2.2 is-at 02:00:00:00:00:02
//!    30 us  podB  in: forwarded to podA              icmp 192.0.2.2 > 192.0.2.1 echo reply 1
//!    30 us  podA  out: delivered                     icmp 192.0.2.2 > 192.0.2.1 echo reply 1
//!
//! The last one, layer by layer:
//!   Ethernet, 14 bytes
//!      0  destination      02:00:00:00:00:01  unicast, local
//!      6  source           02:00:00:00:00:02  unicast, local
//!     12  type             0x0800             IPv4
//!   IPv4, 20 bytes
//!     14  version          4
//!     14  header length    5                  20 bytes
//!     15  DSCP             0                  default
//!     15  ECN              0                  Not-ECT: drops tell of congestion
//!     16  total length     84                 20 + 64
//!     18  identification   0x0000
//!     20  flags            DF                 must not be fragmented
//!     20  fragment offset  0                  not a fragment
//!     22  TTL              64
//!     23  protocol         1                  ICMP
//!     24  checksum         0xb6a5             right
//!     26  source           192.0.2.2          for documentation
//!     30  destination      192.0.2.1          for documentation
//!   ICMP, 8 bytes
//!     34  type             0                  echo reply
//!     35  code             0
//!     36  checksum         0x5957             right
//!     38  identifier       1
//!     40  sequence         1
//!   Payload, 56 bytes
//!     42  data                                56 bytes of echo data
//!
//! And if a bit of it tips over on its way:
//!   WrongChecksum: wrong: it should be 0x5557
//! ```

use std::{env, error::Error, fs, io::Cursor};

use tapswitch::{
    dissect::{Layer, Options, dissect},
    pcap::Reader,
    sim::{Lab, Network, captured, frames},
};

fn main() -> Result<(), Box<dyn Error>> {
    // Nobody is asked for anything new: the capture knows only what its filter lets through.
    let mut network = Network::new(["podA", "podB", "podC"]);
    let (id, reader) = network.lab.capture(Lab::rules("arp or icmp[icmptype] = 0"));
    network.ping(0, frames::ip(2).into());
    network.lab.end_capture(id);

    let file = network.lab.pcapng(&captured(&reader));
    if let Some(path) = env::args().nth(1) {
        fs::write(path, &file)?;
    }

    println!("In the file, frame by frame:");
    let mut answer = Vec::new();
    for packet in Reader::new(Cursor::new(file))? {
        let packet = packet?;
        let summary = dissect(&packet.bytes, &Options::default()).summary;
        println!(
            "  {:>3} us  {}  {:<34} {summary}",
            packet.time.unwrap_or_default().as_micros(),
            packet.interface.unwrap_or_default(),
            packet.comments.join("; "),
        );
        answer = packet.bytes;
    }

    println!("\nThe last one, layer by layer:");
    for layer in dissect(&answer, &Options::default()).layers {
        explain(&layer);
    }

    println!("\nAnd if a bit of it tips over on its way:");
    answer[40] ^= 0x04;
    let broken = dissect(&answer, &Options::default());
    for problem in broken.problems() {
        println!("  {:?}: {}", problem.kind, problem.text);
    }
    Ok(())
}

fn explain(layer: &Layer) {
    println!("  {}, {} bytes", layer.title, layer.len);
    for field in &layer.fields {
        let line = format!(
            "{:>4}  {:<16} {:<18} {}",
            field.offset,
            field.name,
            field.value.to_string(),
            field.meaning
        );
        println!("  {}", line.trim_end());
    }
}
