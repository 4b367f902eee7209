//! Where the frame path shows captures what it does. Nothing here is called unless one runs, and but
//! for the choices nothing for a frame that none has chosen.

use std::{net::SocketAddr, ops::Range};

use super::{
    Arrival, Datapath, Departure, Peer, Topology, Transmitted, Vtep,
    capture::{CaptureRules, Fate, Form, Outer, Place, Record, Row, Side},
};
use crate::{
    bridge::{Bridge, Decision, DropReason, FdbKey, Ingress, PeerId, PortId, Verdict},
    config::Mode,
    vxlan::{self, ecn, ping},
    wire::{Frame, VirtioNetHdr},
};

impl Datapath {
    /// Takes part in the captures of `topology`, and in no others. To be called between two batches,
    /// whenever there is another topology.
    pub fn adopt(&mut self, topology: &Topology) {
        self.captures.adopt(self.worker, topology.captures());
        self.is_watched = self.captures.are_on() || self.observer.is_some();
    }

    /// Hands over what has been captured and not been asked for yet. To be called when a reader that
    /// could not keep up has caught up.
    pub fn flush_captures(&mut self) {
        if self.captures.are_on() {
            self.captures.flush();
        }
    }

    /// Whether a capture has frame number `index`, about which was decided: its copies are in the plan
    /// from number `planned` on. One from a port is chosen here, one from the underlay was before.
    pub(super) fn choose_decided(
        &mut self,
        ingress: Ingress,
        index: usize,
        planned: usize,
    ) -> bool {
        let copies = self.plan.get(planned..).unwrap_or_default();
        let copies = |rules: &CaptureRules| {
            let each = copies.iter().map(|copy| rules.records(copy.to.into()));
            each.sum::<u64>()
        };
        let Ingress::Port(port) = ingress else {
            let is_chosen = self.captures.follow(index);
            if is_chosen {
                // One copy has been paid for.
                self.captures.pay(|rules| copies(rules).saturating_sub(1));
            }
            return is_chosen;
        };
        let place = Place::Port(port);
        let cost = |rules: &CaptureRules| rules.records(place) + copies(rules);
        self.captures
            .choose(index, place, self.batch.frame(index), cost)
    }

    /// Whether a capture has the datagram in `range` of the message in the vacant room, which will be
    /// the next frame of the batch, if it becomes one.
    #[inline]
    pub(super) fn choose_arrival(&mut self, peer: PeerId, range: Range<usize>) -> bool {
        if !self.captures.are_on() {
            return false;
        }
        let place = Place::from(Ingress::Peer(peer));
        let index = self.batch.len();
        let start = (range.start + vxlan::HEADER_LEN).min(range.end);
        let frame = self.batch.message(range.end);
        let frame = frame.get(start..).unwrap_or_default();
        // One copy is the least that becomes of it, mostly.
        let cost = |rules: &CaptureRules| rules.records(place) + 1;
        self.captures.choose(index, place, frame, cost)
    }

    /// A frame of the batch, and what was decided about it.
    #[cold]
    pub(super) fn capture_decision(
        &mut self,
        bridge: &Bridge,
        ingress: Ingress,
        index: usize,
        verdict: &Verdict,
        copies: usize,
    ) {
        let place = Place::from(ingress);
        let frame = self.batch.frame(index);
        let fate = Fate::of(verdict.decision, copies);
        let record = Record {
            learn: verdict.learn,
            row: row(bridge, verdict.decision, frame),
            header: self.batch.header(index),
            ..Record::new(place, Side::In, Form::Inner, fate)
        };
        self.captures.capture(record, None, &[frame]);
    }

    /// A frame from the underlay that goes no further than the endpoint.
    #[cold]
    pub(super) fn capture_ended(&mut self, peer: PeerId, frame: Range<usize>, fate: Fate) {
        let place = Place::from(Ingress::Peer(peer));
        let record = Record::new(place, Side::In, Form::Inner, fate);
        let bytes = self.batch.message(frame.end);
        let bytes = bytes.get(frame.start..).unwrap_or_default();
        self.captures.capture(record, None, &[bytes]);
    }

    /// A datagram of a message in the vacant room.
    #[cold]
    pub(super) fn capture_datagram(
        &mut self,
        vtep: &Vtep,
        arrival: &Arrival,
        peer: PeerId,
        range: Range<usize>,
        fate: Fate,
    ) {
        let place = Place::from(Ingress::Peer(peer));
        let record = Record::new(place, Side::In, Form::Outer, fate);
        let outer = Outer {
            from: SocketAddr::new(arrival.from, arrival.port),
            to: SocketAddr::new(vtep.policy.local, vtep.policy.port),
            tos: arrival.tos,
            ttl: vtep.policy.ttl,
        };
        let datagram = self.batch.message(range.end);
        let datagram = datagram.get(range.start..).unwrap_or_default();
        self.captures.capture(record, Some(&outer), &[datagram]);
    }

    /// A datagram with a frame in it, before that is taken out.
    #[cold]
    pub(super) fn capture_arrival(
        &mut self,
        vtep: &Vtep,
        arrival: &Arrival,
        peer: PeerId,
        range: Range<usize>,
    ) {
        let start = (range.start + vxlan::HEADER_LEN).min(range.end);
        let bytes = self.batch.message(range.end);
        // What will become of it, found out on a copy.
        self.gathered.clear();
        self.gathered
            .extend_from_slice(bytes.get(start..).unwrap_or_default());
        let fate = if ecn::decapsulate(arrival.tos, &mut self.gathered).is_err() {
            Fate::Dropped(DropReason::Ecn)
        } else if peer != PeerId::STRANGER && ping::decode(&self.gathered).is_some() {
            Fate::Consumed
        } else {
            Fate::Decapsulated
        };
        self.capture_datagram(vtep, arrival, peer, range, fate);
    }

    /// Frame number `index` from the underlay, whose bridge is gone.
    #[cold]
    pub(super) fn capture_homeless(&mut self, peer: PeerId, index: usize) {
        let place = Place::from(Ingress::Peer(peer));
        let fate = Fate::Dropped(DropReason::UnknownVni);
        let record = Record::new(place, Side::In, Form::Inner, fate);
        let frame = self.batch.frame(index);
        self.captures.capture(record, None, &[frame]);
    }

    /// A copy whose egress is gone, where its frame came in.
    #[cold]
    pub(super) fn capture_lost(&mut self, frame: usize, sent: Transmitted) {
        if let Some(from) = self.came_from(frame) {
            self.capture_copy(from.into(), frame, sent);
        }
    }

    /// What came of frame number `frame` at its egress, where it was not cut.
    #[cold]
    pub(super) fn capture_copy(&mut self, place: Place, frame: usize, sent: Transmitted) {
        let record = Record {
            from: self.came_from(frame),
            header: self.batch.header(frame),
            ..Record::new(place, Side::Out, Form::Inner, Fate::sent(sent, 1))
        };
        let frame = self.batch.frame(frame);
        self.captures.capture(record, None, &[frame]);
    }

    /// What came of so many frames, of which `first` is one, that were joined in `gathered`.
    #[cold]
    pub(super) fn capture_joined(
        &mut self,
        port: PortId,
        first: usize,
        sent: Transmitted,
        count: usize,
    ) {
        let record = Record {
            from: self.came_from(first),
            header: VirtioNetHdr::read(&self.gathered).unwrap_or_default(),
            ..Record::new(
                Place::Port(port),
                Side::Out,
                Form::Inner,
                Fate::sent(sent, count),
            )
        };
        let frame = self.gathered.get(VirtioNetHdr::LEN..).unwrap_or_default();
        self.captures.capture(record, None, &[frame]);
    }

    /// What came of segment number `segment` of frame number `frame` at a port.
    #[cold]
    pub(super) fn capture_segment(
        &mut self,
        port: PortId,
        frame: usize,
        segment: usize,
        sent: Transmitted,
    ) {
        self.captures.piece(Place::Port(port), frame);
        let record = Record {
            from: self.came_from(frame),
            ..Record::new(
                Place::Port(port),
                Side::Out,
                Form::Inner,
                Fate::sent(sent, 1),
            )
        };
        if let Some(segment) = self.segments.get(segment) {
            let payload = segment.payload_of(self.batch.frame(frame));
            self.captures
                .capture(record, None, &[segment.head, payload]);
        }
    }

    /// What came of some of the datagrams that wait to be sent.
    pub(super) fn capture_message(
        &mut self,
        vtep: &Vtep,
        peer: &Peer,
        which: Range<usize>,
        sent: Transmitted,
    ) {
        for index in which {
            if let Some(datagram) = self.tunnel.datagrams.get(index)
                && self.captures.follow(datagram.frame)
            {
                let which = (datagram.frame, datagram.segment);
                self.capture_departure(vtep, peer, which, sent);
            }
        }
    }

    /// What came of a datagram for a remote VTEP: segment number `segment` of frame number `frame`.
    #[cold]
    pub(super) fn capture_departure(
        &mut self,
        vtep: &Vtep,
        peer: &Peer,
        (frame, segment): (usize, usize),
        sent: Transmitted,
    ) {
        let Some(segment) = self.segments.get(segment) else {
            return;
        };
        let place = Place::Peer(peer.id);
        self.captures.piece(place, frame);
        let inner = segment.head.get(vxlan::HEADER_LEN..).unwrap_or_default();
        let from = self.came_from(frame);
        let departure = self.departure(vtep, peer, frame);
        let record = |form| Record {
            from,
            ..Record::new(place, Side::Out, form, Fate::sent(sent, 1))
        };
        let payload = segment.payload_of(self.batch.frame(frame));
        self.captures
            .capture(record(Form::Inner), None, &[inner, payload]);
        let outer = outgoing(vtep, &departure);
        self.captures
            .capture(record(Form::Outer), Some(&outer), &[segment.head, payload]);
    }

    /// A frame that the switch made itself, for a port.
    #[cold]
    pub(super) fn capture_answer(&mut self, port: PortId, sent: Transmitted) {
        let place = Place::Port(port);
        let record = Record::new(place, Side::Out, Form::Inner, Fate::sent(sent, 1));
        let answer = self.tunnel.answer.as_bytes();
        self.captures.capture(record, None, &[answer]);
    }

    /// And one for a remote VTEP.
    #[cold]
    pub(super) fn capture_reply(
        &mut self,
        vtep: &Vtep,
        peer: &Peer,
        departure: &Departure,
        sent: Transmitted,
    ) {
        let header = vxlan::header(peer.vni);
        let reply = &self.tunnel.reply[..];
        let (place, fate) = (Place::Peer(peer.id), Fate::sent(sent, 1));
        let record = |form| Record::new(place, Side::Out, form, fate);
        self.captures.capture(record(Form::Inner), None, &[reply]);
        let outer = outgoing(vtep, departure);
        self.captures
            .capture(record(Form::Outer), Some(&outer), &[&header, reply]);
    }

    /// Where a frame of the batch came in.
    fn came_from(&self, frame: usize) -> Option<Ingress> {
        Some(match self.captures.ingress {
            Ingress::Port(port) => Ingress::Port(port),
            Ingress::Peer(_) => Ingress::Peer(self.origins.get(frame)?.peer),
        })
    }
}

/// The headers of what goes out.
fn outgoing(vtep: &Vtep, departure: &Departure) -> Outer {
    let port = vtep.io.source_port(departure.flow).unwrap_or(0);
    Outer {
        from: SocketAddr::new(vtep.policy.local, port),
        to: departure.to,
        tos: departure.tos,
        ttl: vtep.policy.ttl,
    }
}

/// The row of the FDB that a decision comes from, as it is now: a moment after the decision.
fn row(bridge: &Bridge, decision: Decision, frame: &[u8]) -> Option<Row> {
    let is_looked_up = match decision {
        Decision::Forward(_) => true,
        Decision::Flood(_) => false,
        Decision::Drop(reason) => matches!(
            reason,
            DropReason::SamePort
                | DropReason::Isolated
                | DropReason::EgressDown
                | DropReason::SplitHorizon
        ),
    };
    if !is_looked_up || bridge.mode() != Mode::Switch {
        return None;
    }
    let frame = Frame::new_checked(frame).ok()?;
    let key = FdbKey::new(frame.dst(), frame.vlan());
    let entry = bridge.fdb().get(key)?;
    Some(Row { key, entry })
}
