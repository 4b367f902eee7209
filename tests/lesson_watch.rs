//! What a lesson sees of frames: the same of the kernel's bridge and of this switch.

mod common;
#[path = "lesson_watch/world.rs"]
mod world;

use std::process::ExitCode;

use tapswitch::lesson::watch::{Fate, Seen};

use crate::world::{One, System, Two};

fn main() -> ExitCode {
    common::main(|env| {
        let needs = &["ip", "ping"];
        vec![
            env.trial_with(
                needs,
                "a ping gives the same story on the kernel and on tapswitch",
                a_ping_gives_the_same_story_on_both,
            ),
            env.trial_with(
                needs,
                "a ping over vxlan gives the same story on the kernel and on tapswitch",
                a_ping_over_vxlan_gives_the_same_story_on_both,
            ),
            env.trial_with(
                needs,
                "a frame for nobody is dropped on both",
                a_frame_for_nobody_is_dropped_on_both,
            ),
        ]
    })
}

/// All of a story that does not depend on who switches.
fn told(seen: &[Seen]) -> Vec<String> {
    let lines = seen.iter().map(|frame| {
        let Seen {
            node,
            place,
            text,
            fate,
            ..
        } = frame;
        let mut line = format!("{node}:{place}: {text} -> {fate} to {:?}", frame.reached());
        if let Some(class) = &frame.class {
            line += &format!(", {class}");
        }
        if let Some(learned) = &frame.learned {
            line += &format!(", learned {} ({:?})", learned.mac, learned.change);
        }
        if let Some(row) = &frame.row {
            line += &format!(", {} is at {}", row.mac, row.at);
        }
        if let Some(datagram) = &frame.datagram {
            line += &format!(", in {} bytes of VNI {}", datagram.len, datagram.vni);
        }
        for datagram in frame
            .copies
            .iter()
            .filter_map(|copy| copy.datagram.as_ref())
        {
            line += &format!(", as {} bytes of VNI {}", datagram.len, datagram.vni);
        }
        line
    });
    lines.collect()
}

fn a_ping_gives_the_same_story_on_both() {
    let stories = System::BOTH.map(|system| {
        let world = One::build(system);
        let watch = world.watch();
        world.ping("podA", 2);
        let seen = watch.end().unwrap();
        assert!(seen.iter().all(|frame| frame.bytes.len() == frame.len));
        told(&seen)
    });

    assert_eq!(stories[0], stories[1]);
    let expected = [
        "host:podA: arp who-has 10.1.1.2 tell 10.1.1.1 -> flooded to [\"br0\", \"podB\", \"podC\"], \
         broadcast, learned 02:00:00:00:00:01 (New)",
        "host:podB: arp 10.1.1.2 is-at 02:00:00:00:00:02 -> forwarded to [\"podA\"], learned \
         02:00:00:00:00:02 (New), 02:00:00:00:00:01 is at podA",
        "host:podA: icmp 10.1.1.1 > 10.1.1.2 echo request 1 -> forwarded to [\"podB\"], \
         02:00:00:00:00:02 is at podB",
        "host:podB: icmp 10.1.1.2 > 10.1.1.1 echo reply 1 -> forwarded to [\"podA\"], \
         02:00:00:00:00:01 is at podA",
    ];
    assert_eq!(stories[0], expected);
}

fn a_ping_over_vxlan_gives_the_same_story_on_both() {
    let stories = System::BOTH.map(|system| {
        let world = Two::build(system);
        let watch = world.watch();
        world.ping();
        told(&watch.end().unwrap())
    });

    assert_eq!(stories[0], stories[1]);
    let expected = [
        "node1:podA: arp who-has 10.1.1.2 tell 10.1.1.1 -> flooded to [\"192.168.50.20\"], \
         broadcast, learned 02:00:00:00:00:01 (New), as 92 bytes of VNI 42",
        "node2:192.168.50.10: arp who-has 10.1.1.2 tell 10.1.1.1 -> flooded to [\"podB\"], \
         broadcast, learned 02:00:00:00:00:01 (New), in 92 bytes of VNI 42",
        "node2:podB: arp 10.1.1.2 is-at 02:00:00:00:00:02 -> forwarded to [\"192.168.50.10\"], \
         learned 02:00:00:00:00:02 (New), 02:00:00:00:00:01 is at 192.168.50.10, as 92 bytes of \
         VNI 42",
        "node1:192.168.50.20: arp 10.1.1.2 is-at 02:00:00:00:00:02 -> forwarded to [\"podA\"], \
         learned 02:00:00:00:00:02 (New), 02:00:00:00:00:01 is at podA, in 92 bytes of VNI 42",
        "node1:podA: icmp 10.1.1.1 > 10.1.1.2 echo request 1 -> forwarded to [\"192.168.50.20\"], \
         02:00:00:00:00:02 is at 192.168.50.20, as 148 bytes of VNI 42",
        "node2:192.168.50.10: icmp 10.1.1.1 > 10.1.1.2 echo request 1 -> forwarded to [\"podB\"], \
         02:00:00:00:00:02 is at podB, in 148 bytes of VNI 42",
        "node2:podB: icmp 10.1.1.2 > 10.1.1.1 echo reply 1 -> forwarded to [\"192.168.50.10\"], \
         02:00:00:00:00:01 is at 192.168.50.10, as 148 bytes of VNI 42",
        "node1:192.168.50.20: icmp 10.1.1.2 > 10.1.1.1 echo reply 1 -> forwarded to [\"podA\"], \
         02:00:00:00:00:01 is at podA, in 148 bytes of VNI 42",
    ];
    assert_eq!(stories[0], expected);
}

fn a_frame_for_nobody_is_dropped_on_both() {
    for system in System::BOTH {
        let world = One::build(system);
        world.ping("podA", 2);
        let watch = world.watch();
        // To its own address, from which it comes: it is behind the port that it came from.
        world.send("podA", "02:00:00:00:00:01");
        let seen = watch.end().unwrap();
        let lost: Vec<_> = seen
            .iter()
            .filter(|frame| frame.fate == Fate::Dropped)
            .collect();
        assert_eq!(lost.len(), 1, "{system:?}: {seen:#?}");
        assert!(lost[0].copies.is_empty());
        assert_eq!(lost[0].row.as_ref().unwrap().at, "podA");
        let reason = match system {
            System::Tapswitch => Some("same_port"),
            System::Kernel => None,
        };
        assert_eq!(lost[0].reason.as_deref(), reason);
    }
}
