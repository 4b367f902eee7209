//! Records of one flow with one fate, put together.

use std::collections::{HashMap, HashSet};

use crate::{
    bridge::{Egress, Ingress, Learn},
    datapath::{Fate, Record, Recorder},
    time::Timestamp,
};

/// Frames of one flow with one fate.
#[derive(Debug)]
pub(super) struct Group {
    /// The latest.
    pub(super) record: Record,
    /// Of several frames, its head and length are those of the first.
    pub(super) is_first: bool,
    pub(super) first: Timestamp,
    /// As a table counted them.
    counted: u64,
    bytes: u64,
    /// As many are remembered one by one.
    single: u64,
    /// These, of frames that were to go to one place.
    singles: Vec<Record>,
}

/// Frames that are one group: flow, ingress and fate, but for the number of copies.
pub(super) type Kind = (u64, Option<Ingress>, Fate);

/// Adds those records of one recorder that are wanted. One frame may have several.
pub(super) fn gather(
    groups: &mut HashMap<Kind, Group>,
    recorder: &Recorder,
    is_wanted: impl Fn(&Record) -> bool,
) {
    let (lost, reasons) = recorder.lost_flows();
    let flows = recorder.flows().into_iter().chain(lost);
    for record in flows.filter(&is_wanted) {
        let group = groups
            .entry(kind(&record))
            .or_insert_with(|| Group::new(&record));
        group.counted += record.count;
        group.bytes += record.bytes;
        group.first = group.first.min(record.first);
        // A table keeps the head of the first; the lists follow, and may have the last.
        let is_first = record.count > 1;
        group.is_now(record, is_first);
    }
    // What a frame was dropped for is in the list of frames, too.
    let frames = recorder.frames().into_iter();
    let frames = frames.filter(|record| !matches!(record.fate, Fate::Dropped(_)));
    for record in frames.chain(recorder.losses()).filter(&is_wanted) {
        let group = groups
            .entry(kind(&record))
            .or_insert_with(|| Group::new(&record));
        group.single += 1;
        group.first = group.first.min(record.first);
        if !matches!(record.fate, Fate::Dropped(_)) {
            group.singles.push(record.clone());
        }
        group.is_now(record, false);
    }
    for record in reasons.into_iter().filter(&is_wanted) {
        // Counted with all others of its reason.
        let record = Record {
            first: record.last,
            ..record
        };
        let group = groups
            .entry(kind(&record))
            .or_insert_with(|| Group::new(&record));
        group.single = group.single.max(1);
        group.is_now(record, false);
    }
}

/// Copies that were lost on their way out.
#[derive(Debug)]
struct Losses {
    count: u64,
    bytes: u64,
    first: Timestamp,
    /// When, and how long they were.
    frames: HashSet<(Timestamp, u32)>,
}

/// A decision is written down before its frame gets out. Takes away what did not: the frames of one
/// place that are told as lost are not told as sent, too.
pub(super) fn settle(groups: &mut HashMap<Kind, Group>) {
    let mut lost: HashMap<(u64, Option<Ingress>, Egress), Losses> = HashMap::new();
    for (&(flow, ingress, fate), group) in groups.iter() {
        let Fate::Lost(to, _) = fate else { continue };
        let all = lost.entry((flow, ingress, to)).or_insert_with(|| Losses {
            count: 0,
            bytes: 0,
            first: group.first,
            frames: HashSet::new(),
        });
        all.count += group.count();
        all.bytes += group.bytes();
        all.first = all.first.min(group.first);
        let singles = group.singles.iter().map(|it| (it.last, it.len));
        all.frames.extend(singles);
        all.frames.insert((group.record.last, group.record.len));
    }
    groups.retain(|&(flow, ingress, fate), group| match fate {
        Fate::Forwarded(to) => {
            let lost = lost.get(&(flow, ingress, to));
            lost.is_none_or(|lost| group.without(lost))
        }
        _ => true,
    });
}

fn kind(record: &Record) -> Kind {
    let fate = match record.fate {
        Fate::Flooded(class, _) => Fate::Flooded(class, 0),
        fate => fate,
    };
    (record.flow, record.ingress, fate)
}

impl Group {
    fn new(record: &Record) -> Self {
        Self {
            record: record.clone(),
            is_first: false,
            first: record.first,
            counted: 0,
            bytes: 0,
            single: 0,
            singles: Vec::new(),
        }
    }

    fn is_now(&mut self, record: Record, is_first: bool) {
        // What was learned from an earlier frame is worth more than that later ones taught nothing.
        let learn = match self.record.learn {
            Learn::Known | Learn::Off => record.learn,
            learn => learn,
        };
        if record.last >= self.record.last {
            self.record = record;
            self.is_first = is_first;
        }
        self.record.learn = learn;
    }

    /// Takes away what was lost; false if nothing is left, as far as is known.
    fn without(&mut self, lost: &Losses) -> bool {
        let is_sent = |it: &&Record| !lost.frames.contains(&(it.last, it.len));
        let sent: Vec<&Record> = self.singles.iter().filter(is_sent).collect();
        let known = sent.len() as u64;
        let bytes = sent.iter().map(|it| u64::from(it.len)).sum();
        // Both were counted from the same time on, or one has lost its place in between.
        let is_whole = lost.first >= self.first;
        let left = match is_whole {
            true => self.count().saturating_sub(lost.count),
            false => 0,
        };
        if left.max(known) == 0 {
            return false;
        }
        self.bytes = match is_whole {
            true => self.bytes().saturating_sub(lost.bytes).max(bytes),
            false => bytes,
        };
        self.counted = left.max(known);
        let learn = self.record.learn;
        if let Some(last) = sent.into_iter().max_by_key(|it| it.last) {
            self.record = Record {
                learn,
                ..last.clone()
            };
            self.is_first = false;
        }
        self.single = known;
        true
    }

    pub(super) fn count(&self) -> u64 {
        self.counted.max(self.single)
    }

    pub(super) fn bytes(&self) -> u64 {
        let single = self.single * u64::from(self.record.len);
        if self.counted > 0 { self.bytes } else { single }
    }
}
