//! tapswitch: a virtual switch in userspace, between network namespaces and between machines.
//!
//! One process owns TAP devices in many namespaces, is a learning bridge between them, and carries
//! bridges to other machines as a VXLAN endpoint (RFC 7348). The README says how to use the
//! program; this is the map of the house.
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
//! | what happened to FDB entries | the last 8 changes of the 8192 addresses that changed last |
//! | memory of a worker | one [`datapath::Batch`], one superframe's segments and bytes, one [`bridge::FdbCache`]: 256 KiB, and up to 64 MiB where a bridge has many addresses |
//! | events that wait for a slow subscriber | 4096, then the oldest are lost and counted |
//! | control connections | 64, each with a deadline |
//! | connections for the live page | 64, of which 16 get events: 256 wait for each, then the oldest are lost; 100 frames of a node in a second |
//! | connections for metrics over TCP | likewise; the counters are read four times a second at most |
//!
//! The examples, in order: `01_read_a_frame`, `02_learning_bridge`, `03_arp_and_flooding`,
//! `04_hub_switch_wire`, `05_fdb_limits`, `06_vxlan_by_hand`, `07_two_nodes`.

#![warn(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

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
