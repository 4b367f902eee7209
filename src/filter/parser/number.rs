//! Numbers, and comparisons of them.

use super::Parser;
use crate::filter::{
    eval::{
        ARP, Arith, Expr, Header, ICMP, IPV4, IPV6, Operator, RARP, Relation, SCTP, TCP, Test, UDP,
    },
    lexer::Fault,
};

impl Parser<'_> {
    /// `less N` and `greater N`, which both include N.
    pub(super) fn length(&mut self, word: &str) -> Result<Expr, Fault> {
        let bytes = self.number_up_to(u32::MAX, "a number of bytes")?;
        let relation = match word {
            "less" => Relation::LessOrEqual,
            _ => Relation::GreaterOrEqual,
        };
        Ok(self.test(Test::Compare(Arith::Len, relation, Arith::Number(bytes))))
    }

    pub(super) fn optional_number(&mut self, most: u32, what: &str) -> Result<Option<u32>, Fault> {
        let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        if !self.peek().is_some_and(is_number) {
            return Ok(None);
        }
        self.number_up_to(most, what).map(Some)
    }

    pub(super) fn number_up_to(&mut self, most: u32, what: &str) -> Result<u32, Fault> {
        let Some(number) = self.peek().and_then(number) else {
            return Err(self.expected(what));
        };
        if number > most {
            return Err(self.fault(format!(
                "{number} is no {}, which is at most {most}",
                bare(what)
            )));
        }
        self.at += 1;
        Ok(number)
    }

    /// Whether what follows could be a number.
    pub(super) fn may_be_comparison(&self) -> bool {
        let Some(text) = self.peek() else {
            return false;
        };
        let is_header = header(text).is_some() && self.peek_at(1) == Some("[");
        is_header
            || matches!(text, "(" | "-" | "len")
            || constant(text).is_some()
            || number(text).is_some()
    }

    pub(super) fn comparison(&mut self) -> Result<Expr, Fault> {
        let left = self.arith(0)?;
        let Some(sign) = self.take(&["=", "==", "!=", "<", "<=", ">", ">="]) else {
            return Err(self.expected("a comparison such as = or !="));
        };
        let relation = match sign {
            "!=" => Relation::NotEqual,
            "<" => Relation::Less,
            "<=" => Relation::LessOrEqual,
            ">" => Relation::Greater,
            ">=" => Relation::GreaterOrEqual,
            _ => Relation::Equal,
        };
        let right = self.arith(0)?;
        Ok(self.test(Test::Compare(left, relation, right)))
    }

    /// Operators that bind at least as tightly as `level`.
    fn arith(&mut self, level: usize) -> Result<Arith, Fault> {
        let Some(operators) = LEVELS.get(level) else {
            return self.operand();
        };
        let mut left = self.arith(level + 1)?;
        loop {
            let next = operators.iter().find(|(sign, _)| self.peek() == Some(sign));
            let Some(&(_, operator)) = next else {
                return Ok(left);
            };
            self.at += 1;
            let right = self.arith(level + 1)?;
            if operator == Operator::Divide && matches!(right, Arith::Number(0)) {
                return Err(self.fault_before("nothing can be divided by 0"));
            }
            left = Arith::Two(Box::new(left), operator, Box::new(right));
        }
    }

    fn operand(&mut self) -> Result<Arith, Fault> {
        self.depth += 1;
        if self.depth > super::DEEPEST {
            return Err(self.fault(format!("nested more than {} deep", super::DEEPEST)));
        }
        let operand = self.shallow_operand();
        self.depth -= 1;
        operand
    }

    fn shallow_operand(&mut self) -> Result<Arith, Fault> {
        if self.take(&["-"]).is_some() {
            return Ok(Arith::Negated(Box::new(self.operand()?)));
        }
        if self.take(&["("]).is_some() {
            let inner = self.arith(0)?;
            self.need(")")?;
            return Ok(inner);
        }
        if self.take(&["len"]).is_some() {
            return Ok(Arith::Len);
        }
        let Some(text) = self.peek() else {
            return Err(self.expected("a number"));
        };
        if let Some(number) = number(text).or_else(|| constant(text)) {
            self.at += 1;
            return Ok(Arith::Number(number));
        }
        let Some(header) = header(text) else {
            return Err(self.expected("a number, len, or bytes of a header such as ip[8]"));
        };
        self.at += 1;
        self.need("[")?;
        let offset = self.arith(0)?;
        let size = match self.take(&[":"]) {
            None => 1,
            Some(_) => match self.take(&["1", "2", "4"]) {
                Some("2") => 2,
                Some("4") => 4,
                Some(_) => 1,
                None => return Err(self.expected("1, 2 or 4 bytes")),
            },
        };
        self.need("]")?;
        Ok(Arith::Load(self.layer, header, Box::new(offset), size))
    }
}

/// `a port` to `port`.
fn bare(what: &str) -> &str {
    let what = what.split(" such as ").next().unwrap_or(what);
    what.split_once(' ').map_or(what, |(_, what)| what)
}

/// A number: decimal, with 0x in front hexadecimal, with 0 in front octal.
fn number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

fn header(text: &str) -> Option<Header> {
    Some(match text {
        "ether" | "link" => Header::Ether,
        "ip" => Header::Network(IPV4),
        "ip6" => Header::Network(IPV6),
        "arp" => Header::Network(ARP),
        "rarp" => Header::Network(RARP),
        "tcp" => Header::Transport(TCP),
        "udp" => Header::Transport(UDP),
        "sctp" => Header::Transport(SCTP),
        "icmp" => Header::Transport(ICMP),
        "icmp6" => Header::Icmp6,
        _ => return None,
    })
}

/// Offsets and values that have a name (`pcap-filter(7)`).
fn constant(text: &str) -> Option<u32> {
    let found = CONSTANTS.iter().find(|(name, _)| *name == text);
    found.map(|&(_, value)| value)
}

/// Operators, from those that bind least.
const LEVELS: [&[(&str, Operator)]; 5] = [
    &[("|", Operator::Or)],
    &[("&", Operator::And)],
    &[("<<", Operator::ShiftLeft), (">>", Operator::ShiftRight)],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide)],
];

const CONSTANTS: [(&str, u32); 28] = [
    ("tcpflags", 13),
    ("tcp-fin", 0x01),
    ("tcp-syn", 0x02),
    ("tcp-rst", 0x04),
    ("tcp-push", 0x08),
    ("tcp-ack", 0x10),
    ("tcp-urg", 0x20),
    ("tcp-ece", 0x40),
    ("tcp-cwr", 0x80),
    ("icmptype", 0),
    ("icmpcode", 1),
    ("icmp-echoreply", 0),
    ("icmp-unreach", 3),
    ("icmp-redirect", 5),
    ("icmp-echo", 8),
    ("icmp-timxceed", 11),
    ("icmp-paramprob", 12),
    ("icmp6type", 0),
    ("icmp6code", 1),
    ("icmp6-destinationunreach", 1),
    ("icmp6-packettoobig", 2),
    ("icmp6-timeexceeded", 3),
    ("icmp6-echo", 128),
    ("icmp6-echoreply", 129),
    ("icmp6-routersolicit", 133),
    ("icmp6-routeradvert", 134),
    ("icmp6-neighborsolicit", 135),
    ("icmp6-neighboradvert", 136),
];
