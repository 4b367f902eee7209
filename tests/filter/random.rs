//! Random numbers and random filters.

/// A small generator (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A filter that both understand, of at most 2 to the power of `depth` primitives.
pub(crate) fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.below(4) == 0 {
        return primitive(random);
    }
    match random.below(8) {
        0 => format!("not {}", inside(random, depth)),
        1 | 2 => format!("{} or {}", inside(random, depth), inside(random, depth)),
        3 => format!("{} || {}", inside(random, depth), inside(random, depth)),
        _ => format!("{} and {}", inside(random, depth), inside(random, depth)),
    }
}

fn inside(random: &mut Random, depth: usize) -> String {
    let inner = expression(random, depth - 1);
    if random.below(3) == 0 {
        format!("({inner})")
    } else {
        inner
    }
}

fn primitive(random: &mut Random) -> String {
    let dir = *random.pick(&["", "", "src ", "dst ", "src or dst ", "src and dst "]);
    let host = random.below(5);
    match random.below(18) {
        0 => format!("{dir}host 192.0.2.{host}"),
        1 => {
            let proto = random.pick(&["ip ", "arp "]);
            format!("{proto}{dir}host 192.0.2.{host}")
        }
        2 => {
            let net = random.pick(&[
                "192.0.2.0/24",
                "192.0.2.0/30",
                "192.0.2",
                "192",
                "192.0.2.2/31",
            ]);
            format!("{dir}net {net}")
        }
        3 => format!("{dir}host 2001:db8::{host}"),
        4 => format!("ip6 {dir}net 2001:db8::/{}", random.pick(&[32, 64, 96])),
        5 => {
            let proto = random.pick(&["", "tcp ", "udp "]);
            format!("{proto}{dir}port {}", random.pick(&[1000, 2000, 53, 4789]))
        }
        6 => {
            let proto = random.pick(&["", "tcp ", "udp "]);
            format!("{proto}{dir}portrange 50-{}", 900 + random.below(300))
        }
        7 => {
            let dir = random.pick(&["src", "dst", "host"]);
            format!("ether {dir} 02:00:00:00:00:0{host}")
        }
        8 | 9 => {
            let words = [
                "arp", "rarp", "ip", "ip6", "icmp", "icmp6", "tcp", "udp", "sctp", "igmp", "esp",
            ];
            (*random.pick(&words)).to_owned()
        }
        10 => {
            let words = ["broadcast", "multicast", "ip multicast", "ip6 multicast"];
            (*random.pick(&words)).to_owned()
        }
        11 => (*random.pick(&["vlan", "vlan 10", "vlan 20"])).to_owned(),
        12 => {
            let word = random.pick(&["less", "greater"]);
            format!("{word} {}", random.below(120))
        }
        13 => {
            let from = random.pick(&["ether", "ip", "ip6", "", "ip"]);
            match *from {
                "ether" => format!(
                    "ether proto {}",
                    random.pick(&["0x0800", "0x86dd", "0x0806"])
                ),
                from => format!("{from} proto {}", random.pick(&[1, 6, 17, 58])),
            }
        }
        _ => comparison(random),
    }
}

fn comparison(random: &mut Random) -> String {
    let sign = random.pick(&["=", "!=", ">", "<", ">=", "<="]);
    let load = |random: &mut Random| {
        let header = random.pick(&["ether", "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6"]);
        let size = random.pick(&["", ":2", ":4"]);
        format!("{header}[{}{size}]", random.below(20))
    };
    let left = match random.below(5) {
        0 => "len".to_owned(),
        1 => format!("{} & {}", load(random), random.below(256)),
        2 => format!("({} + {}) * 2", load(random), random.below(9)),
        3 => format!("{} >> {}", load(random), random.below(9)),
        _ => load(random),
    };
    let right = match random.below(3) {
        0 => load(random),
        _ => random.below(300).to_string(),
    };
    format!("{left} {sign} {right}")
}
