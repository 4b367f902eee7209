//! Frames of our own that measure the way to a peer.
//!
//! They go through everything that other frames go through, from encapsulation to decapsulation,
//! and no further: their destination is a reserved group address, which no bridge relays (IEEE
//! 802.1D-2004 table 7-10). Whoever is not us drops them.
//!
//! ```text
//!   0   destination   01:80:c2:00:00:0e
//!   6   source        of the one who sends
//!  12   type          0x88b5, for local experiments (IEEE 802)
//!  14   magic         "tswp"
//!  18   version       1
//!  19   kind          1 request, 2 reply
//!  20   zero          2 bytes
//!  22   token         8 bytes: of one run, told by the one who asks, repeated in the reply
//!  30   sequence      4 bytes
//!  34   size          4 bytes: of this frame, all headers included
//!  38   zeros         up to the size
//! ```
//! Numbers are big-endian.

use crate::wire::{EtherType, Frame, MacAddr};

/// The group address that all probes go to, the nearest bridge's, which is not relayed.
pub const GROUP: MacAddr = MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 0x0e]);

/// The type of a probe.
pub const ETHER_TYPE: EtherType = EtherType(0x88b5);

/// The shortest probe: the shortest frame of Ethernet (IEEE 802.3 clause 4.4.2), without FCS.
pub const MIN_LEN: usize = 60;

/// The longest probe: what fits one UDP datagram over IPv4.
pub const MAX_LEN: usize = 65_507 - super::HEADER_LEN;

/// Question or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be answered with a reply of the same size, token and sequence.
    Request,
    /// Never to be answered.
    Reply,
}

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The address of the one who sends it.
    pub src: MacAddr,
    /// Question or answer.
    pub kind: Kind,
    /// What tells one run of `peer ping` from others.
    pub token: u64,
    /// The number of the question within its run.
    pub sequence: u32,
}

impl Probe {
    /// The answer of `src`.
    #[must_use]
    pub const fn reply(self, src: MacAddr) -> Self {
        Self {
            src,
            kind: Kind::Reply,
            ..self
        }
    }
}

/// Writes `probe` to `out` as an inner frame of `size` bytes; as near to it as
/// [`MIN_LEN`] and [`MAX_LEN`] allow.
pub fn encode(probe: &Probe, size: usize, out: &mut Vec<u8>) {
    let size = size.clamp(MIN_LEN, MAX_LEN);
    let kind = match probe.kind {
        Kind::Request => REQUEST,
        Kind::Reply => REPLY,
    };
    out.clear();
    out.extend(GROUP.octets());
    out.extend(probe.src.octets());
    out.extend(ETHER_TYPE.0.to_be_bytes());
    out.extend(MAGIC);
    out.extend([VERSION, kind, 0, 0]);
    out.extend(probe.token.to_be_bytes());
    out.extend(probe.sequence.to_be_bytes());
    out.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    out.resize(size, 0);
}

/// Reads a probe; `None` if `frame` is anything else, of another version, or not of the size that
/// it was sent with.
#[inline]
pub fn decode(frame: &[u8]) -> Option<Probe> {
    let head: &[u8; HEAD] = frame.first_chunk()?;
    let ethernet = Frame::new_checked(head).ok()?;
    if ethernet.dst() != GROUP || ethernet.ether_type() != ETHER_TYPE {
        return None;
    }
    decode_body(frame, ethernet.src())
}

fn decode_body(frame: &[u8], src: MacAddr) -> Option<Probe> {
    let body = frame.get(Frame::HEADER_LEN..)?;
    let (magic, body) = body.split_first_chunk::<4>()?;
    let (&[version, kind, zero, nil], body) = body.split_first_chunk()?;
    let (token, body) = body.split_first_chunk()?;
    let (sequence, body) = body.split_first_chunk()?;
    let size = u32::from_be_bytes(*body.first_chunk()?);
    let kind = match kind {
        REQUEST => Kind::Request,
        REPLY => Kind::Reply,
        _ => return None,
    };
    let is_ours = *magic == MAGIC && version == VERSION && [zero, nil] == [0, 0];
    let is_whole = (MIN_LEN..=MAX_LEN).contains(&frame.len())
        && usize::try_from(size).is_ok_and(|size| size == frame.len());
    (is_ours && is_whole && src.is_unicast()).then_some(Probe {
        src,
        kind,
        token: u64::from_be_bytes(*token),
        sequence: u32::from_be_bytes(*sequence),
    })
}

const MAGIC: [u8; 4] = *b"tswp";
const VERSION: u8 = 1;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// Bytes before the padding.
const HEAD: usize = 38;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::frames;

    const PROBE: Probe = Probe {
        src: frames::mac(1),
        kind: Kind::Request,
        token: 0x0102_0304_0506_0708,
        sequence: 0x090a_0b0c,
    };

    fn encoded(size: usize) -> Vec<u8> {
        let mut out = vec![0xa5; 100];
        encode(&PROBE, size, &mut out);
        out
    }

    #[test]
    fn every_field_is_where_the_format_says() {
        let mut expected = vec![
            0x01, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, b't', b's', b'w', b'p', 1,
            1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 64,
        ];
        expected.resize(64, 0);
        assert_eq!(encoded(64), expected);
        assert!(GROUP.reserved().is_some());
    }

    #[test]
    fn a_probe_of_any_size_comes_back() {
        let reply = PROBE.reply(frames::mac(2));
        for probe in [PROBE, reply] {
            for size in [60, 61, 1514, 9014, 65_499] {
                let mut out = Vec::new();
                encode(&probe, size, &mut out);
                assert_eq!(out.len(), size);
                assert_eq!(decode(&out), Some(probe), "size {size}");
            }
        }
        assert_eq!((reply.token, reply.sequence), (PROBE.token, PROBE.sequence));
        for (size, len) in [
            (0, MIN_LEN),
            (59, MIN_LEN),
            (65_500, MAX_LEN),
            (usize::MAX, MAX_LEN),
        ] {
            assert_eq!(encoded(size).len(), len, "size {size}");
        }
    }

    #[test]
    fn a_probe_that_lost_or_won_a_byte_is_none() {
        let frame = encoded(100);
        for len in 0..100 {
            assert_eq!(decode(&frame[..len]), None, "length {len}");
        }
        assert_eq!(decode(&[&frame[..], &[0]].concat()), None);
    }

    #[test]
    fn whatever_is_not_exactly_a_probe_is_none() {
        let frame = encoded(100);
        // Every byte before the token but those of the source's address, and every byte of the size.
        for at in (0..6).chain(12..22).chain(34..38) {
            for flip in [1, 4, 0x80] {
                let mut frame = frame.clone();
                frame[at] ^= flip;
                assert_eq!(decode(&frame), None, "byte {at}");
            }
        }
        for src in [[0; 6], [0xff; 6], [1, 0, 0, 0, 0, 1]] {
            let mut frame = frame.clone();
            frame[6..12].copy_from_slice(&src);
            assert_eq!(decode(&frame), None, "source {src:?}");
        }
        let tagged = frames::tagged(&frame, 1);
        assert_eq!(decode(&tagged), None);
        assert_eq!(decode(&frames::broadcast(frames::mac(1))), None);
    }
}
