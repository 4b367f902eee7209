//! How long a switch believes what it has learned, and what it makes of an address that wanders.
//!
//! The clock of the lab stands still until somebody moves it, so that five minutes take no time and
//! are the same five minutes on every run.
//!
//! Run: `cargo run --example 05_ageing_and_moving` (no root)
//!
//! ```text
//! podA speaks once, and is then asked for.
//!      0 s  podA: broadcast: flooded to podB, podC
//!           learned 02:00:00:00:00:01 on podA
//!    300 s  podB: known: forwarded to podA
//!           learned 02:00:00:00:00:02 on podB
//!    302 s  podB: 02:00:00:00:00:01 is unknown: flooded to podA, podC
//!
//! podA speaks all the time: what is heard does not age.
//!   3292 s  podB: known: forwarded to podA
//!           learned 02:00:00:00:00:02 on podB
//!
//! podA moves to podB's port: one frame is enough.
//!   3292 s  podB: broadcast: flooded to podA, podC
//!           02:00:00:00:00:01 moved from podA to podB
//!
//! Two hosts claim one address. That is a loop or a mistake, and it moves too often:
//!   3293 s  podA: broadcast: flooded to podB, podC
//!           02:00:00:00:00:01 moved from podB to podA
//!   3294 s  podB: broadcast: flooded to podA, podC
//!           02:00:00:00:00:01 moved from podA to podB
//!   3295 s  podA: broadcast: flooded to podB, podC
//!           02:00:00:00:00:01 moved from podB to podA
//!   3296 s  podB: broadcast: flooded to podA, podC
//!           02:00:00:00:00:01 moved from podA to podB, where it is held now: it moves too often
//!   3297 s  podA: broadcast: flooded to podB, podC
//!           02:00:00:00:00:01 is held elsewhere: it moved too often
//! 02:00:00:00:00:01 is held on podB for 179 s more.
//!
//! The cable of podB is pulled: what was behind it is forgotten at once.
//! 0 of the addresses are left
//! ```

use std::time::Duration;

use tapswitch::{
    bridge::PortId,
    sim::{Lab, StoryLog, frames},
};

fn main() {
    let (mut lab, [a, b, _]) = Lab::switch(["podA", "podB", "podC"]);
    let log = lab.tell(100);
    let mac = frames::mac;

    println!("podA speaks once, and is then asked for.");
    speak(&mut lab, &log, a, &frames::broadcast(mac(1)));
    // The ageing time is 300 s (IEEE 802.1D-2004 table 7-5). A source that is seen often is written
    // down once a second, so that an entry lives for up to a second more.
    for wait in [300, 2] {
        lab.advance(Duration::from_secs(wait));
        speak(&mut lab, &log, b, &frames::unicast(mac(2), mac(1)));
    }

    println!("\npodA speaks all the time: what is heard does not age.");
    for _ in 0..10 {
        lab.advance(Duration::from_secs(299));
        lab.relay(a, &frames::broadcast(mac(1)));
    }
    log.take();
    speak(&mut lab, &log, b, &frames::unicast(mac(2), mac(1)));

    println!("\npodA moves to podB's port: one frame is enough.");
    speak(&mut lab, &log, b, &frames::broadcast(mac(1)));

    println!("\nTwo hosts claim one address. That is a loop or a mistake, and it moves too often:");
    for port in [a, b, a, b, a] {
        lab.advance(Duration::from_secs(1));
        speak(&mut lab, &log, port, &frames::broadcast(mac(1)));
    }
    let entries = lab.entries();
    let (key, entry) = entries[0];
    let place = entry.egress.port().unwrap_or(a);
    let left = entry.frozen_until.since(lab.now());
    println!(
        "{} is held on {} for {} s more.",
        key.mac(),
        lab.name(place),
        left.as_secs()
    );

    println!("\nThe cable of podB is pulled: what was behind it is forgotten at once.");
    lab.set_up(b, false);
    let left = lab.entries();
    println!("{} of the addresses are left", left.len());
    lab.assert_accounted();
}

fn speak(lab: &mut Lab, log: &StoryLog, port: PortId, frame: &[u8]) {
    lab.relay(port, frame);
    for sentence in log.take() {
        let seconds = lab.now().as_nanos() / 1_000_000_000;
        println!("{seconds:>6} s  {}: {}", sentence.ingress, sentence.fate);
        if let Some(lesson) = sentence.lesson {
            println!("          {lesson}");
        }
    }
}
