//! From the underlay: datagrams to frames, and what becomes of those.

use std::ops::Range;

use super::{Origin, OverlayNews, Sender, Stranger, is_due};
use crate::{
    bridge::{Decision, DropReason, Ingress, Learn, PeerId, Verdict},
    datapath::{Arrival, Arrived, Datapath, SUPERFRAME, Serviced, Topology, Vtep, capture::Fate},
    offload::Mark,
    time::Timestamp,
    vxlan::{self, ping},
};

impl Datapath {
    /// Step 1 for the underlay: reads messages until there are none, the batch is full, or a long
    /// one came. Datagrams without a bridge are counted here and go no further.
    pub(in crate::datapath) fn receive_underlay(
        &mut self,
        now: Timestamp,
        vtep: &Vtep,
    ) -> Serviced {
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
                    serviced.superframe = arrival.len > SUPERFRAME;
                    if serviced.superframe {
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
                    if self.choose_arrival(PeerId::STRANGER, range.clone()) {
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
    pub(super) fn tell(&self, news: OverlayNews) {
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
        let datagram = range.start - vxlan::HEADER_LEN..range.end;
        let is_captured = self.choose_arrival(origin.peer, datagram.clone());
        if is_captured {
            // As it came: what follows may change the inner packet.
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
            if is_captured {
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
            if is_captured {
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
    pub(in crate::datapath) fn forward_tunnelled(
        &mut self,
        now: Timestamp,
        topology: &Topology,
        vtep: &Vtep,
    ) {
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
                if self.captures.follow(index) {
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
}

/// 1,000 strangers a second: meeting one takes the control side a while.
const TELL_INTERVAL: u64 = 1_000_000;
/// Bytes of small messages in a batch: then it is the ports' turn.
const ENOUGH_BYTES: usize = 64 * 1024;
