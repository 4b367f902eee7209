//! A lesson told while it runs.

use std::{
    io::{self, BufReader, Stdin, Write},
    ops::ControlFlow,
    path::Path,
};

use super::{
    BOLD, CYAN, DIM, GREEN, RED, paint,
    pause::{Next, pause},
    pick, prose, typed,
};
use crate::{
    cli::output,
    lesson::{
        Assert, Audience, Lang, Lesson, Report, State, Step, System,
        narrate::{Narrator, Style},
        run::Told,
    },
    names::shown,
    time::Timestamp,
};

/// Tells everything on `out`.
pub(super) struct Teller<'o, W: Write> {
    out: &'o mut W,
    style: Style,
    steps: usize,
    /// Whether the prompts say where something is typed.
    has_nodes: bool,
    /// What answers the pauses; none: there are none.
    pauses: Option<BufReader<Stdin>>,
    /// The beginning of a character of output whose rest is still to come.
    half: Vec<u8>,
    /// Whether output so far has ended its line.
    is_at_start: bool,
    /// Whether the last thing told was a command that has printed nothing.
    is_silent: bool,
    /// Whether the last line of output was blank.
    is_blank: bool,
}

impl<'o, W: Write> Teller<'o, W> {
    pub(super) fn new(out: &'o mut W, style: Style, lesson: &Lesson, has_pauses: bool) -> Self {
        Self {
            out,
            style,
            steps: lesson.steps.len(),
            has_nodes: lesson.nodes.len() > 1,
            pauses: has_pauses.then(|| BufReader::new(io::stdin())),
            half: Vec::new(),
            is_at_start: true,
            is_silent: false,
            is_blank: false,
        }
    }

    pub(super) fn title(&mut self, lesson: &Lesson, system: System) -> io::Result<()> {
        let style = self.style;
        title(self.out, lesson, style)?;
        let on = match system {
            System::Tapswitch => pick(style, "on tapswitch", "运行在 tapswitch 上"),
            System::Kernel => pick(
                style,
                "on the kernel's bridge, veth and vxlan",
                "运行在内核的 bridge、veth 和 vxlan 上",
            ),
        };
        writeln!(self.out, "{}", paint(style, DIM, on))?;
        let about = lesson.about.in_lang(style.lang);
        if !about.is_empty() {
            writeln!(self.out)?;
            prose(self.out, about, 0, style)?;
        }
        self.out.flush()
    }

    /// Ends a line of output that did not end, and sets what follows apart.
    fn gap(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.half).is_empty() {
            write!(self.out, "{}", char::REPLACEMENT_CHARACTER)?;
            self.is_at_start = false;
        }
        if !self.is_at_start {
            self.is_at_start = true;
            writeln!(self.out)?;
        }
        match std::mem::take(&mut self.is_blank) {
            true => Ok(()),
            false => writeln!(self.out),
        }
    }
}

/// The title line of a lesson.
pub(super) fn title(out: &mut impl Write, lesson: &Lesson, style: Style) -> io::Result<()> {
    let title = lesson.title.in_lang(style.lang);
    writeln!(out, "{}", paint(style, BOLD, title))?;
    let mut words = vec![lesson.id.clone()];
    words.extend((!lesson.rows.is_empty()).then(|| lesson.rows.join(" ")));
    writeln!(out, "{}", paint(style, DIM, &words.join("; ")))
}

impl<W: Write> Audience for Teller<'_, W> {
    fn step(&mut self, number: usize, step: &Step) -> io::Result<()> {
        let style = self.style;
        let head = format!("{number}/{}", self.steps);
        let rule = "─".repeat(style.width.saturating_sub(head.len() + 1));
        writeln!(
            self.out,
            "\n{}",
            paint(style, DIM, &format!("{head} {rule}"))
        )?;
        prose(self.out, step.say.in_lang(style.lang), 0, style)?;
        self.is_silent = false;
        self.out.flush()
    }

    fn command(&mut self, step: &Step, command: &str) -> io::Result<()> {
        // Silent commands stay together.
        if !self.is_silent {
            self.gap()?;
        }
        let node = self.has_nodes.then_some(step.node.as_str());
        for line in typed(command, node) {
            writeln!(self.out, "  {}", paint(self.style, CYAN, &line))?;
        }
        self.is_silent = true;
        self.out.flush()
    }

    fn output(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_silent = false;
        let mut bytes = [&std::mem::take(&mut self.half), bytes].concat();
        self.half = bytes.split_off(bytes.len() - half_a_character(&bytes));
        let text = String::from_utf8_lossy(&bytes);
        for line in text.split_inclusive('\n') {
            let is_blank = line.trim().is_empty();
            if self.is_at_start && !is_blank {
                write!(self.out, "  ")?;
            }
            write!(self.out, "{}", printable(line))?;
            self.is_at_start = line.ends_with('\n');
            self.is_blank = is_blank && self.is_at_start;
        }
        self.out.flush()
    }

    fn news(&mut self, command: &str, text: &str) -> io::Result<()> {
        self.gap()?;
        let said = pick(self.style, "meanwhile", "与此同时");
        let head = format!("{said}, {command}:");
        writeln!(self.out, "  {}", paint(self.style, DIM, &head))?;
        for line in text.lines() {
            writeln!(self.out, "  {}", printable(line))?;
        }
        self.out.flush()
    }

    fn frames(&mut self, start: Timestamp, frames: &[Told<'_>]) -> io::Result<ControlFlow<()>> {
        self.gap()?;
        let style = self.style;
        let head = match frames.is_empty() {
            true => pick(style, "No frame came in.", "没有帧进来。"),
            false => pick(style, "The frames:", "经过的帧："),
        };
        writeln!(self.out, "{}", paint(style, BOLD, head))?;
        let mut narrator = Narrator::new(style, start).with_nodes(self.has_nodes);
        for told in frames {
            let say = told.spec.map(|spec| spec.say.in_lang(style.lang));
            let say = say.filter(|say| !say.is_empty());
            let was_told = narrator.frame(self.out, told.seen, say, told.spec.is_some())?;
            self.out.flush()?;
            if let (true, Some(input)) = (was_told, &mut self.pauses) {
                match pause(input, self.out, told.seen, style)? {
                    Next::Frame => {}
                    Next::All => self.pauses = None,
                    Next::Quit => return Ok(ControlFlow::Break(())),
                }
            }
        }
        narrator.end(self.out)?;
        self.out.flush()?;
        Ok(ControlFlow::Continue(()))
    }

    fn broken(&mut self, _: usize, assert: &Assert) -> io::Result<()> {
        self.gap()?;
        broken(self.out, "", assert, self.style)
    }
}

/// What does not hold, and what is so instead.
fn broken(out: &mut impl Write, lead: &str, assert: &Assert, style: Style) -> io::Result<()> {
    let expected = &assert.expected;
    let what = match assert.about {
        "prints" => format!("{} {expected:?}", pick(style, "must print", "应当输出")),
        "prints_not" => format!("{} {expected:?}", pick(style, "must not print", "不应输出")),
        "frames" => format!("{} {expected}", pick(style, "must see", "应当看到")),
        _ => format!("{}{expected}", pick(style, "must hold: ", "应当成立：")),
    };
    writeln!(out, "{}", paint(style, RED, &format!("! {lead}{what}")))?;
    let got = assert.got.as_deref().unwrap_or_default();
    for line in got.lines() {
        writeln!(out, "    {}", printable(line))?;
    }
    Ok(())
}

/// The end: what holds, and where the frames are. The files are those that the user has named.
pub(super) fn summary(
    out: &mut impl Write,
    report: &Report,
    style: Style,
    [pcap, mermaid_file]: [Option<&Path>; 2],
) -> io::Result<()> {
    if let Some(because) = &report.because {
        let said = pick(style, "not run, because ", "没有运行：");
        return output::hanging(out, said.to_owned(), because, style.width);
    }
    let rule = "─".repeat(style.width);
    writeln!(out, "\n{}", paint(style, DIM, &rule))?;
    if let (Some(diagram), None) = (&report.mermaid, mermaid_file) {
        let head = pick(
            style,
            "The same as a mermaid sequence diagram:",
            "同样的内容，mermaid 时序图：",
        );
        writeln!(out, "{}\n", paint(style, BOLD, head))?;
        writeln!(out, "```mermaid\n{}\n```\n", diagram.trim_end())?;
    }
    for (step, assert) in report.broken() {
        let lead = format!("{} {step}: ", pick(style, "step", "步骤"));
        broken(out, &lead, assert, style)?;
    }
    let (hold, total, seconds) = (report.asserts.hold, report.asserts.total, report.seconds);
    let verdict = match style.lang {
        Lang::En => format!("{hold} of {total} asserts hold, in {seconds:.1} s."),
        Lang::Zh => {
            format!("{total} 条断言中有 {hold} 条成立，用时 {seconds:.1} 秒。")
        }
    };
    let color = match report.state {
        State::Passed => GREEN,
        _ => RED,
    };
    writeln!(out, "{}", paint(style, color, &verdict))?;
    if let Some(file) = &report.pcapng {
        let said = pick(
            style,
            "The frames, for Wireshark: ",
            "所有帧（可用 Wireshark 打开）：",
        );
        writeln!(out, "{said}{file}")?;
        let first = format!("{}.pcapng", report.id);
        if pcap.is_none() && *file != first {
            let kept = match style.lang {
                Lang::En => format!("({first} was there, and is as it was.)"),
                Lang::Zh => format!("（{first} 已经存在，没有改动。）"),
            };
            writeln!(out, "{}", paint(style, DIM, &kept))?;
        }
    }
    if let Some(file) = mermaid_file {
        let said = pick(style, "The sequence diagram: ", "时序图：");
        writeln!(out, "{said}{}", shown(file))?;
    }
    Ok(())
}

/// How many bytes at the end are the beginning of a character.
fn half_a_character(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    let tail = last.map(|chunk| chunk.invalid()).unwrap_or_default();
    match std::str::from_utf8(tail) {
        Err(error) if error.error_len().is_none() => tail.len(),
        _ => 0,
    }
}

/// Without what would move the cursor of a terminal.
pub(super) fn printable(line: &str) -> String {
    let is_plain = |char: &char| !char.is_control() || matches!(char, '\n' | '\t');
    line.chars().filter(is_plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_comes_in_two_pieces_is_told_in_one() {
        let text = "网桥 br0 ü";
        for at in 0..=text.len() {
            let (first, second) = text.as_bytes().split_at(at);
            let half = half_a_character(first);
            let whole = [&first[first.len() - half..], second].concat();
            assert!(std::str::from_utf8(&first[..first.len() - half]).is_ok());
            assert!(std::str::from_utf8(&whole).is_ok(), "{at}");
        }
        assert_eq!(half_a_character(b"a\xff"), 0);
    }
}
