//! Scripts as they are typed: one command after the other.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::read::Complaint;

/// A command that may have several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Typed(pub(super) String);

/// The commands of `script`, in order. Blank lines and comments between them are left out. Lines
/// belong together until the shell has no complaint.
pub(super) fn commands(script: &str) -> Result<Vec<Typed>, String> {
    let mut commands = Vec::new();
    let mut pending: Vec<&str> = Vec::new();
    let mut complaint = String::new();
    for line in script.lines() {
        let is_between = pending.is_empty() && (line.trim().is_empty() || is_comment(line));
        if is_between {
            continue;
        }
        pending.push(line);
        if goes_on(&pending) {
            continue;
        }
        let text = pending.join("\n");
        match complain(&text) {
            None => {
                commands.push(Typed(text));
                pending.clear();
            }
            Some((_, said)) => complaint = said,
        }
    }
    match pending.is_empty() {
        true => Ok(commands),
        false => Err(complaint),
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Whether the last line says that there is more, in a way that the shell does not mind.
fn goes_on(lines: &[&str]) -> bool {
    if lines.last().is_some_and(|line| line.ends_with('\\')) {
        return true;
    }
    let mut ends: Vec<&str> = Vec::new();
    for line in lines {
        match ends.first() {
            Some(end) if line.trim_start_matches('\t') == *end => drop(ends.remove(0)),
            Some(_) => {}
            None => ends = here_documents(line),
        }
    }
    !ends.is_empty()
}

/// The words that end the here-documents which `line` begins.
fn here_documents(line: &str) -> Vec<&str> {
    let starts = line.match_indices("<<");
    let words = starts.filter_map(|(at, _)| {
        let before = &line[..at];
        let rest = &line[at + 2..];
        // A here-string, and a shift in arithmetic, are none.
        if before.ends_with('<') || rest.starts_with('<') || before.contains("$((") {
            return None;
        }
        let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start();
        let rest = rest.trim_start_matches(['\'', '"', '\\']);
        let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        let word = &rest[..end.unwrap_or(rest.len())];
        (!word.is_empty()).then_some(word)
    });
    words.collect()
}

/// What the shell says about `script` without running it; nothing if it is content, or if there is
/// no shell.
pub(super) fn complain(script: &str) -> Option<Complaint> {
    let mut child = Command::new("sh")
        .args(["-n"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end at the first error, before it has read all.
        drop(stdin.write_all(script.as_bytes()));
        drop(stdin.write_all(b"\n"));
    }
    let output = child.wait_with_output().ok()?;
    if output.status.success() {
        return None;
    }
    // "sh: 2: Syntax error: ..." of dash, "sh: line 2: syntax error ..." of bash.
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it is no script").trim();
    let mut parts = said.splitn(3, ": ");
    let number = (parts.next(), parts.next());
    let line = number
        .1
        .and_then(|part| part.trim_start_matches("line ").parse().ok());
    Some(match (line, parts.next()) {
        (Some(line), Some(rest)) => (line, lower_first(rest)),
        _ => (1, said.to_owned()),
    })
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(script: &str) -> Vec<String> {
        let commands = commands(script).unwrap();
        commands.into_iter().map(|Typed(text)| text).collect()
    }

    #[test]
    fn a_command_ends_where_the_shell_is_content() {
        let script = "\n# a comment\nip netns add podA\nfor i in 1 2; do\n  echo $i\ndone\n\
                      echo 'two\nlines'\nip link add br0 \\\n  type bridge\n";
        assert_eq!(
            typed(script),
            [
                "ip netns add podA",
                "for i in 1 2; do\n  echo $i\ndone",
                "echo 'two\nlines'",
                "ip link add br0 \\\n  type bridge",
            ]
        );
    }

    #[test]
    fn a_here_document_stays_with_its_command() {
        let script = "cat >a <<'EOF'\n# not a comment\nEOF\necho $((1<<2))\n";
        assert_eq!(
            typed(script),
            ["cat >a <<'EOF'\n# not a comment\nEOF", "echo $((1<<2))"]
        );
    }

    #[test]
    fn a_script_that_never_ends_is_refused_with_the_shells_words() {
        assert!(commands("if true; then\necho").is_err());
        let (line, said) = complain("echo a\nfi\n").unwrap();
        assert_eq!(line, 2, "{said}");
        assert!(said.contains("fi"), "{said}");
    }
}
