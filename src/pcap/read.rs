//! Reading packets back, one by one, whatever program wrote the file.

use std::{
    io::{self, Read},
    time::Duration,
};

use pcap_file::{
    Endianness, PcapError, TsResolution,
    pcap::PcapReader,
    pcapng::{
        PcapNgReader,
        blocks::{
            ENHANCED_PACKET_BLOCK, PACKET_BLOCK, SIMPLE_PACKET_BLOCK,
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

/// What the packets of a file start with (pcap-linktype(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkType(pub u32);

impl LinkType {
    /// A BSD loopback header.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// IP, as some old programs number it.
    pub const RAW_OLD: Self = Self(12);
    /// IP.
    pub const RAW: Self = Self(101);
    /// A BSD loopback header, big-endian.
    pub const LOOP: Self = Self(108);
    /// Linux's pseudo header for all devices.
    pub const LINUX_SLL: Self = Self(113);
    /// IPv4.
    pub const IPV4: Self = Self(228);
    /// IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux's pseudo header for all devices, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// One packet of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Counted from 1.
    pub number: u64,
    /// What it starts with.
    pub link: LinkType,
    /// The part of it that was kept.
    pub bytes: Vec<u8>,
    /// How long it was.
    pub original_len: usize,
    /// When it was seen, since 1970.
    pub time: Option<Duration>,
    /// Where it was seen.
    pub interface: Option<String>,
    /// What was written about it.
    pub comments: Vec<String>,
}

/// The file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It starts like none.
    #[error("this is neither pcap nor pcapng")]
    NoCapture,
    /// It ends inside of a packet, or of what describes the packets.
    #[error("the file ends inside of packet {}; was it still being written?", packets + 1)]
    Ends {
        /// Packets before.
        packets: u64,
    },
    /// It is not what it seems to be.
    #[error("packet {}: {cause}; the file is damaged", packets + 1)]
    Damaged {
        /// Packets before.
        packets: u64,
        /// Which rule of the format is broken.
        cause: String,
    },
    /// The system refuses.
    #[error(transparent)]
    Io(io::Error),
}

/// Whether a file that starts with these bytes is a capture.
pub fn is_capture(head: &[u8]) -> bool {
    matches!(
        head.first_chunk(),
        Some(
            [0xa1, 0xb2, 0xc3, 0xd4]
                | [0xd4, 0xc3, 0xb2, 0xa1]
                | [0xa1, 0xb2, 0x3c, 0x4d]
                | [0x4d, 0x3c, 0xb2, 0xa1]
                | [0x0a, 0x0d, 0x0d, 0x0a]
        )
    )
}

/// The packets of a file, in its order. After an error there are no more.
#[expect(missing_debug_implementations, reason = "the readers have none")]
pub struct Reader {
    format: Format,
    packets: u64,
    has_failed: bool,
}

type Source = Box<dyn Read>;

enum Format {
    Pcap(PcapReader<Source>),
    PcapNg(PcapNgReader<Source>),
}

impl Reader {
    /// Reads the head of `file`.
    ///
    /// # Errors
    /// [`ReadError`], also if it is no capture.
    pub fn new(mut file: impl Read + 'static) -> Result<Self, ReadError> {
        let mut head = Vec::new();
        let read = file.by_ref().take(4).read_to_end(&mut head);
        read.map_err(ReadError::Io)?;
        if !is_capture(&head) {
            return Err(ReadError::NoCapture);
        }
        let is_ng = head.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]);
        let file: Source = Box::new(io::Cursor::new(head).chain(file));
        let format = match is_ng {
            true => PcapNgReader::new(file).map(Format::PcapNg),
            false => PcapReader::new(file).map(Format::Pcap),
        };
        Ok(Self {
            format: format.map_err(|error| told(error, 0))?,
            packets: 0,
            has_failed: false,
        })
    }

    fn read(&mut self) -> Option<Result<Packet, PcapError>> {
        let number = self.packets + 1;
        match &mut self.format {
            Format::Pcap(reader) => old_packet(reader, number),
            Format::PcapNg(reader) => loop {
                match next_block(reader, number)? {
                    Ok(None) => {}
                    Ok(Some(packet)) => return Some(Ok(packet)),
                    Err(error) => return Some(Err(error)),
                }
            },
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Packet, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let packet = self.read()?;
        match packet {
            Ok(_) => self.packets += 1,
            Err(_) => self.has_failed = true,
        }
        Some(packet.map_err(|error| told(error, self.packets)))
    }
}

fn told(error: PcapError, packets: u64) -> ReadError {
    match error {
        PcapError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ReadError::Ends { packets }
        }
        PcapError::IoError(error) => ReadError::Io(error),
        PcapError::InvalidField(cause) => ReadError::Damaged {
            packets,
            cause: cause.to_owned(),
        },
        other => ReadError::Damaged {
            packets,
            cause: other.to_string(),
        },
    }
}

fn old_packet(reader: &mut PcapReader<Source>, number: u64) -> Option<Result<Packet, PcapError>> {
    let header = reader.header();
    let raw = match reader.next_raw_packet()? {
        Ok(raw) => raw,
        Err(error) => return Some(Err(error)),
    };
    let nanos = match header.ts_resolution {
        TsResolution::MicroSecond => u64::from(raw.ts_frac) * 1000,
        TsResolution::NanoSecond => raw.ts_frac.into(),
    };
    let time = Duration::from_secs(raw.ts_sec.into()) + Duration::from_nanos(nanos);
    Some(Ok(Packet {
        number,
        // The upper half tells of the FCS.
        link: LinkType(u32::from(header.datalink) & 0xffff),
        original_len: (raw.orig_len as usize).max(raw.data.len()),
        bytes: raw.data.into_owned(),
        time: Some(time),
        interface: None,
        comments: Vec::new(),
    }))
}

/// The packet of the next block, if it has one.
fn next_block(
    reader: &mut PcapNgReader<Source>,
    number: u64,
) -> Option<Result<Option<Packet>, PcapError>> {
    let endianness = reader.section().endianness;
    let block = match reader.next_raw_block()? {
        Ok(block) => block,
        Err(error) => return Some(Err(error)),
    };
    let kind = block.type_;
    let body = Body {
        bytes: block.body.into_owned(),
        endianness,
    };
    let packet = match kind {
        ENHANCED_PACKET_BLOCK => enhanced(&body, body.long(0), reader.interfaces(), number),
        // Obsolete, and as the enhanced one but for its first field: two of 16 bits, the second of
        // which counts drops (appendix A of the draft).
        PACKET_BLOCK => {
            let index = body.word(0).map(u32::from);
            enhanced(&body, index, reader.interfaces(), number)
        }
        SIMPLE_PACKET_BLOCK => simple(&body, reader.interfaces(), number),
        _ => return Some(Ok(None)),
    };
    Some(packet.map(Some))
}

struct Body {
    bytes: Vec<u8>,
    endianness: Endianness,
}

impl Body {
    fn long(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(match self.endianness {
            Endianness::Big => u32::from_be_bytes(bytes),
            Endianness::Little => u32::from_le_bytes(bytes),
        })
    }

    fn word(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(match self.endianness {
            Endianness::Big => u16::from_be_bytes(bytes),
            Endianness::Little => u16::from_le_bytes(bytes),
        })
    }
}

/// Section 4.3 of the draft, of a packet from interface `index`. The options of a block need no end,
/// which the crate insists on.
fn enhanced(
    body: &Body,
    index: Option<u32>,
    interfaces: &[InterfaceDescriptionBlock<'static>],
    number: u64,
) -> Result<Packet, PcapError> {
    let head = || {
        let index = index?;
        let ticks = u64::from(body.long(4)?) << 32 | u64::from(body.long(8)?);
        Some((index, ticks, body.long(12)? as usize, body.long(16)?))
    };
    let short = PcapError::InvalidField("the block of a packet is too short");
    let Some((index, ticks, len, original_len)) = head() else {
        return Err(short);
    };
    let Some(bytes) = body.bytes.get(20..20_usize.saturating_add(len)) else {
        return Err(short);
    };
    let interface = interfaces.get(index as usize);
    let interface = interface.ok_or(PcapError::InvalidInterfaceId(index))?;
    Ok(Packet {
        number,
        link: LinkType(interface.linktype.into()),
        bytes: bytes.to_vec(),
        original_len: (original_len as usize).max(len),
        time: time(interface, ticks),
        interface: name(interface),
        comments: comments(body, 20 + len.next_multiple_of(4)),
    })
}

/// Section 4.4 of the draft.
fn simple(
    body: &Body,
    interfaces: &[InterfaceDescriptionBlock<'static>],
    number: u64,
) -> Result<Packet, PcapError> {
    let interface = interfaces.first().ok_or(PcapError::InvalidInterfaceId(0))?;
    let original_len = body.long(0).unwrap_or(0);
    let limit = match interface.snaplen {
        0 => original_len,
        snaplen => original_len.min(snaplen),
    };
    let bytes = body.bytes.get(4..).unwrap_or_default();
    let bytes = bytes.get(..limit as usize).unwrap_or(bytes);
    Ok(Packet {
        number,
        link: LinkType(interface.linktype.into()),
        bytes: bytes.to_vec(),
        original_len: (original_len as usize).max(bytes.len()),
        time: None,
        interface: name(interface),
        comments: Vec::new(),
    })
}

fn name(interface: &InterfaceDescriptionBlock<'_>) -> Option<String> {
    interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
        _ => None,
    })
}

/// Microseconds, unless the interface says something else.
fn time(interface: &InterfaceDescriptionBlock<'_>, ticks: u64) -> Option<Duration> {
    let resolution = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    let units = match resolution.unwrap_or(6) {
        power @ 0x80.. => 2_u128.checked_pow(u32::from(power) & 0x7f),
        power => 10_u128.checked_pow(power.into()),
    };
    let nanos = u128::from(ticks) * 1_000_000_000 / units?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// Options with code 1, from `at` on.
fn comments(body: &Body, mut at: usize) -> Vec<String> {
    let mut found = Vec::new();
    while let (Some(code), Some(len)) = (body.word(at), body.word(at + 2)) {
        let len = usize::from(len);
        let Some(value) = body.bytes.get(at + 4..at + 4 + len) else {
            break;
        };
        match code {
            0 => break,
            1 => found.push(String::from_utf8_lossy(value).into_owned()),
            _ => {}
        }
        at += 4 + len.next_multiple_of(4);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PODS: &[u8] = include_bytes!("../../tests/cmd/explain.in/pods.pcapng");
    const OVERLAY: &[u8] = include_bytes!("../../tests/cmd/explain.in/overlay.pcap");

    fn packets(file: &'static [u8]) -> Vec<Packet> {
        let reader = Reader::new(file).unwrap();
        reader.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn packets_come_with_all_that_the_file_says_of_them() {
        let [arp, ping] = packets(PODS).try_into().unwrap();
        assert_eq!((arp.number, arp.bytes.len(), arp.original_len), (1, 42, 42));
        assert_eq!(arp.link, LinkType::ETHERNET);
        assert_eq!(arp.interface.as_deref(), Some("podA"));
        assert_eq!(arp.comments, ["flooded: the destination is a group"]);
        // The interface counts nanoseconds.
        let time = Duration::new(1_764_331_200, 123_456_789);
        assert_eq!(arp.time, Some(time));
        assert_eq!((ping.number, ping.bytes.len()), (2, 58));

        let overlay = packets(OVERLAY);
        assert_eq!(overlay.len(), 3);
        let time = Duration::new(1_764_331_202, 3_000_000);
        assert_eq!(overlay[2].time, Some(time));
        assert_eq!(overlay[2].interface, None);
    }

    #[test]
    fn obsolete_packet_blocks_are_read_too() {
        let mut file = PODS.to_vec();
        let mut at = 0;
        let mut blocks = 0;
        while let Some(head) = file.get_mut(at..at + 12) {
            let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            if head[0] == 6 {
                head[0] = 2;
                // The upper half is a count of drops now.
                head[10..].copy_from_slice(&[0xff, 0xff]);
                blocks += 1;
            }
            at += len as usize;
        }
        let reader = Reader::new(io::Cursor::new(file)).unwrap();
        let read: Vec<Packet> = reader.collect::<Result<_, _>>().unwrap();
        assert_eq!((blocks, read), (2, packets(PODS)));
    }

    #[test]
    fn a_file_that_ends_too_early_says_after_which_packet() {
        for file in [PODS, OVERLAY] {
            let whole = packets(file);
            let mut ends = 0;
            for len in 0..file.len() {
                let Ok(mut reader) = Reader::new(&file[..len]) else {
                    continue;
                };
                let read: Vec<_> = reader.by_ref().map_while(Result::ok).collect();
                assert_eq!(read, whole[..read.len()]);
                assert!(reader.next().is_none());
                ends += usize::from(read.len() < whole.len());
            }
            assert!(ends > 50, "{ends}");
        }
        assert!(matches!(
            Reader::new(&b"text"[..]),
            Err(ReadError::NoCapture)
        ));
    }

    proptest! {
        #[test]
        fn a_damaged_file_ends_in_an_error_and_not_in_a_panic(
            is_ng: bool,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut file = if is_ng { PODS } else { OVERLAY }.to_vec();
            for (at, value) in damage {
                let at = at.index(file.len());
                file[at] = value;
            }
            if let Ok(reader) = Reader::new(io::Cursor::new(file)) {
                prop_assert!(reader.count() < 100);
            }
        }
    }
}
