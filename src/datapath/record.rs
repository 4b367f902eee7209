//! Where the way of a frame meets the flight recorder: a pass of its own behind the decisions, and
//! a note for every copy that is lost on its way out.

use std::{net::IpAddr, ops::Range};

use super::{
    Copy, Counters, Datapath, Port, Topology, Transmitted, Vtep,
    recorder::{Detail, Entry, Recorder, What},
    tunnel::Origin,
};
use crate::{
    bridge::{Decision, DropReason, Egress, Ingress, Learn, PeerId, Verdict},
    time::Timestamp,
    wire::EtherType,
};

/// What a worker's flight recorders need between two steps.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) is_on: bool,
    /// So that nobody outside can make two flows look like one.
    seed: u64,
    /// The verdicts on frames of the batch that are more than that one copy goes to a known place,
    /// by the number of the frame, and how many copies each made.
    verdicts: Vec<(usize, Verdict, u16)>,
    /// When and where the batch came in.
    now: Timestamp,
    ingress: Ingress,
}

impl Recording {
    pub(super) fn new(most_frames: usize) -> Self {
        use std::hash::BuildHasher;
        Self {
            is_on: true,
            seed: SEED.get_or_init(|| foldhash::fast::RandomState::default().hash_one(0)) | 1,
            verdicts: Vec::with_capacity(most_frames),
            now: Timestamp::ZERO,
            ingress: Ingress::Peer(PeerId::STRANGER),
        }
    }

    /// A new batch.
    #[inline]
    pub(super) fn begin(&mut self, now: Timestamp, ingress: Ingress) {
        self.verdicts.clear();
        self.now = now;
        self.ingress = ingress;
    }

    /// Frame number `index` has this verdict.
    #[inline(always)]
    pub(super) fn decided(&mut self, index: usize, verdict: Verdict, copies: usize) {
        if self.is_on {
            let copies = u16::try_from(copies).unwrap_or(u16::MAX);
            self.verdicts.push((index, verdict, copies));
        }
    }
}

/// The verdicts on all frames of the batch, one after the other.
struct Verdicts<'a> {
    noted: &'a [(usize, Verdict, u16)],
    plan: &'a [Copy],
}

impl Verdicts<'_> {
    /// That on frame number `index`, all before it being done with.
    #[inline]
    fn of(&mut self, index: usize) -> Option<(Verdict, u16)> {
        if let Some((&(number, verdict, copies), rest)) = self.noted.split_first()
            && number == index
        {
            self.noted = rest;
            self.plan = self.plan.get(usize::from(copies)..).unwrap_or_default();
            return Some((verdict, copies));
        }
        let (copy, rest) = self.plan.split_first()?;
        self.plan = rest;
        let verdict = Verdict {
            learn: Learn::Known,
            decision: Decision::Forward(copy.to),
        };
        (usize::from(copy.frame) == index).then_some((verdict, 1))
    }
}

/// Copies of one frame that did not get out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    sent: Transmitted,
    /// Bytes of each, which may be a segment of the frame.
    len: usize,
    count: usize,
    /// Of all of them.
    bytes: usize,
    detail: Option<Detail>,
}

impl Lost {
    /// One copy of `len` bytes.
    pub(super) fn one(sent: Transmitted, len: usize) -> Self {
        Self::several(sent, len, (1, len))
    }

    /// `count` copies, together `bytes`, of which the first has `len`.
    pub(super) fn several(sent: Transmitted, len: usize, (count, bytes): (usize, usize)) -> Self {
        Self {
            sent,
            len,
            count,
            bytes,
            detail: None,
        }
    }

    pub(super) fn with(self, detail: Option<Detail>) -> Self {
        Self { detail, ..self }
    }
}

/// Frames of one flow and verdict that follow each other.
struct Streak<'a> {
    entry: Entry<'a>,
    count: u64,
    bytes: u64,
}

impl Streak<'_> {
    fn end(&self, recorder: &Recorder) {
        recorder.flow(&self.entry, self.count, self.bytes);
    }
}

impl Datapath {
    /// Behind step 4, for a batch from `port`: writes down what was decided.
    pub fn record(&mut self, port: &Port) {
        if !self.recording.is_on || self.batch.is_empty() {
            return;
        }
        let recorder = port.counters.recorder(self.worker);
        let mut verdicts = self.verdicts();
        self.record_frames(
            recorder,
            Ingress::Port(port.id),
            0..self.batch.len(),
            &mut verdicts,
        );
    }

    /// Likewise for a batch from the underlay, which may be of several remote VTEPs.
    pub(super) fn record_tunnelled(&mut self, vtep: &Vtep) {
        if !self.recording.is_on {
            return;
        }
        let mut verdicts = self.verdicts();
        let mut start = 0;
        while let Some(&Origin { peer, .. }) = self.origins.get(start) {
            let rest = &self.origins[start..];
            let end = start + rest.iter().take_while(|other| other.peer == peer).count();
            let counters = vtep
                .peer(peer)
                .map_or(&vtep.counters, |peer| &peer.counters);
            let recorder = counters.recorder(self.worker);
            self.record_frames(recorder, Ingress::Peer(peer), start..end, &mut verdicts);
            start = end;
        }
    }

    /// The frames in `range` of the batch, all from `ingress`.
    #[inline]
    fn record_frames(
        &self,
        recorder: &Recorder,
        ingress: Ingress,
        range: Range<usize>,
        verdicts: &mut Verdicts<'_>,
    ) {
        let mut streak: Option<Streak<'_>> = None;
        for index in range {
            let Some((verdict, copies)) = verdicts.of(index) else {
                continue;
            };
            let head = self.batch.frame(index);
            let entry = Entry {
                now: self.recording.now,
                flow: flow_of(self.recording.seed, head),
                len: len_of(head),
                what: What::decided(ingress, &verdict, copies),
                head,
                detail: None,
            };
            recorder.frame(&entry);
            if let Decision::Drop(reason) = verdict.decision {
                recorder.loss(&entry, reason, 1, u64::from(entry.len));
                continue;
            }
            match &mut streak {
                Some(streak) if streak.entry.is_like(&entry) => {
                    streak.count += 1;
                    streak.bytes += u64::from(entry.len);
                }
                _ => {
                    if let Some(streak) = &streak {
                        streak.end(recorder);
                    }
                    streak = Some(Streak {
                        entry,
                        count: 1,
                        bytes: u64::from(entry.len),
                    });
                }
            }
        }
        if let Some(streak) = streak {
            streak.end(recorder);
        }
    }

    fn verdicts(&self) -> Verdicts<'_> {
        Verdicts {
            noted: &self.recording.verdicts,
            plan: &self.plan,
        }
    }

    /// Counts one copy of frame number `frame`, `len` bytes of it, for `to`, and writes it down if
    /// it was lost.
    #[inline]
    pub(super) fn copied(
        &self,
        counters: &Counters,
        to: Egress,
        frame: usize,
        len: usize,
        sent: Transmitted,
    ) {
        counters.worker(self.worker).copied(sent, len);
        if sent != Transmitted::Sent {
            self.lost(counters, to, frame, Lost::one(sent, len));
        }
    }

    /// Writes down that copies of frame number `frame` for `to` were lost.
    #[cold]
    pub(super) fn lost(&self, counters: &Counters, to: Egress, frame: usize, lost: Lost) {
        let ingress = match self.recording.ingress {
            // From the underlay: each frame of the batch has its own.
            Ingress::Peer(_) => self.origins.get(frame).map(|origin| origin.peer),
            Ingress::Port(_) => None,
        };
        let ingress = ingress.map_or(self.recording.ingress, Ingress::Peer);
        let head = self.batch.frame(frame);
        self.lose_copy(counters, Some(ingress), to, head, lost);
    }

    /// Likewise for a frame that the switch itself made.
    #[cold]
    pub(super) fn lost_own(
        &self,
        counters: &Counters,
        to: Egress,
        frame: &[u8],
        sent: Transmitted,
    ) {
        self.lose_copy(counters, None, to, frame, Lost::one(sent, frame.len()));
    }

    fn lose_copy(
        &self,
        counters: &Counters,
        ingress: Option<Ingress>,
        to: Egress,
        head: &[u8],
        lost: Lost,
    ) {
        let reason = match lost.sent {
            Transmitted::Sent => return,
            Transmitted::Dropped(reason) => reason,
            Transmitted::Unsupported => DropReason::EgressRefused,
        };
        if !self.recording.is_on {
            return;
        }
        let entry = Entry {
            now: self.recording.now,
            flow: flow_of(self.recording.seed, head),
            len: number(lost.len),
            what: What::lost(ingress, to, reason),
            head,
            detail: lost.detail,
        };
        let recorder = counters.recorder(self.worker);
        recorder.loss(&entry, reason, lost.count as u64, lost.bytes as u64);
    }

    /// Writes down a datagram that got no further than its outer header; `frame` is what is inside,
    /// as far as that is known.
    #[cold]
    pub(super) fn lost_datagram(
        &self,
        counters: &Counters,
        peer: PeerId,
        reason: DropReason,
        (frame, vni, from): (&[u8], Option<u32>, IpAddr),
    ) {
        if !self.recording.is_on {
            return;
        }
        let from = match from {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let verdict = Verdict {
            learn: Learn::Off,
            decision: Decision::Drop(reason),
        };
        let entry = Entry {
            now: self.recording.now,
            flow: flow_of(self.recording.seed, frame),
            len: len_of(frame),
            what: What::decided(Ingress::Peer(peer), &verdict, 0),
            head: frame,
            detail: Some(Detail::Datagram {
                vni,
                from: from.to_bits(),
            }),
        };
        let bytes = u64::from(entry.len);
        counters
            .recorder(self.worker)
            .loss(&entry, reason, 1, bytes);
    }

    /// Counts a copy whose egress went away after the decision, where its frame came in.
    #[cold]
    pub(super) fn lose(&mut self, topology: &Topology, ingress: Ingress, to: Egress, frame: usize) {
        let counters = match ingress {
            Ingress::Port(port) => topology.port(port).map(|port| &port.counters),
            Ingress::Peer(_) => topology.vtep().map(|vtep| &vtep.counters),
        };
        if let Some(counters) = counters {
            let lost = Transmitted::Dropped(DropReason::EgressGone);
            counters.worker(self.worker).copied(lost, 0);
            let len = self.batch.frame(frame).len();
            self.lost(counters, to, frame, Lost::one(lost, len));
            if self.captures.follow(frame) {
                self.capture_lost(frame, lost);
            }
        }
    }
}

impl Entry<'_> {
    #[inline]
    fn is_like(&self, other: &Self) -> bool {
        self.flow == other.flow && self.what == other.what
    }
}

fn len_of(frame: &[u8]) -> u32 {
    number(frame.len())
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A number for all frames of one conversation in one direction: addresses, and protocol and ports
/// where there are any.
#[inline]
pub(super) fn flow_of(seed: u64, frame: &[u8]) -> u64 {
    let Some(head) = frame.first_chunk::<14>() else {
        return seed;
    };
    let start = fold(seed ^ u64_at(head, 0), K1 ^ u64_at(head, 6));
    let (ether_type, at) = match u16_at(head, 12) {
        tag if EtherType(tag).is_tag() => (u16_at(frame, 16), 18),
        ether_type => (ether_type, 14),
    };
    let rest = frame.get(at..).unwrap_or_default();
    let tag = match at {
        18 => u64::from(u16_at(frame, 14) & 0xfff) << 48,
        _ => 0,
    };
    match EtherType(ether_type) {
        EtherType::IPV4 => {
            let Some(ip) = rest.first_chunk::<24>() else {
                return start;
            };
            let is_plain = ip[0] == 0x45 && u16_at(ip, 6) & 0x1fff == 0;
            let ports = ports(ip[9], is_plain, u32_at(ip, 20));
            fold(
                start ^ u64_at(ip, 12),
                K2 ^ tag ^ u64::from(ports) << 8 ^ u64::from(ip[9]),
            )
        }
        EtherType::IPV6 => {
            let Some(ip) = rest.first_chunk::<44>() else {
                return start;
            };
            let ports = ports(ip[6], true, u32_at(ip, 40));
            let hosts = fold(u64_at(ip, 16) ^ K1, u64_at(ip, 32) ^ start);
            let nets = u64_at(ip, 8) ^ u64_at(ip, 24).rotate_left(32);
            fold(
                hosts ^ nets,
                K2 ^ tag ^ u64::from(ports) << 8 ^ u64::from(ip[6]),
            )
        }
        EtherType::ARP => {
            let Some(arp) = rest.first_chunk::<28>() else {
                return start;
            };
            let addresses = u64::from(u32_at(arp, 14)) << 32 | u64::from(u32_at(arp, 24));
            fold(start ^ addresses, K2 ^ tag ^ u64::from(u16_at(arp, 6)))
        }
        _ => start ^ tag,
    }
}

/// The first four bytes of the transport header as far as they name the flow.
#[inline]
fn ports(protocol: u8, is_first: bool, word: u32) -> u32 {
    match protocol {
        _ if !is_first => 0,
        TCP | UDP | SCTP => word,
        // Type and code.
        ICMP | ICMP6 => word >> 16,
        _ => 0,
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    {
        (product >> 64) as u64 ^ product as u64
    }
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map_or(0, |chunk| u16::from_be_bytes(*chunk))
}

static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
/// Odd numbers without a pattern: the fractional digits of pi.
const K1: u64 = 0x243f_6a88_85a3_08d3;
const K2: u64 = 0x1319_8a2e_0370_7345;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;
