//! The datagrams of a message that the kernel joined (`UDP_GRO`, the *outer* offload).
//!
//! With `UDP_GRO` a socket gets datagrams of one sender and one port as one message, and the size to
//! cut it at. There is one trap. A kernel vxlan device at the other end of a veth pair hands over
//! an *inner* UDP superframe as it is: one datagram of up to 64 KiB with one VXLAN header, and a size
//! that means the inner datagrams. (An inner TCP superframe comes without a size, and is no
//! problem here.)
//!
//! # What decides
//! Nothing in the message says which it is, so it goes by what nobody could have made up:
//!
//! * Who sends frames through a VTEP chooses every byte of them, a false IP length included, but not
//!   what the VTEP puts between them. If a VXLAN header stands at any place where a datagram would
//!   start, the message is not taken for one superframe. Otherwise a frame that lies about its
//!   length would swallow those of others that were joined with it.
//! * Who sends UDP superframes through a kernel chooses all of their payload, VXLAN headers
//!   included, but not the headers before it. If they do not fit the message to the byte, it is no
//!   superframe.
//! * A message with both can be either. It is taken for several datagrams, and then its sender may
//!   have forged frames: of its own segment, where whoever may send frames can do the same, or of
//!   another, which must not be. [`Datagrams::is_suspect`] tells of the second kind.

use std::{iter::FusedIterator, ops::Range};

use super::{
    header::{HEADER_LEN, parse},
    inner::{Fragment, Packet, UDP, array},
};
use crate::wire::{
    Vni,
    checksum::{pseudo_v4, pseudo_v6},
};

/// The datagrams of a message, in order and without gaps; at least one, be it empty.
#[derive(Clone, Debug)]
pub struct Datagrams {
    next: usize,
    end: usize,
    /// Bytes of each but the last; at least 1.
    size: usize,
    is_done: bool,
    reading: Reading,
}

/// How a message with a size to cut it at was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Plain,
    Superframe,
    Suspect,
}

/// Where the datagrams of a received `message` are. `segment` is the value of `UDP_GRO`; without
/// one, 0 or the length of the message: then it is one datagram.
///
/// Looks at the first inner frame only, unless that claims to be the whole message.
#[inline]
pub fn split(message: &[u8], segment: usize) -> Datagrams {
    let end = message.len();
    let reading = if segment == 0 || segment >= end {
        Reading::Plain
    } else {
        read(message, segment)
    };
    let is_one = segment == 0 || reading == Reading::Superframe;
    Datagrams {
        next: 0,
        end,
        size: if is_one { end.max(1) } else { segment },
        is_done: false,
        reading,
    }
}

impl Datagrams {
    /// Whether the message is one datagram with one inner UDP superframe, to be cut where
    /// `UDP_GRO` says.
    #[inline]
    pub fn is_superframe(&self) -> bool {
        self.reading == Reading::Superframe
    }

    /// Whether the message may be one superframe after all, in whose payload somebody has written
    /// VXLAN headers of other segments: forged frames, best dropped with all the message.
    #[inline]
    pub fn is_suspect(&self) -> bool {
        self.reading == Reading::Suspect
    }
}

impl Iterator for Datagrams {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        if self.is_done {
            return None;
        }
        let start = self.next;
        self.next = self.end.min(start.saturating_add(self.size));
        self.is_done = self.next == self.end;
        Some(start..self.next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self.is_done {
            true => 0,
            false => (self.end - self.next).div_ceil(self.size).max(1),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Datagrams {}

impl FusedIterator for Datagrams {}

/// How to understand a message that is longer than `segment`.
#[inline]
fn read(message: &[u8], segment: usize) -> Reading {
    match parse(message) {
        Ok((header, frame)) if claims_all(frame) => decide(message, segment, header.vni, frame),
        _ => Reading::Plain,
    }
}

/// Whether `frame` ends where its IP header says: the cheap question, to which nearly every
/// message of several datagrams has the answer no.
#[inline]
fn claims_all(frame: &[u8]) -> bool {
    Packet::parse(frame).is_some_and(|packet| packet.l3 + packet.len == frame.len())
}

#[inline(never)]
fn decide(message: &[u8], segment: usize, vni: Vni, frame: &[u8]) -> Reading {
    if !is_named(message) || !is_superframe(frame, segment) {
        return Reading::Plain;
    }
    let mut headers = 0;
    let mut others = 0;
    for datagram in message.chunks(segment).skip(1) {
        match parse(datagram) {
            Ok((header, _)) if is_named(datagram) => {
                headers += 1;
                others += usize::from(header.vni != vni);
            }
            _ => others += 1,
        }
    }
    match (headers, others) {
        (0, _) => Reading::Superframe,
        (_, 0) => Reading::Plain,
        _ => Reading::Suspect,
    }
}

/// Whether a datagram starts with what a VTEP writes: a clean header, or one with a group policy id
/// (draft-smith-vxlan-group-policy), which Linux adds to some frames and not to others.
fn is_named(datagram: &[u8]) -> bool {
    match array(datagram, 0) {
        Some([0x08, 0, 0, 0, _, _, _, 0]) => true,
        Some([0x88, bits, _, _, _, _, _, 0]) => bits & !POLICY_BITS == 0,
        _ => false,
    }
}

/// Whether `frame` is what the kernel makes of a UDP superframe with datagrams of `segment` bytes:
/// every length covers all of it, and the checksum is left to complete (`udp_send_skb`).
fn is_superframe(frame: &[u8], segment: usize) -> bool {
    let Some(packet) = Packet::parse(frame) else {
        return false;
    };
    let Some(l4) = packet.l4 else {
        return false;
    };
    let Some([_, _, _, _, len_high, len_low, high, low]) = array(frame, l4) else {
        return false;
    };
    let len = frame.len() - l4;
    let payload = len - UDP_HEADER;
    packet.protocol == UDP
        && packet.fragment == Fragment::Whole
        && usize::from(u16::from_be_bytes([len_high, len_low])) == len
        && payload > segment
        && payload <= segment * MAX_SEGMENTS
        && pseudo(frame, &packet, len) == Some(u16::from_be_bytes([high, low]))
}

/// The sum of the pseudo header, which an unfinished checksum field holds.
fn pseudo(frame: &[u8], packet: &Packet, len: usize) -> Option<u16> {
    let len = u32::try_from(len).ok()?;
    let (l3, is_v6) = (packet.l3, packet.is_v6);
    let sum = if is_v6 {
        pseudo_v6(array(frame, l3 + 8)?, array(frame, l3 + 24)?, UDP, len)
    } else {
        pseudo_v4(array(frame, l3 + 12)?, array(frame, l3 + 16)?, UDP, len)
    };
    Some(sum.fold())
}

const UDP_HEADER: usize = 8;

/// `UDP_MAX_SEGMENTS`, include/linux/udp.h.
const MAX_SEGMENTS: usize = 128;

/// "Don't learn" and "policy applied" in the second byte of a header with a policy id.
const POLICY_BITS: u8 = 0x48;

/// A header is as long as the part of it that is looked at.
const _: () = assert!(HEADER_LEN == 8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sim::frames, vxlan::header};

    fn vni(number: u32) -> Vni {
        Vni::new(number).unwrap()
    }

    fn datagram(number: u32, frame: &[u8]) -> Vec<u8> {
        [&header(vni(number))[..], frame].concat()
    }

    /// A UDP superframe as a kernel leaves it: lengths of the whole, and the pseudo header's sum.
    fn superframe(is_v6: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = if is_v6 {
            frames::udp6(1, 2, payload)
        } else {
            frames::udp4(1, 2, payload)
        };
        leave_checksum(&mut frame);
        frame
    }

    fn leave_checksum(frame: &mut [u8]) {
        let packet = Packet::parse(frame).unwrap();
        let l4 = packet.l4.unwrap();
        let claimed = usize::from(u16::from_be_bytes([frame[l4 + 4], frame[l4 + 5]]));
        let sum = pseudo(frame, &packet, claimed).unwrap();
        frame[l4 + 6..l4 + 8].copy_from_slice(&sum.to_be_bytes());
    }

    /// A frame of `len` bytes that claims to be a superframe of `claimed` bytes.
    fn liar(len: usize, claimed: usize) -> Vec<u8> {
        let mut frame = frames::udp4(1, 2, &vec![0; len - 42]);
        let be16 = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
        frame[16..18].copy_from_slice(&be16(claimed - 14));
        frame[38..40].copy_from_slice(&be16(claimed - 34));
        leave_checksum(&mut frame);
        frame
    }

    /// How long the datagrams are, which follow each other from the first byte to the last.
    fn lengths(message: &[u8], segment: usize) -> Vec<usize> {
        let datagrams = split(message, segment);
        assert_eq!(datagrams.len(), datagrams.clone().count());
        let mut next = 0;
        let take = |range: Range<usize>| {
            assert_eq!(range.start, next);
            next = range.end;
            range.len()
        };
        let lengths = datagrams.map(take).collect();
        assert_eq!(next, message.len());
        lengths
    }

    #[test]
    fn a_message_is_cut_at_its_segment_size_and_the_last_may_be_shorter() {
        let one = datagram(1, &frames::udp4(1, 2, &[7; 100]));
        let message = [&one[..], &one, &one, &one[..60]].concat();
        let size = one.len();
        assert_eq!(lengths(&message, size), [size, size, size, 60]);
    }

    #[test]
    fn a_message_without_a_size_is_one_datagram() {
        let message = datagram(1, &frames::udp4(1, 2, &[7; 100]));
        let len = message.len();
        for segment in [0, len, len + 1, usize::MAX] {
            assert_eq!(lengths(&message, segment), [len], "segment {segment}");
        }
        for segment in [0, 1, 1000] {
            assert_eq!(lengths(&[], segment), [0], "segment {segment}");
        }
    }

    #[test]
    fn a_kernels_udp_superframe_is_one_datagram() {
        for is_v6 in [false, true] {
            for tags in 0..=2 {
                let mut frame = superframe(is_v6, &[7; 9_000]);
                for _ in 0..tags {
                    frame = frames::tagged(&frame, 10);
                }
                let message = datagram(42, &frame);
                let datagrams = split(&message, 1000);
                assert!(datagrams.is_superframe(), "v6 {is_v6}, {tags} tags");
                assert!(!datagrams.is_suspect());
                assert_eq!(lengths(&message, 1000), [message.len()]);
            }
        }
    }

    #[test]
    fn what_does_not_fit_the_message_to_the_byte_is_no_superframe() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 10] = [
            ("a byte more", |m| m.push(0)),
            ("a byte less", |m| m.truncate(m.len() - 1)),
            ("ip length", |m| m[25] ^= 1),
            ("udp length", |m| m[47] ^= 1),
            ("checksum", |m| m[49] ^= 1),
            ("tcp", |m| m[31] = 6),
            ("fragment", |m| m[28] = 0x20),
            ("no ip", |m| m[20] = 0x09),
            ("no vni", |m| m[0] = 0),
            ("reserved bits", |m| m[7] = 1),
        ];
        let message = datagram(42, &superframe(false, &[7; 5000]));
        assert!(split(&message, 1000).is_superframe());
        for (name, damage) in damages {
            let mut message = message.clone();
            damage(&mut message);
            assert!(!split(&message, 1000).is_superframe(), "{name}");
            assert_eq!(
                lengths(&message, 1000).len(),
                message.len().div_ceil(1000),
                "{name}"
            );
        }
        // More datagrams than a superframe has, and a single one.
        assert!(!split(&message, 30).is_superframe());
        assert!(!split(&message, 5000).is_superframe());
        assert!(split(&message, 4999).is_superframe());
    }

    #[test]
    fn a_frame_that_lies_about_its_length_swallows_nobody() {
        for count in 2..6 {
            for short in [0, 500] {
                for number in [42, 43] {
                    let total = 1008 * count - short;
                    let honest = datagram(number, &frames::udp4(3, 4, &[9; 958]));
                    let mut message = datagram(42, &liar(1000, total - 8));
                    for _ in 1..count {
                        message.extend(&honest);
                    }
                    message.truncate(total);
                    let datagrams = split(&message, 1008);
                    assert!(!datagrams.is_superframe());
                    // That of its own segment might be read either way and harms nobody else.
                    assert_eq!(datagrams.is_suspect(), number != 42);
                    assert_eq!(datagrams.len(), count);
                }
            }
        }
    }

    #[test]
    fn one_header_of_a_vtep_anywhere_is_enough_to_split() {
        for at in 1..4 {
            for head in [[8, 0, 0, 0, 0, 0, 42, 0], [0x88, 0x48, 3, 4, 0, 0, 42, 0]] {
                let mut message = datagram(42, &liar(1000, 4 * 1008 - 8));
                message.resize(4 * 1008, 0xee);
                assert!(split(&message, 1008).is_superframe());
                message[at * 1008..at * 1008 + 8].copy_from_slice(&head);
                let datagrams = split(&message, 1008);
                assert!(!datagrams.is_superframe(), "header at {at}");
                assert!(datagrams.is_suspect(), "header at {at}");
            }
        }
    }

    #[test]
    fn vxlan_inside_a_superframe_is_not_mistaken_for_datagrams() {
        // A VTEP behind the peer sends its own datagrams as a superframe.
        let nested: Vec<u8> = datagram(7, &frames::udp4(3, 4, &[9; 950])).repeat(10);
        let message = datagram(42, &superframe(false, &nested));
        assert!(split(&message, 1000).is_superframe());
    }

    #[test]
    fn absurd_sizes_are_cut_to_the_end_and_no_further() {
        let message = datagram(1, &frames::udp4(1, 2, &[7; 1000]));
        for segment in 1..message.len() {
            let lengths = lengths(&message, segment);
            assert!(lengths.iter().all(|&len| (1..=segment).contains(&len)));
        }
    }
}
