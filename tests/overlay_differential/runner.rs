//! Does the same to both hosts and compares.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    io,
    time::Duration,
};

use crate::{
    deviations::{Case, Counts, Event},
    generator::{self, Op, source},
    host::{Host, Seen, Settings, VNIS},
    inner::{flow, is_station, is_tagged},
    packets::{Hex, Outer, Packet, Sent},
};

/// The kernel's host and ours.
pub(crate) struct Pair {
    kernel: Host,
    ours: Host,
    settings: Settings,
    pub(crate) counts: Counts,
    pub(crate) tally: Tally,
    /// The source port of each inner flow to each segment.
    ports: HashMap<(usize, Vec<u8>), u16>,
}

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Datagrams from afar, and those of them that came joined.
    pub(crate) heard: usize,
    pub(crate) joined: usize,
    /// Frames from pods.
    pub(crate) spoken: usize,
    /// Frames at pods, and datagrams to remote VTEPs, that were the same.
    pub(crate) delivered: usize,
    pub(crate) sent: usize,
}

impl Tally {
    pub(crate) fn total(&self) -> u64 {
        (self.heard + self.spoken) as u64
    }
}

/// Why a run ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// They differ.
    Mismatch(String),
    /// Something else is wrong.
    Broken(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Pair {
    pub(crate) fn new(settings: Settings) -> io::Result<Self> {
        Ok(Self {
            kernel: Host::kernel(&settings)?,
            ours: Host::ours(&settings)?,
            settings,
            counts: Counts::default(),
            tally: Tally::default(),
            ports: HashMap::new(),
        })
    }

    /// Does `op` to both, and returns what left them: the kernel, then us.
    pub(crate) fn step(&mut self, op: &Op) -> Result<[Seen; 2], Stop> {
        let settings = self.settings;
        let both = self.both(op)?;
        let (events, joined): (Vec<Event<'_>>, _) = match op {
            Op::Hear { datagrams, joined } => {
                self.tally.heard += datagrams.len();
                self.tally.joined += if *joined { datagrams.len() } else { 0 };
                let joined = joined.then_some(&datagrams[..]);
                (datagrams.iter().map(Event::Heard).collect(), joined)
            }
            Op::Speak { pod, frames } => {
                self.tally.spoken += frames.len();
                let spoken = frames.iter().map(|frame| Event::Spoken(*pod, frame));
                (spoken.collect(), None)
            }
        };
        let cases = events.into_iter().map(|event| Case {
            settings: &settings,
            event,
            joined,
        });
        let cases: Vec<_> = cases.collect();
        self.judge(&cases, &both).map_err(Stop::Mismatch)?;
        self.check_ports(&both[1]).map_err(Stop::Mismatch)?;
        // What one has learned from it and the other has not, both learn now.
        for case in cases.iter().filter(|case| case.met().next().is_some()) {
            self.teach(case)?;
        }
        Ok(both)
    }

    /// What our switch says about itself at the end.
    pub(crate) fn unaccounted(&self) -> io::Result<i64> {
        Ok(self.ours.stats()?.unaccounted)
    }

    /// Lets both know where all stations behind remote VTEPs are.
    pub(crate) fn introduce(&mut self) -> io::Result<()> {
        for (vni, number) in VNIS
            .into_iter()
            .flat_map(|vni| (0..4).map(move |n| (vni, n)))
        {
            let frame = [&[0xff; 6], &[2, 0, 0, 0, 0x20, number, 0x88, 0xb6][..]].concat();
            let payload = [&generator::header(vni)[..], &frame].concat();
            let packets = Outer::new(self.settings.v6, 2 + number % 2).packets(&payload);
            self.kernel.hear(&packets)?;
            self.ours.hear(&packets)?;
        }
        Ok(())
    }

    /// A pod sends what may be too big for the path. Whoever sends an answer back must say the same;
    /// returns whether there was one.
    ///
    /// Not compared: how long the answer lives, which the kernel takes from the route of the outer
    /// packet.
    pub(crate) fn outgrow(&mut self, op: &Op) -> Result<bool, Stop> {
        // The switch answers 100 times a second and not more often.
        if let Some(daemon) = self.ours.daemon() {
            daemon.clock().warp(Duration::from_secs(1));
        }
        let both = self.both(op)?;
        let [mut kernel, mut ours] = both.clone().map(|seen| seen.normal());
        for answers in [&mut kernel.0, &mut ours.0] {
            answers
                .iter_mut()
                .for_each(|(_, answer)| forget_lifetime(answer));
        }
        // Marks are told apart elsewhere.
        for sent in [&mut kernel.1, &mut ours.1] {
            sent.iter_mut().for_each(|packet| forget_mark(packet));
        }
        if kernel == ours {
            return Ok(!ours.0.is_empty());
        }
        Err(Stop::Mismatch(difference(&both[0], &both[1])))
    }

    fn both(&mut self, op: &Op) -> io::Result<[Seen; 2]> {
        let packets = op.packets();
        let both = match op {
            Op::Hear { .. } => [self.kernel.hear(&packets)?, self.ours.hear(&packets)?],
            Op::Speak { pod, .. } => [
                self.kernel.speak(*pod, &packets)?,
                self.ours.speak(*pod, &packets)?,
            ],
        };
        Ok(both.map(|mut seen| {
            // The word of either host's kernel about closed ports and fragments that do not come.
            seen.underlay.retain(|packet| !is_icmp(packet));
            seen
        }))
    }

    fn judge(&mut self, cases: &[Case<'_>], both: &[Seen; 2]) -> Result<(), String> {
        if let [case] = cases {
            let [kernel, ours] = both;
            return self.judge_one(case, kernel, ours).map(drop);
        }
        let [kernel, ours] = [parts(cases, &both[0])?, parts(cases, &both[1])?];
        let mut deviating = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            let is_alike = self
                .judge_one(case, &kernel[number], &ours[number])
                .map_err(|what| format!("number {number} of them: {what}"))?;
            if !is_alike {
                deviating.push(tail(case.frame()));
            }
        }
        let [kernel, ours] = [order(&both[0], &deviating), order(&both[1], &deviating)];
        if kernel == ours {
            return Ok(());
        }
        let mut text = "frames of one flow in another order\n".to_owned();
        let differ = kernel
            .iter()
            .filter(|(flow, tails)| ours.get(*flow) != Some(tails));
        for (flow, theirs) in differ {
            let ours = ours.get(flow);
            let _ = writeln!(
                text,
                "{flow:02x?}\n  kernel {theirs:02x?}\n  ours   {ours:02x?}"
            );
        }
        Err(text)
    }

    /// Whether they do the same with this; an error if there is no excuse.
    fn judge_one(&mut self, case: &Case<'_>, kernel: &Seen, ours: &Seen) -> Result<bool, String> {
        if let Some((packet, what)) = malformed(ours) {
            return Err(format!("our {}: {what}\n", Hex(packet)));
        }
        if kernel.normal() == ours.normal() {
            self.tally.delivered += ours.pods.len();
            self.tally.sent += ours.underlay.len();
            for deviation in case.met().filter(|deviation| deviation.is_silent) {
                self.counts.add(deviation);
            }
            return Ok(true);
        }
        let Some(deviation) = case.explain(kernel, ours) else {
            let ids: Vec<_> = case.met().map(|deviation| deviation.id).collect();
            let frame = Hex(case.frame());
            let difference = difference(kernel, ours);
            return Err(format!(
                "{difference}  not explained by {ids:?}\n  frame {frame}\n"
            ));
        };
        self.counts.add(deviation);
        Ok(false)
    }

    /// Source ports are from the range of RFC 7348, and a flow keeps its own.
    fn check_ports(&mut self, ours: &Seen) -> Result<(), String> {
        for packet in &ours.underlay {
            let sent = Sent::parse(packet)?;
            let (to, port) = (sent.to.into(), sent.source_port);
            let known = *self.ports.entry((to, flow(sent.inner()))).or_insert(port);
            if port < 49152 || port != known {
                let inner = Hex(sent.inner());
                return Err(format!(
                    "source port {port}, was {known} for this flow: {inner}\n"
                ));
            }
        }
        Ok(())
    }

    /// How many source ports have been used, and by how many flows.
    pub(crate) fn ports(&self) -> (usize, usize) {
        let mut ports: Vec<_> = self.ports.values().collect();
        ports.sort_unstable();
        ports.dedup();
        (ports.len(), self.ports.len())
    }

    /// A clean frame with the source of `case` comes to both from where that came from.
    fn teach(&mut self, case: &Case<'_>) -> Result<(), Stop> {
        let (Some(src), Some(segment)) = (source(case.frame()), case.segment()) else {
            return Ok(());
        };
        if !is_station(&src) {
            return Ok(());
        }
        let mut clean = [&[0xff; 6], &src[..]].concat();
        if is_tagged(&src) {
            clean.extend([0x81, 0, 0, 10]);
        }
        clean.extend([0x88, 0xb6]);
        clean.resize(60, 0);
        match case.event {
            Event::Heard(datagram) => {
                let from = datagram.outer.from;
                let is_peer = generator::is_peer(segment, from);
                let from = if is_peer { from } else { 2 };
                let payload = [&generator::header(VNIS[segment])[..], &clean].concat();
                let packets = Outer::new(self.settings.v6, from).packets(&payload);
                self.kernel.hear(&packets)?;
                self.ours.hear(&packets)?;
            }
            Event::Spoken(pod, _) => {
                let packets = [Packet::plain(clean)];
                self.kernel.speak(pod, &packets)?;
                self.ours.speak(pod, &packets)?;
            }
        }
        Ok(())
    }
}

impl Seen {
    /// Frames by pod, and masked packets, in an order of their own.
    #[expect(clippy::type_complexity, reason = "it is only compared")]
    fn normal(&self) -> (Vec<(usize, Vec<u8>)>, Vec<Vec<u8>>) {
        let mut pods = self.pods.clone();
        pods.sort_unstable();
        let mut packets: Vec<_> = self.underlay.iter().map(|packet| masked(packet)).collect();
        packets.sort_unstable();
        (pods, packets)
    }
}

impl Seen {
    /// The packets on the underlay, by what they are without what may differ.
    pub(crate) fn masked(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let packets = self.underlay.iter();
        packets
            .map(|packet| (masked(packet), packet.clone()))
            .collect()
    }
}

/// Without what may differ; whole, if it is no VXLAN datagram.
pub(crate) fn masked(packet: &[u8]) -> Vec<u8> {
    Sent::parse(packet).map_or_else(|_| packet.to_vec(), |sent| sent.masked())
}

/// What left a host, by the datagram or frame that came in: each frame is known by its end.
fn parts(cases: &[Case<'_>], seen: &Seen) -> Result<Vec<Seen>, String> {
    let mut parts = vec![Seen::default(); cases.len()];
    let tails = cases.iter().map(|case| tail(case.frame()));
    let numbers: HashMap<_, _> = tails.zip(0..).collect();
    let number = |frame: &[u8]| {
        let number: Option<&usize> = numbers.get(&tail(frame));
        number
            .copied()
            .ok_or_else(|| format!("from nowhere: {}\n", Hex(frame)))
    };
    for (pod, frame) in &seen.pods {
        parts[number(frame)?].pods.push((*pod, frame.clone()));
    }
    for packet in &seen.underlay {
        parts[number(packet)?].underlay.push(packet.clone());
    }
    Ok(parts)
}

/// The frames of each flow to each place, in order, but for those with these tails.
fn order(seen: &Seen, without: &[[u8; 8]]) -> BTreeMap<(usize, Vec<u8>), Vec<[u8; 8]>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let at_pods = seen.pods.iter().map(|(pod, frame)| (*pod, &frame[..]));
    let sent = seen
        .underlay
        .iter()
        .filter_map(|packet| Sent::parse(packet).ok());
    let sent = sent.map(|sent| (1000 + usize::from(sent.to), sent.inner()));
    for (place, frame) in at_pods.chain(sent) {
        if !without.contains(&tail(frame)) {
            // Frames of one flow of two stations are two flows: nobody promises their order.
            let macs = frame.get(..12).unwrap_or_default();
            let flow = [macs, &flow(frame)].concat();
            flows.entry((place, flow)).or_default().push(tail(frame));
        }
    }
    flows
}

/// Without TTL or hop limit.
fn forget_lifetime(frame: &mut [u8]) {
    match frame.get(12..14) {
        Some([0x08, 0]) => {
            frame[22] = 0;
            frame[24..26].fill(0);
        }
        Some([0x86, 0xdd]) => frame[21] = 0,
        _ => {}
    }
}

/// Without TOS or traffic class.
fn forget_mark(packet: &mut [u8]) {
    if packet.get(12) == Some(&0x08) {
        packet[15] = 0;
    } else {
        packet[14] = 0x60;
        packet[15] = 0;
    }
}

fn malformed(seen: &Seen) -> Option<(&[u8], String)> {
    let bad = |packet: &'_ Vec<u8>| Sent::parse(packet).err();
    seen.underlay
        .iter()
        .find_map(|packet| Some((&packet[..], bad(packet)?)))
}

fn is_icmp(packet: &[u8]) -> bool {
    match packet.get(12..14) {
        Some([0x08, 0]) => packet.get(23) == Some(&1),
        Some([0x86, 0xdd]) => packet.get(20) == Some(&58),
        _ => false,
    }
}

fn tail(frame: &[u8]) -> [u8; 8] {
    frame.last_chunk().copied().unwrap_or_default()
}

fn difference(kernel: &Seen, ours: &Seen) -> String {
    let mut text = "different\n".to_owned();
    for (name, seen) in [("kernel", kernel), ("ours", ours)] {
        for (pod, frame) in &seen.pods {
            let _ = writeln!(text, "  {name:<6} to pod {pod}: {}", Hex(frame));
        }
        for packet in &seen.underlay {
            let _ = writeln!(text, "  {name:<6} sent: {}", Hex(packet));
        }
        if *seen == Seen::default() {
            let _ = writeln!(text, "  {name:<6} nothing");
        }
    }
    text
}
