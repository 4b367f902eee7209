//! Frames from and to remote VTEPs: datagrams to frames, and frames to as few messages as possible.

use std::{io::IoSlice, net::IpAddr, ops::Range};

use zerocopy::IntoBytes;

use super::{
    Arrival, Arrived, Batch, Datapath, Departed, Departure, Dscp, Peer, SUPERFRAME, Serviced,
    Topology, Transmitted, Vtep,
    capture::{Fate, Place},
    gather,
    record::Lost,
};
use crate::{
    bridge::{Decision, DropReason, Egress, Ingress, Learn, PeerId, PortId, Verdict},
    offload::{self, Mark},
    time::Timestamp,
    vxlan::{
        self,
        ping::{self, Probe},
        too_big,
    },
    wire::{EtherType, Frame, VirtioNetHdr, Vni},
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
    /// The last copy in the plan for each remote VTEP, and which of them there are.
    lasts: Box<[u32]>,
    planned: Vec<PeerId>,
    pub(super) answer: too_big::Answer,
    pub(super) reply: Vec<u8>,
    /// When each port may be told again that a frame of its is too big.
    answer_at: Box<[Timestamp]>,
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
            lasts: vec![NONE; PeerId::LIMIT].into_boxed_slice(),
            planned: Vec::with_capacity(PeerId::LIMIT),
            answer: too_big::Answer::new(),
            reply: Vec::with_capacity(Batch::CAPACITY),
            answer_at: vec![Timestamp::ZERO; PortId::LIMIT].into_boxed_slice(),
            reply_at: Timestamp::ZERO,
            ask_at: Timestamp::ZERO,
            tell_at: Timestamp::ZERO,
        }
    }
}

impl Scratch {
    /// Takes note that the copy at `position` of the plan is for `peer`, and returns where the one
    /// before it is.
    #[inline]
    pub(super) fn last_for(&mut self, peer: PeerId, position: usize) -> Option<usize> {
        let last = self.lasts.get_mut(peer.index())?;
        let before = std::mem::replace(last, u32::try_from(position).unwrap_or(NONE));
        if before == NONE {
            self.planned.push(peer);
            return None;
        }
        usize::try_from(before).ok()
    }

    /// For the next plan.
    #[inline]
    pub(super) fn forget_lasts(&mut self) {
        for peer in self.planned.drain(..) {
            if let Some(last) = self.lasts.get_mut(peer.index()) {
                *last = NONE;
            }
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

impl Datapath {
    /// Step 1 for the underlay: reads messages until there are none, the batch is full, or a long
    /// one came. Datagrams without a bridge are counted here and go no further.
    pub(super) fn receive_underlay(&mut self, now: Timestamp, vtep: &Vtep) -> Serviced {
        self.batch.clear();
        self.recording.begin(now, Ingress::Peer(PeerId::STRANGER));
        self.origins.clear();
        self.marks.clear();
        let mut serviced = Serviced {
            more: true,
            ..Serviced::default()
        };
        let mut bytes = 0;
        while bytes < ENOUGH_BYTES
            && let Some(room) = self.batch.vacant_message()
        {
            self.calls.receives.add(1);
            match vtep.io.receive(room) {
                Arrived::Message(arrival) => {
                    serviced.frames += self.unpack(now, vtep, &arrival);
                    self.batch.end_message(arrival.len);
                    bytes += arrival.len;
                    if arrival.len > SUPERFRAME {
                        break;
                    }
                }
                Arrived::Empty => {
                    serviced.more = false;
                    break;
                }
            }
        }
        serviced.bytes = bytes;
        serviced
    }

    /// Finds the frames in a message. A broken datagram costs nothing but itself.
    fn unpack(&mut self, now: Timestamp, vtep: &Vtep, arrival: &Arrival) -> usize {
        let datagrams = vxlan::split(
            self.batch.message(arrival.len),
            arrival.segment.unwrap_or_default(),
        );
        let superframe = arrival.segment.filter(|_| datagrams.is_superframe());
        let is_suspect = datagrams.is_suspect();
        let count = datagrams.len();
        // The datagrams of a message mostly have one VNI.
        let mut last = None;
        for range in datagrams {
            let origin = if is_suspect {
                Err(DropReason::BadOffload)
            } else {
                self.origin(now, vtep, arrival, range.clone(), last)
            };
            match origin {
                Ok(origin) => {
                    last = Some(origin);
                    self.unpack_frame(now, vtep, arrival, origin, range, superframe);
                }
                Err(reason) => {
                    let counters = vtep.counters.worker(self.worker);
                    counters.rx_frames.add(1);
                    counters.rx_bytes.add(range.len() as u64);
                    counters.ingress_drops[reason.index()].add(1);
                    self.refused(vtep, arrival, PeerId::STRANGER, reason, range.clone());
                    if self.captures.are_on() {
                        let fate = Fate::Dropped(reason);
                        self.capture_datagram(vtep, arrival, PeerId::STRANGER, range, fate);
                    }
                }
            }
        }
        count
    }

    /// Whose the datagram in `range` of the message is, or why it is nobody's.
    fn origin(
        &mut self,
        now: Timestamp,
        vtep: &Vtep,
        arrival: &Arrival,
        range: Range<usize>,
        last: Option<Sender>,
    ) -> Result<Sender, DropReason> {
        let datagram = self.batch.message(range.end);
        let datagram = datagram.get(range.start..).unwrap_or_default();
        let (header, _) = vxlan::parse(datagram).map_err(|bad| match bad {
            vxlan::BadDatagram::Runt { .. } => DropReason::VxlanRunt,
            vxlan::BadDatagram::NoVni => DropReason::NoVni,
        })?;
        if header.reserved && vtep.policy.is_strict {
            return Err(DropReason::ReservedBits);
        }
        if let Some(last) = last
            && last.header.vni == header.vni
        {
            return Ok(Sender { header, ..last });
        }
        let bridge = vtep.bridge(header.vni).ok_or(DropReason::UnknownVni)?;
        let peer = match vtep.peer_at(bridge, arrival.from) {
            Some(peer) => peer.id,
            None if arrival.from == vtep.policy.local => return Err(DropReason::OwnPacket),
            None if !vtep.policy.accepts_any => return Err(DropReason::UnknownPeer),
            None => {
                if is_due(now, &mut self.tunnel.tell_at, TELL_INTERVAL) {
                    self.tell(OverlayNews::Stranger(Stranger {
                        vni: header.vni,
                        from: arrival.from,
                    }));
                }
                PeerId::STRANGER
            }
        };
        let origin = Origin { peer, bridge };
        Ok(Sender { header, origin })
    }

    #[cold]
    fn tell(&self, news: OverlayNews) {
        if let Some(sink) = &self.overlay_news {
            // A full queue means that enough is being told; what is lost here comes again.
            let _ = sink.try_send(news);
        }
    }

    /// Makes the datagram in `range` of the message a frame of the batch, unless it ends here.
    fn unpack_frame(
        &mut self,
        now: Timestamp,
        vtep: &Vtep,
        arrival: &Arrival,
        Sender { header, origin }: Sender,
        range: Range<usize>,
        superframe: Option<usize>,
    ) {
        let peer = vtep.peer(origin.peer);
        let counters = peer.map_or(&vtep.counters, |peer| &peer.counters);
        let counters = counters.worker(self.worker);
        counters.rx_frames.add(1);
        let range = (range.start + vxlan::HEADER_LEN).min(range.end)..range.end;
        counters.rx_bytes.add(range.len() as u64);
        if header.reserved {
            counters.reserved_bits.add(1);
        }
        if self.captures.are_on() {
            // As it came: what follows may change the inner packet.
            let datagram = range.start - vxlan::HEADER_LEN..range.end;
            self.capture_arrival(vtep, arrival, origin.peer, datagram);
        }
        let frame = self.batch.message(range.end);
        let frame = frame.get_mut(range.start..).unwrap_or_default();
        if vxlan::ecn::decapsulate(arrival.tos, frame).is_err() {
            counters.ingress_drops[DropReason::Ecn.index()].add(1);
            let range = range.start - vxlan::HEADER_LEN..range.end;
            return self.refused(vtep, arrival, origin.peer, DropReason::Ecn, range);
        }
        if let (Some(probe), Some(peer)) = (ping::decode(frame), peer) {
            counters.forwarded.add(1);
            let len = frame.len();
            if self.captures.are_on() {
                self.capture_ended(origin.peer, range, Fate::Consumed);
            }
            return self.answer_probe(now, vtep, peer, &probe, len);
        }
        let mark = Mark::of(frame, superframe, vtep.least_mtu(origin.bridge));
        let header = mark.header();
        if self.batch.push_part(range.clone(), &header) {
            self.origins.push(origin);
            self.marks.push(mark);
        } else {
            counters.ingress_drops[DropReason::EgressFull.index()].add(1);
            if self.captures.are_on() {
                let fate = Fate::Dropped(DropReason::EgressFull);
                self.capture_ended(origin.peer, range.clone(), fate);
            }
            let range = range.start - vxlan::HEADER_LEN..range.end;
            self.refused(vtep, arrival, origin.peer, DropReason::EgressFull, range);
        }
    }

    /// Writes down that the datagram in `range` of the message, which `peer` sent, goes no further.
    #[cold]
    fn refused(
        &mut self,
        vtep: &Vtep,
        arrival: &Arrival,
        peer: PeerId,
        reason: DropReason,
        range: Range<usize>,
    ) {
        let room = self.batch.waiting(range);
        let header = vxlan::parse(room).ok();
        let (frame, vni) = match header {
            Some((header, frame)) => (frame, Some(header.vni.get())),
            None => (room, None),
        };
        let counters = vtep
            .peer(peer)
            .map_or(&vtep.counters, |peer| &peer.counters);
        self.lost_datagram(counters, peer, reason, (frame, vni, arrival.from));
    }

    /// Steps 2 to 4 for a batch from the underlay.
    pub(super) fn forward_tunnelled(&mut self, now: Timestamp, topology: &Topology, vtep: &Vtep) {
        self.clear_plan();
        self.cache.fetch(self.batch.frames());
        for index in 0..self.batch.len() {
            let Some(&Origin { peer, bridge }) = self.origins.get(index) else {
                return;
            };
            let counters = vtep
                .peer(peer)
                .map_or(&vtep.counters, |peer| &peer.counters);
            let counters = counters.worker(self.worker);
            let Some(bridge) = topology.bridges().get(bridge) else {
                counters.ingress_drops[DropReason::UnknownVni.index()].add(1);
                let verdict = Verdict {
                    learn: Learn::Off,
                    decision: Decision::Drop(DropReason::UnknownVni),
                };
                self.recording.decided(index, verdict, 0);
                if self.captures.are_on() {
                    self.capture_homeless(peer, index);
                }
                continue;
            };
            match self.settle(now, bridge, Ingress::Peer(peer), index) {
                None => counters.forwarded.add(1),
                Some(reason) => counters.ingress_drops[reason.index()].add(1),
            }
        }
        self.cache.batch_ended(self.batch.len());
    }

    /// Step 5 for remote VTEPs: sends the copy at `position` of the plan, and with it all later
    /// ones of the same inner flow to the same VTEP, in as few messages as possible.
    pub(super) fn transmit_to_peer(
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
        let departure = self.departure(vtep, peer, usize::from(first.frame));
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
        if self.pack(vtep, peer, frame) && vtep.policy.answers_too_big && !copy.is_flooded {
            self.answer_too_big(now, topology, frame, peer.max_frame(), ingress);
        }
    }

    /// How frame number `frame` travels: what may share a message has this in common.
    pub(super) fn departure(&self, vtep: &Vtep, peer: &Peer, frame: usize) -> Departure {
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
            let sent = Transmitted::Dropped(DropReason::ReservedAddress);
            self.copied(&peer.counters, to, frame, bytes.len(), sent);
            if self.captures.are_on() {
                self.capture_copy(Place::Peer(peer.id), frame, sent);
            }
            return false;
        }
        let limit = peer.max_frame();
        let first = self.segments.len();
        if offload::append(&header, bytes, Some(limit), &mut self.segments).is_err() {
            let sent = Transmitted::Dropped(DropReason::BadOffload);
            self.copied(&peer.counters, to, frame, bytes.len(), sent);
            if self.captures.are_on() {
                self.capture_copy(Place::Peer(peer.id), frame, sent);
            }
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
                if self.captures.are_on() {
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

    /// Tells the sender of frame number `frame` what the path takes.
    #[cold]
    fn answer_too_big(
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
        let frame = self.batch.frame(frame);
        let mtu = limit.saturating_sub(headers_of_layer_2(frame));
        let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
        // What nobody can be told does not use up what others may be.
        if !too_big::answer(frame, mtu, &mut self.tunnel.answer)
            || !is_due(now, at, ANSWER_INTERVAL)
        {
            return;
        }
        let answer = self.tunnel.answer.as_bytes();
        let plain = VirtioNetHdr::none();
        let parts = [IoSlice::new(plain.as_bytes()), IoSlice::new(answer)];
        self.calls.writes.add(1);
        let sent = port.io.transmit_parts(&parts);
        port.counters.worker(self.worker).copied(sent, answer.len());
        self.lost_own(&port.counters, Egress::Port(port.id), answer, sent);
        if self.captures.are_on() {
            self.capture_answer(port.id, sent);
        }
    }

    /// Answers a probe of a peer, or hands the answer to ours on.
    #[cold]
    fn answer_probe(
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
        if self.captures.are_on() {
            self.capture_reply(vtep, peer, &departure, sent);
        }
    }
}

/// What writing a message means for each of its datagrams.
fn outcome(sent: Departed) -> Transmitted {
    match sent {
        Departed::Sent => Transmitted::Sent,
        Departed::Dropped(reason) => Transmitted::Dropped(reason),
        Departed::TooLong => Transmitted::Dropped(DropReason::TooBig),
        Departed::Unsupported => Transmitted::Dropped(DropReason::EgressRefused),
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

/// Whether another one may go out, `interval` nanoseconds apart but for a burst of [`BURST`].
fn is_due(now: Timestamp, at: &mut Timestamp, interval: u64) -> bool {
    let earliest = (*at).max(now);
    let is_due = earliest.nanos_since(now) < interval * BURST;
    if is_due {
        *at = earliest + std::time::Duration::from_nanos(interval);
    }
    is_due
}

/// Datagrams in a message: `UDP_MAX_SEGMENTS` since Linux 6.9.
const MOST_IN_MESSAGE: usize = 128;
/// Bytes in a message: what UDP over IPv4 can carry.
const LONGEST_MESSAGE: usize = 65_507;
/// 100 a second and port: enough for every flow to hear of it within a retransmission.
const ANSWER_INTERVAL: u64 = 10_000_000;
/// 10,000 a second: enough to measure, and a bound for what a peer can make the switch send.
const REPLY_INTERVAL: u64 = 100_000;
/// 100 a second: a path does not change more often.
const ASK_INTERVAL: u64 = 10_000_000;
/// Datagrams after which no further frame is taken along: a bound for what superframes of tiny
/// segments make of the memory for heads.
const ENOUGH: usize = 256;
/// 1,000 strangers a second: meeting one takes the control side a while.
const TELL_INTERVAL: u64 = 1_000_000;
/// No copy.
const NONE: u32 = u32::MAX;
/// Bytes of small messages in a batch: then it is the ports' turn.
const ENOUGH_BYTES: usize = 64 * 1024;
/// What may go out at once before the interval counts.
const BURST: u64 = 20;
