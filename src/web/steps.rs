//! What became of a captured frame and why, step by step, in the words of `tapswitch trace`.

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::hub::explain;
use crate::{
    config::Mode,
    control::api::{
        BridgeInfo, CapturedFrame, FdbState, PeerKind, PortInfo, PortState, ShowInfo, TraceStep,
    },
    vxlan,
    wire::{Frame, describe_header},
};

/// The steps of `frame` where it was captured; `show` is its switch a moment ago.
pub(super) fn steps(frame: &CapturedFrame, show: Option<&ShowInfo>) -> Vec<TraceStep> {
    let bytes = frame.hex.as_ref().map_or(&[][..], |hex| &hex.0);
    let mut teller = Teller {
        frame,
        bytes,
        show,
        steps: Vec::new(),
    };
    match (frame.form.as_str(), frame.side.as_str()) {
        ("datagram", "in") => teller.arrival(),
        ("datagram", _) => teller.departure(),
        (_, "in") => teller.decision(),
        _ => teller.copy(),
    }
    teller.steps
}

struct Teller<'a> {
    frame: &'a CapturedFrame,
    bytes: &'a [u8],
    show: Option<&'a ShowInfo>,
    steps: Vec<TraceStep>,
}

impl Teller<'_> {
    fn say(&mut self, step: &str, text: impl Into<String>) {
        self.steps.push(TraceStep {
            step: step.to_owned(),
            text: text.into(),
        });
    }

    /// The place without what says its form: `podA`, `192.0.2.1`.
    fn here(&self) -> &str {
        place(&self.frame.interface)
    }

    fn bridge(&self) -> Option<&BridgeInfo> {
        let name = self.frame.bridge.as_ref()?;
        let mut bridges = self.show?.bridges.iter();
        bridges.find(|bridge| bridge.spec.name == *name)
    }

    /// Unknown as long as nothing is known of the switch.
    fn mode(&self) -> Option<Mode> {
        self.bridge().map(|bridge| bridge.spec.mode)
    }

    /// Whether a source is looked at where the frame came in, which is not so for every frame that is
    /// lost.
    fn is_learning(&self) -> bool {
        let Some(show) = self.show else { return false };
        let here = self.here();
        let mut ports = show.ports.iter();
        let port = ports.find(|port| port.name.as_str() == here);
        self.frame.reason.is_none()
            && port.is_none_or(|port| port.flags.get("learning") == Some(&true))
    }

    fn bridge_name(&self) -> &str {
        let name = self.frame.bridge.as_ref();
        name.map_or("the bridge", |name| name.as_str())
    }

    /// A frame, where it comes in: all that leads to the decision.
    fn decision(&mut self) {
        let Ok(frame) = Frame::new_checked(self.bytes) else {
            self.say(
                "parse",
                format!("{} bytes: no whole Ethernet header", self.frame.len),
            );
            return self.end();
        };
        self.parse(&frame);
        let here = self.here().to_owned();
        match self.mode() {
            Some(Mode::Hub) => {
                let name = self.bridge_name().to_owned();
                self.say(
                    "source",
                    format!("{name} is a hub, which repeats and learns nothing"),
                );
            }
            Some(Mode::Wire) => {
                let name = self.bridge_name().to_owned();
                self.say(
                    "source",
                    format!("{name} is a wire, which joins its two ports"),
                );
            }
            Some(Mode::Switch) | None => {
                match &self.frame.learned {
                    Some(learned) => self.say("learn", learned.clone()),
                    None if self.is_learning() => {
                        let text = format!("nothing new about {} on {here}", frame.src());
                        self.say("learn", text);
                    }
                    None => {}
                }
                self.look_up(&frame);
            }
        }
        self.end();
    }

    fn parse(&mut self, frame: &Frame<'_>) {
        let mut text = describe_header(frame);
        if let Some(offload) = &self.frame.offload {
            text += &match offload.as_str() {
                "checksum" => "; its checksum is left to be finished".to_owned(),
                other => format!("; a superframe: {other}"),
            };
        }
        self.say("parse", text);
    }

    fn look_up(&mut self, frame: &Frame<'_>) {
        let (dst, name) = (frame.dst(), self.bridge_name());
        let vlan = match frame.vlan() {
            0 => "-".to_owned(),
            vlan => vlan.to_string(),
        };
        let text = if let Some(row) = &self.frame.fdb {
            let kind = match row.state {
                FdbState::Learned => format!("learned, seen {:.1} s ago", row.age_s),
                FdbState::Static => "static".to_owned(),
                FdbState::Local => "local".to_owned(),
                FdbState::Control => "control".to_owned(),
            };
            format!("FDB row {name} {dst} vlan {vlan} {} {kind}", row.at)
        } else if dst.is_broadcast() {
            "broadcast: for everybody, no FDB row".to_owned()
        } else if dst.is_group() {
            format!("{dst} is a group: multicast, no FDB row")
        } else if self.frame.verdict == "flooded" {
            format!("{name} has no FDB row for {dst}, vlan {vlan}: unknown unicast")
        } else {
            return;
        };
        self.say("look-up", text);
    }

    /// What was decided.
    fn end(&mut self) {
        let frame = self.frame;
        match (frame.verdict.as_str(), &frame.to, &frame.reason) {
            ("forwarded", Some(to), _) => {
                self.say("forward", format!("to {to}, and nowhere else"));
                if let Ok(peer) = to.parse::<IpAddr>() {
                    self.encap(peer, frame.len);
                }
            }
            ("flooded", Some(to), _) => {
                let places = self.flooded_to(to);
                let text = match &places {
                    Some(places) => format!("{to}: to {}", places.join(", ")),
                    None if to == "1" => "to 1 place".to_owned(),
                    None => format!("to {to} places"),
                };
                self.say("flood", text);
                let peers = places.iter().flatten();
                for peer in peers.filter_map(|place| place.parse().ok()) {
                    self.encap(peer, frame.len);
                }
            }
            (_, _, Some(reason)) => self.dropped(reason),
            ("consumed", ..) => self.say("probe", "a probe of another tapswitch: answered here"),
            _ => {}
        }
    }

    fn dropped(&mut self, reason: &str) {
        let text = match explain(reason) {
            Some(why) => format!("{reason}: {why}"),
            None => reason.to_owned(),
        };
        self.say("drop", text);
    }

    /// The places that a flood reaches as the bridge is now, if there are as many as there were
    /// copies: `to` is `3 (broadcast)`.
    fn flooded_to(&self, to: &str) -> Option<Vec<String>> {
        let copies: usize = to.split_whitespace().next()?.parse().ok()?;
        let (show, bridge) = (self.show?, self.frame.bridge.as_ref()?);
        let here = self.here();
        let is_set = |port: &PortInfo, flag| port.flags.get(flag) == Some(&true);
        let is_hub = self.mode() != Some(Mode::Switch);
        let wanted = match to {
            _ if to.ends_with("(broadcast)") => "bcast_flood",
            _ if to.ends_with("(multicast)") => "mcast_flood",
            _ => "flood",
        };
        let from = show.ports.iter().find(|port| port.name.as_str() == here);
        let is_isolated = from.is_some_and(|from| is_set(from, "isolated"));
        let from = from.map(|from| &from.name);
        let members = show.ports.iter().filter(|port| {
            let is_other = Some(&port.name) != from || is_set(port, "hairpin") && !is_hub;
            port.bridge == *bridge && port.state == PortState::Up && is_other
        });
        // As Bridge::flood_targets decides.
        let takes = |port: &PortInfo| {
            is_hub || is_set(port, wanted) && !(is_isolated && is_set(port, "isolated"))
        };
        // Never from VTEP to VTEP.
        let is_from_peer = here.parse::<IpAddr>().is_ok();
        let peers = show.peers.iter().filter(|peer| {
            !is_from_peer && peer.bridge == *bridge && peer.kind == PeerKind::Listed
        });
        let peers: Vec<String> = peers.map(|peer| peer.remote.clone()).collect();
        // As many copies as there are members: nobody was left out, whatever the flags are by now.
        let is_everybody = members.clone().count() + peers.len() == copies;
        let ports = members.filter(|port| is_everybody || takes(port));
        let places: Vec<String> = ports
            .map(|port| port.name.to_string())
            .chain(peers)
            .collect();
        (places.len() == copies).then_some(places)
    }

    /// The arithmetic of the overlay for a frame of `inner` bytes.
    fn encap(&mut self, peer: IpAddr, inner: usize) {
        let Some(vni) = self.frame.vni else {
            return;
        };
        if self
            .frame
            .offload
            .as_ref()
            .is_some_and(|offload| offload != "checksum")
        {
            let text = format!(
                "VNI {vni} for {peer}; cut to what the path takes, each piece with \
                                {} bytes of headers",
                vxlan::encap_len(peer.is_ipv6())
            );
            return self.say("encap", text);
        }
        let text = format!("VNI {vni} for {peer}; {}", sum(inner, peer.is_ipv6()));
        self.say("encap", text);
        let chain = self.bridge().and_then(|bridge| bridge.mtu_chain.as_ref());
        if let Some(chain) = chain {
            let outer = inner + vxlan::encap_len(peer.is_ipv6()) as usize;
            let path = chain.path_mtu;
            let verb = if outer > path as usize {
                "is too big for"
            } else {
                "fits"
            };
            let text = format!("{verb} the {} (MTU {path})", chain.from);
            // Once for all peers of a flood.
            if !self.steps.iter().any(|step| step.text == text) {
                self.say("mtu", text);
            }
        }
    }

    /// A frame, where a copy of it leaves.
    fn copy(&mut self) {
        let frame = self.frame;
        let here = self.here();
        let what = match &frame.offload {
            None => "nothing to do: it leaves as it is".to_owned(),
            Some(offload) if offload == "checksum" => {
                "passed on with the checksum unfinished".to_owned()
            }
            Some(offload) => format!("passed on as a superframe: {offload}"),
        };
        let text = match &frame.from {
            Some(from) => format!("{here}: a copy of {} bytes, from {from}", frame.len),
            None => format!("{here}: {} bytes, made by the switch", frame.len),
        };
        self.say("offload", what);
        match &frame.reason {
            Some(reason) => self.dropped(reason),
            None => self.say("deliver", text),
        }
    }

    /// A datagram that was sent.
    fn departure(&mut self) {
        let here = self.here().to_owned();
        if let Some(outer) = Outer::read(self.bytes) {
            let inner = self.frame.len.saturating_sub(14 + outer.around());
            let vni = outer.vni.or(self.frame.vni).unwrap_or(0);
            let text = format!(
                "VNI {vni} for {here}, UDP {} > {} by the inner flow; {}",
                outer.ports.0,
                outer.ports.1,
                sum(inner, outer.is_v6)
            );
            self.say("encap", text);
        }
        match &self.frame.reason {
            Some(reason) => self.dropped(reason),
            None => {
                let len = self.frame.len.saturating_sub(14);
                self.say("deliver", format!("{here}: sent, {len} bytes"));
            }
        }
    }

    /// A datagram that came.
    fn arrival(&mut self) {
        let here = self.here().to_owned();
        let Some(outer) = Outer::read(self.bytes) else {
            return self.end();
        };
        let len = self.frame.len.saturating_sub(14);
        let who = if self.frame.bridge.is_some() {
            "a peer"
        } else {
            "no peer"
        };
        let from = outer.from.map_or(here, |from| from.to_string());
        let of = match (outer.vni, &self.frame.bridge) {
            (Some(vni), Some(bridge)) => format!("VNI {vni}, of bridge {bridge}"),
            (Some(vni), None) => format!("VNI {vni}"),
            (None, _) => "no VXLAN header".to_owned(),
        };
        self.say(
            "underlay",
            format!("a datagram of {len} bytes from {from}, {who}; {of}"),
        );
        match self.frame.verdict.as_str() {
            "decapsulated" => {
                let inner = len.saturating_sub(outer.around());
                self.say(
                    "decap",
                    format!("a frame of {inner} bytes: {}", sum(inner, outer.is_v6)),
                );
            }
            _ => self.end(),
        }
    }
}

/// `podA` or `192.0.2.1` of `podA`, `192.0.2.1@br0/outer`.
fn place(interface: &str) -> &str {
    let bare = interface.strip_suffix("/outer").unwrap_or(interface);
    bare.split_once('@').map_or(bare, |(place, _)| place)
}

/// `148 bytes = 98 inner + 8 VXLAN + 8 UDP + 20 IPv4`, with the inner Ethernet header in the first.
fn sum(inner: usize, is_v6: bool) -> String {
    let (ip, family) = if is_v6 { (40, 6) } else { (20, 4) };
    let outer = inner + vxlan::encap_len(is_v6) as usize;
    format!("{outer} bytes = {inner} inner + 8 VXLAN + 8 UDP + {ip} IPv{family}")
}

/// What is around a frame on the underlay.
struct Outer {
    from: Option<IpAddr>,
    ports: (u16, u16),
    vni: Option<u32>,
    is_v6: bool,
}

impl Outer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let packet = LaxSlicedPacket::from_ethernet(bytes).ok()?;
        let net = packet.net.as_ref()?;
        let (from, is_v6) = match net {
            LaxNetSlice::Ipv4(ip) => (Some(ip.header().source_addr().into()), false),
            LaxNetSlice::Ipv6(ip) => (Some(ip.header().source_addr().into()), true),
            LaxNetSlice::Arp(_) => return None,
        };
        let Some(TransportSlice::Udp(udp)) = packet.transport else {
            return None;
        };
        let vni = vxlan::parse(udp.payload()).ok();
        Some(Self {
            from,
            ports: (udp.source_port(), udp.destination_port()),
            vni: vni.map(|(header, _)| header.vni.into()),
            is_v6,
        })
    }

    /// IP, UDP and VXLAN headers.
    fn around(&self) -> usize {
        vxlan::encap_len(self.is_v6) as usize
    }
}
