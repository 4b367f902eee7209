//! Frames as scripts read them.

use std::io::{self, Write};

use super::{Show, input::Frame};
use crate::dissect::{About, Dissection, Fit, FrameJson};

/// `{"frames":[...]}`, frame by frame.
#[derive(Debug, Default)]
pub(super) struct Frames {
    count: u64,
}

impl<W: Write> Show<W> for Frames {
    fn frame(
        &mut self,
        out: &mut W,
        frame: &Frame,
        dissection: &Dissection,
        fit: Option<&Fit>,
    ) -> io::Result<()> {
        let before = if self.count == 0 {
            "{\"frames\":["
        } else {
            ","
        };
        self.count += 1;
        write!(out, "{before}")?;
        let about = About {
            number: frame.number,
            time_s: frame.time.map(|time| time.as_secs_f64()),
            interface: frame.interface.as_deref(),
            comments: &frame.comments,
            missing: frame.missing(),
        };
        let frame = FrameJson::new(&about, &frame.bytes, dissection, fit);
        serde_json::to_writer(out, &frame).map_err(io::Error::from)
    }

    fn end(&mut self, out: &mut W) -> io::Result<()> {
        match self.count {
            0 => writeln!(out, "{{\"frames\":[]}}"),
            _ => writeln!(out, "]}}"),
        }
    }
}
