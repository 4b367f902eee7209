//! Captured frames as blocks of pcapng, or as lines.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    bridge::{DropReason, Egress, Ingress, Learn},
    control::api::{
        CaptureFormat, CaptureLine, CaptureRequest, CapturedFrame, CapturedRow, FdbState,
    },
    daemon::{
        events::{Directory, EventBus},
        fdb,
        history::in_words,
    },
    datapath::capture::{Fate, Form, Place, Record, Row, Side},
    names::Name,
    pcap::{Direction, Drops, InterfaceId, Writer},
    time::Timestamp,
    vxlan,
    wire::{Frame, GsoType, VirtioNetHdr},
};

/// Writes what one capture has caught.
#[derive(Debug)]
pub(super) struct Encoder {
    format: CaptureFormat,
    writer: Writer,
    events: Arc<EventBus>,
    /// From the switch's clock to the time since 1970, in nanoseconds.
    offset: u64,
    interfaces: BTreeMap<(Place, Form), Interface>,
    last: Timestamp,
}

/// A place as the reader sees it. What it is called stays, even if it goes.
#[derive(Clone, Debug)]
struct Interface {
    id: InterfaceId,
    name: String,
    bridge: Option<Name>,
    vni: Option<u32>,
    captured: u64,
}

impl Encoder {
    pub(super) fn new(request: &CaptureRequest, events: Arc<EventBus>, offset: u64) -> Self {
        Self {
            format: request.format,
            writer: Writer::new(request.snaplen),
            events,
            offset,
            interfaces: BTreeMap::new(),
            last: Timestamp::ZERO,
        }
    }

    /// What comes first: who writes, and the places that are known to be meant.
    pub(super) fn head(&mut self, out: &mut Vec<u8>, places: &[(Place, Form)]) {
        if self.format == CaptureFormat::Pcapng {
            let application = concat!("tapswitch ", env!("CARGO_PKG_VERSION"));
            self.writer.section(out, application);
        }
        let directory = self.events.directory();
        for place in places {
            self.interface(out, &directory, *place);
        }
    }

    /// One frame.
    pub(super) fn frame(&mut self, out: &mut Vec<u8>, record: &Record, bytes: &[u8]) {
        let directory = self.events.directory();
        let interface = self.interface(out, &directory, (record.place, record.form));
        let at = record.at.as_nanos().wrapping_add(self.offset);
        self.last = Timestamp::from_nanos(at);
        if let Some(interface) = self.interfaces.get_mut(&(record.place, record.form)) {
            interface.captured += 1;
        }
        let frame = Captured {
            directory: &directory,
            interface: &interface,
            record,
            bytes,
        };
        match self.format {
            CaptureFormat::Pcapng => {
                let direction = match record.side {
                    Side::In => Direction::Inbound,
                    Side::Out => Direction::Outbound,
                };
                let way = (interface.id, direction);
                let data = (record.len, bytes);
                self.writer
                    .packet(out, way, self.last, data, &frame.comment());
            }
            CaptureFormat::Json => line(out, &CaptureLine::Frame(Box::new(frame.line(self.last)))),
        }
    }

    /// What comes last.
    pub(super) fn tail(&mut self, out: &mut Vec<u8>, lost: &BTreeMap<(Place, Form), u64>) {
        let directory = self.events.directory();
        for place in lost.keys() {
            self.interface(out, &directory, *place);
        }
        if self.interfaces.is_empty() {
            // So that there is an end to be seen.
            self.interface(out, &directory, (Place::Vtep, Form::Inner));
        }
        let lost_at = |place| lost.get(place).copied().unwrap_or(0);
        let (mut captured, mut total) = (0, 0);
        for (place, interface) in &self.interfaces {
            captured += interface.captured;
            total += lost_at(place);
            if self.format == CaptureFormat::Pcapng {
                let drops = Drops {
                    captured: interface.captured,
                    lost: lost_at(place),
                };
                self.writer.statistics(out, interface.id, self.last, drops);
            }
        }
        if self.format == CaptureFormat::Json {
            let lost = total;
            line(out, &CaptureLine::End { captured, lost });
        }
    }

    /// The interface of a place, which is written where it is new.
    fn interface(
        &mut self,
        out: &mut Vec<u8>,
        directory: &Directory,
        (place, form): (Place, Form),
    ) -> Interface {
        if let Some(known) = self.interfaces.get(&(place, form)) {
            return known.clone();
        }
        let mut interface = describe_place(directory, place, form);
        if self.format == CaptureFormat::Pcapng {
            let text = interface.description(place, form);
            interface.id = self.writer.interface(out, &interface.name, &text);
        }
        self.interfaces.insert((place, form), interface.clone());
        interface
    }
}

fn describe_place(directory: &Directory, place: Place, form: Form) -> Interface {
    let (name, bridge) = match place {
        Place::Port(port) => match directory.port(port) {
            Some((name, bridge)) => (name.to_string(), Some(bridge.clone())),
            None => (format!("port {}", port.index()), None),
        },
        Place::Peer(peer) => match directory.peer(peer) {
            Some((remote, bridge)) => (format!("{remote}@{bridge}"), Some(bridge.clone())),
            None => (format!("peer {}", peer.index()), None),
        },
        Place::Vtep => ("vtep".to_owned(), None),
    };
    let name = match form {
        Form::Inner => name,
        Form::Outer => format!("{name}/outer"),
    };
    let vni = bridge.as_ref().and_then(|bridge| directory.vni(bridge));
    Interface {
        id: InterfaceId(0),
        name,
        vni: vni.map(Into::into),
        bridge,
        captured: 0,
    }
}

impl Interface {
    fn description(&self, place: Place, form: Form) -> String {
        let mut text = match (place, form) {
            (Place::Port(_), _) => "port".to_owned(),
            (Place::Peer(_), Form::Inner) => "frames from and to a remote VTEP".to_owned(),
            (Place::Vtep, Form::Inner) => "frames from VTEPs that are no peers".to_owned(),
            (_, Form::Outer) => "datagrams; Ethernet addresses, the TTL of what came and UDP \
                                 checksums are filled in"
                .to_owned(),
        };
        if let Some(bridge) = &self.bridge {
            text += &format!(", bridge {bridge}");
        }
        if let Some(vni) = self.vni {
            text += &format!(", vni {vni}");
        }
        text
    }
}

fn line(out: &mut Vec<u8>, line: &CaptureLine) {
    // What is serialised has string keys only, and memory takes everything.
    drop(serde_json::to_writer(&mut *out, line));
    out.push(b'\n');
}

/// A frame and all that is known of it.
struct Captured<'a> {
    directory: &'a Directory,
    interface: &'a Interface,
    record: &'a Record,
    bytes: &'a [u8],
}

impl Captured<'_> {
    fn at(&self, egress: Egress) -> String {
        let place = self.directory.whereabouts(egress);
        let port = place.port.map(|port| port.to_string());
        let other = || match egress {
            Egress::Port(port) => format!("port {}", port.index()),
            Egress::Peer(_) => "an unknown VTEP".to_owned(),
        };
        port.or(place.remote).unwrap_or_else(other)
    }

    fn from(&self) -> Option<String> {
        self.record.from.map(Ingress::back).map(|at| self.at(at))
    }

    /// What became of it, in a sentence.
    fn comment(&self) -> String {
        let record = self.record;
        let mut text = match record.fate {
            Fate::Forwarded(to) => format!("forwarded to {}", self.at(to)),
            Fate::Flooded(class, 1) => format!("flooded to 1 place ({class})"),
            Fate::Flooded(class, copies) => format!("flooded to {copies} places ({class})"),
            Fate::Dropped(reason) => {
                let (why, remedy) = (reason.explain(), reason.remedy());
                format!("dropped {reason}: {why}; to mend it: {remedy}")
            }
            Fate::Decapsulated => "decapsulated".to_owned(),
            Fate::Consumed => "a probe, which the endpoint takes".to_owned(),
            Fate::Delivered(1) => "delivered".to_owned(),
            Fate::Delivered(frames) => format!("delivered, {frames} frames in one"),
        };
        if record.side == Side::Out {
            match self.from() {
                Some(from) => text += &format!("; from {from}"),
                None => text += "; made by the switch",
            }
        }
        if let Some(learned) = self.learned() {
            text += &format!("; {learned}");
        }
        if let Some(row) = record.row {
            text += &format!("; fdb {}", self.row_text(&row));
        }
        if let Some(vni) = self.interface.vni {
            text += &format!("; vni {vni}");
        }
        if let Some(offload) = offload(&record.header) {
            text += &format!("; offload {offload}");
        }
        text
    }

    fn learned(&self) -> Option<String> {
        let src = Frame::new_checked(self.bytes).ok()?.src();
        Some(match self.record.learn {
            Learn::Off | Learn::Known => return None,
            Learn::New => format!("learned {src} here"),
            Learn::Moved { from } => format!("{src} moved here from {}", self.at(from)),
            Learn::Flapping { from } => {
                format!(
                    "{src} flaps: moved here from {}, and is held now",
                    self.at(from)
                )
            }
            Learn::Frozen => format!("{src} is held elsewhere, since it moved too often"),
            Learn::Pinned => format!("{src} has a static entry elsewhere"),
            Learn::Full => format!("{src} not learned: the fdb is full"),
        })
    }

    fn row_text(&self, row: &Row) -> String {
        let Row { key, entry } = row;
        let CapturedRow {
            state, age_s, at, ..
        } = self.row(row);
        let vlan = match key.vlan() {
            0 => String::new(),
            vlan => format!(" vlan {vlan}"),
        };
        let kind = match state {
            FdbState::Learned => "learned",
            FdbState::Static => "static",
            FdbState::Local => "local",
            FdbState::Control => "control",
        };
        let seen = match entry.kind {
            crate::bridge::EntryKind::Learned => format!(", seen {age_s:.0} s ago"),
            _ => String::new(),
        };
        format!("{}{vlan} -> {at} ({kind}{seen})", key.mac())
    }

    fn row(&self, Row { key, entry }: &Row) -> CapturedRow {
        let is_learned = entry.kind == crate::bridge::EntryKind::Learned;
        let age = self.record.at.since(entry.updated);
        CapturedRow {
            mac: key.mac(),
            vlan: key.vlan(),
            at: self.at(entry.egress),
            state: fdb::kind(entry),
            age_s: if is_learned { age.as_secs_f64() } else { 0.0 },
        }
    }

    fn line(&self, at: Timestamp) -> CapturedFrame {
        let record = self.record;
        let (verdict, reason, to) = match record.fate {
            Fate::Forwarded(to) => ("forwarded", None, Some(self.at(to))),
            Fate::Flooded(class, copies) => ("flooded", None, Some(format!("{copies} ({class})"))),
            Fate::Dropped(reason) => ("dropped", Some(DropReason::name(reason)), None),
            Fate::Decapsulated => ("decapsulated", None, None),
            Fate::Consumed => ("consumed", None, None),
            Fate::Delivered(_) => ("delivered", None, None),
        };
        CapturedFrame {
            time: std::time::Duration::from_nanos(at.as_nanos()).as_secs_f64(),
            interface: self.interface.name.clone(),
            bridge: self.interface.bridge.clone(),
            vni: self.interface.vni,
            side: if record.side == Side::In { "in" } else { "out" }.to_owned(),
            form: match record.form {
                Form::Inner => "frame",
                Form::Outer => "datagram",
            }
            .to_owned(),
            verdict: verdict.to_owned(),
            reason: reason.map(str::to_owned),
            to,
            from: self.from(),
            fdb: record.row.as_ref().map(|row| self.row(row)),
            len: record.len,
            captured: self.bytes.len(),
            offload: offload(&record.header),
            text: text(record.form, self.bytes, record.len),
            comment: self.comment(),
        }
    }
}

/// A frame or datagram of `len` bytes in a few words, even if `bytes` are only the first of them.
fn text(form: Form, bytes: &[u8], len: usize) -> String {
    let in_words = |head, len| in_words(head, u32::try_from(len).unwrap_or(u32::MAX));
    let outer = in_words(bytes, len);
    if form == Form::Inner {
        return outer;
    }
    let is_v6 = bytes.get(12) == Some(&0x86);
    let start = 14 + if is_v6 { 40 } else { 20 } + 8;
    let payload = bytes.get(start..).unwrap_or_default();
    match vxlan::parse(payload) {
        Ok((header, inner)) => {
            let outer = outer.rsplit_once(", ").map_or(&*outer, |(head, _)| head);
            let inner = in_words(inner, len.saturating_sub(start + vxlan::HEADER_LEN));
            format!("{outer}, vxlan {}: {inner}", header.vni)
        }
        Err(_) => outer,
    }
}

/// What is left undone in a frame.
fn offload(header: &VirtioNetHdr) -> Option<String> {
    let kind = match header.gso() {
        GsoType::None if header.needs_csum() => return Some("checksum".to_owned()),
        GsoType::None => return None,
        GsoType::TcpV4 => "tcp4",
        GsoType::TcpV6 => "tcp6",
        GsoType::UdpL4 => "udp",
        GsoType::Unknown(_) => "unknown",
    };
    Some(format!("{kind}, segments of {} bytes", header.gso_size()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sim::frames, wire::Vni};

    #[test]
    fn a_frame_of_which_only_the_beginning_is_kept_is_told_like_the_whole_of_it() {
        let inner = frames::udp4(1, 2, &[7; 900]);
        let header = vxlan::header(Vni::new(42).unwrap());
        let outer = frames::udp4(8, 9, &[&header[..], &inner].concat());
        for cut in [outer.len(), 96] {
            let words = text(Form::Inner, &inner[..cut.min(inner.len())], inner.len());
            assert!(words.ends_with("900 bytes"), "{words}");
            let words = text(Form::Outer, &outer[..cut], outer.len());
            assert!(words.contains("vxlan 42: udp"), "{words}");
            assert!(words.ends_with("900 bytes"), "{words}");
        }
    }
}
