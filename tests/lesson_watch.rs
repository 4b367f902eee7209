//! What a lesson sees of frames: the same of the kernel's bridge and of this switch.

mod common;
#[path = "lesson_watch/world.rs"]
mod world;

use std::process::ExitCode;

use tapswitch::lesson::watch::{Fate, Seen, pcapng};

use crate::{
    common::{command, succeeded},
    world::{One, System, Two},
};

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
            env.trial_with(
                needs,
                "of bulk tcp no frame goes astray on either",
                of_bulk_tcp_no_frame_goes_astray_on_either,
            ),
            env.trial_with(
                &["ip", "ping", "tshark"],
                "tshark reads all frames with their places and fates",
                tshark_reads_all_frames_with_their_places_and_fates,
            ),
        ]
    })
}

/// All of a story that does not depend on who switches.
fn told(seen: &[Seen]) -> Vec<String> {
    let seen = seen.iter().filter(|frame| !frame.is_noise());
    let lines = seen.map(|frame| {
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

fn of_bulk_tcp_no_frame_goes_astray_on_either() {
    for system in System::BOTH {
        let world = Two::build(system);
        let watch = world.watch();
        world.send(300_000);
        let seen = watch.end().unwrap();
        let tcp: Vec<_> = seen
            .iter()
            .filter(|frame| frame.text.starts_with("tcp "))
            .collect();
        for frame in &tcp {
            let to = match (frame.node.as_str(), frame.place.as_str()) {
                ("node1", "podA") => "192.168.50.20",
                ("node2", "podB") => "192.168.50.10",
                ("node1", "192.168.50.20") => "podA",
                ("node2", "192.168.50.10") => "podB",
                other => panic!(
                    "{system:?}: {other:?} has no business there: {}",
                    frame.text
                ),
            };
            if frame.reason.as_deref() == Some("standing_queue") {
                // It is told to slow down, and sends this again.
                continue;
            }
            let fate = (frame.fate, frame.reason.as_deref());
            assert_eq!(fate, (Fate::Forwarded, None), "{system:?}: {}", frame.text);
            assert_eq!(frame.reached(), [to], "{system:?}: {}", frame.text);
            let is_tunnelled = frame.place.starts_with("pod");
            assert!(
                is_tunnelled || frame.datagram.is_some(),
                "{system:?}: {}",
                frame.text
            );
        }
        let supers = tcp.iter().filter(|frame| frame.is_superframe()).count();
        assert!(supers > 0, "{system:?}: none of {} frames", tcp.len());
    }
}

fn tshark_reads_all_frames_with_their_places_and_fates() {
    for system in System::BOTH {
        let world = Two::build(system);
        let watch = world.watch();
        world.ping();
        let file = "/run/lesson.pcapng";
        std::fs::write(file, pcapng(&watch.end().unwrap())).unwrap();

        let fields = [
            "frame.interface_name",
            "frame.packet_flags_direction",
            "vxlan.vni",
            "icmp.type",
            "frame.comment",
        ];
        let mut tshark = command("tshark");
        tshark.args([
            "-r",
            file,
            "-Y",
            "icmp",
            "-T",
            "fields",
            "-E",
            "separator=|",
        ]);
        for field in fields {
            tshark.args(["-e", field]);
        }
        let text = succeeded("tshark", tshark.output());
        let packets: Vec<&str> = text.lines().collect();

        // Each of both goes through a port, a tunnel, out of it and through a port.
        assert_eq!(packets.len(), 12, "{system:?}: {text}");
        let to_tunnel = "node1/podA|0x00000001||8|forwarded to 192.168.50.20";
        assert!(packets[0].starts_with(to_tunnel), "{system:?}: {text}");
        let expected = [
            "node1/192.168.50.20/outer|0x00000002|42|8|VNI 42; from podA",
            "node1/192.168.50.20|0x00000002||8|from podA",
        ];
        for line in expected {
            assert!(packets.contains(&line), "{system:?}: no {line} in {text}");
        }
        let inbound = packets
            .iter()
            .filter(|line| line.starts_with("node2/192.168.50.10/outer|0x00000001|42|8|VNI 42: "));
        assert_eq!(inbound.count(), 1, "{system:?}: {text}");
    }
}
