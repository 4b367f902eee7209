//! What the switch says by itself: that a frame is too big, and that it is there.

use std::io::IoSlice;

use zerocopy::IntoBytes;

use super::{OverlayNews, Pinged, depart::outcome, is_due};
use crate::{
    bridge::{Egress, Ingress},
    datapath::{Datapath, Departure, Peer, Topology, Vtep},
    time::Timestamp,
    vxlan::{
        self,
        ping::{self, Probe},
        too_big,
    },
    wire::{EtherType, Frame, VirtioNetHdr},
};

impl Datapath {
    /// Tells the sender of frame number `frame` what the path takes.
    #[cold]
    pub(super) fn answer_too_big(
        &mut self,
        now: Timestamp,
        topology: &Topology,
        frame: usize,
        limit: usize,
        ingress: Ingress,
    ) {
        let Ingress::Port(ingress) = ingress else {
            return;
        };
        let Some((port, at)) = topology
            .port(ingress)
            .zip(self.tunnel.answer_at.get_mut(ingress.index()))
        else {
            return;
        };
        // What is flooded is told once, and again only if another path takes less.
        let answered = &self.tunnel.answered;
        if answered
            .iter()
            .any(|&told| told.0 == frame && told.1 <= limit)
        {
            return;
        }
        let bytes = self.batch.frame(frame);
        let mtu = limit.saturating_sub(headers_of_layer_2(bytes));
        let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
        // What nobody can be told does not use up what others may be.
        if !too_big::answer(bytes, mtu, &mut self.tunnel.answer)
            || !is_due(now, at, ANSWER_INTERVAL)
        {
            return;
        }
        self.tunnel.answered.push((frame, limit));
        let answer = self.tunnel.answer.as_bytes();
        let plain = VirtioNetHdr::none();
        let parts = [IoSlice::new(plain.as_bytes()), IoSlice::new(answer)];
        self.calls.writes.add(1);
        let sent = port.io.transmit_parts(&parts);
        port.counters.worker(self.worker).copied(sent, answer.len());
        self.lost_own(&port.counters, Egress::Port(port.id), answer, sent);
        if self.captures.follow(frame) {
            self.capture_answer(port.id, sent);
        }
    }

    /// Answers a probe of a peer, or hands the answer to ours on.
    #[cold]
    pub(super) fn answer_probe(
        &mut self,
        now: Timestamp,
        vtep: &Vtep,
        peer: &Peer,
        probe: &Probe,
        len: usize,
    ) {
        if probe.kind == ping::Kind::Reply {
            return self.tell(OverlayNews::Pinged(Pinged {
                peer: peer.id,
                probe: *probe,
                len,
                at: now,
            }));
        }
        if !is_due(now, &mut self.tunnel.reply_at, REPLY_INTERVAL) {
            return;
        }
        // The source only has to be an address that is nobody else's.
        ping::encode(&probe.reply(probe.src), len, &mut self.tunnel.reply);
        let header = vxlan::header(peer.vni);
        let parts = [IoSlice::new(&header), IoSlice::new(&self.tunnel.reply)];
        let departure = Departure {
            to: peer.to,
            flow: probe.sequence,
            tos: 0,
            segment: None,
        };
        self.calls.sends.add(1);
        let sent = outcome(vtep.io.transmit(&departure, &parts));
        peer.counters.worker(self.worker).copied(sent, len);
        let answer = &self.tunnel.reply;
        self.lost_own(&peer.counters, Egress::Peer(peer.id), answer, sent);
        // The probe is no frame of the batch; it was chosen as the next one.
        if self.captures.follow(self.batch.len()) {
            self.capture_reply(vtep, peer, &departure, sent);
        }
    }
}

/// Bytes of the Ethernet header with up to two tags.
fn headers_of_layer_2(frame: &[u8]) -> usize {
    let is_tag = |at: usize| {
        let bytes = frame.get(at..).and_then(<[u8]>::first_chunk);
        bytes.is_some_and(|bytes| EtherType(u16::from_be_bytes(*bytes)).is_tag())
    };
    let tags = [12, 16].into_iter().take_while(|&at| is_tag(at)).count();
    Frame::HEADER_LEN + 4 * tags
}

/// 100 a second and port: enough for every flow to hear of it within a retransmission.
const ANSWER_INTERVAL: u64 = 10_000_000;
/// 10,000 a second: enough to measure, and a bound for what a peer can make the switch send.
const REPLY_INTERVAL: u64 = 100_000;
