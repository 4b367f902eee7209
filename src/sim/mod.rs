//! The lab: a switch without Linux.
//!
//! The same [`Bridge`](crate::bridge::Bridge) and [`Datapath`](crate::datapath::Datapath) as in the
//! daemon, but the ports are queues in memory and time is a number that only moves when it is told
//! to. So a test, a bench or a course can build a switch in one line, send one frame, and look at
//! all that came of it. Needs no privileges, and the same program yields the same output each time.
//!
//! ```
//! use std::time::Duration;
//! use tapswitch::sim::{Lab, frames};
//!
//! let (mut lab, [a, b, c]) = Lab::switch(["podA", "podB", "podC"]);
//! let log = lab.tell(10);
//! assert_eq!(lab.relay(a, &frames::arp_request(1, 2)), [b, c]);
//! assert_eq!(lab.relay(b, &frames::arp_reply(2, 1)), [a]);
//! assert_eq!(log.take()[1].to_string(), "2   0.000000  podB -> switch  arp 192.0.2.2 is-at \
//!     02:00:00:00:00:02   known: forwarded to podA; learned 02:00:00:00:00:02 on podB");
//!
//! // Time passes when it is told to. After five minutes and a bit nobody is known any more.
//! lab.advance(Duration::from_secs(302));
//! assert!(lab.entries().is_empty());
//! lab.assert_accounted();
//! ```
//!
//! - [`Lab`]: bridges and [`MemPort`]s, frames in and out.
//! - [`frames`]: frames to send.
//! - [`Network`]: a lab with hosts that speak ARP, ICMP, UDP and TCP.
//! - [`Story`]: one sentence for each frame.
//! - [`MemNet`]: an underlay between labs, for VXLAN.
//! - [`Nodes`]: several networks that are one by such an underlay.
//! - [`exercises`]: tasks for a course.

pub mod exercises;
pub mod frames;
mod host;
mod lab;
mod mem;
mod network;
mod nodes;
mod story;
mod underlay;

/// The TCP/IP stack of the lab's hosts, in the version that [`Host`] uses.
pub use smoltcp;
/// Names a socket of a [`Host`].
pub use smoltcp::iface::SocketHandle;

pub use self::{
    host::{Host, Pong},
    lab::{Lab, captured},
    mem::{MemPort, MemState},
    network::Network,
    nodes::{Crossing, Nodes, Scene},
    story::{Sentence, Story, StoryLog},
    underlay::{MemMessage, MemNet, MemUnderlay},
};
