//! Segmentation and joining under bytes that nobody thought of: the corpus in `tests/corpus`, and
//! then mutations of it for a while. What did something new is mutated further.
//!
//! `TAPSWITCH_FUZZ_SECONDS` sets how long each target runs, 2 if nobody says, and
//! `TAPSWITCH_FUZZ_SEED` repeats a run. A file of the corpus is bytes in hexadecimal, with comments
//! behind `#`; [`recipe`] says what they mean. Bytes that fail are printed like that: put them into
//! a file.

mod superframe;

use std::{
    collections::HashSet,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{self, AssertUnwindSafe},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use smoltcp::wire::checksum;
use superframe::{
    Noise, Superframe,
    joiner::{Input, cut, finished, from_port, is_sound, joined},
    pseudo, recipe, whole,
};
use tapswitch::offload::{self, BadOffload, MAX_HEADERS, MAX_SEGMENTS, Mark, Segments};

/// Runs one input, asserts what must hold, and returns what was special about it.
type Target = fn(&[u8]) -> u64;

#[test]
fn segmentation_withstands_the_corpus_and_its_mutations() {
    fuzz("segment", segment);
}

#[test]
fn joining_withstands_the_corpus_and_its_mutations() {
    fuzz("coalesce", coalesce);
}

/// A superframe is refused, or cut into segments that are whole, right and within bounds.
fn segment(bytes: &[u8]) -> u64 {
    let recipe::Cutting {
        spec,
        header,
        frame,
        limit,
        is_damaged,
    } = recipe::superframe(bytes);
    let mut out = Segments::new();
    let checked = offload::check(&header, &frame);
    assert_eq!(offload::segment(&header, &frame, None, &mut out), checked);
    let unlimited = whole(&out, &frame);
    let result = offload::segment(&header, &frame, limit, &mut out);
    if result.is_err() {
        assert!(out.is_empty(), "segments of a refused frame");
        let by_limit = matches!(
            result,
            Err(BadOffload::NoRoom { .. } | BadOffload::TooManySegments(_))
        );
        assert!(checked == result || by_limit);
        return signature((result.map_err(kind), header.gso_type, is_damaged));
    }
    let segments = whole(&out, &frame);
    assert!(!segments.is_empty() && segments.len() <= MAX_SEGMENTS);
    if limit.is_none() {
        assert_eq!(segments, unlimited);
    }

    // The payload is all there, in order, and nothing twice.
    let mut next = out.iter().next().map_or(0, |first| first.head.len());
    for segment in out.iter() {
        assert_eq!(segment.payload.start, next);
        assert!(segment.head.len() <= MAX_HEADERS || segments.len() == 1);
        next = segment.payload.end;
    }
    assert_eq!(next, frame.len());

    if segments.len() > 1 {
        let headers = usize::from(offload::exact_hdr_len(&header, &frame).unwrap());
        let most = headers + usize::from(header.gso_size());
        let most = match limit {
            Some(limit) if !spec.udp => most.min(limit),
            _ => most,
        };
        let (last, others) = segments.split_last().unwrap();
        // A damaged header may say that it is UDP.
        if !is_damaged {
            assert!(others.iter().all(|segment| segment.len() == most));
            assert!(last.len() <= most);
        }
    }
    if !is_damaged {
        if spec.gso || spec.needs_csum {
            assert!(segments.iter().all(|segment| verifies(&spec, segment)));
        }
        // What is cut may be joined again, and cut again.
        let frames: Vec<Input> = segments.into_iter().map(|frame| (None, frame)).collect();
        conserves(&frames, from_port);
    }
    let size = out.len().next_power_of_two();
    signature((size, header.gso_type, limit.is_some(), is_damaged))
}

/// Frames are joined, and given back byte by byte.
fn coalesce(bytes: &[u8]) -> u64 {
    let mut frames = recipe::frames(bytes);
    let from_ports = conserves(&frames, from_port);
    // The same as if they had come out of a tunnel, where their headers are lost.
    for (header, _) in &mut frames {
        *header = None;
    }
    let segment = bytes.first().map(|&byte| usize::from(byte) * 3);
    let from_tunnel = |(_, frame): &Input| Mark::of(frame, segment, 1450);
    signature((from_ports, conserves(&frames, from_tunnel)))
}

/// Joins, cuts, compares; returns which frames were joined.
fn conserves(frames: &[Input], mark: impl Fn(&Input) -> Mark) -> Vec<usize> {
    let out = joined(frames, &mark);
    let sound = || frames.iter().filter(|input| is_sound(input));
    let bytes = |frames: &mut dyn Iterator<Item = &Vec<u8>>| frames.map(Vec::len).sum::<usize>();
    assert!(
        bytes(&mut out.iter().map(|output| &output.frame)) <= bytes(&mut sound().map(|f| &f.1))
    );
    let counts: Vec<usize> = out.iter().map(|output| output.count).collect();
    assert_eq!(counts.iter().sum::<usize>(), sound().count());

    let mut given_back = Vec::new();
    for output in &out {
        assert_eq!(offload::check(&output.header, &output.frame), Ok(()));
        given_back.extend(cut(&output.header, &output.frame));
    }
    assert!(
        given_back == finished(frames, mark),
        "what was joined is not given back: {counts:?}"
    );
    counts
}

/// Whether the checksums of a segment are right, to smoltcp.
fn verifies(spec: &Superframe, frame: &[u8]) -> bool {
    // Padding is payload to whoever cuts, and to the checksum.
    let l4 = &frame[spec.l4()..];
    let pseudo = pseudo(frame, spec.l3(), spec.udp, l4.len());
    let is_padded = spec.padding > 0;
    is_padded || checksum::combine(&[pseudo, checksum::data(l4)]) == 0xffff
}

fn kind(error: BadOffload) -> std::mem::Discriminant<BadOffload> {
    std::mem::discriminant(&error)
}

fn signature(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Replays the corpus, then mutates.
fn fuzz(name: &str, target: Target) {
    let corpus = corpus(name);
    assert!(corpus.len() >= 10, "tests/corpus/{name} is not there");
    let seed = setting("TAPSWITCH_FUZZ_SEED").unwrap_or_else(seed_of_the_day);
    let seconds = setting("TAPSWITCH_FUZZ_SECONDS").unwrap_or(2);
    println!("{name}: TAPSWITCH_FUZZ_SEED={seed} TAPSWITCH_FUZZ_SECONDS={seconds}");

    let mut seen = HashSet::new();
    for (file, bytes) in &corpus {
        seen.insert(run(target, bytes, file));
    }
    let mut pool: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let mut noise = Noise(seed);
    let (mut rounds, end) = (0_u64, now() + Duration::from_secs(seconds));
    while now() < end {
        let mut bytes = pick(&mut noise, &pool).clone();
        for _ in 0..=noise.below(4) {
            mutate(&mut noise, &mut bytes, &pool);
        }
        let is_new = seen.insert(run(target, &bytes, &format!("seed {seed}, round {rounds}")));
        if is_new && pool.len() < POOL {
            pool.push(bytes);
        }
        rounds += 1;
    }
    println!(
        "{name}: {rounds} rounds, {} kept, {} seen",
        pool.len(),
        seen.len()
    );
}

/// Runs one input; if it fails, says which.
fn run(target: Target, bytes: &[u8], whence: &str) -> u64 {
    panic::catch_unwind(AssertUnwindSafe(|| target(bytes))).unwrap_or_else(|reason| {
        let text: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{whence} fails:\n{}", text.join(" "));
        panic::resume_unwind(reason)
    })
}

fn mutate(noise: &mut Noise, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
    let at = index(noise, bytes.len() + 1);
    let value = u8::try_from(noise.below(256)).unwrap();
    match noise.below(10) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
        2 if at < bytes.len() => bytes[at] = value,
        3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][usize::from(value % 5)],
        4 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(value % 8).wrapping_sub(4),
        5 => bytes.insert(at, value),
        6 => {
            // A step more, as most recipes are made of pairs.
            bytes.splice(at..at, [value, value.rotate_left(3)]);
        }
        7 => {
            let end = (at + 1 + usize::from(value % 8)).min(bytes.len());
            bytes.drain(at..end);
        }
        8 => {
            let end = (at + 1 + usize::from(value % 16)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        _ => {
            let other = pick(noise, pool);
            let from = index(noise, other.len() + 1);
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
    }
    bytes.truncate(LONGEST);
}

fn pick<'a>(noise: &mut Noise, pool: &'a [Vec<u8>]) -> &'a Vec<u8> {
    &pool[index(noise, pool.len())]
}

fn index(noise: &mut Noise, end: usize) -> usize {
    usize::try_from(noise.below(end as u64)).unwrap()
}

/// The files of a directory of the corpus, by name.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = fs::read_dir(directory.join(name))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let words = text.lines().flat_map(|line| {
            line.split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
        });
        let bytes = words.map(|word| {
            u8::from_str_radix(word, 16).unwrap_or_else(|_| panic!("{}: {word}", path.display()))
        });
        (path.display().to_string(), bytes.collect())
    };
    files.iter().map(read).collect()
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "every run tries other bytes, and says which"
)]
fn seed_of_the_day() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(1, |time| {
            u64::from(time.subsec_nanos()) ^ time.as_secs() << 30
        })
}

#[expect(clippy::disallowed_methods, reason = "it runs for a while")]
fn now() -> Instant {
    Instant::now()
}

/// Inputs that are kept for further mutation.
const POOL: usize = 2000;
/// Bytes of an input.
const LONGEST: usize = 400;
