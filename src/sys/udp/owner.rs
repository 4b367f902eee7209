//! Who has a UDP port.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// Who has a UDP port that we cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOwner {
    /// A process has a descriptor of the socket.
    Process {
        /// Its number.
        pid: u32,
        /// Its name (`/proc/PID/comm`).
        command: String,
    },
    /// No process that we can see has one. There are processes that we cannot look into.
    Hidden,
    /// No process has one: a tunnel device of the kernel listens, or a process outside of our
    /// process namespace.
    Kernel,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
            Self::Hidden => {
                f.write_str("a process of another user or a tunnel device of the kernel")
            }
            Self::Kernel => f.write_str("a tunnel device of the kernel"),
        }
    }
}

/// Who has the UDP port `port` at `local`, or at an address that rules that out, in the namespace
/// of the calling thread; `None` if nobody has, or `/proc` is not there. Looks at each descriptor of
/// each process, so it is for people who wait for an explanation.
pub fn owner_of(port: u16, local: IpAddr) -> Option<PortOwner> {
    let table = |file| fs::read_to_string(file).unwrap_or_default();
    let (v4, v6) = (
        table("/proc/thread-self/net/udp"),
        table("/proc/thread-self/net/udp6"),
    );
    let entries: Vec<Entry> = entries(&v4).chain(entries(&v6)).collect();
    let inode = conflicting(&entries, port, local)?;
    Some(owner_of_inode(inode))
}

/// One line of `/proc/net/udp` or `udp6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    ip: IpAddr,
    port: u16,
    inode: u64,
}

/// The sockets in a table (`udp4_format_sock`, `__ip6_dgram_sock_seq_show`).
fn entries(table: &str) -> impl Iterator<Item = Entry> {
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (ip, port) = words.nth(1)?.split_once(':')?;
        Some(Entry {
            ip: address(ip)?,
            port: u16::from_str_radix(port, 16).ok()?,
            inode: words.nth(7)?.parse().ok()?,
        })
    })
}

/// An address as one or four 32-bit numbers in hexadecimal, each printed as if its bytes, which are
/// in network order, were in the machine's.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let number = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        Some(number.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: &[u8; 16] = words.as_flattened().first_chunk()?;
            Some(Ipv6Addr::from(*octets).into())
        }
        _ => None,
    }
}

/// The inode of a socket that keeps others from binding `port` at `local`.
fn conflicting(entries: &[Entry], port: u16, local: IpAddr) -> Option<u64> {
    let same_family = |entry: &Entry| {
        entry.ip.is_ipv4() == local.is_ipv4()
            && (entry.ip == local || entry.ip.is_unspecified() || local.is_unspecified())
    };
    // An IPv6 socket may take IPv4 too. Ours does not.
    let both = |entry: &Entry| {
        local.is_ipv4() && entry.ip.is_ipv6() && {
            let ip = entry.ip.to_canonical();
            ip.is_unspecified() || ip == local
        }
    };
    let of_port = || entries.iter().filter(|entry| entry.port == port);
    of_port()
        .find(|entry| same_family(entry))
        .or_else(|| of_port().find(|entry| both(entry)))
        .map(|entry| entry.inode)
}

/// Which process has a descriptor of the socket.
fn owner_of_inode(inode: u64) -> PortOwner {
    let link = format!("socket:[{inode}]");
    let mut hidden = false;
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        match has_descriptor(&process.path(), &link) {
            Ok(true) => {
                let command = command(&process.path());
                return PortOwner::Process { pid, command };
            }
            Ok(false) => {}
            Err(error) => hidden |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    if hidden {
        PortOwner::Hidden
    } else {
        PortOwner::Kernel
    }
}

fn has_descriptor(process: &Path, link: &str) -> io::Result<bool> {
    let descriptors = fs::read_dir(process.join("fd"))?;
    let is_it = |path: &Path| fs::read_link(path).is_ok_and(|to| to.as_os_str() == link);
    Ok(descriptors.flatten().any(|entry| is_it(&entry.path())))
}

/// The name of a process, which it may have chosen itself: nothing of it may harm a terminal.
fn command(process: &Path) -> String {
    let bytes = fs::read(process.join("comm")).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.trim_ascii_end());
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            
14440: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 64154 2 000000007798d3a0 0         
 3102: 010200C0:E000 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 77 2 0000000000000000 0         
";
    #[cfg(target_endian = "little")]
    const UDP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 6045: B80D0120000000000000000001000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 88 2 0000000000000000 0
 6046: 00000000000000000000000000000000:14E9 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 99 2 0000000000000000 0
";

    #[cfg(target_endian = "little")]
    #[test]
    fn the_kernels_tables_are_read() {
        let entry = |ip: &str, port, inode| Entry {
            ip: ip.parse().unwrap(),
            port,
            inode,
        };
        assert_eq!(
            entries(UDP).collect::<Vec<_>>(),
            [
                entry("0.0.0.0", 4789, 64154),
                entry("192.0.2.1", 0xe000, 77)
            ]
        );
        assert_eq!(
            entries(UDP6).collect::<Vec<_>>(),
            [entry("2001:db8::1", 53, 88), entry("::", 5353, 99)]
        );
    }

    #[test]
    fn only_what_keeps_us_from_the_port_is_a_conflict() {
        for (has, wants, conflict) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("0.0.0.0", "192.0.2.1", true),
            ("192.0.2.1", "0.0.0.0", true),
            ("192.0.2.2", "192.0.2.1", false),
            ("::", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.2", "192.0.2.1", false),
            ("2001:db8::1", "192.0.2.1", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("::", "2001:db8::1", true),
            ("0.0.0.0", "2001:db8::1", false),
        ] {
            let entry = Entry {
                ip: has.parse().unwrap(),
                port: 4789,
                inode: 5,
            };
            let found = conflicting(&[entry], 4789, wants.parse().unwrap());
            assert_eq!(found.is_some(), conflict, "{wants} while {has} is had");
            assert_eq!(conflicting(&[entry], 4790, wants.parse().unwrap()), None);
        }
    }

    #[test]
    fn the_socket_of_the_wanted_address_is_named_before_one_of_all_addresses() {
        let entry = |ip: &str, inode| Entry {
            ip: ip.parse().unwrap(),
            port: 4789,
            inode,
        };
        let both = [entry("::", 1), entry("192.0.2.1", 2)];
        let found = conflicting(&both, 4789, "192.0.2.1".parse().unwrap());
        assert_eq!(found, Some(2));
    }

    #[test]
    fn a_broken_table_is_read_as_far_as_it_goes() {
        for line in [
            "",
            "1:",
            "1: 0100007F",
            "1: 0100007F:xx 0 0 0 0 0 0 0 0 1",
            "1: é00007F:0035",
        ] {
            assert_eq!(entries(&format!("head\n{line}\n")).count(), 0, "{line:?}");
        }
    }
}
