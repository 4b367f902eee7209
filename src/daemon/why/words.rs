//! The sentences: why, and what to do.

use std::net::IpAddr;

use super::{Reading, outer_source, size::TooBig};
use crate::{
    bridge::{DropReason, Egress, EntryKind, FloodClass, Ingress, Learn},
    control::api::WhyEntry,
    datapath::{Detail, Fate, Record},
    time::Timestamp,
    vxlan,
};

impl Reading<'_> {
    /// Why it became of it what did.
    pub(super) fn why_in_words(&self, record: &Record, entry: &WhyEntry) -> String {
        let dst = entry.dst.map(|dst| dst.to_string()).unwrap_or_default();
        match record.fate {
            Fate::Forwarded(to) => {
                let place = entry.to.first().cloned().unwrap_or_default();
                let place = place.strip_suffix(DELETED).unwrap_or(&place);
                let now = match self.row(entry) {
                    Some((egress, row)) if egress == to => match row.kind {
                        EntryKind::Learned => String::new(),
                        EntryKind::Static => ", by a static entry".to_owned(),
                        EntryKind::Local => ", its own address".to_owned(),
                        EntryKind::Control => ", by a control plane".to_owned(),
                    },
                    Some((egress, _)) => {
                        format!("; now it has it at {}", self.name_at(egress, self.now))
                    }
                    None => "; now it has no entry for it".to_owned(),
                };
                format!("the fdb had {dst} at {place}{now}")
            }
            Fate::Flooded(class, _) => self.why_flooded(class, entry, &dst),
            Fate::Dropped(reason) | Fate::Lost(_, reason) => self.why_lost(record, reason),
        }
    }

    fn why_flooded(&self, class: FloodClass, entry: &WhyEntry, dst: &str) -> String {
        match class {
            FloodClass::UnknownUnicast => {
                let now = self.row(entry).map_or_else(String::new, |(egress, _)| {
                    format!("; now it is at {}", self.name_at(egress, self.now))
                });
                format!("the fdb had no entry for {dst}{now}")
            }
            FloodClass::Multicast => format!("{dst} is a group address"),
            FloodClass::Broadcast => "it is a broadcast".to_owned(),
            FloodClass::Repeat => "the bridge is no switch and repeats every frame".to_owned(),
        }
    }

    fn why_lost(&self, record: &Record, reason: DropReason) -> String {
        let text = reason.explain();
        match (record.detail, record.fate) {
            (Some(Detail::Size { has, fits }), Fate::Lost(Egress::Peer(_), _)) => {
                format!("outer {has} > path {fits}: {text}")
            }
            (Some(Detail::Size { has, fits }), _) => {
                let mtu = fits.saturating_sub(FRAME_OVERHEAD);
                format!("{has} bytes > {fits} (MTU {mtu} + 14 + 4): {text}")
            }
            (Some(Detail::Datagram { vni: Some(vni), .. }), _)
                if reason == DropReason::UnknownVni =>
            {
                format!("VNI {vni}: {text}")
            }
            _ => text.to_owned(),
        }
    }

    /// What the FDB made of the source.
    pub(super) fn learned(&self, record: &Record) -> Option<String> {
        let from = |place| self.name_at(place, record.last);
        Some(match record.learn {
            Learn::Off | Learn::Known => return None,
            Learn::New => "its source was new to the fdb and learned".to_owned(),
            Learn::Moved { from: old } => format!("its source moved here from {}", from(old)),
            Learn::Flapping { from: old } => format!(
                "its source moved here from {}, too often: it is held here for 180 s",
                from(old)
            ),
            Learn::Frozen => "its source is held elsewhere, since it moved too often".to_owned(),
            Learn::Pinned => {
                "its source has a static or local entry elsewhere, which stays".to_owned()
            }
            Learn::Full => "its source was not learned: the fdb is full".to_owned(),
        })
    }

    /// What to do about a loss, with names and numbers.
    pub(super) fn remedy(&self, record: &Record, reason: DropReason, entry: &WhyEntry) -> String {
        let bridge = entry.bridge.as_ref().map(ToString::to_string);
        let to = match record.fate {
            Fate::Lost(to, _) => Some((to, record.last)),
            _ => self.row(entry).map(|(egress, _)| (egress, self.now)),
        };
        if let (DropReason::TooBig, Some(Detail::Size { has, fits })) = (reason, record.detail) {
            return self.remedy_of_size(record, entry, (has, fits));
        }
        let from_port = entry.from_port.as_ref().map(ToString::to_string);
        let to_port = to.and_then(|(to, time)| self.port_at(to.port()?, time));
        if let (DropReason::EgressGone, Some((Egress::Port(_), _)), None) = (reason, to, to_port) {
            return "nothing to do: the port has been deleted since".to_owned();
        }
        let to_port = to_port.map(|port| port.spec.name.to_string());
        let port = port_for(reason, from_port, to_port);
        let mac = match reason {
            DropReason::Locked | DropReason::PinnedSource => entry.src,
            _ => None,
        };
        let ip = match reason {
            DropReason::NoRoute => to.and_then(|(to, time)| self.peer_ip(to, time)),
            _ => outer_source(record),
        };
        let vni = entry.vni.map(|vni| vni.to_string());
        let names = [
            ("PORT", port),
            ("BRIDGE", bridge),
            ("MAC", mac.map(|mac| mac.to_string())),
            ("IP", ip.map(|ip| ip.to_string())),
            ("N", vni),
        ];
        let words = reason.remedy();
        let words = match (reason, entry.vni, words.split_once("; to reach")) {
            (DropReason::NoEgress, None, Some((here, _))) => here,
            _ => words,
        };
        fill(words, &names)
    }

    fn remedy_of_size(&self, record: &Record, entry: &WhyEntry, (has, fits): (u32, u32)) -> String {
        let from = match record.ingress {
            Some(Ingress::Port(id)) => self.port_at(id, record.last),
            _ => None,
        };
        let (to, fits) = match record.fate {
            Fate::Lost(to @ Egress::Peer(_), _) => {
                let is_v6 = self.peer_ip(to, record.last).is_some_and(|ip| ip.is_ipv6());
                (None, fits.saturating_sub(vxlan::overhead(is_v6)))
            }
            Fate::Lost(Egress::Port(id), _) => (
                self.port_at(id, record.last),
                fits.saturating_sub(FRAME_OVERHEAD),
            ),
            _ => (None, fits.saturating_sub(FRAME_OVERHEAD)),
        };
        TooBig {
            state: self.state,
            bridge: entry.bridge.as_ref(),
            from,
            to,
            has: has.saturating_sub(14),
            fits,
        }
        .remedy()
    }

    fn peer_ip(&self, place: Egress, time: Timestamp) -> Option<IpAddr> {
        Some(self.peer_at(place.peer()?, time)?.to.ip())
    }
}

/// Which port the remedy of `reason` speaks of: the one that the frame came from, or the one that it
/// was for; of others it does not know which.
pub(in crate::daemon) fn port_for(
    reason: DropReason,
    from: Option<String>,
    to: Option<String>,
) -> Option<String> {
    match reason {
        DropReason::EgressDown | DropReason::EgressGone | DropReason::Isolated => to,
        DropReason::PortDown
        | DropReason::Locked
        | DropReason::SamePort
        | DropReason::SrcGroup
        | DropReason::SrcZero => from,
        _ => None,
    }
}

/// `text` with names in the place of the words in capital letters that are known.
pub(in crate::daemon) fn fill(text: &str, names: &[(&str, Option<String>)]) -> String {
    let is_letter = |c: char| c.is_ascii_alphanumeric();
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_letter) {
        let end = rest[start..]
            .find(|c| !is_letter(c))
            .map_or(rest.len(), |len| start + len);
        let word = &rest[start..end];
        let known = names.iter().find(|(name, _)| *name == word);
        filled.push_str(&rest[..start]);
        filled.push_str(
            known
                .and_then(|(_, value)| value.as_deref())
                .unwrap_or(word),
        );
        rest = &rest[end..];
    }
    filled + rest
}

/// What stands behind the name of a port that is no longer there.
pub(super) const DELETED: &str = " (deleted since)";
/// What a frame may be longer than the MTU of its port: Ethernet header and a VLAN tag.
const FRAME_OVERHEAD: u32 = 14 + 4;

#[cfg(test)]
mod tests {
    use super::{fill, port_for};
    use crate::bridge::DropReason;

    #[test]
    fn a_remedy_names_a_port_only_where_it_is_known_which() {
        let port = |reason| port_for(reason, Some("from".to_owned()), Some("to".to_owned()));
        assert_eq!(port(DropReason::Locked).as_deref(), Some("from"));
        assert_eq!(port(DropReason::EgressDown).as_deref(), Some("to"));
        // Others lack flooding, or are down: not the one that it came from.
        assert_eq!(port(DropReason::NoEgress), None);
        assert_eq!(port(DropReason::FloodDisabled), None);
    }

    #[test]
    fn known_names_are_filled_in_and_others_stay() {
        let names = [("PORT", Some("podA".to_owned())), ("MAC", None)];
        assert_eq!(
            fill("set PORT up; IMPORTANT: add MAC --port PORT.", &names),
            "set podA up; IMPORTANT: add MAC --port podA."
        );
    }
}
