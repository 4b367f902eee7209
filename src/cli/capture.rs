//! `tapswitch capture`: a stream of the daemon's to lines, a file, or several.

use std::{
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    time::Duration,
};

mod file;

use self::file::{Sink, Totals};
use super::{CliError, args::CaptureArgs, interrupt::Interrupt, output};
use crate::{
    control::{
        api::{CaptureForm, CaptureFormat, CaptureLine, CaptureRequest, CapturedFrame},
        client::Client,
    },
    filter::Filter,
    names::shown,
};

/// Captures until there is enough, or somebody says so.
pub(super) fn run(
    args: CaptureArgs,
    client: &Client,
    json: bool,
    is_verbose: bool,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let (request, sink) = plan(args, json)?;
    match sink {
        None => print(client, &request, json, is_verbose, out),
        Some(sink) => write(client, &request, sink, json, out),
    }
}

/// What to ask for, and where the answer goes if not to the screen.
fn plan(args: CaptureArgs, json: bool) -> Result<(CaptureRequest, Option<Sink>), CliError> {
    let mut words = args.filter.join(" ");
    let mut drops = args.drops;
    if let Some(rest) = words.trim_start().strip_prefix("drops")
        && (rest.is_empty() || rest.starts_with(char::is_whitespace))
    {
        drops = true;
        let rest = rest.trim_start();
        words = rest.strip_prefix("and ").unwrap_or(rest).to_owned();
    }
    // Here, so that a wrong one is told before anything is opened.
    Filter::parse(&words).map_err(|error| CliError::Usage(error.to_string()))?;
    let is_file = args.write.is_some();
    let request = CaptureRequest {
        ports: args.port,
        peers: args.peer,
        bridges: args.bridge,
        drops,
        side: args.side.into(),
        form: match (args.inner, args.outer) {
            (true, true) => CaptureForm::Both,
            (_, false) => CaptureForm::Inner,
            (false, true) => CaptureForm::Outer,
        },
        count: args.count,
        snaplen: args.snaplen,
        rate: None,
        bytes: false,
        filter: words,
        format: if is_file {
            CaptureFormat::Pcapng
        } else {
            CaptureFormat::Json
        },
    };
    let Some(path) = args.write else {
        return Ok((request, None));
    };
    if path.as_os_str() != "-" {
        return Ok((request, Some(Sink::to(path, args.file_size, args.files))));
    }
    if args.file_size.is_some() {
        let text = "capture: standard output is no ring of files; give -w a file, or leave -C out";
        return Err(CliError::Usage(text.to_owned()));
    }
    if json {
        let text = "capture: both --json and -w - want standard output; leave one of them out";
        return Err(CliError::Usage(text.to_owned()));
    }
    if io::stdout().is_terminal() {
        let text = "capture: pcapng is nothing for a terminal; pipe it somewhere (| tcpdump -r -), \
                    or leave -w out to read lines";
        return Err(CliError::Usage(text.to_owned()));
    }
    Ok((request, Some(Sink::stdout())))
}

/// Asks, and calls `take` for each piece until the end, or until it fails. False if the user did not
/// wait for the beginning.
fn follow<E: Into<CliError>>(
    client: &Client,
    request: &CaptureRequest,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<bool, CliError> {
    let mut failed = None;
    // A thread of its own takes the signals: this one may wait for whoever takes the output.
    let stop = Interrupt::wish()?;
    let started = || {
        let what = if request.drops {
            "what is dropped"
        } else {
            "frames"
        };
        drop(writeln!(io::stderr(), "capturing {what}; Ctrl-C ends it"));
    };
    let has_begun = client.capture(request, stop, started, |piece| match take(piece) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(has_begun),
    }
}

/// As lines on the screen, or as JSON, a value in each line.
fn print(
    client: &Client,
    request: &CaptureRequest,
    json: bool,
    is_verbose: bool,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let mut rest = Vec::new();
    let mut totals = None;
    let has_begun = follow(client, request, |piece| -> Result<(), CliError> {
        rest.extend_from_slice(piece);
        let Some(end) = rest.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(());
        };
        for line in rest[..end].split(|&byte| byte == b'\n') {
            let line: CaptureLine = serde_json::from_slice(line).map_err(|error| {
                CliError::Failed(format!("capture: read a line of the daemon: {error}"))
            })?;
            if let CaptureLine::End { captured, lost } = line {
                totals = Some(Totals { captured, lost });
            }
            match &line {
                _ if json => output::json_value(out, &line)?,
                CaptureLine::Frame(frame) => human(out, frame, is_verbose)?,
                CaptureLine::Skipped { .. } | CaptureLine::End { .. } => {}
            }
        }
        rest.drain(..=end);
        out.flush()?;
        Ok(())
    })?;
    match has_begun {
        true => finish(client, totals, json),
        false => Ok(()),
    }
}

/// As a file, or as several.
fn write(
    client: &Client,
    request: &CaptureRequest,
    mut sink: Sink,
    json: bool,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let written = follow(client, request, |piece| sink.take(piece, out));
    match written {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        // tcpdump -c and closed windows end a capture like this.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => return Err(error),
    }
    if json && let Some(totals) = sink.totals() {
        let Totals { captured, lost } = totals;
        output::json_value(out, &CaptureLine::End { captured, lost })?;
    }
    let totals = sink.totals();
    finish(client, totals, false)
}

/// Says how it went.
fn finish(client: &Client, totals: Option<Totals>, is_quiet: bool) -> Result<(), CliError> {
    let Some(Totals { captured, lost }) = totals else {
        let path = shown(client.path());
        return Err(CliError::Failed(format!(
            "capture: the daemon at {path} has ended"
        )));
    };
    if !is_quiet {
        let frames = if captured == 1 { "frame" } else { "frames" };
        let why = match lost {
            0 => "",
            _ => ": this end was too slow; filter more, or keep less of each frame (-s 100)",
        };
        let text = format!("{captured} {frames} captured, {lost} lost{why}");
        drop(writeln!(io::stderr(), "{text}"));
    }
    Ok(())
}

/// Time, place, way, what it is and what became of it; with `is_verbose` all that is known of that.
fn human(out: &mut impl Write, frame: &CapturedFrame, is_verbose: bool) -> io::Result<()> {
    let interface = output::plain(&frame.interface);
    let text = output::plain(&frame.text);
    let fate = match (frame.verdict.as_str(), &frame.reason, &frame.to) {
        (_, Some(reason), _) => format!(" [dropped {}]", output::plain(reason)),
        ("forwarded", _, Some(to)) => format!(" -> {}", output::plain(to)),
        ("flooded", _, Some(to)) => format!(" -> flooded to {}", output::plain(to)),
        ("delivered", ..) => String::new(),
        (other, ..) => format!(" [{}]", output::plain(other)),
    };
    let time = Duration::try_from_secs_f64(frame.time).unwrap_or_default();
    let time = output::time_of_day(time);
    let side = &output::plain(&frame.side);
    writeln!(out, "{time} {interface} {side:<3} {text}{fate}")?;
    if is_verbose {
        let (len, comment) = (frame.len, output::plain(&frame.comment));
        writeln!(out, "    {len} bytes; {comment}")?;
    }
    Ok(())
}
