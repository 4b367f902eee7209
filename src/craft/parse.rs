//! From words to a [`Packet`].

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use super::{Checksum, Kind, Packet, TcpFlags};

/// Why words are no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct ParseError {
    /// Where, counted in characters from 1.
    pub column: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

/// Reads a packet.
///
/// # Errors
/// A [`ParseError`] at the first word that makes no sense.
pub fn parse(text: &str) -> Result<Packet, ParseError> {
    let mut words = Words::of(text);
    let (column, kind) = words.expect("arp, nd, icmp, icmp6, udp or tcp")?;
    let packet = match kind.as_str() {
        "arp" => arp(&mut words)?,
        "nd" => neighbor(&mut words)?,
        "icmp" => echo(&mut words, false)?,
        "icmp6" => echo(&mut words, true)?,
        "udp" | "tcp" => transport(&mut words, kind == "tcp")?,
        other => {
            return Err(ParseError {
                column,
                message: format!("{other:?} is no packet; write {KINDS}"),
            });
        }
    };
    options(&mut words, packet)
}

fn arp(words: &mut Words) -> Result<Packet, ParseError> {
    let (column, first) = words.expect("who-has IP, or IP is-at MAC")?;
    let (kind, dst) = if first == "who-has" {
        (Kind::ArpRequest, words.ipv4("an IPv4 address")?)
    } else {
        let host = read_ip(column, &first, false)?;
        words.keyword("is-at")?;
        let is_at = words.value("a MAC address")?;
        (Kind::ArpReply { is_at }, host)
    };
    let mut packet = Packet::new(kind, dst);
    if words.take("tell") {
        let other = words.ipv4("an IPv4 address")?;
        packet.src = Some(other);
    }
    if let Kind::ArpReply { .. } = kind {
        // The answer is from the host that it is about, to the one that it tells.
        let told = packet.src.unwrap_or_else(|| [0, 0, 0, 0].into());
        (packet.src, packet.dst) = (Some(dst), told);
    }
    Ok(packet)
}

fn neighbor(words: &mut Words) -> Result<Packet, ParseError> {
    words.keyword("who-has")?;
    let mut packet = Packet::new(Kind::NeighborSolicitation, words.ipv6("an IPv6 address")?);
    packet.ttl = 255;
    if words.take("tell") {
        packet.src = Some(words.ipv6("an IPv6 address")?);
    }
    Ok(packet)
}

fn echo(words: &mut Words, is_v6: bool) -> Result<Packet, ParseError> {
    let what = if is_v6 {
        "an IPv6 address"
    } else {
        "an IP address"
    };
    let (column, first) = words.expect(what)?;
    let first = read_ip(column, &first, is_v6)?;
    let kind = Kind::Echo { sequence: 1 };
    if !words.take(">") {
        return Ok(Packet::new(kind, first));
    }
    let (column, second) = words.expect(what)?;
    let dst = read_ip(column, &second, is_v6)?;
    same_family(column, first, dst)?;
    Ok(Packet {
        src: Some(first),
        ..Packet::new(kind, dst)
    })
}

fn transport(words: &mut Words, is_tcp: bool) -> Result<Packet, ParseError> {
    let kind = |from, to| {
        if is_tcp {
            let flags = TcpFlags::default();
            Kind::Tcp { from, to, flags }
        } else {
            Kind::Udp { from, to }
        }
    };
    let (mut column, first) = words.expect("an address and a port")?;
    let mut to = read_endpoint(column, &first)?;
    let mut from = (None, None);
    if words.take(">") {
        from = (Some(to.0), to.1);
        let (at, second) = words.expect("an address and a port")?;
        column = at;
        to = read_endpoint(column, &second)?;
        same_family(column, from.0.unwrap_or(to.0), to.0)?;
    }
    let Some(port) = to.1 else {
        return Err(ParseError {
            column,
            message: "the destination needs a port, such as 10.0.0.1:53 or [fd00::1]:53".to_owned(),
        });
    };
    Ok(Packet {
        src: from.0,
        ..Packet::new(kind(from.1.unwrap_or(FROM_PORT), port), to.0)
    })
}

fn options(words: &mut Words, mut packet: Packet) -> Result<Packet, ParseError> {
    while let Some((column, word)) = words.next() {
        if flag(&word, &mut packet) {
            continue;
        }
        if !matters(&word, &packet) {
            return Err(unknown(column, &word));
        }
        match word.as_str() {
            "df" => packet.df = true,
            "no-df" => packet.df = false,
            "len" => packet.len = Some(words.number(0, 65_535)?),
            "ttl" | "hlim" => packet.ttl = words.number(1, 255)?,
            "tos" | "class" => packet.tos = words.number(0, 255)?,
            "vlan" if packet.vlans.len() < 2 => packet.vlans.push(words.number(0, 4094)?),
            "vlan" => {
                let message = "at most two tags".to_owned();
                return Err(ParseError { column, message });
            }
            "mss" => packet.mss = Some(words.number(1, 65_535)?),
            "src-mac" => packet.src_mac = Some(words.value("a MAC address")?),
            "dst-mac" => packet.dst_mac = Some(words.value("a MAC address")?),
            "seq" => match &mut packet.kind {
                Kind::Echo { sequence } => *sequence = words.number(0, 65_535)?,
                _ => return Err(unknown(column, &word)),
            },
            "csum" => {
                let (column, state) = words.expect("right, unfinished or wrong")?;
                packet.checksum = match state.as_str() {
                    "right" => Checksum::Right,
                    "unfinished" if has_ports(&packet) => Checksum::Unfinished,
                    "unfinished" => {
                        let message = "only udp and tcp leave it to others; write right or wrong";
                        return Err(ParseError {
                            column,
                            message: message.to_owned(),
                        });
                    }
                    "wrong" => Checksum::Wrong,
                    _ => {
                        return Err(ParseError {
                            column,
                            message: format!(
                                "{state:?} is no checksum; write right, unfinished or wrong"
                            ),
                        });
                    }
                };
            }
            _ => return Err(unknown(column, &word)),
        }
    }
    Ok(packet)
}

/// Whether an option can change anything about `packet`.
fn matters(word: &str, packet: &Packet) -> bool {
    let is_arp = matches!(packet.kind, Kind::ArpRequest | Kind::ArpReply { .. });
    match word {
        "ttl" | "hlim" | "tos" | "class" | "csum" => !is_arp,
        "df" | "no-df" => !is_arp && packet.dst.is_ipv4(),
        "len" => !is_arp && packet.kind != Kind::NeighborSolicitation,
        "mss" => has_ports(packet),
        _ => true,
    }
}

fn has_ports(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Udp { .. } | Kind::Tcp { .. })
}

/// Sets a flag of TCP; false if the word is none.
fn flag(word: &str, packet: &mut Packet) -> bool {
    let Kind::Tcp { flags, .. } = &mut packet.kind else {
        return false;
    };
    let flag = match word {
        "syn" => &mut flags.syn,
        "ack" => &mut flags.ack,
        "fin" => &mut flags.fin,
        "rst" => &mut flags.rst,
        "psh" => &mut flags.psh,
        _ => return false,
    };
    *flag = true;
    true
}

fn unknown(column: usize, word: &str) -> ParseError {
    ParseError {
        column,
        message: format!("{word:?} does not belong here; options are {OPTIONS}"),
    }
}

fn same_family(column: usize, src: IpAddr, dst: IpAddr) -> Result<(), ParseError> {
    if src.is_ipv4() == dst.is_ipv4() {
        return Ok(());
    }
    Err(ParseError {
        column,
        message: format!("{src} and {dst} are of different families"),
    })
}

fn read_ip(column: usize, text: &str, is_v6: bool) -> Result<IpAddr, ParseError> {
    let family = if is_v6 { "IPv6" } else { "IP" };
    match text.parse::<IpAddr>() {
        Ok(ip) if !is_v6 || ip.is_ipv6() => Ok(ip),
        _ => Err(ParseError {
            column,
            message: format!("{text:?} is no {family} address"),
        }),
    }
}

/// `10.0.0.1:53`, `[fd00::1]:53`, or without the port.
fn read_endpoint(column: usize, text: &str) -> Result<(IpAddr, Option<u16>), ParseError> {
    if let Ok(ip) = IpAddr::from_str(text) {
        return Ok((ip, None));
    }
    let refused = || ParseError {
        column,
        message: format!("{text:?} is no address with a port; write 10.0.0.1:53 or [fd00::1]:53"),
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let ip = match bare {
        Some(host) => host.parse::<Ipv6Addr>().map(IpAddr::from).ok(),
        None => host.parse::<IpAddr>().ok().filter(IpAddr::is_ipv4),
    };
    let ip = ip.ok_or_else(refused)?;
    Ok((ip, Some(port.parse().map_err(|_| refused())?)))
}

/// The words that are left, each with its column.
struct Words {
    words: std::vec::IntoIter<(usize, String)>,
    end: usize,
}

impl Words {
    fn of(text: &str) -> Self {
        let mut words: Vec<(usize, String)> = Vec::new();
        let mut is_open = false;
        let mut end = 1;
        for (column, character) in (1..).zip(text.chars()) {
            end = column + 1;
            if character.is_whitespace() || character == ',' {
                is_open = false;
            } else if character == '>' {
                words.push((column, ">".to_owned()));
                is_open = false;
            } else if let Some((_, word)) = words.last_mut().filter(|_| is_open) {
                word.push(character);
            } else {
                words.push((column, character.to_string()));
                is_open = true;
            }
        }
        let words = words.into_iter();
        Self { words, end }
    }

    fn next(&mut self) -> Option<(usize, String)> {
        self.words.next()
    }

    fn expect(&mut self, what: &str) -> Result<(usize, String), ParseError> {
        self.next().ok_or_else(|| ParseError {
            column: self.end,
            message: format!("it ends here, where {what} should be"),
        })
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, wanted: &str) -> bool {
        let is_it = self
            .words
            .as_slice()
            .first()
            .is_some_and(|(_, word)| word == wanted);
        if is_it {
            self.words.next();
        }
        is_it
    }

    fn keyword(&mut self, wanted: &str) -> Result<(), ParseError> {
        let (column, word) = self.expect(wanted)?;
        if word == wanted {
            return Ok(());
        }
        Err(ParseError {
            column,
            message: format!("{word:?} is not {wanted}"),
        })
    }

    fn value<T: FromStr>(&mut self, what: &str) -> Result<T, ParseError> {
        let (column, word) = self.expect(what)?;
        word.parse().map_err(|_| ParseError {
            column,
            message: format!("{word:?} is not {what}"),
        })
    }

    fn ipv4(&mut self, what: &str) -> Result<IpAddr, ParseError> {
        self.value::<std::net::Ipv4Addr>(what).map(IpAddr::from)
    }

    fn ipv6(&mut self, what: &str) -> Result<IpAddr, ParseError> {
        self.value::<Ipv6Addr>(what).map(IpAddr::from)
    }

    fn number<T: TryFrom<u32>>(&mut self, least: u32, most: u32) -> Result<T, ParseError> {
        let what = format!("a number from {least} to {most}");
        let (column, word) = self.expect(&what)?;
        let digits = word.strip_prefix("0x");
        let number = match digits {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => word.parse(),
        };
        let fits = number
            .ok()
            .filter(|number| (least..=most).contains(number))
            .and_then(|number| T::try_from(number).ok());
        fits.ok_or_else(|| ParseError {
            column,
            message: format!("{word:?} is not {what}"),
        })
    }
}

/// Where datagrams and segments come from, if nobody says.
const FROM_PORT: u16 = 50_000;
const KINDS: &str = "arp who-has IP, arp IP is-at MAC, nd who-has IP, icmp [SRC >] DST, \
                     icmp6 [SRC >] DST, udp [SRC[:PORT] >] DST:PORT or tcp [SRC[:PORT] >] DST:PORT";
const OPTIONS: &str = "src-mac MAC, dst-mac MAC, vlan N; of IP ttl N, tos N, csum right|wrong; of IPv4 \
                       df, no-df; of icmp len N, seq N; of udp and tcp len N, mss N, csum \
                       unfinished; of tcp syn, ack, fin, rst, psh";
