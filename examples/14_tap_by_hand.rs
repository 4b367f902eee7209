//! What a TAP is: an interface on one side, and on the other a file. Whoever reads the file is the
//! cable, and may be a whole host: this one answers ARP and ping in some 40 lines.
//!
//! Run: `cargo run --example 14_tap_by_hand` (namespaces: as root, or as anybody who may make user
//! namespaces; needs `ip`, `sysctl` and `ping`)
//!
//! ```text
//! eth0             UP             192.0.2.1/24
//! In the namespace somebody pings 192.0.2.2. In the file we see:
//!   in   arp who-has 192.0.2.2 tell 192.0.2.1
//!   out  arp 192.0.2.2 is-at 02:00:00:00:00:02
//!   in   icmp 192.0.2.1 > 192.0.2.2 echo request 1
//!   out  icmp 192.0.2.2 > 192.0.2.1 echo reply 1
//!   in   icmp 192.0.2.1 > 192.0.2.2 echo request 2
//!   out  icmp 192.0.2.2 > 192.0.2.1 echo reply 2
//! ping is content: true
//! ```

use std::{error::Error, io::ErrorKind, process::Command, thread::sleep, time::Duration};

use tapswitch::{
    names::IfName,
    netlink::{self, LinkRef, LinkSetup},
    sim::frames,
    sys::{SimpleTap, TapOptions, netns::NetnsFile, userns::enter_private_namespaces},
    wire::{EtherType, Frame, checksum::sum, describe},
};

fn main() -> Result<(), Box<dyn Error>> {
    // Mounts and networks of our own, with an empty /run: the machine sees nothing of what follows.
    enter_private_namespaces()?;
    run("ip netns add red")?;
    // It would talk about itself, in frames that are not the subject here.
    run("ip netns exec red sysctl -qw net.ipv6.conf.default.disable_ipv6=1")?;

    // The file stays in this process and the interface goes into the namespace.
    let tap = SimpleTap::create(&TapOptions {
        mac: Some(frames::mac(1)),
        ..TapOptions::default()
    })?;
    let red = NetnsFile::open(&"red".parse()?)?;
    let name = IfName::new("eth0")?;
    let (_, index) = tap.created_as();
    netlink::move_and_rename(index, Some(&red), &name)?;
    let mut setup = LinkSetup::new(LinkRef::from(&name));
    setup.addresses = vec!["192.0.2.1/24".parse()?];
    setup.up = true;
    netlink::configure(Some(&red), &setup)?;
    run("ip -n red -brief address show eth0")?;

    println!("In the namespace somebody pings 192.0.2.2. In the file we see:");
    let mut ping = Command::new("ip")
        .args("netns exec red ping -q -c 2 -i 0.2 -W 2 192.0.2.2".split(' '))
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let mut buffer = [0; 2048];
    let status = loop {
        match tap.recv(&mut buffer) {
            Ok(len) => {
                println!("  in   {}", describe(&buffer[..len]));
                if let Some(answer) = answer(&buffer[..len]) {
                    println!("  out  {}", describe(&answer));
                    tap.send(&answer)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if let Some(status) = ping.try_wait()? {
                    break status;
                }
                sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    };
    println!("ping is content: {}", status.success());
    Ok(())
}

/// What host 2, 192.0.2.2, has to say to a frame.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let view = Frame::new_checked(frame).ok()?;
    match view.ether_type() {
        // Operation 1 of ARP is a question, and its last four bytes whom it is for (RFC 826).
        EtherType::ARP if frame.get(20..22)? == [0, 1] && frame.get(38..42)? == [192, 0, 2, 2] => {
            Some(frames::arp_reply(2, 1))
        }
        // An echo request (RFC 792) becomes a reply: the addresses change places, and type 8 is 0.
        EtherType::IPV4 if frame.get(23)? == &1 && frame.get(34)? == &8 => {
            let mut reply = [&frame[6..12], &frame[..6], &frame[12..]].concat();
            let (source, destination) = (frame.get(26..30)?, frame.get(30..34)?);
            reply[26..34].copy_from_slice(&[destination, source].concat());
            reply[34..38].copy_from_slice(&[0; 4]);
            let checksum = sum(&reply[34..]).checksum();
            reply[36..38].copy_from_slice(&checksum.to_be_bytes());
            Some(reply)
        }
        _ => None,
    }
}

fn run(line: &str) -> Result<(), Box<dyn Error>> {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}").into())
    }
}
