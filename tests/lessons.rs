//! Every lesson runs, on this switch and on the kernel; every fault is noticed and can be repaired.
//!
//! The last test prints the rows of the tutorials with the lesson that teaches each, and what came
//! of it: `cargo test --test lessons -- rows`.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::{Condvar, Mutex, OnceLock},
    time::Duration,
};

use libtest_mimic::{Completion, Failed, Trial};
use nix::unistd::geteuid;
use serde_json::Value;
use tapswitch::{
    lesson::{Lesson, System, Text, library, parse},
    sys::clock,
};

use common::{Env, command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tapswitch");

/// What an ordinary user runs, too: one node, two nodes, a process without a name, and a firewall.
const SAMPLE: &[(&str, System)] = &[
    ("first-ping", System::Tapswitch),
    ("first-ping", System::Kernel),
    ("shared-bridge", System::Tapswitch),
    ("shared-bridge", System::Kernel),
    ("nameless", System::Tapswitch),
    ("br-netfilter", System::Tapswitch),
    ("br-netfilter", System::Kernel),
    ("bandwidth", System::Tapswitch),
];

/// The rows of the tutorials that can be taught here: A, namespaces by hand; B, docker0; C, the pod
/// network; D, from veth to other nodes; E, containerd by hand.
const ROWS: &str = "
    A01-A20 A22-A27 A29-A37 A39-A43 B01-B19 C01-C02 C04-C09 C11-C13 C15-C19 C21-C23 D01-D07 D09
    E01-E24";

/// All lessons together, on both systems.
const MOST: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    // Each lesson is a process of its own, in namespaces of its own.
    common::main_at_once(2, |env: &Env| {
        let lessons: Vec<&'static Lesson> = library::ALL
            .iter()
            .filter_map(|entry| Some(&*Box::leak(Box::new(parse(entry.text).ok()?))))
            .collect();
        let mut trials = vec![
            Trial::test("english_is_noticed_in_what_is_told", || {
                for (told, is_noticed) in [
                    ("它到不了 podB", false),
                    ("! 应当成立：every command is fine", true),
                    ("  the output of a program is its own", false),
                    (
                        "经过的帧：\n                 flooded to podB, podC: a broadcast is",
                        true,
                    ),
                    ("    Note over n0: it is not there", true),
                    ("看看 tapswitch fdb show 或 bridge fdb show br br0", false),
                ] {
                    assert_eq!(english(told).is_some(), is_noticed, "{told}");
                }
                Ok(())
            }),
            Trial::test("the_lessons_can_be_read_in_english_and_in_chinese", in_both),
            Trial::ignorable_test("a_lesson_whose_claim_is_false_fails", || {
                under_way(false_claims)
            }),
        ];
        for &lesson in &lessons {
            for &system in &lesson.on {
                let name = format!("{}_holds_on_{system}", lesson.id);
                trials.push(Trial::ignorable_test(name, move || {
                    under_way(|| outcome(&lesson.id, system).completion())
                }));
            }
        }
        for &(id, system) in SAMPLE {
            let name = format!("an_ordinary_user_sees_{id}_on_{system}");
            trials.push(Trial::ignorable_test(name, move || {
                under_way(|| as_nobody(id, system).completion())
            }));
        }
        for &lesson in &lessons {
            for fault in &lesson.faults {
                for system in System::ALL {
                    if !fault.is_on(system) {
                        continue;
                    }
                    let name = format!(
                        "{}_of_{}_is_noticed_and_repaired_on_{system}",
                        fault.name, lesson.id
                    );
                    trials.push(Trial::ignorable_test(name, move || {
                        under_way(|| broken(&lesson.id, &fault.name, system).completion())
                    }));
                }
            }
        }
        let cannot = env.reason_not_to_run.clone();
        trials.push(Trial::ignorable_test(
            "each_of_the_rows_of_the_tutorials_has_a_lesson",
            move || {
                wait_for_all();
                rows(&lessons)?;
                Ok(match &cannot {
                    Some(because) => Completion::ignored_with(because.clone()),
                    None => Completion::Completed,
                })
            },
        ));
        trials
    })
}

/// How many trials are under way.
static UNDER_WAY: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Runs a trial, and counts it.
fn under_way<T>(body: impl FnOnce() -> T) -> T {
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            *UNDER_WAY.0.lock().unwrap() -= 1;
            UNDER_WAY.1.notify_all();
        }
    }
    *UNDER_WAY.0.lock().unwrap() += 1;
    let _counted = Counted;
    body()
}

/// Waits until no other trial is under way. The last one calls it, when all others have begun.
fn wait_for_all() {
    let count = UNDER_WAY.0.lock().unwrap();
    drop(UNDER_WAY.1.wait_while(count, |count| *count > 0).unwrap());
}

/// What came of a run.
#[derive(Clone, Debug)]
enum Outcome {
    Passed,
    NotRun(String),
    Failed(String),
}

impl Outcome {
    /// As the test says it.
    fn completion(self) -> Result<Completion, Failed> {
        match self {
            Self::Passed => Ok(Completion::Completed),
            Self::NotRun(because) => Ok(Completion::ignored_with(because)),
            Self::Failed(text) => Err(text.into()),
        }
    }

    /// As the table of rows says it.
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::NotRun(_) => "not run",
            Self::Failed(_) => "FAILED",
        }
    }
}

/// A run that is over.
#[derive(Clone, Debug)]
struct Run {
    outcome: Outcome,
    took: Duration,
}

/// Runs that are over, by `ID on SYSTEM`: no lesson runs twice.
static RUNS: Mutex<BTreeMap<String, Run>> = Mutex::new(BTreeMap::new());

fn outcome(id: &str, system: System) -> Outcome {
    let key = format!("{id} on {system}");
    let known = RUNS.lock().unwrap().get(&key).cloned();
    if let Some(run) = known {
        return run.outcome;
    }
    let start = clock::now();
    let mut program = Command::new(PROGRAM);
    program.args(["lab", "run", id, "--pcap", "/dev/null"]);
    let run = Run {
        outcome: lab(&mut program, system, "zh"),
        took: clock::now().since(start),
    };
    RUNS.lock().unwrap().insert(key, run.clone());
    run.outcome
}

fn broken(id: &str, fault: &str, system: System) -> Outcome {
    let mut program = Command::new(PROGRAM);
    program.args(["lab", "break", id, "--fault", fault, "--solve", "--hint"]);
    lab(&mut program, system, "zh")
}

fn as_nobody(id: &str, system: System) -> Outcome {
    if !geteuid().is_root() || !is_mapped(NOBODY) {
        return Outcome::NotRun("only root can be somebody else".to_owned());
    }
    // Where it is built others may not look.
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    let copy = COPY.get_or_init(|| {
        let copy = PathBuf::from("/run/tapswitch-lessons");
        fs::copy(PROGRAM, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    });
    let mut program = Command::new(copy);
    program.args(["lab", "run", id, "--pcap", "/dev/null"]);
    program.current_dir("/").uid(NOBODY).gid(NOBODY);
    lab(&mut program, system, "en")
}

const NOBODY: u32 = 65_534;

/// Whether a user namespace, if this is one, knows that user.
fn is_mapped(uid: u32) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().flat_map(str::parse).collect();
        matches!(numbers[..], [first, _, count] if uid >= first && uid - first < count)
    })
}

/// What `tapswitch lab` makes of it. Told in Chinese, nothing may be left in English.
fn lab(program: &mut Command, system: System, lang: &str) -> Outcome {
    let path = command("sh")
        .get_envs()
        .find_map(|(_, path)| path.map(ToOwned::to_owned));
    program
        .args(["--on", system.name(), "--lang", lang])
        .env("PATH", path.unwrap_or_default())
        .env_remove("TAPSWITCH_SOCKET")
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null());
    let output = program.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let told = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => match (lang, english(&told)) {
            ("zh", Some(line)) => Outcome::Failed(format!("in English: {line}\n{told}")),
            _ => Outcome::Passed,
        },
        Some(NOT_RUN) => Outcome::NotRun(told.trim().lines().last().unwrap_or_default().to_owned()),
        _ => Outcome::Failed(told),
    }
}

/// The first line that is told, not printed by a program, and has an English sentence in it.
fn english(told: &str) -> Option<&str> {
    let mut is_about_frames = false;
    told.lines().find(|line| {
        let indent = line.len() - line.trim_start().len();
        if indent == 0 {
            is_about_frames = line.starts_with("经过的帧");
        }
        // Commands and their output are set in; so are the frames, each with its number first.
        let is_told = match line.trim_start() {
            note if note.starts_with("Note over ") => true,
            _ => indent == 0 || is_about_frames && indent >= 17,
        };
        is_told && is_english(line)
    })
}

/// Whether there are three English words in a row, and one of them is none of a command.
fn is_english(line: &str) -> bool {
    let runs = line.split(|char: char| !char.is_ascii_alphabetic() && char != ' ' && char != '\'');
    runs.map(|run| run.split_whitespace().collect::<Vec<_>>())
        .any(|words| {
            let is_of_sentence = |word: &&str| {
                [
                    "the",
                    "is",
                    "a",
                    "an",
                    "of",
                    "it",
                    "its",
                    "and",
                    "not",
                    "that",
                    "are",
                    "was",
                    "where",
                    "only",
                    "no",
                    "to",
                    "everybody",
                    "bytes",
                    "frames",
                ]
                .contains(&word.to_ascii_lowercase().as_str())
            };
            words.len() >= 3 && words.iter().any(is_of_sentence)
        })
}

/// The exit code of `lab run` where a lesson cannot be run.
const NOT_RUN: i32 = 77;

/// A lesson that says nothing is none; one without Chinese is one for half of the readers.
fn in_both() -> Result<(), Failed> {
    for entry in library::ALL {
        let lesson = parse(entry.text).map_err(|errors| format!("{}: {errors:?}", entry.id))?;
        let mut texts: Vec<(&str, &Text)> =
            vec![("title", &lesson.title), ("about", &lesson.about)];
        for step in &lesson.steps {
            texts.push(("step", &step.say));
            texts.extend(step.frames.iter().map(|frame| ("frame", &frame.say)));
        }
        for fault in &lesson.faults {
            texts.extend([
                ("symptom", &fault.symptom),
                ("hint", &fault.hint),
                ("cause", &fault.cause),
            ]);
        }
        for (place, text) in texts {
            let is_chinese = |text: &str| {
                text.chars()
                    .any(|char| ('\u{4e00}'..='\u{9fff}').contains(&char))
            };
            let [en, zh] = [&text.en, &text.zh].map(|text| text.as_deref().unwrap_or_default());
            if en.is_empty() || is_chinese(en) || !is_chinese(zh) {
                return Err(format!("{}, a {place}: en {en:?}, zh {zh:?}", entry.id).into());
            }
        }
    }
    Ok(())
}

/// Each of these is a lesson of the program with one word changed.
fn false_claims() -> Result<Completion, Failed> {
    for (about, id, truth, lie) in [
        (
            "prints",
            "first-ping",
            "' 0% packet loss'",
            "' 50% packet loss'",
        ),
        ("frames", "first-ping", "to = [\"podB\"]", "to = [\"podC\"]"),
        (
            "frames",
            "first-ping",
            "fate = \"flooded\"",
            "fate = \"forwarded\"",
        ),
        (
            "exit",
            "br-netfilter",
            "fails = \"kernel\"",
            "fails = \"tapswitch\"",
        ),
        ("exit", "loopback", "fails = \"both\"", "fails = \"kernel\""),
        (
            "frames",
            "mtu",
            "reason = \"too_big\"",
            "reason = \"no_egress\"",
        ),
    ] {
        let text = library::find(id).ok_or("there is no such lesson")?.text;
        if !text.contains(truth) {
            return Err(format!("{id} does not say {truth}").into());
        }
        let file = format!("/run/{id}-false.toml");
        let text = text.replacen(truth, lie, 1);
        fs::write(&file, text).map_err(|error| format!("write {file}: {error}"))?;
        let mut program = Command::new(PROGRAM);
        program.args(["lab", "run", &file, "--pcap", "/dev/null", "--json"]);
        let outcome = lab(&mut program, System::Tapswitch, "en");
        match &outcome {
            Outcome::Failed(report) if broken_asserts(report) == [about] => {}
            Outcome::NotRun(_) => {
                return Ok(Completion::ignored_with(format!("{id} cannot run here")));
            }
            _ => return Err(format!("{id} with {lie}: {outcome:?}").into()),
        }
    }
    Ok(Completion::Completed)
}

/// What the asserts are about that do not hold in a report; nothing if it is none.
fn broken_asserts(report: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(report).unwrap_or_default();
    let steps = report["steps"].as_array().into_iter().flatten();
    let asserts = steps.flat_map(|step| step["asserts"].as_array().into_iter().flatten());
    asserts
        .filter(|assert| !assert["got"].is_null())
        .map(|assert| assert["about"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Prints the table.
fn rows(lessons: &[&Lesson]) -> Result<(), Failed> {
    let wanted = wanted();
    let taught: BTreeSet<&str> = lessons
        .iter()
        .flat_map(|lesson| &lesson.rows)
        .map(String::as_str)
        .collect();
    println!("\n row  lesson            tapswitch  kernel");
    let mut failed = Vec::new();
    for row in &wanted {
        for lesson in lessons.iter().filter(|lesson| lesson.rows.contains(row)) {
            let on = System::ALL.map(|system| match lesson.on.contains(&system) {
                true => outcome(&lesson.id, system),
                false => Outcome::NotRun(String::new()),
            });
            println!(
                " {row}  {:16}  {:9}  {}",
                lesson.id,
                on[0].word(),
                on[1].word()
            );
            if on
                .iter()
                .any(|outcome| matches!(outcome, Outcome::Failed(_)))
            {
                failed.push(row.clone());
            }
        }
    }
    // Two at once: nobody waits for the sum.
    let took: Duration = RUNS.lock().unwrap().values().map(|run| run.took).sum();
    println!(
        " {} rows, {} lessons, {:.0} s on both systems one after the other",
        wanted.len(),
        lessons.len(),
        took.as_secs_f64()
    );
    let missing: Vec<_> = wanted
        .iter()
        .filter(|row| !taught.contains(row.as_str()))
        .collect();
    let unknown: Vec<_> = taught
        .iter()
        .filter(|row| !wanted.contains(&(**row).to_owned()))
        .collect();
    if !missing.is_empty() || !unknown.is_empty() || !failed.is_empty() || took > MOST {
        let text = format!(
            "without a lesson: {missing:?}; unknown: {unknown:?}; failed: {failed:?}; in {took:?}"
        );
        return Err(text.into());
    }
    Ok(())
}

/// All of [`ROWS`].
fn wanted() -> Vec<String> {
    let mut rows = Vec::new();
    for range in ROWS.split_whitespace() {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |row: &str| row[1..].parse::<u32>().unwrap();
        rows.extend(
            (number(first)..=number(last)).map(|number| format!("{}{number:02}", &first[..1])),
        );
    }
    rows
}
