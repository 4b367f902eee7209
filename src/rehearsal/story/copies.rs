//! What becomes of the copies: offloads, encapsulation, MTU, delivery.

use etherparse::{
    Icmpv4Type, Icmpv6Type, LaxSlicedPacket, TransportSlice, icmpv4::DestUnreachableHeader,
};

use super::{Entrance, Teller, list, plural};
use crate::{
    bridge::{DropReason, Egress, PeerId, PortId},
    rehearsal::{Answer, Copied, Datagrams, Written},
    vxlan,
    wire::{GsoType, VirtioNetHdr, describe},
};

impl Teller<'_> {
    pub(super) fn copies(&mut self) {
        let copies = &self.rehearsal.copies;
        if copies.is_empty() {
            return self.answers();
        }
        self.say("offload", self.offload(copies));
        for copy in copies {
            if let (Egress::Peer(peer), Written::Messages(messages)) = (copy.to, &copy.written)
                && !messages.is_empty()
            {
                self.say("encap", self.encap(peer, messages));
            }
        }
        self.say("mtu", self.mtu(copies));
        for copy in copies {
            self.deliver(copy);
        }
        self.answers();
    }

    /// What is done to checksums and superframes, for whom.
    fn offload(&self, copies: &[Copied]) -> String {
        let mut done: Vec<(String, Vec<String>)> = Vec::new();
        for copy in copies {
            let what = self.offload_for(copy);
            let place = self.place(copy.to);
            match done.iter_mut().find(|(other, _)| *other == what) {
                Some((_, places)) => places.push(place),
                None => done.push((what, vec![place])),
            }
        }
        match done.as_slice() {
            [(what, _)] if what == AS_IT_IS => {
                "nothing to do: every copy leaves as it came".to_owned()
            }
            _ => {
                let parts = done
                    .iter()
                    .map(|(what, places)| format!("{what} for {}", list(places)));
                parts.collect::<Vec<_>>().join("; ")
            }
        }
    }

    fn offload_for(&self, copy: &Copied) -> String {
        let came = match self.entrance {
            Entrance::Port { header, .. } => header,
            Entrance::Underlay(_) => VirtioNetHdr::none(),
        };
        let totals = &copy.totals;
        match &copy.written {
            Written::Frames(frames) => {
                let header = frames.first().and_then(|bytes| VirtioNetHdr::read(bytes));
                let left = header.unwrap_or_default();
                if totals.segmented > 0 {
                    format!("segmented into {}", plural(totals.planned, "frame"))
                } else if totals.coalesced > 0 {
                    format!(
                        "{} joined into {}",
                        plural(totals.planned, "frame"),
                        plural(frames.len(), "superframe")
                    )
                } else if left.gso() != GsoType::None {
                    "passed on as a superframe".to_owned()
                } else if came.needs_csum() && left.needs_csum() {
                    "passed on with the checksum unfinished".to_owned()
                } else if came.needs_csum() && !frames.is_empty() {
                    "checksum finished".to_owned()
                } else {
                    AS_IT_IS.to_owned()
                }
            }
            Written::Messages(_) if totals.segmented > 0 => {
                format!("segmented into {}", plural(totals.planned, "frame"))
            }
            Written::Messages(_) if came.needs_csum() => "checksum finished".to_owned(),
            Written::Messages(_) => AS_IT_IS.to_owned(),
        }
    }

    fn encap(&self, peer: PeerId, messages: &[Datagrams]) -> String {
        let Some(first) = messages.first() else {
            return String::new();
        };
        let departure = &first.departure;
        let vni = vxlan::parse(&first.bytes).map(|(header, _)| header.vni.to_string());
        let vni = vni.unwrap_or_default();
        let from = first
            .source_port
            .map_or_else(String::new, |port| format!("{port} > "));
        let longest = departure.segment.map_or(first.bytes.len(), usize::from);
        let inner = longest.saturating_sub(vxlan::HEADER_LEN);
        let (ip, family) = if departure.to.is_ipv6() {
            (40, 6)
        } else {
            (20, 4)
        };
        let outer = longest + vxlan::ip_udp_len(departure.to.is_ipv6()) as usize;
        let count: usize = messages.iter().map(Datagrams::count).sum();
        let many = if count > 1 {
            format!(
                "{} in {}, of up to ",
                plural(count, "datagram"),
                plural(messages.len(), "message")
            )
        } else {
            String::new()
        };
        format!(
            "VNI {vni} for {}, UDP {from}{} by the inner flow; {many}{outer} bytes = {inner} inner + \
             8 VXLAN + 8 UDP + {ip} IPv{family}",
            self.names.peer(peer),
            departure.to.port(),
        )
    }

    fn mtu(&self, copies: &[Copied]) -> String {
        let longest = self
            .rehearsal
            .frames
            .iter()
            .map(|frame| frame.frame.len())
            .max();
        let longest = longest.unwrap_or(0);
        let mut fits: Vec<String> = Vec::new();
        let mut too_big: Vec<String> = Vec::new();
        for copy in copies {
            let is_too_big = copy
                .drops
                .iter()
                .any(|&(reason, _)| reason == DropReason::TooBig);
            let limit = match copy.to {
                Egress::Port(port) => self.port_limit(port),
                Egress::Peer(peer) => self.peer_limit(peer, is_too_big.then_some(longest)),
            };
            if is_too_big {
                too_big.push(limit);
            } else {
                fits.push(limit);
            }
        }
        let mut parts = Vec::new();
        if !fits.is_empty() {
            parts.push(format!("fits {}", list(&fits)));
        }
        if !too_big.is_empty() {
            parts.push(format!("too big for {}", list(&too_big)));
        }
        parts.join("; ")
    }

    fn port_limit(&self, port: PortId) -> String {
        let name = self.names.port(port);
        match self.topology.port(port) {
            Some(port) => format!("{name} (MTU {})", port.mtu()),
            None => name,
        }
    }

    /// With the arithmetic, where `inner` bytes do not fit.
    fn peer_limit(&self, id: PeerId, inner: Option<usize>) -> String {
        let name = self.names.peer(id);
        let Some(peer) = self.topology.vtep().and_then(|vtep| vtep.peer(id)) else {
            return name;
        };
        let path = peer.path.get();
        let around = vxlan::overhead(peer.to.is_ipv6());
        match inner {
            Some(inner) => {
                let outer = inner + vxlan::encap_len(peer.to.is_ipv6()) as usize;
                format!(
                    "the path to {name}: outer {outer} > path {path}; an MTU of {} fits",
                    path.saturating_sub(around)
                )
            }
            None => format!("the path to {name} (MTU {path})"),
        }
    }

    fn deliver(&mut self, copy: &Copied) {
        let place = self.place(copy.to);
        let (count, bytes) = (copy.totals.tx_frames, copy.totals.tx_bytes);
        if count > 0 {
            let what = match count {
                1 => plural(bytes, "byte"),
                _ => format!("{}, {}", plural(count, "frame"), plural(bytes, "byte")),
            };
            let verb = match copy.to {
                Egress::Port(_) => "delivered",
                Egress::Peer(_) => "sent",
            };
            self.say("deliver", format!("{place}: {verb}, {what}"));
        }
        for &(reason, lost) in &copy.drops {
            let what = match lost {
                1 if count == 0 => String::new(),
                _ => format!(" {}", plural(lost, "frame")),
            };
            let text = format!("{place}: dropped{what}, {reason}: {}", reason.explain());
            self.say("drop", text);
        }
    }

    fn answers(&mut self) {
        for answer in &self.rehearsal.answers {
            let text = match answer {
                Answer::TooBig { port, frame } => {
                    format!("{} is told: {}", self.names.port(*port), too_big(frame))
                }
                Answer::Probe(datagrams) => {
                    format!("the answer to a probe goes to {}", datagrams.departure.to)
                }
            };
            self.say("answer", text);
        }
        for &(to, reason, _) in &self.rehearsal.lost_answers {
            let place = self.place(to);
            let text = format!(
                "the answer to {place}: dropped, {reason}: {}",
                reason.explain()
            );
            self.say("drop", text);
        }
    }
}

/// What such an answer says (RFC 1191 §4, RFC 4443 §3.2).
fn too_big(frame: &[u8]) -> String {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return describe(frame);
    };
    match packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => match icmp.icmp_type() {
            Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
                next_hop_mtu,
            }) => format!("ICMP fragmentation needed, MTU {next_hop_mtu}"),
            _ => describe(frame),
        },
        Some(TransportSlice::Icmpv6(icmp)) => match icmp.icmp_type() {
            Icmpv6Type::PacketTooBig { mtu } => format!("ICMPv6 packet too big, MTU {mtu}"),
            _ => describe(frame),
        },
        _ => describe(frame),
    }
}

const AS_IT_IS: &str = "nothing to do";
