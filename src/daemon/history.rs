//! What happened to FDB entries, and which frame did it, in bounded memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::directory::Whereabouts;
use crate::{
    bridge::FdbKey,
    datapath::Counter,
    names::Name,
    time::Timestamp,
    wire::{self, MacAddr},
};

/// The last changes of the addresses that changed last.
#[derive(Debug, Default)]
pub(super) struct History {
    book: Mutex<Book>,
    /// News that the workers could not tell, by worker.
    lost_news: Vec<Arc<Counter>>,
}

#[derive(Debug, Default)]
struct Book {
    pages: HashMap<Subject, Page>,
    /// Subjects by when they changed last: the first is forgotten first.
    order: BTreeMap<u64, Subject>,
    next: u64,
}

/// An address on a bridge.
pub(super) type Subject = (Name, FdbKey);

/// What is remembered of one address.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    at: u64,
    pub(super) changes: VecDeque<Change>,
    /// Older changes that are forgotten.
    pub(super) forgotten: u64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// The last time.
    pub(super) time: Timestamp,
    /// How often.
    pub(super) count: u64,
    pub(super) what: String,
    pub(super) place: Whereabouts,
    pub(super) old: Whereabouts,
    /// The beginning of the frame that did it, and its length.
    pub(super) frame: Option<(Box<[u8]>, u32)>,
    /// Who or what did it otherwise.
    pub(super) cause: Option<&'static str>,
}

impl History {
    pub(super) fn new(lost_news: Vec<Arc<Counter>>) -> Self {
        Self {
            lost_news,
            ..Self::default()
        }
    }

    /// News that never came here, of all addresses.
    pub(super) fn lost_news(&self) -> u64 {
        self.lost_news.iter().map(|counter| counter.get()).sum()
    }

    pub(super) fn note(&self, bridge: &Name, key: FdbKey, change: Change) {
        let mut book = self.book();
        let book = &mut *book;
        let at = book.next;
        book.next += 1;
        let subject = (bridge.clone(), key);
        let page = book.pages.entry(subject.clone()).or_default();
        if !page.changes.is_empty() {
            book.order.remove(&page.at);
        }
        page.at = at;
        page.take(change);
        book.order.insert(at, subject);
        if book.pages.len() > SUBJECTS
            && let Some((_, oldest)) = book.order.pop_first()
        {
            book.pages.remove(&oldest);
        }
    }

    /// What is remembered of `mac`, in any VLAN or in this one.
    pub(super) fn of(&self, mac: MacAddr, vlan: Option<u16>) -> Vec<(Subject, Page)> {
        let book = self.book();
        let is_it = |key: FdbKey| key.mac() == mac && vlan.is_none_or(|vlan| vlan == key.vlan());
        let pages = book.pages.iter().filter(|((_, key), _)| is_it(*key));
        pages
            .map(|(subject, page)| (subject.clone(), page.clone()))
            .collect()
    }

    /// A bridge is gone: one of the same name is another.
    pub(super) fn forget(&self, bridge: &Name) {
        let mut book = self.book();
        let Book { pages, order, .. } = &mut *book;
        pages.retain(|(of, _), page| {
            let goes = of == bridge;
            if goes {
                order.remove(&page.at);
            }
            !goes
        });
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A panic in between has left whole changes behind.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    fn take(&mut self, change: Change) {
        if let Some(last) = self.changes.back_mut()
            && last.is_like(&change)
        {
            last.count += 1;
            (last.time, last.frame) = (change.time, change.frame);
            return;
        }
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
            self.forgotten += 1;
        }
        // Most addresses change once: room for more would be most of this memory.
        self.changes.reserve_exact(1);
        self.changes.push_back(change);
    }
}

impl Change {
    /// Whether it is the same once more, so that one place will do for both.
    fn is_like(&self, other: &Self) -> bool {
        (&self.what, &self.place, &self.old, self.cause)
            == (&other.what, &other.place, &other.old, other.cause)
    }

    /// The frame in words.
    pub(super) fn frame_in_words(&self) -> Option<String> {
        let (head, len) = self.frame.as_ref()?;
        Some(in_words(head, *len))
    }
}

/// A frame of `len` bytes of which the first are `head`, in words.
pub(super) fn in_words(head: &[u8], len: u32) -> String {
    // The lengths inside are those of the whole frame.
    let mut frame = head.to_vec();
    frame.resize(usize::try_from(len).unwrap_or(0).min(LONGEST), 0);
    wire::describe(&frame)
}

/// Changes that are remembered of an address.
const CHANGES: usize = 8;
/// Addresses; those that changed longest ago are forgotten first.
const SUBJECTS: usize = 8192;
/// No frame is longer.
const LONGEST: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn key(n: u64) -> FdbKey {
        FdbKey::new(MacAddr::from_u48(n), 0)
    }

    fn change(what: &str) -> Change {
        Change {
            time: Timestamp::ZERO,
            count: 1,
            what: what.to_owned(),
            place: Whereabouts::default(),
            old: Whereabouts::default(),
            frame: None,
            cause: None,
        }
    }

    #[test]
    fn an_address_keeps_its_last_changes_and_says_how_many_are_forgotten() {
        let history = History::default();
        for n in 0..20 {
            history.note(&name("br0"), key(1), change(&n.to_string()));
        }
        let [(_, page)] = &history.of(key(1).mac(), None)[..] else {
            panic!("no page");
        };
        let words: Vec<_> = page.changes.iter().map(|c| c.what.as_str()).collect();
        assert_eq!(words, ["12", "13", "14", "15", "16", "17", "18", "19"]);
        assert_eq!(page.forgotten, 12);
    }

    #[test]
    fn what_happens_again_and_again_takes_one_place() {
        let history = History::default();
        history.note(&name("br0"), key(1), change("learned"));
        for _ in 0..1000 {
            history.note(&name("br0"), key(1), change("frozen"));
        }
        let page = &history.of(key(1).mac(), None)[0].1;
        let counts: Vec<_> = page
            .changes
            .iter()
            .map(|c| (c.what.as_str(), c.count))
            .collect();
        assert_eq!(counts, [("learned", 1), ("frozen", 1000)]);
    }

    #[test]
    fn addresses_that_changed_longest_ago_are_forgotten_first() {
        let history = History::default();
        let bridge = name("br0");
        for n in 0..SUBJECTS as u64 {
            history.note(&bridge, key(n), change("learned"));
        }
        history.note(&bridge, key(0), change("aged"));
        history.note(&bridge, key(1 << 40), change("learned"));

        assert_eq!(history.of(key(0).mac(), None).len(), 1);
        assert_eq!(history.of(key(1).mac(), None).len(), 0);
        assert_eq!(history.of(key(2).mac(), None).len(), 1);
        let book = history.book();
        assert_eq!((book.pages.len(), book.order.len()), (SUBJECTS, SUBJECTS));
    }

    #[test]
    fn a_bridge_that_is_gone_is_forgotten() {
        let history = History::default();
        history.note(&name("br0"), key(1), change("learned"));
        history.note(&name("br1"), key(1), change("learned"));
        history.forget(&name("br0"));
        let left = history.of(key(1).mac(), Some(0));
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].0.0, name("br1"));
        assert!(history.of(key(1).mac(), Some(5)).is_empty());
    }
}
