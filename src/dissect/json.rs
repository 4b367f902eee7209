//! Frames as scripts read them.

use serde::Serialize;

use super::{Bits, Dissection, Field, Fit, Layer, Problem, ProblemKind, Value};

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// Its number, counted from 1.
    pub number: u64,
    /// When, in seconds since 1970.
    pub time_s: Option<f64>,
    /// Where it was seen.
    pub interface: Option<&'a str>,
    /// What is said of it.
    pub comments: &'a [String],
    /// Bytes that it had and that are not here.
    pub missing: usize,
}

/// A frame.
#[derive(Debug, Serialize)]
pub struct FrameJson<'a> {
    number: u64,
    time_s: Option<f64>,
    interface: Option<&'a str>,
    comments: &'a [String],
    len: usize,
    captured: usize,
    summary: &'a str,
    problems: Vec<ProblemJson<'a>>,
    layers: Vec<LayerJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<Arithmetic<'a>>,
}

impl<'a> FrameJson<'a> {
    /// The frame of these bytes.
    pub fn new(
        about: &About<'a>,
        bytes: &[u8],
        dissection: &'a Dissection,
        fit: Option<&'a Fit>,
    ) -> Self {
        let layers = dissection.layers.iter();
        let problems = layers.flat_map(|layer| {
            let fields = layer.fields.iter();
            fields.flat_map(move |field| ProblemJson::of(layer, field))
        });
        Self {
            number: about.number,
            time_s: about.time_s,
            interface: about.interface,
            comments: about.comments,
            len: bytes.len() + about.missing,
            captured: bytes.len(),
            summary: &dissection.summary,
            problems: problems.collect(),
            layers: dissection
                .layers
                .iter()
                .map(|layer| LayerJson::new(layer, bytes))
                .collect(),
            mtu: fit.map(Arithmetic::new),
        }
    }
}

/// One for each problem, with the place where it is.
#[derive(Debug, Serialize)]
struct ProblemJson<'a> {
    kind: ProblemKind,
    wrong: bool,
    text: &'a str,
    layer: &'static str,
    tunnel: u8,
    field: String,
    offset: usize,
}

impl<'a> ProblemJson<'a> {
    fn of(layer: &'a Layer, field: &'a Field) -> impl Iterator<Item = Self> {
        field.problems.iter().map(|Problem { kind, text }| Self {
            kind: *kind,
            wrong: kind.is_wrong(),
            text,
            layer: layer.protocol,
            tunnel: layer.tunnel,
            field: field.key(),
            offset: field.offset,
        })
    }
}

#[derive(Debug, Serialize)]
struct LayerJson<'a> {
    protocol: &'static str,
    offset: usize,
    len: usize,
    tunnel: u8,
    quoted: bool,
    fields: Vec<FieldJson<'a>>,
}

impl<'a> LayerJson<'a> {
    fn new(layer: &'a Layer, frame: &[u8]) -> Self {
        let fields = layer.fields.iter();
        Self {
            protocol: layer.protocol,
            offset: layer.offset,
            len: layer.len,
            tunnel: layer.tunnel,
            quoted: layer.quoted,
            fields: fields.map(|field| FieldJson::new(field, frame)).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct FieldJson<'a> {
    name: String,
    offset: usize,
    len: usize,
    bits: Option<Bits>,
    bytes: String,
    value: &'a Value,
    meaning: &'a str,
    /// Their kinds; the texts are with the frame.
    problems: Vec<ProblemKind>,
}

impl<'a> FieldJson<'a> {
    fn new(field: &'a Field, frame: &[u8]) -> Self {
        let bytes = frame.get(field.offset..field.offset + field.len);
        let bytes = bytes.unwrap_or_default().iter();
        Self {
            name: field.key(),
            offset: field.offset,
            len: field.len,
            bits: field.bits,
            bytes: bytes.map(|byte| format!("{byte:02x}")).collect(),
            value: &field.value,
            meaning: &field.meaning,
            problems: field.problems.iter().map(|problem| problem.kind).collect(),
        }
    }
}

/// What the headers leave.
#[derive(Debug, Serialize)]
pub struct Arithmetic<'a> {
    path_mtu: u32,
    less: &'a [(&'static str, u32)],
    mtu: u32,
    packet: Option<u32>,
    needs: Option<u32>,
    fits: Option<bool>,
}

impl<'a> Arithmetic<'a> {
    /// Of one path, and of one packet if there is one.
    pub fn new(fit: &'a Fit) -> Self {
        Self {
            path_mtu: fit.path_mtu,
            less: &fit.less,
            mtu: fit.mtu,
            packet: fit.packet,
            needs: fit.needs,
            fits: fit.fits(),
        }
    }
}
