//! `trace`: asks the daemon, and then those of the VTEPs.

use std::{
    fmt::Display,
    fs::File,
    io::{self, BufReader, Read, Write},
    net::IpAddr,
    path::Path,
};

use super::{
    CliError, Remote,
    args::{ThenArg, TraceArgs},
    client, output,
};
use crate::{
    control::{
        api::{
            Hex, Request, Response, TraceDatagrams, TraceFrom, TraceReport, TraceRequest, TraceWhat,
        },
        client::Client,
    },
    craft,
    names::shown,
    pcap::{LinkType, Reader},
};

/// Carries the command out.
pub(super) fn run(args: TraceArgs, remote: &Remote, out: &mut impl Write) -> Result<(), CliError> {
    let then = args.then.clone();
    let request = request(args)?;
    let mut report = ask(&remote.client, request)?;
    let mut idle = Vec::new();
    for next in &then {
        match follow(&report, next)? {
            Followed::Report(next) => report.then.push(*next),
            Followed::Nothing(ip) => idle.push((ip, shown(&next.socket))),
        }
    }
    if remote.json {
        output::json_value(out, &report)?;
    } else {
        output::trace(out, &report)?;
    }
    out.flush()?;
    for (ip, socket) in idle {
        let text =
            format!("trace: go on at {socket}: no copy of this frame goes to its VTEP, {ip}");
        drop(writeln!(io::stderr(), "tapswitch: {text}"));
    }
    Ok(())
}

fn request(args: TraceArgs) -> Result<TraceRequest, CliError> {
    let what = match (args.hex, args.pcap) {
        (_, Some(file)) => TraceWhat::Frame(Hex(read_frame(&file, args.frame)?)),
        (Some(text), None) => {
            let text = match text.as_str() {
                "-" => read_input()?,
                _ => text,
            };
            let bytes = text.parse::<Hex>();
            let bytes =
                bytes.map_err(|error| CliError::Usage(format!("trace: read --hex: {error}")))?;
            TraceWhat::Frame(bytes)
        }
        (None, None) => {
            let text = args.packet.join(" ");
            if let Err(error) = craft::parse(&text) {
                let column = error.column;
                let message = error.message;
                return Err(CliError::Usage(format!(
                    "trace: {text}\ntapswitch: trace: {mark:>column$} {message}",
                    mark = '^'
                )));
            }
            TraceWhat::Packet(text)
        }
    };
    let from = match (args.port, args.from_peer) {
        (Some(port), _) => TraceFrom::Port(port),
        (None, Some(remote)) => TraceFrom::Peer {
            remote,
            vni: args.vni,
        },
        (None, None) => {
            return Err(CliError::Usage(
                "trace: where does it come in? give --in PORT or --from-peer IP".to_owned(),
            ));
        }
    };
    Ok(TraceRequest { from, what })
}

fn read_input() -> Result<String, CliError> {
    let mut text = String::new();
    let read = io::stdin()
        .lock()
        .take(MOST_INPUT + 1)
        .read_to_string(&mut text);
    let len = read.map_err(|error| {
        CliError::Failed(format!("trace: read standard input: {error}; give text"))
    })?;
    match u64::try_from(len) {
        Ok(len) if len <= MOST_INPUT => Ok(text),
        _ => Err(CliError::Usage(
            "trace: read standard input: it is longer than 1 MiB; give the bytes of one frame"
                .to_owned(),
        )),
    }
}

/// Frame number `number` of a capture file.
fn read_frame(file: &Path, number: u64) -> Result<Vec<u8>, CliError> {
    let shown = shown(file);
    let failed = |cause: &dyn Display| {
        CliError::Failed(format!("trace: read {shown}: {cause}; check the path"))
    };
    let refused = |cause: String| CliError::Usage(format!("trace: read {shown}: {cause}"));
    let opened = File::open(file).map_err(|error| failed(&error))?;
    let reader = Reader::new(BufReader::new(opened)).map_err(|error| refused(error.to_string()))?;
    let mut count = 0;
    for packet in reader {
        let packet = packet.map_err(|error| refused(error.to_string()))?;
        count = packet.number;
        if packet.number < number {
            continue;
        }
        if packet.link != LinkType::ETHERNET {
            let LinkType(link) = packet.link;
            return Err(refused(format!(
                "packet {number} has no Ethernet header (link type {link}); capture on a port"
            )));
        }
        if packet.bytes.len() < packet.original_len {
            return Err(refused(format!(
                "of packet {number} only {} of {} bytes were captured; capture all of it",
                packet.bytes.len(),
                packet.original_len
            )));
        }
        return Ok(packet.bytes);
    }
    Err(refused(format!(
        "there is no packet {number}; it has {count}"
    )))
}

fn ask(client: &Client, request: TraceRequest) -> Result<TraceReport, CliError> {
    match client.request(&Request::Trace(request))? {
        Response::Trace(report) => Ok(*report),
        _ => Err(client.unexpected().into()),
    }
}

/// What a further switch has to tell.
enum Followed {
    /// How the story goes on there.
    Report(Box<TraceReport>),
    /// No copy comes to its VTEP, which is at this address.
    Nothing(IpAddr),
}

/// How the story goes on where `next` is.
fn follow(report: &TraceReport, next: &ThenArg) -> Result<Followed, CliError> {
    let client = client(next.socket.clone());
    let ip = match next.ip {
        Some(ip) => ip,
        None => match client.request(&Request::VtepShow)? {
            Response::Vtep(Some(vtep)) => vtep.spec.local,
            Response::Vtep(None) => {
                let path = shown(&next.socket);
                return Err(CliError::Failed(format!(
                    "trace: go on at {path}: that switch has no VXLAN endpoint, so it gets nothing"
                )));
            }
            _ => return Err(client.unexpected().into()),
        },
    };
    let copies = report.copies.iter().flat_map(|copy| &copy.datagrams);
    let datagrams: Vec<TraceDatagrams> = copies
        .filter(|datagrams| datagrams.to.ip() == ip)
        .cloned()
        .collect();
    let Some(from) = datagrams.first().map(|first| first.from) else {
        return Ok(Followed::Nothing(ip));
    };
    // The VNI is in the datagrams; this one is only for whoever leaves it out.
    let vni = datagrams
        .first()
        .and_then(|first| crate::vxlan::parse(&first.data.0).ok())
        .map(|(header, _)| header.vni);
    let request = TraceRequest {
        from: TraceFrom::Peer { remote: from, vni },
        what: TraceWhat::Datagrams(datagrams),
    };
    ask(&client, request).map(|report| Followed::Report(Box::new(report)))
}

/// Enough for the longest frame with blanks between its bytes.
const MOST_INPUT: u64 = 1 << 20;
