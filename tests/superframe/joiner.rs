//! Joins frames as the datapath does, and cuts them again.

use tapswitch::{
    offload::{self, Mark, Run, Segments, segment},
    wire::VirtioNetHdr,
};

use super::whole;

/// A frame as a port or a tunnel hands it out.
pub(crate) type Input = (Option<VirtioNetHdr>, Vec<u8>);

/// What is to be written for a list of frames.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) header: VirtioNetHdr,
    pub(crate) frame: Vec<u8>,
    /// How many frames of the list it is.
    pub(crate) count: usize,
}

/// Joins each frame to those right before it if it can be. Frames whose header cannot be obeyed are
/// dropped before anybody looks at them.
pub(crate) fn joined(frames: &[Input], mark: impl Fn(&Input) -> Mark) -> Vec<Output> {
    let frames: Vec<&Input> = frames.iter().filter(|input| is_sound(input)).collect();
    let mut out = Vec::new();
    let mut rest = &frames[..];
    while let Some((first, others)) = rest.split_first() {
        let count = match Run::start(mark(first), &first.1) {
            None => 1,
            Some(mut run) => {
                let mut payload = run.payload_of(&first.1).to_vec();
                for next in others {
                    if !run.join(mark(next), &next.1) {
                        break;
                    }
                    payload.extend(run.payload_of(&next.1));
                }
                let count = run.count();
                assert_eq!(run.is_single(), count == 1);
                if count > 1 {
                    assert!(count <= Run::LIMIT && run.segments() >= count);
                    let headers = run.headers_len();
                    let needed = run.needed();
                    let (header, head) = run.finish();
                    assert_eq!(head.len(), headers);
                    assert_eq!(offload::needed(&header), needed);
                    let frame = [head, &payload].concat();
                    out.push(Output {
                        header,
                        frame,
                        count,
                    });
                }
                count
            }
        };
        if count == 1 {
            out.push(Output {
                header: mark(first).header(),
                frame: first.1.clone(),
                count,
            });
        }
        rest = rest.get(count..).unwrap_or_default();
    }
    out
}

/// The mark of a frame that a port hands out.
pub(crate) fn from_port((header, _): &Input) -> Mark {
    Mark::from(header.as_ref())
}

/// Whether the datapath would look at it at all.
pub(crate) fn is_sound((header, frame): &Input) -> bool {
    header.is_none_or(|header| offload::check(&header, frame).is_ok())
}

/// What goes on the wire for each of the frames alone.
pub(crate) fn finished(frames: &[Input], mark: impl Fn(&Input) -> Mark) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for input in frames.iter().filter(|input| is_sound(input)) {
        out.extend(cut(&mark(input).header(), &input.1));
    }
    out
}

/// The segments of a frame.
pub(crate) fn cut(header: &VirtioNetHdr, frame: &[u8]) -> Vec<Vec<u8>> {
    let mut segments = Segments::new();
    segment(header, frame, None, &mut segments).unwrap();
    whole(&segments, frame)
}
