//! `tapswitch explain`: from bytes in any form to tables.

mod input;
mod json;
mod table;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use super::{CliError, args::ExplainArgs, values::parse_mtu};
use crate::dissect::{Arithmetic, Dissection, Fit, Options, Start, arithmetic, dissect};
use input::{Frame, Input, looks_like_a_path};

/// Does what `args` say.
pub(super) fn run(args: &ExplainArgs, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    let (path_mtu, words) = mtu_and_input(args)?;
    if words.is_empty() {
        // Only --mtu may come without bytes.
        let fit = arithmetic(path_mtu.unwrap_or(DEFAULT_MTU), args.ipv6, &[], 0);
        let written = match json {
            true => super::output::json_value(out, &Arithmetic::new(&fit)),
            false => table::arithmetic(out, &fit),
        };
        return Ok(written?);
    }
    let input = Input::open(&words)?;
    let mut writer: Box<dyn Show<_>> = match json {
        true => Box::new(json::Frames::default()),
        false => Box::new(table::Frames::new(args, input.has_numbers(), style())),
    };
    let shown = each(args, input, |frame, dissection| {
        let layers = &dissection.layers;
        let fit = path_mtu.map(|mtu| arithmetic(mtu, args.ipv6, layers, frame.missing()));
        Ok(writer.frame(out, frame, dissection, fit.as_ref())?)
    });
    writer.end(out)?;
    out.flush()?;
    match (shown?, &args.frame) {
        (Shown { seen: 0, .. }, _) => Err(CliError::Failed(
            "explain: there is no frame in it".to_owned(),
        )),
        (Shown { frames: 0, seen }, Some(range)) => Err(CliError::Usage(format!(
            "explain frame {}: the last one is {seen}",
            range.0.start()
        ))),
        _ => Ok(()),
    }
}

/// One Ethernet frame of `len` bytes, of which `bytes` are known, as a table.
pub(crate) fn frame(
    out: &mut impl Write,
    bytes: &[u8],
    len: usize,
    width: usize,
    has_color: bool,
) -> io::Result<()> {
    let width = width.max(LEAST_WIDTH);
    let style = table::Style { has_color, width };
    let frame = Frame::of_ethernet(bytes, len);
    let options = Options {
        start: Start::Ethernet,
        missing: frame.missing(),
        vxlan_port: None,
    };
    let dissection = dissect(bytes, &options);
    table::Frames::one(style).frame(out, &frame, &dissection, None)
}

const DEFAULT_MTU: u32 = 1500;
/// The table needs so many columns.
const LEAST_WIDTH: usize = 80;

/// How frames are written.
trait Show<W: Write> {
    fn frame(
        &mut self,
        out: &mut W,
        frame: &Frame,
        dissection: &Dissection,
        fit: Option<&Fit>,
    ) -> io::Result<()>;

    /// Behind the last frame, also if the input turned out to be damaged.
    fn end(&mut self, out: &mut W) -> io::Result<()>;
}

struct Shown {
    frames: u64,
    seen: u64,
}

fn each(
    args: &ExplainArgs,
    input: Input,
    mut show: impl FnMut(&Frame, &Dissection) -> Result<(), CliError>,
) -> Result<Shown, CliError> {
    let mut shown = Shown { frames: 0, seen: 0 };
    let name = input.name.clone();
    for frame in input.frames {
        let frame = frame?;
        shown.seen += 1;
        if let Some(range) = &args.frame {
            if frame.number > *range.0.end() {
                break;
            }
            if !range.0.contains(&frame.number) {
                continue;
            }
        }
        let options = Options {
            start: frame.start(args.from.into(), &name)?,
            missing: frame.missing(),
            vxlan_port: args.vxlan_port,
        };
        show(&frame, &dissect(&frame.bytes, &options))?;
        shown.frames += 1;
    }
    Ok(shown)
}

/// `--mtu` may stand before the bytes, which then look like its value.
fn mtu_and_input(args: &ExplainArgs) -> Result<(Option<u32>, Vec<String>), CliError> {
    let mut words = args.input.clone();
    let Some(text) = &args.mtu else {
        return Ok((None, words));
    };
    let number = parse_mtu(text).ok();
    let mtu = match number {
        Some(mtu) if (LEAST_MTU..=0xffff).contains(&mtu) => mtu,
        // No frame is as short as this number.
        Some(_) if text.len() < 10 => {
            let text =
                format!("explain --mtu {text}: give a number of bytes, {LEAST_MTU} to 65535");
            return Err(CliError::Usage(text));
        }
        None if is_no_input(text, &words) => {
            return Err(CliError::Usage(format!(
                "explain --mtu {text}: {text} is no number of bytes; give one from {LEAST_MTU} to 65535"
            )));
        }
        _ => {
            words.insert(0, text.clone());
            DEFAULT_MTU
        }
    };
    Ok((Some(mtu), words))
}

/// Whether it is neither a file nor the beginning of bytes: what follows is a file, or nothing does
/// and it is shorter than any frame.
fn is_no_input(text: &str, others: &[String]) -> bool {
    let is_file = |word: &str| word == "-" || Path::new(word).exists();
    !is_file(text)
        && !looks_like_a_path(text)
        && match others {
            [] => text.len() < SHORTEST_FRAME,
            [first, ..] => is_file(first),
        }
}

/// Hex digits of an Ethernet header.
const SHORTEST_FRAME: usize = 28;
/// The least that an IPv4 path can carry (RFC 791 §3.2).
const LEAST_MTU: u32 = 68;

fn style() -> table::Style {
    let is_terminal = io::stdout().is_terminal();
    let width =
        terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    table::Style {
        // https://no-color.org
        has_color: is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        width: width.unwrap_or(100).clamp(LEAST_WIDTH, 120),
    }
}
