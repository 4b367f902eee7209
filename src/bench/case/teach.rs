//! Addresses that a switch is to know, and makes sure that it does.

use std::{thread, time::Duration};

use super::cast::{Site, two};
use crate::{
    bench::{
        crew::Crew,
        load::{self, FramesSent, Job, LoadError, Window},
        topology::Pod,
    },
    names::IfName,
    sys::clock,
    time::Timestamp,
};

/// Well below the ageing time of every switch (300 s), after which it forgets.
const TAUGHT: Duration = Duration::from_secs(100);

/// What a switch was told about addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::bench) enum Taught {
    /// Nothing.
    #[default]
    Nothing,
    /// All, at this time.
    All(Timestamp),
    /// It does not take them, and would not the next time.
    Refused(String),
}

/// The first rate, in frames a second.
const FASTEST: u64 = 200_000;
/// Slower than this a million takes half a minute, for each system and again every now and then.
const SLOWEST: u64 = 40_000;

/// Lets the switch see so many addresses behind the second pod, and makes sure that it saw them: all
/// frames must have come to the first pod, at whatever rate that takes.
pub(super) fn teach(site: &mut Site, hosts: u32) -> Result<(), String> {
    let now = clock::now();
    match &site.taught {
        Taught::All(time) if now.since(*time) < TAUGHT => return Ok(()),
        Taught::Refused(reason) => return Err(reason.clone()),
        _ => {}
    }
    let pods = two(site.topology.pods())?;
    let mut rate = FASTEST;
    while rate >= SLOWEST {
        let arrived = pass(pods, hosts, rate)?;
        if arrived >= hosts.into() {
            site.taught = Taught::All(clock::now());
            return Ok(());
        }
        // What got through, and some less.
        let through = rate * arrived / u64::from(hosts);
        rate = (rate / 2).min(through * 7 / 10);
    }
    let reason = format!(
        "make {hosts} addresses known: the switch loses some even at {SLOWEST} a second; leave the \
         case out"
    );
    site.taught = Taught::Refused(reason.clone());
    Err(reason)
}

/// Sends a frame from each address, and returns how many arrived.
fn pass((first, second): (&Pod, &Pod), hosts: u32, rate: u64) -> Result<u64, String> {
    let eth0 = IfName::eth0();
    let to = in_pod(first, || load::address(&eth0))?;
    let before = in_pod(first, || load::received(&eth0))?;
    let mut crew = Crew::default();
    let job = Job::FrameTeach {
        interface: eth0.clone(),
        to,
        hosts,
        rate,
    };
    let teacher = crew.add(second, job, None)?;
    let start = clock::now();
    let length = Duration::from_secs(1 + u64::from(hosts) / rate);
    let window = Window {
        start,
        from: start,
        until: start + length,
    };
    crew.start(window)?;
    let _sent: FramesSent = crew.finish(window.until + length)?.of(teacher)?;
    // The last ones are on their way.
    thread::sleep(Duration::from_millis(50));
    let after = in_pod(first, || load::received(&eth0))?;
    Ok(after.saturating_sub(before))
}

fn in_pod<T: Send>(
    pod: &Pod,
    f: impl FnOnce() -> Result<T, LoadError> + Send,
) -> Result<T, String> {
    let result = pod.netns.run_in(|| f().map_err(|error| error.to_string()));
    result.map_err(|error| error.to_string())?
}
