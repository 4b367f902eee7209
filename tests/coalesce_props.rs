//! Joining frames and segmenting what came of it yields the same frames, byte by byte.

mod superframe;

use proptest::prelude::*;
use superframe::{
    joiner::{Input, Output, cut, finished, from_port, joined},
    recipe,
};
use tapswitch::{
    offload::{self, Mark, Run},
    wire::VirtioNetHdr,
};

/// A recipe for [`recipe::frames`]: mostly ordinary frames, so that there is something to join.
fn recipes() -> impl Strategy<Value = Vec<u8>> {
    let operation = prop_oneof![
        30 => Just(0_u8),
        4 => Just(56),
        2 => Just(34),
        2 => Just(38),
        1 => Just(60),
        6 => 16..recipe::OPERATIONS,
    ];
    let start = prop::array::uniform4(any::<u8>());
    let steps = prop::collection::vec((operation, any::<u8>()), 1..90);
    (start, steps).prop_map(|(start, steps)| {
        let steps = steps.into_iter().flat_map(|(operation, n)| [operation, n]);
        start.into_iter().chain(steps).collect()
    })
}

/// The mark of a frame out of a tunnel, whose header got lost on the way.
fn from_tunnel((_, frame): &Input) -> Mark {
    Mark::of(frame, None, 1500)
}

/// What the joined frames are cut into; each superframe must be one that a kernel takes.
fn all_cut(out: &[Output]) -> Result<Vec<Vec<u8>>, TestCaseError> {
    let mut frames = Vec::new();
    for output in out {
        prop_assert_eq!(offload::check(&output.header, &output.frame), Ok(()));
        if output.count > 1 {
            let exact = offload::exact_hdr_len(&output.header, &output.frame);
            prop_assert_eq!(exact, Some(output.header.hdr_len()));
            prop_assert!(output.frame.len() <= 65_535 + 22);
        }
        frames.extend(cut(&output.header, &output.frame));
    }
    Ok(frames)
}

/// What is found here becomes a named test, and no file of seeds.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn segmenting_what_was_joined_gives_the_frames_back(recipe in recipes()) {
        let frames = recipe::frames(&recipe);
        let out = joined(&frames, from_port);
        prop_assert_eq!(all_cut(&out)?, finished(&frames, from_port));
    }

    #[test]
    fn what_came_out_of_a_tunnel_is_given_back_too(recipe in recipes()) {
        let mut frames = recipe::frames(&recipe);
        for (header, _) in &mut frames {
            *header = None;
        }
        let out = joined(&frames, from_tunnel);
        prop_assert_eq!(all_cut(&out)?, finished(&frames, from_tunnel));
        // A complete checksum is joined alike, whoever verified it.
        let complete: Vec<_> = frames
            .iter()
            .filter(|input| !matches!(from_tunnel(input), Mark::Unfinished(_)))
            .cloned()
            .collect();
        let counts = |out: Vec<Output>| out.iter().map(|output| output.count).collect::<Vec<_>>();
        prop_assert_eq!(
            counts(joined(&complete, from_tunnel)),
            counts(joined(&complete, from_port))
        );
    }

    #[test]
    fn no_bytes_make_it_panic(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..140), 1..6),
        header in any::<[u8; 12]>(),
        mtu in any::<u32>(),
        segment in prop::option::of(any::<usize>()),
    ) {
        let header = VirtioNetHdr::read(&header);
        for header in [None, header.as_ref()] {
            for frame in &frames {
                let mark = Mark::of(frame, segment, mtu);
                if let Some(mut run) = Run::start(header, frame) {
                    for next in &frames {
                        run.join(header, next);
                        run.join(mark, next);
                    }
                    run.finish();
                }
            }
        }
    }

    #[test]
    fn no_damage_makes_it_panic(
        recipe in recipes(),
        damage in prop::collection::vec((0_usize..90, any::<u8>(), 0_usize..140), 0..40),
    ) {
        let mut frames = recipe::frames(&recipe);
        for (number, value, at) in damage {
            if let Some(byte) = frames.get_mut(number).and_then(|(_, frame)| frame.get_mut(at)) {
                *byte = value;
            }
        }
        let out = joined(&frames, from_port);
        prop_assert_eq!(all_cut(&out)?, finished(&frames, from_port));
    }
}
