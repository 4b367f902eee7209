//! Scripts as they are typed: one command after the other.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::{here::Scanner, read::Complaint};

/// A command that may have several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Typed(pub(super) String);

/// The commands of `script`, in order. Blank lines and comments between them are left out. Lines
/// belong together until the shell has no complaint.
pub(super) fn commands(script: &str) -> Result<Vec<Typed>, Complaint> {
    let mut commands = Vec::new();
    let mut pending: Vec<&str> = Vec::new();
    let mut complaint = None;
    let mut first = 1;
    for (number, line) in (1..).zip(script.lines()) {
        let is_between = pending.is_empty() && (line.trim().is_empty() || is_comment(line));
        if is_between {
            continue;
        }
        if pending.is_empty() {
            first = number;
        }
        pending.push(line);
        let text = pending.join("\n");
        complaint = match goes_on(&text) {
            Some(said) => Some((1, said.to_owned())),
            None => complain(&text),
        };
        if complaint.is_none() {
            commands.push(Typed(text));
            pending.clear();
        }
    }
    match complaint {
        None => Ok(commands),
        Some((line, said)) => Err((first + line - 1, said)),
    }
}

/// What is wrong with `script`, in the shell's words or in ours.
pub(super) fn inspect(script: &str) -> Option<Complaint> {
    complain(script).or_else(|| commands(script).err())
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Why there is more to come behind `text`, if the shell would not mind its end.
fn goes_on(text: &str) -> Option<&'static str> {
    let backslashes = text.len() - text.trim_end_matches('\\').len();
    if backslashes % 2 == 1 {
        return Some("the last line ends with a backslash");
    }
    Scanner::new(text)
        .ends_in_here_document()
        .then_some("a here-document does not end")
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
    fn what_only_looks_like_a_here_document_is_none_and_one_behind_arithmetic_is() {
        for line in [
            "echo 'a <<EOF b'",
            "echo \"a <<EOF\"",
            "echo a # <<EOF",
            "echo \\<\\<EOF",
            "x=$((1<<2))",
        ] {
            let script = format!("{line}\necho b");
            assert_eq!(typed(&script), [line, "echo b"], "{line}");
        }
        for document in [
            "x=$((1)); cat <<EOF\necho in\nEOF",
            "cat <<END-OF\nEND\nEND-OF",
            "cat <<A <<'B C'\nA\nx\nB C",
            "cat <<-A\n\tx\n\tA",
            "x=\"$(cat <<A\nit's\nA\n)\"",
            "echo ${#x} $# <<A\nx\nA",
            "(cat <<A)\nx\nA",
        ] {
            let script = format!("{document}\necho b");
            assert_eq!(typed(&script), [document, "echo b"], "{document}");
        }
    }

    #[test]
    fn a_script_that_ends_too_early_is_told_with_line_and_cause() {
        assert_eq!(
            inspect("echo a\n\ncat <<EOF\nx"),
            Some((3, "a here-document does not end".to_owned()))
        );
        let (line, said) = inspect("echo a\necho b \\").unwrap();
        assert_eq!((line, said.contains("backslash")), (2, true), "{said}");
        assert_eq!(inspect("echo a\n"), None);
    }

    #[test]
    fn a_script_that_never_ends_is_refused_with_the_shells_words() {
        assert!(commands("if true; then\necho").is_err());
        let (line, said) = complain("echo a\nfi\n").unwrap();
        assert_eq!(line, 2, "{said}");
        assert!(said.contains("fi"), "{said}");
    }
}
