//! Who does what in each case.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{
    Case, Load,
    outcome::{Cast, Outcome},
    teach::{Taught, teach},
    tso::WithoutTso,
};
use crate::{
    bench::{
        crew::{Crew, MemberId},
        load::{Job, Window},
        topology::{Pod, Topology, introduce},
    },
    names::IfName,
    sys::affinity,
};

/// One built system, and what is known of it.
#[derive(Debug)]
pub(in crate::bench) struct Site {
    pub(in crate::bench) topology: Box<dyn Topology>,
    /// What the switch was told about the addresses of a case.
    pub(in crate::bench) taught: Taught,
}

/// A measurement whose processes are ready.
#[derive(Debug)]
pub(in crate::bench) struct Ready {
    pub(in crate::bench) crew: Crew,
    cast: Cast,
    /// What has to be put back afterwards.
    _undo: Option<WithoutTso>,
}

/// The port of the first process; each takes the next one.
const PORT: u16 = 9000;
impl Case {
    /// Prepares a measurement at `site`. `tag` tells its packets from those of others.
    pub(in crate::bench) fn prepare(&self, site: &mut Site, tag: u32) -> Result<Ready, String> {
        introduce(site.topology.pods()).map_err(|error| error.to_string())?;
        if let Load::Frames { hosts } = self.load {
            teach(site, hosts)?;
        }
        let pods = site.topology.pods();
        let (first, second) = two(pods)?;
        let mut crew = Crew::default();
        let mut undo = None;
        let cast = match self.load {
            Load::Streams { count, tso } => {
                if !tso {
                    undo = Some(WithoutTso::new(first)?);
                }
                let pairs = (0..count).map(|_| (first, second));
                Cast::Streams(streams(&mut crew, pairs)?)
            }
            Load::BothWays => {
                let pairs = [(first, second), (second, first)];
                Cast::Streams(streams(&mut crew, pairs.into_iter())?)
            }
            Load::Pairs => {
                let pairs = pods.chunks_exact(2).map(|pair| (&pair[0], &pair[1]));
                Cast::Streams(streams(&mut crew, pairs)?)
            }
            Load::Datagrams { size } => {
                let to = at(second, 0);
                let receivers =
                    vec![crew.add(second, Job::DatagramReceive { bind: to, tag }, None)?];
                let sender = crew.add(first, datagram_send(to, tag, size), None)?;
                Cast::Datagrams(sender, receivers)
            }
            Load::Broadcast => {
                let bind = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT);
                let others = pods.iter().skip(1);
                let receivers = others
                    .map(|pod| crew.add(pod, Job::DatagramReceive { bind, tag }, None))
                    .collect::<Result<_, _>>()?;
                let to = SocketAddrV4::new(broadcast_of(first.address), PORT);
                let sender = crew.add(first, datagram_send(to, tag, 18), None)?;
                Cast::Datagrams(sender, receivers)
            }
            Load::Trips { loaded } => {
                if loaded {
                    let pair = [(first, second)];
                    streams(&mut crew, pair.into_iter())?;
                }
                trips(&mut crew, first, second, tag)?
            }
            Load::Frames { hosts } => frames(&mut crew, pods, hosts)?,
        };
        Ok(Ready {
            crew,
            cast,
            _undo: undo,
        })
    }
}

impl Ready {
    /// Waits for the end, and reads the figures of `window`.
    pub(in crate::bench) fn finish(self, window: Window) -> Result<Outcome, String> {
        let results = self.crew.finish(window.until)?;
        self.cast.read(&results, window)
    }
}

pub(super) fn two(pods: &[Pod]) -> Result<(&Pod, &Pod), String> {
    match pods {
        [first, second, ..] => Ok((first, second)),
        _ => Err("find two pods: there are fewer; this is a bug".to_owned()),
    }
}

fn at(pod: &Pod, number: u16) -> SocketAddrV4 {
    SocketAddrV4::new(pod.address, PORT + number)
}

/// The broadcast address of the /16 that `address` is in.
fn broadcast_of(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() | 0xffff)
}

fn datagram_send(to: SocketAddrV4, tag: u32, size: usize) -> Job {
    Job::DatagramSend { to, tag, size }
}

/// A sender and a receiver for each pair; returns the receivers.
fn streams<'a>(
    crew: &mut Crew,
    pairs: impl Iterator<Item = (&'a Pod, &'a Pod)>,
) -> Result<Vec<MemberId>, String> {
    let mut receivers = Vec::new();
    for (number, (from, to)) in (0..).zip(pairs) {
        let address = at(to, number);
        receivers.push(crew.add(to, Job::StreamReceive { bind: address }, None)?);
        crew.add(from, Job::StreamSend { to: address }, None)?;
    }
    Ok(receivers)
}

/// Each end on a CPU of its own, as far as there are two: where the scheduler puts them would decide
/// about the figures otherwise.
fn trips(crew: &mut Crew, from: &Pod, to: &Pod, tag: u32) -> Result<Cast, String> {
    let cpus = affinity::allowed().unwrap_or_default();
    let address = SocketAddrV4::new(to.address, PORT + 100);
    let echo = Job::PingEcho { bind: address };
    crew.add(to, echo, cpus.last().copied())?;
    let client = Job::PingClient { to: address, tag };
    let client = crew.add(from, client, cpus.first().copied())?;
    Ok(Cast::Trips(client))
}

fn frames(crew: &mut Crew, pods: &[Pod], hosts: u32) -> Result<Cast, String> {
    let [first, second, third, ..] = pods else {
        return Err("find three pods: there are fewer; this is a bug".to_owned());
    };
    let interface = IfName::eth0;
    let count = || Job::FrameCount {
        interface: interface(),
    };
    let counter = crew.add(second, count(), None)?;
    let stranger = crew.add(third, count(), None)?;
    let send = Job::FrameSend {
        interface: interface(),
        hosts,
    };
    let sender = crew.add(first, send, None)?;
    Ok(Cast::Frames(sender, counter, stranger))
}
