//! What every byte of a frame means: layers, fields, and what is wrong with them.
//!
//! ```text
//! bytes --> Ethernet --> tags --> ARP
//!                             --> IPv4, IPv6 --> ICMP, TCP, UDP --> VXLAN --+
//!              ^                                                            |
//!              +------------------------------------------------------------+
//! ```
//! [`dissect()`] never fails: what cannot be read is a field of its own with a [`Problem`], and the
//! rest is bytes. A frame comes from anybody; nothing here indexes by a number of the frame without
//! a check, and [`MAX_LAYERS`] ends what would go round in circles.
//!
//! The forwarding path does not use this. It reads what it needs and no more.
//!
//! ```
//! use tapswitch::{dissect::{Options, ProblemKind, dissect}, sim::frames};
//!
//! let mut frame = frames::echo_request(1, 2, 7);
//! let all = dissect(&frame, &Options::default());
//! assert_eq!(all.summary, "icmp 192.0.2.1 > 192.0.2.2 echo request 7");
//! let layers: Vec<_> = all.layers.iter().map(|layer| (layer.title, layer.len)).collect();
//! assert_eq!(layers, [("Ethernet", 14), ("IPv4", 20), ("ICMP", 8), ("Payload", 4)]);
//! let ttl = all.layers[1].fields.iter().find(|field| field.name == "TTL").unwrap();
//! assert_eq!((ttl.offset, ttl.value.to_string()), (22, "64".to_owned()));
//!
//! // A router that forgets the checksum when it counts down.
//! frame[22] -= 1;
//! let problems: Vec<_> = dissect(&frame, &Options::default()).problems().cloned().collect();
//! assert_eq!(problems.len(), 1);
//! assert_eq!(problems[0].kind, ProblemKind::WrongChecksum);
//! ```

mod arp;
mod draft;
mod hex;
mod icmp;
mod icmpv6;
mod ipv4;
mod ipv6;
mod json;
mod link;
mod mtu;
mod names;
mod sum;
mod tcp;
mod udp;

#[cfg(test)]
mod tests;

use serde::{Serialize, Serializer};

use self::{
    draft::{Part, Walk},
    link::Family,
};
pub use self::{
    hex::{HexError, frames_from_text},
    json::{About, Arithmetic, FrameJson},
    mtu::{Fit, arithmetic},
};
use crate::wire::describe;

/// Layers of one frame; what comes behind is shown as bytes.
pub const MAX_LAYERS: usize = 64;

/// VXLAN headers of one frame; what comes behind is shown as bytes.
pub const MAX_TUNNELS: u8 = 4;

/// What the first byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// An IP packet if it is a whole one with a right checksum or length, else an Ethernet frame.
    #[default]
    Auto,
    /// An Ethernet header, without preamble.
    Ethernet,
    /// IPv4 or IPv6, told by the first four bits.
    Ip,
    /// ARP.
    Arp,
    /// A UDP header.
    Udp,
    /// A TCP header.
    Tcp,
    /// A VXLAN header, which is the payload of a UDP datagram.
    Vxlan,
    /// The pseudo header that Linux puts before packets of the device `any`, LINKTYPE_LINUX_SLL.
    Cooked,
    /// Its second version, LINKTYPE_LINUX_SLL2.
    Cooked2,
    /// The address family of BSD's loopback, LINKTYPE_NULL and LINKTYPE_LOOP.
    Loopback,
}

/// How to read a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Where it starts.
    pub start: Start,
    /// Bytes that the frame had and the capture left out.
    pub missing: usize,
    /// A UDP port, beside 4789 and 8472, that carries VXLAN.
    pub vxlan_port: Option<u16>,
}

/// All that can be said about a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dissection {
    /// In one line, as tcpdump would.
    pub summary: String,
    /// Outermost first. Together they cover the frame, in order and without a gap.
    pub layers: Vec<Layer>,
}

impl Dissection {
    /// What is remarkable, in order.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let fields = self.layers.iter().flat_map(|layer| &layer.fields);
        fields.flat_map(|field| &field.problems)
    }
}

/// A header, or what no header follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its protocol, for programs: `ethernet`, `vlan`, `arp`, `ipv4`, `udp`, `vxlan`, `payload`.
    pub protocol: &'static str,
    /// Its protocol, for people.
    pub title: &'static str,
    /// Where it starts.
    pub offset: usize,
    /// Its length.
    pub len: usize,
    /// VXLAN headers before it.
    pub tunnel: u8,
    /// Whether it is part of a packet that an ICMP message quotes.
    pub quoted: bool,
    /// In order.
    pub fields: Vec<Field>,
}

/// A number or an address in a header, or bytes without a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it starts, or the byte in which it starts.
    pub offset: usize,
    /// The bytes that it is in.
    pub len: usize,
    /// Which bits of these bytes, if not all.
    pub bits: Option<Bits>,
    /// What standards call it.
    pub name: &'static str,
    /// What it says.
    pub value: Value,
    /// What that means; may be empty.
    pub meaning: String,
    /// What is remarkable about it.
    pub problems: Vec<Problem>,
}

impl Field {
    /// The name for programs: `header length` is `header_length`.
    pub fn key(&self) -> String {
        self.name.to_lowercase().replace([' ', '-'], "_")
    }
}

/// Some bits of a few bytes, the first being the most significant of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bits {
    /// The first.
    pub first: u8,
    /// How many.
    pub len: u8,
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number that people write in decimal.
    Number(u64),
    /// One that they write in hexadecimal, with this many digits.
    Hex(u64, usize),
    /// An address, or the names of flags.
    Text(String),
    /// Only the bytes say it.
    Bytes,
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Hex(number, digits) => write!(f, "0x{number:0digits$x}"),
            Self::Text(text) => text.fmt(f),
            Self::Bytes => Ok(()),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Hex(..) | Self::Text(_) => serializer.collect_str(self),
            Self::Bytes => serializer.serialize_none(),
        }
    }
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// For programs.
    pub kind: ProblemKind,
    /// For people.
    pub text: String,
}

/// What can be remarkable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The frame ends inside of this.
    Truncated,
    /// The capture left bytes out.
    Cut,
    /// A length that does not agree with the frame.
    WrongLength,
    /// A checksum that does not agree with the bytes.
    WrongChecksum,
    /// Only the pseudo header is summed up: the sender leaves the rest to its network card.
    UnfinishedChecksum,
    /// The sender computed none.
    NoChecksum,
    /// Bytes behind the packet.
    Trailer,
    /// An address that cannot be where it is.
    BadAddress,
    /// Two addresses that should be the same, or belong together, are not.
    AddressMismatch,
    /// A bit that must be zero is set.
    ReservedBits,
    /// A flag that must be set is not, or flags that exclude each other are.
    BadFlags,
    /// A number that the standard does not allow here.
    BadValue,
    /// A list of options that cannot be read to its end.
    BadOption,
    /// More headers than are shown.
    TooDeep,
}

impl ProblemKind {
    /// Whether something is wrong, and not only worth knowing.
    pub const fn is_wrong(self) -> bool {
        !matches!(
            self,
            Self::Cut | Self::UnfinishedChecksum | Self::NoChecksum | Self::Trailer
        )
    }
}

/// Reads `frame`. Any bytes will do.
pub fn dissect(frame: &[u8], options: &Options) -> Dissection {
    let start = match options.start {
        Start::Auto if link::is_ip_packet(frame, options.missing) => Start::Ip,
        Start::Auto => Start::Ethernet,
        told => told,
    };
    let part = Part::of(frame);
    let mut walk = Walk::new(options);
    match start {
        Start::Auto | Start::Ethernet => link::ethernet(&mut walk, part),
        Start::Ip => link::ip(&mut walk, part),
        Start::Arp => arp::arp(&mut walk, part, None),
        Start::Udp => udp::udp(&mut walk, part, None),
        Start::Tcp => tcp::tcp(&mut walk, part, None),
        Start::Vxlan => udp::vxlan(&mut walk, part),
        Start::Cooked => link::cooked(&mut walk, part),
        Start::Cooked2 => link::cooked2(&mut walk, part),
        Start::Loopback => link::loopback(&mut walk, part),
    }
    let layers = walk.finish(frame.len());
    let summary = summary(frame, &layers);
    Dissection { summary, layers }
}

/// Tunnels from the outside in, then what is in the innermost.
fn summary(frame: &[u8], layers: &[Layer]) -> String {
    let mut text = String::new();
    let mut innermost = 0;
    let mut addresses = None;
    for (index, layer) in layers.iter().enumerate().filter(|(_, layer)| !layer.quoted) {
        let value = |name| {
            let field = layer.fields.iter().find(|field| field.name == name);
            field.map(|field| field.value.to_string())
        };
        match layer.protocol {
            "ipv4" | "ipv6" => addresses = value("source").zip(value("destination")),
            "vxlan" => {
                if let Some(vni) = value("VNI") {
                    text.push_str(&format!("vxlan {vni}"));
                    if let Some((src, dst)) = addresses.take() {
                        text.push_str(&format!(", {src} > {dst}"));
                    }
                    text.push_str(": ");
                    innermost = index + 1;
                }
            }
            _ => {}
        }
    }
    let rest = layers.get(innermost..).unwrap_or_default();
    text + &innermost_summary(frame, rest)
}

fn innermost_summary(frame: &[u8], layers: &[Layer]) -> String {
    let Some(first) = layers.first() else {
        return "nothing inside".to_owned();
    };
    let bytes = frame.get(first.offset..).unwrap_or_default();
    // Whatever is before the packet is replaced with a header that `describe` knows.
    let net = layers.iter().find_map(|layer| {
        let family = Family::of_protocol(layer.protocol)?;
        Some((family, frame.get(layer.offset..)?))
    });
    match (first.protocol, net) {
        ("ethernet" | "802.3", _) => describe(bytes),
        (_, Some((family, packet))) => {
            let mut whole = vec![0; 12];
            whole.extend(family.ether_type().0.to_be_bytes());
            whole.extend(packet);
            describe(&whole)
        }
        ("udp" | "tcp", None) => {
            let port = |at: usize| first.fields.get(at).map(|field| field.value.to_string());
            let [src, dst] = [0, 1].map(|at| port(at).unwrap_or_default());
            format!("{} {src} > {dst}", first.protocol)
        }
        _ => format!("{}, {} bytes", first.title, bytes.len()),
    }
}
