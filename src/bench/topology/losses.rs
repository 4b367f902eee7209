//! What the kernel says was lost on the way.

use std::{collections::BTreeMap, fs};

use super::{netns::run, site::Site};
use crate::sys::netns::NetnsFile;

/// Frames that a device dropped, from the view of its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Drops {
    rx: u64,
    tx: u64,
}

/// What one namespace tells.
#[derive(Debug, Default)]
struct Seen {
    devices: BTreeMap<String, Drops>,
    /// Datagrams that found the receive buffer of their socket full.
    sockets: u64,
}

/// The places of [`super::Counts::lost`] that the kernel knows of.
pub(super) fn losses(site: &Site) -> BTreeMap<String, u64> {
    let mut nodes: Vec<_> = site.nodes.iter().map(look).collect();
    let mut lost = Lost::default();
    for (number, pod) in site.pods.iter().enumerate() {
        let seen = look(&pod.netns);
        let eth0 = seen.device("eth0");
        let home = number % nodes.len();
        let port = nodes[home].devices.remove(&format!("p{number}"));
        // The kernel counts what is lost in a veth pair at both ends.
        let outside = port.unwrap_or_default();
        let queue = if port.is_some() { "veth" } else { "tap_queue" };
        lost.add(queue, eth0.tx + outside.tx);
        lost.add("port", outside.rx.saturating_sub(eth0.tx));
        lost.add("pod_rx", eth0.rx.saturating_sub(outside.tx));
        lost.add("pod_socket", seen.sockets);
    }
    for (number, node) in nodes.iter().enumerate() {
        let other = nodes[nodes.len() - 1 - number].device("u0");
        for (name, drops) in &node.devices {
            match name.as_str() {
                "u0" => lost.add("underlay", drops.tx + drops.rx.saturating_sub(other.tx)),
                name => lost.add(name, drops.rx + drops.tx),
            }
        }
        lost.add("underlay_socket", node.sockets);
    }
    if site.packet_sockets {
        let drops = site.nodes.iter().map(packet_socket_drops);
        lost.add("underlay_socket", drops.sum());
    }
    lost.0
}

#[derive(Default)]
struct Lost(BTreeMap<String, u64>);

impl Lost {
    fn add(&mut self, place: &str, frames: u64) {
        if frames > 0 {
            *self.0.entry(place.to_owned()).or_default() += frames;
        }
    }
}

impl Seen {
    fn device(&self, name: &str) -> Drops {
        self.devices.get(name).copied().unwrap_or_default()
    }
}

fn look(netns: &NetnsFile) -> Seen {
    // /proc/net is the namespace of the process, and this is a thread's.
    let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let texts = netns.run_in(|| (read("dev"), read("snmp")));
    let Ok((devices, protocols)) = texts else {
        return Seen::default();
    };
    Seen {
        devices: devices.map(|text| device_drops(&text)).unwrap_or_default(),
        sockets: protocols.map_or(0, |text| receive_buffer_errors(&text)),
    }
}

/// Frames that found the buffers of a namespace's packet sockets full. Only `ss` tells.
fn packet_socket_drops(netns: &NetnsFile) -> u64 {
    let told = run(netns, &["ss", "-H", "-0", "-n", "-m"], "");
    told.map_or(0, |text| socket_memory_drops(&text))
}

/// Reads `skmem:(r0,rb212992,t0,tb212992,f0,w0,o176,bl0,d145724)`: the last one is what was dropped.
fn socket_memory_drops(text: &str) -> u64 {
    let drops = text.split("skmem:(").skip(1).filter_map(|rest| {
        let last = rest.split(')').next()?.rsplit(",d").next()?;
        last.parse::<u64>().ok()
    });
    drops.sum()
}

/// Reads `/proc/net/dev`: a name, a colon, and eight numbers for each direction, of which the fourth
/// is what was dropped.
fn device_drops(text: &str) -> BTreeMap<String, Drops> {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        let number = |index: usize| numbers.get(index)?.parse().ok();
        let (rx, tx) = (number(3)?, number(11)?);
        Some((name.trim().to_owned(), Drops { rx, tx }))
    };
    text.lines().filter_map(line).collect()
}

/// Reads `/proc/net/snmp`: a line of names for each protocol, and one of numbers.
fn receive_buffer_errors(text: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let mut pairs = names.split_whitespace().zip(numbers.split_whitespace());
    let found = pairs.find(|(name, _)| *name == "RcvbufErrors");
    found
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_as_the_kernel_prints_them() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0: 1234567    8901    0    7    0     0          0         0  7654321    1098    0   11    0     0       0          0
";
        let drops = device_drops(text);
        assert_eq!(drops.len(), 2);
        assert_eq!(drops["lo"], Drops::default());
        assert_eq!(drops["eth0"], Drops { rx: 7, tx: 11 });
    }

    #[test]
    fn buffer_errors_are_found_by_their_name() {
        let text = "\
Tcp: RtoAlgorithm RtoMin
Tcp: 1 200
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
Udp: 10 2 3 9 5 0
UdpLite: InDatagrams RcvbufErrors
UdpLite: 0 77
";
        assert_eq!(receive_buffer_errors(text), 5);
        assert_eq!(receive_buffer_errors(""), 0);
    }

    #[test]
    fn drops_of_packet_sockets_are_the_last_of_their_numbers() {
        let text = "\
p_raw 0      0        *:u0 * skmem:(r0,rb212992,t0,tb212992,f0,w0,o176,bl0,d145724)
p_raw 0      0      [0]:*  * skmem:(r0,rb212992,t0,tb212992,f0,w0,o0,bl0,d1)
";
        assert_eq!(socket_memory_drops(text), 145_725);
        assert_eq!(socket_memory_drops("no such thing"), 0);
    }
}
