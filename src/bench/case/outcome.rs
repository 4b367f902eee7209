//! What the processes of a measurement tell, as figures.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::bench::{
    crew::{MemberId, Results},
    load::{
        DatagramsReceived, DatagramsSent, FramesCounted, FramesSent, StreamReceived, Trips, Window,
    },
    stats::fairness,
};

/// What came out of one measurement.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::bench) struct Outcome {
    /// In the order of [`super::Case::figures`].
    pub(in crate::bench) figures: Vec<f64>,
    pub(in crate::bench) work: Work,
    /// What else the processes counted.
    pub(in crate::bench) detail: Map<String, Value>,
}

/// What the CPU time was spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Work {
    Bytes(u64),
    Packets(u64),
    /// Too little to count.
    Nothing,
}

/// Who of a crew has what to tell.
#[derive(Debug)]
pub(super) enum Cast {
    /// Receivers of streams.
    Streams(Vec<MemberId>),
    /// A sender and its receivers.
    Datagrams(MemberId, Vec<MemberId>),
    Trips(MemberId),
    /// A sender, who counts what arrives, and who counts what was flooded.
    Frames(MemberId, MemberId, MemberId),
}

impl Cast {
    /// The figures of `window`.
    pub(super) fn read(&self, results: &Results, window: Window) -> Result<Outcome, String> {
        let seconds = window.until.since(window.from).as_secs_f64();
        let outcome = match self {
            Self::Streams(receivers) => of_streams(results, receivers, seconds)?,
            Self::Datagrams(sender, receivers) => {
                of_datagrams(results, *sender, receivers, seconds)?
            }
            Self::Trips(client) => of_trips(results, *client)?,
            Self::Frames(sender, counter, stranger) => {
                of_frames(results, *sender, *counter, *stranger)?
            }
        };
        // A figure of 0 is none: something is broken, and a median over it would hide that.
        match outcome.figures.iter().all(|&figure| figure > 0.0) {
            true => Ok(outcome),
            false => Err("nothing was delivered; does the switch still forward?".to_owned()),
        }
    }
}

fn of_streams(results: &Results, receivers: &[MemberId], seconds: f64) -> Result<Outcome, String> {
    let bytes = receivers
        .iter()
        .map(|&member| results.of::<StreamReceived>(member).map(|got| got.bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let rates: Vec<f64> = bytes
        .iter()
        .map(|&bytes| real(bytes) * 8e-9 / seconds)
        .collect();
    let sum = rates.iter().sum();
    let mut detail = Map::new();
    if rates.len() > 1 {
        detail.insert("streams".to_owned(), rates.clone().into());
    }
    Ok(Outcome {
        // The second is a figure of some cases only.
        figures: vec![sum, fairness(&rates)],
        work: Work::Bytes(bytes.iter().sum()),
        detail,
    })
}

fn of_trips(results: &Results, client: MemberId) -> Result<Outcome, String> {
    let trips: Trips = results.of(client)?;
    if trips.count == 0 {
        let lost = trips.lost;
        return Err(format!(
            "no message came back in time, and {lost} never; is the switch overloaded?"
        ));
    }
    Ok(Outcome {
        figures: vec![trips.p50, trips.p99],
        work: Work::Nothing,
        detail: detail(&trips),
    })
}

fn of_datagrams(
    results: &Results,
    sender: MemberId,
    receivers: &[MemberId],
    seconds: f64,
) -> Result<Outcome, String> {
    let sent: DatagramsSent = results.of(sender)?;
    let received = receivers
        .iter()
        .map(|&member| results.of::<DatagramsReceived>(member))
        .collect::<Result<Vec<_>, _>>()?;
    let total = |of: fn(&DatagramsReceived) -> u64| received.iter().map(of).sum::<u64>();
    let packets = total(|got| got.packets);
    let mut detail = Map::new();
    let copies = received.len() as u64;
    for (key, count) in [
        ("sent", sent.packets * copies),
        ("received", packets),
        ("lost", total(|got| got.lost)),
        ("late", total(|got| got.late)),
        ("duplicates", total(|got| got.duplicates)),
        ("socket_drops", total(|got| got.socket_drops)),
    ] {
        detail.insert(key.to_owned(), count.into());
    }
    if received.len() > 1 {
        let rates: Vec<f64> = received
            .iter()
            .map(|got| real(got.packets) / seconds / 1e3)
            .collect();
        detail.insert("receivers".to_owned(), rates.into());
    }
    Ok(Outcome {
        figures: vec![real(packets) / real(copies) / seconds / 1e3],
        work: Work::Packets(packets),
        detail,
    })
}

fn of_frames(
    results: &Results,
    sender: MemberId,
    counter: MemberId,
    stranger: MemberId,
) -> Result<Outcome, String> {
    let sent: FramesSent = results.of(sender)?;
    let received: FramesCounted = results.of(counter)?;
    let flooded: FramesCounted = results.of(stranger)?;
    let mut detail = Map::new();
    for (key, count) in [
        ("sent", sent.packets),
        ("received", received.packets),
        ("flooded", flooded.packets),
    ] {
        detail.insert(key.to_owned(), count.into());
    }
    Ok(Outcome {
        figures: vec![real(received.packets) / real(received.nanos) * 1e6],
        work: Work::Packets(received.packets),
        detail,
    })
}

fn detail(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn real(count: u64) -> f64 {
    count as f64
}
