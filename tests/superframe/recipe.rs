//! Makes frames from bytes, so that whoever makes up bytes makes up interesting frames.

use smoltcp::wire::checksum;
use tapswitch::wire::{GsoType, VirtioNetHdr};
use zerocopy::IntoBytes;

use super::{
    Superframe,
    joiner::Input,
    low,
    packet::{ACK, AE, CWR, Checksum, DF, ECE, FIN, PSH, Packet, RST, SYN, URG},
    pseudo,
};

/// A superframe to be cut.
pub(crate) struct Cutting {
    pub(crate) spec: Superframe,
    pub(crate) header: VirtioNetHdr,
    pub(crate) frame: Vec<u8>,
    pub(crate) limit: Option<usize>,
    /// Whether bytes were changed after the frame was built.
    pub(crate) is_damaged: bool,
}

/// One superframe and what to do with it.
///
/// | byte | meaning |
/// | --- | --- |
/// | 0 | 1 IPv6, 2 UDP, 4 no superframe, 8 checksum complete, 16 ECN, 32 a limit |
/// | 1 | tags, modulo 4; a quarter of it: words of IP options, or extension headers |
/// | 2 | words of TCP options; 16 and above: padding |
/// | 3 | TCP flags |
/// | 4, 5 | payload, high byte first |
/// | 6, 7 | `gso_size` |
/// | 8, 9 | payload that the limit leaves room for, or less if there is none |
/// | 10, 11 | low bytes of sequence number and identification |
/// | 12 | `hdr_len`: 0 right, 1 nothing, else as it says |
///
/// Each three bytes behind that are a place and a value: below 0x8000 in the frame, above in the
/// virtio-net header.
pub(crate) fn superframe(bytes: &[u8]) -> Cutting {
    let at = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let wide = |first: usize| u16::from_be_bytes([at(first), at(first + 1)]);
    let kind = at(0);
    let (v6, udp) = (kind & 1 != 0, kind & 2 != 0);
    let mut spec = Superframe {
        tags: [0x88a8, 0x8100, 0x8100][..usize::from(at(1) % 4)].to_vec(),
        v6,
        udp,
        ip_options: if v6 { 0 } else { at(1) / 4 % 11 },
        extensions: if v6 { extensions(at(1) / 4) } else { vec![] },
        tcp_options: at(2) % 16 % 11,
        padding: usize::from(at(2) / 16),
        tcp_flags: at(3),
        payload: usize::from(wide(4)).min(65_000),
        gso_size: wide(6),
        seq: 0xffff_ff00 | u32::from(at(10)),
        ip_id: 0xff00 | u16::from(at(11)),
        gso: kind & 4 == 0,
        needs_csum: kind & 8 == 0 || udp,
        ecn: kind & 16 != 0 && !udp,
        ..Superframe::default()
    };
    spec.hdr_len = match at(12) {
        0 => low(spec.headers()),
        1 => 0,
        other => other.into(),
    };
    let mut header: [u8; VirtioNetHdr::LEN] = spec.header().as_bytes().try_into().unwrap();
    let mut frame = spec.frame();
    let mut is_damaged = false;
    for damage in bytes.get(13..).unwrap_or_default().chunks_exact(3) {
        let place = u16::from_be_bytes([damage[0], damage[1]]);
        let target = if place < 0x8000 {
            frame.get_mut(usize::from(place))
        } else {
            header.get_mut(usize::from(place & 0x7fff))
        };
        if let Some(byte) = target {
            *byte = damage[2];
            is_damaged = true;
        }
    }
    let room = usize::from(wide(8));
    Cutting {
        limit: (kind & 32 != 0).then_some(spec.headers() + room),
        header: VirtioNetHdr::read(&header).unwrap(),
        spec,
        frame,
        is_damaged,
    }
}

/// Up to three extension headers that are segmented behind.
fn extensions(choice: u8) -> Vec<(u8, u8)> {
    let all = [(0, 0), (43, 2), (60, 1)];
    let chosen = all.into_iter().enumerate();
    chosen
        .filter(|(bit, _)| choice >> bit & 1 != 0)
        .map(|(_, extension)| extension)
        .collect()
}

/// Bytes in front of the steps.
pub(crate) const START: usize = 4;

/// One frame each two bytes: what is special about it, and how much so.
///
/// The first four bytes are the first packet: kind (1 IPv6, 2 UDP, 4 a tag, 8 another tag, 16
/// timestamps, 32 DF clear), length, low byte of the identification, low byte of the sequence
/// number. Then, for each frame, an operation of [`step`] and its argument. What an operation
/// changes in the headers stays changed, so that the frames behind it may be joined again.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Input> {
    let at = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let kind = at(0);
    let tags = [(4, [0x88a8, 0x2014]), (8, [0x8100, 0x000a])];
    let mut packet = Packet {
        v6: kind & 1 != 0,
        udp: kind & 2 != 0,
        tags: tags
            .into_iter()
            .filter(|(bit, _)| kind & bit != 0)
            .map(|(_, tag)| tag)
            .collect(),
        tcp_options: if kind & 16 != 0 {
            timestamps(7)
        } else {
            vec![]
        },
        fragment: if kind & 32 != 0 { 0 } else { DF },
        id: 0xff00 | u16::from(at(2)),
        seq: 0xffff_ff00 | u32::from(at(3)),
        payload: payload(usize::from(at(1)) * 6, at(1)),
        ..Packet::default()
    };
    let mut list = Vec::new();
    for step_bytes in bytes.get(START..).unwrap_or_default().chunks(2) {
        let argument = step_bytes.get(1).copied().unwrap_or_default();
        list.push(step(&mut packet, step_bytes[0], argument));
        let len = packet.payload.len();
        packet.id = packet.id.wrapping_add(1);
        packet.seq = packet.seq.wrapping_add(u32::try_from(len).unwrap());
        packet.payload = payload(len, argument.wrapping_add(packet.id.to_be_bytes()[1]));
    }
    list
}

/// Builds the next frame, and changes `packet` for those behind.
fn step(packet: &mut Packet, operation: u8, argument: u8) -> Input {
    let n = usize::from(argument);
    match operation % OPERATIONS {
        // Other contents, for this frame and those behind.
        16 => packet.payload = payload(6 * n, argument),
        17 => packet.window = packet.window.wrapping_add(argument.into()),
        18 => packet.ack = packet.ack.wrapping_add(argument.into()),
        19 if packet.tcp_options.is_empty() => packet.tcp_options = timestamps(argument),
        19 => packet.tcp_options = timestamps(argument).repeat(n % 4),
        20 => packet.id = packet.id.wrapping_add(argument.into()),
        21 => packet.id = packet.id.wrapping_sub(1),
        22 => packet.fragment ^= DF,
        23 => packet.ttl = packet.ttl.wrapping_add(argument),
        24 => packet.tos ^= argument,
        25 => packet.flow_label ^= u32::from(argument) << (n % 13),
        26 => packet.seq = packet.seq.wrapping_add(argument.into()),
        27 => packet.urgent ^= u16::from(argument),
        28 => packet.macs[n % 2] ^= 1,
        29 => packet.hosts[n % 2] ^= 4,
        30 => packet.ports[n % 2] ^= 1,
        31 => packet.v6 = !packet.v6,
        32 => packet.udp = !packet.udp,
        33 if packet.tags.len() < 3 => packet.tags.push([0x8100, argument.into()]),
        33 => packet.tags.clear(),
        operation => return odd(packet, operation, argument),
    }
    (None, packet.frame())
}

/// A frame that is odd by itself; those behind it go on as if it had been ordinary.
fn odd(packet: &mut Packet, operation: u8, argument: u8) -> Input {
    let n = usize::from(argument);
    let mut odd = packet.clone();
    match operation {
        34 | 35 => odd.flags |= PSH,
        36 => odd.flags = ACK | [FIN, SYN, RST, URG, ECE, CWR, AE, 0x800][n % 8],
        37 => odd.flags = u16::from(argument),
        38 => odd.payload.truncate(n),
        39 => {
            odd.payload.truncate(n % 4);
            packet.payload.clear();
        }
        40 => odd.trailer = vec![0; n % 30],
        41 => odd.trailer = vec![argument; n % 30],
        42 => odd.fragment |= [0x2000, 0x0001, 0x8000, 0x20b9][n % 4],
        43 => odd.ip_options = argument % 11,
        44 => odd.extensions = vec![[0, 60, 43, 44, 51][n % 5]; 1 + n / 5 % 3],
        45 => odd.protocol = Some(argument),
        46 => odd.checksum = Checksum::Is(u16::from(argument) << 8 | u16::from(argument)),
        47 => odd.checksum = Checksum::Is(0),
        // As it comes from a kernel's vxlan device on the same host.
        48 => odd.checksum = Checksum::Partial,
        _ => {}
    }
    let mut frame = odd.frame();
    let len = frame.len();
    match operation {
        49 | 50 => frame[n * len / 256] ^= 1 << (n % 8),
        51 => {
            frame[len - 1] ^= argument;
        }
        52 => frame.truncate(len.saturating_sub(n)),
        53 => frame.truncate(n),
        54 if odd.udp => shorten(&odd, &mut frame, n % 8),
        54 => frame[odd.l4() + 4] ^= argument,
        55 => {
            // The other zero of the IPv4 header checksum, or a wrong one.
            let at = odd.l3() + 10;
            frame[at..at + 2].fill(argument);
        }
        // Checksums left undone, rightly and wrongly, and superframes.
        56..=58 => return left_undone(&odd, |_| {}),
        59 => return left_undone(&odd, |header| header.set_csum(argument.into(), 16)),
        60 => return several(packet, 2 + n % 5, odd.payload.len(), 0),
        61 => return several(packet, 1 + n % 3, odd.payload.len(), n % 40),
        62 => {
            odd.flags |= PSH;
            return left_undone(&odd, |_| {});
        }
        _ => {}
    }
    (None, frame)
}

/// Makes the datagram shorter than its packet, with a checksum of the rest.
fn shorten(packet: &Packet, frame: &mut [u8], by: usize) {
    let end = frame.len() - packet.trailer.len() - by.min(packet.payload.len());
    let l4 = packet.l4();
    let len = low(end - l4);
    frame[l4 + 4..l4 + 6].copy_from_slice(&len.to_be_bytes());
    frame[l4 + 6..l4 + 8].fill(0);
    let pseudo = pseudo(frame, packet.l3(), true, len.into());
    let check = !checksum::combine(&[pseudo, checksum::data(&frame[l4..end])]);
    frame[l4 + 6..l4 + 8].copy_from_slice(&check.to_be_bytes());
}

fn left_undone(packet: &Packet, change: impl FnOnce(&mut VirtioNetHdr)) -> Input {
    let mut packet = packet.clone();
    packet.checksum = Checksum::Partial;
    let mut header = packet.ask();
    change(&mut header);
    (Some(header), packet.frame())
}

/// `count` segments of `size` bytes and one of `more` in one frame.
fn several(packet: &mut Packet, count: usize, size: usize, more: usize) -> Input {
    let len = (count * size + more).min(60_000);
    packet.payload = payload(len, 1);
    let (v6, udp) = (packet.v6, packet.udp);
    let made = left_undone(packet, |header| {
        header.set_gso(match (udp, v6) {
            (true, _) => GsoType::UdpL4,
            (false, false) => GsoType::TcpV4,
            (false, true) => GsoType::TcpV6,
        });
        header.set_gso_size(low(size));
    });
    let segments = len.div_ceil(size.max(1)).max(1);
    packet.id = packet.id.wrapping_add(low(segments - 1));
    packet.seq = packet
        .seq
        .wrapping_add(u32::try_from(len - size.min(len)).unwrap());
    packet.payload.truncate(size);
    made
}

fn payload(len: usize, salt: u8) -> Vec<u8> {
    (0..=u8::MAX)
        .cycle()
        .take(len)
        .map(|byte| byte.wrapping_mul(7) ^ salt)
        .collect()
}

/// Two of no operation, and RFC 7323's option.
fn timestamps(now: u8) -> Vec<u8> {
    vec![1, 1, 8, 10, 0, 0, 0, now, 0, 0, 0, 1]
}

/// Operations from here on are ordinary frames.
pub(crate) const OPERATIONS: u8 = 64;
