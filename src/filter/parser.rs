//! Words and signs to an expression.

use super::{
    eval::{ARP, Dir, Expr, Family, ICMP, ICMP6, IPV4, IPV6, Layer, RARP, SCTP, TCP, Test, UDP},
    lexer::{Fault, Token, tokens},
};

mod address;
mod number;

use self::address::Qualifiers;

/// Reads a whole filter; `None` if there is nothing in it.
pub(super) fn parse(text: &str) -> Result<Option<Expr>, Fault> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser {
        end: text.len(),
        tokens,
        at: 0,
        layer: Layer::default(),
        last: None,
        depth: 0,
    };
    let expr = parser.chain()?;
    match parser.peek() {
        None => Ok(Some(expr)),
        Some(_) => Err(parser.expected("and, or, or the end")),
    }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    /// Bytes of the text.
    end: usize,
    at: usize,
    /// What `vlan` and `vxlan` have moved the view to.
    layer: Layer,
    /// What an address or a number without words in front refers to: `port 80 or 443`.
    last: Option<Qualifiers>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<&'a str> {
        self.tokens.get(self.at + ahead).map(|token| token.text)
    }

    fn take(&mut self, wanted: &[&str]) -> Option<&'a str> {
        let text = self.peek().filter(|text| wanted.contains(text))?;
        self.at += 1;
        Some(text)
    }

    fn need(&mut self, wanted: &str) -> Result<(), Fault> {
        match self.take(&[wanted]) {
            Some(_) => Ok(()),
            None => Err(self.expected(wanted)),
        }
    }

    /// That something else should be where the next word is.
    fn expected(&self, what: &str) -> Fault {
        let found = match self.peek() {
            Some(text) => format!("found {text:?}"),
            None => "found the end".to_owned(),
        };
        self.fault(format!("expected {what}, {found}"))
    }

    /// What is wrong with the next word.
    fn fault(&self, message: impl Into<String>) -> Fault {
        let at = self.tokens.get(self.at).map_or(self.end, |token| token.at);
        Fault {
            at,
            message: message.into(),
        }
    }

    /// What is wrong with the last word.
    fn fault_before(&self, message: impl Into<String>) -> Fault {
        let last = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        Fault {
            at: last.map_or(0, |token| token.at),
            message: message.into(),
        }
    }

    /// Terms with `and` and `or` between them, which bind equally, from left to right.
    fn chain(&mut self) -> Result<Expr, Fault> {
        let mut left = self.term()?;
        while let Some(joint) = self.take(&["and", "&&", "or", "||"]) {
            let right = self.term()?;
            let (left_box, right) = (Box::new(left), Box::new(right));
            left = match joint {
                "and" | "&&" => Expr::And(left_box, right),
                _ => Expr::Or(left_box, right),
            };
        }
        Ok(left)
    }

    fn term(&mut self) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fault(format!("nested more than {DEEPEST} deep")));
        }
        let term = self.shallow_term();
        self.depth -= 1;
        term
    }

    fn shallow_term(&mut self) -> Result<Expr, Fault> {
        if self.take(&["not", "!"]).is_some() {
            return Ok(Expr::Not(Box::new(self.term()?)));
        }
        if self.may_be_comparison() {
            let (at, depth) = (self.at, self.depth);
            let is_open = self.peek() == Some("(") || self.is_value();
            match self.comparison() {
                Err(_) if is_open => {}
                // Nothing else starts like this.
                result => return result,
            }
            (self.at, self.depth) = (at, depth);
        }
        if self.take(&["("]).is_some() {
            let inner = self.chain()?;
            self.need(")")?;
            return Ok(inner);
        }
        if self.is_value() {
            // Without words: as the last one, or a host.
            let qualifiers = self.last.unwrap_or_default();
            return self.value(qualifiers);
        }
        self.primitive()
    }

    /// Whether an address or a number is next, and no word of the language.
    fn is_value(&self) -> bool {
        let is_value = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_digit() || c == ':') || text.contains(':')
        };
        self.peek().is_some_and(is_value)
    }

    fn primitive(&mut self) -> Result<Expr, Fault> {
        let Some(first) = self.peek() else {
            return Err(self.expected(PRIMITIVES));
        };
        match first {
            "less" | "greater" => {
                self.at += 1;
                return self.length(first);
            }
            "vlan" => {
                self.at += 1;
                return self.vlan();
            }
            "vxlan" => {
                self.at += 1;
                return self.vxlan();
            }
            "broadcast" => {
                self.at += 1;
                return Ok(self.test(Test::Ether(Dir::Dst, BROADCAST)));
            }
            "multicast" => {
                self.at += 1;
                return Ok(self.test(Test::EtherGroup));
            }
            _ => {}
        }
        let wanted = if first == "link" { "ether" } else { first };
        let protocol = PROTOCOLS.iter().find(|(name, _)| *name == wanted).copied();
        if protocol.is_some() {
            self.at += 1;
        }
        if let Some((name @ ("ether" | "ip" | "ip6"), _)) = protocol
            && let Some(word) = self.take(&["broadcast", "multicast"])
        {
            return self.group(name, word);
        }
        let dir = self.direction()?;
        let kind = self.take(&["host", "net", "port", "portrange", "proto"]);
        if dir.is_none() && kind.is_none() {
            return match protocol {
                Some((_, Some(test))) => Ok(self.test(test.into())),
                Some((name, None)) => Err(self.expected(&format!(
                    "host, src, dst, proto, broadcast or multicast after {name}"
                ))),
                None if UNKNOWN.contains(&first) => {
                    Err(self.fault(format!("{first:?} of libpcap is not known here")))
                }
                None => Err(self.expected(PRIMITIVES)),
            };
        }
        let qualifiers = Qualifiers::new(protocol.map(|(name, _)| name), dir, kind);
        if self.take(&["("]).is_none() {
            return self.value(qualifiers);
        }
        // port (80 or 443)
        let mut any = self.value(qualifiers)?;
        while let Some(joint) = self.take(&["and", "&&", "or", "||"]) {
            let next = Box::new(self.value(qualifiers)?);
            any = match joint {
                "and" | "&&" => Expr::And(Box::new(any), next),
                _ => Expr::Or(Box::new(any), next),
            };
        }
        self.need(")")?;
        Ok(any)
    }

    /// `src`, `dst`, or both with a word between.
    fn direction(&mut self) -> Result<Option<Dir>, Fault> {
        let Some(first) = self.take(&["src", "dst"]) else {
            return Ok(None);
        };
        let other = if first == "src" { "dst" } else { "src" };
        if self.peek_at(1) == Some(other)
            && let Some(joint) = self.take(&["or", "and", "||", "&&"])
        {
            self.need(other)?;
            return Ok(Some(match joint {
                "or" | "||" => Dir::Either,
                _ => Dir::Both,
            }));
        }
        Ok(Some(if first == "src" { Dir::Src } else { Dir::Dst }))
    }

    fn group(&self, protocol: &str, word: &str) -> Result<Expr, Fault> {
        let test = match (protocol, word) {
            ("ether", "broadcast") => Test::Ether(Dir::Dst, BROADCAST),
            ("ether", _) => Test::EtherGroup,
            ("ip", "multicast") => Test::Ip4Group,
            ("ip6", "multicast") => Test::Ip6Group,
            _ => {
                let text =
                    "which addresses are broadcasts depends on netmasks; use ether broadcast";
                return Err(self.fault_before(text));
            }
        };
        Ok(self.test(test))
    }

    fn vlan(&mut self) -> Result<Expr, Fault> {
        let id = self.optional_number(4095, "a VLAN id")?;
        let id = id.and_then(|id| u16::try_from(id).ok());
        let test = self.test(Test::Vlan(id));
        self.layer = self.layer.tagged();
        Ok(test)
    }

    fn vxlan(&mut self) -> Result<Expr, Fault> {
        let vni = self.optional_number(0xff_ffff, "a VNI")?;
        let test = self.test(Test::Vxlan(vni));
        let Some(layer) = self.layer.tunnelled() else {
            let most = Layer::DEEPEST;
            return Err(self.fault_before(format!("at most {most} tunnels in each other")));
        };
        self.layer = layer;
        Ok(test)
    }

    fn test(&self, test: Test) -> Expr {
        Expr::Test(self.layer, test)
    }
}

/// What a word for a protocol means by itself.
#[derive(Clone, Copy)]
enum Protocol {
    EtherType(u16),
    Ip(Family, u8),
}

impl From<Protocol> for Test {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::EtherType(number) => Self::EtherType(number),
            Protocol::Ip(family, number) => Self::IpProto(family, number),
        }
    }
}

const BROADCAST: crate::wire::MacAddr = crate::wire::MacAddr::BROADCAST;

/// Words for protocols; without a meaning by itself: ether, which may be called link.
const PROTOCOLS: [(&str, Option<Protocol>); 13] = [
    ("ether", None),
    ("ip", Some(Protocol::EtherType(IPV4))),
    ("ip6", Some(Protocol::EtherType(IPV6))),
    ("arp", Some(Protocol::EtherType(ARP))),
    ("rarp", Some(Protocol::EtherType(RARP))),
    ("tcp", Some(Protocol::Ip(Family::Any, TCP))),
    ("udp", Some(Protocol::Ip(Family::Any, UDP))),
    ("sctp", Some(Protocol::Ip(Family::Any, SCTP))),
    ("icmp", Some(Protocol::Ip(Family::V4, ICMP))),
    ("icmp6", Some(Protocol::Ip(Family::V6, ICMP6))),
    ("igmp", Some(Protocol::Ip(Family::V4, 2))),
    ("esp", Some(Protocol::Ip(Family::Any, 50))),
    ("ah", Some(Protocol::Ip(Family::Any, 51))),
];

/// Words of libpcap that somebody may try.
const UNKNOWN: [&str; 16] = [
    "gateway",
    "protochain",
    "mpls",
    "pppoed",
    "pppoes",
    "geneve",
    "iso",
    "stp",
    "ipx",
    "netbeui",
    "decnet",
    "atalk",
    "inbound",
    "outbound",
    "ifname",
    "vrrp",
];

const PRIMITIVES: &str = "a primitive such as host, net, port, ether, arp, ip, ip6, icmp, tcp, \
                          udp, vlan, vxlan, broadcast, multicast, less or greater";

/// Parentheses and `not`s in each other.
const DEEPEST: usize = 64;
