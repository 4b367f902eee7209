//! Bare Ethernet frames, which no switch can join: each is looked up.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, bind, socket},
};
use serde::{Deserialize, Serialize};

use super::{
    Context, LoadError, Prepared,
    burst::{BURST, Pace, Sender},
    sleep_until, told,
};
use crate::{names::IfName, sys::clock, wire::MacAddr};

/// What a sender of frames counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FramesSent {
    /// Frames that the interface took, in the window if there is one.
    pub packets: u64,
}

/// What an interface received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FramesCounted {
    /// Frames of any kind.
    pub packets: u64,
    /// Nanoseconds from the first look at the counter to the second.
    pub nanos: u64,
}

/// For local experiments (IEEE 802): no switch and no stack knows it.
const ETHERTYPE: u16 = 0x88b5;
/// The shortest frame, without its check sequence.
const FRAME: usize = 60;

/// The address of host number `number`.
pub fn host(number: u32) -> MacAddr {
    MacAddr::from_u48(0x0600_0000_0000 + u64::from(number))
}

pub(super) fn teach(
    interface: &IfName,
    to: MacAddr,
    hosts: u32,
    rate: u64,
) -> Result<Prepared, LoadError> {
    let (socket, own) = open(interface)?;
    let mut sender = Sender::new(socket, &frame(to, own));
    Ok(Box::new(move |window| {
        let pace = Pace::new(rate, window.start);
        let mut number = 0;
        sleep_until(window.start);
        while number < hosts {
            for (packet, number) in sender.packets().zip(number..) {
                write_at(packet, 6, host(number));
            }
            let count = usize::try_from(hosts - number).unwrap_or(BURST).min(BURST);
            let sent = sender.send(count).context(|| "send frames".to_owned())?;
            number += u32::try_from(sent).unwrap_or(0);
            if sent == 0 {
                sleep_until(clock::now() + Duration::from_micros(100));
            }
            pace.wait(number.into());
        }
        let packets = number.into();
        told(FramesSent { packets })
    }))
}

pub(super) fn send(interface: &IfName, hosts: u32) -> Result<Prepared, LoadError> {
    let (socket, own) = open(interface)?;
    let mut sender = Sender::new(socket, &frame(host(0), own));
    Ok(Box::new(move |window| {
        let (mut random, mut result) = (1, FramesSent::default());
        sleep_until(window.start);
        loop {
            let now = clock::now();
            if now >= window.end_of_sending() {
                return told(result);
            }
            for packet in sender.packets() {
                write_at(packet, 0, host(below(hosts, &mut random)));
            }
            let sent = sender.send(BURST).context(|| "send frames".to_owned())?;
            if window.contains(now) {
                result.packets += sent as u64;
            }
        }
    }))
}

pub(super) fn count(interface: IfName) -> Prepared {
    Box::new(move |window| {
        sleep_until(window.from);
        let (before, from) = (received(&interface)?, clock::now());
        sleep_until(window.until);
        let (after, until) = (received(&interface)?, clock::now());
        told(FramesCounted {
            packets: after.saturating_sub(before),
            nanos: until.nanos_since(from),
        })
    })
}

/// How many frames `interface` has received, in the namespace of the calling thread.
pub(in crate::bench) fn received(interface: &IfName) -> Result<u64, LoadError> {
    const FILE: &str = "/proc/thread-self/net/dev";
    let table = fs::read_to_string(FILE).context(|| format!("read {FILE}"))?;
    let line = table.lines().find_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        (name.trim() == interface.as_str()).then_some(numbers)
    });
    let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    packets.ok_or_else(|| {
        let text = format!("count frames: {FILE} has no {interface}; is the port still there?");
        LoadError::Missing(text)
    })
}

/// The address of `interface`, in the namespace of the calling thread.
pub(in crate::bench) fn address(interface: &IfName) -> Result<MacAddr, LoadError> {
    let (_, mac) = link(interface)?;
    Ok(mac)
}

fn link(interface: &IfName) -> Result<(LinkAddr, MacAddr), LoadError> {
    let all = getifaddrs().context(|| "list interfaces".to_owned())?;
    let mut found = all.filter(|entry| entry.interface_name == interface.as_str());
    let link = found.find_map(|entry| entry.address?.as_link_addr().copied());
    let mac = link.and_then(|link| Some((link, MacAddr::new(link.addr()?))));
    mac.ok_or_else(|| {
        let text = format!("find interface {interface}: there is none; is the port still there?");
        LoadError::Missing(text)
    })
}

/// A socket that sends whole frames out of `interface`, and the interface's address.
fn open(interface: &IfName) -> Result<(OwnedFd, MacAddr), LoadError> {
    let (link, mac) = link(interface)?;
    // Without a protocol it receives nothing.
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context(|| "open a packet socket".to_owned())?;
    bind(socket.as_raw_fd(), &link).context(|| format!("bind a packet socket to {interface}"))?;
    Ok((socket, mac))
}

fn frame(to: MacAddr, from: MacAddr) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    let header = to.octets().into_iter().chain(from.octets());
    for (byte, value) in frame.iter_mut().zip(header.chain(ETHERTYPE.to_be_bytes())) {
        *byte = value;
    }
    frame
}

fn write_at(frame: &mut [u8], at: usize, mac: MacAddr) {
    for (byte, value) in frame.iter_mut().skip(at).zip(mac.octets()) {
        *byte = value;
    }
}

/// The next number below `limit`, in an order that no prefetcher guesses (PCG's multiplier).
fn below(limit: u32, state: &mut u64) -> u32 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    u32::try_from(((*state >> 32) * u64::from(limit)) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_unicast_between_the_hosts() {
        let mut bytes = frame(host(1), host(0xabcd));
        assert_eq!(bytes[..6], [6, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[6..14], [6, 0, 0, 0, 0xab, 0xcd, 0x88, 0xb5]);
        write_at(&mut bytes, 0, host(2));
        assert_eq!(bytes[5..8], [2, 6, 0]);
    }

    #[test]
    fn random_numbers_stay_below_their_limit_and_reach_all() {
        let mut state = 1;
        let numbers: std::collections::BTreeSet<_> =
            (0..1000).map(|_| below(10, &mut state)).collect();
        assert_eq!(numbers, (0..10).collect());
        assert_eq!(below(1, &mut state), 0);
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let name = IfName::new("nosuch0").unwrap();
        let error = received(&name).unwrap_err().to_string();
        assert!(error.contains("no nosuch0"), "{error}");
        let error = address(&name).unwrap_err().to_string();
        assert!(error.contains("find interface nosuch0"), "{error}");
    }
}
