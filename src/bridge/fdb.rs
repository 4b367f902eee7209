//! The filtering database: which address is behind which port.
//!
//! One table for all workers and the control side, and in front of it a small cache for each
//! worker. A cached answer carries the table's generation: whenever an existing answer may have
//! changed (a move, a flush, ageing, a static entry) the table takes a new generation and every
//! cached answer is void. New addresses need none, since the cache holds no "unknown".

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;

use super::{
    Egress, Learn, PortId,
    cache::FdbCache,
    entry::{EntryKind, FdbEntry, FdbKey, FdbPolicy},
};
use crate::time::Timestamp;

/// Counters of an FDB, all since its bridge was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is the outcome of Learn, or the operation, of that name"
)]
pub struct FdbCounters {
    pub learned: u64,
    pub moved: u64,
    pub aged: u64,
    pub refused_full: u64,
    pub evicted: u64,
    pub static_violation: u64,
    pub frozen: u64,
}

#[derive(Debug, Default)]
struct Counters {
    learned: AtomicU64,
    moved: AtomicU64,
    aged: AtomicU64,
    refused_full: AtomicU64,
    evicted: AtomicU64,
    static_violation: AtomicU64,
    frozen: AtomicU64,
}

/// The table. `&self` everywhere: workers and the control side share it.
///
/// No reference into the map ever leaves this file, and none is held while the map is used again:
/// that would deadlock.
#[derive(Debug)]
pub struct Fdb {
    map: DashMap<FdbKey, FdbEntry, RandomState>,
    generation: AtomicU64,
    learned: AtomicU32,
    /// By port, and behind the last one all remote VTEPs together; see [`share`].
    learned_by_port: Box<[AtomicU32]>,
    /// Ports from this number on never had an entry.
    ports_seen: AtomicUsize,
    /// When the next eviction is free of charge; see [`Self::may_evict`].
    evict_at: AtomicU64,
    counters: Counters,
}

impl Default for Fdb {
    fn default() -> Self {
        Self::new()
    }
}

impl Fdb {
    /// An empty table. Its hash is keyed at random, since addresses come from strangers.
    pub fn new() -> Self {
        Self {
            map: DashMap::with_hasher_and_shard_amount(RandomState::default(), Self::SHARDS),
            generation: AtomicU64::new(next_generation()),
            learned: AtomicU32::new(0),
            learned_by_port: (0..=PortId::LIMIT).map(|_| AtomicU32::new(0)).collect(),
            ports_seen: AtomicUsize::new(0),
            evict_at: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// Where `dst` is, if the calling worker remembers that, and that `src` was seen at `here`
    /// lately: then there is nothing to learn and nothing to look up. Also, until when in
    /// nanoseconds that is so, if nothing changes.
    #[inline(always)]
    pub(super) fn recall(
        &self,
        now: Timestamp,
        (src, here): (FdbKey, Egress),
        dst: FdbKey,
        policy: &FdbPolicy,
        cache: &FdbCache,
    ) -> Option<(Egress, u64)> {
        let generation = self.generation();
        let source = cache.find(src, generation)?;
        let target = cache.find(dst, generation)?;
        let known = source.egress == here
            && now.nanos_since(source.updated) < policy.refresh_ns
            && now.nanos_since(target.updated) <= policy.lifetime_ns;
        let refresh = source.updated.as_nanos().saturating_add(policy.refresh_ns);
        // The last moment of a lifetime still counts.
        let death = target.updated.as_nanos().saturating_add(policy.lifetime_ns);
        known.then_some((target.egress, refresh.min(death)))
    }

    /// Where `key` is, unless its entry has aged.
    #[inline]
    pub fn lookup(
        &self,
        now: Timestamp,
        key: FdbKey,
        policy: &FdbPolicy,
        cache: &mut FdbCache,
    ) -> Option<Egress> {
        let generation = self.generation();
        match cache.find(key, generation) {
            Some(hit) if now.nanos_since(hit.updated) <= policy.lifetime_ns => Some(hit.egress),
            _ => self.lookup_shared(now, key, policy, cache, generation),
        }
    }

    /// Takes note that `key` was seen as a source at `egress`.
    #[inline]
    pub fn learn(
        &self,
        now: Timestamp,
        key: FdbKey,
        egress: Egress,
        policy: &FdbPolicy,
        cache: &mut FdbCache,
    ) -> Learn {
        let generation = self.generation();
        match cache.find(key, generation) {
            Some(hit)
                if hit.egress == egress && now.nanos_since(hit.updated) < policy.refresh_ns =>
            {
                Learn::Known
            }
            _ => self.learn_shared(now, key, egress, policy, cache, generation),
        }
    }

    /// The entry of `key`, aged or not, without touching any cache.
    pub fn get(&self, key: FdbKey) -> Option<FdbEntry> {
        self.map.view(&key, |_, entry| *entry)
    }

    /// Adds or replaces an entry that stays until it is deleted.
    pub fn pin(&self, key: FdbKey, egress: Egress, kind: EntryKind, now: Timestamp) {
        let entry = FdbEntry {
            kind,
            ..FdbEntry::new(egress, now)
        };
        if let Some(old) = self.map.insert(key, entry) {
            self.forget_count(&old);
        }
        self.renew();
    }

    /// Deletes one entry of any kind.
    pub fn remove(&self, key: FdbKey) -> Option<FdbEntry> {
        let (_, old) = self.map.remove(&key)?;
        self.forget_count(&old);
        self.renew();
        Some(old)
    }

    /// Deletes every entry for which `condemned` holds, and returns them.
    pub fn flush(
        &self,
        mut condemned: impl FnMut(FdbKey, &FdbEntry) -> bool,
    ) -> Vec<(FdbKey, FdbEntry)> {
        let mut gone = Vec::new();
        self.map.retain(|&key, entry| {
            let goes = condemned(key, entry);
            if goes {
                gone.push((key, *entry));
            }
            !goes
        });
        for (_, entry) in &gone {
            self.forget_count(entry);
        }
        if !gone.is_empty() {
            self.renew();
        }
        gone
    }

    /// Deletes every entry that has aged, and returns them.
    pub fn age(&self, now: Timestamp, policy: &FdbPolicy) -> Vec<(FdbKey, FdbEntry)> {
        let gone = self.flush(|_, entry| entry.is_aged(now, policy));
        count(&self.counters.aged, gone.len() as u64);
        gone
    }

    /// All entries, each once, while learning goes on.
    pub fn entries(&self) -> Vec<(FdbKey, FdbEntry)> {
        self.map
            .iter()
            .map(|entry| (*entry.key(), *entry.value()))
            .collect()
    }

    /// A copy that lives on by itself: what is learned in one does not show in the other. Frames of
    /// other workers that come meanwhile may or may not be in it.
    pub fn snapshot(&self) -> Self {
        let read = |number: &AtomicU64| AtomicU64::new(number.load(Ordering::Relaxed));
        let copy = Self {
            map: self.map.clone(),
            evict_at: read(&self.evict_at),
            counters: Counters {
                learned: read(&self.counters.learned),
                moved: read(&self.counters.moved),
                aged: read(&self.counters.aged),
                refused_full: read(&self.counters.refused_full),
                evicted: read(&self.counters.evicted),
                static_violation: read(&self.counters.static_violation),
                frozen: read(&self.counters.frozen),
            },
            ..Self::new()
        };
        // Counted from what was copied, so that the sums are right whatever came meanwhile.
        for entry in copy.map.iter().filter(|e| e.kind == EntryKind::Learned) {
            copy.learned.fetch_add(1, Ordering::Relaxed);
            copy.count_port(entry.egress, 1);
        }
        copy
    }

    /// Number of entries of all kinds.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Number of learned entries.
    pub fn learned(&self) -> u32 {
        self.learned.load(Ordering::Relaxed)
    }

    /// The counters.
    pub fn counters(&self) -> FdbCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FdbCounters {
            learned: read(&self.counters.learned),
            moved: read(&self.counters.moved),
            aged: read(&self.counters.aged),
            refused_full: read(&self.counters.refused_full),
            evicted: read(&self.counters.evicted),
            static_violation: read(&self.counters.static_violation),
            frozen: read(&self.counters.frozen),
        }
    }

    /// Voids every cached answer; for changes of the policy.
    pub fn renew(&self) {
        self.generation.store(next_generation(), Ordering::Release);
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    // The generation was read before the map: if the entry changes in between, the cached answer
    // is void from the start.
    #[inline(never)]
    fn lookup_shared(
        &self,
        now: Timestamp,
        key: FdbKey,
        policy: &FdbPolicy,
        cache: &mut FdbCache,
        generation: u64,
    ) -> Option<Egress> {
        cache.fit(self.learned());
        let entry = self.get(key).filter(|entry| !entry.is_aged(now, policy))?;
        cache.insert(key, generation, &entry);
        Some(entry.egress)
    }

    #[inline(never)]
    fn learn_shared(
        &self,
        now: Timestamp,
        key: FdbKey,
        egress: Egress,
        policy: &FdbPolicy,
        cache: &mut FdbCache,
        generation: u64,
    ) -> Learn {
        if !policy.learns {
            return Learn::Off;
        }
        cache.fit(self.learned());
        // Mostly it is only the cache that has forgotten: then nothing is written, and no lock
        // taken that keeps others from reading.
        if let Some(entry) = self.get(key)
            && entry.egress == egress
            && entry.is_fresh(now, policy)
        {
            cache.insert(key, generation, &entry);
            return Learn::Known;
        }
        if let Some(learn) = self.learn_once(now, key, egress, policy, cache, generation) {
            return learn;
        }
        // Full. Making room walks the map, so the entry's lock has been given back.
        if policy.fair
            && self.evict_for(now, egress)
            && let Some(learn) = self.learn_once(now, key, egress, policy, cache, self.generation())
        {
            return learn;
        }
        count(&self.counters.refused_full, 1);
        Learn::Full
    }

    /// `None` if the key is new and the table is full.
    fn learn_once(
        &self,
        now: Timestamp,
        key: FdbKey,
        egress: Egress,
        policy: &FdbPolicy,
        cache: &mut FdbCache,
        generation: u64,
    ) -> Option<Learn> {
        match self.map.entry(key) {
            Entry::Vacant(vacant) => {
                if !self.reserve(policy.limit) {
                    return None;
                }
                let entry = FdbEntry::new(egress, now);
                self.count_port(egress, 1);
                cache.insert(key, generation, &entry);
                drop(vacant.insert(entry));
                count(&self.counters.learned, 1);
                Some(Learn::New)
            }
            Entry::Occupied(mut occupied) => {
                let entry = occupied.get_mut();
                let learn = self.seen_again(now, entry, egress, policy);
                match learn {
                    Learn::Known => cache.insert(key, generation, entry),
                    // Other workers may still hold the old answer.
                    Learn::New | Learn::Moved { .. } | Learn::Flapping { .. } => self.renew(),
                    _ => {}
                }
                Some(learn)
            }
        }
    }

    fn seen_again(
        &self,
        now: Timestamp,
        entry: &mut FdbEntry,
        egress: Egress,
        policy: &FdbPolicy,
    ) -> Learn {
        let from = entry.egress;
        if entry.kind == EntryKind::Control && from.peer().is_some() && egress.port().is_some() {
            // A station that is seen here is here, whatever a control plane knew (RFC 7432 §15).
            *entry = FdbEntry::new(egress, now);
            self.learned.fetch_add(1, Ordering::Relaxed);
            self.count_port(egress, 1);
            count(&self.counters.moved, 1);
            return Learn::Moved { from };
        }
        if entry.kind != EntryKind::Learned {
            if from == egress {
                return Learn::Known;
            }
            count(&self.counters.static_violation, 1);
            return Learn::Pinned;
        }
        if entry.is_aged(now, policy) {
            // Not swept yet, but dead: the address is new, not moved.
            *entry = FdbEntry::new(egress, now);
            self.recount(from, egress);
            count(&self.counters.aged, 1);
            count(&self.counters.learned, 1);
            return Learn::New;
        }
        if from == egress {
            entry.updated = now;
            return Learn::Known;
        }
        if entry.frozen_until > now {
            count(&self.counters.frozen, 1);
            return Learn::Frozen;
        }
        let flapping = entry.count_move(now, policy);
        entry.egress = egress;
        entry.updated = now;
        self.recount(from, egress);
        count(&self.counters.moved, 1);
        if flapping {
            Learn::Flapping { from }
        } else {
            Learn::Moved { from }
        }
    }

    fn reserve(&self, limit: u32) -> bool {
        let more = |learned| {
            if learned < limit {
                Some(learned + 1)
            } else {
                None
            }
        };
        self.learned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn forget_count(&self, entry: &FdbEntry) {
        if entry.kind == EntryKind::Learned {
            self.learned.fetch_sub(1, Ordering::Relaxed);
            self.count_port(entry.egress, -1);
        }
    }

    fn recount(&self, from: Egress, to: Egress) {
        self.count_port(from, -1);
        self.count_port(to, 1);
    }

    fn count_port(&self, egress: Egress, change: i32) {
        let index = share(egress);
        if let Some(counter) = self.learned_by_port.get(index) {
            if index < REMOTE && index >= self.ports_seen.load(Ordering::Relaxed) {
                self.ports_seen.fetch_max(index + 1, Ordering::Relaxed);
            }
            // Two's complement: adding -1 subtracts.
            counter.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Makes room for one entry of `egress` at the cost of the port that has most, if that has at
    /// least as many; so every port keeps its share whatever one of them sends (after Open
    /// vSwitch's MAC table). Its oldest entry goes.
    fn evict_for(&self, now: Timestamp, egress: Egress) -> bool {
        let load = |index: usize| {
            self.learned_by_port
                .get(index)
                .map_or(0, |c| c.load(Ordering::Relaxed))
        };
        let own = share(egress);
        let greediest = (0..self.ports_seen.load(Ordering::Relaxed))
            .chain([REMOTE])
            .filter(|&index| index != own)
            .max_by_key(|&index| load(index));
        let Some(victim) = greediest else {
            return false;
        };
        let most = load(victim);
        let size = self.learned();
        if most < 2 || most < load(own) || !self.may_evict(now, size) {
            return false;
        }
        let belongs =
            |entry: &FdbEntry| entry.kind == EntryKind::Learned && share(entry.egress) == victim;
        let oldest = self
            .map
            .iter()
            .filter(|entry| belongs(entry))
            .min_by_key(|entry| entry.updated)
            .map(|entry| *entry.key());
        let removed = oldest.and_then(|key| self.map.remove_if(&key, |_, entry| belongs(entry)));
        let Some((_, entry)) = removed else {
            return false;
        };
        self.forget_count(&entry);
        self.renew();
        count(&self.counters.evicted, 1);
        true
    }

    /// An eviction walks the table, so a flood of new addresses must not buy one for each frame:
    /// at most a burst of 32, then 100 a second, and fewer the more entries there are to walk.
    fn may_evict(&self, now: Timestamp, size: u32) -> bool {
        const INTERVAL: u64 = 10_000_000;
        const BURST: u64 = 32 * INTERVAL;
        const WALKED_IN_AN_INTERVAL: u64 = 8192;
        let interval =
            INTERVAL * u64::from(size).max(WALKED_IN_AN_INTERVAL) / WALKED_IN_AN_INTERVAL;
        let now = now.as_nanos();
        let take = |at: u64| {
            let at = at.max(now);
            if at - now < BURST {
                Some(at + interval)
            } else {
                None
            }
        };
        self.evict_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// More shards than cores by far: two workers seldom meet, and a sweep holds each only briefly.
    const SHARDS: usize = 256;
}

/// Who pays for an entry at `egress` when the table is full: its port, or all remote VTEPs together,
/// since the hosts behind them share one tunnel into the bridge.
fn share(egress: Egress) -> usize {
    egress.port().map_or(REMOTE, PortId::index)
}

/// The share of the remote VTEPs, behind those of all ports.
const REMOTE: usize = PortId::LIMIT;

/// Generations are unique in the process, so a cached answer of one FDB is never taken for
/// another's.
pub(super) fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
