//! Joining datagrams and segmenting what came of it yields the same frames, byte by byte.

mod superframe;

use proptest::prelude::*;
use tapswitch::{
    offload::{Segments, UdpRun, complete_checksum, segment},
    sim::frames,
    wire::VirtioNetHdr,
};

/// How one datagram of a list differs from its neighbours.
#[derive(Clone, Debug)]
struct Shape {
    v6: bool,
    from: u8,
    len: usize,
    /// Added to the IPv4 identification that the list has reached.
    id_step: u16,
    /// A byte that is changed afterwards, so that something is wrong.
    broken: Option<usize>,
    trailer: usize,
    unfinished: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let len = prop_oneof![6 => Just(18_usize), 2 => Just(40), 1 => 1..1400_usize];
    let broken = prop::option::weighted(0.08, 0..100_usize);
    let step = prop_oneof![9 => Just(1_u16), 1 => any::<u16>()];
    (
        any::<bool>(),
        prop_oneof![9 => Just(1_u8), 1 => Just(3)],
        len,
        step,
        broken,
        prop_oneof![9 => Just(0_usize), 1 => 1..9_usize],
        any::<bool>(),
    )
        .prop_map(
            |(v6, from, len, id_step, broken, trailer, unfinished)| Shape {
                v6,
                from,
                len,
                id_step,
                broken,
                trailer,
                unfinished,
            },
        )
}

/// The frames, each with its virtio-net header where that asks for something.
fn build(shapes: &[Shape], v6: bool) -> Vec<(Option<VirtioNetHdr>, Vec<u8>)> {
    let mut id = 0xfff0_u16;
    let one = |shape: &Shape| {
        let payload: Vec<u8> = (0..shape.len)
            .map(|byte| (byte * 7 + usize::from(id)).to_le_bytes()[0])
            .collect();
        let v6 = v6 ^ (shape.v6 && shape.broken.is_some());
        let mut frame = if v6 {
            frames::udp6(shape.from, 2, &payload)
        } else {
            frames::udp4(shape.from, 2, &payload)
        };
        let l4 = if v6 { 54 } else { 34 };
        if !v6 {
            id = id.wrapping_add(shape.id_step);
            frame[18..20].copy_from_slice(&id.to_be_bytes());
            frame[24..26].fill(0);
            let checksum = tapswitch::wire::checksum::sum(&frame[14..34]).checksum();
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        }
        let mut header = None;
        if shape.unfinished {
            let mut ask = VirtioNetHdr::none();
            ask.set_csum(l4, 6);
            // The field then holds the pseudo header's sum: what is there, less the rest.
            let l4 = usize::from(l4);
            let field = u16::from_be_bytes([frame[l4 + 6], frame[l4 + 7]]);
            frame[l4 + 6..l4 + 8].fill(0);
            let rest = tapswitch::wire::checksum::sum(&frame[l4..]);
            let pseudo = (tapswitch::wire::checksum::Sum::word(u32::from(!field))
                + tapswitch::wire::checksum::Sum::word(u32::from(!rest.fold())))
            .fold();
            frame[l4 + 6..l4 + 8].copy_from_slice(&pseudo.to_be_bytes());
            header = Some(ask);
        }
        frame.extend(std::iter::repeat_n(0xee, shape.trailer));
        if let Some(at) = shape.broken {
            let at = at % frame.len();
            frame[at] ^= 0x10;
        }
        (header, frame)
    };
    shapes.iter().map(one).collect()
}

proptest! {
    #[test]
    fn segmenting_what_was_joined_gives_the_frames_back(shapes in prop::collection::vec(shape(), 1..80), v6 in any::<bool>()) {
        let frames = build(&shapes, v6);
        let mut out: Vec<Vec<u8>> = Vec::new();
        let mut segments = Segments::new();
        let mut at = 0;
        while at < frames.len() {
            let (header, frame) = &frames[at];
            at += 1;
            let Some(mut run) = UdpRun::start(header.as_ref(), frame) else {
                out.push(finished(header.as_ref(), frame));
                continue;
            };
            let mut payload = frame[run.headers_len()..].to_vec();
            while let Some((header, next)) = frames.get(at).filter(|(header, next)| run.join(header.as_ref(), next)) {
                let _ = header;
                payload.extend_from_slice(&next[run.headers_len()..]);
                at += 1;
            }
            if run.is_single() {
                out.push(finished(header.as_ref(), frame));
                continue;
            }
            let count = run.count();
            let (header, head) = run.finish();
            let joined = [head, &payload].concat();
            tapswitch::offload::check(&header, &joined).unwrap();
            segment(&header, &joined, None, &mut segments).unwrap();
            prop_assert_eq!(segments.len(), count);
            out.extend(superframe::whole(&segments, &joined));
        }
        let expected: Vec<Vec<u8>> = frames.iter().map(|(header, frame)| finished(header.as_ref(), frame)).collect();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..6), start in any::<u16>()) {
        let mut header = VirtioNetHdr::none();
        header.set_csum(start % 64, 6);
        for header in [None, Some(&header)] {
            if let Some(mut run) = UdpRun::start(header, &frames[0]) {
                for frame in &frames {
                    run.join(header, frame);
                }
                run.finish();
            }
        }
    }
}

#[test]
fn equal_datagrams_are_joined_and_a_shorter_one_ends_the_run() {
    let shape = |len| Shape {
        v6: false,
        from: 1,
        len,
        id_step: 1,
        broken: None,
        trailer: 0,
        unfinished: false,
    };
    let frames = build(&[shape(18), shape(18), shape(7), shape(7)], false);
    let mut run = UdpRun::start(None, &frames[0].1).unwrap();
    assert!(run.join(None, &frames[1].1));
    assert!(run.join(None, &frames[2].1));
    assert!(!run.join(None, &frames[3].1));
    assert_eq!(run.count(), 3);
}

#[test]
fn a_broken_datagram_is_never_joined() {
    let shape = Shape {
        v6: false,
        from: 1,
        len: 18,
        id_step: 1,
        broken: None,
        trailer: 0,
        unfinished: false,
    };
    let frames = build(&[shape.clone(), shape], false);
    let mut broken = frames[1].1.clone();
    broken[50] ^= 1;
    let mut run = UdpRun::start(None, &frames[0].1).unwrap();
    assert!(!run.join(None, &broken));
    assert!(run.join(None, &frames[1].1));
    assert!(UdpRun::start(None, &broken).is_none());
}

fn finished(header: Option<&VirtioNetHdr>, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if let Some(header) = header {
        let _ = complete_checksum(header, &mut frame);
    }
    frame
}
