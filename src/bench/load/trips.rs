//! There and back: how long a small message takes.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Context, LoadError, Prepared, Window,
    datagrams::{read_mark, write_mark},
    sleep_until, told, would_block,
};
use crate::sys::clock;

/// What a client measured, in microseconds there and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trips {
    /// Messages that came back in the window.
    pub count: u64,
    /// Messages that did not.
    pub lost: u64,
    /// Half of them took no longer.
    pub p50: f64,
    /// Nine in ten.
    pub p90: f64,
    /// 99 in 100.
    pub p99: f64,
    /// 999 in 1000.
    pub p99_9: f64,
    /// The slowest.
    pub max: f64,
}

/// As long as the payload of the shortest frame.
const MESSAGE: usize = 18;
/// After which a message counts as lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long an echo waits before it looks at the clock.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn echo(bind: SocketAddrV4) -> Result<Prepared, LoadError> {
    let what = move || format!("open a UDP socket at {bind}");
    let socket = UdpSocket::bind(bind).context(what)?;
    socket.set_read_timeout(Some(LOOK)).context(what)?;
    Ok(Box::new(move |window| {
        let mut buf = [0; 2048];
        while clock::now() < window.end_of_sending() {
            match socket.recv_from(&mut buf) {
                Ok((len, from)) => {
                    let reply = buf.get(..len).unwrap_or_default();
                    // A reply that is not sent is a message that is lost, which the client sees.
                    drop(socket.send_to(reply, from));
                }
                Err(error) if would_block(&error) => {}
                Err(error) => return Err(error).context(|| "receive message".to_owned()),
            }
        }
        Ok(Value::Null)
    }))
}

pub(super) fn client(to: SocketAddrV4, tag: u32) -> Result<Prepared, LoadError> {
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let socket = UdpSocket::bind(any).context(|| "open a UDP socket".to_owned())?;
    socket
        .connect(to)
        .and_then(|()| socket.set_read_timeout(Some(PATIENCE)))
        .context(|| format!("connect to {to}"))?;
    Ok(Box::new(move |window| go(&socket, tag, window)))
}

fn go(socket: &UdpSocket, tag: u32, window: Window) -> Result<Value, LoadError> {
    let (mut samples, mut lost) = (Vec::<u64>::with_capacity(1 << 20), 0);
    let mut message = [0x5a; MESSAGE];
    sleep_until(window.start);
    for number in 0.. {
        write_mark(&mut message, tag, number);
        let start = clock::now();
        if start >= window.until {
            break;
        }
        socket
            .send(&message)
            .context(|| "send message".to_owned())?;
        let came_back = wait(socket, tag, number)?;
        let now = clock::now();
        match (window.contains(start), came_back) {
            (false, _) => {}
            (true, true) => samples.push(now.nanos_since(start)),
            (true, false) => lost += 1,
        }
    }
    samples.sort_unstable();
    told(Trips {
        count: samples.len() as u64,
        lost,
        p50: micros(percentile(&samples, 500)),
        p90: micros(percentile(&samples, 900)),
        p99: micros(percentile(&samples, 990)),
        p99_9: micros(percentile(&samples, 999)),
        max: micros(percentile(&samples, 1000)),
    })
}

/// Waits for message `number`; what comes for an earlier one is too late.
fn wait(socket: &UdpSocket, tag: u32, number: u64) -> Result<bool, LoadError> {
    let mut buf = [0; MESSAGE];
    loop {
        match socket.recv(&mut buf) {
            Ok(_) if read_mark(&buf, tag) == Some(number) => return Ok(true),
            Ok(_) => {}
            Err(error) if would_block(&error) => return Ok(false),
            Err(error) => return Err(error).context(|| "receive message".to_owned()),
        }
    }
}

/// The smallest of the sorted `samples` that so many in a thousand do not exceed; 0 without samples.
fn percentile(samples: &[u64], per_mille: usize) -> u64 {
    let rank = (samples.len() * per_mille).div_ceil(1000);
    samples.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<u64> = (1..=1000).collect();
        for (per_mille, expected) in [(500, 500), (990, 990), (999, 999), (1000, 1000)] {
            assert_eq!(percentile(&samples, per_mille), expected);
        }
        assert_eq!(percentile(&[7], 500), 7);
        assert_eq!(percentile(&[1, 9], 990), 9);
        assert_eq!(percentile(&[], 500), 0);
    }
}
