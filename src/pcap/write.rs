//! Frames to blocks of pcapng, and blocks out of a stream of them.
//!
//! Written by hand, since what every packet carries here (comment, direction, which interface of many)
//! is what makes the file worth having; `tests/capture.rs` has tshark and tcpdump read it back.

use crate::time::Timestamp;

/// Writes blocks into memory, little-endian. The order is the caller's: [`Writer::section`] first,
/// then interfaces before their packets.
#[derive(Clone, Debug)]
pub struct Writer {
    snaplen: u32,
    interfaces: u32,
}

/// An interface of the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u32);

/// Which way a packet went, from the host's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Out of the host, into the switch.
    Inbound,
    /// Out of the switch, into the host.
    Outbound,
}

/// Counts of an interface at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Packets that are in the file.
    pub captured: u64,
    /// Packets that matched and are not.
    pub lost: u64,
}

impl Writer {
    /// Packets are cut to `snaplen` bytes.
    pub fn new(snaplen: u32) -> Self {
        Self {
            snaplen,
            interfaces: 0,
        }
    }

    /// Begins a section (§4.1), made by `application`.
    pub fn section(&mut self, out: &mut Vec<u8>, application: &str) {
        self.interfaces = 0;
        block(out, SECTION, |out| {
            out.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
            // Version 1.0, of unknown length.
            out.extend_from_slice(&[1, 0, 0, 0]);
            out.extend_from_slice(&[0xff; 8]);
            option(out, 4, application.as_bytes());
            end_of_options(out);
        });
    }

    /// Adds an interface of Ethernet frames (§4.2), with nanoseconds.
    pub fn interface(&mut self, out: &mut Vec<u8>, name: &str, description: &str) -> InterfaceId {
        block(out, INTERFACE, |out| {
            out.extend_from_slice(&[ETHERNET, 0, 0, 0]);
            out.extend_from_slice(&self.snaplen.to_le_bytes());
            option(out, 2, name.as_bytes());
            option(out, 3, description.as_bytes());
            option(out, 9, &[9]);
            end_of_options(out);
        });
        let id = InterfaceId(self.interfaces);
        self.interfaces += 1;
        id
    }

    /// Adds a packet of `len` bytes, of which `bytes` are known (§4.3); `at` counts from 1970.
    pub fn packet(
        &self,
        out: &mut Vec<u8>,
        (InterfaceId(interface), direction): (InterfaceId, Direction),
        at: Timestamp,
        (len, bytes): (usize, &[u8]),
        comment: &str,
    ) {
        block(out, PACKET, |out| {
            out.extend_from_slice(&interface.to_le_bytes());
            let nanos = at.as_nanos();
            for half in [nanos >> 32, nanos & 0xffff_ffff] {
                out.extend_from_slice(&number(half).to_le_bytes());
            }
            for len in [bytes.len(), len] {
                out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
            }
            out.extend_from_slice(bytes);
            pad(out, bytes.len());
            option(out, 1, comment.as_bytes());
            let flags: u32 = match direction {
                Direction::Inbound => 1,
                Direction::Outbound => 2,
            };
            option(out, 2, &flags.to_le_bytes());
            end_of_options(out);
        });
    }

    /// Adds what an interface has lost (§4.6).
    pub fn statistics(
        &self,
        out: &mut Vec<u8>,
        InterfaceId(interface): InterfaceId,
        at: Timestamp,
        drops: Drops,
    ) {
        block(out, STATISTICS, |out| {
            out.extend_from_slice(&interface.to_le_bytes());
            let nanos = at.as_nanos();
            for half in [nanos >> 32, nanos & 0xffff_ffff] {
                out.extend_from_slice(&number(half).to_le_bytes());
            }
            // Received and dropped by the interface, then accepted by the filter and delivered.
            let matched = drops.captured + drops.lost;
            for (code, count) in [
                (4, matched),
                (LOST, drops.lost),
                (6, matched),
                (DELIVERED, drops.captured),
            ] {
                option(out, code, &count.to_le_bytes());
            }
            end_of_options(out);
        });
    }
}

/// The upper or lower half of a number.
fn number(half: u64) -> u32 {
    u32::try_from(half).unwrap_or(u32::MAX)
}

/// Writes a block (§3.1): type, length, body, and the length again.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    if let Some(field) = out.get_mut(start + 4..start + 8) {
        field.copy_from_slice(&len.to_le_bytes());
    }
}

/// Writes an option (§3.5): code, length, value and padding. Longer values are cut.
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..LONGEST_OPTION).unwrap_or(value);
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// Pads to 32 bits behind `len` bytes.
fn pad(out: &mut Vec<u8>, len: usize) {
    let missing = len.next_multiple_of(4) - len;
    out.extend_from_slice(&[0; 3][..missing]);
}

/// Finds the blocks in a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct Blocks {
    bytes: Vec<u8>,
    start: usize,
}

impl Blocks {
    /// The next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The type and the bytes of the next whole block, if it is there. A length that cannot be is
    /// the end of all blocks.
    pub fn next_block(&mut self) -> Option<(u32, &[u8])> {
        let rest = self.bytes.get(self.start..)?;
        let word = |at: usize| {
            let bytes = rest.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let (kind, len) = (word(0)?, usize::try_from(word(4)?).ok()?);
        if len < 12 || len % 4 != 0 || rest.len() < len {
            return None;
        }
        let start = self.start;
        self.start += len;
        Some((kind, self.bytes.get(start..start + len)?))
    }

    /// Whether a block with this type describes the file rather than a packet: a section or an
    /// interface.
    pub fn is_head(kind: u32) -> bool {
        matches!(kind, SECTION | INTERFACE)
    }

    /// What an interface has lost, if that is what `block` is about; as [`Writer::statistics`] wrote
    /// it.
    pub fn statistics(kind: u32, block: &[u8]) -> Option<Drops> {
        if kind != STATISTICS {
            return None;
        }
        let mut drops = Drops::default();
        let mut rest = block.get(20..)?;
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let [c0, c1, l0, l1] = *head;
            let len = usize::from(u16::from_le_bytes([l0, l1]));
            let value = || tail.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            match u16::from_le_bytes([c0, c1]) {
                0 => break,
                LOST => drops.lost = value()?,
                DELIVERED => drops.captured = value()?,
                _ => {}
            }
            rest = tail.get(len.next_multiple_of(4)..)?;
        }
        Some(drops)
    }

    /// Whether a block with this type is a packet.
    pub fn is_packet(kind: u32) -> bool {
        kind == PACKET
    }
}

/// Block types (§11.1).
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
/// Options of a block of statistics: `isb_ifdrop` and `isb_usrdeliv` (§4.6).
const LOST: u16 = 5;
const DELIVERED: u16 = 8;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u8 = 1;
/// So that a comment can neither overflow its length nor fill the file.
const LONGEST_OPTION: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_written_are_found_again_however_the_stream_is_cut() {
        let mut writer = Writer::new(100);
        let mut stream = Vec::new();
        writer.section(&mut stream, "tapswitch");
        let port = writer.interface(&mut stream, "podA", "port");
        for len in 0..9 {
            let bytes = vec![7; len];
            let at = Timestamp::from_secs(1);
            let comment = "x".repeat(len);
            let way = (port, Direction::Inbound);
            writer.packet(&mut stream, way, at, (len + 1, &bytes), &comment);
        }
        writer.statistics(&mut stream, port, Timestamp::ZERO, Drops::default());
        for cut in 1..60 {
            let mut blocks = Blocks::default();
            let (mut kinds, mut whole) = (Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                blocks.push(piece);
                while let Some((kind, bytes)) = blocks.next_block() {
                    kinds.push(kind);
                    whole.extend_from_slice(bytes);
                }
            }
            assert_eq!(whole, stream);
            assert_eq!(kinds.len(), 12);
            assert_eq!(
                (kinds[0], kinds[1], kinds[11]),
                (SECTION, INTERFACE, STATISTICS)
            );
            assert!(kinds[2..11].iter().all(|&kind| Blocks::is_packet(kind)));
        }
    }

    #[test]
    fn a_block_without_a_sensible_length_is_none() {
        for len in [0_u32, 8, 13] {
            let mut blocks = Blocks::default();
            blocks.push(&[&6_u32.to_le_bytes()[..], &len.to_le_bytes(), &[0; 64]].concat());
            assert_eq!(blocks.next_block(), None);
        }
    }
}
