//! What the layers are written with: a part of the frame, a layer in the making, and the way
//! through the frame.

use std::ops::Range;

use super::{Bits, Field, Layer, MAX_LAYERS, Options, Problem, ProblemKind, Value};
use crate::wire::{MacAddr, bytes};

/// Bytes of the frame, and where they start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Part<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) const fn len(self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The first `len` bytes, or all, and the rest.
    pub(super) fn split(self, len: usize) -> (Self, Self) {
        let (head, tail) = self.bytes.split_at(len.min(self.len()));
        let at = self.at + head.len();
        let head = Self {
            bytes: head,
            at: self.at,
        };
        (head, Self { bytes: tail, at })
    }

    pub(super) fn skip(self, len: usize) -> Self {
        self.split(len).1
    }

    /// Bytes at `at`, or zeros where the part ends before.
    pub(super) fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().unwrap_or([0; N])
    }

    pub(super) fn byte(self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    pub(super) fn word(self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    pub(super) fn long(self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    pub(super) fn mac(self, at: usize) -> MacAddr {
        MacAddr::new(self.array(at))
    }
}

impl From<u8> for Value {
    fn from(number: u8) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// `0x0800`.
pub(super) fn hex16(number: u16) -> Value {
    Value::Hex(number.into(), 4)
}

/// A layer in the making.
#[derive(Debug)]
pub(super) struct Draft {
    layer: Layer,
}

impl Draft {
    /// All bytes of `part` belong to the layer.
    pub(super) const fn new(protocol: &'static str, title: &'static str, part: Part<'_>) -> Self {
        let layer = Layer {
            protocol,
            title,
            offset: part.at,
            len: part.len(),
            tunnel: 0,
            quoted: false,
            fields: Vec::new(),
        };
        Self { layer }
    }

    /// The field at `range`, which counts from the layer's first byte.
    pub(super) fn field(
        &mut self,
        name: &'static str,
        range: Range<usize>,
        value: impl Into<Value>,
        meaning: impl Into<String>,
    ) -> &mut Self {
        self.layer.fields.push(Field {
            offset: self.layer.offset + range.start,
            len: range.len(),
            bits: None,
            name,
            value: value.into(),
            meaning: meaning.into(),
            problems: Vec::new(),
        });
        self
    }

    /// A field of `len` bits from bit `first` on, which counts from the layer's first bit.
    pub(super) fn bits(
        &mut self,
        name: &'static str,
        first: usize,
        len: u8,
        value: impl Into<Value>,
        meaning: impl Into<String>,
    ) -> &mut Self {
        let bytes = first / 8..(first + usize::from(len)).div_ceil(8);
        self.field(name, bytes, value, meaning);
        let first = u8::try_from(first % 8).unwrap_or(0);
        if let Some(field) = self.layer.fields.last_mut() {
            field.bits = Some(Bits { first, len });
        }
        self
    }

    /// What is remarkable about the last field.
    pub(super) fn problem(&mut self, kind: ProblemKind, text: impl Into<String>) -> &mut Self {
        if let Some(field) = self.layer.fields.last_mut() {
            let text = text.into();
            field.problems.push(Problem { kind, text });
        }
        self
    }

    /// Bytes in which nothing is read.
    pub(super) fn opaque(&mut self, name: &'static str, range: Range<usize>) -> &mut Self {
        let meaning = bytes(range.len());
        self.field(name, range, Value::Bytes, meaning)
    }
}

/// The way through a frame.
#[derive(Debug)]
pub(super) struct Walk {
    layers: Vec<Layer>,
    /// VXLAN headers so far.
    pub(super) tunnel: u8,
    /// Inside of a packet that an ICMP message quotes, which may be cut, and of which nobody asks
    /// whether its checksums are right.
    pub(super) quoted: bool,
    /// Bytes that the capture left out at the end.
    pub(super) missing: usize,
    pub(super) vxlan_port: Option<u16>,
    /// Where the innermost Ethernet header starts.
    pub(super) frame_at: usize,
    /// The addresses in it.
    pub(super) stations: Option<(MacAddr, MacAddr)>,
}

impl Walk {
    pub(super) const fn new(options: &Options) -> Self {
        Self {
            layers: Vec::new(),
            tunnel: 0,
            quoted: false,
            missing: options.missing,
            vxlan_port: options.vxlan_port,
            frame_at: 0,
            stations: None,
        }
    }

    pub(super) fn push(&mut self, draft: Draft) {
        self.layers.push(Layer {
            tunnel: self.tunnel,
            quoted: self.quoted,
            ..draft.layer
        });
    }

    /// Whether one more header would be too many; then the rest is told as bytes.
    pub(super) fn is_too_deep(&mut self, part: Part<'_>) -> bool {
        let is_too_deep = self.layers.len() >= MAX_LAYERS;
        if is_too_deep && !part.is_empty() {
            let mut draft = Draft::new("payload", "Payload", part);
            draft.opaque("bytes", 0..part.len());
            let text = format!("{MAX_LAYERS} headers are shown and no more");
            draft.problem(ProblemKind::TooDeep, text);
            self.push(draft);
        }
        is_too_deep
    }

    /// The frame ends inside of a header that needs `needed` bytes.
    pub(super) fn truncated(
        &mut self,
        protocol: &'static str,
        title: &'static str,
        part: Part<'_>,
        needed: usize,
    ) {
        let mut draft = Draft::new(protocol, title, part);
        draft.opaque("bytes", 0..part.len());
        let got = bytes(part.len());
        if self.missing > 0 {
            let text = format!("the capture has {got} of the header's {needed}");
            draft.problem(ProblemKind::Cut, text);
        } else if !self.quoted {
            let text = format!("{got}, and the header needs {needed}");
            draft.problem(ProblemKind::Truncated, text);
        }
        self.push(draft);
    }

    /// What no protocol known here is in.
    pub(super) fn payload(&mut self, part: Part<'_>, meaning: &str) {
        if part.is_empty() {
            return;
        }
        let mut draft = Draft::new("payload", "Payload", part);
        let len = bytes(part.len());
        let text = match meaning {
            "" => len,
            _ => format!("{len} of {meaning}"),
        };
        draft.field("data", 0..part.len(), Value::Bytes, text);
        self.push(draft);
    }

    /// Bytes behind a packet that says how long it is.
    pub(super) fn trailer(&mut self, part: Part<'_>) {
        if part.is_empty() {
            return;
        }
        if self.quoted {
            return self.payload(part, "what follows the quoted packet");
        }
        let end = part.at + part.len() - self.frame_at.min(part.at);
        let is_zero = part.bytes.iter().all(|&byte| byte == 0);
        let len = bytes(part.len());
        // IEEE 802.3 clause 4.4.2: 64 bytes with the FCS.
        if end <= MIN_FRAME && self.stations.is_some() {
            let mut draft = Draft::new("padding", "Padding", part);
            draft.field(
                "padding",
                0..part.len(),
                Value::Bytes,
                format!("{len}, up to the least length of a frame, {MIN_FRAME}"),
            );
            if !is_zero {
                let text = "not zero: whatever was in the sender's memory";
                draft.problem(ProblemKind::Trailer, text);
            }
            self.push(draft);
            return;
        }
        let mut draft = Draft::new("trailer", "Trailer", part);
        draft.opaque("trailer", 0..part.len());
        let guess = match part.len() {
            4 => ", perhaps the FCS",
            _ => "",
        };
        let text = format!("{len} behind the end of the packet{guess}");
        draft.problem(ProblemKind::Trailer, text);
        self.push(draft);
    }

    /// The layers; what none of the first `len` bytes belongs to becomes one.
    pub(super) fn finish(mut self, len: usize) -> Vec<Layer> {
        if self.layers.is_empty() {
            let draft = Draft::new("payload", "Payload", Part { bytes: &[], at: 0 });
            self.push(draft);
        }
        debug_assert_eq!(
            self.layers.iter().map(|layer| layer.len).sum::<usize>(),
            len
        );
        self.layers
    }
}

/// The shortest Ethernet frame, without FCS.
const MIN_FRAME: usize = 60;
