//! What the datagrams look like on the wire: the other end of the cable is a TAP of ours.

use std::io::IoSlice;

use tapswitch::sys::{
    SimpleTap, TapOptions,
    udp::{UdpOptions, UdpSocket},
};

use super::{SECOND, Test, bind, fails, ip, options, pattern};
use crate::common::{Netns, wait_until};

pub(crate) const TESTS: &[Test] = &[
    (&[], "no_datagram_may_be_fragmented_and_none_is", whole),
    (&[], "the_ttl_is_the_one_asked_for", ttl),
    (&[], "checksums_are_left_out_only_when_asked", checksums),
    (
        &[],
        "ipv6_without_checksum_is_taken_only_when_asked",
        zero_checksum6,
    ),
];

/// A namespace with a TAP, behind which everybody has a hardware address.
struct Wire {
    netns: Netns,
    tap: SimpleTap,
}

impl Wire {
    fn new() -> Self {
        let netns = Netns::new("wire");
        let tap = netns.run(|| SimpleTap::create(&TapOptions::default()).unwrap());
        let name = tap.created_as().0.to_string();
        netns.ip(&format!("address add 192.0.2.1/24 dev {name}"));
        netns.ip(&format!("address add 2001:db8::1/64 dev {name} nodad"));
        netns.ip(&format!("link set {name} up"));
        for to in ["192.0.2.2", "2001:db8::2"] {
            netns.ip(&format!(
                "neighbour add {to} lladdr 02:00:00:00:00:02 dev {name} nud permanent"
            ));
        }
        Self { netns, tap }
    }

    /// The IP packets of the next `count` frames between our two addresses.
    #[track_caller]
    fn packets(&self, count: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut buf = [0; 2000];
        wait_until("packets", SECOND, || {
            while let Ok(len) = self.tap.recv(&mut buf) {
                // Multicast is the kernel's own.
                if buf[0] == 2 {
                    found.push(buf[14..len].to_vec());
                }
            }
            found.len() >= count
        });
        assert_eq!(found.len(), count);
        found
    }

    fn send(&self, socket: &UdpSocket, len: usize, segment: Option<u16>) -> std::io::Result<usize> {
        let to = match socket.local().ip() {
            ours if ours.is_ipv4() => "192.0.2.2:4789",
            _ => "[2001:db8::2]:4789",
        };
        let bytes = pattern(len);
        socket.send(to.parse().unwrap(), &[IoSlice::new(&bytes)], segment, 0)
    }
}

fn whole() {
    let wire = Wire::new();
    let from = bind(&wire.netns, options("192.0.2.1", 0));
    assert_eq!(wire.send(&from, 1472, None).unwrap(), 1472);
    fails(wire.send(&from, 1473, None), libc::EMSGSIZE);
    assert_eq!(wire.send(&from, 3000, Some(1472)).unwrap(), 3000);
    fails(wire.send(&from, 3000, Some(1473)), libc::EMSGSIZE);
    assert_eq!(wire.send(&from, 1, None).unwrap(), 1);
    let packets = wire.packets(5);
    let lengths: Vec<usize> = packets.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1500, 1500, 1500, 28 + 56, 29]);
    for packet in packets {
        // Flags and fragment offset: don't fragment, no more fragments, the first.
        assert_eq!(packet[6..8], [0x40, 0]);
    }

    let from = bind(&wire.netns, options("2001:db8::1", 0));
    assert_eq!(wire.send(&from, 1452, None).unwrap(), 1452);
    fails(wire.send(&from, 1453, None), libc::EMSGSIZE);
    assert_eq!(wire.send(&from, 1, None).unwrap(), 1);
    for packet in wire.packets(2) {
        assert_eq!(packet[6], 17, "UDP follows, not a fragment header");
    }
}

fn ttl() {
    let wire = Wire::new();
    for ttl in [1, 64, 255] {
        for (ours, at) in [("192.0.2.1", 8), ("2001:db8::1", 7)] {
            let from = bind(
                &wire.netns,
                UdpOptions {
                    ttl,
                    ..options(ours, 0)
                },
            );
            wire.send(&from, 10, None).unwrap();
            assert_eq!(wire.packets(1)[0][at], ttl);
        }
    }
}

fn checksums() {
    let wire = Wire::new();
    for (ours, at) in [("192.0.2.1", 26), ("2001:db8::1", 46)] {
        for no_checksum_tx in [false, true] {
            let from = bind(
                &wire.netns,
                UdpOptions {
                    no_checksum_tx,
                    ..options(ours, 0)
                },
            );
            wire.send(&from, 10, None).unwrap();
            let checksum = wire.packets(1)[0][at..at + 2].to_vec();
            assert_eq!(checksum == [0, 0], no_checksum_tx);
        }
    }
}

fn zero_checksum6() {
    let wire = Wire::new();
    for no_checksum6_rx in [false, true] {
        let to = UdpOptions {
            no_checksum6_rx,
            ..options("2001:db8::1", 4789)
        };
        let to = bind(&wire.netns, to);
        let mac = wire
            .netns
            .ip("-o link show")
            .split("link/ether ")
            .nth(1)
            .map(str::to_owned);
        let mac = mac.unwrap()[..17].to_owned();
        let mac: Vec<u8> = mac
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        let mut frame = mac;
        frame.extend([2, 0, 0, 0, 0, 2, 0x86, 0xdd]);
        frame.extend([0x60, 0, 0, 0, 0, 9, 17, 64]);
        for address in ["2001:db8::2", "2001:db8::1"] {
            let std::net::IpAddr::V6(address) = ip(address) else {
                unreachable!()
            };
            frame.extend(address.octets());
        }
        // From port 50000 to 4789, 9 bytes, no checksum.
        frame.extend([0xc3, 0x50, 0x12, 0xb5, 0, 9, 0, 0, b'!']);

        wire.tap.send(&frame).unwrap();

        // A write to a TAP returns when the frame is where it belongs.
        let received = to.recv(&mut [0; 10]).map(|message| message.len);
        assert_eq!(received.ok(), no_checksum6_rx.then_some(1));
    }
}
