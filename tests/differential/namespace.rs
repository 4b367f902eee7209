//! Namespaces in which nothing speaks of its own accord.

use std::{fs, io};

use crate::common::Netns;

/// What `make` makes in a fresh and silent network namespace.
pub(crate) fn in_silence<T: Send>(
    label: &str,
    make: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<(Netns, T)> {
    let netns = Netns::new(label);
    let made = netns.run(|| {
        silence()?;
        make()
    })?;
    Ok((netns, made))
}

fn silence() -> io::Result<()> {
    for name in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        unless_absent(fs::write(path, "1"))?;
    }
    // Else netfilter looks into bridged frames and drops malformed IP.
    for name in ["iptables", "ip6tables", "arptables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
        unless_absent(fs::write(path, "0"))?;
    }
    Ok(())
}

fn unless_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
