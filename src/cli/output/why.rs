//! What became of frames, and where FDB entries come from, as people read it.

use std::io::{self, Write};

use super::{
    event::clock,
    plain,
    wrap::{hanging, wrapped},
};
use crate::control::api::{FdbChange, FdbInfo, FdbState, FdbStory, WhyEntry, WhyFate, WhyReport};

/// Writes a paragraph for each flow and fate, newest last.
pub(super) fn report(out: &mut impl Write, report: &WhyReport) -> io::Result<()> {
    if report.left_out > 0 {
        writeln!(
            out,
            "{} older ones are left out: ask for one address or port, or a time\n",
            report.left_out
        )?;
    }
    for (index, entry) in report.entries.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        paragraph(out, entry)?;
    }
    if let Some(hint) = &report.hint {
        if !report.entries.is_empty() {
            writeln!(out)?;
        }
        let mut lines = wrapped(&plain(hint), 88).into_iter();
        lines.try_for_each(|line| writeln!(out, "{line}"))?;
    }
    if report.crowded_out > 0 {
        let count = report.crowded_out;
        writeln!(
            out,
            "\n{count} flows had no room in the recorder and may be missing here"
        )?;
    }
    Ok(())
}

fn paragraph(out: &mut impl Write, entry: &WhyEntry) -> io::Result<()> {
    let ago = ago(entry.age_s);
    let count = match entry.count {
        1 => "1 frame".to_owned(),
        count => format!("{count} frames since {}", clock(entry.first)),
    };
    writeln!(out, "{}, {ago}: {count}", clock(entry.time))?;
    let mut line = |label: &str, text: &str| {
        let label = format!("  {label:<8} ");
        hanging(out, label, &plain(text), WIDTH)
    };
    let label = if entry.is_first { "first" } else { "frame" };
    line(label, &entry.frame)?;
    line("from", &origin(entry))?;
    let why = &entry.why;
    match entry.fate {
        WhyFate::Forwarded => line("to", &format!("{}: {why}", entry.to.join(", ")))?,
        WhyFate::Flooded => {
            let to = match (&entry.to[..], entry.copies) {
                ([], 1) => "1 place".to_owned(),
                ([], copies) => format!("{copies} places"),
                (to, _) => to.join(", "),
            };
            line("flooded", &format!("to {to}: {why}"))?;
        }
        WhyFate::Dropped | WhyFate::Lost => {
            let reason = entry.reason.as_deref().unwrap_or_default();
            let to = match &entry.to[..] {
                [] => String::new(),
                to => format!(" on its way to {}", to.join(", ")),
            };
            line("dropped", &format!("{reason}{to}: {why}"))?;
        }
    }
    if let Some(learned) = &entry.learned {
        line("learned", learned)?;
    }
    if let Some(remedy) = &entry.remedy {
        line("fix", remedy)?;
    }
    Ok(())
}

fn origin(entry: &WhyEntry) -> String {
    let from = match (&entry.from_port, &entry.from_remote) {
        (Some(port), _) => port.to_string(),
        (None, Some(remote)) => remote.clone(),
        (None, None) => "this switch itself".to_owned(),
    };
    let mut text = from;
    if let Some(bridge) = &entry.bridge {
        text.push_str(&format!(" on {bridge}"));
    }
    if let Some(vni) = &entry.vni {
        text.push_str(&format!(", VNI {vni}"));
    }
    if let (Some(src), Some(dst)) = (entry.src, entry.dst) {
        text.push_str(&format!(", {src} > {dst}"));
    }
    text.push_str(&format!(", {} bytes", entry.len));
    text
}

/// Writes what happened to the entries of an address.
pub(super) fn stories(out: &mut impl Write, stories: &[FdbStory]) -> io::Result<()> {
    for (index, story) in stories.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let vlan = match story.vlan {
            0 => String::new(),
            vlan => format!(" vlan {vlan}"),
        };
        let now = story
            .entry
            .as_ref()
            .map_or_else(|| "not in the fdb now".to_owned(), present);
        writeln!(out, "{}{vlan} on {}: {now}", story.mac, story.bridge)?;
        if story.forgotten > 0 {
            writeln!(out, "  {} older changes are forgotten", story.forgotten)?;
        }
        for change in &story.changes {
            self::change(out, change)?;
        }
        if let Some(hint) = &story.hint {
            writeln!(out, "  {}", plain(hint))?;
        }
    }
    let lost = stories
        .iter()
        .map(|story| story.lost_news)
        .max()
        .unwrap_or(0);
    if lost > 0 {
        writeln!(
            out,
            "\n{lost} news of addresses were lost under load and may be missing here"
        )?;
    }
    Ok(())
}

fn present(entry: &FdbInfo) -> String {
    let place = place(
        entry.port.as_ref().map(|port| port.as_str()),
        entry.remote.as_deref(),
    );
    let state = match entry.state {
        FdbState::Learned if entry.frozen => "learned, held there",
        FdbState::Learned => "learned",
        FdbState::Static => "static",
        FdbState::Local => "local",
        FdbState::Control => "from a control plane",
    };
    let seen = match entry.state {
        FdbState::Learned => format!(", last seen {}", ago(entry.age_s)),
        _ => String::new(),
    };
    format!("at {place}, {state}{seen}")
}

fn change(out: &mut impl Write, change: &FdbChange) -> io::Result<()> {
    let place_of = |port: &Option<crate::names::Name>, remote: &Option<String>| {
        place(port.as_ref().map(|port| port.as_str()), remote.as_deref())
    };
    let here = place_of(&change.port, &change.remote);
    let old = place_of(&change.old_port, &change.old_remote);
    let what = match change.change.as_str() {
        "learned" => format!("learned at {here}"),
        "moved" => format!("moved from {old} to {here}"),
        "flapping" => format!("moved from {old} to {here}, too often: held there for 180 s"),
        "frozen" => format!("seen at {here}, but held where it is"),
        "static-violation" => format!("seen at {here}, but its entry is static"),
        "limit" => format!("seen at {here}, but not learned: the fdb is full"),
        "added" => format!("added at {here}"),
        other => format!("{} at {here}", plain(other)),
    };
    let times = match change.count {
        1 => String::new(),
        count => format!(", {count} times, the last"),
    };
    let by = match (&change.frame, &change.cause) {
        (Some(frame), _) => format!("{times} by {}", plain(frame)),
        (None, Some(cause)) => format!("{times}: {}", plain(cause)),
        (None, None) => times,
    };
    let time = clock(change.time);
    let text = format!("{time}, {}: {what}{by}", ago(change.age_s));
    let indents = std::iter::once("  ").chain(std::iter::repeat("      "));
    let mut lines = indents.zip(wrapped(&text, WIDTH - 6));
    lines.try_for_each(|(indent, line)| writeln!(out, "{indent}{line}"))
}

fn place(port: Option<&str>, remote: Option<&str>) -> String {
    match (port, remote) {
        (Some(port), _) => port.to_owned(),
        (None, Some(remote)) => plain(remote),
        (None, None) => "a place that is no longer there".to_owned(),
    }
}

fn ago(seconds: f64) -> String {
    match seconds {
        ..60.0 => format!("{seconds:.1} s ago"),
        ..3600.0 => format!("{:.0} min ago", seconds / 60.0),
        _ => format!("{:.1} h ago", seconds / 3600.0),
    }
}

const WIDTH: usize = 90;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Name;

    fn entry() -> WhyEntry {
        WhyEntry {
            time: 43_384.123,
            age_s: 3.24,
            first: 43_380.0,
            count: 14,
            bytes: 21_196,
            frame: "icmp 10.1.1.10 > 10.1.1.20 echo request 14".to_owned(),
            is_first: false,
            len: 1514,
            src: "02:00:00:00:00:01".parse().ok(),
            dst: "02:00:00:00:00:02".parse().ok(),
            vlan: 0,
            bridge: Name::new("br0").ok(),
            vni: crate::wire::Vni::new(42),
            from_port: Name::new("podA").ok(),
            from_remote: None,
            fate: WhyFate::Lost,
            to: vec!["192.168.50.20".to_owned()],
            copies: 1,
            reason: Some("too_big".to_owned()),
            why: "outer 1550 > path 1500: it is larger than its egress takes".to_owned(),
            learned: None,
            remedy: Some("set MTU 1450: tapswitch bridge set br0 --mtu 1450".to_owned()),
            has_bytes: Some(1550),
            fits_bytes: Some(1500),
        }
    }

    fn printed(entries: Vec<WhyEntry>, hint: Option<&str>) -> String {
        let mut out = Vec::new();
        let whole = WhyReport {
            entries,
            left_out: 0,
            crowded_out: 0,
            hint: hint.map(str::to_owned),
        };
        report(&mut out, &whole).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_loss_is_told_with_its_numbers_and_what_to_do() {
        assert_eq!(
            printed(vec![entry()], None),
            "\
12:03:04.123, 3.2 s ago: 14 frames since 12:03:00.000
  frame    icmp 10.1.1.10 > 10.1.1.20 echo request 14
  from     podA on br0, VNI 42, 02:00:00:00:00:01 > 02:00:00:00:00:02, 1514 bytes
  dropped  too_big on its way to 192.168.50.20: outer 1550 > path 1500: it is larger than
           its egress takes
  fix      set MTU 1450: tapswitch bridge set br0 --mtu 1450
"
        );
    }

    #[test]
    fn what_went_out_is_told_with_the_fdbs_part_in_it() {
        let forwarded = WhyEntry {
            count: 1,
            fate: WhyFate::Forwarded,
            to: vec!["podB".to_owned()],
            vni: None,
            reason: None,
            remedy: None,
            why: "the fdb had 02:00:00:00:00:02 at podB".to_owned(),
            learned: Some("its source was new to the fdb and learned".to_owned()),
            ..entry()
        };
        let flooded = WhyEntry {
            fate: WhyFate::Flooded,
            to: Vec::new(),
            copies: 3,
            why: "it is a broadcast".to_owned(),
            learned: None,
            age_s: 200.0,
            count: 9,
            is_first: true,
            ..forwarded.clone()
        };
        assert_eq!(
            printed(vec![forwarded, flooded], Some("nothing else")),
            "\
12:03:04.123, 3.2 s ago: 1 frame
  frame    icmp 10.1.1.10 > 10.1.1.20 echo request 14
  from     podA on br0, 02:00:00:00:00:01 > 02:00:00:00:00:02, 1514 bytes
  to       podB: the fdb had 02:00:00:00:00:02 at podB
  learned  its source was new to the fdb and learned

12:03:04.123, 3 min ago: 9 frames since 12:03:00.000
  first    icmp 10.1.1.10 > 10.1.1.20 echo request 14
  from     podA on br0, 02:00:00:00:00:01 > 02:00:00:00:00:02, 1514 bytes
  flooded  to 3 places: it is a broadcast

nothing else
"
        );
    }

    #[test]
    fn an_entry_of_the_fdb_tells_its_story() {
        let change = FdbChange {
            time: 43_384.0,
            age_s: 4.0,
            count: 1,
            change: "learned".to_owned(),
            port: Name::new("podA").ok(),
            remote: None,
            old_port: None,
            old_remote: None,
            frame: Some("arp who-has 10.1.1.20 tell 10.1.1.10".to_owned()),
            cause: None,
        };
        let moved = FdbChange {
            change: "moved".to_owned(),
            port: None,
            remote: Some("192.168.50.20".to_owned()),
            old_port: Name::new("podA").ok(),
            count: 3,
            ..change.clone()
        };
        let flushed = FdbChange {
            change: "flushed".to_owned(),
            frame: None,
            cause: Some("tapswitch fdb flush".to_owned()),
            ..change.clone()
        };
        let story = FdbStory {
            bridge: Name::new("br0").unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            vlan: 7,
            entry: None,
            changes: vec![change, moved, flushed],
            forgotten: 2,
            lost_news: 5,
            hint: None,
        };
        let mut out = Vec::new();
        stories(&mut out, &[story]).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
02:00:00:00:00:01 vlan 7 on br0: not in the fdb now
  2 older changes are forgotten
  12:03:04.000, 4.0 s ago: learned at podA by arp who-has 10.1.1.20 tell 10.1.1.10
  12:03:04.000, 4.0 s ago: moved from podA to 192.168.50.20, 3 times, the last by arp
      who-has 10.1.1.20 tell 10.1.1.10
  12:03:04.000, 4.0 s ago: flushed at podA: tapswitch fdb flush

5 news of addresses were lost under load and may be missing here
"
        );
    }
}
