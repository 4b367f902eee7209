//! Frames from and to remote VTEPs: datagrams to frames, and frames to as few messages as possible.

mod answers;
mod arrive;
mod depart;

use std::net::IpAddr;

use super::Batch;
use crate::{
    bridge::{PeerId, PortId},
    offload,
    time::Timestamp,
    vxlan::{self, ping::Probe, too_big},
    wire::Vni,
};

/// What the control side should hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayNews {
    /// A VTEP has sent that is no peer.
    Stranger(Stranger),
    /// A probe was answered.
    Pinged(Pinged),
}

/// A VTEP that sends and is no peer, where any may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The VNI that it used.
    pub vni: Vni,
    /// Its address.
    pub from: IpAddr,
}

/// The answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinged {
    /// Who answered.
    pub peer: PeerId,
    /// What was answered.
    pub probe: Probe,
    /// Bytes of the inner frame.
    pub len: usize,
    /// When it was read, or a little before: workers look at the clock once a round.
    pub at: Timestamp,
}

/// Memory for one message on its way to a remote VTEP, and what limits what the switch sends by
/// itself.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The datagrams that wait to be put into messages, in order.
    pub(super) datagrams: Vec<Datagram>,
    pub(super) answer: too_big::Answer,
    pub(super) reply: Vec<u8>,
    /// When each port may be told again that a frame of its is too big.
    answer_at: Box<[Timestamp]>,
    /// Which frames of the batch have been answered, and with what limit.
    pub(super) answered: Vec<(usize, usize)>,
    /// Likewise for answers to probes, of all peers together.
    reply_at: Timestamp,
    /// And when the control side may be told of strangers again.
    tell_at: Timestamp,
    /// And when the kernel may be asked for a path's MTU again, which takes a while.
    ask_at: Timestamp,
}

/// One datagram: a piece of the segments' memory, and the payload where it was received.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) segment: usize,
    pub(super) frame: usize,
    len: usize,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            datagrams: Vec::with_capacity(offload::MAX_SEGMENTS),
            answer: too_big::Answer::new(),
            reply: Vec::with_capacity(Batch::CAPACITY),
            answer_at: vec![Timestamp::ZERO; PortId::LIMIT].into_boxed_slice(),
            answered: Vec::with_capacity(2 * usize::try_from(BURST).unwrap_or_default()),
            reply_at: Timestamp::ZERO,
            ask_at: Timestamp::ZERO,
            tell_at: Timestamp::ZERO,
        }
    }
}

/// The remote VTEP of a frame from the underlay, and the index of its bridge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) peer: PeerId,
    bridge: usize,
}

/// A datagram's header, and whose it is.
#[derive(Clone, Copy)]
struct Sender {
    header: vxlan::Header,
    origin: Origin,
}

/// Whether another one may go out, `interval` nanoseconds apart but for a burst of [`BURST`].
fn is_due(now: Timestamp, at: &mut Timestamp, interval: u64) -> bool {
    let earliest = (*at).max(now);
    let is_due = earliest.nanos_since(now) < interval * BURST;
    if is_due {
        *at = earliest + std::time::Duration::from_nanos(interval);
    }
    is_due
}

/// What may go out at once before the interval counts.
const BURST: u64 = 20;
