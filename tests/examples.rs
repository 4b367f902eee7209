//! Every example prints what its first lines promise. Those that need root are left out.

use std::{fs, path::Path, process::Command};

#[test]
fn examples_print_what_they_promise() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut checked = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let Some(promised) = promised(&text).filter(|_| text.contains("(no root)")) else {
            continue;
        };
        let name = path.file_stem().unwrap().to_str().unwrap();
        let output = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--example", name])
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{name} failed");
        assert_eq!(printed.trim_end(), promised, "{name}");
        checked += 1;
    }
    assert!(checked >= 7, "only {checked} examples were found");
}

/// What stands between ```` ```text ```` and ```` ``` ```` in the module's documentation.
fn promised(text: &str) -> Option<String> {
    let docs = text.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<_> = docs
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let start = lines.iter().position(|&line| line == "```text")? + 1;
    let len = lines[start..].iter().position(|&line| line == "```")?;
    Some(lines[start..start + len].join("\n"))
}
