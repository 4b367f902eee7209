//! Commands for copying, and where they run. A namespace is free in the names that it gives its
//! interfaces, tables and chains: in a command, each is one word and nothing else.

use std::fmt;

use crate::names::NetnsRef;

/// A namespace in a command.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a>(pub Option<&'a NetnsRef>);

impl Place<'_> {
    /// `ip ARGUMENTS` there.
    pub fn ip(self, arguments: impl fmt::Display) -> String {
        match self.0 {
            Some(NetnsRef::Name(name)) => format!("ip -n {name} {arguments}"),
            _ => self.run(format_args!("ip {arguments}")),
        }
    }

    /// `COMMAND` there.
    pub fn run(self, command: impl fmt::Display) -> String {
        match self.0 {
            None => command.to_string(),
            Some(NetnsRef::Name(name)) => format!("ip netns exec {name} {command}"),
            Some(NetnsRef::Pid(pid)) => format!("nsenter -t {pid} -n {command}"),
            Some(path) => format!("nsenter --net={} {command}", word(&path.to_string())),
        }
    }

    /// `sysctl -w KEY=VALUE` there.
    pub fn sysctl(self, key: &str, value: u8) -> String {
        let setting = word(&format!("{key}={value}"));
        self.run(format_args!("sysctl -w {setting}"))
    }
}

/// The key of a setting of an interface. `sysctl` takes a dot in its name for a separator, and a
/// slash for a dot (`sysctl(8)`).
pub(super) fn sysctl_key(family: &str, ifname: &str, key: &str) -> String {
    format!("net.{family}.conf.{}.{key}", ifname.replace('.', "/"))
}

/// `text` as one word of a shell's command (POSIX.1-2017, Shell Command Language, 2.2.2).
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.@:/-=,+%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Whether `nft` takes `name` for a name: it reads all its arguments as one text, quotes or not.
pub(super) fn is_nft_name(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_next = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    name.starts_with(is_first) && name.chars().all(is_next)
}
