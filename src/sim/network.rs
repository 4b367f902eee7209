//! A lab with hosts: a whole small network on one clock.

use std::{net::IpAddr, time::Duration};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Host, Lab, MemPort, Pong, frames};
use crate::{bridge::PortId, config::BridgeSpec};

/// One bridge with hosts on it. Host number `n`, counted from 1, has the addresses of
/// [`frames::mac`], [`frames::ip`] and [`frames::ip6`].
///
/// Time goes in hops of 10 µs: what a host sends reaches the others within one hop.
///
/// ```
/// use tapswitch::sim::{Network, frames};
///
/// let mut network = Network::new(["podA", "podB"]);
/// let pong = network.ping(0, frames::ip(2).into()).expect("podB answers");
/// assert_eq!(pong.sequence, 1);
/// network.lab.assert_accounted();
/// ```
#[derive(Debug)]
pub struct Network {
    /// The switch.
    pub lab: Lab,
    /// The hosts, in the order of their names.
    pub hosts: Vec<Host>,
    /// The port of each host.
    pub ports: Vec<PortId>,
    mtu: u32,
    /// Hosts elsewhere whose numbers come before.
    offset: usize,
}

impl Network {
    /// How long a frame takes from host to host.
    pub const HOP: Duration = Duration::from_micros(10);
    /// How long [`Self::ping`] waits for an answer.
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// Hosts of these names on a bridge with default settings.
    pub fn new<const N: usize>(names: [&str; N]) -> Self {
        Self::with_bridge(Lab::spec("br0"), names)
    }

    /// Hosts of these names on a bridge with these settings.
    pub fn with_bridge<const N: usize>(spec: BridgeSpec, names: [&str; N]) -> Self {
        Self::numbered_from(0, spec, &names)
    }

    /// The same, whose first host has the number `offset + 1`.
    pub(super) fn numbered_from(offset: usize, spec: BridgeSpec, names: &[&str]) -> Self {
        let mut network = Self {
            lab: Lab::new(),
            hosts: Vec::new(),
            ports: Vec::new(),
            mtu: spec.effective_mtu(),
            offset,
        };
        network.lab.add_bridge(spec);
        for name in names {
            network.add_host(name);
        }
        network
    }

    /// Plugs one more host in; returns its number, counted from 0.
    ///
    /// # Panics
    /// For more than 254 hosts.
    pub fn add_host(&mut self, name: &str) -> usize {
        let port = self.lab.add_port_with(0, name, MemPort::new());
        let number = self.offset + self.hosts.len() + 1;
        let number = u8::try_from(number).expect("a lab has at most 254 hosts");
        let addresses = [
            IpNet::from(Ipv4Net::new_assert(frames::ip(number), 24)),
            IpNet::from(Ipv6Net::new_assert(frames::ip6(number.into()), 64)),
        ];
        let mac = frames::mac(number.into());
        let host = Host::new(self.lab.io(port), self.mtu, mac, &addresses);
        self.hosts.push(host);
        self.ports.push(port);
        self.hosts.len() - 1
    }

    /// One hop: every host does what it has to, and the switch moves what they sent. Returns how
    /// many frames that was.
    pub fn step(&mut self) -> usize {
        for host in &mut self.hosts {
            host.poll(self.lab.now());
        }
        let frames = self.lab.run();
        self.lab.advance(Self::HOP);
        frames
    }

    /// Lets `duration` pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Lets time pass until `done`, at most `duration`; true if it was done.
    pub fn run_until(
        &mut self,
        duration: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.lab.now() + duration;
        while self.lab.now() < end {
            let moved = self.step() > 0;
            if done(self) {
                return true;
            }
            if !moved && !self.has_delivered() {
                // Nothing is on its way: on to when the first host wakes up.
                let at_most = end.since(self.lab.now());
                let idle = self.idle().unwrap_or(at_most);
                self.lab.advance(idle.min(at_most));
            }
        }
        false
    }

    /// Host number `from` pings `to` with 56 bytes and waits.
    pub fn ping(&mut self, from: usize, to: IpAddr) -> Option<Pong> {
        self.ping_with(from, to, 56)
    }

    /// Host number `from` pings `to` with `len` bytes and waits.
    pub fn ping_with(&mut self, from: usize, to: IpAddr, len: usize) -> Option<Pong> {
        let sequence = self.hosts[from].ping(self.lab.now(), to, len);
        let mut answer = None;
        self.run_until(Self::PATIENCE, |network| {
            let pongs = network.hosts[from].pongs();
            answer = pongs.into_iter().find(|pong| pong.sequence == sequence);
            answer.is_some()
        });
        answer
    }

    /// Whether a host has something to read.
    pub(super) fn has_delivered(&self) -> bool {
        let mut ports = self.ports.iter();
        ports.any(|&port| self.lab.io(port).waiting() > 0)
    }

    /// How long all hosts can sleep, if nothing comes; `None` for ever.
    pub(super) fn idle(&mut self) -> Option<Duration> {
        let now = self.lab.now();
        let hosts = self.hosts.iter_mut();
        hosts.filter_map(|host| host.idle(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ping_each_other_over_both_families() {
        let mut network = Network::new(["podA", "podB", "podC"]);
        for to in [IpAddr::from(frames::ip(2)), IpAddr::from(frames::ip6(3))] {
            let first = network.ping(0, to).unwrap();
            let second = network.ping(0, to).unwrap();
            assert_eq!((first.from, second.from), (to, to));
            // The first one waits for the neighbour's address.
            assert!(first.round_trip > second.round_trip, "{first:?} {second:?}");
        }
        assert_eq!(network.ping(0, frames::ip(77).into()), None);
        network.lab.assert_accounted();
    }

    #[test]
    fn tcp_carries_a_stream_through_the_switch() {
        let mut network = Network::new(["podA", "podB"]);
        let data: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let server = network.hosts[1].tcp_listen(80);
        let client = network.hosts[0].tcp_connect(frames::ip(2).into(), 80);
        let (mut sent, mut received) = (0, Vec::new());

        let done = network.run_until(Duration::from_secs(60), |network| {
            sent += network.hosts[0].tcp_send(client, &data[sent..]);
            received.extend(network.hosts[1].tcp_receive(server));
            received.len() == data.len()
        });

        assert!(done, "{} of {} bytes came", received.len(), data.len());
        assert!(received == data);
        network.lab.assert_accounted();
    }
}
