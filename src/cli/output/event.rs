//! Events as lines.

use std::io::{self, Write};

use super::plain;
use crate::control::api::{Event, PortState};

/// Writes `event` as one line.
pub(in crate::cli) fn event(out: &mut impl Write, event: &Event) -> io::Result<()> {
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
        Event::Lost { count } => return writeln!(out, "{count} events are missing here"),
    };
    writeln!(out, "{} {words}", clock(*time))
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

/// The time of day in UTC.
pub(super) fn clock(time: f64) -> String {
    let duration = std::time::Duration::try_from_secs_f64(time).unwrap_or_default();
    let seconds = duration.as_secs() % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:03}",
        seconds % 60,
        duration.subsec_millis()
    )
}
