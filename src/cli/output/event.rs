//! Events as lines.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::plain;
use crate::{
    bridge::DropReason,
    control::api::{Event, PortState},
};

/// Writes `event` as one line.
pub(in crate::cli) fn event(out: &mut impl Write, event: &Event) -> io::Result<()> {
    writeln!(out, "{}", line(event))
}

/// `event` in words, after its time of day.
pub(in crate::cli) fn line(event: &Event) -> String {
    let (time, words) = match event {
        Event::Port {
            time,
            port,
            bridge,
            change,
            state,
            reason,
        } => {
            let state = state.map_or("", |state| match state {
                PortState::Up => ", up",
                PortState::Down => ", down",
                PortState::Gone => ", gone",
            });
            let (change, reason) = (plain(change), because(reason.as_deref()));
            (
                time,
                format!("port {port} {change} on {bridge}{state}{reason}"),
            )
        }
        Event::Fdb { time, .. } => (time, fdb(event)),
        Event::Bridge {
            time,
            bridge,
            change,
        } => (time, format!("bridge {bridge} {}", plain(change))),
        Event::Mtu { time, port, mtu } => (time, format!("mtu of port {port} is {mtu}")),
        Event::Peer {
            time,
            bridge,
            remote,
            change,
            mtu,
            reason,
        } => {
            let mtu = mtu.map_or_else(String::new, |mtu| format!(", mtu {mtu}"));
            let (remote, change) = (plain(remote), plain(change));
            let reason = because(reason.as_deref());
            (
                time,
                format!("peer {remote} {change} on {bridge}{mtu}{reason}"),
            )
        }
        Event::Vtep {
            time,
            change,
            reason,
        } => {
            let reason = because(reason.as_deref());
            (time, format!("vtep {}{reason}", plain(change)))
        }
        Event::Drops { time, .. } => (time, drops(event)),
        Event::Lost { count } => return format!("{count} events are missing here"),
    };
    format!("{} {words}", clock(*time))
}

/// `drops port podA on br0: 3 from it, no_egress: no other port of the bridge is up`
fn drops(event: &Event) -> String {
    let Event::Drops {
        bridge,
        port,
        remote,
        direction,
        reason,
        count,
        ..
    } = event
    else {
        return String::new();
    };
    let way = match direction.as_str() {
        "receive" => "from",
        _ => "to",
    };
    let on = bridge
        .as_ref()
        .map_or_else(String::new, |bridge| format!(" on {bridge}"));
    let (place, whom) = match (port, remote) {
        (Some(port), _) => (format!("port {port}{on}"), "it"),
        (None, Some(remote)) => (format!("peer {}{on}", plain(remote)), "it"),
        (None, None) => ("vtep".to_owned(), "no peer"),
    };
    let reason = plain(reason);
    match explain(&reason) {
        Some(why) => format!("drops {place}: {count} {way} {whom}, {reason}: {why}"),
        None => format!("drops {place}: {count} {way} {whom}, {reason}"),
    }
}

/// What a reason means, in words.
pub(in crate::cli) fn explain(reason: &str) -> Option<&'static str> {
    let known = DropReason::ALL.iter().find(|known| known.name() == reason);
    match (known, reason) {
        (Some(known), _) => Some(known.explain()),
        (None, "tap_queue") => Some("its TAP's queue was full before the switch read it"),
        _ => None,
    }
}

fn fdb(event: &Event) -> String {
    let Event::Fdb {
        time: _,
        change,
        bridge,
        mac,
        vlan,
        port,
        remote,
        old_port,
        old_remote,
    } = event
    else {
        return String::new();
    };
    let part = |label: &str, value: Option<String>| {
        value.map_or_else(String::new, |value| format!(" {label} {value}"))
    };
    let change = plain(change);
    let vlan = part("vlan", (*vlan != 0).then(|| vlan.to_string()));
    let port = part("port", port.as_ref().map(ToString::to_string));
    let remote = part("remote", remote.as_deref().map(plain));
    let from = old_port.as_ref().map(ToString::to_string);
    let from = part("from", from.or_else(|| old_remote.as_deref().map(plain)));
    format!("fdb {change} {mac}{vlan} on {bridge}{port}{remote}{from}")
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |text| format!(": {}", plain(text)))
}

/// The time of day in UTC, in milliseconds.
pub(in crate::cli) fn clock(time: f64) -> String {
    let time = Duration::try_from_secs_f64(time).unwrap_or_default();
    format!("{}.{:03}", to_the_second(time), time.subsec_millis())
}

/// The time of day in UTC, in microseconds.
pub(in crate::cli) fn time_of_day(time: Duration) -> String {
    format!("{}.{:06}", to_the_second(time), time.subsec_micros())
}

fn to_the_second(time: Duration) -> String {
    let seconds = time.as_secs() % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}
