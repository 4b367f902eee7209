//! What `host`, `net`, `port` and `proto` are about.

use std::net::Ipv6Addr;

use super::{PROTOCOLS, Parser, Protocol};
use crate::{
    filter::{
        eval::{ARP, Dir, Expr, Family, IPV4, RARP, SCTP, TCP, Test, UDP},
        lexer::Fault,
    },
    wire::MacAddr,
};

/// The words in front of an address or a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Qualifiers {
    /// Of [`PROTOCOLS`].
    protocol: Option<&'static str>,
    dir: Dir,
    is_directed: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

impl Default for Qualifiers {
    fn default() -> Self {
        Self::new(None, None, None)
    }
}

impl Qualifiers {
    pub(super) fn new(
        protocol: Option<&'static str>,
        dir: Option<Dir>,
        kind: Option<&str>,
    ) -> Self {
        Self {
            protocol,
            dir: dir.unwrap_or(Dir::Either),
            is_directed: dir.is_some(),
            kind: match kind {
                Some("net") => Kind::Net,
                Some("port") => Kind::Port,
                Some("portrange") => Kind::PortRange,
                Some("proto") => Kind::Proto,
                _ => Kind::Host,
            },
        }
    }
}

impl Parser<'_> {
    /// An address, a network, a port, or a protocol's number.
    pub(super) fn value(&mut self, qualifiers: Qualifiers) -> Result<Expr, Fault> {
        let Qualifiers { protocol, dir, .. } = qualifiers;
        let test = match qualifiers.kind {
            Kind::Host | Kind::Net if protocol == Some("ether") => self.ether(qualifiers)?,
            Kind::Host | Kind::Net => self.address(qualifiers)?,
            Kind::Port | Kind::PortRange => {
                let protocols = match protocol {
                    None => &[TCP, UDP, SCTP][..],
                    Some("tcp") => &[TCP],
                    Some("udp") => &[UDP],
                    Some("sctp") => &[SCTP],
                    Some(other) => {
                        let text =
                            format!("{other} has no ports; write tcp, udp or sctp, or nothing");
                        return Err(self.fault(text));
                    }
                };
                let from = self.port()?;
                let is_range = qualifiers.kind == Kind::PortRange && self.take(&["-"]).is_some();
                let to = if is_range { self.port()? } else { from };
                Test::Port {
                    family: Family::Any,
                    protocols,
                    dir,
                    ports: from.min(to)..=from.max(to),
                }
            }
            Kind::Proto => self.protocol_number(qualifiers)?,
        };
        self.last = Some(qualifiers);
        Ok(self.test(test))
    }

    fn ether(&mut self, Qualifiers { dir, kind, .. }: Qualifiers) -> Result<Test, Fault> {
        if kind == Kind::Net {
            return Err(self.fault("ether has no nets; write ether host"));
        }
        match self.peek().map(str::parse::<MacAddr>) {
            Some(Ok(mac)) => {
                self.at += 1;
                Ok(Test::Ether(dir, mac))
            }
            _ => Err(self.expected("a MAC address such as 02:00:00:00:00:01")),
        }
    }

    fn address(
        &mut self,
        Qualifiers {
            protocol,
            dir,
            kind,
            ..
        }: Qualifiers,
    ) -> Result<Test, Fault> {
        let what = match kind {
            Kind::Net => "a network such as 10.1.0.0/16 or fd00::/64",
            _ => "an IP address",
        };
        let Some(text) = self.peek() else {
            return Err(self.expected(what));
        };
        if text.parse::<MacAddr>().is_ok() {
            return Err(self.fault("a MAC address needs ether host, ether src or ether dst"));
        }
        let is_v6 = text.contains(':');
        let types: &'static [u16] = match protocol {
            None => &[IPV4, ARP, RARP],
            Some("ip") => &[IPV4],
            Some("arp") => &[ARP],
            Some("rarp") => &[RARP],
            Some("ip6") => &[],
            Some(other) => {
                let text = format!("{other} has no addresses; write ip, ip6 or arp, or nothing");
                return Err(self.fault(text));
            }
        };
        if is_v6 && !matches!(protocol, None | Some("ip6")) {
            return Err(self.fault(format!("{text} is an IPv6 address; write ip6, or nothing")));
        }
        if !is_v6 && protocol == Some("ip6") {
            return Err(self.expected("an IPv6 address"));
        }
        if is_v6 {
            let addr = text.parse::<Ipv6Addr>().map_err(|_| self.expected(what))?;
            self.at += 1;
            let prefix = self.prefix(kind, 128, 128)?;
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            let addr = u128::from(addr);
            return match addr & !mask {
                0 => Ok(Test::Host6 { dir, addr, mask }),
                _ => Err(self.host_bits()),
            };
        }
        let Some((addr, octets)) = dotted(text) else {
            let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic());
            return Err(if is_name {
                self.fault(format!(
                    "expected {what}, found {text:?}; names are not looked up"
                ))
            } else {
                self.expected(what)
            });
        };
        if kind != Kind::Net && octets < 4 {
            return Err(self.fault(format!(
                "{text} is no whole address; write net {text}, or all of it"
            )));
        }
        self.at += 1;
        let mask = match self.take(&["mask"]) {
            Some(_) => {
                let mask = self
                    .peek()
                    .and_then(dotted)
                    .filter(|&(_, octets)| octets == 4);
                let (mask, _) = mask.ok_or_else(|| self.expected("a mask such as 255.255.0.0"))?;
                self.at += 1;
                mask
            }
            None => {
                let prefix = self.prefix(kind, 32, 8 * octets)?;
                u32::MAX.checked_shl(32 - prefix).unwrap_or(0)
            }
        };
        match addr & !mask {
            0 => Ok(Test::Host {
                types,
                dir,
                addr,
                mask,
            }),
            _ => Err(self.host_bits()),
        }
    }

    fn host_bits(&self) -> Fault {
        self.fault_before("the address has bits set that are not of the network")
    }

    /// The length behind a slash, if there is one.
    fn prefix(&mut self, kind: Kind, most: u32, implied: u32) -> Result<u32, Fault> {
        if self.take(&["/"]).is_none() {
            return Ok(implied);
        }
        if kind != Kind::Net {
            return Err(self.fault_before("a prefix length makes it a network; write net"));
        }
        self.number_up_to(most, "a prefix length")
    }

    fn port(&mut self) -> Result<u16, Fault> {
        let is_name = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
        if self.peek().is_some_and(is_name) {
            let what = "a port number; names of services are not looked up";
            return Err(self.expected(what));
        }
        let port = self.number_up_to(u16::MAX.into(), "a port")?;
        Ok(u16::try_from(port).unwrap_or(u16::MAX))
    }

    fn protocol_number(&mut self, qualifiers: Qualifiers) -> Result<Test, Fault> {
        let Qualifiers { protocol, .. } = qualifiers;
        if qualifiers.is_directed {
            return Err(self.fault_before("a protocol has no source or destination"));
        }
        let named = self.peek().and_then(|text| {
            let found = PROTOCOLS.iter().find(|(name, _)| *name == text)?;
            found.1
        });
        let family = match protocol {
            None => Family::Any,
            Some("ip") => Family::V4,
            Some("ip6") => Family::V6,
            Some("ether") => {
                if let Some(Protocol::EtherType(number)) = named {
                    self.at += 1;
                    return Ok(Test::EtherType(number));
                }
                let number = self.number_up_to(u16::MAX.into(), "an EtherType such as 0x88cc")?;
                return match u16::try_from(number) {
                    Ok(number) if number >= 0x600 => Ok(Test::EtherType(number)),
                    _ => Err(self.fault_before("an EtherType is 0x600 or more")),
                };
            }
            Some(other) => {
                let text = format!("{other} carries no protocols; write ether, ip or ip6");
                return Err(self.fault_before(text));
            }
        };
        let number = match named {
            Some(Protocol::Ip(_, number)) => {
                self.at += 1;
                number
            }
            _ => {
                let number = self.number_up_to(255, "an IP protocol such as 17 or udp")?;
                u8::try_from(number).unwrap_or(u8::MAX)
            }
        };
        Ok(Test::IpProto(family, number))
    }
}

/// One to four octets, as the upper ones of an address, and how many they are.
fn dotted(text: &str) -> Option<(u32, u32)> {
    let (mut addr, mut octets) = (0, 0);
    for part in text.split('.') {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let octet: u8 = part.parse().ok().filter(|_| is_number)?;
        if octets == 4 {
            return None;
        }
        addr = addr << 8 | u32::from(octet);
        octets += 1;
    }
    Some((addr.checked_shl(32 - 8 * octets)?, octets))
}
