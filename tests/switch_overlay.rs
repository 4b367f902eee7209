//! Bridges that span machines: two and more labs on one underlay in memory.

use std::{net::SocketAddr, slice, sync::Arc};

use tapswitch::{
    bridge::{DropReason, Egress, FdbKey, PeerId, PortId},
    config::Mode,
    datapath::Departure,
    offload::Offloads,
    sim::{Lab, MemMessage, MemNet, MemPort, MemUnderlay, frames},
    vxlan::{
        self,
        ping::{Kind, Probe},
    },
    wire::{EtherType, Vni, checksum},
};

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4789))
}

/// A switch with two ports, on the overlay as VNI 42.
struct Node {
    lab: Lab,
    ports: [PortId; 2],
    io: Arc<MemUnderlay>,
}

impl Node {
    fn new(net: &MemNet, host: u8) -> Self {
        let (mut lab, ports) = Lab::switch(["podA", "podB"]);
        let io = net.attach(at(host));
        lab.add_vtep(Arc::clone(&io));
        lab.set_vni(0, vni(42));
        Self { lab, ports, io }
    }

    fn send(&mut self, port: usize, frame: &[u8]) {
        self.lab.send(self.ports[port], frame);
        self.lab.run();
    }

    fn received(&mut self, port: usize) -> Vec<Vec<u8>> {
        self.lab.received(self.ports[port])
    }

    /// Datagrams that left for where nobody is.
    fn strays(&self) -> Vec<MemMessage> {
        std::iter::from_fn(|| self.io.take_stray()).collect()
    }

    /// Hears what `from` sends in VNI `number`.
    fn hear(&mut self, from: SocketAddr, number: u32, frame: &[u8]) {
        let bytes = [&vxlan::header(vni(number))[..], frame].concat();
        self.hear_bytes(from, bytes, None);
    }

    fn hear_bytes(&mut self, from: SocketAddr, bytes: Vec<u8>, segment: Option<u16>) {
        self.inject_bytes(from, bytes, segment);
        self.lab.run();
    }

    fn inject(&mut self, from: SocketAddr, number: u32, frame: &[u8]) {
        let bytes = [&vxlan::header(vni(number))[..], frame].concat();
        self.inject_bytes(from, bytes, None);
    }

    fn inject_bytes(&mut self, from: SocketAddr, bytes: Vec<u8>, segment: Option<u16>) {
        let departure = Departure {
            to: self.io.local(),
            flow: 0,
            tos: 0,
            segment,
        };
        self.io.inject(MemMessage {
            from,
            departure,
            bytes,
        });
    }

    fn remote(&self, last: u8) -> Option<PeerId> {
        let entry = self
            .lab
            .fdb()
            .get(FdbKey::new(frames::mac(last.into()), 0))?;
        entry.egress.peer()
    }
}

/// Nodes 1 and 2, each the other's peer.
fn pair() -> (Node, Node, [PeerId; 2]) {
    let net = MemNet::new();
    let (mut one, mut two) = (Node::new(&net, 1), Node::new(&net, 2));
    let peers = [one.lab.add_peer(0, at(2)), two.lab.add_peer(0, at(1))];
    (one, two, peers)
}

fn assert_accounted(nodes: &[&Node]) {
    nodes.iter().for_each(|node| node.lab.assert_accounted());
}

#[test]
fn arp_and_its_answer_cross_the_overlay_and_teach_both_sides() {
    let (mut one, mut two, [to_two, to_one]) = pair();

    let request = frames::arp_request(1, 2);
    one.send(0, &request);
    two.lab.run();
    assert_eq!(one.received(1), slice::from_ref(&request));
    assert_eq!(two.received(0), slice::from_ref(&request));
    assert_eq!(two.received(1), [request]);
    assert_eq!(two.remote(1), Some(to_one));

    let reply = frames::arp_reply(2, 1);
    two.send(0, &reply);
    one.lab.run();
    assert_eq!(one.received(0), [reply]);
    assert!(one.received(1).is_empty() && two.received(1).is_empty());
    assert_eq!(one.remote(2), Some(to_two));
    assert_accounted(&[&one, &two]);
}

#[test]
fn what_is_flooded_goes_once_to_each_peer_and_from_none_to_another() {
    let mut node = Node::new(&MemNet::new(), 1);
    let peers: Vec<_> = (2..12).map(|host| node.lab.add_peer(0, at(host))).collect();

    node.send(0, &frames::broadcast(frames::mac(1)));
    let mut targets: Vec<_> = node.strays().iter().map(|m| m.departure.to).collect();
    targets.sort();
    assert_eq!(targets, (2..12).map(at).collect::<Vec<_>>());

    let from_afar = frames::broadcast(frames::mac(9));
    node.hear(at(2), 42, &from_afar);
    assert_eq!(node.strays(), []);
    assert_eq!(node.received(0), slice::from_ref(&from_afar));
    assert_eq!(node.received(1).pop(), Some(from_afar));

    // Known behind another peer: that one has had its own copy.
    node.hear(at(3), 42, &frames::unicast(frames::mac(8), frames::mac(9)));
    assert_eq!(node.strays(), []);
    let totals = node.lab.peer_totals(peers[1]);
    assert_eq!(totals.drops(DropReason::SplitHorizon), 1);
    assert_accounted(&[&node]);
}

#[test]
fn a_station_that_moves_to_another_peer_is_followed_at_once() {
    let mut node = Node::new(&MemNet::new(), 1);
    let [second, third] = [2, 3].map(|host| node.lab.add_peer(0, at(host)));

    node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));
    assert_eq!(node.remote(9), Some(second));
    node.hear(at(3), 42, &frames::broadcast(frames::mac(9)));
    assert_eq!(node.remote(9), Some(third));

    node.send(0, &frames::unicast(frames::mac(1), frames::mac(9)));
    let targets: Vec<_> = node.strays().iter().map(|m| m.departure.to).collect();
    assert_eq!(targets, [at(3)]);
    assert_accounted(&[&node]);
}

#[test]
fn answers_go_to_the_port_of_the_peer_not_to_the_source_port() {
    let mut node = Node::new(&MemNet::new(), 1);
    let elsewhere = SocketAddr::from(([192, 0, 2, 2], 8472));
    node.lab.add_peer(0, elsewhere);

    let from = SocketAddr::from(([192, 0, 2, 2], 12345));
    node.hear(from, 42, &frames::broadcast(frames::mac(9)));
    node.send(0, &frames::unicast(frames::mac(1), frames::mac(9)));

    let targets: Vec<_> = node.strays().iter().map(|m| m.departure.to).collect();
    assert_eq!(targets, [elsewhere]);
}

#[test]
fn vnis_never_leak_into_each_other() {
    let mut node = Node::new(&MemNet::new(), 1);
    let blue = node.lab.add_bridge(Lab::spec("blue"));
    let pod = node.lab.add_port(blue, "podC");
    node.lab.set_vni(blue, vni(43));
    let red_peer = node.lab.add_peer(0, at(2));
    let blue_peer = node.lab.add_peer(blue, at(2));

    let frame = frames::broadcast(frames::mac(9));
    node.hear(at(2), 43, &frame);
    assert_eq!(node.lab.received(pod), slice::from_ref(&frame));
    assert!(node.received(0).is_empty() && node.received(1).is_empty());

    node.hear(at(2), 42, &frame);
    assert!(node.lab.received(pod).is_empty());
    // One address, two entries.
    let key = FdbKey::new(frames::mac(9), 0);
    let of = |bridge| node.lab.fdb_of(bridge).get(key).map(|entry| entry.egress);
    assert_eq!(of(0), Some(Egress::Peer(red_peer)));
    assert_eq!(of(blue), Some(Egress::Peer(blue_peer)));
    assert_accounted(&[&node]);
}

#[test]
fn datagrams_that_belong_to_nobody_are_counted_and_teach_nothing() {
    let mut node = Node::new(&MemNet::new(), 1);
    node.lab.add_peer(0, at(2));
    let frame = frames::broadcast(frames::mac(9));
    let header = vxlan::header(vni(42));
    let whole = [&header[..], &frame].concat();

    node.hear(at(2), 7, &frame);
    node.hear(at(9), 42, &frame);
    node.hear(at(1), 42, &frame);
    for len in 0..8 {
        node.hear_bytes(at(2), whole[..len].to_vec(), None);
    }
    let mut no_vni = whole.clone();
    no_vni[0] = 0xf7;
    node.hear_bytes(at(2), no_vni, None);

    let totals = node.lab.vtep_totals();
    let drops = |reason| totals.drops(reason);
    assert_eq!(drops(DropReason::UnknownVni), 1);
    assert_eq!(drops(DropReason::UnknownPeer), 1);
    assert_eq!(drops(DropReason::OwnPacket), 1);
    assert_eq!(drops(DropReason::VxlanRunt), 8);
    assert_eq!(drops(DropReason::NoVni), 1);
    assert!(node.received(0).is_empty());
    assert!(node.lab.fdb().is_empty());
    // Nothing is ever answered.
    assert_eq!(node.strays(), []);
    assert_accounted(&[&node]);
}

#[test]
fn inner_frames_of_any_length_are_delivered_or_dropped() {
    let mut node = Node::new(&MemNet::new(), 1);
    let peer = node.lab.add_peer(0, at(2));
    let frame = frames::broadcast(frames::mac(9));
    for len in 0..=frame.len() {
        node.hear(at(2), 42, &frame[..len]);
        let delivered = node.received(0);
        assert_eq!(delivered.len(), usize::from(len >= 14), "{len} bytes");
    }
    assert_eq!(node.lab.peer_totals(peer).drops(DropReason::Truncated), 14);
    assert_accounted(&[&node]);
}

#[test]
fn reserved_bits_are_counted_and_only_a_strict_endpoint_drops() {
    let mut node = Node::new(&MemNet::new(), 1);
    let peer = node.lab.add_peer(0, at(2));
    let frame = frames::broadcast(frames::mac(9));
    let clean = [&vxlan::header(vni(42))[..], &frame].concat();
    // All bits of the header but the I flag and the VNI.
    let reserved: Vec<usize> = (0..64)
        .filter(|bit| *bit != 4 && !(32..56).contains(bit))
        .collect();
    assert_eq!(reserved.len(), 39);
    for strict in [false, true] {
        node.lab.set_vtep(|vtep| vtep.is_strict = strict);
        for bit in &reserved {
            let mut mangled = clean.clone();
            mangled[bit / 8] ^= 0x80 >> (bit % 8);
            node.hear_bytes(at(2), mangled, None);
        }
        assert_eq!(node.received(0).len(), if strict { 0 } else { 39 });
    }
    assert_eq!(node.lab.peer_totals(peer).reserved_bits, 39);
    assert_eq!(node.lab.vtep_totals().drops(DropReason::ReservedBits), 39);
    assert_accounted(&[&node]);
}

#[test]
fn a_broken_datagram_in_a_joined_message_costs_only_itself() {
    let other_vni = 0xff_0000_u32;
    for broken in 0..64 {
        let mut node = Node::new(&MemNet::new(), 1);
        node.lab.add_peer(0, at(2));
        let mut bytes = Vec::new();
        for number in 0..64_u8 {
            let vni = vni(if number == broken { other_vni } else { 42 });
            bytes.extend(vxlan::header(vni));
            bytes.extend(frames::udp4(9, 1, &[number; 100]));
        }
        let size = u16::try_from(bytes.len() / 64).unwrap();
        node.hear_bytes(at(2), bytes, Some(size));
        let numbers: Vec<u8> = node
            .received(0)
            .iter()
            .map(|f| *f.last().unwrap())
            .collect();
        let expected: Vec<u8> = (0..64).filter(|number| *number != broken).collect();
        assert_eq!(numbers, expected);
        assert_eq!(node.lab.vtep_totals().drops(DropReason::UnknownVni), 1);
        assert_accounted(&[&node]);
    }
}

#[test]
fn a_static_entry_behind_a_peer_needs_no_flooding_and_cannot_be_moved_from_afar() {
    let mut node = Node::new(&MemNet::new(), 1);
    let second = node.lab.add_peer_with(0, at(2), false);
    node.lab.add_peer_with(0, at(3), false);
    node.lab.pin_remote(frames::mac(9), second);

    node.send(0, &frames::unicast(frames::mac(1), frames::mac(9)));
    node.send(0, &frames::unicast(frames::mac(1), frames::mac(8)));
    node.send(0, &frames::broadcast(frames::mac(1)));
    let targets: Vec<_> = node.strays().iter().map(|m| m.departure.to).collect();
    assert_eq!(targets, [at(2)]);
    node.received(1);

    node.hear(at(3), 42, &frames::broadcast(frames::mac(9)));
    assert!(node.received(0).is_empty());
    assert_eq!(node.remote(9), Some(second));
    assert_eq!(node.lab.drops(DropReason::PinnedSource), 1);

    node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));
    assert_eq!(node.received(0).len(), 1);
    assert_accounted(&[&node]);
}

#[test]
fn a_bridge_that_does_not_learn_from_peers_floods_what_is_behind_them() {
    let mut node = Node::new(&MemNet::new(), 1);
    node.lab.add_peer(0, at(2));
    node.lab.set_peer_learning(0, false);

    node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));
    assert_eq!(node.received(0).len(), 1);
    assert_eq!(node.remote(9), None);
    // Not even what is pinned here can be claimed from afar.
    node.lab.pin(frames::mac(1), node.ports[0]);
    node.hear(at(2), 42, &frames::broadcast(frames::mac(1)));
    assert!(node.received(1).len() == 1, "only the first");
    assert_eq!(node.lab.drops(DropReason::PinnedSource), 1);
    assert_accounted(&[&node]);
}

#[test]
fn a_removed_peer_takes_its_addresses_along() {
    let mut node = Node::new(&MemNet::new(), 1);
    let peer = node.lab.add_peer(0, at(2));
    node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));
    assert_eq!(node.remote(9), Some(peer));

    node.lab.remove_peer(peer);
    assert_eq!(node.remote(9), None);
    node.send(0, &frames::broadcast(frames::mac(1)));
    assert_eq!(node.strays(), []);
    assert_accounted(&[&node]);
}

#[test]
fn strangers_are_heard_where_anybody_may_send_but_teach_nothing() {
    let mut node = Node::new(&MemNet::new(), 1);
    node.lab.set_vtep(|vtep| vtep.accepts_any = true);
    node.hear(at(9), 42, &frames::broadcast(frames::mac(9)));
    assert_eq!(node.received(0).len(), 1);
    assert!(node.lab.fdb().is_empty());
    assert_accounted(&[&node]);
}

#[test]
fn a_frame_that_does_not_fit_is_dropped_and_its_sender_told_what_does() {
    let mut node = Node::new(&MemNet::new(), 1);
    let peer = node.lab.add_peer(0, at(2));
    node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));
    node.received(0);
    node.received(1);

    // 1500 of the path less 50 for the overlay.
    let fits = frames::udp4(1, 9, &vec![0; 1450 - 28]);
    node.send(0, &with_df(fits.clone()));
    assert_eq!(node.strays().len(), 1);
    assert!(node.received(0).is_empty());

    let one_more = frames::udp4(1, 9, &vec![0; 1450 - 27]);
    node.send(0, &with_df(one_more));
    assert_eq!(node.strays(), []);
    assert_eq!(node.lab.peer_totals(peer).drops(DropReason::TooBig), 1);
    let told = node.received(0);
    assert_eq!(told.len(), 1);
    // ICMP type 3 code 4, and the MTU of the next hop (RFC 1191 section 4).
    assert_eq!(told[0][34..36], [3, 4]);
    assert_eq!(told[0][40..42], 1450_u16.to_be_bytes());

    // A narrower path is told too, and a wider one lets more pass.
    node.lab.path(peer).set(1400);
    node.send(0, &with_df(fits.clone()));
    let told = node.received(0);
    assert_eq!(told[0][40..42], 1350_u16.to_be_bytes());
    node.lab.path(peer).set(1500);
    node.send(0, &with_df(fits));
    assert_eq!(node.strays().len(), 1);
    assert_accounted(&[&node]);
}

#[test]
fn answers_to_what_does_not_fit_are_few() {
    let mut node = Node::new(&MemNet::new(), 1);
    node.lab.add_peer(0, at(2));
    node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));
    node.received(0);
    let too_big = with_df(frames::udp4(1, 9, &vec![0; 1473]));
    for _ in 0..1000 {
        node.send(0, &too_big);
    }
    let told = node.received(0).len();
    assert!(
        (1..50).contains(&told),
        "{told} answers without a second passing"
    );
    node.lab.advance(std::time::Duration::from_secs(1));
    node.send(0, &too_big);
    assert_eq!(node.received(0).len(), 1);
    assert_accounted(&[&node]);
}

#[test]
fn the_sender_of_what_does_not_fit_is_told_though_nobody_knows_where_it_goes() {
    let mut node = Node::new(&MemNet::new(), 1);
    for peer in 2..5 {
        node.lab.add_peer(0, at(peer));
    }
    // Never heard of, so it is flooded; one answer for all copies.
    let frame = with_df(frames::udp4(1, 9, &vec![0; 1473]));
    node.send(0, &frame);
    let told = node.received(0);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0][40..42], 1450_u16.to_be_bytes());
    // To the other port it went, and to a group nobody answers (RFC 1122 section 3.2.2).
    assert_eq!(node.received(1), slice::from_ref(&frame));
    node.lab.advance(std::time::Duration::from_secs(1));
    let mut group = frame;
    group[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
    node.send(0, &group);
    assert!(node.received(0).is_empty());
    assert_accounted(&[&node]);
}

#[test]
fn a_path_that_turns_out_narrower_is_followed() {
    let mut node = Node::new(&MemNet::new(), 1);
    let peer = node.lab.add_peer(0, at(2));
    node.io.set_mtu(1400);

    node.send(0, &frames::udp4(1, 9, &vec![0; 1400]));
    assert_eq!(node.strays(), []);
    assert_eq!(node.lab.path(peer).get(), 1400);
    assert_eq!(node.lab.peer_totals(peer).drops(DropReason::TooBig), 1);
    assert_accounted(&[&node]);
}

#[test]
fn a_peer_that_takes_less_does_not_cost_another_its_copy() {
    let mut node = Node::new(&MemNet::new(), 1);
    let narrow = node.lab.add_peer(0, at(2));
    node.lab.add_peer(0, at(3));
    node.lab.path(narrow).set(600);

    node.send(0, &frames::udp4(1, 9, &vec![0; 1000]));
    let targets: Vec<_> = node.strays().iter().map(|m| m.departure.to).collect();
    assert_eq!(targets, [at(3)]);
    assert_accounted(&[&node]);
}

#[test]
fn a_superframe_that_a_kernel_left_unfinished_is_cut_for_the_narrowest_port() {
    // Both are shorter than what the underlay takes.
    for (mtu, len) in [(1450_u32, 1480_usize), (1400, 60_000)] {
        let mut node = Node::new(&MemNet::new(), 1);
        node.lab.add_peer(0, at(2));
        node.lab.set_mtu(node.ports[1], mtu);
        node.send(1, &frames::broadcast(frames::mac(1)));
        node.strays();

        let mut frame = frames::tcp4(9, 1, 0, &vec![7; len - 40]);
        let [source, target] = [9, 1].map(|host| frames::ip(host).octets());
        let covered = u32::try_from(len - 20).unwrap();
        let pseudo = checksum::pseudo_v4(source, target, 6, covered);
        frame[50..52].copy_from_slice(&pseudo.fold().to_be_bytes());
        node.hear(at(2), 42, &frame);

        let received = node.received(1);
        let most = usize::try_from(mtu).unwrap() + 14;
        assert!(received.iter().all(|segment| segment.len() <= most));
        let payload: usize = received.iter().map(|segment| segment.len() - 54).sum();
        assert_eq!(payload, len - 40, "in {} segments", received.len());
        assert_accounted(&[&node]);
    }
}

#[test]
fn an_unfinished_superframe_with_two_tags_is_cut_so_that_the_port_takes_it() {
    let mut node = Node::new(&MemNet::new(), 1);
    node.lab.add_peer(0, at(2));
    let mut frame = frames::tcp4(9, 1, 0, &vec![7; 5000]);
    let [source, target] = [9, 1].map(|host| frames::ip(host).octets());
    let pseudo = checksum::pseudo_v4(source, target, 6, 5020);
    frame[50..52].copy_from_slice(&pseudo.fold().to_be_bytes());
    for tags in 0..=2 {
        node.hear(at(2), 42, &frame);

        let received = node.received(1);
        let headers = 54 + 4 * tags;
        let payload: usize = received.iter().map(|segment| segment.len() - headers).sum();
        assert_eq!(
            payload,
            5000,
            "{} segments with {tags} tags",
            received.len()
        );
        assert_accounted(&[&node]);
        frame = frames::tagged(&frame, 10);
    }
}

#[test]
fn a_burst_of_one_flow_shares_messages_and_flows_do_not() {
    for most in [128, 1] {
        let mut node = Node::new(&MemNet::new(), 1);
        node.lab.add_peer(0, at(2));
        node.io.set_most_in_message(most);
        node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));

        let flows: [Vec<u8>; 2] = [3, 4].map(|from| frames::udp4(from, 9, &[from; 100]));
        for _ in 0..10 {
            for flow in &flows {
                node.lab.send(node.ports[0], flow);
            }
        }
        node.lab.run();

        let messages = node.strays();
        assert_eq!(messages.len(), if most == 1 { 20 } else { 2 });
        for message in &messages {
            let count = if most == 1 { 1 } else { 10 };
            let flow = flows
                .iter()
                .find(|flow| message.bytes.ends_with(flow))
                .unwrap();
            let datagram = [&vxlan::header(vni(42))[..], flow].concat();
            assert_eq!(message.bytes, datagram.repeat(count));
            assert_eq!(message.departure.flow, vxlan::entropy(flow));
            let segment = u16::try_from(datagram.len()).unwrap();
            assert_eq!(message.departure.segment, (count > 1).then_some(segment));
        }
        assert_accounted(&[&node]);
    }
}

/// With DF set, so that a router must not fragment it.
fn with_df(mut frame: Vec<u8>) -> Vec<u8> {
    frame[20] |= 0x40;
    fix_ipv4(&mut frame);
    frame
}

#[test]
fn frames_of_a_flow_do_not_overtake_each_other_when_their_tos_changes() {
    let mut node = Node::new(&MemNet::new(), 1);
    node.lab.add_peer(0, at(2));
    node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));
    for (number, tos) in [(1, 2), (2, 3), (3, 2), (4, 2)] {
        let mut frame = frames::udp4(1, 9, &[number; 100]);
        frame[15] = tos;
        fix_ipv4(&mut frame);
        node.lab.send(node.ports[0], &frame);
    }
    node.lab.run();
    let order: Vec<(u8, u8)> = node
        .strays()
        .iter()
        .map(|message| (message.departure.tos, *message.bytes.last().unwrap()))
        .collect();
    assert_eq!(
        order,
        [(2, 1), (3, 2), (2, 4)],
        "TOS, and the last of each message"
    );
    assert_accounted(&[&node]);
}

#[test]
fn what_is_told_of_a_path_counts_every_tag() {
    let mut node = Node::new(&MemNet::new(), 1);
    node.lab.add_peer(0, at(2));
    node.hear(at(2), 42, &frames::broadcast(frames::mac(9)));
    node.received(0);
    let packet = with_df(frames::udp4(1, 9, &vec![0; 1472]));
    let one = frames::tagged_as(&packet, EtherType::VLAN, 0x2000);
    let two = frames::tagged(&frames::tagged(&packet, 7), 8);
    node.hear(
        at(2),
        42,
        &frames::tagged(&frames::broadcast(frames::mac(9)), 8),
    );
    node.received(0);
    for (frame, tags) in [(one, 1), (two, 2)] {
        node.send(0, &frame);
        let told = node.received(0).pop().unwrap();
        let mtu = u16::from_be_bytes([told[40 + 4 * tags], told[41 + 4 * tags]]);
        assert_eq!(usize::from(mtu), 1450 - 4 * tags, "{tags} tags");
    }
    assert_accounted(&[&node]);
}

#[test]
fn single_datagrams_of_a_flow_are_joined_however_they_arrived() {
    let mut node = Node::new(&MemNet::new(), 1);
    node.lab.add_peer(0, at(2));
    let pod = node
        .lab
        .add_port_with(0, "fast", MemPort::new().with_offloads(Offloads::ALL));
    let hello = frames::broadcast(frames::mac(7));
    node.lab.send(pod, &hello);
    node.lab.run();
    for number in 0..40_u8 {
        let mut frame = frames::udp4(9, 7, &[number; 1000]);
        frame[18..20].copy_from_slice(&u16::from(number).to_be_bytes());
        fix_ipv4(&mut frame);
        node.inject(at(2), 42, &frame);
    }
    node.lab.run();
    let io = node.lab.io(pod);
    let writes = std::iter::from_fn(|| io.take_with_header()).count();
    assert!(writes <= 4, "40 datagrams in {writes} writes");
    assert_accounted(&[&node]);
}

#[test]
fn a_flood_of_floods_to_many_peers_takes_no_longer_than_its_copies() {
    let mut node = Node::new(&MemNet::new(), 1);
    for host in 0..1000_u16 {
        let [high, low] = host.to_be_bytes();
        node.lab
            .add_peer(0, SocketAddr::from(([10, 0, high, low], 4789)));
    }
    for source in 1..=64 {
        node.lab
            .send(node.ports[0], &frames::broadcast(frames::mac(source)));
    }
    node.lab.run();
    assert_eq!(node.strays().len(), 64_000);
    assert_accounted(&[&node]);
}

#[test]
fn who_is_plugged_in_cannot_probe_the_peers() {
    let mut node = Node::new(&MemNet::new(), 1);
    let peer = node.lab.add_peer(0, at(2));
    node.lab.set_mode(0, Mode::Hub);
    let probe = Probe {
        src: frames::mac(1),
        kind: Kind::Request,
        token: 1,
        sequence: 1,
    };
    let mut frame = Vec::new();
    vxlan::ping::encode(&probe, 60, &mut frame);
    node.send(0, &frame);
    assert_eq!(node.strays(), []);
    let totals = node.lab.peer_totals(peer);
    assert_eq!(totals.drops(DropReason::ReservedAddress), 1);
    assert_accounted(&[&node]);
}

fn fix_ipv4(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let checksum = checksum::sum(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}
