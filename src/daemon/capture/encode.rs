//! Captured frames as blocks of pcapng, or as lines.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    bridge::{DropReason, Egress, Ingress, Learn},
    control::api::{
        CaptureFormat, CaptureLine, CaptureRequest, CapturedFrame, CapturedLesson, CapturedRow,
        FdbState, Hex, RowChange,
    },
    daemon::{directory::Directory, events::EventBus, fdb, history::in_words},
    datapath::capture::{Fate, Form, Lost, Place, Record, Row, Side},
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
    /// Whether lines have the bytes.
    bytes: bool,
    /// Frames that were skipped, as far as it has been told.
    skipped: u64,
    writer: Writer,
    events: Arc<EventBus>,
    /// From the switch's clock to the time since 1970, in nanoseconds.
    offset: u64,
    /// Those of a place, the latest one last: its number is given away again when it goes.
    interfaces: BTreeMap<(Place, Form), Vec<Interface>>,
    last: Timestamp,
}

/// A place as the reader sees it. What it is called stays, even if it goes.
#[derive(Clone, Debug)]
struct Interface {
    id: InterfaceId,
    /// Since when it is what it is.
    since: Timestamp,
    name: String,
    bridge: Option<Name>,
    vni: Option<u32>,
    captured: u64,
}

impl Encoder {
    pub(super) fn new(request: &CaptureRequest, events: Arc<EventBus>, offset: u64) -> Self {
        Self {
            format: request.format,
            bytes: request.bytes,
            skipped: 0,
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
            self.interface(out, &directory, *place, NOW, 0);
        }
    }

    /// One frame.
    pub(super) fn frame(&mut self, out: &mut Vec<u8>, record: &Record, bytes: &[u8]) {
        let directory = self.events.directory();
        let place = (record.place, record.form);
        let interface = self.interface(out, &directory, place, record.at, 1);
        let at = record.at.as_nanos().wrapping_add(self.offset);
        self.last = Timestamp::from_nanos(at);
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
            CaptureFormat::Json => {
                let hex = self.bytes.then(|| Hex(bytes.to_vec()));
                let frame = CapturedFrame {
                    hex,
                    ..frame.line(self.last)
                };
                line(out, &CaptureLine::Frame(Box::new(frame)));
            }
        }
    }

    /// So many frames were skipped until now.
    pub(super) fn skipped(&mut self, out: &mut Vec<u8>, total: u64) {
        let count = total.saturating_sub(self.skipped);
        self.skipped = total;
        if count > 0 && self.format == CaptureFormat::Json {
            line(out, &CaptureLine::Skipped { count });
        }
    }

    /// What comes last.
    pub(super) fn tail(&mut self, out: &mut Vec<u8>, lost: &Lost) {
        let directory = self.events.directory();
        for &place in lost.places.keys() {
            self.interface(out, &directory, place, NOW, 0);
        }
        if self.interfaces.is_empty() {
            // So that there is an end to be seen.
            self.interface(out, &directory, (Place::Vtep, Form::Inner), NOW, 0);
        }
        let (mut captured, mut total) = (0, lost.elsewhere);
        for (place, interfaces) in &self.interfaces {
            for (at, interface) in interfaces.iter().enumerate() {
                let is_latest = at + 1 == interfaces.len();
                let lost = lost.places.get(place).filter(|_| is_latest);
                let lost = lost.copied().unwrap_or(0);
                captured += interface.captured;
                total += lost;
                self.statistics(out, interface.id, interface.captured, lost);
            }
        }
        if lost.elsewhere > 0 && self.format == CaptureFormat::Pcapng {
            let text = "places without a count of losses of their own";
            let id = self.writer.interface(out, "elsewhere", text);
            self.statistics(out, id, 0, lost.elsewhere);
        }
        if self.format == CaptureFormat::Json {
            let lost = total;
            line(out, &CaptureLine::End { captured, lost });
        }
    }

    fn statistics(&self, out: &mut Vec<u8>, id: InterfaceId, captured: u64, lost: u64) {
        if self.format == CaptureFormat::Pcapng {
            let drops = Drops { captured, lost };
            self.writer.statistics(out, id, self.last, drops);
        }
    }

    /// The interface of a place as it was at `at`, which is written where it is new; `frames` more
    /// are captured there.
    fn interface(
        &mut self,
        out: &mut Vec<u8>,
        directory: &Directory,
        (place, form): (Place, Form),
        at: Timestamp,
        frames: u64,
    ) -> Interface {
        let known = self.interfaces.entry((place, form)).or_default();
        let described = describe_place(directory, place, form, at);
        let found = match &described {
            Some(new) => known.iter().position(|old| old.is(new)),
            // It has gone meanwhile: the one that was there then.
            None => known.iter().rposition(|old| old.since <= at),
        };
        let found = found.unwrap_or_else(|| {
            let mut new = described.unwrap_or_else(|| unknown_place(place, form));
            if self.format == CaptureFormat::Pcapng {
                let text = new.description(place, form);
                new.id = self.writer.interface(out, &new.name, &text);
            }
            known.push(new);
            known.len() - 1
        });
        let interface = &mut known[found];
        interface.captured += frames;
        interface.clone()
    }
}

/// A place as it was at `at`; `None` if another one, or none, has its number now.
fn describe_place(
    directory: &Directory,
    place: Place,
    form: Form,
    at: Timestamp,
) -> Option<Interface> {
    let (name, bridge, since) = match place {
        Place::Port(port) => {
            let known = directory.port(port)?;
            let name = known.name.to_string();
            (name, Some(known.bridge.clone()), known.added)
        }
        Place::Peer(peer) => {
            let known = directory.peer(peer)?;
            let name = format!("{}@{}", known.name, known.bridge);
            (name, Some(known.bridge.clone()), known.added)
        }
        Place::Vtep => ("vtep".to_owned(), None, Timestamp::ZERO),
    };
    let vni = bridge.as_ref().and_then(|bridge| directory.vni(bridge));
    (since <= at).then(|| Interface {
        id: InterfaceId(0),
        since,
        name: in_form(name, form),
        vni: vni.map(Into::into),
        bridge,
        captured: 0,
    })
}

/// A place that went before it could be asked for its name.
fn unknown_place(place: Place, form: Form) -> Interface {
    let name = match place {
        Place::Port(port) => format!("port {}", port.index()),
        Place::Peer(peer) => format!("peer {}", peer.index()),
        Place::Vtep => "vtep".to_owned(),
    };
    Interface {
        id: InterfaceId(0),
        since: Timestamp::ZERO,
        name: in_form(name, form),
        bridge: None,
        vni: None,
        captured: 0,
    }
}

fn in_form(name: String, form: Form) -> String {
    match form {
        Form::Inner => name,
        Form::Outer => format!("{name}/outer"),
    }
}

impl Interface {
    fn is(&self, other: &Self) -> bool {
        let what = |one: &Self| (one.since, one.vni);
        what(self) == what(other) && self.name == other.name && self.bridge == other.bridge
    }

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
        let place = self.directory.whereabouts_at(egress, self.record.at);
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

    fn lesson(&self) -> Option<CapturedLesson> {
        let (change, from) = match self.record.learn {
            Learn::Off | Learn::Known => return None,
            Learn::New => (RowChange::New, None),
            Learn::Moved { from } => (RowChange::Moved, Some(self.at(from))),
            Learn::Flapping { from } => (RowChange::Flapping, Some(self.at(from))),
            Learn::Frozen => (RowChange::Frozen, None),
            Learn::Pinned => (RowChange::Pinned, None),
            Learn::Full => (RowChange::Full, None),
        };
        let mac = Frame::new_checked(self.bytes).ok()?.src();
        Some(CapturedLesson { mac, change, from })
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
        let class = match record.fate {
            Fate::Flooded(class, _) => Some(class.to_string()),
            _ => None,
        };
        let frames = match record.fate {
            Fate::Delivered(frames) => frames,
            _ => 1,
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
            class,
            frames,
            lesson: self.lesson(),
            from: self.from(),
            learned: self.learned(),
            fdb: record.row.as_ref().map(|row| self.row(row)),
            len: record.len,
            captured: self.bytes.len(),
            offload: offload(&record.header),
            text: text(record.form, self.bytes, record.len),
            comment: self.comment(),
            hex: None,
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

/// Later than anything that is captured: as it is now.
const NOW: Timestamp = Timestamp::from_nanos(u64::MAX);

#[cfg(test)]
mod tests;
