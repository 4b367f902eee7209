//! Captures in a lab.

use std::{sync::Arc, time::Duration};

use super::Lab;
use crate::{
    bridge::{PeerId, PortId},
    datapath::capture::{Capture, CaptureReader, CaptureRules, Installed, Next, Record, Selection},
    filter::Filter,
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

/// All that a capture has caught and not been asked for.
pub fn captured(reader: &CaptureReader) -> Vec<(Record, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Next::Chunk(chunk) = reader.next(Duration::ZERO) {
        let all = chunk.iter();
        frames.extend(all.map(|(record, bytes)| (record.clone(), bytes.to_vec())));
        reader.give_back(chunk);
    }
    frames
}
