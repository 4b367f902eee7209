//! Frames as people read them.

use std::io::{self, Write};

use super::{Show, input::Frame};
use crate::{
    cli::{
        args::ExplainArgs,
        output::{chain, plain, time_of_day, wrapped},
    },
    control::api::MtuChain,
    dissect::{Bits, Dissection, Field, Fit, Layer, ProblemKind, Value},
    wire::bytes,
};

/// What the terminal can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) has_color: bool,
    pub(super) width: usize,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        match self.has_color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

const BOLD: &str = "1";
const RED: &str = "31";
const YELLOW: &str = "33";

/// A table for each frame.
#[derive(Debug)]
pub(super) struct Frames {
    style: Style,
    has_numbers: bool,
    is_brief: bool,
    is_full: bool,
    count: u64,
}

impl Frames {
    /// For a single frame.
    pub(super) const fn one(style: Style) -> Self {
        Self {
            style,
            has_numbers: false,
            is_brief: false,
            is_full: false,
            count: 0,
        }
    }

    pub(super) const fn new(args: &ExplainArgs, has_numbers: bool, style: Style) -> Self {
        Self {
            style,
            has_numbers,
            is_brief: args.brief,
            is_full: args.full,
            count: 0,
        }
    }
}

impl<W: Write> Show<W> for Frames {
    fn frame(
        &mut self,
        out: &mut W,
        frame: &Frame,
        dissection: &Dissection,
        fit: Option<&Fit>,
    ) -> io::Result<()> {
        if self.count > 0 && !self.is_brief {
            writeln!(out)?;
        }
        self.count += 1;
        self.head(out, frame, dissection)?;
        if self.is_brief {
            self.problems_only(out, dissection)?;
        } else {
            self.layers(out, frame, dissection)?;
        }
        match fit {
            Some(fit) => {
                writeln!(out, "\n{}", self.style.paint(BOLD, "MTU"))?;
                arithmetic(out, fit)
            }
            None => Ok(()),
        }
    }

    fn end(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }
}

impl Frames {
    fn head(&self, out: &mut impl Write, frame: &Frame, dissection: &Dissection) -> io::Result<()> {
        let mut place = String::new();
        if self.has_numbers {
            place += &format!("frame {}", frame.number);
            if let Some(time) = frame.time {
                place += &format!(", {}", time_of_day(time));
            }
            if let Some(interface) = &frame.interface {
                place += &format!(", {}", plain(interface));
            }
            place += ", ";
        }
        let len = bytes(frame.original_len);
        let cut = match frame.missing() {
            0 => String::new(),
            _ => format!(", the first {} captured", frame.bytes.len()),
        };
        let line = format!("{place}{len}{cut}: {}", plain(&dissection.summary));
        writeln!(out, "{}", self.style.paint(BOLD, &line))?;
        for comment in frame.comments.iter().filter(|_| !self.is_brief) {
            writeln!(out, "  {}", plain(comment))?;
        }
        if self.is_brief {
            return Ok(());
        }
        let (wrong, notes): (Vec<_>, Vec<_>) = dissection
            .problems()
            .partition(|problem| problem.kind.is_wrong());
        let count = |number: usize, noun: &str| match number {
            1 => format!("1 {noun}"),
            _ => format!("{number} {noun}s"),
        };
        match (wrong.len(), notes.len()) {
            (0, 0) => Ok(()),
            (0, notes) => writeln!(out, "{} (~)", count(notes, "note")),
            (wrong, 0) => writeln!(out, "{} (!)", count(wrong, "problem")),
            (wrong, notes) => writeln!(
                out,
                "{} (!), {} (~)",
                count(wrong, "problem"),
                count(notes, "note")
            ),
        }
    }

    /// With the places where they are.
    fn problems_only(&self, out: &mut impl Write, dissection: &Dissection) -> io::Result<()> {
        let layers = &dissection.layers;
        let tunnels = tunnels(layers);
        for layer in layers {
            for field in &layer.fields {
                for problem in &field.problems {
                    let place = heading(layer, tunnels);
                    let text = format!("{place}, {}: {}", field.name, problem.text);
                    self.problem(out, 4, problem.kind, &text)?;
                }
            }
        }
        Ok(())
    }

    fn layers(
        &self,
        out: &mut impl Write,
        frame: &Frame,
        dissection: &Dissection,
    ) -> io::Result<()> {
        let layers = &dissection.layers;
        let tunnels = tunnels(layers);
        for layer in layers.iter().filter(|layer| layer.len > 0) {
            let heading = heading(layer, tunnels);
            let only = match layer.fields.as_slice() {
                [only] if only.value == Value::Bytes => Some(only),
                _ => None,
            };
            let heading = match only {
                Some(field) => format!("{heading}, {}", field.meaning),
                None => format!("{heading}, {}", bytes(layer.len)),
            };
            writeln!(out, "\n{}", self.style.paint(BOLD, &heading))?;
            for field in &layer.fields {
                match only {
                    Some(_) => self.dump(out, field, &frame.bytes)?,
                    None => self.row(out, field, &frame.bytes)?,
                }
                for problem in &field.problems {
                    self.problem(out, NAME_AT, problem.kind, &problem.text)?;
                }
            }
        }
        Ok(())
    }

    /// Offset, bytes, name, value and meaning; the bytes and the text may need several lines.
    fn row(&self, out: &mut impl Write, field: &Field, frame: &[u8]) -> io::Result<()> {
        let end = field.offset + field.len;
        let octets = frame.get(field.offset..end).unwrap_or_default();
        let mut left = match field.bits {
            Some(bits) => vec![some_bits(octets, bits)],
            None => octets.chunks(OCTETS).map(hex).collect(),
        };
        if left.len() > MAX_ROWS && !self.is_full {
            left.truncate(MAX_ROWS);
            left.push("...".to_owned());
        }
        let right = self.text(field);
        for line in 0..left.len().max(right.len()).max(1) {
            let offset = match line {
                0 => field.offset.to_string(),
                _ => String::new(),
            };
            let name = if line == 0 { field.name } else { "" };
            let cell = |cells: &[String]| cells.get(line).cloned().unwrap_or_default();
            let (left, right) = (cell(&left), cell(&right));
            let row = format!("{offset:>5}  {left:<17}  {name:<NAME_WIDTH$}  {right}");
            writeln!(out, "{}", row.trim_end())?;
        }
        Ok(())
    }

    fn text(&self, field: &Field) -> Vec<String> {
        let value = plain(&field.value.to_string());
        let meaning = &field.meaning;
        let room = self.style.width - VALUE_AT;
        if value.is_empty() {
            return wrapped(meaning, room);
        }
        if meaning.is_empty() {
            return vec![value];
        }
        // A long value has lines of its own, beside its many bytes.
        if value.len() > VALUE_WIDTH && value.len() + 2 + meaning.len() > room {
            let mut lines = vec![value];
            lines.extend(wrapped(meaning, room));
            return lines;
        }
        let from = value.len().max(VALUE_WIDTH) + 2;
        let mut lines = wrapped(meaning, room.saturating_sub(from).max(12));
        for (number, line) in lines.iter_mut().enumerate() {
            let value = if number == 0 { value.as_str() } else { "" };
            let width = from - 2;
            *line = format!("{value:<width$}  {line}");
        }
        lines
    }

    /// Bytes without a structure, and their characters.
    fn dump(&self, out: &mut impl Write, field: &Field, frame: &[u8]) -> io::Result<()> {
        let end = field.offset + field.len;
        let octets = frame.get(field.offset..end).unwrap_or_default();
        let shown = match self.is_full {
            true => octets.len(),
            false => octets.len().min(16 * MAX_ROWS),
        };
        let (shown, left) = octets.split_at(shown);
        for (line, octets) in shown.chunks(16).enumerate() {
            let offset = field.offset + 16 * line;
            let characters = octets.iter().map(|&octet| match octet {
                0x20..=0x7e => char::from(octet),
                _ => '.',
            });
            let characters: String = characters.collect();
            writeln!(out, "{offset:>5}  {:<47}  |{characters}|", hex(octets))?;
        }
        match left.len() {
            0 => Ok(()),
            left => writeln!(out, "       ... and {} more (--full)", bytes(left)),
        }
    }

    fn problem(
        &self,
        out: &mut impl Write,
        at: usize,
        kind: ProblemKind,
        text: &str,
    ) -> io::Result<()> {
        let (mark, color) = match kind.is_wrong() {
            true => ("!", RED),
            false => ("~", YELLOW),
        };
        for (line, text) in wrapped(text, self.style.width - at - 2).iter().enumerate() {
            let mark = if line == 0 { mark } else { " " };
            let text = self.style.paint(color, &format!("{mark} {text}"));
            writeln!(out, "{:at$}{text}", "")?;
        }
        Ok(())
    }
}

/// Bytes in a line of the table.
const OCTETS: usize = 6;
/// Lines of bytes of one field.
const MAX_ROWS: usize = 4;
const NAME_AT: usize = 26;
const NAME_WIDTH: usize = 16;
const VALUE_AT: usize = NAME_AT + NAME_WIDTH + 2;
/// A MAC address.
const VALUE_WIDTH: usize = 17;

/// How many VXLAN headers there are before the innermost layer.
fn tunnels(layers: &[Layer]) -> u8 {
    layers.iter().map(|layer| layer.tunnel).max().unwrap_or(0)
}

fn heading(layer: &Layer, tunnels: u8) -> String {
    let title = layer.title;
    let quoted = if layer.quoted { "quoted " } else { "" };
    let place = match (layer.tunnel, tunnels) {
        (_, 0) => String::new(),
        (0, _) => "outer ".to_owned(),
        (_, 1) => "inner ".to_owned(),
        (tunnel, _) => format!("inner {tunnel} "),
    };
    match layer.protocol {
        // A tunnel's own header is between outside and inside.
        "vxlan" if tunnels <= 1 => title.to_owned(),
        "payload" | "padding" | "trailer" if layer.quoted || tunnels > 0 => {
            format!("{place}{quoted}{}", title.to_lowercase())
        }
        _ => format!("{place}{quoted}{title}"),
    }
}

fn hex(octets: &[u8]) -> String {
    let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(" ")
}

/// The bits of a field, and dots for the others: in hexadecimal where that is exact.
fn some_bits(octets: &[u8], Bits { first, len }: Bits) -> String {
    let (first, len) = (usize::from(first), usize::from(len));
    let is_ours = |bit: usize| (first..first + len).contains(&bit);
    let is_hex = first.is_multiple_of(4) && len.is_multiple_of(4);
    let mut words = Vec::new();
    for (number, octet) in octets.iter().enumerate() {
        let word: String = match is_hex {
            true => (0..2)
                .map(|digit| match is_ours(8 * number + 4 * digit) {
                    true => format!("{:x}", octet >> (4 - 4 * digit) & 0xf),
                    false => ".".to_owned(),
                })
                .collect(),
            false => (0..8)
                .map(
                    |bit| match (is_ours(8 * number + bit), octet >> (7 - bit) & 1) {
                        (false, _) => '.',
                        (true, 0) => '0',
                        (true, _) => '1',
                    },
                )
                .collect(),
        };
        words.push(word);
    }
    words.join(" ")
}

/// The headers of the overlay and what they leave.
pub(super) fn arithmetic(out: &mut impl Write, fit: &Fit) -> io::Result<()> {
    let less = fit.less.iter().map(|&(layer, len)| (layer.to_owned(), len));
    let told = MtuChain {
        from: "the path".to_owned(),
        path_mtu: fit.path_mtu,
        less: less.collect(),
        mtu: fit.mtu,
    };
    let packet = fit.packet.unwrap_or(fit.mtu);
    let sum: u32 = fit.less.iter().map(|(_, len)| len).sum();
    let total = 14 + sum + packet;
    writeln!(out, "{}", chain(&told))?;
    let headers: Vec<_> = fit.less.iter().map(|(_, len)| len.to_string()).collect();
    writeln!(
        out,
        "on the wire, with the outer Ethernet header: 14 + {} + {packet} = {total}",
        headers.join(" + ")
    )?;
    let Some(needs) = fit.needs else {
        return Ok(());
    };
    match fit.path_mtu.checked_sub(needs) {
        Some(left) => writeln!(
            out,
            "this frame: {packet} + {sum} = {needs} of {}: it fits, {left} are left",
            fit.path_mtu
        ),
        None => writeln!(
            out,
            "this frame: {packet} + {sum} = {needs} of {}: it does not fit, {} are too many; give \
             its sender an MTU of {}",
            fit.path_mtu,
            needs - fit.path_mtu,
            fit.mtu
        ),
    }
}
