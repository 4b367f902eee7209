//! Hostile bytes from the underlay: every input of `tests/corpus/decap/` as it is, and then
//! changed at random for `TAPSWITCH_FUZZ_SECONDS` (2). `TAPSWITCH_FUZZ_SEED` repeats a run.
//!
//! An input is a received message: the value of `UDP_GRO` (2 bytes, big-endian, 0 for none), the
//! outer TOS, a zero, and the payload. What makes the test fail is printed; put it into the corpus
//! under a name that says what it was. Files named `seed-...` are those of `seeds` below.

#[path = "fuzz_vxlan/seeds.rs"]
mod seeds;
mod superframe;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Duration,
};

use superframe::Noise;
use tapswitch::{
    sys::clock,
    vxlan::{
        BadDatagram, HEADER_LEN, Header, ecn, entropy, parse,
        ping::{self, Probe},
        split,
        too_big::{Answer, answer},
    },
};

/// What becomes of one datagram.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    header: Header,
    is_dropped: bool,
    frame: Vec<u8>,
    entropy: u32,
    tos: Option<u8>,
    answers: Vec<Vec<u8>>,
    probe: Option<Probe>,
}

/// Takes a datagram apart where it lies, as the datapath does.
fn decap(datagram: &mut [u8], tos: u8, out: &mut Answer) -> Result<Outcome, BadDatagram> {
    let (header, before) = parse(datagram)?;
    let (before, hash) = (before.to_vec(), entropy(before));
    let frame = &mut datagram[HEADER_LEN..];
    let is_dropped = ecn::decapsulate(tos, frame).is_err();
    assert!(!is_dropped || *frame == before, "a dropped frame changed");
    assert_eq!(entropy(frame), hash, "a congestion mark changed the flow");
    let marks = ecn::tos_of(frame).map(|tos| tos >> 2);
    assert_eq!(ecn::tos_of(&before).map(|tos| tos >> 2), marks);
    let answers = [0, 68, 576, 1280, 1450].map(|mtu| {
        let is_answered = answer(frame, mtu, out);
        let bytes = out.as_bytes();
        assert_eq!(is_answered, !bytes.is_empty());
        assert!(bytes.len() <= frame.len() + 48, "an answer amplifies");
        bytes.to_vec()
    });
    for bytes in answers.iter().filter(|bytes| !bytes.is_empty()) {
        assert!(!answer(bytes, 68, out), "an answer is answered");
    }
    let frame = frame.to_vec();
    Ok(Outcome {
        header,
        is_dropped,
        entropy: hash,
        tos: ecn::tos_of(&frame),
        answers: answers.into(),
        probe: ping::decode(&frame),
        frame,
    })
}

/// Everything that must hold for one input.
fn check(input: &[u8]) {
    let Some((&[high, low, tos, _], message)) = input.split_first_chunk() else {
        return;
    };
    let segment = usize::from(u16::from_be_bytes([high, low]));
    let datagrams = split(message, segment);
    let (is_superframe, count) = (datagrams.is_superframe(), datagrams.len());
    assert!(!(is_superframe && datagrams.is_suspect()));
    assert!(!is_superframe || count == 1);

    let mut whole = message.to_vec();
    let mut shared = Answer::new();
    let (mut next, mut seen, mut inner) = (0, 0, 0);
    for range in datagrams {
        assert_eq!(range.start, next, "a gap or an overlap");
        next = range.end;
        seen += 1;
        let mut alone = message[range.clone()].to_vec();
        if !is_superframe {
            assert!(segment == 0 || alone.len() <= segment);
        }
        assert_eq!(split(&alone, 0).next(), Some(0..alone.len()));
        let apart = decap(&mut alone, tos, &mut Answer::new());
        let together = decap(&mut whole[range], tos, &mut shared);
        assert_eq!(apart, together, "the neighbours of a datagram matter");
        inner += apart.map_or(0, |outcome| outcome.frame.len());
    }
    assert_eq!((next, seen), (message.len(), count));
    assert!(inner <= message.len(), "more came out than went in");
}

/// Runs [`check`], and says with which input it failed.
fn try_out(what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| check(input))).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!(
            "{what}: failed with the input (put it into tests/corpus/decap/ with xxd -r -p)\n{hex}"
        );
    }
}

/// The inputs by name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/decap")
}

#[test]
fn the_corpus_does_no_harm() {
    let corpus = corpus();
    for (name, input) in &corpus {
        try_out(name, input);
    }
    for (name, input) in seeds::seeds() {
        let file = corpus.iter().find(|(file, _)| file == name);
        assert_eq!(
            file.map(|(_, bytes)| bytes),
            Some(&input),
            "{name} is not as it was made"
        );
    }
}

#[test]
fn changed_inputs_do_no_harm() {
    let seconds = setting("TAPSWITCH_FUZZ_SECONDS").unwrap_or(2);
    let seed = setting("TAPSWITCH_FUZZ_SEED").unwrap_or_else(|| clock::now().as_nanos());
    eprintln!("TAPSWITCH_FUZZ_SEED={seed} TAPSWITCH_FUZZ_SECONDS={seconds}");
    let corpus = corpus();
    let mut noise = Noise(seed);
    let (start, limit) = (clock::now(), Duration::from_secs(seconds));
    let mut count = 0_u64;
    while !count.is_multiple_of(64) || clock::now().since(start) < limit {
        let mut input = pick(&mut noise, &corpus).to_vec();
        for _ in 0..=noise.below(4) {
            change(&mut noise, &mut input, &corpus);
        }
        try_out(&format!("input {count} of seed {seed}"), &input);
        count += 1;
    }
    eprintln!("{count} inputs");
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_the_seeds() {
    for (name, input) in seeds::seeds() {
        fs::write(directory().join(name), input).unwrap();
    }
}

fn pick<'a>(noise: &mut Noise, corpus: &'a [(String, Vec<u8>)]) -> &'a [u8] {
    &corpus[place(noise, corpus.len())].1
}

/// A place below `len`, or 0.
fn place(noise: &mut Noise, len: usize) -> usize {
    usize::try_from(noise.below(len.max(1) as u64)).unwrap()
}

/// Numbers that headers are full of.
const NUMBERS: [u16; 16] = [
    0, 1, 0x08, 0x11, 0x14, 0x2c, 0x3a, 0x45, 0x7f, 0x60, 0x0800, 0x8100, 0x86dd, 0x88a8, 0xfffe,
    0xffff,
];

/// Changes one thing: headers more often than payload.
fn change(noise: &mut Noise, input: &mut Vec<u8>, corpus: &[(String, Vec<u8>)]) {
    let near = input.len().min(100);
    let at = if noise.one_in(4) {
        place(noise, input.len())
    } else {
        place(noise, near)
    };
    let len = input.len();
    let kind = noise.below(10);
    match kind {
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << noise.below(8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = noise.next().to_le_bytes()[0];
            }
        }
        3 | 4 => {
            let number = NUMBERS[place(noise, NUMBERS.len())].to_be_bytes();
            let bytes = if noise.one_in(2) {
                &number[..]
            } else {
                &number[1..]
            };
            if let Some(field) = input.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        }
        // Another size to cut at, and perhaps one that fits.
        5 => {
            let sizes = [
                0,
                1,
                7,
                8,
                22,
                23,
                len / 2,
                len / 3,
                len.saturating_sub(5),
                len,
            ];
            let size = sizes[place(noise, sizes.len())];
            let size = u16::try_from(size).unwrap_or(u16::MAX).to_be_bytes();
            if let Some(field) = input.get_mut(..2) {
                field.copy_from_slice(&size);
            }
        }
        6 => input.truncate(at),
        7 => {
            let more = place(noise, 64);
            noise.extend(input, more);
        }
        // Part of another input, over this one or behind it.
        8 => {
            let other = pick(noise, corpus);
            let from = place(noise, other.len());
            let part = &other[from..other.len().min(from + 200)];
            let end = len.min(at + part.len());
            input.splice(at..end, part.iter().copied());
        }
        // A length that is right after all.
        _ => {
            let at = if noise.one_in(2) { 28 } else { 50 };
            let claimed = u16::try_from(len.saturating_sub(at - 2)).unwrap_or(u16::MAX);
            if let Some(field) = input.get_mut(at..at + 2) {
                field.copy_from_slice(&claimed.to_be_bytes());
            }
        }
    }
    input.truncate(70_000);
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}
