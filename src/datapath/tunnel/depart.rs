//! To the underlay: frames to as few messages as possible.

use std::{io::IoSlice, ops::Range};

use super::{Datagram, is_due};
use crate::{
    bridge::{DropReason, Egress, Ingress, PeerId},
    datapath::{
        Copy, Datapath, Departed, Departure, Dscp, Peer, Topology, Transmitted, Vtep,
        capture::Place, gather, record::Lost,
    },
    offload,
    time::Timestamp,
    vxlan::{self, ping},
    wire::GsoType,
};

impl Datapath {
    /// Step 5 for remote VTEPs: sends the copy at `position` of the plan, and with it all later
    /// ones of the same inner flow to the same VTEP, in as few messages as possible.
    pub(in crate::datapath) fn transmit_to_peer(
        &mut self,
        now: Timestamp,
        topology: &Topology,
        to: PeerId,
        position: usize,
        ingress: Ingress,
    ) {
        let Some((vtep, peer)) = topology
            .vtep()
            .and_then(|vtep| Some((vtep, vtep.peer(to)?)))
        else {
            let frame = self.plan.get(position).map_or(0, |copy| copy.frame);
            return self.lose(topology, ingress, Egress::Peer(to), usize::from(frame));
        };
        let Some(&first) = self.plan.get(position) else {
            return;
        };
        let mut departure = self.departure(vtep, peer, usize::from(first.frame));
        if self.is_too_much(now, ingress, first) {
            match vxlan::ecn::mark(departure.tos) {
                Some(tos) => departure.tos = tos,
                None => return self.shed(peer, position),
            }
        }
        self.segments.clear();
        self.segments.prefix(&vxlan::header(peer.vni));
        self.tunnel.datagrams.clear();
        self.take_along(now, topology, vtep, peer, position, ingress);
        let mut next = first.next;
        while next > 0 && self.tunnel.datagrams.len() < ENOUGH {
            let position = usize::try_from(next).unwrap_or(usize::MAX);
            let Some(&copy) = self.plan.get(position) else {
                break;
            };
            next = copy.next;
            if copy.is_done {
                continue;
            }
            let other = self.departure(vtep, peer, usize::from(copy.frame));
            if other == departure {
                self.take_along(now, topology, vtep, peer, position, ingress);
            } else if other.flow == departure.flow {
                // Another TOS. What is behind it in the flow must not overtake it.
                break;
            }
        }
        self.send_datagrams(now, vtep, peer, departure);
    }

    /// Makes datagrams of the copy at `position` of the plan.
    fn take_along(
        &mut self,
        now: Timestamp,
        topology: &Topology,
        vtep: &Vtep,
        peer: &Peer,
        position: usize,
        ingress: Ingress,
    ) {
        let Some(copy) = self.plan.get_mut(position) else {
            return;
        };
        copy.is_done = true;
        let copy = *copy;
        let frame = usize::from(copy.frame);
        if self.pack(vtep, peer, frame) && vtep.policy.answers_too_big {
            self.answer_too_big(now, topology, frame, peer.max_frame(), ingress);
        }
    }

    /// Whether the sender of this superframe of TCP keeps too much waiting, and is to be told so.
    fn is_too_much(&mut self, now: Timestamp, ingress: Ingress, copy: Copy) -> bool {
        let Ingress::Port(port) = ingress else {
            return false;
        };
        let gso = self.batch.header(usize::from(copy.frame)).gso();
        matches!(gso, GsoType::TcpV4 | GsoType::TcpV6) && self.standing.is_due(now, port)
    }

    /// Loses the copy at `position` of the plan, which tells its sender to slow down.
    #[cold]
    fn shed(&mut self, peer: &Peer, position: usize) {
        let Some(copy) = self.plan.get_mut(position) else {
            return;
        };
        copy.is_done = true;
        let frame = usize::from(copy.frame);
        self.lose_whole(peer, frame, DropReason::StandingQueue);
    }

    /// Loses frame number `frame` before it was made datagrams.
    fn lose_whole(&mut self, peer: &Peer, frame: usize, reason: DropReason) {
        let sent = Transmitted::Dropped(reason);
        let len = self.batch.frame(frame).len();
        self.copied(&peer.counters, Egress::Peer(peer.id), frame, len, sent);
        if self.captures.follow(frame) {
            self.capture_copy(Place::Peer(peer.id), frame, sent);
        }
    }

    /// How frame number `frame` travels: what may share a message has this in common.
    pub(in crate::datapath) fn departure(
        &self,
        vtep: &Vtep,
        peer: &Peer,
        frame: usize,
    ) -> Departure {
        let frame = self.batch.frame(frame);
        let inner = vxlan::ecn::tos_of(frame);
        let dscp = match vtep.policy.dscp {
            Dscp::Fixed(dscp) => dscp & !0b11,
            Dscp::Inherit => inner.unwrap_or(0) & !0b11,
        };
        Departure {
            to: peer.to,
            flow: vxlan::entropy(frame),
            tos: dscp | vxlan::ecn::encapsulate(inner.unwrap_or(0)),
            segment: None,
        }
    }

    /// Makes datagrams of frame number `frame`. Those that the path does not take are lost; true if
    /// there were any.
    fn pack(&mut self, vtep: &Vtep, peer: &Peer, frame: usize) -> bool {
        let counters = peer.counters.worker(self.worker);
        let to = Egress::Peer(peer.id);
        let header = self.batch.header(frame);
        let bytes = self.batch.frame(frame);
        if ping::decode(bytes).is_some() {
            // Only this switch probes its peers, not who is plugged in.
            self.lose_whole(peer, frame, DropReason::ReservedAddress);
            return false;
        }
        let limit = peer.max_frame();
        let first = self.segments.len();
        if offload::append(&header, bytes, Some(limit), &mut self.segments).is_err() {
            self.lose_whole(peer, frame, DropReason::BadOffload);
            return false;
        }
        let count = self.segments.len() - first;
        if count > 1 {
            counters.segmented.add(1);
        }
        let mut is_too_big = false;
        for segment in first..first + count {
            let len = self
                .segments
                .get(segment)
                .map_or(0, |segment| segment.len());
            if len > limit + vxlan::HEADER_LEN {
                is_too_big = true;
                let len = len.saturating_sub(vxlan::HEADER_LEN);
                let sent = Transmitted::Dropped(DropReason::TooBig);
                counters.copied(sent, len);
                let lost = Lost::one(sent, len).with(peer.outer_size(len));
                self.lost(&peer.counters, to, frame, lost);
                if self.captures.follow(frame) {
                    self.capture_departure(vtep, peer, (frame, segment), sent);
                }
            } else {
                let datagram = Datagram {
                    segment,
                    frame,
                    len,
                };
                self.tunnel.datagrams.push(datagram);
            }
        }
        is_too_big
    }

    /// Sends the datagrams that wait, in messages of equal ones; only the last of a message may be
    /// shorter (`UDP_SEGMENT`).
    fn send_datagrams(&mut self, now: Timestamp, vtep: &Vtep, peer: &Peer, departure: Departure) {
        let counters = peer.counters.worker(self.worker);
        let mut start = 0;
        while let Some(first) = self.tunnel.datagrams.get(start) {
            let size = first.len;
            let rest = &self.tunnel.datagrams[start..];
            let equal = rest.iter().take_while(|next| next.len == size).count();
            let most = vtep.io.most_in_message().min(MOST_IN_MESSAGE);
            let most = most.min(LONGEST_MESSAGE / size.max(1)).max(1);
            // As even as possible: two halves arrive sooner than all but one and one.
            let mut count = equal.div_ceil(equal.div_ceil(most));
            let is_last = count == equal && count < most;
            if is_last && rest.get(count).is_some_and(|next| next.len < size) {
                count += 1;
            }
            let sent = self.send_message(vtep, departure, start..start + count);
            match sent {
                // The same once more, one by one.
                Departed::Unsupported if most > 1 => continue,
                Departed::TooLong => {
                    // The kernel has learned more of the path than this has been told.
                    if is_due(now, &mut self.tunnel.ask_at, ASK_INTERVAL)
                        && let Some(mtu) = vtep.io.path_mtu(peer.to)
                    {
                        peer.path.set(mtu);
                    }
                }
                _ => {}
            }
            let sent = outcome(sent);
            for datagram in &self.tunnel.datagrams[start..start + count] {
                let len = datagram.len - vxlan::HEADER_LEN;
                counters.copied(sent, len);
                if sent != Transmitted::Sent {
                    let is_too_big = sent == Transmitted::Dropped(DropReason::TooBig);
                    let detail = peer.outer_size(len).filter(|_| is_too_big);
                    let to = Egress::Peer(peer.id);
                    let lost = Lost::one(sent, len).with(detail);
                    self.lost(&peer.counters, to, datagram.frame, lost);
                }
            }
            if self.captures.are_on() {
                self.capture_message(vtep, peer, start..start + count, sent);
            }
            if sent == Transmitted::Sent {
                counters.coalesced.add(count as u64 - 1);
            }
            start += count;
        }
    }

    /// Sends some of the datagrams that wait as one message, from where they lie.
    fn send_message(&mut self, vtep: &Vtep, departure: Departure, which: Range<usize>) -> Departed {
        let datagrams = self.tunnel.datagrams.get(which).unwrap_or_default();
        let mut parts = [IoSlice::new(&[]); 2 * MOST_IN_MESSAGE];
        for (pair, datagram) in parts.chunks_exact_mut(2).zip(datagrams) {
            if let Some(segment) = self.segments.get(datagram.segment) {
                let frame = self.batch.frame(datagram.frame);
                pair[0] = IoSlice::new(segment.head);
                pair[1] = IoSlice::new(segment.payload_of(frame));
            }
        }
        let segment = match datagrams {
            [first, _, ..] => u16::try_from(first.len).ok(),
            _ => None,
        };
        let departure = Departure {
            segment,
            ..departure
        };
        let used = (2 * datagrams.len()).min(parts.len());
        self.calls.sends.add(1);
        let parts = &parts[..used];
        if !self.gathers {
            return vtep.io.transmit(&departure, parts);
        }
        gather(&mut self.gathered, parts);
        vtep.io
            .transmit(&departure, &[IoSlice::new(&self.gathered)])
    }
}

/// What writing a message means for each of its datagrams.
pub(super) fn outcome(sent: Departed) -> Transmitted {
    match sent {
        Departed::Sent => Transmitted::Sent,
        Departed::Dropped(reason) => Transmitted::Dropped(reason),
        Departed::TooLong => Transmitted::Dropped(DropReason::TooBig),
        Departed::Unsupported => Transmitted::Dropped(DropReason::EgressRefused),
    }
}

/// Datagrams in a message: `UDP_MAX_SEGMENTS` since Linux 6.9.
const MOST_IN_MESSAGE: usize = 128;
/// Bytes in a message: what UDP over IPv4 can carry.
const LONGEST_MESSAGE: usize = 65_507;
/// 100 a second: a path does not change more often.
const ASK_INTERVAL: u64 = 10_000_000;
/// Datagrams after which no further frame is taken along: a bound for what superframes of tiny
/// segments make of the memory for heads.
const ENOUGH: usize = 256;
