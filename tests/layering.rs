//! The rooms of the house, and what each must not know of. Reads the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a room must not mention.
struct Rule {
    rooms: &'static [&'static str],
    forbidden: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        rooms: &[
            "wire", "bridge", "craft", "offload", "vxlan", "overlay", "dissect", "doctor", "filter",
        ],
        forbidden: &[
            "std::io",
            "io::",
            "std::thread",
            "thread::",
            "std::fs",
            "fs::",
            "std::process",
            "process::",
            "Instant",
            "SystemTime",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "tokio",
            "nix::",
            "libc",
            "socket2",
            "crate::sys",
            "crate::datapath",
            "crate::control",
            "crate::daemon",
            "crate::cli",
            "println!",
            "eprintln!",
        ],
        why: "pure rooms have no I/O, no clock and no threads",
    },
    Rule {
        rooms: &["wire"],
        forbidden: &[
            "crate::bridge",
            "crate::config",
            "crate::offload",
            "crate::vxlan",
        ],
        why: "wire says what bytes mean and knows nobody",
    },
    Rule {
        rooms: &["datapath", "rehearsal"],
        forbidden: &[
            "crate::sys",
            "crate::control",
            "crate::daemon",
            "crate::cli",
            "tokio",
            "nix::",
            "libc",
            "Instant",
            "SystemTime",
            "std::thread",
            "std::fs",
            "fs::",
            "println!",
            "eprintln!",
        ],
        why: "the frame path touches the outside only through PortIo",
    },
    Rule {
        rooms: &["sim"],
        forbidden: &[
            "crate::sys",
            "crate::control",
            "crate::daemon",
            "crate::cli",
            "tokio",
            "nix::",
            "libc",
            "Instant::now",
            "SystemTime",
            "std::thread",
            "std::fs",
            "fs::",
        ],
        why: "the lab runs anywhere, and the same each time",
    },
    Rule {
        rooms: &["web"],
        forbidden: &[
            "crate::sys::netns",
            "crate::datapath",
            "crate::daemon",
            "crate::cli",
            "nix::",
            "libc",
            "SystemTime",
            "println!",
            "eprintln!",
        ],
        why: "the page knows switches by what the control API tells",
    },
    Rule {
        rooms: &["lesson"],
        forbidden: &["crate::cli", "println!", "eprintln!"],
        why: "lessons can be run from any program",
    },
    Rule {
        rooms: &["sys"],
        forbidden: &[
            "crate::bridge::Bridge",
            "crate::vxlan",
            "crate::control",
            "crate::daemon",
        ],
        why: "sys knows the kernel and no switch",
    },
];

#[test]
fn no_room_mentions_what_it_must_not_know() {
    let mut broken = Vec::new();
    for rule in RULES {
        for room in rule.rooms {
            for file in sources(room) {
                for (number, line) in code(&file) {
                    let found = rule.forbidden.iter().find(|word| mentions(&line, word));
                    if let Some(word) = found {
                        let file = file.display();
                        broken.push(format!("{file}:{number}: `{word}`: {}", rule.why));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let mut broken = Vec::new();
    for file in files(&root()) {
        if file.starts_with(root().join("sys")) {
            continue;
        }
        for (number, line) in code(&file) {
            if mentions(&line, "unsafe") || line.contains("unsafe_code") {
                broken.push(format!(
                    "{}:{number}: unsafe outside src/sys",
                    file.display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_check_finds_what_it_looks_for() {
    for (line, word, found) in [
        ("use std::io::Read;", "std::io", true),
        ("use std::{io, fmt};", "io", true),
        ("let audio = 1;", "io", false),
        ("tokio::spawn(f)", "tokio", true),
        ("unsafe { f() }", "unsafe", true),
        ("is_unsafe()", "unsafe", false),
    ] {
        assert_eq!(mentions(line, word), found, "{word:?} in {line:?}");
    }
    assert!(sources("bridge").len() > 3 && sources("wire").len() > 3);
}

/// Whether `word` stands in `line` and is not the end or start of a longer one.
fn mentions(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_open = word.chars().next_back().is_some_and(|c| !part_of_name(c));
        !before.is_some_and(part_of_name) && (ends_open || !after.is_some_and(part_of_name))
    })
}

/// The numbered lines of a file without comments, and without its tests, which may do anything.
fn code(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let tests = |&n: &usize| lines[n] == "#[cfg(test)]" && lines[n + 1].ends_with("mod tests {");
    let end = (0..lines.len()).find(tests).unwrap_or(lines.len());
    let bare = |line: &str| line.split("//").next().unwrap_or("").to_owned();
    (1..)
        .zip(lines[..end].iter().map(|line| bare(line)))
        .collect()
}

/// The sources of one room, be it a file or a directory.
fn sources(room: &str) -> Vec<PathBuf> {
    let mut found = files(&root().join(room));
    found.extend(Some(root().join(format!("{room}.rs"))).filter(|path| path.is_file()));
    found.retain(|path| !path.ends_with("tests.rs"));
    found
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
