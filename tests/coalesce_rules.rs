//! Which frames are joined, rule by rule: what the kernel's own test of GRO demands
//! (tools/testing/selftests/drivers/net/gro.c), and where we join less.

mod superframe;

use smoltcp::wire::checksum;
use superframe::{
    joiner::{Input, cut, finished, from_port, joined},
    low,
    packet::{ACK, AE, CWR, Checksum, DF, ECE, FIN, PSH, Packet, RST, SYN, URG},
};
use tapswitch::{
    offload::{self, Mark, Offloads, Run, unfinished},
    wire::{GsoType, VirtioNetHdr},
};

/// Joins complete frames, checks that nothing is lost, and returns how many each output stands for.
fn counts(packets: &[Packet]) -> Vec<usize> {
    let frames: Vec<Input> = packets
        .iter()
        .map(|packet| (None, packet.frame()))
        .collect();
    counts_of(&frames)
}

fn counts_of(frames: &[Input]) -> Vec<usize> {
    let out = joined(frames, from_port);
    let mut all = Vec::new();
    for output in &out {
        assert_eq!(offload::check(&output.header, &output.frame), Ok(()));
        all.extend(cut(&output.header, &output.frame));
    }
    assert_eq!(
        all,
        finished(frames, from_port),
        "what was joined is not given back"
    );
    out.iter().map(|output| output.count).collect()
}

type Change = fn(&mut Packet);

/// Two frames are joined, and are not after `change` to either.
fn keeps_apart(base: &Packet, name: &str, change: Change) {
    let kind = format!("{name}, v6 {}, udp {}", base.v6, base.udp);
    let [first, second] = [base.clone(), base.next()];
    assert_eq!(
        counts(&[first.clone(), second.clone()]),
        [2],
        "before: {kind}"
    );
    let mut changed = [first.clone(), second.clone()];
    change(&mut changed[1]);
    assert_eq!(counts(&changed), [1, 1], "second: {kind}");
    let mut changed = [first, second];
    change(&mut changed[0]);
    assert_eq!(counts(&changed), [1, 1], "first: {kind}");
}

fn with_timestamps(base: Packet) -> Packet {
    Packet {
        tcp_options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        ..base
    }
}

// G12
#[test]
fn frames_that_differ_in_what_segmentation_copies_stay_apart() {
    let all: [(&str, Change); 9] = [
        ("destination", |packet| packet.macs[0] = 9),
        ("source", |packet| packet.macs[1] = 9),
        ("vlan", |packet| packet.tags[0][1] ^= 1),
        ("priority", |packet| packet.tags[0][1] ^= 0x2000),
        ("tos", |packet| packet.tos ^= 4),
        ("ecn", |packet| packet.tos ^= 2),
        ("ttl", |packet| packet.ttl -= 1),
        ("ip source", |packet| packet.hosts[0] = 9),
        ("ip destination", |packet| packet.hosts[1] = 9),
    ];
    for mut base in Packet::four_kinds() {
        base.tags = vec![[0x8100, 0x2014]];
        for (name, change) in all {
            keeps_apart(&base, name, change);
        }
        keeps_apart(&base, "source port", |packet| packet.ports[0] ^= 1);
        keeps_apart(&base, "destination port", |packet| packet.ports[1] ^= 1);
        keeps_apart(&base, "tag type", |packet| packet.tags[0][0] = 0x88a8);
        keeps_apart(&base, "a tag", |packet| packet.tags.clear());
        keeps_apart(&base, "another tag", |packet| packet.tags.push([0x8100, 1]));
        keeps_apart(&base, "family", |packet| packet.v6 = !packet.v6);
        keeps_apart(&base, "protocol", |packet| packet.udp = !packet.udp);
        if base.v6 {
            for bit in 0..20 {
                let flow_label = base.flow_label ^ 1 << bit;
                let packets = [
                    base.clone(),
                    Packet {
                        flow_label,
                        ..base.next()
                    },
                ];
                assert_eq!(counts(&packets), [1, 1], "flow label, bit {bit}");
            }
        }
    }
}

// G12
#[test]
fn segments_that_differ_in_more_than_sequence_and_push_stay_apart() {
    let all: [(&str, Change); 8] = [
        ("acknowledgement", |packet| packet.ack += 1),
        // The kernel's GRO compares it too, unlike others.
        ("window", |packet| packet.window += 1),
        ("urgent pointer", |packet| packet.urgent = 1),
        ("timestamp", |packet| packet.tcp_options[7] += 1),
        ("echoed timestamp", |packet| packet.tcp_options[11] += 1),
        ("options that mean the same", |packet| {
            packet.tcp_options[..2].fill(0);
        }),
        ("more options", |packet| {
            packet.tcp_options.extend([1, 1, 1, 1]);
        }),
        ("no options", |packet| packet.tcp_options.clear()),
    ];
    for base in Packet::four_kinds()
        .into_iter()
        .filter(|packet| !packet.udp)
    {
        for (name, change) in all {
            keeps_apart(&with_timestamps(base.clone()), name, change);
        }
    }
}

// G12
#[test]
fn equal_tags_and_options_keep_nobody_apart() {
    for base in Packet::four_kinds() {
        for tags in [vec![], vec![[0x8100, 7]], vec![[0x88a8, 7], [0x8100, 8]]] {
            let base = Packet {
                tags,
                ..base.clone()
            };
            assert_eq!(counts(&base.burst(5)), [5]);
            assert_eq!(counts(&with_timestamps(base).burst(5)), [5]);
        }
        let tags = vec![[0x88a8, 1], [0x8100, 2], [0x8100, 3]];
        assert_eq!(
            counts(&Packet { tags, ..base }.burst(2)),
            [1, 1],
            "three tags"
        );
    }
}

// G13
#[test]
fn segments_with_other_flags_than_ack_are_never_joined() {
    for v6 in [false, true] {
        for flag in [FIN, SYN, RST, URG, ECE, CWR, AE, 0x200, 0x800] {
            let base = Packet {
                v6,
                ..Packet::tcp4()
            };
            for special in 0..3 {
                let mut burst = base.burst(3);
                burst[special].flags |= flag;
                let expected = [vec![1, 2], vec![1, 1, 1], vec![2, 1]];
                assert_eq!(counts(&burst), expected[special], "{flag:#x} on {special}");
            }
            let all = Packet {
                flags: ACK | flag,
                ..base
            };
            assert_eq!(counts(&all.burst(3)), [1, 1, 1], "{flag:#x} on all");
        }
        let base = Packet {
            v6,
            flags: 0,
            ..Packet::tcp4()
        };
        assert_eq!(counts(&base.burst(2)), [1, 1], "no flag");
    }
}

// G13
#[test]
fn push_ends_a_run_and_comes_back_on_the_last_segment_only() {
    for v6 in [false, true] {
        let mut burst = Packet {
            v6,
            ..Packet::tcp4()
        }
        .burst(5);
        burst[2].flags |= PSH;
        assert_eq!(counts(&burst), [3, 2]);
        burst[0].flags |= PSH;
        assert_eq!(counts(&burst), [1, 2, 2]);
    }
}

// G14
#[test]
fn pure_acknowledgements_are_never_joined() {
    for base in Packet::four_kinds() {
        let empty = Packet {
            payload: vec![],
            ..base.clone()
        };
        assert_eq!(counts(&empty.burst(3)), [1, 1, 1]);
        // Nor are they the short end of a run.
        let full = base.burst(2);
        let last = Packet {
            payload: vec![],
            ..full[1].next()
        };
        assert_eq!(counts(&[full[0].clone(), full[1].clone(), last]), [2, 1]);
    }
}

// G15
#[test]
fn segments_out_of_order_stay_in_the_order_in_which_they_came() {
    let burst = Packet::tcp4().burst(4);
    let order = |order: [usize; 4]| order.map(|n| burst[n].clone());
    assert_eq!(counts(&order([0, 2, 1, 3])), [1, 1, 1, 1]);
    assert_eq!(counts(&order([1, 0, 2, 3])), [1, 1, 2]);
    assert_eq!(counts(&order([3, 2, 1, 0])), [1, 1, 1, 1]);
    // A segment sent twice.
    assert_eq!(counts(&order([0, 0, 1, 2])), [1, 3]);
    let off = |by: u32| {
        let second = burst[0].next();
        let seq = second.seq.wrapping_add(by);
        counts(&[burst[0].clone(), Packet { seq, ..second }])
    };
    assert_eq!(off(0), [2]);
    assert_eq!(
        (off(1), off(u32::MAX), off(1 << 31)),
        (vec![1, 1], vec![1, 1], vec![1, 1])
    );
}

// G15
#[test]
fn sequence_numbers_wrap() {
    for seq in [u32::MAX, u32::MAX - 99, u32::MAX - 100, 0] {
        let base = Packet {
            seq,
            ..Packet::tcp4()
        };
        assert_eq!(counts(&base.burst(4)), [4], "{seq}");
    }
}

// G16
#[test]
fn a_smaller_payload_is_the_last_and_a_larger_one_the_next() {
    for base in Packet::four_kinds() {
        let sizes = |sizes: &[usize]| {
            let mut packets: Vec<Packet> = Vec::new();
            for &size in sizes {
                let mut packet = packets.last().map_or_else(|| base.clone(), Packet::next);
                packet.payload = vec![7; size];
                packets.push(packet);
            }
            counts(&packets)
        };
        assert_eq!(sizes(&[100, 100, 100]), [3]);
        assert_eq!(sizes(&[100, 100, 99]), [3]);
        assert_eq!(sizes(&[100, 1]), [2]);
        assert_eq!(sizes(&[100, 99, 99]), [2, 1]);
        assert_eq!(sizes(&[100, 99, 100]), [2, 1]);
        assert_eq!(sizes(&[99, 100]), [1, 1]);
        assert_eq!(sizes(&[99, 100, 100]), [1, 2]);
        assert_eq!(sizes(&[1, 1, 1]), [3]);
    }
}

// G17
#[test]
fn no_frame_with_a_damaged_bit_is_joined_or_repaired() {
    for base in Packet::four_kinds() {
        let burst = with_timestamps(Packet {
            payload: vec![3; 20],
            ..base
        })
        .burst(3);
        let frames: Vec<Input> = burst.iter().map(|packet| (None, packet.frame())).collect();
        assert_eq!(counts_of(&frames), [3]);
        for damaged in 0..3 {
            for bit in 0..8 * frames[damaged].1.len() {
                let mut frames = frames.clone();
                frames[damaged].1[bit / 8] ^= 1 << (bit % 8);
                let expected = [vec![1, 2], vec![1, 1, 1], vec![2, 1]];
                assert_eq!(
                    counts_of(&frames),
                    expected[damaged],
                    "bit {bit} of {damaged}"
                );
            }
        }
    }
}

// G17
#[test]
fn a_checksum_that_is_left_to_be_completed_must_be_left_rightly() {
    for base in Packet::four_kinds() {
        let partial = Packet {
            checksum: Checksum::Partial,
            ..base
        };
        let burst = partial.burst(3);
        let frames: Vec<Input> = burst
            .iter()
            .map(|packet| (Some(packet.ask()), packet.frame()))
            .collect();
        assert_eq!(counts_of(&frames), [3]);
        let at = partial.l4() + partial.checksum_offset();
        let mut wrong = frames.clone();
        wrong[1].1[at] ^= 1;
        assert_eq!(counts_of(&wrong), [1, 1, 1], "another sum");
        for (start, offset) in [(0, 2), (2, 0), (0, 4)] {
            let mut wrong = frames.clone();
            let mut header = VirtioNetHdr::none();
            header.set_csum(
                low(partial.l4() + start),
                low(partial.checksum_offset() + offset),
            );
            wrong[1].0 = Some(header);
            assert_eq!(counts_of(&wrong), [1, 1, 1], "elsewhere");
        }
        // Complete and partial ones mix.
        let mut mixed = frames;
        mixed[1] = (
            None,
            Packet {
                checksum: Checksum::Complete,
                ..burst[1].clone()
            }
            .frame(),
        );
        assert_eq!(counts_of(&mixed), [3]);
    }
}

// G17
#[test]
fn of_two_ways_to_write_a_checksum_only_the_usual_one_is_joined() {
    for base in Packet::four_kinds() {
        let mut burst = base.burst(3);
        // Two bytes that make the checksum come out as zero.
        let at = burst[1].l4() + burst[1].checksum_offset();
        burst[1].payload[..2].fill(0);
        let frame = burst[1].frame();
        burst[1].payload[..2].copy_from_slice(&frame[at..at + 2]);
        let frame = burst[1].frame();
        let usual: u16 = if base.udp { 0xffff } else { 0 };
        assert_eq!(frame[at..at + 2], usual.to_be_bytes());
        assert_eq!(counts(&burst), [3]);
        // For UDP, no checksum at all.
        burst[1].checksum = Checksum::Is(!usual);
        assert_eq!(counts(&burst), [1, 1, 1]);
        if !base.v6 {
            let mut frames: Vec<Input> = base
                .burst(3)
                .iter()
                .map(|packet| (None, packet.frame()))
                .collect();
            let ip = 14..34;
            let id = checksum::combine(&[
                checksum::data(&frames[0].1[18..20]),
                checksum::data(&frames[0].1[24..26]),
            ]);
            // The identification that makes the header's checksum come out as zero.
            for (n, (_, frame)) in frames.iter_mut().enumerate() {
                let id = id.wrapping_add(low(n)).wrapping_sub(1);
                frame[18..20].copy_from_slice(&id.to_be_bytes());
                frame[24..26].fill(0);
                let check = !checksum::data(&frame[ip.clone()]);
                frame[24..26].copy_from_slice(&check.to_be_bytes());
            }
            assert_eq!(frames[1].1[24..26], [0, 0]);
            assert_eq!(counts_of(&frames), [3]);
            frames[1].1[24..26].fill(0xff);
            assert_eq!(counts_of(&frames), [1, 1, 1]);
        }
    }
}

// G18
#[test]
fn padding_is_no_payload_and_keeps_a_frame_apart() {
    for base in Packet::four_kinds() {
        for (len, padding) in [(1, 5), (1, 1), (100, 4)] {
            let mut burst = base.burst(3);
            burst[2].payload.truncate(len);
            assert_eq!(counts(&burst), [3]);
            for byte in [0, 0xee] {
                burst[2].trailer = vec![byte; padding];
                assert_eq!(counts(&burst), [2, 1]);
            }
        }
        let mut burst = base.burst(2);
        burst[0].trailer = vec![0; 2];
        assert_eq!(counts(&burst), [1, 1]);
    }
}

// G19
#[test]
fn fragments_options_and_extension_headers_are_never_joined() {
    for mut base in Packet::four_kinds() {
        let apart = |packet: &Packet| {
            assert_eq!(counts(&packet.burst(2)), [1, 1], "{packet:?}");
            let first = base.clone();
            let second = Packet {
                seq: first.next().seq,
                id: first.next().id,
                ..packet.clone()
            };
            assert_eq!(counts(&[first, second]), [1, 1], "{packet:?}");
        };
        if base.v6 {
            for number in [0, 43, 60, 44, 51, 135] {
                apart(&Packet {
                    extensions: vec![number],
                    ..base.clone()
                });
            }
        } else {
            apart(&Packet {
                ip_options: 1,
                ..base.clone()
            });
            for fragment in [0x2000, 0x6000, 0x8000, 0xc000, 1, DF | 1, 0x20b9] {
                apart(&Packet {
                    fragment,
                    ..base.clone()
                });
            }
        }
        for protocol in [0, 1, 4, 41, 47, 50, 132, 136, 255] {
            apart(&Packet {
                protocol: Some(protocol),
                ..base.clone()
            });
        }
        // The right protocol, but the wrong IP version.
        base.payload.truncate(40);
        let mut frames: Vec<Input> = base
            .burst(2)
            .iter()
            .map(|packet| (None, packet.frame()))
            .collect();
        for (_, frame) in &mut frames {
            frame[base.l3()] ^= 0xf0;
        }
        assert_eq!(counts_of(&frames), [1, 1]);
    }
}

// G20
#[test]
fn the_identification_counts_up_by_one_whatever_df_says() {
    for udp in [false, true] {
        for fragment in [0, DF] {
            let ids = |ids: [u16; 3]| {
                let mut burst = Packet {
                    udp,
                    fragment,
                    ..Packet::default()
                }
                .burst(3);
                for (packet, id) in burst.iter_mut().zip(ids) {
                    packet.id = id;
                }
                counts(&burst)
            };
            assert_eq!(ids([7, 8, 9]), [3]);
            assert_eq!(ids([0xffff, 0, 1]), [3]);
            // The kernel joins these two if DF is set, and numbers them anew when it cuts them.
            assert_eq!(ids([7, 7, 7]), [1, 1, 1]);
            assert_eq!(ids([7, 8, 8]), [2, 1]);
            assert_eq!(ids([7, 7, 8]), [1, 2]);
            assert_eq!(ids([7, 9, 10]), [1, 2]);
            assert_eq!(ids([7, 6, 5]), [1, 1, 1]);
        }
        let mut burst = Packet {
            udp,
            ..Packet::default()
        }
        .burst(2);
        burst[1].fragment = 0;
        assert_eq!(counts(&burst), [1, 1], "DF changes");
    }
}

// G21
#[test]
fn a_superframe_fits_an_ip_packet_and_the_rest_begins_another() {
    for base in Packet::four_kinds() {
        let large = Packet {
            payload: vec![1; 8000],
            ..base.clone()
        };
        assert_eq!(counts(&large.burst(10)), [8, 2]);
        // To the byte: 65535 with the IP header.
        let headers = base.headers() - 14;
        for (more, expected) in [(0, vec![2]), (1, vec![1, 1])] {
            let first = Packet {
                payload: vec![1; 40_000],
                ..base.clone()
            };
            let mut second = first.next();
            second.payload = vec![2; 65_535 - headers - 40_000 + more];
            assert_eq!(counts(&[first, second]), expected);
        }
        let small = Packet {
            payload: vec![1; 1],
            ..base
        };
        assert_eq!(counts(&small.burst(Run::LIMIT + 1)), [Run::LIMIT, 1]);
    }
}

// G22
#[test]
fn datagrams_keep_their_boundaries_and_need_a_checksum() {
    for v6 in [false, true] {
        let base = Packet {
            v6,
            ..Packet::udp4()
        };
        // A stream as QUIC sends it: full datagrams, and now and then a shorter one.
        let mut packets = base.burst(30);
        for n in [6, 7, 13, 29] {
            packets[n].payload.truncate(40);
        }
        assert_eq!(counts(&packets), [7, 1, 6, 16]);
        let none = Packet {
            checksum: Checksum::Is(0),
            ..base.clone()
        };
        assert_eq!(counts(&none.burst(3)), [1, 1, 1]);
    }
}

// G22
#[test]
fn a_datagram_shorter_than_its_packet_is_never_joined() {
    for v6 in [false, true] {
        let base = Packet {
            v6,
            ..Packet::udp4()
        };
        let good: Vec<Input> = base
            .burst(3)
            .iter()
            .map(|packet| (None, packet.frame()))
            .collect();
        let at = base.l4() + 4;
        // Four bytes less, and a checksum of that or of all.
        for less in [4, 0] {
            for short in 0..3 {
                let mut frames = good.clone();
                let frame = &mut frames[short].1;
                frame[at + 1] -= 4;
                frame[at + 2..at + 4].fill(0);
                let covered = &frame[base.l4()..frame.len() - less];
                let pseudo = superframe::pseudo(frame, base.l3(), true, covered.len());
                let check = !checksum::combine(&[pseudo, checksum::data(covered)]);
                frame[at + 2..at + 4].copy_from_slice(&check.to_be_bytes());
                let is_complete = matches!(Mark::of(frame, None, 1500), Mark::Complete(_));
                assert_eq!(is_complete, less == 4);
                let expected = [vec![1, 2], vec![1, 1, 1], vec![2, 1]];
                assert_eq!(counts_of(&frames), expected[short]);
                let from_tunnel = |(_, frame): &Input| Mark::of(frame, None, 1500);
                let out = joined(&frames, from_tunnel);
                assert!(out.iter().map(|o| o.count).eq(expected[short].clone()));
            }
        }
    }
}

// G23
#[test]
fn a_run_for_each_of_many_flows_takes_only_its_own() {
    let flow = |n: u16| Packet {
        ports: [n, 443],
        udp: n % 2 == 1,
        v6: n % 4 > 1,
        seq: 0,
        ..Packet::default()
    };
    let flows: Vec<Vec<Packet>> = (0..64).map(|n| flow(n).burst(8)).collect();
    // All first packets, all second packets, and so on.
    let frames: Vec<Vec<Vec<u8>>> = (0..8)
        .map(|turn| flows.iter().map(|flow| flow[turn].frame()).collect())
        .collect();
    let start = |frame: &Vec<u8>| Run::start(None, frame).unwrap();
    let mut runs: Vec<Run> = frames[0].iter().map(start).collect();
    for turn in &frames[1..] {
        for (owner, frame) in turn.iter().enumerate() {
            for (n, run) in runs.iter_mut().enumerate() {
                assert_eq!(run.join(None, frame), n == owner);
            }
        }
    }
    assert!(runs.iter().all(|run| run.count() == 8));
    // Without runs to choose from, all stay as they are.
    let interleaved: Vec<Input> = frames
        .concat()
        .into_iter()
        .map(|frame| (None, frame))
        .collect();
    assert_eq!(counts_of(&interleaved), [1; 8 * 64]);
}

#[test]
fn a_superframe_is_joined_to_what_it_follows() {
    for base in Packet::four_kinds() {
        let whole = |packet: &Packet, size: usize, count: usize| {
            let mut header = packet.ask();
            header.set_gso(match (packet.udp, packet.v6) {
                (true, _) => GsoType::UdpL4,
                (false, false) => GsoType::TcpV4,
                (false, true) => GsoType::TcpV6,
            });
            header.set_gso_size(low(size));
            let payload = vec![9; size * count];
            let frame = Packet {
                payload,
                checksum: Checksum::Partial,
                ..packet.clone()
            };
            (Some(header), frame.frame())
        };
        let after = |packet: &Packet, count: usize| packet.burst(count + 1)[count].clone();
        let first = base.clone();
        let (fourth, seventh) = (after(&first, 3), after(&first, 6));
        let frames = [
            whole(&first, 100, 3),
            whole(&fourth, 100, 3),
            (None, seventh.frame()),
            (None, seventh.next().frame()),
        ];
        assert_eq!(counts_of(&frames), [4]);
        // Segments of another length, which are as long together.
        let frames = [whole(&first, 100, 3), whole(&fourth, 50, 2)];
        assert_eq!(counts_of(&frames), [1, 1]);
        // A superframe that fits one segment, and one whose last segment is short.
        let mut single = whole(&after(&first, 3), 100, 1);
        single.0.as_mut().unwrap().set_gso_size(5000);
        assert_eq!(counts_of(&[whole(&first, 100, 3), single]), [2]);
        let mut short = whole(&first, 100, 3);
        short.0.as_mut().unwrap().set_gso_size(90);
        assert_eq!(counts_of(&[short, (None, fourth.frame())]), [1, 1]);
        let mut congested = whole(&first, 100, 3);
        congested.0.as_mut().unwrap().gso_type |= VirtioNetHdr::GSO_ECN;
        assert!(Run::start(congested.0.as_ref(), &congested.1).is_none());
    }
}

#[test]
fn an_egress_is_told_what_it_needs() {
    let needed = |v6, udp| {
        let packet = Packet {
            v6,
            udp,
            ..Packet::default()
        };
        Run::start(None, &packet.frame()).unwrap().needed()
    };
    assert_eq!(needed(false, false), Offloads::CSUM | Offloads::TSO4);
    assert_eq!(needed(true, false), Offloads::CSUM | Offloads::TSO6);
    assert_eq!(needed(false, true), Offloads::CSUM | Offloads::USO);
    assert_eq!(needed(true, true), Offloads::CSUM | Offloads::USO);
}

#[test]
fn a_proof_for_one_frame_is_none_for_another() {
    let burst = Packet::tcp4().burst(2);
    let [first, second] = [burst[0].frame(), burst[1].frame()];
    let short = Packet {
        payload: vec![1],
        ..burst[1].clone()
    }
    .frame();
    let proof = Mark::of(&second, None, 1500);
    let mut run = Run::start(Mark::of(&first, None, 1500), &first).unwrap();
    assert!(!run.join(proof, &short));
    assert!(run.join(proof, &second));
}

// T1
#[test]
fn what_a_kernel_leaves_undone_inside_a_tunnel_is_recognised() {
    for base in Packet::four_kinds() {
        let partial = Packet {
            checksum: Checksum::Partial,
            ..base.clone()
        };
        let odd = [
            Packet {
                tags: vec![[0x8100, 5]],
                ..partial.clone()
            },
            Packet {
                payload: vec![],
                ..partial.clone()
            },
            Packet {
                flags: SYN,
                ..partial.clone()
            },
            Packet {
                trailer: vec![0; 6],
                ..partial.clone()
            },
            with_timestamps(partial.clone()),
            partial.clone(),
        ];
        for packet in odd {
            let frame = packet.frame();
            assert_eq!(
                unfinished(&frame, None, 1500),
                Some(packet.ask()),
                "{packet:?}"
            );
        }
        let at = base.l4() + base.checksum_offset();
        let mut wrong = partial.frame();
        wrong[at] ^= 1;
        assert!(matches!(Mark::of(&wrong, None, 1500), Mark::Wrong));
        // Whoever completes it would sum what is behind the packet, too.
        let noisy = Packet {
            trailer: vec![0, 0, 1],
            ..partial
        }
        .frame();
        assert!(matches!(Mark::of(&noisy, None, 1500), Mark::Wrong));
        let complete = base.frame();
        assert!(matches!(Mark::of(&complete, None, 1500), Mark::Complete(_)));
        assert_eq!(unfinished(&complete, None, 1500), None);
    }
}

// T1
#[test]
fn a_superframe_inside_a_tunnel_is_cut_to_fit_the_mtu() {
    for base in Packet::four_kinds() {
        for flags in [ACK, ACK | CWR] {
            let partial = Packet {
                payload: vec![5; 20_000],
                checksum: Checksum::Partial,
                flags,
                ..with_timestamps(base.clone())
            };
            let frame = partial.frame();
            let header = unfinished(&frame, Some(1000), 1450).unwrap();
            assert_eq!(offload::check(&header, &frame), Ok(()));
            let segments = cut(&header, &frame);
            let longest = segments.iter().map(Vec::len).max().unwrap();
            if base.udp {
                assert_eq!(segments.len(), 20);
                assert_eq!(longest, partial.headers() + 1000);
            } else {
                assert_eq!(longest, 14 + 1450);
                let has_ecn = header.gso_type & VirtioNetHdr::GSO_ECN != 0;
                assert_eq!(has_ecn, flags & CWR != 0);
            }
        }
    }
}

// T1
#[test]
fn datagrams_whose_boundaries_nobody_knows_stay_together_and_are_too_long() {
    let payload = vec![5; 20_000];
    let packet = Packet {
        payload,
        checksum: Checksum::Partial,
        ..Packet::udp4()
    };
    assert_eq!(unfinished(&packet.frame(), None, 1450), Some(packet.ask()));
    // More than a kernel takes in one superframe.
    assert_eq!(
        unfinished(&packet.frame(), Some(100), 1450),
        Some(packet.ask())
    );
    // A superframe ends where the frame does.
    let trailer = vec![0; 4];
    let padded = Packet {
        trailer,
        ..packet.clone()
    };
    assert_eq!(
        unfinished(&padded.frame(), Some(1000), 1450),
        Some(packet.ask())
    );
    // One datagram, though the message had a size.
    let single = Packet {
        payload: vec![5; 1000],
        ..packet
    };
    assert_eq!(
        unfinished(&single.frame(), Some(1000), 1450),
        Some(single.ask())
    );
}

// T1
#[test]
fn an_mtu_without_room_for_payload_makes_no_superframe() {
    let payload = vec![5; 3000];
    let packet = Packet {
        payload,
        checksum: Checksum::Partial,
        ..Packet::tcp4()
    };
    for mtu in [0, 20, 40, 41] {
        assert_eq!(
            unfinished(&packet.frame(), None, mtu),
            Some(packet.ask()),
            "{mtu}"
        );
    }
    assert_eq!(unfinished(&packet.frame(), None, 42).unwrap().gso_size(), 2);
}

#[test]
fn what_has_no_checksum_to_look_at_is_unknown() {
    let cases = [
        Packet {
            protocol: Some(1),
            ..Packet::tcp4()
        },
        Packet {
            fragment: 0x2000,
            ..Packet::udp4()
        },
        Packet {
            fragment: 0x0001,
            ..Packet::tcp4()
        },
        Packet {
            v6: true,
            extensions: vec![44],
            ..Packet::tcp4()
        },
        Packet {
            checksum: Checksum::Is(0),
            ..Packet::udp4()
        },
    ];
    for packet in cases {
        assert!(
            matches!(Mark::of(&packet.frame(), None, 1500), Mark::Unknown),
            "{packet:?}"
        );
    }
    for base in Packet::four_kinds() {
        let frame = base.frame();
        for len in 0..frame.len() {
            assert!(
                matches!(Mark::of(&frame[..len], None, 1500), Mark::Unknown),
                "{len}"
            );
        }
    }
    let arp = tapswitch::sim::frames::arp_request(1, 2);
    assert!(matches!(Mark::of(&arp, None, 1500), Mark::Unknown));
}

#[test]
fn behind_options_and_extension_headers_checksums_are_found() {
    for mut base in Packet::four_kinds() {
        if base.v6 {
            base.extensions = vec![0, 60];
        } else {
            base.ip_options = 3;
        }
        assert!(matches!(
            Mark::of(&base.frame(), None, 1500),
            Mark::Complete(_)
        ));
        base.checksum = Checksum::Partial;
        assert_eq!(unfinished(&base.frame(), None, 1500), Some(base.ask()));
    }
}
