//! Whether a checksum is right, and if not, in which way.

use std::net::IpAddr;

use super::{
    ProblemKind,
    draft::{Draft, Part, hex16},
};
use crate::wire::checksum::{Sum, pseudo_v4, pseudo_v6, sum};

/// What a transport header has to know of the packet around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    /// Protocol, or next header.
    pub(super) protocol: u8,
    /// Hop limit, or time to live.
    pub(super) hop_limit: u8,
    /// Why a checksum cannot be verified.
    pub(super) unverifiable: Option<&'static str>,
}

impl Net {
    /// The sum of the pseudo header.
    fn pseudo(&self, len: usize) -> Sum {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                pseudo_v4(src.octets(), dst.octets(), self.protocol, len)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                pseudo_v6(src.octets(), dst.octets(), self.protocol, len)
            }
            // Packets have addresses of one family.
            _ => Sum::ZERO,
        }
    }
}

/// What a checksum is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// It is that of the pseudo header alone, not complemented, as Linux leaves it with
    /// `CHECKSUM_PARTIAL`.
    Unfinished {
        should: u16,
    },
    Wrong {
        should: u16,
    },
}

/// Holds the checksum at `at`, which is even, against `covered`, which it is a part of.
pub(super) fn judge(pseudo: Option<Sum>, covered: &[u8], at: usize) -> Verdict {
    let (before, rest) = covered.split_at(at.min(covered.len()));
    let (stated, after) = rest.split_at(rest.len().min(2));
    let stated = match *stated {
        [high, low] => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    let total = pseudo.unwrap_or(Sum::ZERO) + sum(before) + sum(after);
    let should = total.checksum();
    let whole = total + Sum::word(stated.into());
    if whole.fold() == 0xffff {
        return Verdict::Right;
    }
    match pseudo {
        Some(pseudo) if pseudo.fold() == stated => Verdict::Unfinished { should },
        _ => Verdict::Wrong { should },
    }
}

/// The field with the checksum of TCP, UDP or ICMPv6, and what it is worth.
pub(super) fn transport(draft: &mut Draft, part: Part<'_>, at: usize, net: Option<&Net>) {
    let unverifiable = match net {
        None => Some("not checked: the IP header is not here"),
        Some(net) => net.unverifiable,
    };
    let pseudo = net.map(|net| net.pseudo(part.len()));
    write(draft, part, at, pseudo, unverifiable);
}

/// The field with the checksum of a header that covers nothing else.
pub(super) fn alone(
    draft: &mut Draft,
    part: Part<'_>,
    at: usize,
    unverifiable: Option<&'static str>,
) {
    write(draft, part, at, None, unverifiable);
}

fn write(
    draft: &mut Draft,
    part: Part<'_>,
    at: usize,
    pseudo: Option<Sum>,
    unverifiable: Option<&'static str>,
) {
    let stated = hex16(part.word(at));
    let range = at..at + 2;
    if let Some(reason) = unverifiable {
        draft.field("checksum", range, stated, reason);
        return;
    }
    match judge(pseudo, part.bytes, at) {
        Verdict::Right => {
            draft.field("checksum", range, stated, "right");
        }
        Verdict::Unfinished { should } => {
            draft.field("checksum", range, stated, "the pseudo header's alone");
            let text = format!(
                "unfinished: the sender leaves the rest to its offload, which makes it \
                 0x{should:04x}"
            );
            draft.problem(ProblemKind::UnfinishedChecksum, text);
        }
        Verdict::Wrong { should } => {
            draft.field("checksum", range, stated, "");
            let text = format!("wrong: it should be 0x{should:04x}");
            draft.problem(ProblemKind::WrongChecksum, text);
        }
    }
}
