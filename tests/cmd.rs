//! What a person types and sees, as transcripts: `tests/cmd/*.trycmd`.
//!
//! ````text
//! ```
//! $ tapswitch check no.toml
//! ? 1
//! tapswitch: read no.toml: ...
//!
//! ```
//! ````
//! `NAME.in/`, beside `NAME.trycmd`, is the directory in which its lines run. `[..]` stands for
//! anything in a line, `...` for any lines, `? N` for an exit code that is not 0.
//! `TRYCMD=overwrite cargo test --test cmd` writes down what is printed now.
//!
//! No daemon is there. What needs one is told by `tests/cli.rs`.

use std::{fs, path::Path};

#[test]
fn commands_print_what_the_transcripts_promise() {
    trycmd::TestCases::new()
        .case("tests/cmd/*.trycmd")
        .env("TAPSWITCH_SOCKET", "/nonexistent/control.sock")
        .env("LC_ALL", "C");
}

/// A reader of the README sees lines that were printed once.
#[test]
fn the_readme_shows_nothing_that_no_transcript_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let mut transcripts = String::new();
    for entry in fs::read_dir(root.join("tests/cmd")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|name| name == "trycmd") {
            transcripts += &fs::read_to_string(path).unwrap();
        }
    }
    // `# tapswitch` is for a machine with a daemon, where no transcript can be made.
    let blocks = readme.split("\n```console\n$ tapswitch ").skip(1);
    let mut count = 0;
    for block in blocks {
        count += 1;
        let block = block.split("\n```").next().unwrap();
        let block = format!("$ tapswitch {block}\n");
        assert!(
            transcripts.contains(&block),
            "no transcript in tests/cmd has this of the README:\n{block}"
        );
    }
    assert!(count > 0, "no line of the README begins a block as above");
}

#[test]
fn the_lesson_that_is_checked_is_the_one_of_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let lesson = fs::read_to_string(root.join("tests/cmd/lab.in/hello.toml")).unwrap();
    assert!(readme.contains(&format!("```toml\n{lesson}```\n")));
}
