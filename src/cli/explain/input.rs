//! Where the bytes come from.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use super::super::CliError;
use crate::{
    dissect::{Start, frames_from_text},
    names::printable,
    pcap::{LinkType, Packet, Reader, is_capture},
};

/// One frame of the input.
#[derive(Debug)]
pub(super) struct Frame {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    /// At least the bytes.
    pub(super) original_len: usize,
    pub(super) time: Option<Duration>,
    pub(super) interface: Option<String>,
    pub(super) comments: Vec<String>,
    /// Only files know it.
    link: Option<LinkType>,
}

impl Frame {
    fn of_bytes(number: u64, bytes: Vec<u8>) -> Self {
        Self {
            number,
            original_len: bytes.len(),
            bytes,
            time: None,
            interface: None,
            comments: Vec::new(),
            link: None,
        }
    }

    /// The first bytes of an Ethernet frame of `len` bytes.
    pub(super) fn of_ethernet(bytes: &[u8], len: usize) -> Self {
        Self {
            original_len: len.max(bytes.len()),
            ..Self::of_bytes(1, bytes.to_vec())
        }
    }

    fn of_packet(packet: Packet) -> Self {
        let Packet {
            number,
            link,
            bytes,
            original_len,
            time,
            interface,
            comments,
        } = packet;
        Self {
            number,
            original_len: original_len.max(bytes.len()),
            bytes,
            time,
            interface,
            comments,
            link: Some(link),
        }
    }

    /// Bytes at its end that were not captured.
    pub(super) const fn missing(&self) -> usize {
        self.original_len - self.bytes.len()
    }

    /// Where it starts: as told, or else as the file says.
    pub(super) fn start(&self, told: Start, name: &str) -> Result<Start, CliError> {
        let Some(link) = self.link.filter(|_| told == Start::Auto) else {
            return Ok(told);
        };
        Ok(match link {
            LinkType::ETHERNET => Start::Ethernet,
            LinkType::RAW | LinkType::RAW_OLD | LinkType::IPV4 | LinkType::IPV6 => Start::Ip,
            LinkType::LINUX_SLL => Start::Cooked,
            LinkType::LINUX_SLL2 => Start::Cooked2,
            LinkType::NULL | LinkType::LOOP => Start::Loopback,
            LinkType(other) => {
                let number = self.number;
                return Err(CliError::Failed(format!(
                    "explain frame {number} of {name}: link type {other} is not known; capture on \
                     an Ethernet device, or say where it starts with --from"
                )));
            }
        })
    }
}

/// Frames, and the name of the place that they are from.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) frames: Box<dyn Iterator<Item = Result<Frame, CliError>>>,
    has_numbers: bool,
}

impl Input {
    /// A file, standard input, or the bytes themselves.
    pub(super) fn open(words: &[String]) -> Result<Self, CliError> {
        let [first, others @ ..] = words else {
            return Self::of_text("the arguments", "");
        };
        let path = Path::new(first);
        let name = &printable(first);
        let is_file = first == "-" || path.exists();
        if is_file && !others.is_empty() {
            return Err(CliError::Usage(format!(
                "explain {name}: one file at a time, and nothing beside it"
            )));
        }
        if first == "-" {
            return Self::of_file("standard input", Box::new(io::stdin()));
        }
        if is_file {
            let file = File::open(path).map_err(|error| not_read(name, &error))?;
            return Self::of_file(name, Box::new(file));
        }
        let text = words.join(" ");
        Self::of_text("the arguments", &text).map_err(|error| match error {
            CliError::Usage(_) if looks_like_a_path(first) => CliError::Failed(format!(
                "read {name}: no such file; check the path, or give hex digits"
            )),
            other => other,
        })
    }

    /// Whether it may have more than one.
    pub(super) const fn has_numbers(&self) -> bool {
        self.has_numbers
    }

    fn of_text(name: &str, text: &str) -> Result<Self, CliError> {
        let frames = frames_from_text(text)
            .map_err(|error| CliError::Usage(format!("read bytes from {name}: {error}")))?;
        if frames.first().is_some_and(|bytes| is_dumped_capture(bytes)) {
            return Err(CliError::Usage(format!(
                "read bytes from {name}: they are those of a capture file (pcap or pcapng), not of a \
                 frame; give the file itself, or make it one again: xxd -r DUMP | tapswitch explain -"
            )));
        }
        let has_numbers = frames.len() > 1;
        let frames = (1..).zip(frames);
        Ok(Self {
            name: name.to_owned(),
            frames: Box::new(frames.map(|(number, bytes)| Ok(Frame::of_bytes(number, bytes)))),
            has_numbers,
        })
    }

    fn of_file(name: &str, mut file: Box<dyn Read>) -> Result<Self, CliError> {
        let mut head = Vec::new();
        let read = file.by_ref().take(4).read_to_end(&mut head);
        read.map_err(|error| not_read(name, &error))?;
        if is_capture(&head) {
            let fail = {
                let name = name.to_owned();
                move |error| CliError::Failed(format!("read {name}: {error}"))
            };
            let reader = Reader::new(io::Cursor::new(head).chain(file)).map_err(&fail)?;
            let frames = reader.map(move |packet| packet.map(Frame::of_packet).map_err(&fail));
            return Ok(Self {
                name: name.to_owned(),
                frames: Box::new(frames),
                has_numbers: true,
            });
        }
        if head.starts_with(&[0x1f, 0x8b]) {
            return Err(CliError::Usage(format!(
                "read {name}: it is compressed; try: zcat {name} | tapswitch explain -"
            )));
        }
        let rest = file.take(TEXT_LIMIT).read_to_end(&mut head);
        rest.map_err(|error| not_read(name, &error))?;
        if head.len() as u64 >= TEXT_LIMIT {
            return Err(CliError::Usage(format!(
                "read {name}: it is no capture, and too long for a hex dump"
            )));
        }
        match std::str::from_utf8(&head) {
            Ok(text) if !text.contains('\0') => Self::of_text(name, text),
            // Neither capture nor text: the bytes of one frame.
            _ => Ok(Self {
                name: name.to_owned(),
                frames: Box::new(std::iter::once(Ok(Frame::of_bytes(1, head)))),
                has_numbers: false,
            }),
        }
    }
}

/// More than any dump that a person would read.
const TEXT_LIMIT: u64 = 64 << 20;

/// Whether bytes that somebody has made text of begin a capture file: its magic number, and behind it
/// the version of pcap, or the byte order of pcapng.
fn is_dumped_capture(bytes: &[u8]) -> bool {
    let behind = bytes.get(4..).and_then(<[u8]>::first_chunk::<8>);
    let is_certain = matches!(
        behind,
        Some(
            [2, 0, 4, 0, ..]
                | [0, 2, 0, 4, ..]
                | [.., 0x1a, 0x2b, 0x3c, 0x4d]
                | [.., 0x4d, 0x3c, 0x2b, 0x1a]
        )
    );
    is_capture(bytes) && is_certain
}

/// It has a directory or a file name's extension, and no hex digits.
pub(super) fn looks_like_a_path(word: &str) -> bool {
    let extension = word.rsplit_once('.').map(|(_, extension)| extension);
    let is_name = |text: &str| {
        text.chars()
            .any(|c| c.is_alphabetic() && !c.is_ascii_hexdigit())
    };
    word.contains('/') || extension.is_some_and(is_name)
}

fn not_read(name: &str, error: &io::Error) -> CliError {
    CliError::Failed(format!("read {name}: {error}; check the path"))
}
