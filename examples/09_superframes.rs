//! Why bulk TCP is fast: the kernel hands over one frame of many kilobytes, and whoever cannot take
//! it gets it in pieces.
//!
//! Run: `cargo run --example 09_superframes` (no root)
//!
//! ```text
//! One frame of 4054 bytes, and what is left to do with it:
//!   tcp 192.0.2.1:50000 > 192.0.2.2:80 PSH+ACK, 4000 bytes
//!   kind TcpV4, every 1448 bytes of payload
//!   checksum from byte 34 on, to be put 16 bytes behind
//!   its egress must be able to do: csum tso4
//!   ! unfinished: the sender leaves the rest to its offload, which makes it 0x50c0
//!
//! Cut, as the kernel does it:
//!   1502 bytes, IP identification 0x0000, sequence number    1, tcp 192.0.2.1:50000 > 192.0.2.2:80 ACK, 1448 bytes
//!   1502 bytes, IP identification 0x0001, sequence number 1449, tcp 192.0.2.1:50000 > 192.0.2.2:80 ACK, 1448 bytes
//!   1158 bytes, IP identification 0x0002, sequence number 2897, tcp 192.0.2.1:50000 > 192.0.2.2:80 PSH+ACK, 1104 bytes
//!
//! And joined again, on the way into a namespace that takes it whole:
//!   one more joins: true
//!   one more joins: true
//!   kind TcpV4, every 1448 bytes
//!   the very bytes of before: true
//!
//! The switch does that for each port as the port needs it:
//!   podB gets frames of [4054] bytes
//!   podC gets frames of [1502, 1502, 1158] bytes
//!   (10 bytes of virtio-net header before each tell the kernel which)
//! ```

use std::error::Error;

use tapswitch::{
    dissect::{Options, dissect},
    offload::{Offloads, Run, Segments, needed, segment},
    sim::{Lab, MemPort, frames},
    wire::{VirtioNetHdr, describe},
};

fn main() -> Result<(), Box<dyn Error>> {
    // podA's kernel has 4000 bytes to send, and its device says that it can cut them itself.
    let superframe = frames::packet(1, "tcp 192.0.2.2:80 len 4000 mss 1448");
    let (header, frame) = (superframe.header, superframe.frame);
    println!(
        "One frame of {} bytes, and what is left to do with it:",
        frame.len()
    );
    println!("  {}", describe(&frame));
    println!(
        "  kind {:?}, every {} bytes of payload",
        header.gso(),
        header.gso_size()
    );
    println!(
        "  checksum from byte {} on, to be put {} bytes behind",
        header.csum_start(),
        header.csum_offset()
    );
    println!("  its egress must be able to do: {}", needed(&header));
    show_problems(&frame);

    println!("\nCut, as the kernel does it:");
    let mut segments = Segments::new();
    segment(&header, &frame, None, &mut segments)?;
    let pieces: Vec<Vec<u8>> = segments
        .iter()
        .map(|piece| piece.to_frame(&frame))
        .collect();
    for piece in &pieces {
        println!(
            "  {:>4} bytes, IP identification {}, sequence number {:>4}, {}",
            piece.len(),
            number(piece, "IPv4", "identification"),
            number(piece, "TCP", "sequence"),
            describe(piece)
        );
        show_problems(piece);
    }

    println!("\nAnd joined again, on the way into a namespace that takes it whole:");
    let (first, others) = pieces.split_first().ok_or("nothing was cut")?;
    let mut run = Run::start(None, first).ok_or("nothing can follow")?;
    for other in others {
        println!("  one more joins: {}", run.join(None, other));
    }
    let payload: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| run.payload_of(piece))
        .copied()
        .collect();
    let (joined, head) = run.finish();
    println!(
        "  kind {:?}, every {} bytes",
        joined.gso(),
        joined.gso_size()
    );
    println!(
        "  the very bytes of before: {}",
        [head, &payload].concat() == frame
    );

    println!("\nThe switch does that for each port as the port needs it:");
    let mut lab = Lab::new();
    let bridge = lab.add_bridge(Lab::spec("br0"));
    let modern = || MemPort::new().with_offloads(Offloads::ALL);
    let sender = lab.add_port_with(bridge, "podA", modern());
    let whole = lab.add_port_with(bridge, "podB", modern());
    let pieces = lab.add_port_with(bridge, "podC", MemPort::new());
    lab.io(sender).inject_with(&header, &frame);
    lab.run();
    for port in [whole, pieces] {
        let name = lab.name(port).to_owned();
        let lens: Vec<_> = lab.received(port).iter().map(Vec::len).collect();
        println!("  {name} gets frames of {lens:?} bytes");
    }
    println!(
        "  ({} bytes of virtio-net header before each tell the kernel which)",
        VirtioNetHdr::LEN
    );
    lab.assert_accounted();
    Ok(())
}

/// What a field of a layer says.
fn number(frame: &[u8], layer: &str, field: &str) -> String {
    let layers = dissect(frame, &Options::default()).layers;
    let layer = layers.into_iter().find(|found| found.title == layer);
    let fields = layer.into_iter().flat_map(|layer| layer.fields);
    let found = fields.into_iter().find(|found| found.name == field);
    found.map_or_else(String::new, |field| field.value.to_string())
}

fn show_problems(frame: &[u8]) {
    for problem in dissect(frame, &Options::default()).problems() {
        println!("  ! {}", problem.text);
    }
}
