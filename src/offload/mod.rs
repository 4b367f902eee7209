//! The work a sender left undone: finishing checksums and cutting superframes.
//!
//! A TAP with offloads hands out frames of up to 64 KiB, with a [`VirtioNetHdr`] that says how to
//! finish them. An egress that can take such a frame gets it as it is; for any other, [`segment()`]
//! makes the frames that the kernel would have made (net/ipv4/tcp_offload.c,
//! net/ipv4/udp_offload.c). Superframes are never modified in place: a flood may still pass the
//! same buffer to a port that takes it whole. The other way round, a [`Run`] joins frames that wait
//! together.
//!
//! Whoever may open a packet socket in a namespace chooses every bit of the header, so [`check()`]
//! comes first. A frame out of a tunnel has no header, and [`Mark::of`] finds out what it would say.
//!
//! ```
//! use tapswitch::{offload::{Offloads, Run, Segments, needed, segment}, sim::frames};
//!
//! // 3000 bytes that TCP left to its device to cut.
//! let tcp = frames::packet(1, "tcp 192.0.2.2:80 len 3000 mss 1448");
//! assert_eq!(needed(&tcp.header), Offloads::CSUM | Offloads::TSO4);
//!
//! let mut segments = Segments::new();
//! segment(&tcp.header, &tcp.frame, None, &mut segments).unwrap();
//! let pieces: Vec<Vec<u8>> = segments.iter().map(|piece| piece.to_frame(&tcp.frame)).collect();
//! assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1502, 1502, 158]);
//!
//! // And back.
//! let mut run = Run::start(None, &pieces[0]).unwrap();
//! assert!(run.join(None, &pieces[1]) && run.join(None, &pieces[2]));
//! let payload: Vec<u8> = pieces.iter().flat_map(|piece| run.payload_of(piece)).copied().collect();
//! let (header, head) = run.finish();
//! assert_eq!(header.gso_size(), 1448);
//! assert_eq!([head, &payload].concat(), tcp.frame);
//! ```

mod check;
mod coalesce;
mod layout;
mod mark;
mod packet;
mod segment;

use std::{fmt, ops::BitOr};

pub use self::{
    check::{BadOffload, MAX_HEADERS, MAX_SEGMENTS, MAX_UDP_SEGMENTS, check, exact_hdr_len},
    coalesce::Run,
    mark::{Mark, Verified, unfinished},
    segment::{Segment, Segments, append, complete_checksum, segment},
};
use crate::wire::{GsoType, VirtioNetHdr};

/// A set of offloads: what an egress can finish itself, or what a frame asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offloads(u8);

impl Offloads {
    /// None: every frame has to be finished first.
    pub const NONE: Self = Self(0);
    /// Checksums of any protocol.
    pub const CSUM: Self = Self(1);
    /// TCP superframes over IPv4.
    pub const TSO4: Self = Self(1 << 1);
    /// TCP superframes over IPv6.
    pub const TSO6: Self = Self(1 << 2);
    /// TCP superframes whose first segment carries CWR.
    pub const TSO_ECN: Self = Self(1 << 3);
    /// UDP superframes over either family.
    pub const USO: Self = Self(1 << 4);
    /// Everything.
    pub const ALL: Self = Self(0b1_1111);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::CSUM, "csum"),
        (Self::TSO4, "tso4"),
        (Self::TSO6, "tso6"),
        (Self::TSO_ECN, "tso-ecn"),
        (Self::USO, "uso"),
    ];

    /// Whether all of `other` is in this set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// What is in either set.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    #[inline]
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set but not in `other`.
    #[inline]
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in this set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Offloads {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES
            .iter()
            .filter(|(offload, _)| self.contains(*offload))
            .map(|(_, name)| name);
        let Some(first) = names.next() else {
            return f.write_str("none");
        };
        f.write_str(first)?;
        names.try_for_each(|name| write!(f, " {name}"))
    }
}

/// What an egress must be able to do to take a frame with this header as it is.
#[inline]
pub fn needed(header: &VirtioNetHdr) -> Offloads {
    if header.is_plain() {
        Offloads::NONE
    } else {
        needed_by_unfinished(header)
    }
}

fn needed_by_unfinished(header: &VirtioNetHdr) -> Offloads {
    let gso = match header.gso() {
        GsoType::None => Offloads::NONE,
        GsoType::TcpV4 => Offloads::TSO4,
        GsoType::TcpV6 => Offloads::TSO6,
        GsoType::UdpL4 => Offloads::USO,
        // No egress takes it; `check` refuses it before anybody asks.
        GsoType::Unknown(_) => Offloads::ALL,
    };
    let csum = if header.needs_csum() {
        Offloads::CSUM
    } else {
        Offloads::NONE
    };
    let ecn = if header.gso_type & VirtioNetHdr::GSO_ECN != 0 {
        Offloads::TSO_ECN
    } else {
        Offloads::NONE
    };
    gso | csum | ecn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(gso: GsoType, ecn: bool, csum: bool) -> VirtioNetHdr {
        let mut header = VirtioNetHdr::none();
        header.set_gso(gso);
        if ecn {
            header.gso_type |= VirtioNetHdr::GSO_ECN;
        }
        if csum {
            header.set_csum(34, 16);
        }
        header
    }

    #[test]
    fn a_header_needs_what_it_asks_for() {
        for (gso, ecn, csum, expected) in [
            (GsoType::None, false, false, "none"),
            (GsoType::None, false, true, "csum"),
            (GsoType::TcpV4, false, true, "csum tso4"),
            (GsoType::TcpV6, true, true, "csum tso6 tso-ecn"),
            (GsoType::TcpV6, false, false, "tso6"),
            (GsoType::UdpL4, false, true, "csum uso"),
            (
                GsoType::Unknown(3),
                false,
                false,
                "csum tso4 tso6 tso-ecn uso",
            ),
        ] {
            let needed = needed(&header(gso, ecn, csum));
            assert_eq!(
                needed.to_string(),
                expected,
                "{gso:?} ecn {ecn} csum {csum}"
            );
        }
    }

    #[test]
    fn a_vouched_checksum_needs_nothing() {
        let mut header = VirtioNetHdr::none();
        header.flags = VirtioNetHdr::DATA_VALID;
        assert!(needed(&header).is_empty());
    }

    #[test]
    fn sets_behave_as_sets() {
        let tcp = Offloads::TSO4 | Offloads::TSO6;
        assert!(Offloads::ALL.contains(tcp));
        assert!(tcp.contains(Offloads::NONE));
        assert!(!tcp.contains(Offloads::TSO4 | Offloads::CSUM));
        assert_eq!(tcp.intersection(Offloads::TSO4), Offloads::TSO4);
        assert_eq!(tcp.difference(Offloads::TSO4), Offloads::TSO6);
    }
}
