//! Names from people, checked once at the edge and never again.
//!
//! An interface name reaches the kernel in a 16-byte field, `TUNSETIFF` expands `%d`, and a
//! namespace name becomes a path: so `..`, `/`, `%`, NUL, blanks, non-ASCII and over-long names
//! are refused here, before any system call sees them.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("name is empty; give 1 to {max} characters")]
    Empty {
        /// The longest name that is accepted.
        max: usize,
    },
    /// More bytes than the kernel's field holds.
    #[error("name {name:?} has {len} bytes; at most {max} are possible")]
    TooLong {
        /// The refused name, shortened.
        name: String,
        /// Its length in bytes.
        len: usize,
        /// The longest name that is accepted.
        max: usize,
    },
    /// A character that the kernel or a path would misread.
    #[error("name {name:?} contains {character:?}; use letters, digits, '.', '_' and '-'")]
    Character {
        /// The refused name.
        name: String,
        /// Its first character that is not accepted.
        character: char,
    },
    /// `.` or `..`.
    #[error("name {name:?} is a directory; choose another name")]
    Dots {
        /// The refused name.
        name: String,
    },
    /// A namespace reference that is neither a name, `pid:N` nor an absolute path.
    #[error("network namespace {text:?}: {problem}; give a name, pid:N or an absolute path")]
    Netns {
        /// The refused text.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn check(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { max });
    }
    if text.len() > max {
        let name = text.chars().take(32).collect();
        return Err(NameError::TooLong {
            name,
            len: text.len(),
            max,
        });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(character) = text.chars().find(|&c| !allowed(c)) {
        return Err(NameError::Character {
            name: text.to_owned(),
            character,
        });
    }
    if text == "." || text == ".." {
        return Err(NameError::Dots {
            name: text.to_owned(),
        });
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The longest accepted name, in bytes.
            pub const MAX_LEN: usize = $max;

            /// Checks `text`.
            ///
            /// # Errors
            /// A [`NameError`] that says which rule it breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text, Self::MAX_LEN)?;
                Ok(Self(text.to_owned()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name_type! {
    /// The name of a network interface: 1 to 15 bytes (`IFNAMSIZ` less the NUL).
    IfName, 15
}
name_type! {
    /// The name of a bridge or a port of the switch. As short as an interface name, so that a
    /// host port can carry its port's name.
    Name, 15
}
name_type! {
    /// The name of a network namespace below `/run/netns`, as `ip netns add` makes them.
    NetnsName, 255
}

impl IfName {
    /// `eth0`, the usual name of the first interface of a namespace.
    pub fn eth0() -> Self {
        Self("eth0".to_owned())
    }
}

impl From<Name> for IfName {
    /// Every [`Name`] is an interface name: same length, same alphabet.
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

/// Where a network namespace is to be found: `red`, `pid:1234` or `/proc/1234/ns/net`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NetnsRef {
    /// A name below `/run/netns` (`ip netns add NAME`).
    Name(NetnsName),
    /// The namespace of a running process.
    Pid(u32),
    /// A namespace file anywhere.
    Path(PathBuf),
}

impl NetnsRef {
    /// The file to open.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Name(name) => Path::new(Self::DIRECTORY).join(name.as_str()),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            Self::Path(path) => path.clone(),
        }
    }

    /// Where `ip netns add` puts its names. `/var/run` is a link to `/run` everywhere today.
    pub const DIRECTORY: &'static str = "/run/netns";
}

impl FromStr for NetnsRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |problem| NameError::Netns {
            text: text.to_owned(),
            problem,
        };
        if let Some(pid) = text.strip_prefix("pid:") {
            let pid: u32 = pid
                .parse()
                .map_err(|_| refuse("the process id is not a number"))?;
            // /proc/PID holds a C int; 0 is no process.
            if pid == 0 || i32::try_from(pid).is_err() {
                return Err(refuse("the process id is out of range 1..=2147483647"));
            }
            return Ok(Self::Pid(pid));
        }
        if text.starts_with('/') {
            if text.contains('\0') {
                return Err(refuse("the path contains a NUL byte"));
            }
            if text.len() > 4095 {
                return Err(refuse("the path is longer than 4095 bytes"));
            }
            return Ok(Self::Path(PathBuf::from(text)));
        }
        if text.contains('/') {
            return Err(refuse("it is a relative path"));
        }
        NetnsName::new(text).map(Self::Name)
    }
}

impl fmt::Display for NetnsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.pad(name.as_str()),
            Self::Pid(pid) => f.pad(&format!("pid:{pid}")),
            Self::Path(path) => f.pad(&path.display().to_string()),
        }
    }
}

impl TryFrom<String> for NetnsRef {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<NetnsRef> for String {
    fn from(netns: NetnsRef) -> Self {
        netns.to_string()
    }
}

/// A path as it is told: without characters that move a terminal's cursor, of which it may have any.
pub fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}

/// `text` with its control characters as escapes.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let kept = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(kept)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_or_a_path_would_misread_are_refused() {
        for text in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "tap%d",
            "a\0b",
            "a b",
            "a\nb",
            "größe",
            "sixteen-chars-xx",
        ] {
            assert!(IfName::new(text).is_err(), "{text:?} was accepted");
            assert!(Name::new(text).is_err(), "{text:?} was accepted");
        }
        assert!(IfName::new("fifteen-chars-x").is_ok());
        assert!(IfName::new(&"x".repeat(4096)).is_err());
    }

    #[test]
    fn a_namespace_is_a_name_a_pid_or_an_absolute_path() {
        let path_of = |text: &str| text.parse::<NetnsRef>().unwrap().path();
        assert_eq!(path_of("red"), Path::new("/run/netns/red"));
        assert_eq!(path_of("pid:42"), Path::new("/proc/42/ns/net"));
        assert_eq!(path_of("/proc/7/ns/net"), Path::new("/proc/7/ns/net"));
        for text in [
            "pid:",
            "pid:-1",
            "pid:0",
            "pid:4294967295",
            "a/b",
            "../red",
            "",
            "/a\0b",
        ] {
            assert!(text.parse::<NetnsRef>().is_err(), "{text:?} was accepted");
        }
    }
}
