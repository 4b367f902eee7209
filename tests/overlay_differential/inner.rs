//! Random inner frames: of all kinds that hosts send, and of some that they do not.

use crate::{
    packets::{ETHERNET, be16, fold, low, sum},
    superframe::Noise,
};

/// The VLAN of frames from and to tagged stations: the kernel's FDB knows no VLANs here, ours does.
const VLAN: u16 = 10;

/// Who a frame is from, and hence whom it may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Someone behind a remote VTEP.
    Remote,
    /// The same, in one of many datagrams of which one host may take some that the other drops: what
    /// becomes of one must not depend on those before it.
    RemoteBurst,
    /// Someone behind a VTEP that is no peer. Nobody ever sends to them.
    Stranger,
    /// Someone in a pod.
    Local,
}

/// A frame of about `len` bytes that ends in `tail`.
pub(crate) fn frame(noise: &mut Noise, side: Side, len: usize, tail: [u8; 8]) -> Vec<u8> {
    let tagged = noise.one_in(6);
    let mut addresses = addresses(noise, side, tagged);
    if side == Side::RemoteBurst {
        // Nobody moves, and nobody is asked for who might.
        while matches!(addresses[6..12], [2, 0, 0, 0, 0x30 | 0x31, _])
            || matches!(addresses[..6], [2, 0, 0, 0, 0x20 | 0x21, _])
        {
            addresses = self::addresses(noise, side, tagged);
        }
    }
    let mut frame = addresses;
    if tagged {
        tag(noise, &mut frame, VLAN);
    } else if noise.one_in(10) {
        // A priority tag names no VLAN.
        tag(noise, &mut frame, 0);
    }
    if frame.len() > 12 && noise.one_in(5) {
        tag(noise, &mut frame, 20);
    }
    match noise.below(100) {
        0..8 => arp(noise, &mut frame),
        8..46 => ipv4(noise, &mut frame, len, tail),
        46..80 => ipv6(noise, &mut frame, len, tail),
        80..85 => nested(noise, &mut frame, len, tail),
        85..90 => {
            // A length instead of a type.
            frame.extend([0, 0x26, 0x42, 0x42, 3]);
        }
        _ => frame.extend(pick(noise, &TYPES).to_be_bytes()),
    }
    if frame.ends_with(&tail) {
        return frame;
    }
    let rest = len.saturating_sub(frame.len() + 8);
    noise.extend(&mut frame, rest);
    frame.extend(tail);
    frame
}

/// Changes some bytes of a frame, but not so that it comes to be in another VLAN.
pub(crate) fn damage(noise: &mut Noise, frame: &mut [u8]) {
    let end = frame.len().min(120);
    for _ in 0..=noise.below(3) {
        let at = index(noise, end);
        // The MAC addresses decide what both hosts know afterwards, and the last 8 bytes say which
        // frame it is.
        let is_tag = (12..24).contains(&at) && tags(frame) > 0;
        if at < ETHERNET || is_tag || at + 8 >= frame.len() {
            continue;
        }
        frame[at] ^= 1 << noise.below(8);
    }
}

/// How many VLAN tags it has.
pub(crate) fn tags(frame: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8]));
    (0..3).take_while(|n| is_tag(12 + 4 * n)).count()
}

/// Where the network header starts, behind up to two tags.
pub(crate) fn l3(frame: &[u8]) -> usize {
    ETHERNET + 4 * tags(frame).min(2)
}

/// The IP version, if all of the fixed header is there.
pub(crate) fn ip(frame: &[u8]) -> Option<u8> {
    let l3 = l3(frame);
    let packet = frame.get(l3..)?;
    let version = packet.first()? >> 4;
    match (be16(frame, l3 - 2), version) {
        (0x0800, 4) if packet.len() >= 20 => Some(4),
        (0x86dd, 6) if packet.len() >= 40 => Some(6),
        _ => None,
    }
}

/// Whether the headers of an untagged frame say what is there, and name nothing unusual. What is not
/// IP is honest.
pub(crate) fn is_honest(frame: &[u8]) -> bool {
    let l3 = l3(frame);
    let whole = frame.len() - l3;
    let is_ip = matches!(be16(frame, 12), 0x0800 | 0x86dd);
    let is_message = |at: usize, known: &[u8]| known.contains(&frame[at]);
    tags(frame) == 0
        && match ip(frame) {
            Some(4) => {
                let header = 4 * usize::from(frame[l3] & 15);
                fold(sum(&frame[l3..l3 + header])) == 0xffff
                    && usize::from(be16(frame, l3 + 2)) == whole
                    && (frame[l3 + 9] != ICMP || is_message(l3 + header, &[3, 8]))
            }
            Some(_) => {
                matches!(frame[l3 + 6], TCP | UDP | ICMP6)
                    && usize::from(be16(frame, l3 + 4)) + 40 == whole
                    && (frame[l3 + 6] != ICMP6 || is_message(l3 + 40, &[1, 3, 128]))
            }
            None => !is_ip,
        }
}

/// What all frames of a flow have in common (RFC 7348 section 5): addresses, protocol and ports of
/// IP packets, without ports for any fragment; MAC addresses and type of everything else.
pub(crate) fn flow(frame: &[u8]) -> Vec<u8> {
    let l3 = l3(frame);
    let version = ip(frame).filter(|version| {
        let header = 4 * usize::from(frame[l3] & 15);
        *version == 6 || (20..=frame.len() - l3).contains(&header)
    });
    let Some(version) = version else {
        let macs = frame.get(..12).unwrap_or_default();
        return [macs, &be16(frame, l3 - 2).to_be_bytes()].concat();
    };
    let (mut protocol, mut l4, mut is_fragment, addresses);
    if version == 4 {
        (protocol, l4) = (frame[l3 + 9], l3 + 4 * usize::from(frame[l3] & 15));
        is_fragment = be16(frame, l3 + 6) & 0x3fff != 0;
        addresses = l3 + 12..l3 + 20;
    } else {
        (protocol, l4, is_fragment) = (frame[l3 + 6], l3 + 40, false);
        addresses = l3 + 8..l3 + 40;
        while let (0 | 43 | 44 | 60, false, Some(extension)) =
            (protocol, is_fragment, frame.get(l4..l4 + 8))
        {
            is_fragment = protocol == 44;
            let words = if is_fragment { 0 } else { extension[1] };
            (protocol, l4) = (extension[0], l4 + 8 + 8 * usize::from(words));
        }
    }
    let ports = frame
        .get(l4..l4 + 4)
        .filter(|_| !is_fragment && matches!(protocol, TCP | UDP | SCTP));
    [&[protocol], &frame[addresses], ports.unwrap_or_default()].concat()
}

/// A length of a frame, often one at which something changes.
pub(crate) fn length(noise: &mut Noise) -> usize {
    let special = [
        14, 15, 18, 33, 34, 42, 60, 64, 128, 512, 1400, 1513, 1514, 1515, 1518, 1519, 1522, 1523,
    ];
    if noise.one_in(3) {
        return 60 + index(noise, 1400);
    }
    pick(noise, &special)
}

/// Destination and source.
fn addresses(noise: &mut Noise, side: Side, tagged: bool) -> Vec<u8> {
    let src = source(noise, side, tagged);
    let dst = destination(noise, side, tagged);
    [dst, src].concat()
}

fn source(noise: &mut Noise, side: Side, tagged: bool) -> Vec<u8> {
    match noise.below(100) {
        0..2 => vec![0; 6],
        2..4 => vec![0xff; 6],
        4..6 => vec![1, 0, 0x5e, 0, 0, byte(noise)],
        // It moves to where the frame comes from.
        6..9 if side == Side::Local => station(noise, Side::Remote, tagged),
        6..9 if side == Side::Remote => station(noise, Side::Local, tagged),
        _ => station(noise, side, tagged),
    }
}

fn destination(noise: &mut Noise, side: Side, tagged: bool) -> Vec<u8> {
    let there = match side {
        Side::Local => Side::Remote,
        Side::Remote | Side::RemoteBurst | Side::Stranger => Side::Local,
    };
    match noise.below(100) {
        0..50 => station(noise, there, tagged),
        50..60 => station(noise, Side::Remote, tagged),
        60..75 => vec![0xff; 6],
        75..83 => vec![1, 0, 0x5e, 0, 0, byte(noise)],
        83..88 => vec![0x33, 0x33, 0, 0, 0, byte(noise)],
        88..91 => vec![1, 0x80, 0xc2, 0, 0, byte(noise) & 0xf],
        91..93 => vec![1, 0x80, 0xc2, 0, 0, 0x20 + (byte(noise) & 0xf)],
        93..95 => vec![0; 6],
        _ => vec![2, 0xee, 0, 0, 0, byte(noise)],
    }
}

fn station(noise: &mut Noise, side: Side, tagged: bool) -> Vec<u8> {
    let group = match side {
        Side::Remote | Side::RemoteBurst => 0x20,
        Side::Local => 0x30,
        Side::Stranger => 0x40,
    };
    let number = noise.below(4).to_le_bytes()[0];
    vec![2, 0, 0, 0, group + u8::from(tagged), number]
}

/// Whether both hosts learn where this address is.
pub(crate) fn is_station(mac: &[u8]) -> bool {
    matches!(mac, [2, 0, 0, 0, 0x20 | 0x21 | 0x30 | 0x31, _])
}

/// Whether a station speaks with a tag.
pub(crate) fn is_tagged(mac: &[u8; 6]) -> bool {
    mac[4] & 1 == 1
}

fn tag(noise: &mut Noise, frame: &mut Vec<u8>, vlan: u16) {
    frame.extend(if noise.one_in(4) {
        [0x88, 0xa8]
    } else {
        [0x81, 0]
    });
    let priority = u16::from(byte(noise) & 0xf) << 12;
    frame.extend((priority | vlan).to_be_bytes());
}

fn arp(noise: &mut Noise, frame: &mut Vec<u8>) {
    let sender = frame[6..12].to_vec();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1 + (byte(noise) & 1)]);
    frame.extend(sender);
    frame.extend([
        10,
        0,
        0,
        byte(noise) & 7,
        0,
        0,
        0,
        0,
        0,
        0,
        10,
        0,
        0,
        byte(noise) & 7,
    ]);
}

fn ipv4(noise: &mut Noise, frame: &mut Vec<u8>, len: usize, tail: [u8; 8]) {
    frame.extend([0x08, 0]);
    let start = frame.len();
    let words = if noise.one_in(6) { byte(noise) % 11 } else { 0 };
    let protocol = pick(noise, &PROTOCOLS_4);
    let place: u16 = match noise.below(20) {
        0 => 0x2000,
        1 => 0x2000 | 50,
        2 => 77,
        3..12 => 0x4000,
        _ => 0,
    };
    frame.extend([0x45 + words, tos(noise), 0, 0]);
    noise.extend(frame, 2);
    frame.extend(place.to_be_bytes());
    frame.extend([pick(noise, &[64, 1, 255]), protocol, 0, 0]);
    frame.extend([10, 0, 0, byte(noise) & 3, 10, 0, 0, byte(noise) & 3]);
    noise.extend(frame, 4 * usize::from(words));
    let l4 = frame.len();
    let addresses = sum(&frame[start + 12..start + 20]);
    layer4(
        noise,
        frame,
        protocol,
        addresses,
        len,
        tail,
        place & 0x3fff != 0,
    );
    let total = match noise.below(30) {
        0 => low(frame.len() - start).wrapping_add(u16::from(byte(noise))),
        1 => low(l4 - start),
        2 => 0,
        _ => low(frame.len() - start),
    };
    frame[start + 2..start + 4].copy_from_slice(&total.to_be_bytes());
    if noise.one_in(40) {
        // So that a congestion mark makes the checksum 0.
        let wanted = !u64::from(3 - frame[start + 1] % 4) & 0xffff;
        let id = fold(
            wanted
                + u64::from(!fold(
                    sum(&frame[start..l4]) - u64::from(be16(frame, start + 4)),
                )),
        );
        frame[start + 4..start + 6].copy_from_slice(&id.to_be_bytes());
    }
    let check = !fold(sum(&frame[start..l4]));
    let check = if noise.one_in(30) { 0x1234 } else { check };
    frame[start + 10..start + 12].copy_from_slice(&check.to_be_bytes());
    pad(noise, frame, tail);
}

fn ipv6(noise: &mut Noise, frame: &mut Vec<u8>, len: usize, tail: [u8; 8]) {
    frame.extend([0x86, 0xdd]);
    let start = frame.len();
    let protocol = pick(noise, &PROTOCOLS_6);
    let class = tos(noise);
    frame.extend([
        0x60 | class >> 4,
        class << 4 | byte(noise) & 0xf,
        byte(noise),
        byte(noise),
    ]);
    frame.extend([0, 0, protocol, 64]);
    for _ in 0..2 {
        frame.extend([
            0x20,
            1,
            0xd,
            0xb8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            byte(noise) & 3,
        ]);
    }
    let addresses = sum(&frame[start + 8..start + 40]);
    let mut next = start + 6;
    let mut is_fragment = false;
    while noise.one_in(5) && frame.len() < start + 80 {
        let kind = pick(noise, &[0_u8, 43, 60, 44]);
        frame[next] = kind;
        next = frame.len();
        if kind == 44 {
            is_fragment = true;
            let place = pick(noise, &[1_u16, 0x100, 0x101]);
            frame.extend([protocol, 0]);
            frame.extend(place.to_be_bytes());
            noise.extend(frame, 4);
            break;
        }
        frame.extend([protocol, 0, 1, 4, 0, 0, 0, 0]);
    }
    layer4(noise, frame, protocol, addresses, len, tail, is_fragment);
    let payload = low(frame.len() - start - 40);
    let payload = match noise.below(30) {
        0 => payload.wrapping_add(u16::from(byte(noise))),
        1 => 0,
        _ => payload,
    };
    frame[start + 4..start + 6].copy_from_slice(&payload.to_be_bytes());
    pad(noise, frame, tail);
}

fn layer4(
    noise: &mut Noise,
    frame: &mut Vec<u8>,
    protocol: u8,
    addresses: u64,
    len: usize,
    tail: [u8; 8],
    is_fragment: bool,
) {
    let l4 = frame.len();
    let field = match protocol {
        TCP => {
            frame.extend([0, 80 + (byte(noise) & 3), 0x80, byte(noise) & 3]);
            noise.extend(frame, 8);
            frame.extend([
                0x50,
                pick(noise, &[0x10, 0x18, 2, 0x11, 0xd0]),
                1,
                0,
                0,
                0,
                0,
                0,
            ]);
            Some(16)
        }
        UDP => {
            frame.extend([0, 53 + (byte(noise) & 3), 0x80, byte(noise) & 3, 0, 0, 0, 0]);
            Some(6)
        }
        ICMP | ICMP6 => {
            frame.extend([pick(noise, &[8, 128, 3, 1]), 0, 0, 0, 0, 1, 0, 1]);
            Some(2)
        }
        _ => None,
    };
    let rest = len.saturating_sub(frame.len() + 8);
    noise.extend(frame, rest);
    frame.extend(tail);
    let whole = frame.len() - l4;
    if protocol == UDP {
        let claimed = if noise.one_in(30) { whole - 1 } else { whole };
        frame[l4 + 4..l4 + 6].copy_from_slice(&low(claimed).to_be_bytes());
    }
    let Some(field) = field else { return };
    let pseudo = match protocol {
        ICMP => 0,
        _ => addresses + u64::from(protocol) + whole as u64,
    };
    let right = !fold(pseudo + sum(&frame[l4..]));
    let checksum = match noise.below(30) {
        0 => right ^ 0x0101,
        // As an offloading sender leaves it for the next to complete.
        1..3 if matches!(protocol, TCP | UDP) && !is_fragment => fold(pseudo),
        3 => 0,
        _ => right,
    };
    frame[l4 + field..l4 + field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// VXLAN inside: it is nobody's business here.
fn nested(noise: &mut Noise, frame: &mut Vec<u8>, len: usize, tail: [u8; 8]) {
    frame.extend([0x08, 0]);
    let start = frame.len();
    frame.extend([
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    let l4 = frame.len();
    frame.extend([0xc3, 0x50, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 42, 0]);
    frame.extend([0xff; 6]);
    frame.extend([2, 0, 0, 0, 0x30, 9, 0x88, 0xb5]);
    let rest = len.saturating_sub(frame.len() + 8);
    noise.extend(frame, rest);
    frame.extend(tail);
    let (ip, udp) = (low(frame.len() - start), low(frame.len() - l4));
    frame[start + 2..start + 4].copy_from_slice(&ip.to_be_bytes());
    frame[l4 + 4..l4 + 6].copy_from_slice(&udp.to_be_bytes());
    let check = !fold(sum(&frame[start..l4]));
    frame[start + 10..start + 12].copy_from_slice(&check.to_be_bytes());
}

/// Bytes behind the packet, as short frames have them.
fn pad(noise: &mut Noise, frame: &mut Vec<u8>, tail: [u8; 8]) {
    if noise.one_in(25) {
        let len = frame.len() + index(noise, 20);
        frame.resize(len, 0);
        frame.extend(tail);
    }
}

fn tos(noise: &mut Noise) -> u8 {
    let ecn = byte(noise) & 3;
    if noise.one_in(3) {
        byte(noise) & 0xfc | ecn
    } else {
        ecn
    }
}

pub(crate) fn byte(noise: &mut Noise) -> u8 {
    noise.next().to_le_bytes()[3]
}

pub(crate) fn index(noise: &mut Noise, end: usize) -> usize {
    usize::try_from(noise.below(end.max(1) as u64)).unwrap_or(0)
}

pub(crate) fn pick<T: Copy>(noise: &mut Noise, choices: &[T]) -> T {
    choices[index(noise, choices.len())]
}

const ICMP: u8 = 1;
const SCTP: u8 = 132;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const ICMP6: u8 = 58;
const PROTOCOLS_4: [u8; 8] = [TCP, TCP, TCP, UDP, UDP, UDP, ICMP, SCTP];
const PROTOCOLS_6: [u8; 8] = [TCP, TCP, TCP, UDP, UDP, UDP, ICMP6, 59];
const TYPES: [u16; 7] = [0x0800, 0x86dd, 0x0806, 0x88b5, 0x8847, 0x8808, 0x88cc];
