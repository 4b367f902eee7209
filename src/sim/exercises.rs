//! Tasks for a course: each is some 30 lines to write, with a beginning that compiles and runs, and an
//! end that can be checked.
//!
//! Every beginning below is a whole program: `cargo new exercise`, the two lines of the [crate's front
//! page](crate#start) in its `Cargo.toml`, and the text as the body of `main`. It ends with a check
//! that says how far it gets as it stands; the task is done when the check says what the text demands.
//! Solutions are in `tests/exercises.rs` of the repository.
//!
//! 1. [A learning bridge](#1-a-learning-bridge)
//! 2. [Ageing](#2-ageing)
//! 3. [A VTEP](#3-a-vtep)
//! 4. [A transfer that loses nothing](#4-a-transfer-that-loses-nothing)
//! 5. [A filter](#5-a-filter)
//!
//! # 1. A learning bridge
//! Write a bridge: a frame goes to the port where its destination was last heard, or else to all but
//! its own, and never back to where it came from. Everything that it knows it learns from sources.
//! Yours has to do with a thousand frames what [`Bridge`](crate::bridge::Bridge) does; a hub, which
//! repeats everything, differs early.
//!
//! ```
//! use tapswitch::{sim::{Lab, frames}, wire::{Frame, MacAddr}};
//!
//! /// Yours. It has four ports.
//! #[derive(Default)]
//! struct Mine;
//!
//! impl Mine {
//!     /// The ports that get a copy of a frame that came in at port `from`, in their order.
//!     fn relay(&mut self, from: usize, frame: &[u8]) -> Vec<usize> {
//!         let frame = Frame::new_checked(frame).unwrap();
//!         let (_src, _dst): (MacAddr, MacAddr) = (frame.src(), frame.dst());
//!         (0..4).filter(|&to| to != from).collect()
//!     }
//! }
//!
//! /// The place of the first frame that yours treats in another way.
//! fn first_difference(mut mine: Mine) -> Option<usize> {
//!     let mut spec = Lab::spec("br0");
//!     spec.flap_limit = 0; // An address may move as often as it likes.
//!     let (mut lab, ports) = Lab::with_bridge(spec, ["p0", "p1", "p2", "p3"]);
//!     frames::talk(1, 4).take(1000).position(|(from, frame)| {
//!         let theirs = lab.relay(ports[from], &frame);
//!         let theirs: Vec<usize> = theirs.iter().map(|port| port.index()).collect();
//!         mine.relay(from, &frame) != theirs
//!     })
//! }
//!
//! assert_eq!(first_difference(Mine), Some(1)); // Done: None.
//! ```
//!
//! Further: what of a frame whose destination is behind the port that it came from? Of one with a group
//! address as its source? Send such frames to both. And why may a bridge with `flap_limit` set hold an
//! address where it is?
//!
//! # 2. Ageing
//! What has not been heard for more than 300 seconds is forgotten. Time is a number that is handed in:
//! nothing has to wait, and five minutes later is one line later.
//!
//! ```
//! use std::{collections::HashMap, time::Duration};
//! use tapswitch::{sim::{Lab, frames}, wire::{Frame, MacAddr}};
//!
//! /// Yours: at first, that of the first exercise.
//! #[derive(Default)]
//! struct Mine { places: HashMap<MacAddr, usize> }
//!
//! impl Mine {
//!     fn relay(&mut self, _now: Duration, from: usize, frame: &[u8]) -> Vec<usize> {
//!         let frame = Frame::new_checked(frame).unwrap();
//!         self.places.insert(frame.src(), from);
//!         match self.places.get(&frame.dst()) {
//!             Some(&to) => Some(to).filter(|&to| to != from).into_iter().collect(),
//!             None => (0..4).filter(|&to| to != from).collect(),
//!         }
//!     }
//! }
//!
//! /// The place of the first frame that yours treats in another way, if up to so many times 50
//! /// seconds pass between two frames.
//! fn first_difference(mut mine: Mine, most: u64) -> Option<usize> {
//!     let mut spec = Lab::spec("br0");
//!     spec.flap_limit = 0;
//!     let (mut lab, ports) = Lab::with_bridge(spec, ["p0", "p1", "p2", "p3"]);
//!     let mut now = Duration::ZERO;
//!     frames::talk(2, 4).zip(0..1000).position(|((from, frame), n)| {
//!         let pause = Duration::from_secs(50 * (n * n % (most + 1)));
//!         lab.advance(pause);
//!         now += pause;
//!         let theirs = lab.relay(ports[from], &frame);
//!         let theirs: Vec<usize> = theirs.iter().map(|port| port.index()).collect();
//!         mine.relay(now, from, &frame) != theirs
//!     })
//! }
//!
//! assert_eq!(first_difference(Mine::default(), 0), None);
//! assert_eq!(first_difference(Mine::default(), 8), Some(5)); // Done: None.
//! ```
//!
//! Further: deleting what has aged by looking at everything costs time on each frame. When does
//! [`Lab::advance`](super::Lab::advance) delete, and why is an old entry harmless until then?
//!
//! # 3. A VTEP
//! The other end of a tunnel: write the header of RFC 7348 §5 before a frame, and read it. The switch
//! at the other end is real, and the datagrams are yours. Do not use [`crate::vxlan`], except to
//! compare with it.
//!
//! ```
//! use tapswitch::{sim::{Lab, MemNet, frames}, wire::Vni};
//!
//! /// Yours: the payload of a datagram for `frame`.
//! fn encap(_vni: u32, frame: &[u8]) -> Vec<u8> {
//!     frame.to_vec()
//! }
//!
//! /// Yours: what is in the payload of a datagram, if it is valid.
//! fn decap(_payload: &[u8]) -> Option<(u32, &[u8])> {
//!     None
//! }
//!
//! /// How many of the three checks hold.
//! fn checks() -> usize {
//!     let net = MemNet::new();
//!     let [theirs, mine] = ["198.51.100.1:4789", "198.51.100.2:4789"].map(|at| at.parse().unwrap());
//!     let (mut lab, [pod]) = Lab::switch(["pod"]);
//!     lab.add_vtep(net.attach(theirs));
//!     lab.set_vni(0, Vni::new(42).unwrap());
//!     lab.add_peer(0, mine);
//!     let me = net.attach(mine);
//!
//!     // The pod asks. The switch does not know whom, so you get a copy.
//!     let question = frames::arp_request(1, 2);
//!     lab.send(pod, &question);
//!     lab.run();
//!     let (_, payload) = me.take().unwrap();
//!     let is_read = decap(&payload) == Some((42, &question[..]));
//!
//!     // You answer as host 2, and the pod hears it.
//!     let answer = frames::arp_reply(2, 1);
//!     me.send(theirs, &encap(42, &answer));
//!     lab.run();
//!     let is_heard = lab.received(pod) == [answer];
//!
//!     // Any first byte, and any length: without the I flag there is no VNI, and reserved bits mean
//!     // nothing.
//!     let is_careful = (0..=255).all(|flags| {
//!         let payload = [flags, 0, 0, 0, 0, 1, 2, 0, 0xaa];
//!         let expected = (flags & 0x08 != 0).then_some((0x102, &payload[8..]));
//!         decap(&payload) == expected && (0..8).all(|len| decap(&payload[..len]).is_none())
//!     });
//!     [is_read, is_heard, is_careful].into_iter().filter(|&holds| holds).count()
//! }
//!
//! assert_eq!(checks(), 0); // Done: 3.
//! ```
//!
//! Further: what does the switch count ([`Lab::vtep_totals`](super::Lab::vtep_totals)) if you send
//! VNI 43, seven bytes, or from another address?
//!
//! # 4. A transfer that loses nothing
//! The cable of the second host loses one frame in ten, and UDP does nothing about it. Write a protocol
//! over UDP that gets all bytes across, in order and once: number the pieces, acknowledge them, and send
//! again what was not acknowledged in time. The beginning sends each piece once.
//!
//! ```
//! use std::{net::SocketAddr, time::Duration};
//! use tapswitch::sim::{Network, SocketHandle, frames};
//!
//! /// Yours: both ends, each asked every now and then what it has to do.
//! struct Mine { sent: usize }
//!
//! impl Mine {
//!     /// Sends what is due of `data` from the first host, and hears acknowledgments.
//!     fn sender(&mut self, network: &mut Network, socket: SocketHandle, to: SocketAddr, data: &[u8]) {
//!         let rest = &data[self.sent..];
//!         let piece = &rest[..rest.len().min(1000)];
//!         if !piece.is_empty() && network.hosts[0].udp_send(socket, to, piece) {
//!             self.sent += piece.len();
//!         }
//!     }
//!
//!     /// Hears pieces at the second host, acknowledges them, and puts them together.
//!     fn receiver(&mut self, network: &mut Network, socket: SocketHandle, data: &mut Vec<u8>) {
//!         while let Some((_from, piece)) = network.hosts[1].udp_receive(socket) {
//!             data.extend(piece);
//!         }
//!     }
//! }
//!
//! /// How many of 100,000 bytes have come right within 200 ms, and how long it took.
//! fn transfer(mut mine: Mine) -> (usize, Duration) {
//!     let data: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
//!     let mut network = Network::new(["podA", "podB"]);
//!     network.lab.io(network.ports[1]).lose(10, 7);
//!     let [from, to] = [0, 1].map(|host| network.hosts[host].udp_bind(2000));
//!     let mut came = Vec::new();
//!     // A hop is 10 us.
//!     for _ in 0..20_000 {
//!         network.step();
//!         mine.sender(&mut network, from, (frames::ip(2), 2000).into(), &data);
//!         mine.receiver(&mut network, to, &mut came);
//!         if came.len() >= data.len() {
//!             break;
//!         }
//!     }
//!     network.lab.assert_accounted();
//!     let right = came.iter().zip(&data).take_while(|(came, data)| came == data).count();
//!     (right, network.lab.now().since(Default::default()))
//! }
//!
//! let (right, _) = transfer(Mine { sent: 0 });
//! assert_eq!(right, 4000); // Done: 100000.
//! ```
//!
//! Further: how long does TCP take ([`Host::tcp_connect`](super::Host::tcp_connect), and the example
//! `10_tcp_and_loss`)? Where does your time go: to the round trip, or to waiting for what is lost? What
//! would several pieces on their way at once change?
//!
//! # 5. A filter
//! Write `udp and dst port 2000` by hand. [`Filter`](crate::filter::Filter) means what `tcpdump` means
//! by it; frames have options, fragments, tags and ends where you do not expect them. The beginning
//! believes that every IPv4 header has 20 bytes.
//!
//! ```
//! use tapswitch::{filter::Filter, sim::frames};
//!
//! /// Yours.
//! fn matches(frame: &[u8]) -> bool {
//!     frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&17) && frame.get(36..38) == Some(&[0x07, 0xd0])
//! }
//!
//! /// All kinds of frames, each of them whole and ending after every number of bytes.
//! fn all() -> Vec<Vec<u8>> {
//!     let udp = frames::udp4(1, 2, &[0x07, 0xd0, 0x07, 0xd0]);
//!     // With four bytes of options behind the IPv4 header (RFC 791 §3.1).
//!     let mut options = [&udp[..34], &[1, 1, 1, 0], &udp[34..]].concat();
//!     options[14] = 0x46;
//!     // The first and the second fragment of something: only the first has the ports.
//!     let (mut first, mut second) = (udp.clone(), udp.clone());
//!     first[20..22].copy_from_slice(&[0x20, 0]);
//!     second[20..22].copy_from_slice(&[0, 1]);
//!     let mut all = vec![
//!         frames::arp_request(1, 2), frames::tcp4(1, 2, 0, b""), frames::udp6(1, 2, b""),
//!         frames::tcp6(1, 2, 0, b""), frames::tagged(&udp, 10), udp, options, first, second,
//!         frames::packet(1, "udp 192.0.2.2:2001").frame,
//!         frames::packet(1, "udp 192.0.2.1:2000 > 192.0.2.2:53").frame,
//!     ];
//!     let pieces: Vec<_> = all.iter().flat_map(|frame| (0..frame.len()).map(|len| frame[..len].to_vec())).collect();
//!     all.extend(pieces);
//!     all
//! }
//!
//! let filter = Filter::parse("udp and dst port 2000").unwrap();
//! let wrong = all().iter().filter(|frame| matches(frame) != filter.matches(frame)).count();
//! assert_eq!(wrong, 23); // Done: 0.
//! ```
//!
//! Further: do the same with [`dissect`](crate::dissect::dissect), whose fields have names, and let
//! Wireshark judge: [`Lab::pcapng`](super::Lab::pcapng) makes a file of what a lab has seen.
