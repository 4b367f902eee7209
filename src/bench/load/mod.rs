//! `tapswitch load`: what makes and takes the traffic of a measurement, each end a process of its own.
//!
//! A job prepares (binds, connects), says `ready`, and reads three times in nanoseconds of
//! `CLOCK_MONOTONIC` from its standard input: when to start, and from when until when to count. All
//! ends of a measurement are told the same, so they count the same window without talking to each
//! other. At the end it prints what it counted as one line of JSON.

mod burst;
mod datagrams;
mod frames;
mod sequence;
mod streams;
mod trips;

use std::{
    io::{self, BufRead, Write},
    net::SocketAddrV4,
    str::FromStr,
    time::Duration,
};

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, ClockNanosleepFlags, clock_nanosleep},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use self::frames::{address, received};
pub use self::{
    datagrams::{DatagramsReceived, DatagramsSent},
    frames::{FramesCounted, FramesSent, host},
    streams::StreamReceived,
    trips::Trips,
};
use crate::{
    names::IfName,
    sys::{affinity, cause_text, clock},
    time::Timestamp,
    wire::MacAddr,
};

/// What one process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What.
    #[serde(flatten)]
    pub job: Job,
    /// On which CPU; `None`: wherever the scheduler puts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<usize>,
}

/// One end of a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Job {
    /// Takes one TCP stream; prints [`StreamReceived`].
    StreamReceive {
        /// Where it listens.
        bind: SocketAddrV4,
    },
    /// Fills one TCP stream.
    StreamSend {
        /// Who takes it.
        to: SocketAddrV4,
    },
    /// Takes datagrams; prints [`DatagramsReceived`].
    DatagramReceive {
        /// Where it listens.
        bind: SocketAddrV4,
        /// Which run's datagrams count.
        tag: u32,
    },
    /// Sends datagrams; prints [`DatagramsSent`].
    DatagramSend {
        /// Who takes them; may be a broadcast address.
        to: SocketAddrV4,
        /// Which run they belong to.
        tag: u32,
        /// Bytes of payload.
        size: usize,
    },
    /// Sends back what [`Self::PingClient`] sends.
    PingEcho {
        /// Where it listens.
        bind: SocketAddrV4,
    },
    /// Sends one message after another, each when the last has come back; prints [`Trips`].
    PingClient {
        /// Who sends them back.
        to: SocketAddrV4,
        /// Which run they belong to.
        tag: u32,
    },
    /// Sends one frame from each of [`host`]'s addresses; prints [`FramesSent`].
    FrameTeach {
        /// Out of which interface.
        interface: IfName,
        /// To whom.
        to: MacAddr,
        /// How many addresses.
        hosts: u32,
        /// How many a second.
        rate: u64,
    },
    /// Sends frames to [`host`]'s addresses in random order; prints [`FramesSent`].
    FrameSend {
        /// Out of which interface.
        interface: IfName,
        /// How many addresses.
        hosts: u32,
    },
    /// Counts what an interface receives; prints [`FramesCounted`].
    FrameCount {
        /// Which.
        interface: IfName,
    },
}

/// When to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When senders start.
    pub start: Timestamp,
    /// From when on it counts.
    pub from: Timestamp,
    /// Until when it counts.
    pub until: Timestamp,
}

impl Window {
    /// How long senders go on after the end, so that the last moment is like all others.
    const TAIL: Duration = Duration::from_millis(30);

    /// Whether what happened at `now` counts.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    /// The line that tells it.
    pub fn to_line(self) -> String {
        let [start, from, until] = [self.start, self.from, self.until].map(Timestamp::as_nanos);
        format!("{start} {from} {until}\n")
    }

    fn end_of_sending(&self) -> Timestamp {
        self.until + Self::TAIL
    }
}

impl FromStr for Window {
    type Err = LoadError;

    fn from_str(line: &str) -> Result<Self, LoadError> {
        let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
        let times = numbers.into_iter().map(Timestamp::from_nanos);
        match times.collect::<Vec<_>>()[..] {
            [start, from, until] if start <= from && from < until => {
                Ok(Self { start, from, until })
            }
            _ => Err(LoadError::Input(line.trim().to_owned())),
        }
    }
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The order cannot be read.
    #[error("read job: {0}; give one as JSON, as tapswitch bench does")]
    Order(#[from] serde_json::Error),
    /// No times came.
    #[error(
        "read times: {0:?} is not three growing numbers of nanoseconds; did tapswitch bench end?"
    )]
    Input(String),
    /// A system call failed.
    #[error("{what}: {}; is the namespace still plugged in?", cause_text(.cause))]
    System {
        /// Which, and about what.
        what: String,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// Something that should have happened did not.
    #[error("{0}")]
    Missing(String),
    /// The runner does not listen.
    #[error("write result: {}; did tapswitch bench end?", cause_text(.0))]
    Output(#[from] io::Error),
}

/// Says what failed.
trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, LoadError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, LoadError> {
        self.map_err(|error| LoadError::System {
            what: what(),
            cause: error.into(),
        })
    }
}

/// What is left to do once the times are known.
type Prepared = Box<dyn FnOnce(Window) -> Result<Value, LoadError>>;

/// Does what `order` says, an [`Order`] as JSON.
///
/// # Errors
/// A [`LoadError`]; nothing was printed after `ready`.
pub fn run(order: &str, input: &mut impl BufRead, out: &mut impl Write) -> Result<(), LoadError> {
    let order: Order = serde_json::from_str(order)?;
    if let Some(cpu) = order.cpu {
        affinity::hold_on(cpu).context(|| format!("stay on CPU {cpu}"))?;
    }
    let prepared = prepare(order.job)?;
    writeln!(out, "ready")?;
    out.flush()?;
    let mut line = String::new();
    input.read_line(&mut line).map_err(|cause| {
        let cause = cause_text(&cause);
        LoadError::Missing(format!("read times: {cause}; did tapswitch bench end?"))
    })?;
    let result = prepared(line.parse()?)?;
    writeln!(out, "{result}")?;
    Ok(out.flush()?)
}

fn prepare(job: Job) -> Result<Prepared, LoadError> {
    match job {
        Job::StreamReceive { bind } => streams::receive(bind),
        Job::StreamSend { to } => streams::send(to),
        Job::DatagramReceive { bind, tag } => datagrams::receive(bind, tag),
        Job::DatagramSend { to, tag, size } => datagrams::send(to, tag, size),
        Job::PingEcho { bind } => trips::echo(bind),
        Job::PingClient { to, tag } => trips::client(to, tag),
        Job::FrameTeach {
            interface,
            to,
            hosts,
            rate,
        } => frames::teach(&interface, to, hosts, rate),
        Job::FrameSend { interface, hosts } => frames::send(&interface, hosts),
        Job::FrameCount { interface } => Ok(frames::count(interface)),
    }
}

/// Sleeps until `time`; not at all if it has passed.
pub(super) fn sleep_until(time: Timestamp) {
    let time = TimeSpec::from_duration(time.since(Timestamp::ZERO));
    let absolute = ClockNanosleepFlags::TIMER_ABSTIME;
    // Only a signal ends it early, and then it goes on.
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, absolute, &time).is_err() {}
}

/// A time in the near future, for a socket's timeout; never zero, which would mean forever.
fn patience(until: Timestamp) -> Duration {
    until.since(clock::now()).max(Duration::from_millis(1))
}

fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The result of a job as one value.
fn told(result: impl Serialize) -> Result<Value, LoadError> {
    Ok(serde_json::to_value(result)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_way_to_its_process() {
        let job = Job::DatagramSend {
            to: "10.1.0.2:9000".parse().unwrap(),
            tag: 7,
            size: 18,
        };
        let order = Order { job, cpu: Some(1) };
        let text = serde_json::to_string(&order).unwrap();
        assert!(
            text.contains("\"role\":\"datagram_send\"") && text.contains("\"cpu\":1"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    }

    #[test]
    fn times_are_told_in_a_line_and_nonsense_is_refused() {
        let window: Window = "1 2 3\n".parse().unwrap();
        assert_eq!(window.to_line(), "1 2 3\n");
        assert!(window.contains(Timestamp::from_nanos(2)));
        assert!(!window.contains(Timestamp::from_nanos(3)));
        for wrong in ["", "1 2", "3 2 1", "1 2 2", "a b c"] {
            let error = wrong.parse::<Window>().unwrap_err().to_string();
            assert!(error.starts_with("read times"), "{error}");
        }
    }

    struct Torn;

    impl io::Read for Torn {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_job_whose_runner_is_gone_says_so() {
        let order = r#"{"role":"frame_count","interface":"lo"}"#;
        let mut out = Vec::new();
        let error = run(order, &mut io::empty(), &mut out).unwrap_err();
        assert!(error.to_string().contains("did tapswitch bench end?"));
        assert_eq!(out, b"ready\n");
        let mut torn = io::BufReader::new(Torn);
        let error = run(order, &mut torn, &mut out).unwrap_err().to_string();
        assert_eq!(error, "read times: broken pipe; did tapswitch bench end?");
        let error = run("{}", &mut io::empty(), &mut out).unwrap_err();
        assert!(error.to_string().starts_with("read job"), "{error}");
    }
}
