//! Rules of nftables that drop packets, also those that `iptables` wrote as its newer self
//! (`iptables-nft`). Read with the dumps of `NFT_MSG_GETCHAIN` and `NFT_MSG_GETRULE`
//! (`include/uapi/linux/netfilter/nf_tables.h`), which change nothing.

use std::{collections::HashMap, fs, io, os::fd::AsRawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// What filters packets in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netfilter {
    /// How many rules there are.
    pub rules: usize,
    /// What may drop.
    pub drops: Vec<Dropping>,
    /// Tables of the old `iptables`, whose rules cannot be seen here.
    pub legacy: Vec<String>,
}

/// A rule, or the policy of a chain, that drops or rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropping {
    /// `ip`, `ip6`, `inet`, `arp`, `bridge` or `netdev`.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Where packets meet the chain; `None`: another chain sends them there.
    pub hook: Option<Hook>,
    /// The number of the rule in its chain, from 1; `None`: it is the policy.
    pub number: Option<usize>,
    /// The rule's handle, which `nft delete rule` wants.
    pub handle: u64,
    /// It is for some packets only.
    pub is_conditional: bool,
    /// 16-bit numbers that are compared with something in the packet: ports, mostly.
    pub numbers: Vec<u16>,
    /// Packets that met it, if somebody counts them.
    pub packets: Option<u64>,
}

/// Where packets meet a chain (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// All that come in.
    Prerouting,
    /// For the host itself.
    Input,
    /// Through the host.
    Forward,
    /// From the host itself.
    Output,
    /// All that go out.
    Postrouting,
}

/// What there is in the namespace of the calling thread. Nothing, if nobody may ask.
pub(super) fn read() -> Netfilter {
    let mut legacy = Vec::new();
    for file in ["ip_tables_names", "ip6_tables_names"] {
        let names = fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        legacy.extend(names.unwrap_or_default().lines().map(str::to_owned));
    }
    legacy.sort();
    legacy.dedup();
    let chains: Vec<Chain> = dump(GET_CHAIN)
        .unwrap_or_default()
        .iter()
        .filter_map(|message| Chain::parse(message))
        .collect();
    let rules = match chains.as_slice() {
        [] => Vec::new(),
        _ => dump(GET_RULE).unwrap_or_default(),
    };
    Netfilter {
        rules: rules.len(),
        drops: drops(&chains, &rules),
        legacy,
    }
}

/// What drops, of these chains and of their rules, as the kernel lists them: rule after rule, chain
/// after chain, table after table.
fn drops(chains: &[Chain], rules: &[Vec<u8>]) -> Vec<Dropping> {
    let mut drops = Vec::new();
    for chain in chains.iter().filter(|chain| chain.drops) {
        drops.push(Dropping {
            family: chain.family,
            table: chain.table.clone(),
            chain: chain.name.clone(),
            hook: chain.hook,
            number: None,
            handle: 0,
            is_conditional: false,
            numbers: Vec::new(),
            packets: chain.packets,
        });
    }
    let hooks = chains.iter().map(|chain| (chain.key(), chain.hook));
    let hooks: HashMap<Key<'_>, Option<Hook>> = hooks.collect();
    let (mut last, mut number) = (None, 0);
    for rule in rules.iter().filter_map(|message| parse_rule(message)) {
        let mut place = rule.place;
        let key = (place.family, place.table.clone(), place.chain.clone());
        if last.as_ref() != Some(&key) {
            (last, number) = (Some(key), 0);
        }
        number += 1;
        if rule.drops {
            place.number = Some(number);
            let key = (place.family, &*place.table, &*place.chain);
            place.hook = hooks.get(&key).copied().flatten();
            drops.push(place);
        }
    }
    drops
}

/// The family, table and name of a chain: two families may have a table of one name.
type Key<'a> = (&'static str, &'a str, &'a str);

struct Chain {
    family: &'static str,
    table: String,
    name: String,
    hook: Option<Hook>,
    drops: bool,
    packets: Option<u64>,
}

impl Chain {
    fn key(&self) -> Key<'_> {
        (self.family, &self.table, &self.name)
    }

    fn parse(message: &[u8]) -> Option<Self> {
        let (family, body) = head(message)?;
        let hook = find(body, CHAIN_HOOK).and_then(|hook| be32(find(hook, HOOK_NUMBER)?));
        let hook = match hook {
            Some(0) => Some(Hook::Prerouting),
            Some(1) => Some(Hook::Input),
            Some(2) => Some(Hook::Forward),
            Some(3) => Some(Hook::Output),
            Some(4) => Some(Hook::Postrouting),
            _ => None,
        };
        let packets = find(body, CHAIN_COUNTERS).and_then(|c| be64(find(c, COUNTER_PACKETS)?));
        Some(Self {
            family,
            table: text(find(body, CHAIN_TABLE)?),
            name: text(find(body, CHAIN_NAME)?),
            hook,
            drops: find(body, CHAIN_POLICY).and_then(be32) == Some(DROP),
            packets,
        })
    }
}

struct Rule {
    place: Dropping,
    drops: bool,
}

fn parse_rule(message: &[u8]) -> Option<Rule> {
    let (family, body) = head(message)?;
    let mut rule = Rule {
        place: Dropping {
            family,
            table: text(find(body, RULE_TABLE)?),
            chain: text(find(body, RULE_CHAIN)?),
            hook: None,
            number: None,
            handle: find(body, RULE_HANDLE).and_then(be64).unwrap_or(0),
            is_conditional: false,
            numbers: Vec::new(),
            packets: None,
        },
        drops: false,
    };
    for (_, expression) in attributes(find(body, RULE_EXPRESSIONS).unwrap_or_default()) {
        let name = find(expression, EXPRESSION_NAME)
            .map(text)
            .unwrap_or_default();
        let data = find(expression, EXPRESSION_DATA).unwrap_or_default();
        match name.as_str() {
            "counter" => rule.place.packets = find(data, COUNTER_PACKETS).and_then(be64),
            "immediate" => {
                let verdict = find(data, IMMEDIATE_DATA)
                    .and_then(|data| find(data, DATA_VERDICT))
                    .and_then(|verdict| be32(find(verdict, VERDICT_CODE)?));
                rule.drops |= verdict == Some(DROP);
            }
            "reject" => rule.drops = true,
            "target" => {
                let target = find(data, EXTENSION_NAME).map(text).unwrap_or_default();
                rule.drops |= matches!(target.as_str(), "REJECT" | "DROP");
            }
            "log" | "notrack" => {}
            other => {
                rule.place.is_conditional = true;
                if other == "cmp"
                    && let Some(value) = find(data, CMP_DATA).and_then(|d| find(d, DATA_VALUE))
                    && let Ok(number) = <[u8; 2]>::try_from(value)
                {
                    rule.place.numbers.push(u16::from_be_bytes(number));
                }
                if other == "match" {
                    // `struct xt_udp` begins with the ranges of ports, in the machine's order.
                    let info = find(data, EXTENSION_INFO).unwrap_or_default();
                    let words = info.chunks_exact(2).take(4);
                    let words = words.filter_map(|word| word.try_into().ok());
                    rule.place.numbers.extend(words.map(u16::from_ne_bytes));
                }
            }
        }
    }
    Some(rule)
}

/// All messages that answer a dump.
fn dump(kind: u16) -> io::Result<Vec<Vec<u8>>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 200_000))?;
    let mut request = Vec::new();
    request.extend_from_slice(&20u32.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    request.extend_from_slice(&u16::try_from(flags).unwrap_or(0).to_ne_bytes());
    // Sequence, port; then `struct nfgenmsg`: any family, version 0.
    request.extend_from_slice(&[0; 12]);
    let fd = socket.as_raw_fd();
    sendto(fd, &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answers = Vec::new();
    let mut buf = vec![0; 64 * 1024];
    loop {
        let len = recv(fd, &mut buf, MsgFlags::empty())?;
        let mut rest = buf.get(..len).unwrap_or_default();
        while let Some((kind, message, next)) = split(rest) {
            match kind {
                DONE | ERROR => return Ok(answers),
                _ if answers.len() >= MOST_MESSAGES => return Ok(answers),
                _ => answers.push(message.to_vec()),
            }
            rest = next;
        }
        if len == 0 {
            return Ok(answers);
        }
    }
}

/// Takes one netlink message off: its type, its body, and what follows.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(16..len)?;
    let next = len.next_multiple_of(4).min(bytes.len());
    Some((kind, body, bytes.get(next..)?))
}

/// `struct nfgenmsg`, and the attributes behind it.
fn head(message: &[u8]) -> Option<(&'static str, &[u8])> {
    let family = match message.first()? {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => return None,
    };
    Some((family, message.get(4..)?))
}

/// `struct nlattr`: type and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & KIND;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// `NFNL_SUBSYS_NFTABLES << 8`, with `NFT_MSG_GETCHAIN` and `NFT_MSG_GETRULE`.
const GET_CHAIN: u16 = 10 << 8 | 4;
const GET_RULE: u16 = 10 << 8 | 7;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const KIND: u16 = 0x3fff;
/// `NF_DROP`.
const DROP: u32 = 0;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_COUNTERS: u16 = 8;
const HOOK_NUMBER: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const COUNTER_PACKETS: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const CMP_DATA: u16 = 3;
const EXTENSION_NAME: u16 = 1;
const EXTENSION_INFO: u16 = 3;
/// Rules and chains that are looked at; a host may have very many.
const MOST_MESSAGES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn named(kind: u16, text: &str) -> Vec<u8> {
        attribute(kind, format!("{text}\0").as_bytes())
    }

    /// A chain that a hook calls, of the family with this number.
    fn chain(family: u8, table: &str, name: &str, hook: u32) -> Vec<u8> {
        let hook = attribute(HOOK_NUMBER, &hook.to_be_bytes());
        let mut message = vec![family, 0, 0, 0];
        message.extend(named(CHAIN_TABLE, table));
        message.extend(named(CHAIN_NAME, name));
        message.extend(attribute(CHAIN_HOOK, &hook));
        message
    }

    /// A rule that drops everything, or that only counts.
    fn rule(family: u8, table: &str, chain: &str, drops: bool) -> Vec<u8> {
        let expression = if drops {
            let code = attribute(VERDICT_CODE, &DROP.to_be_bytes());
            let data = attribute(IMMEDIATE_DATA, &attribute(DATA_VERDICT, &code));
            let data = attribute(EXPRESSION_DATA, &data);
            [named(EXPRESSION_NAME, "immediate"), data].concat()
        } else {
            named(EXPRESSION_NAME, "counter")
        };
        let mut message = vec![family, 0, 0, 0];
        message.extend(named(RULE_TABLE, table));
        message.extend(named(RULE_CHAIN, chain));
        message.extend(attribute(RULE_EXPRESSIONS, &attribute(1, &expression)));
        message
    }

    #[test]
    fn rules_are_numbered_within_their_chain_and_family() {
        const V4: u8 = 2;
        const V6: u8 = 10;
        let chains = [
            chain(V4, "filter", "INPUT", 1),
            chain(V6, "filter", "INPUT", 1),
            chain(V6, "filter", "OUTPUT", 3),
        ];
        let chains = chains.map(|message| Chain::parse(&message).unwrap());
        let rules = [
            rule(V4, "filter", "INPUT", false),
            rule(V4, "filter", "INPUT", true),
            rule(V6, "filter", "INPUT", true),
            rule(V6, "filter", "OUTPUT", false),
            rule(V6, "filter", "OUTPUT", true),
        ];
        let found = drops(&chains, &rules);
        let found: Vec<_> = found
            .iter()
            .map(|drop| (drop.family, &*drop.chain, drop.number, drop.hook))
            .collect();
        let wanted = [
            ("ip", "INPUT", Some(2), Some(Hook::Input)),
            ("ip6", "INPUT", Some(1), Some(Hook::Input)),
            ("ip6", "OUTPUT", Some(2), Some(Hook::Output)),
        ];
        assert_eq!(found, wanted);
    }
}
