//! Where the two may differ, and how: a divergence that is not described here exactly is a failure.

use std::{collections::BTreeMap, fmt, ops::Range};

use crate::{
    generator::{Datagram, is_peer},
    host::{MTU, Seen, Settings, VNIS, kernel_mac},
    inner::{TCP, UDP, ip, l3, tags},
    packets::{Packet, Sent, Target, be16, fold, sum},
    runner::masked,
};

/// One intended difference.
pub(crate) struct Deviation {
    /// Its name in the report.
    pub(crate) id: &'static str,
    /// What the kernel does and what we do.
    pub(crate) text: &'static str,
    /// Whether this datagram or frame meets it.
    meets: fn(&Case<'_>) -> bool,
    /// Whether this is what it leads to: what left the kernel, and what left us.
    explains: fn(&Case<'_>, &Seen, &Seen) -> bool,
    /// Whether the difference is in what they know afterwards, and not in what left them.
    pub(crate) is_silent: bool,
}

/// A datagram or frame that comes in.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) event: Event<'a>,
    /// The message that the datagram was joined with others to.
    pub(crate) joined: Option<&'a [Datagram]>,
}

/// Where it comes from.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// The underlay.
    Heard(&'a Datagram),
    /// This pod.
    Spoken(usize, &'a Packet),
}

/// The list. A divergence is counted under the first that explains it.
pub(crate) const LIST: [Deviation; 20] = [
    Deviation {
        id: "V1",
        text: "reserved bits in the VXLAN header: lost by the kernel, ignored by us unless strict",
        meets: |case| case.has_reserved_bits() && !case.settings.strict,
        explains: |case, kernel, ours| is_nothing(kernel) && case.is_delivered_by_us(ours),
        is_silent: false,
    },
    Deviation {
        id: "V2",
        text: "an inner source that is the kernel's own vxlan device: a loop to the kernel, a host like any other to us",
        meets: |case| {
            let segment = case.segment().unwrap_or(0);
            case.heard().is_some() && case.frame().get(6..12) == Some(&kernel_mac(segment).octets())
        },
        explains: |case, kernel, ours| is_nothing(kernel) && case.is_delivered_by_us(ours),
        is_silent: false,
    },
    Deviation {
        id: "V3",
        text: "a VTEP that is no peer of the segment: heard by the kernel, by us only with accept = any",
        meets: |case| case.is_from_stranger() && !case.settings.any,
        explains: |case, kernel, ours| is_nothing(ours) && case.is_one_frame(kernel),
        is_silent: false,
    },
    Deviation {
        id: "V3b",
        text: "a VTEP that is no peer and may send all the same: it teaches the kernel at once, us when it has become a peer",
        meets: |case| case.is_from_stranger() && case.settings.any,
        explains: |_, _, _| false,
        is_silent: true,
    },
    Deviation {
        id: "V3c",
        text: "a datagram from the host's own address: heard by the kernel over IPv6, never by us",
        meets: |case| case.heard().is_some_and(|d| d.outer.from == 1) && case.settings.any,
        explains: |case, kernel, ours| is_nothing(ours) && case.is_one_frame(kernel),
        is_silent: false,
    },
    Deviation {
        id: "V4",
        text: "a datagram to another address of the host, or to everybody: heard by the kernel's socket, which has no address, not by ours",
        meets: |case| {
            let from = case.heard().map(|d| d.outer.from);
            let is_heard = !case.is_from_stranger() || case.settings.any && from != Some(1);
            case.heard().is_some_and(|d| d.outer.to != Target::Endpoint) && is_heard
        },
        explains: |case, kernel, ours| is_nothing(ours) && case.is_one_frame(kernel),
        is_silent: false,
    },
    Deviation {
        id: "V5",
        text: "an inner IP packet cut off in its fixed header: lost by the kernel, a frame like any other to us",
        meets: |case| {
            let frame = case.frame();
            let l3 = 14 + 4 * tags(frame);
            let needed = match be16(frame, l3 - 2) {
                0x0800 => 20,
                0x86dd => 40,
                _ => 0,
            };
            frame.len() >= 14 && frame.len() < l3 + needed
        },
        explains: |case, kernel, ours| {
            is_nothing(kernel) && (case.is_delivered_by_us(ours) || case.is_sent(ours))
        },
        is_silent: false,
    },
    Deviation {
        id: "V6",
        text: "a congestion mark for a packet behind a VLAN tag: the kernel looks at the tag instead",
        meets: |case| tags(case.frame()) > 0 && case.is_marked() && !case.is_heard_by_one(),
        explains: |case, kernel, ours| {
            let is_right = match case.decapsulated() {
                Some(_) => case.is_delivered_by_us(ours),
                None => is_nothing(ours),
            };
            is_right
                && kernel.pods.len() <= 1
                && kernel
                    .pods
                    .iter()
                    .all(|(_, f)| f.len() == case.frame().len())
        },
        is_silent: false,
    },
    Deviation {
        id: "V6b",
        text: "a congestion mark for what has the type of IP and another version: merged by the kernel, passed on as it is by us",
        meets: |case| {
            tags(case.frame()) == 0
                && case.is_of_another_version()
                && case.is_marked()
                && !case.is_heard_by_one()
        },
        explains: |case, kernel, ours| {
            case.is_delivered_by_us(ours) && (is_nothing(kernel) || case.is_one_frame(kernel))
        },
        is_silent: false,
    },
    Deviation {
        id: "V6c",
        text: "an IPv4 header checksum that a congestion mark makes 0: the kernel writes 0xffff (RFC 1141), we write 0 (RFC 1624)",
        meets: |case| {
            case.decapsulated().is_some_and(|frame| {
                let check = l3(&frame) + 10;
                frame != case.frame() && ip(&frame) == Some(4) && be16(&frame, check) == 0
            })
        },
        explains: |case, kernel, ours| {
            let theirs = case.decapsulated().map(|mut frame| {
                let check = l3(&frame) + 10;
                frame[check..check + 2].fill(0xff);
                frame
            });
            case.is_delivered(kernel, theirs) && case.is_delivered_by_us(ours)
        },
        is_silent: false,
    },
    Deviation {
        id: "V7",
        text: "an inner checksum that only holds the pseudo header's sum: passed on by the kernel, completed by us",
        meets: |case| case.heard().is_some() && unfinished(case.frame()).is_some(),
        explains: |case, kernel, ours| {
            case.is_delivered(kernel, case.decapsulated()) && case.is_delivered_by_us(ours)
        },
        is_silent: false,
    },
    Deviation {
        id: "V7b",
        text: "a TCP segment of that kind that is longer than the MTU: a superframe to us, cut to fit",
        meets: |case| case.heard().is_some() && case.is_superframe(),
        explains: |case, kernel, ours| {
            let Some(frame) = case.decapsulated() else {
                return false;
            };
            let is_there = ours
                .pods
                .iter()
                .all(|(pod, _)| Some(*pod) == case.segment());
            is_there
                && is_cut(&frame, &ours.pods)
                && (is_nothing(kernel) || case.is_one_frame(kernel))
        },
        is_silent: false,
    },
    Deviation {
        id: "V8",
        text: "joined datagrams, one of which might be all of them, and others of another segment: told apart by the kernel, all dropped by us",
        meets: |case| case.is_suspect(),
        explains: |case, kernel, ours| is_nothing(ours) && case.is_one_frame(kernel),
        is_silent: false,
    },
    Deviation {
        id: "V9",
        text: "an inner CE mark: ECT(0) in the kernel's outer header (RFC 3168), CE in ours (RFC 6040)",
        meets: |case| case.heard().is_none() && tos(case.frame()).is_some_and(|tos| tos & 3 == 3),
        explains: |case, kernel, ours| {
            let remarked = |seen: &Seen, from, to| -> Option<Vec<Vec<u8>>> {
                let sent = seen.underlay.iter().map(|packet| {
                    let sent = Sent::parse(packet)
                        .ok()
                        .filter(|sent| sent.tos & 3 == from)?;
                    let mut packet = sent.masked_with_ecn(to);
                    case.unify_zero(&mut packet);
                    Some(packet)
                });
                Some(sorted(sent.collect::<Option<_>>()?))
            };
            let kernel = remarked(kernel, 2, 3);
            kernel.is_some() && kernel == remarked(ours, 3, 3)
        },
        is_silent: false,
    },
    Deviation {
        id: "V9b",
        text: "an inner frame that has the type of IP and another version: its marks copied by the kernel, not by us",
        meets: |case| case.heard().is_none() && case.is_of_another_version(),
        explains: |_, kernel, ours| {
            let unmarked = |seen: &Seen| -> Option<Vec<Vec<u8>>> {
                let sent = seen
                    .underlay
                    .iter()
                    .map(|packet| Some(Sent::parse(packet).ok()?.masked_with_tos(0)));
                Some(sorted(sent.collect::<Option<_>>()?))
            };
            let is_unmarked = |packet| Sent::parse(packet).is_ok_and(|sent| sent.tos == 0);
            ours.underlay.iter().all(|packet| is_unmarked(packet))
                && unmarked(kernel) == unmarked(ours)
        },
        is_silent: false,
    },
    Deviation {
        id: "V10",
        text: "a frame of more than the overlay's MTU + 18 bytes that the path takes: lost at the kernel's vxlan device, sent by us",
        meets: |case| case.heard().is_none() && case.frame().len() > OVERLAY_MTU + 18,
        explains: |case, kernel, ours| is_nothing(kernel) && case.is_sent(ours),
        is_silent: false,
    },
    Deviation {
        id: "V11",
        text: "a datagram that both drop, for its mark or its reserved destination: it has taught the kernel's vxlan device its source, not us",
        meets: |case| {
            let is_reserved = matches!(case.frame(), [1, 0x80, 0xc2, 0, 0, 0..16, ..]);
            case.heard().is_some() && (is_reserved || case.decapsulated().is_none())
        },
        explains: |_, _, _| false,
        is_silent: true,
    },
    Deviation {
        id: "V12",
        text: "a TCP checksum left to complete that comes out as 0: sent as 0xffff by the kernel, which knows UDP's rule only, as 0 by us",
        meets: |case| matches!(case.event, Event::Spoken(_, frame) if frame.header.csum_offset() == TCP_CHECKSUM),
        explains: |case, kernel, ours| {
            let zeros = |seen: &Seen| -> Vec<Vec<u8>> {
                let zeros = |packet: &Vec<u8>| {
                    let mut masked = masked(packet);
                    case.unify_zero(&mut masked);
                    masked
                };
                sorted(seen.underlay.iter().map(zeros).collect())
            };
            kernel.pods == ours.pods && zeros(kernel) == zeros(ours)
        },
        is_silent: false,
    },
    Deviation {
        id: "K9a",
        text: "a frame that ends in its VLAN tag, or just behind, lost by the kernel before it learns; the pod's kernel loses it too",
        meets: |case| {
            let frame = case.frame();
            tags(frame) > 0 && frame.len() < 16 + 4 * tags(frame).min(2)
        },
        explains: |_, _, _| false,
        is_silent: true,
    },
    Deviation {
        id: "K9b",
        text: "a tagged frame of MTU + 19 to MTU + 22 bytes: forwarded by the kernel, which does not count the tag",
        meets: |case| {
            tags(case.frame()) > 0
                && matches!(case.frame().len(), 1519..=1522)
                && case.heard().is_some()
        },
        explains: |case, kernel, ours| is_nothing(ours) && case.is_one_frame(kernel),
        is_silent: false,
    },
];

impl<'a> Case<'a> {
    /// The datagram; `None`: it is a pod's frame.
    pub(crate) fn heard(&self) -> Option<&'a Datagram> {
        match self.event {
            Event::Heard(datagram) => Some(datagram),
            Event::Spoken(..) => None,
        }
    }

    /// The inner frame.
    pub(crate) fn frame(&self) -> &'a [u8] {
        match self.event {
            Event::Heard(datagram) => datagram.payload.get(8..).unwrap_or_default(),
            Event::Spoken(_, frame) => &frame.bytes,
        }
    }

    /// The segment.
    pub(crate) fn segment(&self) -> Option<usize> {
        match self.event {
            Event::Heard(datagram) => {
                let vni = datagram.payload.get(4..7)?;
                VNIS.iter().position(|of| of.to_be_bytes()[1..] == *vni)
            }
            Event::Spoken(pod, _) => Some(pod),
        }
    }

    /// The deviations that this meets.
    pub(crate) fn met(&self) -> impl Iterator<Item = &'static Deviation> {
        LIST.iter().filter(|deviation| (deviation.meets)(self))
    }

    /// The deviation that leads to this; the first of several.
    pub(crate) fn explain(&self, kernel: &Seen, ours: &Seen) -> Option<&'static Deviation> {
        self.met()
            .find(|deviation| (deviation.explains)(self, kernel, ours))
    }

    /// Whether the VXLAN header names a segment and has other bits set.
    fn has_reserved_bits(&self) -> bool {
        let head = self
            .heard()
            .and_then(|datagram| datagram.payload.first_chunk());
        let Some([flags, a, b, c, _, _, _, d]) = head else {
            return false;
        };
        flags & 8 != 0 && [flags & !8, *a, *b, *c, *d] != [0; 5]
    }

    /// Whether its VTEP is no peer of the segment.
    fn is_from_stranger(&self) -> bool {
        let segment = self.segment().unwrap_or(usize::MAX);
        self.heard()
            .is_some_and(|d| !is_peer(segment, d.outer.from))
    }

    /// Whether the type says IP, and the first bits name another version.
    fn is_of_another_version(&self) -> bool {
        let frame = self.frame();
        let l3 = l3(frame);
        let is_ip = matches!(be16(frame, l3 - 2), 0x0800 | 0x86dd);
        is_ip && ip(frame).is_none()
    }

    /// Whether it is an unfinished TCP segment that is too long.
    fn is_superframe(&self) -> bool {
        let frame = self.frame();
        unfinished(frame).is_some_and(|layer| {
            layer.protocol == TCP
                && layer.covered.end == frame.len()
                && frame.len() > longest(frame)
        })
    }

    /// Whether the outer header has a mark that changes inner packets.
    fn is_marked(&self) -> bool {
        self.heard().is_some_and(|d| d.outer.tos & 1 == 1)
    }

    /// Whether only one of the two takes it at all.
    fn is_heard_by_one(&self) -> bool {
        LIST.iter()
            .filter(|deviation| matches!(deviation.id, "V1" | "V2" | "V3" | "V3c" | "V4" | "V5"))
            .any(|deviation| (deviation.meets)(self))
    }

    /// Whether the message that it came in might be one superframe, with other segments' headers in it.
    fn is_suspect(&self) -> bool {
        let Some([first, rest @ ..]) = self.joined else {
            return false;
        };
        let frame = &first.payload[8..];
        let whole: usize = rest.iter().map(|d| d.payload.len()).sum::<usize>() + frame.len();
        let claims_all = ip(frame) == Some(4) && usize::from(be16(frame, 16)) + 14 == whole;
        claims_all && rest.iter().any(|d| d.payload[..8] != first.payload[..8])
    }

    /// Whether that is the frame as we bring it out of the datagram.
    fn is_delivered_by_us(&self, seen: &Seen) -> bool {
        let frame = self.decapsulated();
        let Some(completed) = frame.as_ref().and_then(|frame| complete(frame)) else {
            return self.is_delivered(seen, frame);
        };
        completed
            .into_iter()
            .any(|frame| self.is_delivered(seen, Some(frame)))
    }

    /// Whether that is `frame`, at the pod of the segment.
    fn is_delivered(&self, seen: &Seen, expected: Option<Vec<u8>>) -> bool {
        let is_it = |frame: &Vec<u8>| expected.as_ref() == Some(frame);
        seen.underlay.is_empty()
            && matches!(&seen.pods[..], [(pod, frame)] if Some(*pod) == self.segment() && is_it(frame))
    }

    /// Whether that is one frame for the pod of the segment, as long as it was.
    fn is_one_frame(&self, seen: &Seen) -> bool {
        let len = self.frame().len();
        seen.underlay.is_empty()
            && matches!(&seen.pods[..], [(pod, frame)] if Some(*pod) == self.segment() && frame.len() == len)
    }

    /// Writes the checksum of a TCP segment that was left to be completed in one of the two ways, if
    /// it is 0.
    fn unify_zero(&self, packet: &mut [u8]) {
        let Event::Spoken(_, frame) = self.event else {
            return;
        };
        let outer = if self.settings.v6 { 70 } else { 50 };
        let at = outer + usize::from(frame.header.csum_start() + TCP_CHECKSUM);
        if frame.header.csum_offset() == TCP_CHECKSUM && be16(packet, at) == 0xffff {
            packet[at..at + 2].fill(0);
        }
    }

    /// Whether that is the frame on its way to remote VTEPs, unchanged.
    fn is_sent(&self, seen: &Seen) -> bool {
        let is_it = |packet: &Vec<u8>| Sent::parse(packet).is_ok_and(|s| s.inner() == self.frame());
        seen.pods.is_empty() && !seen.underlay.is_empty() && seen.underlay.iter().all(is_it)
    }

    /// What comes out of a datagram by the book: the inner frame, with the congestion mark of the
    /// outer header merged into it (RFC 6040 section 4.2); `None`: it is to be dropped.
    fn decapsulated(&self) -> Option<Vec<u8>> {
        let Event::Heard(datagram) = self.event else {
            return None;
        };
        let mut frame = self.frame().to_vec();
        let l3 = l3(&frame);
        let Some(tos) = tos(&frame) else {
            return Some(frame);
        };
        let merged = match (tos & 3, datagram.outer.tos & 3) {
            (0, 3) => return None,
            (1 | 2, 3) => 3,
            (2, 1) => 1,
            (inner, _) => inner,
        };
        if ip(&frame) == Some(6) {
            frame[l3 + 1] = frame[l3 + 1] & 0xcf | merged << 4;
        } else {
            let old = be16(&frame, l3);
            frame[l3 + 1] = frame[l3 + 1] & !3 | merged;
            // As far off as it was before (RFC 1624).
            let changed =
                u64::from(!be16(&frame, l3 + 10)) + u64::from(!old) + u64::from(be16(&frame, l3));
            let check = !fold(changed);
            frame[l3 + 10..l3 + 12].copy_from_slice(&check.to_be_bytes());
        }
        Some(frame)
    }
}

/// TOS or traffic class.
fn tos(frame: &[u8]) -> Option<u8> {
    let l3 = l3(frame);
    match ip(frame)? {
        4 => Some(frame[l3 + 1]),
        _ => Some(frame[l3] << 4 | frame[l3 + 1] >> 4),
    }
}

/// A whole TCP segment or UDP datagram in a frame.
struct Layer4 {
    protocol: u8,
    /// Where its checksum is.
    field: usize,
    /// All of it, header and payload.
    covered: Range<usize>,
    /// The sum of the pseudo header.
    pseudo: u64,
}

impl Layer4 {
    fn parse(frame: &[u8]) -> Option<Self> {
        let l3 = l3(frame);
        let (mut protocol, mut l4, end, addresses);
        if ip(frame)? == 4 {
            if be16(frame, l3 + 6) & !0x4000 != 0 {
                return None;
            }
            (protocol, l4) = (frame[l3 + 9], l3 + usize::from(frame[l3] & 15) * 4);
            end = l3 + usize::from(be16(frame, l3 + 2));
            addresses = l3 + 12..l3 + 20;
        } else {
            (protocol, l4) = (frame[l3 + 6], l3 + 40);
            end = l4 + usize::from(be16(frame, l3 + 4));
            addresses = l3 + 8..l3 + 40;
            while matches!(protocol, 0 | 43 | 60) {
                let extension = frame.get(l4..l4 + 8)?;
                (protocol, l4) = (extension[0], l4 + 8 + 8 * usize::from(extension[1]));
            }
        }
        let covered = frame.get(l4..end)?;
        let is_whole = match protocol {
            TCP => frame.get(l4 + 12).is_some_and(|offset| offset >> 4 >= 5),
            UDP => usize::from(be16(frame, l4 + 4)) == covered.len(),
            _ => false,
        };
        let field = l4 + if protocol == TCP { 16 } else { 6 };
        let pseudo = sum(&frame[addresses]) + u64::from(protocol) + covered.len() as u64;
        (is_whole && field + 2 <= end).then_some(Self {
            protocol,
            field,
            covered: l4..end,
            pseudo,
        })
    }

    /// Whether the checksum field only holds the sum of the pseudo header.
    fn is_unfinished(&self, frame: &[u8]) -> bool {
        // Whoever completes it sums up to the end of the frame.
        let is_padded = frame[self.covered.end..].iter().all(|byte| *byte == 0);
        is_padded && be16(frame, self.field) == fold(self.pseudo)
    }

    fn is_right(&self, frame: &[u8]) -> bool {
        fold(self.pseudo + sum(&frame[self.covered.clone()])) == 0xffff
    }

    /// What a TCP segment carries.
    fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let offset = 4 * usize::from(frame[self.covered.start + 12] >> 4);
        frame
            .get(self.covered.start + offset..self.covered.end)
            .unwrap_or_default()
    }
}

fn unfinished(frame: &[u8]) -> Option<Layer4> {
    Layer4::parse(frame).filter(|layer| layer.is_unfinished(frame))
}

/// The longest frame with the tags of this one that a port takes: with more than one tag, less IP.
fn longest(frame: &[u8]) -> usize {
    (l3(frame) + OVERLAY_MTU).min(OVERLAY_MTU + 18)
}

/// Whether all `pieces` fit the MTU, have right checksums, and carry what the TCP segment in `frame`
/// does.
fn is_cut(frame: &[u8], pieces: &[(usize, Vec<u8>)]) -> bool {
    let mut carried: Vec<u8> = Vec::new();
    for (_, piece) in pieces {
        match Layer4::parse(piece) {
            Some(layer) if layer.is_right(piece) && piece.len() <= longest(piece) => {
                carried.extend(layer.payload(piece));
            }
            _ => return false,
        }
    }
    Layer4::parse(frame).is_some_and(|layer| layer.payload(frame) == carried)
}

/// With its checksum completed; both ways to write 0, if it comes out as 0.
fn complete(frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let Layer4 { field, covered, .. } = unfinished(frame)?;
    // The field holds the sum of the pseudo header already.
    let choices: &[u16] = match !fold(sum(&frame[covered.clone()])) {
        // In UDP it means that there is none.
        0 if field == covered.start + 6 => &[0xffff],
        0 => &[0, 0xffff],
        checksum => &[checksum][..],
    };
    let completed = choices.iter().map(|checksum| {
        let mut frame = frame.to_vec();
        frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        frame
    });
    Some(completed.collect())
}

fn sorted(mut packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    packets.sort_unstable();
    packets
}

fn is_nothing(seen: &Seen) -> bool {
    *seen == Seen::default()
}

/// The MTU inside the overlay.
const OVERLAY_MTU: usize = 1500;
const _: () = assert!(MTU == 1500);

/// Where the checksum of TCP is.
const TCP_CHECKSUM: u16 = 16;

/// How often each was met.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub(crate) fn add(&mut self, deviation: &Deviation) {
        *self.0.entry(deviation.id).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for deviation in &LIST {
            let count = self.0.get(deviation.id).copied().unwrap_or(0);
            writeln!(f, "  {} {}: {count}", deviation.id, deviation.text)?;
        }
        Ok(())
    }
}
