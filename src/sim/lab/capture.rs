//! Captures in a lab.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Lab;
use crate::{
    bridge::{Egress, PeerId, PortId},
    datapath::capture::{
        Capture, CaptureReader, CaptureRules, Fate, Installed, Next, Place, Record, Selection, Side,
    },
    filter::Filter,
    pcap::{Direction, Writer},
    rehearsal::Names,
};

impl Lab {
    /// Starts a capture at everything that there is, which can be stopped with its number.
    pub fn capture(&mut self, rules: CaptureRules) -> (u64, CaptureReader) {
        let ports: Vec<PortId> = self.ports().collect();
        let peers = self.topology.vtep().map(|vtep| vtep.peers());
        let peers: Vec<PeerId> = peers.into_iter().flatten().map(|peer| peer.id).collect();
        self.capture_at(rules, Selection::new(ports, peers, true))
    }

    /// Starts a capture at these places.
    pub fn capture_at(
        &mut self,
        rules: CaptureRules,
        selection: Selection,
    ) -> (u64, CaptureReader) {
        self.last_capture += 1;
        let id = self.last_capture;
        let (capture, reader) = Capture::new(id, rules, self.workers);
        self.captures.push(Installed {
            capture,
            selection: Arc::new(selection),
        });
        self.rebuild();
        (id, reader)
    }

    /// Ends a capture. Its reader then comes to the end.
    pub fn end_capture(&mut self, id: u64) {
        let is_it = |installed: &Installed| installed.capture.id() == id;
        let ended = self.captures.iter().find(|one| is_it(one)).cloned();
        self.captures.retain(|one| !is_it(one));
        self.rebuild();
        if let Some(ended) = ended {
            ended.capture.close();
        }
    }

    /// A pcapng file of what was [`captured`], with an interface for each place. The comment of a
    /// frame says what became of it there.
    ///
    /// ```
    /// use tapswitch::{pcap::Reader, sim::{Lab, captured, frames}};
    ///
    /// let (mut lab, [a, _b]) = Lab::switch(["podA", "podB"]);
    /// let (id, reader) = lab.capture(Lab::rules("arp"));
    /// lab.relay(a, &frames::arp_request(1, 2));
    /// lab.end_capture(id);
    /// let file = lab.pcapng(&captured(&reader));
    ///
    /// let packets: Vec<_> = Reader::new(std::io::Cursor::new(file)).unwrap().map(Result::unwrap).collect();
    /// let told = packets.iter().map(|packet| (packet.interface.as_deref(), &packet.comments[..]));
    /// assert_eq!(told.collect::<Vec<_>>(), [
    ///     (Some("podA"), &["in: flooded to 1".to_owned()][..]),
    ///     (Some("podB"), &["out: delivered".to_owned()][..]),
    /// ]);
    /// ```
    pub fn pcapng(&self, frames: &[(Record, Vec<u8>)]) -> Vec<u8> {
        let mut writer = Writer::new(0);
        let mut file = Vec::new();
        writer.section(&mut file, "tapswitch lab");
        let mut interfaces = BTreeMap::new();
        for (record, bytes) in frames {
            let interface = *interfaces.entry(record.place).or_insert_with(|| {
                let name = self.place(record.place);
                writer.interface(&mut file, &name, "in the lab")
            });
            let (direction, way) = match record.side {
                Side::In => (Direction::Inbound, "in"),
                Side::Out => (Direction::Outbound, "out"),
            };
            let comment = format!("{way}: {}", self.fate(record.fate));
            let data = (record.len, &bytes[..]);
            writer.packet(&mut file, (interface, direction), record.at, data, &comment);
        }
        file
    }

    fn place(&self, place: Place) -> String {
        match place {
            Place::Port(port) => self.name(port).to_owned(),
            Place::Peer(peer) => Names::peer(self, peer),
            Place::Vtep => "vtep".to_owned(),
        }
    }

    fn fate(&self, fate: Fate) -> String {
        match fate {
            Fate::Forwarded(to) => {
                let place = match to {
                    Egress::Port(port) => Place::Port(port),
                    Egress::Peer(peer) => Place::Peer(peer),
                };
                format!("forwarded to {}", self.place(place))
            }
            Fate::Flooded(_, copies) => format!("flooded to {copies}"),
            Fate::Dropped(reason) => format!("dropped: {}", reason.explain()),
            Fate::Decapsulated => "decapsulated".to_owned(),
            Fate::Consumed => "taken by the endpoint".to_owned(),
            Fate::Delivered(1) => "delivered".to_owned(),
            Fate::Delivered(frames) => format!("delivered, {frames} joined"),
        }
    }

    /// Rules for all frames that match `filter`, in both directions, in full.
    ///
    /// # Panics
    /// If `filter` is none.
    pub fn rules(filter: &str) -> CaptureRules {
        CaptureRules {
            filter: Filter::parse(filter).expect("a lab's filter is one"),
            drops_only: false,
            ingress: true,
            egress: true,
            inner: true,
            outer: false,
            snaplen: usize::MAX,
            rate: None,
        }
    }
}

/// All that a capture has caught and not been asked for. [`Lab::pcapng`] makes a file of it.
pub fn captured(reader: &CaptureReader) -> Vec<(Record, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Next::Chunk(chunk) = reader.next(Duration::ZERO) {
        let all = chunk.iter();
        frames.extend(all.map(|(record, bytes)| (record.clone(), bytes.to_vec())));
        reader.give_back(chunk);
    }
    frames
}
