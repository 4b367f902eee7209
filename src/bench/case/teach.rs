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
};

/// Well below the ageing time of every switch (300 s), after which it forgets.
const TAUGHT: Duration = Duration::from_secs(100);

/// Lets the switch see so many addresses behind the second pod, and makes sure that it saw them: all
/// frames must have come to the first pod, at whatever rate that takes.
pub(super) fn teach(site: &mut Site, hosts: u32) -> Result<(), String> {
    let now = clock::now();
    if site.taught.is_some_and(|taught| now.since(taught) < TAUGHT) {
        return Ok(());
    }
    let (first, second) = two(site.topology.pods())?;
    let eth0 = IfName::eth0();
    let to = in_pod(first, || load::address(&eth0))?;
    let mut arrived = 0;
    for rate in [200_000, 100_000, 50_000, 25_000] {
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
        let length = Duration::from_secs(u64::from(hosts) / rate) + Duration::from_secs(1);
        let window = Window {
            start,
            from: start,
            until: start + length,
        };
        crew.start(window)?;
        let results = crew.finish(window.until + length)?;
        let _sent: FramesSent = results.of(teacher)?;
        // The last ones are on their way.
        thread::sleep(Duration::from_millis(50));
        arrived = in_pod(first, || load::received(&eth0))?.saturating_sub(before);
        if arrived >= hosts.into() {
            site.taught = Some(clock::now());
            return Ok(());
        }
    }
    Err(format!(
        "make {hosts} addresses known: only {arrived} frames arrived at 25000 a second; the switch \
         is too slow, leave the case out"
    ))
}

fn in_pod<T: Send>(
    pod: &Pod,
    f: impl FnOnce() -> Result<T, LoadError> + Send,
) -> Result<T, String> {
    let result = pod.netns.run_in(|| f().map_err(|error| error.to_string()));
    result.map_err(|error| error.to_string())?
}
