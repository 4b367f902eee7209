//! The lessons that the program has with it.

use super::Lesson;

/// A lesson as it is in the program.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub id: &'static str,
    /// The text of its file.
    pub text: &'static str,
}

macro_rules! lessons {
    ($($id:literal),* $(,)?) => {
        /// All of them, in the order in which they are taught.
        pub const ALL: &[Entry] = &[$(Entry {
            id: $id,
            text: include_str!(concat!("lessons/", $id, ".toml")),
        }),*];
    };
}

lessons! {
    "namespaces",
    "loopback",
    "cable",
    "no-carrier",
    "one-to-many",
    "three-pods",
    "first-ping",
    "same-node",
    "whose-port",
    "deleted-end",
    "nameless",
    "nsenter",
    "pause",
    "docker0",
    "second-container",
    "other-host",
    "br-demo",
    "containerd",
    "br-netfilter",
    "same-mac",
    "pod-routes",
    "two-interfaces",
    "no-address",
    "checklist",
    "bandwidth",
    "cni",
    "shared-bridge",
    "headers",
    "mtu",
    "peers",
    "dual-stack",
    "ipv6-underlay",
    "flannel",
    "host-gw",
}

/// The lesson with this name.
pub fn find(id: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.id == id)
}

/// All lessons, read. One that cannot be read is left out: there is none, as a test shows.
pub fn lessons() -> impl Iterator<Item = Lesson> {
    ALL.iter().filter_map(|entry| super::parse(entry.text).ok())
}
