//! tapswitch: a virtual switch in userspace, between network namespaces and between machines.
//!
//! One process owns TAP devices in many namespaces, is a learning bridge between them, and carries
//! bridges to other machines as a VXLAN endpoint (RFC 7348). The README says how to use the
//! program. Here is how to build on the library, and the map of the house.
//!
//! # Start
//! Everything but the kernel is a library: a whole network with hosts, switches and VXLAN between them
//! fits into a test, needs no privileges, and runs in virtual time, the same on every run.
//!
//! ```toml
//! [dependencies]
//! tapswitch = { path = "../tapswitch" }   # a clone of the repository
//! ```
//!
//! ```
//! use tapswitch::sim::{Network, frames};
//!
//! // Three hosts with IP stacks of their own on one switch.
//! let mut network = Network::new(["podA", "podB", "podC"]);
//! let log = network.lab.tell(100);
//!
//! // The first host pings the second one, whose address it has to ask for first.
//! let pong = network.ping(0, frames::ip(2).into()).expect("podB answers");
//! assert_eq!(pong.round_trip.as_micros(), 40);
//!
//! let story: Vec<String> = log.take().iter().map(|told| format!("{}: {}", told.frame, told.fate)).collect();
//! assert_eq!(story, [
//!     "arp who-has 192.0.2.2 tell 192.0.2.1: broadcast: flooded to podB, podC",
//!     "arp 192.0.2.2 is-at 02:00:00:00:00:02: known: forwarded to podA",
//!     "icmp 192.0.2.1 > 192.0.2.2 echo request 1: known: forwarded to podB",
//!     "icmp 192.0.2.2 > 192.0.2.1 echo reply 1: known: forwarded to podA",
//! ]);
//! ```
//!
//! | to | begin with |
//! | --- | --- |
//! | send single frames through a switch, and look at everything | [`sim::Lab`] |
//! | have hosts that talk, TCP included, with or without loss | [`sim::Network`], [`sim::Host`] |
//! | have several machines and an overlay between them | [`sim::Nodes`] |
//! | decide about frames without any of that | [`bridge::Bridge`] |
//! | read, make, explain and select frames | [`wire`], [`craft`], [`dissect`], [`filter`] |
//! | cut and join superframes | [`offload`] |
//! | speak VXLAN | [`vxlan`] |
//! | write a control plane | [`overlay::Engine`] |
//! | run a real switch between namespaces, in one's own program | [`daemon::Switch`] |
//! | talk to a running one | [`control::client::Client`] |
//!
//! [`sim::exercises`] are tasks for a course, each with a beginning and an end that tests know.
//!
//! # The course
//! Each example says in its first lines what it teaches and what it prints; `cargo run --example
//! 01_read_a_frame` runs one. Those marked *ns* build namespaces, as root or as anybody who may make
//! user namespaces, and leave nothing behind.
//!
//! | example | what it is about |
//! | --- | --- |
//! | `01_read_a_frame` | what the bytes mean, and how few of them a switch reads |
//! | `02_learning_bridge` | how it learns where everybody is, by looking at who sends |
//! | `03_arp_and_flooding` | why the first ping is slow |
//! | `04_hub_switch_wire` | what learning saves, counted |
//! | `05_ageing_and_moving` | how long it believes what it has learned, and what of an address that wanders |
//! | `06_fdb_limits` | what an attacker with made-up addresses gets |
//! | `07_capture_and_explain` | a file for Wireshark, and what each byte means |
//! | `08_what_would_happen` | a prediction that cannot be wrong |
//! | `09_superframes` | why bulk TCP is fast: cut, joined, and the checksums |
//! | `10_tcp_and_loss` | one thing measured in virtual time: what loss does to TCP |
//! | `11_vxlan_by_hand` | the overlay byte by byte, and what it costs |
//! | `12_two_nodes` | one network on two machines: head-end replication |
//! | `13_too_big` | the MTU of an overlay, packet too big, and a black hole |
//! | `14_tap_by_hand` | *ns* a TAP is a file: a host in 40 lines |
//! | `15_the_smallest_switch` | *ns* two namespaces, one loop |
//! | `16_linux_vxlan` | *ns* the other end is the kernel's vxlan device |
//! | `17_control_socket` | HTTP and JSON, by hand and with types |
//! | `18_a_control_plane` | *ns* who is behind which VTEP is in a file: an engine of one's own |
//! | `19_cni_plugin` | *ns* what a container runtime calls |
//!
//! # The way of a frame
//! ```text
//!   namespace "red"                                       underlay
//!  (1) TAP --read--> Batch <--take apart-- UDP 4789 <--recvmsg (UDP_GRO)
//!                      |     virtio-net header + frame, many frames
//!  (2) parse           wire: views, checked once
//!  (3) decide          bridge::Bridge::process(now, ingress, frame) -> Verdict
//!                      |    learn(source), look up(destination), flood, or drop and why
//!  (4) plan            datapath: who gets which bytes, in order
//!                      |
//!         +------------+--------------------+
//!    Egress::Port                      Egress::Peer
//!    as it is, or joined to a          cut to what the path takes, a VXLAN
//!    superframe, or cut                header before each piece
//!         |                                 |
//!  (5) TAP <--write--                  UDP --sendmsg (UDP_SEGMENT)--> remote VTEP
//! ```
//! Steps 1 to 5 are [`datapath::Datapath::service`] for a port and
//! [`datapath::Datapath::service_underlay`] for the overlay, a batch at a time; step 3 is one
//! function, which the daemon, the lab, the benches and the tests all call.
//!
//! Two offloads are in play. The *inner* one is between a port and its namespace: superframes of
//! TCP or UDP, which a virtio-net header describes. The *outer* one is between this process and the
//! underlay: many datagrams in one message.
//!
//! # The rooms
//! | room | what lives there | may not |
//! | --- | --- | --- |
//! | [`wire`] | what bytes mean | do I/O, read a clock, start threads |
//! | [`craft`] | frames from words | do I/O, read a clock, start threads |
//! | [`bridge`] | one broadcast domain: FDB, flags, decisions | likewise |
//! | [`offload`] | finishing checksums, segmenting and joining superframes | likewise |
//! | [`vxlan`] | the overlay's bytes: header, flow hash, congestion marks, answers | likewise |
//! | [`dissect`] | every byte of a frame explained, and what is wrong | likewise |
//! | [`filter`] | which frames: the language of tcpdump | likewise |
//! | [`overlay`] | the seam of a control plane: who says what is behind which VTEP | likewise |
//! | [`doctor`] | judging what is wrong, from facts that the daemon collects | likewise |
//! | [`datapath`] | buffers, batches, counters, the seam [`datapath::PortIo`] | know Linux |
//! | [`rehearsal`] | what would become of a frame: the data path on a copy of the switch | know Linux |
//! | [`sim`] | the lab in memory: ports, hosts, virtual time, stories | know Linux |
//! | [`sys`] | Linux, one file for each kernel object; all `unsafe` | know bridges |
//! | [`netlink`], [`attach`] | links, addresses and routes; plugging in, all or nothing | |
//! | [`config`] | settings: file, rules, and the plan from one to another | |
//! | [`pcap`] | capture files | |
//! | [`control`] | API types, server and client on a unix socket | |
//! | [`daemon`] | the running switch: workers, state, requests, housekeeping | |
//! | [`web`] | the live page: nodes, a stream of events, assets | know Linux, or what runs the switch |
//! | [`cli`], [`demo`] | the program | |
//! | [`lesson`] | lessons: networks, commands, and what their frames must do | |
//! | [`mod@bench`] | topologies, load and figures: this switch against others | |
//!
//! `tests/layering.rs` holds the rooms to their rules.
//!
//! # What always holds
//! * The decision about a frame is a value, and one function makes it.
//! * Every frame is accounted for: frames in are forwarded or dropped for a
//!   [`bridge::DropReason`]; copies planned are sent or dropped for one.
//! * No allocation, no lock and no log line per frame in the steady state.
//! * A frame leaves with the bytes that it came with, except what offload rules allow.
//! * No frame, namespace or client can make it panic, block or grow without bound.
//! * It sends no frame of its own, but for what an overlay needs: answers to packets that do not fit
//!   the path (`too_big_answers = false` for none) and to the probes of listed peers. Both are few.
//!
//! Where trusted systems disagree, [`bridge`] has the list of choices.
//!
//! # Bounds
//! | what | bound |
//! | --- | --- |
//! | ports | [`bridge::PortId::LIMIT`] |
//! | remote VTEPs | [`bridge::PeerId::LIMIT`]; 1024 listed for a bridge, 1024 learned |
//! | learned addresses of a bridge | `fdb_limit`, 8192 if nobody says |
//! | flight recorder | for each port or remote VTEP, and each worker that has had to do with it, 71 KiB: [`datapath::Recorder`] |
//! | names of deleted ports, by which old frames are told | 64 |
//! | what happened to FDB entries | the last 8 changes of the 8192 addresses that changed last |
//! | memory of a worker | one [`datapath::Batch`], one superframe's segments and bytes, one [`bridge::FdbCache`]: 256 KiB, and up to 64 MiB where a bridge has many addresses |
//! | events that wait for a slow subscriber | 4096, then the oldest are lost and counted |
//! | control connections | 64, each with a deadline |
//! | connections for the live page | 64, of which 16 get events: the last 256, and of these 8 MiB, wait for all of them, the older ones are lost and counted; 100 frames of a node in a second |
//! | connections for metrics over TCP | likewise; the counters are read four times a second at most |

#![warn(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

/// The README's own lines of Rust do what it says.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod attach;
pub mod bench;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod control;
pub mod craft;
pub mod daemon;
pub mod datapath;
pub mod demo;
pub mod dissect;
pub mod doctor;
pub mod filter;
pub mod lesson;
pub mod names;
pub mod netlink;
pub mod offload;
pub mod overlay;
pub mod pcap;
pub mod rehearsal;
pub mod sim;
pub mod sys;
pub mod time;
pub mod vxlan;
pub mod web;
pub mod wire;
