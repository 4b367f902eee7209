use super::*;
use crate::sim::frames;

const BRIDGE: u32 = 10;
const TUNNEL: u32 = 4;
const ETH0: u32 = 5;

fn link(index: u32, name: &str, kind: BridgeLinkKind, master: Option<u32>) -> BridgeLink {
    BridgeLink {
        index,
        name: name.to_owned(),
        mac: None,
        kind,
        master,
        is_up: true,
        mtu: 1500,
        vxlan_port: (kind == BridgeLinkKind::Vxlan).then_some(4789),
        has_address: false,
    }
}

/// A bridge with `pods` ports, whose indices count from 1, and an underlay.
fn devices(pods: u32, tunnel: Option<Option<u32>>) -> Devices {
    let mut links = vec![
        link(BRIDGE, "br0", BridgeLinkKind::Bridge, None),
        link(ETH0, "eth0", BridgeLinkKind::Other, None),
    ];
    for pod in 1..=pods {
        let name = ["podA", "podB", "podC"][pod as usize - 1];
        links.push(link(pod, name, BridgeLinkKind::Other, Some(BRIDGE)));
    }
    if let Some(master) = tunnel {
        links.push(link(TUNNEL, "vxlan42", BridgeLinkKind::Vxlan, master));
    }
    let mut devices = Devices::default();
    devices.update(&links);
    devices
}

fn sniffed(micros: u64, index: u32, is_out: bool, bytes: &[u8]) -> Sniffed {
    Sniffed {
        at: Timestamp::from_nanos(micros * 1_000),
        index,
        kind: if is_out {
            PacketKind::Outgoing
        } else {
            PacketKind::Other
        },
        bytes: bytes.to_vec(),
        is_unfinished: false,
    }
}

/// `inner` in a datagram between 10.0.0.`from` and 10.0.0.`to`.
fn wrapped(from: u8, to: u8, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    bytes.extend([
        8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to,
    ]);
    bytes.extend([0xc3, 0x50, 0x12, 0xb5, 0, 0, 0, 0]);
    bytes.extend([8, 0, 0, 0, 0, 0, 42, 0]);
    bytes.extend(inner);
    bytes
}

fn told(seen: &[Seen]) -> Vec<String> {
    let lines = seen.iter().map(|frame| {
        let class = frame.class.as_deref().unwrap_or("-");
        format!(
            "{} {} {:?} {class}",
            frame.place,
            frame.fate,
            frame.reached()
        )
    });
    lines.collect()
}

#[test]
fn an_unknown_destination_is_flooded_even_if_there_is_only_one_other_port() {
    let frame = frames::unicast(frames::mac(1), frames::mac(2));
    let pass = [sniffed(0, 1, false, &frame), sniffed(1, 2, true, &frame)];
    let unknown = join("host", &devices(2, None), &[], &pass);
    assert_eq!(told(&unknown), ["podA flooded [\"podB\"] unknown unicast"]);

    let row = BridgeRow {
        mac: frames::mac(2),
        index: 2,
    };
    let known = join("host", &devices(2, None), &[row], &pass);
    assert_eq!(told(&known), ["podA forwarded [\"podB\"] -"]);

    // With a third port, one copy means that it was known.
    let known = join("host", &devices(3, None), &[], &pass);
    assert_eq!(told(&known), ["podA forwarded [\"podB\"] -"]);
}

#[test]
fn equal_frames_keep_their_own_copies() {
    let frame = frames::broadcast(frames::mac(1));
    let mut all = Vec::new();
    for round in 0..3 {
        all.push(sniffed(round * 10, 1, false, &frame));
        if round != 1 {
            all.push(sniffed(round * 10 + 1, 2, true, &frame));
        }
    }
    let seen = join("host", &devices(2, None), &[], &all);
    let copies: Vec<usize> = seen.iter().map(|frame| frame.copies.len()).collect();
    assert_eq!(copies, [1, 0, 1]);
    assert_eq!(seen[1].fate, Fate::Dropped);
}

#[test]
fn what_nobody_sent_is_the_switchs_own() {
    let answer = frames::unicast(frames::mac(2), frames::mac(1));
    let tunnel = devices(1, Some(Some(BRIDGE)));
    // The device takes in what came in no datagram: it made it.
    let seen = join(
        "host",
        &tunnel,
        &[],
        &[
            sniffed(0, TUNNEL, false, &answer),
            sniffed(1, 1, true, &answer),
        ],
    );
    assert_eq!(told(&seen), ["switch forwarded [\"podA\"] -"]);
    assert_eq!(seen[0].learned, None);

    let seen = join("host", &tunnel, &[], &[sniffed(1, 1, true, &answer)]);
    assert_eq!(told(&seen), ["switch forwarded [\"podA\"] -"]);
}

#[test]
fn a_copy_for_each_remote_vtep_is_a_datagram_of_its_own_however_late() {
    let frame = frames::broadcast(frames::mac(1));
    let other = frames::broadcast(frames::mac(3));
    let all = [
        sniffed(0, 1, false, &frame),
        sniffed(1, TUNNEL, true, &frame),
        sniffed(2, 1, false, &other),
        sniffed(3, TUNNEL, true, &other),
        // The underlay had to ask for the remote's MAC address first.
        sniffed(9, ETH0, true, &wrapped(1, 2, &frame)),
        sniffed(10, ETH0, true, &wrapped(1, 3, &frame)),
    ];
    let seen = join("host", &devices(1, Some(Some(BRIDGE))), &[], &all);
    assert_eq!(
        told(&seen),
        [
            "podA flooded [\"10.0.0.2\", \"10.0.0.3\"] broadcast",
            "podA dropped [] -"
        ]
    );
    let lost = seen[1].copies[0].lost.as_deref();
    assert_eq!(
        (seen[1].copies[0].to.as_str(), lost),
        ("vxlan42", Some(NOT_SEEN))
    );
}

#[test]
fn a_tunnel_without_a_bridge_is_the_hosts_own() {
    let out = frames::unicast(frames::mac(1), frames::mac(2));
    let back = frames::unicast(frames::mac(2), frames::mac(1));
    let all = [
        sniffed(0, TUNNEL, true, &out),
        sniffed(1, ETH0, true, &wrapped(1, 2, &out)),
        sniffed(5, ETH0, false, &wrapped(2, 1, &back)),
        sniffed(6, TUNNEL, false, &back),
    ];
    let row = BridgeRow {
        mac: frames::mac(2),
        index: TUNNEL,
    };
    let seen = join("host", &devices(0, Some(None)), &[row], &all);
    assert_eq!(
        told(&seen),
        [
            "vxlan42 forwarded [\"10.0.0.2\"] -",
            "10.0.0.2 forwarded [\"vxlan42\"] -"
        ]
    );
    assert!(seen[0].learned.is_none());
    assert_eq!(seen[1].datagram.as_ref().unwrap().vni, 42);
}

#[test]
fn a_bridge_without_an_address_is_nobodys_place() {
    let frame = frames::broadcast(frames::mac(1));
    let all = [
        sniffed(0, 1, false, &frame),
        sniffed(1, 2, true, &frame),
        sniffed(2, BRIDGE, false, &frame),
    ];
    let mut devices = devices(2, None);
    let seen = join("host", &devices, &[], &all);
    assert_eq!(told(&seen), ["podA flooded [\"podB\"] broadcast"]);

    let mut host = link(BRIDGE, "br0", BridgeLinkKind::Bridge, None);
    host.has_address = true;
    devices.update(&[host]);
    let seen = join("host", &devices, &[], &all);
    assert_eq!(told(&seen), ["podA flooded [\"br0\", \"podB\"] broadcast"]);
}
