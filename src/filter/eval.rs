//! What an expression means for one frame.
//!
//! `None` everywhere: the frame ends before what is asked for. As in libpcap's programs, whose loads
//! then return at once, that decides for the whole expression: the frame is not meant.

use std::ops::RangeInclusive;

use crate::{vxlan, wire::MacAddr};

/// A frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) vxlan_ports: [u16; 2],
}

/// An expression.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Test(Layer, Test),
}

/// Where a question looks: how many tags, and inside of how many tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layer {
    tags: [u8; Self::DEEPEST + 1],
    tunnels: usize,
}

/// Source, destination, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dir {
    Src,
    Dst,
    Either,
    Both,
}

/// A protocol at one of the layers, by the word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Any,
    V4,
    V6,
}

/// One question.
#[derive(Clone, Debug)]
pub(super) enum Test {
    EtherType(u16),
    IpProto(Family, u8),
    /// An address in IPv4, ARP or RARP headers: those with these types.
    Host {
        types: &'static [u16],
        dir: Dir,
        addr: u32,
        mask: u32,
    },
    Host6 {
        dir: Dir,
        addr: u128,
        mask: u128,
    },
    Ether(Dir, MacAddr),
    Port {
        family: Family,
        protocols: &'static [u8],
        dir: Dir,
        ports: RangeInclusive<u16>,
    },
    Vlan(Option<u16>),
    Vxlan(Option<u32>),
    EtherGroup,
    Ip4Group,
    Ip6Group,
    Compare(Arith, Relation, Arith),
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A number.
#[derive(Clone, Debug)]
pub(super) enum Arith {
    Number(u32),
    Len,
    /// So many bytes of a header, from an offset on.
    Load(Layer, Header, Box<Self>, u8),
    Negated(Box<Self>),
    Two(Box<Self>, Operator, Box<Self>),
}

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    And,
    Or,
    ShiftLeft,
    ShiftRight,
}

/// Whose bytes are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Ether,
    /// What is behind an Ethernet header of this type.
    Network(u16),
    /// What is behind an IPv4 header with this protocol.
    Transport(u8),
    Icmp6,
}

impl Layer {
    /// Most tunnels in each other.
    pub(super) const DEEPEST: usize = 3;

    /// Behind one more tag.
    pub(super) fn tagged(mut self) -> Self {
        let tags = &mut self.tags[self.tunnels];
        *tags = tags.saturating_add(1);
        self
    }

    /// Inside of one more tunnel; `None` if there are too many.
    pub(super) fn tunnelled(mut self) -> Option<Self> {
        self.tunnels += 1;
        (self.tunnels <= Self::DEEPEST).then_some(self)
    }
}

/// Where a frame starts, and how many tags of it are skipped.
#[derive(Clone, Copy)]
struct Start {
    frame: usize,
    tags: usize,
}

impl Start {
    /// Of the type field.
    const fn ether_type(self) -> usize {
        self.frame + 12 + 4 * self.tags
    }

    /// Of what is behind the Ethernet header.
    const fn payload(self) -> usize {
        self.ether_type() + 2
    }
}

impl Expr {
    pub(super) fn matches(&self, packet: Packet<'_>) -> Option<bool> {
        Some(match self {
            Self::And(left, right) => left.matches(packet)? && right.matches(packet)?,
            Self::Or(left, right) => left.matches(packet)? || right.matches(packet)?,
            Self::Not(inner) => !inner.matches(packet)?,
            Self::Test(layer, test) => match packet.start(*layer)? {
                Some(start) => packet.test(start, test)?,
                None => false,
            },
        })
    }
}

impl<'a> Packet<'a> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    fn byte(self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn short(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn word(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    /// Word by word, as libpcap does (`gen_hostop6`): where a word differs, it does not matter that
    /// the packet ends behind it.
    fn is_address6(self, at: usize, addr: u128, mask: u128) -> Option<bool> {
        let (addr, mask) = (addr.to_be_bytes(), mask.to_be_bytes());
        let words = addr.chunks_exact(4).zip(mask.chunks_exact(4));
        for (number, (addr, mask)) in words.enumerate() {
            let word: [u8; 4] = self.array(at + 4 * number)?;
            let mut bytes = word.iter().zip(addr).zip(mask);
            if bytes.any(|((byte, addr), mask)| byte & mask != *addr) {
                return Some(false);
            }
        }
        Some(true)
    }

    fn is_type(self, start: Start, ether_type: u16) -> Option<bool> {
        Some(self.short(start.ether_type())? == ether_type)
    }

    /// Where the frame of this layer starts; inner `None`: there is no such tunnel in the packet.
    fn start(self, layer: Layer) -> Option<Option<Start>> {
        let mut start = Start {
            frame: 0,
            tags: layer.tags[0].into(),
        };
        for tags in layer.tags.iter().skip(1).take(layer.tunnels) {
            let Some(header) = self.vxlan_header(start)? else {
                return Some(None);
            };
            start = Start {
                frame: header + vxlan::HEADER_LEN,
                tags: (*tags).into(),
            };
        }
        Some(Some(start))
    }

    /// Where the VXLAN header is, if there is one.
    fn vxlan_header(self, start: Start) -> Option<Option<usize>> {
        let is_vxlan = |port| self.vxlan_ports.contains(&port);
        for family in [Family::V4, Family::V6] {
            if let Some(udp) = self.transport(start, family, &[UDP])? {
                let header = udp + 8;
                let is_there =
                    is_vxlan(self.short(udp + 2)?) && self.byte(header)? & VALID_VNI != 0;
                return Some(is_there.then_some(header));
            }
        }
        Some(None)
    }

    /// Where the header behind IP is, if IP has one of these protocols, and ports can be there.
    fn transport(self, start: Start, family: Family, protocols: &[u8]) -> Option<Option<usize>> {
        let ip = start.payload();
        if family != Family::V6 && self.is_type(start, IPV4)? {
            let is_first = protocols.contains(&self.byte(ip + 9)?)
                && self.short(ip + 6)? & FRAGMENT_OFFSET == 0;
            return Some(if is_first {
                Some(ip + self.header_len(ip)?)
            } else {
                None
            });
        }
        if family != Family::V4 && self.is_type(start, IPV6)? {
            let is_next = protocols.contains(&self.byte(ip + 6)?);
            return Some(is_next.then_some(ip + 40));
        }
        Some(None)
    }

    fn header_len(self, ip: usize) -> Option<usize> {
        Some(4 * usize::from(self.byte(ip)? & 0x0f))
    }

    fn test(self, start: Start, test: &Test) -> Option<bool> {
        let ip = start.payload();
        Some(match test {
            Test::EtherType(ether_type) => self.is_type(start, *ether_type)?,
            Test::IpProto(family, protocol) => self.is_protocol(start, *family, *protocol)?,
            Test::Host {
                types,
                dir,
                addr,
                mask,
            } => {
                for &ether_type in *types {
                    if self.is_type(start, ether_type)? {
                        // Behind ARP's hardware address (RFC 826), or in the IPv4 header.
                        let (src, dst) = match ether_type {
                            IPV4 => (ip + 12, ip + 16),
                            _ => (ip + 14, ip + 24),
                        };
                        return dir.holds(src, dst, |at| Some(self.word(at)? & mask == *addr));
                    }
                }
                false
            }
            Test::Host6 { dir, addr, mask } => {
                self.is_type(start, IPV6)?
                    && dir.holds(ip + 8, ip + 24, |at| self.is_address6(at, *addr, *mask))?
            }
            Test::Ether(dir, mac) => dir.holds(start.frame + 6, start.frame, |at| {
                Some(self.array(at)? == mac.octets())
            })?,
            Test::Port {
                family,
                protocols,
                dir,
                ports,
            } => match self.transport(start, *family, protocols)? {
                Some(at) => dir.holds(at, at + 2, |at| Some(ports.contains(&self.short(at)?)))?,
                None => false,
            },
            Test::Vlan(id) => {
                TAGS.contains(&self.short(start.ether_type())?)
                    && match id {
                        Some(id) => self.short(ip)? & 0x0fff == *id,
                        None => true,
                    }
            }
            Test::Vxlan(vni) => match (self.vxlan_header(start)?, vni) {
                (Some(header), Some(vni)) => self.word(header + 4)? >> 8 == *vni,
                (header, None) => header.is_some(),
                (None, _) => false,
            },
            Test::EtherGroup => self.byte(start.frame)? & 1 != 0,
            Test::Ip4Group => self.is_type(start, IPV4)? && self.byte(ip + 16)? >= 224,
            Test::Ip6Group => self.is_type(start, IPV6)? && self.byte(ip + 24)? == 255,
            Test::Compare(left, relation, right) => self.compare(left, *relation, right)?,
        })
    }

    fn is_protocol(self, start: Start, family: Family, protocol: u8) -> Option<bool> {
        let ip = start.payload();
        if family != Family::V6 && self.is_type(start, IPV4)? {
            return Some(self.byte(ip + 9)? == protocol);
        }
        if family != Family::V4 && self.is_type(start, IPV6)? {
            // Also behind a fragment header, but no other, as libpcap has it.
            let next = self.byte(ip + 6)?;
            return Some(next == protocol || next == FRAGMENT && self.byte(ip + 40)? == protocol);
        }
        Some(false)
    }

    fn compare(self, left: &Arith, relation: Relation, right: &Arith) -> Option<bool> {
        // What is not of the protocol is not meant, and `not` turns that around.
        if !(self.has(left)? && self.has(right)?) {
            return Some(false);
        }
        let (left, right) = (self.value(left)?, self.value(right)?);
        Some(match relation {
            Relation::Equal => left == right,
            Relation::NotEqual => left != right,
            Relation::Less => left < right,
            Relation::LessOrEqual => left <= right,
            Relation::Greater => left > right,
            Relation::GreaterOrEqual => left >= right,
        })
    }

    /// Whether the headers are there that a number is made of.
    fn has(self, arith: &Arith) -> Option<bool> {
        Some(match arith {
            Arith::Number(_) | Arith::Len => true,
            Arith::Load(layer, header, offset, _) => {
                self.has(offset)?
                    && match self.start(*layer)? {
                        Some(start) => self.header(start, *header)?.is_some(),
                        None => false,
                    }
            }
            Arith::Negated(inner) => self.has(inner)?,
            Arith::Two(left, _, right) => self.has(left)? && self.has(right)?,
        })
    }

    /// Where a header starts, if the packet has it.
    fn header(self, start: Start, header: Header) -> Option<Option<usize>> {
        let ip = start.payload();
        Some(match header {
            Header::Ether => Some(start.frame),
            Header::Network(ether_type) => self.is_type(start, ether_type)?.then_some(ip),
            Header::Transport(protocol) => self.transport(start, Family::V4, &[protocol])?,
            Header::Icmp6 => self.transport(start, Family::V6, &[ICMP6])?,
        })
    }

    fn value(self, arith: &Arith) -> Option<u32> {
        Some(match arith {
            Arith::Number(number) => *number,
            Arith::Len => u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
            Arith::Load(layer, header, offset, size) => {
                let offset = usize::try_from(self.value(offset)?).ok()?;
                let at = self.header(self.start(*layer)??, *header)??;
                let at = at.checked_add(offset)?;
                match size {
                    1 => self.byte(at)?.into(),
                    2 => self.short(at)?.into(),
                    _ => self.word(at)?,
                }
            }
            Arith::Negated(inner) => self.value(inner)?.wrapping_neg(),
            Arith::Two(left, operator, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                match operator {
                    Operator::Add => left.wrapping_add(right),
                    Operator::Subtract => left.wrapping_sub(right),
                    Operator::Multiply => left.wrapping_mul(right),
                    Operator::Divide => left.checked_div(right)?,
                    Operator::And => left & right,
                    Operator::Or => left | right,
                    Operator::ShiftLeft => left.checked_shl(right).unwrap_or(0),
                    Operator::ShiftRight => left.checked_shr(right).unwrap_or(0),
                }
            }
        })
    }
}

impl Dir {
    /// Whether `is_it` holds for the field at `src`, the one at `dst`, either or both.
    fn holds(self, src: usize, dst: usize, is_it: impl Fn(usize) -> Option<bool>) -> Option<bool> {
        Some(match self {
            Self::Src => is_it(src)?,
            Self::Dst => is_it(dst)?,
            Self::Either => is_it(src)? || is_it(dst)?,
            Self::Both => is_it(src)? && is_it(dst)?,
        })
    }
}

/// EtherTypes (IEEE 802 numbers).
pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const RARP: u16 = 0x8035;
pub(super) const IPV6: u16 = 0x86dd;
/// What `vlan` takes for a tag: 802.1Q, 802.1ad, and the older 0x9100.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// IP protocols (IANA).
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP6: u8 = 58;
pub(super) const SCTP: u8 = 132;
const FRAGMENT: u8 = 44;
/// The fragment offset in the IPv4 header (RFC 791 §3.1).
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// The I flag of the VXLAN header (RFC 7348 §5).
const VALID_VNI: u8 = 0x08;
