//! Which frames: expressions in the language of tcpdump.
//!
//! A subset of `pcap-filter(7)` of libpcap, with its meaning, so that nobody has to learn another
//! language. `tests/filter.rs` holds it against `tcpdump -r` frame by frame.
//!
//! * `host`, `net`, `port`, `portrange`, each with `src`, `dst`, `src or dst`, `src and dst`, and with
//!   `ip`, `ip6`, `arp`, `rarp`, `tcp`, `udp`, `sctp` in front where that makes sense
//! * `ether host|src|dst MAC`, `ether proto N`, `ip proto N`, `ip6 proto N`, `proto N`
//! * `arp`, `rarp`, `ip`, `ip6`, `icmp`, `icmp6`, `tcp`, `udp`, `sctp`, `igmp`, `esp`, `ah`
//! * `vlan [ID]`, `broadcast`, `multicast`, `ip multicast`, `ip6 multicast`
//! * `less N`, `greater N`, and comparisons of numbers: `len > 100`, `ip[8] = 1`,
//!   `tcp[tcpflags] & tcp-syn != 0`
//! * `vxlan [VNI]`, which libpcap has in no release yet, and means as it does `geneve`
//! * `and`, `or`, `not` (`&&`, `||`, `!`) and parentheses. `and` and `or` bind equally, from left to
//!   right; `port 80 or 443` says `port` once
//!
//! As there, `vlan` and `vxlan` move the view: what stands behind them in the text is looked for
//! behind the tag, or in the inner frame. A frame that ends before what is asked for does not match,
//! whatever stands around the question, `not` included. Names of hosts and services are not looked
//! up: only the person who asks can know in which namespace they should be.
//!
//! ```
//! use tapswitch::{filter::Filter, sim::frames};
//!
//! let filter = Filter::parse("arp or (host 192.0.2.1 and udp dst port 2000)").unwrap();
//! assert!(filter.matches(&frames::arp_request(1, 2)));
//! assert!(filter.matches(&frames::udp4(1, 2, b"")));
//! assert!(!filter.matches(&frames::tcp4(1, 2, 0, b"")));
//! // Behind a tag it is something else, unless one asks for it there.
//! let tagged = frames::tagged(&frames::udp4(1, 2, b""), 10);
//! assert!(!filter.matches(&tagged));
//! assert!(Filter::parse("vlan 10 and udp").unwrap().matches(&tagged));
//!
//! let error = Filter::parse("host 192.0.2.1 adn arp").unwrap_err();
//! assert_eq!(error.column, 16);
//! ```

mod eval;
mod lexer;
mod parser;

use std::fmt;

use self::eval::{Expr, Packet};

/// A filter, ready to be held against frames.
#[derive(Clone, Debug)]
pub struct Filter {
    expr: Option<Expr>,
    vxlan_ports: [u16; 2],
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FilterError {
    /// The text.
    pub text: String,
    /// Where it goes wrong; the first character is number 1.
    pub column: usize,
    /// What was expected, and what is there.
    pub message: String,
}

impl Filter {
    /// Reads an expression. The empty one matches every frame.
    ///
    /// # Errors
    /// [`FilterError`] says where, and what was expected.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let expr = parser::parse(text).map_err(|error| FilterError {
            text: text.to_owned(),
            column: text.get(..error.at).map_or(0, |head| head.chars().count()) + 1,
            message: error.message,
        })?;
        Ok(Self {
            expr,
            vxlan_ports: [crate::vxlan::PORT; 2],
        })
    }

    /// With another UDP port that VXLAN is looked for at, beside 4789.
    #[must_use]
    pub fn with_vxlan_port(mut self, port: u16) -> Self {
        self.vxlan_ports[1] = port;
        self
    }

    /// Whether it is the empty one.
    pub fn matches_all(&self) -> bool {
        self.expr.is_none()
    }

    /// Whether `frame`, a whole Ethernet frame, is meant.
    pub fn matches(&self, frame: &[u8]) -> bool {
        let packet = Packet {
            bytes: frame,
            vxlan_ports: self.vxlan_ports,
        };
        self.expr
            .as_ref()
            .is_none_or(|expr| expr.matches(packet) == Some(true))
    }
}

impl fmt::Display for FilterError {
    /// The message, and below it the text with a mark where it goes wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            text,
            column,
            message,
        } = self;
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        writeln!(f, "read filter, column {column}: {message}")?;
        writeln!(f, "  {text}")?;
        write!(f, "  {:>column$}", '^')
    }
}
