//! Frames as a sequence diagram, in the language of mermaid.
//!
//! Each node is a box with its ports and its switch. A frame is an arrow from the port where it came
//! in to the switch, and one to each place that it left for: a dotted one if it was flooded, one with
//! a cross if it was dropped. What goes from node to node is an arrow between their switches.

use std::{
    collections::HashMap,
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    Lang, narrate,
    watch::{BY_HUB, BY_WIRE, Datagram, Fate, REWRITTEN, SWITCH, Seen},
    words,
};
use crate::control::api::RowChange;

/// A `sequenceDiagram` of `seen`, in their order, with the nodes in the order of `nodes`.
pub fn sequence(nodes: &[String], seen: &[&Seen], lang: Lang) -> String {
    let mut diagram = Diagram {
        lang,
        nodes: nodes.iter().map(|name| Node::new(name)).collect(),
        strangers: Vec::new(),
        homes: homes(seen),
        body: String::new(),
        under_way: Vec::new(),
    };
    let (shown, left) = seen.split_at(seen.len().min(MOST));
    for frame in shown {
        diagram.frame(frame);
    }
    if !left.is_empty() {
        let count = left.len();
        let text = match lang {
            Lang::En => format!("and {count} more frames"),
            Lang::Zh => format!("另有 {count} 个帧"),
        };
        let switch = diagram.switch(&left[0].node);
        diagram.note(&switch, &text);
    }
    diagram.end()
}

struct Diagram {
    lang: Lang,
    nodes: Vec<Node>,
    /// Remote VTEPs that are no nodes.
    strangers: Vec<String>,
    /// Which node has an address of the underlay.
    homes: HashMap<IpAddr, String>,
    body: String,
    /// What is on its way to which node.
    under_way: Vec<(String, String)>,
}

struct Node {
    name: String,
    /// Ports, in the order in which they were first seen.
    ports: Vec<String>,
}

impl Node {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ports: Vec::new(),
        }
    }
}

impl Diagram {
    fn frame(&mut self, seen: &Seen) {
        let switch = self.switch(&seen.node);
        let text = escaped(&seen.text);
        let arrow = match seen.fate {
            Fate::Dropped if seen.copies.is_empty() => "-x",
            _ => "->>",
        };
        // What left another node for this one has its arrow already.
        let is_it = |(node, what): &(String, String)| *node == seen.node && *what == text;
        let under_way = self.under_way.iter().position(is_it);
        let is_drawn = under_way
            .map(|index| self.under_way.remove(index))
            .is_some();
        if seen.place != SWITCH && !is_drawn {
            let place = self.place(&seen.node, &seen.place);
            let _ = writeln!(self.body, "    {place}{arrow}{switch}: {text}");
        }
        if let Some(learned) = &seen.learned
            && matches!(learned.change, RowChange::New | RowChange::Moved)
        {
            let (mac, at) = (learned.mac, narrate::place(&seen.place, self.lang));
            let note = match self.lang {
                Lang::En => format!("learned: {mac} is at {at}"),
                Lang::Zh => format!("学到：{mac} 在 {at}"),
            };
            self.note(&switch, &note);
        }
        if seen.fate == Fate::Dropped {
            let reason = seen.reason.as_deref();
            let note = match self.lang {
                Lang::En => reason.map_or_else(
                    || "not seen leaving".to_owned(),
                    |reason| format!("dropped: {reason}"),
                ),
                Lang::Zh => match reason {
                    Some(reason) => format!("丢弃（{reason}）：{}", words::zh::explain(reason)),
                    None => "没有看到它离开".to_owned(),
                },
            };
            self.note(&switch, &note);
        }
        if seen.fate == Fate::Consumed && seen.class.as_deref() == Some(REWRITTEN) {
            let note = match self.lang {
                Lang::En => REWRITTEN,
                Lang::Zh => "被 IP 层接走，换了地址",
            };
            self.note(&switch, note);
        }
        if seen.fate == Fate::Flooded {
            let class = seen.class.as_deref().unwrap_or("flooded");
            let note = match (self.lang, class) {
                (Lang::En, BY_HUB | BY_WIRE) => class.to_owned(),
                (Lang::Zh, BY_HUB) => "集线器：发往其他所有端口".to_owned(),
                (Lang::Zh, BY_WIRE) => "直连线：从另一头出去".to_owned(),
                (Lang::En, _) => format!("flooded: {class}"),
                (Lang::Zh, _) => format!("泛洪：{}", class_in_words(class)),
            };
            self.note(&switch, &note);
        }
        self.copies(seen, &switch, &text);
    }

    fn copies(&mut self, seen: &Seen, switch: &str, text: &str) {
        let mut done: Vec<&str> = Vec::new();
        for copy in &seen.copies {
            if done.contains(&copy.to.as_str()) {
                continue;
            }
            done.push(&copy.to);
            let to = self.place(&seen.node, &copy.to);
            let arrow = match (&copy.lost, seen.fate) {
                (Some(_), _) => "-x",
                (None, Fate::Flooded) => "-->>",
                _ => "->>",
            };
            let label = match &copy.datagram {
                Some(Datagram { vni, len, .. }) => match self.lang {
                    Lang::En => format!("VXLAN {vni}, {len} bytes: {text}"),
                    Lang::Zh => format!("VXLAN {vni}，{len} 字节：{text}"),
                },
                None => text.to_owned(),
            };
            let _ = writeln!(self.body, "    {switch}{arrow}{to}: {label}");
            if let (Some(home), None) = (self.home(&copy.to), &copy.lost) {
                self.under_way.push((home, text.to_owned()));
            }
        }
    }

    fn note(&mut self, over: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(self.body, "    Note over {over}: {text}");
    }

    /// The participant of a place, which is added if it is new.
    fn place(&mut self, node: &str, place: &str) -> String {
        if place == SWITCH {
            return self.switch(node);
        }
        if let Some(home) = self.home(place) {
            return self.switch(&home);
        }
        if place.parse::<IpAddr>().is_ok() || place == super::watch::VTEP {
            let index = position(&mut self.strangers, place);
            return format!("v{index}");
        }
        let number = self.node(node);
        let ports = self.nodes.get_mut(number).map(|node| &mut node.ports);
        let index = ports.map_or(0, |ports| position(ports, place));
        format!("n{number}p{index}")
    }

    fn home(&self, place: &str) -> Option<String> {
        let ip = place.parse().ok()?;
        self.homes.get(&ip).cloned()
    }

    fn switch(&mut self, node: &str) -> String {
        format!("n{}", self.node(node))
    }

    fn node(&mut self, name: &str) -> usize {
        let known = self.nodes.iter().position(|node| node.name == name);
        known.unwrap_or_else(|| {
            self.nodes.push(Node::new(name));
            self.nodes.len() - 1
        })
    }

    fn end(self) -> String {
        let mut text = String::from("sequenceDiagram\n");
        let has_boxes = self.nodes.len() > 1;
        for (number, node) in self.nodes.iter().enumerate() {
            let name = escaped(&node.name);
            if has_boxes {
                // A colour first: else a name such as red would be one.
                let _ = writeln!(text, "    box transparent {name}");
            }
            // Between its ports, so that arrows go to both sides.
            let (left, right) = node.ports.split_at(node.ports.len().div_ceil(2));
            let port = |index: usize, port: &String| {
                let port = escaped(port);
                format!("    participant n{number}p{index} as {port}\n")
            };
            left.iter()
                .enumerate()
                .for_each(|(index, name)| text += &port(index, name));
            let _ = writeln!(text, "    participant n{number} as {name}");
            for (index, name) in right.iter().enumerate() {
                text += &port(left.len() + index, name);
            }
            if has_boxes {
                text += "    end\n";
            }
        }
        for (index, place) in self.strangers.iter().enumerate() {
            let place = escaped(&narrate::place(place, self.lang));
            let _ = writeln!(text, "    participant v{index} as {place}");
        }
        text + &self.body
    }
}

/// The place of `name` in `names`, to which it is added if need be.
fn position(names: &mut Vec<String>, name: &str) -> usize {
    let known = names.iter().position(|known| known == name);
    known.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

/// Whose addresses those of the datagrams are: a sender's where one leaves, a receiver's where one
/// comes in.
fn homes(seen: &[&Seen]) -> HashMap<IpAddr, String> {
    let mut homes = HashMap::new();
    for frame in seen {
        let came = frame
            .datagram
            .iter()
            .filter_map(|datagram| Some(ends(datagram)?.1));
        let left = frame
            .copies
            .iter()
            .filter_map(|copy| copy.datagram.as_ref());
        let left = left.filter_map(|datagram| Some(ends(datagram)?.0));
        for ip in came.chain(left) {
            homes.insert(ip, frame.node.clone());
        }
    }
    homes
}

/// The outer IP addresses: from, to.
fn ends(datagram: &Datagram) -> Option<(IpAddr, IpAddr)> {
    let packet = datagram.bytes.get(14..)?;
    if datagram.bytes.get(12) == Some(&0x86) {
        let ip = |at: usize| {
            let octets: [u8; 16] = *packet.get(at..)?.first_chunk()?;
            Some(IpAddr::from(Ipv6Addr::from(octets)))
        };
        return Some((ip(8)?, ip(24)?));
    }
    let ip = |at: usize| {
        let octets: [u8; 4] = *packet.get(at..)?.first_chunk()?;
        Some(IpAddr::from(Ipv4Addr::from(octets)))
    };
    Some((ip(12)?, ip(16)?))
}

fn class_in_words(class: &str) -> &str {
    match class {
        "broadcast" => "广播",
        "multicast" => "组播",
        "unknown unicast" => "目的地未知",
        other => other,
    }
}

/// Text that means nothing to mermaid: what could be its syntax is a character entity.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for char in text.chars() {
        match char {
            _ if char.is_control() => {}
            '#' | ';' | '%' | '<' | '"' | '`' | '\\' | '{' | '}' | '$' => {
                let _ = write!(out, "#{};", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    let out = out.trim();
    match out {
        // Nothing at all is no name, and the word ends a block.
        "" => "#32;".to_owned(),
        _ if out.eq_ignore_ascii_case("end") => format!("{}#{};", &out[..2], u32::from(b'd')),
        _ => out.to_owned(),
    }
}

/// Frames in a diagram: more are none to look at.
const MOST: usize = 60;

#[cfg(test)]
mod tests;
