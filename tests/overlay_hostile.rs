//! What anybody who reaches the port can send: the endpoint answers nothing, forgets it, and goes on.
//! The host under test has its underlay and its pods in namespaces; the test holds the other ends,
//! and sees every packet that leaves.
//!
//! `TAPSWITCH_HOSTILE_DATAGRAMS` sets how many random ones (100,000), `TAPSWITCH_DIFF_SEED` repeats a
//! run.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "overlay_differential/generator.rs"]
#[allow(dead_code, reason = "the other test uses the rest")]
mod generator;
#[path = "overlay_differential/host.rs"]
#[allow(dead_code, reason = "the other test uses the rest")]
mod host;
#[path = "overlay_differential/inner.rs"]
#[allow(dead_code, reason = "the other test uses the rest")]
mod inner;
#[path = "differential/namespace.rs"]
mod namespace;
#[path = "overlay_differential/packets.rs"]
#[allow(dead_code, reason = "the other test uses the rest")]
mod packets;

mod common;
mod superframe;

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io,
    process::ExitCode,
};

use libtest_mimic::Trial;
use tapswitch::{
    control::api::{PeerKind, StatsInfo},
    vxlan::ping::{self, Kind, Probe},
    wire::MacAddr,
};

use self::{
    common::Env,
    generator::{Op, STRANGER, header},
    host::{BARRIERS, Host, PEERS, Seen, Settings, VNIS},
    packets::{Checksum, Fragments, Hex, Outer, Packet, Sent, Shape, Target},
    superframe::Noise,
};

/// Its name, and itself.
type Test = (&'static str, fn(&Settings));

fn main() -> ExitCode {
    common::main(|env: &Env| {
        let tests: [Test; 8] = [
            (
                "random_datagrams_are_never_answered_and_cost_no_memory",
                random,
            ),
            (
                "strangers_without_number_cost_a_bounded_amount_of_memory",
                strangers,
            ),
            ("probes_of_strangers_are_not_answered", probes),
            ("datagrams_of_any_length_are_delivered_or_counted", lengths),
            ("outer_fragments_make_the_whole_frame_or_nothing", fragments),
            ("outer_options_and_extension_headers_shift_nothing", options),
            (
                "datagrams_to_other_addresses_of_the_host_are_not_taken",
                elsewhere,
            ),
            ("datagrams_with_our_own_source_are_dropped", own_source),
        ];
        let families = tests
            .into_iter()
            .flat_map(|test| [(test, false), (test, true)]);
        let trials = families.map(|((name, body), v6)| {
            let name = format!("{name}_over_{}", if v6 { "ipv6" } else { "ipv4" });
            env.trial_with(&["tc"], &name, move || {
                body(&Settings {
                    v6,
                    ..Settings::default()
                });
            })
        });
        trials.collect::<Vec<Trial>>()
    })
}

fn random(settings: &Settings) {
    let number = |variable: &str| {
        env::var(variable)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed =
        number("TAPSWITCH_DIFF_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let count = number("TAPSWITCH_HOSTILE_DATAGRAMS").unwrap_or(100_000) / 4;
    for (any, strict) in [(false, true), (true, false)] {
        eprintln!("TAPSWITCH_DIFF_SEED={seed}, {count} datagrams");
        let settings = Settings {
            any,
            strict,
            ..*settings
        };
        let mut host = Host::ours(&settings).unwrap();
        let before = host.stats().unwrap();
        let mut noise = Noise(seed);
        let mut at_first = 0;
        let mut sent = 0;
        while sent < count {
            let datagrams: Vec<_> = (0..64).map(|_| datagram(&mut noise, &settings)).collect();
            sent += datagrams.len() as u64;
            let seen = host.hear(&packets_of(&datagrams)).unwrap();
            assert_eq!(
                seen.underlay,
                Vec::<Vec<u8>>::new(),
                "seed {seed}, after {sent}"
            );
            if at_first == 0 && sent > count / 4 {
                at_first = resident_kib();
            }
        }
        let grown = resident_kib().saturating_sub(at_first);
        eprintln!("{grown} KiB more than after a quarter");
        assert!(grown < 4096, "{grown} KiB more than after a quarter");
        let after = host.stats().unwrap();
        let barriers = BARRIERS * (sent / 64);
        assert_eq!(
            received(&after) - received(&before),
            sent + barriers,
            "seed {seed}"
        );
        assert_sound(&mut host, &settings);
    }
}

/// A datagram to the endpoint that the kernel hands over.
fn datagram(noise: &mut Noise, settings: &Settings) -> (Outer, Vec<u8>) {
    let mut outer = Outer {
        from: 10 + inner::byte(noise) % 200,
        port: u16::from(inner::byte(noise)) << 8 | 1,
        tos: inner::byte(noise),
        ..Outer::new(settings.v6, 2)
    };
    let payload = match noise.below(4) {
        // Noise, more often short than long.
        0 => {
            let limit = if noise.one_in(4) { 1400 } else { 64 };
            let len = inner::index(noise, limit);
            let mut payload = Vec::new();
            noise.extend(&mut payload, len);
            payload
        }
        // A header that is nearly right, and noise.
        1 => {
            let mut payload = header(inner::pick(noise, &VNIS)).to_vec();
            payload[inner::index(noise, 8)] ^= inner::byte(noise) & inner::byte(noise);
            let len = inner::index(noise, 200);
            noise.extend(&mut payload, len);
            payload
        }
        // What hosts send, and what is nearly that.
        _ => loop {
            let op = generator::op(noise.next(), 0, settings, 100);
            if let Op::Hear { datagrams, .. } = op {
                let first = &datagrams[0];
                outer.from = first.outer.from.max(2);
                break first.payload.clone();
            }
        },
    };
    (outer, payload)
}

/// Nine of ten from a listed peer, so that they get far.
fn packets_of(datagrams: &[(Outer, Vec<u8>)]) -> Vec<Packet> {
    let packets = datagrams
        .iter()
        .enumerate()
        .flat_map(|(number, (outer, payload))| {
            let from = if number % 10 == 0 {
                outer.from
            } else {
                PEERS[0][number % 3]
            };
            Outer { from, ..*outer }.packets(payload)
        });
    packets.collect()
}

fn strangers(settings: &Settings) {
    let settings = Settings {
        any: true,
        ..*settings
    };
    let mut host = Host::ours(&settings).unwrap();
    let mut at_first = 0;
    for round in 0..64_u8 {
        let packets = (0..=255).map(|number| {
            let mut packet = Outer {
                checksum: Checksum::Right,
                ..Outer::new(settings.v6, STRANGER)
            }
            .packets(&clean(STRANGER, b"stranger"));
            patch_source(&mut packet[0].bytes, settings.v6, [100 + round, number]);
            packet.remove(0)
        });
        let seen = host.hear(&packets.collect::<Vec<_>>()).unwrap();
        assert!(seen.underlay.is_empty());
        assert_eq!(seen.pods.len(), 256, "round {round}");
        if round == 16 {
            at_first = resident_kib();
        }
    }
    // 16,384 have been heard.
    let stats = host.stats().unwrap();
    let learned = stats
        .peers
        .iter()
        .filter(|peer| peer.kind == PeerKind::Learned)
        .count();
    assert!((1..=1024).contains(&learned), "{learned} learned peers");
    let grown = resident_kib().saturating_sub(at_first);
    assert!(grown < 8192, "{grown} KiB more than after 4096 strangers");
    assert_sound(&mut host, &settings);
}

/// Changes two bytes of the source address, and the checksums so that they stay right.
fn patch_source(packet: &mut [u8], v6: bool, bytes: [u8; 2]) {
    let (address, checksums) = if v6 {
        (34, &[60][..])
    } else {
        (28, &[24, 40][..])
    };
    let old = packets::be16(packet, address);
    packet[address..address + 2].copy_from_slice(&bytes);
    let new = packets::be16(packet, address);
    for &field in checksums {
        let sum = u64::from(!packets::be16(packet, field)) + u64::from(!old) + u64::from(new);
        // In UDP, 0 would say that there is none.
        let checksum = match !packets::fold(sum) {
            0 if field != 24 => 0xffff,
            checksum => checksum,
        };
        packet[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn probes(settings: &Settings) {
    for any in [false, true] {
        let settings = Settings { any, ..*settings };
        let mut host = Host::ours(&settings).unwrap();
        let probe = Probe {
            src: MacAddr::new([2, 0, 0, 0, 0x40, 1]),
            kind: Kind::Request,
            token: 42,
            sequence: 7,
        };
        let mut frame = Vec::new();
        ping::encode(&probe, 200, &mut frame);
        let payload = [&header(VNIS[0])[..], &frame].concat();

        let from = |from| Outer::new(settings.v6, from).packets(&payload);
        let nothing = host.hear(&from(STRANGER)).unwrap();
        assert_eq!(nothing, Seen::default(), "accept any: {any}");
        let answered = host.hear(&from(2)).unwrap();
        assert!(answered.pods.is_empty());
        let [answer] = &answered.underlay[..] else {
            panic!("{} answers for a peer", answered.underlay.len());
        };
        let answer = Sent::parse(answer).unwrap();
        assert_eq!((answer.to, answer.inner().len()), (2, 200));
        // What a peer can make us send is not longer than what it sends, and bounded in number.
        let burst: Vec<_> = (0..2000).flat_map(|_| from(3)).collect();
        let answers = host.hear(&burst).unwrap().underlay.len();
        assert!(
            (1..=1000).contains(&answers),
            "{answers} answers to 2000 probes at once"
        );
        assert_sound(&mut host, &settings);
    }
}

fn lengths(settings: &Settings) {
    let mut host = Host::ours(settings).unwrap();
    let whole = clean(2, &[7; 100]);
    for len in 0..=whole.len() {
        let packets = Outer::new(settings.v6, 2).packets(&whole[..len]);
        let seen = host.hear(&packets).unwrap();
        assert!(seen.underlay.is_empty(), "{len} bytes");
        let frames: Vec<_> = seen.pods.iter().map(|(_, frame)| &frame[..]).collect();
        // A VXLAN and an Ethernet header.
        let expected: &[&[u8]] = if len < 22 { &[] } else { &[&whole[8..len]] };
        assert_eq!(frames, expected, "{len} bytes");
    }
    let stats = host.stats().unwrap();
    assert_eq!(stats.vtep.unwrap().drops["vxlan_runt"], 8);
    let peer = &stats.peers[0];
    assert_eq!(
        (peer.remote.as_str(), peer.drops["truncated"]),
        (&*remote(settings, 2), 14)
    );
    assert_sound(&mut host, settings);
}

fn fragments(settings: &Settings) {
    let mut host = Host::ours(settings).unwrap();
    let whole = clean(2, &[7; 1200]);
    let mut id = 100;
    for (fate, delivered) in [
        (Fragments::InOrder, Some(true)),
        (Fragments::Reversed, Some(true)),
        (Fragments::Overlapping, Some(false)),
        (Fragments::Missing, Some(false)),
        // A kernel may take a repeated fragment for an attack.
        (Fragments::Twice, None),
    ] {
        for _ in 0..20 {
            id += 1;
            let outer = Outer {
                shape: Shape::Fragments(fate),
                id,
                ..Outer::new(settings.v6, 2)
            };
            let seen = host.hear(&outer.packets(&whole)).unwrap();
            assert!(seen.underlay.is_empty(), "{fate:?}");
            let frames: Vec<_> = seen.pods.iter().map(|(_, frame)| &frame[..]).collect();
            let is_whole = frames == [&whole[8..]];
            assert!(is_whole || frames.is_empty(), "{fate:?}: {frames:02x?}");
            if let Some(delivered) = delivered {
                assert_eq!(is_whole, delivered, "{fate:?}");
            }
        }
    }
    assert_sound(&mut host, settings);
}

fn options(settings: &Settings) {
    let mut host = Host::ours(settings).unwrap();
    for words in 1..=10 {
        let whole = clean(2, &[words; 50]);
        let outer = Outer {
            shape: Shape::Options(words),
            ..Outer::new(settings.v6, 2)
        };
        let seen = host.hear(&outer.packets(&whole)).unwrap();
        assert!(seen.underlay.is_empty(), "{words} words of options");
        assert_eq!(
            seen.pods,
            [(0, whole[8..].to_vec())],
            "{words} words of options"
        );
    }
    assert_sound(&mut host, settings);
}

fn elsewhere(settings: &Settings) {
    let mut host = Host::ours(settings).unwrap();
    for to in [Target::OtherAddress, Target::Everybody] {
        let before = received(&host.stats().unwrap());
        let outer = Outer {
            to,
            ..Outer::new(settings.v6, 2)
        };
        let seen = host.hear(&outer.packets(&clean(2, b"elsewhere"))).unwrap();
        assert!(seen.pods.is_empty(), "{to:?}");
        // Only the barriers were taken.
        let taken = received(&host.stats().unwrap()) - before;
        assert_eq!(taken, BARRIERS, "{to:?}");
        // That nobody listens there the host's kernel says itself, as of any closed port.
        let said = seen
            .underlay
            .iter()
            .filter(|packet| Sent::parse(packet).is_ok());
        assert_eq!(said.count(), 0, "{to:?}");
        if to == Target::Everybody {
            assert!(seen.underlay.is_empty(), "{}", Hex(&seen.underlay[0]));
        }
    }
    assert_sound(&mut host, settings);
}

fn own_source(settings: &Settings) {
    for any in [false, true] {
        let settings = Settings { any, ..*settings };
        let mut host = Host::ours(&settings).unwrap();
        let packets = Outer::new(settings.v6, 1).packets(&clean(1, b"own"));
        let own_packets = |host: &Host| {
            let vtep = host.stats().unwrap().vtep.unwrap();
            vtep.drops.get("own_packet").copied().unwrap_or(0)
        };

        assert_eq!(host.hear(&packets).unwrap(), Seen::default());
        // Over IPv4 the kernel itself takes such a packet for a martian, unless told otherwise.
        assert_eq!(own_packets(&host), u64::from(settings.v6));
        let accept = || fs::write("/proc/sys/net/ipv4/conf/u0/accept_local", "1");
        host.netns().run(accept).unwrap();
        assert_eq!(host.hear(&packets).unwrap(), Seen::default());
        assert_eq!(own_packets(&host), 1 + u64::from(settings.v6));
        assert_sound(&mut host, &settings);
    }
}

/// Nothing is lost without a reason, nothing has overflowed, and frames still go both ways.
fn assert_sound(host: &mut Host, settings: &Settings) {
    let stats = host.stats().unwrap();
    assert_eq!(stats.unaccounted, 0);
    assert_eq!(stats.vtep.unwrap().socket_overflow, 0);
    let heard = clean(2, b"still there");
    let seen = host
        .hear(&Outer::new(settings.v6, 2).packets(&heard))
        .unwrap();
    assert_eq!(seen.pods, [(0, heard[8..].to_vec())]);
    // Its source is known now, so this goes to one peer only.
    let mut answer = heard[8..].to_vec();
    answer[..6].copy_from_slice(&heard[14..20]);
    answer[6..12].copy_from_slice(&[2, 0, 0, 0, 0x30, 1]);
    let seen = host.speak(0, &[Packet::plain(answer.clone())]).unwrap();
    let [sent] = &seen.underlay[..] else {
        panic!("{} datagrams for one frame", seen.underlay.len());
    };
    let sent = Sent::parse(sent).unwrap();
    assert_eq!((sent.to, sent.inner()), (2, &answer[..]));
}

/// A clean VXLAN header, and a broadcast frame of a station behind VTEP `from`.
fn clean(from: u8, payload: &[u8]) -> Vec<u8> {
    let mut datagram = header(VNIS[0]).to_vec();
    datagram.extend([0xff; 6]);
    datagram.extend([2, 0, 0, 0, 0x50, from, 0x88, 0xb6]);
    datagram.extend(payload);
    datagram
}

fn remote(settings: &Settings, host: u8) -> String {
    packets::address(settings.v6, host).to_string()
}

/// Datagrams that the endpoint has read.
fn received(stats: &StatsInfo) -> u64 {
    let of_peers: u64 = stats.peers.iter().map(|peer| peer.rx.frames).sum();
    of_peers + stats.vtep.as_ref().map_or(0, |vtep| vtep.rx.frames)
}

/// Memory of this process, which is the switch's too.
fn resident_kib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm");
    let pages = statm.and_then(|text| {
        let pages = text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    });
    pages.unwrap() * 4
}
