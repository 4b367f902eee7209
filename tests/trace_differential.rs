//! A rehearsal and reality: each random frame is rehearsed first, and then really forwarded. The
//! decision, every byte that anybody gets, and every drop with its reason must be the same, and the
//! rehearsal must have changed nothing.
//!
//! `TAPSWITCH_FUZZ_SECONDS` sets for how long (2), `TAPSWITCH_FUZZ_SEED` repeats a run.

mod model;
mod superframe;

use std::{
    collections::HashSet,
    env, fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use model::{
    generator::{Alphabet, Generator},
    steps::Step,
};
use superframe::{Noise, recipe};
use tapswitch::{
    bridge::{
        Decision, DropReason, Egress, FdbEntry, FdbKey, Ingress, PeerId, PortFlags, PortId, Verdict,
    },
    config::{AtLimit, Mode},
    datapath::{Decided, Departure, Observer, Totals},
    offload::Offloads,
    rehearsal::{Answer, Copied, Entrance, Message, Names, Rehearsal, Written, rehearse, story},
    sim::{Lab, MemMessage, MemNet, MemPort, MemState, MemUnderlay},
    sys::clock,
    vxlan::{self, ping},
    wire::{MacAddr, VirtioNetHdr, Vni},
};

const PORTS: usize = 6;

type Seen = (Ingress, Vec<u8>, Verdict, Vec<Egress>);

/// Writes down what really was decided.
#[derive(Debug)]
struct Log(Arc<Mutex<Vec<Seen>>>);

impl Observer for Log {
    fn decided(&mut self, decided: &Decided<'_>) {
        let decided = (
            decided.ingress,
            decided.frame.to_vec(),
            *decided.verdict,
            decided.targets.to_vec(),
        );
        self.0.lock().unwrap().push(decided);
    }
}

struct World {
    lab: Lab,
    ports: Vec<PortId>,
    peers: Vec<PeerId>,
    underlay: Arc<MemUnderlay>,
    decided: Arc<Mutex<Vec<Seen>>>,
    noise: Noise,
    frames: Generator,
    /// Frames that came lately, to come again.
    recent: Vec<(VirtioNetHdr, Vec<u8>)>,
    corpus: Vec<Vec<u8>>,
}

/// All that a frame can change.
#[derive(Debug, PartialEq)]
struct State {
    entries: Vec<Vec<(FdbKey, FdbEntry)>>,
    fdb_counters: Vec<tapswitch::bridge::FdbCounters>,
    ports: Vec<Totals>,
    peers: Vec<Totals>,
    vtep: Totals,
    waiting: Vec<(usize, usize)>,
    backlog: usize,
    paths: Vec<u32>,
}

/// What comes in.
enum Arriving {
    Frame(usize, VirtioNetHdr, Vec<u8>),
    Messages(Vec<Message>),
}

struct Plain;

impl Names for Plain {
    fn port(&self, port: PortId) -> String {
        format!("p{port}")
    }
    fn peer(&self, peer: PeerId) -> String {
        format!("v{peer}")
    }
    fn bridge(&self, bridge: usize) -> String {
        format!("br{bridge}")
    }
}

fn peer_at(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4789))
}

/// A datagram as it left.
fn sent(departure: &Departure, bytes: Vec<u8>) -> (SocketAddr, u32, u8, Option<u16>, Vec<u8>) {
    let Departure {
        to,
        flow,
        tos,
        segment,
    } = *departure;
    (to, flow, tos, segment, bytes)
}

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut noise = Noise(seed);
        let mut lab = Lab::new();
        let mut first = Lab::spec("br0");
        first.fdb_limit = 1 + u32::try_from(noise.below(9)).unwrap();
        first.flap_limit = [0, 2, 5][usize::try_from(noise.below(3)).unwrap()];
        if noise.one_in(2) {
            first.at_limit = AtLimit::Refuse;
        }
        lab.add_bridge(first);
        lab.add_bridge(Lab::spec("br1"));
        let all = [
            Offloads::NONE,
            Offloads::CSUM,
            Offloads::CSUM.union(Offloads::TSO4),
            Offloads::ALL,
        ];
        let ports = (0..PORTS).map(|n| {
            let io = MemPort::new().with_offloads(all[usize::try_from(noise.below(4)).unwrap()]);
            lab.add_port_with(usize::from(n == PORTS - 1), &format!("p{n}"), io)
        });
        let ports: Vec<_> = ports.collect();
        let underlay = MemNet::new().attach(peer_at(10));
        lab.add_vtep(Arc::clone(&underlay));
        lab.set_vni(0, vni(42));
        lab.set_vni(1, vni(43));
        let peers = vec![
            lab.add_peer(0, peer_at(20)),
            lab.add_peer(0, peer_at(21)),
            lab.add_peer_with(0, peer_at(22), false),
            lab.add_peer(1, peer_at(20)),
        ];
        let decided = Arc::default();
        lab.observe(Box::new(Log(Arc::clone(&decided))));
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/decap");
        let files = fs::read_dir(directory).unwrap();
        let mut paths: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        Self {
            lab,
            ports,
            peers,
            underlay,
            decided,
            frames: Generator::new(noise.next(), Alphabet::ALL),
            noise,
            recent: Vec::new(),
            corpus: paths.iter().map(|path| fs::read(path).unwrap()).collect(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.noise.below(end as u64)).unwrap()
    }

    fn mac(&mut self) -> MacAddr {
        MacAddr::from_u48(0x0200_0000_0001 + self.noise.below(6))
    }

    /// Changes the switch a little.
    #[expect(clippy::too_many_lines, reason = "a list of what can change")]
    fn shake(&mut self) {
        let port = self.ports[usize::try_from(self.noise.below(PORTS as u64)).unwrap()];
        let on = self.noise.one_in(2);
        match self.below(25) {
            0 => self.lab.set_flag(port, PortFlags::ISOLATED, on),
            1 => self.lab.set_flag(port, PortFlags::HAIRPIN, on),
            2 => {
                let locks = on && self.noise.one_in(2);
                self.lab.set_flag(port, PortFlags::LOCKED, locks);
            }
            3 => self.lab.set_flag(port, PortFlags::LEARNING, on),
            4 => self.lab.set_flag(port, PortFlags::FLOOD, on),
            5 => self.lab.set_flag(port, PortFlags::MCAST_FLOOD, on),
            6 => self.lab.set_flag(port, PortFlags::BCAST_FLOOD, on),
            7 => self.lab.set_up(port, on || self.noise.one_in(2)),
            8 => {
                let mtu = [600, 1280, 1500, 9000][self.below(4)];
                self.lab.set_mtu(port, mtu);
            }
            9 => {
                let mac = self.mac();
                self.lab.pin(mac, port);
            }
            10 => {
                let (mac, peer) = (
                    self.mac(),
                    self.peers[usize::try_from(self.noise.below(3)).unwrap()],
                );
                self.lab.pin_remote(mac, peer);
            }
            11 => drop(self.lab.fdb().remove(FdbKey::new(self.mac_of(), 0))),
            12 => {
                let state = [
                    MemState::Open,
                    MemState::Open,
                    MemState::Full,
                    MemState::Down,
                    MemState::Refusing,
                    MemState::Gone,
                ][self.below(6)];
                self.lab.io(port).set_state(state);
            }
            13 => {
                let mode = [Mode::Switch, Mode::Switch, Mode::Switch, Mode::Hub][self.below(4)];
                self.lab.set_mode(0, mode);
            }
            14 => {
                let mtu = [600, 1000, 1280, 1500, 9000][self.below(5)];
                self.underlay.set_mtu(mtu);
            }
            15 => {
                let (peer, mtu) = (self.below(4), [600, 1280, 1500, 9000][self.below(4)]);
                self.lab.path(self.peers[peer]).set(mtu);
            }
            16 => {
                let (any, strict, answers) = (on, self.noise.one_in(3), !self.noise.one_in(4));
                self.lab.set_vtep(|policy| {
                    policy.accepts_any = any;
                    policy.is_strict = strict;
                    policy.answers_too_big = answers;
                });
            }
            17 => self.lab.set_peer_learning(0, on),
            18 => {
                let most = [1, 2, 64, 128][self.below(4)];
                self.underlay.set_most_in_message(most);
            }
            19 => {
                let ageing = [0, 20, 300, 300][self.below(4)];
                self.lab
                    .configure(0, |spec| spec.ageing = Duration::from_secs(ageing));
            }
            20 => {
                let wait = [5, 25, 200, 400][self.below(4)];
                self.lab.skip(Duration::from_secs(wait));
            }
            21 => drop(self.lab.sweep()),
            22 => {
                let cut_off = self.noise.one_in(3).then_some(DropReason::NoRoute);
                self.underlay.set_loss(cut_off);
            }
            _ => {}
        }
        // What limits how often the switch speaks for itself is not a frame's doing.
        self.lab.skip(Duration::from_secs(1));
    }

    fn mac_of(&self) -> MacAddr {
        MacAddr::from_u48(0x0200_0000_0003)
    }

    fn frame(&mut self) -> (VirtioNetHdr, Vec<u8>) {
        let (header, mut frame) = match self.below(10) {
            0..3 if !self.recent.is_empty() => {
                let which = self.below(self.recent.len());
                return self.recent[which].clone();
            }
            3..5 => {
                let mut bytes = Vec::new();
                self.noise.extend(&mut bytes, 13);
                // Not too many bytes, and mostly sizes that make sense.
                bytes[4] %= 40;
                bytes[6] %= 8;
                bytes[2] %= 16;
                let cutting = recipe::superframe(&bytes);
                (cutting.header, cutting.frame)
            }
            5 => {
                let mut probe = Vec::new();
                let request = ping::Probe {
                    src: self.mac(),
                    kind: ping::Kind::Request,
                    token: 1,
                    sequence: 7,
                };
                ping::encode(&request, ping::MIN_LEN, &mut probe);
                (VirtioNetHdr::none(), probe)
            }
            _ => loop {
                if let Step::Send(_, frame) = self.frames.step(|_| true) {
                    break (VirtioNetHdr::none(), frame);
                }
            },
        };
        if self.noise.one_in(2) && frame.len() > 12 && frame[0] & 1 == 0 {
            let (dst, src) = (self.mac(), self.mac());
            frame[..6].copy_from_slice(&dst.octets());
            frame[6..12].copy_from_slice(&src.octets());
        }
        if self.recent.len() > 20 {
            let which = self.below(20);
            self.recent.swap_remove(which);
        }
        self.recent.push((header, frame.clone()));
        (header, frame)
    }

    fn message(&mut self) -> Message {
        let from: IpAddr = IpAddr::from([192, 0, 2, [20, 20, 20, 21, 22, 10, 99][self.below(7)]]);
        let tos = [0, 0, 1, 2, 3, 0xb8][self.below(6)];
        if self.noise.one_in(5) {
            let which = self.below(self.corpus.len());
            let input = &self.corpus[which];
            let segment = usize::from(u16::from_be_bytes([input[0], input[1]]));
            return Message {
                from,
                tos: input[2],
                segment: Some(segment).filter(|&segment| segment > 0),
                bytes: input[4..].to_vec(),
            };
        }
        let number = [42, 42, 42, 42, 43, 44][self.below(6)];
        let mut datagram = vxlan::header(vni(number)).to_vec();
        if self.noise.one_in(10) {
            let at = self.below(8);
            datagram[at] ^= 1 << self.noise.below(8);
        }
        let (_, frame) = self.frame();
        datagram.extend(frame);
        let count = if self.noise.one_in(3) {
            1 + self.below(20)
        } else {
            1
        };
        let segment = (count > 1).then_some(datagram.len());
        let mut bytes = datagram.repeat(count);
        bytes.truncate(65_000);
        Message {
            from,
            tos,
            segment,
            bytes,
        }
    }

    fn arriving(&mut self) -> Arriving {
        if self.noise.one_in(3) {
            let count = if self.noise.one_in(4) { 3 } else { 1 };
            return Arriving::Messages((0..count).map(|_| self.message()).collect());
        }
        let port = self.below(PORTS);
        let (header, frame) = self.frame();
        // From a device that is down nothing comes, which needs no rehearsal.
        let io = self.lab.io(self.ports[port]);
        if matches!(io.state(), MemState::Down | MemState::Gone) {
            io.set_state(MemState::Open);
        }
        Arriving::Frame(port, header, frame)
    }

    fn state(&self) -> State {
        let fdbs = [0, 1].map(|bridge| self.lab.fdb_of(bridge));
        let sorted = |fdb: &tapswitch::bridge::Fdb| {
            let mut entries = fdb.entries();
            entries.sort_by_key(|&(key, _)| key);
            entries
        };
        let ios = self.ports.iter().map(|&port| self.lab.io(port));
        State {
            entries: fdbs.iter().map(|fdb| sorted(fdb)).collect(),
            fdb_counters: fdbs.iter().map(|fdb| fdb.counters()).collect(),
            ports: self
                .ports
                .iter()
                .map(|&port| self.lab.totals(port))
                .collect(),
            peers: self
                .peers
                .iter()
                .map(|&peer| self.lab.peer_totals(peer))
                .collect(),
            vtep: self.lab.vtep_totals(),
            waiting: ios.map(|io| (io.waiting(), io.backlog())).collect(),
            backlog: self.underlay.backlog(),
            paths: self
                .peers
                .iter()
                .map(|&peer| self.lab.path(peer).get())
                .collect(),
        }
    }

    /// Rehearses and then plays; returns what the rehearsal found.
    fn compare(&mut self, arriving: &Arriving) -> Rehearsal {
        let before = self.state();
        let topology = self.lab.topology();
        let entrance = match arriving {
            Arriving::Frame(port, header, frame) => Entrance::Port {
                port: self.ports[*port],
                header: *header,
                frame,
            },
            Arriving::Messages(messages) => Entrance::Underlay(messages),
        };
        let rehearsal = rehearse(self.lab.now(), &topology, true, entrance);
        let told = story(self.lab.now(), &topology, &Plain, entrance, &rehearsal);
        assert!(!told.steps.is_empty() && !told.frame.is_empty());
        assert_eq!(self.state(), before, "the rehearsal changed something");
        assert!(self.decided.lock().unwrap().is_empty());

        self.play(arriving);

        let decided = std::mem::take(&mut *self.decided.lock().unwrap());
        let rehearsed = rehearsal.frames.iter().map(|frame| {
            let ingress = frame.ingress;
            (
                ingress,
                frame.frame.clone(),
                frame.verdict,
                frame.targets.clone(),
            )
        });
        assert_eq!(rehearsed.collect::<Vec<_>>(), decided);
        self.compare_bytes(&rehearsal);
        self.compare_counters(&before, &rehearsal);
        rehearsal
    }

    fn play(&mut self, arriving: &Arriving) {
        match arriving {
            Arriving::Frame(port, header, frame) => {
                assert!(self.lab.io(self.ports[*port]).inject_with(header, frame));
                self.lab.run();
            }
            Arriving::Messages(messages) => {
                for message in messages {
                    self.underlay.inject(MemMessage {
                        from: SocketAddr::new(message.from, 50_000),
                        departure: Departure {
                            to: peer_at(10),
                            flow: 0,
                            tos: message.tos,
                            segment: message.segment.map(|size| u16::try_from(size).unwrap()),
                        },
                        bytes: message.bytes.clone(),
                    });
                }
                self.lab.run();
            }
        }
    }

    fn compare_bytes(&mut self, rehearsal: &Rehearsal) {
        for &port in &self.ports {
            let io = self.lab.io(port);
            let real: Vec<_> = std::iter::from_fn(|| io.take_with_header()).collect();
            let copies = rehearsal
                .copies
                .iter()
                .filter(|copy| copy.to == Egress::Port(port));
            let mut rehearsed: Vec<Vec<u8>> = copies
                .flat_map(|copy| match &copy.written {
                    Written::Frames(frames) => frames.clone(),
                    Written::Messages(_) => panic!("a port got datagrams"),
                })
                .collect();
            for answer in &rehearsal.answers {
                if let Answer::TooBig { port: to, frame } = answer
                    && *to == port
                {
                    rehearsed.push([&[0; VirtioNetHdr::LEN][..], frame].concat());
                }
            }
            assert!(rehearsed == real, "port {port} got other bytes");
        }
        let mut real: Vec<_> = std::iter::from_fn(|| self.underlay.take_stray())
            .map(|message| sent(&message.departure, message.bytes))
            .collect();
        real.sort();
        let copies = rehearsal
            .copies
            .iter()
            .flat_map(|copy| match &copy.written {
                Written::Messages(messages) => messages.clone(),
                Written::Frames(_) => Vec::new(),
            });
        let answers = rehearsal.answers.iter().filter_map(|answer| match answer {
            Answer::Probe(message) => Some(message.clone()),
            Answer::TooBig { .. } => None,
        });
        let mut rehearsed: Vec<_> = copies
            .chain(answers)
            .map(|message| sent(&message.departure, message.bytes))
            .collect();
        rehearsed.sort();
        assert!(rehearsed == real, "other datagrams left");
    }

    /// Every drop, and where.
    fn compare_counters(&self, before: &State, rehearsal: &Rehearsal) {
        let after = self.state();
        let places = self.ports.iter().map(|&port| Egress::Port(port));
        let places = places.chain(self.peers.iter().map(|&peer| Egress::Peer(peer)));
        let afters = after.ports.iter().chain(&after.peers);
        let befores = before.ports.iter().chain(&before.peers);
        let mut ingress = vec![0; DropReason::COUNT];
        let mut unasked = 0;
        for ((place, after), before) in places.zip(afters).zip(befores) {
            unasked += compare_egress(place, before, after, rehearsal);
            for reason in DropReason::ALL {
                ingress[reason.index()] +=
                    after.ingress_drops[reason.index()] - before.ingress_drops[reason.index()];
            }
        }
        assert!(unasked <= rehearsal.probes, "{unasked} answers to probes");
        for reason in DropReason::ALL {
            ingress[reason.index()] += after.vtep.ingress_drops[reason.index()]
                - before.vtep.ingress_drops[reason.index()];
        }
        let mut rehearsed = vec![0; DropReason::COUNT];
        for frame in &rehearsal.frames {
            if let Decision::Drop(reason) = frame.verdict.decision {
                rehearsed[reason.index()] += 1;
            }
        }
        for (reason, count) in &rehearsal.refused {
            rehearsed[reason.index()] += count;
        }
        assert_eq!(rehearsed, ingress);
    }
}

/// What went out at a place, and what was lost there; returns how many frames went to a peer and
/// were no copies, so that they must be answers to probes.
fn compare_egress(place: Egress, before: &Totals, after: &Totals, rehearsal: &Rehearsal) -> u64 {
    let all = DropReason::ALL.iter().map(|&reason| {
        let index = reason.index();
        (
            reason,
            after.egress_drops[index] - before.egress_drops[index],
        )
    });
    let lost: Vec<_> = all.filter(|&(_, count)| count > 0).collect();
    let real = [
        after.tx_frames - before.tx_frames,
        after.tx_bytes - before.tx_bytes,
        after.segmented - before.segmented,
        after.coalesced - before.coalesced,
    ];
    if let Some(Copied { totals, drops, .. }) =
        rehearsal.copies.iter().find(|copy| copy.to == place)
    {
        let rehearsed = [
            totals.tx_frames,
            totals.tx_bytes,
            totals.segmented,
            totals.coalesced,
        ];
        assert_eq!((real, &lost), (rehearsed, drops), "{place:?}");
        return 0;
    }
    let unanswered = rehearsal.lost_answers.iter();
    let unanswered = unanswered.filter(|(to, ..)| *to == place);
    let unanswered: Vec<_> = unanswered
        .map(|&(_, reason, count)| (reason, count))
        .collect();
    assert_eq!(lost, unanswered, "{place:?}");
    match place {
        Egress::Peer(_) => real[0],
        Egress::Port(port) => {
            let is_for_it =
                |answer: &&Answer| matches!(answer, Answer::TooBig { port: to, .. } if *to == port);
            let told = rehearsal.answers.iter().filter(is_for_it).count();
            assert_eq!(real[0], told as u64, "{place:?}");
            0
        }
    }
}

#[test]
fn a_rehearsal_is_what_then_happens_and_changes_nothing() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    let seed: u64 =
        number("TAPSWITCH_FUZZ_SEED").unwrap_or_else(|| clock::now().as_nanos() % 1_000_000);
    let limit = Duration::from_secs(number("TAPSWITCH_FUZZ_SECONDS").unwrap_or(2));
    eprintln!("TAPSWITCH_FUZZ_SEED={seed}");
    let (start, mut count, mut round) = (clock::now(), 0_u64, 0);
    let mut met = HashSet::new();
    let mut answers = 0;
    while round < FIXED || clock::now().since(start) < limit {
        // The first ones are always the same, and between them meet every reason.
        let seed = if round < FIXED { round } else { seed + round };
        let mut world = World::new(seed);
        for step in 0..300 {
            world.shake();
            let arriving = world.arriving();
            let guard = Where { seed, step };
            let rehearsal = world.compare(&arriving);
            std::mem::forget(guard);
            if round < FIXED {
                met.extend(reasons(&rehearsal));
            }
            answers += rehearsal.answers.len();
            count += 1;
        }
        round += 1;
    }
    // Of how long a frame has waited before its turn no rehearsal can know.
    let foreseeable = |reason: &&DropReason| **reason != DropReason::StandingQueue;
    let mut missed: Vec<_> = DropReason::ALL
        .iter()
        .filter(foreseeable)
        .map(|reason| reason.name())
        .filter(|name| !met.contains(name))
        .collect();
    missed.sort_unstable();
    eprintln!("{count} frames, {answers} answers; reasons that were not met: {missed:?}");
    assert!(answers > 0);
    assert!(missed.is_empty(), "reasons that were not met: {missed:?}");
}

/// Why anything of it was lost.
fn reasons(rehearsal: &Rehearsal) -> impl Iterator<Item = &'static str> {
    let copies = rehearsal.copies.iter().flat_map(|copy| &copy.drops);
    let counted = copies.chain(&rehearsal.refused).map(|&(reason, _)| reason);
    let frames = rehearsal.frames.iter();
    let decided = frames.filter_map(|frame| match frame.verdict.decision {
        Decision::Drop(reason) => Some(reason),
        Decision::Forward(_) | Decision::Flood(_) => None,
    });
    counted.chain(decided).map(DropReason::name)
}

/// Rounds with seeds of their own.
const FIXED: u64 = 10;

/// Says where it went wrong.
struct Where {
    seed: u64,
    step: u64,
}

impl Drop for Where {
    fn drop(&mut self) {
        eprintln!("TAPSWITCH_FUZZ_SEED={}, step {}", self.seed, self.step);
    }
}
