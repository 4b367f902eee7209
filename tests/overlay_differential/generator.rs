//! Random steps: step `n` of a seed is the same on every machine, and does not depend on the steps
//! before it.

use std::fmt;

use crate::{
    host::{PEERS, Settings, VNIS, kernel_mac},
    inner::{self, Side, byte, index, pick},
    packets::{Checksum, Fragments, Hex, Outer, Packet, Shape, Target, be16, fold, sum},
    superframe::{Noise, Superframe},
};

/// Something that happens to both hosts.
#[derive(Clone)]
pub(crate) enum Op {
    /// Datagrams arrive, each alone or all joined by the device.
    Hear {
        datagrams: Vec<Datagram>,
        joined: bool,
    },
    /// A pod sends.
    Speak { pod: usize, frames: Vec<Packet> },
}

/// A datagram from afar.
#[derive(Clone)]
pub(crate) struct Datagram {
    pub(crate) outer: Outer,
    pub(crate) payload: Vec<u8>,
}

impl Op {
    /// Whether the pod leaves checksums to be completed.
    pub(crate) fn is_unfinished(&self) -> bool {
        match self {
            Self::Hear { .. } => false,
            Self::Speak { frames, .. } => frames.iter().any(|frame| frame.header.needs_csum()),
        }
    }

    /// What arrives on the underlay or from the pod, in order.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        match self {
            Self::Hear {
                datagrams,
                joined: true,
            } => {
                let payloads: Vec<_> = datagrams.iter().map(|d| d.payload.clone()).collect();
                vec![datagrams[0].outer.joined(&payloads)]
            }
            Self::Hear { datagrams, .. } => datagrams
                .iter()
                .flat_map(|d| d.outer.packets(&d.payload))
                .collect(),
            Self::Speak { frames, .. } => frames.clone(),
        }
    }
}

/// Step number `step` of `seed`; of 100 steps, `hearing` are datagrams from afar.
pub(crate) fn op(seed: u64, step: u64, settings: &Settings, hearing: u64) -> Op {
    let mut noise = Noise(seed ^ (step + 1).wrapping_mul(0xd134_2543_de82_ef95));
    let mut tail = Tail { step, number: 0 };
    if noise.below(100) < hearing {
        hear(&mut noise, settings, &mut tail)
    } else {
        speak(&mut noise, &mut tail)
    }
}

/// The last 8 bytes of a frame: no two are alike.
struct Tail {
    step: u64,
    number: u8,
}

impl Tail {
    fn next(&mut self) -> [u8; 8] {
        self.number = self.number.wrapping_add(1);
        let [a, b, c, d, e, ..] = self.step.to_le_bytes();
        [0x5a, a, b, c, d, e, self.number, 0xa5]
    }
}

fn hear(noise: &mut Noise, settings: &Settings, tail: &mut Tail) -> Op {
    if !noise.one_in(12) {
        let datagrams = vec![datagram(noise, settings, tail)];
        return Op::Hear {
            datagrams,
            joined: false,
        };
    }
    let count = 2 + index(noise, 31);
    let joined = noise.one_in(2);
    let from = pick(noise, &[2, 2, 2, 2, 3, 3, 3, 3, 4, 4, STRANGER]);
    let side = match side_of(from) {
        Side::Stranger => Side::Stranger,
        _ => Side::RemoteBurst,
    };
    let outer = Outer {
        port: 49152 + u16::from(byte(noise)),
        // What the kernel makes of marks behind tags is told apart in single datagrams.
        tos: pick(noise, &[0, 2]),
        ..Outer::new(settings.v6, from)
    };
    // Of equal length, if they are to be joined.
    let len = 130 + index(noise, 1300);
    let datagrams = (0..count).map(|number| {
        let len = match (joined, number + 1 == count) {
            (true, false) => len,
            (true, true) => len.min(130 + index(noise, 1300)),
            (false, _) => 130 + index(noise, 1300),
        };
        let mut frame = inner::frame(noise, side, len, tail.next());
        if noise.one_in(6) {
            inner::damage(noise, &mut frame);
        }
        let head = head(noise);
        let mut payload = [&head[..], &frame].concat();
        if joined && payload.len() != len + 8 {
            // A kind of frame that has a length of its own.
            let last = tail.next();
            payload.resize(len, 0);
            payload.extend(last);
        }
        Datagram { outer, payload }
    });
    let mut datagrams: Vec<_> = datagrams.collect();
    if joined && noise.one_in(6) {
        lie(&mut datagrams);
    }
    Op::Hear { datagrams, joined }
}

/// Makes the first datagram look as if it were all of them: what a kernel hands over that has not
/// cut a UDP superframe.
fn lie(datagrams: &mut [Datagram]) {
    let whole: usize = datagrams.iter().map(|d| d.payload.len()).sum();
    let [first, second, ..] = datagrams else {
        return;
    };
    second.payload[..8].copy_from_slice(&header(VNIS[0]));
    let be = |len: usize| crate::packets::low(len).to_be_bytes();
    let mut start = header(VNIS[0]).to_vec();
    start.extend([2, 0, 0, 0, 0x30, 1, 2, 0, 0, 0, 0x20, 1, 8, 0, 0x45, 0]);
    start.extend(be(whole - 22));
    start.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let check = !fold(sum(&start[22..]));
    start[32..34].copy_from_slice(&check.to_be_bytes());
    let pseudo = sum(&start[34..42]) + 17 + (whole - 42) as u64;
    start.extend([0, 53, 0, 53]);
    start.extend(be(whole - 42));
    start.extend(fold(pseudo).to_be_bytes());
    first.payload[..start.len()].copy_from_slice(&start);
}

fn side_of(from: u8) -> Side {
    if from == STRANGER {
        Side::Stranger
    } else {
        Side::Remote
    }
}

fn datagram(noise: &mut Noise, settings: &Settings, tail: &mut Tail) -> Datagram {
    let from = match noise.below(100) {
        0..50 => 2,
        50..80 => 3,
        80..93 => 4,
        93..98 => STRANGER,
        _ => 1,
    };
    let outer = Outer {
        v6: settings.v6,
        from,
        to: match noise.below(50) {
            0 => Target::OtherAddress,
            1 => Target::Everybody,
            _ => Target::Endpoint,
        },
        port: u16::from(byte(noise)) << 8 | u16::from(byte(noise)),
        tos: byte(noise) & if noise.one_in(3) { 0xff } else { 3 },
        checksum: match noise.below(20) {
            0..3 => Checksum::Zero,
            3..5 => Checksum::Wrong,
            _ => Checksum::Right,
        },
        shape: match noise.below(20) {
            0 => Shape::Options(1 + byte(noise) % 10),
            1 => Shape::Fragments(pick(noise, &FATES)),
            _ => Shape::Plain,
        },
        id: u16::from_le_bytes([byte(noise), byte(noise)]),
    };
    let len = inner::length(noise);
    let mut frame = inner::frame(noise, side_of(from), len, tail.next());
    if noise.one_in(8) {
        inner::damage(noise, &mut frame);
    }
    let head = head(noise);
    if noise.one_in(60) {
        // A loop would look like this.
        let segment = VNIS
            .iter()
            .position(|vni| head[4..7] == vni.to_be_bytes()[1..]);
        frame[6..12].copy_from_slice(&kernel_mac(segment.unwrap_or(0)).octets());
    }
    let mut payload = [&head[..], &frame].concat();
    if noise.one_in(8) {
        payload.truncate(index(noise, 65));
    }
    Datagram { outer, payload }
}

/// The VXLAN header.
fn head(noise: &mut Noise) -> [u8; 8] {
    let vni = match noise.below(20) {
        0..11 => VNIS[0],
        11..18 => VNIS[1],
        _ => pick(
            noise,
            &[0, 1, 41, 43, 42 << 8, 42 << 16, 0xff_fffe, 0xff_ff00],
        ),
    };
    let mut head = header(vni);
    match noise.below(100) {
        0..10 => {
            for _ in 0..=noise.below(3) {
                head[index(noise, 8)] ^= 1 << noise.below(8);
            }
        }
        10..12 => head.fill_with(|| byte(noise)),
        // Group policy, and generic protocol extension.
        12 => head[0] = 0x88,
        13 => head[0] = 0x0c,
        _ => {}
    }
    head
}

/// A whole and honest frame from a pod to somebody behind a remote VTEP, which may be too big for
/// the path. (To what it floods, the kernel answers once for each VTEP, and we once.)
pub(crate) fn big(seed: u64, step: u64) -> Op {
    let mut noise = Noise(seed ^ (step + 1).wrapping_mul(0xd134_2543_de82_ef95));
    let mut tail = Tail { step, number: 0 };
    let pod = index(&mut noise, VNIS.len());
    loop {
        let len = 1420 + index(&mut noise, 95);
        let frame = inner::frame(&mut noise, Side::Local, len, tail.next());
        let is_known = matches!(frame[..11], [2, 0, 0, 0, 0x20, _, 2, 0, 0, 0, 0x30]);
        if frame.len() <= 1514 && is_known && inner::is_honest(&frame) {
            let frames = vec![Packet::plain(frame)];
            return Op::Speak { pod, frames };
        }
    }
}

fn speak(noise: &mut Noise, tail: &mut Tail) -> Op {
    let pod = index(noise, VNIS.len());
    if noise.one_in(6) {
        let frames = vec![superframe(noise)];
        return Op::Speak { pod, frames };
    }
    if !noise.one_in(10) {
        let len = inner::length(noise);
        let mut frame = inner::frame(noise, Side::Local, len, tail.next());
        if noise.one_in(8) {
            inner::damage(noise, &mut frame);
        }
        let frames = vec![Packet::plain(frame)];
        return Op::Speak { pod, frames };
    }
    // A few flows, so that frames of one follow each other.
    let count = 2 + index(noise, 31);
    let flows: Vec<u64> = (0..3).map(|_| noise.next()).collect();
    let frames = (0..count).map(|_| {
        let mut flow = Noise(pick(noise, &flows));
        let len = 130 + index(&mut flow, 1300);
        Packet::plain(inner::frame(&mut flow, Side::Local, len, tail.next()))
    });
    let frames = frames.collect();
    Op::Speak { pod, frames }
}

/// A frame that the pod's kernel has left for others to cut or to complete.
fn superframe(noise: &mut Noise) -> Packet {
    let gso = !noise.one_in(4);
    let gso_size = 100 + index(noise, 1200);
    let spec = Superframe {
        tags: if noise.one_in(5) {
            vec![0x8100]
        } else {
            Vec::new()
        },
        v6: noise.one_in(2),
        udp: noise.one_in(2),
        ip_options: if noise.one_in(5) { byte(noise) % 11 } else { 0 },
        tcp_options: pick(noise, &[0, 3, 3, 10]),
        tcp_flags: pick(noise, &[0x10, 0x18, 0x19]),
        seq: u32::from_le_bytes([byte(noise), byte(noise), byte(noise), byte(noise)]),
        ip_id: u16::from_le_bytes([byte(noise), byte(noise)]),
        traffic_class: byte(noise) & if noise.one_in(3) { 0xff } else { 3 },
        payload: if gso {
            gso_size + 1 + index(noise, 20_000.min(100 * gso_size))
        } else {
            gso_size
        },
        salt: noise.next(),
        gso,
        gso_size: if gso {
            crate::packets::low(gso_size)
        } else {
            0
        },
        ..Superframe::default()
    };
    let mut bytes = spec.frame();
    if !gso && noise.one_in(4) {
        // So that its checksum comes out as 0.
        let l4 = spec.l4();
        let end = bytes.len() - (bytes.len() - l4) % 2;
        let sum =
            !fold(sum(&bytes[l4..end]) - u64::from(be16(&bytes, end - 2)) + odd(&bytes[end..]));
        bytes[end - 2..end].copy_from_slice(&sum.to_be_bytes());
    }
    let tagged = u8::from(!spec.tags.is_empty());
    let to = if noise.one_in(4) {
        [0xff; 6]
    } else {
        [2, 0, 0, 0, 0x20 + tagged, byte(noise) & 3]
    };
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0x30 + tagged, byte(noise) & 3]);
    Packet {
        header: spec.header(),
        bytes,
    }
}

/// What a last byte without a partner adds to a checksum.
fn odd(rest: &[u8]) -> u64 {
    rest.first().map_or(0, |byte| u64::from(*byte) << 8)
}

/// Whether a remote VTEP belongs to a segment.
pub(crate) fn is_peer(segment: usize, from: u8) -> bool {
    PEERS
        .get(segment)
        .is_some_and(|peers| peers.contains(&from))
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hear { datagrams, joined } => {
                let how = if *joined { "joined " } else { "" };
                write!(f, "{} {how}datagrams from afar", datagrams.len())?;
                datagrams
                    .iter()
                    .take(3)
                    .try_for_each(|d| write!(f, "\n      {d:?}"))
            }
            Self::Speak { pod, frames } => {
                write!(f, "pod {pod} sends {} frames", frames.len())?;
                frames.iter().take(3).try_for_each(|frame| {
                    write!(f, "\n      {:?} {}", frame.header, Hex(&frame.bytes))
                })
            }
        }
    }
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.outer, Hex(&self.payload))
    }
}

/// The source of a frame, if it has one.
pub(crate) fn source(frame: &[u8]) -> Option<[u8; 6]> {
    frame.get(6..12)?.first_chunk().copied()
}

/// A clean VXLAN header.
pub(crate) fn header(vni: u32) -> [u8; 8] {
    let [_, a, b, c] = vni.to_be_bytes();
    [8, 0, 0, 0, a, b, c, 0]
}

/// The remote VTEP that is nobody's peer.
pub(crate) const STRANGER: u8 = 66;

const FATES: [Fragments; 5] = [
    Fragments::InOrder,
    Fragments::Reversed,
    Fragments::Twice,
    Fragments::Overlapping,
    Fragments::Missing,
];
