//! VXLAN, byte by byte: how a frame of one machine gets to a bridge on another, and what it costs.
//!
//! Run: `cargo run --example 11_vxlan_by_hand` (no root)
//!
//! ```text
//! A pod asks, and the pod it asks for is on another machine:
//!   ff ff ff ff ff ff   inner Ethernet, 14 bytes: for everybody,
//!   02 00 00 00 00 01   from the pod,
//!   08 06               of type 0x0806, ARP
//!   28 more bytes       arp who-has 192.0.2.2 tell 192.0.2.1
//!
//! Before it goes a header that says whose network it is in:
//!   08                  VXLAN, 8 bytes: the I flag, "the VNI is valid",
//!   00 00 00            reserved,
//!   00 00 2a            the VNI, 42,
//!   00                  reserved
//!
//! That is the payload of a datagram:
//!   d7 a9               UDP, 8 bytes: from port 55209, a hash of the flow inside,
//!   12 b5               to port 4789, VXLAN,
//!   00 3a               58 bytes with this header,
//!   5f 99               the checksum
//!
//! which the kernel sends from machine to machine:
//!   45 00 00 4e         IP, 20 bytes: version, header length, TOS, length,
//!   00 00 40 00         identification, and DF: a VTEP does not fragment,
//!   40 11 55 30         hop limit, protocol UDP, checksum,
//!   c0 a8 32 0a         from 192.168.50.10,
//!   c0 a8 32 14         to 192.168.50.20
//!
//! A sniffer on the underlay sees: udp 192.168.50.10:55209 > 192.168.50.20:4789, 50 bytes
//! 78 bytes of packet carry 28 of ARP.
//! Over an underlay with an MTU of 1500, pods get 1500 - 50 = 1450.
//! Over IPv6 it would be 1500 - 70 = 1430.
//!
//! There it is read back:
//!   VNI 42, reserved bits clear
//!   02:00:00:00:00:01 -> ff:ff:ff:ff:ff:ff, arp who-has 192.0.2.2 tell 192.0.2.1
//!   the same 42 bytes: true
//! Cut after 7 bytes: datagram has 7 bytes, the VXLAN header needs 8
//! Without the I flag: the I flag is not set, so the datagram names no VNI
//! ```

use std::net::Ipv4Addr;

use tapswitch::{
    sim::frames,
    vxlan::{self, entropy, overhead, parse},
    wire::{
        EtherType, Frame, Vni,
        checksum::{pseudo_v4, sum},
        describe,
    },
};

/// The two machines, each with a VTEP, on the network between them: the underlay.
const HERE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 10);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 20);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let frame = frames::arp_request(1, 2);
    println!("A pod asks, and the pod it asks for is on another machine:");
    row(&frame[..6], "inner Ethernet, 14 bytes: for everybody,");
    row(&frame[6..12], "from the pod,");
    row(&frame[12..14], "of type 0x0806, ARP");
    more(frame.len() - 14, &describe(&frame));

    // All pods of one network share a number; another network may use the same addresses.
    let vni = Vni::new(42).ok_or("a VNI has 24 bits")?;
    let header = vxlan::header(vni);
    println!("\nBefore it goes a header that says whose network it is in:");
    row(
        &header[..1],
        "VXLAN, 8 bytes: the I flag, \"the VNI is valid\",",
    );
    row(&header[1..4], "reserved,");
    row(&header[4..7], "the VNI, 42,");
    row(&header[7..], "reserved");
    let payload = [&header[..], &frame].concat();

    // All frames of one flow have one source port, so that they stay in order; other flows have
    // others, so that the network can share them out.
    let ports = vxlan::SOURCE_PORTS;
    let choice = entropy(&frame) % u32::try_from(ports.len())?;
    let port = ports.start() + u16::try_from(choice)?;
    let udp = udp(port, &payload)?;
    println!("\nThat is the payload of a datagram:");
    row(
        &udp[..2],
        &format!("UDP, 8 bytes: from port {port}, a hash of the flow inside,"),
    );
    row(&udp[2..4], "to port 4789, VXLAN,");
    row(
        &udp[4..6],
        &format!("{} bytes with this header,", 8 + payload.len()),
    );
    row(&udp[6..], "the checksum");

    let ip = ip(udp.len() + payload.len())?;
    println!("\nwhich the kernel sends from machine to machine:");
    row(
        &ip[..4],
        "IP, 20 bytes: version, header length, TOS, length,",
    );
    row(
        &ip[4..8],
        "identification, and DF: a VTEP does not fragment,",
    );
    row(&ip[8..12], "hop limit, protocol UDP, checksum,");
    row(&ip[12..16], &format!("from {HERE},"));
    row(&ip[16..], &format!("to {THERE}"));

    let packet = [&ip[..], &udp, &payload].concat();
    let on_the_wire = frames::ethernet(frames::mac(10), frames::mac(20), EtherType::IPV4, &packet);
    println!(
        "\nA sniffer on the underlay sees: {}",
        describe(&on_the_wire)
    );
    println!(
        "{} bytes of packet carry {} of ARP.",
        packet.len(),
        frame.len() - 14
    );
    println!(
        "Over an underlay with an MTU of 1500, pods get 1500 - {} = {}.",
        overhead(false),
        1500 - overhead(false)
    );
    println!(
        "Over IPv6 it would be 1500 - {} = {}.",
        overhead(true),
        1500 - overhead(true)
    );

    // The other machine's kernel takes off what ours put on, and hands over the payload.
    read_back(packet.get(28..).ok_or("too short")?, &frame)?;
    Ok(())
}

fn read_back(received: &[u8], sent: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let (header, inner) = parse(received)?;
    let view = Frame::new_checked(inner)?;
    println!("\nThere it is read back:");
    println!(
        "  VNI {}, reserved bits {}",
        header.vni,
        if header.reserved { "set" } else { "clear" }
    );
    println!("  {} -> {}, {}", view.src(), view.dst(), describe(inner));
    println!("  the same {} bytes: {}", inner.len(), inner == sent);
    for (what, bytes) in [
        ("Cut after 7 bytes", &received[..7]),
        ("Without the I flag", &[0; 8]),
    ] {
        if let Err(error) = parse(bytes) {
            println!("{what}: {error}");
        }
    }
    Ok(())
}

/// A UDP header from `port` to VXLAN's (RFC 768).
fn udp(port: u16, payload: &[u8]) -> Result<[u8; 8], std::num::TryFromIntError> {
    let len = u16::try_from(8 + payload.len())?;
    let mut udp = [0; 8];
    udp[..2].copy_from_slice(&port.to_be_bytes());
    udp[2..4].copy_from_slice(&vxlan::PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&len.to_be_bytes());
    let pseudo = pseudo_v4(HERE.octets(), THERE.octets(), 17, len.into());
    let checksum = (pseudo + sum(&udp) + sum(payload)).checksum();
    udp[6..].copy_from_slice(&checksum.to_be_bytes());
    Ok(udp)
}

/// An IPv4 header before `len` bytes of UDP (RFC 791 §3.1).
fn ip(len: usize) -> Result<[u8; 20], std::num::TryFromIntError> {
    let mut ip = [0; 20];
    ip[..2].copy_from_slice(&[0x45, 0]);
    ip[2..4].copy_from_slice(&u16::try_from(20 + len)?.to_be_bytes());
    ip[6..10].copy_from_slice(&[0x40, 0, 64, 17]);
    ip[12..16].copy_from_slice(&HERE.octets());
    ip[16..].copy_from_slice(&THERE.octets());
    let checksum = sum(&ip).checksum();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    Ok(ip)
}

fn row(bytes: &[u8], what: &str) {
    let octets: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("  {:<18}  {what}", octets.join(" "));
}

fn more(count: usize, what: &str) {
    println!("  {:<18}  {what}", format!("{count} more bytes"));
}
