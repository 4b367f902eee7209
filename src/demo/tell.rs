//! What the demo says.

use std::io::{self, Write};

use super::{HEADERS, PINGS, PODS, Place, Play, SHORT, VTEPS};
use crate::{
    control::api::MtuChain,
    sim::{Scene, Sentence},
    time::Timestamp,
    wire::MacAddr,
};

pub(super) fn play(play: &Play, out: &mut impl Write) -> io::Result<()> {
    out.write_all(PICTURE.as_bytes())?;
    out.write_all(SETTING.as_bytes())?;
    pings(play, out)?;
    story(&play.story, out)?;
    known(&play.known, out)?;
    mtu(play, out)?;
    writeln!(
        out,
        "\nThe two switches took {} frames in; unaccounted for: {}.",
        play.frames, play.unaccounted
    )
}

pub(super) const PICTURE: &str = r"   podA 192.0.2.1    podB 192.0.2.2         podC 192.0.2.3    podD 192.0.2.4
     |                 |                      |                 |
  +--+-----------------+--+                +--+-----------------+--+
  | node 1: switch, VTEP  |                | node 2: switch, VTEP  |
  +-----------+-----------+                +-----------+-----------+
              | 198.51.100.1              198.51.100.2 |
              +---------------- a cable ---------------+
";

const SETTING: &str = "
For the pods it is one network. The VTEPs (VXLAN tunnel endpoints) make it one: each puts whole
frames for the other side into UDP datagrams to port 4789, marked as network (VNI) 42.

";

fn pings(play: &Play, out: &mut impl Write) -> io::Result<()> {
    for (&(from, to, len), trip) in PINGS.iter().zip(&play.trips) {
        let [from, to] = [from, to].map(|pod| &PODS[pod]);
        let place = match from.node == to.node {
            true => "on the same node",
            false => "on the other node",
        };
        let size = match len {
            SHORT => String::new(),
            len => format!(" with a packet of {} bytes", len + HEADERS),
        };
        writeln!(
            out,
            "{} pings {} {place}{size}: reply after {} us",
            from.name,
            to.name,
            trip.as_micros()
        )?;
    }
    Ok(())
}

fn story(story: &[Scene], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\nThe life of the first ping. podA knows podC's IP address but not its MAC address, so it asks\n\
         everybody (ARP):\n"
    )?;
    let start = story.first().map_or(Timestamp::ZERO, Scene::at);
    for (index, scene) in story.iter().enumerate() {
        let micros = scene.at().nanos_since(start) / 1_000;
        write!(out, " {:>2}. {:>5} us  ", index + 1, format!("+{micros}"))?;
        match scene {
            Scene::Switched { node, sentence } => {
                let Sentence {
                    ingress,
                    frame,
                    len,
                    fate,
                    ..
                } = sentence;
                let node = node + 1;
                writeln!(out, "node {node}, from {ingress}: {frame}, {len} bytes")?;
                write!(out, "               {fate}")?;
                match &sentence.lesson {
                    Some(lesson) => writeln!(out, "; {lesson}")?,
                    None => writeln!(out)?,
                }
            }
            Scene::Crossed(crossing) => {
                let from = VTEPS.iter().position(|&vtep| crossing.from == vtep);
                let (from, to) = match from {
                    Some(0) => (1, 2),
                    _ => (2, 1),
                };
                let len = crossing.len;
                writeln!(out, "cable: from node {from} to node {to} in {len} bytes")?;
            }
        }
    }
    match overhead(story) {
        Some(bytes) => writeln!(
            out,
            "\nOn the cable each frame is {bytes} bytes longer: Ethernet 14, IPv4 20, UDP 8, VXLAN 8 in front of \
             it.\nWhat came over the cable is for pods only: no VTEP passes it on to a VTEP."
        ),
        None => Ok(()),
    }
}

/// By how much all datagrams are longer than the frames in them.
fn overhead(story: &[Scene]) -> Option<usize> {
    let mut all = story.windows(2).filter_map(|two| match two {
        [Scene::Switched { sentence, .. }, Scene::Crossed(crossing)] => {
            crossing.len.checked_sub(sentence.len)
        }
        _ => None,
    });
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

fn known(rows: &[(MacAddr, [Option<Place>; 2])], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\nWhat the switches have learned by then (their FDBs, forwarding databases):\n"
    )?;
    let heads = ["node 1 has it behind", "node 2 has it behind"];
    writeln!(out, "  {:<28}{:<24}{}", "address", heads[0], heads[1])?;
    for (mac, places) in rows {
        let number = usize::from(mac.octets()[5]);
        let name = number.checked_sub(1).and_then(|index| PODS.get(index));
        let name = name.map_or("", |pod| pod.name);
        let [first, second] = places.each_ref().map(|place| match place {
            Some(Place::Port(port)) => format!("port {port}"),
            Some(Place::Vtep(ip)) => format!("VTEP {ip}"),
            None => "(never heard)".to_owned(),
        });
        writeln!(out, "  {mac} ({name})    {first:<24}{second}")?;
    }
    Ok(())
}

fn mtu(play: &Play, out: &mut impl Write) -> io::Result<()> {
    let MtuChain {
        path_mtu,
        less,
        mtu,
        ..
    } = &play.chain;
    let less: Vec<_> = less
        .iter()
        .map(|(layer, bytes)| format!("{bytes} ({layer})"))
        .collect();
    writeln!(
        out,
        "\nThe pods' MTU is {mtu}, so that what they send fits the packets of {path_mtu} bytes on the cable:\n\
         {path_mtu} - {}.\n\
         The longest frame there had {} bytes, its own Ethernet header included.",
        less.join(" - "),
        play.longest
    )
}
