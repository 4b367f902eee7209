//! Telling the sender of a packet that it is too big for the overlay.
//!
//! A VTEP does not fragment (RFC 7348 §4.3), and a bridge has no address to send errors from. What
//! the kernel's tunnels do for bridged frames is done here, too: the answer comes as if from the
//! packet's destination (`iptunnel_pmtud_build_icmp` and `..._icmpv6`, net/ipv4/ip_tunnel_core.c),
//! and the sender's path MTU discovery does the rest (RFC 1191, RFC 8201).
//!
//! Where it differs from the kernel's (`tests/vxlan_kernel.rs` has each case): the hop limit is 64
//! and not what is left of the packet's; first fragments and packets behind VLAN tags are answered,
//! too; padding does not count; IPv4 senders are told of paths down to 68 bytes, not 576, and IPv6
//! senders of 1280 on paths below that; broken headers, wrong lengths, loopback and multicast
//! destinations, later IPv6 fragments and ICMP other than echo get no answer.

use super::inner::{Fragment, Packet, V4_HEADER, V6_HEADER, array, chain};
use crate::wire::{
    Frame,
    checksum::{pseudo_v6, sum},
};

/// The least MTU of an IPv4 link (RFC 791 §3.2).
pub const MIN_V4: u32 = 68;

/// The least MTU of an IPv6 link (RFC 8200 §5).
pub const MIN_V6: u32 = 1280;

/// Room for one answer, to be used again for the next.
#[derive(Clone, Debug)]
pub struct Answer {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Answer {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: [0; MAX_LEN],
            len: 0,
        }
    }

    /// The whole frame to send back, checksums and all; empty if there is no answer.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn set(&mut self, at: usize, bytes: [u8; 2]) {
        if let Some(field) = self.bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&bytes);
        }
    }

    fn from(&self, at: usize) -> &[u8] {
        self.as_bytes().get(at..).unwrap_or_default()
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes to `out` the frame that tells the sender of `frame` to send IP packets of at most `mtu`
/// bytes: ICMPv4 "fragmentation needed and DF set" (RFC 792, RFC 1191 §4) or ICMPv6 "packet too
/// big" (RFC 4443 §3.2). VLAN tags are kept.
///
/// False, and `out` empty, if the sender must not or cannot be told: `frame` is no whole IP
/// packet or fits `mtu`; its source or destination, MAC or IP, is not that of one host; IPv4 that
/// may be fragmented; a fragment other than the first; an ICMP error (RFC 1122 §3.2.2, RFC 4443
/// §2.4); an `mtu` below [`MIN_V4`] for IPv4. IPv6 is never told less than [`MIN_V6`].
pub fn answer(frame: &[u8], mtu: u32, out: &mut Answer) -> bool {
    out.len = 0;
    build(frame, mtu, out).is_some()
}

fn build(frame: &[u8], mtu: u32, out: &mut Answer) -> Option<()> {
    let ethernet = Frame::new_checked(frame).ok()?;
    let is_between_hosts = ethernet.src().is_unicast() && ethernet.dst().is_unicast();
    let parsed = Packet::parse(frame).filter(|_| is_between_hosts)?;
    // What is behind the packet is padding.
    let whole = frame.get(..parsed.l3 + parsed.len)?;
    let packet = whole.get(parsed.l3..)?;
    let mtu = if parsed.is_v6 { mtu.max(MIN_V6) } else { mtu };
    if parsed.fragment == Fragment::Later || packet.len() <= usize::try_from(mtu).ok()? {
        return None;
    }
    if parsed.is_v6 {
        check_v6(whole, &parsed)?;
    } else {
        check_v4(whole, &parsed, mtu)?;
    }

    out.put(&ethernet.src().octets());
    out.put(&ethernet.dst().octets());
    out.put(frame.get(12..parsed.l3)?);
    if parsed.is_v6 {
        put_v6(packet, mtu, out)
    } else {
        put_v4(packet, mtu, out)
    }
}

/// `None` if an IPv4 packet gets no answer.
fn check_v4(frame: &[u8], packet: &Packet, mtu: u32) -> Option<()> {
    let l4 = packet.l4?;
    let header = frame.get(packet.l3..l4)?;
    let dont_fragment = header.get(6)? & 0x40 != 0;
    let is_sound = sum(header).fold() == 0xffff;
    let ends = [array(header, 12)?, array(header, 16)?];
    let is_told = packet.protocol != ICMP || matches!(frame.get(l4), Some(0 | 8));
    let yes = mtu >= MIN_V4 && dont_fragment && is_sound && ends.iter().all(is_host_v4) && is_told;
    yes.then_some(())
}

/// `None` if an IPv6 packet gets no answer.
fn check_v6(frame: &[u8], packet: &Packet) -> Option<()> {
    let ends = [array(frame, packet.l3 + 8)?, array(frame, packet.l3 + 24)?];
    // Behind the fragment header there may be more, and at the end a message that must not be
    // answered: RFC 4443 §2.4 (e) wants it found.
    let (l4, protocol) = match packet.fragment {
        Fragment::Whole => (packet.l4?, packet.protocol),
        Fragment::First | Fragment::Later => {
            let rest = chain(frame, packet.l4?, packet.protocol);
            (
                rest.at.filter(|_| rest.fragment == Fragment::Whole)?,
                rest.protocol,
            )
        }
    };
    let is_told = protocol != ICMPV6
        || frame
            .get(l4)
            .is_some_and(|&kind| kind >= INFORMATIONAL && kind != REDIRECT);
    (ends.iter().all(is_host_v6) && is_told).then_some(())
}

fn put_v4(packet: &[u8], mtu: u32, out: &mut Answer) -> Option<()> {
    let quote = packet.get(..packet.len().min(QUOTE_V4))?;
    let len = u16::try_from(V4_HEADER + ICMP_HEADER + quote.len()).ok()?;
    let [src, dst]: [[u8; 4]; 2] = [array(packet, 12)?, array(packet, 16)?];
    let l3 = out.len;
    out.put(&[0x45, 0]);
    out.put(&len.to_be_bytes());
    // No identification is needed with DF set (RFC 6864 §4.1).
    out.put(&[0, 0, 0x40, 0, HOP_LIMIT, ICMP, 0, 0]);
    out.put(&dst);
    out.put(&src);
    out.set(l3 + 10, sum(out.from(l3)).checksum().to_be_bytes());

    let l4 = out.len;
    let [mtu_high, mtu_low] = u16::try_from(mtu).ok()?.to_be_bytes();
    out.put(&[3, 4, 0, 0, 0, 0, mtu_high, mtu_low]);
    out.put(quote);
    out.set(l4 + 2, sum(out.from(l4)).checksum().to_be_bytes());
    Some(())
}

fn put_v6(packet: &[u8], mtu: u32, out: &mut Answer) -> Option<()> {
    let quote = packet.get(..packet.len().min(QUOTE_V6))?;
    let len = u16::try_from(ICMP_HEADER + quote.len()).ok()?;
    let [src, dst]: [[u8; 16]; 2] = [array(packet, 8)?, array(packet, 24)?];
    out.put(&[0x60, 0, 0, 0]);
    out.put(&len.to_be_bytes());
    out.put(&[ICMPV6, HOP_LIMIT]);
    out.put(&dst);
    out.put(&src);

    let l4 = out.len;
    out.put(&[2, 0, 0, 0]);
    out.put(&mtu.to_be_bytes());
    out.put(quote);
    let pseudo = pseudo_v6(dst, src, ICMPV6, len.into());
    out.set(
        l4 + 2,
        (pseudo + sum(out.from(l4))).checksum().to_be_bytes(),
    );
    Some(())
}

/// Not unspecified, loopback, multicast or broadcast. 0.0.0.1 and 240.0.0.1 are hosts to Linux.
fn is_host_v4(address: &[u8; 4]) -> bool {
    !matches!(
        address,
        [0, 0, 0, 0] | [127 | 224..=239, ..] | [255, 255, 255, 255]
    )
}

/// Not unspecified, loopback or multicast.
fn is_host_v6(address: &[u8; 16]) -> bool {
    address[0] != 0xff && u128::from_be_bytes(*address) > 1
}

/// The hop limit of an answer: what hosts start with (RFC 1700).
const HOP_LIMIT: u8 = 64;

/// ICMPv6 messages from this type on are not errors (RFC 4443 §2.1).
const INFORMATIONAL: u8 = 128;

/// ICMPv6 type of a redirect, which gets no error either (RFC 4443 §2.4 (e.2)).
const REDIRECT: u8 = 137;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ICMP_HEADER: usize = 8;

/// An ICMPv4 error has at most 576 bytes (RFC 1812 §4.3.2.3).
const QUOTE_V4: usize = 576 - V4_HEADER - ICMP_HEADER;

/// An ICMPv6 error has at most the least MTU (RFC 4443 §2.4 (c)).
const QUOTE_V6: usize = 1280 - V6_HEADER - ICMP_HEADER;

/// Ethernet, two VLAN tags, and the larger of both errors.
const MAX_LEN: usize = Frame::HEADER_LEN + 2 * Frame::TAG_LEN + 1280;

#[cfg(test)]
mod tests;
